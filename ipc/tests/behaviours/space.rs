//! Memory: all of it is there from the start, or the ring is not.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ipc::{Cause, Directory, Segment, SegmentError};
use annulus_ring::Ring;
use rustix::fs::statvfs;

use crate::place::Place;
use crate::roles::{Player, Role, hear, say};
use crate::{deadline, system, until};

pub(crate) const ROLES: &[Role] = &[
    ("locker", lock_memory),
    ("locker without a limit left", fail_to_lock_memory),
    ("spender", spend),
];

#[test]
fn all_of_a_ring_is_allocated_before_anybody_sees_it() {
    let place = Place::new();
    for capacity in [8, 1 << 10, 1 << 16] {
        let ring = place.create::<u64>(&format!("ring-{capacity}"), capacity);
        let stat = fs::metadata(ring.path().expect("it has a name")).expect("it is there");
        assert!(stat.len() >= capacity as u64 * 16);
        assert!(
            stat.blocks() * 512 >= stat.len(),
            "{} of {}",
            stat.blocks() * 512,
            stat.len()
        );

        let ring = Segment::<u64>::anonymous(capacity).expect("there is memory");
        let file = ring.as_fd().and_then(|fd| fd.try_clone_to_owned());
        let stat = File::from(file.expect("it is ours"))
            .metadata()
            .expect("it is open");
        assert!(
            stat.blocks() * 512 >= stat.len(),
            "{} of {}",
            stat.blocks() * 512,
            stat.len()
        );
    }
}

#[test]
fn d7_a_ring_larger_than_the_file_system_is_no_space_and_leaves_nothing() {
    let place = Place::new();
    drop(place.create::<u64>("first", 8));
    let system = statvfs(place.directory().as_path()).expect("it is there");
    let bytes = system.f_blocks * system.f_frsize;
    if bytes == 0 || bytes > 1 << 50 {
        return system::skip(
            "d7_a_ring_larger_than_the_file_system",
            "/dev/shm has no limit",
        );
    }
    // A file larger than the file system is refused before anything is allocated.
    let capacity = (bytes / 8).next_power_of_two() as usize;
    let builder = Segment::builder(capacity).directory(place.directory().clone());
    let error = builder
        .create::<u64>("second")
        .expect_err("it does not fit");
    let Cause::NoSpace { needed } = error.cause else {
        panic!("{error}");
    };
    assert!(needed > bytes);
    let text = error.to_string();
    assert!(
        text.contains(&format!("it takes {needed} bytes of shared memory")),
        "{text}"
    );
    assert_eq!(place.directory().names().expect("it is there"), ["first"]);
}

#[test]
fn d24_events_for_which_a_stack_has_no_room_are_created_published_read_and_observed_in_place() {
    const SIZE: usize = 4 << 20;
    let run = || {
        let place = Place::new();
        let builder = Segment::builder(Ring::builder(2).observable());
        let builder = builder.directory(place.directory().clone());
        let named = builder
            .create::<[u8; SIZE]>("frames")
            .expect("there is memory");
        let view = place
            .directory()
            .view::<[u8; SIZE]>("frames")
            .expect("it is there");
        let opened = place.open::<[u8; SIZE]>("frames");
        let nameless = builder.anonymous::<[u8; SIZE]>().expect("there is memory");
        for ring in [opened, nameless] {
            let mut book = ring.consumer("book").join().expect("it joins");
            let mut feed = ring.producer().expect("it joins");
            feed.publish(|frame| frame[SIZE - 1] = 7)
                .expect("there is room");
            let batch = book.try_next_batch().expect("an event");
            assert_eq!([batch[0][0], batch[0][SIZE - 1]], [0, 7]);
        }
        let mut tap = view.observer().expect("it is observable");
        named
            .producer()
            .expect("it joins")
            .publish(|frame| frame.fill(8))
            .expect("nobody gates");
        let frame = vec![0; SIZE].into_boxed_slice();
        let mut frame: Box<[u8; SIZE]> = frame.try_into().expect("it is as long");
        while tap
            .next_into_deadline(&mut frame, deadline())
            .expect("an event")
            == 0
        {}
        assert!(frame.iter().all(|byte| *byte == 8));
    };
    let thread = thread::Builder::new().stack_size(SIZE / 4).spawn(run);
    thread.expect("a thread").join().expect("no panic");
}

/// A small file system, which is unmounted with this value.
struct Mounted(Place);

impl Mounted {
    fn new(test: &str, size: &str) -> Option<Self> {
        if !system::is_root_for(test) {
            return None;
        }
        let place = Place::new();
        fs::create_dir(place.directory().as_path()).expect("it is ours");
        let options = format!("size={size},mode=1777");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "none", place.path()]);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(place)),
            output => {
                system::skip(test, &format!("nothing can be mounted: {output:?}"));
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .output();
    }
}

#[test]
fn d7_on_a_full_file_system_no_half_ring_is_left_and_a_smaller_one_fits() {
    let test = "d7_on_a_full_file_system";
    let Some(mounted) = Mounted::new(test, "256k") else {
        return;
    };
    let directory: &Directory = mounted.0.directory();
    let free = || statvfs(directory.as_path()).expect("it is there").f_bfree;
    // Another test may be starting a process at the moment, which has copies of all descriptors for so long.
    let until_free = |blocks| until("nothing is left", || free() == blocks);
    let ring = |capacity: usize| Segment::builder(capacity).directory(directory.clone());
    let before = free();
    // Larger than all of it, and than what is left of it.
    for (capacity, others) in [(1 << 15, 0), (1 << 13, 1 << 13)] {
        let _other = (others > 0).then(|| ring(others).create::<u64>("other").expect("it fits"));
        let left = free();
        for _ in 0..3 {
            let error = ring(capacity)
                .create::<u64>("ring")
                .expect_err("it does not fit");
            assert!(matches!(error.cause, Cause::NoSpace { .. }), "{error}");
            until_free(left);
            let error = ring(capacity)
                .open_or_create::<u64>("ring")
                .expect_err("as before");
            assert!(matches!(error.cause, Cause::NoSpace { .. }), "{error}");
        }
        let names = directory.names().expect("it is there");
        assert!(!names.contains(&"ring".to_owned()), "{names:?}");
    }
    directory.unlink("other").expect("it is there");
    until_free(before);
    let ring = ring(1 << 10).create::<u64>("ring").expect("it fits");
    ring.producer()
        .expect("it joins")
        .publish_value(7)
        .expect("nobody gates");
}

/// A memory cgroup with a limit, which is removed with this value.
struct Group(PathBuf);

impl Group {
    fn new(test: &str, limit: u64) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = |start: &str| {
            let mut found = groups.lines().filter_map(|line| line.split_once(start));
            found.next().map(|(_, path)| path.to_owned())
        };
        let name = format!("annulus-test-{}", process::id());
        let first = own(":memory:/").map(|own| {
            (
                Path::new("/sys/fs/cgroup/memory").join(own),
                "limit_in_bytes",
            )
        });
        let second = own("0::/").map(|own| (Path::new("/sys/fs/cgroup").join(own), "max"));
        for (parent, file) in [first, second].into_iter().flatten() {
            let path = parent.join(&name);
            if fs::create_dir(&path).is_ok() {
                let group = Self(path);
                let file = File::options()
                    .write(true)
                    .open(group.0.join(format!("memory.{file}")));
                if file.is_ok_and(|mut file| file.write_all(limit.to_string().as_bytes()).is_ok()) {
                    return Some(group);
                }
            }
        }
        system::skip(test, "it takes the right to make a memory cgroup");
        None
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The system takes its time to forget who was in it.
        let deadline = deadline();
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn d23_a_ring_for_which_there_is_no_memory_is_refused_before_any_is_taken() {
    let place = Place::new();
    let group = Group::new("d23_a_ring_for_which_there_is_no_memory", 64 << 20);
    let mut spender = Player::start("spender", &[place.path()]);
    // By what the system has. The file may not become so large, for the case that it is not refused.
    let said = spender.ask("limited");
    assert_eq!(said, "refused by the system (MemAvailable)");

    let Some(group) = &group else {
        return;
    };
    fs::write(group.0.join("cgroup.procs"), spender.id().to_string()).expect("it is ours");
    let said = spender.ask("in a group");
    assert!(
        said.starts_with("refused by ") && said.contains("annulus-test"),
        "{said}"
    );
    assert_eq!(spender.ask("and small"), "made");
    spender.kill();
}

fn spend(words: &[&str]) {
    let place = Segment::builder(8).directory(Directory::at(words[0]));
    let largest = |capacity: usize| {
        let named = Segment::builder(capacity).directory(Directory::at(words[0]));
        let results = [
            Segment::<u64>::anonymous(capacity).map(drop),
            named.create::<u64>("large").map(drop),
        ];
        // The directory has a limit of its own, perhaps.
        let [Err(nameless), Err(named)] = results else {
            panic!("it was made");
        };
        let Cause::NoMemory {
            needed,
            available,
            limit,
        } = &nameless.cause
        else {
            panic!("{nameless}");
        };
        assert!(
            *needed >= 16 * capacity as u64 && available < needed,
            "{nameless}"
        );
        let text = nameless.to_string();
        for number in [needed, available] {
            assert!(text.contains(&number.to_string()), "{text}");
        }
        assert!(
            matches!(named.cause, Cause::NoMemory { .. } | Cause::NoSpace { .. }),
            "{named}"
        );
        limit.clone()
    };
    hear();
    system::limit_files(1 << 30);
    say(format!(
        "refused by {}",
        largest(1 << (usize::BITS / 2 + 4))
    ));
    hear();
    say(format!("refused by {}", largest(1 << 24)));
    hear();
    drop(Segment::<u64>::anonymous(8).expect("there is memory"));
    drop(place.create::<u64>("small").expect("there is memory"));
    say("made");
    hear();
}

#[test]
fn d25_a_file_with_holes_is_refused_before_anything_is_read_there_and_can_be_removed() {
    let place = Place::new();
    let path = |name: &str| place.directory().as_path().join(name);
    drop(place.create::<u64>("whole", 1 << 12));
    let bytes = fs::read(path("whole")).expect("it can be read");
    // Its first pages, which say what it is, are there.
    let copy = File::create_new(path("copy")).expect("it is free");
    copy.set_len(bytes.len() as u64).expect("it is ours");
    (&copy).write_all(&bytes[..8192]).expect("it is ours");

    let directory = place.directory();
    let open_or_create = Segment::builder(1 << 12).directory(directory.clone());
    let refusals = [
        directory.open::<u64>("copy").map(drop),
        directory.view::<u64>("copy").map(drop),
        directory.inspect("copy").map(drop),
        open_or_create.open_or_create::<u64>("copy").map(drop),
    ];
    for refusal in refusals {
        let error = refusal.expect_err("it has holes");
        assert!(
            matches!(error.cause, Cause::Holes { there: 8192, .. }),
            "{error}"
        );
        let text = format!("8192 of {} bytes are there", bytes.len());
        assert!(error.to_string().contains(&text), "{error}");
    }
    assert_eq!(
        copy.metadata().expect("it is open").blocks(),
        16,
        "nothing was taken"
    );
    directory.unlink_unused("copy").expect("nobody uses it");
    drop(place.open::<u64>("whole"));
}

#[test]
fn a_file_system_without_files_that_have_no_name_is_refused() {
    let test = "a_file_system_without_files_that_have_no_name";
    if !system::is_root_for(test) {
        return; // Others are not let into that directory.
    }
    let builder = Segment::builder(8).directory(Directory::at("/proc"));
    let error = builder.create::<u64>("ring").expect_err("it cannot be");
    assert!(matches!(error.cause, Cause::NoTemporary), "{error}");
    assert!(
        error.to_string().contains("use another, as /dev/shm"),
        "{error}"
    );
}

#[test]
fn huge_pages_work_or_it_is_said_what_is_missing() {
    match Segment::builder(1 << 10).huge_pages().anonymous::<u64>() {
        Ok(ring) => {
            let mut book = ring.consumer("book").join().expect("it joins");
            ring.producer()
                .expect("it joins")
                .publish_value(7)
                .expect("there is room");
            assert_eq!(book.try_next_batch().expect("an event")[0], 7);
        }
        Err(error) => {
            assert!(matches!(error.cause, Cause::HugePages { .. }), "{error}");
            assert!(
                error.to_string().contains("raise vm.nr_hugepages"),
                "{error}"
            );
        }
    }
    let place = Place::new();
    let builder = Segment::builder(8)
        .directory(place.directory().clone())
        .huge_pages();
    let error = builder
        .create::<u64>("ring")
        .expect_err("/dev/shm has small pages");
    assert!(matches!(error.cause, Cause::HugePages { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("mount one, and use a directory there"),
        "{error}"
    );
    assert!(place.directory().names().expect("it is there").is_empty());
}

#[test]
fn memory_is_locked_or_it_is_said_what_limit_to_raise() {
    let place = Place::new();
    for role in ["locker", "locker without a limit left"] {
        assert_eq!(Player::start(role, &[place.path()]).says(), "done");
    }
}

fn lock_memory(words: &[&str]) {
    let builder = Segment::builder(1 << 10)
        .directory(Directory::at(words[0]))
        .locked();
    for ring in [builder.create::<u64>("locked"), builder.anonymous()] {
        match ring {
            Ok(ring) => {
                let status = fs::read_to_string("/proc/self/status").expect("it is Linux");
                let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
                let locked = locked.and_then(|locked| locked.trim().strip_suffix(" kB"));
                let kilobytes: u64 = locked.expect("a line").parse().expect("a number");
                assert!(kilobytes >= 16, "{status}");
                ring.lock_memory().expect("it is locked already");
            }
            Err(error) => says_what_limit_to_raise(&error),
        }
    }
    say("done");
}

fn fail_to_lock_memory(words: &[&str]) {
    let directory = Directory::at(words[0]);
    if system::is_root() {
        system::become_user(65_534, 65_534, &[]); // Root may lock as much as it likes.
    }
    system::limit_locked_memory(0);
    let builder = Segment::builder(8).directory(directory.clone()).locked();
    let error = builder
        .create::<u64>("not-locked")
        .expect_err("it is not allowed");
    says_what_limit_to_raise(&error);
    let error = builder.anonymous::<u64>().expect_err("it is not allowed");
    says_what_limit_to_raise(&error);
    let names = directory.names().expect("it is there");
    assert!(!names.contains(&"not-locked".to_owned()), "{names:?}");
    let ring = Segment::<u64>::anonymous(8).expect("unlocked it is allowed");
    says_what_limit_to_raise(&ring.lock_memory().expect_err("it is not allowed"));
    say("done");
}

fn says_what_limit_to_raise(error: &SegmentError) {
    assert!(matches!(error.cause, Cause::Locking { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("raise the limit, RLIMIT_MEMLOCK or `ulimit -l`"),
        "{error}"
    );
}

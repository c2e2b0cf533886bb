//! What a process lives in: threads that map and fork, signals, `/proc` or none.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use annulus_ipc::{Cause, Directory, Segment, View};
use annulus_ring::{Producers, Ring};

use crate::calls::{Calls, Which};
use crate::place::Place;
use crate::roles::{Player, Role, say};
use crate::{LONG, system, until};

pub(crate) const ROLES: &[Role] = &[
    ("process that maps and forks", map_and_fork),
    ("process without a main thread", go_on_without_a_main_thread),
    ("process without /proc", live_without_proc),
    ("process that gets signals", create_among_signals),
    ("process that looks on", look_on),
];

#[test]
fn d11_while_a_ring_is_mapped_or_unmapped_others_leave_theirs_open_new_ones_and_fork() {
    let place = Place::new();
    drop(place.create::<u64>("ring", 1 << 10));
    let mut player = Player::start("process that maps and forks", &[place.path()]);
    assert_eq!(player.says(), "done");
}

fn map_and_fork(words: &[&str]) {
    let test = "d11_while_a_ring_is_mapped_or_unmapped";
    let directory = Directory::at(words[0]);
    let ring = directory.open::<u64>("ring").expect("it is there");
    let path = ring.path().expect("it has one").to_owned();
    let len = fs::metadata(path).expect("it is there").len() as u32;
    let other = Segment::<u64>::anonymous(8).expect("there is memory");
    drop(ring);
    // The kernel maps the pages when it is asked, or, if it cannot, when they are touched.
    for error in [None, Some(libc::EINVAL)] {
        let mapping = (
            libc::SYS_madvise,
            Some((2, libc::MADV_POPULATE_READ as u32)),
        );
        let unmapping = (libc::SYS_munmap, Some((1, len)));
        thread::scope(|scope| {
            let open = || drop(directory.open::<u64>("ring").expect("it is there"));
            let Some((calls, opener)) = Calls::of(scope, test, vec![mapping, unmapping], open)
            else {
                return;
            };
            let mut seen = Vec::new();
            while let Some(call) = calls.next() {
                seen.push(call.number);
                let (tell, told) = channel();
                let others = scope.spawn({
                    let (directory, other) = (&directory, &other);
                    move || {
                        drop(other.consumer("book").join().expect("it joins"));
                        drop(directory.inspect("ring").expect("it is there"));
                        let child = system::fork().unwrap_or_else(|| system::end_after(|| ()));
                        assert_eq!(system::wait_for(child), 0);
                        tell.send(()).expect("it is waited for");
                    }
                });
                let went_on = told.recv_timeout(LONG);
                let error = error.filter(|_| call.number == libc::SYS_madvise);
                calls.answer(&call, error);
                went_on.expect("the others go on");
                others.join().expect("no panic");
            }
            assert_eq!(seen, [libc::SYS_madvise, libc::SYS_munmap]);
            opener.join().expect("no panic");
        });
    }
    say("done");
}

#[test]
fn d12_when_the_main_thread_has_ended_the_others_create_open_and_join() {
    let place = Place::new();
    drop(place.create::<u64>("ring", 8));
    let mut player = Player::start("process without a main thread", &[place.path()]);
    assert_eq!(player.says(), "done");
}

fn go_on_without_a_main_thread(words: &[&str]) {
    let directory = Directory::at(words[0]);
    let Some(child) = system::fork() else {
        let rest = move || {
            until("the main thread has ended", || {
                fs::symlink_metadata("/proc/self/fd/0").is_err()
            });
            let ring = directory.open::<u64>("ring").expect("it is there");
            let mut book = ring.consumer("book").join().expect("it joins");
            let mut feed = ring.producer().expect("it joins");
            feed.publish_value(7).expect("there is room");
            assert_eq!(book.next_batch().expect("an event")[0], 7);
            let builder = Segment::builder(8).directory(directory);
            drop(builder.create::<u64>("own").expect("it can be created"));
            let nameless = Segment::<u64>::anonymous(8).expect("there is memory");
            let fd = nameless.as_fd().expect("it is ours").try_clone_to_owned();
            Segment::<u64>::from_fd(fd.expect("it is open")).expect("it is sealed");
        };
        thread::spawn(|| system::end_after(rest));
        // SAFETY: it ends this thread, and nothing of it is used by the other.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!("it has ended");
    };
    assert_eq!(system::wait_for(child), 0, "see what the child says");
    say("done");
}

#[test]
fn d13_without_proc_it_is_said_what_is_missing_and_what_to_do() {
    let test = "d13_without_proc";
    if !system::is_root_for(test) {
        return;
    }
    let place = Place::new();
    drop(place.create::<u64>("ring", 8));
    let hide = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let by = ["unshare", "--mount", "sh", "-c", hide];
    let mut player = Player::start_by(&by, "process without /proc", &[place.path()]);
    assert_eq!(player.says(), "done");
}

fn live_without_proc(words: &[&str]) {
    fs::symlink_metadata("/proc/self").expect_err("there is none");
    let directory = Directory::at(words[0]);
    let builder = Segment::builder(8).directory(directory.clone());
    let sealed = rustix::fs::MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("no-ring", sealed).expect("there is memory");
    rustix::fs::fcntl_add_seals(&memory, rustix::fs::SealFlags::SHRINK).expect("it can be sealed");
    let errors = [
        directory.open::<u64>("ring").err(),
        directory.view::<u64>("ring").err(),
        directory.inspect("ring").err(),
        directory.unlink_unused("ring").err(),
        builder.create::<u64>("own").err(),
        builder.open_or_create::<u64>("ring").err(),
        builder.anonymous::<u64>().err(),
        Segment::<u64>::from_fd(memory).err(),
    ];
    for (n, error) in errors.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("number {n} works"));
        assert!(matches!(error.cause, Cause::NoProc { .. }), "{n}: {error}");
        let text = error.to_string();
        assert!(
            text.contains("/proc/thread-self/fd (No such file"),
            "{text}"
        );
        assert!(text.contains("`mount -t proc proc /proc`"), "{text}");
    }
    assert_eq!(directory.names().expect("it is there"), ["ring"]);
    say("done");
}

#[test]
fn d14_whatever_system_call_a_signal_interrupts_is_made_again() {
    let test = "d14_whatever_system_call_a_signal_interrupts";
    let numbers = [
        libc::SYS_openat,
        libc::SYS_memfd_create,
        libc::SYS_fallocate,
        libc::SYS_fchmod,
        libc::SYS_fchown,
        libc::SYS_linkat,
        libc::SYS_renameat2,
        libc::SYS_statx,
        libc::SYS_fcntl,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_madvise,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
    ];
    let which: Vec<Which> = numbers.iter().map(|number| (*number, None)).collect();
    let place = Place::new();
    let mut made = BTreeMap::new();
    thread::scope(|scope| {
        let all = || do_everything(&place);
        let Some((calls, thread)) = Calls::of(scope, test, which, all) else {
            return;
        };
        while let Some(call) = calls.next() {
            // Each for the first time, and then every other time.
            let times: &mut u32 = made.entry(call.number).or_default();
            *times += 1;
            calls.answer(&call, (*times % 2 == 1).then_some(libc::EINTR));
        }
        thread.join().expect("no panic");
        let never = numbers.iter().find(|number| !made.contains_key(number));
        assert_eq!(never, None, "it is not made at all");
    });
}

fn do_everything(place: &Place) {
    let directory = place.directory();
    // SAFETY: it reads a number.
    let group = unsafe { libc::getegid() };
    let ring = Ring::builder(1 << 12).producers(Producers::Many);
    let builder = Segment::builder(ring).directory(directory.clone());
    let builder = builder.group(group).mode(0o640);
    let ring = builder.create::<u64>("ring").expect("it is created");
    let same = builder.open_or_create::<u64>("ring").expect("it is opened");
    let view: View<u64> = directory.view("ring").expect("it is there");
    let mut tap = view.observer().expect("it can be observed");
    let mut book = ring.consumer("book").join().expect("it joins");
    let mut feed = same.shared_producer().expect("it joins");
    feed.publish_value(7).expect("there is room");
    assert_eq!(book.next_batch().expect("an event")[0], 7);
    assert_eq!(tap.next().expect("an event"), (0, 7));
    assert_eq!(directory.names().expect("it is there"), ["ring"]);
    let error = directory.unlink_unused("ring").expect_err("it has members");
    assert!(matches!(error.cause, Cause::InUse), "{error}");
    drop((feed, book, tap));
    let inspection = directory.inspect("ring").expect("it is there");
    assert!(!inspection.is_used() && !inspection.is_unlinked().expect("it is open"));
    directory.unlink_unused("ring").expect("nobody is there");

    let (here, there) = UnixStream::pair().expect("there is one");
    let nameless = builder.anonymous::<u64>().expect("there is memory");
    nameless.send(&here).expect("it goes");
    let same = Segment::<u64>::receive(&there).expect("a ring");
    drop(same.consumer("book").join().expect("it joins"));
}

#[test]
fn d14_a_ring_is_created_and_received_while_signals_come_faster_than_its_memory() {
    let place = Place::new();
    let mut player = Player::start("process that gets signals", &[place.path()]);
    assert_eq!(player.says(), "done");
}

fn create_among_signals(words: &[&str]) {
    system::handle_without_restart(libc::SIGUSR1);
    let builder = Segment::builder(1 << 21).directory(Directory::at(words[0])); // 32 MiB
    let worker = thread::spawn(move || {
        drop(builder.create::<u64>("ring").expect("it can be created"));
        builder.anonymous::<u64>().expect("there is memory")
    });
    let (here, there) = UnixStream::pair().expect("there is one");
    let receiver = thread::spawn(move || Segment::<u64>::receive(&there).expect("a ring"));
    let interrupt = || {
        system::signal(worker.as_pthread_t(), libc::SIGUSR1);
        system::signal(receiver.as_pthread_t(), libc::SIGUSR1);
        thread::sleep(Duration::from_micros(500)); // The pace of the signals.
    };
    while !worker.is_finished() {
        interrupt();
    }
    (0..10).for_each(|_| interrupt());
    let ring = worker.join().expect("no panic");
    ring.send(&here).expect("it goes");
    receiver.join().expect("no panic");
    say("done");
}

#[test]
fn d17_a_process_that_only_looks_is_not_interrupted_when_others_go_to_sleep() {
    let place = Place::new();
    drop(place.create::<u64>("ring", Ring::builder(8).observable()));
    let mut player = Player::start("process that looks on", &[place.path()]);
    assert_eq!(player.says(), "done");
}

fn look_on(words: &[&str]) {
    /// Since Linux 6.3: which kinds of barriers this process is registered for.
    const GET_REGISTRATIONS: libc::c_int = 1 << 9;
    let registered = || {
        // SAFETY: numbers.
        let kinds = unsafe { libc::syscall(libc::SYS_membarrier, GET_REGISTRATIONS, 0, 0) };
        (kinds >= 0)
            .then_some(kinds & libc::c_long::from(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED))
    };
    let directory = Directory::at(words[0]);
    let view = directory.view::<u64>("ring").expect("it is there");
    let inspection = directory.inspect("ring").expect("it is there");
    let mut tap = view.observer().expect("it can be observed");
    assert!(tap.try_next().is_err() && inspection.snapshot().published == 0);
    match registered() {
        None => system::skip("d17_a_process_that_only_looks", "this kernel does not tell"),
        Some(none) => {
            assert_eq!(none, 0);
            drop(directory.open::<u64>("ring").expect("it is there"));
            assert_ne!(registered(), Some(0), "a process that can be a member is");
        }
    }
    say("done");
}

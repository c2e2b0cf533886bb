//! Rings by name: created, opened, removed; what is refused, and how it is said.

use std::cell::Cell;
use std::error::Error;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::Barrier;
use std::thread;

use annulus_ipc::{Cause, Description, Directory, Plain, Segment, SegmentBuilder, SegmentError};
use annulus_ring::{BuildError, Layout, Producers, Ring};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::deadline;
use crate::place::Place;
use crate::roles::{Player, Role, hear, say};
use crate::system;

pub(crate) const ROLES: &[Role] = &[
    ("racer", race),
    ("creator under a mask", create_under_a_mask),
];

#[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Quote {
    instrument: u64,
    price: i64,
    size: u32,
    flags: u32,
}

fn inode<T>(ring: &Segment<T>) -> u64 {
    let file = ring.as_fd().and_then(|fd| fd.try_clone_to_owned());
    let file = File::from(file.expect("it is this process's"));
    file.metadata().expect("it is open").ino()
}

fn builder(place: &Place, capacity: usize) -> SegmentBuilder {
    Segment::builder(capacity).directory(place.directory().clone())
}

// ---------------------------------------------------------------------------------------------
// Created, opened, removed
// ---------------------------------------------------------------------------------------------

#[test]
fn twenty_threads_that_open_or_create_a_ring_get_the_same_one() {
    let place = Place::new();
    for round in 0..20 {
        let name = format!("ring-{round}");
        let ring = Ring::builder(32).producers(Producers::Many).members(32);
        let ring = Segment::builder(ring).directory(place.directory().clone());
        let start = Barrier::new(20);
        let inodes: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|n| {
                    let (start, ring, name) = (&start, &ring, &name);
                    scope.spawn(move || {
                        start.wait();
                        let ring = ring.open_or_create::<u64>(name).expect("one of them");
                        let mut feed = ring.shared_producer().expect("there is a row");
                        feed.publish_value(n).expect("nobody gates");
                        inode(&ring)
                    })
                })
                .collect();
            let inodes = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            inodes.collect()
        });
        assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
        let snapshot = place.open::<u64>(&name).snapshot();
        assert_eq!((snapshot.published, snapshot.members.len()), (20, 0));
    }
}

#[test]
fn six_processes_that_open_or_create_a_ring_get_the_same_one() {
    let place = Place::new();
    let mut racers: Vec<Player> = (0..6)
        .map(|_| Player::start("racer", &[place.path()]))
        .collect();
    for racer in &mut racers {
        assert_eq!(racer.says(), "ready");
    }
    for round in 0..10 {
        let name = format!("ring-{round}");
        racers.iter_mut().for_each(|racer| racer.tell(&name));
        let inodes: Vec<String> = racers.iter_mut().map(Player::says).collect();
        assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
        let snapshot = place.open::<u64>(&name).snapshot();
        assert_eq!((snapshot.published, snapshot.members.len()), (6, 0));
    }
}

fn race(words: &[&str]) {
    let ring = Ring::builder(32).producers(Producers::Many);
    let ring = Segment::builder(ring).directory(Directory::at(words[0]));
    say("ready");
    loop {
        let ring = ring.open_or_create::<u64>(&hear()).expect("one of them");
        let mut feed = ring.shared_producer().expect("there is a row");
        feed.publish_value(1).expect("nobody gates");
        drop(feed);
        say(inode(&ring).to_string());
    }
}

#[test]
fn a_name_that_is_removed_is_free_and_who_has_the_ring_goes_on() {
    let place = Place::new();
    let ring = place.create::<u64>("quotes", 8);
    assert_eq!(place.directory().names().expect("it is there"), ["quotes"]);
    let mut feed = ring.producer().expect("it joins");
    let mut book = place
        .open::<u64>("quotes")
        .consumer("book")
        .join()
        .expect("it joins");
    place.directory().unlink("quotes").expect("it is there");

    assert!(place.directory().names().expect("it is there").is_empty());
    let gone = place.directory().unlink("quotes").expect_err("it is gone");
    assert!(matches!(gone.cause, Cause::NotFound), "{gone}");
    feed.publish_value(7).expect("it goes on");
    assert_eq!(
        book.next_batch_deadline(deadline()).expect("an event")[0],
        7
    );
    let other = place.create::<u64>("quotes", 8);
    assert_ne!(inode(&ring), inode(&other));
    assert_eq!(other.snapshot().published, 0);
}

#[test]
fn names_that_could_lead_elsewhere_or_look_odd_are_refused_by_everything_that_takes_one() {
    let place = Place::new();
    let long = "x".repeat(201);
    let names = [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "/etc/passwd",
        "../up",
        "a b",
        "a\tb",
        "a\nb",
        "a\0b",
        "\u{e4}",
        "a:b",
        "a*",
        "~",
        &long,
    ];
    let directory = place.directory();
    for name in names {
        let refusals = [
            builder(&place, 8).create::<u64>(name).err(),
            builder(&place, 8).open_or_create::<u64>(name).err(),
            directory.open::<u64>(name).err(),
            directory.view::<u64>(name).err(),
            directory.inspect(name).err(),
            directory.unlink(name).err(),
            directory.unlink_unused(name).err(),
        ];
        for refusal in refusals {
            let refusal = refusal.unwrap_or_else(|| panic!("{name:?} was let through"));
            assert!(
                matches!(refusal.cause, Cause::BadName),
                "{name:?}: {refusal}"
            );
            assert!(
                refusal
                    .to_string()
                    .contains("letters, digits, dots, hyphens and underscores")
            );
        }
    }
    for name in ["x", "ES.cme-2026_06", "-", "_", &"x".repeat(200)] {
        drop(place.create::<u64>(name, 8));
        directory.unlink(name).expect("it is there");
    }
}

#[test]
fn what_is_there_is_not_created_again_and_what_is_not_there_is_not_opened() {
    let place = Place::new();
    let missing = place
        .directory()
        .open::<u64>("quotes")
        .expect_err("there is none");
    assert!(matches!(missing.cause, Cause::NotFound), "{missing}");
    let shown = format!(
        "ring {}/quotes: there is no such ring: create it first",
        place.path()
    );
    assert_eq!(missing.to_string(), shown);

    drop(place.create::<u64>("quotes", 8));
    let taken = builder(&place, 8)
        .create::<u64>("quotes")
        .expect_err("it is there");
    assert!(matches!(taken.cause, Cause::Exists), "{taken}");
    assert!(
        taken
            .to_string()
            .contains("the name is taken: open that ring, or unlink it first")
    );
}

// ---------------------------------------------------------------------------------------------
// What is there is another
// ---------------------------------------------------------------------------------------------

/// What each way to look into the file of this name says.
fn refusals<T: Plain>(place: &Place, name: &str) -> Vec<SegmentError> {
    let directory = place.directory();
    let refusals = [
        directory.open::<T>(name).err(),
        directory.view::<T>(name).err(),
        directory.inspect(name).err(),
        builder(place, 8).open_or_create::<T>(name).err(),
        directory.unlink_unused(name).err(),
    ];
    let refusals = refusals
        .into_iter()
        .map(|error| error.expect("it is refused"));
    refusals.collect()
}

#[test]
fn what_is_no_ring_is_refused_whatever_it_is_and_no_link_is_followed() {
    let place = Place::new();
    drop(place.create::<u64>("ring", 8));
    let path = |name: &str| place.directory().as_path().join(name);
    fs::write(path("empty"), "").expect("it is ours");
    fs::write(path("short"), "ANNULUS\n").expect("it is ours");
    fs::write(path("text"), "all work and no play\n".repeat(1_000)).expect("it is ours");
    fs::create_dir(path("directory")).expect("it is ours");
    system::make_pipe(&path("pipe"));
    let _socket = UnixListener::bind(path("socket")).expect("it is ours");
    symlink("ring", path("link")).expect("it is ours");
    symlink("nowhere", path("dangling")).expect("it is ours");
    symlink("/dev/zero", path("device")).expect("it is ours");

    let names = [
        "empty",
        "short",
        "text",
        "directory",
        "pipe",
        "socket",
        "link",
        "dangling",
        "device",
    ];
    for name in names {
        for refusal in refusals::<u64>(&place, name) {
            assert!(
                matches!(refusal.cause, Cause::NotARing),
                "{name}: {refusal}"
            );
            assert!(
                refusal
                    .to_string()
                    .ends_with("there is a file of that name, but it is no ring")
            );
        }
        let taken = builder(&place, 8)
            .create::<u64>(name)
            .expect_err("the name is taken");
        assert!(matches!(taken.cause, Cause::Exists), "{name}: {taken}");
    }
    assert!(!path("nowhere").exists(), "nothing is made through a link");
    let link = fs::symlink_metadata(path("link")).expect("it is there");
    assert!(link.is_symlink());
}

/// Makes a ring with these bytes of its file changed.
fn changed(place: &Place, name: &str, at: u64, bytes: &[u8]) {
    drop(place.create::<u64>(name, 8));
    let file = File::options()
        .write(true)
        .open(place.directory().as_path().join(name));
    file.and_then(|file| file.write_all_at(bytes, at))
        .expect("it is ours");
}

#[test]
fn d7_a_file_of_another_version_byte_order_or_kind_says_so() {
    let place = Place::new();
    changed(&place, "version", 8, &3_u16.to_le_bytes());
    for refusal in refusals::<u64>(&place, "version") {
        assert!(
            matches!(refusal.cause, Cause::Version { major: 3, minor: 0 }),
            "{refusal}"
        );
        assert!(
            refusal.to_string().contains("(layout 3.0, here it is 2)"),
            "{refusal}"
        );
    }
    changed(&place, "order", 12, &2_u32.to_le_bytes());
    for refusal in refusals::<u64>(&place, "order") {
        assert!(matches!(refusal.cause, Cause::ByteOrder), "{refusal}");
    }
    changed(
        &place,
        "features",
        16,
        &(1_u64 << 40 | 0b1_0101).to_le_bytes(),
    );
    for refusal in refusals::<u64>(&place, "features") {
        let unknown = 1 << 40 | 1 << 4;
        assert!(matches!(refusal.cause, Cause::Features { unknown: bits } if bits == unknown));
        assert!(
            refusal.to_string().contains("bits 0x10000000010"),
            "{refusal}"
        );
    }
    changed(&place, "magic", 0, b"annulus\n");
    for refusal in refusals::<u64>(&place, "magic") {
        assert!(matches!(refusal.cause, Cause::NotARing), "{refusal}");
    }
}

#[test]
fn what_a_later_version_adds_and_who_does_not_know_it_may_ignore_is_ignored() {
    let place = Place::new();
    changed(&place, "minor", 10, &7_u16.to_le_bytes());
    changed(&place, "ignorable", 24, &u64::MAX.to_le_bytes());
    for name in ["minor", "ignorable"] {
        let ring = place.open::<u64>(name);
        let mut feed = ring.producer().expect("it joins");
        feed.publish_value(7).expect("nobody gates");
    }
}

#[test]
fn d7_a_damaged_header_is_an_error_that_says_what_is_damaged() {
    let place = Place::new();
    let damages: [(u64, &[u8], &str); 9] = [
        (32, &9_u64.to_le_bytes(), "capacity or members"),
        (40, &0_u32.to_le_bytes(), "capacity or members"),
        (40, &65_u32.to_le_bytes(), "capacity or members"),
        (44, &99_u32.to_le_bytes(), "capacity or members"),
        (48, &16_u64.to_le_bytes(), "size of an event"),
        (80, &0_u64.to_le_bytes(), "start of the ring"),
        (88, &4096_u64.to_le_bytes(), "length of the file"),
        (96, &0_u64.to_le_bytes(), "fingerprint of the type"),
        (160, b"\xff", "description of the events"),
    ];
    for (n, (at, bytes, what)) in damages.into_iter().enumerate() {
        let name = format!("ring-{n}");
        changed(&place, &name, at, bytes);
        for refusal in refusals::<u64>(&place, &name) {
            assert!(
                matches!(refusal.cause, Cause::Damaged(_)),
                "{what}: {refusal}"
            );
            assert!(
                refusal.to_string().contains(&format!("({what})")),
                "{what}: {refusal}"
            );
        }
    }
    drop(place.create::<u64>("short", 8));
    let file = File::options()
        .write(true)
        .open(place.directory().as_path().join("short"));
    file.and_then(|file| file.set_len(4096))
        .expect("it is ours");
    for refusal in refusals::<u64>(&place, "short") {
        assert!(
            refusal.to_string().contains("which was cut short"),
            "{refusal}"
        );
    }
}

#[test]
fn d22_a_ring_that_lies_differently_in_memory_is_named_as_that_and_nobody_is_told_to_destroy_it() {
    let place = Place::new();
    // As a program wrote them whose cache lines, rows or stamps are others.
    let others = [
        (64, 32, "distance of events: 16 here, 32 in the ring"),
        (72, 32, "distance of stamps: 16 here, 32 in the ring"),
        (
            120,
            320,
            "start of the member table: 768 here, 320 in the ring",
        ),
        (128, 192, "distance of members: 256 here, 192 in the ring"),
        (136, 3392, "start of the slots: 4864 here, 3392 in the ring"),
        (144, 16, "start of the events: 8 here, 16 in the ring"),
    ];
    for (at, there, what) in others {
        let name = format!("ring-{at}");
        changed(&place, &name, at, &u64::to_le_bytes(there));
        for refusal in refusals::<u64>(&place, &name) {
            let text = refusal.to_string();
            assert!(matches!(refusal.cause, Cause::Layout { .. }), "{text}");
            assert!(
                text.contains("made by a program with another layout"),
                "{text}"
            );
            assert!(text.contains(what) && !text.contains("unlink"), "{text}");
        }
    }
}

#[test]
fn d7_a_ring_of_another_type_is_refused_and_the_differences_are_listed() {
    #[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Trade {
        instrument: u64,
        price: u64,
        flags: u32,
        size: u32,
    }
    let place = Place::new();
    drop(place.create::<Quote>("quotes", 8));
    let error = place
        .directory()
        .open::<Trade>("quotes")
        .expect_err("it is another");
    let Cause::Type { differences } = &error.cause else {
        panic!("{error}");
    };
    let expected = [
        "the type is Trade here, Quote in the ring",
        "field price at byte 8 is u64 here, i64 in the ring",
        "field flags is at byte 16 here, at byte 20 in the ring",
        "field size is at byte 20 here, at byte 16 in the ring",
    ];
    assert_eq!(*differences, expected);
    let text = error.to_string();
    assert!(text.contains(&expected.join("; ")), "{text}");
    assert!(
        text.contains("Build both sides from the same definition") && text.contains("`annulus gc`"),
        "{text}"
    );

    let error = place
        .directory()
        .view::<u64>("quotes")
        .expect_err("it is another");
    assert!(
        error.to_string().contains("size 8 here, 24 in the ring"),
        "{error}"
    );
    // Who does not want to read events can look at it.
    let inspection = place.directory().inspect("quotes").expect("a ring");
    assert_eq!(inspection.description(), &Quote::description());
}

type Says = fn() -> Description;

/// A type of 4096 bytes that says, in safe code, whatever it is told to.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Liar([u8; 4096]);

thread_local! {
    static SAYS: Cell<Says> = const { Cell::new(|| Description::of::<u8>("Liar", [])) };
}

impl Plain for Liar {
    fn description() -> Description {
        SAYS.get()()
    }
}

#[test]
fn d19_a_type_that_is_described_as_smaller_or_less_aligned_than_it_is_gets_no_ring() {
    /// As it is described, and so as its ring is laid out.
    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Honest(u8);
    impl Plain for Honest {
        fn description() -> Description {
            Description::of::<Self>("Liar", [])
        }
    }
    let place = Place::new();
    let honest = place.create::<Honest>("honest", 8);
    let lies: [(Says, &str); 4] = [
        (
            || Description::of::<u8>("Liar", []),
            "size 1 and alignment 1, and",
        ),
        (
            || Description {
                align: 8,
                ..Description::of::<Liar>("Liar", [])
            },
            "alignment 8, and",
        ),
        (
            || Description::of::<[u8; 8192]>("Liar", []),
            "size 8192 and",
        ),
        (
            || Description::of::<Liar>("Li\u{1b}ar", []),
            "a name in it is none",
        ),
    ];
    for (lie, what) in lies {
        SAYS.set(lie);
        let refusals = [
            builder(&place, 8).create::<Liar>("liar").err(),
            builder(&place, 8).open_or_create::<Liar>("honest").err(),
            builder(&place, 8).anonymous::<Liar>().err(),
            place.directory().open::<Liar>("honest").err(),
            place.directory().view::<Liar>("honest").err(),
        ];
        for refusal in refusals {
            let refusal = refusal.expect("it is refused");
            assert!(
                matches!(refusal.cause, Cause::Description { .. }),
                "{refusal}"
            );
            assert!(refusal.to_string().contains(what), "{what}: {refusal}");
        }
    }
    assert_eq!(place.directory().names().expect("it is there"), ["honest"]);
    drop(honest);
}

#[test]
fn d19_a_type_is_asked_for_its_description_once() {
    /// What it says first is right, and then never again.
    fn changes() -> Description {
        let lie = || Description::of::<u8>("Liar", []);
        SAYS.set(lie);
        Description::of::<Liar>("Liar", [])
    }
    let place = Place::new();
    SAYS.set(changes);
    let ring = place.create::<Liar>("ring", 2);
    SAYS.set(changes);
    let opened = place.open::<Liar>("ring");
    let mut book = opened.consumer("book").join().expect("it joins");
    let mut feed = ring.producer().expect("it joins");
    for n in 1..=2 {
        feed.publish(|event| event.0.fill(n))
            .expect("there is room");
    }
    let batch = book.try_next_batch().expect("events");
    assert_eq!(batch[1].0, [2; 4096]);
}

#[test]
fn d30_open_or_create_refuses_a_ring_that_is_built_in_another_way_and_shows_what_differs() {
    let place = Place::new();
    drop(place.create::<u64>("ring", 8));
    let others = [
        (Ring::builder(16), "capacity 8; wanted: capacity 16."),
        (
            Ring::builder(8).producers(Producers::Many).members(17),
            "one producer, 16 members; wanted: many producers, 17 members.",
        ),
        (
            Ring::builder(8).layout(Layout::Apart),
            "layout Beside; wanted: layout Apart.",
        ),
        (
            Ring::builder(8).require_consumers(1),
            "required consumers 0; wanted: required consumers 1.",
        ),
        (
            Ring::builder(8).no_parking(),
            "with parking; wanted: without parking.",
        ),
        (
            Ring::builder(8).observable(),
            "without observers; wanted: with observers.",
        ),
    ];
    for (other, what) in others {
        let builder = Segment::builder(other).directory(place.directory().clone());
        let error = builder
            .open_or_create::<u64>("ring")
            .expect_err("it is another");
        let Cause::Differs { wanted, there } = &error.cause else {
            panic!("{error}");
        };
        let text = error.to_string();
        assert!(text.contains(wanted) && text.contains(there), "{text}");
        // What is the same is not said.
        assert!(
            text.contains(&format!("built in another way: {what}")),
            "{text}"
        );
    }
    let same = Segment::builder(Ring::builder(8).parking()).directory(place.directory().clone());
    drop(
        same.open_or_create::<u64>("ring")
            .expect("that is how it is by default"),
    );
}

#[test]
fn d30_a_program_that_ends_with_an_error_says_what_to_do() {
    let place = Place::new();
    let error = place
        .directory()
        .open::<u64>("quotes")
        .expect_err("there is none");
    // As `main` shows what it returns.
    let shown = format!("{:?}", Box::<dyn Error>::from(error));
    let expected = format!(
        "ring {}/quotes: there is no such ring: create it first",
        place.path()
    );
    assert_eq!(shown, expected);
}

#[test]
fn a_ring_that_cannot_be_built_is_not_created_and_leaves_nothing() {
    #[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C, align(8192))]
    struct Wide([u8; 8192]);

    let place = Place::new();
    let error = builder(&place, 12)
        .create::<u64>("ring")
        .expect_err("no power of two");
    assert!(matches!(
        error.cause,
        Cause::Build(BuildError::Capacity { capacity: 12 })
    ));
    assert!(error.to_string().ends_with("use 16"), "{error}");
    let error = builder(&place, 1 << (usize::BITS - 2))
        .create::<u64>("ring")
        .expect_err("too large");
    assert!(
        matches!(error.cause, Cause::Build(BuildError::TooLarge { .. })),
        "{error}"
    );
    let error = builder(&place, 8)
        .create::<Wide>("ring")
        .expect_err("too wide");
    assert!(
        matches!(error.cause, Cause::Alignment { align: 8192 }),
        "{error}"
    );
    assert!(
        place
            .directory()
            .names()
            .expect("it may be there")
            .is_empty()
    );
}

// ---------------------------------------------------------------------------------------------
// Attributes, modes
// ---------------------------------------------------------------------------------------------

#[test]
fn attributes_are_what_the_creator_has_said_for_all_who_open_it() {
    let place = Place::new();
    let created = builder(&place, 8)
        .attribute("schema", "7")
        .attribute("trading-date", "2026-06-30")
        .attribute("note", "a = b, \u{e4}\u{1f512}")
        .attribute("empty", "")
        .create::<u64>("ring")
        .expect("a ring can be created");
    let opened = place.open::<u64>("ring");
    let view = place.directory().view::<u64>("ring").expect("it is there");
    let inspection = place.directory().inspect("ring").expect("it is there");
    assert_eq!(opened.attributes().len(), 4);
    assert_eq!(opened.attributes()["note"], "a = b, \u{e4}\u{1f512}");
    for attributes in [
        created.attributes(),
        view.attributes(),
        inspection.attributes(),
    ] {
        assert_eq!(attributes, opened.attributes());
    }
}

#[test]
fn attributes_that_are_too_long_or_cannot_be_shown_are_refused() {
    let place = Place::new();
    for (key, value) in [
        ("", "x"),
        ("a=b", "x"),
        ("a\nb", "x"),
        ("a", "x\ny"),
        ("a", "\x1b[0m"),
    ] {
        let ring = builder(&place, 8)
            .attribute(key, value)
            .create::<u64>("ring");
        let error = ring.expect_err("it cannot be shown");
        assert!(
            matches!(&error.cause, Cause::Attribute { key: said } if said == key),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("{key:?}")), "{error}");
    }
    let most = 16 * 4096 - 160 - "u64 size 8 align 8".len() - "key=\n".len();
    let fits = builder(&place, 8).attribute("key", "x".repeat(most));
    drop(fits.create::<u64>("fits").expect("it just fits"));
    assert_eq!(place.open::<u64>("fits").attributes()["key"].len(), most);
    let error = builder(&place, 8).attribute("key", "x".repeat(most + 1));
    let error = error.create::<u64>("ring").expect_err("it does not fit");
    assert!(
        matches!(error.cause, Cause::Texts { most: 65_376 }),
        "{error}"
    );
    assert_eq!(place.directory().names().expect("it is there"), ["fits"]);
}

#[test]
fn mode_and_group_are_as_asked_for_whatever_the_mask_of_the_process() {
    for mask in ["777", "077", "000"] {
        let place = Place::new();
        let mut creator = Player::start("creator under a mask", &[place.path(), mask]);
        assert_eq!(creator.says(), "done");
        let stat =
            |name: &str| fs::metadata(place.directory().as_path().join(name)).expect("it is there");
        for mode in [0o600, 0o640, 0o660, 0o666, 0o400] {
            assert_eq!(
                stat(&format!("ring-{mode:o}")).mode() & 0o7777,
                mode,
                "mask {mask}"
            );
        }
        assert_eq!(stat("ring-default").mode() & 0o7777, 0o600, "mask {mask}");
        // More than who may read and write is nobody's business.
        assert_eq!(stat("ring-odd").mode() & 0o7777, 0o660, "mask {mask}");
        let directory = fs::metadata(place.directory().as_path()).expect("it is there");
        assert_eq!(
            directory.permissions().mode() & 0o7777,
            0o1777,
            "mask {mask}"
        );
        if system::is_root_for("the group of a ring is as asked for") {
            assert_eq!(stat("ring-group").gid(), 65_533, "mask {mask}");
        }
    }
}

fn create_under_a_mask(words: &[&str]) {
    let mask = u32::from_str_radix(words[1], 8).expect("octal");
    system::set_umask(mask);
    let builder = Segment::builder(8).directory(Directory::at(words[0]));
    drop(
        builder
            .create::<u64>("ring-default")
            .expect("it is created"),
    );
    for mode in [0o600, 0o640, 0o660, 0o666, 0o400] {
        let builder = builder.clone().mode(mode);
        drop(
            builder
                .create::<u64>(&format!("ring-{mode:o}"))
                .expect("it is created"),
        );
    }
    let odd = builder.clone().mode(0o6660);
    drop(odd.create::<u64>("ring-odd").expect("it is created"));
    // Only root may give a file to any group; others are told that they may not.
    match builder
        .mode(0o660)
        .group(65_533)
        .create::<u64>("ring-group")
    {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(error.cause, Cause::NotAllowed | Cause::System(_)),
            "{error}"
        ),
    }
    say("done");
}

#[test]
fn a_directory_lists_what_is_in_it_in_order_and_none_has_nothing() {
    let place = Place::new();
    assert!(
        place
            .directory()
            .names()
            .expect("none is no error")
            .is_empty()
    );
    for name in ["b", "a", "c"] {
        drop(place.create::<u64>(name, 8));
    }
    fs::write(place.directory().as_path().join(".hidden"), "").expect("it is ours");
    fs::write(place.directory().as_path().join("note"), "").expect("it is ours");
    assert_eq!(
        place.directory().names().expect("it is there"),
        ["a", "b", "c", "note"]
    );
    let ring = place.open::<u64>("a");
    assert_eq!(ring.name(), Some("a"));
    assert_eq!(
        ring.path(),
        Some(place.directory().as_path().join("a").as_path())
    );
    let closed_on_exec = ring
        .as_fd()
        .expect("it is ours")
        .as_fd()
        .try_clone_to_owned();
    drop(closed_on_exec.expect("there are few open"));
}

//! Two users: what the mode and the group of a ring let them do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use annulus_ipc::{Cause, Directory, Segment, SegmentError};
use annulus_ring::{Producers, Ring};

use crate::place::Place;
use crate::roles::{Player, Role, hear, say};
use crate::{deadline, system, until};

pub(crate) const ROLES: &[Role] = &[
    ("stranger", be_a_stranger),
    ("friend", be_a_friend),
    ("squatter", squat),
];

/// Two numbers that are nobody's in particular.
const USER: u32 = 65_534;
const GROUP: u32 = 65_533;

fn create(place: &Place, name: &str, mode: u32) -> Segment<u64> {
    let ring = Ring::builder(8).producers(Producers::Many);
    let builder = Segment::builder(ring).directory(place.directory().clone());
    let ring = builder.mode(mode).group(GROUP).create(name);
    ring.expect("a ring can be created")
}

fn is_not_allowed<X>(result: Result<X, SegmentError>, what: &str) {
    let Err(error) = result else {
        panic!("{what} was allowed");
    };
    assert!(matches!(error.cause, Cause::NotAllowed), "{what}: {error}");
    let text = error.to_string();
    assert!(
        text.contains("its creator lets others in by the mode and the group"),
        "{text}"
    );
}

#[test]
fn d10_without_a_right_nothing_works_and_with_that_to_read_one_can_look_and_not_join() {
    if !system::is_root_for("d10_without_a_right") {
        return;
    }
    let place = Place::new();
    let _private = create(&place, "private", 0o660);
    let readable = create(&place, "readable", 0o664);
    let mut stranger = Player::start("stranger", &[place.path()]);
    assert_eq!(stranger.says(), "ready");
    readable
        .shared_producer()
        .expect("it joins")
        .publish_value(7)
        .expect("nobody gates");
    assert_eq!(stranger.ask("look"), "0: 7");
    assert!(readable.snapshot().members.is_empty());
    let names = place.directory().names().expect("it is there");
    assert_eq!(names, ["private", "readable", "strangers"]);

    // A directory into which it may not even look.
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(place.directory().as_path(), closed).expect("it is ours");
    assert_eq!(stranger.ask("and now"), "nothing is allowed");
}

fn be_a_stranger(words: &[&str]) {
    system::become_user(USER, USER, &[]);
    let directory = Directory::at(words[0]);
    is_not_allowed(directory.open::<u64>("private"), "to open it");
    is_not_allowed(directory.view::<u64>("private"), "to look at it");
    is_not_allowed(directory.inspect("private"), "to inspect it");
    is_not_allowed(directory.unlink_unused("private"), "to remove it");
    is_not_allowed(
        directory.open::<u64>("readable"),
        "to open what it may read",
    );
    let builder = Segment::builder(Ring::builder(8).producers(Producers::Many));
    let builder = builder.directory(directory.clone());
    is_not_allowed(
        builder.open_or_create::<u64>("readable"),
        "to open or create it",
    );
    is_not_allowed(
        directory.unlink_unused("readable"),
        "to remove what it may read",
    );
    // The directory is everybody's, the names in it their owners': what is not allowed there is an error of the
    // system's, which has two for it.
    for name in ["private", "readable"] {
        let error = directory.unlink(name).expect_err("it is another's");
        let is_refused = match &error.cause {
            Cause::NotAllowed => true,
            Cause::System(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
            _ => false,
        };
        assert!(is_refused, "{error}");
    }
    let own = builder
        .create::<u64>("strangers")
        .expect("everybody may have rings there");
    drop(own.shared_producer().expect("it is its own"));

    let view = directory.view::<u64>("readable").expect("it may read");
    let inspection = directory.inspect("readable").expect("it may read");
    let mut tap = view.observer().expect("many producers can be observed");
    say("ready");
    hear();
    let (sequence, event) = tap.next_deadline(deadline()).expect("an event");
    assert_eq!(inspection.snapshot().published, 1);
    say(format!("{sequence}: {event}"));
    hear();
    let refusals = |name: &str| {
        [
            directory.open::<u64>(name).err(),
            directory.view::<u64>(name).err(),
            builder.create::<u64>(name).err(),
        ]
    };
    for name in ["private", "readable", "strangers", "none"] {
        for error in refusals(name) {
            // It is the directory's, which a ring's creator has nothing to do with.
            let text = error.expect("it is a closed directory").to_string();
            let start = format!(
                "ring {0}/{name}: this user may not use the directory {0}, which belongs to user 0",
                words[0]
            );
            assert!(
                text.starts_with(&start) && text.contains("`chmod 1777`"),
                "{text}"
            );
        }
    }
    assert!(directory.names().is_err());
    say("nothing is allowed");
    hear();
}

#[test]
fn d10_who_belongs_to_the_group_joins_by_the_modes_of_the_group_and_dies_as_anybody() {
    if !system::is_root_for("d10_who_belongs_to_the_group") {
        return;
    }
    for groups in ["own", "further"] {
        let place = Place::new();
        let writable = create(&place, "writable", 0o660);
        let readable = create(&place, "readable", 0o640);
        let mut book = writable.consumer("book").join().expect("it joins");
        let mut friend = Player::start("friend", &[place.path(), groups]);
        assert_eq!(friend.says(), "joined");
        assert_eq!(
            book.next_batch_deadline(deadline()).expect("an event")[0],
            7
        );
        readable
            .shared_producer()
            .expect("it joins")
            .publish_value(8)
            .expect("nobody gates");
        assert_eq!(friend.ask("look"), "0: 8");

        // Its death is found out by another user, and its claim given up.
        let alive = |members: Vec<annulus_ring::Member>| {
            members.iter().filter(|member| !member.is_dead).count()
        };
        assert_eq!(alive(writable.snapshot().members), 3);
        friend.kill_alone();
        until("it is seen to be dead", || {
            alive(writable.snapshot().members) == 1
        });
        let mut feed = writable.shared_producer().expect("it joins");
        feed.publish_value(9).expect("there is room");
        assert_eq!(
            book.next_batch_deadline(deadline()).expect("an event")[0],
            9
        );
        assert_eq!(book.skipped(), 2);
    }
}

fn be_a_friend(words: &[&str]) {
    match words[1] {
        "own" => system::become_user(USER, GROUP, &[]),
        _ => system::become_user(USER, USER, &[USER, GROUP]),
    }
    let directory = Directory::at(words[0]);
    is_not_allowed(
        directory.open::<u64>("readable"),
        "to open what it may read",
    );
    let view = directory.view::<u64>("readable").expect("it may read");
    let mut tap = view.observer().expect("many producers can be observed");
    let ring = directory.open::<u64>("writable").expect("it may");
    let _tape = ring.consumer("tape").join().expect("it joins");
    let mut feed = ring.shared_producer().expect("it joins");
    feed.publish_value(7).expect("there is room");
    std::mem::forget(feed.claim(2).expect("there is room"));
    say("joined");
    hear();
    let (sequence, event) = tap.next_deadline(deadline()).expect("an event");
    say(format!("{sequence}: {event}"));
    hear();
}

#[test]
fn d15_a_ring_that_another_user_has_left_under_a_name_is_opened_only_where_that_user_is_trusted() {
    if !system::is_root_for("d15_a_ring_that_another_user_has_left") {
        return;
    }
    let place = Place::new();
    drop(place.create::<u64>("of-root", 8)); // And the directory, which is everybody's.
    let mut squatter = Player::start("squatter", &[place.path()]);
    assert_eq!(squatter.says(), "ready");
    let directory = place.directory();
    let builder = Segment::builder(8);
    for unsure in [directory.clone(), directory.clone().trust(USER - 1)] {
        let errors = [
            unsure.open::<u64>("quotes").err(),
            unsure.view::<u64>("quotes").err(),
            (builder.clone().directory(unsure.clone()))
                .open_or_create::<u64>("quotes")
                .err(),
        ];
        for error in errors {
            let error = error.expect("it is not opened");
            let Cause::NotTrusted { owner } = error.cause else {
                panic!("{error}");
            };
            assert_eq!(owner, USER);
            let text = error.to_string();
            assert!(text.contains("it belongs to user 65534"), "{text}");
            assert!(text.contains("Directory::trust(65534)"), "{text}");
        }
        // To look and to remove takes no trust, and root's are everybody's.
        let inspection = unsure.inspect("quotes").expect("it is a ring");
        assert!(inspection.is_used());
        let error = unsure.unlink_unused("quotes").expect_err("it is used");
        assert!(matches!(error.cause, Cause::InUse), "{error}");
        drop(unsure.open::<u64>("of-root").expect("it is its own"));
    }
    for sure in [
        directory.clone().trust(7).trust(USER),
        directory.clone().trust_everybody(),
    ] {
        let ring = sure.open::<u64>("quotes").expect("it is trusted");
        drop(ring.producer().expect("it joins"));
        drop(sure.view::<u64>("quotes").expect("it is trusted"));
        let opened = builder.clone().directory(sure);
        drop(opened.open_or_create::<u64>("quotes").expect("the same"));
    }
}

fn squat(words: &[&str]) {
    system::become_user(USER, GROUP, &[]);
    system::set_umask(0);
    let directory = Directory::at(words[0]);
    let builder = Segment::builder(8).directory(directory.clone()).mode(0o666);
    let ring = builder.create::<u64>("quotes").expect("the name is free");
    let _book = ring.consumer("book").join().expect("it joins");
    drop(directory.open::<u64>("quotes").expect("it is its own"));
    let error = directory.open::<u64>("of-root").expect_err("of mode 600");
    assert!(matches!(error.cause, Cause::NotAllowed), "{error}");
    say("ready");
    hear();
}

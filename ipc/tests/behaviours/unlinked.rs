//! Names that go, or lead to another ring, while the ring is used.

use std::fs;
use std::hint::spin_loop;
use std::os::unix::fs::MetadataExt;
use std::sync::Barrier;
use std::thread;

use annulus_ipc::{Cause, Directory, Segment};
use annulus_ring::{JoinError, ProducerError, Producers, Ring};

use crate::deadline;
use crate::place::Place;
use crate::roles::{Player, Role, hear, say};

pub(crate) const ROLES: &[Role] = &[("joiner", join)];

const REMOVED: &str = "the ring's file has been removed: open the ring of that name anew";

#[test]
fn d7_members_go_on_when_the_name_goes_and_newcomers_by_an_old_handle_are_told() {
    for replaced in [false, true] {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(8).producers(Producers::Many));
        let mut feed = ring.shared_producer().expect("it joins");
        let mut book = ring.consumer("book").join().expect("it joins");
        let mut other = Player::start("member", &[place.path(), "ring"]);
        assert_eq!(other.says(), "ok open");
        other.does("join other");
        let mut late = Player::start("member", &[place.path(), "ring"]);
        assert_eq!(late.says(), "ok open");

        if replaced {
            // One moves another ring there, as who renames files does.
            drop(place.create::<u64>("next", Ring::builder(8).producers(Producers::Many)));
            let path = |name: &str| place.directory().as_path().join(name);
            fs::rename(path("next"), path("ring")).expect("it is ours");
        } else {
            place.directory().unlink("ring").expect("it is there");
        }
        for n in 0..20 {
            feed.publish_value_deadline(deadline(), n)
                .expect("the others read");
            assert_eq!(
                book.next_batch_deadline(deadline()).expect("an event")[0],
                n
            );
            assert_eq!(other.does("take 1"), n.to_string());
        }
        let error = ring.shared_producer().expect_err("it has no name");
        assert!(
            matches!(&error, ProducerError::NoLease { why } if why == REMOVED),
            "{error}"
        );
        let error = ring.consumer("late").join().expect_err("it has no name");
        assert!(
            matches!(&error, JoinError::NoLease { why, .. } if why == REMOVED),
            "{error}"
        );
        for ask in ["join late", "feed"] {
            let said = late.ask(ask);
            assert!(
                said.starts_with("error") && said.ends_with(REMOVED),
                "{said}"
            );
        }
        drop(feed);
        let members = ring.snapshot().members;
        assert_eq!(members.len(), 2, "{members:?}");

        // By the name there is nothing, or the other one.
        let opened = place.directory().open::<u64>("ring");
        match opened {
            Ok(next) if replaced => {
                assert_eq!(next.snapshot().published, 0);
                drop(next.consumer("late").join().expect("it joins"));
            }
            Err(error) if !replaced => assert!(matches!(error.cause, Cause::NotFound), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_ring_that_never_had_a_name_takes_newcomers() {
    let ring = Segment::<u64>::anonymous(8).expect("there is memory");
    let _feed = ring.producer().expect("it joins");
    drop(ring.consumer("book").join().expect("it joins"));
}

#[test]
fn a_ring_that_is_used_is_not_removed_as_unused_and_one_that_was_is() {
    let place = Place::new();
    let directory = place.directory();
    let refused = |what: &str| {
        let error = directory.unlink_unused("ring").expect_err(what);
        assert!(matches!(error.cause, Cause::InUse), "{what}: {error}");
    };
    let ring = place.create::<u64>("ring", 8);
    let feed = ring.producer().expect("it joins");
    refused("a producer");
    drop(feed);
    let book = ring.consumer("book").join().expect("it joins");
    refused("a consumer");
    drop(book);
    let mut other = Player::start("member", &[place.path(), "ring"]);
    assert_eq!(other.says(), "ok open");
    other.does("join journal hold");
    refused("one in another process");
    other.kill();
    // A dead one does not count, though it is held: nobody would come who is in its place.
    remove_unused(&place);
    let error = directory.unlink_unused("ring").expect_err("it is gone");
    assert!(matches!(error.cause, Cause::NotFound), "{error}");
    let error = ring.consumer("late").join().expect_err("it is gone");
    assert!(error.to_string().ends_with(REMOVED), "{error}");
}

/// Removes a ring whose last member has just left: at once, though another test may be starting a process at the
/// moment, which has copies of all descriptors until it becomes another program.
fn remove_unused(place: &Place) {
    let removed = place.directory().unlink_unused("ring");
    removed.expect("nobody is there any more");
}

/// What has come of a race: who has joined is in a ring that has its name.
fn is_joined_or_gone(place: &Place, unlinked: Result<(), Cause>, joined: Option<u64>) -> bool {
    let there = fs::metadata(place.directory().as_path().join("ring"));
    match (unlinked, joined) {
        (Ok(()), None) => {
            assert!(there.is_err(), "it was removed");
            false
        }
        (Err(Cause::InUse), Some(inode)) => {
            assert_eq!(there.expect("it was not removed").ino(), inode);
            true
        }
        // Neither both nor none.
        (unlinked, joined) => panic!("{unlinked:?}, and joined {joined:?}"),
    }
}

#[test]
fn d7_who_joins_a_ring_while_it_is_removed_as_unused_is_in_one_that_has_its_name_or_is_told() {
    let place = Place::new();
    let mut outcomes = [0; 2];
    for round in 0..600_u32 {
        let ring = place.create::<u64>("ring", 8);
        let start = Barrier::new(2);
        let (unlinked, joined) = thread::scope(|scope| {
            let unlinker = scope.spawn(|| {
                start.wait();
                (0..round % 40 * 500).for_each(|_| spin_loop());
                place
                    .directory()
                    .unlink_unused("ring")
                    .map_err(|error| error.cause)
            });
            start.wait();
            (0..round % 7 * 500).for_each(|_| spin_loop());
            let joined = ring.consumer("book").join();
            (unlinker.join().expect("no panic"), joined)
        });
        if let Err(error) = &joined {
            assert!(error.to_string().ends_with(REMOVED), "{error}");
        }
        let inode = fs::metadata(place.directory().as_path().join("ring"));
        let inode = joined
            .as_ref()
            .ok()
            .map(|_| inode.expect("it has its name").ino());
        let is_joined = is_joined_or_gone(&place, unlinked, inode);
        outcomes[usize::from(is_joined)] += 1;
        drop(joined);
        if is_joined {
            remove_unused(&place);
        }
    }
    println!("removed {}, joined {}", outcomes[0], outcomes[1]);
}

#[test]
fn d7_the_same_when_the_one_who_joins_is_another_process() {
    let place = Place::new();
    drop(place.create::<u64>("ring", 8));
    let mut joiner = Player::start("joiner", &[place.path()]);
    let mut outcomes = [0; 2];
    for round in 0..300_u32 {
        if round > 0 {
            drop(place.create::<u64>("ring", 8));
        }
        assert_eq!(joiner.ask("open"), "open");
        joiner.tell("join");
        (0..round % 60 * 1_000).for_each(|_| spin_loop());
        let unlinked = place
            .directory()
            .unlink_unused("ring")
            .map_err(|error| error.cause);
        let said = joiner.says();
        let joined = said
            .strip_prefix("joined ")
            .map(|inode| inode.parse().expect("a number"));
        let is_joined = is_joined_or_gone(&place, unlinked, joined);
        outcomes[usize::from(is_joined)] += 1;
        assert_eq!(joiner.ask("leave"), "left");
        if is_joined {
            remove_unused(&place);
        }
    }
    println!("removed {}, joined {}", outcomes[0], outcomes[1]);
}

fn join(words: &[&str]) {
    loop {
        hear();
        let ring = Directory::at(words[0])
            .open::<u64>("ring")
            .expect("it is there");
        say("open");
        hear();
        let joined = ring.consumer("book").join();
        match &joined {
            Ok(_) => {
                let there = fs::metadata(ring.path().expect("it has one"));
                say(format!("joined {}", there.expect("it has its name").ino()));
            }
            Err(error) => {
                assert!(error.to_string().ends_with(REMOVED), "{error}");
                say("told");
            }
        }
        hear();
        drop(joined);
        say("left");
    }
}

//! Names that go, or lead to another ring, while the ring is used.

use std::fs;
use std::hint::spin_loop;
use std::os::unix::fs::MetadataExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annulus_ipc::{Cause, Directory, Plain, Segment};
use annulus_ring::{Ended, JoinError, ProducerError, Producers, Ring};

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

// ---------------------------------------------------------------------------------------------
// Rings that are over
// ---------------------------------------------------------------------------------------------

fn open_or_create<T: Plain>(place: &Place, capacity: usize) -> Segment<T> {
    let builder = Segment::builder(capacity).directory(place.directory().clone());
    builder
        .open_or_create("ring")
        .expect("it is opened or made")
}

/// Whether what `open_or_create` gives now is a fresh ring that can be used.
fn is_made_anew(place: &Place) -> bool {
    let ring = open_or_create::<u64>(place, 8);
    let is_fresh = !ring.is_closed();
    assert_eq!(ring.producer().is_ok(), is_fresh);
    assert_eq!(ring.snapshot().published == 0, is_fresh);
    is_fresh
}

#[test]
fn d26_a_ring_that_was_closed_and_that_nobody_uses_is_made_anew_also_of_another_kind() {
    let place = Place::new();
    let yesterday = place.create::<u64>("ring", 8);
    yesterday
        .producer()
        .expect("it joins")
        .publish_value(7)
        .expect("nobody gates");
    assert!(!yesterday.is_closed() && !is_made_anew_of(&place, &yesterday));
    yesterday.close();
    let today = open_or_create::<u64>(&place, 16);
    assert_eq!((today.capacity(), today.snapshot().published), (16, 0));
    assert!(yesterday.is_unlinked() && !today.is_unlinked());

    today.close();
    let other = open_or_create::<[u32; 3]>(&place, 8);
    drop(other.producer().expect("it is open"));
    let error = place
        .directory()
        .open::<u64>("ring")
        .expect_err("it is another");
    assert!(matches!(error.cause, Cause::Type { .. }), "{error}");
}

/// Whether it is another than this one, which is open.
fn is_made_anew_of(place: &Place, ring: &Segment<u64>) -> bool {
    let opened = open_or_create::<u64>(place, 8);
    opened.snapshot() != ring.snapshot() || ring.is_unlinked()
}

#[test]
fn d26_a_ring_that_was_closed_stays_as_long_as_somebody_reads_it_or_may_come_to_read_the_rest() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let book = ring.consumer("book").join().expect("it joins");
    let mut journal = Player::start("member", &[place.path(), "ring"]);
    assert_eq!(journal.says(), "ok open");
    journal.does("join journal hold");
    ring.producer()
        .expect("it joins")
        .publish_value(7)
        .expect("there is room");
    ring.close();
    assert!(!is_made_anew(&place), "two live");
    journal.kill();
    assert!(!is_made_anew(&place), "one lives");
    drop(book);
    assert!(!is_made_anew(&place), "one is held");
    let late = ring.consumer("late").join().expect_err("it is closed");
    assert!(
        late.to_string()
            .contains("`open_or_create` does, once the last member has gone"),
        "{late}"
    );

    // The successor reads the rest.
    let mut journal = open_or_create::<u64>(&place, 8)
        .consumer("journal")
        .join()
        .expect("it succeeds");
    assert_eq!(journal.next_batch().expect("an event")[0], 7);
    assert!(!is_made_anew(&place), "it lives");
    assert_eq!(journal.next_batch().map(drop), Err(Ended::Closed));
    drop(journal);
    assert!(is_made_anew(&place));
}

#[test]
fn d26_a_ring_that_was_closed_stays_for_what_is_held_behind_the_claim_of_a_dead_producer() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(8).producers(Producers::Many));
    let mut dead = Player::start("member", &[place.path(), "ring"]);
    assert_eq!(dead.says(), "ok open");
    dead.does("join journal hold");
    dead.does("feed");
    dead.does("claim 1");
    let mut feed = ring.shared_producer().expect("it joins");
    feed.publish_value(7).expect("there is room");
    drop(feed);
    dead.kill();
    ring.close();
    let builder = Segment::builder(Ring::builder(8).producers(Producers::Many));
    let builder = builder.directory(place.directory().clone());
    // Nor does a program that has another type of events remove it.
    let error = builder
        .open_or_create::<u32>("ring")
        .expect_err("it is another");
    assert!(matches!(error.cause, Cause::Type { .. }), "{error}");
    let opened = builder.open_or_create::<u64>("ring").expect("it is there");
    let mut journal = opened.consumer("journal").join().expect("it succeeds");
    assert_eq!(
        journal.next_batch_deadline(deadline()).expect("an event")[0],
        7
    );
    assert_eq!(journal.skipped(), 1);
    assert_eq!(journal.next_batch().map(drop), Err(Ended::Closed));
    drop(journal);
    let anew = builder.open_or_create::<u32>("ring").expect("it is over");
    assert!(!anew.is_closed());
}

#[test]
fn d26_a_ring_whose_only_producer_has_died_before_it_closed_as_it_was_asked_to_is_made_anew() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let mut feed = Player::start("member", &[place.path(), "ring"]);
    assert_eq!(feed.says(), "ok open");
    feed.does("feed");
    feed.does("publish 7 1");
    ring.close();
    assert!(!ring.is_closed());
    feed.kill();
    assert!(is_made_anew(&place));
}

#[test]
fn d26_twenty_threads_that_find_a_ring_over_make_one_anew() {
    let place = Place::new();
    place.create::<u64>("ring", 8).close();
    for _ in 0..20 {
        let start = Barrier::new(20);
        let rings: Vec<Segment<u64>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        open_or_create::<u64>(&place, 8)
                    })
                })
                .collect();
            let rings = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            rings.collect()
        });
        let _feed = rings[0].producer().expect("it is open");
        for ring in &rings {
            assert!(!ring.is_unlinked());
            assert_eq!(ring.snapshot().members.len(), 1);
        }
        drop(_feed);
        rings[0].close();
    }
}

#[test]
fn d27_who_joins_a_ring_that_is_removed_meanwhile_opens_it_anew_until_it_is_in_one() {
    let place = Place::new();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let remover = scope.spawn(|| {
            let mut removed = 0;
            while !is_done.load(Ordering::Relaxed) {
                removed += u32::from(place.directory().unlink_unused("ring").is_ok());
            }
            removed
        });
        let mut again = 0;
        for n in 0..500 {
            let mut feed = loop {
                let ring = open_or_create::<u64>(&place, 8);
                match ring.producer() {
                    Err(_) if ring.is_unlinked() => again += 1,
                    feed => break feed.expect("it is there"),
                }
            };
            feed.publish_value(n).expect("nobody gates");
            assert!(!feed.is_unlinked());
        }
        is_done.store(true, Ordering::Relaxed);
        let removed = remover.join().expect("no panic");
        println!("removed {removed} times, opened again {again} times");
    });
}

// ---------------------------------------------------------------------------------------------
// Told by whom to ask
// ---------------------------------------------------------------------------------------------

#[test]
fn d28_members_can_ask_whether_the_name_still_leads_to_their_ring() {
    for how in ["removed", "replaced", "renamed"] {
        let place = Place::new();
        let path = |name: &str| place.directory().as_path().join(name);
        let ring = place.create::<u64>("ring", Ring::builder(8).observable());
        let first = ring.producer().expect("it joins");
        let book = ring.consumer("book").join().expect("it joins");
        let enrich = ring
            .consumer("enrich")
            .after(["book"])
            .join_mut()
            .expect("it joins");
        let view = place.directory().view::<u64>("ring").expect("it is there");
        let told = || {
            [
                ring.is_unlinked(),
                first.is_unlinked(),
                book.is_unlinked(),
                enrich.is_unlinked(),
                view.is_unlinked(),
            ]
        };
        assert_eq!(told(), [false; 5], "{how}");
        match how {
            "removed" => place.directory().unlink("ring").expect("it is there"),
            "renamed" => fs::rename(path("ring"), path("old")).expect("it is ours"),
            _ => {
                drop(place.create::<u64>("next", 8));
                fs::rename(path("next"), path("ring")).expect("it is ours");
            }
        }
        assert_eq!(told(), [true; 5], "{how}");
        // Two "only" producers: the first is told, and the second is where the name leads.
        let anew = open_or_create::<u64>(&place, 8);
        let second = anew.producer().expect("it is the only one there");
        assert_eq!(
            (first.is_unlinked(), second.is_unlinked()),
            (true, false),
            "{how}"
        );
    }
    let nameless = Segment::<u64>::anonymous(8).expect("there is memory");
    assert!(!nameless.producer().expect("it joins").is_unlinked());
}

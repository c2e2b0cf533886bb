//! Looking on without the right to write.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use annulus_ipc::{Cause, Directory, Segment};
use annulus_ring::{Ended, NotReady, Producers, Ring};

use crate::members::Feed;
use crate::place::Place;
use crate::roles::{Player, Role, hear, say};
use crate::{deadline, system};

pub(crate) const ROLES: &[Role] = &[("watcher", watch), ("one who looks away", look_away)];

const KINDS: [Producers; 2] = [Producers::One, Producers::Many];

/// A ring with a producer that goes on, whose file nobody may write to who opens it from now on.
fn readable(place: &Place, kind: Producers, capacity: usize) -> (Segment<u64>, Feed) {
    let ring = Ring::builder(capacity).producers(kind).observable();
    let builder = Segment::builder(ring).directory(place.directory().clone());
    let ring = builder
        .mode(0o644)
        .create("ring")
        .expect("a ring can be created");
    let feed = Feed::join(&ring).expect("it joins");
    let read_only = fs::Permissions::from_mode(0o444);
    fs::set_permissions(ring.path().expect("it has a name"), read_only).expect("it is ours");
    (ring, feed)
}

/// Becomes one whom the permissions of files bind.
fn be_bound() {
    if system::is_root() {
        system::become_user(65_534, 65_534, &[]);
    }
}

#[test]
fn d8_who_may_only_read_the_file_observes_the_ring_and_counts_exactly_what_it_missed() {
    const EVENTS: u64 = 50_000;
    for kind in KINDS {
        let place = Place::new();
        let (ring, mut feed) = readable(&place, kind, 64);
        let mut watcher = Player::start("watcher", &[place.path()]);
        assert_eq!(watcher.says(), "ready");
        let mut skipped = 0;
        for n in 0..EVENTS {
            if kind == Producers::Many && n % 100 == 99 {
                drop(feed.producer().claim(1).expect("nobody gates")); // It carries no event.
                skipped += 1;
            } else {
                feed.producer().publish_value(n).expect("nobody gates");
            }
        }
        drop(feed);
        ring.close();
        let said = watcher.says();
        let counts: Vec<u64> = said
            .split(' ')
            .map(|count| count.parse().expect("a number"))
            .collect();
        let (seen, missed, stepped_over) = (counts[0], counts[1], counts[2]);
        assert_eq!(seen + missed + stepped_over, EVENTS, "{said}");
        assert!(stepped_over <= skipped && seen > 0, "{said}");
        assert!(ring.snapshot().members.is_empty());
    }
}

fn watch(words: &[&str]) {
    be_bound();
    let directory = Directory::at(words[0]);
    let error = directory.open::<u64>("ring").expect_err("it may only read");
    assert!(matches!(error.cause, Cause::NotAllowed), "{error}");
    let view = directory.view::<u64>("ring").expect("it may read");
    let maps = fs::read_to_string("/proc/self/maps").expect("it is Linux");
    let own: Vec<&str> = maps
        .lines()
        .filter(|line| line.contains(words[0]))
        .collect();
    assert!(
        !own.is_empty() && own.iter().all(|map| map.contains(" r--s ")),
        "{own:?}"
    );

    let mut tap = view.observer().expect("it is observable");
    say("ready");
    let (mut seen, mut next) = (0, 0);
    let ended = loop {
        match tap.next_deadline(deadline()) {
            Ok((sequence, event)) => {
                assert_eq!(sequence, event);
                assert!(sequence >= next, "{sequence} comes behind {next}");
                next = sequence + 1;
                seen += 1;
                if seen % 1_000 == 0 {
                    std::thread::yield_now(); // It is lapped now and then.
                }
            }
            Err(ended) => break ended,
        }
    };
    assert_eq!(ended, NotReady::Closed);
    assert_eq!(tap.next(), Err(Ended::Closed));
    assert!(view.is_closed());
    say(format!("{seen} {} {}", tap.missed(), tap.skipped()));
    hear();
}

#[test]
fn d8_a_producer_does_not_wait_for_observers_whether_they_look_away_stop_or_die() {
    for kind in KINDS {
        let place = Place::new();
        let (ring, mut feed) = readable(&place, kind, 8);
        let mut looking_away = Player::start("one who looks away", &[place.path()]);
        let mut stopped = Player::start("one who looks away", &[place.path()]);
        let mut dead = Player::start("one who looks away", &[place.path()]);
        for player in [&mut looking_away, &mut stopped, &mut dead] {
            assert_eq!(player.says(), "ready");
        }
        // SAFETY: numbers; of a process that was started for this.
        unsafe { libc::kill(stopped.id() as i32, libc::SIGSTOP) };
        dead.kill();
        for n in 0..1_000 {
            feed.producer()
                .try_publish_value(n)
                .expect("nobody holds it up");
        }
        let members = ring.snapshot().members;
        assert_eq!(members.len(), 1, "they are no members: {members:?}");
        // SAFETY: as above.
        unsafe { libc::kill(stopped.id() as i32, libc::SIGCONT) };
        for player in [&mut looking_away, &mut stopped] {
            let said = player.ask("look");
            let counts: Vec<u64> = said
                .split(' ')
                .map(|n| n.parse().expect("a number"))
                .collect();
            let [first, missed, sum] = counts[..] else {
                panic!("{said}");
            };
            assert_eq!((missed, sum), (first, 1_000), "{said}");
        }
    }
}

fn look_away(words: &[&str]) {
    be_bound();
    let view = Directory::at(words[0])
        .view::<u64>("ring")
        .expect("it may read");
    let mut tap = view.observer().expect("it is observable");
    say("ready");
    hear();
    let (first, event) = tap.try_next().expect("something is there");
    assert_eq!(first, event);
    let mut seen = 1;
    while let Ok((sequence, event)) = tap.try_next() {
        assert_eq!(sequence, event);
        seen += 1;
    }
    say(format!("{first} {} {}", tap.missed(), tap.missed() + seen));
    hear();
}

#[test]
fn d8_a_view_shows_what_there_is_and_takes_no_row() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(8).members(2).observable());
    let _feed = ring.producer().expect("it joins");
    let _book = ring.consumer("book").join().expect("the last row");
    let view = place.directory().view::<u64>("ring").expect("it is there");
    let _taps: Vec<_> = (0..10)
        .map(|_| view.observer().expect("it takes no row"))
        .collect();
    assert_eq!(view.snapshot(), ring.snapshot());
    assert_eq!(
        place
            .directory()
            .inspect("ring")
            .expect("it is there")
            .snapshot(),
        ring.snapshot()
    );
    let other = place.create::<u64>("other", 8);
    let view = place.directory().view::<u64>("other").expect("it is there");
    let error = view.observer().expect_err("it was not built for that");
    assert!(error.to_string().contains(".observable()"), "{error}");
    drop(other);
}

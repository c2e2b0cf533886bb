//! Watching: what a snapshot says.

use std::mem;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{Member, MemberKind, Ring};

use crate::{KINDS, consumer, feed, fronts, publish, publish_batch, read, ring, rings, stage};

/// The member of this name.
fn member(ring: &Ring<u64>, name: &str) -> Member {
    let mut members = ring.snapshot().members.into_iter();
    members.find(|member| member.name == name).unwrap()
}

#[test]
fn a_new_ring_is_empty_and_open() {
    for (_, capacity, ring) in rings() {
        let snapshot = ring.snapshot();
        assert_eq!(snapshot.capacity, capacity);
        assert_eq!(fronts(&ring), (0, 0));
        assert!(!snapshot.closed && snapshot.members.is_empty());
    }
}

#[test]
fn members_are_listed_with_their_kinds_until_they_leave() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let first = consumer(&ring, "first");
        let second = stage(&ring, "second", &["first"]);
        let mut feed = feed(&ring);
        let kinds = || {
            let members = ring.snapshot().members.into_iter();
            let listed: Vec<_> = members.map(|m| (m.name, m.kind)).collect();
            listed
        };
        let is = |name: &str, kind| (name.to_owned(), kind);
        let stage_and_producer = [
            is("second", MemberKind::Stage),
            is("", MemberKind::Producer),
        ];
        assert_eq!(kinds()[0], is("first", MemberKind::Consumer));
        assert_eq!(kinds()[1..], stage_and_producer);
        publish(&mut feed, 1);
        drop(first);
        assert_eq!(kinds(), stage_and_producer);
        drop(feed);
        assert_eq!(kinds(), stage_and_producer[..1]);
        assert!(ring.snapshot().closed);
        drop(second);
        assert_eq!(kinds(), []);
    }
}

#[test]
fn a_consumer_lags_by_what_it_has_not_released() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut other = consumer(&ring, "other");
        let mut feed = feed(&ring);
        for lap in 0..3 {
            publish_batch(&mut feed, 8);
            read(&mut other);
            let mut batch = reader.try_next_batch().unwrap();
            batch.release(3);
            let seen = member(&ring, "reader");
            assert_eq!((seen.position, seen.lag), (8 * lap + 3, 5));
            drop(batch);
            let seen = member(&ring, "other");
            assert_eq!((seen.position, seen.lag), (8 * lap + 8, 0));
        }
    }
}

#[test]
fn what_is_claimed_and_not_published_shows_with_many_producers() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        let claim = feed.claim(3).unwrap();
        let claimed = if kind == One { 2 } else { 5 };
        assert_eq!(fronts(&ring), (claimed, 2));
        claim.publish();
        assert_eq!(fronts(&ring), (5, 5));
        assert_eq!(reader.try_next_batch().unwrap().len(), 5);
    }
}

#[test]
fn skipped_sequences_are_counted_for_both_sides() {
    let ring = ring(8, Many);
    let mut reader = consumer(&ring, "reader");
    let mut feed = feed(&ring);
    drop(feed.claim(2).unwrap());
    mem::forget(feed.claim(1).unwrap());
    publish(&mut feed, 1);
    assert_eq!(member(&ring, "").skipped, 3);
    assert_eq!(member(&ring, "reader").skipped, 0);
    read(&mut reader);
    assert_eq!(member(&ring, "reader").skipped, 3);
    assert_eq!(fronts(&ring), (4, 4));
}

/// Also a lap and more after the last consumer has left.
#[test]
fn the_front_is_found_with_few_no_and_former_consumers() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        let mut published = 0;
        let mut more = |count: usize| {
            publish(&mut feed, count);
            published += count as u64;
            assert_eq!(fronts(&ring), (published, published));
        };
        more(capacity);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(1);
        batch.give_back();
        more(1);
        drop(reader);
        (0..3 * capacity).for_each(|_| more(1));
        more(capacity);
    }
}

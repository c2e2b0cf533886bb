//! Holding: events that are kept beyond their batch, and released by their sequence. Conflating: going on
//! with the last event that is there.

use std::mem;
use std::thread;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{ClaimError, Consumer, NotReady, Sequence, Start, Wait};

use crate::{
    KINDS, LAYOUTS, Random, consumer, drain, feed, handle_all, in_a_minute, not_ready,
    parking_ring, publish, publish_batch, read, ring, ring_in, rings, rounds, stage, with_wait,
};

/// The sequences that it holds, each of which is the event as well.
fn held(consumer: &Consumer<u64>) -> Vec<Sequence> {
    let check = |(sequence, event): (Sequence, &u64)| {
        assert_eq!(*event, sequence);
        sequence
    };
    consumer.held().map(check).collect()
}

/// Takes what is there and holds it; returns how much that was.
fn hold(consumer: &mut Consumer<u64>) -> usize {
    match consumer.try_next_batch() {
        Ok(batch) => {
            let len = batch.len();
            batch.hold();
            len
        }
        Err(_) => 0,
    }
}

#[test]
fn what_is_held_is_not_given_again_and_not_overwritten_until_it_is_released() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        let full = Err(ClaimError::Full { free: 0 });
        for lap in 0..3 {
            let first = (lap * capacity) as Sequence;
            assert_eq!(held(&reader), []);
            for sequence in first..first + capacity as Sequence {
                publish(&mut feed, 1);
                assert_eq!(hold(&mut reader), 1);
                assert_eq!(held(&reader), Vec::from_iter(first..=sequence));
            }
            assert_eq!(not_ready(&mut reader), NotReady::Idle);
            assert_eq!(reader.position(), first);
            assert_eq!(ring.snapshot().members[0].lag, capacity as u64);
            assert_eq!(feed.try_publish(|_| unreachable!()), full);
            for released in 1..=capacity {
                let end = first + released as Sequence;
                reader.release_until(end);
                assert_eq!(reader.position(), end);
                assert_eq!(held(&reader).len(), capacity - released);
                assert_eq!(feed.free(), Ok(released));
            }
        }
    }
}

#[test]
fn release_until_goes_neither_back_nor_beyond_what_was_given() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = ring.consumer("reader").batch_limit(2).join().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 8);
        reader.release_until(5);
        assert_eq!(reader.position(), 0);
        hold(&mut reader);
        hold(&mut reader);
        for (asked, left) in [(0, 0..4), (1, 1..4), (0, 1..4), (3, 3..4), (7, 4..4)] {
            reader.release_until(asked);
            assert_eq!(reader.position(), left.start);
            assert_eq!(held(&reader), Vec::from_iter(left));
        }
        reader.release_until(Sequence::MAX);
        assert_eq!(reader.position(), 4);
        assert_eq!(reader.try_next_batch().unwrap().sequences(), 4..6);
        assert_eq!(read(&mut reader), [6, 7]);
        assert_eq!(feed.free(), Ok(8));
    }
}

#[test]
fn the_batch_limit_is_of_each_batch_and_not_of_what_is_held() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = ring.consumer("reader").batch_limit(3).join().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        publish_batch(&mut feed, 4);
        for (sequences, backlog) in [(0..3, 8), (3..6, 5), (6..8, 2)] {
            let batch = reader.try_next_batch().unwrap();
            assert_eq!((batch.sequences(), batch.backlog()), (sequences, backlog));
            batch.hold();
        }
        assert_eq!(held(&reader), [0, 1, 2, 3, 4, 5, 6, 7]);
        reader.release_until(5); // Inside of a batch.
        assert_eq!(held(&reader), [5, 6, 7]);
    }
}

/// Until nothing is held any more.
#[test]
fn while_something_is_held_a_batch_that_is_dropped_is_held_too() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for first in (0..rounds(80, 20)).step_by(4) {
            publish(&mut feed, 1);
            hold(&mut reader);
            publish(&mut feed, 2);
            assert_eq!(read(&mut reader), [first + 1, first + 2]);
            assert_eq!(reader.position(), first);
            assert_eq!(held(&reader), [first, first + 1, first + 2]);
            reader.release_until(first + 3);
            publish(&mut feed, 1);
            assert_eq!(read(&mut reader), [first + 3]);
            assert_eq!((reader.position(), feed.free()), (first + 4, Ok(8)));
        }
    }
}

#[test]
fn what_a_batch_has_released_is_not_held() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 6);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(2);
        batch.hold();
        assert_eq!((held(&reader), feed.free()), (vec![2, 3, 4, 5], Ok(4)));
        reader.release_until(6);
        assert_eq!((held(&reader), feed.free()), (vec![], Ok(8)));
    }
}

#[test]
fn what_is_given_back_or_forgotten_is_not_held() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = ring.consumer("reader").batch_limit(2).join().unwrap();
        publish_batch(&mut feed(&ring), 6);
        hold(&mut reader);
        reader.try_next_batch().unwrap().give_back();
        assert_eq!(held(&reader), [0, 1]);
        mem::forget(reader.try_next_batch().unwrap());
        assert_eq!(held(&reader), [0, 1]);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(1); // Two are held before it, so this one is as well.
        batch.give_back();
        assert_eq!((reader.position(), held(&reader)), (0, vec![0, 1, 2]));
        assert_eq!(read(&mut reader), [3, 4, 5]);
        reader.release_until(6);
        assert_eq!(reader.position(), 6);
    }
}

#[test]
fn an_empty_batch_holds_nothing() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 3);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(3);
        batch.hold();
        assert_eq!(held(&reader), []);
        publish(&mut feed, 1);
        assert_eq!(read(&mut reader), [3]);
        assert_eq!(feed.free(), Ok(4));
    }
}

#[test]
fn a_later_stage_gets_what_lies_before_the_first_that_is_held() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut journal = consumer(&ring, "journal");
        let mut reply = stage(&ring, "reply", &["journal"]);
        publish(&mut feed(&ring), 8);
        assert_eq!(hold(&mut journal), 8);
        assert_eq!(not_ready(&mut reply), NotReady::Gated);
        for end in [1, 2, 5, 8] {
            journal.release_until(end);
            assert_eq!(read(&mut reply).last(), Some(&(end - 1)));
        }
    }
}

/// The claims were dropped, so there are no events to hold; and the positions never stop inside of one.
#[test]
fn what_is_skipped_is_not_held() {
    for released_at in 0..=12 {
        let ring = ring(16, Many);
        let mut reader = consumer(&ring, "reader");
        let mut next = stage(&ring, "next", &["reader"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 2);
        drop(feed.claim(3).unwrap());
        drop(feed.claim(1).unwrap());
        publish_batch(&mut feed, 2);
        publish(&mut feed, 1);
        drop(feed.claim(2).unwrap());
        publish(&mut feed, 1);
        let all = [0, 1, 6, 7, 8, 11];
        while hold(&mut reader) > 0 {}
        assert_eq!((held(&reader), reader.skipped()), (all.to_vec(), 6));

        reader.release_until(released_at);
        let (gone, kept): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|event| *event < released_at);
        assert_eq!(held(&reader), kept);
        let position = kept.first().copied().unwrap_or(12);
        assert_eq!(read(&mut next), gone);
        assert_eq!((reader.position(), next.position()), (position, position));
        assert_eq!(feed.free(), Ok(position as usize + 4));
        reader.release_until(12);
        assert_eq!(read(&mut next), kept);
        assert_eq!(next.skipped(), 6);
    }
}

/// With nothing but a skipped claim behind the last event that was held, nothing is held.
#[test]
fn a_skipped_claim_alone_does_not_go_on_being_held() {
    let ring = ring(8, Many);
    let mut reader = consumer(&ring, "reader");
    let mut feed = feed(&ring);
    for first in (0..rounds(64, 16)).step_by(4) {
        publish(&mut feed, 1);
        hold(&mut reader);
        drop(feed.claim(2).unwrap());
        assert_eq!(not_ready(&mut reader), NotReady::Idle); // Steps over them.
        reader.release_until(first + 1);
        publish(&mut feed, 1);
        assert_eq!(read(&mut reader), [first + 3]);
        assert_eq!((reader.position(), feed.free()), (first + 4, Ok(8)));
    }
}

/// One that starts inside of a batch, too, which it can with one producer.
#[test]
fn a_consumer_that_joined_late_holds_as_the_others_do() {
    for layout in LAYOUTS {
        let ring = ring_in(layout, 8, One);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 5);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(2);
        batch.give_back();
        for (start, first) in [(Start::Oldest, 2), (Start::At(3), 3), (Start::Next, 5)] {
            let mut late = ring.consumer("late").start(start).join().unwrap();
            hold(&mut late);
            assert_eq!(held(&late), Vec::from_iter(first..5));
            late.release_until(4);
            assert_eq!(held(&late), Vec::from_iter(first.max(4)..5));
        }
    }
}

#[test]
fn a_consumer_that_leaves_holds_nothing_any_more() {
    for (_, capacity, ring) in rings() {
        let mut feed = feed(&ring);
        for _ in 0..3 {
            let mut reader = consumer(&ring, "reader");
            assert_eq!(not_ready(&mut reader), NotReady::Idle);
            publish(&mut feed, capacity);
            while hold(&mut reader) > 0 {}
            assert_eq!(held(&reader).len(), capacity);
            drop(reader);
            publish(&mut feed, capacity);
        }
    }
}

#[test]
fn what_is_held_can_be_read_after_the_close_and_after_poison() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut next = stage(&ring, "next", &["reader"]);
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        while hold(&mut reader) > 0 {}
        drop(feed);
        assert_eq!(not_ready(&mut reader), NotReady::Closed);
        assert_eq!(not_ready(&mut next), NotReady::Gated);
        assert_eq!(held(&reader).len(), capacity);
        reader.release_until(1);
        assert_eq!(read(&mut next), [0]);
        ring.poison(1);
        assert_eq!(held(&reader).len(), capacity - 1);
    }
}

/// The journal has writes in flight: it releases each event some events later, while producers wait for
/// room and a stage for what it releases.
#[test]
fn events_are_held_while_everything_runs() {
    const EVENTS_EACH: u64 = rounds(5_000, 20);
    for wait in [Wait::default(), Wait::Park] {
        for (kind, producers) in [(One, 1), (Many, 3)] {
            let ring = parking_ring(16, kind);
            let mut journal = ring.consumer("journal").wait(wait).join().unwrap();
            let reply = ring.consumer("reply").after(["journal"]).wait(wait);
            let mut reply = reply.join().unwrap();
            let replying = thread::spawn(move || {
                let mut replied = 0;
                handle_all(&mut reply, |sequence, event, _| {
                    assert_eq!(*event, sequence);
                    replied += 1;
                });
                (replied, reply.skipped())
            });
            let feeds = Vec::from_iter((0..producers).map(|_| with_wait(feed(&ring), wait)));
            let feeding: Vec<_> = (feeds.into_iter().zip(1..))
                .map(|(mut feed, seed)| {
                    thread::spawn(move || {
                        let mut random = Random(seed);
                        let mut left = EVENTS_EACH;
                        while left > 0 {
                            let n = left.min(1 + random.below(4));
                            let claim = feed.claim_deadline(n as usize, in_a_minute());
                            let mut claim = claim.unwrap();
                            if random.below(4) == 0 {
                                continue; // Dropped.
                            }
                            let sequences = claim.sequences();
                            let slots = claim.iter_mut().zip(sequences);
                            slots.for_each(|(slot, sequence)| *slot = sequence);
                            claim.publish();
                            left -= n;
                        }
                    })
                })
                .collect();
            let mut random = Random(99);
            let mut journaled = 0;
            loop {
                // At random, but some if the ring is full of them.
                let in_flight = held(&journal).len() as u64;
                if in_flight > random.below(12) {
                    let done = 1 + random.below(in_flight) as usize;
                    let first_kept = journal.held().nth(done).map(|(sequence, _)| sequence);
                    journal.release_until(first_kept.unwrap_or(Sequence::MAX));
                }
                match journal.try_next_batch() {
                    Ok(mut batch) => {
                        journaled += batch.len() as u64;
                        batch.release(random.below(2) as usize);
                        batch.hold();
                    }
                    Err(NotReady::Closed) => break,
                    Err(_) => thread::yield_now(),
                }
            }
            journal.release_until(Sequence::MAX);
            drop(journal);
            feeding.into_iter().for_each(|feed| feed.join().unwrap());
            let (replied, skipped) = replying.join().unwrap();
            assert_eq!((replied, journaled), (producers * EVENTS_EACH, replied));
            assert_eq!(skipped > 0, kind == Many);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Conflating
// ---------------------------------------------------------------------------------------------

#[test]
fn skip_to_latest_leaves_the_last_event_that_is_there() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        let mut end = 0;
        for lap in 0..5 {
            assert_eq!(reader.skip_to_latest(), 0);
            if lap % 2 == 0 {
                publish(&mut feed, capacity);
            } else {
                publish_batch(&mut feed, capacity);
            }
            end += capacity as Sequence;
            for dropped in [capacity as u64 - 1, 0, 0] {
                assert_eq!(reader.skip_to_latest(), dropped);
                assert_eq!(reader.position(), end - 1);
            }
            assert_eq!(feed.free(), Ok(capacity - 1));
            assert_eq!(read(&mut reader), [end - 1]);
        }
    }
}

#[test]
fn skip_to_latest_stops_at_a_hole() {
    let ring = ring(8, Many);
    let mut reader = consumer(&ring, "reader");
    let [mut stopped, mut other] = [(); 2].map(|()| feed(&ring));
    publish(&mut other, 3);
    let mut hole = stopped.claim(1).unwrap();
    publish(&mut other, 2);
    assert_eq!(reader.skip_to_latest(), 2);
    assert_eq!(reader.position(), 2);
    hole[0] = 3;
    hole.publish();
    assert_eq!(reader.skip_to_latest(), 3);
    assert_eq!(read(&mut reader), [5]);
}

/// What is skipped behind the last event does not make it the less the last.
#[test]
fn skip_to_latest_steps_over_what_carries_no_event() {
    let ring = ring(16, Many);
    let mut reader = consumer(&ring, "reader");
    let mut feed = feed(&ring);
    drop(feed.claim(2).unwrap());
    assert_eq!(reader.skip_to_latest(), 0);
    assert_eq!((reader.position(), reader.skipped()), (2, 2));
    publish(&mut feed, 2);
    drop(feed.claim(3).unwrap());
    publish(&mut feed, 1);
    drop(feed.claim(1).unwrap());
    drop(feed.claim(1).unwrap());
    assert_eq!(reader.skip_to_latest(), 2);
    assert_eq!((reader.position(), reader.skipped()), (7, 5));
    assert_eq!(drain(&mut reader), (vec![7], NotReady::Idle));
    assert_eq!(reader.skipped(), 7);
}

#[test]
fn skip_to_latest_of_a_stage_goes_as_far_as_the_one_before_it() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut first = consumer(&ring, "first");
        let mut second = stage(&ring, "second", &["first"]);
        let mut feed = feed(&ring);
        publish(&mut feed, 4);
        publish_batch(&mut feed, 4);
        assert_eq!(second.skip_to_latest(), 0);
        let mut batch = first.try_next_batch().unwrap();
        for (released, dropped) in [(1, 0), (2, 2), (3, 3), (2, 2)] {
            batch.release(released);
            assert_eq!(second.skip_to_latest(), dropped);
            assert_eq!(second.skip_to_latest(), 0);
        }
        assert_eq!(read(&mut second), [7]);
    }
}

#[test]
fn skip_to_latest_leaves_what_is_held() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        hold(&mut reader);
        publish(&mut feed, 4);
        assert_eq!(reader.skip_to_latest(), 3);
        assert_eq!(reader.position(), 0);
        assert_eq!(held(&reader)[..2], [0, 1]);
        assert_eq!(reader.try_next_batch().unwrap().sequences(), 5..6);
        reader.release_until(6);
        assert_eq!((reader.position(), feed.free()), (6, Ok(8)));
    }
}

#[test]
fn skip_to_latest_of_a_closed_ring_leaves_its_last_event() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        drop(feed);
        assert_eq!(reader.skip_to_latest(), capacity as u64 - 1);
        let last = capacity as Sequence - 1;
        assert_eq!(drain(&mut reader), (vec![last], NotReady::Closed));
        assert_eq!(reader.skip_to_latest(), 0);
    }
}

/// A screen that shows the latest of what producers publish as fast as they can: never an older one after
/// a newer one, and in the end the last of all.
#[test]
fn skip_to_latest_keeps_up_while_everything_runs() {
    const EVENTS_EACH: u64 = rounds(20_000, 20);
    for (kind, producers) in [(One, 1), (Many, 2)] {
        let ring = ring(64, kind);
        let mut screen = consumer(&ring, "screen");
        let feeds = Vec::from_iter((0..producers).map(|_| feed(&ring)));
        let feeding: Vec<_> = (feeds.into_iter())
            .map(|mut feed| {
                thread::spawn(move || {
                    for _ in 0..EVENTS_EACH {
                        let mut claim = feed.claim_deadline(1, in_a_minute()).unwrap();
                        claim[0] = claim.sequences().start;
                        claim.publish();
                    }
                })
            })
            .collect();
        let (mut next, mut shown, mut dropped) = (0, 0, 0);
        loop {
            let more = screen.skip_to_latest();
            dropped += more;
            match screen.next_batch_deadline(in_a_minute()) {
                Ok(mut batch) => {
                    let (sequence, event) = batch.with_sequences().next().unwrap();
                    assert_eq!((*event, sequence), (sequence, next + more));
                    next = sequence + 1;
                    shown += 1;
                    batch.release(1);
                    batch.give_back();
                }
                Err(NotReady::Closed) => break,
                Err(why) => panic!("{why}"),
            }
        }
        assert_eq!((next, shown + dropped), (producers * EVENTS_EACH, next));
        feeding.into_iter().for_each(|feed| feed.join().unwrap());
    }
}

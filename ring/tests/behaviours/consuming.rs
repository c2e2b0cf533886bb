//! Consuming: batches, what they release, and why there is none.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use annulus_ring::Producers::Many;
use annulus_ring::{ClaimError, Ended, NotReady};

use crate::{
    KINDS, consumer, drain, feed, give_up, gives_up, in_a_minute, not_ready, publish,
    publish_batch, read, ring, rings, stage,
};

#[test]
fn a6_a_poll_answers_idle_then_events_and_drains_a_full_ring() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        let mut feed = feed(&ring);
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        publish(&mut feed, capacity);
        let batch = reader.try_next_batch().unwrap();
        assert_eq!(batch.sequences(), 0..capacity as u64);
        drop(batch);
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        drop(feed);
        assert_eq!(not_ready(&mut reader), NotReady::Closed);
    }
}

#[test]
fn a6_a_poll_of_a_stage_answers_gated_while_the_one_before_is_not_done() {
    for (_, capacity, ring) in rings() {
        let mut first = consumer(&ring, "first");
        let mut second = stage(&ring, "second", &["first"]);
        let mut feed = feed(&ring);
        assert_eq!(not_ready(&mut second), NotReady::Idle);
        publish(&mut feed, capacity);
        assert_eq!(not_ready(&mut second), NotReady::Gated);
        assert_eq!(read(&mut first).len(), capacity);
        assert_eq!(read(&mut second).len(), capacity);
        assert_eq!(not_ready(&mut second), NotReady::Idle);
    }
}

/// However the five were published.
#[test]
fn a13_five_events_at_most_three_a_batch_are_three_and_two() {
    for kind in KINDS {
        for in_one_batch in [false, true] {
            let ring = ring(8, kind);
            let mut reader = ring.consumer("reader").batch_limit(3).join().unwrap();
            let mut feed = feed(&ring);
            for lap in 0..10 {
                if in_one_batch {
                    publish_batch(&mut feed, 5);
                } else {
                    publish(&mut feed, 5);
                }
                let first = 5 * lap;
                let batch = reader.try_next_batch().unwrap();
                assert_eq!(
                    batch.iter().collect::<Vec<_>>(),
                    [&first, &(first + 1), &(first + 2)]
                );
                assert_eq!((batch.len(), batch.backlog()), (3, 5));
                drop(batch);
                let batch = reader.next_batch().unwrap();
                assert_eq!(
                    batch.iter().collect::<Vec<_>>(),
                    [&(first + 3), &(first + 4)]
                );
                assert_eq!((batch.len(), batch.backlog()), (2, 2));
            }
        }
    }
}

#[test]
fn a14_a_reader_stops_at_the_first_hole_and_goes_on_when_it_is_filled() {
    let ring = ring(8, Many);
    let mut reader = consumer(&ring, "reader");
    let mut feeds = [(); 3].map(|()| feed(&ring));
    publish(&mut feeds[0], 3);
    assert_eq!(read(&mut reader), [0, 1, 2]);

    let [third, fourth, fifth] = &mut feeds;
    let [mut three, mut four, mut five] = [third, fourth, fifth].map(|feed| feed.claim(1).unwrap());
    (three[0], four[0], five[0]) = (3, 4, 5);
    assert_eq!(not_ready(&mut reader), NotReady::Idle);
    three.publish();
    five.publish();
    assert_eq!(read(&mut reader), [3]);
    assert_eq!(not_ready(&mut reader), NotReady::Idle);
    four.publish();
    assert_eq!(read(&mut reader), [4, 5]);
}

/// A slot that was read in an earlier lap holds an event, but not the one that comes next.
#[test]
fn a14_after_the_wrap_a_slot_is_unavailable_again() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for first in 0..4 * capacity as u64 {
            assert_eq!(not_ready(&mut reader), NotReady::Idle);
            let mut claim = feed.try_claim(1).unwrap();
            assert_eq!(not_ready(&mut reader), NotReady::Idle);
            claim[0] = first;
            claim.publish();
            assert_eq!(read(&mut reader), [first]);
        }
    }
}

#[test]
fn a_batch_gives_its_events_by_index_by_iterator_and_with_sequences() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        read(&mut reader);
        publish(&mut feed, 4);
        let batch = reader.next_batch().unwrap();
        assert_eq!((batch.len(), batch.is_empty()), (4, false));
        assert_eq!([batch[0], batch[3]], [2, 5]);
        let mut events = batch.iter();
        assert_eq!((events.next(), events.len()), (Some(&2), 3));
        assert_eq!(events.clone().collect::<Vec<_>>(), [&3, &4, &5]);
        assert_eq!(events.collect::<Vec<_>>(), [&3, &4, &5]);
        assert_eq!((&batch).into_iter().count(), 4);
        let with_sequences = batch.with_sequences();
        assert_eq!(with_sequences.len(), 4);
        assert_eq!(with_sequences.last(), Some((5, &5)));
    }
}

#[test]
fn an_event_outside_the_batch_cannot_be_reached() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        publish(&mut feed(&ring), 3);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(1);
        let outside = catch_unwind(AssertUnwindSafe(|| batch[2]));
        let said = outside.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(*said, "event 2 of a batch of 2");
    }
}

#[test]
fn a_released_prefix_is_free_and_the_rest_keeps_its_place() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        let mut batch = reader.try_next_batch().unwrap();
        for (n, left) in [(0, 0..4), (1, 1..4), (2, 3..4)] {
            batch.release(n);
            assert_eq!(batch.sequences(), left);
            assert_eq!(batch[0], left.start);
            assert_eq!(batch.backlog(), 4);
            assert_eq!(feed.free(), Ok(left.start as usize));
        }
        batch.release(usize::MAX);
        assert!(batch.is_empty());
        batch.release(1);
        drop(batch);
        assert_eq!((reader.position(), feed.free()), (4, Ok(4)));
    }
}

#[test]
fn what_is_given_back_comes_again() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 4);
        for first in 0..4 {
            let mut batch = reader.next_batch().unwrap();
            assert_eq!(batch.sequences(), first..4);
            batch.release(1);
            batch.give_back();
            assert_eq!(reader.position(), first + 1);
        }
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
    }
}

#[test]
fn a_forgotten_batch_is_seen_again() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 3);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(1);
        mem::forget(batch);
        publish(&mut feed, 2);
        assert_eq!(
            feed.try_publish(|_| unreachable!()),
            Err(ClaimError::Full { free: 0 })
        );
        assert_eq!(read(&mut reader), [1, 2, 3, 4]);
    }
}

/// Both where the batch is dropped by the panic and where the consumer is dropped with it.
#[test]
fn c17_a_reader_that_panics_wedges_nobody() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut next = stage(&ring, "next", &["reader"]);
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        gives_up(|| {
            let _batch = reader.try_next_batch().unwrap();
            give_up();
        });
        assert_eq!(read(&mut next).len(), capacity);
        publish(&mut feed, capacity);
        gives_up(move || {
            let mut reader = reader;
            reader.try_next_batch().unwrap().give_back();
            give_up();
        });
        assert_eq!(read(&mut next).len(), capacity);
        publish(&mut feed, capacity);
    }
}

#[test]
fn sequences_without_events_are_stepped_over_and_counted() {
    let ring = ring(8, Many);
    let mut reader = ring.consumer("reader").batch_limit(2).join().unwrap();
    let mut feed = feed(&ring);
    drop(feed.claim(2).unwrap());
    publish_batch(&mut feed, 3);
    drop(feed.claim(1).unwrap());
    drop(feed.claim(1).unwrap());
    publish(&mut feed, 1);
    let batches = [(2..4, 2), (4..5, 2), (7..8, 4)];
    for (sequences, skipped) in batches {
        assert_eq!(reader.try_next_batch().unwrap().sequences(), sequences);
        assert_eq!(reader.skipped(), skipped);
    }
    drop(feed.claim(3).unwrap());
    assert_eq!(not_ready(&mut reader), NotReady::Idle);
    assert_eq!((reader.position(), reader.skipped()), (11, 7));
    assert_eq!(feed.free(), Ok(8));
}

#[test]
fn a_closed_ring_is_read_to_its_end() {
    for (kind, capacity, ring) in rings() {
        let mut reader = ring.consumer("reader").batch_limit(1).join().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, capacity - 1);
        drop(feed.claim(1).unwrap());
        drop(feed);
        let (read, why) = drain(&mut reader);
        assert_eq!((read.len(), why), (capacity - 1, NotReady::Closed));
        assert_eq!(reader.skipped(), u64::from(kind == Many));
        assert_eq!(reader.next_batch().map(drop), Err(Ended::Closed));
        let late = reader.next_batch_deadline(in_a_minute()).map(drop);
        assert_eq!(late, Err(NotReady::Closed));
    }
}

#[test]
fn a_ring_that_no_producer_has_joined_is_not_closed() {
    for (_, _, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        drop(feed(&ring));
        assert_eq!(not_ready(&mut reader), NotReady::Closed);
    }
}

#[test]
fn one_of_many_producers_does_not_close_the_ring() {
    let ring = ring(4, Many);
    let mut reader = consumer(&ring, "reader");
    let (first, mut second) = (feed(&ring), feed(&ring));
    drop(first);
    assert_eq!(not_ready(&mut reader), NotReady::Idle);
    let third = feed(&ring);
    publish(&mut second, 1);
    drop(second);
    assert_eq!(read(&mut reader), [0]);
    drop(third);
    assert_eq!(not_ready(&mut reader), NotReady::Closed);
}

#[test]
fn a12_a_deadline_of_a_consumer_is_not_early() {
    for kind in KINDS {
        let ring = ring(2, kind);
        let mut first = consumer(&ring, "first");
        let mut second = stage(&ring, "second", &["first"]);
        let mut feed = feed(&ring);
        let cases = [(0, NotReady::Idle), (1, NotReady::Gated)];
        for (published, why) in cases {
            publish(&mut feed, published);
            let deadline = Instant::now() + Duration::from_millis(5);
            assert_eq!(second.next_batch_deadline(deadline).map(drop), Err(why));
            assert!(Instant::now() >= deadline);
            assert_eq!(second.next_batch_deadline(deadline).map(drop), Err(why));
        }
        let past = Instant::now();
        assert_eq!(first.next_batch_deadline(past).unwrap().len(), 1);
        assert_eq!(second.next_batch_deadline(past).unwrap().len(), 1);
    }
}

#[test]
fn a_consumer_tells_its_name_and_position() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        assert_eq!((reader.name(), reader.position()), ("reader", 0));
        publish(&mut feed(&ring), 3);
        let batch = reader.try_next_batch().unwrap();
        drop(batch);
        assert_eq!((reader.position(), reader.skipped()), (3, 0));
    }
}

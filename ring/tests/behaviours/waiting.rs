//! Waiting: each way to wait ends when what it waits for moves, and no sooner than it may.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use annulus_ring::Producers::Many;
use annulus_ring::{ClaimError, NotReady, Ring, Sequence};

use crate::{
    Feed, WAITS, consumer, feed, give_up, gives_up, in_a_minute, not_ready, once_it_waits,
    parking_ring, publish, publish_batch, read, stage, until, ways_to_wait, with_wait,
};

#[test]
fn a4_a23_a_producer_blocks_when_full_and_resumes_when_the_gate_moves_by_one() {
    for (kind, wait) in ways_to_wait() {
        for capacity in [1, 4] {
            let ring = parking_ring(capacity, kind);
            let mut reader = consumer(&ring, "reader");
            let mut feed = with_wait(feed(&ring), wait);
            publish(&mut feed, capacity);
            let blocked = once_it_waits(wait, move || {
                let published = feed.publish(|slot| *slot = capacity as Sequence);
                (published, feed.try_publish(|_| unreachable!()))
            });
            assert_eq!(ring.snapshot().published, capacity as Sequence);
            let mut batch = reader.try_next_batch().unwrap();
            batch.release(1);
            batch.give_back();
            let (published, next) = blocked.join().unwrap();
            assert_eq!(published, Ok(capacity as Sequence));
            assert_eq!(next, Err(ClaimError::Full { free: 0 }));
            assert_eq!(read(&mut reader).len(), capacity);
        }
    }
}

#[test]
fn a_call_with_a_deadline_returns_as_soon_as_there_is_room() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish(&mut feed, 4);
        let blocked = once_it_waits(wait, move || {
            let later = in_a_minute();
            feed.publish_deadline(later, |slot| *slot = 4)?;
            let write =
                |slots: annulus_ring::Slots<'_, u64>| slots.zip(5..).for_each(|(s, v)| *s = v);
            feed.publish_batch_deadline(2, later, write)?;
            let mut claim = feed.claim_deadline(1, later)?;
            claim[0] = 7;
            claim.publish();
            let published = feed.publish_value_deadline(later, 8);
            published.map_err(|rejected| rejected.cause)
        });
        let mut all = Vec::new();
        until("nine events", || {
            all.extend(read(&mut reader));
            all.len() == 9
        });
        assert_eq!(all, (0..9).collect::<Vec<_>>());
        assert_eq!(blocked.join().unwrap(), Ok(8));
    }
}

#[test]
fn a4_b8_a_consumer_that_waits_gets_what_is_published_and_hears_of_the_close() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(4, kind);
        let mut reader = ring.consumer("reader").wait(wait).join().unwrap();
        let mut feed = feed(&ring);
        let waiting = once_it_waits(wait, move || {
            let first = reader.next_batch().map(|batch| batch[0]);
            let second = reader
                .next_batch_deadline(in_a_minute())
                .map(|batch| batch[0]);
            let mut none = reader;
            (first, second, none.next_batch().is_err())
        });
        feed.publish_value(7).unwrap();
        until("the first is read", || feed.free() == Ok(4));
        feed.publish_value(8).unwrap();
        until("the second is read", || feed.free() == Ok(4));
        drop(feed);
        assert_eq!(waiting.join().unwrap(), (Ok(7), Ok(8), true));
    }
}

/// However many events a batch has, publishing it wakes who waits, once, and for all of them.
#[test]
fn a14_a23_a_consumer_that_waits_is_woken_by_a_batch_as_by_one_event() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(8, kind);
        let mut feed = feed(&ring);
        for n in [1, 3, 8] {
            let reader = ring.consumer("reader").wait(wait);
            let mut reader = reader.join().unwrap();
            let waiting = once_it_waits(wait, move || {
                let batch = reader.next_batch_deadline(in_a_minute())?;
                Ok::<_, NotReady>(batch.len())
            });
            publish_batch(&mut feed, n);
            let read = waiting.join().unwrap().unwrap();
            // One producer shows its batch by the cursor, and many by a stamp: nobody sees a part.
            assert_eq!(read, n);
        }
    }
}

#[test]
fn a4_a21_a_stage_that_waits_goes_on_when_the_one_before_it_does() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(4, kind);
        let mut first = consumer(&ring, "first");
        let second = ring.consumer("second").after(["first"]).wait(wait);
        let mut second = second.join().unwrap();
        publish_batch(&mut feed(&ring), 3);
        let waiting = once_it_waits(wait, move || second.next_batch().map(|batch| batch.len()));
        let mut batch = first.try_next_batch().unwrap();
        batch.release(2);
        assert_eq!(waiting.join().unwrap(), Ok(2));
    }
}

/// The batch is still being read.
#[test]
fn a21_a_producer_that_waits_goes_on_by_an_early_release() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish_batch(&mut feed, 4);
        let waiting = once_it_waits(wait, move || {
            feed.publish_batch_deadline(2, in_a_minute(), |slots| slots.for_each(|slot| *slot = 9))
        });
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(1);
        assert_eq!(ring.snapshot().published, 4); // It wants two.
        batch.release(1);
        assert_eq!(waiting.join().unwrap(), Ok(4..6));
        assert_eq!([batch[0], batch[1]], [2, 3]);
    }
}

#[test]
fn b8_a_stage_that_waits_gets_nothing_until_the_batch_before_it_is_dropped() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(4, kind);
        let mut first = consumer(&ring, "first");
        let second = ring.consumer("second").after(["first"]).wait(wait);
        let mut second = second.join().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        let batch = first.try_next_batch().unwrap();
        let has_read = Arc::new(AtomicBool::new(false));
        let reads = has_read.clone();
        let waiting = once_it_waits(wait, move || {
            let read = second.next_batch().map(|batch| batch.len());
            reads.store(true, Release);
            (read, second.next_batch().map(|batch| batch.len()).is_err())
        });
        drop(feed); // The close does not let it pass either.
        (0..20).for_each(|_| std::thread::yield_now());
        assert!(!has_read.load(Acquire));
        drop(batch);
        assert_eq!(waiting.join().unwrap(), (Ok(4), true));
    }
}

/// Whichever it is; and the slowest need not be the same each time.
#[test]
fn a19_a_stage_that_waits_waits_for_the_slowest() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(8, kind);
        let mut readers = ["a", "b", "c"].map(|name| consumer(&ring, name));
        let last = ring.consumer("last").after(["a", "b", "c"]).wait(wait);
        let mut last = last.join().unwrap();
        publish_batch(&mut feed(&ring), 8);
        let waiting = once_it_waits(wait, move || {
            let mut read = Vec::new();
            while let Ok(batch) = last.next_batch() {
                read.push(batch.sequences());
            }
            (read, last) // It does not leave before it has been looked at.
        });
        let mut release = |who: usize, n| {
            let mut batch = readers[who].try_next_batch().unwrap();
            batch.release(n);
            batch.give_back();
        };
        let gone_to = |position| {
            let of_last = || ring.snapshot().members.pop().unwrap();
            assert_eq!(of_last().name, "last");
            until("the last has followed", || of_last().position == position);
        };
        release(0, 8);
        release(1, 3);
        gone_to(0);
        release(2, 2);
        gone_to(2);
        release(2, 6);
        gone_to(3);
        release(1, 5);
        gone_to(8);
        assert_eq!(waiting.join().unwrap().0, [0..2, 2..3, 3..8]);
    }
}

/// In the order in which the three were claimed, whatever comes first.
#[test]
fn a14_a_hole_that_is_filled_wakes_who_waits_behind_it() {
    for &wait in WAITS {
        let ring = parking_ring(8, Many);
        let mut reader = ring.consumer("reader").wait(wait).join().unwrap();
        let mut feeds = [(); 3].map(|()| feed(&ring));
        let [hole, skip, event] = &mut feeds;
        let [mut hole, skip, mut event] = [hole, skip, event].map(|feed| feed.claim(1).unwrap());
        (hole[0], event[0]) = (0, 2);
        event.publish();
        let waiting = once_it_waits(wait, move || {
            let mut read = Vec::new();
            while read.len() < 2 {
                let batch = reader.next_batch_deadline(in_a_minute()).unwrap();
                read.extend(batch.iter().copied());
            }
            (read, reader.skipped())
        });
        drop(skip);
        hole.publish();
        assert_eq!(waiting.join().unwrap(), (vec![0, 2], 1));
    }
}

#[test]
fn c16_whoever_waits_behind_a_claim_goes_on_when_its_owner_panics() {
    for &wait in WAITS {
        let ring = parking_ring(4, Many);
        let reader = ring.consumer("reader").wait(wait);
        let mut reader = reader.join().unwrap();
        let (mut panicking, mut other) = (feed(&ring), feed(&ring));
        let mut waiting = None;
        gives_up(|| {
            let _ = panicking.publish(|_| {
                publish(&mut other, 1);
                waiting = Some(once_it_waits(wait, move || {
                    let read = reader.next_batch().map(|batch| batch.sequences());
                    (read, reader.skipped())
                }));
                give_up();
            });
        });
        let (read, skipped) = waiting.unwrap().join().unwrap();
        assert_eq!((read, skipped), (Ok(1..2), 1));
    }
}

/// Its producer claims again, or leaves.
#[test]
fn a_leaked_claim_that_is_skipped_wakes_who_waits_behind_it() {
    type End = fn(Feed<u64>, &Ring<u64>);
    let ends: [End; 3] = [
        |mut feed, _| publish(&mut feed, 1),
        |mut feed, ring| {
            ring.close();
            assert_eq!(feed.publish(|_| ()), Err(ClaimError::Closed));
            std::mem::forget(feed); // It is used, and does not leave.
        },
        |feed, _| drop(feed),
    ];
    for &wait in WAITS {
        for end in ends {
            let ring = parking_ring(4, Many);
            let reader = ring.consumer("reader").wait(wait);
            let mut reader = reader.join().unwrap();
            let (mut leaking, mut other) = (feed(&ring), feed(&ring));
            std::mem::forget(leaking.claim(1).unwrap());
            publish(&mut other, 1);
            let waiting = once_it_waits(wait, move || {
                let later = in_a_minute();
                reader
                    .next_batch_deadline(later)
                    .map(|batch| batch.sequences().start)
            });
            end(leaking, &ring);
            assert_eq!(waiting.join().unwrap(), Ok(1));
        }
    }
}

#[test]
fn producers_wait_until_the_consumers_required_have_joined() {
    for (kind, wait) in ways_to_wait() {
        let builder = Ring::builder(2).producers(kind).require_consumers(2);
        let ring = builder.parking().build(|| 0_u64).unwrap();
        let mut first = consumer(&ring, "first");
        let mut feed = with_wait(feed(&ring), wait);
        let waiting = once_it_waits(wait, move || feed.publish(|slot| *slot = 7));
        assert_eq!(ring.snapshot().published, 0);
        let mut second = consumer(&ring, "second");
        assert_eq!(waiting.join().unwrap(), Ok(0));
        assert_eq!(first.next_batch().unwrap()[0], 7);
        assert_eq!(second.next_batch().unwrap()[0], 7);
    }
}

/// Who takes the place of the one that left starts where the ring is.
#[test]
fn a20_producers_wait_again_when_a_consumer_that_is_required_leaves() {
    for (kind, wait) in ways_to_wait() {
        let builder = Ring::builder(2).producers(kind).require_consumers(1);
        let ring = builder.parking().build(|| 0_u64).unwrap();
        let reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish(&mut feed, 2);
        let waiting = once_it_waits(wait, move || feed.publish(|slot| *slot = 7));
        drop(reader);
        assert_eq!(ring.snapshot().published, 2);
        let mut other = consumer(&ring, "other");
        assert_eq!(other.next_batch().unwrap()[0], 7);
        assert_eq!(waiting.join().unwrap(), Ok(2));
    }
}

#[test]
fn c18_a_producer_that_waits_goes_on_when_the_consumer_leaves() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(2, kind);
        let reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish(&mut feed, 2);
        let waiting = once_it_waits(wait, move || feed.publish(|_| ()));
        drop(reader);
        assert_eq!(waiting.join().unwrap(), Ok(2));
    }
}

/// `a`, then `b`, then `c`: once `b` has left, `c` is woken by `a`.
#[test]
fn c18_a_stage_that_waits_behind_one_that_leaves_goes_on_with_what_that_one_waited_for() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(4, kind);
        let mut a = consumer(&ring, "a");
        let b = stage(&ring, "b", &["a"]);
        let c = ring.consumer("c").after(["b"]).wait(wait);
        let mut c = c.join().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 4);
        let mut batch = a.try_next_batch().unwrap();
        batch.release(1);
        let waiting = once_it_waits(wait, move || {
            let mut read = Vec::new();
            while let Ok(batch) = c.next_batch_deadline(in_a_minute()) {
                read.extend(batch.iter().copied());
            }
            read
        });
        drop(b);
        let of_c = || ring.snapshot().members.into_iter().find(|m| m.name == "c");
        until("it has read what a has", || of_c().unwrap().position == 1);
        batch.release(2);
        until("it has read what a has", || of_c().unwrap().position == 3);
        drop((batch, feed));
        assert_eq!(waiting.join().unwrap(), [0, 1, 2, 3]);
        assert_eq!(not_ready(&mut a), NotReady::Closed);
    }
}

/// For so long that each way to wait gets to its slowest part.
#[test]
fn a12_a_deadline_is_not_early_however_it_is_waited_for() {
    const PATIENCE: Duration = Duration::from_millis(3);

    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(2, kind);
        let idle = ring.consumer("idle").wait(wait);
        let mut idle = idle.join().unwrap();
        let gated = ring.consumer("gated").after(["idle"]).wait(wait);
        let mut gated = gated.join().unwrap();
        let mut feed = with_wait(feed(&ring), wait);
        let not_before = |deadline, why: NotReady, result: Result<usize, NotReady>| {
            assert!(Instant::now() >= deadline);
            assert_eq!(result, Err(why));
        };
        let deadline = Instant::now() + PATIENCE;
        let read = idle.next_batch_deadline(deadline).map(|batch| batch.len());
        not_before(deadline, NotReady::Idle, read);
        publish(&mut feed, 2);
        let deadline = Instant::now() + PATIENCE;
        let read = gated.next_batch_deadline(deadline).map(|batch| batch.len());
        not_before(deadline, NotReady::Gated, read);
        let deadline = Instant::now() + PATIENCE;
        let full = Err(ClaimError::Full { free: 0 });
        assert_eq!(feed.publish_deadline(deadline, |_| unreachable!()), full);
        assert!(Instant::now() >= deadline);

        let builder = Ring::builder(2).producers(kind).require_consumers(1);
        let ring = builder.parking().build(|| 0_u64).unwrap();
        let mut feed = with_wait(crate::feed(&ring), wait);
        let deadline = Instant::now() + PATIENCE;
        let refused = feed.claim_deadline(1, deadline).map(drop);
        assert!(Instant::now() >= deadline);
        let (required, present) = (1, 0);
        let too_few = ClaimError::TooFewConsumers { required, present };
        assert_eq!(refused, Err(too_few));
    }
}

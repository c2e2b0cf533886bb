//! Producing: claims, gates, publications, and what becomes of a claim that is not published.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use annulus_ring::Producers::{Many, One};
use annulus_ring::{Claim, ClaimError, NotReady, Producer, Rejected, Ring, Sequence, Slots};

use crate::{
    CAPACITIES, KINDS, consumer, drain, feed, fronts, give_up, gives_up, in_a_minute, not_ready,
    publish, publish_batch, read, ring, rings, rounds,
};

const FULL: ClaimError = ClaimError::Full { free: 0 };

#[test]
fn a7_publish_writes_the_slot_of_its_sequence() {
    for (_, capacity, ring) in rings() {
        let mut feed = feed(&ring);
        for sequence in 0..3 * capacity as u64 {
            let lap_before = sequence.checked_sub(capacity as u64).unwrap_or(u64::MAX);
            let published =
                feed.publish(|slot| assert_eq!(mem::replace(slot, sequence), lap_before));
            assert_eq!(published, Ok(sequence));
        }
    }
}

#[test]
fn a7_try_publish_is_refused_when_full_as_often_as_asked() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        for _ in 0..10 {
            assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
            assert_eq!(feed.try_publish_batch(1, |_| unreachable!()), Err(FULL));
            assert_eq!(feed.try_claim(1).map(drop), Err(FULL));
        }
        assert_eq!(read(&mut reader).len(), capacity);
        assert_eq!(feed.try_publish(|_| ()), Ok(capacity as u64));
    }
}

#[test]
fn a_value_that_does_not_fit_is_handed_back() {
    for kind in KINDS {
        let builder = Ring::builder(1).producers(kind).require_consumers(1);
        let ring = builder.build(String::new).unwrap();
        let reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        assert_eq!(feed.publish_value("first".to_owned()), Ok(0));
        let rejected = |cause| {
            let value = "second".to_owned();
            Err(Rejected { value, cause })
        };
        let second = || "second".to_owned();
        assert_eq!(feed.try_publish_value(second()), rejected(FULL));
        let now = Instant::now();
        assert_eq!(feed.publish_value_deadline(now, second()), rejected(FULL));
        drop(reader);
        let too_few = rejected(too_few_consumers(1, 0));
        assert_eq!(feed.try_publish_value(second()), too_few);
        assert_eq!(feed.publish_value_deadline(now, second()), too_few);
    }
}

#[test]
fn a17_a_ring_fills_exactly_and_wraps_many_times() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for lap in 0..rounds(1000, 20) as usize {
            publish(&mut feed, capacity);
            assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
            let first = (lap * capacity) as Sequence;
            let all: Vec<_> = (first..first + capacity as Sequence).collect();
            assert_eq!(read(&mut reader), all);
        }
    }
}

#[test]
fn a17_nothing_is_overwritten_at_the_wrap_point_until_it_is_released() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        for first in 0..3 * capacity as Sequence {
            let mut batch = reader.try_next_batch().unwrap();
            assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
            assert_eq!(batch[0], first);
            batch.release(1);
            publish(&mut feed, 1);
            batch.give_back();
        }
    }
}

#[test]
fn a17_a_batch_of_0_publishes_nothing() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for published in [0, capacity as Sequence] {
            let before = fronts(&ring);
            let no_slots = |mut slots: Slots<'_, u64>| assert!(slots.next().is_none());
            let nothing = Ok(published..published);
            assert_eq!(feed.publish_batch(0, no_slots), nothing);
            assert_eq!(feed.try_publish_batch(0, no_slots), nothing);
            let now = Instant::now();
            assert_eq!(feed.publish_batch_deadline(0, now, no_slots), nothing);
            let claim = feed.claim(0).unwrap();
            assert!(claim.is_empty());
            assert_eq!(claim.publish(), published..published);
            drop(feed.claim(0).unwrap());
            mem::forget(feed.claim(0).unwrap());
            assert_eq!(fronts(&ring), before);
            if published == 0 {
                assert_eq!(not_ready(&mut reader), NotReady::Idle);
                publish(&mut feed, capacity);
            }
        }
        assert_eq!(read(&mut reader).len(), capacity);
    }
}

/// Both while there is room and while the ring is full; the forms that wait do not wait either.
#[test]
fn a17_c20_a_batch_longer_than_the_ring_is_an_error_at_once() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for requested in [capacity + 1, 2 * capacity + 1, usize::MAX] {
            let too_long = Err(ClaimError::TooLong {
                requested,
                capacity,
            });
            let before = fronts(&ring);
            let later = in_a_minute();
            let published = [
                feed.publish_batch(requested, |_| unreachable!()),
                feed.try_publish_batch(requested, |_| unreachable!()),
                feed.publish_batch_deadline(requested, later, |_| unreachable!()),
                feed.claim(requested).map(Claim::publish),
                feed.try_claim(requested).map(Claim::publish),
                feed.claim_deadline(requested, later).map(Claim::publish),
            ];
            for published in published {
                assert_eq!(published, too_long);
            }
            assert_eq!(fronts(&ring), before);
            publish(&mut feed, capacity - before.1 as usize);
        }
        assert_eq!(read(&mut reader).len(), capacity);
    }
}

#[test]
fn b3_the_exact_shortfall_is_reported_and_then_an_exact_fit_succeeds() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for taken in 0..=capacity {
            publish_batch(&mut feed, taken);
            let free = capacity - taken;
            let full = Err(ClaimError::Full { free });
            if taken > 0 {
                assert_eq!(feed.try_publish_batch(free + 1, |_| unreachable!()), full);
                let now = Instant::now();
                assert_eq!(feed.claim_deadline(free + 1, now).map(drop), full.map(drop));
            }
            publish_batch(&mut feed, free);
            assert_eq!(read(&mut reader).len(), capacity);
        }
    }
}

#[test]
fn a23_free_slots_are_counted_at_the_exact_boundary() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for _ in 0..3 {
            for free in (0..capacity).rev() {
                publish(&mut feed, 1);
                assert_eq!(feed.free(), Ok(free));
            }
            let mut batch = reader.try_next_batch().unwrap();
            for free in 1..=capacity {
                batch.release(1);
                assert_eq!(feed.free(), Ok(free));
            }
        }
    }
}

#[test]
fn a24_c3_asking_for_free_slots_exposes_no_unpublished_claim() {
    let ring = ring(4, Many);
    let mut reader = consumer(&ring, "reader");
    let (mut slow, mut other) = (feed(&ring), feed(&ring));
    let mut claim = slow.claim(2).unwrap();
    assert_eq!(other.free(), Ok(2));
    publish(&mut other, 2);
    assert_eq!(other.free(), Ok(0));
    assert_eq!(other.try_publish(|_| unreachable!()), Err(FULL));
    assert_eq!(not_ready(&mut reader), NotReady::Idle);
    let past = Instant::now();
    let waited = reader.next_batch_deadline(past).map(drop);
    assert_eq!(waited, Err(NotReady::Idle));
    assert_eq!(fronts(&ring), (4, 0));
    (claim[0], claim[1]) = (0, 1);
    claim.publish();
    assert_eq!(read(&mut reader), [0, 1, 2, 3]);
}

#[test]
fn a24_asking_for_free_slots_gives_a_leaked_claim_up() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        mem::forget(feed.claim(3).unwrap());
        assert_eq!(feed.free(), Ok(if kind == One { 4 } else { 1 }));
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
    }
}

/// Every producer looks at the gate at a time of its own; the oldest look must not let it go too far.
#[test]
fn c11_claims_never_overshoot_and_free_slots_are_never_negative() {
    let ring = ring(4, Many);
    let mut reader = consumer(&ring, "reader");
    let (mut early, mut late) = (feed(&ring), feed(&ring));
    for _ in 0..rounds(100, 20) {
        publish(&mut early, 1);
        publish(&mut late, 3);
        for feed in [&mut early, &mut late] {
            assert_eq!(feed.free(), Ok(0));
            assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
            assert_eq!(feed.try_claim(4).map(drop), Err(FULL));
        }
        assert_eq!(read(&mut reader).len(), 4);
    }
}

/// The gate counts what is published where nobody reads: another's open claim is not overwritten.
#[test]
fn c11_without_consumers_an_open_claim_gates() {
    let ring = ring(4, Many);
    let (mut slow, mut other) = (feed(&ring), feed(&ring));
    publish(&mut other, 10);
    let claim = slow.claim(1).unwrap();
    publish(&mut other, 3);
    assert_eq!(other.try_publish(|_| unreachable!()), Err(FULL));
    assert_eq!(other.free(), Ok(0));
    claim.publish();
    publish(&mut other, 4);
    assert_eq!(ring.snapshot().published, 18);
}

#[test]
fn without_consumers_a_ring_is_overwritten() {
    for (_, capacity, ring) in rings() {
        let mut feed = feed(&ring);
        for _ in 0..10 {
            publish(&mut feed, capacity);
            publish_batch(&mut feed, capacity);
            assert_eq!(feed.free(), Ok(capacity));
        }
        assert_eq!(ring.snapshot().published, 20 * capacity as u64);
    }
}

#[test]
fn c12_every_consumer_that_joined_gates_whether_it_reads_or_not() {
    for (_, capacity, ring) in rings() {
        let mut reading = consumer(&ring, "reading");
        let mut idle = consumer(&ring, "idle");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        assert_eq!(read(&mut reading).len(), capacity);
        assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
        assert_eq!(read(&mut idle).len(), capacity);
        publish(&mut feed, capacity);
    }
}

#[test]
fn c18_a_dropped_consumer_gates_no_more() {
    for (_, capacity, ring) in rings() {
        let mut staying = consumer(&ring, "staying");
        let leaving = consumer(&ring, "leaving");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        read(&mut staying);
        assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
        drop(leaving);
        publish(&mut feed, capacity);
        assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
        drop(staying);
        publish(&mut feed, 3 * capacity);
    }
}

#[test]
fn a_batch_appears_as_a_whole() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for first in [0, 3] {
            let published = feed.publish_batch(3, |slots| {
                assert_eq!(slots.len(), 3);
                for (slot, value) in slots.zip(first..) {
                    *slot = value;
                    assert_eq!(not_ready(&mut reader), NotReady::Idle);
                }
            });
            assert_eq!(published, Ok(first..first + 3));
            assert_eq!(reader.try_next_batch().unwrap().len(), 3);
        }
    }
}

#[test]
fn a_claim_is_written_in_any_order_and_read_back() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        let mut claim = feed.claim(3).unwrap();
        assert_eq!(claim.sequences(), 1..4);
        assert_eq!((claim.len(), claim.is_empty()), (3, false));
        for index in [2, 0, 1] {
            claim[index] = index as u64;
        }
        for slot in &mut claim {
            *slot += 1;
        }
        assert_eq!([claim[0], claim[1], claim[2]], [1, 2, 3]);
        assert_eq!(claim.publish(), 1..4);
        assert_eq!(read(&mut reader), [0, 1, 2, 3]);
    }
}

#[test]
fn a_slot_outside_the_claim_cannot_be_reached() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut feed = feed(&ring);
        let claim = feed.claim(2).unwrap();
        let outside = catch_unwind(AssertUnwindSafe(|| claim[2]));
        let said = outside.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(*said, "slot 2 of a claim of 2");
    }
}

/// One of the ways in which a claim is not published.
type GiveUp = fn(&mut Producer<u64>);

const WAYS_TO_GIVE_UP: [(&str, GiveUp); 5] = [
    ("drop", |feed| drop(feed.claim(1).unwrap())),
    ("drop half written", |feed| feed.claim(1).unwrap()[0] = 99),
    ("leak", |feed| mem::forget(feed.claim(1).unwrap())),
    ("panic", |feed| {
        gives_up(|| {
            let _ = feed.publish(|slot| {
                *slot = 99;
                give_up();
            });
        });
    }),
    ("panic in a batch", |feed| {
        gives_up(|| {
            let _ = feed.publish_batch(1, |mut slots| {
                *slots.next().unwrap() = 99;
                give_up();
            });
        });
    }),
];

/// One producer takes its slots back; of many, consumers step over them, and count them.
#[test]
fn c16_a_claim_given_up_wedges_nobody() {
    for (way, give_up) in WAYS_TO_GIVE_UP {
        for (kind, capacity, ring) in rings() {
            println!("{way}");
            let mut reader = consumer(&ring, "reader");
            let mut feed = feed(&ring);
            let mut all = Vec::new();
            for round in 1..=3 {
                give_up(&mut feed);
                if kind == Many && capacity == 1 {
                    assert_eq!(feed.free(), Ok(0)); // The gap has to be stepped over.
                    assert_eq!(not_ready(&mut reader), NotReady::Idle);
                }
                publish(&mut feed, 1);
                all.extend(read(&mut reader));
                let given_up = if kind == Many { round } else { 0 };
                assert_eq!(reader.skipped(), given_up);
                assert_eq!(reader.position(), round + given_up);
            }
            let expected = if kind == Many { [1, 3, 5] } else { [0, 1, 2] };
            assert_eq!(all, expected);
            give_up(&mut feed);
            drop(feed);
            assert_eq!(drain(&mut reader), (vec![], NotReady::Closed));
        }
    }
}

#[test]
fn c16_whoever_is_behind_a_claim_goes_on_once_it_is_given_up() {
    for (way, give_up) in WAYS_TO_GIVE_UP {
        println!("{way}");
        let ring = ring(4, Many);
        let mut reader = consumer(&ring, "reader");
        let (mut first, mut second) = (feed(&ring), feed(&ring));
        publish(&mut first, 1);
        give_up(&mut first);
        publish(&mut second, 1);
        drop(first); // For the leaked one: nothing else tells that it is given up.
        assert_eq!(read(&mut reader), [0, 2]);
        assert_eq!(reader.skipped(), 1);
    }
}

#[test]
fn a_leaked_claim_holds_up_those_behind_it_until_its_producer_is_used() {
    let ring = ring(8, Many);
    let mut reader = consumer(&ring, "reader");
    let (mut leaking, mut other) = (feed(&ring), feed(&ring));
    mem::forget(leaking.claim(2).unwrap());
    publish(&mut other, 1);
    assert_eq!(not_ready(&mut reader), NotReady::Idle);
    assert_eq!(fronts(&ring), (3, 0));
    publish(&mut leaking, 1);
    assert_eq!(read(&mut reader), [2, 3]);
    assert_eq!(reader.skipped(), 2);
}

#[test]
fn what_a_dropped_claim_wrote_is_found_by_the_next_that_writes_its_slot() {
    for (kind, capacity, ring) in rings() {
        let mut feed = feed(&ring);
        feed.claim(1).unwrap()[0] = 7;
        let next_of_the_slot = if kind == One { 0 } else { capacity as Sequence };
        let mut found = 0;
        while feed.publish(|slot| found = *slot).unwrap() < next_of_the_slot {}
        assert_eq!(found, 7);
    }
}

/// A call with a deadline.
type UntilDeadline = fn(&mut Producer<u64>, Instant) -> Result<(), ClaimError>;

/// Every call with a deadline, on a full ring.
#[test]
fn a12_a_deadline_of_a_producer_is_not_early() {
    for kind in KINDS {
        let ring = ring(2, kind);
        let _idle = consumer(&ring, "idle");
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        let calls: [UntilDeadline; 4] = [
            |feed, at| feed.publish_deadline(at, |_| unreachable!()).map(drop),
            |feed, at| {
                let published = feed.publish_value_deadline(at, 7);
                published.map(drop).map_err(|rejected| rejected.cause)
            },
            |feed, at| {
                let published = feed.publish_batch_deadline(2, at, |_| unreachable!());
                published.map(drop)
            },
            |feed, at| feed.claim_deadline(1, at).map(drop),
        ];
        for call in calls {
            let deadline = Instant::now() + Duration::from_millis(5);
            assert_eq!(call(&mut feed, deadline), Err(FULL));
            assert!(Instant::now() >= deadline);
            assert_eq!(call(&mut feed, deadline), Err(FULL)); // Now in the past.
        }
    }
}

#[test]
fn what_can_be_claimed_is_claimed_after_the_deadline_too() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        let past = Instant::now();
        assert_eq!(feed.publish_deadline(past, |slot| *slot = 0), Ok(0));
        assert_eq!(feed.publish_value_deadline(past, 1), Ok(1));
        let write = |slots: Slots<'_, u64>| slots.zip(2..).for_each(|(s, v)| *s = v);
        assert_eq!(feed.publish_batch_deadline(2, past, write), Ok(2..4));
        let mut claim = feed.claim_deadline(1, past).unwrap();
        claim[0] = 4;
        claim.publish();
        assert_eq!(read(&mut reader), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_ring_that_requires_consumers_takes_nothing_until_they_have_joined() {
    for kind in KINDS {
        let builder = Ring::builder(4).producers(kind).require_consumers(2);
        let ring = builder.build(|| 0).unwrap();
        let mut feed = feed(&ring);
        let refused = |present| Err(too_few_consumers(2, present));
        assert_eq!(feed.try_publish(|_| unreachable!()), refused(0));
        let mut first = consumer(&ring, "first");
        assert_eq!(feed.try_publish(|_| unreachable!()), refused(1));
        let now = Instant::now();
        assert_eq!(feed.publish_deadline(now, |_| unreachable!()), refused(1));
        assert_eq!(feed.claim_deadline(1, now).map(drop), refused(1).map(drop));
        assert_eq!(feed.free(), Ok(0));
        let mut second = consumer(&ring, "second");
        publish(&mut feed, 4);
        assert_eq!(read(&mut first), [0, 1, 2, 3]);
        assert_eq!(read(&mut second), [0, 1, 2, 3]);
    }
}

/// The free slots that the producer knows of are used up before: not more than a lap.
#[test]
fn a_ring_that_requires_consumers_takes_nothing_while_too_few_are_left() {
    for kind in KINDS {
        let builder = Ring::builder(4).producers(kind).require_consumers(2);
        let ring = builder.build(|| 0).unwrap();
        let mut consumers = ["a", "b", "c"].map(|name| Some(consumer(&ring, name)));
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        consumers[1] = None;
        assert_eq!(feed.free(), Ok(3)); // Two are enough.
        for (index, present) in [(0, 1), (2, 0)] {
            consumers[index] = None;
            let too_few = too_few_consumers(2, present);
            let refused = (0..=4).find_map(|_| feed.try_publish(|_| ()).err());
            assert_eq!(refused, Some(too_few));
            assert_eq!(feed.try_claim(4).map(drop), Err(too_few));
        }
        assert_eq!(ring.snapshot().published, 4);
        let mut successors = ["d", "e"].map(|name| consumer(&ring, name));
        for successor in &mut successors {
            assert_eq!(not_ready(successor), NotReady::Idle); // Walks to where it is to start.
        }
        publish(&mut feed, 4);
        for successor in &mut successors {
            assert_eq!(read(successor), [4, 5, 6, 7]);
        }
    }
}

fn too_few_consumers(required: usize, present: usize) -> ClaimError {
    ClaimError::TooFewConsumers { required, present }
}

#[test]
fn many_producers_fall_into_one_order() {
    let ring = ring(64, Many);
    let mut readers = ["a", "b"].map(|name| consumer(&ring, name));
    let mut feeds = [(); 5].map(|()| feed(&ring));
    for round in 0..10 {
        for feed in &mut feeds {
            publish_batch(feed, round % 3);
        }
    }
    let all: Vec<_> = (0..45).collect();
    for reader in &mut readers {
        assert_eq!(read(reader), all);
    }
}

#[test]
fn a_clone_of_a_producer_publishes_into_the_same_ring() {
    for &capacity in CAPACITIES {
        let ring = ring(capacity, Many);
        let mut reader = consumer(&ring, "reader");
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        for _ in 0..10 {
            publish(&mut first, 1);
            assert_eq!(read(&mut reader).len(), 1);
            publish(&mut second, 1);
            assert_eq!(read(&mut reader).len(), 1);
        }
        drop(first);
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        drop(second);
        assert_eq!(not_ready(&mut reader), NotReady::Closed);
    }
}

/// It would wait for itself.
#[test]
fn c32_a_claim_that_waits_for_what_its_own_thread_has_in_hand_is_an_error() {
    for (_, capacity, ring) in rings() {
        let mut mine = consumer(&ring, "mine");
        let row = mine.row();
        mine.bind_to_this_thread();
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        let own = ClaimError::HeldUpByOwnStage { row };
        for _ in 0..3 {
            assert_eq!(feed.publish(|_| unreachable!()), Err(own));
            assert_eq!(feed.publish_batch(1, |_| unreachable!()), Err(own));
            assert_eq!(feed.claim(1).map(drop), Err(own));
            let deadline = in_a_minute();
            assert_eq!(
                feed.publish_deadline(deadline, |_| unreachable!()),
                Err(own)
            );
            // Who does not wait is told no more than that the ring is full.
            assert_eq!(feed.try_publish(|_| unreachable!()), Err(FULL));
        }
        // What it releases is free, and not a slot more.
        let mut batch = mine.next_batch().unwrap();
        batch.release(1);
        publish(&mut feed, 1);
        assert_eq!(feed.publish(|_| unreachable!()), Err(own));
        drop(batch);
        assert_eq!(read(&mut mine).len(), 1);
    }
}

/// No false alarm: somebody else can move what is in the way.
#[test]
fn c32_a_claim_waits_for_all_that_other_threads_have_in_hand() {
    for (kind, capacity, ring) in rings() {
        let mut mine = consumer(&ring, "mine");
        mine.bind_to_this_thread();
        let mut theirs = consumer(&ring, "theirs");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        assert_eq!(read(&mut mine).len(), capacity);
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(feed.publish_deadline(soon, |_| unreachable!()), Err(FULL));
        assert_eq!(read(&mut theirs).len(), capacity);
        publish(&mut feed, capacity);

        // Of another ring; and one that has gone.
        let other = self::ring(capacity, kind);
        let mut of_other = self::feed(&other);
        let late = consumer(&other, "late");
        publish(&mut of_other, capacity);
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(
            of_other.publish_deadline(soon, |_| unreachable!()),
            Err(FULL)
        );
        drop(late);
        drop((mine, theirs));
        let held_up = consumer(&ring, "in the same row");
        let soon = Instant::now() + Duration::from_millis(1);
        let full = (0..=capacity).find_map(|_| feed.publish_deadline(soon, |_| ()).err());
        assert_eq!(full, Some(FULL));
        drop(held_up);
    }
}

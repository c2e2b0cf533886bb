//! R1 CLAIM: no sequence is claimed twice; claims never exceed the gate; no gating position is above
//! the published front.

use annulus_loom_tests::{drain, model, ring, thread};
use annulus_ring::Producers::{Many, One};

/// Two producers at the exchange, of which one has to wait for the consumer.
#[test]
fn two_producers_share_the_sequences() {
    model("r1 two_producers_share_the_sequences", || {
        let ring = ring(2, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let mut claimed = vec![(first.publish_value(10).unwrap(), 10)];
        let other = thread::spawn(move || second.publish_value(20).unwrap());
        let reader = thread::spawn(move || drain(&mut consumer));
        claimed.push((first.publish_value(11).unwrap(), 11));
        drop(first);
        claimed.push((other.join().unwrap(), 20));
        claimed.sort();
        assert_eq!(claimed.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(reader.join().unwrap(), claimed);
    });
}

/// Batches of both slots: each claim takes a whole lap, so each loser waits at the gate.
#[test]
fn whole_laps_are_claimed_in_turn() {
    model("r1 whole_laps_are_claimed_in_turn", || {
        let ring = ring(2, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let other = thread::spawn(move || {
            let fill = |event: &mut u64| *event = 20;
            second
                .publish_batch(2, |slots| slots.for_each(fill))
                .unwrap()
        });
        let reader = thread::spawn(move || drain(&mut consumer));
        let mine = first
            .publish_batch(2, |slots| slots.for_each(|event| *event = 10))
            .unwrap();
        drop(first);
        let theirs = other.join().unwrap();
        assert_eq!(mine.start.min(theirs.start), 0);
        assert_eq!(mine.end.max(theirs.end), 4);
        let expected = if mine.start == 0 {
            [10, 10, 20, 20]
        } else {
            [20, 20, 10, 10]
        };
        let read: Vec<u64> = reader.join().unwrap().iter().map(|e| e.1).collect();
        assert_eq!(read, expected);
    });
}

/// What is reported as free never includes a claim, and is never negative.
#[test]
fn free_slots_are_counted_exactly() {
    model("r1 free_slots_are_counted_exactly", || {
        let ring = ring(2, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let other = thread::spawn(move || {
            second.publish_value(20).unwrap();
            second.publish_value(21).unwrap();
            drop(second);
        });
        let reader = thread::spawn(move || drain(&mut consumer).len());
        for _ in 0..2 {
            assert!(first.free().unwrap() <= 2);
        }
        drop(first);
        other.join().unwrap();
        assert_eq!(reader.join().unwrap(), 2);
    });
}

/// A consumer joins, or a producer claims first: never both.
#[test]
fn the_first_claim_fixes_the_consumers() {
    model("r1 the_first_claim_fixes_the_consumers", || {
        let ring = ring(1, One);
        let mut producer = ring.producer().unwrap();
        let joiner = thread::spawn({
            let ring = ring.clone();
            move || match ring.consumer("c").join() {
                Ok(mut consumer) => Some(drain(&mut consumer)),
                Err(_) => None,
            }
        });
        for value in 0..2 {
            producer.publish_value(value).unwrap();
        }
        drop(producer);
        if let Some(events) = joiner.join().unwrap() {
            assert_eq!(events, [(0, 0), (1, 1)]);
        }
    });
}

//! R1 CLAIM: no sequence is claimed twice; claims never exceed the gate; no gating position is above
//! the published front.

use annulus_loom_tests::{builder, model, ring, take, thread};
use annulus_ring::Producers::Many;
use annulus_ring::Start;

/// Two producers at the exchange, of which one has to wait for the consumer.
#[test]
fn two_producers_share_the_sequences() {
    model("r1 two_producers_share_the_sequences", || {
        let ring = builder(2, Many).members(3).build(|| 0).unwrap();
        let consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let mut claimed = vec![(first.publish_value(10).unwrap(), 10)];
        let other = thread::spawn(move || (second.publish_value(20).unwrap(), second));
        let reader = thread::spawn(move || take(consumer, 3));
        claimed.push((first.publish_value(11).unwrap(), 11));
        let (sequence, _second) = other.join().unwrap();
        claimed.push((sequence, 20));
        claimed.sort();
        assert_eq!(claimed.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 1, 2]);
        let (read, _consumer) = reader.join().unwrap();
        assert_eq!(read, claimed.iter().map(|c| c.1).collect::<Vec<_>>());
    });
}

/// Batches of both slots: each claim takes a whole lap, so each loser waits at the gate.
#[test]
fn whole_laps_are_claimed_in_turn() {
    model("r1 whole_laps_are_claimed_in_turn", || {
        let ring = builder(2, Many).members(3).build(|| 0).unwrap();
        let consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let other = thread::spawn(move || {
            let fill = |event: &mut u64| *event = 20;
            let published = second.publish_batch(2, |slots| slots.for_each(fill));
            (published.unwrap(), second)
        });
        let reader = thread::spawn(move || take(consumer, 4));
        let mine = first
            .publish_batch(2, |slots| slots.for_each(|event| *event = 10))
            .unwrap();
        let (theirs, _second) = other.join().unwrap();
        assert_eq!(mine.start.min(theirs.start), 0);
        assert_eq!(mine.end.max(theirs.end), 4);
        let expected = if mine.start == 0 {
            [10, 10, 20, 20]
        } else {
            [20, 20, 10, 10]
        };
        assert_eq!(reader.join().unwrap().0, expected);
    });
}

/// What is reported as free never includes a claim, and is never negative.
#[test]
fn free_slots_are_counted_exactly() {
    model("r1 free_slots_are_counted_exactly", || {
        let ring = ring(2, Many);
        let consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let other = thread::spawn(move || {
            second.publish_value(20).unwrap();
            second.publish_value(21).unwrap();
            second.publish_value(22).unwrap();
            second
        });
        let reader = thread::spawn(move || take(consumer, 3));
        for _ in 0..2 {
            assert!(first.free().unwrap() <= 2);
        }
        let _second = other.join().unwrap();
        assert_eq!(reader.join().unwrap().0, [20, 21, 22]);
    });
}

/// One has claimed and not published, and another publishes behind it: a newcomer starts before both, as the
/// slot of the first is still being written.
#[test]
fn a_newcomer_gates_what_is_claimed() {
    model("r1 a_newcomer_gates_what_is_claimed", || {
        let ring = ring(2, Many);
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        std::mem::forget(first.claim(1).unwrap());
        let writer = thread::spawn(move || {
            let published = [(); 2].map(|()| second.try_publish_value(20).is_ok());
            assert_eq!(published, [true, false]);
            second
        });
        let consumers = [Start::Next, Start::Oldest].map(|start| {
            let name = format!("{start:?}");
            let consumer = ring.consumer(&name).start(start).join().unwrap();
            assert_eq!(consumer.position(), 0);
            consumer
        });
        let _second = writer.join().unwrap();
        assert!(consumers.iter().all(|consumer| consumer.position() == 0));
    });
}

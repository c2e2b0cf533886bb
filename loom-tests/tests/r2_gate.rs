//! R2 GATE: no slot is written while a gating consumer may read it or another producer writes it.
//!
//! Loom checks every access to an event: what these models assert is mostly that there is no race.

use annulus_loom_tests::{builder, model, publish, publish_shared, ring, ring_apart, take, thread};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{Ring, Start};

/// One and a half laps behind one consumer.
fn one_producer_waits(ring: &Ring<u64>) {
    let consumer = ring.consumer("c").join().unwrap();
    let producer = ring.producer().unwrap();
    let reader = thread::spawn(move || take(consumer, 3));
    let _producer = publish(producer, 0..3);
    assert_eq!(reader.join().unwrap().0, [0, 1, 2]);
}

#[test]
fn one_producer_waits_for_the_consumer() {
    model("r2 one_producer_waits_for_the_consumer", || {
        one_producer_waits(&ring(2, One));
    });
}

/// The same without stamps, by the cursor alone.
#[test]
fn one_producer_waits_without_stamps() {
    model("r2 one_producer_waits_without_stamps", || {
        one_producer_waits(&ring_apart(2, One));
    });
}

/// The same algorithm over the other layout, with many producers.
#[test]
fn many_producers_wait_with_stamps_apart() {
    model("r2 many_producers_wait_with_stamps_apart", || {
        let ring = ring_apart(2, Many);
        let consumer = ring.consumer("c").join().unwrap();
        let first = publish_shared(ring.shared_producer().unwrap(), 10..11);
        let second = first.try_clone().unwrap();
        let other = thread::spawn(move || publish_shared(second, 20..21));
        let reader = thread::spawn(move || take(consumer, 3));
        let _first = publish_shared(first, 11..12);
        other.join().unwrap();
        assert_eq!(reader.join().unwrap().0.iter().sum::<u64>(), 41);
    });
}

/// The slower of two consumers gates.
#[test]
fn one_producer_waits_for_the_slower_consumer() {
    model("r2 one_producer_waits_for_the_slower_consumer", || {
        let ring = ring(2, One);
        let fast = ring.consumer("fast").join().unwrap();
        let slow = ring.consumer("slow").batch_limit(1).join().unwrap();
        let producer = publish(ring.producer().unwrap(), 0..2);
        let slow = thread::spawn(move || take(slow, 2));
        let writer = thread::spawn(move || publish(producer, 2..4));
        assert_eq!(take(fast, 2).0, [0, 1]);
        assert_eq!(slow.join().unwrap().0, [0, 1]);
        writer.join().unwrap();
    });
}

/// Nobody reads, so everybody overwrites: each only what the one before has published.
#[test]
fn without_consumers_producers_do_not_meet_in_a_slot() {
    model(
        "r2 without_consumers_producers_do_not_meet_in_a_slot",
        || {
            let ring = ring(2, Many);
            let first = ring.shared_producer().unwrap();
            let second = first.try_clone().unwrap();
            let other = thread::spawn(move || publish_shared(second, 20..22));
            publish_shared(first, 10..12);
            other.join().unwrap();
            assert_eq!(ring.snapshot().published, 4);
        },
    );
}

/// The only consumer leaves while producers wait for it: the floor takes over.
#[test]
fn many_producers_go_on_when_the_consumer_leaves() {
    model("r2 many_producers_go_on_when_the_consumer_leaves", || {
        let ring = builder(2, Many).members(3).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let first = publish_shared(ring.shared_producer().unwrap(), 10..12);
        let second = first.try_clone().unwrap();
        let other = thread::spawn(move || publish_shared(second, 20..21));
        let leaver = thread::spawn(move || consumer.next_batch().unwrap()[0]);
        let _first = publish_shared(first, 12..13);
        other.join().unwrap();
        assert_eq!(leaver.join().unwrap(), 10);
        assert_eq!(ring.snapshot().published, 4);
    });
}

/// One consumer leaves, and only the other gates.
#[test]
fn one_producer_goes_on_when_a_consumer_leaves() {
    model("r2 one_producer_goes_on_when_a_consumer_leaves", || {
        let ring = ring(2, One);
        let stays = ring.consumer("stays").join().unwrap();
        let mut leaves = ring.consumer("leaves").join().unwrap();
        let producer = publish(ring.producer().unwrap(), 0..2);
        let leaver = thread::spawn(move || leaves.next_batch().unwrap()[0]);
        let writer = thread::spawn(move || publish(producer, 2..3));
        assert_eq!(take(stays, 2).0, [0, 1]);
        assert_eq!(leaver.join().unwrap(), 0);
        writer.join().unwrap();
    });
}

/// A prefix that is released early may be overwritten while the rest is read.
#[test]
fn an_early_release_gives_up_the_prefix_only() {
    model("r2 an_early_release_gives_up_the_prefix_only", || {
        let ring = ring(2, One);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut producer = ring.producer().unwrap();
        let reader = thread::spawn(move || {
            let mut events = Vec::new();
            while let Ok(mut batch) = consumer.next_batch() {
                events.push(batch[0]);
                batch.release(1);
                if !batch.is_empty() {
                    assert_eq!(batch[0], 2);
                }
                batch.give_back();
            }
            events
        });
        producer
            .publish_batch(2, |slots| slots.zip([1, 2]).for_each(|(slot, v)| *slot = v))
            .unwrap();
        producer.publish_value(3).unwrap();
        drop(producer);
        assert_eq!(reader.join().unwrap(), [1, 2, 3]);
    });
}

/// What a dropped claim wrote lies a lap below what another producer writes.
#[test]
fn a_skipped_slot_is_written_again() {
    model("r2 a_skipped_slot_is_written_again", || {
        let ring = ring(1, Many);
        let consumer = ring.consumer("c").join().unwrap();
        let first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let other = thread::spawn(move || {
            let mut claim = second.claim(1).unwrap();
            claim[0] = 99;
            drop(claim);
            second
        });
        let reader = thread::spawn(move || take(consumer, 1));
        let _first = publish_shared(first, 10..11);
        other.join().unwrap();
        assert_eq!(reader.join().unwrap().0, [10]);
    });
}

/// Nobody else reads. One joins, reads and leaves, and the producer goes round: it is held up for a time
/// only, and not at all by who has left.
fn one_comes_and_goes<R: Send + 'static>(
    ring: &Ring<u64>,
    publish: impl FnOnce() -> R + Send + 'static,
) {
    let writer = thread::spawn(publish);
    let mut consumer = ring.consumer("c").start(Start::Oldest).join().unwrap();
    if let Ok(batch) = consumer.try_next_batch() {
        for (sequence, event) in batch.with_sequences() {
            assert_eq!(*event, sequence);
        }
    }
    drop(consumer);
    let _producer = writer.join().unwrap();
}

#[test]
fn one_producer_goes_round_while_a_consumer_comes_and_goes() {
    model(
        "r2 one_producer_goes_round_while_a_consumer_comes_and_goes",
        || {
            let ring = ring(1, One);
            let producer = publish(ring.producer().unwrap(), 0..1);
            one_comes_and_goes(&ring, || publish(producer, 1..3));
        },
    );
}

#[test]
fn many_producers_go_round_while_a_consumer_comes_and_goes() {
    model(
        "r2 many_producers_go_round_while_a_consumer_comes_and_goes",
        || {
            let ring = ring(1, Many);
            let producer = publish_shared(ring.shared_producer().unwrap(), 0..1);
            one_comes_and_goes(&ring, || publish_shared(producer, 1..3));
        },
    );
}

/// Two producers, of which one has claimed and not yet written when a consumer comes and goes: the floor
/// that it raises is below that claim.
#[test]
fn a_leaver_raises_the_floor_no_higher_than_what_is_written() {
    model(
        "r2 a_leaver_raises_the_floor_no_higher_than_what_is_written",
        || {
            let ring = ring(1, Many);
            let mut first = ring.shared_producer().unwrap();
            let mut second = first.try_clone().unwrap();
            let mut claim = first.claim(1).unwrap();
            let visitor = thread::spawn({
                let ring = ring.clone();
                move || drop(ring.consumer("c").join().unwrap())
            });
            let writer = thread::spawn(move || {
                _ = second.try_publish_value(1);
                second
            });
            claim[0] = 0;
            claim.publish();
            visitor.join().unwrap();
            let _second = writer.join().unwrap();
        },
    );
}

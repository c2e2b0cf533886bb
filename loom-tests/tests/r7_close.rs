//! R7 CLOSE: close and poison reach everyone, waiting or not; what was published is delivered before a
//! consumer hears that the ring is closed.
//!
//! Those who park are in `r5_wake.rs`; here they poll.

use std::ops::DerefMut;

use annulus_loom_tests::{builder, drain, model, publish, ring, take, thread};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{ClaimError, Consumer, Ended, Producer, Producers, Ring};

/// A stage behind another hears of the close after the last event, as the other does.
#[test]
fn the_drop_of_the_only_producer_loses_nothing() {
    model("r7 the_drop_of_the_only_producer_loses_nothing", || {
        let ring = builder(2, One).members(3).build(|| 0).unwrap();
        let a = ring.consumer("a").join().unwrap();
        let b = ring.consumer("b").after(["a"]).join().unwrap();
        let producer = publish(ring.producer().unwrap(), 0..1);
        let [mut a, mut b] = [a, b].map(|consumer| take(consumer, 1).1);
        let writer = thread::spawn(move || drop(publish(producer, 1..2)));
        let a = thread::spawn(move || (drain(&mut a), a));
        assert_eq!(drain(&mut b), [(1, 1)]);
        assert_eq!(a.join().unwrap().0, [(1, 1)]);
        writer.join().unwrap();
    });
}

/// The last of two producers closes, whichever it is.
#[test]
fn the_drop_of_the_last_producer_loses_nothing() {
    model("r7 the_drop_of_the_last_producer_loses_nothing", || {
        let ring = builder(2, Many).members(3).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let first = ring.shared_producer().unwrap();
        let second = first.try_clone().unwrap();
        let writers = [first, second].map(|mut producer| {
            thread::spawn(move || {
                producer.publish_value(7).unwrap();
            })
        });
        assert_eq!(drain(&mut consumer), [(0, 7), (1, 7)]);
        for writer in writers {
            writer.join().unwrap();
        }
        assert!(ring.is_closed());
    });
}

/// Publishes events, or as many as it can before the ring is closed; returns those that it could.
fn publish_until_closed(producer: &mut Producer<u64>, events: u64) -> Vec<(u64, u64)> {
    let mut published = Vec::new();
    for value in 0..events {
        match producer.publish_value(value) {
            Ok(sequence) => published.push((sequence, value)),
            Err(rejected) => {
                assert_eq!(rejected.cause, ClaimError::Closed);
                break;
            }
        }
    }
    published
}

/// Somebody closes the ring while two publish: what they were told was published is delivered, and nothing
/// else.
#[test]
fn a_close_loses_nothing_of_what_many_published() {
    model("r7 a_close_loses_nothing_of_what_many_published", || {
        let ring = builder(4, Many).members(3).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let first = ring.shared_producer().unwrap();
        let second = first.try_clone().unwrap();
        let writers = [first, second].map(|mut producer| {
            thread::spawn(move || (publish_until_closed(&mut producer, 1), producer))
        });
        ring.close();
        let delivered = drain(&mut consumer);
        let writers = writers.map(|writer| writer.join().unwrap());
        let mut published = writers.map(|(published, _producer)| published).concat();
        published.sort();
        assert_eq!(delivered, published);
    });
}

/// The same while somebody reads: the end comes when all of it has been read.
#[test]
fn a_close_is_heard_of_after_the_last_event() {
    model("r7 a_close_is_heard_of_after_the_last_event", || {
        let ring = builder(4, Many).members(2).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut producer = ring.shared_producer().unwrap();
        let writer = thread::spawn(move || (publish_until_closed(&mut producer, 2), producer));
        let reader = thread::spawn(move || (drain(&mut consumer), consumer));
        ring.close();
        let (published, _producer) = writer.join().unwrap();
        let (delivered, _consumer) = reader.join().unwrap();
        assert_eq!(delivered, published);
    });
}

/// A claim that was made before the close is published, or given up, after it.
#[test]
fn a_close_waits_for_what_is_claimed() {
    model("r7 a_close_waits_for_what_is_claimed", || {
        let ring = builder(2, Many).members(3).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let mut claim = first.claim(1).unwrap();
        std::mem::forget(second.claim(1).unwrap());
        ring.close();
        let reader = thread::spawn(move || (drain(&mut consumer), consumer));
        let giver_up = thread::spawn(move || {
            assert_eq!(second.free(), Err(ClaimError::Closed));
            second
        });
        claim[0] = 7;
        claim.publish();
        let _second = giver_up.join().unwrap();
        let (delivered, consumer) = reader.join().unwrap();
        assert_eq!(delivered, [(0, 7)]);
        assert_eq!(consumer.skipped(), 1);
    });
}

/// The only producer is asked to close while it publishes, and somebody reads. It does so at its next claim,
/// or when it leaves.
#[test]
fn the_only_producer_closes_as_it_is_asked() {
    model("r7 the_only_producer_closes_as_it_is_asked", || {
        let ring = builder(2, One).members(2).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut producer = ring.producer().unwrap();
        let writer = thread::spawn(move || publish_until_closed(&mut producer, 1));
        let reader = thread::spawn(move || (drain(&mut consumer), consumer));
        ring.close();
        let published = writer.join().unwrap();
        let (delivered, _consumer) = reader.join().unwrap();
        assert_eq!(delivered, published);
        assert!(ring.is_closed());
    });
}

/// A claim that is too long is told of the close before one that is short enough not to look at the gate: what the
/// producer has agreed to holds for that too.
#[test]
fn nothing_is_published_after_the_only_producer_has_closed() {
    model(
        "r7 nothing_is_published_after_the_only_producer_has_closed",
        || {
            let ring = builder(2, One).members(2).build(|| 0).unwrap();
            let mut consumer = ring.consumer("c").join().unwrap();
            let mut producer = ring.producer().unwrap();
            producer.publish_value(7).unwrap();
            drop(consumer.next_batch().unwrap());
            let writer = thread::spawn(move || {
                let long = producer.try_publish_batch(2, |_| ()).err();
                let short = producer.publish_value(8).is_ok();
                assert!(!(long == Some(ClaimError::Closed) && short));
                (long, short, producer)
            });
            ring.close();
            let (long, short, producer) = writer.join().unwrap();
            drop(producer);
            let published = if long.is_none() { 2 } else { 0 } + u64::from(short);
            assert_eq!(drain(&mut consumer).len() as u64, published);
        },
    );
}

/// The same with a poison.
#[test]
fn nothing_is_published_after_the_only_producer_has_heard_of_a_poison() {
    model(
        "r7 nothing_is_published_after_the_only_producer_has_heard_of_a_poison",
        || {
            let ring = builder(2, One).members(2).build(|| 0).unwrap();
            let mut consumer = ring.consumer("c").join().unwrap();
            let producer = Box::new(ring.producer().unwrap());
            hears_of_a_poison(&ring, &mut consumer, producer);
        },
    );
}

#[test]
fn nothing_is_published_after_one_of_many_has_heard_of_a_poison() {
    model(
        "r7 nothing_is_published_after_one_of_many_has_heard_of_a_poison",
        || {
            let ring = builder(2, Many).members(2).build(|| 0).unwrap();
            let mut consumer = ring.consumer("c").join().unwrap();
            let producer = ring.shared_producer().unwrap();
            hears_of_a_poison(&ring, &mut consumer, producer);
        },
    );
}

fn hears_of_a_poison(
    ring: &Ring<u64>,
    consumer: &mut Consumer<u64>,
    mut producer: impl DerefMut<Target = Producer<u64>> + Send + 'static,
) {
    producer.publish_value(7).unwrap();
    drop(consumer.next_batch().unwrap());
    let writer = thread::spawn(move || {
        let long = producer.try_publish_batch(2, |_| ());
        let heard = matches!(long, Err(ClaimError::Poisoned(_)));
        let short = producer.try_publish_value(8).is_ok();
        assert!(!(heard && short));
        producer
    });
    ring.poison(1);
    drop(writer.join().unwrap());
}

/// A ring that has no producer is closed by whoever says so.
#[test]
fn a_ring_without_a_producer_is_closed_at_once() {
    model("r7 a_ring_without_a_producer_is_closed_at_once", || {
        let ring = builder(1, One).members(2).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let closer = thread::spawn({
            let ring = ring.clone();
            move || ring.close()
        });
        let delivered = match ring.producer() {
            Ok(mut producer) => match producer.publish_value(7) {
                Ok(sequence) => vec![(sequence, 7)],
                Err(_) => vec![],
            },
            Err(_) => vec![],
        };
        closer.join().unwrap();
        assert_eq!(drain(&mut consumer), delivered);
    });
}

/// A producer that waits at the gate, and a consumer that waits behind another one.
#[test]
fn a_poison_reaches_who_waits() {
    model("r7 a_poison_reaches_who_waits", || {
        let ring = ring(1, One);
        let a = ring.consumer("a").join().unwrap();
        let mut b = ring.consumer("b").after(["a"]).join().unwrap();
        let mut producer = publish(ring.producer().unwrap(), 0..1);
        let stage = thread::spawn(move || (b.next_batch().map(|batch| batch[0]), b));
        let writer = thread::spawn(move || (producer.publish(|_| ()), producer));
        a.poison(7);
        let (read, _b) = stage.join().unwrap();
        let (published, _producer) = writer.join().unwrap();
        let Err(Ended::Poisoned(poisoned)) = read else {
            panic!("{read:?}");
        };
        assert_eq!(poisoned.reason, 7);
        assert_eq!(published, Err(ClaimError::Poisoned(poisoned)));
    });
}

/// Who poisons the ring then leaves, which closes it: that comes too late to be what a consumer hears of.
#[test]
fn a_poison_is_not_taken_for_a_close() {
    model("r7 a_poison_is_not_taken_for_a_close", || {
        let ring = builder(1, One).members(2).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let producer = ring.producer().unwrap();
        let poisoner = thread::spawn(move || {
            let producer = publish(producer, 0..1);
            producer.poison(7);
        });
        let ended = loop {
            if let Err(ended) = consumer.next_batch().map(drop) {
                break ended;
            }
        };
        let Ended::Poisoned(poisoned) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(poisoned.reason, 7);
        poisoner.join().unwrap();
        assert!(ring.is_closed());
    });
}

/// Producers with room before them hear of a poison at their next claim, also if it is the second.
fn a_poison_stops_who_has_room(producers: Producers) {
    let ring = builder(4, producers).members(2).build(|| 0).unwrap();
    let mut publish: Box<dyn FnMut(u64) -> Result<u64, ClaimError>> = match producers {
        One => {
            let mut producer = ring.producer().unwrap();
            Box::new(move |value| producer.publish(|slot| *slot = value))
        }
        Many => {
            let mut producer = ring.shared_producer().unwrap();
            Box::new(move |value| producer.publish(|slot| *slot = value))
        }
    };
    let other = thread::spawn({
        let ring = ring.clone();
        move || ring.poison(7)
    });
    _ = publish(0);
    // There may be a poison already: then this one is not the first, and stops it all the same.
    ring.poison(7);
    let cause = publish(1).unwrap_err();
    assert!(matches!(cause, ClaimError::Poisoned(_)), "{cause:?}");
    other.join().unwrap();
}

#[test]
fn a_poison_stops_the_only_producer() {
    model("r7 a_poison_stops_the_only_producer", || {
        a_poison_stops_who_has_room(One);
    });
}

#[test]
fn a_poison_stops_one_of_many() {
    model("r7 a_poison_stops_one_of_many", || {
        a_poison_stops_who_has_room(Many);
    });
}

/// Who claims while the ring is poisoned goes on or hears of the poison, and not of a close.
#[test]
fn claims_meet_a_poison() {
    model("r7 claims_meet_a_poison", || {
        let ring = builder(4, Many).members(2).build(|| 0).unwrap();
        let mut producer = ring.shared_producer().unwrap();
        let poisoner = thread::spawn({
            let ring = ring.clone();
            move || ring.poison(7)
        });
        for value in 0..2 {
            if let Err(rejected) = producer.publish_value(value) {
                assert!(
                    matches!(rejected.cause, ClaimError::Poisoned(_)),
                    "{rejected:?}"
                );
            }
        }
        poisoner.join().unwrap();
        assert!(!ring.is_closed());
    });
}

/// The first poison stays, and whoever acts after having heard of it finds what led to it.
#[test]
fn the_first_poison_stays() {
    model("r7 the_first_poison_stays", || {
        let ring = builder(1, One).members(2).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let producer = ring.producer().unwrap();
        let poisoner = thread::spawn(move || {
            producer.poison(1);
            producer
        });
        let other = thread::spawn({
            let ring = ring.clone();
            move || ring.poison(2)
        });
        let Err(Ended::Poisoned(poisoned)) = consumer.next_batch() else {
            panic!("not poisoned");
        };
        other.join().unwrap();
        let mut producer = poisoner.join().unwrap();
        assert_eq!(
            producer.publish(|_| ()),
            Err(ClaimError::Poisoned(poisoned))
        );
        assert_eq!(ring.snapshot().poisoned, Some(poisoned));
        assert_eq!(poisoned.row.is_some(), poisoned.reason == 1);
    });
}

//! R9 OBSERVE: a copy that counts is one published event, never a mixture.
//!
//! An event is two numbers, which whoever writes it makes equal. To loom they are atomics, so these models are
//! for loom alone; without it there are tests of ordinary memory.

#![cfg(loom)]

mod common;

use std::sync::Arc;

use annulus_loom_tests::{AtomicU64, Relaxed, builder, model, thread};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{Observable, Observer, Producer, Ring, RingBuilder, Start, Step};
use common::{Deaths, Mortal};

enum Pair {
    /// In a slot.
    Shared(AtomicU64, AtomicU64),
    /// What an observer has found there.
    Copied(u64, u64),
}

impl Pair {
    fn zero() -> Self {
        Self::Shared(AtomicU64::new(0), AtomicU64::new(0))
    }

    fn write(&mut self, value: u64) {
        let Self::Shared(first, second) = self else {
            unreachable!("a copy is not written")
        };
        first.store(value, Relaxed);
        second.store(value, Relaxed);
    }
}

impl Observable for Pair {
    fn copy(&self) -> Self {
        let Self::Shared(first, second) = self else {
            unreachable!("a copy is not copied")
        };
        Self::Copied(first.load(Relaxed), second.load(Relaxed))
    }
}

fn ring(builder: RingBuilder) -> Ring<Pair> {
    builder.build(Pair::zero).unwrap()
}

/// Publishes the event of each sequence, which is the sequence and one, `count` times.
fn publish(producer: &mut Producer<Pair>, count: usize) {
    for _ in 0..count {
        let mut claim = producer.claim(1).unwrap();
        let value = claim.sequences().end;
        claim[0].write(value);
        claim.publish();
    }
}

/// Looks so many times; each event is what `expected` makes of its sequence, and none is lost unheard.
fn observe(observer: &mut Observer<Pair>, looks: usize, expected: impl Fn(u64) -> u64) {
    let mut next = observer.position();
    let mut lost = observer.missed() + observer.skipped();
    for _ in 0..looks {
        let Ok((sequence, Pair::Copied(first, second))) = observer.try_next() else {
            continue;
        };
        assert_eq!(first, second, "a mixture at {sequence}");
        assert_eq!(first, expected(sequence), "of another lap at {sequence}");
        let lost_now = observer.missed() + observer.skipped();
        assert_eq!(sequence, next + (lost_now - lost), "lost unheard");
        (next, lost) = (sequence + 1, lost_now);
    }
}

/// One producer laps an observer.
fn one_producer_laps(capacity: usize, events: usize, looks: usize) {
    let ring = ring(builder(capacity, One).observable());
    let mut observer = ring.observer().unwrap();
    let mut producer = ring.producer().unwrap();
    publish(&mut producer, 1);
    let writer = thread::spawn(move || {
        publish(&mut producer, events);
        producer
    });
    observe(&mut observer, looks, |s| s + 1);
    let _producer = writer.join().unwrap();
    observe(&mut observer, looks, |s| s + 1);
    assert_eq!(observer.position(), 1 + events as u64);
}

#[test]
fn one_producer_laps_in_a_slot() {
    model("r9 one_producer_laps_in_a_slot", || {
        one_producer_laps(1, 2, 2);
    });
}

#[test]
fn one_producer_laps_in_two_slots() {
    model("r9 one_producer_laps_in_two_slots", || {
        one_producer_laps(2, 3, 3);
    });
}

/// Two producers lap what was published before.
#[test]
fn two_producers_lap() {
    model("r9 two_producers_lap", || {
        let ring = ring(builder(2, Many));
        let mut observer = ring.observer().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        publish(&mut first, 2);
        let other = thread::spawn(move || {
            publish(&mut second, 1);
            second
        });
        let observing = thread::spawn(move || {
            observe(&mut observer, 1, |s| s + 1);
            observer
        });
        publish(&mut first, 1);
        let _second = other.join().unwrap();
        let _observer = observing.join().unwrap();
    });
}

/// One of many laps, twice.
#[test]
fn one_of_many_producers_laps() {
    model("r9 one_of_many_producers_laps", || {
        let ring = ring(builder(1, Many));
        let mut observer = ring.observer().unwrap();
        let mut producer = ring.shared_producer().unwrap();
        publish(&mut producer, 1);
        let writer = thread::spawn(move || {
            publish(&mut producer, 2);
            producer
        });
        observe(&mut observer, 2, |s| s + 1);
        let _producer = writer.join().unwrap();
    });
}

/// What a consumer has not released is there to be copied.
#[test]
fn behind_a_consumer_little_is_missed() {
    model("r9 behind_a_consumer_little_is_missed", || {
        let ring = ring(builder(2, Many));
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut observer = ring.observer().unwrap();
        let mut producer = ring.shared_producer().unwrap();
        publish(&mut producer, 1);
        let writer = thread::spawn(move || {
            publish(&mut producer, 2);
            producer
        });
        let reader = thread::spawn(move || {
            drop(consumer.next_batch().unwrap());
            consumer
        });
        observe(&mut observer, 2, |s| s + 1);
        let _producer = writer.join().unwrap();
        let _consumer = reader.join().unwrap();
    });
}

/// A stage changes what is published: an observer sees events as it has left them.
#[test]
fn a_mutable_stage_comes_first() {
    model("r9 a_mutable_stage_comes_first", || {
        let ring = ring(builder(2, One).observable());
        let mut stage = ring.consumer("m").join_mut().unwrap();
        let mut observer = ring.observer().unwrap();
        let mut producer = ring.producer().unwrap();
        publish(&mut producer, 1);
        let changer = thread::spawn(move || {
            let mut batch = stage.next_batch_mut().unwrap();
            for event in &mut batch {
                event.write(50);
            }
            drop(batch);
            stage
        });
        let writer = thread::spawn(move || {
            publish(&mut producer, 1);
            producer
        });
        let mut seen = 0;
        for _ in 0..2 {
            if let Ok((sequence, Pair::Copied(first, second))) = observer.try_next() {
                assert_eq!((sequence, first, second), (seen, 50, 50));
                seen += 1;
            }
        }
        let _stage = changer.join().unwrap();
        let _producer = writer.join().unwrap();
    });
}

/// The stage joins while an observer is at work, and gets hold of what that copies: a copy is of before or of
/// after.
#[test]
fn a_mutable_stage_joins() {
    model("r9 a_mutable_stage_joins", || {
        let ring = ring(builder(2, Many));
        // Without it the stage would start behind everything that is published.
        let mut first = ring.consumer("first").join().unwrap();
        let mut observer = ring.observer().unwrap();
        let mut producer = ring.shared_producer().unwrap();
        publish(&mut producer, 1);
        let joiner = thread::spawn({
            let ring = ring.clone();
            move || {
                let stage = ring.consumer("m").after(["first"]);
                let mut stage = stage.start(Start::Oldest).join_mut().unwrap();
                drop(first.next_batch().unwrap());
                stage.next_batch_mut().unwrap()[0].write(50);
                (first, stage, ring)
            }
        });
        for _ in 0..2 {
            if let Ok((_, Pair::Copied(first, second))) = observer.try_next() {
                assert_eq!(first, second);
                assert!(first == 1 || first == 50);
            }
        }
        let _stage = joiner.join().unwrap();
        let _producer = producer;
    });
}

/// What a dead producer has announced is written by its successor.
#[test]
fn the_successor_of_a_producer_laps() {
    model("r9 the_successor_of_a_producer_laps", || {
        let ring = ring(builder(1, One).observable());
        let mut observer = ring.observer().unwrap();
        let mut producer = ring.producer().unwrap();
        publish(&mut producer, 1);
        let mortal = Mortal::new(producer.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                mortal.stops_at(Step::Write, 0);
                let claim = producer.claim(1).unwrap();
                claim.publish();
                producer
            }
        });
        let succeeding = thread::spawn({
            let (ring, mortal) = (ring.clone(), Arc::clone(&mortal));
            move || {
                mortal.wait_for_death();
                let mut successor = ring.succeed_producer(&deaths).unwrap();
                publish(&mut successor, 1);
                (successor, ring)
            }
        });
        observe(&mut observer, 2, |s| s + 1);
        let _successor = succeeding.join().unwrap();
        drop(until_over);
        dying.join().unwrap();
    });
}

//! R8 RECOVER: after a death at any point every published event is delivered, every abandoned claim is skipped,
//! and everyone goes on.
//!
//! A thread dies at a named step, wherever the others are then; somebody else knows that it is dead, and
//! recovers. These models are for loom alone: there are no steps without it.

#![cfg(loom)]

mod common;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use annulus_loom_tests::{builder, model, publish, publish_shared, ring, ring_apart, take, thread};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{
    ClaimError, Consumer, Ended, OnDeath, Producer, Producers, Ring, SharedProducer, Start, Step,
    Wait,
};
use common::{Deaths, Mortal};

/// What is there to be read, with sequences.
fn rest(consumer: &mut Consumer<u64>) -> Vec<(u64, u64)> {
    let mut events = Vec::new();
    while let Ok(batch) = consumer.try_next_batch() {
        events.extend(batch.with_sequences().map(|(s, event)| (s, *event)));
    }
    events
}

fn values(events: &[(u64, u64)]) -> Vec<u64> {
    assert!(events.is_sorted_by(|a, b| a.0 < b.0), "{events:?}");
    events.iter().map(|event| event.1).collect()
}

/// Publishes a batch of `n` times `value`.
fn publish_some(producer: &mut SharedProducer<u64>, n: usize, value: u64) {
    // It fails only if it goes on when all is over.
    let _ = producer.publish_batch(n, |slots| slots.for_each(|slot| *slot = value));
}

/// A death of one of two producers.
struct Loss {
    capacity: usize,
    /// How much the first claims.
    batch: usize,
    step: Step,
    /// Whether there was a lap before.
    wrapped: bool,
}

/// One of two producers dies. Everybody recovers whenever; in the end everything is in its place.
fn a_producer_dies(loss: &Loss) {
    let &Loss {
        capacity,
        batch,
        step,
        wrapped,
    } = loss;
    let ring = ring(capacity, Many);
    let consumer = ring.consumer("c").join().unwrap();
    let mut first = ring.shared_producer().unwrap();
    let mut second = first.try_clone().unwrap();
    let lap = if wrapped { capacity } else { 0 };
    let (_, mut consumer) = {
        second = publish_shared(second, 0..lap as u64);
        take(consumer, lap)
    };
    let mortal = Mortal::new(first.row());
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            mortal.stops_at(step, 0);
            publish_some(&mut first, batch, 10);
            first
        }
    });
    let other = thread::spawn(move || publish_shared(second, 20..21));

    let mut abandoned = 0;
    if batch == 1 && !wrapped {
        abandoned += ring.recover(&deaths).abandoned;
    }
    mortal.wait_for_death();
    abandoned += ring.recover(&deaths).abandoned;
    let mut events = rest(&mut consumer);
    let second = other.join().unwrap();
    abandoned += ring.recover(&deaths).abandoned;
    events.extend(rest(&mut consumer));

    let (published, lost) = match step {
        Step::Intent => (0, 0),
        Step::Exchange | Step::Write => (0, batch),
        _ => (batch, 0),
    };
    let mut values = values(&events);
    values.sort_unstable();
    assert_eq!(values, [vec![10; published], vec![20]].concat());
    assert_eq!(abandoned, lost as u64);
    assert_eq!(consumer.skipped(), lost as u64);
    // Everything is free again.
    let mut second = publish_shared(second, 30..31);
    assert_eq!(second.free(), Ok(capacity - 1));
    ring.poison(0);
    drop(until_over);
    dying.join().unwrap();
}

macro_rules! a_producer_dies {
    ($($name:ident: $capacity:literal $batch:literal $step:ident $wrapped:literal,)*) => {$(
        #[test]
        fn $name() {
            model(concat!("r8 ", stringify!($name)), || {
                a_producer_dies(&Loss {
                    capacity: $capacity,
                    batch: $batch,
                    step: Step::$step,
                    wrapped: $wrapped,
                });
            });
        }
    )*};
}

a_producer_dies! {
    a_producer_dies_at_its_intent: 2 1 Intent false,
    a_producer_dies_at_its_exchange: 2 1 Exchange false,
    a_producer_dies_at_its_write: 2 1 Write false,
    a_producer_dies_at_its_stamp: 2 1 Stamp false,
    a_producer_dies_with_a_batch_claimed: 4 2 Exchange false,
    a_producer_dies_with_a_batch_published: 4 2 Stamp false,
    a_producer_dies_with_a_claim_in_the_second_lap: 2 1 Exchange true,
    a_producer_dies_with_a_batch_in_the_second_lap: 4 3 Write true,
}

/// Nobody is dead, and somebody recovers all the same: whoever is at work is left alone, wherever it is.
fn nobody_is_robbed(ring: &Ring<u64>, producers: usize, events: u64) {
    let consumer = ring.consumer("c").join().unwrap();
    let first = ring.shared_producer().unwrap();
    let others: Vec<_> = (1..producers)
        .map(|_| first.try_clone().unwrap())
        .map(|other| thread::spawn(move || publish_shared(other, 20..20 + events)))
        .collect();
    let recoverer = thread::spawn({
        let ring = ring.clone();
        move || ring.recover(&Deaths(Vec::new()))
    });
    let first = publish_shared(first, 10..10 + events);
    let recovered = recoverer.join().unwrap();
    assert_eq!(recovered.abandoned, 0);
    assert_eq!(recovered.freed, []);
    let _others: Vec<_> = (others.into_iter())
        .map(|other| other.join().unwrap())
        .collect();
    let mut consumer = consumer;
    assert_eq!(rest(&mut consumer).len() as u64, events * producers as u64);
    drop(first);
}

#[test]
fn a_living_producer_is_not_robbed() {
    model("r8 a_living_producer_is_not_robbed", || {
        nobody_is_robbed(&ring(4, Many), 1, 3);
    });
}

#[test]
fn two_living_producers_are_not_robbed() {
    model("r8 two_living_producers_are_not_robbed", || {
        nobody_is_robbed(&ring(2, Many), 2, 1);
    });
}

/// Nobody reads, and the producer is a lap ahead before somebody who recovers has looked at what he found.
#[test]
fn who_overwrites_is_not_robbed() {
    model("r8 who_overwrites_is_not_robbed", || {
        let ring = ring(1, Many);
        let producer = ring.shared_producer().unwrap();
        let recoverer = thread::spawn({
            let ring = ring.clone();
            move || ring.recover(&Deaths(Vec::new()))
        });
        let _producer = publish_shared(producer, 0..3);
        assert_eq!(recoverer.join().unwrap().abandoned, 0);
        assert_eq!(ring.snapshot().published, 3);
    });
}

/// A producer lost the exchange to one that is dead now, and has been told that the ring is full: nothing
/// of it hides that death.
#[test]
fn who_lost_the_exchange_hides_no_death() {
    model("r8 who_lost_the_exchange_hides_no_death", || {
        let ring = ring(1, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let mortal = Mortal::new(first.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                mortal.stops_at(Step::Exchange, 0);
                // It may lose the exchange itself, and then dies of nothing.
                let claimed = first.try_publish_value(10).is_ok();
                if !claimed {
                    mortal.stop();
                }
                first
            }
        });
        let mut abandoned = ring.recover(&deaths).abandoned;
        let won = second.try_publish_value(20).is_ok();
        mortal.wait_for_death();
        abandoned += ring.recover(&deaths).abandoned;
        assert_eq!(abandoned, u64::from(!won));
        assert_eq!(rest(&mut consumer).len(), usize::from(won));
        second.try_publish_value(21).unwrap();
        ring.poison(0);
        drop(until_over);
        dying.join().unwrap();
    });
}

/// What is published lies between two claims of the dead: recovering once is enough.
#[test]
fn two_dead_producers_with_a_living_one_between() {
    model("r8 two_dead_producers_with_a_living_one_between", || {
        let ring = ring(4, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut dying = [(); 2].map(|()| ring.shared_producer().unwrap());
        let second = ring.shared_producer().unwrap();
        let mortals = dying.each_ref().map(|producer| Mortal::new(producer.row()));
        let deaths = Deaths(mortals.to_vec());
        let until_over = mortals.each_ref().map(|mortal| mortal.until_over());
        dying[0].claim(1).map(std::mem::forget).unwrap();
        let second = publish_shared(second, 20..21);
        dying[1].claim(1).map(std::mem::forget).unwrap();
        let dying = thread::spawn({
            let mortals = mortals.clone();
            move || {
                mortals.iter().for_each(|mortal| mortal.die());
                mortals[1].stop();
                dying
            }
        });
        mortals[1].wait_for_death();
        let writer = thread::spawn(move || publish_shared(second, 21..22));
        assert_eq!(ring.recover(&deaths).abandoned, 2);
        let mut events = rest(&mut consumer);
        let _second = writer.join().unwrap();
        events.extend(rest(&mut consumer));
        assert_eq!(events, [(1, 20), (3, 21)]);
        ring.poison(0);
        drop(until_over);
        dying.join().unwrap();
    });
}

/// Of what a dead producer had claimed, who does what is not said, but all of it is done once.
#[test]
fn two_recover_at_once() {
    model("r8 two_recover_at_once", || {
        let ring = ring(4, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let second = first.try_clone().unwrap();
        let mortal = Mortal::new(first.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                mortal.stops_at(Step::Write, 0);
                publish_some(&mut first, 2, 10);
                first
            }
        });
        mortal.wait_for_death();
        let _second = publish_shared(second, 20..21);
        let recoverer = thread::spawn({
            let (ring, deaths) = (ring.clone(), deaths.clone());
            move || ring.recover(&deaths)
        });
        let mine = ring.recover(&deaths);
        let mut events = rest(&mut consumer);
        let theirs = recoverer.join().unwrap();
        events.extend(rest(&mut consumer));
        assert_eq!(events, [(2, 20)]);
        assert_eq!(mine.abandoned + theirs.abandoned, 2);
        assert_eq!([mine.freed, theirs.freed].concat(), [1]);
        ring.poison(0);
        drop(until_over);
        dying.join().unwrap();
    });
}

/// Who recovers dies as well, and the next one goes on.
fn the_recoverer_dies(step: Step, nth: usize) {
    let ring = ring(4, Many);
    let mut consumer = ring.consumer("c").join().unwrap();
    let mut first = ring.shared_producer().unwrap();
    let mut second = first.try_clone().unwrap();
    let [mortal, recoverer] = [first.row(), usize::MAX].map(Mortal::new);
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let until_over = mortal.until_over();
    let recoverer_until_over = recoverer.until_over();
    // The first producer dies in this very thread, with a claim of 2.
    first.claim(2).map(std::mem::forget).unwrap();
    let dying = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            mortal.stop();
            first
        }
    });
    mortal.wait_for_death();
    let recovering = thread::spawn({
        let (ring, deaths, recoverer) = (ring.clone(), deaths.clone(), Arc::clone(&recoverer));
        move || {
            recoverer.stops_at(step, nth);
            let recovered = ring.recover(&deaths);
            if recovered.abandoned < 2 {
                recoverer.stop(); // The other was faster.
            }
            recovered
        }
    });
    second = publish_shared(second, 20..21);
    let mut recovered = ring.recover(&deaths);
    recoverer.wait_for_death();
    recovered.abandoned += ring.recover(&deaths).abandoned;
    assert!(recovered.abandoned <= 2);
    assert_eq!(rest(&mut consumer), [(2, 20)]);
    assert_eq!(consumer.skipped(), 2);
    let _second = publish_shared(second, 21..22);
    assert_eq!(rest(&mut consumer), [(3, 21)]);
    ring.poison(0);
    drop(recoverer_until_over);
    recovering.join().unwrap();
    drop(until_over);
    dying.join().unwrap();
}

#[test]
fn the_recoverer_dies_before_it_has_done_anything() {
    model("r8 the_recoverer_dies_before_it_has_done_anything", || {
        the_recoverer_dies(Step::Abandon, 0);
    });
}

#[test]
fn the_recoverer_dies_half_way() {
    model("r8 the_recoverer_dies_half_way", || {
        the_recoverer_dies(Step::Abandon, 1);
    });
}

/// The only producer dies after it has published one event, in the middle of the next; another one goes on.
fn the_only_producer_is_succeeded(ring: &Ring<u64>, step: Step, published: &[u64]) {
    let consumer = ring.consumer("c").join().unwrap();
    let producer = publish(ring.producer().unwrap(), 0..1);
    let mortal = Mortal::new(producer.row());
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            mortal.stops_at(step, 0);
            publish(producer, 10..11)
        }
    });
    let events = published.len();
    let reader = thread::spawn(move || take(consumer, events));
    mortal.wait_for_death();
    // Whoever looks meanwhile sees no more than was published.
    assert!(ring.snapshot().published <= published.len() as u64);
    assert!(ring.producer().is_err());
    let mut successor = ring.succeed_producer(&deaths).unwrap();
    successor.publish_value(20).unwrap();
    let (seen, _consumer) = reader.join().unwrap();
    // Nothing that it has seen comes again, and nothing is passed over.
    assert_eq!(seen, published);
    ring.poison(0);
    drop(until_over);
    dying.join().unwrap();
}

macro_rules! the_only_producer_is_succeeded {
    ($($name:ident: $ring:ident $step:ident $published:expr,)*) => {$(
        #[test]
        fn $name() {
            model(concat!("r8 ", stringify!($name)), || {
                the_only_producer_is_succeeded(&$ring(2, One), Step::$step, &$published);
            });
        }
    )*};
}

the_only_producer_is_succeeded! {
    the_only_producer_dies_at_its_write: ring Write [0, 20],
    the_only_producer_dies_at_its_stamp: ring Stamp [0, 10, 20],
    the_only_producer_dies_at_its_publication: ring Publish [0, 10, 20],
    the_only_producer_without_stamps_dies_at_its_write: ring_apart Write [0, 20],
    the_only_producer_without_stamps_dies_at_its_publication: ring_apart Publish [0, 10, 20],
}

/// It dies after it has stamped an event, and before it has woken the consumer that sleeps.
#[test]
fn c25_a_parked_consumer_is_woken_by_the_successor_of_the_producer() {
    model(
        "r8 c25_a_parked_consumer_is_woken_by_the_successor_of_the_producer",
        || {
            let ring: Ring<u64> = builder(2, One).parking().build(|| 0).unwrap();
            let consumer = ring.consumer("c").wait(Wait::Park).join().unwrap();
            let producer = publish(ring.producer().unwrap(), 0..1);
            let consumer = take(consumer, 1).1;
            let mortal = Mortal::new(producer.row());
            let deaths = Deaths(vec![Arc::clone(&mortal)]);
            let until_over = mortal.until_over();
            let dying = thread::spawn({
                let mortal = Arc::clone(&mortal);
                move || {
                    mortal.stops_at(Step::Stamp, 0);
                    publish(producer, 10..11)
                }
            });
            let reader = thread::spawn(move || take(consumer, 1));
            mortal.wait_for_death();
            let _successor = ring.succeed_producer(&deaths).unwrap();
            assert_eq!(reader.join().unwrap().0, [10]);
            ring.poison(0);
            drop(until_over);
            dying.join().unwrap();
        },
    );
}

/// A ring is to be closed, and its only producer dies before it has done so: what it had published comes,
/// and then the end.
fn the_only_producer_dies_before_it_closes(ring: &Ring<u64>, step: Step, published: &[u64]) {
    let mut consumer = ring.consumer("c").join().unwrap();
    let producer = ring.producer().unwrap();
    let mortal = Mortal::new(producer.row());
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            mortal.stops_at(step, 0);
            publish(producer, 10..11)
        }
    });
    let reader = thread::spawn(move || {
        let mut seen = Vec::new();
        while let Ok(batch) = consumer.next_batch() {
            seen.extend(batch.iter().copied());
        }
        (seen, consumer)
    });
    mortal.wait_for_death();
    ring.close();
    assert!(!ring.is_closed());
    ring.recover(&deaths);
    assert!(ring.is_closed());
    let (seen, _consumer) = reader.join().unwrap();
    assert_eq!(seen, published);
    drop(until_over);
    dying.join().unwrap();
}

#[test]
fn a_close_is_done_for_the_dead_producer() {
    model("r8 a_close_is_done_for_the_dead_producer", || {
        the_only_producer_dies_before_it_closes(&ring(2, One), Step::Stamp, &[10]);
    });
}

#[test]
fn a_close_is_done_for_the_dead_producer_without_stamps() {
    model(
        "r8 a_close_is_done_for_the_dead_producer_without_stamps",
        || {
            the_only_producer_dies_before_it_closes(&ring_apart(2, One), Step::Write, &[]);
        },
    );
}

/// Who poisons a ring of many producers dies before it has stopped them: whoever recovers does it.
#[test]
fn a_poison_is_finished_for_the_dead() {
    model("r8 a_poison_is_finished_for_the_dead", || {
        let ring = ring(4, Many);
        let mut producer = ring.shared_producer().unwrap();
        let consumer = ring.consumer("c").join().unwrap();
        let mortal = Mortal::new(consumer.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                mortal.stops_at(Step::Stop, 0);
                consumer.poison(7);
                consumer
            }
        });
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                _ = producer.publish(|_| ()); // Nothing says when it hears of it.
            }
            producer
        });
        mortal.wait_for_death();
        ring.recover(&deaths);
        let mut producer = writer.join().unwrap();
        let cause = producer.publish(|_| ()).unwrap_err();
        assert!(matches!(cause, ClaimError::Poisoned(_)), "{cause:?}");
        assert!(!ring.is_closed());
        drop(until_over);
        dying.join().unwrap();
    });
}

/// A ring is closed while a claim is made that is never published.
#[test]
fn a_closed_ring_ends_behind_a_dead_producer() {
    model("r8 a_closed_ring_ends_behind_a_dead_producer", || {
        let ring = ring(2, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mortal = Mortal::new(first.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                mortal.stops_at(Step::Exchange, 0);
                publish_some(&mut first, 1, 10);
                mortal.stop(); // The ring was closed first.
                first
            }
        });
        let closer = thread::spawn({
            let ring = ring.clone();
            move || ring.close()
        });
        mortal.wait_for_death();
        let mut abandoned = ring.recover(&deaths).abandoned;
        closer.join().unwrap();
        abandoned += ring.recover(&deaths).abandoned;
        assert_eq!(abandoned, ring.snapshot().claimed);
        assert_eq!(consumer.next_batch().unwrap_err(), Ended::Closed);
        drop(until_over);
        dying.join().unwrap();
    });
}

/// The only producer of a ring, or one of many.
enum Feed {
    One(Producer<u64>),
    Many(SharedProducer<u64>),
}

impl Feed {
    fn of(ring: &Ring<u64>, producers: Producers) -> Self {
        match producers {
            One => Self::One(ring.producer().unwrap()),
            Many => Self::Many(ring.shared_producer().unwrap()),
        }
    }

    /// Publishes these values, one by one.
    fn publish(self, values: Range<u64>) -> Self {
        match self {
            Self::One(producer) => Self::One(publish(producer, values)),
            Self::Many(producer) => Self::Many(publish_shared(producer, values)),
        }
    }

    /// Publishes these values in one batch.
    fn publish_batch(mut self, values: Range<u64>) -> Self {
        let n = (values.end - values.start) as usize;
        let producer: &mut Producer<u64> = match &mut self {
            Self::One(producer) => producer,
            Self::Many(producer) => producer,
        };
        producer
            .publish_batch(n, |slots| slots.zip(values).for_each(|(slot, v)| *slot = v))
            .unwrap();
        self
    }
}

/// Where a consumer dies.
#[derive(Clone, Copy)]
enum Reading {
    /// While it has a batch.
    Half,
    /// At this step, for the nth time.
    At(Step, usize),
}

/// Reads everything that is there, or dies before.
fn dies_reading(mortal: &Arc<Mortal>, reading: Reading, consumer: &mut Consumer<u64>) {
    if let Reading::At(step, nth) = reading {
        mortal.stops_at(step, nth);
    }
    while let Ok(batch) = consumer.try_next_batch() {
        if let Reading::Half = reading {
            assert!(!batch.is_empty());
            mortal.stop();
            batch.hold(); // It has no right to release it any more.
            return;
        }
    }
}

/// A consumer of a full ring dies, and holds up a producer until somebody recovers.
fn a_dead_consumer_is_released(producers: Producers, capacity: usize, reading: Reading) {
    let ring = ring(capacity, producers);
    let capacity = capacity as u64;
    let consumer = ring.consumer("c").on_death(OnDeath::Release);
    let mut consumer = consumer.join().unwrap();
    let mortal = Mortal::new(consumer.row());
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let until_over = mortal.until_over();
    let feed = Feed::of(&ring, producers).publish(0..capacity);
    let dying = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            dies_reading(&mortal, reading, &mut consumer);
            consumer
        }
    });
    let writer = thread::spawn(move || feed.publish(capacity..2 * capacity + 1));
    let early = ring.recover(&deaths).freed;
    mortal.wait_for_death();
    let late = ring.recover(&deaths).freed;
    assert_eq!([early, late].concat(), [0]);
    let _feed = writer.join().unwrap();
    assert_eq!(ring.snapshot().published, 2 * capacity + 1);
    // Its name is free again.
    let _another = ring.consumer("c").join().unwrap();
    ring.poison(0);
    drop(until_over);
    dying.join().unwrap();
}

/// A consumer dies somewhere and is held; its successor goes on where it has released.
fn a_dead_consumer_is_succeeded(
    producers: Producers,
    events: Range<u64>,
    reading: Reading,
    released: u64,
) {
    let ring = ring(4, producers);
    let consumer = ring.consumer("c").on_death(OnDeath::Hold).batch_limit(1);
    let mut consumer = consumer.join().unwrap();
    let mortal = Mortal::new(consumer.row());
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let until_over = mortal.until_over();
    let feed = Feed::of(&ring, producers).publish_batch(events.clone());
    let dying = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            dies_reading(&mortal, reading, &mut consumer);
            consumer
        }
    });
    let writer = thread::spawn(move || feed.publish(events.end..events.end + 1));
    mortal.wait_for_death();
    assert_eq!(ring.recover(&deaths).held, [0]);
    let successor = ring.consumer("c").batch_limit(1).succeed(&deaths).unwrap();
    let all: Vec<u64> = (released..4).collect();
    assert_eq!(successor.position(), released);
    let (seen, _successor) = take(successor, all.len());
    assert_eq!(seen, all);
    let _feed = writer.join().unwrap();
    ring.poison(0);
    drop(until_over);
    dying.join().unwrap();
}

macro_rules! models {
    ($($name:ident: $run:expr;)*) => {$(
        #[test]
        fn $name() {
            model(concat!("r8 ", stringify!($name)), || $run);
        }
    )*};
}

models! {
    a_consumer_that_died_reading_is_released: a_dead_consumer_is_released(One, 1, Reading::Half);
    a_consumer_that_died_at_its_end_is_released: a_dead_consumer_is_released(One, 1, Reading::At(Step::End, 0));
    a_consumer_that_died_at_its_release_is_released: a_dead_consumer_is_released(One, 1, Reading::At(Step::Release, 0));
    a_consumer_of_many_that_died_reading_is_released: a_dead_consumer_is_released(Many, 1, Reading::Half);
    a_consumer_of_many_that_died_at_its_end_is_released: a_dead_consumer_is_released(Many, 1, Reading::At(Step::End, 0));
    a_consumer_of_many_that_died_at_its_release_is_released: a_dead_consumer_is_released(Many, 1, Reading::At(Step::Release, 0));
    a_consumer_that_died_reading_is_succeeded: a_dead_consumer_is_succeeded(One, 0..3, Reading::Half, 0);
    a_consumer_that_died_at_its_end_is_succeeded: a_dead_consumer_is_succeeded(One, 0..3, Reading::At(Step::End, 1), 1);
    a_consumer_that_died_at_its_release_is_succeeded: a_dead_consumer_is_succeeded(One, 0..3, Reading::At(Step::Release, 0), 1);
    a_consumer_of_many_that_died_reading_is_succeeded: a_dead_consumer_is_succeeded(Many, 0..3, Reading::Half, 0);
    a_consumer_of_many_that_died_at_its_end_is_succeeded: a_dead_consumer_is_succeeded(Many, 0..3, Reading::At(Step::End, 1), 1);
    a_consumer_of_many_that_died_at_its_release_is_succeeded: a_dead_consumer_is_succeeded(Many, 0..3, Reading::At(Step::Release, 0), 1);
}

/// A consumer dies while it steps over a claim that was dropped; its successor is not given what was written there.
#[test]
fn a_successor_steps_over_what_is_skipped() {
    model("r8 a_successor_steps_over_what_is_skipped", || {
        let ring = ring(4, Many);
        let consumer = ring.consumer("c").on_death(OnDeath::Hold);
        let mut consumer = consumer.join().unwrap();
        let mortal = Mortal::new(consumer.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let mut producer = ring.shared_producer().unwrap();
        let mut claim = producer.claim(1).unwrap();
        claim[0] = 99;
        drop(claim);
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                dies_reading(&mortal, Reading::At(Step::End, 0), &mut consumer);
                consumer
            }
        });
        let writer = thread::spawn(move || publish_shared(producer, 1..3));
        mortal.wait_for_death();
        let successor = ring.consumer("c").succeed(&deaths).unwrap();
        let (seen, _successor) = take(successor, 2);
        assert_eq!(seen, [1, 2]);
        let _producer = writer.join().unwrap();
        ring.poison(0);
        drop(until_over);
        dying.join().unwrap();
    });
}

/// The same, with events before it that are held: all is released at once.
#[test]
fn a_successor_steps_over_what_is_skipped_between_held_events() {
    model(
        "r8 a_successor_steps_over_what_is_skipped_between_held_events",
        || {
            let ring = ring(4, Many);
            let consumer = ring.consumer("c").on_death(OnDeath::Hold);
            let mut consumer = consumer.batch_limit(1).join().unwrap();
            let mortal = Mortal::new(consumer.row());
            let deaths = Deaths(vec![Arc::clone(&mortal)]);
            let until_over = mortal.until_over();
            let mut producer = ring.shared_producer().unwrap();
            let (first, last) = (|slot: &mut u64| *slot = 0, |slot: &mut u64| *slot = 3);
            producer
                .publish_batch(2, |slots| slots.for_each(first))
                .unwrap();
            drop(producer.claim(1).unwrap());
            producer.publish(last).unwrap();
            let dying = thread::spawn({
                let mortal = Arc::clone(&mortal);
                move || {
                    drop(consumer.next_batch().unwrap());
                    consumer.next_batch().unwrap().hold();
                    consumer.next_batch().unwrap().hold();
                    mortal.stops_at(Step::End, 0);
                    consumer.release_until(4);
                    consumer
                }
            });
            let writer = thread::spawn(move || publish_shared(producer, 4..5));
            mortal.wait_for_death();
            let successor = ring.consumer("c").batch_limit(1).succeed(&deaths).unwrap();
            let from = successor.position();
            let (seen, _successor) = take(successor, if from == 1 { 3 } else { 2 });
            assert!([&[0, 3, 4][..], &[3, 4]].contains(&&seen[..]), "{seen:?}");
            let _producer = writer.join().unwrap();
            ring.poison(0);
            drop(until_over);
            dying.join().unwrap();
        },
    );
}

/// A consumer dies that had joined inside a batch, and never released anything.
#[test]
fn a_successor_goes_on_inside_a_batch() {
    model("r8 a_successor_goes_on_inside_a_batch", || {
        let ring = ring(4, One);
        let mut other = ring.consumer("other").batch_limit(1).join().unwrap();
        let feed = Feed::of(&ring, One).publish_batch(0..2);
        drop(other.next_batch().unwrap());
        let consumer = ring.consumer("c").start(Start::Oldest);
        let mut consumer = consumer.on_death(OnDeath::Hold).join().unwrap();
        assert_eq!(consumer.position(), 1);
        let mortal = Mortal::new(consumer.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                dies_reading(&mortal, Reading::Half, &mut consumer);
                consumer
            }
        });
        let writer = thread::spawn(move || feed.publish(2..4));
        mortal.wait_for_death();
        let mut successor = ring.consumer("c").succeed(&deaths).unwrap();
        let mut seen = values(&rest(&mut successor));
        let _feed = writer.join().unwrap();
        seen.extend(values(&rest(&mut successor)));
        assert_eq!(seen, [1, 2, 3]);
        ring.poison(0);
        drop(until_over);
        dying.join().unwrap();
    });
}

/// Its successor comes while it still lives, or is just dead: where it has released is read only then.
#[test]
fn a_successor_starts_where_the_dead_one_has_released_last() {
    model(
        "r8 a_successor_starts_where_the_dead_one_has_released_last",
        || {
            let ring = ring(2, One);
            let consumer = ring.consumer("c").on_death(OnDeath::Hold).batch_limit(1);
            let mut consumer = consumer.join().unwrap();
            let mortal = Mortal::new(consumer.row());
            let deaths = Deaths(vec![Arc::clone(&mortal)]);
            let until_over = mortal.until_over();
            let feed = publish(ring.producer().unwrap(), 0..2);
            let writer = thread::spawn(move || publish(feed, 2..3));
            let dying = thread::spawn({
                let mortal = Arc::clone(&mortal);
                move || {
                    dies_reading(&mortal, Reading::At(Step::Release, 1), &mut consumer);
                    consumer
                }
            });
            let succeed = || ring.consumer("c").succeed(&deaths);
            let successor = succeed().or_else(|_| {
                mortal.wait_for_death();
                succeed()
            });
            assert_eq!(successor.as_ref().unwrap().position(), 2);
            assert_eq!(take(successor.unwrap(), 1).0, [2]);
            let _feed = writer.join().unwrap();
            ring.poison(0);
            drop(until_over);
            dying.join().unwrap();
        },
    );
}

/// A stage that changes events dies in the middle, and is held for a successor.
#[test]
fn a_dead_mutable_stage_is_succeeded() {
    model("r8 a_dead_mutable_stage_is_succeeded", || {
        let ring = ring(2, One);
        let stage = ring.consumer("m").batch_limit(1);
        let mut stage = stage.join_mut().unwrap();
        let behind = ring.consumer("c").after(["m"]).join().unwrap();
        let mortal = Mortal::new(stage.row());
        let deaths = Deaths(vec![Arc::clone(&mortal)]);
        let until_over = mortal.until_over();
        let _feed = Feed::of(&ring, One).publish(1..3);
        let dying = thread::spawn({
            let mortal = Arc::clone(&mortal);
            move || {
                stage.next_batch_mut().unwrap()[0] = 77;
                let mut batch = stage.next_batch_mut().unwrap();
                batch[0] = 99;
                mortal.stop();
                batch.hold();
                stage
            }
        });
        let reader = thread::spawn(move || take(behind, 2));
        mortal.wait_for_death();
        assert_eq!(ring.recover(&deaths).held, [0]);
        let successor = ring.consumer("m").succeed_mut(&deaths);
        let mut successor = successor.unwrap();
        successor.next_batch_mut().unwrap()[0] = 88;
        assert_eq!(reader.join().unwrap().0, [77, 88]);
        ring.poison(0);
        drop(until_over);
        dying.join().unwrap();
    });
}

/// A consumer of the name of the dead one, which is free again, where the ring is now.
fn comes_again(ring: &Ring<u64>) -> Consumer<u64> {
    let mut consumer = ring.consumer("c").join().unwrap();
    // It walks up to there, and until it has done so it may hold up producers.
    assert_eq!(rest(&mut consumer), []);
    consumer
}

/// Half a join is undone; producers did not wait for it longer than that.
fn a_joiner_dies(producers: Producers, step: Step) {
    let ring = ring(2, producers);
    let feed = Feed::of(&ring, producers).publish(0..1);
    let mortal = Mortal::new(1);
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let joiner = thread::spawn({
        let (ring, mortal) = (ring.clone(), Arc::clone(&mortal));
        move || {
            mortal.ends_at(step);
            catch_unwind(AssertUnwindSafe(|| ring.consumer("c").join())).is_err()
        }
    });
    let writer = thread::spawn(move || feed.publish(1..3));
    let mut early = Vec::new();
    if (producers, step) == (One, Step::Enter) {
        early = ring.recover(&deaths).freed;
    }
    assert!(joiner.join().unwrap());
    let late = ring.recover(&deaths).freed;
    assert_eq!([early, late].concat(), [1]);
    let feed = writer.join().unwrap();
    // Nobody is held up by it.
    let consumer = comes_again(&ring);
    let _feed = feed.publish(3..5);
    assert_eq!(take(consumer, 2).0, [3, 4]);
}

/// Half a leave is finished.
fn a_leaver_dies(producers: Producers, step: Step) {
    let ring = ring(1, producers);
    let mut consumer = ring.consumer("c").join().unwrap();
    let feed = Feed::of(&ring, producers).publish(0..1);
    let mortal = Mortal::new(consumer.row());
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let leaver = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            drop(consumer.next_batch().unwrap());
            mortal.ends_at(step);
            catch_unwind(AssertUnwindSafe(|| drop(consumer))).is_err()
        }
    });
    let writer = thread::spawn(move || feed.publish(1..3));
    assert!(leaver.join().unwrap());
    assert_eq!(ring.recover(&deaths).freed, [0]);
    let feed = writer.join().unwrap();
    let consumer = comes_again(&ring);
    let _feed = feed.publish(3..4);
    assert_eq!(take(consumer, 1).0, [3]);
}

/// Who recovers dies with the gate of a dead consumer in its hands.
fn the_recoverer_of_a_consumer_dies(step: Step) {
    let ring = ring(1, Many);
    let mut consumer = ring.consumer("c").join().unwrap();
    let [mortal, recoverer] = [consumer.row(), usize::MAX].map(Mortal::new);
    let deaths = Deaths(vec![Arc::clone(&mortal)]);
    let until_over = mortal.until_over();
    let feed = Feed::of(&ring, Many).publish(0..1);
    let dying = thread::spawn({
        let mortal = Arc::clone(&mortal);
        move || {
            dies_reading(&mortal, Reading::At(Step::Release, 0), &mut consumer);
            consumer
        }
    });
    mortal.wait_for_death();
    let recovering = thread::spawn({
        let (ring, deaths) = (ring.clone(), deaths.clone());
        move || {
            recoverer.ends_at(step);
            catch_unwind(AssertUnwindSafe(|| ring.recover(&deaths))).is_err()
        }
    });
    let beside = thread::spawn({
        let (ring, deaths) = (ring.clone(), deaths.clone());
        move || ring.recover(&deaths).freed
    });
    // These two may have been faster.
    let mut early = ring.recover(&deaths).freed;
    let died = recovering.join().unwrap();
    early.extend(beside.join().unwrap());
    assert!(died || early == [0]);
    let late = ring.recover(&deaths).freed;
    assert_eq!([early, late].concat(), [0]);
    let feed = feed.publish(1..4);
    let consumer = comes_again(&ring);
    let _feed = feed.publish(4..5);
    assert_eq!(take(consumer, 1).0, [4]);
    drop(until_over);
    dying.join().unwrap();
}

models! {
    a_joiner_dies_when_it_has_entered: a_joiner_dies(One, Step::Enter);
    a_joiner_dies_when_it_is_counted: a_joiner_dies(One, Step::Count);
    a_joiner_dies_when_it_has_joined: a_joiner_dies(One, Step::Join);
    a_joiner_of_many_dies_when_it_has_entered: a_joiner_dies(Many, Step::Enter);
    a_joiner_of_many_dies_when_it_is_counted: a_joiner_dies(Many, Step::Count);
    a_joiner_of_many_dies_when_it_has_joined: a_joiner_dies(Many, Step::Join);
    a_leaver_of_many_dies_when_the_floor_is_raised: a_leaver_dies(Many, Step::Floor);
    a_leaver_of_many_dies_when_it_has_left: a_leaver_dies(Many, Step::Leave);
    a_leaver_dies_when_it_has_left: a_leaver_dies(One, Step::Leave);
    the_recoverer_dies_before_it_evicts: the_recoverer_of_a_consumer_dies(Step::Evict);
    the_recoverer_dies_when_the_floor_is_raised: the_recoverer_of_a_consumer_dies(Step::Floor);
    the_recoverer_dies_when_it_has_evicted: the_recoverer_of_a_consumer_dies(Step::Leave);
}

/// A living consumer that is far behind is not evicted.
#[test]
fn a_living_consumer_is_not_released() {
    model("r8 a_living_consumer_is_not_released", || {
        let ring = ring(1, One);
        let mut consumer = ring.consumer("c").join().unwrap();
        let feed = Feed::of(&ring, One).publish(0..1);
        let writer = thread::spawn(move || feed.publish(1..2));
        let recoverer = thread::spawn({
            let ring = ring.clone();
            move || ring.recover(&Deaths(Vec::new()))
        });
        assert_eq!(consumer.next_batch().unwrap()[0], 0);
        assert_eq!(recoverer.join().unwrap().freed, []);
        assert_eq!(consumer.next_batch().unwrap()[0], 1);
        let _feed = writer.join().unwrap();
    });
}

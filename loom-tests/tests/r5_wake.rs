//! R5 WAKE: no wake-up is lost: a parked member is woken by what it waits for.
//!
//! Loom reports a deadlock when all who are left sleep. Whoever parks here is woken by one store only, or
//! by several that each have to wake: nothing else comes to its help.

#[cfg(loom)]
mod common;

#[cfg(loom)]
use std::sync::Arc;

use annulus_loom_tests::{builder, model, publish, publish_shared, take, thread};
use annulus_ring::Producers::{Many, One};
#[cfg(loom)]
use annulus_ring::Step;
use annulus_ring::{
    ClaimError, Consumer, Ended, Layout, Producer, Ring, RingBuilder, SharedProducer, Wait,
};
#[cfg(loom)]
use common::Mortal;

/// A ring whose members may park.
fn parking(builder: RingBuilder) -> Ring<u64> {
    builder.parking().build(|| 0).unwrap()
}

/// A consumer that parks, and takes one event at a time.
fn sleeper(ring: &Ring<u64>, name: &str, after: &[&str]) -> Consumer<u64> {
    let consumer = ring.consumer(name).after(after.iter().copied());
    let consumer = consumer.wait(Wait::Park).batch_limit(1);
    consumer.join().unwrap()
}

/// The only producer of a ring, which parks, after it has published `0..published`.
fn sleeping_producer(ring: &Ring<u64>, published: u64) -> Producer<u64> {
    let producer = ring.producer().unwrap().with_wait(Wait::Park).unwrap();
    publish(producer, 0..published)
}

/// As [`sleeping_producer`], one of many.
fn sleeping_shared_producer(ring: &Ring<u64>, published: u64) -> SharedProducer<u64> {
    let producer = ring.shared_producer().unwrap();
    publish_shared(producer.with_wait(Wait::Park).unwrap(), 0..published)
}

/// Two producers that have looked at the gate, and need not do so again; they have published two events.
fn two_producers(ring: &Ring<u64>) -> [SharedProducer<u64>; 2] {
    let first = ring.shared_producer().unwrap();
    let second = first.try_clone().unwrap();
    [publish_shared(first, 0..1), publish_shared(second, 1..2)]
}

/// Two events, one after the other: it sleeps twice.
fn a_consumer_sleeps_twice(ring: &Ring<u64>) {
    let consumer = sleeper(ring, "c", &[]);
    let producer = ring.producer().unwrap();
    let writer = thread::spawn(move || publish(producer, 0..2));
    let _consumer = take(consumer, 2);
    writer.join().unwrap();
}

#[test]
fn a_consumer_is_woken_by_a_stamp() {
    model("r5 a_consumer_is_woken_by_a_stamp", || {
        a_consumer_sleeps_twice(&parking(builder(2, One)));
    });
}

#[test]
fn a_consumer_is_woken_by_the_cursor() {
    model("r5 a_consumer_is_woken_by_the_cursor", || {
        a_consumer_sleeps_twice(&parking(builder(2, One).layout(Layout::Apart)));
    });
}

/// One sleeper, two who wake: one of them may find the flag cleared by the other.
#[test]
fn a_consumer_is_woken_by_either_of_two_producers() {
    model("r5 a_consumer_is_woken_by_either_of_two_producers", || {
        let ring = parking(builder(4, Many).members(3));
        let consumer = sleeper(&ring, "c", &[]);
        let producers = two_producers(&ring);
        let consumer = take(consumer, 2).1;
        let writers =
            producers.map(|producer| thread::spawn(move || publish_shared(producer, 7..8)));
        let (events, _consumer) = take(consumer, 2);
        assert_eq!(events, [7, 7]);
        let _producers = writers.map(|writer| writer.join().unwrap());
    });
}

/// The one that wakes stops for ever on its way, at each of its steps. Another publishes after that.
#[cfg(loom)]
#[test]
fn c23_a_stopped_waker_keeps_nobody_asleep() {
    for nth in 0..3 {
        let name = format!("r5 c23_a_stopped_waker_keeps_nobody_asleep, step {nth}");
        model(&name, move || {
            let ring = parking(builder(4, Many).members(3));
            let consumer = sleeper(&ring, "c", &[]);
            let [first, second] = two_producers(&ring);
            let consumer = take(consumer, 2).1;
            let mortal = Mortal::new(first.row());
            let over = mortal.until_over();
            let stopped = {
                let mortal = Arc::clone(&mortal);
                thread::spawn(move || {
                    mortal.stops_at(Step::Wake, nth);
                    let first = publish_shared(first, 7..8);
                    mortal.die(); // If it did not stop, as there was nobody to wake.
                    first
                })
            };
            let other = {
                let mortal = Arc::clone(&mortal);
                thread::spawn(move || {
                    mortal.wait_for_death();
                    publish_shared(second, 8..9)
                })
            };
            let (events, _consumer) = take(consumer, 2);
            assert_eq!(events, [7, 8]);
            drop(over);
            let _producers = [stopped.join().unwrap(), other.join().unwrap()];
        });
    }
}

/// Two sleepers, of which one has woken the other before.
#[test]
fn two_consumers_are_woken_by_two_producers() {
    model("r5 two_consumers_are_woken_by_two_producers", || {
        let ring = parking(builder(4, Many));
        let consumers = ["a", "b"].map(|name| sleeper(&ring, name, &[]));
        let [first, second] = two_producers(&ring);
        let [a, b] = consumers.map(|consumer| take(consumer, 2).1);
        let a = thread::spawn(move || take(a, 1));
        let second = thread::spawn(move || publish_shared(second, 7..8));
        let _first = publish_shared(first, 7..8);
        let _b = take(b, 1);
        let _a = a.join().unwrap();
        let _second = second.join().unwrap();
    });
}

/// Two sleepers, one who wakes them.
#[test]
fn two_consumers_are_woken_at_once() {
    model("r5 two_consumers_are_woken_at_once", || {
        let ring = parking(builder(4, One).members(3));
        let consumers = ["a", "b"].map(|name| sleeper(&ring, name, &[]));
        let producer = sleeping_producer(&ring, 1);
        let consumers = consumers.map(|consumer| take(consumer, 1).1);
        let [a, b] = consumers.map(|consumer| thread::spawn(move || take(consumer, 1)));
        let _producer = publish(producer, 1..2);
        let _consumers = [a.join().unwrap(), b.join().unwrap()];
    });
}

/// What was published before is given up; only then is there something to read.
#[test]
fn a_consumer_is_woken_by_a_dropped_claim() {
    model("r5 a_consumer_is_woken_by_a_dropped_claim", || {
        let ring = parking(builder(2, Many));
        let consumer = sleeper(&ring, "c", &[]);
        let mut first = ring.shared_producer().unwrap();
        let second = first.try_clone().unwrap();
        std::mem::forget(first.claim(1).unwrap());
        let _second = publish_shared(second, 7..8);
        let giver_up = thread::spawn(move || {
            first.free().unwrap(); // Gives the leaked claim up.
            first
        });
        let (events, _consumer) = take(consumer, 1);
        assert_eq!(events, [7]);
        let _first = giver_up.join().unwrap();
    });
}

/// A closed ring ends with a claim that is given up: who steps over it has come to the end.
#[test]
fn a_consumer_is_woken_by_a_dropped_claim_at_the_end() {
    model(
        "r5 a_consumer_is_woken_by_a_dropped_claim_at_the_end",
        || {
            let ring = parking(builder(2, Many));
            let mut consumer = sleeper(&ring, "c", &[]);
            let mut producers = [(); 2].map(|()| ring.shared_producer().unwrap());
            for producer in &mut producers {
                std::mem::forget(producer.claim(1).unwrap());
            }
            ring.close();
            let giver_up = thread::spawn(move || {
                for producer in &mut producers {
                    assert_eq!(producer.free(), Err(ClaimError::Closed));
                }
                producers
            });
            assert_eq!(consumer.next_batch().unwrap_err(), Ended::Closed);
            let _producers = giver_up.join().unwrap();
        },
    );
}

/// `a`, then `b`, which parks behind it; two events are published, and `a` does something about them.
fn a_stage_sleeps<R: Send + 'static>(act: impl FnOnce(Consumer<u64>) -> R + Send + 'static) {
    let ring = parking(builder(2, One));
    let a = ring.consumer("a").batch_limit(1).join().unwrap();
    let b = sleeper(&ring, "b", &["a"]);
    let _producer = publish(ring.producer().unwrap(), 0..2);
    let actor = thread::spawn(move || act(a));
    let _b = take(b, 2);
    actor.join().unwrap();
}

#[test]
fn a_stage_is_woken_by_a_release() {
    model("r5 a_stage_is_woken_by_a_release", || {
        a_stage_sleeps(|a| take(a, 2));
    });
}

/// First one event, then the other; and nothing is left for the drop to release.
#[test]
fn a_stage_is_woken_by_an_early_release() {
    model("r5 a_stage_is_woken_by_an_early_release", || {
        a_stage_sleeps(|mut a| {
            for _ in 0..2 {
                let mut batch = a.next_batch().unwrap();
                batch.release(1);
                batch.give_back();
            }
            a
        });
    });
}

#[test]
fn a_stage_is_woken_by_the_release_of_what_was_held() {
    model(
        "r5 a_stage_is_woken_by_the_release_of_what_was_held",
        || {
            a_stage_sleeps(|mut a| {
                a.next_batch().unwrap().hold();
                a.next_batch().unwrap().hold();
                a.release_until(1);
                a.release_until(2);
                a
            });
        },
    );
}

/// `a` releases one event and leaves: `b` is first held up by it, and then by nobody.
#[test]
fn a_stage_is_woken_by_a_leave() {
    model("r5 a_stage_is_woken_by_a_leave", || {
        a_stage_sleeps(|a| drop(take(a, 1)));
    });
}

/// What holds it up steps over a dropped claim, of which nobody hears.
#[test]
fn a_stage_is_woken_when_the_one_before_steps_over() {
    model("r5 a_stage_is_woken_when_the_one_before_steps_over", || {
        let ring = parking(builder(2, Many));
        let mut a = ring.consumer("a").join().unwrap();
        let mut b = sleeper(&ring, "b", &["a"]);
        let mut producer = ring.shared_producer().unwrap();
        drop(producer.claim(1).unwrap());
        drop(producer.claim(1).unwrap());
        ring.close();
        let a = thread::spawn(move || (a.next_batch().map(|batch| batch[0]), a));
        assert_eq!(b.next_batch().unwrap_err(), Ended::Closed);
        assert_eq!(a.join().unwrap().0, Err(Ended::Closed));
    });
}

/// It needs two slots, which are released one by one.
#[test]
fn a_producer_is_woken_by_each_release() {
    model("r5 a_producer_is_woken_by_each_release", || {
        let ring = parking(builder(2, One));
        let consumer = ring.consumer("c").batch_limit(1).join().unwrap();
        let mut producer = sleeping_producer(&ring, 2);
        let reader = thread::spawn(move || take(consumer, 2));
        let published = producer.publish_batch(2, |slots| slots.for_each(|slot| *slot = 7));
        assert_eq!(published, Ok(2..4));
        let _consumer = reader.join().unwrap();
    });
}

/// First one of two consumers holds it up, then the other.
#[test]
fn a_producer_is_woken_by_whoever_is_last() {
    model("r5 a_producer_is_woken_by_whoever_is_last", || {
        let ring = parking(builder(1, One));
        let consumers = ["a", "b"].map(|name| ring.consumer(name).join().unwrap());
        let producer = sleeping_producer(&ring, 1);
        let [a, b] = consumers.map(|consumer| thread::spawn(move || take(consumer, 1)));
        let _producer = publish(producer, 1..2);
        let _consumers = [a.join().unwrap(), b.join().unwrap()];
    });
}

/// Two sleepers at one gate, which opens for both.
#[test]
fn two_producers_are_woken_at_once() {
    model("r5 two_producers_are_woken_at_once", || {
        let ring = parking(builder(2, Many).members(3));
        let consumer = ring.consumer("c").join().unwrap();
        let first = sleeping_shared_producer(&ring, 2);
        let second = first.try_clone().unwrap();
        let producers =
            [first, second].map(|producer| thread::spawn(move || publish_shared(producer, 7..8)));
        let (events, _consumer) = take(consumer, 2);
        assert_eq!(events, [0, 1]);
        let _producers = producers.map(|producer| producer.join().unwrap());
    });
}

/// First by a release, then by the leave itself.
#[test]
fn a_producer_is_woken_by_a_leave() {
    model("r5 a_producer_is_woken_by_a_leave", || {
        let ring = parking(builder(1, One));
        let consumer = ring.consumer("c").join().unwrap();
        let producer = sleeping_producer(&ring, 1);
        let leaver = thread::spawn(move || drop(take(consumer, 1)));
        let _producer = publish(producer, 1..3);
        leaver.join().unwrap();
    });
}

/// The same with many producers: the floor takes over.
#[test]
fn a_shared_producer_is_woken_by_a_leave() {
    model("r5 a_shared_producer_is_woken_by_a_leave", || {
        let ring = parking(builder(1, Many));
        let consumer = ring.consumer("c").join().unwrap();
        let producer = sleeping_shared_producer(&ring, 1);
        let leaver = thread::spawn(move || drop(take(consumer, 1)));
        let _producer = publish_shared(producer, 1..3);
        leaver.join().unwrap();
    });
}

/// Nobody reads: a producer is held up by another one's claim, and woken by its publication.
#[test]
fn a_producer_is_woken_by_what_it_may_overwrite() {
    model("r5 a_producer_is_woken_by_what_it_may_overwrite", || {
        let ring = parking(builder(1, Many).members(2));
        let first = sleeping_shared_producer(&ring, 1);
        let second = first.try_clone().unwrap();
        let other = thread::spawn(move || publish_shared(second, 7..8));
        let _first = publish_shared(first, 1..2);
        let _second = other.join().unwrap();
    });
}

/// The ring requires a consumer: one has left, and another comes, which gets what has waited for it.
#[test]
fn a_producer_is_woken_by_a_join() {
    model("r5 a_producer_is_woken_by_a_join", || {
        let ring = parking(builder(1, One).require_consumers(1));
        let first = ring.consumer("first").join().unwrap();
        let producer = sleeping_producer(&ring, 1);
        drop(take(first, 1));
        let joiner = thread::spawn({
            let ring = ring.clone();
            move || ring.consumer("second").join().unwrap()
        });
        let _producer = publish(producer, 1..2);
        let (events, _second) = take(joiner.join().unwrap(), 1);
        assert_eq!(events, [1]);
    });
}

/// The same with many producers, which have published nothing.
#[test]
fn a_shared_producer_is_woken_by_a_join() {
    model("r5 a_shared_producer_is_woken_by_a_join", || {
        let ring = parking(builder(1, Many).require_consumers(1));
        let producer = sleeping_shared_producer(&ring, 0);
        let joiner = thread::spawn({
            let ring = ring.clone();
            move || ring.consumer("c").join().unwrap()
        });
        let _producer = publish_shared(producer, 0..1);
        let (events, _consumer) = take(joiner.join().unwrap(), 1);
        assert_eq!(events, [0]);
    });
}

/// Nobody publishes, and nobody will. Two close it: either may find what the other has done half.
#[test]
fn a_consumer_is_woken_by_a_close() {
    model("r5 a_consumer_is_woken_by_a_close", || {
        let ring = parking(builder(1, Many).members(2));
        let mut consumer = sleeper(&ring, "c", &[]);
        let _producer = ring.shared_producer().unwrap();
        let closers = [ring.clone(), ring.clone()].map(|ring| thread::spawn(move || ring.close()));
        assert_eq!(consumer.next_batch().unwrap_err(), Ended::Closed);
        closers
            .into_iter()
            .for_each(|closer| closer.join().unwrap());
    });
}

/// It waits for slots.
#[test]
fn a_shared_producer_is_woken_by_a_close() {
    model("r5 a_shared_producer_is_woken_by_a_close", || {
        let ring = parking(builder(1, Many).members(2));
        let _consumer = ring.consumer("c").join().unwrap();
        let mut producer = sleeping_shared_producer(&ring, 1);
        let closer = thread::spawn({
            let ring = ring.clone();
            move || ring.close()
        });
        assert_eq!(producer.publish(|_| ()), Err(ClaimError::Closed));
        closer.join().unwrap();
    });
}

/// The only producer waits for slots, and is asked to close.
#[test]
fn a_producer_is_woken_when_it_is_asked_to_close() {
    model("r5 a_producer_is_woken_when_it_is_asked_to_close", || {
        let ring = parking(builder(1, One).members(2));
        let _consumer = ring.consumer("c").join().unwrap();
        let mut producer = sleeping_producer(&ring, 1);
        let closer = thread::spawn({
            let ring = ring.clone();
            move || ring.close()
        });
        assert_eq!(producer.publish(|_| ()), Err(ClaimError::Closed));
        closer.join().unwrap();
        assert!(ring.is_closed());
    });
}

/// The only producer was asked to close, and does so when it wants to publish.
#[test]
fn a_consumer_is_woken_when_the_producer_closes_as_it_was_asked() {
    model(
        "r5 a_consumer_is_woken_when_the_producer_closes_as_it_was_asked",
        || {
            let ring = parking(builder(2, One));
            let consumer = sleeper(&ring, "c", &[]);
            let mut producer = ring.producer().unwrap();
            let writer = thread::spawn({
                let ring = ring.clone();
                move || {
                    producer.publish_value(0).unwrap();
                    ring.close();
                    (producer.publish(|_| ()), producer)
                }
            });
            let (_, mut consumer) = take(consumer, 1);
            assert_eq!(consumer.next_batch().unwrap_err(), Ended::Closed);
            let (published, _producer) = writer.join().unwrap();
            assert_eq!(published, Err(ClaimError::Closed));
        },
    );
}

/// The last producer publishes and leaves.
#[test]
fn a_consumer_is_woken_by_the_last_producer() {
    model("r5 a_consumer_is_woken_by_the_last_producer", || {
        let ring = parking(builder(1, One).members(2));
        let consumer = sleeper(&ring, "c", &[]);
        let producer = ring.producer().unwrap();
        let leaver = thread::spawn(move || drop(publish(producer, 0..1)));
        let (_, mut consumer) = take(consumer, 1);
        assert_eq!(consumer.next_batch().unwrap_err(), Ended::Closed);
        leaver.join().unwrap();
    });
}

/// A producer that waits for `a`, and a stage that waits for it too.
#[test]
fn all_are_woken_by_a_poison() {
    model("r5 all_are_woken_by_a_poison", || {
        let ring = parking(builder(1, One));
        let a = ring.consumer("a").join().unwrap();
        let mut b = sleeper(&ring, "b", &["a"]);
        let mut producer = sleeping_producer(&ring, 1);
        let stage = thread::spawn(move || (b.next_batch().map(|batch| batch[0]), b));
        let writer = thread::spawn(move || (producer.publish(|_| ()), producer));
        a.poison(7);
        let (read, _b) = stage.join().unwrap();
        let (published, _producer) = writer.join().unwrap();
        let Err(Ended::Poisoned(end)) = read else {
            panic!("{read:?}");
        };
        assert_eq!(published, Err(ClaimError::Poisoned(end)));
        assert_eq!(end.reason, 7);
    });
}

/// A consumer that waits for events.
#[test]
fn a_consumer_is_woken_by_a_poison() {
    model("r5 a_consumer_is_woken_by_a_poison", || {
        let ring = parking(builder(1, Many).members(2));
        let mut consumer = sleeper(&ring, "c", &[]);
        let producer = ring.shared_producer().unwrap();
        let poisoner = thread::spawn(move || {
            let producer = publish_shared(producer, 0..1);
            producer.poison(7);
            producer
        });
        while consumer.next_batch().is_ok() {}
        let Err(Ended::Poisoned(poisoned)) = consumer.next_batch() else {
            panic!("not poisoned");
        };
        assert_eq!(poisoned.reason, 7);
        let _producer = poisoner.join().unwrap();
    });
}

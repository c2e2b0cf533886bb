//! Scenarios that are measured: what each thread does, written once.
//!
//! Events are numbers; every one is written and read, and what was read is checked, so that nothing
//! is optimised away. Producers run on the first core of the process and consumers on the second.

#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use annulus_ring::{Consumer, Producer, Producers, Ring, Wait};

/// Slots of a ring in a throughput scenario.
pub const CAPACITY: usize = 1 << 16;

/// Slots of each ring in a round trip.
pub const ROUND_TRIP_CAPACITY: usize = 1 << 10;

/// Moves `events` numbers from one producer to one consumer, `batch` at a time, and returns how long
/// it took until the last was read.
///
/// # Panics
/// If a number is lost, or read twice.
pub fn one_to_one(producers: Producers, batch: usize, events: u64) -> Duration {
    let ring = Ring::builder(CAPACITY)
        .producers(producers)
        .build(|| 0)
        .unwrap();
    let consumer = ring.consumer("sum").wait(Wait::Spin).join().unwrap();
    pin(0);
    let reader = thread::spawn(move || {
        pin(1);
        sum(consumer)
    });
    let started = match producers {
        Producers::One => publish(
            &mut ring.producer().unwrap().with_wait(Wait::Spin),
            batch,
            events,
        ),
        Producers::Many => publish(
            &mut ring.shared_producer().unwrap().with_wait(Wait::Spin),
            batch,
            events,
        ),
    };
    // The only producer is gone: the reader ends when it has read everything.
    let read = reader.join().unwrap();
    let taken = started.elapsed();
    assert_eq!(
        read,
        (0..events).fold(0, u64::wrapping_add),
        "a number was lost"
    );
    taken
}

/// Sends `rounds` numbers through one ring and back through another, one at a time, and returns how
/// long it took.
///
/// # Panics
/// If a number does not come back.
pub fn round_trip(rounds: u64) -> Duration {
    let there = Ring::builder(ROUND_TRIP_CAPACITY).build(|| 0_u64).unwrap();
    let back = Ring::builder(ROUND_TRIP_CAPACITY).build(|| 0_u64).unwrap();
    let mut pong = there.consumer("pong").wait(Wait::Spin).join().unwrap();
    let mut ping = back.consumer("ping").wait(Wait::Spin).join().unwrap();
    let mut echo = back.producer().unwrap();
    pin(0);
    let echoing = thread::spawn(move || {
        pin(1);
        while let Ok(batch) = pong.next_batch() {
            for number in &batch {
                echo.publish(|slot| *slot = *number).unwrap();
            }
        }
    });
    let mut serve = there.producer().unwrap();
    let started = Instant::now();
    for round in 0..rounds {
        serve.publish(|slot| *slot = round).unwrap();
        assert_eq!(ping.next_batch().unwrap()[0], round);
    }
    let taken = started.elapsed();
    drop(serve);
    echoing.join().unwrap();
    taken
}

fn publish(producer: &mut Producer<u64>, batch: usize, events: u64) -> Instant {
    let started = Instant::now();
    if batch == 1 {
        for number in 0..events {
            producer.publish(|slot| *slot = number).unwrap();
        }
        return started;
    }
    let mut number = 0;
    while number < events {
        let n = batch.min((events - number) as usize);
        producer
            .publish_batch(n, |slots| {
                for slot in slots {
                    *slot = number;
                    number += 1;
                }
            })
            .unwrap();
    }
    started
}

fn sum(mut consumer: Consumer<u64>) -> u64 {
    let mut sum = 0_u64;
    while let Ok(batch) = consumer.next_batch() {
        for number in &batch {
            sum = sum.wrapping_add(*number);
        }
    }
    sum
}

/// Pins this thread to the core of this index, of those that the process may use, if there is one.
fn pin(index: usize) {
    // Asked once: a thread started by a pinned one may use no other core, and sees no other.
    static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();
    let cores = CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default());
    if let Some(core) = cores.get(index) {
        core_affinity::set_for_current(*core);
    }
}

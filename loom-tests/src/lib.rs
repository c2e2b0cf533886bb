//! Models of the ring's invariants, on the shipped types.
//!
//! One file in `tests/` for each invariant of `annulus_ring`. A model is an ordinary test: under
//! `--cfg loom` it is explored, exhaustively up to [`PREEMPTIONS`] preemptions of a thread;
//! otherwise it runs once, with real threads.

#![forbid(unsafe_code)]

#[cfg(loom)]
pub use loom::{sync::atomic::AtomicU64, thread};
#[cfg(not(loom))]
pub use std::{sync::atomic::AtomicU64, thread};

pub use std::sync::Arc;
pub use std::sync::atomic::Ordering::Relaxed;

use std::ops::Range;

use annulus_ring::{Consumer, Layout, Producer, Producers, Ring, RingBuilder, SharedProducer};

/// How often a model preempts a thread that could go on.
pub const PREEMPTIONS: usize = 3;

/// Fewer executions than this explore nothing.
#[cfg(loom)]
const FEWEST_EXECUTIONS: usize = 100;

/// Explores `scenario` and prints how many executions it took.
#[cfg(loom)]
pub fn model(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    use std::sync::atomic::AtomicUsize;

    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 20_000;
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        scenario();
    });
    let executions = executions.load(Relaxed);
    println!("model {name}: {executions} executions");
    assert!(
        executions >= FEWEST_EXECUTIONS,
        "model {name} explored {executions} executions, fewer than {FEWEST_EXECUTIONS}"
    );
}

/// Runs `scenario` once.
#[cfg(not(loom))]
pub fn model(_name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    scenario();
}

/// What a ring of `capacity` slots with few members is built from: each row is looked at by many.
pub fn builder(capacity: usize, producers: Producers) -> RingBuilder {
    Ring::builder(capacity).producers(producers).members(4)
}

/// A ring of `capacity` numbers with few members.
pub fn ring(capacity: usize, producers: Producers) -> Ring<u64> {
    builder(capacity, producers).build(|| 0).unwrap()
}

/// As [`ring`], in the layout `Apart`: of one producer without stamps, of many with an array of them.
pub fn ring_apart(capacity: usize, producers: Producers) -> Ring<u64> {
    let builder = builder(capacity, producers).layout(Layout::Apart);
    builder.build(|| 0).unwrap()
}

/// Reads `count` events and keeps the consumer, so that the model ends there; returns both.
pub fn take(mut consumer: Consumer<u64>, count: usize) -> (Vec<u64>, Consumer<u64>) {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(consumer.next_batch().unwrap().iter());
    }
    (events, consumer)
}

/// Publishes `values`, one by one, and keeps the producer.
pub fn publish(mut producer: Producer<u64>, values: Range<u64>) -> Producer<u64> {
    for value in values {
        producer.publish_value(value).unwrap();
    }
    producer
}

/// As [`publish`], for one of many producers.
pub fn publish_shared(
    mut producer: SharedProducer<u64>,
    values: Range<u64>,
) -> SharedProducer<u64> {
    for value in values {
        producer.publish_value(value).unwrap();
    }
    producer
}

/// Reads until the ring is closed; returns what it read, with sequences.
pub fn drain(consumer: &mut Consumer<u64>) -> Vec<(u64, u64)> {
    let mut events = Vec::new();
    while let Ok(batch) = consumer.next_batch() {
        events.extend(batch.with_sequences().map(|(s, event)| (s, *event)));
    }
    events
}

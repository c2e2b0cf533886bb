//! What the ring does, shown through its public interface. The ids in the names of tests are those of
//! `BEHAVIOURS.md`.

#[path = "../common/mod.rs"]
mod common;

mod building;
mod consuming;
mod events;
mod graphs;
mod layouts;
mod members;
mod messages;
mod producing;
mod threads;
mod watching;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::{Consumer, Layout, NotReady, Producer, Producers, Ring, Sequence};

use common::Feed;

/// What exists for both kinds of producers is tested with both.
const LAYOUTS: [Layout; 2] = [Layout::Beside, Layout::Apart];
const KINDS: [Producers; 2] = [Producers::One, Producers::Many];

/// From the smallest ring up.
const CAPACITIES: [usize; 4] = [1, 2, 4, 64];

/// Both kinds of producers with every capacity, in both layouts.
fn rings() -> impl Iterator<Item = (Producers, usize, Ring<u64>)> {
    LAYOUTS.into_iter().flat_map(|layout| {
        KINDS.into_iter().flat_map(move |kind| {
            CAPACITIES.map(|capacity| {
                println!("{layout:?}, {kind:?}, capacity {capacity}"); // Shown if the test fails.
                (kind, capacity, ring_in(layout, capacity, kind))
            })
        })
    })
}

fn ring(capacity: usize, kind: Producers) -> Ring<u64> {
    ring_in(Layout::default(), capacity, kind)
}

fn ring_in(layout: Layout, capacity: usize, kind: Producers) -> Ring<u64> {
    (Ring::builder(capacity).producers(kind).layout(layout))
        .build(|| u64::MAX)
        .unwrap()
}

fn feed<T>(ring: &Ring<T>) -> Feed<T> {
    Feed::join(ring).unwrap()
}

fn consumer<T>(ring: &Ring<T>, name: &str) -> Consumer<T> {
    ring.consumer(name).join().unwrap()
}

fn stage<T>(ring: &Ring<T>, name: &str, after: &[&str]) -> Consumer<T> {
    let after = after.iter().copied();
    ring.consumer(name).after(after).join().unwrap()
}

/// Publishes `n` events one by one, each its own sequence.
fn publish(feed: &mut Producer<u64>, n: usize) {
    for _ in 0..n {
        let mut claim = feed.try_claim(1).unwrap();
        claim[0] = claim.sequences().start;
        claim.publish();
    }
}

/// Publishes `n` events in one batch, each its own sequence.
fn publish_batch(feed: &mut Producer<u64>, n: usize) {
    let mut claim = feed.try_claim(n).unwrap();
    let sequences = claim.sequences();
    claim
        .iter_mut()
        .zip(sequences)
        .for_each(|(slot, s)| *slot = s);
    claim.publish();
}

/// Reads and releases everything that is there, each event of which is its own sequence. Returns the
/// sequences, and why there are no more.
fn drain(consumer: &mut Consumer<u64>) -> (Vec<Sequence>, NotReady) {
    let mut read = Vec::new();
    loop {
        match consumer.try_next_batch() {
            Ok(batch) => {
                for (sequence, event) in batch.with_sequences() {
                    assert_eq!(*event, sequence);
                    read.push(sequence);
                }
            }
            Err(why) => return (read, why),
        }
    }
}

/// As [`drain`], where it does not matter why.
fn read(consumer: &mut Consumer<u64>) -> Vec<Sequence> {
    drain(consumer).0
}

/// Why there is nothing to read.
fn not_ready<T>(consumer: &mut Consumer<T>) -> NotReady {
    consumer.try_next_batch().map(drop).unwrap_err()
}

/// The ends of what is claimed and published.
fn fronts<T>(ring: &Ring<T>) -> (Sequence, Sequence) {
    let snapshot = ring.snapshot();
    (snapshot.claimed, snapshot.published)
}

/// Later than anything takes, on a slow and busy machine.
fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Lets other threads run until `condition` holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = in_a_minute();
    while !condition() {
        assert!(Instant::now() < deadline, "waited for a minute: {what}");
        thread::yield_now();
    }
}

/// Runs `body`, which has to panic by [`give_up`].
fn gives_up(body: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(body)).unwrap_err();
    if !payload.is::<GivenUp>() {
        resume_unwind(payload);
    }
}

/// Panics without a word on the terminal.
fn give_up() -> ! {
    resume_unwind(Box::new(GivenUp))
}

struct GivenUp;

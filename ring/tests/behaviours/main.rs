//! What the ring does, shown through its public interface. The ids in the names of tests are those of
//! `BEHAVIOURS.md`.

#[path = "../common/mod.rs"]
mod common;

mod building;
mod closing;
mod consuming;
mod events;
mod graphs;
mod holding;
mod joining;
mod layouts;
mod leaving;
mod members;
mod messages;
mod mutable;
mod observing;
mod os;
mod parking;
mod presence;
mod producing;
mod recovering;
mod selecting;
mod threads;
mod waiting;
mod watching;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_ring::{
    Consumer, Layout, NotReady, Poisoned, Producer, Producers, Ring, Sequence, Wait,
};

use common::Feed;
use os::ThreadStat;

/// What exists for both kinds of producers is tested with both.
const LAYOUTS: [Layout; 2] = [Layout::Beside, Layout::Apart];
const KINDS: [Producers; 2] = [Producers::One, Producers::Many];

const WAITS: &[Wait] = &[
    #[cfg(not(miri))]
    Wait::Spin,
    #[cfg(not(miri))]
    Wait::Yield,
    #[cfg(not(miri))]
    Wait::Backoff,
    Wait::Phased {
        spins: 10,
        yields: 10,
        sleep: Duration::from_micros(100),
    },
    Wait::Park,
];

/// From the smallest ring up; under Miri, which takes thousands of times as long, one of them.
const CAPACITIES: &[usize] = if cfg!(miri) { &[4] } else { &[1, 2, 4, 64] };

/// Both kinds of producers with every capacity, in both layouts.
fn rings() -> impl Iterator<Item = (Producers, usize, Ring<u64>)> {
    LAYOUTS.into_iter().flat_map(|layout| {
        KINDS.into_iter().flat_map(move |kind| {
            CAPACITIES.iter().map(move |&capacity| {
                println!("{layout:?}, {kind:?}, capacity {capacity}"); // Shown if the test fails.
                (kind, capacity, ring_in(layout, capacity, kind))
            })
        })
    })
}

/// So many rounds, or few under Miri.
const fn rounds(usual: u64, under_miri: u64) -> u64 {
    if cfg!(miri) { under_miri } else { usual }
}

fn ring(capacity: usize, kind: Producers) -> Ring<u64> {
    ring_in(Layout::default(), capacity, kind)
}

fn ring_in(layout: Layout, capacity: usize, kind: Producers) -> Ring<u64> {
    (Ring::builder(capacity).producers(kind).layout(layout))
        .build(|| u64::MAX)
        .unwrap()
}

/// A ring whose members may wait in any way.
fn parking_ring(capacity: usize, kind: Producers) -> Ring<u64> {
    let builder = Ring::builder(capacity).producers(kind).parking();
    builder.build(|| u64::MAX).unwrap()
}

/// Both kinds of producers with every wait.
fn ways_to_wait() -> impl Iterator<Item = (Producers, Wait)> {
    KINDS.into_iter().flat_map(|kind| {
        WAITS.iter().map(move |&wait| {
            println!("{kind:?}, {wait:?}"); // Shown if the test fails.
            (kind, wait)
        })
    })
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

/// The producer, waiting in this way.
fn with_wait<T>(feed: Feed<T>, wait: Wait) -> Feed<T> {
    match feed {
        Feed::Only(producer) => Feed::Only(producer.with_wait(wait).unwrap()),
        Feed::OneOfMany(producer) => Feed::OneOfMany(producer.with_wait(wait).unwrap()),
    }
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

/// Reads until the ring is closed, and calls `handle` with each event, and whether it ends its batch.
fn handle_all<T>(consumer: &mut Consumer<T>, mut handle: impl FnMut(Sequence, &T, bool)) {
    loop {
        match consumer.next_batch_deadline(in_a_minute()) {
            Ok(batch) => {
                let last = batch.sequences().end - 1;
                for (sequence, event) in batch.with_sequences() {
                    handle(sequence, event, sequence == last);
                }
            }
            Err(NotReady::Closed) => return,
            Err(why) => panic!("nothing to read for a minute: {why}"),
        }
    }
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

/// Runs `body` on a thread of its own, and returns once it has begun and others have had time to run.
fn begun<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    once_it_waits(Wait::Yield, body)
}

/// As [`begun`], for a `body` that waits in this way: one that parks is asleep by then, where the system
/// tells.
fn once_it_waits<R: Send + 'static>(
    wait: Wait,
    body: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    let begins = Arc::new(OnceLock::new());
    let stat = begins.clone();
    let handle = thread::spawn(move || {
        begins.set(ThreadStat::of_this()).unwrap();
        body()
    });
    until("a thread begins", || stat.get().is_some());
    match (wait, stat.get().unwrap()) {
        (Wait::Park, Some(stat)) => until("it is asleep", || stat.is_asleep()),
        _ => (0..20).for_each(|_| thread::yield_now()),
    }
    handle
}

/// Why and by whom a ring was poisoned.
fn reason_and_row(poisoned: Poisoned) -> (u32, Option<usize>) {
    (poisoned.reason, poisoned.row)
}

/// Some numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // A linear congruential generator (Knuth's MMIX), of which the upper bits are used.
        self.0 = (self.0.wrapping_mul(0x5851_F42D_4C95_7F2D)).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % bound
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

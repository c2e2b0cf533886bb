//! Throughput: one or more producers publish as fast as they can, and one consumer reads.

use std::ops::Range;
use std::sync::Barrier;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cores::{Role, pin};
use crate::link::{Event, Link, Plan, Sender, Words};

/// Moves `events` events in batches of `batch`, checks them, and returns the time from the first
/// publication until the consumer had read everything.
///
/// # Panics
/// If an event is lost, changed, read twice or, with one producer, out of order.
pub fn flow<L: Link>(link: &L, plan: &Plan, batch: u64, events: u64) -> Duration {
    let (report, reported) = mpsc::channel();
    let mut counter = Counter {
        tally: Tally::default(),
        report,
    };
    let (senders, reader) =
        link.connect::<Words<1>, _>(plan, move |event| counter.add(event.number()));
    let started = publish_all(senders, plan, batch, events);
    let outcome = reported
        .recv()
        .expect("the consumer ended without a report");
    if let Some(reader) = reader {
        reader.join().expect("the consumer panicked");
    }
    let tally = outcome.tally;
    assert_eq!(
        (tally.count, tally.sum),
        (events, sum_of(events)),
        "events lost or changed"
    );
    assert!(
        tally.out_of_order == 0 || plan.producers > 1,
        "events out of order"
    );
    outcome.ended.duration_since(started)
}

/// Divides the numbers among the producers; returns when the first of them began.
pub(crate) fn publish_all<S: Sender + Send + 'static>(
    senders: Vec<S>,
    plan: &Plan,
    batch: u64,
    events: u64,
) -> Instant {
    let ready = Barrier::new(senders.len());
    thread::scope(|scope| {
        let threads: Vec<_> = (senders.into_iter().enumerate())
            .map(|(index, mut sender)| {
                let numbers = share(index, plan.producers, events);
                let ready = &ready;
                scope.spawn(move || {
                    pin(plan.cores.of(Role::Producer(index)));
                    ready.wait();
                    let started = Instant::now();
                    publish(&mut sender, numbers, batch);
                    started
                })
            })
            .collect();
        let started = threads
            .into_iter()
            .map(|thread| thread.join().expect("a producer panicked"));
        started.min().expect("a flow has a producer")
    })
}

/// The numbers of one of the producers: the last has those that are left over.
pub(crate) fn share(index: usize, producers: usize, events: u64) -> Range<u64> {
    let share = events / producers as u64;
    let first = index as u64 * share;
    if index + 1 == producers {
        first..events
    } else {
        first..first + share
    }
}

/// Publishes these numbers in batches of so many.
pub(crate) fn publish(sender: &mut impl Sender, numbers: Range<u64>, batch: u64) {
    if batch == 1 {
        return numbers.for_each(|number| sender.send(number));
    }
    let mut next = numbers.start;
    while next < numbers.end {
        let end = numbers.end.min(next + batch);
        sender.send_batch(next..end);
        next = end;
    }
}

/// The sum of so many numbers, from 0.
pub(crate) fn sum_of(events: u64) -> u64 {
    (0..events).fold(0, u64::wrapping_add)
}

/// What a consumer makes of events whose numbers begin at 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    /// Where an event's number was not the next: cheaper than a hash, and no weaker.
    pub(crate) out_of_order: u64,
}

impl Tally {
    #[inline]
    pub(crate) fn add(&mut self, number: u64) {
        self.out_of_order |= number ^ self.count;
        self.sum = self.sum.wrapping_add(number);
        self.count += 1;
    }
}

/// A tally that is sent off when it is dropped, which is when the consumer has ended.
struct Counter {
    tally: Tally,
    report: mpsc::Sender<Outcome>,
}

struct Outcome {
    tally: Tally,
    ended: Instant,
}

impl Counter {
    #[inline]
    fn add(&mut self, number: u64) {
        self.tally.add(number);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // Nobody listens only if the scenario has failed already.
        let _ = self.report.send(Outcome {
            tally: self.tally,
            ended: Instant::now(),
        });
    }
}

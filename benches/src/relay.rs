//! Throughput of a topology: producers publish as fast as they can, and every handler reads every event.

use std::ops::Range;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::flow::{publish_all, share};
use crate::link::{Event, Plan, Words};
use crate::topology::{Graph, Stage};

/// Moves `events` events in batches of `batch`, checks them in every handler, and returns the time from
/// the first publication until the last handler had handled the last event.
///
/// # Panics
/// If a handler misses an event, or gets one changed, twice or, of one producer, out of order.
pub fn relay(
    graph: &impl Graph,
    plan: &Plan,
    stages: &[Stage],
    batch: u64,
    events: u64,
) -> Duration {
    // The number is known to the compiler, because telling one producer's events from another's costs
    // something.
    match plan.producers {
        1 => relay_from::<1>(graph, plan, stages, batch, events),
        3 => relay_from::<3>(graph, plan, stages, batch, events),
        other => unreachable!("there is no topology of {other} producers"),
    }
}

fn relay_from<const PRODUCERS: usize>(
    graph: &impl Graph,
    plan: &Plan,
    stages: &[Stage],
    batch: u64,
    events: u64,
) -> Duration {
    let (report, reported) = mpsc::channel();
    let shares: [Range<u64>; PRODUCERS] =
        std::array::from_fn(|index| share(index, PRODUCERS, events));
    let published = shares.clone();
    let (senders, join) = graph.connect::<Words<1>, _>(plan, stages, move |_| {
        let mut tally = Tally::new(&published, report.clone());
        move |event| tally.add(event.number())
    });
    let started = publish_all(senders, plan, batch, events);
    join();
    let outcomes: Vec<Outcome<PRODUCERS>> = reported.iter().collect();
    assert_eq!(outcomes.len(), stages.len(), "not every stage has ended");
    let expected = shares.map(|share| share.end);
    let ended = outcomes.into_iter().map(|outcome| {
        assert_eq!(outcome.next, expected, "events lost");
        assert_eq!(outcome.wrong, 0, "events changed, twice or out of order");
        outcome.ended.expect("every event was handled")
    });
    let ended = ended.max().expect("a topology has a handler");
    ended.duration_since(started)
}

/// What one handler makes of the events; sent off when it is dropped, which is when it has ended.
struct Tally<const PRODUCERS: usize> {
    /// The first number of each producer.
    first: [u64; PRODUCERS],
    /// The number that is due from each producer.
    next: [u64; PRODUCERS],
    /// Where an event's number was not the one that was due.
    wrong: u64,
    left: u64,
    /// When the last event had been handled: the thread may end later, as it pleases the library.
    ended: Option<Instant>,
    report: mpsc::Sender<Outcome<PRODUCERS>>,
}

struct Outcome<const PRODUCERS: usize> {
    next: [u64; PRODUCERS],
    wrong: u64,
    ended: Option<Instant>,
}

impl<const PRODUCERS: usize> Tally<PRODUCERS> {
    fn new(shares: &[Range<u64>; PRODUCERS], report: mpsc::Sender<Outcome<PRODUCERS>>) -> Self {
        let first = std::array::from_fn(|index| shares[index].start);
        Self {
            first,
            next: first,
            wrong: 0,
            left: shares.iter().map(|share| share.end - share.start).sum(),
            ended: None,
            report,
        }
    }

    #[inline]
    fn add(&mut self, number: u64) {
        let later_producers = self.first.iter().skip(1);
        let producer = later_producers.filter(|first| number >= **first).count();
        self.wrong |= number ^ self.next[producer];
        self.next[producer] += 1;
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 {
            self.ended_now();
        }
    }

    #[cold]
    fn ended_now(&mut self) {
        self.ended = Some(Instant::now());
    }
}

impl<const PRODUCERS: usize> Drop for Tally<PRODUCERS> {
    fn drop(&mut self) {
        // Nobody listens only if the scenario has failed already.
        let _ = self.report.send(Outcome {
            next: self.next,
            wrong: self.wrong,
            ended: self.ended,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a handler of these events reports, if 0 to 2 and 3 to 5 were published.
    fn outcome(numbers: &[u64]) -> Outcome<2> {
        let (report, reported) = mpsc::channel();
        let mut tally = Tally::new(&[0..3, 3..6], report);
        numbers.iter().for_each(|number| tally.add(*number));
        drop(tally);
        reported.recv().unwrap()
    }

    #[test]
    fn producers_may_overtake_each_other_and_the_last_event_ends_it() {
        for right in [[0, 1, 2, 3, 4, 5], [3, 0, 4, 5, 1, 2]] {
            let outcome = outcome(&right);
            assert_eq!((outcome.next, outcome.wrong), ([3, 6], 0));
            assert!(outcome.ended.is_some());
        }
    }

    #[test]
    fn events_that_are_lost_twice_or_out_of_order_are_found() {
        let lost = outcome(&[0, 1, 2, 3, 4]);
        assert_eq!((lost.next, lost.ended), ([3, 5], None));
        for wrong in [
            &[0, 2, 1, 3, 4, 5][..],
            &[0, 1, 1, 3, 4, 5],
            &[0, 1, 2, 3, 4, 5, 5],
            &[7, 1, 2, 3, 4, 5],
        ] {
            assert_ne!(outcome(wrong).wrong, 0, "{wrong:?}");
        }
    }
}

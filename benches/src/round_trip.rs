//! Latency: one event at a time goes through one link, is answered through another, and comes back.
//!
//! Who answers sends what it has read, and who asks sends one more than the answer: no processor can
//! send before all of the payload has been read.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::cores::Role;
use crate::link::{Event, Link, Plan, Sender};
use crate::scenario::Latency;
use crate::stopwatch::Stopwatch;

/// Makes `rounds` round trips after `warm_up` that do not count, and returns how long they took in
/// all and each.
///
/// # Panics
/// If an answer is not what was asked.
pub fn round_trip<E: Event, L: Link>(
    link: &L,
    plan: &Plan,
    warm_up: u64,
    rounds: u64,
) -> (Duration, Latency) {
    let (hand_over, handed_over) = mpsc::channel();
    let (report, reported) = mpsc::channel();
    let mut ping = Ping::new(warm_up, rounds, handed_over, report);
    let at_home = Plan {
        reader: Role::Producer(0),
        ..*plan
    };
    let (mut back, pinging) =
        link.connect::<E, _>(&at_home, move |event| ping.answered(event.number()));
    let mut echo = back.pop().expect("a link has a producer");
    let (mut there, echoing) = link.connect::<E, _>(plan, move |event| echo.send(event.number()));
    let mut serve = there.pop().expect("a link has a producer");

    // The first event is sent from here; then who reads the answers sends.
    serve.send(0);
    hand_over
        .send(serve)
        .expect("the thread that asks has ended");
    let outcome = reported
        .recv()
        .expect("the thread that asks ended without a report");
    drop(outcome.serve); // Ends who answers, which in turn ends who asks.
    for thread in [echoing, pinging].into_iter().flatten() {
        thread.join().expect("a thread of a round trip panicked");
    }
    assert_eq!(outcome.wrong, 0, "answers lost or changed");
    (outcome.taken, outcome.latency)
}

/// The side that asks: takes an answer, and sends the next event.
struct Ping<S> {
    serve: Option<S>,
    /// The answer that is due.
    due: u64,
    first_that_counts: u64,
    last: u64,
    wrong: u64,
    stopwatch: Stopwatch,
    began: Instant,
    handed_over: mpsc::Receiver<S>,
    report: mpsc::Sender<Outcome<S>>,
}

struct Outcome<S> {
    serve: S,
    wrong: u64,
    taken: Duration,
    latency: Latency,
}

impl<S: Sender> Ping<S> {
    fn new(
        warm_up: u64,
        rounds: u64,
        handed_over: mpsc::Receiver<S>,
        report: mpsc::Sender<Outcome<S>>,
    ) -> Self {
        // Event 0 never counts: it is sent from another thread.
        let first_that_counts = warm_up.max(1);
        Self {
            serve: None,
            due: 0,
            first_that_counts,
            last: first_that_counts + rounds - 1,
            wrong: 0,
            stopwatch: Stopwatch::start(),
            began: Instant::now(),
            handed_over,
            report,
        }
    }

    #[inline]
    fn answered(&mut self, number: u64) {
        self.stopwatch.lap();
        self.wrong |= number ^ self.due;
        self.due += 1;
        match &mut self.serve {
            Some(serve) if self.due != self.first_that_counts && self.due <= self.last => {
                serve.send(number.wrapping_add(1));
            }
            _ => self.turn(),
        }
    }

    /// After the first, after the last, and before the first that counts.
    #[cold]
    fn turn(&mut self) {
        let mut serve = (self.serve.take())
            .unwrap_or_else(|| self.handed_over.recv().expect("the scenario has ended"));
        if self.due <= self.last {
            if self.due == self.first_that_counts {
                self.began = Instant::now();
                self.stopwatch.restart();
            }
            serve.send(self.due);
            self.serve = Some(serve);
            return;
        }
        // Nobody listens only if the scenario has failed already.
        let _ = self.report.send(Outcome {
            serve,
            wrong: self.wrong,
            taken: self.began.elapsed(),
            latency: self.stopwatch.latency(),
        });
    }
}

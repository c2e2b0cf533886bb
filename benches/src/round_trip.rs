//! Latency: one event at a time goes through one link, is answered through another, and comes back.
//!
//! Who answers sends what it has read, and who asks sends one more than the answer: no processor can
//! send before all of the payload has been read.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::cores::Role;
use crate::link::{Event, Link, Plan, Sender};
use crate::scenario::{RoundTrips, Sample};
use crate::stopwatch::Stopwatch;

/// Makes so many round trips, and returns how long they took in all and each.
///
/// # Panics
/// If an answer is not what was asked.
pub fn round_trip<E: Event, L: Link>(link: &L, plan: &Plan, round_trips: RoundTrips) -> Sample {
    let (hand_over, handed_over) = mpsc::channel();
    let (report, reported) = mpsc::channel();
    let mut ping = Ping {
        serve: None,
        answers: Answers::new(round_trips),
        handed_over,
        report,
    };
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
    let (serve, answers) = reported
        .recv()
        .expect("the thread that asks ended without a report");
    drop(serve); // Ends who answers, which in turn ends who asks.
    for thread in [echoing, pinging].into_iter().flatten() {
        thread.join().expect("a thread of a round trip panicked");
    }
    answers.sample()
}

/// The side that asks: takes an answer, and sends the next event.
struct Ping<S> {
    serve: Option<S>,
    answers: Answers,
    handed_over: mpsc::Receiver<S>,
    report: mpsc::Sender<(S, Answers)>,
}

impl<S: Sender> Ping<S> {
    #[inline]
    fn answered(&mut self, number: u64) {
        let is_turn = self.answers.take(number);
        match &mut self.serve {
            Some(serve) if !is_turn => serve.send(number.wrapping_add(1)),
            _ => self.turn(),
        }
    }

    #[cold]
    fn turn(&mut self) {
        let mut serve = (self.serve.take())
            .unwrap_or_else(|| self.handed_over.recv().expect("the scenario has ended"));
        if self.answers.go_on() {
            serve.send(self.answers.due);
            self.serve = Some(serve);
        } else {
            // Nobody listens only if the scenario has failed already.
            let _ = self.report.send((serve, self.answers.clone()));
        }
    }
}

/// The answers, one after the other: whether they are those that are due, and how long each took.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    round_trips: RoundTrips,
    /// The answer that is due; where it is a turn, what is to be sent next.
    pub(crate) due: u64,
    /// The answer after the next turn.
    turn_at: u64,
    /// The first that counts, once it is known.
    first: Option<u64>,
    wrong: u64,
    stopwatch: Stopwatch,
    began: Instant,
    taken: Duration,
}

impl Answers {
    /// So seldom is it asked whether it takes too long: reading a clock would show in the percentiles.
    const TURN: u64 = 2_000;

    pub(crate) fn new(round_trips: RoundTrips) -> Self {
        Self {
            round_trips,
            due: 0,
            // Answer 0 never counts: its event may be sent by another thread than the others.
            turn_at: 1,
            first: None,
            wrong: 0,
            stopwatch: Stopwatch::start(),
            began: Instant::now(),
            taken: Duration::ZERO,
        }
    }

    /// Takes an answer. Usually what comes next is to be sent; unless it is a turn, which this returns.
    #[inline]
    pub(crate) fn take(&mut self, number: u64) -> bool {
        self.stopwatch.lap();
        self.wrong |= number ^ self.due;
        self.due += 1;
        self.due == self.turn_at
    }

    /// At a turn: whether there is more to ask. After the warm-up, this starts what counts.
    #[cold]
    pub(crate) fn go_on(&mut self) -> bool {
        let RoundTrips {
            warm_up,
            count,
            longest,
        } = self.round_trips;
        let elapsed = self.began.elapsed();
        let end = match self.first {
            Some(first) if self.due == first + count || elapsed >= longest => {
                self.taken = elapsed;
                return false;
            }
            Some(first) => first + count,
            None if self.due >= warm_up || elapsed >= longest / 10 => {
                self.first = Some(self.due);
                self.began = Instant::now();
                self.stopwatch.restart();
                self.due + count
            }
            None => warm_up,
        };
        self.turn_at = end.min(self.due + Self::TURN);
        true
    }

    /// When nothing more is to be asked: what it comes to.
    ///
    /// # Panics
    /// If an answer was not what was asked.
    pub(crate) fn sample(self) -> Sample {
        assert_eq!(self.wrong, 0, "answers lost or changed");
        Sample {
            events: self.due - self.first.unwrap_or_default(),
            taken: self.taken,
            latency: Some(self.stopwatch.latency()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers everything right until there is no more to ask.
    fn answer(round_trips: RoundTrips) -> Answers {
        let mut answers = Answers::new(round_trips);
        loop {
            if answers.take(answers.due) && !answers.go_on() {
                return answers;
            }
        }
    }

    #[test]
    fn as_many_count_as_were_asked_for_after_the_warm_up() {
        for (warm_up, count) in [(0, 1), (0, 999), (1, 1_000), (10, 1_001), (5_000, 50_000)] {
            let round_trips = RoundTrips {
                warm_up,
                count,
                longest: Duration::MAX,
            };
            let answers = answer(round_trips);
            assert_eq!(answers.due, warm_up.max(1) + count);
            assert_eq!(answers.sample().events, count);
        }
    }

    #[test]
    fn it_ends_when_it_takes_too_long_but_not_without_a_sample() {
        let answers = answer(RoundTrips {
            warm_up: 1_000_000,
            count: 1_000_000,
            longest: Duration::ZERO,
        });
        assert_eq!(answers.sample().events, Answers::TURN);
    }

    #[test]
    #[should_panic(expected = "answers lost or changed")]
    fn a_wrong_answer_is_found() {
        let mut answers = Answers::new(RoundTrips {
            warm_up: 0,
            count: 2,
            longest: Duration::MAX,
        });
        assert!(answers.take(0) && answers.go_on());
        assert!(!answers.take(1) && answers.take(1) && !answers.go_on());
        answers.sample();
    }
}

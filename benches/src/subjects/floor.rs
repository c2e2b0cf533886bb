//! The floor of every round trip: bare cache lines that two cores hand over to each other.
//!
//! One line that goes to and fro is the least there can be. Two, one for each way, are the least that two queues
//! need: who sends has to have withdrawn the copy that the other one polls, while its own poll leaves one of
//! the other line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::{Kind, Subject};
use crate::cores::{Cores, Role, pin};
use crate::idle::Idle;
use crate::scenario::{Effort, RoundTrips, Sample, Scenario};
use crate::stopwatch::Stopwatch;

/// With one line, and with two.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(Floor {
            name: "floor",
            lines: 1,
        }),
        Box::new(Floor {
            name: "floor-two-lines",
            lines: 2,
        }),
    ]
}

struct Floor {
    name: &'static str,
    lines: usize,
}

impl Subject for Floor {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::Floor
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        if !scenario.is_round_trip() {
            return None;
        }
        let idle = if cores.are_fewer_than(2) {
            Idle::Yield
        } else {
            Idle::Spin
        };
        let RoundTrips {
            warm_up,
            count: rounds,
            ..
        } = effort.round_trips();
        let lines: Vec<_> = (0..self.lines)
            .map(|_| CachePadded::new(AtomicU64::new(0)))
            .collect();
        let (there, back) = (&*lines[0], &*lines[self.lines - 1]);
        let sample = thread::scope(|scope| {
            scope.spawn(|| {
                pin(cores.of(Role::Consumer(0)));
                for round in 0..warm_up + rounds {
                    hand_over(there, 2 * round + 1, back, idle);
                }
            });
            let pinging = scope.spawn(|| {
                pin(cores.of(Role::Producer(0)));
                ping(there, back, warm_up, rounds, idle)
            });
            pinging.join().expect("the thread that pings panicked")
        });
        Some(sample)
    }
}

fn ping(there: &AtomicU64, back: &AtomicU64, warm_up: u64, rounds: u64, idle: Idle) -> Sample {
    let mut stopwatch = Stopwatch::start();
    let mut began = Instant::now();
    there.store(1, Ordering::Release);
    for round in 1..=warm_up + rounds {
        if round == warm_up + 1 {
            began = Instant::now();
            stopwatch.restart();
        }
        // Waits for the answer, and sends what comes next.
        hand_over(back, 2 * round, there, idle);
        stopwatch.lap();
    }
    let taken = began.elapsed();
    Sample {
        events: rounds,
        taken,
        latency: Some(stopwatch.latency()),
    }
}

/// Waits until one line holds `number`, and stores the next in the other.
#[inline]
fn hand_over(from: &AtomicU64, number: u64, to: &AtomicU64, idle: Idle) {
    while from.load(Ordering::Acquire) != number {
        idle.wait();
    }
    to.store(number + 1, Ordering::Release);
}

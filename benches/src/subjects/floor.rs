//! The floor of every round trip: one bare cache line that two cores hand to and fro.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::{Kind, Subject};
use crate::cores::{Cores, Role, pin};
use crate::idle::Idle;
use crate::scenario::{Effort, RoundTrips, Sample, Scenario};
use crate::stopwatch::Stopwatch;

/// The floor, as the only subject of its kind.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Floor)]
}

struct Floor;

impl Subject for Floor {
    fn name(&self) -> &'static str {
        "floor"
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
        let line = Arc::new(CachePadded::new(AtomicU64::new(0)));
        let sample = thread::scope(|scope| {
            scope.spawn(|| {
                pin(cores.of(Role::Consumer(0)));
                for round in 0..warm_up + rounds {
                    hand_over(&line, 2 * round + 1, idle);
                }
            });
            let pinging = scope.spawn(|| {
                pin(cores.of(Role::Producer(0)));
                ping(&line, warm_up, rounds, idle)
            });
            pinging.join().expect("the thread that pings panicked")
        });
        Some(sample)
    }
}

fn ping(line: &AtomicU64, warm_up: u64, rounds: u64, idle: Idle) -> Sample {
    let mut stopwatch = Stopwatch::start();
    let mut began = Instant::now();
    line.store(1, Ordering::Release);
    for round in 1..=warm_up + rounds {
        if round == warm_up + 1 {
            began = Instant::now();
            stopwatch.restart();
        }
        // Waits for the answer, and sends what comes next.
        hand_over(line, 2 * round, idle);
        stopwatch.lap();
    }
    let taken = began.elapsed();
    Sample {
        events: rounds,
        taken,
        latency: Some(stopwatch.latency()),
    }
}

/// Waits until the line holds `number`, and replaces it by the next.
#[inline]
fn hand_over(line: &AtomicU64, number: u64, idle: Idle) {
    while line.load(Ordering::Acquire) != number {
        idle.wait();
    }
    line.store(number + 1, Ordering::Release);
}

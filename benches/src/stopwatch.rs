//! Takes the time of many round trips in a row.
//!
//! The clock is read once in each round trip, when its answer has arrived: a sample is the time from
//! one answer to the next. That leaves nothing out, and includes one reading of the processor's counter
//! and the recording of a sample, some 10 to 20 ns together, which are not subtracted.

use hdrhistogram::Histogram;
use quanta::Clock;

use crate::scenario::Latency;

/// A histogram of the times between laps.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    clock: Clock,
    last: u64,
    /// In ticks of the clock, converted when all is done.
    ticks: Histogram<u64>,
}

impl Stopwatch {
    /// Longer laps, of some 20 seconds and more, count as this long.
    const MOST_TICKS: u64 = 1 << 36;

    /// Starts now, without samples.
    #[must_use]
    pub fn start() -> Self {
        let clock = Clock::new();
        Self {
            last: clock.raw(),
            clock,
            ticks: Histogram::new_with_bounds(1, Self::MOST_TICKS, 3)
                .expect("the bounds are valid"),
        }
    }

    /// Starts again: forgets what it has.
    pub fn restart(&mut self) {
        self.ticks.reset();
        self.last = self.clock.raw();
    }

    /// Ends a lap, and begins the next.
    #[inline]
    pub fn lap(&mut self) {
        let now = self.clock.raw();
        self.ticks.saturating_record(now.saturating_sub(self.last));
        self.last = now;
    }

    /// What the laps come to.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let nanoseconds = |quantile| {
            let ticks = self.ticks.value_at_quantile(quantile);
            self.clock.delta_as_nanos(0, ticks) as f64
        };
        Latency {
            p50: nanoseconds(0.5),
            p99: nanoseconds(0.99),
            p999: nanoseconds(0.999),
        }
    }
}

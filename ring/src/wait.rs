//! What a member does while there is nothing to do: spin, yield, back off, or one after the other.

use std::time::{Duration, Instant};

use crate::sync::{Backoff, explored_pause, sleep, spin_loop, yield_now};

/// How a producer waits for free slots, and a consumer for events.
///
/// Plain data, chosen for each member. Whatever is chosen, no event is lost: only the delay and the
/// cost of waiting differ. The default spins, then yields, then sleeps for 50 µs at a time, which
/// suits any number of threads on any number of cores.
///
/// # Examples
/// ```
/// use annulus_ring::{Ring, Wait};
///
/// let ring = Ring::builder(8).build(u64::default)?;
/// let mut feed = ring.producer()?.with_wait(Wait::Yield);
/// let mut book = ring.consumer("book").wait(Wait::Spin).join()?;
/// feed.publish_value(7)?;
/// assert_eq!(book.next_batch()?[0], 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Polls without a break: the shortest delay, for a thread that has a core to itself.
    Spin,
    /// Polls a little, then yields the core between polls: for threads that share cores.
    Yield,
    /// Polls less and less often, then yields between polls.
    Backoff,
    /// Polls `spins` times, then yields between polls `yields` times, then sleeps between polls.
    Phased {
        /// How many times to poll with no more than a pause of the processor in between.
        spins: u32,
        /// How many times to poll with a yield in between.
        yields: u32,
        /// How long to sleep between the polls that follow; the system may round it up.
        sleep: Duration,
    },
}

impl Default for Wait {
    fn default() -> Self {
        Self::Phased {
            spins: 200,
            yields: 50,
            sleep: Duration::from_micros(50),
        }
    }
}

/// How long a call is ready to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Forever,
}

/// One wait, from the first poll that finds nothing to the last.
pub(crate) struct Waiter {
    wait: Wait,
    patience: Patience,
    pauses: u32,
    backoff: Backoff,
}

impl Waiter {
    /// How often `Yield` polls before it first yields.
    const SPINS_BEFORE_YIELDING: u32 = 100;

    pub(crate) fn new(wait: Wait, patience: Patience) -> Self {
        Self {
            wait,
            patience,
            pauses: 0,
            backoff: Backoff::new(),
        }
    }

    /// Lets some time pass before the next poll, or returns false: there is to be none.
    pub(crate) fn pause(&mut self) -> bool {
        match self.patience {
            Patience::None => return false,
            Patience::Until(deadline) if Instant::now() >= deadline => return false,
            _ => {}
        }
        explored_pause(self.pauses);
        match self.wait {
            Wait::Spin => spin_loop(),
            Wait::Yield => self.spin_then_yield(Self::SPINS_BEFORE_YIELDING),
            Wait::Backoff => self.backoff.snooze(),
            Wait::Phased {
                spins,
                yields,
                sleep: nap,
            } => {
                if self.pauses < spins.saturating_add(yields) {
                    self.spin_then_yield(spins);
                } else {
                    sleep(self.no_longer_than_patience(nap));
                }
            }
        }
        self.pauses = self.pauses.saturating_add(1);
        true
    }

    fn spin_then_yield(&self, spins: u32) {
        if self.pauses < spins {
            spin_loop();
        } else {
            yield_now();
        }
    }

    fn no_longer_than_patience(&self, nap: Duration) -> Duration {
        match self.patience {
            Patience::Until(deadline) => {
                nap.min(deadline.saturating_duration_since(Instant::now()))
            }
            _ => nap,
        }
    }
}

/// The pause of a consumer that has drained a backlog, before it polls the shared lines again.
///
/// A consumer that polls at once takes from the producer the very line that it is about to write,
/// and both go on event by event, at the pace at which a line changes hands. Left alone for a
/// moment, the producer publishes many, and the consumer finds a batch. A small ring would be full
/// before that.
#[inline]
pub(crate) fn let_batches_grow(capacity: u64) {
    if cfg!(loom) {
        return; // To a model this is any other delay.
    }
    for _ in 0..PAUSES_AFTER_DRAINING.min(capacity / 8) {
        spin_loop();
    }
}

/// About 0.6 µs where the processor's pause takes 10 ns; up to 3 µs where it takes longer.
const PAUSES_AFTER_DRAINING: u64 = 64;

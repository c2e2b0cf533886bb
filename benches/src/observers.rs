//! What a third process does while messages go from the first to the second: reads along.
//!
//! So many observers, in no more than two threads, each look every 100 µs at what there is, and take all of it.
//! Afterwards what each has read and what it has missed has to be all that was sent.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::conduct::failed;
use crate::cores::{Role, pin};
use crate::ipc::Observer;
use crate::link::Plan;

/// From when a thread has polled its observers until it does so again.
const BETWEEN_POLLS: Duration = Duration::from_micros(100);

const THREADS: usize = 2;

/// An observer, and what it has come to.
struct Observing {
    observer: Box<dyn Observer>,
    read: u64,
}

impl Observing {
    /// Not more than there was when it began: a sender that is faster would keep it from ever coming back.
    fn poll(&mut self, plan: &Plan) {
        self.read += self.observer.poll(plan.capacity);
    }

    fn check(&self) -> io::Result<()> {
        let Self { observer, read } = self;
        let (missed, sent) = (observer.missed(), observer.sent());
        if read + missed == sent {
            return Ok(());
        }
        Err(failed(format!(
            "an observer has read {read} and missed {missed} of {sent} messages"
        )))
    }
}

/// Has observers read along until `while_this` returns, and once more after that.
///
/// # Errors
/// If one of them has lost count, or `while_this` fails.
pub(crate) fn observe(
    observers: Vec<Box<dyn Observer>>,
    plan: &Plan,
    while_this: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let observing = observers
        .into_iter()
        .map(|observer| Observing { observer, read: 0 });
    let mut observing: Vec<Observing> = observing.collect();
    let share = observing.len().div_ceil(THREADS).max(1);
    let is_over = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        for (number, share) in observing.chunks_mut(share).enumerate() {
            let is_over = &is_over;
            scope.spawn(move || {
                pin_beside(plan, number);
                poll_until(is_over, share, plan);
            });
        }
        let outcome = while_this();
        // ORDER(over): who sees this sees all that was sent before.
        is_over.store(true, Ordering::Release);
        outcome
    });
    outcome?;
    observing.iter().try_for_each(Observing::check)
}

/// If there is a core for each thread besides the two that send and receive; or else anywhere.
fn pin_beside(plan: &Plan, number: usize) {
    if !plan.cores.are_fewer_than(2 + THREADS) {
        pin(plan.cores.of(Role::Consumer(1 + number)));
    }
}

fn poll_until(is_over: &AtomicBool, observing: &mut [Observing], plan: &Plan) {
    loop {
        // ORDER(over): what was sent before the end is there for the last poll.
        let is_last = is_over.load(Ordering::Acquire);
        for observing in &mut *observing {
            observing.poll(plan);
        }
        if is_last {
            return;
        }
        thread::sleep(BETWEEN_POLLS);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::cores::Cores;
    use crate::scenario::SCENARIOS;

    /// Reads a number that grows, and forgets to say that it has missed some.
    struct Counting {
        sent: Arc<AtomicU64>,
        position: u64,
        forgets: u64,
    }

    impl Observer for Counting {
        fn poll(&mut self, most: usize) -> u64 {
            let there = (self.sent.load(Ordering::Acquire) - self.position).min(most as u64);
            self.position += there;
            there - self.forgets.min(there)
        }

        fn missed(&self) -> u64 {
            0
        }

        fn sent(&self) -> u64 {
            self.sent.load(Ordering::Acquire)
        }
    }

    fn observe_by(count: usize, forgets: u64) -> io::Result<()> {
        let plan = SCENARIOS[0].plan(Cores::default());
        let sent = Arc::new(AtomicU64::new(0));
        let observers = (0..count).map(|_| -> Box<dyn Observer> {
            Box::new(Counting {
                sent: Arc::clone(&sent),
                position: 0,
                forgets,
            })
        });
        observe(observers.collect(), &plan, || {
            sent.fetch_add(500, Ordering::Release);
            Ok(())
        })
    }

    #[test]
    fn each_reads_all_that_is_sent_until_the_end() {
        for count in [0, 1, 8, 64] {
            observe_by(count, 0).unwrap();
        }
    }

    #[test]
    fn an_observer_that_loses_count_is_found() {
        let message = observe_by(3, 1).unwrap_err().to_string();
        assert_eq!(
            message,
            "an observer has read 499 and missed 0 of 500 messages"
        );
    }
}

//! The pipeline of `annulus demo`: six threads over three rings.
//!
//! ```text
//! feed == market ==> audit
//!                    book == quotes ==> strategy == orders ==> gateway
//!                                       monitor (after strategy)
//! ```
//!
//! Nobody has to stop the stages: when the feed has published everything its producer goes, which
//! closes the market ring; `book` drains that ring, ends in turn, and so closes the next. A stage that
//! ends before that poisons the ring that it reads: those that publish to it end too.

use std::num::NonZeroU64;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::{ClaimError, Consumer, Producer, Ring, Wait};
use core_affinity::CoreId;
use hdrhistogram::Histogram;
use quanta::Clock;

use crate::market::{MarketEvent, Message, Order, Quote, Top};
use crate::stages::{Audit, Gateway, Quoter, Spread, Strategy};
use crate::threads::{Post, RunError};

/// In the order in which they are given cores.
const STAGES: [&str; 6] = ["feed", "audit", "book", "strategy", "monitor", "gateway"];
/// Long enough that threads which share a core seldom have to change over, short enough that all
/// three rings stay in the cache and a full one delays an event by about a millisecond.
const CAPACITY: usize = 1 << 12;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// Latencies are recorded with three digits up to this, and as this from there on.
const LONGEST_LATENCY_NS: u64 = 3_600 * 1_000_000_000;

/// What to run.
pub(crate) struct Plan<'a> {
    pub(crate) input: &'a [Message],
    pub(crate) repeat: u32,
    /// Events per second; none for as many as possible.
    pub(crate) rate: Option<NonZeroU64>,
    /// Given out to the stages in turn; empty for no pinning.
    pub(crate) cores: Vec<CoreId>,
    pub(crate) wait: Wait,
}

impl Plan<'_> {
    pub(crate) fn events(&self) -> u64 {
        self.input.len() as u64 * u64::from(self.repeat)
    }
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) audit: Audit,
    pub(crate) unknown_orders: u64,
    pub(crate) top: Top,
    pub(crate) spread: Spread,
    pub(crate) events: u64,
    pub(crate) orders_sent: u64,
    /// What was published but not handled, summed over all stages.
    pub(crate) lost: u64,
    pub(crate) gateway: Gateway,
    pub(crate) wall: Duration,
}

/// Runs the plan to its end, and tells `progress` now and then how many events have been published.
pub(crate) fn run(plan: &Plan<'_>, progress: impl Fn(u64)) -> Result<Outcome, RunError> {
    let market = ring(2, MarketEvent::default)?;
    let quotes = ring(2, Quote::default)?;
    let orders = ring(1, Order::default)?;

    let audit_in = join(&market, "audit", None, plan.wait)?;
    let book_in = join(&market, "book", None, plan.wait)?;
    let strategy_in = join(&quotes, "strategy", None, plan.wait)?;
    let monitor_in = join(&quotes, "monitor", Some("strategy"), plan.wait)?;
    let gateway_in = join(&orders, "gateway", None, plan.wait)?;

    let feed_out = producer(&market, plan.wait)?;
    let book_out = producer(&quotes, plan.wait)?;
    let strategy_out = producer(&orders, plan.wait)?;

    let clock = Clock::new();
    let latencies =
        Histogram::new_with_bounds(1, LONGEST_LATENCY_NS, 3).map_err(RunError::setup)?;
    let (feeding, fed) = mpsc::channel::<()>();
    let mut cores = plan.cores.iter().copied().cycle();
    let [feed, audit, book, strategy, monitor, gateway] = STAGES.map(|stage| Post {
        stage,
        core: cores.next(),
    });

    thread::scope(|scope| {
        // The feed comes last: if a thread cannot be started, nothing has been published, and the
        // others end.
        let gateway = gateway.start(scope, || {
            run_gateway(gateway_in, Gateway::new(latencies), &clock)
        })?;
        let monitor = monitor.start(scope, || run_monitor(monitor_in))?;
        let strategy = strategy.start(scope, || run_strategy(strategy_in, strategy_out))?;
        let book = book.start(scope, || run_book(book_in, book_out))?;
        let audit = audit.start(scope, || run_audit(audit_in))?;
        let feed = feed.start(scope, || {
            let _feeding = feeding;
            run_feed(plan, feed_out, &clock)
        })?;
        while fed.recv_timeout(PROGRESS_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            progress(market.snapshot().published);
        }

        let (feed, audit, book) = (feed.join(), audit.join(), book.join());
        let (strategy, monitor, gateway) = (strategy.join(), monitor.join(), gateway.join());
        // A stage that dies ends those before it: the last one that failed is the cause.
        let (gateway, monitor, strategy) = (gateway?, monitor?, strategy?);
        let (book, audit, feed) = (book?, audit?, feed?);

        // Differences either way, so that an event handled twice cannot make up for one that was
        // lost.
        let lost = feed.published.abs_diff(audit.handled)
            + feed.published.abs_diff(book.handled)
            + book.published.abs_diff(strategy.handled)
            + book.published.abs_diff(monitor.handled)
            + strategy.published.abs_diff(gateway.handled);
        Ok(Outcome {
            audit: audit.result,
            unknown_orders: book.result.book.unknown_orders(),
            top: book.result.top,
            spread: monitor.result,
            events: feed.published,
            orders_sent: strategy.published,
            lost,
            gateway: gateway.result,
            wall: feed.result.elapsed(),
        })
    })
}

/// What a stage did.
struct Work<R> {
    result: R,
    handled: u64,
    published: u64,
}

/// Publishes every message, each repetition from the start; returns when it began.
fn run_feed(
    plan: &Plan<'_>,
    mut market: Producer<MarketEvent>,
    clock: &Clock,
) -> Result<Work<Instant>, ClaimError> {
    let started = Instant::now();
    let mut published = 0;
    for _ in 0..plan.repeat {
        let mut fresh = true;
        for &message in plan.input {
            if let Some(rate) = plan.rate {
                wait_for_turn(started, published, rate);
            }
            market.publish(|event| {
                *event = MarketEvent {
                    stamp: clock.raw(),
                    message,
                    fresh,
                };
            })?;
            fresh = false;
            published += 1;
        }
    }
    Ok(Work {
        result: started,
        handled: 0,
        published,
    })
}

fn run_audit(market: Inlet<MarketEvent>) -> Result<Work<Audit>, ClaimError> {
    let mut audit = Audit::default();
    let handled = for_each(market, |event| {
        audit.handle(&event.message);
        Ok(())
    })?;
    Ok(Work {
        result: audit,
        handled,
        published: 0,
    })
}

fn run_book(
    market: Inlet<MarketEvent>,
    mut quotes: Producer<Quote>,
) -> Result<Work<Quoter>, ClaimError> {
    let mut quoter = Quoter::default();
    let mut published = 0;
    let handled = for_each(market, |event| {
        quoter.handle(event, |quote| {
            quotes.publish(|slot| *slot = quote)?;
            published += 1;
            Ok(())
        })
    })?;
    Ok(Work {
        result: quoter,
        handled,
        published,
    })
}

fn run_strategy(quotes: Inlet<Quote>, mut orders: Producer<Order>) -> Result<Work<()>, ClaimError> {
    let mut strategy = Strategy::default();
    let mut published = 0;
    let handled = for_each(quotes, |quote| {
        if let Some(order) = strategy.handle(quote) {
            orders.publish(|slot| *slot = order)?;
            published += 1;
        }
        Ok(())
    })?;
    Ok(Work {
        result: (),
        handled,
        published,
    })
}

fn run_monitor(quotes: Inlet<Quote>) -> Result<Work<Spread>, ClaimError> {
    let mut spread = Spread::default();
    let handled = for_each(quotes, |quote| {
        spread.handle(quote);
        Ok(())
    })?;
    Ok(Work {
        result: spread,
        handled,
        published: 0,
    })
}

fn run_gateway(
    orders: Inlet<Order>,
    mut gateway: Gateway,
    clock: &Clock,
) -> Result<Work<Gateway>, ClaimError> {
    let handled = for_each(orders, |order| {
        gateway.handle(order, clock.delta_as_nanos(order.stamp, clock.raw()));
        Ok(())
    })?;
    Ok(Work {
        result: gateway,
        handled,
        published: 0,
    })
}

/// The consumer of a stage, which poisons its ring if the stage ends before the ring does.
struct Inlet<T> {
    consumer: Consumer<T>,
    ended: bool,
}

impl<T> Drop for Inlet<T> {
    fn drop(&mut self) {
        if !self.ended {
            self.consumer.poison(STAGE_DIED);
        }
    }
}

/// The reason of a poison.
const STAGE_DIED: u32 = 1;

/// Handles every event until the ring is closed and drained, or poisoned, and counts them.
fn for_each<T>(
    mut inlet: Inlet<T>,
    mut handle: impl FnMut(&T) -> Result<(), ClaimError>,
) -> Result<u64, ClaimError> {
    let mut handled = 0;
    while let Ok(batch) = inlet.consumer.next_batch() {
        for event in &batch {
            handle(event)?;
            handled += 1;
        }
    }
    inlet.ended = true;
    Ok(handled)
}

/// Waits until event number `index` is due. A feed that is late catches up, and so the rate holds
/// on average.
fn wait_for_turn(started: Instant, index: u64, rate: NonZeroU64) {
    /// A sleep may take about as much longer than asked for.
    const SLEEP_ERROR: Duration = Duration::from_micros(200);
    let due_ns = u128::from(index) * 1_000_000_000 / u128::from(rate.get());
    let due = Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX));
    loop {
        let left = due.saturating_sub(started.elapsed());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(SLEEP_ERROR) {
            Some(long) => thread::sleep(long),
            None => thread::yield_now(),
        }
    }
}

fn ring<T: Send + Sync>(consumers: usize, event: impl Fn() -> T) -> Result<Ring<T>, RunError> {
    let builder = Ring::builder(CAPACITY).require_consumers(consumers);
    builder.build(event).map_err(RunError::setup)
}

fn join<T>(
    ring: &Ring<T>,
    name: &str,
    after: Option<&str>,
    wait: Wait,
) -> Result<Inlet<T>, RunError> {
    let consumer = ring.consumer(name).after(after).wait(wait);
    let consumer = consumer.join().map_err(RunError::setup)?;
    Ok(Inlet {
        consumer,
        ended: false,
    })
}

fn producer<T>(ring: &Ring<T>, wait: Wait) -> Result<Producer<T>, RunError> {
    let producer = ring.producer().map_err(RunError::setup)?;
    producer.with_wait(wait).map_err(RunError::setup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_panics_is_reported_by_name_and_ends_those_that_publish_to_it() {
        let ring = ring(1, Quote::default).unwrap();
        let consumer = join(&ring, "strategy", None, Wait::default()).unwrap();
        let mut producer = producer(&ring, Wait::default()).unwrap();
        let post = |stage| Post { stage, core: None };
        let (strategy, book) = thread::scope(|scope| {
            let strategy = post("strategy").start(scope, move || {
                for_each(consumer, |quote| panic!("no idea what {} is", quote.stamp))
            });
            // More than fits in the ring: without the consumer's end this would never return.
            let book = post("book").start(scope, move || {
                (0..=2 * CAPACITY as u64)
                    .try_for_each(|stamp| producer.publish(|quote| quote.stamp = stamp).map(drop))
            });
            (strategy.unwrap().join(), book.unwrap().join())
        });
        let strategy = strategy.map(drop).unwrap_err().to_string();
        assert_eq!(strategy, "stage strategy panicked: no idea what 0 is");
        let book = book.unwrap_err().to_string();
        assert!(book.starts_with("stage book could not publish: "), "{book}");
    }
}

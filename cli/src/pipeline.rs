//! The pipeline of `annulus demo`: a feed and five stages over three rings.
//!
//! ```text
//! feed == market ==> audit
//!                    book == quotes ==> strategy == orders ==> gateway
//!                                       monitor (after strategy)
//! ```
//!
//! Nobody has to stop the stages: when the feed has published everything its producer goes, which
//! closes the market ring; `book` drains that ring, ends in turn, and so closes the next. A stage that
//! fails poisons the ring that it reads: those that publish to it hear of it, and end too.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use annulus::ring::{Ring, Wait};
use annulus::{
    At, Feed, FeedError, Handler, HandlerError, Overflow, Pipeline, Report, Running, Stage,
    StageReport, Stopped, Timed, Warning, ticks,
};
use core_affinity::CoreId;
use hdrhistogram::Histogram;
use quanta::Clock;

use crate::market::{MarketEvent, Message, Order, Quote, Top};
use crate::stages::{Audit, Gateway, Quoter, Spread, Strategy};

/// Long enough that threads which share a core seldom have to change over, short enough that all
/// three rings stay in the cache and a full one delays an event by about a millisecond.
const CAPACITY: usize = 1 << 12;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// Latencies are recorded with three digits up to this, and as this from there on.
const LONGEST_LATENCY_NS: u64 = 3_600 * 1_000_000_000;

/// What to run.
pub(crate) struct Plan<'a> {
    pub(crate) input: &'a [Message],
    /// How many times in it are earlier than the one before.
    pub(crate) times_back: u64,
    pub(crate) repeat: u32,
    /// Events per second; none for as many as possible.
    pub(crate) rate: Option<NonZeroU64>,
    /// Given out in turn, first to the feed and then to the stages; empty for no pinning.
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
    /// As planned.
    pub(crate) rate: Option<NonZeroU64>,
    pub(crate) times_back: u64,
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
    pub(crate) stages: Vec<StageReport>,
    pub(crate) warnings: Vec<Warning>,
}

/// Runs the plan to its end, and tells `progress` now and then how many events have been published.
pub(crate) fn run(plan: &Plan<'_>, progress: impl Fn(u64)) -> Result<Outcome, RunError> {
    let market = ring(MarketEvent::default)?;
    let quotes = ring(Timed::<Quote>::default)?;
    let orders = ring(Timed::<Order>::default)?;
    let mut cores = plan.cores.iter().cycle().map(|core| core.id);
    let feed_core = cores.next();
    let [audit_at, book_at, strategy_at, monitor_at, gateway_at] =
        ["audit", "book", "strategy", "monitor", "gateway"].map(|name| Seat {
            name,
            core: cores.next(),
            wait: plan.wait,
        });

    let clock = Clock::new();
    let latencies =
        Histogram::new_with_bounds(1, LONGEST_LATENCY_NS, 3).map_err(RunError::setup)?;
    let (gateway, traded) = gateway_at.stage(Gateway::new(latencies), move |gateway, order| {
        let Timed { event: order, .. }: &Timed<Order> = order;
        gateway.handle(order, clock.delta_as_nanos(order.stamp, clock.raw()));
        Ok(())
    });
    let order_run = start(Pipeline::on(&orders).stage(gateway).timed())?;

    let mut order_feed = feed(&order_run, plan.wait)?;
    let strategy = (Strategy::default(), 0_u64);
    let (strategy, sent) = strategy_at.stage(strategy, move |(strategy, sent), quote| {
        let Timed { event: quote, .. }: &Timed<Quote> = quote;
        if let Some(order) = strategy.handle(quote) {
            order_feed.publish(|slot| *slot = Timed::now(order))?;
            *sent += 1;
        }
        Ok(())
    });
    let (monitor, watched) = monitor_at.stage(Spread::default(), |spread, quote| {
        let Timed { event: quote, .. }: &Timed<Quote> = quote;
        spread.handle(quote);
        Ok(())
    });
    let monitor = monitor.after(["strategy"]);
    let quote_run = start(Pipeline::on(&quotes).stages([strategy, monitor]).timed())?;

    let mut quote_feed = feed(&quote_run, plan.wait)?;
    let (audit, audited) = audit_at.stage(Audit::default(), |audit, event: &MarketEvent| {
        audit.handle(&event.message);
        Ok(())
    });
    let book = (Quoter::default(), 0_u64);
    let (book, booked) = book_at.stage(book, move |(quoter, quoted), event| {
        quoter.handle(event, |quote| {
            quote_feed.publish(|slot| *slot = Timed::now(quote))?;
            *quoted += 1;
            Ok(())
        })
    });
    let market_run = Pipeline::on(&market).stages([audit, book]);
    let market_run = start(market_run.timed_by(|event| event.stamp))?;

    let market_feed = feed(&market_run, plan.wait)?;
    let fed = thread::scope(|scope| {
        let (feeding, ended) = mpsc::channel::<()>();
        let fed = thread::Builder::new()
            .name("feed".into())
            .spawn_scoped(scope, || {
                let _feeding = feeding;
                run_feed(plan, market_feed, feed_core)
            });
        let fed = fed.map_err(RunError::setup)?;
        while ended.recv_timeout(PROGRESS_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            progress(market.snapshot().published);
        }
        fed.join().unwrap_or_else(|_| Err(RunError::FeedPanicked))
    });

    // A stage that fails ends those before it: the last one that failed is the cause.
    let of_market = market_run.join();
    let of_quotes = quote_run.join();
    let of_orders = order_run.join();
    let (of_orders, of_quotes, of_market) = (of_orders?, of_quotes?, of_market?);
    let (started, published) = fed?;

    let gateway = home(&traded)?;
    let (_, sent) = home(&sent)?;
    let (quoter, quoted) = home(&booked)?;
    let flows = [
        (&of_market, published),
        (&of_quotes, quoted),
        (&of_orders, sent),
    ];
    Ok(Outcome {
        rate: plan.rate,
        times_back: plan.times_back * u64::from(plan.repeat),
        audit: home(&audited)?,
        unknown_orders: quoter.book.unknown_orders(),
        top: quoter.top,
        spread: home(&watched)?,
        events: published,
        orders_sent: sent,
        lost: flows
            .iter()
            .map(|(report, published)| lost(report, *published))
            .sum(),
        gateway,
        wall: started.elapsed(),
        stages: flows
            .iter()
            .flat_map(|(report, _)| report.stages.iter().cloned())
            .collect(),
        warnings: flows
            .iter()
            .flat_map(|(report, _)| report.warnings.iter().cloned())
            .collect(),
    })
}

/// Differences either way, so that an event handled twice cannot make up for one that was lost.
fn lost(report: &Report, published: u64) -> u64 {
    let stages = report.stages.iter();
    stages.map(|stage| published.abs_diff(stage.handled)).sum()
}

/// Publishes every message, each repetition from the start; returns when it began, and how many.
fn run_feed(
    plan: &Plan<'_>,
    mut market: Feed<MarketEvent>,
    core: Option<usize>,
) -> Result<(Instant, u64), RunError> {
    if let Some(id) = core
        && !core_affinity::set_for_current(CoreId { id })
    {
        return Err(RunError::Pin(id));
    }
    let started = Instant::now();
    let mut published = 0;
    for _ in 0..plan.repeat {
        let mut fresh = true;
        for &message in plan.input {
            if let Some(rate) = plan.rate {
                wait_for_turn(started, published, rate);
            }
            let published_now = market.publish(|event| {
                *event = MarketEvent {
                    stamp: ticks(),
                    message,
                    fresh,
                };
            });
            published_now.map_err(RunError::Feed)?;
            fresh = false;
            published += 1;
        }
    }
    Ok((started, published))
}

/// What a stage is called, and where and how it runs.
struct Seat {
    name: &'static str,
    core: Option<usize>,
    wait: Wait,
}

impl Seat {
    /// A stage of a closure with a state, which comes home when the stage ends.
    fn stage<T: 'static, S: Send + 'static>(
        self,
        state: S,
        handle: impl FnMut(&mut S, &T) -> Result<(), FeedError> + Send + 'static,
    ) -> (Stage<T>, Receiver<S>) {
        let (home, comes_home) = mpsc::channel();
        let worker = Worker {
            state: Some(state),
            handle,
            home,
        };
        let stage = Stage::new(self.name, worker).wait(self.wait);
        let stage = match self.core {
            Some(core) => stage.core(core),
            None => stage,
        };
        (stage, comes_home)
    }
}

struct Worker<S, F> {
    state: Option<S>,
    handle: F,
    home: Sender<S>,
}

impl<T, S: 'static, F: FnMut(&mut S, &T) -> Result<(), FeedError> + 'static> Handler<T>
    for Worker<S, F>
{
    #[inline]
    fn on_event(&mut self, event: &T, _: At) -> Result<(), HandlerError> {
        let state = self.state.as_mut().ok_or("it has gone home")?;
        (self.handle)(state, event).map_err(Into::into)
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        if let Some(state) = self.state.take() {
            let _ = self.home.send(state); // Nobody waits for it if something else has failed.
        }
        Ok(())
    }
}

/// The state of a stage that has ended.
fn home<S>(receiver: &Receiver<S>) -> Result<S, RunError> {
    receiver.recv().map_err(RunError::setup)
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

fn ring<T: Send + Sync>(event: impl Fn() -> T) -> Result<Ring<T>, RunError> {
    Ring::builder(CAPACITY)
        .build(event)
        .map_err(RunError::setup)
}

fn start<T: Send + Sync>(pipeline: Pipeline<T>) -> Result<Running<T>, RunError> {
    pipeline.start().map_err(RunError::setup)
}

fn feed<T>(running: &Running<T>, wait: Wait) -> Result<Feed<T>, RunError> {
    let feed = running.feed(Overflow::Wait).map_err(RunError::setup)?;
    feed.with_wait(wait).map_err(RunError::setup)
}

/// Why a plan was not run to its end.
#[derive(Debug)]
pub(crate) enum RunError {
    Setup(Box<dyn Error + Send + Sync>),
    Pin(usize),
    Feed(FeedError),
    FeedPanicked,
    Stage(Stopped),
}

impl RunError {
    fn setup(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Setup(error.into())
    }
}

impl From<Stopped> for RunError {
    fn from(stopped: Stopped) -> Self {
        Self::Stage(stopped)
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "the pipeline could not be set up: {error}"),
            Self::Pin(core) => write!(f, "the feed could not be pinned to core {core}"),
            Self::Feed(error) => write!(f, "the feed could not publish: {error}"),
            Self::FeedPanicked => f.write_str("the feed panicked"),
            Self::Stage(stopped) => stopped.fmt(f),
        }
    }
}

impl Error for RunError {}

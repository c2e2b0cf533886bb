//! What the runtime does, shown through its public interface. The ids in the names of tests are those of
//! `BEHAVIOURS.md`.

mod building;
mod describing;
mod failing;
mod feeding;
mod handling;
mod holding;
mod measuring;
mod placing;
mod rewinding;
mod stopping;
mod supervising;

use std::ops::Range;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use annulus::ring::{Producers, Ring};
use annulus::{
    Cause, Feed, HandlerError, Overflow, Pipeline, Report, Running, Stage, StageReport, Stopped,
};

/// What exists for both kinds of producers is tested with both.
const KINDS: [Producers; 2] = [Producers::One, Producers::Many];

/// Longer than anything takes, on a slow and busy machine.
const A_MINUTE: Duration = Duration::from_secs(60);

fn ring(capacity: usize, kind: Producers) -> Ring<u64> {
    let builder = Ring::builder(capacity).producers(kind);
    builder.build(|| u64::MAX).unwrap()
}

fn start(ring: &Ring<u64>, stages: impl IntoIterator<Item = Stage<u64>>) -> Running<u64> {
    Pipeline::on(ring).stages(stages).start().unwrap()
}

fn feed<T>(running: &Running<T>) -> Feed<T> {
    running.feed(Overflow::Wait).unwrap()
}

/// Publishes these events one by one.
fn publish(feed: &mut Feed<u64>, events: Range<u64>) {
    for event in events {
        feed.publish(|slot| *slot = event).unwrap();
    }
}

/// Publishes these events at once: who waits for them is given them in one batch.
fn publish_batch(feed: &mut Feed<u64>, events: Range<u64>) {
    let n = (events.end - events.start) as usize;
    let write = |slots: annulus::ring::Slots<'_, u64>| {
        slots.zip(events).for_each(|(slot, event)| *slot = event);
    };
    feed.publish_batch(n, write).unwrap();
}

/// Runs the stages until they have handled `n` events, each its own sequence, that are published at once.
fn run(
    kind: Producers,
    n: u64,
    stages: impl IntoIterator<Item = Stage<u64>>,
) -> Result<Report, Stopped> {
    println!("{kind:?}"); // Shown if the test fails.
    let running = start(&ring(64, kind), stages);
    publish_batch(&mut feed(&running), 0..n);
    running.stop(A_MINUTE)
}

/// The report of a pipeline that has ended, well or not. It adds up.
fn ended(how: Result<Report, Stopped>) -> Report {
    let report = how.unwrap_or_else(|stopped| *stopped.report);
    assert!(report.adds_up(), "{report:?}");
    report
}

/// How many events of the stage are handled, skipped, failed, and left.
fn counts(stage: &StageReport) -> [u64; 4] {
    [stage.handled, stage.skipped, stage.failed, stage.left]
}

/// A stage that logs each event.
fn logging(name: &str, log: &Log<u64>) -> Stage<u64> {
    let log = log.clone();
    Stage::each(name, move |event: &u64, _| log.push(*event))
}

/// A stage that waits at the gate with each event, and then logs it.
fn gated(name: &str, gate: &Gate, log: &Log<u64>) -> Stage<u64> {
    let (gate, log) = (gate.clone(), log.clone());
    Stage::each(name, move |event: &u64, _| {
        gate.pass();
        log.push(*event);
    })
}

/// Lets other threads run until `condition` holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + A_MINUTE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for a minute: {what}");
        thread::yield_now();
    }
}

/// What happened, in order, as seen by several threads.
struct Log<L>(Arc<Mutex<Vec<L>>>);

impl<L> Log<L> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn push(&self, line: L) {
        self.0.lock().unwrap().push(line);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// What has been logged since the last time.
    fn take(&self) -> Vec<L> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<L> Clone for Log<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Shut until it is opened, and then open for ever.
#[derive(Clone, Default)]
struct Gate(Arc<[AtomicBool; 2]>);

impl Gate {
    fn open(&self) {
        self.0[0].store(true, Ordering::Release);
    }

    /// Waits until it is open.
    fn pass(&self) {
        self.0[1].store(true, Ordering::Release);
        until("the gate opens", || self.0[0].load(Ordering::Acquire));
    }

    /// Waits until somebody has come to it.
    fn wait_for_somebody(&self) {
        until("somebody comes", || self.0[1].load(Ordering::Acquire));
    }
}

/// How something of the user's fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Error,
    Panic,
    /// With a payload that panics when it is dropped.
    Bomb,
}

const WAYS_TO_FAIL: [How; 3] = [How::Error, How::Panic, How::Bomb];

impl How {
    fn fail(self) -> Result<(), HandlerError> {
        match self {
            Self::Error => Err("oh no".into()),
            Self::Panic => panic!("oh no"),
            Self::Bomb => panic_any(Bomb),
        }
    }

    fn is(self, cause: &Cause) -> bool {
        match cause {
            Cause::Error(error) => self == Self::Error && error.to_string() == "oh no",
            Cause::Panic(why) if self == Self::Panic => why == "oh no",
            Cause::Panic(why) => self == Self::Bomb && why == "without a message",
            _ => false,
        }
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb was dropped");
    }
}

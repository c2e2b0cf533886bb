//! What a running pipeline costs: no allocation per event, and next to no processor time while nothing happens.

mod counting;
#[path = "../../../ring/tests/behaviours/os.rs"]
mod os;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use annulus::ring::{Producers, Ring, Sequence, Wait};
use annulus::{
    At, Events, EventsMut, Handler, HandlerError, HandlerMut, Idle, Overflow, Pipeline, Running,
    Stage, Timed,
};

use counting::allocations_of_this_thread;
use os::ThreadStat;

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for a minute: {what}");
        thread::yield_now();
    }
}

// ---------------------------------------------------------------------------------------------
// Allocations
// ---------------------------------------------------------------------------------------------

/// Enough for every path to be taken: a full ring, an empty one, long batches and short ones.
const WARM_UP: Sequence = 2_000;
const LAST: Sequence = 20_000;

#[test]
fn what_is_allocated_is_counted_where_it_is() {
    let before = allocations_of_this_thread();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(allocations_of_this_thread() - before, 1);
    thread::spawn(|| drop(std::hint::black_box(vec![7; 7])))
        .join()
        .unwrap();
    let before = allocations_of_this_thread();
    assert_eq!(allocations_of_this_thread() - before, 0);
}

#[test]
fn what_a_handler_allocates_is_found() {
    let counts = run_counted(Producers::One, false, true);
    let journal = counts.iter().find(|(name, _)| *name == "journal");
    assert_eq!(journal, Some(&("journal", LAST - WARM_UP)));
}

#[test]
fn nothing_is_allocated_for_events() {
    for kind in [Producers::One, Producers::Many] {
        assert_nothing_is_counted(&run_counted(kind, false, false));
    }
}

#[test]
fn nothing_is_allocated_to_time_events() {
    for kind in [Producers::One, Producers::Many] {
        assert_nothing_is_counted(&run_counted(kind, true, false));
    }
}

fn assert_nothing_is_counted(counts: &Counts) {
    assert!(counts.len() > 5, "{counts:?}");
    assert!(counts.iter().all(|(_, count)| *count == 0), "{counts:?}");
}

/// How often each thread has allocated from the end of the warm-up to the last event.
type Counts = Vec<(&'static str, u64)>;

/// A handler of either kind that does nothing but look how much its thread has allocated.
struct Counter {
    name: &'static str,
    before: u64,
    holds: bool,
    allocates: bool,
    counts: Arc<Mutex<Counts>>,
    /// How far the last stage has got.
    handled: Arc<AtomicU64>,
}

impl Counter {
    fn count(&mut self, sequence: Sequence) {
        if sequence == WARM_UP {
            self.before = allocations_of_this_thread();
        }
        if self.allocates && sequence != WARM_UP {
            drop(std::hint::black_box(Box::new(sequence)));
        }
        if sequence == LAST {
            let count = allocations_of_this_thread() - self.before;
            self.counts.lock().unwrap().push((self.name, count));
        }
        if self.name == "last" {
            self.handled.store(sequence + 1, Ordering::Release);
        }
    }
}

impl Handler<Timed<u64>> for Counter {
    fn on_batch(&mut self, events: &mut Events<'_, Timed<u64>>) -> Result<(), HandlerError> {
        if self.holds {
            events.hold();
            events.release_held(events.sequences().start.saturating_sub(4));
        }
        while let Some((event, at)) = events.next() {
            Handler::on_event(self, event, at)?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: &Timed<u64>, at: At) -> Result<(), HandlerError> {
        self.count(at.sequence);
        match event.event {
            u64::MAX => Err("nobody published it".into()),
            _ => Ok(()),
        }
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, Timed<u64>>) -> Result<(), HandlerError> {
        if let Some((last, _)) = idle.held().last() {
            idle.release_held(last + 1);
        }
        Ok(())
    }
}

impl HandlerMut<Timed<u64>> for Counter {
    fn on_batch(&mut self, events: &mut EventsMut<'_, Timed<u64>>) -> Result<(), HandlerError> {
        while let Some((event, at)) = events.next() {
            HandlerMut::on_event(self, event, at)?;
            if at.sequence % 8 == 0 {
                events.release();
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: &mut Timed<u64>, at: At) -> Result<(), HandlerError> {
        self.count(at.sequence);
        event.event += 1;
        Ok(())
    }
}

/// Two stages side by side, one that changes events after them, two side by side after that, and a last one; every
/// way to wait; one that holds, one with an interval, one with a limit. Publishes until they have seen the last
/// event, at times in a hurry and at times one by one, so that they wait and the producers do.
fn run_counted(kind: Producers, timed: bool, journal_allocates: bool) -> Counts {
    let builder = Ring::builder(64).producers(kind).parking();
    let ring = builder.build(Timed::<u64>::default).unwrap();
    let counts = Arc::new(Mutex::new(Vec::with_capacity(16)));
    let handled = Arc::new(AtomicU64::new(0));
    let counter = |name| Counter {
        name,
        before: 0,
        holds: name == "holds",
        allocates: name == "journal" && journal_allocates,
        counts: counts.clone(),
        handled: handled.clone(),
    };
    let reads = |name| Stage::new(name, counter(name)).wait(Wait::Park);
    let pipeline = Pipeline::on(&ring)
        .stage(reads("journal").limit(Duration::from_secs(5)))
        .stage(reads("holds"))
        .stage(Stage::new_mut("enrich", counter("enrich")).after(["journal", "holds"]))
        .stage(reads("book").after(["enrich"]).wait(Wait::Yield))
        .stage(
            reads("risk")
                .after(["enrich"])
                .wait(Wait::Backoff)
                .batch_limit(3),
        )
        .stage(
            reads("last")
                .after(["book", "risk"])
                .idle_every(Duration::from_micros(100)),
        )
        .on_slow(|slow| println!("{slow:?}"));
    let running = if timed {
        pipeline.timed().start().unwrap()
    } else {
        pipeline.start().unwrap()
    };
    // The others are published by the first of many, so that the last event is somewhere.
    let second = (kind == Producers::Many)
        .then(|| count_feed(&running, "second feed", &counts, &handled, LAST / 4));
    let first = count_feed(&running, "feed", &counts, &handled, LAST + 1);
    for feed in [Some(first), second].into_iter().flatten() {
        feed.join().unwrap();
    }
    let report = running.stop(Duration::from_secs(60)).unwrap();
    let waits = report.stages.iter().map(|stage| stage.metrics.waits);
    assert!(waits.sum::<u64>() > 0, "{report:#?}");
    let has_times = |stage: &annulus::StageReport| stage.metrics.times.is_some();
    assert!(report.stages.iter().all(|stage| has_times(stage) == timed));
    drop(running);
    std::mem::take(&mut *counts.lock().unwrap())
}

/// Publishes so many events, and then counts what that has allocated from the end of its warm-up.
fn count_feed(
    running: &Running<Timed<u64>>,
    name: &'static str,
    counts: &Arc<Mutex<Counts>>,
    handled: &Arc<AtomicU64>,
    events: u64,
) -> thread::JoinHandle<()> {
    let feed = running.feed(Overflow::Wait).unwrap();
    let mut feed = feed.with_wait(Wait::Park).unwrap();
    let (counts, handled) = (counts.clone(), handled.clone());
    thread::spawn(move || {
        let mut before = None;
        let mut published = 0;
        while published < events {
            if published > WARM_UP && before.is_none() {
                before = Some(allocations_of_this_thread());
            }
            let next = if published % 3 == 0 {
                let batch =
                    feed.publish_batch(2, |slots| slots.for_each(|slot| *slot = Timed::now(1)));
                published += 2;
                batch.unwrap().unwrap()
            } else {
                published += 1;
                feed.publish(|slot| *slot = Timed::now(1)).unwrap().unwrap()
            };
            if next % 256 < 16 {
                // All stages run out of events, and wait.
                until("the last stage comes", || {
                    handled.load(Ordering::Acquire) > next
                });
            }
        }
        let count = allocations_of_this_thread() - before.unwrap();
        counts.lock().unwrap().push((name, count));
    })
}

// ---------------------------------------------------------------------------------------------
// Processor time
// ---------------------------------------------------------------------------------------------

/// How long those wait whose processor time is looked at.
const LONG: Duration = Duration::from_secs(1);

/// Tells its thread.
struct Idler(Arc<Mutex<Vec<Option<ThreadStat>>>>);

impl Handler<u64> for Idler {
    fn on_start(&mut self, _: &str) -> Result<(), HandlerError> {
        self.0.lock().unwrap().push(ThreadStat::of_this());
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// What parking costs is not a hundredth of a core; what spinning costs is all that the machine gives. The bound
/// lies far from both.
#[test]
fn an_idle_pipeline_whose_stages_park_does_not_use_the_processor() {
    for has_begun in [false, true] {
        let ring = Ring::builder(64).parking().build(u64::default).unwrap();
        let stats = Arc::new(Mutex::new(Vec::new()));
        let stage = |name: &str| Stage::new(name, Idler(stats.clone())).wait(Wait::Park);
        let running = Pipeline::on(&ring)
            .stage(stage("first"))
            .stage(stage("second").after(["first"]))
            .stage(stage("third").after(["second"]))
            .start()
            .unwrap();
        let mut feed = running.feed(Overflow::Wait).unwrap();
        if has_begun {
            feed.publish_batch(9, |_| ()).unwrap();
            until("all is handled", || running.metrics()[2].1.events == 9);
        }
        until("all have started", || stats.lock().unwrap().len() == 3);
        let stats = stats.lock().unwrap();
        let Some(stats) = stats.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else {
            println!("this system does not tell how much processor time a thread uses");
            return;
        };
        until("all are asleep", || {
            stats.iter().all(|stat| stat.is_asleep())
        });
        let used = || stats.iter().map(|stat| stat.processor_time());
        let before: Duration = used().sum();
        let began = Instant::now();
        thread::sleep(LONG); // This is what is measured.
        let took = began.elapsed();
        let used = used().sum::<Duration>() - before;
        assert!(used < took / 10, "{used:?} of {took:?}");
        drop(feed);
        assert!(running.join().is_ok());
    }
}

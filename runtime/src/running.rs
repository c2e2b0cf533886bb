//! The handle of a pipeline that has been started: stop, abort, join, and what became of every event.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_ring::{Ring, Sequence};

use crate::control::{ABORTED, Control, Ended};
use crate::failure::Failure;
use crate::feed::{Feed, FeedCounters, FeedError, FeedMetrics, Overflow};
use crate::metrics::{Metrics, elapsed, ticks};
use crate::pin::Warning;

/// A pipeline whose threads have been started; made by [`Pipeline::start`](crate::Pipeline::start).
///
/// All of it can be called from any thread, at any time, and more than once. Dropping it stops the pipeline as
/// [`Running::stop`] does, within a second; or two, if a handler does not return.
///
/// # Examples
/// ```
/// # use annulus::{Pipeline, Stage};
/// # use annulus::ring::Ring;
/// # use std::time::Duration;
/// # let ring = Ring::builder(64).build(u64::default)?;
/// let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
/// let mut feed = ring.producer()?;
/// feed.publish_batch(5, |slots| slots.for_each(|price| *price = 7))?;
/// drop(feed);
/// let report = running.stop(Duration::from_secs(5))?;
/// assert!(report.adds_up());
/// assert_eq!((report.stages[0].handled, report.stages[0].left), (5, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Running<T: 'static> {
    pub(crate) ring: Ring<T>,
    pub(crate) control: Arc<Control>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) cores: Vec<Option<usize>>,
    pub(crate) warnings: Mutex<Vec<Warning>>,
    pub(crate) feeds: Mutex<Vec<Arc<FeedCounters>>>,
}

/// How long a pipeline is given to stop whose handle is dropped.
const DROPPED: Duration = Duration::from_secs(1);

/// How long handlers are given for what they have in hand when they are to drop the rest.
const GRACE: Duration = Duration::from_secs(1);

impl<T> Running<T> {
    /// A producer for it.
    ///
    /// # Errors
    /// [`FeedError::Join`], as [`Ring::producer`] and [`Ring::shared_producer`]; that the pipeline has been stopped,
    /// or has failed and why.
    ///
    /// # Examples
    /// See [`Feed`].
    pub fn feed(&self, overflow: Overflow) -> Result<Feed<T>, FeedError> {
        let counters = Arc::new(FeedCounters::default());
        let feed = Feed::join(&self.ring, overflow, self.control.clone(), counters.clone())?;
        lock(&self.feeds).push(counters);
        Ok(feed)
    }

    /// What probably does not work as it was meant.
    ///
    /// # Examples
    /// See [`Placement`](crate::Placement).
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = lock(&self.warnings).clone();
        for (index, (post, core)) in self.control.stages.iter().zip(&self.cores).enumerate() {
            if let (_, true) = self.control.where_it_ran(index)
                && let Some(core) = *core
            {
                let stage = post.name.clone();
                warnings.push(Warning::PinRefused { stage, core });
            }
        }
        warnings
    }

    /// What each stage has counted and timed so far, in the order of the stages.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// while running.metrics()[0].1.events == 0 {
    ///     std::thread::yield_now();
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Vec<(String, Metrics)> {
        let stages = self.control.stages.iter();
        stages
            .map(|post| (post.name.clone(), post.counters.read()))
            .collect()
    }

    /// Whether all stages have ended.
    ///
    /// # Examples
    /// See [`Running::close`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.control.all_ended()
    }

    /// Closes the ring, waits until all that is published has been handled, and tells what became of it.
    ///
    /// The only producer of a ring has to see that it is closed, by its next publication or its drop: drop it
    /// first. After the time `within` the pipeline is aborted: what is left is counted, and a handler that does not
    /// return even in another second is left to itself.
    ///
    /// Called by a handler, it asks and does not wait, since nobody can wait for himself; its own stage is then
    /// [overdue](Ended::Overdue), and so it is an error. [`Running::close`] only asks.
    ///
    /// # Errors
    /// If a stage failed and that stopped the pipeline, if something was left, or if a handler did not return.
    /// The report is in the error.
    ///
    /// # Examples
    /// See [`Running`].
    pub fn stop(&self, within: Duration) -> Result<Report, Stopped> {
        self.ring.close();
        if !self
            .control
            .wait_for_all(Instant::now().checked_add(within))
        {
            let mut warnings = lock(&self.warnings);
            if !self.ring.is_closed() && !warnings.contains(&Warning::ProducerStillThere) {
                warnings.push(Warning::ProducerStillThere);
            }
            drop(warnings);
            self.cut_off();
        }
        self.finish(false)
    }

    /// Poisons the ring, and waits until handlers have ended with the event that they have in hand, or 63 more if
    /// they take less than a microsecond for each; for a second at most. What is not handled is counted as left.
    ///
    /// # Errors
    /// If a stage had failed before, or if a handler did not return.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Overflow, Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let mut feed = running.feed(Overflow::Wait)?;
    /// feed.publish(|price| *price = 7)?;
    /// let report = running.abort()?;
    /// assert_eq!(report.stages[0].handled + report.stages[0].left, 1);
    /// assert!(feed.publish(|price| *price = 7).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abort(&self) -> Result<Report, Stopped> {
        self.cut_off();
        self.finish(true)
    }

    /// Waits until the pipeline ends by itself: its producers are gone and all is handled, or a stage failed.
    ///
    /// # Errors
    /// As [`Running::stop`].
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let mut feed = ring.producer()?;
    /// std::thread::spawn(move || feed.publish_value(7)); // and then it is gone
    /// assert_eq!(running.join()?.stages[0].handled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(&self) -> Result<Report, Stopped> {
        self.control.wait_for_all(None);
        self.finish(false)
    }

    /// Asks the pipeline to stop, and does not wait: what a handler calls that has seen enough.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// running.close();
    /// let report = running.join()?;
    /// assert!(running.has_ended());
    /// assert_eq!(running.report().stages[0].left, report.stages[0].left);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.ring.close();
    }

    fn cut_off(&self) {
        self.control.abort();
        self.ring.poison(ABORTED);
        self.control.wait_for_all(Instant::now().checked_add(GRACE));
    }

    fn finish(&self, may_leave: bool) -> Result<Report, Stopped> {
        if self.control.all_ended() {
            let threads = std::mem::take(&mut *lock(&self.threads));
            let me = thread::current().id(); // Whose handler's drop may be what asks.
            for thread in threads
                .into_iter()
                .filter(|thread| thread.thread().id() != me)
            {
                let _ = thread.join(); // Its panics have been caught; there is nothing else to hear.
            }
        }
        let report = self.report();
        if report.is_clean(may_leave) {
            Ok(report)
        } else {
            Err(Stopped {
                report: Box::new(report),
            })
        }
    }

    /// What has become of every event so far.
    ///
    /// While the pipeline runs, events in hand are counted as left.
    ///
    /// # Examples
    /// See [`Running::close`].
    #[must_use]
    pub fn report(&self) -> Report {
        let stages = self.control.stages.iter();
        let published = self.ring.snapshot().published;
        let nexts = stages.clone().map(|post| post.next());
        // A stage knows of events by their stamps, the snapshot perhaps not yet.
        let published = nexts.fold(published, Sequence::max);
        let stages = stages
            .zip(&self.cores)
            .enumerate()
            .map(|(index, (post, core))| {
                let mut metrics = post.counters.read();
                let busy_since = post.busy_since.get();
                if busy_since != 0 && Some(elapsed(busy_since, ticks())) > post.limit {
                    metrics.slow += 1; // It is still at it.
                }
                StageReport {
                    name: post.name.clone(),
                    core: *core,
                    ran_on: self.control.where_it_ran(index).0,
                    published: published.saturating_sub(post.start),
                    handled: metrics.events,
                    skipped: post.counters.skipped.get(),
                    failed: post.counters.failed.get(),
                    left: published.saturating_sub(post.next()),
                    ended: self.control.how_ended(index).unwrap_or(Ended::Overdue),
                    metrics,
                }
            });
        let (failures, more_failures) = self.control.failures();
        Report {
            stages: stages.collect(),
            published,
            feeds: lock(&self.feeds).iter().map(|feed| feed.read()).collect(),
            failures,
            more_failures,
            warnings: self.warnings(),
        }
    }
}

impl<T: 'static> Drop for Running<T> {
    fn drop(&mut self) {
        if self.control.all_ended() {
            self.ring.close(); // Its stages may have left it to its producers.
        } else {
            let _ = self.stop(DROPPED); // Who wants to know how it ended calls it.
        }
    }
}

impl<T> fmt::Debug for Running<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.control.stages.iter().map(|post| &post.name);
        f.debug_struct("Running")
            .field("stages", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Nothing that can panic runs under these locks.
fn lock<L>(mutex: &Mutex<L>) -> std::sync::MutexGuard<'_, L> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of every event.
///
/// # Examples
/// See [`Running`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Each stage, in the order in which they were given.
    pub stages: Vec<StageReport>,
    /// How many sequences have been published to the ring in all, also before the pipeline was there.
    pub published: u64,
    /// What each of its feeds has counted, in the order in which they joined.
    pub feeds: Vec<FeedMetrics>,
    /// What failed, in order; the first 64 of it.
    pub failures: Vec<Arc<Failure>>,
    /// How many more failures there were.
    pub more_failures: u64,
    /// What probably did not work as it was meant.
    pub warnings: Vec<Warning>,
}

/// What became of the events of one stage: `published = handled + skipped + failed + left`.
///
/// # Examples
/// See [`Running`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// The core that it was to be pinned to.
    pub core: Option<usize>,
    /// The core that it ran on when it ended, where the system tells.
    pub ran_on: Option<usize>,
    /// How many sequences were published since it joined.
    pub published: u64,
    /// How many events its handler has handled.
    pub handled: u64,
    /// How many sequences carry no event: their claims were dropped.
    pub skipped: u64,
    /// How many events it has given up because its handler failed.
    pub failed: u64,
    /// How many sequences it has not come to.
    pub left: u64,
    /// How it has ended.
    pub ended: Ended,
    /// What it has counted and timed.
    pub metrics: Metrics,
}

impl Report {
    /// Whether every event of every stage is accounted for. It is, once the pipeline has ended.
    ///
    /// # Examples
    /// See [`Running`].
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.stages.iter().all(|stage| {
            stage.published == stage.handled + stage.skipped + stage.failed + stage.left
        })
    }

    fn is_clean(&self, may_leave: bool) -> bool {
        self.stages.iter().all(|stage| match stage.ended {
            Ended::Drained | Ended::Detached(_) => true,
            Ended::Aborted => may_leave || stage.left == 0,
            _ => false,
        })
    }
}

/// A pipeline did not end as it should have.
///
/// # Examples
/// See [`Failure`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stopped {
    /// What became of every event.
    pub report: Box<Report>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = &self.report.stages;
        let failed = stages.iter().find_map(|stage| match &stage.ended {
            Ended::Failed(failure) | Ended::Stopped(failure) => Some(failure),
            _ => None,
        });
        let mut separator = "";
        if let Some(failure) = failed {
            write!(f, "{failure}")?;
            separator = "; ";
        }
        for stage in stages {
            let name = &stage.name;
            match &stage.ended {
                Ended::Overdue => write!(f, "{separator}stage {name:?} has not returned")?,
                Ended::Poisoned(poisoned) => write!(f, "{separator}stage {name:?}: {poisoned}")?,
                Ended::Unusable(cause) => write!(f, "{separator}stage {name:?}: {cause}")?,
                _ if stage.left > 0 => {
                    write!(f, "{separator}stage {name:?} left {} events", stage.left)?;
                }
                _ => continue,
            }
            separator = "; ";
        }
        Ok(())
    }
}

impl Error for Stopped {}

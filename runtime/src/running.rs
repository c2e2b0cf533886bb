//! The handle of a pipeline that has been started: stop, abort, join, and what became of every event.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_ring::{Poisoned, Ring, Sequence, Snapshot};

use crate::control::{ABORTED, Control, Ended};
use crate::failure::Failure;
use crate::feed::{Feed, FeedCounters, FeedError, FeedMetrics, Feeds, FoldedFeeds, Overflow};
use crate::metrics::{Metrics, Table, TimesRead, elapsed, ticks};
use crate::pin::Warning;

/// A pipeline whose threads have been started; made by [`Pipeline::start`](crate::Pipeline::start).
///
/// All of it can be called from any thread, at any time, and more than once. Dropping it stops the pipeline as
/// [`Running::stop`] does, within a second; or two, if a handler does not return. On a ring that is
/// [not its own](crate::Pipeline::owns_ring) it leaves, as [`Running::leave`] does; or as [`Running::leave_held`], if
/// it is dropped by a panic.
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
    pub(crate) cores: Vec<Vec<usize>>,
    pub(crate) warnings: Mutex<Vec<Warning>>,
    pub(crate) feeds: Mutex<Feeds>,
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
        lock(&self.feeds).add(counters);
        Ok(feed)
    }

    /// What each of its feeds has counted so far, as in [`Report::feeds`].
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Overflow, Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// # let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let feed = running.feed(Overflow::DropNewest)?;
    /// assert_eq!(running.feeds()[0].dropped, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn feeds(&self) -> Vec<FeedMetrics> {
        lock(&self.feeds).read().0
    }

    /// What probably does not work as it was meant.
    ///
    /// # Examples
    /// See [`Placement`](crate::Placement).
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = lock(&self.warnings).clone();
        for (index, (post, cores)) in self.control.stages.iter().zip(&self.cores).enumerate() {
            if let (_, true) = self.control.where_it_ran(index)
                && let Some(&core) = cores.first()
            {
                let stage = post.name.clone();
                warnings.push(Warning::PinRefused { stage, core });
            }
        }
        for post in &self.control.stages {
            let Some(row) = post.held_up_by.get().checked_sub(1) else {
                continue;
            };
            let members = self.ring.snapshot().members.into_iter();
            let mut dead = members.filter(|member| member.row as u64 == row && member.is_held);
            if let Some(by) = dead.next() {
                let (stage, by) = (post.name.clone(), by.name);
                warnings.push(Warning::HeldUp { stage, by });
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

    /// Closes the ring, waits until all that is published has been handled, and tells what became of it. If the ring
    /// is [not its own](crate::Pipeline::owns_ring), as one that processes share, it [leaves](Running::leave) instead.
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
        if !self.control.owns_ring() {
            return self.leave(within);
        }
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

    /// Leaves the ring to others: each stage handles what had been published when this was called, and goes; the ring
    /// is neither closed nor poisoned. A stage that waits for events notices within a quarter of a second.
    ///
    /// After the time `within` the pipeline is aborted, and stages go where they are. On a ring that processes share, one
    /// that has not handled what it was to leaves its place [held](crate::Stage::on_death), if that is how it would
    /// die: nothing is lost then, and the next of its name goes on there.
    ///
    /// # Errors
    /// As [`Running::stop`]; not if what was left is held.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # use std::time::Duration;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// let report = running.leave(Duration::from_secs(5))?;
    /// assert_eq!(report.stages[0].handled, 1);
    /// feed.publish_value(8)?; // it is open, for others
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave(&self, within: Duration) -> Result<Report, Stopped> {
        self.leave_by(within, false)
    }

    /// As [`Running::leave`]; but on a ring that processes share, stages whose places would be
    /// [held](crate::Stage::on_death) if they died leave them held: the next of their names go on where they
    /// had released, and what is published meanwhile is not lost, but fills the ring. For a program that is about to
    /// be started again.
    ///
    /// # Errors
    /// As [`Running::leave`].
    ///
    /// # Examples
    /// As [`Running::leave`].
    pub fn leave_held(&self, within: Duration) -> Result<Report, Stopped> {
        self.leave_by(within, true)
    }

    fn leave_by(&self, within: Duration, keeps_places: bool) -> Result<Report, Stopped> {
        self.ask_to_leave(keeps_places);
        if !(self.control).wait_for_all(Instant::now().checked_add(within)) {
            self.cut_off();
        }
        self.finish(false)
    }

    fn ask_to_leave(&self, keeps_places: bool) {
        let published = self.ring.snapshot().published;
        self.control.leave(published, keeps_places);
    }

    /// Poisons the ring, if it is its [own](crate::Pipeline::owns_ring), and waits until handlers have ended with the event that they have in hand, or 63 more if
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

    /// Asks the pipeline to stop, or to leave if the ring is not its own, and does not wait: what a handler calls
    /// that has seen enough.
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
        if self.control.owns_ring() {
            self.ring.close();
        } else {
            self.ask_to_leave(false);
        }
    }

    fn cut_off(&self) {
        self.control.abort();
        if self.control.owns_ring() {
            self.ring.poison(ABORTED);
        }
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
        let snapshot = self.ring.snapshot();
        let published = snapshot.published;
        let nexts = stages.clone().map(|post| post.next());
        // A stage knows of events by their stamps, the snapshot perhaps not yet.
        let published = nexts.fold(published, Sequence::max);
        let stages = stages
            .zip(&self.cores)
            .enumerate()
            .map(|(index, (post, cores))| {
                let mut metrics = post.counters.read();
                let busy_since = post.busy_since.get();
                if busy_since != 0 && Some(elapsed(busy_since, ticks())) > post.limit {
                    metrics.slow += 1; // It is still at it.
                }
                // What comes when it has gone is not for it, or for the next of its name.
                let departure = post.departure.get();
                let published = departure.map_or(published, |departure| departure.published);
                StageReport {
                    name: post.name.clone(),
                    core: if let [core] = cores[..] {
                        Some(core)
                    } else {
                        None
                    },
                    cores: cores.clone(),
                    ran_on: self.control.where_it_ran(index).0,
                    started_at: post.start,
                    has_resumed: post.has_resumed,
                    missed: if post.has_resumed { 0 } else { post.start },
                    is_held: departure.is_some_and(|departure| departure.is_held),
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
        let (feeds, folded_feeds) = lock(&self.feeds).read();
        Report {
            stages: stages.collect(),
            published,
            feeds,
            folded_feeds,
            poisoned: (snapshot.poisoned).map(|poisoned| why_poisoned(&snapshot, poisoned)),
            failures,
            more_failures,
            warnings: self.warnings(),
        }
    }
}

impl<T: 'static> Drop for Running<T> {
    fn drop(&mut self) {
        // Who wants to know how it ended asks before. Whoever unwinds has not decided to leave: that is a death.
        match (self.control.owns_ring(), self.control.all_ended()) {
            (true, true) => self.ring.close(), // Its stages may have left it to its producers.
            (true, false) => drop(self.stop(DROPPED)),
            (false, true) => {}
            (false, false) => drop(self.leave_by(DROPPED, thread::panicking())),
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// Each stage, in the order in which they were given.
    pub stages: Vec<StageReport>,
    /// How many sequences have been published to the ring in all, also before the pipeline was there.
    pub published: u64,
    /// What each of its feeds has counted, in the order in which they joined. If there were more than 64, the first of
    /// those that have ended are in `folded_feeds` instead.
    pub feeds: Vec<FeedMetrics>,
    /// What the feeds have counted, in all, that are not in `feeds`.
    pub folded_feeds: FoldedFeeds,
    /// Who poisoned the ring and why, if somebody did.
    pub poisoned: Option<String>,
    /// What failed, in order; the first 64 of it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_texts"))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// The core that it was to be pinned to, if it was one.
    pub core: Option<usize>,
    /// The cores that it was to run on; none for anywhere.
    pub cores: Vec<usize>,
    /// The core that it ran on when it ended, where the system tells.
    pub ran_on: Option<usize>,
    /// The first sequence that was for it.
    pub started_at: Sequence,
    /// Whether it went on in the place of one of its name that had died, or left it held: at the event that this one
    /// had not released.
    pub has_resumed: bool,
    /// How many sequences had been published before the first that was for it, and never came to it: all of them, or
    /// none if it went on in the place of another. Some, or all, may have been handled by an earlier stage of its name,
    /// of which the ring knows nothing any more.
    pub missed: u64,
    /// Whether it has left its place in the ring held: the next of its name goes on with what is left.
    pub is_held: bool,
    /// How many sequences were published since it joined; if it has left the ring to others, until then.
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
            Ended::Drained | Ended::Detached(_) | Ended::Left => true,
            Ended::Aborted => may_leave || stage.left == 0 || stage.is_held,
            _ => false,
        })
    }
}

/// A pipeline did not end as it should have.
///
/// # Examples
/// See [`Failure`].
#[derive(Clone)]
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
                Ended::Poisoned(poisoned) => {
                    let text = poisoned.to_string();
                    let why = self.report.poisoned.as_ref().unwrap_or(&text);
                    write!(f, "{separator}stage {name:?}: {why}")?;
                }
                Ended::Unusable(cause) => write!(f, "{separator}stage {name:?}: {cause}")?,
                ended if stage.is_held => {
                    let failed_at = match ended {
                        Ended::Failed(failure) => failure.sequence,
                        _ => None,
                    };
                    // The event that it failed at comes again.
                    let events = stage.left + u64::from(failed_at.is_some());
                    write!(
                        f,
                        "{separator}stage {name:?} left its place, and {events} events, to the next of its name"
                    )?;
                }
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

/// As its text: this is what a `main` shows that returns it.
impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Stopped {}

/// Who poisoned a ring, and why, as far as it is known.
fn why_poisoned(snapshot: &Snapshot, poisoned: Poisoned) -> String {
    let member = |row| snapshot.members.iter().find(|member| member.row == row);
    match poisoned.row.and_then(member) {
        Some(member) if !member.name.is_empty() => format!("{poisoned}, {:?}", member.name),
        _ => poisoned.to_string(),
    }
}

#[cfg(feature = "serde")]
fn as_texts<S: serde::Serializer>(failures: &[Arc<Failure>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(failures.iter().map(|failure| failure.to_string()))
}

/// A table of the stages, and below it what else there is to say.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["stage", "handled", "skipped", "failed", "left"]);
        table.add_columns(Metrics::COLUMNS);
        if self
            .stages
            .iter()
            .any(|stage| stage.metrics.times.is_some())
        {
            table.add_columns(TimesRead::COLUMNS);
        }
        table.add_columns(["ended"]);
        for stage in &self.stages {
            let counts = [stage.handled, stage.skipped, stage.failed, stage.left];
            table.begin(&stage.name, counts.map(|count| count.to_string()));
            table.add(stage.metrics.cells());
            if let Some(times) = &stage.metrics.times {
                table.add(times.cells());
            }
            let held = if stage.is_held { ", place held" } else { "" };
            table.end(format!("{}{held}", stage.ended));
        }
        write!(f, "{table}")?;
        for stage in self.stages.iter().filter(|stage| stage.missed > 0) {
            let StageReport { name, missed, .. } = stage;
            writeln!(
                f,
                "stage {name:?} joined behind {missed} events that it never saw"
            )?;
        }
        for (index, feed) in self.feeds.iter().enumerate() {
            writeln!(f, "feed {index}: {feed}")?;
        }
        if self.folded_feeds.feeds > 0 {
            let FoldedFeeds { feeds, metrics } = self.folded_feeds;
            writeln!(f, "{feeds} feeds that have ended: {metrics}")?;
        }
        if let Some(poisoned) = &self.poisoned {
            writeln!(f, "{poisoned}")?;
        }
        for failure in &self.failures {
            writeln!(f, "{failure}")?;
        }
        if self.more_failures > 0 {
            writeln!(f, "and {} more failures", self.more_failures)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

//! What a stage counts and times: written by its thread alone, readable by anybody at any time.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use annulus_ring::{Sequence, Waits};
#[cfg(not(miri))]
use quanta::Clock;

/// A raw reading of the clock by which times are measured: to be put into an event when it is published, for
/// [`Pipeline::timed_by`](crate::Pipeline::timed_by).
///
/// It takes a few nanoseconds, and readings of different threads can be compared.
///
/// # Examples
/// See [`Timed`].
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    clock().raw()
}

/// In Miri, which has no processor to ask: its ticks are nanoseconds.
#[cfg(miri)]
struct Clock(std::time::Instant);

#[cfg(miri)]
impl Clock {
    fn new() -> Self {
        Self(std::time::Instant::now())
    }

    fn raw(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn delta_as_nanos(&self, from: u64, to: u64) -> u64 {
        to.saturating_sub(from)
    }
}

fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::new)
}

/// From one reading of [`ticks`] to a later one.
fn nanoseconds(from: u64, to: u64) -> u64 {
    clock().delta_as_nanos(from, to)
}

/// As a duration.
pub(crate) fn elapsed(from: u64, to: u64) -> Duration {
    Duration::from_nanos(nanoseconds(from, to))
}

/// Starts the clock, which takes a while the first time.
pub(crate) fn calibrate() {
    let _ = clock();
}

/// An event with the moment at which it was published.
///
/// # Examples
/// ```
/// use annulus::{Pipeline, Stage, Timed};
/// use annulus::ring::Ring;
/// # use std::time::Duration;
///
/// let ring = Ring::builder(64).build(Timed::<u64>::default)?;
/// let book = Stage::each("book", |tick: &Timed<u64>, _| assert_eq!(tick.event, 7));
/// let running = Pipeline::on(&ring).stage(book).timed().start()?;
/// let mut feed = ring.producer()?;
/// feed.publish(|slot| *slot = Timed::now(7))?;
/// drop(feed);
/// let report = running.stop(Duration::from_secs(5))?;
/// let times = report.stages[0].metrics.times.as_ref().unwrap();
/// assert_eq!(times.queue_ns.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timed<T> {
    /// When it was published, by [`ticks`].
    pub published: u64,
    /// What was published.
    pub event: T,
}

impl<T> Timed<T> {
    /// An event that is published now.
    ///
    /// # Examples
    /// See [`Timed`].
    #[inline]
    #[must_use]
    pub fn now(event: T) -> Self {
        Self {
            published: ticks(),
            event,
        }
    }
}

/// A counter that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.set(self.get() + n);
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        // RELAXED: one writer, and readers want no more than some recent value.
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // RELAXED: as above.
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts values in buckets that are never wider than a thirty-second of what is in them, as HdrHistogram
/// (Tene) does.
pub(crate) struct Histogram {
    buckets: Box<[Counter]>,
    sum: Counter,
    max: Counter,
}

impl Histogram {
    const SUB_BITS: u32 = 5;
    const SUB: u64 = 1 << Self::SUB_BITS;
    /// Of nanoseconds, more than an hour. What is greater counts as this.
    const MOST: u64 = (1 << 42) - 1;

    fn new() -> Self {
        let buckets = (0..=Self::index(Self::MOST)).map(|_| Counter::default());
        Self {
            buckets: buckets.collect(),
            sum: Counter::default(),
            max: Counter::default(),
        }
    }

    #[inline]
    fn record(&self, value: u64) {
        let value = value.min(Self::MOST);
        self.buckets[Self::index(value)].add(1);
        self.sum.add(value);
        if value > self.max.get() {
            self.max.set(value);
        }
    }

    /// Below 32 each value has a bucket; from there on each octave has 32.
    #[inline]
    fn index(value: u64) -> usize {
        let octave = (value | (Self::SUB - 1)).ilog2() - (Self::SUB_BITS - 1);
        let shift = octave.saturating_sub(1);
        let first = u64::from(octave.saturating_sub(1)) * Self::SUB;
        (first + (value >> shift)) as usize
    }

    /// The greatest value of a bucket.
    fn last_of(index: usize) -> u64 {
        let index = index as u64;
        if index < 2 * Self::SUB {
            return index;
        }
        let shift = index / Self::SUB - 1;
        ((index % Self::SUB + Self::SUB + 1) << shift) - 1
    }

    fn read(&self) -> Distribution {
        let max = self.max.get();
        let counts = self.buckets.iter().map(Counter::get);
        let counts = counts.enumerate().filter(|(_, count)| *count > 0);
        Distribution {
            counts: counts
                .map(|(index, n)| (Self::last_of(index).min(max), n))
                .collect(),
            sum: self.sum.get(),
            max,
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

/// How values are distributed: exact in count, sum and maximum, and to a thirty-second otherwise.
///
/// # Examples
/// ```
/// # use annulus::{Pipeline, Stage};
/// # use annulus::ring::Ring;
/// # let ring = Ring::builder(64).build(u64::default)?;
/// let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
/// ring.producer()?.publish_batch(5, |slots| slots.for_each(|price| *price = 7))?;
/// let metrics = &running.join()?.stages[0].metrics;
/// let sizes = &metrics.batch_sizes;
/// assert_eq!((metrics.events, metrics.batches, sizes.count()), (5, 1, 1));
/// assert_eq!((sizes.sum(), sizes.mean(), sizes.quantile(0.99), sizes.max()), (5, 5.0, 5, 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Values in ascending order with how many there were of about each.
    counts: Vec<(u64, u64)>,
    sum: u64,
    max: u64,
}

impl Distribution {
    /// How many values there are.
    ///
    /// # Examples
    /// See [`Distribution`].
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, n)| n).sum()
    }

    /// Their sum.
    ///
    /// # Examples
    /// See [`Distribution`].
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The greatest; 0 if there is none.
    ///
    /// # Examples
    /// See [`Distribution`].
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Their mean; 0 if there are none.
    ///
    /// # Examples
    /// See [`Distribution`].
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count().max(1) as f64
    }

    /// A value that the part `q` of them, from 0.0 to 1.0, does not exceed; 0 if there are none.
    ///
    /// # Examples
    /// See [`Distribution`].
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = (q.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        let at_rank = self.counts.iter().find(|(_, n)| {
            seen += n;
            seen >= rank
        });
        at_rank.map_or(0, |(value, _)| *value)
    }
}

/// As its count, sum and maximum, and some quantiles.
#[cfg(feature = "serde")]
impl serde::Serialize for Distribution {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Distribution", 6)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("sum", &self.sum)?;
        fields.serialize_field("p50", &self.quantile(0.5))?;
        fields.serialize_field("p99", &self.quantile(0.99))?;
        fields.serialize_field("p999", &self.quantile(0.999))?;
        fields.serialize_field("max", &self.max)?;
        fields.end()
    }
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish()
    }
}

/// What a stage counts.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) handled: Counter,
    pub(crate) failed: Counter,
    pub(crate) skipped: Counter,
    pub(crate) restarts: Counter,
    pub(crate) slow: Counter,
    batches: Counter,
    waits: Counter,
    parks: Counter,
    batch_sizes: Histogram,
    pub(crate) times: Option<Times>,
}

impl Counters {
    pub(crate) fn new(times: Option<Times>) -> Self {
        Self {
            handled: Counter::default(),
            failed: Counter::default(),
            skipped: Counter::default(),
            restarts: Counter::default(),
            slow: Counter::default(),
            batches: Counter::default(),
            waits: Counter::default(),
            parks: Counter::default(),
            batch_sizes: Histogram::new(),
            times,
        }
    }

    #[inline]
    pub(crate) fn took_batch(&self, size: usize) {
        self.batches.add(1);
        self.batch_sizes.record(size as u64);
    }

    /// How often it has waited, of which `looks` times because it had stopped a wait to look around.
    pub(crate) fn waited(&self, waits: Waits, looks: u64) {
        self.waits.set(waits.waited.saturating_sub(looks));
        self.parks.set(waits.parked);
    }

    pub(crate) fn read(&self) -> Metrics {
        Metrics {
            events: self.handled.get(),
            batches: self.batches.get(),
            batch_sizes: self.batch_sizes.read(),
            waits: self.waits.get(),
            parks: self.parks.get(),
            restarts: self.restarts.get(),
            slow: self.slow.get(),
            times: self.times.as_ref().map(Times::read),
        }
    }
}

/// What a stage measures if its pipeline is timed.
#[derive(Debug)]
pub(crate) struct Times {
    queue: Histogram,
    service: Histogram,
    age: Histogram,
    /// When each event was handled, by its slot: for the stages that come after this one.
    handed_over: Box<[Counter]>,
}

impl Times {
    /// For a stage that others come after, in a ring of this capacity.
    pub(crate) fn before_others(capacity: usize) -> Self {
        Self {
            queue: Histogram::new(),
            service: Histogram::new(),
            age: Histogram::new(),
            handed_over: (0..capacity).map(|_| Counter::default()).collect(),
        }
    }

    pub(crate) fn of_the_last() -> Self {
        Self::before_others(0)
    }

    /// Stores when these events were handled, before they are released: by that the stages after this one see it,
    /// and its next lap comes only after theirs.
    pub(crate) fn hand_over(&self, sequences: Range<Sequence>, now: u64) {
        if let Some(mask) = (self.handed_over.len() as u64).checked_sub(1) {
            for sequence in sequences {
                self.handed_over[(sequence & mask) as usize].set(now);
            }
        }
    }

    /// When this event was handed over.
    pub(crate) fn handed_over(&self, sequence: Sequence) -> u64 {
        let mask = self.handed_over.len() as u64 - 1;
        self.handed_over[(sequence & mask) as usize].get()
    }

    /// A batch whose first event was published, came here, and was handled from `began` to `ended`.
    pub(crate) fn record(&self, published: u64, came: u64, began: u64, ended: u64) {
        self.queue.record(nanoseconds(came, began));
        self.service.record(nanoseconds(began, ended));
        self.age.record(nanoseconds(published, ended));
    }

    fn read(&self) -> TimesRead {
        TimesRead {
            queue_ns: self.queue.read(),
            batch_ns: self.service.read(),
            age_ns: self.age.read(),
        }
    }
}

/// What a stage has counted and timed so far, read at some moment while it may go on.
///
/// # Examples
/// See [`Distribution`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Metrics {
    /// How many events it has handled.
    pub events: u64,
    /// In how many batches it took them.
    pub batches: u64,
    /// How many events there were in a batch.
    pub batch_sizes: Distribution,
    /// How many times it had to wait for events.
    pub waits: u64,
    /// How many times it slept until it was woken, in all of these waits.
    pub parks: u64,
    /// How many times handling began again after a failure, by retry or rewind.
    pub restarts: u64,
    /// How many batches took longer than the stage's [limit](crate::Stage::limit).
    pub slow: u64,
    /// How long events waited and took, if the pipeline is [timed](crate::Pipeline::timed_by).
    pub times: Option<TimesRead>,
}

/// How long events waited and took, in nanoseconds: one value for each batch, of its first event, which has
/// waited longest.
///
/// # Examples
/// See [`Timed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TimesRead {
    /// From its publication, or from when the last stage before this one was done with it, to the start of
    /// its batch.
    pub queue_ns: Distribution,
    /// From the start of its batch to the end: what the whole batch took, and not each of its events. How many those
    /// were is in [`Metrics::batch_sizes`].
    pub batch_ns: Distribution,
    /// From its publication to the end of its batch: of the last stage, end to end.
    pub age_ns: Distribution,
}

impl Metrics {
    pub(crate) const COLUMNS: [&'static str; 6] = [
        "batches",
        "events/batch",
        "waits",
        "parks",
        "restarts",
        "slow",
    ];

    pub(crate) fn cells(&self) -> [String; 6] {
        [
            self.batches.to_string(),
            format!("{:.1}", self.batch_sizes.mean()),
            self.waits.to_string(),
            self.parks.to_string(),
            self.restarts.to_string(),
            self.slow.to_string(),
        ]
    }
}

impl TimesRead {
    pub(crate) const COLUMNS: [&'static str; 3] = ["queue p50/p99", "batch p50/p99", "age p50/p99"];

    pub(crate) fn cells(&self) -> [String; 3] {
        [&self.queue_ns, &self.batch_ns, &self.age_ns].map(|of| {
            let [p50, p99] = [0.5, 0.99].map(|q| Duration::from_nanos(of.quantile(q)));
            format!("{p50:.1?}/{p99:.1?}")
        })
    }
}

/// A table of one row.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["events"]);
        table.add_columns(Self::COLUMNS);
        table.begin(&self.events.to_string(), []);
        table.add(self.cells());
        if let Some(times) = &self.times {
            table.add_columns(TimesRead::COLUMNS);
            table.add(times.cells());
        }
        table.fmt(f)
    }
}

/// Cells below titles, the first and the last column to the left, the others to the right.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self(vec![titles.map(str::to_owned).to_vec()])
    }

    pub(crate) fn add_columns<const N: usize>(&mut self, titles: [&str; N]) {
        self.0[0].extend(titles.map(str::to_owned));
    }

    pub(crate) fn begin<const N: usize>(&mut self, name: &str, cells: [String; N]) {
        self.0.push(vec![name.to_owned()]);
        self.add(cells);
    }

    pub(crate) fn add<const N: usize>(&mut self, cells: [String; N]) {
        self.0
            .last_mut()
            .into_iter()
            .for_each(|row| row.extend(cells.clone()));
    }

    /// Fills the row up, and ends it with this cell, in the last column.
    pub(crate) fn end(&mut self, cell: String) {
        let columns = self.0[0].len();
        if let Some(row) = self.0.last_mut() {
            row.resize(columns - 1, String::new());
            row.push(cell);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0[0].len();
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.0 {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line += &match column {
                    0 => format!("{cell:<width$}"),
                    _ if column + 1 == columns => format!("  {cell:<width$}"),
                    _ => format!("  {cell:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_that_is_narrow() {
        let mut last = None;
        for value in (0..5_000).chain((5..42).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + power / 3]
        })) {
            let bucket = Histogram::index(value);
            let end = Histogram::last_of(bucket);
            assert!(
                value <= end && end - value <= value / 32,
                "{value} in {bucket}, up to {end}"
            );
            assert_eq!(Histogram::index(end), bucket);
            if bucket > 0 {
                assert_eq!(Histogram::last_of(bucket - 1) + 1, first_of(bucket));
            }
            last = last.max(Some(bucket));
        }
        assert!(last <= Some(Histogram::index(Histogram::MOST)));
    }

    /// The least value of a bucket, found without arithmetic of its own.
    fn first_of(bucket: usize) -> u64 {
        let (mut low, mut high) = (0, Histogram::MOST);
        while low < high {
            let middle = low + (high - low) / 2;
            if Histogram::index(middle) < bucket {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    #[test]
    fn quantiles_are_those_of_hdrhistogram() {
        let ours = Histogram::new();
        let mut theirs =
            hdrhistogram::Histogram::<u64>::new_with_bounds(1, Histogram::MOST, 4).unwrap();
        let (mut value, mut max) = (1_u64, 0);
        for _ in 0..10_000 {
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let sample = (value >> 40) >> (value % 20);
            max = max.max(sample);
            ours.record(sample);
            theirs.record(sample).unwrap();
        }
        let ours = ours.read();
        assert_eq!((ours.count(), ours.max()), (10_000, max));
        for q in [0.0, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (ours, theirs) = (ours.quantile(q) as f64, theirs.value_at_quantile(q) as f64);
            assert!(
                (ours - theirs).abs() <= 1.0 + theirs / 30.0,
                "{q}: {ours} and {theirs}"
            );
        }
    }

    #[test]
    fn what_is_beyond_the_range_counts_as_its_end() {
        let histogram = Histogram::new();
        histogram.record(u64::MAX);
        assert_eq!(histogram.read().max(), Histogram::MOST);
        assert_eq!(Distribution::default().quantile(0.5), 0);
    }
}

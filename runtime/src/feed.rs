//! A producer for a pipeline: what it does when the ring is full, and what it hears when the pipeline stops.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_ring::{
    ClaimError, Poisoned, Producer, ProducerError, Ring, Sequence, SharedProducer, Slots, Wait,
    Waits,
};

use crate::control::{Control, FAILED};
use crate::failure::Failure;
use crate::metrics::Counter;

/// What a [`Feed`] does when the ring is full.
///
/// # Examples
/// See [`Feed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Overflow {
    /// Wait.
    #[default]
    Wait,
    /// Wait so long, and then fail.
    WaitFor(Duration),
    /// Fail.
    Fail,
    /// Drop what was to be published, and count it.
    DropNewest,
}

/// Publishes to a pipeline; made by [`Running::feed`](crate::Running::feed).
///
/// A producer of the ring, with a policy for when that is full, and errors that tell why a pipeline has stopped.
/// When the last producer is dropped the ring is closed, and the pipeline ends when all is handled.
///
/// A ring that processes share is closed by nobody's drop; and if the pipeline fails or leaves there, what a feed publishes is
/// still for others. It then fails only when it would have to wait for free slots, with the reason.
///
/// A handler may have a feed, or another producer, of its own ring. If the ring is full, and can only become free by what
/// that handler has in hand, a publication that is to wait fails with
/// [`ClaimError::HeldUpByOwnStage`] instead: it would wait for itself.
///
/// # Examples
/// ```
/// # use annulus::{Overflow, Pipeline, Stage};
/// # use annulus::ring::Ring;
/// # use std::time::Duration;
/// # let ring = Ring::builder(64).build(u64::default)?;
/// # let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
/// let mut quotes = running.feed(Overflow::DropNewest)?;
/// match quotes.publish(|price| *price = 5_853_300)? {
///     Some(sequence) => assert_eq!(sequence, 0),
///     None => println!("too fast: {} quotes dropped", quotes.dropped()),
/// }
/// drop(quotes);
/// let report = running.stop(Duration::from_secs(5))?;
/// assert_eq!(report.published, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Feed<T> {
    producer: Kind<T>,
    overflow: Overflow,
    control: Arc<Control>,
    counters: Arc<FeedCounters>,
    /// Whether it waits for ever, as nothing but the ring can end that.
    waits_for_ever: bool,
    /// How many of its waits have been made known.
    waited: u64,
}

#[derive(Debug)]
enum Kind<T> {
    Only(Producer<T>),
    OneOfMany(SharedProducer<T>),
}

impl<T> Feed<T> {
    pub(crate) fn join(
        ring: &Ring<T>,
        overflow: Overflow,
        control: Arc<Control>,
        counters: Arc<FeedCounters>,
    ) -> Result<Self, FeedError> {
        let producer = ring.producer().map(Kind::Only);
        let producer = match producer {
            Err(ProducerError::WrongKind { .. }) => ring.shared_producer().map(Kind::OneOfMany),
            only => only,
        };
        let producer = producer.map_err(|error| match error {
            ProducerError::Closed => FeedError::Stopped,
            ProducerError::Poisoned(poisoned) => why_poisoned(&control, poisoned),
            error => FeedError::Join(error),
        })?;
        Ok(Self {
            producer,
            waits_for_ever: overflow == Overflow::Wait && control.owns_ring(),
            overflow,
            control,
            counters,
            waited: 0,
        })
    }

    /// Sets how it waits for free slots.
    ///
    /// # Errors
    /// If it is to park, and the ring was built without parking.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Overflow, Pipeline, Stage};
    /// # use annulus::ring::{Ring, Wait};
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// # let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let mut feed = running.feed(Overflow::Wait)?.with_wait(Wait::Yield)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_wait(self, wait: Wait) -> Result<Self, ProducerError> {
        let producer = match self.producer {
            Kind::Only(producer) => Kind::Only(producer.with_wait(wait)?),
            Kind::OneOfMany(producer) => Kind::OneOfMany(producer.with_wait(wait)?),
        };
        Ok(Self { producer, ..self })
    }

    /// Publishes one event, written in place by `write`, and returns its sequence, or nothing if it was dropped
    /// because the ring is full.
    ///
    /// # Errors
    /// [`FeedError::Full`] by its [`Overflow`]; that the pipeline has been stopped, or has failed and why.
    ///
    /// # Examples
    /// See [`Feed`].
    #[inline]
    pub fn publish(&mut self, write: impl FnOnce(&mut T)) -> Result<Option<Sequence>, FeedError> {
        if !self.waits_for_ever {
            return self.publish_or_not(write);
        }
        let published = self.producer().publish(write);
        if self.waits().waited != self.waited {
            self.count_waits();
        }
        match published {
            Ok(sequence) => Ok(Some(sequence)),
            Err(error) => self.refused(error, 1),
        }
    }

    #[inline(never)] // It would be in the way of who waits.
    fn publish_or_not(
        &mut self,
        write: impl FnOnce(&mut T),
    ) -> Result<Option<Sequence>, FeedError> {
        let published = match self.deadline() {
            Some(deadline) => self.producer().publish_deadline(deadline, write),
            None if self.overflow == Overflow::Wait => {
                let batch = |mut slots: Slots<'_, T>| {
                    if let Some(slot) = slots.next() {
                        write(slot);
                    }
                };
                self.publish_as_long_as_it_lives(1, batch)?
                    .map(|sequences| sequences.start)
            }
            None => self.producer().try_publish(write),
        };
        self.count_waits();
        match published {
            Ok(sequence) => Ok(Some(sequence)),
            Err(error) => self.refused(error, 1),
        }
    }

    /// Waits for free slots as long as the pipeline has not ended: that neither closes nor poisons a ring that is not its
    /// own, and may be what keeps it full.
    fn publish_as_long_as_it_lives(
        &mut self,
        n: usize,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Result<Result<Range<Sequence>, ClaimError>, FeedError> {
        const LOOK_EVERY: Duration = Duration::from_millis(250);
        let mut write = Some(write);
        let mut published = self.producer().try_publish_batch(n, |slots| {
            if let Some(write) = write.take() {
                write(slots);
            }
        });
        while let Err(ClaimError::Full { .. } | ClaimError::TooFewConsumers { .. }) = published {
            if let Some(failure) = self.control.cause() {
                return Err(FeedError::Failed(failure));
            }
            if self.control.all_ended() {
                return Err(FeedError::Stopped);
            }
            let look_at = Instant::now() + LOOK_EVERY;
            published = self.producer().publish_batch_deadline(n, look_at, |slots| {
                if let Some(write) = write.take() {
                    write(slots);
                }
            });
        }
        Ok(published)
    }

    /// Publishes `n` events, all at once, and returns the first sequence, or nothing if they were dropped because
    /// so many slots were not free.
    ///
    /// # Errors
    /// As [`Feed::publish`]; [`ClaimError::TooLong`] if the ring has fewer slots.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Overflow, Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// # let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let mut feed = running.feed(Overflow::Wait)?;
    /// let prices = [585, 586];
    /// let first = feed.publish_batch(2, |slots| slots.zip(prices).for_each(|(slot, price)| *slot = price))?;
    /// assert_eq!((first, feed.producer().free()?), (Some(0), 62));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish_batch(
        &mut self,
        n: usize,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Result<Option<Sequence>, FeedError> {
        let error = match self.producer().try_claim(n) {
            Ok(mut claim) => {
                write(claim.iter_mut());
                return Ok(Some(claim.publish().start));
            }
            Err(error) => error,
        };
        self.publish_batch_later(error, n, write)
    }

    /// The ring is full, or will never take so many.
    #[cold]
    #[inline(never)]
    fn publish_batch_later(
        &mut self,
        error: ClaimError,
        n: usize,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Result<Option<Sequence>, FeedError> {
        let published = match (self.overflow, self.deadline()) {
            (Overflow::Wait, _) if self.waits_for_ever => self.producer().publish_batch(n, write),
            (Overflow::Wait, _) => self.publish_as_long_as_it_lives(n, write)?,
            (_, Some(deadline)) => self.producer().publish_batch_deadline(n, deadline, write),
            (_, None) => Err(error),
        };
        self.count_waits();
        match published {
            Ok(sequences) => Ok(Some(sequences.start)),
            Err(error) => self.refused(error, n),
        }
    }

    /// Until when it is to wait, if not for ever.
    fn deadline(&self) -> Option<Instant> {
        match self.overflow {
            Overflow::WaitFor(time) => {
                const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
                Some(Instant::now() + time.min(FOR_EVER))
            }
            _ => None,
        }
    }

    /// How many events it has dropped because the ring was full.
    ///
    /// # Examples
    /// See [`Feed`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.get()
    }

    /// How often it has waited for free slots.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Overflow, Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// # let running = Pipeline::on(&ring).stage(Stage::each("book", |_: &u64, _| ())).start()?;
    /// let mut feed = running.feed(Overflow::Fail)?;
    /// feed.publish(|price| *price = 7)?;
    /// assert_eq!(feed.waits().waited, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn waits(&self) -> Waits {
        match &self.producer {
            Kind::Only(producer) => producer.waits(),
            Kind::OneOfMany(producer) => producer.waits(),
        }
    }

    /// The producer itself, for what is not here: claims as values, free slots.
    ///
    /// # Examples
    /// See [`Feed::publish_batch`].
    #[inline]
    pub fn producer(&mut self) -> &mut Producer<T> {
        match &mut self.producer {
            Kind::Only(producer) => producer,
            Kind::OneOfMany(producer) => producer,
        }
    }

    /// Makes its waits known.
    #[cold]
    fn count_waits(&mut self) {
        let waits = self.waits();
        self.waited = waits.waited;
        self.counters.waits.set(waits.waited);
        self.counters.parks.set(waits.parked);
    }

    #[cold]
    fn refused(&self, error: ClaimError, n: usize) -> Result<Option<Sequence>, FeedError> {
        match error {
            ClaimError::Full { .. } | ClaimError::TooFewConsumers { .. }
                if self.overflow == Overflow::DropNewest =>
            {
                self.counters.dropped.add(n as u64);
                Ok(None)
            }
            ClaimError::Full { free } => Err(FeedError::Full { free }),
            ClaimError::Closed => Err(FeedError::Stopped),
            ClaimError::Poisoned(poisoned) => Err(why_poisoned(&self.control, poisoned)),
            error => Err(FeedError::Claim(error)),
        }
    }
}

/// What it means to a feed that the ring was poisoned.
fn why_poisoned(control: &Control, poisoned: Poisoned) -> FeedError {
    match control.cause() {
        _ if control.is_aborted() => FeedError::Stopped,
        Some(failure) if poisoned.reason == FAILED => FeedError::Failed(failure),
        _ => FeedError::Claim(ClaimError::Poisoned(poisoned)),
    }
}

/// What the feeds of a pipeline have counted.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    /// In the order in which they joined.
    each: Vec<Arc<FeedCounters>>,
    folded: FoldedFeeds,
}

impl Feeds {
    /// So many are told of one by one, and at least those that are there.
    const MOST: usize = 64;

    pub(crate) fn add(&mut self, feed: Arc<FeedCounters>) {
        self.each.push(feed);
        // Of one that has ended nobody else knows.
        while self.each.len() > Self::MOST
            && let Some(index) =
                (self.each.iter_mut()).position(|feed| Arc::get_mut(feed).is_some())
        {
            let FeedMetrics {
                dropped,
                waits,
                parks,
            } = self.each.remove(index).read();
            self.folded.feeds += 1;
            self.folded.metrics.dropped += dropped;
            self.folded.metrics.waits += waits;
            self.folded.metrics.parks += parks;
        }
    }

    pub(crate) fn read(&self) -> (Vec<FeedMetrics>, FoldedFeeds) {
        let each = self.each.iter().map(|feed| feed.read());
        (each.collect(), self.folded)
    }
}

/// What many short-lived feeds have counted in all.
///
/// # Examples
/// See [`Report`](crate::Report).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FoldedFeeds {
    /// How many there were.
    pub feeds: u64,
    /// Their sums.
    pub metrics: FeedMetrics,
}

/// What a feed counts; its thread alone writes it.
#[derive(Debug, Default)]
pub(crate) struct FeedCounters {
    dropped: Counter,
    waits: Counter,
    parks: Counter,
}

impl FeedCounters {
    pub(crate) fn read(&self) -> FeedMetrics {
        FeedMetrics {
            dropped: self.dropped.get(),
            waits: self.waits.get(),
            parks: self.parks.get(),
        }
    }
}

/// What a [`Feed`] has counted so far.
///
/// # Examples
/// See [`Report`](crate::Report).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FeedMetrics {
    /// How many events it dropped because the ring was full.
    pub dropped: u64,
    /// How many times it had to wait for free slots.
    pub waits: u64,
    /// How many times it slept until it was woken, in all of these waits.
    pub parks: u64,
}

impl fmt::Display for FeedMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            dropped,
            waits,
            parks,
        } = self;
        write!(f, "{dropped} dropped, {waits} waits, {parks} parks")
    }
}

/// Why a [`Feed`] published nothing.
///
/// # Examples
/// ```
/// # use annulus::{FeedError, Overflow, Pipeline, Stage};
/// # use annulus::ring::Ring;
/// # let ring = Ring::builder(64).build(u64::default)?;
/// let risk = Stage::each("risk", |_: &u64, _| Err("limit reached"));
/// let running = Pipeline::on(&ring).stage(risk).start()?;
/// let mut feed = running.feed(Overflow::Wait)?;
/// let why = loop {
///     if let Err(why) = feed.publish(|price| *price = 7) {
///         break why;
///     }
/// };
/// assert!(matches!(&why, FeedError::Failed(failure) if failure.stage == "risk"));
/// assert!(why.to_string().ends_with("limit reached"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub enum FeedError {
    /// There are fewer free slots than asked for, and it is not to wait, or not any longer.
    Full {
        /// How many were free.
        free: usize,
    },
    /// The pipeline has been stopped or aborted.
    Stopped,
    /// A stage failed, and that stopped the pipeline.
    Failed(Arc<Failure>),
    /// It could not join the ring.
    Join(ProducerError),
    /// Something else.
    Claim(ClaimError),
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { free } => ClaimError::Full { free: *free }.fmt(f),
            Self::Stopped => f.write_str("the pipeline has been stopped"),
            Self::Failed(failure) => write!(f, "the pipeline has stopped: {failure}"),
            Self::Join(error) => error.fmt(f),
            Self::Claim(error) => error.fmt(f),
        }
    }
}

/// As its text: this is what a `main` shows that returns it.
impl fmt::Debug for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for FeedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(failure) => Some(&**failure),
            Self::Join(error) => Some(error),
            Self::Claim(error) => Some(error),
            Self::Full { .. } | Self::Stopped => None,
        }
    }
}

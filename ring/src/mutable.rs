//! A consumer that changes events, ordered against all others: write access behind the producers.

use std::fmt;
use std::ops::{Deref, Index, IndexMut};
use std::time::Instant;

use crate::batch::Batch;
use crate::consumer::{Consumer, Ended, NotReady};
use crate::producer::Slots;
use crate::select::Waiting;
use crate::sequence::Sequence;

/// A [`Consumer`] that may change what it reads; made by
/// [`ConsumerBuilder::join_mut`](crate::ConsumerBuilder::join_mut).
///
/// Whoever comes after it finds the events as it left them, once it has released them.
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// # let mut feed = ring.producer()?;
/// let mut enrich = ring.consumer("enrich").join_mut()?;
/// let mut book = ring.consumer("book").after(["enrich"]).join()?;
/// feed.publish_value(7)?;
/// drop(feed);
/// while let Ok(mut batch) = enrich.next_batch_mut() {
///     batch.iter_mut().for_each(|price| *price *= 100);
/// }
/// assert_eq!((enrich.name(), enrich.position()), ("enrich", 1)); // as any consumer
/// assert_eq!(book.next_batch()?[0], 700);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MutableConsumer<T>(Consumer<T>);

impl<T> MutableConsumer<T> {
    pub(crate) fn new(consumer: Consumer<T>) -> Self {
        Self(consumer)
    }

    /// As [`Consumer::next_batch`], with events that may be changed.
    ///
    /// # Errors
    /// As [`Consumer::next_batch`].
    ///
    /// # Examples
    /// See [`MutableConsumer`].
    pub fn next_batch_mut(&mut self) -> Result<MutableBatch<'_, T>, Ended> {
        self.0.next_batch().map(MutableBatch)
    }

    /// As [`Consumer::try_next_batch`], with events that may be changed.
    ///
    /// # Errors
    /// As [`Consumer::try_next_batch`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// # let mut feed = ring.producer()?;
    /// let mut enrich = ring.consumer("enrich").join_mut()?;
    /// assert_eq!(enrich.try_next_batch_mut().unwrap_err(), NotReady::Idle);
    /// feed.publish_value(7)?;
    /// enrich.try_next_batch_mut()?[0] *= 100;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_next_batch_mut(&mut self) -> Result<MutableBatch<'_, T>, NotReady> {
        self.0.try_next_batch().map(MutableBatch)
    }

    /// As [`Consumer::next_batch_deadline`], with events that may be changed.
    ///
    /// # Errors
    /// As [`Consumer::next_batch_deadline`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// # let mut feed = ring.producer()?;
    /// let mut enrich = ring.consumer("enrich").join_mut()?;
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(enrich.next_batch_mut_deadline(deadline).unwrap_err(), NotReady::Idle);
    /// feed.publish_value(7)?;
    /// enrich.next_batch_mut_deadline(deadline)?[0] *= 100; // late, but it is there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_batch_mut_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<MutableBatch<'_, T>, NotReady> {
        self.0.next_batch_deadline(deadline).map(MutableBatch)
    }

    /// As [`Consumer::skip_to_latest`]. Later stages get what it drops, unchanged.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut enrich = ring.consumer("enrich").join_mut()?;
    /// let mut book = ring.consumer("book").after(["enrich"]).join()?;
    /// ring.producer()?.publish_batch(3, |slots| slots.for_each(|slot| *slot = 7))?;
    /// assert_eq!(enrich.skip_to_latest(), 2);
    /// enrich.next_batch_mut()?[0] *= 100;
    /// assert!(book.next_batch()?.iter().eq(&[7, 7, 700])); // what was skipped is as it was
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_to_latest(&mut self) -> u64 {
        self.0.skip_to_latest()
    }

    /// As [`Consumer::release_until`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut sign = ring.consumer("sign").join_mut()?;
    /// let mut reply = ring.consumer("reply").after(["sign"]).join()?;
    /// ring.producer()?.publish_batch(2, |_| ())?;
    /// let mut batch = sign.next_batch_mut()?;
    /// batch[0] = 7;
    /// batch.hold();
    /// assert!(reply.try_next_batch().is_err());
    /// sign.release_until(1);
    /// assert_eq!(reply.next_batch()?[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_until(&mut self, sequence: Sequence) {
        self.0.release_until(sequence);
    }

    /// As [`Consumer::bind_to_this_thread`].
    ///
    /// # Examples
    /// See there.
    pub fn bind_to_this_thread(&mut self) {
        self.0.bind_to_this_thread();
    }

    /// Leaves the ring for good, as [`Consumer::leave`]. The events that it has not changed reach those that come after it
    /// as they are.
    ///
    /// # Examples
    /// See [`Consumer::leave`].
    pub fn leave(self) {
        self.0.leave();
    }

    /// Goes, but leaves its place in the ring, as [`Consumer::leave_held`].
    ///
    /// # Examples
    /// See [`Consumer::leave_held`].
    pub fn leave_held(self) {
        self.0.leave_held();
    }

    /// It, as one of several to [wait for](crate::wait_any).
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Ring, Wait, wait_any};
    /// # let trades = Ring::builder(8).build(u64::default)?;
    /// # let quotes = Ring::builder(8).build(u64::default)?;
    /// let mut enrich = trades.consumer("enrich").join_mut()?;
    /// let mut book = quotes.consumer("book").join()?;
    /// trades.producer()?.publish_value(7)?;
    /// assert_eq!(wait_any(&mut [&mut book, enrich.as_waiting()], Wait::Yield)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_waiting(&mut self) -> &mut dyn Waiting {
        &mut self.0
    }
}

// No `DerefMut`: by `std::mem::swap` a consumer that is not ordered against all could get in here.
impl<T> Deref for MutableConsumer<T> {
    type Target = Consumer<T>;

    fn deref(&self) -> &Consumer<T> {
        &self.0
    }
}

impl<T> fmt::Debug for MutableConsumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A [`Batch`] whose events may be changed, until it releases them.
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let mut enrich = ring.consumer("enrich").join_mut()?;
/// let mut book = ring.consumer("book").after(["enrich"]).join()?;
/// ring.producer()?.publish_batch(2, |slots| slots.for_each(|slot| *slot = 7))?;
/// let mut batch = enrich.next_batch_mut()?;
/// batch.iter_mut().for_each(|price| *price *= 100);
/// batch.release(1);
/// assert_eq!(book.next_batch()?[0], 700);
/// batch[0] += 1; // the one that is left
/// batch.give_back();
/// assert_eq!(enrich.next_batch_mut()?[0], 701);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MutableBatch<'c, T>(Batch<'c, T>);

impl<'c, T> MutableBatch<'c, T> {
    /// The events, in the order of their sequences.
    ///
    /// # Examples
    /// See [`MutableBatch`].
    #[inline]
    pub fn iter_mut(&mut self) -> Slots<'_, T> {
        let left = self.0.sequences();
        // INVARIANT R4: everybody else is strictly before this consumer, and has released these events,
        // or strictly after it, and is not given them before it has.
        Slots::new(self.0.memory(), left)
    }

    /// The events as two slices; as [`Batch::as_slices`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Layout, Ring};
    /// # let ring = Ring::builder(8).layout(Layout::Apart).build(u8::default)?;
    /// # let mut feed = ring.producer()?;
    /// let mut upper = ring.consumer("upper").join_mut()?;
    /// feed.publish_batch(4, |slots| slots.zip(b"ring").for_each(|(slot, byte)| *slot = *byte))?;
    /// let mut batch = upper.next_batch_mut()?;
    /// if let Some((first, second)) = batch.as_mut_slices() {
    ///     first.make_ascii_uppercase();
    ///     second.make_ascii_uppercase();
    /// }
    /// assert!(batch.iter().eq(b"RING"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(not(loom))]
    #[inline]
    #[must_use]
    pub fn as_mut_slices(&mut self) -> Option<(&mut [T], &mut [T])> {
        let sequences = self.0.sequences();
        let [first, second] = self.0.memory().runs(sequences.start, sequences.end)?;
        // SAFETY: R4, as in `iter_mut`, for each of the slots; they lie one behind the other.
        let first = unsafe { std::slice::from_raw_parts_mut(first.0.as_ptr(), first.1) };
        // SAFETY: as above; none is in both, as a batch is not more than a lap.
        let second = unsafe { std::slice::from_raw_parts_mut(second.0.as_ptr(), second.1) };
        Some((first, second))
    }

    /// As [`Batch::release`].
    ///
    /// # Examples
    /// See [`MutableBatch`].
    #[inline]
    pub fn release(&mut self, n: usize) {
        self.0.release(n);
    }

    /// As [`Batch::release_held`].
    ///
    /// # Examples
    /// See [`Batch::release_held`].
    #[inline]
    pub fn release_held(&mut self, until: Sequence) {
        self.0.release_held(until);
    }

    /// As [`Batch::hold`]. What is held can be read, and is not changed any more.
    ///
    /// # Examples
    /// See [`MutableConsumer::release_until`].
    #[inline]
    pub fn hold(self) {
        self.0.hold();
    }

    /// As [`Batch::hold_first`]. What is held can be read, and is not changed any more.
    ///
    /// # Examples
    /// See [`Batch::hold_first`].
    #[inline]
    pub fn hold_first(&mut self, n: usize) {
        self.0.hold_first(n);
    }

    /// As [`Batch::give_back`].
    ///
    /// # Examples
    /// See [`MutableBatch`].
    #[inline]
    pub fn give_back(self) {
        self.0.give_back();
    }
}

impl<'c, T> Deref for MutableBatch<'c, T> {
    type Target = Batch<'c, T>;

    #[inline]
    fn deref(&self) -> &Batch<'c, T> {
        &self.0
    }
}

/// # Panics
/// If the index is not below the length.
impl<T> Index<usize> for MutableBatch<'_, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.0[index]
    }
}

/// # Panics
/// If the index is not below the length.
impl<T> IndexMut<usize> for MutableBatch<'_, T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        let event = self.0.memory().to_write(self.0.sequence_of(index));
        // SAFETY: R4, as in `iter_mut`; `&mut self` borrows the batch.
        unsafe { &mut *event }
    }
}

impl<'b, T> IntoIterator for &'b mut MutableBatch<'_, T> {
    type Item = &'b mut T;
    type IntoIter = Slots<'b, T>;

    #[inline]
    fn into_iter(self) -> Slots<'b, T> {
        self.iter_mut()
    }
}

impl<T> fmt::Debug for MutableBatch<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

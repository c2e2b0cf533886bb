//! A consumer that changes events, ordered against all others: write access behind the producers.

use std::fmt;
use std::ops::{Deref, Index, IndexMut};
use std::time::Instant;

use crate::consumer::{Batch, Consumer, Ended, NotReady};
use crate::producer::Slots;
use crate::select::Waiting;
use crate::sequence::Sequence;

/// A [`Consumer`] that may change what it reads; made by
/// [`ConsumerBuilder::join_mut`](crate::ConsumerBuilder::join_mut).
///
/// Whoever comes after it finds the events as it left them, once it has released them.
pub struct MutableConsumer<T>(Consumer<T>);

impl<T> MutableConsumer<T> {
    pub(crate) fn new(consumer: Consumer<T>) -> Self {
        Self(consumer)
    }

    /// As [`Consumer::next_batch`], with events that may be changed.
    ///
    /// # Errors
    /// As [`Consumer::next_batch`].
    pub fn next_batch_mut(&mut self) -> Result<MutableBatch<'_, T>, Ended> {
        self.0.next_batch().map(MutableBatch)
    }

    /// As [`Consumer::try_next_batch`], with events that may be changed.
    ///
    /// # Errors
    /// As [`Consumer::try_next_batch`].
    pub fn try_next_batch_mut(&mut self) -> Result<MutableBatch<'_, T>, NotReady> {
        self.0.try_next_batch().map(MutableBatch)
    }

    /// As [`Consumer::next_batch_deadline`], with events that may be changed.
    ///
    /// # Errors
    /// As [`Consumer::next_batch_deadline`].
    pub fn next_batch_mut_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<MutableBatch<'_, T>, NotReady> {
        self.0.next_batch_deadline(deadline).map(MutableBatch)
    }

    /// As [`Consumer::skip_to_latest`].
    pub fn skip_to_latest(&mut self) -> u64 {
        self.0.skip_to_latest()
    }

    /// As [`Consumer::release_until`].
    pub fn release_until(&mut self, sequence: Sequence) {
        self.0.release_until(sequence);
    }

    /// It, as one of several to [wait for](crate::wait_any).
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
pub struct MutableBatch<'c, T>(Batch<'c, T>);

impl<'c, T> MutableBatch<'c, T> {
    /// The events, in the order of their sequences.
    #[inline]
    pub fn iter_mut(&mut self) -> Slots<'_, T> {
        let left = self.0.sequences();
        // INVARIANT R4: everybody else is strictly before this consumer, and has released these events,
        // or strictly after it, and is not given them before it has.
        Slots::new(self.0.memory(), left)
    }

    /// The events as two slices; as [`Batch::as_slices`].
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
    #[inline]
    pub fn release(&mut self, n: usize) {
        self.0.release(n);
    }

    /// As [`Batch::hold`]. What is held can be read, and is not changed any more.
    #[inline]
    pub fn hold(self) {
        self.0.hold();
    }

    /// As [`Batch::give_back`].
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

//! Read access as a value: what a consumer was given, to be read in place, released or held.

use std::fmt;
use std::ops::{Index, Range};

use crate::probe::Probe;
use crate::region::{Memory, Run};
use crate::sequence::Sequence;
use crate::stamp::Reading;
use crate::sync::panicking;

/// Some events of consecutive sequences, which stay as they are until the batch releases them.
///
/// Dropping a batch releases what is left of it, also by a panic; but a panic is a death where processes share the ring,
/// and where its consumer is [held](crate::OnDeath::Hold) when it dies: then its successor is given these events again. A
/// batch leaked by [`std::mem::forget`] releases nothing: the next one starts where it did.
///
/// An event cannot be kept beyond its batch:
/// ```compile_fail
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(String::new).unwrap();
/// # let mut book = ring.consumer("book").join().unwrap();
/// # ring.producer().unwrap().publish(|_| ()).unwrap();
/// let batch = book.next_batch().unwrap();
/// let event: &String = &batch[0];
/// drop(batch);
/// println!("{event}");
/// ```
/// A clone of it can:
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(String::new).unwrap();
/// # let mut book = ring.consumer("book").join().unwrap();
/// # ring.producer().unwrap().publish(|_| ()).unwrap();
/// let batch = book.next_batch().unwrap();
/// let event: String = batch[0].clone();
/// drop(batch);
/// println!("{event}");
/// ```
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// # let mut book = ring.consumer("book").join()?;
/// # ring.producer()?.publish_batch(3, |slots| slots.zip(1..).for_each(|(slot, n)| *slot = n))?;
/// let mut batch = book.next_batch()?;
/// assert_eq!((batch.sequences(), batch.len()), (0..3, 3));
/// assert_eq!(batch.iter().sum::<u64>(), 6);
/// batch.release(3);
/// assert!(batch.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Batch<'c, T> {
    probe: &'c mut Probe<T>,
    hi: Sequence,
    backlog: u64,
}

impl<'c, T> Batch<'c, T> {
    #[inline]
    pub(crate) fn new(probe: &'c mut Probe<T>, to: Sequence, limit: u64) -> Self {
        let backlog = to - probe.read();
        Self {
            hi: probe.read() + backlog.min(limit),
            probe,
            backlog,
        }
    }

    pub(crate) fn memory(&self) -> &Memory<T> {
        &self.probe.memory
    }

    #[inline]
    pub(crate) fn sequence_of(&self, index: usize) -> Sequence {
        assert!(
            index < self.len(),
            "event {index} of a batch of {}",
            self.len()
        );
        self.probe.read() + index as u64
    }

    /// The events, in the order of their sequences.
    ///
    /// # Examples
    /// See [`Batch`].
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Events<'_, T> {
        Events(self.probe.memory.run(self.sequences()))
    }

    /// The events with their sequences.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(char::default)?;
    /// # let mut book = ring.consumer("book").join()?;
    /// # ring.producer()?.publish_batch(2, |slots| slots.zip(['a', 'b']).for_each(|(s, c)| *s = c))?;
    /// let batch = book.next_batch()?;
    /// assert_eq!(batch.with_sequences().collect::<Vec<_>>(), [(0, &'a'), (1, &'b')]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn with_sequences(&self) -> impl ExactSizeIterator<Item = (Sequence, &T)> {
        // `Range<u64>` has no exact size, so the events are counted instead.
        let first = self.probe.read();
        (self.iter().enumerate()).map(move |(index, event)| (first + index as u64, event))
    }

    /// The events as two slices, one behind the other: up to the last slot of the ring, and from its
    /// first slot on. Nothing in the layout [`Beside`](crate::Layout::Beside), where stamps lie between
    /// events.
    ///
    /// # Examples
    /// See [`Layout`](crate::Layout).
    #[cfg(not(loom))]
    #[inline]
    #[must_use]
    pub fn as_slices(&self) -> Option<(&[T], &[T])> {
        let [first, second] = self.probe.memory.runs(self.probe.read(), self.hi)?;
        // SAFETY: R3, as in `index`, for each of the slots; they lie one behind the other.
        let first = unsafe { std::slice::from_raw_parts(first.0.as_ptr(), first.1) };
        // SAFETY: as above.
        let second = unsafe { std::slice::from_raw_parts(second.0.as_ptr(), second.1) };
        Some((first, second))
    }

    /// The sequences that it still holds.
    ///
    /// # Examples
    /// See [`Batch`].
    #[inline]
    #[must_use]
    pub fn sequences(&self) -> Range<Sequence> {
        self.probe.read()..self.hi
    }

    /// The number of events that it still holds.
    ///
    /// # Examples
    /// See [`Batch`].
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        (self.hi - self.probe.read()) as usize
    }

    /// Whether it has released all of its events.
    ///
    /// # Examples
    /// See [`Batch`].
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many events were known to be waiting when it was taken, including its own.
    ///
    /// There may have been more: a consumer that has been waiting does not look further than the batch
    /// that comes first.
    ///
    /// # Examples
    /// See [`ConsumerBuilder::batch_limit`](crate::ConsumerBuilder::batch_limit).
    #[inline]
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog as usize
    }

    /// Releases its first `n` events, or all if it holds fewer, before it is dropped.
    ///
    /// Later stages can read them, and producers overwrite them, from now on. The rest is still held,
    /// and its first event has index 0.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(char::default)?;
    /// # let mut book = ring.consumer("book").join()?;
    /// # ring.producer()?.publish_batch(2, |slots| slots.zip(['a', 'b']).for_each(|(s, c)| *s = c))?;
    /// let mut batch = book.next_batch()?;
    /// batch.release(1);
    /// assert_eq!(batch[0], 'b');
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn release(&mut self, n: usize) {
        let to = self.probe.read() + n.min(self.len()) as u64;
        self.probe.pass(to);
    }

    /// Releases what its consumer [holds](Batch::hold) from earlier batches, up to the event of this
    /// sequence; as [`Consumer::release_until`](crate::Consumer::release_until), for who has the next batch in hand.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(char::default)?;
    /// # let mut feed = ring.producer()?;
    /// let mut journal = ring.consumer("journal").join()?;
    /// feed.publish_value('a')?;
    /// journal.next_batch()?.hold(); // a write has begun
    /// feed.publish_value('b')?;
    /// let mut batch = journal.next_batch()?;
    /// batch.release_held(1); // it has ended
    /// batch.hold(); // another has begun
    /// assert_eq!(journal.held().collect::<Vec<_>>(), [(1, &'b')]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn release_held(&mut self, until: Sequence) {
        let to = until.clamp(self.probe.position(), self.probe.read());
        self.probe.release(to);
    }

    /// Goes on without releasing what it has not: the next batch starts behind it, and its events stay
    /// where they are until [`Consumer::release_until`](crate::Consumer::release_until). For work that is done
    /// later: a journal with writes in flight, answers to come.
    ///
    /// Producers are held up when the ring is full of what is held, and later stages from the first event
    /// that is. While anything is held, dropping a batch releases nothing either.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(char::default)?;
    /// # let mut feed = ring.producer()?;
    /// let mut journal = ring.consumer("journal").join()?;
    /// let mut reply = ring.consumer("reply").after(["journal"]).join()?;
    /// feed.publish_value('a')?;
    /// journal.next_batch()?.hold(); // a write has begun
    /// feed.publish_value('b')?;
    /// journal.next_batch()?.hold(); // another has
    ///
    /// assert!(reply.try_next_batch().is_err());
    /// journal.release_until(1); // the first has ended
    /// assert_eq!(reply.next_batch()?[0], 'a');
    /// assert_eq!(journal.held().collect::<Vec<_>>(), [(1, &'b')]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn hold(self) {
        self.probe.hold(self.hi);
    }

    /// Goes on without releasing its first `n` events, or all if it has fewer, as [`Batch::hold`] does with all.
    /// The event behind them has index 0 from now on.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(char::default)?;
    /// # let mut journal = ring.consumer("journal").join()?;
    /// # ring.producer()?.publish_batch(2, |slots| slots.zip(['a', 'b']).for_each(|(s, c)| *s = c))?;
    /// let mut batch = journal.next_batch()?;
    /// batch.hold_first(1);
    /// assert_eq!(batch[0], 'b');
    /// drop(batch); // While anything is held this releases nothing.
    /// assert_eq!(journal.held().count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn hold_first(&mut self, n: usize) {
        let to = self.probe.read() + n.min(self.len()) as u64;
        self.probe.hold(to);
    }

    /// Gives what it has not released back: the next batch starts there.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(char::default)?;
    /// # let mut book = ring.consumer("book").join()?;
    /// # ring.producer()?.publish_batch(2, |slots| slots.zip(['a', 'b']).for_each(|(s, c)| *s = c))?;
    /// let mut batch = book.next_batch()?;
    /// batch.release(1);
    /// batch.give_back();
    /// assert_eq!(book.next_batch()?[0], 'b');
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn give_back(mut self) {
        self.hi = self.probe.read(); // What is left for the drop to release: nothing.
    }
}

impl<T> Drop for Batch<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.is_empty() || (panicking() && self.probe.keeps_what_was_not_released()) {
            return;
        }
        self.probe.pass(self.hi);
    }
}

/// # Panics
/// If the index is not below the length.
impl<T> Index<usize> for Batch<'_, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        let event = self.probe.memory.to_read(self.sequence_of(index));
        // SAFETY: R3: published, as the probe found; not written before it is released, which takes
        // the batch by `&mut` or by value (R2).
        unsafe { &*event }
    }
}

impl<'b, T> IntoIterator for &'b Batch<'_, T> {
    type Item = &'b T;
    type IntoIter = Events<'b, T>;

    #[inline]
    fn into_iter(self) -> Events<'b, T> {
        self.iter()
    }
}

impl<T> fmt::Debug for Batch<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("sequences", &self.sequences())
            .field("backlog", &self.backlog)
            .finish_non_exhaustive()
    }
}

/// The events of a batch, one after the other.
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// # let mut book = ring.consumer("book").join()?;
/// # ring.producer()?.publish_batch(2, |slots| slots.zip([585, 587]).for_each(|(s, p)| *s = p))?;
/// let batch = book.next_batch()?;
/// let prices = batch.iter();
/// let mean = prices.clone().sum::<u64>() / prices.len() as u64;
/// assert_eq!((mean, prices.max()), (586, Some(&587)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Events<'b, T>(Run<'b, T>);

impl<'b, T> Iterator for Events<'b, T> {
    type Item = &'b T;

    #[inline]
    fn next(&mut self) -> Option<&'b T> {
        let event = self.0.next_to_read()?;
        // SAFETY: R3: published, as the probe found; not written before it is released (R2), for which
        // the batch must no longer be borrowed for `'b`.
        Some(unsafe { &*event })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for Events<'_, T> {}

impl<T> Clone for Events<'_, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Events<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("left", self.0.left())
            .finish_non_exhaustive()
    }
}

/// The events that a consumer holds, with their sequences, in order; made by [`Consumer::held`](crate::Consumer::held).
///
/// # Examples
/// See [`Batch::hold`].
pub struct Held<'c, T> {
    memory: &'c Memory<T>,
    next: Sequence,
    /// A boundary: up to here there are events.
    batch_end: Sequence,
    end: Sequence,
}

impl<'c, T> Held<'c, T> {
    pub(crate) fn of(probe: &'c Probe<T>) -> Self {
        Self {
            memory: &probe.memory,
            next: probe.position(),
            batch_end: probe.boundary(),
            end: probe.read(),
        }
    }
}

impl<'c, T> Iterator for Held<'c, T> {
    type Item = (Sequence, &'c T);

    fn next(&mut self) -> Option<Self::Item> {
        while self.next == self.batch_end && self.next < self.end {
            match self.memory.reading(self.next) {
                Reading::Events(hi) => self.batch_end = hi,
                Reading::Skip(hi) => {
                    self.next = hi;
                    self.batch_end = hi;
                }
                Reading::Unpublished | Reading::Overtaken => return None, // It is corrupt.
            }
        }
        if self.next >= self.end {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        // SAFETY: R3: published, as the stamps say, and read before; not written before it is released
        // (R2), for which the consumer must no longer be borrowed for `'c`.
        Some((sequence, unsafe { &*self.memory.to_read(sequence) }))
    }
}

impl<T> fmt::Debug for Held<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("left", &(self.next..self.end))
            .finish_non_exhaustive()
    }
}

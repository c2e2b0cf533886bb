//! Read access as a value: a consumer takes batches, reads them in place, releases them.

use std::error::Error;
use std::fmt;
use std::ops::{Index, Range};
use std::time::Instant;

use crate::member::{JoinError, Roster};
use crate::probe::{Probe, Reach};
use crate::region::Memory;
use crate::sequence::Sequence;
use crate::wait::{Patience, Wait, Waiter, let_batches_grow};

/// What a consumer is to be like; made by [`Ring::consumer`](crate::Ring::consumer).
#[must_use = "a consumer joins by `join`"]
pub struct ConsumerBuilder<T> {
    memory: Memory<T>,
    name: String,
    after: Vec<String>,
    wait: Wait,
    batch_limit: usize,
}

impl<T> ConsumerBuilder<T> {
    pub(crate) fn new(memory: Memory<T>, name: &str) -> Self {
        Self {
            memory,
            name: name.to_owned(),
            after: Vec::new(),
            wait: Wait::default(),
            batch_limit: usize::MAX,
        }
    }

    /// Makes it a stage: it reads an event only after each of the consumers named has released it.
    /// They have to join before it does, so there are no cycles.
    pub fn after<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.after.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets how it waits for events.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the most events that it takes in a batch; by default as many as there are.
    pub fn batch_limit(mut self, events: usize) -> Self {
        self.batch_limit = events;
        self
    }

    /// Joins the ring at sequence 0. From now on producers do not overwrite what it has not released.
    ///
    /// Join before any producer claims for the first time: that fixes which consumers there are. They
    /// may leave, by being dropped, at any time. Those that come after one that left then wait for what
    /// it waited for.
    ///
    /// # Errors
    /// If the name is empty, too long or taken, if it comes after a name that nobody has, if the batch
    /// limit is 0, if a producer has claimed already, if the member table is full, or if the ring is
    /// closed.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let journal = ring.consumer("journal").join()?;
    /// let book = ring.consumer("book").batch_limit(64).join()?;
    /// let risk = ring.consumer("risk").after(["journal", "book"]).join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(self) -> Result<Consumer<T>, JoinError> {
        let Self {
            memory,
            name,
            after,
            wait,
            batch_limit,
        } = self;
        if batch_limit == 0 {
            return Err(JoinError::BatchLimit { name });
        }
        let (row, before) = Roster::lock(memory.region()).join_consumer(&name, &after)?;
        Ok(Consumer {
            probe: Probe::new(memory, row, before),
            name,
            wait,
            batch_limit: batch_limit as u64,
        })
    }
}

impl<T> fmt::Debug for ConsumerBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("name", &self.name)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

/// Reads every event of a ring, in order, a batch at a time.
///
/// Producers wait for it: what it has not released is not overwritten. Dropping it leaves the ring.
/// Sequences without an event, whose claims were dropped, are stepped over and counted.
pub struct Consumer<T> {
    probe: Probe<T>,
    name: String,
    wait: Wait,
    batch_limit: u64,
}

impl<T> Consumer<T> {
    /// Waits for events, and returns as many as are there, up to the batch limit.
    ///
    /// # Errors
    /// [`Closed`] once the last producer is gone and everything has been read.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_batch(2, |slots| slots.for_each(|slot| *slot = 7))?;
    /// drop(feed);
    /// assert_eq!(book.next_batch()?.len(), 2);
    /// assert!(book.next_batch().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn next_batch(&mut self) -> Result<Batch<'_, T>, Closed> {
        match self.wait_for_events(Patience::Forever) {
            Ok(to) => Ok(Batch::new(self, to)),
            Err(_) => Err(Closed), // Nothing else ends a wait for ever.
        }
    }

    /// Returns the events that are there, if any.
    ///
    /// A thread that polls in a loop without pausing when it finds nothing slows its producers down:
    /// [`Consumer::next_batch`] knows when to leave them alone.
    ///
    /// # Errors
    /// Why there are none.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut journal = ring.consumer("journal").join()?;
    /// let mut risk = ring.consumer("risk").after(["journal"]).join()?;
    /// let mut feed = ring.producer()?;
    /// assert_eq!(risk.try_next_batch().unwrap_err(), NotReady::Idle);
    /// feed.publish_value(7)?;
    /// assert_eq!(risk.try_next_batch().unwrap_err(), NotReady::Gated);
    /// drop(journal.try_next_batch()?);
    /// assert_eq!(risk.try_next_batch()?[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_next_batch(&mut self) -> Result<Batch<'_, T>, NotReady> {
        let to = self.wait_for_events(Patience::None)?;
        Ok(Batch::new(self, to))
    }

    /// Waits for events until `deadline`.
    ///
    /// # Errors
    /// Why there are none even then, or [`NotReady::Closed`] as soon as there can be no more.
    #[inline]
    pub fn next_batch_deadline(&mut self, deadline: Instant) -> Result<Batch<'_, T>, NotReady> {
        let to = self.wait_for_events(Patience::Until(deadline))?;
        Ok(Batch::new(self, to))
    }

    /// The name that it joined under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next sequence that it has not released.
    #[must_use]
    pub fn position(&self) -> Sequence {
        self.probe.position()
    }

    /// How many sequences it has stepped over because they carry no event.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.probe.skipped()
    }

    /// Returns up to where events can be read.
    #[inline]
    fn wait_for_events(&mut self, patience: Patience) -> Result<Sequence, NotReady> {
        if self.probe.has_drained_a_backlog() && !matches!(patience, Patience::None) {
            let_batches_grow(self.probe.memory.capacity());
        }
        let to = self.probe.look(Reach::Backlog);
        if to > self.probe.position() {
            Ok(to)
        } else {
            self.wait_at_the_front(patience)
        }
    }

    #[cold]
    fn wait_at_the_front(&mut self, patience: Patience) -> Result<Sequence, NotReady> {
        let mut waiter = Waiter::new(self.wait, patience);
        loop {
            // INVARIANT R7: done means closed first, and then released to the end that is final.
            if self.probe.is_done() {
                return Err(NotReady::Closed);
            }
            let to = self.probe.look(Reach::OneBatch);
            if to > self.probe.position() {
                return Ok(to);
            }
            if !waiter.pause() {
                return Err(if self.probe.is_gated() {
                    NotReady::Gated
                } else {
                    NotReady::Idle
                });
            }
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("name", &self.name)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

/// Some events of consecutive sequences, which stay as they are until the batch releases them.
///
/// Dropping a batch, also by a panic, releases what is left of it. A batch leaked by
/// [`std::mem::forget`] releases nothing: the next one starts where it did.
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
pub struct Batch<'c, T> {
    probe: &'c mut Probe<T>,
    hi: Sequence,
    backlog: u64,
}

impl<'c, T> Batch<'c, T> {
    #[inline]
    fn new(consumer: &'c mut Consumer<T>, to: Sequence) -> Self {
        let backlog = to - consumer.probe.position();
        Self {
            hi: consumer.probe.position() + backlog.min(consumer.batch_limit),
            probe: &mut consumer.probe,
            backlog,
        }
    }

    /// The events, in the order of their sequences.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Events<'_, T> {
        Events {
            memory: &self.probe.memory,
            left: self.sequences(),
        }
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
        let first = self.probe.position();
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
        let [first, second] = self.probe.memory.runs(self.probe.position(), self.hi)?;
        // SAFETY: R3, as in `index`, for each of the slots; they lie one behind the other.
        let first = unsafe { std::slice::from_raw_parts(first.0.as_ptr(), first.1) };
        // SAFETY: as above.
        let second = unsafe { std::slice::from_raw_parts(second.0.as_ptr(), second.1) };
        Some((first, second))
    }

    /// The sequences that it still holds.
    #[inline]
    #[must_use]
    pub fn sequences(&self) -> Range<Sequence> {
        self.probe.position()..self.hi
    }

    /// The number of events that it still holds.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        (self.hi - self.probe.position()) as usize
    }

    /// Whether it has released all of its events.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many events were known to be waiting when it was taken, including its own.
    ///
    /// There may have been more: a consumer that has been waiting does not look further than the batch
    /// that comes first.
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
        let to = self.probe.position() + n.min(self.len()) as u64;
        self.probe.advance(to);
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
        self.hi = self.probe.position(); // What is left for the drop to release: nothing.
    }
}

impl<T> Drop for Batch<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.probe.advance(self.hi);
        }
    }
}

/// # Panics
/// If the index is not below the length.
impl<T> Index<usize> for Batch<'_, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        assert!(
            index < self.len(),
            "event {index} of a batch of {}",
            self.len()
        );
        let event = self
            .probe
            .memory
            .to_read(self.probe.position() + index as u64);
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
pub struct Events<'b, T> {
    memory: &'b Memory<T>,
    left: Range<Sequence>,
}

impl<'b, T> Iterator for Events<'b, T> {
    type Item = &'b T;

    #[inline]
    fn next(&mut self) -> Option<&'b T> {
        let event = self.memory.to_read(self.left.next()?);
        // SAFETY: R3: published, as the probe found; not written before it is released (R2), for which
        // the batch must no longer be borrowed for `'b`.
        Some(unsafe { &*event })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.left.end - self.left.start) as usize;
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for Events<'_, T> {}

impl<T> Clone for Events<'_, T> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory,
            left: self.left.clone(),
        }
    }
}

impl<T> fmt::Debug for Events<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// The last producer is gone and everything has been read: there will be no more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is closed and drained: its last producer was dropped")
    }
}

impl Error for Closed {}

/// Why there is no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReady {
    /// The next event is not published.
    Idle,
    /// The next event is published, but a consumer that this one comes after has not released it.
    Gated,
    /// The last producer is gone and everything has been read.
    Closed,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("no event is published that has not been read: try later"),
            Self::Gated => f.write_str(
                "the next event waits for a consumer that this one comes after: try later",
            ),
            Self::Closed => Closed.fmt(f),
        }
    }
}

impl Error for NotReady {}

//! The batch that a handler has in hand, and what it can do with it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use annulus_ring::{Batch, Consumer, Held, MutableBatch, MutableConsumer, Sequence};

use crate::metrics::{Times, elapsed, ticks};

/// Where an event stands in its batch.
///
/// # Examples
/// See [`Handler`](crate::Handler).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct At {
    /// Its sequence.
    pub sequence: Sequence,
    /// How many events of its batch come after it.
    pub left: usize,
    /// How many events the batch had when it was taken.
    pub batch: usize,
    /// How many events were known to be waiting when the batch was taken, its own included.
    pub backlog: usize,
}

impl At {
    /// Whether it is the last of its batch: the moment to flush.
    ///
    /// # Examples
    /// See [`Handler`](crate::Handler).
    #[inline]
    #[must_use]
    pub fn is_last(self) -> bool {
        self.left == 0
    }
}

/// The events that a [`Handler`](crate::Handler) has in hand.
///
/// # Examples
/// See [`Lot`].
pub type Events<'c, T> = Lot<'c, Batch<'c, T>>;

/// The events that a [`HandlerMut`](crate::HandlerMut) has in hand, and may change.
///
/// # Examples
/// See [`Lot`].
pub type EventsMut<'c, T> = Lot<'c, MutableBatch<'c, T>>;

/// A batch of events, taken by [`Events::each`] or one by one by [`Events::next`], and released when the handler
/// returns.
///
/// # Examples
/// ```
/// use annulus::{At, Events, Handler, HandlerError, Idle, Pipeline, Stage};
/// use annulus::ring::Ring;
///
/// /// Writes batches, which take a while to reach the disk.
/// #[derive(Default)]
/// struct Journal { written: Vec<u64>, flushed: u64 }
///
/// impl Handler<u64> for Journal {
///     fn on_batch(&mut self, prices: &mut Events<'_, u64>) -> Result<(), HandlerError> {
///         prices.release_held(self.flushed); // what has reached it meanwhile
///         println!("{} of {} that wait", prices.len(), prices.backlog());
///         if let Some((price, at)) = prices.next() {
///             println!("the first is {price}, at {}", at.sequence);
///             self.written.push(*price);
///         }
///         prices.each(|price, _| Ok::<_, HandlerError>(self.written.push(*price)))?;
///         assert!(prices.is_empty());
///         self.flushed = prices.sequences().end; // a real one would know later
///         prices.hold(); // and not `release`, or nothing, which releases them now, or when this returns
///         Ok(())
///     }
///
///     fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
///         Ok(()) // it takes batches
///     }
///
///     fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
///         idle.release_held(self.flushed);
///         assert!(!idle.is_ending() || idle.held().next().is_none());
///         Ok(())
///     }
/// }
///
/// let ring = Ring::builder(64).build(u64::default)?;
/// let journal = Stage::new("journal", Journal::default());
/// let reply = Stage::each("reply", |_: &u64, _| ()).after(["journal"]);
/// let running = Pipeline::on(&ring).stage(journal).stage(reply).start()?;
/// ring.producer()?.publish_value(7)?;
/// assert_eq!(running.join()?.stages[1].handled, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lot<'c, B: sealed::Batched> {
    batch: B,
    progress: Progress<'c>,
    /// Whether it is to be held and not released.
    hold: bool,
    /// How many it is done with before the end, and whether this call of the handler released the last it took.
    done: usize,
    has_released: bool,
    times: Option<&'c Times>,
}

/// How far a handler has come in a batch.
#[derive(Debug)]
struct Progress<'c> {
    /// How many of what the batch still holds have been taken.
    taken: usize,
    /// How many it still holds, and from where on.
    len: usize,
    first: Sequence,
    /// How many there were at first, and were known to be waiting.
    size: usize,
    backlog: usize,
    /// Whether an event was refused because the pipeline was aborted.
    is_cut: bool,
    aborted: &'c AtomicBool,
    /// How many events are taken between two looks at that.
    between_looks: usize,
}

impl Progress<'_> {
    /// Takes the next event, and says where it stands.
    #[inline]
    fn take(&mut self) -> Option<At> {
        if self.taken == self.len || self.is_aborted() {
            return None;
        }
        Some(Steps::of(self).step())
    }

    /// Takes these events, which are the next.
    #[inline]
    fn take_all<T, E>(
        &mut self,
        mut events: impl ExactSizeIterator<Item = T>,
        handle: &mut impl FnMut(T, At) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = events.len();
        while left > 0 && !self.is_aborted() {
            let n = left.min(self.between_looks);
            let mut steps = Steps::of(self);
            (events.by_ref().take(n)).try_for_each(|event| handle(event, steps.step()))?;
            left -= n;
        }
        Ok(())
    }

    /// Whether events are to be refused.
    #[inline]
    fn is_aborted(&mut self) -> bool {
        // RELAXED: it carries nothing but itself.
        self.is_cut = self.aborted.load(Ordering::Relaxed);
        self.is_cut
    }
}

/// Some steps through a batch, which count when they end, however they do: the compiler keeps the index in a
/// register, where it would store each one before a handler that may panic.
struct Steps<'s, 'c> {
    progress: &'s mut Progress<'c>,
    taken: usize,
}

impl<'s, 'c> Steps<'s, 'c> {
    #[inline]
    fn of(progress: &'s mut Progress<'c>) -> Self {
        Self {
            taken: progress.taken,
            progress,
        }
    }

    #[inline]
    fn step(&mut self) -> At {
        let index = self.taken;
        self.taken += 1;
        At {
            sequence: self.progress.first + index as u64,
            left: self.progress.len - 1 - index,
            batch: self.progress.size,
            backlog: self.progress.backlog,
        }
    }
}

impl Drop for Steps<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        self.progress.taken = self.taken;
    }
}

/// How often a stage looks whether the pipeline is aborted: at each event, or if its handler is fast, and has much to
/// do, now and then. Around an atomic load the compiler keeps nothing of a handler in registers.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    is_fast: bool,
}

impl Pace {
    /// A batch of so many events is worth two readings of the clock.
    const MUCH: usize = 128;
    const FAST: Duration = Duration::from_micros(1);
    const BETWEEN_LOOKS: usize = 64;

    #[inline]
    fn between_looks(&self, batch: usize) -> usize {
        if batch >= Self::MUCH && self.is_fast {
            Self::BETWEEN_LOOKS
        } else {
            1
        }
    }

    /// Hands over a batch of so many events, and learns from how long it takes.
    #[inline]
    pub(crate) fn learn<R>(&mut self, batch: usize, hand_over: impl FnOnce() -> R) -> R {
        if batch < Self::MUCH {
            return hand_over();
        }
        let began = ticks();
        let returned = hand_over();
        self.is_fast = elapsed(began, ticks()) < Self::FAST * batch as u32;
        returned
    }
}

impl<T> Lot<'_, Batch<'_, T>> {
    /// Takes all events that are left, up to the first that fails, and says where each stands. Ends sooner if the
    /// pipeline is aborted.
    ///
    /// # Errors
    /// That of the event that failed.
    ///
    /// # Examples
    /// See [`Lot`].
    #[inline]
    pub fn each<E>(&mut self, mut handle: impl FnMut(&T, At) -> Result<(), E>) -> Result<(), E> {
        let progress = &mut self.progress;
        let from = progress.taken;
        match self.batch.as_slices() {
            _ if from > 0 => progress.take_all(self.batch.iter().skip(from), &mut handle),
            Some((first, second)) => {
                progress.take_all(first.iter(), &mut handle)?;
                progress.take_all(second.iter(), &mut handle)
            }
            None => progress.take_all(self.batch.iter(), &mut handle),
        }
    }

    /// Takes the next event, and says where it stands; nothing at the end, or if the pipeline is aborted.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "what it returns borrows from it"
    )]
    pub fn next(&mut self) -> Option<(&T, At)> {
        let at = self.progress.take()?;
        Some((&self.batch[self.progress.taken - 1], at))
    }
}

impl<T> Lot<'_, MutableBatch<'_, T>> {
    /// Takes all events that are left, up to the first that fails, and says where each stands. Ends sooner if the
    /// pipeline is aborted.
    ///
    /// # Errors
    /// That of the event that failed.
    ///
    /// # Examples
    /// See [`Lot`].
    #[inline]
    pub fn each<E>(
        &mut self,
        mut handle: impl FnMut(&mut T, At) -> Result<(), E>,
    ) -> Result<(), E> {
        let progress = &mut self.progress;
        let from = progress.taken;
        progress.take_all(self.batch.iter_mut().skip(from), &mut handle)
    }

    /// Takes the next event, and says where it stands; nothing at the end, or if the pipeline is aborted.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "what it returns borrows from it"
    )]
    pub fn next(&mut self) -> Option<(&mut T, At)> {
        let at = self.progress.take()?;
        Some((&mut self.batch[self.progress.taken - 1], at))
    }
}

impl<'c, B: sealed::Batched> Lot<'c, B> {
    pub(crate) fn new(
        batch: B,
        pace: &Pace,
        aborted: &'c AtomicBool,
        times: Option<&'c Times>,
    ) -> Self {
        let progress = Progress {
            taken: 0,
            len: batch.len(),
            first: batch.sequences().start,
            size: batch.len(),
            backlog: batch.backlog(),
            is_cut: false,
            aborted,
            between_looks: pace.between_looks(batch.len()),
        };
        Self {
            batch,
            progress,
            hold: false,
            done: 0,
            has_released: false,
            times,
        }
    }

    /// The sequences that it still holds, taken or not.
    ///
    /// # Examples
    /// See [`Lot`].
    #[must_use]
    pub fn sequences(&self) -> Range<Sequence> {
        self.batch.sequences()
    }

    /// How many events have not been taken.
    ///
    /// # Examples
    /// See [`Lot`].
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.progress.len - self.progress.taken
    }

    /// Whether all events have been taken.
    ///
    /// # Examples
    /// See [`Lot`].
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many events were known to be waiting when it was taken, its own included.
    ///
    /// # Examples
    /// See [`Lot`].
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.progress.backlog
    }

    /// Releases what has been taken: later stages can read it and producers overwrite it, before the batch
    /// ends. It counts as handled, and no rewind brings it back.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{At, Events, Handler, HandlerError};
    /// # struct Book;
    /// # impl Handler<u64> for Book {
    /// # fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> { Ok(()) }
    /// fn on_batch(&mut self, prices: &mut Events<'_, u64>) -> Result<(), HandlerError> {
    ///     while let Some((price, at)) = prices.next() {
    ///         println!("{price}");
    ///         if at.sequence % 16 == 15 {
    ///             prices.release(); // producers need not wait for the rest
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn release(&mut self) {
        let taken = std::mem::take(&mut self.progress.taken);
        self.has_released |= taken > 0;
        self.done += taken;
        self.let_go(taken);
    }

    /// Releases the first `n`.
    fn let_go(&mut self, n: usize) {
        if let Some(times) = self.times {
            let first = self.batch.sequences().start;
            times.hand_over(first..first + n as u64, ticks());
        }
        self.batch.release(n);
        self.look_again();
    }

    /// Releases the first `n`, or holds them if that was asked for.
    fn pass(&mut self, n: usize) {
        if self.hold {
            self.batch.hold_first(n);
            self.look_again();
        } else {
            self.let_go(n);
        }
    }

    fn look_again(&mut self) {
        self.progress.len = self.batch.len();
        self.progress.first = self.batch.sequences().start;
    }

    /// Goes on without releasing the batch when the handler returns: its events stay where they are until
    /// [`Idle::release_held`] or [`Lot::release_held`]. For work that ends later, such as a write in flight.
    ///
    /// # Examples
    /// See [`Lot`].
    pub fn hold(&mut self) {
        self.hold = true;
    }

    /// Releases what is held from earlier batches, up to the event of this sequence.
    ///
    /// # Examples
    /// See [`Lot`].
    pub fn release_held(&mut self, until: Sequence) {
        self.batch.release_held(until);
    }

    /// The index of the event that the handler is at: the one that it took last, or the first if it took none, or
    /// none if it has released that.
    fn in_hand(&self) -> Option<usize> {
        match self.progress.taken {
            0 => (!self.has_released && self.batch.len() > 0).then_some(0),
            taken => Some(taken - 1),
        }
    }

    /// The sequence of the event that the handler is at.
    pub(crate) fn sequence_in_hand(&self) -> Option<Sequence> {
        Some(self.batch.sequences().start + self.in_hand()? as u64)
    }

    /// The event that the handler is at.
    pub(crate) fn event_in_hand(&self) -> Option<&B::Event> {
        self.batch.get(self.in_hand()?)
    }

    /// Goes back to the event that the handler is at. Those before it are done, and held if that was asked for.
    pub(crate) fn retry(&mut self) {
        let before = self.in_hand().unwrap_or(0);
        if self.hold {
            self.pass(before);
            self.done += before;
            self.progress.taken = 0;
        } else {
            self.progress.taken = before;
        }
        self.begin_again();
    }

    /// Goes back to the first event that it is not done with.
    pub(crate) fn rewind(&mut self) {
        self.progress.taken = 0;
        self.begin_again();
    }

    /// Is done with the events before the one that the handler is at, and with that if the stage goes on: otherwise
    /// nobody is to come to it. Returns how many were handled, and whether one failed.
    pub(crate) fn give_up(&mut self, goes_on: bool) -> (usize, usize) {
        let (before, failed) = match self.in_hand() {
            Some(before) => (before, 1),
            None => (0, 0),
        };
        let handled = before + std::mem::take(&mut self.done);
        self.progress.taken = 0;
        self.pass(if goes_on { before + failed } else { before });
        self.begin_again();
        (handled, failed)
    }

    /// What one call of the handler asked for is not for the next.
    fn begin_again(&mut self) {
        self.hold = false;
        self.has_released = false;
    }

    /// Whether it refused an event because the pipeline was aborted.
    pub(crate) fn is_cut(&self) -> bool {
        self.progress.is_cut
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_used_up(&self) -> bool {
        self.batch.len() == 0
    }

    /// Ends the batch, whose handler has returned; returns how many events were handled since the last
    /// failure.
    pub(crate) fn finish(mut self) -> usize {
        let rest = if self.progress.is_cut {
            self.progress.taken
        } else {
            self.batch.len()
        };
        let handled = rest + self.done;
        if self.progress.is_cut {
            self.pass(rest);
            self.batch.give_back();
        } else if self.hold {
            self.batch.hold();
        }
        handled
    }

    /// Ends the batch whose handler has failed for good.
    pub(crate) fn give_back(self) {
        self.batch.give_back();
    }
}

/// A stage that has nothing to handle.
///
/// # Examples
/// See [`Lot`].
pub struct Idle<'i, T> {
    holds: &'i mut dyn sealed::Holds<T>,
    is_ending: bool,
}

impl<'i, T> Idle<'i, T> {
    pub(crate) fn new(holds: &'i mut dyn sealed::Holds<T>, is_ending: bool) -> Self {
        Self { holds, is_ending }
    }

    /// Releases what is [held](Lot::hold), up to the event of this sequence.
    ///
    /// # Examples
    /// See [`Lot`].
    pub fn release_held(&mut self, until: Sequence) {
        self.holds.release_held(until);
    }

    /// What is held, in order.
    ///
    /// # Examples
    /// See [`Lot`].
    #[must_use]
    pub fn held(&self) -> Held<'_, T> {
        self.holds.held()
    }

    /// Whether there will be no more events: the stage ends when nothing is held any more.
    ///
    /// # Examples
    /// See [`Lot`].
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.is_ending
    }
}

impl<T> std::fmt::Debug for Idle<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idle")
            .field("is_ending", &self.is_ending)
            .finish_non_exhaustive()
    }
}

pub(crate) mod sealed {
    use super::*;

    /// A batch of either kind.
    pub trait Batched {
        type Event;

        fn sequences(&self) -> Range<Sequence>;
        fn len(&self) -> usize;
        fn backlog(&self) -> usize;
        fn get(&self, index: usize) -> Option<&Self::Event>;
        fn release(&mut self, n: usize);
        fn release_held(&mut self, until: Sequence);
        fn hold(self);
        fn hold_first(&mut self, n: usize);
        fn give_back(self);
    }

    /// Whoever holds events of earlier batches.
    pub(crate) trait Holds<T> {
        fn release_held(&mut self, until: Sequence);
        fn held(&self) -> Held<'_, T>;
    }

    impl<T> Holds<T> for Consumer<T> {
        fn release_held(&mut self, until: Sequence) {
            self.release_until(until);
        }

        fn held(&self) -> Held<'_, T> {
            Consumer::held(self)
        }
    }

    impl<T> Holds<T> for MutableConsumer<T> {
        fn release_held(&mut self, until: Sequence) {
            self.release_until(until);
        }

        fn held(&self) -> Held<'_, T> {
            Consumer::held(self)
        }
    }

    macro_rules! batched {
        ($batch:ident) => {
            impl<T> Batched for $batch<'_, T> {
                type Event = T;

                #[inline]
                fn sequences(&self) -> Range<Sequence> {
                    Batch::sequences(self)
                }

                #[inline]
                fn len(&self) -> usize {
                    Batch::len(self)
                }

                #[inline]
                fn backlog(&self) -> usize {
                    Batch::backlog(self)
                }

                fn get(&self, index: usize) -> Option<&T> {
                    (index < Batch::len(self)).then(|| &self[index])
                }

                #[inline]
                fn release(&mut self, n: usize) {
                    $batch::release(self, n);
                }

                fn release_held(&mut self, until: Sequence) {
                    $batch::release_held(self, until);
                }

                fn hold(self) {
                    $batch::hold(self);
                }

                fn hold_first(&mut self, n: usize) {
                    $batch::hold_first(self, n);
                }

                fn give_back(self) {
                    $batch::give_back(self);
                }
            }
        };
    }

    batched!(Batch);
    batched!(MutableBatch);
}

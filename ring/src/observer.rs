//! Reading without gating: an observer copies events, may be lapped, and knows exactly what it missed.
//!
//! A producer does not know of observers, and may overwrite an event while it is being copied. A copy counts
//! only if that did not happen:
//!
//! ```text
//! producer   raises `claimed`                 observer   finds the event published
//!            fence(Release)                              copies it, word by word
//!            writes the event                            fence(Acquire)
//!                                                        reads `claimed`: not more than a lap
//!                                                        above the event, or the copy is thrown away
//! ```
//!
//! If any word of the copy is of a later lap, the fences make the observer see that lap claimed. The
//! same goes for a stage that changes events: an observer stays behind those that it sees, and a copy
//! counts only if none has joined meanwhile (the version stands where `claimed` does).
//!
//! One producer claims by itself; a ring that is built [observable](crate::RingBuilder::observable) has
//! it raise `claimed`, some way ahead and then not for a while.
//!
//! This is a seqlock, and deviates from the language's memory model as all of them do: the words are read
//! as relaxed atomics, and written as ordinary memory. So events must be valid whatever their bits are,
//! and have no padding: that is [`Observable`]. Under loom, and in what runs under ThreadSanitizer, events
//! are made of atomics instead. A claim that is made on one thread and written on another has the producer's
//! fence on the first only. The language promises no order then; machines do on which a write is seen by
//! all others at once, as x86, ARMv8 and RISC-V.

use std::error::Error;
use std::fmt;
use std::time::Instant;

use crate::consumer::{Ended, NotReady, why_cut};
use crate::refusal::debug_as_text;
use crate::region::Memory;
use crate::ring::Producers;
use crate::sequence::Sequence;
use crate::shared::Unusable;
use crate::stamp::Reading;
use crate::sync::{Observed, Ordering, fence};
use crate::wait::{Patience, Wait, Waiter};

pub use crate::sync::Observable;

/// Copies events of a ring without gating it; made by [`Ring::observer`](crate::Ring::observer).
///
/// It is no member: nobody waits for it, or wakes it. If producers lap it, it goes on at an event that is
/// still there, and counts what it [missed](Observer::missed).
///
/// # Examples
/// ```
/// # use annulus_ring::{Producers, Ring};
/// # let ring = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
/// # let mut feed = ring.shared_producer()?;
/// let mut tap = ring.observer()?;
/// feed.publish_value(585)?;
/// drop(feed.claim(2)?); // carries no event
/// feed.publish_value(586)?;
/// assert_eq!((tap.next()?, tap.next()?), ((0, 585), (3, 586)));
/// assert_eq!((tap.position(), tap.skipped(), tap.missed()), (4, 2, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Observer<T> {
    memory: Memory<T>,
    wait: Wait,
    /// The next sequence to copy.
    next: Sequence,
    /// A boundary: from `next` to here everything is, or was, published.
    batch_end: Sequence,
    missed: u64,
    skipped: u64,
}

impl<T: Observable> Observer<T> {
    pub(crate) fn new(memory: Memory<T>) -> Result<Self, ObserveError> {
        let region = memory.region();
        if region.producers == Producers::One && !region.observable {
            return Err(ObserveError::NotObservable);
        }
        let (_, boundary) = somewhere_behind(&memory);
        Ok(Self {
            memory,
            wait: Wait::default(),
            next: boundary,
            batch_end: boundary,
            missed: 0,
            skipped: 0,
        })
    }

    /// Sets how it waits.
    ///
    /// # Errors
    /// If it is to park: nobody would wake it.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ObserveError, Ring, Wait};
    /// # let ring = Ring::builder(8).observable().build(u64::default)?;
    /// let mut tap = ring.observer()?.with_wait(Wait::Backoff)?;
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!(tap.next()?, (0, 7));
    /// assert_eq!(tap.with_wait(Wait::Park).unwrap_err(), ObserveError::Parking);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_wait(mut self, wait: Wait) -> Result<Self, ObserveError> {
        if wait == Wait::Park {
            return Err(ObserveError::Parking);
        }
        self.wait = wait;
        Ok(self)
    }

    /// Waits for the next event, and returns its sequence and a copy of it.
    ///
    /// The copy is made on the stack: of events that are larger than what there is room for, some megabytes in the main
    /// thread and 2 MiB in others, [`Observer::next_into`] makes one elsewhere.
    ///
    /// # Errors
    /// [`Ended`] once the ring is closed and it has seen the last event, or the ring is poisoned.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// let ring = Ring::builder(8).observable().build(u64::default)?;
    /// let mut tap = ring.observer()?;
    /// let mut feed = ring.producer()?;
    /// for n in 0..20 {
    ///     feed.publish_value(n)?; // nobody gates
    /// }
    /// assert_eq!(tap.next()?, (16, 16));
    /// assert_eq!(tap.missed(), 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(
        clippy::should_implement_trait,
        reason = "it ends for a reason, and returns that"
    )]
    pub fn next(&mut self) -> Result<(Sequence, T), Ended> {
        (self.wait_for_event(Patience::Forever, T::copy_from)).map_err(NotReady::for_good)
    }

    /// Waits for the next event, copies it into `copy`, and returns its sequence.
    ///
    /// # Errors
    /// As [`Observer::next`]. What is in `copy` then is any value: an event can be overwritten while it is copied.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// let ring = Ring::builder(2).observable().build(|| [0_u8; 4096])?; // a frame, which may have some megabytes
    /// let mut tap = ring.observer()?;
    /// ring.producer()?.publish(|frame| frame.fill(7))?;
    /// let mut frame = Box::new([0; 4096]);
    /// assert_eq!(tap.next_into(&mut frame)?, 0);
    /// assert_eq!(frame[4095], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_into(&mut self, copy: &mut T) -> Result<Sequence, Ended> {
        let copied = self.wait_for_event(Patience::Forever, into(copy));
        copied.map(first).map_err(NotReady::for_good)
    }

    /// As [`Observer::next`], until `deadline`.
    ///
    /// # Errors
    /// Why there is none even then; or, as soon as it is so, that there will be no more.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(8).observable().build(u64::default)?;
    /// let mut tap = ring.observer()?;
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(tap.next_deadline(deadline), Err(NotReady::Idle));
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!(tap.next_deadline(deadline)?, (0, 7)); // late, but it is there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<(Sequence, T), NotReady> {
        self.wait_for_event(Patience::Until(deadline), T::copy_from)
    }

    /// As [`Observer::next_into`], until `deadline`.
    ///
    /// # Errors
    /// As [`Observer::next_deadline`], and [`Observer::next_into`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(8).observable().build(u64::default)?;
    /// let (mut tap, mut price) = (ring.observer()?, 0);
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(tap.next_into_deadline(&mut price, deadline), Err(NotReady::Idle));
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!((tap.next_into_deadline(&mut price, deadline)?, price), (0, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_into_deadline(
        &mut self,
        copy: &mut T,
        deadline: Instant,
    ) -> Result<Sequence, NotReady> {
        let copied = self.wait_for_event(Patience::Until(deadline), into(copy));
        copied.map(first)
    }

    /// As [`Observer::next`], if there is an event.
    ///
    /// # Errors
    /// Why there is none. [`NotReady::Gated`]: a stage that changes events is not done with it.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # let ring = Ring::builder(8).observable().build(u64::default)?;
    /// let mut enrich = ring.consumer("enrich").join_mut()?;
    /// let mut tap = ring.observer()?;
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!(tap.try_next(), Err(NotReady::Gated));
    /// enrich.next_batch_mut()?[0] *= 100;
    /// assert_eq!(tap.try_next(), Ok((0, 700)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_next(&mut self) -> Result<(Sequence, T), NotReady> {
        self.wait_for_event(Patience::None, T::copy_from)
    }

    /// As [`Observer::next_into`], if there is an event.
    ///
    /// # Errors
    /// As [`Observer::try_next`], and [`Observer::next_into`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # let ring = Ring::builder(8).observable().build(u64::default)?;
    /// let (mut tap, mut price) = (ring.observer()?, 0);
    /// assert_eq!(tap.try_next_into(&mut price), Err(NotReady::Idle));
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!((tap.try_next_into(&mut price)?, price), (0, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_next_into(&mut self, copy: &mut T) -> Result<Sequence, NotReady> {
        (self.wait_for_event(Patience::None, into(copy))).map(first)
    }

    /// How many sequences it has missed because it was lapped. Some may have carried no event.
    ///
    /// # Examples
    /// See [`Observer::next`].
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How many sequences it has stepped over because they carry no event.
    ///
    /// # Examples
    /// See [`Observer`].
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next sequence to be copied, if it is not lapped.
    ///
    /// # Examples
    /// See [`Observer`].
    #[must_use]
    pub fn position(&self) -> Sequence {
        self.next
    }

    fn wait_for_event<C>(
        &mut self,
        patience: Patience,
        mut copy: impl FnMut(Observed<T>) -> C,
    ) -> Result<(Sequence, C), NotReady> {
        let mut waiter = Waiter::new(self.wait, patience, self.memory.region().parking);
        loop {
            let idle = match self.copy_next(&mut copy) {
                Err(idle @ (NotReady::Idle | NotReady::Gated)) => idle,
                done => return done,
            };
            if !waiter.pause(&self.memory.header().waiters, || None) {
                return Err(idle);
            }
        }
    }

    #[inline]
    fn copy_next<C>(
        &mut self,
        copy: &mut impl FnMut(Observed<T>) -> C,
    ) -> Result<(Sequence, C), NotReady> {
        loop {
            let region = self.memory.region();
            // Read before what is published: the last event is not passed over.
            let signal = region.header().status.signal();
            if signal.is_cut() {
                return Err(why_cut(signal).into());
            }
            if self.next == self.batch_end {
                match self.memory.reading(self.next) {
                    Reading::Events(hi) => self.batch_end = hi,
                    Reading::Skip(hi) => {
                        self.skipped += hi - self.next;
                        self.next = hi;
                        self.batch_end = hi;
                    }
                    Reading::Overtaken => self.start_again()?,
                    Reading::Unpublished if signal.is_closed() && self.next == region.front() => {
                        return Err(NotReady::Closed);
                    }
                    Reading::Unpublished => return Err(NotReady::Idle),
                }
                continue;
            }
            let version = region.header().status.version();
            if region.mutable_stages_are_at() <= self.next {
                return Err(NotReady::Gated);
            }
            let event = copy(self.memory.to_observe(self.next));
            // ORDER(observe): if a word of the copy was written after the claim of a later lap, or by a
            // stage that has joined since, what comes next sees that.
            fence(Ordering::Acquire);
            let a_lap_on = self.next.saturating_add(self.memory.capacity());
            if region.header().claimed.is_beyond(a_lap_on) {
                self.start_again()?;
            } else if region.header().status.version_after_fence() == version {
                // INVARIANT R9: nobody had begun to write there when it was copied.
                let sequence = self.next;
                self.next += 1;
                return Ok((sequence, event));
            }
        }
    }

    /// It was lapped: goes on at an event that was still there a moment ago, and counts what it missed.
    ///
    /// # Errors
    /// If it was not, for all that there is besides the word which says so.
    #[cold]
    fn start_again(&mut self) -> Result<(), NotReady> {
        // Whose claim is seen had seen all consumers, or the floor, or had published, above what it is to
        // overwrite: by this look that is seen, too.
        _ = self.memory.header().claimed.observe();
        let (start, batch_end) = somewhere_behind(&self.memory);
        if start <= self.next {
            return Err(NotReady::Unusable(Unusable::Corrupt)); // Or it would look for ever.
        }
        self.missed += start - self.next;
        self.next = start;
        // Where it is may lie behind both: what it knew to be published still was.
        self.batch_end = self.batch_end.max(batch_end);
        Ok(())
    }
}

/// Copies events to where this one is.
fn into<T: Observable>(copy: &mut T) -> impl FnMut(Observed<T>) {
    |event| T::copy_into(event, copy)
}

fn first((sequence, ()): (Sequence, ())) -> Sequence {
    sequence
}

/// A sequence that was not overwritten a moment ago, and a boundary up to which all is published.
///
/// One producer: half a lap behind, so that there is something to read and some time to do it, but not
/// where a claim, which can be kept for long, is announced to overwrite. Many: a boundary at which a
/// consumer is known to be, or the floor; producers never claim more than a lap above the lowest of them.
fn somewhere_behind<T>(memory: &Memory<T>) -> (Sequence, Sequence) {
    let region = memory.region();
    match region.producers {
        Producers::One => {
            let announced = region.header().claimed.observe().sequence();
            let published = region.header().published.observe();
            let there = announced.saturating_sub(memory.capacity());
            let half = published.saturating_sub(memory.capacity() / 2);
            (half.max(there).min(published), published)
        }
        Producers::Many => {
            let boundary = region.known_boundary();
            (boundary, boundary)
        }
    }
}

impl<T> fmt::Debug for Observer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("next", &self.next)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

/// Why a ring is not observed, or not in this way.
///
/// # Examples
/// ```
/// # use annulus_ring::{ObserveError, Ring};
/// let ring = Ring::builder(8).build(u64::default)?;
/// let error = ring.observer().unwrap_err();
/// assert_eq!(error, ObserveError::NotObservable);
/// assert!(error.to_string().ends_with("only if it is built with .observable()"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObserveError {
    /// The ring has one producer, and was not built to be observed.
    NotObservable,
    /// An observer cannot park.
    Parking,
}

impl fmt::Display for ObserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotObservable => {
                "a ring of one producer is observed only if it is built with .observable()"
            }
            Self::Parking => {
                "an observer cannot park, because nobody wakes it: choose another way to wait"
            }
        })
    }
}

debug_as_text!(ObserveError);

impl Error for ObserveError {}

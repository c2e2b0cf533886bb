//! A consumer: waits for events, takes them a batch at a time, and hears how it ended.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Held};
use crate::bound::Bound;
use crate::claim::held;
use crate::member::{Poisoned, Signal};
use crate::probe::{Departure, Probe, Reach};
use crate::recover::{a_producer_lives, held_too_long};
use crate::refusal::debug_as_text;
use crate::ring::poison;
use crate::sequence::Sequence;
use crate::shared::Unusable;
use crate::sync::{Fences, SharedByAll};
use crate::wait::{
    EventCount, LONGEST_SLEEP, Patience, Wait, Waiter, Waits, Watch, let_batches_grow,
};

/// Reads every event of a ring, in order, a batch at a time.
///
/// Producers wait for it: what it has not released is not overwritten. Dropping it leaves the ring, for good unless its
/// place is to be [held](crate::OnDeath::Hold).
/// Sequences without an event, whose claims were dropped, are stepped over and counted.
///
/// # Examples
/// ```
/// # use annulus_ring::{Producers, Ring};
/// # let ring = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
/// # let mut feed = ring.shared_producer()?;
/// let mut book = ring.consumer("book").join()?;
/// feed.publish_value(585)?;
/// drop(feed.claim(2)?); // carries no event
/// feed.publish_value(586)?;
/// drop(feed);
///
/// let mut prices = Vec::new();
/// while let Ok(batch) = book.next_batch() {
///     prices.extend(batch.iter().copied());
/// }
/// assert_eq!(prices, [585, 586]);
/// assert_eq!((book.name(), book.position(), book.skipped()), ("book", 4, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer<T> {
    pub(crate) probe: Probe<T>,
    pub(crate) name: String,
    /// By which the thread knows it that it is bound to.
    pub(crate) bound: Option<SharedByAll<Bound>>,
    pub(crate) wait: Wait,
    pub(crate) batch_limit: u64,
    pub(crate) require_producer: bool,
    pub(crate) require_name: bool,
    pub(crate) waits: Waits,
    pub(crate) watch: Watch,
    /// When it read the clock last for a deadline.
    pub(crate) clock: Option<Instant>,
}

impl<T> Consumer<T> {
    /// Waits for events, and returns as many as are there, up to the batch limit.
    ///
    /// # Errors
    /// [`Ended`] once the ring is closed and everything has been read, or the ring is poisoned.
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
    pub fn next_batch(&mut self) -> Result<Batch<'_, T>, Ended> {
        let to = match self.events_at_hand(Patience::Forever) {
            Some(to) => to,
            None => self.wait_for_good()?,
        };
        Ok(self.batch(to))
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
        let to = match self.events_at_hand(Patience::None) {
            Some(to) => to,
            None => self.wait_at_the_front(Patience::None)?,
        };
        Ok(self.batch(to))
    }

    /// Waits for events until `deadline`.
    ///
    /// # Errors
    /// Why there are none even then; or, as soon as it is so, that there will be no more.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{NotReady, Ring};
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// # let mut feed = ring.producer()?;
    /// let mut book = ring.consumer("book").join()?;
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(book.next_batch_deadline(deadline).unwrap_err(), NotReady::Idle);
    /// feed.publish_value(7)?;
    /// assert_eq!(book.next_batch_deadline(deadline)?[0], 7); // late, but it is there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn next_batch_deadline(&mut self, deadline: Instant) -> Result<Batch<'_, T>, NotReady> {
        let to = match self.events_at_hand(Patience::Until(deadline)) {
            Some(to) => to,
            None => self.wait_at_the_front(Patience::Until(deadline))?,
        };
        Ok(self.batch(to))
    }

    /// The name that it joined under.
    ///
    /// # Examples
    /// See [`Consumer`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next sequence that it has not released.
    ///
    /// # Examples
    /// See [`Consumer`].
    #[must_use]
    pub fn position(&self) -> Sequence {
        self.probe.position()
    }

    /// The first sequence that is for it; events below this one are not.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// let late = ring.consumer("late").join()?;
    /// assert_eq!(late.start(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn start(&self) -> Sequence {
        self.probe.start()
    }

    /// How often it has waited for events.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Ring, Wait};
    /// # use std::time::{Duration, Instant};
    /// let ring = Ring::builder(8).parking().build(u64::default)?;
    /// let mut book = ring.consumer("book").wait(Wait::Park).join()?;
    /// # let feed = ring.producer()?;
    /// assert!(book.next_batch_deadline(Instant::now() + Duration::from_millis(1)).is_err());
    /// assert_eq!(book.waits().waited, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.waits
    }

    /// How many sequences, from its start on, it has stepped over because they carry no event.
    ///
    /// # Examples
    /// See [`Consumer`].
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.probe.skipped()
    }

    /// Drops all events that are there but the last, and returns how many it dropped: for who wants the
    /// latest state and not how it came about.
    ///
    /// The next batch starts with the last event that was there, if there was any. What is
    /// [held](Batch::hold) stays so.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut screen = ring.consumer("screen").join()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_batch(5, |slots| slots.zip(1..).for_each(|(slot, n)| *slot = n))?;
    /// assert_eq!(screen.skip_to_latest(), 4);
    /// assert_eq!(screen.next_batch()?[0], 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_to_latest(&mut self) -> u64 {
        self.probe.skip_to_latest()
    }

    /// The events that it [holds](Batch::hold): those that it has been given and has not released.
    ///
    /// # Examples
    /// See [`Batch::hold`].
    #[must_use]
    pub fn held(&self) -> Held<'_, T> {
        Held::of(&self.probe)
    }

    /// Releases the events that it [holds](Batch::hold), up to the one of this sequence, which it still
    /// holds. What it has not been given yet stays; what it has released already, too.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut journal = ring.consumer("journal").join()?;
    /// ring.producer()?.publish_batch(3, |_| ())?;
    /// journal.next_batch()?.hold(); // three writes have begun
    /// journal.release_until(2); // two have ended
    /// assert_eq!(journal.position(), 2);
    /// journal.release_until(9); // no more than it has been given
    /// assert_eq!(journal.position(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_until(&mut self, sequence: Sequence) {
        let to = sequence.clamp(self.probe.position(), self.probe.read());
        if to > self.probe.position() {
            self.probe.release(to);
        }
    }

    /// Leaves the ring for good: it gates nothing from now on, and what it has not read is lost to its name. As a drop does,
    /// but for a consumer whose place is [held](crate::OnDeath::Hold) in a ring that processes share.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// book.leave();
    /// assert!(ring.snapshot().members.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave(mut self) {
        self.probe.set_departure(Departure::Leave);
    }

    /// Goes, but leaves its place in the ring, under its name: the next consumer that joins under this name goes on where
    /// this one has released, after the consumers that this one came after. For a program that is started again.
    ///
    /// Until then nothing that it has not released is overwritten, so producers wait when the ring is full;
    /// [`Ring::evict`](crate::Ring::evict) ends that. An event in a batch that it holds back is given again.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// let mut gateway = ring.consumer("gateway").join()?;
    /// feed.publish_value(585)?;
    /// drop(gateway.next_batch()?);
    /// gateway.leave_held();
    /// feed.publish_value(586)?;
    /// let mut gateway = ring.consumer("gateway").join()?; // started again
    /// assert_eq!(gateway.next_batch()?[0], 586);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave_held(mut self) {
        self.probe.set_departure(Departure::Hold);
    }

    /// Its [row](crate::Member::row) in the member table, by which a [`Liveness`](crate::Liveness) knows it.
    ///
    /// # Examples
    /// See [`Liveness`](crate::Liveness).
    #[must_use]
    pub fn row(&self) -> usize {
        self.probe.row()
    }

    /// Whether the name of the ring, if it is one that processes share and has one, does not lead to it any more: who
    /// opens that name now is in another ring, or in none, and this consumer goes on in the old one. Nobody is told of that,
    /// as it takes a system call: ask now and then, or after a long wait.
    ///
    /// # Examples
    /// See package `annulus-ipc`; a ring on the heap has no name.
    /// ```
    /// # let ring = annulus_ring::Ring::builder(8).build(u64::default)?;
    /// assert!(!ring.consumer("book").join()?.is_unlinked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_unlinked(&self) -> bool {
        self.probe.memory.region().is_unlinked()
    }

    /// Says that this thread alone moves it, until it is dropped or bound to another thread.
    ///
    /// A producer of the same ring that waits on this thread for free slots which only this consumer could make
    /// would wait for ever. With this said, it fails with
    /// [`ClaimError::HeldUpByOwnStage`](crate::ClaimError::HeldUpByOwnStage), when it would have begun to wait. It
    /// costs nothing while there are free slots. If it is not true, and another thread moves the consumer, such a
    /// call fails where it could have waited.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(2).build(u64::default)?;
    /// let mut book = ring.consumer("book").join()?;
    /// book.bind_to_this_thread();
    /// let mut feed = ring.producer()?;
    /// feed.publish_batch(2, |_| ())?;
    /// let error = feed.publish(|price| *price = 7).unwrap_err(); // and not never
    /// assert!(matches!(error, ClaimError::HeldUpByOwnStage { .. }));
    /// drop(book.next_batch()?);
    /// feed.publish(|price| *price = 7)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_to_this_thread(&mut self) {
        self.bound = Bound::to_this_thread(&self.probe.memory, self.probe.row());
    }

    /// Poisons the ring: everybody's next call, and every wait, fails with this reason. The first poison
    /// stays. For when what has been read must not be acted upon.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// book.poison(42);
    /// let Err(ClaimError::Poisoned(poisoned)) = feed.publish_value(7).map_err(|e| e.cause) else {
    ///     panic!("published");
    /// };
    /// assert_eq!((poisoned.reason, poisoned.row), (42, Some(0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poison(&self, reason: u32) {
        poison(&self.probe.memory, Some(self.probe.row()), reason);
    }

    /// The sequences that it has stepped over because they carry no event, since it was last asked: in order, what
    /// lies side by side as one. Empty unless it was [told](crate::ConsumerBuilder::list_skipped) to keep them: they
    /// take memory until they are taken.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Producers, Ring};
    /// # let ring = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
    /// # let mut feed = ring.shared_producer()?;
    /// let mut book = ring.consumer("book").list_skipped().join()?;
    /// drop(feed.claim(2)?);
    /// feed.publish_value(7)?;
    /// assert_eq!(book.next_batch()?[0], 7);
    /// assert_eq!(book.take_skipped(), [0..2]);
    /// assert_eq!(book.take_skipped(), []);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_skipped(&mut self) -> Vec<Range<Sequence>> {
        self.probe.take_stepped_over()
    }

    /// How long to sleep at most before another look: members that it waits for may die unseen.
    pub(crate) fn longest_sleep(&self) -> Option<Duration> {
        let most = self.require_producer.then_some(LONGEST_SLEEP);
        self.probe.longest_sleep().or(most)
    }

    pub(crate) fn give_up_the_duty(&self) {
        self.probe.give_up_the_duty();
    }

    /// Whether the next call for a batch would not wait: there are events, there will be none, or it has waited for a
    /// successor of a dead consumer for long enough.
    pub(crate) fn is_ready(&mut self, was_short: bool) -> bool {
        if self.has_something() {
            return true;
        }
        if self.watch.is_due(was_short) {
            self.probe.look_for_the_dead();
            return self.has_something()
                || self.has_no_producer()
                || self.held_too_long().is_some();
        }
        false
    }

    /// The row of the dead consumer whose successor it has waited for too long, if that is so.
    fn held_too_long(&mut self) -> Option<usize> {
        let held_up_by = self.probe.held_up_by();
        held_too_long(&self.probe.memory, held_up_by, &mut self.watch)
    }

    fn has_something(&mut self) -> bool {
        self.probe.look(Reach::OneBatch) > self.probe.read() || self.what_ended_it().is_some()
    }

    pub(crate) fn what_wakes(&self) -> &EventCount {
        self.probe.what_wakes()
    }

    pub(crate) fn parking(&self) -> Option<Fences> {
        self.probe.memory.region().parking
    }

    /// Returns up to where events can be read.
    #[inline]
    fn batch(&mut self, to: Sequence) -> Batch<'_, T> {
        Batch::new(&mut self.probe, to, self.batch_limit)
    }

    #[inline]
    fn events_at_hand(&mut self, patience: Patience) -> Option<Sequence> {
        if self.probe.has_drained_a_backlog() && !matches!(patience, Patience::None) {
            let_batches_grow(self.probe.memory.capacity());
        }
        if (self.probe.memory.header().status.signal()).concerns_consumers() {
            return None; // As a consumer that waits is told.
        }
        let to = self.probe.look(Reach::Backlog);
        (to > self.probe.read()).then_some(to)
    }

    #[cold]
    fn wait_for_good(&mut self) -> Result<Sequence, Ended> {
        self.wait_at_the_front(Patience::Forever)
            .map_err(NotReady::for_good)
    }

    #[cold]
    fn wait_at_the_front(&mut self, patience: Patience) -> Result<Sequence, NotReady> {
        let mut waiter = Waiter::new(self.wait, patience, self.parking()).knowing(self.clock);
        let to = self.wait_by(&mut waiter);
        self.clock = waiter.clock();
        self.waits.add(&waiter);
        if waiter.has_parked() {
            self.probe.give_up_the_duty();
        }
        if to.is_ok() {
            self.watch.rest();
        }
        to
    }

    fn wait_by(&mut self, waiter: &mut Waiter) -> Result<Sequence, NotReady> {
        loop {
            if let Some(ended) = self.what_ended_it() {
                return Err(ended.into());
            }
            let read = self.probe.read();
            let to = self.probe.look(Reach::OneBatch);
            if to > self.probe.read() {
                return Ok(to);
            }
            if self.probe.read() > read {
                continue; // What it has stepped over may have been the last: nobody would wake it.
            }
            if self.watch.is_due(waiter.was_short) {
                self.probe.look_for_the_dead();
                if self.has_no_producer() {
                    return Err(NotReady::NoProducer);
                }
                if let Some(row) = self.held_too_long() {
                    return Err(NotReady::Held { row });
                }
                if self.require_name && self.is_unlinked() {
                    return Err(NotReady::Unlinked);
                }
                continue;
            }
            if !waiter.pause(self.probe.what_wakes(), || self.longest_sleep()) {
                return Err(if self.probe.is_gated() {
                    match self.held_too_long() {
                        Some(row) => NotReady::Held { row },
                        None => NotReady::Gated,
                    }
                } else if self.has_no_producer() {
                    NotReady::NoProducer
                } else {
                    NotReady::Idle
                });
            }
        }
    }

    /// Whether it is to say so, and nobody lives who could publish anything.
    fn has_no_producer(&mut self) -> bool {
        // By then nothing more comes of who was there before: what is, is looked at after that.
        self.require_producer
            && !a_producer_lives(&self.probe.memory)
            && self.probe.look(Reach::OneBatch) == self.probe.read()
            && self.probe.has_read_all()
    }

    /// Why there will be no more events, if so.
    fn what_ended_it(&mut self) -> Option<Ended> {
        let signal = self.probe.memory.header().status.signal();
        if signal.is_cut() {
            return Some(why_cut(signal));
        }
        if (signal.is_evicting() || self.probe.is_evicted())
            && let Some(lost) = self.probe.heed_eviction()
        {
            self.bound = None; // Its row may be another's.
            return Some(Ended::Evicted { lost });
        }
        if self.probe.is_corrupt() {
            return Some(Ended::Unusable(Unusable::Corrupt));
        }
        // INVARIANT R7: done means closed first, and then read to the end that is final. By the same look at
        // the signals: who hears of a poison may close the ring before another look.
        (signal.is_closed() && self.probe.has_read_all()).then_some(Ended::Closed)
    }
}

pub(crate) fn why_cut(signal: Signal) -> Ended {
    match signal.poisoned() {
        Some(poisoned) if !signal.is_inherited() => Ended::Poisoned(poisoned),
        _ => Ended::Unusable(Unusable::Inherited),
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

/// There will be no more events.
///
/// # Examples
/// ```
/// # use annulus_ring::{Ended, Ring};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let mut book = ring.consumer("book").join()?;
/// drop(ring.producer()?); // the last producer closes the ring
/// assert_eq!(book.next_batch().unwrap_err(), Ended::Closed);
/// ring.poison(42);
/// assert!(matches!(book.next_batch(), Err(Ended::Poisoned(poisoned)) if poisoned.reason == 42));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The ring is closed and everything has been read.
    Closed,
    /// The ring was poisoned; there may be more in it, and nobody gets it.
    Poisoned(Poisoned),
    /// It [requires](crate::ConsumerBuilder::require_producer) a producer, none lives, and what was published has been
    /// read. The ring is not closed: one may come.
    NoProducer,
    /// A dead consumer that it comes after is [held](crate::OnDeath::Hold), and nobody has taken its place in the
    /// [time](crate::ConsumerBuilder::hold_for) it wanted to be waited for.
    Held {
        /// The [row](crate::Member::row) of the dead one.
        row: usize,
    },
    /// It [requires](crate::ConsumerBuilder::require_name) the ring's name, and that leads to another ring by now, or to
    /// none. What was published here has been read; more may come.
    Unlinked,
    /// It was taken [out of the ring](crate::Ring::evict): what it had not released may be overwritten.
    Evicted {
        /// How many published sequences it had not released then.
        lost: u64,
    },
    /// Nothing can be done with the ring.
    Unusable(Unusable),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the ring is closed, and everything in it has been read"),
            Self::Poisoned(poisoned) => poisoned.fmt(f),
            Self::NoProducer => f.write_str(
                "no producer of the ring lives, and everything in it has been read: start one, or go",
            ),
            Self::Held { row } => held(f, *row),
            Self::Unlinked => f.write_str(
                "the ring's name leads to another ring by now, or to none: open it anew, what comes is published there",
            ),
            Self::Evicted { lost } => write!(
                f,
                "the consumer was evicted from the ring, and lost {lost} published events that it had not released: \
                 join again to go on with what comes"
            ),
            Self::Unusable(cause) => cause.fmt(f),
        }
    }
}

debug_as_text!(Ended);

impl Error for Ended {}

/// Why there is no batch.
///
/// # Examples
/// ```
/// # use annulus_ring::{NotReady, Ring};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let mut book = ring.consumer("book").join()?;
/// let feed = ring.producer()?;
/// let error = book.try_next_batch().unwrap_err();
/// assert_eq!(error, NotReady::Idle);
/// assert_eq!(error.to_string(), "no event is published that has not been read: try later");
/// drop(feed);
/// assert_eq!(book.try_next_batch().unwrap_err(), NotReady::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReady {
    /// The next event is not published.
    Idle,
    /// The next event is published, but a consumer that this one comes after has not released it.
    Gated,
    /// The ring is closed and everything has been read.
    Closed,
    /// The ring was poisoned; there may be more in it, and nobody gets it.
    Poisoned(Poisoned),
    /// It [requires](crate::ConsumerBuilder::require_producer) a producer, none lives, and what was published has been
    /// read. The ring is not closed: one may come.
    NoProducer,
    /// As [`Ended::Held`].
    Held {
        /// The [row](crate::Member::row) of the dead one.
        row: usize,
    },
    /// As [`Ended::Unlinked`].
    Unlinked,
    /// As [`Ended::Evicted`].
    Evicted {
        /// How many published sequences it had not released then.
        lost: u64,
    },
    /// Nothing can be done with the ring.
    Unusable(Unusable),
}

impl NotReady {
    /// What a wait without an end ended by.
    pub(crate) fn for_good(self) -> Ended {
        match self {
            Self::Poisoned(poisoned) => Ended::Poisoned(poisoned),
            Self::NoProducer => Ended::NoProducer,
            Self::Held { row } => Ended::Held { row },
            Self::Unlinked => Ended::Unlinked,
            Self::Evicted { lost } => Ended::Evicted { lost },
            Self::Unusable(cause) => Ended::Unusable(cause),
            Self::Closed | Self::Idle | Self::Gated => Ended::Closed, // The last two end no such wait.
        }
    }
}

impl From<Ended> for NotReady {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Closed => Self::Closed,
            Ended::Poisoned(poisoned) => Self::Poisoned(poisoned),
            Ended::NoProducer => Self::NoProducer,
            Ended::Held { row } => Self::Held { row },
            Ended::Unlinked => Self::Unlinked,
            Ended::Evicted { lost } => Self::Evicted { lost },
            Ended::Unusable(cause) => Self::Unusable(cause),
        }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("no event is published that has not been read: try later"),
            Self::Gated => f.write_str(
                "the next event waits for a consumer that this one comes after: try later",
            ),
            Self::Closed => Ended::Closed.fmt(f),
            Self::Poisoned(poisoned) => poisoned.fmt(f),
            Self::NoProducer => Ended::NoProducer.fmt(f),
            Self::Held { row } => held(f, *row),
            Self::Unlinked => Ended::Unlinked.fmt(f),
            Self::Evicted { lost } => Ended::Evicted { lost: *lost }.fmt(f),
            Self::Unusable(cause) => cause.fmt(f),
        }
    }
}

debug_as_text!(NotReady);

impl Error for NotReady {}

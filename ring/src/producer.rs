//! Exclusive write access as a value: a producer claims slots, writes them in place, publishes them.

use std::error::Error;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Index, IndexMut, Range};
use std::time::Instant;

use crate::claim::{ClaimError, Claimer};
use crate::refusal::ProducerError;
use crate::region::{Memory, Run};
use crate::ring::{Producers, Ring, poison};
use crate::sequence::Sequence;
use crate::wait::{Patience, Wait, Waits};

/// Publishes events; the only producer of its ring, or one of many as a [`SharedProducer`].
///
/// Every way to publish comes in three forms: the plain one waits while the ring is full, the `try_`
/// form does not, and the `_deadline` form waits until some instant. Nothing is written, no closure
/// is called and no value is lost unless the slots could be claimed. A batch is published by one
/// store: consumers see all of it or nothing.
///
/// On a thread that also moves a consumer of the ring, a call could wait for what that consumer has in hand: for
/// itself. If the consumer is [bound to the thread](crate::Consumer::bind_to_this_thread), it fails instead.
///
/// A closure that panics gives its claim up: with one producer the slots are free again, with many
/// they are skipped by consumers. When the last producer is dropped the ring is closed.
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let book = ring.consumer("book").join()?;
/// let mut feed = ring.producer()?;
/// feed.publish(|price| *price = 585)?;
/// feed.publish_value(586)?;
/// feed.publish_batch(3, |slots| slots.for_each(|price| *price = 587))?;
/// assert_eq!((feed.free()?, feed.capacity()), (3, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer<T> {
    claimer: Claimer<T>,
}

impl<T> Producer<T> {
    pub(crate) fn new(claimer: Claimer<T>) -> Self {
        Self { claimer }
    }

    /// Sets how this producer waits for free slots.
    ///
    /// # Errors
    /// If it is to park, and the ring was built without [parking](crate::RingBuilder::parking).
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ProducerError, Ring, Wait};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let feed = ring.producer()?.with_wait(Wait::Spin)?;
    /// assert_eq!(feed.with_wait(Wait::Park).unwrap_err(), ProducerError::NoParking);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_wait(mut self, wait: Wait) -> Result<Self, ProducerError> {
        if wait == Wait::Park && self.claimer.memory.region().parking.is_none() {
            return Err(ProducerError::NoParking);
        }
        self.claimer.wait = wait;
        Ok(self)
    }

    /// Has it told when it waits for free slots of a ring in shared memory, and the ring's name does not lead to it any
    /// more: [`ClaimError::Unlinked`]. By default it waits on, for the consumers that have the old ring open. On the heap
    /// it has no effect.
    ///
    /// # Examples
    /// See package `annulus-ipc`.
    #[must_use = "it is this producer, which is told"]
    pub fn require_name(mut self) -> Self {
        self.claimer.require_name = true;
        self
    }

    /// Publishes one event, written in place by `write`, and returns its sequence.
    ///
    /// The slot holds what the factory or an earlier lap left there.
    ///
    /// # Errors
    /// [`ClaimError::Closed`] and [`ClaimError::Poisoned`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// assert_eq!(feed.publish(|price| *price = 5_853_300)?, 0);
    /// assert_eq!(feed.publish(|price| *price = 5_853_200)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish(&mut self, write: impl FnOnce(&mut T)) -> Result<Sequence, ClaimError> {
        self.publish_one(Patience::Forever, write)
    }

    /// Publishes one event if a slot is free.
    ///
    /// # Errors
    /// As [`Producer::publish`]; [`ClaimError::Full`], and [`ClaimError::TooFewConsumers`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(1).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// assert_eq!(feed.try_publish(|price| *price = 1), Ok(0));
    /// assert_eq!(feed.try_publish(|price| *price = 2), Err(ClaimError::Full { free: 0 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_publish(&mut self, write: impl FnOnce(&mut T)) -> Result<Sequence, ClaimError> {
        self.publish_one(Patience::None, write)
    }

    /// Publishes one event if a slot is free before `deadline`.
    ///
    /// # Errors
    /// As [`Producer::publish`], and [`ClaimError::Full`] if the ring is still full then.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(1).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(feed.publish_deadline(deadline, |price| *price = 585), Ok(0));
    /// let late = feed.publish_deadline(deadline, |price| *price = 586);
    /// assert_eq!(late, Err(ClaimError::Full { free: 0 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish_deadline(
        &mut self,
        deadline: Instant,
        write: impl FnOnce(&mut T),
    ) -> Result<Sequence, ClaimError> {
        self.publish_one(Patience::Until(deadline), write)
    }

    /// Publishes `value`, dropping what was in its slot, and returns its sequence.
    ///
    /// # Errors
    /// As [`Producer::publish`]; the value is handed back.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(String::new)?;
    /// let mut log = ring.consumer("log").join()?;
    /// let mut feed = ring.producer()?;
    /// assert_eq!(feed.publish_value("open".to_owned())?, 0);
    /// assert_eq!(log.next_batch()?[0], "open");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish_value(&mut self, value: T) -> Result<Sequence, Rejected<T>> {
        self.publish_one_value(Patience::Forever, value)
    }

    /// Publishes `value` if a slot is free.
    ///
    /// # Errors
    /// As [`Producer::try_publish`]; the value is handed back.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(1).build(String::new)?;
    /// let log = ring.consumer("log").join()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value("first".to_owned())?;
    /// let rejected = feed.try_publish_value("second".to_owned()).unwrap_err();
    /// assert_eq!(rejected.cause, ClaimError::Full { free: 0 });
    /// assert_eq!(rejected.value, "second");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_publish_value(&mut self, value: T) -> Result<Sequence, Rejected<T>> {
        self.publish_one_value(Patience::None, value)
    }

    /// Publishes `value` if a slot is free before `deadline`.
    ///
    /// # Errors
    /// As [`Producer::publish_deadline`]; the value is handed back.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(1).build(String::new)?;
    /// let log = ring.consumer("log").join()?;
    /// let mut feed = ring.producer()?;
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// feed.publish_value_deadline(deadline, "first".to_owned())?;
    /// let rejected = feed.publish_value_deadline(deadline, "second".to_owned()).unwrap_err();
    /// assert_eq!(rejected.value, "second");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish_value_deadline(
        &mut self,
        deadline: Instant,
        value: T,
    ) -> Result<Sequence, Rejected<T>> {
        self.publish_one_value(Patience::Until(deadline), value)
    }

    /// Publishes `n` events, written in place by `write`, as a whole, and returns their sequences.
    ///
    /// With `n` = 0 nothing is published. A long batch may have to wait for long while other
    /// producers claim short ones: there is no fairness between them.
    ///
    /// # Errors
    /// As [`Producer::publish`], and [`ClaimError::TooLong`] if `n` exceeds the capacity.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// let published = feed.publish_batch(3, |slots| {
    ///     for (slot, price) in slots.zip([5_853_300, 5_853_200, 5_853_100]) {
    ///         *slot = price;
    ///     }
    /// })?;
    /// assert_eq!(published, 0..3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish_batch(
        &mut self,
        n: usize,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Result<Range<Sequence>, ClaimError> {
        self.publish_many(n, Patience::Forever, write)
    }

    /// Publishes `n` events if so many slots are free.
    ///
    /// # Errors
    /// As [`Producer::publish_batch`], and [`ClaimError::Full`], with what would have fitted.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// assert_eq!(feed.try_publish_batch(6, |_| ()), Ok(0..6));
    /// assert_eq!(feed.try_publish_batch(6, |_| ()), Err(ClaimError::Full { free: 2 }));
    /// assert_eq!(feed.try_publish_batch(2, |_| ()), Ok(6..8));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_publish_batch(
        &mut self,
        n: usize,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Result<Range<Sequence>, ClaimError> {
        self.publish_many(n, Patience::None, write)
    }

    /// Publishes `n` events if so many slots are free before `deadline`.
    ///
    /// # Errors
    /// As [`Producer::publish_batch`], and [`ClaimError::Full`], with what would have fitted then.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(feed.publish_batch_deadline(6, deadline, |_| ()), Ok(0..6));
    /// let late = feed.publish_batch_deadline(6, deadline, |_| ());
    /// assert_eq!(late, Err(ClaimError::Full { free: 2 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish_batch_deadline(
        &mut self,
        n: usize,
        deadline: Instant,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Result<Range<Sequence>, ClaimError> {
        self.publish_many(n, Patience::Until(deadline), write)
    }

    /// Claims `n` slots, to be written at leisure and published by [`Claim::publish`].
    ///
    /// Consumers, and with many producers everything that others publish later, wait behind a claim:
    /// do not keep it for long. Dropped, it is given up; see [`Claim`].
    ///
    /// # Errors
    /// As [`Producer::publish_batch`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// let mut claim = feed.claim(2)?;
    /// claim[0] = 5_853_300;
    /// claim[1] = 5_853_200;
    /// assert_eq!(claim.publish(), 0..2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn claim(&mut self, n: usize) -> Result<Claim<'_, T>, ClaimError> {
        self.claim_many(n, Patience::Forever)
    }

    /// Claims `n` slots if so many are free.
    ///
    /// # Errors
    /// As [`Producer::try_publish_batch`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(1).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// let mut claim = feed.try_claim(1)?;
    /// claim[0] = 7;
    /// claim.publish();
    /// assert_eq!(feed.try_claim(1).unwrap_err(), ClaimError::Full { free: 0 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_claim(&mut self, n: usize) -> Result<Claim<'_, T>, ClaimError> {
        self.claim_many(n, Patience::None)
    }

    /// Claims `n` slots if so many are free before `deadline`.
    ///
    /// # Errors
    /// As [`Producer::publish_batch_deadline`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # use std::time::{Duration, Instant};
    /// # let ring = Ring::builder(1).build(u64::default)?;
    /// let book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// feed.claim_deadline(1, deadline)?.publish();
    /// assert_eq!(feed.claim_deadline(1, deadline).unwrap_err(), ClaimError::Full { free: 0 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn claim_deadline(
        &mut self,
        n: usize,
        deadline: Instant,
    ) -> Result<Claim<'_, T>, ClaimError> {
        self.claim_many(n, Patience::Until(deadline))
    }

    /// How often it has waited for free slots.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// assert_eq!(feed.waits().waited, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.claimer.waits
    }

    /// How many slots are free, exactly, at some moment of the call.
    ///
    /// Consumers may release more at any time and, with many producers, others may claim them.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    ///
    /// # Examples
    /// See [`Producer`].
    pub fn free(&mut self) -> Result<usize, ClaimError> {
        self.claimer.free()
    }

    /// The number of slots of the ring.
    ///
    /// # Examples
    /// See [`Producer`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.claimer.capacity()
    }

    /// Its [row](crate::Member::row) in the member table, by which a [`Liveness`](crate::Liveness) knows it.
    ///
    /// # Examples
    /// See [`Ring::succeed_producer`].
    #[must_use]
    pub fn row(&self) -> usize {
        self.claimer.row()
    }

    /// Whether the name of the ring, if it is one that processes share and has one, does not lead to it any more: who
    /// opens that name now is in another ring, or in none, and this producer goes on in the old one. Nobody is told of that,
    /// as it takes a system call: ask now and then, or after a long wait.
    ///
    /// # Examples
    /// See package `annulus-ipc`; a ring on the heap has no name.
    /// ```
    /// # let ring = annulus_ring::Ring::builder(8).build(u64::default)?;
    /// assert!(!ring.producer()?.is_unlinked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_unlinked(&self) -> bool {
        self.claimer.memory.region().is_unlinked()
    }

    /// Poisons the ring, as [`Consumer::poison`](crate::Consumer::poison).
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Ended, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut book = ring.consumer("book").join()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// feed.poison(42); // that price was wrong
    /// assert!(matches!(book.next_batch(), Err(Ended::Poisoned(poisoned)) if poisoned.reason == 42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poison(&self, reason: u32) {
        poison(&self.claimer.memory, Some(self.claimer.row()), reason);
    }

    #[inline]
    fn publish_one(
        &mut self,
        patience: Patience,
        write: impl FnOnce(&mut T),
    ) -> Result<Sequence, ClaimError> {
        self.publish_one_with(patience, (), |slot, ()| write(slot))
            .map_err(|rejected| rejected.cause)
    }

    #[inline]
    fn publish_one_value(&mut self, patience: Patience, value: T) -> Result<Sequence, Rejected<T>> {
        self.publish_one_with(patience, value, |slot, value| *slot = value)
    }

    /// Publishes one event made of `value`, or hands that back.
    #[inline(always)] // Once it is known whose it is, what one producer does is a straight line.
    fn publish_one_with<V>(
        &mut self,
        patience: Patience,
        value: V,
        write: impl FnOnce(&mut T, V),
    ) -> Result<Sequence, Rejected<V>> {
        match self.claimer.producers() {
            Producers::One => self.publish_one_of(Producers::One, patience, value, write),
            Producers::Many => self.publish_one_of_many(patience, value, write),
        }
    }

    #[inline(never)] // It would be in the way of one producer.
    fn publish_one_of_many<V>(
        &mut self,
        patience: Patience,
        value: V,
        write: impl FnOnce(&mut T, V),
    ) -> Result<Sequence, Rejected<V>> {
        self.publish_one_of(Producers::Many, patience, value, write)
    }

    #[inline(always)] // As `publish_one_with`.
    fn publish_one_of<V>(
        &mut self,
        producers: Producers,
        patience: Patience,
        value: V,
        write: impl FnOnce(&mut T, V),
    ) -> Result<Sequence, Rejected<V>> {
        let mut claim = match self.claim_of(producers, 1, patience) {
            Ok(claim) => claim,
            Err(cause) => return Err(Rejected { value, cause }),
        };
        write(&mut claim[0], value);
        Ok(claim.publish().start)
    }

    #[inline]
    fn publish_many(
        &mut self,
        n: usize,
        patience: Patience,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Result<Range<Sequence>, ClaimError> {
        let mut claim = self.claim_many(n, patience)?;
        write(claim.iter_mut());
        Ok(claim.publish())
    }

    #[inline]
    fn claim_many(&mut self, n: usize, patience: Patience) -> Result<Claim<'_, T>, ClaimError> {
        self.claim_of(self.claimer.producers(), n, patience)
    }

    #[inline(always)] // As `publish_one_with`.
    fn claim_of(
        &mut self,
        producers: Producers,
        n: usize,
        patience: Patience,
    ) -> Result<Claim<'_, T>, ClaimError> {
        let lo = self.claimer.claim(producers, n, patience)?;
        Ok(Claim {
            producers,
            lo,
            hi: lo + n as u64,
            claimer: &mut self.claimer,
        })
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// One of many producers of a ring; a [`Producer`] that can be cloned.
///
/// All that is published falls into one order, the same for every consumer. A producer that is stopped
/// between claim and publication holds up what others publish after it, until it goes on, drops the
/// claim, or is dropped.
///
/// # Examples
/// ```
/// # use annulus_ring::{Producers, Ring};
/// let ring = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
/// let mut book = ring.consumer("book").join()?;
/// let mut trades = ring.shared_producer()?;
/// let mut quotes = trades.try_clone()?;
/// let quoting = std::thread::spawn(move || quotes.publish_value(100));
/// trades.publish_value(1)?;
/// drop(trades);
///
/// let mut sum = 0;
/// while let Ok(batch) = book.next_batch() {
///     sum += batch.iter().sum::<u64>();
/// } // the ring is closed once both producers are gone
/// quoting.join().unwrap()?;
/// assert_eq!(sum, 101);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedProducer<T>(Producer<T>);

impl<T> SharedProducer<T> {
    pub(crate) fn new(claimer: Claimer<T>) -> Self {
        Self(Producer::new(claimer))
    }

    /// Sets how this producer waits for free slots.
    ///
    /// # Errors
    /// As [`Producer::with_wait`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Producers, Ring, Wait};
    /// let ring = Ring::builder(8).producers(Producers::Many).parking().build(u64::default)?;
    /// let mut feed = ring.shared_producer()?.with_wait(Wait::Park)?;
    /// feed.publish_value(7)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_wait(self, wait: Wait) -> Result<Self, ProducerError> {
        self.0.with_wait(wait).map(Self)
    }

    /// Has it told that the ring's name does not lead to it any more, as [`Producer::require_name`].
    ///
    /// # Examples
    /// See package `annulus-ipc`.
    #[must_use = "it is this producer, which is told"]
    pub fn require_name(self) -> Self {
        Self(self.0.require_name())
    }

    /// One more producer of the same ring, which waits in the same way.
    ///
    /// # Errors
    /// [`ProducerError::TableFull`] if the member table has no row left.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ProducerError, Producers, Ring};
    /// let ring = Ring::builder(8).producers(Producers::Many).members(2).build(u64::default)?;
    /// let first = ring.shared_producer()?;
    /// let second = first.try_clone()?;
    /// assert!(matches!(first.try_clone().unwrap_err(), ProducerError::TableFull { .. }));
    /// drop(second);
    /// assert!(first.try_clone().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_clone(&self) -> Result<Self, ProducerError> {
        let claimer = &self.0.claimer;
        Ring::of(claimer.memory.clone())
            .shared_producer()?
            .with_wait(claimer.wait)
    }
}

impl<T> Deref for SharedProducer<T> {
    type Target = Producer<T>;

    fn deref(&self) -> &Producer<T> {
        &self.0
    }
}

impl<T> DerefMut for SharedProducer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Producer<T> {
        &mut self.0
    }
}

impl<T> fmt::Debug for SharedProducer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedProducer")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// The exclusive right to write some slots, until it is published or dropped.
///
/// Dropped, also by a panic, it gives its slots back if the ring has one producer, and publishes that
/// they carry no event if it has many. Leaked by [`std::mem::forget`], it does so when its producer is
/// used or dropped next; until then everything behind it waits.
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// # let mut feed = ring.producer()?;
/// let mut claim = feed.claim(2)?;
/// assert_eq!((claim.sequences(), claim.len()), (0..2, 2));
/// for (slot, price) in claim.iter_mut().zip([585, 586]) {
///     *slot = price;
/// }
/// claim.publish();
/// drop(feed.claim(2)?); // gives its slots back
/// assert_eq!(feed.claim(1)?.publish(), 2..3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a claim that is dropped publishes nothing"]
pub struct Claim<'p, T> {
    claimer: &'p mut Claimer<T>,
    producers: Producers,
    lo: Sequence,
    hi: Sequence,
}

impl<T> Claim<'_, T> {
    /// Publishes all of it, by one store, and returns the sequences.
    ///
    /// # Examples
    /// See [`Claim`].
    #[inline]
    pub fn publish(self) -> Range<Sequence> {
        // It is given up by nobody, whatever the compiler thinks may panic from here on: what would undo
        // it is then not in the way, of registers above all.
        let mut claim = ManuallyDrop::new(self);
        let (producers, published) = (claim.producers, claim.sequences());
        claim
            .claimer
            .publish(producers, published.start, published.end);
        published
    }

    /// The sequences that it covers.
    ///
    /// # Examples
    /// See [`Claim`].
    #[inline]
    #[must_use]
    pub fn sequences(&self) -> Range<Sequence> {
        self.lo..self.hi
    }

    /// The number of slots.
    ///
    /// # Examples
    /// See [`Claim`].
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        (self.hi - self.lo) as usize
    }

    /// Whether it covers nothing, being a claim of 0 slots.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// # let mut feed = ring.producer()?;
    /// let orders: Vec<u64> = Vec::new();
    /// let claim = feed.claim(orders.len())?;
    /// assert!(claim.is_empty());
    /// assert_eq!(claim.publish(), 0..0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lo == self.hi
    }

    /// The slots, in the order of their sequences.
    ///
    /// # Examples
    /// See [`Claim`].
    #[inline]
    pub fn iter_mut(&mut self) -> Slots<'_, T> {
        Slots::new(&self.claimer.memory, self.lo..self.hi)
    }

    /// The slots as two slices, one behind the other: up to the last slot of the ring, and from its
    /// first slot on. Nothing in the layout [`Beside`](crate::Layout::Beside), where stamps lie between
    /// events.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Layout, Ring};
    /// # let ring = Ring::builder(8).layout(Layout::Apart).build(u8::default)?;
    /// let mut feed = ring.producer()?;
    /// let mut claim = feed.claim(4)?;
    /// if let Some((first, second)) = claim.as_mut_slices() {
    ///     let (here, there) = b"ring".split_at(first.len());
    ///     first.copy_from_slice(here);
    ///     second.copy_from_slice(there);
    /// }
    /// claim.publish();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(not(loom))]
    #[inline]
    pub fn as_mut_slices(&mut self) -> Option<(&mut [T], &mut [T])> {
        let [first, second] = self.claimer.memory.runs(self.lo, self.hi)?;
        // SAFETY: R2, as in `index_mut`, for each of the slots; they lie one behind the other.
        let first = unsafe { std::slice::from_raw_parts_mut(first.0.as_ptr(), first.1) };
        // SAFETY: as above; none is in both, as a claim is not more than a lap.
        let second = unsafe { std::slice::from_raw_parts_mut(second.0.as_ptr(), second.1) };
        Some((first, second))
    }

    #[inline]
    fn sequence_of(&self, index: usize) -> Sequence {
        assert!(
            index < self.len(),
            "slot {index} of a claim of {}",
            self.len()
        );
        self.lo + index as u64
    }
}

impl<T> Drop for Claim<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.lo < self.hi {
            self.claimer.abandon(self.lo, self.hi);
        }
    }
}

/// # Panics
/// If the index is not below the length.
impl<T> Index<usize> for Claim<'_, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        let event = self.claimer.memory.to_read(self.sequence_of(index));
        // SAFETY: R2: the claim is the only access to its slots; `&self` borrows it.
        unsafe { &*event }
    }
}

/// # Panics
/// If the index is not below the length.
impl<T> IndexMut<usize> for Claim<'_, T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        let event = self.claimer.memory.to_write(self.sequence_of(index));
        // SAFETY: R2: the claim is the only access to its slots; `&mut self` borrows it.
        unsafe { &mut *event }
    }
}

impl<'c, T> IntoIterator for &'c mut Claim<'_, T> {
    type Item = &'c mut T;
    type IntoIter = Slots<'c, T>;

    #[inline]
    fn into_iter(self) -> Slots<'c, T> {
        self.iter_mut()
    }
}

impl<T> fmt::Debug for Claim<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("sequences", &self.sequences())
            .finish_non_exhaustive()
    }
}

/// The slots of a claim, one after the other.
///
/// A slot cannot be kept beyond the closure or the claim that it belongs to:
/// ```compile_fail
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default).unwrap();
/// # let mut feed = ring.producer().unwrap();
/// let mut kept = None;
/// feed.publish_batch(1, |mut slots| kept = slots.next()).unwrap();
/// ```
/// What it holds can:
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default).unwrap();
/// # let mut feed = ring.producer().unwrap();
/// let mut kept = None;
/// feed.publish_batch(1, |mut slots| kept = slots.next().map(|slot| *slot)).unwrap();
/// ```
pub struct Slots<'c, T>(Run<'c, T>);

impl<'c, T> Slots<'c, T> {
    /// Of who alone may write these, for as long as `memory` is borrowed.
    pub(crate) fn new(memory: &'c Memory<T>, left: Range<Sequence>) -> Self {
        Self(memory.run(left))
    }
}

impl<'c, T> Iterator for Slots<'c, T> {
    type Item = &'c mut T;

    #[inline]
    fn next(&mut self) -> Option<&'c mut T> {
        let event = self.0.next_to_write()?;
        // SAFETY: R2: the claim, mutably borrowed for `'c`, is the only access to its slots (or the batch
        // of a mutable consumer is, R4), and each of its sequences, which lie in different slots, is
        // handed out once.
        Some(unsafe { &mut *event })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for Slots<'_, T> {}

impl<T> fmt::Debug for Slots<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("left", self.0.left())
            .finish_non_exhaustive()
    }
}

/// A value that was not published, handed back with the cause.
///
/// # Examples
/// ```
/// # use annulus_ring::{Rejected, Ring};
/// # let ring = Ring::builder(1).build(String::new)?;
/// # let mut log = ring.consumer("log").join()?;
/// # let mut feed = ring.producer()?;
/// feed.publish_value("first".to_owned())?;
/// if let Err(Rejected { value, cause }) = feed.try_publish_value("second".to_owned()) {
///     assert!(cause.to_string().starts_with("the ring is full"));
///     drop(log.next_batch()?);
///     feed.publish_value(value)?;
/// }
/// assert_eq!(log.next_batch()?[0], "second");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<T> {
    /// The value.
    pub value: T,
    /// Why it was not published.
    pub cause: ClaimError,
}

impl<T> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value was not published: {}", self.cause)
    }
}

impl<T: fmt::Debug> Error for Rejected<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

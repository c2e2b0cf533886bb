//! Read access as a value: a consumer takes batches, reads them in place, releases them.

use std::error::Error;
use std::fmt;
use std::ops::{Index, Range};
use std::time::{Duration, Instant};

use crate::claim::held;
use crate::member::{Poisoned, Signal};
use crate::mutable::MutableConsumer;
use crate::probe::{Probe, Reach};
use crate::recover::{
    Leases, Liveness, OnDeath, a_producer_lives, free_the_dead, held_too_long, look_for_the_dead,
};
use crate::region::{Memory, Run};
use crate::ring::poison;
use crate::roster::{Entry, JoinError, Presence, Request, Roster, Start};
use crate::sequence::{LAST_SEQUENCE, Sequence};
use crate::shared::Unusable;
use crate::stamp::Reading;
use crate::wait::{EventCount, Patience, Wait, Waiter, Waits, Watch, let_batches_grow};

/// What a consumer is to be like; made by [`Ring::consumer`](crate::Ring::consumer).
///
/// # Examples
/// ```
/// # use annulus_ring::{Ring, Start};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// # let mut feed = ring.producer()?;
/// let mut journal = ring.consumer("journal").join()?;
/// feed.publish_batch(3, |slots| slots.zip(585..).for_each(|(slot, price)| *slot = price))?;
/// let mut risk = ring.consumer("risk").after(["journal"]).start(Start::At(1)).join()?;
/// drop(journal.next_batch()?);
/// assert_eq!(risk.next_batch()?[0], 586);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a consumer joins by `join`"]
pub struct ConsumerBuilder<T> {
    memory: Memory<T>,
    name: String,
    after: Vec<String>,
    start: Start,
    on_death: Option<OnDeath>,
    hold_for: Option<Duration>,
    wait: Wait,
    batch_limit: usize,
    require_producer: bool,
    list_skipped: bool,
}

impl<T> ConsumerBuilder<T> {
    pub(crate) fn new(memory: Memory<T>, name: &str) -> Self {
        Self {
            memory,
            name: name.to_owned(),
            after: Vec::new(),
            start: Start::default(),
            on_death: None,
            hold_for: None,
            wait: Wait::default(),
            batch_limit: usize::MAX,
            require_producer: false,
            list_skipped: false,
        }
    }

    /// Makes it a stage: it reads an event only after each of the consumers named has released it.
    /// They have to join before it does, so there are no cycles.
    ///
    /// # Examples
    /// See [`ConsumerBuilder`].
    pub fn after<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.after.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets the first event that it is given; by default the next one.
    ///
    /// # Examples
    /// See [`Start`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets what becomes of its gate if it dies, which only [`Ring::recover`](crate::Ring::recover) finds
    /// out. By default it is held if others come after it or it changes events, and released if not.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Liveness, OnDeath, Ring};
    /// # struct AllDead;
    /// # unsafe impl Liveness for AllDead {
    /// #     type Proof = ();
    /// #     fn prove_dead(&self, _: usize) -> Option<()> { Some(()) }
    /// # }
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let screen = ring.consumer("screen").on_death(OnDeath::Release).join()?;
    /// let journal = ring.consumer("journal").on_death(OnDeath::Hold).join()?;
    /// let (freed, held) = (vec![screen.row()], vec![journal.row()]);
    /// std::mem::forget((screen, journal)); // their threads end
    /// let recovered = ring.recover(&AllDead);
    /// assert_eq!((recovered.freed, recovered.held), (freed, held));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_death(mut self, on_death: OnDeath) -> Self {
        self.on_death = Some(on_death);
        self
    }

    /// Sets how long others wait for a successor if it dies and is [held](OnDeath::Hold), to the millisecond: a
    /// call that has waited so long for it fails, of a producer with [`ClaimError::Held`], of a stage after it with
    /// [`Ended::Held`]. By default they wait for ever. Where threads share the ring nobody knows of deaths, and it
    /// has no effect.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{OnDeath, Ring};
    /// # use std::time::Duration;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let journal = ring.consumer("journal").on_death(OnDeath::Hold).hold_for(Duration::from_secs(5)).join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`ClaimError::Held`]: crate::ClaimError::Held
    pub fn hold_for(mut self, time: Duration) -> Self {
        self.hold_for = Some(time);
        self
    }

    /// Has it told when it waits for events and no producer lives that could publish some:
    /// [`Ended::NoProducer`]. By default it waits for one to come.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Ended, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut book = ring.consumer("book").require_producer().join()?;
    /// assert_eq!(book.next_batch().unwrap_err(), Ended::NoProducer);
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!(book.next_batch()?[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn require_producer(mut self) -> Self {
        self.require_producer = true;
        self
    }

    /// Has it keep a list of what it steps over, for [`Consumer::take_skipped`].
    ///
    /// # Examples
    /// See [`Consumer::take_skipped`].
    pub fn list_skipped(mut self) -> Self {
        self.list_skipped = true;
        self
    }

    /// Sets how it waits for events.
    ///
    /// # Examples
    /// See [`Wait`].
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the most events that it takes in a batch; by default as many as there are.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut book = ring.consumer("book").batch_limit(2).join()?;
    /// ring.producer()?.publish_batch(5, |_| ())?;
    /// let batch = book.next_batch()?;
    /// assert_eq!((batch.len(), batch.backlog()), (2, 5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch_limit(mut self, events: usize) -> Self {
        self.batch_limit = events;
        self
    }

    /// Joins the ring, now, while others publish and read. From now on producers do not overwrite what it
    /// has not released.
    ///
    /// It may leave, by being dropped, at any time. Those that come after one that left then wait for what
    /// it waited for.
    ///
    /// # Errors
    /// If the name is empty, too long or taken, if it comes after a name that nobody has or does not come
    /// after one that [changes](ConsumerBuilder::join_mut) events, if it is to start where events may have
    /// been overwritten, if the batch limit is 0, if it is to park and the ring was built without, if the
    /// member table is full, or if the ring is closed or poisoned.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Ring, Start};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// # let mut feed = ring.producer()?;
    /// let journal = ring.consumer("journal").join()?;
    /// let book = ring.consumer("book").batch_limit(64).join()?;
    /// feed.publish_value(7)?;
    /// let mut risk = ring.consumer("risk").after(["journal", "book"]).start(Start::Oldest).join()?;
    /// assert_eq!(risk.position(), 0);
    /// drop((journal, book));
    /// assert_eq!(risk.next_batch()?[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(self) -> Result<Consumer<T>, JoinError> {
        self.join_as(false)
    }

    /// Joins the ring as a stage that changes events: it gets `&mut` to each, alone.
    ///
    /// That takes an order between it and every other consumer: each that has joined must be one that
    /// it comes [after](ConsumerBuilder::after), directly or through others; and each that joins later
    /// must come after it. Producers and those after it see what it wrote.
    ///
    /// # Errors
    /// As [`ConsumerBuilder::join`], and [`JoinError::Unordered`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{JoinError, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// # let mut feed = ring.producer()?;
    /// let mut enrich = ring.consumer("enrich").join_mut()?;
    /// let error = ring.consumer("beside").join().unwrap_err();
    /// assert!(matches!(error, JoinError::Unordered { .. }));
    /// let mut book = ring.consumer("book").after(["enrich"]).join()?;
    ///
    /// feed.publish_value(7)?;
    /// for price in &mut enrich.next_batch_mut()? {
    ///     *price *= 100;
    /// }
    /// assert_eq!(book.next_batch()?[0], 700);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_mut(self) -> Result<MutableConsumer<T>, JoinError> {
        self.join_as(true).map(MutableConsumer::new)
    }

    /// Goes on in the place of the consumer of this name, which has died and [held](OnDeath::Hold) its gate:
    /// where that has released, after what it came after.
    ///
    /// What that one had read and not released comes again, and what it had stepped over there is counted again; what
    /// it had counted stays. How to wait and the batch limit are this builder's, and what its death does if the builder says it; what to
    /// come after and where to start are not asked.
    ///
    /// # Errors
    /// [`JoinError::NoPredecessor`] if there is no such consumer, [`JoinError::NameTaken`] if it is not proven
    /// dead.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Liveness, OnDeath, Ring};
    /// # struct AllDead;
    /// # unsafe impl Liveness for AllDead {
    /// #     type Proof = ();
    /// #     fn prove_dead(&self, _: usize) -> Option<()> { Some(()) }
    /// # }
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let journal = ring.consumer("journal").on_death(OnDeath::Hold).join()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// std::mem::forget(journal); // its thread ends
    /// let mut journal = ring.consumer("journal").succeed(&AllDead)?;
    /// assert_eq!(journal.next_batch()?[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn succeed(self, liveness: &impl Liveness) -> Result<Consumer<T>, JoinError> {
        self.succeed_as(false, liveness)
    }

    /// As [`ConsumerBuilder::succeed`], for a stage that [changes](ConsumerBuilder::join_mut) events. Those
    /// that come again may have been changed already.
    ///
    /// # Errors
    /// As [`ConsumerBuilder::succeed`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Liveness, Ring};
    /// # struct AllDead;
    /// # unsafe impl Liveness for AllDead {
    /// #     type Proof = ();
    /// #     fn prove_dead(&self, _: usize) -> Option<()> { Some(()) }
    /// # }
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut enrich = ring.consumer("enrich").join_mut()?;
    /// ring.producer()?.publish_value(7)?;
    /// let mut batch = enrich.next_batch_mut()?;
    /// batch[0] *= 100;
    /// std::mem::forget(batch); // its thread ends before the batch does
    /// std::mem::forget(enrich);
    /// let mut enrich = ring.consumer("enrich").succeed_mut(&AllDead)?;
    /// assert_eq!(enrich.next_batch_mut()?[0], 700);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn succeed_mut(self, liveness: &impl Liveness) -> Result<MutableConsumer<T>, JoinError> {
        self.succeed_as(true, liveness).map(MutableConsumer::new)
    }

    fn succeed_as(self, mutable: bool, liveness: &impl Liveness) -> Result<Consumer<T>, JoinError> {
        self.check(mutable)?;
        let roster = self.lock()?;
        let Some(row) = roster.row_of(&self.name, mutable) else {
            let name = self.name.clone();
            return Err(JoinError::NoPredecessor { name });
        };
        let Some(_proof) = liveness.prove_dead(row) else {
            let name = self.name.clone();
            return Err(JoinError::NameTaken { name });
        };
        self.succeed_in(row, roster, &[])
    }

    /// Goes on in this row, whose consumer is dead.
    fn succeed_in(
        &self,
        row: usize,
        roster: Roster<'_, T>,
        told: &[Presence],
    ) -> Result<Consumer<T>, JoinError> {
        let name = || self.name.clone();
        let lease = (roster.take_from_the_dead(row)).map_err(|cause| cause.of_consumer(name()))?;
        // Only now: while it lived it moved.
        let Some(mut entry) = roster.entry_of(row, lease) else {
            return Err(JoinError::NoPredecessor { name: name() });
        };
        if entry.start > LAST_SEQUENCE {
            let cause = Unusable::Corrupt;
            return Err(JoinError::Unusable {
                name: name(),
                cause,
            });
        }
        if self.memory.reading(entry.start) != Reading::Unpublished {
            // INVARIANT R8: the dead one may have stored an end behind what is skipped, and not its
            // position. At a boundary the stamps tell; inside a batch the end is that of this batch.
            entry.known = entry.start;
        }
        if self.on_death.is_some() {
            roster.set_on_death(row, self.on_death);
        }
        Ok(self.joined(roster, entry, told))
    }

    fn join_as(self, mutable: bool) -> Result<Consumer<T>, JoinError> {
        self.check(mutable)?;
        let memory = &self.memory;
        let roster = self.lock()?;
        let mut told = Vec::new();
        if let Some(shared) = memory.region().shared_memory() {
            let dead = free_the_dead(memory, &roster, &Leases(shared), &mut told);
            if let Some(row) = roster.row_of(&self.name, mutable)
                && dead.held.contains(&row)
            {
                return self.succeed_in(row, roster, &told);
            }
        }
        let joined = roster.join_consumer(&Request {
            name: &self.name,
            after: &self.after,
            start: self.start,
            mutable,
            on_death: self.on_death,
        });
        match joined {
            Ok(entry) => Ok(self.joined(roster, entry, &told)),
            Err(error) => {
                roster.tell_all(&told);
                Err(error)
            }
        }
    }

    fn lock(&self) -> Result<Roster<'_, T>, JoinError> {
        Roster::lock(self.memory.region()).map_err(|cause| JoinError::Unusable {
            name: self.name.clone(),
            cause,
        })
    }

    /// What can be told without looking at the ring.
    fn check(&self, mutable: bool) -> Result<(), JoinError> {
        let name = || self.name.clone();
        if self.batch_limit == 0 {
            return Err(JoinError::BatchLimit { name: name() });
        }
        if self.wait == Wait::Park && !self.memory.region().parking {
            return Err(JoinError::NoParking { name: name() });
        }
        if mutable && self.on_death == Some(OnDeath::Release) {
            return Err(JoinError::ReleaseMutable { name: name() });
        }
        Ok(())
    }

    fn joined(&self, roster: Roster<'_, T>, entry: Entry, told: &[Presence]) -> Consumer<T> {
        let (kind, name) = roster.member(entry.row);
        self.memory.row(entry.row).hot.set_hold_for(self.hold_for);
        let is_shared = self.memory.region().shared_memory().is_some();
        let mut told = told.to_vec();
        told.push(Presence::Joined { kind, name });
        roster.tell_all(&told);
        Consumer {
            probe: Probe::new(self.memory.clone(), entry, self.list_skipped),
            require_producer: self.require_producer,
            name: self.name.clone(),
            wait: self.wait,
            batch_limit: self.batch_limit as u64,
            waits: Waits::default(),
            watch: Watch::new(is_shared || self.require_producer),
        }
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
    probe: Probe<T>,
    name: String,
    wait: Wait,
    batch_limit: u64,
    require_producer: bool,
    waits: Waits,
    watch: Watch,
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
        Ok(Batch::new(self, to))
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
        Ok(Batch::new(self, to))
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
        Ok(Batch::new(self, to))
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
        Held {
            memory: &self.probe.memory,
            next: self.probe.position(),
            batch_end: self.probe.boundary(),
            end: self.probe.read(),
        }
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
        self.probe.release(to);
    }

    /// Its [row](crate::Member::row) in the member table, by which a [`Liveness`] knows it.
    ///
    /// # Examples
    /// See [`Liveness`].
    #[must_use]
    pub fn row(&self) -> usize {
        self.probe.row()
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

    /// Whether the next call for a batch would not wait: there are events, or there will be none.
    /// The sequences that it has stepped over because they carry no event, since it was last asked: in order, what
    /// lies side by side as one. Empty unless it was [told](ConsumerBuilder::list_skipped) to keep them: they
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

    /// Whether those that it waits for may die unseen.
    pub(crate) fn is_in_company(&self) -> bool {
        self.probe.memory.region().shared_memory().is_some() || self.require_producer
    }

    pub(crate) fn is_ready(&mut self, was_short: bool) -> bool {
        if self.has_something() {
            return true;
        }
        if self.watch.is_due(was_short) {
            look_for_the_dead(&self.probe.memory);
            return self.has_something() || self.has_no_producer();
        }
        false
    }

    fn has_something(&mut self) -> bool {
        self.probe.look(Reach::OneBatch) > self.probe.read() || self.what_ended_it().is_some()
    }

    pub(crate) fn what_wakes(&self) -> &EventCount {
        self.probe.what_wakes()
    }

    pub(crate) fn may_park(&self) -> bool {
        self.probe.memory.region().parking
    }

    /// Returns up to where events can be read.
    #[inline]
    fn events_at_hand(&mut self, patience: Patience) -> Option<Sequence> {
        if self.probe.has_drained_a_backlog() && !matches!(patience, Patience::None) {
            let_batches_grow(self.probe.memory.capacity());
        }
        if self.probe.memory.header().status.signal().is_cut() {
            return None; // As whoever waits is told.
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
        let mut waiter = Waiter::new(self.wait, patience, self.is_in_company());
        let to = self.wait_by(&mut waiter);
        self.waits.add(&waiter);
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
                look_for_the_dead(&self.probe.memory);
                if self.has_no_producer() {
                    return Err(NotReady::NoProducer);
                }
                let held_up_by = self.probe.held_up_by();
                let memory = &self.probe.memory;
                if let Some(row) = held_too_long(memory, held_up_by, &mut self.watch) {
                    return Err(NotReady::Held { row });
                }
                continue;
            }
            if !waiter.pause(self.probe.what_wakes()) {
                return Err(if self.probe.is_gated() {
                    NotReady::Gated
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
    fn what_ended_it(&self) -> Option<Ended> {
        let signal = self.probe.memory.header().status.signal();
        if signal.is_cut() {
            return Some(why_cut(signal));
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
    fn new(consumer: &'c mut Consumer<T>, to: Sequence) -> Self {
        let backlog = to - consumer.probe.read();
        Self {
            hi: consumer.probe.read() + backlog.min(consumer.batch_limit),
            probe: &mut consumer.probe,
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
    /// See [`ConsumerBuilder::batch_limit`].
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
    /// sequence; as [`Consumer::release_until`], for who has the next batch in hand.
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
    /// where they are until [`Consumer::release_until`]. For work that is done later: a journal with
    /// writes in flight, answers to come.
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
        if !self.is_empty() {
            self.probe.pass(self.hi);
        }
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

/// The events that a consumer holds, with their sequences, in order; made by [`Consumer::held`].
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The ring is closed and everything has been read.
    Closed,
    /// The ring was poisoned; there may be more in it, and nobody gets it.
    Poisoned(Poisoned),
    /// It [requires](ConsumerBuilder::require_producer) a producer, none lives, and what was published has been
    /// read. The ring is not closed: one may come.
    NoProducer,
    /// A dead consumer that it comes after is [held](OnDeath::Hold), and nobody has taken its place in the
    /// [time](ConsumerBuilder::hold_for) it wanted to be waited for.
    Held {
        /// The [row](crate::Member::row) of the dead one.
        row: usize,
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
            Self::Unusable(cause) => cause.fmt(f),
        }
    }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// It [requires](ConsumerBuilder::require_producer) a producer, none lives, and what was published has been
    /// read. The ring is not closed: one may come.
    NoProducer,
    /// As [`Ended::Held`].
    Held {
        /// The [row](crate::Member::row) of the dead one.
        row: usize,
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
            Self::Unusable(cause) => cause.fmt(f),
        }
    }
}

impl Error for NotReady {}

//! How a consumer joins: what it is to be like, and in whose place it goes on.

use std::fmt;
use std::time::Duration;

use crate::consumer::Consumer;
use crate::mutable::MutableConsumer;
use crate::probe::Probe;
use crate::recover::{Leases, Liveness, OnDeath, free_the_dead};
use crate::refusal::JoinError;
use crate::region::Memory;
use crate::roster::{Entry, Presence, Request, Roster, Start};
use crate::sequence::LAST_SEQUENCE;
use crate::shared::Unusable;
use crate::stamp::Reading;
use crate::wait::{Wait, Waits, Watch};

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
    require_name: bool,
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
            require_name: false,
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

    /// Sets what becomes of its place if it dies, which [`Ring::recover`](crate::Ring::recover) finds out, or where
    /// processes share the ring any member that waits. By default it is held if others come after it or it changes
    /// events, and released if not.
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
    /// [`Ended::Held`]: crate::Ended::Held
    pub fn hold_for(mut self, time: Duration) -> Self {
        self.hold_for = Some(time);
        self
    }

    /// Has it told when it waits for events and no producer lives that could publish some:
    /// [`Ended::NoProducer`](crate::Ended::NoProducer). By default it waits for one to come.
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

    /// Has it told when it waits for events in a ring in shared memory, and the ring's name does not lead to it any more:
    /// [`Ended::Unlinked`](crate::Ended::Unlinked). By default it waits on, for those who have the old ring open. On the
    /// heap it has no effect.
    ///
    /// # Examples
    /// See package `annulus-ipc`.
    pub fn require_name(mut self) -> Self {
        self.require_name = true;
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
    /// it waited for. If a consumer of this name has died and is [held](OnDeath::Hold), or has [left its
    /// place](Consumer::leave_held), this one goes on there: where to start and what to come after are not asked then.
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
        roster.succeed(row, self.on_death);
        Ok(self.joined(roster, entry, told))
    }

    fn join_as(self, mutable: bool) -> Result<Consumer<T>, JoinError> {
        self.check(mutable)?;
        let memory = &self.memory;
        let roster = self.lock()?;
        let mut told = Vec::new();
        if let Some(shared) = memory.region().shared_memory() {
            free_the_dead(memory, &roster, &Leases(shared), &mut told);
        }
        if let Some(row) = roster.row_of(&self.name, mutable)
            && roster.is_held(row)
        {
            return self.succeed_in(row, roster, &told);
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
        Roster::lock(&self.memory).map_err(|cause| JoinError::Unusable {
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
        if self.wait == Wait::Park && self.memory.region().parking.is_none() {
            return Err(JoinError::NoParking { name: name() });
        }
        if mutable && self.on_death == Some(OnDeath::Release) {
            return Err(JoinError::ReleaseMutable { name: name() });
        }
        Ok(())
    }

    fn joined(&self, roster: Roster<'_, T>, entry: Entry, told: &[Presence]) -> Consumer<T> {
        let (kind, name) = roster.member(entry.row);
        let hot = &self.memory.row(entry.row).hot;
        hot.set_hold_for(self.hold_for.or(entry.hold_for));
        if entry.is_successor {
            // Members that it holds up may sleep for long: it looks for the dead now.
            self.memory.region().wake_at(entry.row);
        }
        let is_shared = self.memory.region().shared_memory().is_some();
        let mut told = told.to_vec();
        told.push(Presence::Joined { kind, name });
        roster.tell_all(&told);
        Consumer {
            probe: Probe::new(self.memory.clone(), entry, self.list_skipped),
            require_producer: self.require_producer,
            require_name: self.require_name,
            name: self.name.clone(),
            bound: None,
            wait: self.wait,
            batch_limit: self.batch_limit as u64,
            waits: Waits::default(),
            clock: None,
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

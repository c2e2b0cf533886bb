//! Building a ring, and making its members.

use std::error::Error;
use std::fmt;

use crate::claim::Claimer;
use crate::join::ConsumerBuilder;
use crate::layout::Layout;
use crate::member::{MAX_MEMBERS, MemberKind};
use crate::observer::{Observable, ObserveError, Observer};
use crate::producer::{Producer, SharedProducer};
use crate::recover::{Leases, free_the_dead, take_over};
use crate::refusal::{ProducerError, debug_as_text};
use crate::region::{Memory, Region};
use crate::roster::{Presence, Roster, close_beside};
use crate::shared::Unusable;
use crate::snapshot::Snapshot;
use crate::step::{Step, reach};
use crate::sync::SharedByAll;

/// A ring of events, from which producers and consumers are made.
///
/// A `Ring` is a handle: cloning it is cheap, and the events live until the last handle, producer and
/// consumer is dropped, in any order and on any thread.
///
/// # Examples
/// ```
/// use annulus_ring::Ring;
///
/// let ring = Ring::builder(1024).build(|| 0_u64)?;
/// let mut book = ring.consumer("book").join()?;
/// let mut feed = ring.producer()?;
/// feed.publish(|price| *price = 5_853_300)?;
/// drop(feed);
///
/// while let Ok(batch) = book.next_batch() {
///     for price in &batch {
///         assert_eq!(*price, 5_853_300);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Ring<T> {
    memory: Memory<T>,
}

impl Ring<()> {
    /// Starts to describe a ring of `capacity` events, a power of two.
    ///
    /// Nothing is checked before [`RingBuilder::build`], which also decides the type of the events.
    ///
    /// # Examples
    /// See [`Ring`].
    pub fn builder(capacity: usize) -> RingBuilder {
        RingBuilder {
            capacity,
            producers: Producers::One,
            required_consumers: 0,
            members: RingBuilder::DEFAULT_MEMBERS,
            layout: Layout::default(),
            parking: None,
            observable: false,
        }
    }
}

impl<T> Ring<T> {
    /// The only producer of a ring built for [`Producers::One`].
    ///
    /// # Errors
    /// If the ring was built for many producers, if its producer has joined already, if the member
    /// table is full, or if the ring is closed, as it is when its producer was dropped.
    ///
    /// # Examples
    /// See [`Ring`].
    pub fn producer(&self) -> Result<Producer<T>, ProducerError> {
        self.join_producer(Producers::One).map(Producer::new)
    }

    /// One more producer of a ring built for [`Producers::Many`].
    ///
    /// # Errors
    /// If the ring was built for one producer, if the member table is full, or if the ring is closed, as
    /// it is when its last producer was dropped.
    ///
    /// # Examples
    /// ```
    /// use annulus_ring::{Producers, Ring};
    ///
    /// let ring = Ring::builder(8).producers(Producers::Many).build(String::new)?;
    /// let mut log = ring.consumer("log").join()?;
    /// let mut first = ring.shared_producer()?;
    /// let mut second = first.try_clone()?;
    /// first.publish(|line| line.push_str("one"))?;
    /// second.publish(|line| line.push_str("two"))?;
    /// assert_eq!(log.next_batch()?.iter().collect::<Vec<_>>(), ["one", "two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shared_producer(&self) -> Result<SharedProducer<T>, ProducerError> {
        self.join_producer(Producers::Many).map(SharedProducer::new)
    }

    /// Starts to describe a consumer, which then [joins](ConsumerBuilder::join).
    ///
    /// # Examples
    /// See [`Ring`].
    pub fn consumer(&self, name: &str) -> ConsumerBuilder<T> {
        ConsumerBuilder::new(self.memory.clone(), name)
    }

    /// An observer: it copies events, starting with those of about now, and gates nobody.
    ///
    /// # Errors
    /// If the ring has one producer and was not built to be [observable](RingBuilder::observable).
    ///
    /// # Examples
    /// See [`Observer::next`].
    pub fn observer(&self) -> Result<Observer<T>, ObserveError>
    where
        T: Observable,
    {
        Observer::new(self.memory.clone())
    }

    /// Whether the ring lies in memory that other processes can share.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// let ring = Ring::builder(8).build(u64::default)?;
    /// assert!(!ring.is_shared());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.memory.region().shared_memory().is_some()
    }

    /// The number of slots.
    ///
    /// # Examples
    /// See [`RingBuilder`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.capacity() as usize
    }

    /// What the ring looks like now: how far it is claimed and published, and where its members are.
    ///
    /// Safe and cheap while everything runs: it holds up joins and leaves for a moment, and nothing
    /// else. Members move on meanwhile, so each figure is of a moment of its own.
    ///
    /// # Examples
    /// See [`Snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.memory)
    }

    /// Closes the ring: nothing is published any more, and consumers are told when they have read what was.
    ///
    /// Whatever `publish` has confirmed is delivered, and so is a claim that is published later if it was
    /// made before. With many producers it takes effect at once. The only producer of a ring has to agree:
    /// it does so when it claims next, or is dropped; [`Ring::is_closed`] tells.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Producers, Ring};
    /// let ring = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
    /// let mut book = ring.consumer("book").join()?;
    /// let mut feed = ring.shared_producer()?;
    /// feed.publish_value(7)?;
    /// ring.close();
    /// assert_eq!(feed.publish(|_| ()), Err(ClaimError::Closed));
    /// assert_eq!(book.next_batch()?[0], 7);
    /// assert!(book.next_batch().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        let region = self.memory.region();
        match Roster::lock(&self.memory) {
            Ok(roster) => {
                roster.close();
                if let Some(shared) = region.shared_memory() {
                    // If it is the only producer that has died, it cannot agree.
                    let mut told = Vec::new();
                    free_the_dead(&self.memory, &roster, &Leases(shared), &mut told);
                    roster.tell_all(&told);
                }
            }
            Err(Unusable::Busy { .. }) => close_beside(region),
            Err(_) => return,
        }
        region.wake_all();
    }

    /// Whether the ring is closed: what has been published is all there will be.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// ring.close();
    /// assert!(!ring.is_closed()); // its producer has not agreed yet
    /// assert_eq!(feed.publish(|_| ()), Err(ClaimError::Closed));
    /// assert!(ring.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.memory.header().status.signal().is_closed()
    }

    /// Whether the name of the ring, if it is one that processes share and has one, does not lead to it any more: who
    /// opens that name now is in another ring, or in none, and this handle goes on in the old one. Nobody is told of that,
    /// as it takes a system call: ask now and then, or after a long wait.
    ///
    /// # Examples
    /// See package `annulus-ipc`; a ring on the heap has no name.
    /// ```
    /// # let ring = annulus_ring::Ring::builder(8).build(u64::default)?;
    /// assert!(!ring.is_unlinked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_unlinked(&self) -> bool {
        self.memory.region().is_unlinked()
    }

    /// Poisons the ring, as [`Consumer::poison`](crate::Consumer::poison).
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// ring.poison(42);
    /// let error = feed.publish(|price| *price = 7).unwrap_err();
    /// assert_eq!(error.to_string(), "the ring was poisoned with reason 42");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poison(&self, reason: u32) {
        poison(&self.memory, None, reason);
    }

    /// Calls `watcher` whenever a member joins or leaves, and when the ring is poisoned.
    ///
    /// It is called on the thread that does so, when it is done: [`Ring::snapshot`] shows it, and what has
    /// happened since. Two threads may call it at the same time. It is for ever; a panic in it is ignored.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Presence, Ring};
    /// # use std::sync::mpsc;
    /// let ring = Ring::builder(8).build(u64::default)?;
    /// let (tell, told) = mpsc::channel();
    /// ring.watch(move |presence| tell.send(presence.clone()).unwrap());
    /// drop(ring.consumer("book").join()?);
    /// assert!(matches!(told.recv()?, Presence::Joined { name, .. } if name == "book"));
    /// assert!(matches!(told.recv()?, Presence::Left { name, .. } if name == "book"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch(&self, watcher: impl Fn(&Presence) + Send + Sync + 'static) {
        if let Some(mut roster) = Roster::look(&self.memory) {
            roster.watch(SharedByAll::new(watcher));
        }
    }

    fn join_producer(&self, kind: Producers) -> Result<Claimer<T>, ProducerError> {
        let memory = &self.memory;
        let roster = Roster::lock(memory)?;
        let mut told = Vec::new();
        if let Some(shared) = memory.region().shared_memory() {
            free_the_dead(memory, &roster, &Leases(shared), &mut told);
        }
        // In memory that processes share there may have been one before.
        let goes_on = kind == Producers::One && memory.region().shared_memory().is_some();
        let joined = roster.join_producer(kind).and_then(|(row, lease)| {
            if !goes_on {
                return Ok((row, lease, 0));
            }
            let taken_over = take_over(memory).inspect_err(|_| roster.free_producer(row))?;
            if taken_over.is_new {
                memory.region().wake_all();
            }
            Ok((row, lease, taken_over.end))
        });
        if joined.is_ok() {
            told.push(Presence::Joined {
                kind: MemberKind::Producer,
                name: String::new(),
            });
        }
        roster.tell_all(&told);
        let (row, lease, next) = joined?;
        let claimer = Claimer::new(memory.clone(), row, lease);
        Ok(if goes_on {
            claimer.starting_at(next)
        } else {
            claimer
        })
    }

    pub(crate) fn memory(&self) -> &Memory<T> {
        &self.memory
    }

    pub(crate) fn of(memory: Memory<T>) -> Self {
        Self { memory }
    }
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        Self::of(self.memory.clone())
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Poisons a ring on behalf of the member in this row, or of nobody.
pub(crate) fn poison<T>(memory: &Memory<T>, row: Option<usize>, reason: u32) {
    let status = &memory.header().status;
    let first = status.poison(row, reason);
    reach(Step::Stop);
    memory.header().claimed.stop();
    if first {
        memory.region().wake_all();
        if let Some(poisoned) = status.signal().poisoned()
            && let Some(roster) = Roster::look(memory)
        {
            roster.tell(&Presence::Poisoned(poisoned));
        }
    }
}

/// How many producers a ring is built for.
///
/// # Examples
/// ```
/// # use annulus_ring::{Producers, Ring};
/// let one = Ring::builder(8).producers(Producers::One).build(u64::default)?;
/// let many = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
/// let (mut only, mut shared) = (one.producer()?, many.shared_producer()?);
/// drop((only.claim(2)?, shared.claim(2)?));
/// assert_eq!(only.publish_value(7)?, 0); // the claim was given back
/// assert_eq!(shared.publish_value(7)?, 2); // it is skipped
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Producers {
    /// One at a time: the fastest path. A dropped claim is given back.
    #[default]
    One,
    /// Any number, up to the size of the member table. A dropped claim is skipped by consumers.
    Many,
}

/// What a ring is to be like; made by [`Ring::builder`].
///
/// # Examples
/// ```
/// # use annulus_ring::{Layout, Producers, Ring, RingBuilder};
/// let ring = Ring::builder(1024)
///     .producers(Producers::Many)
///     .members(2 * RingBuilder::DEFAULT_MEMBERS)
///     .layout(Layout::Apart)
///     .build(u64::default)?;
/// assert_eq!(ring.capacity(), 1024);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a ring is built by `build`"]
pub struct RingBuilder {
    /// The number of slots.
    pub capacity: usize,
    /// One producer or many.
    pub producers: Producers,
    /// How many consumers have to be there before a producer claims anything.
    pub required_consumers: usize,
    /// How many producers and consumers it can have at a time.
    pub members: usize,
    /// How stamps and events lie in memory.
    pub layout: Layout,
    /// Whether members may park; if it is not said, only in memory that processes share.
    pub parking: Option<bool>,
    /// Whether a ring of one producer can be observed.
    pub observable: bool,
}

impl From<usize> for RingBuilder {
    /// As [`Ring::builder`].
    fn from(capacity: usize) -> Self {
        Ring::builder(capacity)
    }
}

impl RingBuilder {
    /// The size of the member table unless [`RingBuilder::members`] says otherwise.
    ///
    /// # Examples
    /// See [`RingBuilder`].
    pub const DEFAULT_MEMBERS: usize = 16;

    /// One producer (the default) or many.
    ///
    /// # Examples
    /// See [`Producers`].
    pub fn producers(mut self, producers: Producers) -> Self {
        self.producers = producers;
        self
    }

    /// How many consumers have to be there before a producer claims anything; 0 by default.
    ///
    /// Producers wait until so many have joined. If later fewer are left, they wait again, once they have
    /// used up what free slots they know of: not more than a lap. A ring that requires none and has none
    /// is overwritten, like a broadcast that nobody listens to.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{ClaimError, Ring};
    /// let ring = Ring::builder(8).require_consumers(1).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// let early = feed.try_publish(|price| *price = 7);
    /// assert_eq!(early, Err(ClaimError::TooFewConsumers { required: 1, present: 0 }));
    /// let book = ring.consumer("book").join()?;
    /// assert_eq!(feed.try_publish(|price| *price = 7), Ok(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn require_consumers(mut self, consumers: usize) -> Self {
        self.required_consumers = consumers;
        self
    }

    /// How many producers and consumers the ring can have at a time: 1 to 64,
    /// [16](RingBuilder::DEFAULT_MEMBERS) by default. Each costs 256 bytes.
    ///
    /// # Examples
    /// See [`RingBuilder`].
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// Lets members wait by [parking](crate::Wait::Park). By default they may not, and nobody looks whether somebody
    /// has to be woken. Where they may, each publication and each release takes such a look: a load, and on other
    /// systems than Linux, or where that refuses `membarrier`, a fence of some 10 ns before it. The first such ring
    /// of a process takes some 20 ms to build, in which the kernel hears of that.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Ring, Wait};
    /// let ring = Ring::builder(8).parking().build(u64::default)?;
    /// let mut book = ring.consumer("book").wait(Wait::Park).join()?;
    /// let mut feed = ring.producer()?;
    /// let books = std::thread::spawn(move || book.next_batch().map(|batch| batch[0]));
    /// feed.publish_value(7)?; // wakes it
    /// assert_eq!(books.join().unwrap()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parking(mut self) -> Self {
        self.parking = Some(true);
        self
    }

    /// Lets no member wait by [parking](crate::Wait::Park), which is what it is by default on the heap, but not in
    /// memory that processes share: who parks nowhere saves the look at who sleeps.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{JoinError, Ring, Wait};
    /// let ring = Ring::builder(8).no_parking().build(u64::default)?;
    /// let error = ring.consumer("book").wait(Wait::Park).join().unwrap_err();
    /// assert!(matches!(error, JoinError::NoParking { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn no_parking(mut self) -> Self {
        self.parking = Some(false);
        self
    }

    /// Lets [observers](Ring::observer) look at a ring of one producer, which then tells them what it is about
    /// to write, a sixteenth of the ring at a time. Rings of many producers can always be observed.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::Ring;
    /// let ring = Ring::builder(8).observable().build(u64::default)?;
    /// let mut tap = ring.observer()?;
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!(tap.next()?, (0, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observable(mut self) -> Self {
        self.observable = true;
        self
    }

    /// How stamps and events lie in memory; [`Layout::Beside`] by default.
    ///
    /// # Examples
    /// See [`Layout`].
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Builds the ring: all memory is allocated here, and `factory` makes the event of every slot.
    ///
    /// Events are mutated in place by producers, and dropped with the ring.
    ///
    /// # Errors
    /// If the capacity is not a power of two, if the member table's size is out of range or too small
    /// for the consumers required, or if memory for so many events cannot be had.
    ///
    /// # Panics
    /// If `factory` panics; the events that it made before are dropped.
    ///
    /// # Examples
    /// ```
    /// use annulus_ring::{BuildError, Ring};
    ///
    /// let error = Ring::builder(1000).build(u64::default).unwrap_err();
    /// assert_eq!(error, BuildError::Capacity { capacity: 1000 });
    /// ```
    pub fn build<T: Send + Sync>(self, factory: impl FnMut() -> T) -> Result<Ring<T>, BuildError> {
        self.check()?;
        let region = Region::heap(&self, factory)?;
        Ok(Ring::of(Memory::new(region)))
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let &Self {
            capacity,
            members,
            required_consumers,
            ..
        } = self;
        if !capacity.is_power_of_two() {
            return Err(BuildError::Capacity { capacity });
        }
        if !(1..=MAX_MEMBERS).contains(&members) {
            return Err(BuildError::Members { members });
        }
        if required_consumers >= members {
            return Err(BuildError::RequiredConsumers {
                required: required_consumers,
                members,
            });
        }
        Ok(())
    }
}

/// Why a ring was not built.
///
/// # Examples
/// ```
/// # use annulus_ring::{BuildError, Ring};
/// let error = Ring::builder(1000).build(u64::default).unwrap_err();
/// assert!(matches!(error, BuildError::Capacity { .. }));
/// assert_eq!(error.to_string(), "a ring's capacity is a power of two, and 1000 is not: use 1024");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The capacity is not a power of two.
    Capacity {
        /// The capacity asked for.
        capacity: usize,
    },
    /// The size of the member table is not within 1 to 64.
    Members {
        /// The size asked for.
        members: usize,
    },
    /// The member table has no room for the consumers required and one producer.
    RequiredConsumers {
        /// How many consumers are required.
        required: usize,
        /// How many members the table holds.
        members: usize,
    },
    /// Memory for so many events cannot be had.
    TooLarge {
        /// The capacity asked for.
        capacity: usize,
        /// The size of one event in bytes.
        event_size: usize,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Capacity { capacity } => {
                write!(
                    f,
                    "a ring's capacity is a power of two, and {capacity} is not: "
                )?;
                match capacity.checked_next_power_of_two() {
                    Some(next) => write!(f, "use {next}"),
                    None => write!(f, "use a smaller one"),
                }
            }
            Self::Members { members } => write!(
                f,
                "a ring has a table of 1 to {MAX_MEMBERS} members, not of {members}: count its \
                 producers and consumers"
            ),
            Self::RequiredConsumers { required, members } => write!(
                f,
                "too many consumers are required ({required}) for a table of {members}, in which a producer needs room too: \
                 build with .members({})",
                required.saturating_add(1)
            ),
            Self::TooLarge {
                capacity,
                event_size,
            } => write!(
                f,
                "{capacity} events of {event_size} bytes each are too many: build a smaller ring"
            ),
        }
    }
}

debug_as_text!(BuildError);

impl Error for BuildError {}

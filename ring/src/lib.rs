//! A Disruptor-style ring buffer: it says who may touch which slot, when.
//!
//! One or many producers publish events into slots that were made once and are reused; every consumer
//! reads every event, in place and in one order; consumers can come after other consumers, in any
//! graph. They come and go while events flow. Nothing here spawns a thread, does I/O, or allocates when
//! events are published and read.
//!
//! ```
//! use annulus_ring::Ring;
//!
//! #[derive(Default)]
//! struct Tick { price: u64, shares: u32 }
//!
//! let ring = Ring::builder(1024).build(Tick::default)?;
//! let mut book = ring.consumer("book").join()?;
//! let mut risk = ring.consumer("risk").after(["book"]).join()?;
//! let mut feed = ring.producer()?;
//!
//! let books = std::thread::spawn(move || {
//!     let mut shares = 0;
//!     while let Ok(batch) = book.next_batch() {
//!         shares += batch.iter().map(|tick| tick.shares).sum::<u32>();
//!     } // dropping the batch releases its slots, to `risk` first
//!     shares
//! });
//! feed.publish(|tick| *tick = Tick { price: 5_853_300, shares: 18 })?;
//! feed.publish_batch(2, |slots| slots.for_each(|tick| tick.shares = 100))?;
//! drop(feed); // the last producer closes the ring
//!
//! while let Ok(batch) = risk.next_batch() {
//!     assert!(batch.with_sequences().all(|(sequence, _)| sequence < 3));
//! }
//! assert_eq!(books.join().unwrap(), 218);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits and trade-offs
//!
//! * Consumers gate: the slowest one holds up the producers. They join and leave at any time.
//! * A ring without consumers is overwritten, like a broadcast without listeners, unless it is
//!   [built](RingBuilder::require_consumers) to require some.
//! * With many producers, one that is stopped between claim and publication holds up what the others
//!   publish behind it. There is no fairness between producers.
//! * Capacity is a power of two; at most 64 members at a time; names of at most 80 bytes.
//! * A thread that waits spins, yields, or sleeps for short times; in a ring built for
//!   [parking](RingBuilder::parking) it can sleep until it is woken, and everybody looks whether to wake.
//! * The only producer of a ring closes it. [`Ring::close`] asks it to; with many it closes by itself.
//! * In memory that [processes share](SharedMemory), which package `annulus-ipc` brings, only [`Ring::close`] closes, and
//!   who waits finds the dead by itself.
//! * A [watcher](Ring::watch) that keeps a [`Ring`] keeps its memory.
//!
//! # What a consumer can be
//!
//! | wanted | how |
//! |---|---|
//! | one after others | [`after`](ConsumerBuilder::after): a stage |
//! | one that changes events | [`join_mut`](ConsumerBuilder::join_mut), ordered against all others |
//! | one that comes later | [`start`](ConsumerBuilder::start) at the next event, the oldest, or a given one |
//! | one whose work ends later than it reads | [`hold`](Batch::hold), [`release_until`](Consumer::release_until) |
//! | one that wants the latest state only | [`skip_to_latest`](Consumer::skip_to_latest) |
//! | one that is to have the last event, though it comes late | another one [keeps it](#the-last-event-for-those-who-come-late) |
//! | one that must not slow anybody | an [`Observer`]: it copies, and knows what it missed |
//! | one thread for several rings | [`wait_any`] |
//! | one whose thread may end at any instruction | [`on_death`](ConsumerBuilder::on_death), [`Ring::recover`] |
//! | one that goes on later where it was | [`leave_held`](Consumer::leave_held) |
//! | one that is to go, as it is too slow or dead | [`Ring::evict`] |
//!
//! # The last event, for those who come late
//!
//! A consumer that holds the latest event keeps it for others: they join at the oldest that is there.
//!
//! ```
//! # use annulus_ring::{Ring, Start};
//! # let ring = Ring::builder(8).build(u64::default)?;
//! # let mut feed = ring.producer()?;
//! let mut keeper = ring.consumer("keeper").join()?;
//! for price in [585, 586, 587] {
//!     feed.publish_value(price)?;
//!     keeper.next_batch()?.hold(); // on a thread of its own
//!     let last = keeper.held().last().map(|(sequence, _)| sequence);
//!     keeper.release_until(last.unwrap_or(0));
//! }
//! let mut late = ring.consumer("late").start(Start::Oldest).join()?;
//! assert_eq!(late.next_batch()?[0], 587);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Coming from elsewhere
//!
//! | here | LMAX Disruptor | disruptor-rs | Aeron |
//! |---|---|---|---|
//! | [`Ring`] | `RingBuffer` | the builders | log buffer of a publication |
//! | [`Producer`], [`SharedProducer`] | `RingBuffer` with `ProducerType.SINGLE`, `MULTI` | `SingleProducer`, `MultiProducer` | exclusive, concurrent publication |
//! | [`publish`](Producer::publish) | `publishEvent(translator)` | `publish` | `offer` |
//! | [`claim`](Producer::claim), [`Claim::publish`] | `next(n)`, `publish(lo, hi)` | `batch_publish` | `tryClaim`, `commit` |
//! | [`Claim`] dropped | nothing: others wait for ever | the same | `abort`, `unblock` |
//! | [`Consumer`], [`Batch`] | `EventPoller`, `BatchEventProcessor` | `EventPoller`, `EventGuard` | subscription, `poll` |
//! | [`after`](ConsumerBuilder::after) | `after`, `SequenceBarrier` | `and_then` | – |
//! | [`join`](ConsumerBuilder::join) and drop while running | `addGatingSequences` | – | add and close a subscription |
//! | gate, [`require_consumers`](RingBuilder::require_consumers) | gating sequences | the last consumers | position limit |
//! | [`Wait`] | `WaitStrategy` | `WaitStrategy` | `IdleStrategy` |
//! | [`Wait::Park`] | `BlockingWaitStrategy` | – | – |
//! | [`release`](Batch::release) | early release by `setSequenceCallback` | – | – |
//! | sequence, [`Ended::Closed`] | sequence, halt | sequence, `Shutdown` | position, end of stream |
//! | [`ClaimError::Full`] | `InsufficientCapacityException` | `RingBufferFull` | `BACK_PRESSURED` |
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | sequence | the number of an event, from 0 on; its slot is `sequence & (capacity - 1)` |
//! | slot | one cell of the ring: a stamp and an event |
//! | claim | the exclusive right of one producer to write the sequences `[lo, hi)` |
//! | batch, boundary | what one claim published; a sequence at which a batch starts |
//! | stamp | the word in the first slot of a batch: published, and where the batch ends |
//! | published | with one producer, the end of what is published; a cursor |
//! | claimed | with many, the end of what is claimed; with one, how far it claims without a look at the gate; its top bit stops claims |
//! | floor | with many, a boundary below which everything is published; the gate of a ring that nobody reads |
//! | intent | where the latest claim of one of many producers starts, stored before it is made |
//! | position | of a consumer, the next sequence that it has not released |
//! | gate | how far producers may claim: one capacity above the lowest position |
//! | stage | a consumer that comes after other consumers |
//! | end | of a consumer, where the batch ends in which its position lies |
//! | version | how often consumers have joined |
//! | park | to sleep until woken; at an event count |
//! | hold | to read on without releasing |
//! | observer | reads copies without gating; may be lapped |
//! | poison | a word that ends everything for everybody, with a reason |
//! | skip | to step over a published batch that carries no event, because its claim was dropped or its producer died |
//! | member | a producer or consumer; it has a row in the member table |
//! | lease | of a row, in memory that processes share: by it its member is known to live |
//!
//! ```text
//!                 lowest position                    published front      gate
//!                        |                                  |               |
//!   ... free for claims  | s | s | s | s | batch  | s | batch |   claimed   |  free ...
//!                          ^stamp: 5     ^stamp: 8            ^stamp of the lap before
//! ```
//!
//! # Invariants
//!
//! | id | what always holds |
//! |---|---|
//! | R1 CLAIM | no sequence is claimed twice; claims never exceed the gate; no gating position is above the published front |
//! | R2 GATE | no slot is written while a gating consumer may read it or another producer writes it |
//! | R3 PUBLISH | no reader sees an event before it is completely written; a batch appears whole |
//! | R4 STAGE | a stage reads a sequence only after every consumer it comes after has passed it, also when some of them leave |
//! | R5 WAKE | no wake-up is lost: a parked member is woken by what it waits for |
//! | R6 JOIN | a joining consumer misses nothing from its start on, and nobody overruns it |
//! | R7 CLOSE | close and poison reach everyone, waiting or not; what was published is delivered before a consumer hears that the ring is closed |
//! | R8 RECOVER | after a death at any point every published event is delivered, every abandoned claim is skipped, and everyone goes on |
//! | R9 OBSERVE | a copy that counts is one published event, never a mixture |
//!
//! Each has a file of models in `loom-tests`, which run these very types.
//!
//! # Memory orderings
//!
//! Each tag stands at both ends: at a store with Release and at a load with Acquire, or at two fences.
//!
//! | tag | from | to |
//! |---|---|---|
//! | publish | a stamp, after the events of its batch | who reads the stamp at its boundary |
//! | front | `published`, after stamp and events | a consumer with a backlog, or at the close |
//! | claim | `claimed`, after the intent; its top bit, after a close or poison | the next claim; who looks for what is claimed |
//! | intent | an intent, after the stamp of the claim before | who looks where a producer is |
//! | position | a position, after reading what lies below; its leaving, after the floor | the gate of producers; later stages |
//! | floor | the floor, after what is below has been written and read | the gate of producers that nobody reads |
//! | end | a boundary above a position, before that position | who looks for the front |
//! | close | a close or poison, after everything published | everybody, now and then |
//! | version | the count of joins, after the position of the last | who looks at the gate, or observes |
//! | observe | a fence between a claim and what is written there | a fence between a copy and what is claimed |
//! | present | that a consumer has joined, after it has seen where it starts | a producer that requires consumers |
//! | join | a fence between the joiner's count and its second look | a fence between the gate and the count |
//! | wake | an epoch that was raised; a flag that was cleared, after that | a member that gets ready to park |
//! | evict | that an eviction is over, after its loss was counted | the thread that asked for it |
//! | closure | a consumer forgets one that has left, after its last look there | the lock under which rows are given to new members |
//! | sleep | a fence, a light one, between what ends a wait and the flag | a fence, a heavy one, between the flag and the last look |
//!
//! The design is that of the LMAX Disruptor (Thompson, Farley, Barker, Gee and Stewart, 2011), with the
//! publication moved from a cursor into the slots, and one stamp for a whole batch.

// What users hold.
mod batch;
mod consumer;
mod evict;
mod join;
mod mutable;
mod observer;
mod producer;
mod refusal;
mod ring;
mod select;
mod snapshot;

// How it works.
mod bound;
mod claim;
mod probe;
mod recover;
mod step;
mod wait;

// The words that members share, and the one rule about them.
mod member;
mod roster;
mod sequence;
mod stamp;

// Memory and platform.
mod layout;
mod region;
mod shared;
mod sync;

// What the compiler refuses.
mod contracts;

pub use batch::{Batch, Events, Held};
pub use claim::ClaimError;
pub use consumer::{Consumer, Ended, NotReady};
pub use evict::{EvictError, Evicted};
pub use join::ConsumerBuilder;
pub use layout::Layout;
pub use member::{MemberKind, Poisoned};
pub use mutable::{MutableBatch, MutableConsumer};
pub use observer::{Observable, ObserveError, Observer};
pub use producer::{Claim, Producer, Rejected, SharedProducer, Slots};
pub use recover::{Liveness, OnDeath, Recovered};
pub use refusal::{JoinError, ProducerError};
pub use ring::{BuildError, Producers, Ring, RingBuilder};
pub use roster::{Presence, Start};
pub use select::{NoParking, Waiting, try_any, wait_any, wait_any_deadline};
pub use sequence::Sequence;
pub use shared::{Geometry, Lease, SharedMemory, Unusable, disown};
pub use snapshot::{Member, Snapshot};
#[cfg(any(loom, failpoints))]
pub use step::{Step, at_each_step};
pub use wait::{Wait, Waits};

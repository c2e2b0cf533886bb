//! What each producer and consumer shows to the others: the words of its row, and those that concern all.
//!
//! # Notes about memory ordering
//!
//! A position that is advanced tells whoever observes it that the reads below it are over. A ring
//! that is observed closed has all that its producers published. What is plain data of a row (kind,
//! name, closure) is written and read under the lock of the [roster](crate::roster), or read by a stage
//! that joined later than the row's owner: the lock orders both.

use std::error::Error;
use std::fmt;
use std::iter;
use std::time::Duration;

use crate::recover::OnDeath;
use crate::refusal::debug_as_text;
use crate::sequence::Sequence;
use crate::sync::{AtomicU64, Ordering};
use crate::wait::EventCount;

/// The most members a ring can have: their sets are kept in one word.
pub(crate) const MAX_MEMBERS: usize = 64;

/// The longest name, in bytes; models have shorter ones, as they pay for every word.
pub(crate) const MAX_NAME: usize = NAME_WORDS * 8;

#[cfg(not(loom))]
const NAME_WORDS: usize = 10;
#[cfg(loom)]
const NAME_WORDS: usize = 1;

/// A set of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(u64);

impl Rows {
    /// The rows of a table of so many.
    fn all(members: usize) -> Rows {
        Rows(u64::MAX >> (MAX_MEMBERS - members))
    }

    pub(crate) fn insert(&mut self, row: usize) {
        debug_assert!(row < MAX_MEMBERS, "row {row}");
        self.0 |= 1 << row;
    }

    pub(crate) fn remove(&mut self, row: usize) {
        self.0 &= !(1 << row);
    }

    pub(crate) fn union(self, others: Rows) -> Rows {
        Rows(self.0 | others.0)
    }

    pub(crate) fn intersection(self, others: Rows) -> Rows {
        Rows(self.0 & others.0)
    }

    pub(crate) fn without(self, others: Rows) -> Rows {
        Rows(self.0 & !others.0)
    }

    pub(crate) fn contains(self, row: usize) -> bool {
        self.0 & (1 << row) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self;
        iter::from_fn(move || left.pop())
    }

    /// Takes one row out of the set.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let row = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(row)
    }
}

/// The position of a consumer: the next sequence that it has not released, or that it has left.
pub(crate) struct Position(AtomicU64);

impl Position {
    /// Of a consumer that has left, and of a row that has none.
    const LEFT: u64 = u64::MAX;

    /// Gates from `start` on, for a consumer that joins.
    pub(crate) fn enter(&self, start: Sequence) {
        // ORDER(position): what is below has been read by whoever it was copied from; what this
        // consumer is to be told by comes before (its kind, for who looks at the row).
        self.0.store(start, Ordering::Release);
    }

    /// Releases everything below `position`.
    #[inline]
    pub(crate) fn advance(&self, position: Sequence) {
        debug_assert!(position != Self::LEFT);
        // ORDER(position): the events below have been read; with `observe`, after which they are
        // overwritten, or changed by a later stage.
        self.0.store(position, Ordering::Release);
    }

    /// Gates nothing any more.
    pub(crate) fn leave(&self) {
        // ORDER(position): everything has been read, and the floor has been raised to where the
        // consumer had got: who observes that it left finds that floor, or a higher one.
        self.0.store(Self::LEFT, Ordering::Release);
    }

    /// The position, or none if the consumer has left.
    #[inline]
    pub(crate) fn observe(&self) -> Option<Sequence> {
        // ORDER(position): with `advance` and `leave`.
        let position = self.0.load(Ordering::Acquire);
        (position != Self::LEFT).then_some(position)
    }
}

/// Where the latest claim of a producer starts, stored before it is made.
///
/// After a publication the old intent may stay: its stamp says that it is done. What is abandoned
/// by a producer that ends in the middle of a claim can be told from what is still being written.
pub(crate) struct Intent(AtomicU64);

impl Intent {
    const NONE: u64 = u64::MAX;

    #[inline]
    pub(crate) fn announce(&self, lo: Sequence) {
        // ORDER(intent): replaces the intent of a claim whose stamp is out: who observes the new one
        // finds that stamp.
        self.0.store(lo, Ordering::Release);
    }

    /// Follows a lost exchange, before anything that waits or returns.
    pub(crate) fn withdraw(&self) {
        // ORDER(intent): as in `announce`.
        self.0.store(Self::NONE, Ordering::Release);
    }

    pub(crate) fn observe(&self) -> Option<Sequence> {
        // ORDER(intent): with `announce` and `withdraw`.
        let intent = self.0.load(Ordering::Acquire);
        (intent != Self::NONE).then_some(intent)
    }
}

/// What others poll of a member: the position of a consumer, the intent of a producer; and where those
/// park whom this consumer holds up.
#[repr(C)]
pub(crate) struct Hot {
    pub(crate) position: Position,
    pub(crate) intent: Intent,
    pub(crate) waiters: EventCount,
    process: AtomicU64,
    hold_for: AtomicU64,
    /// Whether it is to be evicted.
    eviction: AtomicU64,
    /// How many events the last consumer of this row that was evicted has lost.
    lost: AtomicU64,
}

impl Hot {
    pub(crate) fn new() -> Self {
        Self {
            position: Position(AtomicU64::new(Position::LEFT)),
            intent: Intent(AtomicU64::new(Intent::NONE)),
            waiters: EventCount::new(),
            process: AtomicU64::new(0),
            hold_for: AtomicU64::new(u64::MAX),
            eviction: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Makes zeroes what a new row has.
    pub(crate) fn vacate(&self) {
        self.position.leave();
        self.intent.withdraw();
        self.set_hold_for(None);
    }

    /// Says how long others wait for a successor if this member dies and is held.
    pub(crate) fn set_hold_for(&self, time: Option<Duration>) {
        let millis = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        // RELAXED: under the lock.
        (self.hold_for).store(millis.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long to wait for a successor of this member, if not for ever.
    pub(crate) fn hold_for(&self) -> Option<Duration> {
        // RELAXED: whoever waits looks again.
        let millis = self.hold_for.load(Ordering::Relaxed);
        (millis != u64::MAX).then(|| Duration::from_millis(millis))
    }

    /// Asks the consumer to leave, or takes that back.
    pub(crate) fn set_eviction(&self, asked: bool) {
        // ORDER(evict): what is lost, counted when the consumer has left, comes before it is taken back.
        self.eviction.store(u64::from(asked), Ordering::Release);
    }

    /// Whether the consumer is asked to leave.
    pub(crate) fn is_to_be_evicted(&self) -> bool {
        // ORDER(evict): with `set_eviction`.
        self.eviction.load(Ordering::Acquire) != 0
    }

    pub(crate) fn set_lost(&self, events: u64) {
        // RELAXED: `set_eviction` follows.
        self.lost.store(events, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self) -> u64 {
        // RELAXED: `is_to_be_evicted` comes before.
        self.lost.load(Ordering::Relaxed)
    }

    /// Says in which process the member lives, for people.
    pub(crate) fn set_process(&self, process: u32) {
        // RELAXED: for people.
        self.process.store(u64::from(process), Ordering::Relaxed);
    }

    /// The process in which the member lives, if the ring is one that processes share.
    pub(crate) fn process(&self) -> Option<u32> {
        // RELAXED: for people.
        let process = self.process.load(Ordering::Relaxed) as u32;
        (process != 0).then_some(process)
    }
}

/// What others seldom look at.
#[repr(C)]
pub(crate) struct Record {
    end: AtomicU64,
    skipped: AtomicU64,
    usage: AtomicU64,
    closure: AtomicU64,
    /// What is to become of its gate if it dies, and what has become of it.
    fate: AtomicU64,
    name_len: AtomicU64,
    name: [AtomicU64; NAME_WORDS],
}

/// What a row is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Use {
    Free,
    Producer,
    /// A consumer whose position is not final: it gates, but nobody copies it.
    Joining,
    Consumer,
    /// A consumer that changes events.
    MutableConsumer,
}

impl Use {
    fn of(word: u64) -> Self {
        match word {
            1 => Self::Producer,
            2 => Self::Joining,
            3 => Self::Consumer,
            4 => Self::MutableConsumer,
            _ => Self::Free,
        }
    }

    /// Whether it is one, and has joined.
    pub(crate) fn is_consumer(self) -> bool {
        matches!(self, Self::Consumer | Self::MutableConsumer)
    }
}

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            end: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            usage: AtomicU64::new(Use::Free as u64),
            closure: AtomicU64::new(0),
            fate: AtomicU64::new(0),
            name_len: AtomicU64::new(0),
            name: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Stores a boundary at or above the position that is about to be advanced: below it everything
    /// is published, and from the position to it nothing is skipped.
    #[inline]
    pub(crate) fn set_end(&self, end: Sequence) {
        // ORDER(end): passes on the stamps that the consumer has read up to here.
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn end(&self) -> Sequence {
        // ORDER(end): with `set_end`.
        self.end.load(Ordering::Acquire)
    }

    /// Counts sequences that a consumer stepped over, or that a producer claimed and dropped.
    pub(crate) fn add_skipped(&self, count: u64) {
        // RELAXED: a counter with one writer, for people.
        let skipped = self.skipped.load(Ordering::Relaxed);
        // RELAXED: as above.
        self.skipped
            .store(skipped.wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn skipped(&self) -> u64 {
        // RELAXED: a counter for people.
        self.skipped.load(Ordering::Relaxed)
    }

    /// Every consumer that this one comes after, directly or through others, in a table of so many.
    pub(crate) fn closure(&self, members: usize) -> Rows {
        // ORDER(closure): with `forget`; and with the join that wrote it by the lock.
        Rows(self.closure.load(Ordering::Acquire)).intersection(Rows::all(members))
    }

    /// Forgets consumers that this one came after, once it looks at their rows no more.
    pub(crate) fn forget(&self, left: Rows) {
        // ORDER(closure): this consumer has read their positions for the last time: their rows may have new members.
        self.closure.fetch_and(!left.0, Ordering::Release);
    }

    /// What becomes of its gate if it dies, if it has said so.
    pub(crate) fn on_death(&self) -> Option<OnDeath> {
        match self.fate() & Self::CHOSEN {
            1 => Some(OnDeath::Hold),
            2 => Some(OnDeath::Release),
            _ => None,
        }
    }

    /// Begins anew: nothing has become of its gate.
    pub(crate) fn set_on_death(&self, on_death: Option<OnDeath>, is_stage: bool) {
        let stage = if is_stage { Self::STAGE } else { 0 };
        self.set_fate(on_death.map_or(0, |on_death| on_death as u64) | stage);
    }

    /// Whether it came after others when it joined.
    pub(crate) fn is_stage(&self) -> bool {
        self.fate() & Self::STAGE != 0
    }

    /// Whether its gate stays until a successor takes it up, or it is evicted, whatever else happens.
    pub(crate) fn is_held(&self) -> bool {
        self.fate() & Self::HELD != 0
    }

    pub(crate) fn set_held(&self) {
        self.set_fate(self.fate() | Self::HELD);
    }

    /// Whether it has left, and could not free its row.
    pub(crate) fn is_leaving(&self) -> bool {
        self.fate() & Self::LEAVING != 0
    }

    pub(crate) fn set_leaving(&self) {
        self.set_fate(self.fate() | Self::LEAVING);
    }

    const CHOSEN: u64 = 0xff;
    const HELD: u64 = 1 << 8;
    const LEAVING: u64 = 1 << 9;
    const STAGE: u64 = 1 << 10;

    /// Its consumer alone writes it while that lives; then a thread that has the lock of the table.
    fn fate(&self) -> u64 {
        // RELAXED: the lock, or the end of the lease, orders it.
        self.fate.load(Ordering::Relaxed)
    }

    fn set_fate(&self, fate: u64) {
        // RELAXED: as above.
        self.fate.store(fate, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self) -> Use {
        // RELAXED: under the lock.
        Use::of(self.usage.load(Ordering::Relaxed))
    }

    /// Whether the row is in use, for who does not hold the lock.
    pub(crate) fn is_used(&self) -> bool {
        // ORDER(present): with `set_usage`.
        Use::of(self.usage.load(Ordering::Acquire)) != Use::Free
    }

    /// Whether it is of a consumer that is about to join.
    pub(crate) fn is_joining(&self) -> bool {
        self.usage() == Use::Joining
    }

    /// Whether it is a producer's, for who does not hold the lock.
    pub(crate) fn is_producer(&self) -> bool {
        // ORDER(present): with `set_usage`.
        Use::of(self.usage.load(Ordering::Acquire)) == Use::Producer
    }

    /// The same for who does not hold the lock.
    pub(crate) fn has_joined(&self) -> bool {
        // ORDER(present): with `set_usage`.
        Use::of(self.usage.load(Ordering::Acquire)).is_consumer()
    }

    pub(crate) fn set_usage(&self, usage: Use) {
        // ORDER(present): a consumer that has joined has seen where it starts: what is published later is
        // for it.
        self.usage.store(usage as u64, Ordering::Release);
    }

    pub(crate) fn enter(&self, usage: Use, name: &str, closure: Rows) {
        self.set_usage(usage);
        // RELAXED: under the lock, like what follows.
        self.skipped.store(0, Ordering::Relaxed);
        // RELAXED: as above; read later by stages that come after this one.
        self.closure.store(closure.0, Ordering::Relaxed);
        // RELAXED: as above.
        self.name_len.store(name.len() as u64, Ordering::Relaxed);
        for (word, bytes) in self.name.iter().zip(name.as_bytes().chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            // RELAXED: as above.
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
    }

    pub(crate) fn name(&self) -> String {
        // RELAXED: under the lock.
        let len = self.name_len.load(Ordering::Relaxed) as usize;
        let bytes: Vec<u8> = (self.name.iter())
            // RELAXED: under the lock.
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take(len)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What concerns everybody and seldom changes.
#[repr(C)]
pub(crate) struct Status {
    signal: AtomicU64,
    version: AtomicU64,
    mutable_rows: AtomicU64,
    /// The process that has locked the member table, or locked it last.
    table_holder: AtomicU64,
}

/// What stops a ring, at some moment: a close that was asked for, a close, a poison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal(u64);

impl Signal {
    /// Somebody wants the only producer to close the ring.
    const CLOSE_ASKED: u64 = 1 << 0;
    /// The end of what is published is final.
    const CLOSED: u64 = 1 << 1;
    const POISONED: u64 = 1 << 2;
    /// It is the ring of the process that this one was forked from.
    const INHERITED: u64 = 1 << 3;
    /// Some consumer is to be evicted.
    const EVICTING: u64 = 1 << 4;
    /// The row of the member that poisoned, plus one; 0 is nobody.
    const POISONER: u32 = 8;
    const REASON: u32 = 32;

    /// Whether nothing stops it.
    pub(crate) fn is_quiet(self) -> bool {
        self.0 & !Self::EVICTING == 0
    }

    pub(crate) fn asks_to_close(self) -> bool {
        self.0 & Self::CLOSE_ASKED != 0
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }

    /// Whether it is over for everybody, whatever is left to be read.
    #[inline]
    pub(crate) fn is_cut(self) -> bool {
        self.0 & (Self::POISONED | Self::INHERITED) != 0
    }

    pub(crate) fn is_evicting(self) -> bool {
        self.0 & Self::EVICTING != 0
    }

    /// Whether a consumer has to look what it is, before it takes events.
    #[inline]
    pub(crate) fn concerns_consumers(self) -> bool {
        self.0 & (Self::POISONED | Self::INHERITED | Self::EVICTING) != 0
    }

    pub(crate) fn is_inherited(self) -> bool {
        self.0 & Self::INHERITED != 0
    }

    #[inline]
    pub(crate) fn poisoned(self) -> Option<Poisoned> {
        (self.0 & Self::POISONED != 0).then(|| Poisoned {
            reason: (self.0 >> Self::REASON) as u32,
            row: ((self.0 >> Self::POISONER) as u8)
                .checked_sub(1)
                .map(usize::from),
        })
    }
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            signal: AtomicU64::new(0),
            version: AtomicU64::new(0),
            mutable_rows: AtomicU64::new(0),
            table_holder: AtomicU64::new(0),
        }
    }

    /// Says which process has locked the member table, or that none has.
    pub(crate) fn set_table_holder(&self, process: Option<u32>) {
        // RELAXED: for people.
        (self.table_holder).store(process.unwrap_or(0).into(), Ordering::Relaxed);
    }

    pub(crate) fn table_holder(&self) -> Option<u32> {
        // RELAXED: for people.
        let process = self.table_holder.load(Ordering::Relaxed) as u32;
        (process != 0).then_some(process)
    }

    /// Has consumers look whether they are to be evicted, or no more.
    pub(crate) fn set_evicting(&self, is_so: bool) {
        if is_so {
            // ORDER(close): the request comes before.
            self.signal.fetch_or(Signal::EVICTING, Ordering::Release);
        } else {
            // ORDER(close): nothing follows from it.
            self.signal.fetch_and(!Signal::EVICTING, Ordering::Release);
        }
    }

    /// What stops the ring now. If it is closed, what was published before is visible, and the ends of
    /// what is claimed and published are final.
    #[inline]
    pub(crate) fn signal(&self) -> Signal {
        // ORDER(close): with `close`, `ask_to_close` and `poison`.
        Signal(self.signal.load(Ordering::Acquire))
    }

    /// Declares the end of what is published final.
    pub(crate) fn close(&self) {
        // ORDER(close): everything published, and with many producers the end of what is claimed,
        // comes before.
        self.signal.fetch_or(Signal::CLOSED, Ordering::Release);
    }

    pub(crate) fn ask_to_close(&self) {
        // ORDER(close): what the asker did comes before what is done on its behalf.
        self.signal.fetch_or(Signal::CLOSE_ASKED, Ordering::Release);
    }

    /// Makes it of no use to this process, which has a copy of its own.
    pub(crate) fn disown(&self) {
        // ORDER(close): as the others; there is nothing before it.
        self.signal.fetch_or(Signal::INHERITED, Ordering::Release);
    }

    /// Returns whether this poison is the first.
    pub(crate) fn poison(&self, row: Option<usize>, reason: u32) -> bool {
        let poisoner = row.map_or(0, |row| row as u64 + 1);
        let poison =
            Signal::POISONED | poisoner << Signal::POISONER | u64::from(reason) << Signal::REASON;
        let mut signal = self.signal();
        while signal.poisoned().is_none() {
            // ORDER(close): what the poisoner did comes before what others do about it.
            // ORDER(close): on failure Acquire, as in `signal`.
            match (self.signal).compare_exchange(
                signal.0,
                signal.0 | poison,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => signal = Signal(now),
            }
        }
        false
    }

    /// How often consumers have joined.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        // ORDER(version): with `count_join`; who sees a join counted sees the position it entered at.
        self.version.load(Ordering::Acquire)
    }

    /// The same, for who has put a fence before it.
    #[inline]
    pub(crate) fn version_after_fence(&self) -> u64 {
        // RELAXED: the fence orders it.
        self.version.load(Ordering::Relaxed)
    }

    /// The rows of the consumers that change events, in a table of so many.
    #[inline]
    pub(crate) fn mutable_rows(&self, members: usize) -> Rows {
        // ORDER(version): who sees a join counted sees its row here, which comes before.
        Rows(self.mutable_rows.load(Ordering::Acquire)).intersection(Rows::all(members))
    }

    pub(crate) fn set_mutable_rows(&self, rows: Rows) {
        // ORDER(version): what those that are not in it any more have changed comes before.
        self.mutable_rows.store(rows.0, Ordering::Release);
    }

    pub(crate) fn count_join(&self) {
        // ORDER(version): the position was entered before.
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

/// A ring was poisoned: whatever it still holds, nobody is to go on with it.
///
/// # Examples
/// ```
/// # use annulus_ring::{Ended, Ring};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let mut book = ring.consumer("book").join()?;
/// let journal = ring.consumer("journal").join()?;
/// journal.poison(28); // its disk is full
/// let Err(Ended::Poisoned(poisoned)) = book.next_batch() else { panic!("not poisoned") };
/// assert_eq!((poisoned.reason, poisoned.row), (28, Some(journal.row())));
/// assert_eq!(poisoned.to_string(), "the ring was poisoned with reason 28 by the member in row 1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Poisoned {
    /// What the poisoner gave as its reason; its meaning is the user's.
    pub reason: u32,
    /// The [row](crate::Member::row) of the member that did it, if it was one.
    pub row: Option<usize>,
}

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            // What package `annulus` poisons with: its users have given no number.
            Self::PIPELINE_FAILED => {
                f.write_str("the ring was poisoned because a stage of a pipeline failed")?;
            }
            Self::PIPELINE_ABORTED => {
                f.write_str("the ring was poisoned because a pipeline was aborted")?;
            }
            reason => write!(f, "the ring was poisoned with reason {reason}")?,
        }
        match self.row {
            Some(row) if self.reason == Self::PIPELINE_FAILED => {
                write!(f, ": the member in row {row}")
            }
            Some(row) => write!(f, " by the member in row {row}"),
            None => Ok(()),
        }
    }
}

debug_as_text!(Poisoned);

impl Error for Poisoned {}

impl Poisoned {
    /// The reason that a pipeline of package `annulus` gives when a stage fails, and that stops it.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Poisoned, Ring};
    /// # let ring = Ring::builder(8).build(u64::default)?;
    /// ring.poison(Poisoned::PIPELINE_FAILED);
    /// let told = ring.snapshot().poisoned.unwrap().to_string();
    /// assert_eq!(told, "the ring was poisoned because a stage of a pipeline failed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const PIPELINE_FAILED: u32 = 0x414e_0001;

    /// The reason that it gives when it is aborted.
    ///
    /// # Examples
    /// As [`Poisoned::PIPELINE_FAILED`].
    pub const PIPELINE_ABORTED: u32 = 0x414e_0002;
}

/// What a member of a ring is.
///
/// # Examples
/// ```
/// # use annulus_ring::{MemberKind, Ring};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let feed = ring.producer()?;
/// let journal = ring.consumer("journal").join()?;
/// let book = ring.consumer("book").after(["journal"]).join()?;
/// let kinds = ring.snapshot().members.into_iter().map(|member| member.kind);
/// assert!(kinds.eq([MemberKind::Producer, MemberKind::Consumer, MemberKind::Stage]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberKind {
    /// Claims and publishes.
    Producer,
    /// Reads what is published.
    Consumer,
    /// Reads what is published, after other consumers.
    Stage,
    /// Reads what is published, and changes it.
    MutableStage,
}

//! The table of producers and consumers: what each member shows to the others; join, leave, close.
//!
//! Joins, leaves and the first gate refresh of each producer are serialised by one lock, held as a
//! [`Roster`]. A consumer joins at sequence 0, before any producer has looked for consumers: the
//! first look of a producer freezes the table, and from then on consumers only leave.
//!
//! # Notes about memory ordering
//!
//! A position that is advanced tells whoever observes it that the reads below it are over. A ring
//! that is observed closed has all that its producers published. What is plain data of a row (kind,
//! name, closure) is written and read under the lock, or read by a stage that joined later than the
//! row's owner: the lock orders both.

use std::error::Error;
use std::fmt;

use crate::layout::Row;
use crate::region::Region;
use crate::ring::Producers;
use crate::sequence::Sequence;
use crate::sync::{AtomicU64, MutexGuard, Ordering, PoisonError};

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

    pub(crate) fn contains(self, row: usize) -> bool {
        self.0 & (1 << row) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
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

/// What others poll of a member: the position of a consumer, the intent of a producer.
#[repr(C)]
pub(crate) struct Hot {
    pub(crate) position: Position,
    pub(crate) intent: Intent,
}

impl Hot {
    pub(crate) fn new() -> Self {
        Self {
            position: Position(AtomicU64::new(Position::LEFT)),
            intent: Intent(AtomicU64::new(Intent::NONE)),
        }
    }
}

/// What others seldom look at.
#[repr(C)]
pub(crate) struct Record {
    end: AtomicU64,
    skipped: AtomicU64,
    kind: AtomicU64,
    closure: AtomicU64,
    name_len: AtomicU64,
    name: [AtomicU64; NAME_WORDS],
}

const FREE: u64 = 0;
const PRODUCER: u64 = 1;
const CONSUMER: u64 = 2;

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            end: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            kind: AtomicU64::new(FREE),
            closure: AtomicU64::new(0),
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
        self.skipped.store(skipped + count, Ordering::Relaxed);
    }

    pub(crate) fn skipped(&self) -> u64 {
        // RELAXED: a counter for people.
        self.skipped.load(Ordering::Relaxed)
    }

    /// Every consumer that this one comes after, directly or through others.
    pub(crate) fn closure(&self) -> Rows {
        // RELAXED: written by a join; the reader came later through the same lock.
        Rows(self.closure.load(Ordering::Relaxed))
    }

    fn kind(&self) -> u64 {
        // RELAXED: under the lock.
        self.kind.load(Ordering::Relaxed)
    }

    fn set_kind(&self, kind: u64) {
        // RELAXED: under the lock.
        self.kind.store(kind, Ordering::Relaxed);
    }

    fn enter(&self, kind: u64, name: &str, closure: Rows) {
        self.set_kind(kind);
        self.set_end(0);
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

    fn name(&self) -> String {
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
    closed: AtomicU64,
    frozen: AtomicU64,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            closed: AtomicU64::new(0),
            frozen: AtomicU64::new(0),
        }
    }

    /// Whether the last producer is gone. If so, what was published before is visible, and the ends
    /// of what is claimed and published are final.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // ORDER(close): with `close`.
        self.closed.load(Ordering::Acquire) != 0
    }

    fn close(&self) {
        // INVARIANT R7: the closer is the last producer, so nothing is published after this; others
        // that were there before left through the lock it holds.
        // ORDER(close): everything published comes before.
        self.closed.store(1, Ordering::Release);
    }

    fn is_frozen(&self) -> bool {
        // RELAXED: under the lock.
        self.frozen.load(Ordering::Relaxed) != 0
    }

    fn freeze(&self) {
        // RELAXED: under the lock.
        self.frozen.store(1, Ordering::Relaxed);
    }
}

/// The member table, for who holds its lock.
pub(crate) struct Roster<'r, T> {
    region: &'r Region<T>,
    _lock: MutexGuard<'r, ()>,
}

impl<'r, T> Roster<'r, T> {
    pub(crate) fn lock(region: &'r Region<T>) -> Self {
        // Nothing under this lock can panic half way, so a poisoned one is as good as another.
        let _lock = region.joins.lock().unwrap_or_else(PoisonError::into_inner);
        Self { region, _lock }
    }

    pub(crate) fn join_producer(&self, kind: Producers) -> Result<usize, ProducerError> {
        let region = self.region;
        if region.producers != kind {
            return Err(ProducerError::WrongKind {
                built_for: region.producers,
            });
        }
        if region.header.status.is_closed() {
            return Err(ProducerError::Closed);
        }
        if kind == Producers::One && self.count(PRODUCER) > 0 {
            return Err(ProducerError::Taken);
        }
        let members = region.rows.len();
        let row = self.vacant().ok_or(ProducerError::TableFull { members })?;
        let entry = &region.rows[row];
        entry.record.enter(PRODUCER, "", Rows::default());
        entry.hot.intent.withdraw();
        Ok(row)
    }

    /// Frees a producer's row. The last one closes the ring.
    pub(crate) fn leave_producer(&self, row: usize) {
        self.region.rows[row].hot.intent.withdraw();
        self.vacate(row);
        if self.count(PRODUCER) == 0 {
            self.region.header.status.close();
        }
    }

    /// Enters a consumer at sequence 0; returns its row, and the rows of those it is `after`.
    pub(crate) fn join_consumer(
        &self,
        name: &str,
        after: &[String],
    ) -> Result<(usize, Rows), JoinError> {
        let region = self.region;
        let named = || name.to_owned();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(JoinError::BadName { name: named() });
        }
        if self.consumer_named(name).is_some() {
            return Err(JoinError::NameTaken { name: named() });
        }
        let mut before = Rows::default();
        let mut closure = Rows::default();
        for other in after {
            let Some(row) = self.consumer_named(other) else {
                return Err(JoinError::UnknownName {
                    name: named(),
                    after: other.clone(),
                });
            };
            before.insert(row);
            closure = closure.union(region.rows[row].record.closure());
        }
        if region.header.status.is_closed() {
            return Err(JoinError::Closed { name: named() });
        }
        if region.header.status.is_frozen() {
            return Err(JoinError::Started { name: named() });
        }
        let Some(row) = self.vacant() else {
            return Err(JoinError::TableFull {
                name: named(),
                members: region.rows.len(),
            });
        };
        let entry = &region.rows[row];
        entry.record.enter(CONSUMER, name, closure.union(before));
        // INVARIANT R1: nothing is claimed yet, so 0 is not above the published front.
        entry.hot.position.advance(0);
        Ok((row, before))
    }

    /// Frees the row of a consumer whose position says that it has left.
    pub(crate) fn leave_consumer(&self, row: usize) {
        debug_assert_eq!(self.region.rows[row].hot.position.observe(), None);
        self.vacate(row);
    }

    /// Freezes the table and returns the consumers in it, or nothing if there are fewer than the
    /// ring requires.
    pub(crate) fn freeze(&self) -> Option<Rows> {
        let status = &self.region.header.status;
        if !status.is_frozen() {
            if self.count(CONSUMER) < self.region.required_consumers {
                return None;
            }
            status.freeze();
        }
        let mut consumers = Rows::default();
        for (row, entry) in self.region.rows.iter().enumerate() {
            if entry.record.kind() == CONSUMER {
                consumers.insert(row);
            }
        }
        Some(consumers)
    }

    /// The members in the order of their rows.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&'r Row, MemberKind, String)> {
        self.region.rows.iter().filter_map(|row| {
            let kind = match row.record.kind() {
                PRODUCER => MemberKind::Producer,
                CONSUMER if row.record.closure().is_empty() => MemberKind::Consumer,
                CONSUMER => MemberKind::Stage,
                _ => return None,
            };
            Some((row, kind, row.record.name()))
        })
    }

    fn count(&self, kind: u64) -> usize {
        let rows = self.region.rows.iter();
        rows.filter(|row| row.record.kind() == kind).count()
    }

    fn consumer_named(&self, name: &str) -> Option<usize> {
        (self.region.rows.iter())
            .position(|row| row.record.kind() == CONSUMER && row.record.name() == name)
    }

    /// A row that may be taken: free, and in the closure of no living consumer, which would take
    /// the newcomer for the one that has left.
    fn vacant(&self) -> Option<usize> {
        let rows = &self.region.rows;
        let mut held = Rows::default();
        for row in rows.iter().filter(|row| row.record.kind() == CONSUMER) {
            held = held.union(row.record.closure());
        }
        (0..rows.len()).find(|&row| rows[row].record.kind() == FREE && !held.contains(row))
    }

    fn vacate(&self, row: usize) {
        self.region.rows[row].record.set_kind(FREE);
    }
}

/// What a member of a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberKind {
    /// Claims and publishes.
    Producer,
    /// Reads what is published.
    Consumer,
    /// Reads what is published, after other consumers.
    Stage,
}

/// Why a producer could not join.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProducerError {
    /// The ring was built for the other kind of producers.
    WrongKind {
        /// What the ring was built for.
        built_for: Producers,
    },
    /// The only producer of the ring has joined already.
    Taken,
    /// The member table, whose size was set at build, is full.
    TableFull {
        /// How many members it holds.
        members: usize,
    },
    /// The last producer is gone, and with it the ring is closed.
    Closed,
}

impl fmt::Display for ProducerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKind {
                built_for: Producers::One,
            } => f.write_str(
                "the ring was built for one producer: join with Ring::producer, or build the ring \
                 with .producers(Producers::Many)",
            ),
            Self::WrongKind { .. } => f.write_str(
                "the ring was built for many producers: join with Ring::shared_producer, or build \
                 the ring with .producers(Producers::One)",
            ),
            Self::Taken => f.write_str(
                "the only producer of the ring has joined already: build the ring with \
                 .producers(Producers::Many) to have more",
            ),
            Self::TableFull { members } => table_full(f, "a producer", *members),
            Self::Closed => f.write_str(
                "the ring is closed, because its last producer was dropped: join the next producer \
                 before that, or build another ring",
            ),
        }
    }
}

impl Error for ProducerError {}

/// Why a consumer could not join.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The name is empty, or longer than 80 bytes.
    BadName {
        /// The name.
        name: String,
    },
    /// A consumer of this name is there already.
    NameTaken {
        /// The name.
        name: String,
    },
    /// The consumer is to come after one that is not there.
    UnknownName {
        /// The consumer that was to join.
        name: String,
        /// The name that no consumer has.
        after: String,
    },
    /// Its limit on the batch is 0.
    BatchLimit {
        /// The consumer that was to join.
        name: String,
    },
    /// A producer has claimed already, so that it does not wait for this consumer.
    Started {
        /// The consumer that was to join.
        name: String,
    },
    /// The member table, whose size was set at build, is full.
    TableFull {
        /// The consumer that was to join.
        name: String,
        /// How many members it holds.
        members: usize,
    },
    /// The last producer is gone, and with it the ring is closed.
    Closed {
        /// The consumer that was to join.
        name: String,
    },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName { name } => write!(
                f,
                "a consumer's name takes 1 to {MAX_NAME} bytes, and {name:?} has {}: choose another",
                name.len()
            ),
            Self::NameTaken { name } => write!(
                f,
                "a consumer named {name:?} has joined already: choose another name, or drop that \
                 one first"
            ),
            Self::UnknownName { name, after } => write!(
                f,
                "consumer {name:?} is to come after {after:?}, but no consumer of that name has \
                 joined: join that one first"
            ),
            Self::BatchLimit { name } => write!(
                f,
                "the batch limit of consumer {name:?} is 0: let it have at least 1 event a batch"
            ),
            Self::Started { name } => write!(
                f,
                "consumer {name:?} comes too late, a producer has claimed already: join consumers \
                 before the first claim, or build the ring with .require_consumers(n), which makes \
                 producers wait for them"
            ),
            Self::TableFull { name, members } => {
                table_full(f, &format!("consumer {name:?}"), *members)
            }
            Self::Closed { name } => write!(
                f,
                "consumer {name:?} comes too late, the ring is closed, because its last producer \
                 was dropped: join before that, or build another ring"
            ),
        }
    }
}

impl Error for JoinError {}

fn table_full(f: &mut fmt::Formatter<'_>, who: &str, members: usize) -> fmt::Result {
    write!(
        f,
        "no row is left for {who} in the member table, which holds {members}: build the ring with \
         a larger .members(n), of at most {MAX_MEMBERS}"
    )
}

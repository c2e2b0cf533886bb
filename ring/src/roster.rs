//! The table of members, for who holds its lock: join, leave, close, and who is told of it.
//!
//! # A joining consumer misses nothing and is not overrun
//!
//! Producers do not ask for leave each time that they claim: they keep a limit, and look at the positions
//! again only when they have reached it. A consumer that joins meanwhile has to start where no limit, old
//! or new, lets anybody write. It starts where another consumer is, or at the floor, which is what limits
//! are made from; but that one may move on, and so may limits, before the joiner is seen.
//!
//! ```text
//! joiner   J1 copies a start, enters there     producer   P1 reads the version
//!          J2 counts its join (the version)               P2 reads all positions, or the floor
//!          J3 fence                                       P3 fence
//!          J4 copies again, and moves there               P4 reads the version: if it is not that of
//!                                                            P1, all over again; else takes the limit
//! ```
//!
//! The two fences have an order. If J3 comes first, P4 sees the join counted; if P1 saw it too, P2 found
//! the joiner's position and the limit respects it, and if not, the producer starts over. If P3 comes
//! first, J4 sees every position, or the floor, at least as far as P2 did, and the joiner starts where
//! this limit does no harm: it was made from the lowest of them, and whatever J4 copies is no lower.
//! Neither what is copied nor the joiner's position ever goes back, so both hold for every producer.
//!
//! What a joiner copies is the start of a batch, or lies inside what one producer has published: from
//! there it walks on by itself, gating, and drops what lies before the sequence that it was to start at.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::layout::Row;
use crate::member::{MAX_MEMBERS, MAX_NAME, MemberKind, Poisoned, Rows, Use};
use crate::recover::OnDeath;
use crate::refusal::{JoinError, NoRow, ProducerError};
use crate::region::Region;
use crate::ring::Producers;
use crate::sequence::{LAST_SEQUENCE, Sequence};
use crate::shared::{Lease, SharedMemory, Unusable};
use crate::step::{Step, reach};
use crate::sync::{MutexGuard, Ordering, PoisonError, SharedByAll, fence};

/// The member table, locked.
pub(crate) struct Roster<'r, T> {
    region: &'r Region<T>,
    /// Against other processes; unlocked before the next.
    _table: Option<TableLock<'r>>,
    watchers: MutexGuard<'r, Watchers>,
}

struct TableLock<'r>(&'r dyn SharedMemory);

impl Drop for TableLock<'_> {
    fn drop(&mut self) {
        self.0.unlock_table();
    }
}

/// How a consumer wants to join.
pub(crate) struct Request<'a> {
    pub(crate) name: &'a str,
    pub(crate) after: &'a [String],
    pub(crate) start: Start,
    /// Whether it is to change events.
    pub(crate) mutable: bool,
    pub(crate) on_death: Option<OnDeath>,
}

/// How a consumer has joined.
pub(crate) struct Entry {
    pub(crate) row: usize,
    /// Those that it comes after.
    pub(crate) before: Rows,
    /// Its position.
    pub(crate) start: Sequence,
    /// Of its row, if other processes share the ring.
    pub(crate) lease: Option<Lease>,
    /// A boundary: everything from the start to here is published.
    pub(crate) known: Sequence,
    /// It is not to be given events below this one.
    pub(crate) target: Sequence,
}

/// The first event that a consumer is to be given.
///
/// # Examples
/// ```
/// # use annulus_ring::{Ring, Start};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// # let mut feed = ring.producer()?;
/// let book = ring.consumer("book").join()?; // keeps what comes
/// feed.publish_batch(3, |_| ())?;
/// let mut screen = ring.consumer("screen").start(Start::Next).join()?;
/// let mut replay = ring.consumer("replay").start(Start::Oldest).join()?;
/// let mut audit = ring.consumer("audit").start(Start::At(2)).join()?;
/// feed.publish_value(7)?;
/// assert_eq!(screen.next_batch()?.sequences().start, 3);
/// assert_eq!(replay.next_batch()?.sequences().start, 0);
/// assert_eq!(audit.next_batch()?.sequences().start, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Wherever it is to start, it joins where another consumer stands, or without one at the floor, and gates
/// there until it first looks for events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The next that is published, or with many producers claimed, after it has joined.
    #[default]
    Next,
    /// The oldest that is sure to be there: the first that some other consumer has not released, or with many
    /// producers, if that lies inside a batch, the first behind it. Without other consumers nothing is kept,
    /// and it is the next.
    Oldest,
    /// This one, which must not be older than [`Start::Oldest`]; it may still have to come.
    At(Sequence),
}

impl<'r, T> Roster<'r, T> {
    /// For who changes the table.
    pub(crate) fn lock(region: &'r Region<T>) -> Result<Self, Unusable> {
        let mut roster = Self::look(region).ok_or(Unusable::Inherited)?;
        if let Some(shared) = region.shared_memory() {
            if !shared.lock_table(true) {
                return Err(Unusable::Busy);
            }
            roster._table = Some(TableLock(shared));
        }
        Ok(roster)
    }

    /// The same, if it takes no waiting for other processes.
    pub(crate) fn try_lock(region: &'r Region<T>) -> Option<Self> {
        let Some(shared) = region.shared_memory() else {
            return Self::look(region);
        };
        if region.is_inherited() {
            return None;
        }
        let watchers = region.joins.try_lock().ok()?;
        shared.lock_table(false).then(|| Self {
            region,
            _table: Some(TableLock(shared)),
            watchers,
        })
    }

    /// For who changes nothing: other processes may do so meanwhile. None if the ring is the parent's of this
    /// process, where somebody may have had the lock.
    pub(crate) fn look(region: &'r Region<T>) -> Option<Self> {
        if region.is_inherited() {
            return None;
        }
        // Nothing under this lock can panic half way, so a poisoned one is as good as another.
        let watchers = region.joins.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self {
            region,
            _table: None,
            watchers,
        })
    }

    pub(crate) fn join_producer(
        &self,
        kind: Producers,
    ) -> Result<(usize, Option<Lease>), ProducerError> {
        let region = self.region;
        if region.producers != kind {
            return Err(ProducerError::WrongKind {
                built_for: region.producers,
            });
        }
        let signal = region.header().status.signal();
        if signal.is_closed() || signal.asks_to_close() {
            return Err(ProducerError::Closed);
        }
        if let Some(cause) = signal.poisoned() {
            return Err(ProducerError::Poisoned(cause));
        }
        let (row, lease) = match self.only_producer() {
            Some(_) if region.shared_memory().is_none() => return Err(ProducerError::Taken),
            Some(row) => (row, self.take_from_the_dead(row)?),
            None => self.take_vacant()?,
        };
        self.enter(row, Use::Producer, "", Rows::default());
        Ok((row, lease))
    }

    /// Takes the row of a dead member, with its lease if other processes share the ring; if not, whoever calls
    /// has a proof.
    pub(crate) fn take_from_the_dead(&self, row: usize) -> Result<Option<Lease>, NoRow> {
        let Some(shared) = self.region.shared_memory() else {
            return Ok(None);
        };
        let lease = shared.lease(row).map_err(NoRow::Refused)?;
        Ok(Some(lease.ok_or(NoRow::Alive)?))
    }

    /// Begins to use a row.
    fn enter(&self, row: usize, usage: Use, name: &str, closure: Rows) {
        let Row { hot, record } = &self.region.rows()[row];
        // INVARIANT R8: before anything else, or the claim of a dead one before it would look like one that is
        // being worked on.
        hot.intent.withdraw();
        reach(Step::Row);
        if let Some(shared) = self.region.shared_memory() {
            hot.set_process(shared.process());
        }
        record.enter(usage, name, closure);
    }

    /// Frees a producer's row. The last one on the heap closes the ring; where processes share it another may
    /// come, and only who was asked to closes it.
    pub(crate) fn leave_producer(&self, row: usize) {
        self.free_producer(row);
        reach(Step::Leave);
        let closes = self.region.shared_memory().is_none() || {
            let signal = self.region.header().status.signal();
            signal.asks_to_close() && !signal.is_closed()
        };
        if closes && self.count(Use::Producer) == 0 {
            close_for_good(self.region);
        }
    }

    /// Enters a consumer.
    pub(crate) fn join_consumer(&self, request: &Request<'_>) -> Result<Entry, JoinError> {
        let region = self.region;
        let (before, closure) = self.check(request)?;
        let name = || request.name.to_owned();
        let (row, lease) = (self.take_vacant()).map_err(|cause| cause.of_consumer(name()))?;
        let entry = &region.rows()[row];
        self.enter(row, Use::Joining, request.name, closure);
        entry.record.set_on_death(request.on_death);
        if request.mutable {
            let mut changing = region.mutable_rows();
            changing.insert(row);
            region.header().status.set_mutable_rows(changing);
        }

        // INVARIANT R1: no position that is copied, nor the floor, is above the published front.
        // INVARIANT R6: J1 to J4, as argued above.
        let first = self.copied_start(request.start);
        entry.record.set_end(first);
        entry.hot.position.enter(first);
        reach(Step::Enter);
        region.header().status.count_join();
        reach(Step::Count);
        // ORDER(join): J3.
        fence(Ordering::SeqCst);
        let start = self.copied_start(request.start).max(first);
        // Without other consumers nothing was kept, though many producers may have left something.
        let oldest = match self.consumers().next() {
            Some(_) => start,
            None => region.front(),
        };
        if let Start::At(asked) = request.start
            && asked < oldest
        {
            self.leave_consumer(row, start);
            return Err(JoinError::TooOld {
                name: name(),
                asked,
                oldest,
            });
        }
        if start > region.front() || start > LAST_SEQUENCE {
            self.leave_consumer(row, first); // By R1 that cannot be.
            return Err(JoinError::Unusable {
                name: name(),
                cause: Unusable::Corrupt,
            });
        }
        entry.record.set_end(start);
        entry.hot.position.enter(start);
        let target = match request.start {
            Start::Next => region.front(),
            Start::Oldest => oldest,
            Start::At(asked) => asked,
        };
        // INVARIANT R6: from here on it counts as one that producers require, and what they publish is for it.
        entry.record.set_usage(if request.mutable {
            Use::MutableConsumer
        } else {
            Use::Consumer
        });
        reach(Step::Join);
        region.wake_at(row);
        Ok(Entry {
            row,
            before,
            start,
            lease,
            known: match region.producers {
                // By the cursor, which may lie behind a consumer that came by a stamp.
                Producers::One => start.max(region.header().published.observe()),
                Producers::Many => start,
            },
            target,
        })
    }

    /// Whether this consumer may join, and if so, which rows it comes after, directly and in all.
    fn check(&self, request: &Request<'_>) -> Result<(Rows, Rows), JoinError> {
        let region = self.region;
        let name = || request.name.to_owned();
        if request.name.is_empty() || request.name.len() > MAX_NAME {
            return Err(JoinError::BadName { name: name() });
        }
        if self.consumer_named(request.name).is_some() {
            return Err(JoinError::NameTaken { name: name() });
        }
        let mut before = Rows::default();
        let mut closure = Rows::default();
        for other in request.after {
            let Some(row) = self.consumer_named(other) else {
                return Err(JoinError::UnknownName {
                    name: name(),
                    after: other.clone(),
                });
            };
            before.insert(row);
            closure = closure.union(region.closure(row));
        }
        closure = closure.union(before);
        for (row, entry) in region.rows().iter().enumerate() {
            let usage = entry.record.usage();
            if !usage.is_consumer() {
                closure.remove(row); // Those before one that has left are in the closure themselves.
            }
            let other_changes = usage == Use::MutableConsumer;
            // INVARIANT R4: who changes events is ordered against every other consumer. A newcomer comes
            // before nobody, so it has to come after; when members leave, that is inherited.
            if usage.is_consumer() && (request.mutable || other_changes) && !closure.contains(row) {
                return Err(JoinError::Unordered {
                    name: name(),
                    other: entry.record.name(),
                    other_changes,
                });
            }
        }
        // INVARIANT R4: a position stands for all that its consumer comes after, unless it joined above one
        // of them and is still there. Who comes after it then waits for that one as well.
        let position = |row: usize| region.rows()[row].hot.position.observe();
        let highest = before.iter().filter_map(position).max();
        for row in closure.iter() {
            if position(row) < highest {
                before.insert(row);
            }
        }
        let signal = region.header().status.signal();
        if signal.is_closed() {
            return Err(JoinError::Closed { name: name() });
        }
        if let Some(cause) = signal.poisoned() {
            return Err(JoinError::Poisoned {
                name: name(),
                cause,
            });
        }
        Ok((before, closure))
    }

    /// A boundary at which a consumer may start, as things are now; never lower than it was before.
    fn copied_start(&self, start: Start) -> Sequence {
        let region = self.region;
        let starts = self.consumers().filter_map(|row| self.start_beside(row));
        match start {
            Start::Next => starts.max(),
            // Also for what is asked by its sequence: the walk from here finds it.
            Start::Oldest | Start::At(_) => starts.min(),
        }
        .unwrap_or_else(|| match region.producers {
            Producers::One => region.header().published.observe(),
            Producers::Many => region.header().floor.observe(),
        })
    }

    /// Where to start beside this consumer: at its position, if that can be read from, or else where
    /// the batch ends in which it lies.
    fn start_beside(&self, row: &Row) -> Option<Sequence> {
        let position = row.hot.position.observe()?;
        let can_be_read_from = match self.region.producers {
            // The cursor tells what is published from there on.
            Producers::One => position <= self.region.header().published.observe(),
            Producers::Many => false,
        };
        Some(if can_be_read_from {
            position
        } else {
            row.record.end()
        })
    }

    /// Frees the row of a consumer, which allows to overwrite what lies below `end`, a boundary at or above
    /// its position.
    pub(crate) fn leave_consumer(&self, row: usize, end: Sequence) {
        let region = self.region;
        if region.producers == Producers::Many {
            // INVARIANT R2: without consumers the floor is the gate, and it must not fall behind what
            // this one has allowed.
            region.header().floor.raise(end);
            reach(Step::Floor);
        }
        region.rows()[row].hot.position.leave();
        reach(Step::Leave);
        region.rows()[row].record.set_usage(Use::Free);
        let mut changing = region.mutable_rows();
        if changing.contains(row) {
            changing.remove(row);
            region.header().status.set_mutable_rows(changing);
        }
        region.wake_at(row);
    }

    /// Frees the row of a dead producer. What it had claimed shows by what the living do not.
    pub(crate) fn free_producer(&self, row: usize) {
        self.region.rows()[row].hot.intent.withdraw();
        self.region.rows()[row].record.set_usage(Use::Free);
    }

    /// The row of the producer, if the ring is for one and has it.
    pub(crate) fn only_producer(&self) -> Option<usize> {
        if self.region.producers == Producers::Many {
            return None;
        }
        let mut rows = self.region.rows().iter();
        rows.position(|row| row.record.usage() == Use::Producer)
    }

    /// The row of the consumer of this name, if it is of this kind.
    pub(crate) fn row_of(&self, name: &str, mutable: bool) -> Option<usize> {
        let row = self.consumer_named(name)?;
        let usage = self.region.rows()[row].record.usage();
        (mutable == (usage == Use::MutableConsumer)).then_some(row)
    }

    /// How the dead consumer in this row stands, for who goes on in its place; nothing if it was leaving.
    pub(crate) fn entry_of(&self, row: usize, lease: Option<Lease>) -> Option<Entry> {
        let Row { hot, record } = &self.region.rows()[row];
        if let Some(shared) = self.region.shared_memory() {
            hot.set_process(shared.process());
        }
        let start = hot.position.observe()?;
        let end = record.end().max(start);
        Some(Entry {
            row,
            // More than it came after by name, and the same in effect.
            before: self.region.closure(row),
            start,
            lease,
            known: match self.region.producers {
                // It may have joined inside a batch, and then its end is none.
                Producers::One => end.max(self.region.header().published.observe()),
                Producers::Many => end,
            },
            target: 0,
        })
    }

    pub(crate) fn set_on_death(&self, row: usize, on_death: Option<OnDeath>) {
        self.region.rows()[row].record.set_on_death(on_death);
    }

    /// Whether the gate of this consumer stays if it dies: if it says nothing else, when it changes events
    /// or others come after it.
    pub(crate) fn holds_when_dead(&self, row: usize) -> bool {
        let record = &self.region.rows()[row].record;
        match record.on_death() {
            Some(on_death) => on_death == OnDeath::Hold,
            None => {
                record.usage() == Use::MutableConsumer
                    || self
                        .consumer_rows()
                        .any(|other| self.region.closure(other).contains(row))
            }
        }
    }

    /// Closes the ring, or asks its only producer to: nobody else knows when that has published its last.
    pub(crate) fn close(&self) {
        if self.only_producer().is_some() {
            ask_to_close(self.region);
        } else {
            close_for_good(self.region);
        }
    }

    /// The members in the order of their rows: row, kind and name.
    pub(crate) fn members(&self) -> impl Iterator<Item = (usize, MemberKind, String)> {
        let rows = self.region.rows().iter().enumerate();
        rows.filter_map(|(index, row)| Some((index, kind_of(row)?, row.record.name())))
    }

    /// The kind and name of the member in this row.
    pub(crate) fn member(&self, row: usize) -> (MemberKind, String) {
        let row = &self.region.rows()[row];
        let kind = kind_of(row).unwrap_or(MemberKind::Consumer); // Somebody who is joining.
        (kind, row.record.name())
    }

    /// The names of the consumers before this one that have not left.
    pub(crate) fn names_before(&self, row: usize) -> Vec<String> {
        let before = self.region.closure(row);
        let rows = self.consumer_rows().filter(|&row| before.contains(row));
        rows.map(|row| self.region.rows()[row].record.name())
            .collect()
    }

    pub(crate) fn watch(&mut self, watcher: Watcher) {
        self.watchers.0.push(watcher);
    }

    /// Unlocks the table, and then tells all who watch: they may look at the ring.
    pub(crate) fn tell(self, presence: &Presence) {
        self.tell_all(std::slice::from_ref(presence));
    }

    /// As [`Roster::tell`], of several.
    pub(crate) fn tell_all(self, presences: &[Presence]) {
        let watchers = self.watchers.0.clone();
        drop(self);
        for presence in presences {
            for watcher in &watchers {
                // A member that joins or leaves has nothing to do with a watcher that fails.
                let _ = catch_unwind(AssertUnwindSafe(|| watcher(presence)));
            }
        }
    }

    fn count(&self, usage: Use) -> usize {
        let rows = self.region.rows().iter();
        rows.filter(|row| row.record.usage() == usage).count()
    }

    /// Those that have joined.
    fn consumers(&self) -> impl Iterator<Item = &Row> {
        self.consumer_rows().map(|row| &self.region.rows()[row])
    }

    fn consumer_rows(&self) -> impl Iterator<Item = usize> {
        let rows = self.region.rows();
        (0..rows.len()).filter(|&row| rows[row].record.usage().is_consumer())
    }

    fn consumer_named(&self, name: &str) -> Option<usize> {
        (self.consumer_rows()).find(|&row| self.region.rows()[row].record.name() == name)
    }

    /// Takes a row, with its lease if other processes share the ring: a row that is free, and in the closure
    /// of no living consumer, which would take the newcomer for the one that has left.
    fn take_vacant(&self) -> Result<(usize, Option<Lease>), NoRow> {
        let rows = self.region.rows();
        let held = (self.consumer_rows()).fold(Rows::default(), |held, row| {
            held.union(self.region.closure(row))
        });
        let mut vacant = (0..rows.len())
            .filter(|&row| rows[row].record.usage() == Use::Free && !held.contains(row));
        let Some(shared) = self.region.shared_memory() else {
            let row = vacant.next().ok_or_else(|| self.full())?;
            return Ok((row, None));
        };
        for row in vacant {
            // One whose member has left, and not yet given back its lease, is not to be had.
            if let Some(lease) = shared.lease(row).map_err(NoRow::Refused)? {
                return Ok((row, Some(lease)));
            }
        }
        Err(self.full())
    }

    /// Nobody can join: says who has the rows.
    fn full(&self) -> NoRow {
        let of = |(row, kind, name): (usize, MemberKind, String)| {
            let process = self.region.rows()[row].hot.process();
            let process = process.map_or(String::new(), |process| format!(" of process {process}"));
            match kind {
                MemberKind::Producer => format!("a producer{process}"),
                _ => format!("{name:?}{process}"),
            }
        };
        NoRow::Full {
            members: self.region.rows().len(),
            held_by: self.members().map(of).collect(),
        }
    }
}

/// Closes the ring: it has no producer, or many.
pub(crate) fn close_for_good<T>(region: &Region<T>) {
    let header = region.header();
    // INVARIANT R7: from here on no claim succeeds, so the end of what is claimed is final.
    header.claimed.stop();
    // INVARIANT R7: one producer is gone or has none to come; many have no more claims.
    header.status.close();
}

/// Asks the only producer to close the ring.
fn ask_to_close<T>(region: &Region<T>) {
    let header = region.header();
    header.status.ask_to_close();
    reach(Step::Stop);
    header.claimed.stop();
}

/// Closes the ring without the lock of its table; or where only that tells whether there is a producer, asks
/// whoever is to close it or to recover.
pub(crate) fn close_beside<T>(region: &Region<T>) {
    match region.producers {
        Producers::One => ask_to_close(region),
        Producers::Many => close_for_good(region),
    }
}

fn kind_of(row: &Row) -> Option<MemberKind> {
    match row.record.usage() {
        Use::Producer => Some(MemberKind::Producer),
        Use::Consumer if row.record.closure(MAX_MEMBERS).is_empty() => Some(MemberKind::Consumer),
        Use::Consumer => Some(MemberKind::Stage),
        Use::MutableConsumer => Some(MemberKind::MutableStage),
        Use::Free | Use::Joining => None,
    }
}

/// Who is told when members come and go.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Watcher>);

pub(crate) type Watcher = SharedByAll<dyn Fn(&Presence) + Send + Sync>;

/// What a watcher is told; see [`Ring::watch`](crate::Ring::watch).
///
/// # Examples
/// See [`Ring::watch`](crate::Ring::watch).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// A member has joined.
    Joined {
        /// What it is.
        kind: MemberKind,
        /// Its name; producers have none.
        name: String,
    },
    /// A member has left.
    Left {
        /// What it was.
        kind: MemberKind,
        /// Its name; producers have none.
        name: String,
    },
    /// The ring was poisoned.
    Poisoned(Poisoned),
}

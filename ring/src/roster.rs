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
//!
//! One that is to start at the next event copies what is published, also where consumers are behind: it must not hold
//! what they may release meanwhile. With many producers nothing tells that at once: it is walked to from the highest
//! boundary that any consumer has known, or the floor. By J4 that is no lower than what P2 found, so no claim below a
//! limit of before can write there while it walks, and by J2 none below a later limit.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::layout::Row;
use crate::member::{MAX_NAME, MemberKind, Poisoned, Rows, Status, Use};
use crate::recover::{OnDeath, end_of_stamps};
use crate::refusal::{JoinError, NoRow, ProducerError};
use crate::region::{Memory, Region};
use crate::ring::Producers;
use crate::sequence::{LAST_SEQUENCE, Sequence};
use crate::shared::{Lease, SharedMemory, Unusable};
use crate::snapshot::published_front;
use crate::step::{Step, reach};
use crate::sync::{
    MutexGuard, Ordering, PoisonError, SharedByAll, explored_pause, fence, sleep, try_lock,
    yield_now,
};

/// The member table, locked.
pub(crate) struct Roster<'r, T> {
    memory: &'r Memory<T>,
    region: &'r Region<T>,
    /// Against other processes; unlocked before the next.
    _table: Option<TableLock<'r>>,
    watchers: MutexGuard<'r, Watchers>,
}

struct TableLock<'r> {
    memory: &'r dyn SharedMemory,
    status: &'r Status,
}

impl Drop for TableLock<'_> {
    fn drop(&mut self) {
        self.status.set_table_holder(None);
        self.memory.unlock_table();
    }
}

/// How long a join waits for other processes to unlock the table: none that works takes so long.
const LONG: Duration = Duration::from_secs(5);

/// How long a leave waits for them; it can do without the lock.
const SHORT: Duration = Duration::from_millis(50);

/// How often to try to lock the table before the clock is looked at, and between tries a sleep.
const SWIFT_TRIES: u32 = 100;

const BETWEEN_TRIES: Duration = Duration::from_millis(1);

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
    /// Whether it goes on in the place of another.
    pub(crate) is_successor: bool,
    /// How long others waited for a successor of that one.
    pub(crate) hold_for: Option<Duration>,
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
/// From when it has joined it gates: at what is published, or for an older start where the slowest consumer stands, until
/// it first looks for events.
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
    /// To change the table.
    pub(crate) fn lock(memory: &'r Memory<T>) -> Result<Self, Unusable> {
        Self::lock_within(memory, LONG)
    }

    /// To leave.
    pub(crate) fn lock_to_leave(memory: &'r Memory<T>) -> Result<Self, Unusable> {
        Self::lock_within(memory, SHORT)
    }

    /// Waits with nothing locked: the other threads of this process can look at the ring meanwhile.
    fn lock_within(memory: &'r Memory<T>, patience: Duration) -> Result<Self, Unusable> {
        let region = memory.region();
        if region.shared_memory().is_none() {
            return Self::look(memory).ok_or(Unusable::Inherited);
        }
        let mut give_up_at = None;
        for tries in 0.. {
            if region.is_inherited() {
                return Err(Unusable::Inherited);
            }
            if let Some(roster) = Self::try_lock(memory) {
                return Ok(roster);
            }
            if cfg!(loom) && patience == SHORT {
                break; // A model has no clock: it goes both ways.
            }
            explored_pause(tries);
            if tries < SWIFT_TRIES {
                yield_now();
                continue;
            }
            let now = Instant::now();
            if now > *give_up_at.get_or_insert(now + patience) {
                break;
            }
            sleep(BETWEEN_TRIES);
        }
        Err(Unusable::Busy {
            process: region.header().status.table_holder(),
        })
    }

    /// The same, if it takes no waiting for other processes.
    pub(crate) fn try_lock(memory: &'r Memory<T>) -> Option<Self> {
        let region = memory.region();
        let Some(shared) = region.shared_memory() else {
            return Self::look(memory);
        };
        if region.is_inherited() {
            return None;
        }
        // Nothing under this lock can panic half way, so a poisoned one is as good as another.
        let watchers = try_lock(&region.joins)?;
        if !shared.lock_table() {
            return None;
        }
        let status = &region.header().status;
        status.set_table_holder(Some(shared.process()));
        Some(Self {
            memory,
            region,
            _table: Some(TableLock {
                memory: shared,
                status,
            }),
            watchers,
        })
    }

    /// For who changes nothing: other processes may do so meanwhile. None if the ring is the parent's of this
    /// process, where somebody may have had the lock.
    pub(crate) fn look(memory: &'r Memory<T>) -> Option<Self> {
        let region = memory.region();
        if region.is_inherited() {
            return None;
        }
        // Nothing under this lock can panic half way, so a poisoned one is as good as another.
        let watchers = region.joins.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self {
            memory,
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
        hot.set_eviction(false);
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
        (entry.record).set_on_death(request.on_death, !closure.is_empty());
        if request.mutable {
            let mut changing = region.mutable_rows();
            changing.insert(row);
            region.header().status.set_mutable_rows(changing);
        }

        // INVARIANT R1: no position that is copied, nor the floor, is above the published front.
        // INVARIANT R6: J1 to J4, as argued above.
        let first = self.copied_start(request.start);
        entry.record.set_end(first); // Also what `copied_start` is not to go below.
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
        let published = match region.producers {
            // A consumer that has come by a stamp may be past the cursor.
            Producers::One => end_of_stamps(self.memory, region.header().published.observe()),
            Producers::Many => region.front(),
        };
        if start > published || start > LAST_SEQUENCE {
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
            is_successor: false,
            hold_for: None,
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
        let starts = || self.consumers().filter_map(|row| self.start_beside(row));
        match (start, region.producers) {
            // At what is published: where another consumer is, it would hold what that one may release meanwhile.
            (Start::Next, Producers::One) => None,
            (Start::Next, Producers::Many) => Some(published_front(self.memory)),
            // Also for what is asked by its sequence: the walk from here finds it.
            (Start::Oldest | Start::At(_), _) => starts().min(),
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
    ///
    /// Returns how many published sequences it loses by that, if it was asked to leave.
    pub(crate) fn leave_consumer(&self, row: usize, end: Sequence) -> u64 {
        let region = self.region;
        if region.producers == Producers::Many {
            // INVARIANT R2: without consumers the floor is the gate, and it must not fall behind what
            // this one has allowed.
            region.header().floor.raise(end);
            reach(Step::Floor);
        }
        let Row { hot, record } = &region.rows()[row];
        let position = hot.position.observe();
        hot.position.leave();
        reach(Step::Leave);
        let mut changing = region.mutable_rows();
        if changing.contains(row) {
            changing.remove(row);
            region.header().status.set_mutable_rows(changing);
        }
        let mut lost = 0;
        if hot.is_to_be_evicted() {
            lost = self.published().saturating_sub(position.unwrap_or(end));
            hot.set_lost(lost);
            self.set_eviction(row, false);
        }
        record.set_usage(Use::Free);
        if region.header().watch.give_up(row) {
            region.wake(); // One of those that sleep takes the duty.
        }
        region.wake_at(row);
        lost
    }

    fn published(&self) -> Sequence {
        match self.region.producers {
            Producers::One => self.region.header().published.observe(),
            Producers::Many => published_front(self.memory),
        }
    }

    /// Asks the consumer in this row to leave, or takes that back.
    pub(crate) fn set_eviction(&self, row: usize, asked: bool) {
        let rows = self.region.rows();
        rows[row].hot.set_eviction(asked);
        let mut asked = self.consumer_rows().map(|row| &rows[row].hot);
        let any = asked.any(|hot| hot.is_to_be_evicted());
        self.region.header().status.set_evicting(any);
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

    /// Whether the consumer in this row has left its place to a successor, or has died and is known to have.
    pub(crate) fn is_held(&self, row: usize) -> bool {
        self.region.rows()[row].record.is_held()
    }

    /// Takes out of the closure of a dead consumer what it does not come after any more: those that have left, whose
    /// rows can have new members then. What they came after is in the closure itself.
    pub(crate) fn forget_those_that_left(&self, row: usize) {
        let rows = self.region.rows();
        let closure = self.region.closure(row);
        let mut left = Rows::default();
        for before in closure.iter() {
            if !rows[before].record.usage().is_consumer() {
                left.insert(before);
            }
        }
        rows[row].record.forget(left);
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
            is_successor: true,
            hold_for: hot.hold_for(),
        })
    }

    /// A successor goes on in this row, and says what is to become of its gate, or leaves that as it was.
    pub(crate) fn succeed(&self, row: usize, on_death: Option<OnDeath>) {
        let record = &self.region.rows()[row].record;
        record.set_on_death(on_death.or(record.on_death()), record.is_stage());
        self.set_eviction(row, false);
    }

    /// Whether the gate of this consumer stays if it dies: if it says nothing else, when it changes events
    /// or others come after it.
    pub(crate) fn holds_when_dead(&self, row: usize) -> bool {
        let Row { hot, record } = &self.region.rows()[row];
        if record.is_leaving() || hot.is_to_be_evicted() {
            return false;
        }
        if record.is_held() {
            return true; // Once due it stays, also if those that come after it go.
        }
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
        let kind = kind_of(row).unwrap_or(MemberKind::Consumer); // It has just left.
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
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| watcher(presence))) {
                    drop_in_peace(payload);
                }
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

    /// The row of the consumer of this name, whatever its kind.
    pub(crate) fn consumer_named(&self, name: &str) -> Option<usize> {
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

    /// No row is left: says what has them.
    fn full(&self) -> NoRow {
        let rows = self.region.rows();
        let process = |row: usize| {
            let process = rows[row].hot.process();
            process.map_or(String::new(), |process| format!(" of process {process}"))
        };
        let mut producers: Vec<(String, usize)> = Vec::new();
        let mut held_by = Vec::new();
        for (row, kind, name) in self.members() {
            let process = process(row);
            if kind != MemberKind::Producer {
                let joining = if rows[row].record.is_joining() {
                    ", which is joining"
                } else {
                    ""
                };
                held_by.push(format!("{name:?}{process}{joining}"));
            } else if let Some((_, count)) = producers.iter_mut().find(|(of, _)| *of == process) {
                *count += 1;
            } else {
                producers.push((process, 1));
            }
        }
        held_by.extend(producers.into_iter().map(|(process, count)| match count {
            1 => format!("a producer{process}"),
            _ => format!("{count} producers{process}"),
        }));
        for (row, entry) in rows.iter().enumerate() {
            let mut after = self.consumer_rows();
            if entry.record.usage() == Use::Free
                && let Some(after) = after.find(|&after| self.region.closure(after).contains(row))
            {
                let name = rows[after].record.name();
                held_by.push(format!(
                    "the row of a consumer that has left, kept until {name:?}, which came after it, looks for events"
                ));
            }
        }
        NoRow::Full {
            members: rows.len(),
            held_by,
        }
    }
}

/// Drops what a panic has left; if that panics as well, what this leaves is forgotten.
pub(crate) fn drop_in_peace(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(another);
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
        Use::Joining | Use::Consumer if row.record.is_stage() => Some(MemberKind::Stage),
        Use::Joining | Use::Consumer => Some(MemberKind::Consumer),
        Use::MutableConsumer => Some(MemberKind::MutableStage),
        Use::Free => None,
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

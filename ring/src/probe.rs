//! How far a consumer may read: what is published at a boundary and, for a stage, also the positions of
//! those it comes after; and what it gives back.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use crate::layout::Row;
use crate::member::Rows;
use crate::recover::{OnDeath, longest_sleep, look_for_the_dead, look_while_idle};
use crate::region::Memory;
use crate::ring::Producers;
use crate::roster::{Entry, Presence, Roster};
use crate::sequence::Sequence;
use crate::shared::Lease;
use crate::stamp::Reading;
use crate::step::{Step, reach};
use crate::sync::{Fences, panicking};
use crate::wait::{EventCount, LONG_SLEEP, LONGEST_SLEEP};

/// One consumer's side of the ring: `position <= read <= known`.
pub(crate) struct Probe<T> {
    pub(crate) memory: Memory<T>,
    row: usize,
    /// The next sequence that it has not released.
    position: Sequence,
    /// The next sequence that it has not been given; above the position while it holds events.
    read: Sequence,
    /// A boundary: from `read` to here everything is published, and nothing skipped.
    known: Sequence,
    /// A boundary at or above the position, and no further than the end of the batch that this lies in.
    boundary: Sequence,
    /// Events below this one are not for it: it has joined to start here.
    target: Sequence,
    /// How far those that it comes after had got when it last looked.
    limit: Sequence,
    /// Those that it comes after, less those that have left.
    before: Rows,
    /// The last of them, when it last looked.
    held_up_by: Option<usize>,
    /// Whether it found more than one batch when it last looked past one.
    backlog: bool,
    /// Without stamps: how many events came at once when it last waited.
    came_at_once: u64,
    producers: Producers,
    /// Whether anybody may have to be woken.
    parking: Option<Fences>,
    /// Whether it has found what cannot be.
    is_corrupt: bool,
    /// What it has stepped over since it was last asked, if it is to be asked.
    stepped_over: Option<Vec<Range<Sequence>>>,
    /// Of its row, if other processes share the ring.
    lease: Option<Lease>,
    /// How it is to go, if that was said.
    departure: Option<Departure>,
    /// How many events it has lost by being evicted, if it was.
    evicted: Option<u64>,
    /// Where a batch was dropped while its thread unwinds, if one was.
    unwound_at: Option<Sequence>,
}

/// How a consumer goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// For good: it gates nothing any more.
    Leave,
    /// Its place stays, for a successor of the same name.
    Hold,
    /// As if its process had died: what becomes of its place is what it chose for that.
    Die,
}

/// Whether to look past the batch at hand for more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To the end of what is published: for who finds an event at the first look, and so probably a
    /// backlog.
    Backlog,
    /// One batch, whose stamp came with its first event: for who has been waiting. Another look would
    /// fetch another line, and delay the event that has just come.
    OneBatch,
}

impl<T> Probe<T> {
    pub(crate) fn new(memory: Memory<T>, entry: Entry, list_skipped: bool) -> Self {
        let producers = memory.region().producers;
        let parking = memory.region().parking;
        // More than a lap cannot be, and would not be safe.
        let known = entry
            .known
            .min(entry.start.saturating_add(memory.capacity()));
        Self {
            memory,
            row: entry.row,
            position: entry.start,
            read: entry.start,
            known,
            boundary: known, // It may start inside a batch.
            target: entry.target.max(entry.start),
            limit: if entry.before.is_empty() {
                Sequence::MAX
            } else {
                0
            },
            before: entry.before,
            held_up_by: None,
            backlog: false,
            came_at_once: 0,
            producers,
            parking,
            is_corrupt: false,
            stepped_over: list_skipped.then(Vec::new),
            lease: entry.lease,
            departure: None,
            evicted: None,
            unwound_at: None,
        }
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }

    /// The first sequence that is for it.
    pub(crate) fn start(&self) -> Sequence {
        self.target
    }

    /// The next sequence that it has not released.
    #[inline]
    pub(crate) fn position(&self) -> Sequence {
        self.position
    }

    /// The next sequence that it has not been given.
    #[inline]
    pub(crate) fn read(&self) -> Sequence {
        self.read
    }

    /// A boundary at or above the position, and no further than the end of the batch that this lies in.
    pub(crate) fn boundary(&self) -> Sequence {
        self.boundary
    }

    /// Whether it has come to the end of what it knows that it may read, and there was more than one
    /// batch of it: producers run ahead of it, so it can leave them alone for a moment.
    #[inline]
    pub(crate) fn has_drained_a_backlog(&self) -> bool {
        self.backlog && self.read == self.known.min(self.limit)
    }

    /// Whether it has found what no member of a ring writes. It goes no further then.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.is_corrupt
    }

    /// The consumer that holds it up, if one does.
    pub(crate) fn held_up_by(&self) -> Option<usize> {
        self.held_up_by.filter(|_| self.limit <= self.read)
    }

    pub(crate) fn take_stepped_over(&mut self) -> Vec<Range<Sequence>> {
        self.stepped_over
            .as_mut()
            .map(mem::take)
            .unwrap_or_default()
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.memory.row(self.row).record.skipped()
    }

    /// How far it may read: to `read` if there is nothing. Steps over what is skipped.
    #[inline]
    pub(crate) fn look(&mut self, reach: Reach) -> Sequence {
        loop {
            if self.limit <= self.read {
                self.limit = self.passed_by_those_before();
                if self.limit <= self.read {
                    return self.read;
                }
            }
            if self.known == self.read {
                match self.reading(self.read) {
                    Reading::Events(hi) => {
                        self.known = hi;
                        self.look_for_backlog(reach);
                    }
                    Reading::Skip(hi) if self.may_step_over(hi) => {
                        self.step_over(hi);
                        continue;
                    }
                    // Nobody gets a lap above what it has not released.
                    Reading::Skip(_) | Reading::Overtaken => return self.stop_as_corrupt(),
                    Reading::Unpublished => return self.read,
                }
                if self.known == self.read {
                    return self.read; // What it found cannot be.
                }
            }
            // INVARIANT R4: not past those that it comes after.
            let end = self.known.min(self.limit);
            if self.read >= self.target {
                return end;
            }
            self.pass(end.min(self.target));
        }
    }

    #[cold]
    #[inline(never)] // It would be in the way of who finds events.
    fn stop_as_corrupt(&mut self) -> Sequence {
        self.is_corrupt = true;
        self.known = self.read;
        self.read
    }

    /// It is done with everything below `to`. That is released, unless it holds something before it.
    #[inline]
    pub(crate) fn pass(&mut self, to: Sequence) {
        debug_assert!(
            self.read <= to && to <= self.known.min(self.limit),
            "from {} to {to}, knows {}, limit {}",
            self.read,
            self.known,
            self.limit
        );
        let holds_nothing = self.position == self.read;
        self.read = to;
        if holds_nothing {
            self.release(to);
        }
    }

    /// Goes on to `to` without releasing what lies below.
    pub(crate) fn hold(&mut self, to: Sequence) {
        debug_assert!(self.read <= to && to <= self.known.min(self.limit));
        self.read = to;
    }

    /// Releases everything below `to`, of what it has been given.
    #[inline]
    pub(crate) fn release(&mut self, to: Sequence) {
        debug_assert!(self.position <= to && to <= self.read);
        self.memory.have_read(self.position, to);
        let (from, batch_end) = (self.position, self.boundary);
        let to = if to == self.known || self.producers == Producers::One {
            self.boundary = self.known;
            to
        } else {
            self.walk_to(to)
        };
        self.position = to;
        let row = self.memory.row(self.row);
        if from < batch_end && batch_end < to && self.producers == Producers::Many {
            // INVARIANT R8: something may be skipped behind the batch in which it is. If it dies with the
            // next end stored and its position not, a successor starts at a boundary.
            row.hot.position.advance(batch_end);
        }
        // The end goes first: who copies it finds it at or above the position.
        row.record.set_end(self.boundary);
        reach(Step::End);
        row.hot.position.advance(to);
        reach(Step::Release);
        if let Some(fences) = self.parking {
            row.hot.waiters.wake(fences);
        }
    }

    /// Brings the boundary to `to` or to the end of the batch that this lies in. Returns `to`, or where
    /// what is skipped ends if `to` lies there: that is not to be held.
    #[cold]
    fn walk_to(&mut self, mut to: Sequence) -> Sequence {
        while self.boundary < to || (self.boundary == to && to < self.read) {
            match self.reading(self.boundary) {
                Reading::Events(_) if self.boundary == to => break,
                Reading::Events(hi) if hi <= self.known => self.boundary = hi,
                Reading::Skip(hi) if hi <= self.read => {
                    self.boundary = hi;
                    to = to.max(hi);
                }
                _ => {
                    // It has been read up to there, and not released.
                    self.is_corrupt = true;
                    self.boundary = self.boundary.max(to);
                    break;
                }
            }
        }
        to
    }

    /// Whether a batch without events that ends there can be: those that this one comes after have stepped over it
    /// as a whole, and R2 as in `look`.
    fn may_step_over(&self, hi: Sequence) -> bool {
        hi <= self.limit && hi - self.position <= self.memory.capacity()
    }

    #[cold]
    fn step_over(&mut self, hi: Sequence) {
        let row = self.memory.row(self.row);
        let from = self.read.max(self.target);
        row.record.add_skipped(hi.saturating_sub(from)); // What lies below was never for it.
        if let Some(ranges) = &mut self.stepped_over
            && from < hi
        {
            match ranges.last_mut() {
                Some(last) if last.end == from => last.end = hi,
                _ => ranges.push(from..hi),
            }
        }
        self.known = hi;
        self.pass(hi);
    }

    /// Drops everything that may be read but the last event; returns how many events it dropped.
    pub(crate) fn skip_to_latest(&mut self) -> u64 {
        let mut dropped = 0;
        self.limit = self.passed_by_those_before(); // As last seen is not enough: all that is there.
        loop {
            let end = self.look(Reach::Backlog);
            let events = end - self.read;
            // Others may publish for ever, and behind what is corrupt nothing is found.
            let enough = dropped >= self.memory.capacity() || self.is_corrupt;
            if end < self.known || enough || !self.is_followed_by_events() {
                // A stage before this one is at work behind it, or nothing is published there yet.
                if events > 1 {
                    self.pass(end - 1);
                    dropped += events - 1;
                }
                return dropped;
            }
            self.pass(end);
            dropped += events;
        }
    }

    /// Whether there is another event that may be read behind what it knows.
    fn is_followed_by_events(&mut self) -> bool {
        let mut boundary = self.known;
        loop {
            if self.limit <= boundary {
                self.limit = self.passed_by_those_before();
                if self.limit <= boundary {
                    return false;
                }
            }
            match self.reading(boundary) {
                Reading::Events(_) => return true,
                Reading::Skip(hi) => boundary = hi,
                Reading::Unpublished | Reading::Overtaken => return false,
            }
        }
    }

    /// Finds how much more is published than what has just been found, and whether that is a backlog.
    #[inline]
    fn look_for_backlog(&mut self, reach: Reach) {
        let found = self.known;
        if self.memory.stamp(found).is_none() {
            // The cursor tells all at once. More than what came when it last waited is more than one
            // batch.
            let events = found - self.read;
            self.check_lap();
            self.backlog = reach == Reach::Backlog && events > self.came_at_once;
            if reach == Reach::OneBatch {
                self.came_at_once = events;
            }
            return;
        }
        if reach == Reach::Backlog {
            self.look_ahead();
        }
        self.backlog = self.known > found;
        if self.backlog {
            self.check_lap();
        }
    }

    /// One batch is never more than a lap: by its stamp. More than one, or what the cursor tells, has to be checked.
    #[inline]
    fn check_lap(&mut self) {
        // INVARIANT R2: nothing is claimed more than a lap above what it has not released.
        if self.known - self.position > self.memory.capacity() {
            self.stop_as_corrupt();
        }
    }

    #[inline]
    fn look_ahead(&mut self) {
        // With one producer `published` tells it all; but the producer is about to write that line,
        // so it is read only if the next stamp, which came with this one or is next to it, says that
        // it is worth the while. Use it only if it is greater: a stamp is out before `published` is.
        for _ in 0..MOST_AHEAD {
            let Reading::Events(hi) = self.reading(self.known) else {
                break;
            };
            self.known = hi;
            if self.producers == Producers::One {
                self.known = hi.max(self.memory.header().published.observe());
                break;
            }
        }
    }

    #[inline]
    fn reading(&self, boundary: Sequence) -> Reading {
        let reading = self.memory.reading(boundary);
        debug_assert!(
            reading != Reading::Overtaken || self.lease.is_some(),
            "overtaken at {boundary}, which this consumer gates"
        );
        reading
    }

    /// The lowest position of those that it comes after.
    fn passed_by_those_before(&mut self) -> Sequence {
        if self.evicted.is_some() {
            return 0;
        }
        let mut lowest = Sequence::MAX;
        self.held_up_by = None;
        let mut rows = self.before;
        let mut left = Rows::default();
        while let Some(row) = rows.pop() {
            match self.memory.row(row).hot.position.observe() {
                Some(position) if position < lowest => {
                    lowest = position;
                    self.held_up_by = Some(row);
                }
                Some(_) => {}
                None => {
                    // INVARIANT R4: one that left is replaced by all that it came after and that were
                    // there when this one joined: rows of others may be used again. This ends,
                    // because nobody is looked at again that has left.
                    left.insert(row);
                    let region = self.memory.region();
                    let inherited = region.closure(row).intersection(region.closure(self.row));
                    let inherited = inherited.without(left);
                    self.before.remove(row);
                    self.before = self.before.union(inherited);
                    rows = rows.union(inherited);
                }
            }
        }
        if !left.is_empty() {
            // INVARIANT R4: it does not look at them again, so their rows can have new members.
            self.memory.row(self.row).record.forget(left);
        }
        lowest
    }

    /// Where it is woken when what holds it up has moved.
    pub(crate) fn what_wakes(&self) -> &EventCount {
        match self.held_up_by {
            // While nothing is published, a publication is what comes next: it finds out by that whether those before
            // it live, so it need not look now and then.
            Some(row) if self.limit <= self.read && !(self.lease.is_some() && self.is_idle()) => {
                &self.memory.row(row).hot.waiters
            }
            _ => &self.memory.header().waiters,
        }
    }

    /// Whether nothing is claimed, or with one producer published, that it has not been given.
    fn is_idle(&self) -> bool {
        self.has_read_all() && self.reading(self.read) == Reading::Unpublished
    }

    /// Looks whether any member has died, and recovers.
    pub(crate) fn look_for_the_dead(&self) {
        if self.is_idle() {
            look_while_idle(&self.memory, self.row);
        } else {
            look_for_the_dead(&self.memory);
        }
    }

    /// How long to sleep at most, if other processes share the ring: for long if it has nothing to do and another
    /// member looks for the dead meanwhile.
    pub(crate) fn longest_sleep(&self) -> Option<Duration> {
        let header = self.memory.header();
        if self.lease.is_some() && self.is_idle() && header.status.signal().is_quiet() {
            return Some(match header.watch.take(self.row) {
                true => LONGEST_SLEEP,
                false => LONG_SLEEP,
            });
        }
        longest_sleep(&self.memory, self.held_up_by())
    }

    /// It sleeps no more: if it was on duty, another takes that over.
    pub(crate) fn give_up_the_duty(&self) {
        if self.lease.is_some() && self.memory.header().watch.give_up(self.row) {
            self.memory.region().wake();
        }
    }

    /// Whether everything that is claimed, or with one producer published, has been read.
    pub(crate) fn has_read_all(&self) -> bool {
        // A consumer that has come by a stamp may be past the cursor of one producer.
        self.read >= self.memory.region().front()
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.is_some()
    }

    /// Leaves if it was asked to: returns how many events it has lost by that.
    ///
    /// No batch is in hand where this is called, so what others overwrite now is not being read.
    #[cold]
    pub(crate) fn heed_eviction(&mut self) -> Option<u64> {
        if self.evicted.is_none() && self.memory.row(self.row).hot.is_to_be_evicted() {
            // Without the lock it is asked again, or found dead in the end.
            let roster = Roster::lock_to_leave(&self.memory).ok()?;
            let (kind, name) = roster.member(self.row);
            self.evicted = Some(roster.leave_consumer(self.row, self.boundary));
            // It finds nothing more, and has nothing to release: its row may be another's now.
            self.limit = 0;
            self.known = self.read;
            self.position = self.read;
            self.lease = None;
            roster.tell(&Presence::Left { kind, name });
        }
        self.evicted
    }

    pub(crate) fn set_departure(&mut self, departure: Departure) {
        self.departure = Some(departure);
    }

    fn departure(&self) -> Departure {
        let holds = self.memory.row(self.row).record.on_death() == Some(OnDeath::Hold);
        let is_shared = self.memory.region().shared_memory().is_some();
        match self.departure {
            Some(departure) => departure,
            None if is_shared && panicking() => Departure::Die,
            None if holds && (is_shared || panicking()) => Departure::Hold,
            None => Departure::Leave,
        }
    }

    /// Whether a batch that is dropped now keeps its events, as its thread unwinds and its place is to stay. Once only
    /// at one position: a destructor that takes batches while its thread unwinds goes on.
    #[cold]
    pub(crate) fn keeps_what_was_not_released(&mut self) -> bool {
        let keeps = self.departure() != Departure::Leave && self.unwound_at != Some(self.read);
        self.unwound_at = Some(self.read);
        keeps
    }

    /// Whether the next event is published and only a stage before this one is not done with it.
    pub(crate) fn is_gated(&self) -> bool {
        self.limit <= self.read
            && (self.read < self.known
                || matches!(
                    self.reading(self.read),
                    Reading::Events(_) | Reading::Skip(_)
                ))
    }
}

impl<T> Drop for Probe<T> {
    fn drop(&mut self) {
        let region = self.memory.region();
        if self.evicted.is_some() || region.is_inherited() {
            return; // It has left; or it is the parent's.
        }
        let record = &self.memory.row(self.row).record;
        match self.departure() {
            Departure::Leave => {
                let Ok(roster) = Roster::lock_to_leave(&self.memory) else {
                    return self.leave_without_the_lock();
                };
                let (kind, name) = roster.member(self.row);
                roster.leave_consumer(self.row, self.boundary);
                self.lease = None;
                roster.tell(&Presence::Left { kind, name });
            }
            Departure::Hold if region.shared_memory().is_some() => {
                record.set_held();
                self.lease = None;
            }
            Departure::Hold => {
                // On the heap the lock is what orders this.
                if let Some(_roster) = Roster::look(&self.memory) {
                    record.set_held();
                }
            }
            Departure::Die => {
                self.lease = None;
                look_for_the_dead(&self.memory);
            }
        }
    }
}

impl<T> Probe<T> {
    /// Leaves while another process has the member table locked and does not go on: it gates nothing from now on, and
    /// the next member that gets the lock frees its row.
    ///
    /// The member that has the lock may be joining. To it this is a consumer that releases everything, as that may do
    /// at any time: J4 copies from the others, or what is published, or the floor, which this one raises first.
    #[cold]
    fn leave_without_the_lock(&mut self) {
        let region = self.memory.region();
        let Row { hot, record } = self.memory.row(self.row);
        record.set_leaving();
        if self.producers == Producers::Many {
            region.header().floor.raise(self.boundary); // INVARIANT R2: as when it leaves with the lock.
        }
        hot.position.leave();
        self.lease = None;
        region.wake_at(self.row);
    }
}

/// How many batches a consumer looks ahead, with many producers: enough to have much to do, few
/// enough not to let the first event wait.
const MOST_AHEAD: u32 = 1024;

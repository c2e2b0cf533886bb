//! How far a consumer may read: the stamp at a boundary and, for a stage, also the positions of those
//! it comes after.

use crate::member::{Roster, Rows};
use crate::region::Memory;
use crate::ring::Producers;
use crate::sequence::Sequence;
use crate::stamp::Reading;

/// One consumer's side of the ring.
pub(crate) struct Probe<T> {
    pub(crate) memory: Memory<T>,
    row: usize,
    /// The next sequence that it has not released.
    position: Sequence,
    /// A boundary: from the position to here everything is published, and nothing skipped.
    known: Sequence,
    /// How far those that it comes after had got when it last looked.
    limit: Sequence,
    /// Those that it comes after, less those that have left.
    before: Rows,
    /// Whether it found more than one batch when it last looked past one.
    backlog: bool,
    /// Without stamps: how many events came at once when it last waited.
    came_at_once: u64,
    producers: Producers,
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
    pub(crate) fn new(memory: Memory<T>, row: usize, before: Rows) -> Self {
        let producers = memory.region().producers;
        Self {
            memory,
            row,
            position: 0,
            known: 0,
            limit: if before.is_empty() { Sequence::MAX } else { 0 },
            before,
            backlog: false,
            came_at_once: 0,
            producers,
        }
    }

    #[inline]
    pub(crate) fn position(&self) -> Sequence {
        self.position
    }

    /// Whether it has come to the end of what it knows that it may read, and there was more than one
    /// batch of it: producers run ahead of it, so it can leave them alone for a moment.
    #[inline]
    pub(crate) fn has_drained_a_backlog(&self) -> bool {
        self.backlog && self.position == self.known.min(self.limit)
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.memory.row(self.row).record.skipped()
    }

    /// How far it may read: to its position if there is nothing. Steps over what is skipped.
    #[inline]
    pub(crate) fn look(&mut self, reach: Reach) -> Sequence {
        loop {
            if self.limit <= self.position {
                self.limit = self.passed_by_those_before();
                if self.limit <= self.position {
                    return self.position;
                }
            }
            if self.known == self.position {
                match self.reading(self.position) {
                    Reading::Events(hi) => {
                        self.known = hi;
                        self.look_for_backlog(reach);
                    }
                    Reading::Skip(hi) => {
                        self.step_over(hi);
                        continue;
                    }
                    Reading::Unpublished | Reading::Overtaken => return self.position,
                }
            }
            // INVARIANT R4: not past those that it comes after.
            return self.known.min(self.limit);
        }
    }

    /// Releases everything below `to`.
    #[inline]
    pub(crate) fn advance(&mut self, to: Sequence) {
        debug_assert!(
            self.position <= to && to <= self.known.min(self.limit),
            "from {} to {to}, knows {}, limit {}",
            self.position,
            self.known,
            self.limit
        );
        self.memory.have_read(self.position, to);
        self.position = to;
        let row = self.memory.row(self.row);
        // The end goes first: who copies it finds it at or above the position.
        row.record.set_end(self.known);
        row.hot.position.advance(to);
    }

    #[cold]
    fn step_over(&mut self, hi: Sequence) {
        debug_assert!(hi <= self.limit, "skip to {hi}, limit {}", self.limit);
        self.memory
            .row(self.row)
            .record
            .add_skipped(hi - self.position);
        self.known = hi;
        self.advance(hi);
    }

    /// Finds how much more is published than what has just been found, and whether that is a backlog.
    #[inline]
    fn look_for_backlog(&mut self, reach: Reach) {
        let found = self.known;
        if self.memory.stamp(found).is_none() {
            // The cursor tells all at once. More than what came when it last waited is more than one
            // batch.
            let events = found - self.position;
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
        debug_assert_ne!(
            reading,
            Reading::Overtaken,
            "at {boundary}, which this consumer gates"
        );
        reading
    }

    /// The lowest position of those that it comes after.
    fn passed_by_those_before(&mut self) -> Sequence {
        let mut lowest = Sequence::MAX;
        let mut rows = self.before;
        while let Some(row) = rows.pop() {
            match self.memory.row(row).hot.position.observe() {
                Some(position) => lowest = lowest.min(position),
                None => {
                    // INVARIANT R4: one that left is replaced by all that it came after. This ends,
                    // because what those came after is never the one that left.
                    let inherited = self.memory.row(row).record.closure();
                    self.before.remove(row);
                    self.before = self.before.union(inherited);
                    rows = rows.union(inherited);
                }
            }
        }
        lowest
    }

    /// Whether the ring is closed and everything in it has been released.
    pub(crate) fn is_done(&self) -> bool {
        let header = self.memory.header();
        header.status.is_closed()
            && self.position
                == match self.producers {
                    Producers::One => header.published.observe(),
                    Producers::Many => header.claimed.observe(),
                }
    }

    /// Whether the next event is published and only a stage before this one is not done with it.
    pub(crate) fn is_gated(&self) -> bool {
        self.limit <= self.position
            && (self.position < self.known
                || matches!(
                    self.reading(self.position),
                    Reading::Events(_) | Reading::Skip(_)
                ))
    }
}

impl<T> Drop for Probe<T> {
    fn drop(&mut self) {
        if self.producers == Producers::Many {
            // INVARIANT R2: without consumers the floor is the gate, and it must not fall behind what
            // this one has allowed.
            self.memory.header().floor.raise(self.known);
        }
        self.memory.row(self.row).hot.position.leave();
        Roster::lock(self.memory.region()).leave_consumer(self.row);
    }
}

/// How many batches a consumer looks ahead, with many producers: enough to have much to do, few
/// enough not to let the first event wait.
const MOST_AHEAD: u32 = 1024;

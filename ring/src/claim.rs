//! Claim, gate, publish: how producers take sequences and give them away, for one and for many.
//!
//! Read top to bottom. One producer keeps its claim to itself until it publishes; many take turns
//! by a compare-exchange on `claimed`. Everything else is the same: a claim never exceeds the gate,
//! so a producer waits before it owns anything, and one store publishes a batch of any length.

use std::error::Error;
use std::fmt;

use crate::member::{Roster, Rows};
use crate::region::Memory;
use crate::ring::Producers;
use crate::sequence::Sequence;
use crate::stamp::Reading;
use crate::wait::{Patience, Wait, Waiter};

/// One producer's side of the ring.
pub(crate) struct Claimer<T> {
    pub(crate) memory: Memory<T>,
    pub(crate) wait: Wait,
    producers: Producers,
    row: usize,
    /// The end of what it has published or given up; with many producers, the start of its claim if
    /// there is one.
    next: Sequence,
    /// Many producers: the end of its claim if that is above `next`.
    claimed: Sequence,
    /// The gate as last seen: no claim of this producer ends above it. 0: not looked yet.
    limit: Sequence,
    /// The consumers that gate.
    gating: Rows,
    /// One producer: a publication that ends here or above takes the next lines.
    take_lines_at: Sequence,
}

/// How many cache lines a producer takes at once; measured, see `benches/NOTES.md`.
const LINES_TAKEN: u64 = 8;

/// How many of them are left when it takes more.
const LINES_LEFT: u64 = 4;

impl<T> Claimer<T> {
    pub(crate) fn new(memory: Memory<T>, row: usize, wait: Wait) -> Self {
        let producers = memory.region().producers;
        Self {
            memory,
            wait,
            producers,
            row,
            next: 0,
            claimed: 0,
            limit: 0,
            gating: Rows::default(),
            take_lines_at: 0,
        }
    }

    /// Claims `n` sequences and returns the first.
    #[inline]
    pub(crate) fn claim(&mut self, n: usize, patience: Patience) -> Result<Sequence, ClaimError> {
        match self.claim_below_limit(n) {
            Ok(lo) => Ok(lo),
            Err(_) => self.claim_at_the_gate(n, patience),
        }
    }

    /// Claims `n` sequences if the gate as last seen allows it, or returns where they would start.
    #[inline]
    fn claim_below_limit(&mut self, n: usize) -> Result<Sequence, Sequence> {
        match self.producers {
            Producers::One => {
                let lo = self.next;
                if self.room(lo) >= n as u64 {
                    Ok(lo)
                } else {
                    Err(lo)
                }
            }
            Producers::Many => self.claim_by_exchange(n),
        }
    }

    fn claim_by_exchange(&mut self, n: usize) -> Result<Sequence, Sequence> {
        self.skip_leaked_claim();
        let claimed = &self.memory.header().claimed;
        let intent = &self.memory.row(self.row).hot.intent;
        let mut lo = claimed.observe();
        if n == 0 {
            return Ok(lo); // No claim, so no intent: it would stand for somebody else's.
        }
        // INVARIANT R1: `[lo, hi)` goes to whoever moves `claimed` from `lo`; only one can. Each time
        // round the gate is checked again, with the new `lo`.
        while self.room(lo) >= n as u64 {
            let hi = lo + n as u64;
            intent.announce(lo);
            match claimed.advance(lo, hi) {
                Ok(()) => {
                    self.next = lo;
                    self.claimed = hi;
                    return Ok(lo);
                }
                Err(now) => lo = now,
            }
        }
        intent.withdraw();
        Err(lo)
    }

    /// How many sequences from `lo` on the gate allows, as last seen. Others may have claimed on the
    /// ground of a newer look.
    #[inline]
    fn room(&self, lo: Sequence) -> u64 {
        self.limit.saturating_sub(lo)
    }

    #[cold]
    fn claim_at_the_gate(&mut self, n: usize, patience: Patience) -> Result<Sequence, ClaimError> {
        let capacity = self.capacity();
        if n > capacity {
            return Err(ClaimError::TooLong {
                requested: n,
                capacity,
            });
        }
        let mut waiter = Waiter::new(self.wait, patience);
        loop {
            let front = self.front();
            self.look_at_the_gate()?;
            match self.claim_below_limit(n) {
                Ok(lo) => return Ok(lo),
                // Others have claimed meanwhile: what is free now is not known. Look again.
                Err(now) if now != front => {}
                Err(lo) => {
                    if !waiter.pause() {
                        let free = self.room(lo) as usize;
                        return Err(ClaimError::Full { free });
                    }
                }
            }
        }
    }

    /// How many slots are free, exactly, at some moment of the call.
    pub(crate) fn free(&mut self) -> Result<usize, ClaimError> {
        self.skip_leaked_claim();
        loop {
            let front = self.front();
            self.look_at_the_gate()?;
            if self.front() == front {
                return Ok(self.room(front) as usize);
            }
        }
    }

    /// The end of what is claimed.
    fn front(&self) -> Sequence {
        match self.producers {
            Producers::One => self.next,
            Producers::Many => self.memory.header().claimed.observe(),
        }
    }

    /// Refreshes the limit: one capacity above the lowest position of the gating consumers.
    fn look_at_the_gate(&mut self) -> Result<(), ClaimError> {
        if self.limit == 0 {
            match Roster::lock(self.memory.region()).freeze() {
                Some(consumers) => self.gating = consumers,
                None => return Ok(()), // More are required: the limit stays 0.
            }
        }
        let mut lowest = Sequence::MAX;
        let mut rows = self.gating;
        while let Some(row) = rows.pop() {
            match self.memory.row(row).hot.position.observe() {
                Some(position) => lowest = lowest.min(position),
                None => self.gating.remove(row),
            }
        }
        let required = self.memory.region().required_consumers;
        if self.gating.len() < required {
            let left = self.gating.len();
            return Err(ClaimError::Abandoned { required, left });
        }
        if self.gating.is_empty() {
            lowest = match self.producers {
                Producers::One => self.next,
                Producers::Many => self.walk_up_from_the_floor(),
            };
        }
        let limit = lowest + self.memory.capacity();
        debug_assert!(
            limit >= self.limit,
            "gate at {limit}, was at {}",
            self.limit
        );
        // INVARIANT R2: what lies a lap below the limit is released by every consumer that gates and,
        // since no position and no floor is above the published front, written by its producer.
        self.limit = limit;
        Ok(())
    }

    /// Many producers, no consumer: how far everything is published, which is what may be
    /// overwritten.
    fn walk_up_from_the_floor(&self) -> Sequence {
        let floor = &self.memory.header().floor;
        let start = floor.observe();
        let mut front = start;
        loop {
            match self.memory.reading(front) {
                Reading::Events(hi) | Reading::Skip(hi) => front = hi,
                Reading::Unpublished => break,
                // Somebody claimed a lap above `front`, for which the floor had to move first.
                Reading::Overtaken => front = floor.observe(),
            }
        }
        if front == start {
            start
        } else {
            floor.raise(front)
        }
    }

    /// Publishes the claim `[lo, hi)`, as a whole.
    #[inline]
    pub(crate) fn publish(&mut self, lo: Sequence, hi: Sequence) {
        self.memory.written(lo, hi);
        if lo < hi {
            // INVARIANT R3: the events are written, and one store shows all of them: this one, or
            // that of `published` if there are no stamps.
            if let Some(stamp) = self.memory.stamp(lo) {
                stamp.publish(hi);
            }
        }
        if self.producers == Producers::One {
            self.memory.header().published.publish(hi);
            if hi >= self.take_lines_at {
                self.take_lines(hi);
            }
        }
        self.next = hi;
    }

    /// One producer: takes the cache lines of the slots that come next, so that it does not wait for
    /// each when it writes there.
    ///
    /// A consumer leaves a copy of each line that it reads, which has to be withdrawn before the line is
    /// written. Stores take effect in order (on x86), and publications lie between those to one line
    /// and to the next, so that wait would be for one line after the other. Here it is for several at once.
    #[cold]
    fn take_lines(&mut self, next: Sequence) {
        let per_line = self.memory.slots_per_line();
        let from = next.max(self.take_lines_at + LINES_LEFT * per_line);
        // INVARIANT R2: below the limit, and not yet published.
        let to = (from + LINES_TAKEN * per_line).min(self.limit);
        self.memory.take_lines(from, to);
        self.take_lines_at = from + (LINES_TAKEN - LINES_LEFT) * per_line;
    }

    /// Gives the claim `[lo, hi)` up: one producer has told nobody of it, many step over it.
    pub(crate) fn abandon(&mut self, lo: Sequence, hi: Sequence) {
        self.memory.written(lo, hi);
        if self.producers == Producers::Many && lo < hi {
            if let Some(stamp) = self.memory.stamp(lo) {
                stamp.skip(hi);
            }
            self.memory.row(self.row).record.add_skipped(hi - lo);
            self.next = hi;
        }
    }

    /// A claim whose value was forgotten holds up everybody behind it until it is skipped.
    #[inline]
    fn skip_leaked_claim(&mut self) {
        if self.next < self.claimed {
            self.abandon(self.next, self.claimed);
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.capacity() as usize
    }
}

impl<T> Drop for Claimer<T> {
    fn drop(&mut self) {
        self.skip_leaked_claim();
        Roster::lock(self.memory.region()).leave_producer(self.row);
    }
}

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// There are fewer free slots than were asked for; the call was not to wait (any longer).
    Full {
        /// How many slots were free. Consumers may have released more since.
        free: usize,
    },
    /// More slots than the ring has.
    TooLong {
        /// How many slots were asked for.
        requested: usize,
        /// How many the ring has.
        capacity: usize,
    },
    /// Consumers that the ring requires have left, and none can join any more.
    Abandoned {
        /// How many the ring requires.
        required: usize,
        /// How many are left.
        left: usize,
    },
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { free } => write!(
                f,
                "the ring is full, {free} slots are free: wait for its consumers, or claim fewer"
            ),
            Self::TooLong {
                requested,
                capacity,
            } => write!(
                f,
                "{requested} slots were asked for, of a ring of {capacity}: claim fewer at a time, \
                 or build a larger ring"
            ),
            Self::Abandoned { required, left } => write!(
                f,
                "the ring requires {required} consumers, and only {left} have not left: keep them, \
                 or require fewer"
            ),
        }
    }
}

impl Error for ClaimError {}

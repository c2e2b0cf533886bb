//! Claim, gate, publish: how producers take sequences and give them away, for one and for many.
//!
//! Read top to bottom. One producer keeps its claim to itself until it publishes; many take turns
//! by a compare-exchange on `claimed`. Everything else is the same: a claim never exceeds the gate,
//! so a producer waits before it owns anything, and one store publishes a batch of any length.

use std::error::Error;
use std::fmt;

use crate::bound::rows_bound_here;
use crate::consumer::Ended;
use crate::member::{MemberKind, Poisoned, Rows};
use crate::recover::{held_too_long, longest_sleep, look_for_the_dead};
use crate::refusal::debug_as_text;
use crate::region::Memory;
use crate::ring::Producers;
use crate::roster::{Presence, Roster};
use crate::sequence::{Claimed, Sequence};
use crate::shared::{Lease, Unusable};
use crate::stamp::Reading;
use crate::step::{Step, reach};
use crate::sync::{Fences, Ordering, fence};
use crate::wait::{EventCount, Patience, Wait, Waiter, Waits, Watch};

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
    /// The gate as last seen: no claim of this producer ends above it.
    gate: Sequence,
    /// The consumers that gate.
    gating: Rows,
    /// How many joins had been counted when it last looked which those are; none is so many.
    version: u64,
    /// The consumer that makes the limit, if one does.
    held_up_by: Option<usize>,
    /// One producer: a publication that ends here or above takes the next lines.
    take_lines_at: Sequence,
    /// One producer: a publication that ends here or above has more to do: to take lines, or to look who sleeps.
    more_to_do_at: Sequence,
    /// As its region's.
    parking: Option<Fences>,
    pub(crate) waits: Waits,
    watch: Watch,
    /// Of its row, if other processes share the ring.
    lease: Option<Lease>,
    /// Whether it is to be told, when it waits, that the ring's name does not lead to it any more.
    pub(crate) require_name: bool,
}

/// How many cache lines a producer takes at once; measured, see `benches/NOTES.md`.
const LINES_TAKEN: u64 = 10;

/// How many of them are left when it takes more.
const LINES_LEFT: u64 = 3;

impl<T> Claimer<T> {
    pub(crate) fn new(memory: Memory<T>, row: usize, lease: Option<Lease>) -> Self {
        let producers = memory.region().producers;
        let in_company = memory.region().shared_memory().is_some();
        let parking = memory.region().parking;
        Self {
            memory,
            wait: Wait::default(),
            waits: Waits::default(),
            watch: Watch::new(in_company),
            lease,
            producers,
            row,
            next: 0,
            claimed: 0,
            gate: 0,
            gating: Rows::default(),
            version: u64::MAX,
            held_up_by: None,
            take_lines_at: 0,
            more_to_do_at: 0,
            parking,
            require_name: false,
        }
    }

    /// The same for who succeeds a dead producer that had published up to `next`.
    pub(crate) fn starting_at(mut self, next: Sequence) -> Self {
        self.next = next;
        // It goes on below the limit of the dead one, whose fence is not this thread's.
        Claimed::before_writing();
        self
    }

    /// Whose it is, one's or many's; it does not change.
    ///
    /// [`claim`](Self::claim) and [`publish`](Self::publish) are told, so that their caller can find out
    /// once, and the compiler makes a straight line of what one producer does.
    #[inline]
    pub(crate) fn producers(&self) -> Producers {
        self.producers
    }

    /// Claims `n` sequences and returns the first.
    #[inline(always)] // For the reason given above.
    pub(crate) fn claim(
        &mut self,
        producers: Producers,
        n: usize,
        patience: Patience,
    ) -> Result<Sequence, ClaimError> {
        reach(Step::Claim);
        // More than a lap fits below no limit, but that of a corrupt ring. (Of one, the compiler knows that it is not.)
        if (n as u64).wrapping_sub(1) > self.memory.capacity() - 1 {
            return self.claim_at_the_gate(n, patience);
        }
        match self.claim_below_limit(producers, n) {
            Ok(lo) => Ok(lo),
            Err(_) => self.claim_at_the_gate(n, patience),
        }
    }

    /// Claims `n` sequences if that takes no look at the gate and nothing stops it, or returns where they
    /// would start.
    #[inline(always)] // With one producer this is a handful of instructions.
    fn claim_below_limit(&mut self, producers: Producers, n: usize) -> Result<Sequence, Sequence> {
        match producers {
            Producers::One => {
                let lo = self.next;
                if self.memory.header().claimed.observe().leaves_room(lo, n) {
                    Ok(lo)
                } else {
                    Err(lo)
                }
            }
            Producers::Many => self.claim_by_exchange(n),
        }
    }

    #[inline]
    fn claim_by_exchange(&mut self, n: usize) -> Result<Sequence, Sequence> {
        self.skip_leaked_claim();
        let claimed = &self.memory.header().claimed;
        let intent = &self.memory.row(self.row).hot.intent;
        let mut end = claimed.observe();
        if n == 0 && !end.is_stopped() {
            return Ok(end.sequence()); // No claim, so no intent: it would stand for somebody else's.
        }
        // INVARIANT R1: `[lo, hi)` goes to whoever moves `claimed` from `lo`; only one can. Each time
        // round the gate is checked again, with the new `lo`.
        while !end.is_stopped() && self.room(end.sequence()) >= n as u64 {
            let lo = end.sequence();
            if lo < self.next {
                break; // Below its own last claim: the ring is corrupt, as is found out at the gate.
            }
            let hi = lo + n as u64;
            intent.announce(lo);
            reach(Step::Intent);
            match claimed.advance(lo, hi) {
                Ok(()) => {
                    Claimed::before_writing();
                    self.next = lo;
                    self.claimed = hi;
                    reach(Step::Exchange);
                    return Ok(lo);
                }
                Err(now) => end = now,
            }
        }
        intent.withdraw();
        Err(end.sequence())
    }

    /// How many sequences from `lo` on the gate allowed when last seen. Others may have claimed on the
    /// ground of a newer look.
    #[inline]
    fn room(&self, lo: Sequence) -> u64 {
        self.gate.saturating_sub(lo)
    }

    #[cold]
    fn claim_at_the_gate(&mut self, n: usize, patience: Patience) -> Result<Sequence, ClaimError> {
        self.skip_leaked_claim(); // Also if the ring is closed: consumers wait for it all the same.
        self.heed_signals()?;
        let capacity = self.capacity();
        if n > capacity {
            return Err(ClaimError::TooLong {
                requested: n,
                capacity,
            });
        }
        let mut waiter = Waiter::new(self.wait, patience, self.parking);
        let claimed = self.claim_by(&mut waiter, n);
        self.waits.add(&waiter);
        if claimed.is_ok() {
            self.watch.rest();
        }
        claimed
    }

    fn claim_by(&mut self, waiter: &mut Waiter, n: usize) -> Result<Sequence, ClaimError> {
        loop {
            self.heed_signals()?;
            let front = self.front();
            if front < self.next {
                return Err(ClaimError::Unusable(Unusable::Corrupt)); // It has claimed up to there itself.
            }
            self.look_at_the_gate()?;
            if self.producers == Producers::One {
                self.raise_limit(n);
            }
            match self.claim_below_limit(self.producers, n) {
                Ok(lo) => return Ok(lo),
                // Others have claimed meanwhile: what is free now is not known. Look again.
                Err(now) if now != front => {}
                Err(_) if self.watch.is_due(waiter.was_short) => {
                    look_for_the_dead(&self.memory);
                    let held_up_by = self.held_up_by;
                    if let Some(row) = held_too_long(&self.memory, held_up_by, &mut self.watch) {
                        return Err(ClaimError::Held { row });
                    }
                    if self.require_name && self.memory.region().is_unlinked() {
                        return Err(ClaimError::Unlinked);
                    }
                }
                Err(lo) => {
                    if waiter.may_wait()
                        && let Some(row) = self.held_up_by_own_stage(lo + n as u64)
                    {
                        return Err(ClaimError::HeldUpByOwnStage { row });
                    }
                    let at_most = || longest_sleep(&self.memory, self.held_up_by);
                    if !waiter.pause(self.what_wakes_at_the_gate(), at_most) {
                        self.heed_signals()?;
                        return Err(self.why_nothing_is_free(lo));
                    }
                }
            }
        }
    }

    /// Fails if the ring is closed or poisoned; the only producer closes it if it was asked to.
    fn heed_signals(&self) -> Result<(), ClaimError> {
        let header = self.memory.header();
        // Read first: who is stopped by a poison sees it, and does not take it for a close.
        let stopped = header.claimed.observe().is_stopped();
        let signal = header.status.signal();
        if signal.is_inherited() {
            return Err(ClaimError::Unusable(Unusable::Inherited));
        }
        if let Some(poisoned) = signal.poisoned() {
            // INVARIANT R7: who says so may not have stopped claims yet, and none of ours succeeds after this.
            header.claimed.stop();
            return Err(ClaimError::Poisoned(poisoned));
        }
        let closed = match self.producers {
            Producers::One => {
                if signal.asks_to_close() && !signal.is_closed() {
                    // INVARIANT R7: it publishes nothing after this, also if who asked has not stopped claims yet.
                    header.claimed.stop();
                    header.status.close();
                    self.memory.region().wake_all();
                }
                signal.asks_to_close() || signal.is_closed()
            }
            Producers::Many => stopped,
        };
        if closed {
            return Err(ClaimError::Closed);
        }
        Ok(())
    }

    fn what_wakes_at_the_gate(&self) -> &EventCount {
        match self.held_up_by {
            Some(row) => &self.memory.row(row).hot.waiters,
            None => &self.memory.header().waiters,
        }
    }

    /// The consumer that this thread alone moves, and that has to move before anybody claims up to `hi`.
    fn held_up_by_own_stage(&self, hi: Sequence) -> Option<usize> {
        let is_in_the_way = |row: &usize| {
            let position = self.memory.row(*row).hot.position.observe();
            position.is_some_and(|position| position.saturating_add(self.memory.capacity()) < hi)
        };
        rows_bound_here(&self.memory).iter().find(is_in_the_way)
    }

    fn why_nothing_is_free(&self, lo: Sequence) -> ClaimError {
        let required = self.memory.region().required_consumers;
        let present = self.present();
        if present < required {
            return ClaimError::TooFewConsumers { required, present };
        }
        let free = self.room(lo) as usize;
        ClaimError::Full { free }
    }

    /// How many consumers gate and have joined. One that is about to join does not count: it does not know yet
    /// where it starts, and would miss what was published on its account.
    fn present(&self) -> usize {
        let mut rows = self.gating;
        std::iter::from_fn(|| rows.pop())
            .filter(|&row| self.memory.row(row).record.has_joined())
            .count()
    }

    /// How many slots are free, exactly, at some moment of the call.
    pub(crate) fn free(&mut self) -> Result<usize, ClaimError> {
        self.skip_leaked_claim();
        loop {
            self.heed_signals()?;
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
            Producers::Many => self.memory.header().claimed.observe().sequence(),
        }
    }

    /// One producer: lets claims go up to the gate, unless they are stopped. If the ring is observed it goes
    /// some way only: what it may write is lost to observers.
    fn raise_limit(&self, n: usize) {
        let claimed = &self.memory.header().claimed;
        let old = claimed.observe().sequence();
        let some_way = if self.memory.region().observable {
            (self.memory.capacity() / 16).max(n as u64)
        } else {
            self.memory.capacity()
        };
        let limit = (self.next + some_way).min(self.gate).max(old);
        // If it fails, it is stopped, and so is the claim.
        if claimed.advance(old, limit).is_ok() {
            Claimed::before_writing();
        }
    }

    /// Looks where the gate is: one capacity above the lowest position of the gating consumers. It stays
    /// where it was while there are fewer consumers than the ring requires.
    fn look_at_the_gate(&mut self) -> Result<(), ClaimError> {
        let memory = &self.memory;
        let version = &memory.header().status;
        loop {
            // P1 of the argument at the head of `roster.rs`, as are P2 to P4.
            let counted = version.version();
            if counted != self.version {
                self.gating = memory.region().gating_rows();
                self.version = counted;
            }
            let mut lowest = Sequence::MAX;
            self.held_up_by = None;
            let mut rows = self.gating;
            while let Some(row) = rows.pop() {
                // INVARIANT R6: P2.
                match memory.row(row).hot.position.observe() {
                    Some(position) if position < lowest => {
                        lowest = position;
                        self.held_up_by = Some(row);
                    }
                    Some(_) => {}
                    None => self.gating.remove(row),
                }
            }
            let required = memory.region().required_consumers;
            if required > 0 && self.present() < required {
                self.held_up_by = None;
                return Ok(());
            }
            if self.gating.is_empty() {
                lowest = match self.producers {
                    Producers::One => self.next,
                    Producers::Many => walk_up_from_the_floor(memory),
                };
            }
            if lowest > self.front() {
                return Err(ClaimError::Unusable(Unusable::Corrupt)); // By R1.
            }
            // ORDER(join): P3, with J3.
            fence(Ordering::SeqCst);
            if version.version() == counted {
                // INVARIANT R2: what lies a lap below the gate is released by every consumer that
                // gates and, since no position and no floor is above the published front, written by
                // its producer. A consumer that is about to join can have entered below where the gate
                // was already; by J4 it starts above, and the gate does not go back for it.
                self.gate = self.gate.max(lowest + memory.capacity());
                return Ok(());
            }
        }
    }

    /// Publishes the claim `[lo, hi)`, as a whole.
    #[inline(always)] // As `claim`.
    pub(crate) fn publish(&mut self, producers: Producers, lo: Sequence, hi: Sequence) {
        self.memory.written(lo, hi);
        reach(Step::Write);
        if lo != hi {
            // INVARIANT R3: the events are written, and one store shows all of them: this one, or
            // that of `published` if there are no stamps.
            if let Some(stamp) = self.memory.stamp(lo) {
                stamp.publish(hi);
                reach(Step::Stamp);
            }
        }
        self.next = hi;
        match producers {
            Producers::One => {
                self.memory.header().published.publish(hi);
                reach(Step::Publish);
                if hi >= self.more_to_do_at {
                    self.wake();
                    if hi >= self.take_lines_at {
                        self.take_lines(hi);
                    }
                }
            }
            Producers::Many => self.wake(),
        }
    }

    /// Wakes who waits for publications; as [`Region::wake`](crate::region::Region::wake), without the way there.
    #[inline(always)] // As `claim`.
    fn wake(&self) {
        if let Some(fences) = self.parking {
            self.memory.header().waiters.wake(fences);
        }
    }

    /// One producer: takes the cache lines of the slots that come next, so that it does not wait for
    /// each when it writes there. Now and then: seldom enough to be called cold.
    ///
    /// A consumer leaves a copy of each line that it reads, which has to be withdrawn before the line is
    /// written. Stores take effect in order (on x86), and publications lie between those to one line
    /// and to the next, so that wait would be for one line after the other. Here it is for several at once.
    #[cold]
    fn take_lines(&mut self, next: Sequence) {
        let per_line = self.memory.slots_per_line;
        let from = next.max(self.take_lines_at + LINES_LEFT * per_line);
        // INVARIANT R2: below the limit, and not yet published.
        // INVARIANT R9: in a ring that is observed, below the limit that has been announced.
        let limit = if self.memory.region().observable {
            self.memory.header().claimed.observe().sequence()
        } else {
            self.gate
        };
        let to = (from + LINES_TAKEN * per_line).min(limit);
        self.memory.take_lines(from, to);
        self.take_lines_at = from + (LINES_TAKEN - LINES_LEFT) * per_line;
        if self.parking.is_none() {
            self.more_to_do_at = self.take_lines_at;
        }
    }

    /// Gives the claim `[lo, hi)` up: one producer has told nobody of it, many step over it.
    #[cold]
    pub(crate) fn abandon(&mut self, lo: Sequence, hi: Sequence) {
        self.memory.written(lo, hi);
        if self.producers == Producers::Many && lo < hi {
            if let Some(stamp) = self.memory.stamp(lo) {
                stamp.skip(hi);
            }
            self.memory.row(self.row).record.add_skipped(hi - lo);
            self.next = hi;
            self.memory.region().wake();
        }
    }

    /// A claim whose value was forgotten holds up everybody behind it until it is skipped.
    #[inline]
    fn skip_leaked_claim(&mut self) {
        if self.next < self.claimed {
            self.abandon(self.next, self.claimed);
        }
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.capacity() as usize
    }
}

impl<T> Drop for Claimer<T> {
    fn drop(&mut self) {
        if self.memory.region().is_inherited() {
            return;
        }
        self.skip_leaked_claim();
        let region = self.memory.region();
        let Ok(roster) = Roster::lock_to_leave(&self.memory) else {
            return; // Without its lease it is dead to the others, which free its row.
        };
        roster.leave_producer(self.row);
        self.lease = None;
        region.wake_all();
        roster.tell(&Presence::Left {
            kind: MemberKind::Producer,
            name: String::new(),
        });
    }
}

/// Many producers, no consumer: how far everything is published, which is what may be overwritten.
fn walk_up_from_the_floor<T>(memory: &Memory<T>) -> Sequence {
    let floor = &memory.header().floor;
    let start = floor.observe();
    let mut front = start;
    loop {
        match memory.reading(front) {
            Reading::Events(hi) | Reading::Skip(hi) => front = hi,
            Reading::Unpublished => break,
            // Somebody claimed a lap above `front`, for which the floor had to move first.
            Reading::Overtaken if floor.observe() > front => front = floor.observe(),
            Reading::Overtaken => break, // It has not: the ring is corrupt.
        }
    }
    if front == start {
        start
    } else {
        floor.raise(front)
    }
}

/// Why nothing was claimed.
///
/// # Examples
/// ```
/// # use annulus_ring::{ClaimError, Ring};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let book = ring.consumer("book").join()?;
/// let mut feed = ring.producer()?;
/// feed.publish_batch(7, |_| ())?;
/// let error = feed.try_publish_batch(3, |_| ()).unwrap_err();
/// assert_eq!(error, ClaimError::Full { free: 1 });
/// assert!(error.to_string().starts_with("the ring is full"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
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
    /// There are fewer consumers than the ring requires; the call was not to wait (any longer).
    TooFewConsumers {
        /// How many the ring requires.
        required: usize,
        /// How many there were.
        present: usize,
    },
    /// A dead consumer holds the ring full, and nobody has taken its place in the
    /// [time](crate::ConsumerBuilder::hold_for) it wanted to be waited for.
    Held {
        /// Its [row](crate::Member::row).
        row: usize,
    },
    /// The ring is full as long as a consumer has not released more that [this very thread
    /// moves](crate::Consumer::bind_to_this_thread): the call would wait for its own caller, for ever.
    HeldUpByOwnStage {
        /// Its [row](crate::Member::row).
        row: usize,
    },
    /// It [requires](crate::Producer::require_name) the ring's name, and that leads to another ring by now, or to none.
    Unlinked,
    /// The ring is closed.
    Closed,
    /// The ring was poisoned.
    Poisoned(Poisoned),
    /// Nothing can be done with the ring.
    Unusable(Unusable),
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { free } => write!(
                f,
                "the ring is full (free slots: {free}): wait for its consumers, or claim fewer"
            ),
            Self::TooLong {
                requested,
                capacity,
            } => write!(
                f,
                "too many slots were asked for ({requested}) for a ring of {capacity}: claim fewer at a time, \
                 or build a larger ring"
            ),
            Self::TooFewConsumers { required, present } => write!(
                f,
                "too few consumers have joined (required: {required}, joined: {present}): wait for them, \
                 or require fewer"
            ),
            Self::Held { row } => held(f, *row),
            Self::Unlinked => Ended::Unlinked.fmt(f),
            Self::HeldUpByOwnStage { row } => write!(
                f,
                "the ring is full until the consumer in row {row} releases more, and that one is this thread's: \
                 publish to another ring, release first, or build a larger ring"
            ),
            Self::Closed => f.write_str("the ring is closed: nothing can be published any more"),
            Self::Poisoned(poisoned) => poisoned.fmt(f),
            Self::Unusable(cause) => cause.fmt(f),
        }
    }
}

/// That a dead consumer is in the way.
pub(crate) fn held(f: &mut fmt::Formatter<'_>, row: usize) -> fmt::Result {
    write!(
        f,
        "the consumer in row {row} is dead, and its place is held for a successor that has not come: start \
         one of the same name"
    )
}

debug_as_text!(ClaimError);

impl Error for ClaimError {}

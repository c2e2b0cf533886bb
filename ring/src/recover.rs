//! What is done about members that have died, given a proof of death from outside.
//!
//! A thread or process that ends at any instruction leaves behind what it was doing: a claim that is never
//! published, a position that never moves, half a join. Nothing here guesses that from the time it takes: a
//! [`Liveness`] proves it, and while its proof is kept nobody else changes that member's row.
//!
//! # Abandoned claims
//!
//! With many producers a dead one holds up everybody at the boundary `b` where its claim starts, and nobody
//! knows how long that claim was. So whoever is held up
//!
//! ```text
//! A1  reads how far is claimed, `c`; then, while b < c,
//! A2  reads the intent of every row: if one equals `b` and its owner lives, that one is at work: stop;
//! A3  reads the stamp at `b`: if it is above `b`, something is published there: goes on behind that;
//! A4  exchanges that stamp for `b + 1` with the mark SKIP, and goes on with `b + 1`; all under the same `c`.
//! ```
//!
//! No claim of a living producer is abandoned. Whoever won a claim below `c` had stored its intent before
//! the exchange, and A1 saw that exchange or a later one: so A2 finds that intent, or a later one of the same
//! row. A later one was stored after the claim was published, and then A3 finds the stamp. Nothing is
//! stamped at or above `c`, where claims may be won that A1 did not see. A stamp that changes between A3 and
//! A4 makes the exchange fail. All of it can be done by several at once, and left half done.
//!
//! A stated limit: a producer that is *stopped* after a lost exchange still shows the intent of the claim that
//! it lost, and hides the death of the one who won, until it goes on.

use std::time::Duration;

use crate::claim::Claimer;
use crate::member::{MemberKind, Use};
use crate::producer::Producer;
use crate::refusal::ProducerError;
use crate::region::Memory;
use crate::ring::{Producers, Ring};
use crate::roster::{Presence, Roster};
use crate::sequence::{LAST_SEQUENCE, Sequence};
use crate::shared::{SharedMemory, Unusable};
use crate::snapshot::published_front;
use crate::stamp::Reading;
use crate::step::{Step, reach};
use crate::wait::{LONG_SLEEP, LONGEST_SLEEP, Watch};

/// Proves that members are dead.
///
/// A row is used again once its dead member is freed: forget it before [`Ring::recover`] can meet another
/// member there. That a thread has been joined is a proof; that it is finished is none, as what it wrote
/// need not be visible yet.
///
/// # Safety
/// 1. The member in a row for which a proof is given never does anything again: what it was writing others will write,
///    what it was reading others will overwrite.
/// 2. Everything that it has done is visible to who gets the proof.
///
/// # Examples
/// ```
/// use annulus_ring::{Liveness, Ring};
/// use std::sync::{Mutex, MutexGuard};
///
/// /// The rows of threads that have been joined, locked by who has a proof.
/// struct Joined(Mutex<Vec<usize>>);
///
/// // SAFETY: a thread that has been joined does nothing any more, and all that it did came before.
/// unsafe impl<'j> Liveness for &'j Joined {
///     type Proof = MutexGuard<'j, Vec<usize>>;
///
///     fn prove_dead(&self, row: usize) -> Option<Self::Proof> {
///         let rows = self.0.try_lock().ok()?;
///         rows.contains(&row).then_some(rows)
///     }
/// }
///
/// let ring = Ring::builder(8).build(u64::default)?;
/// let book = ring.consumer("book").join()?;
/// let row = book.row();
/// std::thread::spawn(|| std::mem::forget(book)).join().unwrap();
/// let joined = Joined(Mutex::new(vec![row]));
/// assert_eq!(ring.recover(&&joined).freed, [row]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub unsafe trait Liveness {
    /// A proof, and the right to change what the dead member left: as long as it is kept, nobody else gets
    /// one for this row.
    type Proof;

    /// Proves that the member in this [row](crate::Member::row) is dead: that it will never do anything
    /// again, and that everything it has done is visible here. `None` if it lives, if that is not known,
    /// or if somebody else has the proof. Does not wait.
    ///
    /// It is called with the member table locked, for each row and perhaps more than once: as long as it takes nobody
    /// joins or leaves. So it must not use the ring, nor wait for anybody who does.
    ///
    /// A row that no member has may be dead or not.
    ///
    /// # Examples
    /// See [`Liveness`].
    fn prove_dead(&self, row: usize) -> Option<Self::Proof>;
}

/// What becomes of the place of a consumer that dies: of its gate, and of the events that it has not released.
///
/// A consumer dies when its process or thread ends at any instruction. In a ring that processes share it also dies when its
/// thread unwinds: a panic loses no event that `kill -9` would not lose. There a consumer that is to be held stays
/// however it goes, also by a `return` or a drop, until it [leaves](crate::Consumer::leave) for good, is succeeded or
/// [evicted](crate::Ring::evict): so a program that must deal with each event, as an order gateway, asks for `Hold` and
/// is started again. On the heap, where a program ends as a whole, a consumer that is dropped leaves, and is held only
/// if it unwinds and has asked for that.
///
/// A hold that is due stays, whatever becomes of the others.
///
/// # Examples
/// See [`ConsumerBuilder::on_death`](crate::ConsumerBuilder::on_death).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum OnDeath {
    /// It stays where it is, for a successor: the next consumer that joins under the same name, which goes on where the
    /// dead one has released. No event is lost, and producers wait.
    Hold = 1,
    /// It leaves: what it has not released is lost to its name, and nobody waits for it.
    Release = 2,
}

/// What [`Ring::recover`] did.
///
/// # Examples
/// See [`Ring::recover`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// How many sequences, claimed by dead producers, consumers will step over.
    pub abandoned: u64,
    /// The rows of the dead members that have been freed.
    pub freed: Vec<usize>,
    /// The rows of dead consumers that hold up producers until they are succeeded.
    pub held: Vec<usize>,
}

impl<T> Ring<T> {
    /// Looks for dead members, and puts right what they hold up: abandons their claims, and releases or
    /// holds their gates, as they have [chosen](crate::ConsumerBuilder::on_death).
    ///
    /// Nothing happens by itself: call it when a wait takes long. It can be called at any time, by several
    /// at once, and can itself end half way. It does not close the ring, also if no producer is left.
    ///
    /// # Examples
    /// ```
    /// use annulus_ring::{Liveness, Producers, Ring};
    ///
    /// /// Knows the rows of threads that have been seen to end.
    /// struct Ended(Vec<usize>);
    ///
    /// // SAFETY: here, in one thread, after the member was forgotten.
    /// unsafe impl Liveness for Ended {
    ///     type Proof = ();
    ///
    ///     fn prove_dead(&self, row: usize) -> Option<()> {
    ///         self.0.contains(&row).then_some(())
    ///     }
    /// }
    ///
    /// let ring = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
    /// let mut book = ring.consumer("book").join()?;
    /// let mut first = ring.shared_producer()?;
    /// let mut second = ring.shared_producer()?;
    /// std::mem::forget(first.claim(2)?); // its thread ends here, in the middle of a claim
    /// std::mem::forget(first);
    /// second.publish_value(7)?;
    /// assert!(book.try_next_batch().is_err());
    ///
    /// let recovered = ring.recover(&Ended(vec![1]));
    /// assert_eq!((recovered.abandoned, recovered.freed), (2, vec![1]));
    /// assert_eq!(book.next_batch()?[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recover(&self, liveness: &impl Liveness) -> Recovered {
        let memory = self.memory();
        let mut recovered = Recovered::default();
        if let Some(roster) = Roster::try_lock(memory) {
            let mut told = Vec::new();
            recovered = free_the_dead(memory, &roster, liveness, &mut told);
            roster.tell_all(&told);
        }
        finish_what_the_dead_began(memory, liveness, &mut recovered);
        recovered
    }

    /// The successor of the only producer of a ring, which has died.
    ///
    /// It goes on behind what the dead one has published; a claim that it had not published is forgotten.
    ///
    /// # Errors
    /// As [`Ring::producer`]; [`ProducerError::Taken`] if the producer is not proven dead.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Liveness, ProducerError, Ring};
    /// /// Knows the row of a thread that has ended.
    /// struct Ended(usize);
    /// # unsafe impl Liveness for Ended {
    /// #     type Proof = ();
    /// #     fn prove_dead(&self, row: usize) -> Option<()> { (row == self.0).then_some(()) }
    /// # }
    ///
    /// let ring = Ring::builder(8).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// let row = feed.row();
    /// std::mem::forget(feed); // its thread ends
    /// assert_eq!(ring.producer().unwrap_err(), ProducerError::Taken);
    /// let mut feed = ring.succeed_producer(&Ended(row))?;
    /// assert_eq!(feed.publish_value(8)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn succeed_producer(&self, liveness: &impl Liveness) -> Result<Producer<T>, ProducerError> {
        let memory = self.memory();
        let roster = Roster::lock(memory)?;
        let Some(row) = roster.only_producer() else {
            drop(roster);
            return self.producer();
        };
        let Some(_proof) = liveness.prove_dead(row) else {
            return Err(ProducerError::Taken);
        };
        let lease = roster.take_from_the_dead(row)?;
        if memory.region().header().status.signal().is_closed() {
            return Err(ProducerError::Closed);
        }
        let next = take_over(memory)?;
        if next.is_new {
            memory.region().wake_all();
        }
        roster.tell(&Presence::Joined {
            kind: MemberKind::Producer,
            name: String::new(),
        });
        let claimer = Claimer::new(memory.clone(), row, lease);
        Ok(Producer::new(claimer.starting_at(next.end)))
    }
}

/// Frees the rows of the dead, but for those whose gate is held; says whom to tell of what.
///
/// What is held is settled before anything is freed: a process that dies with a consumer and all that come after it
/// leaves that one held, whichever of them is looked at first.
pub(crate) fn free_the_dead<T>(
    memory: &Memory<T>,
    roster: &Roster<'_, T>,
    liveness: &impl Liveness,
    told: &mut Vec<Presence>,
) -> Recovered {
    let mut recovered = Recovered::default();
    let region = memory.region();
    let rows = 0..region.rows().len();
    for row in rows.clone() {
        // One that was leaving when it died has no gate to hold.
        let gates = region.rows()[row].hot.position.observe().is_some();
        let is_consumer = region.rows()[row].record.usage().is_consumer();
        if is_consumer && gates && roster.holds_when_dead(row) {
            let is_dead = region.rows()[row].record.is_held() || {
                let proof = liveness.prove_dead(row);
                if proof.is_some() {
                    roster.forget_those_that_left(row);
                    region.rows()[row].record.set_held();
                    if region.header().watch.give_up(row) {
                        region.wake(); // One of those that sleep takes the duty.
                    }
                }
                proof.is_some()
            };
            if is_dead {
                recovered.held.push(row);
            }
        }
    }
    for row in rows {
        if !recovered.held.contains(&row) {
            free_if_dead(memory, roster, liveness, row, &mut recovered, told);
        }
    }
    if roster.only_producer().is_none() {
        close_if_asked(memory);
    }
    recovered
}

fn free_if_dead<T>(
    memory: &Memory<T>,
    roster: &Roster<'_, T>,
    liveness: &impl Liveness,
    row: usize,
    recovered: &mut Recovered,
    told: &mut Vec<Presence>,
) {
    let region = memory.region();
    let usage = region.rows()[row].record.usage();
    if usage == Use::Free {
        return;
    }
    let Some(_proof) = liveness.prove_dead(row) else {
        return;
    };
    if usage == Use::Producer && region.producers == Producers::One {
        // Its row is what a successor takes; but what it was doing, and was asked to do, is done here.
        if take_over(memory).is_ok_and(|moved| moved.is_new) {
            region.wake_all();
        }
        close_if_asked(memory);
        if !region.header().status.signal().is_closed() {
            return;
        }
    }
    let (kind, name) = roster.member(row);
    if usage == Use::Producer {
        roster.free_producer(row);
    } else {
        reach(Step::Evict);
        roster.leave_consumer(row, region.rows()[row].record.end());
    }
    recovered.freed.push(row);
    told.push(Presence::Left { kind, name });
}

/// Closes a ring of one producer, which is dead or has gone, if that was asked for.
fn close_if_asked<T>(memory: &Memory<T>) {
    let region = memory.region();
    let signal = region.header().status.signal();
    if region.producers == Producers::One && signal.asks_to_close() && !signal.is_closed() {
        // If that finds it corrupt, it is closed where it is: nothing more comes either way.
        let _ = take_over(memory);
        region.header().status.close();
        region.wake_all();
    }
}

/// Finishes what takes no lock: a close or a poison half said, claims half made. Wakes the others only if there was
/// anything to finish: members that have nothing to do must not keep each other awake.
fn finish_what_the_dead_began<T>(
    memory: &Memory<T>,
    liveness: &impl Liveness,
    recovered: &mut Recovered,
) {
    let region = memory.region();
    // Read first: if a poison has stopped them, it shows.
    let stopped = region.header().claimed.observe().is_stopped();
    let signal = region.header().status.signal();
    let mut has_changed = !recovered.freed.is_empty();
    if !signal.is_quiet() && !stopped {
        // The member that said so may have died before it stopped the producers.
        region.header().claimed.stop();
        has_changed = true;
    }
    if region.producers == Producers::Many {
        if stopped && !signal.is_cut() && !signal.is_closed() {
            // The member that closed it may have died before it said so.
            region.header().status.close();
            has_changed = true;
        }
        recovered.abandoned = abandon_claims(memory, liveness);
        has_changed |= recovered.abandoned > 0;
    }
    if has_changed {
        region.wake_all();
    }
}

/// Whose row has no lease is dead, in memory that processes share.
///
/// Leases are taken, and rows change hands, under the lock of the table: under that lock it stays so.
pub(crate) struct Leases<'m>(pub(crate) &'m dyn SharedMemory);

// SAFETY: a member without a lease has ended, as the `SharedMemory` says by its items 3 and 4, or has left or not yet begun;
// and if one has ended whose lease is still there, nobody else has that.
unsafe impl Liveness for Leases<'_> {
    type Proof = ();

    fn prove_dead(&self, row: usize) -> Option<()> {
        self.0.has_ended(row).then_some(())
    }
}

/// For a member that has waited for long, in memory that processes share: looks whether any other has died, and recovers.
#[cold]
pub(crate) fn look_for_the_dead<T>(memory: &Memory<T>) {
    look(memory, true);
}

/// The same for the member in this row while it has nothing to do: leaves it to the member on duty, if that lives, to ask
/// the system which members do.
#[cold]
pub(crate) fn look_while_idle<T>(memory: &Memory<T>, row: usize) {
    let region = memory.region();
    let on_duty = region.header().watch.holder();
    look(
        memory,
        !on_duty.is_some_and(|other| other != row && region.lives(other)),
    );
}

fn look<T>(memory: &Memory<T>, asks_the_system: bool) {
    let region = memory.region();
    let Some(shared) = region.shared_memory() else {
        return;
    };
    let is_dead = |row: usize| region.rows()[row].record.is_used() && shared.has_ended(row);
    let mut recovered = Recovered::default();
    if asks_the_system
        && (0..region.rows().len()).any(is_dead)
        && let Some(roster) = Roster::try_lock(memory)
    {
        let mut told = Vec::new();
        recovered = free_the_dead(memory, &roster, &Leases(shared), &mut told);
        roster.tell_all(&told);
    }
    finish_what_the_dead_began(memory, &Leases(shared), &mut recovered);
}

/// The row of the dead consumer that holds somebody up, if it is there and he has waited for its successor for
/// as long as it wanted.
pub(crate) fn held_too_long<T>(
    memory: &Memory<T>,
    held_up_by: Option<usize>,
    watch: &mut Watch,
) -> Option<usize> {
    let row = held_up_by.filter(|&row| !memory.region().lives(row));
    let hot = row.map(|row| &memory.row(row).hot);
    let Some((long, position)) =
        hot.and_then(|hot| Some((hot.hold_for()?, hot.position.observe()?)))
    else {
        watch.is_held_up_by_the_living();
        return None;
    };
    row.filter(|&row| watch.has_waited_for_successor(row, position, long))
}

/// How long a member sleeps at most that something is published for, or that waits for slots: held up by the consumer
/// in this row, if it is one.
pub(crate) fn longest_sleep<T>(memory: &Memory<T>, held_up_by: Option<usize>) -> Option<Duration> {
    memory.region().shared_memory()?;
    // Until a successor comes, which wakes it, nothing changes.
    let waits_for_successor = held_up_by
        .is_some_and(|row| !memory.region().lives(row) && memory.row(row).hot.hold_for().is_none());
    Some(if waits_for_successor {
        LONG_SLEEP
    } else {
        LONGEST_SLEEP
    })
}

/// Whether a producer lives.
pub(crate) fn a_producer_lives<T>(memory: &Memory<T>) -> bool {
    let region = memory.region();
    let mut rows = region.rows().iter().enumerate();
    rows.any(|(row, entry)| entry.record.is_producer() && region.lives(row))
}

/// Where a dead producer had got.
pub(crate) struct TakenOver {
    pub(crate) end: Sequence,
    /// Whether `published` did not say so yet: consumers that wait have to be woken.
    pub(crate) is_new: bool,
}

/// Brings `published` to where a dead producer had got, and returns that.
///
/// It may have died between a stamp and `published`; consumers have read what the stamp covers. Under the lock of the
/// table: there is no other producer meanwhile, nor another that takes over.
///
/// # Errors
/// If it has got where no producer gets.
pub(crate) fn take_over<T>(memory: &Memory<T>) -> Result<TakenOver, Unusable> {
    let published = &memory.header().published;
    let before = published.observe();
    let end = end_of_stamps(memory, before);
    if end > LAST_SEQUENCE {
        return Err(Unusable::Corrupt);
    }
    reach(Step::TakeOver);
    // INVARIANT R8: nothing that a consumer may have seen is taken back.
    if end != before {
        published.publish(end);
    }
    Ok(TakenOver {
        end,
        is_new: end != before,
    })
}

/// One producer: how far stamps tell of what is published, from a boundary on: it stamps a batch before it moves
/// `published`, so this can be one batch further.
pub(crate) fn end_of_stamps<T>(memory: &Memory<T>, from: Sequence) -> Sequence {
    let mut end = from;
    // What is found in memory that others have corrupted need not end.
    while let Reading::Events(hi) = memory.reading(end)
        && hi - from <= memory.capacity()
    {
        end = hi;
    }
    end
}

/// A1 to A4 from the first boundary on that is not published; returns how many sequences it gave up.
fn abandon_claims<T>(memory: &Memory<T>, liveness: &impl Liveness) -> u64 {
    let mut abandoned = 0;
    let claimed = memory.header().claimed.observe().sequence(); // A1
    let mut boundary = published_front(memory);
    if claimed.saturating_sub(boundary) > memory.capacity() {
        return 0; // Nobody claims more than a lap above what is published: it is corrupt.
    }
    while boundary < claimed {
        match memory.reading(boundary) {
            Reading::Events(hi) | Reading::Skip(hi) => {
                boundary = hi; // There may be another dead one behind.
                continue;
            }
            Reading::Overtaken => return abandoned, // Others have gone on.
            Reading::Unpublished => {}
        }
        let rows = memory.region().rows();
        let at_work = |row: usize| {
            rows[row].hot.intent.observe() == Some(boundary) && liveness.prove_dead(row).is_none()
        };
        if (0..rows.len()).any(at_work) {
            return abandoned; // A2
        }
        let Some(stamp) = memory.stamp(boundary) else {
            return abandoned; // Published by the cursor alone: there are no such claims.
        };
        reach(Step::Abandon);
        // INVARIANT R8: A3 and A4. If something is published there after all, it is read again.
        if stamp.abandon(boundary) {
            memory.region().wake();
            abandoned += 1;
            boundary += 1;
        }
    }
    abandoned
}

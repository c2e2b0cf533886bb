//! What a member does while there is nothing to do: spin, yield, back off, sleep for a time, or park
//! until it is woken.
//!
//! # No wake-up is lost
//!
//! A member parks at an [`EventCount`]: that of the publications, or that of the consumer which holds it
//! up. A member that stores something which may end a wait then [wakes](EventCount::wake) all that sleep there.
//!
//! ```text
//! sleeper   S1 reads the epoch `e`            waker   W1 stores what ends the wait
//!           S2 sets the flag to the tag           W2 light fence
//!              of `e`, unless a later one         W3 reads the flag: if it is set, to `f`,
//!              is there                           W4   raises the epoch, if it is that of `f`,
//!           S3 heavy fence                        W5   wakes all that sleep,
//!           S4 looks at all it waits for          W6   clears the flag, if it still is `f`
//!           S5 sleeps if the epoch is `e`
//! ```
//!
//! The two [fences](Fences) have an order. If W2 comes first, S4 sees W1, and the member does not sleep. If S3 comes
//! first, W3 sees the flag that S2 has set or found, or a later one, or one that another waker has cleared since.
//!
//! * A flag `f` of `e` or later: the epoch is above that of `f` after W4, and stays so. Either S5 finds it raised, and
//!   does not sleep, or S5 comes before, and W5 wakes.
//! * Cleared by another waker: that one has done the same for a flag of `e` or later, before.
//! * S2 found a later flag: it was set by a sleeper that has read a later epoch. So does S5.
//!
//! A waker that stops between W3 and W6 leaves the flag set: the next one that publishes wakes in its place. It
//! cannot clear the flag of a later sleeper when it goes on, as that has another tag. (A tag comes again after 2^31
//! wake-ups.) The flag is not a count, so that a sleeper that never comes back costs one wake-up and not one for each
//! publication.

use std::ptr;
use std::time::{Duration, Instant};

use crate::sequence::Sequence;
use crate::step::{Step, reach};
use crate::sync::{
    AtomicU32, AtomicU64, Backoff, Fences, Futex, Ordering, explored_pause, sleep, spin_loop,
    yield_now,
};

/// Where members park, and are woken.
#[repr(C)]
pub(crate) struct EventCount {
    /// Goes up by two with each wake-up.
    epoch: Futex,
    /// The tag of the latest epoch at which a member got ready to sleep, or 0.
    asleep: AtomicU32,
}

/// What the flag is set to for an epoch, which is even: never 0.
fn tag(epoch: u32) -> u32 {
    epoch | 1
}

/// Whether tag `a` is of a later epoch than tag `b`, of two that are near each other.
fn is_later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// A member that is ready to park: what [`EventCount::sleep`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    epoch: u32,
    /// Whether whoever ends the wait is sure to wake it.
    is_sure: bool,
}

impl Epoch {
    /// How long to sleep at most, if it is to be `at_most` so long.
    fn bound(self, at_most: Option<Duration>) -> Option<Duration> {
        if self.is_sure {
            at_most
        } else {
            Some(at_most.map_or(LONGEST_SLEEP, |time| time.min(LONGEST_SLEEP)))
        }
    }
}

impl EventCount {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Futex::new(),
            asleep: AtomicU32::new(0),
        }
    }

    /// S1 to S3: after this, look at everything that is waited for, and then sleep.
    pub(crate) fn prepare(&self, fences: Fences) -> Epoch {
        let epoch = self.announce();
        Epoch {
            epoch,
            // ORDER(sleep): S3.
            is_sure: fences.heavy(Ordering::SeqCst),
        }
    }

    /// As [`EventCount::prepare`], at several, with one fence for all.
    pub(crate) fn prepare_all<'p>(
        places: impl Iterator<Item = &'p Self>,
        fences: Fences,
    ) -> Vec<(*const Self, Epoch)> {
        let announced: Vec<_> = places
            .map(|place| (ptr::from_ref(place), place.announce()))
            .collect();
        // ORDER(sleep): S3.
        let is_sure = fences.heavy(Ordering::SeqCst);
        let ready = announced.into_iter();
        ready
            .map(|(place, epoch)| (place, Epoch { epoch, is_sure }))
            .collect()
    }

    /// S1 and S2: returns the epoch.
    fn announce(&self) -> u32 {
        // ORDER(wake): S1, with W4.
        let epoch = self.epoch.word().load(Ordering::Acquire);
        let mine = tag(epoch);
        // RELAXED: S2; what is found is read again by the exchange, or is a later tag, and then Acquire follows.
        let mut found = self.asleep.load(Ordering::Relaxed);
        while found == 0 || is_later(mine, found) {
            // ORDER(wake): S2, with W6: what follows comes after the raise of the waker that has cleared the flag.
            // ORDER(wake): on failure Acquire, as the fence below.
            match (self.asleep).compare_exchange(found, mine, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        epoch
    }

    /// S5: sleeps until it is woken, or for `at_most` so long, or for no reason.
    pub(crate) fn sleep(&self, epoch: Epoch, at_most: Option<Duration>) {
        reach(Step::Park);
        self.epoch.sleep(epoch.epoch, epoch.bound(at_most));
    }

    /// Whether nothing has been woken here since.
    fn is_still(&self, epoch: Epoch) -> bool {
        // RELAXED: the system looks again before it lets anything sleep.
        self.epoch.word().load(Ordering::Relaxed) == epoch.epoch
    }

    /// As [`EventCount::sleep`], at several.
    pub(crate) fn sleep_at_any(places: &[(&Self, Epoch)], at_most: Option<Duration>) {
        let at_most = (places.iter()).fold(at_most, |time, (_, epoch)| epoch.bound(time));
        let futexes = (places.iter()).map(|(place, epoch)| (&place.epoch, epoch.epoch));
        Futex::sleep_on_any(&futexes.collect::<Vec<_>>(), at_most);
    }

    /// W2 to W6: wakes all that sleep here, for what was stored before.
    #[inline]
    pub(crate) fn wake(&self, fences: Fences) {
        // INVARIANT R5: as argued above.
        // ORDER(sleep): W2.
        fences.light(Ordering::SeqCst);
        // RELAXED: W3; the fence orders it.
        let flag = self.asleep.load(Ordering::Relaxed);
        if flag != 0 {
            self.wake_sleepers(flag);
        }
    }

    #[cold]
    #[inline(never)] // It would be in the way of what a producer does.
    fn wake_sleepers(&self, flag: u32) {
        let epoch = flag & !1;
        reach(Step::Wake);
        // ORDER(wake): W4, with S1: a sleeper that reads the epoch raised has a later tag.
        // RELAXED: on failure another waker has raised it.
        let _ = (self.epoch.word()).compare_exchange(
            epoch,
            epoch.wrapping_add(2),
            Ordering::Release,
            Ordering::Relaxed,
        );
        reach(Step::Wake);
        self.epoch.wake_all(); // W5
        reach(Step::Wake);
        // ORDER(wake): W6, with S2: a sleeper that finds the flag cleared finds the epoch raised.
        // RELAXED: on failure it is cleared, or a later sleeper's.
        let _ = (self.asleep).compare_exchange(flag, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// How a producer waits for free slots, and a consumer for events.
///
/// Plain data, chosen for each member. Whatever is chosen, no event is lost: only the delay and the
/// cost of waiting differ. The default spins, then yields, then sleeps for 50 µs at a time, which
/// suits any number of threads on any number of cores.
///
/// # Examples
/// ```
/// use annulus_ring::{Ring, Wait};
///
/// let ring = Ring::builder(8).build(u64::default)?;
/// let mut feed = ring.producer()?.with_wait(Wait::Yield)?;
/// let mut book = ring.consumer("book").wait(Wait::Spin).join()?;
/// feed.publish_value(7)?;
/// assert_eq!(book.next_batch()?[0], 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Polls without a break: the shortest delay, for a thread that has a core to itself.
    Spin,
    /// Polls a little, then yields the core between polls: for threads that share cores.
    Yield,
    /// Polls less and less often, then yields between polls.
    Backoff,
    /// Polls a little, then sleeps until it is woken by what it waits for: costs nothing while nothing
    /// happens, and 50 µs or so when it does. Takes a ring built for [parking](crate::RingBuilder::parking).
    ///
    /// On Linux whoever goes to sleep interrupts the other cores for a moment, a microsecond or so, that run threads of
    /// its process, or of any process that has such a ring in shared memory open (`membarrier(2)`): so those who
    /// publish need no fence.
    Park,
    /// Polls `spins` times, then yields between polls `yields` times, then sleeps between polls.
    Phased {
        /// How many times to poll with no more than a pause of the processor in between.
        spins: u32,
        /// How many times to poll with a yield in between.
        yields: u32,
        /// How long to sleep between the polls that follow; the system may round it up.
        sleep: Duration,
    },
}

impl Default for Wait {
    fn default() -> Self {
        Self::Phased {
            spins: 200,
            yields: 50,
            sleep: Duration::from_micros(50),
        }
    }
}

/// How long a call is ready to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Forever,
}

/// How often a member has waited.
///
/// # Examples
/// See [`Consumer::waits`](crate::Consumer::waits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waits {
    /// How many times it found nothing to do and had to wait.
    pub waited: u64,
    /// How many times it slept until it was woken, in all of these waits.
    pub parked: u64,
}

impl Waits {
    pub(crate) fn add(&mut self, waiter: &Waiter) {
        self.waited += u64::from(waiter.has_paused);
        self.parked += waiter.parks;
    }
}

/// One wait, from the first poll that finds nothing to the last.
pub(crate) struct Waiter {
    wait: Wait,
    patience: Patience,
    pauses: u32,
    has_paused: bool,
    parks: u64,
    backoff: Backoff,
    /// Where it is ready to park.
    prepared: Option<(*const EventCount, Epoch)>,
    /// The same, at several places.
    prepared_at: Vec<(*const EventCount, Epoch)>,
    /// What keeps it in order with the members that wake it.
    fences: Fences,
    /// Whether its last pause, if there was one, was no more than one of the processor.
    pub(crate) was_short: bool,
    /// How many times it has been asked whether it has patience, up to the next look at the clock and past it.
    asked: u8,
    /// The last reading of the clock.
    clock: Option<Instant>,
}

impl Waiter {
    /// How often `Yield` and `Park` poll before they first yield, or park.
    const SPINS_BEFORE_YIELDING: u32 = if cfg!(any(loom, miri)) { 0 } else { 100 };

    pub(crate) fn new(wait: Wait, patience: Patience, parking: Option<Fences>) -> Self {
        Self {
            wait,
            patience,
            fences: parking.unwrap_or_default(),
            was_short: true,
            pauses: 0,
            has_paused: false,
            parks: 0,
            backoff: Backoff::new(),
            prepared: None,
            prepared_at: Vec::new(),
            asked: 0,
            clock: None,
        }
    }

    /// Whether it may let any time pass at all.
    pub(crate) fn may_wait(&self) -> bool {
        !matches!(self.patience, Patience::None)
    }

    /// The same for a member that has read the clock then, if it has: the first polls can do without another reading.
    pub(crate) fn knowing(mut self, clock: Option<Instant>) -> Self {
        self.clock = clock;
        self.asked = u8::from(clock.is_some());
        self
    }

    /// When the clock was read last, if it was.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.clock
    }

    /// Lets some time pass before the next poll, or returns false: there is to be none. What ends the
    /// wait wakes at `place`; `at_most` says how long to sleep there, asked when all else is looked at.
    pub(crate) fn pause(
        &mut self,
        place: &EventCount,
        at_most: impl FnOnce() -> Option<Duration>,
    ) -> bool {
        if !self.has_patience() {
            return false;
        }
        self.has_paused = true;
        if self.is_to_park() {
            // The first time it gets ready, so that the caller looks once more before the second, which
            // sleeps. If something else holds the caller up by then, it gets ready there.
            match self.prepared.take() {
                Some((prepared, epoch)) if ptr::eq(prepared, place) => {
                    self.parks += 1;
                    self.was_short = false;
                    place.sleep(epoch, self.longest_sleep(at_most()));
                    if place.is_still(epoch) {
                        // Its time was over, or there was no reason: the flag still is there, and takes no other fence.
                        self.prepared = Some((prepared, epoch));
                    }
                }
                _ => self.prepared = Some((place, place.prepare(self.fences))),
            }
            return true;
        }
        self.pause_awake();
        true
    }

    /// As [`Waiter::pause`]; what ends the wait wakes at any of these places.
    pub(crate) fn pause_at_any<'p>(
        &mut self,
        places: impl Iterator<Item = &'p EventCount> + Clone,
        at_most: impl FnOnce() -> Option<Duration>,
    ) -> bool {
        if !self.has_patience() {
            return false;
        }
        if self.is_to_park() {
            let as_prepared = places.clone().map(ptr::from_ref);
            if as_prepared.eq(self.prepared_at.iter().map(|(place, _)| *place)) {
                let epochs = self.prepared_at.drain(..).map(|(_, epoch)| epoch);
                let places: Vec<_> = places.zip(epochs).collect();
                self.was_short = false;
                EventCount::sleep_at_any(&places, self.longest_sleep(at_most()));
            } else {
                self.prepared_at = EventCount::prepare_all(places, self.fences);
            }
            return true;
        }
        self.pause_awake();
        true
    }

    fn is_to_park(&self) -> bool {
        self.wait == Wait::Park && (Self::SPINS_BEFORE_YIELDING..).contains(&self.pauses)
    }

    fn pause_awake(&mut self) {
        explored_pause(self.pauses);
        match self.wait {
            Wait::Spin => self.spin_then_yield(u32::MAX),
            Wait::Yield | Wait::Park => self.spin_then_yield(Self::SPINS_BEFORE_YIELDING),
            Wait::Backoff => self.backoff.snooze(),
            Wait::Phased {
                spins,
                yields,
                sleep: nap,
            } => {
                if self.pauses < spins.saturating_add(yields) {
                    self.spin_then_yield(spins);
                } else {
                    sleep(self.time_left().map_or(nap, |left| left.min(nap)));
                    self.was_short = false;
                }
            }
        }
        self.pauses = (self.pauses + 1).min(u32::MAX - 1); // `Spin` spins for ever.
    }

    fn longest_sleep(&self, at_most: Option<Duration>) -> Option<Duration> {
        match (self.time_left(), at_most) {
            (Some(left), Some(most)) => Some(left.min(most)),
            (left, most) => left.or(most),
        }
    }

    /// Whether it has slept until it was woken.
    pub(crate) fn has_parked(&self) -> bool {
        self.parks > 0
    }

    /// Whether there is to be another poll.
    fn has_patience(&mut self) -> bool {
        match self.patience {
            Patience::None => false,
            Patience::Until(deadline) => {
                if self.clock.is_some_and(|then| deadline <= then) {
                    return false; // It was over when the clock was read last.
                }
                // Fast polls look at the clock now and then: a reading takes as long as a poll, or longer.
                let is_to_look = cfg!(loom) || !self.was_short || self.asked == 0;
                self.asked = (self.asked + 1) % POLLS_BY_DEADLINE;
                if !is_to_look {
                    return true;
                }
                let now = Instant::now();
                self.clock = Some(now);
                now < deadline
            }
            Patience::Forever => true,
        }
    }

    fn time_left(&self) -> Option<Duration> {
        match self.patience {
            Patience::Until(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            Patience::None | Patience::Forever => None,
        }
    }

    fn spin_then_yield(&mut self, spins: u32) {
        if self.pauses < spins {
            spin_loop();
            self.was_short = true;
        } else {
            yield_now();
            self.was_short = false;
        }
    }
}

/// How long a member sleeps that has to look for the dead now and then, or may not be woken.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_millis(5);

/// How long a member sleeps while another one looks for the dead, and wakes it if there are any.
pub(crate) const LONG_SLEEP: Duration = Duration::from_millis(250);

/// Which of the members that have nothing to do looks for the dead, so that the others can sleep for long.
///
/// A member takes the duty before it sleeps, if it is free, and gives it up when it wakes for something to do; it
/// then wakes the others, of which one takes it. So a process that dies is found out by one look each
/// [`LONGEST_SLEEP`], however many sleep. If the member on duty is itself among the dead, the others find out when
/// their [`LONG_SLEEP`] is over.
#[repr(C)]
pub(crate) struct Duty(AtomicU64);

impl Duty {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes the duty for the member in this row; false if another has it.
    pub(crate) fn take(&self, row: usize) -> bool {
        let mine = row as u64 + 1;
        // RELAXED: it is read after S3, as everything that is waited for, and a wake-up follows when it is given up.
        // RELAXED: on failure the same.
        let exchanged = (self.0).compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed);
        exchanged.is_ok() || exchanged == Err(mine)
    }

    /// The row of the member that has it.
    pub(crate) fn holder(&self) -> Option<usize> {
        // RELAXED: as in `take`.
        let holder = self.0.load(Ordering::Relaxed);
        (holder as usize).checked_sub(1)
    }

    /// Gives the duty up if the member in this row has it; the caller wakes the others then.
    #[must_use]
    pub(crate) fn give_up(&self, row: usize) -> bool {
        let mine = row as u64 + 1;
        // RELAXED: as in `take`.
        // RELAXED: on failure the same.
        (self.0)
            .compare_exchange(mine, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// When a member looks for the dead among those that it waits for: now and then while it finds nothing, in
/// one call or in many.
pub(crate) struct Watch {
    /// Whether those waited for may die unseen.
    in_company: bool,
    look_at: Option<Instant>,
    /// The last look at the clock, and how many times to do without one.
    clock: Option<Instant>,
    polls_left: u32,
    /// The dead consumer whose successor it waits for, where that stands, and since when it knows.
    held_up: Option<(usize, Sequence, Instant)>,
}

impl Watch {
    pub(crate) fn new(in_company: bool) -> Self {
        Self {
            in_company,
            look_at: None,
            clock: None,
            polls_left: 0,
            held_up: None,
        }
    }

    /// Whether it is time to look; for who has found nothing, at once or after a pause that was short or not.
    #[inline]
    pub(crate) fn is_due(&mut self, was_short: bool) -> bool {
        if !self.in_company {
            return false;
        }
        if cfg!(loom) {
            self.polls_left ^= 1; // A model has no clock.
            return self.polls_left == 1;
        }
        if was_short && self.polls_left > 0 {
            self.polls_left -= 1;
            return false;
        }
        self.is_due_by_the_clock()
    }

    #[cold]
    fn is_due_by_the_clock(&mut self) -> bool {
        let now = Instant::now();
        // Who polls fast looks at the clock less often.
        let is_fast = self.clock.is_some_and(|then| now - then < POLLS_TAKE);
        self.polls_left = if is_fast { POLLS } else { 0 };
        self.clock = Some(now);
        let is_due = self.look_at.is_some_and(|time| time <= now);
        if is_due || self.look_at.is_none() {
            self.look_at = Some(now + BETWEEN_LOOKS);
        }
        is_due
    }

    /// It has found something: the next look is for when it waits again.
    pub(crate) fn rest(&mut self) {
        self.look_at = None;
        self.held_up = None;
    }

    /// Whether it has waited for so long for a successor of the dead consumer in this row, which has released what
    /// lies below `position`.
    pub(crate) fn has_waited_for_successor(
        &mut self,
        row: usize,
        position: Sequence,
        long: Duration,
    ) -> bool {
        let now = Instant::now();
        let since = match self.held_up {
            Some((same, there, since)) if (same, there) == (row, position) => since,
            _ => now, // Also if a successor has come, worked and died: this is another wait.
        };
        self.held_up = Some((row, position, since));
        now - since >= long
    }

    /// What holds it up is no dead consumer, or one without a time to wait for.
    pub(crate) fn is_held_up_by_the_living(&mut self) {
        self.held_up = None;
    }
}

/// How long a member waits before it looks for the dead: a look takes some microseconds, so that is a few
/// thousandths of its time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// So many fast polls for a look at the clock.
const POLLS: u32 = 64;

/// If they take less than this.
const POLLS_TAKE: Duration = Duration::from_micros(200);

/// The same, of a member that has a deadline to keep.
const POLLS_BY_DEADLINE: u8 = 16;

/// The pause of a consumer that has drained a backlog, before it polls the shared lines again.
///
/// A consumer that polls at once takes from the producer the very line that it is about to write,
/// and both go on event by event, at the pace at which a line changes hands. Left alone for a
/// moment, the producer publishes many, and the consumer finds a batch. A small ring would be full
/// before that.
#[inline]
pub(crate) fn let_batches_grow(capacity: u64) {
    if cfg!(loom) {
        return; // To a model this is any other delay.
    }
    for _ in 0..PAUSES_AFTER_DRAINING.min(capacity / 8) {
        spin_loop();
    }
}

/// About 0.6 µs where the processor's pause takes 10 ns; up to 3 µs where it takes longer.
const PAUSES_AFTER_DRAINING: u64 = 64;

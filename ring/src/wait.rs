//! What a member does while there is nothing to do: spin, yield, back off, sleep for a time, or park
//! until it is woken.
//!
//! # No wake-up is lost
//!
//! A member parks at an [`EventCount`]: that of the publications, or that of the consumer which holds it
//! up. Whoever stores something that may end a wait then [wakes](EventCount::wake) who sleeps there.
//!
//! ```text
//! sleeper   S1 reads the epoch        waker   W1 stores what ends the wait
//!           S2 sets the flag                  W2 light fence
//!           S3 heavy fence                    W3 reads the flag: if it is set,
//!           S4 looks at all it waits for      W4   clears it,
//!           S5 sleeps if the epoch is         W5   raises the epoch,
//!              that of S1                     W6   wakes all who sleep
//! ```
//!
//! The two [fences](Fences) have an order. If S3 comes first, W3 sees the flag of S2, or one cleared by another
//! waker, who is then between its W4 and W6 and does what follows in this one's place. The epoch is
//! raised after S1: either before S5, which then does not sleep, or after it, and W6 wakes. If W2 comes
//! first, S4 sees W1 and nobody sleeps.
//!
//! Clearing the flag loses nobody: who set it before W4 has read the epoch before W5 raised it; and who
//! reads the epoch raised (S1 acquires what W5 releases) sets its flag after W4. It is a flag and not a
//! count, so that a sleeper that never comes back costs one wake-up and not one for each publication.

use std::ptr;
use std::time::{Duration, Instant};

use crate::step::{Step, reach};
use crate::sync::{
    AtomicU32, Backoff, Fences, Futex, Ordering, explored_pause, sleep, spin_loop, yield_now,
};

/// Where members park, and are woken.
#[repr(C)]
pub(crate) struct EventCount {
    epoch: Futex,
    asleep: AtomicU32,
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
        // ORDER(wake): S1, with W5: who reads the epoch raised sets its flag after W4.
        let epoch = self.epoch.word().load(Ordering::Acquire);
        // RELAXED: S2; the fence orders it.
        self.asleep.store(1, Ordering::Relaxed);
        // ORDER(sleep): S3.
        let is_sure = fences.heavy(Ordering::SeqCst);
        Epoch { epoch, is_sure }
    }

    /// S5: sleeps until it is woken, or for `at_most` so long, or for no reason.
    pub(crate) fn sleep(&self, epoch: Epoch, at_most: Option<Duration>) {
        reach(Step::Park);
        self.epoch.sleep(epoch.epoch, epoch.bound(at_most));
    }

    /// As [`EventCount::sleep`], at several.
    pub(crate) fn sleep_at_any(places: &[(&Self, Epoch)], at_most: Option<Duration>) {
        let at_most = (places.iter()).fold(at_most, |time, (_, epoch)| epoch.bound(time));
        let futexes = (places.iter()).map(|(place, epoch)| (&place.epoch, epoch.epoch));
        Futex::sleep_on_any(&futexes.collect::<Vec<_>>(), at_most);
    }

    /// W2 to W6: wakes who sleeps here, for what was stored before.
    #[inline]
    pub(crate) fn wake(&self, fences: Fences) {
        // INVARIANT R5: as argued above.
        // ORDER(sleep): W2.
        fences.light(Ordering::SeqCst);
        // RELAXED: W3; the fence orders it.
        if self.asleep.load(Ordering::Relaxed) != 0 {
            self.wake_sleepers();
        }
    }

    #[cold]
    #[inline(never)] // It would be in the way of whoever publishes.
    fn wake_sleepers(&self) {
        // RELAXED: W4; the epoch, raised next, passes it on.
        self.asleep.store(0, Ordering::Relaxed);
        reach(Step::Wake);
        // ORDER(wake): W5, with S1.
        self.epoch.word().fetch_add(1, Ordering::Release);
        self.epoch.wake_all();
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
    /// Whether those waited for may die unseen: then it sleeps for short times only, and looks.
    in_company: bool,
    /// For who parks.
    fences: Fences,
    /// Whether its last pause, if there was one, was no more than one of the processor.
    pub(crate) was_short: bool,
}

impl Waiter {
    /// How often `Yield` and `Park` poll before they first yield, or park.
    const SPINS_BEFORE_YIELDING: u32 = if cfg!(any(loom, miri)) { 0 } else { 100 };

    pub(crate) fn new(
        wait: Wait,
        patience: Patience,
        in_company: bool,
        parking: Option<Fences>,
    ) -> Self {
        Self {
            wait,
            patience,
            in_company,
            fences: parking.unwrap_or_default(),
            was_short: true,
            pauses: 0,
            has_paused: false,
            parks: 0,
            backoff: Backoff::new(),
            prepared: None,
            prepared_at: Vec::new(),
        }
    }

    /// Lets some time pass before the next poll, or returns false: there is to be none. What ends the
    /// wait wakes at `place`.
    pub(crate) fn pause(&mut self, place: &EventCount) -> bool {
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
                    place.sleep(epoch, self.longest_sleep());
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
                EventCount::sleep_at_any(&places, self.longest_sleep());
            } else {
                let fences = self.fences;
                let prepare = |place: &EventCount| (ptr::from_ref(place), place.prepare(fences));
                self.prepared_at = places.map(prepare).collect();
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
                    let most = self.longest_sleep();
                    sleep(most.map_or(nap, |most| most.min(nap)));
                    self.was_short = false;
                }
            }
        }
        self.pauses = (self.pauses + 1).min(u32::MAX - 1); // `Spin` spins for ever.
    }

    fn longest_sleep(&self) -> Option<Duration> {
        let left = self.time_left();
        if self.in_company {
            return Some(left.map_or(LONGEST_SLEEP, |left| left.min(LONGEST_SLEEP)));
        }
        left
    }

    /// Whether there is to be another poll.
    fn has_patience(&self) -> bool {
        match self.patience {
            Patience::None => false,
            Patience::Until(deadline) => Instant::now() < deadline,
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
const LONGEST_SLEEP: Duration = Duration::from_millis(5);

/// When a member looks for the dead among those that it waits for: now and then while it finds nothing, in
/// one call or in many.
pub(crate) struct Watch {
    /// Whether those waited for may die unseen.
    in_company: bool,
    look_at: Option<Instant>,
    /// The last look at the clock, and how many times to do without one.
    clock: Option<Instant>,
    polls_left: u32,
    /// The dead consumer whose successor it waits for, and since when it knows.
    held_up: Option<(usize, Instant)>,
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

    /// Whether it has waited for a successor of the dead consumer in this row for so long.
    pub(crate) fn has_waited_for_successor(&mut self, row: usize, long: Duration) -> bool {
        let now = Instant::now();
        let since = match self.held_up {
            Some((same, since)) if same == row => since,
            _ => now,
        };
        self.held_up = Some((row, since));
        now - since >= long
    }
}

/// How long a member waits before it looks for the dead: a look takes some microseconds, so that is a few
/// thousandths of its time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// So many fast polls for a look at the clock.
const POLLS: u32 = 64;

/// If they take less than this.
const POLLS_TAKE: Duration = Duration::from_micros(200);

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

//! The loop that the thread of a stage runs, and what it does when a handler fails.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_ring::{
    Batch, Consumer, MutableBatch, MutableConsumer, NotReady, Poisoned, Ring, Sequence,
};

use crate::control::{ABORTED, Control, Departure, Ended, FAILED, Post};
use crate::failure::{Cause, DeadLetter, During, Failure, Verdict, caught, guarded};
use crate::handler::{Handler, HandlerError, HandlerMut};
use crate::lot::sealed::{Batched, Holds};
use crate::lot::{Idle, Lot, Pace};
use crate::metrics::{elapsed, ticks};
use crate::pin;

/// How long a stage waits for events before it looks whether it is to leave: nobody wakes it for that. Four times a second
/// is seldom enough not to be noticed by others, where the stage parks, too.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a stage does on its thread, but for its handler.
pub(crate) struct Work<I: Inlet> {
    pub(crate) inlet: I,
    /// The cores that it is pinned to; none for anywhere.
    pub(crate) cores: Vec<usize>,
    pub(crate) place: Place<I::Event>,
    pub(crate) policy: Policy<I::Event>,
}

/// Where a stage stands in its pipeline.
pub(crate) struct Place<T> {
    pub(crate) index: usize,
    pub(crate) control: Arc<Control>,
    pub(crate) post: Arc<Post>,
    pub(crate) ring: Ring<T>,
    pub(crate) idle_every: Option<Duration>,
    /// Whether its place in the ring is held if it goes before it has handled what it was to.
    pub(crate) holds: bool,
    /// When an event was published, if the pipeline is timed; and who hands events over to this stage.
    pub(crate) published: Option<Published<T>>,
    pub(crate) before: Vec<Arc<Post>>,
    /// How many of its waits were those of one that it interrupted to look around.
    pub(crate) looks: Cell<u64>,
    /// Whether it was taken out of the ring.
    pub(crate) is_evicted: Cell<bool>,
}

/// What becomes of failures.
pub(crate) struct Policy<T> {
    pub(crate) decide: Decide,
    pub(crate) dead_letters: Option<DeadLetters<T>>,
}

pub(crate) type Decide = Box<dyn FnMut(&Failure) -> Verdict + Send>;
pub(crate) type DeadLetters<T> = Box<dyn FnMut(DeadLetter<'_, T>) + Send>;
pub(crate) type Published<T> = Arc<dyn Fn(&T) -> u64 + Send + Sync>;

impl<I: Inlet> Work<I> {
    /// Builds the handler, runs it until the ring or the handler ends, and leaves.
    pub(crate) fn run<H: Handles<I>>(mut self, build: impl FnOnce() -> H) {
        if !self.place.control.is_to_begin() {
            self.inlet.leave(self.place.post.has_resumed);
            let _ = caught(|| drop((build, self.policy, self.place)));
            return;
        }
        let pinned = (!self.cores.is_empty()).then(|| pin::pin(&self.cores));
        self.inlet.bind_to_this_thread();
        self.place.control.runs_here(self.place.index, pinned);
        let mut handler = None;
        // What is the user's is caught where it is called. Should anything else panic, all are told as well.
        let ended = caught(|| self.live(build, &mut handler));
        let ended =
            ended.unwrap_or_else(|cause| self.place.fail(&mut self.policy, During::Event, cause));
        // Before the handler stops, which may take its time, and before the stage leaves: nobody after it is to be
        // given what it has not handled. Who hears of a failure finds the cause; who aborts may be about to say so.
        match ended {
            Ended::Failed(_) if self.place.control.owns_ring() => {
                self.inlet.consumer().poison(FAILED);
            }
            Ended::Failed(_) => self.place.control.leave(0, true),
            Ended::Aborted if self.place.control.owns_ring() => {
                self.inlet.consumer().poison(ABORTED);
            }
            _ => {}
        }
        let next = next_of(&self.inlet);
        let is_short = self.place.is_short(next, &ended);
        self.place.control.is_done(self.place.index, is_short);
        if let Some(handler) = handler {
            self.place.stop::<I, _>(handler);
        }
        self.leave(ended);
    }

    /// Builds the handler, and hands it everything.
    fn live<H: Handles<I>>(&mut self, build: impl FnOnce() -> H, handler: &mut Option<H>) -> Ended {
        let handler = match caught(build) {
            Ok(built) => handler.insert(built),
            Err(cause) => return self.place.fail(&mut self.policy, During::Build, cause),
        };
        match guarded(|| handler.on_start(&self.place.post.name)) {
            Ok(()) => match self.handle_all(handler) {
                Err(ended) => ended,
            },
            Err(cause) => self.place.fail(&mut self.policy, During::Start, cause),
        }
    }

    fn handle_all<H: Handles<I>>(&mut self, handler: &mut H) -> Result<Never, Ended> {
        let Self {
            inlet,
            place,
            policy,
            ..
        } = self;
        let mut pace = Pace::default();
        let past = Some(Instant::now()); // With this deadline it looks, and does not wait.
        // Set anew when it is over, and not with each wait: to read the clock takes longer than many a wait.
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            if let Some(at) = place.control.leave_at() {
                place.leave_at(at, inlet, policy, handler)?;
            }
            let why = match inlet.next_batch(past) {
                Ok(batch) => {
                    place.handle::<I, _>(policy, handler, &mut pace, batch)?;
                    continue;
                }
                Err(why) => why,
            };
            match why {
                // A dead stage before this one, in another process, may yet be succeeded.
                NotReady::Idle | NotReady::Gated | NotReady::Held { .. } => place.held_up(why),
                NotReady::Closed => return place.drain(inlet, policy, handler, Ended::Drained),
                NotReady::Poisoned(poisoned) => return Err(place.how_poisoned(poisoned)),
                NotReady::Unusable(cause) => return Err(Ended::Unusable(cause)),
                // Whoever did that lets those behind it go on; they are not to do so for long, if its failures stop them.
                NotReady::Evicted { .. } => {
                    place.is_evicted.set(true);
                    return Err(place.fail(policy, During::Wait, Cause::Error(Box::new(why))));
                }
                _ => return Err(Ended::Drained), // Nothing else ends a ring.
            }
            place.count(inlet);
            place.idle(inlet, policy, handler, false)?;
            let deadline = place
                .idle_every
                .and_then(|every| Instant::now().checked_add(every));
            loop {
                let until = deadline.map_or(look_at, |deadline| deadline.min(look_at));
                let waited = inlet.consumer().waits().waited;
                let why = match inlet.next_batch(Some(until)) {
                    Ok(batch) => {
                        place.handle::<I, _>(policy, handler, &mut pace, batch)?;
                        break;
                    }
                    Err(why) => why,
                };
                let is_idle = matches!(
                    why,
                    NotReady::Idle | NotReady::Gated | NotReady::Held { .. }
                );
                if !is_idle || place.control.leave_at().is_some() {
                    break; // The next look tells.
                }
                let now = Instant::now();
                if look_at <= now {
                    look_at = now + LOOK_EVERY;
                }
                if deadline.is_some_and(|deadline| deadline <= now) {
                    break;
                }
                let looks = inlet.consumer().waits().waited - waited;
                place.looks.set(place.looks.get() + looks);
                place.held_up(why);
            }
        }
    }

    /// Leaves the ring, and tells how it has ended.
    fn leave(self, ended: Ended) {
        let Self {
            inlet,
            place,
            policy,
            ..
        } = self;
        place.count(&inlet);
        let left_at = next_of(&inlet).max(place.post.start);
        place.post.left_at.set(left_at);
        place.depart(inlet, left_at, &ended);
        let Policy {
            decide,
            dead_letters,
        } = policy;
        let _ = caught(|| drop(decide)); // They are gone, whatever they say to it.
        let _ = caught(|| drop(dead_letters));
        let Place {
            control,
            index,
            published,
            ..
        } = place;
        let _ = caught(|| drop(published));
        control.ran_on(index, pin::current_core());
        control.ended(index, ended);
    }
}

/// The first sequence that a stage has not been given.
fn next_of<I: Inlet>(inlet: &I) -> Sequence {
    let held = Holds::held(inlet).last().map(|(sequence, _)| sequence + 1);
    inlet.consumer().position().max(held.unwrap_or(0))
}

/// A loop ends only by an [`Ended`].
pub(crate) enum Never {}

impl<T> Place<T> {
    /// Makes known whether a dead consumer holds it up that nobody has succeeded in time.
    fn held_up(&self, why: NotReady) {
        match why {
            NotReady::Held { row } => self.post.held_up_by.set(row as u64 + 1),
            NotReady::Idle => self.post.held_up_by.set(0),
            _ => {} // Between two looks for the dead it is gated, and knows no more.
        }
    }

    /// The pipeline leaves: so does the stage, if it has handled what lies below `at`, and holds nothing any more.
    #[cold]
    fn leave_at<I: Inlet<Event = T>, H: Handles<I>>(
        &self,
        at: Sequence,
        inlet: &mut I,
        policy: &mut Policy<T>,
        handler: &mut H,
    ) -> Result<(), Ended> {
        if self.control.is_aborted() {
            return Err(Ended::Aborted);
        }
        if let Some(failure) = self.control.cause() {
            return Err(Ended::Stopped(failure));
        }
        if next_of(inlet) < at {
            return Ok(());
        }
        self.drain(inlet, policy, handler, Ended::Left)?;
        Ok(())
    }

    /// Whether it goes before it has handled what it was to, or is to leave its place to the next of its name anyhow.
    fn is_short(&self, next: Sequence, ended: &Ended) -> bool {
        match ended {
            Ended::Failed(_) | Ended::Stopped(_) => true,
            Ended::Left => self.control.keeps_places(),
            Ended::Aborted => self.control.keeps_places() || next < self.ring.snapshot().published,
            _ => false,
        }
    }

    /// Leaves the ring: for good, or with its place held for the next of its name, if the pipeline has not done what it
    /// was to.
    fn depart<I: Inlet<Event = T>>(&self, inlet: I, next: Sequence, ended: &Ended) {
        let is_of_all = matches!(
            ended,
            Ended::Failed(_) | Ended::Stopped(_) | Ended::Left | Ended::Aborted
        );
        if self.control.owns_ring() || !is_of_all {
            return inlet.leave(false);
        }
        let is_short = self.control.wait_until_all_are_done();
        let is_held = is_short && self.holds && !self.is_evicted.get();
        let published = self.ring.snapshot().published.max(next);
        inlet.leave(is_held);
        // It is told once.
        let _ = self.post.departure.set(Departure { published, is_held });
    }

    /// Stops the handler, and drops it.
    fn stop<I: Inlet, H: Handles<I>>(&self, mut handler: H) {
        let stopped = [guarded(|| handler.on_stop()), caught(|| drop(handler))];
        for cause in stopped.into_iter().filter_map(Result::err) {
            let failure = self.failure(During::Stop, cause);
            self.control.failed(&Arc::new(failure), false);
        }
    }

    /// Handles a batch, over and over if its handler fails, until it is used up.
    #[inline]
    fn handle<'c, I: Inlet<Event = T>, H: Handles<I>>(
        &'c self,
        policy: &mut Policy<T>,
        handler: &mut H,
        pace: &mut Pace,
        batch: I::Batch<'c>,
    ) -> Result<(), Ended> {
        let counters = &self.post.counters;
        counters.took_batch(batch.len());
        let began = self.begin(&batch);
        let size = batch.len();
        let mut lot = Lot::new(batch, pace, self.control.aborted(), counters.times.as_ref());
        let mut tries = Tries::default();
        while let Err(cause) = pace.learn(size, || guarded(|| handler.on_batch(&mut lot))) {
            if let Some(ended) = self.failed(policy, &mut lot, &mut tries, cause) {
                lot.give_back();
                if let Some(Began { at, .. }) = began {
                    self.was_busy(at, ticks());
                }
                return Err(ended);
            }
            if lot.is_used_up() {
                break;
            }
        }
        if let Some(began) = began {
            self.end(began, &lot);
        }
        let is_cut = lot.is_cut();
        counters.handled.add(lot.finish() as u64);
        if is_cut { Err(Ended::Aborted) } else { Ok(()) }
    }

    /// Reads the clock, if somebody wants to know.
    #[inline]
    fn begin<B: Batched<Event = T>>(&self, batch: &B) -> Option<Began> {
        if self.published.is_none() && self.post.limit.is_none() {
            return None;
        }
        let at = ticks();
        if self.post.limit.is_some() {
            self.post.busy_since.set(at);
        }
        let first = batch.sequences().start;
        let published = (self.published.as_ref())
            .zip(batch.get(0))
            .map(|(published, event)| caught(|| published(event)).unwrap_or(at));
        let published = published.unwrap_or(at);
        let times = self
            .before
            .iter()
            .filter_map(|post| post.counters.times.as_ref());
        let came = times
            .map(|times| times.handed_over(first))
            .fold(published, u64::max);
        Some(Began {
            at,
            published,
            came,
        })
    }

    fn end<B: Batched>(&self, began: Began, lot: &Lot<'_, B>) {
        let now = ticks();
        let Began {
            at,
            published,
            came,
        } = began;
        if let Some(times) = &self.post.counters.times {
            times.hand_over(lot.sequences(), now);
            times.record(published, came, at, now);
        }
        self.was_busy(at, now);
    }

    fn was_busy(&self, from: u64, to: u64) {
        if let Some(limit) = self.post.limit {
            self.post.busy_since.set(0);
            if elapsed(from, to) > limit {
                self.post.counters.slow.add(1);
            }
        }
    }

    /// The handler has failed at an event: does what its policy says, and returns how the stage has ended, if
    /// so.
    #[cold]
    fn failed<B: Batched<Event = T>>(
        &self,
        policy: &mut Policy<T>,
        lot: &mut Lot<'_, B>,
        tries: &mut Tries,
        cause: Cause,
    ) -> Option<Ended> {
        let sequence = lot.sequence_in_hand();
        if tries.at != sequence {
            tries.at = sequence;
            tries.retries = 0;
        }
        let failure = Failure {
            sequence,
            retries: tries.retries,
            rewinds: tries.rewinds,
            ..self.failure(During::Event, cause)
        };
        let verdict = match policy.verdict(&failure) {
            Verdict::Retry { .. } | Verdict::Rewind { .. } if self.control.is_over() => {
                Verdict::Stop // No time for another try.
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Retry { pause } => {
                let _ = caught(|| drop(failure)); // An error may panic when it is dropped.
                tries.retries += 1;
                self.again(pause);
                lot.retry();
                return None;
            }
            Verdict::Rewind { pause } => {
                let _ = caught(|| drop(failure));
                tries.rewinds += 1;
                self.again(pause);
                lot.rewind();
                return None;
            }
            Verdict::Stop | Verdict::Skip | Verdict::Detach => {}
        }
        if let (Some(dead_letters), Some(event)) = (&mut policy.dead_letters, lot.event_in_hand()) {
            let failure = &failure;
            // There is nobody left to hear of a failure of who hears of failures.
            let _ = caught(|| dead_letters(DeadLetter { event, failure }));
        }
        let (handled, failed) = lot.give_up(verdict == Verdict::Skip);
        self.post.counters.handled.add(handled as u64);
        self.post.counters.failed.add(failed as u64);
        self.end_by(verdict, failure)
    }

    /// The handler has failed, and no event is to blame.
    #[cold]
    fn fail(&self, policy: &mut Policy<T>, during: During, cause: Cause) -> Ended {
        let failure = self.failure(during, cause);
        let verdict = match policy.verdict(&failure) {
            Verdict::Detach => Verdict::Detach,
            _ => Verdict::Stop,
        };
        let ended = self.end_by(verdict, failure);
        ended.unwrap_or(Ended::Drained) // Neither of the two goes on.
    }

    /// Keeps the failure, and returns how the stage has ended, if so.
    fn end_by(&self, verdict: Verdict, failure: Failure) -> Option<Ended> {
        let failure = Arc::new(failure);
        self.control.failed(&failure, verdict == Verdict::Stop);
        match verdict {
            Verdict::Stop => Some(Ended::Failed(failure)),
            Verdict::Detach => Some(Ended::Detached(failure)),
            _ => {
                let _ = caught(|| drop(failure)); // As above; it may be one too many to keep.
                None
            }
        }
    }

    fn failure(&self, during: During, cause: Cause) -> Failure {
        Failure {
            stage: self.post.name.clone(),
            sequence: None,
            during,
            cause,
            retries: 0,
            rewinds: 0,
        }
    }

    fn again(&self, pause: Duration) {
        self.post.counters.restarts.add(1);
        self.control.pause(pause);
    }

    /// There is nothing to handle.
    fn idle<I: Inlet<Event = T>, H: Handles<I>>(
        &self,
        inlet: &mut I,
        policy: &mut Policy<T>,
        handler: &mut H,
        is_ending: bool,
    ) -> Result<(), Ended> {
        let mut idle = Idle::new(inlet, is_ending);
        let idled = guarded(|| handler.on_idle(&mut idle));
        idled.map_err(|cause| self.fail(policy, During::Idle, cause))
    }

    /// There will be no more events; but some may be held.
    fn drain<I: Inlet<Event = T>, H: Handles<I>>(
        &self,
        inlet: &mut I,
        policy: &mut Policy<T>,
        handler: &mut H,
        ended: Ended,
    ) -> Result<Never, Ended> {
        const POLL: Duration = Duration::from_millis(1);
        while Holds::held(inlet).next().is_some() {
            self.idle(inlet, policy, handler, true)?;
            if let Some(poisoned) = self.ring.snapshot().poisoned {
                return Err(self.how_poisoned(poisoned));
            }
            match self.control.cause() {
                _ if self.control.owns_ring() => {} // It hears of the poison.
                _ if self.control.is_aborted() => return Err(Ended::Aborted),
                Some(failure) => return Err(Ended::Stopped(failure)),
                None => {}
            }
            if Holds::held(inlet).next().is_some() {
                self.control.pause(self.idle_every.unwrap_or(POLL));
            }
        }
        Err(ended)
    }

    #[cold]
    fn how_poisoned(&self, poisoned: Poisoned) -> Ended {
        match self.control.cause() {
            _ if self.control.is_aborted() => Ended::Aborted,
            Some(failure) if poisoned.reason == FAILED => Ended::Stopped(failure),
            _ => Ended::Poisoned(poisoned),
        }
    }

    /// Makes what the consumer counts known.
    fn count<I: Inlet>(&self, inlet: &I) {
        let counters = &self.post.counters;
        counters.waited(inlet.consumer().waits(), self.looks.get());
        counters.skipped.set(inlet.consumer().skipped());
    }
}

impl<T> Policy<T> {
    fn verdict(&mut self, failure: &Failure) -> Verdict {
        // Who panics when asked wants no more.
        caught(|| (self.decide)(failure)).unwrap_or(Verdict::Stop)
    }
}

/// When a batch began, and what is known of its first event.
struct Began {
    at: u64,
    published: u64,
    came: u64,
}

/// How often an event, and a batch, have been tried again.
#[derive(Default)]
struct Tries {
    at: Option<u64>,
    retries: u32,
    rewinds: u32,
}

/// A consumer of either kind.
pub(crate) trait Inlet: Holds<Self::Event> + Sized + 'static {
    type Event;
    type Batch<'c>: Batched<Event = Self::Event>
    where
        Self: 'c;

    /// Waits for events, until the deadline if there is one.
    fn next_batch(&mut self, deadline: Option<Instant>) -> Result<Self::Batch<'_>, NotReady>;

    fn consumer(&self) -> &Consumer<Self::Event>;

    fn bind_to_this_thread(&mut self);

    /// Leaves the ring, for good or with its place held for the next of its name.
    fn leave(self, is_held: bool);
}

impl<T: 'static> Inlet for Consumer<T> {
    type Event = T;
    type Batch<'c> = Batch<'c, T>;

    #[inline]
    fn next_batch(&mut self, deadline: Option<Instant>) -> Result<Batch<'_, T>, NotReady> {
        match deadline {
            Some(deadline) => self.next_batch_deadline(deadline),
            None => Consumer::next_batch(self).map_err(NotReady::from),
        }
    }

    fn consumer(&self) -> &Consumer<T> {
        self
    }

    fn bind_to_this_thread(&mut self) {
        Consumer::bind_to_this_thread(self);
    }

    fn leave(self, is_held: bool) {
        if is_held {
            self.leave_held();
        } else {
            Consumer::leave(self);
        }
    }
}

impl<T: 'static> Inlet for MutableConsumer<T> {
    type Event = T;
    type Batch<'c> = MutableBatch<'c, T>;

    #[inline]
    fn next_batch(&mut self, deadline: Option<Instant>) -> Result<MutableBatch<'_, T>, NotReady> {
        match deadline {
            Some(deadline) => self.next_batch_mut_deadline(deadline),
            None => self.next_batch_mut().map_err(NotReady::from),
        }
    }

    fn consumer(&self) -> &Consumer<T> {
        self
    }

    fn bind_to_this_thread(&mut self) {
        MutableConsumer::bind_to_this_thread(self);
    }

    fn leave(self, is_held: bool) {
        if is_held {
            self.leave_held();
        } else {
            MutableConsumer::leave(self);
        }
    }
}

/// A handler of either kind.
pub(crate) trait Handles<I: Inlet> {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError>;
    fn on_batch<'c>(&mut self, lot: &mut Lot<'c, I::Batch<'c>>) -> Result<(), HandlerError>;
    fn on_idle(&mut self, idle: &mut Idle<'_, I::Event>) -> Result<(), HandlerError>;
    fn on_stop(&mut self) -> Result<(), HandlerError>;
}

/// One that reads, and one that changes events.
pub(crate) struct Reads<H>(Seat<H>);
pub(crate) struct Changes<H>(Seat<H>);

impl<H> Reads<H> {
    pub(crate) fn by(handler: H) -> Self {
        Self(Seat(Some(handler)))
    }
}

impl<H> Changes<H> {
    pub(crate) fn by(handler: H) -> Self {
        Self(Seat(Some(handler)))
    }
}

/// Where a handler is between batches.
///
/// For a batch it moves into the function that calls it, and back when that ends or unwinds. A handler behind a
/// reference, which somebody may look at after a panic, has to be stored after each event; what lives in a function
/// the compiler keeps in registers.
pub(crate) struct Seat<H>(Option<H>);

impl<H> Seat<H> {
    /// In bytes: moving more takes longer than it saves.
    const SMALL: usize = 512;

    fn handler(&mut self) -> &mut H {
        self.0.as_mut().expect("it comes back")
    }

    #[inline]
    fn lend<R>(&mut self, call: impl FnOnce(&mut H) -> R) -> R {
        if size_of::<H>() > Self::SMALL {
            return call(self.handler());
        }
        let mut loan = Loan {
            handler: self.0.take(),
            home: &mut self.0,
        };
        call(loan.handler.as_mut().expect("it comes back"))
    }
}

struct Loan<'s, H> {
    handler: Option<H>,
    home: &'s mut Option<H>,
}

impl<H> Drop for Loan<'_, H> {
    #[inline]
    fn drop(&mut self) {
        *self.home = self.handler.take();
    }
}

impl<T: 'static, H: Handler<T>> Handles<Consumer<T>> for Reads<H> {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        self.0.handler().on_start(stage)
    }

    #[inline(never)] // Its own function, for the compiler to know what is apart from what.
    fn on_batch<'c>(&mut self, lot: &mut Lot<'c, Batch<'c, T>>) -> Result<(), HandlerError> {
        self.0.lend(|handler| handler.on_batch(lot))
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, T>) -> Result<(), HandlerError> {
        self.0.handler().on_idle(idle)
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.0.handler().on_stop()
    }
}

impl<T: 'static, H: HandlerMut<T>> Handles<MutableConsumer<T>> for Changes<H> {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        self.0.handler().on_start(stage)
    }

    #[inline(never)] // As above.
    fn on_batch<'c>(&mut self, lot: &mut Lot<'c, MutableBatch<'c, T>>) -> Result<(), HandlerError> {
        self.0.lend(|handler| handler.on_batch(lot))
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, T>) -> Result<(), HandlerError> {
        self.0.handler().on_idle(idle)
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.0.handler().on_stop()
    }
}

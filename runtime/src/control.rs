//! What the threads of a pipeline share: who has ended and how, what failed, and whether it is aborted.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use annulus_ring::{Poisoned, Sequence, Unusable};

use crate::failure::Failure;
use crate::metrics::{Counter, Counters};

/// The reason of a poison after a failure; of one after an abort.
pub(crate) const FAILED: u32 = Poisoned::PIPELINE_FAILED;
pub(crate) const ABORTED: u32 = Poisoned::PIPELINE_ABORTED;

/// How many failures are kept.
pub(crate) const MOST_FAILURES: usize = 64;

#[derive(Debug)]
pub(crate) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    aborted: AtomicBool,
    /// Up to where stages handle events before they leave a ring that they leave to others; the greatest if they stay.
    leave_at: AtomicU64,
    /// Whether the ring ends with the pipeline, which then closes or poisons it.
    owns_ring: AtomicBool,
    pub(crate) stages: Vec<Arc<Post>>,
}

/// What is known of a stage from outside.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) name: String,
    /// The first event that is for it.
    pub(crate) start: Sequence,
    /// Whether it goes on in the place of one that had died, or left it held.
    pub(crate) has_resumed: bool,
    pub(crate) counters: Counters,
    /// How long it may take for a batch.
    pub(crate) limit: Option<Duration>,
    /// When it began the batch at hand, in ticks; 0 if it has none. Only if there is a limit.
    pub(crate) busy_since: Counter,
    /// The row, plus one, of a dead consumer before it whose successor it has waited for long enough; 0 is none.
    pub(crate) held_up_by: Counter,
    /// The first sequence that it has not come to, once it has left.
    pub(crate) left_at: Counter,
    /// How far the ring was published when it left one that goes on without it, and whether its place is held there.
    pub(crate) departure: OnceLock<Departure>,
}

/// How a stage left a ring that goes on without it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    /// How far the ring was published.
    pub(crate) published: Sequence,
    /// Whether its place is held for the next of its name.
    pub(crate) is_held: bool,
}

impl Post {
    /// The first sequence that it has not come to.
    pub(crate) fn next(&self) -> Sequence {
        let Counters {
            handled,
            skipped,
            failed,
            ..
        } = &self.counters;
        let done = handled.get() + skipped.get() + failed.get();
        self.left_at.get().max(self.start + done)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Whether the stages are to begin, or to go home, as one of them has no thread.
    begin: Option<bool>,
    /// How each stage has ended, and on which thread it runs.
    ended: Vec<Option<Ended>>,
    /// Which stages take no more events, though they may not have left yet, and whether they are short.
    done: Vec<Option<bool>>,
    /// Whether stages that leave are to leave their places held.
    keeps_places: bool,
    threads: Vec<Option<ThreadId>>,
    ran_on: Vec<Option<usize>>,
    refused_pin: Vec<bool>,
    failures: Vec<Arc<Failure>>,
    more_failures: u64,
    /// The failure that stopped it.
    cause: Option<Arc<Failure>>,
}

/// How a stage has ended.
///
/// # Examples
/// See [`Report`](crate::Report).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ended {
    /// The ring was closed, and everything has been handled.
    Drained,
    /// The pipeline was told to leave the ring to others, and this stage had handled what was published until then.
    Left,
    /// The pipeline was aborted.
    Aborted,
    /// It failed, and that stopped the pipeline.
    Failed(Arc<Failure>),
    /// It failed, and the others went on.
    Detached(Arc<Failure>),
    /// Another stage failed, and that stopped the pipeline.
    Stopped(Arc<Failure>),
    /// Somebody poisoned the ring.
    Poisoned(Poisoned),
    /// Nothing can be done with the ring, which other processes share.
    Unusable(Unusable),
    /// It has not: its handler was still busy. If the pipeline was to end, it is left to itself.
    Overdue,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("drained"),
            Self::Left => f.write_str("left the ring"),
            Self::Aborted => f.write_str("aborted"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Detached(failure) => write!(f, "detached: {failure}"),
            Self::Stopped(failure) => write!(f, "stopped, because {failure}"),
            Self::Poisoned(poisoned) => poisoned.fmt(f),
            Self::Unusable(cause) => cause.fmt(f),
            Self::Overdue => f.write_str("has not returned"),
        }
    }
}

/// As its text.
#[cfg(feature = "serde")]
impl serde::Serialize for Ended {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Control {
    pub(crate) fn new(stages: Vec<Arc<Post>>, owns_ring: bool) -> Self {
        let n = stages.len();
        Self {
            state: Mutex::new(State {
                ended: vec![None; n],
                done: vec![None; n],
                threads: vec![None; n],
                ran_on: vec![None; n],
                refused_pin: vec![false; n],
                ..State::default()
            }),
            changed: Condvar::new(),
            aborted: AtomicBool::new(false),
            leave_at: AtomicU64::new(u64::MAX),
            owns_ring: AtomicBool::new(owns_ring),
            stages,
        }
    }

    /// Whether the ring ends with the pipeline.
    pub(crate) fn owns_ring(&self) -> bool {
        // RELAXED: what else there is to know stands under the lock.
        self.owns_ring.load(Ordering::Relaxed)
    }

    /// Up to where stages are to handle events before they leave the ring to others, if they are.
    #[inline]
    pub(crate) fn leave_at(&self) -> Option<Sequence> {
        // RELAXED: as above.
        let at = self.leave_at.load(Ordering::Relaxed);
        (at != u64::MAX).then_some(at)
    }

    /// Has the stages leave, when they have handled what lies below; they may leave their places held. From now on
    /// the ring is not the pipeline's.
    pub(crate) fn leave(&self, at: Sequence, keeps_places: bool) {
        let mut state = self.lock();
        state.keeps_places |= keeps_places;
        // RELAXED: as above.
        self.owns_ring.store(false, Ordering::Relaxed);
        // RELAXED: as above.
        self.leave_at.fetch_min(at, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn keeps_places(&self) -> bool {
        self.lock().keeps_places
    }

    /// A stage takes no more events; whether it goes before it has handled what it was to, or leaves its place to the
    /// next of its name for another reason.
    pub(crate) fn is_done(&self, stage: usize, is_short: bool) {
        self.lock().done[stage] = Some(is_short);
        self.changed.notify_all();
    }

    /// Waits until no stage takes events any more: one that leaves sooner lets those behind it go past where it has got.
    /// Returns whether one of them is short: then all leave their places, as one that is held comes after others
    /// only as long as they are held, too. Of an aborted pipeline a handler may never return.
    pub(crate) fn wait_until_all_are_done(&self) -> bool {
        const GRACE: Duration = Duration::from_millis(500);
        let is_busy = |state: &mut State| state.done.contains(&None);
        self.wait_while(None, |state| !self.is_aborted() && is_busy(state));
        self.wait_while(Instant::now().checked_add(GRACE), is_busy);
        self.lock().done.iter().any(|done| *done != Some(false))
    }

    /// The stages of these names.
    pub(crate) fn posts_named(&self, names: &[String]) -> Vec<Arc<Post>> {
        let posts = self.stages.iter().filter(|post| names.contains(&post.name));
        posts.cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of the user's runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn aborted(&self) -> &AtomicBool {
        &self.aborted
    }

    pub(crate) fn is_aborted(&self) -> bool {
        // RELAXED: what else there is to know stands under the lock.
        self.aborted.load(Ordering::Relaxed)
    }

    pub(crate) fn abort(&self) {
        let state = self.lock();
        // RELAXED: as above.
        self.aborted.store(true, Ordering::Relaxed);
        if !self.owns_ring() {
            // RELAXED: as above. Of a ring of its own stages hear by its poison.
            self.leave_at.store(0, Ordering::Relaxed);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether there is a thread for each stage, which are to begin, or not.
    pub(crate) fn begin(&self, is_complete: bool) {
        self.lock().begin = Some(is_complete);
        self.changed.notify_all();
    }

    /// Waits to be told.
    pub(crate) fn is_to_begin(&self) -> bool {
        self.wait_while(None, |state| state.begin.is_none());
        self.lock().begin == Some(true)
    }

    pub(crate) fn runs_here(&self, stage: usize, pinned: Option<bool>) {
        let mut state = self.lock();
        state.threads[stage] = Some(thread::current().id());
        state.refused_pin[stage] = pinned == Some(false);
    }

    pub(crate) fn ran_on(&self, stage: usize, core: Option<usize>) {
        self.lock().ran_on[stage] = core;
    }

    pub(crate) fn where_it_ran(&self, stage: usize) -> (Option<usize>, bool) {
        let state = self.lock();
        (state.ran_on[stage], state.refused_pin[stage])
    }

    /// A stage is done, and will not touch anything any more.
    pub(crate) fn ended(&self, stage: usize, how: Ended) {
        self.lock().ended[stage] = Some(how);
        self.changed.notify_all();
    }

    pub(crate) fn how_ended(&self, stage: usize) -> Option<Ended> {
        self.lock().ended[stage].clone()
    }

    pub(crate) fn all_ended(&self) -> bool {
        self.lock().ended.iter().all(Option::is_some)
    }

    /// Keeps a failure for the report. The first that stops the pipeline is what producers hear.
    pub(crate) fn failed(&self, failure: &Arc<Failure>, stops: bool) {
        let mut state = self.lock();
        if state.failures.len() < MOST_FAILURES {
            state.failures.push(failure.clone());
        } else {
            state.more_failures += 1;
        }
        if stops && state.cause.is_none() {
            state.cause = Some(failure.clone());
            drop(state);
            self.changed.notify_all();
        }
    }

    pub(crate) fn failures(&self) -> (Vec<Arc<Failure>>, u64) {
        let state = self.lock();
        (state.failures.clone(), state.more_failures)
    }

    pub(crate) fn cause(&self) -> Option<Arc<Failure>> {
        self.lock().cause.clone()
    }

    /// Waits until all stages have ended; false at the deadline. On the thread of a stage it does not wait: that
    /// one cannot end before it returns, nor perhaps those that wait for it.
    pub(crate) fn wait_for_all(&self, deadline: Option<Instant>) -> bool {
        let me = thread::current().id();
        let is_mine = self.lock().threads.contains(&Some(me));
        is_mine || self.wait_while(deadline, |state| state.ended.iter().any(Option::is_none))
    }

    /// Whether it is aborted, or a failure has stopped it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_aborted() || self.cause().is_some()
    }

    /// Waits so long, or less if the pipeline is aborted, or stopped by a failure.
    pub(crate) fn pause(&self, pause: Duration) {
        if !pause.is_zero() {
            let deadline = Instant::now().checked_add(pause);
            self.wait_while(deadline, |state| {
                !self.is_aborted() && state.cause.is_none()
            });
        }
    }

    /// Waits so long, or less if all stages have ended; then there is nobody to look after.
    pub(crate) fn pause_while_running(&self, pause: Duration) -> bool {
        let deadline = Instant::now().checked_add(pause);
        !self.wait_while(deadline, |state| state.ended.iter().any(Option::is_none))
    }

    /// Returns false at the deadline.
    fn wait_while(
        &self,
        deadline: Option<Instant>,
        mut condition: impl FnMut(&mut State) -> bool,
    ) -> bool {
        let mut state = self.lock();
        while condition(&mut state) {
            state = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => (self.changed.wait(state)).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }
}

//! How a thread of a model dies, and how the others come to know.

#![allow(dead_code, reason = "not every file of models needs all of it")]

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use annulus_ring::{Liveness, Step, at_each_step};
use loom::sync::atomic::AtomicBool;
use loom::sync::{Condvar, Mutex, MutexGuard};

/// A thread that is to die.
///
/// What dies stops for ever where it is: [`Mortal::stop`] keeps its stack, so that nothing is dropped, until
/// the model is over. Where it holds the lock of the member table it [unwinds](Mortal::unwind), which unlocks,
/// as the end of a process does.
pub(crate) struct Mortal {
    /// The row of the member that dies with it.
    row: usize,
    dead: AtomicBool,
    /// Whether somebody has the proof.
    proven: AtomicBool,
    /// As `dead`, to wait for.
    seen: Mutex<bool>,
    died: Condvar,
    over: Mutex<()>,
}

impl Mortal {
    pub(crate) fn new(row: usize) -> Arc<Self> {
        Arc::new(Self {
            row,
            dead: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            seen: Mutex::new(false),
            died: Condvar::new(),
            over: Mutex::new(()),
        })
    }

    /// To be kept, and then dropped when everything has been asserted: until then the dead stay where they are.
    pub(crate) fn until_over(&self) -> MutexGuard<'_, ()> {
        self.over.lock().unwrap()
    }

    /// This thread stops when it reaches this step for the `nth` time, from 0 on.
    pub(crate) fn stops_at(self: &Arc<Self>, step: Step, nth: usize) {
        let this = Arc::clone(self);
        at_each_step(nth_time(step, nth, move || this.stop()));
    }

    /// This thread ends when it reaches this step.
    pub(crate) fn ends_at(self: &Arc<Self>, step: Step) {
        let this = Arc::clone(self);
        at_each_step(nth_time(step, 0, move || this.unwind()));
    }

    /// Dies here. Returns when all is over: what the dead do then changes nothing.
    pub(crate) fn stop(&self) {
        self.die();
        drop(self.over.lock());
    }

    /// Dies here, and lets go of what it has locked.
    pub(crate) fn unwind(&self) {
        self.die();
        resume_unwind(Box::new("died"));
    }

    pub(crate) fn die(&self) {
        // All that it has done is visible to whoever has the proof.
        self.dead.store(true, Release);
        *self.seen.lock().unwrap() = true;
        self.died.notify_all();
    }

    pub(crate) fn wait_for_death(&self) {
        let mut seen = self.seen.lock().unwrap();
        while !*seen {
            seen = self.died.wait(seen).unwrap();
        }
    }
}

fn nth_time(step: Step, nth: usize, act: impl Fn()) -> impl Fn(Step) {
    let times = std::cell::Cell::new(0);
    move |reached| {
        if reached == step {
            times.set(times.get() + 1);
            if times.get() == nth + 1 {
                act();
            }
        }
    }
}

/// Knows who has died. Nobody else ever dies.
#[derive(Clone)]
pub(crate) struct Deaths(pub(crate) Vec<Arc<Mortal>>);

// SAFETY: a mortal that is dead stays where it is until all has been asserted; by `dead` all that it did is visible.
unsafe impl Liveness for Deaths {
    type Proof = Proof;

    fn prove_dead(&self, row: usize) -> Option<Proof> {
        let mortal = self.0.iter().find(|mortal| mortal.row == row)?;
        if !mortal.dead.load(Acquire) || mortal.proven.swap(true, Acquire) {
            return None;
        }
        Some(Proof(Arc::clone(mortal)))
    }
}

/// That a member is dead; only one has it at a time.
pub(crate) struct Proof(Arc<Mortal>);

impl Drop for Proof {
    fn drop(&mut self) {
        self.0.proven.store(false, Release);
    }
}

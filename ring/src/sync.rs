//! The one file that names atomics, cells, locks and hints: the standard library's, or loom's.
//!
//! Keyed on `cfg(loom)` alone, so that a model in another crate runs the shipped types. Nothing here
//! is weaker or different under loom: an event is reached only through [`EventCell::with`] and
//! [`EventCell::with_mut`], which loom checks for races and which cost nothing otherwise.

#[cfg(not(loom))]
mod platform {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::AtomicU64;
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use std::thread::{sleep, yield_now};

    pub(crate) use crossbeam_utils::Backoff;

    use std::cell::UnsafeCell;

    /// Says how often a wait has paused, to a model that does not explore it for ever.
    #[inline]
    pub(crate) fn explored_pause(_pauses: u32) {}

    /// The place of one event.
    #[repr(transparent)]
    pub(crate) struct EventCell<T>(UnsafeCell<T>);

    impl<T> EventCell<T> {
        pub(crate) fn new(event: T) -> Self {
            Self(UnsafeCell::new(event))
        }

        #[inline]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod platform {
    pub(crate) use loom::cell::UnsafeCell as EventCell;
    pub(crate) use loom::sync::atomic::AtomicU64;
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use loom::thread::yield_now;

    /// Waits longer than this are not explored further: two threads that poll can do so for ever, in
    /// ever new orders. The execution at hand still runs to its end.
    const MOST_PAUSES: u32 = 3;

    /// Bounds the exploration of a wait that has paused `pauses` times.
    pub(crate) fn explored_pause(pauses: u32) {
        if pauses == MOST_PAUSES {
            loom::skip_branch();
        }
    }

    /// Every way to wait is the same to a model: let the others run.
    pub(crate) fn spin_loop() {
        yield_now();
    }

    pub(crate) fn sleep(_: std::time::Duration) {
        yield_now();
    }

    pub(crate) struct Backoff;

    impl Backoff {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn snooze(&self) {
            yield_now();
        }
    }
}

pub(crate) use platform::*;
pub(crate) use std::sync::PoisonError;
pub(crate) use std::sync::atomic::Ordering;

//! The one file that names atomics, cells, locks, hints and futexes: the platform's, or loom's.
//!
//! Keyed on `cfg(loom)` alone, so that a model in another crate runs the shipped types. Nothing here
//! is weaker or different under loom: an event is reached only through [`EventCell::with`] and
//! [`EventCell::with_mut`], which loom checks for races and which cost nothing otherwise.

#[cfg(not(loom))]
mod platform {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use std::thread::{panicking, sleep, yield_now};

    /// Locks it if no other thread has it locked, also if one has panicked with it.
    pub(crate) fn try_lock<X>(mutex: &Mutex<X>) -> Option<MutexGuard<'_, X>> {
        match mutex.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Sleeps where nobody can wake: for a short time.
    pub(crate) fn nap(at_most: Option<Duration>) {
        sleep(at_most.map_or(LONGEST_NAP, |time| time.min(LONGEST_NAP)));
    }

    const LONGEST_NAP: Duration = Duration::from_millis(1);

    thread_local! {
        static BOUND: RefCell<Vec<WeakByAll<Bound>>> = const { RefCell::new(Vec::new()) };
    }

    /// The consumers that are bound to this thread, unless it is about to end.
    pub(crate) fn with_bound_here<R>(
        look: impl FnOnce(&mut Vec<WeakByAll<Bound>>) -> R,
    ) -> Option<R> {
        BOUND.try_with(|bound| look(&mut bound.borrow_mut())).ok()
    }

    #[cfg(any(miri, not(target_os = "linux")))]
    pub(crate) use super::portable::{Futex, membarrier};
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) use linux::{Futex, membarrier};
    pub(crate) use std::sync::atomic::compiler_fence;

    pub(crate) use crossbeam_utils::Backoff;

    use std::cell::{RefCell, UnsafeCell};
    use std::mem::MaybeUninit;
    use std::ptr::{self, NonNull};
    use std::sync::TryLockError;
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::time::Duration;

    use zerocopy::{FromBytes, IntoBytes};

    use super::{Observed, WeakByAll};
    use crate::bound::Bound;

    /// Says how often a wait has paused, to a model that does not explore it for ever.
    #[inline]
    pub(crate) fn explored_pause(_pauses: u32) {}

    /// The place of one event.
    #[repr(transparent)]
    pub(crate) struct EventCell<T>(UnsafeCell<T>);

    impl<T> EventCell<T> {
        /// Makes an event there: it can be too large to be moved about.
        ///
        /// # Safety
        /// 1. There is room for it, aligned, and nobody else uses it yet.
        pub(crate) unsafe fn make(at: NonNull<Self>, event: impl FnOnce() -> T) {
            // SAFETY: the caller's promise; a cell is what is in it.
            unsafe { ptr::write(at.as_ptr().cast(), event()) };
        }

        /// For an observer, which may look while somebody writes.
        #[inline]
        pub(crate) fn to_observe(&self) -> Observed<T> {
            Observed(self.0.get())
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

    /// Events that an [observer](crate::Observer) can copy while they may be written: valid whatever
    /// their bits are, and without padding.
    ///
    /// Every type that has zerocopy's `FromBytes` and `IntoBytes` has it: derive them with the crate
    /// `zerocopy` 0.8, and its feature `derive`.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Observable, Observer, Ring};
    /// /// Works for every type of event that can be copied so.
    /// fn latest<T: Observable>(tap: &mut Observer<T>) -> Option<T> {
    ///     std::iter::from_fn(|| tap.try_next().ok()).last().map(|(_, event)| event)
    /// }
    ///
    /// let ring = Ring::builder(8).observable().build(<[u64; 2]>::default)?;
    /// let mut tap = ring.observer()?;
    /// # let mut feed = ring.producer()?;
    /// feed.publish_value([585, 18])?;
    /// feed.publish_value([586, 100])?;
    /// assert_eq!(latest(&mut tap), Some([586, 100]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub trait Observable: FromBytes + IntoBytes + Sized {
        #[doc(hidden)]
        fn copy_from(event: Observed<Self>) -> Self;

        #[doc(hidden)]
        fn copy_into(event: Observed<Self>, copy: &mut Self);
    }

    impl<T: FromBytes + IntoBytes> Observable for T {
        #[inline]
        fn copy_from(event: Observed<T>) -> T {
            let mut copy = MaybeUninit::uninit();
            // SAFETY: there is room.
            unsafe { event.copy_to(copy.as_mut_ptr()) };
            // SAFETY: every byte was written, and any value of them is a `T`.
            unsafe { copy.assume_init() }
        }

        #[inline]
        fn copy_into(event: Observed<T>, copy: &mut T) {
            // SAFETY: there is room; any value of the bytes is a `T`.
            unsafe { event.copy_to(copy) };
        }
    }

    impl<T> Observed<T> {
        /// Writes each byte there.
        ///
        /// # Safety
        /// 1. There is room for a `T`.
        #[inline]
        unsafe fn copy_to(self, copy: *mut T) {
            let (from, to) = (self.0.cast::<u8>(), copy.cast::<u8>());
            let mut done = 0;
            while done < size_of::<T>() {
                // SAFETY: inside the event.
                let source = unsafe { from.add(done) };
                // SAFETY: inside the copy.
                let target = unsafe { to.add(done) };
                if source.addr() % 8 == 0 && size_of::<T>() - done >= 8 {
                    // SAFETY: 8 bytes of a slot, which is alive, and aligned.
                    let word = unsafe { &*source.cast::<AtomicU64>() }.load(Ordering::Relaxed);
                    // SAFETY: 8 bytes of the copy.
                    unsafe { target.cast::<u64>().write_unaligned(word) };
                    done += 8;
                } else {
                    // SAFETY: a byte of a slot, which is alive.
                    let byte = unsafe { &*source.cast::<AtomicU8>() }.load(Ordering::Relaxed);
                    // SAFETY: a byte of the copy.
                    unsafe { target.write(byte) };
                    done += 1;
                }
            }
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    mod linux {
        use std::sync::atomic::AtomicU32;
        use std::time::Duration;

        use rustix::io::Errno;
        use rustix::thread::futex::{
            self, Flags, Timespec, Wait as Word, WaitFlags, WaitPtr, WaitvFlags,
        };
        use rustix::thread::{MembarrierCommand, membarrier as system_membarrier};
        use rustix::time::{ClockId, clock_gettime};

        /// A word on which threads sleep until it is changed and they are woken.
        #[repr(transparent)]
        pub(crate) struct Futex(AtomicU32);

        impl Futex {
            pub(crate) fn new() -> Self {
                Self(AtomicU32::new(0))
            }

            #[inline]
            pub(crate) fn word(&self) -> &AtomicU32 {
                &self.0
            }

            /// Sleeps if the word still is `expected`, until it is woken, or for no reason, or for
            /// `at_most` so long.
            pub(crate) fn sleep(&self, expected: u32, at_most: Option<Duration>) {
                let at_most = at_most.and_then(|time| Timespec::try_from(time).ok());
                // Not private: whoever wakes may be in another process. Whatever ends the sleep, an error
                // too: the caller looks again.
                let _ = futex::wait(&self.0, Flags::empty(), expected, at_most.as_ref());
            }

            /// Sleeps if each word still is what is expected of it, until one of them is woken, or for
            /// no reason, or for `at_most` so long.
            pub(crate) fn sleep_on_any(futexes: &[(&Self, u32)], at_most: Option<Duration>) {
                let words: Vec<Word> = (futexes.iter())
                    .map(|(futex, expected)| {
                        let mut word = Word::new();
                        word.val = u64::from(*expected);
                        word.uaddr = WaitPtr::new(futex.0.as_ptr().cast());
                        word.flags = WaitFlags::SIZE_U32;
                        word
                    })
                    .collect();
                let until = at_most.and_then(|time| {
                    clock_gettime(ClockId::Monotonic).checked_add(Timespec::try_from(time).ok()?)
                });
                let none = WaitvFlags::empty();
                let slept = futex::waitv(&words, none, until.as_ref(), ClockId::Monotonic);
                if slept.is_err_and(|error| !CHANGED_OR_OVER.contains(&error)) {
                    super::nap(at_most); // A kernel without this call, or too many words for it.
                }
            }

            pub(crate) fn wake_all(&self) {
                // It fails for a bad address only.
                let _ = futex::wake(&self.0, Flags::empty(), i32::MAX as u32);
            }
        }

        /// Asks the kernel; says whether it has done it.
        pub(crate) fn membarrier(what: super::super::Membarrier) -> bool {
            use super::super::Membarrier;
            let command = match what {
                Membarrier::RegisterThreads => MembarrierCommand::RegisterPrivateExpedited,
                Membarrier::RegisterProcess => MembarrierCommand::RegisterGlobalExpedited,
                Membarrier::Threads => MembarrierCommand::PrivateExpedited,
                Membarrier::Processes => MembarrierCommand::GlobalExpedited,
            };
            system_membarrier(command).is_ok()
        }

        /// A word has changed, the time is over, or a signal came.
        const CHANGED_OR_OVER: [Errno; 3] = [Errno::AGAIN, Errno::TIMEDOUT, Errno::INTR];
    }
}

#[cfg(loom)]
mod platform {
    pub(crate) use super::portable::{Futex, membarrier};
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence, fence as compiler_fence};
    pub(crate) use loom::thread::yield_now;

    use std::ops::{Deref, DerefMut};
    use std::ptr::NonNull;
    use std::sync::LockResult;

    use loom::cell::UnsafeCell;

    use super::Observed;

    /// The place of one event, and who accesses it.
    pub(crate) struct EventCell<T> {
        access: UnsafeCell<()>,
        event: std::cell::UnsafeCell<T>,
    }

    impl<T> EventCell<T> {
        /// Makes an event there.
        ///
        /// # Safety
        /// 1. There is room for it, aligned, and nobody else uses it yet.
        pub(crate) unsafe fn make(at: NonNull<Self>, event: impl FnOnce() -> T) {
            let cell = Self {
                access: UnsafeCell::new(()),
                event: std::cell::UnsafeCell::new(event()),
            };
            // SAFETY: the caller's promise.
            unsafe { at.write(cell) };
        }

        /// For an observer, which may look while somebody writes; what it looks at is then made of atomics.
        pub(crate) fn to_observe(&self) -> Observed<T> {
            Observed(self.event.get())
        }

        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            self.access.with(|_| f(self.event.get()))
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            self.access.with_mut(|_| f(self.event.get()))
        }
    }

    /// A lock that a thread which panics, being a model of one that dies, lets go of: loom's own would make
    /// who locks it next panic.
    pub(crate) struct Mutex<T> {
        state: loom::sync::Mutex<Lock>,
        freed: loom::sync::Condvar,
        value: std::cell::UnsafeCell<T>,
    }

    #[derive(Default)]
    struct Lock {
        locked: bool,
        waiting: usize,
    }

    // SAFETY: as that of the standard library: the lock hands the value from one thread to the next.
    unsafe impl<T: Send> Send for Mutex<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for Mutex<T> {}

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self {
                state: loom::sync::Mutex::new(Lock::default()),
                freed: loom::sync::Condvar::new(),
                value: std::cell::UnsafeCell::new(value),
            }
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let mut state = self.state.lock().unwrap();
            while state.locked {
                state.waiting += 1;
                state = self.freed.wait(state).unwrap();
                state.waiting -= 1;
            }
            state.locked = true;
            Ok(MutexGuard(self))
        }
    }

    pub(crate) fn try_lock<X>(mutex: &Mutex<X>) -> Option<MutexGuard<'_, X>> {
        let mut state = mutex.state.lock().unwrap();
        if state.locked {
            return None;
        }
        state.locked = true;
        Some(MutexGuard(mutex))
    }

    pub(crate) struct MutexGuard<'m, T>(&'m Mutex<T>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            // SAFETY: who has the guard has locked the mutex.
            unsafe { &*self.0.value.get() }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: as in `deref`.
            unsafe { &mut *self.0.value.get() }
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            let mut state = self.0.state.lock().unwrap();
            state.locked = false;
            if state.waiting > 0 {
                self.0.freed.notify_one();
            }
        }
    }

    /// Events that an observer can copy while they may be written: to a model, those made of atomics.
    pub trait Observable: Sized {
        /// Copies each atomic, relaxed.
        fn copy(&self) -> Self;

        #[doc(hidden)]
        fn copy_from(Observed(event): Observed<Self>) -> Self {
            // SAFETY: the event of a slot, which is alive; it is only ever changed through `&self`.
            unsafe { &*event }.copy()
        }

        #[doc(hidden)]
        fn copy_into(event: Observed<Self>, copy: &mut Self) {
            *copy = Self::copy_from(event);
        }
    }

    /// Waits longer than this are not explored further: two threads that poll can do so for ever, in
    /// ever new orders. The execution at hand still runs to its end.
    const MOST_PAUSES: u32 = 3;

    /// Bounds the exploration of a wait that has paused `pauses` times.
    pub(crate) fn explored_pause(pauses: u32) {
        if pauses == MOST_PAUSES {
            loom::skip_branch();
        }
    }

    /// To a model: the threads of one are coroutines, and unwind on one stack.
    pub(crate) fn panicking() -> bool {
        false
    }

    /// Every way to wait is the same to a model: let the others run.
    pub(crate) fn spin_loop() {
        yield_now();
    }

    pub(crate) fn sleep(_: std::time::Duration) {
        yield_now();
    }

    pub(crate) fn nap(_: Option<std::time::Duration>) {
        yield_now();
    }

    /// To a model no consumer is bound: its threads are not those of the platform.
    pub(crate) fn with_bound_here<R>(
        _: impl FnOnce(&mut Vec<super::WeakByAll<crate::bound::Bound>>) -> R,
    ) -> Option<R> {
        None
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

/// An event that may be written while it is looked at; only this module looks.
pub struct Observed<T>(*const T);

/// Two fences between which there is an order, as between any two that are sequentially consistent: a light one for
/// those who store and look whether somebody sleeps, often, and a heavy one for who goes to sleep.
///
/// Where the kernel can put a fence into every thread that runs (Linux: `membarrier(2)`, "expedited"), the heavy one has it
/// do so, and the light one is nothing but an order for the compiler: whatever a thread does lies before or
/// behind the fence it was given, so either its look sees who sleeps, or the sleeper's last look sees its store. Elsewhere, and
/// to loom, both are fences: the light one has a model of its own, `r5_fence`. (The idea is that of Dice, Huang and Yang, "Asymmetric Dekker Synchronization", 2001.)
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fences {
    /// Whether the light one may be none to the processor: the kernel knows of this process.
    is_light: bool,
    /// Whether the heavy one has to reach the threads of this process.
    threads: bool,
    /// Whether it has to reach those of others.
    processes: bool,
}

/// What the kernel is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Membarrier {
    RegisterThreads,
    RegisterProcess,
    Threads,
    Processes,
}

impl Fences {
    /// Those of the threads of this process.
    pub(crate) fn among_threads() -> Self {
        let is_light = membarrier(Membarrier::RegisterThreads);
        Self {
            is_light,
            threads: is_light,
            processes: false,
        }
    }

    /// Those of processes, of which others may go by light ones even if this one cannot.
    pub(crate) fn among_processes() -> Self {
        Self {
            is_light: membarrier(Membarrier::RegisterProcess),
            threads: false,
            processes: cfg!(all(target_os = "linux", not(any(loom, miri)))),
        }
    }

    /// Those of who waits for several.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            is_light: self.is_light && other.is_light,
            threads: self.threads || other.threads,
            processes: self.processes || other.processes,
        }
    }

    #[inline]
    pub(crate) fn light(self, ordering: Ordering) {
        if self.is_light {
            compiler_fence(ordering);
        } else {
            fence(ordering);
        }
    }

    /// Returns whether everybody's light one was reached.
    pub(crate) fn heavy(self, ordering: Ordering) -> bool {
        fence(ordering);
        (!self.threads || membarrier(Membarrier::Threads))
            && (!self.processes || membarrier(Membarrier::Processes))
    }
}

/// The futex of platforms that have none, of models, and of Miri, which knows no system call that is made past libc: a
/// mutex and a condition variable.
#[cfg(any(loom, miri, not(target_os = "linux")))]
mod portable {
    /// There is nobody to ask.
    pub(crate) fn membarrier(_: super::Membarrier) -> bool {
        false
    }

    use std::sync::PoisonError;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    #[cfg(loom)]
    use loom::sync::{Condvar, Mutex, atomic::AtomicU32};
    #[cfg(not(loom))]
    use std::sync::{Condvar, Mutex, atomic::AtomicU32};

    /// A word on which threads sleep until it is changed and they are woken.
    pub(crate) struct Futex {
        word: AtomicU32,
        lock: Mutex<()>,
        woken: Condvar,
    }

    impl Futex {
        pub(crate) fn new() -> Self {
            Self {
                word: AtomicU32::new(0),
                lock: Mutex::new(()),
                woken: Condvar::new(),
            }
        }

        #[inline]
        pub(crate) fn word(&self) -> &AtomicU32 {
            &self.word
        }

        /// Sleeps if the word still is `expected`, until it is woken, or for no reason, or for
        /// `at_most` so long. To a model a sleep with a bound is one that is over at once; one that is
        /// woken before its time is a sleep without a bound.
        pub(crate) fn sleep(&self, expected: u32, at_most: Option<Duration>) {
            let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            if self.word.load(Ordering::SeqCst) != expected {
                return;
            }
            match at_most {
                None => drop(self.woken.wait(guard)),
                #[cfg(loom)]
                Some(_) => loom::thread::yield_now(),
                #[cfg(not(loom))]
                Some(time) => drop(self.woken.wait_timeout(guard, time)),
            }
        }

        /// As [`Futex::sleep`], on any of several; but it is not woken.
        pub(crate) fn sleep_on_any(_: &[(&Self, u32)], at_most: Option<Duration>) {
            super::platform::nap(at_most);
        }

        /// The word was changed before: who holds the lock and has not seen that is asleep when
        /// the lock is free.
        pub(crate) fn wake_all(&self) {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.woken.notify_all();
        }
    }
}

#[cfg(not(any(loom, failpoints)))]
mod steps {
    /// Somebody has come to this point.
    #[inline(always)]
    pub(crate) fn reach(_: crate::step::Step) {}
}

#[cfg(any(loom, failpoints))]
mod steps {
    use std::cell::RefCell;
    use std::rc::Rc;

    #[cfg(loom)]
    use loom::thread_local;
    #[cfg(not(loom))]
    use std::thread_local;

    use crate::step::Step;

    type Hook = Rc<dyn Fn(Step)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = RefCell::new(None);
    }

    /// Calls `hook` at each step that this thread reaches from now on; it may stop there, or panic.
    pub fn at_each_step(hook: impl Fn(Step) + 'static) {
        HOOK.with(|slot| *slot.borrow_mut() = Some(Rc::new(hook)));
    }

    /// Somebody has come to this point.
    pub(crate) fn reach(step: Step) {
        let hook = HOOK.with(|slot| slot.borrow().clone());
        if let Some(hook) = hook {
            hook(step);
        }
    }
}

#[cfg(any(loom, failpoints))]
pub use steps::at_each_step;
pub(crate) use steps::reach;

pub use platform::Observable;
pub(crate) use platform::*;
pub(crate) use std::sync::atomic::Ordering;
pub(crate) use std::sync::{Arc as SharedByAll, PoisonError, Weak as WeakByAll};

//! File descriptors and maps that a forked child does not keep, and locks that end with a process.
//!
//! A lock of an open file description is let go of when the description is closed: by its owner, or by the
//! kernel when the process has ended, however it did. That proves a death, as long as nobody else has the
//! description open. A child that is forked does; so its copies are closed before `fork` returns in it, and the
//! rings that it has inherited are replaced by rings that tell their users so. All that is in the registry below,
//! which is all that the child looks at: it may have inherited any lock in any state.
//!
//! It works for children made by `fork` and what builds on it, as `std::process::Command`. A bare `clone` system
//! call, or `vfork` without `exec`, goes by it: a child made so must not use what its parent has opened, and can keep its
//! parent's members alive where the lock alone [tells](crate::witness) of a death.
//!
//! The registry is locked while something is opened, mapped, closed or unmapped, and while the process forks. So
//! nothing is done under the lock that takes the longer the larger a ring is: pages are [mapped](Map::populate) and
//! unmapped without it, and the last that is let go of a file, which frees its memory, is always a map.

use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

use memmap2::{Advice, MmapRaw};
use rustix::thread::futex;

use crate::header::PAGE;
use crate::interrupted::retried;
use crate::refusal::Cause;

/// A file descriptor that a forked child does not keep.
pub(crate) struct Descriptor {
    entry: &'static Entry,
}

impl Descriptor {
    /// Takes what `open` opens; no child is forked in between.
    pub(crate) fn open<F: Into<OwnedFd>>(open: impl FnMut() -> io::Result<F>) -> io::Result<Self> {
        REGISTRY.enter(|entry| {
            let fd = retried(open)?.into().into_raw_fd();
            entry.fd.store(fd, Ordering::Relaxed); // The registry is locked, or the only thread's.
            Ok(Self { entry })
        })
    }

    /// Another description of the same file, also if its name is gone.
    pub(crate) fn reopen(&self, write: bool) -> Result<Self, Cause> {
        Self::open_again(self.borrow()?, write)
    }

    /// A description of its own of a file that this process has open.
    pub(crate) fn open_again(file: BorrowedFd<'_>, write: bool) -> Result<Self, Cause> {
        let path = own_path(file)?;
        Ok(Self::open(|| {
            File::options().read(true).write(write).open(&path)
        })?)
    }

    /// Lends the descriptor.
    ///
    /// # Errors
    /// If it has been inherited from a parent process.
    pub(crate) fn borrow(&self) -> io::Result<BorrowedFd<'_>> {
        let fd = self.raw()?;
        // SAFETY: it is open: only the drop of this value closes it, and a child, in which nothing runs meanwhile.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    fn raw(&self) -> io::Result<RawFd> {
        match self.entry.fd.load(Ordering::Relaxed) {
            NONE => Err(io::Error::other("it is the parent process's")),
            fd => Ok(fd),
        }
    }

    /// Takes the lock of one byte of the file; false if another description has it.
    pub(crate) fn try_lock(&self, byte: u64) -> io::Result<bool> {
        match self.fcntl(libc::F_OFD_SETLK, libc::F_WRLCK, byte, 1) {
            Ok(_) => {
                fence(Ordering::Acquire); // What was stored under the lock before is visible under it now.
                Ok(true)
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EACCES) => Ok(false),
                _ => Err(error),
            },
        }
    }

    pub(crate) fn unlock(&self, byte: u64) -> io::Result<()> {
        fence(Ordering::Release);
        self.fcntl(libc::F_OFD_SETLK, libc::F_UNLCK, byte, 1)
            .map(drop)
    }

    fn unlock_all(&self) -> io::Result<()> {
        let to_the_end = 0;
        fence(Ordering::Release);
        self.fcntl(libc::F_OFD_SETLK, libc::F_UNLCK, 0, to_the_end)
            .map(drop)
    }

    /// Whether another description, in whatever process, has the lock of this byte. Who may only read the file can
    /// have a lock for reading, which is none of ours.
    ///
    /// If it has not, whatever a process stored before its lock went is visible from here on. The kernel lets go of the
    /// locks of a process behind the barriers with which it ends, or of one that it is told to unlock behind the fence
    /// above; and it looks for locks by a load that acquires, behind which the fence here keeps what this thread reads.
    pub(crate) fn is_locked(&self, byte: u64) -> io::Result<bool> {
        Ok(self.first_locked(byte..byte + 1)?.is_some())
    }

    /// The first of these bytes whose lock another description has; as [`is_locked`](Descriptor::is_locked).
    pub(crate) fn first_locked(&self, bytes: Range<u64>) -> io::Result<Option<u64>> {
        let len = bytes.end - bytes.start;
        let found = self.fcntl(libc::F_OFD_GETLK, libc::F_RDLCK, bytes.start, len)?;
        fence(Ordering::Acquire);
        let is_found = libc::c_int::from(found.l_type) != libc::F_UNLCK;
        Ok(is_found.then_some(found.l_start as u64))
    }

    fn fcntl(
        &self,
        command: libc::c_int,
        kind: libc::c_int,
        byte: u64,
        len: u64,
    ) -> io::Result<libc::flock> {
        let fd = self.raw()?;
        // SAFETY: plain numbers, of which zero is one.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as _;
        lock.l_whence = libc::SEEK_SET as _;
        lock.l_start = byte as _;
        lock.l_len = len as _;
        // SAFETY: an open descriptor, and a lock as these commands take it.
        let done = retried(
            || match unsafe { libc::fcntl(fd, command, &raw mut lock) } {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            },
        );
        done.map(|()| lock)
    }
}

impl AsRawFd for Descriptor {
    /// The number, or -1 of one that has been inherited from a parent process.
    fn as_raw_fd(&self) -> RawFd {
        self.entry.fd.load(Ordering::Relaxed)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // Its locks go now, not when the last copy is closed: a child that is being spawned has one until it runs its
        // program. It fails only in a forked child, whose locks they are not.
        let _ = self.unlock_all();
        // First it is nobody's, then closed: a child that is forked in between would keep it, which the lock of the
        // registry excludes. It does not take long: a map has the file too, which is dropped later.
        let _locked = REGISTRY.lock();
        let fd = self.entry.fd.swap(NONE, Ordering::Relaxed);
        self.entry.leave();
        if fd != NONE {
            // SAFETY: this value has opened it, and nobody has closed it: a child would have taken it out.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// The name by which this process can open a file that it has open, also if that has no other, or has had one.
///
/// # Errors
/// [`Cause::NoProc`].
pub(crate) fn own_path(file: BorrowedFd<'_>) -> Result<PathBuf, Cause> {
    let fd = file.as_raw_fd();
    // The first is there also when the main thread has ended; kernels before 3.17 have only the second.
    let [of_thread, of_process] =
        ["thread-self", "self"].map(|whose| format!("/proc/{whose}/fd/{fd}"));
    let is_there = |path: &str| retried(|| fs::symlink_metadata(path)).map(drop);
    match is_there(&of_thread) {
        Ok(()) => Ok(of_thread.into()),
        Err(_) if is_there(&of_process).is_ok() => Ok(of_process.into()),
        Err(error) => Err(Cause::NoProc { error }),
    }
}

/// A map of a ring's file, which in a forked child is one of a ring that cannot be used.
pub(crate) struct Map {
    map: ManuallyDrop<MmapRaw>,
    entry: &'static Entry,
}

impl Map {
    /// Takes what `map` maps, in which the ring starts at `ring`.
    pub(crate) fn of(ring: usize, map: impl FnMut() -> io::Result<MmapRaw>) -> io::Result<Self> {
        REGISTRY.enter(|entry| {
            let map = retried(map)?;
            entry.ring.store(ring, Ordering::Relaxed); // As in `Descriptor::open`.
            entry.len.store(map.len(), Ordering::Relaxed);
            entry.base.store(map.as_mut_ptr(), Ordering::Relaxed);
            Ok(Self {
                map: ManuallyDrop::new(map),
                entry,
            })
        })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        NonNull::new(self.map.as_mut_ptr()).expect("no file is mapped at 0")
    }

    pub(crate) fn lock_in_memory(&self) -> io::Result<()> {
        retried(|| self.map.lock())
    }

    /// Enters its pages into the page table, so that nobody waits for that when they are used.
    ///
    /// It is done in parts: as long as the kernel is at one of them, all other threads that map something, or fork, wait.
    ///
    /// # Errors
    /// If a page is not to be had: the file has been cut, or has a hole, and the file system is full.
    pub(crate) fn populate(&self) -> io::Result<()> {
        let len = self.map.len();
        for start in (0..len).step_by(PART) {
            let part = PART.min(len - start);
            match retried(|| self.map.advise_range(Advice::PopulateRead, start, part)) {
                // A kernel before 5.14.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.touch(start, part),
                done => done?,
            }
        }
        Ok(())
    }

    fn touch(&self, start: usize, len: usize) {
        for at in (start..start + len).step_by(PAGE) {
            // SAFETY: inside the map.
            let page = unsafe { self.base().byte_add(at) };
            // SAFETY: it is readable. Others may write there, so it is volatile; its value is not used.
            unsafe { page.read_volatile() };
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let locked = REGISTRY.lock();
        // It takes long to unmap a large ring, and longer to free it: so that is done without the lock, if a child that
        // is forked meanwhile does not inherit the map, which nobody has in the registry any more.
        let is_kept = self.map.advise(Advice::DontFork).is_ok();
        self.entry.base.store(ptr::null_mut(), Ordering::Relaxed);
        self.entry.leave();
        let _locked = (!is_kept).then_some(locked);
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.map) };
    }
}

/// What is entered into a page table at a time: a millisecond's work or so.
const PART: usize = 4 << 20;

/// What this process has open and mapped: a list that grows and is never freed.
struct Registry {
    first: AtomicPtr<Entry>,
    /// [`FREE`], [`LOCKED`], or [`AWAITED`].
    lock: AtomicU32,
}

struct Entry {
    fd: AtomicI32,
    base: AtomicPtr<u8>,
    len: AtomicUsize,
    /// Where the ring starts in the map.
    ring: AtomicUsize,
    is_used: AtomicU32,
    next: AtomicPtr<Entry>,
}

const NONE: RawFd = -1;

/// Nobody has the lock.
const FREE: u32 = 0;
/// Somebody opens or closes, or the process forks.
const LOCKED: u32 = 1;
/// The same, and others may be asleep until that is over.
const AWAITED: u32 = 2;

static REGISTRY: Registry = Registry {
    first: AtomicPtr::new(ptr::null_mut()),
    lock: AtomicU32::new(FREE),
};

/// Unlocks the registry.
struct Locked;

impl Drop for Locked {
    fn drop(&mut self) {
        REGISTRY.unlock();
    }
}

impl Registry {
    /// Runs `open` with an entry for what it opens, while no child is forked.
    fn enter<X>(&self, open: impl FnOnce(&'static Entry) -> io::Result<X>) -> io::Result<X> {
        static HOOKED: Once = Once::new();
        HOOKED.call_once(|| {
            // SAFETY: functions that live as long as the process does.
            let error = unsafe {
                libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child))
            };
            assert_eq!(error, 0, "there is no memory for three pointers");
        });
        let _locked = self.lock();
        let entry = self.vacant();
        let opened = open(entry);
        if opened.is_err() {
            entry.leave();
        }
        opened
    }

    /// An entry that nobody uses; with the lock.
    fn vacant(&self) -> &'static Entry {
        if let Some(entry) = self
            .entries()
            .find(|entry| entry.is_used.load(Ordering::Relaxed) == 0)
        {
            entry.is_used.store(1, Ordering::Relaxed);
            return entry;
        }
        let entry = Box::leak(Box::new(Entry {
            fd: AtomicI32::new(NONE),
            base: AtomicPtr::new(ptr::null_mut()),
            len: AtomicUsize::new(0),
            ring: AtomicUsize::new(0),
            is_used: AtomicU32::new(1),
            next: AtomicPtr::new(self.first.load(Ordering::Relaxed)),
        }));
        self.first.store(entry, Ordering::Relaxed);
        entry
    }

    fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        let mut next = self.first.load(Ordering::Relaxed);
        std::iter::from_fn(move || {
            // SAFETY: null, or an entry, which is never freed.
            let entry = unsafe { next.as_ref() }?;
            next = entry.next.load(Ordering::Relaxed);
            Some(entry)
        })
    }

    /// Not a mutex of the standard library: the child of a fork unlocks what its parent has locked.
    fn lock(&self) -> Locked {
        // Acquire and Release: what is in the entries is handed on by this lock alone.
        let free = (self.lock).compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            // A thread that has waited cannot know whether others still do, and leaves it as if they did.
            while self.lock.swap(AWAITED, Ordering::Acquire) != FREE {
                // Whatever ends the sleep: it looks again.
                let _ = futex::wait(&self.lock, futex::Flags::PRIVATE, AWAITED, None);
            }
        }
        Locked
    }

    fn unlock(&self) {
        if self.lock.swap(FREE, Ordering::Release) == AWAITED {
            // It fails for a bad address only.
            let _ = futex::wake(&self.lock, futex::Flags::PRIVATE, 1);
        }
    }
}

impl Entry {
    fn leave(&self) {
        self.is_used.store(0, Ordering::Relaxed);
    }
}

extern "C" fn before_fork() {
    std::mem::forget(REGISTRY.lock());
}

extern "C" fn after_fork() {
    REGISTRY.unlock();
}

/// Lets go of all that is the parent's. Only one thread is there; nothing is allocated, no lock is taken.
extern "C" fn in_child() {
    for entry in REGISTRY.entries() {
        let fd = entry.fd.swap(NONE, Ordering::Relaxed);
        if fd != NONE {
            // SAFETY: the parent's `Descriptor` has opened it, and will find it gone.
            unsafe { libc::close(fd) };
        }
        let base = entry.base.load(Ordering::Relaxed);
        if !base.is_null() {
            disown(
                base,
                entry.len.load(Ordering::Relaxed),
                entry.ring.load(Ordering::Relaxed),
            );
        }
    }
    REGISTRY.unlock();
}

/// Puts zeroes of this process's own where the parent's ring is mapped, and says in them what they are.
fn disown(base: *mut u8, len: usize, ring: usize) {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: it replaces a map of this length that a `Map` has, and nothing else.
    let mapped = unsafe { libc::mmap(base.cast(), len, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        // SAFETY: a child that could reach into its parent's ring is worse than none.
        unsafe { libc::_exit(EXIT_NOT_DISOWNED) };
    }
    // SAFETY: the ring starts inside the map.
    let ring = unsafe { base.byte_add(ring) };
    if let Some(ring) = NonNull::new(ring) {
        // SAFETY: zeroes, of this process's own.
        unsafe { annulus_ring::disown(ring) };
    }
}

/// How a child ends whose memory cannot be replaced.
const EXIT_NOT_DISOWNED: libc::c_int = 70;

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn d6_a_lock_goes_with_its_owner_whatever_copies_of_the_descriptor_there_are() {
        let file = Descriptor::open(|| Ok(memfd_create("test", MemfdFlags::CLOEXEC)?)).unwrap();
        let owner = file.reopen(true).unwrap();
        assert!(owner.try_lock(1).unwrap());
        // As a child has it that is being spawned.
        let copy = owner.borrow().unwrap().try_clone_to_owned().unwrap();
        drop(owner);
        assert!(!file.is_locked(1).unwrap());
        drop(copy);
    }
}

//! File descriptors and maps that a forked child does not keep, and locks that end with a process.
//!
//! A lock of an open file description is let go of when the description is closed: by its owner, or by the
//! kernel when the process has ended, however it did. That proves a death, as long as nobody else has the
//! description open. A child that is forked does; so its copies are closed before `fork` returns in it, and the
//! rings that it has inherited are replaced by such that tell whoever uses them. All that is in the registry below,
//! which is all that the child looks at: it may have inherited any lock in any state.
//!
//! It works for children made by `fork` and what builds on it, as `std::process::Command`. A bare `clone` system
//! call, or `vfork` without `exec`, goes by it: a child made so keeps its parent's members alive.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use memmap2::MmapRaw;

/// A file descriptor that a forked child does not keep.
pub(crate) struct Descriptor {
    entry: &'static Entry,
}

impl Descriptor {
    /// Takes what `open` opens; no child is forked in between.
    pub(crate) fn open<F: Into<OwnedFd>>(open: impl FnOnce() -> io::Result<F>) -> io::Result<Self> {
        REGISTRY.enter(|entry| {
            let fd = open()?.into().into_raw_fd();
            entry.fd.store(fd, Ordering::Relaxed); // The registry is locked, or the only thread's.
            Ok(Self { entry })
        })
    }

    /// Another description of the same file, also if its name is gone.
    pub(crate) fn reopen(&self, write: bool) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", self.raw()?);
        Self::open(|| File::options().read(true).write(write).open(path))
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
            Ok(_) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EACCES) => Ok(false),
                _ => Err(error),
            },
        }
    }

    pub(crate) fn unlock(&self, byte: u64) -> io::Result<()> {
        self.fcntl(libc::F_OFD_SETLK, libc::F_UNLCK, byte, 1)
            .map(drop)
    }

    fn unlock_all(&self) -> io::Result<()> {
        let to_the_end = 0;
        self.fcntl(libc::F_OFD_SETLK, libc::F_UNLCK, 0, to_the_end)
            .map(drop)
    }

    /// Whether another description, in whatever process, has the lock of this byte. Who may only read the file can
    /// have a lock for reading, which is none of ours.
    pub(crate) fn is_locked(&self, byte: u64) -> io::Result<bool> {
        let found = self.fcntl(libc::F_OFD_GETLK, libc::F_RDLCK, byte, 1)?;
        Ok(found != libc::F_UNLCK)
    }

    fn fcntl(
        &self,
        command: libc::c_int,
        kind: libc::c_int,
        byte: u64,
        len: u64,
    ) -> io::Result<libc::c_int> {
        let fd = self.raw()?;
        // SAFETY: plain numbers, of which zero is one.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as _;
        lock.l_whence = libc::SEEK_SET as _;
        lock.l_start = byte as _;
        lock.l_len = len as _;
        // SAFETY: an open descriptor, and a lock as these commands take it.
        match unsafe { libc::fcntl(fd, command, &raw mut lock) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(lock.l_type.into()),
        }
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
        // First it is nobody's, then closed: a child that is forked in between keeps it for a moment, which the
        // lock of the registry excludes.
        let _locked = REGISTRY.lock();
        let fd = self.entry.fd.swap(NONE, Ordering::Relaxed);
        self.entry.leave();
        if fd != NONE {
            // SAFETY: this value has opened it, and nobody has closed it: a child would have taken it out.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// A map of a ring's file, which in a forked child is one of a ring that cannot be used.
pub(crate) struct Map {
    map: ManuallyDrop<MmapRaw>,
    entry: &'static Entry,
}

impl Map {
    /// Takes what `map` maps, in which the ring starts at `ring`.
    pub(crate) fn of(ring: usize, map: impl FnOnce() -> io::Result<MmapRaw>) -> io::Result<Self> {
        REGISTRY.enter(|entry| {
            let map = map()?;
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
        self.map.lock()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let _locked = REGISTRY.lock();
        self.entry.base.store(ptr::null_mut(), Ordering::Relaxed);
        self.entry.leave();
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.map) };
    }
}

/// What this process has open and mapped: a list that grows and is never freed.
struct Registry {
    first: AtomicPtr<Entry>,
    /// 1 while somebody opens or closes, or the process forks.
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

static REGISTRY: Registry = Registry {
    first: AtomicPtr::new(ptr::null_mut()),
    lock: AtomicU32::new(0),
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

    /// Not a mutex: the child of a fork unlocks what its parent has locked.
    fn lock(&self) -> Locked {
        // Acquire and Release: what is in the entries is handed on by this lock alone.
        while self.lock.swap(1, Ordering::Acquire) != 0 {
            std::thread::yield_now();
        }
        Locked
    }

    fn unlock(&self) {
        self.lock.store(0, Ordering::Release);
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

//! A ring's file in memory, and the locks in it: of the member table, and the leases of its members.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use annulus_ring::{Lease, SharedMemory};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Stat, fstat};

use crate::descriptor::{Descriptor, Map};
use crate::refusal::Cause;

/// What a ring is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To be used.
    Write,
    /// To be observed.
    Read,
    /// To look at what it says of itself, and where its members are.
    Inspect,
    /// The same, and to lock its table.
    Remove,
}

impl Access {
    /// Whether its file is opened for writing, without which there are no locks.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Remove)
    }
}

/// A ring's file, mapped, with the locks in it.
///
/// Byte 0 of the file is the lock of the member table, byte `1 + row` the lease of a row. The descriptor `locks`
/// has an open file description that is neither mapped nor a member's: it tests for leases, as locks of the same
/// description are not seen, and locks the table. Each lease has a description of its own.
pub(crate) struct Memory {
    pub(crate) map: Map,
    pub(crate) file: Descriptor,
    locks: Descriptor,
    /// Where the ring starts in the map.
    ring: usize,
    is_named: bool,
}

impl Memory {
    pub(crate) fn map(
        file: Descriptor,
        ring: usize,
        access: Access,
        is_named: bool,
    ) -> Result<Self, Cause> {
        let map = |file: &Descriptor| -> io::Result<MmapRaw> {
            let file = file.borrow()?;
            let mut options = MmapOptions::new();
            match access {
                Access::Write => options.populate().map_raw(file.as_raw_fd()),
                Access::Read => options.populate().map_raw_read_only(file.as_raw_fd()),
                // A few of its pages will do; and a file that somebody has left there may be all holes, which
                // would take memory.
                Access::Inspect | Access::Remove => options.map_raw_read_only(file.as_raw_fd()),
            }
        };
        Ok(Self {
            map: Map::of(ring, || map(&file))?,
            locks: file.reopen(access.writes())?,
            file,
            ring,
            is_named,
        })
    }

    /// Whether somebody has the lease of any of these rows, or is joining or leaving.
    pub(crate) fn is_used(&self, members: usize) -> bool {
        (0..=members as u64).any(|byte| self.locks.is_locked(byte).unwrap_or(true))
    }
}

const TABLE: u64 = 0;

fn lease_of(row: usize) -> u64 {
    1 + row as u64
}

// SAFETY: 1: the map is as long as the file was, whose length was checked; its start is that of a page, and so is that
// of the ring. It lives as long as this value, in a child as zeroes of its own. A file that is cut short ends who reads
// there by a signal, which nothing here can help. 2: in this process; what other processes do is their own.
// 3: a lease is a lock of an open file description that nobody else has, also not a child. 4: the kernel closes the
// files of a process after all of its threads have stopped, and takes and gives the locks under one of its own.
unsafe impl SharedMemory for Memory {
    fn base(&self) -> NonNull<u8> {
        // SAFETY: inside the map.
        unsafe { self.map.base().byte_add(self.ring) }
    }

    fn lock_table(&self) -> bool {
        self.locks.try_lock(TABLE).unwrap_or(false)
    }

    fn unlock_table(&self) {
        // It fails only for a descriptor that is not open, and then there is no lock.
        let _ = self.locks.unlock(TABLE);
    }

    fn lease(&self, row: usize) -> Result<Option<Lease>, String> {
        let lease = || {
            let lease = self.file.reopen(true)?;
            Ok::<_, io::Error>(lease.try_lock(lease_of(row))?.then_some(lease))
        };
        if self.is_named && self.stat().map_err(|error| error.to_string())?.st_nlink == 0 {
            return Err(
                "the ring's file has been removed: open the ring of that name anew".to_owned(),
            );
        }
        match lease() {
            Ok(lease) => Ok(lease.map(|lease| Box::new(lease) as Lease)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn is_leased(&self, row: usize) -> bool {
        // Who cannot tell takes it for alive.
        self.locks.is_locked(lease_of(row)).unwrap_or(true)
    }

    fn process(&self) -> u32 {
        std::process::id()
    }
}

impl Memory {
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(self.file.borrow()?)?)
    }

    /// Runs `change` if nobody has the table locked, and nobody can join meanwhile.
    pub(crate) fn while_locked<X>(&self, change: impl FnOnce() -> X) -> Option<X> {
        if !self.lock_table() {
            return None;
        }
        let changed = change();
        self.unlock_table();
        Some(changed)
    }
}

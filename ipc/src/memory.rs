//! A ring's file in memory, and the locks in it: of the member table, and the leases of its members.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{self, Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use annulus_ring::{Lease, RingBuilder, SharedMemory};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Stat, fstat};

use crate::descriptor::{Descriptor, Map};
use crate::header::Extent;
use crate::interrupted::retried;
use crate::refusal::Cause;
use crate::witness::{Holder, MOST_ROWS, Witnesses, bytes_of};

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

    /// The ring as a process uses it that has it open for this. One that cannot write to it wakes nobody: with parking, the
    /// kernel would be told to interrupt this process too when others go to sleep.
    pub(crate) fn as_used(self, ring: &RingBuilder) -> RingBuilder {
        match self {
            Self::Write => ring.clone(),
            _ => ring.clone().no_parking(),
        }
    }
}

/// A ring's file, mapped, with the locks in it.
///
/// Byte 0 of the file is the lock of the member table, byte `1 + row` the lease of a row, beside which another byte is
/// locked that says [whose](Holder) it is. The descriptor `locks` has an open file description that is neither mapped nor a
/// member's: it tests for leases, as locks of the same description are not seen, and locks the table. Each lease has a
/// description of its own.
///
/// Everything that has the file open has its map too, and drops that last: see [`descriptor`](crate::descriptor).
pub(crate) struct Memory {
    pub(crate) file: Descriptor,
    locks: Descriptor,
    pub(crate) map: Arc<Map>,
    witnesses: Witnesses,
    /// Where the ring starts in the map.
    ring: usize,
    /// Where others find it, if it has a name, whatever becomes the directory of this process.
    path: Option<PathBuf>,
}

impl Memory {
    /// Maps so much of the file, which was checked to be there: what is cut off later is mapped too, and who looks there
    /// is ended by a signal. A map as long as the file is by now would be too short, and what lies behind it another's.
    pub(crate) fn map(
        file: Descriptor,
        Extent { ring, len }: Extent,
        access: Access,
        path: Option<&Path>,
    ) -> Result<Self, Cause> {
        let map = |file: &Descriptor| -> io::Result<MmapRaw> {
            let file = file.borrow()?;
            let mut options = MmapOptions::new();
            options.len(len);
            match access {
                Access::Write => options.map_raw(file.as_raw_fd()),
                _ => options.map_raw_read_only(file.as_raw_fd()),
            }
        };
        let map = Map::of(ring, || map(&file))?;
        // To inspect it a few of its pages will do; and a file that somebody has left there may be all holes, which
        // would take memory.
        if matches!(access, Access::Write | Access::Read) {
            map.populate().map_err(|error| match error.raw_os_error() {
                Some(libc::EFAULT) => {
                    Cause::Damaged("length of the file, which was cut short, or has holes")
                }
                _ => error.into(),
            })?;
        }
        Ok(Self {
            map: Arc::new(map),
            locks: file.reopen(access.writes())?,
            file,
            witnesses: Witnesses::new(),
            ring,
            path: path.and_then(|path| path::absolute(path).ok()),
        })
    }

    /// The process that has the lease of this row, if somebody has, and the lease says so.
    fn holder_of(&self, row: usize) -> Option<Holder> {
        let byte = self.locks.first_locked(bytes_of(row)?).ok()?;
        byte.map(Holder::of)
    }

    /// Whether somebody has the lease of any of these rows, or is joining or leaving.
    pub(crate) fn is_used(&self, members: usize) -> bool {
        (0..=members as u64).any(|byte| self.locks.is_locked(byte).unwrap_or(true))
    }

    /// Opens it by the name that it has got: the system calls a descriptor by the name by which it was opened, and the
    /// users of a ring that was removed are found by that.
    pub(crate) fn know_as(&mut self, path: &Path) {
        let reopened = || -> Result<(Descriptor, Descriptor), Cause> {
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW);
            let file = Descriptor::open(|| retried(|| options.open(path)))?;
            let opened = file.borrow()?;
            let (own, there) = (self.stat()?, retried(|| fstat(opened))?);
            if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino) {
                return Err(Cause::NotFound); // It is the name of another ring by now.
            }
            let locks = file.reopen(true)?;
            Ok((file, locks))
        };
        // It is as good without.
        if let Ok((file, locks)) = reopened() {
            (self.file, self.locks) = (file, locks);
        }
    }

    pub(crate) fn is_table_locked(&self) -> bool {
        self.locks.is_locked(TABLE).unwrap_or(false)
    }
}

/// The byte that is locked to change the member table.
pub(crate) const TABLE: u64 = 0;

fn lease_of(row: usize) -> u64 {
    1 + row as u64
}

/// The row whose lease this byte is; none of one that says whose a lease is.
pub(crate) fn row_of_lease(byte: u64) -> Option<usize> {
    let row = usize::try_from(byte.checked_sub(1)?).ok()?;
    (row < MOST_ROWS).then_some(row)
}

// SAFETY: 1: the map is as long as the file was when it was checked, whatever it is now; its start is that of a page, and so is that
// of the ring. It lives as long as this value, in a child as zeroes of its own. A file that is cut short ends who reads
// there by a signal, which nothing here can help. 2: in this process; what other processes do is their own.
// 3: a lease is a lock of an open file description that nobody else has, also not a child. 4: the kernel closes the
// files of a process after all of its threads have stopped, and takes and gives the locks under one of its own; and that a
// process has ended while its lock is still there is proven by `witness`.
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
            if !lease.try_lock(lease_of(row))? {
                return Ok::<_, Cause>(None);
            }
            // Without that its lock alone tells of its death, which takes longer.
            if let Some(byte) = Holder::this().and_then(|this| this.byte(row)) {
                let _ = lease.try_lock(byte);
            }
            Ok(Some(lease))
        };
        if self.path.is_some() && self.stat().map_err(|error| error.to_string())?.st_nlink == 0 {
            return Err(
                "the ring's file has been removed: open the ring of that name anew".to_owned(),
            );
        }
        match lease() {
            Ok(lease) => Ok(lease.map(|lease| Box::new((lease, self.map.clone())) as Lease)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn is_leased(&self, row: usize) -> bool {
        // Who cannot tell takes it for alive.
        self.locks.is_locked(lease_of(row)).unwrap_or(true)
    }

    fn has_ended(&self, row: usize) -> bool {
        match self.holder_of(row) {
            Some(holder) => (self.witnesses).has_ended(row, holder, || self.holder_of(row)),
            None => !self.is_leased(row),
        }
    }

    fn process(&self) -> u32 {
        std::process::id()
    }

    fn is_unlinked(&self) -> bool {
        let Some(path) = &self.path else {
            return false;
        };
        match self.is_file_of(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            // Who cannot tell by the name can tell whether there is any.
            Err(_) => self.stat().is_ok_and(|stat| stat.st_nlink == 0),
            Ok(is_it) => !is_it,
        }
    }
}

impl Memory {
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        let file = self.file.borrow()?;
        retried(|| fstat(file))
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

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    #[test]
    fn d20_a_file_that_is_cut_after_it_was_checked_is_mapped_as_long_as_it_was() {
        let file = Descriptor::open(|| Ok(memfd_create("test", MemfdFlags::CLOEXEC)?)).unwrap();
        let extent = Extent {
            ring: 4096,
            len: 1 << 20,
        };
        ftruncate(file.borrow().unwrap(), 8192).unwrap();
        for access in [Access::Write, Access::Read] {
            let file = file.reopen(true).unwrap();
            let error = Memory::map(file, extent, access, None).err();
            assert!(matches!(error, Some(Cause::Damaged(_))), "{error:?}");
        }
        // Who touches only some of it does not find out.
        for access in [Access::Inspect, Access::Remove] {
            let memory = Memory::map(file.reopen(true).unwrap(), extent, access, None).unwrap();
            let start = memory.map.base().addr().get();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let is_whole = maps.lines().any(|line| {
                let ends = line
                    .split_once(' ')
                    .and_then(|(ends, _)| ends.split_once('-'));
                let [from, to] = ends
                    .map(|(from, to)| [from, to])
                    .unwrap()
                    .map(|end| usize::from_str_radix(end, 16).unwrap());
                from <= start && start + extent.len <= to
            });
            assert!(is_whole, "{start:x}: {maps}");
        }
    }
}

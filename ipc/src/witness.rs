//! That a process has ended, proven before the kernel has let go of its locks.
//!
//! A process that ends gives back its memory first and its files last, so that its locks are there for as long as it
//! takes to free what may be gigabytes. That it does nothing any more is seen before: when all of its threads have let
//! go of its address space, which a thread does for good when it ends. (A core is written before that.)
//!
//! ```text
//! W1  The lease of a row says whose it is: beside the byte of the lease a second one is locked, whose number is made of
//!     the row, the process and its PID namespace. The kernel lets go of both at once.
//! W2  A process of this namespace is opened by its number, as a pidfd, which says by which number /proc knows it; and by
//!     that its page map, /proc/PID/pagemap, if it may be. There is something in the page map: so it is that of a
//!     process with threads.
//! W3  The lease still says the same, and after that the pidfd's process has its number still. So nobody else had that
//!     number meanwhile: it is the process that has the lease.
//! W4  Later the lease says the same, there is nothing in the page map, and after that the process has its number still.
//!     So the lease was that of this process, and not of a later one of that number; and no thread of it has an address
//!     space any more.
//! W5  Without a page map, which takes the right to look into a process and one that has not begun to end, in place of
//!     that: of each of its threads /proc says that it has no address space, then how many threads it has, which is as
//!     many, and then of each of them that it is still there. So at the moment when they were counted these were all.
//! ```
//!
//! Where there is no `/proc`, or the process is of another namespace, there is the lock.
//!
//! What a process has started and not waited for goes by this, and by locks as well: a device that was told to write to
//! the memory of the ring, by whatever does so without a thread (Linux AIO, RDMA).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{Ordering, fence};

use rustix::io::{Errno, pread};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::descriptor::Descriptor;
use crate::interrupted::retried;

/// A process, as the lease of a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its number in its own PID namespace.
    process: u32,
    /// The number of that namespace.
    namespace: u32,
}

/// What becomes of the processes that have the leases of a ring.
pub(crate) struct Witnesses {
    this: Option<Holder>,
    /// By rows.
    kept: Mutex<Vec<Option<Kept>>>,
}

/// The process that was asked about last, and what tells of it, if that is to be had.
type Kept = (Holder, Option<Witness>);

/// What tells of a process.
struct Witness {
    /// A pidfd.
    process: Descriptor,
    page_map: Option<Descriptor>,
}

impl Holder {
    /// This process, if the system says in which namespace it is.
    pub(crate) fn this() -> Option<Self> {
        let namespace = retried(|| fs::metadata("/proc/thread-self/ns/pid")).ok()?;
        Some(Self {
            process: process::id(),
            namespace: u32::try_from(namespace.ino()).ok()?,
        })
    }

    /// The byte by whose lock the lease of this row says that it is this process's; none where files are shorter.
    pub(crate) fn byte(self, row: usize) -> Option<u64> {
        let bytes = bytes_of(row)?;
        let byte = bytes.start + (u64::from(self.process) << 32) + u64::from(self.namespace);
        bytes.contains(&byte).then_some(byte)
    }

    /// Whom this byte says.
    pub(crate) fn of(byte: u64) -> Self {
        Self {
            process: (byte >> 32) as u32 & (MOST_PROCESSES - 1),
            namespace: byte as u32,
        }
    }
}

/// All bytes that say whose the lease of this row is. They lie far behind the end of any file.
pub(crate) fn bytes_of(row: usize) -> Option<Range<u64>> {
    let each = u64::from(MOST_PROCESSES) << 32;
    let start = (1 << 62) + row as u64 * each;
    let is_offset = size_of::<libc::off_t>() == size_of::<u64>();
    (is_offset && row < MOST_ROWS).then(|| start..start + each)
}

/// Numbers of processes are smaller.
const MOST_PROCESSES: u32 = 1 << 22;

pub(crate) const MOST_ROWS: usize = 64;

impl Witnesses {
    pub(crate) fn new() -> Self {
        Self {
            this: Holder::this(),
            kept: Mutex::default(),
        }
    }

    /// Whether this process, which has the lease of this row, is proven to have ended; `again` tells whose lease it is
    /// by now.
    pub(crate) fn has_ended(
        &self,
        row: usize,
        holder: Holder,
        again: impl Fn() -> Option<Holder>,
    ) -> bool {
        // Its own process lives. In another namespace numbers are others.
        let is_here =
            |this: Holder| this.namespace == holder.namespace && this.process != holder.process;
        if !self.this.is_some_and(is_here) {
            return false;
        }
        // Another thread is asking the same at the moment, or has panicked.
        let Ok(mut kept) = self.kept.try_lock() else {
            return false;
        };
        if kept.len() <= row {
            kept.resize_with(row + 1, || None);
        }
        let entry = &mut kept[row];
        if entry.as_ref().is_none_or(|(known, _)| *known != holder) {
            *entry = Some((holder, Witness::of(holder, again)));
        }
        let Some((_, Some(witness))) = entry else {
            return false;
        };
        if !witness.sees_nobody() {
            return false;
        }
        // All that it has stored is visible from here on: each of its threads let go of the address space behind that and
        // behind a barrier, and the kernel has just read what they left.
        fence(Ordering::Acquire);
        let is_it = witness.number().is_some(); // W4
        if !is_it {
            *entry = None;
        }
        is_it
    }
}

impl Witness {
    fn of(holder: Holder, again: impl Fn() -> Option<Holder>) -> Option<Self> {
        let pid = Pid::from_raw(holder.process as i32)?;
        let process = Descriptor::open(|| Ok(pidfd_open(pid, PidfdFlags::empty())?)).ok()?;
        let page_map = format!("/proc/{}/pagemap", number_of(&process)?);
        let page_map = Descriptor::open(|| File::open(&page_map)).ok();
        // W2. Of a process whose first thread has ended older kernels open a page map that is always empty.
        let page_map = page_map.filter(|page_map| read_byte(page_map) == Some(Err(Errno::INVAL)));
        let is_it = again() == Some(holder) && number_of(&process).is_some(); // W3
        is_it.then_some(Self { process, page_map })
    }

    fn number(&self) -> Option<u32> {
        number_of(&self.process)
    }

    /// That no thread of it has an address space.
    fn sees_nobody(&self) -> bool {
        match &self.page_map {
            Some(page_map) => read_byte(page_map) == Some(Ok(0)),
            None => self
                .number()
                .is_some_and(|number| has_no_memory(number) == Some(true)),
        }
    }
}

/// A page map is read in words: to read a byte is an error, unless there is nothing in it, and takes no look at what is
/// mapped.
fn read_byte(page_map: &Descriptor) -> Option<Result<usize, Errno>> {
    Some(pread(page_map.borrow().ok()?, &mut [0_u8], 0))
}

/// W5. None if that cannot be told.
fn has_no_memory(process: u32) -> Option<bool> {
    let process = format!("/proc/{process}");
    let count = || ThreadState::of(&mut File::open(format!("{process}/stat")).ok()?);
    if count()?.memory != 0 {
        return Some(false);
    }
    let mut threads = BTreeMap::new();
    for thread in retried(|| fs::read_dir(format!("{process}/task"))).ok()? {
        let thread = thread.ok()?;
        let mut stat = File::open(thread.path().join("stat")).ok()?;
        if ThreadState::of(&mut stat)?.memory != 0 {
            return Some(false);
        }
        threads.insert(thread.file_name(), stat);
    }
    let is_all = count()?.threads == threads.len() as u64;
    let is_there = |stat: &mut File| ThreadState::of(stat).is_some();
    Some(is_all && threads.values_mut().all(is_there))
}

/// What `/proc` says of a thread: see `proc_pid_stat(5)`.
struct ThreadState {
    /// How many its process has.
    threads: u64,
    /// How large its address space is; 0 if it has none.
    memory: u64,
}

impl ThreadState {
    fn of(stat: &mut File) -> Option<Self> {
        let mut text = Vec::new();
        stat.rewind().ok()?;
        stat.read_to_end(&mut text).ok()?;
        // The second field is a name in parentheses, which may have any bytes in it.
        let name_ends = text.iter().rposition(|&byte| byte == b')')?;
        let rest = str::from_utf8(&text[name_ends + 1..]).ok()?;
        let field = |n: usize| rest.split_ascii_whitespace().nth(n - 3)?.parse().ok();
        Some(Self {
            threads: field(20)?,
            memory: field(23)?,
        })
    }
}

/// The number that a process has where `/proc` belongs to; none if it has been waited for, and its number may be used
/// again, or has none there.
fn number_of(process: &Descriptor) -> Option<u32> {
    let info = format!("/proc/thread-self/fdinfo/{}", process.as_raw_fd());
    let info = fs::read_to_string(info).ok()?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_threads_and_memory() {
        let mut stat = File::open("/proc/thread-self/stat").unwrap();
        let state = ThreadState::of(&mut stat).unwrap();
        assert!(state.threads > 0 && state.memory > 1 << 20);
        assert_eq!(has_no_memory(process::id()), Some(false));
    }

    #[test]
    fn a_byte_says_whose_it_is_and_of_which_row() {
        for row in [0, 1, MOST_ROWS - 1] {
            for process in [1, 4711, MOST_PROCESSES - 1] {
                let namespace = 0xEFFF_FFFC;
                let holder = Holder { process, namespace };
                let byte = holder.byte(row).unwrap();
                assert_eq!(Holder::of(byte), holder);
                assert!(byte < i64::MAX as u64);
                let others = (0..MOST_ROWS).filter(|other| *other != row);
                assert!(
                    others
                        .map(|row| bytes_of(row).unwrap())
                        .all(|bytes| !bytes.contains(&byte))
                );
            }
        }
        assert_eq!(bytes_of(MOST_ROWS), None);
    }
}

//! System calls that a signal can interrupt.

use std::io;

use rustix::fd::BorrowedFd;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Makes a system call until no signal interrupts it: a program that gets signals, from a profiler's timer say, wants them
/// handled, and not its ring to fail.
///
/// Every system call of this package goes through here, but for those that the standard library makes again itself
/// (`open`, `read`, `write`), those that never wait, and `close`, which Linux completes also when it says that it was
/// interrupted.
pub(crate) fn retried<X, E: Into<io::Error>>(
    mut call: impl FnMut() -> Result<X, E>,
) -> io::Result<X> {
    loop {
        match call().map_err(Into::into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Allocates that many bytes of a new file.
///
/// The kernel gives back all that one call has allocated when a signal interrupts that call. So the parts become smaller
/// until one is done between two signals: a timer that is faster than the whole only makes it slower. The first call is
/// for the whole, as a file system that can never have so much says so before it allocates anything.
pub(crate) fn allocate(file: BorrowedFd<'_>, len: u64, page: u64) -> Result<(), Errno> {
    let (mut done, mut part) = (0, len);
    while done < len {
        part = part.min(len - done);
        match fallocate(file, FallocateFlags::empty(), done, part) {
            Ok(()) => done += part,
            Err(Errno::INTR) => part = (part / 2).next_multiple_of(page),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

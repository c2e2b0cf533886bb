//! A ring in the hands of programs that look after it and do not know its events.

use std::fmt;
use std::time::Duration;

use annulus_ring::{EvictError, Evicted, Ring};

use crate::directory::Directory;
use crate::memory::Access;
use crate::refusal::SegmentError;
use crate::segment::attach_untyped;

/// A ring whose events are of any type, opened to change who its members are; made by [`Directory::open_untyped`].
///
/// It takes the right to write to its file, and no row of its member table.
///
/// # Examples
/// ```
/// use annulus_ipc::{Directory, Segment};
/// use std::time::Duration;
/// # let name = &format!("doc-untyped-{}", std::process::id());
///
/// let ring = Segment::<u64>::create(name, 8)?;
/// ring.consumer("screen").join()?.leave_held();
/// ring.producer()?.publish_value(7)?;
///
/// // Another process, which has never heard of `u64`.
/// let ring = Directory::default().open_untyped(name)?;
/// assert_eq!(ring.evict("screen", Duration::from_secs(5))?.lost, 1);
/// # Directory::default().unlink(name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Untyped {
    ring: Ring<()>,
}

impl Directory {
    /// Opens the ring of this name, whatever the type of its events, to change who its members are.
    ///
    /// # Errors
    /// See [`Cause`](crate::Cause).
    ///
    /// # Examples
    /// See [`Untyped`].
    pub fn open_untyped(&self, name: &str) -> Result<Untyped, SegmentError> {
        let opened = self.file_of(name, Access::Write).and_then(|(file, path)| {
            attach_untyped(file, Access::Write, Some((name.to_owned(), path)))
        });
        opened
            .map(|(ring, ..)| Untyped { ring })
            .map_err(|cause| cause.of(self.shown(name)))
    }
}

impl Untyped {
    /// Takes the consumer of this name out of the ring: see [`Ring::evict`].
    ///
    /// # Errors
    /// As [`Ring::evict`].
    ///
    /// # Examples
    /// See [`Untyped`].
    pub fn evict(&self, name: &str, patience: Duration) -> Result<Evicted, EvictError> {
        self.ring.evict(name, patience)
    }
}

impl fmt::Debug for Untyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Untyped").finish_non_exhaustive()
    }
}

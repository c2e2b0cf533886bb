//! A ring in shared memory as a value, and how what a file says it is becomes one.

use std::alloc;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annulus_ring::{Ring, RingBuilder};
use rustix::fs::{FileType, SealFlags, fcntl_get_seals, fstat};
use rustix::io::pread;

use crate::create::SegmentBuilder;
use crate::descriptor::Descriptor;
use crate::directory::Directory;
use crate::header::{Extent, Header, MAX_HEADER, describe};
use crate::interrupted::retried;
use crate::memory::{Access, Memory};
use crate::plain::Plain;
use crate::refusal::{Cause, SegmentError};

/// A ring in shared memory: a [`Ring`], with where it lies.
///
/// It is a handle: cloning it is cheap, and the memory stays mapped until the last handle, producer and consumer
/// of this process is dropped. The ring itself stays until its name is [removed](Directory::unlink) and
/// nobody has it mapped.
///
/// # Examples
/// ```
/// use annulus_ipc::{Directory, Segment};
/// # let name = &format!("doc-segment-{}", std::process::id());
///
/// // One process.
/// let ring = Segment::<u64>::create(name, 1024)?;
/// let mut feed = ring.producer()?;
///
/// // Another one.
/// let ring = Segment::<u64>::open(name)?;
/// let mut book = ring.consumer("book").join()?;
///
/// feed.publish_value(5_853_300)?;
/// assert_eq!(book.next_batch()?[0], 5_853_300);
/// # Directory::default().unlink(name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Segment<T> {
    pub(crate) ring: Ring<T>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) about: Arc<About>,
}

/// What a ring's file says of it, and where it is.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) name: Option<String>,
    pub(crate) path: Option<PathBuf>,
    pub(crate) header: Header,
}

impl Segment<()> {
    /// Starts to describe a ring: of a capacity, or as a [`RingBuilder`] says.
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    pub fn builder(ring: impl Into<RingBuilder>) -> SegmentBuilder {
        SegmentBuilder::new(ring.into())
    }
}

impl<T: Plain> Segment<T> {
    /// Creates a ring under a name that is free, in the default [`Directory`], for processes of this user.
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`Segment`].
    pub fn create(name: &str, ring: impl Into<RingBuilder>) -> Result<Self, SegmentError> {
        Segment::builder(ring).create(name)
    }

    /// Opens the ring of this name in the default [`Directory`].
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`Segment`].
    pub fn open(name: &str) -> Result<Self, SegmentError> {
        Directory::default().open(name)
    }

    /// Opens the ring of this name in the default [`Directory`] or, if there is none, creates it: whichever process
    /// comes first.
    ///
    /// One that is over, yesterday's say, is removed, and created anew: one that is closed and has no living member, nor
    /// events that are held for the successor of a dead one. One that is closed and has such is opened: that successor
    /// joins it and reads the rest, and all others are told [`Closed`](annulus_ring::JoinError::Closed) until the last
    /// member has gone.
    ///
    /// Between this and a join somebody may remove the ring, as unused (`annulus gc`) or as over. Who joins then is told
    /// so ([`NoLease`](annulus_ring::JoinError::NoLease)), and opens it anew.
    ///
    /// # Errors
    /// See [`Cause`]; [`Cause::Differs`] if the one that is there is another.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Cause, Directory, Segment};
    /// # let name = &format!("doc-open-or-create-{}", std::process::id());
    /// let first = Segment::<u64>::open_or_create(name, 1024)?;
    /// let second = Segment::<u64>::open_or_create(name, 1024)?; // opens it
    /// let other = Segment::<u64>::open_or_create(name, 2048).unwrap_err();
    /// assert!(matches!(other.cause, Cause::Differs { .. }));
    ///
    /// // Whatever others remove meanwhile:
    /// let mut feed = loop {
    ///     let ring = Segment::<u64>::open_or_create(name, 1024)?;
    ///     match ring.producer() {
    ///         Err(_) if ring.is_unlinked() => {}
    ///         feed => break feed?,
    ///     }
    /// };
    /// feed.publish_value(7)?;
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(name: &str, ring: impl Into<RingBuilder>) -> Result<Self, SegmentError> {
        Segment::builder(ring).open_or_create(name)
    }

    /// Creates a ring without a name, to be [handed over](Segment::send): it is gone with the last who has it. No file
    /// system limits its size, but what memory there is does ([`Cause::NoMemory`]).
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`Segment::send`].
    pub fn anonymous(ring: impl Into<RingBuilder>) -> Result<Self, SegmentError> {
        Segment::builder(ring).anonymous()
    }

    /// A ring in memory without a name that somebody has handed over.
    ///
    /// # Errors
    /// See [`Cause`]; [`Cause::NotSealed`] if it could be cut short, which would end whoever uses it.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::Segment;
    /// # use std::os::fd::AsFd;
    /// let ring = Segment::<u64>::anonymous(8)?;
    /// let fd = ring.as_fd()?.try_clone_to_owned()?; // as a child inherits it, say
    /// let same = Segment::<u64>::from_fd(fd)?;
    /// let mut book = same.consumer("book").join()?;
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!(book.next_batch()?[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SegmentError> {
        Self::from_sealed(fd).map_err(|cause| cause.of("without a name"))
    }

    fn from_sealed(fd: OwnedFd) -> Result<Self, Cause> {
        let seals = retried(|| fcntl_get_seals(&fd)).unwrap_or(SealFlags::empty());
        if !seals.contains(SealFlags::SHRINK) {
            return Err(Cause::NotSealed);
        }
        // Opened anew: a description that others have too does not do for locks.
        attach(
            Descriptor::open_again(fd.as_fd(), true)?,
            Access::Write,
            None,
        )
    }
}

impl<T> Segment<T> {
    /// The ring's name, if it has one.
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.about.name.as_deref()
    }

    /// The ring's file, if it has a name.
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.about.path.as_deref()
    }

    /// What its creator has said about it.
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.about.header.attributes
    }

    /// Keeps the ring's memory from being swapped out, for this process.
    ///
    /// # Errors
    /// [`Cause::Locking`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::Segment;
    /// let ring = Segment::<u64>::anonymous(8)?;
    /// if let Err(error) = ring.lock_memory() {
    ///     eprintln!("{error}"); // says what limit to raise
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock_memory(&self) -> Result<(), SegmentError> {
        let locked = self.memory.map.lock_in_memory();
        locked.map_err(|error| Cause::Locking { error }.of(self.about.shown()))
    }

    /// The file descriptor of the memory, to hand it to other processes.
    ///
    /// # Errors
    /// If the ring was opened before this process was forked.
    ///
    /// # Examples
    /// See [`Segment::from_fd`].
    pub fn as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.memory.file.borrow()
    }
}

impl<T> Deref for Segment<T> {
    type Target = Ring<T>;

    fn deref(&self) -> &Ring<T> {
        &self.ring
    }
}

impl<T> Clone for Segment<T> {
    fn clone(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            memory: self.memory.clone(),
            about: self.about.clone(),
        }
    }
}

impl<T> fmt::Debug for Segment<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("name", &self.name())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl About {
    pub(crate) fn shown(&self) -> String {
        self.path
            .as_ref()
            .map_or("without a name".to_owned(), |path| {
                path.display().to_string()
            })
    }
}

/// Opens what this file, which has been opened for it alone, has in it, as a ring of `T`.
pub(crate) fn attach<T: Plain>(
    file: Descriptor,
    access: Access,
    named: Option<(String, PathBuf)>,
) -> Result<Segment<T>, Cause> {
    let description = describe::<T>()?;
    let (memory, about) = look_into(file, access, named)?;
    let differences = description.differences(&about.header.description);
    if !differences.is_empty() {
        return Err(Cause::Type { differences });
    }
    let memory = Arc::new(memory);
    let event = alloc::Layout::new::<T>();
    // SAFETY: what the header says was checked, and that its events have the size and alignment of `T` (`describe`), of
    // which any bytes are a value; and by the header its creator says that it was formatted so. What others make of it since then is
    // checked whenever it is read.
    let ring = unsafe {
        access
            .as_used(&about.header.ring)
            .attach(memory.clone(), event)
    };
    let ring = ring.map_err(Cause::Build)?;
    Ok(Segment {
        ring,
        memory,
        about: Arc::new(about),
    })
}

/// The same as a ring whose events nobody here reads or writes.
pub(crate) fn attach_untyped(
    file: Descriptor,
    access: Access,
    named: Option<(String, PathBuf)>,
) -> Result<(Ring<()>, Arc<Memory>, About), Cause> {
    let (memory, about) = look_into(file, access, named)?;
    let memory = Arc::new(memory);
    // SAFETY: as in `attach`; its events are not looked at.
    let ring = unsafe {
        access
            .as_used(&about.header.ring)
            .attach::<()>(memory.clone(), about.header.event()?)
    };
    Ok((ring.map_err(Cause::Build)?, memory, about))
}

pub(crate) fn look_into(
    file: Descriptor,
    access: Access,
    named: Option<(String, PathBuf)>,
) -> Result<(Memory, About), Cause> {
    let opened = file.borrow()?;
    let stat = retried(|| fstat(opened))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Cause::NotARing);
    }
    let mut bytes = vec![0; MAX_HEADER];
    let mut len = 0;
    while len < MAX_HEADER {
        match retried(|| pread(opened, &mut bytes[len..], len as u64))? {
            0 => break,
            read => len += read,
        }
    }
    let (header, extent) = Header::decode(&bytes[..len], stat.st_size as u64)?;
    // What is not there yet would be taken when it is first used, and that ends processes if there is nothing left. Who
    // removes a ring does not look into it.
    let there = (stat.st_blocks as u64).saturating_mul(512);
    let needed = extent.len as u64;
    if there < needed && access != Access::Remove {
        return Err(Cause::Holes { needed, there });
    }
    // Huge pages are mapped as a whole; no more than there is, and no more than it takes.
    let block = usize::try_from(stat.st_blksize).unwrap_or(1).max(1);
    let whole = extent.len.checked_next_multiple_of(block);
    let there = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    let len = whole.unwrap_or(extent.len).min(there);
    let path = named.as_ref().map(|(_, path)| path.as_path());
    let memory = Memory::map(file, Extent { len, ..extent }, access, path)?;
    let (name, path) = named.unzip();
    Ok((memory, About { name, path, header }))
}

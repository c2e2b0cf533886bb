//! Memory for rings: created whole or not at all, opened, mapped, handed over. Every system call for memory is here.
//!
//! A file is built without a name, all of its pages allocated and touched, and linked to its name when it is done:
//! a creator that dies leaves nothing, and nobody sees half a ring. Its first pages say what it is, see
//! [`header`](crate::header).

use std::alloc;
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use annulus_ring::{BuildError, Lease, Ring, RingBuilder, SharedMemory};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, MemfdFlags, Mode, OFlags, SealFlags, Stat, fallocate,
    fchmod, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, linkat, memfd_create, open,
};
use rustix::io::{Errno, pread, pwrite};

use crate::descriptor::{Descriptor, Map};
use crate::directory::Directory;
use crate::header::{Extent, Header, MAX_HEADER};
use crate::plain::Plain;
use crate::step::{Creation, reach};

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
    ring: Ring<T>,
    memory: Arc<Memory>,
    about: Arc<About>,
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
        SegmentBuilder {
            ring: ring.into(),
            directory: Directory::default(),
            mode: 0o600,
            group: None,
            huge_pages: false,
            locked: false,
            attributes: BTreeMap::new(),
        }
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
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(name: &str, ring: impl Into<RingBuilder>) -> Result<Self, SegmentError> {
        Segment::builder(ring).open_or_create(name)
    }

    /// Creates a ring without a name, to be [handed over](Segment::send): it is gone with the last who has it.
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
        let seals = fcntl_get_seals(&fd).unwrap_or(SealFlags::empty());
        if !seals.contains(SealFlags::SHRINK) {
            return Err(Cause::NotSealed);
        }
        // Opened anew: a description that others have too does not do for locks.
        let file = Descriptor::open(|| File::options().read(true).write(true).open(own_path(&fd)))?;
        attach(file, Access::Write, None)
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

/// How a ring in shared memory is to be made; made by [`Segment::builder`].
///
/// # Examples
/// ```
/// use annulus_ipc::{Directory, Segment};
/// use annulus_ring::{Producers, Ring};
/// # let name = &format!("doc-builder-{}", std::process::id());
///
/// let ring = Segment::builder(Ring::builder(1024).producers(Producers::Many).members(32))
///     .mode(0o660) // also for the group
///     .attribute("schema", "7")
///     .create::<u64>(name)?;
/// assert_eq!(ring.name(), Some(name.as_str()));
/// assert_eq!(Segment::<u64>::open(name)?.attributes()["schema"], "7");
/// Directory::default().unlink(name)?;
/// assert!(!ring.path().unwrap().exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a ring is made by `create`, `open_or_create` or `anonymous`"]
pub struct SegmentBuilder {
    ring: RingBuilder,
    directory: Directory,
    mode: u32,
    group: Option<u32>,
    huge_pages: bool,
    locked: bool,
    attributes: BTreeMap<String, String>,
}

impl SegmentBuilder {
    /// Sets the directory of its name; by default [`Directory::default`].
    ///
    /// # Examples
    /// See [`Directory`].
    pub fn directory(mut self, directory: Directory) -> Self {
        self.directory = directory;
        self
    }

    /// Sets who may read and write it, by the bits of `chmod`; by default its user, `0o600`. Members of the ring have
    /// to be able to do both, observers to read.
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the group that it belongs to, by number; by default that of its creator.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::Segment;
    /// let builder = Segment::builder(1024).mode(0o640).group(1000); // may observe
    /// ```
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Puts it on huge pages of 2 MiB: fewer misses of address translation in a large ring. The system has to have
    /// some reserved (`vm.nr_hugepages`); a ring with a name needs a directory on a `hugetlbfs` too.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::Segment;
    /// match Segment::builder(1 << 20).huge_pages().anonymous::<u64>() {
    ///     Ok(_) => println!("on huge pages"),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// ```
    pub fn huge_pages(mut self) -> Self {
        self.huge_pages = true;
        self
    }

    /// Keeps it from being swapped out, for this process: see [`Segment::lock_memory`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::Segment;
    /// match Segment::builder(1024).locked().anonymous::<u64>() {
    ///     Ok(_) => println!("stays in memory"),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// ```
    pub fn locked(mut self) -> Self {
        self.locked = true;
        self
    }

    /// Says something about it, for who opens it: a version of the schema, a trading date. Some kilobytes in all.
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }

    /// Creates the ring under a name that is free.
    ///
    /// All of its memory is allocated here. A creator that dies leaves nothing.
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    pub fn create<T: Plain>(&self, name: &str) -> Result<Segment<T>, SegmentError> {
        let shown = self.directory.shown(name);
        self.create_named(name).map_err(|cause| cause.of(shown))
    }

    /// Opens the ring of this name or, if there is none, creates it.
    ///
    /// # Errors
    /// See [`Cause`]; [`Cause::Differs`] if the one that is there has another capacity, kind of producers, or so.
    ///
    /// # Examples
    /// See [`Segment::open_or_create`].
    pub fn open_or_create<T: Plain>(&self, name: &str) -> Result<Segment<T>, SegmentError> {
        let shown = self.directory.shown(name);
        for _ in 0..MOST_RACES {
            match self.directory.open::<T>(name) {
                Err(SegmentError {
                    cause: Cause::NotFound,
                    ..
                }) => {}
                Err(error) => return Err(error),
                Ok(segment) => {
                    let differs = self.differs_from(&segment.about.header.ring);
                    return match differs {
                        Some(cause) => Err(cause.of(shown)),
                        None => Ok(segment),
                    };
                }
            }
            match self.create_named(name) {
                Err(Cause::Exists) => {} // Somebody was faster.
                created => return created.map_err(|cause| cause.of(shown)),
            }
        }
        Err(Cause::Exists.of(shown))
    }

    /// Creates the ring without a name: see [`Segment::anonymous`].
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`Segment::send`].
    pub fn anonymous<T: Plain>(&self) -> Result<Segment<T>, SegmentError> {
        self.create_anonymous()
            .map_err(|cause| cause.of("without a name"))
    }

    fn create_named<T: Plain>(&self, name: &str) -> Result<Segment<T>, Cause> {
        let path = self.directory.path_of(name)?;
        let (bytes, extent) = self.header::<T>().encode()?;
        self.directory.make()?;
        let directory = File::open(self.directory.as_path())?;
        if self.huge_pages
            && fstatfs(&directory).map_err(io::Error::from)?.f_type as u64 != HUGETLBFS
        {
            return Err(Cause::HugePages {
                why: "the directory is not on a hugetlbfs: mount one, and use a directory there"
                    .to_owned(),
            });
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = Descriptor::open(|| {
            Ok(open(
                self.directory.as_path(),
                flags,
                Mode::RUSR | Mode::WUSR,
            )?)
        })
        .map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => Cause::NoTemporary,
            _ => error.into(),
        })?;
        // Whatever the mask of this process takes away: it opens the file again, for its locks.
        fchmod(file.borrow()?, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
        let memory = self.fill::<T>(file, &bytes, extent, true)?;
        let file = memory.file.borrow()?;
        fchmod(file, Mode::from_raw_mode(self.mode & 0o777)).map_err(io::Error::from)?;
        if let Some(group) = self.group {
            fchown(file, None, Some(group))?;
        }
        let own = CString::new(own_path(file)).map_err(io::Error::from)?;
        match linkat(CWD, own, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => reach(Creation::Link),
            Err(Errno::EXIST) => return Err(Cause::Exists),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        self.attached(memory, Some((name.to_owned(), path)))
    }

    fn create_anonymous<T: Plain>(&self) -> Result<Segment<T>, Cause> {
        let (bytes, extent) = self.header::<T>().encode()?;
        let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        if self.huge_pages {
            flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        }
        let file = Descriptor::open(|| Ok(memfd_create("annulus", flags)?))?;
        let memory = self.fill::<T>(file, &bytes, extent, false)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(memory.file.borrow()?, seals).map_err(io::Error::from)?;
        self.attached(memory, None)
    }

    fn header<T: Plain>(&self) -> Header {
        let mut ring = self.ring.clone();
        ring.parking.get_or_insert(true);
        Header {
            ring,
            description: T::description(),
            attributes: self.attributes.clone(),
        }
    }

    /// Allocates the memory of a new file, and makes an empty ring of it.
    fn fill<T: Plain>(
        &self,
        file: Descriptor,
        header: &[u8],
        extent: Extent,
        is_named: bool,
    ) -> Result<Memory, Cause> {
        let len = if self.huge_pages {
            extent.len.next_multiple_of(HUGE_PAGE)
        } else {
            extent.len
        };
        let needed = len as u64;
        match fallocate(file.borrow()?, FallocateFlags::empty(), 0, needed) {
            Ok(()) => {}
            Err(Errno::NOMEM | Errno::NOSPC) if self.huge_pages => {
                let pages = len / HUGE_PAGE;
                let why = format!("the system has no {pages} to spare: raise vm.nr_hugepages");
                return Err(Cause::HugePages { why });
            }
            Err(Errno::NOSPC | Errno::NOMEM | Errno::FBIG) => {
                return Err(Cause::NoSpace { needed });
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
        reach(Creation::Allocate);
        let memory = Memory::map(file, extent.ring, Access::Write, is_named)?;
        if self.locked {
            memory
                .map
                .lock_in_memory()
                .map_err(|error| Cause::Locking { error })?;
        }
        if self.huge_pages {
            let start = memory.map.base().as_ptr();
            // SAFETY: the map is as long as the file, which nobody else has yet.
            unsafe { start.copy_from_nonoverlapping(header.as_ptr(), header.len()) };
        } else {
            let written = pwrite(memory.file.borrow()?, header, 0).map_err(io::Error::from)?;
            if written != header.len() {
                return Err(Cause::NoSpace { needed });
            }
        }
        let event = alloc::Layout::new::<T>();
        // SAFETY: the file is as long as `extent` says, and nobody else has it yet.
        unsafe { self.ring.format(memory.base(), event, T::new_zeroed) }.map_err(Cause::Build)?;
        reach(Creation::Format);
        Ok(memory)
    }

    fn attached<T: Plain>(
        &self,
        memory: Memory,
        named: Option<(String, PathBuf)>,
    ) -> Result<Segment<T>, Cause> {
        let (name, path) = named.unzip();
        let about = About {
            name,
            path,
            header: self.header::<T>(),
        };
        let event = alloc::Layout::new::<T>();
        let memory = Arc::new(memory);
        // SAFETY: formatted for it by `fill`; of a `Plain` type any bytes are a value.
        let ring =
            unsafe { about.header.ring.attach(memory.clone(), event) }.map_err(Cause::Build)?;
        Ok(Segment {
            ring,
            memory,
            about: Arc::new(about),
        })
    }

    fn differs_from(&self, there: &RingBuilder) -> Option<Cause> {
        let mut wanted = self.ring.clone();
        wanted.parking.get_or_insert(true);
        let shown = |builder: &RingBuilder| {
            format!(
                "capacity {}, {:?} {}, layout {:?}, {} members of which {} consumers are required, parking {}, observable {}",
                builder.capacity,
                builder.producers,
                "producer(s)",
                builder.layout,
                builder.members,
                builder.required_consumers,
                builder.parking.unwrap_or(true),
                builder.observable,
            )
        };
        let (wanted, there) = (shown(&wanted), shown(there));
        (wanted != there).then_some(Cause::Differs { wanted, there })
    }
}

/// How often somebody else may create and remove a name between two looks of ours.
const MOST_RACES: u32 = 100;

const HUGE_PAGE: usize = 2 << 20;

/// How a `hugetlbfs` calls itself.
const HUGETLBFS: u64 = 0x9584_58f6;

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

/// Opens what this file, which has been opened for it alone, has in it, as a ring of `T`.
pub(crate) fn attach<T: Plain>(
    file: Descriptor,
    access: Access,
    named: Option<(String, PathBuf)>,
) -> Result<Segment<T>, Cause> {
    let (memory, about) = look_into(file, access, named)?;
    let differences = T::description().differences(&about.header.description);
    if !differences.is_empty() {
        return Err(Cause::Type { differences });
    }
    let memory = Arc::new(memory);
    let event = alloc::Layout::new::<T>();
    // SAFETY: what the header says was checked, and that its events are those of `T`, of which any bytes are a
    // value; and by the header its creator says that it was formatted so. What others make of it since then is
    // checked whenever it is read.
    let ring = unsafe { about.header.ring.attach(memory.clone(), event) }.map_err(Cause::Build)?;
    Ok(Segment {
        ring,
        memory,
        about: Arc::new(about),
    })
}

/// The same as a ring whose events nobody reads.
pub(crate) fn attach_untyped(
    file: Descriptor,
    named: Option<(String, PathBuf)>,
) -> Result<(Ring<()>, Arc<Memory>, About), Cause> {
    let (memory, about) = look_into(file, Access::Inspect, named)?;
    let memory = Arc::new(memory);
    // SAFETY: as in `attach`; of its events nothing is read.
    let ring = unsafe {
        about
            .header
            .ring
            .attach::<()>(memory.clone(), about.header.event()?)
    };
    Ok((ring.map_err(Cause::Build)?, memory, about))
}

pub(crate) fn look_into(
    file: Descriptor,
    access: Access,
    named: Option<(String, PathBuf)>,
) -> Result<(Memory, About), Cause> {
    let stat = fstat(file.borrow()?).map_err(io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Cause::NotARing);
    }
    let mut bytes = vec![0; MAX_HEADER];
    let mut len = 0;
    while len < MAX_HEADER {
        match pread(file.borrow()?, &mut bytes[len..], len as u64).map_err(io::Error::from)? {
            0 => break,
            read => len += read,
        }
    }
    let (header, extent) = Header::decode(&bytes[..len], stat.st_size as u64)?;
    let memory = Memory::map(file, extent.ring, access, named.is_some())?;
    let (name, path) = named.unzip();
    Ok((memory, About { name, path, header }))
}

/// The name by which this process can open a file that it has open.
fn own_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// A ring's file, mapped, with the locks in it.
///
/// Byte 0 of the file is the lock of the member table, byte `1 + row` the lease of a row. The descriptor `locks`
/// has an open file description that is neither mapped nor a member's: it tests for leases, as locks of the same
/// description are not seen, and locks the table. Each lease has a description of its own.
pub(crate) struct Memory {
    map: Map,
    file: Descriptor,
    locks: Descriptor,
    /// Where the ring starts in the map.
    ring: usize,
    is_named: bool,
}

impl Memory {
    fn map(file: Descriptor, ring: usize, access: Access, is_named: bool) -> Result<Self, Cause> {
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

    fn lock_table(&self, patient: bool) -> bool {
        for tries in 0..MOST_TRIES {
            match self.locks.try_lock(TABLE) {
                Ok(true) => return true,
                Ok(false) if patient => {}
                Ok(false) | Err(_) => return false,
            }
            if tries < MOST_TRIES / 50 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(BETWEEN_TRIES);
            }
        }
        false
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
        if !self.lock_table(false) {
            return None;
        }
        let changed = change();
        self.unlock_table();
        Some(changed)
    }
}

/// How often to try to lock the table, most of them a millisecond apart: so some seconds, which nobody who works
/// takes for a join.
const MOST_TRIES: u32 = 5_000;

const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_millis(1);

/// That a ring in shared memory was not created, opened, or changed.
///
/// # Examples
/// ```
/// # use annulus_ipc::{Cause, Segment};
/// let error = Segment::<u64>::open("no-such-ring").unwrap_err();
/// assert!(matches!(error.cause, Cause::NotFound));
/// assert!(error.to_string().ends_with("no-such-ring: there is no such ring: create it first"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct SegmentError {
    /// The ring: its file, or that it has no name.
    pub ring: String,
    /// Why.
    pub cause: Cause,
}

/// Why a ring in shared memory was not created, opened, or changed.
///
/// # Examples
/// See [`SegmentError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The name is empty, longer than 200 bytes, starts with a dot, or has other characters than letters, digits,
    /// dots, hyphens and underscores.
    BadName,
    /// There is a ring, or another file, of this name.
    Exists,
    /// There is no ring of this name.
    NotFound,
    /// What is there belongs to others, who have not let this user in.
    NotAllowed,
    /// What is there is no ring.
    NotARing,
    /// It was made by a version of this library whose rings lie differently in memory.
    Version {
        /// Its version of the layout.
        major: u16,
        /// Changes that old readers need not know.
        minor: u16,
    },
    /// It was made on a machine that orders bytes differently.
    ByteOrder,
    /// It has features that this version of the library does not know.
    Features {
        /// Their bits.
        unknown: u64,
    },
    /// What it says of itself cannot be.
    Damaged(&'static str),
    /// Its events are of another type.
    Type {
        /// How that differs from the type here.
        differences: Vec<String>,
    },
    /// It is not such as was to be created.
    Differs {
        /// What was to be created.
        wanted: String,
        /// What is there.
        there: String,
    },
    /// The ring cannot be built so.
    Build(BuildError),
    /// An event is aligned to more than a page.
    Alignment {
        /// To so many bytes.
        align: usize,
    },
    /// The description of its type and its attributes are too long.
    Texts {
        /// How many bytes they may have.
        most: usize,
    },
    /// A key of an attribute is empty or has an equals sign, or it or its value a control character.
    Attribute {
        /// The key.
        key: String,
    },
    /// There is not so much memory.
    NoSpace {
        /// How many bytes it takes.
        needed: u64,
    },
    /// The system has no such pages for it.
    HugePages {
        /// Why.
        why: String,
    },
    /// The system does not keep it in memory.
    Locking {
        /// What it says.
        error: io::Error,
    },
    /// The file system of the directory has no files without a name, in which a ring is built.
    NoTemporary,
    /// It was handed over in memory that could be cut short.
    NotSealed,
    /// It has living members.
    InUse,
    /// The system refuses for another reason.
    System(io::Error),
}

impl Cause {
    pub(crate) fn of(self, ring: impl Into<String>) -> SegmentError {
        SegmentError {
            ring: ring.into(),
            cause: self,
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            _ => Self::System(error),
        }
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring {}: {}", self.ring, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str(
                "a name has 1 to 200 letters, digits, dots, hyphens and underscores, and does not start with a \
                 dot: choose another",
            ),
            Self::Exists => {
                f.write_str("the name is taken: open that ring, or unlink it first (`annulus gc` does, of unused ones)")
            }
            Self::NotFound => f.write_str("there is no such ring: create it first"),
            Self::NotAllowed => f.write_str(
                "this user may not do that: its creator lets others in by the mode and the group (observers need \
                 to read, members to write too)",
            ),
            Self::NotARing => f.write_str("there is a file of that name, but it is no ring"),
            Self::Version { major, minor } => write!(
                f,
                "it was made by another version of this library (layout {major}.{minor}, here it is {}): use the same \
                 version on both sides",
                crate::header::MAJOR
            ),
            Self::ByteOrder => f.write_str("it was made on a machine that orders bytes differently"),
            Self::Features { unknown } => write!(
                f,
                "it has features that this version of the library does not know (bits {unknown:#x}): use a newer one"
            ),
            Self::Damaged(what) => {
                write!(f, "it is damaged ({what}): unlink it, and create it anew")
            }
            Self::Type { differences } => write!(
                f,
                "its events are of another type: {}. Build both sides from the same definition",
                differences.join("; ")
            ),
            Self::Differs { wanted, there } => {
                write!(f, "there is another one: {there}; wanted: {wanted}")
            }
            Self::Build(error) => error.fmt(f),
            Self::Alignment { align } => {
                write!(f, "its events are aligned to {align} bytes, and more than 4096 cannot be had")
            }
            Self::Texts { most } => write!(
                f,
                "the description of its type and its attributes take more than {most} bytes: say less"
            ),
            Self::Attribute { key } => write!(
                f,
                "attribute {key:?} has an empty key, an equals sign in its key, or a control character"
            ),
            Self::NoSpace { needed } => write!(
                f,
                "it takes {needed} bytes of shared memory, and there are not so many: make the ring smaller, or the file \
                 system larger"
            ),
            Self::HugePages { why } => write!(f, "no huge pages: {why}"),
            Self::Locking { error } => write!(
                f,
                "the system does not lock its memory ({error}): raise the limit, RLIMIT_MEMLOCK or `ulimit -l`"
            ),
            Self::NoTemporary => f.write_str(
                "the file system of that directory cannot make files without a name: use another, as /dev/shm",
            ),
            Self::NotSealed => f.write_str(
                "it lies in memory that is not sealed, and could be cut short: hand over what Segment::anonymous makes",
            ),
            Self::InUse => f.write_str("it has living members: end them first"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl Error for SegmentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::System(error) | Cause::Locking { error } => Some(error),
            Cause::Build(error) => Some(error),
            _ => None,
        }
    }
}

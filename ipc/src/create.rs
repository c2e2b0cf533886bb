//! Making a ring, whole or not at all.
//!
//! A file is built without a name, all of its pages allocated and touched, and linked to its name when it is done:
//! a creator that dies leaves nothing, and nobody sees half a ring. Its first pages say what it is, see
//! [`header`](crate::header).

use std::alloc;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annulus_ring::{Liveness, Producers, RingBuilder, SharedMemory};
use rustix::fs::{
    AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, fstatfs, linkat,
    memfd_create, open,
};
use rustix::io::{Errno, pwrite};

use crate::descriptor::{Descriptor, own_path};
use crate::directory::Directory;
use crate::header::{Extent, Header, PAGE, describe};
use crate::interrupted::{allocate, retried};
use crate::memory::{Access, Memory};
use crate::plain::Plain;
use crate::refusal::{Cause, SegmentError};
use crate::room::room;
use crate::segment::{About, Segment};
use crate::step::{Creation, reach};

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
    pub(crate) fn new(ring: RingBuilder) -> Self {
        Self {
            ring,
            directory: Directory::default(),
            mode: 0o600,
            group: None,
            huge_pages: false,
            locked: false,
            attributes: BTreeMap::new(),
        }
    }

    /// Sets the directory of its name; by default [`Directory::default`].
    ///
    /// # Examples
    /// See [`Directory`].
    pub fn directory(mut self, directory: Directory) -> Self {
        self.directory = directory;
        self
    }

    /// Sets who may read and write it, by the bits of `chmod`; by default its user, `0o600`. Members of the ring have
    /// to be able to do both, its own user among them, and observers to read.
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

    /// Says something about it to those that open it: a version of the schema, a trading date. Some kilobytes in all.
    ///
    /// # Examples
    /// See [`SegmentBuilder`].
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }

    /// Creates the ring under a name that is free.
    ///
    /// All of its memory is allocated here. A creator that dies leaves nothing. A ring for which there is no memory, by
    /// what the system has available or a cgroup of this process leaves, is refused before any of it is taken
    /// ([`Cause::NoMemory`]); two that are made at the same time can still take more than there is.
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

    /// Opens the ring of this name or, if there is none or it is over, creates it: see [`Segment::open_or_create`].
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
                Err(error) => {
                    let is_another = matches!(error.cause, Cause::Type { .. });
                    if !is_another || !self.is_out_of_the_way(name)? {
                        return Err(error);
                    }
                }
                Ok(segment) => {
                    segment.close_if_asked();
                    let is_over = segment.is_closed() && self.is_out_of_the_way(name)?;
                    if !is_over && !segment.is_unlinked() {
                        let differs = self.differs_from(&segment.about.header.ring);
                        return match differs {
                            Some(cause) => Err(cause.of(shown)),
                            None => Ok(segment),
                        };
                    }
                }
            }
            match self.create_named(name) {
                Err(Cause::Exists) => {} // Somebody was faster.
                created => return created.map_err(|cause| cause.of(shown)),
            }
        }
        Err(Cause::Exists.of(shown))
    }

    /// Creates the ring without a name: see [`Segment::anonymous`]. No file system limits its size: what
    /// [`SegmentBuilder::create`] says of memory is the only limit.
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

    /// Removes the ring of this name if it is over.
    fn is_out_of_the_way(&self, name: &str) -> Result<bool, SegmentError> {
        let removed = self.directory.remove_over(name);
        removed.map_err(|cause| cause.of(self.directory.shown(name)))
    }

    fn create_named<T: Plain>(&self, name: &str) -> Result<Segment<T>, Cause> {
        let path = self.directory.path_of(name)?;
        let header = self.header::<T>()?;
        let (bytes, extent) = header.encode()?;
        let refused = |cause| self.directory.refused(cause);
        self.directory.make().map_err(refused)?;
        let directory = File::open(self.directory.as_path());
        let directory = directory.map_err(|error| refused(error.into()))?;
        if self.huge_pages && retried(|| fstatfs(&directory))?.f_type as u64 != HUGETLBFS {
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
            _ => refused(error.into()),
        })?;
        // Whatever the mask of this process takes away: it opens the file again, for its locks.
        let opened = file.borrow()?;
        retried(|| fchmod(opened, Mode::RUSR | Mode::WUSR))?;
        let mut memory = self.fill::<T>(file, &bytes, extent, Some(&path))?;
        let file = memory.file.borrow()?;
        retried(|| fchmod(file, Mode::from_raw_mode(self.mode & 0o777)))?;
        if let Some(group) = self.group {
            retried(|| fchown(file, None, Some(group))).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    let why = format!(
                        "it cannot be given to group {group}, to which this user does not belong ({error}): join that \
                         group, or choose another"
                    );
                    Cause::System(io::Error::new(error.kind(), why))
                }
                _ => error.into(),
            })?;
        }
        let own = own_path(file)?;
        let linked = retried(|| linkat(CWD, &own, CWD, &path, AtFlags::SYMLINK_FOLLOW));
        linked.map_err(|error| refused(error.into()))?;
        reach(Creation::Link);
        memory.know_as(&path);
        attached(memory, header, Some((name.to_owned(), path)))
    }

    fn create_anonymous<T: Plain>(&self) -> Result<Segment<T>, Cause> {
        let header = self.header::<T>()?;
        let (bytes, extent) = header.encode()?;
        let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        if self.huge_pages {
            flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        }
        let file = Descriptor::open(|| Ok(memfd_create(ANONYMOUS, flags)?));
        let file = file.map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENODEV) if self.huge_pages => Cause::HugePages {
                why: format!("this system has none of 2 MiB ({error})"),
            },
            _ => error.into(),
        })?;
        let memory = self.fill::<T>(file, &bytes, extent, None)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let file = memory.file.borrow()?;
        retried(|| fcntl_add_seals(file, seals))?;
        attached(memory, header, None)
    }

    /// How large the pages of this file are, of which it has to have whole ones.
    fn page(&self, file: &Descriptor) -> Result<usize, Cause> {
        if !self.huge_pages {
            return Ok(PAGE);
        }
        let file = file.borrow()?;
        let page = retried(|| fstatfs(file))?.f_bsize as usize;
        Ok(page.max(PAGE))
    }

    fn header<T: Plain>(&self) -> Result<Header, Cause> {
        let mut ring = self.ring.clone();
        ring.parking.get_or_insert(true);
        Ok(Header {
            ring,
            description: describe::<T>()?,
            attributes: self.attributes.clone(),
        })
    }

    /// Allocates the memory of a new file, and makes an empty ring of it.
    fn fill<T: Plain>(
        &self,
        file: Descriptor,
        header: &[u8],
        extent: Extent,
        path: Option<&Path>,
    ) -> Result<Memory, Cause> {
        let page = self.page(&file)?;
        let len = extent.len.next_multiple_of(page);
        let extent = Extent { len, ..extent };
        let needed = len as u64;
        look_for_room(&file, needed)?;
        match allocate(file.borrow()?, needed, page as u64) {
            Ok(()) => {}
            Err(Errno::NOMEM | Errno::NOSPC) if self.huge_pages => {
                let pages = len / page;
                let why = format!(
                    "the system has no {pages} of {page} bytes to spare: raise vm.nr_hugepages"
                );
                return Err(Cause::HugePages { why });
            }
            Err(error) if self.huge_pages => {
                let why = format!("the system refuses those of {page} bytes ({error})");
                return Err(Cause::HugePages { why });
            }
            Err(Errno::NOSPC | Errno::NOMEM | Errno::FBIG) => {
                return Err(Cause::NoSpace { needed });
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
        reach(Creation::Allocate);
        let memory = Memory::map(file, extent, Access::Write, path)?;
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
            let file = memory.file.borrow()?;
            let written = retried(|| pwrite(file, header, 0))?;
            if written != header.len() {
                return Err(Cause::NoSpace { needed });
            }
        }
        let event = alloc::Layout::new::<T>();
        // SAFETY: the file is as long as `extent` says, which goes by the size and alignment of `T` (`describe`), and
        // nobody else has it yet. What was allocated is zeroes, of which any type that is `Plain` has a value.
        unsafe { self.ring.format_zeroed(memory.base(), event) }.map_err(Cause::Build)?;
        reach(Creation::Format);
        Ok(memory)
    }

    fn differs_from(&self, there: &RingBuilder) -> Option<Cause> {
        let mut wanted = self.ring.clone();
        wanted.parking.get_or_insert(true);
        let settings = shown(&wanted).into_iter().zip(shown(there));
        let (wanted, there): (Vec<_>, Vec<_>) = settings.filter(|(a, b)| a != b).unzip();
        let (wanted, there) = (wanted.join(", "), there.join(", "));
        (wanted != there).then_some(Cause::Differs { wanted, there })
    }
}

/// How a ring is built, a phrase for each setting.
fn shown(ring: &RingBuilder) -> [String; 7] {
    let with = |is_so, what| format!("{} {what}", if is_so { "with" } else { "without" });
    [
        format!("capacity {}", ring.capacity),
        match ring.producers {
            Producers::One => "one producer".to_owned(),
            Producers::Many => "many producers".to_owned(),
        },
        format!("layout {:?}", ring.layout),
        format!("{} members", ring.members),
        format!("required consumers {}", ring.required_consumers),
        with(ring.parking.unwrap_or(true), "parking"),
        with(ring.observable, "observers"),
    ]
}

/// Refuses a file of this length for which there is no space or memory, before any of it is taken.
fn look_for_room(file: &Descriptor, needed: u64) -> Result<(), Cause> {
    let file = file.borrow()?;
    let system = retried(|| fstatfs(file))?;
    if system.f_type as u64 != TMPFS {
        return Ok(()); // Huge pages are counted apart, and what lies on a disk leaves memory.
    }
    let free = (system.f_bavail as u64).saturating_mul(system.f_bsize as u64);
    if system.f_blocks != 0 && free < needed {
        return Err(Cause::NoSpace { needed });
    }
    match room() {
        Some(room) if room.bytes < needed => Err(Cause::NoMemory {
            needed,
            available: room.bytes,
            limit: room.limit,
        }),
        _ => Ok(()),
    }
}

/// A ring that [`SegmentBuilder::fill`] has made, as a value.
fn attached<T: Plain>(
    memory: Memory,
    header: Header,
    named: Option<(String, PathBuf)>,
) -> Result<Segment<T>, Cause> {
    let (name, path) = named.unzip();
    let about = About { name, path, header };
    let event = alloc::Layout::new::<T>();
    let memory = Arc::new(memory);
    // SAFETY: formatted for it by `fill`; of a `Plain` type any bytes are a value.
    let ring = unsafe { about.header.ring.attach(memory.clone(), event) }.map_err(Cause::Build)?;
    Ok(Segment {
        ring,
        memory,
        about: Arc::new(about),
    })
}

impl<T> Segment<T> {
    /// Closes a ring that was to be closed by its only producer, which has died before it did. A member that waits
    /// there does that; but perhaps there is none.
    fn close_if_asked(&self) {
        let members = self.about.header.ring.members;
        if !self.is_closed() && !self.memory.is_used(members) {
            self.recover(&Unleased(&self.memory));
        }
    }
}

/// Whose row has no lease is dead.
struct Unleased<'m>(&'m Memory);

// SAFETY: who has no lease has ended, as a `SharedMemory` says by its items 3 and 4, or has left or not yet begun.
unsafe impl Liveness for Unleased<'_> {
    type Proof = ();

    fn prove_dead(&self, row: usize) -> Option<()> {
        (!self.0.is_leased(row)).then_some(())
    }
}

/// How often somebody else may create and remove a name between two looks of ours.
const MOST_RACES: u32 = 100;

/// What the system calls the memory of a ring without a name.
pub(crate) const ANONYMOUS: &str = "annulus";

/// How a `tmpfs` calls itself, and memory without a name.
const TMPFS: u64 = 0x0102_1994;

/// How a `hugetlbfs` calls itself.
const HUGETLBFS: u64 = 0x9584_58f6;

//! Names of rings: the directory they are in, what is there, and what can go.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulus_ring::{Member, Ring, RingBuilder, SharedMemory, Snapshot};
use rustix::fs::{CWD, RenameFlags, fstat, renameat_with};

use crate::descriptor::Descriptor;
use crate::interrupted::retried;
use crate::memory::{Access, Memory};
use crate::plain::{Description, Plain};
use crate::refusal::{Cause, SegmentError};
use crate::segment::{About, Segment, attach, attach_untyped, look_into};
use crate::step::{Creation, reach};
use crate::view::View;

/// A directory of rings, by default `/dev/shm/annulus`, or what the environment variable `ANNULUS_DIR` says.
///
/// It is made when it is first needed, so that any user can have rings in it, and remove only their own; who has made
/// it can remove all names in it. As anybody may leave a file there under any name, only rings of this user and of root
/// are opened, unless [others are trusted](Directory::trust). It has to be on a file system that keeps its files in memory, a `tmpfs` or
/// `hugetlbfs`: on a disk it works, and is as slow.
///
/// # Examples
/// ```
/// use annulus_ipc::{Directory, Segment};
///
/// let mine = Directory::at(format!("/dev/shm/annulus-doc-{}", std::process::id()));
/// let ring = Segment::builder(8).directory(mine.clone()).create::<u64>("quotes")?;
/// assert_eq!(mine.names()?, ["quotes"]);
/// assert_eq!(mine.inspect("quotes")?.snapshot().capacity, 8);
/// mine.unlink("quotes")?;
/// # std::fs::remove_dir(mine.as_path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    trusted: Trusted,
}

/// Whose rings are opened, beside those of this user and of root.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trusted {
    Users(Vec<u32>),
    Everybody,
}

impl Default for Directory {
    fn default() -> Self {
        let chosen = env::var_os("ANNULUS_DIR").filter(|path| !path.is_empty());
        Self::at(chosen.map_or_else(|| PathBuf::from("/dev/shm/annulus"), PathBuf::from))
    }
}

impl Directory {
    /// The directory at this path.
    ///
    /// # Examples
    /// See [`Directory`].
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            trusted: Trusted::Users(Vec::new()),
        }
    }

    /// Also opens rings that belong to this user, by number. That user can then write whatever it likes to them, and end
    /// this process by cutting their files short.
    ///
    /// # Examples
    /// ```
    /// use annulus_ipc::{Cause, Directory};
    ///
    /// let desk = Directory::default().trust(1000).trust(1001);
    /// match desk.open::<u64>("quotes") {
    ///     Ok(ring) => println!("it is ours, of root, or of one of the two: {ring:?}"),
    ///     Err(error) if matches!(error.cause, Cause::NotTrusted { .. }) => eprintln!("{error}"), // says of which user
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// ```
    #[must_use]
    pub fn trust(mut self, user: u32) -> Self {
        if let Trusted::Users(users) = &mut self.trusted {
            users.push(user);
        }
        self
    }

    /// Opens rings of all users, of whom any may have taken any name: for a directory in which only trusted users can
    /// make files.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::Directory;
    /// let of_the_group = Directory::at("/dev/shm/desk").trust_everybody(); // of mode 2770
    /// ```
    #[must_use]
    pub fn trust_everybody(mut self) -> Self {
        self.trusted = Trusted::Everybody;
        self
    }

    /// Its path.
    ///
    /// # Examples
    /// See [`Directory`].
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Opens the ring of this name.
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Cause, Directory};
    /// let error = Directory::default().open::<u64>("no-such-ring").unwrap_err();
    /// assert!(matches!(error.cause, Cause::NotFound));
    /// ```
    pub fn open<T: Plain>(&self, name: &str) -> Result<Segment<T>, SegmentError> {
        let opened = self
            .file_of(name, Access::Write)
            .and_then(|(file, path)| attach(file, Access::Write, Some((name.to_owned(), path))));
        opened.map_err(|cause| cause.of(self.shown(name)))
    }

    /// Opens the ring of this name to look at it: this process cannot write to it.
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`View`].
    pub fn view<T: Plain>(&self, name: &str) -> Result<View<T>, SegmentError> {
        let opened = self
            .file_of(name, Access::Read)
            .and_then(|(file, path)| attach(file, Access::Read, Some((name.to_owned(), path))));
        opened
            .map(View::new)
            .map_err(|cause| cause.of(self.shown(name)))
    }

    /// Looks at the ring of this name, whatever the type of its events, and whichever user owns it.
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`Inspection`].
    pub fn inspect(&self, name: &str) -> Result<Inspection, SegmentError> {
        let opened = self
            .file_of(name, Access::Inspect)
            .and_then(|(file, path)| Inspection::of(file, Some((name.to_owned(), path))));
        opened.map_err(|cause| cause.of(self.shown(name)))
    }

    /// The names of the files in it, in order: rings, and whatever else is there. None if there is no such directory.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Examples
    /// See [`Directory`].
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match retried(|| fs::read_dir(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && is_name(name)
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes the name of a ring: its memory is freed when the last process that has it mapped lets go. Those
    /// who have it go on; nobody joins it any more.
    ///
    /// # Errors
    /// See [`Cause`].
    ///
    /// # Examples
    /// See [`Directory`].
    pub fn unlink(&self, name: &str) -> Result<(), SegmentError> {
        let unlinked = self
            .path_of(name)
            .and_then(|path| Ok(retried(|| fs::remove_file(&path))?));
        unlinked.map_err(|cause| cause.of(self.shown(name)))
    }

    /// Removes the ring of this name if it has no living members: nobody is lost who joins at the same time.
    ///
    /// # Errors
    /// [`Cause::InUse`], and others, see [`Cause`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Cause, Directory, Segment};
    /// # let name = &format!("doc-unused-{}", std::process::id());
    /// let ring = Segment::<u64>::create(name, 8)?;
    /// let feed = ring.producer()?;
    /// let error = Directory::default().unlink_unused(name).unwrap_err();
    /// assert!(matches!(error.cause, Cause::InUse));
    /// drop(feed);
    /// Directory::default().unlink_unused(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unlink_unused(&self, name: &str) -> Result<(), SegmentError> {
        self.unlink_unused_once(name, || Ok(true)).map(|_| ())
    }

    /// Removes the ring of this name if it has no living members, and says whether it has: not if what is found in it
    /// then, while nobody can join, speaks against it.
    ///
    /// # Errors
    /// [`Cause::InUse`], and others, see [`Cause`].
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-unused-if-{}", std::process::id());
    /// Segment::<u64>::create(name, 8)?.producer()?.publish_value(7)?;
    /// let is_empty = |published| move |ring: &annulus_ring::Snapshot| ring.published == published;
    /// assert!(!Directory::default().unlink_unused_if(name, is_empty(0))?);
    /// assert!(Directory::default().unlink_unused_if(name, is_empty(1))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unlink_unused_if(
        &self,
        name: &str,
        may_go: impl FnOnce(&Snapshot) -> bool,
    ) -> Result<bool, SegmentError> {
        self.unlink_unused_once(name, || {
            let found = self.inspect(name).map_err(|error| error.cause)?;
            Ok(may_go(&found.snapshot()))
        })
    }

    fn unlink_unused_once(
        &self,
        name: &str,
        may_go: impl FnOnce() -> Result<bool, Cause>,
    ) -> Result<bool, SegmentError> {
        let unlinked = self.file_of(name, Access::Remove).and_then(|(file, path)| {
            let (memory, about) = look_into(file, Access::Remove, None)?;
            let is_it_still = || memory.is_file_of(&path);
            // Who joins has the table locked, and looks then whether the file still has its name.
            let unlinked = memory.while_locked(|| {
                if memory.is_used(about.header.ring.members) || !is_it_still()? {
                    return Err(Cause::InUse);
                }
                let goes = may_go()?;
                if goes {
                    retried(|| fs::remove_file(&path))?;
                }
                Ok(goes)
            });
            unlinked.unwrap_or(Err(Cause::InUse))
        });
        unlinked.map_err(|cause| cause.of(self.shown(name)))
    }

    /// Removes the ring of this name if it is over: closed, without a living member, and without events that are held
    /// for the successor of a dead one. Says whether the name is free now, or another's.
    pub(crate) fn remove_over(&self, name: &str) -> Result<bool, Cause> {
        let (file, path) = match self.file_of(name, Access::Remove) {
            Err(Cause::NotFound) => return Ok(true),
            opened => opened?,
        };
        let named = Some((name.to_owned(), path.clone()));
        let (ring, memory, about) = attach_untyped(file, Access::Remove, named)?;
        let is_over = || {
            let snapshot = ring.snapshot();
            // Behind a claim of a dead producer, which nobody has abandoned yet, there can be more than is published.
            let is_held = |member: &Member| member.is_held && member.position < snapshot.claimed;
            snapshot.closed && !snapshot.members.iter().any(is_held)
        };
        // Somebody joins, or is doing the same: that does not take long.
        let is_locked = (0..MOST_TRIES).any(|_| {
            memory.lock_table() || {
                thread::sleep(BETWEEN_TRIES);
                false
            }
        });
        if !is_locked {
            return Ok(false);
        }
        let removed = match memory.is_file_of(&path) {
            Ok(true) if memory.is_used(about.header.ring.members) || !is_over() => Ok(false),
            Ok(true) => match retried(|| fs::remove_file(&path)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Cause::Closed),
                removed => removed.map(|()| true).map_err(Cause::from),
            },
            _ => Ok(true), // Somebody else has removed it.
        };
        memory.unlock_table();
        removed
    }

    /// Why nothing is done in it, if what is not allowed is a matter of the directory.
    pub(crate) fn refused(&self, cause: Cause) -> Cause {
        let Cause::NotAllowed = cause else {
            return cause;
        };
        let directory = self.path.display().to_string();
        let owner = fs::metadata(&self.path).map(|stat| stat.uid()).ok();
        Cause::Directory { directory, owner }
    }

    pub(crate) fn path_of(&self, name: &str) -> Result<PathBuf, Cause> {
        if !is_name(name) {
            return Err(Cause::BadName);
        }
        Ok(self.path.join(name))
    }

    pub(crate) fn shown(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Makes sure that it is there, for everybody: as /tmp is, all may have files there, and remove only their own.
    ///
    /// It is made under another name, as it cannot be made with its mode, from which the system takes what this process
    /// masks: one that is killed before it has set the mode leaves an empty directory that nobody looks for, and not one
    /// of the right name that shuts out all other users for ever.
    pub(crate) fn make(&self) -> Result<(), Cause> {
        if retried(|| fs::metadata(&self.path)).is_ok() {
            return Ok(());
        }
        let made = self.make_beside().and_then(|made| {
            reach(Creation::Directory);
            let mode = fs::Permissions::from_mode(0o1777);
            let moved = retried(|| fs::set_permissions(&made, mode.clone())).and_then(|()| {
                let flags = RenameFlags::NOREPLACE;
                match retried(|| renameat_with(CWD, &made, CWD, &self.path, flags)) {
                    // A file system that cannot do that replaces a directory only if it is empty.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        retried(|| fs::rename(&made, &self.path))
                    }
                    renamed => renamed,
                }
            });
            if moved.is_err() {
                let _ = fs::remove_dir(&made); // It is in nobody's way.
            }
            moved
        });
        match made {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = self.path.display();
                let why = format!("there is nothing in which {path} could be made: make it first");
                Err(Cause::System(io::Error::new(error.kind(), why)))
            }
            made => Ok(made?),
        }
    }

    /// Makes an empty directory of a name that nobody has.
    fn make_beside(&self) -> io::Result<PathBuf> {
        let name = self.path.file_name().ok_or(io::ErrorKind::NotFound)?;
        let mut n = 0;
        loop {
            let beside = format!(".{}-{}-{n}", name.display(), process::id());
            let beside = self.path.with_file_name(beside);
            match retried(|| fs::create_dir(&beside)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
                made => return made.map(|()| beside),
            }
        }
    }

    pub(crate) fn file_of(
        &self,
        name: &str,
        access: Access,
    ) -> Result<(Descriptor, PathBuf), Cause> {
        let path = self.path_of(name)?;
        let write = access.writes();
        let file = Descriptor::open(|| {
            // No link is followed, which could lead out of the directory; nothing is waited for, which a pipe would.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
            File::options()
                .read(true)
                .write(write)
                .custom_flags(flags)
                .open(&path)
        });
        let file = file.map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP | libc::ENXIO | libc::EISDIR) => Cause::NotARing,
            // Not even to see whether there is a file.
            Some(libc::EACCES) if retried(|| fs::symlink_metadata(&path)).is_err() => {
                self.refused(Cause::NotAllowed)
            }
            _ => error.into(),
        })?;
        // To look at it, or to remove it, takes no trust: nothing is believed of what it says.
        if matches!(access, Access::Write | Access::Read) {
            let opened = file.borrow()?;
            let owner = retried(|| fstat(opened))?.st_uid;
            if !self.trusts(owner) {
                return Err(Cause::NotTrusted { owner });
            }
        }
        Ok((file, path))
    }

    fn trusts(&self, owner: u32) -> bool {
        let is_own = owner == 0 || owner == rustix::process::geteuid().as_raw();
        match &self.trusted {
            Trusted::Everybody => true,
            Trusted::Users(users) => is_own || users.contains(&owner),
        }
    }
}

/// How often to try to lock a table: for a second.
const MOST_TRIES: u32 = 1_000;

const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// Whether a ring can be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (1..=200).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_fine)
}

impl Memory {
    /// Whether this path leads to it.
    pub(crate) fn is_file_of(&self, path: &Path) -> io::Result<bool> {
        let (own, there) = (self.stat()?, retried(|| fs::symlink_metadata(path))?);
        Ok(own.st_dev == there.dev() && own.st_ino == there.ino())
    }
}

/// A look at a ring whose events are of any type; made by [`Directory::inspect`].
///
/// # Examples
/// ```
/// use annulus_ipc::{Directory, Segment};
/// # let name = &format!("doc-inspect-{}", std::process::id());
///
/// let ring = Segment::<u64>::create(name, 8)?;
/// ring.producer()?.publish_value(7)?;
/// let inspection = Directory::default().inspect(name)?;
/// assert_eq!(inspection.description().text(), "u64 size 8 align 8");
/// assert_eq!(inspection.snapshot().published, 1);
/// # Directory::default().unlink(name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Inspection {
    ring: Ring<()>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) about: About,
}

impl Inspection {
    pub(crate) fn of(file: Descriptor, named: Option<(String, PathBuf)>) -> Result<Self, Cause> {
        let (ring, memory, about) = attach_untyped(file, Access::Inspect, named)?;
        Ok(Self {
            ring,
            memory,
            about,
        })
    }

    /// The type of its events.
    ///
    /// # Examples
    /// See [`Inspection`].
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.about.header.description
    }

    /// How the ring was built.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-built-{}", std::process::id());
    /// let ring = Segment::<u64>::create(name, 8)?;
    /// assert_eq!(Directory::default().inspect(name)?.built().capacity, 8);
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn built(&self) -> &RingBuilder {
        &self.about.header.ring
    }

    /// What its creator has said about it.
    ///
    /// # Examples
    /// See [`SegmentBuilder::attribute`](crate::SegmentBuilder::attribute).
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.about.header.attributes
    }

    /// How many bytes of memory it takes.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-size-{}", std::process::id());
    /// let ring = Segment::<u64>::create(name, 1024)?;
    /// assert!(Directory::default().inspect(name)?.size()? >= 1024 * 16);
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the system says.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.memory.stat()?.st_size as u64)
    }

    /// Whether it has living members, or somebody is joining or leaving: if not, [`Directory::unlink_unused`] removes
    /// it. Who has it open and is no member does not count.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-used-{}", std::process::id());
    /// let ring = Segment::<u64>::create(name, 8)?;
    /// let inspection = Directory::default().inspect(name)?;
    /// let feed = ring.producer()?;
    /// assert!(inspection.is_used());
    /// drop(feed);
    /// assert!(!inspection.is_used());
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.memory.is_used(self.about.header.ring.members)
    }

    /// Whether its name has been removed since this look at it began; there may be another ring of that name now.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-unlinked-{}", std::process::id());
    /// # let ring = Segment::<u64>::create(name, 8)?;
    /// let inspection = Directory::default().inspect(name)?;
    /// assert!(!inspection.is_unlinked()?);
    /// Directory::default().unlink(name)?;
    /// assert!(inspection.is_unlinked()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the system says.
    pub fn is_unlinked(&self) -> io::Result<bool> {
        Ok(self.memory.stat()?.st_nlink == 0)
    }

    /// Where it and its members are, now. A member that [is dead](annulus_ring::Member::is_dead) has not been
    /// recovered yet, or is held for a successor.
    ///
    /// # Examples
    /// See [`Inspection`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.ring.snapshot()
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection")
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

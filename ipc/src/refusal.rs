//! Why a ring in shared memory is not to be had, for people.

use std::error::Error;
use std::fmt;
use std::io;

use annulus_ring::BuildError;

use crate::header::MAJOR;

/// That a ring in shared memory was not created, opened, or changed.
///
/// # Examples
/// ```
/// # use annulus_ipc::{Cause, Segment};
/// let error = Segment::<u64>::open("no-such-ring").unwrap_err();
/// assert!(matches!(error.cause, Cause::NotFound));
/// assert!(error.to_string().ends_with("no-such-ring: there is no such ring: create it first"));
/// ```
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
    /// What is there belongs to a user that is not trusted: see [`Directory::trust`](crate::Directory::trust).
    NotTrusted {
        /// The number of that user.
        owner: u32,
    },
    /// The system does not show this process its own open files, by which a ring is opened again, for its locks.
    NoProc {
        /// What it says.
        error: io::Error,
    },
    /// This user may not make files in the directory, or not even look for one there.
    Directory {
        /// Its path.
        directory: String,
        /// The number of the user that it belongs to, if that is to be seen.
        owner: Option<u32>,
    },
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
    /// It was made by a program in which rings lie differently in memory.
    Layout {
        /// What differs, in bytes.
        what: &'static str,
        /// In this program.
        here: u64,
        /// In the ring.
        there: u64,
    },
    /// It is larger than what a program with pointers of this width can have in memory.
    TooWide {
        /// How many bytes it takes.
        len: u64,
    },
    /// Its file is as long as it has to be, but has holes: it is a copy that leaves them out, or was cut and made long
    /// again.
    Holes {
        /// How many bytes it takes.
        needed: u64,
        /// How many of them there are.
        there: u64,
    },
    /// What it says of itself cannot be.
    Damaged(&'static str),
    /// Its events are of another type.
    Type {
        /// How that differs from the type here.
        differences: Vec<String>,
    },
    /// [`Plain::description`](crate::Plain::description) does not describe the type here.
    Description {
        /// What is wrong with it.
        why: String,
    },
    /// It is not such as was to be created.
    Differs {
        /// What was to be created, as far as it differs.
        wanted: String,
        /// What is there, as far as it differs.
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
    /// The file system has not so much space.
    NoSpace {
        /// How many bytes it takes.
        needed: u64,
    },
    /// There is not so much memory: to take it all the same would have the kernel kill processes, whichever.
    NoMemory {
        /// How many bytes it takes.
        needed: u64,
        /// How many there are.
        available: u64,
        /// Whose limit that is: the system's, or that of a memory cgroup.
        limit: String,
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
    /// It is closed, and nobody uses it any more; but this user may not remove it to make it anew.
    Closed,
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

// `fn main() -> Result<(), SegmentError>` shows an error by this: it is for people too.
impl fmt::Debug for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
            Self::NotTrusted { owner } => write!(
                f,
                "it belongs to user {owner}, and by default only rings of this user and of root are opened, as anybody may \
                 have left a file of that name there: if you trust that user, open it by a directory that does, \
                 Directory::trust({owner})"
            ),
            Self::NoProc { error } => write!(
                f,
                "the system does not show this process its own open files in /proc/thread-self/fd ({error}), by which a \
                 ring is opened again for its locks: mount /proc (`mount -t proc proc /proc`), and do not hide it from \
                 this process"
            ),
            Self::Directory { directory, owner } => {
                write!(f, "this user may not use the directory {directory}")?;
                if let Some(owner) = owner {
                    write!(f, ", which belongs to user {owner}")?;
                }
                f.write_str(
                    ": have it opened to all (`chmod 1777`) or to a group, or choose another one (ANNULUS_DIR, \
                     Directory::at)",
                )
            }
            Self::NotARing => f.write_str("there is a file of that name, but it is no ring"),
            Self::Version { major, minor } => write!(
                f,
                "it was made by another version of this library (layout {major}.{minor}, here it is {}): use the same \
                 version on both sides",
                MAJOR
            ),
            Self::ByteOrder => f.write_str("it was made on a machine that orders bytes differently"),
            Self::Features { unknown } => write!(
                f,
                "it has features that this version of the library does not know (bits {unknown:#x}): use a newer one"
            ),
            Self::Layout { what, here, there } => write!(
                f,
                "it was made by a program with another layout ({what}: {here} here, {there} in the ring): build both sides \
                 with the same version of this library"
            ),
            Self::TooWide { len } => write!(
                f,
                "it takes {len} bytes, and a program of {} bits cannot have so many in memory: open it with one of 64",
                usize::BITS
            ),
            Self::Holes { needed, there } => write!(
                f,
                "its file has holes ({there} of {needed} bytes are there), and memory for them may be missing when they are \
                 used: unlink it, and create it anew"
            ),
            Self::Damaged(what) => write!(
                f,
                "it is damaged ({what}): if no program that made or uses it can open it either, unlink \
                 it and create it anew"
            ),
            Self::Type { differences } => write!(
                f,
                "its events are of another type: {}. Build both sides from the same definition; a ring that is left from \
                 before a change, and that nobody uses, is removed by `annulus gc`, or Directory::unlink_unused",
                differences.join("; ")
            ),
            Self::Description { why } => write!(
                f,
                "the description of the type of its events is wrong: {why}. Derive `Plain`, or describe the type by \
                 `Description::of::<Self>`"
            ),
            Self::Differs { wanted, there } => {
                write!(
                    f,
                    "it is there, and built in another way: {there}; wanted: {wanted}. Open it as it is; one that is left \
                     from before a change, and that nobody uses, is removed by `annulus gc`, or Directory::unlink_unused"
                )
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
            Self::NoMemory {
                needed,
                available,
                limit,
            } => write!(
                f,
                "it takes {needed} bytes of memory, and {available} are available by the limit of {limit}: make the ring \
                 smaller, or raise the limit"
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
            Self::Closed => f.write_str(
                "it is closed, nobody uses it any more, and this user may not remove it: its owner can (`annulus gc`), or \
                 choose another name",
            ),
            Self::InUse => f.write_str("it has living members: end them first"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl Error for SegmentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::System(error) | Cause::Locking { error } | Cause::NoProc { error } => {
                Some(error)
            }
            Cause::Build(error) => Some(error),
            _ => None,
        }
    }
}

//! Which processes have a ring open, and which rings are open that have no name: what `/proc` tells.
//!
//! A member says of itself by which number it knows its process, which may be that of another process here, or of none.
//! What tells is the lease of its row: the kernel shows the locks of a descriptor in the `fdinfo` of the processes that
//! have it. It takes the right to look into them, as those of the same user and root have.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::create::ANONYMOUS;
use crate::descriptor::Descriptor;
use crate::directory::{Directory, Inspection, is_name};
use crate::memory::{TABLE, row_of_lease};
use crate::refusal::{Cause, SegmentError};

/// The processes that have a ring open; made by [`Inspection::users`].
///
/// # Examples
/// See [`Inspection::users`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Users {
    /// The processes that have it open.
    pub found: Vec<User>,
    /// The processes that this one may not look into.
    pub hidden: Vec<u32>,
}

/// A process that has a ring open.
///
/// # Examples
/// See [`Inspection::users`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// Its number here; in a PID namespace of its own it knows itself by another.
    pub process: u32,
    /// The rows of the members that live in it.
    pub rows: Vec<usize>,
    /// Whether it has the member table locked: it is joining, leaving, or recovering what somebody left.
    pub has_table: bool,
}

/// A ring that processes have open and that has no name: it was removed, or there never was one. Found by
/// [`Directory::nameless`].
///
/// # Examples
/// See [`Directory::nameless`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Nameless {
    /// The name that was removed; none of a ring that was created without.
    pub name: Option<String>,
    /// The processes that have it open.
    pub users: Vec<User>,
    /// A look at it.
    pub inspection: Result<Inspection, SegmentError>,
}

impl Inspection {
    /// Which processes have it open, of all that there are. That looks at each open file of each process: see
    /// [`Inspection::users_among`] for a quicker look at some.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-users-{}", std::process::id());
    /// let ring = Segment::<u64>::create(name, 8)?;
    /// let book = ring.consumer("book").join()?;
    /// let users = Directory::default().inspect(name)?.users()?;
    /// assert_eq!(users.found[0].process, std::process::id());
    /// assert_eq!(users.found[0].rows, [book.row()]);
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn users(&self) -> io::Result<Users> {
        self.users_among(&processes()?)
    }

    /// Which of these processes have it open.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-users-among-{}", std::process::id());
    /// # let ring = Segment::<u64>::create(name, 8)?;
    /// let users = Directory::default().inspect(name)?.users_among(&[std::process::id()])?;
    /// assert!(users.found[0].rows.is_empty());
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the system says of this ring's file.
    pub fn users_among(&self, processes: &[u32]) -> io::Result<Users> {
        let stat = self.memory.stat()?;
        let own = (stat.st_dev, stat.st_ino);
        let name = self.about.name.as_deref();
        let mut users = Users::default();
        for &process in processes {
            let mut user = User::new(process);
            let mut is_open = false;
            let looked = each_open_file(process, |file| {
                // By the name first: to ask a file system about a file can take as long as a dead server does.
                let name_fits = match file.deleted() {
                    Some(path) => name.is_none_or(|name| ends_in(path, name)),
                    None => name.is_some_and(|name| ends_in(&file.link, name)),
                };
                if name_fits && file.stat().is_ok_and(|stat| identity(&stat) == own) {
                    is_open = true;
                    user.add_locks(&file);
                }
            });
            match looked {
                Ok(()) if is_open => users.found.push(user),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    users.hidden.push(process);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(users)
    }

    /// Whether the member table is locked: a process is joining, leaving, or recovering what somebody left, and is
    /// waited for by all others that want to. [`User::has_table`] says which.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-table-{}", std::process::id());
    /// # let ring = Segment::<u64>::create(name, 8)?;
    /// assert!(!Directory::default().inspect(name)?.is_table_locked());
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_table_locked(&self) -> bool {
        self.memory.is_table_locked()
    }
}

impl Directory {
    /// The rings that are open in some process that this one may look into, and have no name: those whose name was
    /// removed from this directory, and those created [without](crate::Segment::anonymous).
    ///
    /// A process that has such a ring goes on with it, beside a new one of that name, and its memory is taken.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment};
    /// # let name = &format!("doc-nameless-{}", std::process::id());
    /// let old = Segment::<u64>::create(name, 8)?;
    /// Directory::default().unlink(name)?;
    /// let nameless = Directory::default().nameless()?;
    /// let found = nameless.iter().find(|ring| ring.name.as_ref() == Some(name)).unwrap();
    /// assert_eq!(found.users[0].process, std::process::id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn nameless(&self) -> io::Result<Vec<Nameless>> {
        struct Found {
            name: Option<String>,
            path: PathBuf,
            users: Vec<User>,
        }
        let here = fs::canonicalize(self.as_path()).unwrap_or_else(|_| self.as_path().to_owned());
        let mut found = BTreeMap::<(u64, u64), Found>::new();
        for process in processes()? {
            // A process that ends meanwhile, or is hidden, is left out.
            let _ = each_open_file(process, |file| {
                let Some(name) = file.deleted().and_then(|path| name_in(path, &here)) else {
                    return;
                };
                let Ok(stat) = file.stat() else { return };
                if !stat.is_file() || stat.nlink() > 0 {
                    return;
                }
                let ring = found.entry(identity(&stat)).or_insert_with(|| Found {
                    name,
                    path: file.path.clone(),
                    users: Vec::new(),
                });
                if ring.users.last().is_none_or(|user| user.process != process) {
                    ring.users.push(User::new(process));
                }
                if let Some(user) = ring.users.last_mut() {
                    user.add_locks(&file);
                }
            });
        }
        let nameless = found.into_iter().filter_map(|(identity, ring)| {
            let Found { name, path, users } = ring;
            let inspection = match inspect_open(&path, identity) {
                Err(Cause::NotARing | Cause::NotFound) => return None,
                inspection => {
                    let shown = || {
                        name.as_ref()
                            .map_or("without a name".to_owned(), |name| self.shown(name))
                    };
                    inspection.map_err(|cause| cause.of(shown()))
                }
            };
            Some(Nameless {
                name,
                users,
                inspection,
            })
        });
        let mut nameless: Vec<_> = nameless.collect();
        nameless.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(nameless)
    }
}

impl User {
    fn new(process: u32) -> Self {
        Self {
            process,
            rows: Vec::new(),
            has_table: false,
        }
    }

    fn add_locks(&mut self, file: &Open) {
        for byte in file.locks() {
            match row_of_lease(byte) {
                Some(row) => self.rows.push(row),
                None => self.has_table |= byte == TABLE,
            }
        }
        self.rows.sort_unstable();
        self.rows.dedup();
    }
}

/// A file that a process has open.
struct Open {
    /// Where it can be opened anew.
    path: PathBuf,
    /// What the kernel knows of where it is, in words.
    link: PathBuf,
    info: PathBuf,
}

impl Open {
    /// Where it was, if it is not there any more.
    fn deleted(&self) -> Option<&Path> {
        self.link
            .to_str()?
            .strip_suffix(" (deleted)")
            .map(Path::new)
    }

    fn stat(&self) -> io::Result<Metadata> {
        fs::metadata(&self.path)
    }

    /// The bytes that are locked by this descriptor for writing, as those of a ring are: one at a time.
    fn locks(&self) -> Vec<u64> {
        let info = fs::read_to_string(&self.info).unwrap_or_default();
        info.lines().filter_map(locked_byte).collect()
    }
}

/// `lock: 1: OFDLCK ADVISORY WRITE -1 00:1b:2 3 3`
fn locked_byte(line: &str) -> Option<u64> {
    let lock: Vec<&str> = line.strip_prefix("lock:")?.split_whitespace().collect();
    match lock[..] {
        [_, "OFDLCK", _, "WRITE", _, _, start, end] if start == end => start.parse().ok(),
        _ => None,
    }
}

/// The numbers of all processes.
fn processes() -> io::Result<Vec<u32>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        processes.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    if processes.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "there are no processes in /proc: mount it",
        ));
    }
    Ok(processes)
}

fn each_open_file(process: u32, mut see: impl FnMut(Open)) -> io::Result<()> {
    let own = PathBuf::from(format!("/proc/{process}"));
    match each_file_of(&own, &mut see) {
        Ok(seen) if seen > 0 => Ok(()),
        outcome => {
            // One whose first thread has ended has its files with the others.
            let threads = fs::read_dir(own.join("task"))
                .into_iter()
                .flatten()
                .flatten();
            for thread in threads {
                if matches!(each_file_of(&thread.path(), &mut see), Ok(seen) if seen > 0) {
                    return Ok(());
                }
            }
            outcome.map(|_| ())
        }
    }
}

fn each_file_of(thread: &Path, see: &mut impl FnMut(Open)) -> io::Result<usize> {
    let mut seen = 0;
    for file in fs::read_dir(thread.join("fd"))?.flatten() {
        let path = file.path();
        // One that has been closed meanwhile is none.
        if let Ok(link) = fs::read_link(&path) {
            let info = thread.join("fdinfo").join(file.file_name());
            see(Open { path, link, info });
            seen += 1;
        }
    }
    Ok(seen)
}

fn identity(stat: &Metadata) -> (u64, u64) {
    (stat.dev(), stat.ino())
}

fn ends_in(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|last| last == name)
}

/// The name that a ring had at this path, if that was in this directory; none if it was created without one. Nothing if
/// it is neither.
fn name_in(path: &Path, directory: &Path) -> Option<Option<String>> {
    if path.to_str()?.strip_prefix("/memfd:") == Some(ANONYMOUS) {
        return Some(None);
    }
    let name = path.file_name()?.to_str()?;
    (path.parent() == Some(directory) && is_name(name)).then(|| Some(name.to_owned()))
}

/// Looks into what some process has, or had, open there.
fn inspect_open(path: &Path, expected: (u64, u64)) -> Result<Inspection, Cause> {
    let file = Descriptor::open(|| {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        File::options().read(true).custom_flags(flags).open(path)
    })?;
    let inspection = Inspection::of(file, None)?;
    let stat = inspection.memory.stat()?;
    if (stat.st_dev, stat.st_ino) != expected {
        return Err(Cause::NotFound); // It has been closed, and the number used again.
    }
    Ok(inspection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_locks_of_rings_are_read() {
        let byte = |line| locked_byte(line);
        assert_eq!(
            byte("lock:\t1: OFDLCK ADVISORY  WRITE -1 00:1b:2 3 3"),
            Some(3)
        );
        assert_eq!(byte("lock:\t1: OFDLCK ADVISORY  READ -1 00:1b:2 3 3"), None);
        assert_eq!(
            byte("lock:\t1: POSIX  ADVISORY  WRITE 71 00:1b:2 3 3"),
            None
        );
        assert_eq!(
            byte("lock:\t1: OFDLCK ADVISORY  WRITE -1 00:1b:2 0 EOF"),
            None
        );
        assert_eq!(byte("pos:\t3"), None);
    }

    #[test]
    fn names_are_those_of_the_directory() {
        let name = |path: &str| name_in(Path::new(path), Path::new("/dev/shm/annulus"));
        assert_eq!(name("/dev/shm/annulus/quotes"), Some(Some("quotes".into())));
        assert_eq!(name("/memfd:annulus"), Some(None));
        for other in [
            "/dev/shm/annulus/#71",
            "/dev/shm/other/quotes",
            "/memfd:other",
            "/",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}

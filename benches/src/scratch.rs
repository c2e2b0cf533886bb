//! Where two processes leave what they share, and how that is removed, whatever becomes of them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "annulus-versus-";

/// A directory for one measurement; removed when this is dropped, with all that is named after it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one, in memory if possible, of a name that no other process has.
    pub(crate) fn new() -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // RELAXED: nothing but the number matters.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent().join(format!("{PREFIX}{}-{number}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let own = self.0.file_name().and_then(OsStr::to_str);
        let own = own.unwrap_or_default();
        remove(|name| is_or_extends(name, own));
    }
}

/// Removes what was left by a process that has ended.
pub fn remove_those_of(process: u32) {
    let own = format!("{PREFIX}{process}");
    remove(|name| is_or_extends(name, &own));
}

/// Removes what was left by processes that no longer are, if the system tells which are.
pub fn remove_those_of_the_dead() {
    if !Path::new("/proc/self").exists() {
        return;
    }
    remove(|name| {
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
    });
}

fn parent() -> PathBuf {
    let in_memory = PathBuf::from("/dev/shm");
    if in_memory.is_dir() {
        in_memory
    } else {
        env::temp_dir()
    }
}

fn is_or_extends(name: &str, own: &str) -> bool {
    name.strip_prefix(own)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// As far as it can be done: if it cannot, there is nothing better to do.
fn remove(is_meant: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(parent()) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(&is_meant) {
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                _ => fs::remove_file(entry.path()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_with_all_that_is_named_after_it_and_nothing_else() {
        let (scratch, other) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        let path = scratch.path().to_owned();
        fs::write(path.join("inside"), "").unwrap();
        let mut beside = path.clone().into_os_string();
        beside.push("-beside");
        let beside = PathBuf::from(beside);
        fs::write(&beside, "").unwrap();
        drop(scratch);
        assert!(!path.exists() && !beside.exists());
        assert!(other.path().exists());
    }

    #[test]
    fn of_the_dead_everything_is_removed_and_of_the_living_nothing() {
        let own = Scratch::new().unwrap();
        let mut child = process::Command::new("true").spawn().unwrap();
        let left = parent().join(format!("{PREFIX}{}-0", child.id()));
        fs::create_dir(&left).unwrap();
        child.wait().unwrap();
        remove_those_of_the_dead();
        assert!(own.path().exists());
        assert!(!left.exists());

        fs::create_dir(&left).unwrap();
        remove_those_of(child.id());
        assert!(!left.exists() && own.path().exists());
    }
}

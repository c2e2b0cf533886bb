//! What was measured, and where: the machine and the commit.

use std::fs;
use std::process::Command;
use std::thread;

/// The processor, the number of cores that this process may use, and the system, as far as they can be
/// had.
#[must_use]
pub fn machine() -> String {
    let processor = processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let cores = match cores {
        0 => "unknown number of cores".to_owned(),
        1 => "1 core".to_owned(),
        _ => format!("{cores} cores"),
    };
    let system = system().unwrap_or_else(|| std::env::consts::OS.to_owned());
    format!("{processor}, {cores}, {system}")
}

fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn system() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/ostype").ok()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!("{} {}", name.trim(), release.trim()))
}

/// The commit that is checked out, with `-dirty` if files that it tracks were changed since.
#[must_use]
pub fn commit() -> String {
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}-dirty"),
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The version of a package that this program was built with.
#[must_use]
pub fn version_of(package: &str) -> Option<&'static str> {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let lock = include_str!("../../Cargo.lock");
    let (_, rest) = lock.split_once(&entry)?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let version = version_of("quanta").unwrap();
        assert!(version.starts_with("0."), "{version}");
        assert_eq!(version_of("no-such-package"), None);
    }
}

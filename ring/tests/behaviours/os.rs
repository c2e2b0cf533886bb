//! What the system tells of a thread: whether it sleeps, and how much processor time it has used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A thread, as Linux shows it under `/proc`.
#[derive(Debug)]
pub(crate) struct ThreadStat(PathBuf);

impl ThreadStat {
    /// Of the calling thread, if this system tells.
    pub(crate) fn of_this() -> Option<Self> {
        let this = fs::read_link("/proc/thread-self").ok()?;
        let stat = Self(Path::new("/proc").join(this).join("stat"));
        stat.words()?;
        Some(stat)
    }

    /// Whether it sleeps until something wakes it, or has ended.
    pub(crate) fn is_asleep(&self) -> bool {
        self.words().is_none_or(|words| words[0] == "S")
    }

    /// How much processor time it has used, in its own code and in the kernel.
    pub(crate) fn processor_time(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10); // For programs it is always this.

        let words = self.words().expect("it still runs");
        let ticks = [&words[11], &words[12]].map(|ticks| ticks.parse::<u32>().unwrap());
        TICK * ticks.iter().sum()
    }

    /// What comes after its name, which may contain anything.
    fn words(&self) -> Option<Vec<String>> {
        let line = fs::read_to_string(&self.0).ok()?;
        let (_, rest) = line.rsplit_once(')')?;
        Some(rest.split_whitespace().map(str::to_owned).collect())
    }
}

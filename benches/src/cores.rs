//! Which core each thread of a scenario runs on.

use core_affinity::CoreId;

/// A thread's part in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes; in a round trip, sends and waits for the answer.
    Producer(usize),
    /// Reads; in a round trip, answers.
    Consumer,
}

/// The cores that this process may use, as far as they are needed.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    first: Option<CoreId>,
    second: Option<CoreId>,
    third: Option<CoreId>,
}

impl Cores {
    /// Asks the system. Do it once, before any thread is pinned: a thread that a pinned one starts
    /// may use no other core, and sees no other.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut cores = core_affinity::get_core_ids()
            .unwrap_or_default()
            .into_iter();
        Self {
            first: cores.next(),
            second: cores.next(),
            third: cores.next(),
        }
    }

    /// The first producer has the first core, the consumer the second, and the second producer the
    /// third. Without a third it shares the consumer's: two producers on one core would take turns,
    /// and never compete for a claim.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<CoreId> {
        match role {
            Role::Producer(0) => self.first,
            Role::Consumer => self.second,
            Role::Producer(_) => self.third.or(self.second),
        }
    }

    /// Whether so many threads have to share cores.
    #[must_use]
    pub fn are_fewer_than(&self, threads: usize) -> bool {
        [self.first, self.second, self.third]
            .iter()
            .flatten()
            .count()
            < threads
    }
}

/// Pins this thread to a core, if there is one.
pub fn pin(core: Option<CoreId>) {
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
}

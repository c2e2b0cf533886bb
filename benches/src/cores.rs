//! Which core each thread of a scenario runs on.

use core_affinity::CoreId;

/// A thread's part in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes; in a round trip, sends and waits for the answer.
    Producer(usize),
    /// Reads; in a round trip, answers.
    Consumer(usize),
}

/// The cores that this process may use, as far as they are needed. By default none: no thread is pinned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cores([Option<CoreId>; 4]);

impl Cores {
    /// Asks the system. Do it once, before any thread is pinned: a thread that a pinned one starts
    /// may use no other core, and sees no other.
    #[must_use]
    pub fn of_this_process() -> Self {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        Self([0, 1, 2, 3].map(|index| cores.get(index).copied()))
    }

    /// The first producer has the first core, the first consumer the second, and the others of either,
    /// of which no scenario has both, those that follow. Without a third core the second producer shares
    /// the consumer's: two producers on one core would take turns, and never compete for a claim.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<CoreId> {
        let [first, second, ..] = self.0;
        match role {
            Role::Producer(0) => first,
            Role::Producer(index) | Role::Consumer(index) => {
                let own = self.0.get(index + 1).copied().flatten();
                own.or(second)
            }
        }
    }

    /// Whether so many threads have to share cores.
    #[must_use]
    pub fn are_fewer_than(&self, threads: usize) -> bool {
        self.0.iter().flatten().count() < threads
    }
}

/// Pins this thread to a core, if there is one.
pub fn pin(core: Option<CoreId>) {
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
}

#[cfg(test)]
mod tests {
    use super::Role::{Consumer, Producer};
    use super::*;

    /// The cores of these threads, where there are so many.
    fn of(count: usize, roles: [Role; 4]) -> [Option<usize>; 4] {
        let cores = Cores([0, 1, 2, 3].map(|id| (id < count).then_some(CoreId { id })));
        roles.map(|role| Some(cores.of(role)?.id))
    }

    #[test]
    fn each_thread_has_a_core_to_itself_while_there_are_enough() {
        let producers = [Producer(0), Consumer(0), Producer(1), Producer(2)];
        let consumers = [Producer(0), Consumer(0), Consumer(1), Consumer(2)];
        for roles in [producers, consumers] {
            assert_eq!(of(4, roles), [Some(0), Some(1), Some(2), Some(3)]);
            assert_eq!(of(2, roles), [Some(0), Some(1), Some(1), Some(1)]);
            assert_eq!(of(0, roles), [None; 4]);
        }
    }
}

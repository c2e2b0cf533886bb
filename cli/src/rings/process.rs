//! Where members live, and what becomes of those processes.

use std::fs;

use annulus::ipc::{Inspection, Users};
use annulus::ring::{Member, Snapshot};
use serde::Serialize;

/// How the process of a member is. That it is dead is proven; the others are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Running,
    /// By a signal, or a debugger: it is waited for.
    Stopped,
    Dead,
    /// It lives, but is not visible here.
    Unknown,
}

/// The process of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) state: State,
    /// Its number here, if it is known which process it is.
    pub(super) here: Option<u32>,
}

/// Which processes the members of a ring live in.
///
/// The number that a process knows itself by can be that of another one here, if it is in a PID namespace of its own. So
/// it is asked which process has the lease of the member's row, as far as this user may look.
pub(super) struct Homes {
    users: Users,
    is_table_locked: bool,
}

impl Homes {
    pub(super) fn of(inspection: &Inspection, snapshot: &Snapshot) -> Self {
        let living = || snapshot.members.iter().filter(|member| !member.is_dead);
        let mut recorded: Vec<u32> = living().filter_map(|member| member.process).collect();
        recorded.extend(snapshot.table_locked_by);
        recorded.sort_unstable();
        recorded.dedup();
        let mut homes = Self {
            users: inspection.users_among(&recorded).unwrap_or_default(),
            is_table_locked: inspection.is_table_locked(),
        };
        let is_settled = |member: &Member| {
            let home = homes.of_member(member);
            home.here.is_some() || home.state != State::Unknown
        };
        let lock = homes.of_table_lock();
        let is_complete =
            living().all(is_settled) && lock.is_none_or(|locker| locker.here.is_some());
        // Only if something is not explained: there may be many processes.
        if !is_complete && let Ok(users) = inspection.users() {
            homes.users = users;
            // Not one that has been unlocked meanwhile.
            homes.is_table_locked &= inspection.is_table_locked();
        }
        homes
    }

    pub(super) fn of_member(&self, member: &Member) -> Home {
        if member.is_dead {
            return Home {
                state: State::Dead,
                here: None,
            };
        }
        let mut users = self.users.found.iter();
        if let Some(user) = users.find(|user| user.rows.contains(&member.row)) {
            return Home {
                state: state(user.process),
                here: Some(user.process),
            };
        }
        // Nobody may look into it, but everybody may ask by which number it knows itself.
        let hidden = member.process.filter(|process| {
            self.users.hidden.contains(process) && own_number(*process) == Some(*process)
        });
        Home {
            state: hidden.map_or(State::Unknown, state),
            here: None,
        }
    }

    /// The process that has the member table locked, if one has.
    pub(super) fn of_table_lock(&self) -> Option<Home> {
        let mut users = self.users.found.iter();
        let here = users.find(|user| user.has_table).map(|user| user.process);
        (self.is_table_locked || here.is_some()).then(|| Home {
            state: here.map_or(State::Unknown, state),
            here,
        })
    }
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Unknown => "alive, of another PID namespace, or hidden",
        }
    }
}

fn state(process: u32) -> State {
    match letter(process) {
        Some(b'T' | b't') => State::Stopped,
        Some(_) => State::Running,
        None => State::Unknown,
    }
}

/// The state of a process as the kernel abbreviates it.
fn letter(process: u32) -> Option<u8> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which is in parentheses and may have any bytes in it.
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(name_ends + 2).copied()
}

/// By which number a process knows itself.
fn own_number(process: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{process}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_runs_and_number_0_is_nobody() {
        let own = std::process::id();
        assert!(letter(own).is_some_and(|letter| letter.is_ascii_alphabetic()));
        assert_eq!(own_number(own), Some(own));
        for nobody in [0, u32::MAX] {
            assert_eq!((letter(nobody), own_number(nobody)), (None, None));
        }
    }
}

//! What becomes of the process of a member.

use std::fs;

use annulus::ring::Member;
use serde::Serialize;

/// How the process of a member is. That it is dead is proven; the others are for people: a process is found by the
/// number that it has in its own PID namespace, which may be another one here.
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

impl State {
    pub(super) fn of(member: &Member) -> Self {
        if member.is_dead {
            return Self::Dead;
        }
        match member.process.and_then(letter) {
            Some(b'T' | b't') => Self::Stopped,
            Some(_) => Self::Running,
            None => Self::Unknown,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

/// The state of a process as the kernel abbreviates it.
fn letter(process: u32) -> Option<u8> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which is in parentheses and may have any bytes in it.
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(name_ends + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_runs_and_number_0_is_nobody() {
        assert!(letter(std::process::id()).is_some_and(|letter| letter.is_ascii_alphabetic()));
        assert_eq!(letter(0), None);
        assert_eq!(letter(u32::MAX), None);
    }
}

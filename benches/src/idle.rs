//! What a thread does that finds nothing, for libraries that leave it to their user.

use std::hint::spin_loop;
use std::thread;

/// How to wait; the same choices that our own ring makes for its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls again at once.
    Spin,
    /// Polls again after a pause of the processor; and after a batch that was there without waiting,
    /// leaves the producer alone for some more, so that it can publish undisturbed.
    Pause,
    /// Yields the core.
    Yield,
}

impl Idle {
    /// Whether a thread that waits like this can share its core.
    #[must_use]
    pub fn suits(self, crowded: bool) -> bool {
        (self == Self::Yield) == crowded
    }

    /// Between two polls.
    #[inline]
    pub fn wait(self) {
        match self {
            Self::Spin => {}
            Self::Pause => spin_loop(),
            Self::Yield => thread::yield_now(),
        }
    }

    #[inline]
    fn let_batches_grow(self) {
        if self == Self::Pause {
            for _ in 0..PAUSES_AFTER_DRAINING {
                spin_loop();
            }
        }
    }
}

/// As many as our own ring makes.
pub const PAUSES_AFTER_DRAINING: u32 = 64;

/// What one poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Some events, all of which have been handled.
    Events,
    /// Nothing, for now.
    Nothing,
    /// Nothing, and there will be no more.
    Closed,
}

/// The loop of a consumer that polls.
pub fn poll_until_closed(idle: Idle, mut poll: impl FnMut() -> Found) {
    let mut waited = true;
    loop {
        match poll() {
            Found::Events => {
                if !waited {
                    idle.let_batches_grow();
                }
                waited = false;
            }
            Found::Nothing => {
                waited = true;
                idle.wait();
            }
            Found::Closed => return,
        }
    }
}

//! What users of rings in shared memory may rely on, shown through the public interface and with real processes. The
//! ids in the names of tests are those of `BEHAVIOURS.md`.
//!
//! A test starts this very program as another process, which plays one of the [`roles`].

#![cfg(target_os = "linux")]

mod calls;
mod forks;
mod handover;
mod layout;
mod members;
mod place;
mod roles;
mod segments;
mod space;
mod staying;
mod surroundings;
mod system;
mod unlinked;
mod users;
mod views;

use std::time::{Duration, Instant};

/// Nothing takes so long, on a machine that is busy with other things; what does has failed.
const LONG: Duration = Duration::from_secs(60);

fn deadline() -> Instant {
    Instant::now() + LONG
}

/// Waits until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = deadline();
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for long: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

//! Processes that end, or are stopped, at each named point of a ring that they share with others, who go on.
//!
//! ```text
//! RUSTFLAGS='--cfg failpoints' cargo test -p annulus-ipc --test deaths
//! ```
//!
//! The points are compiled in only then. The program starts itself as the process that is to end; it prints the line
//! by which a combination that failed is run again. `ANNULUS_DEATHS` chooses combinations by a part of their names,
//! `ANNULUS_SEED` who waits in which way, `ANNULUS_STOP_SECONDS` how long a process is stopped that is not to be
//! taken for dead.

#[cfg(failpoints)]
mod account;
#[cfg(failpoints)]
mod alone;
#[cfg(failpoints)]
mod changing;
#[cfg(failpoints)]
mod closing;
#[cfg(failpoints)]
mod combination;
#[cfg(failpoints)]
mod company;
#[cfg(failpoints)]
mod consuming;
#[cfg(failpoints)]
mod creating;
#[cfg(failpoints)]
mod member;
#[cfg(failpoints)]
mod process;
#[cfg(failpoints)]
mod producing;
#[cfg(failpoints)]
mod program;
#[cfg(failpoints)]
mod reader;
#[cfg(failpoints)]
mod recovering;
#[cfg(failpoints)]
mod stopped;

#[cfg(failpoints)]
fn main() -> std::process::ExitCode {
    match member::place_of_this_one() {
        Some(place) => member::obey(place),
        None => program::run(),
    }
}

#[cfg(not(failpoints))]
fn main() {
    println!(
        "deaths: nothing to do: this build has no named points, RUSTFLAGS='--cfg failpoints' has"
    );
}

//! Random lives of pipelines: how they start, run, fail and stop while others close, poison and drop things.
//!
//! ```text
//! ANNULUS_ROUNDS=100000 ANNULUS_SEED=7 cargo test -p annulus --test lifecycle -- --nocapture
//! ```
//!
//! Each round makes a plan from its seed, lives it, and compares the report with what handlers and producers have
//! written down themselves. The seed of a round is that of the program plus its number: a round that fails is
//! lived again with its own seed and `ANNULUS_ROUNDS=1`. Threads take turns as they like, so it may take a few.
//!
//! A round that takes more than a minute is a hang: its plan and state are printed, and the program is aborted.

mod plan;
mod producing;
mod round;
mod subject;
mod truth;
mod watchdog;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use plan::{Plan, Random};
use round::Round;
use watchdog::Watchdog;

const ROUNDS: u64 = 3_000;
const SEED: u64 = 0x616e_6e75_6c75_7300;

/// Longer than anything takes, on a slow and busy machine.
const MINUTE: Duration = Duration::from_secs(60);

/// The deadline of a stop that is not to be cut off: a hang is found before that.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn every_life_ends_and_its_report_is_true() {
    let rounds = number("ANNULUS_ROUNDS").unwrap_or(ROUNDS);
    let first = number("ANNULUS_SEED").unwrap_or(SEED);
    println!("{rounds} rounds, the first with ANNULUS_SEED={first}");
    let watchdog = Watchdog::start();
    let mut lives = BTreeMap::new();
    let mut slowest = (Duration::ZERO, first);
    for seed in (first..=u64::MAX).take(rounds as usize) {
        let plan = Plan::new(&mut Random(seed));
        let round = Round::new(plan);
        watchdog.watch(seed, &round);
        let began = Instant::now();
        let lived = catch_unwind(AssertUnwindSafe(|| round.live()));
        slowest = slowest.max((began.elapsed(), seed));
        match lived {
            Ok(life) => *lives.entry(life).or_insert(0) += 1,
            Err(panic) => {
                eprintln!(
                    "the round with ANNULUS_SEED={seed} failed: {:?}",
                    round.plan
                );
                resume_unwind(panic);
            }
        }
    }
    until("all threads are gone", || threads_of_stages() == 0);
    drop(watchdog);
    let (took, seed) = slowest;
    println!("{lives:#?}");
    println!("the slowest took {took:?}, with ANNULUS_SEED={seed}");
    if rounds >= ROUNDS {
        // Each kind of life has been there, or the plans are not as random as they are meant to be.
        for life in ["drained", "aborted", "failed", "detached", "poisoned"] {
            assert!(lives.keys().any(|lived| lived.contains(life)), "{life}");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().expect("it is to be a number"))
}

/// How many threads of stages there are, where the system tells; by their names, as other tests have threads too.
fn threads_of_stages() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let names = tasks.flatten().map(|task| task.path().join("comm"));
    let names = names.filter_map(|name| std::fs::read_to_string(name).ok());
    names
        .filter(|name| name.starts_with("life-") || name.starts_with("supervisor"))
        .count()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + MINUTE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for a minute: {what}");
        thread::yield_now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

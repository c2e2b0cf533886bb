//! Runs the combinations, a few at a time, and counts what was reached.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::SystemTime;

use annulus_ipc::Directory;
use annulus_ring::{Producers, Step};

use crate::alone::d2_the_only_consumer_ends_at_each_point;
use crate::changing::d2_a_stage_that_changes_events_ends_at_each_point;
use crate::closing::{
    d1_who_closes_or_poisons_ends_at_each_point, d2_a_place_is_held_past_the_close,
};
use crate::combination::{self, CREATION, Combination, Point, Role, never_reached};
use crate::consuming::d2_a_consumer_ends_at_each_point;
use crate::creating::d3_d16_a_creator_ends_at_each_point;
use crate::member::Place;
use crate::producing::d1_a_producer_ends_at_each_point;
use crate::recovering::d4_who_recovers_ends_at_each_point;
use crate::stopped::{
    d5_a_process_stopped_for_seconds_is_not_dead,
    d5_who_is_stopped_while_it_joins_holds_up_joiners_alone,
};

/// How many combinations run at a time: most of the time they wait for processes to start and to end.
const AT_A_TIME: usize = 3;

/// After so many failures the rest is not run.
const ENOUGH_FAILURES: usize = 5;

/// What is to be run.
enum Run {
    Combination(Combination),
    /// What is of no combination.
    Single {
        name: &'static str,
        play: fn(u64),
        /// As that of a combination.
        number: u64,
    },
}

impl Run {
    fn name(&self) -> String {
        match self {
            Self::Combination(combination) => combination.to_string(),
            Self::Single { name, .. } => (*name).to_owned(),
        }
    }

    fn play(&self) {
        let combination = match self {
            Self::Combination(combination) => combination,
            Self::Single { play, number, .. } => return play(*number),
        };
        match combination.role {
            Role::Producer => d1_a_producer_ends_at_each_point(combination),
            Role::Consumer | Role::Stage | Role::Holder => {
                d2_a_consumer_ends_at_each_point(combination)
            }
            Role::Changer => d2_a_stage_that_changes_events_ends_at_each_point(combination),
            Role::Alone => d2_the_only_consumer_ends_at_each_point(combination),
            Role::Closer | Role::Poisoner => {
                d1_who_closes_or_poisons_ends_at_each_point(combination)
            }
            Role::Recoverer | Role::Successor => d4_who_recovers_ends_at_each_point(combination),
            Role::Creator => d3_d16_a_creator_ends_at_each_point(combination),
        }
    }
}

/// A directory of this process's own, which goes with it.
struct Scratch;

impl Scratch {
    fn path() -> PathBuf {
        PathBuf::from(format!("/dev/shm/annulus-deaths-{}", process::id()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing may have been put there.
        let _ = fs::remove_dir_all(Self::path());
    }
}

/// Where the ring of this combination is.
pub(crate) fn place_of(number: u64) -> Place {
    Place {
        directory: Scratch::path(),
        name: format!("deaths-{}-{number}", process::id()),
    }
}

/// Chooses who waits in which way.
pub(crate) fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match env::var("ANNULUS_SEED") {
        Ok(text) => text.parse().expect("ANNULUS_SEED is a number"),
        Err(_) => {
            let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            time.map_or(0, |time| u64::from(time.subsec_millis()))
        }
    })
}

pub(crate) fn run() -> ExitCode {
    let chosen = env::var("ANNULUS_DEATHS").ok();
    let (combinations, impossible) = combination::all();
    let of_its_own = combinations.len() as u64;
    // The long ones first, beside which the others run.
    let mut runs = vec![
        Run::Single {
            name: "StoppedForSeconds",
            play: d5_a_process_stopped_for_seconds_is_not_dead,
            number: of_its_own,
        },
        Run::Single {
            name: "StoppedWhileJoining",
            play: d5_who_is_stopped_while_it_joins_holds_up_joiners_alone,
            number: of_its_own + 1,
        },
        Run::Single {
            name: "HeldPastTheClose",
            play: d2_a_place_is_held_past_the_close,
            number: of_its_own + 2,
        },
    ];
    runs.extend(combinations.into_iter().map(Run::Combination));
    runs.retain(|run| (chosen.as_ref()).is_none_or(|part| run.name().contains(part)));
    if runs.is_empty() {
        eprintln!("deaths: there is no combination named {chosen:?}");
        return ExitCode::FAILURE;
    }
    if chosen.is_none() {
        for (why, count) in &impossible {
            println!("deaths: {count} combinations cannot occur: {why}");
        }
    }
    println!("deaths: seed {}", seed());

    let _scratch = Scratch;
    let (next, reached, failed) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| work(&runs, &next, &reached, &failed));
        }
    });
    let reached: HashSet<_> = reached.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed: Vec<String> = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for name in &failed {
        println!("deaths: FAILED {name}");
        println!(
            "deaths: again: ANNULUS_DEATHS={name} ANNULUS_SEED={} RUSTFLAGS='--cfg failpoints' cargo test -p \
             annulus-ipc --test deaths",
            seed()
        );
    }
    let mut is_fine = failed.is_empty();
    if is_fine && chosen.is_none() {
        for (point, producers) in all_points() {
            if !reached.contains(&(point, producers)) {
                println!("deaths: nobody has ended at {point} with {producers:?} producers");
                is_fine = false;
            }
        }
    }
    let left = Directory::at(Scratch::path())
        .names()
        .unwrap_or_else(|error| panic!("{error}"));
    if is_fine && !left.is_empty() {
        println!("deaths: left behind: {left:?}");
        is_fine = false;
    }
    if !is_fine {
        return ExitCode::FAILURE;
    }
    println!(
        "deaths: {} combinations, {} points reached",
        runs.len(),
        reached.len()
    );
    ExitCode::SUCCESS
}

/// Takes one after the other until there are no more.
fn work(
    runs: &[Run],
    next: &AtomicUsize,
    reached: &Mutex<HashSet<(Point, Producers)>>,
    failed: &Mutex<Vec<String>>,
) {
    while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
        // What is asserted is asserted of processes and of memory that nobody else has.
        let played = catch_unwind(AssertUnwindSafe(|| run.play()));
        let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        match (played, run) {
            (Ok(()), Run::Combination(combination)) => {
                let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
                reached.insert((combination.point, combination.producers));
            }
            (Ok(()), Run::Single { .. }) => {}
            (Err(_), run) => lock().push(run.name()),
        }
        if lock().len() >= ENOUGH_FAILURES {
            println!("deaths: enough has failed, the rest is not run");
            next.store(runs.len(), Ordering::Relaxed);
        }
    }
}

/// Those that can be reached.
fn all_points() -> Vec<(Point, Producers)> {
    let mut all = Vec::new();
    for producers in [Producers::One, Producers::Many] {
        let steps = Step::ALL.into_iter();
        let steps = steps.filter(|step| never_reached(*step, producers).is_none());
        all.extend(steps.map(|step| (Point::Ring(step), producers)));
        for point in CREATION {
            all.push((Point::Creation(point), producers));
        }
    }
    all
}

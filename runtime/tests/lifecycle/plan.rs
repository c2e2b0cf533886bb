//! What is to happen in a round: all of it follows from the seed.

use std::time::Duration;

use annulus::ring::{Producers, Wait};
use annulus::{OnFailure, Overflow};

use crate::LONG;

/// Numbers that look random, the same for the same seed: SplitMix64 (Steele, Lea and Flood).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    /// So many things of this kind.
    pub(crate) fn some<T>(
        &mut self,
        least: u64,
        most: u64,
        mut thing: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let n = least + self.below(most - least + 1);
        (0..n).map(|_| thing(self)).collect()
    }

    pub(crate) fn wait(&mut self, parking: bool) -> Wait {
        // Most of them sleep: who spins or yields on a busy machine gives a slice of time to somebody else.
        match self.below(if parking { 48 } else { 32 }) {
            0 => Wait::Spin,
            1..4 => Wait::Yield,
            4..8 => Wait::Backoff,
            8..32 => Wait::Phased {
                spins: 20,
                yields: self.below(3) as u32,
                sleep: Duration::from_micros(20),
            },
            _ => Wait::Park,
        }
    }

    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_micros(self.below(3) * 20)
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) capacity: usize,
    pub(crate) kind: Producers,
    pub(crate) parking: bool,
    /// Whether producers wait for the stages.
    pub(crate) required: bool,
    /// Whether a consumer that is no stage comes before the first.
    pub(crate) outsider: bool,
    pub(crate) stages: Vec<StagePlan>,
    /// The order in which stages are given.
    pub(crate) listed: Vec<usize>,
    pub(crate) placed: bool,
    pub(crate) timed: bool,
    pub(crate) producers: Vec<ProducerPlan>,
    /// What each of several threads does while the pipeline runs.
    pub(crate) threads: Vec<Vec<Act>>,
    /// Whether the last who has the handle drops it, and nobody asks for a report.
    pub(crate) dropped: bool,
    /// Whether a producer stays until the pipeline has been stopped.
    pub(crate) kept: bool,
}

#[derive(Debug)]
pub(crate) struct StagePlan {
    pub(crate) after: Vec<usize>,
    pub(crate) changes: bool,
    pub(crate) holds: bool,
    pub(crate) wait: Wait,
    pub(crate) batch_limit: Option<usize>,
    pub(crate) idle_every: Option<Duration>,
    pub(crate) limit: Option<Duration>,
    pub(crate) on_failure: OnFailure,
    /// Whether a closure decides, and with which seed.
    pub(crate) decides: Option<u64>,
    pub(crate) faults: Vec<Fault>,
    /// At which event it does something to its own pipeline.
    pub(crate) act: Option<(u64, Act)>,
    pub(crate) seed: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) spot: Spot,
    /// At which call it begins, and at how many it stays.
    pub(crate) from: u64,
    pub(crate) calls: u64,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    Build,
    Start,
    /// Before an event of a batch is taken.
    Begin,
    Event,
    /// After the last event of a batch.
    End,
    Idle,
    Stop,
    Drop,
    /// Where it is decided what is to become of a failure.
    Decide,
    Letter,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Error,
    Panic,
    /// A panic whose payload panics when it is dropped.
    Bomb,
}

#[derive(Debug)]
pub(crate) struct ProducerPlan {
    /// Whether it joins before the pipeline is there.
    pub(crate) early: bool,
    pub(crate) overflow: Overflow,
    pub(crate) wait: Wait,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    One,
    Batch(usize),
    /// Claims, and changes its mind.
    Claim(usize),
    Panic,
    Yield(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Yield(u64),
    /// Yields until so many events have been handled by all stages together, or the pipeline has ended.
    Handled(u64),
    Stop(Duration),
    Abort,
    Join,
    Close,
    CloseRing,
    Poison(u32),
    Look,
    Feed,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Self {
        let parking = random.one_in(2);
        let kind = random.pick(&[Producers::One, Producers::Many]);
        let dropped = random.one_in(8);
        // It stays until all else has returned: nobody is to wait for it.
        let kept = !dropped && random.one_in(16);
        let quiet = random.one_in(3);
        let required = random.one_in(8);
        let mut stages = random.some(1, 4, |_| ());
        let mut stages: Vec<_> = stages
            .drain(..)
            .enumerate()
            .map(|(index, ())| StagePlan::new(random, index, parking, quiet))
            .collect();
        for index in 0..stages.len() {
            if stages[index].changes {
                stages[index].after = (0..index).collect();
                for later in &mut stages[index + 1..] {
                    later.after.push(index);
                }
            }
        }
        for stage in &mut stages {
            stage.after.sort_unstable();
            stage.after.dedup();
        }
        let mut listed: Vec<usize> = (0..stages.len()).collect();
        for at in (1..listed.len()).rev() {
            listed.swap(at, random.below(at as u64 + 1) as usize);
        }
        let most_producers = match kind {
            Producers::Many => 3,
            _ => 1,
        };
        let producers = random.some(1, most_producers, |random| ProducerPlan {
            early: random.one_in(6),
            overflow: random.pick(&[
                Overflow::Wait,
                Overflow::Wait,
                Overflow::WaitFor(Duration::from_micros(50)),
                Overflow::WaitFor(Duration::MAX),
                Overflow::Fail,
                Overflow::DropNewest,
            ]),
            wait: random.wait(parking),
            steps: random.some(0, 40, |random| match random.below(16) {
                0 => Step::Panic,
                1 => Step::Claim(1 + random.below(2) as usize),
                2..5 => Step::Batch(random.below(5) as usize),
                5 => Step::Yield(random.below(4)),
                _ => Step::One,
            }),
        });
        let act = |random: &mut Random| Act::new(random, quiet, kept, required);
        let threads = random.some(0, 3, |random| random.some(1, 4, act));
        if !dropped && !required && random.one_in(12) {
            // One at most: two that wait for each other would do so until a deadline.
            let stage = random.below(stages.len() as u64) as usize;
            let act = match random.below(if quiet { 1 } else { 4 }) {
                0 | 1 => Act::Close,
                2 => Act::Abort,
                _ => Act::Stop(Duration::ZERO),
            };
            stages[stage].act = Some((random.below(20), act));
        }
        Self {
            capacity: 1 << random.below(7),
            kind,
            parking,
            required,
            outsider: random.one_in(6),
            stages,
            listed,
            placed: random.one_in(8),
            timed: random.one_in(3),
            producers,
            threads,
            dropped,
            kept,
        }
    }

    /// The stages that this one comes after, directly or not.
    pub(crate) fn all_before(&self, stage: usize) -> Vec<usize> {
        let mut all = self.stages[stage].after.clone();
        let mut next = 0;
        while let Some(&before) = all.get(next) {
            for earlier in &self.stages[before].after {
                if !all.contains(earlier) {
                    all.push(*earlier);
                }
            }
            next += 1;
        }
        all
    }

    /// Whether nothing happens that keeps events from being handled.
    pub(crate) fn is_harmless(&self) -> bool {
        let acts = self.threads.iter().flatten().copied();
        let mut acts = acts.chain(self.stages.iter().filter_map(|stage| Some(stage.act?.1)));
        let is_cut = acts.any(|act| match act {
            Act::Abort | Act::Poison(_) => true,
            Act::Stop(within) => within < LONG,
            _ => false,
        });
        let fails = self.stages.iter().any(|stage| !stage.faults.is_empty());
        !is_cut && !fails && !self.dropped
    }
}

impl StagePlan {
    pub(crate) fn new(random: &mut Random, index: usize, parking: bool, quiet: bool) -> Self {
        let after = (0..index).filter(|_| random.one_in(2)).collect();
        let faults = if quiet || random.one_in(2) {
            Vec::new()
        } else {
            random.some(1, 3, Fault::new)
        };
        let policy = random.pick(&[OnFailure::STOP, OnFailure::SKIP, OnFailure::DETACH]);
        let times = random.below(4) as u32;
        let on_failure = match random.below(3) {
            0 => policy,
            1 => policy.after_retries(times, random.pause()),
            _ => policy.after_rewinds(times, random.pause()),
        };
        Self {
            after,
            changes: random.one_in(4),
            holds: random.one_in(4),
            wait: random.wait(parking),
            batch_limit: random.one_in(2).then(|| 1 + random.below(8) as usize),
            idle_every: random.one_in(2).then(|| Duration::from_micros(100)),
            limit: random.one_in(8).then(|| Duration::from_micros(100)),
            on_failure,
            decides: random.one_in(4).then(|| random.next()),
            faults,
            act: None,
            seed: random.next(),
        }
    }
}

impl Fault {
    pub(crate) fn new(random: &mut Random) -> Self {
        let often = [Spot::Event, Spot::Event, Spot::Begin, Spot::End, Spot::Idle];
        let once = [Spot::Build, Spot::Start, Spot::Stop, Spot::Drop];
        let hearing = [Spot::Decide, Spot::Letter];
        let spot = match random.below(8) {
            0 => random.pick(&once),
            1 => random.pick(&hearing),
            _ => random.pick(&often),
        };
        Self {
            spot,
            from: if once.contains(&spot) {
                0
            } else {
                random.below(20)
            },
            calls: 1 + random.below(5),
            how: random.pick(&[How::Error, How::Error, How::Panic, How::Panic, How::Bomb]),
        }
    }
}

impl Act {
    pub(crate) fn new(random: &mut Random, quiet: bool, kept: bool, required: bool) -> Self {
        let short = Duration::from_micros(random.below(4) * 500);
        match random.below(if quiet { 12 } else { 16 }) {
            0..3 => Self::Yield(random.below(30)),
            3..6 => Self::Handled(random.below(100)),
            6 | 7 => Self::Look,
            8 => Self::Feed,
            9 if kept => Self::Look,
            9 => Self::Stop(LONG),
            // Producers that wait for stages which are gone wait until somebody closes the ring.
            10 if kept || required => Self::Close,
            10 => Self::Join,
            11 => random.pick(&[Self::Close, Self::CloseRing]),
            12 => Self::Abort,
            13 => Self::Poison(random.below(5) as u32),
            _ => Self::Stop(short),
        }
    }
}

//! Which thread runs on which core: what there is, what is wanted, and what came of it.

use std::collections::BTreeMap;
use std::fmt;

use annulus_ring::Wait;
use core_affinity::CoreId;

/// Where the stages run that are not given a [core](crate::Stage::core).
///
/// # Examples
/// ```
/// # use annulus::{Pipeline, Placement, Stage};
/// # use annulus::ring::Ring;
/// # let ring = Ring::builder(64).build(u64::default)?;
/// let stages = ["journal", "book"].map(|name| Stage::each(name, |_: &u64, _| ()));
/// let running = Pipeline::on(&ring)
///     .stages(stages)
///     .place(Placement::OneEach { leave: 1 }) // one core for the feed and everybody else
///     .start()?;
/// println!("{:?}", running.warnings()); // that there are too few cores, if so
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Placement {
    /// Wherever the system likes, as far as the thread may run that starts the pipeline.
    #[default]
    Anywhere,
    /// Each on a core of its own, in the order of the stages, without the first `leave` cores. Stages for which
    /// there is none are not pinned, with a warning.
    OneEach {
        /// How many cores to leave to others.
        leave: usize,
    },
}

/// Something that works, and probably not as it was meant.
///
/// # Examples
/// See [`Placement`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// More stages spin while they wait than there are cores: they take the cores from each other.
    TooManySpin {
        /// How many do.
        spinning: usize,
        /// How many cores there are.
        cores: usize,
    },
    /// Several stages are pinned to the same core.
    SharedCore {
        /// The core.
        core: usize,
        /// Their names.
        stages: Vec<String>,
    },
    /// Several stages are pinned to different hyperthreads of the same core.
    Siblings {
        /// The hyperthreads.
        cores: Vec<usize>,
        /// Their names.
        stages: Vec<String>,
    },
    /// There was no core left for a stage.
    NoCoreLeft {
        /// Its name.
        stage: String,
    },
    /// The system refused to pin a stage.
    PinRefused {
        /// Its name.
        stage: String,
        /// The core.
        core: usize,
    },
    /// A producer was still there when the pipeline was stopped, and had to be cut off at the deadline: only it
    /// knows whether it was about to publish. Drop producers first.
    ProducerStillThere,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManySpin { spinning, cores } => write!(
                f,
                "{spinning} stages spin while they wait, on {cores} cores: choose Wait::Yield, or a wait \
                 that sleeps"
            ),
            Self::SharedCore { core, stages } => {
                write!(
                    f,
                    "core {core} is shared by the stages {}",
                    stages.join(", ")
                )
            }
            Self::Siblings { cores, stages } => write!(
                f,
                "the cores {cores:?} are hyperthreads of one core, shared by the stages {}",
                stages.join(", ")
            ),
            Self::NoCoreLeft { stage } => {
                write!(
                    f,
                    "stage {stage:?} is not pinned: there was no core left for it"
                )
            }
            Self::PinRefused { stage, core } => {
                write!(
                    f,
                    "the system refused to pin stage {stage:?} to core {core}"
                )
            }
            Self::ProducerStillThere => f.write_str(
                "a producer was still there when the pipeline was stopped: drop producers first",
            ),
        }
    }
}

/// The cores that this process may run on, in order.
pub(crate) fn cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut cores: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    // This thread may have been pinned to fewer than there are for others: ask for the first one too.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let first = (status.lines()).find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cores.extend(first.map(numbers).unwrap_or_default());
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// Pins this thread, if the system lets it.
pub(crate) fn pin(core: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: core })
}

/// The core that this thread runs on, where the system tells.
pub(crate) fn current_core() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        Some(rustix::thread::sched_getcpu())
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

/// What a stage is like, for who places it.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) core: Option<usize>,
    pub(crate) wait: Wait,
}

/// A core for each stage that gets one, and what is odd about that.
pub(crate) fn plan(
    wanted: &[Wanted<'_>],
    placement: Placement,
    cores: &[usize],
    siblings: impl Fn(usize) -> Vec<usize>,
) -> (Vec<Option<usize>>, Vec<Warning>) {
    let mut warnings = Vec::new();
    let spinning = wanted
        .iter()
        .filter(|stage| stage.wait == Wait::Spin)
        .count();
    if spinning > cores.len() {
        warnings.push(Warning::TooManySpin {
            spinning,
            cores: cores.len(),
        });
    }
    let mut planned: Vec<Option<usize>> = wanted.iter().map(|stage| stage.core).collect();
    if let Placement::OneEach { leave } = placement {
        let taken = planned.clone();
        let mut free =
            (cores.iter().copied().skip(leave)).filter(|core| !taken.contains(&Some(*core)));
        for (stage, core) in wanted
            .iter()
            .zip(&mut planned)
            .filter(|(_, core)| core.is_none())
        {
            *core = free.next();
            if core.is_none() {
                warnings.push(Warning::NoCoreLeft {
                    stage: stage.name.to_owned(),
                });
            }
        }
    }
    let mut by_core: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (stage, core) in wanted.iter().zip(&planned) {
        if let Some(core) = core {
            by_core
                .entry(*core)
                .or_default()
                .push(stage.name.to_owned());
        }
    }
    for (&core, stages) in by_core.iter().filter(|(_, stages)| stages.len() > 1) {
        warnings.push(Warning::SharedCore {
            core,
            stages: stages.clone(),
        });
    }
    let mut told = Vec::new();
    for &core in by_core.keys() {
        let mut together = siblings(core);
        together.retain(|sibling| by_core.contains_key(sibling));
        if together.len() > 1 && !told.contains(&together) {
            let stages = together
                .iter()
                .flat_map(|core| by_core[core].iter().cloned());
            warnings.push(Warning::Siblings {
                stages: stages.collect(),
                cores: together.clone(),
            });
            told.push(together);
        }
    }
    (planned, warnings)
}

/// The hyperthreads of the core that this one belongs to, itself included, where the system tells.
pub(crate) fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    std::fs::read_to_string(path).map_or_else(|_| vec![core], |list| numbers(&list))
}

/// The numbers of a list such as `0-1,4`.
fn numbers(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(
        cores: &[Option<usize>],
        placement: Placement,
        available: &[usize],
    ) -> (Vec<Option<usize>>, Vec<Warning>) {
        let wanted: Vec<_> = (cores.iter().zip(["a", "b", "c", "d"]))
            .map(|(&core, name)| Wanted {
                name,
                core,
                wait: Wait::Spin,
            })
            .collect();
        plan(&wanted, placement, available, |core| {
            vec![core & !1, core | 1]
        })
    }

    #[test]
    fn each_gets_a_core_of_its_own_as_long_as_there_are_any() {
        let (cores, warnings) = planned(
            &[None, Some(4), None, None],
            Placement::OneEach { leave: 1 },
            &[0, 2, 4, 6],
        );
        assert_eq!(cores, [Some(2), Some(4), Some(6), None]);
        assert_eq!(warnings, [Warning::NoCoreLeft { stage: "d".into() }]);
    }

    #[test]
    fn shared_cores_siblings_and_crowds_are_told() {
        let (cores, warnings) = planned(
            &[Some(0), Some(0), Some(1), None],
            Placement::Anywhere,
            &[0, 1],
        );
        assert_eq!(cores, [Some(0), Some(0), Some(1), None]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            warnings,
            [
                Warning::TooManySpin {
                    spinning: 4,
                    cores: 2
                },
                Warning::SharedCore {
                    core: 0,
                    stages: names(&["a", "b"])
                },
                Warning::Siblings {
                    cores: vec![0, 1],
                    stages: names(&["a", "b", "c"])
                },
            ]
        );
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(numbers("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(numbers("3"), [3]);
    }
}

//! Which thread runs on which core: what there is, what is wanted, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::thread;

use annulus_ring::Wait;

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
    /// there is none are not pinned, with a warning; of more cores than the process may use at once, by a quota of its
    /// control group, only so many are given away.
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Warning {
    /// More stages spin while they wait than there are cores: they take the cores from each other.
    TooManySpin {
        /// How many do.
        spinning: usize,
        /// How many cores there are, or the process may use at once.
        cores: usize,
        /// Whether that is by a quota of its control group: then the system stops all of its threads for a while, again
        /// and again.
        by_quota: bool,
    },
    /// A stage is pinned to a core that this process was not to run on, and the system allows it: one that was
    /// set apart (`isolcpus`), or left out of an affinity mask (`taskset`).
    CoreNotOffered {
        /// Its name.
        stage: String,
        /// The core.
        core: usize,
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
        /// The core, or the first of them.
        core: usize,
    },
    /// A stage whose place would be [held](crate::Stage::on_death) comes after one whose place would not: if they die
    /// and are started again, it goes on, and does not come after the new one.
    HeldBehindReleased {
        /// The name of the one that would be held.
        stage: String,
        /// The name of the other.
        after: String,
    },
    /// A stage comes after one that is dead and whose place is held, and nobody has taken that place in the
    /// [time](crate::Stage::hold_for) it wanted to be waited for. The stage goes on waiting.
    HeldUp {
        /// Its name.
        stage: String,
        /// The name of the dead one.
        by: String,
    },
    /// A producer was still there when the pipeline was stopped, and had to be cut off at the deadline: only it
    /// knows whether it was about to publish. Drop producers first.
    ProducerStillThere,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManySpin {
                spinning,
                cores,
                by_quota: false,
            } => write!(
                f,
                "{spinning} stages spin while they wait, on {cores} cores: choose Wait::Yield, or a wait \
                 that sleeps"
            ),
            Self::TooManySpin {
                spinning,
                cores,
                by_quota: true,
            } => write!(
                f,
                "{spinning} stages spin while they wait, and the CPU quota of the process is worth {cores} cores: \
                 choose a wait that sleeps, or raise the quota"
            ),
            Self::CoreNotOffered { stage, core } => write!(
                f,
                "stage {stage:?} is pinned to core {core}, which this process was not to run on, and the system \
                 allows it: make sure that nobody else was to have that core"
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
            Self::HeldBehindReleased { stage, after } => write!(
                f,
                "stage {stage:?} is held if it dies, and {after:?}, which it comes after, is not: when they are started \
                 again it does not wait for the new one; hold both, or release both"
            ),
            Self::HeldUp { stage, by } => write!(
                f,
                "stage {stage:?} waits for a successor of {by:?}, which is dead, for longer than it was to: start a \
                 stage or consumer of that name"
            ),
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

/// Pins this thread to these cores, of which there are some, if the system lets it.
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) fn pin(cores: &[usize]) -> bool {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    let known = cores.iter().filter(|core| **core < CpuSet::MAX_CPU);
    known.for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).is_ok() // None of them is an error, too.
}

/// Pins this thread to the first of these cores, of which there are some, if the system lets it.
#[cfg(any(miri, not(target_os = "linux")))]
pub(crate) fn pin(cores: &[usize]) -> bool {
    (cores.first())
        .is_some_and(|core| core_affinity::set_for_current(core_affinity::CoreId { id: *core }))
}

/// Whether the system lets a thread run on this core, which it has not offered: asked by a thread that is not needed
/// any more.
pub(crate) fn can_run_on(core: usize) -> bool {
    let ask = thread::Builder::new().spawn(move || pin(&[core]));
    ask.is_ok_and(|asked| asked.join().unwrap_or(false))
}

/// How many cores the process may use at once by the CPU quotas of its control groups; none if there is no quota.
pub(crate) fn quota() -> Option<usize> {
    quota_below(Path::new("/"))
}

/// The same of a file system that lies there: the least quota of its group and of those that this is in, which is
/// never less than a core.
fn quota_below(root: &Path) -> Option<usize> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut least: Option<f64> = None;
    for line in groups.lines() {
        // "hierarchy:controllers:path"; of the second version there are no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let mounts = root.join("sys/fs/cgroup");
        let is_second = controllers.is_empty();
        if !is_second && !controllers.split(',').any(|one| one == "cpu") {
            continue;
        }
        let mounts = if is_second {
            [mounts.clone(), mounts.join("unified")]
        } else {
            [mounts.join(controllers), mounts.join("cpu")]
        };
        // In a container the path can be that of the host, of which only the end is to be seen, or nothing.
        let path = Path::new(path.trim_start_matches('/'));
        for group in path.ancestors() {
            for mount in &mounts {
                let cores = cores_of(&mount.join(group), is_second);
                least = match (least, cores) {
                    (Some(least), Some(cores)) => Some(least.min(cores)),
                    (least, cores) => least.or(cores),
                };
            }
        }
    }
    least.map(|cores| (cores as usize).max(1))
}

/// The quota of one group, in cores.
fn cores_of(group: &Path, is_second: bool) -> Option<f64> {
    let read = |file: &str| std::fs::read_to_string(group.join(file)).ok();
    let (quota, period) = if is_second {
        let both = read("cpu.max")?;
        let (quota, period) = both.trim().split_once(' ')?;
        (quota.to_owned(), period.to_owned())
    } else {
        (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
    };
    let number = |text: &str| text.trim().parse::<f64>().ok(); // "max" is none, and so is -1.
    let (quota, period) = (number(&quota)?, number(&period)?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Numbers with commas.
pub(crate) fn list(numbers: &[usize]) -> String {
    let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
    numbers.join(", ")
}

/// The core that this thread runs on, where the system tells.
pub(crate) fn current_core() -> Option<usize> {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        Some(rustix::thread::sched_getcpu())
    }
    #[cfg(any(miri, not(target_os = "linux")))]
    {
        None
    }
}

/// What a stage is like, for who places it.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) cores: Vec<usize>,
    pub(crate) wait: Wait,
}

/// The cores for each stage, none for anywhere, and what is odd about that.
pub(crate) fn plan(
    wanted: &[Wanted<'_>],
    placement: Placement,
    cores: &[usize],
    quota: Option<usize>,
    siblings: impl Fn(usize) -> Vec<usize>,
) -> (Vec<Vec<usize>>, Vec<Warning>) {
    let mut warnings = Vec::new();
    let worth = quota.map_or(cores.len(), |quota| quota.min(cores.len()));
    let spinning = wanted
        .iter()
        .filter(|stage| stage.wait == Wait::Spin)
        .count();
    if spinning > worth {
        warnings.push(Warning::TooManySpin {
            spinning,
            cores: worth,
            by_quota: worth < cores.len(),
        });
    }
    let mut planned: Vec<Vec<usize>> = wanted.iter().map(|stage| stage.cores.clone()).collect();
    if let Placement::OneEach { leave } = placement {
        let taken = planned.concat();
        let free = cores.iter().copied().take(worth).skip(leave);
        let mut free = free.filter(|core| !taken.contains(core));
        for (stage, cores) in wanted
            .iter()
            .zip(&mut planned)
            .filter(|(_, cores)| cores.is_empty())
        {
            cores.extend(free.next());
            if cores.is_empty() {
                warnings.push(Warning::NoCoreLeft {
                    stage: stage.name.to_owned(),
                });
            }
        }
    }
    let mut by_core: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (stage, cores) in wanted.iter().zip(&planned) {
        // Of several cores a stage can take another one.
        if let [core] = &cores[..] {
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
        cores: &[&[usize]],
        placement: Placement,
        available: &[usize],
        quota: Option<usize>,
    ) -> (Vec<Vec<usize>>, Vec<Warning>) {
        let wanted: Vec<_> = (cores.iter().zip(["a", "b", "c", "d"]))
            .map(|(cores, name)| Wanted {
                name,
                cores: cores.to_vec(),
                wait: Wait::Spin,
            })
            .collect();
        plan(&wanted, placement, available, quota, |core| {
            vec![core & !1, core | 1]
        })
    }

    #[test]
    fn each_gets_a_core_of_its_own_as_long_as_there_are_any() {
        let (cores, warnings) = planned(
            &[&[], &[4], &[], &[]],
            Placement::OneEach { leave: 1 },
            &[0, 2, 4, 6],
            None,
        );
        assert_eq!(cores, [vec![2], vec![4], vec![6], vec![]]);
        assert_eq!(warnings, [Warning::NoCoreLeft { stage: "d".into() }]);
    }

    #[test]
    fn shared_cores_siblings_and_crowds_are_told() {
        let (cores, warnings) =
            planned(&[&[0], &[0], &[1], &[]], Placement::Anywhere, &[0, 1], None);
        assert_eq!(cores, [vec![0], vec![0], vec![1], vec![]]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            warnings,
            [
                Warning::TooManySpin {
                    spinning: 4,
                    cores: 2,
                    by_quota: false
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
    fn c34_several_cores_of_one_stage_are_nobody_elses_and_no_crowd() {
        let (cores, warnings) = planned(
            &[&[0, 2], &[2], &[], &[]],
            Placement::OneEach { leave: 0 },
            &[0, 2, 4, 6],
            None,
        );
        assert_eq!(cores, [vec![0, 2], vec![2], vec![4], vec![6]]);
        assert_eq!(warnings, []);
    }

    #[test]
    fn c35_a_quota_counts_as_so_many_cores() {
        let one_each = Placement::OneEach { leave: 0 };
        let (cores, warnings) = planned(&[&[], &[], &[]], one_each, &[0, 2, 4, 6], Some(2));
        assert_eq!(cores, [vec![0], vec![2], vec![]]);
        let expected = [
            Warning::TooManySpin {
                spinning: 3,
                cores: 2,
                by_quota: true,
            },
            Warning::NoCoreLeft { stage: "c".into() },
        ];
        assert_eq!(warnings, expected);
        assert!(warnings[0].to_string().contains("CPU quota"));
        // As many as there are, and a quota that is no limit.
        assert_eq!(planned(&[&[], &[]], one_each, &[0, 2], Some(2)).1, []);
        assert_eq!(planned(&[&[], &[]], one_each, &[0, 2], Some(9)).1, []);
    }

    /// The quota of a process that finds these files.
    fn quota_by(name: &str, files: &[(&str, &str)]) -> Option<usize> {
        let root =
            std::env::temp_dir().join(format!("annulus-quota-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = root.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let quota = quota_below(&root);
        std::fs::remove_dir_all(&root).unwrap();
        quota
    }

    #[test]
    fn c35_the_least_quota_of_all_groups_counts() {
        let second = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/cpu.max", "250000 100000\n"),
        ];
        assert_eq!(quota_by("second", &second), Some(2));
        // A container sees its own group as the root, and its path as that of the host.
        let container = [
            ("proc/self/cgroup", "0::/docker/0123\n"),
            ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
        ];
        assert_eq!(quota_by("container", &container), Some(1));
        let first = [
            (
                "proc/self/cgroup",
                "4:memory:/x\n2:cpu,cpuacct:/job\n1:cpuset:/\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n"),
            (
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us",
                "100000\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(quota_by("first", &first), Some(3));
        let none = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
        ];
        assert_eq!(quota_by("none", &none), None);
        assert_eq!(quota_by("nothing", &[("x", "")]), None);
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(numbers("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(numbers("3"), [3]);
    }
}

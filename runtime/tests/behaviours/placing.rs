//! Placing: which thread runs on which core, and what is said where that may not be as it was meant.

use annulus::ring::Producers::One;
use annulus::ring::Wait;
use annulus::{Pipeline, Placement, Running, Stage, StartError, Warning};

use crate::{A_MINUTE, KINDS, Log, ended, feed, publish, ring};

/// The cores of this process, as the runtime sees them.
fn cores() -> Vec<usize> {
    let stage = Stage::each("a", |_: &u64, _| ()).core(usize::MAX);
    let error = Pipeline::on(&ring(8, One))
        .stage(stage)
        .start()
        .unwrap_err();
    match error {
        StartError::UnknownCore { available, .. } => available,
        other => panic!("{other}"),
    }
}

/// Whether this process may use fewer cores at once than there are, as the standard library sees it.
fn has_quota() -> bool {
    std::thread::available_parallelism().is_ok_and(|most| most.get() < cores().len())
}

/// Its name, and the cores that it may run on, in the words of the system.
#[cfg(target_os = "linux")]
fn this_thread() -> (String, String) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let allowed = (status.lines())
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    let name = std::thread::current().name().unwrap().to_owned();
    (name, allowed.trim().to_owned())
}

#[cfg(target_os = "linux")]
#[test]
fn b5_threads_have_the_names_of_their_stages_and_are_pinned_to_their_cores() {
    for kind in KINDS {
        for core in cores() {
            let log = Log::new();
            let stage = |name| {
                let log = log.clone();
                Stage::each(name, move |_: &u64, _| log.push(this_thread()))
            };
            let stages = [
                stage("pinned").core(core),
                stage("a free one").after(["pinned"]),
            ];
            let running = Pipeline::on(&ring(8, kind)).stages(stages).start().unwrap();
            publish(&mut feed(&running), 0..1);
            let report = ended(running.stop(A_MINUTE));
            let [pinned, free] = &*log.take() else {
                panic!("two threads");
            };
            assert_eq!(pinned, &("pinned".to_owned(), core.to_string()));
            assert_eq!(free, &("a free one".to_owned(), this_thread().1));
            let [pinned, free] = &*report.stages else {
                panic!("two stages");
            };
            assert_eq!((pinned.core, pinned.ran_on), (Some(core), Some(core)));
            assert_eq!(free.core, None);
            assert!(cores().contains(&free.ran_on.unwrap()));
            assert_eq!(report.warnings, []);
        }
    }
}

fn placed(names: &[&str], place: Placement) -> (Running<u64>, Vec<Warning>) {
    let stages = names.iter().map(|name| Stage::each(*name, |_: &u64, _| ()));
    let pipeline = Pipeline::on(&ring(8, One)).stages(stages).place(place);
    let running = pipeline.start().unwrap();
    let warnings = running.warnings();
    (running, warnings)
}

/// But for hyperthreads, which differ from machine to machine.
fn without_siblings(mut warnings: Vec<Warning>) -> Vec<Warning> {
    warnings.retain(|warning| !matches!(warning, Warning::Siblings { .. }));
    warnings
}

#[test]
fn each_gets_a_core_of_its_own_and_the_others_a_warning() {
    let cores = cores();
    if has_quota() {
        return; // Then some of the cores are not given away.
    }
    let names: Vec<_> = (0..=cores.len().min(14)).map(|n| format!("s{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (running, _) = placed(&names, Placement::OneEach { leave: 1 });
    let report = ended(running.stop(A_MINUTE));
    let free = &cores[1..];
    let mut expected = Vec::new();
    for (index, stage) in report.stages.iter().enumerate() {
        let core = free.get(index).copied();
        assert_eq!(stage.core, core);
        if core.is_none() {
            expected.push(Warning::NoCoreLeft {
                stage: stage.name.clone(),
            });
        } else if cfg!(target_os = "linux") {
            assert_eq!(stage.ran_on, core);
        }
    }
    if let Some(warning) = expected.first() {
        let told = warning.to_string();
        assert!(told.ends_with("is not pinned: there was no core left for it"));
    }
    assert_eq!(without_siblings(report.warnings), expected);
}

#[test]
fn who_is_given_a_core_has_it_wherever_the_others_go() {
    let cores = cores();
    let last = *cores.last().unwrap();
    let stages = [
        Stage::each("a", |_: &u64, _| ()),
        Stage::each("b", |_: &u64, _| ()).core(last),
    ];
    let pipeline = Pipeline::on(&ring(8, One)).stages(stages);
    let running = pipeline
        .place(Placement::OneEach { leave: 0 })
        .start()
        .unwrap();
    let report = ended(running.stop(A_MINUTE));
    assert_eq!(report.stages[1].core, Some(last));
    let first = (cores.len() > 1).then_some(cores[0]);
    assert_eq!(report.stages[0].core, first);
}

#[test]
fn no_placement_is_no_warning() {
    let (running, warnings) = placed(&["a", "b", "c", "d", "e"], Placement::Anywhere);
    assert_eq!(warnings, []);
    let report = ended(running.stop(A_MINUTE));
    assert!(report.stages.iter().all(|stage| stage.core.is_none()));
    assert_eq!(report.warnings, []);
}

#[test]
fn who_shares_a_core_is_told() {
    let core = cores()[0];
    let stages = ["a", "b"].map(|name| Stage::each(name, |_: &u64, _| ()).core(core));
    let pipeline = Pipeline::on(&ring(8, One)).stages(stages);
    let running = pipeline
        .stage(Stage::each("c", |_: &u64, _| ()))
        .start()
        .unwrap();
    let shared = Warning::SharedCore {
        core,
        stages: vec!["a".into(), "b".into()],
    };
    assert_eq!(running.warnings(), std::slice::from_ref(&shared));
    let expected = format!("core {core} is shared by the stages a, b");
    assert_eq!(shared.to_string(), expected);
    assert_eq!(ended(running.stop(A_MINUTE)).warnings, [shared]);
}

/// More than there are cores, which take turns: they have nothing to do.
#[test]
fn too_many_that_spin_are_told() {
    let cores = cores().len();
    if has_quota() {
        return; // Then it is the quota that counts.
    }
    for spinning in [cores, cores + 1] {
        let builder = annulus::ring::Ring::builder(8).members(64);
        let ring = builder.build(u64::default).unwrap();
        let stages = (0..spinning.min(60))
            .map(|n| Stage::each(format!("s{n}"), |_: &u64, _| ()).wait(Wait::Spin));
        let running = Pipeline::on(&ring).stages(stages).start().unwrap();
        let report = ended(running.stop(A_MINUTE));
        if (cores + 1..=60).contains(&spinning) {
            let by_quota = false;
            let told = Warning::TooManySpin {
                spinning,
                cores,
                by_quota,
            };
            let numbers = format!("{spinning} stages spin while they wait, on {cores} cores: ");
            assert!(told.to_string().starts_with(&numbers), "{told}");
            assert_eq!(report.warnings, [told]);
        } else {
            assert_eq!(report.warnings, []);
        }
    }
}

/// Says which core to pin to, to this program when it is started again.
const PIN_TO: &str = "ANNULUS_TEST_PIN_TO";

#[cfg(target_os = "linux")]
#[test]
fn c34_a_stage_is_pinned_to_a_core_that_only_the_affinity_mask_leaves_out() {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if let Ok(core) = std::env::var(PIN_TO) {
        let core = core.parse().unwrap();
        let stage = Stage::each("a", |_: &u64, _| ()).core(core);
        let running = Pipeline::on(&ring(8, One)).stage(stage).start().unwrap();
        let report = ended(running.stop(A_MINUTE));
        let stage = "a".to_owned();
        assert_eq!(report.warnings, [Warning::CoreNotOffered { stage, core }]);
        assert_eq!(report.stages[0].ran_on, Some(core));
        println!("pinned to {core}");
        return;
    }
    let cores = cores();
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    if first == last {
        return; // There is none to leave out.
    }
    // A process is allowed what the thread is that starts it.
    let run = std::thread::spawn(move || {
        let mut only = CpuSet::new();
        only.set(first);
        sched_setaffinity(None, &only).unwrap();
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("placing::c34_a_stage_is_pinned_to_a_core_that_only_the_affinity_mask_leaves_out")
            .env(PIN_TO, last.to_string())
            .output()
            .unwrap()
    });
    let output = run.join().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains(&format!("pinned to {last}")),
        "{output:?}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn c34_a_stage_runs_on_any_of_the_cores_that_it_was_given() {
    let cores = cores();
    let log = Log::new();
    let allowed = log.clone();
    let stage = Stage::each("a", move |_: &u64, _| allowed.push(this_thread().1));
    let stages = [stage.cores(cores.iter().copied().take(2))];
    let running = Pipeline::on(&ring(8, One)).stages(stages).start().unwrap();
    publish(&mut feed(&running), 0..1);
    let report = ended(running.stop(A_MINUTE));
    assert_eq!(report.stages[0].cores, cores[..cores.len().min(2)]);
    let expected = match cores[..] {
        [only] => only.to_string(),
        [first, second, ..] if second == first + 1 => format!("{first}-{second}"),
        [first, second, ..] => format!("{first},{second}"),
        [] => panic!("there is a core"),
    };
    assert_eq!(log.take(), [expected]);
    assert_eq!(report.warnings, []);
}

//! Building: what is wrong with a pipeline is an error that says what to do, and leaves nothing behind.

use annulus::ring::Producers::{Many, One};
use annulus::ring::{JoinError, Ring, Wait};
use annulus::{Pipeline, Stage, StartError};

use crate::{A_MINUTE, KINDS, Log, counts, ended, feed, logging, publish, ring, start, until};

fn stage(name: &str) -> Stage<u64> {
    Stage::each(name, |_: &u64, _| ())
}

fn changing(name: &str) -> Stage<u64> {
    Stage::each_mut(name, |_: &mut u64, _| ())
}

/// Why these stages cannot be started. It leaves nothing behind.
fn refused<const N: usize>(ring: &Ring<u64>, stages: [Stage<u64>; N]) -> StartError {
    let before = ring.snapshot();
    let error = Pipeline::on(ring).stages(stages).start().unwrap_err();
    assert_eq!(ring.snapshot(), before);
    error
}

/// Why the ring refuses these stages.
fn refused_by_the_ring<const N: usize>(ring: &Ring<u64>, stages: [Stage<u64>; N]) -> JoinError {
    match refused(ring, stages) {
        StartError::Join(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pipeline_without_stages_is_an_error() {
    let error = refused(&ring(8, One), []);
    assert!(matches!(error, StartError::NoStages));
    assert_eq!(error.to_string(), "the pipeline has no stages: add one");
}

#[test]
fn a27_a_duplicate_name_is_an_error() {
    let ring = ring(8, One);
    let error = refused(&ring, ["a", "b", "a"].map(stage));
    assert!(matches!(&error, StartError::DuplicateName { stage } if stage == "a"));
    assert_eq!(
        error.to_string(),
        "several stages are called \"a\": give each a name of its own"
    );

    let _other = ring.consumer("b").join().unwrap();
    let error = refused_by_the_ring(&ring, ["a", "b"].map(stage));
    assert_eq!(error, JoinError::NameTaken { name: "b".into() });
}

#[test]
fn a27_an_unknown_name_is_an_error() {
    let ring = ring(8, One);
    for after in ["jornal", "", "risk "] {
        let error = refused(&ring, [stage("journal"), stage("risk").after([after])]);
        let StartError::UnknownName {
            stage,
            after: unknown,
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!((stage.as_str(), unknown.as_str()), ("risk", after));
        assert_eq!(
            error.to_string(),
            format!(
                "stage \"risk\" comes after {after:?}, and there is neither such a stage nor such a consumer \
                 of the ring: add it, or correct the name"
            )
        );
    }
}

/// A producer has no name that one could come after.
#[test]
fn a27_a_stage_does_not_come_after_a_producer() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let running = start(&ring, [stage("a")]);
        let _feed = feed(&running);
        let error = refused(&ring, [stage("b").after([""])]);
        assert!(matches!(error, StartError::UnknownName { .. }));
        let _ = running.abort();
    }
}

#[test]
fn stages_in_a_circle_are_an_error() {
    let ring = ring(8, One);
    for (stages, circle) in [
        (vec![stage("a").after(["a"])], "[\"a\"]"),
        (
            vec![
                stage("a"),
                stage("b").after(["a", "d"]),
                stage("c").after(["b"]),
                stage("d").after(["c"]),
                stage("e").after(["d"]),
            ],
            "[\"b\", \"c\", \"d\", \"e\"]",
        ),
    ] {
        let error = Pipeline::on(&ring).stages(stages).start().unwrap_err();
        assert!(matches!(error, StartError::Cycle { .. }));
        assert_eq!(
            error.to_string(),
            format!(
                "the stages {circle} come after each other in a circle, or after some that do: take one \
                 `after` away"
            )
        );
    }
}

#[test]
fn a_stage_that_changes_events_beside_another_is_an_error() {
    let ring = ring(8, One);
    for other in [stage, changing] {
        let stages = [
            stage("in"),
            changing("enrich").after(["in"]),
            other("book").after(["in"]),
        ];
        let error = refused(&ring, stages);
        assert!(matches!(error, StartError::Unordered { .. }));
        assert_eq!(
            error.to_string(),
            "stage \"enrich\" changes events, and stage \"book\" comes neither before nor after it: put one \
             after the other"
        );
    }

    // It need not be said twice.
    let stages = [
        changing("c").after(["b"]),
        stage("d").after(["c"]),
        changing("a"),
        stage("b").after(["a"]),
    ];
    ended(start(&ring, stages).stop(A_MINUTE));
}

#[test]
fn a_stage_that_changes_events_beside_another_consumer_of_the_ring_is_an_error() {
    let ring = ring(8, One);
    let _book = ring.consumer("book").join().unwrap();
    let error = refused_by_the_ring(&ring, [changing("enrich")]);
    assert!(matches!(error, JoinError::Unordered { .. }), "{error}");
    let stages = [changing("enrich").after(["book"])];
    let running = start(&ring, stages);
    let _ = running.abort();
}

#[test]
fn b5_a_core_that_is_not_there_is_an_error() {
    let error = refused(&ring(8, One), [stage("a").core(usize::MAX)]);
    let StartError::UnknownCore {
        stage,
        core,
        available,
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((stage.as_str(), *core), ("a", usize::MAX));
    assert!(!available.is_empty() && available.is_sorted());
    let expected = format!(
        "stage \"a\" is to be pinned to core {core}, which the system refuses: choose one of {available:?}"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_the_ring_refuses_is_an_error() {
    let long = "x".repeat(81);
    let small = Ring::builder(8).members(2).build(u64::default).unwrap();
    let closed = ring(8, One);
    closed.close();
    let poisoned = ring(8, One);
    poisoned.poison(42);
    let ring = ring(8, One);
    for (ring, refused, what) in [
        (&ring, stage(""), "a consumer's name takes 1 to 80 bytes"),
        (&ring, stage(&long), long.as_str()),
        (&ring, stage("b").batch_limit(0), "\"b\" is 0"),
        (&ring, stage("b").wait(Wait::Park), "\"b\""),
        (&small, stage("b"), "the member table, which holds 2"),
        (&closed, stage("b"), "the ring is closed"),
        (&poisoned, stage("b"), "reason 42"),
    ] {
        let error = refused_by_the_ring(ring, [stage("c"), refused, stage("a")]);
        let message = StartError::Join(error.clone()).to_string();
        assert_eq!(message, error.to_string());
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn stages_may_be_given_in_any_order() {
    for kind in KINDS {
        let log = Log::new();
        let stages = ["c", "b", "a"].map(|name| {
            let log = log.clone();
            Stage::each(name, move |event: &u64, _| log.push((*event, name)))
        });
        let [c, b, a] = stages;
        let running = start(&ring(1, kind), [c.after(["b"]), b.after(["a"]), a]);
        publish(&mut feed(&running), 0..3);
        let report = ended(running.stop(A_MINUTE));
        let names: Vec<_> = report.stages.iter().map(|stage| &stage.name).collect();
        assert_eq!(names, ["c", "b", "a"]);
        let expected = (0..3).flat_map(|event| ["a", "b", "c"].map(|name| (event, name)));
        assert_eq!(log.take(), Vec::from_iter(expected));
    }
}

/// A second pipeline on the same ring works.
#[test]
fn a27_stages_can_be_added_after_the_start() {
    for kind in KINDS {
        let (ring, log) = (ring(4, kind), Log::new());
        let first = start(&ring, [logging("a", &Log::new())]);
        let mut feed = feed(&first);
        publish(&mut feed, 0..10);
        until("the first pipeline is done with them", || {
            first.metrics()[0].1.events == 10
        });
        let second = start(&ring, [logging("b", &log).after(["a"])]);
        publish(&mut feed, 10..100);
        drop(feed);
        let [first, second] = [first, second].map(|running| ended(running.stop(A_MINUTE)));
        assert_eq!(counts(&first.stages[0]), [100, 0, 0, 0]);
        assert_eq!(second.published, 100);
        assert_eq!(second.stages[0].published, log.len() as u64);
        let seen = log.take();
        assert!((90..=100).contains(&seen.len()), "{seen:?}");
        assert_eq!(seen, Vec::from_iter(100 - seen.len() as u64..100));
    }
}

/// They are those of the system, which cuts them to 15 bytes.
#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok() // It may be gone.
    });
    names.filter(|thread| thread.trim_end() == name).count()
}

#[cfg(target_os = "linux")]
#[test]
fn c19_a_pipeline_leaks_no_thread_however_it_ends() {
    const NAME: &str = "leaks-nothing";
    let gone = || until("its threads are gone", || threads_named(NAME) == 0);
    for kind in KINDS {
        drop(Pipeline::on(&ring(8, kind)).stage(stage(NAME)));
        gone();
        let unknown = stage("b").after(["c"]);
        refused(&ring(8, kind), [stage(NAME), unknown]);
        gone();
        refused(&ring(8, kind), [stage(NAME), stage("b").wait(Wait::Park)]);
        gone();
        let running = start(&ring(8, kind), [stage(NAME)]);
        until("it has begun", || threads_named(NAME) == 1);
        running.stop(A_MINUTE).unwrap();
        gone();
        drop(start(&ring(8, kind), [stage(NAME)]));
        gone();
        let _ = start(&ring(8, kind), [stage(NAME)]).abort();
        gone();
    }
}

/// In a process of its own, where stacks are so large that there is room for two or three.
#[cfg(target_os = "linux")]
#[test]
fn c19_a_thread_that_the_system_refuses_is_an_error_and_the_others_go_home() {
    use std::process::Command;
    const FEW: &str = "ANNULUS_FEW_THREADS";
    const THIS: &str =
        "building::c19_a_thread_that_the_system_refuses_is_an_error_and_the_others_go_home";
    if std::env::var_os(FEW).is_none() {
        let output = Command::new("sh")
            .args(["-c", "ulimit -v 4000000 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", THIS, "--test-threads=1", "--nocapture"])
            .env("RUST_MIN_STACK", "1000000000")
            .env(FEW, "")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let passed = output.status.success() && said.contains("refused: \"");
        assert!(passed, "{output:?}");
        return;
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let (before, ring) = (threads(), ring(8, Many));
    let names = ["a", "b", "c", "d", "e", "f"];
    let built = Log::new();
    let stages = names.map(|name| {
        let built = built.clone();
        Stage::with(name, move || {
            built.push(name);
            vec![Quiet]
        })
    });
    let error = refused(&ring, stages);
    let StartError::Thread { stage, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(names[1..].contains(&stage.as_str()), "{stage}");
    let message = error.to_string();
    let expected = format!("the thread of stage {stage:?} could not be started: ");
    assert!(message.starts_with(&expected), "{message}");
    println!("refused: {stage:?}");
    until("the others are gone", || threads() == before);
    assert_eq!(built.take(), [""; 0]);
}

struct Quiet;

impl annulus::Handler<u64> for Quiet {
    fn on_event(&mut self, _: &u64, _: annulus::At) -> Result<(), annulus::HandlerError> {
        Ok(())
    }
}

/// Such a name cannot be that of a thread.
#[cfg(target_os = "linux")]
#[test]
fn c19_a_name_with_a_nul_is_an_error_that_leaves_nothing_behind() {
    const NAME: &str = "before-the-nul";
    let ring = ring(8, One);
    let pipeline = Pipeline::on(&ring).stages([stage(NAME), stage("a\0b")]);
    let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pipeline.start()));
    until("nothing is left", || {
        ring.snapshot().members.is_empty() && threads_named(NAME) == 0
    });
    assert!(matches!(started, Ok(Err(_))));
}

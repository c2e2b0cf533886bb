//! Describing: drawings of pipelines, and pipelines from a file.

use annulus::ring::Producers::One;
use annulus::{OnFailure, Pipeline, Placement, Settings, Stage, StartError, Topology};

use crate::{A_MINUTE, Gate, KINDS, Log, ended, feed, gated, logging, publish, ring};

#[test]
fn a_drawing_shows_stages_cores_changes_and_other_consumers() {
    let ring = ring(64, One);
    let stage = |name| Stage::each(name, |_: &u64, _| ());
    let pipeline = Pipeline::on(&ring)
        .stage(Stage::each_mut("enrich", |_: &mut u64, _| ()).core(3))
        .stage(stage("risk").after(["journal", "say \"hi\"", "elsewhere"]))
        .stage(stage("journal").after(["enrich"]))
        .stage(stage("say \"hi\"").after(["elsewhere", "enrich"]).core(0));
    let expected = "\
flowchart LR
    ring([\"ring of 64\"])
    s0[\"enrich, core 3, changes\"]
    s1[\"risk\"]
    s2[\"journal\"]
    s3[\"say #quot;hi#quot;, core 0\"]
    o0[\"elsewhere\"]
    ring -.-> o0
    ring --> s0
    s2 --> s1
    s3 --> s1
    o0 --> s1
    s0 --> s2
    o0 --> s3
    s0 --> s3
";
    assert_eq!(pipeline.to_mermaid(), expected);
    assert_eq!(
        Pipeline::on(&ring).to_mermaid(),
        "flowchart LR\n    ring([\"ring of 64\"])\n"
    );
}

fn diamond() -> Topology {
    let settings = |name, after: &[&str]| {
        let mut settings = Settings::named(name);
        settings.after = after.iter().map(|&name| name.to_owned()).collect();
        settings
    };
    Topology {
        stages: vec![
            settings("risk", &["journal", "book"]),
            settings("journal", &[]),
            settings("book", &[]),
        ],
        ..Topology::default()
    }
}

#[test]
fn a_topology_runs_with_a_handler_for_each_of_its_stages() {
    for kind in KINDS {
        let log = Log::new();
        // What it is called is for the topology to say.
        let pipeline = diamond()
            .on(&ring(4, kind), |_| Some(logging("anonymous", &log)))
            .unwrap();
        let running = pipeline.start().unwrap();
        publish(&mut feed(&running), 0..100);
        let report = ended(running.stop(A_MINUTE));
        let names: Vec<_> = report.stages.iter().map(|stage| &stage.name).collect();
        assert_eq!(names, ["risk", "journal", "book"]);
        assert!(report.stages.iter().all(|stage| stage.handled == 100));
        assert_eq!(log.len(), 300);
    }
}

#[test]
fn a_stage_of_a_topology_without_a_handler_is_an_error() {
    let asked = Log::new();
    let error = diamond()
        .on(&ring(4, One), |name| {
            asked.push(name.to_owned());
            (name == "risk").then(|| logging(name, &Log::new()))
        })
        .unwrap_err();
    assert!(matches!(&error, StartError::NoHandler { stage } if stage == "journal"));
    assert_eq!(
        error.to_string(),
        "there is no handler for stage \"journal\": add one, or correct its name"
    );
    assert_eq!(asked.take(), ["risk", "journal"]);
}

#[test]
fn a27_an_unknown_name_in_a_topology_is_an_error() {
    let mut topology = diamond();
    topology.stages.pop();
    let pipeline = topology.on(&ring(4, One), |name| Some(logging(name, &Log::new())));
    let error = pipeline.unwrap().start().unwrap_err();
    assert!(
        matches!(&error, StartError::UnknownName { stage, after } if stage == "risk" && after == "book")
    );
}

#[test]
fn placement_is_taken_from_the_topology() {
    let mut topology = diamond();
    topology.placement = Placement::OneEach { leave: usize::MAX };
    let pipeline = topology.on(&ring(4, One), |name| Some(logging(name, &Log::new())));
    let running = pipeline.unwrap().start().unwrap();
    assert_eq!(running.warnings().len(), 3);
    ended(running.stop(A_MINUTE));
}

/// A pipeline with most of what a report can tell.
fn eventful() -> annulus::Report {
    let ring = ring(64, One);
    let risk = Stage::each("risk", |event: &u64, _| match event {
        3 => Err("too many shares"),
        _ => Ok(()),
    });
    let running = Pipeline::on(&ring)
        .stage(logging("journal", &Log::new()))
        .stage(risk.after(["journal"]).on_failure(OnFailure::SKIP))
        .timed_by(|_| annulus::ticks())
        .start()
        .unwrap();
    publish(&mut feed(&running), 0..8);
    ended(running.stop(A_MINUTE))
}

#[test]
fn c39_a_report_is_a_table_that_can_be_read() {
    let report = eventful();
    let text = report.to_string();
    let lines: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0][..5],
        ["stage", "handled", "skipped", "failed", "left"]
    );
    assert_eq!(lines[0].last(), Some(&"ended"));
    assert_eq!(lines[1][..5], ["journal", "8", "0", "0", "0"]);
    assert_eq!(lines[2][..5], ["risk", "7", "0", "1", "0"]);
    assert!(
        lines[1..3]
            .iter()
            .all(|line| line.last() == Some(&"drained"))
    );
    assert_eq!(lines[3].join(" "), "feed 0: 0 dropped, 0 waits, 0 parks");
    assert_eq!(
        lines[4].join(" "),
        "stage \"risk\" failed at event 3: too many shares"
    );
    assert_eq!(lines.len(), 5, "{text}");
    let widths: Vec<_> = text.lines().take(3).map(|line| line.find("  ")).collect();
    assert!(widths.iter().all(Option::is_some), "{text}");

    let metrics = report.stages[0].metrics.to_string();
    let titles = metrics.lines().next().unwrap();
    assert!(
        titles.starts_with("events") && titles.contains("batch p50/p99"),
        "{metrics}"
    );
}

#[cfg(feature = "serde")]
#[test]
fn c39_a_report_can_be_written_to_a_file() {
    let report = serde_json::to_value(eventful()).unwrap();
    let risk = &report["stages"][1];
    assert_eq!(
        (&risk["name"], &risk["handled"], &risk["ended"]),
        (&"risk".into(), &7.into(), &"drained".into())
    );
    assert_eq!(
        report["failures"][0],
        "stage \"risk\" failed at event 3: too many shares"
    );
    assert_eq!(report["feeds"][0]["dropped"], 0);
    assert_eq!(risk["metrics"]["batch_sizes"]["sum"], 8);
    assert!(risk["metrics"]["times"]["batch_ns"]["p99"].is_u64());
}

/// What a `main` shows that returns it is its `Debug`.
#[test]
fn c36_an_error_that_ends_a_program_shows_its_text() {
    let error = Pipeline::on(&ring(4, One)).start().unwrap_err();
    assert_eq!(format!("{error:?}"), "the pipeline has no stages: add one");

    let refuses = Stage::each("risk", |_: &u64, _| Err::<(), _>("too many shares"));
    let running = Pipeline::on(&ring(4, One)).stage(refuses).start().unwrap();
    let mut feed = feed(&running);
    feed.publish(|_| ()).unwrap();
    let error = std::iter::from_fn(|| Some(feed.publish(|_| ()))).find_map(Result::err);
    let failed = "stage \"risk\" failed at event 0: too many shares";
    assert_eq!(
        format!("{:?}", error.unwrap()),
        format!("the pipeline has stopped: {failed}")
    );
    let stopped = running.join().unwrap_err();
    assert!(format!("{stopped:?}").starts_with(failed), "{stopped:?}");
}

/// It was a number, to all who had nothing to do with the pipeline.
#[test]
fn c37_a_poison_by_a_pipeline_says_what_happened_and_to_which_stage() {
    let ring = ring(64, One);
    let mut book = ring.consumer("book").join().unwrap();
    let bystander = Pipeline::on(&ring)
        .stage(logging("screen", &Log::new()))
        .start()
        .unwrap();
    let (gate, log) = (Gate::default(), Log::new());
    let held_up = gated("held up", &gate, &log);
    let refuses = Stage::each("risk", |_: &u64, _| Err::<(), _>("too many shares"));
    let running = Pipeline::on(&ring)
        .stages([refuses, held_up])
        .start()
        .unwrap();
    let mut feed = ring.producer().unwrap();
    feed.publish_value(7).unwrap();
    let why = loop {
        if let Err(ended) = book.next_batch() {
            break ended.to_string();
        }
    };
    let expected =
        "the ring was poisoned because a stage of a pipeline failed: the member in row 2";
    assert_eq!(why, expected);
    let stopped = bystander.join().unwrap_err();
    assert!(
        stopped.to_string().contains("a stage of a pipeline failed"),
        "{stopped}"
    );
    gate.open();
    assert!(running.join().is_err());
}

#[cfg(feature = "serde")]
mod from_a_file {
    use std::time::Duration;

    use annulus::ring::{OnDeath, Start, Wait};
    use annulus::{OnFailure, Placement, Settings, Topology};

    fn read(json: &str) -> serde_json::Result<Topology> {
        serde_json::from_str(json)
    }

    #[test]
    fn everything_can_be_said() {
        let topology = read(
            r#"{
                "stages": [
                    {"name": "a"},
                    {
                        "name": "b",
                        "after": ["a", "other"],
                        "core": 3,
                        "wait": {"phased": {"spins": 1, "yields": 2, "sleep": {"secs": 0, "nanos": 3}}},
                        "batch_limit": 4,
                        "on_failure": {
                            "again": {"rewind": {"times": 5, "pause": {"secs": 6, "nanos": 0}}},
                            "then": "detach"
                        },
                        "idle_every": {"secs": 7, "nanos": 0},
                        "limit": {"secs": 8, "nanos": 0},
                        "cores": [4, 5],
                        "start": {"at": 9},
                        "on_death": "release",
                        "hold_for": {"secs": 10, "nanos": 0}
                    },
                    {"name": "g", "start": "oldest", "on_death": "hold"},
                    {"name": "c", "wait": "spin", "on_failure": {"then": "stop"}},
                    {"name": "d", "wait": "yield", "on_failure": {"again": "never", "then": "skip"}},
                    {"name": "e", "wait": "backoff", "on_failure": {
                        "again": {"retry": {"times": 9, "pause": {"secs": 0, "nanos": 0}}}
                    }},
                    {"name": "f", "wait": "park", "core": null, "on_failure": {}}
                ],
                "placement": {"one_each": {"leave": 1}},
                "owns_ring": false
            }"#,
        );
        let mut b = Settings::named("b");
        b.after = vec!["a".into(), "other".into()];
        b.core = Some(3);
        b.wait = Wait::Phased {
            spins: 1,
            yields: 2,
            sleep: Duration::from_nanos(3),
        };
        b.batch_limit = Some(4);
        b.on_failure = OnFailure::DETACH.after_rewinds(5, Duration::from_secs(6));
        b.idle_every = Some(Duration::from_secs(7));
        b.limit = Some(Duration::from_secs(8));
        b.cores = vec![4, 5];
        b.start = Start::At(9);
        b.on_death = Some(OnDeath::Release);
        b.hold_for = Some(Duration::from_secs(10));
        let mut g = Settings::named("g");
        g.start = Start::Oldest;
        g.on_death = Some(OnDeath::Hold);
        let named = |name, wait, on_failure| {
            let mut settings = Settings::named(name);
            settings.wait = wait;
            settings.on_failure = on_failure;
            settings
        };
        let stages = vec![
            Settings::named("a"),
            b,
            g,
            named("c", Wait::Spin, OnFailure::STOP),
            named("d", Wait::Yield, OnFailure::SKIP),
            named(
                "e",
                Wait::Backoff,
                OnFailure::STOP.after_retries(9, Duration::ZERO),
            ),
            named("f", Wait::Park, OnFailure::default()),
        ];
        let expected = Topology {
            stages,
            placement: Placement::OneEach { leave: 1 },
            owns_ring: Some(false),
        };
        assert_eq!(topology.unwrap(), expected);
    }

    #[test]
    fn an_unknown_word_is_an_error_that_names_it() {
        for json in [
            r#"{"stages": [], "oops": 1}"#,
            r#"{"stages": [{"name": "a", "oops": 1}]}"#,
            r#"{"stages": [{"name": "a", "wait": "oops"}]}"#,
            r#"{"stages": [{"name": "a", "on_failure": {"oops": 1}}]}"#,
            r#"{"stages": [{"name": "a", "on_failure": {"then": "oops"}}]}"#,
            r#"{"stages": [{"name": "a", "on_failure": {"again": "oops"}}]}"#,
            r#"{"stages": [], "placement": "oops"}"#,
            r#"{"stages": [{"name": "a", "start": "oops"}]}"#,
            r#"{"stages": [{"name": "a", "on_death": "oops"}]}"#,
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("`oops`"), "{error}");
        }
        for json in ["{}", r#"{"stages": [{}]}"#] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("missing field"), "{error}");
        }
    }

    #[test]
    fn an_unknown_word_inside_of_a_variant_is_an_error_too() {
        const PAUSE: &str = r#"{"secs": 0, "nanos": 0}"#;
        for json in [
            format!(r#"{{"retry": {{"times": 1, "pause": {PAUSE}, "oops": 1}}}}"#),
            format!(r#"{{"rewind": {{"times": 1, "pause": {PAUSE}, "oops": 1}}}}"#),
        ] {
            let json =
                format!(r#"{{"stages": [{{"name": "a", "on_failure": {{"again": {json}}}}}]}}"#);
            assert!(read(&json).is_err(), "{json}");
        }
        for json in [
            r#"{"stages": [], "placement": {"one_each": {"leave": 1, "oops": 1}}}"#,
            r#"{"stages": [{"name": "a", "wait": {"phased":
                {"spins": 1, "yields": 1, "sleep": {"secs": 0, "nanos": 0}, "oops": 1}}}]}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}

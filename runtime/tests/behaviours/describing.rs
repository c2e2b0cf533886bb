//! Describing: drawings of pipelines, and pipelines from a file.

use annulus::ring::Producers::One;
use annulus::{Pipeline, Placement, Settings, Stage, StartError, Topology};

use crate::{A_MINUTE, KINDS, Log, ended, feed, logging, publish, ring};

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
        placement: Placement::Anywhere,
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

#[cfg(feature = "serde")]
mod from_a_file {
    use std::time::Duration;

    use annulus::ring::Wait;
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
                        "limit": {"secs": 8, "nanos": 0}
                    },
                    {"name": "c", "wait": "spin", "on_failure": {"then": "stop"}},
                    {"name": "d", "wait": "yield", "on_failure": {"again": "never", "then": "skip"}},
                    {"name": "e", "wait": "backoff", "on_failure": {
                        "again": {"retry": {"times": 9, "pause": {"secs": 0, "nanos": 0}}}
                    }},
                    {"name": "f", "wait": "park", "core": null, "on_failure": {}}
                ],
                "placement": {"one_each": {"leave": 1}}
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
        let named = |name, wait, on_failure| {
            let mut settings = Settings::named(name);
            settings.wait = wait;
            settings.on_failure = on_failure;
            settings
        };
        let stages = vec![
            Settings::named("a"),
            b,
            named("c", Wait::Spin, OnFailure::STOP),
            named("d", Wait::Yield, OnFailure::SKIP),
            named(
                "e",
                Wait::Backoff,
                OnFailure::STOP.after_retries(9, Duration::ZERO),
            ),
            named("f", Wait::Park, OnFailure::default()),
        ];
        let placement = Placement::OneEach { leave: 1 };
        assert_eq!(topology.unwrap(), Topology { stages, placement });
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

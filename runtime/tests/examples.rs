//! The examples do what they say.

macro_rules! example {
    ($name:ident, $path:literal) => {
        #[path = $path]
        #[expect(dead_code, reason = "its main only prints what `run` returns")]
        mod $name;
    };
}

example!(embed, "../examples/embed.rs");
example!(diamond, "../examples/diamond.rs");
example!(enrich, "../examples/enrich.rs");
example!(journal_gate, "../examples/journal_gate.rs");
example!(failures, "../examples/failures.rs");

#[test]
fn embed_handles_all() {
    let report = embed::run().unwrap();
    assert!(report.adds_up());
    assert_eq!((report.published, report.stages[0].handled), (3, 3));
}

#[test]
fn the_diamond_finds_every_breach() {
    let (graph, breaches) = diamond::run().unwrap();
    let arrows = ["ring --> s0", "ring --> s1", "s0 --> s2", "s1 --> s2"];
    assert!(arrows.iter().all(|arrow| graph.contains(arrow)), "{graph}");
    assert_eq!(breaches, [(2, 110)]);
}

#[test]
fn enriched_quotes_are_seen_as_they_were_left() {
    let (forgotten, best) = enrich::run().unwrap();
    let told =
        "stage \"rates\" changes events, and stage \"convert\" comes neither before nor after it";
    assert!(forgotten.starts_with(told), "{forgotten}");
    assert_eq!(best, [10_000, 10_260, 10_476]);
}

#[test]
fn only_what_is_on_disk_is_answered() {
    assert_eq!(journal_gate::run().unwrap(), 500);
}

#[test]
fn each_policy_is_reported() {
    let failed = "stage \"risk\" failed at event 2: limit reached";
    assert_eq!(
        failures::run().unwrap(),
        [
            format!(
                "stop: handled 2, failed 1, left 2, restarts 0, given up [3]: {failed}; stage \"risk\" left 2 events"
            ),
            "skip: handled 4, failed 1, left 0, restarts 0, given up [3]: ok".to_owned(),
            "detach: handled 2, failed 1, left 2, restarts 0, given up [3]: ok".to_owned(),
            "retry: handled 5, failed 0, left 0, restarts 2, given up []: ok".to_owned(),
            "rewind: handled 5, failed 0, left 0, restarts 2, given up []: ok".to_owned(),
            "retry, skip: handled 4, failed 1, left 0, restarts 3, given up [3]: ok".to_owned(),
            "by closure: handled 4, failed 1, left 0, restarts 0, given up [3]: ok".to_owned(),
        ]
    );
}

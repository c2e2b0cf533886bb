//! Runs the real `versus`, with so few events that its figures mean nothing: what it prints, and how it
//! refuses what it does not know.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use annulus_benches::cores::Cores;
use annulus_benches::report::RATIO;
use annulus_benches::scenario::{Effort, SCENARIOS, Scenario};
use annulus_benches::subjects::{self, IN_PROCESS};
use serde_json::Value;

/// What the machine allows at best, by one line and by two.
const FLOORS: [&str; 2] = ["floor", "floor-two-lines"];

fn versus(arguments: &[&str]) -> Output {
    let versus = env!("CARGO_BIN_EXE_versus");
    Command::new(versus).args(arguments).output().unwrap()
}

/// What it prints when all goes well.
fn printed(arguments: &[&str]) -> String {
    let output = versus(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of all scenarios and subjects.
fn names() -> Vec<&'static str> {
    let scenarios = SCENARIOS.iter().map(|scenario| scenario.name);
    let subjects = subjects::all();
    let subjects = subjects.iter().map(|subject| subject.name());
    scenarios.chain(subjects).collect()
}

#[test]
fn list_has_every_name_on_a_line() {
    let list = printed(&["--list"]);
    let lines: BTreeSet<&str> = list.lines().map(str::trim).collect();
    assert!(names().iter().all(|name| lines.contains(name)), "{list}");
    let named_in_the_readme = [
        "round-trip-56",
        "one-to-one-b10",
        "many-1p-b100",
        "many-2p-b1",
    ];
    assert!(
        named_in_the_readme.iter().all(|name| lines.contains(name)),
        "{list}"
    );
}

#[test]
fn an_unknown_name_is_an_error_that_tells_what_exists() {
    let output = versus(&["--json", "--only", "one-to-one-b10,one-to-one-b11"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("\"one-to-one-b11\""), "{message}");
    assert!(
        names().iter().all(|name| message.contains(name)),
        "{message}"
    );
}

#[test]
fn json_has_a_row_for_every_subject_that_can_do_the_scenario() {
    let arguments = [
        "--json",
        "--quick",
        "--events",
        "2000",
        "--only",
        "one-to-one-b10",
    ];
    let report: Value = serde_json::from_str(&printed(&arguments)).unwrap();
    assert!(report["machine"].is_string() && report["commit"].is_string());

    let rows = report["rows"].as_array().unwrap();
    let scenario = SCENARIOS
        .iter()
        .find(|scenario| scenario.name == "one-to-one-b10")
        .unwrap();
    let expected: Vec<&str> = (subjects::all().iter())
        .filter(|subject| {
            let cores = Cores::of_this_process();
            subject
                .measure(scenario, Effort::Events(100), cores)
                .is_some()
        })
        .map(|subject| subject.name())
        .collect();
    let subjects: Vec<&str> = rows
        .iter()
        .map(|row| row["subject"].as_str().unwrap())
        .collect();
    assert_eq!(subjects, expected);

    for row in rows {
        assert_eq!(row["scenario"], "one-to-one-b10");
        assert_eq!(row["unit"], "M events/s");
        let ours = row["subject"].as_str().unwrap().starts_with("annulus");
        assert_eq!(row["rival"], !ours, "{row}");
        let [min, median, max] = ["min", "median", "max"].map(|name| row[name].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{row}");
        assert!(row["p99"].is_null() && row["p999"].is_null(), "{row}");
        assert_eq!(row["ratio"].is_f64(), cfg!(feature = "rivals"), "{row}");
    }
}

#[test]
fn every_scenario_runs_and_its_events_are_checked() {
    let report = printed(&["--json", "--quick", "--events", "300"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let rows = report["rows"].as_array().unwrap();
    for scenario in &SCENARIOS {
        let of = |subject: &str| {
            (rows.iter()).find(|row| row["scenario"] == scenario.name && row["subject"] == subject)
        };
        let ours = match scenario.topology() {
            Some(_) => of("annulus-ring").unwrap(),
            None if scenario.dead().is_some() => of("annulus-ipc-wait-park").unwrap(),
            None if scenario.is_ipc() => of("annulus-ipc").unwrap(),
            None => of("annulus").unwrap(),
        };
        assert_eq!(ours["unit"], scenario.unit());
        assert_eq!(ours["p99"].is_f64(), scenario.is_latency(), "{ours}");
        for floor in FLOORS {
            let is_there = of(floor).is_some();
            assert_eq!(is_there, scenario.is_round_trip(), "{}", scenario.name);
        }
        let rivals = rows
            .iter()
            .any(|row| row["scenario"] == scenario.name && row["rival"] == true);
        let is_only_ours = scenario.dead().is_some() || scenario.observers().is_some();
        let expected = cfg!(feature = "rivals") && !is_only_ours;
        assert_eq!(rivals, expected, "{}", scenario.name);
    }
}

#[test]
fn in_the_topologies_those_that_are_made_for_them_take_part_and_no_others() {
    let made_for_them = [
        "annulus-runtime",
        "annulus-runtime-apart",
        "annulus-runtime-timed",
        "annulus-ring",
        "annulus-ring-apart",
        "disruptor",
    ];
    let cores = Cores::of_this_process();
    for scenario in &SCENARIOS {
        let takes_part = |subject: &str| match scenario.topology() {
            Some(_) => made_for_them.contains(&subject),
            None => !made_for_them.contains(&subject),
        };
        for subject in subjects::all() {
            let sample = subject.measure(scenario, Effort::Events(300), cores);
            let (scenario, subject) = (scenario.name, subject.name());
            // Nobody else can do everything.
            let has_to = made_for_them.contains(&subject) || sample.is_some();
            assert!(
                !has_to || sample.is_some() == takes_part(subject),
                "{subject} in {scenario}"
            );
        }
    }
}

#[test]
fn the_readme_has_no_topologies_and_no_other_processes_unless_they_are_named() {
    let quick = ["--markdown", "--quick", "--events", "100"];
    let named = |name| printed(&[&quick[..], &["--only", name]].concat());
    let table = printed(&quick);
    let topology = "\n| diamond-b1, M events/s |";
    let ipc = "\n| ipc-round-trip-8, ns |";
    assert!(!table.contains(topology) && !table.contains(ipc), "{table}");
    assert!(named("annulus-ring").contains(topology));
    assert!(named("ipc-round-trip-8").contains(ipc));
}

/// Those that can do a scenario of several processes.
fn between_processes(scenario: &Scenario) -> Vec<&'static str> {
    let subjects = subjects::all();
    let subjects = subjects
        .iter()
        .filter(|it| it.two_processes(scenario).is_some());
    subjects.map(|subject| subject.name()).collect()
}

fn scenario(name: &str) -> &'static Scenario {
    let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
    found.unwrap()
}

#[test]
fn all_that_go_between_processes_do_all_of_it_and_beside_them_stands_what_one_process_takes() {
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.is_ipc()) {
        let arguments = ["--json", "--quick", "--events", "300", "--only"];
        let report = printed(&[&arguments[..], &[scenario.name]].concat());
        let report: Value = serde_json::from_str(&report).unwrap();
        let rows = report["rows"].as_array().unwrap();
        let of = |name: &str| rows.iter().find(|row| row["subject"] == name);
        for name in between_processes(scenario) {
            let row = of(name).unwrap();
            let ours = name.starts_with("annulus");
            assert_eq!(row["rival"], !ours, "{row}");
            let to_in_process = ours && scenario.name == "ipc-round-trip-8";
            assert_eq!(row["to_in_process"].is_f64(), to_in_process, "{row}");
        }
        let within_one = of(IN_PROCESS).is_some();
        assert_eq!(within_one, scenario.name == "ipc-round-trip-8");
        let floors = if scenario.is_round_trip() {
            FLOORS.len()
        } else {
            0
        };
        let others = usize::from(within_one) + floors;
        let both = between_processes(scenario).len() + others;
        assert_eq!(rows.len(), both, "{report}");
    }
}

#[test]
fn what_no_rival_can_do_ours_does_in_each_way() {
    let ways_to_wait = [
        "annulus-ipc-wait-default",
        "annulus-ipc-wait-spin",
        "annulus-ipc-wait-yield",
        "annulus-ipc-wait-park",
    ];
    for name in ["ipc-recovery", "ipc-recovery-gate"] {
        assert_eq!(between_processes(scenario(name)), ways_to_wait);
    }
    let rings = ["annulus-ipc", "annulus-ipc-apart", "annulus-ipc-parking"];
    for observers in [0, 1, 8, 64] {
        let name = format!("ipc-observers-{observers}");
        assert_eq!(between_processes(scenario(&name)), rings);
    }
}

#[test]
fn a_recovery_is_told_in_microseconds_from_the_p50_up() {
    let arguments = ["--json", "--quick", "--events", "300", "--only"];
    let only = "ipc-recovery,ipc-recovery-gate,annulus-ipc-wait-default";
    let report = printed(&[&arguments[..], &[only]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["unit"], "µs");
        let [p50, p99, p999] = ["median", "p99", "p999"].map(|name| row[name].as_f64().unwrap());
        assert!(p50 <= p99 && p99 <= p999, "{row}");
        assert!(row["ratio"].is_null(), "{row}");
    }
}

/// A `versus` that goes between processes, for so long that it has to be stopped.
struct Endless {
    versus: Child,
    measuring: u32,
    others: Vec<u32>,
}

impl Endless {
    /// Returns when all the processes exist and have had a moment to begin.
    fn start(scenario: &str, subject: &str, others: usize) -> Self {
        let only = [scenario, subject].join(",");
        let versus = Command::new(env!("CARGO_BIN_EXE_versus"))
            .args(["--quick", "--events", "1000000000", "--only", &only])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let children = |parent, count| {
            until("processes start", || {
                Some(children_of(parent)).filter(|children| children.len() == count)
            })
        };
        let measuring = children(versus.id(), 1)[0];
        let others = children(measuring, others);
        thread::sleep(Duration::from_millis(200));
        Self {
            versus,
            measuring,
            others,
        }
    }

    /// Kills one of its processes, and returns what it says to that.
    fn kill(self, process: u32) -> String {
        let kill = Command::new("kill")
            .args(["-9", &process.to_string()])
            .status();
        assert!(kill.unwrap().success());
        let output = self.versus.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        until("the other processes end", || {
            let exists = |other: &u32| fs::exists(format!("/proc/{other}")).unwrap();
            (!self.others.iter().any(exists)).then_some(())
        });
        let own = format!("annulus-versus-{}-", self.measuring);
        let left: Vec<_> = (fs::read_dir("/dev/shm").unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(&own))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn until<T>(what: &str, mut happens: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        match happens() {
            Some(result) => return result,
            None => assert!(began.elapsed() < Duration::from_secs(30), "until {what}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes that this one has started.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // Number, name in parentheses, state, parent.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    numbers.filter(is_child).collect()
}

#[test]
fn if_the_other_process_dies_the_scenario_fails_and_says_so() {
    for name in ["ipc-round-trip-8", "ipc-one-way-64-b1"] {
        for subject in between_processes(scenario(name)) {
            let endless = Endless::start(name, subject, 1);
            let other = endless.others[0];
            let message = endless.kill(other);
            let reason = format!(
                "{name} with {subject}: the process on the other side has ended: signal: 9"
            );
            assert!(message.contains(&reason), "{message}");
        }
    }
}

#[test]
fn if_the_observers_die_the_scenario_fails_and_says_so() {
    let endless = Endless::start("ipc-observers-8", "annulus-ipc", 2);
    let is_told_to_observe = |other: &&u32| {
        let task = fs::read_to_string(format!("/proc/{other}/cmdline")).unwrap();
        task.contains("Observers")
    };
    let observers = *endless.others.iter().find(is_told_to_observe).unwrap();
    let message = endless.kill(observers);
    let reason = "annulus-ipc: the process that observes has ended: signal: 9";
    assert!(message.contains(reason), "{message}");
}

#[test]
fn if_the_measuring_process_dies_nothing_of_it_is_left() {
    for (name, others) in [("ipc-round-trip-1024", 1), ("ipc-observers-1", 2)] {
        for subject in between_processes(scenario(name)) {
            let endless = Endless::start(name, subject, others);
            let measuring = endless.measuring;
            let message = endless.kill(measuring);
            assert!(message.contains("a measuring process failed"), "{message}");
        }
    }
}

#[test]
fn the_readme_gets_machine_commit_and_command() {
    let arguments = [
        "--markdown",
        "--quick",
        "--events",
        "300",
        "--only",
        "round-trip-8,annulus",
    ];
    let table = printed(&arguments);
    assert!(table.starts_with("| | annulus |"), "{table}");
    assert!(table.contains("\n| round-trip-8, ns |"), "{table}");
    assert!(table.contains("; commit "), "{table}");
    assert!(
        table.contains("--quick --events 300 --only round-trip-8,annulus`"),
        "{table}"
    );
}

#[test]
fn help_has_an_example_and_says_what_a_ratio_is() {
    let help = printed(&["--help"]);
    assert!(help.contains("Example:\n"), "{help}");
    assert!(help.contains(RATIO), "{help}");
}

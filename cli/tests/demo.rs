//! Runs the real `annulus demo`: what it reports on known markets, and how it refuses what it
//! cannot use.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// Every type of message, two orders that were never submitted, and two imbalances: worked out by
/// hand.
const TINY: &str = "\
34200.000000001,1,1,100,1000000,1
34200.000000002,1,2,100,1000200,-1
34200.000000003,1,3,200,1000000,1
34200.000000004,4,3,150,1000000,1
34200.000000005,2,2,50,1000200,-1
34200.000000006,5,0,10,1000100,1
34200.000000007,3,9,10,1000300,-1
34200.000000008,6,-1,500,1000100,-1
34200.000000009,7,0,0,-1,-1
34200.00000001,1,4,100,1000100,-1
34200.000000011,3,2,50,1000200,-1
34200.000000012,4,77,5,1000000,1
";

fn tiny_report() -> Value {
    json!({
        "events": 12,
        "by_type": {
            "submission": 4, "cancellation": 1, "deletion": 2, "execution_visible": 2,
            "execution_hidden": 1, "cross": 1, "halt": 1,
        },
        "times_back": 0,
        "unknown_orders": 2,
        "orders_sent": 2,
        "lost": 0,
        "best_bid": 1_000_000,
        "best_ask": 1_000_100,
        "stages": [
            {"name": "audit", "events": 12},
            {"name": "book", "events": 12},
            {"name": "strategy", "events": 6},
            {"name": "monitor", "events": 6},
            {"name": "gateway", "events": 2},
        ],
    })
}

#[test]
fn json_reports_what_was_worked_out_by_hand() {
    let tiny = file("by_hand.csv", TINY.as_bytes());
    let report = report(&["--input", &tiny]);
    assert_eq!(without_times(&report), tiny_report());

    let times = ["wall_s", "events_per_s"].map(|field| report[field].as_f64());
    assert!(times.iter().all(|time| time.is_some_and(|time| time > 0.0)));
    let latencies =
        ["p50", "p99", "p999", "max"].map(|field| report["tick_to_trade_ns"][field].as_u64());
    assert!(latencies.iter().all(Option::is_some), "{report}");
    assert!(latencies.is_sorted(), "{report}");
    for stage in report["stages"].as_array().unwrap() {
        assert!(
            stage["core"].is_u64() || !cfg!(target_os = "linux"),
            "{stage}"
        );
        assert!(
            (1..=12).contains(&stage["batches"].as_u64().unwrap()),
            "{stage}"
        );
        for time in ["queue_ns", "service_ns"] {
            let values = ["p50", "p99", "p999", "max"].map(|field| stage[time][field].as_u64());
            assert!(
                values.iter().all(Option::is_some) && values.is_sorted(),
                "{stage}"
            );
        }
    }
}

#[test]
fn no_option_that_is_about_speed_changes_the_result() {
    let tiny = file("speed.csv", TINY.as_bytes());
    let cores = core_affinity::get_core_ids().unwrap();
    let core = cores[0].id.to_string();
    let options: [&[&str]; 7] = [
        &["--wait", "spin"],
        &["--wait", "yield"],
        &["--wait", "backoff"],
        &["--wait", "phased"],
        &["--rate", "100000"],
        &["--rate", "max"],
        &["--cores", &core],
    ];
    for option in options {
        let report = report(&[&["--input", &tiny], option].concat());
        assert_eq!(without_times(&report), tiny_report(), "{option:?}");
    }
}

#[test]
fn gzip_and_crlf_read_as_plain_text_does() {
    let two_members = [&TINY[..100], &TINY[100..]].map(|part| gzip(part.as_bytes()));
    for (name, bytes) in [
        ("same.csv.gz", gzip(TINY.as_bytes())),
        ("two_members.csv.gz", two_members.concat()),
        ("crlf.csv", TINY.replace('\n', "\r\n").into_bytes()),
        ("no_last_line_end.csv", TINY.trim_end().into()),
    ] {
        let report = report(&["--input", &file(name, &bytes)]);
        assert_eq!(without_times(&report), tiny_report(), "{name}");
    }
}

#[test]
fn f7_files_as_vendors_and_tools_leave_them_read_as_plain_text_does() {
    let marked = format!("\u{feff}{TINY}").into_bytes();
    let zeroes = vec![0; 100_000];
    let two_members = [&TINY[..100], &TINY[100..]].map(|part| gzip(part.as_bytes()));
    let [first, second] = &two_members;
    for (name, bytes) in [
        ("marked.csv", marked.clone()),
        ("marked.csv.gz", gzip(&marked)),
        ("CAPITALS.CSV.GZ", gzip(TINY.as_bytes())),
        ("called_something_else.csv", gzip(TINY.as_bytes())),
        ("called_nothing", two_members.concat()),
        (
            "padded.csv.gz",
            [&gzip(TINY.as_bytes()), &zeroes]
                .map(Vec::as_slice)
                .concat(),
        ),
        (
            "padded_between.csv.gz",
            [first, &zeroes, second, &zeroes]
                .map(Vec::as_slice)
                .concat(),
        ),
    ] {
        let report = report(&["--input", &file(name, &bytes)]);
        assert_eq!(without_times(&report), tiny_report(), "{name}");
    }
    for bytes in [TINY.into(), marked, gzip(TINY.as_bytes())] {
        let output = demo_reading(&bytes, &["--input", "-", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(without_times(&report), tiny_report());
    }
    let padded = [gzip(TINY.as_bytes()), vec![0, 0, 7]].concat();
    let path = file("not_only_padded.csv.gz", &padded);
    refused(&["--input", &path], &[&path, "line 13"]);
    let output = demo_reading(b"noon\n", &["--input", "-"]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(
        message.contains("standard input: line 1, column"),
        "{message}"
    );
}

#[test]
fn f8_times_that_go_back_are_counted_and_the_last_one_is_pointed_at() {
    let rows: Vec<&str> = TINY.lines().collect();
    let back = [&rows[4..], &rows[..4], &rows[..1]].concat().join("\n");
    let path = file("back.csv", back.as_bytes());
    let output = demo(&["--input", &path, "--json", "--repeat", "2"]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["events"], &report["times_back"]),
        (&json!(26), &json!(4))
    );
    let warning = text(&output.stderr);
    let expected = format!(
        "annulus: warning: {path}: line 13, column 1: the time goes back from 34200.000000004 to 34200.000000001 \
         (the last of 2 rows that do): rows are replayed as they stand\n"
    );
    assert_eq!(warning, expected);
    let output = demo(&["--input", &path]);
    let back = text(&output.stdout)
        .lines()
        .find(|row| row.starts_with("times that go back"));
    assert!(
        back.is_some_and(|row| row.ends_with(" 2")),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn f10_what_is_queueing_is_not_shown_as_latency() {
    let tiny = file("queueing.csv", TINY.as_bytes());
    let full = demo(&["--input", &tiny]);
    let full = text(&full.stdout);
    assert!(
        full.contains("with queueing, p50") && full.contains("it is no latency"),
        "{full}"
    );
    assert!(!full.contains("tick to trade"), "{full}");
    let paced = demo(&["--input", &tiny, "--rate", "100000"]);
    let paced = text(&paced.stdout);
    assert!(
        paced.contains("tick to trade, p50") && paced.contains("100,000"),
        "{paced}"
    );
    assert!(!paced.contains("queueing"), "{paced}");
    assert_eq!(report(&["--input", &tiny])["rate"], Value::Null);
    assert_eq!(
        report(&["--input", &tiny, "--rate", "100000"])["rate"],
        100_000
    );
}

#[test]
fn each_repetition_counts_the_same_again() {
    let tiny = file("repeated.csv", TINY.as_bytes());
    let once = report(&["--input", &tiny]);
    let thrice = report(&["--input", &tiny, "--repeat", "3"]);
    for field in ["events", "unknown_orders", "orders_sent"] {
        let [once, thrice] = [&once, &thrice].map(|report| report[field].as_u64().unwrap());
        assert_eq!(thrice, 3 * once, "{field}");
    }
    assert_eq!(thrice["by_type"]["submission"], 12);
    assert_eq!(thrice["best_bid"], once["best_bid"]);
    assert_eq!(thrice["best_ask"], once["best_ask"]);
    assert_eq!(thrice["lost"], 0);
}

#[test]
fn an_empty_side_and_latencies_without_orders_are_null() {
    let one_bid = file("one_bid.csv", b"1,1,1,100,1000000,1\n");
    let report = report(&["--input", &one_bid]);
    assert_eq!(report["best_bid"], 1_000_000);
    assert_eq!(report["best_ask"], Value::Null);
    assert_eq!(report["orders_sent"], 0);
    for field in ["p50", "p99", "p999", "max"] {
        assert_eq!(report["tick_to_trade_ns"].get(field), Some(&Value::Null));
    }
    let text = demo(&["--input", &one_bid]);
    assert!(text.status.success());
}

#[test]
fn a_generated_market_is_the_same_in_every_run() {
    let generated = ["--events", "20000", "--seed", "7"];
    let first = without_times(&report(&generated));
    assert_eq!(without_times(&report(&generated)), first);
    assert_eq!(first["events"], 20_000);
    assert_eq!(first["unknown_orders"], 0);
    assert_eq!(first["lost"], 0);
    assert!(first["orders_sent"].as_u64() > Some(0));
    assert!(first["best_bid"].as_i64() < first["best_ask"].as_i64());
    let other = without_times(&report(&["--events", "20000", "--seed", "8"]));
    assert_ne!(other, first);
}

#[test]
fn the_report_for_people_shows_what_matters() {
    let tiny = file("people.csv", TINY.as_bytes());
    let output = demo(&["--input", &tiny]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "", "no progress bar off a terminal");
    let report = text(&output.stdout);
    for (label, value) in [
        ("events", "12"),
        ("submissions", "4"),
        ("orders sent", "2"),
        ("events lost", "0"),
        ("best bid", "150 x 100.00"),
        ("best ask", "100 x 100.01"),
        ("mean", "0.0180"),
        ("stage", "service p50 / p99"),
    ] {
        let row = report.lines().find(|line| line.trim().starts_with(label));
        assert!(
            row.is_some_and(|row| row.ends_with(value)),
            "{label}: {report}"
        );
    }
    for label in [
        "events per second",
        "with queueing, p50",
        "p99.9",
        "audit checksum",
    ] {
        assert!(report.contains(label), "{label}: {report}");
    }
}

#[test]
fn a_wrong_cell_is_refused_with_its_line_and_column() {
    let good = "34200.1,1,1,100,1000000,1\n";
    for (name, row, column, expected) in [
        (
            "time",
            "noon,1,2,100,1000000,1",
            1,
            "seconds after midnight",
        ),
        (
            "time_negative",
            "-1,1,2,100,1000000,1",
            1,
            "seconds after midnight",
        ),
        ("type", "34200.2,8,2,100,1000000,1", 2, "1 to 7"),
        ("order_id", "34200.2,1,x,100,1000000,1", 3, "order id"),
        ("shares", "34200.2,1,2,0,1000000,1", 4, "shares from 1"),
        (
            "shares_overflow",
            "34200.2,1,2,99999999999,1000000,1",
            4,
            "4294967295",
        ),
        ("price", "34200.2,1,2,100,100.00,1", 5, "dollars x 10,000"),
        (
            "price_overflow",
            "34200.2,1,2,100,99999999999999999999,1",
            5,
            "dollars",
        ),
        (
            "direction",
            "34200.2,1,2,100,1000000,0",
            6,
            "1 (buy) or -1 (sell)",
        ),
        ("halt_direction", "34200.2,7,0,0,-1,buy", 6, "1, 0 or -1"),
        ("too_few", "34200.2,1,2,100", 5, "found 4"),
        ("too_many", "34200.2,1,2,100,1000000,1,1", 7, "found 7"),
        (
            "header",
            "Time,Type,ID,Size,Price,Direction",
            1,
            "seconds after midnight",
        ),
    ] {
        let text = format!("{good}{good}{row}\n{good}");
        for (name, bytes) in [
            (format!("{name}.csv"), text.clone().into_bytes()),
            (format!("{name}.csv.gz"), gzip(text.as_bytes())),
        ] {
            let path = file(&name, &bytes);
            let place = format!("line 3, column {column}:");
            refused(&["--input", &path], &[&path, &place, "expected", expected]);
        }
    }
}

#[test]
fn bytes_that_are_not_text_are_refused_with_their_line_and_column() {
    let path = file(
        "latin1.csv",
        b"1,1,1,100,1000000,1\n1,1,\xe9,100,1000000,1\n",
    );
    refused(
        &["--input", &path],
        &[&path, "line 2, column 3:", "expected UTF-8"],
    );
}

#[test]
fn files_that_hold_nothing_to_replay_are_refused() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let missing = path_of("missing.csv").display().to_string();
    refused(&["--input", &missing], &[&missing]);
    refused(&["--input", directory], &[directory]);
    for (name, bytes) in [
        ("empty.csv", Vec::new()),
        ("blank.csv", b"\n\n".to_vec()),
        ("nothing.csv.gz", gzip(b"")),
    ] {
        let path = file(name, &bytes);
        refused(&["--input", &path], &[&path, "empty", "expected"]);
    }
}

#[test]
fn gzip_that_is_cut_off_or_damaged_is_refused() {
    let whole = gzip(TINY.repeat(1000).as_bytes());
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 16].fill(0x55);
    let mut wrong_sum = whole.clone();
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 1;
    for (name, bytes) in [
        ("cut_off.csv.gz", &whole[..middle]),
        ("cut_off_sum.csv.gz", &whole[..sum]),
        ("cut_off_header.csv.gz", &whole[..5]),
        ("damaged.csv.gz", &damaged),
        ("wrong_sum.csv.gz", &wrong_sum),
        ("not_gzip.csv.gz", TINY.as_bytes()),
        ("no_bytes.csv.gz", b""),
    ] {
        let path = file(name, bytes);
        refused(&["--input", &path], &[&path]);
    }
}

#[test]
fn a_core_that_does_not_exist_is_named_with_those_that_do() {
    let cores = core_affinity::get_core_ids().unwrap();
    let list = format!("{}-99999", cores[0].id);
    refused(
        &["--cores", "99999"],
        &["core 99999", &format!("available: {}", cores[0].id)],
    );
    refused(&["--cores", &list], &["does not exist", "available"]);
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for arguments in [
        &["--cores", "one"][..],
        &["--cores", "3-1"],
        &["--rate", "0"],
        &["--rate", "fast"],
        &["--repeat", "0"],
        &["--events", "0"],
        &["--wait", "nap"],
        &["--input", "a.csv", "--input", "b.csv"],
        &["--input", "a.csv", "--seed", "1"],
        &["a.csv"],
    ] {
        refused(arguments, &["error"]);
    }
}

#[test]
fn help_has_an_example() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["demo", "--help"],
        &["demo", "-h"],
    ] {
        let output = annulus(arguments);
        assert!(output.status.success());
        let help = text(&output.stdout);
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains("\n  annulus demo"), "{help}");
    }
}

#[test]
fn nobody_listening_is_no_failure() {
    for form in [&["--json"][..], &[]] {
        let mut child = command()
            .args([&["demo", "--events", "1000"], form].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "");
        assert!(output.status.success());
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_annulus"))
}

fn annulus(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

fn demo(arguments: &[&str]) -> Output {
    annulus(&[&["demo"], arguments].concat())
}

/// The same with these bytes on its standard input.
fn demo_reading(bytes: &[u8], arguments: &[&str]) -> Output {
    let mut child = command()
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It fits into the pipe.
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = demo(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn without_times(report: &Value) -> Value {
    let mut report = report.clone();
    let fields = report.as_object_mut().unwrap();
    for time in ["wall_s", "rate", "events_per_s", "tick_to_trade_ns"] {
        assert!(fields.remove(time).is_some(), "{time}");
    }
    for stage in fields["stages"].as_array_mut().unwrap() {
        let fields = stage.as_object_mut().unwrap();
        for time in ["core", "batches", "queue_ns", "service_ns"] {
            assert!(fields.remove(time).is_some(), "{time}");
        }
    }
    report
}

/// Exit code 2, nothing on stdout, and on stderr each of `parts`.
fn refused(arguments: &[&str], parts: &[&str]) {
    let output = demo(arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert!(!message.contains("panicked"), "{message}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Writes a file that no other test uses, and returns its path.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = path_of(name);
    fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

//! Runs the real `annulus ls`, `stat` and `gc` on rings whose members live, are stopped, are killed, or write nonsense.
#![cfg(target_os = "linux")]

use std::alloc::Layout;
use std::env;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use annulus::ipc::{Directory, Plain, Segment};
use annulus::ring::{Ended, OnDeath, Producers, Ring, RingBuilder};
use serde_json::{Value, json};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Clone, Copy, Debug, Plain, FromBytes, IntoBytes, Immutable)]
#[plain(crate = annulus::ipc)]
#[repr(C)]
struct Quote {
    instrument: u64,
    price: i64,
}

const QUOTE: Quote = Quote {
    instrument: 7,
    price: 5_853_300,
};

#[test]
fn d13_without_proc_the_commands_fail_and_say_what_is_missing() {
    let own = Own::new("no-proc");
    drop(own.create("quotes", 8));
    for command in [&["ls"][..], &["stat", "quotes"], &["gc", "--yes"]] {
        let program = own.command(command);
        let hide = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
        let mut hidden = Command::new("unshare");
        hidden
            .args(["--mount", "sh", "-c", hide])
            .arg(program.get_program());
        hidden.args(program.get_args()).env("ANNULUS_DIR", &own.0);
        let output = hidden.output().unwrap();
        let said = text(&output.stderr);
        if said.starts_with("unshare:") || said.starts_with("mount:") {
            eprintln!("skipped: d13_without_proc: {said}");
            return;
        }
        assert_eq!(output.status.code(), Some(2), "{command:?}: {output:?}");
        assert!(said.contains("mount /proc"), "{command:?}: {said}");
    }
    assert!(own.file("quotes").exists());
}

#[test]
fn a_list_tells_how_rings_are() {
    let own = Own::new("list");
    let quotes = own.create("quotes", 8);
    let _idle = own.create("idle", 1 << 20);
    let closed = own.create("closed", 8);
    let poisoned = own.create("poisoned", 8);

    let mut feed = quotes.producer().unwrap();
    let mut book = quotes.consumer("book").join().unwrap();
    let _journal = quotes.consumer("journal").join().unwrap();
    publish(&mut feed, 4);
    drop(book.next_batch().unwrap());
    closed.close();
    let strategy = poisoned.consumer("strategy").join().unwrap();
    strategy.poison(28);

    let listing = own.json(&["ls"]);
    assert_eq!(listing["directory"], own.path());
    let rings: Vec<Value> = (listing["rings"].as_array().unwrap().iter())
        .map(|ring| {
            let mut ring = ring.clone();
            let size = ring.as_object_mut().unwrap().remove("size_bytes");
            assert!(size.unwrap().as_u64() > Some(0));
            ring
        })
        .collect();
    let ring = |name, capacity, alive, occupancy: Value, closed, poisoned: Value| {
        json!({
            "name": name, "type": "Quote", "capacity": capacity, "members_alive": alive, "members_dead": 0,
            "occupancy": occupancy, "closed": closed, "poisoned": poisoned, "table_locked_by": null,
        })
    };
    let null = || Value::Null;
    let expected = [
        ring("closed", 8, 0, null(), true, null()),
        ring("idle", 1 << 20, 0, null(), false, null()),
        ring(
            "poisoned",
            8,
            1,
            json!(0),
            false,
            json!({"reason": 28, "row": 0}),
        ),
        ring("quotes", 8, 3, json!(4), false, null()),
    ];
    assert_eq!(rings, expected);

    let text = own.text(&["ls"]);
    for (name, parts) in [
        ("NAME", ["TYPE", "OCCUPIED", "STATE"]),
        ("quotes", ["Quote", "4 (50%)", "open"]),
        ("idle", ["1,048,576", "-", "MiB"]),
        ("closed", ["closed", "KiB", "Quote"]),
        (
            "poisoned",
            ["poisoned with reason 28", "by the member in row 0", "Quote"],
        ),
    ] {
        let line = line(&text, name);
        for part in parts {
            assert!(line.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn d7_what_is_no_ring_is_listed_with_what_is_wrong_with_it() {
    let own = Own::new("no-ring");
    drop(own.create("quotes", 8));
    let bytes = fs::read(own.file("quotes")).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        bytes
    };
    fs::write(own.file("text"), "not a ring").unwrap();
    fs::write(own.file("nothing"), "").unwrap();
    fs::write(own.file("version"), changed(8, 9)).unwrap();
    fs::write(own.file("order"), changed(12, 9)).unwrap();
    fs::write(own.file("features"), changed(23, 9)).unwrap();
    fs::write(own.file("capacity"), changed(32, 9)).unwrap();
    fs::write(own.file("short"), &bytes[..5000]).unwrap();
    fs::create_dir(own.file("folder")).unwrap();
    symlink(own.file("quotes"), own.file("link")).unwrap();
    let pipe = Command::new("mkfifo").arg(own.file("pipe")).status();
    assert!(pipe.unwrap().success());

    let wrong = [
        ("capacity", "damaged"),
        ("features", "features"),
        ("folder", "no ring"),
        ("link", "no ring"),
        ("nothing", "no ring"),
        ("order", "orders bytes"),
        ("pipe", "no ring"),
        ("short", "cut short"),
        ("text", "no ring"),
        ("version", "another version"),
    ];
    let listing = own.json(&["ls"]);
    let (text, cleared) = (own.text(&["ls"]), own.text(&["gc", "--yes"]));
    for (name, what) in wrong {
        let entry = entry(&listing, name);
        let error = entry["error"].as_str();
        assert!(error.is_some_and(|error| error.contains(what)), "{entry}");
        assert_eq!(entry.as_object().unwrap().len(), 2, "{entry}");
        assert!(line(&text, name).contains(what), "{text}");
        let left = line(&cleared, &format!("left alone  {name}"));
        assert!(left.contains(what), "{cleared}");
        own.refused(&["stat", name], &[name, what]);
    }
    assert_eq!(entry(&listing, "quotes")["type"], "Quote");
    assert_eq!(listing["rings"].as_array().unwrap().len(), wrong.len() + 1);

    // Only the ring, which nobody uses, is gone.
    let names = wrong.map(|(name, _)| name);
    assert_eq!(own.directory().names().unwrap(), names);
}

#[test]
fn what_a_ring_is_is_shown() {
    let own = Own::new("what");
    let ring = Ring::builder(1024)
        .producers(Producers::Many)
        .layout(annulus::ring::Layout::Apart)
        .members(5)
        .require_consumers(1)
        .no_parking();
    let _quotes = Segment::builder(ring)
        .directory(own.directory())
        .attribute("schema", "7")
        .attribute("venue", "x")
        .create::<Quote>("quotes")
        .unwrap();

    let stat = own.json(&["stat", "quotes"]);
    let size = fs::metadata(own.file("quotes")).unwrap().len();
    for (field, value) in [
        ("name", json!("quotes")),
        ("directory", json!(own.path())),
        ("size_bytes", json!(size)),
        ("type", json!("Quote")),
        ("event_size", json!(16)),
        ("event_align", json!(8)),
        (
            "fields",
            json!([
                {"path": "instrument", "offset": 0, "type": "u64"},
                {"path": "price", "offset": 8, "type": "i64"},
            ]),
        ),
        ("attributes", json!({"schema": "7", "venue": "x"})),
        (
            "built",
            json!({
                "capacity": 1024, "producers": "many", "layout": "apart", "members": 5,
                "required_consumers": 1, "parking": false, "observable": true,
            }),
        ),
        ("claimed", json!(0)),
        ("published", json!(0)),
        ("published_per_s", Value::Null),
        ("occupancy", Value::Null),
        ("closed", json!(false)),
        ("poisoned", Value::Null),
        ("removed", json!(false)),
        ("members", json!([])),
        ("hole", Value::Null),
    ] {
        assert_eq!(stat.get(field), Some(&value), "{field}: {stat}");
    }

    let text = own.text(&["stat", "quotes"]);
    for part in [
        "quotes in ",
        "Quote, 16 bytes aligned to 8",
        "price @8 i64",
        "schema=7",
        "1,024 slots, many producers, stamps apart from events",
        "not parking, observable",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn f4_members_are_shown_with_where_they_are_and_what_they_come_after() {
    let own = Own::new("members");
    let quotes = own.create("quotes", 8);
    let mut feed = quotes.producer().unwrap();
    let mut journal = quotes.consumer("journal").join().unwrap();
    let _risk = quotes.consumer("risk").after(["journal"]).join().unwrap();
    publish(&mut feed, 5);
    drop(journal.next_batch().unwrap());

    let stat = own.json(&["stat", "quotes"]);
    assert_eq!(
        (&stat["claimed"], &stat["published"]),
        (&json!(5), &json!(5))
    );
    assert_eq!(stat["occupancy"], 5);
    assert_eq!(stat["hole"], Value::Null);
    let own_id = std::process::id();
    let member = |row, name: Option<&str>, kind, after: &[&str], position, lag| {
        json!({
            "row": row, "name": name, "kind": kind, "after": after,
            "process": own_id, "process_here": own_id, "state": "running", "held": false,
            "joining": false, "to_be_evicted": false, "position": position, "lag": lag, "skipped": 0, "released_per_s": null,
        })
    };
    let expected = json!([
        member(0, None, "producer", &[], 5, 0),
        member(1, Some("journal"), "consumer", &[], 5, 0),
        member(2, Some("risk"), "stage", &["journal"], 0, 5),
    ]);
    assert_eq!(stat["members"], expected);
    assert_eq!(stat["table_locked_by"], Value::Null);

    let text = own.text(&["stat", "quotes"]);
    assert!(line(&text, "occupied").ends_with("5 of 8"), "{text}");
    let risk = text.lines().find(|line| line.contains("risk")).unwrap();
    let cells: Vec<&str> = risk.split_whitespace().collect();
    let process = std::process::id().to_string();
    let expected = [
        "2", "risk", "stage", &process, "running", "0", "5", "0", "-", "journal",
    ];
    assert_eq!(cells, expected);
}

#[test]
fn d5_a_stopped_producer_is_named_as_who_holds_up_the_ring() {
    let own = Own::new("stopped");
    let quotes = own.create("quotes", Ring::builder(8).producers(Producers::Many));
    let _book = quotes.consumer("book").join().unwrap();
    // It has not claimed anything, and is not to be taken for who has.
    let _idle = quotes.shared_producer().unwrap();
    let mut feed = quotes.shared_producer().unwrap();
    let claiming = Process::start(&own, "quotes", "claims 2");
    feed.publish_value(QUOTE).unwrap();

    let hole = |state: &str| {
        let id = claiming.id();
        let claimer = json!({"row": 3, "process": id, "process_here": id, "state": state});
        json!({"from": 0, "claimed": 3, "claimed_by": [claimer]})
    };
    let stat = own.json(&["stat", "quotes"]);
    assert_eq!(
        (&stat["claimed"], &stat["published"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(stat["hole"], hole("running"));

    claiming.signal("STOP");
    let stat = own.stat_until("quotes", |stat| stat["members"][3]["state"] == "stopped");
    assert_eq!(stat["hole"], hole("stopped"));
    let text = own.text(&["stat", "quotes"]);
    let who = format!("in row 3 of process {}, which is stopped", claiming.id());
    assert!(line(&text, "hole").contains(&who), "{text}");
    let listing = own.json(&["ls"]);
    assert_eq!(entry(&listing, "quotes")["members_dead"], 0);
    assert_eq!(own.json(&["gc"])["rings"], json!([]), "it is used");

    claiming.signal("CONT");
    own.stat_until("quotes", |stat| stat["members"][3]["state"] == "running");
}

#[test]
fn d1_a_producer_killed_in_its_claim_is_shown_dead_until_somebody_recovers() {
    let own = Own::new("killed");
    let quotes = own.create("quotes", Ring::builder(8).producers(Producers::Many));
    let mut book = quotes.consumer("book").join().unwrap();
    let mut feed = quotes.shared_producer().unwrap();
    let mut claiming = Process::start(&own, "quotes", "claims 2");
    feed.publish_value(QUOTE).unwrap();
    claiming.kill();

    let stat = own.json(&["stat", "quotes"]);
    let claimer =
        json!({"row": 2, "process": claiming.id(), "process_here": null, "state": "dead"});
    let hole = json!({"from": 0, "claimed": 3, "claimed_by": [claimer]});
    assert_eq!(stat["hole"], hole);
    let member = &stat["members"][2];
    assert_eq!(
        (&member["state"], &member["held"]),
        (&json!("dead"), &json!(false))
    );
    let text = own.text(&["stat", "quotes"]);
    assert!(line(&text, "hole").contains("which is dead"), "{text}");
    assert!(text.contains("dead, to be recovered"), "{text}");
    let listing = own.json(&["ls"]);
    let entry = entry(&listing, "quotes");
    assert_eq!(
        (&entry["members_alive"], &entry["members_dead"]),
        (&json!(2), &json!(1))
    );

    // Who waits steps over what the dead one has claimed.
    assert_eq!(book.next_batch().unwrap().sequences(), 2..3);
    let stat = own.json(&["stat", "quotes"]);
    assert_eq!(
        (&stat["published"], &stat["hole"]),
        (&json!(3), &Value::Null)
    );
    assert_eq!(stat["members"][0]["skipped"], 2);
    assert_eq!(stat["members"].as_array().unwrap().len(), 2);
}

#[test]
fn d2_a_dead_consumer_is_shown_as_held_if_it_is() {
    let own = Own::new("held");
    let quotes = own.create("quotes", 8);
    let mut processes = [
        Process::start(&own, "quotes", "publishes 3"),
        Process::start(&own, "quotes", "reads journal"),
        Process::start(&own, "quotes", "reads book"),
        Process::start(&own, "quotes", "holds audit"),
    ];
    let _risk = quotes.consumer("risk").after(["journal"]).join().unwrap();
    processes.iter_mut().for_each(Process::kill);

    let stat = own.json(&["stat", "quotes"]);
    let members = stat["members"].as_array().unwrap();
    let found: Vec<_> = (members.iter())
        .map(|member| (&member["name"], &member["state"], &member["held"]))
        .collect();
    let (dead, running) = (json!("dead"), json!("running"));
    let expected = [
        (&Value::Null, &dead, &json!(true)),
        (&json!("journal"), &dead, &json!(true)),
        (&json!("book"), &dead, &json!(false)),
        (&json!("audit"), &dead, &json!(true)),
        (&json!("risk"), &running, &json!(false)),
    ];
    assert_eq!(found, expected);
    let text = own.text(&["stat", "quotes"]);
    assert_eq!(
        text.matches("dead or gone, held for a successor").count(),
        3,
        "{text}"
    );
}

#[test]
fn f6_the_process_of_a_member_is_never_another_that_has_its_number() {
    let own = Own::new("numbers");
    let builder = Segment::builder(8).directory(own.directory()).mode(0o644);
    let quotes = builder.create::<Quote>("quotes").unwrap();
    let _book = quotes.consumer("book").join().unwrap();
    let own_id = std::process::id();
    let (file, at) = (own.open("quotes"), own.own_number_in("quotes"));
    let says = |number: u32| {
        file.write_all_at(&u64::from(number).to_le_bytes(), at)
            .unwrap()
    };
    let found = |stat: &Value| {
        ["process", "process_here", "state"].map(|field| stat["members"][0][field].clone())
    };
    // As if it were in a PID namespace of its own, where it is the first process; or had a number that is nobody's here.
    for number in [1, u32::MAX] {
        says(number);
        let stat = own.json(&["stat", "quotes"]);
        assert_eq!(
            found(&stat),
            [json!(number), json!(own_id), json!("running")]
        );
        let text = own.text(&["stat", "quotes"]);
        assert!(
            text.contains(&format!("{number} (here {own_id})")),
            "{text}"
        );
    }

    // In its namespace the command itself is the first process.
    says(1);
    let inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if let Some(stat) = own.stat_by(&inside, "quotes") {
        assert_eq!(found(&stat), [json!(1), Value::Null, json!("unknown")]);
    }
    says(own_id);
    // A user that may not look into it can still tell that it knows itself by this number.
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    if let Some(stat) = own.stat_by(&nobody, "quotes") {
        assert_eq!(found(&stat), [json!(own_id), Value::Null, json!("running")]);
    }
    assert_eq!(own.json(&["gc"])["rings"], json!([]), "it lives");
}

#[test]
fn f9_a_process_that_is_stopped_with_the_table_locked_is_named() {
    let own = Own::new("locked");
    drop(own.create("quotes", 8));
    let locking = Process::start(&own, "quotes", "locks quotes");
    let locker =
        |state: &str| json!({"process": null, "process_here": locking.id(), "state": state});
    assert_eq!(
        own.json(&["stat", "quotes"])["table_locked_by"],
        locker("running")
    );
    locking.signal("STOP");
    let stat = own.stat_until("quotes", |stat| {
        stat["table_locked_by"]["state"] != "running"
    });
    assert_eq!(stat["table_locked_by"], locker("stopped"));
    let text = own.text(&["stat", "quotes"]);
    let who = format!("locked by process {}, which is stopped", locking.id());
    assert!(line(&text, "table").contains(&who), "{text}");
    assert_eq!(
        entry(&own.json(&["ls"]), "quotes")["table_locked_by"],
        locking.id()
    );
    let text = own.text(&["ls"]);
    let who = format!("open, table locked by process {}", locking.id());
    assert!(line(&text, "quotes").contains(&who), "{text}");
    locking.signal("CONT");
}

#[test]
fn f9_a_member_that_is_joining_is_shown_as_that() {
    let own = Own::new("joining");
    let quotes = own.create("quotes", 8);
    let _book = quotes.consumer("book").join().unwrap();
    // As if it were stopped in between: what a row is used for lies so far behind its process, see the tests of the
    // layout in package `annulus-ipc`.
    let (file, at) = (own.open("quotes"), own.own_number_in("quotes") + 120);
    let [joining, joined] = [2_u64, 3].map(u64::to_le_bytes);
    let mut found = [0; 8];
    File::open(own.file("quotes"))
        .unwrap()
        .read_exact_at(&mut found, at)
        .unwrap();
    assert_eq!(found, joined);
    file.write_all_at(&joining, at).unwrap();
    let (stat, text) = (own.json(&["stat", "quotes"]), own.text(&["stat", "quotes"]));
    file.write_all_at(&joined, at).unwrap();
    let member = &stat["members"][0];
    assert_eq!(
        (&member["name"], &member["joining"]),
        (&json!("book"), &json!(true))
    );
    assert!(text.contains("running, joining"), "{text}");
    assert_eq!(
        own.json(&["stat", "quotes"])["members"][0]["joining"],
        false
    );
}

#[test]
fn f3_rings_in_use_without_a_name_are_listed_with_their_processes() {
    let own = Own::new("unlinked");
    let old = own.create("quotes", 8);
    let mut feed = old.producer().unwrap();
    publish(&mut feed, 3);
    let _book = old.consumer("book").join().unwrap();
    let reader = Process::start(&own, "quotes", "reads risk");
    let _nameless = Segment::<Quote>::anonymous(16).unwrap();
    own.directory().unlink("quotes").unwrap();
    let listing = own.json(&["ls"]);
    assert_eq!(listing["rings"], json!([]));
    let _new = own.create("quotes", 32);

    let own_id = std::process::id();
    let listing = own.json(&["ls"]);
    assert_eq!(entry(&listing, "quotes")["capacity"], 32);
    let unlinked = listing["unlinked"].as_array().unwrap();
    let of = |name: Value| {
        unlinked
            .iter()
            .find(|ring| ring["name"] == name && ring["processes"][0] == own_id)
    };
    let quotes = of(json!("quotes")).unwrap();
    assert_eq!(quotes["capacity"], 8);
    assert_eq!(quotes["members_alive"], 3);
    assert_eq!(quotes["processes"], json!([own_id, reader.id()]));
    assert_eq!(of(Value::Null).unwrap()["capacity"], 16);
    let text = own.text(&["ls"]);
    let used = format!("used by processes {own_id}, {}", reader.id());
    assert!(line(&text, "quotes (unlinked)").ends_with(&used), "{text}");
    let other = Own::new("unlinked-other").json(&["ls"]);
    let is_elsewhere = |ring: &Value| ring["name"].is_null();
    assert!(
        other["unlinked"]
            .as_array()
            .unwrap()
            .iter()
            .all(is_elsewhere),
        "{other}"
    );
}

#[test]
fn names_of_others_do_not_control_the_terminal() {
    let own = Own::new("hostile");
    let hostile = "\x1b[2J\u{9b}31m\u{202e}\r\n\x07 \"é\\";
    let quotes = Segment::builder(8)
        .directory(own.directory())
        .attribute("venue", "\u{202e}x")
        .create::<Quote>("quotes")
        .unwrap();
    let book = quotes.consumer(hostile);
    let _book = book.on_death(OnDeath::Hold).join().unwrap();

    let stat = own.json(&["stat", "quotes"]);
    assert_eq!(stat["members"][0]["name"], hostile);
    assert_eq!(stat["attributes"]["venue"], "\u{202e}x");
    let text = own.text(&["stat", "quotes"]);
    let shown = r#"\u{1b}[2J\u{9b}31m\u{202e}\r\n\u{7} "é\\"#;
    assert!(text.contains(shown), "{text}");
    // What a user asks for is shown as well if there is no such ring.
    own.refused(&["stat", "\x1b[2J"], &["\\u{1b}[2J", "letters"]);
}

#[test]
fn watching_shows_rates_and_ends_when_all_is_read() {
    let own = Own::new("watched");
    let quotes = own.create("quotes", 1024);
    let mut feed = quotes.producer().unwrap();
    let mut book = quotes.consumer("book").join().unwrap();
    let mut watch = Watch::start(&own, &["--every", "0.01"]);
    let first = watch.next().unwrap();
    assert_eq!(first["type"], "Quote");
    assert_eq!(first["published_per_s"], Value::Null);
    assert_eq!(first["members"][1]["released_per_s"], Value::Null);

    publish(&mut feed, 5);
    let line = watch.until(|line| line["published"] == 5);
    assert!(line["published_per_s"].as_f64() > Some(0.0), "{line}");
    assert_eq!(line["members"][1]["lag"], 5);
    assert_eq!(line["members"][1]["released_per_s"], 0.0);
    assert_eq!(line["members"][0]["released_per_s"], Value::Null);
    let line = watch.until(|line| line["published_per_s"] == 0.0);
    assert_eq!(line["published"], 5);

    drop(book.next_batch().unwrap());
    let line = watch.until(|line| line["members"][1]["lag"] == 0);
    assert!(
        line["members"][1]["released_per_s"].as_f64() > Some(0.0),
        "{line}"
    );

    publish(&mut feed, 1);
    own.directory().unlink("quotes").unwrap();
    watch.until(|line| line["removed"] == true);
    quotes.close();
    drop(feed);
    // Not yet: it is closed, but not read.
    watch.until(|line| line["closed"] == true);
    watch.next().unwrap();
    drop(book.next_batch().unwrap());
    while watch.next().is_some() {}
    watch.succeeds();
}

#[test]
fn f5_watching_ends_when_the_ring_is_removed_and_its_last_member_gone() {
    let own = Own::new("left");
    drop(own.create("quotes", 8));
    let mut processes =
        ["holds audit", "publishes 3"].map(|script| Process::start(&own, "quotes", script));
    let mut watch = Watch::start(&own, &["--every", "0.01"]);
    watch.next().unwrap();
    own.directory().unlink("quotes").unwrap();
    watch.until(|line| line["removed"] == true);
    watch.next().expect("somebody is there");
    processes.iter_mut().for_each(Process::kill);
    while watch.next().is_some() {}
    watch.succeeds();
}

#[test]
fn watching_ends_when_the_ring_is_poisoned_or_after_so_many_times() {
    let own = Own::new("ends");
    let quotes = own.create("quotes", 8);
    let book = quotes.consumer("book").join().unwrap();
    let times = [
        "stat", "quotes", "--watch", "--times", "3", "--every", "0.01",
    ];
    let lines = own.annulus(&[&times[..], &["--json"]].concat());
    assert!(lines.status.success());
    assert_eq!(text(&lines.stdout).lines().count(), 3);
    let text = own.text(&times);
    assert_eq!(text.matches("published ").count(), 3, "{text}");
    assert_eq!(
        text.matches("Quote,").count(),
        1,
        "what does not change is shown once: {text}"
    );
    assert_eq!(text.matches("a second").count(), 2, "{text}");

    let mut watch = Watch::start(&own, &["--every", "0.01"]);
    watch.next().unwrap();
    book.poison(28);
    let poisoned = watch.until(|line| !line["poisoned"].is_null());
    assert_eq!(poisoned["poisoned"]["reason"], 28);
    assert_eq!(watch.next(), None);
    watch.succeeds();
}

#[test]
fn only_rings_without_living_members_are_removed_and_only_if_asked() {
    let own = Own::new("unused");
    let used = own.create("used", 8);
    let _book = used.consumer("book").join().unwrap();
    drop(own.create("unused", 1024));
    drop(own.create("dead", 8));
    fs::write(own.file("text"), "not a ring").unwrap();
    let mut processes = [
        Process::start(&own, "dead", "reads audit"),
        Process::start(&own, "dead", "publishes 3"),
    ];
    processes.iter_mut().for_each(Process::kill);

    let size = |name: &str| fs::metadata(own.file(name)).unwrap().len();
    let found = |action: &str| {
        json!([
            {
                "name": "dead", "size_bytes": size("dead"), "action": action,
                "why": "its 2 members are dead, 3 not read", "holds": [],
            },
            {
                "name": "text", "size_bytes": null, "action": "left_alone",
                "why": "there is a file of that name, but it is no ring", "holds": [],
            },
            {
                "name": "unused", "size_bytes": size("unused"), "action": action,
                "why": "it has no members", "holds": [],
            },
        ])
    };
    let all = ["dead", "text", "unused", "used"];
    assert_eq!(own.json(&["gc"])["rings"], found("would_remove"));
    let text = own.text(&["gc"]);
    assert!(text.contains("would remove  dead"), "{text}");
    assert!(text.contains("2 rings") && text.contains("--yes"), "{text}");
    assert_eq!(
        own.directory().names().unwrap(),
        all,
        "nothing is removed unasked"
    );

    let expected = found("removed");
    assert_eq!(own.json(&["gc", "--yes"])["rings"], expected);
    assert_eq!(own.directory().names().unwrap(), ["text", "used"]);
    let text = own.text(&["gc", "--yes"]);
    assert!(text.contains("nothing to remove"), "{text}");
    assert!(text.contains("left alone  text"), "{text}");
}

#[test]
fn f1_a_living_consumer_is_evicted_when_it_looks_at_the_ring() {
    let own = Own::new("evict");
    let quotes = own.create("quotes", 4);
    let mut feed = quotes.producer().unwrap();
    let mut screen = quotes.consumer("screen").join().unwrap();
    let _risk = quotes.consumer("risk").after(["screen"]).join().unwrap();
    publish(&mut feed, 4);

    let dry = own.json(&["evict", "quotes", "screen"]);
    let own_id = std::process::id();
    let expected = json!({
        "ring": "quotes", "directory": own.path(), "member": "screen", "process": own_id, "process_here": own_id,
        "state": "running", "held": false, "action": "would_evict", "lost": 4, "frees": ["risk"],
    });
    assert_eq!(dry, expected);
    let text_of = own.text(&["evict", "quotes", "screen"]);
    for part in [
        &format!("would evict \"screen\" of process {own_id}, running: it would lose 4 events"),
        "\"risk\" comes after it, and would go on without it",
        "--yes",
    ] {
        assert!(text_of.contains(part), "no {part:?} in {text_of:?}");
    }
    assert_eq!(
        own.json(&["stat", "quotes"])["members"][1]["to_be_evicted"],
        false
    );

    let asking = ["evict", "quotes", "screen", "--yes", "--patience", "0.01"];
    let asked = own.annulus(&asking);
    let message = text(&asked.stderr);
    assert_eq!(asked.status.code(), Some(1), "{message}");
    assert_eq!(text(&asked.stdout), "");
    assert!(
        message.contains(&format!("\"screen\" of process {own_id} has not come back")),
        "{message}"
    );
    assert_eq!(
        own.json(&["stat", "quotes"])["members"][1]["to_be_evicted"],
        true
    );
    let stat = own.text(&["stat", "quotes"]);
    assert!(stat.contains("running, asked to leave"), "{stat}");
    assert_eq!(screen.next_batch().unwrap_err(), Ended::Evicted { lost: 4 });
    own.refused(&asking, &["no consumer of the name \"screen\"", "\"risk\""]);

    // One that waits for events looks at the ring.
    let mut journal = quotes.consumer("journal").join().unwrap();
    let waiting = thread::spawn(move || {
        loop {
            if let Err(ended) = journal.next_batch().map(drop) {
                break ended;
            }
        }
    });
    let evicted = own.json(&["evict", "quotes", "journal", "--yes", "--patience", "60"]);
    assert_eq!(
        (&evicted["action"], &evicted["lost"]),
        (&json!("evicted"), &json!(0))
    );
    assert_eq!(waiting.join().unwrap(), Ended::Evicted { lost: 0 });
}

#[test]
fn f1_a_dead_consumer_is_evicted_at_once_and_a_stopped_one_named() {
    let own = Own::new("evict-dead");
    let quotes = own.create("quotes", 4);
    let mut feed = quotes.producer().unwrap();
    let mut audit = Process::start(&own, "quotes", "holds audit");
    let screen = Process::start(&own, "quotes", "reads screen");
    publish(&mut feed, 4);
    audit.kill();
    let text_of = own.text(&["evict", "quotes", "audit"]);
    assert!(
        text_of.contains("dead or gone, held for a successor: it would lose 4 events"),
        "{text_of}"
    );
    let text_of = own.text(&["evict", "quotes", "audit", "--yes"]);
    assert_eq!(text_of, "evicted \"audit\": it has lost 4 events\n");
    own.stat_until("quotes", |stat| {
        stat["members"].as_array().unwrap().len() == 2
    });

    screen.signal("STOP");
    own.stat_until("quotes", |stat| stat["members"][1]["state"] == "stopped");
    let asked = own.annulus(&["evict", "quotes", "screen", "--yes", "--patience", "0.01"]);
    let message = text(&asked.stderr);
    assert_eq!(asked.status.code(), Some(1), "{message}");
    for part in [
        format!("of process {}", screen.id()),
        "is stopped: let it go on, or end it".into(),
    ] {
        assert!(message.contains(&part), "no {part:?} in {message:?}");
    }
}

#[test]
fn f1_what_cannot_be_evicted_is_refused() {
    let own = Own::new("evict-refused");
    let builder = Segment::builder(4).directory(own.directory()).mode(0o644);
    let quotes = builder.create::<Quote>("quotes").unwrap();
    own.refused(
        &["evict", "quotes", "screen"],
        &["\"screen\"", "none at all"],
    );
    let _feed = quotes.producer().unwrap();
    let _screen = quotes.consumer("screen").join().unwrap();
    own.refused(&["evict", "none", "screen"], &["none", "no such ring"]);
    own.refused(&["evict", "quotes", ""], &["no consumer", "\"screen\""]);
    own.refused(&["evict", "quotes", "\x1b[2J", "--yes"], &["\\u{1b}[2J"]);
    for arguments in [
        &["evict", "quotes"][..],
        &["evict", "quotes", "screen", "--patience", "1"],
        &["evict", "quotes", "screen", "--yes", "--patience", "long"],
    ] {
        own.refused(arguments, &["error"]);
    }
    if let Some(output) = own.annulus_by(&NOBODY, &["evict", "quotes", "screen", "--yes"]) {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("belongs to user"), "{message}");
    }
    assert_eq!(
        own.json(&["stat", "quotes"])["members"][1]["to_be_evicted"],
        false
    );
}

#[test]
fn f2_events_held_for_a_successor_are_removed_only_by_force() {
    let own = Own::new("force");
    for (name, publishes, holds) in [
        ("read", "publishes 0", "holds audit"),
        ("unread", "publishes 3", "holds audit"),
    ] {
        drop(own.create(name, 8));
        let mut processes =
            [holds, "reads book", publishes].map(|script| Process::start(&own, name, script));
        processes.iter_mut().for_each(Process::kill);
    }
    let action = |listing: &Value, name| entry(listing, name)["action"].clone();

    let dry = own.json(&["gc"]);
    assert_eq!(
        action(&dry, "read"),
        "would_remove",
        "nothing is lost: {dry}"
    );
    assert_eq!(action(&dry, "unread"), "needs_force", "{dry}");
    assert_eq!(
        entry(&dry, "unread")["holds"],
        json!([{"member": "audit", "events": 3}])
    );
    assert_eq!(
        action(&own.json(&["gc", "--force"]), "unread"),
        "would_remove"
    );
    let text = own.text(&["gc"]);
    let kept = line(&text, "needs --force  unread");
    assert!(
        kept.ends_with("its 3 members are dead, it holds 3 events for \"audit\""),
        "{text}"
    );
    assert!(
        line(&text, "3 events would be lost").contains("--yes --force"),
        "{text}"
    );

    let cleared = own.json(&["gc", "--yes"]);
    assert_eq!(action(&cleared, "read"), "removed");
    assert_eq!(action(&cleared, "unread"), "needs_force");
    let ring = own.directory().open::<Quote>("unread").unwrap();
    let mut audit = ring.consumer("audit").join().unwrap();
    assert_eq!(audit.next_batch().unwrap().len(), 3, "they are still there");
    drop(audit);

    let mut processes =
        ["holds audit", "publishes 1"].map(|script| Process::start(&own, "unread", script));
    processes.iter_mut().for_each(Process::kill);
    let text = own.text(&["gc", "--yes", "--force"]);
    assert!(
        line(&text, "removed").ends_with("it holds 1 event for \"audit\""),
        "{text}"
    );
    assert!(!own.file("unread").exists());
}

#[test]
fn d7_nonsense_in_a_ring_is_shown_and_ends_nothing() {
    let own = Own::new("nonsense");
    let whole = own.create("whole", 64);
    let many = own.create("many", Ring::builder(64).producers(Producers::Many));
    let _book = whole.consumer("book").join().unwrap();
    let _reader = many.consumer("book").join().unwrap();
    publish(&mut whole.producer().unwrap(), 40);
    many.shared_producer()
        .unwrap()
        .publish_value(QUOTE)
        .unwrap();

    let mut random = Random(0x5eed);
    for round in 0..40 {
        for name in ["whole", "many"] {
            let mut bytes = fs::read(own.file(name)).unwrap();
            // Every other time what says of the ring what it is stays as it was.
            let start = if round % 2 == 0 { PAGE } else { 0 };
            for _ in 0..=random.below(200) {
                // Words of all ones, small numbers, and anything.
                let word = match random.below(3) {
                    0 => u64::MAX >> random.below(64),
                    1 => random.below(100) as u64,
                    _ => random.next(),
                };
                let at = start + random.below((bytes.len() - start) / 8) * 8;
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            let broken = format!("broken-{name}");
            fs::write(own.file(&broken), &bytes).unwrap();
            for command in [&["stat", &broken][..], &["stat", &broken, "--json"]] {
                let output = own.annulus(command);
                let code = output.status.code();
                let is_shown = code == Some(0) || start == 0 && code == Some(2);
                let stderr = text(&output.stderr);
                assert!(
                    is_shown,
                    "round {round}, {name}: {:?} {stderr}",
                    output.status
                );
            }
        }
        for command in ["ls", "gc"] {
            let listing = own.json(&[command]);
            assert!(listing["rings"].is_array());
            own.text(&[command]);
        }
        assert_eq!(entry(&own.json(&["ls"]), "whole")["occupancy"], 40);
    }
}

#[test]
fn d7_d25_a_file_full_of_holes_is_said_to_be_one_and_takes_no_memory() {
    let own = Own::new("holes");
    drop(own.create("whole", 1 << 20));
    let mut whole = File::open(own.file("whole")).unwrap();
    let mut start = vec![0; PAGE];
    whole.read_exact(&mut start).unwrap();
    fs::write(own.file("holes"), &start).unwrap();
    let holes = own.open("holes");
    let size = whole.metadata().unwrap().len();
    holes.set_len(size).unwrap();

    let what = format!("holes (4096 of {size} bytes are there)");
    let listing = own.json(&["ls"]);
    let error = entry(&listing, "holes")["error"].as_str();
    assert!(
        error.is_some_and(|error| error.contains(&what)),
        "{listing}"
    );
    own.refused(&["stat", "holes"], &["holes", &what]);
    let cleared = own.text(&["gc", "--yes"]);
    assert!(
        line(&cleared, "left alone  holes").contains(&what),
        "{cleared}"
    );
    assert_eq!(holes.metadata().unwrap().blocks(), 8);
}

#[test]
fn d7_d25_nonsense_in_a_huge_ring_is_not_looked_at_for_ever() {
    let own = Own::new("huge");
    let small = Ring::builder(8).producers(Producers::Many);
    drop(own.create("small", small.clone()));
    let mut bytes = fs::read(own.file("small")).unwrap();
    let geometry = |ring: &RingBuilder| ring.geometry(Layout::new::<Quote>()).unwrap();
    let ring_starts = (bytes.len() - geometry(&small).size) / PAGE * PAGE;

    // The same with more slots than anybody can look at, all of them holes but the first: its stamp is of a later lap,
    // and nobody has released the first one.
    let huge = Ring::builder(1 << 34).producers(Producers::Many);
    let size = (ring_starts + geometry(&huge).size).next_multiple_of(PAGE);
    bytes[32..40].copy_from_slice(&(huge.capacity as u64).to_le_bytes());
    bytes[88..96].copy_from_slice(&(size as u64).to_le_bytes());
    let slots = ring_starts + geometry(&huge).slots;
    bytes[slots..slots + 8].copy_from_slice(&(u64::MAX >> 1).to_le_bytes());
    fs::write(own.file("huge"), &bytes).unwrap();
    own.open("huge").set_len(size as u64).unwrap();

    let mut stat = own.command(&["stat", "huge"]);
    let mut stat = Process(stat.stdout(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = stat.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it looks and looks");
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(2), "it has holes");
}

#[test]
fn a_directory_that_is_not_there_has_no_rings() {
    let own = Own::new("none");
    let nowhere = own.file("nowhere").display().to_string();
    for command in ["ls", "gc"] {
        let output = own.command(&[command, "--dir", &nowhere]).output().unwrap();
        assert!(output.status.success());
        assert!(text(&output.stdout).contains(&nowhere));
        let output = own.annulus(&[command, "--json", "--dir", &nowhere]);
        let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&listing["directory"], &listing["rings"]),
            (&json!(nowhere), &json!([]))
        );
    }
}

#[test]
fn a_directory_can_be_given_both_ways() {
    let own = Own::new("dir");
    drop(own.create("quotes", 8));
    let output = own.without_variable(&["ls", "--dir", &own.path()]);
    assert!(line(text(&output.stdout), "quotes").contains("Quote"));
    let output = own.without_variable(&["stat", "--dir", &own.path(), "quotes"]);
    assert!(output.status.success());
    let output = own.without_variable(&["gc", "--dir", &own.path(), "--yes"]);
    assert!(text(&output.stdout).contains("removed  quotes"));
    assert!(!own.file("quotes").exists());
}

#[test]
fn what_cannot_be_done_is_refused() {
    let own = Own::new("refused");
    drop(own.create("quotes", 8));
    let file = own.file("quotes").display().to_string();
    own.refused(&["stat", "other"], &["other", "no such ring"]);
    own.refused(&["stat", "../quotes"], &["../quotes", "letters, digits"]);
    own.refused(&["ls", "--dir", &file], &[&file, "cannot be read"]);
    own.refused(&["gc", "--yes", "--dir", &file], &[&file, "cannot be read"]);
    for arguments in [
        &["stat"][..],
        &["stat", "quotes", "other"],
        &["stat", "quotes", "--times", "3"],
        &["stat", "quotes", "--every", "3"],
        &["stat", "quotes", "--watch", "--times", "0"],
        &["stat", "quotes", "--watch", "--every", "0"],
        &["stat", "quotes", "--watch", "--every", "-1"],
        &["stat", "quotes", "--watch", "--every", "nan"],
        &["stat", "quotes", "--watch", "--every", "inf"],
        &["stat", "quotes", "--watch", "--every", "1e30"],
        &["ls", "quotes"],
        &["gc", "quotes"],
    ] {
        own.refused(arguments, &["error"]);
    }
}

#[test]
fn f11_what_is_closed_to_a_user_says_whose_it_is() {
    let own = Own::new("closed");
    drop(own.create("quotes", 8));
    let whose = |mode: u32, arguments: &[&str], code: i32, parts: &[&str]| {
        fs::set_permissions(&own.0, Permissions::from_mode(mode)).unwrap();
        let Some(output) = own.annulus_by(&NOBODY, arguments) else {
            return;
        };
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        let user = format!("belongs to user {}", fs::metadata(&own.0).unwrap().uid());
        for part in [user.as_str()].iter().chain(parts) {
            assert!(said.contains(part), "no {part:?} in {said:?}");
        }
    };
    let directory = own.path();
    whose(
        0o700,
        &["ls"],
        2,
        &[&directory, "cannot be read", "mode 700"],
    );
    whose(
        0o711,
        &["gc"],
        2,
        &[&directory, "cannot be read", "mode 711"],
    );
    whose(
        0o700,
        &["stat", "quotes"],
        2,
        &["quotes", "its directory", "mode 700"],
    );
    whose(0o755, &["stat", "quotes"], 2, &["quotes: it ", "mode 600"]);
    whose(0o755, &["ls"], 0, &["quotes", "mode 600"]);
    whose(0o755, &["gc"], 0, &["left alone  quotes", "mode 600"]);
    own.refused(
        &["stat", "quotes", "--dir", "/dev/shm/annulus-cli-nowhere"],
        &["no such directory"],
    );
}

#[test]
fn help_of_each_has_an_example() {
    let own = Own::new("help");
    for (command, example) in [
        ("ls", "\n  annulus ls"),
        ("stat", "\n  annulus stat quotes --watch"),
        ("evict", "\n  annulus evict quotes screen --yes"),
        ("gc", "\n  annulus gc --yes"),
    ] {
        for help in ["-h", "--help"] {
            let help = own.text(&[command, help]);
            assert!(help.contains("Example") && help.contains(example), "{help}");
        }
        let help = own.text(&["--help"]);
        assert!(help.contains(&format!("\n  annulus {command}")), "{help}");
    }
}

#[test]
fn nobody_listening_is_no_failure() {
    let own = Own::new("nobody");
    drop(own.create("quotes", 8));
    for arguments in [
        &["ls"][..],
        &["ls", "--json"],
        &["gc"],
        &["stat", "quotes", "--json"],
        &["stat", "quotes", "--watch", "--every", "0.01"],
        &["stat", "quotes", "--watch", "--every", "0.01", "--json"],
    ] {
        let mut command = own.command(arguments);
        let mut child = (command.stdout(Stdio::piped()).stderr(Stdio::piped()))
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "");
        assert!(output.status.success());
    }
}

// ---------------------------------------------------------------------------------------------
// Processes that are members
// ---------------------------------------------------------------------------------------------

const MEMBER: &str = "ANNULUS_TEST_MEMBER";
const READY: &str = "it has joined";

/// No test, but what other processes run: a member of a ring, until its input ends or it is killed.
#[test]
fn member() {
    let Ok(script) = env::var(MEMBER) else {
        return;
    };
    let [directory, ring, what, argument] = &script.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{script}");
    };
    let ring = Directory::at(directory).open::<Quote>(ring).unwrap();
    let number = || argument.parse::<usize>().unwrap();
    let until_told = || {
        println!("{READY}");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    };
    match *what {
        "publishes" => {
            let mut feed = ring.producer().unwrap();
            publish(&mut feed, number());
            until_told();
        }
        "claims" => {
            let mut feed = ring.shared_producer().unwrap();
            let _claim = feed.claim(number()).unwrap();
            until_told();
        }
        "reads" => {
            let _reader = ring.consumer(argument).join().unwrap();
            until_told();
        }
        "holds" => {
            let reader = ring.consumer(argument).on_death(OnDeath::Hold);
            let _reader = reader.join().unwrap();
            until_told();
        }
        "locks" => {
            // The table of a ring without living members.
            let directory = Directory::at(directory);
            let unlinked = directory.unlink_unused_if(argument, |_| {
                until_told();
                false
            });
            assert!(!unlinked.unwrap());
        }
        other => panic!("{other}"),
    }
}

/// A process that is a member of a ring, and is killed with the test.
struct Process(Child);

impl Process {
    /// Returns when it has joined.
    fn start(own: &Own, ring: &str, script: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "member", "--nocapture", "--test-threads=1"])
            .env(MEMBER, format!("{} {ring} {script}", own.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let process = Self(child);
        let mut lines = out.lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(READY)), "it has failed");
        process
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .args(["-s", signal, &self.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Returns when it is gone.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ---------------------------------------------------------------------------------------------
// The command line
// ---------------------------------------------------------------------------------------------

/// A directory for the rings of one test, which goes when that ends, however it does.
struct Own(PathBuf);

impl Own {
    fn new(test: &str) -> Self {
        let path = format!("/dev/shm/annulus-cli-{test}-{}", std::process::id());
        fs::create_dir(&path).unwrap();
        Self(path.into())
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    fn directory(&self) -> Directory {
        Directory::at(&self.0)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn open(&self, name: &str) -> File {
        File::options().write(true).open(self.file(name)).unwrap()
    }

    fn create(&self, name: &str, ring: impl Into<RingBuilder>) -> Segment<Quote> {
        let builder = Segment::builder(ring).directory(self.directory());
        builder.create(name).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
        command.args(arguments).env("ANNULUS_DIR", &self.0);
        command
    }

    /// What comes out is safe to show, whatever else it is.
    fn annulus(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        for out in [&output.stdout, &output.stderr] {
            let is_unsafe = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
            let found = text(out).chars().find(is_unsafe);
            assert_eq!(found, None, "{arguments:?}: {:?}", text(out));
        }
        let message = text(&output.stderr);
        assert!(!message.contains("panicked"), "{message}");
        output
    }

    fn without_variable(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.env_remove("ANNULUS_DIR").output().unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.annulus(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).to_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat());
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Where a ring's file has this process's number, which has joined it once.
    fn own_number_in(&self, ring: &str) -> u64 {
        let bytes = fs::read(self.file(ring)).unwrap();
        let number = u64::from(std::process::id()).to_le_bytes();
        // Behind what says what it is.
        let mut words = bytes.chunks(8).enumerate().skip(PAGE / 8);
        let (word, _) = words.find(|(_, word)| *word == number).unwrap();
        8 * word as u64
    }

    /// What `stat` says when it is run by another command.
    fn stat_by(&self, by: &[&str], ring: &str) -> Option<Value> {
        let output = self.annulus_by(by, &["stat", ring, "--json"])?;
        assert!(output.status.success(), "{}", text(&output.stderr));
        Some(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The command run by another one, which changes users or namespaces; none if that cannot be.
    fn annulus_by(&self, by: &[&str], arguments: &[&str]) -> Option<Output> {
        let run = |arguments: &[&str]| {
            let mut command = Command::new(by[0]);
            command.args(&by[1..]).arg(env!("CARGO_BIN_EXE_annulus"));
            command.args(arguments).env("ANNULUS_DIR", &self.0).output()
        };
        if !run(&["--version"]).is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: {by:?} does not work here");
            return None;
        }
        Some(run(arguments).unwrap())
    }

    fn stat_until(&self, ring: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stat = self.json(&["stat", ring]);
            if is_so(&stat) {
                return stat;
            }
            assert!(Instant::now() < deadline, "{stat}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Exit code 2, nothing on stdout, and on stderr each of `parts`.
    fn refused(&self, arguments: &[&str], parts: &[&str]) {
        let output = self.annulus(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        for part in parts {
            assert!(message.contains(part), "no {part:?} in {message:?}");
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const PAGE: usize = 4096;

/// Runs what follows as a user that has nothing.
const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

const PATIENCE: Duration = Duration::from_secs(60);

/// `annulus stat quotes --watch --json`.
struct Watch {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Watch {
    fn start(own: &Own, arguments: &[&str]) -> Self {
        let arguments = [&["stat", "quotes", "--watch", "--json"], arguments].concat();
        let mut child = own
            .command(&arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// The next line, if it has not ended.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    fn until(&mut self, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.next().expect("it goes on");
            if is_so(&line) {
                return line;
            }
            assert!(Instant::now() < deadline, "{line}");
        }
    }

    fn succeeds(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---------------------------------------------------------------------------------------------
// Small things
// ---------------------------------------------------------------------------------------------

fn publish(feed: &mut annulus::ring::Producer<Quote>, events: usize) {
    for _ in 0..events {
        feed.publish_value(QUOTE).unwrap();
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn line<'t>(text: &'t str, start: &str) -> &'t str {
    let mut lines = text.lines();
    lines
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no line of {start}: {text}"))
}

fn entry<'l>(listing: &'l Value, name: &str) -> &'l Value {
    let rings = listing["rings"].as_array().unwrap();
    let mut entries = rings.iter();
    entries
        .find(|ring| ring["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {listing}"))
}

/// xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

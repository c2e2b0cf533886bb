//! The examples, each a program of its own, do together what they say.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use annulus_ipc::Directory;

/// One of the examples, running.
struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(name: &str, argument: Option<&str>, directory: &PathBuf) -> Self {
        // This test is in `deps`, beside which cargo puts the examples.
        let here = env::current_exe().unwrap();
        let path = here.ancestors().nth(2).unwrap().join("examples").join(name);
        let mut child = Command::new(&path)
            .args(argument)
            .env("ANNULUS_DIR", directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; a whole `cargo test` builds the examples",
                    path.display()
                )
            });
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn ends_well(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    /// A feed goes on until it is killed, also if the test fails.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn f12_a_feed_a_reader_and_a_stage_behind_it_share_a_ring_and_survive_a_kill() {
    let directory = PathBuf::from(format!("/dev/shm/annulus-examples-{}", process::id()));
    let mut reader = Program::start("quotes_reader", None, &directory);
    assert_eq!(reader.line(), "reader reads from 0 on");
    let mut gate = Program::start("risk_gate", None, &directory);
    assert_eq!(gate.line(), "risk starts at 0");

    let mut feed = Program::start("quotes_feed", None, &directory);
    assert_eq!(feed.line(), "publishing from 0 on; waiting for a reader");
    let ring = Directory::at(&directory).inspect("quotes").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ring.snapshot().published < 100 {
        assert!(Instant::now() < deadline, "{:?}", ring.snapshot());
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(
        feed.child.try_wait().unwrap(),
        None,
        "it goes on until it is killed"
    );
    feed.child.kill().unwrap();
    feed.child.wait().unwrap();

    let mut feed = Program::start("quotes_feed", Some("1"), &directory);
    let line = feed.line();
    let from = line.split(' ').nth(2).unwrap().parse::<u64>().unwrap();
    assert_eq!(
        line,
        format!("publishing from {from} on; waiting for a reader")
    );
    assert_eq!(feed.line(), "published up to 1, and closed");
    feed.ends_well();

    let quotes = from.max(1);
    let read = reader.line();
    let expected = format!("reader has read {quotes} quotes of ");
    assert!(
        read.starts_with(&expected) && read.ends_with(", 0 without a quote"),
        "{read}"
    );
    let large = (0..quotes).filter(|number| number % 1_000 >= 990).count();
    assert_eq!(
        gate.line(),
        format!("risk has found {large} quotes of 990 shares or more")
    );
    reader.ends_well();
    gate.ends_well();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    fs::remove_dir(&directory).unwrap();
}

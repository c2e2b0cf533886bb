//! A pipeline in another process: this program, started again. It is told what to do by lines on its standard input, and
//! answers by lines on its standard output.

use std::collections::VecDeque;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use annulus::ipc::{Directory, Segment};
use annulus::ring::{OnDeath, RingBuilder};
use annulus::{Pipeline, Report, Stage};

use crate::LONG;

/// Says which pipeline to run: the directory of the ring, and its stages.
const VARIABLE: &str = "ANNULUS_TEST_PIPELINE";

/// Stands before what it says; the rest of its output is the test harness's.
const MARK: &str = "pipeline: ";

const RING: &str = "ring";

/// A directory of its own, with one ring in it, removed with this value.
pub(crate) struct Place(Directory);

impl Place {
    pub(crate) fn with(ring: RingBuilder) -> (Self, Segment<u64>) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, n) = (process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = Directory::at(format!("/dev/shm/annulus-runtime-test-{process}-{n}"));
        let builder = Segment::builder(ring).directory(directory.clone());
        let ring = builder.create(RING).expect("a ring can be created");
        (Self(directory), ring)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.as_path());
    }
}

/// One stage after another, by these words: the name, `release` for one that is not held, `panics=N` for one that
/// panics at the event N, `sticks=N` for one that never returns from it, `hold_for=N` for one to wait N ms for, `owns` for a pipeline that owns the ring.
pub(crate) fn pipeline(ring: &Segment<u64>, stages: &str) -> Pipeline<u64> {
    let mut pipeline = Pipeline::on(ring);
    let mut before = None;
    for stage in stages.split(';') {
        let mut words = stage.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let (mut panics, mut sticks, mut releases, mut hold_for) = (None, None, false, None);
        for word in words {
            match word.split_once('=') {
                Some(("panics", event)) => panics = event.parse().ok(),
                Some(("sticks", event)) => sticks = event.parse().ok(),
                Some(("hold_for", millis)) => hold_for = millis.parse().ok(),
                _ if word == "release" => releases = true,
                _ if word == "owns" => pipeline = pipeline.owns_ring(true),
                _ => panic!("what is {word:?}?"),
            }
        }
        let told = name.clone();
        let mut stage = Stage::each(name.clone(), move |event: &u64, _| {
            assert!(panics != Some(*event), "it is {event}");
            say(&format!("{told} {event}"));
            while sticks == Some(*event) {
                thread::park();
            }
        });
        stage = stage.after(before.replace(name));
        if releases {
            stage = stage.on_death(OnDeath::Release);
        }
        if let Some(millis) = hold_for {
            stage = stage.hold_for(Duration::from_millis(millis));
        }
        pipeline = pipeline.stage(stage);
    }
    pipeline
}

fn say(line: &str) {
    println!("{MARK}{line}");
}

/// What a report says of each stage.
fn summary(report: &Report) -> String {
    let stages = report.stages.iter().map(|stage| {
        format!(
            "{} {} started={} resumed={} missed={} handled={} failed={} left={} held={} sum={}",
            stage.name,
            stage
                .ended
                .to_string()
                .split([' ', ':', ','])
                .next()
                .unwrap_or_default(),
            stage.started_at,
            stage.has_resumed,
            stage.missed,
            stage.handled,
            stage.failed,
            stage.left,
            stage.is_held,
            report.adds_up(),
        )
    });
    stages.collect::<Vec<_>>().join("; ")
}

#[test]
fn a_pipeline_is_run_when_a_test_asks_for_it() {
    let Ok(wanted) = env::var(VARIABLE) else {
        return; // It is a test run, and this is no test.
    };
    thread::spawn(|| {
        thread::sleep(LONG * 4);
        process::exit(1);
    });
    let (directory, stages) = wanted.split_once('\n').expect("two lines");
    let ring: Segment<u64> = Directory::at(directory).open(RING).expect("it is there");
    let mut running = match pipeline(&ring, stages).start() {
        Ok(running) => Some(running),
        Err(error) => {
            say(&format!("refused: {error}"));
            process::exit(0);
        }
    };
    say("started");
    loop {
        let mut line = String::new();
        if io::stdin()
            .read_line(&mut line)
            .is_ok_and(|bytes| bytes == 0)
        {
            process::exit(0);
        }
        let pipeline = running
            .as_ref()
            .expect("it is told nothing when it has gone");
        let ended = match line.trim_end() {
            "stop" => pipeline.stop(LONG),
            "stop now" => pipeline.stop(Duration::ZERO),
            "leave" => pipeline.leave(LONG),
            "leave held" => pipeline.leave_held(LONG),
            "close" => {
                pipeline.close();
                pipeline.join()
            }
            "abort" => pipeline.abort(),
            "join" => pipeline.join(),
            "drop" => {
                drop(running.take());
                say("dropped");
                continue;
            }
            "unwind" => {
                let running = running.take();
                let unwound = thread::spawn(move || {
                    let _running = running;
                    panic!("as if by mistake");
                });
                assert!(unwound.join().is_err());
                say("dropped");
                continue;
            }
            other => panic!("told to {other:?}"),
        };
        match ended {
            Ok(report) => say(&format!("ok {}", summary(&report))),
            Err(stopped) => say(&format!("err {} | {stopped}", summary(&stopped.report))),
        }
    }
}

/// A process with a pipeline. It is killed when this is dropped.
pub(crate) struct Player {
    process: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
    /// What it has said before it said that it has started.
    early: VecDeque<String>,
}

impl Player {
    /// Starts one, and waits until its stages have joined.
    pub(crate) fn start(place: &Place, stages: &str) -> Self {
        let mut player = Self::start_as_it_may(place, stages);
        loop {
            match player.hear_next() {
                line if line == "started" => return player,
                line => player.early.push_back(line),
            }
        }
    }

    pub(crate) fn start_as_it_may(place: &Place, stages: &str) -> Self {
        let directory = place.0.as_path().to_str().expect("it is ASCII");
        let mut process = Command::new(env::current_exe().expect("this program has a file"))
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("player::a_pipeline_is_run_when_a_test_asks_for_it")
            .env(VARIABLE, format!("{directory}\n{stages}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let orders = process.stdin.take().expect("a pipe");
        let output = process.stdout.take().expect("a pipe");
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Some((_, said)) = line.split_once(MARK) else {
                    continue;
                };
                if tell.send(said.to_owned()).is_err() {
                    break;
                }
            }
        });
        Self {
            process,
            orders,
            lines,
            early: VecDeque::new(),
        }
    }

    pub(crate) fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("it listens until it ends");
    }

    pub(crate) fn hear(&mut self) -> String {
        let early = self.early.pop_front();
        early.unwrap_or_else(|| self.hear_next())
    }

    fn hear_next(&mut self) -> String {
        self.lines.recv_timeout(LONG).expect("it says something")
    }

    pub(crate) fn says(&mut self, line: &str) {
        assert_eq!(self.hear(), line);
    }

    /// Waits until the stage has handled these events, one after the other, and others theirs.
    pub(crate) fn has_handled(&mut self, stage: &str, events: std::ops::Range<u64>) {
        for event in events {
            self.says(&format!("{stage} {event}"));
        }
    }

    /// Kills it, and returns what else it had said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it is our child");
        let early = self.early.drain(..).collect::<Vec<_>>();
        early.into_iter().chain(self.lines.iter()).collect()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

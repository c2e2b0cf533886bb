//! Programs whose pointers have 32 bits and 64 share a ring, or are told why they do not.
//!
//! The other program is this one, compiled for the other width, where the toolchain has what that takes:
//! `rustup target add i686-unknown-linux-musl`.

#![cfg(target_os = "linux")]

#[path = "../behaviours/layout.rs"]
mod layout;
#[path = "../behaviours/place.rs"]
mod place;

use std::env;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use annulus_ipc::{Directory, Plain, Segment};
use annulus_ring::{Consumer, Layout, Producer, Producers, Ring, RingBuilder, SharedProducer};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use place::Place;

const TARGET: &str = "i686-unknown-linux-musl";

/// Has the same alignment everywhere.
#[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(8))]
struct Tick {
    number: u64,
    price: i64,
    flags: [u32; 2],
}

impl Tick {
    fn of(number: u64) -> Self {
        Self {
            number,
            price: -(number as i64),
            flags: [number as u32; 2],
        }
    }

    fn is_of(self, number: u64) -> bool {
        (self.number, self.price) == (number, -(number as i64)) && self.flags == [number as u32; 2]
    }
}

/// This program, compiled for 32 bits, if that can be had; it says if not.
fn narrow_program(test: &str) -> Option<PathBuf> {
    let rustc = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let libraries = rustc
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let is_there = libraries
        .is_some_and(|path| !path.trim().is_empty() && PathBuf::from(path.trim()).exists());
    if usize::BITS != 64 || !is_there {
        let _ = writeln!(
            io::stderr(),
            "skipped: {test}: the toolchain has no {TARGET}"
        );
        return None;
    }
    let built = Command::new(env!("CARGO"))
        .args([
            "test",
            "--no-run",
            "--offline",
            "--quiet",
            "--message-format=json",
        ])
        .args([
            "--package",
            "annulus-ipc",
            "--test",
            "widths",
            "--target",
            TARGET,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&built.stdout);
    let program = text.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    });
    let errors = String::from_utf8_lossy(&built.stderr);
    Some(program.unwrap_or_else(|| panic!("it does not build for {TARGET}: {errors}")))
}

enum Feed {
    Only(Producer<Tick>),
    OneOfMany(SharedProducer<Tick>),
}

fn join(ring: &Ring<Tick>) -> Feed {
    ring.producer()
        .map(Feed::Only)
        .unwrap_or_else(|_| Feed::OneOfMany(ring.shared_producer().expect("there is a row")))
}

fn publish(feed: &mut Feed, count: u64) {
    let feed: &mut Producer<Tick> = match feed {
        Feed::Only(feed) => feed,
        Feed::OneOfMany(feed) => feed,
    };
    for number in 0..count {
        let published = feed.publish_deadline(deadline(), |tick| *tick = Tick::of(number));
        published.expect("the other one reads");
    }
}

fn take(book: &mut Consumer<Tick>, count: u64) {
    let mut next = 0;
    while next < count {
        for tick in &book.next_batch_deadline(deadline()).expect("events") {
            assert!(tick.is_of(next), "{} for {next}", tick.number);
            next += 1;
        }
    }
    assert_eq!(next, count);
}

fn builder(kind: Producers, layout: Layout) -> RingBuilder {
    Ring::builder(64).producers(kind).layout(layout).members(8)
}

const KINDS: [(Producers, Layout); 4] = [
    (Producers::One, Layout::Beside),
    (Producers::One, Layout::Apart),
    (Producers::Many, Layout::Beside),
    (Producers::Many, Layout::Apart),
];

/// Nothing takes so long, on a machine that is busy with other things.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

const EVENTS: u64 = 2_000;

#[test]
fn d21_programs_of_32_and_of_64_bits_share_a_ring_of_either_and_outlive_each_other() {
    let Some(program) = narrow_program("d21_programs_of_32_and_of_64_bits") else {
        return;
    };
    let place = Place::new();
    for (n, (kind, layout)) in KINDS.into_iter().enumerate() {
        for wide_makes in [true, false] {
            let name = format!("ring-{n}-{wide_makes}");
            let mut narrow = Narrow::start(&program, &place, &name);
            assert_eq!(narrow.says(), "32 bits");
            let ring = if wide_makes {
                place.create::<Tick>(&name, builder(kind, layout))
            } else {
                narrow.obeys(&format!("create {n}"));
                place.open::<Tick>(&name)
            };
            narrow.obeys("open");

            let mut book = ring.consumer("wide").join().expect("it joins");
            narrow.obeys("join");
            narrow.tell(&format!("take {EVENTS}"));
            let reader = std::thread::spawn(move || {
                take(&mut book, EVENTS);
                book
            });
            let mut feed = join(&ring);
            publish(&mut feed, EVENTS);
            drop(feed);
            assert_eq!(narrow.says(), "ok");
            let mut book = reader.join().expect("it has read all");

            // The other way round: its own consumer reads along.
            narrow.tell(&format!("publish {EVENTS}"));
            take(&mut book, EVENTS);
            assert_eq!(narrow.says(), "ok");
            let members = ring.snapshot().members;
            let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
            assert_eq!(names, ["wide", "narrow"]);

            // Its consumer holds up who is here, until it is dead.
            drop(book);
            drop(narrow);
            publish(&mut join(&ring), EVENTS);
        }
    }
}

#[test]
fn d21_a_ring_is_the_same_bytes_for_both_widths() {
    let Some(program) = narrow_program("d21_a_ring_is_the_same_bytes") else {
        return;
    };
    let output = Command::new(program).arg("layout::").output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains(" 3 passed"),
        "{text}"
    );
}

#[test]
fn d21_events_that_are_aligned_differently_are_refused_by_the_other_width_with_what_to_do() {
    let Some(program) = narrow_program("d21_events_that_are_aligned_differently") else {
        return;
    };
    let place = Place::new();
    drop(place.create::<u64>("ring", 8));
    let mut narrow = Narrow::start(&program, &place, "ring");
    assert_eq!(narrow.says(), "32 bits");
    let said = narrow.ask("open u64");
    assert!(said.contains("alignment 4 here, 8 in the ring"), "{said}");
    assert!(said.contains("`#[repr(C, align(8))]`"), "{said}");
    assert!(!said.contains("unlink it"), "{said}");
}

// ---------------------------------------------------------------------------------------------
// The program of 32 bits
// ---------------------------------------------------------------------------------------------

/// Says which directory and ring to use, to a program that is to be told what to do.
const VARIABLE: &str = "ANNULUS_TEST_NARROW";

/// Stands before what it says; the rest of its output is the test harness's.
const MARK: &str = "narrow: ";

/// That program, running; it is killed with this value.
struct Narrow {
    process: Child,
    ears: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Narrow {
    fn start(program: &Path, place: &Place, ring: &str) -> Self {
        let mut process = Command::new(program)
            .args(["the_narrow_program", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, format!("{}\n{ring}", place.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let output = process.stdout.take().expect("it is piped");
        Self {
            ears: process.stdin.take().expect("it is piped"),
            lines: BufReader::new(output).lines(),
            process,
        }
    }

    /// What it says next; everything that it waits for has a deadline.
    fn says(&mut self) -> String {
        let said = self.lines.by_ref().map_while(Result::ok);
        let mut said = said.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned()));
        said.next().expect("it has failed")
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.ears, "{line}").expect("it listens");
    }

    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.says()
    }

    fn obeys(&mut self, line: &str) {
        assert_eq!(self.ask(line), "ok", "{line}");
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have ended.
        let _ = self.process.wait();
    }
}

fn say(line: &str) {
    println!("{MARK}{line}");
}

/// The next line that says what to do; this program ends with them.
fn hear() -> String {
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => std::process::exit(0),
        Ok(_) => line.trim_end().to_owned(),
    }
}

#[test]
fn the_narrow_program_does_what_it_is_told_when_a_test_asks_for_it() {
    let Ok(words) = env::var(VARIABLE) else {
        return; // It is a test run, and this is no test.
    };
    let (place, name) = words.split_once('\n').expect("two words");
    let directory = Directory::at(place);
    say(&format!("{} bits", usize::BITS));
    let (mut ring, mut book): (Option<Segment<Tick>>, Option<Consumer<Tick>>) = (None, None);
    loop {
        let line = hear();
        let mut said = line.split(' ');
        let (command, argument) = (said.next(), said.next().unwrap_or_default());
        let number = argument.parse().unwrap_or(0);
        match command.unwrap_or_default() {
            "create" => {
                let (kind, layout) = KINDS[number as usize];
                let builder = Segment::builder(builder(kind, layout)).directory(directory.clone());
                drop(builder.create::<Tick>(name).expect("a ring can be created"));
            }
            "open" if argument == "u64" => match directory.open::<u64>(name) {
                Ok(_) => {}
                Err(error) => {
                    say(&error.to_string());
                    continue;
                }
            },
            "open" => ring = Some(directory.open(name).expect("it is there")),
            "join" => {
                let ring = ring.as_ref().expect("it is open");
                book = Some(ring.consumer("narrow").join().expect("it joins"));
            }
            "take" => take(book.as_mut().expect("it has joined"), number),
            "publish" => {
                let ring = ring.as_ref().expect("it is open");
                let mut book = book.take().expect("it has joined");
                let reader = std::thread::spawn(move || {
                    take(&mut book, number);
                    book
                });
                publish(&mut join(ring), number);
                let read = reader.join().expect("it has read all");
                say("ok");
                // It is killed with it.
                std::mem::forget(read);
                continue;
            }
            other => panic!("{other}"),
        }
        say("ok");
    }
}

//! Whatever somebody writes into a ring's file, it is an error or wrong data for who uses it, and nothing worse.
//!
//! Each case takes a file with a ring that has lived, changes some of it, opens it, does what a member does, and goes
//! on changing what lies there meanwhile. Random, with a seed that is printed: `ANNULUS_SEED` sets it, and
//! `ANNULUS_CASE` runs one case of it alone. `ANNULUS_CASES` sets how many there are.

#![cfg(target_os = "linux")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ipc::{Directory, Segment, SegmentError, View};
use annulus_ring::{
    Consumer, Layout, MutableConsumer, Observer, OnDeath, Producer, ProducerError, Producers, Ring,
    RingBuilder, SharedProducer, Start, Wait,
};

const CASES: u64 = 110_000;

/// The same each time; others are set by the variable.
const SEED: u64 = 1;

const CAPACITY: usize = 8;

/// A header can be changed to that of a larger ring that takes as many pages.
const LARGEST: usize = 4096 / 8;
const MEMBERS: usize = 5;

/// A case takes milliseconds, on a machine that is busy with other things some hundreds of them.
const LONGEST_CASE: Duration = Duration::from_secs(60);

#[test]
fn d7_what_others_write_is_an_error_or_wrong_data_and_never_a_panic_or_a_hang() {
    let seed = number("ANNULUS_SEED").unwrap_or(SEED);
    let total = number("ANNULUS_CASES").unwrap_or(CASES);
    println!("fuzz: ANNULUS_SEED={seed}");
    let place = Place::new();
    let rings: Vec<Lived> = lived(&place.0);
    let found = Found::listen();
    let tally = Tally::default();
    let over = AtomicBool::new(false);
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4) as u64;
    let at: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(u64::MAX)).collect();

    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (place, rings, at, tally) = (&place, &rings, &at[worker as usize], &tally);
                scope.spawn(move || {
                    let files = Files::new(&place.0, rings, worker).expect("files for the rings");
                    let one = number("ANNULUS_CASE");
                    let all = (0..total).filter(|case| case % threads == worker);
                    let chosen = all.filter(|case| one.is_none_or(|one| one == *case));
                    for case in chosen {
                        at.store(case, Ordering::Relaxed);
                        let random = Random(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                        Found::note(seed, case);
                        let run = || Case::new(random, rings, &files, tally).run(Kind::of(case));
                        let _ = catch_unwind(AssertUnwindSafe(run)); // `Found` has heard of it.
                    }
                    at.store(u64::MAX, Ordering::Relaxed);
                })
            })
            .collect();
        scope.spawn(|| watch(seed, &at, &over));
        for worker in workers {
            worker.join().expect("panics are caught in it");
        }
        over.store(true, Ordering::Relaxed);
    });
    let found = found.all();
    println!("fuzz: {total} cases, {tally}");
    assert!(found.is_empty(), "panics, each once:\n{}", found.join("\n"));
    if number("ANNULUS_CASE").is_none() && total >= 10_000 {
        // Else most of it is refused at the door, and nothing is tried.
        let few = tally.all().into_iter().find(|(_, count)| *count < 100);
        assert_eq!(few, None, "of 100 at least");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Ends the program when a case does not end.
fn watch(seed: u64, at: &[AtomicU64], over: &AtomicBool) {
    let mut seen: Vec<(u64, Instant)> = vec![(u64::MAX, Instant::now()); at.len()];
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
        for (at, (case, since)) in at.iter().zip(&mut seen) {
            let now = at.load(Ordering::Relaxed);
            if now != *case {
                (*case, *since) = (now, Instant::now());
            } else if now != u64::MAX && since.elapsed() > LONGEST_CASE {
                eprintln!("a case hangs: ANNULUS_SEED={seed} ANNULUS_CASE={case}");
                let _ = fs::remove_dir_all(Place::path());
                process::abort();
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Rings that have lived
// ---------------------------------------------------------------------------------------------

/// The file of a ring as it lay there while it had members, who are now dead, or when they had left.
struct Lived {
    builder: RingBuilder,
    bytes: Vec<u8>,
    /// Where the words lie that members use: of the ring as a whole, of each row, and the stamps.
    words: Words,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Dead,
    DeadWithChanger,
    Left,
}

struct Words {
    header: Vec<usize>,
    rows: Vec<usize>,
    stamps: Vec<usize>,
}

fn lived(directory: &Directory) -> Vec<Lived> {
    let mut rings = Vec::new();
    for producers in [Producers::One, Producers::Many] {
        for layout in [Layout::Beside, Layout::Apart] {
            for (observable, parking) in [(false, true), (true, false), (true, true)] {
                for ended in [Ended::Dead, Ended::DeadWithChanger, Ended::Left] {
                    let mut builder = Ring::builder(CAPACITY)
                        .producers(producers)
                        .layout(layout)
                        .members(MEMBERS);
                    builder.observable = observable;
                    builder.parking = Some(parking);
                    rings.push(Lived::new(directory, builder, ended));
                }
            }
        }
    }
    rings
}

impl Lived {
    fn new(directory: &Directory, builder: RingBuilder, ended: Ended) -> Self {
        let has_changer = ended == Ended::DeadWithChanger;
        let segment = Segment::builder(builder.clone());
        let segment = segment.directory(directory.clone()).create::<u64>("lived");
        let ring = segment.expect("a ring can be created");
        let mut feed = Feed::join(&ring).expect("a feed joins");
        let mut journal = ring.consumer("journal").join().expect("it joins");
        let mut risk = ring.consumer("risk").after(["journal"]);
        if !has_changer {
            risk = risk
                .on_death(OnDeath::Hold)
                .hold_for(Duration::from_millis(1));
        }
        let mut risk = risk.join().expect("it joins");
        let mut changer = has_changer.then(|| {
            let changer = ring.consumer("changer").after(["journal", "risk"]);
            changer.join_mut().expect("it joins")
        });
        for n in 0..5 {
            feed.producer()
                .publish_batch(1 + n % 3, |slots| slots.for_each(|slot| *slot = 7))
                .expect("there is room");
            drop(feed.producer().claim(1)); // Skipped, if there are many.
            drop(journal.try_next_batch());
            drop(risk.try_next_batch());
            if let Some(changer) = &mut changer {
                drop(changer.try_next_batch_mut());
            }
        }
        let published = feed.producer().publish_batch(3, |_| ());
        published.expect("there is room");
        if let Ok(batch) = journal.try_next_batch() {
            batch.hold();
        }
        if ended == Ended::Left {
            drop((feed, journal, risk));
        }
        let path = ring.path().expect("it has a name");
        let bytes = fs::read(path).expect("the ring's file can be read");
        let at = u64::from_le_bytes(bytes[80..88].try_into().expect("8 bytes")) as usize;
        let geometry = builder.geometry(std::alloc::Layout::new::<u64>());
        let geometry = geometry.expect("it has been built");
        let row = |row: usize| at + geometry.rows + row * geometry.row_stride;
        let words = |start: usize, len: usize| (start..start + len).step_by(8);
        let stamps = geometry.stamp_stride.map(|stride| {
            let stamp = |n| at + geometry.slots + n * stride;
            (0..CAPACITY).map(stamp).collect()
        });
        // Of each 128 bytes only the first words are used, of a row's second half more.
        let words = Words {
            header: (0..5).flat_map(|n| words(at + n * 128, 24)).collect(),
            rows: (0..MEMBERS)
                .flat_map(|n| words(row(n), 40).chain(words(row(n) + 128, 128)))
                .collect(),
            stamps: stamps.unwrap_or_default(),
        };
        directory.unlink("lived").expect("it is there");
        Self {
            builder,
            bytes,
            words,
        }
    }
}

/// The files of one thread, for each of the rings that have lived: memory without a name, and a file with one.
struct Files(Vec<(File, String, File)>);

impl Files {
    fn new(directory: &Directory, rings: &[Lived], worker: u64) -> io::Result<Self> {
        let files = rings.iter().enumerate().map(|(n, lived)| {
            let anonymous = Segment::<u64>::anonymous(lived.builder.clone());
            let anonymous = anonymous.map_err(io::Error::other)?;
            let anonymous = File::from(anonymous.as_fd()?.try_clone_to_owned()?);
            let name = format!("ring-{worker}-{n}");
            let path = directory.as_path().join(&name);
            fs::write(&path, &lived.bytes)?;
            let named = File::options().read(true).write(true).open(path)?;
            Ok((anonymous, name, named))
        });
        files.collect::<io::Result<_>>().map(Self)
    }
}

// ---------------------------------------------------------------------------------------------
// A case
// ---------------------------------------------------------------------------------------------

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What the ring says of itself.
    Header,
    /// What members say to each other.
    Words,
    /// That, by another thread while the members are at work: such a case is not the same each time.
    Meanwhile,
}

impl Kind {
    fn of(case: u64) -> Self {
        match case % 20 {
            0 => Self::Meanwhile,
            n if n % 2 == 0 => Self::Header,
            _ => Self::Words,
        }
    }
}

struct Case<'f> {
    random: Random,
    rings: &'f [Lived],
    hand: Hand<'f>,
    directory: PathBuf,
    /// Of the file, if it has one.
    name: Option<&'f str>,
    tally: &'f Tally,
}

/// Somebody who may write to a file, and does.
struct Hand<'f> {
    random: Random,
    lived: &'f Lived,
    file: &'f File,
}

impl Hand<'_> {
    /// Changes one word of those that members use.
    fn change_word(&mut self) {
        let words = &self.lived.words;
        let some = match self.random.below(8) {
            0..=2 => &words.header,
            3 | 4 if !words.stamps.is_empty() => &words.stamps,
            _ => &words.rows,
        };
        let at = some[self.random.below(some.len() as u64) as usize];
        if self.random.one_in(16) {
            let byte = self.random.next() as u8;
            let within = self.random.below(8) as usize;
            return self.write(at + within, &[byte]);
        }
        let value = self.interesting(at);
        self.write(at, &value.to_le_bytes());
    }

    /// A value for the word at `at` that may be just wrong, or far from right.
    fn interesting(&mut self, at: usize) -> u64 {
        let mut now = [0; 8];
        self.file.read_exact_at(&mut now, at as u64).unwrap_or(()); // Of a file that was cut short.
        let now = u64::from_ne_bytes(now);
        let lap = CAPACITY as u64;
        let some = [
            0,
            1,
            2,
            lap,
            u64::MAX,
            u64::MAX - 1,
            u64::MAX - lap,
            1 << 63,
            (1 << 63) - 1,
            1 << 62,
            (1 << 63) | 1,
            i64::MAX as u64 - lap,
            now ^ 1 << 63,
            now.wrapping_add(1),
            now.wrapping_sub(1),
            now.wrapping_add(lap),
            now.wrapping_sub(lap),
            now.wrapping_add(2 * lap),
            now ^ 1 << self.random.below(64),
            self.random.below(4 * lap),
            self.random.below(4 * lap) | 1 << 63,
            self.random.next(),
        ];
        some[self.random.below(some.len() as u64) as usize]
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        // Past the end of a file that was cut short nothing is written, which would make it longer.
        let len = self.file.metadata().expect("it is open").len() as usize;
        let bytes = &bytes[..bytes.len().min(len.saturating_sub(at))];
        self.file
            .write_all_at(bytes, at as u64)
            .expect("it is ours");
    }

    /// Changes words for as long as others use them. Not that by which they would all have to end at once, and it
    /// puts some right again.
    fn change_words_until(&mut self, is_over: &AtomicBool) {
        let signal = self.lived.words.header[9];
        while !is_over.load(Ordering::Relaxed) {
            self.change_word();
            let words = [
                &self.lived.words.header,
                &self.lived.words.rows,
                &self.lived.words.stamps,
            ];
            for at in words.into_iter().flatten().copied() {
                if at == signal || self.random.one_in(4) {
                    self.write(at, &self.lived.bytes[at..at + 8]);
                }
            }
        }
    }
}

/// What one process has of a ring.
#[derive(Default)]
struct Handles {
    rings: Vec<Segment<u64>>,
    views: Vec<View<u64>>,
    feeds: Vec<Feed>,
    consumers: Vec<Consumer<u64>>,
    changers: Vec<MutableConsumer<u64>>,
    observers: Vec<Observer<u64>>,
}

impl<'f> Case<'f> {
    fn new(mut random: Random, rings: &'f [Lived], files: &'f Files, tally: &'f Tally) -> Self {
        let which = random.below(rings.len() as u64) as usize;
        let (anonymous, name, named) = &files.0[which];
        let is_named = random.one_in(2);
        let hand = Hand {
            random: Random(random.next()),
            lived: &rings[which],
            file: if is_named { named } else { anonymous },
        };
        Self {
            hand,
            rings,
            directory: Place::path(),
            name: is_named.then_some(name),
            random,
            tally,
        }
    }

    fn run(mut self, kind: Kind) {
        self.restore();
        match kind {
            Kind::Header => self.change_header(),
            Kind::Words => (0..1 + self.random.below(6)).for_each(|_| self.change_word()),
            Kind::Meanwhile => {}
        }
        let mut handles = Handles::default();
        self.open(&mut handles);
        if handles.rings.is_empty() && handles.views.is_empty() {
            return;
        }
        if kind != Kind::Meanwhile {
            return self.use_them(handles);
        }
        let mut other = Hand {
            random: Random(self.random.next()),
            ..self.hand
        };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| other.change_words_until(&is_over));
            let used = catch_unwind(AssertUnwindSafe(|| self.use_them(handles)));
            is_over.store(true, Ordering::Relaxed);
            drop(used); // `Found` has heard of it.
        });
    }

    fn use_them(mut self, mut handles: Handles) {
        // Most have a producer and a consumer before more goes wrong.
        if !self.random.one_in(4) {
            self.join_feed(&mut handles);
        }
        for _ in 0..self.random.below(4) {
            self.join_consumer(&mut handles);
        }
        for _ in 0..self.random.below(32) {
            if self.random.one_in(12) {
                self.change_word();
            }
            self.act(&mut handles);
        }
        self.drop_in_any_order(handles);
    }

    fn restore(&self) {
        if self.name.is_some() {
            self.hand
                .file
                .set_len(self.hand.lived.bytes.len() as u64)
                .expect("it is ours");
        }
        self.hand
            .file
            .write_all_at(&self.hand.lived.bytes, 0)
            .expect("it is as long");
    }

    fn change_header(&mut self) {
        match self.random.below(8) {
            0 => {
                // What another ring says of itself, which may be as long.
                let other = &self.rings[self.random.below(self.rings.len() as u64) as usize];
                self.hand.write(0, &other.bytes[..4096]);
            }
            1 => {
                let noise: Vec<u8> = (0..4096 / 8)
                    .flat_map(|_| self.random.next().to_le_bytes())
                    .collect();
                let from = self.random.below(4096) as usize;
                self.hand.write(from, &noise[from..]);
            }
            2 if self.name.is_some() => {
                let len = self.random.below(self.hand.lived.bytes.len() as u64 + 4096);
                self.hand.file.set_len(len).expect("it is ours");
            }
            3 => {
                // A text, with what a text may have.
                let at = 160 + self.random.below(24) as usize;
                let letters = b"u64 size 8 align 8\n@[]=;0123456789\x00\x1b\xc3\xa9";
                let letter = letters[self.random.below(letters.len() as u64) as usize];
                self.hand.write(at, &[letter]);
            }
            4 => {
                // One of the numbers, as a whole.
                let at = 8 * self.random.below(20) as usize;
                let value = self.hand.interesting(at);
                self.hand.write(at, &value.to_le_bytes());
            }
            _ => {
                for _ in 0..1 + self.random.below(3) {
                    let at = self.random.below(192) as usize;
                    let byte = self.hand.lived.bytes[at];
                    let bit = byte ^ 1 << self.random.below(8);
                    let any = self.random.next() as u8;
                    let byte = if self.random.one_in(2) { bit } else { any };
                    self.hand.write(at, &[byte]);
                }
            }
        }
    }

    fn change_word(&mut self) {
        self.hand.change_word();
    }

    fn open(&mut self, handles: &mut Handles) {
        let directory = Directory::at(&self.directory);
        let opened = |result: Result<(), SegmentError>| match result {
            Ok(()) => self.tally.opened(),
            Err(error) => {
                self.tally.refused();
                assert!(!error.to_string().is_empty());
            }
        };
        let Some(name) = self.name else {
            let fd = self.hand.file.try_clone().expect("there are few open");
            let ring = Segment::from_fd(fd.into());
            return opened(ring.map(|ring| handles.rings.push(ring)));
        };
        opened(directory.open(name).map(|ring| handles.rings.push(ring)));
        if self.random.one_in(4) {
            let view = directory.view(name);
            opened(view.map(|view| handles.views.push(view)));
        }
        if self.random.one_in(4) {
            let looked = directory.inspect(name).map(|inspection| {
                _ = (inspection.built().clone(), inspection.description().text());
                _ = (inspection.attributes().len(), inspection.size().is_ok());
                let snapshot = inspection.snapshot();
                assert!(snapshot.members.len() <= MEMBERS.max(64));
            });
            opened(looked);
        }
    }

    /// One thing that who has a ring may do.
    fn act(&mut self, handles: &mut Handles) {
        let soon = self.soon();
        match self.random.below(26) {
            0 | 1 => self.join_feed(handles),
            2..=4 => self.join_consumer(handles),
            5 => {
                if let Some(ring) = handles.rings.first()
                    && let Ok(observer) = ring.observer()
                {
                    handles.observers.push(observer);
                }
                if let Some(view) = handles.views.first()
                    && let Ok(observer) = view.observer()
                {
                    handles.observers.push(observer);
                }
            }
            6..=10 => {
                if let Some(feed) = self.random.one_of(&mut handles.feeds) {
                    self.publish(feed.producer(), soon);
                }
            }
            11..=17 => {
                if let Some(consumer) = self.random.one_of(&mut handles.consumers) {
                    self.consume(consumer, soon);
                }
            }
            18 | 19 => {
                if let Some(changer) = self.random.one_of(&mut handles.changers) {
                    self.change(changer, soon);
                }
            }
            20 | 21 => {
                if let Some(observer) = self.random.one_of(&mut handles.observers) {
                    for _ in 0..2 * CAPACITY {
                        if observer.try_next().is_err() {
                            break;
                        }
                        self.tally.read(1);
                    }
                    _ = observer.next_deadline(soon);
                    _ = (observer.position(), observer.missed(), observer.skipped());
                }
            }
            22 => {
                for ring in &handles.rings {
                    let snapshot = ring.snapshot();
                    assert!(snapshot.members.len() <= MEMBERS.max(64));
                    _ = (ring.is_closed(), format!("{snapshot:?}"));
                }
                for view in &handles.views {
                    _ = (view.snapshot(), view.is_closed());
                }
            }
            23 => {
                if let Some(ring) = handles.rings.first()
                    && self.random.one_in(8)
                {
                    ring.close();
                }
            }
            24 => {
                if let Some(ring) = handles.rings.first()
                    && self.random.one_in(8)
                {
                    ring.poison(7);
                }
            }
            _ => {
                if self.random.one_in(2) {
                    handles.feeds.pop();
                } else {
                    handles.consumers.pop();
                }
            }
        }
    }

    fn join_feed(&mut self, handles: &mut Handles) {
        let Some(ring) = handles.rings.first() else {
            return;
        };
        match Feed::join(ring) {
            Ok(feed) => {
                self.tally.joined();
                handles.feeds.push(feed);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    fn join_consumer(&mut self, handles: &mut Handles) {
        let Some(ring) = handles.rings.first() else {
            return;
        };
        let names = ["journal", "risk", "changer", "tape", "screen"];
        let mut consumer = ring.consumer(names[self.random.below(5) as usize]);
        if self.random.one_in(2) {
            let other = names[self.random.below(5) as usize];
            consumer = consumer.after([other]);
        }
        consumer = match self.random.below(4) {
            0 => consumer.start(Start::Oldest),
            1 => consumer.start(Start::At(self.random.below(32))),
            _ => consumer,
        };
        if self.random.one_in(4) {
            consumer = consumer.on_death(OnDeath::Hold).hold_for(Duration::ZERO);
        }
        if self.random.one_in(4) {
            consumer = consumer.list_skipped().require_producer();
        }
        if self.random.one_in(2) && self.hand.lived.builder.parking == Some(true) {
            consumer = consumer.wait(Wait::Park);
        }
        if self.random.one_in(4) {
            consumer = consumer.batch_limit(1 + self.random.below(4) as usize);
        }
        let joined = if self.random.one_in(4) {
            let changer = consumer.join_mut();
            changer.map(|changer| handles.changers.push(changer))
        } else {
            consumer
                .join()
                .map(|consumer| handles.consumers.push(consumer))
        };
        match joined {
            Ok(()) => self.tally.joined(),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    fn publish(&mut self, feed: &mut Producer<u64>, soon: Instant) {
        let capacity = feed.capacity(); // The header may be of one that is as long, and has another.
        let n = self.random.below(CAPACITY as u64 + 2) as usize;
        let write = |slot: &mut u64| *slot = 7;
        match self.random.below(8) {
            0 | 1 => _ = feed.try_publish(write),
            2 => _ = feed.publish_deadline(soon, write),
            3 => _ = feed.try_publish_batch(n, |slots| slots.for_each(write)),
            4 => _ = feed.publish_batch_deadline(n, soon, |slots| slots.for_each(write)),
            5 => {
                if let Ok(mut claim) = feed.try_claim(n) {
                    assert!(claim.len() <= capacity);
                    self.change_word();
                    claim.iter_mut().for_each(write);
                    if let Some((first, second)) = claim.as_mut_slices() {
                        assert_eq!(first.len() + second.len(), n);
                        first.iter_mut().chain(second).for_each(write);
                    }
                    match self.random.below(3) {
                        0 => drop(claim),
                        1 => std::mem::forget(claim),
                        _ => _ = claim.publish(),
                    }
                }
            }
            6 => {
                if let Ok(claim) = feed.claim_deadline(n, soon) {
                    self.change_word();
                    claim.publish();
                }
            }
            _ => _ = feed.free(),
        }
        _ = (feed.row(), feed.waits());
    }

    fn consume(&mut self, consumer: &mut Consumer<u64>, soon: Instant) {
        match self.random.below(8) {
            0 => _ = consumer.skip_to_latest(),
            1 => {
                let held = consumer.held();
                assert!(held.count() <= LARGEST);
                let until = self.random.below(64);
                consumer.release_until(until);
            }
            2 => {
                _ = (
                    consumer.take_skipped(),
                    consumer.skipped(),
                    consumer.start(),
                )
            }
            _ => {
                let batch = if self.random.one_in(4) {
                    consumer.next_batch_deadline(soon)
                } else {
                    consumer.try_next_batch()
                };
                let Ok(mut batch) = batch else {
                    return;
                };
                assert!(!batch.is_empty() && batch.len() <= LARGEST);
                if self.random.one_in(2) {
                    self.change_word();
                }
                let by_index = (0..batch.len()).fold(0, |sum: u64, n| sum ^ batch[n]);
                _ = batch.iter().fold(by_index, |sum, event| sum ^ event);
                assert_eq!(batch.with_sequences().count(), batch.len());
                if let Some((first, second)) = batch.as_slices() {
                    assert_eq!(first.len() + second.len(), batch.len());
                    _ = first.iter().chain(second).fold(0, |sum, event| sum ^ event);
                }
                self.tally.read(batch.len() as u64);
                match self.random.below(6) {
                    0 => batch.hold(),
                    1 => batch.hold_first(1),
                    2 => batch.give_back(),
                    3 => batch.release(1),
                    4 => batch.release_held(self.random.below(64)),
                    _ => {}
                }
            }
        }
    }

    fn change(&mut self, changer: &mut MutableConsumer<u64>, soon: Instant) {
        if self.random.one_in(8) {
            changer.skip_to_latest();
        }
        let batch = if self.random.one_in(4) {
            changer.next_batch_mut_deadline(soon)
        } else {
            changer.try_next_batch_mut()
        };
        if let Ok(mut batch) = batch {
            self.change_word();
            batch.iter_mut().for_each(|event| *event ^= 1);
            if let Some((first, second)) = batch.as_mut_slices() {
                first.iter_mut().chain(second).for_each(|event| *event ^= 1);
            }
            self.tally.read(batch.len() as u64);
            if self.random.one_in(4) {
                batch.hold();
            }
        }
    }

    /// A moment to wait until: mostly too short to look for the dead, sometimes not.
    fn soon(&mut self) -> Instant {
        let micros = if self.random.one_in(64) { 5_000 } else { 20 };
        Instant::now() + Duration::from_micros(micros)
    }

    fn drop_in_any_order(&mut self, handles: Handles) {
        let Handles {
            rings,
            views,
            feeds,
            consumers,
            changers,
            observers,
        } = handles;
        let mut drops: Vec<Box<dyn FnOnce()>> = vec![
            Box::new(|| drop(rings)),
            Box::new(|| drop(views)),
            Box::new(|| drop(observers)),
            Box::new(|| drop(feeds)),
            Box::new(|| drop(consumers)),
            Box::new(|| drop(changers)),
        ];
        while !drops.is_empty() {
            let next = self.random.below(drops.len() as u64) as usize;
            drops.swap_remove(next)();
            self.change_word();
        }
    }
}

/// A producer of either kind.
enum Feed {
    Only(Producer<u64>),
    OneOfMany(SharedProducer<u64>),
}

impl Feed {
    fn join(ring: &Ring<u64>) -> Result<Self, ProducerError> {
        match ring.producer() {
            Err(ProducerError::WrongKind { .. }) => ring.shared_producer().map(Self::OneOfMany),
            only => only.map(Self::Only),
        }
    }

    fn producer(&mut self) -> &mut Producer<u64> {
        match self {
            Self::Only(producer) => producer,
            Self::OneOfMany(producer) => producer,
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What it takes
// ---------------------------------------------------------------------------------------------

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn one_of<'x, X>(&mut self, some: &'x mut [X]) -> Option<&'x mut X> {
        let len = some.len() as u64;
        (len > 0).then(|| &mut some[self.below(len) as usize])
    }
}

/// A directory for the files, which goes with this value.
struct Place(Directory);

impl Place {
    fn new() -> Self {
        Self(Directory::at(Self::path()))
    }

    fn path() -> PathBuf {
        format!("/dev/shm/annulus-fuzz-{}", process::id()).into()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.as_path());
    }
}

/// What was tried, so that it shows if next to nothing was.
#[derive(Default)]
struct Tally([AtomicU64; 4]);

impl Tally {
    fn opened(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    fn refused(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }

    fn joined(&self) {
        self.0[2].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, events: u64) {
        self.0[3].fetch_add(events, Ordering::Relaxed);
    }

    fn all(&self) -> [(&'static str, u64); 4] {
        let names = ["opened", "refused", "joined", "events read"];
        std::array::from_fn(|n| (names[n], self.0[n].load(Ordering::Relaxed)))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.all().map(|(name, count)| format!("{name} {count}"));
        f.write_str(&shown.join(", "))
    }
}

/// The panics of cases, each place once, with a case that leads there.
struct Found;

static FOUND: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// The seed and the number of the case that this thread runs.
    static CASE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

impl Found {
    fn listen() -> Self {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let Some((seed, case)) = CASE.get() else {
                return usual(panicked);
            };
            let at = panicked.location().map(ToString::to_string);
            let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
            found.entry(at.unwrap_or_default()).or_insert_with(|| {
                let trace = if env::var_os("ANNULUS_CASE").is_some() {
                    std::backtrace::Backtrace::force_capture().to_string()
                } else {
                    String::new()
                };
                format!("{panicked}\n  again by ANNULUS_SEED={seed} ANNULUS_CASE={case}\n{trace}")
            });
        }));
        Self
    }

    fn note(seed: u64, case: u64) {
        CASE.set(Some((seed, case)));
    }

    fn all(self) -> Vec<String> {
        let _ = panic::take_hook();
        let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.values().cloned().collect()
    }
}

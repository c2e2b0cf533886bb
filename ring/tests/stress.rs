//! Real threads at full speed, for a race detector to watch and for exact counts.
//!
//! ```text
//! cargo test -p annulus-ring --test stress -- [--events N] [--seed N] [--plant-race]
//! ```
//!
//! In every scenario each consumer sees every sequence once and in order, with what its producer
//! published there and the stages before it have made of it; and handled and skipped sequences make up
//! what is published, also when the ring is closed in the middle. Prints a line for each scenario. With `--plant-race` two threads do what the ring prevents, which a race detector has
//! to report.
//!
//! ThreadSanitizer does not look into the standard library as it is shipped. What it does know are
//! the threads themselves: so they are synchronised by the ring, by being spawned and by being
//! joined, and by nothing else. No scoped threads, whose end is told by a counter; no channels; no
//! test harness; and the main thread keeps a handle of the ring until all others are joined, so that
//! no other one drops its events, for which the library's reference count uses a fence. Rows are taken
//! and freed under a lock of the library: so one thread at most joins while others run, and no other
//! consumer leaves it a row.

mod common;

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::mem;
use std::num::NonZero;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_ring::{
    Batch, ClaimError, Consumer, JoinError, MutableBatch, MutableConsumer, NotReady, Producers,
    Ring, Sequence, Start, Wait, try_any,
};

use common::Feed;

// ---------------------------------------------------------------------------------------------
// Scenarios
// ---------------------------------------------------------------------------------------------

#[derive(Clone)]
struct Scenario {
    name: &'static str,
    capacity: usize,
    kind: Producers,
    producers: usize,
    graph: Vec<Reader>,
    wait: Wait,
    /// Whether claims are dropped, leaked, and lost by panics.
    mischief: bool,
    /// Whether somebody joins and leaves all the time.
    visited: bool,
    /// How many consumers producers wait for.
    required: usize,
    ends: Ends,
    /// Of the number of events asked for, one in so many: some scenarios are slow.
    one_in: u64,
}

/// How a scenario ends.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// When everything is published.
    Published,
    /// When the main thread closes the ring, after so many thousandths of the events.
    Closed(u64),
    /// When it poisons the ring.
    Poisoned(u64),
}

/// A consumer of a scenario.
#[derive(Clone)]
struct Reader {
    name: String,
    /// The earlier ones that it comes after, by number.
    after: Vec<usize>,
    batch_limit: usize,
    /// Whether it changes every event.
    changes: bool,
    /// Whether it holds for a while what it has read.
    holds: bool,
    /// Leaves once it has handled so many thousandths of the events.
    leaves_after: Option<u64>,
}

impl Scenario {
    fn new(name: &'static str, capacity: usize, producers: usize) -> Self {
        Self {
            name,
            capacity,
            kind: match producers {
                1 => Producers::One,
                _ => Producers::Many,
            },
            producers,
            graph: Vec::new(),
            wait: Wait::default(),
            mischief: false,
            visited: false,
            required: 0,
            ends: Ends::Published,
            one_in: 1,
        }
    }

    fn many(self) -> Self {
        let kind = Producers::Many;
        Self { kind, ..self }
    }

    fn read_by(mut self, after: &[usize]) -> Self {
        let index = self.graph.len();
        self.graph.push(Reader {
            name: index.to_string(),
            after: after.to_vec(),
            batch_limit: [usize::MAX, 1, 5][index % 3],
            changes: false,
            holds: false,
            leaves_after: None,
        });
        self
    }

    /// The reader last added leaves.
    fn who_leaves(mut self, after_thousandths: u64) -> Self {
        self.graph.last_mut().unwrap().leaves_after = Some(after_thousandths);
        self
    }

    /// The reader last added changes events.
    fn who_changes(mut self) -> Self {
        self.graph.last_mut().unwrap().changes = true;
        self
    }

    /// The reader last added holds events.
    fn who_holds(mut self) -> Self {
        self.graph.last_mut().unwrap().holds = true;
        self
    }

    fn visited(self) -> Self {
        let visited = true;
        Self { visited, ..self }
    }

    fn requiring(self, required: usize) -> Self {
        Self { required, ..self }
    }

    fn ending(self, ends: Ends) -> Self {
        Self { ends, ..self }
    }

    fn with_mischief(self) -> Self {
        let mischief = true;
        Self { mischief, ..self }
    }

    fn waiting(self, wait: Wait) -> Self {
        Self { wait, ..self }
    }

    fn one_in(self, one_in: u64) -> Self {
        Self { one_in, ..self }
    }
}

fn scenarios() -> Vec<Scenario> {
    let new = Scenario::new;
    let diamond = |scenario: Scenario| scenario.read_by(&[]).read_by(&[]).read_by(&[0, 1]);
    let crowd = |scenario: Scenario| scenario.read_by(&[]).read_by(&[]).read_by(&[0]);
    let changing = |scenario: Scenario| {
        let scenario = scenario.read_by(&[]).read_by(&[0]).who_changes();
        let scenario = scenario.read_by(&[1]).who_changes();
        scenario.read_by(&[2]).read_by(&[2])
    };
    let holding = |scenario: Scenario| {
        let scenario = scenario.read_by(&[]).who_holds();
        let scenario = scenario.read_by(&[0]).who_holds();
        scenario.read_by(&[1]).read_by(&[])
    };
    let nap = Wait::Phased {
        spins: 10,
        yields: 0,
        sleep: Duration::from_micros(10),
    };
    let mut all = vec![
        diamond(new("diamond", 64, 1)),
        diamond(new("diamond_of_mischief", 16, 1)).with_mischief(),
        diamond(new("diamond_of_one_slot", 1, 1)).one_in(20),
        diamond(new("one_of_many", 64, 1).many()).with_mischief(),
        crowd(new("crowd_of_1", 1, 3)).with_mischief().one_in(20),
        crowd(new("crowd_of_2", 2, 3)).with_mischief().one_in(10),
        crowd(new("crowd_of_16", 16, 3)).with_mischief().one_in(2),
        crowd(new("crowd_of_1024", 1024, 3)).with_mischief(),
        new("chain_that_breaks", 64, 2)
            .read_by(&[])
            .read_by(&[0])
            .who_leaves(300)
            .read_by(&[1])
            .who_leaves(500)
            .read_by(&[2]),
        new("some_leave", 32, 3)
            .with_mischief()
            .read_by(&[])
            .who_leaves(100)
            .read_by(&[])
            .read_by(&[0])
            .who_leaves(300),
        new("all_leave", 32, 3)
            .with_mischief()
            .read_by(&[])
            .who_leaves(200)
            .read_by(&[0])
            .who_leaves(100),
        new("the_only_one_leaves", 8, 1)
            .read_by(&[])
            .who_leaves(500),
        new("nobody_listens", 8, 3).with_mischief(),
        diamond(new("yielding", 64, 2)).waiting(Wait::Yield),
        diamond(new("backing_off", 64, 2)).waiting(Wait::Backoff),
        diamond(new("napping", 64, 2)).waiting(nap),
        // Two threads: more would take turns on few cores by the clock.
        new("spinning", 1024, 1).read_by(&[]).waiting(Wait::Spin),
        diamond(new("parking", 16, 1)).waiting(Wait::Park),
        crowd(new("parking_crowd_of_2", 2, 3))
            .waiting(Wait::Park)
            .with_mischief()
            .one_in(10),
        crowd(new("parking_crowd_of_64", 64, 3))
            .waiting(Wait::Park)
            .with_mischief(),
        diamond(new("visited", 32, 1)).visited(),
        crowd(new("visited_crowd", 32, 3)).with_mischief().visited(),
        new("visited_alone", 16, 1).visited(),
        new("visited_crowd_alone", 16, 3).with_mischief().visited(),
        new("visitor_required", 16, 1)
            .visited()
            .requiring(1)
            .one_in(2),
        new("visitor_required_by_a_crowd", 16, 3)
            .waiting(Wait::Park)
            .with_mischief()
            .visited()
            .requiring(1)
            .one_in(2),
        crowd(new("visited_while_parking", 32, 2))
            .waiting(Wait::Park)
            .visited(),
        changing(new("changing", 64, 1)),
        changing(new("changing_for_a_crowd", 16, 3)).with_mischief(),
        changing(new("changing_and_parking", 16, 2)).waiting(Wait::Park),
        holding(new("holding", 64, 1)),
        holding(new("holding_for_a_crowd", 16, 3)).with_mischief(),
        holding(new("holding_and_parking", 16, 2)).waiting(Wait::Park),
        diamond(new("closed_early", 16, 1)).ending(Ends::Closed(10)),
        diamond(new("closed", 16, 1)).ending(Ends::Closed(500)),
        crowd(new("crowd_closed_early", 64, 3)).ending(Ends::Closed(1)),
        crowd(new("crowd_closed", 64, 3))
            .with_mischief()
            .ending(Ends::Closed(500)),
        crowd(new("crowd_closed_while_parking", 16, 3))
            .waiting(Wait::Park)
            .ending(Ends::Closed(700)),
        diamond(new("poisoned", 16, 1)).ending(Ends::Poisoned(500)),
        crowd(new("crowd_poisoned_while_parking", 16, 3))
            .waiting(Wait::Park)
            .ending(Ends::Poisoned(500)),
    ];

    // Three times more threads than cores, half of which produce, as far as rows go.
    let cores = thread::available_parallelism().map_or(2, NonZero::get);
    let half = (3 * cores / 2).clamp(2, 24);
    let mut oversubscribed = new("more_threads_than_cores", 128, half).one_in(2);
    for reader in 0..half {
        let after = if reader % 3 == 2 {
            vec![reader - 1]
        } else {
            vec![]
        };
        oversubscribed = oversubscribed.read_by(&after);
    }
    all.push(oversubscribed.with_mischief());
    all
}

// ---------------------------------------------------------------------------------------------
// Events
// ---------------------------------------------------------------------------------------------

/// This many readers leave marks in events; others are not looked for.
const MARKS: usize = 4;

/// Says who published it, several times over.
#[derive(Default)]
struct Event {
    author: u64,
    /// How many events its author has published before it.
    nth: u64,
    words: [u64; 3],
    text: String,
    /// How many readers have changed it.
    changes: u64,
    /// The first readers put here which sequence they have handled last, for those after them. Relaxed,
    /// so that the ring alone brings one to see what another has put.
    marks: [AtomicU64; MARKS],
}

impl Event {
    fn write(&mut self, author: u64, nth: u64) {
        self.author = author;
        self.nth = nth;
        self.words = words(author, nth);
        self.changes = 0;
        self.text.clear();
        write!(self.text, "{nth}").expect("a string takes any text");
    }

    /// As a claim leaves it that is given up in the middle.
    fn spoil(&mut self) {
        self.author = u64::MAX;
        self.text.push_str(" spoilt");
    }

    /// Checks that it is whole and not a mixture of two, that it is what its author has published next,
    /// if that is known, and that all before this reader have handled and changed it.
    fn check(&self, sequence: Sequence, next_of: &mut [Option<u64>], before: &Before) {
        let (author, nth) = (self.author, self.nth);
        let is_whole = self.words == words(author, nth) && self.text.parse() == Ok(nth);
        let text = &self.text;
        assert!(is_whole, "at {sequence} is {nth} of {author}, {text:?}");
        let next = next_of[author as usize].replace(nth + 1);
        let is_next = next.is_none_or(|next| nth == next);
        assert!(is_next, "at {sequence} is {nth} of {author}, not {next:?}");
        assert_eq!(self.changes, before.changing, "at {sequence}");
        for &other in &before.marking {
            let mark = self.marks[other].load(Relaxed);
            assert_eq!(mark, sequence + 1, "consumer {other} has not handled it");
        }
    }

    /// A number that stands for the event at this sequence; sums of them stand for sets.
    fn digest(sequence: Sequence, author: u64, nth: u64) -> u64 {
        mix(mix(mix(sequence) ^ author) ^ nth)
    }
}

fn words(author: u64, nth: u64) -> [u64; 3] {
    [1, 2, 3].map(|word| mix(mix(author ^ word) ^ nth))
}

/// Spreads the bits of a number over all others (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Random numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % bound
    }
}

// ---------------------------------------------------------------------------------------------
// Members
// ---------------------------------------------------------------------------------------------

/// What a producer has published, or a consumer has handled.
#[derive(Debug, Default, PartialEq)]
struct Account {
    events: u64,
    /// The sum of the digests of its events.
    digest: u64,
    /// Sequences claimed and given up, or stepped over.
    skipped: u64,
}

impl Account {
    /// Events of one author, which has published `nth` before the first of them.
    fn add(&mut self, sequences: Range<Sequence>, author: u64, nth: u64) {
        for (sequence, nth) in sequences.zip(nth..) {
            self.events += 1;
            let digest = Event::digest(sequence, author, nth);
            self.digest = self.digest.wrapping_add(digest);
        }
    }
}

/// Nothing here takes so long.
fn patience() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

struct Author {
    feed: Feed<Event>,
    number: u64,
    kind: Producers,
    random: Random,
    account: Account,
}

impl Author {
    fn publish_all(mut self, events: u64, mischief: bool, may_end: bool) -> Account {
        let longest = self.feed.capacity().min(32) as u64;
        while self.account.events < events {
            let left = events - self.account.events;
            let n = (1 + self.random.below(longest)).min(left) as usize;
            let published = match self.random.below(8) {
                0..=2 => self.publish_one(),
                3 | 4 => self.publish_batch(n),
                5 => self.try_publish(),
                6 if mischief => self.do_mischief(n),
                _ => self.claim(n),
            };
            match published {
                Ok(()) => {}
                Err(ClaimError::Closed | ClaimError::Poisoned(_)) if may_end => break,
                Err(refused) => panic!("producer {}: {refused}", self.number),
            }
        }
        self.account
    }

    fn publish_one(&mut self) -> Result<(), ClaimError> {
        let (author, nth) = (self.number, self.account.events);
        let write = |event: &mut Event| event.write(author, nth);
        let sequence = self.feed.publish_deadline(patience(), write)?;
        self.account.add(sequence..sequence + 1, author, nth);
        Ok(())
    }

    fn publish_batch(&mut self, n: usize) -> Result<(), ClaimError> {
        let (author, first) = (self.number, self.account.events);
        let published = self.feed.publish_batch_deadline(n, patience(), |slots| {
            for (event, nth) in slots.zip(first..) {
                event.write(author, nth);
            }
        })?;
        self.account.add(published, author, first);
        Ok(())
    }

    /// In the other order.
    fn claim(&mut self, n: usize) -> Result<(), ClaimError> {
        let (author, first) = (self.number, self.account.events);
        let mut claim = self.feed.claim_deadline(n, patience())?;
        for index in (0..n).rev() {
            claim[index].write(author, first + index as u64);
        }
        let published = claim.publish();
        self.account.add(published, author, first);
        Ok(())
    }

    fn try_publish(&mut self) -> Result<(), ClaimError> {
        let (author, nth) = (self.number, self.account.events);
        let free = self.feed.free()?;
        assert!(free <= self.feed.capacity(), "{free} slots are free");
        match self.feed.try_publish(|event| event.write(author, nth)) {
            Ok(sequence) => self.account.add(sequence..sequence + 1, author, nth),
            Err(ClaimError::Full { .. } | ClaimError::TooFewConsumers { .. }) => {
                thread::yield_now()
            }
            Err(refused) => return Err(refused),
        }
        Ok(())
    }

    /// Claims, writes something that nobody may ever see, and does not publish.
    fn do_mischief(&mut self, n: usize) -> Result<(), ClaimError> {
        struct Planned;

        let how = self.random.below(3);
        if how == 0 {
            let publish = || {
                self.feed
                    .publish_batch_deadline(n, patience(), |mut slots| {
                        slots.by_ref().take(n / 2 + 1).for_each(Event::spoil);
                        resume_unwind(Box::new(Planned)) // Without a word on the terminal.
                    })
            };
            match catch_unwind(AssertUnwindSafe(publish)) {
                Ok(refused) => return refused.map(|_| ()),
                Err(payload) if payload.is::<Planned>() => {}
                Err(payload) => resume_unwind(payload),
            }
        } else {
            let mut claim = self.feed.claim_deadline(n, patience())?;
            claim.iter_mut().for_each(Event::spoil);
            if how == 1 {
                drop(claim);
            } else {
                mem::forget(claim);
            }
        }
        if self.kind == Producers::Many {
            self.account.skipped += n as u64;
        }
        Ok(())
    }
}

/// What a reader finds in every event.
struct Before {
    /// Those before it that leave marks.
    marking: Vec<usize>,
    /// How many of those before it change events.
    changing: u64,
}

/// A consumer of either kind.
enum Member {
    Reads(Consumer<Event>),
    Changes(MutableConsumer<Event>),
}

impl Member {
    fn next_batch(&mut self) -> Result<Taken<'_>, NotReady> {
        match self {
            Self::Reads(it) => it.next_batch_deadline(patience()).map(Taken::ToRead),
            Self::Changes(it) => it.next_batch_mut_deadline(patience()).map(Taken::ToChange),
        }
    }

    fn is_ready(&mut self) -> bool {
        let ready = match self {
            Self::Reads(it) => try_any(&mut [it]),
            Self::Changes(it) => try_any(&mut [it.as_waiting()]),
        };
        ready.is_some()
    }

    fn release_until(&mut self, sequence: Sequence) {
        match self {
            Self::Reads(it) => it.release_until(sequence),
            Self::Changes(it) => it.release_until(sequence),
        }
    }
}

impl Deref for Member {
    type Target = Consumer<Event>;

    fn deref(&self) -> &Consumer<Event> {
        match self {
            Self::Reads(it) => it,
            Self::Changes(it) => it,
        }
    }
}

/// A batch of either kind.
enum Taken<'c> {
    ToRead(Batch<'c, Event>),
    ToChange(MutableBatch<'c, Event>),
}

impl Taken<'_> {
    /// Changes the first `n` events, if it may.
    fn change(&mut self, n: usize) {
        if let Self::ToChange(batch) = self {
            (batch.iter_mut().take(n)).for_each(|event| event.changes += 1);
        }
    }

    fn release(&mut self, n: usize) {
        match self {
            Self::ToRead(batch) => batch.release(n),
            Self::ToChange(batch) => batch.release(n),
        }
    }

    fn hold(self) {
        match self {
            Self::ToRead(batch) => batch.hold(),
            Self::ToChange(batch) => batch.hold(),
        }
    }

    fn give_back(self) {
        match self {
            Self::ToRead(batch) => batch.give_back(),
            Self::ToChange(batch) => batch.give_back(),
        }
    }
}

impl<'c> Deref for Taken<'c> {
    type Target = Batch<'c, Event>;

    fn deref(&self) -> &Batch<'c, Event> {
        match self {
            Self::ToRead(batch) => batch,
            Self::ToChange(batch) => batch,
        }
    }
}

struct Handler {
    consumer: Member,
    number: usize,
    before: Before,
    holds: bool,
    leaves_after: u64,
    random: Random,
    account: Account,
    /// Of each author, what comes next.
    next_of: Vec<Option<u64>>,
}

impl Handler {
    fn handle_all(mut self, may_end: bool) -> Account {
        let mut next = 0;
        while self.account.events < self.leaves_after {
            if self.holds {
                self.release_some();
            }
            let handled = match self.consumer.next_batch() {
                Err(NotReady::Closed) => break,
                Err(NotReady::Poisoned(_)) if may_end => break,
                Err(why) => panic!("consumer {} at {next}: {why}", self.number),
                Ok(mut batch) => {
                    // Sometimes only a part, of which half is released early.
                    let all = batch.len();
                    let n = match self.random.below(4) {
                        0 => 1 + self.random.below(all as u64) as usize,
                        _ => all,
                    };
                    let first = batch.sequences().start;
                    for (sequence, event) in batch.with_sequences().take(n) {
                        event.check(sequence, &mut self.next_of, &self.before);
                        if let Some(mark) = event.marks.get(self.number) {
                            mark.store(sequence + 1, Relaxed);
                        }
                        let sequences = sequence..sequence + 1;
                        self.account.add(sequences, event.author, event.nth);
                    }
                    batch.change(n);
                    batch.release(n / 2);
                    let whole = n == all;
                    match self.random.below(3) {
                        0 if whole => drop(batch),
                        1 if whole && self.holds => batch.hold(),
                        choice => {
                            batch.release(n - n / 2);
                            match choice {
                                1 => mem::forget(batch),
                                _ => batch.give_back(),
                            }
                        }
                    }
                    first..first + n as Sequence
                }
            };
            let skipped = self.consumer.skipped();
            assert_eq!(
                handled.start - next,
                skipped - self.account.skipped,
                "at {next}"
            );
            self.account.skipped = skipped;
            next = handled.end;
        }
        self.account.skipped = self.consumer.skipped();
        self.account
    }

    /// Looks once more at what it holds, and lets some of it go, or all before it has to wait.
    fn release_some(&mut self) {
        let mut held = Vec::new();
        for (sequence, event) in self.consumer.held() {
            let is_whole = event.words == words(event.author, event.nth);
            assert!(is_whole, "held at {sequence}");
            held.push(sequence);
        }
        if !self.consumer.is_ready() {
            self.consumer.release_until(Sequence::MAX);
        } else if !held.is_empty() {
            let last = self.random.below(held.len() as u64) as usize;
            self.consumer.release_until(held[last]);
        }
    }
}

/// Joins, reads a little, and leaves, until the ring is closed.
struct Visitor {
    ring: Ring<Event>,
    wait: Wait,
    producers: usize,
    /// The first consumer of the graph, if there is one.
    first: Option<&'static str>,
    random: Random,
}

impl Visitor {
    /// Returns how many events it got.
    fn visit_all(mut self) -> Account {
        let mut account = Account::default();
        while let Some(events) = self.visit() {
            account.events += events;
        }
        account
    }

    fn visit(&mut self) -> Option<u64> {
        let near = self.ring.snapshot().published;
        let start = match self.random.below(3) {
            0 => Start::Next,
            1 => Start::Oldest,
            _ => Start::At((near + self.random.below(20)).saturating_sub(10)),
        };
        let comes_after = self.first.filter(|_| self.random.below(2) == 0);
        let builder = self.ring.consumer("visitor").start(start).wait(self.wait);
        let mut visitor = match builder.after(comes_after).join() {
            Ok(visitor) => visitor,
            Err(JoinError::TooOld { .. }) => return Some(0),
            // The first leaves when everything is published: the next thing to happen is the close.
            Err(JoinError::Closed { .. } | JoinError::UnknownName { .. }) => return None,
            Err(error) => panic!("visitor: {error}"),
        };
        // Whose marks it finds; what comes next of whom, it does not know yet.
        let before = Before {
            marking: comes_after.map(|_| 0).into_iter().collect(),
            changing: 0,
        };
        let mut next_of = vec![None; self.producers];
        let mut next = match start {
            Start::At(asked) => asked,
            _ => 0,
        };
        let enough = 1 + self.random.below(50);
        let mut events = 0;
        while events < enough {
            let batch = match visitor.next_batch_deadline(patience()) {
                Ok(batch) => batch,
                Err(NotReady::Closed) => return None,
                Err(why) => panic!("visitor at {next}: {why}"),
            };
            let sequences = batch.sequences();
            assert!(sequences.start >= next, "{sequences:?}, not {next}");
            for (sequence, event) in batch.with_sequences() {
                event.check(sequence, &mut next_of, &before);
            }
            events += batch.len() as u64;
            next = sequences.end;
        }
        Some(events)
    }
}

// ---------------------------------------------------------------------------------------------
// Running
// ---------------------------------------------------------------------------------------------

/// Figures of a scenario that has ended well.
struct Figures {
    events: u64,
    skipped: u64,
    /// How many events a visitor got.
    visited: u64,
}

fn run(scenario: &Scenario, events: u64, seed: u64) -> Result<Figures, String> {
    let builder = Ring::builder(scenario.capacity).producers(scenario.kind);
    let mut builder = builder.members(64).require_consumers(scenario.required);
    if scenario.wait == Wait::Park {
        builder = builder.parking();
    }
    let ring = builder.build(Event::default).unwrap();
    let each = (events / scenario.one_in / scenario.producers as u64).max(1);
    let total = each * scenario.producers as u64;
    let mut seeds = Random(mix(seed));
    let mut random = || Random(seeds.below(u64::MAX));

    // Members join here, in an order that does not depend on how threads run.
    let handlers: Vec<_> = (scenario.graph.iter().enumerate())
        .map(|(number, reader)| Handler {
            consumer: join(&ring, reader, scenario.wait),
            number,
            before: before(reader, &scenario.graph),
            holds: reader.holds,
            leaves_after: match reader.leaves_after {
                Some(thousandths) => total * thousandths / 1000,
                None => u64::MAX,
            },
            random: random(),
            account: Account::default(),
            next_of: vec![Some(0); scenario.producers],
        })
        .collect();
    let authors: Vec<_> = (0..scenario.producers as u64)
        .map(|number| Author {
            feed: with_wait(Feed::join(&ring).unwrap(), scenario.wait),
            number,
            kind: scenario.kind,
            random: random(),
            account: Account::default(),
        })
        .collect();

    let visitor = scenario.visited.then(|| Visitor {
        ring: ring.clone(),
        wait: scenario.wait,
        producers: scenario.producers,
        first: (!scenario.graph.is_empty()).then_some("0"),
        random: random(),
    });

    let mischief = scenario.mischief;
    let may_end = scenario.ends != Ends::Published;
    let handlers: Vec<_> = (handlers.into_iter())
        .map(|handler| thread::spawn(move || handler.handle_all(may_end)))
        .collect();
    let visitor: Vec<_> = (visitor.into_iter())
        .map(|visitor| thread::spawn(move || visitor.visit_all()))
        .collect();
    let authors: Vec<_> = (authors.into_iter())
        .map(|author| thread::spawn(move || author.publish_all(each, mischief, may_end)))
        .collect();
    end(&ring, scenario.ends, total);
    let published = joined(authors);
    let handled = joined(handlers);
    let visited = joined(visitor)?.iter().map(|account| account.events).sum();
    let figures = audit(scenario, &ring, published?, handled?, total)?;
    Ok(Figures { visited, ..figures })
}

/// Ends what goes on in the ring, if that is to be done, once enough is published.
fn end(ring: &Ring<Event>, ends: Ends, total: u64) {
    let (Ends::Closed(thousandths) | Ends::Poisoned(thousandths)) = ends else {
        return;
    };
    let (enough, last) = (total * thousandths / 1000, patience());
    while ring.snapshot().published < enough && !ring.is_closed() {
        assert!(Instant::now() < last, "waited for the {enough}th event");
        thread::yield_now();
    }
    match ends {
        Ends::Poisoned(_) => ring.poison(1),
        _ => ring.close(),
    }
}

fn join(ring: &Ring<Event>, reader: &Reader, wait: Wait) -> Member {
    let builder = ring.consumer(&reader.name).wait(wait);
    let builder = builder.after(reader.after.iter().map(usize::to_string));
    let builder = builder.batch_limit(reader.batch_limit);
    if reader.changes {
        Member::Changes(builder.join_mut().unwrap())
    } else {
        Member::Reads(builder.join().unwrap())
    }
}

/// What those before `reader`, directly or through others, leave in every event.
fn before(reader: &Reader, graph: &[Reader]) -> Before {
    let mut all: BTreeSet<usize> = reader.after.iter().copied().collect();
    // Who comes after others is later in the graph.
    for other in (0..graph.len()).rev() {
        if all.contains(&other) {
            all.extend(&graph[other].after);
        }
    }
    let changing = all.iter().filter(|&&other| graph[other].changes).count() as u64;
    all.retain(|&other| other < MARKS && graph[other].leaves_after.is_none());
    Before {
        marking: Vec::from_iter(all),
        changing,
    }
}

fn with_wait(feed: Feed<Event>, wait: Wait) -> Feed<Event> {
    match feed {
        Feed::Only(producer) => Feed::Only(producer.with_wait(wait).unwrap()),
        Feed::OneOfMany(producer) => Feed::OneOfMany(producer.with_wait(wait).unwrap()),
    }
}

/// What each thread returns, once all have ended.
fn joined(threads: Vec<JoinHandle<Account>>) -> Result<Vec<Account>, String> {
    let ended: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    let accounts = ended.into_iter().collect::<Result<_, _>>();
    accounts.map_err(|_| "a thread panicked, as said above".to_owned())
}

/// Compares what was published, what was handled, and what the ring says.
fn audit(
    scenario: &Scenario,
    ring: &Ring<Event>,
    published: Vec<Account>,
    handled: Vec<Account>,
    total: u64,
) -> Result<Figures, String> {
    let expected = published
        .iter()
        .fold(Account::default(), |sum, one| Account {
            events: sum.events + one.events,
            digest: sum.digest.wrapping_add(one.digest),
            skipped: sum.skipped + one.skipped,
        });
    let snapshot = ring.snapshot();
    let end = expected.events + expected.skipped;
    let is_all = match scenario.ends {
        Ends::Published => expected.events == total,
        Ends::Closed(_) | Ends::Poisoned(_) => expected.events <= total,
    };
    if !is_all || !snapshot.closed || (snapshot.claimed, snapshot.published) != (end, end) {
        return Err(format!("{total} events, {expected:?}, but {snapshot:?}"));
    }
    for (reader, account) in scenario.graph.iter().zip(handled) {
        let is_right = match reader.leaves_after {
            // Who has read how much when the poison came is open.
            None if matches!(scenario.ends, Ends::Poisoned(_)) => account.events <= expected.events,
            None => account == expected,
            Some(thousandths) => account.events >= total * thousandths / 1000,
        };
        if !is_right {
            let name = &reader.name;
            return Err(format!("consumer {name}: {account:?} of {expected:?}"));
        }
    }
    Ok(Figures {
        events: expected.events,
        skipped: expected.skipped,
        visited: 0,
    })
}

// ---------------------------------------------------------------------------------------------
// A race
// ---------------------------------------------------------------------------------------------

/// A slot that two threads have.
#[derive(Clone, Copy)]
struct Shared(*mut u64);

// SAFETY: none: that two threads write to it without any order is the race to be reported. The slot
// outlives both.
unsafe impl Send for Shared {}

#[inline(never)]
fn planted_race(slot: Shared, value: u64) {
    // SAFETY: none, as above. The slot is alive and aligned.
    unsafe { slot.0.write_volatile(value) };
}

/// Lets two threads write one event, which only `unsafe` can do.
fn plant_race() -> ExitCode {
    let ring = Ring::builder(1).build(u64::default).unwrap();
    let mut feed = ring.producer().unwrap();
    let mut claim = feed.claim(1).unwrap();
    let slot = Shared(&raw mut claim[0]);
    let writers = [1, 2].map(|value| thread::spawn(move || planted_race(slot, value)));
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    claim.publish();
    eprintln!("stress: nothing reported the planted race: was this built with a race detector?");
    ExitCode::FAILURE
}

// ---------------------------------------------------------------------------------------------
// Command line
// ---------------------------------------------------------------------------------------------

struct Arguments {
    events: u64,
    seed: u64,
    plant_race: bool,
    list: bool,
}

impl Arguments {
    /// What test runners also pass, filters too, is ignored.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            events: 20_000,
            seed: 1,
            plant_race: false,
            list: false,
        };
        while let Some(word) = words.next() {
            let number = match word.as_str() {
                "--events" => &mut arguments.events,
                "--seed" => &mut arguments.seed,
                "--plant-race" => {
                    arguments.plant_race = true;
                    continue;
                }
                "--list" => {
                    arguments.list = true;
                    continue;
                }
                _ => continue,
            };
            let value = words.next().unwrap_or_default();
            let parsed = value.parse();
            *number = parsed.map_err(|_| format!("{word} takes a number, not {value:?}"))?;
        }
        Ok(arguments)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("stress: {message}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    if arguments.plant_race {
        return plant_race();
    }
    let mut failed = false;
    for scenario in scenarios() {
        let (name, seed) = (scenario.name, arguments.seed);
        match run(&scenario, arguments.events, seed) {
            Ok(Figures {
                events,
                skipped,
                visited,
            }) => {
                let visited = match scenario.visited {
                    true => format!(", {visited} visited"),
                    false => String::new(),
                };
                println!(
                    "stress {name}: ok (seed {seed}, {events} events, {skipped} skipped{visited})"
                );
            }
            Err(message) => {
                println!("stress {name}: FAILED (seed {seed}): {message}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

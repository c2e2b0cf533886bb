//! Random programs, run on a ring and on a plain sequential model of it, which must agree on every
//! result: sequences, free slots, batches, why there is none, what is held and skipped, who may join and
//! where it starts, snapshots, what watchers are told.
//!
//! The model says what a ring has to do and not how. Where a ring has a choice, the model checks that it
//! may, and goes on with what it chose: a batch is any part of what can be read that starts where the
//! consumer is, and a newcomer may gate from below its start.
//!
//! `PROPTEST_CASES` sets how many programs are run.

mod common;

use std::cmp::min;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::iter;
use std::mem;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use annulus_ring::{
    Batch, ClaimError, Consumer, JoinError, Layout, MemberKind, MutableBatch, MutableConsumer,
    NotReady, Poisoned, Presence, ProducerError, Producers, Ring, Sequence, Start, Waiting,
    try_any,
};
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

use common::Feed;

/// How many names consumers have.
const NAMES: usize = 5;

// ---------------------------------------------------------------------------------------------
// The model
// ---------------------------------------------------------------------------------------------

struct Model {
    capacity: u64,
    kind: Producers,
    required_consumers: usize,
    members: usize,
    /// The sequences that are claimed.
    log: Vec<Entry>,
    /// Those that are there, by their rows.
    producers: BTreeMap<usize, ModelProducer>,
    /// All that have ever joined, in that order.
    consumers: Vec<ModelConsumer>,
    /// The gate when there were last as many consumers as the ring requires.
    last_gate: Sequence,
    is_asked_to_close: bool,
    is_closed: bool,
    poisoned: Option<Poisoned>,
    /// What watchers are to be told.
    told: Vec<Presence>,
}

struct Entry {
    fate: Fate,
    /// The end of the batch that it lies in, and whether it is the first there.
    batch_end: Sequence,
    starts_batch: bool,
}

/// What has become of a sequence that is claimed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Claimed,
    Event(u64),
    Skipped,
}

#[derive(Default)]
struct ModelProducer {
    leaked: Range<Sequence>,
    skipped: u64,
}

struct ModelConsumer {
    name: String,
    row: usize,
    has_left: bool,
    is_mutable: bool,
    /// All that it comes after, directly or through others, also those that have left.
    after: BTreeSet<usize>,
    batch_limit: u64,
    /// Events below this one are not for it.
    target: Sequence,
    /// The target that it had when it joined.
    start: Sequence,
    /// The next sequence that it has not released.
    position: Sequence,
    /// The next sequence that it has not been given.
    read: Sequence,
    skipped: u64,
}

type Row = (String, MemberKind, Option<(Sequence, u64)>, u64);

/// How a consumer asks to join.
struct Request {
    name: String,
    after: Vec<String>,
    start: Start,
    batch_limit: usize,
    is_mutable: bool,
}

// What is claimed and published.
impl Model {
    fn claimed(&self) -> Sequence {
        self.log.len() as Sequence
    }

    /// The first sequence that is not published.
    fn published(&self) -> Sequence {
        let claimed = |entry: &Entry| entry.fate == Fate::Claimed;
        self.log.iter().position(claimed).unwrap_or(self.log.len()) as Sequence
    }

    /// The end of what everybody can know to be claimed: one producer tells nobody.
    fn front(&self) -> Sequence {
        match self.kind {
            Producers::One => self.published(),
            Producers::Many => self.claimed(),
        }
    }

    fn fate(&self, sequence: Sequence) -> Option<Fate> {
        self.log.get(sequence as usize).map(|entry| entry.fate)
    }

    fn is_published(&self, sequence: Sequence) -> bool {
        !matches!(self.fate(sequence), None | Some(Fate::Claimed))
    }

    fn events(&self, sequences: Range<Sequence>) -> Vec<(Sequence, u64)> {
        let event = |sequence| match self.fate(sequence) {
            Some(Fate::Event(value)) => Some((sequence, value)),
            _ => None,
        };
        sequences.filter_map(event).collect()
    }

    /// Where claims have to end.
    fn gate(&self) -> Sequence {
        if self.requires_more_consumers() {
            return self.last_gate;
        }
        self.lowest_position().unwrap_or(self.published()) + self.capacity
    }

    fn requires_more_consumers(&self) -> bool {
        self.living().count() < self.required_consumers
    }

    fn lowest_position(&self) -> Option<Sequence> {
        self.living().map(|consumer| consumer.position).min()
    }
}

// Producers.
impl Model {
    fn producer(&mut self, row: usize) -> &mut ModelProducer {
        self.producers.get_mut(&row).expect("it is there")
    }

    fn why_no_producer_joins(&self) -> Vec<ProducerError> {
        let mut why = Vec::new();
        if self.is_closed || self.is_asked_to_close {
            why.push(ProducerError::Closed);
        }
        why.extend(self.poisoned.map(ProducerError::Poisoned));
        if self.kind == Producers::One && !self.producers.is_empty() {
            why.push(ProducerError::Taken);
        }
        why
    }

    fn join_producer(&mut self, row: usize) {
        self.producers.insert(row, ModelProducer::default());
        self.told.push(Presence::Joined {
            kind: MemberKind::Producer,
            name: String::new(),
        });
    }

    /// What every call of a producer does first.
    fn call_producer(&mut self, row: usize) {
        self.give_up_leaked(row);
        if self.kind == Producers::One && self.poisoned.is_none() {
            self.is_closed |= self.is_asked_to_close;
        }
    }

    /// Why nobody claims anything.
    fn why_it_ended(&self) -> Option<ClaimError> {
        let closed = self.is_closed.then_some(ClaimError::Closed);
        self.poisoned.map(ClaimError::Poisoned).or(closed)
    }

    /// Why `n` slots are not claimed; if there are two reasons, either may be given.
    fn why_no_claim(&self, n: usize) -> Vec<ClaimError> {
        let mut why = Vec::from_iter(self.why_it_ended());
        let (required, present) = (self.required_consumers, self.living().count());
        let capacity = self.capacity as usize;
        let free = (self.gate() - self.claimed()) as usize;
        if n > capacity {
            let requested = n;
            why.push(ClaimError::TooLong {
                requested,
                capacity,
            });
        } else if n > 0 && present < required {
            why.push(ClaimError::TooFewConsumers { required, present });
        } else if n > free {
            why.push(ClaimError::Full { free });
        }
        why
    }

    fn claim(&mut self, n: usize) -> Range<Sequence> {
        // A producer may use up what it knows to be free when too few consumers are left.
        let may_be_known_free = |why: &_| matches!(why, ClaimError::TooFewConsumers { .. });
        assert!(self.why_no_claim(n).iter().all(may_be_known_free));
        let (lo, hi) = (self.claimed(), self.claimed() + n as Sequence);
        assert!(n == 0 || hi <= self.gate());
        self.log.extend((lo..hi).map(|sequence| Entry {
            fate: Fate::Claimed,
            batch_end: hi,
            starts_batch: sequence == lo,
        }));
        lo..hi
    }

    fn publish(&mut self, claim: Range<Sequence>, first_value: u64) {
        for (sequence, value) in claim.zip(first_value..) {
            self.change(sequence, value);
        }
    }

    fn change(&mut self, sequence: Sequence, value: u64) {
        self.log[sequence as usize].fate = Fate::Event(value);
    }

    /// One producer takes a claim back that it gives up: nobody else can have claimed behind it.
    fn give_up(&mut self, row: usize, claim: Range<Sequence>) {
        match self.kind {
            Producers::One => self.log.truncate(claim.start as usize),
            Producers::Many => {
                self.producer(row).skipped += claim.end - claim.start;
                for sequence in claim {
                    self.log[sequence as usize].fate = Fate::Skipped;
                }
            }
        }
    }

    fn leak(&mut self, row: usize, claim: Range<Sequence>) {
        self.producer(row).leaked = claim;
        if self.kind == Producers::One {
            self.give_up_leaked(row);
        }
    }

    fn give_up_leaked(&mut self, row: usize) {
        let leaked = mem::take(&mut self.producer(row).leaked);
        if !leaked.is_empty() {
            self.give_up(row, leaked);
        }
    }

    fn leave_producer(&mut self, row: usize) {
        self.give_up_leaked(row);
        self.producers.remove(&row);
        self.is_closed |= self.producers.is_empty();
        self.told.push(Presence::Left {
            kind: MemberKind::Producer,
            name: String::new(),
        });
    }

    /// The only producer has to agree to a close, if it is there.
    fn close(&mut self) {
        let someone_has_to_agree = self.kind == Producers::One && !self.producers.is_empty();
        self.is_asked_to_close |= someone_has_to_agree;
        self.is_closed |= !someone_has_to_agree;
    }
}

// Consumers that come and go.
impl Model {
    fn living(&self) -> impl Iterator<Item = &ModelConsumer> {
        self.consumers.iter().filter(|consumer| !consumer.has_left)
    }

    fn living_named(&self, name: &str) -> Option<usize> {
        let is_it = |consumer: &ModelConsumer| !consumer.has_left && consumer.name == name;
        self.consumers.iter().position(is_it)
    }

    /// All that a consumer comes after, directly or through others, if it does so after these names.
    fn all_before(&self, names: &[String]) -> BTreeSet<usize> {
        let named = names.iter().filter_map(|name| self.living_named(name));
        named
            .flat_map(|who| self.consumers[who].after.iter().copied().chain([who]))
            .collect()
    }

    /// Why a consumer does not join; if there are several reasons, any may be given.
    fn why_no_consumer_joins(&self, request: &Request) -> Vec<JoinError> {
        let mut why = Vec::new();
        let name = || request.name.clone();
        if self.living_named(&request.name).is_some() {
            why.push(JoinError::NameTaken { name: name() });
        }
        for after in &request.after {
            if self.living_named(after).is_none() {
                let after = after.clone();
                why.push(JoinError::UnknownName {
                    name: name(),
                    after,
                });
            }
        }
        let before = self.all_before(&request.after);
        for (who, other) in self.consumers.iter().enumerate() {
            let either_changes = request.is_mutable || other.is_mutable;
            if !other.has_left && either_changes && !before.contains(&who) {
                why.push(JoinError::Unordered {
                    name: name(),
                    other: other.name.clone(),
                    other_changes: other.is_mutable,
                });
            }
        }
        if let Start::At(asked) = request.start
            && asked < self.oldest()
        {
            why.push(JoinError::TooOld {
                name: name(),
                asked,
                oldest: self.oldest(),
            });
        }
        if self.is_closed {
            why.push(JoinError::Closed { name: name() });
        }
        if let Some(cause) = self.poisoned {
            let name = name();
            why.push(JoinError::Poisoned { name, cause });
        }
        why
    }

    /// The oldest event that a newcomer can be given: the first that another consumer keeps. Among many
    /// producers that is rounded up to the next batch; and if nobody keeps any, it is still to come.
    fn oldest(&self) -> Sequence {
        let Some(lowest) = self.lowest_position() else {
            return self.front();
        };
        match self.log.get(lowest as usize) {
            Some(entry) if self.kind == Producers::Many && !entry.starts_batch => entry.batch_end,
            _ => lowest,
        }
    }

    /// A consumer has joined, and gates from `position` on.
    fn join_consumer(&mut self, request: &Request, row: usize, position: Sequence) {
        let target = match request.start {
            Start::Next => self.front(),
            Start::Oldest => self.oldest(),
            Start::At(asked) => asked,
            _ => unreachable!("no program asks for it"),
        };
        // It misses nothing, lets nobody into slots that others write, is not overrun, and holds up producers
        // no more than others do.
        assert!(position <= target && position <= self.published());
        assert!(position + self.capacity >= self.claimed());
        if let Some(lowest) = self.lowest_position() {
            assert!(position >= lowest);
            assert!(request.start != Start::Oldest || position == target);
        }
        self.consumers.push(ModelConsumer {
            name: request.name.clone(),
            row,
            has_left: false,
            is_mutable: request.is_mutable,
            after: self.all_before(&request.after),
            batch_limit: request.batch_limit as u64,
            target,
            start: target,
            position,
            read: position,
            skipped: 0,
        });
        let joined = self.consumers.last().expect("it has joined");
        self.told.push(Presence::Joined {
            kind: joined.kind(),
            name: joined.name.clone(),
        });
    }

    fn leave_consumer(&mut self, who: usize) {
        self.last_gate = self.gate();
        self.consumers[who].has_left = true;
        self.told.push(Presence::Left {
            kind: self.consumers[who].kind(),
            name: self.consumers[who].name.clone(),
        });
    }

    /// What a snapshot shows of each member, by its row: name and kind, position and lag of a consumer, and
    /// how much was skipped.
    fn rows(&self) -> BTreeMap<usize, Row> {
        let producers = self.producers.iter().map(|(&row, producer)| {
            let kind = MemberKind::Producer;
            (row, (String::new(), kind, None, producer.skipped))
        });
        let consumers = self.living().map(|consumer| {
            let lag = self.published() - consumer.position;
            let place = Some((consumer.position, lag));
            let row = (
                consumer.name.clone(),
                consumer.kind(),
                place,
                consumer.skipped,
            );
            (consumer.row, row)
        });
        producers.chain(consumers).collect()
    }

    /// Whether the table holds as many members as it can.
    fn is_full(&self) -> bool {
        self.living().count() + self.producers.len() >= self.members
    }

    /// Whether it may be full. The row of a consumer may be kept for those that came after it.
    fn may_be_full(&self) -> bool {
        let consumers = self.living().flat_map(|consumer| &consumer.after);
        let left = consumers.filter(|&&who| self.consumers[who].has_left);
        let kept = left.collect::<BTreeSet<_>>().len();
        self.living().count() + self.producers.len() + kept >= self.members
    }
}

// Consumers that read.
impl Model {
    /// How far all have got that `who` comes after.
    fn passed(&self, who: usize) -> Sequence {
        let before = self.consumers[who].after.iter();
        let before = before.map(|&before| &self.consumers[before]);
        let positions = before
            .filter(|before| !before.has_left)
            .map(|before| before.position);
        positions.min().unwrap_or(Sequence::MAX)
    }

    /// Steps over what is not for `who`: what carries no event, and events below its start.
    fn step_over(&mut self, who: usize) {
        let passed = self.passed(who);
        while self.consumers[who].read < passed {
            let ModelConsumer {
                read,
                target,
                start,
                ..
            } = self.consumers[who];
            match self.fate(read) {
                Some(Fate::Skipped) if read >= start => self.consumers[who].skipped += 1,
                Some(Fate::Skipped) => {}
                Some(Fate::Event(_)) if read < target => {}
                _ => return,
            }
            self.consumers[who].pass(read + 1);
        }
    }

    /// All that `who` can be given at once.
    fn poll(&mut self, who: usize) -> Result<Range<Sequence>, NotReady> {
        if let Some(poisoned) = self.poisoned {
            return Err(NotReady::Poisoned(poisoned));
        }
        self.step_over(who);
        let passed = self.passed(who);
        let ModelConsumer {
            read, batch_limit, ..
        } = self.consumers[who];
        let is_readable = |s: &_| *s < passed && matches!(self.fate(*s), Some(Fate::Event(_)));
        let events = (read..).take_while(is_readable).count() as u64;
        if events > 0 {
            Ok(read..read + min(events, batch_limit))
        } else if self.is_published(read) {
            Err(NotReady::Gated)
        } else if self.is_closed && read == self.front() {
            Err(NotReady::Closed)
        } else {
            Err(NotReady::Idle)
        }
    }

    /// Whether `who` need not wait. It steps over what is not for it also if the ring was poisoned.
    fn is_ready(&mut self, who: usize) -> bool {
        self.step_over(who);
        !matches!(self.poll(who), Err(NotReady::Idle | NotReady::Gated))
    }

    /// As if it had joined to start at the last event that is there; returns how many come before.
    fn skip_to_latest(&mut self, who: usize) -> u64 {
        self.step_over(who);
        let end = min(self.passed(who), self.published());
        let there = self.events(self.consumers[who].read..end);
        let Some(((last, _), dropped)) = there.split_last() else {
            return 0;
        };
        self.consumers[who].target = *last;
        self.step_over(who);
        dropped.len() as u64
    }

    /// Sequences without an event are not held: it is past those behind what it releases.
    fn release_until(&mut self, who: usize, sequence: Sequence) {
        let ModelConsumer { position, read, .. } = self.consumers[who];
        let mut to = sequence.clamp(position, read);
        while to < read && self.fate(to) == Some(Fate::Skipped) {
            to += 1;
        }
        self.consumers[who].position = to;
    }

    fn held(&self, who: usize) -> Vec<(Sequence, u64)> {
        self.events(self.consumers[who].position..self.consumers[who].read)
    }
}

impl ModelConsumer {
    /// It is done with what lies below `to`, and releases that unless it holds something.
    fn pass(&mut self, to: Sequence) {
        if self.position == self.read {
            self.position = to;
        }
        self.read = to;
    }

    fn kind(&self) -> MemberKind {
        match (self.is_mutable, self.after.is_empty()) {
            (true, _) => MemberKind::MutableStage,
            (false, true) => MemberKind::Consumer,
            (false, false) => MemberKind::Stage,
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Programs
// ---------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Program {
    capacity: usize,
    layout: Layout,
    kind: Producers,
    required_consumers: usize,
    members: usize,
    steps: Vec<Step>,
}

/// One step of a program. Who takes it is any number, modulo how many there are that can; those in the
/// middle of another step cannot. If there is nobody, nothing is done.
#[derive(Clone, Debug)]
enum Step {
    ProducerJoins,
    ProducerLeaves(usize),
    ConsumerJoins(Join),
    ConsumerLeaves(usize),
    Write(Write),
    Read(Read),
    /// Releases what is held, up to so far from the position, less one: it need not be anything.
    ReleaseUntil(usize, u64),
    SkipToLatest(usize),
    /// Asks all that can, from this one on.
    TryAny(usize),
    AskFree(usize),
    Close,
    Poison(Poisoner, u32),
}

/// Claims and writes `n` slots; other steps happen while the claim is open.
#[derive(Clone, Debug)]
struct Write {
    producer: usize,
    n: usize,
    way: Way,
    meanwhile: Vec<Step>,
}

/// By what call slots are claimed, and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    PublishOne,
    PublishBatch,
    Panic,
    ClaimAndPublish,
    ClaimAndDrop,
    ClaimAndForget,
}

/// Takes a batch and releases some of it; other steps happen before the rest is.
#[derive(Clone, Debug)]
struct Read {
    consumer: usize,
    release: Option<usize>,
    meanwhile: Vec<Step>,
    end: End,
}

/// What becomes of the rest of a batch.
#[derive(Clone, Copy, Debug)]
enum End {
    Drop,
    GiveBack,
    Hold,
    Forget,
}

/// Joins after some of those that are there, under a name that is free. If it is careless, names may be
/// wrong.
#[derive(Clone, Debug)]
struct Join {
    name: usize,
    after: Vec<bool>,
    is_careless: bool,
    start: Where,
    batch_limit: usize,
    is_mutable: bool,
}

#[derive(Clone, Copy, Debug)]
enum Where {
    Next,
    Oldest,
    /// So many events behind the end of what is published.
    Behind(i64),
}

#[derive(Clone, Copy, Debug)]
enum Poisoner {
    Ring,
    Producer(usize),
    Consumer(usize),
}

fn program() -> impl Strategy<Value = Program> {
    let capacity = prop::sample::select(vec![1, 2, 4, 4, 8, 8, 8, 16]);
    let layout = prop_oneof![Just(Layout::Beside), Just(Layout::Apart)];
    let kind = prop_oneof![Just(Producers::One), Just(Producers::Many)];
    let required_consumers = prop_oneof![6 => Just(0), 1 => 1..=2_usize];
    let members = prop_oneof![6 => Just(16), 1 => 3..=8_usize];
    // Most begin with some members.
    let producers = prop_oneof![9 => 1..=2_usize, 1 => Just(0)];
    let consumers = prop::collection::vec(join(), 0..5);
    let steps = (producers, consumers, prop::collection::vec(step(2), 0..150));
    let steps = steps.prop_map(|(producers, consumers, steps)| {
        let producers = iter::repeat_n(Step::ProducerJoins, producers);
        let consumers = consumers.into_iter().map(Step::ConsumerJoins);
        producers.chain(consumers).chain(steps).collect()
    });
    (capacity, layout, kind, required_consumers, members, steps).prop_map(
        |(capacity, layout, kind, required_consumers, members, steps)| Program {
            capacity,
            layout,
            kind,
            required_consumers,
            members,
            steps,
        },
    )
}

/// A step, with others in the middle of it, and others in the middle of those, `depth` deep.
fn step(depth: u32) -> BoxedStrategy<Step> {
    let who = || 0..12_usize;
    prop_oneof![
        200 => write(depth).prop_map(Step::Write),
        200 => read(depth).prop_map(Step::Read),
        80 => (who(), 0..12_u64).prop_map(|(who, events)| Step::ReleaseUntil(who, events)),
        30 => who().prop_map(Step::SkipToLatest),
        20 => who().prop_map(Step::TryAny),
        30 => who().prop_map(Step::AskFree),
        60 => join().prop_map(Step::ConsumerJoins),
        20 => who().prop_map(Step::ConsumerLeaves),
        5 => Just(Step::ProducerJoins),
        2 => who().prop_map(Step::ProducerLeaves),
        1 => Just(Step::Close),
        1 => (poisoner(), any::<u32>()).prop_map(|(who, reason)| Step::Poison(who, reason)),
    ]
    .boxed()
}

fn meanwhile(depth: u32) -> BoxedStrategy<Vec<Step>> {
    match depth {
        0 => Just(Vec::new()).boxed(),
        _ => prop::collection::vec(step(depth - 1), 0..4).boxed(),
    }
}

fn write(depth: u32) -> impl Strategy<Value = Write> {
    let way = prop_oneof![
        3 => Just(Way::PublishOne),
        4 => Just(Way::PublishBatch),
        1 => Just(Way::Panic),
        4 => Just(Way::ClaimAndPublish),
        2 => Just(Way::ClaimAndDrop),
        1 => Just(Way::ClaimAndForget),
    ];
    (0..12_usize, 0..6_usize, way, meanwhile(depth)).prop_map(|(producer, n, way, meanwhile)| {
        Write {
            producer,
            n,
            way,
            meanwhile,
        }
    })
}

fn read(depth: u32) -> impl Strategy<Value = Read> {
    let end = prop_oneof![
        6 => Just(End::Drop),
        2 => Just(End::GiveBack),
        3 => Just(End::Hold),
        1 => Just(End::Forget),
    ];
    (
        0..12_usize,
        prop::option::of(0..4_usize),
        meanwhile(depth),
        end,
    )
        .prop_map(|(consumer, release, meanwhile, end)| Read {
            consumer,
            release,
            meanwhile,
            end,
        })
}

fn join() -> impl Strategy<Value = Join> {
    let after = prop::collection::vec(any::<bool>(), NAMES);
    let is_careless = prop::bool::weighted(0.1);
    let start = prop_oneof![
        Just(Where::Next),
        Just(Where::Oldest),
        (-3..9_i64).prop_map(Where::Behind),
    ];
    let is_mutable = prop::bool::weighted(0.2);
    (0..NAMES, after, is_careless, start, 1..=9_usize, is_mutable).prop_map(
        |(name, after, is_careless, start, batch_limit, is_mutable)| Join {
            name,
            after,
            is_careless,
            start,
            batch_limit,
            is_mutable,
        },
    )
}

fn poisoner() -> impl Strategy<Value = Poisoner> {
    prop_oneof![
        Just(Poisoner::Ring),
        (0..12_usize).prop_map(Poisoner::Producer),
        (0..12_usize).prop_map(Poisoner::Consumer),
    ]
}

// ---------------------------------------------------------------------------------------------
// Running both
// ---------------------------------------------------------------------------------------------

/// A ring and its model. Members in the middle of a step are not in the lists.
struct Pair {
    ring: Ring<u64>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    told: Arc<Mutex<Vec<Presence>>>,
    model: Model,
    /// No value is written twice, so that no slot can be taken for another.
    next_value: u64,
}

/// A producer, and which one of the model it is.
struct Writer {
    row: usize,
    handle: Feed<u64>,
}

/// A consumer, and which one of the model it is.
struct Reader {
    index: usize,
    handle: Handle,
}

/// What a step panics with if that is what it is to do.
struct Planned;

impl Pair {
    fn new(program: &Program) -> Self {
        let builder = Ring::builder(program.capacity)
            .layout(program.layout)
            .producers(program.kind)
            .require_consumers(program.required_consumers)
            .members(program.members);
        let ring = builder.build(|| u64::MAX).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        ring.watch(move |presence| tell.lock().unwrap().push(presence.clone()));
        Self {
            ring,
            writers: Vec::new(),
            readers: Vec::new(),
            told,
            model: Model {
                capacity: program.capacity as u64,
                kind: program.kind,
                required_consumers: program.required_consumers,
                members: program.members,
                log: Vec::new(),
                producers: BTreeMap::new(),
                consumers: Vec::new(),
                last_gate: 0,
                is_asked_to_close: false,
                is_closed: false,
                poisoned: None,
                told: Vec::new(),
            },
            next_value: 0,
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.take(step);
            self.look();
        }
    }

    /// Takes a step, or does nothing if nobody can.
    fn take(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::ProducerJoins => self.join_producer(),
            Step::ProducerLeaves(who) => {
                let writer = self.writers.remove(choose(*who, &self.writers)?);
                drop(writer.handle);
                self.model.leave_producer(writer.row);
            }
            Step::ConsumerJoins(how) => self.join_consumer(how)?,
            Step::ConsumerLeaves(who) => {
                let reader = self.readers.remove(choose(*who, &self.readers)?);
                drop(reader.handle);
                self.model.leave_consumer(reader.index);
            }
            Step::Write(write) => {
                let mut writer = self.writers.remove(choose(write.producer, &self.writers)?);
                self.write(&mut writer, write);
                self.writers.push(writer);
            }
            Step::Read(read) => {
                let mut reader = self.readers.remove(choose(read.consumer, &self.readers)?);
                self.read(&mut reader, read);
                self.readers.push(reader);
            }
            Step::ReleaseUntil(who, events) => {
                let who = choose(*who, &self.readers)?;
                let Reader { index, handle } = &mut self.readers[who];
                let until = self.model.consumers[*index].position + events;
                handle.release_until(until.saturating_sub(1));
                self.model.release_until(*index, until.saturating_sub(1));
            }
            Step::SkipToLatest(who) => {
                let who = choose(*who, &self.readers)?;
                let Reader { index, handle } = &mut self.readers[who];
                assert_eq!(handle.skip_to_latest(), self.model.skip_to_latest(*index));
            }
            Step::TryAny(first) => {
                let first = choose(*first, &self.readers)?;
                self.readers.rotate_left(first);
                let model = &mut self.model;
                let ready = (self.readers.iter()).position(|reader| model.is_ready(reader.index));
                let waiting = self
                    .readers
                    .iter_mut()
                    .map(|reader| reader.handle.as_waiting());
                assert_eq!(try_any(&mut Vec::from_iter(waiting)), ready);
            }
            Step::AskFree(who) => {
                let who = choose(*who, &self.writers)?;
                self.ask_free(who);
            }
            Step::Close => {
                self.ring.close();
                self.model.close();
            }
            Step::Poison(who, reason) => self.poison(*who, *reason)?,
        }
        Some(())
    }

    fn join_producer(&mut self) {
        let why_not = self.model.why_no_producer_joins();
        match Feed::join(&self.ring) {
            Ok(handle) => {
                assert!(why_not.is_empty() && !self.model.is_full(), "{why_not:?}");
                let row = handle.row();
                self.model.join_producer(row);
                self.writers.push(Writer { row, handle });
            }
            Err(ProducerError::TableFull { members, .. }) => {
                assert!(members == self.model.members && self.model.may_be_full());
            }
            Err(why) => assert!(why_not.contains(&why), "{why:?} is not of {why_not:?}"),
        }
    }

    fn join_consumer(&mut self, how: &Join) -> Option<()> {
        let model = &self.model;
        let is_there = |name: &usize| model.living_named(&name.to_string()).is_some();
        let mut names: Vec<_> = (0..NAMES).collect();
        let mut after = names.clone();
        after.retain(|name| how.after[*name] && (how.is_careless || is_there(name)));
        names.retain(|name| how.is_careless || !is_there(name));
        let request = Request {
            name: names[choose(how.name, &names)?].to_string(),
            after: after.iter().map(usize::to_string).collect(),
            start: match how.start {
                Where::Next => Start::Next,
                Where::Oldest => Start::Oldest,
                Where::Behind(events) => {
                    Start::At(model.published().saturating_add_signed(-events))
                }
            },
            batch_limit: how.batch_limit,
            is_mutable: how.is_mutable,
        };
        let why_not = model.why_no_consumer_joins(&request);
        match Handle::join(&self.ring, &request) {
            Ok(handle) => {
                assert!(why_not.is_empty() && !model.is_full(), "{why_not:?}");
                let index = model.consumers.len();
                let (row, position) = (handle.row(), handle.position());
                self.model.join_consumer(&request, row, position);
                self.readers.push(Reader { index, handle });
            }
            Err(JoinError::TableFull { name, members, .. }) => {
                assert_eq!((name, members), (request.name, model.members));
                assert!(model.may_be_full());
            }
            Err(why) => assert!(why_not.contains(&why), "{why:?} is not of {why_not:?}"),
        }
        Some(())
    }

    fn write(&mut self, writer: &mut Writer, write: &Write) {
        let Writer { row, handle } = writer;
        let way = write.way;
        let n = if way == Way::PublishOne { 1 } else { write.n };
        let first_value = self.next_value;
        self.next_value += n as u64;
        self.model.call_producer(*row);
        let why_not = self.model.why_no_claim(n);
        let mut expected = 0..0;
        let mut fill = |slots: &mut dyn Iterator<Item = &mut u64>| {
            expected = self.model.claim(n);
            let filled = slots.zip(first_value..).map(|(slot, value)| *slot = value);
            assert_eq!(filled.count(), n);
            self.run(&write.meanwhile);
        };
        let claimed = match way {
            Way::PublishOne => {
                let published = handle.try_publish(|slot| fill(&mut iter::once(slot)));
                published.map(|sequence| sequence..sequence + 1)
            }
            Way::PublishBatch => handle.try_publish_batch(n, |mut slots| fill(&mut slots)),
            Way::Panic => {
                let publish = || {
                    handle.try_publish_batch(n, |mut slots| {
                        fill(&mut slots);
                        resume_unwind(Box::new(Planned))
                    })
                };
                match catch_unwind(AssertUnwindSafe(publish)) {
                    Ok(refused) => refused,
                    Err(payload) if payload.is::<Planned>() => Ok(expected.clone()),
                    Err(payload) => resume_unwind(payload),
                }
            }
            Way::ClaimAndPublish | Way::ClaimAndDrop | Way::ClaimAndForget => {
                handle.try_claim(n).map(|mut claim| {
                    fill(&mut claim.iter_mut());
                    let sequences = claim.sequences();
                    match way {
                        Way::ClaimAndPublish => assert_eq!(claim.publish(), sequences),
                        Way::ClaimAndDrop => drop(claim),
                        _ => mem::forget(claim),
                    }
                    sequences
                })
            }
        };
        match claimed {
            Ok(claim) => {
                assert_eq!(claim, expected);
                match way {
                    Way::ClaimAndDrop | Way::Panic => self.model.give_up(*row, claim),
                    Way::ClaimAndForget => self.model.leak(*row, claim),
                    _ => self.model.publish(claim, first_value),
                }
            }
            Err(why) => assert!(why_not.contains(&why), "{why:?} is not of {why_not:?}"),
        }
    }

    fn ask_free(&mut self, who: usize) {
        let Writer { row, handle } = &mut self.writers[who];
        self.model.call_producer(*row);
        let most = (self.model.gate() - self.model.claimed()) as usize;
        let free = handle.free();
        match self.model.why_it_ended() {
            Some(why) => assert_eq!(free, Err(why)),
            // It knows what was free when there were enough.
            None if self.model.requires_more_consumers() => assert!(free.unwrap() <= most),
            None => assert_eq!(free, Ok(most)),
        }
    }

    fn read(&mut self, reader: &mut Reader, read: &Read) {
        let Reader { index, handle } = reader;
        let readable = self.model.poll(*index);
        let mut batch = match handle.try_next_batch() {
            Ok(batch) => batch,
            Err(why) => return assert_eq!(Err(why), readable),
        };
        let readable = readable.unwrap();
        let all = batch.sequences();
        assert_eq!(all.start, readable.start);
        assert!(all.start < all.end && all.end <= readable.end, "{all:?}");
        let known = all.start + batch.backlog() as u64;
        assert!(all.end <= known && known <= self.model.published());
        assert_eq!(batch.events(), self.model.events(all.clone()));
        if let Taken::Mutable(batch) = &mut batch {
            for (sequence, event) in all.clone().zip(batch.iter_mut()) {
                *event = self.next_value;
                self.model.change(sequence, self.next_value);
                self.next_value += 1;
            }
        }

        let mut rest = all;
        if let Some(events) = read.release {
            batch.release(events);
            rest.start = min(rest.start + events as u64, rest.end);
            self.model.consumers[*index].pass(rest.start);
        }
        self.run(&read.meanwhile);
        assert_eq!(batch.events(), self.model.events(rest.clone()));

        let model = &mut self.model.consumers[*index];
        match read.end {
            End::Drop => {
                drop(batch);
                model.pass(rest.end);
            }
            End::GiveBack => batch.give_back(),
            End::Hold => {
                batch.hold();
                model.read = rest.end;
            }
            End::Forget => mem::forget(batch),
        }
    }

    fn poison(&mut self, who: Poisoner, reason: u32) -> Option<()> {
        let row = match who {
            Poisoner::Ring => {
                self.ring.poison(reason);
                None
            }
            Poisoner::Producer(who) => {
                let Writer { row, handle } = &self.writers[choose(who, &self.writers)?];
                handle.poison(reason);
                Some(*row)
            }
            Poisoner::Consumer(who) => {
                let Reader { index, handle } = &self.readers[choose(who, &self.readers)?];
                handle.poison(reason);
                Some(self.model.consumers[*index].row)
            }
        };
        if self.model.poisoned.is_none() {
            let poisoned = self.ring.snapshot().poisoned.unwrap();
            assert_eq!((poisoned.reason, poisoned.row), (reason, row));
            self.model.poisoned = Some(poisoned);
            self.model.told.push(Presence::Poisoned(poisoned));
        }
        Some(())
    }

    /// Compares all that can be seen.
    fn look(&mut self) {
        let model = &mut self.model;
        let told = mem::take(&mut *self.told.lock().unwrap());
        assert_eq!(told, mem::take(&mut model.told));
        assert_eq!(self.ring.is_closed(), model.is_closed);
        for Reader { index, handle } in &self.readers {
            let consumer = &model.consumers[*index];
            assert_eq!(handle.name(), consumer.name);
            assert_eq!(handle.position(), consumer.position);
            assert_eq!(handle.skipped(), consumer.skipped);
            assert_eq!(handle.start(), consumer.start);
            let held: Vec<_> = handle.held().map(|(s, event)| (s, *event)).collect();
            assert_eq!(held, model.held(*index));
        }

        let snapshot = self.ring.snapshot();
        assert_eq!(snapshot.claimed, model.front());
        assert_eq!(snapshot.published, model.published());
        assert_eq!(snapshot.closed, model.is_closed);
        assert_eq!(snapshot.poisoned, model.poisoned);
        let seen = snapshot.members.into_iter().map(|member| {
            let is_consumer = member.kind != MemberKind::Producer;
            let place = is_consumer.then_some((member.position, member.lag));
            let row = (member.name, member.kind, place, member.skipped);
            (member.row, row)
        });
        assert_eq!(Vec::from_iter(seen), Vec::from_iter(model.rows()));
    }
}

/// One of these, if there are any.
fn choose<T>(who: usize, of: &[T]) -> Option<usize> {
    who.checked_rem(of.len())
}

enum Handle {
    Plain(Consumer<u64>),
    Mutable(MutableConsumer<u64>),
}

impl Handle {
    fn join(ring: &Ring<u64>, request: &Request) -> Result<Self, JoinError> {
        let builder = ring
            .consumer(&request.name)
            .after(request.after.clone())
            .start(request.start)
            .batch_limit(request.batch_limit);
        if request.is_mutable {
            builder.join_mut().map(Self::Mutable)
        } else {
            builder.join().map(Self::Plain)
        }
    }

    fn try_next_batch(&mut self) -> Result<Taken<'_>, NotReady> {
        match self {
            Self::Plain(consumer) => consumer.try_next_batch().map(Taken::Plain),
            Self::Mutable(consumer) => consumer.try_next_batch_mut().map(Taken::Mutable),
        }
    }

    fn skip_to_latest(&mut self) -> u64 {
        match self {
            Self::Plain(consumer) => consumer.skip_to_latest(),
            Self::Mutable(consumer) => consumer.skip_to_latest(),
        }
    }

    fn release_until(&mut self, sequence: Sequence) {
        match self {
            Self::Plain(consumer) => consumer.release_until(sequence),
            Self::Mutable(consumer) => consumer.release_until(sequence),
        }
    }

    fn as_waiting(&mut self) -> &mut dyn Waiting {
        match self {
            Self::Plain(consumer) => consumer,
            Self::Mutable(consumer) => consumer.as_waiting(),
        }
    }
}

impl Deref for Handle {
    type Target = Consumer<u64>;

    fn deref(&self) -> &Consumer<u64> {
        match self {
            Self::Plain(consumer) => consumer,
            Self::Mutable(consumer) => consumer,
        }
    }
}

enum Taken<'c> {
    Plain(Batch<'c, u64>),
    Mutable(MutableBatch<'c, u64>),
}

impl Taken<'_> {
    fn events(&self) -> Vec<(Sequence, u64)> {
        self.with_sequences()
            .map(|(sequence, event)| (sequence, *event))
            .collect()
    }

    fn release(&mut self, n: usize) {
        match self {
            Self::Plain(batch) => batch.release(n),
            Self::Mutable(batch) => batch.release(n),
        }
    }

    fn hold(self) {
        match self {
            Self::Plain(batch) => batch.hold(),
            Self::Mutable(batch) => batch.hold(),
        }
    }

    fn give_back(self) {
        match self {
            Self::Plain(batch) => batch.give_back(),
            Self::Mutable(batch) => batch.give_back(),
        }
    }
}

impl<'c> Deref for Taken<'c> {
    type Target = Batch<'c, u64>;

    fn deref(&self) -> &Batch<'c, u64> {
        match self {
            Self::Plain(batch) => batch,
            Self::Mutable(batch) => batch,
        }
    }
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig {
        failure_persistence: None,
        // Unoptimised, the default takes three quarters of the time.
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 500;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_ring_does_what_its_model_does(program in program()) {
        let mut pair = Pair::new(&program);
        pair.run(&program.steps);
    }
}

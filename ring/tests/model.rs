//! Random programs, run on a ring and on a plain sequential model of it, which must agree on every
//! result: sequences, free slots, batches, why there is none, what is skipped, snapshots.
//!
//! The model says what a ring has to do and not how. So a batch may be any part of what can be read
//! that starts at the consumer's position: how far a consumer looks is its own affair.

mod common;

use std::cmp::min;
use std::iter;
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use annulus_ring::{Batch, ClaimError, Consumer, Layout, NotReady, Producers, Ring, Sequence};
use proptest::prelude::*;

use common::Feed;

// ---------------------------------------------------------------------------------------------
// The model
// ---------------------------------------------------------------------------------------------

struct Model {
    capacity: u64,
    kind: Producers,
    /// What has become of each sequence that is claimed, for all to see.
    log: Vec<Fate>,
    producers: Vec<ModelProducer>,
    consumers: Vec<ModelConsumer>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Claimed,
    Event(u64),
    Skipped,
}

#[derive(Clone, Default)]
struct ModelProducer {
    has_left: bool,
    leaked: Range<Sequence>,
    skipped: u64,
}

#[derive(Clone, Default)]
struct ModelConsumer {
    has_left: bool,
    after: Vec<usize>,
    batch_limit: u64,
    position: Sequence,
    skipped: u64,
}

impl Model {
    fn claimed(&self) -> Sequence {
        self.log.len() as Sequence
    }

    /// The first sequence that is not published.
    fn published(&self) -> Sequence {
        let unpublished = self.log.iter().position(|fate| *fate == Fate::Claimed);
        unpublished.unwrap_or(self.log.len()) as Sequence
    }

    fn is_published(&self, sequence: Sequence) -> bool {
        !matches!(self.fate(sequence), None | Some(Fate::Claimed))
    }

    fn fate(&self, sequence: Sequence) -> Option<Fate> {
        self.log.get(sequence as usize).copied()
    }

    fn is_closed(&self) -> bool {
        self.producers.iter().all(|producer| producer.has_left)
    }

    fn free(&self) -> u64 {
        let consumers = self.consumers.iter().filter(|consumer| !consumer.has_left);
        let lowest = consumers.map(|consumer| consumer.position).min();
        self.capacity - (self.claimed() - lowest.unwrap_or(self.published()))
    }

    fn claim(&mut self, who: usize, n: usize) -> Result<Range<Sequence>, ClaimError> {
        self.give_up_leaked(who);
        let capacity = self.capacity as usize;
        let free = self.free() as usize;
        if n > capacity {
            let requested = n;
            return Err(ClaimError::TooLong {
                requested,
                capacity,
            });
        }
        if n > free {
            return Err(ClaimError::Full { free });
        }
        let lo = self.claimed();
        if self.kind == Producers::Many {
            self.log.extend(iter::repeat_n(Fate::Claimed, n));
        }
        Ok(lo..lo + n as Sequence)
    }

    fn publish(&mut self, claim: Range<Sequence>, first_value: u64) {
        self.log
            .resize(self.log.len().max(claim.end as usize), Fate::Claimed);
        for (sequence, value) in claim.zip(first_value..) {
            self.log[sequence as usize] = Fate::Event(value);
        }
    }

    fn leak(&mut self, who: usize, claim: Range<Sequence>) {
        self.producers[who].leaked = claim;
    }

    fn give_up_leaked(&mut self, who: usize) {
        let leaked = mem::take(&mut self.producers[who].leaked);
        self.give_up(who, leaked);
    }

    /// One producer has told nobody of a claim that it gives up.
    fn give_up(&mut self, who: usize, claim: Range<Sequence>) {
        if self.kind == Producers::Many {
            self.producers[who].skipped += claim.end - claim.start;
            for sequence in claim {
                self.log[sequence as usize] = Fate::Skipped;
            }
        }
    }

    fn leave_producer(&mut self, who: usize) {
        self.give_up_leaked(who);
        self.producers[who].has_left = true;
    }

    /// How far those have got that `who` comes after. One that has left counts for nothing, and what it
    /// came after in its place.
    fn passed(&self, who: usize) -> Sequence {
        let passed =
            self.consumers[who]
                .after
                .iter()
                .map(|&before| match &self.consumers[before] {
                    left if left.has_left => self.passed(before),
                    there => there.position,
                });
        passed.min().unwrap_or(Sequence::MAX)
    }

    /// All that `who` can read at once, after it has stepped over what carries no event.
    fn poll(&mut self, who: usize) -> Result<Range<Sequence>, NotReady> {
        let passed = self.passed(who);
        let consumer = &self.consumers[who];
        let mut lo = consumer.position;
        while lo < passed && self.fate(lo) == Some(Fate::Skipped) {
            lo += 1;
        }
        let mut hi = lo;
        while hi < passed && matches!(self.fate(hi), Some(Fate::Event(_))) {
            hi += 1;
        }
        let hi = min(hi, lo + consumer.batch_limit);
        let skipped = lo - consumer.position;
        self.consumers[who].position = lo;
        self.consumers[who].skipped += skipped;
        if lo < hi {
            Ok(lo..hi)
        } else if self.is_published(lo) {
            Err(NotReady::Gated)
        } else if self.is_closed() {
            Err(NotReady::Closed)
        } else {
            Err(NotReady::Idle)
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Programs
// ---------------------------------------------------------------------------------------------

/// One step of a program. Members are numbered, modulo how many there are; a step of one that has left,
/// or that is in the middle of another step, does nothing.
#[derive(Clone, Debug)]
enum Step {
    /// Claims and writes `n` slots; other steps happen while the claim is open.
    Write {
        producer: usize,
        n: usize,
        way: Way,
        meanwhile: Vec<Step>,
    },
    /// Takes a batch and releases some of it; other steps happen while it is held.
    Read {
        consumer: usize,
        release: usize,
        meanwhile: Vec<Step>,
        end: End,
    },
    AskFree(usize),
    ProducerLeaves(usize),
    ConsumerLeaves(usize),
    Look,
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

/// What becomes of the rest of a batch.
#[derive(Clone, Copy, Debug)]
enum End {
    Drop,
    GiveBack,
    Forget,
}

#[derive(Clone, Debug)]
struct Program {
    capacity: usize,
    layout: Layout,
    kind: Producers,
    producers: usize,
    /// Of each consumer: which of the earlier ones it comes after, as bits, and its batch limit.
    consumers: Vec<(u8, usize)>,
    steps: Vec<Step>,
}

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        4 => Just(Way::PublishOne),
        4 => Just(Way::PublishBatch),
        1 => Just(Way::Panic),
        4 => Just(Way::ClaimAndPublish),
        1 => Just(Way::ClaimAndDrop),
        1 => Just(Way::ClaimAndForget),
    ]
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Drop),
        1 => Just(End::GiveBack),
        1 => Just(End::Forget),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let short = prop_oneof![
        9 => Just(Step::Look),
        9 => (0..3_usize).prop_map(Step::AskFree),
        1 => (0..3_usize).prop_map(Step::ProducerLeaves),
        1 => (0..4_usize).prop_map(Step::ConsumerLeaves),
    ];
    short.prop_recursive(3, 12, 4, |inner| {
        let meanwhile = || prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            1 => inner.clone(),
            6 => (0..3_usize, 0..6_usize, ways(), meanwhile()).prop_map(
                |(producer, n, way, meanwhile)| Step::Write { producer, n, way, meanwhile }
            ),
            8 => (0..4_usize, 0..4_usize, meanwhile(), ends()).prop_map(
                |(consumer, release, meanwhile, end)| Step::Read {
                    consumer,
                    release,
                    meanwhile,
                    end
                }
            ),
        ]
    })
}

fn program() -> impl Strategy<Value = Program> {
    let capacity = (0..=3_u32).prop_map(|bits| 1 << bits);
    let producers = prop_oneof![
        Just((Producers::One, 1)),
        (1..=3_usize).prop_map(|producers| (Producers::Many, producers)),
    ];
    let consumers = prop::collection::vec((any::<u8>(), 1..=9_usize), 0..=4);
    let steps = prop::collection::vec(step(), 0..60);
    let layout = prop_oneof![Just(Layout::Beside), Just(Layout::Apart)];
    (capacity, layout, producers, consumers, steps).prop_map(
        |(capacity, layout, (kind, producers), consumers, steps)| Program {
            capacity,
            layout,
            kind,
            producers,
            consumers,
            steps,
        },
    )
}

// ---------------------------------------------------------------------------------------------
// Running both
// ---------------------------------------------------------------------------------------------

/// A ring and its model. Members that have left, or that are in the middle of a step, are not there.
struct Pair {
    ring: Ring<u64>,
    producers: Vec<Option<Feed<u64>>>,
    consumers: Vec<Option<Consumer<u64>>>,
    model: Model,
    /// No value is written twice, so that no slot can be taken for another.
    next_value: u64,
}

/// What a step panics with if that is what it is to do.
struct Planned;

impl Pair {
    fn new(program: &Program) -> Self {
        let builder = Ring::builder(program.capacity).producers(program.kind);
        let ring = builder.layout(program.layout).build(|| u64::MAX).unwrap();
        let join = |index: usize, (after, batch_limit)| {
            let earlier = (0..index).filter(|bit| after & (1_u8 << bit) != 0);
            let builder = ring.consumer(&index.to_string()).batch_limit(batch_limit);
            let consumer = builder.after(earlier.clone().map(|other| other.to_string()));
            let model = ModelConsumer {
                after: earlier.collect(),
                batch_limit: batch_limit as u64,
                ..ModelConsumer::default()
            };
            (Some(consumer.join().unwrap()), model)
        };
        let consumers = program.consumers.iter().enumerate();
        let (consumers, model_consumers) = consumers.map(|(index, &how)| join(index, how)).unzip();
        let producers = iter::repeat_with(|| Some(Feed::join(&ring).unwrap()));
        Self {
            producers: producers.take(program.producers).collect(),
            consumers,
            model: Model {
                capacity: program.capacity as u64,
                kind: program.kind,
                log: Vec::new(),
                producers: vec![ModelProducer::default(); program.producers],
                consumers: model_consumers,
            },
            ring,
            next_value: 0,
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Write {
                    producer,
                    n,
                    way,
                    meanwhile,
                } => self.write(producer % self.producers.len(), *n, *way, meanwhile),
                Step::Read {
                    consumer,
                    release,
                    meanwhile,
                    end,
                } if !self.consumers.is_empty() => {
                    let consumer = consumer % self.consumers.len();
                    self.read(consumer, *release, meanwhile, *end);
                }
                Step::ConsumerLeaves(who) if !self.consumers.is_empty() => {
                    let who = who % self.consumers.len();
                    if self.consumers[who].take().is_some() {
                        self.model.consumers[who].has_left = true;
                    }
                }
                Step::AskFree(who) => self.ask_free(who % self.producers.len()),
                Step::ProducerLeaves(who) => {
                    let who = who % self.producers.len();
                    if self.producers[who].take().is_some() {
                        self.model.leave_producer(who);
                    }
                }
                Step::Read { .. } | Step::ConsumerLeaves(_) | Step::Look => {}
            }
            self.look();
        }
    }

    fn write(&mut self, who: usize, n: usize, way: Way, meanwhile: &[Step]) {
        let Some(mut producer) = self.producers[who].take() else {
            return;
        };
        let n = if way == Way::PublishOne { 1 } else { n };
        let expected = self.model.claim(who, n);
        let first_value = self.next_value;
        self.next_value += n as u64;
        let mut fill = |slots: &mut dyn Iterator<Item = &mut u64>| {
            let filled = slots.zip(first_value..).map(|(slot, value)| *slot = value);
            assert_eq!(filled.count(), n);
            self.run(meanwhile);
        };
        let claimed = match way {
            Way::PublishOne => {
                let published = producer.try_publish(|slot| fill(&mut iter::once(slot)));
                published.map(|sequence| sequence..sequence + 1)
            }
            Way::PublishBatch => producer.try_publish_batch(n, |mut slots| fill(&mut slots)),
            Way::Panic => {
                let publish = || {
                    producer.try_publish_batch(n, |mut slots| {
                        fill(&mut slots);
                        resume_unwind(Box::new(Planned))
                    })
                };
                match catch_unwind(AssertUnwindSafe(publish)) {
                    Ok(refused) => refused,
                    Err(payload) if payload.is::<Planned>() => expected.clone(),
                    Err(payload) => resume_unwind(payload),
                }
            }
            Way::ClaimAndPublish | Way::ClaimAndDrop | Way::ClaimAndForget => {
                producer.try_claim(n).map(|mut claim| {
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
        assert_eq!(claimed, expected);
        if let Ok(claim) = claimed {
            match way {
                Way::ClaimAndDrop | Way::Panic => self.model.give_up(who, claim),
                Way::ClaimAndForget => self.model.leak(who, claim),
                _ => self.model.publish(claim, first_value),
            }
        }
        self.producers[who] = Some(producer);
    }

    fn ask_free(&mut self, who: usize) {
        if let Some(producer) = &mut self.producers[who] {
            self.model.give_up_leaked(who);
            assert_eq!(producer.free(), Ok(self.model.free() as usize));
        }
    }

    fn read(&mut self, who: usize, release: usize, meanwhile: &[Step], end: End) {
        let Some(mut consumer) = self.consumers[who].take() else {
            return;
        };
        let readable = self.model.poll(who);
        match consumer.try_next_batch() {
            Err(why) => assert_eq!(Err(why), readable),
            Ok(mut batch) => {
                let readable = readable.unwrap();
                let all = batch.sequences();
                assert_eq!(all.start, readable.start);
                assert!(all.start < all.end && all.end <= readable.end, "{all:?}");
                let known = all.start + batch.backlog() as u64;
                assert!(all.end <= known && known <= self.model.published());

                let check = |model: &Model, held: Range<Sequence>, batch: &Batch<'_, u64>| {
                    let events = batch.with_sequences();
                    let fates = events.map(|(s, event)| (s, Some(Fate::Event(*event))));
                    assert!(fates.eq(held.map(|s| (s, model.fate(s)))));
                };
                check(&self.model, all.clone(), &batch);
                batch.release(release);
                let held = min(all.start + release as u64, all.end)..all.end;
                self.model.consumers[who].position = held.start;
                self.run(meanwhile);
                check(&self.model, held.clone(), &batch);
                match end {
                    End::Drop => {
                        drop(batch);
                        self.model.consumers[who].position = held.end;
                    }
                    End::GiveBack => batch.give_back(),
                    End::Forget => mem::forget(batch),
                }
            }
        }
        let model = &self.model.consumers[who];
        assert_eq!(consumer.position(), model.position);
        assert_eq!(consumer.skipped(), model.skipped);
        self.consumers[who] = Some(consumer);
    }

    fn look(&self) {
        let model = &self.model;
        let snapshot = self.ring.snapshot();
        assert_eq!(snapshot.claimed, model.claimed());
        assert_eq!(snapshot.published, model.published());
        assert_eq!(snapshot.closed, model.is_closed());

        let consumers = model.consumers.iter().filter(|consumer| !consumer.has_left);
        let consumers = consumers.map(|consumer| {
            let lag = model.published() - consumer.position;
            (consumer.position, lag, consumer.skipped)
        });
        let there = model.producers.iter().filter(|producer| !producer.has_left);
        let (consumer_rows, producer_rows): (Vec<_>, Vec<_>) =
            (snapshot.members.iter()).partition(|member| !member.name.is_empty());
        let seen = consumer_rows
            .iter()
            .map(|row| (row.position, row.lag, row.skipped));
        assert!(seen.eq(consumers), "{snapshot:?}");
        let seen = producer_rows.iter().map(|row| row.skipped);
        assert!(
            seen.eq(there.map(|producer| producer.skipped)),
            "{snapshot:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_ring_does_what_its_model_does(program in program()) {
        let mut pair = Pair::new(&program);
        pair.run(&program.steps);
    }
}

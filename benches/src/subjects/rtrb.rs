//! Rival: rtrb, a ring for one producer and one consumer, by single events and by chunks.

use std::ops::Range;
use std::thread::JoinHandle;

use ::rtrb::chunks::ReadChunk;
use ::rtrb::{Consumer, Producer, RingBuffer};

use super::{Kind, Subject};
use crate::cores::Cores;
use crate::idle::{Found, Idle, poll_until_closed};
use crate::link::{Event, Link, Plan, Sender, read_by};
use crate::scenario::{Effort, Sample, Scenario};

/// Each way to write and read, with each way to wait.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(Rtrb("rtrb", Singles(Idle::Spin))),
        Box::new(Rtrb("rtrb-pausing", Singles(Idle::Pause))),
        Box::new(Rtrb("rtrb-yielding", Singles(Idle::Yield))),
        Box::new(Rtrb("rtrb-chunks", Chunks(Idle::Spin))),
        Box::new(Rtrb("rtrb-chunks-pausing", Chunks(Idle::Pause))),
        Box::new(Rtrb("rtrb-chunks-yielding", Chunks(Idle::Yield))),
    ]
}

struct Rtrb<L>(&'static str, L);

impl<L: Link + Waits> Subject for Rtrb<L> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn kind(&self) -> Kind {
        Kind::Rival("rtrb")
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        let plan = scenario.plan(cores);
        let can = !plan.shared && self.1.idle().suits(plan.crowded);
        can.then(|| scenario.measure(&self.1, &plan, effort))
            .flatten()
    }
}

trait Waits {
    fn idle(&self) -> Idle;
}

/// `push` and `pop`.
struct Singles(Idle);

impl Waits for Singles {
    fn idle(&self) -> Idle {
        self.0
    }
}

impl Link for Singles {
    type Sender<E: Event> = PushSingles<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        mut handler: H,
    ) -> (Vec<PushSingles<E>>, Option<JoinHandle<()>>) {
        let (producer, mut consumer) = RingBuffer::<E>::new(plan.capacity);
        let idle = self.0;
        let reader = read_by(plan, move || {
            poll_until_closed(idle, || {
                let mut found = Found::Nothing;
                while let Ok(event) = consumer.pop() {
                    handler(&event);
                    found = Found::Events;
                    // Before the other thread's counter is looked at again, there is a chance to pause.
                    if idle == Idle::Pause && consumer.cached_slots() == 0 {
                        break;
                    }
                }
                found.or_closed(&consumer)
            });
        });
        (vec![PushSingles { producer, idle }], reader)
    }
}

/// Pushes one at a time.
struct PushSingles<E> {
    producer: Producer<E>,
    idle: Idle,
}

impl<E: Event> Sender for PushSingles<E> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        push(&mut self.producer, number, self.idle);
    }
}

/// `write_chunk_uninit` and `read_chunk`.
struct Chunks(Idle);

impl Waits for Chunks {
    fn idle(&self) -> Idle {
        self.0
    }
}

impl Link for Chunks {
    type Sender<E: Event> = PushChunks<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        mut handler: H,
    ) -> (Vec<PushChunks<E>>, Option<JoinHandle<()>>) {
        let (producer, mut consumer) = RingBuffer::<E>::new(plan.capacity);
        let idle = self.0;
        let reader = read_by(plan, move || {
            poll_until_closed(idle, || match consumer.slots() {
                0 => Found::Nothing.or_closed(&consumer),
                slots => {
                    let chunk: ReadChunk<'_, E> = consumer.read_chunk(slots).unwrap();
                    let (first, second) = chunk.as_slices();
                    first.iter().for_each(&mut handler);
                    second.iter().for_each(&mut handler);
                    chunk.commit_all();
                    Found::Events
                }
            });
        });
        (vec![PushChunks { producer, idle }], reader)
    }
}

/// Pushes a batch as one chunk.
struct PushChunks<E> {
    producer: Producer<E>,
    idle: Idle,
}

impl<E: Event> Sender for PushChunks<E> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        push(&mut self.producer, number, self.idle);
    }

    #[inline(always)]
    fn send_batch(&mut self, numbers: Range<u64>) {
        let n = (numbers.end - numbers.start) as usize;
        loop {
            if let Ok(chunk) = self.producer.write_chunk_uninit(n) {
                chunk.fill_from_iter(numbers.map(E::numbered));
                return;
            }
            self.idle.wait();
        }
    }
}

#[inline]
fn push<E: Event>(producer: &mut Producer<E>, number: u64, idle: Idle) {
    while producer.push(E::numbered(number)).is_err() {
        idle.wait();
    }
}

impl Found {
    /// If nothing was found: whether there will be more.
    fn or_closed<E>(self, consumer: &Consumer<E>) -> Self {
        // What was pushed before the producer was dropped is seen by who sees it dropped.
        if self == Self::Nothing && consumer.is_abandoned() && consumer.slots() == 0 {
            Self::Closed
        } else {
            self
        }
    }
}

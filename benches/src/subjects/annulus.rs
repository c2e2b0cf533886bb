//! Our own ring, in each of its layouts.

use std::ops::Range;
use std::thread::JoinHandle;

use annulus_ring::{
    Consumer, Layout, Producer, Producers, Ring, RingBuilder, SharedProducer, Wait,
};

use super::{Kind, Subject};
use crate::cores::Cores;
use crate::link::{Event, Link, Plan, Sender, read_by};
use crate::scenario::{Effort, Sample, Scenario};

/// A layout: what it is called, and how a ring gets it.
type Configuration = (&'static str, fn(RingBuilder) -> RingBuilder);

const LAYOUTS: [Configuration; 2] = [
    ("annulus", |ring| ring),
    ("annulus-apart", |ring| ring.layout(Layout::Apart)),
];

/// The ring in each layout.
#[must_use]
pub fn subjects() -> Vec<Box<dyn Subject>> {
    LAYOUTS.map(|layout| Box::new(Annulus(layout)) as _).into()
}

struct Annulus(Configuration);

impl Subject for Annulus {
    fn name(&self) -> &'static str {
        self.0.0
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        let plan = scenario.plan(cores);
        Some(if plan.shared {
            scenario.measure(&Many(self.0.1), &plan, effort)
        } else {
            scenario.measure(&One(self.0.1), &plan, effort)
        })
    }
}

/// The path of the only producer.
struct One(fn(RingBuilder) -> RingBuilder);

/// The path of many producers.
struct Many(fn(RingBuilder) -> RingBuilder);

impl Link for One {
    type Sender<E: Event> = Producer<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        handler: H,
    ) -> (Vec<Producer<E>>, Option<JoinHandle<()>>) {
        let builder = Ring::builder(plan.capacity).producers(Producers::One);
        let ring = (self.0)(builder).build(E::default).unwrap();
        let reader = start_reader(&ring, plan, handler);
        let producer = ring.producer().unwrap().with_wait(wait(plan)).unwrap();
        (vec![producer], reader)
    }
}

impl Link for Many {
    type Sender<E: Event> = SharedProducer<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        handler: H,
    ) -> (Vec<SharedProducer<E>>, Option<JoinHandle<()>>) {
        let builder = Ring::builder(plan.capacity).producers(Producers::Many);
        let ring = (self.0)(builder).build(E::default).unwrap();
        let reader = start_reader(&ring, plan, handler);
        let producer = || {
            let producer = ring.shared_producer().unwrap();
            producer.with_wait(wait(plan)).unwrap()
        };
        ((0..plan.producers).map(|_| producer()).collect(), reader)
    }
}

fn wait(plan: &Plan) -> Wait {
    if plan.crowded {
        Wait::Yield
    } else {
        Wait::Spin
    }
}

fn start_reader<E: Event, H: FnMut(&E) + Send + 'static>(
    ring: &Ring<E>,
    plan: &Plan,
    handler: H,
) -> Option<JoinHandle<()>> {
    let consumer = ring.consumer("reader").wait(wait(plan)).join().unwrap();
    read_by(plan, move || read(consumer, handler))
}

fn read<E: Event>(mut consumer: Consumer<E>, mut handler: impl FnMut(&E)) {
    while let Ok(batch) = consumer.next_batch() {
        match batch.as_slices() {
            Some((first, second)) => {
                first.iter().for_each(&mut handler);
                second.iter().for_each(&mut handler);
            }
            None => batch.iter().for_each(&mut handler),
        }
    }
}

impl<E: Event> Sender for Producer<E> {
    #[inline]
    fn send(&mut self, number: u64) {
        self.publish(|slot| *slot = E::numbered(number)).unwrap();
    }

    #[inline]
    fn send_batch(&mut self, numbers: Range<u64>) {
        let n = (numbers.end - numbers.start) as usize;
        let mut claim = self.claim(n).unwrap();
        if let Some((first, second)) = claim.as_mut_slices() {
            let split = numbers.start + first.len() as u64;
            write(first.iter_mut(), numbers.start..split);
            write(second.iter_mut(), split..numbers.end);
        } else {
            write(claim.iter_mut(), numbers);
        }
        claim.publish();
    }
}

#[inline]
fn write<'s, E: Event>(slots: impl Iterator<Item = &'s mut E>, numbers: Range<u64>) {
    slots
        .zip(numbers)
        .for_each(|(slot, number)| *slot = E::numbered(number));
}

impl<E: Event> Sender for SharedProducer<E> {
    #[inline]
    fn send(&mut self, number: u64) {
        <Producer<E> as Sender>::send(self, number);
    }

    #[inline]
    fn send_batch(&mut self, numbers: Range<u64>) {
        <Producer<E> as Sender>::send_batch(self, numbers);
    }
}

//! Our own ring, in each of its layouts, polling or sleeping.

use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use annulus_ring::{
    Batch, Consumer, Layout, Producer, Producers, Ring, RingBuilder, SharedProducer, Wait,
};

use super::{IN_PROCESS, Kind, Subject};
use crate::cores::Cores;
use crate::link::{Event, Link, Plan, Sender, read_by};
use crate::scenario::{Effort, Sample, Scenario};

/// The ring in each layout, with each way to wait.
#[must_use]
pub fn subjects() -> Vec<Box<dyn Subject>> {
    let subject = |name, layout, sleeps| {
        let configuration = Configuration { layout, sleeps };
        Box::new(Annulus {
            name,
            configuration,
        }) as _
    };
    vec![
        subject(IN_PROCESS, Layout::Beside, false),
        subject("annulus-apart", Layout::Apart, false),
        subject("annulus-sleep", Layout::Beside, true),
        subject("annulus-apart-sleep", Layout::Apart, true),
    ]
}

#[derive(Clone, Copy)]
struct Configuration {
    layout: Layout,
    /// Whether the consumer sleeps between polls, and producers yield, as with `disruptor-managed-sleep`;
    /// where a delay does no harm.
    sleeps: bool,
}

impl Configuration {
    fn builder(self, plan: &Plan, producers: Producers) -> RingBuilder {
        Ring::builder(plan.capacity)
            .layout(self.layout)
            .producers(producers)
    }

    fn reader_wait(self, plan: &Plan) -> Wait {
        if self.sleeps {
            Wait::Phased {
                spins: 0,
                yields: 0,
                sleep: Duration::from_micros(1), // The system makes it 50 µs or more.
            }
        } else {
            polling(plan)
        }
    }

    fn producer_wait(self, plan: &Plan) -> Wait {
        if self.sleeps {
            Wait::Yield
        } else {
            polling(plan)
        }
    }

    fn start_reader<E: Event, H: FnMut(&E) + Send + 'static>(
        self,
        ring: &Ring<E>,
        plan: &Plan,
        handler: H,
    ) -> Option<JoinHandle<()>> {
        let builder = ring.consumer("reader").wait(self.reader_wait(plan));
        let consumer = builder.join().unwrap();
        read_by(plan, move || read(consumer, handler))
    }
}

pub(super) fn polling(plan: &Plan) -> Wait {
    if plan.crowded {
        Wait::Yield
    } else {
        Wait::Spin
    }
}

struct Annulus {
    name: &'static str,
    configuration: Configuration,
}

impl Subject for Annulus {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        if self.configuration.sleeps && scenario.is_round_trip() {
            return None;
        }
        let within_one = (scenario.in_process()).filter(|_| self.name == IN_PROCESS);
        let scenario = within_one.as_ref().unwrap_or(scenario);
        let plan = scenario.plan(cores);
        if plan.shared {
            scenario.measure(&Many(self.configuration), &plan, effort)
        } else {
            scenario.measure(&One(self.configuration), &plan, effort)
        }
    }
}

/// The path of the only producer.
struct One(Configuration);

/// The path of many producers.
struct Many(Configuration);

impl Link for One {
    type Sender<E: Event> = Producer<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        handler: H,
    ) -> (Vec<Producer<E>>, Option<JoinHandle<()>>) {
        let builder = self.0.builder(plan, Producers::One);
        let ring = builder.build(E::default).unwrap();
        let reader = self.0.start_reader(&ring, plan, handler);
        let producer = ring.producer().unwrap();
        let producer = producer.with_wait(self.0.producer_wait(plan)).unwrap();
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
        let builder = self.0.builder(plan, Producers::Many);
        let ring = builder.build(E::default).unwrap();
        let reader = self.0.start_reader(&ring, plan, handler);
        let producer = || {
            let producer = ring.shared_producer().unwrap();
            producer.with_wait(self.0.producer_wait(plan)).unwrap()
        };
        ((0..plan.producers).map(|_| producer()).collect(), reader)
    }
}

pub(super) fn read<E: Event>(mut consumer: Consumer<E>, mut handler: impl FnMut(&E)) {
    while let Ok(batch) = consumer.next_batch() {
        handle(&batch, &mut handler);
    }
}

#[inline]
pub(super) fn handle<E: Event>(batch: &Batch<'_, E>, mut handler: impl FnMut(&E)) {
    match batch.as_slices() {
        Some((first, second)) => {
            first.iter().for_each(&mut handler);
            second.iter().for_each(&mut handler);
        }
        None => batch.iter().for_each(&mut handler),
    }
}

impl<E: Event> Sender for Producer<E> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        self.publish(|slot| *slot = E::numbered(number)).unwrap();
    }

    #[inline(always)]
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
    #[inline(always)]
    fn send(&mut self, number: u64) {
        <Producer<E> as Sender>::send(self, number);
    }

    #[inline(always)]
    fn send_batch(&mut self, numbers: Range<u64>) {
        <Producer<E> as Sender>::send_batch(self, numbers);
    }
}

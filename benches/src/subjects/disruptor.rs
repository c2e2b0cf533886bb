//! Rival: disruptor, by managed handlers and by event pollers, with each way to wait.
//!
//! Producers use the `try_` forms, as its documentation recommends, and wait between tries.

use std::hint::spin_loop;
use std::marker::PhantomData;
use std::ops::Range;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ::disruptor::wait_strategies::WaitStrategy;
use ::disruptor::{
    BusySpin, BusySpinWithSpinLoopHint, MultiProducer, Polling, ProcessorSettings, Producer,
    Sequence, SingleConsumerBarrier, SingleProducer, Sleep, build_multi_producer,
    build_single_producer,
};

use super::{Kind, Subject};
use crate::cores::Cores;
use crate::idle::{Found, Idle, PAUSES_AFTER_DRAINING, poll_until_closed};
use crate::link::{Event, Link, Plan, Sender, read_by};
use crate::scenario::{Effort, Sample, Scenario};

/// Both ways to read, with each way to wait.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let sleep = Sleep::new(Duration::from_micros(1)); // The system makes it 50 µs or more.
    vec![
        managed("disruptor-managed", BusySpin, Idle::Spin, Suits::Dedicated),
        managed(
            "disruptor-managed-hint",
            BusySpinWithSpinLoopHint,
            Idle::Pause,
            Suits::Dedicated,
        ),
        managed(
            "disruptor-managed-pausing",
            Pause,
            Idle::Pause,
            Suits::DedicatedFlow,
        ),
        managed(
            "disruptor-managed-yielding",
            Yield,
            Idle::Yield,
            Suits::Crowded,
        ),
        managed("disruptor-managed-sleep", sleep, Idle::Yield, Suits::Flow),
        poller("disruptor-poller", Idle::Spin, Suits::Dedicated),
        poller("disruptor-poller-pausing", Idle::Pause, Suits::Dedicated),
        poller("disruptor-poller-yielding", Idle::Yield, Suits::Crowded),
    ]
}

/// The scenarios that a way to wait suits.
#[derive(Clone, Copy)]
enum Suits {
    /// Every thread has a core to itself.
    Dedicated,
    /// The same, and a delay does no harm.
    DedicatedFlow,
    /// Threads share cores.
    Crowded,
    /// A delay does no harm.
    Flow,
}

impl Suits {
    fn suits(self, scenario: &Scenario, plan: &Plan) -> bool {
        match self {
            Self::Dedicated => !plan.crowded,
            Self::DedicatedFlow => !plan.crowded && !scenario.is_round_trip(),
            Self::Crowded => plan.crowded,
            Self::Flow => !scenario.is_round_trip(),
        }
    }
}

/// As our own consumer pauses after draining; for a wait strategy, which does not know when that was.
#[derive(Clone, Copy)]
struct Pause;

impl WaitStrategy for Pause {
    #[inline]
    fn wait_for(&self, _: Sequence) {
        for _ in 0..PAUSES_AFTER_DRAINING {
            spin_loop();
        }
    }
}

#[derive(Clone, Copy)]
struct Yield;

impl WaitStrategy for Yield {
    #[inline]
    fn wait_for(&self, _: Sequence) {
        thread::yield_now();
    }
}

fn managed<W: WaitStrategy + 'static>(
    name: &'static str,
    wait: W,
    idle: Idle,
    suits: Suits,
) -> Box<dyn Subject> {
    let reading = Managed { wait, idle };
    Box::new(Disruptor {
        name,
        suits,
        reading,
    })
}

fn poller(name: &'static str, idle: Idle, suits: Suits) -> Box<dyn Subject> {
    let reading = Poller { idle };
    Box::new(Disruptor {
        name,
        suits,
        reading,
    })
}

struct Disruptor<R> {
    name: &'static str,
    suits: Suits,
    reading: R,
}

impl<R: Copy> Subject for Disruptor<R>
where
    Connect<R, One>: Link,
    Connect<R, Many>: Link,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::Rival("disruptor")
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        let plan = scenario.plan(cores);
        if !self.suits.suits(scenario, &plan) {
            None
        } else if plan.shared {
            scenario.measure(&Connect::<R, Many>::new(self.reading), &plan, effort)
        } else {
            scenario.measure(&Connect::<R, One>::new(self.reading), &plan, effort)
        }
    }
}

/// Reads on a thread of the library's.
#[derive(Clone, Copy)]
struct Managed<W> {
    wait: W,
    idle: Idle,
}

/// Reads on a thread of ours.
#[derive(Clone, Copy)]
struct Poller {
    idle: Idle,
}

/// The single-producer path.
struct One;

/// The many-producer path.
struct Many;

struct Connect<R, P> {
    reading: R,
    path: PhantomData<P>,
}

impl<R, P> Connect<R, P> {
    fn new(reading: R) -> Self {
        Self {
            reading,
            path: PhantomData,
        }
    }
}

// The library has every type twice, for one producer and for many, and no trait over both.
macro_rules! connect {
    ($path:ty, $build:ident, $producer:ident, $clone_for:expr) => {
        impl<W: WaitStrategy + 'static> Link for Connect<Managed<W>, $path> {
            type Sender<E: Event> = Publish<$producer<E, SingleConsumerBarrier>, E>;

            fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
                &self,
                plan: &Plan,
                mut handler: H,
            ) -> (Vec<Self::Sender<E>>, Option<JoinHandle<()>>) {
                let mut builder = $build(plan.capacity, E::default, self.reading.wait);
                if let Some(core) = plan.cores.of(plan.reader) {
                    builder = builder.pin_at_core(core.id);
                }
                let producer = builder
                    .handle_events_with(move |event: &E, _, _| handler(event))
                    .build();
                (
                    Publish::all($clone_for(plan, producer), self.reading.idle),
                    None,
                )
            }
        }

        impl Link for Connect<Poller, $path> {
            type Sender<E: Event> = Publish<$producer<E, SingleConsumerBarrier>, E>;

            fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
                &self,
                plan: &Plan,
                mut handler: H,
            ) -> (Vec<Self::Sender<E>>, Option<JoinHandle<()>>) {
                let (mut poller, builder) =
                    $build(plan.capacity, E::default, BusySpin).new_event_poller();
                let idle = self.reading.idle;
                let reader = read_by(plan, move || {
                    poll_until_closed(idle, || match poller.poll() {
                        Ok(mut events) => {
                            for event in &mut events {
                                handler(event);
                            }
                            Found::Events
                        }
                        Err(Polling::NoEvents) => Found::Nothing,
                        Err(Polling::Shutdown) => Found::Closed,
                    });
                });
                (
                    Publish::all($clone_for(plan, builder.build()), idle),
                    reader,
                )
            }
        }
    };
}

connect!(
    One,
    build_single_producer,
    SingleProducer,
    |_: &Plan, producer| vec![producer]
);
connect!(
    Many,
    build_multi_producer,
    MultiProducer,
    |plan: &Plan, producer| { vec![producer; plan.producers] }
);

/// A producer that waits in some way while the ring is full.
pub(super) struct Publish<P, E> {
    producer: P,
    idle: Idle,
    event: PhantomData<fn(E)>,
}

impl<P, E> Publish<P, E> {
    pub(super) fn all(producers: Vec<P>, idle: Idle) -> Vec<Self> {
        let publish = |producer| Self {
            producer,
            idle,
            event: PhantomData,
        };
        producers.into_iter().map(publish).collect()
    }
}

impl<E: Event, P: Producer<E> + Send + 'static> Sender for Publish<P, E> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        while self
            .producer
            .try_publish(|slot| *slot = E::numbered(number))
            .is_err()
        {
            self.idle.wait();
        }
    }

    #[inline(always)]
    fn send_batch(&mut self, numbers: Range<u64>) {
        let n = (numbers.end - numbers.start) as usize;
        loop {
            let published = self.producer.try_batch_publish(n, |slots| {
                for (slot, number) in slots.zip(numbers.clone()) {
                    *slot = E::numbered(number);
                }
            });
            if published.is_ok() {
                return;
            }
            self.idle.wait();
        }
    }
}

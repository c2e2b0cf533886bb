//! Rival: disruptor, by handlers on threads that it manages.
//!
//! Its own ways to wait spin, which four threads on two cores do until the system stops them (5 M events/s),
//! or sleep 50 µs and more, so its handlers get one made for them. Its producers use the `try_` forms, as
//! its documentation recommends, and yield between tries.

use std::hint::spin_loop;
use std::thread;

use ::disruptor::wait_strategies::WaitStrategy;
use ::disruptor::{
    MultiConsumerBarrier, MultiProducer, ProcessorSettings, Sequence, SingleConsumerBarrier,
    SingleProducer, build_multi_producer, build_single_producer,
};

use crate::cores::{Cores, Role};
use crate::idle::{Idle, PAUSES_AFTER_DRAINING};
use crate::link::{Event, Plan};
use crate::scenario::{Effort, Sample, Scenario};
use crate::subjects::disruptor::Publish;
use crate::subjects::{Kind, Subject};
use crate::topology::{Graph, Stage, Topology};

pub(super) struct Managed;

impl Subject for Managed {
    fn name(&self) -> &'static str {
        "disruptor"
    }

    fn kind(&self) -> Kind {
        Kind::Rival("disruptor")
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        let plan = scenario.plan(cores);
        match scenario.topology()? {
            Topology::Unicast => scenario.measure_graph(&Unicast, &plan, effort),
            Topology::Pipeline => scenario.measure_graph(&Pipeline, &plan, effort),
            Topology::ThreeToOne => scenario.measure_graph(&ThreeToOne, &plan, effort),
            Topology::Multicast => scenario.measure_graph(&Multicast, &plan, effort),
            Topology::Diamond => scenario.measure_graph(&Diamond, &plan, effort),
        }
    }
}

/// The fastest of what was tried on two cores (pausing, yielding, both), also for one producer and one
/// handler that have a core each: by half for single events in most topologies, by little in batches.
#[derive(Clone, Copy)]
struct PauseThenYield;

impl WaitStrategy for PauseThenYield {
    #[inline]
    fn wait_for(&self, _: Sequence) {
        for _ in 0..PAUSES_AFTER_DRAINING {
            spin_loop();
        }
        thread::yield_now();
    }
}

/// Pins the next handler.
trait AtCore<E, W>: ProcessorSettings<E, W> {
    fn at_core_of(self, plan: &Plan, stage: usize) -> Self {
        match plan.cores.of(Role::Consumer(stage)) {
            Some(core) => self.pin_at_core(core.id),
            None => self,
        }
    }
}

impl<E, W, B: ProcessorSettings<E, W>> AtCore<E, W> for B {}

// Each topology is a type: the library's types depend on how many handlers there are, and where, and it
// is fastest if they are known.
macro_rules! graph {
    ($topology:ident: $build:ident, $producer:ident<$barrier:ident>,
     |$plan:ident, $builder:ident, $on:ident| $wired:expr) => {
        struct $topology;

        impl Graph for $topology {
            type Sender<E: Event> = Publish<$producer<E, $barrier>, E>;

            fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
                &self,
                $plan: &Plan,
                _: &[Stage],
                mut handler: impl FnMut(usize) -> H,
            ) -> (Vec<Self::Sender<E>>, impl FnOnce()) {
                let mut $on = |stage| {
                    let mut handler = handler(stage);
                    move |event: &E, _: Sequence, _: bool| handler(event)
                };
                let $builder = $build($plan.capacity, E::default, PauseThenYield);
                // Dropping the last producer joins the handlers.
                (Publish::all($wired, Idle::Yield), || {})
            }
        }
    };
}

graph!(Unicast: build_single_producer, SingleProducer<SingleConsumerBarrier>, |plan, builder, on| {
    let builder = builder.at_core_of(plan, 0).handle_events_with(on(0));
    vec![builder.build()]
});

graph!(Pipeline: build_single_producer, SingleProducer<SingleConsumerBarrier>, |plan, builder, on| {
    let builder = builder.at_core_of(plan, 0).handle_events_with(on(0)).and_then();
    let builder = builder.at_core_of(plan, 1).handle_events_with(on(1)).and_then();
    let builder = builder.at_core_of(plan, 2).handle_events_with(on(2));
    vec![builder.build()]
});

graph!(ThreeToOne: build_multi_producer, MultiProducer<SingleConsumerBarrier>, |plan, builder, on| {
    let builder = builder.at_core_of(plan, 0).handle_events_with(on(0));
    vec![builder.build(); plan.producers]
});

graph!(Multicast: build_single_producer, SingleProducer<MultiConsumerBarrier>, |plan, builder, on| {
    let builder = builder.at_core_of(plan, 0).handle_events_with(on(0));
    let builder = builder.at_core_of(plan, 1).handle_events_with(on(1));
    let builder = builder.at_core_of(plan, 2).handle_events_with(on(2));
    vec![builder.build()]
});

graph!(Diamond: build_single_producer, SingleProducer<SingleConsumerBarrier>, |plan, builder, on| {
    let builder = builder.at_core_of(plan, 0).handle_events_with(on(0));
    let builder = builder.at_core_of(plan, 1).handle_events_with(on(1)).and_then();
    let builder = builder.at_core_of(plan, 2).handle_events_with(on(2));
    vec![builder.build()]
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::assert_stages_follow_each_other;

    #[test]
    fn no_stage_overtakes_those_that_it_comes_after() {
        assert_stages_follow_each_other(&Pipeline, Topology::Pipeline);
        assert_stages_follow_each_other(&Diamond, Topology::Diamond);
    }
}

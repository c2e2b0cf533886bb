//! Our own ring, bare: hand-written threads that take batches.
//!
//! All yield while they wait, whether or not there is a core for each.

use std::thread::JoinHandle;

use annulus_ring::{Layout, Producer, Producers, Ring, SharedProducer, Wait};

use crate::cores::{Cores, Role};
use crate::link::{Event, Plan, read_by};
use crate::scenario::{Effort, Sample, Scenario};
use crate::subjects::annulus::read;
use crate::subjects::{Kind, Subject};
use crate::topology::{Graph, Stage};

pub(super) struct BareRing {
    pub(super) name: &'static str,
    pub(super) layout: Layout,
}

impl Subject for BareRing {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        let plan = scenario.plan(cores);
        if plan.shared {
            scenario.measure_graph(&Many(self.layout), &plan, effort)
        } else {
            scenario.measure_graph(&One(self.layout), &plan, effort)
        }
    }
}

/// The path of the only producer.
struct One(Layout);

/// The path of many producers.
struct Many(Layout);

impl Graph for One {
    type Sender<E: Event> = Producer<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        stages: &[Stage],
        handler: impl FnMut(usize) -> H,
    ) -> (Vec<Producer<E>>, impl FnOnce()) {
        let builder = Ring::builder(plan.capacity)
            .layout(self.0)
            .producers(Producers::One);
        let ring = builder.build(E::default).unwrap();
        let readers = start(&ring, plan, stages, handler);
        let producer = ring.producer().unwrap().with_wait(Wait::Yield).unwrap();
        (vec![producer], || join(readers))
    }
}

impl Graph for Many {
    type Sender<E: Event> = SharedProducer<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        stages: &[Stage],
        handler: impl FnMut(usize) -> H,
    ) -> (Vec<SharedProducer<E>>, impl FnOnce()) {
        let builder = Ring::builder(plan.capacity)
            .layout(self.0)
            .producers(Producers::Many);
        let ring = builder.build(E::default).unwrap();
        let readers = start(&ring, plan, stages, handler);
        let producer = || ring.shared_producer().unwrap().with_wait(Wait::Yield);
        let producers = (0..plan.producers).map(|_| producer().unwrap());
        (producers.collect(), || join(readers))
    }
}

/// Starts a thread for each stage.
fn start<E: Event, H: FnMut(&E) + Send + 'static>(
    ring: &Ring<E>,
    plan: &Plan,
    stages: &[Stage],
    mut handler: impl FnMut(usize) -> H,
) -> Vec<JoinHandle<()>> {
    let readers = stages.iter().enumerate().filter_map(|(index, stage)| {
        let builder = ring.consumer(stage.name).after(stage.after.iter().copied());
        let consumer = builder.wait(Wait::Yield).join().unwrap();
        let handler = handler(index);
        let plan = Plan {
            reader: Role::Consumer(index),
            ..*plan
        };
        read_by(&plan, move || read(consumer, handler))
    });
    readers.collect()
}

fn join(readers: Vec<JoinHandle<()>>) {
    for reader in readers {
        reader.join().expect("a handler panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Topology, assert_stages_follow_each_other};

    #[test]
    fn no_stage_overtakes_those_that_it_comes_after() {
        for topology in [Topology::Pipeline, Topology::Diamond] {
            assert_stages_follow_each_other(&One(Layout::default()), topology);
        }
    }
}

//! Our runtime: the stages as a pipeline, and feeds that wait.
//!
//! All yield while they wait, as with the bare ring.

use std::ops::Range;

use annulus::ring::{Layout, Producers, Ring, Wait};
use annulus::{Feed, Overflow, Pipeline, ticks};

use crate::cores::{Cores, Role};
use crate::link::{Event, Plan, Sender};
use crate::scenario::{Effort, Sample, Scenario};
use crate::subjects::{Kind, Subject};
use crate::topology::{Graph, Stage};

pub(super) struct Runtime {
    pub(super) name: &'static str,
    pub(super) layout: Layout,
    /// Whether it measures times as well, which it does not by itself.
    pub(super) timed: bool,
}

impl Subject for Runtime {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        scenario.measure_graph(self, &scenario.plan(cores), effort)
    }
}

impl Graph for Runtime {
    type Sender<E: Event> = Feed<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        stages: &[Stage],
        mut handler: impl FnMut(usize) -> H,
    ) -> (Vec<Feed<E>>, impl FnOnce()) {
        let producers = if plan.shared {
            Producers::Many
        } else {
            Producers::One
        };
        let builder = Ring::builder(plan.capacity)
            .layout(self.layout)
            .producers(producers);
        let ring = builder.build(E::default).unwrap();
        let stages = stages.iter().enumerate().map(|(index, stage)| {
            let mut handle = handler(index);
            let stage = annulus::Stage::each(stage.name, move |event: &E, _| handle(event))
                .after(stage.after.iter().copied())
                .wait(Wait::Yield);
            match plan.cores.of(Role::Consumer(index)) {
                Some(core) => stage.core(core.id),
                None => stage,
            }
        });
        let pipeline = Pipeline::on(&ring).stages(stages);
        let pipeline = if self.timed {
            pipeline.timed_by(|_| ticks()) // The cost is that of an event which tells, or a little more.
        } else {
            pipeline
        };
        let running = pipeline.start().unwrap();
        let feed = || running.feed(Overflow::Wait).unwrap().with_wait(Wait::Yield);
        let feeds = (0..plan.producers).map(|_| feed().unwrap()).collect();
        (feeds, move || {
            running.join().expect("a handler failed");
        })
    }
}

impl<E: Event> Sender for Feed<E> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        self.publish(|slot| *slot = E::numbered(number)).unwrap();
    }

    #[inline(always)]
    fn send_batch(&mut self, numbers: Range<u64>) {
        let n = (numbers.end - numbers.start) as usize;
        let write = |slot: &mut E, number| *slot = E::numbered(number);
        self.publish_batch(n, |slots| {
            slots
                .zip(numbers)
                .for_each(|(slot, number)| write(slot, number));
        })
        .unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Topology, assert_stages_follow_each_other};

    #[test]
    fn no_stage_overtakes_those_that_it_comes_after() {
        let runtime = Runtime {
            name: "annulus-runtime",
            layout: Layout::default(),
            timed: false,
        };
        for topology in [Topology::Pipeline, Topology::Diamond] {
            assert_stages_follow_each_other(&runtime, topology);
        }
    }
}

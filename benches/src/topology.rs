//! The topologies of LMAX's performance tests, and what a subject implements to take part in them.

use crate::link::{Event, Plan, Sender};

/// Who hands over to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One producer, one handler.
    Unicast,
    /// Three handlers, each after the one before.
    Pipeline,
    /// Three producers, one handler.
    ThreeToOne,
    /// Three handlers side by side.
    Multicast,
    /// Two handlers side by side, and one after both.
    Diamond,
}

/// A handler's place.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// What it is called.
    pub name: &'static str,
    /// The names of those that handle each event before it; they stand before it in the list.
    pub after: &'static [&'static str],
}

impl Topology {
    /// How many producers there are; if several, they take the many-producer path.
    #[must_use]
    pub fn producers(self) -> usize {
        if self == Self::ThreeToOne { 3 } else { 1 }
    }

    /// The handlers.
    #[must_use]
    pub fn stages(self) -> &'static [Stage] {
        const FIRST: Stage = stage("first", &[]);
        const BESIDE: Stage = stage("second", &[]);
        const ALONE: &[Stage] = &[FIRST];
        const CHAIN: &[Stage] = &[
            FIRST,
            stage("second", &["first"]),
            stage("third", &["second"]),
        ];
        const FAN: &[Stage] = &[FIRST, BESIDE, stage("third", &[])];
        const JOINED: &[Stage] = &[FIRST, BESIDE, stage("third", &["first", "second"])];
        match self {
            Self::Unicast | Self::ThreeToOne => ALONE,
            Self::Pipeline => CHAIN,
            Self::Multicast => FAN,
            Self::Diamond => JOINED,
        }
    }
}

const fn stage(name: &'static str, after: &'static [&'static str]) -> Stage {
    Stage { name, after }
}

/// A library in some configuration, as far as a topology uses it.
pub trait Graph {
    /// A producer.
    type Sender<E: Event>: Sender + Send + 'static;

    /// Connects as many producers as planned to a handler for each stage, made by `handler` from the
    /// stage's index. Each has its own thread, on the core of [`Role::Consumer`](crate::cores::Role) of
    /// that index, which calls it for every event until all producers are dropped, and then drops it.
    ///
    /// Returns the producers, and what ends when all of those threads have ended.
    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        stages: &[Stage],
        handler: impl FnMut(usize) -> H,
    ) -> (Vec<Self::Sender<E>>, impl FnOnce());
}

/// Sends events through a small graph, and has every stage look how far those before it have come. Each
/// is slow for some time, in turn: without an order it would be overtaken.
#[cfg(test)]
pub(crate) fn assert_stages_follow_each_other(graph: &impl Graph, topology: Topology) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use crate::cores::{Cores, Role};
    use crate::flow::publish_all;
    use crate::link::Words;

    const EVENTS: u64 = 10_000;
    let plan = Plan {
        capacity: 64,
        producers: topology.producers(),
        shared: topology.producers() > 1,
        observable: false,
        crowded: true,
        reader: Role::Consumer(0),
        cores: Cores::default(),
    };
    let stages = topology.stages();
    let handled: Arc<[AtomicU64]> = stages.iter().map(|_| AtomicU64::new(0)).collect();
    // Told when all is over: a library whose handler panics may wait for it for ever.
    let overtaken = Arc::new(AtomicBool::new(false));
    let (senders, join) = graph.connect::<Words<1>, _>(&plan, stages, |own| {
        let before: Vec<usize> = (0..stages.len())
            .filter(|&other| stages[own].after.contains(&stages[other].name))
            .collect();
        let (handled, overtaken) = (Arc::clone(&handled), Arc::clone(&overtaken));
        move |_| {
            let count = handled[own].load(Ordering::Relaxed) + 1;
            if count as usize / plan.capacity % stages.len() == own {
                thread::yield_now();
            }
            if before
                .iter()
                .any(|&other| handled[other].load(Ordering::Acquire) < count)
            {
                overtaken.store(true, Ordering::Relaxed);
            }
            handled[own].store(count, Ordering::Release);
        }
    });
    publish_all(senders, &plan, 10, EVENTS);
    join();
    let handled: Vec<u64> = handled
        .iter()
        .map(|count| count.load(Ordering::Acquire))
        .collect();
    assert_eq!(handled, vec![EVENTS; stages.len()]);
    assert!(!overtaken.load(Ordering::Relaxed), "{topology:?}");
}

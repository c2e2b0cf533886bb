//! What is measured: the scenarios by name, and how much of each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cores::{Cores, Role};
use crate::flow::flow;
use crate::link::{Link, Plan, Words};
use crate::relay::relay;
use crate::round_trip::round_trip;
use crate::topology::{Graph, Topology};

/// One thing that is measured of every subject that can do it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What is done.
    pub work: Work,
}

/// What is done in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Events of so many words go there and back, one at a time.
    RoundTrip(Payload),
    /// Events of 8 bytes go to one consumer.
    Flow {
        /// How many producers there are.
        producers: usize,
        /// Whether the many-producer path is taken.
        shared: bool,
        /// How many events are published at a time.
        batch: u64,
    },
    /// Messages of so many bytes go to another process and back, one at a time.
    IpcRoundTrip(Size),
    /// Messages go to another process.
    IpcOneWay {
        /// How many bytes a message has.
        size: Size,
        /// How many messages are published at a time.
        batch: u64,
        /// How many read along in a third process and take no part; if it says, it has to be possible.
        observers: Option<usize>,
    },
    /// A process is killed that holds up somebody in another one: how long until that one goes on.
    IpcRecovery(Dead),
    /// Events of 8 bytes go through handlers, each on its own thread.
    Relay {
        /// Who hands over to whom.
        topology: Topology,
        /// How many events are published at a time.
        batch: u64,
    },
}

/// The size of the events of a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// One word.
    Bytes8,
    /// Seven words.
    Bytes56,
}

/// The size of the messages that go to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One word.
    Bytes8,
    /// Eight words.
    Bytes64,
    /// 128 words.
    Bytes1024,
}

impl Size {
    fn bytes(self) -> usize {
        match self {
            Self::Bytes8 => 8,
            Self::Bytes64 => 64,
            Self::Bytes1024 => 1024,
        }
    }
}

/// Who dies, and what that one has held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// A producer that has claimed and not published, and so a consumer.
    Producer,
    /// A consumer that has released nothing, and so a producer: the ring is full.
    Consumer,
}

/// All of them, in the order in which they are reported.
pub const SCENARIOS: [Scenario; 34] = [
    scenario("round-trip-8", Work::RoundTrip(Payload::Bytes8)),
    scenario("round-trip-56", Work::RoundTrip(Payload::Bytes56)),
    scenario("one-to-one-b1", from_producers(1, false, 1)),
    scenario("one-to-one-b10", from_producers(1, false, 10)),
    scenario("one-to-one-b100", from_producers(1, false, 100)),
    scenario("many-1p-b1", from_producers(1, true, 1)),
    scenario("many-1p-b10", from_producers(1, true, 10)),
    scenario("many-1p-b100", from_producers(1, true, 100)),
    scenario("many-2p-b1", from_producers(2, true, 1)),
    scenario("many-2p-b10", from_producers(2, true, 10)),
    scenario("many-2p-b100", from_producers(2, true, 100)),
    scenario("ipc-round-trip-8", Work::IpcRoundTrip(Size::Bytes8)),
    scenario("ipc-round-trip-64", Work::IpcRoundTrip(Size::Bytes64)),
    scenario("ipc-round-trip-1024", Work::IpcRoundTrip(Size::Bytes1024)),
    scenario("ipc-one-way-8-b1", one_way(Size::Bytes8, 1)),
    scenario("ipc-one-way-8-b10", one_way(Size::Bytes8, 10)),
    scenario("ipc-one-way-64-b1", one_way(Size::Bytes64, 1)),
    scenario("ipc-one-way-1024-b1", one_way(Size::Bytes1024, 1)),
    scenario("ipc-observers-0", observed_by(0)),
    scenario("ipc-observers-1", observed_by(1)),
    scenario("ipc-observers-8", observed_by(8)),
    scenario("ipc-observers-64", observed_by(64)),
    scenario("ipc-recovery", Work::IpcRecovery(Dead::Producer)),
    scenario("ipc-recovery-gate", Work::IpcRecovery(Dead::Consumer)),
    scenario("unicast-b1", through(Topology::Unicast, 1)),
    scenario("unicast-b10", through(Topology::Unicast, 10)),
    scenario("pipeline-3-b1", through(Topology::Pipeline, 1)),
    scenario("pipeline-3-b10", through(Topology::Pipeline, 10)),
    scenario("three-to-one-b1", through(Topology::ThreeToOne, 1)),
    scenario("three-to-one-b10", through(Topology::ThreeToOne, 10)),
    scenario("multicast-3-b1", through(Topology::Multicast, 1)),
    scenario("multicast-3-b10", through(Topology::Multicast, 10)),
    scenario("diamond-b1", through(Topology::Diamond, 1)),
    scenario("diamond-b10", through(Topology::Diamond, 10)),
];

const fn scenario(name: &'static str, work: Work) -> Scenario {
    Scenario { name, work }
}

const fn from_producers(producers: usize, shared: bool, batch: u64) -> Work {
    Work::Flow {
        producers,
        shared,
        batch,
    }
}

const fn one_way(size: Size, batch: u64) -> Work {
    Work::IpcOneWay {
        size,
        batch,
        observers: None,
    }
}

const fn observed_by(observers: usize) -> Work {
    Work::IpcOneWay {
        size: Size::Bytes8,
        batch: 1,
        observers: Some(observers),
    }
}

const fn through(topology: Topology, batch: u64) -> Work {
    Work::Relay { topology, batch }
}

/// How many events fit in between where throughput is measured.
pub const FLOW_CAPACITY: usize = 1 << 16;

/// How many fit into each link of a round trip, or fill a ring whose gate does not move.
pub const ROUND_TRIP_CAPACITY: usize = 1 << 10;

/// How much of a scenario to do for one sample.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    /// So many events, or round trips, however long it takes; or a hundredth as many deaths, ten at most.
    Events(u64),
    /// A flow for at least so long at the subject's own pace, or so many round trips, or deaths.
    Enough {
        /// How long a flow takes at least.
        flow: Duration,
        /// How many round trips count.
        round_trips: u64,
        /// After so long, those that have been made have to do.
        longest: Duration,
        /// How many processes die.
        deaths: u64,
    },
}

impl Effort {
    /// One sample of throughput, by a run with a number of events that returns how long it took.
    pub(crate) fn throughput(self, mut run: impl FnMut(u64) -> Duration) -> Sample {
        let (events, taken) = match self {
            Self::Events(events) => (events, run(events)),
            Self::Enough { flow, .. } => long_enough(flow, run),
        };
        Sample {
            events,
            taken,
            latency: None,
        }
    }

    /// How many processes are to die.
    #[must_use]
    pub fn deaths(self) -> u64 {
        match self {
            Self::Events(events) => (events / 100).clamp(1, 10),
            Self::Enough { deaths, .. } => deaths,
        }
    }

    /// How many round trips to make.
    #[must_use]
    pub fn round_trips(self) -> RoundTrips {
        match self {
            Self::Events(events) => RoundTrips {
                warm_up: 0,
                count: events,
                longest: Duration::MAX,
            },
            Self::Enough {
                round_trips,
                longest,
                ..
            } => RoundTrips {
                warm_up: round_trips / 10,
                count: round_trips,
                longest,
            },
        }
    }
}

/// How many round trips to make.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrips {
    /// So many before the first that counts.
    pub warm_up: u64,
    /// So many count.
    pub count: u64,
    /// After so long there are no more; after a tenth of it, the warm-up is over.
    pub longest: Duration,
}

/// What came of a scenario once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// How many events were moved, round trips made, or processes killed.
    pub events: u64,
    /// How long it took in all.
    pub taken: Duration,
    /// Of a round trip, or of what follows a death.
    pub latency: Option<Latency>,
}

/// Percentiles in the unit of the scenario.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// As many were faster as were slower.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
    /// One in a thousand was slower.
    pub p999: f64,
}

impl Sample {
    /// The figure that subjects are compared by, in the unit of the scenario.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self.latency {
            Some(latency) => latency.p50,
            None => self.events as f64 / self.taken.as_secs_f64() / 1e6,
        }
    }
}

impl Scenario {
    /// The unit of its figures.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.work {
            _ if self.is_round_trip() => "ns",
            Work::IpcRecovery(_) => "µs",
            _ => "M events/s",
        }
    }

    /// Whether it measures latency, of which less is better, and not throughput.
    #[must_use]
    pub fn is_latency(&self) -> bool {
        self.is_round_trip() || matches!(self.work, Work::IpcRecovery(_))
    }

    /// Whether each event is answered before the next is sent.
    #[must_use]
    pub fn is_round_trip(&self) -> bool {
        matches!(self.work, Work::RoundTrip(_) | Work::IpcRoundTrip(_))
    }

    /// Whether it takes another process.
    #[must_use]
    pub fn is_ipc(&self) -> bool {
        self.is_exchange() || matches!(self.work, Work::IpcRecovery(_))
    }

    /// Whether messages go to another process.
    #[must_use]
    pub fn is_exchange(&self) -> bool {
        matches!(self.work, Work::IpcRoundTrip(_) | Work::IpcOneWay { .. })
    }

    /// How many read along in a third process, if it is about those.
    #[must_use]
    pub fn observers(&self) -> Option<usize> {
        match self.work {
            Work::IpcOneWay { observers, .. } => observers,
            _ => None,
        }
    }

    /// Who dies, if it is about that.
    #[must_use]
    pub fn dead(&self) -> Option<Dead> {
        match self.work {
            Work::IpcRecovery(dead) => Some(dead),
            _ => None,
        }
    }

    /// The same within one process, if there are figures of that to stand beside those of two.
    #[must_use]
    pub fn in_process(&self) -> Option<Self> {
        match self.work {
            Work::IpcRoundTrip(Size::Bytes8) => Some(Self {
                work: Work::RoundTrip(Payload::Bytes8),
                ..*self
            }),
            _ => None,
        }
    }

    /// Who hands over to whom, if that is what is measured.
    #[must_use]
    pub fn topology(&self) -> Option<Topology> {
        match self.work {
            Work::Relay { topology, .. } => Some(topology),
            _ => None,
        }
    }

    /// What it asks of a link, or of a graph.
    #[must_use]
    pub fn plan(&self, cores: Cores) -> Plan {
        let (capacity, producers, shared, readers) = match self.work {
            Work::RoundTrip(_) | Work::IpcRoundTrip(_) => (ROUND_TRIP_CAPACITY, 1, false, 1),
            Work::IpcOneWay { size, .. } => (ipc_capacity(size), 1, false, 1),
            Work::IpcRecovery(_) => (ROUND_TRIP_CAPACITY, 1, true, 1),
            Work::Flow {
                producers, shared, ..
            } => (FLOW_CAPACITY, producers, shared, 1),
            Work::Relay { topology, .. } => {
                let producers = topology.producers();
                let readers = topology.stages().len();
                (FLOW_CAPACITY, producers, producers > 1, readers)
            }
        };
        let crowded = cores.are_fewer_than(producers + readers);
        // Which of the threads of a graph share a core is left to the system, which can move them.
        let pinned = !(crowded && self.topology().is_some());
        Plan {
            capacity,
            producers,
            shared,
            observable: self.observers().is_some(),
            crowded,
            reader: Role::Consumer(0),
            cores: if pinned { cores } else { Cores::default() },
        }
    }

    /// Does it once; `None` if it is not for links.
    ///
    /// # Panics
    /// If events are lost, changed or out of order.
    pub fn measure(&self, link: &impl Link, plan: &Plan, effort: Effort) -> Option<Sample> {
        Some(match self.work {
            Work::RoundTrip(payload) => {
                let round_trips = effort.round_trips();
                match payload {
                    Payload::Bytes8 => round_trip::<Words<1>, _>(link, plan, round_trips),
                    Payload::Bytes56 => round_trip::<Words<7>, _>(link, plan, round_trips),
                }
            }
            Work::Flow { batch, .. } => effort.throughput(|events| flow(link, plan, batch, events)),
            Work::IpcRoundTrip(_)
            | Work::IpcOneWay { .. }
            | Work::IpcRecovery(_)
            | Work::Relay { .. } => return None,
        })
    }

    /// Does it once; `None` if it is not for graphs.
    ///
    /// # Panics
    /// If a handler misses an event, or gets one changed, twice or out of order.
    pub fn measure_graph(&self, graph: &impl Graph, plan: &Plan, effort: Effort) -> Option<Sample> {
        match self.work {
            Work::Relay { topology, batch } => {
                let stages = topology.stages();
                Some(effort.throughput(|events| relay(graph, plan, stages, batch, events)))
            }
            _ => None,
        }
    }
}

/// What is on its way to another process is a fixed number of bytes, while that is enough for a library to
/// go to and fro: of large messages, as many as between threads would be more than the caches hold.
fn ipc_capacity(size: Size) -> usize {
    (FLOW_CAPACITY * 8 / size.bytes()).max(ROUND_TRIP_CAPACITY)
}

/// Runs with more and more events until it takes long enough, which the last run does.
fn long_enough(enough: Duration, mut run: impl FnMut(u64) -> Duration) -> (u64, Duration) {
    let mut events = FLOW_CAPACITY as u64;
    loop {
        let taken = run(events);
        if taken >= enough {
            return (events, taken);
        }
        let factor = 1.2 * enough.as_secs_f64() / taken.as_secs_f64().max(1e-9);
        events = (events as f64 * factor.clamp(1.5, 16.0)) as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_run_that_counts_takes_long_enough() {
        let runs = Cell::new(0);
        let one_per_nanosecond = |events| {
            runs.set(runs.get() + 1);
            Duration::from_nanos(events)
        };
        let (events, taken) = long_enough(Duration::from_millis(100), one_per_nanosecond);
        assert_eq!(taken, Duration::from_nanos(events));
        assert!(taken >= Duration::from_millis(100) && taken < Duration::from_millis(200));
        assert!(runs.get() < 6, "{} runs", runs.get());
    }

    #[test]
    fn threads_of_a_topology_are_pinned_only_if_there_is_a_core_for_each() {
        let cores = Cores::of_this_process();
        for scenario in &SCENARIOS {
            let plan = scenario.plan(cores);
            let has_cores = plan.cores.of(Role::Producer(0)).is_some();
            if scenario.topology().is_some() && has_cores {
                assert!(!plan.crowded, "{}", scenario.name);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names = SCENARIOS.map(|scenario| scenario.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}

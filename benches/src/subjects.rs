//! Who is measured: every library in every configuration that may be its best.

use crate::cores::Cores;
use crate::scenario::{Effort, Sample, Scenario};
use crate::two_processes::TwoProcesses;

pub mod annulus;
#[cfg(feature = "rivals")]
mod crossbeam_channel;
#[cfg(feature = "rivals")]
mod disruptor;
mod floor;
mod ipc;
#[cfg(feature = "rivals")]
mod rtrb;
mod topologies;

/// The subject that measures what goes between processes within one, too, where a scenario has that
/// ([`Scenario::in_process`]).
pub const IN_PROCESS: &str = "annulus";

/// One library in one configuration.
pub trait Subject {
    /// What it is called: the library, and the configuration if there are several.
    fn name(&self) -> &'static str;

    /// What it is to us.
    fn kind(&self) -> Kind;

    /// Does a scenario once; `None` if it cannot, or if the configuration does not suit it.
    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample>;

    /// How it does a scenario that takes several processes, if it can.
    fn two_processes(&self, _: &Scenario) -> Option<&dyn TwoProcesses> {
        None
    }
}

/// What a subject is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Ours,
    /// What the machine allows at best.
    Floor,
    /// A configuration of somebody else's library, of this package name.
    Rival(&'static str),
}

/// All of them, in the order in which they are reported.
#[must_use]
pub fn all() -> Vec<Box<dyn Subject>> {
    let subjects = [
        annulus::subjects(),
        floor::subjects(),
        #[cfg(feature = "rivals")]
        disruptor::subjects(),
        #[cfg(feature = "rivals")]
        rtrb::subjects(),
        #[cfg(feature = "rivals")]
        crossbeam_channel::subjects(),
        ipc::subjects(),
        topologies::subjects(),
    ];
    subjects.into_iter().flatten().collect()
}

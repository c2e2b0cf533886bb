//! Who carries messages between processes, and who goes on when one of them is killed.

use annulus_ring::{Layout, Wait};

use super::{Kind, Subject};
use crate::cores::Cores;
use crate::ipc::Transport;
use crate::recovery::HeldUpIn;
use crate::scenario::{Effort, Sample, Scenario};
use crate::two_processes::TwoProcesses;

mod annulus;
#[cfg(feature = "rivals")]
mod bytes;
#[cfg(feature = "rivals")]
mod iceoryx2;
#[cfg(feature = "rivals")]
mod pipe;
#[cfg(feature = "rivals")]
mod unix_socket;

/// All of them, in the order in which they are reported. Another one is a file in `ipc/` with a
/// [`Transport`], and a line here.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let ours = |name, layout, parking| -> Box<dyn Subject> {
        Box::new(Carrier {
            name,
            kind: Kind::Ours,
            transport: annulus::SharedRing { layout, parking },
        })
    };
    vec![
        ours("annulus-ipc", Layout::Beside, false),
        ours("annulus-ipc-apart", Layout::Apart, false),
        ours("annulus-ipc-parking", Layout::Beside, true),
        #[cfg(feature = "rivals")]
        rival("iceoryx2", iceoryx2::Iceoryx2),
        #[cfg(feature = "rivals")]
        rival("unix-socket", unix_socket::UnixSocket),
        #[cfg(feature = "rivals")]
        rival("pipe", pipe::Pipe),
        held_up("annulus-ipc-wait-default", Wait::default()),
        held_up("annulus-ipc-wait-spin", Wait::Spin),
        held_up("annulus-ipc-wait-yield", Wait::Yield),
        held_up("annulus-ipc-wait-park", Wait::Park),
    ]
}

fn held_up(name: &'static str, wait: Wait) -> Box<dyn Subject> {
    let recovery = HeldUpIn(wait);
    Box::new(Recovering { name, recovery })
}

#[cfg(feature = "rivals")]
fn rival(name: &'static str, transport: impl Transport) -> Box<dyn Subject> {
    Box::new(Carrier {
        name,
        kind: Kind::Rival(name),
        transport,
    })
}

/// A transport as a subject.
struct Carrier<T> {
    name: &'static str,
    kind: Kind,
    transport: T,
}

impl<T: Transport> Subject for Carrier<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn measure(&self, _: &Scenario, _: Effort, _: Cores) -> Option<Sample> {
        None
    }

    fn two_processes(&self, scenario: &Scenario) -> Option<&dyn TwoProcesses> {
        let can_be_observed = self.kind == Kind::Ours;
        let can = scenario.is_exchange() && (can_be_observed || scenario.observers().is_none());
        can.then_some(&self.transport)
    }
}

/// One way to wait, as a subject: of ours, as no rival goes on after a death.
struct Recovering {
    name: &'static str,
    recovery: HeldUpIn,
}

impl Subject for Recovering {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn measure(&self, _: &Scenario, _: Effort, _: Cores) -> Option<Sample> {
        None
    }

    fn two_processes(&self, scenario: &Scenario) -> Option<&dyn TwoProcesses> {
        scenario.dead().and(Some(&self.recovery))
    }
}

//! Who takes part in the topologies: each library in the one configuration that its users would take.

use super::Subject;

#[cfg(feature = "rivals")]
mod disruptor;
mod ring;
mod runtime;

/// All of them, in the order in which they are reported. Another one is a file in `topologies/` with a
/// [`Graph`](crate::topology::Graph), and a line here.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(runtime::Runtime),
        Box::new(ring::BareRing),
        #[cfg(feature = "rivals")]
        Box::new(disruptor::Managed),
    ]
}

//! Who takes part in the topologies: our ring and our runtime in each layout, and rivals in the one configuration that
//! their users would take.

use annulus_ring::Layout;

use super::Subject;

#[cfg(feature = "rivals")]
mod disruptor;
mod ring;
mod runtime;

/// All of them, in the order in which they are reported. Another one is a file in `topologies/` with a
/// [`Graph`](crate::topology::Graph), and a line here.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let runtime = |name, layout, timed| {
        Box::new(runtime::Runtime {
            name,
            layout,
            timed,
        }) as _
    };
    let ring = |name, layout| Box::new(ring::BareRing { name, layout }) as _;
    vec![
        runtime("annulus-runtime", Layout::Beside, false),
        runtime("annulus-runtime-apart", Layout::Apart, false),
        runtime("annulus-runtime-timed", Layout::Beside, true),
        ring("annulus-ring", Layout::Beside),
        ring("annulus-ring-apart", Layout::Apart),
        #[cfg(feature = "rivals")]
        Box::new(disruptor::Managed),
    ]
}

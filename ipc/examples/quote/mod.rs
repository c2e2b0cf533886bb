//! What the three programs agree on.

use annulus_ipc::Plain;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The name of the ring.
pub(crate) const RING: &str = "quotes";

#[derive(Clone, Copy, Debug, Plain, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Quote {
    pub(crate) instrument: u64,
    /// In ten-thousandths.
    pub(crate) price: i64,
    pub(crate) size: u32,
    pub(crate) flags: u32,
}

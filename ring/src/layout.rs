//! The byte picture of a ring: header, member rows, slots.
//!
//! ```text
//! header   | claimed | published | floor | status |         each on 128 bytes of its own
//! row      | position, intent | end, kind, masks, name |    once per member
//! slot     | stamp | event | padding |                      stride such that none straddles a line
//! ```
//!
//! What others poll lies apart from what they do not, and what one member writes apart from what
//! another writes: a line is handed over only to hand something over.

use crossbeam_utils::CachePadded;

use crate::member::{Hot, Record, Status};
use crate::sequence::{Claimed, Floor, Published};
use crate::stamp::Stamp;
use crate::sync::EventCell;

/// Bytes that processors hand over at a time.
pub(crate) const CACHE_LINE: usize = 64;

/// The words of the ring as a whole.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) claimed: CachePadded<Claimed>,
    pub(crate) published: CachePadded<Published>,
    pub(crate) floor: CachePadded<Floor>,
    pub(crate) status: CachePadded<Status>,
}

impl Header {
    pub(crate) fn new() -> Self {
        Self {
            claimed: CachePadded::new(Claimed::new()),
            published: CachePadded::new(Published::new()),
            floor: CachePadded::new(Floor::new()),
            status: CachePadded::new(Status::new()),
        }
    }
}

/// One line of the member table.
#[repr(C)]
pub(crate) struct Row {
    pub(crate) hot: CachePadded<Hot>,
    pub(crate) record: CachePadded<Record>,
}

impl Row {
    pub(crate) fn new() -> Self {
        Self {
            hot: CachePadded::new(Hot::new()),
            record: CachePadded::new(Record::new()),
        }
    }
}

/// One cell of the ring, in the layout `Beside`: one line transfer brings stamp and event.
#[repr(C)]
pub(crate) struct Slot<T> {
    pub(crate) stamp: Stamp,
    pub(crate) event: EventCell<T>,
}

/// The distance between slots: rounded up so that none straddles a cache line that it could fit in,
/// and larger ones start on a line.
pub(crate) const fn slot_stride<T>() -> usize {
    let size = size_of::<Slot<T>>();
    if size <= CACHE_LINE {
        size.next_power_of_two()
    } else {
        size.next_multiple_of(CACHE_LINE)
    }
}

#[cfg(all(not(loom), target_arch = "x86_64"))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Header>() == 512);
    assert!(offset_of!(Header, published) == 128);
    assert!(offset_of!(Header, floor) == 256);
    assert!(offset_of!(Header, status) == 384);
    assert!(size_of::<Row>() == 256);
    assert!(offset_of!(Row, record) == 128);
    assert!(offset_of!(Slot<u64>, event) == 8);
    assert!(slot_stride::<()>() == 8);
    assert!(slot_stride::<u64>() == 16);
    assert!(slot_stride::<[u64; 3]>() == 32);
    assert!(slot_stride::<[u64; 7]>() == 64);
    assert!(slot_stride::<[u64; 8]>() == 128);
};

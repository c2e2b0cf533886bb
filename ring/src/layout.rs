//! The byte picture of a ring: header, member rows, slots.
//!
//! ```text
//! header   | claimed | published | floor | status | waiters | watch |  each on 128 bytes of its own
//! row      | position, intent, waiters | end, use, masks, name |  once per member
//! slots    | stamp, event | stamp, event | ...              `Beside`
//!          | stamp | stamp | ... | event | event | ...      `Apart`, many producers
//!          | event | event | ...                            `Apart`, one producer
//! ```
//!
//! What others poll lies apart from what they do not, and what one member writes apart from what
//! another writes: a line is handed over only to hand something over.

use std::alloc;
#[cfg(all(not(loom), target_arch = "x86_64", target_os = "linux"))]
use std::mem::offset_of;

use crossbeam_utils::CachePadded;

use crate::member::{Hot, Record, Status};
use crate::ring::Producers;
use crate::sequence::{Claimed, Floor, Published};
use crate::stamp::Stamp;
use crate::wait::{Duty, EventCount};

/// Bytes that processors hand over at a time.
pub(crate) const CACHE_LINE: usize = 64;

/// The words of the ring as a whole.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) claimed: CachePadded<Claimed>,
    pub(crate) published: CachePadded<Published>,
    pub(crate) floor: CachePadded<Floor>,
    pub(crate) status: CachePadded<Status>,
    /// Where those park who wait for publications, or for consumers to come or go.
    pub(crate) waiters: CachePadded<EventCount>,
    /// Which of those that sleep looks for the dead.
    pub(crate) watch: CachePadded<Duty>,
}

impl Header {
    pub(crate) fn new() -> Self {
        Self {
            claimed: CachePadded::new(Claimed::new()),
            published: CachePadded::new(Published::new()),
            floor: CachePadded::new(Floor::new()),
            status: CachePadded::new(Status::new()),
            waiters: CachePadded::new(EventCount::new()),
            watch: CachePadded::new(Duty::new()),
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

/// How stamps and events lie in memory; the algorithm is the same.
///
/// # Examples
/// ```
/// use annulus_ring::{Layout, Ring};
///
/// let ring = Ring::builder(8).layout(Layout::Apart).build(u64::default)?;
/// let mut book = ring.consumer("book").join()?;
/// ring.producer()?.publish_batch(3, |slots| slots.zip(1..).for_each(|(slot, n)| *slot = n))?;
/// assert_eq!(book.next_batch()?.as_slices(), Some(([1, 2, 3].as_slice(), [].as_slice())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Each stamp in front of its event, and no slot across a cache line that it fits in: one line
    /// transfer brings both. For latency, and events of up to 56 bytes.
    #[default]
    Beside,
    /// Events in one dense array, nothing between them. For throughput of small events, and for reading
    /// them as slices. With many producers the stamps have an array of their own; one producer needs
    /// none, as `published` brings a consumer as much in as many lines.
    Apart,
}

/// Where the stamps and events of a ring lie, in bytes from the start of their memory. If there are
/// stamps, the first lies at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotPicture {
    /// None: the ring is published by its cursor alone.
    pub(crate) stamp_stride: Option<usize>,
    pub(crate) first_event: usize,
    pub(crate) event_stride: usize,
    pub(crate) size: usize,
    pub(crate) align: usize,
}

impl SlotPicture {
    /// The picture of `capacity` slots for events of this size and alignment, or nothing if it is too
    /// large to be described.
    pub(crate) const fn of(
        event: alloc::Layout,
        layout: Layout,
        producers: Producers,
        capacity: usize,
    ) -> Option<Self> {
        // Processors prefetch lines in pairs: what starts here shares its pair with nothing before.
        const PAIR: usize = 2 * CACHE_LINE;
        match layout {
            Layout::Beside => {
                // A stamp, and behind it the event.
                let align = larger(event.align(), align_of::<Stamp>());
                let first_event = size_of::<Stamp>().next_multiple_of(event.align());
                let Some(size) = first_event.checked_add(event.size()) else {
                    return None;
                };
                let Some(size) = size.checked_next_multiple_of(align) else {
                    return None;
                };
                let stride = if size <= CACHE_LINE {
                    size.next_power_of_two()
                } else {
                    size.next_multiple_of(CACHE_LINE)
                };
                let Some(size) = stride.checked_mul(capacity) else {
                    return None;
                };
                Some(Self {
                    stamp_stride: Some(stride),
                    first_event,
                    event_stride: stride,
                    size,
                    align: larger(align, PAIR),
                })
            }
            Layout::Apart => {
                let align = larger(event.align(), PAIR);
                let (stamp_stride, stamp_size) = match producers {
                    Producers::One => (None, 0),
                    Producers::Many => (Some(size_of::<Stamp>()), size_of::<Stamp>()),
                };
                let Some(stamps) = stamp_size.checked_mul(capacity) else {
                    return None;
                };
                let Some(first_event) = stamps.checked_next_multiple_of(align) else {
                    return None;
                };
                let Some(events) = event.size().checked_mul(capacity) else {
                    return None;
                };
                let Some(size) = first_event.checked_add(events) else {
                    return None;
                };
                Some(Self {
                    stamp_stride,
                    first_event,
                    event_stride: event.size(),
                    size: larger(size, 1), // Events without a size, and no stamps.
                    align,
                })
            }
        }
    }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

#[cfg(all(not(loom), target_arch = "x86_64", target_os = "linux"))]
const _: () = {
    assert!(size_of::<Header>() == 768);
    assert!(offset_of!(Header, published) == 128);
    assert!(offset_of!(Header, floor) == 256);
    assert!(offset_of!(Header, status) == 384);
    assert!(offset_of!(Header, waiters) == 512);
    assert!(offset_of!(Header, watch) == 640);
    assert!(size_of::<Row>() == 256);
    assert!(offset_of!(Row, record) == 128);
    assert!(beside::<()>().event_stride == 8);
    assert!(beside::<u64>().event_stride == 16);
    assert!(beside::<u64>().first_event == 8);
    assert!(beside::<[u64; 3]>().event_stride == 32);
    assert!(beside::<[u64; 7]>().event_stride == 64);
    assert!(beside::<[u64; 8]>().event_stride == 128);

    const fn beside<T>() -> SlotPicture {
        let event = alloc::Layout::new::<T>();
        SlotPicture::of(event, Layout::Beside, Producers::One, 8).unwrap()
    }
};

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
//!
//! Nothing of it depends on the processor, or on how wide its pointers are: programs that are compiled for 32 and for
//! 64 bits share a ring. So there is no `usize` in it, and how far apart is far enough is a number of its own.

use std::alloc;
#[cfg(all(not(loom), target_os = "linux"))]
use std::mem::offset_of;
use std::ops::Deref;

use crate::member::{Hot, Record, Status};
use crate::ring::Producers;
use crate::sequence::{Claimed, Floor, Published};
use crate::stamp::Stamp;
use crate::wait::{Duty, EventCount};

/// Bytes that processors hand over at a time.
pub(crate) const CACHE_LINE: usize = 64;

/// Processors prefetch lines in pairs: what has a pair of its own shares nothing that is handed over with anything else.
const PAIR: usize = 2 * CACHE_LINE;

/// What has a pair of cache lines of its own, on every target the same.
#[repr(C, align(128))]
pub(crate) struct Padded<T>(T);

const _: () = assert!(align_of::<Padded<u8>>() == PAIR);

impl<T> Padded<T> {
    fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Padded<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The words of the ring as a whole.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) claimed: Padded<Claimed>,
    pub(crate) published: Padded<Published>,
    pub(crate) floor: Padded<Floor>,
    pub(crate) status: Padded<Status>,
    /// Where those park who wait for publications, or for consumers to come or go.
    pub(crate) waiters: Padded<EventCount>,
    /// Which of those that sleep looks for the dead.
    pub(crate) watch: Padded<Duty>,
}

impl Header {
    pub(crate) fn new() -> Self {
        Self {
            claimed: Padded::new(Claimed::new()),
            published: Padded::new(Published::new()),
            floor: Padded::new(Floor::new()),
            status: Padded::new(Status::new()),
            waiters: Padded::new(EventCount::new()),
            watch: Padded::new(Duty::new()),
        }
    }
}

/// One line of the member table.
#[repr(C)]
pub(crate) struct Row {
    pub(crate) hot: Padded<Hot>,
    pub(crate) record: Padded<Record>,
}

impl Row {
    pub(crate) fn new() -> Self {
        Self {
            hot: Padded::new(Hot::new()),
            record: Padded::new(Record::new()),
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
        // Where events take no memory, nothing else would be too much, and each slot still takes its time.
        if event.size() == 0 && capacity as u64 > MOST_WITHOUT_SIZE {
            return None;
        }
        match layout {
            Layout::Beside => {
                // A stamp, and behind it the event. What starts at the alignment shares its pair with nothing before.
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

const MOST_WITHOUT_SIZE: u64 = 1 << 32;

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

// The same for every processor. A model's words are larger, and on other systems a futex is.
#[cfg(all(not(loom), target_os = "linux"))]
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
    // Stamps are aligned to 8 bytes also where `u64` is to 4: the picture is the same for such events.
    assert!(align_of::<Stamp>() == 8);
    assert!(is_same(
        of(24, 4, Layout::Beside),
        of(24, 8, Layout::Beside)
    ));
    assert!(is_same(of(24, 4, Layout::Apart), of(24, 8, Layout::Apart)));

    const fn beside<T>() -> SlotPicture {
        of(size_of::<T>(), align_of::<T>(), Layout::Beside)
    }

    const fn of(size: usize, align: usize, layout: Layout) -> SlotPicture {
        let Ok(event) = alloc::Layout::from_size_align(size, align) else {
            panic!("no such layout");
        };
        SlotPicture::of(event, layout, Producers::Many, 8).unwrap()
    }

    const fn is_same(a: SlotPicture, b: SlotPicture) -> bool {
        a.first_event == b.first_event && a.event_stride == b.event_stride && a.size == b.size
    }
};

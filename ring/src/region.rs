//! Memory that holds one ring, and hands out typed references to its words, stamps and events.
//!
//! Never bytes: so the same code runs on the heap, on loom's types, and on any other memory that can
//! be seen as these types.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

use crate::layout::{CACHE_LINE, Header, Row, Slot, slot_stride};
use crate::ring::{BuildError, Producers};
use crate::sequence::Sequence;
use crate::stamp::Stamp;
use crate::sync::{Arc, EventCell, Mutex};

/// A ring's memory and what was fixed when it was built.
pub(crate) struct Region<T> {
    pub(crate) header: Header,
    pub(crate) rows: Box<[Row]>,
    /// Serialises joins, leaves and the first gate refresh of each producer.
    pub(crate) joins: Mutex<()>,
    pub(crate) producers: Producers,
    pub(crate) required_consumers: usize,
    slots: SlotArray<T>,
}

impl<T> Region<T> {
    /// A region on the heap whose events `factory` makes, in the order of their slots.
    pub(crate) fn heap(
        capacity: usize,
        members: usize,
        producers: Producers,
        required_consumers: usize,
        factory: impl FnMut() -> T,
    ) -> Result<Self, BuildError> {
        debug_assert!(capacity.is_power_of_two(), "capacity {capacity}");
        Ok(Self {
            header: Header::new(),
            rows: (0..members).map(|_| Row::new()).collect(),
            joins: Mutex::new(()),
            producers,
            required_consumers,
            slots: SlotArray::new(capacity, factory)?,
        })
    }
}

/// A handle's share of a region: keeps it alive, and knows where the slots are without asking it.
pub(crate) struct Memory<T> {
    region: Arc<Region<T>>,
    slots: SlotPtr<T>,
}

impl<T> Memory<T> {
    pub(crate) fn new(region: Region<T>) -> Self {
        let region = Arc::new(region);
        let slots = region.slots.ptr;
        Self { region, slots }
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        &self.region.header
    }

    pub(crate) fn region(&self) -> &Region<T> {
        &self.region
    }

    #[inline]
    pub(crate) fn row(&self, row: usize) -> &Row {
        &self.region.rows[row]
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.slots.mask + 1
    }

    /// The stamp in the slot of `sequence`.
    #[inline]
    pub(crate) fn stamp(&self, sequence: Sequence) -> &Stamp {
        &self.slot(sequence).stamp
    }

    /// Where the event of `sequence` is to be written. Writing through it takes R2.
    #[inline]
    pub(crate) fn to_write(&self, sequence: Sequence) -> *mut T {
        self.slot(sequence).event.with_mut(|event| event)
    }

    /// Where the event of `sequence` is to be read. Reading through it takes R3.
    #[inline]
    pub(crate) fn to_read(&self, sequence: Sequence) -> *const T {
        self.slot(sequence).event.with(|event| event)
    }

    /// Says where writing to the events of `[lo, hi)` ends. It compiles to nothing: a reference goes
    /// on after the call that made it, and a model must see the access last until here.
    #[inline]
    pub(crate) fn written(&self, lo: Sequence, hi: Sequence) {
        if cfg!(loom) {
            (lo..hi).for_each(|s| _ = self.to_write(s));
        }
    }

    /// Says where reading the events of `[lo, hi)` ends, as [`Memory::written`] does for writing.
    #[inline]
    pub(crate) fn have_read(&self, lo: Sequence, hi: Sequence) {
        if cfg!(loom) {
            (lo..hi).for_each(|s| _ = self.to_read(s));
        }
    }

    #[inline]
    fn slot(&self, sequence: Sequence) -> &Slot<T> {
        let index = (sequence & self.slots.mask) as usize;
        let slot = self.slots.at(index);
        // SAFETY: `index` is masked, so it is one of the slots that `SlotArray::new` filled before
        // there was a `Memory`; `self.region` keeps them alive, and `Slot` is shared by `&` only.
        unsafe { slot.as_ref() }
    }
}

impl<T> Clone for Memory<T> {
    fn clone(&self) -> Self {
        Self {
            region: self.region.clone(),
            slots: self.slots,
        }
    }
}

/// Where the slots of a ring lie.
struct SlotPtr<T> {
    base: NonNull<Slot<T>>,
    stride: usize,
    mask: u64,
}

impl<T> SlotPtr<T> {
    #[inline]
    fn at(self, index: usize) -> NonNull<Slot<T>> {
        debug_assert!(
            index as u64 <= self.mask,
            "slot {index} of {}",
            self.mask + 1
        );
        // SAFETY: the array holds `mask + 1` slots, `stride` bytes apart, in one allocation.
        unsafe { self.base.byte_add(index * self.stride) }
    }
}

impl<T> Clone for SlotPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SlotPtr<T> {}

// SAFETY: the pointer is to memory that `Region` owns. Events are written by one thread (R2: takes
// `T: Send`), read by several at once, and dropped by any (R3: takes `T: Sync`, and `Send`).
unsafe impl<T: Send + Sync> Send for SlotPtr<T> {}
// SAFETY: as above; `&SlotPtr` gives nothing that `SlotPtr`, which is `Copy`, does not.
unsafe impl<T: Send + Sync> Sync for SlotPtr<T> {}

/// The slots of a ring on the heap.
struct SlotArray<T> {
    ptr: SlotPtr<T>,
    layout: Layout,
    /// How many slots hold an event: all, unless the factory panicked.
    filled: usize,
}

impl<T> SlotArray<T> {
    fn new(capacity: usize, mut factory: impl FnMut() -> T) -> Result<Self, BuildError> {
        let too_large = BuildError::TooLarge {
            capacity,
            event_size: size_of::<T>(),
        };
        let stride = slot_stride::<T>();
        // On 128 bytes, so that a slot of one line is not half of each of a prefetched pair.
        let align = align_of::<Slot<T>>().max(2 * CACHE_LINE);
        let Some(Ok(layout)) = stride
            .checked_mul(capacity)
            .map(|size| Layout::from_size_align(size, align))
        else {
            return Err(too_large);
        };
        // SAFETY: a slot has at least the size of its stamp and there is at least one: not zero.
        let memory = unsafe { alloc::alloc(layout) };
        let Some(base) = NonNull::new(memory.cast()) else {
            return Err(too_large);
        };
        let mask = capacity as u64 - 1;
        let mut array = Self {
            ptr: SlotPtr { base, stride, mask },
            layout,
            filled: 0,
        };
        for index in 0..capacity {
            let slot = Slot {
                stamp: Stamp::new(),
                event: EventCell::new(factory()),
            };
            // SAFETY: inside the allocation and aligned, as the stride is a multiple of the slot's
            // alignment; nobody else knows of it yet.
            unsafe { array.ptr.at(index).write(slot) };
            array.filled += 1;
        }
        Ok(array)
    }
}

impl<T> Drop for SlotArray<T> {
    fn drop(&mut self) {
        for index in 0..self.filled {
            // SAFETY: filled, and dropped once: this is the last that is known of the region.
            unsafe { self.ptr.at(index).drop_in_place() };
        }
        // SAFETY: allocated in `new` with this layout.
        unsafe { alloc::dealloc(self.ptr.base.as_ptr().cast(), self.layout) };
    }
}

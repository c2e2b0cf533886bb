//! Memory that holds one ring, and hands out typed references to its words, stamps and events.
//!
//! Never bytes: so the same code runs on the heap, on loom's types, and on any other memory that can
//! be seen as these types.

use std::alloc;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use crate::layout::{CACHE_LINE, Header, Layout, Row, SlotPicture};
use crate::member::Rows;
use crate::ring::{BuildError, Producers, RingBuilder};
use crate::roster::Watchers;
use crate::sequence::Sequence;
use crate::shared::SharedMemory;
use crate::stamp::{Reading, Stamp};
use crate::sync::{Arc, EventCell, Fences, Mutex, Observed, SharedByAll};

/// A ring's memory and what was fixed when it was built.
pub(crate) struct Region<T> {
    words: Words,
    slots: SlotPtr<T>,
    /// Serialises joins and leaves, in this process.
    pub(crate) joins: Mutex<Watchers>,
    /// If members may park, and have to be woken: how those who wake and those who park stay in order.
    pub(crate) parking: Option<Fences>,
    /// One producer: whether it tells observers what it is about to write.
    pub(crate) observable: bool,
    pub(crate) producers: Producers,
    pub(crate) required_consumers: usize,
    /// What keeps the memory: dropped last.
    owner: Owner<T>,
}

enum Owner<T> {
    Heap(#[expect(dead_code, reason = "it is kept for its drop")] Heap<T>),
    Shared(SharedByAll<dyn SharedMemory>),
}

impl<T> Region<T> {
    /// A region on the heap as `builder`, which has been checked, describes it, whose events `factory` makes
    /// in the order of their slots.
    pub(crate) fn heap(
        builder: &RingBuilder,
        factory: impl FnMut() -> T,
    ) -> Result<Self, BuildError> {
        let heap = Heap::new(builder, factory)?;
        let parking = builder.parking.unwrap_or(false);
        Ok(Self::of(
            heap.words,
            heap.slots.ptr,
            builder,
            parking.then(Fences::among_threads),
            Owner::Heap(heap),
        ))
    }

    /// A region in memory that other processes share.
    ///
    /// # Safety
    /// 1. `words` and `slots` point into `memory`, to what lies there as `builder` describes it.
    pub(crate) unsafe fn shared(
        words: Words,
        slots: SlotPtr<T>,
        builder: &RingBuilder,
        memory: SharedByAll<dyn SharedMemory>,
    ) -> Self {
        let parking = builder.parking.unwrap_or(true);
        let parking = parking.then(Fences::among_processes);
        Self::of(words, slots, builder, parking, Owner::Shared(memory))
    }

    fn of(
        words: Words,
        slots: SlotPtr<T>,
        builder: &RingBuilder,
        parking: Option<Fences>,
        owner: Owner<T>,
    ) -> Self {
        debug_assert!(builder.capacity.is_power_of_two());
        Self {
            words,
            slots,
            joins: Mutex::new(Watchers::default()),
            parking,
            observable: builder.observable,
            producers: builder.producers,
            required_consumers: builder.required_consumers,
            owner,
        }
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `owner` keeps it alive.
        unsafe { self.words.header() }
    }

    pub(crate) fn rows(&self) -> &[Row] {
        // SAFETY: `owner` keeps them alive.
        unsafe { self.words.rows() }
    }

    /// What the ring is surrounded by, if other processes share it.
    pub(crate) fn shared_memory(&self) -> Option<&dyn SharedMemory> {
        match &self.owner {
            Owner::Heap(_) => None,
            Owner::Shared(memory) => Some(&**memory),
        }
    }

    /// The end of what is claimed; one producer tells nobody of it before it is published.
    pub(crate) fn front(&self) -> Sequence {
        match self.producers {
            Producers::One => self.header().published.observe(),
            Producers::Many => self.header().claimed.observe().sequence(),
        }
    }

    /// Whether the member in this row may live.
    pub(crate) fn lives(&self, row: usize) -> bool {
        (self.shared_memory()).is_none_or(|shared| shared.is_leased(row))
    }

    /// Whether it is the parent's of this process, which has been forked.
    pub(crate) fn is_inherited(&self) -> bool {
        self.shared_memory().is_some() && self.header().status.signal().is_inherited()
    }

    /// Whether newcomers do not find it any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.shared_memory().is_some_and(SharedMemory::is_unlinked)
    }

    /// Every consumer that the one in this row comes after, directly or through others.
    pub(crate) fn closure(&self, row: usize) -> Rows {
        self.rows()[row].record.closure(self.rows().len())
    }

    /// The rows of the consumers that change events.
    pub(crate) fn mutable_rows(&self) -> Rows {
        self.header().status.mutable_rows(self.rows().len())
    }

    /// The rows whose positions gate, or did a moment ago.
    pub(crate) fn gating_rows(&self) -> Rows {
        let mut gating = Rows::default();
        for (row, entry) in self.rows().iter().enumerate() {
            if entry.hot.position.observe().is_some() {
                gating.insert(row);
            }
        }
        gating
    }

    /// How far the stages that change events have got: nobody reads from there on without their leave.
    pub(crate) fn mutable_stages_are_at(&self) -> Sequence {
        let mut lowest = Sequence::MAX;
        let mut rows = self.mutable_rows();
        while let Some(row) = rows.pop() {
            let position = self.rows()[row].hot.position.observe();
            lowest = lowest.min(position.unwrap_or(Sequence::MAX));
        }
        lowest
    }

    /// Many producers: the highest boundary that somebody is known to be at; what lies below is published.
    pub(crate) fn known_boundary(&self) -> Sequence {
        let ends = self.rows().iter().map(|row| row.record.end());
        ends.fold(self.header().floor.observe(), Sequence::max)
    }

    /// Wakes who waits for publications, or for consumers to come or go.
    #[inline]
    pub(crate) fn wake(&self) {
        if let Some(fences) = self.parking {
            self.header().waiters.wake(fences);
        }
    }

    /// Wakes whom the consumer in this row held up, and who waits for it to come or go.
    pub(crate) fn wake_at(&self, row: usize) {
        if let Some(fences) = self.parking {
            self.rows()[row].hot.waiters.wake(fences);
            self.header().waiters.wake(fences);
        }
    }

    /// Wakes all who wait for anything.
    pub(crate) fn wake_all(&self) {
        self.wake();
        (0..self.rows().len()).for_each(|row| self.wake_at(row));
    }
}

/// A handle's share of a region: keeps it alive, and knows where everything lies without asking it.
pub(crate) struct Memory<T> {
    region: Arc<Region<T>>,
    words: Words,
    slots: SlotPtr<T>,
    /// How many slots share a cache line, or 1 if a slot is longer; here because a division takes its time.
    pub(crate) slots_per_line: u64,
}

impl<T> Memory<T> {
    pub(crate) fn new(region: Region<T>) -> Self {
        Self {
            words: region.words,
            slots: region.slots,
            slots_per_line: (CACHE_LINE / region.slots.events.stride.clamp(1, CACHE_LINE)) as u64,
            region: Arc::new(region),
        }
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `region` keeps it alive.
        unsafe { self.words.header() }
    }

    pub(crate) fn region(&self) -> &Region<T> {
        &self.region
    }

    #[inline]
    pub(crate) fn row(&self, row: usize) -> &Row {
        // SAFETY: `region` keeps them alive.
        let rows = unsafe { self.words.rows() };
        &rows[row]
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.slots.mask + 1
    }

    /// The stamp in the slot of `sequence`; none if the ring has one producer and the layout
    /// [`Apart`](Layout::Apart), and is published by its cursor alone.
    #[inline]
    pub(crate) fn stamp(&self, sequence: Sequence) -> Option<&Stamp> {
        let stamp = self.slots.stamps?.at(self.slots.index(sequence));
        // SAFETY: the index is of one of the slots, which were filled before there was a `Memory`, and
        // `self.region` keeps them alive. Stamps are shared by `&` only.
        Some(unsafe { stamp.as_ref() })
    }

    /// What is published at `boundary`.
    #[inline]
    pub(crate) fn reading(&self, boundary: Sequence) -> Reading {
        match self.stamp(boundary) {
            Some(stamp) => stamp.read(boundary, self.capacity()),
            None => match self.header().published.observe() {
                end if end > boundary => Reading::Events(end),
                _ => Reading::Unpublished,
            },
        }
    }

    /// Where the event of `sequence` is to be written. Writing through it takes R2.
    #[inline]
    pub(crate) fn to_write(&self, sequence: Sequence) -> *mut T {
        self.event(sequence).with_mut(|event| event)
    }

    /// Where the event of `sequence` is to be read. Reading through it takes R3.
    #[inline]
    pub(crate) fn to_read(&self, sequence: Sequence) -> *const T {
        self.event(sequence).with(|event| event)
    }

    /// The event of `sequence`, which may be written meanwhile.
    #[inline]
    pub(crate) fn to_observe(&self, sequence: Sequence) -> Observed<T> {
        self.event(sequence).to_observe()
    }

    /// Where the events of `[lo, hi)` lie, which are not more than a lap: up to the last slot, and
    /// from the first slot on. Nothing if there is something between them.
    #[cfg(not(loom))] // A model's cells are more than their events.
    #[inline]
    pub(crate) fn runs(&self, lo: Sequence, hi: Sequence) -> Option<[(NonNull<T>, usize); 2]> {
        assert!(
            hi - lo <= self.capacity(),
            "{lo} to {hi} is more than a lap"
        );
        if self.slots.events.stride != size_of::<T>() {
            return None;
        }
        let start = self.slots.index(lo);
        let len = (hi - lo) as usize;
        let first = len.min(self.capacity() as usize - start);
        let at = |index| self.slots.events.at(index).cast();
        Some([(at(start), first), (at(0), len - first)])
    }

    /// Takes the cache lines of the slots `[lo, hi)` from whoever has read them, for writing; needs
    /// what writing needs, R2.
    ///
    /// A byte of each, of a long event in each of its lines, is stored as it is. Nothing else did: a prefetch for writing changed nothing on
    /// the processors tried.
    pub(crate) fn take_lines(&self, lo: Sequence, hi: Sequence) {
        if size_of::<T>() == 0 {
            return; // What follows the stamp is another's.
        }
        let mut sequence = lo;
        while sequence < hi {
            let event = self.to_write(sequence).cast();
            sequence += self.slots_per_line;
            if cfg!(all(target_arch = "x86_64", not(loom))) {
                // SAFETY: R2: the caller may write this event.
                unsafe { take_line(event) };
                if self.slots.events.stride > CACHE_LINE {
                    let next_line = CACHE_LINE - event.addr() % CACHE_LINE;
                    for offset in (next_line..size_of::<T>()).step_by(CACHE_LINE) {
                        // SAFETY: inside the event.
                        let byte = unsafe { event.add(offset) };
                        // SAFETY: as above.
                        unsafe { take_line(byte) };
                    }
                }
            }
        }
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
    fn event(&self, sequence: Sequence) -> &EventCell<T> {
        let event = self.slots.event(sequence);
        // SAFETY: as in `stamp`. The cell is shared by `&` only; what is in it is reached by pointers.
        unsafe { event.as_ref() }
    }

    /// The events of these sequences, one after the other.
    #[inline]
    pub(crate) fn run(&self, left: Range<Sequence>) -> Run<'_, T> {
        Run {
            slots: self.slots,
            left,
            memory: PhantomData,
        }
    }
}

/// Stores a byte as it is.
///
/// # Safety
/// 1. The caller may write it, and nobody else reads or writes it meanwhile.
#[inline]
unsafe fn take_line(byte: *mut MaybeUninit<u8>) {
    // SAFETY: the caller's promise; any byte may be uninitialised.
    let value = unsafe { byte.read_volatile() };
    // SAFETY: as above; it keeps its value.
    unsafe { byte.write_volatile(value) };
}

/// Where the events of consecutive sequences are.
///
/// It has a copy of where the slots lie: behind a reference that would have to be looked up for each event, as
/// whatever is done with one may have changed it, for all that the compiler knows.
pub(crate) struct Run<'m, T> {
    slots: SlotPtr<T>,
    left: Range<Sequence>,
    memory: PhantomData<&'m Memory<T>>,
}

impl<'m, T> Run<'m, T> {
    /// The sequences that are left.
    pub(crate) fn left(&self) -> &Range<Sequence> {
        &self.left
    }

    #[inline]
    fn next(&mut self) -> Option<&'m EventCell<T>> {
        let event = self.slots.event(self.left.next()?);
        // SAFETY: as in `Memory::event`; it keeps the slots for `'m`.
        Some(unsafe { event.as_ref() })
    }

    /// Where the next is to be written; as [`Memory::to_write`].
    #[inline]
    pub(crate) fn next_to_write(&mut self) -> Option<*mut T> {
        Some(self.next()?.with_mut(|event| event))
    }

    /// Where the next is to be read; as [`Memory::to_read`].
    #[inline]
    pub(crate) fn next_to_read(&mut self) -> Option<*const T> {
        Some(self.next()?.with(|event| event))
    }

    #[inline]
    pub(crate) fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.left.end - self.left.start) as usize;
        (left, Some(left))
    }
}

impl<T> Clone for Run<'_, T> {
    fn clone(&self) -> Self {
        Self {
            left: self.left.clone(),
            ..*self
        }
    }
}

impl<T> Clone for Memory<T> {
    fn clone(&self) -> Self {
        Self {
            region: self.region.clone(),
            words: self.words,
            slots: self.slots,
            slots_per_line: self.slots_per_line,
        }
    }
}

/// Where the words of a ring lie that are not in its slots.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    pub(crate) header: NonNull<Header>,
    pub(crate) rows: NonNull<[Row]>,
}

impl Words {
    /// # Safety
    /// 1. The memory is alive for `'w`.
    #[inline]
    unsafe fn header<'w>(self) -> &'w Header {
        // SAFETY: the caller's promise; everything in it is atomic, and it is shared by `&` only.
        unsafe { self.header.as_ref() }
    }

    /// # Safety
    /// 1. The memory is alive for `'w`.
    #[inline]
    unsafe fn rows<'w>(self) -> &'w [Row] {
        // SAFETY: as in `header`.
        unsafe { self.rows.as_ref() }
    }
}

// SAFETY: pointers to atomics, which any thread may use.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

/// Where the slots of a ring lie.
pub(crate) struct SlotPtr<T> {
    stamps: Option<Strided<Stamp>>,
    events: Strided<EventCell<T>>,
    mask: u64,
}

impl<T> SlotPtr<T> {
    /// The slots of `capacity` events that lie at `base` as `picture` says.
    ///
    /// # Safety
    /// 1. There are `picture.size` bytes at `base`, in one piece.
    pub(crate) unsafe fn at(base: NonNull<u8>, picture: &SlotPicture, capacity: usize) -> Self {
        // SAFETY: the events start inside, as the picture says.
        let events = unsafe { base.byte_add(picture.first_event) };
        Self {
            stamps: picture.stamp_stride.map(|stride| Strided {
                base: base.cast(),
                stride,
            }),
            events: Strided {
                base: events.cast(),
                stride: picture.event_stride,
            },
            mask: capacity as u64 - 1,
        }
    }

    /// Makes the slot of this index one that is not published, with this event, which is moved once.
    ///
    /// # Safety
    /// 1. The index is of one of the slots, and nobody else uses it yet.
    pub(crate) unsafe fn fill(self, index: usize, event: impl FnOnce() -> T) {
        // SAFETY: inside the slots and aligned, as the picture says; the caller's alone.
        unsafe { EventCell::make(self.events.at(index), event) };
        if let Some(stamps) = self.stamps {
            // SAFETY: as above.
            unsafe { stamps.at(index).write(Stamp::new()) };
        }
    }

    #[inline]
    fn index(self, sequence: Sequence) -> usize {
        (sequence & self.mask) as usize
    }

    #[inline]
    fn event(self, sequence: Sequence) -> NonNull<EventCell<T>> {
        self.events.at(self.index(sequence))
    }
}

impl<T> Clone for SlotPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SlotPtr<T> {}

// SAFETY: the pointers are to memory that `Region` owns. Events are written by one thread (R2: takes
// `T: Send`), read by several at once, and dropped by any (R3: takes `T: Sync`, and `Send`).
unsafe impl<T: Send + Sync> Send for SlotPtr<T> {}
// SAFETY: as above; `&SlotPtr` gives nothing that `SlotPtr`, which is `Copy`, does not.
unsafe impl<T: Send + Sync> Sync for SlotPtr<T> {}

/// Some values, `stride` bytes apart.
struct Strided<X> {
    base: NonNull<X>,
    stride: usize,
}

impl<X> Strided<X> {
    /// The place of the value of this index, which is that of a slot.
    #[inline]
    fn at(self, index: usize) -> NonNull<X> {
        // SAFETY: there are as many as there are slots, in one piece (`SlotPtr::at`).
        unsafe { self.base.byte_add(index * self.stride) }
    }
}

impl<X> Clone for Strided<X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Strided<X> {}

/// A ring's memory on the heap.
struct Heap<T> {
    words: Words,
    slots: SlotArray<T>,
}

impl<T> Heap<T> {
    fn new(builder: &RingBuilder, factory: impl FnMut() -> T) -> Result<Self, BuildError> {
        let slots = SlotArray::new(builder.capacity, builder.layout, builder.producers, factory)?;
        let rows: Box<[Row]> = (0..builder.members).map(|_| Row::new()).collect();
        let words = Words {
            header: own(Box::new(Header::new())),
            rows: own(rows),
        };
        Ok(Self { words, slots })
    }
}

/// What is in the box, for who frees it; and who has no `Box` meanwhile, which would claim to be the only way to it.
fn own<X: ?Sized>(boxed: Box<X>) -> NonNull<X> {
    // SAFETY: a box is not null.
    unsafe { NonNull::new_unchecked(Box::into_raw(boxed)) }
}

impl<T> Drop for Heap<T> {
    fn drop(&mut self) {
        // SAFETY: from a box, by `own`, and dropped once: this is the last that is known of the region.
        drop(unsafe { Box::from_raw(self.words.header.as_ptr()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.words.rows.as_ptr()) });
    }
}

/// The slots of a ring on the heap.
struct SlotArray<T> {
    memory: NonNull<u8>,
    ptr: SlotPtr<T>,
    layout: alloc::Layout,
    /// How many slots hold an event: all, unless the factory panicked.
    filled: usize,
}

// SAFETY: it owns `memory`, which only its drop reaches by that name.
unsafe impl<T: Send + Sync> Send for SlotArray<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for SlotArray<T> {}

impl<T> SlotArray<T> {
    fn new(
        capacity: usize,
        layout: Layout,
        producers: Producers,
        mut factory: impl FnMut() -> T,
    ) -> Result<Self, BuildError> {
        let too_large = BuildError::TooLarge {
            capacity,
            event_size: size_of::<T>(),
        };
        let event = alloc::Layout::new::<EventCell<T>>();
        let picture = SlotPicture::of(event, layout, producers, capacity).ok_or(too_large)?;
        let layout =
            alloc::Layout::from_size_align(picture.size, picture.align).map_err(|_| too_large)?;
        // SAFETY: the picture's size is not zero.
        let memory = NonNull::new(unsafe { alloc::alloc(layout) }).ok_or(too_large)?;
        let mut array = Self {
            memory,
            // SAFETY: allocated with the picture's size.
            ptr: unsafe { SlotPtr::at(memory, &picture, capacity) },
            layout,
            filled: 0,
        };
        for index in 0..capacity {
            // SAFETY: inside the allocation, and nobody else knows of it.
            unsafe { array.ptr.fill(index, &mut factory) };
            array.filled += 1;
        }
        Ok(array)
    }
}

impl<T> Drop for SlotArray<T> {
    fn drop(&mut self) {
        for index in 0..self.filled {
            // SAFETY: filled, and dropped once: this is the last that is known of the region.
            unsafe { self.ptr.events.at(index).drop_in_place() };
            if let Some(stamps) = self.ptr.stamps {
                // SAFETY: as above.
                unsafe { stamps.at(index).drop_in_place() };
            }
        }
        // SAFETY: allocated in `new` with this layout.
        unsafe { alloc::dealloc(self.memory.as_ptr(), self.layout) };
    }
}

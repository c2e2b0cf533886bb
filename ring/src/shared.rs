//! A ring in memory that other processes share: where its parts lie there, and what it asks of who
//! brings the memory.
//!
//! The algorithm is the same. What a process cannot do by itself are three things: exclude other processes
//! while a member joins or leaves, prove that one of them is dead, and leave something by which it is
//! known to be alive. Who brings the memory does them, as [`SharedMemory`].
//!
//! Other processes may be faulty. What they can change is checked each time that it is read, as far as
//! memory safety here depends on it: an index is masked, a set of rows cut to those that there are, what is
//! published bounded by a lap. What is found to be impossible is [`Unusable::Corrupt`].

use std::alloc;
use std::error::Error;
use std::fmt;
#[cfg(not(loom))]
use std::mem::offset_of;
use std::ptr::NonNull;

use crate::layout::{Header, Row, SlotPicture};
#[cfg(not(loom))]
use crate::member::Status;
use crate::refusal::debug_as_text;
use crate::region::{Memory, Region, SlotPtr, Words};
use crate::ring::{BuildError, Ring, RingBuilder};
use crate::sync::SharedByAll;

/// Memory that processes share, and what they need to share a ring in it.
///
/// A member of the ring has a row, and keeps a [`Lease`] of it as long as it lives. A lease ends with its process,
/// however that ends: so a row without one whose member has not left is that of a dead member.
///
/// # Safety
/// 1. [`base`](SharedMemory::base) is always the same, and there are as many bytes as the ring's
///    [`Geometry`] says, aligned as it says, readable for as long as this value lives.
/// 2. Nobody changes these bytes but through rings made of them, in this process.
/// 3. Nobody else has a lease of the row that [`lease`](SharedMemory::lease) gives one for.
/// 4. What a process had stored before its lease ended is visible to others that find that it has ended; and all that a
///    member has ever stored to others that are told that it [has ended](SharedMemory::has_ended).
///
/// # Examples
/// It takes locks that the kernel lets go of when a process ends: package `annulus-ipc` has them.
pub unsafe trait SharedMemory: Send + Sync {
    /// Where the ring lies.
    fn base(&self) -> NonNull<u8>;

    /// Excludes all other processes, and other values of this kind, from changing the member table. Returns false
    /// if that is not to be had. Does not wait.
    fn lock_table(&self) -> bool;

    /// Ends what a successful [`lock_table`](SharedMemory::lock_table) began.
    fn unlock_table(&self);

    /// Takes the lease of a row, if nobody has it. Called with the table locked.
    ///
    /// # Errors
    /// Why the system refuses.
    fn lease(&self, row: usize) -> Result<Option<Lease>, String>;

    /// Whether somebody has the lease of this row, in whatever process.
    fn is_leased(&self, row: usize) -> bool;

    /// Whether the member that has, or had, the lease of this row is proven to do nothing any more. That may be so while the
    /// lease is still there, so that nobody else can have it yet. By default it is so when the lease is not there.
    fn has_ended(&self, row: usize) -> bool {
        !self.is_leased(row)
    }

    /// The process, for people.
    fn process(&self) -> u32;

    /// Whether the name by which others find this memory, if it has one, leads to it no longer.
    fn is_unlinked(&self) -> bool {
        false
    }
}

/// A row's lease, which ends when it is dropped.
pub type Lease = Box<dyn Send + Sync>;

/// Where the parts of a ring lie in its memory, in bytes.
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// let geometry = Ring::builder(8).geometry(std::alloc::Layout::new::<u64>())?;
/// assert_eq!(geometry.slots % 128, 0);
/// assert_eq!(geometry.event_stride, 16); // each with its stamp
/// assert_eq!(geometry.size, geometry.slots + 8 * 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// The length of it all.
    pub size: usize,
    /// How its start is aligned.
    pub align: usize,
    /// Where the member table starts; the words of the ring as a whole lie before it.
    pub rows: usize,
    /// From one row of the member table to the next.
    pub row_stride: usize,
    /// Where the slots start.
    pub slots: usize,
    /// From the start of the slots to the first event.
    pub first_event: usize,
    /// From one event to the next.
    pub event_stride: usize,
    /// From one stamp to the next, the first being at the start of the slots; none if there are no stamps.
    pub stamp_stride: Option<usize>,
}

impl RingBuilder {
    /// How a ring like this one lies in memory, if its events have this size and alignment.
    ///
    /// # Errors
    /// As [`RingBuilder::build`].
    ///
    /// # Examples
    /// See [`Geometry`].
    pub fn geometry(&self, event: alloc::Layout) -> Result<Geometry, BuildError> {
        self.check()?;
        let too_large = BuildError::TooLarge {
            capacity: self.capacity,
            event_size: event.size(),
        };
        let picture = self.picture(event)?;
        let rows = size_of::<Header>();
        let slots = rows + self.members * size_of::<Row>();
        let slots = slots.next_multiple_of(picture.align);
        let size = slots.checked_add(picture.size).ok_or(too_large)?;
        Ok(Geometry {
            size,
            align: picture.align.max(align_of::<Header>()),
            rows,
            row_stride: size_of::<Row>(),
            slots,
            first_event: picture.first_event,
            event_stride: picture.event_stride,
            stamp_stride: picture.stamp_stride,
        })
    }

    fn picture(&self, event: alloc::Layout) -> Result<SlotPicture, BuildError> {
        SlotPicture::of(event, self.layout, self.producers, self.capacity).ok_or(
            BuildError::TooLarge {
                capacity: self.capacity,
                event_size: event.size(),
            },
        )
    }

    /// Makes an empty ring, whose events `factory` makes in the order of their slots.
    ///
    /// # Errors
    /// As [`RingBuilder::build`].
    ///
    /// # Panics
    /// If `factory` panics.
    ///
    /// # Safety
    /// 1. At `base` there are as many bytes as [`RingBuilder::geometry`] says for such events, aligned as it says,
    ///    and nobody else uses them yet.
    /// 2. `T` takes no more space than such an event, and is aligned no more.
    ///
    /// # Examples
    /// See package `annulus-ipc`.
    pub unsafe fn format<T>(
        &self,
        base: NonNull<u8>,
        event: alloc::Layout,
        mut factory: impl FnMut() -> T,
    ) -> Result<(), BuildError> {
        // SAFETY: as the caller promises.
        let slots = unsafe { self.format_words::<T>(base, event) }?;
        for index in 0..self.capacity {
            // SAFETY: one of the slots, and nobody else's.
            unsafe { slots.fill(index, &mut factory) };
        }
        Ok(())
    }

    /// As [`RingBuilder::format`], in memory that is all zeroes, for events of which zeroes are one: none of them is
    /// made and moved, which can be too large for that, and no slot is touched.
    ///
    /// # Errors
    /// As [`RingBuilder::build`].
    ///
    /// # Safety
    /// 1. As [`RingBuilder::format`]'s first, and all of these bytes are zeroes.
    ///
    /// # Examples
    /// See package `annulus-ipc`.
    pub unsafe fn format_zeroed(
        &self,
        base: NonNull<u8>,
        event: alloc::Layout,
    ) -> Result<(), BuildError> {
        // SAFETY: as the caller promises; zeroes are a stamp of a slot that is not published.
        unsafe { self.format_words::<()>(base, event) }.map(drop)
    }

    /// Makes the words of the ring as a whole and its rows, and says where its slots are.
    ///
    /// # Safety
    /// 1. As [`RingBuilder::format`]'s.
    unsafe fn format_words<T>(
        &self,
        base: NonNull<u8>,
        event: alloc::Layout,
    ) -> Result<SlotPtr<T>, BuildError> {
        // SAFETY: as the caller promises.
        let (words, slots) = unsafe { self.parts::<T>(base, event) }?;
        // SAFETY: inside, aligned, and nobody else's.
        unsafe { Header::make(words.header) };
        let rows = words.rows.cast::<Row>();
        for row in 0..self.members {
            // SAFETY: inside.
            let row = unsafe { rows.add(row) };
            // SAFETY: as the header.
            unsafe { Row::make(row) };
        }
        Ok(slots)
    }

    /// Where the parts of the ring are that lies there.
    ///
    /// # Safety
    /// 1. At `base` there are as many bytes as [`RingBuilder::geometry`] says, aligned as it says.
    unsafe fn parts<T>(
        &self,
        base: NonNull<u8>,
        event: alloc::Layout,
    ) -> Result<(Words, SlotPtr<T>), BuildError> {
        let geometry = self.geometry(event)?;
        let picture = self.picture(event)?;
        // SAFETY: inside, as the caller promises.
        let rows = unsafe { base.byte_add(geometry.rows) };
        // SAFETY: as above.
        let slots = unsafe { base.byte_add(geometry.slots) };
        let words = Words {
            header: base.cast(),
            rows: NonNull::slice_from_raw_parts(rows.cast(), self.members),
        };
        // SAFETY: the picture is part of the geometry.
        let slots = unsafe { SlotPtr::at(slots, &picture, self.capacity) };
        Ok((words, slots))
    }

    /// The ring that lies in this memory. Its members may park unless it is told
    /// [otherwise](RingBuilder::no_parking), and only [`Ring::close`] closes it.
    ///
    /// A consumer that joins under the name of a dead one whose gate is [held](crate::OnDeath::Hold) is its
    /// successor, and so is a producer that joins when the only one is dead. Who waits looks for the dead
    /// by itself, as [`Ring::recover`] does.
    ///
    /// # Errors
    /// As [`RingBuilder::build`].
    ///
    /// # Safety
    /// 1. The memory was [formatted](RingBuilder::format) by a builder of the same values for events of this size
    ///    and alignment, and whatever is written there by others is a `T`.
    /// 2. `T` has that size and alignment; or it takes less, and events are what was formatted, or not looked at.
    ///
    /// # Examples
    /// See package `annulus-ipc`.
    pub unsafe fn attach<T: Send + Sync>(
        &self,
        memory: SharedByAll<dyn SharedMemory>,
        event: alloc::Layout,
    ) -> Result<Ring<T>, BuildError> {
        // SAFETY: as the memory's maker promises, if it was formatted so.
        let (words, slots) = unsafe { self.parts(memory.base(), event) }?;
        // SAFETY: they point into the memory, to what the caller promises is there.
        let region = unsafe { Region::shared(words, slots, self, memory) };
        Ok(Ring::of(Memory::new(region)))
    }
}

// In memory that other processes read there are no values as a whole: written as such they would take with them what
// happens to lie between their fields, bytes of this process.
impl Header {
    /// Makes a new header there, and zeroes of what is between its words.
    ///
    /// # Safety
    /// 1. There is room for it, aligned, and nobody else uses it yet.
    pub(crate) unsafe fn make(at: NonNull<Self>) {
        if cfg!(loom) {
            // SAFETY: the caller's promise.
            return unsafe { at.write(Self::new()) };
        }
        // SAFETY: as above; zeroes are a header.
        unsafe { at.write_bytes(0, 1) };
    }
}

impl Row {
    /// Makes a new row there, as [`Header::make`].
    ///
    /// # Safety
    /// 1. There is room for it, aligned, and nobody else uses it yet.
    pub(crate) unsafe fn make(at: NonNull<Self>) {
        if cfg!(loom) {
            // SAFETY: the caller's promise.
            return unsafe { at.write(Self::new()) };
        }
        // SAFETY: as above.
        unsafe { at.write_bytes(0, 1) };
        // SAFETY: zeroes are a row, of somebody who is there; nobody else knows of it.
        unsafe { at.as_ref() }.hot.vacate();
    }
}

/// Makes a ring in memory that a child process has inherited one that nobody can use: whoever tries is told
/// [`Unusable::Inherited`].
///
/// For a process that has just been forked: it allocates nothing, takes no lock and calls nothing.
///
/// # Safety
/// 1. At `base` a page starts that is all zeroes, writable, and this process's own.
///
/// # Examples
/// See package `annulus-ipc`.
pub unsafe fn disown(base: NonNull<u8>) {
    // SAFETY: the header is smaller than a page, and zeroes are one.
    let header = unsafe { base.cast::<Header>().as_ref() };
    header.claimed.disown();
    header.status.disown();
}

// What `disown` writes lies in the first page.
#[cfg(not(loom))]
const _: () = assert!(offset_of!(Header, status) + size_of::<Status>() <= 4096);

/// Why nothing can be done with a ring in memory that processes share.
///
/// # Examples
/// ```
/// # use annulus_ring::Unusable;
/// assert!(Unusable::Busy { process: Some(4711) }.to_string().starts_with("process 4711 has been joining"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unusable {
    /// This process has been forked from the one that opened it.
    Inherited,
    /// What is there cannot be: some process has written what no member of a ring writes.
    Corrupt,
    /// Another process has had the member table locked for seconds, and does not go on.
    Busy {
        /// Which, as it knows itself, if it has said so by then.
        process: Option<u32>,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = match self {
            Self::Inherited => {
                return f.write_str(
                    "the ring was opened before this process was forked, and is its parent's: open it again",
                );
            }
            Self::Corrupt => {
                return f.write_str(
                    "the ring is corrupt: some process has written what no member writes; create it anew",
                );
            }
            Self::Busy { process } => process,
        };
        match process {
            Some(process) => write!(f, "process {process}")?,
            None => f.write_str("another process")?,
        }
        f.write_str(
            " has been joining or leaving the ring for seconds: it is probably stopped, let it go on or end it",
        )
    }
}

debug_as_text!(Unusable);

impl Error for Unusable {}

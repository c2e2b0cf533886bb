//! The start of a ring's file: what the ring is, so that a program knows whether it can use it.
//!
//! ```text
//! byte  0   magic                     "ANNULUS\n"
//!       8   layout version            major u16, minor u16: of these bytes and of what lies behind them
//!      12   byte order                u32 1: little endian, 2: big endian; of the ring's words
//!      16   features                  u64 a reader has to know them all
//!      24   features that can be ignored   u64
//!      32   capacity                  u64
//!      40   members                   u32, and consumers that producers require u32
//!      48   size of an event          u64, and its alignment u64
//!      64   from event to event       u64, and from stamp to stamp u64, 0 without stamps
//!      80   start of the ring         u64, and the length of the file u64; from there on:
//!      96   fingerprint of the type   u64
//!     104   description of the type   u32 start, u32 length, UTF-8
//!     112   attributes                u32 start, u32 length, UTF-8: a line "key=value" each
//!     120   start of the member table u64, and from row to row u64
//!     136   start of the slots        u64, and from there to the first event u64
//!     152   reserved                  zeroes
//!     160   the two texts, and zeroes up to
//!    4096 n header, member table, stamps and slots of the ring, as `annulus-ring` lays them out
//! ```
//!
//! Numbers are little endian here, whatever they are in the ring. Nothing of this changes once the file
//! is visible; who opens it checks all of it once, and goes by a copy.
//!
//! Where things lie follows from the capacity, the type and so on; it is written down too, for a program in which something
//! else follows from them. That one says so, and does not take the ring for a damaged one.

use std::alloc;
use std::collections::BTreeMap;

use annulus_ring::{Geometry, Layout, Producers, RingBuilder};

use crate::plain::{Description, Plain};
use crate::refusal::Cause;

const MAGIC: [u8; 8] = *b"ANNULUS\n";
pub(crate) const MAJOR: u16 = 2;
const MINOR: u16 = 0;
const LITTLE_ENDIAN: u32 = 1;
const BIG_ENDIAN: u32 = 2;
const TEXTS: usize = 160;
pub(crate) const PAGE: usize = 4096;

/// The ring starts at most so far into the file: descriptions and attributes are short.
pub(crate) const MAX_HEADER: usize = 16 * PAGE;

const MANY_PRODUCERS: u64 = 1 << 0;
const APART: u64 = 1 << 1;
const PARKING: u64 = 1 << 2;
const OBSERVABLE: u64 = 1 << 3;
const KNOWN_FEATURES: u64 = MANY_PRODUCERS | APART | PARKING | OBSERVABLE;

/// What the start of a file says.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) ring: RingBuilder,
    pub(crate) description: Description,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// The description of `T`, if it is one: it comes from safe code, and how long the memory of a ring is follows from it,
/// while where its events lie follows from `T`.
pub(crate) fn describe<T: Plain>() -> Result<Description, Cause> {
    let description = T::description();
    let of_type = alloc::Layout::new::<T>();
    if (description.size, description.align) != (of_type.size(), of_type.align()) {
        return Err(Cause::Description {
            why: format!(
                "it says size {} and alignment {}, and {} has size {} and alignment {}",
                description.size,
                description.align,
                std::any::type_name::<T>(),
                of_type.size(),
                of_type.align(),
            ),
        });
    }
    let text = description.text();
    if Description::parse(&text).as_ref() != Some(&description) {
        return Err(Cause::Description {
            why: format!("a name in it is none: {text:?}"),
        });
    }
    Ok(description)
}

/// Where things lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The start of the ring.
    pub(crate) ring: usize,
    /// The length of the file; longer if that has to be a multiple of some page.
    pub(crate) len: usize,
}

impl Header {
    pub(crate) fn event(&self) -> Result<alloc::Layout, Cause> {
        let Description { size, align, .. } = self.description;
        alloc::Layout::from_size_align(size, align)
            .map_err(|_| Cause::Damaged("size or alignment of an event"))
    }

    /// The bytes of the header, and where things lie.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, Extent), Cause> {
        let description = self.description.text();
        let attributes = write_attributes(&self.attributes)?;
        let (geometry, extent) = self.extent(description.len(), attributes.len())?;
        let attributes_at = TEXTS + description.len();

        let mut bytes = Vec::with_capacity(TEXTS + description.len() + attributes.len());
        bytes.extend(MAGIC);
        bytes.extend(MAJOR.to_le_bytes());
        bytes.extend(MINOR.to_le_bytes());
        bytes.extend(byte_order().to_le_bytes());
        bytes.extend(self.features().to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend((self.ring.capacity as u64).to_le_bytes());
        bytes.extend((self.ring.members as u32).to_le_bytes());
        bytes.extend((self.ring.required_consumers as u32).to_le_bytes());
        for number in [
            self.description.size,
            self.description.align,
            geometry.event_stride,
            geometry.stamp_stride.unwrap_or(0),
            extent.ring,
            extent.len,
        ] {
            bytes.extend((number as u64).to_le_bytes());
        }
        bytes.extend(self.description.fingerprint().to_le_bytes());
        for number in [TEXTS, description.len(), attributes_at, attributes.len()] {
            bytes.extend((number as u32).to_le_bytes());
        }
        for number in [
            geometry.rows,
            geometry.row_stride,
            geometry.slots,
            geometry.first_event,
        ] {
            bytes.extend((number as u64).to_le_bytes());
        }
        bytes.resize(TEXTS, 0);
        bytes.extend(description.as_bytes());
        bytes.extend(attributes.as_bytes());
        Ok((bytes, extent))
    }

    /// What these bytes, with which a file of `file_len` bytes starts, say, if all of it is right.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Result<(Self, Extent), Cause> {
        if bytes.len() < TEXTS || bytes[..8] != MAGIC {
            return Err(Cause::NotARing);
        }
        let words = Words(bytes);
        let (major, minor) = (words.u16(8), words.u16(10));
        if major != MAJOR {
            return Err(Cause::Version { major, minor });
        }
        if words.u32(12) != byte_order() {
            return Err(Cause::ByteOrder);
        }
        let features = words.u64(16);
        if features & !KNOWN_FEATURES != 0 {
            let unknown = features & !KNOWN_FEATURES;
            return Err(Cause::Features { unknown });
        }
        let text = |at: usize| {
            let (start, len) = (words.u32(at) as usize, words.u32(at + 4) as usize);
            let bytes = bytes.get(start..).and_then(|bytes| bytes.get(..len));
            bytes.and_then(|bytes| std::str::from_utf8(bytes).ok())
        };
        let len = words.u64(88);
        if len <= file_len && isize::try_from(len).is_err() {
            return Err(Cause::TooWide { len });
        }
        let number =
            |at: usize, what| usize::try_from(words.u64(at)).map_err(|_| Cause::Damaged(what));

        let description = text(104)
            .and_then(Description::parse)
            .ok_or(Cause::Damaged("description of the events"))?;
        let mut ring = RingBuilder::from(number(32, "capacity")?)
            .members(words.u32(40) as usize)
            .require_consumers(words.u32(44) as usize);
        ring.producers = if features & MANY_PRODUCERS != 0 {
            Producers::Many
        } else {
            Producers::One
        };
        ring.layout = if features & APART != 0 {
            Layout::Apart
        } else {
            Layout::Beside
        };
        ring.parking = Some(features & PARKING != 0);
        ring.observable = features & OBSERVABLE != 0;
        let header = Self {
            ring,
            attributes: text(112)
                .and_then(read_attributes)
                .ok_or(Cause::Damaged("attributes"))?,
            description,
        };

        // All else follows from this, and has to be what is written there.
        let texts = (words.u32(108) as usize, words.u32(116) as usize);
        let (geometry, extent) = header
            .extent(texts.0, texts.1)
            .map_err(|cause| match cause {
                Cause::Build(_) => Cause::Damaged("capacity or members"),
                other => other,
            })?;
        for (at, what, right) in [
            (48, "size of an event", header.description.size),
            (56, "alignment of an event", header.description.align),
            (80, "start of the ring", extent.ring),
        ] {
            if words.u64(at) != right as u64 {
                return Err(Cause::Damaged(what));
            }
        }
        if words.u64(96) != header.description.fingerprint() {
            return Err(Cause::Damaged("fingerprint of the type"));
        }
        for (at, what, here) in [
            (64, "distance of events", geometry.event_stride),
            (72, "distance of stamps", geometry.stamp_stride.unwrap_or(0)),
            (120, "start of the member table", geometry.rows),
            (128, "distance of members", geometry.row_stride),
            (136, "start of the slots", geometry.slots),
            (144, "start of the events", geometry.first_event),
        ] {
            let (here, there) = (here as u64, words.u64(at));
            if there != here {
                return Err(Cause::Layout { what, here, there });
            }
        }
        if len != extent.len as u64 {
            return Err(Cause::Damaged("length of the file"));
        }
        if file_len < extent.len as u64 {
            return Err(Cause::Damaged("length of the file, which was cut short"));
        }
        Ok((header, extent))
    }

    fn extent(&self, description: usize, attributes: usize) -> Result<(Geometry, Extent), Cause> {
        let event = self.event()?;
        let geometry = self.ring.geometry(event).map_err(Cause::Build)?;
        if geometry.align > PAGE {
            return Err(Cause::Alignment {
                align: event.align(),
            });
        }
        let ring = (TEXTS.saturating_add(description).saturating_add(attributes))
            .checked_next_multiple_of(PAGE)
            .filter(|&ring| ring <= MAX_HEADER)
            .ok_or(Cause::Texts {
                most: MAX_HEADER - TEXTS,
            })?;
        let len = ring
            .checked_add(geometry.size)
            .and_then(|len| len.checked_next_multiple_of(PAGE));
        let len = len
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or(Cause::NoSpace { needed: u64::MAX })?;
        Ok((geometry, Extent { ring, len }))
    }

    fn features(&self) -> u64 {
        let mut features = 0;
        for (bit, is_there) in [
            (MANY_PRODUCERS, self.ring.producers == Producers::Many),
            (APART, self.ring.layout == Layout::Apart),
            (PARKING, self.ring.parking.unwrap_or(true)),
            (OBSERVABLE, self.ring.observable),
        ] {
            features |= if is_there { bit } else { 0 };
        }
        features
    }
}

fn byte_order() -> u32 {
    if cfg!(target_endian = "little") {
        LITTLE_ENDIAN
    } else {
        BIG_ENDIAN
    }
}

/// Little-endian numbers of a header, which has them all.
struct Words<'b>(&'b [u8]);

impl Words<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("as long as it is")
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
}

fn write_attributes(attributes: &BTreeMap<String, String>) -> Result<String, Cause> {
    let mut text = String::new();
    for (key, value) in attributes {
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        if key.is_empty() || key.contains('=') || !is_plain(key) || !is_plain(value) {
            return Err(Cause::Attribute { key: key.clone() });
        }
        text.push_str(&format!("{key}={value}\n"));
    }
    Ok(text)
}

fn read_attributes(text: &str) -> Option<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    for line in text.lines() {
        let (key, value) = line.split_once('=')?;
        attributes.insert(key.to_owned(), value.to_owned());
    }
    // What comes out of it is safe to print, and is what was written.
    (write_attributes(&attributes).ok()? == text).then_some(attributes)
}

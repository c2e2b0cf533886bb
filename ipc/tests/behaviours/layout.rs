//! The bytes of a ring's file, as version 2.0 of the layout has them.
//!
//! They are written out here, and not taken from the code: programs that were built with another version of this
//! library read them, and programs for another width of pointers: the test program `widths` runs these tests there too. Who has to change one of these tests changes what others find in rings: that takes another
//! version of the layout, or a feature bit.

use std::fs;

use annulus_ipc::{Plain, Segment};
use annulus_ring::{Layout, Producers, Ring, RingBuilder};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::place::Place;

#[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(8))] // for any width of pointers
struct Quote {
    instrument: u64,
    price: i64,
    size: u32,
    flags: u32,
}

const DESCRIPTION: &str =
    "Quote size 24 align 8\ninstrument @0 u64\nprice @8 i64\nsize @16 u32\nflags @20 u32";

/// The file of an empty ring.
fn file(ring: RingBuilder, attributes: &[(&str, &str)]) -> Vec<u8> {
    let place = Place::new();
    let mut builder = Segment::builder(ring).directory(place.directory().clone());
    for &(key, value) in attributes {
        builder = builder.attribute(key, value);
    }
    let ring = builder
        .create::<Quote>("ring")
        .expect("a ring can be created");
    fs::read(ring.path().expect("it has a name")).expect("it can be read")
}

/// Bytes at some places, and zeroes everywhere else.
struct Picture(Vec<u8>);

impl Picture {
    fn of_zeroes(len: usize) -> Self {
        Self(vec![0; len])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        assert!(
            self.0[at..at + bytes.len()].iter().all(|byte| *byte == 0),
            "{at} is taken"
        );
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn u16(&mut self, at: usize, number: u16) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    fn u32(&mut self, at: usize, number: u32) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    fn u64(&mut self, at: usize, number: u64) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    fn is(&self, file: &[u8]) {
        let differs = self
            .0
            .iter()
            .zip(file)
            .position(|(here, there)| here != there);
        if let Some(at) = differs {
            let line = at / 8 * 8;
            let (here, there) = (&self.0[line..line + 8], &file[line..line + 8]);
            panic!("byte {at}: expected {here:02x?}, found {there:02x?} from {line} on");
        }
        assert_eq!(self.0.len(), file.len());
    }
}

/// The rows of a member table, of which each starts with a position and an intent, both of them none, and has how long
/// it is to be held: for ever.
fn rows(picture: &mut Picture, members: usize) {
    for row in 0..members {
        let at = 4096 + 768 + row * 256;
        picture.u64(at, u64::MAX).u64(at + 8, u64::MAX);
        picture.u64(at + 32, u64::MAX);
    }
}

#[test]
fn the_first_page_and_all_the_rest_of_a_ring_of_one_producer_are_these_bytes() {
    let file = file(
        Ring::builder(8).members(4),
        &[("schema", "7"), ("date", "2026-06-30")],
    );
    let attributes = "date=2026-06-30\nschema=7\n";
    let mut picture = Picture::of_zeroes(8192);
    picture
        .put(0, b"ANNULUS\n")
        .u16(8, 2) // the layout's version: 2.0
        .u16(10, 0)
        .u32(12, 1) // little endian
        .u64(16, 0b0100) // features: parking
        .u64(24, 0)
        .u64(32, 8) // capacity
        .u32(40, 4) // members
        .u32(44, 0) // required consumers
        .u64(48, 24) // an event: its size
        .u64(56, 8) // its alignment
        .u64(64, 32) // from one to the next
        .u64(72, 32) // from stamp to stamp
        .u64(80, 4096) // the ring starts here
        .u64(88, 8192) // the length of it all
        .u64(96, 0x3c43_3179_f31e_6d0c) // the fingerprint of the type
        .u32(104, 160)
        .u32(108, DESCRIPTION.len() as u32)
        .u32(112, 160 + DESCRIPTION.len() as u32)
        .u32(116, attributes.len() as u32)
        .u64(120, 768) // the member table starts here, in the ring
        .u64(128, 256) // from row to row
        .u64(136, 768 + 4 * 256) // the slots start here, in the ring
        .u64(144, 8) // from there to the first event
        .put(160, DESCRIPTION.as_bytes())
        .put(160 + DESCRIPTION.len(), attributes.as_bytes());
    rows(&mut picture, 4);
    picture.is(&file);
}

#[test]
fn a_ring_of_many_producers_with_stamps_apart_is_these_bytes() {
    let ring = Ring::builder(64)
        .producers(Producers::Many)
        .layout(Layout::Apart)
        .members(16)
        .require_consumers(3)
        .observable()
        .no_parking();
    let file = file(ring, &[]);
    // Header, rows and stamps, on 128 bytes each; then the events.
    let len: usize = 4096 + 768 + 16 * 256 + 64 * 8 + 64 * 24;
    let mut picture = Picture::of_zeroes(len.next_multiple_of(4096));
    picture
        .put(0, b"ANNULUS\n")
        .u16(8, 2)
        .u32(12, 1)
        .u64(16, 0b1011) // many producers, apart, observable
        .u64(32, 64)
        .u32(40, 16)
        .u32(44, 3)
        .u64(48, 24)
        .u64(56, 8)
        .u64(64, 24)
        .u64(72, 8)
        .u64(80, 4096)
        .u64(88, len.next_multiple_of(4096) as u64)
        .u64(96, 0x3c43_3179_f31e_6d0c)
        .u32(104, 160)
        .u32(108, DESCRIPTION.len() as u32)
        .u32(112, 160 + DESCRIPTION.len() as u32)
        .u32(116, 0)
        .u64(120, 768)
        .u64(128, 256)
        .u64(136, 768 + 16 * 256)
        .u64(144, 64 * 8)
        .put(160, DESCRIPTION.as_bytes());
    rows(&mut picture, 16);
    picture.is(&file);
}

#[test]
fn what_members_write_lies_at_these_places() {
    let place = Place::new();
    let ring = place.create::<u64>(
        "ring",
        Ring::builder(8).producers(Producers::Many).members(3),
    );
    let mut book = ring.consumer("book").join().expect("it joins");
    let mut feed = ring.shared_producer().expect("it joins");
    let mut claim = feed.claim(3).expect("there is room");
    (claim[0], claim[1], claim[2]) = (0x11, 0x22, 0x33);
    claim.publish();
    drop(feed.claim(2).expect("there is room"));
    drop(book.try_next_batch().expect("events"));
    let file = fs::read(ring.path().expect("it has a name")).expect("it can be read");

    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("8 bytes"));
    let (header, row) = (4096, |row: usize| 4096 + 768 + row * 256);
    let slots = 4096 + 768 + 3 * 256;
    assert_eq!(word(header), 5, "claimed");
    assert_eq!(word(header + 256), 0, "floor");
    assert_eq!(word(header + 384), 0, "signal: neither closed nor poisoned");
    assert_eq!(
        word(header + 384 + 8),
        1,
        "version: one consumer has joined"
    );
    assert_eq!(word(row(0)), 3, "position of the consumer");
    assert_eq!(
        word(row(1) + 8),
        3,
        "intent of the producer: its latest claim"
    );
    assert_eq!(word(row(0) + 24), std::process::id().into(), "process");
    assert_eq!(word(row(0) + 128), 3, "end of the batch of its position");
    assert_eq!(
        (word(row(0) + 144), word(row(1) + 144)),
        (3, 1),
        "a consumer, a producer"
    );
    assert_eq!(
        word(row(1) + 136),
        2,
        "sequences that the producer has given up"
    );
    assert_eq!(word(row(0) + 168), 4, "length of the name");
    assert_eq!(&file[row(0) + 176..row(0) + 180], b"book");
    assert_eq!(word(slots), 3, "stamp of the first batch");
    assert_eq!(
        [8, 24, 40].map(|at| word(slots + at)),
        [0x11, 0x22, 0x33],
        "events"
    );
    assert_eq!(
        word(slots + 3 * 16),
        5 | 1 << 63,
        "stamp of what is skipped"
    );
}

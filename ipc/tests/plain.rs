//! What `#[derive(Plain)]` describes, and what another process reads in it.

use annulus_ipc::{Description, Field, Plain};
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Plain, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Leg {
    ratio: u32,
    side: u32,
}

#[derive(Plain, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Quote {
    instrument: u64,
    price: i64,
    legs: [Leg; 2],
}

// ---------------------------------------------------------------------------------------------
// The derive
// ---------------------------------------------------------------------------------------------

#[test]
fn structs_and_arrays_of_structs_are_described_to_their_last_field() {
    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Book {
        best: Quote,
        depth: [[Quote; 2]; 3],
        venue: [u8; 8],
    }
    let text = "Book size 232 align 8\n\
                best @0 Quote\n\
                best.instrument @0 u64\n\
                best.price @8 i64\n\
                best.legs @16 [Leg; 2]\n\
                best.legs[].ratio @16 u32\n\
                best.legs[].side @20 u32\n\
                depth @32 [[Quote; 2]; 3]\n\
                depth[][].instrument @32 u64\n\
                depth[][].price @40 i64\n\
                depth[][].legs @48 [Leg; 2]\n\
                depth[][].legs[].ratio @48 u32\n\
                depth[][].legs[].side @52 u32\n\
                venue @224 [u8; 8]";
    assert_eq!(Book::description().text(), text);
    assert_eq!(Description::parse(text), Some(Book::description()));

    let text = "[[Leg; 1]; 2] size 16 align 4\n[][].ratio @0 u32\n[][].side @4 u32";
    assert_eq!(<[[Leg; 1]; 2]>::description().text(), text);
    assert_eq!(
        Description::parse(text),
        Some(<[[Leg; 1]; 2]>::description())
    );
}

#[test]
fn fields_keep_the_names_that_people_know() {
    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(transparent)]
    struct Ticks(i64);

    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Pair(u32, f32);

    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    #[allow(non_camel_case_types)]
    struct r#match {
        r#type: Ticks,
        größe: Pair,
    }
    let text = "match size 16 align 8\n\
                type @0 Ticks\n\
                type.0 @0 i64\n\
                größe @8 Pair\n\
                größe.0 @8 u32\n\
                größe.1 @12 f32";
    assert_eq!(r#match::description().text(), text);
    assert_eq!(Description::parse(text), Some(r#match::description()));
}

#[test]
fn alignment_and_packing_are_seen() {
    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C, align(64))]
    struct Line {
        words: [u64; 8],
    }

    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C, packed)]
    struct Packet {
        kind: u8,
        price: u64,
    }

    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Wire {
        kind: u8,
        shares: U32,
        price: U64,
    }

    #[derive(Plain, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Nothing {}

    let text = |description: Description| description.text();
    assert_eq!(
        text(Line::description()),
        "Line size 64 align 64\nwords @0 [u64; 8]"
    );
    assert_eq!(
        text(Packet::description()),
        "Packet size 9 align 1\nkind @0 u8\nprice @1 u64"
    );
    assert_eq!(
        text(Wire::description()),
        "Wire size 13 align 1\nkind @0 u8\nshares @1 u32_le\nprice @5 u64_le"
    );
    assert_eq!(text(Nothing::description()), "Nothing size 0 align 1");
}

// ---------------------------------------------------------------------------------------------
// What others are told
// ---------------------------------------------------------------------------------------------

/// Rings outlive the programs that made them: another fingerprint of the same type would shut them out.
#[test]
fn the_fingerprint_of_a_type_stays() {
    assert_eq!(Quote::description().fingerprint(), 0x29c7_faec_8075_919c);
}

#[track_caller]
fn assert_differences(theirs: &str, expected: &[&str]) {
    let theirs = Description::parse(theirs).unwrap();
    assert_eq!(Quote::description().differences(&theirs), expected);
}

#[test]
fn each_difference_is_said_once() {
    assert_differences(&Quote::description().text(), &[]);
    assert_differences(
        "Trade size 32 align 16\n\
         instrument @0 u64\n\
         price @8 i64\n\
         legs @16 [Leg; 2]\n\
         legs[].ratio @16 u32\n\
         legs[].side @20 u32",
        &[
            "the type is Quote here, Trade in the ring",
            "alignment 8 here, 16 in the ring",
        ],
    );
    assert_differences(
        "Quote size 40 align 8\n\
         price @0 f64\n\
         instrument @8 u64\n\
         venue @16 Venue\n\
         venue.country @16 u32\n\
         venue.code @20 u32\n\
         legs @24 [Leg; 2]\n\
         legs[].side @24 u32\n\
         legs[].shares @28 u32",
        &[
            "size 32 here, 40 in the ring",
            "field instrument is at byte 0 here, at byte 8 in the ring",
            "field price is i64 at byte 8 here, f64 at byte 0 in the ring",
            "field legs is at byte 16 here, at byte 24 in the ring",
            "field legs[].ratio is only here",
            "field legs[].side is at byte 20 here, at byte 24 in the ring",
            "field venue is only in the ring",
            "field legs[].shares is only in the ring",
        ],
    );
    // As a program of 32 bits has it.
    let narrow = Quote::description().text().replace("align 8", "align 4");
    assert_differences(
        &narrow,
        &[
            "alignment 8 here, 4 in the ring (programs of 32 bits align 64-bit numbers to 4 bytes: a struct with \
           `#[repr(C, align(8))]` is the same in all)",
        ],
    );
    // The fields of another type are another matter.
    assert_differences(
        "Quote size 32 align 8\n\
         instrument @0 u64\n\
         price @8 i64\n\
         legs @16 Legs\n\
         legs.first @16 u64\n\
         legs.second @24 u64",
        &["field legs at byte 16 is [Leg; 2] here, Legs in the ring"],
    );
}

#[test]
fn what_no_description_writes_is_no_description() {
    for text in [
        "",
        "\n",
        "u64",
        "u64 size 8",
        "u64 size 8 align 8\n",
        " u64 size 8 align 8",
        "u64 size 8 align 8 ",
        "u64 size +8 align 8",
        "u64 size 08 align 8",
        "u64 size -8 align 8",
        "u64 size 99999999999999999999 align 8",
        "u64  size 8 align 8",
        "[u64; 01] size 8 align 8",
        "[u64;1] size 8 align 8",
        "[u64] size 8 align 8",
        "[[u64; 1] size 8 align 8",
        "A size 8 align 8\r\nb @0 u64",
        "A size 8 align 8\n\nb @0 u64",
        "A size 8 align 8\nb @ u64",
        "A size 8 align 8\nb @0 ",
        "A size 8 align 8\n @0 u64",
        "A size 8 align 8\n. @0 u64",
        "A size 8 align 8\nb. @0 u64",
        "A size 8 align 8\n.b @0 u64",
        "A size 8 align 8\n[]b @0 u64",
        "A size 8 align 8\n[] @0 u64",
        "A size 8 align 8\nb.[] @0 u64",
        "A size 8 align 8\nb[]c @0 u64",
        "A size 8 align 8\nb @0 &u64",
        "A size 8 align 8\nb @0 Vec<u64>",
        // What a terminal obeys instead of showing it, and what turns the text around.
        "A size 8 align 8\n\u{1b}[2J @0 u64",
        "A size 8 align 8\nb @0 \u{9b}2J",
        "A\u{202e} size 8 align 8",
        "A\u{3000}B size 8 align 8",
    ] {
        assert_eq!(Description::parse(text), None, "{text:?}");
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        // Unoptimised, the default takes three quarters of the time.
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    }
}

/// Few short names, so that descriptions have some in common, and others.
const NAME: &str = "[ab]|[A-Za-z_][A-Za-z0-9_]{0,9}|größe|数量";

fn ty() -> impl Strategy<Value = String> {
    (NAME, prop::collection::vec(any::<usize>(), 0..3)).prop_map(|(name, lengths)| {
        let array = |element, length| format!("[{element}; {length}]");
        lengths.into_iter().fold(name, array)
    })
}

fn path() -> impl Strategy<Value = String> {
    let name = (NAME, 0..3_usize).prop_map(|(name, arrays)| name + &"[]".repeat(arrays));
    (0..3_usize, prop::collection::vec(name, 1..4)).prop_map(|(arrays, names)| {
        let dot = if arrays > 0 { "." } else { "" };
        "[]".repeat(arrays) + dot + &names.join(".")
    })
}

fn field() -> impl Strategy<Value = Field> {
    (path(), any::<usize>(), ty()).prop_map(|(path, offset, ty)| Field { path, offset, ty })
}

fn description() -> impl Strategy<Value = Description> {
    let fields = prop::collection::vec(field(), 0..6);
    (ty(), any::<usize>(), any::<usize>(), fields).prop_map(|(name, size, align, fields)| {
        Description {
            name,
            size,
            align,
            fields,
        }
    })
}

/// A piece of text to put in the place of another: some that mean something, and anything.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "", " ", "\n", "@", ".", "[", "]", "[]", "; ", "0", "9", "a", " size ", " align ", "ü",
            "\r"
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

/// If anything is read, it is what was written.
fn assert_read_as_written(text: &str) {
    if let Some(description) = Description::parse(text) {
        assert_eq!(description.text(), text);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_description_survives_its_text(description in description()) {
        let read = Description::parse(&description.text());
        prop_assert_eq!(read.as_ref(), Some(&description));
    }

    #[test]
    fn any_text_can_be_read(pieces in prop::collection::vec(piece(), 0..20)) {
        assert_read_as_written(&pieces.concat());
    }

    #[test]
    fn a_damaged_text_is_refused_or_read_as_it_is(
        description in description(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, piece()), 1..4),
    ) {
        let mut text: Vec<char> = description.text().chars().collect();
        for (place, length, piece) in damages {
            let start = place.index(text.len() + 1);
            let end = text.len().min(start + length);
            text.splice(start..end, piece.chars());
        }
        assert_read_as_written(&text.into_iter().collect::<String>());
    }

    #[test]
    fn descriptions_that_differ_have_differences(
        here in description(),
        there in description(),
        shared in prop::collection::vec(field(), 0..4),
    ) {
        prop_assert!(here.differences(&here).is_empty());
        let (mut here, mut there) = (here, there);
        for description in [&mut here, &mut there] {
            description.fields.extend_from_slice(&shared);
        }
        prop_assert_eq!(here.differences(&there).is_empty(), here == there);
        there.name.clone_from(&here.name);
        (there.size, there.align) = (here.size, here.align);
        prop_assert_eq!(here.differences(&there).is_empty(), here == there);
        prop_assert_eq!(here.fingerprint() == there.fingerprint(), here == there);
    }
}

//! Which types may cross a process boundary, and how one program tells another what they look like.
//!
//! Two programs that share a ring are compiled apart, by other people at another time. Whatever bytes one
//! finds in the ring are a value of its event type, so nothing goes wrong in its memory; but whether it is
//! the value that was meant depends on fields, offsets and types being the same. So a ring carries the text of
//! its type's [`Description`] and the fingerprint of that text: the fingerprint to compare, the text to say
//! what differs.
//!
//! ```text
//! Quote size 32 align 8       the type; its size and alignment in bytes
//! instrument @0 u64           field, offset from the start of the event, type
//! price @8 i64
//! legs @16 [Leg; 2]           an array ...
//! legs[].ratio @16 u32        ... and a field of one element: of the first
//! legs[].side @20 u32
//! ```
//!
//! Byte order is no part of it: a ring says that once, for all of its words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use zerocopy::{FromBytes, Immutable, IntoBytes, little_endian};

/// A type whose values may lie in memory that other processes read and write.
///
/// Every bit pattern is a value, no byte is padding, nothing is hidden in it that only one process can use:
/// that is what the traits say which it requires, and what zerocopy checks where it derives them. This one
/// adds the description that others compare with theirs. To implement it is safe: a description that is wrong
/// has a ring refused, or events misread, and nothing worse; the size and alignment in it are compared with the type's.
///
/// It is implemented for integers of 8 to 128 bits, `f32`, `f64`, zerocopy's little-endian numbers, and arrays
/// of what is plain. Derive it for structs of these. Some types are left out on purpose:
///
/// * `usize` and `isize` have another size in another program: say `u64` or `i64`.
///   Some programs of 32 bits align 64-bit numbers to 4 bytes: what they share with others is a struct with
///   `#[repr(C, align(8))]`, or made of zerocopy's numbers.
/// * `bool`, `char`, enums and references are not valid whatever their bits are: keep an integer, and convert.
///
/// # Examples
/// ```
/// use annulus_ipc::Plain;
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Leg { ratio: u32, side: u32 }
///
/// #[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Quote { instrument: u64, price: i64, legs: [Leg; 2] }
///
/// assert_eq!(Quote::description().text(), "\
/// Quote size 32 align 8
/// instrument @0 u64
/// price @8 i64
/// legs @16 [Leg; 2]
/// legs[].ratio @16 u32
/// legs[].side @20 u32");
/// ```
/// Who depends on the crate `annulus` alone takes it from `annulus::ipc`. Neither that crate nor zerocopy has to be a
/// dependency of the crate that derives: one that reaches them through another says so to both derives.
/// ```
/// # mod platform { pub mod ipc { pub use annulus_ipc::*; } }
/// use platform::ipc::Plain;
/// use platform::ipc::zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
/// #[plain(crate = platform::ipc)]
/// #[zerocopy(crate = "annulus_ipc::zerocopy")] // as a path from a crate
/// #[repr(transparent)]
/// struct Price(i64);
///
/// assert_eq!(Price::description().text(), "Price size 8 align 8\n0 @0 i64");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Plain`, so it cannot lie in memory that other processes share",
    label = "not `Plain`",
    note = "for a struct add `#[derive(Plain, FromBytes, IntoBytes, Immutable)]` and `#[repr(C)]`",
    note = "use `u64` or `i64` for `usize` and `isize`, an integer for `bool`, `char` and enums, an array or an index \
            for what a pointer or reference leads to"
)]
pub trait Plain: FromBytes + IntoBytes + Immutable + Send + Sync + 'static {
    /// What the type looks like in memory, as this program is compiled.
    ///
    /// # Examples
    /// See [`Plain`].
    fn description() -> Description;
}

macro_rules! describe_numbers {
    ($($number:ty: $name:literal,)*) => {$(
        impl Plain for $number {
            fn description() -> Description {
                Description::of::<Self>($name, [])
            }
        }
    )*};
}

describe_numbers! {
    u8: "u8",
    u16: "u16",
    u32: "u32",
    u64: "u64",
    u128: "u128",
    i8: "i8",
    i16: "i16",
    i32: "i32",
    i64: "i64",
    i128: "i128",
    f32: "f32",
    f64: "f64",
    little_endian::U16: "u16_le",
    little_endian::U32: "u32_le",
    little_endian::U64: "u64_le",
    little_endian::U128: "u128_le",
    little_endian::I16: "i16_le",
    little_endian::I32: "i32_le",
    little_endian::I64: "i64_le",
    little_endian::I128: "i128_le",
    little_endian::F32: "f32_le",
    little_endian::F64: "f64_le",
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    fn description() -> Description {
        let element = T::description();
        let fields = element.fields.into_iter();
        Description {
            name: format!("[{}; {N}]", element.name),
            size: size_of::<Self>(),
            align: align_of::<Self>(),
            fields: fields.map(|field| field.inside("[]", 0)).collect(),
        }
    }
}

/// What a type looks like in memory: made by [`Plain::description`], written by [`text`](Description::text),
/// read by [`parse`](Description::parse).
///
/// # Examples
/// ```
/// use annulus_ipc::{Description, Field, Plain};
///
/// let price = Field { path: "price".into(), offset: 8, ty: "i64".into() };
/// let quote = Description::parse("Quote size 16 align 8\ninstrument @0 u64\nprice @8 i64").unwrap();
/// assert_eq!((quote.name.as_str(), quote.size, quote.align), ("Quote", 16, 8));
/// assert_eq!(quote.fields[1], price);
/// assert!(u64::description().fields.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name of the type, without the modules it lies in.
    pub name: String,
    /// Its size in bytes.
    pub size: usize,
    /// Its alignment in bytes.
    pub align: usize,
    /// Its fields as they are declared; behind each that is a struct itself, or an array of structs, the fields
    /// of that.
    pub fields: Vec<Field>,
}

/// One line of a [`Description`].
///
/// # Examples
/// See [`Description`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name of the field, behind the path of the struct that it is in: `price`, `leg.ratio`; of one element
    /// of an array: `legs[].ratio`; in a tuple its number.
    pub path: String,
    /// How many bytes lie before it in the whole type; in an array, before that of the first element.
    pub offset: usize,
    /// The name of its type; of an array `[u8; 16]`.
    pub ty: String,
}

impl Description {
    /// Describes `T` by its name and, for each field, name, offset, and type; as `#[derive(Plain)]` does.
    ///
    /// # Examples
    /// ```
    /// use annulus_ipc::{Description, Plain};
    /// use zerocopy::{FromBytes, Immutable, IntoBytes};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable)]
    /// #[repr(transparent)]
    /// struct Price(i64);
    ///
    /// impl Plain for Price {
    ///     fn description() -> Description {
    ///         Description::of::<Self>("Price", [("ticks", 0, i64::description())])
    ///     }
    /// }
    /// assert_eq!(Price::description().text(), "Price size 8 align 8\nticks @0 i64");
    /// ```
    #[must_use]
    pub fn of<T>(
        name: &str,
        fields: impl IntoIterator<Item = (&'static str, usize, Description)>,
    ) -> Self {
        let mut lines = Vec::new();
        for (path, offset, description) in fields {
            lines.push(Field {
                path: path.to_owned(),
                offset,
                ty: description.name,
            });
            let inner = description.fields.into_iter();
            lines.extend(inner.map(|field| field.inside(path, offset)));
        }
        Self {
            name: name.to_owned(),
            size: size_of::<T>(),
            align: align_of::<T>(),
            fields: lines,
        }
    }

    /// The one way to write this description down: a line for the type, and one for each field.
    ///
    /// # Examples
    /// See [`Plain`].
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            name, size, align, ..
        } = self;
        let mut text = format!("{name} size {size} align {align}");
        for Field { path, offset, ty } in &self.fields {
            write!(text, "\n{path} @{offset} {ty}").expect("a string takes all that is written");
        }
        text
    }

    /// Reads what [`text`](Description::text) has written, in this program or another one; nothing else is
    /// taken for a description.
    ///
    /// The text may come from anybody: it is read once, without recursion, and what it names are words that can
    /// be shown to people. Whether its numbers make sense is not looked at.
    ///
    /// # Examples
    /// ```
    /// use annulus_ipc::{Description, Plain};
    ///
    /// assert_eq!(Description::parse("[u8; 16] size 16 align 1"), Some(<[u8; 16]>::description()));
    /// assert_eq!(Description::parse("[u8; 16] size 0x10 align 1"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (name, numbers) = lines.next()?.split_once(" size ")?;
        let (size, align) = numbers.split_once(" align ")?;
        if !is_type(name) {
            return None;
        }
        let description = Self {
            name: name.to_owned(),
            size: size.parse().ok()?,
            align: align.parse().ok()?,
            fields: lines.map(Field::parse).collect::<Option<_>>()?,
        };
        // Numbers can be written in other ways, too; then equal types would have different fingerprints.
        (description.text() == text).then_some(description)
    }

    /// A number to compare instead of the [`text`](Description::text): its 64-bit FNV-1a hash, which is the same on
    /// every machine.
    ///
    /// It finds mistakes, not malice: another text of the same fingerprint can be made.
    ///
    /// # Examples
    /// ```
    /// use annulus_ipc::Plain;
    ///
    /// assert_eq!(u64::description().fingerprint(), 0xa813_2497_f44d_1096);
    /// assert_ne!(u64::description().fingerprint(), i64::description().fingerprint());
    /// ```
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        self.text().bytes().fold(OFFSET_BASIS, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        })
    }

    /// How this description, of a type here, differs from that of a ring: for people, a phrase for each
    /// difference. There is none if, and only if, the two are equal.
    ///
    /// # Examples
    /// ```
    /// use annulus_ipc::Description;
    ///
    /// let here = Description::parse("Quote size 16 align 8\ninstrument @0 u64\nprice @8 i64").unwrap();
    /// let theirs = "Quote size 24 align 8\ninstrument @0 u64\nprice @8 f64\nvenue @16 u64";
    /// let differences = here.differences(&Description::parse(theirs).unwrap());
    /// assert_eq!(differences, [
    ///     "size 16 here, 24 in the ring",
    ///     "field price at byte 8 is i64 here, f64 in the ring",
    ///     "field venue is only in the ring",
    /// ]);
    /// ```
    #[must_use]
    pub fn differences(&self, theirs: &Description) -> Vec<String> {
        if self == theirs {
            return Vec::new();
        }
        let mut found = Vec::new();
        if self.name != theirs.name {
            let (here, there) = (&self.name, &theirs.name);
            found.push(format!("the type is {here} here, {there} in the ring"));
        }
        if self.size != theirs.size {
            let (here, there) = (self.size, theirs.size);
            found.push(format!("size {here} here, {there} in the ring"));
        }
        if self.align != theirs.align {
            let (here, there) = (self.align, theirs.align);
            let why = match (here, there) {
                // What has no padding has no other size or offsets for it.
                (4, 8) | (8, 4) => WIDTH,
                _ => "",
            };
            found.push(format!("alignment {here} here, {there} in the ring{why}"));
        }
        self.compare_fields(theirs, &mut found);
        if found.is_empty() {
            // In another order, or one of them twice.
            found.push("the same fields are listed differently".to_owned());
        }
        found
    }

    fn compare_fields(&self, theirs: &Self, found: &mut Vec<String>) {
        let (here, there) = (self.by_path(), theirs.by_path());
        // Fields of a field that has another type are another matter, and that is said already.
        let is_said = |field: &Field| {
            field.parent().is_some_and(|parent| {
                let ty_here = here.get(parent).map(|field| &field.ty);
                ty_here != there.get(parent).map(|field| &field.ty)
            })
        };
        for field in &self.fields {
            match there.get(field.path.as_str()) {
                Some(theirs) => found.extend(field.difference(theirs)),
                None if is_said(field) => {}
                None => found.push(format!("field {} is only here", field.path)),
            }
        }
        for field in &theirs.fields {
            if !here.contains_key(field.path.as_str()) && !is_said(field) {
                found.push(format!("field {} is only in the ring", field.path));
            }
        }
    }

    fn by_path(&self) -> Fields<'_> {
        let fields = self.fields.iter();
        fields.map(|field| (field.path.as_str(), field)).collect()
    }
}

/// Why a type that is written in the same way can be aligned differently.
const WIDTH: &str = " (programs of 32 bits align 64-bit numbers to 4 bytes: a struct with `#[repr(C, align(8))]` is \
                     the same in all)";

/// The fields of a description, by their paths.
type Fields<'a> = BTreeMap<&'a str, &'a Field>;

impl Field {
    fn parse(line: &str) -> Option<Self> {
        let (path, rest) = line.split_once(" @")?;
        let (offset, ty) = rest.split_once(' ')?;
        if !is_path(path) || !is_type(ty) {
            return None;
        }
        Some(Self {
            path: path.to_owned(),
            offset: offset.parse().ok()?,
            ty: ty.to_owned(),
        })
    }

    /// This field as one of what is at `offset` in a larger type, and is called `path` there.
    fn inside(self, path: &str, offset: usize) -> Self {
        let is_of_element = self.path.starts_with(ELEMENT);
        let dot = if is_of_element { "" } else { "." };
        Self {
            path: format!("{path}{dot}{}", self.path),
            offset: offset + self.offset,
            ty: self.ty,
        }
    }

    /// The path of the field that this one is in, if that is not the whole type.
    fn parent(&self) -> Option<&str> {
        let (path, _) = self.path.rsplit_once('.')?;
        Some(path.trim_end_matches(ELEMENT))
    }

    /// How a field here differs from that of the same path in a ring.
    fn difference(&self, theirs: &Self) -> Option<String> {
        let Self { path, offset, ty } = self;
        let (there, their_ty) = (theirs.offset, &theirs.ty);
        match (*offset == there, ty == their_ty) {
            (true, true) => None,
            (true, false) => Some(format!(
                "field {path} at byte {offset} is {ty} here, {their_ty} in the ring"
            )),
            (false, true) => Some(format!(
                "field {path} is at byte {offset} here, at byte {there} in the ring"
            )),
            (false, false) => Some(format!(
                "field {path} is {ty} at byte {offset} here, {their_ty} at byte {there} in the ring"
            )),
        }
    }
}

/// Stands in a path for any element of an array.
const ELEMENT: &str = "[]";

/// Whether this is a path as in [`Field::path`].
fn is_path(path: &str) -> bool {
    // The type as a whole can be an array, but has no name in a path.
    let named = match path.trim_start_matches(ELEMENT) {
        named if named.len() == path.len() => Some(named),
        behind_elements => behind_elements.strip_prefix('.'),
    };
    named.is_some_and(|named| {
        let mut names = named.split('.');
        names.all(|name| is_name(name.trim_end_matches(ELEMENT)))
    })
}

/// Whether this is the name of a type: a name, or an array of such.
fn is_type(mut ty: &str) -> bool {
    while let Some(array) = ty.strip_prefix('[') {
        let parts = array
            .strip_suffix(']')
            .and_then(|array| array.rsplit_once("; "));
        match parts {
            Some((element, length)) if is_length(length) => ty = element,
            _ => return false,
        }
    }
    is_name(ty)
}

fn is_length(digits: &str) -> bool {
    digits
        .parse::<usize>()
        .is_ok_and(|length| length.to_string() == digits)
}

/// Whether this can be an identifier, or the number of a field. Not exactly Rust's rule, but what it lets through
/// can be shown on a terminal as it is.
fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c == '_' || c.is_ascii_alphanumeric() || !c.is_ascii();
    !name.is_empty() && name.chars().all(is_letter) && name.escape_debug().eq(name.chars())
}

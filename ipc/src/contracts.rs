//! What may not lie in shared memory is refused by the compiler: each time a program that does not compile, and
//! a twin, as close as can be, that does.
//!
//! # An enum is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(u8)]
//! enum Side { Buy, Sell }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Side { code: u8 }
//! ```
//!
//! # A union is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, Immutable)]
//! #[repr(C)]
//! union Price { ticks: i64, bits: u64 }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Price { ticks: i64, bits: u64 }
//! ```
//!
//! # Without a layout that is the same everywhere a struct is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! struct Quote { price: i64 }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { price: i64 }
//! ```
//!
//! # A generic struct is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(transparent)]
//! struct Quote<T> { price: T }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(transparent)]
//! struct Quote { price: i64 }
//! ```
//!
//! # A `bool` is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { halted: bool }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { halted: u8 }
//! ```
//!
//! # A reference is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { venue: &'static str }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { venue: [u8; 16] }
//! ```
//!
//! # A pointer is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { next: *const u64 }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { next: u64 }
//! ```
//!
//! # What has another size elsewhere is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { shares: usize }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { shares: u64 }
//! ```
//!
//! # A struct with padding is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { price: i64, shares: u32 }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { price: i64, shares: u32, reserved: u32 }
//! ```
//!
//! # What zerocopy has not checked is not plain
//!
//! ```compile_fail
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { price: i64 }
//! ```
//! ```
//! # use annulus_ipc::Plain;
//! # use zerocopy::{FromBytes, Immutable, IntoBytes};
//! #[derive(Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { price: i64 }
//! ```

//! A ring in shared memory, between processes.
//!
//! What its events can be is said by [`Plain`].
#![forbid(unsafe_code)]

mod plain;

// What the compiler refuses.
mod contracts;

pub use annulus_derive::Plain;
pub use plain::{Description, Field, Plain};

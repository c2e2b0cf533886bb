//! The ring of [`annulus_ring`] in shared memory: producers, consumers and graphs of consumers in several
//! processes, any of which may be killed at any instruction.
//!
//! The types are the same, [`Producer`](annulus_ring::Producer), [`Consumer`](annulus_ring::Consumer) and the rest, and so
//! is the algorithm. There is no daemon, no heartbeat, no time-out after which somebody is taken for dead: a process
//! that is gone is known to be gone by what the kernel has let go of, the members that wait for it find out within
//! milliseconds ([what takes longer](#how-long-a-death-takes)), and all others go on.
//!
//! ```
//! use annulus_ipc::{Directory, Plain, Segment};
//! use zerocopy::{FromBytes, Immutable, IntoBytes};
//! # let name = &format!("doc-{}", std::process::id());
//!
//! #[derive(Clone, Copy, Plain, FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Quote { instrument: u64, price: i64, size: u32, flags: u32 }
//!
//! // One process.
//! let ring = Segment::<Quote>::open_or_create(name, 1 << 10)?;
//! let mut feed = ring.producer()?;
//!
//! // Another one: the layout of `Quote` and the version are checked.
//! let ring = Segment::<Quote>::open(name)?;
//! let mut journal = ring.consumer("journal").join()?;
//!
//! // A third one, after that.
//! let ring = Segment::<Quote>::open(name)?;
//! let mut risk = ring.consumer("risk").after(["journal"]).join()?;
//!
//! feed.publish(|quote| *quote = Quote { instrument: 7, price: 5_853_300, size: 18, flags: 0 })?;
//! assert_eq!(journal.next_batch()?[0].size, 18); // the batch is dropped: released to `risk`
//! assert_eq!(risk.next_batch()?[0].price, 5_853_300);
//! # Directory::default().unlink(name)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What differs from a ring on the heap
//!
//! * Only [`close`](annulus_ring::Ring::close) closes it: a feed that ends or dies may come again, and goes on behind
//!   what was published. A consumer that wants to know that no producer lives
//!   [says so](annulus_ring::ConsumerBuilder::require_producer).
//! * A consumer that joins under the name of a dead one that is [held](annulus_ring::OnDeath::Hold) goes on
//!   where that one had released: by default those that others come after.
//! * What a dead producer had claimed is skipped, counted ([`skipped`](annulus_ring::Consumer::skipped)) and, for who
//!   [asks](annulus_ring::ConsumerBuilder::list_skipped), listed.
//! * Members may park, unless the ring is built [without](annulus_ring::RingBuilder::no_parking).
//! * [`watch`](annulus_ring::Ring::watch) tells of what this process does, and of the dead that it finds.
//! * Events are [`Plain`]; a fresh ring is full of zeroes. Programs of 32 and of 64 bits share it, if its events lie in
//!   memory in the same way for both.
//! * A ring that is over, closed and left by all, is made anew by [`open_or_create`](Segment::open_or_create).
//! * Its name can be removed, or lead to another ring, while it is used: members go on in the old one, and
//!   [can ask](annulus_ring::Ring::is_unlinked), or be [told](annulus_ring::ConsumerBuilder::require_name) when they wait.
//!
//! # What to trust
//!
//! 1. All who may write to a ring's file are trusted to do so only through this library, and its owner is this user, root, or
//!    a user that is [trusted](Directory::trust). A process that may only read it changes nothing, but can lock the file
//!    against others that want to join, leave, or recover the dead.
//! 2. A process may end at any instruction, by any signal: what it had published is delivered, what it had claimed
//!    is skipped, what it held up goes on, and nothing is leaked.
//! 3. A death is proven by what the kernel lets go of when a process has ended, its locks or before them the address space
//!    of its threads, and never guessed from the time something takes: who is stopped, swapped out or debugged is alive,
//!    and is waited for.
//! 4. A stopped producer holds up those behind its claim, a stopped consumer those it gates, who is stopped while it
//!    joins or leaves those who want to: `annulus stat` says who it is.
//! 5. The start of the file is checked once and copied; what can change is checked each time it is read, so that
//!    whatever others write there is an error or wrong data here, and no access outside of the ring. Two things are out of
//!    its reach: a hostile writer that sets back how far is claimed can have two producers of one process write to one
//!    slot; and a [`View`] reads its read-only pages by acquire loads, which processors have as plain loads, though the
//!    language promises it of relaxed ones only.
//! 6. What events say is not checked: any bits are a value of a [`Plain`] type, and may be a hostile writer's.
//! 7. A file that is cut short by somebody who may write to it ends its users by SIGBUS, and so may one with holes, if
//!    they are made after it was opened: hand over sealed [memory without a name](Segment::anonymous) where that is a
//!    risk.
//! 8. After a `fork` the child's copies of what its parent had opened are errors and keep nobody alive; a bare `clone`
//!    system call without the C library goes by that: a child made so must not use them.
//! 9. It is memory: nothing survives the machine, a loss of power, or the last process after the name is gone.
//! 10. Network file systems do not work, and neither do processes on different machines.
//!
//! # How long a death takes
//!
//! Members that wait look for the dead every 2 ms, and a killed process has ended when each of its threads has had its turn
//! on a core: 2 to 20 ms in all, however large it was. Two things take longer.
//!
//! * Its locks are there until the kernel has freed its memory: 0.15 to 0.3 s for each GiB that was its own. For so long
//!   its row is not used again, and its [place](annulus_ring::OnDeath::Hold) not taken over by a successor. And members
//!   that have no `/proc` in which they see it, or live in another PID namespace, find out by the locks alone. (Each process
//!   keeps two descriptors for each member of others that it has looked at; where there are none left, it goes by the locks.)
//! * A process that crashes is alive until its core is written, which takes seconds for each GB. Limit that where others
//!   wait: no core (`ulimit -c 0`), or one without the large parts (`/proc/PID/coredump_filter`, `MADV_DONTDUMP`).

#![cfg(target_os = "linux")]

// What users hold.
mod create;
mod directory;
mod handover;
mod plain;
mod refusal;
mod segment;
mod untyped;
mod users;
mod view;

// How it works.
mod descriptor;
mod header;
mod interrupted;
mod memory;
mod room;
mod step;
mod witness;

// What the compiler refuses.
mod contracts;

pub use annulus_derive::Plain;
#[doc(hidden)]
pub use annulus_derive::PlainOfAnnulus;
pub use create::SegmentBuilder;
pub use directory::{Directory, Inspection};
pub use plain::{Description, Field, Plain};
pub use refusal::{Cause, SegmentError};
pub use segment::Segment;
#[cfg(failpoints)]
pub use step::{Creation, at_each_point_of_creation};
pub use untyped::Untyped;
pub use users::{Nameless, User, Users};
pub use view::View;

/// The crate whose traits [`Plain`] asks for, for crates that do not depend on it: its derives find it by
/// `#[zerocopy(crate = "annulus_ipc::zerocopy")]`, or `"annulus::ipc::zerocopy"`.
pub use zerocopy;

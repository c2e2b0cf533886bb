//! Pipelines of pinned, batching handlers over a lock-free ring.
//!
//! A graph of stages is described as data, checked, and started: each stage has a thread of its own, which hands
//! every event of the ring to its handler, after the stages that it comes after are done with it. A handler may
//! fail, and its stage has a policy for that. Stopping loses nothing, and tells what became of every event.
//!
//! ```
//! use std::time::Duration;
//!
//! use annulus::ring::Ring;
//! use annulus::{Overflow, Pipeline, Stage};
//!
//! #[derive(Default)]
//! struct Tick { price: u64, shares: u32 }
//!
//! let ring = Ring::builder(1024).build(Tick::default)?;
//! let running = Pipeline::on(&ring)
//!     .stage(Stage::each("journal", |tick: &Tick, at| println!("{}: {}", at.sequence, tick.price)))
//!     .stage(Stage::each("risk", |tick: &Tick, _| match tick.shares {
//!         0..1_000_000 => Ok(()),
//!         _ => Err("too many shares"), // stops the pipeline: the default
//!     }).after(["journal"]))
//!     .start()?;
//!
//! let mut feed = running.feed(Overflow::Wait)?;
//! feed.publish(|tick| *tick = Tick { price: 5_853_300, shares: 18 })?;
//! drop(feed); // the last producer closes the ring
//!
//! let report = running.stop(Duration::from_secs(5))?;
//! assert_eq!(report.stages[1].handled, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A life
//!
//! ```text
//! Pipeline --start--> Running: each stage   on_start, (on_batch | on_idle)*, on_stop
//!    |                   |
//!    | StartError:       | the ring is closed: by the last producer, or by stop   -> drained
//!    | nothing           | abort, or the deadline of a stop                       -> aborted
//!    | has happened      | told to leave the ring to others                       -> left
//!    |                   | a handler fails, and its policy is to stop             -> failed, others stopped
//!    |                   | a handler fails, and its policy is to detach           -> detached, others go on
//!    v                   v
//!                      Report: published = handled + skipped + failed + left, for each stage
//! ```
//!
//! `on_start` and `on_stop` are called exactly once, whatever happens, also if the pipeline is stopped before its
//! threads have run.
//!
//! # Between processes
//!
//! In memory that processes share ([`ipc`]) a pipeline is one of several users of its ring, and two defaults differ from
//! those on the heap:
//!
//! | | on the heap | in shared memory |
//! |---|---|---|
//! | who ends the ring | the pipeline: a stop closes it, a failure or an abort poisons it | no pipeline that was not told to: it [leaves](Running::leave), and what it feeds is for others; [`Pipeline::owns_ring`] |
//! | a stage whose process dies, that fails and so stops its pipeline, or that is cut off | its place is gone | its place is held: the next stage of its name goes on there, and nothing is lost; [`Stage::on_death`] |
//!
//! So a gateway that is killed, or panics, is started again and acts upon each event, upon what it had in hand perhaps
//! twice. That a stage went on in the place of another, or what it never saw, is in the [report](StageReport::missed).
//!
//! ```
//! # use std::time::Duration;
//! # use annulus::{Pipeline, Stage};
//! # #[cfg(target_os = "linux")] {
//! use annulus::ipc::Segment;
//!
//! let ring = Segment::<u64>::anonymous(64)?; // or one with a name, for programs that know each other by that
//! let mut feed = ring.producer()?;
//! let gateway = Stage::each("gateway", |order: &u64, _| match order {
//!     8 => Err("no connection"),
//!     _ => Ok(()), // sent
//! });
//! let running = Pipeline::on(&ring).stage(gateway).start()?;
//! feed.publish_batch(3, |orders| orders.zip(7..).for_each(|(order, n)| *order = n))?;
//! let failed = running.join().unwrap_err().report;
//! assert!(failed.stages[0].is_held);
//!
//! // Later, in this process or another one:
//! let gateway = Stage::each("gateway", |order: &u64, _| println!("sent {order}"));
//! let running = Pipeline::on(&ring).stage(gateway).start()?;
//! let report = running.leave(Duration::from_secs(5))?;
//! assert_eq!((report.stages[0].started_at, report.stages[0].handled), (1, 2));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! * A handler that does not return cannot be stopped: its stage is reported as overdue and left to itself.
//! * The only producer of a ring closes it, so a stop waits for it to be dropped or to publish once more, until
//!   its deadline. Many producers are stopped at once.
//! * An abort, and a failure that stops the pipeline, poison a ring on the heap: it cannot be used again.
//! * Panics are caught where they unwind; a program built with `panic = "abort"` ends.
//!
//! The ring itself is [`ring`]; in shared memory, between processes, it is [`ipc`]: a pipeline runs on either.
#![forbid(unsafe_code)]

// What users write.
mod feed;
mod handler;
mod lot;
mod pipeline;
mod running;
mod stage;
mod topology;

// What happens to it.
mod control;
mod failure;
mod metrics;
mod pin;
mod supervise;
mod work;

/// The ring in shared memory: all of the crate `annulus_ipc`.
#[cfg(target_os = "linux")]
pub mod ipc {
    pub use annulus_ipc::*;
    // The derive, which finds the trait here; the one above would look for it in `annulus_ipc`.
    pub use annulus_ipc::PlainOfAnnulus as Plain;
}
pub use annulus_ring as ring;

pub use control::Ended;
pub use failure::{Again, Cause, DeadLetter, During, Failure, OnFailure, Then, Verdict};
pub use feed::{Feed, FeedError, FeedMetrics, FoldedFeeds, Overflow};
pub use handler::{Handler, HandlerError, HandlerMut, Outcome};
pub use lot::{At, Events, EventsMut, Idle, Lot};
pub use metrics::{Distribution, Metrics, Timed, TimesRead, ticks};
pub use pin::{Placement, Warning};
pub use pipeline::{Pipeline, StartError};
pub use running::{Report, Running, StageReport, Stopped};
pub use stage::{Settings, Stage};
pub use supervise::Slow;
pub use topology::Topology;

/// The README's examples are compiled like those of the documentation, for a crate that depends on this one alone.
// Shows D29.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

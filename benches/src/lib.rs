//! Side by side with others: scenarios written once, and subjects that are plugged in.
//!
//! A *scenario* says what is moved and what is measured. A *subject* is one library in one
//! configuration; ours is one of them. A subject only says how to connect producers to a consumer
//! (a [`Link`](link::Link)), or to several that
//! depend on each other (a [`Graph`](topology::Graph)): who publishes what, what is checked and when the clock is read is the
//! same for all.
//! Between processes it says how messages are carried to and fro (a [`Transport`](ipc::Transport)).
//!
//! To add a rival, write one file in `subjects/` and name it in `subjects.rs`; or in `subjects/ipc/` and
//! `subjects/ipc.rs`, if it goes from process to process.
//!
//! The program `versus` measures every subject in several processes, because the cost of a cache line
//! depends on where it lies, and in many short rounds, in which the subjects of a scenario follow each
//! other in a shuffled order, because it also depends on the minute.

#![forbid(unsafe_code)]

// What is measured.
pub mod scenario;

// How.
mod conduct;
pub mod cores;
mod exchange;
pub mod flow;
pub mod ipc;
pub mod link;
mod observers;
mod recovery;
pub mod relay;
pub mod round_trip;
pub mod scratch;
pub mod shuffle;
pub mod stopwatch;
pub mod topology;
pub mod two_processes;

// Who.
pub mod idle;
pub mod subjects;

// What came of it.
pub mod machine;
pub mod report;
pub mod statistics;

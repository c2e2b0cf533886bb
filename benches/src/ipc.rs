//! What a subject implements to carry messages between two processes, one of which measures.

use std::io;
use std::path::PathBuf;

use crate::link::{Plan, Sender, Words};

/// A library, or a facility of the system, in some configuration, that carries messages of `N` words in both
/// directions.
///
/// The process that measures offers; then the other opens; and when it has, the first takes that up. A
/// message that is sent from then on must arrive.
pub trait Transport: Copy + Send + 'static {
    /// Sends, and waits as long as there is no room.
    type Sender<const N: usize>: Sender;
    /// Receives.
    type Receiver<const N: usize>: Receiver<N>;

    /// Makes what the other process opens; what is returned connects to it once it has done so.
    ///
    /// # Errors
    /// If the system, or the library, refuses something.
    fn offer<const N: usize>(
        &self,
        place: &Place,
    ) -> io::Result<impl FnOnce() -> io::Result<Ends<Self, N>>>;

    /// Opens what the measuring process has made.
    ///
    /// # Errors
    /// If the system, or the library, refuses something.
    fn open<const N: usize>(&self, place: &Place) -> io::Result<Ends<Self, N>>;

    /// Opens what the measuring process has made to read along, as one of those in a third process that take
    /// no part. Only what is planned to be observable has to have such a thing.
    ///
    /// # Errors
    /// If the system, or the library, refuses something, or has no such thing.
    fn observe<const N: usize>(&self, _: &Place) -> io::Result<Box<dyn Observer>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What one process sends by, and what it receives by.
pub type Ends<T, const N: usize> = (<T as Transport>::Sender<N>, <T as Transport>::Receiver<N>);

/// Receives messages.
pub trait Receiver<const N: usize> {
    /// Waits until there are messages, one at least, and calls `handler` for each that is there.
    fn receive(&mut self, handler: impl FnMut(&Words<N>));
}

/// Reads what the measuring process sends, from the first message on, and is not waited for by anybody.
pub trait Observer: Send {
    /// Reads what is there, but not more than so many messages; returns how many.
    fn poll(&mut self, most: usize) -> u64;

    /// How many messages were gone when it came to them.
    fn missed(&self) -> u64;

    /// How many messages have been sent, by an account that is not its own.
    fn sent(&self) -> u64;
}

/// Where processes meet.
#[derive(Clone, Debug)]
pub struct Place {
    /// A directory of their own, in memory if the system has such. It is removed afterwards, with
    /// everything beside it whose name begins with its name and a hyphen.
    pub directory: PathBuf,
    /// What the scenario asks for.
    pub plan: Plan,
}

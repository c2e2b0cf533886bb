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
}

/// What one process sends by, and what it receives by.
pub type Ends<T, const N: usize> = (<T as Transport>::Sender<N>, <T as Transport>::Receiver<N>);

/// Receives messages.
pub trait Receiver<const N: usize> {
    /// Waits until there are messages, one at least, and calls `handler` for each that is there.
    fn receive(&mut self, handler: impl FnMut(&Words<N>));
}

/// Where two processes meet.
#[derive(Clone, Debug)]
pub struct Place {
    /// A directory of their own, in memory if the system has such. It is removed afterwards, with
    /// everything beside it whose name begins with its name and a hyphen.
    pub directory: PathBuf,
    /// What the scenario asks for.
    pub plan: Plan,
}

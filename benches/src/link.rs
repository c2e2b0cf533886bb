//! What a subject implements: producers connected to a consumer, and the events that they move.

use std::ops::Range;
use std::thread::{self, JoinHandle};

use annulus_ipc::{Description, Plain};
#[cfg(feature = "rivals")]
use iceoryx2::prelude::ZeroCopySend;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::cores::{Cores, Role, pin};

/// What is moved: a number, spread over the whole payload.
pub trait Event: Copy + Default + Send + Sync + 'static {
    /// Makes event `number`; every word is written.
    fn numbered(number: u64) -> Self;

    /// Reads every word, and returns the number, or another one if the words do not fit together.
    fn number(&self) -> u64;
}

/// An event of `N` words of 8 bytes, which may also be sent to another process.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[cfg_attr(feature = "rivals", derive(ZeroCopySend))]
#[repr(C)]
pub struct Words<const N: usize>([u64; N]);

impl<const N: usize> Plain for Words<N> {
    fn description() -> Description {
        <[u64; N]>::description()
    }
}

impl<const N: usize> Default for Words<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Event for Words<N> {
    #[inline]
    fn numbered(number: u64) -> Self {
        let mut words = [number; N];
        for (index, word) in words.iter_mut().enumerate() {
            *word ^= index as u64;
        }
        Self(words)
    }

    #[inline]
    fn number(&self) -> u64 {
        let number = self.0[0];
        let mut wrong = 0;
        for (index, word) in self.0.iter().enumerate() {
            wrong |= *word ^ number ^ index as u64;
        }
        // Not by a branch, which a processor would take on trust before it has the words.
        number.wrapping_add(wrong)
    }
}

/// What a scenario asks of a link.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many events fit in between.
    pub capacity: usize,
    /// How many producers there are.
    pub producers: usize,
    /// Whether the link is to be built for many producers, even if there is one.
    pub shared: bool,
    /// Whether others have to be able to read along who do not take part.
    pub observable: bool,
    /// Whether threads share cores: who waits has to yield.
    pub crowded: bool,
    /// The core of the thread that reads is that of this role.
    pub reader: Role,
    /// Where threads run.
    pub cores: Cores,
}

/// A library in some configuration, as far as a scenario uses it.
pub trait Link {
    /// A producer.
    type Sender<E: Event>: Sender + Send + 'static;

    /// Connects as many producers as planned to one consumer: a thread, pinned to the reader's core,
    /// that calls `handler` for every event until all producers are dropped, and then drops it.
    ///
    /// Returns the producers, and the thread unless dropping them joins it.
    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        handler: H,
    ) -> (Vec<Self::Sender<E>>, Option<JoinHandle<()>>);
}

/// Publishes events by their numbers, and waits as long as there is no room.
///
/// Subjects have it inlined whether the compiler likes it or not: what is measured is a library in the loop of
/// its user. A call more is several stores more, and stores are what a producer waits for.
pub trait Sender {
    /// Publishes one.
    fn send(&mut self, number: u64);

    /// Publishes several: as one batch if the library knows batches.
    fn send_batch(&mut self, numbers: Range<u64>) {
        for number in numbers {
            self.send(number);
        }
    }
}

/// Starts the consumer of a link whose library leaves that to its user.
pub fn read_by(plan: &Plan, read: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let core = plan.cores.of(plan.reader);
    Some(thread::spawn(move || {
        pin(core);
        read();
    }))
}

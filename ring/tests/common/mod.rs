//! What every test program of the ring needs: a producer, of whichever kind the ring was built for.

use std::ops::{Deref, DerefMut};

use annulus_ring::{Producer, ProducerError, Ring, SharedProducer};

/// A producer of either kind, so that one test shows the same of both.
pub(crate) enum Feed<T> {
    Only(Producer<T>),
    OneOfMany(SharedProducer<T>),
}

impl<T> Feed<T> {
    pub(crate) fn join(ring: &Ring<T>) -> Result<Self, ProducerError> {
        match ring.producer() {
            Err(ProducerError::WrongKind { .. }) => ring.shared_producer().map(Self::OneOfMany),
            only => only.map(Self::Only),
        }
    }
}

impl<T> Deref for Feed<T> {
    type Target = Producer<T>;

    fn deref(&self) -> &Producer<T> {
        match self {
            Self::Only(producer) => producer,
            Self::OneOfMany(producer) => producer,
        }
    }
}

impl<T> DerefMut for Feed<T> {
    fn deref_mut(&mut self) -> &mut Producer<T> {
        match self {
            Self::Only(producer) => producer,
            Self::OneOfMany(producer) => producer,
        }
    }
}

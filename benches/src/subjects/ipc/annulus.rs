//! Our own ring in shared memory: one each way.

use std::fmt::Debug;
use std::hint::black_box;
use std::io;

use annulus_ipc::{Directory, Segment, View};
use annulus_ring::{Consumer, Layout, NotReady, Producer, Ring};

use crate::ipc::{Ends, Observer, Place, Receiver, Transport};
use crate::link::{Event, Words};
use crate::subjects::annulus::{handle, polling};

/// The ring in one of its layouts. Who waits polls, but the ring may allow others to park.
#[derive(Clone, Copy)]
pub(super) struct SharedRing {
    pub(super) layout: Layout,
    pub(super) parking: bool,
}

const THERE: &str = "there";
const BACK: &str = "back";

impl Transport for SharedRing {
    type Sender<const N: usize> = Producer<Words<N>>;
    type Receiver<const N: usize> = Joined<N>;

    fn offer<const N: usize>(
        &self,
        place: &Place,
    ) -> io::Result<impl FnOnce() -> io::Result<Ends<Self, N>>> {
        let ends = ends(
            place,
            &self.create(place, THERE)?,
            &self.create(place, BACK)?,
        )?;
        Ok(|| Ok(ends))
    }

    fn open<const N: usize>(&self, place: &Place) -> io::Result<Ends<Self, N>> {
        let open = |name| Directory::at(&place.directory).open(name).map_err(failed);
        ends(place, &open(BACK)?, &open(THERE)?)
    }

    fn observe<const N: usize>(&self, place: &Place) -> io::Result<Box<dyn Observer>> {
        let view = Directory::at(&place.directory)
            .view::<Words<N>>(THERE)
            .map_err(failed)?;
        let observer = view.observer().map_err(failed)?;
        Ok(Box::new(Observing { view, observer }))
    }
}

impl SharedRing {
    fn create<const N: usize>(self, place: &Place, name: &str) -> io::Result<Segment<Words<N>>> {
        let ring = Ring::builder(place.plan.capacity).layout(self.layout);
        let ring = if self.parking {
            ring.parking()
        } else {
            ring.no_parking()
        };
        let ring = if place.plan.observable {
            ring.observable()
        } else {
            ring
        };
        let segment = Segment::builder(ring).directory(Directory::at(&place.directory));
        segment.create(name).map_err(failed)
    }
}

/// What is published from now on is read by the other side: it joins before it says that it is ready.
fn ends<const N: usize>(
    place: &Place,
    to: &Segment<Words<N>>,
    from: &Segment<Words<N>>,
) -> io::Result<Ends<SharedRing, N>> {
    let wait = polling(&place.plan);
    let consumer = from.consumer("reader").wait(wait).join().map_err(failed)?;
    let producer = to.producer().map_err(failed)?;
    let producer = producer.with_wait(wait).map_err(failed)?;
    Ok((producer, Joined(consumer)))
}

fn failed(error: impl Debug) -> io::Error {
    io::Error::other(format!("the ring: {error:?}"))
}

pub(super) struct Joined<const N: usize>(Consumer<Words<N>>);

impl<const N: usize> Receiver<N> for Joined<N> {
    #[inline]
    fn receive(&mut self, mut handler: impl FnMut(&Words<N>)) {
        let batch = self.0.next_batch().expect("nobody closes the ring");
        handle(&batch, &mut handler);
    }
}

/// It has a view of its own, as if it were alone in its process.
struct Observing<const N: usize> {
    view: View<Words<N>>,
    observer: annulus_ring::Observer<Words<N>>,
}

impl<const N: usize> Observer for Observing<N> {
    fn poll(&mut self, most: usize) -> u64 {
        let mut read = 0;
        while read < most as u64 {
            match self.observer.try_next() {
                Ok((_, message)) => black_box(message.number()),
                Err(NotReady::Idle) => break,
                Err(error) => panic!("nobody closes the ring: {error}"),
            };
            read += 1;
        }
        read
    }

    fn missed(&self) -> u64 {
        self.observer.missed()
    }

    fn sent(&self) -> u64 {
        self.view.snapshot().published
    }
}

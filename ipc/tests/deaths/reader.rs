//! A consumer here, what it is given, and waits on threads of their own.

use std::ops::Range;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_ring::{Consumer, NotReady, Sequence, Step, at_each_step};

use crate::company::FEED;
use crate::member::{CHANGED, Event};

/// How long to wait for what has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An event, and where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) sequence: Sequence,
    pub(crate) event: Event,
}

/// A consumer, and what it has been given.
pub(crate) struct Reader {
    pub(crate) consumer: Consumer<Event>,
    pub(crate) seen: Vec<Delivered>,
    pub(crate) stepped_over: Vec<Range<Sequence>>,
    /// How many a stage before it had changed.
    pub(crate) changed: u64,
    /// The first sequence that is for it.
    pub(crate) start: Sequence,
    /// What it had skipped before it came: a successor's predecessor, which may have counted what it had not released.
    pub(crate) skipped_before: u64,
}

/// A member's wait on a thread of its own.
pub(crate) struct Waiting<X> {
    thread: JoinHandle<X>,
    parks: Receiver<()>,
    wake: Sender<()>,
}

impl Reader {
    pub(crate) fn new(consumer: Consumer<Event>) -> Self {
        Self {
            seen: Vec::new(),
            stepped_over: Vec::new(),
            changed: 0,
            start: consumer.start(),
            skipped_before: consumer.skipped(),
            consumer,
        }
    }

    /// Waits for the next batch.
    pub(crate) fn take(&mut self) -> Result<(), NotReady> {
        let batch = self
            .consumer
            .next_batch_deadline(Instant::now() + PATIENCE)?;
        for (sequence, event) in batch.sequences().zip(&batch) {
            let mut event = *event;
            self.changed += event.number / CHANGED;
            event.number %= CHANGED;
            self.seen.push(Delivered { sequence, event });
        }
        drop(batch);
        self.list_what_it_stepped_over();
        Ok(())
    }

    pub(crate) fn list_what_it_stepped_over(&mut self) {
        for range in self.consumer.take_skipped() {
            match self.stepped_over.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => self.stepped_over.push(range),
            }
        }
    }

    fn take_surely(&mut self) {
        let name = self.consumer.name().to_owned();
        (self.take()).unwrap_or_else(|error| panic!("{name} does not go on: {error}"));
    }

    /// To a sequence behind an event.
    pub(crate) fn read_until(&mut self, end: Sequence) {
        while self.consumer.position() < end {
            self.take_surely();
        }
    }

    pub(crate) fn read_until_the_feeds(&mut self, number: u64) {
        let event = Event { who: FEED, number };
        while self.seen.last().is_none_or(|last| last.event != event) {
            self.take_surely();
        }
    }

    /// That it was given and skipped the same, from where it started.
    pub(crate) fn agrees_with(&self, other: &Self) {
        let name = self.consumer.name();
        let given = other.seen.iter().filter(|it| it.sequence >= self.start);
        assert!(
            given.eq(&self.seen),
            "{name}: {:?}, not {:?}",
            self.seen,
            other.seen
        );
        let skipped = other
            .stepped_over
            .iter()
            .filter(|it| it.start >= self.start);
        assert!(
            skipped.eq(&self.stepped_over),
            "{name}: {:?}",
            self.stepped_over
        );
        let lengths = self
            .stepped_over
            .iter()
            .map(|range| range.end - range.start);
        assert_eq!(
            self.consumer.skipped() - self.skipped_before,
            lengths.sum(),
            "{name}"
        );
    }
}

impl<X: Send + 'static> Waiting<X> {
    /// If it is to be found asleep it stays ready to sleep, with its flag set, until its end is waited for: by itself
    /// it would look for the dead now and then, and be awake for a moment.
    pub(crate) fn of(is_to_be_asleep: bool, wait: impl FnOnce() -> X + Send + 'static) -> Self {
        let (tell, parks) = mpsc::channel();
        let (wake, woken) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            at_each_step(move |step| {
                if is_to_be_asleep && step == Step::Park {
                    let _ = tell.send(()); // Nobody may want to know.
                    let _ = woken.recv_timeout(PATIENCE); // It fails at once when `wake` is dropped.
                }
            });
            wait()
        });
        Self {
            thread,
            parks,
            wake,
        }
    }

    /// Until it sleeps.
    pub(crate) fn until_it_parks(&self) {
        self.parks
            .recv_timeout(PATIENCE)
            .expect("it waits by parking");
    }

    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    pub(crate) fn end(self) -> X {
        drop(self.wake);
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

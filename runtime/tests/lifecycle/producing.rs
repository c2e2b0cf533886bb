//! The producers of a round: feeds of the pipeline, and producers of the ring itself.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use annulus::ring::{ClaimError, Producer, Producers, Sequence, SharedProducer, Slots, Wait};
use annulus::{Feed, FeedError, Overflow};

use crate::plan::{ProducerPlan, Step};
use crate::round::Round;
use crate::subject::Event;
use crate::{lock, until};

impl Round {
    /// A producer of the ring itself.
    pub(crate) fn join(&self, overflow: Overflow) -> Option<Source> {
        Some(match self.plan.kind {
            Producers::One => Source::Only(self.ring.producer().ok()?, overflow),
            _ => Source::Shared(self.ring.shared_producer().ok()?, overflow),
        })
    }

    pub(crate) fn spawn(self: &Arc<Self>, plan: &ProducerPlan, source: Source) -> JoinHandle<()> {
        let (round, steps) = (self.clone(), plan.steps.clone());
        let source = source.with_wait(plan.wait);
        thread::spawn(move || {
            let source = round.publish(source, &steps);
            if round.plan.kept {
                until("it may go", || round.may_go.load(Ordering::Acquire));
            }
            drop(source);
        })
    }

    pub(crate) fn publish(&self, mut source: Source, steps: &[Step]) -> Source {
        let author = self.authors.fetch_add(1, Ordering::Relaxed);
        let mut nth = 0;
        let mut is_over = false;
        for step in steps {
            let n = match *step {
                Step::One => 1,
                Step::Batch(n) => n.min(self.plan.capacity),
                Step::Claim(n) => {
                    let claimed = source.producer().try_claim(n.min(self.plan.capacity));
                    drop(claimed);
                    continue;
                }
                Step::Panic => {
                    let publish = || source.publish_one(|_| resume_unwind(Box::new("planned")));
                    if let Ok(Ok(None)) = catch_unwind(AssertUnwindSafe(publish)) {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    continue;
                }
                Step::Yield(times) => {
                    (0..times).for_each(|_| thread::yield_now());
                    continue;
                }
            };
            let write = |event: &mut Event, nth| {
                *event = Event {
                    author,
                    nth,
                    had_by: 0,
                }
            };
            let is_one = matches!(step, Step::One);
            let published = if is_one {
                source.publish_one(|event| write(event, nth))
            } else {
                source.publish_batch(n, |slots| {
                    slots.zip(nth..).for_each(|(event, nth)| write(event, nth));
                })
            };
            match published {
                Ok(Some(first)) => {
                    assert!(!is_over || n == 0, "published after it heard of the end");
                    let mut all = lock(&self.published);
                    for index in 0..n as u64 {
                        let other = all.insert(first + index, (author, nth + index));
                        assert_eq!(other, None, "published twice at {}", first + index);
                    }
                    nth += n as u64;
                }
                Ok(None) => {
                    self.dropped.fetch_add(n as u64, Ordering::Relaxed);
                }
                Err(
                    FeedError::Full { .. } | FeedError::Claim(ClaimError::TooFewConsumers { .. }),
                ) => {}
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    is_over = true;
                }
            }
        }
        source
    }
}

/// A producer of any kind.
pub(crate) enum Source {
    Feed(Feed<Event>),
    Only(Producer<Event>, Overflow),
    Shared(SharedProducer<Event>, Overflow),
}

impl Source {
    pub(crate) fn with_wait(self, wait: Wait) -> Self {
        match self {
            Self::Feed(feed) => Self::Feed(feed.with_wait(wait).unwrap()),
            Self::Only(producer, overflow) => {
                Self::Only(producer.with_wait(wait).unwrap(), overflow)
            }
            Self::Shared(producer, overflow) => {
                Self::Shared(producer.with_wait(wait).unwrap(), overflow)
            }
        }
    }

    pub(crate) fn producer(&mut self) -> &mut Producer<Event> {
        match self {
            Self::Feed(feed) => feed.producer(),
            Self::Only(producer, _) => producer,
            Self::Shared(producer, _) => producer,
        }
    }

    pub(crate) fn publish_one(
        &mut self,
        write: impl FnOnce(&mut Event),
    ) -> Result<Option<Sequence>, FeedError> {
        if let Self::Feed(feed) = self {
            return feed.publish(write);
        }
        let waits = self.waits();
        let producer = self.producer();
        let published = if waits {
            producer.publish(write)
        } else {
            producer.try_publish(write)
        };
        published.map(Some).map_err(as_feeds_say)
    }

    pub(crate) fn publish_batch(
        &mut self,
        n: usize,
        write: impl FnOnce(Slots<'_, Event>),
    ) -> Result<Option<Sequence>, FeedError> {
        if let Self::Feed(feed) = self {
            return feed.publish_batch(n, write);
        }
        let waits = self.waits();
        let producer = self.producer();
        let published = if waits {
            producer.publish_batch(n, write)
        } else {
            producer.try_publish_batch(n, write)
        };
        published
            .map(|sequences| Some(sequences.start))
            .map_err(as_feeds_say)
    }

    pub(crate) fn waits(&self) -> bool {
        match self {
            Self::Feed(_) => true,
            Self::Only(_, overflow) | Self::Shared(_, overflow) => *overflow == Overflow::Wait,
        }
    }
}

pub(crate) fn as_feeds_say(error: ClaimError) -> FeedError {
    match error {
        ClaimError::Full { free } => FeedError::Full { free },
        error => FeedError::Claim(error),
    }
}

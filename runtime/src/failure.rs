//! What a failure is, and what becomes of it: who decides, and what there is to decide.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use annulus_ring::Sequence;

use crate::handler::HandlerError;

/// What a stage does when its handler fails: whether it tries again, and what it does if that does not help.
/// Plain data; the default stops the pipeline.
///
/// # Examples
/// ```
/// # use annulus::{OnFailure, Pipeline, Stage};
/// # use annulus::ring::Ring;
/// # use std::time::Duration;
/// # let ring = Ring::builder(64).build(u64::default)?;
/// let flaky = Stage::each("flaky", |price: &u64, _| match price {
///     13 => Err("not this one"),
///     _ => Ok(()),
/// });
/// let flaky = flaky.on_failure(OnFailure::SKIP.after_retries(2, Duration::ZERO));
/// let running = Pipeline::on(&ring).stage(flaky).start()?;
/// # let mut feed = ring.producer()?;
/// feed.publish_batch(3, |slots| slots.zip(12..).for_each(|(slot, price)| *slot = price))?;
/// drop(feed);
/// let report = running.stop(Duration::from_secs(5))?;
/// assert_eq!((report.stages[0].handled, report.stages[0].failed), (2, 1));
/// assert_eq!(report.stages[0].metrics.restarts, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct OnFailure {
    /// Whether to try again first.
    pub again: Again,
    /// What to do if that does not help.
    pub then: Then,
}

/// Whether to try again when a handler fails.
///
/// # Examples
/// See [`OnFailure`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Again {
    /// No.
    #[default]
    Never,
    /// From the event that failed on.
    Retry {
        /// How many times at most, for each event.
        times: u32,
        /// How long to wait before each.
        pause: Duration,
    },
    /// From the first event of the batch that is not released.
    Rewind {
        /// How many times at most, for each batch.
        times: u32,
        /// How long to wait before each.
        pause: Duration,
    },
}

/// What becomes of an event, and of its stage, when its handler has failed for good.
///
/// # Examples
/// See [`OnFailure`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Then {
    /// The pipeline stops: its ring is poisoned, and producers hear why. One that is
    /// [not its own](crate::Pipeline::owns_ring), as in shared memory, it leaves instead, with what it had not handled
    /// [held](crate::Stage::on_death) for the next.
    #[default]
    Stop,
    /// The stage goes on with the next event.
    Skip,
    /// The stage ends and leaves the ring; the others go on, and those that came after it come after those
    /// that it came after.
    Detach,
}

impl OnFailure {
    /// Stops the pipeline.
    pub const STOP: Self = Self::finally(Then::Stop);
    /// Goes on with the next event.
    pub const SKIP: Self = Self::finally(Then::Skip);
    /// Ends this stage, and lets the others go on.
    pub const DETACH: Self = Self::finally(Then::Detach);

    const fn finally(then: Then) -> Self {
        Self {
            again: Again::Never,
            then,
        }
    }

    /// The same, after handling the event again so many times, with a pause before each.
    ///
    /// # Examples
    /// See [`OnFailure`].
    #[must_use]
    pub const fn after_retries(self, times: u32, pause: Duration) -> Self {
        Self {
            again: Again::Retry { times, pause },
            ..self
        }
    }

    /// The same, after handling the batch again so many times, with a pause before each.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Again, OnFailure, Then};
    /// # use std::time::Duration;
    /// let policy = OnFailure::DETACH.after_rewinds(3, Duration::from_millis(1));
    /// assert_eq!(policy.then, Then::Detach);
    /// assert!(matches!(policy.again, Again::Rewind { times: 3, .. }));
    /// ```
    #[must_use]
    pub const fn after_rewinds(self, times: u32, pause: Duration) -> Self {
        Self {
            again: Again::Rewind { times, pause },
            ..self
        }
    }

    pub(crate) fn verdict(self, failure: &Failure) -> Verdict {
        match self.again {
            Again::Retry { times, pause } if failure.retries < times => Verdict::Retry { pause },
            Again::Rewind { times, pause } if failure.rewinds < times => Verdict::Rewind { pause },
            _ => match self.then {
                Then::Stop => Verdict::Stop,
                Then::Skip => Verdict::Skip,
                Then::Detach => Verdict::Detach,
            },
        }
    }
}

/// What is to become of one failure; see [`Stage::on_failure_by`](crate::Stage::on_failure_by).
///
/// # Examples
/// See there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// [`Then::Stop`].
    Stop,
    /// [`Then::Skip`].
    Skip,
    /// [`Then::Detach`].
    Detach,
    /// [`Again::Retry`], once more.
    Retry {
        /// How long to wait before that.
        pause: Duration,
    },
    /// [`Again::Rewind`], once more.
    Rewind {
        /// How long to wait before that.
        pause: Duration,
    },
}

/// A handler failed: where, when and why.
///
/// # Examples
/// ```
/// # use annulus::{Cause, Pipeline, Stage};
/// # use annulus::ring::Ring;
/// # use std::time::Duration;
/// # let ring = Ring::builder(64).build(u64::default)?;
/// let risk = Stage::each("risk", |price: &u64, _| assert!(*price < 10, "too much"));
/// let running = Pipeline::on(&ring).stage(risk).start()?;
/// # let mut feed = ring.producer()?;
/// feed.publish_value(13)?;
/// let stopped = running.stop(Duration::from_secs(5)).unwrap_err();
/// let failure = &stopped.report.failures[0];
/// assert_eq!((failure.stage.as_str(), failure.sequence), ("risk", Some(0)));
/// assert!(matches!(&failure.cause, Cause::Panic(why) if why == "too much"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The name of its stage.
    pub stage: String,
    /// The event that it failed at, if it was handling one.
    pub sequence: Option<Sequence>,
    /// What it was doing.
    pub during: During,
    /// What went wrong.
    pub cause: Cause,
    /// How many times this event has been tried again before.
    pub retries: u32,
    /// How many times this batch has been handled again before.
    pub rewinds: u32,
}

/// What a handler was doing when it failed.
///
/// # Examples
/// See [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum During {
    /// It was being built.
    Build,
    /// `on_start`.
    Start,
    /// `on_batch` or `on_event`.
    Event,
    /// `on_idle`.
    Idle,
    /// It waited for events, and was [taken out of the ring](annulus_ring::Ring::evict).
    Wait,
    /// `on_stop`, or its drop.
    Stop,
}

/// What went wrong in a handler.
///
/// # Examples
/// See [`Failure`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// It returned this error.
    Error(HandlerError),
    /// It panicked with this message.
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.during {
            During::Build => "while its handler was built",
            During::Start => "in on_start",
            During::Event => "at an event",
            During::Idle => "in on_idle",
            During::Wait => "while it waited for events",
            During::Stop => "in on_stop",
        };
        write!(f, "stage {:?} ", self.stage)?;
        match &self.cause {
            Cause::Error(_) => f.write_str("failed ")?,
            Cause::Panic(_) => f.write_str("panicked ")?,
        }
        match self.sequence {
            Some(sequence) => write!(f, "at event {sequence}")?,
            None => f.write_str(doing)?,
        }
        match &self.cause {
            Cause::Error(error) => write!(f, ": {error}"),
            Cause::Panic(message) => write!(f, ": {message}"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Error(error) => Some(&**error),
            Cause::Panic(_) => None,
        }
    }
}

/// An event that its stage has given up; see [`Stage::dead_letters`](crate::Stage::dead_letters).
///
/// # Examples
/// See there.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadLetter<'l, T> {
    /// The event, as the handler left it.
    pub event: &'l T,
    /// Why it was given up; its sequence is there.
    pub failure: &'l Failure,
}

/// Calls something of a handler's, and makes a panic a value.
pub(crate) fn guarded(call: impl FnOnce() -> Result<(), HandlerError>) -> Result<(), Cause> {
    caught(call)?.map_err(Cause::Error)
}

/// Calls something of the user's, and makes a panic a value.
pub(crate) fn caught<R>(call: impl FnOnce() -> R) -> Result<R, Cause> {
    // What it leaves behind is looked at by its handler alone, which is asked again only if its policy says so.
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Cause::Panic(message_of(payload)))
}

fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = if let Some(message) = payload.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else {
        "without a message".to_owned()
    };
    // A payload may panic when it is dropped.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    message
}

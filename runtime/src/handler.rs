//! What a stage does with events.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::failure::caught;
use crate::lot::{At, Events, EventsMut, Idle};

/// Why a handler failed: any error. A `&str` or a `String` becomes one by `?` or `.into()`.
///
/// # Examples
/// See [`HandlerMut`] and [`Stage::new_mut`](crate::Stage::new_mut).
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// Reads the events of a stage.
///
/// It may publish, also to its own ring. If that is full, and only what it has in hand keeps it so, the publication
/// fails with [`ClaimError::HeldUpByOwnStage`](annulus_ring::ClaimError::HeldUpByOwnStage): it would wait for itself.
/// Two stages of two rings that publish to each other's can still wait for each other.
///
/// It is called on the thread of its stage only, and so need not be `Send` if it is
/// [built there](crate::Stage::with). What becomes of a failure, an error or a panic, is for the
/// [`OnFailure`](crate::OnFailure) of its stage to say.
///
/// # Examples
/// ```
/// use annulus::{At, Handler, HandlerError, Pipeline, Stage};
/// use annulus::ring::Ring;
/// # use std::time::Duration;
///
/// /// Writes as many prices at once as there are.
/// #[derive(Default)]
/// struct Journal { open: Vec<u64> }
///
/// impl Handler<u64> for Journal {
///     fn on_event(&mut self, price: &u64, at: At) -> Result<(), HandlerError> {
///         self.open.push(*price);
///         if at.is_last() {
///             self.open.clear(); // written
///         }
///         Ok(())
///     }
/// }
///
/// let ring = Ring::builder(64).build(u64::default)?;
/// let running = Pipeline::on(&ring).stage(Stage::new("journal", Journal::default())).start()?;
/// let mut feed = ring.producer()?;
/// feed.publish_value(7)?;
/// drop(feed);
/// let report = running.stop(Duration::from_secs(5))?;
/// assert_eq!(report.stages[0].handled, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Handler<T>: 'static {
    /// Called once, before everything else, with the name of the stage. If it fails the stage handles
    /// nothing: the pipeline stops, or the stage is detached if that is what its failures do.
    ///
    /// # Errors
    /// Whatever kept it from starting.
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        let _ = stage;
        Ok(())
    }

    /// Called with each batch; hands its events to [`Handler::on_event`] if it is not overridden.
    ///
    /// When it returns `Ok` all events are handled, also those that it has not taken. When it fails, it is the
    /// event taken last that failed, or the first if none was taken, or none if that has been released.
    ///
    /// # Errors
    /// Whatever kept it from handling an event.
    #[inline]
    fn on_batch(&mut self, events: &mut Events<'_, T>) -> Result<(), HandlerError> {
        events.each(|event, at| self.on_event(event, at))
    }

    /// Called with each event.
    ///
    /// # Errors
    /// Whatever kept it from handling the event.
    fn on_event(&mut self, event: &T, at: At) -> Result<(), HandlerError>;

    /// Called when there is nothing to handle, before the stage waits; and again at intervals if it has
    /// [some](crate::Stage::idle_every). The place to release what is held.
    ///
    /// # Errors
    /// Whatever failed: it ends the stage, as no event is to blame.
    fn on_idle(&mut self, idle: &mut Idle<'_, T>) -> Result<(), HandlerError> {
        let _ = idle;
        Ok(())
    }

    /// Called once, after everything else, however the stage has ended.
    ///
    /// # Errors
    /// Whatever failed: it is in the report.
    fn on_stop(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Reads and changes the events of a stage; as [`Handler`].
///
/// # Examples
/// See [`Stage::new_mut`](crate::Stage::new_mut).
pub trait HandlerMut<T>: 'static {
    /// As [`Handler::on_start`].
    ///
    /// # Errors
    /// As there.
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        let _ = stage;
        Ok(())
    }

    /// As [`Handler::on_batch`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    fn on_batch(&mut self, events: &mut EventsMut<'_, T>) -> Result<(), HandlerError> {
        events.each(|event, at| self.on_event(event, at))
    }

    /// As [`Handler::on_event`].
    ///
    /// # Errors
    /// As there.
    fn on_event(&mut self, event: &mut T, at: At) -> Result<(), HandlerError>;

    /// As [`Handler::on_idle`].
    ///
    /// # Errors
    /// As there.
    fn on_idle(&mut self, idle: &mut Idle<'_, T>) -> Result<(), HandlerError> {
        let _ = idle;
        Ok(())
    }

    /// As [`Handler::on_stop`].
    ///
    /// # Errors
    /// As there.
    fn on_stop(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<T, H: Handler<T> + ?Sized> Handler<T> for Box<H> {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        (**self).on_start(stage)
    }

    #[inline]
    fn on_batch(&mut self, events: &mut Events<'_, T>) -> Result<(), HandlerError> {
        (**self).on_batch(events)
    }

    #[inline]
    fn on_event(&mut self, event: &T, at: At) -> Result<(), HandlerError> {
        (**self).on_event(event, at)
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, T>) -> Result<(), HandlerError> {
        (**self).on_idle(idle)
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        (**self).on_stop()
    }
}

/// Several behind one stage: each event goes to one after the other, by [`Handler::on_event`]. All of them
/// are stopped; the first failure is the one that counts.
impl<T, H: Handler<T>> Handler<T> for Vec<H> {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        self.iter_mut().try_for_each(|each| each.on_start(stage))
    }

    fn on_event(&mut self, event: &T, at: At) -> Result<(), HandlerError> {
        self.iter_mut()
            .try_for_each(|each| each.on_event(event, at))
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, T>) -> Result<(), HandlerError> {
        self.iter_mut().try_for_each(|each| each.on_idle(idle))
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        let mut first = None;
        for each in self.iter_mut() {
            let stopped = catch_unwind(AssertUnwindSafe(|| each.on_stop()));
            if matches!(stopped, Ok(Ok(()))) {
                continue;
            }
            if first.is_none() {
                first = Some(stopped);
            } else {
                let _ = caught(|| drop(stopped)); // An error, or what was panicked with, may panic when it is dropped.
            }
        }
        match first {
            None => Ok(()),
            Some(Ok(failed)) => failed,
            Some(Err(panicked)) => resume_unwind(panicked),
        }
    }
}

/// What a closure returns that handles events: nothing, or a result.
///
/// # Examples
/// See [`Stage`](crate::Stage).
pub trait Outcome: sealed::Outcome {}

impl Outcome for () {}
impl<E: Into<HandlerError>> Outcome for Result<(), E> {}

/// A closure as a handler.
pub(crate) struct Each<F>(pub(crate) F);

impl<T, R: Outcome, F: FnMut(&T, At) -> R + 'static> Handler<T> for Each<F> {
    #[inline]
    fn on_event(&mut self, event: &T, at: At) -> Result<(), HandlerError> {
        sealed::Outcome::into_result((self.0)(event, at))
    }
}

impl<T, R: Outcome, F: FnMut(&mut T, At) -> R + 'static> HandlerMut<T> for Each<F> {
    #[inline]
    fn on_event(&mut self, event: &mut T, at: At) -> Result<(), HandlerError> {
        sealed::Outcome::into_result((self.0)(event, at))
    }
}

mod sealed {
    use super::*;

    pub trait Outcome {
        fn into_result(self) -> Result<(), HandlerError>;
    }

    impl Outcome for () {
        #[inline]
        fn into_result(self) -> Result<(), HandlerError> {
            Ok(())
        }
    }

    impl<E: Into<HandlerError>> Outcome for Result<(), E> {
        #[inline]
        fn into_result(self) -> Result<(), HandlerError> {
            self.map_err(Into::into)
        }
    }
}

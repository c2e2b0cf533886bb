//! The thread of a stage: named and pinned at its start, and asked at its end what ended it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::thread::{self, Scope, ScopedJoinHandle};

use annulus_ring::ClaimError;
use core_affinity::CoreId;

/// Where a stage runs.
pub(crate) struct Post {
    pub(crate) stage: &'static str,
    pub(crate) core: Option<CoreId>,
}

impl Post {
    /// Runs `body` in a thread of its own, pinned and named.
    pub(crate) fn start<'scope, R: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        body: impl FnOnce() -> Result<R, ClaimError> + Send + 'scope,
    ) -> Result<Running<'scope, R>, RunError> {
        let Self { stage, core } = self;
        let pinned = move || match core {
            Some(core) if !core_affinity::set_for_current(core) => Err(Cause::Pin(core.id)),
            _ => body().map_err(Cause::Publish),
        };
        match thread::Builder::new()
            .name(stage.into())
            .spawn_scoped(scope, pinned)
        {
            Ok(thread) => Ok(Running { stage, thread }),
            Err(error) => Err(RunError::stage(stage, Cause::Start(error))),
        }
    }
}

/// A stage whose thread has been started.
pub(crate) struct Running<'scope, R> {
    stage: &'static str,
    thread: ScopedJoinHandle<'scope, Result<R, Cause>>,
}

impl<R> Running<'_, R> {
    pub(crate) fn join(self) -> Result<R, RunError> {
        let result = match self.thread.join() {
            Ok(result) => result,
            Err(payload) => Err(Cause::Panic(panic_message(&*payload))),
        };
        result.map_err(|cause| RunError::stage(self.stage, cause))
    }
}

/// Why a plan was not run to its end.
#[derive(Debug)]
pub(crate) enum RunError {
    Setup(Box<dyn Error>),
    Stage { stage: &'static str, cause: Cause },
}

/// What ended a stage.
#[derive(Debug)]
pub(crate) enum Cause {
    Start(io::Error),
    Pin(usize),
    Publish(ClaimError),
    Panic(String),
}

impl RunError {
    pub(crate) fn setup(error: impl Error + 'static) -> Self {
        Self::Setup(error.into())
    }

    fn stage(stage: &'static str, cause: Cause) -> Self {
        Self::Stage { stage, cause }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "the pipeline could not be set up: {error}"),
            Self::Stage { stage, cause } => match cause {
                Cause::Start(error) => write!(f, "stage {stage} could not be started: {error}"),
                Cause::Pin(core) => write!(f, "stage {stage} could not be pinned to core {core}"),
                Cause::Publish(error) => write!(f, "stage {stage} could not publish: {error}"),
                Cause::Panic(message) => write!(f, "stage {stage} panicked: {message}"),
            },
        }
    }
}

impl Error for RunError {}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(message) = payload.downcast_ref::<&str>() {
        (*message).into()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else {
        "without a message".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_pinned_is_reported_by_stage_and_core() {
        let post = Post {
            stage: "audit",
            core: Some(CoreId { id: 1023 }),
        };
        let error = thread::scope(|scope| post.start(scope, || Ok(())).unwrap().join());
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("stage audit could not be pinned to core "),
            "{error}"
        );
    }
}

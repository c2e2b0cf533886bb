//! Tells of stages that take longer for a batch than they should, while they are at it.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::control::{Control, Post};
use crate::failure::caught;
use crate::metrics::{elapsed, ticks};

/// Who is told; see [`Pipeline::on_slow`](crate::Pipeline::on_slow).
pub(crate) type OnSlow = Box<dyn FnMut(&Slow) + Send>;

/// A stage takes longer for a batch than its [limit](crate::Stage::limit).
///
/// # Examples
/// See [`Pipeline::on_slow`](crate::Pipeline::on_slow).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slow {
    /// Its name.
    pub stage: String,
    /// How long it has taken so far.
    pub took: Duration,
    /// How long it should take at most.
    pub limit: Duration,
}

/// Starts a thread that looks after the stages that have a limit, if somebody wants to be told. It ends when they
/// have, and nobody waits for it: whoever is told may take any time.
pub(crate) fn start(control: &Arc<Control>, on_slow: Option<OnSlow>) -> io::Result<()> {
    let limits = control.stages.iter().filter_map(|post| post.limit);
    let (Some(shortest), Some(on_slow)) = (limits.min(), on_slow) else {
        return Ok(());
    };
    // Often enough not to miss what takes half as long again.
    let interval = (shortest / 2).max(Duration::from_micros(500));
    let control = control.clone();
    let supervisor = thread::Builder::new().name("supervisor".to_owned());
    let watch = move || watch(&control, interval, on_slow);
    supervisor.spawn(watch).map(drop)
}

fn watch(control: &Control, interval: Duration, mut on_slow: OnSlow) {
    if !control.is_to_begin() {
        let _ = caught(|| drop(on_slow));
        return;
    }
    // When each stage began the batch that was told last.
    let mut told = vec![0; control.stages.len()];
    while control.pause_while_running(interval) {
        for (post, told) in control.stages.iter().zip(&mut told) {
            let busy_since = post.busy_since.get();
            if busy_since == 0 || busy_since == *told {
                continue;
            }
            if let Some(slow) = slow(post, busy_since) {
                *told = busy_since;
                let _ = caught(|| on_slow(&slow)); // It can do no more than be told.
            }
        }
    }
    let _ = caught(|| drop(on_slow)); // Nobody is there to hear of a panic.
}

fn slow(post: &Post, busy_since: u64) -> Option<Slow> {
    let limit = post.limit?;
    let took = elapsed(busy_since, ticks());
    (took > limit).then(|| Slow {
        stage: post.name.clone(),
        took,
        limit,
    })
}

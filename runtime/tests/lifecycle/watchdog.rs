//! Finds hangs.

use std::process;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::round::{Round, name};
use crate::{MINUTE, lock};

/// Aborts the program when a round takes longer than a minute.
pub(crate) struct Watchdog {
    pub(crate) watched: Arc<Mutex<Option<Watched>>>,
    pub(crate) thread: Option<JoinHandle<()>>,
}

pub(crate) struct Watched {
    pub(crate) seed: u64,
    pub(crate) since: Instant,
    pub(crate) round: Arc<Round>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let watched = Arc::new(Mutex::new(None::<Watched>));
        let looked_at = watched.clone();
        let thread = thread::spawn(move || {
            // Its owner wakes it to have it end: this is no more than how often it looks.
            while Arc::strong_count(&looked_at) > 1 {
                thread::park_timeout(Duration::from_secs(1));
                let watched = lock(&looked_at);
                if let Some(watched) = watched.as_ref()
                    && watched.since.elapsed() > MINUTE
                {
                    watched.tell();
                    process::abort();
                }
            }
        });
        Self {
            watched,
            thread: Some(thread),
        }
    }

    pub(crate) fn watch(&self, seed: u64, round: &Arc<Round>) {
        *lock(&self.watched) = Some(Watched {
            seed,
            since: Instant::now(),
            round: round.clone(),
        });
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watched = Arc::default();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join(); // It does not panic.
        }
    }
}

impl Watched {
    /// Prints as it goes: what it looks at may be what hangs.
    pub(crate) fn tell(&self) {
        let round = &self.round;
        eprintln!(
            "the round with ANNULUS_SEED={} hangs: {:?}",
            self.seed, round.plan
        );
        for (index, log) in round.logs.iter().enumerate() {
            eprintln!("{}: {:?}", name(index), log.entries.try_lock());
        }
        if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
            for task in tasks.flatten() {
                let read = |what: &str| std::fs::read_to_string(task.path().join(what));
                let [name, place] = ["comm", "wchan"].map(|what| read(what).unwrap_or_default());
                eprintln!("thread {} waits at {place}", name.trim());
            }
        }
        eprintln!("{:#?}", round.ring.snapshot());
        if let Some(running) = round.running.get().and_then(Weak::upgrade) {
            eprintln!("{:#?}", running.report());
            std::mem::forget(running); // It would stop the pipeline.
        }
    }
}

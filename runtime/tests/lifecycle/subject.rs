//! The handlers, which write down what happens to them, and fail as planned.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::thread;

use annulus::ring::Sequence;
use annulus::{At, Ended, Events, EventsMut, Handler, HandlerError, HandlerMut, Idle, Running};

use crate::lock;
use crate::plan::{Act, Fault, How, Random, Spot};

/// Says who published it.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) author: u64,
    pub(crate) nth: u64,
    /// Which of the stages that change events have had it, by bits.
    pub(crate) had_by: u64,
}

/// What a stage has written down of itself.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: Mutex<Entries>,
    /// Events below this one may be seen by later stages.
    pub(crate) through: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Whether there was a handler at all.
    pub(crate) built: bool,
    pub(crate) started: u64,
    pub(crate) stopped: u64,
    pub(crate) dropped: u64,
    /// The events that count as handled if it ends now.
    pub(crate) handled: Vec<Sequence>,
    pub(crate) given_up: Vec<Sequence>,
    /// Whether it holds events, as far as it knows.
    pub(crate) holding: bool,
    /// Every event that it has seen and who had it before, also what it was given again.
    pub(crate) seen: Vec<(Sequence, Event)>,
    /// How many retries and rewinds the closure wanted that decides, and how often it was asked.
    pub(crate) again: u64,
    pub(crate) asked: u64,
    /// How often it failed for good, where nobody else decides.
    pub(crate) wrong: Vec<String>,
}

impl Log {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }

    /// A test that panics in a handler is one more failure; so it is written down.
    pub(crate) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.entries().wrong.push(what());
        }
    }

    pub(crate) fn let_through(&self, until: Sequence) {
        self.through.fetch_max(until, Ordering::AcqRel);
    }
}

pub(crate) type Handle = Arc<OnceLock<Weak<Running<Event>>>>;

/// The handler of a stage, of either kind.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) log: Arc<Log>,
    /// Those that must have let an event through before this one sees it.
    pub(crate) before: Vec<Arc<Log>>,
    pub(crate) changes: Option<u64>,
    pub(crate) holds: bool,
    pub(crate) faults: Faults,
    pub(crate) act: Option<(u64, Act)>,
    pub(crate) running: Handle,
    pub(crate) events: u64,
    pub(crate) random: Random,
}

/// What goes wrong at a stage, and how often each spot has been passed.
#[derive(Clone)]
pub(crate) struct Faults {
    pub(crate) faults: Vec<Fault>,
    pub(crate) calls: BTreeMap<Spot, u64>,
}

impl Faults {
    pub(crate) fn new(faults: &[Fault]) -> Self {
        Self {
            faults: faults.to_vec(),
            calls: BTreeMap::new(),
        }
    }

    pub(crate) fn at(&mut self, spot: Spot) -> Result<(), HandlerError> {
        let call = self.calls.entry(spot).or_default();
        let is_now = |fault: &&Fault| {
            fault.spot == spot && (fault.from..fault.from + fault.calls).contains(call)
        };
        let how = self.faults.iter().find(is_now).map(|fault| fault.how);
        *call += 1;
        match how {
            None => Ok(()),
            Some(How::Error) => Err("as planned".into()),
            // Without a word on the terminal.
            Some(How::Panic) => resume_unwind(Box::new("as planned".to_owned())),
            Some(How::Bomb) => resume_unwind(Box::new(Bomb)),
        }
    }
}

pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new(()));
    }
}

impl Subject {
    pub(crate) fn starts(&mut self, stage: &str) -> Result<(), HandlerError> {
        let mut entries = self.log.entries();
        entries.started += 1;
        let is_first = entries.started == 1 && entries.seen.is_empty() && entries.stopped == 0;
        drop(entries);
        self.log.check(is_first, || "on_start was not first".into());
        self.is_at_home();
        self.log
            .check(stage == self.name, || format!("it is called {stage:?}"));
        self.faults.at(Spot::Start)
    }

    pub(crate) fn is_at_home(&self) {
        let here = thread::current();
        let is_home = here.name() == Some(&self.name);
        self.log.check(is_home, || format!("it runs on {here:?}"));
    }

    /// A batch begins, or goes on after a failure, at this event.
    pub(crate) fn begins(&mut self, next: Sequence) -> Result<(), HandlerError> {
        self.is_at_home();
        let mut entries = self.log.entries();
        let is_running = entries.started == 1 && entries.stopped == 0;
        // What is to be handled again has not been handled.
        while entries.handled.last().is_some_and(|last| *last >= next) {
            entries.handled.pop();
        }
        let given_up = entries.given_up.last().copied();
        drop(entries);
        self.log
            .check(is_running, || format!("batch at {next} out of its life"));
        self.log.check(given_up.is_none_or(|last| last < next), || {
            format!("{next} after {given_up:?} was given up")
        });
        self.faults.at(Spot::Begin)
    }

    pub(crate) fn sees(&mut self, event: Event, at: At) -> Result<(), HandlerError> {
        let sequence = at.sequence;
        for before in &self.before {
            let through = before.through.load(Ordering::Acquire);
            self.log.check(sequence < through, || {
                format!(
                    "{sequence} before an earlier stage has let it through, which is at {through}"
                )
            });
        }
        self.log
            .check(at.left < at.batch && at.batch <= at.backlog, || {
                format!("{at:?}")
            });
        let mut entries = self.log.entries();
        let last = entries.handled.last().copied();
        entries.seen.push((sequence, event));
        drop(entries);
        self.log.check(last.is_none_or(|last| last < sequence), || {
            format!("{sequence} after {last:?}")
        });
        self.events += 1;
        if let Some((_, act)) = self.act.filter(|(nth, _)| *nth == self.events)
            && let Some(running) = self.running.get().and_then(Weak::upgrade)
        {
            self.acts(act, &running);
        }
        self.faults.at(Spot::Event)?;
        self.log.entries().handled.push(sequence);
        if !self.holds {
            self.log.let_through(sequence + 1);
        }
        Ok(())
    }

    pub(crate) fn acts(&self, act: Act, running: &Running<Event>) {
        let ended = match act {
            Act::Stop(within) => running.stop(within),
            Act::Abort => running.abort(),
            _ => return running.close(),
        };
        // This stage has not ended, and the report says so.
        let report = ended.err().map(|stopped| stopped.report);
        let mut stages = report.iter().flat_map(|report| &report.stages);
        let mine = stages.find(|stage| stage.name == self.name);
        let is_overdue = mine.is_some_and(|stage| matches!(stage.ended, Ended::Overdue));
        self.log
            .check(is_overdue, || "it stopped itself, and has ended".into());
    }

    pub(crate) fn idles(&mut self, idle: &mut Idle<'_, Event>) -> Result<(), HandlerError> {
        self.is_at_home();
        let held: Vec<Sequence> = idle.held().map(|(sequence, _)| sequence).collect();
        self.log.check(self.holds || held.is_empty(), || {
            format!("it holds {held:?}")
        });
        self.log
            .check(held.is_sorted_by(|one, next| one < next), || {
                format!("it holds {held:?}")
            });
        if let (Some(first), Some(last)) = (held.first(), held.last()) {
            let until = match self.random.below(4) {
                0 if self.faults.faults.is_empty() && idle.is_ending() => first + 1,
                _ => last + 1,
            };
            self.log.let_through(until);
            idle.release_held(until);
        }
        self.log.entries().holding = idle.held().next().is_some();
        self.faults.at(Spot::Idle)
    }

    pub(crate) fn stops(&mut self) -> Result<(), HandlerError> {
        self.is_at_home();
        let mut entries = self.log.entries();
        entries.stopped += 1;
        let is_last = entries.started == 1 && entries.stopped == 1 && entries.dropped == 0;
        drop(entries);
        self.log.check(is_last, || "on_stop was not last".into());
        self.log.let_through(Sequence::MAX); // From now on nobody waits for it.
        self.faults.at(Spot::Stop)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.log.entries().dropped += 1;
        if let Err(error) = self.faults.at(Spot::Drop) {
            resume_unwind(Box::new(error.to_string()));
        }
    }
}

/// The two kinds of batches have the same methods, and no trait for them.
macro_rules! handle_batch {
    ($subject:ident, $events:ident, $event:ident => $found:expr) => {{
        $subject.begins($events.sequences().end - $events.len() as u64)?;
        let holds = $subject.holds && !$subject.random.one_in(4);
        if holds {
            $events.hold();
        }
        if $subject.random.one_in(4) {
            let until = $events.sequences().start;
            $subject.log.let_through(until);
            $events.release_held(until);
            $subject.log.entries().holding = false;
        }
        let mut last = None;
        let mut released = None;
        while let Some(($event, at)) = $events.next() {
            let found = $found;
            $subject.sees(found, at)?;
            last = Some(at.sequence);
            if $subject.random.one_in(16) {
                $subject.log.let_through(at.sequence + 1);
                $events.release();
                released = last;
            }
        }
        if let (false, Some(last)) = (holds, last) {
            $subject.log.let_through(last + 1);
        }
        $subject.log.entries().holding |= holds && released != last;
        $subject.faults.at(Spot::End)
    }};
}

impl Handler<Event> for Subject {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        self.starts(stage)
    }

    fn on_batch(&mut self, events: &mut Events<'_, Event>) -> Result<(), HandlerError> {
        handle_batch!(self, events, event => Event { ..*event })
    }

    fn on_event(&mut self, _: &Event, _: At) -> Result<(), HandlerError> {
        unreachable!("on_batch does not call it")
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, Event>) -> Result<(), HandlerError> {
        self.idles(idle)
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.stops()
    }
}

impl HandlerMut<Event> for Subject {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        self.starts(stage)
    }

    fn on_batch(&mut self, events: &mut EventsMut<'_, Event>) -> Result<(), HandlerError> {
        handle_batch!(self, events, event => {
            let found = Event { ..*event };
            event.had_by |= self.changes.unwrap_or(0);
            found
        })
    }

    fn on_event(&mut self, _: &mut Event, _: At) -> Result<(), HandlerError> {
        unreachable!("on_batch does not call it")
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, Event>) -> Result<(), HandlerError> {
        self.idles(idle)
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.stops()
    }
}

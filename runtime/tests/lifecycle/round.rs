//! One life of a pipeline, as planned.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus::ring::{Ring, Sequence};
use annulus::{
    During, Failure, Overflow, Pipeline, Placement, Running, Stage, StartError, Verdict,
};

use crate::plan::{Act, Plan, Random, Spot, Step};
use crate::producing::Source;
use crate::subject::{Event, Faults, Handle, Log, Subject};
use crate::{LONG, until};

/// One life of a pipeline, and what is known of it.
pub(crate) struct Round {
    pub(crate) plan: Plan,
    pub(crate) ring: Ring<Event>,
    pub(crate) logs: Vec<Arc<Log>>,
    /// Of the consumer that is no stage.
    pub(crate) outsider: Arc<Log>,
    /// Who published what.
    pub(crate) published: Mutex<BTreeMap<Sequence, (u64, u64)>>,
    /// How many events feeds have dropped.
    pub(crate) dropped: AtomicU64,
    pub(crate) authors: AtomicU64,
    pub(crate) running: Handle,
    /// Whether the producer may go that was to stay.
    pub(crate) may_go: AtomicBool,
}

pub(crate) fn name(stage: usize) -> String {
    format!("life-{stage}")
}

impl Round {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let mut builder = Ring::builder(plan.capacity).producers(plan.kind);
        if plan.parking {
            builder = builder.parking();
        }
        if plan.required {
            builder = builder.require_consumers(plan.stages.len());
        }
        Arc::new(Self {
            ring: builder.build(Event::default).unwrap(),
            logs: plan.stages.iter().map(|_| Arc::default()).collect(),
            outsider: Arc::default(),
            published: Mutex::default(),
            dropped: AtomicU64::new(0),
            authors: AtomicU64::new(0),
            running: Arc::default(),
            may_go: AtomicBool::new(false),
            plan,
        })
    }

    /// Returns a word for how it went.
    pub(crate) fn live(self: &Arc<Self>) -> String {
        let outsider = self.plan.outsider.then(|| self.spawn_outsider());
        // The first of many closes the ring if it is gone before the next one joins; that is a life too.
        let mut producers = Vec::new();
        for plan in self.plan.producers.iter().filter(|plan| plan.early) {
            let overflow = plan.overflow;
            producers.extend(self.join(overflow).map(|feed| self.spawn(plan, feed)));
        }
        let running = match self.start() {
            Ok(running) => Arc::new(running),
            Err(error) => {
                // Early producers may be gone already; then the outsider is, too.
                let is_expected =
                    matches!(error, StartError::Join(_) | StartError::UnknownName { .. });
                assert!(
                    self.ring.is_closed() && is_expected,
                    "it did not start: {error}"
                );
                producers.into_iter().for_each(join);
                outsider.into_iter().for_each(join);
                assert!(self.logs.iter().all(|log| !log.entries().built));
                return "not started".into();
            }
        };
        assert!(self.running.set(Arc::downgrade(&running)).is_ok());
        let feeds = self.plan.producers.iter().filter(|plan| !plan.early);
        let feeds: Vec<_> = feeds
            .filter_map(|plan| Some((plan, Source::Feed(running.feed(plan.overflow).ok()?))))
            .collect();
        producers.extend(feeds.into_iter().map(|(plan, feed)| self.spawn(plan, feed)));
        let threads: Vec<_> = (0..self.plan.threads.len())
            .map(|thread| {
                let (round, running) = (self.clone(), running.clone());
                thread::spawn(move || {
                    for act in &round.plan.threads[thread] {
                        round.act(*act, &running);
                    }
                })
            })
            .collect();

        let mut last = None;
        if self.plan.dropped {
            drop(running);
            threads.into_iter().for_each(join);
        } else {
            threads.into_iter().for_each(join);
            let within = if self.plan.kept {
                Duration::from_millis(1)
            } else {
                LONG
            };
            self.ended(&running.stop(within), true);
            last = Some(running);
        }
        self.may_go.store(true, Ordering::Release);
        producers.into_iter().for_each(join);
        outsider.into_iter().for_each(join);
        // Who drops the handle waits for two seconds, who stops it no longer than that after the deadline.
        for log in &self.logs {
            until("a handler is gone", || {
                let entries = log.entries();
                entries.dropped == u64::from(entries.built) && self.has_left_the_ring()
            });
        }
        let mut life = self.check_logs();
        if let Some(running) = last {
            until("it has ended", || running.has_ended());
            life = self.check(&running.report());
        }
        life
    }

    /// A stage that fails to build its handler leaves no other trace.
    pub(crate) fn has_left_the_ring(&self) -> bool {
        self.ring.snapshot().members.is_empty()
    }

    pub(crate) fn start(&self) -> Result<Running<Event>, StartError> {
        let plan = &self.plan;
        let mut pipeline = Pipeline::on(&self.ring);
        for &index in &plan.listed {
            pipeline = pipeline.stage(self.stage(index));
        }
        if plan.placed {
            pipeline = pipeline.place(Placement::OneEach { leave: 0 });
        }
        if plan.timed {
            pipeline = pipeline.timed_by(|event| event.nth);
        }
        pipeline
            .on_slow(|slow| assert!(slow.took > slow.limit))
            .start()
    }

    pub(crate) fn stage(&self, index: usize) -> Stage<Event> {
        let plan = &self.plan.stages[index];
        let log = self.logs[index].clone();
        let mut before: Vec<_> = (self.plan.all_before(index).into_iter())
            .map(|stage| self.logs[stage].clone())
            .collect();
        let mut after: Vec<String> = plan.after.iter().copied().map(name).collect();
        if self.plan.outsider && index == 0 {
            before.push(self.outsider.clone());
            after.push("outsider".into());
        }
        let mut faults = Faults::new(&plan.faults);
        let (mut decide_faults, mut letter_faults) = (faults.clone(), faults.clone());
        let (holds, act, running) = (plan.holds, plan.act, self.running.clone());
        let changes = plan.changes.then_some(1 << index);
        let random = Random(plan.seed);
        let subject_log = log.clone();
        let build = move || {
            if let Err(error) = faults.at(Spot::Build) {
                resume_unwind(Box::new(error.to_string()));
            }
            subject_log.entries().built = true;
            Subject {
                name: name(index),
                log: subject_log,
                before,
                changes,
                holds,
                faults,
                act,
                running,
                events: 0,
                random,
            }
        };
        // Without a handler there is nobody to say that nobody waits for it.
        let unbuilt = plan.faults.iter().any(|fault| fault.spot == Spot::Build);
        if unbuilt {
            log.let_through(Sequence::MAX);
        }
        let mut stage = if plan.changes {
            Stage::with_mut(name(index), build)
        } else {
            Stage::with(name(index), build)
        };
        stage = stage
            .after(after)
            .wait(plan.wait)
            .on_failure(plan.on_failure);
        if let Some(limit) = plan.batch_limit {
            stage = stage.batch_limit(limit);
        }
        if let Some(every) = plan.idle_every {
            stage = stage.idle_every(every);
        }
        if let Some(limit) = plan.limit {
            stage = stage.limit(limit);
        }
        if let Some(seed) = plan.decides {
            let (log, mut random) = (log.clone(), Random(seed));
            stage = stage.on_failure_by(move |failure| {
                let verdict = decide(&mut random, failure);
                let is_event = failure.during == During::Event;
                // Of a batch whose handler has released what it took, no event is to blame.
                log.check(is_event || failure.sequence.is_none(), || {
                    format!("{failure:?}")
                });
                log.entries().asked += 1;
                if decide_faults.at(Spot::Decide).is_err() {
                    resume_unwind(Box::new("undecided"));
                }
                let again = matches!(verdict, Verdict::Retry { .. } | Verdict::Rewind { .. });
                log.entries().again += u64::from(again && is_event);
                verdict
            });
        }
        stage.dead_letters(move |letter| {
            let sequence = letter.failure.sequence.unwrap_or(Sequence::MAX);
            let mut entries = log.entries();
            // The last one taken is to blame, also if it had been handled.
            if entries.handled.last() == Some(&sequence) {
                entries.handled.pop();
            }
            entries.given_up.push(sequence);
            drop(entries);
            log.let_through(sequence + 1);
            if letter_faults.at(Spot::Letter).is_err() {
                resume_unwind(Box::new("lost"));
            }
        })
    }

    pub(crate) fn spawn_outsider(self: &Arc<Self>) -> JoinHandle<()> {
        let mut consumer = self.ring.consumer("outsider").join().unwrap();
        let log = self.outsider.clone();
        thread::spawn(move || {
            while let Ok(batch) = consumer.next_batch() {
                log.let_through(batch.sequences().end);
            }
            log.let_through(Sequence::MAX);
        })
    }

    pub(crate) fn act(&self, act: Act, running: &Running<Event>) {
        match act {
            Act::Yield(times) => (0..times).for_each(|_| thread::yield_now()),
            Act::Handled(events) => {
                let handled = || {
                    self.logs
                        .iter()
                        .map(|log| log.entries().handled.len() as u64)
                };
                // Perhaps so many never come: for some time.
                for _ in 0..100 {
                    if handled().sum::<u64>() >= events || running.has_ended() {
                        break;
                    }
                    thread::yield_now();
                }
            }
            Act::Stop(within) => self.ended(&running.stop(within), within == LONG),
            Act::Abort => {
                let ended = running.abort();
                self.ended(&ended, false);
            }
            Act::Join => self.ended(&running.join(), true),
            Act::Close => running.close(),
            Act::CloseRing => self.ring.close(),
            Act::Poison(reason) => self.ring.poison(reason),
            Act::Look => {
                let report = running.report();
                assert_eq!(report.stages.len(), self.plan.stages.len());
                assert_eq!(running.metrics().len(), self.plan.stages.len());
                let _ = (format!("{report:?} {running:?}"), running.warnings());
            }
            Act::Feed => {
                let feed = running.feed(Overflow::WaitFor(Duration::from_micros(50)));
                if let Ok(feed) = feed {
                    self.publish(Source::Feed(feed), &[Step::One, Step::Batch(2)]);
                }
            }
        }
    }
}

pub(crate) fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Says nonsense at times: what makes no sense is a stop.
pub(crate) fn decide(random: &mut Random, _: &Failure) -> Verdict {
    match random.below(6) {
        0 => Verdict::Stop,
        1 => Verdict::Detach,
        2 => Verdict::Skip,
        3 => Verdict::Retry {
            pause: random.pause(),
        },
        4 => Verdict::Rewind {
            pause: random.pause(),
        },
        _ => Verdict::Retry {
            pause: Duration::ZERO,
        },
    }
}

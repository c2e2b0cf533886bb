//! A graph of stages: what it looks like, what is wrong with it, and how it is started. Every mistake is found
//! before a thread exists.

use std::cell::Cell;
use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use annulus_ring::{Consumer, JoinError, Member, MutableConsumer, OnDeath, Ring};

use crate::control::{Control, Post};
use crate::metrics::{Counter, Counters, Timed, Times, calibrate};
use crate::pin::{self, Placement, Wanted, Warning};
use crate::running::Running;
use crate::stage::{Runner, Settings, Stage};
use crate::supervise::{self, OnSlow, Slow};
use crate::work::{Inlet, Place, Policy, Published, Work};

/// A graph of stages over a ring, to be [started](Pipeline::start).
///
/// Stages may be given in any order. Dropping it without starting it does nothing.
///
/// # Examples
/// ```
/// use annulus::{Pipeline, Stage};
/// use annulus::ring::Ring;
///
/// let ring = Ring::builder(64).build(u64::default)?;
/// let running = Pipeline::on(&ring)
///     .stage(Stage::each("journal", |_: &u64, _| ()).core(0))
///     .stage(Stage::each("book", |_: &u64, _| ()))
///     .stage(Stage::each("risk", |_: &u64, _| ()).after(["journal", "book"]))
///     .start()?;
/// ring.producer()?.publish_value(7)?;
/// let report = running.join()?;
/// assert!(report.stages.iter().all(|stage| stage.handled == 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pipeline<T: 'static> {
    ring: Ring<T>,
    stages: Vec<Stage<T>>,
    placement: Placement,
    published: Option<Published<T>>,
    on_slow: Option<OnSlow>,
    owns_ring: bool,
}

impl<T: Send + Sync + 'static> Pipeline<T> {
    /// A pipeline without stages.
    ///
    /// Its stages are given what is published from its start on. If producers may be there earlier, have the ring
    /// [require](annulus_ring::RingBuilder::require_consumers) as many consumers as there are stages.
    ///
    /// # Examples
    /// See [`Pipeline`].
    #[must_use]
    pub fn on(ring: &Ring<T>) -> Self {
        Self {
            ring: ring.clone(),
            stages: Vec::new(),
            placement: Placement::default(),
            published: None,
            on_slow: None,
            owns_ring: !ring.is_shared(),
        }
    }

    /// Says whether the ring ends with the pipeline.
    ///
    /// It does on the heap, if nothing is said: [stop](Running::stop) closes it, and a failure or an abort poisons
    /// it, for everybody. In memory that processes share it does not: others may have events in it that they have not
    /// read, and a ring that is closed or poisoned is so for them too. There a pipeline only ever [leaves](Running::leave),
    /// whatever ends it, unless this says that it owns the ring. Detaching a stage is the same on both.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # use std::time::Duration;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let mut book = ring.consumer("book").join()?; // of somebody else
    /// let guest = Pipeline::on(&ring).stage(Stage::each("screen", |_: &u64, _| ())).owns_ring(false).start()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// guest.stop(Duration::from_secs(5))?;
    /// feed.publish_value(8)?;
    /// assert_eq!(book.next_batch()?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn owns_ring(mut self, owns: bool) -> Self {
        self.owns_ring = owns;
        self
    }

    /// Adds a stage.
    ///
    /// # Examples
    /// See [`Pipeline`].
    #[must_use]
    pub fn stage(mut self, stage: Stage<T>) -> Self {
        self.stages.push(stage);
        self
    }

    /// Adds stages.
    ///
    /// # Examples
    /// See [`Placement`].
    #[must_use]
    pub fn stages(mut self, stages: impl IntoIterator<Item = Stage<T>>) -> Self {
        self.stages.extend(stages);
        self
    }

    /// Says where the stages run that are not given a core.
    ///
    /// # Examples
    /// See [`Placement`].
    #[must_use]
    pub fn place(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Measures how long events wait and take, by when they were published: a reading of
    /// [`ticks`](crate::ticks) in the event.
    ///
    /// Costs two readings of the clock for each batch, and a store for each event in stages that others come after.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage, ticks};
    /// # use annulus::ring::Ring;
    /// #[derive(Default)]
    /// struct Tick { published: u64, price: u64 }
    ///
    /// let ring = Ring::builder(64).build(Tick::default)?;
    /// let book = Stage::each("book", |tick: &Tick, _| assert_eq!(tick.price, 7));
    /// let running = Pipeline::on(&ring).stage(book).timed_by(|tick| tick.published).start()?;
    /// ring.producer()?.publish(|slot| *slot = Tick { published: ticks(), price: 7 })?;
    /// let report = running.join()?;
    /// assert_eq!(report.stages[0].metrics.times.as_ref().unwrap().batch_ns.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timed_by(mut self, published: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.published = Some(Arc::new(published));
        self
    }

    /// Calls a closure when a stage takes longer than its [limit](Stage::limit) for a batch, while it is at it: once
    /// for each such batch, but for one that ends within half as long again and may be missed. It is called on a
    /// thread of its own.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # use std::time::Duration;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let journal = Stage::each("journal", |_: &u64, _| ()).limit(Duration::from_millis(5));
    /// let running = Pipeline::on(&ring)
    ///     .stage(journal)
    ///     .on_slow(|slow| eprintln!("{} is at a batch for {:?}", slow.stage, slow.took))
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn on_slow(mut self, told: impl FnMut(&Slow) + Send + 'static) -> Self {
        self.on_slow = Some(Box::new(told));
        self
    }

    /// A drawing of the graph, for [Mermaid](https://mermaid.js.org).
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let pipeline = Pipeline::on(&ring)
    ///     .stage(Stage::each("journal", |_: &u64, _| ()).core(2))
    ///     .stage(Stage::each("risk", |_: &u64, _| ()).after(["journal"]));
    /// assert_eq!(pipeline.to_mermaid(), "\
    /// flowchart LR
    ///     ring([\"ring of 64\"])
    ///     s0[\"journal, core 2\"]
    ///     s1[\"risk\"]
    ///     ring --> s0
    ///     s0 --> s1
    /// ");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut drawing = format!(
            "flowchart LR\n    ring([\"ring of {}\"])\n",
            self.ring.capacity()
        );
        let mut arrows = String::new();
        let mut others: Vec<&str> = Vec::new();
        // Writing to a string cannot fail.
        for (index, stage) in self.stages.iter().enumerate() {
            let Settings { name, after, .. } = &stage.settings;
            let core = match &stage.settings.all_cores()[..] {
                [] => String::new(),
                [core] => format!(", core {core}"),
                cores => format!(", cores {}", pin::list(cores)),
            };
            let changes = if stage.changes() { ", changes" } else { "" };
            let label = format!("{name}{core}{changes}").replace('"', "#quot;");
            let _ = writeln!(drawing, "    s{index}[\"{label}\"]");
            if after.is_empty() {
                let _ = writeln!(arrows, "    ring --> s{index}");
            }
            for before in after {
                let known = self
                    .stages
                    .iter()
                    .position(|stage| stage.settings.name == *before);
                let from = known.map_or_else(
                    || {
                        let other = others.iter().position(|other| *other == before.as_str());
                        let other = other.unwrap_or_else(|| {
                            others.push(before);
                            others.len() - 1
                        });
                        format!("o{other}")
                    },
                    |known| format!("s{known}"),
                );
                let _ = writeln!(arrows, "    {from} --> s{index}");
            }
        }
        for (index, other) in others.iter().enumerate() {
            let label = other.replace('"', "#quot;");
            let _ = writeln!(drawing, "    o{index}[\"{label}\"]\n    ring -.-> o{index}");
        }
        drawing + &arrows
    }

    /// Checks everything, enters the stages into the ring, and starts a thread for each.
    ///
    /// Nothing has happened if it fails.
    ///
    /// # Errors
    /// What is wrong with which stage.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::Ring;
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let risk = Stage::each("risk", |_: &u64, _| ()).after(["jornal"]);
    /// let error = Pipeline::on(&ring).stage(risk).start().unwrap_err();
    /// assert!(error.to_string().starts_with("stage \"risk\" comes after \"jornal\", "));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(self) -> Result<Running<T>, StartError> {
        let cores = pin::cores();
        let order = self.check()?;
        let outside = self.check_cores(&cores)?;
        let wanted: Vec<_> = (self.stages.iter())
            .map(|stage| Wanted {
                name: &stage.settings.name,
                cores: stage.settings.all_cores(),
                wait: stage.settings.wait,
            })
            .collect();
        let (planned, planned_warnings) =
            pin::plan(&wanted, self.placement, &cores, pin::quota(), pin::siblings);
        let mut warnings: Vec<_> = outside.into_iter().chain(planned_warnings).collect();
        warnings.extend(self.held_behind_released());
        let inlets = self.join(&order)?;
        calibrate();

        let posts: Vec<_> = (self.stages.iter().zip(&inlets))
            .map(|(stage, (inlet, has_resumed))| {
                Arc::new(self.post(&stage.settings, inlet.start(), *has_resumed))
            })
            .collect();
        let control = Arc::new(Control::new(posts, self.owns_ring));
        let before: Vec<_> = (self.stages.iter())
            .map(|stage| control.posts_named(&stage.settings.after))
            .collect();
        let Self {
            ring,
            stages,
            published,
            on_slow,
            ..
        } = self;

        let mut threads = Vec::new();
        let mut error = None;
        let mut without_thread = None;
        let mut parts = stages.into_iter().zip(inlets).zip(before).zip(&planned);
        for (index, (((stage, (inlet, _)), before), cores)) in parts.by_ref().enumerate() {
            let Stage {
                settings,
                runner,
                decide,
                dead_letters,
            } = stage;
            let place = Place {
                index,
                post: control.stages[index].clone(),
                control: control.clone(),
                ring: ring.clone(),
                idle_every: settings.idle_every,
                holds: settings.holds(ring.is_shared()),
                looks: Cell::default(),
                is_evicted: Cell::default(),
                published: published.clone(),
                before,
            };
            let on_failure = settings.on_failure;
            let decide =
                decide.unwrap_or_else(|| Box::new(move |failure| on_failure.verdict(failure)));
            let policy = Policy {
                decide,
                dead_letters,
            };
            let cores = cores.clone();
            let run: Box<dyn FnOnce() + Send> = match (runner, inlet) {
                (Runner::Reads(run), Joined::Reads(inlet)) => Box::new(move || {
                    run(Work {
                        inlet,
                        cores,
                        place,
                        policy,
                    })
                }),
                (Runner::Changes(run), Joined::Changes(inlet)) => Box::new(move || {
                    run(Work {
                        inlet,
                        cores,
                        place,
                        policy,
                    })
                }),
                _ => unreachable!("it joined as what it is"),
            };
            let task = Arc::new(Mutex::new(Some(run)));
            let given = task.clone();
            let thread = thread::Builder::new().name(settings.name.clone());
            match thread.spawn(move || take(&given).map_or((), |run| run())) {
                Ok(thread) => threads.push(thread),
                Err(cause) => {
                    error = Some((settings.name, cause));
                    without_thread = take(&task);
                    break;
                }
            }
        }
        if error.is_none() {
            let supervised = supervise::start(&control, on_slow);
            error = supervised
                .err()
                .map(|cause| ("supervisor".to_owned(), cause));
        }
        control.begin(error.is_none());
        if let Some((stage, cause)) = error {
            for (((_, (inlet, has_resumed)), _), _) in parts {
                inlet.leave(has_resumed);
            }
            if let Some(run) = without_thread {
                run(); // It goes home, too.
            }
            for thread in threads {
                let _ = thread.join(); // It goes home.
            }
            return Err(StartError::Thread { stage, cause });
        }
        Ok(Running {
            ring,
            control,
            threads: Mutex::new(threads),
            cores: planned,
            warnings: Mutex::new(warnings),
            feeds: Mutex::default(),
        })
    }

    fn post(&self, settings: &Settings, start: u64, has_resumed: bool) -> Post {
        let is_before = |other: &Stage<T>| other.settings.after.contains(&settings.name);
        let times = self.published.as_ref().map(|_| {
            if self.stages.iter().any(is_before) {
                Times::before_others(self.ring.capacity())
            } else {
                Times::of_the_last()
            }
        });
        Post {
            name: settings.name.clone(),
            start,
            counters: Counters::new(times),
            limit: settings.limit,
            busy_since: Counter::default(),
            held_up_by: Counter::default(),
            left_at: Counter::default(),
            has_resumed,
            departure: OnceLock::new(),
        }
    }

    /// Enters all stages, in an order in which each comes after what it comes after; returns them in the order in
    /// which they were given, and whether each goes on in the place of another.
    fn join(&self, order: &[usize]) -> Result<Vec<(Joined<T>, bool)>, StartError> {
        let mut joined: Vec<Option<(Joined<T>, bool)>> = self.stages.iter().map(|_| None).collect();
        for &index in order {
            let stage = &self.stages[index];
            let members = self.ring.snapshot().members;
            let is_held = |member: &Member| member.is_held && member.name == stage.settings.name;
            let has_resumed = members.iter().any(is_held);
            // It goes on behind what the other came behind, and a newcomer is not among that.
            let newcomer = (self.stages.iter().zip(&joined)).find(|(other, joined)| {
                let Settings { name, .. } = &other.settings;
                let is_new = joined.as_ref().is_some_and(|(_, has_resumed)| !has_resumed);
                let holds = other.settings.holds(self.ring.is_shared());
                has_resumed && is_new && holds && stage.settings.after.contains(name)
            });
            let error = match (newcomer, self.join_one(stage)) {
                (None, Ok(inlet)) => {
                    joined[index] = Some((inlet, has_resumed));
                    continue;
                }
                (Some((other, _)), Ok(inlet)) => {
                    inlet.leave(true);
                    StartError::OutOfOrder {
                        stage: stage.settings.name.clone(),
                        after: other.settings.name.clone(),
                    }
                }
                (_, Err(error)) => StartError::Join(error),
            };
            for (inlet, has_resumed) in joined.into_iter().flatten() {
                inlet.leave(has_resumed); // What it had taken up is there for another try.
            }
            return Err(error);
        }
        Ok(joined.into_iter().flatten().collect())
    }

    fn join_one(&self, stage: &Stage<T>) -> Result<Joined<T>, JoinError> {
        let settings = &stage.settings;
        let mut builder = (self.ring.consumer(&settings.name))
            .after(settings.after.iter().map(String::as_str))
            .start(settings.start)
            .wait(settings.wait);
        if let Some(limit) = settings.batch_limit {
            builder = builder.batch_limit(limit);
        }
        if let Some(time) = settings.hold_for {
            builder = builder.hold_for(time);
        }
        if settings.holds(self.ring.is_shared()) {
            builder = builder.on_death(OnDeath::Hold);
        } else if let Some(on_death) = settings.on_death {
            builder = builder.on_death(on_death);
        }
        Ok(if stage.changes() {
            Joined::Changes(builder.join_mut()?)
        } else {
            Joined::Reads(builder.join()?)
        })
    }

    /// Which stages go on without those before them if all die.
    fn held_behind_released(&self) -> impl Iterator<Item = Warning> {
        let is_shared = self.ring.is_shared();
        let held = self.stages.iter().map(|stage| &stage.settings);
        let held = held.filter(move |settings| settings.holds(is_shared));
        held.flat_map(move |Settings { name, after, .. }| {
            let before = self.stages.iter().map(|stage| &stage.settings);
            let before = before.filter(|other| after.contains(&other.name));
            let released = before.filter(move |other| !other.holds(is_shared));
            released.map(|other| Warning::HeldBehindReleased {
                stage: name.clone(),
                after: other.name.clone(),
            })
        })
    }

    /// Refuses cores that the system refuses, and tells of those that it only did not offer.
    fn check_cores(&self, cores: &[usize]) -> Result<Vec<Warning>, StartError> {
        let mut warnings = Vec::new();
        for settings in self.stages.iter().map(|stage| &stage.settings) {
            let wanted = settings.all_cores().into_iter();
            for core in wanted.filter(|core| !cores.contains(core)) {
                let stage = settings.name.clone();
                if !pin::can_run_on(core) {
                    let available = cores.to_vec();
                    return Err(StartError::UnknownCore {
                        stage,
                        core,
                        available,
                    });
                }
                warnings.push(Warning::CoreNotOffered { stage, core });
            }
        }
        Ok(warnings)
    }

    /// Finds what is wrong without looking at what the ring says; returns an order to join in.
    fn check(&self) -> Result<Vec<usize>, StartError> {
        if self.stages.is_empty() {
            return Err(StartError::NoStages);
        }
        let settings: Vec<&Settings> = self.stages.iter().map(|stage| &stage.settings).collect();
        let named = |name: &str| settings.iter().position(|settings| settings.name == name);
        let others: Vec<String> = self
            .ring
            .snapshot()
            .members
            .into_iter()
            .map(|member| member.name)
            .collect();
        for (index, Settings { name, after, .. }) in settings.iter().enumerate() {
            let stage = || name.clone();
            if name.contains('\0') {
                return Err(StartError::BadName { stage: stage() });
            }
            if named(name) != Some(index) {
                return Err(StartError::DuplicateName { stage: stage() });
            }
            for before in after {
                if named(before).is_none() && (before.is_empty() || !others.contains(before)) {
                    return Err(StartError::UnknownName {
                        stage: stage(),
                        after: before.clone(),
                    });
                }
            }
        }

        // Those that each comes after, in all; found in the order in which they can join.
        let mut before: Vec<Option<Vec<bool>>> = vec![None; settings.len()];
        let mut order = Vec::new();
        while order.len() < settings.len() {
            let known = order.len();
            for (index, Settings { after, .. }) in settings.iter().enumerate() {
                let direct: Vec<usize> = after.iter().filter_map(|name| named(name)).collect();
                if before[index].is_some() || direct.iter().any(|&stage| before[stage].is_none()) {
                    continue;
                }
                let mut all = vec![false; settings.len()];
                for stage in direct {
                    all[stage] = true;
                    let inherited = before[stage].iter().flatten();
                    all.iter_mut()
                        .zip(inherited)
                        .for_each(|(all, inherited)| *all |= inherited);
                }
                before[index] = Some(all);
                order.push(index);
            }
            if order.len() == known {
                let rest = settings
                    .iter()
                    .zip(&before)
                    .filter(|(_, before)| before.is_none());
                return Err(StartError::Cycle {
                    stages: rest.map(|(settings, _)| settings.name.clone()).collect(),
                });
            }
        }
        let comes_after =
            |one: usize, other: usize| before[one].as_ref().is_some_and(|all| all[other]);
        for (one, stage) in self
            .stages
            .iter()
            .enumerate()
            .filter(|(_, stage)| stage.changes())
        {
            let beside = (0..settings.len()).find(|&other| {
                other != one && !comes_after(one, other) && !comes_after(other, one)
            });
            if let Some(other) = beside {
                return Err(StartError::Unordered {
                    stage: stage.settings.name.clone(),
                    other: settings[other].name.clone(),
                });
            }
        }
        Ok(order)
    }
}

impl<E: Send + Sync + 'static> Pipeline<Timed<E>> {
    /// Measures how long events wait and take, as [`Pipeline::timed_by`].
    ///
    /// # Examples
    /// See [`Timed`].
    #[must_use]
    pub fn timed(self) -> Self {
        self.timed_by(|event| event.published)
    }
}

impl<T> fmt::Debug for Pipeline<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

/// Takes what a thread is to run, for the thread, or because there is none.
fn take<R>(task: &Mutex<Option<R>>) -> Option<R> {
    task.lock().unwrap_or_else(PoisonError::into_inner).take()
}

enum Joined<T> {
    Reads(Consumer<T>),
    Changes(MutableConsumer<T>),
}

impl<T> Joined<T> {
    fn start(&self) -> u64 {
        match self {
            Self::Reads(consumer) => consumer.start(),
            Self::Changes(consumer) => consumer.start(),
        }
    }

    fn leave(self, is_held: bool)
    where
        T: 'static,
    {
        match self {
            Self::Reads(consumer) => Inlet::leave(consumer, is_held),
            Self::Changes(consumer) => Inlet::leave(consumer, is_held),
        }
    }
}

/// Why a pipeline could not be started.
///
/// # Examples
/// See [`Pipeline::start`].
#[non_exhaustive]
pub enum StartError {
    /// It has no stages.
    NoStages,
    /// The name of a stage has a NUL in it, which that of a thread cannot have.
    BadName {
        /// The name.
        stage: String,
    },
    /// Several stages have the same name.
    DuplicateName {
        /// The name.
        stage: String,
    },
    /// A stage comes after one that is not there.
    UnknownName {
        /// The stage.
        stage: String,
        /// What it is to come after.
        after: String,
    },
    /// Stages come after each other in a circle.
    Cycle {
        /// They, and those that come after them.
        stages: Vec<String>,
    },
    /// A stage changes events beside another.
    Unordered {
        /// The stage that changes events.
        stage: String,
        /// The other, which comes neither before nor after it.
        other: String,
    },
    /// A stage is to be pinned to a core to which the system does not pin.
    UnknownCore {
        /// The stage.
        stage: String,
        /// The core.
        core: usize,
        /// Those that this process may run on as it is.
        available: Vec<usize>,
    },
    /// A stage would go on in the place of one of its name that had died, or left it held, and did not come after
    /// another stage of this pipeline, which it is to come after.
    OutOfOrder {
        /// The stage.
        stage: String,
        /// The other, of which the ring knows none that died or left its place held.
        after: String,
    },
    /// There is no handler for a stage of a topology.
    NoHandler {
        /// The stage.
        stage: String,
    },
    /// The ring refused a stage.
    Join(JoinError),
    /// The system refused a thread.
    Thread {
        /// The stage.
        stage: String,
        /// Why.
        cause: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStages => f.write_str("the pipeline has no stages: add one"),
            Self::BadName { stage } => {
                write!(
                    f,
                    "the name {stage:?} of a stage has a NUL in it: choose another"
                )
            }
            Self::DuplicateName { stage } => {
                write!(
                    f,
                    "several stages are called {stage:?}: give each a name of its own"
                )
            }
            Self::UnknownName { stage, after } => write!(
                f,
                "stage {stage:?} comes after {after:?}, and there is neither such a stage nor such a \
                 consumer of the ring: add it, or correct the name"
            ),
            Self::Cycle { stages } => write!(
                f,
                "the stages {stages:?} come after each other in a circle, or after some that do: take one \
                 `after` away"
            ),
            Self::Unordered { stage, other } => write!(
                f,
                "stage {stage:?} changes events, and stage {other:?} comes neither before nor after it: \
                 put one after the other"
            ),
            Self::UnknownCore {
                stage,
                core,
                available,
            } => write!(
                f,
                "stage {stage:?} is to be pinned to core {core}, which the system refuses: choose one of \
                 {available:?}"
            ),
            Self::OutOfOrder { stage, after } => write!(
                f,
                "the place of stage {stage:?} is held in the ring, and does not come after {after:?}, which is new \
                 there: let one run to the end without {after:?}, or give up what is held for it by \
                 Ring::evict({stage:?}, ..)"
            ),
            Self::NoHandler { stage } => {
                write!(
                    f,
                    "there is no handler for stage {stage:?}: add one, or correct its name"
                )
            }
            Self::Join(error) => error.fmt(f),
            Self::Thread { stage, cause } => {
                write!(
                    f,
                    "the thread of stage {stage:?} could not be started: {cause}"
                )
            }
        }
    }
}

/// As its text: this is what a `main` shows that returns it.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Join(error) => Some(error),
            Self::Thread { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

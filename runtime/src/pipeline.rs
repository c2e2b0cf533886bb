//! What is to run, as plain data: stages, what they come after, where and how they run. Every mistake is found
//! before a thread exists.

use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use annulus_ring::{Consumer, JoinError, MutableConsumer, Ring, Wait};

use crate::control::{Control, Post};
use crate::failure::{DeadLetter, Failure, OnFailure, Verdict};
use crate::handler::{At, Each, Handler, HandlerMut, Outcome};
use crate::metrics::{Counter, Counters, Timed, Times, calibrate};
use crate::pin::{self, Placement, Wanted};
use crate::running::Running;
use crate::stage::{Changes, DeadLetters, Decide, Place, Policy, Published, Reads, Work};
use crate::supervise::{self, OnSlow, Slow};

/// What is to be known of a stage beside its handler. Plain data, which [`Stage`] has methods for, or which is
/// read from a file with the feature `serde`.
///
/// # Examples
/// ```
/// use annulus::{Pipeline, Settings, Stage};
/// use annulus::ring::Ring;
///
/// let ring = Ring::builder(64).build(u64::default)?;
/// let mut pipeline = Pipeline::on(&ring);
/// for (name, after) in [("journal", vec![]), ("book", vec![]), ("risk", vec!["journal", "book"])] {
///     let mut settings = Settings::named(name);
///     settings.after = after.into_iter().map(str::to_owned).collect();
///     pipeline = pipeline.stage(Stage::each(name, |_: &u64, _| ()).with_settings(settings));
/// }
/// let running = pipeline.start()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Settings {
    /// What it is called: in the ring, in reports, and its thread.
    pub name: String,
    /// The stages, or other consumers of the ring, that it comes after: it is given an event when all of them
    /// have released it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub after: Vec<String>,
    /// The core that it is pinned to.
    #[cfg_attr(feature = "serde", serde(default))]
    pub core: Option<usize>,
    /// How it waits for events.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::topology::WaitAs"))]
    pub wait: Wait,
    /// How many events it takes at most at a time; none for as many as there are.
    #[cfg_attr(feature = "serde", serde(default))]
    pub batch_limit: Option<usize>,
    /// What it does when its handler fails.
    #[cfg_attr(feature = "serde", serde(default))]
    pub on_failure: OnFailure,
    /// How often `on_idle` is called while there is nothing to handle; none for once, before it waits.
    #[cfg_attr(feature = "serde", serde(default))]
    pub idle_every: Option<Duration>,
    /// How long it should take at most for a batch: longer ones are reported.
    #[cfg_attr(feature = "serde", serde(default))]
    pub limit: Option<Duration>,
}

impl Settings {
    /// A stage of this name, and nothing else said.
    ///
    /// # Examples
    /// See [`Settings`].
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            after: Vec::new(),
            core: None,
            wait: Wait::default(),
            batch_limit: None,
            on_failure: OnFailure::default(),
            idle_every: None,
            limit: None,
        }
    }
}

/// One stage of a pipeline: a handler, and where and how it runs.
///
/// # Examples
/// ```
/// use annulus::{OnFailure, Pipeline, Stage};
/// use annulus::ring::{Ring, Wait};
/// # use std::time::Duration;
///
/// let ring = Ring::builder(64).build(u64::default)?;
/// let book = Stage::each("book", |price: &u64, at| println!("{price} at {}", at.sequence))
///     .after(["journal"])
///     .wait(Wait::Yield)
///     .batch_limit(16)
///     .on_failure(OnFailure::SKIP);
/// let journal = Stage::each("journal", |_: &u64, _| ());
/// let running = Pipeline::on(&ring).stage(book).stage(journal).start()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stage<T: 'static> {
    settings: Settings,
    runner: Runner<T>,
    decide: Option<Decide>,
    dead_letters: Option<DeadLetters<T>>,
}

/// Runs a handler, on the thread of its stage.
enum Runner<T: 'static> {
    Reads(Box<dyn FnOnce(Work<Consumer<T>>) + Send>),
    Changes(Box<dyn FnOnce(Work<MutableConsumer<T>>) + Send>),
}

impl<T: 'static> Stage<T> {
    /// A stage that reads events.
    ///
    /// # Examples
    /// See [`Handler`].
    pub fn new(name: impl Into<String>, handler: impl Handler<T> + Send) -> Self {
        Self::with(name, || handler)
    }

    /// A stage that reads events, by a handler that is built on its thread and need not be `Send`.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{At, Handler, HandlerError, Stage};
    /// # use std::{cell::RefCell, rc::Rc};
    /// struct Screen(Rc<RefCell<Vec<u64>>>);
    /// # impl Handler<u64> for Screen {
    /// #     fn on_event(&mut self, price: &u64, _: At) -> Result<(), HandlerError> {
    /// #         Ok(self.0.borrow_mut().push(*price))
    /// #     }
    /// # }
    /// let screen: Stage<u64> = Stage::with("screen", || Screen(Rc::default()));
    /// ```
    pub fn with<H: Handler<T>>(
        name: impl Into<String>,
        build: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
        let run = |work: Work<Consumer<T>>| work.run(|| Reads::by(build()));
        Self::of(name, Runner::Reads(Box::new(run)))
    }

    /// A stage that calls a closure with each event; it returns nothing, or a result.
    ///
    /// # Examples
    /// See [`Stage`].
    pub fn each<R: Outcome>(
        name: impl Into<String>,
        handle: impl FnMut(&T, At) -> R + Send + 'static,
    ) -> Self {
        Self::new(name, Each(handle))
    }

    /// A stage that changes events, which the stages after it find as it left them. All other stages come before
    /// or after it.
    ///
    /// # Examples
    /// ```
    /// use annulus::{At, HandlerError, HandlerMut, Pipeline, Stage};
    /// use annulus::ring::Ring;
    ///
    /// struct Enrich { rate: u64 }
    ///
    /// impl HandlerMut<u64> for Enrich {
    ///     fn on_event(&mut self, price: &mut u64, _: At) -> Result<(), HandlerError> {
    ///         *price = price.checked_mul(self.rate).ok_or("out of range")?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let ring = Ring::builder(64).build(u64::default)?;
    /// let enrich = Stage::new_mut("enrich", Enrich { rate: 100 });
    /// let book = Stage::each("book", |price: &u64, _| assert_eq!(*price, 700)).after(["enrich"]);
    /// let running = Pipeline::on(&ring).stage(enrich).stage(book).start()?;
    /// ring.producer()?.publish_value(7)?;
    /// assert_eq!(running.join()?.stages[1].handled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new_mut(name: impl Into<String>, handler: impl HandlerMut<T> + Send) -> Self {
        Self::with_mut(name, || handler)
    }

    /// A stage that changes events, by a handler that is built on its thread.
    ///
    /// # Examples
    /// See [`Stage::with`].
    pub fn with_mut<H: HandlerMut<T>>(
        name: impl Into<String>,
        build: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
        let run = |work: Work<MutableConsumer<T>>| work.run(|| Changes::by(build()));
        Self::of(name, Runner::Changes(Box::new(run)))
    }

    /// A stage that calls a closure with each event, which may change it.
    ///
    /// # Examples
    /// ```
    /// # use annulus::Stage;
    /// let enrich: Stage<u64> = Stage::each_mut("enrich", |price, _| *price *= 100);
    /// ```
    pub fn each_mut<R: Outcome>(
        name: impl Into<String>,
        handle: impl FnMut(&mut T, At) -> R + Send + 'static,
    ) -> Self {
        Self::new_mut(name, Each(handle))
    }

    fn of(name: impl Into<String>, runner: Runner<T>) -> Self {
        Self {
            settings: Settings::named(name),
            runner,
            decide: None,
            dead_letters: None,
        }
    }

    /// Sets everything but its handler, its name included.
    ///
    /// # Examples
    /// See [`Settings`].
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Makes it come after these stages, or other consumers of the ring.
    ///
    /// # Examples
    /// See [`Stage`].
    #[must_use]
    pub fn after<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.settings
            .after
            .extend(names.into_iter().map(Into::into));
        self
    }

    /// Pins its thread to this core.
    ///
    /// # Examples
    /// See [`Pipeline`].
    #[must_use]
    pub fn core(mut self, core: usize) -> Self {
        self.settings.core = Some(core);
        self
    }

    /// Sets how it waits for events.
    ///
    /// # Examples
    /// See [`Stage`].
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.settings.wait = wait;
        self
    }

    /// Sets how many events it takes at most at a time.
    ///
    /// # Examples
    /// See [`Stage`].
    #[must_use]
    pub fn batch_limit(mut self, events: usize) -> Self {
        self.settings.batch_limit = Some(events);
        self
    }

    /// Sets what it does when its handler fails.
    ///
    /// # Examples
    /// See [`OnFailure`].
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.settings.on_failure = on_failure;
        self
    }

    /// Has a closure say what to do, each time that its handler fails. It is called on the thread of the stage.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Stage, Verdict};
    /// # use std::time::Duration;
    /// let risk = Stage::each("risk", |price: &u64, _| assert!(*price > 0));
    /// let risk = risk.on_failure_by(|failure| match failure.rewinds {
    ///     0..3 => Verdict::Rewind { pause: Duration::from_micros(10) },
    ///     _ => Verdict::Skip,
    /// });
    /// ```
    #[must_use]
    pub fn on_failure_by(
        mut self,
        decide: impl FnMut(&Failure) -> Verdict + Send + 'static,
    ) -> Self {
        self.decide = Some(Box::new(decide));
        self
    }

    /// Calls a closure with each event that it gives up. It is called on the thread of the stage, before the
    /// event is released; a panic in it is ignored.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{OnFailure, Stage};
    /// let risk = Stage::each("risk", |price: &u64, _| assert!(*price > 0))
    ///     .on_failure(OnFailure::SKIP)
    ///     .dead_letters(|letter| eprintln!("gave up {}: {}", letter.event, letter.failure));
    /// ```
    #[must_use]
    pub fn dead_letters(mut self, letters: impl FnMut(DeadLetter<'_, T>) + Send + 'static) -> Self {
        self.dead_letters = Some(Box::new(letters));
        self
    }

    /// Calls `on_idle` at such intervals while there is nothing to handle.
    ///
    /// # Examples
    /// ```
    /// # use annulus::Stage;
    /// # use std::time::Duration;
    /// let journal = Stage::each("journal", |_: &u64, _| ()).idle_every(Duration::from_micros(100));
    /// ```
    #[must_use]
    pub fn idle_every(mut self, interval: Duration) -> Self {
        self.settings.idle_every = Some(interval);
        self
    }

    /// Says how long it should take at most for a batch. Longer ones are counted, and
    /// [told](Pipeline::on_slow) while they last; nothing is done about them.
    ///
    /// # Examples
    /// See [`Pipeline::on_slow`].
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.settings.limit = Some(limit);
        self
    }

    fn changes(&self) -> bool {
        matches!(self.runner, Runner::Changes(_))
    }
}

impl<T> fmt::Debug for Stage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

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
        }
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
    /// assert_eq!(report.stages[0].metrics.times.as_ref().unwrap().service_ns.count(), 1);
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
            let Settings {
                name, after, core, ..
            } = &stage.settings;
            let core = core.map_or(String::new(), |core| format!(", core {core}"));
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
        let order = self.check(&cores)?;
        let wanted: Vec<_> = (self.stages.iter())
            .map(|stage| Wanted {
                name: &stage.settings.name,
                core: stage.settings.core,
                wait: stage.settings.wait,
            })
            .collect();
        let (planned, warnings) = pin::plan(&wanted, self.placement, &cores, pin::siblings);
        let inlets = self.join(&order)?;
        calibrate();

        let posts: Vec<_> = (self.stages.iter().zip(&inlets))
            .map(|(stage, inlet)| Arc::new(self.post(&stage.settings, inlet.start())))
            .collect();
        let control = Arc::new(Control::new(posts));
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
        let parts = stages.into_iter().zip(inlets).zip(before).zip(&planned);
        for (index, (((stage, inlet), before), core)) in parts.enumerate() {
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
                idle_every: settings.idle_every,
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
            let core = *core;
            let run: Box<dyn FnOnce() + Send> = match (runner, inlet) {
                (Runner::Reads(run), Joined::Reads(inlet)) => Box::new(move || {
                    run(Work {
                        inlet,
                        core,
                        place,
                        policy,
                    })
                }),
                (Runner::Changes(run), Joined::Changes(inlet)) => Box::new(move || {
                    run(Work {
                        inlet,
                        core,
                        place,
                        policy,
                    })
                }),
                _ => unreachable!("it joined as what it is"),
            };
            match thread::Builder::new()
                .name(settings.name.clone())
                .spawn(run)
            {
                Ok(thread) => threads.push(thread),
                Err(cause) => {
                    error = Some((settings.name, cause));
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

    fn post(&self, settings: &Settings, start: u64) -> Post {
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
            left_at: Counter::default(),
        }
    }

    /// Enters all stages, in an order in which each comes after what it comes after; returns them in the order in
    /// which they were given.
    fn join(&self, order: &[usize]) -> Result<Vec<Joined<T>>, StartError> {
        let mut joined: Vec<Option<Joined<T>>> = self.stages.iter().map(|_| None).collect();
        for &index in order {
            let stage = &self.stages[index];
            let Settings {
                name,
                after,
                wait,
                batch_limit,
                ..
            } = &stage.settings;
            let builder = self
                .ring
                .consumer(name)
                .after(after.iter().map(String::as_str))
                .wait(*wait);
            let builder = match batch_limit {
                Some(limit) => builder.batch_limit(*limit),
                None => builder,
            };
            joined[index] = Some(if stage.changes() {
                Joined::Changes(builder.join_mut().map_err(StartError::Join)?)
            } else {
                Joined::Reads(builder.join().map_err(StartError::Join)?)
            });
        }
        Ok(joined.into_iter().flatten().collect())
    }

    /// Finds what is wrong without looking at what the ring says; returns an order to join in.
    fn check(&self, cores: &[usize]) -> Result<Vec<usize>, StartError> {
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
        for (
            index,
            Settings {
                name, after, core, ..
            },
        ) in settings.iter().enumerate()
        {
            let stage = || name.clone();
            if name.contains('\0') {
                return Err(StartError::BadName { stage: stage() });
            }
            if named(name) != Some(index) {
                return Err(StartError::DuplicateName { stage: stage() });
            }
            if let Some(core) = *core
                && !cores.contains(&core)
            {
                return Err(StartError::UnknownCore {
                    stage: stage(),
                    core,
                    available: cores.to_vec(),
                });
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
}

/// Why a pipeline could not be started.
///
/// # Examples
/// See [`Pipeline::start`].
#[derive(Debug)]
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
    /// A stage is to be pinned to a core that this process does not have.
    UnknownCore {
        /// The stage.
        stage: String,
        /// The core.
        core: usize,
        /// Those that there are.
        available: Vec<usize>,
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
                "stage {stage:?} is to be pinned to core {core}, which this process does not have: choose \
                 one of {available:?}"
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

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Join(error) => Some(error),
            Self::Thread { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

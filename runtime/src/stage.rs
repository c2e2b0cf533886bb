//! One stage as plain data: its settings, and how its handler is made.

use std::fmt;
use std::time::Duration;

use annulus_ring::{Consumer, MutableConsumer, OnDeath, Start, Wait};

use crate::failure::{DeadLetter, Failure, OnFailure, Verdict};
use crate::handler::{Each, Handler, HandlerMut, Outcome};
use crate::lot::At;
use crate::work::{Changes, DeadLetters, Decide, Reads, Work};

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
    /// The cores that it may run on, with that one; none for all.
    #[cfg_attr(feature = "serde", serde(default))]
    pub cores: Vec<usize>,
    /// The first event that it is given, if it does not go on in the place of a stage of its name that has died.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::topology::StartAs"))]
    pub start: Start,
    /// What becomes of its place in the ring if it dies; see [`Stage::on_death`].
    #[cfg_attr(
        feature = "serde",
        serde(default, deserialize_with = "crate::topology::on_death")
    )]
    pub on_death: Option<OnDeath>,
    /// How long others wait for its successor if it dies and is held; none for ever.
    #[cfg_attr(feature = "serde", serde(default))]
    pub hold_for: Option<Duration>,
    /// How it waits for events.
    ///
    /// By default it naps once it has waited for a while: it sees an event up to 100 µs later then, costs some 7 % of a
    /// core while nothing happens, and nobody has to wake it. [`Wait::Park`] costs nothing while nothing happens, and
    /// a publication pays for waking it, with a system call: so it is not the default, also where the ring would
    /// allow it. [`Wait::Spin`] and [`Wait::Yield`] cost a core, [`Wait::Backoff`] about half of one.
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
            cores: Vec::new(),
            start: Start::default(),
            on_death: None,
            hold_for: None,
            wait: Wait::default(),
            batch_limit: None,
            on_failure: OnFailure::default(),
            idle_every: None,
            limit: None,
        }
    }

    /// All cores that it may run on, in order; none for all that there are.
    pub(crate) fn all_cores(&self) -> Vec<usize> {
        let mut cores = self.cores.clone();
        cores.extend(self.core);
        cores.sort_unstable();
        cores.dedup();
        cores
    }

    /// Whether its place is held if it dies or fails.
    ///
    /// On a ring that processes share it is, if nothing is said: a stage does something about each event, and the ring
    /// cannot tell which ones it had not come to yet. Events that are lost without a word are worse than
    /// producers that wait, and can be seen to. On the heap a stage dies with everybody else.
    pub(crate) fn holds(&self, is_shared: bool) -> bool {
        match self.on_death {
            Some(on_death) => on_death == OnDeath::Hold,
            None => is_shared,
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
    pub(crate) settings: Settings,
    pub(crate) runner: Runner<T>,
    pub(crate) decide: Option<Decide>,
    pub(crate) dead_letters: Option<DeadLetters<T>>,
}

/// Runs a handler, on the thread of its stage.
pub(crate) enum Runner<T: 'static> {
    Reads(Box<dyn FnOnce(Work<Consumer<T>>) + Send>),
    Changes(Box<dyn FnOnce(Work<MutableConsumer<T>>) + Send>),
}

impl<T: 'static> Stage<T> {
    /// A stage that reads events.
    ///
    /// # Examples
    /// See [`Handler`](crate::Handler).
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
    /// See [`Pipeline`](crate::Pipeline).
    #[must_use]
    pub fn core(mut self, core: usize) -> Self {
        self.settings.core = Some(core);
        self
    }

    /// Lets its thread run on these cores, and no others.
    ///
    /// # Examples
    /// ```
    /// # use annulus::Stage;
    /// let screen = Stage::each("screen", |_: &u64, _| ()).cores([2, 3]);
    /// ```
    #[must_use]
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.settings.cores.extend(cores);
        self
    }

    /// Sets the first event that it is given; by default the next one.
    ///
    /// On a ring that processes share it goes on in the place of a stage of its name that has died, if that is
    /// [held](Stage::on_death), wherever it was to start.
    ///
    /// # Examples
    /// ```
    /// # use annulus::{Pipeline, Stage};
    /// # use annulus::ring::{Ring, Start};
    /// # let ring = Ring::builder(64).build(u64::default)?;
    /// let journal = ring.consumer("journal").join()?;
    /// let mut feed = ring.producer()?;
    /// feed.publish_value(7)?;
    /// let replay = Stage::each("replay", |_: &u64, _| ()).start(Start::Oldest);
    /// let running = Pipeline::on(&ring).stage(replay).start()?;
    /// drop((feed, journal));
    /// assert_eq!(running.join()?.stages[0].handled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// Sets what becomes of its place in the ring if its process dies, or if it fails and that
    /// stops its pipeline: whether it is held for the next stage, or consumer, of its name.
    ///
    /// There it is [held](OnDeath::Hold) by default: the next one goes on where this one had released, and is given
    /// again what it had in hand; it comes after what this one came after, as far as that is held, too. Until then producers wait once the ring is full, and stages after it, so nothing is lost.
    /// That suits whatever acts upon events: a gateway, a journal, a risk check. What only shows the latest, and whose
    /// absence must not hold up anybody, says [`OnDeath::Release`]: what was published before the next one joins
    /// is not for it, and the [report](crate::StageReport::missed) says how much that was. In between lies
    /// [`Stage::hold_for`].
    ///
    /// On the heap, where threads die together, it is released by default. Where it is to be held it is, by a pipeline that
    /// does not [own](crate::Pipeline::owns_ring) the ring.
    ///
    /// # Examples
    /// ```
    /// # use annulus::Stage;
    /// # use annulus::ring::OnDeath;
    /// # use std::time::Duration;
    /// let screen = Stage::each("screen", |_: &u64, _| ()).on_death(OnDeath::Release);
    /// let gateway = Stage::each("gateway", |_: &u64, _| ()).hold_for(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn on_death(mut self, on_death: OnDeath) -> Self {
        self.settings.on_death = Some(on_death);
        self
    }

    /// Sets how long others wait for its successor if it dies and is held; by default for ever. Then a producer that
    /// waits for it fails, and stages after it go on waiting with a [warning](crate::Warning::HeldUp).
    ///
    /// # Examples
    /// See [`Stage::on_death`].
    #[must_use]
    pub fn hold_for(mut self, time: Duration) -> Self {
        self.settings.hold_for = Some(time);
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
    /// [told](crate::Pipeline::on_slow) while they last; nothing is done about them.
    ///
    /// # Examples
    /// See [`Pipeline::on_slow`](crate::Pipeline::on_slow).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.settings.limit = Some(limit);
        self
    }

    pub(crate) fn changes(&self) -> bool {
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

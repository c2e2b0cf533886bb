//! Measures between processes: what the measuring one does, and what those do that it starts.
//!
//! Another process is the program `versus` too, told by a [`Task`] on its command line what to do.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::conduct::{Event, READY, Thread, conduct, failed};
use crate::cores::{Cores, Role, pin};
use crate::exchange;
use crate::ipc::{Place, Transport};
use crate::observers;
use crate::scenario::{Effort, SCENARIOS, Sample, Scenario, Size, Work};
use crate::scratch::Scratch;
use crate::subjects;

pub use crate::conduct::Part;

/// The option of `versus` that is followed by a [`Task`].
pub const OTHER_SIDE: &str = "other-side";

/// What another process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The name of the scenario.
    pub scenario: String,
    /// The name of the subject.
    pub subject: String,
    /// What to do in it.
    pub part: Part,
    /// Where to find what the measuring process has made.
    pub directory: PathBuf,
}

impl Task {
    /// What starts `program` with this task.
    pub(crate) fn command(&self, program: &Path) -> io::Result<Command> {
        let mut command = Command::new(program);
        command.args([format!("--{OTHER_SIDE}"), serde_json::to_string(self)?]);
        Ok(command)
    }
}

/// A subject that can take part in a scenario of several processes.
pub trait TwoProcesses {
    /// Does a scenario once, with `program` in the other processes.
    ///
    /// # Errors
    /// If something cannot be had, if another process ends early, or if a message is lost or changed.
    fn measure(
        &self,
        subject: &str,
        scenario: &Scenario,
        effort: Effort,
        cores: Cores,
        program: &Path,
    ) -> io::Result<Sample>;

    /// Is another process, until the measuring one ends it.
    ///
    /// # Errors
    /// If something cannot be had, or this is no part of the scenario.
    fn serve(&self, part: Part, scenario: &Scenario, place: &Place) -> io::Result<()>;
}

impl<T: Transport> TwoProcesses for T {
    fn measure(
        &self,
        subject: &str,
        scenario: &Scenario,
        effort: Effort,
        cores: Cores,
        program: &Path,
    ) -> io::Result<Sample> {
        let scratch = Scratch::new()?;
        let place = Place {
            directory: scratch.path().to_owned(),
            plan: scenario.plan(cores),
        };
        let mut parts = vec![Part::OtherSide];
        if scenario.observers().is_some_and(|observers| observers > 0) {
            parts.push(Part::Observers);
        }
        let others = parts.into_iter().map(|part| {
            let task = Task {
                scenario: scenario.name.to_owned(),
                subject: subject.to_owned(),
                part,
                directory: scratch.path().to_owned(),
            };
            Ok((part, task.command(program)?))
        });
        let others = others.collect::<io::Result<_>>()?;
        let (transport, work) = (*self, scenario.work);
        let measure = move |thread: &Thread| match size(work) {
            Size::Bytes8 => measure_here::<T, 1>(transport, &place, work, effort, thread),
            Size::Bytes64 => measure_here::<T, 8>(transport, &place, work, effort, thread),
            Size::Bytes1024 => measure_here::<T, 128>(transport, &place, work, effort, thread),
        };
        let sample = conduct(measure, others);
        drop(scratch);
        sample
    }

    fn serve(&self, part: Part, scenario: &Scenario, place: &Place) -> io::Result<()> {
        match size(scenario.work) {
            Size::Bytes8 => serve_here::<T, 1>(*self, part, place, scenario.work),
            Size::Bytes64 => serve_here::<T, 8>(*self, part, place, scenario.work),
            Size::Bytes1024 => serve_here::<T, 128>(*self, part, place, scenario.work),
        }
    }
}

fn size(work: Work) -> Size {
    match work {
        Work::IpcRoundTrip(size) | Work::IpcOneWay { size, .. } => size,
        _ => unreachable!("{work:?} sends nothing to another process"),
    }
}

/// What the measuring thread does. It also makes and drops what it uses, which some libraries require.
fn measure_here<T: Transport, const N: usize>(
    transport: T,
    place: &Place,
    work: Work,
    effort: Effort,
    thread: &Thread,
) -> io::Result<()> {
    let accept = transport.offer::<N>(place)?;
    if !thread.offer() {
        return Ok(()); // Given up.
    }
    let (mut sender, mut receiver) = accept()?;
    pin(place.plan.cores.of(Role::Producer(0)));
    let sample = match work {
        Work::IpcOneWay { batch, .. } => {
            exchange::stream(&mut sender, &mut receiver, &place.plan, batch, effort)
        }
        _ => exchange::ask(&mut sender, &mut receiver, effort.round_trips()),
    };
    thread.tell(Event::Measured(sample));
    exchange::end(&mut sender);
    Ok(())
}

/// Does what the measuring process has put on the command line.
///
/// # Errors
/// If it cannot be understood, or something cannot be had.
pub fn be_the_other_side(task: &str) -> io::Result<()> {
    let task: Task = serde_json::from_str(task)?;
    let scenario = SCENARIOS.iter().find(|other| other.name == task.scenario);
    let subjects = subjects::all();
    let subject = (subjects.iter()).find(|other| other.name() == task.subject);
    let both = scenario.and_then(|it| Some((it, subject?.two_processes(it)?)));
    let Some((scenario, subject)) = both else {
        return Err(failed(format!("there is no such task: {task:?}")));
    };
    let place = Place {
        plan: scenario.plan(Cores::of_this_process()),
        directory: task.directory,
    };
    if task.part != Part::Observers {
        thread::spawn(|| {
            until_standard_input_ends();
            process::exit(1); // The measuring process is no more.
        });
        pin(place.plan.cores.of(Role::Consumer(0)));
    }
    subject.serve(task.part, scenario, &place)
}

/// Nothing is ever written to it.
fn until_standard_input_ends() {
    let _ = io::stdin().read(&mut [0]);
}

pub(crate) fn say_ready() -> io::Result<()> {
    writeln!(io::stdout(), "{READY}")
}

fn serve_here<T: Transport, const N: usize>(
    transport: T,
    part: Part,
    place: &Place,
    work: Work,
) -> io::Result<()> {
    match (part, work) {
        (Part::OtherSide, _) => {
            let (mut sender, mut receiver) = transport.open::<N>(place)?;
            say_ready()?;
            match work {
                Work::IpcOneWay { .. } => exchange::collect(&mut sender, &mut receiver),
                _ => exchange::answer(&mut sender, &mut receiver),
            }
            Ok(())
        }
        (Part::Observers, Work::IpcOneWay { observers, .. }) => {
            let observers =
                (0..observers.unwrap_or_default()).map(|_| transport.observe::<N>(place));
            let observers = observers.collect::<io::Result<_>>()?;
            observers::observe(observers, &place.plan, || {
                say_ready()?;
                until_standard_input_ends();
                Ok(())
            })
        }
        _ => Err(failed(format!("{part:?} is no part of {work:?}"))),
    }
}

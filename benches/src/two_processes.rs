//! Measures between two processes: starts the other one, watches it, and brings it to its end.
//!
//! The other process is the program `versus` too, told by a [`Task`] on its command line what to do. It
//! says `ready` on its standard output when it is connected, and ends when it is told so by a message;
//! but at once if its standard input ends, which is how it hears that the measuring process is no more.
//!
//! Nobody can be sure to be woken from a wait in shared memory if the other process dies. So here a thread
//! measures, which is left to itself if it does not come back, and this one waits for whatever happens first.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cores::{Cores, Role, pin};
use crate::exchange;
use crate::ipc::{Place, Transport};
use crate::scenario::{Effort, SCENARIOS, Sample, Scenario, Size, Work};
use crate::scratch::Scratch;
use crate::subjects;

/// No step of a measurement takes so long, unless something is lost.
const LIMIT: Duration = Duration::from_secs(60);

const READY: &str = "ready";

/// The option of `versus` that is followed by a [`Task`].
pub const OTHER_SIDE: &str = "other-side";

/// What the other process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The name of the scenario.
    pub scenario: String,
    /// The name of the subject.
    pub subject: String,
    /// Where to find what the measuring process has made.
    pub directory: PathBuf,
}

/// A subject that can take part in the scenarios of two processes.
pub trait TwoProcesses {
    /// Does a scenario once, with `program` in the other process.
    ///
    /// # Errors
    /// If something cannot be had, if the other process ends early, or if a message is lost or changed.
    fn measure(
        &self,
        subject: &str,
        scenario: &Scenario,
        effort: Effort,
        cores: Cores,
        program: &Path,
    ) -> io::Result<Sample>;

    /// Is the other side, until the measuring process ends it.
    ///
    /// # Errors
    /// If something cannot be had.
    fn serve(&self, scenario: &Scenario, directory: &Path, cores: Cores) -> io::Result<()>;
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
        let task = Task {
            scenario: scenario.name.to_owned(),
            subject: subject.to_owned(),
            directory: scratch.path().to_owned(),
        };
        let place = Place {
            directory: scratch.path().to_owned(),
            plan: scenario.plan(cores),
        };
        let (transport, work) = (*self, scenario.work);
        let mut other = Command::new(program);
        other.args([format!("--{OTHER_SIDE}"), serde_json::to_string(&task)?]);
        let measure = move |thread: &Thread| match size(work) {
            Size::Bytes8 => measure_here::<T, 1>(transport, &place, work, effort, thread),
            Size::Bytes64 => measure_here::<T, 8>(transport, &place, work, effort, thread),
            Size::Bytes1024 => measure_here::<T, 128>(transport, &place, work, effort, thread),
        };
        let sample = conduct(measure, other);
        drop(scratch);
        sample
    }

    fn serve(&self, scenario: &Scenario, directory: &Path, cores: Cores) -> io::Result<()> {
        let place = Place {
            directory: directory.to_owned(),
            plan: scenario.plan(cores),
        };
        match size(scenario.work) {
            Size::Bytes8 => serve_here::<T, 1>(*self, &place, scenario.work),
            Size::Bytes64 => serve_here::<T, 8>(*self, &place, scenario.work),
            Size::Bytes1024 => serve_here::<T, 128>(*self, &place, scenario.work),
        }
    }
}

fn size(work: Work) -> Size {
    match work {
        Work::IpcRoundTrip(size) | Work::IpcOneWay { size, .. } => size,
        _ => unreachable!("{work:?} takes one process"),
    }
}

// ---------------------------------------------------------------------------------------------
// The measuring process
// ---------------------------------------------------------------------------------------------

/// What happens while something is measured.
enum Event {
    /// There is something for the other process to open.
    Offered,
    /// The other process has opened it.
    Ready,
    /// The scenario is done.
    Measured(Sample),
    /// The measuring thread has ended, one way or another.
    Stopped,
    /// The other process says nothing more: it has ended.
    Gone,
}

/// What the measuring thread has to do with the one that started it. Dropped at its end.
struct Thread {
    tell: mpsc::Sender<Event>,
    is_ready: mpsc::Receiver<()>,
}

impl Thread {
    fn tell(&self, event: Event) {
        // Nobody listens any more only if the measurement has been given up.
        let _ = self.tell.send(event);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.tell(Event::Stopped);
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
    thread.tell(Event::Offered);
    if thread.is_ready.recv().is_err() {
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

/// Has a thread measure, and starts the other process when the thread has something to offer.
fn conduct(
    measure: impl FnOnce(&Thread) -> io::Result<()> + Send + 'static,
    other: Command,
) -> io::Result<Sample> {
    let (tell, told) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let thread = Thread {
        tell: tell.clone(),
        is_ready,
    };
    let measuring = thread::spawn(move || measure(&thread));
    let next = || {
        told.recv_timeout(LIMIT).map_err(|_| {
            let seconds = LIMIT.as_secs();
            failed(format!(
                "nothing happened for {seconds} s: is a message lost?"
            ))
        })
    };
    let mut other = match next()? {
        Event::Offered => Other::start(other, tell)?,
        _ => return Err(why(measuring)),
    };
    let sample = loop {
        match next()? {
            Event::Offered => {}
            Event::Ready => {
                let _ = ready.send(());
            }
            Event::Measured(sample) => break sample,
            Event::Gone => return Err(other.ended_early()),
            // Perhaps because of what happened to the other process, which is the better reason.
            Event::Stopped => {
                return Err(match told.recv_timeout(Duration::from_secs(3)) {
                    Ok(Event::Gone) => other.ended_early(),
                    _ => why(measuring),
                });
            }
        }
    };
    // In any order: the thread has ended, and so has the other process.
    next()?;
    next()?;
    if other.child.wait()?.success() && matches!(measuring.join(), Ok(Ok(()))) {
        Ok(sample)
    } else {
        Err(failed("what measured did not end well"))
    }
}

/// Why a thread that has ended did not measure.
fn why(measuring: JoinHandle<io::Result<()>>) -> io::Error {
    match measuring.join() {
        Ok(Ok(())) => failed("the measuring thread has ended early"),
        Ok(Err(error)) => error,
        Err(_) => failed("the measuring thread panicked"),
    }
}

fn failed(reason: impl Into<String>) -> io::Error {
    io::Error::other(reason.into())
}

/// The other process; killed when this is dropped, if it still runs.
struct Other {
    /// Its standard input is open until it has ended.
    child: Child,
}

impl Other {
    fn start(mut command: Command, tell: mpsc::Sender<Event>) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take();
        thread::spawn(move || {
            for line in output
                .map(BufReader::new)
                .into_iter()
                .flat_map(BufRead::lines)
            {
                if line.is_ok_and(|line| line == READY) {
                    let _ = tell.send(Event::Ready);
                }
            }
            let _ = tell.send(Event::Gone);
        });
        Ok(Self { child })
    }

    fn ended_early(&mut self) -> io::Error {
        match self.child.wait() {
            Ok(status) => failed(format!("the process on the other side has ended: {status}")),
            Err(error) => error,
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---------------------------------------------------------------------------------------------
// The other process
// ---------------------------------------------------------------------------------------------

/// Does what the measuring process has put on the command line.
///
/// # Errors
/// If it cannot be understood, or something cannot be had.
pub fn be_the_other_side(task: &str) -> io::Result<()> {
    let task: Task = serde_json::from_str(task)?;
    let scenario = SCENARIOS.iter().find(|other| other.name == task.scenario);
    let subjects = subjects::all();
    let subject = (subjects.iter()).find(|other| other.name() == task.subject);
    let (Some(scenario), Some(sides)) = (scenario, subject.and_then(|it| it.two_processes()))
    else {
        return Err(failed(format!("there is no such task: {task:?}")));
    };
    let cores = Cores::of_this_process();
    thread::spawn(end_with_the_measuring_process);
    pin(cores.of(Role::Consumer(0)));
    sides.serve(scenario, &task.directory, cores)
}

/// It never writes, so there is nothing to read before it ends.
fn end_with_the_measuring_process() {
    let _ = io::stdin().read(&mut [0]);
    process::exit(1);
}

fn serve_here<T: Transport, const N: usize>(
    transport: T,
    place: &Place,
    work: Work,
) -> io::Result<()> {
    let (mut sender, mut receiver) = transport.open::<N>(place)?;
    writeln!(io::stdout(), "{READY}")?;
    match work {
        Work::IpcOneWay { .. } => exchange::collect(&mut sender, &mut receiver),
        _ => exchange::answer(&mut sender, &mut receiver),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn a_sample() -> Sample {
        Sample {
            events: 1,
            taken: Duration::from_micros(1),
            latency: None,
        }
    }

    fn message(outcome: io::Result<Sample>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn a_sample_counts_if_both_sides_end_well() {
        let end_with = |status: &str| {
            let scratch = Scratch::new().unwrap();
            let end = scratch.path().join("end");
            let until_then = format!("until [ -e {} ]; do sleep 0.01; done", end.display());
            let measure = move |thread: &Thread| {
                thread.tell(Event::Offered);
                thread.is_ready.recv().unwrap();
                thread.tell(Event::Measured(a_sample()));
                fs::write(end, "")
            };
            let script = format!("echo ready; {until_then}; exit {status}");
            conduct(measure, shell(&script))
        };
        assert_eq!(end_with("0").unwrap().events, 1);
        let message = message(end_with("3"));
        assert!(message.contains("did not end well"), "{message}");
    }

    #[test]
    fn if_the_other_process_dies_nobody_waits_for_who_waits_for_it() {
        for (script, reason) in [
            ("exit 3", "exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            ("echo ready; kill -9 $$", "signal: 9"),
        ] {
            let (_hold, held) = mpsc::channel::<()>();
            let waits_for_ever = move |thread: &Thread| {
                thread.tell(Event::Offered);
                let _ = held.recv();
                Ok(())
            };
            let message = message(conduct(waits_for_ever, shell(script)));
            assert!(message.contains("the other side has ended"), "{message}");
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn what_stops_the_thread_is_told_and_the_other_process_does_not_stay() {
        let refused = |_: &Thread| Err(io::Error::other("refused"));
        let message_of = |outcome| message(outcome);
        assert_eq!(message_of(conduct(refused, shell("exit 0"))), "refused");

        let fails = |thread: &Thread| {
            thread.tell(Event::Offered);
            thread.is_ready.recv().unwrap();
            Err(io::Error::other("failed"))
        };
        assert_eq!(
            message_of(conduct(fails, shell("echo ready; exec sleep 600"))),
            "failed"
        );
    }

    #[test]
    fn a_thread_that_fails_because_the_other_process_died_is_not_the_reason() {
        let broken = |thread: &Thread| {
            thread.tell(Event::Offered);
            Err(io::Error::other("broken pipe"))
        };
        let message = message(conduct(broken, shell("exit 7")));
        assert!(message.contains("exit status: 7"), "{message}");
    }
}

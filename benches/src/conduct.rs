//! Has a thread measure while other processes take part, and brings all of them to their end.
//!
//! Another process says `ready` on its standard output when it is connected. Its standard input is open
//! until it is to end, if nothing else tells it to; and by that it hears that the measuring process is no
//! more.
//!
//! Nobody can be sure to be woken from a wait in shared memory if another process dies. So here a thread
//! measures, which is left to itself if it does not come back, and this one waits for whatever happens first.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenario::Sample;

/// No step of a measurement takes so long, unless something is lost.
const LIMIT: Duration = Duration::from_secs(60);

/// What another process says when it is connected.
pub(crate) const READY: &str = "ready";

/// What another process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Is on the other side of what is measured, and ends when a message says so.
    OtherSide,
    /// Reads along, until its standard input ends.
    Observers,
    /// Holds up the measuring process, which kills it.
    Victim,
}

/// What happens while something is measured.
pub(crate) enum Event {
    /// There is something for other processes to open.
    Offered,
    /// One of them has opened it.
    Ready,
    /// The scenario is done.
    Measured(Sample),
    /// The measuring thread has ended, one way or another.
    Stopped,
    /// The process of this number says nothing more: it has ended.
    Gone(usize),
}

/// What the measuring thread has to do with the one that started it. Dropped at its end.
pub(crate) struct Thread {
    tell: mpsc::Sender<Event>,
    is_ready: mpsc::Receiver<()>,
}

impl Thread {
    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more only if the measurement has been given up.
        let _ = self.tell.send(event);
    }

    /// Has the other processes started, and waits until all are ready; false if it has been given up.
    pub(crate) fn offer(&self) -> bool {
        self.tell(Event::Offered);
        self.is_ready.recv().is_ok()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.tell(Event::Stopped);
    }
}

/// Has a thread measure, and starts the other processes when the thread has something to offer.
pub(crate) fn conduct(
    measure: impl FnOnce(&Thread) -> io::Result<()> + Send + 'static,
    mut others: Vec<(Part, Command)>,
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
    let mut started: Vec<Other> = Vec::new();
    let mut are_ready = 0;
    let sample = loop {
        match next()? {
            Event::Offered => {
                for (number, (part, command)) in others.drain(..).enumerate() {
                    started.push(Other::start(part, command, number, tell.clone())?);
                }
            }
            Event::Ready => {
                are_ready += 1;
                if are_ready == started.len() {
                    let _ = ready.send(());
                }
            }
            Event::Measured(sample) => break sample,
            Event::Gone(number) => return Err(started[number].ended_early()),
            Event::Stopped if started.is_empty() => return Err(why(measuring)),
            // Perhaps because of what happened to another process, which is the better reason.
            Event::Stopped => {
                return Err(match told.recv_timeout(Duration::from_secs(3)) {
                    Ok(Event::Gone(number)) => started[number].ended_early(),
                    _ => why(measuring),
                });
            }
        }
    };
    // In any order: the thread has ended, and so have those that it has told to.
    let observe = |other: &&mut Other| other.part == Part::Observers;
    let observing = started.iter_mut().filter(observe).count();
    for _ in observing..=started.len() {
        next()?;
    }
    for other in started.iter_mut().filter(observe) {
        drop(other.child.stdin.take());
        next()?;
    }
    let mut ended_well = true;
    for other in &mut started {
        ended_well &= other.child.wait()?.success();
    }
    if ended_well && matches!(measuring.join(), Ok(Ok(()))) {
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

pub(crate) fn failed(reason: impl Into<String>) -> io::Error {
    io::Error::other(reason.into())
}

/// Another process; killed when this is dropped, if it still runs.
pub(crate) struct Other {
    part: Part,
    /// Its standard input is open until it has ended, or is to end.
    pub(crate) child: Child,
}

impl Other {
    /// Starts it, and returns what it says.
    pub(crate) fn spawn(
        part: Part,
        mut command: Command,
    ) -> io::Result<(Self, BufReader<ChildStdout>)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().expect("it has just been piped");
        Ok((Self { part, child }, BufReader::new(output)))
    }

    /// Starts it, and has a thread tell what it says.
    fn start(
        part: Part,
        command: Command,
        number: usize,
        tell: mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        let (other, output) = Self::spawn(part, command)?;
        thread::spawn(move || {
            for line in output.lines() {
                if line.is_ok_and(|line| line == READY) {
                    let _ = tell.send(Event::Ready);
                }
            }
            let _ = tell.send(Event::Gone(number));
        });
        Ok(other)
    }

    pub(crate) fn ended_early(&mut self) -> io::Error {
        let which = match self.part {
            Part::OtherSide => "on the other side",
            Part::Observers => "that observes",
            Part::Victim => "that was to be killed",
        };
        match self.child.wait() {
            Ok(status) => failed(format!("the process {which} has ended: {status}")),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    fn process(part: Part, script: &str) -> (Part, Command) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (part, command)
    }

    /// The only other process.
    fn shell(script: &str) -> Vec<(Part, Command)> {
        vec![process(Part::OtherSide, script)]
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

    /// Measures when all are ready, and then tells the process on the other side to end.
    fn conduct_with_observers(observers: &str) -> io::Result<Sample> {
        let scratch = Scratch::new().unwrap();
        let end = scratch.path().join("end");
        let until_then = format!(
            "echo ready; until [ -e {} ]; do sleep 0.01; done",
            end.display()
        );
        let measure = move |thread: &Thread| {
            thread.offer();
            thread.tell(Event::Measured(a_sample()));
            fs::write(end, "")
        };
        let other_side = process(Part::OtherSide, &until_then);
        conduct(
            measure,
            vec![other_side, process(Part::Observers, observers)],
        )
    }

    #[test]
    fn who_observes_goes_on_until_the_end_and_has_to_end_well() {
        let until_the_end = "echo ready; cat >/dev/null; exit";
        let observed = conduct_with_observers(&format!("{until_the_end} 0"));
        assert_eq!(observed.unwrap().events, 1);
        let message_of = |outcome| message(outcome);
        let not_well = message_of(conduct_with_observers(&format!("{until_the_end} 3")));
        assert!(not_well.contains("did not end well"), "{not_well}");
        let early = message_of(conduct_with_observers("exit 3"));
        assert!(early.contains("that observes has ended"), "{early}");
    }

    #[test]
    fn who_needs_no_others_measures_alone() {
        let measure = |thread: &Thread| {
            thread.tell(Event::Measured(a_sample()));
            Ok(())
        };
        assert_eq!(conduct(measure, Vec::new()).unwrap().events, 1);
    }
}

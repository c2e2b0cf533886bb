//! `versus`: measures the ring beside other libraries, in several processes, and reports.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;

use annulus_benches::cores::Cores;
use annulus_benches::machine::{commit, machine};
use annulus_benches::report::{RATIO, Report};
use annulus_benches::scenario::{Effort, SCENARIOS, Sample, Scenario};
use annulus_benches::scratch;
use annulus_benches::shuffle::Shuffle;
use annulus_benches::statistics::{Measured, rows};
use annulus_benches::subjects::{self, Kind, Subject};
use annulus_benches::two_processes::{OTHER_SIDE, be_the_other_side};

/// Measures the ring beside other libraries: every scenario with every subject that can do it.
#[derive(Parser)]
#[command(name = "versus", after_help = after_help())]
struct Options {
    /// Scenarios or subjects, separated by commas; by default all of both
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,

    /// Print what there is, and measure nothing
    #[arg(long)]
    list: bool,

    /// Measure fewer rounds: a minute or two in all, for a first impression
    #[arg(long)]
    quick: bool,

    /// Print one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print the table of the README; unless --only names something, without topologies and other processes
    #[arg(long)]
    markdown: bool,

    /// For tests: move only so many events, or make so many round trips, for each sample
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,

    /// Be the measuring process of this number, and print samples
    #[arg(long, hide = true, value_name = "NUMBER")]
    process: Option<u64>,

    /// Be another process than a measuring one, which has started this
    #[arg(long = OTHER_SIDE, hide = true, value_name = "TASK")]
    other_side: Option<String>,
}

fn after_help() -> String {
    format!("{EXAMPLE}\n\n{RATIO}")
}

const EXAMPLE: &str = "\
Example:
  cargo run --release -p annulus-benches --features rivals --bin versus -- --only round-trip-8,one-to-one-b1

Without the feature `rivals` there is nothing to compare with. Pinned to the first cores that the process may
use; the topologies (unicast to diamond) only if there is one for each thread. Leave the machine alone
meanwhile.";

impl Options {
    /// How many processes measure, and how many rounds each; everything is measured once in a round.
    fn rounds(&self) -> (u64, u64) {
        if self.quick { (2, 3) } else { (6, 8) }
    }

    /// Little, so that all the subjects of a scenario have their turn within a second: samples are compared
    /// within a round, and what they lack in length the number of rounds makes up for.
    fn effort(&self) -> Effort {
        match self.events {
            Some(events) => Effort::Events(events),
            None => Effort::Enough {
                flow: Duration::from_millis(20),
                round_trips: 50_000,
                longest: Duration::from_millis(100),
                deaths: if self.quick { 20 } else { 100 },
            },
        }
    }
}

/// What is to be measured.
struct Selection {
    scenarios: Vec<Scenario>,
    subjects: Vec<Box<dyn Subject>>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(task) = &options.other_side {
        return ended(be_the_other_side(task));
    }
    let selection = match Selection::of(&options) {
        Ok(selection) => selection,
        Err(message) => return failure(&message, 2),
    };
    let outcome = if options.list {
        print(&list())
    } else if let Some(process) = options.process {
        measure(&selection, &options, process)
    } else {
        compare(&selection, &options)
    };
    ended(outcome)
}

fn ended(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failure(&error.to_string(), 1),
    }
}

fn failure(message: &str, code: u8) -> ExitCode {
    // Not `eprintln!`, which panics if nobody listens.
    let _ = writeln!(io::stderr(), "versus: {message}");
    ExitCode::from(code)
}

fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

fn list() -> String {
    let subjects = subjects::all();
    let scenarios = SCENARIOS.iter().map(|scenario| scenario.name);
    let subjects = subjects.iter().map(|subject| subject.name());
    let lines = |names: Vec<&str>| names.join("\n  ");
    format!(
        "scenarios:\n  {}\nsubjects:\n  {}",
        lines(scenarios.collect()),
        lines(subjects.collect())
    )
}

impl Selection {
    /// What the names stand for; where no scenario, or no subject, is named, all of them. The README has no
    /// room in one table for the topologies and for other processes.
    fn of(options: &Options) -> Result<Self, String> {
        let names = &options.only;
        let mut scenarios = SCENARIOS.to_vec();
        let mut subjects = subjects::all();
        let is_scenario = |name: &String| SCENARIOS.iter().any(|scenario| scenario.name == name);
        let is_subject =
            |name: &String| subjects::all().iter().any(|subject| subject.name() == name);
        if let Some(name) = names
            .iter()
            .find(|name| !is_scenario(name) && !is_subject(name))
        {
            return Err(format!(
                "there is no scenario or subject {name:?}; there are\n{}",
                list()
            ));
        }
        if names.iter().any(is_scenario) {
            scenarios.retain(|scenario| names.iter().any(|name| name == scenario.name));
        } else if options.markdown && names.is_empty() {
            scenarios.retain(|scenario| scenario.topology().is_none() && !scenario.is_ipc());
        }
        if names.iter().any(is_subject) {
            subjects.retain(|subject| names.iter().any(|name| name == subject.name()));
        }
        Ok(Self {
            scenarios,
            subjects,
        })
    }
}

/// Has several processes measure, one after the other, and reports.
fn compare(selection: &Selection, options: &Options) -> io::Result<()> {
    let (processes, _) = options.rounds();
    scratch::remove_those_of_the_dead();
    let mut measured = Vec::new();
    for process in 0..processes {
        if io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "process {} of {processes} ...", process + 1);
        }
        measured.extend(measure_in_a_process(process)?);
    }
    let subjects: Vec<(&'static str, Kind)> = (selection.subjects.iter())
        .map(|subject| (subject.name(), subject.kind()))
        .collect();
    let report = Report {
        machine: machine(),
        commit: commit(),
        rows: rows(&measured, &subjects),
    };
    print(&if options.json {
        report.json()
    } else if options.markdown {
        report.markdown(&command())
    } else {
        report.table()
    })
}

/// The command that starts this program as it was started.
fn command() -> String {
    let features = if cfg!(feature = "rivals") {
        " --features rivals"
    } else {
        ""
    };
    let mut command = format!("cargo run --release -p annulus-benches{features} --bin versus");
    let arguments: Vec<String> = (env::args().skip(1))
        .filter(|word| word != "--markdown")
        .collect();
    if !arguments.is_empty() {
        command = format!("{command} -- {}", arguments.join(" "));
    }
    command
}

/// This program once more, with the same arguments and the number of the process.
fn measure_in_a_process(process: u64) -> io::Result<Vec<Measured>> {
    let mut child = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .args(["--process", &process.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = child.stdout.take().map(BufReader::new);
    let measured = (lines.into_iter().flat_map(BufRead::lines))
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect();
    let status = child.wait()?;
    scratch::remove_those_of(child.id());
    if status.success() {
        measured
    } else {
        Err(io::Error::other(format!(
            "a measuring process failed: {status}"
        )))
    }
}

/// Measures everything in each round, and prints a line for each sample. Subjects of one scenario follow
/// each other, so that a disturbance hits all of them, in an order that is another one each time. The rounds
/// of one scenario are far apart, so that they see as many states of the machine as there are.
fn measure(selection: &Selection, options: &Options, process: u64) -> io::Result<()> {
    let cores = Cores::of_this_process();
    let (_, rounds) = options.rounds();
    let mut shuffle = Shuffle::new(process);
    for round in process * rounds..(process + 1) * rounds {
        for scenario in shuffle.order(&selection.scenarios) {
            for subject in shuffle.order(&selection.subjects) {
                let sample = sample(subject.as_ref(), scenario, options.effort(), cores)?;
                if let Some(sample) = sample {
                    let measured = Measured {
                        scenario: scenario.name.to_owned(),
                        subject: subject.name().to_owned(),
                        round,
                        sample,
                    };
                    print(&serde_json::to_string(&measured)?)?;
                }
            }
        }
    }
    Ok(())
}

/// Measures once, if the subject can do the scenario.
fn sample(
    subject: &dyn Subject,
    scenario: &Scenario,
    effort: Effort,
    cores: Cores,
) -> io::Result<Option<Sample>> {
    let Some(both) = subject.two_processes(scenario) else {
        return Ok(subject.measure(scenario, effort, cores));
    };
    let (name, program) = (subject.name(), env::current_exe()?);
    match both.measure(name, scenario, effort, cores, &program) {
        Ok(sample) => Ok(Some(sample)),
        Err(error) => Err(io::Error::other(format!(
            "{} with {name}: {error}",
            scenario.name
        ))),
    }
}

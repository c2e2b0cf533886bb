//! `annulus demo`: its options, its input, its output and its exit codes.

use std::fmt;
use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use annulus::ring::Wait;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cores::{CoreList, UnknownCore};
use crate::generator::{Generator, MOST_EVENTS};
use crate::lobster::{self, Input, ReadError};
use crate::pipeline::{self, Plan, RunError};
use crate::report;

/// Tick to trade over three rings, on a real or a made-up market
///
/// A feed publishes market events. `audit` counts them, while `book` keeps a limit order
/// book and publishes a quote whenever the best bid or ask changes. `strategy` watches the
/// quotes for imbalance and sends orders; `monitor` comes after it and measures the spread.
/// In `gateway`, where the orders arrive, the tick-to-trade clock stops: it was started when
/// the market event was published. Each of the six has a thread of its own.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Replay this LOBSTER message file: CSV, plain or gzipped; - is standard input
    ///
    /// It has no header and six columns: time in seconds after midnight; type (1 submission,
    /// 2 partial cancellation, 3 deletion, 4 execution of a visible order, 5 of a hidden one,
    /// 6 cross trade, 7 halt); order id; shares; price in dollars x 10,000; direction of the
    /// resting order (1 buy, -1 sell). It is read and checked as a whole before anything
    /// starts. Orders from before the file begins are unknown: they are counted, no error; so are
    /// times that go back, with a warning.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    input: Option<PathBuf>,

    /// Generate so many events
    #[arg(long, value_name = "N", default_value_t = 1_000_000, conflicts_with = "input",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_EVENTS)))]
    events: u32,

    /// Generate this market: a seed always gives the same one
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "input")]
    seed: u64,

    /// Replay the input so many times
    ///
    /// Order ids repeat, so the book starts empty at each repetition; every count is then
    /// exactly N times what one repetition gives.
    #[arg(long, value_name = "N", default_value = "1", verbatim_doc_comment)]
    repeat: NonZeroU32,

    /// Publish so many events per second, each at its intended time
    ///
    /// At max the rings are full, and tick-to-trade is mostly time spent waiting in them: the
    /// report says so. Give a rate to see the latency of a pipeline that keeps up.
    #[arg(long, value_name = "EPS|max", default_value = "max", value_parser = parse_rate,
          verbatim_doc_comment)]
    rate: Rate,

    /// Pin the threads to these cores, such as 0,1 or 0-3
    ///
    /// The cores go round in the order feed, audit, book, strategy, monitor, gateway.
    #[arg(long, value_name = "LIST")]
    cores: Option<CoreList>,

    /// How threads wait for events and for free slots
    #[arg(long, value_enum, default_value_t = WaitChoice::Phased)]
    wait: WaitChoice,

    /// Print one JSON object; its latencies are null if no order was sent
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  annulus demo
  annulus demo --input AAPL_2012-06-21_message_5.csv.gz --repeat 100 --json
  annulus demo --rate 100000 --cores 0-5 --wait spin
  zstdcat AAPL_2012-06-21_message_5.csv.zst | annulus demo --input -

Exit codes: 0 success; 1 events were lost or a stage failed; 2 bad arguments or input";

/// Runs the demonstration and prints what came of it.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let cores = match &options.cores {
        Some(list) => list.resolve()?,
        None => Vec::new(),
    };
    let input = load(options)?;
    if let (Some(path), Some(last)) = (&options.input, &input.last_back) {
        let warning = last.warning(path, input.times_back);
        let _ = writeln!(io::stderr(), "annulus: warning: {warning}");
    }
    let plan = Plan {
        input: &input.messages,
        times_back: input.times_back,
        repeat: options.repeat.get(),
        rate: options.rate.0,
        cores,
        wait: options.wait.into(),
    };
    let bar = progress_bar(plan.events());
    let outcome = pipeline::run(&plan, |published| bar.set_position(published));
    bar.finish_and_clear();
    let outcome = outcome?;

    let text = if options.json {
        report::json(&outcome).map_err(io::Error::from)?
    } else {
        report::text(&outcome)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that closes the pipe has read all that it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    match outcome.lost {
        0 => Ok(()),
        lost => Err(Failure::Lost(lost)),
    }
}

/// Why the demonstration did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    Core(UnknownCore),
    Input(ReadError),
    Run(RunError),
    Output(io::Error),
    Lost(u64),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Core(_) | Self::Input(_) => 2,
            Self::Run(_) | Self::Output(_) | Self::Lost(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(error) => error.fmt(f),
            Self::Input(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
            Self::Output(error) => write!(f, "the result could not be written: {error}"),
            Self::Lost(lost) => write!(f, "events published but not handled: {lost}"),
        }
    }
}

impl From<UnknownCore> for Failure {
    fn from(error: UnknownCore) -> Self {
        Self::Core(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Input(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Events per second; none for as many as possible.
#[derive(Clone, Copy)]
struct Rate(Option<NonZeroU64>);

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate(None)),
        _ => match text.parse() {
            Ok(rate) => Ok(Rate(Some(rate))),
            Err(_) => Err("expected a number of events per second of at least 1, or max".into()),
        },
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum WaitChoice {
    /// Poll without a break: the least latency, if every thread has a core to itself
    Spin,
    /// Yield the core between polls
    Yield,
    /// Poll less and less often, then yield
    Backoff,
    /// Poll, then yield, then sleep: for any number of cores
    Phased,
}

impl From<WaitChoice> for Wait {
    fn from(choice: WaitChoice) -> Self {
        match choice {
            WaitChoice::Spin => Self::Spin,
            WaitChoice::Yield => Self::Yield,
            WaitChoice::Backoff => Self::Backoff,
            WaitChoice::Phased => Self::default(),
        }
    }
}

fn load(options: &Options) -> Result<Input, ReadError> {
    match &options.input {
        Some(path) => lobster::read(path),
        None => {
            let mut messages = Vec::with_capacity(options.events as usize);
            messages.extend(Generator::new(options.seed).take(options.events as usize));
            Ok(Input {
                messages,
                times_back: 0,
                last_back: None,
            })
        }
    }
}

/// Shows itself on a terminal only.
fn progress_bar(events: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} events, {eta} left");
    match style {
        Ok(style) => ProgressBar::new(events).with_style(style),
        Err(_) => ProgressBar::new(events),
    }
}

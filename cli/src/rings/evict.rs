//! `annulus evict`: takes a consumer out of a ring that it holds up.

use std::time::Duration;

use annulus::ipc::Inspection;
use annulus::ring::{EvictError, Member, MemberKind, Snapshot};
use clap::Args;
use serde::Serialize;

use super::look::number;
use super::process::{Homes, State};
use super::stat::parse_seconds;
use super::{Failure, Place, print, print_json, shown};

/// Take a consumer out of a ring, with what it has not read; without --yes, say what that is
///
/// A slow consumer holds up the producers, and a dead one that is held for a successor does so until
/// that comes. A dead one goes at once. A living one is asked to leave, and does when it next looks at
/// the ring, where it is told so; one that is stopped, or busy with an event, answers when it goes on:
/// the request stays, and nothing is taken from under its hands. Stages that come after it go on
/// without it.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The ring's name
    name: String,

    /// The consumer's name
    member: String,

    #[command(flatten)]
    place: Place,

    /// Evict it
    #[arg(long)]
    yes: bool,

    /// Wait so long for a living one to answer
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "yes",
          value_parser = parse_seconds)]
    patience: Duration,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  annulus evict quotes screen
  annulus evict quotes screen --yes
  annulus evict quotes screen --yes --patience 0.5 --json

Exit codes: 0 success; 1 it has been asked to leave, and has not answered in time; 2 there is no such
ring or consumer, it cannot be changed by this user, or bad arguments";

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    // Whose ring it is does not matter here: it was asked for by its name.
    let directory = options.place.directory().trust_everybody();
    let (ring, member) = (&options.name, &options.member);
    let failed = |error| Failure::of_ring(&directory, ring, &error);
    let inspection = directory.inspect(ring).map_err(failed)?;
    let snapshot = inspection.snapshot();
    let Some(found) = consumer(&snapshot, member) else {
        return Err(Failure::NoConsumer {
            ring: ring.clone(),
            member: member.clone(),
            there: consumers(&snapshot)
                .map(|there| there.name.clone())
                .collect(),
        });
    };
    let home = Homes::of(&inspection, &snapshot).of_member(found);
    let mut report = Report {
        ring: ring.clone(),
        directory: directory.as_path().display().to_string(),
        member: member.clone(),
        process: found.process,
        process_here: home.here,
        state: home.state,
        held: found.is_held,
        action: Action::WouldEvict,
        lost: found.lag.min(snapshot.capacity as u64),
        frees: (consumers(&snapshot))
            .filter(|other| other.after.contains(member))
            .map(|other| other.name.clone())
            .collect(),
    };
    if options.yes {
        let opened = directory.open_untyped(ring).map_err(failed)?;
        let evicted = opened.evict(member, options.patience);
        report.lost = evicted
            .map_err(|error| refusal(error, &inspection, ring, member))?
            .lost;
        report.action = Action::Evicted;
    }
    if options.json {
        print_json(&report)?;
    } else {
        print(&report.text())?;
    }
    Ok(())
}

/// Why it was not evicted, and how its process is now.
fn refusal(error: EvictError, inspection: &Inspection, ring: &str, member: &str) -> Failure {
    if !matches!(error, EvictError::NoAnswer { .. }) {
        return Failure::Evict(ring.to_owned(), error);
    }
    let snapshot = inspection.snapshot();
    let homes = Homes::of(inspection, &snapshot);
    let state = consumer(&snapshot, member).map(|found| homes.of_member(found).state);
    Failure::NoAnswer(error, state == Some(State::Stopped))
}

fn consumers(snapshot: &Snapshot) -> impl Iterator<Item = &Member> {
    let members = snapshot.members.iter();
    members.filter(|member| member.kind != MemberKind::Producer)
}

fn consumer<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Member> {
    consumers(snapshot).find(|member| member.name == name)
}

/// The fields of the JSON object.
#[derive(Serialize)]
struct Report {
    ring: String,
    directory: String,
    member: String,
    /// As it knows itself.
    process: Option<u32>,
    process_here: Option<u32>,
    state: State,
    /// Dead, and in its place until a successor comes.
    held: bool,
    action: Action,
    /// How many published events it has not released.
    lost: u64,
    /// The stages that come after it, and go on without it.
    frees: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    WouldEvict,
    Evicted,
}

impl Report {
    fn text(&self) -> String {
        let member = shown::text(&self.member);
        let events = shown::number_of(self.lost, "event");
        let mut text = match self.action {
            Action::Evicted => format!("evicted \"{member}\": it has lost {events}\n"),
            Action::WouldEvict => {
                let process = self.process.map_or(String::new(), |process| {
                    format!(" of process {}", number(process, self.process_here))
                });
                let state = if self.held {
                    "dead or gone, held for a successor"
                } else {
                    self.state.word()
                };
                format!("would evict \"{member}\"{process}, {state}: it would lose {events}\n")
            }
        };
        for stage in &self.frees {
            let stage = shown::text(stage);
            text.push_str(&match self.action {
                Action::Evicted => format!("\"{stage}\" comes after it no longer\n"),
                Action::WouldEvict => {
                    format!("\"{stage}\" comes after it, and would go on without it\n")
                }
            });
        }
        if self.action == Action::WouldEvict {
            text.push_str("--yes evicts it\n");
        }
        text
    }
}

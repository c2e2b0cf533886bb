//! `annulus gc`: removes rings that nobody uses.

use annulus::ipc::{Cause, Directory, SegmentError};
use annulus::ring::Snapshot;
use clap::Args;
use serde::Serialize;

use super::look::occupancy;
use super::table::Table;
use super::{Failure, Place, names, print, print_json, reason, shown};

/// Remove rings that no living member uses; without --yes, say which those are
///
/// A ring of which every member is dead or has left is unused. If it holds events for the successor
/// of a dead consumer, which would read them, it goes only with --force: what would be lost is said.
/// A process that has it open and is no member does not count. A ring that gets a member meanwhile
/// stays, and so does a file that is damaged.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,

    /// Remove them
    #[arg(long)]
    yes: bool,

    /// Also those that hold events for a successor, which are lost then
    #[arg(long)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  annulus gc
  annulus gc --yes
  annulus gc --yes --force
  annulus gc --dir /dev/shm/desk7 --yes --json

Exit codes: 0 success, whatever was found; 2 the directory cannot be read, or bad arguments";

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let directory = options.place.directory();
    let mut rings = find(&directory, options.force)?;
    if options.yes {
        for ring in &mut rings {
            ring.remove_from(&directory, options.force);
        }
    }
    let report = Report {
        directory: directory.as_path().display().to_string(),
        rings,
    };
    if options.json {
        print_json(&report)?;
    } else {
        print(&report.text(options.yes))?;
    }
    Ok(())
}

/// The fields of the JSON object. Rings in use are not in it.
#[derive(Serialize)]
struct Report {
    directory: String,
    rings: Vec<Found>,
}

/// A ring that is not used, or a file that is none.
#[derive(Debug, Serialize)]
struct Found {
    name: String,
    /// Null if it is no ring that can be read.
    size_bytes: Option<u64>,
    action: Action,
    /// Why it can go, or is left alone.
    why: String,
    /// What is lost if it goes.
    holds: Vec<Held>,
}

/// Events that a dead consumer has not released, and its successor would read.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Held {
    member: String,
    events: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    WouldRemove,
    Removed,
    NeedsForce,
    LeftAlone,
}

/// What there is in a directory but rings in use.
fn find(directory: &Directory, force: bool) -> Result<Vec<Found>, Failure> {
    let names = names(directory)?;
    let found = names.into_iter().filter_map(|name| {
        let (size_bytes, action, why, holds) = match directory.inspect(&name) {
            Ok(inspection) if inspection.is_used() => return None,
            Ok(inspection) => {
                let snapshot = inspection.snapshot();
                let holds = held(&snapshot);
                let action = if holds.is_empty() || force {
                    Action::WouldRemove
                } else {
                    Action::NeedsForce
                };
                let why = why_unused(&snapshot, &holds);
                (inspection.size().ok(), action, why, holds)
            }
            // It was there a moment ago.
            Err(error) if matches!(error.cause, Cause::NotFound) => return None,
            // Nothing can be said of any of them.
            Err(error) if matches!(error.cause, Cause::NoProc { .. }) => {
                return Some(Err(Failure::of_ring(directory, &name, &error)));
            }
            Err(error) => {
                let why = reason::of_ring(directory, &name, &error.cause);
                (None, Action::LeftAlone, why, Vec::new())
            }
        };
        Some(Ok(Found {
            name,
            size_bytes,
            action,
            why,
            holds,
        }))
    });
    found.collect()
}

/// What is lost if an unused ring goes.
fn held(snapshot: &Snapshot) -> Vec<Held> {
    let members = snapshot.members.iter();
    let held = members.filter(|member| member.is_held && member.lag > 0);
    held.map(|member| Held {
        member: member.name.clone(),
        events: member.lag.min(snapshot.capacity as u64),
    })
    .collect()
}

fn why_unused(snapshot: &Snapshot, holds: &[Held]) -> String {
    let mut why = match snapshot.members.len() {
        0 => "it has no members".to_owned(),
        1 => "its only member is dead".to_owned(),
        dead => format!("its {dead} members are dead"),
    };
    if !holds.is_empty() {
        let held = holds.iter().map(Held::text);
        why.push_str(&format!(
            ", it holds {}",
            held.collect::<Vec<_>>().join(", ")
        ));
        return why;
    }
    let held = snapshot.members.iter();
    let held: Vec<String> = held
        .filter(|member| member.is_held && !member.name.is_empty())
        .map(|member| format!("\"{}\"", member.name))
        .collect();
    if !held.is_empty() {
        why.push_str(&format!(", {} held for a successor", held.join(", ")));
    }
    match occupancy(snapshot) {
        None | Some(0) => {}
        Some(unread) => why.push_str(&format!(", {} not read", shown::count(unread))),
    }
    why
}

impl Held {
    fn text(&self) -> String {
        let Self { member, events } = self;
        format!("{} for \"{member}\"", shown::number_of(*events, "event"))
    }
}

impl Found {
    /// Removes it, unless it is used by now, or holds what is not to be lost.
    fn remove_from(&mut self, directory: &Directory, force: bool) {
        if self.action != Action::WouldRemove {
            return;
        }
        let removed = directory.unlink_unused_if(&self.name, |snapshot| {
            self.holds = held(snapshot);
            self.why = why_unused(snapshot, &self.holds);
            self.holds.is_empty() || force
        });
        self.action = match removed {
            Ok(true) => Action::Removed,
            Ok(false) => Action::NeedsForce,
            Err(SegmentError { cause, .. }) => {
                self.why = match cause {
                    Cause::InUse => "a process uses it by now".to_owned(),
                    Cause::NotFound => "another process has removed it".to_owned(),
                    other => reason::of_ring(directory, &self.name, &other),
                };
                Action::LeftAlone
            }
        };
    }
}

impl Report {
    fn text(&self, yes: bool) -> String {
        let mut table = Table::default();
        for ring in &self.rings {
            table.line([
                match ring.action {
                    Action::WouldRemove => "would remove",
                    Action::Removed => "removed",
                    Action::NeedsForce => "needs --force",
                    Action::LeftAlone => "left alone",
                }
                .into(),
                shown::text(&ring.name),
                ring.size_bytes.map_or("-".into(), shown::bytes),
                shown::text(&ring.why),
            ]);
        }
        let action = if yes {
            Action::Removed
        } else {
            Action::WouldRemove
        };
        let gone: Vec<&Found> = (self.rings.iter())
            .filter(|ring| ring.action == action)
            .collect();
        let bytes = gone.iter().filter_map(|ring| ring.size_bytes).sum();
        let sum = match gone.len() {
            0 => format!("nothing to remove in {}", shown::text(&self.directory)),
            rings => format!(
                "{}, {}{}",
                shown::number_of(rings as u64, "ring"),
                shown::bytes(bytes),
                if yes { "" } else { ": --yes removes them" },
            ),
        };
        let mut text = format!("{}{sum}\n", table.text());
        let kept = (self.rings.iter()).filter(|ring| ring.action == Action::NeedsForce);
        let kept: Vec<&Held> = kept.flat_map(|ring| &ring.holds).collect();
        if !kept.is_empty() {
            let events = kept.iter().map(|held| held.events).sum();
            text.push_str(&format!(
                "{} would be lost, which a successor would read: --yes --force removes those rings too\n",
                shown::number_of(events, "event"),
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use annulus::ipc::Segment;

    use super::*;

    /// A directory that goes when the test ends, however it does.
    struct Own(Directory);

    impl Own {
        fn called(name: &str) -> Self {
            let path = format!("/dev/shm/annulus-cli-{name}-{}", std::process::id());
            Self(Directory::at(path))
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.as_path());
        }
    }

    #[test]
    fn what_is_used_again_or_gone_when_it_is_to_be_removed_is_left_alone() {
        let own = Own::called("used-again");
        let directory = &own.0;
        let builder = Segment::builder(8).directory(directory.clone());
        let [joined, _gone, _unused] =
            ["joined", "gone", "unused"].map(|name| builder.create::<u64>(name).unwrap());

        let mut found = find(directory, false).unwrap();
        let would_remove = found
            .iter()
            .filter(|ring| ring.action == Action::WouldRemove);
        assert_eq!(would_remove.count(), 3, "{found:?}");
        let _book = joined.consumer("book").join().unwrap();
        directory.unlink("gone").unwrap();
        for ring in &mut found {
            ring.remove_from(directory, false);
        }

        let outcome: Vec<_> = (found.iter())
            .map(|ring| (ring.name.as_str(), ring.action, ring.why.as_str()))
            .collect();
        let expected = [
            ("gone", Action::LeftAlone, "another process has removed it"),
            ("joined", Action::LeftAlone, "a process uses it by now"),
            ("unused", Action::Removed, "it has no members"),
        ];
        assert_eq!(outcome, expected);
        assert_eq!(directory.names().unwrap(), ["joined"]);
    }
}

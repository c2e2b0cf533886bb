//! `annulus gc`: removes rings that nobody uses.

use annulus::ipc::{Cause, Directory, Inspection, SegmentError};
use clap::Args;
use serde::Serialize;

use super::look::occupancy;
use super::table::Table;
use super::{Failure, Place, names, print, print_json, shown};

/// Remove rings that no living member uses; without --yes, say which those are
///
/// A ring of which every member is dead or has left is unused, also if something in it has not been
/// read, or a dead consumer is held for a successor: that is said. Who has it open and is no member
/// does not count. A ring that gets a member meanwhile stays, and so does a file that is damaged.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,

    /// Remove them
    #[arg(long)]
    yes: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  annulus gc
  annulus gc --yes
  annulus gc --dir /dev/shm/desk7 --yes --json

Exit codes: 0 success, whatever was found; 2 the directory cannot be read, or bad arguments";

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let directory = options.place.directory();
    let mut rings = find(&directory)?;
    if options.yes {
        for ring in &mut rings {
            ring.remove_from(&directory);
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    WouldRemove,
    Removed,
    LeftAlone,
}

/// What there is in a directory but rings in use.
fn find(directory: &Directory) -> Result<Vec<Found>, Failure> {
    let names = names(directory)?;
    let found = names.into_iter().filter_map(|name| {
        let (size_bytes, action, why) = match directory.inspect(&name) {
            Ok(inspection) if inspection.is_used() => return None,
            Ok(inspection) => {
                let why = why_unused(&inspection);
                (inspection.size().ok(), Action::WouldRemove, why)
            }
            // It was there a moment ago.
            Err(error) if matches!(error.cause, Cause::NotFound) => return None,
            // Nothing can be said of any of them.
            Err(error) if matches!(error.cause, Cause::NoProc { .. }) => {
                return Some(Err(error.into()));
            }
            Err(error) => (None, Action::LeftAlone, error.cause.to_string()),
        };
        Some(Ok(Found {
            name,
            size_bytes,
            action,
            why,
        }))
    });
    found.collect()
}

fn why_unused(inspection: &Inspection) -> String {
    let snapshot = inspection.snapshot();
    let mut why = match snapshot.members.len() {
        0 => "it has no members".to_owned(),
        1 => "its only member is dead".to_owned(),
        dead => format!("its {dead} members are dead"),
    };
    let held = snapshot.members.iter();
    let held: Vec<String> = held
        .filter(|member| member.is_held && !member.name.is_empty())
        .map(|member| format!("\"{}\"", member.name))
        .collect();
    if !held.is_empty() {
        why.push_str(&format!(", {} held for a successor", held.join(", ")));
    }
    match occupancy(&snapshot) {
        None | Some(0) => {}
        Some(unread) => why.push_str(&format!(", {} not read", shown::count(unread))),
    }
    why
}

impl Found {
    /// Removes it, unless it is used by now.
    fn remove_from(&mut self, directory: &Directory) {
        if self.action != Action::WouldRemove {
            return;
        }
        self.action = match directory.unlink_unused(&self.name) {
            Ok(()) => Action::Removed,
            Err(SegmentError { cause, .. }) => {
                self.why = match cause {
                    Cause::InUse => "somebody uses it by now".to_owned(),
                    Cause::NotFound => "somebody else has removed it".to_owned(),
                    other => other.to_string(),
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
                shown::number_of(rings, "ring"),
                shown::bytes(bytes),
                if yes { "" } else { ": --yes removes them" },
            ),
        };
        format!("{}{sum}\n", table.text())
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

        let mut found = find(directory).unwrap();
        let would_remove = found
            .iter()
            .filter(|ring| ring.action == Action::WouldRemove);
        assert_eq!(would_remove.count(), 3, "{found:?}");
        let _book = joined.consumer("book").join().unwrap();
        directory.unlink("gone").unwrap();
        for ring in &mut found {
            ring.remove_from(directory);
        }

        let outcome: Vec<_> = (found.iter())
            .map(|ring| (ring.name.as_str(), ring.action, ring.why.as_str()))
            .collect();
        let expected = [
            ("gone", Action::LeftAlone, "somebody else has removed it"),
            ("joined", Action::LeftAlone, "somebody uses it by now"),
            ("unused", Action::Removed, "it has no members"),
        ];
        assert_eq!(outcome, expected);
        assert_eq!(directory.names().unwrap(), ["joined"]);
    }
}

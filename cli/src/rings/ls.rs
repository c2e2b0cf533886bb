//! `annulus ls`: what rings there are.

use std::io;

use annulus::ipc::{Cause, Directory, Inspection, Nameless, SegmentError};
use annulus::ring::Snapshot;
use clap::Args;
use serde::Serialize;

use super::look::{Poison, occupancy, state};
use super::table::Table;
use super::{Failure, Place, names, print, print_json, reason, shown};

/// List the rings that processes share
///
/// For each: the type of its events, its capacity, how many members live and are dead, how much the
/// slowest consumer has not released, whether it is closed or poisoned, and its size. What is in the
/// directory and no ring that this version can read is listed with what is wrong with it.
///
/// Rings without a name that a process has open are listed behind them, with these processes: those
/// whose name was removed from the directory, which the processes that have them open do not notice,
/// while others make a new one of that name; and those that were created without. They are found in
/// the processes that this user may look into.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  annulus ls
  annulus ls --dir /dev/shm/desk7 --json

Exit codes: 0 success, whatever is in the directory; 2 it cannot be read, or bad arguments";

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let directory = options.place.directory();
    let listing = Listing::of(&directory)?;
    if options.json {
        print_json(&listing)?;
    } else {
        print(&listing.text())?;
    }
    Ok(())
}

/// The fields of the JSON object.
#[derive(Serialize)]
struct Listing {
    directory: String,
    rings: Vec<Entry>,
    /// Rings in use without a name; null if /proc cannot be read.
    unlinked: Option<Vec<Unlinked>>,
    #[serde(skip)]
    no_proc: Option<io::Error>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
struct Unlinked {
    /// The name that was removed; null if there never was one.
    name: Option<String>,
    /// Those that have it open.
    processes: Vec<u32>,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Ring(Facts),
    Unusable { error: String },
}

#[derive(Serialize)]
struct Facts {
    /// The name of the type of its events.
    #[serde(rename = "type")]
    ty: String,
    capacity: usize,
    members_alive: usize,
    members_dead: usize,
    /// Slots that the slowest consumer has not released; null without consumers.
    occupancy: Option<u64>,
    closed: bool,
    poisoned: Option<Poison>,
    /// The process that has the member table locked, if one is found.
    table_locked_by: Option<u32>,
    size_bytes: Option<u64>,
}

impl Listing {
    fn of(directory: &Directory) -> Result<Self, Failure> {
        let mut rings = Vec::new();
        for name in names(directory)? {
            let found = match directory.inspect(&name) {
                // It was there a moment ago.
                Err(error) if matches!(error.cause, Cause::NotFound) => continue,
                // Nothing can be said of any of them.
                Err(error) if matches!(error.cause, Cause::NoProc { .. }) => {
                    return Err(Failure::of_ring(directory, &name, &error));
                }
                inspection => {
                    Found::of(inspection, |cause| reason::of_ring(directory, &name, cause))
                }
            };
            rings.push(Entry { name, found });
        }
        let (unlinked, no_proc) = match directory.nameless() {
            Ok(nameless) => (Some(nameless.into_iter().map(Unlinked::of).collect()), None),
            Err(error) => (None, Some(error)),
        };
        Ok(Self {
            directory: directory.as_path().display().to_string(),
            rings,
            unlinked,
            no_proc,
        })
    }

    fn text(&self) -> String {
        let mut text = self.table();
        if self.rings.is_empty() {
            text.insert_str(
                0,
                &format!("no rings in {}\n", shown::text(&self.directory)),
            );
        }
        if let Some(error) = &self.no_proc {
            text.push_str(&format!(
                "rings without a name are not listed: /proc cannot be read: {error}\n"
            ));
        }
        text
    }

    fn table(&self) -> String {
        let unlinked = self.unlinked.as_deref().unwrap_or_default();
        if self.rings.is_empty() && unlinked.is_empty() {
            return String::new();
        }
        let mut table = Table::default();
        table.line(
            [
                "NAME", "TYPE", "CAPACITY", "ALIVE", "DEAD", "OCCUPIED", "STATE", "SIZE",
            ]
            .map(String::from),
        );
        for Entry { name, found } in &self.rings {
            found.line(&mut table, shown::text(name), "");
        }
        for Unlinked {
            name,
            processes,
            found,
        } in unlinked
        {
            let name = name.as_deref().map_or("-".into(), shown::text);
            let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
            let used = match &processes[..] {
                [process] => format!(", used by process {process}"),
                several => format!(", used by processes {}", several.join(", ")),
            };
            found.line(&mut table, format!("{name} (unlinked)"), &used);
        }
        table.text()
    }
}

impl Unlinked {
    fn of(ring: Nameless) -> Self {
        Self {
            name: ring.name,
            processes: ring.users.iter().map(|user| user.process).collect(),
            found: Found::of(ring.inspection, Cause::to_string),
        }
    }
}

impl Found {
    fn of(
        inspection: Result<Inspection, SegmentError>,
        why: impl FnOnce(&Cause) -> String,
    ) -> Self {
        match inspection {
            Ok(inspection) => Self::Ring(Facts::of(&inspection)),
            Err(error) => Self::Unusable {
                error: why(&error.cause),
            },
        }
    }

    fn line(&self, table: &mut Table, name: String, used: &str) {
        match self {
            Self::Ring(facts) => table.line([
                name,
                shown::short(&facts.ty),
                shown::count(facts.capacity as u64),
                facts.members_alive.to_string(),
                facts.members_dead.to_string(),
                facts.occupied(),
                facts.state(),
                facts.size_bytes.map_or("-".into(), shown::bytes) + used,
            ]),
            Self::Unusable { error } => table.line([name, shown::text(error) + used]),
        }
    }
}

impl Facts {
    fn of(inspection: &Inspection) -> Self {
        let snapshot = inspection.snapshot();
        let members_dead = snapshot.members.iter().filter(|member| member.is_dead);
        let members_dead = members_dead.count();
        Self {
            ty: inspection.description().name.clone(),
            capacity: snapshot.capacity,
            members_alive: snapshot.members.len() - members_dead,
            members_dead,
            occupancy: occupancy(&snapshot),
            closed: snapshot.closed,
            poisoned: snapshot.poisoned.map(Poison::of),
            table_locked_by: table_locked_by(inspection, &snapshot),
            size_bytes: inspection.size().ok(),
        }
    }

    fn state(&self) -> String {
        let mut text = state(self.closed, self.poisoned.as_ref());
        if let Some(process) = self.table_locked_by {
            text.push_str(&format!(", table locked by process {process}"));
        }
        text
    }

    fn occupied(&self) -> String {
        match self.occupancy {
            Some(occupancy) => {
                let percent = occupancy as f64 / self.capacity as f64 * 100.0;
                format!("{} ({percent:.0}%)", shown::count(occupancy))
            }
            None => "-".into(),
        }
    }
}

/// The process that has the table locked, by its number here; if it is not found, by that which it knows itself by.
fn table_locked_by(inspection: &Inspection, snapshot: &Snapshot) -> Option<u32> {
    // Most often nobody is joining or leaving, and then the processes, of which there may be many, are not searched.
    if !inspection.is_table_locked() {
        return None;
    }
    let users = inspection.users().unwrap_or_default();
    let found = users.found.iter().find(|user| user.has_table);
    let recorded = || {
        snapshot
            .table_locked_by
            .filter(|_| inspection.is_table_locked())
    };
    found.map(|user| user.process).or_else(recorded)
}

//! `annulus ls`: what rings there are.

use annulus::ipc::{Cause, Directory, Inspection};
use clap::Args;
use serde::Serialize;

use super::look::{Poison, occupancy, state};
use super::table::Table;
use super::{Failure, Place, names, print, print_json, shown};

/// List the rings that processes share
///
/// For each: the type of its events, its capacity, how many members live and are dead, how much the
/// slowest consumer has not released, whether it is closed or poisoned, and its size. What is in the
/// directory and no ring that this version can read is listed with what is wrong with it.
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
}

#[derive(Serialize)]
struct Entry {
    name: String,
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
    size_bytes: Option<u64>,
}

impl Listing {
    fn of(directory: &Directory) -> Result<Self, Failure> {
        let mut rings = Vec::new();
        for name in names(directory)? {
            let found = match directory.inspect(&name) {
                Ok(inspection) => Found::Ring(Facts::of(&inspection)),
                // It was there a moment ago.
                Err(error) if matches!(error.cause, Cause::NotFound) => continue,
                // Nothing can be said of any of them.
                Err(error) if matches!(error.cause, Cause::NoProc { .. }) => {
                    return Err(error.into());
                }
                Err(error) => Found::Unusable {
                    error: error.cause.to_string(),
                },
            };
            rings.push(Entry { name, found });
        }
        Ok(Self {
            directory: directory.as_path().display().to_string(),
            rings,
        })
    }

    fn text(&self) -> String {
        if self.rings.is_empty() {
            return format!("no rings in {}\n", shown::text(&self.directory));
        }
        let mut table = Table::default();
        table.line(
            [
                "NAME", "TYPE", "CAPACITY", "ALIVE", "DEAD", "OCCUPIED", "STATE", "SIZE",
            ]
            .map(String::from),
        );
        for Entry { name, found } in &self.rings {
            let name = shown::text(name);
            match found {
                Found::Ring(facts) => table.line([
                    name,
                    shown::short(&facts.ty),
                    shown::count(facts.capacity as u64),
                    facts.members_alive.to_string(),
                    facts.members_dead.to_string(),
                    facts.occupied(),
                    state(facts.closed, facts.poisoned.as_ref()),
                    facts.size_bytes.map_or("-".into(), shown::bytes),
                ]),
                Found::Unusable { error } => table.line([name, shown::text(error)]),
            }
        }
        table.text()
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
            size_bytes: inspection.size().ok(),
        }
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

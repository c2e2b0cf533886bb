//! `annulus stat`: one ring, its members, and who holds it up; once, or again and again.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

use annulus::ipc::{Description, Directory, Inspection};
use annulus::ring::{Layout, MemberKind, Producers, RingBuilder, Snapshot};
use clap::Args;
use serde::Serialize;

use super::look::{Before, Look};
use super::process::Homes;
use super::table::Table;
use super::{Failure, Place, print, print_json, shown};

/// Show one ring that processes share: what it is, its members, and who holds it up
///
/// A member is running, or stopped by a signal or a debugger: then it is waited for. One that is dead
/// is recovered by the next that waits for it or joins, or held for a successor. A member in another
/// PID namespace knows itself by another number: its number here is shown, if this user may look into
/// that process. A stage comes AFTER others, directly or through others. What is claimed and not
/// published holds up everybody behind it: it is shown whose it is. The table of members is locked
/// by a process that joins, leaves or recovers: if it is stopped then, others cannot.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The ring's name
    name: String,

    #[command(flatten)]
    place: Place,

    /// Show it again and again, with rates, until the ring is closed and read, poisoned, or removed and left by all
    #[arg(long)]
    watch: bool,

    /// Show it every so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", requires = "watch",
          value_parser = parse_seconds)]
    every: Duration,

    /// End after so many times
    #[arg(long, value_name = "N", requires = "watch")]
    times: Option<NonZeroU32>,

    /// Print one JSON object; a line each time with --watch
    ///
    /// Rates are null the first time, and those of producers always.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  annulus stat quotes
  annulus stat quotes --watch --every 0.5
  annulus stat quotes --json

Exit codes: 0 success; 2 there is no such ring, it cannot be read, or bad arguments";

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds >= 0.001);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| "expected a number of seconds of at least 0.001".into())
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let directory = options.place.directory();
    let name = &options.name;
    let inspection =
        (directory.inspect(name)).map_err(|error| Failure::of_ring(&directory, name, &error))?;
    let times = if options.watch {
        options.times.map(NonZeroU32::get)
    } else {
        Some(1)
    };
    let ring = Shown::of(&options.name, &directory, &inspection);
    let mut before: Option<(Instant, Snapshot)> = None;
    let mut next = Instant::now();
    for time in 1_u32.. {
        let (now, snapshot) = (Instant::now(), steady_snapshot(&inspection));
        let is_unlinked = inspection.is_unlinked().unwrap_or(false);
        let look = Look::of(
            &snapshot,
            &Homes::of(&inspection, &snapshot),
            is_unlinked,
            before.as_ref().map(|(then, snapshot)| Before {
                snapshot,
                seconds: (now - *then).as_secs_f64(),
            }),
        );
        let is_read = if options.json {
            let ring = &ring;
            print_json(&Report { ring, look })?
        } else {
            // What it is does not change, and is shown once.
            let head = if time == 1 {
                ring.text()
            } else {
                String::new()
            };
            print(&format!("{head}\n{}", look.text(snapshot.capacity)))?
        };
        // Nobody joins a ring without a name: with its last member its time is over.
        let is_left = is_unlinked && !inspection.is_used();
        if !is_read || times == Some(time) || is_left || is_over(&snapshot) {
            break;
        }
        before = Some((now, snapshot));
        // At equal distances; but after a pause of this process, not all at once what was missed.
        next = (next + options.every).max(Instant::now());
        thread::sleep(next - Instant::now());
    }
    Ok(())
}

/// A snapshot that shows who holds up the ring, if somebody does: while producers are at work, one can show what
/// one of them has claimed since it was looked at, and then it is not known who.
fn steady_snapshot(inspection: &Inspection) -> Snapshot {
    const MOST_LOOKS: u32 = 10;
    let mut snapshot = inspection.snapshot();
    for _ in 1..MOST_LOOKS {
        let from = snapshot.published;
        let is_claimed_by_nobody = snapshot.claimed > from
            && (snapshot.members.iter()).all(|member| member.claim != Some(from));
        if !is_claimed_by_nobody {
            break;
        }
        snapshot = inspection.snapshot();
    }
    snapshot
}

/// Whether nothing happens any more: all has been released, by all who are there or will have a successor.
fn is_over(snapshot: &Snapshot) -> bool {
    let mut members = snapshot.members.iter();
    let is_done = snapshot.closed
        && members.all(|member| {
            let is_gone = member.is_dead && !member.is_held;
            member.kind == MemberKind::Producer || is_gone || member.lag == 0
        });
    is_done || snapshot.poisoned.is_some()
}

/// The fields of the JSON object.
#[derive(Serialize)]
struct Report<'r> {
    #[serde(flatten)]
    ring: &'r Shown,
    #[serde(flatten)]
    look: Look,
}

/// What does not change.
#[derive(Serialize)]
struct Shown {
    name: String,
    directory: String,
    size_bytes: Option<u64>,
    /// The name of the type of its events.
    #[serde(rename = "type")]
    ty: String,
    event_size: usize,
    event_align: usize,
    fields: Vec<Field>,
    attributes: BTreeMap<String, String>,
    built: Built,
}

#[derive(Serialize)]
struct Field {
    path: String,
    offset: usize,
    #[serde(rename = "type")]
    ty: String,
}

#[derive(Serialize)]
struct Built {
    capacity: usize,
    producers: &'static str,
    layout: &'static str,
    members: usize,
    required_consumers: usize,
    parking: bool,
    observable: bool,
}

impl Shown {
    fn of(name: &str, directory: &Directory, inspection: &Inspection) -> Self {
        let Description {
            name: ty,
            size,
            align,
            fields,
        } = inspection.description();
        let fields = fields.iter().map(|field| Field {
            path: field.path.clone(),
            offset: field.offset,
            ty: field.ty.clone(),
        });
        Self {
            name: name.to_owned(),
            directory: directory.as_path().display().to_string(),
            size_bytes: inspection.size().ok(),
            ty: ty.clone(),
            event_size: *size,
            event_align: *align,
            fields: fields.collect(),
            attributes: inspection.attributes().clone(),
            built: Built::of(inspection.built()),
        }
    }

    fn text(&self) -> String {
        let mut table = Table::default();
        let mut fact = |label: &str, value: String| table.line([label.to_owned(), value]);
        let directory = shown::text(&self.directory);
        fact(
            "ring",
            format!("{} in {directory}", shown::text(&self.name)),
        );
        if let Some(size) = self.size_bytes {
            fact("size", shown::bytes(size));
        }
        let Self {
            ty,
            event_size,
            event_align,
            ..
        } = self;
        let ty = shown::text(ty);
        fact(
            "events",
            format!("{ty}, {event_size} bytes aligned to {event_align}"),
        );
        for Field { path, offset, ty } in &self.fields {
            let (path, ty) = (shown::text(path), shown::text(ty));
            fact("", format!("{path} @{offset} {ty}"));
        }
        for (index, (key, value)) in self.attributes.iter().enumerate() {
            let label = if index == 0 { "attributes" } else { "" };
            fact(label, shown::text(&format!("{key}={value}")));
        }
        fact("built", self.built.text());
        table.text()
    }
}

impl Built {
    fn of(builder: &RingBuilder) -> Self {
        Self {
            capacity: builder.capacity,
            producers: match builder.producers {
                Producers::One => "one",
                Producers::Many => "many",
            },
            layout: match builder.layout {
                Layout::Beside => "beside",
                Layout::Apart => "apart",
            },
            members: builder.members,
            required_consumers: builder.required_consumers,
            parking: builder.parking.unwrap_or(true),
            // With many producers a ring always is.
            observable: builder.observable || builder.producers == Producers::Many,
        }
    }

    fn text(&self) -> String {
        let or_not = |is_so: bool, what: &str| format!("{}{what}", if is_so { "" } else { "not " });
        let slots = shown::count(self.capacity as u64);
        let members = shown::number_of(self.members as u64, "member");
        let required = shown::number_of(self.required_consumers as u64, "consumer");
        format!(
            "{slots} slots, {} producer{}, stamps {} events, at most {members}, {required} required, {}, {}",
            self.producers,
            if self.producers == "one" { "" } else { "s" },
            if self.layout == "beside" {
                "beside"
            } else {
                "apart from"
            },
            or_not(self.parking, "parking"),
            or_not(self.observable, "observable"),
        )
    }
}

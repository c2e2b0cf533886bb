//! What there is to say about a ring at some moment, for people and for programs.

use annulus::ring::{Member, MemberKind, Poisoned, Snapshot};
use serde::Serialize;

use super::process::State;
use super::shown;
use super::table::Table;

/// A ring at some moment: the fields of the JSON object that change.
#[derive(Serialize)]
pub(super) struct Look {
    claimed: u64,
    published: u64,
    published_per_s: Option<f64>,
    /// Slots that the slowest consumer has not released; null without consumers.
    occupancy: Option<u64>,
    closed: bool,
    poisoned: Option<Poison>,
    /// Whether the ring's name has been removed.
    removed: bool,
    members: Vec<Shown>,
    /// What is claimed and not published, and holds up everybody behind it.
    hole: Option<Hole>,
}

#[derive(Serialize)]
pub(super) struct Poison {
    reason: u32,
    row: Option<usize>,
}

/// A member.
#[derive(Serialize)]
struct Shown {
    row: usize,
    /// None of a producer.
    name: Option<String>,
    kind: &'static str,
    process: Option<u32>,
    state: State,
    /// Dead, and in its place until a successor comes.
    held: bool,
    position: u64,
    lag: u64,
    skipped: u64,
    released_per_s: Option<f64>,
}

#[derive(Serialize)]
struct Hole {
    from: u64,
    /// How many sequences from there on are claimed; some of them may be published.
    claimed: u64,
    /// The producer whose it is; several if some are just trying to claim it, none if it is dead and gone.
    claimed_by: Vec<Claimer>,
}

#[derive(Serialize)]
struct Claimer {
    row: usize,
    process: Option<u32>,
    state: State,
}

/// A snapshot some time before another one.
pub(super) struct Before<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) seconds: f64,
}

impl Look {
    pub(super) fn of(snapshot: &Snapshot, removed: bool, before: Option<Before<'_>>) -> Self {
        let members = snapshot.members.iter();
        let members = members.map(|member| Shown::of(member, before.as_ref()));
        let published_per_s = before
            .as_ref()
            .and_then(|before| before.rate(before.snapshot.published, snapshot.published));
        Self {
            claimed: snapshot.claimed,
            published: snapshot.published,
            published_per_s,
            occupancy: occupancy(snapshot),
            closed: snapshot.closed,
            poisoned: snapshot.poisoned.map(Poison::of),
            removed,
            members: members.collect(),
            hole: Hole::in_ring(snapshot),
        }
    }

    pub(super) fn text(&self, capacity: usize) -> String {
        let per_second = |rate: Option<f64>| {
            let rate = rate.map(|rate| format!(", {} a second", shown::rate(rate)));
            rate.unwrap_or_default()
        };
        let mut facts = Table::default();
        let mut fact = |label: &str, value: String| facts.line([label.to_owned(), value]);
        fact("claimed", shown::count(self.claimed));
        let published = shown::count(self.published);
        fact("published", published + &per_second(self.published_per_s));
        if let Some(occupancy) = self.occupancy {
            let of = shown::count(capacity as u64);
            fact("occupied", format!("{} of {of}", shown::count(occupancy)));
        }
        let mut state = state(self.closed, self.poisoned.as_ref());
        if self.removed {
            state.push_str(", its name removed");
        }
        fact("state", state);
        if let Some(hole) = &self.hole {
            fact("hole", hole.text());
        }
        let mut text = facts.text();
        if !self.members.is_empty() {
            text.push('\n');
            text.push_str(&self.members());
        }
        text
    }

    fn members(&self) -> String {
        let mut table = Table::default();
        let rates = |rate: Option<f64>| rate.map_or("-".into(), shown::rate);
        table.line(
            [
                "ROW",
                "NAME",
                "KIND",
                "PROCESS",
                "STATE",
                "POSITION",
                "LAG",
                "SKIPPED",
                "RELEASED/S",
            ]
            .map(String::from),
        );
        for member in &self.members {
            let or_none = |text: Option<String>| text.unwrap_or("-".into());
            table.line([
                member.row.to_string(),
                or_none(member.name.as_deref().map(shown::text)),
                member.kind.replace('_', " "),
                or_none(member.process.map(|process| process.to_string())),
                member.state(),
                shown::count(member.position),
                shown::count(member.lag),
                shown::count(member.skipped),
                rates(member.released_per_s),
            ]);
        }
        table.text()
    }
}

impl Before<'_> {
    /// How many a second; none if it went back, as a name can be used again.
    fn rate(&self, from: u64, to: u64) -> Option<f64> {
        let moved = to.checked_sub(from)?;
        (self.seconds > 0.0).then(|| moved as f64 / self.seconds)
    }

    /// How far this consumer had got.
    fn position(&self, of: &Member) -> Option<u64> {
        let mut members = self.snapshot.members.iter();
        let is_it = |member: &&Member| {
            (member.row, member.kind) == (of.row, of.kind) && member.name == of.name
        };
        Some(members.find(is_it)?.position)
    }
}

impl Shown {
    fn of(member: &Member, before: Option<&Before<'_>>) -> Self {
        let is_consumer = member.kind != MemberKind::Producer;
        let released_per_s = before
            .filter(|_| is_consumer)
            .and_then(|before| before.rate(before.position(member)?, member.position));
        Self {
            row: member.row,
            name: is_consumer.then(|| member.name.clone()),
            kind: match member.kind {
                MemberKind::Producer => "producer",
                MemberKind::Consumer => "consumer",
                MemberKind::Stage => "stage",
                MemberKind::MutableStage => "mutable_stage",
                _ => "unknown",
            },
            process: member.process,
            state: State::of(member),
            held: member.is_held,
            position: member.position,
            lag: member.lag,
            skipped: member.skipped,
            released_per_s,
        }
    }

    fn state(&self) -> String {
        match (self.state, self.held) {
            (State::Dead, true) => "dead, held for a successor".into(),
            (State::Dead, false) => "dead, to be recovered".into(),
            (state, _) => state.word().into(),
        }
    }
}

impl Hole {
    fn in_ring(snapshot: &Snapshot) -> Option<Self> {
        let from = snapshot.published;
        let claimed = snapshot.claimed.checked_sub(from)?;
        let members = snapshot.members.iter();
        let claimed_by = members.filter(|member| member.claim == Some(from));
        (claimed > 0).then(|| Self {
            from,
            claimed,
            claimed_by: claimed_by.map(Claimer::of).collect(),
        })
    }

    fn text(&self) -> String {
        let who: Vec<String> = self.claimed_by.iter().map(Claimer::text).collect();
        let who = if who.is_empty() {
            "a producer that is gone: who waits for it steps over it".to_owned()
        } else {
            who.join(", or ")
        };
        let from = shown::count(self.from);
        format!("at {from}: claimed and not published, by {who}")
    }
}

impl Claimer {
    fn of(member: &Member) -> Self {
        Self {
            row: member.row,
            process: member.process,
            state: State::of(member),
        }
    }

    fn text(&self) -> String {
        let process = self
            .process
            .map_or(String::new(), |process| format!(" of process {process}"));
        let state = match self.state {
            State::Running => "which is running",
            State::Stopped => "which is stopped: let it go on, or end it",
            State::Dead => "which is dead: who waits for it steps over it",
            State::Unknown => "which lives, but is not visible here",
        };
        format!("the producer in row {}{process}, {state}", self.row)
    }
}

impl Poison {
    pub(super) fn of(poisoned: Poisoned) -> Self {
        Self {
            reason: poisoned.reason,
            row: poisoned.row,
        }
    }
}

/// What the slowest consumer has not released, of the capacity.
pub(super) fn occupancy(snapshot: &Snapshot) -> Option<u64> {
    let members = snapshot.members.iter();
    let consumers = members.filter(|member| member.kind != MemberKind::Producer);
    // Positions are read before the end of what is published, which may have gone on by more than a lap.
    let lag = consumers.map(|member| member.lag).max()?;
    Some(lag.min(snapshot.capacity as u64))
}

/// Whether a ring is closed or poisoned, in words.
pub(super) fn state(closed: bool, poisoned: Option<&Poison>) -> String {
    let poisoned = poisoned.map(|Poison { reason, row }| {
        let by = row.map_or(String::new(), |row| format!(" by row {row}"));
        format!("poisoned with reason {reason}{by}")
    });
    match (closed, poisoned) {
        (false, None) => "open".into(),
        (true, None) => "closed".into(),
        (false, Some(poisoned)) => poisoned,
        (true, Some(poisoned)) => format!("closed, {poisoned}"),
    }
}

//! What there is to say about a ring at some moment, for people and for programs.

use annulus::ring::{Member, MemberKind, Poisoned, Snapshot};
use serde::Serialize;

use super::process::{Home, Homes, State};
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
    /// The process that has the member table locked, if one has and may be looked into: it joins, leaves or recovers.
    table_locked_by: Option<Locker>,
    /// What is claimed and not published, and holds up everybody behind it.
    hole: Option<Hole>,
}

#[derive(Serialize)]
pub(super) struct Poison {
    reason: u32,
    row: Option<usize>,
    /// In words: what poisons rings may have given its reasons some.
    #[serde(skip)]
    words: String,
}

#[derive(Serialize)]
struct Locker {
    /// As it knows itself, if it has said so.
    process: Option<u32>,
    process_here: Option<u32>,
    state: State,
}

/// A member.
#[derive(Serialize)]
struct Shown {
    row: usize,
    /// None of a producer.
    name: Option<String>,
    kind: &'static str,
    /// All that it comes after, directly or through others.
    after: Vec<String>,
    /// As it knows itself.
    process: Option<u32>,
    /// Its number here, if it is known which process it is.
    process_here: Option<u32>,
    state: State,
    /// Dead or gone, and in its place until a successor comes.
    held: bool,
    /// It has not joined yet, and gates already.
    joining: bool,
    /// It is asked to leave, and has not done so yet.
    to_be_evicted: bool,
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
    process_here: Option<u32>,
    state: State,
}

/// A snapshot some time before another one.
pub(super) struct Before<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) seconds: f64,
}

impl Look {
    pub(super) fn of(
        snapshot: &Snapshot,
        homes: &Homes,
        removed: bool,
        before: Option<Before<'_>>,
    ) -> Self {
        let members = snapshot.members.iter();
        let members =
            members.map(|member| Shown::of(member, homes.of_member(member), before.as_ref()));
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
            table_locked_by: Locker::of(snapshot, homes),
            hole: Hole::in_ring(snapshot, homes),
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
        if let Some(locker) = &self.table_locked_by {
            fact("table", locker.text());
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
                "AFTER",
            ]
            .map(String::from),
        );
        for member in &self.members {
            let or_none = |text: Option<String>| text.unwrap_or("-".into());
            table.line([
                member.row.to_string(),
                or_none(member.name.as_deref().map(shown::text)),
                member.kind.replace('_', " "),
                or_none(
                    member
                        .process
                        .map(|process| number(process, member.process_here)),
                ),
                member.state(),
                shown::count(member.position),
                shown::count(member.lag),
                shown::count(member.skipped),
                rates(member.released_per_s),
                member.after(),
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
    fn of(member: &Member, home: Home, before: Option<&Before<'_>>) -> Self {
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
            after: member.after.clone(),
            process: member.process,
            process_here: home.here,
            state: home.state,
            held: member.is_held,
            joining: member.is_joining,
            to_be_evicted: member.is_to_be_evicted,
            position: member.position,
            lag: member.lag,
            skipped: member.skipped,
            released_per_s,
        }
    }

    fn state(&self) -> String {
        let mut text = match (self.state, self.held) {
            (State::Dead, true) => "dead or gone, held for a successor".into(),
            (State::Dead, false) => "dead, to be recovered".into(),
            (state @ (State::Running | State::Stopped), _) if self.process_here.is_none() => {
                // It has this number, and may not be looked into.
                format!("{}, if that is its number here", state.word())
            }
            (state, _) => state.word().to_owned(),
        };
        if self.joining {
            text.push_str(", joining");
        }
        if self.to_be_evicted {
            text.push_str(", asked to leave");
        }
        text
    }

    fn after(&self) -> String {
        if self.after.is_empty() {
            return "-".into();
        }
        shown::text(&self.after.join(", "))
    }
}

impl Hole {
    fn in_ring(snapshot: &Snapshot, homes: &Homes) -> Option<Self> {
        let from = snapshot.published;
        let claimed = snapshot.claimed.checked_sub(from)?;
        let members = snapshot.members.iter();
        let claimed_by = members.filter(|member| member.claim == Some(from));
        (claimed > 0).then(|| Self {
            from,
            claimed,
            claimed_by: claimed_by
                .map(|member| Claimer::of(member, homes.of_member(member)))
                .collect(),
        })
    }

    fn text(&self) -> String {
        let who: Vec<String> = self.claimed_by.iter().map(Claimer::text).collect();
        let who = if who.is_empty() {
            "a producer that is gone: the next that waits for it steps over it".to_owned()
        } else {
            who.join(", or ")
        };
        let from = shown::count(self.from);
        format!("at {from}: claimed and not published, by {who}")
    }
}

impl Claimer {
    fn of(member: &Member, home: Home) -> Self {
        Self {
            row: member.row,
            process: member.process,
            process_here: home.here,
            state: home.state,
        }
    }

    fn text(&self) -> String {
        let process = self.process.map_or(String::new(), |process| {
            format!(" of process {}", number(process, self.process_here))
        });
        format!(
            "the producer in row {}{process}, {}",
            self.row,
            is_how(self.state)
        )
    }
}

impl Locker {
    fn of(snapshot: &Snapshot, homes: &Homes) -> Option<Self> {
        let home = homes.of_table_lock()?;
        Some(Self {
            process: snapshot.table_locked_by,
            process_here: home.here,
            state: home.state,
        })
    }

    fn text(&self) -> String {
        let process = match (self.process, self.process_here) {
            (Some(process), here) => format!("process {}", number(process, here)),
            (None, Some(here)) => format!("process {here}"),
            (None, None) => "a process".to_owned(),
        };
        let is_how = is_how(self.state);
        format!("locked by {process}, {is_how}; others that join or leave wait for it")
    }
}

/// What is to be done about a process that others wait for.
fn is_how(state: State) -> &'static str {
    match state {
        State::Running => "which is running",
        State::Stopped => "which is stopped: let it go on, or end it",
        State::Dead => "which is dead: the next that waits for it steps over it",
        State::Unknown => "which lives, but is not visible here",
    }
}

/// A process by the number that it knows itself by, and by that which it has here, if it is known and another.
pub(super) fn number(process: u32, here: Option<u32>) -> String {
    match here {
        Some(here) if here != process => format!("{process} (here {here})"),
        _ => process.to_string(),
    }
}

impl Poison {
    pub(super) fn of(poisoned: Poisoned) -> Self {
        Self {
            reason: poisoned.reason,
            row: poisoned.row,
            words: poisoned.to_string().replacen("the ring was ", "", 1),
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
    match (closed, poisoned) {
        (false, None) => "open".into(),
        (true, None) => "closed".into(),
        (false, Some(poison)) => poison.words.clone(),
        (true, Some(poison)) => format!("closed, {}", poison.words),
    }
}

//! Looking in: how far a ring is claimed and published, and where its members are.

use crate::member::{MemberKind, Poisoned};
use crate::region::Memory;
use crate::ring::Producers;
use crate::roster::Roster;
use crate::sequence::Sequence;
use crate::stamp::Reading;

/// A ring at some moment; made by [`Ring::snapshot`](crate::Ring::snapshot).
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// let ring = Ring::builder(8).build(u64::default)?;
/// let book = ring.consumer("book").join()?;
/// let mut feed = ring.producer()?;
/// feed.publish_value(7)?;
/// let snapshot = ring.snapshot();
/// assert_eq!(snapshot.published, 1);
/// assert_eq!(snapshot.members[0].name, "book");
/// assert_eq!(snapshot.members[0].lag, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The number of slots.
    pub capacity: usize,
    /// The end of what has been claimed. One producer tells nobody before it publishes: as
    /// `published`.
    pub claimed: Sequence,
    /// A sequence below which everything is published: the first that is not, if producers rest.
    pub published: Sequence,
    /// Whether the ring is closed.
    pub closed: bool,
    /// Whether it was poisoned, by whom and why.
    pub poisoned: Option<Poisoned>,
    /// Producers and consumers, in the order of the member table.
    pub members: Vec<Member>,
    /// The process that has the member table locked, because a member of it joins or leaves, as it knows itself; if
    /// processes share the ring. While it is stopped nobody else joins.
    pub table_locked_by: Option<u32>,
}

/// A producer or consumer in a [`Snapshot`].
///
/// # Examples
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let mut book = ring.consumer("book").join()?;
/// let journal = ring.consumer("journal").join()?;
/// ring.producer()?.publish_batch(3, |_| ())?;
/// drop(book.next_batch()?);
/// let members = ring.snapshot().members;
/// let slowest = members.iter().max_by_key(|member| member.lag).unwrap();
/// assert_eq!((slowest.name.as_str(), slowest.position, slowest.lag), ("journal", 0, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A stage tells of all that it comes after:
/// ```
/// # use annulus_ring::Ring;
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let journal = ring.consumer("journal").join()?;
/// let book = ring.consumer("book").after(["journal"]).join()?;
/// let risk = ring.consumer("risk").after(["book"]).join()?;
/// assert_eq!(ring.snapshot().members[risk.row()].after, ["journal", "book"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// What has been claimed and not published holds up everybody behind it; the member whose it is:
/// ```
/// # use annulus_ring::{Producers, Ring};
/// let ring = Ring::builder(8).producers(Producers::Many).build(u64::default)?;
/// let (mut slow, mut quick) = (ring.shared_producer()?, ring.shared_producer()?);
/// let row = slow.row();
/// let claim = slow.claim(2)?;
/// quick.publish_value(7)?;
///
/// let snapshot = ring.snapshot();
/// assert_eq!((snapshot.published, snapshot.claimed), (0, 3));
/// let mut members = snapshot.members.iter();
/// let holds_up = members.find(|member| member.claim == Some(snapshot.published));
/// assert_eq!(holds_up.unwrap().row, row);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The name of a consumer; producers have none.
    pub name: String,
    /// Its line in the member table.
    pub row: usize,
    /// What it is.
    pub kind: MemberKind,
    /// The consumers that it comes after, by name, in the order of the member table: those that it has named, and those
    /// that they come after. Which of them it has named the ring does not keep; one that has left is not among them.
    pub after: Vec<String>,
    /// Of a consumer, the next sequence that it has not released. Of one of many producers, where its
    /// latest claim started; of one that has none, or does not tell, the end of what is published.
    pub position: Sequence,
    /// Of one of many producers, where its latest claim started, if it tells. It may have been published since; if
    /// not, and it starts where the snapshot's [`published`](Snapshot::published) ends, everybody waits for it.
    /// For a moment a producer also tells of a claim that another one then gets.
    pub claim: Option<Sequence>,
    /// Of a consumer, how many published sequences it has not released; of a producer 0.
    pub lag: u64,
    /// The process in which it lives, or lived, as that knows itself; if processes share the ring.
    pub process: Option<u32>,
    /// Whether that is known to be dead, and it has not been recovered, or is held for a successor.
    pub is_dead: bool,
    /// Whether it is dead, or has [gone](crate::Consumer::leave_held), and stays where it is until a successor comes: a
    /// consumer whose gate is [held](crate::OnDeath::Hold), or the only producer.
    pub is_held: bool,
    /// Whether it is a consumer that is about to join: it gates, and reads nothing yet.
    pub is_joining: bool,
    /// Whether it is asked to [leave](crate::Ring::evict), and has not done so yet.
    pub is_to_be_evicted: bool,
    /// How many sequences a consumer has stepped over, or a producer has claimed and given up.
    pub skipped: u64,
}

impl Snapshot {
    pub(crate) fn take<T>(memory: &Memory<T>) -> Self {
        let header = memory.header();
        let roster = Roster::look(memory);
        let signal = header.status.signal();
        let mut members = roster.map_or(Vec::new(), |roster| {
            let members = roster.members();
            let member = |(row, kind, name)| Member::of(memory, &roster, row, kind, name);
            members.map(member).collect()
        });
        let front = match memory.region().producers {
            Producers::One => header.published.observe(),
            Producers::Many => published_front(memory),
        };
        // A consumer never passes the front, but may know more of it: it can come by stamps, past a cursor.
        let positions = members.iter().filter_map(Member::released);
        let published = positions.fold(front, Sequence::max);
        for member in &mut members {
            // A producer that has not claimed yet and a consumer that is just leaving have no position.
            member.position = member.position.min(published);
            if member.kind != MemberKind::Producer {
                member.lag = published - member.position;
            }
        }
        Self {
            capacity: memory.capacity() as usize,
            claimed: match memory.region().producers {
                Producers::One => published,
                Producers::Many => header.claimed.observe().sequence(),
            },
            published,
            closed: signal.is_closed(),
            poisoned: signal.poisoned(),
            members,
            table_locked_by: header.status.table_holder(),
        }
    }
}

impl Member {
    /// How far a consumer has got, unless it is just leaving.
    fn released(&self) -> Option<Sequence> {
        let is_at = self.kind != MemberKind::Producer && self.position != Sequence::MAX;
        is_at.then_some(self.position)
    }

    fn of<T>(
        memory: &Memory<T>,
        roster: &Roster<'_, T>,
        index: usize,
        kind: MemberKind,
        name: String,
    ) -> Self {
        let row = memory.row(index);
        let claim = match kind {
            MemberKind::Producer => row.hot.intent.observe(),
            MemberKind::Consumer | MemberKind::Stage | MemberKind::MutableStage => None,
        };
        let position = match kind {
            MemberKind::Producer => claim,
            MemberKind::Consumer | MemberKind::Stage | MemberKind::MutableStage => {
                row.hot.position.observe()
            }
        };
        let is_joining = row.record.is_joining();
        let is_dead = !memory.region().lives(index) || row.record.is_held();
        let stays_when_dead = match kind {
            MemberKind::Producer => memory.region().producers == Producers::One,
            // One that was leaving when it died has no gate to hold.
            _ => position.is_some() && !is_joining && roster.holds_when_dead(index),
        };
        Self {
            process: row.hot.process(),
            is_dead,
            is_held: is_dead && stays_when_dead,
            is_joining,
            is_to_be_evicted: row.hot.is_to_be_evicted(),
            row: index,
            after: roster.names_before(index),
            name,
            kind,
            position: position.unwrap_or(Sequence::MAX),
            claim,
            lag: 0,
            skipped: row.record.skipped(),
        }
    }
}

/// Many producers: walks the stamps from a boundary below which everything is published.
pub(crate) fn published_front<T>(memory: &Memory<T>) -> Sequence {
    let known = || memory.region().known_boundary();
    let mut front = known();
    // Producers may run ahead of this walk: it ends all the same, with what it has seen.
    for _ in 0..=2 * memory.capacity() {
        match memory.reading(front) {
            Reading::Events(hi) | Reading::Skip(hi) => front = hi,
            // Somebody claimed a lap above `front`: consumers had passed it, or the floor, and that shows by now.
            Reading::Overtaken => match known() {
                passed if passed > front => front = passed,
                _ => break, // It is corrupt, and would be read again and again.
            },
            Reading::Unpublished => break,
        }
    }
    front
}

//! What ends where, and in which situation: the combinations that there are, and those that cannot occur.

use std::collections::BTreeMap;
use std::fmt;

use annulus_ipc::Creation;
use annulus_ring::{Layout, OnDeath, Producers, Step};

/// A point that a process reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Point {
    Ring(Step),
    Creation(Creation),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(step) => write!(f, "{step:?}"),
            Self::Creation(point) => write!(f, "{point:?}"),
        }
    }
}

/// What the process does that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    Consumer,
    /// A consumer after another one.
    Stage,
    /// A consumer that holds what it is given, and releases it a part at a time.
    Holder,
    /// A stage that changes events.
    Changer,
    /// The only consumer.
    Alone,
    /// Who closes the ring.
    Closer,
    Poisoner,
    /// Who finds others dead.
    Recoverer,
    /// Who takes the place of a dead producer.
    Successor,
    Creator,
}

/// How the ring is when the point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Situation {
    /// Nothing has ever been published.
    First,
    /// The next batch lies across the end of the ring.
    Wrap,
    /// No slot is free.
    Full,
    /// Everything has been read.
    Empty,
}

/// What happens to it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Killed,
    /// Stopped, and continued later.
    Stopped,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Combination {
    pub(crate) role: Role,
    pub(crate) point: Point,
    /// When it reaches the point for this time.
    pub(crate) time: u32,
    pub(crate) situation: Situation,
    pub(crate) producers: Producers,
    pub(crate) layout: Layout,
    pub(crate) fate: Fate,
    /// Of a consumer.
    pub(crate) on_death: Option<OnDeath>,
    /// Tells it from the others; chooses who waits in which way.
    pub(crate) number: u64,
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            point,
            time,
            situation,
            producers,
            layout,
            fate,
            ..
        } = self;
        write!(
            f,
            "{role:?}/{point}-{time}/{situation:?}/{producers:?}/{layout:?}/{fate:?}"
        )?;
        match self.on_death {
            Some(on_death) => write!(f, "/{on_death:?}"),
            None => Ok(()),
        }
    }
}

impl Combination {
    /// The step; of a creation there is none.
    pub(crate) fn step(&self) -> Step {
        match self.point {
            Point::Ring(step) => step,
            Point::Creation(point) => panic!("{point:?} is a point of a creation"),
        }
    }

    pub(crate) fn is(&self, steps: &[Step]) -> bool {
        steps.contains(&self.step())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.situation == Situation::Full
    }

    /// Why there is no such combination.
    fn cannot_occur(&self) -> Option<&'static str> {
        let Self {
            role,
            situation,
            producers,
            ..
        } = *self;
        let Point::Ring(step) = self.point else {
            return (situation != Situation::First)
                .then_some("a ring that is being created has never been published to");
        };
        if let Some(why) = never_reached(step, producers) {
            return Some(why);
        }
        let stamps = producers == Producers::Many || self.layout == Layout::Beside;
        match (role, step, situation) {
            (Role::Producer, Step::Stamp, _) if !stamps => {
                Some("one producer publishes by its cursor alone where stamps lie apart")
            }
            (Role::Producer, Step::Park, s) if s != Situation::Full => {
                Some("a producer waits only where no slot is free")
            }
            (Role::Consumer | Role::Alone, Step::Park, s) if s != Situation::Empty => {
                Some("a consumer that comes after nobody waits only where everything has been read")
            }
            (
                Role::Consumer | Role::Stage,
                Step::End | Step::Release | Step::Wake,
                Situation::Empty,
            ) if producers == Producers::One => {
                Some("who has read everything has nothing to release, unless something is skipped")
            }
            (Role::Changer, Step::End | Step::Release, Situation::Empty)
            | (Role::Alone, Step::End | Step::Release | Step::Wake, Situation::Empty) => {
                Some("who has read everything has nothing to release, unless something is skipped")
            }
            (Role::Alone, Step::Wake, s) if s != Situation::Full => Some(
                "of those who come after nobody only producers at the gate are woken by a release",
            ),
            (Role::Holder, _, Situation::Empty) => {
                Some("who has released everything holds nothing")
            }
            (Role::Closer, Step::Stop, _) if producers == Producers::Many => Some(
                "a ring of many producers is closed by stopping their claims, with nothing said before",
            ),
            _ => None,
        }
    }
}

/// Why nobody ever reaches this point of a ring of one, or of many.
pub(crate) fn never_reached(step: Step, producers: Producers) -> Option<&'static str> {
    match (producers, step) {
        (Producers::One, Step::Intent | Step::Exchange) => {
            Some("the only producer keeps its claims to itself")
        }
        (Producers::One, Step::Floor) => {
            Some("the floor is what producers claim by where there are many")
        }
        (Producers::One, Step::Abandon) => {
            Some("nobody knows of a claim of the only producer, so none is abandoned")
        }
        (Producers::Many, Step::Publish) => Some("many producers have no cursor of their own"),
        (Producers::Many, Step::TakeOver) => Some("many producers have no cursor to take over"),
        _ => None,
    }
}

/// All that there are, and for what reason how many cannot occur.
pub(crate) fn all() -> (Vec<Combination>, BTreeMap<&'static str, usize>) {
    let mut all = Vec::new();
    let mut impossible = BTreeMap::new();
    for (role, point, time) in roles() {
        for situation in [
            Situation::First,
            Situation::Wrap,
            Situation::Full,
            Situation::Empty,
        ] {
            for producers in [Producers::One, Producers::Many] {
                for layout in [Layout::Beside, Layout::Apart] {
                    for fate in [Fate::Killed, Fate::Stopped] {
                        for on_death in deaths(role, point) {
                            let combination = Combination {
                                role,
                                point,
                                time,
                                situation,
                                producers,
                                layout,
                                fate,
                                on_death: *on_death,
                                number: all.len() as u64,
                            };
                            match combination.cannot_occur() {
                                Some(why) => *impossible.entry(why).or_default() += 1,
                                None => all.push(combination),
                            }
                        }
                    }
                }
            }
        }
    }
    (all, impossible)
}

/// The points of a creation.
pub(crate) const CREATION: [Creation; 4] = [
    Creation::Directory,
    Creation::Allocate,
    Creation::Format,
    Creation::Link,
];

fn roles() -> Vec<(Role, Point, u32)> {
    let mut roles = Vec::new();
    let mut of = |role, steps: &[Step]| {
        roles.extend(steps.iter().map(|step| (role, Point::Ring(*step), 1)));
    };
    of(
        Role::Producer,
        &[
            Step::Row,
            Step::TakeOver,
            Step::Claim,
            Step::Intent,
            Step::Exchange,
            Step::Write,
            Step::Stamp,
            Step::Publish,
            Step::Wake,
            Step::Park,
            Step::Leave,
        ],
    );
    for role in [Role::Consumer, Role::Stage] {
        of(
            role,
            &[
                Step::Row,
                Step::Enter,
                Step::Count,
                Step::Join,
                Step::End,
                Step::Release,
                Step::Wake,
                Step::Park,
                Step::Floor,
                Step::Leave,
            ],
        );
    }
    of(Role::Holder, &[Step::End, Step::Release, Step::Wake]);
    of(
        Role::Changer,
        &[
            Step::Row,
            Step::Enter,
            Step::Count,
            Step::Join,
            Step::End,
            Step::Release,
            Step::Floor,
            Step::Leave,
        ],
    );
    of(
        Role::Alone,
        &[
            Step::Row,
            Step::Enter,
            Step::Count,
            Step::Join,
            Step::End,
            Step::Release,
            Step::Wake,
            Step::Park,
            Step::Floor,
            Step::Leave,
        ],
    );
    of(Role::Closer, &[Step::Stop, Step::Wake]);
    of(Role::Poisoner, &[Step::Stop, Step::Wake]);
    of(
        Role::Recoverer,
        &[
            Step::Evict,
            Step::Floor,
            Step::Leave,
            Step::Abandon,
            Step::TakeOver,
        ],
    );
    of(Role::Successor, &[Step::Row, Step::TakeOver]);
    roles.push((Role::Recoverer, Point::Ring(Step::Abandon), 2)); // Half done.
    for time in [2, 3] {
        roles.push((Role::Holder, Point::Ring(Step::End), time));
        roles.push((Role::Holder, Point::Ring(Step::Release), time));
    }
    for point in CREATION {
        roles.push((Role::Creator, Point::Creation(point), 1));
    }
    roles
}

/// What is to become of its gate.
fn deaths(role: Role, point: Point) -> &'static [Option<OnDeath>] {
    let has_joined = !matches!(point, Point::Ring(Step::Row | Step::Enter | Step::Count));
    match role {
        Role::Consumer if has_joined => &[Some(OnDeath::Release), Some(OnDeath::Hold)],
        // With nothing said it is held, as others come after it.
        Role::Stage if has_joined => &[Some(OnDeath::Release), None],
        Role::Holder => &[Some(OnDeath::Hold)],
        Role::Recoverer | Role::Alone => &[Some(OnDeath::Release)],
        _ => &[None],
    }
}

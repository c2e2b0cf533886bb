//! Why a member could not join: for people to read, with the name, the value and what to do.

use std::error::Error;
use std::fmt;

use crate::member::{MAX_MEMBERS, MAX_NAME, Poisoned};
use crate::ring::Producers;
use crate::sequence::Sequence;
use crate::shared::Unusable;

/// Gives errors a `Debug` that shows their text: by it a `main` that returns an error tells what to do.
macro_rules! debug_as_text {
    ($($error:ty),+) => {$(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }
    )+};
}
pub(crate) use debug_as_text;

debug_as_text!(ProducerError, JoinError);

/// Why a producer could not join.
///
/// # Examples
/// ```
/// # use annulus_ring::{ProducerError, Ring};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let feed = ring.producer()?;
/// let error = ring.producer().unwrap_err();
/// assert_eq!(error, ProducerError::Taken);
/// assert!(error.to_string().starts_with("the only producer of the ring has joined already"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProducerError {
    /// The ring was built for the other kind of producers.
    WrongKind {
        /// What the ring was built for.
        built_for: Producers,
    },
    /// The only producer of the ring has joined already.
    Taken,
    /// The member table, whose size was set at build, is full.
    TableFull {
        /// How many members it holds.
        members: usize,
        /// Who they are.
        held_by: Vec<String>,
    },
    /// The system does not give it what shows other processes that it lives.
    NoLease {
        /// Why.
        why: String,
    },
    /// Nothing can be done with the ring.
    Unusable(Unusable),
    /// The ring is closed, or its last producer is gone, which closes it.
    Closed,
    /// The ring was poisoned: nobody can claim any more.
    Poisoned(Poisoned),
    /// It is to park, and the ring was not built for that.
    NoParking,
}

impl fmt::Display for ProducerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKind {
                built_for: Producers::One,
            } => f.write_str(
                "the ring was built for one producer: join with Ring::producer, or build the ring \
                 with .producers(Producers::Many)",
            ),
            Self::WrongKind { .. } => f.write_str(
                "the ring was built for many producers: join with Ring::shared_producer, or build \
                 the ring with .producers(Producers::One)",
            ),
            Self::Taken => f.write_str(
                "the only producer of the ring has joined already: build the ring with \
                 .producers(Producers::Many) to have more",
            ),
            Self::TableFull { members, held_by } => table_full(f, "a producer", *members, held_by),
            Self::NoLease { why } => no_lease(f, "a producer", why),
            Self::Unusable(cause) => cause.fmt(f),
            Self::Closed => f.write_str(
                "the ring is closed, or its last producer was dropped, which closes it: join before \
                 that, or build another ring (in shared memory `open_or_create` does, once the last member has gone)",
            ),
            Self::Poisoned(poisoned) => write!(f, "a producer comes too late: {poisoned}"),
            Self::NoParking => no_parking(f, "a producer"),
        }
    }
}

impl Error for ProducerError {}

/// Why a consumer could not join.
///
/// # Examples
/// ```
/// # use annulus_ring::{JoinError, Ring};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// let error = ring.consumer("risk").after(["book"]).join().unwrap_err();
/// assert!(matches!(&error, JoinError::UnknownName { after, .. } if after == "book"));
/// assert!(error.to_string().ends_with("join that one first"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The name is empty, or longer than 80 bytes.
    BadName {
        /// The name.
        name: String,
    },
    /// A consumer of this name is there already.
    NameTaken {
        /// The name.
        name: String,
    },
    /// The consumer is to come after one that is not there.
    UnknownName {
        /// The consumer that was to join.
        name: String,
        /// The name that no consumer has.
        after: String,
    },
    /// Its limit on the batch is 0.
    BatchLimit {
        /// The consumer that was to join.
        name: String,
    },
    /// It is to start at an event that is no longer there.
    TooOld {
        /// The consumer that was to join.
        name: String,
        /// The sequence asked for.
        asked: Sequence,
        /// The oldest that was sure to be there.
        oldest: Sequence,
    },
    /// One of the two changes events, and neither comes after the other.
    Unordered {
        /// The consumer that was to join.
        name: String,
        /// The consumer that it would have to come after.
        other: String,
        /// Whether it is the other that changes events.
        other_changes: bool,
    },
    /// It is to park, and the ring was not built for that.
    NoParking {
        /// The consumer that was to join.
        name: String,
    },
    /// It is to succeed a consumer that is not there, or is of the other kind.
    NoPredecessor {
        /// The consumer that was to join.
        name: String,
    },
    /// It changes events, and is to be let go if it dies: half done, and nobody would know where.
    ReleaseMutable {
        /// The consumer that was to join.
        name: String,
    },
    /// The member table, whose size was set at build, is full.
    TableFull {
        /// The consumer that was to join.
        name: String,
        /// How many members it holds.
        members: usize,
        /// Who they are.
        held_by: Vec<String>,
    },
    /// The system does not give it what shows other processes that it lives.
    NoLease {
        /// The consumer that was to join.
        name: String,
        /// Why.
        why: String,
    },
    /// Nothing can be done with the ring.
    Unusable {
        /// The consumer that was to join.
        name: String,
        /// Why.
        cause: Unusable,
    },
    /// The ring is closed.
    Closed {
        /// The consumer that was to join.
        name: String,
    },
    /// The ring was poisoned.
    Poisoned {
        /// The consumer that was to join.
        name: String,
        /// By whom, and why.
        cause: Poisoned,
    },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName { name } => write!(
                f,
                "a consumer's name takes 1 to {MAX_NAME} bytes, and {name:?} has {}: choose another",
                name.len()
            ),
            Self::NameTaken { name } => write!(
                f,
                "a consumer named {name:?} has joined already: choose another name, or drop that \
                 one first"
            ),
            Self::UnknownName { name, after } => write!(
                f,
                "consumer {name:?} is to come after {after:?}, but no consumer of that name has \
                 joined: join that one first"
            ),
            Self::BatchLimit { name } => write!(
                f,
                "the batch limit of consumer {name:?} is 0: let it have at least 1 event a batch"
            ),
            Self::TooOld {
                name,
                asked,
                oldest,
            } => write!(
                f,
                "consumer {name:?} is to start at {asked}, but events below {oldest} may have been \
                 overwritten: start at {oldest} or later, or join sooner"
            ),
            Self::Unordered {
                name,
                other,
                other_changes,
            } => write!(
                f,
                "{:?} changes events, and is not ordered against {:?}: join {name:?} after {other:?}",
                if *other_changes { other } else { name },
                if *other_changes { name } else { other },
            ),
            Self::NoParking { name } => no_parking(f, &format!("consumer {name:?}")),
            Self::NoPredecessor { name } => write!(
                f,
                "there is no consumer named {name:?} that could be succeeded in this way: join a new one"
            ),
            Self::ReleaseMutable { name } => write!(
                f,
                "consumer {name:?} changes events, and is to be released if it dies: use OnDeath::Hold"
            ),
            Self::TableFull {
                name,
                members,
                held_by,
            } => table_full(f, &format!("consumer {name:?}"), *members, held_by),
            Self::NoLease { name, why } => no_lease(f, &format!("consumer {name:?}"), why),
            Self::Unusable { name, cause } => write!(f, "consumer {name:?} cannot join: {cause}"),
            Self::Closed { name } => write!(
                f,
                "consumer {name:?} comes too late, the ring is closed: join before that, or build \
                 another ring (in shared memory `open_or_create` does, once the last member has gone)"
            ),
            Self::Poisoned { name, cause } => {
                write!(f, "consumer {name:?} comes too late: {cause}")
            }
        }
    }
}

impl Error for JoinError {}

fn table_full(
    f: &mut fmt::Formatter<'_>,
    who: &str,
    members: usize,
    held_by: &[String],
) -> fmt::Result {
    write!(
        f,
        "no row is left for {who} in the member table, which holds {members} ({}): let one of them leave",
        held_by.join(", ")
    )?;
    if members < MAX_MEMBERS {
        write!(
            f,
            ", or build the ring with a larger .members(n), of at most {MAX_MEMBERS}"
        )?;
    }
    Ok(())
}

fn no_lease(f: &mut fmt::Formatter<'_>, who: &str, why: &str) -> fmt::Result {
    write!(f, "{who} gets no lease of its row from the system: {why}")
}

fn no_parking(f: &mut fmt::Formatter<'_>, who: &str) -> fmt::Result {
    write!(
        f,
        "{who} is to wait by parking, and the ring was built without: build it with .parking(), or \
         choose another way to wait"
    )
}

/// Why a member gets no row.
pub(crate) enum NoRow {
    Full {
        members: usize,
        held_by: Vec<String>,
    },
    /// Its member lives.
    Alive,
    /// By the system, which does not give a lease.
    Refused(String),
}

impl NoRow {
    pub(crate) fn of_consumer(self, name: String) -> JoinError {
        match self {
            Self::Full { members, held_by } => JoinError::TableFull {
                name,
                members,
                held_by,
            },
            Self::Alive => JoinError::NameTaken { name },
            Self::Refused(why) => JoinError::NoLease { name, why },
        }
    }
}

impl From<NoRow> for ProducerError {
    fn from(cause: NoRow) -> Self {
        match cause {
            NoRow::Full { members, held_by } => Self::TableFull { members, held_by },
            NoRow::Alive => Self::Taken,
            NoRow::Refused(why) => Self::NoLease { why },
        }
    }
}

impl From<Unusable> for ProducerError {
    fn from(cause: Unusable) -> Self {
        Self::Unusable(cause)
    }
}

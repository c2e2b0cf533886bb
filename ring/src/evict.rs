//! Taking a consumer out of a ring that it holds up: one that is dead and held at once, one that lives when it agrees.
//!
//! A consumer that lives reads events in place, so nothing may overwrite them before it comes back to the ring: it is
//! asked to leave, and does so when it next asks for a batch. That costs nothing where events flow: the request is a bit
//! among the signals of the ring, which every consumer looks at before each batch anyway.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use crate::member::MemberKind;
use crate::recover::{Leases, free_the_dead};
use crate::refusal::debug_as_text;
use crate::ring::Ring;
use crate::roster::{Presence, Roster};
use crate::shared::Unusable;
use crate::wait::{LONGEST_SLEEP, Patience, Wait, Waiter};

/// A consumer that was taken out of a ring by [`Ring::evict`].
///
/// # Examples
/// See [`Ring::evict`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// Its name.
    pub name: String,
    /// What it was.
    pub kind: MemberKind,
    /// How many published sequences it had not released when it went. It is told the same number, if it lives.
    pub lost: u64,
}

impl<T> Ring<T> {
    /// Takes the consumer of this name out of the ring, so that producers, and those that come after it, go on without it.
    /// What it has not released is lost to it.
    ///
    /// One that is dead, or has gone, and is [held](crate::OnDeath::Hold) goes at once. One that lives is asked to leave
    /// and does so when it next asks for a batch, which ends with [`Ended::Evicted`](crate::Ended::Evicted): waits for
    /// that for as long as `patience`. A batch that it has in hand it can finish. What it was to change, if it changes
    /// events, reaches those that come after it as it is.
    ///
    /// # Errors
    /// If there is no consumer of this name, or if it lives and does not answer: then the request stays, and takes
    /// effect when it comes back to the ring, or dies.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ring::{Ended, Ring};
    /// # use std::time::Duration;
    /// # let ring = Ring::builder(2).build(u64::default)?;
    /// let mut feed = ring.producer()?;
    /// ring.consumer("journal").join()?.leave_held();
    /// feed.publish_batch(2, |_| ())?;
    /// assert!(feed.try_publish(|_| ()).is_err()); // held up
    /// let evicted = ring.evict("journal", Duration::ZERO)?;
    /// assert_eq!(evicted.lost, 2);
    /// feed.try_publish(|_| ())?;
    ///
    /// let mut slow = ring.consumer("slow").join()?;
    /// assert!(ring.evict("slow", Duration::ZERO).is_err()); // it does not answer yet
    /// feed.publish_value(7)?;
    /// assert_eq!(slow.next_batch().unwrap_err(), Ended::Evicted { lost: 1 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict(&self, name: &str, patience: Duration) -> Result<Evicted, EvictError> {
        let memory = self.memory();
        let region = memory.region();
        let deadline = Instant::now() + patience;
        let mut waiter = Waiter::new(Wait::default(), Patience::Until(deadline), None);
        let mut asked = None;
        loop {
            let roster = Roster::lock(memory).map_err(EvictError::Unusable)?;
            let mut told = Vec::new();
            if let Some(shared) = region.shared_memory() {
                free_the_dead(memory, &roster, &Leases(shared), &mut told);
            }
            if let Some((row, kind)) = asked
                && !memory.row(row).hot.is_to_be_evicted()
            {
                roster.tell_all(&told);
                return Ok(Evicted {
                    name: name.to_owned(),
                    kind,
                    lost: memory.row(row).hot.lost(),
                });
            }
            let Some(row) = roster.consumer_named(name) else {
                roster.tell_all(&told);
                return Err(EvictError::NoConsumer {
                    name: name.to_owned(),
                });
            };
            let (kind, name) = roster.member(row);
            roster.set_eviction(row, true);
            if roster.is_held(row) {
                let lost = roster.leave_consumer(row, memory.row(row).record.end());
                told.push(Presence::Left {
                    kind,
                    name: name.clone(),
                });
                roster.tell_all(&told);
                return Ok(Evicted { name, kind, lost });
            }
            roster.tell_all(&told);
            asked = Some((row, kind));
            region.wake_all();
            let hot = &memory.row(row).hot;
            while hot.is_to_be_evicted() && region.lives(row) {
                if !waiter.pause(&memory.header().waiters, || Some(LONGEST_SLEEP)) {
                    return Err(EvictError::NoAnswer {
                        name,
                        process: hot.process(),
                    });
                }
            }
        }
    }
}

/// Why a consumer was not taken out of a ring.
///
/// # Examples
/// See [`Ring::evict`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictError {
    /// No consumer of this name is in the ring.
    NoConsumer {
        /// The name.
        name: String,
    },
    /// It lives, and has not come back to the ring in the time that was given. The request stays.
    NoAnswer {
        /// Its name.
        name: String,
        /// The process in which it lives, as that knows itself, if processes share the ring.
        process: Option<u32>,
    },
    /// Nothing can be done with the ring.
    Unusable(Unusable),
}

impl fmt::Display for EvictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConsumer { name } => {
                write!(
                    f,
                    "no consumer named {name:?} is in the ring: look at its snapshot for the names"
                )
            }
            Self::NoAnswer { name, process } => {
                write!(f, "consumer {name:?}")?;
                if let Some(process) = process {
                    write!(f, " of process {process}")?;
                }
                f.write_str(
                    " has not come back to the ring yet, and may be reading what it has: it leaves when it asks for \
                     the next batch; if it never does, end its process",
                )
            }
            Self::Unusable(cause) => cause.fmt(f),
        }
    }
}

debug_as_text!(EvictError);

impl Error for EvictError {}

//! Named points of the algorithm, at which models and tests stop or end whoever reaches them.
//!
//! In a normal build there is nothing here: they are compiled in under `cfg(loom)` and `cfg(failpoints)`.

#[cfg(any(loom, failpoints))]
pub use crate::sync::at_each_step;
pub(crate) use crate::sync::reach;

/// A point that a thread reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(
    not(any(loom, failpoints)),
    expect(unreachable_pub, reason = "public where it does something")
)]
pub enum Step {
    /// A producer wants to claim.
    Claim,
    /// One of many producers has announced a claim.
    Intent,
    /// One of many producers has made a claim.
    Exchange,
    /// A producer has written its events, and publishes them next.
    Write,
    /// A producer has published a stamp.
    Stamp,
    /// The only producer has stored `published`.
    Publish,
    /// A joining member has its row, and says next that it is used.
    Row,
    /// A joining consumer has entered its first position.
    Enter,
    /// A joining consumer has counted its join.
    Count,
    /// A joining consumer has entered its final position.
    Join,
    /// A consumer has stored where the batch of its next position ends.
    End,
    /// A consumer has stored its position.
    Release,
    /// A leaving consumer has raised the floor.
    Floor,
    /// A leaving consumer has left, and its row is still its own; or a leaving producer's row is free.
    Leave,
    /// A member is ready to park, has looked once more, and sleeps next.
    Park,
    /// Somebody has cleared the flag of sleepers, and raises the epoch next.
    Wake,
    /// Somebody has poisoned the ring or asked to close it, and stops its producers next.
    Stop,
    /// Whoever goes on in place of the only producer says next how far that had published.
    TakeOver,
    /// Whoever recovers releases the gate of a dead consumer next.
    Evict,
    /// Whoever recovers gives up one sequence of a dead producer next.
    Abandon,
}

#[cfg(any(loom, failpoints))]
impl Step {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Claim,
        Self::Intent,
        Self::Exchange,
        Self::Write,
        Self::Stamp,
        Self::Publish,
        Self::Row,
        Self::Enter,
        Self::Count,
        Self::Join,
        Self::End,
        Self::Release,
        Self::Floor,
        Self::Leave,
        Self::Park,
        Self::Wake,
        Self::Stop,
        Self::TakeOver,
        Self::Evict,
        Self::Abandon,
    ];
}

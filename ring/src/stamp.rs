//! The one rule: the first slot of a batch `[lo, hi)` carries the stamp `hi`, and a batch that starts
//! at `lo` is published if and only if `lo < stamp <= lo + capacity`.
//!
//! Nobody reads a stamp except at a boundary, the sequence at which a batch starts. There, a stamp
//! that was left by an earlier lap is at most `lo`, because a batch is never longer than the ring:
//! it started at `lo - capacity` or before. So slots need no clearing, zeroes are an empty ring, laps
//! can be told apart, and stamps only ever grow.
//!
//! # Notes about memory ordering
//!
//! `publish`, `skip` and `abandon` store with Release, [`Stamp::read`] loads with Acquire: a reader that sees
//! the stamp sees every event of the batch as its producer left it. Nothing else is promised.

use crate::sequence::Sequence;
use crate::sync::{AtomicU64, Ordering};

/// Marks a published batch that carries no event.
const SKIP: u64 = 1 << 63;

/// The word beside the first event of a batch, which publishes all of it at once.
#[repr(transparent)]
pub(crate) struct Stamp(AtomicU64);

/// What a stamp says about the batch that starts at some boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Not yet published, perhaps not even claimed.
    Unpublished,
    /// Published, with events up to this boundary.
    Events(Sequence),
    /// Published without events up to this boundary: its claim was dropped.
    Skip(Sequence),
    /// Of a later lap. A reader that gates the slot never sees this.
    Overtaken,
}

impl Stamp {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Publishes the batch that starts here and ends at `hi`.
    #[inline]
    pub(crate) fn publish(&self, hi: Sequence) {
        // ORDER(publish): the events of the batch were written before; with `read`.
        self.0.store(hi, Ordering::Release);
    }

    /// Publishes that the sequences from here to `hi` carry no event.
    pub(crate) fn skip(&self, hi: Sequence) {
        // ORDER(publish): readers step over these slots and release them to be written again, so
        // that must come after whatever the dropped claim wrote; with `read`.
        self.0.store(hi | SKIP, Ordering::Release);
    }

    /// Gives up the sequence `lo`, at whose boundary nothing is published, on behalf of a dead producer.
    /// Returns false if something is published there after all, or somebody else was faster.
    pub(crate) fn abandon(&self, lo: Sequence) -> bool {
        // ORDER(publish): with `publish` and `skip`: whether the claim was published.
        let seen = self.0.load(Ordering::Acquire);
        // One-sided: a stamp of a later lap means that others have gone on.
        if seen & !SKIP > lo {
            return false;
        }
        // ORDER(publish): as in `skip`.
        // RELAXED: on failure nothing is made of the stamp found.
        let exchanged =
            (self.0).compare_exchange(seen, (lo + 1) | SKIP, Ordering::Release, Ordering::Relaxed);
        exchanged.is_ok()
    }

    /// Reads the stamp at boundary `lo`.
    #[inline]
    pub(crate) fn read(&self, lo: Sequence, capacity: u64) -> Reading {
        // ORDER(publish): with `publish` and `skip`.
        let stamp = self.0.load(Ordering::Acquire);
        let hi = stamp & !SKIP;
        if hi <= lo {
            Reading::Unpublished
        } else if hi > lo + capacity {
            Reading::Overtaken
        } else if stamp & SKIP == 0 {
            Reading::Events(hi)
        } else {
            Reading::Skip(hi)
        }
    }
}

//! Sequences, and the words of the header that claim, publish and bound them.

use crate::sync::{AtomicU64, Ordering, fence};

/// The number of an event, counted from 0 over the life of a ring.
///
/// The event of sequence `s` lies in slot `s & (capacity - 1)`. Sequences do not wrap: at a thousand
/// million events a second, 2⁶³ of them last for 292 years.
///
/// # Examples
/// ```
/// # use annulus_ring::{Ring, Sequence, Start};
/// # let ring = Ring::builder(8).build(u64::default)?;
/// # let mut feed = ring.producer()?;
/// let journal = ring.consumer("journal").join()?;
/// let first: Sequence = feed.publish_value(585)?;
/// feed.publish_value(586)?;
/// let mut audit = ring.consumer("audit").start(Start::At(first + 1)).join()?;
/// assert_eq!(audit.next_batch()?[0], 586);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Sequence = u64;

/// No ring gets so far: whoever finds a sequence above this, where others can write, has found that it is corrupt,
/// and may count on from any below without a look at where numbers end.
pub(crate) const LAST_SEQUENCE: Sequence = 1 << 62;

/// With many producers the end of what has been claimed, contended by them; with one, how far it claims
/// without another look at the gate.
///
/// Its top bit stops them: no claim succeeds any more, because the ring is closed, is to be closed, or is
/// poisoned. So that is found at no cost by who claims.
pub(crate) struct Claimed(AtomicU64);

/// What is claimed, at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimedEnd(u64);

impl ClaimedEnd {
    const STOPPED: u64 = 1 << 63;

    #[inline]
    pub(crate) fn sequence(self) -> Sequence {
        self.0 & !Self::STOPPED
    }

    #[inline]
    pub(crate) fn is_stopped(self) -> bool {
        self.0 & Self::STOPPED != 0
    }

    /// Whether `n` sequences lie between `lo`, which is not above the end, and this end, and claims are
    /// not stopped.
    #[inline]
    pub(crate) fn leaves_room(self, lo: Sequence, n: usize) -> bool {
        let room = self.0.wrapping_sub(lo) as i64; // Negative if the top bit is set.
        let n = n as i64; // Negative if it is absurd.
        n >= 0 && room >= n
    }
}

impl Claimed {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn observe(&self) -> ClaimedEnd {
        // ORDER(claim): with `advance` and `stop`; whoever sees a claim also sees the intent that was
        // stored before it, and whoever is stopped also sees why.
        ClaimedEnd(self.0.load(Ordering::Acquire))
    }

    /// Stands between a claim and the first write of what it covers.
    #[inline]
    pub(crate) fn before_writing() {
        // ORDER(observe): who sees what is written after this sees the claim.
        fence(Ordering::Release);
    }

    /// Whether more is claimed than up to `end`, for who has put a fence before it.
    #[inline]
    pub(crate) fn is_beyond(&self, end: Sequence) -> bool {
        // RELAXED: the fence orders it.
        ClaimedEnd(self.0.load(Ordering::Relaxed)).sequence() > end
    }

    /// Makes every claim fail from now on.
    pub(crate) fn stop(&self) {
        // ORDER(claim): takes over every claim made before, and hands it to whoever is stopped.
        self.0.fetch_or(ClaimedEnd::STOPPED, Ordering::AcqRel);
    }

    /// As [`Claimed::stop`], for memory that is all zeroes of a sudden: a producer that goes by where it was, and
    /// finds the end below that, would take the top bit for room.
    pub(crate) fn disown(&self) {
        // ORDER(claim): as in `stop`; there is nothing before it.
        self.0.fetch_or(u64::MAX, Ordering::AcqRel);
    }

    /// Moves the end from `lo` to `hi`, which claims `[lo, hi)`, or lets one producer do so, if it is still
    /// at `lo` and claims are not stopped; else returns where it is.
    #[inline]
    pub(crate) fn advance(&self, lo: Sequence, hi: Sequence) -> Result<(), ClaimedEnd> {
        // ORDER(claim): Release hands the intent, stored before, to whoever sees this claim.
        // ORDER(claim): on failure Acquire, as in `observe`: the value found is used as one observed.
        match self
            .0
            .compare_exchange(lo, hi, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            Err(now) => Err(ClaimedEnd(now)),
        }
    }
}

/// The end of what is published; used with one producer, its only writer.
pub(crate) struct Published(AtomicU64);

impl Published {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn publish(&self, hi: Sequence) {
        // ORDER(front): everything below `hi` has been written: who observes `hi` may read it.
        self.0.store(hi, Ordering::Release);
    }

    #[inline]
    pub(crate) fn observe(&self) -> Sequence {
        // ORDER(front): with `publish`.
        self.0.load(Ordering::Acquire)
    }
}

/// A boundary below which everything is published; used with many producers, and raised only when
/// no consumer gates, or when one leaves.
pub(crate) struct Floor(AtomicU64);

impl Floor {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn observe(&self) -> Sequence {
        // ORDER(floor): with `raise`; who takes the floor for its gate overwrites what lies below,
        // so it must come after those who wrote and read that.
        self.0.load(Ordering::Acquire)
    }

    /// Raises the floor to `boundary` and returns where it is now, which may be higher.
    ///
    /// `fetch_max` spelled out: it compiles to the same, but ThreadSanitizer does not see it.
    pub(crate) fn raise(&self, boundary: Sequence) -> Sequence {
        let mut floor = self.observe();
        while floor < boundary {
            // ORDER(floor): Release passes on what the caller has seen published (or has read);
            // Acquire takes over the same from whoever raised it before.
            // ORDER(floor): on failure Acquire, as in `observe`: the floor found may be returned.
            match (self.0).compare_exchange(floor, boundary, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return boundary,
                Err(now) => floor = now,
            }
        }
        floor
    }
}

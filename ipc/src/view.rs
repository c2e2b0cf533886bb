//! Looking at a ring without being able to write to it.

use std::collections::BTreeMap;
use std::fmt;

use annulus_ring::{ObserveError, Observer, Snapshot};

use crate::directory::Directory;
use crate::plain::Plain;
use crate::refusal::SegmentError;
use crate::segment::Segment;

/// A ring that this process has opened and mapped for reading only: it can be observed, and nothing that
/// happens here can do any harm to those who use it.
///
/// It takes the right to read its file, and no row of its member table.
///
/// # Examples
/// ```
/// use annulus_ipc::{Directory, Segment, View};
/// use annulus_ring::Ring;
/// # let name = &format!("doc-view-{}", std::process::id());
///
/// let ring = Segment::<u64>::create(name, Ring::builder(8).observable())?;
/// let mut feed = ring.producer()?;
///
/// // Another process.
/// let view = View::<u64>::open(name)?;
/// let mut tap = view.observer()?;
///
/// feed.publish_value(5_853_300)?;
/// assert_eq!(tap.next()?, (0, 5_853_300));
/// assert_eq!(view.snapshot().published, 1);
/// # Directory::default().unlink(name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct View<T> {
    /// Nothing of it is given away by which something could be written: that would end the process.
    segment: Segment<T>,
}

impl<T: Plain> View<T> {
    pub(crate) fn new(segment: Segment<T>) -> Self {
        Self { segment }
    }

    /// Opens the ring of this name in the default [`Directory`]; in another, by [`Directory::view`].
    ///
    /// # Errors
    /// See [`Cause`](crate::Cause).
    ///
    /// # Examples
    /// See [`View`].
    pub fn open(name: &str) -> Result<Self, SegmentError> {
        Directory::default().view(name)
    }

    /// An observer: it copies events, starting with those of about now.
    ///
    /// # Errors
    /// If the ring has one producer and was not built to be
    /// [observable](annulus_ring::RingBuilder::observable).
    ///
    /// # Examples
    /// See [`View`].
    pub fn observer(&self) -> Result<Observer<T>, ObserveError> {
        self.segment.observer()
    }

    /// Where the ring and its members are, now.
    ///
    /// # Examples
    /// See [`View`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.segment.snapshot()
    }

    /// Whether the ring is closed: what has been published is all there will be.
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment, View};
    /// # let name = &format!("doc-view-closed-{}", std::process::id());
    /// let ring = Segment::<u64>::create(name, 8)?;
    /// let view = View::<u64>::open(name)?;
    /// assert!(!view.is_closed());
    /// ring.close();
    /// assert!(view.is_closed());
    /// # Directory::default().unlink(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.segment.is_closed()
    }

    /// Whether its name does not lead to it any more: as [`Ring::is_unlinked`](annulus_ring::Ring::is_unlinked).
    ///
    /// # Examples
    /// ```
    /// # use annulus_ipc::{Directory, Segment, View};
    /// # let name = &format!("doc-view-unlinked-{}", std::process::id());
    /// # let ring = Segment::<u64>::create(name, 8)?;
    /// let view = View::<u64>::open(name)?;
    /// assert!(!view.is_unlinked());
    /// Directory::default().unlink(name)?;
    /// assert!(view.is_unlinked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_unlinked(&self) -> bool {
        self.segment.is_unlinked()
    }

    /// What the ring's creator has said about it.
    ///
    /// # Examples
    /// See [`SegmentBuilder::attribute`](crate::SegmentBuilder::attribute).
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        self.segment.attributes()
    }
}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.segment).finish()
    }
}

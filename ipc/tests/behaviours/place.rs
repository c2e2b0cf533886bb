//! A directory for the rings of one test.

use std::fs;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use annulus_ipc::{Directory, Plain, Segment};
use annulus_ring::RingBuilder;

/// A directory of its own in `/dev/shm`, which is removed with this value, also when the test fails.
pub(crate) struct Place(Directory);

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, n) = (process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Directory::at(format!(
            "/dev/shm/annulus-test-{process}-{n}"
        )))
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.0
    }

    /// Its path, as text for other processes.
    pub(crate) fn path(&self) -> &str {
        self.0.as_path().to_str().expect("it is ASCII")
    }

    pub(crate) fn create<T: Plain>(&self, name: &str, ring: impl Into<RingBuilder>) -> Segment<T> {
        let builder = Segment::builder(ring).directory(self.0.clone());
        builder.create(name).expect("a ring can be created")
    }

    pub(crate) fn open<T: Plain>(&self, name: &str) -> Segment<T> {
        self.0.open(name).expect("the ring can be opened")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.as_path()); // It may never have been made.
    }
}

//! Which consumers a thread moves alone: a claim on that thread which waits for one of them waits for ever.

use crate::member::Rows;
use crate::region::Memory;
use crate::sync::{SharedByAll, WeakByAll, with_bound_here};

/// A consumer that one thread moves. It is kept by the consumer; the thread knows of it as long as that does.
pub(crate) struct Bound {
    /// Where the region is: while the consumer is there, no other one is there.
    region: usize,
    row: usize,
}

impl Bound {
    /// Binds the consumer in this row to the calling thread; nothing where threads keep nothing (any more).
    pub(crate) fn to_this_thread<T>(memory: &Memory<T>, row: usize) -> Option<SharedByAll<Self>> {
        let region = region_of(memory);
        let bound = SharedByAll::new(Self { region, row });
        with_bound_here(|all| {
            all.retain(|other| other.strong_count() > 0);
            all.push(SharedByAll::downgrade(&bound));
        })?;
        Some(bound)
    }
}

/// The rows of the consumers of this ring that are bound to the calling thread.
pub(crate) fn rows_bound_here<T>(memory: &Memory<T>) -> Rows {
    let region = region_of(memory);
    let rows = with_bound_here(|all| {
        let mut rows = Rows::default();
        let here = all.iter().filter_map(WeakByAll::upgrade);
        here.filter(|bound| bound.region == region)
            .for_each(|bound| rows.insert(bound.row));
        rows
    });
    rows.unwrap_or_default()
}

fn region_of<T>(memory: &Memory<T>) -> usize {
    std::ptr::from_ref(memory.region()).addr()
}

//! Layouts: the same events, and slices of them where nothing lies in between.

use annulus_ring::{Layout, Ring};

use crate::{KINDS, LAYOUTS, consumer, feed, ring_in};

#[test]
fn a_batch_apart_is_two_slices_around_the_end_of_the_lap() {
    for kind in KINDS {
        let ring = ring_in(Layout::Apart, 8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for lap in 0..20_u64 {
            let base = lap * 5;
            feed.publish_batch(5, |slots| slots.zip(base..).for_each(|(slot, n)| *slot = n))
                .unwrap();
            let batch = reader.try_next_batch().unwrap();
            let (first, second) = batch.as_slices().unwrap();
            assert_eq!(
                [first, second].concat(),
                (base..base + 5).collect::<Vec<_>>()
            );
            assert_eq!(first.len() as u64, 5.min(8 - base % 8));
        }
    }
}

#[test]
fn a_claim_apart_is_written_as_two_slices() {
    for kind in KINDS {
        let ring = ring_in(Layout::Apart, 4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for lap in 0..10 {
            let mut claim = feed.claim(3).unwrap();
            let (first, second) = claim.as_mut_slices().unwrap();
            assert_eq!(first.len() + second.len(), 3);
            first.fill(lap);
            second.fill(lap + 100);
            let split = first.len();
            claim.publish();
            let batch = reader.try_next_batch().unwrap();
            for (index, event) in batch.iter().enumerate() {
                assert_eq!(*event, if index < split { lap } else { lap + 100 });
            }
        }
    }
}

#[test]
fn slices_follow_an_early_release() {
    let ring = ring_in(Layout::Apart, 4, KINDS[0]);
    let mut reader = consumer(&ring, "reader");
    feed(&ring)
        .publish_batch(4, |slots| slots.zip(0..).for_each(|(slot, n)| *slot = n))
        .unwrap();
    let mut batch = reader.try_next_batch().unwrap();
    batch.release(1);
    assert_eq!(batch.as_slices().unwrap().0, [1, 2, 3]);
    batch.release(3);
    assert!(batch.as_slices().unwrap().0.is_empty());
}

#[test]
fn a_batch_beside_its_stamps_has_no_slices() {
    for kind in KINDS {
        let ring = ring_in(Layout::Beside, 4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        let mut claim = feed.claim(2).unwrap();
        assert!(claim.as_mut_slices().is_none());
        claim.publish();
        assert!(reader.try_next_batch().unwrap().as_slices().is_none());
    }
}

/// Sizes and alignments around a cache line, of which none may lie across another.
#[test]
fn every_size_of_event_is_kept_in_every_layout() {
    #[derive(Clone, Copy)]
    #[repr(align(128))]
    struct Aligned(u64);

    fn check<T: Copy + Send + Sync>(make: impl Fn(u64) -> T, read: impl Fn(&T) -> u64) {
        for layout in LAYOUTS {
            let ring = Ring::builder(8).layout(layout).build(|| make(0)).unwrap();
            let mut reader = ring.consumer("reader").join().unwrap();
            let mut feed = ring.producer().unwrap();
            for lap in 0..3 {
                let base = lap * 8;
                feed.publish_batch(8, |slots| slots.zip(base..).for_each(|(s, n)| *s = make(n)))
                    .unwrap();
                let batch = reader.try_next_batch().unwrap();
                let all: Vec<u64> = batch.iter().map(&read).collect();
                assert_eq!(all, (base..base + 8).collect::<Vec<_>>(), "{layout:?}");
                for event in &batch {
                    let address = std::ptr::from_ref(event).addr();
                    assert_eq!(address % align_of::<T>(), 0, "{layout:?}");
                }
            }
        }
    }
    check(|n| n as u8, |event| u64::from(*event));
    check(|n| [n; 3], |event| event[2]);
    check(|n| [n; 7], |event| event[6]);
    check(|n| [n; 8], |event| event[7]);
    check(|n| [n; 33], |event| event[32]);
    check(Aligned, |event| event.0);
}

/// Events without a size take no memory, and are counted all the same.
#[test]
fn events_without_a_size_are_counted() {
    for layout in LAYOUTS {
        let ring = Ring::builder(4).layout(layout).build(|| ()).unwrap();
        let mut reader = ring.consumer("reader").join().unwrap();
        ring.producer().unwrap().publish_batch(3, |_| ()).unwrap();
        assert_eq!(reader.try_next_batch().unwrap().iter().count(), 3);
    }
}

//! Building: what a ring can be like, and what is refused.

use annulus_ring::{BuildError, Producers, Ring, RingBuilder};

use crate::{KINDS, LAYOUTS, consumer, feed};

#[test]
fn b1_a_capacity_that_is_no_power_of_two_is_an_error() {
    for capacity in [0, 3, 5, 6, 7, 12, 1000, 1023, 1025, usize::MAX] {
        for kind in KINDS {
            let built = Ring::builder(capacity).producers(kind).build(|| 0_u8);
            assert_eq!(built.unwrap_err(), BuildError::Capacity { capacity });
        }
    }
}

#[test]
fn b1_every_power_of_two_is_a_capacity() {
    for capacity in (0..=if cfg!(miri) { 6 } else { 16 }).map(|bits| 1 << bits) {
        let ring = Ring::builder(capacity).build(|| 0_u8).unwrap();
        assert_eq!(ring.capacity(), capacity);
        assert_eq!(feed(&ring).capacity(), capacity);
        assert_eq!(ring.snapshot().capacity, capacity);
    }
}

#[test]
#[cfg_attr(
    miri,
    ignore = "Miri ends a program that asks for more memory than there is"
)]
fn a_ring_too_large_for_any_memory_is_an_error_and_makes_no_event() {
    let largest = 1 << (usize::BITS - 1);
    for capacity in [largest, largest >> 1, largest >> 4, largest >> 5] {
        let built = Ring::builder(capacity).build(|| -> u64 { unreachable!() });
        let event_size = 8;
        let too_large = BuildError::TooLarge {
            capacity,
            event_size,
        };
        assert_eq!(built.unwrap_err(), too_large);
    }
}

#[test]
fn a_ring_of_too_many_events_without_a_size_is_an_error_and_makes_no_event() {
    for layout in LAYOUTS {
        let capacity = 1 << (usize::BITS - 1);
        let built = Ring::builder(capacity)
            .layout(layout)
            .build(|| -> () { unreachable!() });
        let event_size = 0;
        let too_large = BuildError::TooLarge {
            capacity,
            event_size,
        };
        assert_eq!(built.unwrap_err(), too_large);
    }
}

#[test]
fn the_factory_makes_one_event_for_every_slot() {
    for capacity in [1, 2, 256] {
        let mut made = 0;
        let ring = Ring::builder(capacity).build(|| made += 1).unwrap();
        drop(ring);
        assert_eq!(made, capacity);
    }
}

#[test]
#[cfg_attr(miri, ignore = "64 members take Miri minutes")]
fn the_member_table_has_1_to_64_rows() {
    for members in [0, 65, usize::MAX] {
        let built = Ring::builder(1).members(members).build(|| ());
        assert_eq!(built.unwrap_err(), BuildError::Members { members });
    }
    for members in [1, 2, RingBuilder::DEFAULT_MEMBERS, 63, 64] {
        let ring = Ring::builder(1).members(members).build(|| ()).unwrap();
        let consumers: Vec<_> = (1..members)
            .map(|index| consumer(&ring, &format!("c{index}")))
            .collect();
        let mut feed = feed(&ring);
        feed.publish(|()| ()).unwrap();
        for mut consumer in consumers {
            assert_eq!(consumer.try_next_batch().unwrap().len(), 1);
        }
    }
}

#[test]
fn the_table_has_room_for_the_consumers_required_and_a_producer() {
    let build = |required, members| {
        let builder = Ring::builder(1).producers(Producers::Many);
        let ring = builder.require_consumers(required).members(members);
        ring.build(|| ()).map(drop)
    };
    assert_eq!(build(0, 1), Ok(()));
    assert_eq!(build(3, 4), Ok(()));
    for (required, members) in [(1, 1), (4, 4), (usize::MAX, 64)] {
        let refused = BuildError::RequiredConsumers { required, members };
        assert_eq!(build(required, members), Err(refused));
    }
}

/// Runs this on a thread with so much stack.
pub(crate) fn with_stack<R: Send + 'static>(
    bytes: usize,
    run: impl FnOnce() -> R + Send + 'static,
) -> R {
    let thread = std::thread::Builder::new().stack_size(bytes).spawn(run);
    thread.unwrap().join().unwrap()
}

/// The size of an event for which few stacks have room.
pub(crate) const LARGE: usize = 4 << 20;

#[test]
fn d24_an_event_that_the_factory_returns_is_moved_once() {
    // There is room for one that is returned, and not for another.
    with_stack(LARGE + LARGE / 2, || {
        for layout in LAYOUTS {
            let ring = Ring::builder(2).layout(layout).build(|| [7_u8; LARGE]);
            let ring = ring.unwrap();
            let mut book = ring.consumer("book").join().unwrap();
            let mut feed = ring.producer().unwrap();
            feed.publish(|event| event[LARGE - 1] = 8).unwrap();
            let batch = book.try_next_batch().unwrap();
            assert_eq!([batch[0][0], batch[0][LARGE - 1]], [7, 8]);
        }
    });
}

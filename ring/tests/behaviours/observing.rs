//! Observing: copies that nobody waits for, each of one event as it was, and an exact count of the rest.

use std::array;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::Producers::{Many, One};
use annulus_ring::{
    Ended, Layout, NotReady, Observable, ObserveError, Observer, Producer, Producers, Ring,
    Sequence, Wait,
};

use crate::building::{LARGE, with_stack};
use crate::common::Feed;
use crate::{
    CAPACITIES, KINDS, LAYOUTS, consumer, feed, in_a_minute, publish, publish_batch, read, rounds,
    until,
};

/// As [`crate::rings`], and those of one producer can be observed.
fn rings() -> impl Iterator<Item = (Producers, usize, Ring<u64>)> {
    LAYOUTS.into_iter().flat_map(|layout| {
        KINDS.into_iter().flat_map(move |kind| {
            CAPACITIES.iter().map(move |&capacity| {
                println!("{layout:?}, {kind:?}, capacity {capacity}"); // Shown if the test fails.
                (kind, capacity, ring_of(layout, capacity, kind, || u64::MAX))
            })
        })
    })
}

/// The same with 8 slots.
fn rings_of_8() -> impl Iterator<Item = (Producers, Ring<u64>)> {
    LAYOUTS.into_iter().flat_map(|layout| {
        KINDS.into_iter().map(move |kind| {
            println!("{layout:?}, {kind:?}");
            (kind, ring_of(layout, 8, kind, || u64::MAX))
        })
    })
}

fn ring_of<T: Send + Sync>(
    layout: Layout,
    capacity: usize,
    kind: Producers,
    factory: impl FnMut() -> T,
) -> Ring<T> {
    (Ring::builder(capacity).producers(kind).layout(layout))
        .observable()
        .build(factory)
        .unwrap()
}

/// Looks until there is nothing more. Returns the sequences that it saw, each of which is its event.
fn see(tap: &mut Observer<u64>) -> (Vec<Sequence>, NotReady) {
    let mut seen = Vec::new();
    loop {
        match tap.try_next() {
            Ok((sequence, event)) => {
                assert_eq!(event, sequence);
                assert_eq!(tap.position(), sequence + 1);
                seen.push(sequence);
            }
            Err(why) => return (seen, why),
        }
    }
}

fn missed_and_skipped<T: Observable>(tap: &Observer<T>) -> (u64, u64) {
    (tap.missed(), tap.skipped())
}

#[test]
fn a_ring_of_one_producer_is_observed_only_if_it_is_built_for_it() {
    for layout in LAYOUTS {
        let builder = Ring::builder(4).layout(layout);
        let plain = builder.clone().build(u64::default).unwrap();
        assert_eq!(plain.observer().unwrap_err(), ObserveError::NotObservable);
        let observable = builder.clone().observable().build(u64::default).unwrap();
        assert!(observable.observer().is_ok());
        let many = builder.producers(Many).build(u64::default).unwrap();
        assert!(many.observer().is_ok());
    }
}

#[test]
fn an_observer_cannot_park() {
    let builder = Ring::builder(4).observable().parking();
    let ring = builder.build(u64::default).unwrap();
    let park = ring.observer().unwrap().with_wait(Wait::Park);
    assert_eq!(park.unwrap_err(), ObserveError::Parking);
    for wait in [Wait::Spin, Wait::Yield, Wait::Backoff] {
        assert!(ring.observer().unwrap().with_wait(wait).is_ok());
    }
}

#[test]
fn errors_of_observers_tell_what_to_do() {
    let messages = [
        (
            ObserveError::NotObservable,
            ["one producer", ".observable()"],
        ),
        (ObserveError::Parking, ["park", "choose another"]),
    ];
    for (error, words) in messages {
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
    }
}

#[test]
fn an_observer_shows_where_it_is_and_no_event() {
    let tap = crate::ring(4, Many).observer().unwrap();
    assert_eq!(format!("{tap:?}"), "Observer { next: 0, missed: 0, .. }");
}

#[test]
fn an_observer_that_keeps_up_sees_every_event() {
    for (_, capacity, ring) in rings() {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        let mut from = 0;
        for n in (1..=capacity).chain([capacity; 3]) {
            publish_batch(&mut feed, n);
            let to = from + n as u64;
            assert_eq!(see(&mut tap), ((from..to).collect(), NotReady::Idle));
            from = to;
        }
        assert_eq!(missed_and_skipped(&tap), (0, 0));
    }
}

#[test]
fn an_observer_starts_at_about_now() {
    for (kind, ring) in rings_of_8() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 3);
        read(&mut reader);
        publish_batch(&mut feed, 2);
        let mut tap = ring.observer().unwrap();
        // With many producers it goes by what consumers have read.
        let start = if kind == One { 5 } else { 3 };
        assert_eq!(tap.position(), start);
        publish(&mut feed, 1);
        assert_eq!(see(&mut tap).0, (start..6).collect::<Vec<_>>());
        assert_eq!(missed_and_skipped(&tap), (0, 0));
    }
}

#[test]
fn an_observer_that_is_lapped_goes_on_with_what_is_left() {
    for layout in LAYOUTS {
        let ring = ring_of(layout, 16, One, || u64::MAX);
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 40);
        // Half a lap behind.
        assert_eq!(see(&mut tap).0, (32..40).collect::<Vec<_>>());
        assert_eq!(missed_and_skipped(&tap), (32, 0));
        // Batches, of which it finds the boundaries again.
        (0..7).for_each(|_| publish_batch(&mut feed, 5));
        assert_eq!(see(&mut tap).0, (67..75).collect::<Vec<_>>());
        assert_eq!(tap.missed(), 32 + 27);
    }
}

/// Batches, dropped claims and looks in many orders.
#[test]
fn d8_an_observer_counts_exactly_what_it_missed() {
    for (kind, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity.min(3));
        read(&mut reader);
        drop(reader);
        let mut tap = ring.observer().unwrap();
        let start = tap.position();
        let mut seen = 0;
        let mut last = None;
        let mut dice = 0_u64;
        for _ in 0..rounds(500, 20) {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = 1 + (dice >> 40) as usize % capacity;
            match dice >> 61 {
                0 => drop(feed.try_claim(n).unwrap()),
                1 | 2 => publish(&mut feed, n),
                3 | 4 => publish_batch(&mut feed, n),
                _ => {
                    for _ in 0..n {
                        let Ok((sequence, event)) = tap.try_next() else {
                            break;
                        };
                        assert_eq!(event, sequence);
                        assert!(last < Some(sequence), "{sequence} after {last:?}");
                        last = Some(sequence);
                        seen += 1;
                    }
                }
            }
            let counted = tap.missed() + tap.skipped() + seen;
            assert_eq!(counted, tap.position() - start);
        }
        seen += see(&mut tap).0.len() as u64;
        assert_eq!(tap.position(), ring.snapshot().published);
        let counted = tap.missed() + tap.skipped() + seen;
        assert_eq!(counted, tap.position() - start);
        assert!(seen > 0 && tap.missed() > 0);
        assert!(kind == Many || tap.skipped() == 0);
    }
}

#[test]
fn d8_observers_hold_nobody_up_and_are_no_members() {
    for (_, capacity, ring) in rings() {
        let tap = ring.observer().unwrap();
        assert!(ring.snapshot().members.is_empty());
        let mut feed = feed(&ring);
        for _ in 0..10 * capacity {
            publish(&mut feed, 1);
            assert_eq!(feed.free(), Ok(capacity));
        }
        assert_eq!((tap.position(), tap.missed()), (0, 0)); // It has not looked.
    }
}

#[test]
fn an_observer_beside_consumers_waits_for_none_and_none_for_it() {
    for (_, ring) in rings_of_8() {
        let mut tap = ring.observer().unwrap();
        let mut reader = consumer(&ring, "reader");
        let mut late = ring.observer().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 5);
        publish(&mut feed, 3);
        assert_eq!(see(&mut tap).0, (0..8).collect::<Vec<_>>());
        assert_eq!(feed.free(), Ok(0)); // That is the consumer.
        assert_eq!(read(&mut reader), (0..8).collect::<Vec<_>>());
        publish(&mut feed, 8);
        assert_eq!(see(&mut tap).0, (8..16).collect::<Vec<_>>());
        assert_eq!(missed_and_skipped(&tap), (0, 0));
        let seen = see(&mut late).0;
        assert_eq!(late.missed() + seen.len() as u64, 16);
        assert_eq!(late.position(), 16);
    }
}

#[test]
fn an_observer_steps_over_dropped_claims_and_counts_them() {
    for (kind, ring) in rings_of_8() {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        drop(feed.claim(3).unwrap());
        crate::gives_up(|| _ = feed.publish(|_| crate::give_up()));
        publish(&mut feed, 1);
        // One producer has given them back.
        let (second, skipped) = if kind == One { (1, 0) } else { (5, 4) };
        assert_eq!(see(&mut tap).0, [0, second]);
        assert_eq!(missed_and_skipped(&tap), (0, skipped));
        drop(feed.claim(2).unwrap());
        assert_eq!(see(&mut tap), (vec![], NotReady::Idle));
        let skipped = if kind == One { 0 } else { 6 };
        assert_eq!(tap.skipped(), skipped);
    }
}

/// What is claimed may be written at any time, and is not waited for.
#[test]
fn an_observer_gives_up_what_a_claim_covers() {
    for (_, capacity, ring) in rings() {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, capacity);
        let end = 2 * capacity as u64;
        let mut claim = feed.claim(capacity).unwrap();
        assert_eq!(see(&mut tap), (vec![], NotReady::Idle));
        assert_eq!((tap.position(), tap.missed()), (end / 2, end / 2));
        let sequences = claim.sequences();
        let slots = claim.iter_mut().zip(sequences);
        slots.for_each(|(slot, sequence)| *slot = sequence);
        claim.publish();
        assert_eq!(see(&mut tap).0, (end / 2..end).collect::<Vec<_>>());
        assert_eq!(tap.missed(), end / 2);
    }
}

/// It looks at every event after the stage has changed it, and does not wait for what others do.
#[test]
fn an_observer_stays_behind_a_stage_that_changes_events() {
    for (_, ring) in rings_of_8() {
        let mut tap = ring.observer().unwrap();
        let mut stage = ring.consumer("stage").join_mut().unwrap();
        let _last = ring.consumer("last").after(["stage"]).join().unwrap();
        let mut feed = feed(&ring);
        assert_eq!(tap.try_next(), Err(NotReady::Idle));
        publish_batch(&mut feed, 3);
        publish(&mut feed, 2);
        assert_eq!(tap.try_next(), Err(NotReady::Gated));
        let mut batch = stage.try_next_batch_mut().unwrap();
        batch.iter_mut().for_each(|event| *event += 100);
        assert_eq!(tap.try_next(), Err(NotReady::Gated));
        batch.release(2);
        assert_eq!(tap.try_next(), Ok((0, 100)));
        assert_eq!(tap.try_next(), Ok((1, 101)));
        assert_eq!(tap.try_next(), Err(NotReady::Gated));
        drop(batch);
        while let Ok(mut batch) = stage.try_next_batch_mut() {
            batch.iter_mut().for_each(|event| *event += 100);
        }
        for sequence in 2..5 {
            assert!(matches!(tap.try_next(), Ok((s, _)) if s == sequence));
        }
        assert_eq!(tap.try_next(), Err(NotReady::Idle));
        assert_eq!(missed_and_skipped(&tap), (0, 0));
    }
}

#[test]
fn an_observer_waits_for_a_stage_that_comes_later_until_it_leaves() {
    for (_, ring) in rings_of_8() {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        assert_eq!(see(&mut tap).0, [0, 1]);
        let mut stage = ring.consumer("stage").join_mut().unwrap();
        publish(&mut feed, 2);
        assert_eq!(tap.try_next(), Err(NotReady::Gated));
        let mut batch = stage.try_next_batch_mut().unwrap();
        batch[0] = 200;
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(tap.next_deadline(soon), Err(NotReady::Gated));
        batch.release(1);
        assert_eq!(tap.try_next(), Ok((2, 200)));
        batch.give_back();
        drop(stage);
        assert_eq!(tap.try_next(), Ok((3, 3)));
        publish(&mut feed, 1);
        assert_eq!(tap.try_next(), Ok((4, 4)));
        assert_eq!(missed_and_skipped(&tap), (0, 0));
    }
}

#[test]
fn an_observer_hears_of_the_close_after_the_last_event() {
    for (_, ring) in rings_of_8() {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 3);
        drop(feed.claim(1).unwrap());
        drop(feed);
        let mut late = ring.observer().unwrap();
        assert_eq!(see(&mut tap), (vec![0, 1, 2], NotReady::Closed));
        assert_eq!(tap.next(), Err(Ended::Closed));
        assert_eq!(tap.next_deadline(in_a_minute()), Err(NotReady::Closed));
        assert_eq!(see(&mut late).1, NotReady::Closed);
    }
}

/// A claim that was made before the close can be published after it.
#[test]
fn an_observer_waits_for_the_last_claim_after_the_close() {
    for (_, ring) in rings_of_8().filter(|(kind, _)| *kind == Many) {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        let mut claim = feed.claim(1).unwrap();
        ring.close();
        assert_eq!(tap.try_next(), Err(NotReady::Idle));
        claim[0] = 0;
        claim.publish();
        assert_eq!(see(&mut tap), (vec![0], NotReady::Closed));
    }
}

#[test]
fn an_observer_that_was_lapped_hears_of_the_close() {
    for (_, capacity, ring) in rings() {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 3 * capacity + 1);
        drop(feed);
        let (seen, why) = see(&mut tap);
        assert_eq!(why, NotReady::Closed);
        let end = 3 * capacity as u64 + 1;
        assert_eq!(tap.missed() + seen.len() as u64, end);
        assert_eq!(tap.position(), end);
    }
}

#[test]
fn an_observer_hears_of_a_poison_at_once() {
    for (_, ring) in rings_of_8() {
        let mut tap = ring.observer().unwrap();
        publish(&mut feed(&ring), 1);
        ring.poison(7);
        let Err(Ended::Poisoned(poisoned)) = tap.next() else {
            panic!("not poisoned")
        };
        assert_eq!((poisoned.reason, poisoned.row), (7, None));
        assert_eq!(tap.try_next(), Err(NotReady::Poisoned(poisoned)));
        let later = tap.next_deadline(in_a_minute());
        assert_eq!(later, Err(NotReady::Poisoned(poisoned)));
    }
}

#[test]
fn a12_an_observer_does_not_give_up_before_its_deadline() {
    for (_, ring) in rings_of_8() {
        for wait in [Wait::Spin, Wait::Yield, Wait::Backoff] {
            let mut tap = ring.observer().unwrap().with_wait(wait).unwrap();
            let deadline = Instant::now() + Duration::from_millis(5);
            assert_eq!(tap.next_deadline(deadline), Err(NotReady::Idle));
            assert!(Instant::now() >= deadline);
        }
    }
}

#[test]
fn an_observer_that_waits_gets_what_is_published() {
    for wait in [Wait::Spin, Wait::Yield, Wait::Backoff, Wait::default()] {
        for (_, ring) in rings_of_8() {
            let mut tap = ring.observer().unwrap().with_wait(wait).unwrap();
            let mut other = ring.observer().unwrap();
            let mut feed = feed(&ring);
            let waiting = thread::spawn(move || (tap.next(), tap.next()));
            publish(&mut feed, 1);
            assert_eq!(other.next_deadline(in_a_minute()), Ok((0, 0)));
            drop(feed);
            let event_and_close = (Ok((0, 0)), Err(Ended::Closed));
            assert_eq!(waiting.join().unwrap(), event_and_close);
        }
    }
}

#[test]
fn an_observer_keeps_the_events_alive() {
    for (_, ring) in rings_of_8() {
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        drop(ring);
        publish(&mut feed, 3);
        drop(feed);
        assert_eq!(see(&mut tap).0, [0, 1, 2]);
    }
}

/// Sizes around words and cache lines, and alignments below that of a word.
#[test]
fn events_of_every_size_are_copied_whole() {
    fn check<T: Observable + PartialEq + Debug + Copy + Send + Sync>(make: impl Fn(u8) -> T) {
        for layout in LAYOUTS {
            for kind in KINDS {
                let ring = ring_of(layout, 8, kind, || make(0));
                let mut tap = ring.observer().unwrap();
                let mut feed = feed(&ring);
                for lap in 0..3_u8 {
                    let base = 1 + lap * 8;
                    feed.publish_batch(8, |slots| {
                        (base..).zip(slots).for_each(|(n, slot)| *slot = make(n));
                    })
                    .unwrap();
                    for n in base..base + 8 {
                        let event = tap.try_next().unwrap();
                        assert_eq!(event, (u64::from(n) - 1, make(n)), "{layout:?}, {kind:?}");
                    }
                }
            }
        }
    }
    check(|n| n);
    check(|n| [n, n + 1, n + 2]);
    check(|n| u16::from(n) << 7);
    check(u64::from);
    check(u128::from);
    check(|n| [n as u32, 1, 2]);
    check(|n| array::from_fn::<u8, 13, _>(|index| n ^ index as u8));
    check(|n| array::from_fn::<u8, 64, _>(|index| n ^ index as u8));
    check(|n| array::from_fn::<u64, 9, _>(|index| u64::from(n) << index));
    check(|n| array::from_fn::<u8, 129, _>(|index| n ^ index as u8));
    check(|_| ());
}

/// An event of several words, made of atomics so that ThreadSanitizer has nothing to say about a copy
/// that is thrown away.
type Words = [AtomicU64; 6];

fn words() -> Words {
    array::from_fn(|_| AtomicU64::new(u64::MAX))
}

/// Not by `get_mut`: that is an ordinary write.
fn write(event: &Words, value: u64) {
    for (index, word) in event.iter().enumerate() {
        word.store(value + index as u64, Ordering::Relaxed);
    }
}

/// What was written, if it was written by one call.
fn value(event: &Words) -> u64 {
    let value = event[0].load(Ordering::Relaxed);
    for (index, word) in event.iter().enumerate() {
        let word = word.load(Ordering::Relaxed);
        assert_eq!(word, value.wrapping_add(index as u64), "torn: {event:?}");
    }
    value
}

/// Publishes, drops and batches in turn until `enough`, each event with its sequence as its value.
fn keep_publishing(feed: &mut Producer<Words>, longest: usize, enough: &AtomicBool) {
    let deadline = in_a_minute();
    for (round, n) in (1..=longest).cycle().enumerate() {
        if enough.load(Ordering::Relaxed) {
            return;
        }
        assert!(Instant::now() < deadline, "observed for a minute");
        let mut claim = feed.claim(n).unwrap();
        let sequences = claim.sequences();
        for (event, sequence) in claim.iter_mut().zip(sequences) {
            write(event, sequence * 1000);
        }
        if round % 7 == 3 {
            drop(claim);
        } else {
            claim.publish();
        }
    }
}

const ENOUGH: u64 = rounds(2000, 20);

/// Producers at full speed in small rings: most of what is copied is being overwritten.
#[test]
fn d8_an_observer_never_returns_a_torn_event() {
    for (kind, feeds) in [(One, 1), (Many, 2)] {
        for layout in LAYOUTS {
            for &capacity in if cfg!(miri) { &[8][..] } else { &[2, 8, 64] } {
                println!("{layout:?}, {kind:?}, capacity {capacity}");
                let ring = ring_of(layout, capacity, kind, words);
                let taps = [ring.observer().unwrap(), ring.observer().unwrap()];
                let enough = AtomicBool::new(false);
                let feeds: Vec<Feed<Words>> = (0..feeds).map(|_| feed(&ring)).collect();
                thread::scope(|scope| {
                    for mut feed in feeds {
                        let longest = (capacity / 2).min(5);
                        let enough = &enough;
                        scope.spawn(move || keep_publishing(&mut feed, longest, enough));
                    }
                    let mut observing = Vec::new();
                    for tap in taps {
                        observing.push(scope.spawn(|| observe_to_the_end(tap, &enough)));
                    }
                    for observing in observing {
                        observing.join().unwrap();
                    }
                });
            }
        }
    }
}

/// Sees until `ENOUGH`, says so, and then until the ring is closed.
fn observe_to_the_end(mut tap: Observer<Words>, enough: &AtomicBool) {
    let start = tap.position();
    let mut seen = 0;
    let mut next = start;
    let why = loop {
        let (sequence, event) = match tap.next() {
            Ok(event) => event,
            Err(why) => break why,
        };
        assert_eq!(value(&event), sequence * 1000);
        assert!(next <= sequence, "{sequence} again, {next} is next");
        next = sequence + 1;
        seen += 1;
        if seen == ENOUGH {
            enough.store(true, Ordering::Relaxed);
        }
    };
    assert_eq!(why, Ended::Closed);
    let counted = tap.missed() + tap.skipped() + seen;
    assert_eq!(counted, tap.position() - start);
}

/// A stage that changes each event comes and goes: what is seen is changed or not, and never half.
#[test]
fn an_observer_never_returns_an_event_that_is_being_changed() {
    const CHANGED: u64 = 1 << 40;

    for kind in KINDS {
        for layout in LAYOUTS {
            println!("{layout:?}, {kind:?}");
            let ring = ring_of(layout, 8, kind, words);
            let mut tap = ring.observer().unwrap();
            let mut feed = feed(&ring);
            let enough = &AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(move || keep_publishing(&mut feed, 3, enough));
                let ring = &ring;
                scope.spawn(move || {
                    while !enough.load(Ordering::Relaxed) {
                        let Ok(mut stage) = ring.consumer("stage").join_mut() else {
                            break; // It is closed.
                        };
                        for _ in 0..50 {
                            let Ok(mut batch) = stage.next_batch_mut() else {
                                break;
                            };
                            for event in &mut batch {
                                let before = value(event);
                                write(event, before + CHANGED);
                            }
                        }
                    }
                });
                let mut changed = 0;
                let mut seen = 0;
                while let Ok((sequence, event)) = tap.next() {
                    let value = value(&event);
                    assert_eq!(value % CHANGED, sequence * 1000);
                    changed += u64::from(value >= CHANGED);
                    seen += 1;
                    if changed >= ENOUGH / 5 {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
                assert_eq!(tap.missed() + tap.skipped() + seen, tap.position());
            });
        }
    }
}

/// It finds its way again however often it is lapped, while nobody waits for it.
#[test]
fn an_observer_that_sleeps_now_and_then_misses_and_goes_on() {
    for kind in KINDS {
        let ring = ring_of(Layout::default(), 8, kind, words);
        let mut tap = ring.observer().unwrap();
        let mut feed = feed(&ring);
        let enough = &AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(move || keep_publishing(&mut feed, 3, enough));
            let mut seen = 0;
            for _ in 0..20 {
                let asleep = ring.snapshot().published;
                until("it is lapped", || {
                    ring.snapshot().published > asleep + 8 + tap.position() % 8
                });
                let (sequence, event) = tap.next().unwrap();
                assert_eq!(value(&event), sequence * 1000);
                seen += 1;
                assert!(tap.missed() > 0);
            }
            enough.store(true, Ordering::Relaxed);
            assert_eq!(tap.missed() + tap.skipped() + seen, tap.position());
        });
    }
}

#[test]
#[cfg_attr(
    miri,
    ignore = "events of megabytes, copied word by word, take Miri many minutes"
)]
fn d24_an_observer_copies_events_for_which_a_stack_has_no_room_to_where_it_is_told() {
    let ring = Ring::builder(2).observable();
    let ring = with_stack(2 * LARGE, || ring.build(|| [0_u8; LARGE]).unwrap());
    with_stack(LARGE / 4, move || {
        let mut tap = ring.observer().unwrap();
        let mut feed = ring.producer().unwrap();
        let copy = vec![0; LARGE].into_boxed_slice();
        let mut copy: Box<[u8; LARGE]> = copy.try_into().unwrap();
        assert_eq!(tap.try_next_into(&mut copy), Err(NotReady::Idle));
        for n in 0..3 {
            feed.publish(|event| event.fill(n)).unwrap();
            let sequence = match n {
                0 => tap.next_into(&mut copy).unwrap(),
                1 => tap.try_next_into(&mut copy).unwrap(),
                _ => tap.next_into_deadline(&mut copy, in_a_minute()).unwrap(),
            };
            assert_eq!(sequence, u64::from(n));
            assert!(copy.iter().all(|byte| *byte == n));
        }
        drop(feed);
        assert_eq!(tap.next_into(&mut copy), Err(Ended::Closed));
    });
}

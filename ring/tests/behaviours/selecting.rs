//! Selecting: waiting for any of several consumers, of one ring or of several.

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::Producers::Many;
use annulus_ring::{
    Ended, NoParking, NotReady, Ring, Wait, Waiting, try_any, wait_any, wait_any_deadline,
};

use crate::{
    KINDS, Random, WAITS, consumer, feed, in_a_minute, not_ready, once_it_waits, parking_ring,
    publish, read, ring, rings, rounds, stage, ways_to_wait,
};

#[test]
fn the_first_that_is_ready_is_told() {
    for kind in KINDS {
        let prices = ring(4, kind);
        let builder = Ring::builder(4).producers(kind);
        let names = builder.build(String::new).unwrap();
        let mut price = consumer(&prices, "reader");
        let mut name = consumer(&names, "reader");
        let (mut prices, mut names) = (feed(&prices), feed(&names));
        assert_eq!(try_any(&mut [&mut price, &mut name]), None);
        for _ in 0..10 {
            names.publish(|name| name.push('x')).unwrap();
            assert_eq!(try_any(&mut [&mut price, &mut name]), Some(1));
            publish(&mut prices, 1);
            for _ in 0..3 {
                // Being told changes nothing.
                assert_eq!(try_any(&mut [&mut price, &mut name]), Some(0));
                assert_eq!(try_any(&mut [&mut name, &mut price]), Some(0));
            }
            assert_eq!(wait_any(&mut [&mut price, &mut name], Wait::Spin), Ok(0));
            assert_eq!(read(&mut price).len(), 1);
            assert_eq!(wait_any(&mut [&mut price, &mut name], Wait::Yield), Ok(1));
            assert_eq!(name.try_next_batch().unwrap().len(), 1);
            assert_eq!(try_any(&mut [&mut price, &mut name]), None);
        }
    }
}

/// A ring that is closed is ready once it has been read, and for ever.
#[test]
fn what_has_ended_is_ready() {
    for (_, capacity, first) in rings() {
        let second = ring(4, Many);
        let mut a = consumer(&first, "reader");
        let mut b = consumer(&second, "reader");
        let mut feed = feed(&first);
        publish(&mut feed, capacity);
        drop(feed);
        assert_eq!(wait_any(&mut [&mut b, &mut a], Wait::Spin), Ok(1));
        assert_eq!(read(&mut a).len(), capacity);
        for _ in 0..3 {
            assert_eq!(wait_any(&mut [&mut b, &mut a], Wait::Spin), Ok(1));
            assert_eq!(a.next_batch().map(drop), Err(Ended::Closed));
        }
        second.poison(1);
        assert_eq!(wait_any(&mut [&mut b, &mut a], Wait::Spin), Ok(0));
        assert!(matches!(not_ready(&mut b), NotReady::Poisoned(_)));
    }
}

/// Neither what waits for another stage, nor a skipped claim, nor one behind a hole.
#[test]
fn what_cannot_be_read_is_not_ready() {
    let ring = ring(8, Many);
    let mut first = consumer(&ring, "first");
    let mut second = stage(&ring, "second", &["first"]);
    let [mut a, mut b] = [(); 2].map(|()| feed(&ring));
    let hole = a.claim(1).unwrap();
    publish(&mut b, 1);
    assert_eq!(try_any(&mut [&mut first, &mut second]), None);
    drop(hole);
    assert_eq!(try_any(&mut [&mut second, &mut first]), Some(1));
    assert_eq!(read(&mut first), [1]);
    assert_eq!(try_any(&mut [&mut first, &mut second]), Some(1));
    assert_eq!(read(&mut second), [1]);
    drop(b.claim(1).unwrap());
    assert_eq!(try_any(&mut [&mut first, &mut second]), None);
    assert_eq!((first.skipped(), second.skipped()), (2, 2));
}

#[test]
fn a_ring_built_without_parking_cannot_be_waited_for_by_parking() {
    for kind in KINDS {
        let (parks, does_not) = (parking_ring(4, kind), ring(4, kind));
        let mut a = consumer(&parks, "reader");
        let mut b = consumer(&does_not, "reader");
        publish(&mut feed(&parks), 1); // Ready or not.
        let refused = NoParking { consumer: 1 };
        let any: &mut [&mut dyn Waiting] = &mut [&mut a, &mut b];
        assert_eq!(wait_any(any, Wait::Park), Err(refused));
        let waited = wait_any_deadline(any, Wait::Park, in_a_minute());
        assert_eq!(waited, Err(refused));
        assert_eq!(wait_any(any, Wait::Yield), Ok(0));
        assert_eq!(wait_any(&mut [&mut a], Wait::Park), Ok(0));
    }
}

#[test]
fn there_has_to_be_somebody_to_wait_for() {
    assert_eq!(try_any(&mut []), None);
    for &wait in WAITS {
        let nobody = AssertUnwindSafe(|| wait_any(&mut [], wait));
        let said = catch_unwind(nobody).unwrap_err();
        let said = said.downcast_ref::<&str>().unwrap();
        assert_eq!(*said, "there is nobody to wait for");
    }
}

#[test]
fn a12_a_deadline_of_several_is_not_early() {
    for (kind, wait) in ways_to_wait() {
        let rings = [(); 2].map(|()| parking_ring(4, kind));
        let [mut a, mut b] = rings.each_ref().map(|ring| consumer(ring, "reader"));
        let deadline = Instant::now() + Duration::from_millis(3);
        let waited = wait_any_deadline(&mut [&mut a, &mut b], wait, deadline);
        assert_eq!(waited, Ok(None));
        assert!(Instant::now() >= deadline);
        publish(&mut feed(&rings[1]), 1);
        // What is there is found after the deadline, too.
        let waited = wait_any_deadline(&mut [&mut a, &mut b], wait, deadline);
        assert_eq!(waited, Ok(Some(1)));
    }
}

/// By an event of either, by a stage before one of them, by a close, by poison.
#[test]
fn a4_a14_a19_whatever_makes_one_of_several_ready_ends_the_wait() {
    for (kind, wait) in ways_to_wait() {
        for what in 0..5 {
            let [first, second] = [(); 2].map(|()| parking_ring(4, kind));
            let mut before = consumer(&first, "before");
            let mut a = stage(&first, "a", &["before"]);
            let mut b = consumer(&second, "b");
            let [mut to_first, mut to_second] = [&first, &second].map(feed);
            publish(&mut to_first, 2);
            read(&mut before);
            read(&mut a);
            publish(&mut to_first, 1);
            let waiting = once_it_waits(wait, move || {
                let later = in_a_minute();
                let ready = wait_any_deadline(&mut [&mut a, &mut b], wait, later);
                let why = match ready.unwrap().unwrap() {
                    0 => a.try_next_batch().map(|batch| batch[0]),
                    _ => b.try_next_batch().map(|batch| batch[0]),
                };
                (ready, why)
            });
            let (index, found) = match what {
                0 => {
                    publish(&mut to_second, 1);
                    (1, Ok(0))
                }
                1 => {
                    before.try_next_batch().unwrap().release(1);
                    (0, Ok(2))
                }
                2 => {
                    drop(before);
                    (0, Ok(2))
                }
                3 => {
                    drop(to_second);
                    (1, Err(NotReady::Closed))
                }
                _ => {
                    first.poison(7);
                    let poisoned = first.snapshot().poisoned.unwrap();
                    (0, Err(NotReady::Poisoned(poisoned)))
                }
            };
            assert_eq!(waiting.join().unwrap(), (Ok(Some(index)), found));
        }
    }
}

/// One thread reads three rings, whose producers publish when they like.
#[test]
fn c6_no_wake_up_is_missed_by_one_that_waits_for_several() {
    const EVENTS_EACH: u64 = rounds(2_000, 5);
    for wait in [Wait::default(), Wait::Park] {
        for kind in KINDS {
            let rings = [(); 3].map(|()| parking_ring(2, kind));
            let mut readers = rings.each_ref().map(|ring| consumer(ring, "reader"));
            let mut seed = 0;
            let feeding = rings.each_ref().map(|ring| {
                let mut feed = crate::with_wait(feed(ring), wait);
                seed += 1;
                let mut random = Random(seed);
                thread::spawn(move || {
                    for event in 0..EVENTS_EACH {
                        (0..random.below(rounds(400, 8))).for_each(|_| spin_loop());
                        feed.publish_deadline(in_a_minute(), |slot| *slot = event)
                            .unwrap();
                    }
                })
            });
            let mut next = [0; 3];
            let mut open = vec![0, 1, 2];
            while !open.is_empty() {
                let mut all: Vec<_> = readers.iter_mut().map(Some).collect();
                let mut any: Vec<_> = (open.iter())
                    .map(|&index| all[index].take().unwrap() as &mut dyn Waiting)
                    .collect();
                let ready = wait_any_deadline(&mut any, wait, in_a_minute());
                let which = ready.unwrap().expect("something within a minute");
                let index = open[which];
                match readers[index].try_next_batch() {
                    Ok(batch) => {
                        for event in &batch {
                            assert_eq!(*event, next[index]);
                            next[index] += 1;
                        }
                    }
                    Err(NotReady::Closed) => _ = open.remove(which),
                    Err(why) => panic!("ready, but {why}"),
                }
                if !open.is_empty() {
                    open.rotate_left(1);
                }
            }
            assert_eq!(next, [EVENTS_EACH; 3]);
            feeding.into_iter().for_each(|feed| feed.join().unwrap());
        }
    }
}

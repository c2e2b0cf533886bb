//! Closing and poisoning: who hears of it and when, and what is still delivered.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{ClaimError, Consumer, Ended, JoinError, NotReady, ProducerError, Ring, Wait};

use crate::{
    Feed, KINDS, WAITS, consumer, drain, feed, handle_all, in_a_minute, not_ready, once_it_waits,
    parking_ring, publish, publish_batch, read, reason_and_row, ring, rings, rounds, stage, until,
    ways_to_wait, with_wait,
};

/// What a producer hears whose ring is poisoned: the reason and the row.
fn heard<T>(refused: Result<T, ClaimError>) -> Option<(u32, Option<usize>)> {
    match refused {
        Err(ClaimError::Poisoned(poisoned)) => Some(reason_and_row(poisoned)),
        _ => None,
    }
}

// ---------------------------------------------------------------------------------------------
// Close
// ---------------------------------------------------------------------------------------------

#[test]
fn a_ring_that_no_producer_has_joined_closes_at_once() {
    for (_, _, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        assert!(!ring.is_closed());
        ring.close();
        assert!(ring.is_closed() && ring.snapshot().closed);
        assert_eq!(not_ready(&mut reader), NotReady::Closed);
        assert_eq!(reader.next_batch().map(drop), Err(Ended::Closed));
        assert_eq!(Feed::join(&ring).map(drop), Err(ProducerError::Closed));
        let name = "late".to_owned();
        let late = ring.consumer("late").join().map(drop);
        assert_eq!(late, Err(JoinError::Closed { name }));
    }
}

#[test]
fn a_ring_is_closed_as_often_as_you_like() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        for _ in 0..3 {
            ring.close();
            assert_eq!(
                feed.try_publish(|_| unreachable!()),
                Err(ClaimError::Closed)
            );
            assert!(ring.is_closed());
        }
        drop(feed);
        ring.close();
        let (read, why) = drain(&mut reader);
        assert_eq!((read.len(), why), (capacity, NotReady::Closed));
    }
}

#[test]
fn nothing_is_published_in_a_closed_ring_in_any_form() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        ring.close();
        let (closed, later) = (ClaimError::Closed, in_a_minute());
        assert_eq!(feed.publish(|_| unreachable!()), Err(closed));
        assert_eq!(feed.try_publish(|_| unreachable!()), Err(closed));
        assert_eq!(
            feed.publish_deadline(later, |_| unreachable!()),
            Err(closed)
        );
        let rejected = feed.publish_value(7).unwrap_err();
        assert_eq!((rejected.value, rejected.cause), (7, closed));
        for n in [0, 1, capacity] {
            assert_eq!(feed.publish_batch(n, |_| unreachable!()), Err(closed));
            assert_eq!(feed.claim(n).map(drop), Err(closed));
            assert_eq!(feed.try_claim(n).map(drop), Err(closed));
        }
        assert_eq!(feed.free(), Err(closed));
        assert_eq!(drain(&mut reader), (vec![0], NotReady::Closed));
        assert_eq!(ring.snapshot().claimed, 1);
    }
}

/// Nobody else knows whether it is about to publish.
#[test]
fn the_only_producer_closes_the_ring_for_another_when_it_claims_next_or_leaves() {
    type Acknowledge = fn(Feed<u64>) -> Option<Feed<u64>>;
    let acknowledgements: [Acknowledge; 4] = [
        |mut feed| {
            assert_eq!(feed.publish(|_| ()), Err(ClaimError::Closed));
            Some(feed)
        },
        |mut feed| {
            assert_eq!(feed.try_claim(1).map(drop), Err(ClaimError::Closed));
            Some(feed)
        },
        |mut feed| {
            assert_eq!(feed.free(), Err(ClaimError::Closed));
            Some(feed)
        },
        |_| None,
    ];
    for acknowledge in acknowledgements {
        let ring = ring(4, One);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        let mut claim = feed.claim(1).unwrap();
        ring.close();
        assert!(!ring.is_closed());
        assert_eq!(read(&mut reader), [0]);
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        assert_eq!(ring.producer().map(drop), Err(ProducerError::Closed));
        claim[0] = 1;
        claim.publish(); // It was made before, so it is delivered.
        let mut late = consumer(&ring, "late");
        assert_eq!(not_ready(&mut late), NotReady::Idle);
        let feed = acknowledge(feed);
        assert!(ring.is_closed());
        assert_eq!(drain(&mut reader), (vec![1], NotReady::Closed));
        assert_eq!(drain(&mut late), (vec![], NotReady::Closed));
        drop(feed);
    }
}

#[test]
fn a_claim_of_one_of_many_that_was_made_before_the_close_is_still_delivered() {
    for gives_up in [false, true] {
        let ring = ring(8, Many);
        let mut reader = consumer(&ring, "reader");
        let mut next = stage(&ring, "next", &["reader"]);
        let [mut a, mut b] = [(); 2].map(|()| feed(&ring));
        let mut claim = a.claim(2).unwrap();
        (claim[0], claim[1]) = (0, 1);
        publish(&mut b, 1);
        ring.close();
        assert!(ring.is_closed());
        assert_eq!(b.publish(|_| ()), Err(ClaimError::Closed));
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        let expected = if gives_up {
            drop(claim);
            vec![2]
        } else {
            claim.publish();
            vec![0, 1, 2]
        };
        assert_eq!(a.publish(|_| ()), Err(ClaimError::Closed));
        assert_eq!(not_ready(&mut next), NotReady::Gated);
        assert_eq!(drain(&mut reader), (expected.clone(), NotReady::Closed));
        assert_eq!(drain(&mut next), (expected, NotReady::Closed));
    }
}

#[test]
fn a_producer_cannot_be_cloned_in_a_closed_ring() {
    let ring = ring(4, Many);
    let producer = ring.shared_producer().unwrap();
    ring.close();
    let clone = producer.try_clone().map(drop);
    assert_eq!(clone, Err(ProducerError::Closed));
}

/// It is used once more, and not dropped.
#[test]
fn a_claim_leaked_before_the_close_is_skipped_by_the_next_call() {
    let ring = ring(4, Many);
    let mut reader = consumer(&ring, "reader");
    let mut feed = feed(&ring);
    std::mem::forget(feed.claim(3).unwrap());
    ring.close();
    assert_eq!(not_ready(&mut reader), NotReady::Idle);
    assert_eq!(feed.publish(|_| ()), Err(ClaimError::Closed));
    assert_eq!(not_ready(&mut reader), NotReady::Closed);
    assert_eq!(reader.skipped(), 3);
}

// ---------------------------------------------------------------------------------------------
// Those who wait
// ---------------------------------------------------------------------------------------------

/// A consumer, and a stage behind it.
#[test]
fn c8_a19_a_close_ends_every_wait_for_events() {
    for (kind, wait) in ways_to_wait() {
        for by_a_producer in [false, true] {
            let ring = parking_ring(4, kind);
            let first = ring.consumer("first").wait(wait).join().unwrap();
            let second = ring.consumer("second").after(["first"]).wait(wait);
            let second = second.join().unwrap();
            let feed = by_a_producer.then(|| feed(&ring));
            let readers = [first, second].map(|mut reader| {
                once_it_waits(wait, move || reader.next_batch().map(|batch| batch.len()))
            });
            match feed {
                Some(feed) => drop(feed),
                None => ring.close(),
            }
            for reader in readers {
                assert_eq!(reader.join().unwrap(), Err(Ended::Closed));
            }
        }
    }
}

/// It was asked to before they began to wait, and stays when it has closed the ring.
#[test]
fn c8_a19_the_only_producer_that_closes_the_ring_for_another_ends_every_wait() {
    for &wait in WAITS {
        let ring = parking_ring(4, One);
        let reader = ring.consumer("reader").wait(wait);
        let mut reader = reader.join().unwrap();
        let mut feed = feed(&ring);
        ring.close();
        let reading = once_it_waits(wait, move || {
            let read = reader.next_batch_deadline(in_a_minute());
            read.map(|batch| batch.len())
        });
        assert_eq!(feed.publish(|_| ()), Err(ClaimError::Closed));
        assert_eq!(reading.join().unwrap(), Err(NotReady::Closed));
    }
}

/// One that waits for room, and one that waits for consumers to join.
#[test]
fn c10_a_close_frees_producers_that_wait() {
    for (kind, wait) in ways_to_wait() {
        let producers = if kind == One { 1 } else { 3 };
        for required in [0, 2] {
            let builder = Ring::builder(2).producers(kind).require_consumers(required);
            let ring = builder.parking().build(|| u64::MAX).unwrap();
            let mut reader = consumer(&ring, "reader");
            let feeds = Vec::from_iter((0..producers).map(|_| with_wait(feed(&ring), wait)));
            let waiting: Vec<_> = (feeds.into_iter())
                .map(|mut feed| {
                    once_it_waits(wait, move || {
                        let mut published = 0;
                        while feed.publish(|_| ()).is_ok() {
                            published += 1;
                        }
                        (published, feed.publish(|_| ()))
                    })
                })
                .collect();
            let fits = if required == 0 { 2 } else { 0 };
            until("all is full", || ring.snapshot().published == fits);
            ring.close();
            let mut all = 0;
            for producer in waiting {
                let (published, refused) = producer.join().unwrap();
                assert_eq!(refused, Err(ClaimError::Closed));
                all += published;
            }
            assert!(ring.is_closed());
            assert_eq!(all, fits);
            let batch = reader.try_next_batch().map(|batch| batch.sequences().end);
            assert_eq!(batch.unwrap_or(0), all);
        }
    }
}

/// Each of these waits for something else.
#[test]
fn c8_c10_a19_poison_ends_every_wait() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(2, kind);
        let mut first = consumer(&ring, "first");
        let join = |name, after: &[&str]| {
            let builder = ring.consumer(name).after(after.iter().copied());
            builder.wait(wait).join().unwrap()
        };
        let (idle, gated) = (join("idle", &[]), join("gated", &["first"]));
        let mut full = with_wait(feed(&ring), wait);
        publish(&mut full, 2);
        let in_hand = first.try_next_batch().unwrap();
        let readers = [idle, gated].map(|mut reader| {
            once_it_waits(wait, move || {
                loop {
                    if let Err(ended) = reader.next_batch() {
                        return ended;
                    }
                }
            })
        });
        let full = once_it_waits(wait, move || full.publish(|_| unreachable!()));

        let builder = Ring::builder(2).producers(kind).require_consumers(1);
        let lacking = builder.parking().build(|| 0_u64).unwrap();
        let mut lacks = with_wait(feed(&lacking), wait);
        let lacks = once_it_waits(wait, move || lacks.publish(|_| unreachable!()));

        ring.poison(7);
        lacking.poison(7);
        for reader in readers {
            match reader.join().unwrap() {
                Ended::Poisoned(poisoned) => assert_eq!(reason_and_row(poisoned), (7, None)),
                ended => panic!("{ended}"),
            }
        }
        assert_eq!(heard(full.join().unwrap()), Some((7, None)));
        assert_eq!(heard(lacks.join().unwrap()), Some((7, None)));
        assert_eq!([in_hand[0], in_hand[1]], [0, 1]); // What it has, it has.
    }
}

#[test]
fn c9_poison_frees_producers_whose_consumer_does_not_read_any_more() {
    for (kind, wait) in ways_to_wait() {
        let ring = parking_ring(2, kind);
        let reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish(&mut feed, 2);
        let waiting = once_it_waits(wait, move || feed.publish(|_| ()));
        reader.poison(9);
        assert_eq!(heard(waiting.join().unwrap()), Some((9, Some(0))));
    }
}

// ---------------------------------------------------------------------------------------------
// Poison
// ---------------------------------------------------------------------------------------------

#[test]
fn the_first_poison_stays_with_its_reason_and_row() {
    type Poison = fn(&Ring<u64>, &Consumer<u64>, &Feed<u64>);
    let poisons: [(Poison, Option<usize>); 3] = [
        (|ring, _, _| ring.poison(u32::MAX), None),
        (|_, reader, _| reader.poison(u32::MAX), Some(0)),
        (|_, _, feed| feed.poison(u32::MAX), Some(1)),
    ];
    for kind in KINDS {
        for (first, row) in poisons {
            let ring = ring(4, kind);
            let mut reader = consumer(&ring, "reader");
            let mut feed = feed(&ring);
            assert_eq!(ring.snapshot().poisoned, None);
            publish(&mut feed, 1);
            first(&ring, &reader, &feed);
            for (again, _) in poisons {
                again(&ring, &reader, &feed);
            }
            ring.poison(1);
            let expected = (u32::MAX, row);
            let poisoned = ring.snapshot().poisoned.unwrap();
            assert_eq!(reason_and_row(poisoned), expected);
            assert_eq!(not_ready(&mut reader), NotReady::Poisoned(poisoned));
            let ended = reader.next_batch().map(drop);
            assert_eq!(ended, Err(Ended::Poisoned(poisoned)));
            let late = reader.next_batch_deadline(in_a_minute()).map(drop);
            assert_eq!(late, Err(NotReady::Poisoned(poisoned)));
            assert_eq!(heard(feed.publish(|_| unreachable!())), Some(expected));
            assert_eq!(heard(feed.try_claim(1).map(drop)), Some(expected));
            assert_eq!(heard(feed.free()), Some(expected));
            let name = "late".to_owned();
            let cause = poisoned;
            let late = ring.consumer("late").join().map(drop);
            assert_eq!(late, Err(JoinError::Poisoned { name, cause }));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "64 members take Miri minutes")]
fn the_row_of_a_poisoner_is_its_line_in_a_snapshot_up_to_the_last() {
    let builder = Ring::builder(1).members(64);
    let ring = builder.build(|| 0_u64).unwrap();
    let readers = Vec::from_iter((0..64).map(|row| consumer(&ring, &row.to_string())));
    let last = readers.last().unwrap();
    last.poison(3);
    let snapshot = ring.snapshot();
    let (reason, row) = reason_and_row(snapshot.poisoned.unwrap());
    assert_eq!((reason, row), (3, Some(63)));
    let poisoner = snapshot.members.iter().find(|m| Some(m.row) == row);
    assert_eq!(poisoner.unwrap().name, last.name());
}

/// Nobody gets what was not delivered yet; who has a batch or a claim in its hands keeps it.
#[test]
fn nobody_joins_a_poisoned_ring() {
    for kind in KINDS {
        let ring = ring(4, kind);
        ring.poison(7);
        let heard = Feed::join(&ring).map(drop).unwrap_err();
        assert!(matches!(heard, ProducerError::Poisoned(cause) if cause.reason == 7));
        let heard = ring.consumer("reader").join().map(drop).unwrap_err();
        assert!(matches!(heard, JoinError::Poisoned { cause, .. } if cause.reason == 7));
    }
}

#[test]
fn poison_ends_what_comes_next_and_not_what_is_in_hand() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = ring.consumer("reader").batch_limit(1).join().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        let batch = reader.try_next_batch().unwrap();
        let mut claim = feed.claim(1).unwrap();
        ring.poison(7);
        assert_eq!(batch[0], 0);
        drop(batch);
        claim[0] = 2;
        assert_eq!(claim.publish(), 2..3);
        assert!(matches!(not_ready(&mut reader), NotReady::Poisoned(_)));
        assert_eq!(reader.position(), 1);
        ring.close();
        drop(feed);
        assert!(ring.is_closed());
        assert!(matches!(not_ready(&mut reader), NotReady::Poisoned(_)));
    }
}

#[test]
fn a_poison_of_many_at_once_is_of_one_of_them() {
    for round in 0..rounds(50, 3) as u32 {
        let ring = ring(4, Many);
        let readers = [0, 1, 2].map(|row| consumer(&ring, &format!("{row}")));
        let threads = readers.map(|reader| {
            thread::spawn(move || {
                reader.poison(round);
                reader
            })
        });
        let rows = threads.map(|thread| {
            let mut reader = thread.join().unwrap();
            match not_ready(&mut reader) {
                NotReady::Poisoned(poisoned) => reason_and_row(poisoned),
                why => panic!("{why}"),
            }
        });
        assert!(rows[0].1.is_some_and(|row| row < 3));
        assert_eq!(rows, [(round, rows[0].1); 3]);
    }
}

// ---------------------------------------------------------------------------------------------
// A close at any moment
// ---------------------------------------------------------------------------------------------

/// Producers publish until they are told; whoever closes does so at a moment of its own.
#[test]
fn c1_whatever_was_confirmed_is_delivered_whenever_the_ring_is_closed() {
    for (kind, producers) in [(One, 1), (Many, 3)] {
        for round in 0..rounds(60, 3) {
            let ring = ring(16, kind);
            let readers = ["a", "b"].map(|name| {
                let mut reader = consumer(&ring, name);
                thread::spawn(move || {
                    let mut next_of = vec![0; producers];
                    handle_all(&mut reader, |_, event, _| {
                        let (producer, number) = (event >> 32, event & u64::from(u32::MAX));
                        assert_eq!(number, next_of[producer as usize]);
                        next_of[producer as usize] += 1;
                    });
                    next_of
                })
            });
            let confirmed = Arc::new(AtomicU64::new(0));
            let feeds = Vec::from_iter((0..producers as u64).map(|_| feed(&ring)));
            let feeding: Vec<_> = (feeds.into_iter().zip(0_u64..))
                .map(|(mut feed, producer)| {
                    let confirmed = confirmed.clone();
                    thread::spawn(move || {
                        for number in 0.. {
                            match feed.publish(|slot| *slot = producer << 32 | number) {
                                Ok(_) => _ = confirmed.fetch_add(1, Relaxed),
                                Err(refused) => {
                                    assert_eq!(refused, ClaimError::Closed);
                                    return number;
                                }
                            }
                        }
                        unreachable!()
                    })
                })
                .collect();
            let enough = round * 5;
            until("some is published", || confirmed.load(Relaxed) >= enough);
            ring.close();
            let published: Vec<_> = feeding.into_iter().map(|f| f.join().unwrap()).collect();
            assert!(ring.is_closed());
            for reader in readers {
                assert_eq!(reader.join().unwrap(), published);
            }
        }
    }
}

/// The consumer's thread runs only after all is over.
#[test]
fn c1_a_close_before_a_consumer_runs_loses_nothing() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut next = stage(&ring, "next", &["reader"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, capacity);
        ring.close();
        drop(feed);
        let readers = thread::spawn(move || (drain(&mut reader), drain(&mut next)));
        let (first, second) = readers.join().unwrap();
        assert_eq!((first.0.len(), first.1), (capacity, NotReady::Closed));
        assert_eq!(first, second);
    }
}

/// Whoever closes and whoever parks meet at every moment.
#[test]
fn c6_a_close_is_not_missed_by_one_that_is_about_to_park() {
    for kind in KINDS {
        for round in 0..rounds(500, 3) {
            let ring = parking_ring(2, kind);
            let mut reader = ring.consumer("reader").wait(Wait::Park).join().unwrap();
            let mut feed = with_wait(feed(&ring), Wait::Park);
            let reading = thread::spawn(move || {
                let ended = reader.next_batch_deadline(in_a_minute()).map(drop);
                assert_eq!(ended, Err(NotReady::Closed));
            });
            (0..10 * round).for_each(|_| std::hint::spin_loop());
            if round % 2 == 0 {
                drop(feed);
            } else {
                ring.close();
                assert_eq!(feed.try_publish(|_| ()), Err(ClaimError::Closed));
            }
            reading.join().unwrap();
        }
    }
}

/// The last claim is given up after the close: with it the ring ends, and there is no event to tell.
#[test]
fn c6_the_end_is_not_missed_behind_a_claim_that_is_given_up() {
    for round in 0..rounds(500, 3) {
        let ring = parking_ring(4, Many);
        let first = ring.consumer("first").wait(Wait::Park).join().unwrap();
        let second = ring.consumer("second").after(["first"]).wait(Wait::Park);
        let second = second.join().unwrap();
        let mut feed = feed(&ring);
        let claim = feed.claim(1).unwrap();
        let readers = [first, second].map(|mut reader| {
            thread::spawn(move || {
                let ended = reader.next_batch_deadline(in_a_minute()).map(drop);
                assert_eq!(ended, Err(NotReady::Closed));
            })
        });
        ring.close();
        (0..20 * round).for_each(|_| std::hint::spin_loop());
        drop(claim);
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
    }
}

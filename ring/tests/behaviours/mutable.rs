//! Stages that change events: who may be one, what it may change, and who sees it.

use std::thread;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{
    ClaimError, Ended, JoinError, MemberKind, MutableConsumer, NotReady, Ring, Sequence, Wait,
    try_any,
};

use crate::{
    KINDS, LAYOUTS, consumer, feed, give_up, gives_up, handle_all, in_a_minute, not_ready, publish,
    publish_batch, ring, ring_in, rings, rounds, stage, with_wait,
};

fn mutable(ring: &Ring<u64>, name: &str, after: &[&str]) -> MutableConsumer<u64> {
    let after = after.iter().copied();
    ring.consumer(name).after(after).join_mut().unwrap()
}

/// Why there is nothing to change.
fn nothing<T>(consumer: &mut MutableConsumer<T>) -> NotReady {
    consumer.try_next_batch_mut().map(drop).unwrap_err()
}

// ---------------------------------------------------------------------------------------------
// What it changes
// ---------------------------------------------------------------------------------------------

#[test]
fn later_stages_see_what_was_changed() {
    for (_, capacity, ring) in rings() {
        let mut first = mutable(&ring, "first", &[]);
        let mut second = mutable(&ring, "second", &["first"]);
        let mut reader = stage(&ring, "reader", &["second"]);
        let mut feed = feed(&ring);
        for lap in 0..3 {
            publish_batch(&mut feed, capacity);
            assert_eq!(nothing(&mut second), NotReady::Gated);
            for event in &mut first.try_next_batch_mut().unwrap() {
                *event += 1_000;
            }
            assert_eq!(not_ready(&mut reader), NotReady::Gated);
            second
                .try_next_batch_mut()
                .unwrap()
                .iter_mut()
                .for_each(|event| *event *= 2);
            let first = (lap * capacity) as u64;
            let batch = reader.try_next_batch().unwrap();
            let changed = (first..first + capacity as u64).map(|event| 2 * (event + 1_000));
            assert!(batch.iter().copied().eq(changed));
        }
    }
}

#[test]
fn the_producer_finds_what_was_changed_a_lap_ago() {
    for (_, capacity, ring) in rings() {
        let mut changes = mutable(&ring, "changes", &[]);
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        for event in &mut changes.next_batch_mut().unwrap() {
            *event += 1_000;
        }
        for slot in 0..capacity as u64 {
            feed.publish(|event| assert_eq!(*event, 1_000 + slot))
                .unwrap();
        }
    }
}

#[test]
fn events_are_changed_by_index_by_iterator_and_as_slices() {
    for layout in LAYOUTS {
        for kind in KINDS {
            let ring = ring_in(layout, 4, kind);
            let mut changes = mutable(&ring, "changes", &[]);
            let mut reader = stage(&ring, "reader", &["changes"]);
            let mut feed = feed(&ring);
            for lap in 0..5 {
                publish_batch(&mut feed, 3);
                let first = 3 * lap;
                let mut batch = changes.try_next_batch_mut().unwrap();
                assert_eq!((batch.sequences(), batch.len()), (first..first + 3, 3));
                batch[0] += 100;
                batch[2] += 300;
                assert_eq!([batch[0], batch[1]], [first + 100, first + 1]);
                let mut events = batch.iter_mut();
                *events.next().unwrap() += 1;
                assert_eq!(events.len(), 2);
                if let Some((some, others)) = batch.as_mut_slices() {
                    assert_eq!(some.len() + others.len(), 3);
                    some.iter_mut().chain(others).for_each(|event| *event += 7);
                    (batch.iter_mut()).for_each(|event| *event -= 7);
                } else {
                    assert_eq!(layout, annulus_ring::Layout::Beside);
                }
                assert!(batch.with_sequences().map(|(s, _)| s).eq(first..first + 3));
                drop(batch);
                let batch = reader.try_next_batch().unwrap();
                let changed = [first + 101, first + 1, first + 302];
                assert!(batch.iter().eq(&changed));
            }
        }
    }
}

#[test]
fn an_event_outside_the_batch_cannot_be_changed() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut changes = mutable(&ring, "changes", &[]);
        publish(&mut feed(&ring), 3);
        let mut batch = changes.try_next_batch_mut().unwrap();
        batch.release(1);
        let change = std::panic::AssertUnwindSafe(|| batch[2] = 7);
        let outside = std::panic::catch_unwind(change);
        let said = outside.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(*said, "event 2 of a batch of 2");
    }
}

#[test]
fn a21_what_is_released_early_is_seen_and_the_rest_can_still_be_changed() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut changes = mutable(&ring, "changes", &[]);
        let mut reader = stage(&ring, "reader", &["changes"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        let mut batch = changes.try_next_batch_mut().unwrap();
        for first in 0..4 {
            assert_eq!(not_ready(&mut reader), NotReady::Gated);
            batch[0] += 100;
            batch.release(1);
            let read = reader.try_next_batch().unwrap();
            assert_eq!((read.len(), read[0]), (1, 100 + first));
        }
        assert!(batch.is_empty() && batch.iter_mut().next().is_none());
    }
}

#[test]
fn what_is_given_back_or_forgotten_comes_again_as_it_was_left() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut changes = mutable(&ring, "changes", &[]);
        publish_batch(&mut feed(&ring), 3);
        let mut batch = changes.try_next_batch_mut().unwrap();
        batch[1] += 100;
        batch.release(1);
        batch.give_back();
        let mut batch = changes.next_batch_mut().unwrap();
        assert_eq!((batch.sequences(), batch[0]), (1..3, 101));
        batch[0] += 100;
        std::mem::forget(batch);
        let batch = changes.next_batch_mut_deadline(in_a_minute()).unwrap();
        assert_eq!((batch.sequences(), batch[0]), (1..3, 201));
        drop(batch);
        assert_eq!(changes.position(), 3);
    }
}

/// And nobody changes it any more.
#[test]
fn what_is_held_can_be_read_as_it_was_left() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut changes = mutable(&ring, "changes", &[]);
        let mut reader = stage(&ring, "reader", &["changes"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        let mut batch = changes.try_next_batch_mut().unwrap();
        batch.iter_mut().for_each(|event| *event += 100);
        batch.hold();
        let held: Vec<_> = changes.held().collect();
        assert_eq!(held, [(0, &100), (1, &101), (2, &102), (3, &103)]);
        assert_eq!(nothing(&mut changes), NotReady::Idle);
        let full = Err(ClaimError::Full { free: 0 });
        assert_eq!(feed.try_publish(|_| unreachable!()), full);
        assert_eq!(not_ready(&mut reader), NotReady::Gated);
        changes.release_until(3);
        let batch = reader.try_next_batch().unwrap();
        assert!(batch.iter().eq(&[100, 101, 102]));
        assert_eq!(changes.held().map(|(s, _)| s).collect::<Vec<_>>(), [3]);
    }
}

#[test]
fn it_goes_on_with_the_last_event_if_asked_to() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut changes = mutable(&ring, "changes", &[]);
        let mut reader = stage(&ring, "reader", &["changes"]);
        publish(&mut feed(&ring), 5);
        assert_eq!(changes.skip_to_latest(), 4);
        changes.next_batch_mut().unwrap()[0] = 100;
        let batch = reader.try_next_batch().unwrap();
        assert!(batch.iter().eq(&[0, 1, 2, 3, 100]));
    }
}

#[test]
fn it_is_told_of_the_close_and_of_poison() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut changes = mutable(&ring, "changes", &[]);
        let mut feed = feed(&ring);
        assert_eq!(nothing(&mut changes), NotReady::Idle);
        assert_eq!(try_any(&mut [changes.as_waiting()]), None);
        publish(&mut feed, 1);
        assert_eq!(try_any(&mut [changes.as_waiting()]), Some(0));
        drop(feed);
        drop(changes.next_batch_mut().unwrap());
        assert_eq!(changes.next_batch_mut().map(drop), Err(Ended::Closed));
        assert_eq!(nothing(&mut changes), NotReady::Closed);
        let late = changes.next_batch_mut_deadline(in_a_minute()).map(drop);
        assert_eq!(late, Err(NotReady::Closed));
        changes.poison(1);
        assert!(matches!(nothing(&mut changes), NotReady::Poisoned(_)));
    }
}

// ---------------------------------------------------------------------------------------------
// Who may be one
// ---------------------------------------------------------------------------------------------

/// Why a consumer of this name, after these, cannot join to read or to change.
fn refused(ring: &Ring<u64>, name: &str, after: &[&str], changes: bool) -> (String, bool) {
    let builder = ring.consumer(name).after(after.iter().copied());
    let joined = match changes {
        true => builder.join_mut().map(drop),
        false => builder.join().map(drop),
    };
    match joined.unwrap_err() {
        JoinError::Unordered {
            name: refused,
            other,
            other_changes,
        } => {
            assert_eq!(refused, name);
            (other, other_changes)
        }
        error => panic!("{error}"),
    }
}

fn is(other: &str, other_changes: bool) -> (String, bool) {
    (other.to_owned(), other_changes)
}

#[test]
fn who_changes_events_comes_after_every_other_consumer() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let _a = consumer(&ring, "a");
        assert_eq!(refused(&ring, "m", &[], true), is("a", false));
        let _b = consumer(&ring, "b");
        let _c = stage(&ring, "c", &["a"]);
        assert_eq!(refused(&ring, "m", &["a", "b"], true), is("c", false));
        assert_eq!(refused(&ring, "m", &["c"], true), is("b", false));
        let _m = mutable(&ring, "m", &["b", "c"]); // And after a through c.
        let member = ring.snapshot().members.pop().unwrap();
        assert_eq!(
            (member.name, member.kind),
            ("m".to_owned(), MemberKind::MutableStage)
        );
    }
}

#[test]
fn every_other_consumer_comes_after_who_changes_events() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let _a = consumer(&ring, "a");
        let _m = mutable(&ring, "m", &["a"]);
        for changes in [false, true] {
            assert_eq!(refused(&ring, "b", &["a"], changes), is("m", true));
        }
        assert_eq!(refused(&ring, "b", &[], false), is("m", true));
        let _b = stage(&ring, "b", &["m"]);
        let _c = stage(&ring, "c", &["b"]); // Through b.
        let _d = stage(&ring, "d", &["m"]);
        // The next to change events comes after all of them, the first to do so included.
        assert_eq!(refused(&ring, "n", &["b", "c"], true), is("d", false));
        let _n = mutable(&ring, "n", &["c", "d"]);
    }
}

/// What it left behind is ordered all the same: nobody lets go of what it came after.
#[test]
fn the_order_holds_when_members_leave() {
    for (_, capacity, ring) in rings() {
        let mut a = consumer(&ring, "a");
        let x = stage(&ring, "x", &["a"]);
        let mut m = mutable(&ring, "m", &["x"]);
        let y = stage(&ring, "y", &["m"]);
        let mut n = mutable(&ring, "n", &["y"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, capacity);
        drop(x);
        assert_eq!(nothing(&mut m), NotReady::Gated);
        assert_eq!(refused(&ring, "z", &["a"], false), is("m", true));
        drop(y);
        let batch = a.try_next_batch().unwrap();
        assert_eq!(nothing(&mut m), NotReady::Gated);
        assert_eq!(batch[0], 0);
        drop(batch);
        let mut batch = m.try_next_batch_mut().unwrap();
        assert_eq!(nothing(&mut n), NotReady::Gated);
        batch[0] += 100;
        drop(batch);
        n.try_next_batch_mut().unwrap()[0] += 100;
        drop(m);
        assert_eq!(refused(&ring, "z", &["a"], false), is("n", true));
        let mut last = stage(&ring, "last", &["n"]);
        drop(n);
        // With nobody to change events, nobody has to come after anybody.
        let mut z = consumer(&ring, "z");
        publish_batch(&mut feed, capacity);
        assert_eq!(z.try_next_batch().unwrap().len(), capacity);
        assert_eq!(not_ready(&mut last), NotReady::Gated);
        assert_eq!(a.try_next_batch().unwrap().len(), capacity);
        assert_eq!(last.try_next_batch().unwrap().len(), capacity);
    }
}

/// It starts where the ring is, and its stages after it.
#[test]
fn a20_one_that_changes_events_joins_and_leaves_while_the_ring_runs() {
    for (_, capacity, ring) in rings() {
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for lap in 0..4 {
            publish_batch(&mut feed, capacity);
            let first = 2 * lap * capacity as Sequence;
            assert_eq!(reader.try_next_batch().unwrap()[0], first);
            let mut changes = mutable(&ring, "changes", &["reader"]);
            let mut sees = stage(&ring, "sees", &["changes"]);
            publish_batch(&mut feed, capacity);
            let next = first + capacity as Sequence;
            assert_eq!(reader.try_next_batch().unwrap()[0], next);
            assert_eq!(not_ready(&mut sees), NotReady::Gated);
            changes.try_next_batch_mut().unwrap()[0] += 1_000;
            assert_eq!(sees.try_next_batch().unwrap()[0], next + 1_000);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Under load
// ---------------------------------------------------------------------------------------------

/// An event of several words, each of which is changed by everybody who may.
type Words = [u64; 4];

/// Two stages change every event one after the other, with readers between, before and after them, who
/// all see it as it is meant to be there.
#[test]
fn a5_every_stage_sees_events_as_those_before_it_left_them_at_full_load() {
    const EVENTS_EACH: u64 = rounds(10_000, 20);
    for wait in [Wait::default(), Wait::Park] {
        for (kind, producers) in [(One, 1), (Many, 2)] {
            let builder = Ring::builder(64).producers(kind).parking();
            let ring = builder.build(Words::default).unwrap();
            let builder = |name, after: &[&str]| {
                let after = after.iter().copied();
                ring.consumer(name).after(after).wait(wait)
            };
            let reads = |name, after: &[&str], changes: u64| {
                let mut reader = builder(name, after).join().unwrap();
                thread::spawn(move || {
                    let mut read = 0;
                    handle_all(&mut reader, |sequence, words, _| {
                        assert_eq!(*words, [sequence + changes * 1_000_000; 4]);
                        read += 1;
                    });
                    read
                })
            };
            let changes = |name, after: &[&str], changes: u64| {
                let mut changer = builder(name, after).join_mut().unwrap();
                thread::spawn(move || {
                    let mut changed = 0;
                    loop {
                        let mut batch = match changer.next_batch_mut_deadline(in_a_minute()) {
                            Ok(batch) => batch,
                            Err(NotReady::Closed) => return changed,
                            Err(why) => panic!("{why}"),
                        };
                        let sequences = batch.sequences();
                        for (words, sequence) in (&mut batch).into_iter().zip(sequences) {
                            assert_eq!(*words, [sequence + changes * 1_000_000; 4]);
                            words.iter_mut().for_each(|word| *word += 1_000_000);
                        }
                        changed += batch.len() as u64;
                        batch.release(batch.len() / 2);
                    }
                })
            };
            let members = [
                reads("a", &[], 0),
                changes("b", &["a"], 0),
                reads("c", &["b"], 1),
                changes("d", &["c"], 1),
                reads("e", &["d"], 2),
            ];
            let feeds = Vec::from_iter((0..producers).map(|_| with_wait(feed(&ring), wait)));
            let feeding: Vec<_> = (feeds.into_iter())
                .map(|mut feed| {
                    thread::spawn(move || {
                        let mut left = EVENTS_EACH as usize;
                        for n in (1..=16).cycle() {
                            let claim = feed.claim_deadline(n.min(left), in_a_minute());
                            let mut claim = claim.unwrap();
                            left -= claim.len();
                            let sequences = claim.sequences();
                            for (words, sequence) in claim.iter_mut().zip(sequences) {
                                *words = [sequence; 4];
                            }
                            if claim.publish().is_empty() {
                                return;
                            }
                        }
                    })
                })
                .collect();
            feeding.into_iter().for_each(|feed| feed.join().unwrap());
            for member in members {
                assert_eq!(member.join().unwrap(), producers * EVENTS_EACH);
            }
        }
    }
}

/// It panics with a batch in its hands: what it has changed is released, and nobody waits for it.
#[test]
fn c17_one_that_changes_events_and_panics_wedges_nobody() {
    for (_, capacity, ring) in rings() {
        let changes = mutable(&ring, "changes", &[]);
        let mut reader = stage(&ring, "reader", &["changes"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, capacity);
        gives_up(move || {
            let mut changes = changes;
            let mut batch = changes.try_next_batch_mut().unwrap();
            batch[0] = 7;
            give_up();
        });
        assert_eq!(reader.try_next_batch().unwrap()[0], 7);
        publish_batch(&mut feed, capacity);
        assert_eq!(reader.try_next_batch().unwrap()[0], capacity as u64);
    }
}

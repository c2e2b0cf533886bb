//! Graphs: who reads after whom, what a branch and a join wait for, and what becomes of those behind a
//! consumer that leaves.

use annulus_ring::Producers::{self, Many};
use annulus_ring::{ClaimError, Consumer, NotReady, Ring};

use crate::{CAPACITIES, KINDS, consumer, feed, not_ready, publish, read, ring, rings, stage};

/// A ring of 8 with `journal` and `book` side by side, and `risk` after both.
struct Diamond {
    ring: Ring<u64>,
    journal: Consumer<u64>,
    book: Consumer<u64>,
    risk: Consumer<u64>,
}

fn diamond(kind: Producers) -> Diamond {
    let ring = ring(8, kind);
    Diamond {
        journal: consumer(&ring, "journal"),
        book: consumer(&ring, "book"),
        risk: stage(&ring, "risk", &["journal", "book"]),
        ring,
    }
}

/// Reads and releases exactly `n` events.
fn read_exactly(consumer: &mut Consumer<u64>, n: usize) {
    let mut batch = consumer.try_next_batch().unwrap();
    assert!(batch.len() >= n);
    batch.release(n);
    batch.give_back();
}

#[test]
fn a10_a_stage_is_held_by_the_minimum_of_the_positions_it_waits_for() {
    for kind in KINDS {
        let Diamond {
            ring,
            mut journal,
            mut book,
            mut risk,
        } = diamond(kind);
        publish(&mut feed(&ring), 8);
        let moves = [(3, 0, 0), (0, 2, 2), (0, 3, 1), (5, 0, 2), (0, 3, 3)];
        let mut reached = 0;
        for (by_journal, by_book, further) in moves {
            read_exactly_if_any(&mut journal, by_journal);
            read_exactly_if_any(&mut book, by_book);
            let expected: Vec<_> = (reached..reached + further).collect();
            assert_eq!(read(&mut risk), expected);
            reached += further;
        }
        assert_eq!(reached, 8);
    }
}

fn read_exactly_if_any(consumer: &mut Consumer<u64>, n: usize) {
    if n > 0 {
        read_exactly(consumer, n);
    }
}

#[test]
fn a10_producers_are_held_by_the_minimum_of_all_positions() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut readers = ["a", "b", "c"].map(|name| consumer(&ring, name));
        let mut feed = feed(&ring);
        publish(&mut feed, 8);
        let moves = [
            (0, 5, 0),
            (1, 8, 0),
            (2, 3, 3),
            (0, 1, 3),
            (2, 5, 6),
            (0, 2, 8),
        ];
        for (mover, by, free) in moves {
            read_exactly(&mut readers[mover], by);
            assert_eq!(feed.free(), Ok(free));
            let full = Err(ClaimError::Full { free });
            assert_eq!(
                feed.try_publish_batch(free + 1, |_| unreachable!())
                    .map(drop),
                match free {
                    8 => Err(ClaimError::TooLong {
                        requested: 9,
                        capacity: 8
                    }),
                    _ => full,
                }
            );
        }
    }
}

/// Leaves and inner nodes gate alike: producers do not overwrite what any of a chain may read.
#[test]
fn a10_every_member_of_a_chain_gates() {
    for (_, capacity, ring) in rings() {
        let mut chain = [
            consumer(&ring, "1"),
            stage(&ring, "2", &["1"]),
            stage(&ring, "3", &["2"]),
        ];
        let mut feed = feed(&ring);
        for _ in 0..3 {
            publish(&mut feed, capacity);
            for member in &mut chain {
                assert_eq!(feed.free(), Ok(0));
                assert_eq!(read(member).len(), capacity);
            }
            assert_eq!(feed.free(), Ok(capacity));
        }
    }
}

#[test]
fn b8_a_stage_sees_nothing_until_the_batch_before_it_is_dropped() {
    for (_, capacity, ring) in rings() {
        let mut first = consumer(&ring, "first");
        let mut second = stage(&ring, "second", &["first"]);
        let mut feed = feed(&ring);
        publish(&mut feed, capacity);
        let batch = first.try_next_batch().unwrap();
        assert_eq!(not_ready(&mut second), NotReady::Gated);
        drop(feed);
        assert_eq!(not_ready(&mut second), NotReady::Gated);
        drop(batch);
        assert_eq!(second.try_next_batch().unwrap().len(), capacity);
        assert_eq!(not_ready(&mut first), NotReady::Closed);
        assert_eq!(not_ready(&mut second), NotReady::Closed);
    }
}

#[test]
fn a21_an_early_release_is_seen_by_others_before_the_batch_ends() {
    for kind in KINDS {
        let Diamond {
            ring,
            mut journal,
            mut book,
            mut risk,
        } = diamond(kind);
        let mut feed = feed(&ring);
        publish(&mut feed, 8);
        let mut held = journal.try_next_batch().unwrap();
        assert_eq!(read(&mut book).len(), 8);
        for sequence in 0..8 {
            assert_eq!(not_ready(&mut risk), NotReady::Gated);
            held.release(1);
            assert_eq!(read(&mut risk), [sequence]);
            assert_eq!(feed.free(), Ok(sequence as usize + 1));
        }
    }
}

#[test]
fn b9_a_branch_is_independent_and_a_join_waits_for_both() {
    for kind in KINDS {
        let Diamond {
            ring,
            mut journal,
            mut book,
            mut risk,
        } = diamond(kind);
        let mut feed = feed(&ring);
        for lap in 0..5 {
            publish(&mut feed, 8);
            assert_eq!(read(&mut journal).len(), 8);
            assert_eq!(not_ready(&mut risk), NotReady::Gated);
            assert_eq!(book.position(), 8 * lap);
            assert_eq!(read(&mut book).len(), 8);
            assert_eq!(read(&mut risk).len(), 8);
        }
    }
}

#[test]
fn b9_a_branch_that_nobody_comes_after_is_harmless() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut main = consumer(&ring, "main");
        let mut branch = consumer(&ring, "branch");
        let mut end = stage(&ring, "end", &["main"]);
        let mut feed = feed(&ring);
        publish(&mut feed, 8);
        assert_eq!(read(&mut main).len(), 8);
        assert_eq!(read(&mut end).len(), 8);
        assert_eq!(feed.free(), Ok(0)); // Harmless, and still not overwritten.
        assert_eq!(read(&mut branch).len(), 8);
        assert_eq!(feed.free(), Ok(8));
    }
}

#[test]
fn a_stage_steps_over_what_carries_no_event_behind_those_before_it() {
    for &capacity in CAPACITIES.iter().filter(|&&capacity| capacity > 1) {
        let ring = ring(capacity, Many);
        let mut first = consumer(&ring, "first");
        let mut second = stage(&ring, "second", &["first"]);
        let mut feed = feed(&ring);
        drop(feed.claim(capacity - 1).unwrap());
        publish(&mut feed, 1);
        assert_eq!(not_ready(&mut second), NotReady::Gated);
        assert_eq!(second.skipped(), 0);
        let only = capacity as u64 - 1;
        assert_eq!(read(&mut first), [only]);
        assert_eq!(read(&mut second), [only]);
        assert_eq!((first.skipped(), second.skipped()), (only, only));
    }
}

#[test]
fn a_gap_is_passed_on_to_later_stages_by_looking_for_events() {
    let ring = ring(4, Many);
    let mut first = consumer(&ring, "first");
    let mut second = stage(&ring, "second", &["first"]);
    let mut feed = feed(&ring);
    drop(feed.claim(4).unwrap());
    assert_eq!(not_ready(&mut second), NotReady::Gated);
    assert_eq!(not_ready(&mut first), NotReady::Idle);
    assert_eq!(feed.free(), Ok(0));
    assert_eq!(not_ready(&mut second), NotReady::Idle);
    assert_eq!(feed.free(), Ok(4));
}

/// `a`, then `b`, then `c`: with `b` gone, `c` waits for `a`, and does not read what `a` has not.
#[test]
fn c18_a_stage_behind_one_that_left_waits_for_what_that_one_waited_for() {
    for kind in KINDS {
        for leaves_late in [false, true] {
            let ring = ring(8, kind);
            let mut a = consumer(&ring, "a");
            let mut b = Some(stage(&ring, "b", &["a"]));
            let mut c = stage(&ring, "c", &["b"]);
            let mut feed = feed(&ring);
            if !leaves_late {
                b = None;
            }
            publish(&mut feed, 8);
            assert_eq!(not_ready(&mut c), NotReady::Gated);
            read_exactly(&mut a, 3);
            if let Some(mut b) = b {
                read_exactly(&mut b, 1);
                assert_eq!(read(&mut c), [0]);
                drop(b);
                assert_eq!(read(&mut c), [1, 2]);
            } else {
                assert_eq!(read(&mut c), [0, 1, 2]);
            }
            assert_eq!(not_ready(&mut c), NotReady::Gated);
            drop(a);
            assert_eq!(read(&mut c), [3, 4, 5, 6, 7]);
            assert_eq!(not_ready(&mut c), NotReady::Idle);
        }
    }
}

/// Any order of leaving: at each moment, the one that is left behind all others reads only what the
/// slowest of those left before it has read.
#[test]
fn c18_consumers_leave_in_any_order() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for kind in KINDS {
        for order in orders {
            let ring = ring(8, kind);
            let mut before = [
                Some(consumer(&ring, "a")),
                Some(stage(&ring, "b", &["a"])),
                Some(stage(&ring, "c", &["b"])),
            ];
            let mut end = stage(&ring, "end", &["c"]);
            publish(&mut feed(&ring), 8);
            for (n, index) in (1..).zip([0, 1, 2]) {
                read_exactly(before[index].as_mut().unwrap(), 8 - 2 * n);
            }
            for leaving in order {
                let slowest = before.iter().flatten().map(Consumer::position).min();
                read(&mut end);
                assert_eq!(Some(end.position()), slowest);
                before[leaving] = None;
            }
            read(&mut end);
            assert_eq!(end.position(), 8);
        }
    }
}

/// The rows of those that left are not given to somebody else while others still come after them.
#[test]
fn a_newcomer_is_not_taken_for_the_one_that_left() {
    let builder = Ring::builder(8).producers(Many).members(5);
    let ring = builder.build(|| 0).unwrap();
    let mut a = consumer(&ring, "a");
    let b = stage(&ring, "b", &["a"]);
    let c = stage(&ring, "c", &["b"]);
    let mut d = stage(&ring, "d", &["c"]);
    drop((b, c));
    let mut feed = feed(&ring);
    publish(&mut feed, 2);
    assert!(ring.shared_producer().is_err()); // Two rows are kept, the others taken.
    assert_eq!(not_ready(&mut d), NotReady::Gated);
    assert_eq!(read(&mut a), [0, 1]);
    assert_eq!(read(&mut d), [0, 1]);
    drop(d);
    assert!(ring.shared_producer().is_ok());
}

//! Joining and leaving while the ring runs: where a consumer starts, and what becomes of its row.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::thread;

use annulus_ring::Producers::{self, Many, One};
use annulus_ring::{ClaimError, Consumer, JoinError, Layout, NotReady, Ring, Sequence, Start};

use crate::{
    Feed, KINDS, LAYOUTS, Random, consumer, feed, handle_all, in_a_minute, not_ready, publish,
    publish_batch, read, ring, rings, rounds, stage,
};

fn join(ring: &Ring<u64>, name: &str, start: Start) -> Consumer<u64> {
    ring.consumer(name).start(start).join().unwrap()
}

// ---------------------------------------------------------------------------------------------
// Where it starts
// ---------------------------------------------------------------------------------------------

/// Beside a consumer that has read everything, one that has read nothing, and none.
#[test]
fn a20_a_late_consumer_starts_with_the_next_event() {
    for others in 0..3 {
        for (_, capacity, ring) in rings() {
            let mut drained = (others > 0).then(|| consumer(&ring, "drained"));
            let mut feed = feed(&ring);
            let mut end = 0;
            for n in [0, 1, capacity, 3 * capacity - 1] {
                for _ in 0..n {
                    publish(&mut feed, 1);
                    drained.as_mut().map(read);
                }
                end += n as Sequence;
                // It keeps a slot of its own from here on, until it reads.
                let behind = (others > 1).then(|| consumer(&ring, "behind"));
                let mut late = consumer(&ring, "late");
                assert_eq!(not_ready(&mut late), NotReady::Idle);
                assert_eq!((late.position(), late.skipped()), (end, 0));
                publish_batch(&mut feed, capacity);
                let full = Err(ClaimError::Full { free: 0 });
                drained.as_mut().map(read);
                assert_eq!(feed.try_publish(|_| unreachable!()), full);
                let next = end + capacity as Sequence;
                assert_eq!(read(&mut late), Vec::from_iter(end..next));
                end = next;
                drop((behind, late));
            }
        }
    }
}

/// The claim is older than the consumer, its publication is not.
#[test]
fn a20_a_late_consumer_gets_nothing_of_a_claim_made_before() {
    let ring = ring(8, Many);
    let mut early = consumer(&ring, "early");
    let [mut a, mut b] = [(); 2].map(|()| feed(&ring));
    let claim = a.claim(2).unwrap();
    let mut late = consumer(&ring, "late");
    publish(&mut b, 1);
    assert_eq!(not_ready(&mut late), NotReady::Idle);
    claim.publish();
    assert_eq!(read(&mut late), [2]);
    assert_eq!(late.skipped(), 0);
    assert_eq!(early.try_next_batch().unwrap().len(), 3);
}

#[test]
fn the_oldest_event_is_the_first_that_some_other_consumer_has_not_released() {
    for layout in LAYOUTS {
        for kind in KINDS {
            let ring = crate::ring_in(layout, 8, kind);
            let mut readers = ["a", "b"].map(|name| consumer(&ring, name));
            let mut feed = feed(&ring);
            publish(&mut feed, 6);
            for (who, released) in [(0, 4), (1, 2), (1, 3)] {
                let mut batch = readers[who].try_next_batch().unwrap();
                batch.release(released);
                batch.give_back();
                let lowest = readers[0].position().min(readers[1].position());
                let mut late = join(&ring, "late", Start::Oldest);
                assert_eq!(read(&mut late), Vec::from_iter(lowest..6));
            }
        }
    }
}

/// With many producers a consumer starts at the end of the batch in which the others are.
#[test]
fn the_oldest_event_inside_a_batch() {
    for (kind, oldest) in [(One, 2), (Many, 4)] {
        let ring = ring(8, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        publish_batch(&mut feed, 2);
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(2);
        batch.give_back();
        let mut late = join(&ring, "late", Start::Oldest);
        assert_eq!(read(&mut late), Vec::from_iter(oldest..6));
        let asked = oldest - 1;
        let too_old = ring.consumer("older").start(Start::At(asked)).join();
        let name = "older".to_owned();
        let error = JoinError::TooOld {
            name,
            asked,
            oldest,
        };
        assert_eq!(too_old.map(drop), Err(error));
    }
}

#[test]
fn without_other_consumers_the_oldest_event_is_the_next() {
    for (_, capacity, ring) in rings() {
        let mut feed = feed(&ring);
        let mut end = 0;
        for n in [0, 1, capacity, capacity + 1] {
            (0..n).for_each(|_| publish(&mut feed, 1));
            end += n as Sequence;
            let mut late = join(&ring, "late", Start::Oldest);
            assert_eq!(not_ready(&mut late), NotReady::Idle);
            assert_eq!(late.position(), end);
        }
    }
}

#[test]
fn a_consumer_starts_at_the_sequence_that_it_asked_for() {
    for layout in LAYOUTS {
        for kind in KINDS {
            for in_one_batch in [false, true] {
                let ring = crate::ring_in(layout, 8, kind);
                let mut reader = consumer(&ring, "reader");
                let mut feed = feed(&ring);
                publish(&mut feed, 4);
                read(&mut reader);
                if in_one_batch {
                    publish_batch(&mut feed, 4);
                } else {
                    publish(&mut feed, 4);
                }
                for asked in 4..=8 {
                    let mut late = join(&ring, "late", Start::At(asked));
                    assert_eq!(read(&mut late), Vec::from_iter(asked..8));
                    assert_eq!(late.position(), 8);
                }
                for asked in 0..4 {
                    let (name, oldest) = ("old".to_owned(), 4);
                    let too_old = ring.consumer(&name).start(Start::At(asked)).join();
                    let error = JoinError::TooOld {
                        name,
                        asked,
                        oldest,
                    };
                    assert_eq!(too_old.map(drop), Err(error));
                }
                // Who was refused left nothing behind: no row, no name, no gate.
                assert_eq!(ring.snapshot().members.len(), 2);
                read(&mut reader);
                publish(&mut feed, 8);
                drop(join(&ring, "old", Start::Next));
            }
        }
    }
}

/// It gates from the start all the same, and gives nothing before.
#[test]
fn a_consumer_can_start_at_an_event_that_is_still_to_come() {
    for (_, capacity, ring) in rings() {
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        let asked = 2 * capacity as Sequence + 1;
        let mut late = join(&ring, "late", Start::At(asked));
        assert_eq!(late.skip_to_latest(), 0);
        let mut next = 1;
        while next < asked {
            publish(&mut feed, 1);
            next += 1;
            assert_eq!(not_ready(&mut late), NotReady::Idle);
            assert_eq!(late.position(), next);
        }
        publish_batch(&mut feed, capacity);
        let end = asked + capacity as Sequence;
        assert_eq!(read(&mut late), Vec::from_iter(asked..end));
    }
}

#[test]
fn a_consumer_that_starts_at_what_never_comes_hears_of_the_close() {
    for (_, _, ring) in rings() {
        let mut feed = feed(&ring);
        let mut late = join(&ring, "late", Start::At(1_000_000));
        publish(&mut feed, 1);
        drop(feed);
        assert_eq!(not_ready(&mut late), NotReady::Closed);
        assert_eq!(late.position(), 1);
    }
}

/// The stage is not given anything before the consumer that it comes after has released it.
#[test]
fn a20_a27_a_stage_joins_behind_consumers_that_run() {
    for (start, first) in [(Start::Next, 6), (Start::Oldest, 2), (Start::At(3), 3)] {
        for kind in KINDS {
            let ring = ring(8, kind);
            let mut reader = ring.consumer("reader").batch_limit(2).join().unwrap();
            let mut feed = feed(&ring);
            publish(&mut feed, 6);
            assert_eq!(reader.try_next_batch().unwrap().sequences(), 0..2);
            let late = ring.consumer("late").after(["reader"]).start(start);
            let mut late = late.join().unwrap();
            publish(&mut feed, 2);
            let mut given = Vec::new();
            loop {
                given.extend(read(&mut late));
                assert!(given.last().is_none_or(|last| *last < reader.position()));
                if reader.try_next_batch().is_err() {
                    break;
                }
            }
            given.extend(read(&mut late));
            assert_eq!(given, Vec::from_iter(first..8));
            assert_eq!(feed.free(), Ok(8));
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Names and rows
// ---------------------------------------------------------------------------------------------

/// Of many that want it at the same time, one has it; and when that one has left, another.
#[test]
fn a_name_is_taken_once_at_a_time_by_any_number_of_threads() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let holders = Arc::new(AtomicUsize::new(0));
        let threads = [(); 3].map(|()| {
            let (ring, holders) = (ring.clone(), holders.clone());
            thread::spawn(move || {
                let mut taken = 0;
                while taken < rounds(100, 3) {
                    match ring.consumer("one").join() {
                        Ok(one) => {
                            assert_eq!(holders.fetch_add(1, Relaxed), 0);
                            taken += 1;
                            thread::yield_now();
                            assert_eq!(holders.fetch_sub(1, Relaxed), 1);
                            drop(one);
                        }
                        Err(JoinError::NameTaken { name }) => assert_eq!(name, "one"),
                        Err(error) => panic!("{error}"),
                    }
                    thread::yield_now();
                }
            })
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(ring.snapshot().members.is_empty());
    }
}

#[test]
fn rows_are_used_again_by_more_consumers_than_there_are_rows() {
    for kind in KINDS {
        for members in [2, if cfg!(miri) { 8 } else { 64 }] {
            let builder = Ring::builder(4).producers(kind).members(members);
            let ring = builder.build(|| 0).unwrap();
            let mut feed = feed(&ring);
            for n in 0..rounds(200, 20) {
                let mut reader = join(&ring, &n.to_string(), Start::Next);
                if n % 2 == 0 {
                    publish(&mut feed, 1);
                    assert_eq!(read(&mut reader).len(), 1);
                }
                if n % 3 == 0 {
                    publish(&mut feed, 2); // It leaves without having read them.
                }
                let snapshot = ring.snapshot();
                assert_eq!(snapshot.members.len(), 2);
                let [a, b] = [0, 1].map(|index: usize| &snapshot.members[index]);
                assert!(a.row < b.row && b.row == 1);
            }
        }
    }
}

/// Each comes after the one whose place it takes.
#[test]
fn rows_are_used_again_in_a_chain_that_renews_itself() {
    for kind in KINDS {
        let builder = Ring::builder(4).producers(kind).members(6);
        let ring = builder.build(|| 0).unwrap();
        let mut feed = feed(&ring);
        let mut first = consumer(&ring, "first");
        let mut last = stage(&ring, "0", &["first"]);
        for n in 1..rounds(200, 20) {
            let before = (n - 1).to_string();
            let mut next = stage(&ring, &n.to_string(), &[&before]);
            assert_eq!(not_ready(&mut next), NotReady::Idle);
            publish(&mut feed, 1);
            drop(last);
            // What it waited for was the first, and that is what it waits for again.
            assert_eq!(not_ready(&mut next), NotReady::Gated);
            assert_eq!(read(&mut first).len(), 1);
            assert_eq!(read(&mut next).len(), 1);
            last = next;
        }
    }
}

/// `a`, then `x`, then `b`: with `x` gone, somebody else may come, and has nothing to do with `b`.
#[test]
fn c18_who_takes_the_place_of_one_that_left_does_not_hold_up_those_behind_it() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut a = consumer(&ring, "a");
        let x = stage(&ring, "x", &["a"]);
        let mut b = stage(&ring, "b", &["x"]);
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        drop(x);
        // Also one of the same name.
        let mut others = ["x", "y", "z"].map(|name| consumer(&ring, name));
        assert_eq!(not_ready(&mut b), NotReady::Gated);
        publish(&mut feed, 2);
        assert_eq!(not_ready(&mut b), NotReady::Gated);
        let mut batch = a.try_next_batch().unwrap();
        batch.release(3);
        assert_eq!(read(&mut b), [0, 1, 2]);
        assert_eq!(not_ready(&mut b), NotReady::Gated);
        drop(batch);
        assert_eq!(read(&mut b), [3]);
        others
            .iter_mut()
            .for_each(|other| assert_eq!(read(other), [2, 3]));
    }
}

/// A diamond whose two sides leave, one after the other, before or after the end has looked.
#[test]
fn c18_a_stage_inherits_from_all_who_leave_before_it() {
    for kind in KINDS {
        for looks_between in [false, true] {
            let ring = ring(8, kind);
            let mut sources = ["a", "b"].map(|name| consumer(&ring, name));
            let left = stage(&ring, "left", &["a"]);
            let right = stage(&ring, "right", &["b", "left"]);
            let mut end = stage(&ring, "end", &["right"]);
            publish(&mut feed(&ring), 8);
            drop(right);
            if looks_between {
                assert_eq!(not_ready(&mut end), NotReady::Gated);
            }
            drop(left);
            assert_eq!(not_ready(&mut end), NotReady::Gated);
            assert_eq!(read(&mut sources[0]).len(), 8);
            assert_eq!(not_ready(&mut end), NotReady::Gated);
            assert_eq!(read(&mut sources[1]).len(), 8);
            assert_eq!(read(&mut end).len(), 8);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Under load
// ---------------------------------------------------------------------------------------------

/// An event that says several times what it is, and how far the consumer that is always there has got.
#[derive(Default)]
struct Event {
    words: [u64; 6],
    handled: AtomicU64,
}

/// Who comes and goes, again and again.
struct Visitor {
    ring: Ring<Event>,
    name: &'static str,
    /// Whether there is a consumer that is always there.
    is_accompanied: bool,
    random: Random,
}

impl Visitor {
    /// Joins, reads a little, and leaves; returns how many events it got.
    fn visit(&mut self) -> u64 {
        let before = self.ring.snapshot().published;
        let start = match self.random.below(3) {
            0 => Start::Next,
            1 => Start::Oldest,
            _ => Start::At((before + self.random.below(40)).saturating_sub(20)),
        };
        let comes_after = self.is_accompanied && self.random.below(2) == 0;
        let builder = self.ring.consumer(self.name).start(start);
        let builder = builder.after(comes_after.then_some("steady"));
        let mut visitor = match builder.join() {
            Ok(visitor) => visitor,
            Err(JoinError::TooOld { asked, oldest, .. }) => {
                assert!(start == Start::At(asked) && asked < oldest);
                return 0;
            }
            Err(error) => panic!("{error}"),
        };
        let claimed = self.ring.snapshot().claimed;
        let enough = 1 + self.random.below(100);
        let (mut events, mut next) = (0, None);
        while events < enough {
            let mut batch = visitor.next_batch_deadline(in_a_minute()).unwrap();
            let first = batch.sequences().start;
            match (next, start) {
                (Some(next), _) => assert_eq!(first, next),
                (None, Start::At(asked)) => assert_eq!(first, asked),
                (None, Start::Next) => assert!((before..=claimed).contains(&first)),
                (None, _) => assert!(first <= claimed),
            }
            for (sequence, event) in batch.with_sequences() {
                assert_eq!(event.words, [sequence; 6]);
                if comes_after {
                    assert_eq!(event.handled.load(Relaxed), sequence + 1);
                }
            }
            events += batch.len() as u64;
            next = Some(batch.sequences().end);
            if self.random.below(4) == 0 {
                batch.release(batch.len() / 2);
            }
        }
        events
    }
}

/// Whoever joins sees every event from its start on, whole, and nobody overruns it; whoever is always
/// there misses nothing.
fn visitors_come_and_go(layout: Layout, kind: Producers, is_accompanied: bool) {
    const VISITS: u64 = rounds(700, 2);

    println!("{layout:?}, {kind:?}, {is_accompanied}"); // Shown if the test fails.
    let builder = Ring::builder(32).producers(kind).layout(layout);
    let ring = builder.build(Event::default).unwrap();
    let steady = is_accompanied.then(|| {
        let mut steady = consumer(&ring, "steady");
        thread::spawn(move || {
            let mut next = 0;
            handle_all(&mut steady, |sequence, event, _| {
                assert_eq!((sequence, event.words), (next, [sequence; 6]));
                event.handled.store(sequence + 1, Relaxed);
                next += 1;
            });
            next
        })
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let producers = if kind == One { 1 } else { 2 };
    let feeds = Vec::from_iter((0..producers).map(|_| feed(&ring)));
    let feeding: Vec<_> = (feeds.into_iter().zip(1..))
        .map(|(feed, seed)| {
            let is_over = is_over.clone();
            thread::spawn(move || publish_until(feed, &is_over, seed))
        })
        .collect();
    let visitors = ["a", "b"].map(|name| {
        let mut visitor = Visitor {
            ring: ring.clone(),
            name,
            is_accompanied,
            random: Random(name.as_bytes()[0].into()),
        };
        thread::spawn(move || (0..VISITS).map(|_| visitor.visit()).sum::<u64>())
    });
    for visitor in visitors {
        assert!(visitor.join().unwrap() > 0);
    }
    is_over.store(true, Release);
    let published: u64 = feeding.into_iter().map(|feed| feed.join().unwrap()).sum();
    if let Some(steady) = steady {
        assert_eq!(steady.join().unwrap(), published);
    }
    assert_eq!(ring.snapshot().published, published);
    assert!(ring.snapshot().members.is_empty());
}

/// Publishes batches of all lengths; returns how many events.
fn publish_until(mut feed: Feed<Event>, is_over: &AtomicBool, seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut published = 0;
    while !is_over.load(Acquire) {
        let n = 1 + random.below(8) as usize;
        let mut claim = feed.claim_deadline(n, in_a_minute()).unwrap();
        let sequences = claim.sequences();
        for (event, sequence) in claim.iter_mut().zip(sequences) {
            event.words = [sequence; 6];
        }
        claim.publish();
        published += n as u64;
    }
    published
}

#[test]
fn a20_c12_consumers_join_and_leave_beside_another_at_full_load() {
    for layout in LAYOUTS {
        for kind in KINDS {
            visitors_come_and_go(layout, kind, true);
        }
    }
}

/// Between visits nobody listens, and the producers run ahead.
#[test]
fn a20_c12_consumers_join_and_leave_a_ring_that_nobody_else_reads() {
    for layout in LAYOUTS {
        for kind in KINDS {
            visitors_come_and_go(layout, kind, false);
        }
    }
}

/// Producers come and go as well; the first of them stays, as the last one would close the ring.
#[test]
fn a20_producers_join_and_leave_at_full_load() {
    const VISITS: u64 = rounds(500, 3);
    let ring = ring(16, Many);
    let readers = ["a", "b"].map(|name| {
        let mut reader = consumer(&ring, name);
        thread::spawn(move || {
            let mut next = 0;
            handle_all(&mut reader, |sequence, event, _| {
                assert!(sequence >= next);
                assert_eq!(*event, sequence);
                next = sequence + 1;
            });
            (reader.position(), reader.skipped())
        })
    });
    let stays = feed(&ring);
    let visitors = [1, 2, 3].map(|seed| {
        let ring = ring.clone();
        thread::spawn(move || {
            let mut random = Random(seed);
            let mut published = 0;
            for _ in 0..VISITS {
                let mut feed = feed(&ring);
                for _ in 0..random.below(4) {
                    let mut claim = feed.claim_deadline(1, in_a_minute()).unwrap();
                    claim[0] = claim.sequences().start;
                    claim.publish();
                    published += 1;
                }
                let claim = feed.claim_deadline(1, in_a_minute()).unwrap();
                match random.below(2) {
                    0 => drop(claim),
                    _ => std::mem::forget(claim), // Its producer leaves.
                }
            }
            published
        })
    });
    let published: u64 = visitors.map(|visitor| visitor.join().unwrap()).iter().sum();
    drop(stays);
    let skipped = 3 * VISITS;
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (published + skipped, skipped));
    }
}

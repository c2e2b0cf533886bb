//! Threads: waiting, counting and leaving, with real threads at full load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::Duration;

use annulus_ring::Producers::{self, Many, One};
use annulus_ring::{ClaimError, Consumer, NotReady, Ring, Sequence, Wait};

use crate::{
    Feed, KINDS, consumer, feed, give_up, gives_up, in_a_minute, not_ready, publish, publish_batch,
    read, ring, stage, until,
};

const WAITS: [Wait; 4] = [
    Wait::Spin,
    Wait::Yield,
    Wait::Backoff,
    Wait::Phased {
        spins: 10,
        yields: 10,
        sleep: Duration::from_micros(100),
    },
];

/// Both kinds of producers with every wait.
fn ways_to_wait() -> impl Iterator<Item = (Producers, Wait)> {
    KINDS.into_iter().flat_map(|kind| {
        WAITS.map(|wait| {
            println!("{kind:?}, {wait:?}"); // Shown if the test fails.
            (kind, wait)
        })
    })
}

/// The producer, waiting in this way.
fn with_wait<T>(feed: Feed<T>, wait: Wait) -> Feed<T> {
    match feed {
        Feed::Only(producer) => Feed::Only(producer.with_wait(wait).unwrap()),
        Feed::OneOfMany(producer) => Feed::OneOfMany(producer.with_wait(wait).unwrap()),
    }
}

/// Reads until the ring is closed, and calls `handle` with each event, and whether it ends its batch.
fn handle_all<T>(consumer: &mut Consumer<T>, mut handle: impl FnMut(Sequence, &T, bool)) {
    loop {
        match consumer.next_batch_deadline(in_a_minute()) {
            Ok(batch) => {
                let last = batch.sequences().end - 1;
                for (sequence, event) in batch.with_sequences() {
                    handle(sequence, event, sequence == last);
                }
            }
            Err(NotReady::Closed) => return,
            Err(why) => panic!("nothing to read for a minute: {why}"),
        }
    }
}

/// Runs `body` on a thread of its own, and returns once it has begun and others have had time to run.
fn begun<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    let flag = Arc::new(AtomicBool::new(false));
    let begins = flag.clone();
    let handle = thread::spawn(move || {
        begins.store(true, Release);
        body()
    });
    until("a thread begins", || flag.load(Acquire));
    (0..100).for_each(|_| thread::yield_now());
    handle
}

#[test]
fn a23_a_producer_blocks_when_full_and_resumes_when_the_gate_moves_by_one() {
    for (kind, wait) in ways_to_wait() {
        for capacity in [1, 4] {
            let ring = ring(capacity, kind);
            let mut reader = consumer(&ring, "reader");
            let mut feed = with_wait(feed(&ring), wait);
            publish(&mut feed, capacity);
            let blocked = begun(move || {
                let published = feed.publish(|slot| *slot = capacity as Sequence);
                (published, feed.try_publish(|_| unreachable!()))
            });
            assert_eq!(ring.snapshot().published, capacity as Sequence);
            let mut batch = reader.try_next_batch().unwrap();
            batch.release(1);
            batch.give_back();
            let (published, next) = blocked.join().unwrap();
            assert_eq!(published, Ok(capacity as Sequence));
            assert_eq!(next, Err(ClaimError::Full { free: 0 }));
            assert_eq!(read(&mut reader).len(), capacity);
        }
    }
}

#[test]
fn a_call_with_a_deadline_returns_as_soon_as_there_is_room() {
    for (kind, wait) in ways_to_wait() {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish(&mut feed, 4);
        let blocked = begun(move || {
            let later = in_a_minute();
            feed.publish_deadline(later, |slot| *slot = 4)?;
            let write =
                |slots: annulus_ring::Slots<'_, u64>| slots.zip(5..).for_each(|(s, v)| *s = v);
            feed.publish_batch_deadline(2, later, write)?;
            let mut claim = feed.claim_deadline(1, later)?;
            claim[0] = 7;
            claim.publish();
            let published = feed.publish_value_deadline(later, 8);
            published.map_err(|rejected| rejected.cause)
        });
        let mut all = Vec::new();
        until("nine events", || {
            all.extend(read(&mut reader));
            all.len() == 9
        });
        assert_eq!(all, (0..9).collect::<Vec<_>>());
        assert_eq!(blocked.join().unwrap(), Ok(8));
    }
}

#[test]
fn a_consumer_that_waits_gets_what_is_published_and_hears_of_the_close() {
    for (kind, wait) in ways_to_wait() {
        let ring = ring(4, kind);
        let mut reader = ring.consumer("reader").wait(wait).join().unwrap();
        let mut feed = feed(&ring);
        let waiting = begun(move || {
            let first = reader.next_batch().map(|batch| batch[0]);
            let second = reader
                .next_batch_deadline(in_a_minute())
                .map(|batch| batch[0]);
            let mut none = reader;
            (first, second, none.next_batch().is_err())
        });
        feed.publish_value(7).unwrap();
        until("the first is read", || feed.free() == Ok(4));
        feed.publish_value(8).unwrap();
        until("the second is read", || feed.free() == Ok(4));
        drop(feed);
        assert_eq!(waiting.join().unwrap(), (Ok(7), Ok(8), true));
    }
}

#[test]
fn a_stage_that_waits_goes_on_when_the_one_before_it_does() {
    for (kind, wait) in ways_to_wait() {
        let ring = ring(4, kind);
        let mut first = consumer(&ring, "first");
        let second = ring.consumer("second").after(["first"]).wait(wait);
        let mut second = second.join().unwrap();
        publish_batch(&mut feed(&ring), 3);
        let waiting = begun(move || second.next_batch().map(|batch| batch.len()));
        let mut batch = first.try_next_batch().unwrap();
        batch.release(2);
        assert_eq!(waiting.join().unwrap(), Ok(2));
    }
}

#[test]
fn producers_wait_until_the_consumers_required_have_joined() {
    for (kind, wait) in ways_to_wait() {
        let builder = Ring::builder(2).producers(kind).require_consumers(2);
        let ring = builder.build(|| 0_u64).unwrap();
        let mut first = consumer(&ring, "first");
        let mut feed = with_wait(feed(&ring), wait);
        let waiting = begun(move || feed.publish_value(7).map_err(|rejected| rejected.cause));
        assert_eq!(ring.snapshot().published, 0);
        let mut second = consumer(&ring, "second");
        assert_eq!(waiting.join().unwrap(), Ok(0));
        assert_eq!(first.next_batch().unwrap()[0], 7);
        assert_eq!(second.next_batch().unwrap()[0], 7);
    }
}

#[test]
fn c18_a_producer_that_waits_goes_on_when_the_consumer_leaves() {
    for (kind, wait) in ways_to_wait() {
        let ring = ring(2, kind);
        let reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish(&mut feed, 2);
        let waiting = begun(move || feed.publish(|_| ()));
        drop(reader);
        assert_eq!(waiting.join().unwrap(), Ok(2));
    }
}

/// Who takes the place of the one that left starts where the ring is.
#[test]
fn a_producer_of_a_ring_that_requires_consumers_waits_for_another_when_one_leaves() {
    for (kind, wait) in ways_to_wait() {
        let builder = Ring::builder(2).producers(kind).require_consumers(1);
        let ring = builder.build(|| 0).unwrap();
        let reader = consumer(&ring, "reader");
        let mut feed = with_wait(feed(&ring), wait);
        publish(&mut feed, 2);
        let waiting = begun(move || feed.publish_value(7).map_err(|rejected| rejected.cause));
        drop(reader);
        let mut other = consumer(&ring, "other");
        assert_eq!(other.next_batch().unwrap()[0], 7);
        assert_eq!(waiting.join().unwrap(), Ok(2));
    }
}

#[test]
fn c16_whoever_waits_behind_a_claim_goes_on_when_its_owner_panics() {
    for wait in WAITS {
        let ring = ring(4, Many);
        let reader = ring.consumer("reader").wait(wait);
        let mut reader = reader.join().unwrap();
        let (mut panicking, mut other) = (feed(&ring), feed(&ring));
        let mut waiting = None;
        gives_up(|| {
            let _ = panicking.publish(|_| {
                publish(&mut other, 1);
                waiting = Some(begun(move || {
                    let read = reader.next_batch().map(|batch| batch.sequences());
                    (read, reader.skipped())
                }));
                give_up();
            });
        });
        let (read, skipped) = waiting.unwrap().join().unwrap();
        assert_eq!((read, skipped), (Ok(1..2), 1));
    }
}

/// Two handlers take every other event each, one of them slowly, and put down what they have only at
/// the end of a batch.
#[test]
fn a3_striped_handlers_count_exactly_and_flush_at_the_end_of_a_batch() {
    const EVENTS: u64 = 10_000;
    for kind in KINDS {
        let ring = ring(64, kind);
        let handlers = [0, 1].map(|stripe| {
            let mut reader = consumer(&ring, &format!("stripe {stripe}"));
            thread::spawn(move || {
                let (mut handled, mut latest, mut flushed) = (0, None, None);
                handle_all(&mut reader, |sequence, _, ends_batch| {
                    if sequence % 2 == stripe {
                        handled += 1;
                        if stripe == 0 && handled % 64 == 0 {
                            thread::yield_now(); // The slow path.
                        }
                    }
                    latest = Some(sequence);
                    if ends_batch {
                        flushed = latest;
                    }
                });
                (handled, flushed)
            })
        });
        let mut feed = feed(&ring);
        for value in 0..EVENTS {
            feed.publish_value(value).unwrap();
        }
        drop(feed);
        for handler in handlers {
            assert_eq!(handler.join().unwrap(), (EVENTS / 2, Some(EVENTS - 1)));
        }
    }
}

/// An event of several words, all of which say the same.
type Words = [u64; 8];

/// Many batches of random length by several producers; every consumer sees each sequence once, with
/// what belongs to it.
#[test]
fn a5_payloads_match_their_sequences_at_full_load() {
    const EVENTS_EACH: u64 = 50_000;
    for (kind, producers) in [(One, 1), (Many, 3)] {
        let builder = Ring::builder(128).producers(kind);
        let ring = builder.build(Words::default).unwrap();
        let readers = ["a", "b"].map(|name| {
            let mut reader = consumer(&ring, name);
            thread::spawn(move || {
                let mut next = 0;
                handle_all(&mut reader, |sequence, words, _| {
                    assert_eq!((sequence, words), (next, &[sequence; 8]));
                    next += 1;
                });
                next
            })
        });
        let feeds: Vec<_> = (0..producers).map(|_| feed(&ring)).collect();
        let feeds = feeds.into_iter().map(|mut feed| {
            thread::spawn(move || {
                let mut left = EVENTS_EACH as usize;
                for n in (1..=16).cycle() {
                    let mut claim = feed.claim(n.min(left)).unwrap();
                    left -= claim.len();
                    let sequences = claim.sequences();
                    for (words, sequence) in claim.iter_mut().zip(sequences) {
                        *words = [sequence; 8];
                    }
                    if claim.publish().is_empty() {
                        return;
                    }
                }
            })
        });
        for feed in feeds.collect::<Vec<_>>() {
            feed.join().unwrap();
        }
        for reader in readers {
            assert_eq!(reader.join().unwrap(), producers * EVENTS_EACH);
        }
    }
}

#[test]
fn b6_strings_of_several_producers_reach_several_consumers() {
    const LINES_EACH: usize = 2_000;
    let builder = Ring::builder(32).producers(Many);
    let ring = builder.build(String::new).unwrap();
    let readers = ["a", "b", "c"].map(|name| {
        let mut reader = consumer(&ring, name);
        thread::spawn(move || {
            let mut lines = Vec::new();
            handle_all(&mut reader, |_, line, _| lines.push(line.clone()));
            lines
        })
    });
    let feeds = ["x", "y", "z"].map(|author| {
        let mut feed = feed(&ring);
        thread::spawn(move || {
            for number in 0..LINES_EACH {
                let line = format!("line {number} of {author}");
                feed.publish_value(line).unwrap();
            }
        })
    });
    feeds.into_iter().for_each(|feed| feed.join().unwrap());
    let [first, second, third] = readers.map(|reader| reader.join().unwrap());
    assert_eq!(first, second);
    assert_eq!(first, third);
    for author in ["x", "y", "z"] {
        let by_author = first.iter().filter(|line| line.ends_with(author));
        let expected = (0..LINES_EACH).map(|number| format!("line {number} of {author}"));
        assert!(by_author.eq(&expected.collect::<Vec<_>>()));
    }
}

/// Each consumer handles each sequence once; each event is what its own producer published next.
#[test]
fn b11_a_million_events_are_free_of_gaps_for_every_consumer() {
    const EVENTS_EACH: u64 = 500_000;
    let builder = Ring::builder(1024).producers(Many);
    let ring = builder.build(|| (0_u64, 0_u64)).unwrap();
    let graph = [("a", None), ("b", None), ("after a", Some("a"))];
    let readers = graph.map(|(name, after)| {
        let mut reader = ring.consumer(name).after(after).join().unwrap();
        thread::spawn(move || {
            let (mut next, mut next_of) = (0, [0; 2]);
            handle_all(&mut reader, |sequence, &(producer, number), _| {
                assert_eq!(sequence, next);
                next += 1;
                assert_eq!(number, next_of[producer as usize]);
                next_of[producer as usize] += 1;
            });
            (next, next_of)
        })
    });
    let feeds = [0, 1].map(|producer| {
        let mut feed = feed(&ring);
        thread::spawn(move || {
            let mut numbers = 0..EVENTS_EACH;
            while !numbers.is_empty() {
                let n = numbers.end - numbers.start;
                let write = |slots: annulus_ring::Slots<'_, (u64, u64)>| {
                    for (slot, number) in slots.zip(&mut numbers) {
                        *slot = (producer, number);
                    }
                };
                feed.publish_batch(n.min(64) as usize, write).unwrap();
            }
        })
    });
    feeds.into_iter().for_each(|feed| feed.join().unwrap());
    for reader in readers {
        let (all, by_producer) = reader.join().unwrap();
        assert_eq!((all, by_producer), (2 * EVENTS_EACH, [EVENTS_EACH; 2]));
    }
}

/// Others go on, and none of those left misses anything.
#[test]
fn c18_consumers_leave_in_any_order_on_other_threads_while_producers_run() {
    const EVENTS: u64 = 20_000;
    let orders = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for kind in KINDS {
        for order in orders {
            let ring = ring(16, kind);
            let graph = [
                consumer(&ring, "a"),
                stage(&ring, "b", &["a"]),
                stage(&ring, "c", &["b"]),
            ];
            let mut end = stage(&ring, "end", &["a", "c"]);
            let leavers: Vec<_> = (graph.into_iter().zip(order))
                .map(|(mut member, rank)| {
                    thread::spawn(move || {
                        let leaves_at = EVENTS / 4 * (rank + 1);
                        while member.position() < leaves_at {
                            drop(member.next_batch_deadline(in_a_minute()).unwrap());
                        }
                    })
                })
                .collect();
            let mut feed = feed(&ring);
            let feeding = thread::spawn(move || {
                for value in 0..EVENTS {
                    feed.publish_value(value).unwrap();
                }
            });
            let mut next = 0;
            handle_all(&mut end, |sequence, event, _| {
                assert_eq!((sequence, *event), (next, next));
                next += 1;
            });
            assert_eq!(next, EVENTS);
            feeding.join().unwrap();
            leavers
                .into_iter()
                .for_each(|leaver| leaver.join().unwrap());
        }
    }
}

/// Names, producers and consumers come and go while the table is being watched.
#[test]
fn a_snapshot_is_consistent_while_everything_runs() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut readers = [consumer(&ring, "a"), stage(&ring, "b", &["a"])];
        let mut feed = feed(&ring);
        let feeding = thread::spawn(move || {
            for value in 0..20_000 {
                feed.publish_value(value).unwrap();
            }
        });
        let watched = ring.clone();
        let watching = begun(move || {
            let (mut last, mut kinds) = (0, BTreeSet::new());
            loop {
                let snapshot = watched.snapshot();
                assert!(snapshot.published >= last);
                last = snapshot.published;
                for member in snapshot.members {
                    assert!(member.position <= last);
                    kinds.insert(format!("{:?}", member.kind));
                }
                if snapshot.closed {
                    return (last, kinds.len());
                }
                thread::yield_now();
            }
        });
        until("everything is read", || {
            readers.iter_mut().for_each(|reader| _ = read_some(reader));
            readers[1].position() == 20_000
        });
        feeding.join().unwrap();
        assert_eq!(watching.join().unwrap(), (20_000, 3));
        for reader in &mut readers {
            assert_eq!(not_ready(reader), NotReady::Closed);
        }
    }
}

fn read_some(reader: &mut Consumer<u64>) -> Result<usize, NotReady> {
    reader.try_next_batch().map(|batch| batch.len())
}

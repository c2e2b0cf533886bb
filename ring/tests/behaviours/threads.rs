//! Threads: counting and leaving, with real threads at full load.

use std::collections::BTreeSet;
use std::thread;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{Consumer, NotReady, Ring};

use crate::{
    KINDS, begun, consumer, feed, handle_all, in_a_minute, not_ready, ring, rounds, stage, until,
};

/// Two handlers take every other event each, one of them slowly, and put down what they have only at
/// the end of a batch.
#[test]
fn a3_striped_handlers_count_exactly_and_flush_at_the_end_of_a_batch() {
    const EVENTS: u64 = rounds(10_000, 20);
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
    const EVENTS_EACH: u64 = rounds(50_000, 20);
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
    const LINES_EACH: u64 = rounds(2_000, 20);
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
    const EVENTS_EACH: u64 = rounds(500_000, 20);
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
    const EVENTS: u64 = rounds(20_000, 20);
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
    const EVENTS: u64 = rounds(20_000, 20);
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut readers = [consumer(&ring, "a"), stage(&ring, "b", &["a"])];
        let mut feed = feed(&ring);
        let feeding = thread::spawn(move || {
            for value in 0..EVENTS {
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
            readers[1].position() == EVENTS
        });
        feeding.join().unwrap();
        assert_eq!(watching.join().unwrap(), (EVENTS, 3));
        for reader in &mut readers {
            assert_eq!(not_ready(reader), NotReady::Closed);
        }
    }
}

fn read_some(reader: &mut Consumer<u64>) -> Result<usize, NotReady> {
    reader.try_next_batch().map(|batch| batch.len())
}

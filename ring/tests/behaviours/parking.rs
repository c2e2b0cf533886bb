//! Parking: it costs nothing while nothing happens, and no wake-up is missed.

use std::hint::spin_loop;
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::Producers::{self, Many};
use annulus_ring::{Consumer, JoinError, NotReady, ProducerError, Ring, Wait, wait_any_deadline};

use crate::os::ThreadStat;
use crate::{
    Feed, KINDS, LAYOUTS, Random, consumer, feed, handle_all, in_a_minute, parking_ring, publish,
    ring, rounds, with_wait,
};

#[test]
fn a_ring_built_without_parking_lets_nobody_park() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let name = "reader".to_owned();
        let refused = ring.consumer(&name).wait(Wait::Park).join().map(drop);
        assert_eq!(refused, Err(JoinError::NoParking { name }));
        assert!(ring.snapshot().members.is_empty());
        let refused = match feed(&ring) {
            Feed::Only(producer) => producer.with_wait(Wait::Park).map(drop),
            Feed::OneOfMany(producer) => producer.with_wait(Wait::Park).map(drop),
        };
        assert_eq!(refused, Err(ProducerError::NoParking));
    }
}

#[test]
fn a_clone_of_a_producer_parks_as_it_does() {
    let ring = parking_ring(4, Many);
    let producer = ring.shared_producer().unwrap().with_wait(Wait::Park);
    let producer = producer.unwrap();
    assert!(producer.try_clone().is_ok());
}

// ---------------------------------------------------------------------------------------------
// What waiting costs
// ---------------------------------------------------------------------------------------------

/// How long those wait whose processor time is looked at.
const LONG: Duration = Duration::from_secs(1);

type WaitUntil = Box<dyn FnOnce(Instant) + Send>;

/// Runs all of these at the same time, each of which waits until the instant it is given, and checks
/// that none of them used the processor for as much as a third of that time. What parking costs is not
/// a hundredth of it; what spinning costs is all that the machine gives.
fn cost_next_to_nothing(waits: Vec<WaitUntil>) {
    let threads: Vec<_> = (waits.into_iter())
        .map(|wait| {
            thread::spawn(move || {
                let stat = ThreadStat::of_this();
                let began = Instant::now();
                let before = stat.as_ref().map(ThreadStat::processor_time);
                wait(began + LONG);
                let after = stat.as_ref().map(ThreadStat::processor_time);
                assert!(began.elapsed() >= LONG);
                Some(after? - before?)
            })
        })
        .collect();
    for thread in threads {
        match thread.join().unwrap() {
            Some(used) => assert!(used < LONG / 3, "{used:?} of {LONG:?}"),
            None => println!("this system does not tell how much processor time a thread uses"),
        }
    }
}

/// Waits until then with this consumer, which has nothing to read.
fn wait_for_nothing(mut consumer: Consumer<u64>, why: NotReady) -> WaitUntil {
    Box::new(move |deadline| {
        let read = consumer.next_batch_deadline(deadline).map(drop);
        assert_eq!(read, Err(why));
    })
}

fn parking_consumer(ring: &Ring<u64>, name: &str, after: &[&str]) -> Consumer<u64> {
    let builder = ring.consumer(name).after(after.iter().copied());
    builder.wait(Wait::Park).join().unwrap()
}

/// Neither where nothing else happens nor where others publish behind the hole, now and then, for each of
/// which it is woken.
#[test]
#[cfg_attr(
    miri,
    ignore = "Miri does not tell how much processor time a thread has used"
)]
fn c2_a_consumer_that_parks_at_a_hole_does_not_use_the_processor() {
    let mut waits = Vec::new();
    let mut holes = Vec::new();
    for publishes in [false, true] {
        let ring = parking_ring(64, Many);
        let reader = parking_consumer(&ring, "reader", &[]);
        let (mut stopped, mut other) = (feed(&ring), feed(&ring));
        std::mem::forget(stopped.claim(1).unwrap());
        publish(&mut other, 1);
        waits.push(wait_for_nothing(reader, NotReady::Idle));
        holes.push(stopped);
        if publishes {
            waits.push(Box::new(move |deadline| {
                while Instant::now() < deadline {
                    publish(&mut other, 1);
                    thread::sleep(LONG / 50);
                }
            }));
        } else {
            holes.push(other);
        }
    }
    cost_next_to_nothing(waits);
}

/// A chain, of which the first is busy with what is published, or waits itself.
#[test]
#[cfg_attr(
    miri,
    ignore = "Miri does not tell how much processor time a thread has used"
)]
fn c7_stages_behind_stages_that_park_do_not_use_the_processor() {
    let mut waits = Vec::new();
    let mut others = Vec::new();
    for kind in KINDS {
        for (published, why) in [(4, NotReady::Gated), (0, NotReady::Idle)] {
            let ring = parking_ring(4, kind);
            let first = consumer(&ring, "1");
            let chain = [("2", "1"), ("3", "2"), ("4", "3")];
            let stages = chain.map(|(name, after)| parking_consumer(&ring, name, &[after]));
            let mut feed = feed(&ring);
            publish(&mut feed, published);
            waits.extend(stages.map(|stage| wait_for_nothing(stage, why)));
            others.push((first, feed));
        }
    }
    cost_next_to_nothing(waits);
}

/// One thread, for rings in which nothing happens, and for one with a hole.
#[test]
#[cfg_attr(
    miri,
    ignore = "Miri does not tell how much processor time a thread has used"
)]
fn c2_one_that_parks_for_several_does_not_use_the_processor() {
    let mut waits: Vec<WaitUntil> = Vec::new();
    let mut others = Vec::new();
    for kind in KINDS {
        let rings = [kind, Many].map(|kind| parking_ring(4, kind));
        let mut idle = consumer(&rings[0], "idle");
        let mut behind = consumer(&rings[1], "behind");
        let [mut stopped, mut other] = [(); 2].map(|()| feed(&rings[1]));
        std::mem::forget(stopped.claim(1).unwrap());
        publish(&mut other, 1);
        others.push((rings, stopped, other));
        waits.push(Box::new(move |deadline| {
            let ready = wait_any_deadline(&mut [&mut idle, &mut behind], Wait::Park, deadline);
            assert_eq!(ready, Ok(None));
        }));
    }
    cost_next_to_nothing(waits);
}

/// More than there are cores, on a ring that is full or lacks a consumer.
#[test]
#[cfg_attr(
    miri,
    ignore = "Miri does not tell how much processor time a thread has used"
)]
fn c14_producers_that_park_do_not_use_the_processor() {
    let mut waits: Vec<WaitUntil> = Vec::new();
    let mut others = Vec::new();
    for (kind, producers) in [(Producers::One, 1), (Many, 6)] {
        let full = parking_ring(2, kind);
        others.push(consumer(&full, "reader"));
        let builder = Ring::builder(2).producers(kind).require_consumers(1);
        let lacking = builder.parking().build(|| 0_u64).unwrap();
        for (ring, published) in [(full, 2), (lacking, 0)] {
            let mut feeds: Vec<_> = (0..producers)
                .map(|_| with_wait(feed(&ring), Wait::Park))
                .collect();
            publish(&mut feeds[0], published);
            waits.extend(feeds.into_iter().map(|mut feed| -> WaitUntil {
                Box::new(move |deadline| {
                    let refused = feed.publish_deadline(deadline, |_| unreachable!());
                    assert!(refused.is_err());
                })
            }));
        }
    }
    cost_next_to_nothing(waits);
}

// ---------------------------------------------------------------------------------------------
// Wake-ups
// ---------------------------------------------------------------------------------------------

/// Lets some time pass: up to a few times what a member polls for before it parks, so that what it waits
/// for comes before, while, and after it goes to sleep.
fn dawdle(random: &mut Random) {
    for _ in 0..random.below(rounds(400, 8)) {
        spin_loop();
    }
}

/// The next event, which has to come.
fn next(consumer: &mut Consumer<u64>) -> u64 {
    let mut batch = consumer.next_batch_deadline(in_a_minute()).unwrap();
    let event = batch[0];
    batch.release(1);
    batch.give_back();
    event
}

/// Two threads, each of which waits for the other in turn: one wake-up missed, and both wait for a minute.
#[test]
fn c6_no_wake_up_is_missed_between_two_that_wait_for_each_other() {
    const ROUNDS: u64 = rounds(4_000, 20);
    for kind in KINDS {
        let [there, back] = [(); 2].map(|()| parking_ring(4, kind));
        let mut asked = parking_consumer(&there, "asked", &[]);
        let mut answered = parking_consumer(&back, "answered", &[]);
        let (mut ask, mut answer) = (feed(&there), feed(&back));
        let answering = thread::spawn(move || {
            let mut random = Random(1);
            for _ in 0..ROUNDS {
                let question = next(&mut asked);
                dawdle(&mut random);
                answer.publish_value(question + 1).unwrap();
            }
        });
        let mut random = Random(2);
        for question in 0..ROUNDS {
            dawdle(&mut random);
            ask.publish_value(question).unwrap();
            assert_eq!(next(&mut answered), question + 1);
        }
        answering.join().unwrap();
    }
}

/// On a ring of one slot each hand-over has two wake-ups: of the consumer, and of the producer that
/// waits at the gate.
#[test]
fn c6_no_wake_up_is_missed_at_the_gate() {
    const EVENTS: u64 = rounds(4_000, 20);
    for layout in LAYOUTS {
        for kind in KINDS {
            let builder = Ring::builder(1).producers(kind).layout(layout);
            let ring = builder.parking().build(|| 0).unwrap();
            let mut reader = parking_consumer(&ring, "reader", &[]);
            let mut feed = with_wait(feed(&ring), Wait::Park);
            let feeding = thread::spawn(move || {
                let mut random = Random(1);
                for event in 0..EVENTS {
                    dawdle(&mut random);
                    feed.publish_deadline(in_a_minute(), |slot| *slot = event)
                        .unwrap();
                }
            });
            let mut random = Random(2);
            for event in 0..EVENTS {
                assert_eq!(next(&mut reader), event);
                dawdle(&mut random);
            }
            feeding.join().unwrap();
        }
    }
}

/// Each member of the chain waits for another one, and the producers for the last of all.
#[test]
fn c6_no_wake_up_is_missed_along_a_chain() {
    const EVENTS_EACH: u64 = rounds(1_000, 20);
    for (kind, producers) in [(Producers::One, 1), (Many, 3)] {
        let ring = parking_ring(2, kind);
        let chain: [(_, &[_], _); 3] = [("1", &[], 1), ("2", &["1"], 2), ("3", &["2"], 3)];
        let readers = chain.map(|(name, after, seed)| {
            let mut reader = parking_consumer(&ring, name, after);
            thread::spawn(move || {
                let mut random = Random(seed);
                let mut sum = 0;
                handle_all(&mut reader, |_, event, _| {
                    sum += event;
                    dawdle(&mut random);
                });
                sum
            })
        });
        let feeds = Vec::from_iter((0..producers).map(|_| with_wait(feed(&ring), Wait::Park)));
        let feeding = feeds.into_iter().map(|mut feed| {
            thread::spawn(move || {
                for event in 0..EVENTS_EACH {
                    feed.publish_deadline(in_a_minute(), |slot| *slot = event)
                        .unwrap();
                }
            })
        });
        let feeding: Vec<_> = feeding.collect();
        let sum = producers * EVENTS_EACH * (EVENTS_EACH - 1) / 2;
        feeding.into_iter().for_each(|feed| feed.join().unwrap());
        for reader in readers {
            assert_eq!(reader.join().unwrap(), sum);
        }
    }
}

/// By turns the claim before each event is dropped, and leaked by a producer that then leaves.
#[test]
fn c6_no_wake_up_is_missed_when_claims_are_given_up() {
    const ROUNDS: u64 = rounds(2_000, 20);
    let ring = parking_ring(2, Many);
    let mut reader = parking_consumer(&ring, "reader", &[]);
    let reading = thread::spawn(move || {
        for event in 0..ROUNDS {
            assert_eq!(next(&mut reader), event);
        }
        reader.skipped()
    });
    let publish = |mut feed: Feed<u64>, event| {
        thread::spawn(move || {
            feed.publish_deadline(in_a_minute(), |slot| *slot = event)
                .unwrap();
            feed
        })
    };
    let mut publishes = with_wait(feed(&ring), Wait::Park);
    let mut random = Random(3);
    for event in 0..ROUNDS {
        let mut gives_up = with_wait(feed(&ring), Wait::Park);
        let claim = gives_up.claim_deadline(1, in_a_minute()).unwrap();
        let publishing = if event % 2 == 0 {
            let publishing = publish(publishes, event);
            dawdle(&mut random);
            drop(claim);
            publishing
        } else {
            std::mem::forget(claim);
            let publishing = publish(publishes, event);
            dawdle(&mut random);
            drop(gives_up);
            publishing
        };
        publishes = publishing.join().unwrap();
    }
    assert_eq!(reading.join().unwrap(), ROUNDS);
}

/// Producers, three times more than there are cores, all of which wait most of the time.
#[test]
fn c14_many_producers_on_a_full_ring_make_progress() {
    const EVENTS_EACH: u64 = rounds(300, 20);
    let producers =
        3 * thread::available_parallelism().map_or(2, |cores| cores.get().min(16)) as u64;
    let nap = Wait::default();
    // Not by spinning: as many threads would take turns by the clock.
    for wait in [Wait::Yield, Wait::Backoff, nap, Wait::Park] {
        println!("{wait:?}"); // Shown if the test fails.
        let builder = Ring::builder(2).producers(Many).members(64).parking();
        let ring = builder.build(|| (0, 0)).unwrap();
        let mut reader = ring.consumer("reader").wait(wait).join().unwrap();
        let feeds = Vec::from_iter((0..producers).map(|_| with_wait(feed(&ring), wait)));
        let feeding = feeds.into_iter().zip(0..).map(|(mut feed, producer)| {
            thread::spawn(move || {
                for number in 0..EVENTS_EACH {
                    let event = (producer, number);
                    feed.publish_deadline(in_a_minute(), |slot| *slot = event)
                        .unwrap();
                }
            })
        });
        let feeding: Vec<_> = feeding.collect();
        let mut next_of = vec![0; producers as usize];
        handle_all(&mut reader, |_, &(producer, number), _| {
            let next: &mut u64 = &mut next_of[producer as usize];
            assert_eq!(number, *next);
            *next += 1;
        });
        assert_eq!(next_of, vec![EVENTS_EACH; producers as usize]);
        feeding.into_iter().for_each(|feed| feed.join().unwrap());
    }
}

//! Feeding: what a producer does when the ring is full, and what it counts and hears.

use std::thread;
use std::time::{Duration, Instant};

use annulus::ring::{ClaimError, ProducerError, Producers, Ring, Wait};
use annulus::{Feed, FeedError, FoldedFeeds, Overflow, Pipeline, Running, Stage};

use crate::{
    A_MINUTE, Gate, KINDS, Log, counts, ended, gated, logging, publish, publish_batch, ring, start,
};

/// A pipeline whose ring of 4 is full until the gate is opened, with a feed.
struct Full {
    gate: Gate,
    log: Log<u64>,
    running: Running<u64>,
    feed: Feed<u64>,
}

fn full(kind: Producers, overflow: Overflow) -> Full {
    println!("{kind:?}, {overflow:?}"); // Shown if the test fails.
    let (gate, log) = (Gate::default(), Log::new());
    let running = start(&ring(4, kind), [gated("a", &gate, &log)]);
    let mut feed = running.feed(overflow).unwrap();
    publish(&mut feed, 0..4);
    Full {
        gate,
        log,
        running,
        feed,
    }
}

impl Full {
    /// Publishes as soon as there is room, and returns the events that were handled in all.
    fn finish(mut self) -> Vec<u64> {
        self.gate.open();
        crate::until("there is room", || self.feed.producer().free() == Ok(4));
        publish_batch(&mut self.feed, 10..13);
        drop(self.feed);
        let report = ended(self.running.stop(A_MINUTE));
        assert_eq!(report.published, report.stages[0].handled);
        self.log.take()
    }
}

#[test]
fn a_full_ring_is_waited_for() {
    for kind in KINDS {
        let Full {
            gate,
            log,
            running,
            mut feed,
        } = full(kind, Overflow::Wait);
        let published = thread::spawn(move || {
            let one = feed.publish(|slot| *slot = 4).unwrap();
            let two = feed.publish_batch(2, |slots| slots.zip(5..).for_each(|(s, e)| *s = e));
            (one, two.unwrap(), feed.dropped())
        });
        gate.wait_for_somebody();
        assert!(!published.is_finished());
        gate.open();
        assert_eq!(published.join().unwrap(), (Some(4), Some(5), 0));
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(log.take(), Vec::from_iter(0..7));
        assert_eq!(counts(&report.stages[0]), [7, 0, 0, 0]);
        assert_eq!(report.feeds.len(), 1);
        assert_eq!(report.feeds[0].dropped, 0);
    }
}

#[test]
fn a12_a_full_ring_is_waited_for_so_long_and_not_shorter() {
    const TIME: Duration = Duration::from_millis(5);
    for kind in KINDS {
        let mut full = full(kind, Overflow::WaitFor(TIME));
        for n in [1, 3] {
            let began = Instant::now();
            let error = match n {
                1 => full.feed.publish(|_| unreachable!()),
                n => full.feed.publish_batch(n, |_| unreachable!()),
            };
            let error = error.unwrap_err();
            assert!(began.elapsed() >= TIME);
            assert!(matches!(error, FeedError::Full { free: 0 }));
            let expected =
                "the ring is full (free slots: 0): wait for its consumers, or claim fewer";
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(full.feed.waits().waited, 2);
        let metrics = full.running.report().feeds[0];
        assert_eq!((metrics.dropped, metrics.waits, metrics.parks), (0, 2, 0));
        assert_eq!(full.finish(), [0, 1, 2, 3, 10, 11, 12]);
    }
}

/// Longer than the clock reaches.
#[test]
fn a_full_ring_can_be_waited_for_almost_for_ever() {
    for kind in KINDS {
        let mut full = full(kind, Overflow::WaitFor(Duration::MAX));
        full.gate.open();
        assert_eq!(full.feed.publish(|slot| *slot = 4).unwrap(), Some(4));
        assert_eq!(full.finish(), [0, 1, 2, 3, 4, 10, 11, 12]);
    }
}

#[test]
fn a_full_ring_is_an_error() {
    for kind in KINDS {
        let mut full = full(kind, Overflow::Fail);
        let error = full.feed.publish(|_| unreachable!()).unwrap_err();
        assert!(matches!(error, FeedError::Full { free: 0 }));
        let error = full.feed.publish_batch(2, |_| unreachable!()).unwrap_err();
        assert!(matches!(error, FeedError::Full { free: 0 }));
        let metrics = full.running.report().feeds[0];
        assert_eq!((metrics.dropped, metrics.waits, metrics.parks), (0, 0, 0));
        assert_eq!(full.finish(), [0, 1, 2, 3, 10, 11, 12]);
    }
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    for kind in KINDS {
        let mut full = full(kind, Overflow::DropNewest);
        assert_eq!(full.feed.publish(|_| unreachable!()).unwrap(), None);
        let batch = full.feed.publish_batch(3, |_| unreachable!());
        assert_eq!(batch.unwrap(), None);
        assert_eq!(full.feed.dropped(), 4);
        let metrics = full.running.report().feeds[0];
        assert_eq!((metrics.dropped, metrics.waits, metrics.parks), (4, 0, 0));
        assert_eq!(full.finish(), [0, 1, 2, 3, 10, 11, 12]);
    }
}

#[test]
fn b3_the_shortfall_is_exact_and_what_fits_exactly_is_published() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let running = start(&ring(4, kind), [gated("a", &gate, &log)]);
        let mut feed = running.feed(Overflow::Fail).unwrap();
        publish(&mut feed, 0..1);
        let error = feed.publish_batch(4, |_| unreachable!()).unwrap_err();
        assert!(matches!(error, FeedError::Full { free: 3 }));
        publish_batch(&mut feed, 1..4);
        drop(feed);
        gate.open();
        ended(running.stop(A_MINUTE));
        assert_eq!(log.take(), [0, 1, 2, 3]);
    }
}

#[test]
fn a17_c20_a_batch_longer_than_the_ring_is_an_error_and_one_of_none_nothing() {
    for kind in KINDS {
        for overflow in [
            Overflow::Wait,
            Overflow::WaitFor(A_MINUTE),
            Overflow::Fail,
            Overflow::DropNewest,
        ] {
            let running = start(&ring(4, kind), [logging("a", &Log::new())]);
            let mut feed = running.feed(overflow).unwrap();
            let error = feed.publish_batch(5, |_| unreachable!()).unwrap_err();
            let too_long = ClaimError::TooLong {
                requested: 5,
                capacity: 4,
            };
            assert!(matches!(&error, FeedError::Claim(error) if *error == too_long));
            assert_eq!(error.to_string(), too_long.to_string());
            let none = feed.publish_batch(0, |slots| assert_eq!(slots.count(), 0));
            assert!(none.is_ok(), "{none:?}");
            assert_eq!(feed.dropped(), 0);
            drop(feed);
            let report = ended(running.stop(A_MINUTE));
            assert_eq!(report.published, 0);
        }
    }
}

#[test]
fn a_ring_has_one_producer_or_many_feeds_each_with_its_own_policy_and_counts() {
    let (gate, log) = (Gate::default(), Log::new());
    let one = start(&ring(4, Producers::One), [logging("a", &Log::new())]);
    let _only = one.feed(Overflow::Wait).unwrap();
    let error = one.feed(Overflow::Wait).unwrap_err();
    assert!(
        matches!(error, FeedError::Join(ProducerError::Taken)),
        "{error:?}"
    );
    assert_eq!(one.report().feeds.len(), 1);
    drop(_only);
    ended(one.stop(A_MINUTE));

    let many = start(&ring(4, Producers::Many), [gated("a", &gate, &log)]);
    let mut feeds = [Overflow::Fail, Overflow::DropNewest, Overflow::DropNewest]
        .map(|overflow| many.feed(overflow).unwrap());
    for (feed, n) in feeds.iter_mut().zip([0..2, 2..3, 3..4]) {
        publish(feed, n);
    }
    let [fails, drops, drops_more] = &mut feeds;
    assert!(fails.publish(|_| unreachable!()).is_err());
    assert_eq!(drops.publish(|_| unreachable!()).unwrap(), None);
    let batch = drops_more.publish_batch(2, |_| unreachable!());
    assert_eq!(batch.unwrap(), None);
    drop(feeds);
    gate.open();
    let report = ended(many.stop(A_MINUTE));
    let dropped: Vec<_> = report.feeds.iter().map(|feed| feed.dropped).collect();
    assert_eq!(dropped, [0, 1, 2]);
    assert_eq!(log.take(), [0, 1, 2, 3]);
}

#[test]
fn a_feed_waits_as_it_is_told() {
    for kind in KINDS {
        let ring = Ring::builder(2).producers(kind).parking();
        let ring = ring.build(u64::default).unwrap();
        let (gate, log) = (Gate::default(), Log::new());
        let stage = gated("a", &gate, &log).wait(Wait::Park);
        let running = Pipeline::on(&ring).stage(stage).start().unwrap();
        let feed = running.feed(Overflow::WaitFor(Duration::from_millis(1)));
        let mut feed = feed.unwrap().with_wait(Wait::Park).unwrap();
        publish(&mut feed, 0..2);
        assert!(feed.publish(|_| unreachable!()).is_err());
        let waits = feed.waits();
        assert_eq!(waits.waited, 1);
        assert!(waits.parked >= 1);
        let metrics = running.report().feeds[0];
        assert_eq!((metrics.waits, metrics.parks), (waits.waited, waits.parked));
        gate.open();
        drop(feed);
        ended(running.stop(A_MINUTE));

        let running = start(&crate::ring(2, kind), [logging("a", &Log::new())]);
        let feed = running.feed(Overflow::Wait).unwrap();
        let error = feed.with_wait(Wait::Park).unwrap_err();
        assert!(matches!(error, ProducerError::NoParking), "{error:?}");
    }
}

#[test]
fn c10_a_producer_that_waits_hears_of_a_stop() {
    for kind in KINDS {
        let Full {
            gate,
            running,
            mut feed,
            ..
        } = full(kind, Overflow::Wait);
        let waits = thread::spawn(move || feed.publish(|_| unreachable!()).unwrap_err());
        gate.wait_for_somebody();
        let stopped = running.stop(Duration::ZERO).unwrap_err(); // The handler is stuck.
        ended(Err(stopped));
        assert!(matches!(waits.join().unwrap(), FeedError::Stopped));
        gate.open();
        ended(running.join());
    }
}

/// The consumers of a ring that requires some are its stages.
#[test]
fn a_feed_waits_until_as_many_stages_are_there_as_the_ring_requires() {
    for kind in KINDS {
        let ring = Ring::builder(4).producers(kind).require_consumers(2);
        let ring = ring.build(u64::default).unwrap();
        let stage = |name| Stage::each(name, |_: &u64, _| ());
        let first = Pipeline::on(&ring).stage(stage("a")).start().unwrap();
        let mut fails = first.feed(Overflow::Fail).unwrap();
        let error = fails.publish(|_| unreachable!()).unwrap_err();
        assert!(matches!(
            error,
            FeedError::Claim(ClaimError::TooFewConsumers { .. })
        ));
        let second = Pipeline::on(&ring).stage(stage("b")).start().unwrap();
        publish(&mut fails, 0..1);
        drop(fails);
        for running in [first, second] {
            let report = ended(running.stop(A_MINUTE));
            assert_eq!(counts(&report.stages[0]), [1, 0, 0, 0]);
        }
    }
}

#[test]
fn c16_a_panic_while_an_event_is_written_publishes_nothing_and_wedges_nobody() {
    for kind in KINDS {
        let log = Log::new();
        let running = start(&ring(4, kind), [logging("a", &log)]);
        let mut feed = running.feed(Overflow::Wait).unwrap();
        publish(&mut feed, 0..1);
        for n in [1, 2] {
            let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match n {
                1 => feed.publish(|_| panic!("oh no")),
                n => feed.publish_batch(n, |_| panic!("oh no")),
            }));
            assert!(panics.is_err());
        }
        publish(&mut feed, 1..8);
        drop(feed);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(log.take(), Vec::from_iter(0..8));
        let skipped = report.published - 8;
        assert_eq!(counts(&report.stages[0]), [8, skipped, 0, 0]);
    }
}

/// Who published it, and its number.
type Line = String;

#[test]
fn b6_b11_events_of_many_producers_come_once_and_in_order_to_every_stage() {
    const EACH: usize = 2000;
    let ring = Ring::builder(64).producers(Producers::Many);
    let ring = ring.build(Line::new).unwrap();
    let seen = [(); 3].map(|()| Log::new());
    let [first, beside, last] = seen.each_ref().map(|log| {
        let (log, mut next) = (log.clone(), 0);
        move |line: &Line, at: annulus::At| {
            assert_eq!(at.sequence, next);
            next += 1;
            log.push(line.clone());
        }
    });
    let running = Pipeline::on(&ring)
        .stage(Stage::each("first", first))
        .stage(Stage::each("beside", beside))
        .stage(Stage::each("last", last).after(["first", "beside"]))
        .start()
        .unwrap();
    let feeds = ["a", "b", "c"].map(|name| (name, running.feed(Overflow::Wait).unwrap()));
    thread::scope(|scope| {
        for (name, mut feed) in feeds {
            scope.spawn(move || {
                for n in 0..EACH {
                    feed.publish(|line| *line = format!("{name}{n}")).unwrap();
                }
            });
        }
    });
    let report = ended(running.stop(A_MINUTE));
    assert!((report.stages.iter()).all(|stage| counts(stage) == [3 * EACH as u64, 0, 0, 0]));
    let [first, beside, last] = seen.map(|log| log.take());
    assert!(first == beside && beside == last);
    for name in ["a", "b", "c"] {
        let of_one = first.iter().filter(|line| line.starts_with(name));
        assert!(
            of_one.eq((0..EACH)
                .map(|n| format!("{name}{n}"))
                .collect::<Vec<_>>()
                .iter())
        );
    }
}

/// It waited for itself, until the stop and longer.
#[test]
fn c32_a_handler_that_publishes_into_its_own_full_ring_is_told_and_does_not_hang() {
    let ring = ring(8, Producers::Many);
    let mut out = ring.shared_producer().unwrap();
    let answers = Stage::each("answers", move |event: &u64, _| {
        if *event < 100 {
            out.publish_value(event + 100)
                .map_err(|rejected| rejected.cause)?;
            out.publish_value(event + 200)
                .map_err(|rejected| rejected.cause)?;
        }
        Ok::<_, ClaimError>(())
    });
    let running = start(&ring, [answers]);
    let mut feed = running.feed(Overflow::WaitFor(A_MINUTE)).unwrap();
    let error = (0..50).find_map(|event| feed.publish(|slot| *slot = event).err());
    let error = error.expect("each event makes two more");
    let FeedError::Failed(failure) = &error else {
        panic!("{error}");
    };
    assert!(
        failure
            .to_string()
            .contains("and that one is this thread's"),
        "{failure}"
    );
    assert!(running.join().is_err());
}

/// Their counts stayed in the report for ever, one by one.
#[test]
fn c33_what_many_short_lived_feeds_have_counted_is_folded() {
    const FEEDS: u64 = 1_000;
    let gate = Gate::default();
    let log = Log::new();
    let running = start(&ring(2, Producers::Many), [gated("a", &gate, &log)]);
    let mut first = running.feed(Overflow::Wait).unwrap();
    publish(&mut first, 0..2);
    for _ in 0..FEEDS {
        let mut feed = running.feed(Overflow::DropNewest).unwrap();
        assert_eq!(feed.publish(|_| unreachable!()).unwrap(), None);
    }
    let told = running.feeds();
    assert_eq!(told.len(), 64);
    assert_eq!(told[0].dropped, 0, "it is there");
    gate.open();
    drop(first);
    let report = ended(running.stop(A_MINUTE));
    assert_eq!(report.feeds, told);
    let FoldedFeeds { feeds, metrics, .. } = report.folded_feeds;
    assert_eq!((feeds, metrics.dropped), (FEEDS - 63, FEEDS - 63));
}

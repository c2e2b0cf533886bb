//! Handling: what a handler is given, in which order, on which thread, and what it hands on.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use annulus::ring::Sequence;
use annulus::{
    At, Ended, Events, EventsMut, Feed, Handler, HandlerError, HandlerMut, Idle, Overflow,
    Pipeline, Stage,
};

use crate::{
    A_MINUTE, Gate, How, KINDS, Log, counts, ended, feed, gated, logging, publish, publish_batch,
    ring, run, start, until,
};

/// Logs all calls but those of `on_idle`.
struct Calls {
    name: &'static str,
    log: Log<String>,
}

impl Handler<u64> for Calls {
    fn on_start(&mut self, stage: &str) -> Result<(), HandlerError> {
        self.log.push(format!("{} starts {stage}", self.name));
        Ok(())
    }

    fn on_event(&mut self, event: &u64, at: At) -> Result<(), HandlerError> {
        (self.log).push(format!("{} has {event} at {}", self.name, at.sequence));
        Ok(())
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.log.push(format!("{} stops", self.name));
        Ok(())
    }
}

#[test]
fn a1_several_handlers_behind_one_stage_see_start_events_and_stop_in_order() {
    let expected = [
        "x starts a",
        "y starts a",
        "x has 10 at 0",
        "y has 10 at 0",
        "x has 11 at 1",
        "y has 11 at 1",
        "x stops",
        "y stops",
    ];
    for kind in KINDS {
        let log = Log::new();
        let both = ["x", "y"].map(|name| Calls {
            name,
            log: log.clone(),
        });
        let running = start(&ring(8, kind), [Stage::new("a", Vec::from(both))]);
        publish(&mut feed(&running), 10..12);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(log.take(), expected);
        assert_eq!(counts(&report.stages[0]), [2, 0, 0, 0]);
    }
}

/// Also if they are of different types.
#[test]
fn a1_handlers_in_boxes_are_handlers() {
    struct Other(Log<String>);
    impl Handler<u64> for Other {
        fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
            self.0.push(format!("a batch of {}", events.len()));
            Ok(())
        }

        fn on_event(&mut self, event: &u64, _: At) -> Result<(), HandlerError> {
            self.0.push(format!("just {event}"));
            Ok(())
        }
    }
    for kind in KINDS {
        let log = Log::new();
        let calls = Calls {
            name: "x",
            log: log.clone(),
        };
        let both: Vec<Box<dyn Handler<u64> + Send>> =
            vec![Box::new(calls), Box::new(Other(log.clone()))];
        run(kind, 1, [Stage::new("a", both)]).unwrap();
        let expected = ["x starts a", "x has 0 at 0", "just 0", "x stops"];
        assert_eq!(log.take(), expected);

        let alone: Box<dyn Handler<u64> + Send> = Box::new(Other(log.clone()));
        run(kind, 3, [Stage::new("a", alone)]).unwrap();
        assert_eq!(log.take(), ["a batch of 3"]);
    }
}

struct FailsToStop(How, Log<()>);

impl Handler<u64> for FailsToStop {
    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Ok(())
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.1.push(());
        self.0.fail()
    }
}

#[test]
fn a1_a11_all_handlers_behind_one_stage_are_stopped_though_one_fails() {
    let log = Log::new();
    let all = [(); 3].map(|()| FailsToStop(How::Error, log.clone()));
    let report = run(KINDS[0], 1, [Stage::new("a", Vec::from(all))]).unwrap();
    assert_eq!((log.len(), report.failures.len()), (3, 1));
}

#[test]
fn a1_a11_all_handlers_behind_one_stage_are_stopped_though_one_panics() {
    let log = Log::new();
    let all = [(); 3].map(|()| FailsToStop(How::Panic, log.clone()));
    let report = run(KINDS[0], 1, [Stage::new("a", Vec::from(all))]).unwrap();
    assert_eq!((log.len(), report.failures.len()), (3, 1));
}

#[test]
fn a2_events_published_before_the_thread_of_a_stage_begins_are_handled() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let late = {
            let (gate, log) = (gate.clone(), log.clone());
            Stage::with("late", move || {
                gate.pass();
                Calls { name: "x", log }
            })
        };
        let running = start(&ring(4, kind), [late]);
        publish(&mut feed(&running), 0..4);
        assert_eq!(log.len(), 0);
        gate.open();
        ended(running.stop(A_MINUTE));
        let expected = [
            "x starts late",
            "x has 0 at 0",
            "x has 1 at 1",
            "x has 2 at 2",
            "x has 3 at 3",
            "x stops",
        ];
        assert_eq!(log.take(), expected);
    }
}

/// A stage that begins when the gate is opened, and logs where each event stands.
fn late(gate: &Gate, log: &Log<At>) -> Stage<u64> {
    struct Where(Log<At>);
    impl Handler<u64> for Where {
        fn on_event(&mut self, _: &u64, at: At) -> Result<(), HandlerError> {
            assert_eq!(at.is_last(), at.left == 0);
            self.0.push(at);
            Ok(())
        }
    }
    let (gate, log) = (gate.clone(), log.clone());
    Stage::with("late", move || {
        gate.pass();
        Where(log)
    })
}

/// Sequence, events left, batch and backlog of each.
fn places(log: &Log<At>) -> Vec<(Sequence, usize, usize, usize)> {
    let places = log.take().into_iter();
    let places = places.map(|at| (at.sequence, at.left, at.batch, at.backlog));
    places.collect()
}

#[test]
fn a13_batches_are_as_long_as_their_limit_and_know_of_their_backlog() {
    for kind in KINDS {
        for (limit, expected) in [
            (
                3,
                [
                    (0, 2, 3, 5),
                    (1, 1, 3, 5),
                    (2, 0, 3, 5),
                    (3, 1, 2, 2),
                    (4, 0, 2, 2),
                ],
            ),
            (
                5,
                [
                    (0, 4, 5, 5),
                    (1, 3, 5, 5),
                    (2, 2, 5, 5),
                    (3, 1, 5, 5),
                    (4, 0, 5, 5),
                ],
            ),
            (
                1,
                [
                    (0, 0, 1, 5),
                    (1, 0, 1, 4),
                    (2, 0, 1, 3),
                    (3, 0, 1, 2),
                    (4, 0, 1, 1),
                ],
            ),
        ] {
            let (gate, log) = (Gate::default(), Log::new());
            let stage = late(&gate, &log).batch_limit(limit);
            let running = start(&ring(8, kind), [stage]);
            publish(&mut feed(&running), 0..5);
            gate.open();
            let report = ended(running.stop(A_MINUTE));
            assert_eq!(places(&log), expected);
            let metrics = &report.stages[0].metrics;
            assert_eq!(metrics.batches, 5_u64.div_ceil(limit as u64));
            assert_eq!(metrics.batch_sizes.max(), limit as u64);
            assert_eq!(metrics.batch_sizes.sum(), 5);
        }
    }
}

#[test]
fn a2_announced_batch_sizes_are_exact_though_the_handler_publishes_during_the_batch() {
    for kind in KINDS {
        let (log, seen) = (Log::new(), Log::new());
        let (lend, lent) = mpsc::channel::<Feed<u64>>();
        let mut feed = None;
        let echo = {
            let (log, seen) = (log.clone(), seen.clone());
            Stage::each("echo", move |event: &u64, at| {
                log.push(at);
                seen.push(*event);
                let feed = feed.get_or_insert_with(|| lent.recv_timeout(A_MINUTE).ok());
                match (*event, &mut *feed) {
                    (0..4, Some(feed)) => publish(feed, event + 4..event + 5),
                    (7, feed) => *feed = None, // The last producer.
                    _ => {}
                }
            })
        };
        let running = start(&ring(8, kind), [echo]);
        let mut feed = crate::feed(&running);
        publish_batch(&mut feed, 0..4);
        lend.send(feed).unwrap();
        ended(running.join());
        assert_eq!(seen.take(), Vec::from_iter(0..8));
        let expected: Vec<_> = (0..8)
            .map(|sequence| (sequence, 3 - sequence as usize % 4, 4, 4))
            .collect();
        assert_eq!(places(&log), expected);
    }
}

/// Counts only, and waits for nobody: the order is that of the counters.
#[test]
fn a19_a27_a_stage_sees_an_event_only_after_all_that_it_comes_after() {
    for kind in KINDS {
        for capacity in [1, 2, 64] {
            let [journal, book, risk] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
            let counting = |name, count: &Arc<AtomicU64>, before: Vec<Arc<AtomicU64>>| {
                let count = count.clone();
                Stage::each(name, move |event: &u64, at| {
                    assert_eq!(*event, at.sequence);
                    for before in &before {
                        assert!(before.load(Ordering::Relaxed) > *event);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                })
            };
            let stages = [
                counting(
                    "reply",
                    &Arc::default(),
                    vec![journal.clone(), risk.clone()],
                )
                .after(["journal", "risk"]),
                counting("risk", &risk, vec![journal.clone(), book.clone()])
                    .after(["journal", "book"]),
                counting("journal", &journal, vec![]),
                counting("book", &book, vec![]),
            ];
            let running = start(&ring(capacity, kind), stages);
            publish(&mut feed(&running), 0..1000);
            let report = running.stop(A_MINUTE).unwrap();
            assert!(report.stages.iter().all(|stage| stage.handled == 1000));
        }
    }
}

#[test]
fn a27_producers_wait_until_all_stages_advance() {
    for kind in KINDS {
        let gates = [Gate::default(), Gate::default(), Gate::default()];
        let log = Log::new();
        let [a, b, c] = &gates;
        let stages = [
            gated("a", a, &log),
            gated("b", b, &log),
            gated("c", c, &log).after(["a", "b"]),
        ];
        let running = start(&ring(4, kind), stages);
        let mut feed = running.feed(Overflow::Fail).unwrap();
        publish(&mut feed, 0..4);
        for (gate, done) in gates.iter().zip([4, 8, 12]) {
            assert!(feed.publish(|_| unreachable!()).is_err());
            gate.open();
            until("one more stage is done", || log.len() == done);
        }
        until("the ring is free", || feed.producer().free() == Ok(4));
        publish(&mut feed, 4..8);
        drop(feed);
        running.stop(A_MINUTE).unwrap();
    }
}

/// It releases its first two events before it waits with the third.
#[test]
fn a21_an_early_release_lets_later_stages_and_producers_go_on_before_the_batch_ends() {
    struct ReleasesTwo(Gate);
    impl Handler<u64> for ReleasesTwo {
        fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
            assert_eq!((events.sequences(), events.len()), (0..4, 4));
            while let Some((_, at)) = events.next() {
                if at.sequence == 1 {
                    events.release();
                    assert_eq!((events.sequences(), events.len()), (2..4, 2));
                    self.0.pass();
                }
            }
            assert!(events.is_empty());
            Ok(())
        }

        fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
            unreachable!()
        }
    }
    impl HandlerMut<u64> for ReleasesTwo {
        fn on_batch(&mut self, events: &mut EventsMut<'_, u64>) -> Result<(), HandlerError> {
            while let Some((event, at)) = events.next() {
                *event += 10;
                if at.sequence == 1 {
                    events.release();
                    assert_eq!((events.sequences(), events.backlog()), (2..4, 4));
                    self.0.pass();
                }
            }
            Ok(())
        }

        fn on_event(&mut self, _: &mut u64, _: At) -> Result<(), HandlerError> {
            unreachable!()
        }
    }
    for kind in KINDS {
        for changes in [false, true] {
            let (gate, log) = (Gate::default(), Log::new());
            let first = ReleasesTwo(gate.clone());
            let first = match changes {
                true => Stage::new_mut("first", first),
                false => Stage::new("first", first),
            };
            let second = logging("second", &log).after(["first"]);
            let running = start(&ring(4, kind), [first, second]);
            let mut feed = feed(&running);
            publish_batch(&mut feed, 0..4);
            until("the second has two", || log.len() == 2);
            until("the producer has two", || feed.producer().free() == Ok(2));
            drop(feed);
            gate.open();
            let report = ended(running.stop(A_MINUTE));
            let expected = if changes { 10..14 } else { 0..4 };
            assert_eq!(log.take(), Vec::from_iter(expected));
            assert!(report.stages.iter().all(|stage| stage.handled == 4));
        }
    }
}

#[test]
fn what_one_stage_changes_the_next_finds() {
    for kind in KINDS {
        let (before, after) = (Log::new(), Log::new());
        let add = Stage::each_mut("add", |event: &mut u64, _| *event += 1);
        let double = Stage::each_mut("double", |event: &mut u64, at: At| {
            assert_eq!(*event, at.sequence + 1);
            *event *= 2;
        });
        let stages = [
            logging("after", &after).after(["double"]),
            double.after(["add"]),
            add.after(["before"]),
            logging("before", &before),
        ];
        let running = start(&ring(4, kind), stages);
        publish(&mut feed(&running), 0..100);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(before.take(), Vec::from_iter(0..100));
        let changed = (0..100).map(|event| (event + 1) * 2);
        assert_eq!(after.take(), Vec::from_iter(changed));
        assert!(report.stages.iter().all(|stage| stage.handled == 100));
    }
}

/// They all count as handled.
#[test]
fn events_that_a_handler_does_not_take_are_released_all_the_same() {
    struct TakesOne(Log<u64>);
    impl Handler<u64> for TakesOne {
        fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
            self.0.push(*events.next().unwrap().0);
            Ok(())
        }

        fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
            unreachable!()
        }
    }
    for kind in KINDS {
        let log = Log::new();
        let stages = [Stage::new("a", TakesOne(log.clone())).batch_limit(3)];
        let report = ended(run(kind, 8, stages));
        assert_eq!(log.take(), [0, 3, 6]);
        assert_eq!(counts(&report.stages[0]), [8, 0, 0, 0]);
    }
}

/// Each of the two takes every other event, and says at the end of a batch what it has so far.
#[test]
fn a3_the_end_of_a_batch_flushes_the_last_value() {
    const N: u64 = 10_000;
    for kind in KINDS {
        let flushed = [Log::new(), Log::new()];
        let stages = [0, 1].map(|stripe| {
            let log = flushed[stripe as usize].clone();
            let (mut open, mut since_slow) = (Vec::new(), 0);
            Stage::each(format!("stripe {stripe}"), move |event: &u64, at| {
                if event % 2 == stripe {
                    open.push(*event);
                }
                since_slow += 1;
                if since_slow == 100 {
                    since_slow = 0;
                    thread::yield_now();
                }
                if at.is_last() {
                    open.drain(..).for_each(|event| log.push(event));
                }
            })
        });
        let running = start(&ring(64, kind), stages);
        publish(&mut feed(&running), 0..N);
        running.stop(A_MINUTE).unwrap();
        for (stripe, log) in flushed.iter().enumerate() {
            let expected = (stripe as u64..N).step_by(2);
            assert_eq!(log.take(), Vec::from_iter(expected));
        }
    }
}

/// Where it is, and what it has in hand, is of one thread only.
struct NotSend {
    thread: thread::ThreadId,
    sum: Rc<Cell<u64>>,
    sums: Log<u64>,
}

impl NotSend {
    fn new(sums: Log<u64>) -> Self {
        Self {
            thread: thread::current().id(),
            sum: Rc::default(),
            sums,
        }
    }

    fn is_at_home(&self) {
        assert_eq!(thread::current().id(), self.thread);
        assert_eq!(thread::current().name(), Some("a long name, of which"));
    }
}

impl Handler<u64> for NotSend {
    fn on_start(&mut self, _: &str) -> Result<(), HandlerError> {
        self.is_at_home();
        Ok(())
    }

    fn on_event(&mut self, event: &u64, _: At) -> Result<(), HandlerError> {
        self.is_at_home();
        let sum = self.sum.clone();
        sum.set(sum.get() + event);
        Ok(())
    }

    fn on_idle(&mut self, _: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        self.is_at_home();
        Ok(())
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.is_at_home();
        self.sums.push(self.sum.get());
        Ok(())
    }
}

impl Drop for NotSend {
    fn drop(&mut self) {
        self.is_at_home();
    }
}

#[test]
fn b5_a_handler_that_is_not_send_lives_on_the_thread_of_its_name() {
    for kind in KINDS {
        let sums = Log::new();
        let of_stage = sums.clone();
        let stage = Stage::with("a long name, of which", || NotSend::new(of_stage));
        let report = run(kind, 5, [stage]).unwrap();
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(sums.take(), [1 + 2 + 3 + 4]);
    }
}

#[test]
fn b5_a_handler_of_one_ring_publishes_to_the_next() {
    for kind in KINDS {
        for next_kind in KINDS {
            let log = Log::new();
            let second = start(&ring(2, next_kind), [logging("second", &log)]);
            let mut feed = feed(&second);
            let relay = Stage::each("first", move |event: &u64, _| {
                feed.publish(|slot| *slot = event * 10).map(drop)
            });
            let first = start(&ring(4, kind), [relay]);
            publish(&mut crate::feed(&first), 0..100);
            // The end of the first drops the only producer of the second.
            for report in [first.join(), second.join()].map(ended) {
                assert_eq!(counts(&report.stages[0]), [100, 0, 0, 0]);
                assert!(matches!(report.stages[0].ended, Ended::Drained));
            }
            let expected = (0..100).map(|event| event * 10);
            assert_eq!(log.take(), Vec::from_iter(expected));
        }
    }
}

/// A claim that is given up is skipped if there are many producers, and otherwise never was.
#[test]
fn a_claim_that_is_given_up_is_counted_as_skipped() {
    for (kind, skipped) in KINDS.into_iter().zip([0, 2]) {
        let log = Log::new();
        let ring = ring(8, kind);
        let running = Pipeline::on(&ring).stage(logging("a", &log));
        let running = running.start().unwrap();
        let mut feed = feed(&running);
        publish(&mut feed, 0..2);
        drop(feed.producer().claim(2).unwrap());
        publish(&mut feed, 2..4);
        drop(feed);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(log.take(), [0, 1, 2, 3]);
        assert_eq!(report.published, 4 + skipped);
        assert_eq!(counts(&report.stages[0]), [4, skipped, 0, 0]);
    }
}

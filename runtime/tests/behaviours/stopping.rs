//! Stopping: by a close, an abort, a deadline, a drop; early, late, often, from everywhere; and what the report
//! says then.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use annulus::ring::{ClaimError, JoinError, Ring, Wait};
use annulus::{
    At, Ended, FeedError, Handler, HandlerError, OnFailure, Pipeline, Running, Stage, StartError,
    Verdict, Warning,
};

use crate::{
    A_MINUTE, Gate, KINDS, Log, counts, ended, feed, gated, logging, publish, publish_batch, ring,
    start, until,
};

/// Logs its start, its events, and its stop.
struct Lives(Log<Option<u64>>);

impl Handler<u64> for Lives {
    fn on_start(&mut self, _: &str) -> Result<(), HandlerError> {
        self.0.push(None);
        Ok(())
    }

    fn on_event(&mut self, event: &u64, _: At) -> Result<(), HandlerError> {
        self.0.push(Some(*event));
        Ok(())
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.0.push(None);
        Ok(())
    }
}

fn is_poisoned(ring: &Ring<u64>) -> bool {
    ring.snapshot().poisoned.is_some()
}

#[test]
fn a2_a11_a_stop_before_the_threads_run_still_runs_on_start_and_on_stop() {
    for kind in KINDS {
        for aborts in [false, true] {
            let (gate, log) = (Gate::default(), Log::new());
            let stage = {
                let (gate, log) = (gate.clone(), log.clone());
                Stage::with("a", move || {
                    gate.pass();
                    Lives(log)
                })
            };
            let running = start(&ring(8, kind), [stage]);
            if aborts {
                let stopped = running.abort().unwrap_err();
                assert!(matches!(stopped.report.stages[0].ended, Ended::Overdue));
            } else {
                running.close();
            }
            gate.open();
            let report = ended(running.join());
            assert_eq!(matches!(report.stages[0].ended, Ended::Aborted), aborts);
            assert_eq!(log.take(), [None, None]);
        }
    }
}

#[test]
fn a2_a11_races_of_start_and_stop_end_with_both() {
    for kind in KINDS {
        for aborts in [false, true] {
            for _ in 0..1000 {
                let log = Log::new();
                let running = start(&ring(2, kind), [Stage::new("a", Lives(log.clone()))]);
                if aborts {
                    let _ = running.abort();
                    let _ = running.join(); // If it takes longer than an abort waits.
                } else {
                    running.stop(A_MINUTE).unwrap();
                }
                assert_eq!(log.take(), [None, None]);
            }
        }
    }
}

#[test]
fn c1_a_stop_right_after_the_start_loses_no_published_events() {
    for kind in KINDS {
        for n in (0..8).cycle().take(500) {
            let log = Log::new();
            let stages = [
                Stage::new("a", Lives(log.clone())),
                logging("b", &Log::new()).after(["a"]),
            ];
            let running = start(&ring(8, kind), stages);
            publish(&mut feed(&running), 0..n);
            let report = running.stop(A_MINUTE).unwrap();
            assert!(report.stages.iter().all(|s| counts(s) == [n, 0, 0, 0]));
            let events = (0..n).map(Some);
            let expected: Vec<_> = [None].into_iter().chain(events).chain([None]).collect();
            assert_eq!(log.take(), expected);
        }
    }
}

#[test]
fn c4_a_pipeline_that_is_stopped_before_it_runs_can_be_stopped_again_and_another_started() {
    for kind in KINDS {
        let closed = ring(8, kind);
        let running = start(&closed, [logging("a", &Log::new())]);
        for _ in 0..3 {
            let report = ended(running.stop(Duration::ZERO).or_else(|_| running.join()));
            assert_eq!(counts(&report.stages[0]), [0; 4]);
        }
        // Not on a ring that is closed; that is said.
        let again = Pipeline::on(&closed).stage(logging("a", &Log::new()));
        let error = again.start().unwrap_err();
        assert!(matches!(&error, StartError::Join(JoinError::Closed { name }) if name == "a"));

        let another = start(&ring(8, kind), [logging("a", &Log::new())]);
        publish(&mut feed(&another), 0..3);
        let report = another.stop(A_MINUTE).unwrap();
        assert_eq!(counts(&report.stages[0]), [3, 0, 0, 0]);
    }
}

#[test]
fn a_stop_can_be_asked_for_by_several_threads_at_once_and_again() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let running = start(&ring(8, kind), [gated("a", &gate, &log)]);
        publish(&mut feed(&running), 0..8);
        thread::scope(|scope| {
            let stop = || ended(running.stop(A_MINUTE));
            let join = || ended(running.join());
            let all = [
                scope.spawn(stop),
                scope.spawn(stop),
                scope.spawn(join),
                scope.spawn(join),
            ];
            gate.wait_for_somebody();
            gate.open();
            for one in all {
                let report = one.join().unwrap();
                assert_eq!(counts(&report.stages[0]), [8, 0, 0, 0]);
                assert!(report.warnings.is_empty());
            }
        });
        running.stop(Duration::ZERO).unwrap();
        running.abort().unwrap();
        running.close();
        let report = ended(running.join());
        assert!(matches!(report.stages[0].ended, Ended::Drained));
        assert_eq!(log.len(), 8);
    }
}

/// What a handler has to stop its own pipeline with.
type Own = Arc<OnceLock<Arc<Running<u64>>>>;

fn own(own: &Own) -> Arc<Running<u64>> {
    until("it has been handed out", || own.get().is_some());
    own.get().unwrap().clone()
}

/// A stage that does something to its pipeline with its second event.
fn with_own(
    pipeline: &Own,
    log: &Log<u64>,
    act: impl Fn(&Running<u64>) + Send + 'static,
) -> Stage<u64> {
    let (pipeline, log) = (pipeline.clone(), log.clone());
    Stage::each("a", move |event: &u64, _| {
        log.push(*event);
        if *event == 1 {
            act(&own(&pipeline));
        }
    })
}

#[test]
fn a_handler_that_stops_its_pipeline_does_not_wait_for_itself() {
    for kind in KINDS {
        let (own, log, heard) = (Own::default(), Log::new(), Log::new());
        let stage = {
            let heard = heard.clone();
            with_own(&own, &log, move |running| {
                let stopped = running.stop(A_MINUTE).unwrap_err();
                heard.push(stopped.to_string());
                heard.push(format!("{:?}", stopped.report.stages[0].ended));
            })
        };
        let running = Arc::new(start(&ring(8, kind), [stage, logging("b", &Log::new())]));
        publish_batch(&mut feed(&running), 0..4);
        own.set(running.clone()).unwrap();
        let report = ended(running.join());
        assert!(report.failures.is_empty(), "{report:?}");
        // It says so that its own stage goes on.
        let heard = heard.take();
        assert!(
            heard[0].starts_with("stage \"a\" has not returned"),
            "{heard:?}"
        );
        assert_eq!(heard[1], "Overdue");
        assert_eq!(log.take(), [0, 1, 2, 3]);
        assert!(report.stages.iter().all(|s| counts(s) == [4, 0, 0, 0]));
    }
}

#[test]
fn a_handler_that_stops_its_pipeline_does_not_wait_for_those_that_wait_for_it() {
    for kind in KINDS {
        let (own, log, later) = (Own::default(), Log::new(), Log::new());
        let stops = with_own(&own, &log, |running| {
            let _ = running.stop(Duration::from_millis(100));
        });
        let stages = [stops, logging("later", &later).after(["a"])];
        let running = Arc::new(start(&ring(8, kind), stages));
        publish_batch(&mut feed(&running), 0..4);
        own.set(running.clone()).unwrap();
        let report = ended(running.join());
        assert!(report.stages.iter().all(|s| counts(s) == [4, 0, 0, 0]));
        assert_eq!(later.take(), [0, 1, 2, 3]);
    }
}

/// When its handler is dropped there is nobody else left.
#[test]
fn c17_a_handler_may_own_its_pipeline() {
    for kind in KINDS {
        let (own, log) = (Own::default(), Log::new());
        let ring = ring(8, kind);
        let stage = with_own(&own, &log, |running| running.close());
        let running = start(&ring, [stage, logging("later", &log).after(["a"])]);
        publish_batch(&mut feed(&running), 0..4);
        own.set(Arc::new(running)).unwrap();
        drop(own);
        until("all are gone", || ring.snapshot().members.is_empty());
        assert_eq!(log.len(), 8);
    }
}

#[test]
fn a_handler_can_abort_its_pipeline() {
    for kind in KINDS {
        let (own, log) = (Own::default(), Log::new());
        let stage = with_own(&own, &log, |running| {
            let _ = running.abort();
        });
        let running = Arc::new(start(&ring(8, kind), [stage]));
        publish_batch(&mut feed(&running), 0..4);
        own.set(running.clone()).unwrap();
        let report = ended(running.join());
        assert!(report.failures.is_empty(), "{report:?}");
        assert!(matches!(report.stages[0].ended, Ended::Aborted));
        assert_eq!(counts(&report.stages[0]), [2, 0, 0, 2]);
        assert_eq!(log.take(), [0, 1]);
    }
}

/// The only producer agrees with its next publication.
#[test]
fn a_handler_can_close_its_pipeline() {
    for kind in KINDS {
        let (own, log) = (Own::default(), Log::new());
        let stage = with_own(&own, &log, |running| running.close());
        let running = Arc::new(start(&ring(8, kind), [stage]));
        own.set(running.clone()).unwrap();
        let mut feed = feed(&running);
        let mut published = 0;
        let why = loop {
            match feed.publish(|slot| *slot = published) {
                Ok(_) => published += 1,
                Err(why) => break why,
            }
        };
        assert!(matches!(why, FeedError::Stopped));
        assert_eq!(why.to_string(), "the pipeline has been stopped");
        let report = ended(running.join());
        assert_eq!(counts(&report.stages[0]), [published, 0, 0, 0]);
        assert_eq!(log.take(), Vec::from_iter(0..published));
    }
}

#[test]
fn a_pipeline_that_is_dropped_with_a_live_producer_is_stopped_and_that_hears_of_it() {
    for kind in KINDS {
        let log = Log::new();
        let ring = ring(8, kind);
        let running = start(&ring, [Stage::new("a", Lives(log.clone()))]);
        let mut feed = feed(&running);
        publish(&mut feed, 0..3);
        until("all is handled", || running.metrics()[0].1.events == 3);
        drop(running);
        until("its stage is gone", || ring.snapshot().members.len() == 1);
        let lived = [None, Some(0), Some(1), Some(2), None];
        assert_eq!(log.take(), lived);
        let why = feed.publish(|_| unreachable!()).unwrap_err();
        assert!(matches!(why, FeedError::Stopped), "{why:?}");
    }
}

/// Only it knows whether it was about to publish.
#[test]
fn a_producer_that_is_still_there_at_the_deadline_is_cut_off_with_a_warning() {
    for kind in KINDS {
        let running = start(&ring(8, kind), [logging("a", &Log::new())]);
        let mut feed = feed(&running);
        publish(&mut feed, 0..3);
        until("all is handled", || running.metrics()[0].1.events == 3);
        let report = ended(
            running
                .stop(Duration::from_millis(1))
                .or_else(|_| running.join()),
        );
        assert_eq!(counts(&report.stages[0]), [3, 0, 0, 0]);
        let warnings: &[Warning] = match kind {
            annulus::ring::Producers::One => &[Warning::ProducerStillThere],
            _ => &[],
        };
        assert_eq!(report.warnings, warnings);
        let why = feed.publish(|_| unreachable!()).unwrap_err();
        assert!(matches!(why, FeedError::Stopped), "{why:?}");
    }
}

#[test]
fn join_returns_when_the_last_producer_is_gone_and_all_is_handled() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let running = start(&ring(8, kind), [gated("a", &gate, &log)]);
        let mut feed = feed(&running);
        thread::scope(|scope| {
            let joined = scope.spawn(|| ended(running.join()));
            publish(&mut feed, 0..4);
            drop(feed);
            gate.wait_for_somebody();
            assert!(!joined.is_finished() && !running.has_ended());
            gate.open();
            let report = joined.join().unwrap();
            assert_eq!(counts(&report.stages[0]), [4, 0, 0, 0]);
            assert!(running.has_ended());
        });
        assert_eq!(log.len(), 4);
    }
}

/// A stage that comes to the gate with the third event and waits until the ring is poisoned, and one after it.
fn aborted_in_mid_batch(
    ring: &Ring<u64>,
    log: &Log<u64>,
    at_third: &Gate,
    changes: bool,
) -> [Stage<u64>; 2] {
    at_third.open();
    let (ring, log, at_third) = (ring.clone(), log.clone(), at_third.clone());
    let handle = move |event: u64| {
        if event == 2 {
            at_third.pass();
            until("it is aborted", || is_poisoned(&ring));
        }
        log.push(event);
    };
    let slow = match changes {
        true => Stage::each_mut("slow", move |event: &mut u64, _| handle(*event)),
        false => Stage::each("slow", move |event: &u64, _| handle(*event)),
    };
    [slow, logging("later", &Log::new()).after(["slow"])]
}

#[test]
fn an_abort_ends_with_the_event_in_hand_and_does_not_drain() {
    for kind in KINDS {
        for changes in [false, true] {
            let (ring, log, at_third) = (ring(8, kind), Log::new(), Gate::default());
            let stages = aborted_in_mid_batch(&ring, &log, &at_third, changes);
            let running = start(&ring, stages);
            let mut feed = feed(&running);
            publish_batch(&mut feed, 0..5);
            publish_batch(&mut feed, 5..8);
            at_third.wait_for_somebody();
            let _ = running.abort();
            let report = ended(running.join());
            assert_eq!(log.take(), [0, 1, 2]);
            assert_eq!(counts(&report.stages[0]), [3, 0, 0, 5]);
            assert_eq!(counts(&report.stages[1]), [0, 0, 0, 8]);
            assert!((report.stages.iter()).all(|s| matches!(s.ended, Ended::Aborted)));
            assert!(matches!(feed.publish(|_| ()), Err(FeedError::Stopped)));
            // It was asked for; but it has left something, which a stop may not.
            ended(Ok(running.abort().unwrap()));
            let stopped = running.stop(A_MINUTE).unwrap_err();
            let expected = "stage \"slow\" left 5 events; stage \"later\" left 8 events";
            assert_eq!(stopped.to_string(), expected);
        }
    }
}

#[test]
fn a27_a_stop_with_a_deadline_reports_who_lags() {
    for kind in KINDS {
        let (ring, log, at_third) = (ring(8, kind), Log::new(), Gate::default());
        let [slow, later] = aborted_in_mid_batch(&ring, &log, &at_third, false);
        let fast = logging("fast", &Log::new());
        let running = start(&ring, [fast, slow, later]);
        publish_batch(&mut feed(&running), 0..8);
        at_third.wait_for_somebody();
        until("the fast one is done", || {
            running.metrics()[0].1.events == 8
        });
        let _ = running.stop(Duration::from_millis(1));
        let stopped = running.join().unwrap_err();
        let expected = "stage \"slow\" left 5 events; stage \"later\" left 8 events";
        assert_eq!(stopped.to_string(), expected);
        let report = ended(Err(stopped));
        let counted: Vec<_> = report.stages.iter().map(counts).collect();
        assert_eq!(counted, [[8, 0, 0, 0], [3, 0, 0, 5], [0, 0, 0, 8]]);
        assert_eq!(log.take(), [0, 1, 2]);
        assert!(matches!(report.stages[1].ended, Ended::Aborted));
        assert!(report.warnings.is_empty());
    }
}

#[test]
fn a12_a_stop_is_not_cut_short_before_its_deadline() {
    const WITHIN: Duration = Duration::from_millis(20);
    let (ring, log, at_third) = (ring(8, KINDS[0]), Log::new(), Gate::default());
    let stages = aborted_in_mid_batch(&ring, &log, &at_third, false);
    let running = start(&ring, stages);
    publish_batch(&mut feed(&running), 0..8);
    let began = std::time::Instant::now();
    assert!(running.stop(WITHIN).is_err());
    assert!(began.elapsed() >= WITHIN);
    ended(running.join());
}

#[test]
fn a_handler_that_does_not_return_is_overdue_and_left_to_itself() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let stages = [gated("stuck", &gate, &log), logging("fine", &Log::new())];
        let running = start(&ring(8, kind), stages);
        let mut feed = feed(&running);
        publish_batch(&mut feed, 0..8);
        gate.wait_for_somebody();
        until("the other is done", || running.metrics()[1].1.events == 8);
        let stopped = running.stop(Duration::ZERO).unwrap_err();
        assert!(matches!(stopped.report.stages[0].ended, Ended::Overdue));
        let expected = "stage \"stuck\" has not returned";
        assert_eq!(stopped.to_string(), expected);
        let report = ended(Err(stopped));
        assert_eq!(counts(&report.stages[0]), [0, 0, 0, 8]);
        assert_eq!(counts(&report.stages[1]), [8, 0, 0, 0]);
        assert!(!running.has_ended());
        assert!(matches!(feed.publish(|_| ()), Err(FeedError::Stopped)));
        // Let go, it ends with what it has in hand.
        gate.open();
        let report = ended(running.join());
        assert_eq!(counts(&report.stages[0]), [1, 0, 0, 7]);
        assert!(matches!(report.stages[0].ended, Ended::Aborted));
        assert_eq!(log.take(), [0]);
    }
}

#[test]
fn c17_a_pipeline_with_an_overdue_handler_can_be_dropped() {
    let (gate, log) = (Gate::default(), Log::new());
    let running = start(&ring(8, KINDS[0]), [gated("stuck", &gate, &log)]);
    publish_batch(&mut feed(&running), 0..2);
    gate.wait_for_somebody();
    drop(running);
    gate.open();
    until("it goes on", || log.len() == 1);
}

#[test]
fn that_a_producer_is_still_there_is_told_once() {
    let (gate, log) = (Gate::default(), Log::new());
    let running = start(&ring(8, KINDS[0]), [gated("stuck", &gate, &log)]);
    let mut feed = feed(&running);
    publish(&mut feed, 0..1);
    gate.wait_for_somebody();
    for _ in 0..2 {
        let report = ended(running.stop(Duration::ZERO));
        assert_eq!(report.warnings, [Warning::ProducerStillThere]);
    }
    gate.open();
}

#[test]
fn a_stop_at_its_deadline_ends_a_handler_that_is_retried_for_ever() {
    for kind in KINDS {
        for verdict in [
            Verdict::Retry {
                pause: Duration::ZERO,
            },
            Verdict::Rewind { pause: A_MINUTE },
        ] {
            let stage = Stage::each("hopeless", |_: &u64, _| Err("oh no"));
            let running = start(&ring(8, kind), [stage.on_failure_by(move |_| verdict)]);
            publish_batch(&mut feed(&running), 0..4);
            until("it is retried", || running.metrics()[0].1.restarts > 0);
            let _ = running.stop(Duration::from_millis(1));
            let report = ended(running.join());
            let stage = &report.stages[0];
            assert!(matches!(stage.ended, Ended::Aborted | Ended::Failed(_)));
            assert_eq!((stage.handled, stage.failed + stage.left), (0, 4));
        }
    }
}

#[test]
fn a19_c8_a_stop_interrupts_every_wait() {
    for kind in KINDS {
        let sleep = Duration::from_micros(100);
        let phased = Wait::Phased {
            spins: 10,
            yields: 10,
            sleep,
        };
        for wait in [Wait::Spin, Wait::Yield, Wait::Backoff, Wait::Park, phased] {
            for aborts in [false, true] {
                let ring = Ring::builder(4).producers(kind).parking();
                let ring = ring.build(u64::default).unwrap();
                let gate = Gate::default();
                let stages = [
                    gated("first", &gate, &Log::new()).wait(wait),
                    logging("later", &Log::new()).wait(wait).after(["first"]),
                    logging("idle", &Log::new()).wait(wait),
                ];
                let running = start(&ring, stages);
                let mut feed = feed(&running);
                gate.open();
                publish(&mut feed, 0..1);
                until("it is handled", || {
                    running.metrics().iter().all(|(_, of)| of.events == 1)
                });
                drop(feed);
                if aborts {
                    let _ = running.abort();
                } else {
                    running.stop(A_MINUTE).unwrap();
                }
                let report = ended(running.join());
                assert!(report.stages.iter().all(|s| counts(s) == [1, 0, 0, 0]));
            }
        }
    }
}

/// While some are stopped others fail, detach, and skip.
#[test]
fn the_report_of_stages_that_end_in_different_ways_adds_up() {
    for kind in KINDS {
        let all = [(); 4].map(|()| Log::new());
        let failing_at = |name, at: u64, log: &Log<u64>| {
            let log = log.clone();
            Stage::each(name, move |event: &u64, _| {
                if *event % at == at - 1 {
                    return Err("oh no");
                }
                log.push(*event);
                Ok(())
            })
        };
        let [skips, detaches, fails, drains] = &all;
        let stages = [
            failing_at("skips", 10, skips).on_failure(OnFailure::SKIP),
            failing_at("detaches", 20, detaches).on_failure(OnFailure::DETACH),
            failing_at("fails", 90, fails).after(["skips"]),
            logging("drains", drains).after(["detaches"]),
        ];
        let running = start(&ring(4, kind), stages);
        let mut feed = feed(&running);
        let mut published = 0;
        while feed.publish(|slot| *slot = published).is_ok() {
            published += 1;
            if published % 7 == 0 {
                let _ = feed.producer().claim(1); // Given up: many producers skip it, one uses it again.
            }
            // As values are the counts, they stay even where sequences are skipped.
            assert!(published < 10_000, "it does not fail");
        }
        let report = ended(running.stop(A_MINUTE));
        for (stage, log) in report.stages.iter().zip(&all) {
            assert_eq!(stage.handled, log.len() as u64, "{}", stage.name);
            assert_eq!(stage.published, report.published);
        }
        assert!(matches!(report.stages[1].ended, Ended::Detached(_)));
        assert_eq!(report.stages[1].handled, 19);
        assert!(matches!(report.stages[2].ended, Ended::Failed(_)));
        assert_eq!((report.stages[2].handled, report.stages[2].failed), (89, 1));
    }
}

/// The ring of a failed pipeline cannot be used again.
#[test]
fn a_pipeline_that_has_failed_leaves_a_ring_that_says_so() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let fails = Stage::each("fails", |_: &u64, _| Err("oh no"));
        let running = start(&ring, [fails]);
        let mut feed = feed(&running);
        publish(&mut feed, 0..1);
        let _ = running.join();
        let again = Pipeline::on(&ring).stage(logging("a", &Log::new())).start();
        let error = again.unwrap_err();
        assert!(matches!(
            &error,
            StartError::Join(JoinError::Poisoned { .. })
        ));
        let direct = feed.producer().publish(|_| ()).unwrap_err();
        assert!(matches!(direct, ClaimError::Poisoned(_)));
    }
}

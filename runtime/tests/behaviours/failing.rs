//! Failing: where a handler can fail and how, what becomes of its stage and of the others, and who hears of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus::ring::Producers;
use annulus::{
    At, During, Ended, Events, Failure, FeedError, Handler, HandlerError, Idle, OnFailure,
    Overflow, Pipeline, Report, Stage, Stopped, Verdict,
};

use crate::{
    A_MINUTE, Bomb, Gate, How, KINDS, Log, WAYS_TO_FAIL, counts, ended, feed, logging, publish,
    publish_batch, ring, run, start, until,
};

/// Fails at one of its calls, and logs all of them but those of `on_idle`.
struct Fails {
    during: During,
    how: How,
    calls: Log<During>,
}

impl Fails {
    fn called(&self, during: During) -> Result<(), HandlerError> {
        if during != During::Idle {
            self.calls.push(during);
        }
        if during == self.during {
            self.how.fail()?;
        }
        Ok(())
    }
}

impl Handler<u64> for Fails {
    fn on_start(&mut self, _: &str) -> Result<(), HandlerError> {
        self.called(During::Start)
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        self.called(During::Event)
    }

    fn on_idle(&mut self, _: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        self.called(During::Idle)
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        self.called(During::Stop)
    }
}

fn fails(during: During, how: How, calls: &Log<During>) -> Stage<u64> {
    let calls = calls.clone();
    Stage::with("fails", move || {
        if during == During::Build {
            how.fail().unwrap();
        }
        Fails { during, how, calls }
    })
}

/// A factory cannot return an error.
fn ways_to_fail() -> impl Iterator<Item = (Producers, During, How)> {
    use During::{Build, Event, Idle, Start, Stop};
    let all = KINDS.into_iter().flat_map(|kind| {
        [Build, Start, Event, Idle, Stop]
            .into_iter()
            .flat_map(move |during| WAYS_TO_FAIL.map(|how| (kind, during, how)))
    });
    all.filter(|(_, during, how)| (*during, *how) != (Build, How::Error))
        .inspect(|case| println!("{case:?}")) // Shown if the test fails.
}

/// Runs a stage that fails, and one beside it, and publishes an event, and another once it has failed.
fn fail(
    kind: Producers,
    during: During,
    stages: impl IntoIterator<Item = Stage<u64>>,
) -> Result<Report, Stopped> {
    let running = start(&ring(8, kind), stages);
    let mut feed = running.feed(Overflow::Wait).ok(); // It may have failed already.
    let mut publish = |event| feed.as_mut()?.publish(|slot| *slot = event).ok();
    publish(0);
    if during != During::Stop {
        until("it fails", || !running.report().failures.is_empty());
        publish(1);
    }
    drop(feed);
    running.stop(A_MINUTE)
}

/// What is called until it fails, and after that.
fn expected_calls(during: During) -> Vec<During> {
    match during {
        During::Build => vec![],
        During::Start => vec![During::Start, During::Stop],
        _ => vec![During::Start, During::Event, During::Stop],
    }
}

fn check(failure: &Failure, during: During, how: How) {
    assert_eq!((failure.stage.as_str(), failure.during), ("fails", during));
    assert!(how.is(&failure.cause), "{failure:?}");
    assert_eq!((failure.retries, failure.rewinds), (0, 0));
    let sequence = (during == During::Event).then_some(0);
    assert_eq!(failure.sequence, sequence);
    let expected = format!(
        "stage \"fails\" {} {}: {}",
        if how == How::Error {
            "failed"
        } else {
            "panicked"
        },
        match during {
            During::Build => "while its handler was built",
            During::Start => "in on_start",
            During::Event => "at event 0",
            During::Idle => "in on_idle",
            _ => "in on_stop",
        },
        if how == How::Bomb {
            "without a message"
        } else {
            "oh no"
        },
    );
    assert_eq!(failure.to_string(), expected);
    let source = std::error::Error::source(failure);
    assert_eq!(source.is_some(), how == How::Error);
}

#[test]
fn a11_a_failure_stops_the_pipeline_and_tells_where_and_why() {
    for (kind, during, how) in ways_to_fail() {
        let calls = Log::new();
        let stages = [fails(during, how, &calls), logging("other", &Log::new())];
        let result = fail(kind, during, stages);
        assert_eq!(result.is_ok(), during == During::Stop);
        let message = result.as_ref().err().map(ToString::to_string);
        let report = ended(result);
        let [failure] = &*report.failures else {
            panic!("{report:?}");
        };
        check(failure, during, how);
        if during == During::Stop {
            // It is in the report, and has done no harm.
            assert!(report.stages.iter().all(|s| counts(s) == [1, 0, 0, 0]));
        } else {
            let message = message.unwrap();
            assert!(message.starts_with(&failure.to_string()), "{message}");
            let ends = (&report.stages[0].ended, &report.stages[1].ended);
            let (Ended::Failed(own), Ended::Stopped(others)) = ends else {
                panic!("{report:?}");
            };
            assert!(Arc::ptr_eq(own, failure) && Arc::ptr_eq(others, failure));
        }
        let calls = calls.take();
        if during == During::Idle {
            // Whether it has had an event by then is chance.
            assert_eq!(calls.first(), Some(&During::Start));
            assert_eq!(calls.last(), Some(&During::Stop));
        } else {
            assert_eq!(calls, expected_calls(during));
        }
    }
}

#[test]
fn c9_c17_a_stage_that_detaches_lets_the_others_go_on() {
    for (kind, during, how) in ways_to_fail().filter(|(_, during, _)| *during != During::Stop) {
        let others = Log::new();
        let stages = [
            fails(during, how, &Log::new()).on_failure(OnFailure::DETACH),
            logging("other", &others),
        ];
        let report = fail(kind, during, stages).unwrap();
        let report = ended(Ok(report));
        let [failure] = &*report.failures else {
            panic!("{report:?}");
        };
        check(failure, during, how);
        assert!(
            matches!(&report.stages[0].ended, Ended::Detached(own) if Arc::ptr_eq(own, failure))
        );
        assert!(matches!(report.stages[1].ended, Ended::Drained));
        assert_eq!(others.take(), [0, 1]);
        assert_eq!(counts(&report.stages[1]), [2, 0, 0, 0]);
        let failed = u64::from(during == During::Event);
        let handled = report.stages[0].handled;
        assert!(handled == 0 || during == During::Idle);
        assert_eq!(
            counts(&report.stages[0]),
            [handled, 0, failed, 2 - failed - handled]
        );
    }
}

#[test]
fn skip_retry_and_rewind_do_not_help_where_no_event_is_to_blame() {
    for (kind, during, how) in ways_to_fail() {
        if matches!(during, During::Event | During::Stop) {
            continue;
        }
        for policy in [
            OnFailure::SKIP,
            OnFailure::SKIP.after_retries(9, A_MINUTE),
            OnFailure::DETACH.after_rewinds(9, A_MINUTE),
        ] {
            let asked = Log::new();
            let stage = fails(during, how, &Log::new());
            let stage = {
                let asked = asked.clone();
                stage.on_failure_by(move |failure| {
                    asked.push(failure.during);
                    match policy.again {
                        annulus::Again::Never => Verdict::Skip,
                        annulus::Again::Retry { pause, .. } => Verdict::Retry { pause },
                        _ => Verdict::Rewind { pause: A_MINUTE },
                    }
                })
            };
            let report = ended(fail(kind, during, [stage]));
            assert!(matches!(report.stages[0].ended, Ended::Failed(_)));
            assert_eq!(report.stages[0].metrics.restarts, 0);
            assert_eq!(asked.take(), [during]);
        }
    }
}

/// Logs each event, and fails at those of `at`, each so many times.
fn flaky(at: &[u64], times: usize, how: How, log: &Log<u64>) -> Stage<u64> {
    Stage::each("flaky", failing_at(at, times, how, log))
}

fn failing_at(
    at: &[u64],
    times: usize,
    how: How,
    log: &Log<u64>,
) -> impl FnMut(&u64, At) -> Result<(), HandlerError> + Send + 'static {
    let (mut left, log) = (vec![times; 64], log.clone());
    let at = at.to_owned();
    move |event: &u64, _| {
        log.push(*event);
        let left = &mut left[*event as usize];
        if at.contains(event) && *left > 0 {
            *left -= 1;
            how.fail()?;
        }
        Ok(())
    }
}

/// Sequence of the failure and event of each dead letter.
fn with_letters(stage: Stage<u64>, letters: &Log<(u64, u64)>) -> Stage<u64> {
    let letters = letters.clone();
    stage.dead_letters(move |letter| {
        letters.push((letter.failure.sequence.unwrap(), *letter.event));
    })
}

#[test]
fn a2_a_failure_reaches_the_policy_and_the_stage_lives_on() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            let (log, letters, asked) = (Log::new(), Log::new(), Log::new());
            let stage = {
                let asked = asked.clone();
                flaky(&[0, 3, 4, 7], 1, how, &log).on_failure_by(move |failure| {
                    asked.push((failure.sequence, how.is(&failure.cause)));
                    Verdict::Skip
                })
            };
            let later = Log::new();
            let stages = [
                with_letters(stage, &letters),
                logging("later", &later).after(["flaky"]),
            ];
            let report = ended(run(kind, 8, stages));
            assert_eq!(log.take(), Vec::from_iter(0..8));
            assert_eq!(later.take(), Vec::from_iter(0..8));
            assert_eq!(letters.take(), [(0, 0), (3, 3), (4, 4), (7, 7)]);
            let expected = [0, 3, 4, 7].map(|sequence| (Some(sequence), true));
            assert_eq!(asked.take(), expected);
            assert_eq!(report.failures.len(), 4);
            assert_eq!(counts(&report.stages[0]), [4, 0, 4, 0]);
            assert_eq!(counts(&report.stages[1]), [8, 0, 0, 0]);
            assert_eq!(report.stages[0].metrics.batches, 1);
        }
    }
}

#[test]
fn what_a_failed_event_was_changed_to_is_what_its_dead_letter_and_later_stages_find() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            let (letters, later) = (Log::new(), Log::new());
            let stage = Stage::each_mut("flaky", move |event: &mut u64, _| {
                *event += 10;
                if *event == 11 { how.fail() } else { Ok(()) }
            });
            let stages = [
                with_letters(stage.on_failure(OnFailure::SKIP), &letters),
                logging("later", &later).after(["flaky"]),
            ];
            let report = run(kind, 3, stages).unwrap();
            assert_eq!(letters.take(), [(1, 11)]);
            assert_eq!(later.take(), [10, 11, 12]);
            assert_eq!(counts(&report.stages[0]), [2, 0, 1, 0]);
        }
    }
}

/// Its batches are all that it has; it fails before, after, or between its events.
struct ByBatch {
    how: How,
    log: Log<String>,
}

impl Handler<u64> for ByBatch {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        let sequences = events.sequences();
        self.log.push(format!("{sequences:?}"));
        match sequences.start {
            0 => self.how.fail(), // None is taken: the first.
            1 => {
                let _ = events.next();
                let _ = events.next();
                self.how.fail() // The last taken.
            }
            3 => {
                let _ = events.next();
                events.release();
                let _ = events.next();
                self.how.fail() // The last taken, behind one that is released.
            }
            5 => {
                while events.next().is_some() {}
                self.how.fail() // The last of all.
            }
            _ => unreachable!(),
        }
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }
}

#[test]
fn a_failure_of_on_batch_is_that_of_the_event_taken_last_or_the_first() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            let (log, letters) = (Log::new(), Log::new());
            let handler = ByBatch {
                how,
                log: log.clone(),
            };
            let stage = Stage::new("by batch", handler).on_failure(OnFailure::SKIP);
            let report = ended(run(kind, 8, [with_letters(stage, &letters)]));
            assert_eq!(log.take(), ["0..8", "1..8", "3..8", "5..8"]);
            assert_eq!(letters.take(), [(0, 0), (2, 2), (4, 4), (7, 7)]);
            assert_eq!(counts(&report.stages[0]), [4, 0, 4, 0]);
        }
    }
}

/// Releases all that it has, and then fails.
struct FailsWithNothing;

impl Handler<u64> for FailsWithNothing {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        while events.next().is_some() {}
        events.release();
        Err("too late".into())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }
}

#[test]
fn who_fails_with_nothing_in_hand_has_no_dead_letter() {
    for kind in KINDS {
        let letters = Log::new();
        let stage = Stage::new("a", FailsWithNothing).on_failure(OnFailure::SKIP);
        let report = ended(run(kind, 3, [with_letters(stage, &letters)]));
        assert_eq!(counts(&report.stages[0]), [3, 0, 0, 0]);
        assert_eq!((letters.len(), report.failures.len()), (0, 1));
    }
}

#[test]
fn who_fails_with_nothing_in_hand_blames_no_event() {
    let stage = Stage::new("a", FailsWithNothing).on_failure(OnFailure::SKIP);
    let report = ended(run(KINDS[0], 3, [stage]));
    assert_eq!(report.failures[0].sequence, None);
}

/// Releases two events that it has taken, and fails before it takes another.
struct FailsBetween(Log<u64>);

impl Handler<u64> for FailsBetween {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        for _ in 0..2 {
            self.0.push(*events.next().unwrap().0);
        }
        events.release();
        Err("between two events".into())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }
}

#[test]
fn an_event_that_was_never_taken_is_not_given_up_for_a_failure_behind_a_release() {
    for kind in KINDS {
        let (log, letters) = (Log::new(), Log::new());
        let stage = Stage::new("a", FailsBetween(log.clone())).on_failure(OnFailure::SKIP);
        ended(run(kind, 6, [with_letters(stage, &letters)]));
        let taken = log.take();
        for (_, event) in letters.take() {
            assert!(taken.contains(&event), "{event} is not among {taken:?}");
        }
    }
}

#[test]
fn a_retry_begins_with_the_event_that_failed() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            let (log, letters) = (Log::new(), Log::new());
            let policy = OnFailure::SKIP.after_retries(2, Duration::ZERO);
            let stage = flaky(&[0, 2, 3], 2, how, &log).on_failure(policy);
            let report = ended(run(kind, 4, [with_letters(stage, &letters)]));
            assert_eq!(log.take(), [0, 0, 0, 1, 2, 2, 2, 3, 3, 3]);
            assert_eq!(letters.take(), []);
            assert_eq!(counts(&report.stages[0]), [4, 0, 0, 0]);
            assert_eq!(report.stages[0].metrics.restarts, 6);
            assert_eq!(report.failures.len(), 0);
        }
    }
}

#[test]
fn an_event_that_is_retried_in_vain_is_left_to_the_policy() {
    for kind in KINDS {
        for (policy, handled, left, tried) in [
            (OnFailure::SKIP, 3, 0, vec![0, 1, 1, 1, 2, 3]),
            (OnFailure::DETACH, 1, 2, vec![0, 1, 1, 1]),
            (OnFailure::STOP, 1, 2, vec![0, 1, 1, 1]),
        ] {
            let (log, letters) = (Log::new(), Log::new());
            let stage = flaky(&[1], usize::MAX, How::Error, &log);
            let stage = stage.on_failure(policy.after_retries(2, Duration::ZERO));
            let report = ended(run(kind, 4, [with_letters(stage, &letters)]));
            assert_eq!(log.take(), tried);
            assert_eq!(letters.take(), [(1, 1)]);
            assert_eq!(counts(&report.stages[0]), [handled, 0, 1, left]);
            assert_eq!(report.stages[0].metrics.restarts, 2);
            let failure = &report.failures[0];
            assert_eq!((failure.retries, failure.rewinds), (2, 0));
        }
    }
}

#[test]
fn a12_a_retry_is_not_early() {
    const PAUSE: Duration = Duration::from_millis(5);
    let (log, began) = (Log::new(), Instant::now());
    let stage =
        flaky(&[1], 2, How::Error, &log).on_failure(OnFailure::STOP.after_retries(2, PAUSE));
    run(KINDS[0], 2, [stage]).unwrap();
    assert!(began.elapsed() >= 2 * PAUSE);
}

#[test]
fn a_pause_before_a_retry_is_cut_short_by_an_abort() {
    for kind in KINDS {
        for policy in [
            OnFailure::STOP.after_retries(1, Duration::MAX),
            OnFailure::STOP.after_rewinds(1, 60 * A_MINUTE),
        ] {
            let log = Log::new();
            let stage = flaky(&[1], 1, How::Error, &log).on_failure(policy);
            let running = start(&ring(4, kind), [stage]);
            publish_batch(&mut feed(&running), 0..4);
            let restarts = || running.metrics()[0].1.restarts;
            until("it pauses", || restarts() == 1);
            let _ = running.abort();
            let report = ended(running.join());
            assert!(matches!(report.stages[0].ended, Ended::Aborted));
            let handled = report.stages[0].handled;
            assert!(handled <= 1);
            assert_eq!(counts(&report.stages[0]), [handled, 0, 0, 4 - handled]);
            assert_eq!(log.take(), [0, 1]);
        }
    }
}

/// Those that came after it come after what it came after.
#[test]
fn c9_stages_behind_one_that_detaches_go_on_without_it() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            let (gate, log, later) = (Gate::default(), Log::new(), Log::new());
            let first = crate::gated("first", &gate, &Log::new());
            let flaky = flaky(&[3], 1, how, &log).on_failure(OnFailure::DETACH);
            let stages = [
                first.batch_limit(1),
                flaky.after(["first"]),
                logging("later", &later).after(["flaky"]),
            ];
            let running = start(&ring(4, kind), stages);
            let mut feed = feed(&running);
            publish(&mut feed, 0..4);
            assert_eq!(later.len(), 0);
            gate.open();
            publish(&mut feed, 4..20);
            drop(feed);
            let report = ended(running.stop(A_MINUTE));
            assert_eq!(log.take(), [0, 1, 2, 3]);
            assert_eq!(later.take(), Vec::from_iter(0..20));
            let counted: Vec<_> = report.stages.iter().map(counts).collect();
            assert_eq!(counted, [[20, 0, 0, 0], [3, 0, 1, 16], [20, 0, 0, 0]]);
        }
    }
}

#[test]
fn c9_a25_the_last_stage_that_detaches_does_not_hold_producers_up() {
    for kind in KINDS {
        let stage = flaky(&[2], 1, How::Panic, &Log::new()).on_failure(OnFailure::DETACH);
        let running = start(&ring(4, kind), [stage]);
        publish(&mut feed(&running), 0..100);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(counts(&report.stages[0]), [2, 0, 1, 97]);
        assert!(matches!(report.stages[0].ended, Ended::Detached(_)));
    }
}

#[test]
fn a25_c17_producers_hear_why_the_pipeline_stopped_and_stop_returns() {
    for kind in KINDS {
        for overflow in [
            Overflow::Wait,
            Overflow::WaitFor(A_MINUTE),
            Overflow::Fail,
            Overflow::DropNewest,
        ] {
            for how in WAYS_TO_FAIL {
                let log = Log::new();
                let stages = [
                    flaky(&[5], 1, how, &log).after(["first"]),
                    logging("first", &Log::new()),
                    logging("last", &Log::new()).after(["flaky"]),
                ];
                let running = start(&ring(4, kind), stages);
                let mut feed = running.feed(overflow).unwrap();
                let mut event = 0;
                let why = loop {
                    match feed.publish(|slot| *slot = event.min(63)) {
                        Ok(sequence) => event += u64::from(sequence.is_some()),
                        Err(FeedError::Full { .. }) => std::thread::yield_now(),
                        Err(why) => break why,
                    }
                };
                let FeedError::Failed(failure) = &why else {
                    panic!("{why:?}");
                };
                assert_eq!(
                    (failure.stage.as_str(), failure.sequence),
                    ("flaky", Some(5))
                );
                let expected = format!("the pipeline has stopped: {failure}");
                assert_eq!(why.to_string(), expected);
                let again = feed.publish_batch(2, |_| unreachable!()).unwrap_err();
                assert!(matches!(again, FeedError::Failed(_)));
                // It is still there, and nobody waits for it.
                let report = ended(running.stop(A_MINUTE));
                assert_eq!(counts(&report.stages[0]), [5, 0, 1, event - 6]);
                assert_eq!(log.take(), [0, 1, 2, 3, 4, 5]);
                assert!(report.warnings.is_empty());
            }
        }
    }
}

#[test]
fn c17_a_pipeline_that_has_failed_can_be_dropped() {
    for kind in KINDS {
        let stage = flaky(&[0], 1, How::Panic, &Log::new());
        let running = start(&ring(4, kind), [stage]);
        let mut feed = feed(&running);
        publish(&mut feed, 0..1);
        until("it has failed", || running.has_ended());
        drop(running);
        assert!(matches!(feed.publish(|_| ()), Err(FeedError::Failed(_))));
    }
}

#[test]
fn a_panic_of_who_hears_of_failures_is_harmless() {
    for kind in KINDS {
        for how in [How::Panic, How::Bomb] {
            let log = Log::new();
            let heard = Log::new();
            let stage = flaky(&[1, 2], 1, How::Error, &log).on_failure(OnFailure::SKIP);
            let stage = {
                let heard = heard.clone();
                stage.dead_letters(move |letter| {
                    heard.push(*letter.event);
                    how.fail().unwrap();
                })
            };
            let report = ended(run(kind, 4, [stage]));
            assert_eq!(log.take(), [0, 1, 2, 3]);
            assert_eq!(heard.take(), [1, 2]);
            assert_eq!(counts(&report.stages[0]), [2, 0, 2, 0]);
            assert_eq!(report.failures.len(), 2);
        }
    }
}

#[test]
fn who_panics_when_asked_what_to_do_wants_no_more() {
    for kind in KINDS {
        for how in [How::Panic, How::Bomb] {
            let (log, letters) = (Log::new(), Log::new());
            let stage = flaky(&[1], 1, How::Error, &log).on_failure_by(move |_| {
                how.fail().unwrap();
                Verdict::Skip
            });
            let report = ended(run(kind, 4, [with_letters(stage, &letters)]));
            assert_eq!(log.take(), [0, 1]);
            assert_eq!(letters.take(), [(1, 1)]);
            assert_eq!(counts(&report.stages[0]), [1, 0, 1, 2]);
            let failed = &report.stages[0].ended;
            assert!(matches!(failed, Ended::Failed(failure) if How::Error.is(&failure.cause)));
        }
    }
}

#[test]
fn a_panic_in_the_drop_of_a_handler_is_in_the_report_and_harmless() {
    struct Dropped(Bomb);
    impl Handler<u64> for Dropped {
        fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
            let _ = &self.0;
            Ok(())
        }
    }
    for kind in KINDS {
        let report = run(kind, 4, [Stage::new("a", Dropped(Bomb))]).unwrap();
        assert_eq!(counts(&report.stages[0]), [4, 0, 0, 0]);
        let [failure] = &*report.failures else {
            panic!("{report:?}");
        };
        let expected = "stage \"a\" panicked in on_stop: a bomb was dropped";
        assert_eq!(failure.to_string(), expected);
    }
}

#[test]
fn a_panic_in_the_drop_of_a_closure_is_harmless() {
    for kind in KINDS {
        let (asked, letters) = (Arc::new(Bomb), Arc::new(Bomb));
        let stages = [
            logging("a", &Log::new()).on_failure_by(move |_| {
                let _ = &asked;
                Verdict::Skip
            }),
            logging("b", &Log::new()).dead_letters(move |_| {
                let _ = &letters;
            }),
        ];
        let report = run(kind, 4, stages).unwrap();
        assert!(report.stages.iter().all(|s| counts(s) == [4, 0, 0, 0]));
    }
}

/// An error that panics when it is dropped.
#[derive(Debug)]
struct Explosive(Bomb);

impl std::fmt::Debug for Bomb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bomb")
    }
}

impl std::fmt::Display for Explosive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Explosive {}

#[test]
fn a_panic_in_the_drop_of_an_error_is_harmless() {
    for kind in KINDS {
        let mut has_failed = false;
        let stage = Stage::each("a", move |_: &u64, _| {
            if std::mem::replace(&mut has_failed, true) {
                Ok(())
            } else {
                Err(Explosive(Bomb))
            }
        });
        let stage = stage.on_failure(OnFailure::STOP.after_retries(1, Duration::ZERO));
        let running = start(&ring(4, kind), [stage]);
        publish(&mut feed(&running), 0..4);
        until("it has ended", || running.has_ended());
        assert_eq!(counts(&running.report().stages[0]), [4, 0, 0, 0]);
    }
}

#[test]
fn of_many_failures_the_first_are_kept_and_all_are_counted() {
    for kind in KINDS {
        let stage = Stage::each("a", |_: &u64, _| Err("oh no")).on_failure(OnFailure::SKIP);
        let running = start(&ring(64, kind), [stage]);
        publish(&mut feed(&running), 0..100);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(counts(&report.stages[0]), [0, 0, 100, 0]);
        let sequences: Vec<_> = (report.failures.iter())
            .map(|failure| failure.sequence.unwrap())
            .collect();
        assert_eq!(sequences, Vec::from_iter(0..64));
        assert_eq!(report.more_failures, 36);
    }
}

/// Whoever does it.
#[test]
fn a_ring_that_somebody_else_poisons_ends_the_pipeline() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let running = Pipeline::on(&ring).stage(logging("a", &Log::new()));
        let running = running.start().unwrap();
        let mut feed = feed(&running);
        ring.poison(42);
        let why = feed.publish(|_| unreachable!()).unwrap_err();
        assert!(matches!(why, FeedError::Claim(_)));
        assert_eq!(why.to_string(), "the ring was poisoned with reason 42");
        let stopped = running.join().unwrap_err();
        let expected = "stage \"a\": the ring was poisoned with reason 42";
        assert_eq!(stopped.to_string(), expected);
        let poisoned = ended(Err(stopped)).stages.remove(0).ended;
        assert!(matches!(poisoned, Ended::Poisoned(poisoned) if poisoned.reason == 42));
    }
}

/// The second would have panicked while the first unwinds, which ends the program.
#[test]
fn c38_several_handlers_that_fail_to_stop_with_something_explosive_are_harmless() {
    struct Explodes(bool);
    impl Handler<u64> for Explodes {
        fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
            Ok(())
        }

        fn on_stop(&mut self) -> Result<(), HandlerError> {
            if self.0 {
                std::panic::panic_any(Bomb);
            }
            Err(Box::new(Explosive(Bomb)))
        }
    }
    for kind in KINDS {
        let handlers: Vec<_> = [true, false, true, false].map(Explodes).into();
        let report = run(kind, 4, [Stage::new("a", handlers)]).unwrap();
        assert_eq!(counts(&report.stages[0]), [4, 0, 0, 0]);
        let [failure] = &*report.failures else {
            panic!("{report:?}");
        };
        let expected = "stage \"a\" panicked in on_stop: without a message";
        assert_eq!(failure.to_string(), expected);
    }
}

/// The supervisor's thread ended by a panic whose payload panicked again, and took the program with it.
#[test]
fn c38_a_panic_in_the_drop_of_who_is_told_of_slow_stages_is_harmless() {
    let told = Explosive(Bomb);
    let stage = logging("a", &Log::new()).limit(Duration::from_secs(1));
    let pipeline = annulus::Pipeline::on(&ring(4, annulus::ring::Producers::One)).stage(stage);
    let running = pipeline
        .on_slow(move |_| println!("{told}"))
        .start()
        .unwrap();
    publish(&mut feed(&running), 0..4);
    let report = running.stop(A_MINUTE).unwrap();
    assert_eq!(counts(&report.stages[0]), [4, 0, 0, 0]);
}

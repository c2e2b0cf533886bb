//! Rewinding: a batch is handled again from its first event on that is not released.

use std::time::Duration;

use annulus::{At, Events, Handler, HandlerError, OnFailure, Stage, Verdict};

use crate::{How, KINDS, Log, WAYS_TO_FAIL, counts, ended, run};

const NO_PAUSE: Duration = Duration::ZERO;

/// Logs each event, and fails at one, so many times.
fn flaky(at: u64, mut times: u32, how: How, log: &Log<u64>) -> Stage<u64> {
    let log = log.clone();
    Stage::each("flaky", move |event: &u64, _| {
        log.push(*event);
        if *event == at && times > 0 {
            times -= 1;
            how.fail()?;
        }
        Ok::<_, HandlerError>(())
    })
}

/// The events that are seen if batches of `size`, of events below `n`, are handled again `times` times from
/// their first on, up to the event that fails.
fn replayed(n: u64, size: u64, at: u64, times: u32) -> Vec<u64> {
    let batch = at / size * size;
    let mut seen = Vec::from_iter(0..batch);
    (0..times).for_each(|_| seen.extend(batch..=at));
    seen.extend(batch..n);
    seen
}

#[test]
fn a16_only_the_current_batch_is_replayed_whichever_event_fails_and_however_often() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            for size in [1, 3] {
                for at in 3..6 {
                    for times in 1..=3 {
                        let log = Log::new();
                        let stage = flaky(at, times, how, &log)
                            .batch_limit(size as usize)
                            .on_failure(OnFailure::STOP.after_rewinds(times, NO_PAUSE));
                        let report = ended(run(kind, 9, [stage]));
                        assert_eq!(log.take(), replayed(9, size, at, times));
                        assert_eq!(counts(&report.stages[0]), [9, 0, 0, 0]);
                        let metrics = &report.stages[0].metrics;
                        assert_eq!(metrics.restarts, u64::from(times));
                        assert_eq!(metrics.batches, 9 / size);
                        assert!(report.failures.is_empty());
                    }
                }
            }
        }
    }
}

#[test]
fn a16_who_decides_is_asked_once_for_each_failure() {
    for kind in KINDS {
        for times in 1..=3 {
            let (log, asked) = (Log::new(), Log::new());
            let stage = {
                let asked = asked.clone();
                flaky(4, times, How::Error, &log).on_failure_by(move |failure| {
                    asked.push((failure.sequence, failure.rewinds, failure.retries));
                    Verdict::Rewind { pause: NO_PAUSE }
                })
            };
            let report = ended(run(kind, 9, [stage.batch_limit(3)]));
            assert_eq!(log.take(), replayed(9, 3, 4, times));
            let expected = (0..times).map(|rewinds| (Some(4), rewinds, 0));
            assert_eq!(asked.take(), Vec::from_iter(expected));
            assert_eq!(counts(&report.stages[0]), [9, 0, 0, 0]);
        }
    }
}

#[test]
fn a16_giving_up_hands_the_event_to_the_policy() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            for (policy, seen, counted) in [
                (
                    OnFailure::SKIP,
                    vec![0, 1, 2, 3, 4, 3, 4, 3, 4, 5, 6],
                    [6, 0, 1, 0],
                ),
                (
                    OnFailure::DETACH,
                    vec![0, 1, 2, 3, 4, 3, 4, 3, 4],
                    [4, 0, 1, 2],
                ),
                (
                    OnFailure::STOP,
                    vec![0, 1, 2, 3, 4, 3, 4, 3, 4],
                    [4, 0, 1, 2],
                ),
            ] {
                let (log, letters) = (Log::new(), Log::new());
                let stage = flaky(4, 99, how, &log)
                    .batch_limit(3)
                    .on_failure(policy.after_rewinds(2, NO_PAUSE));
                let stage = {
                    let letters = letters.clone();
                    stage.dead_letters(move |letter| {
                        letters.push((*letter.event, letter.failure.rewinds));
                        assert!(how.is(&letter.failure.cause));
                    })
                };
                let report = ended(run(kind, 7, [stage]));
                assert_eq!(log.take(), seen);
                assert_eq!(letters.take(), [(4, 2)]);
                assert_eq!(counts(&report.stages[0]), counted);
                assert_eq!(report.failures.len(), 1);
            }
        }
    }
}

/// The limit is that of the batch, whichever of its events fails.
#[test]
fn a16_rewinds_are_counted_for_each_batch() {
    for kind in KINDS {
        let (log, letters) = (Log::new(), Log::new());
        let stage = {
            let log = log.clone();
            // Each event fails when it comes for the first time.
            let mut next = 0;
            Stage::each("flaky", move |event: &u64, _| {
                log.push(*event);
                if *event == next {
                    next += 1;
                    return Err("not yet");
                }
                Ok(())
            })
        };
        let stage = stage
            .batch_limit(3)
            .on_failure(OnFailure::SKIP.after_rewinds(2, NO_PAUSE));
        let stage = {
            let letters = letters.clone();
            stage.dead_letters(move |letter| letters.push(*letter.event))
        };
        let report = ended(run(kind, 6, [stage]));
        assert_eq!(log.take(), [0, 0, 1, 0, 1, 2, 3, 3, 4, 3, 4, 5]);
        assert_eq!(letters.take(), [2, 5]);
        assert_eq!(counts(&report.stages[0]), [4, 0, 2, 0]);
    }
}

/// The strategy may change its mind: retry, rewind, retry, and then no more.
#[test]
fn a16_verdicts_can_be_mixed() {
    for kind in KINDS {
        let (log, asked) = (Log::new(), Log::new());
        let stage = {
            let asked = asked.clone();
            flaky(2, 99, How::Error, &log).on_failure_by(move |failure| {
                asked.push((failure.retries, failure.rewinds));
                match (failure.retries, failure.rewinds) {
                    (0, 0) => Verdict::Retry { pause: NO_PAUSE },
                    (1, 0) => Verdict::Rewind { pause: NO_PAUSE },
                    (1, 1) => Verdict::Retry { pause: NO_PAUSE },
                    _ => Verdict::Skip,
                }
            })
        };
        let report = ended(run(kind, 4, [stage]));
        assert_eq!(log.take(), [0, 1, 2, 2, 0, 1, 2, 2, 3]);
        assert_eq!(asked.take(), [(0, 0), (1, 0), (1, 1), (2, 1)]);
        assert_eq!(counts(&report.stages[0]), [3, 0, 1, 0]);
        assert_eq!(report.stages[0].metrics.restarts, 3);
    }
}

/// It takes one event, releases it, and fails with the next at first.
struct ReleasesTheFirst {
    has_failed: bool,
    log: Log<u64>,
}

impl Handler<u64> for ReleasesTheFirst {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        while let Some((event, _)) = events.next() {
            self.log.push(*event);
            match event {
                1 => events.release(),
                3 if !std::mem::replace(&mut self.has_failed, true) => {
                    return Err("not yet".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }
}

#[test]
fn a16_a21_what_has_been_released_is_not_replayed() {
    for kind in KINDS {
        let log = Log::new();
        let handler = ReleasesTheFirst {
            has_failed: false,
            log: log.clone(),
        };
        let policy = OnFailure::STOP.after_rewinds(1, NO_PAUSE);
        let stages = [Stage::new("a", handler).on_failure(policy)];
        let report = ended(run(kind, 5, stages));
        assert_eq!(log.take(), [0, 1, 2, 3, 2, 3, 4]);
        assert_eq!(counts(&report.stages[0]), [5, 0, 0, 0]);
    }
}

/// A stage after it sees nothing of a batch that is handled again, and everything once.
#[test]
fn a16_later_stages_see_each_event_once() {
    for kind in KINDS {
        let (log, later) = (Log::new(), Log::new());
        let flaky = flaky(4, 3, How::Panic, &log)
            .batch_limit(3)
            .on_failure(OnFailure::STOP.after_rewinds(3, NO_PAUSE));
        let stages = [flaky, crate::logging("later", &later).after(["flaky"])];
        ended(run(kind, 9, stages));
        assert_eq!(later.take(), Vec::from_iter(0..9));
    }
}

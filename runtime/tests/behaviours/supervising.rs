//! Supervising: who takes too long for a batch is counted, and told once.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use annulus::{Ended, OnFailure, Pipeline, Running, Slow, Stage};

use crate::{A_MINUTE, Gate, How, KINDS, Log, ended, feed, logging, publish, ring, until};

const LIMIT: Duration = Duration::from_millis(2);

/// A stage that takes its limit, and so long until it has been told as often as it has had events.
fn slow(name: &str, told: &Log<Slow>) -> Stage<u64> {
    let told = told.clone();
    let stage = Stage::each(name, move |event: &u64, _| {
        let began = Instant::now();
        until("it is told", || told.len() > *event as usize);
        // Time enough to be told again, if it were.
        until("a while has passed", || began.elapsed() > 5 * LIMIT);
    });
    stage.batch_limit(1).limit(LIMIT)
}

#[test]
fn slow_batches_are_counted_and_told_once_each() {
    for kind in KINDS {
        let told = Log::new();
        let stages = [
            slow("slow", &told),
            logging("fast", &Log::new()).limit(A_MINUTE),
            logging("free", &Log::new()),
        ];
        let tell = told.clone();
        let running = Pipeline::on(&ring(8, kind))
            .stages(stages)
            .on_slow(move |slow| tell.push(slow.clone()))
            .start()
            .unwrap();
        publish(&mut feed(&running), 0..5);
        let report = ended(running.stop(A_MINUTE));
        let told = told.take();
        assert_eq!(told.len(), 5, "{told:?}");
        for slow in told {
            assert_eq!((slow.stage.as_str(), slow.limit), ("slow", LIMIT));
            assert!(slow.took > LIMIT);
        }
        let counted: Vec<_> = report.stages.iter().map(|s| s.metrics.slow).collect();
        assert_eq!(counted, [5, 0, 0]);
    }
}

#[test]
fn slow_batches_are_counted_though_nobody_wants_to_be_told() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let stage = crate::gated("slow", &gate, &log).limit(LIMIT);
        let running = Pipeline::on(&ring(8, kind)).stage(stage).start().unwrap();
        publish(&mut feed(&running), 0..1);
        // The one that it is still at counts as well.
        until("it is slow", || {
            running.report().stages[0].metrics.slow == 1
        });
        assert_eq!(running.metrics()[0].1.slow, 0);
        gate.open();
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(report.stages[0].metrics.slow, 1);
    }
}

#[test]
fn a_panic_of_who_is_told_is_harmless() {
    for kind in KINDS {
        for how in [How::Panic, How::Bomb] {
            let told = Log::new();
            let tell = told.clone();
            let running = Pipeline::on(&ring(8, kind))
                .stage(slow("slow", &told))
                .on_slow(move |slow| {
                    tell.push(slow.clone());
                    how.fail().unwrap();
                })
                .start()
                .unwrap();
            publish(&mut feed(&running), 0..3);
            let report = ended(running.stop(A_MINUTE));
            assert_eq!((told.len(), report.stages[0].handled), (3, 3));
            assert!(report.failures.is_empty());
        }
    }
}

#[test]
fn who_is_told_can_abort_the_pipeline() {
    for kind in KINDS {
        let own = Arc::new(OnceLock::<Arc<Running<u64>>>::new());
        let gate = Gate::default();
        let aborts = {
            let (own, gate) = (own.clone(), gate.clone());
            move |_: &Slow| {
                until("it is handed out", || own.get().is_some());
                gate.open();
                let _ = own.get().unwrap().abort();
            }
        };
        let stage = crate::gated("slow", &gate, &Log::new()).limit(LIMIT);
        let pipeline = Pipeline::on(&ring(8, kind)).stage(stage);
        let running = Arc::new(pipeline.on_slow(aborts).start().unwrap());
        let mut feed = feed(&running);
        publish(&mut feed, 0..1);
        own.set(running.clone()).unwrap();
        until("it has ended", || running.has_ended());
        let report = running.report();
        assert!(report.adds_up());
        assert!(matches!(report.stages[0].ended, Ended::Aborted));
    }
}

#[test]
fn who_is_told_can_stop_the_pipeline_while_somebody_waits_for_its_end() {
    let own = Arc::new(OnceLock::<Arc<Running<u64>>>::new());
    let gate = Gate::default();
    let stops = {
        let (own, gate) = (own.clone(), gate.clone());
        move |_: &Slow| {
            until("it is handed out", || own.get().is_some());
            let running = own.get().unwrap();
            running.close();
            gate.open();
            until("it has ended", || running.has_ended());
            let ended = Instant::now();
            until("others know", || ended.elapsed() > 50 * LIMIT);
            let _ = running.stop(A_MINUTE);
        }
    };
    let stage = crate::gated("slow", &gate, &Log::new()).limit(LIMIT);
    let pipeline = Pipeline::on(&ring(8, KINDS[0])).stage(stage);
    let running = Arc::new(pipeline.on_slow(stops).start().unwrap());
    publish(&mut feed(&running), 0..1);
    let joins = {
        let running = running.clone();
        std::thread::spawn(move || ended(running.join()))
    };
    own.set(running).unwrap();
    until("the end is heard of", || joins.is_finished());
    let report = joins.join().unwrap();
    assert!(matches!(report.stages[0].ended, Ended::Drained));
}

#[test]
fn a_slow_batch_that_fails_is_counted_too() {
    for policy in [OnFailure::STOP, OnFailure::DETACH] {
        let told = Log::new();
        let stage = {
            let told = told.clone();
            Stage::each("slow", move |_: &u64, _| {
                until("it is told", || told.len() == 1);
                Err("and then it fails")
            })
        };
        let tell = told.clone();
        let running = Pipeline::on(&ring(8, KINDS[0]))
            .stage(stage.limit(LIMIT).on_failure(policy))
            .on_slow(move |slow| tell.push(slow.clone()))
            .start()
            .unwrap();
        publish(&mut feed(&running), 0..1);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!((told.len(), report.stages[0].metrics.slow), (1, 1));
    }
}

#[test]
fn who_is_told_and_does_not_return_does_not_keep_a_stop_from_returning() {
    let (told, gate) = (Gate::default(), Gate::default());
    let blocks = {
        let (told, gate) = (told.clone(), gate.clone());
        move |_: &Slow| {
            told.open();
            gate.pass();
        }
    };
    let running = Pipeline::on(&ring(8, KINDS[0]))
        .stage(crate::gated("slow", &told, &Log::new()).limit(LIMIT))
        .on_slow(blocks)
        .start()
        .unwrap();
    publish(&mut feed(&running), 0..1);
    std::thread::scope(|scope| {
        let stops = scope.spawn(|| ended(running.stop(LIMIT)));
        let began = Instant::now();
        let mut has_returned = false;
        until("it returns", || {
            has_returned = stops.is_finished();
            has_returned || began.elapsed() > A_MINUTE / 4
        });
        gate.open();
        assert!(has_returned, "a stop of 2 ms takes longer than 15 s");
    });
}

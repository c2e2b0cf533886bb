//! Measuring: what stages count, and how long events wait and take.

use std::time::{Duration, Instant};

use annulus::ring::{Producers, Ring, Wait};
use annulus::{At, Feed, Metrics, OnFailure, Overflow, Pipeline, Stage, Timed, TimesRead, ticks};

use crate::{
    A_MINUTE, Gate, KINDS, Log, ended, feed, gated, logging, publish, publish_batch, ring, start,
    until,
};

#[test]
fn metrics_are_exact_and_can_be_read_while_the_pipeline_runs() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let stages = [
            logging("first", &Log::new()),
            gated("second", &gate, &log).after(["first"]),
        ];
        let running = start(&ring(64, kind), stages);
        let mut feed = feed(&running);
        let mut published = 0;
        for size in [1, 2, 3, 10] {
            publish_batch(&mut feed, published..published + size);
            published += size;
            until("it is handled", || {
                running.metrics()[0].1.events == published
            });
        }
        let [(first, of_first), (second, of_second)] = &*running.metrics() else {
            panic!("two stages");
        };
        assert_eq!((first.as_str(), second.as_str()), ("first", "second"));
        assert_eq!((of_first.batches, of_second.events), (4, 0));
        let sizes = &of_first.batch_sizes;
        assert_eq!((sizes.count(), sizes.sum(), sizes.max()), (4, 16, 10));
        assert_eq!(sizes.mean(), 4.0);
        let quantiles = [0.0, 0.25, 0.5, 0.75, 0.76, 1.0].map(|q| sizes.quantile(q));
        assert_eq!(quantiles, [1, 1, 2, 3, 10, 10]);
        assert!(of_first.times.is_none());

        let report = running.report();
        assert!(report.adds_up());
        assert_eq!((report.stages[0].handled, report.stages[1].left), (16, 16));
        gate.open();
        drop(feed);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(report.stages[1].metrics.events, 16);
        assert_eq!(running.metrics()[1].1, report.stages[1].metrics);
    }
}

#[test]
fn waits_and_parks_are_counted() {
    for kind in KINDS {
        let ring = Ring::builder(4).producers(kind).parking();
        let ring = ring.build(u64::default).unwrap();
        let stages = [
            logging("parks", &Log::new()).wait(Wait::Park),
            logging("yields", &Log::new()).wait(Wait::Yield),
        ];
        let every = Duration::from_millis(1);
        let running = start(&ring, stages.map(|stage| stage.idle_every(every)));
        let all = |condition: fn(&Metrics) -> bool| {
            until("all wait", || {
                running.metrics().iter().all(|(_, of)| condition(of))
            });
        };
        all(|metrics| metrics.waits >= 3);
        until("it parks", || running.metrics()[0].1.parks >= 3);
        assert_eq!(running.metrics()[1].1.parks, 0);
        assert_eq!(running.metrics()[0].1.events, 0);
        ended(running.stop(A_MINUTE));
    }
}

type Events = Timed<u64>;

fn timed_ring(capacity: usize, kind: Producers) -> Ring<Events> {
    let builder = Ring::builder(capacity).producers(kind);
    builder.build(Timed::default).unwrap()
}

fn publish_timed(feed: &mut Feed<Events>, n: u64) {
    for event in 0..n {
        feed.publish(|slot| *slot = Timed::now(event)).unwrap();
    }
}

fn times(stage: &annulus::StageReport) -> &TimesRead {
    stage.metrics.times.as_ref().unwrap()
}

/// Takes a while with each event.
fn busy(name: &str, at_least: Duration) -> Stage<Events> {
    Stage::each(name, move |_: &Events, _| {
        let began = Instant::now();
        while began.elapsed() < at_least {
            std::hint::spin_loop();
        }
    })
}

#[test]
fn the_times_of_all_stages_sum_up_to_the_age_in_the_last() {
    const N: u64 = 200;
    for kind in KINDS {
        for capacity in [4, 64] {
            let short = Duration::from_micros(20);
            let stages = [
                busy("c", short).after(["b"]),
                busy("a", short),
                busy("b", short).after(["a"]),
            ];
            let running = Pipeline::on(&timed_ring(capacity, kind))
                .stages(stages.map(|stage| stage.batch_limit(1)))
                .timed()
                .start()
                .unwrap();
            let mut feed = running.feed(Overflow::Wait).unwrap();
            publish_timed(&mut feed, N);
            drop(feed);
            let report = ended(running.stop(A_MINUTE));
            let mut sum = 0;
            for stage in &report.stages {
                let times = times(stage);
                for of in [&times.queue_ns, &times.batch_ns, &times.age_ns] {
                    assert_eq!(of.count(), N);
                }
                assert!(times.batch_ns.sum() >= N * 15_000, "{times:?}");
                sum += times.queue_ns.sum() + times.batch_ns.sum();
            }
            let age = times(&report.stages[0]).age_ns.sum();
            // Each of seven readings is rounded by less than one.
            assert!(age.abs_diff(sum) <= 7 * N, "{age} and {sum}");
        }
    }
}

/// From the last of those that it comes after.
#[test]
fn the_queue_of_a_stage_begins_when_the_last_before_it_is_done() {
    const SLOW: Duration = Duration::from_millis(2);
    const N: u64 = 20;
    for kind in KINDS {
        let stages = [
            busy("fast", Duration::ZERO),
            busy("slow", SLOW),
            busy("last", Duration::ZERO).after(["fast", "slow"]),
        ];
        let running = Pipeline::on(&timed_ring(4, kind))
            .stages(stages.map(|stage| stage.batch_limit(1)))
            .timed()
            .start()
            .unwrap();
        let mut feed = running.feed(Overflow::Wait).unwrap();
        publish_timed(&mut feed, N);
        drop(feed);
        let report = ended(running.stop(A_MINUTE));
        let [fast, slow, last] = [0, 1, 2].map(|index| times(&report.stages[index]));
        assert!(slow.batch_ns.sum() >= N * 1_800_000, "{slow:?}");
        let [by_fast, by_slow, in_last] =
            [fast, slow, last].map(|of| of.queue_ns.sum() + of.batch_ns.sum());
        let until_last = last.age_ns.sum() - in_last;
        // That of each event is the greater of the two.
        assert!(until_last + 5 * N >= by_fast.max(by_slow));
        assert!(until_last <= by_fast + by_slow + 5 * N);
    }
}

/// Each batch counts once, by its first event.
#[test]
fn a_batch_is_timed_by_its_first_event() {
    const WAIT: Duration = Duration::from_millis(5);
    for kind in KINDS {
        let gate = Gate::default();
        let stage = {
            let gate = gate.clone();
            Stage::with("late", move || {
                gate.pass();
                vec![Nothing]
            })
        };
        let running = Pipeline::on(&timed_ring(8, kind)).stage(stage);
        let running = running.timed_by(|event| event.published).start().unwrap();
        let mut feed = running.feed(Overflow::Wait).unwrap();
        let published = Instant::now();
        publish_timed(&mut feed, 8);
        drop(feed);
        until("a while has passed", || published.elapsed() >= 2 * WAIT);
        gate.open();
        let report = ended(running.stop(A_MINUTE));
        let times = times(&report.stages[0]);
        let counts = [&times.queue_ns, &times.batch_ns, &times.age_ns].map(|of| of.count());
        assert_eq!(counts, [1; 3]);
        assert!(Duration::from_nanos(times.queue_ns.sum()) >= WAIT);
        assert!(times.age_ns.max() >= times.queue_ns.max());
    }
}

struct Nothing;

impl annulus::Handler<Events> for Nothing {
    fn on_event(&mut self, _: &Events, _: At) -> Result<(), annulus::HandlerError> {
        Ok(())
    }
}

#[test]
fn a_timed_pipeline_with_failures_and_a_panicking_clock_goes_on() {
    for kind in KINDS {
        let log = Log::new();
        let flaky = {
            let log = log.clone();
            Stage::each("flaky", move |event: &Events, _| {
                log.push(event.event);
                if event.event.is_multiple_of(3) {
                    return Err("oh no");
                }
                Ok(())
            })
        };
        let flaky = flaky.on_failure(OnFailure::SKIP.after_retries(1, Duration::ZERO));
        let stages = [busy("last", Duration::ZERO).after(["flaky"]), flaky];
        let running = Pipeline::on(&timed_ring(8, kind)).stages(stages);
        let running = running.timed_by(|event| {
            assert!(event.event != 5, "no time");
            event.published
        });
        let running = running.start().unwrap();
        let mut feed = running.feed(Overflow::Wait).unwrap();
        publish_timed(&mut feed, 7);
        drop(feed);
        let report = ended(running.stop(A_MINUTE));
        assert_eq!(log.take(), [0, 0, 1, 2, 3, 3, 4, 5, 6, 6]);
        assert_eq!((report.stages[0].handled, report.stages[1].failed), (7, 3));
        for stage in &report.stages {
            assert_eq!(times(stage).age_ns.count(), stage.metrics.batches);
        }
    }
}

#[test]
fn ticks_do_not_go_back_and_now_takes_them() {
    let (before, event, after) = (ticks(), Timed::now(7_u64), ticks());
    assert!(before <= event.published && event.published <= after);
    assert_eq!(event.event, 7);
}

/// What a mutable stage does is timed as well.
#[test]
fn stages_that_change_events_are_timed() {
    for kind in KINDS {
        let enrich = Stage::each_mut("enrich", |event: &mut Events, _| event.event += 1);
        let stages = [busy("last", Duration::ZERO).after(["enrich"]), enrich];
        let running = Pipeline::on(&timed_ring(4, kind))
            .stages(stages.map(|stage| stage.batch_limit(1)))
            .timed()
            .start()
            .unwrap();
        let mut feed = running.feed(Overflow::Wait).unwrap();
        publish_timed(&mut feed, 100);
        drop(feed);
        let report = ended(running.stop(A_MINUTE));
        let sums = report.stages.iter().map(times);
        let sum: u64 = sums.map(|of| of.queue_ns.sum() + of.batch_ns.sum()).sum();
        let age = times(&report.stages[0]).age_ns.sum();
        assert!(age.abs_diff(sum) <= 500, "{age} and {sum}");
    }
}

/// It has no feed.
#[test]
fn a_report_counts_what_was_published_before_the_pipeline_was_there() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let first = start(&ring, [logging("a", &Log::new())]);
        let mut feed = feed(&first);
        publish(&mut feed, 0..5);
        until("it is handled", || first.metrics()[0].1.events == 5);
        let second = start(&ring, [logging("b", &Log::new())]);
        publish(&mut feed, 5..7);
        drop(feed);
        ended(first.stop(A_MINUTE));
        let report = ended(second.stop(A_MINUTE));
        assert_eq!((report.published, report.stages[0].published), (7, 2));
        assert_eq!(report.stages[0].handled, 2);
        assert!(report.feeds.is_empty());
    }
}

//! Idling, and holding: events that are kept beyond their batch, and released while the next is in hand or
//! while there is nothing to do.

use std::time::Duration;

use annulus::ring::Sequence;
use annulus::{
    At, During, Ended, Events, EventsMut, Handler, HandlerError, HandlerMut, Idle, OnFailure, Stage,
};

use crate::{
    A_MINUTE, Gate, How, KINDS, Log, WAYS_TO_FAIL, counts, ended, feed, logging, publish,
    publish_batch, ring, run, start, until,
};

/// Counts its calls of `on_idle`.
struct Idles(Log<bool>);

impl Handler<u64> for Idles {
    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Ok(())
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        assert_eq!(idle.held().count(), 0);
        self.0.push(idle.is_ending());
        Ok(())
    }
}

#[test]
fn on_idle_is_called_once_before_each_wait() {
    for kind in KINDS {
        let log = Log::new();
        let running = start(&ring(8, kind), [Stage::new("a", Idles(log.clone()))]);
        let mut feed = feed(&running);
        for event in 0..10 {
            until("it waits", || log.len() == event as usize + 1);
            publish(&mut feed, event..event + 1);
        }
        until("it waits", || log.len() == 11);
        drop(feed);
        running.stop(A_MINUTE).unwrap();
        assert_eq!(log.take(), [false; 11]);
    }
}

#[test]
fn on_idle_is_called_at_intervals_that_are_not_shorter_than_asked_for() {
    const EVERY: Duration = Duration::from_millis(5);
    for kind in KINDS {
        let (log, times) = (Log::new(), Log::new());
        let idles = vec![Idles(log.clone())];
        let stage = Stage::new("a", idles).idle_every(EVERY);
        let running = start(&ring(8, kind), [stage]);
        let feed = feed(&running);
        times.push(std::time::Instant::now());
        let before = log.len();
        until("it is idle ten times more", || log.len() >= before + 10);
        // The first two may have been due already.
        assert!(times.take()[0].elapsed() >= EVERY * 8);
        drop(feed);
        running.stop(A_MINUTE).unwrap();
    }
}

/// Holds whatever it is given, and releases when it is idle, up to where it is told.
struct Holds {
    until: Log<Sequence>,
    held: Log<Vec<(Sequence, u64)>>,
    is_ending: Log<()>,
}

impl Handler<u64> for Holds {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        events.hold();
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        if idle.is_ending() {
            self.is_ending.push(());
        }
        for until in self.until.take() {
            idle.release_held(until);
            let held = idle.held().map(|(sequence, event)| (sequence, *event));
            self.held.push(held.collect());
        }
        Ok(())
    }
}

fn holding(until: &Log<Sequence>, held: &Log<Vec<(Sequence, u64)>>, is_ending: &Log<()>) -> Holds {
    Holds {
        until: until.clone(),
        held: held.clone(),
        is_ending: is_ending.clone(),
    }
}

#[test]
fn what_is_held_is_released_in_on_idle() {
    for kind in KINDS {
        let (until_, held, log) = (Log::new(), Log::new(), Log::new());
        let holds = Stage::new("holds", holding(&until_, &held, &Log::new()));
        let holds = holds.idle_every(Duration::from_millis(1));
        let running = start(
            &ring(4, kind),
            [holds, logging("later", &log).after(["holds"])],
        );
        let mut feed = feed(&running);
        publish_batch(&mut feed, 0..2);
        publish_batch(&mut feed, 2..4);
        until("all are held", || running.metrics()[0].1.events == 4);
        for (sequence, left) in [(0, 0..4), (1, 1..4), (3, 3..4), (9, 4..4)] {
            until_.push(sequence);
            until("it has released", || held.len() == 1);
            let left: Vec<_> = left.map(|event| (event, event)).collect();
            until("others see it", || log.len() == 4 - left.len());
            let free = Ok(4 - left.len());
            until("producers see it", || feed.producer().free() == free);
            assert_eq!(held.take(), [left]);
        }
        assert_eq!(log.take(), [0, 1, 2, 3]);
        drop(feed);
        running.stop(A_MINUTE).unwrap();
    }
}

#[test]
fn what_is_held_at_the_end_is_drained_by_on_idle() {
    for kind in KINDS {
        for every in [None, Some(Duration::from_millis(2))] {
            let (until_, held, is_ending) = (Log::new(), Log::new(), Log::new());
            let log = Log::new();
            let mut holds = Stage::new("holds", holding(&until_, &held, &is_ending));
            if let Some(every) = every {
                holds = holds.idle_every(every);
            }
            let stages = [holds, logging("later", &log).after(["holds"])];
            let running = start(&ring(4, kind), stages);
            publish(&mut feed(&running), 0..4);
            until("it is to end", || is_ending.len() > 3);
            assert!(!running.has_ended());
            assert_eq!(log.len(), 0);
            until_.push(2);
            until("it has released two", || log.len() == 2);
            assert!(!running.has_ended());
            until_.push(4);
            let report = ended(running.stop(A_MINUTE));
            assert!(
                (report.stages.iter()).all(|stage| matches!(stage.ended, Ended::Drained)),
                "{report:?}"
            );
            assert!(
                (report.stages.iter()).all(|stage| counts(stage) == [4, 0, 0, 0]),
                "{report:?}"
            );
        }
    }
}

/// Nobody releases it.
#[test]
fn what_is_held_for_ever_does_not_keep_a_pipeline_from_being_aborted() {
    for kind in KINDS {
        let is_ending = Log::new();
        let holds = holding(&Log::new(), &Log::new(), &is_ending);
        let log = Log::new();
        let stages = [
            Stage::new("holds", holds),
            logging("later", &log).after(["holds"]),
        ];
        let running = start(&ring(4, kind), stages);
        publish(&mut feed(&running), 0..4);
        until("it is to end", || is_ending.len() > 3);
        let _ = running.stop(Duration::ZERO);
        let report = ended(running.join());
        assert!(matches!(report.stages[0].ended, Ended::Aborted));
        assert_eq!(counts(&report.stages[0]), [4, 0, 0, 0]);
        assert_eq!(counts(&report.stages[1]), [0, 0, 0, 4]);
        assert_eq!(log.len(), 0);
    }
}

/// Holds each batch until it has the next in hand.
struct OneBehind;

impl Handler<u64> for OneBehind {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        events.release_held(events.sequences().start);
        events.hold();
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        if idle.is_ending() {
            idle.release_held(Sequence::MAX);
        }
        Ok(())
    }
}

impl HandlerMut<u64> for OneBehind {
    fn on_batch(&mut self, events: &mut EventsMut<'_, u64>) -> Result<(), HandlerError> {
        while let Some((event, _)) = events.next() {
            *event += 10;
        }
        events.release_held(events.sequences().start);
        events.hold();
        Ok(())
    }

    fn on_event(&mut self, _: &mut u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        Handler::on_idle(self, idle)
    }
}

#[test]
fn what_is_held_is_released_with_the_next_batch_in_hand() {
    for kind in KINDS {
        for (stage, add) in [
            (Stage::new("holds", OneBehind), 0),
            (Stage::new_mut("holds", OneBehind), 10),
        ] {
            let log = Log::new();
            let stages = [stage, logging("later", &log).after(["holds"])];
            let running = start(&ring(8, kind), stages);
            let mut feed = feed(&running);
            for batch in 1..20 {
                publish_batch(&mut feed, batch * 2 - 2..batch * 2);
                let is_held = || running.metrics()[0].1.events == batch * 2;
                until("the batch is held", is_held);
                until("the one before is released", || {
                    log.len() == batch as usize * 2 - 2
                });
                until("no more than that", || feed.producer().free() == Ok(6));
            }
            drop(feed);
            let report = ended(running.stop(A_MINUTE));
            assert_eq!(log.take(), Vec::from_iter(add..38 + add));
            assert!((report.stages.iter()).all(|stage| counts(stage) == [38, 0, 0, 0]));
        }
    }
}

/// Holds everything, and fails when it is to end.
struct FailsAtTheEnd(How);

impl Handler<u64> for FailsAtTheEnd {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        events.hold();
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        if idle.is_ending() {
            self.0.fail()?;
        }
        Ok(())
    }
}

#[test]
fn a_failure_while_what_is_held_is_drained_ends_the_stage() {
    for kind in KINDS {
        for how in WAYS_TO_FAIL {
            for policy in [OnFailure::STOP, OnFailure::DETACH] {
                let stage = Stage::new("holds", FailsAtTheEnd(how)).on_failure(policy);
                let later = logging("later", &Log::new()).after(["holds"]);
                let report = ended(run(kind, 4, [stage, later]));
                assert_eq!(counts(&report.stages[0]), [4, 0, 0, 0]);
                assert_eq!(report.failures[0].during, During::Idle);
                match &report.stages[0].ended {
                    Ended::Failed(_) => assert_eq!(policy, OnFailure::STOP),
                    Ended::Detached(_) => assert_eq!(report.stages[1].handled, 4),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// Holds its batch, and fails at its third event.
struct HoldsAndFails(Gate);

impl Handler<u64> for HoldsAndFails {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        events.hold();
        while let Some((event, _)) = events.next() {
            match event {
                2 => return Err("not this one".into()),
                3 => self.0.pass(),
                _ => {}
            }
        }
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        if idle.is_ending() {
            idle.release_held(Sequence::MAX);
        }
        Ok(())
    }
}

#[test]
fn what_is_held_stays_held_when_a_later_event_of_its_batch_is_given_up() {
    for kind in KINDS {
        let (gate, log) = (Gate::default(), Log::new());
        let holds = Stage::new("holds", HoldsAndFails(gate.clone()));
        let holds = holds.on_failure(OnFailure::SKIP);
        let stages = [holds, logging("later", &log).after(["holds"])];
        let ring = ring(4, kind);
        let running = start(&ring, stages);
        publish_batch(&mut feed(&running), 0..4);
        gate.wait_for_somebody();
        let position = ring.snapshot().members[0].position;
        gate.open();
        ended(running.stop(A_MINUTE));
        assert_eq!(log.take(), [0, 1, 2, 3]);
        assert_eq!(position, 0, "released before it was released");
    }
}

/// Wants its batch to be held, and fails; the second time it does not.
struct HoldsAtFirst(bool);

impl Handler<u64> for HoldsAtFirst {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        if std::mem::replace(&mut self.0, false) {
            events.hold();
            return Err("once more".into());
        }
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        unreachable!()
    }
}

#[test]
fn a_hold_of_a_call_that_fails_is_not_one_of_the_call_that_tries_again() {
    for policy in [
        OnFailure::STOP.after_retries(1, Duration::ZERO),
        OnFailure::STOP.after_rewinds(1, Duration::ZERO),
    ] {
        let ring = ring(4, KINDS[0]);
        let stage = Stage::new("a", HoldsAtFirst(true)).on_failure(policy);
        let running = start(&ring, [stage]);
        publish_batch(&mut feed(&running), 0..4);
        until("it has handled them", || running.metrics()[0].1.events == 4);
        let report = ended(running.stop(Duration::from_millis(100)));
        assert!(matches!(report.stages[0].ended, Ended::Drained));
    }
}

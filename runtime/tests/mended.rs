//! What the runtime once did wrong, each in its shortest form.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use annulus::ring::Ring;
use annulus::{
    At, Events, Handler, HandlerError, Idle, OnFailure, Overflow, Pipeline, Running, Stage, Verdict,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Whether it returns within half a minute; if not, its thread is left to itself.
fn returns<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(call()));
    told.recv_timeout(MINUTE / 2).ok()
}

/// Waits for that, or for some seconds: what is not to happen would have by then.
fn soon(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() && Instant::now() < deadline {
        thread::yield_now();
    }
}

/// Refuses every order, and takes its time to stop.
struct Refuses(Arc<AtomicU64>);

impl Handler<u64> for Refuses {
    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Err("refused".into())
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        soon(|| self.0.load(Ordering::SeqCst) > 0);
        Ok(())
    }
}

/// It was released before the ring was poisoned, behind `on_stop`.
#[test]
fn an_event_that_stops_the_pipeline_goes_no_further() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let send = Stage::each("send", move |_: &u64, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let running = Pipeline::on(&ring)
        .stage(Stage::new("risk", Refuses(sent.clone())))
        .stage(send.after(["risk"]))
        .start()
        .unwrap();
    ring.producer().unwrap().publish_value(7).unwrap();
    assert!(running.join().is_err());
    assert_eq!(
        sent.load(Ordering::SeqCst),
        0,
        "it was refused, and is sent"
    );
}

/// Holds every batch until `may_release`, and fails at the third event.
struct Holds {
    may_release: Arc<AtomicBool>,
    has_failed: bool,
}

impl Handler<u64> for Holds {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        events.hold();
        while let Some((_, at)) = events.next() {
            if at.sequence == 2 && !std::mem::replace(&mut self.has_failed, true) {
                return Err("not this one".into());
            }
        }
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Ok(())
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        if self.may_release.load(Ordering::SeqCst) {
            idle.release_held(u64::MAX);
        }
        Ok(())
    }
}

/// They were released; so was what a batch had handled when an abort cut it off.
#[test]
fn what_is_held_stays_so_when_a_later_event_of_its_batch_is_skipped() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let may_release = Arc::new(AtomicBool::new(false));
    let journal = Holds {
        may_release: may_release.clone(),
        has_failed: false,
    };
    let replied = Arc::new(AtomicU64::new(0));
    let counted = replied.clone();
    let reply = Stage::each("reply", move |_: &u64, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let running = Pipeline::on(&ring)
        .stage(
            Stage::new("journal", journal)
                .on_failure(OnFailure::SKIP)
                .idle_every(Duration::from_micros(100)),
        )
        .stage(reply.after(["journal"]))
        .start()
        .unwrap();
    ring.producer().unwrap().publish_batch(5, |_| ()).unwrap();
    soon(|| replied.load(Ordering::SeqCst) > 0);
    let too_early = replied.load(Ordering::SeqCst);
    may_release.store(true, Ordering::SeqCst);
    assert!(running.join().is_ok());
    assert_eq!(too_early, 0, "answered before they were released");
}

/// A pause before another try ended by an abort only.
#[test]
fn a_failure_ends_the_pauses_of_other_stages() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let is_asked = Arc::new(AtomicBool::new(false));
    let asked = is_asked.clone();
    let flaky =
        Stage::each("flaky", |_: &u64, _| Err::<(), _>("no connection")).on_failure_by(move |_| {
            is_asked.store(true, Ordering::SeqCst);
            Verdict::Retry { pause: HOUR }
        });
    let risk = Stage::each("risk", move |_: &u64, _| {
        soon(|| asked.load(Ordering::SeqCst));
        Err::<(), _>("refused")
    });
    let running = Pipeline::on(&ring)
        .stage(flaky)
        .stage(risk)
        .start()
        .unwrap();
    let running = Arc::new(running);
    ring.producer().unwrap().publish_value(7).unwrap();
    let joining = running.clone();
    let joined = returns(move || joining.join().is_err());
    let _ = running.abort();
    assert_eq!(joined, Some(true), "a stage has failed, and join waits");
}

/// Never releases what it holds, and says when it has been told that there will be no more.
struct Keeps(Arc<AtomicBool>);

impl Handler<u64> for Keeps {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        events.hold();
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Ok(())
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        self.0.fetch_or(idle.is_ending(), Ordering::SeqCst);
        Ok(())
    }
}

/// A stage that still held events heard of an abort only.
#[test]
fn a_failure_ends_a_stage_that_still_holds_events() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let is_draining = Arc::new(AtomicBool::new(false));
    let told = is_draining.clone();
    let risk = Stage::each("risk", move |_: &u64, _| {
        soon(|| told.load(Ordering::SeqCst));
        Err::<(), _>("refused")
    });
    let running = Pipeline::on(&ring)
        .stage(Stage::new("journal", Keeps(is_draining)))
        .stage(risk)
        .start()
        .unwrap();
    let running = Arc::new(running);
    ring.producer().unwrap().publish_value(7).unwrap();
    let joining = running.clone();
    let joined = returns(move || joining.join().is_err());
    let _ = running.abort();
    assert_eq!(joined, Some(true), "a stage has failed, and join waits");
}

/// Handles its batch, releases all of it, and then fails.
struct Flushes;

impl Handler<u64> for Flushes {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        while events.next().is_some() {}
        events.release();
        Err("disk full".into())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// It named the event behind the batch.
#[test]
fn a_failure_names_an_event_that_there_is() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let running = Pipeline::on(&ring)
        .stage(Stage::new("journal", Flushes))
        .start();
    let running = running.unwrap();
    ring.producer().unwrap().publish_value(7).unwrap();
    let report = running.join().unwrap_err().report;
    let named = report.failures[0].sequence;
    assert!(
        named.is_none_or(|sequence| sequence < report.published),
        "{named:?}"
    );
}

/// Whoever stopped it waited for the supervisor, and that one for a lock.
#[test]
fn who_is_told_of_a_slow_stage_may_stop_the_pipeline() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let handle: Arc<OnceLock<Weak<Running<u64>>>> = Arc::default();
    let is_told = Arc::new(AtomicBool::new(false));
    let (told, stopping) = (is_told.clone(), handle.clone());
    let slow = Stage::each("slow", move |_: &u64, _| {
        soon(|| told.load(Ordering::SeqCst))
    });
    let running = Pipeline::on(&ring)
        .stage(slow.limit(Duration::from_millis(1)))
        .on_slow(move |_| {
            is_told.store(true, Ordering::SeqCst);
            let running = stopping.get().and_then(Weak::upgrade).unwrap();
            // It need not wait for that; here it makes sure that the other one is ahead.
            soon(|| running.has_ended());
            (0..10_000).for_each(|_| thread::yield_now());
            let _ = running.abort();
        })
        .start()
        .unwrap();
    let running = Arc::new(running);
    handle.set(Arc::downgrade(&running)).unwrap();
    ring.producer().unwrap().publish_value(7).unwrap();
    assert!(
        returns(move || running.stop(HOUR).is_ok()).is_some(),
        "stop does not return"
    );
}

/// The ring stayed open, and the feed published to nobody; or waited for ever, if the ring requires consumers.
#[test]
fn dropping_the_handle_stops_the_feeds_of_a_pipeline_that_has_ended() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let risk = Stage::each("risk", |_: &u64, _| Err::<(), _>("refused"));
    let running = Pipeline::on(&ring)
        .stage(risk.on_failure(OnFailure::DETACH))
        .start()
        .unwrap();
    let mut feed = running.feed(Overflow::Wait).unwrap();
    feed.publish(|_| ()).unwrap();
    soon(|| running.has_ended());
    drop(running);
    assert!(feed.publish(|_| ()).is_err(), "to whom?");
}

/// Refuses every order, and does not stop before it may.
struct StopsLate(mpsc::Receiver<()>);

impl Handler<u64> for StopsLate {
    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Err("refused".into())
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        Ok(self.0.recv_timeout(MINUTE)?)
    }
}

/// The ring was poisoned when the handler had stopped.
#[test]
fn producers_hear_of_a_failure_before_the_handler_has_stopped() {
    let ring = Ring::builder(64).build(u64::default).unwrap();
    let (let_go, may_stop) = mpsc::channel();
    let risk = Stage::new("risk", StopsLate(may_stop));
    let running = Pipeline::on(&ring).stage(risk).start().unwrap();
    let mut feed = running.feed(Overflow::Wait).unwrap();
    let heard = returns(move || {
        loop {
            if let Err(error) = feed.publish(|order| *order = 1) {
                break error.to_string();
            }
        }
    });
    let_go.send(()).unwrap();
    assert!(heard.is_some_and(|error| error.ends_with("refused")));
    assert!(running.join().is_err());
}

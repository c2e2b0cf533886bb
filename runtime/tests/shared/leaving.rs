//! However a pipeline ends, the ring goes on for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus::ring::{ClaimError, Ended, Ring};
use annulus::{At, Events, Handler, HandlerError, Idle, Stage};

use crate::player::{Place, Player};
use crate::{LONG, held, publish, read};

#[test]
fn e1_a_pipeline_that_ends_leaves_a_ring_that_others_share_as_it_was() {
    for how in ["stop", "leave", "close", "drop"] {
        println!("{how}");
        let (place, ring) = Place::with(Ring::builder(16));
        let mut feed = ring.producer().unwrap();
        let mut reader = ring.consumer("reader").join().unwrap();
        let mut risk = Player::start(&place, "risk");
        publish(&mut feed, 0..4);
        risk.has_handled("risk", 0..4);
        risk.tell(how);
        match how {
            "drop" => risk.says("dropped"),
            _ => risk.says(
                "ok risk left started=0 resumed=false missed=0 handled=4 failed=0 left=0 held=false sum=true",
            ),
        }
        assert_eq!(held(&ring, &["risk"]), []);
        let snapshot = ring.snapshot();
        assert_eq!((snapshot.closed, snapshot.poisoned), (false, None));
        publish(&mut feed, 4..12);
        assert_eq!(read(&mut reader, 11), Vec::from_iter(0..12));
        // Nobody is in the way any more.
        publish(&mut feed, 12..28);
        assert_eq!(read(&mut reader, 27), Vec::from_iter(12..28));
    }
}

/// The kind of rings on the heap: others in this process are to have the rest.
#[test]
fn e1_a_pipeline_may_leave_a_ring_on_the_heap() {
    let ring = Ring::builder(16).build(u64::default).unwrap();
    let mut feed = ring.producer().unwrap();
    let mut reader = ring.consumer("reader").join().unwrap();
    let stages = ["a", "b"].map(|name| Stage::each(name, |_: &u64, _| ()));
    let [a, b] = stages;
    let running = annulus::Pipeline::on(&ring)
        .stages([a, b.after(["a"])])
        .start()
        .unwrap();
    publish(&mut feed, 0..4);
    let report = running.leave(LONG).unwrap();
    assert!(report.stages.iter().all(|stage| stage.handled == 4));
    assert!(report.adds_up());
    drop(running);
    publish(&mut feed, 4..8);
    assert_eq!(read(&mut reader, 7), Vec::from_iter(0..8));
}

/// Holds every batch until it is told that there will be no more.
struct Journal(Arc<AtomicU64>);

impl Handler<u64> for Journal {
    fn on_batch(&mut self, events: &mut Events<'_, u64>) -> Result<(), HandlerError> {
        events.each(|_, _| Ok::<_, HandlerError>(()))?;
        events.hold();
        Ok(())
    }

    fn on_event(&mut self, _: &u64, _: At) -> Result<(), HandlerError> {
        Ok(())
    }

    fn on_idle(&mut self, idle: &mut Idle<'_, u64>) -> Result<(), HandlerError> {
        if idle.is_ending() {
            let held = idle.held().count() as u64;
            self.0.store(held, Ordering::SeqCst);
            idle.release_held(u64::MAX);
        }
        Ok(())
    }
}

#[test]
fn e1_a_stage_that_holds_events_releases_them_before_it_leaves() {
    for owns in [true, false] {
        let ring = Ring::builder(16).build(u64::default).unwrap();
        let mut feed = ring.producer().unwrap();
        let held = Arc::new(AtomicU64::new(0));
        let reply = Stage::each("reply", |_: &u64, _| ()).after(["journal"]);
        let running = annulus::Pipeline::on(&ring)
            .stages([Stage::new("journal", Journal(held.clone())), reply])
            .owns_ring(owns)
            .start()
            .unwrap();
        publish(&mut feed, 0..4);
        let report = running.leave(LONG).unwrap();
        assert_eq!(held.load(Ordering::SeqCst), 4);
        let handled = report.stages.iter().map(|stage| stage.handled);
        assert_eq!(handled.collect::<Vec<_>>(), [4, 4]);
        publish(&mut feed, 4..5);
    }
}

/// One that leaves sooner would let those behind it go past where it has got.
#[test]
fn e2_no_stage_that_leaves_goes_past_those_that_it_comes_after() {
    for _ in 0..50 {
        let ring = Ring::builder(8).build(u64::default).unwrap();
        let mut feed = ring.producer().unwrap();
        let written = Arc::new(AtomicU64::new(0));
        let on_disk = written.clone();
        let journal = Stage::each("journal", move |event: &u64, _| {
            written.store(*event + 1, Ordering::SeqCst);
        });
        let reply = Stage::each("reply", move |event: &u64, _| {
            std::thread::yield_now();
            assert!(
                *event < on_disk.load(Ordering::SeqCst),
                "{event} is not written"
            );
        });
        let running = annulus::Pipeline::on(&ring)
            .stages([journal, reply.after(["journal"])])
            .owns_ring(false)
            .start()
            .unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let publishing = std::thread::spawn(move || {
            let mut event = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let soon = Instant::now() + Duration::from_millis(1);
                event += u64::from(feed.publish_deadline(soon, |slot| *slot = event).is_ok());
            }
        });
        while running.metrics()[1].1.events < 100 {
            std::thread::yield_now();
        }
        let report = running.leave(LONG).unwrap();
        drop(stop);
        publishing.join().unwrap();
        assert!(report.adds_up() && report.failures.is_empty(), "{report}");
    }
}

#[test]
fn e3_a_pipeline_that_owns_the_ring_closes_or_poisons_it() {
    let (place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let mut reader = ring.consumer("reader").join().unwrap();
    let mut risk = Player::start(&place, "risk owns");
    publish(&mut feed, 0..4);
    risk.has_handled("risk", 0..4);
    risk.tell("stop");
    while feed.publish(|slot| *slot = 4) != Err(ClaimError::Closed) {}
    while risk.hear().starts_with("risk") {}
    while reader.next_batch().is_ok() {}
    assert_eq!(reader.next_batch().unwrap_err(), Ended::Closed);

    let (place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let mut reader = ring.consumer("reader").join().unwrap();
    let mut risk = Player::start(&place, "risk owns panics=1");
    publish(&mut feed, 0..2);
    risk.has_handled("risk", 0..1);
    risk.tell("join");
    let told = risk.hear();
    assert!(told.starts_with("err risk failed"), "{told}");
    assert!(matches!(feed.publish(|_| ()), Err(ClaimError::Poisoned(_))));
    let ended = loop {
        if let Err(ended) = reader.next_batch() {
            break ended;
        }
    };
    let told = ended.to_string();
    let expected = "the ring was poisoned because a stage of a pipeline failed: the member in row";
    assert!(told.starts_with(expected), "{told}");
}

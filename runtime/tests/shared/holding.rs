//! What becomes of the place of a stage that goes before it has handled what it was to: it is held for the next.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use annulus::ring::{ClaimError, Ring};
use annulus::{FeedError, Overflow, Stage, Warning};

use crate::player::{Place, Player, pipeline};
use crate::{LONG, held, publish, read};

#[test]
fn e7_what_a_failed_pipeline_had_not_handled_is_there_for_the_next() {
    let (place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let mut reader = ring.consumer("reader").join().unwrap();
    let mut first = Player::start(&place, "journal;risk panics=3;reply");
    publish(&mut feed, 0..3);
    for _ in 0..3 * 3 {
        first.hear();
    }
    publish(&mut feed, 3..4);
    first.says("journal 3");
    first.tell("join");
    let told = first.hear();
    assert!(told.starts_with("err journal stopped"), "{told}");
    for part in [
        "risk failed started=0 resumed=false missed=0 handled=3 failed=1",
        "held=true sum=true; reply stopped",
        "stage \"risk\" panicked at event 3: it is 3",
        "stage \"risk\" left its place, and 1 events, to the next of its name",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let names = ["journal", "risk", "reply"];
    let all = names.map(|name| (name.to_owned(), true));
    assert_eq!(held(&ring, &names), all);
    drop(first);
    assert_eq!(ring.snapshot().poisoned, None);

    // Others go on, as far as there is room.
    publish(&mut feed, 4..12);
    assert_eq!(read(&mut reader, 11), Vec::from_iter(0..12));
    let mut second = Player::start(&place, "journal;risk;reply");
    let mut replies = Vec::new();
    while replies.len() < 9 {
        if let Some(event) = second.hear().strip_prefix("reply ") {
            replies.push(event.parse::<u64>().unwrap());
        }
    }
    assert_eq!(replies, Vec::from_iter(3..12));
    second.tell("stop");
    let told = second.hear();
    assert!(
        told.starts_with("ok journal left started=4 resumed=true missed=0"),
        "{told}"
    );
    assert!(
        told.contains("risk left started=3 resumed=true missed=0 handled=9"),
        "{told}"
    );
    assert_eq!(held(&ring, &names), []);
}

#[test]
fn e8_who_leaves_held_misses_nothing_until_it_is_back() {
    for how in ["leave held", "unwind"] {
        println!("{how}");
        let (place, ring) = Place::with(Ring::builder(16));
        let mut feed = ring.producer().unwrap();
        let mut gateway = Player::start(&place, "gateway");
        publish(&mut feed, 0..4);
        gateway.has_handled("gateway", 0..4);
        gateway.tell(how);
        match how {
            "unwind" => gateway.says("dropped"),
            _ => assert!(gateway.hear().contains("left=0 held=true sum=true")),
        }
        assert_eq!(held(&ring, &["gateway"]), [("gateway".to_owned(), true)]);
        publish(&mut feed, 4..8);
        let mut gateway = Player::start(&place, "gateway");
        gateway.has_handled("gateway", 4..8);
        gateway.tell("stop");
        assert!(
            gateway
                .hear()
                .contains("started=4 resumed=true missed=0 handled=4")
        );
    }
}

#[test]
fn e9_who_is_cut_off_leaves_held_what_it_had_not_handled() {
    for how in ["stop now", "abort"] {
        println!("{how}");
        let (_place, ring) = Place::with(Ring::builder(16));
        let mut feed = ring.producer().unwrap();
        // It releases nothing, so there are events that those after it cannot come to.
        let journal = ring.consumer("journal").join().unwrap();
        let risk = Stage::each("risk", |_: &u64, _| ()).after(["journal"]);
        let running = annulus::Pipeline::on(&ring).stage(risk).start().unwrap();
        publish(&mut feed, 0..4);
        let report = match how {
            "abort" => running.abort(),
            _ => running.stop(Duration::ZERO),
        };
        let report = report.unwrap();
        let stage = &report.stages[0];
        assert_eq!((stage.handled, stage.left, stage.is_held), (0, 4, true));
        assert!(report.adds_up(), "{report}");
        assert_eq!(held(&ring, &["risk"]), [("risk".to_owned(), true)]);
        let running = pipeline(&ring, "risk").start().unwrap();
        drop(journal);
        while running.metrics()[0].1.events < 4 {
            std::thread::yield_now();
        }
        assert_eq!(running.leave(LONG).unwrap().stages[0].handled, 4);
    }
}

#[test]
fn e10_a_successor_is_waited_for_as_long_as_the_stage_said() {
    let (_place, ring) = Place::with(Ring::builder(4));
    let mut feed = ring.producer().unwrap();
    let risk = Stage::each("risk", |_: &u64, _| Err::<(), _>("limit reached"));
    let running = annulus::Pipeline::on(&ring)
        .stage(risk.hold_for(Duration::from_millis(10)))
        .start()
        .unwrap();
    feed.publish_value(0).unwrap();
    assert!(running.join().is_err());
    publish(&mut feed, 1..4);
    let deadline = Instant::now() + LONG;
    let error = feed
        .publish_deadline(deadline, |slot| *slot = 4)
        .unwrap_err();
    assert!(matches!(error, ClaimError::Held { .. }), "{error}");
}

/// It would have waited without a word.
#[test]
fn e10_a_stage_that_waits_for_a_dead_one_warns_when_its_time_is_over() {
    let (place, ring) = Place::with(Ring::builder(4));
    let mut feed = ring.producer().unwrap();
    let mut journal = Player::start(&place, "journal sticks=0 hold_for=10");
    let reply = Stage::each("reply", |_: &u64, _| ()).after(["journal"]);
    let running = annulus::Pipeline::on(&ring).stage(reply).start().unwrap();
    publish(&mut feed, 0..1);
    journal.has_handled("journal", 0..1);
    journal.kill();
    let (stage, by) = ("reply".to_owned(), "journal".to_owned());
    let expected = [Warning::HeldUp { stage, by }];
    let deadline = Instant::now() + LONG;
    while running.warnings() != expected {
        assert!(Instant::now() < deadline, "{:?}", running.warnings());
        std::thread::yield_now();
    }
    let mut journal = Player::start(&place, "journal");
    journal.has_handled("journal", 0..1);
    while running.metrics()[0].1.events < 1 {
        assert!(Instant::now() < deadline, "nothing comes");
        std::thread::yield_now();
    }
    while !running.warnings().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", running.warnings());
    }
    running.leave(LONG).unwrap();
}

#[test]
fn e11_a_start_that_is_refused_gives_back_the_place_that_it_had_taken_up() {
    let (place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let mut gateway = Player::start(&place, "gateway sticks=1");
    feed.publish_batch(2, |slots| slots.zip(0..).for_each(|(slot, n)| *slot = n))
        .unwrap();
    gateway.has_handled("gateway", 0..2);
    gateway.kill();
    let _taken = ring.consumer("screen").join().unwrap();
    let mut refused = Player::start_as_it_may(&place, "gateway;screen");
    assert!(
        refused
            .hear()
            .contains("a consumer named \"screen\" has joined already")
    );
    drop(refused);
    assert_eq!(held(&ring, &["gateway"]), [("gateway".to_owned(), true)]);
    let mut gateway = Player::start(&place, "gateway");
    gateway.has_handled("gateway", 0..2);
}

/// Nothing else would tell it: the ring is neither closed nor poisoned, and stays full.
#[test]
fn e4_a_feed_that_would_wait_for_its_failed_pipeline_is_told() {
    let (_place, ring) = Place::with(Ring::builder(4));
    let running = pipeline(&ring, "risk panics=1").start().unwrap();
    let mut feed = running.feed(Overflow::Wait).unwrap();
    let error = loop {
        if let Err(error) =
            feed.publish_batch(2, |slots| slots.zip(0..).for_each(|(slot, n)| *slot = n))
        {
            break error;
        }
    };
    let FeedError::Failed(failure) = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (failure.stage.as_str(), failure.sequence),
        ("risk", Some(1))
    );
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[test]
fn e7_who_would_go_on_without_those_before_it_is_told() {
    let (_place, ring) = Place::with(Ring::builder(4));
    let running = pipeline(&ring, "journal release;risk;reply release")
        .start()
        .unwrap();
    let (stage, after) = ("risk".to_owned(), "journal".to_owned());
    assert_eq!(
        running.warnings(),
        [Warning::HeldBehindReleased { stage, after }]
    );
}

/// One that is held comes after the others only as long as they are held, too.
#[test]
fn e9_if_one_stage_is_cut_off_all_leave_their_places_held() {
    let (_place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let is_stuck = Arc::new(std::sync::Barrier::new(2));
    let stuck = is_stuck.clone();
    let risk = Stage::each("risk", move |event: &u64, _| {
        if *event == 1 {
            stuck.wait();
            stuck.wait();
        }
    });
    let running = annulus::Pipeline::on(&ring)
        .stages([
            Stage::each("journal", |_: &u64, _| ()),
            risk.after(["journal"]),
        ])
        .start()
        .unwrap();
    feed.publish_batch(8, |slots| slots.zip(0..).for_each(|(slot, n)| *slot = n))
        .unwrap();
    is_stuck.wait();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| running.abort());
        while !running.report().stages[0].is_held {
            assert!(!stopping.is_finished(), "the journal has left");
            std::thread::yield_now();
        }
        is_stuck.wait();
    });
    let report = running.join().unwrap_or_else(|stopped| *stopped.report);
    let [journal, risk] = &report.stages[..] else {
        panic!("two stages");
    };
    assert_eq!((journal.handled, journal.is_held), (8, true));
    assert_eq!((risk.handled, risk.left, risk.is_held), (2, 6, true));
}

/// The others would go on without it, and nobody would know.
#[test]
fn e12_a_stage_that_is_evicted_has_failed() {
    let (_place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let running = pipeline(&ring, "risk;send").start().unwrap();
    publish(&mut feed, 0..4);
    while running.metrics()[1].1.events < 4 {
        std::thread::yield_now();
    }
    ring.evict("risk", LONG).unwrap();
    let report = running.join().unwrap_err().report;
    let [risk, send] = &report.stages[..] else {
        panic!("two stages");
    };
    let told = risk.ended.to_string();
    let expected =
        "failed: stage \"risk\" failed while it waited for events: the consumer was evicted";
    assert!(told.starts_with(expected), "{told}");
    assert!(
        send.ended.to_string().starts_with("stopped"),
        "{}",
        send.ended
    );
    assert_eq!((risk.is_held, send.is_held), (false, true));
    assert_eq!((risk.handled, send.handled), (4, 4));
    assert_eq!(held(&ring, &["risk", "send"]), [("send".to_owned(), true)]);
}

/// The next version of a program has a check before the gateway; the ring holds a gateway without one.
#[test]
fn e13_a_stage_does_not_go_on_without_a_new_one_that_it_comes_after() {
    let (place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let mut gateway = Player::start(&place, "gateway");
    publish(&mut feed, 0..2);
    gateway.has_handled("gateway", 0..2);
    gateway.tell("leave held");
    gateway.hear();
    publish(&mut feed, 2..4);
    let error = pipeline(&ring, "risk;gateway").start().unwrap_err();
    let expected =
        "the place of stage \"gateway\" is held in the ring, and does not come after \"risk\"";
    assert!(error.to_string().starts_with(expected), "{error}");
    let as_before = [("gateway".to_owned(), true)];
    assert_eq!(held(&ring, &["risk", "gateway"]), as_before);
    assert_eq!(ring.evict("gateway", LONG).unwrap().lost, 2);
    let running = pipeline(&ring, "risk;gateway").start().unwrap();
    publish(&mut feed, 4..6);
    let report = running.leave(LONG).unwrap();
    assert!(
        report
            .stages
            .iter()
            .all(|stage| stage.handled == 2 && stage.missed == 4)
    );
}

/// Whatever ends them, one after the other: nothing is missed, and only what was in hand comes twice.
#[test]
fn e7_e8_e9_pipelines_that_take_turns_handle_everything_in_order() {
    const ROUNDS: u64 = 120;
    let (_place, ring) = Place::with(Ring::builder(64));
    let mut feed = ring.producer().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (mut next, mut random) = (0, 0x5eed_u64);
    for round in 0..ROUNDS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (how, fails_at) = ((random >> 33) % 5, next + (random >> 40) % 8);
        let fails = if how == 0 { fails_at } else { u64::MAX };
        let log = seen.clone();
        let gateway = Stage::each("gateway", move |event: &u64, _| {
            if *event == fails {
                return Err("no connection");
            }
            log.lock().unwrap().push(*event);
            Ok(())
        });
        let enrich = Stage::each_mut("enrich", |_: &mut u64, _| ());
        let running = annulus::Pipeline::on(&ring)
            .stages([gateway.after(["enrich"]).batch_limit(3), enrich])
            .start()
            .unwrap();
        let room = feed.free().unwrap().min(8) as u64;
        publish(&mut feed, next..next + room);
        next += room;
        let report = match how {
            0 if room > 0 && fails < next => running.join(),
            1 => running.abort(),
            2 => running.stop(Duration::ZERO),
            3 => running.leave(LONG),
            _ => running.leave_held(LONG),
        };
        let report = report.unwrap_or_else(|stopped| *stopped.report);
        assert!(report.adds_up(), "round {round}, by {how}: {report:?}");
        if how == 3 {
            assert_eq!(held(&ring, &["enrich", "gateway"]), []);
        }
    }
    let running = annulus::Pipeline::on(&ring).stage(Stage::each("gateway", {
        let log = seen.clone();
        move |event: &u64, _| log.lock().unwrap().push(*event)
    }));
    running.start().unwrap().leave(LONG).unwrap();
    let seen = seen.lock().unwrap();
    let mut known = 0;
    for event in seen.iter() {
        assert!(
            *event <= known && *event + 3 >= known,
            "{event} where {known} is next"
        );
        known = known.max(event + 1);
    }
    assert_eq!(known, next);
}

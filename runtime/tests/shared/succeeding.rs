//! A pipeline that has ended in the middle, and is started again.

use annulus::ring::Ring;

use crate::player::{Place, Player};
use crate::publish;

#[test]
fn e5_a_pipeline_that_is_killed_and_started_again_goes_on_where_it_was() {
    let (place, ring) = Place::with(Ring::builder(16).require_consumers(1));
    let mut feed = ring.producer().unwrap();
    let mut gateway = Player::start(&place, "gateway sticks=3");
    feed.publish_batch(8, |slots| slots.zip(0..).for_each(|(slot, n)| *slot = n))
        .unwrap();
    gateway.has_handled("gateway", 0..4);
    gateway.kill();
    let mut gateway = Player::start(&place, "gateway");
    // The batch that it had in hand comes again.
    gateway.has_handled("gateway", 0..8);
    publish(&mut feed, 8..10);
    gateway.has_handled("gateway", 8..10);
    gateway.tell("stop");
    gateway.says(
        "ok gateway left started=0 resumed=true missed=0 handled=10 failed=0 left=0 held=false sum=true",
    );
}

/// At any moment, over and over: no stage misses an event, or is given one before the stage that it comes after.
#[test]
fn e5_of_pipelines_that_are_killed_at_any_moment_no_stage_misses_an_event() {
    const ROUNDS: u64 = 20;
    let (place, ring) = Place::with(Ring::builder(64).require_consumers(2));
    let mut feed = ring.producer().unwrap();
    let mut next = 0;
    let mut known = [0_u64; 2];
    for round in 0..=ROUNDS {
        let mut player = Player::start(&place, "journal;gateway");
        let room = feed.free().unwrap() as u64;
        publish(&mut feed, next..next + room);
        next += room;
        let mut said: Vec<String> = (0..round * 3 % 29).map(|_| player.hear()).collect();
        if round == ROUNDS {
            while said.last() != Some(&format!("gateway {}", next - 1)) {
                said.push(player.hear());
            }
        }
        said.extend(player.kill());
        for line in said {
            let (stage, event) = line.split_once(' ').unwrap();
            let index = usize::from(stage == "gateway");
            let event: u64 = event.parse().unwrap();
            assert!(
                event <= known[index],
                "round {round}: {line:?} where {} is next",
                known[index]
            );
            known[index] = known[index].max(event + 1);
            assert!(
                known[1] <= known[0],
                "round {round}: {line:?} before the journal"
            );
        }
    }
    assert_eq!(known, [next, next]);
}

#[test]
fn e6_a_stage_that_is_not_held_says_what_it_has_missed() {
    let (place, ring) = Place::with(Ring::builder(16));
    let mut feed = ring.producer().unwrap();
    let mut screen = Player::start(&place, "screen release sticks=3");
    feed.publish_batch(8, |slots| slots.zip(0..).for_each(|(slot, n)| *slot = n))
        .unwrap();
    screen.has_handled("screen", 0..4);
    screen.kill();
    let mut screen = Player::start(&place, "screen release");
    publish(&mut feed, 8..10);
    screen.has_handled("screen", 8..10);
    screen.tell("stop");
    screen.says(
        "ok screen left started=8 resumed=false missed=8 handled=2 failed=0 left=0 held=false sum=true",
    );
}

#[test]
fn e7_of_a_failed_stage_that_is_not_held_nobody_waits() {
    let (place, ring) = Place::with(Ring::builder(4));
    let mut feed = ring.producer().unwrap();
    let mut screen = Player::start(&place, "screen release panics=1");
    publish(&mut feed, 0..2);
    screen.has_handled("screen", 0..1);
    screen.tell("join");
    assert!(screen.hear().contains("left=0 held=false sum=true"));
    publish(&mut feed, 2..20);
}

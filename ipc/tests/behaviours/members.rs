//! Producers, consumers and stages in different processes: order, restarts, deaths, the end.

use std::collections::BTreeMap;
use std::process;
use std::time::Duration;

use annulus_ipc::{Directory, Segment};
use annulus_ring::{
    ClaimError, Consumer, Ended, JoinError, MemberKind, NotReady, OnDeath, Producer, ProducerError,
    Producers, Ring, SharedProducer, Wait, wait_any,
};

use crate::place::Place;
use crate::roles::{Player, Role, hear, say};
use crate::{deadline, system, until};

pub(crate) const ROLES: &[Role] = &[
    ("member", be_a_member),
    ("writer", write_many),
    ("risk that watches the journal", watch_the_journal),
    ("echo", echo),
];

// ---------------------------------------------------------------------------------------------
// A member that does what it is told
// ---------------------------------------------------------------------------------------------

/// Starts a process that has this ring open, and is told what to do line by line: see [`Member::obey`].
fn member(place: &Place, ring: &str) -> Player {
    let mut player = Player::start("member", &[place.path(), ring]);
    assert_eq!(player.says(), "ok open");
    player
}

/// A producer of either kind.
pub(crate) enum Feed {
    Only(Producer<u64>),
    OneOfMany(SharedProducer<u64>),
}

impl Feed {
    pub(crate) fn join(ring: &Ring<u64>) -> Result<Self, ProducerError> {
        match ring.producer() {
            Err(ProducerError::WrongKind { .. }) => ring.shared_producer().map(Self::OneOfMany),
            only => only.map(Self::Only),
        }
    }

    pub(crate) fn producer(&mut self) -> &mut Producer<u64> {
        match self {
            Self::Only(producer) => producer,
            Self::OneOfMany(producer) => producer,
        }
    }
}

struct Member {
    ring: Segment<u64>,
    feed: Option<Feed>,
    consumer: Option<Consumer<u64>>,
}

fn be_a_member(words: &[&str]) {
    let ring = Directory::at(words[0]).open(words[1]).expect("it is there");
    say("ok open");
    let mut member = Member {
        ring,
        feed: None,
        consumer: None,
    };
    loop {
        let line = hear();
        let mut words = line.split(' ');
        let command = words.next().unwrap_or_default();
        match member.obey(command, &words.collect::<Vec<_>>()) {
            Ok(done) => say(format!("ok {done}")),
            Err(error) => say(format!("error {error}")),
        }
    }
}

impl Member {
    /// * `feed`: joins as a producer
    /// * `join NAME [after=A,B] [hold] [release] [hold_for=MILLIS] [park] [require] [list]`: joins as a consumer
    /// * `publish FIRST COUNT`: publishes as many numbers
    /// * `claim COUNT`: claims so many, and publishes nothing
    /// * `take COUNT`: reads so many events
    /// * `peek`: what there is to read
    /// * `end`: what the next batch ends by
    /// * `skipped`, `poison REASON`, `close`, `leave`, `exit`
    fn obey(&mut self, command: &str, words: &[&str]) -> Result<String, String> {
        let number = |n: usize| words[n].parse::<u64>().expect("a number");
        match command {
            "feed" => {
                let mut feed = Feed::join(&self.ring).map_err(|error| error.to_string())?;
                let row = feed.producer().row();
                self.feed = Some(feed);
                Ok(row.to_string())
            }
            "join" => self.join(words),
            "publish" => {
                let feed = self.feed.as_mut().expect("it has joined").producer();
                let mut last = None;
                for n in number(0)..number(0) + number(1) {
                    let published = feed.publish_value_deadline(deadline(), n);
                    last = Some(published.map_err(|rejected| rejected.cause.to_string())?);
                }
                Ok(last.map_or(String::new(), |last| last.to_string()))
            }
            "claim" => {
                let feed = self.feed.as_mut().expect("it has joined").producer();
                let claim = feed.claim(number(0) as usize);
                let claim = claim.map_err(|error| error.to_string())?;
                let sequences = claim.sequences();
                std::mem::forget(claim);
                Ok(format!("{sequences:?}"))
            }
            "take" => {
                let consumer = self.consumer.as_mut().expect("it has joined");
                let events = take(consumer, number(0) as usize)?;
                let events: Vec<String> = events.iter().map(u64::to_string).collect();
                Ok(events.join(" "))
            }
            "peek" => match self
                .consumer
                .as_mut()
                .expect("it has joined")
                .try_next_batch()
            {
                Ok(batch) => {
                    let events = batch.len();
                    batch.give_back();
                    Ok(events.to_string())
                }
                Err(why) => Err(format!("{why:?}")),
            },
            "end" => match self.consumer.as_mut().expect("it has joined").next_batch() {
                Ok(batch) => Err(format!("{batch:?}")),
                Err(ended) => Ok(format!("{ended:?}")),
            },
            "skipped" => {
                let consumer = self.consumer.as_mut().expect("it has joined");
                Ok(format!(
                    "{} {:?}",
                    consumer.skipped(),
                    consumer.take_skipped()
                ))
            }
            "poison" => {
                let consumer = self.consumer.as_ref().expect("it has joined");
                consumer.poison(number(0) as u32);
                Ok(String::new())
            }
            "close" => {
                self.ring.close();
                Ok(self.ring.is_closed().to_string())
            }
            "leave" => {
                self.feed = None;
                self.consumer = None;
                Ok(String::new())
            }
            "exit" => process::exit(0),
            other => panic!("{other} is nothing that it can do"),
        }
    }

    fn join(&mut self, words: &[&str]) -> Result<String, String> {
        let mut consumer = self.ring.consumer(words[0]);
        for word in &words[1..] {
            consumer = match word.split_once('=') {
                Some(("after", names)) => consumer.after(names.split(',')),
                Some(("hold_for", millis)) => {
                    let millis = millis.parse().expect("a number");
                    consumer
                        .on_death(OnDeath::Hold)
                        .hold_for(Duration::from_millis(millis))
                }
                _ => match *word {
                    "hold" => consumer.on_death(OnDeath::Hold),
                    "release" => consumer.on_death(OnDeath::Release),
                    "park" => consumer.wait(Wait::Park),
                    "require" => consumer.require_producer(),
                    "list" => consumer.list_skipped(),
                    other => panic!("{other} is no way to join"),
                },
            };
        }
        let consumer = consumer.join().map_err(|error| error.to_string())?;
        let row = consumer.row();
        self.consumer = Some(consumer);
        Ok(row.to_string())
    }
}

/// Reads so many events, one by one, or fails.
fn take(consumer: &mut Consumer<u64>, count: usize) -> Result<Vec<u64>, String> {
    let mut events = Vec::new();
    while events.len() < count {
        let mut batch = consumer
            .next_batch_deadline(deadline())
            .map_err(|why| format!("{why:?} after {events:?}"))?;
        let n = batch.len().min(count - events.len());
        events.extend(batch.iter().take(n));
        batch.release(n);
        batch.give_back();
    }
    Ok(events)
}

fn numbers(events: std::ops::Range<u64>) -> String {
    let events: Vec<String> = events.map(|n| n.to_string()).collect();
    events.join(" ")
}

const KINDS: [Producers; 2] = [Producers::One, Producers::Many];

// ---------------------------------------------------------------------------------------------
// Order
// ---------------------------------------------------------------------------------------------

#[test]
fn a_stage_in_another_process_reads_an_event_after_the_one_before_it_has_released_it() {
    for kind in KINDS {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
        let mut feed = Feed::join(&ring).expect("it joins");
        let (mut journal, mut risk) = (member(&place, "ring"), member(&place, "ring"));
        journal.does("join journal");
        assert!(
            risk.ask("join risk after=nobody")
                .contains("no consumer of that name has joined")
        );
        risk.does("join risk after=journal");
        for n in 0..5 {
            feed.producer().publish_value(n).expect("there is room");
        }
        assert_eq!(risk.ask("peek"), format!("error {}", NotReady::Gated));
        assert_eq!(journal.does("take 2"), "0 1");
        assert_eq!(risk.does("take 2"), "0 1");
        assert_eq!(risk.ask("peek"), format!("error {}", NotReady::Gated));
        assert_eq!(journal.does("take 3"), "2 3 4");
        assert_eq!(risk.does("take 3"), "2 3 4");
        let snapshot = ring.snapshot();
        let stage = snapshot.members.iter().find(|member| member.name == "risk");
        let stage = stage.expect("it has joined");
        assert_eq!((stage.kind, stage.position), (MemberKind::Stage, 5));
        assert_eq!((stage.process, stage.is_dead), (Some(risk.id()), false));
    }
}

#[test]
fn a_stage_never_overtakes_the_journal_while_both_run_in_processes_of_their_own() {
    const EVENTS: u64 = 20_000;
    for kind in KINDS {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(64).producers(kind));
        let mut journal = member(&place, "ring");
        journal.does("join journal");
        let mut risk = Player::start(
            "risk that watches the journal",
            &[place.path(), "ring", &EVENTS.to_string()],
        );
        assert_eq!(risk.says(), "joined");
        let mut feed = Feed::join(&ring).expect("it joins");
        journal.tell(&format!("take {EVENTS}"));
        for n in 0..EVENTS {
            let published = feed.producer().publish_value_deadline(deadline(), n);
            assert_eq!(published.expect("the others read"), n);
        }
        assert_eq!(journal.says(), format!("ok {}", numbers(0..EVENTS)));
        assert_eq!(risk.says(), "in order");
    }
}

fn watch_the_journal(words: &[&str]) {
    let ring = Directory::at(words[0])
        .open::<u64>(words[1])
        .expect("it is there");
    let count: u64 = words[2].parse().expect("a number");
    let mut risk = ring
        .consumer("risk")
        .after(["journal"])
        .join()
        .expect("it joins");
    let journal = |members: &[annulus_ring::Member]| {
        let journal = members.iter().find(|member| member.name == "journal");
        journal.expect("it is there").position
    };
    say("joined");
    let mut next = 0;
    while next < count {
        let batch = risk.next_batch_deadline(deadline()).expect("events");
        for (sequence, event) in batch.with_sequences() {
            assert_eq!((sequence, *event), (next, next));
            next += 1;
        }
        let journal = journal(&ring.snapshot().members);
        assert!(
            journal >= batch.sequences().end,
            "{batch:?}, and the journal is at {journal}"
        );
    }
    say("in order");
}

#[test]
fn many_producers_in_several_processes_leave_no_gap_and_all_see_one_order() {
    const EACH: u64 = 5_000;
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(64).producers(Producers::Many));
    let mut here = ring.consumer("here").join().expect("it joins");
    let mut there = member(&place, "ring");
    there.does("join there");
    let writers: Vec<Player> = (0..4)
        .map(|n: u64| Player::start("writer", &[place.path(), "ring", &n.to_string(), "5000"]))
        .collect();
    there.tell(&format!("take {}", 4 * EACH));

    let mut order = Vec::new();
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    while order.len() < 4 * EACH as usize {
        let batch = here.next_batch_deadline(deadline()).expect("events");
        for (sequence, event) in batch.with_sequences() {
            assert_eq!(sequence, order.len() as u64, "a gap");
            let expected = next.entry(event >> 32).or_default();
            assert_eq!(
                event & 0xffff_ffff,
                *expected,
                "of producer {}",
                event >> 32
            );
            *expected += 1;
            order.push(*event);
        }
    }
    assert_eq!(
        next.into_iter().collect::<Vec<_>>(),
        [0, 1, 2, 3].map(|n| (n, EACH))
    );
    let order: Vec<String> = order.iter().map(u64::to_string).collect();
    assert_eq!(there.says(), format!("ok {}", order.join(" ")));
    for mut writer in writers {
        assert_eq!(writer.says(), "done");
        assert!(writer.ends().success());
    }
    assert_eq!(here.skipped(), 0);
}

fn write_many(words: &[&str]) {
    let ring = Directory::at(words[0])
        .open::<u64>(words[1])
        .expect("it is there");
    let own: u64 = words[2].parse().expect("a number");
    let mut feed = ring.shared_producer().expect("there is a row");
    let mut n = 0;
    let count: u64 = words[3].parse().expect("a number");
    while n < count {
        let batch = (1 + n % 7).min(count - n);
        let numbers = n..n + batch;
        let published = feed.publish_batch_deadline(batch as usize, deadline(), |slots| {
            slots
                .zip(numbers)
                .for_each(|(slot, n)| *slot = own << 32 | n);
        });
        published.expect("the others read");
        n += batch;
    }
    drop(feed);
    say("done");
    hear();
}

// ---------------------------------------------------------------------------------------------
// Feeds that come again, and the end
// ---------------------------------------------------------------------------------------------

#[test]
fn a_feed_that_restarts_goes_on_behind_what_it_had_published() {
    for kind in KINDS {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
        let mut book = ring
            .consumer("book")
            .list_skipped()
            .join()
            .expect("it joins");

        let mut feed = member(&place, "ring");
        feed.does("feed");
        assert_eq!(feed.does("publish 0 3"), "2");
        feed.does("leave");
        assert_eq!(take(&mut book, 3), Ok(vec![0, 1, 2]));
        assert_eq!(book.try_next_batch().expect_err("nothing"), NotReady::Idle);

        // The next one is killed with two claimed, the one after it goes on.
        let mut feed = member(&place, "ring");
        feed.does("feed");
        assert_eq!(feed.does("publish 3 2"), "4");
        assert_eq!(feed.does("claim 2"), "5..7");
        feed.kill();
        let mut feed = member(&place, "ring");
        feed.does("feed");
        // With one producer nobody has seen that it was claimed.
        let next = if kind == Producers::One { 5 } else { 7 };
        assert_eq!(feed.does("publish 5 1"), next.to_string());
        assert_eq!(take(&mut book, 3), Ok(vec![3, 4, 5]));
        assert_eq!(book.position(), next + 1);
        let skipped: Vec<_> = (5..next).collect();
        let told = book.take_skipped().into_iter().flatten();
        assert_eq!(told.collect::<Vec<_>>(), skipped);
        assert!(!ring.is_closed());
    }
}

#[test]
fn an_only_producer_is_only_one_in_all_processes_while_it_lives() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let mut feed = member(&place, "ring");
    feed.does("feed");
    assert_eq!(
        ring.producer().expect_err("there is one"),
        ProducerError::Taken
    );
    feed.kill();
    drop(ring.producer().expect("it is dead"));
}

#[test]
fn a_close_from_any_process_ends_all_others_when_they_have_read_everything() {
    for kind in KINDS {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
        let mut feed = Feed::join(&ring).expect("it joins");
        let mut readers: Vec<Player> = (0..3).map(|_| member(&place, "ring")).collect();
        for (n, (reader, wait)) in readers
            .iter_mut()
            .zip(["", " park", " after=reader-0"])
            .enumerate()
        {
            reader.does(&format!("join reader-{n}{wait}"));
        }
        feed.producer().publish_value(7).expect("there is room");
        let mut closer = member(&place, "ring");
        let is_closed = closer.does("close");
        // The only producer has to agree, which it does with its next claim.
        assert_eq!(is_closed, (kind == Producers::Many).to_string());
        assert_eq!(feed.producer().publish(|_| ()), Err(ClaimError::Closed));
        assert!(ring.is_closed());
        for reader in &mut readers {
            assert_eq!(reader.does("take 1"), "7");
            assert_eq!(reader.does("end"), Ended::Closed.to_string());
        }
        assert!(readers[0].ask("feed").contains("the ring is closed"));
    }
}

#[test]
fn a_close_wakes_who_waits_in_another_process() {
    for kind in KINDS {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
        let mut readers = [member(&place, "ring"), member(&place, "ring")];
        for (reader, join) in readers.iter_mut().zip(["join a", "join b park"]) {
            reader.does(join);
            reader.tell("end");
        }
        let mut closer = member(&place, "ring");
        assert_eq!(closer.does("close"), "true", "no producer has to agree");
        for reader in &mut readers {
            assert_eq!(reader.says(), format!("ok {}", Ended::Closed));
        }
        assert!(ring.is_closed());
    }
}

#[test]
fn a_poison_reaches_every_process_with_who_and_why() {
    for kind in KINDS {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
        let mut feed = Feed::join(&ring).expect("it joins");
        let mut book = ring.consumer("book").join().expect("it joins");
        let (mut poisoner, mut other) = (member(&place, "ring"), member(&place, "ring"));
        let row: usize = poisoner.does("join risk").parse().expect("a row");
        other.does("join other park");
        other.tell("end");
        poisoner.does("poison 42");

        let Err(Ended::Poisoned(poisoned)) = book.next_batch() else {
            panic!("it is poisoned");
        };
        assert_eq!((poisoned.row, poisoned.reason), (Some(row), 42));
        assert_eq!(
            feed.producer().publish(|_| ()),
            Err(ClaimError::Poisoned(poisoned))
        );
        let said = other.says();
        assert!(said.contains(&format!("{poisoned:?}")), "{said}");
        let late = ring.consumer("late").join().expect_err("it is poisoned");
        assert!(matches!(late, JoinError::Poisoned { cause, .. } if cause == poisoned));
        assert_eq!(ring.snapshot().poisoned, Some(poisoned));
        let text = poisoned.to_string();
        assert_eq!(
            text,
            format!("the ring was poisoned with reason 42 by the member in row {row}")
        );
    }
}

#[test]
fn who_requires_a_producer_is_told_when_none_lives_and_goes_on_when_one_comes() {
    for kind in KINDS {
        for how in ["killed", "exits", "leaves"] {
            let place = Place::new();
            let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
            let mut reader = member(&place, "ring");
            reader.does("join reader require");
            assert_eq!(reader.does("end"), Ended::NoProducer.to_string());
            let mut feed = member(&place, "ring");
            feed.does("feed");
            feed.does("publish 0 2");
            reader.tell("take 2");
            assert_eq!(reader.says(), "ok 0 1");
            reader.tell("end");
            match how {
                "killed" => feed.kill(),
                "exits" => {
                    feed.tell("exit");
                    assert!(feed.ends().success());
                }
                _ => drop(feed.does("leave")),
            }
            let none = format!("ok {}", Ended::NoProducer);
            assert_eq!(reader.says(), none, "{kind:?}, {how}");
            let mut feed = Feed::join(&ring).expect("nobody lives");
            feed.producer().publish_value(2).expect("there is room");
            assert_eq!(reader.does("take 1"), "2");
        }
    }
}

#[test]
fn a_member_table_that_is_full_says_who_has_it_in_which_process() {
    let place = Place::new();
    let ring = place.create::<u64>(
        "ring",
        Ring::builder(8).producers(Producers::Many).members(3),
    );
    let (mut feed, mut journal) = (member(&place, "ring"), member(&place, "ring"));
    feed.does("feed");
    journal.does("join journal");
    let _book = ring.consumer("book").join().expect("the last row");
    let error = ring
        .consumer("late")
        .join()
        .expect_err("there is no row")
        .to_string();
    for who in [
        format!("a producer of process {}", feed.id()),
        format!("\"journal\" of process {}", journal.id()),
        format!("\"book\" of process {}", process::id()),
    ] {
        assert!(error.contains(&who), "{error}");
    }
    let also = ring
        .shared_producer()
        .expect_err("there is no row")
        .to_string();
    assert!(
        also.contains("which holds 3 (") && also.contains("larger .members(n)"),
        "{also}"
    );
    // A dead one does not have its row any more.
    feed.kill();
    drop(ring.consumer("late").join().expect("the dead one's row"));
}

// ---------------------------------------------------------------------------------------------
// Consumers that die
// ---------------------------------------------------------------------------------------------

/// A ring of 8, full of events that a consumer of this name, which has died, has read but two of.
fn full_behind_the_dead(place: &Place, kind: Producers, join: &str) -> (Segment<u64>, Feed, usize) {
    let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
    let mut feed = Feed::join(&ring).expect("it joins");
    let mut dead = member(place, "ring");
    let row = dead.does(join).parse().expect("a row");
    for n in 0..2 {
        feed.producer().publish_value(n).expect("there is room");
    }
    assert_eq!(dead.does("take 2"), "0 1");
    for n in 2..10 {
        feed.producer().publish_value(n).expect("there is room");
    }
    let full = feed.producer().try_publish(|_| ());
    assert_eq!(full, Err(ClaimError::Full { free: 0 }));
    dead.kill();
    (ring, feed, row)
}

#[test]
fn d2_a_dead_consumer_that_is_held_is_succeeded_by_one_of_its_name_and_nothing_is_lost() {
    for kind in KINDS {
        let place = Place::new();
        let (ring, mut feed, row) = full_behind_the_dead(&place, kind, "join journal hold");
        let soon = std::time::Instant::now() + Duration::from_millis(20);
        let full = feed.producer().publish_deadline(soon, |_| ());
        assert_eq!(full, Err(ClaimError::Full { free: 0 }), "it is held");
        let dead = ring
            .snapshot()
            .members
            .into_iter()
            .find(|member| member.row == row);
        assert!(dead.expect("it is held").is_dead);
        let mut successor = member(&place, "ring");
        assert_eq!(successor.does("join journal"), row.to_string());
        assert_eq!(successor.does("take 8"), numbers(2..10));
        feed.producer().publish_value(10).expect("there is room");
        assert_eq!(successor.does("take 1"), "10");
    }
}

#[test]
fn d2_whom_a_dead_consumer_holds_up_for_longer_than_it_wanted_is_told_and_goes_on_with_a_successor()
{
    for kind in KINDS {
        let place = Place::new();
        let (ring, mut feed, row) = full_behind_the_dead(&place, kind, "join journal hold_for=30");
        let mut risk = member(&place, "ring");
        risk.does("join risk after=journal");
        assert_eq!(
            feed.producer().publish(|_| ()),
            Err(ClaimError::Held { row })
        );
        risk.tell("end");
        assert_eq!(risk.says(), format!("ok {}", Ended::Held { row }));
        let text = ClaimError::Held { row }.to_string();
        assert!(text.contains("start one of the same name"), "{text}");

        let mut journal = ring
            .consumer("journal")
            .join()
            .expect("the dead one's place");
        assert_eq!(take(&mut journal, 8), Ok((2..10).collect()));
        // It is given what came after it had joined, and gates where it did until it looks for that.
        risk.tell("take 1");
        feed.producer().publish_value(10).expect("there is room");
        assert_eq!(take(&mut journal, 1), Ok(vec![10]));
        assert_eq!(risk.says(), "ok 10");
    }
}

#[test]
fn d2_a_dead_consumer_that_is_released_does_not_hold_up_anybody() {
    for kind in KINDS {
        for join in ["join screen", "join screen release"] {
            let place = Place::new();
            let (ring, mut feed, _) = full_behind_the_dead(&place, kind, join);
            for n in 0..20 {
                let published = feed.producer().publish_value_deadline(deadline(), n);
                published.expect("nobody holds it up");
            }
            let members = ring.snapshot().members;
            assert_eq!(members.len(), 1, "{members:?}");
        }
    }
}

#[test]
fn what_a_dead_producer_had_claimed_is_listed_by_all_who_asked() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(16).producers(Producers::Many));
    let mut here = ring
        .consumer("here")
        .list_skipped()
        .join()
        .expect("it joins");
    let mut there = member(&place, "ring");
    there.does("join there list");
    let (mut dead, mut alive) = (member(&place, "ring"), member(&place, "ring"));
    dead.does("feed");
    alive.does("feed");
    dead.does("publish 0 2");
    assert_eq!(dead.does("claim 3"), "2..5");
    alive.does("publish 2 2");
    assert_eq!(here.try_next_batch().map(|batch| batch.len()), Ok(2));
    assert_eq!(
        here.try_next_batch().expect_err("a living one's claim"),
        NotReady::Idle
    );
    dead.kill();
    assert_eq!(take(&mut here, 2), Ok(vec![2, 3]));
    let skipped = 2..5;
    assert_eq!((here.skipped(), here.take_skipped()), (3, vec![skipped]));
    assert_eq!(there.does("take 4"), "0 1 2 3");
    assert_eq!(there.does("skipped"), "3 [2..5]");
}

// ---------------------------------------------------------------------------------------------
// Waiting
// ---------------------------------------------------------------------------------------------

#[test]
fn parked_members_in_different_processes_wake_each_other() {
    // Who goes to sleep has the kernel put a fence into the others; but it may be forbidden to ask for that, from
    // the start, so that the others cannot count on its fences, or from later on, so that it cannot count on theirs.
    for forbidden in ["never", "from the start", "later"] {
        for kind in KINDS {
            wake_each_other(kind, forbidden);
        }
    }
}

fn wake_each_other(kind: Producers, forbidden: &str) {
    let place = Place::new();
    let pings = place.create::<u64>("pings", Ring::builder(8).producers(kind));
    let pongs = place.create::<u64>("pongs", Ring::builder(8).producers(kind));
    let mut pong = pongs
        .consumer("here")
        .wait(Wait::Park)
        .join()
        .expect("it joins");
    let mut echo = Player::start("echo", &[place.path(), forbidden]);
    assert_eq!(echo.says(), "ready");
    let mut ping = Feed::join(&pings).expect("it joins");
    for n in 0..200 {
        ping.producer().publish_value(n).expect("there is room");
        let batch = pong.next_batch_deadline(deadline()).expect("an answer");
        assert_eq!((batch[0], batch.len()), (n, 1));
    }
    pings.close();
    assert_eq!(ping.producer().publish(|_| ()), Err(ClaimError::Closed));
    assert_eq!(echo.says(), "closed after 200");
}

fn echo(words: &[&str]) {
    let directory = Directory::at(words[0]);
    if words[1] == "from the start" {
        system::forbid_membarrier();
    }
    let pings = directory.open::<u64>("pings").expect("it is there");
    let pongs = directory.open::<u64>("pongs").expect("it is there");
    if words[1] == "later" {
        system::forbid_membarrier();
    }
    let mut ping = pings
        .consumer("there")
        .wait(Wait::Park)
        .join()
        .expect("it joins");
    let mut pong = Feed::join(&pongs).expect("it joins");
    say("ready");
    let mut count = 0;
    while let Ok(batch) = ping.next_batch() {
        for event in &batch {
            pong.producer()
                .publish_value(*event)
                .expect("there is room");
            count += 1;
        }
    }
    say(format!("closed after {count}"));
    hear();
}

#[test]
fn a_producer_that_parks_at_a_full_ring_is_woken_by_a_consumer_in_another_process() {
    for kind in KINDS {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(2).producers(kind));
        let mut book = member(&place, "ring");
        book.does("join book park");
        let mut feed = match Feed::join(&ring).expect("it joins") {
            Feed::Only(feed) => Feed::Only(feed.with_wait(Wait::Park).expect("it may")),
            Feed::OneOfMany(feed) => Feed::OneOfMany(feed.with_wait(Wait::Park).expect("it may")),
        };
        book.tell("take 500");
        for n in 0..500 {
            let published = feed.producer().publish_value_deadline(deadline(), n);
            published.expect("it is woken");
        }
        assert_eq!(book.says(), format!("ok {}", numbers(0..500)));
    }
}

#[test]
fn one_thread_waits_for_any_of_several_rings_of_other_processes_and_of_its_own() {
    for wait in [Wait::Park, Wait::Yield, Wait::default()] {
        let place = Place::new();
        let trades = place.create::<u64>("trades", Ring::builder(8));
        let quotes = place.create::<u64>("quotes", Ring::builder(8).producers(Producers::Many));
        let timers = Ring::builder(8)
            .parking()
            .build(u64::default)
            .expect("it can be");
        let mut trade = trades.consumer("book").join().expect("it joins");
        let mut quote = quotes.consumer("book").join().expect("it joins");
        let mut timer = timers.consumer("book").join().expect("it joins");
        let mut tick = timers.producer().expect("it joins");
        let (mut trader, mut quoter) = (member(&place, "trades"), member(&place, "quotes"));
        trader.does("feed");
        quoter.does("feed");
        for n in 0..20 {
            trader.tell(&format!("publish {n} 1"));
            assert_eq!(wait_any(&mut [&mut quote, &mut trade], wait), Ok(1));
            assert_eq!(take(&mut trade, 1), Ok(vec![n]));
            quoter.tell(&format!("publish {n} 1"));
            assert_eq!(wait_any(&mut [&mut quote, &mut trade], wait), Ok(0));
            assert_eq!(take(&mut quote, 1), Ok(vec![n]));

            // One on the heap, and one that is shared.
            quoter.tell(&format!("publish {n} 1"));
            assert_eq!(wait_any(&mut [&mut timer, &mut quote], wait), Ok(1));
            assert_eq!(take(&mut quote, 1), Ok(vec![n]));
            tick.publish_value(n).expect("there is room");
            assert_eq!(wait_any(&mut [&mut quote, &mut timer], wait), Ok(1));
            assert_eq!(take(&mut timer, 1), Ok(vec![n]));
            (0..2).for_each(|_| _ = quoter.says());
            trader.says();
        }
        // The death of whom it waits for is found out meanwhile: what he had claimed ends nothing.
        quoter.does("claim 2");
        let mut other = member(&place, "quotes");
        other.does("feed");
        other.does("publish 20 1");
        quoter.kill();
        assert_eq!(wait_any(&mut [&mut trade, &mut quote], wait), Ok(1));
        assert_eq!(take(&mut quote, 1), Ok(vec![20]));
        assert_eq!(quote.skipped(), 2);
    }
}

#[test]
fn who_comes_and_goes_in_other_processes_is_in_the_snapshot() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let mut reader = member(&place, "ring");
    reader.does("join reader");
    let members = ring.snapshot().members;
    assert_eq!(members[0].process, Some(reader.id()));
    reader.does("leave");
    assert!(ring.snapshot().members.is_empty());
    reader.does("join reader");
    reader.kill();
    until("a dead member is seen to be dead", || {
        ring.snapshot().members.iter().all(|member| member.is_dead)
    });
    // Whoever joins next clears up.
    drop(ring.consumer("next").join().expect("it joins"));
    assert!(ring.snapshot().members.is_empty());
}

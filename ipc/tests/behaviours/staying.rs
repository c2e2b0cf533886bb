//! Who stays in a ring, and for how long: places that are held, members that idle, leave, are evicted, or die by a panic.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use annulus_ipc::{Directory, Segment};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{
    ClaimError, Consumer, Ended, EvictError, JoinError, NotReady, OnDeath, Ring, Wait,
    wait_any_deadline,
};

use crate::members::{member, take};
use crate::place::Place;
use crate::roles::{Player, Role, say};
use crate::{LONG, deadline, system, until};

pub(crate) const ROLES: &[Role] = &[("crowd that idles", idle_in_a_crowd)];

/// Publishes `first` and what follows it, of which there are so many.
fn publish(ring: &Ring<u64>, first: u64, count: u64) {
    let mut feed = ring.producer().expect("no other producer lives");
    for n in first..first + count {
        let published = feed.publish_value_deadline(deadline(), n);
        published.expect("there is room");
    }
}

/// As `join NAME ...` in another process; see `Member::obey`.
fn joined(place: &Place, how: &str) -> Player {
    let mut player = member(place, "ring");
    player.does(&format!("join {how}"));
    player
}

#[test]
fn d31_the_time_to_wait_for_a_successor_starts_anew_when_one_has_worked_and_died() {
    const TIME: Duration = Duration::from_millis(200);

    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(8));
    let first = joined(&place, "journal hold_for=200");
    let mut risk = (ring.consumer("risk").after(["journal"]))
        .join()
        .expect("it joins");
    publish(&ring, 0, 4);
    let (tell, told) = channel();
    let waiting = thread::spawn(move || {
        loop {
            match risk.next_batch().map(drop) {
                Ok(()) => {}
                Err(Ended::Held { .. }) => tell.send(Instant::now()).expect("it is heard"),
                Err(_) => return,
            }
        }
    });
    first.kill();
    // This one says nothing of a time: it stays what it was.
    let mut second = joined(&place, "journal");
    assert_eq!(second.does("take 2"), "0 1");
    let before = Instant::now();
    second.kill();
    let waited = loop {
        let at = told.recv_timeout(LONG).expect("no successor comes");
        if at > before {
            break at - before;
        }
    };
    assert!(waited >= TIME, "{waited:?}");
    ring.poison(0);
    waiting.join().expect("it does not panic");
}

#[test]
fn d32_a_stage_whose_wait_for_a_successor_is_over_counts_as_ready() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(8));
    let journal = joined(&place, "journal hold_for=30");
    let mut risk = (ring.consumer("risk").after(["journal"]))
        .join()
        .expect("it joins");
    publish(&ring, 0, 1);
    journal.kill();
    let ready = wait_any_deadline(&mut [&mut risk], Wait::Park, deadline());
    assert_eq!(ready, Ok(Some(0)));
    let held = risk.try_next_batch().map(drop);
    assert!(matches!(held, Err(NotReady::Held { .. })), "{held:?}");
}

/// How a consumer ends that has released one event of two.
fn end(mut consumer: Consumer<u64>, how: &str) {
    let ended = catch_unwind(AssertUnwindSafe(move || {
        let mut batch = consumer.next_batch().expect("there are two");
        batch.release(1);
        match how {
            "a panic" => resume_unwind(Box::new(())),
            "an early return" => batch.give_back(), // As `?` in the code that deals with the batch.
            _ => {
                batch.give_back();
                consumer.leave();
            }
        }
    }));
    assert_eq!(ended.is_err(), how == "a panic");
}

#[test]
fn d33_a_panic_or_a_return_loses_nothing_that_a_kill_would_not_lose() {
    for kind in [One, Many] {
        for (on_death, how, is_left) in [
            (Some(OnDeath::Hold), "a panic", vec![1]),
            (Some(OnDeath::Hold), "an early return", vec![1]),
            (Some(OnDeath::Hold), "leave", vec![]),
            (Some(OnDeath::Release), "a panic", vec![]),
            (None, "a panic", vec![]),
            (None, "an early return", vec![]),
        ] {
            let place = Place::new();
            let ring = place.create::<u64>("ring", Ring::builder(8).producers(kind));
            let mut feed = member(&place, "ring");
            feed.does("feed");
            let mut gateway = ring.consumer("gateway");
            if let Some(on_death) = on_death {
                gateway = gateway.on_death(on_death);
            }
            let gateway = gateway.join().expect("it joins");
            feed.does("publish 0 2");
            end(gateway, how);
            let what = format!("{kind:?}, {on_death:?}, {how}");
            let held = ring.snapshot().members.iter().any(|member| member.is_held);
            assert_eq!(held, !is_left.is_empty(), "{what}");
            let mut again = place
                .open::<u64>("ring")
                .consumer("gateway")
                .join()
                .expect(&what);
            feed.does("publish 2 1");
            let events = [is_left, vec![2]].concat();
            assert_eq!(take(&mut again, events.len()), Ok(events), "{what}");
        }
    }
}

/// The one that others come after is held, as if its process had died.
#[test]
fn d33_a_stage_that_others_come_after_is_held_when_its_thread_unwinds() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(8));
    let journal = ring.consumer("journal").join().expect("it joins");
    let mut risk = (ring.consumer("risk").after(["journal"]))
        .join()
        .expect("it joins");
    publish(&ring, 0, 2);
    end(journal, "a panic");
    assert_eq!(take(&mut risk, 1), Ok(vec![0]));
    assert_eq!(risk.try_next_batch().map(drop), Err(NotReady::Gated));
    let mut journal = ring.consumer("journal").join().expect("in its place");
    assert_eq!(take(&mut journal, 1), Ok(vec![1]));
    assert_eq!(take(&mut risk, 1), Ok(vec![1]));
}

#[test]
fn d34_any_process_can_evict_a_consumer_that_is_dead_or_lives_in_another() {
    for kind in [One, Many] {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(4).producers(kind));
        let mut feed = member(&place, "ring");
        feed.does("feed");
        let dead = joined(&place, "journal hold");
        let mut slow = joined(&place, "slow");
        feed.does("publish 0 4");
        feed.tell("publish 4 4"); // They hold it up, both of them.
        dead.kill();
        let evicted = ring.evict("journal", Duration::ZERO).expect("it is dead");
        assert_eq!(evicted.lost, 4);
        let living = ring.evict("slow", Duration::ZERO).expect_err("it lives");
        let process = Some(slow.id());
        assert!(matches!(&living, EvictError::NoAnswer { process: p, .. } if *p == process));
        let text = slow.ask("take 1");
        let lost = Ended::Evicted { lost: 4 }.to_string();
        assert!(text.starts_with(&format!("error {lost}")), "{text}");
        assert!(feed.says().starts_with("ok"), "it goes on");
        assert!(ring.evict("slow", LONG).is_err(), "it has gone");
        assert_eq!(ring.snapshot().members.len(), 1);
        // One that is asked and then dies is not held.
        let asked = joined(&place, "asked hold");
        ring.evict("asked", Duration::ZERO).expect_err("it lives");
        asked.kill();
        until("it is gone with its process", || {
            let gone = ring
                .evict("asked", Duration::ZERO)
                .expect_err("it is asked");
            matches!(gone, EvictError::NoConsumer { .. })
        });
        feed.does("publish 8 8");
    }
}

/// Members of this process that have nothing to do.
fn idle_in_a_crowd(words: &[&str]) {
    let ring: Segment<u64> = Directory::at(words[0]).open("ring").expect("it is there");
    let count: usize = words[1].parse().expect("a number");
    for n in 0..count {
        let mut consumer = ring.consumer(&n.to_string()).wait(Wait::Park);
        if n > 0 && n % 4 == 0 {
            consumer = consumer.after([(n - 1).to_string()]);
        }
        let mut consumer = consumer.join().expect("there is room");
        thread::spawn(move || consumer.next_batch().map(drop));
    }
    // Whatever else the machine does can only add to what it costs: one second in which it is so little will do.
    let deadline = deadline();
    let mut costs = Duration::MAX;
    while costs > Duration::from_millis(10) {
        assert!(
            Instant::now() < deadline,
            "{count} idle for a second take {costs:?}"
        );
        let before = system::processor_time();
        thread::sleep(Duration::from_secs(1));
        costs = system::processor_time() - before;
    }
    say("ok");
    crate::roles::hear();
}

#[test]
fn d35_thirty_two_idle_members_take_no_more_than_a_hundredth_of_a_core() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(64).members(34));
    let mut crowd = Player::start("crowd that idles", &[place.path(), "32"]);
    assert_eq!(crowd.says(), "ok");
    // None of them has gone to sleep for good.
    publish(&ring, 0, 1);
    until("all have read it", || {
        (ring.snapshot().members.iter()).all(|member| member.position == 1)
    });
}

/// Locks the member table, as a process has it that is stopped while it joins, until the file is closed.
fn stop_in_a_join(ring: &Segment<u64>) -> File {
    let path = ring.path().expect("it has a name");
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("it is ours");
    assert!(system::lock_byte(file.as_raw_fd(), 0));
    file
}

#[test]
fn d36_consumers_leave_though_another_process_is_stopped_in_a_join() {
    for kind in [One, Many] {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(4).producers(kind));
        let journal = ring.consumer("journal").join().expect("it joins");
        let mut risk = (ring.consumer("risk").after(["journal"]))
            .join()
            .expect("it joins");
        let mut feed = member(&place, "ring");
        feed.does("feed");
        feed.does("publish 0 2");
        let stopped = stop_in_a_join(&ring);
        drop(journal);
        // The others go on while it is stopped.
        assert_eq!(take(&mut risk, 2), Ok(vec![0, 1]));
        feed.does("publish 2 4");
        assert_eq!(take(&mut risk, 4), Ok(vec![2, 3, 4, 5]));
        drop(stopped);
        // Its row is free for the next of its name, which is no successor.
        let again = ring.consumer("journal").join().expect("it joins");
        assert_eq!(again.position(), 6);
    }
}

#[test]
fn d37_a_dead_producer_has_no_place_in_a_closed_ring() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(4));
    let mut feed = member(&place, "ring");
    feed.does("feed");
    feed.kill();
    assert!(ring.snapshot().members[0].is_held);
    ring.close();
    assert!(ring.is_closed());
    assert_eq!(ring.snapshot().members, []);
    let closed = ring.consumer("book").join().map(drop);
    assert!(matches!(closed, Err(JoinError::Closed { .. })));
}

/// A member that asks for it is told while it waits; one that has something to do goes on.
#[test]
fn d28_members_that_wait_are_told_when_the_name_of_their_ring_leads_elsewhere() {
    for wait in [Wait::default(), Wait::Park] {
        let place = Place::new();
        let ring = place.create::<u64>("ring", Ring::builder(2));
        let feed = ring.producer().expect("it joins").require_name();
        let mut feed = feed.with_wait(wait).expect("it may park");
        let book = ring.consumer("book").wait(wait).require_name();
        let mut book = book.join().expect("it joins");
        feed.publish_value(0).expect("there is room");
        place.directory().unlink("ring").expect("it is there");
        assert_eq!(take(&mut book, 1), Ok(vec![0]), "it is there to be read");
        assert_eq!(book.next_batch().map(drop), Err(Ended::Unlinked));
        feed.publish_batch(2, |_| ()).expect("there is room");
        assert_eq!(feed.publish(|_| ()), Err(ClaimError::Unlinked));
    }
}

//! How consumers go: for good, with their place kept, by unwinding, or evicted.

use std::panic::panic_any;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use annulus_ring::Producers::Many;
use annulus_ring::{
    ClaimError, Ended, EvictError, JoinError, MemberKind, NotReady, OnDeath, Presence, Ring, Start,
    Wait,
};

use crate::{
    KINDS, consumer, drain, feed, give_up, gives_up, in_a_minute, once_it_waits, parking_ring,
    publish, publish_batch, read, ring, rings, stage, until,
};

#[test]
fn c29_a_consumer_that_leaves_its_place_is_followed_by_the_next_of_its_name() {
    for (_, capacity, ring) in rings() {
        let mut feed = feed(&ring);
        let mut first = consumer(&ring, "gateway");
        publish_batch(&mut feed, 1);
        assert_eq!(read(&mut first), [0]);
        let row = first.row();
        first.leave_held();
        let member = &ring.snapshot().members[usize::from(row != 0)];
        assert!(member.is_held && member.is_dead, "{member:?}");
        publish(&mut feed, capacity);
        assert_eq!(feed.try_publish(|_| ()), Err(ClaimError::Full { free: 0 }));
        let mut second = ring.consumer("gateway").start(Start::Next).join().unwrap();
        assert_eq!((second.row(), second.position()), (row, 1));
        assert_eq!(read(&mut second).len(), capacity);
        assert!(!ring.snapshot().members[usize::from(row != 0)].is_held);
        // As it chose nothing else, a drop leaves for good.
        drop(second);
        publish(&mut feed, capacity);
        assert_eq!(read(&mut consumer(&ring, "gateway")), []);
    }
}

#[test]
fn c29_the_place_of_a_stage_keeps_what_it_comes_after() {
    for kind in KINDS {
        let ring = ring(8, kind);
        let mut feed = feed(&ring);
        let mut journal = consumer(&ring, "journal");
        stage(&ring, "risk", &["journal"]).leave_held();
        publish(&mut feed, 2);
        let mut risk = consumer(&ring, "risk");
        assert_eq!(drain(&mut risk), (vec![], NotReady::Gated));
        assert_eq!(read(&mut journal), [0, 1]);
        assert_eq!(read(&mut risk), [0, 1]);
        // One that changes events is followed by one that does.
        drop((risk, journal));
        ring.consumer("enrich").join_mut().unwrap().leave_held();
        let taken = ring.consumer("enrich").join().map(drop);
        assert!(matches!(taken, Err(JoinError::NameTaken { .. })));
        publish(&mut feed, 1);
        let mut enrich = ring.consumer("enrich").join_mut().unwrap();
        enrich.next_batch_mut().unwrap()[0] = 7;
        enrich.leave();
        assert_eq!(ring.snapshot().members.len(), 1);
    }
}

/// On the heap nobody starts again what has unwound, unless it was said so.
#[test]
fn c29_a_consumer_that_is_to_be_held_is_so_when_its_thread_unwinds() {
    for kind in KINDS {
        for (on_death, kept) in [
            (None, vec![]),
            (Some(OnDeath::Release), vec![]),
            (Some(OnDeath::Hold), vec![1, 2, 3]),
        ] {
            let ring = ring(8, kind);
            let mut feed = feed(&ring);
            let mut gateway = ring.consumer("gateway");
            if let Some(on_death) = on_death {
                gateway = gateway.on_death(on_death);
            }
            let mut gateway = gateway.join().unwrap();
            publish_batch(&mut feed, 3);
            gives_up(move || {
                let mut batch = gateway.try_next_batch().unwrap();
                batch.release(1);
                give_up(); // It has dealt with the first event only.
            });
            publish(&mut feed, 1);
            let mut again = consumer(&ring, "gateway");
            assert_eq!(read(&mut again), kept, "{on_death:?}");
        }
    }
}

/// Code that takes batches while its thread unwinds goes on with each batch, though once more with the first.
#[test]
fn c29_a_destructor_that_reads_to_the_end_ends() {
    struct Reads<'r>(Option<annulus_ring::Consumer<u64>>, &'r mut Vec<u64>);

    impl Drop for Reads<'_> {
        fn drop(&mut self) {
            let mut consumer = self.0.take().unwrap();
            while let Ok(batch) = consumer.try_next_batch() {
                self.1.extend(batch.iter());
            }
        }
    }

    let ring = ring(8, Many);
    let mut feed = feed(&ring);
    let gateway = ring.consumer("gateway").on_death(OnDeath::Hold);
    let gateway = gateway.batch_limit(2).join().unwrap();
    publish(&mut feed, 4);
    let mut events = Vec::new();
    gives_up(|| {
        let _reads = Reads(Some(gateway), &mut events);
        give_up();
    });
    events.dedup();
    let last = events.split_off(events.len() - 2);
    assert_eq!(last, [2, 3]);
}

#[test]
fn c30_a_held_consumer_is_evicted_at_once_and_those_after_it_go_on() {
    for (_, capacity, ring) in rings().filter(|(_, capacity, _)| *capacity > 1) {
        let mut feed = feed(&ring);
        let mut journal = consumer(&ring, "journal");
        let mut risk = stage(&ring, "risk", &["journal"]);
        publish(&mut feed, capacity);
        let mut batch = journal.try_next_batch().unwrap();
        batch.release(1);
        batch.give_back();
        journal.leave_held();
        assert_eq!(drain(&mut risk), (vec![0], NotReady::Gated));
        publish(&mut feed, 1);
        assert!(feed.try_publish(|_| ()).is_err());
        let evicted = ring.evict("journal", Duration::ZERO).unwrap();
        assert_eq!(evicted.name, "journal");
        assert_eq!(
            (evicted.kind, evicted.lost),
            (MemberKind::Consumer, capacity as u64)
        );
        assert_eq!(read(&mut risk).len(), capacity);
        publish(&mut feed, capacity);
        let gone = ring.evict("journal", Duration::ZERO).unwrap_err();
        assert!(matches!(gone, EvictError::NoConsumer { .. }));
    }
}

/// It finishes what it has in hand, and is told the loss that the other side is told. What it held is lost as well.
#[test]
fn c30_a_living_consumer_is_evicted_when_it_comes_back_and_both_sides_know_the_loss() {
    for (_, capacity, ring) in rings().filter(|(_, capacity, _)| *capacity > 2) {
        let mut feed = feed(&ring);
        let mut other = consumer(&ring, "other");
        let mut slow = consumer(&ring, "slow");
        publish_batch(&mut feed, 1);
        slow.try_next_batch().unwrap().hold();
        publish(&mut feed, 2);
        let batch = slow.try_next_batch().unwrap();
        let evictor = {
            let ring = ring.clone();
            thread::spawn(move || ring.evict("slow", Duration::from_secs(60)))
        };
        until("it is asked", || {
            ring.snapshot().members.iter().any(|m| m.is_to_be_evicted)
        });
        let asked = ring.evict("slow", Duration::ZERO).unwrap_err();
        assert!(asked.to_string().contains("has not come back"), "{asked}");
        assert_eq!(batch[0], 1);
        drop(batch);
        publish(&mut feed, capacity - 3);
        read(&mut other);
        assert_eq!(feed.try_publish(|_| ()), Err(ClaimError::Full { free: 0 }));
        let lost = capacity as u64;
        assert_eq!(slow.next_batch().map(drop), Err(Ended::Evicted { lost }));
        assert_eq!(evictor.join().unwrap().unwrap().lost, lost);
        // It is out for good: it has nothing, and its row is another's.
        assert_eq!(slow.held().count(), 0);
        let next = consumer(&ring, "next");
        slow.release_until(u64::MAX);
        assert_eq!(slow.skip_to_latest(), 0);
        assert_eq!(
            slow.try_next_batch().map(drop),
            Err(NotReady::Evicted { lost })
        );
        drop(slow);
        publish(&mut feed, capacity);
        assert_eq!(
            ring.snapshot().members.iter().filter(|m| m.lag > 0).count(),
            2
        );
        assert_eq!(next.position(), capacity as u64);
        assert_eq!(read(&mut other).len(), capacity);
    }
}

#[test]
fn c30_a_parked_consumer_is_woken_to_be_evicted() {
    for kind in KINDS {
        let ring = parking_ring(4, kind);
        let _feed = feed(&ring);
        let mut idle = ring.consumer("idle").wait(Wait::Park).join().unwrap();
        let ended = once_it_waits(Wait::Park, move || idle.next_batch().map(drop));
        let evicted = ring.evict("idle", Duration::from_secs(60)).unwrap();
        assert_eq!(evicted.lost, 0);
        assert_eq!(ended.join().unwrap(), Err(Ended::Evicted { lost: 0 }));
    }
}

/// The request does not outlive the consumer that it was for.
#[test]
fn c30_a_consumer_that_leaves_when_asked_is_gone_and_the_next_of_its_row_stays() {
    let ring = ring(4, Many);
    let mut feed = feed(&ring);
    let slow = consumer(&ring, "slow");
    publish(&mut feed, 3);
    ring.evict("slow", Duration::ZERO).unwrap_err();
    drop(slow);
    let mut next = consumer(&ring, "next");
    publish(&mut feed, 1);
    assert_eq!(next.next_batch_deadline(in_a_minute()).unwrap().len(), 1);
    assert!(!ring.snapshot().members.iter().any(|m| m.is_to_be_evicted));
}

/// What a watcher panics with may panic itself.
#[test]
fn c31_a_watcher_whose_panic_panics_keeps_nobody_from_joining_or_leaving() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any("again");
        }
    }

    let ring = ring(4, Many);
    let (tell, told) = channel();
    ring.watch(|_| panic_any(Bomb));
    ring.watch(move |presence| tell.send(presence.clone()).unwrap());
    let mut feed = feed(&ring);
    drop(consumer(&ring, "book"));
    publish(&mut feed, 8);
    assert!(matches!(told.recv(), Ok(Presence::Joined { .. })));
    assert_eq!(told.try_iter().count(), 2);
}

#[test]
fn c26_a_row_is_free_when_those_after_its_consumer_have_looked_and_a_full_table_says_so() {
    for kind in KINDS {
        let ring: Ring<u64> = Ring::builder(4)
            .producers(kind)
            .members(3)
            .build(|| 0)
            .unwrap();
        let mut feed = feed(&ring);
        let first = consumer(&ring, "first");
        let mut second = stage(&ring, "second", &["first"]);
        drop(first);
        let full = ring.consumer("third").join().map(drop).unwrap_err();
        let text = full.to_string();
        assert!(text.contains("kept until \"second\""), "{text}");
        assert!(text.contains("holds 3"), "{text}");
        publish(&mut feed, 1);
        assert_eq!(read(&mut second), [0]);
        let mut third = consumer(&ring, "third");
        // It is not taken for the one that has left.
        publish(&mut feed, 4);
        assert_eq!(read(&mut second), [1, 2, 3, 4]);
        assert_eq!(read(&mut third), [1, 2, 3, 4]);
    }
}

/// Newcomers that never look for events do not keep each other where the first of them came in.
#[test]
fn c27_consumers_that_join_and_leave_by_turns_hold_no_more_than_the_latest() {
    for (_, capacity, ring) in rings().filter(|(_, capacity, _)| *capacity > 1) {
        let mut feed = feed(&ring);
        let mut latest = consumer(&ring, "0");
        for n in 1..50 {
            publish(&mut feed, 1);
            let next = consumer(&ring, &n.to_string());
            assert_eq!(next.position(), n);
            drop(std::mem::replace(&mut latest, next));
        }
        publish(&mut feed, capacity);
        assert!(feed.try_publish(|_| ()).is_err());
        assert_eq!(read(&mut latest).len(), capacity);
    }
}

//! Presence: who is told when members come and go, and when the ring is poisoned.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex};
use std::thread;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{MemberKind, NotReady, Presence, Ring, Start, Wait};

use crate::{
    Feed, KINDS, consumer, feed, give_up, in_a_minute, not_ready, once_it_waits, parking_ring,
    publish, read, reason_and_row, ring, rounds, stage, until,
};

/// What a watcher was told, in that order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Presence>>>);

impl Told {
    /// What this ring tells from now on.
    fn by(ring: &Ring<u64>) -> Self {
        let told = Self::default();
        let tell = told.clone();
        ring.watch(move |presence| tell.0.lock().unwrap().push(presence.clone()));
        told
    }

    /// What was told since the last time.
    fn take(&self) -> Vec<Presence> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn joined(kind: MemberKind, name: &str) -> Presence {
    let name = name.to_owned();
    Presence::Joined { kind, name }
}

fn left(kind: MemberKind, name: &str) -> Presence {
    let name = name.to_owned();
    Presence::Left { kind, name }
}

#[test]
fn a_watcher_is_told_who_comes_and_goes() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let early = consumer(&ring, "early");
        let told = Told::by(&ring);
        assert_eq!(told.take(), []);
        let late = stage(&ring, "late", &["early"]);
        let changes = ring.consumer("changes").after(["late"]);
        let changes = changes.join_mut().unwrap();
        let mut feed = feed(&ring);
        let all = [
            joined(MemberKind::Stage, "late"),
            joined(MemberKind::MutableStage, "changes"),
            joined(MemberKind::Producer, ""),
        ];
        assert_eq!(told.take(), all);
        publish(&mut feed, 1);
        drop((early, changes));
        let all = [
            left(MemberKind::Consumer, "early"),
            left(MemberKind::MutableStage, "changes"),
        ];
        assert_eq!(told.take(), all);
        ring.close();
        assert_eq!(told.take(), []); // That is nobody's coming or going.
        drop((feed, late));
        let all = [
            left(MemberKind::Producer, ""),
            left(MemberKind::Stage, "late"),
        ];
        assert_eq!(told.take(), all);
    }
}

#[test]
fn a_watcher_is_told_of_each_clone_of_a_producer() {
    let ring = ring(4, Many);
    let told = Told::by(&ring);
    let first = ring.shared_producer().unwrap();
    let second = first.try_clone().unwrap();
    let producer = || joined(MemberKind::Producer, "");
    assert_eq!(told.take(), [producer(), producer()]);
    drop(first);
    assert_eq!(told.take(), [left(MemberKind::Producer, "")]);
    drop(second);
}

#[test]
fn a_watcher_is_not_told_of_who_was_refused() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 2);
        read(&mut reader);
        let told = Told::by(&ring);
        let refused = [
            ring.consumer("reader").join(),
            ring.consumer("").join(),
            ring.consumer("late").after(["nobody"]).join(),
            ring.consumer("late").start(Start::At(1)).join(),
            ring.consumer("late").batch_limit(0).join(),
            ring.consumer("late").wait(Wait::Park).join(),
        ];
        assert!(refused.iter().all(Result::is_err));
        assert!(ring.consumer("late").join_mut().is_err());
        if kind == One {
            assert!(Feed::join(&ring).is_err());
        }
        assert_eq!(told.take(), []);
    }
}

#[test]
fn a_watcher_is_told_of_the_first_poison_only() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let reader = consumer(&ring, "reader");
        let told = Told::by(&ring);
        reader.poison(7);
        ring.poison(8);
        let [Presence::Poisoned(poisoned)] = told.take()[..] else {
            panic!("not told once");
        };
        assert_eq!(reason_and_row(poisoned), (7, Some(0)));
        drop(reader);
        assert_eq!(told.take(), [left(MemberKind::Consumer, "reader")]);
    }
}

#[test]
fn every_watcher_is_told_whichever_handle_it_watches_by() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let all = [Told::by(&ring), Told::by(&ring.clone())];
        drop(consumer(&ring, "reader"));
        for told in all {
            let expected = [
                joined(MemberKind::Consumer, "reader"),
                left(MemberKind::Consumer, "reader"),
            ];
            assert_eq!(told.take(), expected);
        }
    }
}

/// It concerns neither the member nor the other watchers.
#[test]
fn a_watcher_that_panics_harms_nobody() {
    for kind in KINDS {
        let ring = ring(4, kind);
        ring.watch(|_| give_up());
        let told = Told::by(&ring);
        ring.watch(|_| give_up());
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish(&mut feed, 4);
        assert_eq!(read(&mut reader).len(), 4);
        drop(feed);
        assert_eq!(not_ready(&mut reader), NotReady::Closed);
        ring.poison(1);
        drop(reader);
        assert_eq!(told.take().len(), 5);
    }
}

/// What it is told has happened: a snapshot shows it.
#[test]
fn a_watcher_can_look_at_the_ring_and_finds_what_it_is_told() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let mut late = None;
        let told = Told::default();
        let (seen, watched) = (told.clone(), ring.clone()); // The ring goes on for ever.
        ring.watch(move |presence| {
            let snapshot = watched.snapshot();
            let is_there = |kind, name: &str| {
                let mut members = snapshot.members.iter();
                members.any(|member| (member.kind, &*member.name) == (kind, name))
            };
            match presence {
                Presence::Joined { kind, name } => assert!(is_there(*kind, name)),
                Presence::Left { kind, name } => {
                    assert!(!is_there(*kind, name));
                    assert_eq!(snapshot.closed, *kind == MemberKind::Producer);
                }
                Presence::Poisoned(poisoned) => assert_eq!(snapshot.poisoned, Some(*poisoned)),
                presence => panic!("{presence:?}"),
            }
            seen.0.lock().unwrap().push(presence.clone());
        });
        let reader = consumer(&ring, "reader");
        late.replace(stage(&ring, "late", &["reader"]));
        drop(reader);
        drop(feed(&ring)); // Which closes the ring.
        ring.poison(1);
        assert_eq!(told.take().len(), 6); // A panic of the watcher would not show otherwise.
    }
}

/// A member may come because another has.
#[test]
fn a_watcher_can_join_and_leave() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let told = Told::by(&ring);
        let watched = ring.clone();
        ring.watch(move |presence| {
            if *presence == joined(MemberKind::Consumer, "first") {
                drop(stage(&watched, "second", &["first"]));
            }
        });
        let first = consumer(&ring, "first");
        drop(first);
        let expected = [
            joined(MemberKind::Consumer, "first"),
            joined(MemberKind::Stage, "second"),
            left(MemberKind::Stage, "second"),
            left(MemberKind::Consumer, "first"),
        ];
        assert_eq!(told.take(), expected);
    }
}

/// Who waits was woken before: a watcher may wait for what that one does next.
#[test]
fn a_watcher_is_told_when_those_who_wait_have_been_woken() {
    type End = fn(Feed<u64>, annulus_ring::Consumer<u64>, &Ring<u64>);
    let ends: [(End, bool); 3] = [
        (|feed, _, _| drop(feed), true),
        (|_, reader, _| drop(reader), false),
        (|_, _, ring| ring.poison(1), true),
    ];
    for kind in KINDS {
        for (end, ends_the_ring) in ends {
            let ring = parking_ring(4, kind);
            let builder = |name| ring.consumer(name).wait(Wait::Park);
            let first = builder("first").join().unwrap();
            let mut second = builder("second").after(["first"]).join().unwrap();
            let mut feed = feed(&ring);
            if !ends_the_ring {
                publish(&mut feed, 1); // For the second, once the first is gone.
            }
            let has_gone_on = Arc::new(AtomicBool::new(false));
            let goes_on = has_gone_on.clone();
            let waiting = once_it_waits(Wait::Park, move || {
                let read = second.next_batch_deadline(in_a_minute()).is_ok();
                goes_on.store(true, Release);
                read
            });
            let told = Told::default();
            let seen = told.clone();
            ring.watch(move |presence| {
                if seen.0.lock().unwrap().is_empty() {
                    until("the second goes on", || has_gone_on.load(Acquire));
                }
                seen.0.lock().unwrap().push(presence.clone());
            });
            end(feed, first, &ring);
            assert_eq!(waiting.join().unwrap(), !ends_the_ring);
            assert!(!told.take().is_empty()); // It would be, had the watcher waited in vain.
        }
    }
}

/// Whatever order they come in: in the end each is told as often as it happened.
#[test]
fn many_threads_come_and_go_before_a_watcher() {
    const VISITS: usize = rounds(200, 20) as usize;
    let ring = ring(4, Many);
    let told = Told::by(&ring);
    let stays = feed(&ring);
    let visitors = ["a", "b", "c"].map(|name| {
        let ring = ring.clone();
        thread::spawn(move || {
            for _ in 0..VISITS {
                drop(consumer(&ring, name));
                drop(feed(&ring));
            }
        })
    });
    visitors
        .into_iter()
        .for_each(|visitor| visitor.join().unwrap());
    drop(stays);
    let told = told.take();
    let times = |presence| told.iter().filter(|told| **told == presence).count();
    for name in ["a", "b", "c"] {
        assert_eq!(times(joined(MemberKind::Consumer, name)), VISITS);
        assert_eq!(times(left(MemberKind::Consumer, name)), VISITS);
    }
    assert_eq!(times(joined(MemberKind::Producer, "")), 3 * VISITS + 1);
    assert_eq!(times(left(MemberKind::Producer, "")), 3 * VISITS + 1);
}

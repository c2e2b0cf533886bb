//! Recovering from death: a member is dead when its handle was forgotten, with what it was doing.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{
    Claim, ClaimError, Consumer, Ended, JoinError, Layout, Liveness, MemberKind, NotReady, OnDeath,
    Presence, Producer, ProducerError, Producers, Ring, Sequence, SharedProducer, Start, Wait,
};

use crate::common::Feed;
use crate::{
    KINDS, LAYOUTS, consumer, drain, feed, fronts, not_ready, publish, publish_batch, read,
    ring_in, rounds, stage, until,
};

/// Those in these rows are dead.
struct Dead(Vec<usize>);

// SAFETY: each names the rows of members that it has forgotten, or of threads that it has joined.
unsafe impl Liveness for Dead {
    type Proof = ();

    fn prove_dead(&self, row: usize) -> Option<()> {
        self.0.contains(&row).then_some(())
    }
}

/// No row is alive.
struct Everybody;

// SAFETY: as above: nobody is alive where it is used.
unsafe impl Liveness for Everybody {
    type Proof = ();

    fn prove_dead(&self, _: usize) -> Option<()> {
        Some(())
    }
}

const NOBODY: Dead = Dead(Vec::new());

/// Both kinds of producers with 8 slots, in both layouts.
fn rings() -> impl Iterator<Item = (Producers, Ring<u64>)> {
    LAYOUTS.into_iter().flat_map(|layout| {
        KINDS.into_iter().map(move |kind| {
            println!("{layout:?}, {kind:?}"); // Shown if the test fails.
            (kind, ring_in(layout, 8, kind))
        })
    })
}

/// The same for many producers.
fn rings_of_many() -> impl Iterator<Item = Ring<u64>> {
    LAYOUTS.map(|layout| ring_in(layout, 8, Many)).into_iter()
}

fn feeds<const N: usize>(ring: &Ring<u64>) -> [SharedProducer<u64>; N] {
    std::array::from_fn(|_| ring.shared_producer().unwrap())
}

/// Writes events that are their own sequences, and publishes them.
fn complete(mut claim: Claim<'_, u64>) {
    let sequences = claim.sequences();
    let slots = claim.iter_mut().zip(sequences);
    slots.for_each(|(slot, sequence)| *slot = sequence);
    claim.publish();
}

/// Dies in the middle of a claim of `n`; returns its row.
fn die_claiming(mut feed: SharedProducer<u64>, n: usize) -> usize {
    let row = feed.row();
    mem::forget(feed.try_claim(n).unwrap());
    mem::forget(feed);
    row
}

/// Dies having released `n` events of the next batch; returns its row.
fn die_reading(mut reader: Consumer<u64>, n: usize) -> usize {
    let row = reader.row();
    if n > 0 {
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(n);
        mem::forget(batch);
    }
    mem::forget(reader);
    row
}

fn names<T>(ring: &Ring<T>) -> Vec<(usize, String)> {
    let members = ring.snapshot().members.into_iter();
    members.map(|member| (member.row, member.name)).collect()
}

/// What recovery did: how much was abandoned, and the rows that were freed and held.
fn recover(ring: &Ring<u64>, liveness: &impl Liveness) -> (u64, Vec<usize>, Vec<usize>) {
    let recovered = ring.recover(liveness);
    (recovered.abandoned, recovered.freed, recovered.held)
}

const NOTHING: (u64, Vec<usize>, Vec<usize>) = (0, vec![], vec![]);

// Many producers.

#[test]
fn d1_what_a_dead_producer_claimed_is_skipped_and_counted() {
    for n in 1..=rounds(6, 2) as usize {
        for ring in rings_of_many() {
            let mut reader = consumer(&ring, "reader");
            let [first, mut second] = feeds(&ring);
            for lap in 0..4 {
                publish_batch(&mut second, 5);
                assert_eq!(read(&mut reader).len(), 5, "lap {lap}");
            }
            publish(&mut second, 1);
            let dead = Dead(vec![die_claiming(first, n)]);
            publish_batch(&mut second, 1);
            assert_eq!(drain(&mut reader), (vec![20], NotReady::Idle));
            assert_eq!(recover(&ring, &dead), (n as u64, vec![1], vec![]));
            let behind = 21 + n as u64;
            assert_eq!(drain(&mut reader), (vec![behind], NotReady::Idle));
            assert_eq!(reader.skipped(), n as u64);
            assert_eq!(fronts(&ring), (behind + 1, behind + 1));
            publish_batch(&mut second, 8);
            assert_eq!(read(&mut reader).len(), 8);
        }
    }
}

#[test]
fn d1_a_claim_of_the_whole_ring_is_abandoned() {
    for ring in rings_of_many() {
        let mut reader = consumer(&ring, "reader");
        let [first, mut second] = feeds(&ring);
        publish(&mut second, 3);
        read(&mut reader);
        let dead = Dead(vec![die_claiming(first, 8)]);
        let error = second.try_publish(|_| ()).unwrap_err();
        assert_eq!(error, ClaimError::Full { free: 0 });
        assert_eq!(recover(&ring, &dead), (8, vec![1], vec![]));
        // It is stepped over, which releases it.
        assert_eq!(drain(&mut reader), (vec![], NotReady::Idle));
        assert_eq!((reader.position(), reader.skipped()), (11, 8));
        publish_batch(&mut second, 8);
        assert_eq!(read(&mut reader).len(), 8);
    }
}

/// Claims of the dead, before, between and behind those that living ones have published.
#[test]
fn d1_several_dead_at_once_are_recovered_at_once() {
    for ring in rings_of_many() {
        let mut reader = consumer(&ring, "reader");
        let [a, b, c, mut d, mut e] = feeds(&ring);
        let mut dead = vec![die_claiming(a, 2)];
        publish(&mut d, 1);
        dead.push(die_claiming(b, 1));
        publish_batch(&mut e, 2);
        dead.push(die_claiming(c, 2));
        assert_eq!(not_ready(&mut reader), NotReady::Idle);
        let rows = dead.clone();
        assert_eq!(recover(&ring, &Dead(dead)), (5, rows, vec![]));
        assert_eq!(read(&mut reader), [2, 4, 5]);
        assert_eq!((reader.position(), reader.skipped()), (8, 5));
        publish_batch(&mut d, 8);
        assert_eq!(read(&mut reader).len(), 8);
    }
}

#[test]
fn d5_a_claim_of_a_living_producer_is_not_taken() {
    for ring in rings_of_many() {
        let mut reader = consumer(&ring, "reader");
        let [a, mut b, c, mut d] = feeds(&ring);
        let mut dead = Dead(vec![die_claiming(a, 2)]);
        let working = b.try_claim(1).unwrap();
        dead.0.push(die_claiming(c, 3));
        publish(&mut d, 1);
        // How far the second dead one's claim goes is not known while somebody works before it.
        assert_eq!(recover(&ring, &dead), (2, vec![1, 3], vec![]));
        assert_eq!(recover(&ring, &NOBODY), NOTHING);
        assert_eq!(drain(&mut reader), (vec![], NotReady::Idle));
        complete(working);
        assert_eq!(drain(&mut reader), (vec![2], NotReady::Idle));
        assert_eq!(recover(&ring, &NOBODY), (3, vec![], vec![]));
        assert_eq!(drain(&mut reader), (vec![6], NotReady::Idle));
        assert_eq!(reader.skipped(), 5);
    }
}

/// Its producer lives, and gives it up when it is used again.
#[test]
fn a_claim_that_a_living_producer_has_leaked_is_not_taken() {
    for ring in rings_of_many() {
        let mut reader = consumer(&ring, "reader");
        let [mut first, mut second] = feeds(&ring);
        mem::forget(first.try_claim(2).unwrap());
        publish(&mut second, 1);
        assert_eq!(recover(&ring, &NOBODY), NOTHING);
        assert_eq!(drain(&mut reader), (vec![], NotReady::Idle));
        publish(&mut first, 1);
        assert_eq!(read(&mut reader), [2, 3]);
        assert_eq!(reader.skipped(), 2);
    }
}

#[test]
fn the_row_of_a_dead_producer_is_free_again() {
    for layout in LAYOUTS {
        let builder = Ring::builder(8).layout(layout).producers(Many).members(2);
        let ring = builder.build(u64::default).unwrap();
        let mut reader = consumer(&ring, "reader");
        for round in 0..5 {
            let feed = ring.shared_producer().unwrap();
            assert_eq!(feed.row(), 1);
            let dead = Dead(vec![die_claiming(feed, 1)]);
            let full = ring.shared_producer().unwrap_err();
            assert!(matches!(full, ProducerError::TableFull { members: 2, .. }));
            assert_eq!(recover(&ring, &dead), (1, vec![1], vec![]));
            assert_eq!(names(&ring), [(0, "reader".to_owned())]);
            assert_eq!(drain(&mut reader), (vec![], NotReady::Idle));
            assert_eq!(reader.skipped(), round + 1);
        }
        // Nobody has closed it, and so it goes on.
        assert!(!ring.is_closed());
        publish(&mut feed(&ring), 1);
        assert_eq!(drain(&mut reader), (vec![5], NotReady::Closed));
    }
}

/// Whatever it has done before, it is not at work.
#[test]
fn a_producer_that_dies_at_rest_leaves_nothing_behind() {
    type Before = fn(&mut SharedProducer<u64>);
    let before: [Before; 5] = [
        |_| (),
        |feed| publish(feed, 1),
        |feed| drop(feed.try_claim(1).unwrap()),
        |feed| assert!(feed.try_claim(8).is_err()),
        |feed| assert!(feed.try_claim(9).is_err() && feed.try_claim(0).is_ok()),
    ];
    for before in before {
        for ring in rings_of_many() {
            let mut reader = consumer(&ring, "reader");
            let [mut first, mut second] = feeds(&ring);
            publish(&mut second, 1);
            before(&mut first);
            let dead = Dead(vec![first.row()]);
            mem::forget(first);
            publish(&mut second, 1);
            assert_eq!(recover(&ring, &dead), (0, vec![1], vec![]));
            let (claimed, published) = fronts(&ring);
            assert_eq!(claimed, published);
            read(&mut reader);
            assert_eq!(reader.position(), claimed);
        }
    }
}

#[test]
fn d4_recovering_again_changes_nothing() {
    for ring in rings_of_many() {
        let mut reader = consumer(&ring, "reader");
        let gone = stage(&ring, "gone", &["reader"]);
        let kept = ring.consumer("kept").on_death(OnDeath::Hold);
        let kept = kept.join().unwrap();
        let [first, mut second] = feeds(&ring);
        publish_batch(&mut second, 2);
        read(&mut reader);
        let mut dead = Dead(vec![die_reading(gone, 1), die_reading(kept, 1)]);
        dead.0.push(die_claiming(first, 3));
        publish(&mut second, 1);
        assert_eq!(recover(&ring, &dead), (3, vec![1, 3], vec![2]));
        for _ in 0..3 {
            // The one that is held is still there, and found again.
            assert_eq!(recover(&ring, &dead), (0, vec![], vec![2]));
            assert_eq!(recover(&ring, &NOBODY), (0, vec![], vec![2]));
        }
        assert_eq!(read(&mut reader), [5]);
        assert_eq!(reader.skipped(), 3);
    }
}

#[test]
fn without_a_death_there_is_nothing_to_recover() {
    for (kind, ring) in rings() {
        assert_eq!(recover(&ring, &Everybody), NOTHING);
        let mut reader = consumer(&ring, "reader");
        let mut last = stage(&ring, "last", &["reader"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 2);
        assert_eq!(recover(&ring, &NOBODY), NOTHING);
        let claim = feed.try_claim(1).unwrap();
        let mut batch = reader.try_next_batch().unwrap();
        batch.release(1);
        assert_eq!(recover(&ring, &NOBODY), NOTHING);
        complete(claim);
        drop(batch);
        assert_eq!(read(&mut reader), [2]);
        assert_eq!(read(&mut last), [0, 1, 2]);
        assert_eq!((reader.skipped(), last.skipped()), (0, 0), "{kind:?}");
        // Nor is there when they have left: the rows are nobody's.
        drop((reader, last, feed));
        assert_eq!(recover(&ring, &Everybody), NOTHING);
    }
}

#[test]
fn d1_a_ring_that_nobody_reads_goes_on_behind_a_dead_claim() {
    for ring in rings_of_many() {
        let [first, mut second] = feeds(&ring);
        publish(&mut second, 5);
        let dead = Dead(vec![die_claiming(first, 2)]);
        publish(&mut second, 1);
        // The ring is full of what may still be written.
        let mut more = 0;
        while second.try_publish(|_| ()).is_ok() {
            more += 1;
        }
        assert_eq!(more, 5);
        assert_eq!(recover(&ring, &dead), (2, vec![0], vec![]));
        publish(&mut second, 30);
        let mut tap = ring.observer().unwrap();
        let mut reader = consumer(&ring, "reader");
        publish(&mut second, 1);
        assert_eq!(read(&mut reader).len(), 1);
        while tap.try_next().is_ok() {}
        assert_eq!(tap.position(), fronts(&ring).1);
    }
}

#[test]
fn an_observer_steps_over_what_was_abandoned() {
    for ring in rings_of_many() {
        let mut tap = ring.observer().unwrap();
        let [first, mut second] = feeds(&ring);
        publish(&mut second, 1);
        let dead = Dead(vec![die_claiming(first, 3)]);
        publish(&mut second, 1);
        assert_eq!(tap.try_next(), Ok((0, 0)));
        assert_eq!(tap.try_next(), Err(NotReady::Idle));
        assert_eq!(recover(&ring, &dead).0, 3);
        assert_eq!(tap.try_next(), Ok((4, 4)));
        assert_eq!((tap.skipped(), tap.missed()), (3, 0));
    }
}

#[test]
fn a_close_is_heard_when_the_claims_of_the_dead_are_abandoned() {
    for ring in rings_of_many() {
        let mut reader = consumer(&ring, "reader");
        let [first, second] = feeds(&ring);
        let mut second = second;
        publish(&mut second, 1);
        let dead = Dead(vec![die_claiming(first, 2)]);
        publish(&mut second, 1);
        ring.close();
        drop(second);
        assert_eq!(drain(&mut reader), (vec![0], NotReady::Idle));
        assert_eq!(recover(&ring, &dead), (2, vec![1], vec![]));
        assert_eq!(drain(&mut reader), (vec![3], NotReady::Closed));
    }
}

/// Those who wait, in every way, go on by it: at the front, at the gate, and behind a stage.
#[test]
fn d1_d2_those_who_wait_go_on() {
    for wait in [Wait::Spin, Wait::Yield, Wait::default(), Wait::Park] {
        for layout in LAYOUTS {
            let builder = Ring::builder(4).layout(layout).producers(Many).parking();
            let ring = builder.build(u64::default).unwrap();
            let mut reader = ring.consumer("reader").wait(wait).join().unwrap();
            let first = ring.consumer("first").on_death(OnDeath::Release);
            let first = first.join().unwrap();
            let second = ring.consumer("second").after(["first"]).wait(wait);
            let mut second = second.join().unwrap();
            let feed = ring.shared_producer().unwrap().with_wait(wait).unwrap();
            let mut feed = feed;
            let other = feed.try_clone().unwrap();
            let dead = Dead(vec![die_reading(first, 0), die_claiming(other, 2)]);
            publish(&mut feed, 1);
            thread::scope(|scope| {
                scope.spawn(move || assert_eq!(reader.next_batch().unwrap()[0], 2));
                scope.spawn(move || assert_eq!(second.next_batch().unwrap()[0], 2));
                let more = scope.spawn(move || {
                    feed.publish(|_| ()).unwrap();
                    feed.publish_batch(4, |_| ()).unwrap()
                });
                until("the ring is full", || fronts(&ring).0 == 4);
                let recovered = ring.recover(&dead);
                assert_eq!(recovered.abandoned, 2);
                assert_eq!(recovered.freed, dead.0);
                assert_eq!(more.join().unwrap(), 4..8);
            });
        }
    }
}

/// Producers die on threads of their own, one in the middle of a claim each time, while others publish
/// and several recover at once.
#[test]
fn d4_several_recover_at_once_while_others_go_on() {
    const LIVING: usize = 2;
    const DOOMED: usize = rounds(20, 4) as usize;
    const EACH: u64 = rounds(2000, 20);

    /// Only one at a time has the proof of a death.
    struct Deaths(Mutex<BTreeSet<usize>>);

    struct Proof<'d>(&'d Deaths, usize);

    // SAFETY: as above.
    unsafe impl<'d> Liveness for &'d Deaths {
        type Proof = Proof<'d>;

        fn prove_dead(&self, row: usize) -> Option<Proof<'d>> {
            let taken = self.0.lock().unwrap().remove(&row);
            taken.then(|| Proof(self, row))
        }
    }

    impl Drop for Proof<'_> {
        fn drop(&mut self) {
            self.0.0.lock().unwrap().insert(self.1);
        }
    }

    for layout in LAYOUTS {
        let builder = Ring::builder(16).layout(layout).producers(Many).members(32);
        let ring = builder.build(u64::default).unwrap();
        let mut reader = consumer(&ring, "reader");
        // All join before the first dies: a row that is used again would have to be proven alive.
        let living: [_; LIVING] = feeds(&ring);
        let doomed: [_; DOOMED] = feeds(&ring);
        let deaths = &Deaths(Mutex::new(BTreeSet::new()));
        let over = &AtomicBool::new(false);
        let abandoned = &AtomicU64::new(0);
        let (confirmed, lost, read) = thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut read = Vec::new();
                while let Ok(batch) = reader.next_batch() {
                    read.extend(batch.with_sequences().map(|(s, event)| (s, *event)));
                }
                (read, reader.skipped())
            });
            for _ in 0..2 {
                let ring = &ring;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let recovered = ring.recover(&deaths);
                        abandoned.fetch_add(recovered.abandoned, Ordering::Relaxed);
                        thread::yield_now();
                    }
                });
            }
            let dying = scope.spawn(move || {
                let mut lost = 0;
                for (round, mut feed) in doomed.into_iter().enumerate() {
                    let row = feed.row();
                    for _ in 0..round {
                        drop(feed.claim(1).unwrap());
                    }
                    let n = 1 + round % 5;
                    mem::forget(feed.claim(n).unwrap());
                    mem::forget(feed);
                    lost += n + round;
                    deaths.0.lock().unwrap().insert(row);
                }
                lost as u64
            });
            let publishing = living.map(|mut feed| {
                scope.spawn(move || {
                    let row = feed.row() as u64;
                    let publish = |n| {
                        let event = row << 32 | n;
                        (feed.publish_value(event).unwrap(), event)
                    };
                    let confirmed: Vec<(Sequence, u64)> = (0..EACH).map(publish).collect();
                    (feed, confirmed)
                })
            });
            let lost = dying.join().unwrap();
            let published = publishing.map(|publishing| publishing.join().unwrap());
            let (feeds, confirmed): (Vec<_>, Vec<_>) = published.into_iter().unzip();
            until("all is recovered", || {
                let (claimed, published) = fronts(&ring);
                claimed == published
            });
            over.store(true, Ordering::Relaxed);
            drop(feeds);
            ring.close();
            let read = reading.join().unwrap();
            (confirmed.concat(), lost, read)
        });
        let mut confirmed = confirmed;
        confirmed.sort_unstable();
        assert_eq!(read.0, confirmed);
        assert_eq!(read.1, lost);
        let dropped: u64 = (0..DOOMED as u64).sum();
        assert_eq!(abandoned.load(Ordering::Relaxed) + dropped, lost);
    }
}

// Consumers.

#[test]
fn d2_c9_a_dead_consumer_is_released_if_nobody_depends_on_it() {
    for (_, ring) in rings() {
        let reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 8);
        let dead = Dead(vec![die_reading(reader, 3)]);
        publish(&mut feed, 3);
        let full = feed.try_publish(|_| ()).unwrap_err();
        assert_eq!(full, ClaimError::Full { free: 0 });
        assert_eq!(recover(&ring, &dead), (0, vec![0], vec![]));
        assert_eq!(names(&ring).len(), 1);
        publish(&mut feed, 20);
        // The name is free, and there is nobody to succeed.
        let none = ring.consumer("reader").succeed(&Everybody).unwrap_err();
        let name = "reader".to_owned();
        assert_eq!(none, JoinError::NoPredecessor { name });
        let mut reader = consumer(&ring, "reader");
        publish(&mut feed, 1);
        assert_eq!(read(&mut reader), [31]);
    }
}

#[test]
fn c28_d2_a_dead_consumer_is_held_if_it_is_to_be_or_others_depend_on_it_and_stays_so() {
    for (_, ring) in rings() {
        let kept = ring.consumer("kept").on_death(OnDeath::Hold);
        let kept = kept.join().unwrap();
        let first = stage(&ring, "first", &["kept"]);
        let second = stage(&ring, "second", &["first"]);
        let third = ring.consumer("third").after(["first", "second"]);
        let third = third.on_death(OnDeath::Release).join().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 8);
        let (kept, first) = (die_reading(kept, 8), die_reading(first, 3));
        let held = vec![kept, first];
        assert_eq!(recover(&ring, &Dead(held.clone())), (0, vec![], held));
        let free = feed.try_publish(|_| ()).unwrap_err();
        assert_eq!(free, ClaimError::Full { free: 0 });
        drop(third);
        let second = die_reading(second, 2);
        let dead = Dead(vec![kept, first, second]);
        // The last one is let go. The one before it was held when it died, and stays so.
        let recovered = recover(&ring, &dead);
        assert_eq!(recovered, (0, vec![second], vec![kept, first]));
        assert_eq!(names(&ring).len(), 3);
        publish(&mut feed, 3);
        let free = feed.try_publish(|_| ()).unwrap_err();
        assert_eq!(free, ClaimError::Full { free: 0 });
        let evicted = ring.evict("first", Duration::ZERO).unwrap();
        assert_eq!(evicted.lost, 8);
        publish(&mut feed, 5);
    }
}

/// As its predecessor chose, or as it chooses itself.
#[test]
fn d2_what_the_death_of_a_successor_does() {
    for (_, ring) in rings() {
        let reader = ring.consumer("reader").on_death(OnDeath::Hold);
        let dead = Dead(vec![die_reading(reader.join().unwrap(), 0)]);
        let second = ring.consumer("reader").succeed(&dead).unwrap();
        mem::forget(second);
        assert_eq!(recover(&ring, &dead), (0, vec![], vec![0]));
        let third = ring.consumer("reader").on_death(OnDeath::Release);
        mem::forget(third.succeed(&dead).unwrap());
        assert_eq!(recover(&ring, &dead), (0, vec![0], vec![]));
    }
}

#[test]
fn a_dead_stage_that_changes_events_is_held() {
    for (_, ring) in rings() {
        let stage = ring.consumer("stage").join_mut().unwrap();
        let mut feed = feed(&ring);
        publish(&mut feed, 8);
        let dead = Dead(vec![stage.row()]);
        mem::forget(stage);
        assert_eq!(recover(&ring, &dead), (0, vec![], vec![0]));
        assert!(feed.try_publish(|_| ()).is_err());
        let refused = ring.consumer("stage").on_death(OnDeath::Release);
        let refused = refused.succeed_mut(&dead).map(drop);
        assert!(matches!(refused, Err(JoinError::ReleaseMutable { .. })));
        let mut stage = ring.consumer("stage").succeed_mut(&dead).unwrap();
        assert_eq!(stage.row(), 0);
        for event in &mut stage.try_next_batch_mut().unwrap() {
            *event += 1;
        }
        publish(&mut feed, 1);
    }
}

#[test]
fn a_stage_that_changes_events_cannot_be_let_go() {
    for (_, ring) in rings() {
        let name = "stage".to_owned();
        let stage = ring.consumer("stage").on_death(OnDeath::Release);
        let error = stage.join_mut().unwrap_err();
        assert_eq!(error, JoinError::ReleaseMutable { name });
        assert!(ring.snapshot().members.is_empty());
        let stage = ring.consumer("stage").on_death(OnDeath::Hold);
        assert!(stage.join_mut().is_ok());
    }
}

#[test]
fn errors_of_recovery_tell_what_to_do() {
    let name = || "risk".to_owned();
    let messages = [
        (
            JoinError::NoPredecessor { name: name() },
            ["\"risk\"", "succeeded", "join a new one"],
        ),
        (
            JoinError::ReleaseMutable { name: name() },
            ["\"risk\"", "changes events", "OnDeath::Hold"],
        ),
    ];
    for (error, words) in messages {
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
    }
}

/// Also above the one that is let go, and below.
#[test]
fn a_stage_inherits_what_a_dead_one_waited_for() {
    for (_, ring) in rings() {
        let mut first = consumer(&ring, "first");
        let second = ring.consumer("second").after(["first"]);
        let second = second.on_death(OnDeath::Release).join().unwrap();
        let mut third = stage(&ring, "third", &["second"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        read(&mut first);
        publish(&mut feed, 2);
        let dead = Dead(vec![die_reading(second, 1)]);
        assert_eq!(drain(&mut third), (vec![0], NotReady::Gated));
        assert_eq!(recover(&ring, &dead), (0, vec![1], vec![]));
        assert_eq!(drain(&mut third), (vec![1, 2, 3], NotReady::Gated));
        read(&mut first);
        assert_eq!(drain(&mut third), (vec![4, 5], NotReady::Idle));
        // Now the third does not go by that row any more, and it can be used again.
        assert_eq!(consumer(&ring, "fourth").row(), 1);
    }
}

/// Wherever it stood: at a boundary, in a batch, holding something, before what is skipped.
#[test]
fn d2_a_successor_goes_on_where_the_dead_one_had_released() {
    for (kind, _) in rings() {
        for layout in LAYOUTS {
            for released in 0..=rounds(7, 1) as usize {
                for limit in [1, 2, 3, usize::MAX] {
                    let builder = Ring::builder(16).producers(kind).layout(layout);
                    let ring = builder.build(|| u64::MAX).unwrap();
                    let reader = ring.consumer("reader").on_death(OnDeath::Hold);
                    let mut reader = reader.join().unwrap();
                    let mut feed = feed(&ring);
                    // The dead one may have been reading in any lap.
                    (0..3).for_each(|_| publish_batch(&mut feed, 3));
                    read(&mut reader);
                    drop(feed.try_claim(2).unwrap());
                    publish_batch(&mut feed, 3);
                    drop(feed.try_claim(1).unwrap());
                    publish_batch(&mut feed, 4);
                    drop(feed.try_claim(1).unwrap());
                    let all: Vec<Sequence> = if kind == One {
                        (9..16).collect()
                    } else {
                        (11..14).chain(15..19).collect()
                    };
                    // One batch at a time, all of them, and some of the last.
                    let mut left = released;
                    while left > 0 {
                        let mut batch = reader.try_next_batch().unwrap();
                        let n = left.min(batch.len());
                        batch.release(n);
                        left -= n;
                        if left == 0 {
                            mem::forget(batch);
                        }
                    }
                    if released % 3 == 1 && released < 7 {
                        reader.try_next_batch().unwrap().hold();
                    }
                    let dead = Dead(vec![die_reading(reader, 0)]);
                    if released % 2 == 0 {
                        assert_eq!(recover(&ring, &dead), (0, vec![], vec![0]));
                    }
                    let builder = ring.consumer("reader").batch_limit(limit);
                    let mut reader = builder.succeed(&dead).unwrap();
                    assert_eq!((reader.row(), reader.name()), (0, "reader"));
                    if let Some(&next) = all.get(released) {
                        let mut batch = reader.try_next_batch().unwrap();
                        assert!(batch.len() <= limit);
                        assert_eq!(batch.sequences().start, next);
                        batch.release(1); // Part of a part.
                        batch.give_back();
                    }
                    publish(&mut feed, 1);
                    let rest = read(&mut reader);
                    let expected = all.get(released + 1..).unwrap_or_default();
                    assert_eq!(rest[..rest.len() - 1], *expected);
                    // All is free again.
                    publish_batch(&mut feed, 16);
                    assert_eq!(read(&mut reader).len(), 16);
                }
            }
        }
    }
}

/// A batch that the dead one had in hands is still one to those who come later, and to the floor.
#[test]
fn a_successor_in_the_middle_of_a_batch_can_leave() {
    for (_, ring) in rings() {
        let reader = ring.consumer("reader").on_death(OnDeath::Hold);
        let reader = reader.join().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 5);
        let dead = Dead(vec![die_reading(reader, 2)]);
        let reader = ring.consumer("reader").succeed(&dead).unwrap();
        let mut late = ring.consumer("late").start(Start::Oldest).join().unwrap();
        drop(reader);
        publish(&mut feed, 1);
        assert_eq!(read(&mut late).last(), Some(&5));
        drop(late);
        publish(&mut feed, 20);
        let mut later = consumer(&ring, "later");
        publish_batch(&mut feed, 3);
        assert_eq!(read(&mut later), [26, 27, 28]);
        assert_eq!(fronts(&ring), (29, 29));
    }
}

/// Successor of a successor.
#[test]
fn d2_one_death_after_the_other_loses_nothing() {
    const ROUNDS: usize = rounds(30, 3) as usize;
    for (_, ring) in rings() {
        let reader = ring.consumer("reader").on_death(OnDeath::Hold);
        let mut reader = reader.join().unwrap();
        let mut feed = feed(&ring);
        let mut all = Vec::new();
        for round in 0..ROUNDS {
            publish_batch(&mut feed, 3);
            drop(feed.try_claim(1).unwrap());
            while all.len() < 3 * round + 2 {
                let mut batch = reader.try_next_batch().unwrap();
                all.push(batch.sequences().start);
                batch.release(1);
                batch.give_back();
            }
            let dead = Dead(vec![die_reading(reader, 0)]);
            let next = ring.consumer("reader").batch_limit(2);
            reader = next.succeed(&dead).unwrap();
        }
        all.extend(read(&mut reader));
        assert_eq!(all.len(), 3 * ROUNDS);
        assert!(all.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn a_successor_comes_after_those_that_the_dead_one_came_after() {
    for (_, ring) in rings() {
        let mut first = consumer(&ring, "first");
        let second = stage(&ring, "second", &["first"]);
        let mut third = stage(&ring, "third", &["second"]);
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 3);
        let mut batch = first.try_next_batch().unwrap();
        batch.release(2);
        let dead = Dead(vec![die_reading(second, 1)]);
        assert_eq!(recover(&ring, &dead), (0, vec![], vec![1]));
        assert_eq!(drain(&mut third), (vec![0], NotReady::Gated));
        let mut second = ring.consumer("second").succeed(&dead).unwrap();
        assert_eq!(drain(&mut second), (vec![1], NotReady::Gated));
        assert_eq!(drain(&mut third), (vec![1], NotReady::Gated));
        drop(batch);
        drop(first);
        assert_eq!(drain(&mut second), (vec![2], NotReady::Idle));
        assert_eq!(drain(&mut third), (vec![2], NotReady::Idle));
        let member = ring.snapshot().members.swap_remove(0);
        assert_eq!(member.name, "second");
        assert_eq!(member.kind, MemberKind::Stage);
    }
}

#[test]
fn who_is_alive_or_unknown_has_no_successor() {
    for (_, ring) in rings() {
        let reader = consumer(&ring, "reader");
        let changes = ring.consumer("changes").after(["reader"]);
        let changes = changes.join_mut().unwrap();
        let name = |name: &str| name.to_owned();
        let succeed = |name| ring.consumer(name).succeed(&Everybody).unwrap_err();
        let succeed_mut = |name| ring.consumer(name).succeed_mut(&Everybody).unwrap_err();
        let none = |of| JoinError::NoPredecessor { name: name(of) };
        assert_eq!(succeed("nobody"), none("nobody"));
        assert_eq!(succeed_mut("nobody"), none("nobody"));
        // Of the other kind.
        assert_eq!(succeed("changes"), none("changes"));
        assert_eq!(succeed_mut("reader"), none("reader"));
        let alive = ring.consumer("reader").succeed(&NOBODY).unwrap_err();
        let taken = |of| JoinError::NameTaken { name: name(of) };
        assert_eq!(alive, taken("reader"));
        let alive = ring.consumer("changes").succeed_mut(&NOBODY).unwrap_err();
        assert_eq!(alive, taken("changes"));
        let limit = ring.consumer("reader").batch_limit(0);
        let error = limit.succeed(&Everybody).unwrap_err();
        assert!(matches!(error, JoinError::BatchLimit { .. }));
        let park = ring.consumer("reader").wait(Wait::Park);
        let error = park.succeed(&Everybody).unwrap_err();
        assert!(matches!(error, JoinError::NoParking { .. }));
        drop((changes, reader));
        assert_eq!(succeed("reader"), none("reader"));
    }
}

/// Before it is known to be dead its name is taken; then the next of that name is its successor, also without a proof.
#[test]
fn the_name_of_one_that_is_held_is_for_its_successor() {
    for (_, ring) in rings() {
        let kept = ring.consumer("kept").on_death(OnDeath::Hold);
        let dead = Dead(vec![die_reading(kept.join().unwrap(), 0)]);
        let error = ring.consumer("kept").join().unwrap_err();
        assert!(matches!(error, JoinError::NameTaken { .. }));
        recover(&ring, &dead);
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        let mut kept = ring.consumer("kept").start(Start::Next).join().unwrap();
        assert_eq!(read(&mut kept), [0]);
        drop(kept);
        assert!(ring.consumer("kept").join().is_ok());
    }
}

/// What comes again may have been changed already.
#[test]
fn d2_a_successor_changes_what_the_dead_one_had_not_released() {
    for (_, ring) in rings() {
        let mut first = consumer(&ring, "first");
        let stage = ring.consumer("stage").after(["first"]);
        let mut stage = stage.join_mut().unwrap();
        let mut last = ring.consumer("last").after(["stage"]).join().unwrap();
        let mut feed = feed(&ring);
        publish_batch(&mut feed, 4);
        read(&mut first);
        let mut batch = stage.try_next_batch_mut().unwrap();
        batch.iter_mut().for_each(|event| *event += 100);
        batch.release(2);
        let dead = Dead(vec![1]);
        mem::forget(batch);
        mem::forget(stage);
        assert_eq!(recover(&ring, &dead), (0, vec![], vec![1]));
        let read = |last: &mut Consumer<u64>| match last.try_next_batch() {
            Ok(batch) => batch.iter().copied().collect(),
            Err(_) => Vec::new(),
        };
        assert_eq!(read(&mut last), [100, 101]);
        let beside = ring.consumer("beside").join().unwrap_err();
        assert!(matches!(beside, JoinError::Unordered { .. }));
        let mut stage = ring.consumer("stage").succeed_mut(&dead).unwrap();
        assert_eq!(read(&mut last), []);
        let mut batch = stage.try_next_batch_mut().unwrap();
        assert_eq!(batch.sequences(), 2..4);
        batch.iter_mut().for_each(|event| *event += 1000);
        drop(batch);
        assert_eq!(read(&mut last), [1102, 1103]);
        // It leaves as the first one would have.
        drop(stage);
        publish(&mut feed, 1);
        assert_eq!(read(&mut last), []);
        crate::read(&mut first);
        assert_eq!(read(&mut last), [4]);
    }
}

#[test]
fn who_watches_is_told_of_the_dead_and_of_successors() {
    for (kind, ring) in rings() {
        let gone = consumer(&ring, "gone");
        let kept = ring.consumer("kept").on_death(OnDeath::Hold);
        let dead = Dead(vec![
            die_reading(gone, 0),
            die_reading(kept.join().unwrap(), 0),
            2,
        ]);
        mem::forget(feed(&ring));
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        ring.watch(move |presence| tell.lock().unwrap().send(presence.clone()).unwrap());
        recover(&ring, &dead);
        let left = |kind, name: &str| Presence::Left {
            kind,
            name: name.to_owned(),
        };
        let mut expected = vec![left(MemberKind::Consumer, "gone")];
        if kind == Many {
            expected.push(left(MemberKind::Producer, ""));
        }
        assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
        let joined = |kind, name: &str| Presence::Joined {
            kind,
            name: name.to_owned(),
        };
        let kept = ring.consumer("kept").succeed(&dead).unwrap();
        assert_eq!(told.recv(), Ok(joined(MemberKind::Consumer, "kept")));
        if kind == One {
            mem::forget(ring.succeed_producer(&dead).unwrap());
            assert_eq!(told.recv(), Ok(joined(MemberKind::Producer, "")));
        }
        drop(kept);
        assert_eq!(told.recv(), Ok(left(MemberKind::Consumer, "kept")));
    }
}

// One producer.

fn only(ring: &Ring<u64>) -> Producer<u64> {
    ring.producer().unwrap()
}

#[test]
fn d1_the_successor_of_the_only_producer_goes_on_behind_what_was_published() {
    for layout in LAYOUTS {
        let ring = ring_in(layout, 8, One);
        let mut reader = consumer(&ring, "reader");
        let mut producer = only(&ring);
        publish_batch(&mut producer, 3);
        mem::forget(producer.try_claim(4).unwrap());
        let dead = Dead(vec![producer.row()]);
        mem::forget(producer);
        for _ in 0..2 {
            // Its row is kept for the successor.
            assert_eq!(recover(&ring, &dead), NOTHING);
            assert_eq!(ring.producer().unwrap_err(), ProducerError::Taken);
        }
        let mut producer = ring.succeed_producer(&dead).unwrap();
        assert_eq!(producer.row(), dead.0[0]);
        let alive = ring.succeed_producer(&NOBODY).unwrap_err();
        assert_eq!(alive, ProducerError::Taken);
        assert_eq!(producer.free(), Ok(5));
        publish_batch(&mut producer, 5);
        assert!(producer.try_publish(|_| ()).is_err());
        assert_eq!(read(&mut reader), (0..8).collect::<Vec<_>>());
        publish(&mut producer, 8);
        drop(producer);
        let rest = drain(&mut reader);
        assert_eq!(rest, ((8..16).collect(), NotReady::Closed));
        assert_eq!(reader.skipped(), 0);
        let closed = ring.succeed_producer(&dead).unwrap_err();
        assert_eq!(closed, ProducerError::Closed);
    }
}

#[test]
fn a_successor_of_no_producer_is_the_first() {
    for layout in LAYOUTS {
        let ring = ring_in(layout, 8, One);
        let mut reader = consumer(&ring, "reader");
        let mut producer = ring.succeed_producer(&Everybody).unwrap();
        publish(&mut producer, 2);
        assert_eq!(read(&mut reader), [0, 1]);
    }
}

#[test]
fn one_of_many_producers_is_not_succeeded() {
    for ring in rings_of_many() {
        let wrong = ProducerError::WrongKind { built_for: Many };
        assert_eq!(ring.succeed_producer(&Everybody).unwrap_err(), wrong);
        let [first, _second] = feeds(&ring);
        assert_eq!(ring.succeed_producer(&NOBODY).unwrap_err(), wrong);
        let dead = Dead(vec![die_claiming(first, 2)]);
        assert_eq!(ring.succeed_producer(&dead).unwrap_err(), wrong);
        assert_eq!(recover(&ring, &dead), (2, vec![0], vec![]));
    }
}

/// Nobody else knew when it would have agreed.
#[test]
fn a_close_that_a_dead_producer_was_asked_for_is_done_for_it() {
    for layout in LAYOUTS {
        let ring = ring_in(layout, 8, One);
        let mut reader = consumer(&ring, "reader");
        let mut producer = only(&ring);
        publish(&mut producer, 2);
        mem::forget(producer.try_claim(1).unwrap());
        let dead = Dead(vec![producer.row()]);
        mem::forget(producer);
        recover(&ring, &dead);
        ring.close();
        assert!(!ring.is_closed());
        assert_eq!(recover(&ring, &NOBODY), NOTHING);
        assert!(!ring.is_closed());
        // Nobody can succeed it any more, so its row is free.
        assert_eq!(recover(&ring, &dead), (0, vec![1], vec![]));
        assert!(ring.is_closed());
        assert_eq!(recover(&ring, &dead), NOTHING);
        let closed = ring.succeed_producer(&dead).unwrap_err();
        assert_eq!(closed, ProducerError::Closed);
        assert_eq!(drain(&mut reader), (vec![0, 1], NotReady::Closed));
    }
}

/// What the dead one has announced to observers stays announced.
#[test]
fn an_observer_goes_on_with_the_successor_of_the_only_producer() {
    for layout in LAYOUTS {
        let builder = Ring::builder(32).layout(layout).observable();
        let ring = builder.build(|| u64::MAX).unwrap();
        let mut tap = ring.observer().unwrap();
        let mut seen = Vec::new();
        let mut producer = only(&ring);
        for round in 0..20 {
            publish_batch(&mut producer, 1 + round % 7);
            mem::forget(producer.try_claim(1 + round % 32).unwrap());
            mem::forget(producer);
            producer = ring.succeed_producer(&Everybody).unwrap();
            publish(&mut producer, 1);
            while let Ok((sequence, event)) = tap.try_next() {
                assert_eq!(event, sequence);
                seen.push(sequence);
            }
            assert_eq!(tap.position(), fronts(&ring).1);
        }
        assert!(seen.is_sorted_by(|a, b| a < b) && !seen.is_empty());
        assert_eq!(tap.missed() + seen.len() as u64, tap.position());
    }
}

// Everything at once.

/// What has become of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Claimed by the living producer in this row, who may have leaked it.
    Claimed(usize),
    Confirmed(u64),
    Skipped,
    /// Claimed by a producer that has died.
    Lost,
}

/// What a producer on a thread of its own is told to do.
enum Order {
    Claim(usize),
    /// Each slot gets the next number from this one on.
    Publish(u64),
    Drop,
    Leak,
    Die,
}

/// A producer on a thread of its own.
struct Worker {
    row: usize,
    orders: Sender<Order>,
    claims: Receiver<Option<Range<Sequence>>>,
    thread: JoinHandle<()>,
    claim: Option<Range<Sequence>>,
}

impl Worker {
    fn new(mut feed: Feed<u64>) -> Self {
        let row = feed.row();
        let (orders, told) = channel();
        let (tell, claims) = channel();
        let thread = thread::spawn(move || {
            while let Ok(order) = told.recv() {
                let Order::Claim(n) = order else {
                    return mem::forget(feed); // It dies at rest.
                };
                let Ok(mut claim) = feed.try_claim(n) else {
                    tell.send(None).unwrap();
                    continue;
                };
                tell.send(Some(claim.sequences())).unwrap();
                match told.recv() {
                    Ok(Order::Publish(first)) => {
                        let numbers = claim.iter_mut().zip(first..);
                        numbers.for_each(|(slot, number)| *slot = number);
                        claim.publish();
                    }
                    Ok(Order::Leak) => mem::forget(claim),
                    Ok(Order::Die) => {
                        mem::forget(claim);
                        return mem::forget(feed);
                    }
                    Ok(Order::Drop | Order::Claim(_)) | Err(_) => drop(claim),
                }
                tell.send(None).unwrap();
            }
        });
        Self {
            row,
            orders,
            claims,
            thread,
            claim: None,
        }
    }

    fn order(&self, order: Order) -> Option<Range<Sequence>> {
        self.orders.send(order).unwrap();
        self.claims.recv().unwrap()
    }
}

/// A consumer, and what it has to be given.
struct Reader {
    name: &'static str,
    on_death: OnDeath,
    /// None if it is dead.
    living: Option<Consumer<u64>>,
    row: usize,
    /// The next sequence that it has not been given.
    next: Sequence,
    /// What it had released when it was last seen.
    position: Sequence,
}

struct World {
    dice: u64,
    ring: Ring<u64>,
    kind: Producers,
    fates: Vec<Fate>,
    workers: Vec<Worker>,
    dead: Dead,
    /// Rows of dead producers that have not been recovered.
    lost_producers: Vec<usize>,
    /// Whether the ring is asked to close: then a dead producer has no successor.
    closes: bool,
    readers: Vec<Reader>,
    number: u64,
    deaths: u64,
    abandoned: u64,
}

impl World {
    fn new(layout: Layout, kind: Producers, seed: u64) -> Self {
        let builder = Ring::builder(16).layout(layout).producers(kind).members(12);
        let ring = builder.build(|| u64::MAX).unwrap();
        let mut world = Self {
            dice: seed,
            kind,
            fates: Vec::new(),
            workers: Vec::new(),
            dead: Dead(Vec::new()),
            lost_producers: Vec::new(),
            closes: false,
            readers: Vec::new(),
            number: 0,
            deaths: 0,
            abandoned: 0,
            ring,
        };
        world.join("kept", OnDeath::Hold);
        world.join("stage", OnDeath::Hold);
        world.join("free", OnDeath::Release);
        world
    }

    fn dice(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    /// The first sequence that cannot be read.
    fn front(&self) -> Sequence {
        let held_up = |fate: &Fate| matches!(fate, Fate::Claimed(_) | Fate::Lost);
        let front = self.fates.iter().position(held_up);
        front.unwrap_or(self.fates.len()) as Sequence
    }

    /// Gives up `claim`, or the one that the producer in this row has leaked.
    fn give_up(&mut self, row: usize, fate: Fate) {
        let mut first = self.fates.len();
        for (index, old) in self.fates.iter_mut().enumerate() {
            if *old == Fate::Claimed(row) {
                *old = fate;
                first = first.min(index);
            }
        }
        if self.kind == One {
            self.fates.truncate(first); // It has told nobody.
        }
    }

    fn step(&mut self) {
        match self.dice(60) {
            0..28 => self.produce(),
            28..54 => self.consume(),
            54 => self.recover(),
            55..59 => self.revive(),
            _ => self.kill(),
        }
    }

    fn produce(&mut self) {
        let most = if self.kind == One { 1 } else { 4 };
        if self.workers.len() < most && self.dice(3) == 0 || self.workers.is_empty() {
            return self.hire();
        }
        let index = self.dice(self.workers.len());
        let row = self.workers[index].row;
        let Some(claim) = self.workers[index].claim.take() else {
            let n = 1 + self.dice(3);
            self.give_up(row, Fate::Skipped); // If it has leaked one, that is skipped now.
            if let Some(claim) = self.workers[index].order(Order::Claim(n)) {
                assert_eq!(
                    claim,
                    self.fates.len() as u64..self.fates.len() as u64 + n as u64
                );
                self.fates.extend((0..n).map(|_| Fate::Claimed(row)));
                self.workers[index].claim = Some(claim);
            }
            return;
        };
        match self.dice(12) {
            0 => {
                self.workers[index].order(Order::Drop);
                self.give_up(row, Fate::Skipped);
            }
            1 => {
                self.workers[index].order(Order::Leak);
                if self.kind == One {
                    self.give_up(row, Fate::Skipped);
                }
            }
            _ => {
                self.workers[index].order(Order::Publish(self.number));
                for sequence in claim {
                    self.fates[sequence as usize] = Fate::Confirmed(self.number);
                    self.number += 1;
                }
            }
        }
    }

    fn hire(&mut self) {
        let feed = match self.kind {
            One if !self.lost_producers.is_empty() => {
                let producer = self.ring.succeed_producer(&self.dead).unwrap();
                let row = self.lost_producers.pop().unwrap();
                assert_eq!(producer.row(), row);
                self.dead.0.retain(|&dead| dead != row);
                Feed::Only(producer)
            }
            _ => match Feed::join(&self.ring) {
                Ok(feed) => feed,
                // Of those that are dead.
                Err(ProducerError::TableFull { .. }) => return self.recover(),
                Err(error) => panic!("{error}"),
            },
        };
        self.workers.push(Worker::new(feed));
    }

    fn join(&mut self, name: &'static str, on_death: OnDeath) {
        let builder = self.ring.consumer(name).on_death(on_death);
        let (next, living) = match name {
            "stage" => {
                let stage = builder.after(["kept"]).join();
                (0, stage)
            }
            _ if self.dice(2) == 0 => {
                let oldest = builder.start(Start::Oldest).join();
                let next = oldest.as_ref().map_or(0, Consumer::position);
                (next, oldest)
            }
            _ => (self.ring.snapshot().claimed, builder.join()),
        };
        let living = match living {
            Ok(living) => living,
            Err(JoinError::TableFull { .. }) => return self.recover(),
            Err(error) => panic!("{error}"),
        };
        self.readers.push(Reader {
            name,
            on_death,
            row: living.row(),
            next,
            position: living.position(),
            living: Some(living),
        });
    }

    fn consume(&mut self) {
        let which = self.dice(self.readers.len());
        let (what, how_much) = (self.dice(6), self.dice(5));
        let front = self.front();
        let kept = self.readers[0].position;
        let Some(mut reader) = self.readers[which].living.take() else {
            return;
        };
        let fates = &self.fates;
        let entry = &mut self.readers[which];
        if what == 5 {
            let to = entry.position + 3 * how_much as u64;
            reader.release_until(to);
        }
        // Events as the log says, and nothing is left out but what is skipped.
        let mut next = entry.next;
        let mut pass = |to: Sequence| {
            for sequence in next..to {
                let fate = fates[sequence as usize];
                assert_eq!(fate, Fate::Skipped, "{} at {sequence}", entry.name);
            }
            next = to;
        };
        let mut nothing_there = false;
        match reader.try_next_batch() {
            Ok(mut batch) => {
                assert!(entry.name != "stage" || batch.sequences().end <= kept);
                pass(batch.sequences().start);
                for (sequence, event) in batch.with_sequences() {
                    let fate = fates[sequence as usize];
                    assert_eq!(
                        fate,
                        Fate::Confirmed(*event),
                        "{} at {sequence}",
                        entry.name
                    );
                }
                match what {
                    0 | 1 => {
                        batch.release(how_much);
                        next = batch.sequences().start;
                        if what == 0 {
                            mem::forget(batch);
                        } else {
                            batch.give_back();
                        }
                    }
                    2 => {
                        next = batch.sequences().end;
                        batch.hold();
                    }
                    _ => next = batch.sequences().end,
                }
            }
            Err(NotReady::Idle) => {
                pass(front); // There is nothing.
                nothing_there = true;
            }
            Err(NotReady::Gated) => assert_eq!(entry.name, "stage"),
            Err(why) => panic!("{why}"),
        }
        entry.next = next.max(entry.next);
        entry.position = reader.position();
        let holds = reader.held().next().is_some();
        assert!(!nothing_there || holds || entry.position >= front);
        entry.living = Some(reader);
    }

    fn kill(&mut self) {
        self.deaths += 1;
        if self.dice(4) > 0 && !self.workers.is_empty() {
            let index = self.dice(self.workers.len());
            let worker = self.workers.swap_remove(index);
            worker.orders.send(Order::Die).unwrap();
            worker.thread.join().unwrap();
            self.give_up(worker.row, Fate::Lost);
            self.dead.0.push(worker.row);
            self.lost_producers.push(worker.row);
        } else {
            let which = self.dice(self.readers.len());
            let entry = &mut self.readers[which];
            if let Some(reader) = entry.living.take() {
                entry.position = reader.position();
                entry.next = entry.position;
                self.dead.0.push(die_reading(reader, 0));
            }
        }
    }

    /// Brings a dead consumer back, recovered or not.
    fn revive(&mut self) {
        if !self.readers.iter().any(|reader| reader.name == "free") {
            return self.join("free", OnDeath::Release);
        }
        let dead = self
            .readers
            .iter()
            .position(|reader| reader.living.is_none());
        let which = dead.unwrap_or_else(|| self.dice(self.readers.len()));
        let limit = [1, 2, usize::MAX][self.dice(3)];
        let entry = &mut self.readers[which];
        let successor = self.ring.consumer(entry.name).batch_limit(limit);
        let successor = successor.succeed(&self.dead);
        if entry.living.is_some() {
            let name = entry.name.to_owned();
            assert_eq!(successor.unwrap_err(), JoinError::NameTaken { name });
            return;
        }
        let successor = successor.unwrap();
        assert_eq!(successor.row(), entry.row);
        assert_eq!(successor.position(), entry.position);
        entry.living = Some(successor);
        self.dead.0.retain(|&row| row != entry.row);
    }

    fn recover(&mut self) {
        let mut freed = Vec::new();
        let mut held = Vec::new();
        if self.kind == Many || self.closes {
            freed.append(&mut self.lost_producers);
        }
        self.readers.retain(|reader| {
            let dead = reader.living.is_none();
            if dead && reader.on_death == OnDeath::Hold {
                held.push(reader.row);
            } else if dead {
                freed.push(reader.row);
            }
            !dead || reader.on_death == OnDeath::Hold
        });
        freed.sort_unstable();
        held.sort_unstable();
        // What is lost is given up as far as no living one is at work.
        let mut abandoned = 0;
        for fate in &mut self.fates {
            match fate {
                Fate::Lost => {
                    *fate = Fate::Skipped;
                    abandoned += 1;
                }
                Fate::Claimed(_) => break,
                Fate::Confirmed(_) | Fate::Skipped => {}
            }
        }
        self.abandoned += abandoned;
        let recovered = recover(&self.ring, &self.dead);
        self.dead.0.retain(|row| !freed.contains(row));
        assert_eq!(recovered, (abandoned, freed, held));
    }

    /// All go on and read to the end.
    fn end(mut self) -> (u64, u64) {
        for worker in mem::take(&mut self.workers) {
            if worker.claim.is_some() {
                worker.order(Order::Drop);
            }
            self.give_up(worker.row, Fate::Skipped);
            self.ring.close();
            drop(worker.orders); // It leaves.
            worker.thread.join().unwrap();
        }
        self.ring.close();
        self.closes = true;
        self.recover();
        assert!(self.ring.is_closed());
        self.recover();
        assert!(!self.fates.contains(&Fate::Lost));
        let end = self.fates.len() as Sequence;
        assert_eq!(fronts(&self.ring), (end, end));
        for entry in mem::take(&mut self.readers) {
            let mut reader = match entry.living {
                Some(living) => living,
                None => self.ring.consumer(entry.name).succeed(&self.dead).unwrap(),
            };
            let rest: Vec<Fate> = {
                let mut rest = Vec::new();
                loop {
                    match reader.try_next_batch() {
                        Ok(batch) => rest.extend(batch.iter().copied().map(Fate::Confirmed)),
                        Err(NotReady::Closed) => break rest,
                        Err(why) => panic!("{}: {why}", entry.name),
                    }
                }
            };
            let left = self.fates[entry.next as usize..].iter().copied();
            let left: Vec<Fate> = left.filter(|fate| *fate != Fate::Skipped).collect();
            assert_eq!(rest, left, "{}", entry.name);
            assert_eq!(reader.next_batch().err(), Some(Ended::Closed));
            reader.release_until(Sequence::MAX);
        }
        (self.deaths, self.abandoned)
    }
}

/// Producers and consumers die at random, and are recovered or succeeded at random. Every event that was
/// confirmed is given once to every living consumer, and nothing else is.
#[test]
fn d1_d2_random_deaths_lose_nothing_that_was_confirmed() {
    let random = (!cfg!(miri)).then(|| RandomState::new().hash_one(()));
    for layout in LAYOUTS {
        for kind in KINDS {
            let (mut deaths, mut abandoned) = (0, 0);
            for seed in (0..rounds(20, 1)).chain(random) {
                println!("{layout:?}, {kind:?}, seed {seed}"); // Shown if the test fails.
                let mut world = World::new(layout, kind, seed);
                (0..rounds(1500, 60)).for_each(|_| world.step());
                let (died, gave_up) = world.end();
                deaths += died;
                abandoned += gave_up;
            }
            if !cfg!(miri) {
                assert!(deaths > 100 && (abandoned > 0) == (kind == Many));
            }
        }
    }
}

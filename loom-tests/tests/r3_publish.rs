//! R3 PUBLISH: no reader sees an event before it is completely written; a batch appears whole.

use annulus_loom_tests::{builder, drain, model, publish_shared, ring, ring_apart, take, thread};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{NotReady, Ring};

/// Two events of one producer: both, or none yet; and a lap further again.
fn a_batch_appears_whole(ring: &Ring<u64>) {
    let mut consumer = ring.consumer("c").join().unwrap();
    let mut producer = ring.producer().unwrap();
    let reader = thread::spawn(move || {
        let mut events = Vec::new();
        while let Ok(batch) = consumer.next_batch() {
            assert_eq!(batch.len(), 2);
            events.extend(batch.iter().copied());
        }
        events
    });
    for base in [0, 2] {
        let mut claim = producer.claim(2).unwrap();
        claim[1] = base + 1;
        claim[0] = base;
        assert_eq!(claim.publish(), base..base + 2);
    }
    drop(producer);
    assert_eq!(reader.join().unwrap(), [0, 1, 2, 3]);
}

#[test]
fn a_batch_of_one_producer_appears_whole() {
    model("r3 a_batch_of_one_producer_appears_whole", || {
        a_batch_appears_whole(&ring(2, One));
    });
}

/// Without stamps the cursor publishes.
#[test]
fn a_batch_appears_whole_by_the_cursor() {
    model("r3 a_batch_appears_whole_by_the_cursor", || {
        a_batch_appears_whole(&ring_apart(2, One));
    });
}

/// Single events, a backlog, and `published` behind the stamp.
#[test]
fn a_backlog_is_read_up_to_what_is_published() {
    model("r3 a_backlog_is_read_up_to_what_is_published", || {
        let ring = ring(4, One);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut producer = ring.producer().unwrap();
        let reader = thread::spawn(move || drain(&mut consumer));
        for value in 0..3 {
            producer.publish(|event| *event = value).unwrap();
        }
        drop(producer);
        assert_eq!(reader.join().unwrap(), [(0, 0), (1, 1), (2, 2)]);
    });
}

/// Two events of each of two producers: whole, one behind the other.
#[test]
fn batches_of_many_producers_appear_whole() {
    model("r3 batches_of_many_producers_appear_whole", || {
        let ring = builder(4, Many).members(3).build(|| 0).unwrap();
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut events = Vec::new();
            while events.len() < 4 {
                let batch = consumer.next_batch().unwrap();
                assert_eq!(batch.len() % 2, 0);
                events.extend(batch.iter().copied());
            }
            (events, consumer)
        });
        let write = |producer: &mut annulus_ring::SharedProducer<u64>, base: u64| {
            let values = [base, base + 1];
            producer
                .publish_batch(2, |slots| slots.zip(values).for_each(|(slot, v)| *slot = v))
                .unwrap();
        };
        let other = thread::spawn(move || {
            write(&mut second, 20);
            second
        });
        write(&mut first, 10);
        let _second = other.join().unwrap();
        let (events, _consumer) = reader.join().unwrap();
        assert!(
            events == [10, 11, 20, 21] || events == [20, 21, 10, 11],
            "{events:?}"
        );
    });
}

/// A claim that was dropped, and one that is leaked until its producer is dropped, are stepped over.
#[test]
fn given_up_claims_are_stepped_over() {
    model("r3 given_up_claims_are_stepped_over", || {
        let ring = ring(2, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let mut claim = first.claim(1).unwrap();
        claim[0] = 99;
        drop(claim);
        let other = thread::spawn(move || {
            let mut claim = second.claim(1).unwrap();
            claim[0] = 99;
            std::mem::forget(claim);
        });
        let writer = thread::spawn(move || publish_shared(first, 10..11));
        assert_eq!(consumer.next_batch().unwrap()[0], 10);
        let _first = writer.join().unwrap();
        other.join().unwrap();
        assert_eq!(consumer.try_next_batch().unwrap_err(), NotReady::Idle);
        assert_eq!(consumer.skipped(), 2);
    });
}

/// A snapshot shows nothing as published that is not, and no position above what is published.
#[test]
fn a_snapshot_is_safe_at_any_time() {
    model("r3 a_snapshot_is_safe_at_any_time", || {
        let ring = ring(2, Many);
        let consumer = ring.consumer("c").join().unwrap();
        let producer = publish_shared(ring.shared_producer().unwrap(), 0..2);
        let writer = thread::spawn(move || publish_shared(producer, 2..3));
        let reader = thread::spawn(move || take(consumer, 2));
        let snapshot = ring.snapshot();
        assert!((2..=3).contains(&snapshot.published), "{snapshot:?}");
        assert!(snapshot.claimed <= 3, "{snapshot:?}");
        assert!(
            snapshot
                .members
                .iter()
                .all(|m| m.position <= snapshot.published)
        );
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap().0, [0, 1]);
    });
}

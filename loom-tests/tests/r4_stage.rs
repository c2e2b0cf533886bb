//! R4 STAGE: a stage reads `s` only after every consumer it comes after has passed `s`, also when some
//! of them leave.
//!
//! A consumer marks what it has read by a relaxed store, before it releases it; a stage that reads the
//! event must find the mark. Nothing but the ring orders the two.

use annulus_loom_tests::{
    Arc, AtomicU64, Relaxed, builder, model, publish, publish_shared, ring, ring_apart, take,
    thread,
};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{Consumer, MutableConsumer, Ring};

/// One mark for each event.
fn marks() -> Arc<[AtomicU64; 3]> {
    Arc::new(std::array::from_fn(|_| AtomicU64::new(0)))
}

/// Marks `count` events as read, and keeps the consumer.
fn mark(mut consumer: Consumer<u64>, count: usize, marks: &[AtomicU64]) -> Consumer<u64> {
    for _ in 0..count {
        let batch = consumer.next_batch().unwrap();
        assert_eq!(batch.len(), 1);
        marks[batch[0] as usize].store(1, Relaxed);
    }
    consumer
}

/// Reads `count` events, which have to be marked.
fn check(consumer: &mut Consumer<u64>, count: usize, marks: &[AtomicU64]) {
    let mut events = 0;
    while events < count {
        for (sequence, event) in consumer.next_batch().unwrap().with_sequences() {
            assert_eq!(*event, sequence);
            assert_eq!(
                marks[sequence as usize].load(Relaxed),
                1,
                "{sequence} was not passed"
            );
            events += 1;
        }
    }
}

#[test]
fn a_stage_follows_the_consumer_before_it() {
    model("r4 a_stage_follows_the_consumer_before_it", || {
        let ring = ring(2, One);
        let a = ring.consumer("a").batch_limit(1).join().unwrap();
        let mut b = ring.consumer("b").after(["a"]).join().unwrap();
        let passed = marks();
        let producer = publish(ring.producer().unwrap(), 0..2);
        let writer = thread::spawn(move || publish(producer, 2..3));
        let a = thread::spawn({
            let passed = Arc::clone(&passed);
            move || mark(a, 2, &passed[..])
        });
        check(&mut b, 1, &passed[..]);
        a.join().unwrap();
        writer.join().unwrap();
    });
}

/// A diamond: the last stage waits for both that come before it.
#[test]
fn a_stage_follows_all_that_come_before_it() {
    model("r4 a_stage_follows_all_that_come_before_it", || {
        let ring = ring(2, One);
        let a = ring.consumer("a").batch_limit(1).join().unwrap();
        let b = ring.consumer("b").batch_limit(1).join().unwrap();
        let mut last = ring.consumer("last").after(["a", "b"]).join().unwrap();
        let _producer = publish(ring.producer().unwrap(), 0..2);
        let passed = [marks(), marks()];
        let before: Vec<_> = [a, b]
            .into_iter()
            .zip(passed.clone())
            .map(|(consumer, passed)| thread::spawn(move || mark(consumer, 2, &passed[..])))
            .collect();
        check(&mut last, 1, &passed[0][..]);
        assert_eq!(passed[1][0].load(Relaxed), 1);
        before
            .into_iter()
            .for_each(|thread| drop(thread.join().unwrap()));
    });
}

/// A skipped batch passes through both, and the event behind it does not overtake.
#[test]
fn a_stage_steps_over_what_was_skipped() {
    model("r4 a_stage_steps_over_what_was_skipped", || {
        let ring = ring(2, Many);
        let a = ring.consumer("a").join().unwrap();
        let mut b = ring.consumer("b").after(["a"]).join().unwrap();
        let passed = marks();
        let mut producer = ring.shared_producer().unwrap();
        drop(producer.claim(1).unwrap());
        let writer = thread::spawn(move || publish_shared(producer, 1..2));
        let a = thread::spawn({
            let passed = Arc::clone(&passed);
            move || mark(a, 1, &passed[..])
        });
        check(&mut b, 1, &passed[..]);
        assert_eq!(b.skipped(), 1);
        a.join().unwrap();
        writer.join().unwrap();
    });
}

/// `a <- x <- b`, and `x` leaves, perhaps after it has read something: `b` must not read what `a` has not
/// passed.
#[test]
fn a_stage_inherits_what_a_leaver_came_after() {
    model("r4 a_stage_inherits_what_a_leaver_came_after", || {
        let ring = ring(2, One);
        let a = ring.consumer("a").batch_limit(1).join().unwrap();
        let mut x = ring.consumer("x").after(["a"]).join().unwrap();
        let mut b = ring.consumer("b").after(["x"]).join().unwrap();
        let _producer = publish(ring.producer().unwrap(), 0..2);
        let passed = marks();
        let a = thread::spawn({
            let passed = Arc::clone(&passed);
            move || mark(a, 2, &passed[..])
        });
        let x = thread::spawn(move || {
            drop(x.try_next_batch());
            drop(x);
        });
        check(&mut b, 2, &passed[..]);
        a.join().unwrap();
        x.join().unwrap();
    });
}

/// `a <- x <- y <- b`; `x` and `y` have left, `z` has come and reads what it likes, and only then does `b`
/// look: it must not take the newcomer for one of those that have left.
#[test]
fn a_stage_does_not_take_a_newcomer_for_a_leaver() {
    model("r4 a_stage_does_not_take_a_newcomer_for_a_leaver", || {
        let ring = builder(2, One).members(7).build(|| 0).unwrap();
        let a = ring.consumer("a").batch_limit(1).join().unwrap();
        let x = ring.consumer("x").after(["a"]).join().unwrap();
        let y = ring.consumer("y").after(["x"]).join().unwrap();
        let mut b = ring.consumer("b").after(["y"]).join().unwrap();
        drop(x);
        drop(y);
        let zs = ["z1", "z2"].map(|name| ring.consumer(name).join().unwrap());
        let _producer = publish(ring.producer().unwrap(), 0..2);
        let passed = marks();
        let a = thread::spawn({
            let passed = Arc::clone(&passed);
            move || mark(a, 2, &passed[..])
        });
        let _zs = zs.map(|z| take(z, 2));
        check(&mut b, 2, &passed[..]);
        a.join().unwrap();
    });
}

/// `m` changes events between the producer, which goes round, and `b`.
fn one_changes_events(ring: &Ring<u64>) {
    let mut m = ring.consumer("m").join_mut().unwrap();
    let mut b = ring.consumer("b").after(["m"]).join().unwrap();
    let producer = publish(ring.producer().unwrap(), 0..1);
    let changer = thread::spawn(move || {
        change(&mut m, 1);
        m
    });
    let writer = thread::spawn(move || publish(producer, 1..2));
    check_changed(&mut b, 1);
    let mut m = changer.join().unwrap();
    let _producer = writer.join().unwrap();
    change(&mut m, 1);
    check_changed(&mut b, 1);
}

/// Changes `count` events.
fn change(consumer: &mut MutableConsumer<u64>, count: usize) {
    for _ in 0..count {
        let mut batch = consumer.next_batch_mut().unwrap();
        assert_eq!(batch.len(), 1);
        batch[0] += 100;
    }
}

/// Reads `count` events, which have to be changed.
fn check_changed(consumer: &mut Consumer<u64>, count: usize) {
    for _ in 0..count {
        let batch = consumer.next_batch().unwrap();
        assert_eq!((batch.len(), batch[0]), (1, batch.sequences().start + 100));
    }
}

#[test]
fn a_stage_finds_what_was_changed_before_it() {
    model("r4 a_stage_finds_what_was_changed_before_it", || {
        one_changes_events(&ring(1, One));
    });
}

/// Without stamps.
#[test]
fn a_stage_finds_what_was_changed_by_the_cursor() {
    model("r4 a_stage_finds_what_was_changed_by_the_cursor", || {
        one_changes_events(&ring_apart(1, One));
    });
}

/// `a <- x <- m`, and `x` leaves: `m` changes only what `a` no longer reads.
#[test]
fn one_that_changes_inherits_what_a_leaver_came_after() {
    model(
        "r4 one_that_changes_inherits_what_a_leaver_came_after",
        || {
            let ring = ring(2, One);
            let a = ring.consumer("a").batch_limit(1).join().unwrap();
            let mut x = ring.consumer("x").after(["a"]).join().unwrap();
            let m = ring.consumer("m").after(["x"]).batch_limit(1);
            let mut m = m.join_mut().unwrap();
            let _producer = publish(ring.producer().unwrap(), 0..2);
            let a = thread::spawn(move || take(a, 2));
            let x = thread::spawn(move || {
                drop(x.try_next_batch());
                drop(x);
            });
            change(&mut m, 2);
            assert_eq!(a.join().unwrap().0, [0, 1]);
            x.join().unwrap();
        },
    );
}

/// `a <- m <- b`, and `m` leaves when it has changed the first event: `b` finds the second as it was.
#[test]
fn one_that_changes_leaves() {
    model("r4 one_that_changes_leaves", || {
        let ring = ring(2, One);
        let a = ring.consumer("a").batch_limit(1).join().unwrap();
        let m = ring.consumer("m").after(["a"]).batch_limit(1);
        let mut m = m.join_mut().unwrap();
        let b = ring.consumer("b").after(["m"]).join().unwrap();
        let _producer = publish(ring.producer().unwrap(), 0..2);
        let a = take(a, 1).1;
        let a = thread::spawn(move || take(a, 1));
        let m = thread::spawn(move || {
            change(&mut m, 1);
            drop(m);
        });
        assert_eq!(take(b, 2).0, [100, 1]);
        assert_eq!(a.join().unwrap().0, [1]);
        m.join().unwrap();
    });
}

/// The only consumer before a stage leaves: the stage goes on alone, up to what is published.
#[test]
fn a_stage_goes_on_when_all_before_it_have_left() {
    model("r4 a_stage_goes_on_when_all_before_it_have_left", || {
        let ring = ring(2, Many);
        let a = ring.consumer("a").join().unwrap();
        let b = ring.consumer("b").after(["a"]).join().unwrap();
        let producer = publish_shared(ring.shared_producer().unwrap(), 0..1);
        let writer = thread::spawn(move || publish_shared(producer, 1..3));
        let a = thread::spawn(move || drop(a));
        assert_eq!(take(b, 3).0, [0, 1, 2]);
        a.join().unwrap();
        writer.join().unwrap();
    });
}

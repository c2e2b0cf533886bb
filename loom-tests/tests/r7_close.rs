//! R7 CLOSE: what was published is delivered before a consumer hears that the ring is closed.

use annulus_loom_tests::{drain, model, publish, ring, thread};
use annulus_ring::Producers::{Many, One};

/// A stage behind another hears of the close after the last event, as the other does.
#[test]
fn the_drop_of_the_only_producer_loses_nothing() {
    model("r7 the_drop_of_the_only_producer_loses_nothing", || {
        let ring = ring(2, One);
        let mut a = ring.consumer("a").join().unwrap();
        let mut b = ring.consumer("b").after(["a"]).join().unwrap();
        let producer = publish(ring.producer().unwrap(), 0..1);
        let writer = thread::spawn(move || drop(publish(producer, 1..2)));
        let a = thread::spawn(move || (drain(&mut a), a));
        assert_eq!(drain(&mut b), [(0, 0), (1, 1)]);
        assert_eq!(a.join().unwrap().0, [(0, 0), (1, 1)]);
        writer.join().unwrap();
    });
}

/// The last of two producers closes, whichever it is.
#[test]
fn the_drop_of_the_last_producer_loses_nothing() {
    model("r7 the_drop_of_the_last_producer_loses_nothing", || {
        let ring = ring(2, Many);
        let mut consumer = ring.consumer("c").join().unwrap();
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let writers = [
            thread::spawn(move || {
                first.publish_value(10).unwrap();
            }),
            thread::spawn(move || {
                second.publish_value(20).unwrap();
            }),
        ];
        let mut values: Vec<u64> = drain(&mut consumer).iter().map(|e| e.1).collect();
        values.sort();
        assert_eq!(values, [10, 20]);
        for writer in writers {
            writer.join().unwrap();
        }
        assert!(ring.snapshot().closed);
    });
}

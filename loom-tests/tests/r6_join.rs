//! R6 JOIN: a joining consumer misses nothing from its start on, and nobody overruns it.
//!
//! Each event is its own sequence. Loom checks every access to an event: a producer that overruns a
//! newcomer writes where that one reads. Nobody waits here, so that there is little to explore.

use annulus_loom_tests::{builder, model, ring, ring_apart, thread};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{ClaimError, Consumer, JoinError, Producer, Ring, SharedProducer, Start};

/// Publishes `count` events at once.
fn feed(producer: &mut Producer<u64>, count: usize) {
    try_feed(producer, count).unwrap();
}

/// Publishes `count` events at once, if there is room.
fn try_feed(producer: &mut Producer<u64>, count: usize) -> Result<(), ClaimError> {
    let mut claim = producer.try_claim(count)?;
    let sequences = claim.sequences();
    let slots = claim.iter_mut().zip(sequences);
    slots.for_each(|(slot, sequence)| *slot = sequence);
    claim.publish();
    Ok(())
}

/// The only producer of a ring, which has published two events at once.
fn producer(ring: &Ring<u64>) -> Producer<u64> {
    let mut producer = ring.producer().unwrap();
    feed(&mut producer, 2);
    producer
}

/// One of many producers, likewise.
fn shared_producer(ring: &Ring<u64>) -> SharedProducer<u64> {
    let mut producer = ring.shared_producer().unwrap();
    feed(&mut producer, 2);
    producer
}

/// Reads one event, which is there.
fn read_one(consumer: &mut Consumer<u64>) {
    let mut batch = consumer.try_next_batch().unwrap();
    batch.release(1);
    batch.give_back();
}

/// Somebody who has joined, and what comes next.
struct Newcomer {
    consumer: Consumer<u64>,
    next: Option<u64>,
}

impl Newcomer {
    fn join(ring: &Ring<u64>, start: Start) -> Self {
        Self::join_as("late", ring, start)
    }

    fn join_as(name: &str, ring: &Ring<u64>, start: Start) -> Self {
        let consumer = ring.consumer(name).start(start).join().unwrap();
        Self {
            consumer,
            next: None,
        }
    }

    /// Joins at the oldest of what another consumer has not released, and that is what comes next.
    fn join_beside(ring: &Ring<u64>, name: &str) -> Self {
        let mut newcomer = Self::join_as(name, ring, Start::Oldest);
        newcomer.next = Some(newcomer.consumer.position());
        newcomer
    }

    /// Reads a batch, if there is one: without a gap from what comes next on, or from wherever it starts.
    fn read(&mut self) -> bool {
        let Ok(batch) = self.consumer.try_next_batch() else {
            return false;
        };
        for (sequence, event) in batch.with_sequences() {
            let expected = self.next.unwrap_or(sequence);
            assert_eq!((sequence, *event), (expected, expected));
            self.next = Some(sequence + 1);
        }
        true
    }

    /// Reads the rest, which is all that was published.
    fn read_to_the_end(&mut self, ring: &Ring<u64>) {
        while self.read() {}
        assert_eq!(self.consumer.position(), ring.snapshot().published);
    }
}

/// Another consumer lets the producer go on, while one joins.
fn beside_another(ring: &Ring<u64>, mut producer: impl AsProducer) {
    let mut other = ring.consumer("other").join().unwrap();
    feed(producer.get(), 2);
    let reader = thread::spawn(move || {
        read_one(&mut other);
        other
    });
    let writer = thread::spawn(move || {
        _ = try_feed(producer.get(), 1);
        producer
    });
    let mut newcomer = Newcomer::join_beside(ring, "late");
    newcomer.read();
    let _other = reader.join().unwrap();
    let _producer = writer.join().unwrap();
    newcomer.read_to_the_end(ring);
}

/// A producer of either kind.
trait AsProducer: Send + 'static {
    fn get(&mut self) -> &mut Producer<u64>;
}

impl AsProducer for Producer<u64> {
    fn get(&mut self) -> &mut Producer<u64> {
        self
    }
}

impl AsProducer for SharedProducer<u64> {
    fn get(&mut self) -> &mut Producer<u64> {
        self
    }
}

#[test]
fn a_newcomer_gets_all_from_the_oldest_on() {
    model("r6 a_newcomer_gets_all_from_the_oldest_on", || {
        let ring = ring(2, One);
        beside_another(&ring, ring.producer().unwrap());
    });
}

/// The same without stamps, by the cursor alone.
#[test]
fn a_newcomer_gets_all_by_the_cursor() {
    model("r6 a_newcomer_gets_all_by_the_cursor", || {
        let ring = ring_apart(2, One);
        beside_another(&ring, ring.producer().unwrap());
    });
}

/// The same with many producers: not inside a batch.
#[test]
fn a_newcomer_gets_all_of_many_producers() {
    model("r6 a_newcomer_gets_all_of_many_producers", || {
        let ring = ring(2, Many);
        beside_another(&ring, ring.shared_producer().unwrap());
    });
}

/// The consumer that reads is also who writes: it knows best how far it is.
#[test]
fn a_newcomer_is_seen_by_who_lets_itself_go_on() {
    model("r6 a_newcomer_is_seen_by_who_lets_itself_go_on", || {
        let ring = ring(2, One);
        let mut other = ring.consumer("other").join().unwrap();
        let mut producer = producer(&ring);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                read_one(&mut other);
                _ = try_feed(&mut producer, 1);
            }
            (producer, other)
        });
        let mut newcomer = Newcomer::join_beside(&ring, "late");
        newcomer.read();
        let _writer = writer.join().unwrap();
        newcomer.read_to_the_end(&ring);
    });
}

/// What is published after it has joined is for it, and all that comes behind that.
#[test]
fn a_newcomer_gets_all_from_the_next_on() {
    model("r6 a_newcomer_gets_all_from_the_next_on", || {
        let ring = ring(2, Many);
        let mut other = ring.consumer("other").join().unwrap();
        let mut first = shared_producer(&ring);
        let mut second = first.try_clone().unwrap();
        drop(other.try_next_batch());
        let writer = thread::spawn(move || {
            _ = try_feed(&mut first, 1);
            first
        });
        let mut newcomer = Newcomer::join(&ring, Start::Next);
        let published = try_feed(&mut second, 1);
        newcomer.read();
        let _first = writer.join().unwrap();
        newcomer.read_to_the_end(&ring);
        if published.is_ok() {
            assert!(newcomer.next.is_some());
        }
    });
}

/// At this event, or not at all.
#[test]
fn a_newcomer_starts_where_it_asked_to() {
    model("r6 a_newcomer_starts_where_it_asked_to", || {
        let ring = ring(2, One);
        let mut other = ring.consumer("other").join().unwrap();
        let mut producer = producer(&ring);
        let writer = thread::spawn(move || {
            drop(other.try_next_batch());
            _ = try_feed(&mut producer, 1);
            (producer, other)
        });
        match ring.consumer("late").start(Start::At(1)).join() {
            Ok(consumer) => {
                let next = Some(1);
                let mut newcomer = Newcomer { consumer, next };
                newcomer.read();
                let _writer = writer.join().unwrap();
                newcomer.read_to_the_end(&ring);
            }
            Err(JoinError::TooOld { oldest, .. }) => {
                assert_eq!(oldest, 2);
                let _writer = writer.join().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    });
}

/// Nobody else reads: the producer overwrites what it likes, until one joins.
#[test]
fn a_newcomer_stops_a_producer_that_nobody_read() {
    model("r6 a_newcomer_stops_a_producer_that_nobody_read", || {
        let ring = ring(1, One);
        let mut producer = ring.producer().unwrap();
        let writer = thread::spawn(move || {
            (0..2).for_each(|_| _ = try_feed(&mut producer, 1));
            producer
        });
        let mut newcomer = Newcomer::join(&ring, Start::Oldest);
        newcomer.read();
        let _producer = writer.join().unwrap();
        newcomer.read_to_the_end(&ring);
    });
}

/// The same with two producers. One may be writing what it has claimed, while one joins, and the other
/// goes on a lap further.
#[test]
fn a_newcomer_stops_producers_that_nobody_read() {
    model("r6 a_newcomer_stops_producers_that_nobody_read", || {
        let ring = ring(1, Many);
        let mut first = ring.shared_producer().unwrap();
        let mut second = first.try_clone().unwrap();
        let mut claim = first.claim(1).unwrap();
        let writer = thread::spawn(move || {
            _ = try_feed(&mut second, 1);
            second
        });
        let newcomer = thread::spawn({
            let ring = ring.clone();
            move || {
                let mut newcomer = Newcomer::join(&ring, Start::Oldest);
                newcomer.read();
                newcomer
            }
        });
        claim[0] = 0;
        claim.publish();
        let _second = writer.join().unwrap();
        newcomer.join().unwrap().read_to_the_end(&ring);
    });
}

/// Behind the other consumer: it starts beside it, and is given what that one has released.
#[test]
fn a_newcomer_joins_behind_another() {
    model("r6 a_newcomer_joins_behind_another", || {
        let ring = ring(2, One);
        let mut other = ring.consumer("other").join().unwrap();
        let mut producer = producer(&ring);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                read_one(&mut other);
                _ = try_feed(&mut producer, 1);
            }
            (producer, other)
        });
        let late = ring.consumer("late").after(["other"]);
        let consumer = late.start(Start::Oldest).join().unwrap();
        let next = Some(consumer.position());
        let mut newcomer = Newcomer { consumer, next };
        newcomer.read();
        let (_producer, mut other) = writer.join().unwrap();
        newcomer.read();
        assert_eq!(newcomer.consumer.position(), 2);
        while other.try_next_batch().is_ok() {}
        newcomer.read_to_the_end(&ring);
    });
}

/// The only other consumer leaves before one joins, or after that; both take their turn at the lock.
fn one_comes_and_one_goes(ring: &Ring<u64>, mut producer: impl AsProducer, order: Order) {
    let mut other = ring.consumer("other").join().unwrap();
    feed(producer.get(), 2);
    let writer = thread::spawn(move || {
        _ = try_feed(producer.get(), 1);
        producer
    });
    read_one(&mut other);
    let mut newcomer = match order {
        Order::LeaveFirst => {
            drop(other);
            Newcomer::join(ring, Start::Oldest)
        }
        Order::JoinFirst => {
            let newcomer = Newcomer::join_beside(ring, "late");
            drop(other);
            newcomer
        }
    };
    newcomer.read();
    let _producer = writer.join().unwrap();
    newcomer.read_to_the_end(ring);
}

enum Order {
    LeaveFirst,
    JoinFirst,
}

#[test]
fn a_newcomer_comes_when_another_has_left() {
    model("r6 a_newcomer_comes_when_another_has_left", || {
        let ring = ring(2, One);
        one_comes_and_one_goes(&ring, ring.producer().unwrap(), Order::LeaveFirst);
    });
}

#[test]
fn a_newcomer_stays_when_another_leaves() {
    model("r6 a_newcomer_stays_when_another_leaves", || {
        let ring = ring(2, One);
        one_comes_and_one_goes(&ring, ring.producer().unwrap(), Order::JoinFirst);
    });
}

/// With many producers, who leaves raises the floor.
#[test]
fn a_newcomer_comes_to_the_floor_when_another_has_left() {
    model(
        "r6 a_newcomer_comes_to_the_floor_when_another_has_left",
        || {
            let ring = ring(2, Many);
            one_comes_and_one_goes(&ring, ring.shared_producer().unwrap(), Order::LeaveFirst);
        },
    );
}

#[test]
fn a_newcomer_stays_when_another_raises_the_floor() {
    model("r6 a_newcomer_stays_when_another_raises_the_floor", || {
        let ring = ring(2, Many);
        one_comes_and_one_goes(&ring, ring.shared_producer().unwrap(), Order::JoinFirst);
    });
}

/// Two join, one after the other as they have to, while the producer goes on.
#[test]
fn two_newcomers_get_the_same() {
    model("r6 two_newcomers_get_the_same", || {
        let ring = ring(2, One);
        let mut other = ring.consumer("other").join().unwrap();
        let mut producer = producer(&ring);
        let writer = thread::spawn(move || {
            read_one(&mut other);
            _ = try_feed(&mut producer, 1);
            (producer, other)
        });
        let mut newcomers = ["late", "later"].map(|name| Newcomer::join_beside(&ring, name));
        for newcomer in &mut newcomers {
            newcomer.read();
        }
        let _writer = writer.join().unwrap();
        for newcomer in &mut newcomers {
            newcomer.read_to_the_end(&ring);
        }
    });
}

/// The producer waits for a second consumer, which then gets all that has waited for it.
fn one_more_is_required(ring: &Ring<u64>, mut producer: impl AsProducer) {
    let _other = ring.consumer("other").join().unwrap();
    let writer = thread::spawn(move || {
        (0..2).for_each(|_| _ = try_feed(producer.get(), 1));
        producer
    });
    let mut newcomer = Newcomer::join(ring, Start::Next);
    newcomer.next = Some(0);
    newcomer.read();
    let _producer = writer.join().unwrap();
    newcomer.read_to_the_end(ring);
}

#[test]
fn a_required_newcomer_gets_what_waited_for_it() {
    model("r6 a_required_newcomer_gets_what_waited_for_it", || {
        let ring = builder(2, One).require_consumers(2).build(|| 0).unwrap();
        one_more_is_required(&ring, ring.producer().unwrap());
    });
}

#[test]
fn a_required_newcomer_gets_what_waited_in_many_places() {
    model(
        "r6 a_required_newcomer_gets_what_waited_in_many_places",
        || {
            let ring = builder(2, Many).require_consumers(2).build(|| 0).unwrap();
            one_more_is_required(&ring, ring.shared_producer().unwrap());
        },
    );
}

/// The one required has left, and another comes, while the producer goes on as far as it knew.
#[test]
fn a_newcomer_comes_while_the_producer_uses_up_what_it_knew() {
    model(
        "r6 a_newcomer_comes_while_the_producer_uses_up_what_it_knew",
        || {
            let ring = builder(2, One).require_consumers(1).build(|| 0).unwrap();
            let mut other = ring.consumer("other").join().unwrap();
            let mut producer = ring.producer().unwrap();
            feed(&mut producer, 1);
            read_one(&mut other);
            drop(other);
            let writer = thread::spawn(move || {
                (0..2).for_each(|_| _ = try_feed(&mut producer, 1));
                producer
            });
            let mut newcomer = Newcomer::join(&ring, Start::Next);
            newcomer.read();
            let _producer = writer.join().unwrap();
            newcomer.read_to_the_end(&ring);
        },
    );
}

/// Another consumer has read what is stamped, and the cursor does not tell of it yet.
fn beside_one_that_came_by_a_stamp(start: Start) {
    let ring = ring(4, One);
    let mut first = ring.consumer("first").join().unwrap();
    let mut producer = producer(&ring);
    let writer = thread::spawn(move || {
        feed(&mut producer, 1);
        producer
    });
    while first.try_next_batch().is_ok() {}
    let mut late = Newcomer::join_as("late", &ring, start);
    late.read();
    let mut producer = writer.join().unwrap();
    feed(&mut producer, 1);
    late.read_to_the_end(&ring);
}

#[test]
fn c24_a_consumer_joins_beside_one_that_came_by_a_stamp() {
    model(
        "r6 c24_a_consumer_joins_beside_one_that_came_by_a_stamp",
        || {
            beside_one_that_came_by_a_stamp(Start::Oldest);
        },
    );
}

#[test]
fn c24_a_consumer_joins_at_what_is_published_beside_one_that_came_by_a_stamp() {
    let name = "r6 c24_a_consumer_joins_at_what_is_published_beside_one_that_came_by_a_stamp";
    model(name, || beside_one_that_came_by_a_stamp(Start::Next));
}

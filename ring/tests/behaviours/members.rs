//! Members: who may join, when, and under what name.

use annulus_ring::Producers::{Many, One};
use annulus_ring::{ClaimError, Consumer, JoinError, NotReady, ProducerError, Ring};

use crate::{KINDS, consumer, feed, not_ready, publish, read, ring, stage};

/// Why the consumer cannot join.
fn refused(joined: Result<Consumer<u64>, JoinError>) -> JoinError {
    joined.map(drop).unwrap_err()
}

#[test]
fn a_producer_of_the_other_kind_cannot_join() {
    let (one, many) = (ring(1, One), ring(1, Many));
    let wrong = |built_for| ProducerError::WrongKind { built_for };
    assert_eq!(one.shared_producer().map(drop), Err(wrong(One)));
    assert_eq!(many.producer().map(drop), Err(wrong(Many)));
}

#[test]
fn a_ring_for_one_producer_has_one() {
    let ring = ring(1, One);
    let only = ring.producer().unwrap();
    assert_eq!(ring.producer().map(drop), Err(ProducerError::Taken));
    drop(only);
    assert_eq!(ring.producer().map(drop), Err(ProducerError::Closed));
}

#[test]
fn a_closed_ring_lets_nobody_join() {
    for kind in KINDS {
        let ring = ring(1, kind);
        drop(feed(&ring));
        let producer = crate::Feed::join(&ring).map(drop);
        assert_eq!(producer, Err(ProducerError::Closed));
        let late = refused(ring.consumer("late").join());
        let name = "late".to_owned();
        assert_eq!(late, JoinError::Closed { name });
    }
}

#[test]
fn a_full_member_table_lets_nobody_join_until_somebody_leaves() {
    for kind in KINDS {
        let builder = Ring::builder(1).producers(kind).members(2);
        let ring = builder.build(|| 0_u64).unwrap();
        let members = 2;
        let a = consumer(&ring, "a");
        let b = consumer(&ring, "b");
        let no_producer = crate::Feed::join(&ring).map(drop);
        let held_by = vec!["\"a\"".to_owned(), "\"b\"".to_owned()];
        let full = ProducerError::TableFull {
            members,
            held_by: held_by.clone(),
        };
        assert_eq!(no_producer, Err(full));
        let full = JoinError::TableFull {
            name: "c".to_owned(),
            members,
            held_by,
        };
        assert_eq!(refused(ring.consumer("c").join()), full);
        drop(a);
        let mut feed = feed(&ring);
        publish(&mut feed, 1);
        if kind == Many {
            assert!(ring.shared_producer().is_err());
            drop(b);
            publish(&mut ring.shared_producer().unwrap(), 1);
        }
    }
}

#[test]
fn a_clone_of_a_producer_needs_a_row() {
    let builder = Ring::builder(1).producers(Many).members(2);
    let ring = builder.build(|| 0_u64).unwrap();
    let first = ring.shared_producer().unwrap();
    let second = first.try_clone().unwrap();
    let full = Err(ProducerError::TableFull {
        members: 2,
        held_by: vec!["2 producers".to_owned()],
    });
    assert_eq!(first.try_clone().map(drop), full);
    drop(first);
    assert!(second.try_clone().is_ok());
}

#[test]
fn a_name_has_1_to_80_bytes() {
    let ring = ring(1, One);
    for name in [String::new(), "x".repeat(81), "ü".repeat(41)] {
        let bad = refused(ring.consumer(&name).join());
        assert_eq!(bad, JoinError::BadName { name });
    }
    let longest = ["x".repeat(80), "ü".repeat(40)];
    let _consumers = longest.each_ref().map(|name| consumer(&ring, name));
    let names = ring.snapshot().members.into_iter().map(|m| m.name);
    assert_eq!(names.collect::<Vec<_>>(), longest);
}

#[test]
fn a_name_is_taken_until_its_consumer_is_dropped() {
    for kind in KINDS {
        let ring = ring(4, kind);
        let first = consumer(&ring, "reader");
        let again = refused(ring.consumer("reader").join());
        let name = "reader".to_owned();
        assert_eq!(again, JoinError::NameTaken { name });
        drop(first);
        let mut second = consumer(&ring, "reader");
        publish(&mut feed(&ring), 4);
        assert_eq!(read(&mut second), [0, 1, 2, 3]);
    }
}

#[test]
fn a_stage_comes_after_consumers_that_are_there() {
    let ring = ring(1, One);
    let gone = consumer(&ring, "gone");
    drop(gone);
    let _first = consumer(&ring, "first");
    for after in ["nobody", "gone", "late", ""] {
        let unknown = refused(ring.consumer("late").after(["first", after]).join());
        let (name, after) = ("late".to_owned(), after.to_owned());
        assert_eq!(unknown, JoinError::UnknownName { name, after });
    }
    let _twice = stage(&ring, "second", &["first", "first"]);
    let names = ["first", "second"].map(str::to_owned);
    assert!(ring.consumer("third").after(names).join().is_ok());
}

#[test]
fn a_batch_has_at_least_one_event() {
    let ring = ring(1, One);
    let none = refused(ring.consumer("none").batch_limit(0).join());
    let name = "none".to_owned();
    assert_eq!(none, JoinError::BatchLimit { name });
}

/// Whatever producers have done before: it gates from then on.
#[test]
fn c12_a_consumer_that_comes_after_the_first_claim_gates() {
    for kind in KINDS {
        let claims: [fn(&mut crate::Feed<u64>); 4] = [
            |feed| publish(feed, 1),
            |feed| drop(feed.try_claim(1)),
            |feed| std::mem::forget(feed.try_claim(1)),
            |feed| _ = feed.free(),
        ];
        for claim in claims {
            for with_another in [false, true] {
                let ring = ring(4, kind);
                let mut feed = feed(&ring);
                let mut another = with_another.then(|| consumer(&ring, "another"));
                claim(&mut feed);
                let mut late = consumer(&ring, "late");
                _ = feed.free(); // Skips a claim that was leaked.
                assert_eq!(not_ready(&mut late), NotReady::Idle); // Walks to where it is to start.
                another.iter_mut().for_each(|another| _ = read(another));
                let start = ring.snapshot().published;
                publish(&mut feed, 4);
                another.iter_mut().for_each(|another| _ = read(another));
                assert_eq!(
                    feed.try_publish(|_| unreachable!()),
                    Err(ClaimError::Full { free: 0 })
                );
                let sequences: Vec<_> = (start..start + 4).collect();
                assert_eq!(read(&mut late), sequences);
                publish(&mut feed, 1);
            }
        }
    }
}

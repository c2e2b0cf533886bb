//! Messages: each error names the thing, the value and what to do.

use std::error::Error;

use annulus_ring::Producers::{Many, One};
use annulus_ring::{
    BuildError, ClaimError, Ended, JoinError, NoParking, NotReady, Poisoned, ProducerError,
    Rejected, Ring, Unusable,
};

use crate::{consumer, ring};

/// By the member in row 1, for reason 42.
fn poisoned_by_a_reader() -> Poisoned {
    let ring = ring(1, One);
    let readers = ["a", "b"].map(|name| consumer(&ring, name));
    readers[1].poison(42);
    ring.snapshot().poisoned.unwrap()
}

/// For reason 7.
fn poisoned_by_nobody() -> Poisoned {
    let ring = ring(1, One);
    ring.poison(7);
    let poisoned = ring.snapshot().poisoned.unwrap();
    assert!(!poisoned.to_string().contains("row"));
    poisoned
}

/// Each error with words that its message has to contain.
#[test]
fn an_error_names_the_thing_the_value_and_what_to_do() {
    let name = || "risk".to_owned();
    let after = "book".to_owned();
    let (required, present, requested) = (3, 1, 9);
    let event_size = 4096;
    let (by_reader, by_nobody) = (poisoned_by_a_reader(), poisoned_by_nobody());
    let cases: Vec<(Box<dyn Error>, &[&str])> = vec![
        (
            BuildError::Capacity { capacity: 1000 }.into(),
            &["capacity", "power of two", "1000", "use 1024"],
        ),
        (
            BuildError::Capacity { capacity: 0 }.into(),
            &["0 is not", "use 1"],
        ),
        (
            BuildError::Capacity {
                capacity: usize::MAX,
            }
            .into(),
            &["smaller"],
        ),
        (
            BuildError::Members { members: 65 }.into(),
            &["1 to 64 members", "65"],
        ),
        (
            BuildError::RequiredConsumers {
                required,
                members: 3,
            }
            .into(),
            &["consumers are required (3)", "table of 3", ".members(4)"],
        ),
        (
            BuildError::TooLarge {
                capacity: 1 << 60,
                event_size,
            }
            .into(),
            &["1152921504606846976 events", "4096 bytes", "smaller ring"],
        ),
        (
            ClaimError::Full { free: 2 }.into(),
            &["full", "free slots: 2", "claim fewer"],
        ),
        (
            ClaimError::TooLong {
                requested,
                capacity: 8,
            }
            .into(),
            &["slots were asked for (9)", "ring of 8", "larger ring"],
        ),
        (
            ClaimError::TooFewConsumers { required, present }.into(),
            &["required: 3", "joined: 1", "require fewer"],
        ),
        (ClaimError::Closed.into(), &["closed", "nothing"]),
        (
            ClaimError::Poisoned(by_reader).into(),
            &["poisoned", "reason 42", "row 1"],
        ),
        (by_nobody.into(), &["poisoned", "reason 7"]),
        (
            ProducerError::NoParking.into(),
            &["a producer", "parking", ".parking()", "another way to wait"],
        ),
        (
            ProducerError::WrongKind { built_for: One }.into(),
            &["one producer", "Ring::producer", "Producers::Many"],
        ),
        (
            ProducerError::WrongKind { built_for: Many }.into(),
            &["many", "Ring::shared_producer", "Producers::One"],
        ),
        (
            ProducerError::Taken.into(),
            &["only producer", "Producers::Many"],
        ),
        (
            ProducerError::TableFull {
                members: 16,
                held_by: vec!["\"book\" of process 7".to_owned(), "a producer".to_owned()],
            }
            .into(),
            &[
                "a producer",
                "holds 16 (\"book\" of process 7, a producer)",
                ".members(n)",
                "64",
            ],
        ),
        (
            ProducerError::NoLease {
                why: "too many files".to_owned(),
            }
            .into(),
            &["a producer", "no lease", "too many files"],
        ),
        (
            ProducerError::Unusable(Unusable::Busy { process: Some(7) }).into(),
            &["process 7", "stopped"],
        ),
        (
            ProducerError::Closed.into(),
            &["closed", "build another ring"],
        ),
        (
            ProducerError::Poisoned(by_reader).into(),
            &["a producer", "reason 42", "row 1"],
        ),
        (
            JoinError::BadName {
                name: "x".repeat(99),
            }
            .into(),
            &["name", "1 to 80 bytes", "xxx", "has 99", "choose another"],
        ),
        (
            JoinError::NameTaken { name: name() }.into(),
            &["\"risk\"", "choose another"],
        ),
        (
            JoinError::UnknownName {
                name: name(),
                after,
            }
            .into(),
            &["\"risk\"", "\"book\"", "join that one first"],
        ),
        (
            JoinError::BatchLimit { name: name() }.into(),
            &["\"risk\"", "is 0", "at least 1"],
        ),
        (
            JoinError::TooOld {
                name: name(),
                asked: 7,
                oldest: 12,
            }
            .into(),
            &["\"risk\"", "start at 7", "below 12", "join sooner"],
        ),
        (
            JoinError::TableFull {
                name: name(),
                members: 4,
                held_by: vec!["\"book\"".to_owned()],
            }
            .into(),
            &["consumer \"risk\"", "holds 4 (\"book\")", ".members(n)"],
        ),
        (
            JoinError::NoLease {
                name: name(),
                why: "too many files".to_owned(),
            }
            .into(),
            &["consumer \"risk\"", "no lease", "too many files"],
        ),
        (
            JoinError::Unusable {
                name: name(),
                cause: Unusable::Corrupt,
            }
            .into(),
            &["consumer \"risk\"", "corrupt", "create it anew"],
        ),
        (
            JoinError::Closed { name: name() }.into(),
            &["\"risk\"", "closed", "build another ring"],
        ),
        (
            JoinError::Unordered {
                name: name(),
                other: "book".to_owned(),
                other_changes: true,
            }
            .into(),
            &[
                "\"book\" changes",
                "against \"risk\"",
                "join \"risk\" after \"book\"",
            ],
        ),
        (
            JoinError::Unordered {
                name: name(),
                other: "book".to_owned(),
                other_changes: false,
            }
            .into(),
            &[
                "\"risk\" changes",
                "against \"book\"",
                "join \"risk\" after \"book\"",
            ],
        ),
        (
            JoinError::NoParking { name: name() }.into(),
            &["\"risk\"", "parking", ".parking()", "another way to wait"],
        ),
        (
            JoinError::Poisoned {
                name: name(),
                cause: by_reader,
            }
            .into(),
            &["\"risk\"", "too late", "reason 42", "row 1"],
        ),
        (
            NoParking { consumer: 3 }.into(),
            &["consumer 3", "without parking", ".parking()"],
        ),
        (NotReady::Idle.into(), &["no event", "try later"]),
        (NotReady::Gated.into(), &["comes after", "try later"]),
        (NotReady::Closed.into(), &["closed", "has been read"]),
        (Ended::Closed.into(), &["closed", "has been read"]),
        (
            NotReady::Poisoned(by_reader).into(),
            &["reason 42", "row 1"],
        ),
        (Ended::Poisoned(by_reader).into(), &["reason 42", "row 1"]),
    ];
    for (error, words) in cases {
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
    }
}

#[test]
fn a_rejected_value_tells_the_cause() {
    let rejected = Rejected {
        value: 7,
        cause: ClaimError::Full { free: 0 },
    };
    assert!(rejected.to_string().contains("full"));
    let source = rejected.source().unwrap().downcast_ref();
    assert_eq!(source, Some(&rejected.cause));
}

/// They show what they are, and nothing of the events, which need not be `Debug`.
#[test]
fn everything_can_be_printed_for_debugging() {
    struct Opaque;

    let ring = Ring::builder(4).build(|| Opaque).unwrap();
    let builder = ring.consumer("reader").after(["nobody"]);
    let shown = format!("{:?} {builder:?}", Ring::builder(4));
    assert!(shown.contains("capacity: 4") && shown.contains("nobody"));
    let mut reader = consumer(&ring, "reader");
    let mut feed = ring.producer().unwrap();
    let mut claim = feed.claim(2).unwrap();
    assert_eq!(
        format!("{:?}", claim.iter_mut()),
        "Slots { left: 0..2, .. }"
    );
    assert_eq!(format!("{claim:?}"), "Claim { sequences: 0..2, .. }");
    claim.publish();
    let batch = reader.try_next_batch().unwrap();
    assert_eq!(format!("{:?}", batch.iter()), "Events { left: 0..2, .. }");
    assert!(format!("{batch:?}").contains("sequences: 0..2, backlog: 2"));
    batch.hold();
    assert_eq!(format!("{:?}", reader.held()), "Held { left: 0..2, .. }");
    reader.release_until(2);
    assert!(format!("{reader:?}").contains("\"reader\", position: 2"));
    assert_eq!(format!("{feed:?}"), "Producer { capacity: 4, .. }");
    assert_eq!(format!("{ring:?}"), "Ring { capacity: 4, .. }");
    let changes = ring.consumer("changes").after(["reader"]);
    let mut changes = changes.join_mut().unwrap();
    assert!(format!("{changes:?}").contains("\"changes\", position: 2"));
    feed.publish(|_| ()).unwrap();
    drop(reader);
    let batch = changes.try_next_batch_mut().unwrap();
    assert!(format!("{batch:?}").contains("sequences: 2..3, backlog: 1"));
    let shared = crate::ring(2, Many).shared_producer().unwrap();
    assert_eq!(format!("{shared:?}"), "SharedProducer { capacity: 2, .. }");
}

#[test]
fn a_ring_is_closed_by_the_one_handle_that_can() {
    let ring = ring(1, One);
    let handle = ring.clone();
    drop(ring);
    assert!(!handle.snapshot().closed);
    drop(handle.producer().unwrap());
    assert!(handle.snapshot().closed);
}

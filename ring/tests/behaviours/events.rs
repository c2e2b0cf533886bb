//! Events: any `Send + Sync` type, of any size and alignment, dropped exactly once.

use std::sync::Arc;
use std::thread;

use annulus_ring::{Consumer, Ring};

use crate::{KINDS, consumer, feed, give_up, gives_up};

/// An event of which the test knows how many there are.
struct Counted {
    _alive: Arc<()>,
}

/// How many [`Counted`] there are.
#[derive(Default)]
struct Census(Arc<()>);

impl Census {
    fn newcomer(&self) -> Counted {
        Counted {
            _alive: self.0.clone(),
        }
    }

    fn alive(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

#[test]
fn events_are_dropped_once_with_the_last_handle() {
    for kind in KINDS {
        let handles = ["ring", "producer", "consumer"];
        for last in handles {
            let census = Census::default();
            let builder = Ring::builder(8).producers(kind);
            let ring = builder.build(|| census.newcomer()).unwrap();
            let (reader, feed) = (consumer(&ring, "reader"), feed(&ring));
            assert_eq!(census.alive(), 8);
            let mut held: Vec<(&str, Box<dyn Send>)> = vec![
                ("ring", Box::new(ring)),
                ("producer", Box::new(feed)),
                ("consumer", Box::new(reader)),
            ];
            held.sort_by_key(|(name, _)| *name == last);
            for (_, handle) in held {
                assert_eq!(census.alive(), 8);
                thread::spawn(move || drop(handle)).join().unwrap();
            }
            assert_eq!(census.alive(), 0);
        }
    }
}

#[test]
fn a_published_value_replaces_and_drops_what_was_in_its_slot() {
    for kind in KINDS {
        let census = Census::default();
        let builder = Ring::builder(4).producers(kind);
        let ring = builder.build(|| census.newcomer()).unwrap();
        let mut reader = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        for _ in 0..3 {
            for _ in 0..4 {
                assert!(feed.try_publish_value(census.newcomer()).is_ok());
                assert_eq!(census.alive(), 4);
            }
            let rejected = feed.try_publish_value(census.newcomer());
            assert_eq!(census.alive(), 5);
            drop(rejected);
            assert_eq!(reader.try_next_batch().unwrap().len(), 4);
        }
        drop((ring, feed, reader));
        assert_eq!(census.alive(), 0);
    }
}

#[test]
fn what_a_panicking_factory_made_before_is_dropped() {
    for made_before in [0, 1, 5, 7] {
        let census = Census::default();
        gives_up(|| {
            let factory = || {
                if census.alive() == made_before {
                    give_up();
                }
                census.newcomer()
            };
            let _ = Ring::builder(8).build(factory);
        });
        assert_eq!(census.alive(), 0);
    }
}

/// Publishes `values` through a ring of 2, and returns what the reader finds: by value, and what an
/// event's place is.
fn pass<T: Send + Sync + Clone>(values: &[T], check_place: impl Fn(&T)) -> Vec<Vec<T>> {
    let pass_one_kind = |kind| {
        let builder = Ring::builder(2).producers(kind);
        let ring = builder.build(|| values[0].clone()).unwrap();
        let mut reader: Consumer<T> = consumer(&ring, "reader");
        let mut feed = feed(&ring);
        let mut passed = Vec::new();
        for pair in values.chunks(2) {
            for value in pair {
                assert!(feed.publish_value(value.clone()).is_ok());
            }
            let batch = reader.try_next_batch().unwrap();
            batch.iter().for_each(&check_place);
            passed.extend(batch.iter().cloned());
        }
        passed
    };
    KINDS.map(pass_one_kind).into()
}

#[test]
fn strings_pass() {
    let lines = ["", "one", "a line that is too long to be short"].map(str::to_owned);
    for passed in pass(&lines, |_| ()) {
        assert_eq!(passed, lines);
    }
}

#[test]
fn a_string_keeps_its_memory_from_lap_to_lap() {
    for kind in KINDS {
        let builder = Ring::builder(1).producers(kind);
        let ring = builder.build(|| String::with_capacity(100)).unwrap();
        let mut feed = feed(&ring);
        let mut places = Vec::new();
        for lap in 0..3 {
            let write = |line: &mut String| {
                line.clear();
                line.push_str(&lap.to_string());
                places.push(line.as_ptr() as usize);
            };
            feed.publish(write).unwrap();
        }
        assert_eq!([places[1], places[2]], [places[0]; 2]);
    }
}

#[test]
fn events_without_a_size_pass() {
    let units = [(); 5];
    for passed in pass(&units, |()| ()) {
        assert_eq!(passed, units);
    }
}

#[test]
fn events_are_aligned_as_their_type_asks() {
    #[derive(Clone, Debug, PartialEq)]
    #[repr(align(128))]
    struct Wide(u8);

    #[derive(Clone, Debug, PartialEq)]
    #[repr(align(32))]
    struct Odd([u8; 33]);

    fn check<T: Clone + Send + Sync + PartialEq + std::fmt::Debug>(values: &[T]) {
        let is_aligned = |event: &T| {
            let address = std::ptr::from_ref(event) as usize;
            assert_eq!(address % align_of::<T>(), 0);
        };
        for passed in pass(values, is_aligned) {
            assert_eq!(passed, values);
        }
    }

    check(&[Wide(1), Wide(2), Wide(3)]);
    check(&[Odd([1; 33]), Odd([2; 33]), Odd([3; 33])]);
    check(&[1_u128, 2, 3, 4]);
    check(&[1_u8, 2, 3, 4]);
}

#[test]
fn events_larger_than_a_cache_line_pass_whole() {
    let pages: Vec<_> = (0..5).map(|byte| [byte; 4099]).collect();
    for passed in pass(&pages, |_| ()) {
        assert_eq!(passed, pages);
    }
}

#[test]
fn events_that_borrow_pass() {
    let text = String::from("to be or not to be");
    let words: Vec<&str> = text.split(' ').collect();
    for passed in pass(&words, |_| ()) {
        assert_eq!(passed, words);
    }
}

//! Those who share the ring with a process that ends, and go on: who they are, and what they do.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ipc::{Directory, Segment};
use annulus_ring::{ClaimError, NotReady, Producers, Sequence, Step, Wait};

use crate::combination::{Combination, Point, Situation};
use crate::member::{CAPACITY, CHANGED, Event, Feed, Place, WAITS, ring};
use crate::process::Process;
use crate::program::{place_of, seed};
use crate::reader::{PATIENCE, Reader, Waiting};

/// How long to wait for what must not happen: some looks for the dead. If nobody gets to it in that time, less is
/// tested, and nothing fails.
pub(crate) const A_WHILE: Duration = Duration::from_millis(10);

/// More than two laps.
const SOME_LAPS: u64 = 2 * CAPACITY as u64 + 3;

/// The producer here.
pub(crate) const FEED: u64 = 1;

/// The process that ends.
pub(crate) const OTHER: u64 = 2;

pub(crate) struct Company {
    pub(crate) place: Place,
    pub(crate) ring: Segment<Event>,
    pub(crate) producers: Producers,
    pub(crate) feed: Option<Feed>,
    /// First who comes after nobody, "journal"; then "risk" after it; then whoever has joined later.
    pub(crate) readers: Vec<Reader>,
    /// How much each producer has published, by what it has been told itself.
    pub(crate) published: BTreeMap<u64, u64>,
    /// What has been claimed and never published.
    pub(crate) given_up: Vec<Range<Sequence>>,
    /// Which way to wait is next.
    turn: usize,
    /// Whether those who wait have to be found asleep.
    parks: bool,
}

impl Company {
    /// With a ring of its own, whose members are two consumers, one after the other.
    pub(crate) fn of(combination: &Combination) -> Self {
        let mut company = Self::without_consumers(combination);
        company.joins("journal", "");
        company.joins("risk", "journal");
        company
    }

    /// With a ring of its own, and nobody who reads.
    pub(crate) fn without_consumers(combination: &Combination) -> Self {
        let place = place_of(combination.number);
        let ring = Segment::builder(ring(combination.producers, combination.layout))
            .directory(Directory::at(&place.directory))
            .create(&place.name)
            .unwrap_or_else(|error| panic!("{error}"));
        Self::around(ring, place, combination)
    }

    /// Nobody, with this ring.
    pub(crate) fn around(ring: Segment<Event>, place: Place, combination: &Combination) -> Self {
        Self {
            place,
            ring,
            producers: combination.producers,
            feed: None,
            readers: Vec::new(),
            published: BTreeMap::new(),
            given_up: Vec::new(),
            turn: (combination.number + seed()) as usize,
            parks: combination.point == Point::Ring(Step::Wake),
        }
    }

    /// A process that has opened the ring.
    pub(crate) fn process(&self) -> Process {
        Process::start(&self.place)
    }

    /// The next way to wait.
    pub(crate) fn wait(&mut self) -> (&'static str, Wait) {
        self.turn += 1;
        if self.parks {
            WAITS[0]
        } else {
            WAITS[self.turn % WAITS.len()]
        }
    }

    /// One more consumer, here.
    pub(crate) fn joins(&mut self, name: &str, after: &str) {
        let (_, wait) = self.wait();
        let mut builder = self.ring.consumer(name).wait(wait).list_skipped();
        if !after.is_empty() {
            builder = builder.after([after]);
        }
        let consumer = builder.join().unwrap_or_else(|error| panic!("{error}"));
        self.readers.push(Reader::new(consumer));
    }

    /// A dead consumer's successor, which goes on at `position`, and is given again what that one had not released.
    pub(crate) fn succeeds(&mut self, name: &str, position: Sequence) {
        self.succeeds_within(name, position..=position);
    }

    /// The same, where it is not known how far the dead one had got.
    pub(crate) fn succeeds_within(&mut self, name: &str, positions: RangeInclusive<Sequence>) {
        self.joins(name, "");
        let successor = self.readers.last().expect("it has joined");
        let position = successor.consumer.position();
        assert!(
            positions.contains(&position),
            "{name} goes on at {position}, not {positions:?}"
        );
        assert_eq!(successor.start, position);
    }

    /// The successor of a dead one that changed events, which goes on at `position`, changes what there is, and leaves.
    pub(crate) fn changes_on(&mut self, name: &str, position: Sequence) {
        let front = self.front();
        let (_, wait) = self.wait();
        let successor = self.ring.consumer(name).wait(wait).join_mut();
        let mut successor = successor.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(successor.position(), position, "where {name} goes on");
        while successor.position() < front {
            let batch = successor.next_batch_mut_deadline(Instant::now() + PATIENCE);
            for event in &mut batch.unwrap_or_else(|error| panic!("{name} does not go on: {error}"))
            {
                event.number |= CHANGED;
            }
        }
    }

    pub(crate) fn feed_joins(&mut self) {
        if self.feed.is_none() {
            let (_, wait) = self.wait();
            self.feed = Some(Feed::join(&self.ring, self.producers, wait));
        }
    }

    /// If there can be only one producer, makes room for another one; if not, is there beside it.
    pub(crate) fn feed_makes_room(&mut self) {
        match self.producers {
            Producers::One => self.feed = None,
            Producers::Many => self.feed_joins(),
        }
    }

    /// The end of what is published and skipped, as far as it is known.
    pub(crate) fn front(&self) -> Sequence {
        let published: u64 = self.published.values().sum();
        let given_up: u64 = self
            .given_up
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        published + given_up
    }

    pub(crate) fn published_by(&self, who: u64) -> u64 {
        self.published.get(&who).copied().unwrap_or(0)
    }

    /// Counts what a producer says to have published, or is known to have.
    pub(crate) fn has_published(&mut self, who: u64, n: u64) {
        *self.published.entry(who).or_default() += n;
    }

    /// Counts what has been claimed next, and will not be published.
    pub(crate) fn has_been_given_up(&mut self, n: u64) {
        let front = self.front();
        self.given_up.push(front..front + n);
    }

    /// Publishes here.
    pub(crate) fn publish(&mut self, n: usize) {
        self.feed_joins();
        let feed = self.feed.as_mut().expect("it has joined").producer();
        let first = self.published.get(&FEED).copied().unwrap_or(0);
        let deadline = Instant::now() + PATIENCE;
        let published = feed.publish_batch_deadline(n, deadline, |slots| {
            for (slot, number) in slots.zip(first..) {
                *slot = Event { who: FEED, number };
            }
        });
        published.unwrap_or_else(|error| panic!("the feed does not go on: {error}"));
        self.has_published(FEED, n as u64);
    }

    /// Claims here, and publishes nothing.
    pub(crate) fn give_up(&mut self, n: usize) {
        self.feed_joins();
        let feed = self.feed.as_mut().expect("it has joined").producer();
        let claim = feed.try_claim(n);
        drop(claim.unwrap_or_else(|error| panic!("there is no room: {error}")));
        self.has_been_given_up(n as u64);
    }

    /// This reader steps over what was given up last.
    pub(crate) fn steps_over(&mut self, reader: usize) {
        let front = self.front();
        let reader = &mut self.readers[reader];
        let nothing = reader
            .consumer
            .try_next_batch()
            .map(|batch| batch.sequences());
        assert_eq!(nothing, Err(NotReady::Idle));
        assert_eq!(reader.consumer.position(), front);
        reader.list_what_it_stepped_over();
    }

    /// Publishes one here if there is room for it.
    pub(crate) fn try_publish(&mut self) -> bool {
        self.feed_joins();
        let number = self.published_by(FEED);
        let feed = self.feed.as_mut().expect("it has joined").producer();
        let event = Event { who: FEED, number };
        match feed
            .try_publish_value(event)
            .map_err(|rejected| rejected.cause)
        {
            Ok(_) => {
                self.has_published(FEED, 1);
                true
            }
            Err(ClaimError::Full { .. }) => false,
            Err(error) => panic!("the feed does not go on: {error}"),
        }
    }

    /// Publishes some laps, if nobody gates.
    pub(crate) fn publish_what_fits(&mut self) {
        for _ in 0..SOME_LAPS {
            self.try_publish();
        }
    }

    /// Publishes until there is no room left, as somebody gates, and finds that there is none for a while.
    pub(crate) fn fill_up(&mut self) {
        for _ in 0..=CAPACITY {
            if !self.try_publish() {
                break;
            }
            (0..self.readers.len().min(2)).for_each(|reader| self.reads(reader));
        }
        let number = self.published_by(FEED);
        let feed = self.feed.as_mut().expect("it has joined").producer();
        let event = Event { who: FEED, number };
        let full = feed.publish_value_deadline(Instant::now() + A_WHILE, event);
        let full = full.map_err(|rejected| rejected.cause);
        assert_eq!(
            full,
            Err(ClaimError::Full { free: 0 }),
            "a stopped consumer gates"
        );
    }

    /// Publishes until there is no room left, and then for so long neither this producer nor this reader goes on.
    pub(crate) fn nobody_goes_on_for(&mut self, time: Duration, reader: usize) {
        while self.try_publish() {}
        let number = self.published_by(FEED);
        let feed = self.feed.as_mut().expect("it has joined").producer();
        let consumer = &mut self.readers[reader].consumer;
        let end = Instant::now() + time;
        thread::scope(|scope| {
            scope.spawn(move || {
                let event = Event { who: FEED, number };
                let full = feed.publish_value_deadline(end, event);
                let full = full.map_err(|rejected| rejected.cause);
                assert_eq!(full, Err(ClaimError::Full { free: 0 }));
            });
            let nothing = consumer
                .next_batch_deadline(end)
                .map(|batch| batch.sequences());
            assert_eq!(nothing, Err(NotReady::Idle));
        });
        assert_eq!(
            self.readers[reader].consumer.skipped(),
            0,
            "a living claim was skipped"
        );
    }

    /// Publishes until the ring is closed or poisoned, and returns which.
    pub(crate) fn publish_until_the_end(&mut self) -> ClaimError {
        self.feed_joins();
        let (mut feed, from) = (
            self.feed.take().expect("it has joined"),
            self.published_by(FEED),
        );
        let (published, error) = publish_until_the_end(&mut feed, from);
        self.feed = Some(feed);
        self.has_published(FEED, published);
        error
    }

    /// The producer waits to publish one more, on a thread of its own.
    pub(crate) fn feed_waits(&mut self) -> Waiting<(Feed, Result<Sequence, ClaimError>)> {
        self.feed_joins();
        let mut feed = self.feed.take().expect("it has joined");
        let number = self.published_by(FEED);
        Waiting::of(self.parks, move || {
            let event = Event { who: FEED, number };
            let deadline = Instant::now() + PATIENCE;
            let published = feed.producer().publish_value_deadline(deadline, event);
            (feed, published.map_err(|rejected| rejected.cause))
        })
    }

    /// Its wait is over.
    pub(crate) fn feed_returns(
        &mut self,
        waiting: Waiting<(Feed, Result<Sequence, ClaimError>)>,
    ) -> Result<Sequence, ClaimError> {
        let (feed, published) = waiting.end();
        self.feed = Some(feed);
        if published.is_ok() {
            self.has_published(FEED, 1);
        }
        published
    }

    /// This reader waits for its next batch, on a thread of its own.
    pub(crate) fn waits(&mut self, reader: usize) -> Waiting<(Reader, Result<(), NotReady>)> {
        let mut reader = self.readers.remove(reader);
        Waiting::of(self.parks, move || {
            let taken = reader.take();
            (reader, taken)
        })
    }

    /// Its wait is over.
    pub(crate) fn returns(
        &mut self,
        reader: usize,
        waiting: Waiting<(Reader, Result<(), NotReady>)>,
    ) -> Result<(), NotReady> {
        let (waited, taken) = waiting.end();
        self.readers.insert(reader, waited);
        taken
    }

    /// Brings the ring into a situation in which `at` have been published, if that is not full; `other` is a
    /// consumer that takes what there is, too.
    pub(crate) fn prepare(&mut self, at: u64, full: bool, mut other: Option<&mut Process>) {
        if full {
            for n in [3, 3, 2] {
                self.publish(n);
            }
            return;
        }
        while self.front() < at {
            self.publish((at - self.front()).min(3) as usize);
            self.everybody_reads(other.as_deref_mut());
        }
    }

    /// Everybody takes what is published; `other` after the first two.
    pub(crate) fn everybody_reads(&mut self, other: Option<&mut Process>) {
        let front = self.front();
        let two = self.readers.len().min(2);
        let (first, later) = self.readers.split_at_mut(two);
        first.iter_mut().for_each(|reader| reader.read_until(front));
        if let Some(other) = other {
            while other.position < front {
                other.ask("take");
            }
        }
        later.iter_mut().for_each(|reader| reader.read_until(front));
    }

    /// This reader takes what is published.
    pub(crate) fn reads(&mut self, reader: usize) {
        self.reads_to(reader, self.front());
    }

    /// As far as this.
    pub(crate) fn reads_to(&mut self, reader: usize, end: Sequence) {
        self.readers[reader].read_until(end);
    }

    /// The one that has joined last takes what is published.
    pub(crate) fn newest_reads(&mut self) {
        self.reads(self.readers.len() - 1);
    }

    /// How many events that it was given had been changed.
    pub(crate) fn changed_for(&self, reader: usize) -> u64 {
        self.readers[reader].changed
    }

    /// Everybody at once publishes and takes, for some laps.
    pub(crate) fn go_on(&mut self) {
        self.feed_joins();
        let first = self.published_by(FEED);
        let last = first + SOME_LAPS - 1;
        let feed = self.feed.as_mut().expect("it has joined").producer();
        thread::scope(|scope| {
            for reader in &mut self.readers {
                scope.spawn(move || reader.read_until_the_feeds(last));
            }
            let mut number = first;
            while number <= last {
                let n = (last + 1 - number).min(1 + number % 3);
                let deadline = Instant::now() + PATIENCE;
                let published = feed.publish_batch_deadline(n as usize, deadline, |slots| {
                    for (slot, number) in slots.zip(number..) {
                        *slot = Event { who: FEED, number };
                    }
                });
                published.unwrap_or_else(|error| panic!("the feed does not go on: {error}"));
                number += n;
            }
        });
        self.has_published(FEED, SOME_LAPS);
    }

    /// Everybody reads until there is nothing more, and is told so.
    pub(crate) fn read_until_the_end(&mut self) -> Vec<NotReady> {
        let ends = self.readers.iter_mut().map(|reader| {
            loop {
                if let Err(end) = reader.take() {
                    return end;
                }
            }
        });
        ends.collect()
    }

    /// The ring, for who closes or poisons it here.
    pub(crate) fn ring(&self) -> &Segment<Event> {
        &self.ring
    }

    /// Removes the name of the ring.
    pub(crate) fn remove(self) {
        let removed = Directory::at(&self.place.directory).unlink_unused(&self.place.name);
        removed.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Where the batch starts at which a process is to end.
pub(crate) fn start_of_batch(situation: Situation) -> u64 {
    match situation {
        Situation::First => 0,
        Situation::Wrap => 6,
        Situation::Full => 8,
        Situation::Empty => 4,
    }
}

/// How long that batch is: in one situation it lies across the end of the ring.
pub(crate) fn length_of_batch(situation: Situation) -> u64 {
    if situation == Situation::Wrap { 4 } else { 3 }
}

fn publish_until_the_end(feed: &mut Feed, from: u64) -> (u64, ClaimError) {
    let deadline = Instant::now() + PATIENCE;
    let mut published = 0;
    loop {
        let event = Event {
            who: FEED,
            number: from + published,
        };
        match feed.producer().publish_value_deadline(deadline, event) {
            Ok(_) => published += 1,
            Err(rejected) => return (published, rejected.cause),
        }
    }
}

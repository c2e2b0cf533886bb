//! Whether it adds up: what was published, given and skipped, who lives, and what is left behind.

use std::ops::Range;
use std::time::Instant;

use annulus_ring::{Member, NotReady, ProducerError, Sequence, Wait};

use crate::company::{A_WHILE, Company};
use crate::member::{Event, Feed, MEMBERS};
use crate::process::Process;
use crate::reader::{Delivered, PATIENCE};

impl Company {
    /// That this reader gets nothing for a while, and that nobody's claim is taken away.
    pub(crate) fn nothing_comes_for(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        let nothing = reader
            .consumer
            .next_batch_deadline(Instant::now() + A_WHILE);
        match nothing.map(|batch| batch.sequences()) {
            Err(NotReady::Idle | NotReady::Gated) => {}
            other => panic!("{other:?} comes past a claim"),
        }
        assert_eq!(reader.consumer.skipped(), 0, "a living claim was skipped");
    }

    /// That nobody takes this process for dead; if it has to, its member shows.
    pub(crate) fn knows_alive(&self, process: &Process, shows: bool) {
        let members = self.ring.snapshot().members;
        let its = |member: &&Member| member.process == Some(process.id());
        let its: Vec<_> = members.iter().filter(its).collect();
        assert!(
            its.iter().all(|member| !member.is_dead),
            "taken for dead: {its:?}"
        );
        assert!(!shows || !its.is_empty(), "it is not among {members:?}");
    }

    /// That the place of the only producer is taken.
    pub(crate) fn is_taken(&self) {
        let error = self
            .ring
            .producer()
            .map(drop)
            .expect_err("a living producer was succeeded");
        assert_eq!(error, ProducerError::Taken);
    }

    /// That what consumers have been given is what producers say: all of it, in order, each the same; and that what
    /// was given up is skipped, and counted.
    pub(crate) fn adds_up(&self) {
        let journal = &self.readers[0];
        for (who, published) in &self.published {
            let given = journal.seen.iter().filter(|it| it.event.who == *who);
            let given: Vec<u64> = given.map(|it| it.event.number).collect();
            let missed = if journal.start == 0 {
                0
            } else {
                published - given.len() as u64
            };
            let all: Vec<u64> = (missed..*published).collect();
            assert_eq!(given, all, "what {who} has published");
        }
        assert_eq!(journal.stepped_over, self.given_up, "what was given up");
        let mut all: Vec<Range<Sequence>> = journal.stepped_over.clone();
        all.extend(journal.seen.iter().map(|it| it.sequence..it.sequence + 1));
        all.sort_by_key(|range| range.start);
        let mut next = journal.start;
        for range in all {
            assert_eq!(range.start, next, "neither given nor skipped, or both");
            next = range.end;
        }
        assert_eq!(next, journal.consumer.position());
        for reader in &self.readers {
            reader.agrees_with(journal);
        }
    }

    /// That this process, a consumer, was given what the others were.
    pub(crate) fn agrees_with(&self, process: &Process) {
        let journal = &self.readers[0].seen;
        for given in &process.got {
            assert!(journal.contains(given), "{given:?} was not given to others");
        }
        let ascend = |pair: &[Delivered]| pair[0].sequence < pair[1].sequence;
        assert!(process.got.windows(2).all(ascend), "{:?}", process.got);
    }

    /// Everybody leaves, and there is nothing left but of a dead one in whose way nobody was.
    pub(crate) fn leave(&mut self) {
        self.feed = None;
        self.readers_leave();
        let members = self.ring.snapshot().members;
        assert!(
            members.iter().all(|member| member.is_dead),
            "left behind: {members:?}"
        );
    }

    /// The same where the ring is closed, so that nobody can take the place of the dead producer: it has none.
    pub(crate) fn leave_a_closed_ring(&mut self) {
        self.readers_leave();
        let members = self.ring.snapshot().members;
        assert!(members.is_empty(), "left behind: {members:?}");
    }

    /// For good, also those whose place would be held.
    fn readers_leave(&mut self) {
        for reader in self.readers.drain(..) {
            reader.consumer.leave();
        }
    }

    /// Everybody leaves; others come, and find the ring as good as new.
    pub(crate) fn make_room_for_others(mut self) {
        self.adds_up();
        self.leave();
        let snapshot = self.ring.snapshot();
        assert_eq!(snapshot.claimed, snapshot.published);
        // As many as there are rows: none is lost.
        let newcomers: Vec<_> = (1..MEMBERS)
            .map(|n| self.ring.consumer(&format!("newcomer-{n}")).join())
            .map(|joined| joined.unwrap_or_else(|error| panic!("{error}")))
            .collect();
        let mut feed = Feed::join(&self.ring, self.producers, Wait::default());
        let event = Event { who: 0, number: 0 };
        feed.producer()
            .publish_value(event)
            .unwrap_or_else(|error| panic!("{error}"));
        for mut newcomer in newcomers {
            let batch = newcomer.next_batch_deadline(Instant::now() + PATIENCE);
            assert_eq!(batch.unwrap_or_else(|error| panic!("{error}"))[0], event);
        }
        drop(feed);
        let members = self.ring.snapshot().members;
        assert!(members.is_empty(), "left behind: {members:?}");
        self.remove();
    }
}

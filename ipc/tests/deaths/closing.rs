//! Who closes or poisons the ring ends half way: everybody hears of it all the same, and nothing published is lost.

use annulus_ring::{ClaimError, Layout, NotReady, Producers, Step};

use crate::combination::{Combination, Fate, Point, Role, Situation};
use crate::company::{Company, start_of_batch};

const REASON: u32 = 7;

/// Also: a stopped one holds nobody up (D5).
pub(crate) fn d1_who_closes_or_poisons_ends_at_each_point(combination: &Combination) {
    let full = combination.is_full();
    let mut company = Company::of(combination);
    company.prepare(start_of_batch(combination.situation), full, None);
    company.feed_joins();
    let mut other = company.process();
    let feed = full.then(|| company.feed_waits());
    let journal = (!full).then(|| company.waits(0));
    if combination.is(&[Step::Wake]) {
        feed.iter().for_each(|feed| feed.until_it_parks());
        journal.iter().for_each(|journal| journal.until_it_parks());
    }
    let order = match combination.role {
        Role::Poisoner => format!("poison {REASON}"),
        _ => "close".to_owned(),
    };
    other.arm(combination);
    other.tell(&order);
    other.has_reached(combination);

    let end = match feed {
        Some(feed) => company.feed_returns(feed).expect_err("the ring is full"),
        None => company.publish_until_the_end(),
    };
    assert!(
        is_as_ordered(combination, &end),
        "producers hear of {end:?}"
    );
    if let Some(journal) = journal {
        // It may have been given something before it hears of the end.
        if let Err(end) = company.returns(0, journal) {
            assert!(is_end_as_ordered(combination, end), "{end:?}");
        }
    }
    if combination.role == Role::Closer {
        // Whoever was asked to close it, or finds that somebody has died over it, has done so.
        company.closes(combination);
    }
    for end in company.read_until_the_end() {
        assert!(
            is_end_as_ordered(combination, end),
            "consumers hear of {end:?}"
        );
    }
    if combination.fate == Fate::Stopped {
        other.go_on();
        other.has_done(&order);
    }
    if combination.role == Role::Closer {
        company.adds_up();
    }
    company.leave();
    assert!(company.ring().snapshot().members.is_empty());
    company.lets_nobody_in();
    company.remove();
}

/// Closing a ring takes nothing from who has died and is held: a successor reads the rest.
pub(crate) fn d2_a_place_is_held_past_the_close(number: u64) {
    for producers in [Producers::One, Producers::Many] {
        let closing = Combination {
            role: Role::Closer,
            point: Point::Ring(Step::Stop),
            time: 1,
            situation: Situation::First,
            producers,
            layout: Layout::Beside,
            fate: Fate::Killed,
            on_death: None,
            number,
        };
        let mut company = Company::of(&closing);
        company.publish(2);
        let mut other = company.process();
        other.ask("join other nobody Hold park");
        company.publish(3);
        other.kill();
        company.ring().close();
        assert_eq!(company.publish_until_the_end(), ClaimError::Closed);
        let ends = company.read_until_the_end();
        assert_eq!(ends, [NotReady::Closed, NotReady::Closed]);
        company.succeeds_within("other", 0..=2);
        let ends = company.read_until_the_end();
        assert_eq!(ends, [NotReady::Closed; 3]);
        company.adds_up();
        company.leave();
        assert!(company.ring().snapshot().members.is_empty());
        company.lets_nobody_in();
        company.remove();
    }
}

fn is_as_ordered(combination: &Combination, end: &ClaimError) -> bool {
    match combination.role {
        Role::Poisoner => {
            matches!(end, ClaimError::Poisoned(poisoned) if poisoned.reason == REASON)
        }
        _ => *end == ClaimError::Closed,
    }
}

fn is_end_as_ordered(combination: &Combination, end: NotReady) -> bool {
    match combination.role {
        Role::Poisoner => matches!(end, NotReady::Poisoned(poisoned) if poisoned.reason == REASON),
        _ => end == NotReady::Closed,
    }
}

impl Company {
    fn closes(&self, combination: &Combination) {
        if combination.producers == Producers::One {
            assert!(self.ring().is_closed(), "its producer has heard of it");
        }
    }

    /// That nobody joins a ring that has ended.
    pub(crate) fn lets_nobody_in(&self) {
        let ring = self.ring();
        assert!(ring.consumer("late").join().is_err());
        assert!(ring.producer().is_err());
        assert!(ring.shared_producer().is_err());
    }
}

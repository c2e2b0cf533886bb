//! Who finds others dead, and puts right what they held up, ends half way: the next one finishes it.

use annulus_ring::{Layout, NotReady, OnDeath, Producers, Step};

use crate::combination::{Combination, Fate, Point, Role, Situation};
use crate::company::{Company, OTHER, length_of_batch, start_of_batch};

/// Two recover at once, too: all who go on look for the dead at the same time.
pub(crate) fn d4_who_recovers_ends_at_each_point(combination: &Combination) {
    match (combination.role, combination.step()) {
        (Role::Successor, _) => succeeding(combination),
        (_, Step::Abandon) => abandoning(combination),
        (_, Step::TakeOver) => closing(combination),
        _ => evicting(combination),
    }
}

/// A dead consumer is let go of by a consumer that joins.
fn evicting(combination: &Combination) {
    let mut company = Company::of(combination);
    company.feed_joins();
    let mut ghost = company.process();
    ghost.ask("join ghost nobody Release park");
    let at = start_of_batch(combination.situation);
    company.prepare(at, combination.is_full(), Some(&mut ghost));
    ghost.kill();

    let mut other = company.process();
    other.arm(combination);
    let order = format!("join other nobody Release {}", company.wait().0);
    other.tell(&order);
    other.has_reached(combination);
    if combination.fate == Fate::Stopped {
        company.knows_alive(&other, false);
        company.everybody_reads(None);
        other.go_on();
        other.has_done(&order);
        other.ask("leave");
    }
    company.go_on();
    company.make_room_for_others();
}

/// A dead producer's claim is skipped by a consumer that waits behind it.
fn abandoning(combination: &Combination) {
    let full = combination.is_full();
    let mut company = Company::of(combination);
    let mut other = company.process();
    other.ask(&format!("join other nobody Release {}", company.wait().0));
    let n = length_of_batch(combination.situation);
    if full {
        // Up to the claim, which takes what is left.
        company.publish(3);
        company.publish(2);
        company.reads(0);
        other.ask("take");
    } else {
        company.prepare(
            start_of_batch(combination.situation),
            false,
            Some(&mut other),
        );
    }
    ends_producing(&mut company, combination, Step::Exchange, n);
    company.has_been_given_up(n);
    if !full {
        // Behind it one that died later, and has published; and another one that has not.
        ends_producing(&mut company, combination, Step::Stamp, 1);
        company.has_published(OTHER, 1);
        ends_producing(&mut company, combination, Step::Write, 1);
        company.has_been_given_up(1);
    }

    other.arm(combination);
    other.tell("take"); // Nobody else waits yet, and so nobody else looks.
    other.has_reached(combination);
    if combination.fate == Fate::Stopped {
        company.knows_alive(&other, true);
    }
    if full {
        let feed = company.feed_waits();
        company.reads_to(1, 5); // "risk", which makes room.
        company.feed_returns(feed).expect("producers go on");
    } else {
        company.publish(1);
    }
    company.everybody_reads(None);
    if combination.fate == Fate::Stopped {
        other.go_on();
        other.has_done("take");
        other.ask("leave");
    }
    company.go_on();
    company.agrees_with(&other);
    company.make_room_for_others();
}

/// A ring whose only producer has died is closed in its place by who wants it closed.
fn closing(combination: &Combination) {
    let mut company = Company::of(combination);
    dies_at_publication(&mut company, combination);

    let mut other = company.process();
    other.arm(combination);
    other.tell("close");
    other.has_reached(combination);
    assert!(!company.ring().is_closed());
    if combination.fate == Fate::Stopped {
        // It has the table, without which nobody else may take over.
        company.everybody_reads(None);
        company.nothing_comes_for(0);
        other.go_on();
        other.has_done("close");
    }
    for end in company.read_until_the_end() {
        assert_eq!(end, NotReady::Closed);
    }
    company.adds_up();
    company.leave_a_closed_ring();
    company.lets_nobody_in();
    company.remove();
}

/// A dead producer is succeeded by one that ends as well.
fn succeeding(combination: &Combination) {
    let mut company = Company::of(combination);
    dies_at_publication(&mut company, combination);
    let mut other = company.process();
    other.arm(combination);
    let order = format!("feed {:?} {}", combination.producers, company.wait().0);
    other.tell(&order);
    other.has_reached(combination);
    if combination.fate == Fate::Stopped {
        company.knows_alive(&other, false);
        company.everybody_reads(None);
        other.go_on();
        other.has_done(&order);
        crate::producing::publishes(&mut company, &mut other, 1);
        other.ask("leave");
    }
    company.go_on();
    company.make_room_for_others();
}

/// A producer dies that has published, and not said so by its cursor, if it has one besides stamps.
fn dies_at_publication(company: &mut Company, combination: &Combination) {
    // What it publishes is the rest of a full ring.
    let at = if combination.is_full() {
        5
    } else {
        start_of_batch(combination.situation)
    };
    if combination.is_full() {
        company.publish(at as usize);
    } else {
        company.prepare(at, false, None);
    }
    company.feed_makes_room();
    let n = length_of_batch(combination.situation);
    let by_cursor_alone =
        combination.producers == Producers::One && combination.layout == Layout::Apart;
    let step = if by_cursor_alone {
        Step::Publish
    } else {
        Step::Stamp
    };
    ends_producing(company, combination, step, n);
    company.has_published(OTHER, n);
}

/// A producer comes, and dies at this step of its only publication.
fn ends_producing(company: &mut Company, combination: &Combination, step: Step, n: u64) {
    let mut producer = company.process();
    producer.ask(&format!("feed {:?} yield", combination.producers));
    let dies = Combination {
        point: Point::Ring(step),
        time: 1,
        fate: Fate::Killed,
        situation: Situation::First,
        on_death: None::<OnDeath>,
        ..*combination
    };
    producer.arm(&dies);
    producer.tell(&format!(
        "publish {n} {OTHER} {}",
        company.published_by(OTHER)
    ));
    producer.has_reached(&dies);
}

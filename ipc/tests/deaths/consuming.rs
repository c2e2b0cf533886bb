//! A consumer that ends: its place is held for a successor, who misses nothing, or it is let go, and producers go on.

use annulus_ring::{OnDeath, Producers, Step};

use crate::combination::{Combination, Fate, Role, Situation};
use crate::company::{Company, length_of_batch, start_of_batch};
use crate::member::CAPACITY;
use crate::process::Process;

/// Also: a stopped one is not taken for dead (D5).
pub(crate) fn d2_a_consumer_ends_at_each_point(combination: &Combination) {
    match combination.step() {
        Step::Row | Step::Enter | Step::Count | Step::Join => joining(combination),
        Step::Floor | Step::Leave => leaving(combination),
        _ if combination.role == Role::Holder => releasing(combination),
        Step::End | Step::Release | Step::Wake if combination.situation == Situation::Empty => {
            stepping_over(combination);
        }
        _ => taking(combination),
    }
}

/// Whether its place is kept if it dies where it is a consumer: with nothing said it is, once others come after it.
fn is_held(combination: &Combination, others_after_it: bool) -> bool {
    match combination.on_death {
        Some(on_death) => on_death == OnDeath::Hold,
        None => others_after_it,
    }
}

fn order_to_join(company: &mut Company, combination: &Combination) -> String {
    let after = match combination.role {
        Role::Stage => "journal",
        _ => "nobody",
    };
    let on_death = match combination.on_death {
        Some(OnDeath::Hold) => "Hold",
        Some(OnDeath::Release) => "Release",
        None => "unsaid",
    };
    let wait = if combination.is(&[Step::Park]) {
        "park"
    } else {
        company.wait().0
    };
    format!("join other {after} {on_death} {wait}")
}

/// The process, and "audit", who comes after it.
fn joined(company: &mut Company, combination: &Combination) -> Process {
    let mut other = company.process();
    other.ask(&order_to_join(company, combination));
    company.joins("audit", "other");
    other
}

fn taking(combination: &Combination) {
    let full = combination.is_full();
    let nothing_to_take = combination.situation == Situation::Empty;
    let is_park = combination.is(&[Step::Park]);
    let mut company = Company::of(combination);
    company.feed_joins();
    let mut other = joined(&mut company, combination);
    let at = start_of_batch(combination.situation);
    company.prepare(at, full, Some(&mut other));
    if !full && !nothing_to_take {
        company.publish(length_of_batch(combination.situation) as usize);
    }
    let before = other.position;
    let after = company.front();
    // A stage that is to wait, for the journal.
    if !is_park {
        company.reads(0);
        company.reads(1);
    }

    // Somebody waits for what it releases.
    let feed = (full && !is_park).then(|| company.feed_waits());
    let audit = (!nothing_to_take && !is_park).then(|| company.waits(2));
    if combination.is(&[Step::Wake]) {
        feed.iter().for_each(|feed| feed.until_it_parks());
        audit.iter().for_each(|audit| audit.until_it_parks());
    }
    other.arm(combination);
    other.tell("take");
    other.has_reached(combination);
    let has_released = combination.is(&[Step::Release, Step::Wake]);

    match combination.fate {
        Fate::Killed => {
            if is_held(combination, true) {
                let position = if has_released { after } else { before };
                // While "audit" waits, it is not among the readers.
                company.succeeds("other", position);
                company.reads(0);
                company.reads(1);
                company.newest_reads(); // Before "audit", which comes after it.
            }
            if let Some(audit) = audit {
                company.returns(2, audit).expect("stages go on");
            }
            if let Some(feed) = feed {
                company.feed_returns(feed).expect("producers go on");
            }
        }
        Fate::Stopped => {
            company.knows_alive(&other, true);
            company.reads(0);
            company.reads(1);
            let (mut feed, mut audit) = (feed, audit);
            if has_released {
                if let Some(audit) = audit.take() {
                    company
                        .returns(2, audit)
                        .expect("what is released may be read");
                    company.reads_to(2, after);
                }
                if let Some(feed) = feed.take() {
                    company
                        .feed_returns(feed)
                        .expect("what is released may be written");
                }
                company.fill_up();
            } else if let Some(feed) = &feed {
                company.nothing_comes_for(0);
                assert!(!feed.is_over(), "a stopped consumer is overwritten");
            } else {
                company.fill_up();
            }
            let is_passed = audit.as_ref().is_some_and(|audit| audit.is_over());
            assert!(!is_passed, "a stopped consumer is passed");
            other.go_on();
            other.has_done("take");
            if let Some(audit) = audit {
                company.returns(2, audit).expect("it goes on behind it");
            }
            if let Some(feed) = feed {
                company.feed_returns(feed).expect("it goes on behind it");
            }
            other.ask("leave");
        }
    }
    company.go_on();
    company.agrees_with(&other);
    company.make_room_for_others();
}

/// Everything has been read, and what comes next carries no event.
fn stepping_over(combination: &Combination) {
    let mut company = Company::of(combination);
    let mut other = joined(&mut company, combination);
    company.feed_joins();
    company.prepare(
        start_of_batch(combination.situation),
        false,
        Some(&mut other),
    );
    let before = other.position;
    company.give_up(2);
    let after = company.front();
    company.steps_over(0);
    company.steps_over(1);
    let audit = company.waits(2);
    if combination.is(&[Step::Wake]) {
        audit.until_it_parks();
    }
    other.arm(combination);
    other.tell("take");
    other.has_reached(combination);
    match combination.fate {
        Fate::Killed => {
            if is_held(combination, true) {
                let position = if combination.is(&[Step::End]) {
                    before
                } else {
                    after
                };
                company.succeeds("other", position);
            }
            company.publish(1);
            company.reads(0);
            company.reads(1);
            company.newest_reads();
            company.returns(2, audit).expect("stages go on");
        }
        Fate::Stopped => {
            company.knows_alive(&other, true);
            company.publish(1);
            company.reads(0);
            company.reads(1);
            assert!(!audit.is_over(), "a stopped consumer is passed");
            other.go_on();
            other.has_done("take");
            company.returns(2, audit).expect("it goes on behind it");
            other.ask("leave");
        }
    }
    company.go_on();
    company.agrees_with(&other);
    company.make_room_for_others();
}

/// It holds some batches, and with many producers something skipped between them, and releases up to the middle of one.
fn releasing(combination: &Combination) {
    let mut company = Company::of(combination);
    let mut other = joined(&mut company, combination);
    company.feed_joins();
    let at = match combination.situation {
        Situation::Full => 0,
        situation => start_of_batch(situation),
    };
    company.prepare(at, false, Some(&mut other));
    company.publish(3);
    if combination.producers == Producers::Many {
        company.give_up(1);
    }
    company.publish(3);
    if combination.is_full() {
        company.publish((CAPACITY as u64 - company.front()) as usize);
    }
    company.reads(0);
    company.reads(1);
    while other.held < company.front() {
        other.ask("hold");
    }
    let audit = company.waits(2);
    if combination.is(&[Step::Wake]) {
        audit.until_it_parks();
    }

    other.arm(combination);
    let releases: &[u64] = match combination.time {
        1 => &[5],
        2 => &[2, 5],
        _ => &[2, 3, 5],
    };
    for release in &releases[..releases.len() - 1] {
        other.ask(&format!("release {}", at + release));
    }
    let (before, after) = (other.position.max(at), at + 5);
    let order = format!("release {after}");
    other.tell(&order);
    other.has_reached(combination);
    match combination.fate {
        Fate::Killed => {
            // Of several batches it releases the first before the rest.
            let first = if combination.is(&[Step::End]) {
                before
            } else {
                after
            };
            company.succeeds_within("other", first..=after);
            company.newest_reads();
            company.returns(2, audit).expect("stages go on");
        }
        Fate::Stopped => {
            company.knows_alive(&other, true);
            other.go_on();
            other.has_done(&order);
            company.returns(2, audit).expect("stages go on");
            other.ask("leave");
        }
    }
    company.go_on();
    company.make_room_for_others();
}

fn joining(combination: &Combination) {
    let mut company = Company::of(combination);
    company.feed_joins();
    company.prepare(
        start_of_batch(combination.situation),
        combination.is_full(),
        None,
    );
    let mut other = company.process();
    other.arm(combination);
    let order = order_to_join(&mut company, combination);
    other.tell(&order);
    other.has_reached(combination);
    match combination.fate {
        Fate::Killed => {
            if combination.is(&[Step::Join]) && is_held(combination, false) {
                let position = company.front(); // It was to be given what comes next.
                company.succeeds("other", position);
            }
        }
        Fate::Stopped => {
            company.knows_alive(&other, combination.is(&[Step::Join]));
            company.feed_tries();
            other.go_on();
            other.has_done(&order);
            other.ask("leave");
        }
    }
    company.go_on();
    company.make_room_for_others();
}

fn leaving(combination: &Combination) {
    let mut company = Company::of(combination);
    company.feed_joins();
    let mut other = joined(&mut company, combination);
    let at = start_of_batch(combination.situation);
    company.prepare(at, combination.is_full(), Some(&mut other));
    let position = other.position;
    other.arm(combination);
    other.tell("leave");
    other.has_reached(combination);
    match combination.fate {
        Fate::Killed => {
            // Who has let go of its place has none to be held.
            if combination.is(&[Step::Floor]) && is_held(combination, true) {
                company.succeeds("other", position);
            }
        }
        Fate::Stopped => {
            company.knows_alive(&other, true);
            company.feed_tries();
            other.go_on();
            other.has_done("leave");
        }
    }
    company.go_on();
    company.agrees_with(&other);
    company.make_room_for_others();
}

impl Company {
    /// While a consumer is stopped that joins or leaves: producers go on as far as it lets them, and so do those who
    /// do not come after it.
    fn feed_tries(&mut self) {
        self.reads(0);
        self.reads(1);
        if self.try_publish() {
            self.reads(0);
            self.reads(1);
        }
    }
}

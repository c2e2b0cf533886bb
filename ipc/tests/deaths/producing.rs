//! A producer that ends: what it had published is delivered, what it had claimed is skipped, the others go on.

use annulus_ring::{Producers, Step};

use crate::combination::{Combination, Fate};
use crate::company::{Company, OTHER, length_of_batch, start_of_batch};
use crate::process::Process;

/// Also: a stopped one is not taken for dead (D5).
pub(crate) fn d1_a_producer_ends_at_each_point(combination: &Combination) {
    match combination.step() {
        Step::Row | Step::TakeOver => joining(combination),
        Step::Leave => leaving(combination),
        _ => publishing(combination),
    }
}

fn publishing(combination: &Combination) {
    let full = combination.is_full();
    let at_the_gate = full && combination.is(&[Step::Claim, Step::Park]);
    let mut company = Company::of(combination);
    let at = start_of_batch(combination.situation);
    // The first that it publishes is confirmed, where there is room before.
    let first = u64::from(!full && at > 0);
    company.prepare(at - first, full, None);
    company.feed_makes_room();
    let mut other = joined(&mut company, combination);
    if first > 0 {
        publishes(&mut company, &mut other, first);
        company.everybody_reads(None);
    }
    if full {
        company.reads(0);
        if !at_the_gate {
            other.ask("note Park");
        }
    }
    let journal = company.waits(0);
    if combination.is(&[Step::Wake]) {
        journal.until_it_parks();
    }

    let n = length_of_batch(combination.situation);
    other.arm(combination);
    let order = format!("publish {n} {OTHER} {}", company.published_by(OTHER));
    other.tell(&order);
    if full && !at_the_gate {
        other.has_noted("Park");
        company.reads(0); // "risk", which alone gates.
    }
    other.has_reached(combination);
    if at_the_gate {
        company.reads(0);
    }

    let is_out = combination.is(&[Step::Stamp, Step::Publish, Step::Wake]);
    let is_claimed =
        combination.producers == Producers::Many && combination.is(&[Step::Exchange, Step::Write]);
    match combination.fate {
        Fate::Killed => {
            if is_out {
                company.has_published(OTHER, n);
            } else if is_claimed {
                company.has_been_given_up(n);
            }
            company.publish(1);
            company.returns(0, journal).expect("it is given what comes");
        }
        Fate::Stopped => {
            company.knows_alive(&other, true);
            if is_out {
                company.has_published(OTHER, n);
            }
            if combination.producers == Producers::Many {
                company.publish(1);
            }
            if is_out || (combination.producers == Producers::Many && !is_claimed) {
                company.returns(0, journal).expect("others go on");
                company.everybody_reads(None);
                company.other_goes_on(&mut other, &order, is_out, n);
            } else {
                company.nothing_comes_for(0);
                assert!(!journal.is_over(), "something comes past a claim");
                if combination.producers == Producers::One {
                    company.is_taken();
                }
                company.other_goes_on(&mut other, &order, is_out, n);
                company.returns(0, journal).expect("it is given what comes");
            }
            other.ask("leave");
        }
    }
    company.go_on();
    company.make_room_for_others();
}

fn joining(combination: &Combination) {
    let mut company = Company::of(combination);
    company.prepare(
        start_of_batch(combination.situation),
        combination.is_full(),
        None,
    );
    company.feed_makes_room();
    let mut other = company.process();
    other.arm(combination);
    let order = format!("feed {:?} {}", combination.producers, company.wait().0);
    other.tell(&order);
    other.has_reached(combination);
    if combination.fate == Fate::Stopped {
        company.knows_alive(&other, false);
        company.others_publish_and_read(combination);
        other.go_on();
        other.has_done(&order);
        company.everybody_reads(None);
        publishes(&mut company, &mut other, 1);
        other.ask("leave");
    }
    company.go_on();
    company.make_room_for_others();
}

fn leaving(combination: &Combination) {
    let mut company = Company::of(combination);
    company.prepare(
        start_of_batch(combination.situation),
        combination.is_full(),
        None,
    );
    company.feed_makes_room();
    let mut other = joined(&mut company, combination);
    if !combination.is_full() {
        publishes(&mut company, &mut other, 1);
    }
    other.arm(combination);
    other.tell("leave");
    other.has_reached(combination);
    if combination.fate == Fate::Stopped {
        company.knows_alive(&other, false);
        company.others_publish_and_read(combination);
        other.go_on();
        other.has_done("leave");
    }
    company.go_on();
    company.make_room_for_others();
}

/// A process that is a producer, and parks where it has to be found at the gate.
fn joined(company: &mut Company, combination: &Combination) -> Process {
    let mut other = company.process();
    let wait = if combination.is_full() {
        "park"
    } else {
        company.wait().0
    };
    other.ask(&format!("feed {:?} {wait}", combination.producers));
    other
}

/// It publishes, and is told so.
pub(crate) fn publishes(company: &mut Company, other: &mut Process, n: u64) {
    let first = company.published_by(OTHER);
    other.ask(&format!("publish {n} {OTHER} {first}"));
    company.has_published(OTHER, n);
}

impl Company {
    /// The stopped producer goes on with what it was at, and what it publishes counts, if it does not already.
    fn other_goes_on(&mut self, other: &mut Process, order: &str, is_out: bool, n: u64) {
        other.go_on();
        other.has_done(order);
        if !is_out {
            self.has_published(OTHER, n);
        }
    }

    /// While a process is stopped that joins or leaves: who is there already goes on, as far as it is let.
    pub(crate) fn others_publish_and_read(&mut self, combination: &Combination) {
        self.everybody_reads(None);
        if combination.producers == Producers::Many {
            self.publish(1);
            self.everybody_reads(None);
        }
    }
}

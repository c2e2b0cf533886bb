//! A stage that changes events ends: its place is always held, and nobody sees what it has not done with.

use annulus_ring::Step;

use crate::combination::{Combination, Fate};
use crate::company::{Company, length_of_batch, start_of_batch};
use crate::process::Process;

/// Also: a stopped one is not taken for dead (D5).
pub(crate) fn d2_a_stage_that_changes_events_ends_at_each_point(combination: &Combination) {
    let full = combination.is_full();
    let at = start_of_batch(combination.situation);
    let joins = combination.is(&[Step::Row, Step::Enter, Step::Count, Step::Join]);
    let takes = combination.is(&[Step::End, Step::Release]);
    let mut company = Company::of(combination);
    company.feed_joins();
    let mut other = company.process();
    let order_to_join = format!("change other risk {}", company.wait().0);
    if joins {
        company.prepare(at, full, None);
        company.reads(0);
        company.reads(1);
        ends(combination, &mut other, &order_to_join);
    } else {
        other.ask(&order_to_join);
        company.joins("audit", "other");
        company.prepare(at, full, Some(&mut other));
        if takes && !full {
            company.publish(length_of_batch(combination.situation) as usize);
        }
        company.reads(0);
        company.reads(1);
        ends(
            combination,
            &mut other,
            if takes { "take" } else { "leave" },
        );
    }

    let front = company.front();
    match combination.fate {
        Fate::Killed => {
            let position = match combination.step() {
                Step::Row | Step::Enter | Step::Count | Step::Leave => None,
                Step::Join | Step::Release => Some(front),
                _ => Some(other.position),
            };
            if let Some(position) = position {
                company.changes_on("other", position);
            }
            if !joins && position.is_some() {
                company.reads(2);
                assert_eq!(company.changed_for(2), front, "what it has changed");
            }
        }
        Fate::Stopped => {
            company.knows_alive(
                &other,
                !combination.is(&[Step::Row, Step::Enter, Step::Count]),
            );
            other.go_on();
            other.has_done(match (joins, takes) {
                (true, _) => &order_to_join,
                (_, true) => "take",
                _ => "leave",
            });
            other.ask("leave");
        }
    }
    company.go_on();
    assert_eq!(company.changed_for(0), 0, "the journal comes before it");
    company.make_room_for_others(); // In any order: nobody has to come after it any more.
}

fn ends(combination: &Combination, other: &mut Process, order: &str) {
    other.arm(combination);
    other.tell(order);
    other.has_reached(combination);
}

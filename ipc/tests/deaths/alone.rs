//! The only consumer ends: producers go on without any, and who joins later misses nothing from then on.

use annulus_ring::Step;

use crate::combination::{Combination, Fate};
use crate::company::{Company, length_of_batch, start_of_batch};
use crate::member::CAPACITY;
use crate::process::Process;

/// Also: a stopped one is not taken for dead (D5).
pub(crate) fn d2_the_only_consumer_ends_at_each_point(combination: &Combination) {
    let full = combination.is_full();
    let at = start_of_batch(combination.situation);
    let mut company = Company::without_consumers(combination);
    company.feed_joins();
    let mut other = company.process();
    let order = match combination.step() {
        Step::Row | Step::Enter | Step::Count | Step::Join => {
            company.prepare(at, full, None);
            order_to_join(&mut company, combination)
        }
        step => {
            other.ask(&order_to_join(&mut company, combination));
            company.prepare(at, full, Some(&mut other));
            if step == Step::Floor || step == Step::Leave {
                "leave".to_owned()
            } else {
                if step != Step::Park && !full {
                    company.publish(length_of_batch(combination.situation) as usize);
                }
                "take".to_owned()
            }
        }
    };
    // Who waits to be woken.
    let feed = combination.is(&[Step::Wake]).then(|| company.feed_waits());
    feed.iter().for_each(|feed| feed.until_it_parks());
    other.arm(combination);
    other.tell(&order);
    other.has_reached(combination);
    if let Some(feed) = feed {
        company.feed_returns(feed).expect("producers go on");
    }

    match combination.fate {
        Fate::Killed => some_laps(&mut company),
        Fate::Stopped => {
            company.knows_alive(
                &other,
                combination.is(&[Step::Join, Step::Park, Step::Floor]),
            );
            match combination.step() {
                Step::Row | Step::Leave => some_laps(&mut company),
                // Its join is not counted: who has looked who gates goes on, who has not finds that it does.
                Step::Enter => company.publish_what_fits(),
                _ => company.fill_up(),
            }
            other.go_on();
            other.has_done(&order);
            if order.starts_with("join") {
                gets_what_comes(&mut company, &mut other);
            }
            other.ask("leave");
        }
    }
    some_laps(&mut company);
    company.joins("journal", "");
    company.joins("risk", "journal");
    company.go_on();
    company.make_room_for_others();
}

fn order_to_join(company: &mut Company, combination: &Combination) -> String {
    let wait = if combination.is(&[Step::Park]) {
        "park"
    } else {
        company.wait().0
    };
    format!("join other nobody Release {wait}")
}

/// With nobody to wait for.
fn some_laps(company: &mut Company) {
    for n in 0..CAPACITY {
        company.publish(1 + n % 3);
    }
}

/// What is published next is for the one that has just joined.
fn gets_what_comes(company: &mut Company, other: &mut Process) {
    other.tell("take"); // Now it goes on from where it has entered, and makes room.
    company.publish(1);
    other.has_done("take");
    while other.position < company.front() {
        other.ask("take");
    }
    let last = other.got.last().map(|it| it.sequence);
    assert_eq!(last, Some(company.front() - 1));
}

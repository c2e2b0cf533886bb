//! Processes that are stopped for seconds: whom they hold up, and that nobody takes them for dead.

use std::env;
use std::time::Duration;

use annulus_ring::{JoinError, Layout, Producers, Step, Unusable};

use crate::combination::{Combination, Fate, Point, Role, Situation};
use crate::company::{Company, OTHER};

fn stops(role: Role, step: Step, number: u64) -> Combination {
    Combination {
        role,
        point: Point::Ring(step),
        time: 1,
        situation: Situation::First,
        producers: Producers::Many,
        layout: Layout::Beside,
        fate: Fate::Stopped,
        on_death: None,
        number,
    }
}

/// A producer in the middle of a claim and a consumer in the middle of a release; no clock says that they are dead.
pub(crate) fn d5_a_process_stopped_for_seconds_is_not_dead(number: u64) {
    let consuming = stops(Role::Consumer, Step::End, number);
    let producing = stops(Role::Producer, Step::Write, number);
    let mut company = Company::of(&consuming);
    company.publish(2);
    let mut consumer = company.process();
    consumer.ask("join other nobody Release park");
    company.everybody_reads(None);
    company.publish(1);
    consumer.arm(&consuming);
    consumer.tell("take");
    consumer.has_reached(&consuming);
    company.everybody_reads(None);
    let mut producer = company.process();
    producer.ask("feed Many spin");
    producer.arm(&producing);
    producer.tell(&format!("publish 3 {OTHER} 0"));
    producer.has_reached(&producing);

    company.nobody_goes_on_for(Duration::from_secs(seconds()), 0);
    company.knows_alive(&consumer, true);
    company.knows_alive(&producer, true);

    producer.go_on();
    producer.has_done("publish");
    company.has_published(OTHER, 3);
    consumer.go_on();
    consumer.has_done("take");
    company.everybody_reads(Some(&mut consumer));
    consumer.ask("leave");
    producer.ask("leave");
    company.go_on();
    company.agrees_with(&consumer);
    company.make_room_for_others();
}

/// Who is there goes on; who wants to join is told, after some seconds.
pub(crate) fn d5_who_is_stopped_while_it_joins_holds_up_joiners_alone(number: u64) {
    let joining = stops(Role::Consumer, Step::Enter, number);
    let mut company = Company::of(&joining);
    company.feed_joins();
    let mut joiner = company.process();
    joiner.arm(&joining);
    joiner.tell("join other nobody Release yield");
    joiner.has_reached(&joining);
    company.publish(1);
    company.everybody_reads(None);
    let late = company.ring().consumer("late").join();
    let busy = JoinError::Unusable {
        name: "late".to_owned(),
        cause: Unusable::Busy {
            process: Some(joiner.id()),
        },
    };
    assert_eq!(late.map(drop), Err(busy));
    company.publish(1);
    company.everybody_reads(None);
    joiner.go_on();
    joiner.has_done("join");
    joiner.ask("leave");
    company.joins("late", "");
    company.go_on();
    company.make_room_for_others();
}

fn seconds() -> u64 {
    let chosen = env::var("ANNULUS_STOP_SECONDS").ok();
    chosen.map_or(5, |text| {
        text.parse()
            .expect("ANNULUS_STOP_SECONDS is a number of seconds")
    })
}

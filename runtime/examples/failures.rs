//! What a stage does when its handler fails, and what the report says then.
//!
//! The same five orders go to a risk check that fails at the third, once for each policy. Errors and panics are
//! treated alike. Whatever happens, each order is handled, failed or left.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::ring::Ring;
use annulus::{OnFailure, Overflow, Pipeline, Report, Stage, Stopped, Verdict};

type Order = u64;

fn main() -> Result<(), Box<dyn Error>> {
    for line in run()? {
        println!("{line}");
    }
    Ok(())
}

pub(crate) fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let pause = Duration::from_millis(1);
    Ok(vec![
        // The default: nothing is handled any more, and stop returns an error.
        life("stop", refusing().on_failure(OnFailure::STOP))?,
        // The order is given up, and told to who wants to know.
        life("skip", refusing().on_failure(OnFailure::SKIP))?,
        // The stage leaves; the pipeline goes on without it.
        life("detach", refusing().on_failure(OnFailure::DETACH))?,
        // For what may pass: again from the order that failed, or from the first of its batch.
        life(
            "retry",
            tiring().on_failure(OnFailure::STOP.after_retries(3, pause)),
        )?,
        life(
            "rewind",
            tiring().on_failure(OnFailure::STOP.after_rewinds(3, pause)),
        )?,
        // It did not help: then as without.
        life(
            "retry, skip",
            refusing().on_failure(OnFailure::SKIP.after_retries(3, pause)),
        )?,
        // Anything else, by a closure.
        life(
            "by closure",
            refusing().on_failure_by(|failure| match failure.sequence {
                Some(_) => Verdict::Skip,
                None => Verdict::Stop,
            }),
        )?,
    ])
}

/// Refuses the third order, by an error.
fn refusing() -> Stage<Order> {
    Stage::each("risk", |order: &Order, _| match order {
        3 => Err("limit reached"),
        _ => Ok(()),
    })
}

/// Fails at the third order twice, as if something that it needs were not there.
fn tiring() -> Stage<Order> {
    let mut tries = 0;
    Stage::each("risk", move |order: &Order, _| {
        tries += u32::from(*order == 3);
        match tries {
            1 | 2 if *order == 3 => Err("no connection"),
            _ => Ok(()),
        }
    })
}

fn life(policy: &str, risk: Stage<Order>) -> Result<String, Box<dyn Error>> {
    let given_up = Arc::new(Mutex::new(Vec::new()));
    let letters = given_up.clone();
    let risk = risk.dead_letters(move |letter| letters.lock().unwrap().push(*letter.event));

    let ring = Ring::builder(64).build(Order::default)?;
    let running = Pipeline::on(&ring).stage(risk).start()?;
    let mut feed = running.feed(Overflow::Wait)?;
    feed.publish_batch(5, |slots| {
        slots.zip(1..).for_each(|(slot, order)| *slot = order)
    })?;
    drop(feed);

    let (report, end): (Report, String) = match running.stop(Duration::from_secs(5)) {
        Ok(report) => (report, "ok".to_owned()),
        Err(stopped) => {
            let end = stopped.to_string();
            let Stopped { report, .. } = stopped;
            (*report, end)
        }
    };
    let risk = &report.stages[0];
    Ok(format!(
        "{policy}: handled {}, failed {}, left {}, restarts {}, given up {:?}: {end}",
        risk.handled,
        risk.failed,
        risk.left,
        risk.metrics.restarts,
        given_up.lock().unwrap(),
    ))
}

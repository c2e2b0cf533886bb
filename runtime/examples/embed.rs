//! The smallest useful program: one stage, one feed.
//!
//! The stage runs on a thread of its own. When the feed is dropped, everything published is handled, and the report
//! says so.

use std::error::Error;
use std::time::Duration;

use annulus::ring::Ring;
use annulus::{Overflow, Pipeline, Report, Stage};

#[derive(Default)]
struct Tick {
    price: u64,
    shares: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let report = run()?;
    println!("{} ticks handled", report.stages[0].handled);
    Ok(())
}

pub(crate) fn run() -> Result<Report, Box<dyn Error>> {
    let ring = Ring::builder(1024).build(Tick::default)?;
    let book = Stage::each("book", |tick: &Tick, at| {
        println!("{}: {} at {}", at.sequence, tick.shares, tick.price);
    });
    let running = Pipeline::on(&ring).stage(book).start()?;

    let mut feed = running.feed(Overflow::Wait)?;
    for (price, shares) in [(5_853_300, 18), (5_853_400, 100), (5_853_200, 7)] {
        feed.publish(|tick| *tick = Tick { price, shares })?;
    }
    drop(feed);
    Ok(running.stop(Duration::from_secs(5))?)
}

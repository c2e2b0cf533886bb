//! A stage after another process's: sees a quote only when `quotes_reader` is done with it.
//!
//! ```text
//! cargo run --release -p annulus-ipc --example risk_gate              after "reader"
//! ```
//!
//! Because something comes after it, "reader" is held if it dies: the gate waits until it has been started again, and
//! no quote gets by.

mod quote;

use std::error::Error;

use annulus_ipc::Segment;
use annulus_ring::{Ended, OnDeath};
use quote::{Quote, RING};

/// Quotes of so many shares are too large.
const LIMIT: u32 = 990;

fn main() -> Result<(), Box<dyn Error>> {
    let ring = Segment::<Quote>::open(RING)?;
    let risk = ring.consumer("risk").after(["reader"]);
    // If it dies nobody waits for it: the feed goes on without a gate.
    let mut risk = risk.on_death(OnDeath::Release).join()?;
    println!("risk starts at {}", risk.start());
    let mut large = 0_u64;
    loop {
        match risk.next_batch() {
            Ok(batch) => large += batch.iter().filter(|quote| quote.size >= LIMIT).count() as u64,
            Err(Ended::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("risk has found {large} quotes of {LIMIT} shares or more");
    Ok(())
}

//! Publishes quotes to whoever reads them, in other processes.
//!
//! ```text
//! cargo run --release -p annulus-ipc --example quotes_feed            a million quotes, and closes the ring
//! cargo run --release -p annulus-ipc --example quotes_feed 5000       so many
//! ```
//!
//! Kill it, and start it again: it goes on behind what it had published, and its readers with it. It starts once
//! somebody reads; the ring is made by whoever comes first.

mod quote;

use std::env;
use std::error::Error;

use annulus_ipc::{Directory, Segment};
use annulus_ring::Ring;
use quote::{Quote, RING};

fn main() -> Result<(), Box<dyn Error>> {
    let quotes = match env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 1_000_000,
    };
    let ring = Segment::<Quote>::open_or_create(RING, Ring::builder(1 << 12).require_consumers(1))?;
    let mut feed = ring.producer()?;
    let next = ring.snapshot().published;
    println!("publishing from {next} on; waiting for a reader");
    for number in next..quotes {
        feed.publish(|quote| {
            *quote = Quote {
                instrument: number % 8,
                price: 5_853_300 + (number % 100) as i64,
                size: (number % 1_000) as u32,
                flags: 0,
            };
        })?;
    }
    ring.close();
    drop(feed); // agrees
    Directory::default().unlink(RING)?; // Those who have it open read it to its end.
    println!("published up to {quotes}, and closed");
    Ok(())
}

//! Publishes quotes to readers in other processes: some thousands a second.
//!
//! ```text
//! cargo run --release -p annulus-ipc --example quotes_feed            until it is killed
//! cargo run --release -p annulus-ipc --example quotes_feed 5000       up to so many in all, and closes the ring
//! cargo run --release -- stat quotes --watch                          what comes of it
//! ```
//!
//! Kill it, and start it again: it goes on behind what it had published, and its readers with it. It starts once
//! somebody reads; the ring is made by the process that comes first. Once it has been given a number, and the ring is closed, its
//! readers end.

mod quote;

use std::env;
use std::error::Error;
use std::thread;
use std::time::Duration;

use annulus_ipc::{Directory, Segment};
use annulus_ring::Ring;
use quote::{Quote, RING};

/// After so many quotes it rests for a millisecond: slow enough to be watched, and killed.
const AT_ONCE: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let quotes = match env::args().nth(1) {
        Some(number) => number.parse()?,
        None => u64::MAX,
    };
    let ring = Segment::<Quote>::open_or_create(RING, Ring::builder(1 << 12).require_consumers(1))?;
    let mut feed = ring.producer()?;
    let next = ring.snapshot().published;
    println!("publishing from {next} on; waiting for a reader");
    for number in next..quotes {
        if number % AT_ONCE == 0 {
            thread::sleep(Duration::from_millis(1));
        }
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

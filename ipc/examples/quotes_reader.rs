//! Reads the quotes of `quotes_feed`, all of them, in place.
//!
//! ```text
//! cargo run --release -p annulus-ipc --example quotes_reader          as "reader"
//! cargo run --release -p annulus-ipc --example quotes_reader second   as another one
//! ```
//!
//! Killed and started again, one that others come after goes on where it was; another starts at the next quote.

mod quote;

use std::env;
use std::error::Error;

use annulus_ipc::Segment;
use annulus_ring::{Ended, Ring};
use quote::{Quote, RING};

fn main() -> Result<(), Box<dyn Error>> {
    let name = env::args().nth(1).unwrap_or_else(|| "reader".to_owned());
    let ring = Segment::<Quote>::open_or_create(RING, Ring::builder(1 << 12).require_consumers(1))?;
    let mut reader = ring.consumer(&name).join()?;
    println!("{name} reads from {} on", reader.position());
    let (mut quotes, mut shares) = (0_u64, 0_u64);
    loop {
        match reader.next_batch() {
            Ok(batch) => {
                quotes += batch.len() as u64;
                shares += batch.iter().map(|quote| u64::from(quote.size)).sum::<u64>();
            }
            Err(Ended::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!(
        "{name} has read {quotes} quotes of {shares} shares, {} without a quote",
        reader.skipped()
    );
    Ok(())
}

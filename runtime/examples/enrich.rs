//! Stages that change events: later stages find them as they were left.
//!
//! A quote comes in with a price in its own currency. One stage looks up the rate, the next converts, and two that
//! only read use the result. A stage that changes events comes before or after every other, never beside one; that
//! is checked before anything runs.

use std::collections::HashMap;
use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use annulus::ring::Ring;
use annulus::{At, HandlerError, HandlerMut, OnFailure, Overflow, Pipeline, Stage};

#[derive(Default)]
struct Quote {
    currency: &'static str,
    cents: u64,
    /// How many thousandths of a dollar one unit is worth; set by `rates`.
    rate: u64,
    /// The price in cents of a dollar; set by `convert`.
    dollar_cents: u64,
}

struct Rates(HashMap<&'static str, u64>);

impl HandlerMut<Quote> for Rates {
    fn on_event(&mut self, quote: &mut Quote, _: At) -> Result<(), HandlerError> {
        // Slots are used again: a quote without a rate has that of an older one, unless it is reset.
        quote.rate = 0;
        let rate = self.0.get(quote.currency);
        quote.rate = *rate.ok_or_else(|| format!("no rate for {}", quote.currency))?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (forgotten, best) = run()?;
    println!("without its .after: {forgotten}");
    println!("best bids, in cents of a dollar: {best:?}");
    Ok(())
}

pub(crate) fn run() -> Result<(String, Vec<u64>), Box<dyn Error>> {
    let ring = Ring::builder(64).build(Quote::default)?;
    let rates = || {
        Stage::new_mut(
            "rates",
            Rates(HashMap::from([("USD", 1_000), ("EUR", 1_080)])),
        )
    };
    let convert = || {
        Stage::each_mut("convert", |quote: &mut Quote, _| {
            quote.dollar_cents = quote.cents * quote.rate / 1_000;
        })
    };

    let forgotten = Pipeline::on(&ring).stage(rates()).stage(convert()).start();
    let forgotten = forgotten.err().ok_or("it is to be refused")?;

    let (tell, best) = mpsc::channel();
    let mut highest = 0;
    let running = Pipeline::on(&ring)
        .stage(rates().on_failure(OnFailure::SKIP)) // The quote goes on with the rate 0.
        .stage(convert().after(["rates"]))
        .stage(Stage::each("journal", |_: &Quote, _| ()).after(["convert"]))
        .stage(
            Stage::each("best", move |quote: &Quote, _| {
                if quote.dollar_cents > highest {
                    highest = quote.dollar_cents;
                    tell.send(highest)?;
                }
                Ok::<_, mpsc::SendError<_>>(())
            })
            .after(["convert"]),
        )
        .start()?;

    let mut feed = running.feed(Overflow::Wait)?;
    for (currency, cents) in [
        ("USD", 10_000),
        ("EUR", 9_500),
        ("XXX", 99_999),
        ("USD", 10_250),
        ("EUR", 9_700),
    ] {
        feed.publish(|quote| (quote.currency, quote.cents) = (currency, cents))?;
    }
    drop(feed);
    running.stop(Duration::from_secs(5))?;
    Ok((forgotten.to_string(), best.try_iter().collect()))
}

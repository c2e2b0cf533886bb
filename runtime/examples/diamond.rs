//! Journal and book side by side, then risk.
//!
//! Each order goes to the journal and to the book at the same time, and to risk when both are done with it. What one
//! stage finds out for a later one it leaves in the event: an atomic, as others read the event at the same time.

use std::error::Error;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use annulus::ring::Ring;
use annulus::{Overflow, Pipeline, Stage};

#[derive(Default)]
struct Order {
    shares: i64,
    /// What the position is after this order, once the book has seen it.
    position: AtomicI64,
}

const LIMIT: i64 = 100;

/// An order, and the position that it led to.
type Breach = (u64, i64);

fn main() -> Result<(), Box<dyn Error>> {
    let (graph, breaches) = run()?;
    println!("{graph}");
    for (order, position) in breaches {
        println!("order {order} took the position to {position}");
    }
    Ok(())
}

pub(crate) fn run() -> Result<(String, Vec<Breach>), Box<dyn Error>> {
    let (tell, breaches) = mpsc::channel();
    let (mut lines, mut position) = (Vec::new(), 0);

    let journal = Stage::each("journal", move |order: &Order, at| {
        lines.push(format!("{} {}", at.sequence, order.shares));
        if at.is_last() {
            lines.clear(); // The batch is complete: the moment to write it.
        }
    });
    let book = Stage::each("book", move |order: &Order, _| {
        position += order.shares;
        order.position.store(position, Relaxed); // The ring orders it before what risk reads.
    });
    let risk = Stage::each("risk", move |order: &Order, at| {
        let position = order.position.load(Relaxed);
        if position.abs() > LIMIT {
            tell.send((at.sequence, position))?;
        }
        Ok::<_, mpsc::SendError<_>>(())
    });

    let ring = Ring::builder(64).build(Order::default)?;
    let pipeline = Pipeline::on(&ring)
        .stage(journal)
        .stage(book)
        .stage(risk.after(["journal", "book"]));
    let graph = pipeline.to_mermaid();
    let running = pipeline.start()?;

    let mut feed = running.feed(Overflow::Wait)?;
    for shares in [60, 30, 20, -200, 90, 50] {
        feed.publish(|order| order.shares = shares)?;
    }
    drop(feed);
    running.stop(Duration::from_secs(5))?;
    Ok((graph, breaches.try_iter().collect()))
}

//! Nobody is answered before the order is on disk.
//!
//! The journal hands each batch to a thread that writes it, and goes on to the next without releasing it. What is
//! written it releases, with the next batch or while it is idle; only then the stage after it sees the orders, and
//! replies. The order of an answer and its journal is thereby a matter of the graph, not of care.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, process};

use annulus::ring::Ring;
use annulus::{At, Events, Handler, HandlerError, Idle, Overflow, Pipeline, Stage};

type Order = u64;

struct Journal {
    /// Lines to write, and the sequence behind the last of them.
    to_write: Option<Sender<(Vec<u8>, u64)>>,
    /// Every order below this sequence is on disk.
    written: Arc<AtomicU64>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Journal {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let written = Arc::new(AtomicU64::new(0));
        let (to_write, batches) = mpsc::channel();
        let so_far = written.clone();
        let writer = thread::spawn(move || write_all(file, batches, &so_far));
        Ok(Self {
            to_write: Some(to_write),
            written,
            writer: Some(writer),
        })
    }

    /// Fails if the writer has: what is held would never be written.
    fn check_writer(&mut self) -> Result<(), HandlerError> {
        if self.writer.as_ref().is_some_and(JoinHandle::is_finished) {
            return self.on_stop();
        }
        Ok(())
    }
}

fn write_all(
    mut file: File,
    batches: Receiver<(Vec<u8>, u64)>,
    so_far: &AtomicU64,
) -> io::Result<()> {
    for (lines, end) in batches {
        file.write_all(&lines)?;
        file.sync_data()?;
        so_far.store(end, Ordering::Release);
    }
    Ok(())
}

impl Handler<Order> for Journal {
    fn on_batch(&mut self, orders: &mut Events<'_, Order>) -> Result<(), HandlerError> {
        let end = orders.sequences().end;
        let mut lines = Vec::new();
        while let Some((order, at)) = orders.next() {
            writeln!(lines, "{} {order}", at.sequence)?;
        }
        orders.hold();
        orders.release_held(self.written.load(Ordering::Acquire));
        let to_write = self.to_write.as_ref().ok_or("the writer has ended")?;
        Ok(to_write.send((lines, end))?)
    }

    fn on_event(&mut self, _: &Order, _: At) -> Result<(), HandlerError> {
        unreachable!("it takes whole batches")
    }

    /// Called every now and then, and in the end until nothing is held.
    fn on_idle(&mut self, idle: &mut Idle<'_, Order>) -> Result<(), HandlerError> {
        idle.release_held(self.written.load(Ordering::Acquire));
        self.check_writer()
    }

    fn on_stop(&mut self) -> Result<(), HandlerError> {
        drop(self.to_write.take());
        let ended = self.writer.take().map(JoinHandle::join);
        Ok(ended
            .unwrap_or(Ok(Ok(())))
            .map_err(|_| "the writer panicked")??)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let replies = run()?;
    println!("{replies} orders answered, each after it was on disk");
    Ok(())
}

pub(crate) fn run() -> Result<u64, Box<dyn Error>> {
    let path: PathBuf = env::temp_dir().join(format!("annulus-journal-{}", process::id()));
    let journal = Stage::new("journal", Journal::create(&path)?);
    let journal_file = path.clone();
    let reply = Stage::each("reply", move |order: &Order, at| {
        // To show that it is so; a real one trusts the graph.
        let journal = fs::read_to_string(&journal_file)?;
        let line = format!("{} {order}", at.sequence);
        match journal.lines().nth(at.sequence as usize) {
            Some(written) if written == line => Ok::<_, HandlerError>(()),
            other => Err(format!("{line:?} is to be on disk, and there is {other:?}").into()),
        }
    });

    let ring = Ring::builder(64).build(Order::default)?;
    let running = Pipeline::on(&ring)
        .stage(journal.idle_every(Duration::from_micros(100)))
        .stage(reply.after(["journal"]))
        .start()?;
    let mut feed = running.feed(Overflow::Wait)?;
    for order in 0..500 {
        feed.publish(|slot| *slot = order)?;
    }
    drop(feed);
    let report = running.stop(Duration::from_secs(60));
    fs::remove_file(&path)?;
    Ok(report?.stages[1].handled)
}

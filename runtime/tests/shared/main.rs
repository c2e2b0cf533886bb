//! The runtime over rings that processes share: what a pipeline in one process does to the others, and what it finds
//! there when it is started again. The ids in the names of tests are those of `BEHAVIOURS.md`.

#![cfg(target_os = "linux")]

mod holding;
mod leaving;
mod player;
mod succeeding;

use std::time::{Duration, Instant};

use annulus::ring::{Consumer, Producer, Ring};

/// Nothing takes so long, on a machine that is busy with other things; what does has failed.
const LONG: Duration = Duration::from_secs(60);

fn publish(feed: &mut Producer<u64>, events: std::ops::Range<u64>) {
    for event in events {
        let deadline = Instant::now() + LONG;
        let published = feed.publish_deadline(deadline, |slot| *slot = event);
        published.expect("there is room in time");
    }
}

/// Reads all that is there, or comes soon, up to this event.
fn read(reader: &mut Consumer<u64>, to: u64) -> Vec<u64> {
    let mut read = Vec::new();
    while read.last() != Some(&to) {
        let batch = reader.next_batch_deadline(Instant::now() + LONG);
        read.extend(batch.expect("more events").iter());
    }
    read
}

/// Of the members of these names, whether each holds its place for a successor; nothing of those that have gone.
fn held<T>(ring: &Ring<T>, names: &[&str]) -> Vec<(String, bool)> {
    let members = ring.snapshot().members.into_iter();
    let members = members.filter(|member| names.contains(&member.name.as_str()));
    members
        .map(|member| (member.name, member.is_held))
        .collect()
}

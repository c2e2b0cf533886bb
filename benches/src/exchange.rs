//! What two processes do with what connects them: the same for every transport.
//!
//! The measuring process sends, with its clock running; the other answers each message, or collects and
//! says what that comes to. Every byte of a message is written and read, on both sides.

use std::time::{Duration, Instant};

use crate::flow::{Tally, publish, sum_of};
use crate::ipc::Receiver;
use crate::link::{Event, Plan, Sender};
use crate::round_trip::Answers;
use crate::scenario::{Effort, RoundTrips, Sample};

/// After this the other side is done.
const END: u64 = u64::MAX;

/// Tells the other side that it is over.
pub(crate) fn end(sender: &mut impl Sender) {
    sender.send(END);
}

/// Sends messages one at a time, the next when the last has been answered.
///
/// # Panics
/// If an answer is not what was asked.
pub(crate) fn ask<const N: usize>(
    sender: &mut impl Sender,
    receiver: &mut impl Receiver<N>,
    round_trips: RoundTrips,
) -> Sample {
    let mut answers = Answers::new(round_trips);
    let mut is_over = false;
    sender.send(0);
    while !is_over {
        receiver.receive(|message| {
            let number = message.number();
            if !answers.take(number) {
                sender.send(number.wrapping_add(1));
            } else if answers.go_on() {
                sender.send(answers.due);
            } else {
                is_over = true;
            }
        });
    }
    answers.sample()
}

/// The other side of [`ask`]: sends what it has read.
pub(crate) fn answer<const N: usize>(sender: &mut impl Sender, receiver: &mut impl Receiver<N>) {
    let mut is_over = false;
    while !is_over {
        receiver.receive(|message| match message.number() {
            END => is_over = true,
            number => sender.send(number),
        });
    }
}

/// Sends messages as fast as the other side takes them.
///
/// # Panics
/// If a message is lost, changed, read twice or out of order.
pub(crate) fn stream<const N: usize>(
    sender: &mut impl Sender,
    receiver: &mut impl Receiver<N>,
    plan: &Plan,
    batch: u64,
    effort: Effort,
) -> Sample {
    if let Effort::Enough { .. } = effort {
        // Afterwards, all of the memory in between has been touched by both.
        run(sender, receiver, batch, plan.capacity as u64);
    }
    effort.throughput(|events| run(sender, receiver, batch, events))
}

/// From the first message until the other side has said what all of them come to.
fn run<const N: usize>(
    sender: &mut impl Sender,
    receiver: &mut impl Receiver<N>,
    batch: u64,
    events: u64,
) -> Duration {
    sender.send(events);
    let ready = next(receiver);
    assert_eq!(ready, events, "the other side collects something else");
    let expected = Tally {
        count: events,
        sum: sum_of(events),
        out_of_order: 0,
    };
    let started = Instant::now();
    publish(sender, 0..events, batch);
    let collected = next(receiver);
    let taken = started.elapsed();
    assert_eq!(
        collected,
        verdict(&expected),
        "messages lost, changed or out of order"
    );
    taken
}

/// The other side of [`stream`]: reads, and says what it comes to.
pub(crate) fn collect<const N: usize>(sender: &mut impl Sender, receiver: &mut impl Receiver<N>) {
    loop {
        let events = next(receiver);
        if events == END {
            return;
        }
        sender.send(events);
        let mut tally = Tally::default();
        while tally.count < events {
            receiver.receive(|message| tally.add(message.number()));
        }
        sender.send(verdict(&tally));
    }
}

/// A tally as one number.
fn verdict(tally: &Tally) -> u64 {
    let Tally {
        count,
        sum,
        out_of_order,
    } = *tally;
    if out_of_order == 0 {
        sum ^ count.rotate_left(32)
    } else {
        END
    }
}

/// A message that comes alone.
fn next<const N: usize>(receiver: &mut impl Receiver<N>) -> u64 {
    let mut number = None;
    receiver.receive(|message| {
        let before = number.replace(message.number());
        assert_eq!(before, None, "messages that nobody asked for");
    });
    number.expect("who receives gets one at least")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::cores::Cores;
    use crate::link::Words;
    use crate::scenario::SCENARIOS;

    /// Sends by a channel, and changes the message of one number into another.
    struct Faulty {
        channel: mpsc::SyncSender<Words<2>>,
        wrong: u64,
        instead: u64,
    }

    impl Sender for Faulty {
        fn send(&mut self, number: u64) {
            let number = if number == self.wrong {
                self.instead
            } else {
                number
            };
            self.channel.send(Words::numbered(number)).unwrap();
        }
    }

    impl Receiver<2> for mpsc::Receiver<Words<2>> {
        fn receive(&mut self, mut handler: impl FnMut(&Words<2>)) {
            handler(&self.recv().unwrap());
            self.try_iter().for_each(|message| handler(&message));
        }
    }

    type End = (Faulty, mpsc::Receiver<Words<2>>);

    /// Connects two threads. From the first to the second, one number becomes another.
    fn connect(wrong: u64, instead: u64) -> (End, End) {
        let (there, here) = (mpsc::sync_channel(64), mpsc::sync_channel(64));
        let faulty = |channel, wrong, instead| Faulty {
            channel,
            wrong,
            instead,
        };
        (
            (faulty(there.0, wrong, instead), here.1),
            (faulty(here.0, 0, 0), there.1),
        )
    }

    fn ask_with(wrong: u64, instead: u64) -> Sample {
        let ((mut sender, mut receiver), (mut back, mut there)) = connect(wrong, instead);
        let answering = thread::spawn(move || answer(&mut back, &mut there));
        let round_trips = Effort::Events(5_000).round_trips();
        let sample = ask(&mut sender, &mut receiver, round_trips);
        end(&mut sender);
        answering.join().unwrap();
        sample
    }

    fn stream_with(wrong: u64, instead: u64) -> Sample {
        let ((mut sender, mut receiver), (mut back, mut there)) = connect(wrong, instead);
        let collecting = thread::spawn(move || collect(&mut back, &mut there));
        let plan = SCENARIOS[0].plan(Cores::default());
        let effort = Effort::Events(5_000);
        let sample = stream(&mut sender, &mut receiver, &plan, 10, effort);
        end(&mut sender);
        collecting.join().unwrap();
        sample
    }

    #[test]
    fn what_was_asked_for_is_done_and_then_both_end() {
        assert_eq!(ask_with(0, 0).events, 5_000);
        assert_eq!(stream_with(0, 0).events, 5_000);
    }

    #[test]
    #[should_panic(expected = "answers lost or changed")]
    fn a_message_that_is_changed_on_its_way_there_and_back_is_found() {
        ask_with(3_000, 3_001);
    }

    #[test]
    #[should_panic(expected = "messages lost, changed or out of order")]
    fn a_message_that_is_changed_in_a_stream_is_found() {
        stream_with(3_000, 3_001);
    }
}

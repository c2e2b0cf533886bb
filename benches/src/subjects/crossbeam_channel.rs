//! Rival: the bounded channel of crossbeam-channel, blocking and polled.

use std::thread::JoinHandle;

use ::crossbeam_channel::{Receiver, TryRecvError, bounded};

use super::{Kind, Subject};
use crate::cores::Cores;
use crate::idle::{Found, Idle, poll_until_closed};
use crate::link::{Event, Link, Plan, Sender, read_by};
use crate::scenario::{Effort, Sample, Scenario};

/// The channel with each way to wait.
pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(Channel("crossbeam-channel", Waiting::Blocking)),
        Box::new(Channel(
            "crossbeam-channel-spinning",
            Waiting::Polling(Idle::Spin),
        )),
        Box::new(Channel(
            "crossbeam-channel-pausing",
            Waiting::Polling(Idle::Pause),
        )),
        Box::new(Channel(
            "crossbeam-channel-yielding",
            Waiting::Polling(Idle::Yield),
        )),
    ]
}

struct Channel(&'static str, Waiting);

#[derive(Clone, Copy)]
enum Waiting {
    /// `send` and `recv`, which spin, yield and then park.
    Blocking,
    /// `try_send` and `try_recv`.
    Polling(Idle),
}

impl Subject for Channel {
    fn name(&self) -> &'static str {
        self.0
    }

    fn kind(&self) -> Kind {
        Kind::Rival("crossbeam-channel")
    }

    fn measure(&self, scenario: &Scenario, effort: Effort, cores: Cores) -> Option<Sample> {
        let plan = scenario.plan(cores);
        let can = match self.1 {
            Waiting::Blocking => true,
            Waiting::Polling(idle) => idle.suits(plan.crowded),
        };
        can.then(|| scenario.measure(self, &plan, effort)).flatten()
    }
}

impl Link for Channel {
    type Sender<E: Event> = Sending<E>;

    fn connect<E: Event, H: FnMut(&E) + Send + 'static>(
        &self,
        plan: &Plan,
        handler: H,
    ) -> (Vec<Sending<E>>, Option<JoinHandle<()>>) {
        let (sender, receiver) = bounded(plan.capacity);
        let waiting = self.1;
        let reader = read_by(plan, move || match waiting {
            Waiting::Blocking => receiver.iter().for_each(by_reference(handler)),
            Waiting::Polling(idle) => poll(&receiver, idle, handler),
        });
        let senders = vec![Sending { sender, waiting }; plan.producers];
        (senders, reader)
    }
}

fn by_reference<E>(mut handler: impl FnMut(&E)) -> impl FnMut(E) {
    move |event| handler(&event)
}

fn poll<E>(receiver: &Receiver<E>, idle: Idle, mut handler: impl FnMut(&E)) {
    poll_until_closed(idle, || {
        let mut found = Found::Nothing;
        loop {
            match receiver.try_recv() {
                Ok(event) => {
                    handler(&event);
                    found = Found::Events;
                }
                Err(TryRecvError::Empty) => return found,
                Err(TryRecvError::Disconnected) => return Found::Closed,
            }
        }
    });
}

/// A sender that waits in the same way as the receiver.
#[derive(Clone)]
struct Sending<E> {
    sender: ::crossbeam_channel::Sender<E>,
    waiting: Waiting,
}

impl<E: Event> Sender for Sending<E> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        match self.waiting {
            Waiting::Blocking => self.sender.send(E::numbered(number)).unwrap(),
            Waiting::Polling(idle) => {
                while self.sender.try_send(E::numbered(number)).is_err() {
                    idle.wait();
                }
            }
        }
    }
}

//! A member's process, as its parent sees it.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use annulus_ring::Sequence;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::combination::{Combination, Fate};
use crate::member::{DIRECTORY, Event, NAME, Place};
use crate::reader::{Delivered, PATIENCE};

pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
    /// What it has been given, as a consumer.
    pub(crate) got: Vec<Delivered>,
    /// How far it has released, as it said when it had.
    pub(crate) position: Sequence,
    /// How far it has been given what it holds.
    pub(crate) held: Sequence,
}

impl Process {
    /// Starts one that has opened this ring.
    pub(crate) fn start(place: &Place) -> Self {
        let mut process = Self::start_beside(place);
        process.ask("open");
        process
    }

    /// Starts one that has not opened it.
    pub(crate) fn start_beside(place: &Place) -> Self {
        let program = env::current_exe().expect("a program has a path");
        let mut child = Command::new(program)
            .env(DIRECTORY, &place.directory)
            .env(NAME, &place.name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let orders = child.stdin.take().expect("its input is a pipe");
        let output = child.stdout.take().expect("its output is a pipe");
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            orders,
            lines,
            got: Vec::new(),
            position: 0,
            held: 0,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order, and waits until it has been carried out.
    pub(crate) fn ask(&mut self, order: &str) {
        self.tell(order);
        self.has_done(order);
    }

    /// Gives an order.
    pub(crate) fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("it listens until it ends");
    }

    /// Waits until an order has been carried out.
    pub(crate) fn has_done(&mut self, order: &str) {
        let line = self.hear();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse().expect("a number");
        match (order.split(' ').next(), &words[..]) {
            (Some("open"), ["opened"])
            | (Some("create"), ["created"])
            | (Some("arm"), ["armed"])
            | (Some("note"), ["noting"])
            | (Some("publish"), ["published", ..])
            | (Some("leave"), ["left"])
            | (Some("close" | "poison"), ["done"]) => {}
            (Some("feed" | "join" | "change"), ["joined", position])
            | (Some("take" | "release"), ["released", position]) => {
                self.position = number(position)
            }
            (Some("hold"), ["held", end]) => self.held = number(end),
            _ => panic!("told to {order:?}, the process says {line:?}"),
        }
    }

    /// Waits until an order has been refused, in these words among others.
    pub(crate) fn has_refused(&mut self, words: &str) {
        let line = self.hear();
        assert!(
            line.starts_with("failed") && line.contains(words),
            "expected {words:?}, and the process says {line:?}"
        );
    }

    /// Waits until it has come to a point that it was to note.
    pub(crate) fn has_noted(&mut self, point: &str) {
        assert_eq!(self.hear(), format!("noted {point}"));
    }

    /// Has it end, or stop, at the point of this combination.
    pub(crate) fn arm(&mut self, combination: &Combination) {
        let Combination {
            point, time, fate, ..
        } = combination;
        self.ask(&format!("arm {point} {time} {fate:?}"));
    }

    /// Waits until it has ended, or stopped, there.
    pub(crate) fn has_reached(&mut self, combination: &Combination) {
        let line = self.hear();
        assert_eq!(line, format!("reached {}", combination.point));
        match combination.fate {
            Fate::Killed => self.is_gone(),
            Fate::Stopped => {
                let options =
                    WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                let status = waitid(WaitId::Pid(self.pid()), options).expect("it is our child");
                assert!(status.is_some_and(|status| status.stopped()));
            }
        }
    }

    /// Continues it.
    pub(crate) fn go_on(&mut self) {
        kill_process(self.pid(), Signal::CONT).expect("it is our child");
    }

    /// Kills it where it happens to be.
    pub(crate) fn kill(&mut self) {
        kill_process(self.pid(), Signal::KILL).expect("it is our child");
        self.is_gone();
    }

    fn is_gone(&mut self) {
        let status = self.child.wait().expect("it is our child");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next line that tells of no event.
    fn hear(&mut self) -> String {
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(error) => panic!("the process says nothing: {error}"),
            };
            let words: Vec<&str> = line.split(' ').collect();
            let ["got", sequence, who, number] = words[..] else {
                return line;
            };
            let parse = |word: &str| word.parse::<u64>().expect("a number");
            self.got.push(Delivered {
                sequence: parse(sequence),
                event: Event {
                    who: parse(who),
                    number: parse(number),
                },
            });
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also one that is stopped; one that has been waited for is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

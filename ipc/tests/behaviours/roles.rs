//! Other processes: this program, started again to play a role. They are told what to do by lines on their
//! standard input, and answer by lines on their standard output.
//!
//! A role runs on one thread, while that of the test harness waits for it to end; it ends with its standard input, or
//! after some minutes.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::{
    LONG, forks, handover, members, segments, space, staying, surroundings, system, unlinked,
    users, views,
};

/// A role: its name, and what it does with the words that it is given.
pub(crate) type Role = (&'static str, fn(&[&str]));

fn roles() -> impl Iterator<Item = Role> {
    let all = [
        members::ROLES,
        segments::ROLES,
        space::ROLES,
        staying::ROLES,
        handover::ROLES,
        forks::ROLES,
        unlinked::ROLES,
        views::ROLES,
        users::ROLES,
        surroundings::ROLES,
    ];
    all.into_iter().flatten().copied()
}

/// Says which role to play, and with which words.
const VARIABLE: &str = "ANNULUS_TEST_ROLE";

/// Stands before what a role says; the rest of its output is the test harness's.
const MARK: &str = "role: ";

/// The name of the test below, by which the harness is told to run nothing else.
const STAGE: &str = "roles::a_role_is_played_when_a_test_asks_for_it";

#[test]
fn a_role_is_played_when_a_test_asks_for_it() {
    let Ok(wanted) = env::var(VARIABLE) else {
        return; // It is a test run, and this is no test.
    };
    let mut words = wanted.split('\n');
    let name = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    system::end_in(LONG * 4);
    let (_, play) = roles().find(|(role, _)| *role == name).expect("a role");
    play(&words);
    process::exit(0);
}

/// A role says something.
pub(crate) fn say(line: impl AsRef<str>) {
    println!("{MARK}{}", line.as_ref());
}

/// A role is told something; its process ends here if nobody is there to tell it.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => process::exit(0),
        Ok(_) => line.trim_end().to_owned(),
    }
}

/// A process that plays a role. It is killed when this is dropped.
pub(crate) struct Player {
    process: Child,
    ears: Option<ChildStdin>,
    lines: Receiver<String>,
    role: String,
}

impl Player {
    pub(crate) fn start(role: &str, words: &[&str]) -> Self {
        Self::start_by(&[], role, words)
    }

    /// Starts it by another program, which runs what follows it.
    pub(crate) fn start_by(by: &[&str], role: &str, words: &[&str]) -> Self {
        let own = env::current_exe().expect("this program has a file");
        let own = own.to_str().expect("of a plain name");
        let mut line = by.iter().copied().chain([own]);
        let mut command = Command::new(line.next().expect("a program"));
        let mut wanted = vec![role];
        wanted.extend(words);
        command
            .args(line)
            .args([
                STAGE,
                "--exact",
                "--nocapture",
                "--test-threads=1",
                "--quiet",
            ])
            .env(VARIABLE, wanted.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("a process can be started");
        let output = process.stdout.take().expect("it is piped");
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(MARK) {
                    let _ = tell.send(said.to_owned()); // Who does not listen has gone.
                }
            }
        });
        Self {
            ears: process.stdin.take(),
            process,
            lines,
            role: role.to_owned(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it says next.
    pub(crate) fn says(&mut self) -> String {
        match self.lines.recv_timeout(LONG) {
            Ok(line) => line,
            Err(_) => panic!(
                "the {} says nothing: {:?}",
                self.role,
                self.process.try_wait()
            ),
        }
    }

    /// Tells it something, and does not wait for an answer.
    pub(crate) fn tell(&mut self, line: &str) {
        let ears = self.ears.as_mut().expect("it has not been dismissed");
        writeln!(ears, "{line}").expect("it listens");
    }

    /// Tells it something, and returns the answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.says()
    }

    /// Has it do something that works.
    pub(crate) fn does(&mut self, line: &str) -> String {
        let said = self.ask(line);
        assert!(said.starts_with("ok"), "{line}: {said}");
        said.trim_start_matches("ok").trim_start().to_owned()
    }

    /// Kills it, so that nothing of it runs any more.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }

    /// Kills it, and leaves what it has been talking to, if that lives on, and its number, which is not free before.
    pub(crate) fn kill_alone(&mut self) {
        self.process.kill().expect("it is ours");
    }

    /// Waits until it ends by itself.
    pub(crate) fn ends(mut self) -> ExitStatus {
        self.ears = None;
        let mut status = None;
        crate::until("a role ends", || {
            status = self.process.try_wait().expect("it is ours");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have ended.
        let _ = self.process.wait();
    }
}

//! System calls of one thread, of which a test says what becomes: they wait for it (`seccomp_unotify(2)`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};

use crate::system;

/// Which calls: their number, and what one of their arguments is, by its place.
pub(crate) type Which = (libc::c_long, Option<(u32, u32)>);

/// The calls of one thread that wait.
pub(crate) struct Calls(OwnedFd);

/// One that waits.
pub(crate) struct Call {
    pub(crate) number: libc::c_long,
    id: u64,
}

impl Calls {
    /// Starts a thread such calls of which wait, and runs this in it. None if the system does not let them.
    pub(crate) fn of<'scope, X: Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        test: &str,
        which: Vec<Which>,
        run: impl FnOnce() -> X + Send + 'scope,
    ) -> Option<(Self, ScopedJoinHandle<'scope, X>)> {
        let (tell, told) = channel();
        let thread = scope.spawn(move || {
            let listener = system::filter(&program(&which), libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
            let is_there = listener.is_ok();
            tell.send(listener).expect("it waits for it");
            is_there.then(run)
        });
        let listener = match told.recv().expect("it says so") {
            Ok(listener) => listener,
            Err(error) => {
                system::skip(test, &format!("system calls cannot be held up: {error}"));
                return None;
            }
        };
        // SAFETY: the system has just opened it.
        let listener = unsafe { OwnedFd::from_raw_fd(listener) };
        let thread = scope.spawn(move || {
            let ended = thread.join();
            ended.expect("it does not panic").expect("it has run")
        });
        Some((Self(listener), thread))
    }

    /// Waits for the next one; none if the thread has ended.
    pub(crate) fn next(&self) -> Option<Call> {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one that lives until it returns.
        let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
        assert_eq!(ready, 1, "{}", io::Error::last_os_error());
        if poll.revents & libc::POLLIN == 0 {
            return None;
        }
        // SAFETY: numbers, of which zero is one.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        let receive = libc::SECCOMP_IOCTL_NOTIF_RECV;
        // SAFETY: where to put one.
        let received = unsafe { libc::ioctl(self.0.as_raw_fd(), receive, &raw mut call) };
        assert_eq!(received, 0, "{}", io::Error::last_os_error());
        Some(Call {
            number: call.data.nr.into(),
            id: call.id,
        })
    }

    /// Has it fail so, or go on.
    pub(crate) fn answer(&self, call: &Call, error: Option<i32>) {
        let mut answer = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: error.map_or(0, |error| -error),
            flags: match error {
                None => libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
                Some(_) => 0,
            },
        };
        let send = libc::SECCOMP_IOCTL_NOTIF_SEND;
        // SAFETY: an answer that lives until it returns.
        let sent = unsafe { libc::ioctl(self.0.as_raw_fd(), send, &raw mut answer) };
        assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    }
}

/// Has such calls wait, and lets all others pass.
fn program(which: &[Which]) -> Vec<libc::sock_filter> {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let is_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = Vec::new();
    for (number, argument) in which {
        program.push(step(load, 0, 0, 0));
        let (steps, at, value) = match argument {
            // Arguments are of 64 bits; the lower half says enough.
            Some((place, value)) => {
                let half = if cfg!(target_endian = "big") { 4 } else { 0 };
                (3, 16 + 8 * place + half, *value)
            }
            None => (1, 0, 0),
        };
        program.push(step(is_equal, 0, steps, *number as u32));
        if steps == 3 {
            program.push(step(load, 0, 0, at));
            program.push(step(is_equal, 0, 1, value));
        }
        program.push(step(answer, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(step(answer, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

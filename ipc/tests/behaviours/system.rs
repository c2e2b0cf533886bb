//! System calls that tests make, and what of the system a test needs that it may not have.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Says that something was not tested, and why: past the harness, which keeps what tests print.
pub(crate) fn skip(test: &str, why: &str) {
    static SKIPPED: AtomicU32 = AtomicU32::new(0);
    let count = 1 + SKIPPED.fetch_add(1, Ordering::Relaxed);
    let _ = writeln!(io::stderr(), "skipped ({count} so far): {test}: {why}");
}

/// Whether this process may do what a test needs: change users, mount file systems, and so on. If not, it says so.
pub(crate) fn is_root_for(test: &str) -> bool {
    if !is_root() {
        skip(test, "it takes root");
    }
    is_root()
}

/// Whether permissions and limits do not bind this process.
pub(crate) fn is_root() -> bool {
    // SAFETY: it reads a number.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes a user that has nothing, who belongs to these groups.
pub(crate) fn become_user(user: u32, group: u32, groups: &[u32]) {
    // SAFETY: as many groups as it is told.
    let grouped = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
    // SAFETY: numbers.
    let group = unsafe { libc::setresgid(group, group, group) };
    // SAFETY: numbers.
    let user = unsafe { libc::setresuid(user, user, user) };
    assert_eq!((grouped, group, user), (0, 0, 0), "it takes root");
}

pub(crate) fn set_umask(mask: u32) {
    // SAFETY: a number.
    unsafe { libc::umask(mask) };
}

/// Sets how much memory this process may lock.
pub(crate) fn limit_locked_memory(bytes: u64) {
    limit(libc::RLIMIT_MEMLOCK as _, bytes);
}

/// Sets how large this process may make a file.
pub(crate) fn limit_files(bytes: u64) {
    limit(libc::RLIMIT_FSIZE as _, bytes);
}

/// Sets a limit of this process, by the number that the system has for it.
fn limit(resource: u32, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: a limit that lives until it returns.
    let set = unsafe { libc::setrlimit(resource as _, &limit) };
    assert_eq!(set, 0);
}

/// Has the kernel refuse `membarrier` to this thread, as some sandboxes do.
pub(crate) fn forbid_membarrier() {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number_of_call = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let is_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let program = [
        step(number_of_call, 0, 0, 0),
        step(is_equal, 0, 1, libc::SYS_membarrier as u32),
        step(answer, 0, 0, refuse),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    filter(&program, 0).expect("the system has filters");
    // SAFETY: numbers.
    let asked = unsafe { libc::syscall(libc::SYS_membarrier, 0, 0, 0) };
    assert_eq!(asked, -1);
}

/// Has the kernel filter the system calls of this thread; returns what it says, a descriptor if asked for one.
pub(crate) fn filter(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    let mut steps = program.to_vec();
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: numbers.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(promised, 0, "{}", io::Error::last_os_error());
    let (call, mode) = (libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: a program that lives until it returns.
    match unsafe { libc::syscall(call, mode, flags, &raw const program) } {
        -1 => Err(io::Error::last_os_error()),
        done => Ok(done as i32),
    }
}

/// Has this signal interrupt the system call that a thread is in, and nothing more.
pub(crate) fn handle_without_restart(signal: i32) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: numbers, of which zero is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: a handler that does nothing.
    let set = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// Sends a signal to a thread that has not been joined.
pub(crate) fn signal(thread: libc::pthread_t, signal: i32) {
    // SAFETY: there is such a thread, or it has ended and is kept.
    unsafe { libc::pthread_kill(thread, signal) };
}

/// Has the system end this process after that time.
pub(crate) fn end_in(time: Duration) {
    // SAFETY: a number; nobody handles the signal.
    unsafe { libc::alarm(time.as_secs() as u32) };
}

/// Forks. Returns the child's number in the parent, and in the child nothing; that [ends](end_after) then.
pub(crate) fn fork() -> Option<i32> {
    // SAFETY: the other thread of a role's process waits for this one, and does nothing of which a child needs more
    // than it has.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", io::Error::last_os_error());
    (pid > 0).then_some(pid)
}

/// What a forked child does: this, and then it ends, with 0 unless it has panicked.
pub(crate) fn end_after(child: impl FnOnce()) -> ! {
    end_in(crate::LONG * 4); // An alarm is not inherited.
    let done = catch_unwind(AssertUnwindSafe(child));
    let _ = io::stdout().flush();
    // SAFETY: it ends here, without what its parent does at its end.
    unsafe { libc::_exit(i32::from(done.is_err())) }
}

/// Waits until this child has ended, and returns how: 0 if well.
pub(crate) fn wait_for(pid: i32) -> i32 {
    let mut status = 0;
    loop {
        // SAFETY: a number, and where to put one.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if waited == pid {
            return status;
        }
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
    }
}

pub(crate) fn make_pipe(path: &std::path::Path) {
    let path = std::ffi::CString::new(path.to_str().expect("a plain path")).expect("no zero");
    // SAFETY: a path that ends with a zero.
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    assert_eq!(made, 0, "{}", io::Error::last_os_error());
}

/// How much processor time this process has used, in its own code and in the kernel.
pub(crate) fn processor_time() -> Duration {
    // SAFETY: plain numbers, of which zero is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: where to put them.
    let got = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(got, 0);
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Locks one byte of a file, for as long as that is open.
pub(crate) fn lock_byte(fd: i32, byte: i64) -> bool {
    // SAFETY: plain numbers, of which zero is one.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_start = byte as _;
    lock.l_len = 1;
    // SAFETY: an open descriptor, and a lock as this command takes it.
    unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const lock) == 0 }
}

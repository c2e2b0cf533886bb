//! Who is alive: not whom a forked child, a namespace, a number used again or a second descriptor makes seem so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ipc::{Directory, Segment};
use annulus_ring::{
    ClaimError, Ended, JoinError, NotReady, OnDeath, ProducerError, Producers, Ring, Unusable,
    try_any,
};

use crate::place::Place;
use crate::roles::{Player, Role, hear, say};
use crate::{deadline, system, until};

pub(crate) const ROLES: &[Role] = &[
    (
        "parent of one that uses everything",
        fork_and_use_everything,
    ),
    ("parent in the middle of a claim", fork_in_a_claim),
    ("parent in the middle of a batch", fork_in_a_batch),
    ("parent of one that opens it anew", fork_and_open_anew),
    ("parent of one that lives on", fork_and_wait),
    ("parent of other programs", start_programs),
    ("leaver that takes its time", exit_slowly),
    ("member whose locks stay", leave_locks),
    ("parent of a chain of threads", chain_threads),
];

const KINDS: [Producers; 2] = [Producers::One, Producers::Many];

fn kind_of(word: &str) -> Producers {
    if word == "One" {
        Producers::One
    } else {
        Producers::Many
    }
}

/// Has a role do what it does, for both kinds of producers.
fn play(role: &str) {
    for kind in KINDS {
        let place = Place::new();
        let mut player = Player::start(role, &[place.path(), &format!("{kind:?}")]);
        assert_eq!(player.says(), "done", "{kind:?}");
        assert!(player.ends().success());
    }
}

fn ring(words: &[&str]) -> Segment<u64> {
    let mut ring = Ring::builder(8).producers(kind_of(words[1]));
    ring.observable = true;
    let builder = Segment::builder(ring).directory(Directory::at(words[0]));
    builder.create("ring").expect("a ring can be created")
}

/// A producer of either kind.
macro_rules! feed {
    ($ring:expr, $words:expr, $feed:ident => $body:expr) => {
        match kind_of($words[1]) {
            Producers::One => {
                let mut $feed = $ring.producer().expect("it joins");
                $body
            }
            Producers::Many => {
                let mut $feed = $ring.shared_producer().expect("it joins");
                $body
            }
        }
    };
}

#[test]
fn d6_a_forked_child_is_told_by_everything_it_has_inherited_and_touches_nothing() {
    play("parent of one that uses everything");
}

fn fork_and_use_everything(words: &[&str]) {
    const INHERITED: Unusable = Unusable::Inherited;
    let ring = ring(words);
    let view = Directory::at(words[0])
        .view::<u64>("ring")
        .expect("it is there");
    let inspection = Directory::at(words[0])
        .inspect("ring")
        .expect("it is there");
    let mut tap = view.observer().expect("it is observable");
    let mut other_tap = ring.observer().expect("it is observable");
    let mut book = ring.consumer("book").join().expect("it joins");
    let mut risk = ring
        .consumer("risk")
        .after(["book"])
        .join()
        .expect("it joins");
    let mut enrich = ring
        .consumer("enrich")
        .after(["book", "risk"])
        .join_mut()
        .expect("it joins");
    feed!(ring, words, feed => {
            feed.publish_batch(3, |slots| slots.zip(1..).for_each(|(slot, n)| *slot = n)).expect("room");
            book.next_batch().expect("events").hold();
            let before = ring.snapshot();
            let Some(child) = system::fork() else {
    system::end_after(|| {
                let late = Instant::now() + Duration::from_millis(1);
                let cause = ClaimError::Unusable(INHERITED);
                assert_eq!(feed.publish(|_| panic!("nothing is written")), Err(cause));
                assert_eq!(feed.try_publish(|_| panic!("nothing is written")), Err(cause));
                assert_eq!(feed.publish_deadline(late, |_| ()), Err(cause));
                assert_eq!(feed.publish_value(7).expect_err("it is not its").cause, cause);
                assert_eq!(feed.publish_batch(2, |_| ()).expect_err("it is not its"), cause);
                assert_eq!(feed.claim(1).expect_err("it is not its"), cause);
                assert_eq!(feed.try_claim(1).expect_err("it is not its"), cause);
                assert_eq!(feed.claim_deadline(1, late).expect_err("it is not its"), cause);
                assert_eq!(feed.free(), Err(cause));

                for consumer in [&mut book, &mut risk] {
                    assert_eq!(consumer.next_batch().expect_err("none"), Ended::Unusable(INHERITED));
                    let none = NotReady::Unusable(INHERITED);
                    assert_eq!(consumer.try_next_batch().expect_err("none"), none);
                    assert_eq!(consumer.next_batch_deadline(late).expect_err("none"), none);
                    consumer.skip_to_latest();
                    consumer.release_until(u64::MAX);
                    assert_eq!(consumer.take_skipped(), []);
                    consumer.poison(7);
                }
                assert_eq!(enrich.next_batch_mut().expect_err("none"), Ended::Unusable(INHERITED));
                assert_eq!(try_any(&mut [&mut book]), Some(0), "who waits for it is told");
                for tap in [&mut tap, &mut other_tap] {
                    assert_eq!(tap.next(), Err(Ended::Unusable(INHERITED)));
                    assert_eq!(tap.try_next(), Err(NotReady::Unusable(INHERITED)));
                    assert_eq!(tap.next_deadline(late), Err(NotReady::Unusable(INHERITED)));
                }

                let refused = |error: ProducerError| match error {
                    ProducerError::Unusable(cause) => cause == INHERITED,
                    ProducerError::WrongKind { .. } => true,
                    _ => false,
                };
                assert!(refused(ring.producer().expect_err("it is not its")));
                assert!(refused(ring.shared_producer().expect_err("it is not its")));
                let error = ring.consumer("child").join().expect_err("it is not its");
                let JoinError::Unusable { cause, .. } = &error else {
                    panic!("{error}");
                };
                assert_eq!(*cause, INHERITED);
                assert!(error.to_string().contains("is its parent's: open it again"), "{error}");
                assert!(ring.consumer("child").after(["book"]).join().is_err());
                ring.watch(|_| ());
                ring.close();
                ring.poison(7);
                assert!(ring.snapshot().members.is_empty());
                assert!(view.snapshot().members.is_empty());
                assert!(inspection.snapshot().members.is_empty());
                assert!(ring.as_fd().is_err() && inspection.size().is_err());
                let (socket, _other) = UnixStream::pair().expect("there is one");
                assert!(ring.send(&socket).is_err());
                drop((feed.row(), book.position(), ring.capacity(), ring.clone()));
                drop((book, risk, enrich, feed, tap, other_tap, view, inspection, ring));
            })
    };
            assert_eq!(system::wait_for(child), 0, "see what the child says");
            assert_eq!(ring.snapshot(), before);

            // And all of it works here as before.
            assert_eq!(book.held().map(|(_, event)| *event).collect::<Vec<_>>(), [1, 2, 3]);
            book.release_until(3);
            assert_eq!(feed.publish_value(4).expect("there is room"), 3);
            assert_eq!(book.next_batch().expect("an event")[0], 4);
            assert_eq!(risk.next_batch_deadline(deadline()).expect("events").len(), 4);
            assert_eq!(enrich.next_batch_mut_deadline(deadline()).expect("events")[0], 1);
            assert!(!ring.is_closed() && ring.snapshot().poisoned.is_none());
            assert_eq!((tap.try_next(), other_tap.try_next()), (Ok((0, 1)), Ok((0, 1))));
        });
    say("done");
}

#[test]
fn d6_a_claim_that_a_child_inherits_is_its_parents_whatever_the_child_does() {
    play("parent in the middle of a claim");
}

fn fork_in_a_claim(words: &[&str]) {
    let ring = ring(words);
    let mut book = ring.consumer("book").join().expect("it joins");
    feed!(ring, words, feed => {
            for (publishes, n) in [(true, 0), (false, 2)] {
                let mut claim = feed.claim(2).expect("there is room");
                claim[0] = 5;
                let Some(child) = system::fork() else {
    system::end_after(|| {
                    claim[0] = 99;
                    claim[1] = 99;
                    if publishes {
                        claim.publish();
                    } // Else it is dropped, which would have them skipped.
                })
    };
                assert_eq!(system::wait_for(child), 0, "see what the child says");
                assert!(book.try_next_batch().is_err(), "nothing is published");
                claim[1] = 6;
                assert_eq!(claim.publish(), n..n + 2);
                let batch = book.next_batch_deadline(deadline()).expect("events");
                assert_eq!(batch.iter().copied().collect::<Vec<_>>(), [5, 6]);
            }
            // One that is leaked, which a child would skip when it drops the handle.
            std::mem::forget(feed.claim(2).expect("there is room"));
            let Some(child) = system::fork() else {
    system::end_after(|| drop(feed))
    };
            assert_eq!(system::wait_for(child), 0, "see what the child says");
            let before = ring.snapshot();
            assert_eq!(before.members.len(), 2, "{before:?}");
            drop(feed);
        });
    assert_eq!(
        book.try_next_batch().expect_err("nothing comes"),
        NotReady::Idle
    );
    say("done");
}

#[test]
fn d6_a_batch_that_a_child_inherits_stays_its_parents() {
    play("parent in the middle of a batch");
}

fn fork_in_a_batch(words: &[&str]) {
    let ring = ring(words);
    let mut book = ring.consumer("book").join().expect("it joins");
    feed!(ring, words, feed => {
            feed.publish_batch(8, |slots| slots.for_each(|slot| *slot = 7)).expect("there is room");
            let batch = book.next_batch().expect("events");
            let Some(child) = system::fork() else {
    system::end_after(|| {
                assert!(batch.iter().all(|event| *event == 0), "they are its parent's");
                drop(batch);
            })
    };
            assert_eq!(system::wait_for(child), 0, "see what the child says");
            let full = Err(ClaimError::Full { free: 0 });
            assert_eq!(feed.try_publish(|_| ()), full, "the child has released nothing");
            assert!(batch.iter().all(|event| *event == 7));
            drop(batch);
            assert_eq!(feed.try_publish(|_| ()), Ok(8));
        });
    say("done");
}

#[test]
fn d6_a_forked_child_can_open_the_ring_anew_and_is_a_process_of_its_own() {
    play("parent of one that opens it anew");
}

fn fork_and_open_anew(words: &[&str]) {
    let ring = ring(words);
    let mut book = ring.consumer("book").join().expect("it joins");
    feed!(ring, words, feed => {
            let (mut here, mut there) = UnixStream::pair().expect("there is one");
            let Some(child) = system::fork() else {
    system::end_after(|| {
                use std::io::{Read, Write};
                drop(book);
                let ring = Directory::at(words[0]).open::<u64>("ring").expect("it is there");
                let taken = ring.consumer("book").join().expect_err("its parent has it");
                assert!(matches!(taken, JoinError::NameTaken { .. }), "{taken}");
                let mut own = ring.consumer("child").join().expect("it joins");
                there.write_all(b"j").expect("its parent listens");
                let batch = own.next_batch_deadline(deadline()).expect("an event");
                assert_eq!((batch[0], batch.len()), (7, 1));
                drop(batch);
                there.read_exact(&mut [0]).expect("its parent says so");
                // It ends with the consumer, which leaves nothing: it is dead to its parent.
                std::mem::forget(own);
            })
    };
            std::io::Read::read_exact(&mut here, &mut [0]).expect("the child has joined");
            let members = ring.snapshot().members;
            let own = members.iter().find(|member| member.name == "child").expect("it has joined");
            assert_eq!(own.process, Some(child as u32));
            feed.publish_value(7).expect("there is room");
            assert_eq!(book.next_batch_deadline(deadline()).expect("an event")[0], 7);
            std::io::Write::write_all(&mut here, b"e").expect("the child listens");
            assert_eq!(system::wait_for(child), 0, "see what the child says");
            for n in 0..20 {
                feed.publish_value_deadline(deadline(), n).expect("the dead child holds up nobody");
                assert_eq!(book.next_batch_deadline(deadline()).expect("an event")[0], n);
            }
        });
    say("done");
}

#[test]
fn d6_a_child_that_lives_on_keeps_nobody_of_its_dead_parent_alive() {
    for kind in KINDS {
        let place = Place::new();
        let words = [place.path(), &format!("{kind:?}")];
        let mut player = Player::start("parent of one that lives on", &words);
        assert_eq!(player.says(), "parent is ready");
        assert_eq!(player.says(), "child is ready");
        let ring = place.open::<u64>("ring");
        assert_eq!(ring.snapshot().members.len(), 2);
        assert!(ring.snapshot().members.iter().all(|member| !member.is_dead));
        player.kill_alone();
        until("the members are seen to be dead", || {
            ring.snapshot().members.iter().all(|member| member.is_dead)
        });
        let mut book = ring.consumer("book").join().expect("the dead one's place");
        assert_eq!(book.position(), 0);
        match kind {
            Producers::One => drop(ring.producer().expect("the dead one's place")),
            Producers::Many => drop(ring.shared_producer().expect("there is a row")),
        }
        assert_eq!(
            book.next_batch_deadline(deadline()).expect("an event")[0],
            7
        );
        let members = ring.snapshot().members;
        assert_eq!(members.len(), 1, "{members:?}");
        // The child has been there all the time.
        assert_eq!(player.ask("go"), "child has been there");
    }
}

fn fork_and_wait(words: &[&str]) {
    let ring = ring(words);
    let book = ring
        .consumer("book")
        .on_death(OnDeath::Hold)
        .join()
        .expect("it joins");
    feed!(ring, words, feed => {
            feed.publish_value(7).expect("there is room");
            say("parent is ready");
            let Some(child) = system::fork() else {
    system::end_after(|| {
                say("child is ready");
                hear();
                say("child has been there");
                assert_eq!(feed.publish(|_| ()), Err(ClaimError::Unusable(Unusable::Inherited)));
                hear();
            })
    };
            system::wait_for(child);
        });
    drop(book);
}

#[test]
fn d6_programs_that_a_member_has_started_do_not_keep_it_alive() {
    let place = Place::new();
    let mut player = Player::start("parent of other programs", &[place.path(), "Many"]);
    let said = player.says();
    let numbers = said.split(' ').map(|n| n.parse().expect("a number"));
    let mut programs = Programs(numbers.collect());
    assert_eq!(programs.0.len(), 2, "{said}");
    let ring = place.open::<u64>("ring");
    assert_eq!(ring.snapshot().members.len(), 3);
    player.kill_alone();
    until("the members are seen to be dead", || {
        ring.snapshot().members.iter().all(|member| member.is_dead)
    });
    assert!(programs.end(), "they have been running all the time");
}

/// Programs that somebody else has started, which end with this value.
struct Programs(Vec<i32>);

impl Programs {
    /// Ends them; false if one had ended before.
    fn end(&mut self) -> bool {
        self.0.drain(..).fold(true, |all, number| {
            // SAFETY: numbers; of processes that were started for a test.
            unsafe { libc::kill(number, libc::SIGKILL) == 0 && all }
        })
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.end();
    }
}

fn start_programs(words: &[&str]) {
    let ring = ring(words);
    let _book = ring.consumer("book").join().expect("it joins");
    let _first = ring.shared_producer().expect("it joins");
    let quiet = |command: &mut Command| {
        command
            .arg("240")
            .stdin(process::Stdio::null())
            .stdout(process::Stdio::null());
        let started = command.stderr(process::Stdio::null()).spawn();
        started.expect("there is such a program").id()
    };
    let spawned = quiet(&mut Command::new("sleep"));
    let _second = ring.shared_producer().expect("it joins");
    let mut forking = Command::new("sleep");
    // SAFETY: it does nothing; but to do it, the child is forked.
    unsafe { forking.pre_exec(|| Ok(())) };
    let forked = quiet(&mut forking);
    say(format!("{spawned} {forked}"));
    hear();
}

#[test]
fn d6_who_opens_and_closes_the_file_again_ends_no_lease_of_its_own_process() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let feed = ring.producer().expect("it joins");
    let book = ring.consumer("book").join().expect("it joins");
    // With the locks that are a process's own, each of these would end all of them.
    drop(place.open::<u64>("ring"));
    drop(place.directory().view::<u64>("ring").expect("it is there"));
    drop(place.directory().inspect("ring").expect("it is there"));
    let path = ring.path().expect("it has a name");
    drop(File::open(path).expect("it is ours"));
    drop(
        File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect("it is ours"),
    );
    let again = place.open::<u64>("ring");
    drop(again.consumer("other").join().expect("it joins"));
    drop(again);
    drop(
        ring.as_fd()
            .and_then(|fd| fd.try_clone_to_owned())
            .expect("it is ours"),
    );

    let mut other = Player::start("member", &[place.path(), "ring"]);
    assert_eq!(other.says(), "ok open");
    assert!(other.ask("feed").contains("has joined already"));
    assert!(other.ask("join book").contains("has joined already"));
    let members = ring.snapshot().members;
    assert!(members.iter().all(|member| !member.is_dead), "{members:?}");
    let refused = place
        .directory()
        .unlink_unused("ring")
        .expect_err("it is used");
    assert!(
        refused.to_string().contains("it has living members"),
        "{refused}"
    );
    drop((feed, book));
    other.does("feed");
}

/// Nothing goes by process ids: they are shown to people. So here a living process has the number of a dead one.
#[test]
fn d6_a_dead_member_is_dead_though_another_process_has_its_number() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", Ring::builder(8).producers(Producers::Many));
    let mut dead = Player::start("member", &[place.path(), "ring"]);
    assert_eq!(dead.says(), "ok open");
    let row: u64 = dead.does("join journal hold").parse().expect("a row");
    dead.kill();
    let process = 4096 + 768 + row * 256 + 24; // As the tests of the layout have it.
    let file = File::options()
        .write(true)
        .open(ring.path().expect("it has a name"));
    let number = u64::from(process::id()).to_le_bytes();
    file.and_then(|file| file.write_all_at(&number, process))
        .expect("it is ours");
    let members = ring.snapshot().members;
    assert_eq!(
        (members[0].process, members[0].is_dead),
        (Some(process::id()), true)
    );
    let successor = ring
        .consumer("journal")
        .join()
        .expect("the dead one's place");
    assert_eq!(successor.row() as u64, row);
}

#[test]
fn d6_processes_of_different_pid_namespaces_know_of_each_other_who_is_alive() {
    let test = "d6_processes_of_different_pid_namespaces";
    if !system::is_root_for(test) {
        return;
    }
    let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
    let works = Command::new(unshare[0])
        .args(&unshare[1..])
        .arg("true")
        .status();
    if !works.is_ok_and(|status| status.success()) {
        return system::skip(test, "no namespace can be had");
    }
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let feed = ring.producer().expect("it joins");
    let mut inside = Player::start_by(&unshare, "member", &[place.path(), "ring"]);
    assert_eq!(inside.says(), "ok open");
    inside.does("join book hold");
    let book = || {
        ring.snapshot()
            .members
            .into_iter()
            .find(|member| member.name == "book")
    };
    let seen = book().expect("it has joined");
    assert_eq!(
        (seen.process, seen.is_dead),
        (Some(1), false),
        "as it knows itself"
    );
    assert!(
        inside.ask("feed").contains("has joined already"),
        "it sees that this one lives"
    );
    let taken = ring
        .consumer("book")
        .join()
        .expect_err("it sees that that one lives");
    assert!(matches!(taken, JoinError::NameTaken { .. }), "{taken}");
    drop(feed);
    inside.does("feed");
    assert_eq!(ring.producer().expect_err("it lives"), ProducerError::Taken);
    inside.kill_alone();
    until("it is seen to be dead", || {
        book().is_some_and(|book| book.is_dead)
    });
    drop(ring.producer().expect("it is dead"));
    drop(ring.consumer("book").join().expect("it is dead"));
}

#[test]
fn d6_a_process_is_dead_before_anybody_has_reaped_it() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let mut feed = Player::start("member", &[place.path(), "ring"]);
    assert_eq!(feed.says(), "ok open");
    feed.does("feed");
    assert_eq!(ring.producer().expect_err("it lives"), ProducerError::Taken);
    feed.kill_alone();
    until("its place is to be had", || ring.producer().is_ok());
    // Its number is still that of a process, if one that has ended.
    // SAFETY: numbers; no signal is sent.
    let there = unsafe { libc::kill(feed.id() as i32, 0) };
    assert_eq!(there, 0);
}

#[test]
fn d6_a_process_that_takes_its_time_to_exit_is_alive_until_it_has() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let mut leaver = Player::start("leaver that takes its time", &[place.path()]);
    assert_eq!(leaver.says(), "exiting");
    for _ in 0..20 {
        assert_eq!(ring.producer().expect_err("it lives"), ProducerError::Taken);
        let members = ring.snapshot().members;
        assert!(!members[0].is_dead, "{members:?}");
    }
    leaver.tell("go");
    assert!(leaver.ends().success());
    drop(ring.producer().expect("it has gone"));
}

fn exit_slowly(words: &[&str]) {
    extern "C" fn take_time() {
        say("exiting");
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
    }
    let ring = Directory::at(words[0])
        .open::<u64>("ring")
        .expect("it is there");
    let _feed = ring.producer().expect("it joins");
    // SAFETY: a function that does not panic.
    unsafe { libc::atexit(take_time) };
    process::exit(0);
}

#[test]
fn d18_a_process_that_has_given_back_its_memory_is_dead_whatever_becomes_of_its_locks() {
    // It is found in another way if nobody has looked at it before it died.
    for is_looked_at in [true, false] {
        let place = Place::new();
        let mut player = Player::start("member whose locks stay", &[place.path(), "Many"]);
        assert_eq!(player.says(), "ring is there");
        let ring = place.open::<u64>("ring");
        let mut book = ring.consumer("book").join().expect("it joins");
        let mut feed = ring.shared_producer().expect("it joins");
        let copy = player.ask("join").parse().expect("a number");
        let mut copy = Programs(vec![copy]);
        if is_looked_at {
            // To wait is to look for the dead.
            let late = Instant::now() + Duration::from_millis(50);
            assert!(
                book.next_batch_deadline(late).is_err(),
                "nothing is published"
            );
        }
        player.kill_alone();
        // Its consumer gates the producer, and its claim lies before what the other consumer reads.
        for n in 0..20 {
            let published = feed.publish_value_deadline(deadline(), n);
            published.expect("the dead one holds up nobody");
            let batch = book.next_batch_deadline(deadline());
            assert_eq!(batch.expect("an event")[0], n);
        }
        assert_eq!((book.skipped(), ring.snapshot().members.len()), (2, 2));
        drop((feed, book));
        let inspection = place.directory().inspect("ring").expect("it is there");
        assert!(inspection.is_used(), "the locks have gone");
        assert!(copy.end(), "it has been there all the time");
    }
}

#[test]
fn d18_a_process_that_lives_in_ever_new_threads_is_alive_until_it_is_killed() {
    let place = Place::new();
    let ring = place.create::<u64>("ring", 8);
    let mut feed = ring.producer().expect("it joins");
    let mut player = Player::start("parent of a chain of threads", &[place.path()]);
    let child = player.says().parse().expect("a number");
    let mut child = Programs(vec![child]);
    while feed.try_publish(|slot| *slot = 7).is_ok() {}
    // To wait is to look for the dead, again and again.
    let gated = feed.publish_value_deadline(Instant::now() + Duration::from_secs(1), 8);
    assert!(gated.is_err(), "its consumer has been taken for dead");
    assert!(child.end(), "it has been there all the time");
    let published = feed.publish_value_deadline(deadline(), 8);
    published.expect("the dead one holds up nobody");
}

/// Has a child whose first thread ends, as each other does as soon as it has started the next one.
fn chain_threads(words: &[&str]) {
    fn go_on() {
        thread::spawn(go_on);
    }
    let Some(child) = system::fork() else {
        system::end_in(crate::LONG * 4); // An alarm is not inherited.
        let ring = Directory::at(words[0]).open::<u64>("ring");
        let book = ring.expect("it is there").consumer("book").join();
        std::mem::forget(book.expect("it joins"));
        thread::spawn(|| {
            until("the first thread has ended", || {
                std::fs::symlink_metadata("/proc/self/fd/0").is_err()
            });
            say(process::id().to_string());
            go_on();
        });
        // SAFETY: it ends this thread, of which the others use nothing.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!("it has ended");
    };
    system::wait_for(child);
}

/// Joins, and leaves its descriptors to a process that does not know of them: a copy made without the C library, as if the
/// kernel took for ever to close the files of one that has ended.
fn leave_locks(words: &[&str]) {
    let ring = ring(words);
    say("ring is there");
    hear();
    let _journal = ring.consumer("journal").join().expect("it joins");
    let mut feed = ring.shared_producer().expect("it joins");
    std::mem::forget(feed.claim(2).expect("there is room"));
    // SAFETY: numbers; the copy goes on here, with a stack of its own as all of its memory is.
    let copy = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    assert!(copy >= 0);
    if copy == 0 {
        system::end_in(crate::LONG * 4);
        loop {
            // SAFETY: it waits for a signal, and nothing else is done in the copy.
            unsafe { libc::pause() };
        }
    }
    say(copy.to_string());
    hear();
}

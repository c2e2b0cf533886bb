//! Rings without a name, which one process hands to another.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};

use annulus_ipc::{Cause, Segment};
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::deadline;
use crate::place::Place;
use crate::roles::{Player, Role, hear, say};

pub(crate) const ROLES: &[Role] = &[("giver", give), ("taker", take)];

fn copy_of(ring: &Segment<u64>) -> File {
    let fd = ring.as_fd().and_then(|fd| fd.try_clone_to_owned());
    fd.expect("it is this process's").into()
}

#[test]
fn d7_sealed_memory_can_neither_be_cut_short_nor_made_longer_nor_unsealed() {
    let ring = Segment::<u64>::anonymous(8).expect("there is memory");
    let file = copy_of(&ring);
    let len = file.metadata().expect("it is open").len();
    for other in [0, len - 1, len + 1] {
        let error = ftruncate(&file, other).expect_err("it is sealed");
        assert_eq!(error, rustix::io::Errno::PERM, "to {other}");
    }
    let seals = fcntl_get_seals(&file).expect("it can be sealed");
    assert!(
        seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL),
        "{seals:?}"
    );
    let error = fcntl_add_seals(&file, SealFlags::WRITE).expect_err("it is sealed for good");
    assert_eq!(error, rustix::io::Errno::PERM);
    assert_eq!((ring.name(), ring.path()), (None, None));
    ring.producer()
        .expect("it joins")
        .publish_value(7)
        .expect("nobody gates");
}

#[test]
fn a_ring_goes_from_one_process_to_another_and_outlives_who_made_it() {
    let place = Place::new();
    drop(place.create::<u64>("to-have-the-directory", 8));
    let path = place.directory().as_path().join("socket");
    let listener = UnixListener::bind(&path).expect("it is ours");
    let path = path.to_str().expect("plain");

    // From another process to this one.
    let mut giver = Player::start("giver", &[path]);
    let (socket, _) = listener.accept().expect("it comes");
    let ring = Segment::<u64>::receive(&socket).expect("a ring");
    let mut book = ring.consumer("book").join().expect("it joins");
    assert_eq!(giver.ask("publish"), "published");
    assert_eq!(
        book.next_batch_deadline(deadline()).expect("an event")[0],
        7
    );
    assert_eq!(ring.attributes()["schema"], "7");
    let process = ring
        .snapshot()
        .members
        .iter()
        .find_map(|member| (member.name.is_empty()).then_some(member.process));
    assert_eq!(process, Some(Some(giver.id())));
    giver.kill();

    // And on to a third.
    let mut taker = Player::start("taker", &[path]);
    let (socket, _) = listener.accept().expect("it comes");
    ring.send(&socket).expect("it goes");
    assert_eq!(taker.says(), "joined");
    let mut feed = ring.producer().expect("the first one is dead");
    assert_eq!(feed.publish_value(8).expect("there is room"), 1);
    assert_eq!(taker.says(), "1: 8");
    assert_eq!(
        book.next_batch_deadline(deadline()).expect("an event")[0],
        8
    );
}

fn give(words: &[&str]) {
    let socket = UnixStream::connect(words[0]).expect("somebody listens");
    let ring = Segment::builder(8)
        .attribute("schema", "7")
        .anonymous::<u64>();
    let ring = ring.expect("there is memory");
    ring.send(&socket).expect("it goes");
    hear();
    ring.producer()
        .expect("it joins")
        .publish_value(7)
        .expect("there is room");
    let _feed = ring.producer().expect("it joins again");
    say("published");
    hear();
}

fn take(words: &[&str]) {
    let socket = UnixStream::connect(words[0]).expect("somebody listens");
    let ring = Segment::<u64>::receive(&socket).expect("a ring");
    let mut consumer = ring.consumer("taker").join().expect("it joins");
    say("joined");
    let batch = consumer.next_batch_deadline(deadline()).expect("an event");
    for (sequence, event) in batch.with_sequences() {
        say(format!("{sequence}: {event}"));
    }
    drop(batch);
    hear();
}

#[test]
fn memory_that_is_not_sealed_is_refused_whatever_is_in_it() {
    let ring = Segment::<u64>::anonymous(8).expect("there is memory");
    let mut bytes = vec![0; copy_of(&ring).metadata().expect("it is open").len() as usize];
    copy_of(&ring)
        .read_exact_at(&mut bytes, 0)
        .expect("it is as long");
    let memory = |seals: SealFlags, bytes: &[u8]| -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("test", flags).expect("there is memory"));
        file.write_all(bytes).expect("it grows");
        fcntl_add_seals(&file, seals).expect("it can be sealed");
        file.into()
    };
    for seals in [
        SealFlags::empty(),
        SealFlags::GROW,
        SealFlags::GROW | SealFlags::SEAL,
    ] {
        let error = Segment::<u64>::from_fd(memory(seals, &bytes)).expect_err("it could be cut");
        assert!(matches!(error.cause, Cause::NotSealed), "{error}");
        assert!(
            error
                .to_string()
                .contains("hand over what Segment::anonymous makes"),
            "{error}"
        );
    }
    let _same = Segment::<u64>::from_fd(memory(SealFlags::SHRINK, &bytes)).expect("it is sealed");
    let error = Segment::<u64>::from_fd(memory(SealFlags::SHRINK, b"no ring")).expect_err("none");
    assert!(matches!(error.cause, Cause::NotARing), "{error}");
    let other = Segment::<u32>::from_fd(copy_of(&ring).into()).expect_err("another type");
    assert!(matches!(other.cause, Cause::Type { .. }), "{other}");

    // A ring with a name, a pipe, a socket: who may write to a file may also cut it.
    let place = Place::new();
    let named = place.create::<u64>("ring", 8);
    let named = named
        .as_fd()
        .and_then(|fd| fd.try_clone_to_owned())
        .expect("it is ours");
    let (pipe, _writer) = io::pipe().expect("there is one");
    let (socket, _other) = UnixStream::pair().expect("there is one");
    for fd in [named, pipe.into(), socket.into()] {
        let error = Segment::<u64>::from_fd(fd).expect_err("it is not sealed");
        assert!(matches!(error.cause, Cause::NotSealed), "{error}");
    }
}

#[test]
fn the_end_of_a_socket_and_what_is_no_ring_are_errors_and_the_next_ring_still_comes() {
    let (here, there) = UnixStream::pair().expect("there is one");
    (&there).write_all(b"x").expect("it has room");
    let error = Segment::<u64>::receive(&here).expect_err("no ring");
    assert!(
        error.to_string().contains("what came was not a ring"),
        "{error}"
    );
    send_descriptor(&there, io::stdin().as_fd());
    let error = Segment::<u64>::receive(&here).expect_err("no ring");
    assert!(matches!(error.cause, Cause::NotSealed), "{error}");

    let ring = Segment::<u64>::anonymous(8).expect("there is memory");
    ring.send(&there).expect("it goes");
    let same = Segment::<u64>::receive(&here).expect("a ring");
    same.producer()
        .expect("it joins")
        .publish_value(7)
        .expect("nobody gates");
    assert_eq!(ring.snapshot().published, 1);

    drop(there);
    let error = Segment::<u64>::receive(&here).expect_err("the end");
    let Cause::System(cause) = &error.cause else {
        panic!("{error}");
    };
    assert_eq!(cause.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    // And no signal ends who sends to nobody.
    let error = ring.send(&here).expect_err("nobody is there");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error}");

    let (here, _there) = UnixStream::pair().expect("there is one");
    here.set_nonblocking(true).expect("it can be");
    let error = Segment::<u64>::receive(&here).expect_err("nothing has come");
    assert!(
        matches!(&error.cause, Cause::System(cause) if cause.kind() == io::ErrorKind::WouldBlock)
    );
}

fn send_descriptor(socket: &UnixStream, fd: BorrowedFd<'_>) {
    let descriptors = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let message = [IoSlice::new(b"a")];
    sendmsg(socket, &message, &mut control, SendFlags::empty()).expect("it goes");
}

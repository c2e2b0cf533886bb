//! Handing a ring without a name to another process, over a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::interrupted::retried;
use crate::plain::Plain;
use crate::refusal::{Cause, SegmentError};
use crate::segment::Segment;

/// A message has one byte, as it cannot be empty, and the descriptor.
const MESSAGE: [u8; 1] = *b"a";

impl<T> Segment<T> {
    /// Hands the ring to the process at the other end of this socket, which [receives](Segment::receive) it.
    ///
    /// # Errors
    /// If the socket refuses, or the ring was opened before this process was forked.
    ///
    /// # Examples
    /// ```
    /// use annulus_ipc::Segment;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (here, there) = UnixStream::pair()?; // two processes have these
    /// let ring = Segment::<u64>::anonymous(1024)?;
    /// ring.send(&here)?;
    ///
    /// let ring_there = Segment::<u64>::receive(&there)?;
    /// let mut book = ring_there.consumer("book").join()?;
    /// ring.producer()?.publish_value(5_853_300)?;
    /// assert_eq!(book.next_batch()?[0], 5_853_300);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&self, socket: &UnixStream) -> io::Result<()> {
        let descriptors = [self.as_fd()?];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("one descriptor does not fit"));
        }
        // A peer that has gone is an error, and no signal.
        let message = [IoSlice::new(&MESSAGE)];
        retried(|| sendmsg(socket, &message, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }
}

impl<T: Plain> Segment<T> {
    /// Takes the ring that the process at the other end of this socket [sends](Segment::send); waits for it as the
    /// socket does.
    ///
    /// # Errors
    /// See [`Cause`]: also if something else comes, or nothing.
    ///
    /// # Examples
    /// See [`Segment::send`].
    pub fn receive(socket: &UnixStream) -> Result<Self, SegmentError> {
        let of = |error: io::Error| Cause::System(error).of("from a socket");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut message = MESSAGE;
        let flags = RecvFlags::CMSG_CLOEXEC;
        let mut message = [IoSliceMut::new(&mut message)];
        let received =
            retried(|| recvmsg(socket, &mut message, &mut control, flags)).map_err(of)?;
        if received.bytes == 0 {
            return Err(of(io::ErrorKind::UnexpectedEof.into()));
        }
        let descriptors = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        match descriptors.and_then(|mut descriptors| descriptors.next()) {
            Some(fd) => Self::from_fd(fd),
            None => Err(of(io::Error::other("what came was not a ring"))),
        }
    }
}

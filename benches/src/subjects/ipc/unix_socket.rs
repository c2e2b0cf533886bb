//! Rival: a Unix stream socket, read and written by calls that block.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

use super::bytes::{Reading, Writing};
use crate::ipc::{Ends, Place, Transport};

#[derive(Clone, Copy)]
pub(super) struct UnixSocket;

const NAME: &str = "socket";

impl Transport for UnixSocket {
    type Sender<const N: usize> = Writing<UnixStream, N>;
    type Receiver<const N: usize> = Reading<UnixStream, N>;

    fn offer<const N: usize>(
        &self,
        place: &Place,
    ) -> io::Result<impl FnOnce() -> io::Result<Ends<Self, N>>> {
        let listener = UnixListener::bind(place.directory.join(NAME))?;
        Ok(move || ends(listener.accept()?.0))
    }

    fn open<const N: usize>(&self, place: &Place) -> io::Result<Ends<Self, N>> {
        ends(UnixStream::connect(place.directory.join(NAME))?)
    }
}

fn ends<const N: usize>(stream: UnixStream) -> io::Result<Ends<UnixSocket, N>> {
    Ok((Writing::new(stream.try_clone()?), Reading::new(stream)))
}

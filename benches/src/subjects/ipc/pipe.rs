//! Rival: two anonymous pipes, one each way, read and written by calls that block.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::process;

use super::bytes::{Reading, Writing};
use crate::ipc::{Ends, Place, Transport};

#[derive(Clone, Copy)]
pub(super) struct Pipe;

impl Transport for Pipe {
    type Sender<const N: usize> = Writing<File, N>;
    type Receiver<const N: usize> = Reading<File, N>;

    fn offer<const N: usize>(
        &self,
        place: &Place,
    ) -> io::Result<impl FnOnce() -> io::Result<Ends<Self, N>>> {
        let (there, sending) = io::pipe()?;
        let (receiving, back) = io::pipe()?;
        // A pipe has no name that another process could open, but this is as good as one.
        let link = |pipe: &dyn AsRawFd, name: &str| {
            let (process, number) = (process::id(), pipe.as_raw_fd());
            symlink(
                format!("/proc/{process}/fd/{number}"),
                place.directory.join(name),
            )
        };
        link(&there, "there")?;
        link(&back, "back")?;
        Ok(move || {
            // Then the pipes end when the other process does.
            drop((there, back));
            let file = |pipe: OwnedFd| File::from(pipe);
            Ok((
                Writing::new(file(sending.into())),
                Reading::new(file(receiving.into())),
            ))
        })
    }

    fn open<const N: usize>(&self, place: &Place) -> io::Result<Ends<Self, N>> {
        let there = File::open(place.directory.join("there"))?;
        let back = OpenOptions::new()
            .write(true)
            .open(place.directory.join("back"))?;
        Ok((Writing::new(back), Reading::new(there)))
    }
}

//! Messages over whatever bytes can be written to and read from, in as few calls as their order allows.

use std::io::{Read, Write};
use std::ops::Range;

use zerocopy::IntoBytes;

use crate::ipc::Receiver;
use crate::link::{Event, Sender, Words};

/// Writes each message, or each batch, by one call.
pub(super) struct Writing<W, const N: usize> {
    to: W,
    batch: Vec<Words<N>>,
}

impl<W, const N: usize> Writing<W, N> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to,
            batch: Vec::new(),
        }
    }
}

impl<W: Write, const N: usize> Sender for Writing<W, N> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        let message = Words::<N>::numbered(number);
        let written = self.to.write_all(message.as_bytes());
        written.expect("the other side should read");
    }

    fn send_batch(&mut self, numbers: Range<u64>) {
        self.batch.clear();
        self.batch.extend(numbers.map(Words::numbered));
        let written = self.to.write_all(self.batch.as_bytes());
        written.expect("the other side should read");
    }
}

/// Reads as much as there is by one call, up to 64 KiB.
pub(super) struct Reading<R, const N: usize> {
    from: R,
    buffer: Vec<Words<N>>,
    /// How many bytes of the buffer are the beginning of a message whose end has not come yet.
    begun: usize,
}

impl<R, const N: usize> Reading<R, N> {
    const MESSAGE: usize = 8 * N;

    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: vec![Words::default(); (1 << 16) / Self::MESSAGE],
            begun: 0,
        }
    }
}

impl<R: Read, const N: usize> Receiver<N> for Reading<R, N> {
    fn receive(&mut self, handler: impl FnMut(&Words<N>)) {
        let mut end = self.begun;
        while end < Self::MESSAGE {
            let rest = &mut self.buffer.as_mut_bytes()[end..];
            let read = self.from.read(rest).expect("the other side should write");
            assert_ne!(read, 0, "the other side writes nothing more");
            end += read;
        }
        let messages = end / Self::MESSAGE;
        self.buffer[..messages].iter().for_each(handler);
        let begun = messages * Self::MESSAGE..end;
        self.begun = begun.len();
        self.buffer.as_mut_bytes().copy_within(begun, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Hands out a few bytes at a time.
    struct Trickle<'b>(&'b [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    #[test]
    fn messages_come_whole_however_their_bytes_come() {
        let mut bytes = Vec::new();
        let mut writing = Writing::<_, 8>::new(&mut bytes);
        writing.send(0);
        writing.send_batch(1..99);
        writing.send(99);
        for at_a_time in [1, 63, 64, 65, 1_000] {
            let mut reading = Reading::<_, 8>::new(Trickle(&bytes, at_a_time));
            let mut numbers = Vec::new();
            while numbers.len() < 100 {
                reading.receive(|message| numbers.push(message.number()));
            }
            assert_eq!(numbers, Vec::from_iter(0..100));
        }
    }

    #[test]
    #[should_panic(expected = "writes nothing more")]
    fn an_end_is_not_waited_at() {
        Reading::<_, 8>::new(io::empty()).receive(|_| {});
    }
}

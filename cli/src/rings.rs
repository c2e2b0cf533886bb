//! `annulus ls`, `stat`, `evict` and `gc`: the rings that processes share, for the people in charge of them.
//!
//! To look takes the right to read a ring's file, which is mapped for reading only. What is found there comes from
//! other processes, which may die meanwhile, be stopped, or write nonsense: its numbers are shown as they are, its words
//! so that they cannot control a terminal, see [`shown`].

pub(crate) mod evict;
pub(crate) mod gc;
pub(crate) mod ls;
pub(crate) mod stat;

mod look;
mod process;
mod reason;
mod shown;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use annulus::ipc::{Directory, SegmentError};
use annulus::ring::EvictError;
use clap::Args;
use serde::Serialize;

/// Where to look.
#[derive(Args)]
struct Place {
    /// Look in this directory; by default what ANNULUS_DIR says, or /dev/shm/annulus
    #[arg(long = "dir", value_name = "PATH")]
    directory: Option<PathBuf>,
}

impl Place {
    fn directory(&self) -> Directory {
        self.directory
            .as_ref()
            .map_or_else(Directory::default, Directory::at)
    }
}

/// Why one of these commands did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    Directory(Directory, io::Error),
    /// A ring by its file, and why not.
    Ring(String, String),
    /// There is none of this name in the ring.
    NoConsumer {
        ring: String,
        member: String,
        there: Vec<String>,
    },
    /// It has been asked to leave, and has not done so yet; and whether its process is stopped.
    NoAnswer(EvictError, bool),
    /// The ring cannot be changed.
    Evict(String, EvictError),
    Output(io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Directory(..) | Self::Ring(..) | Self::NoConsumer { .. } | Self::Evict(..) => 2,
            Self::NoAnswer(..) | Self::Output(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory, error) => {
                let path = shown::path(directory);
                let whose = reason::of_directory(directory, error);
                write!(f, "the directory {path} cannot be read: {whose}")
            }
            Self::Ring(ring, why) => {
                write!(f, "ring {}: {}", shown::text(ring), shown::text(why))
            }
            Self::NoConsumer {
                ring,
                member,
                there,
            } => {
                let (ring, member) = (shown::text(ring), shown::text(member));
                write!(f, "ring {ring} has no consumer of the name \"{member}\"")?;
                let there: Vec<String> = there.iter().map(|name| format!("\"{name}\"")).collect();
                match there.is_empty() {
                    true => f.write_str(": it has none at all"),
                    false => write!(f, ": it has {}", shown::text(&there.join(", "))),
                }
            }
            Self::NoAnswer(error, is_stopped) => {
                f.write_str(&shown::text(&error.to_string()))?;
                let stopped = ". That process is stopped: let it go on, or end it";
                f.write_str(if *is_stopped { stopped } else { "" })
            }
            Self::Evict(ring, error) => {
                write!(
                    f,
                    "ring {}: {}",
                    shown::text(ring),
                    shown::text(&error.to_string())
                )
            }
            Self::Output(error) => write!(f, "the result could not be written: {error}"),
        }
    }
}

impl Failure {
    fn of_ring(directory: &Directory, name: &str, error: &SegmentError) -> Self {
        let why = reason::of_ring(directory, name, &error.cause);
        Self::Ring(error.ring.clone(), why)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The names of what is in a directory.
fn names(directory: &Directory) -> Result<Vec<String>, Failure> {
    let names = directory.names();
    names.map_err(|error| Failure::Directory(directory.clone(), error))
}

/// Writes a line of JSON, or text of whole lines. False if nobody listens any more: a reader that closes the pipe has
/// read all that it wanted.
fn print(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn print_json(value: &impl Serialize) -> Result<bool, Failure> {
    let line = serde_json::to_string(value).map_err(io::Error::from)?;
    print(&(shown::json(&line) + "\n"))
}

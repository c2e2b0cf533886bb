//! Why a ring or a directory cannot be had: whose it is, if that is the reason.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;

use annulus::ipc::{Cause, Directory};

/// Why the ring of this name is not to be had, for people who have asked for it by that name.
pub(super) fn of_ring(directory: &Directory, name: &str, cause: &Cause) -> String {
    let there = || fs::metadata(directory.as_path());
    match cause {
        Cause::NotFound => match there() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                "there is no such directory".to_owned()
            }
            _ => "there is no such ring: `annulus ls` lists those in its directory".to_owned(),
        },
        Cause::NotAllowed | Cause::Directory { .. } => {
            match fs::symlink_metadata(directory.as_path().join(name)) {
                Ok(file) => format!("it {}", closed(&file)),
                // The file is not to be seen: it is the directory that is closed.
                Err(_) => there().map_or_else(
                    |_| cause.to_string(),
                    |there| format!("its directory {}", closed(&there)),
                ),
            }
        }
        other => other.to_string(),
    }
}

/// Why a directory cannot be read.
pub(super) fn of_directory(directory: &Directory, error: &io::Error) -> String {
    match fs::metadata(directory.as_path()) {
        Ok(there) if error.kind() == ErrorKind::PermissionDenied => {
            format!("it {}", closed(&there))
        }
        _ => error.to_string(),
    }
}

fn closed(file: &Metadata) -> String {
    format!(
        "belongs to user {} and group {}, and its mode {:o} does not let this user do that",
        file.uid(),
        file.gid(),
        file.mode() & 0o7777
    )
}

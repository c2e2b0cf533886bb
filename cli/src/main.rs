//! The `annulus` command line.
#![forbid(unsafe_code)]

mod book;
mod cores;
mod demo;
mod generator;
mod lobster;
mod market;
mod pipeline;
mod report;
mod stages;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Moves events between threads at memory speed.
#[derive(Parser)]
#[command(name = "annulus", version, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example:
  annulus demo        replays a made-up market through three rings and reports what came of it";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Not `eprintln!`, which panics if nobody listens.
            let _ = writeln!(io::stderr(), "annulus: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

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
#[cfg(target_os = "linux")]
mod rings;
mod stages;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Moves events between threads and processes at memory speed.
#[derive(Parser)]
#[command(name = "annulus", version, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Examples:
  annulus demo                  replays a made-up market through three rings and reports what came of it
  annulus ls                    lists the rings that processes share
  annulus stat quotes           shows the members of one, and who holds it up
  annulus evict quotes screen   says what it would lose if it were taken out
  annulus gc                    says which of them nobody uses";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
    #[cfg(target_os = "linux")]
    Ls(rings::ls::Options),
    #[cfg(target_os = "linux")]
    Stat(rings::stat::Options),
    #[cfg(target_os = "linux")]
    Evict(rings::evict::Options),
    #[cfg(target_os = "linux")]
    Gc(rings::gc::Options),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(options) => ended(demo::run(&options), demo::Failure::exit_code),
        #[cfg(target_os = "linux")]
        Command::Ls(options) => ended(rings::ls::run(&options), rings::Failure::exit_code),
        #[cfg(target_os = "linux")]
        Command::Stat(options) => ended(rings::stat::run(&options), rings::Failure::exit_code),
        #[cfg(target_os = "linux")]
        Command::Evict(options) => ended(rings::evict::run(&options), rings::Failure::exit_code),
        #[cfg(target_os = "linux")]
        Command::Gc(options) => ended(rings::gc::run(&options), rings::Failure::exit_code),
    }
}

/// Says why a command has failed, if it has.
fn ended<F: fmt::Display>(outcome: Result<(), F>, exit_code: impl Fn(&F) -> u8) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Not `eprintln!`, which panics if nobody listens.
            let _ = writeln!(io::stderr(), "annulus: {failure}");
            ExitCode::from(exit_code(&failure))
        }
    }
}

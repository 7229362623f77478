//! `microtome`: arguments, progress bars, exit codes. Nothing here computes.

// They panic where nobody reads; `output` has what does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod commands;
mod doctor;
mod exit;
mod output;
mod screen;

use clap::Parser;
use microtome::Recycling;
use std::process::ExitCode;

/// Training takes and gives back hundreds of megabytes a step.
#[global_allocator]
static MEMORY: Recycling = Recycling;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    match commands::dispatch(arguments) {
        Ok(outcome) => outcome,
        Err(error) => exit::report(&error),
    }
}

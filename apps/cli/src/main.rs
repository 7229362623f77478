//! `microtome`: arguments, progress bars, exit codes. Nothing here computes.

mod arguments;
mod commands;
mod doctor;
mod exit;
mod screen;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    match commands::dispatch(arguments) {
        Ok(outcome) => outcome,
        Err(error) => exit::report(&error),
    }
}

//! Exit codes: whose fault it was.

use crate::output::tell;
use microtome::{Error, Fault};
use std::process::ExitCode;

/// The exit code of a fault; 0 is success.
fn code_of(fault: Fault) -> u8 {
    match fault {
        Fault::Bug => 1,
        Fault::Usage => 2,
        Fault::Input => 3,
        Fault::Limit => 4,
        Fault::Io => 5,
        // As shells give for a process that Ctrl-C ended.
        Fault::Cancelled => 130,
    }
}

/// Shows an error and gives its exit code.
pub(crate) fn report(error: &Error) -> ExitCode {
    match error.fault() {
        Fault::Cancelled => tell!("{error}"),
        Fault::Bug => tell!("error: {error}\n  help: this is a fault of microtome; please report it"),
        _ => tell!("error: {error}"),
    }
    ExitCode::from(code_of(error.fault()))
}

/// The exit code of a batch in which some pictures were skipped: that of the first one's error.
pub(crate) fn partial(first: &Error) -> ExitCode {
    ExitCode::from(code_of(first.fault()))
}

/// What the codes mean, for the help page.
pub(crate) const MEANINGS: &str = "Exit codes: 0 done · 2 the command or config is wrong · 3 a picture or file given \
is not what it should be (in a batch, the others are done) · 4 too large for the memory budget · 5 reading or writing \
failed · 130 stopped by Ctrl-C · 1 a fault of microtome";

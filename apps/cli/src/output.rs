//! What commands answer and tell: standard output and standard error, whose readers may have gone.

use microtome::{Error, Result};
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes to standard output. A reader that has seen enough, such as `head`, is no fault.
///
/// # Errors
/// `Io` when what stands behind standard output refuses.
pub(crate) fn answer(text: Arguments<'_>) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_fmt(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("writing to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Work goes on where nobody reads it.
pub(crate) fn remark(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `print!` to standard output, with an error where that panics.
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::answer(format_args!($($argument)*))? };
}
/// `println!` to standard output, with an error where that panics.
macro_rules! say_line {
    ($($argument:tt)*) => { $crate::output::answer(format_args!("{}\n", format_args!($($argument)*)))? };
}
/// `eprintln!`, and nothing where that panics.
macro_rules! tell {
    ($($argument:tt)*) => { $crate::output::remark(format_args!($($argument)*)) };
}
pub(crate) use {say, say_line, tell};

//! One error for the whole house, sorted by whose fault it is: exit codes, HTTP statuses and Python exceptions follow
//! from [`Fault`] mechanically.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with the house's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The command or the configuration asks for something that does not exist or does not fit together.
    Usage,
    /// A file that was given is not what it should be.
    Input,
    /// The work is sound, and larger than the budget allows.
    Limit,
    /// The operating system refused: disk full, no permission, device gone.
    Io,
    /// The user asked to stop; nothing is wrong.
    Cancelled,
    /// Microtome broke its own promise.
    Bug,
}

/// What went wrong, where, and what to do about it. Shown as `what: path` and a line of advice.
#[derive(Debug)]
pub struct Error {
    fault: Fault,
    what: String,
    path: Option<PathBuf>,
    advice: Option<String>,
}

impl Error {
    /// An error of the given fault; `what` is a clause without a full stop.
    pub fn new(fault: Fault, what: impl Into<String>) -> Self {
        Self { fault, what: what.into(), path: None, advice: None }
    }

    /// The command or configuration is at fault.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Fault::Usage, what)
    }

    /// A given file is at fault.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Fault::Input, what)
    }

    /// A budget is exceeded.
    pub fn limit(what: impl Into<String>) -> Self {
        Self::new(Fault::Limit, what)
    }

    /// The operating system refused `doing` something.
    pub fn io(doing: &str, error: &std::io::Error) -> Self {
        Self::new(Fault::Io, format!("{doing} failed ({error})"))
    }

    /// The user asked to stop; `what` says what was kept.
    pub fn cancelled(what: impl Into<String>) -> Self {
        Self::new(Fault::Cancelled, what)
    }

    /// Microtome broke its own promise.
    pub fn bug(what: impl Into<String>) -> Self {
        Self::new(Fault::Bug, what)
    }

    /// Names the file or folder it is about; the innermost name is kept.
    pub fn at(mut self, path: impl AsRef<Path>) -> Self {
        self.path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Says what to do about it; the innermost advice is kept.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.get_or_insert_with(|| advice.into());
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The file or folder it is about.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(path) = &self.path {
            write!(f, ": {}", path.display())?;
        }
        match &self.advice {
            Some(advice) => write!(f, "\n  help: {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_what_where_and_what_to_do() {
        let error = Error::input("not a PNG").at("a.png").at("outer").advise("open it in a viewer");
        assert_eq!(error.to_string(), "not a PNG: a.png\n  help: open it in a viewer");
        assert_eq!(error.fault(), Fault::Input);
    }
}

//! What a stage needs besides its inputs and its config: progress, cancellation, warnings, seed, memory budget.

use microtome_vault::{Budget, Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who shows how far the work is. All methods may be called from any thread.
pub trait Progress: Sync {
    /// A stage of `of` parts begins.
    fn begin(&self, stage: &str, of: usize);
    /// `done` parts of the stage are complete; `note` is what is worth showing beside the bar.
    fn advance(&self, done: usize, note: &str);
    /// The stage is over.
    fn end(&self);
    /// Something that is worth knowing and not fatal.
    fn warn(&self, warning: &str);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn end(&self) {}
    fn warn(&self, _: &str) {}
}

/// What every stage is given.
pub struct Context<'a> {
    /// Fixes everything that chance decides.
    pub seed: u64,
    /// How much memory a size read from a file may claim.
    pub budget: Budget,
    progress: &'a dyn Progress,
    cancelled: &'a AtomicBool,
    warnings: Mutex<Vec<String>>,
}

impl<'a> Context<'a> {
    /// A context whose stages stop soon after `cancelled` becomes true.
    pub fn new(seed: u64, budget: Budget, progress: &'a dyn Progress, cancelled: &'a AtomicBool) -> Self {
        Self { seed, budget, progress, cancelled, warnings: Mutex::default() }
    }

    /// Who shows how far the work is.
    pub fn progress(&self) -> &dyn Progress {
        self.progress
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `Cancelled` when the user asked to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.is_cancelled() {
            true => Err(Error::cancelled("stopped; what was done and written is kept")
                .advise("the same command does what is left")),
            false => Ok(()),
        }
    }

    /// Shows a warning and keeps it for the report.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        self.progress.warn(&warning);
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(warning);
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

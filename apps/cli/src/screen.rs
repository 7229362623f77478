//! Progress bars on a terminal, plain lines elsewhere.

use crate::output::tell;
use indicatif::{ProgressBar, ProgressStyle};
use microtome::context::Progress;
use std::sync::Mutex;

/// Shows progress on standard error.
pub(crate) struct Screen {
    bar: Mutex<Option<ProgressBar>>,
}

const TEMPLATE: &str = "{msg:>24} {wide_bar:.cyan/blue} {pos}/{len} {per_sec} {eta} left {prefix:.dim}";

impl Screen {
    pub(crate) fn new() -> Self {
        Self { bar: Mutex::new(None) }
    }

    fn with_bar(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Screen {
    fn begin(&self, stage: &str, of: usize) {
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(of as u64).with_style(style).with_message(stage.to_owned());
        if bar.is_hidden() {
            tell!("{stage}: {of} to do");
        }
        self.with_bar(|slot| *slot = Some(bar));
    }

    fn advance(&self, done: usize, note: &str) {
        self.with_bar(|slot| match slot {
            Some(bar) => {
                bar.set_prefix(note.to_owned());
                bar.set_position(done as u64);
            }
            None if !note.is_empty() => tell!("{note}"),
            None => {}
        });
    }

    fn end(&self) {
        self.with_bar(|slot| {
            if let Some(bar) = slot.take() {
                let (stage, seconds) = (bar.message(), bar.elapsed().as_secs_f64());
                let (done, note) = (bar.position(), bar.prefix());
                bar.finish_and_clear();
                tell!("{stage}: {done} in {seconds:.1} s  {note}");
            }
        });
    }

    fn warn(&self, warning: &str) {
        self.with_bar(|slot| match slot {
            Some(bar) => bar.suspend(|| tell!("warning: {warning}")),
            None => tell!("warning: {warning}"),
        });
    }
}

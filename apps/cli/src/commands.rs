//! One function a command: arguments in, the library's answer out.

mod demo;
mod slide;
mod tissue;

use crate::arguments::{Arguments, Commands, Common, Nuclei, Task};
use crate::output::{say, say_line, tell};
use crate::screen::Screen;
use crate::{doctor, exit};
use microtome::context::Context;
use microtome::metrics;
use microtome::nuclei::config::ConfigFile;
use microtome::nuclei::run::{self, Outcome, Request};
use microtome::nuclei::slide::segment::SlideRequest;
use microtome::{Budget, Error, MicronsPerPixel, Result, disk};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Largest config file that is read.
const LARGEST_CONFIG: Budget = Budget::of_bytes(1 << 20);

pub(crate) fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    if let Some(threads) = arguments.threads {
        microtome::system::use_threads(threads.into())?;
    }
    let budget = budget(arguments.memory_gib)?;
    match arguments.command {
        Commands::Demo { out } => demo::demo(&out, budget),
        Commands::Nuclei(command) => nuclei(command, budget),
        Commands::Project(command) => tissue::project(command, budget),
        Commands::Tissue(command) => tissue::tissue(command, budget),
        Commands::Evaluate { task: Task::Tissue, errors: Some(_), .. } => {
            Err(Error::usage("pictures of the errors are made of nuclei only"))
        }
        Commands::Evaluate { task: Task::Tissue, predicted, truth, truth_kind, json, errors: None } => {
            tissue::evaluate(&predicted, &truth, truth_kind, json)
        }
        Commands::Evaluate { task: Task::Nuclei, truth_kind: Some(_), .. } => {
            Err(Error::usage("--truth-kind is about masks of tissue")
                .advise("ask for them with --task tissue"))
        }
        Commands::Evaluate { task: Task::Nuclei, predicted, truth, truth_kind: None, json, errors } => {
            evaluate(&predicted, &truth, json, errors.as_deref(), budget)
        }
        Commands::Slide(command) => slide::slide(command, budget),
        Commands::Doctor => {
            say!("{}", doctor::findings());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn nuclei(command: Nuclei, budget: Budget) -> Result<ExitCode> {
    match command {
        Nuclei::Run { pictures, out, method, common, slides, values } => {
            let request =
                Request { slides: slides.request()?, ..request(&pictures, method, &common, values.0)? };
            let outcome = with_context(common.seed, budget, |context| run::run(&request, &out, context))?;
            conclude(&outcome)
        }
        Nuclei::Train { pictures, model, method, common, values } => {
            let request = request(&pictures, method, &common, values.0)?;
            let outcome = with_context(common.seed, budget, |context| run::train(&request, &model, context))?;
            say_line!("learned from {}, model in {}", pictures_in_words(outcome.pictures), model.display());
            conclude(&outcome)
        }
        Nuclei::Segment { pictures, model, out, mpp, own, slides } => {
            let common = Common { seed: 0, mpp, config: None, own };
            let request =
                Request { slides: slides.request()?, ..request(&pictures, None, &common, Vec::new())? };
            let outcome = with_context(0, budget, |context| run::segment(&request, &model, &out, context))?;
            conclude(&outcome)
        }
        Nuclei::Config => {
            say!("{}", ConfigFile::commented());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Warnings that are shown in full, of all pictures together.
const SHOWN_WARNINGS: usize = 5;

/// Says what was done and where to look; the exit code says whether pictures were skipped.
fn conclude(outcome: &Outcome) -> Result<ExitCode> {
    for warning in outcome.warnings.iter().take(SHOWN_WARNINGS) {
        tell!("warning: {warning}");
    }
    if let Some(more @ 1..) = outcome.warnings.len().checked_sub(SHOWN_WARNINGS) {
        tell!("and {more} more warnings, which are in the report");
    }
    if let Some(report) = &outcome.report {
        say_line!("{} nuclei in {}", outcome.nuclei, pictures_in_words(outcome.pictures));
        say_line!("look at {}", report.display());
    }
    Ok(match outcome.skipped.first() {
        None => ExitCode::SUCCESS,
        Some(first) => {
            tell!("skipped: {} (see the warnings above)", pictures_in_words(outcome.skipped.len()));
            exit::partial(&first.error)
        }
    })
}

fn pictures_in_words(count: usize) -> String {
    if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") }
}

fn request(
    pictures: &[PathBuf],
    method: Option<String>,
    common: &Common,
    mut values: Vec<(String, String)>,
) -> Result<Request> {
    let text = match &common.config {
        None => String::new(),
        Some(path) => {
            let bytes = disk::read_file_bounded(path, LARGEST_CONFIG)?;
            String::from_utf8(bytes).map_err(|_| Error::usage("the config is not text").at(path))?
        }
    };
    values.extend(method.map(|method| ("method".to_owned(), format!("\"{}\"", method.replace('"', "")))));
    let config = ConfigFile::read(&text, &values).map_err(|error| match &common.config {
        // Not where the flags alone are wrong.
        Some(path) if ConfigFile::read(&text, &[]).is_err() => error.at(path),
        _ => error,
    })?;
    for (key, _) in &values {
        if let Some(other) = method_of_others(key, config.method.name()) {
            let flag = key.replace(['.', '_'], "-");
            tell!("warning: --{flag} is for --method {other}, and changes nothing here");
        }
    }
    Ok(Request {
        pictures: expand(pictures)?,
        mpp: common.mpp.map(MicronsPerPixel::new).transpose()?,
        tissue: common.own.tissue_mask.clone(),
        config,
        slides: SlideRequest::default(),
        command: command_line(),
    })
}

/// The method that a key is for, if it is for one alone and that is not the one that is used.
fn method_of_others<'a>(key: &'a str, used: &str) -> Option<&'a str> {
    let (section, _) = key.split_once('.')?;
    (matches!(section, "contrastive" | "best") && section != used).then_some(section)
}

/// The command line as it was given, for the record.
fn command_line() -> String {
    let quote = |word: String| if word.contains(char::is_whitespace) { format!("\"{word}\"") } else { word };
    let words = std::env::args_os().skip(1).map(|word| quote(word.to_string_lossy().into_owned()));
    std::iter::once("microtome".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Globs become the files they match; names that exist are taken as they are, whatever characters they hold.
fn expand(pictures: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in pictures {
        let pattern = path.to_str().filter(|text| text.contains(['*', '?', '[']) && !path.exists());
        let Some(picture) = pattern else {
            paths.push(path.clone());
            continue;
        };
        let matches = glob::glob(picture)
            .map_err(|error| Error::usage(format!("“{picture}” is not a pattern of file names ({error})")))?;
        let before = paths.len();
        paths.extend(matches.flatten().filter(|path| path.is_file()));
        if paths.len() == before {
            return Err(Error::input(format!("no file matches “{picture}”")));
        }
    }
    Ok(paths)
}

fn budget(memory_gib: f64) -> Result<Budget> {
    match memory_gib.is_finite() && (0.001..=1e6).contains(&memory_gib) {
        true => Ok(Budget::of_bytes((memory_gib * f64::from(1 << 30)) as u64)),
        false => Err(Error::usage("--memory-gib must be a number of GiB, such as 8")),
    }
}

/// Runs `work` with progress on the screen; Ctrl-C stops it cleanly, a second one at once.
fn with_context<T>(seed: u64, budget: Budget, work: impl FnOnce(&Context<'_>) -> Result<T>) -> Result<T> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&cancelled);
    let handler = ctrlc::set_handler(move || {
        if on_signal.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        tell!("stopping; what is finished is kept (Ctrl-C again to stop at once)");
    });
    let screen = Screen::new();
    let context = Context::new(seed, budget, &screen, &cancelled);
    if let Err(error) = handler {
        context.warn(format!("Ctrl-C will end the program at once, not cleanly ({error})"));
    }
    work(&context)
}

fn evaluate(
    predicted: &Path,
    truth: &Path,
    json: bool,
    errors: Option<&Path>,
    budget: Budget,
) -> Result<ExitCode> {
    let pairs = microtome::truth::pair(predicted, truth)?;
    let evaluation = metrics::evaluate(&pairs)?;
    let oracle = metrics::oracle::of_run(predicted, &pairs, budget)?;
    if json {
        say_line!("{}", metrics::json::to_json(&evaluation, oracle.as_ref())?);
    } else {
        say!("{}", metrics::table::table(&evaluation));
        say!("{}", oracle.map_or(String::new(), |oracle| oracle.to_text()));
    }
    if let Some(folder) = errors {
        metrics::error_picture::write_all(predicted, &pairs, folder, budget)?;
        tell!("pictures of the errors are in {}", folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

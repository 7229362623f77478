//! `cargo xtask check`: the rules of the house that the compiler does not know.
//!
//! Each check is one file and one plain function of text, so that its tests need no disk. It says what it looked at and
//! how many, and fails when that is implausibly few: a check that looks at nothing passes for ever.
//!
//! Reading order: [`floors`] (which crate may depend on what), [`source`] (Rust text with comments and strings told
//! apart), [`walls`] (rules on source), [`licences`], [`links`].

mod files;
mod floors;
mod licences;
mod links;
mod outcome;
mod source;
mod walls;

use outcome::Outcome;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check(),
        _ => {
            eprintln!("usage: cargo xtask check");
            ExitCode::from(2)
        }
    }
}

/// Runs every check, cheapest first, and shows all faults of all of them.
fn check() -> ExitCode {
    let Some(root) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() else {
        eprintln!("error: xtask does not lie in the workspace");
        return ExitCode::FAILURE;
    };
    let mut outcomes = vec![floors::check(root)];
    outcomes.extend(walls::check(root));
    outcomes.push(links::check(root));
    outcomes.push(licences::check(root));
    for outcome in &outcomes {
        show(outcome);
    }
    match outcomes.iter().map(|outcome| outcome.faults.len()).sum::<usize>() {
        0 => ExitCode::SUCCESS,
        faults => {
            eprintln!("{faults} faults");
            ExitCode::FAILURE
        }
    }
}

fn show(outcome: &Outcome) {
    let verdict = if outcome.faults.is_empty() { "ok" } else { "FAILED" };
    println!("{:<18} {verdict:<6} {}", outcome.check, outcome.looked_at);
    for fault in &outcome.faults {
        println!("    {fault}");
    }
}

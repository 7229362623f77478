//! Rules on source: the truth wall, where `unsafe` may be, who prints, and that every allowance says why.

use crate::files::with_extension;
use crate::outcome::Outcome;
use crate::source::Source;
use std::path::Path;

/// Folders behind the truth wall: nothing there may reach what people drew, or scores made with it.
const BEHIND_THE_WALL: [&str; 4] = [
    "crates/microtome/src/nuclei/",
    "crates/microtome/src/tissue/",
    "crates/microtome/src/project/",
    "crates/nets/",
];
/// What leads to truth.
const TRUTH: [&str; 4] = ["truth", "metrics", "Truth", "ScoringKey"];
/// Where `unsafe` may be: vector registers and the allocator, and calls of a library in C.
const UNSAFE_MAY_BE_IN: [&str; 2] = ["crates/kernels/", "crates/slide/src/slide/openslide.rs"];
/// Macros that write to the terminal. Libraries report through the context that they are given.
const PRINTING: [&str; 5] = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];

/// A rule: which files it concerns, and what it finds in one of them.
struct Rule {
    check: &'static str,
    /// Files that a healthy house has, at least.
    fewest: usize,
    concerns: fn(&str) -> bool,
    faults: fn(&Source) -> Vec<String>,
}

const RULES: [Rule; 4] = [
    Rule { check: "truth wall", fewest: 60, concerns: is_behind_the_wall, faults: truth_faults },
    Rule { check: "unsafe", fewest: 100, concerns: must_be_safe, faults: unsafe_faults },
    Rule { check: "printing", fewest: 80, concerns: is_library, faults: printing_faults },
    Rule { check: "allowances", fewest: 120, concerns: |_| true, faults: allowance_faults },
];

/// Holds every rule against the source of the whole repository.
pub(crate) fn check(root: &Path) -> Vec<Outcome> {
    let files = with_extension(root, "rs");
    let sources: Vec<Source> = files.iter().map(|file| Source::new(&file.path, &file.text)).collect();
    RULES.iter().map(|rule| rule.outcome(&sources)).collect()
}

impl Rule {
    fn outcome(&self, sources: &[Source]) -> Outcome {
        let concerned: Vec<&Source> = sources.iter().filter(|source| (self.concerns)(&source.path)).collect();
        let faults = concerned.iter().flat_map(|source| (self.faults)(source)).collect();
        Outcome::new(self.check, concerned.len(), self.fewest, "source files", faults)
    }
}

fn must_be_safe(path: &str) -> bool {
    !UNSAFE_MAY_BE_IN.iter().any(|place| path.starts_with(place))
}

fn is_behind_the_wall(path: &str) -> bool {
    BEHIND_THE_WALL.iter().any(|folder| path.starts_with(folder))
}

fn is_library(path: &str) -> bool {
    path.starts_with("crates/") && path.split('/').nth(2) == Some("src")
}

fn truth_faults(source: &Source) -> Vec<String> {
    let fault = |(number, word)| format!("{}:{number}: {word} is behind the truth wall", source.path);
    source.lines_with_word(&TRUTH).into_iter().map(fault).collect()
}

fn unsafe_faults(source: &Source) -> Vec<String> {
    let fault =
        |(number, _)| format!("{}:{number}: unsafe outside {}", source.path, UNSAFE_MAY_BE_IN.join(" and "));
    source.lines_with_word(&["unsafe"]).into_iter().map(fault).collect()
}

fn printing_faults(source: &Source) -> Vec<String> {
    let prints = |(_, code): &(usize, &str)| PRINTING.iter().any(|name| has_macro(code, name));
    let fault =
        |(number, _)| format!("{}:{number}: a library prints; use the context it is given", source.path);
    source.code().filter(prints).map(fault).collect()
}

/// Whether `name` stands in the code, not as the end of a longer name.
fn has_macro(code: &str, name: &str) -> bool {
    let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(name).any(|(at, _)| begins(at))
}

fn allowance_faults(source: &Source) -> Vec<String> {
    let is_allowance = |code: &str| {
        let code = code.trim_start();
        ["#[allow(", "#![allow(", "#[expect(", "#![expect("]
            .iter()
            .any(|attribute| code.starts_with(attribute))
    };
    let unexplained = |(number, code): &(usize, &str)| {
        is_allowance(code) && !source.has_comment(*number) && !source.has_comment(number.saturating_sub(1))
    };
    let fault = |(number, _)| {
        format!("{}:{number}: say why in a comment on this line or the one before", source.path)
    };
    source.code().filter(unexplained).map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("crates/nets/src/a.rs", text)
    }

    #[test]
    fn truth_is_found_in_code_and_not_in_prose() {
        assert_eq!(truth_faults(&source("use crate::truth::Pair;\nuse crate::{metrics, nuclei};")).len(), 2);
        assert!(
            truth_faults(&source("// without truth::\nlet s = \"metrics::\"; let truthful = 1;")).is_empty()
        );
        assert!(
            is_behind_the_wall("crates/nets/src/a.rs")
                && !is_behind_the_wall("crates/microtome/src/truth/a.rs")
        );
    }

    #[test]
    fn unsafe_is_found_in_code_only() {
        assert_eq!(
            unsafe_faults(&source("fn f() { unsafe { g() } }")),
            [
                "crates/nets/src/a.rs:1: unsafe outside crates/kernels/ and crates/slide/src/slide/openslide.rs"
            ]
        );
        assert!(unsafe_faults(&source("#![deny(unsafe_code)] // unsafe")).is_empty());
    }

    #[test]
    fn libraries_do_not_print() {
        assert_eq!(printing_faults(&source("println!(\"a\");\nlet x = dbg!(1);")).len(), 2);
        assert!(printing_faults(&source("/// println!(\"a\")\nfn print() {} my_print!(2);")).is_empty());
        assert!(is_library("crates/nets/src/a.rs"));
        assert!(!is_library("crates/nets/tests/a.rs") && !is_library("apps/cli/src/main.rs"));
    }

    #[test]
    fn allowances_say_why() {
        assert_eq!(allowance_faults(&source("fn f() {}\n#[allow(dead_code)]\nfn g() {}")).len(), 1);
        assert!(allowance_faults(&source("#[allow(dead_code)] // Used by one test.")).is_empty());
        assert!(allowance_faults(&source("// Used by one test.\n#![allow(dead_code)]")).is_empty());
    }
}

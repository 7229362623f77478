//! The licences of everything that is linked into the programs, on Linux, with any features: permissive ones only.

use crate::outcome::Outcome;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Licences that ask for no more than to be named (SPDX identifiers).
const PERMISSIVE: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Packages that are taken all the same: name, licence as the package states it, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "colored",
        "MPL-2.0",
        "comes with burn-tensor; the MPL asks to publish changes to its own files, and we make none",
    ),
    ("buildid", "MPL-2.0", "comes with cubecl, for graphics cards only; as above"),
    ("option-ext", "MPL-2.0", "runs while the feature cuda is built, and is in no program; as above"),
    (
        "webpki-roots",
        "CDLA-Permissive-2.0",
        "certificates that the build of the feature cuda downloads with; asks to be named, and is in no program",
    ),
];

/// The platform whose packages are looked at.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Fewest packages that a healthy house is built of.
const FEWEST: usize = 100;

/// Asks cargo for all packages that are linked or run at build time, and looks at their licences.
pub(crate) fn check(root: &Path) -> Outcome {
    let arguments = [
        "tree",
        "--workspace",
        "--all-features",
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--target",
        TARGET,
    ];
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(cargo).args(arguments).args(["--format", "{p}|{l}"]).current_dir(root).output();
    match run {
        Ok(run) if run.status.success() => {
            let packages = packages(&String::from_utf8_lossy(&run.stdout));
            Outcome::new("licences", packages.len(), FEWEST, "packages", faults(&packages))
        }
        Ok(run) => Outcome::impossible("licences", String::from_utf8_lossy(&run.stderr).trim().to_owned()),
        Err(error) => Outcome::impossible("licences", format!("cargo tree cannot be run ({error})")),
    }
}

/// Packages and their licences, each version for itself, of lines such as `serde v1.0.228 (proc-macro)|MIT OR Apache-2.0 (*)`.
fn packages(tree: &str) -> BTreeSet<(String, String)> {
    let package = |line: &str| {
        let (package, licence) = line.rsplit_once('|')?;
        let name = package.split_whitespace().next()?;
        Some((name.to_owned(), licence.trim_end_matches("(*)").trim().to_owned()))
    };
    tree.lines().filter_map(package).collect()
}

fn faults(packages: &BTreeSet<(String, String)>) -> Vec<String> {
    let is_excepted =
        |name: &str, licence: &str| EXCEPTIONS.iter().any(|(n, l, _)| *n == name && *l == licence);
    let refused =
        packages.iter().filter(|(name, licence)| !is_permissive(licence) && !is_excepted(name, licence));
    let stale = EXCEPTIONS.iter().filter(|(name, ..)| packages.iter().all(|(used, _)| used != name));
    let refused =
        refused.map(|(name, licence)| format!("{name}: its licence is “{licence}”, which is not permissive"));
    let stale = stale.map(|(name, ..)| format!("{name}: has an exception and is not used any more"));
    refused.chain(stale).collect()
}

/// Whether an SPDX expression can be met by permissive licences alone. `/` is the older way to write OR.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = Words { words: spaced.split_whitespace().collect(), next: 0 };
    let answer = any(&mut words);
    answer.unwrap_or(false) && words.next == words.words.len()
}

/// The words of an expression, and which comes next.
struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    fn take(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next).copied();
        self.next += 1;
        word
    }

    fn take_if(&mut self, wanted: &str) -> bool {
        let is_next = self.words.get(self.next) == Some(&wanted);
        self.next += usize::from(is_next);
        is_next
    }
}

/// `all OR all OR …`: none for what is no expression.
fn any(words: &mut Words) -> Option<bool> {
    let mut answer = all(words)?;
    while words.take_if("OR") {
        answer |= all(words)?;
    }
    Some(answer)
}

/// `one AND one AND …`
fn all(words: &mut Words) -> Option<bool> {
    let mut answer = one(words)?;
    while words.take_if("AND") {
        answer &= one(words)?;
    }
    Some(answer)
}

/// A licence, one with an exception, or an expression in brackets.
fn one(words: &mut Words) -> Option<bool> {
    let word = words.take()?;
    if word == "(" {
        let answer = any(words)?;
        return words.take_if(")").then_some(answer);
    }
    if !words.take_if("WITH") {
        return Some(PERMISSIVE.contains(&word));
    }
    let with = format!("{word} WITH {}", words.take()?);
    Some(PERMISSIVE.contains(&with.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_or_not() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0-only",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "GPL-3.0 AND MIT OR ISC",
        ] {
            assert!(is_permissive(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MPL-2.0",
            "MIT AND MPL-2.0",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "Apache-2.0 WITH Classpath-exception-2.0",
            "GPL-2.0 AND (MIT OR ISC)",
        ] {
            assert!(!is_permissive(bad), "{bad}");
        }
    }

    #[test]
    fn lines_of_cargo_tree_are_read() {
        let found = packages("a v1.0.0 (proc-macro)|MIT OR Apache-2.0 (*)\nb v2.0.0|\n\nb v2.0.0| (*)\n");
        assert_eq!(found.len(), 2);
        assert!(found.contains(&("a".to_owned(), "MIT OR Apache-2.0".to_owned())));
        assert!(found.contains(&("b".to_owned(), String::new())));
    }

    #[test]
    fn exceptions_hold_for_one_licence_and_do_not_outlive_their_package() {
        let mut all: BTreeSet<(String, String)> =
            EXCEPTIONS.iter().map(|(name, licence, _)| ((*name).to_owned(), (*licence).to_owned())).collect();
        assert!(faults(&all).is_empty());
        all.insert(("colored".to_owned(), "GPL-3.0".to_owned()));
        assert_eq!(faults(&all).len(), 1);
        assert!(faults(&BTreeSet::new())[0].contains("not used any more"));
    }
}

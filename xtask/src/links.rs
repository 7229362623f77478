//! Links of the documents lead to files that are there.

use crate::files::{TextFile, with_extension};
use crate::outcome::Outcome;
use std::path::Path;

/// Fewest documents, and fewest links to files among them, that a healthy house has.
const FEWEST_DOCUMENTS: usize = 9;
const FEWEST_LINKS: usize = 15;

/// Follows every link of every document.
pub(crate) fn check(root: &Path) -> Outcome {
    let documents = with_extension(root, "md");
    let links: Vec<Link> = documents.iter().flat_map(links_of).collect();
    let is_dead = |link: &&Link| link.file.as_ref().is_none_or(|file| !root.join(file).exists());
    let fault = |link: &Link| format!("{}:{}: there is no {}", link.document, link.line, link.target);
    let mut faults: Vec<String> = links.iter().filter(is_dead).map(fault).collect();
    if links.len() < FEWEST_LINKS {
        faults
            .push(format!("only {} links were found, there should be {FEWEST_LINKS} at least", links.len()));
    }
    let things = format!("documents, {} links to files", links.len());
    Outcome::new("links", documents.len(), FEWEST_DOCUMENTS, &things, faults)
}

/// A link to a file.
#[derive(Debug, PartialEq)]
struct Link {
    document: String,
    line: usize,
    /// As it is written.
    target: String,
    /// From the repository's root; none if it leads out of the repository.
    file: Option<String>,
}

fn links_of(document: &TextFile) -> Vec<Link> {
    let mut in_fence = false;
    let mut links = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            let found = targets(&without_code(line)).into_iter().filter(|target| is_file(target));
            links.extend(found.map(|target| Link {
                document: document.path.clone(),
                line: index + 1,
                file: resolved(&document.path, &target),
                target,
            }));
        }
    }
    links
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// Targets of `[text](target)`, `[name]: target` and `src="target"`.
fn targets(line: &str) -> Vec<String> {
    let until = |text: &str, ends: &[char]| text.split(ends).next().unwrap_or_default().to_owned();
    let mut found: Vec<String> = line.split("](").skip(1).map(|rest| until(rest, &[')', ' '])).collect();
    found.extend(line.split("src=\"").skip(1).map(|rest| until(rest, &['"'])));
    let definition = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    found.extend(definition.map(|(_, target)| until(target.trim_start(), &[' '])));
    found
}

fn is_file(target: &str) -> bool {
    !target.is_empty()
        && !target.starts_with('#')
        && !target.contains("://")
        && !target.starts_with("mailto:")
}

/// `target` as seen from the folder of `document`, from the repository's root.
fn resolved(document: &str, target: &str) -> Option<String> {
    let file = target.split('#').next().unwrap_or_default();
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &str, text: &str) -> Vec<Option<String>> {
        let document = TextFile { path: path.to_owned(), text: text.to_owned() };
        links_of(&document).into_iter().map(|link| link.file).collect()
    }

    #[test]
    fn links_are_found_and_resolved() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            files("README.md", "[a](docs/a.md#part), ![b](b.png \"B\")"),
            [some("docs/a.md"), some("b.png")]
        );
        assert_eq!(files("docs/a.md", "[up](../README.md) [out](../../x.md)"), [some("README.md"), None]);
        assert_eq!(
            files("a.md", "<img src=\"docs/x.png\">\n[ref]: docs/y.md"),
            [some("docs/x.png"), some("docs/y.md")]
        );
    }

    #[test]
    fn addresses_anchors_and_code_are_passed_over() {
        let text = "[a](https://example.org) [b](#part) `[c](d.md)`\n```\n[e](f.md)\n```\n[g](mailto:a@b.c)";
        assert!(files("README.md", text).is_empty());
    }
}

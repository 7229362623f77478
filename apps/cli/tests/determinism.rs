//! The same pictures, values and seed give the same bytes, on any number of threads.

mod common;

use common::{BEST, CONTRASTIVE, IMAGES, STAIN, assert_same_findings, findings_of, run_of, succeed};

/// Runs a method twice with other numbers of threads, and with another seed.
fn check(values: &[&str], learns: bool) {
    let folder = tempfile::tempdir().unwrap();
    let run = |out, more: &[&str]| {
        succeed(folder.path(), &[&run_of(IMAGES, out, values), more].concat());
        folder.path().join(out)
    };
    let first = run("first", &["--threads", "1", "--seed", "5"]);
    assert_same_findings(&first, &run("again", &["--threads", "1", "--seed", "5"]));
    assert_same_findings(&first, &run("three", &["--threads", "3", "--seed", "5"]));
    if learns {
        let other = run("other", &["--seed", "6"]);
        let model = |out| findings_of(out).remove(std::path::Path::new("model.safetensors")).unwrap();
        assert!(model(&first) != model(&other), "the seed does nothing");
    }
}

#[test]
fn stain_is_deterministic() {
    check(&STAIN, false);
}

#[test]
fn best_is_deterministic() {
    check(&BEST, true);
}

#[test]
fn contrastive_is_deterministic() {
    check(&CONTRASTIVE, true);
}

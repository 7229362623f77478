//! Stopped or killed anywhere, the same command goes on to the same bytes.

#![cfg(unix)]
#![allow(clippy::disallowed_methods)] // Files are lost on purpose.

mod common;

use common::{
    IMAGES, STAIN, Working, assert_same_findings, files_below, findings_of, refuse, run_of, succeed,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The paper's method, long enough to be stopped.
fn contrastive(epochs: &str) -> [&str; 8] {
    let mut values = common::CONTRASTIVE;
    values[3] = epochs;
    values
}

/// Waits until a folder holds a finished file of that extension.
fn await_file_in(folder: &Path, extension: &str) {
    let is_finished = |path: PathBuf| {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !is_hidden && path.extension().is_some_and(|found| found == extension)
    };
    let begun = Instant::now();
    while !std::fs::read_dir(folder)
        .is_ok_and(|mut files| files.any(|file| is_finished(file.unwrap().path())))
    {
        assert!(begun.elapsed() < PATIENCE, "no .{extension} in {folder:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a run in `OUT`, and signals it as soon as `OUT/.microtome/PART` holds a file; returns its exit code.
fn interrupt(folder: &Path, values: &[&str], (part, extension): (&str, &str), signal: &str) -> Option<i32> {
    let mut working = Working::start(folder, &run_of(IMAGES, "out", values));
    await_file_in(&folder.join("out/.microtome").join(part), extension);
    let sent = Command::new("kill").args([signal, &working.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
    working.0.wait().unwrap().code()
}

/// Goes on with what was interrupted, and holds it against a run that never was.
fn go_on(folder: &Path, values: &[&str]) -> String {
    assert!(!folder.join("out/report.html").exists(), "it was stopped too late");
    let ended = succeed(folder, &run_of(IMAGES, "out", values));
    succeed(folder, &run_of(IMAGES, "unbroken", values));
    assert_same_findings(&folder.join("out"), &folder.join("unbroken"));
    let left = files_below(&folder.join("out"));
    assert!(!left.keys().any(|path| path.to_string_lossy().contains(".tmp-")), "{:?}", left.keys());
    assert!(!folder.join("out/.microtome/training").exists());
    ended.stderr
}

const CHECKPOINT: (&str, &str) = ("training", "safetensors");
const PICTURE: (&str, &str) = ("pictures", "json");

#[test]
fn a_training_that_ctrl_c_stopped_goes_on() {
    let (folder, values) = (tempfile::tempdir().unwrap(), contrastive("5"));
    assert_eq!(interrupt(folder.path(), &values, CHECKPOINT, "-INT"), Some(130));
    let stderr = go_on(folder.path(), &values);
    assert!(stderr.contains("going on after epoch"), "{stderr}");
}

#[test]
fn a_training_that_was_killed_goes_on() {
    let (folder, values) = (tempfile::tempdir().unwrap(), contrastive("5"));
    assert_eq!(interrupt(folder.path(), &values, CHECKPOINT, "-KILL"), None);
    let stderr = go_on(folder.path(), &values);
    assert!(stderr.contains("going on after epoch"), "{stderr}");
}

#[test]
fn a_segmentation_that_was_stopped_or_killed_goes_on() {
    let values = [&STAIN[..], &["--threads", "1"]].concat();
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(interrupt(folder.path(), &values, PICTURE, signal), code);
        go_on(folder.path(), &values);
    }
}

#[test]
fn a_finished_run_repeated_changes_nothing_and_restores_what_was_lost() {
    let (folder, values) = (tempfile::tempdir().unwrap(), contrastive("1"));
    let (out, arguments) = (folder.path().join("out"), run_of(IMAGES, "out", &values));
    let first = succeed(folder.path(), &arguments);
    let findings = findings_of(&out);
    let whole = files_below(&out);
    let again = succeed(folder.path(), &arguments);
    assert!(findings == findings_of(&out) && first.stdout == again.stdout);
    for file in ["run.json", "report.html", "nuclei.csv"] {
        assert!(whole[Path::new(file)] == files_below(&out)[Path::new(file)], "{file} tells of the work");
    }
    for lost in ["labels/0121d675.png", "geojson/4d14a362.geojson", "overlays/65c8527c.png", "nuclei.csv"] {
        std::fs::remove_file(out.join(lost)).unwrap();
    }
    std::fs::remove_dir_all(out.join("confidence")).unwrap();
    succeed(folder.path(), &arguments);
    assert!(findings == findings_of(&out));
    std::fs::remove_file(out.join("model.safetensors")).unwrap();
    succeed(folder.path(), &arguments);
    assert!(findings == findings_of(&out), "the same model is trained again");
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let (folder, values) = (tempfile::tempdir().unwrap(), contrastive("100000"));
    let arguments = run_of(IMAGES, "out", &values);
    let _working = Working::start(folder.path(), &arguments);
    await_file_in(&folder.path().join("out/.microtome/training"), "safetensors");
    let ended = common::microtome(folder.path(), &arguments);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("in use by method contrastive, 6 pictures"), "{ended:?}");
}

#[test]
fn a_folder_of_another_run_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &run_of(IMAGES, "out", &STAIN));
    let one_picture = format!("{IMAGES}/0121d675.png");
    let others = [
        run_of(IMAGES, "out", &contrastive("1")),
        run_of(IMAGES, "out", &["--method", "stain", "--seed", "2"]),
        run_of(IMAGES, "out", &["--method", "stain", "--mpp", "0.25"]),
        run_of(IMAGES, "out", &["--method", "stain", "--instances-threshold", "0.6"]),
        run_of(&one_picture, "out", &STAIN),
    ];
    for other in others {
        refuse(folder.path(), &other, 2, &["holds another run (method stain, 6 pictures", ": out", "--out"]);
    }
}

//! `evaluate`: scores, the oracle, drawn errors, and truths that do not fit.

mod common;

use common::{BEST, CONTRASTIVE, IMAGES, NAMES, STAIN, TRUTH, VAST_PNG, put, refuse, run_of, succeed};
use std::path::Path;

/// Means of the classical method on the bundled pictures, less two hundredths: below these something broke.
const STAIN_FLOORS: [(&str, f64); 7] =
    [("dice", 0.78), ("iou", 0.65), ("aji", 0.37), ("pq", 0.36), ("dq", 0.50), ("sq", 0.70), ("f1", 0.50)];

fn stain_run() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &run_of(IMAGES, "out", &STAIN));
    folder
}

fn json_of(folder: &Path, predicted: &str) -> serde_json::Value {
    let ended = succeed(folder, &["evaluate", "--predicted", predicted, "--truth", TRUTH, "--json"]);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn stain_keeps_its_scores() {
    let folder = stain_run();
    let scores = json_of(folder.path(), "out");
    for (metric, floor) in STAIN_FLOORS {
        let [low, mean, high] = ["low", "mean", "high"].map(|key| scores[metric][key].as_f64().unwrap());
        assert!(floor <= mean && mean <= 1.0, "{metric} is {mean}");
        assert!(0.0 <= low && low <= mean && mean <= high && high <= 1.0, "{metric}: {}", scores[metric]);
    }
    let pictures = scores["pictures"].as_array().unwrap();
    let names: Vec<&str> = pictures.iter().map(|picture| picture["name"].as_str().unwrap()).collect();
    assert_eq!(names, NAMES);
    assert!(scores["oracle"].is_null());
    assert_eq!(scores, json_of(folder.path(), "out/labels"), "the folder of label maps is as good");
}

#[test]
fn truth_against_itself_is_perfect() {
    let folder = tempfile::tempdir().unwrap();
    let scores = json_of(folder.path(), TRUTH);
    for (metric, _) in STAIN_FLOORS {
        assert_eq!(scores[metric]["low"], 1.0, "{metric}");
    }
}

#[test]
fn the_table_names_pictures_and_metrics() {
    let folder = stain_run();
    let arguments = ["evaluate", "--predicted", "out", "--truth", TRUTH];
    let table = succeed(folder.path(), &arguments).stdout;
    for word in NAMES.iter().chain(&["Dice", "IoU", "AJI", "PQ", "DQ", "SQ", "F1", "95 % interval"]) {
        assert!(table.contains(word), "{word} in {table}");
    }
    assert!(!table.contains("oracle"));
    let before = common::files_below(folder.path());
    let ended = succeed(folder.path(), &[&arguments[..], &["--errors", "errors"]].concat());
    assert!(ended.stdout == table && ended.stderr.contains("errors"), "{ended:?}");
    for name in NAMES {
        let drawn = image::open(folder.path().join(format!("errors/{name}.png"))).unwrap();
        assert_eq!((drawn.width(), drawn.height()), (320, 256));
    }
    assert_eq!(common::files_below(folder.path()).len(), before.len() + 7, "the run is left alone");
}

#[test]
fn the_oracle_stands_beside_our_choice_for_contrastive_runs_only() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &run_of(IMAGES, "out", &CONTRASTIVE));
    let table = succeed(folder.path(), &["evaluate", "--predicted", "out", "--truth", TRUTH]).stdout;
    assert!(
        table.contains("ours, chosen without truth") && table.contains("the oracle's, with truth"),
        "{table}"
    );
    let scores = json_of(folder.path(), "out");
    let [ours, oracle] = ["ours", "oracle"].map(|who| scores["oracle"][who]["dice"].as_f64().unwrap());
    assert!(0.0 < ours && ours <= oracle && oracle <= 1.0, "{ours} and {oracle}");
    succeed(folder.path(), &run_of(IMAGES, "best", &BEST));
    assert!(json_of(folder.path(), "best")["oracle"].is_null());
}

#[test]
fn truths_that_do_not_fit_are_named() {
    let folder = stain_run();
    let path = folder.path();
    let evaluate = |truth| ["evaluate", "--predicted", "out", "--truth", truth];
    for name in NAMES {
        let truth = std::fs::read(Path::new(TRUTH).join(format!("{name}.png"))).unwrap();
        let folders: &[&str] =
            if name == "a5fe0b74" { &["sizes", "vast", "text"] } else { &["sizes", "vast", "text", "fewer"] };
        folders.iter().for_each(|folder| put(path, format!("{folder}/{name}.png"), &truth));
    }
    refuse(path, &evaluate("fewer"), 3, &["without truth: a5fe0b74"]);
    put(path, "fewer/a5fe0b74.png", std::fs::read(path.join("sizes/a5fe0b74.png")).unwrap());
    put(path, "fewer/one-more.png", std::fs::read(path.join("sizes/a5fe0b74.png")).unwrap());
    refuse(path, &evaluate("fewer"), 3, &["without prediction: one-more"]);
    image::GrayImage::new(100, 90).save(path.join("sizes/a5fe0b74.png")).unwrap();
    refuse(path, &evaluate("sizes"), 3, &["100×90", "320×256", "a5fe0b74.png"]);
    put(path, "vast/a5fe0b74.png", VAST_PNG);
    refuse(path, &evaluate("vast"), 4, &["this label map needs", "a5fe0b74.png"]);
    put(path, "text/a5fe0b74.png", "no picture");
    refuse(path, &evaluate("text"), 3, &["a5fe0b74.png"]);
    refuse(path, &evaluate("nowhere"), 3, &["no such folder", "nowhere"]);
    refuse(path, &["evaluate", "--predicted", "text/none", "--truth", TRUTH], 3, &["no such folder", "none"]);
    refuse(
        path,
        &["evaluate", "--predicted", "out/geojson", "--truth", TRUTH],
        3,
        &["no predicted label map"],
    );
}

//! Pictures that cannot be worked on: one clear message, nothing written; in a batch, the others are done.

mod common;

use common::{
    BEST, CONTRASTIVE, IMAGES, STAIN, VAST_PNG, microtome, put, put_part, put_picture, put_plain, record_of,
    refuse, run_of, succeed,
};
use std::path::Path;

const TIFF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/slide/tests/samples/tiles.tif");

fn put_bad_pictures(folder: &Path) {
    let tiff = std::fs::read(TIFF).unwrap();
    put(folder, "bad/cut.tif", &tiff[..tiff.len() / 2]);
    put(folder, "bad/empty.png", "");
    put_plain(folder, "bad/one-pixel.png", 1, [90, 20, 90]);
    put(folder, "bad/text.png", "Dear colleague,\nplease find attached");
    put(folder, "bad/vast.png", VAST_PNG);
    put_plain(folder, "bad/white.png", 120, [255, 255, 255]);
    put_plain(folder, "bad/one-colour.bmp", 120, [90, 20, 90]);
}

/// Picture, exit code, phrase.
const REFUSED: [(&str, i32, &str); 8] = [
    ("bad/cut.tif", 3, "cannot be decoded"),
    ("bad/empty.png", 3, "this file is empty"),
    ("bad/one-pixel.png", 3, "too small to hold a nucleus"),
    ("bad/text.png", 3, "not a picture: it begins with the text “Dear colleague,”"),
    ("bad/vast.png", 4, "100000×100000"),
    ("bad/white.png", 3, "blank"),
    ("bad/one-colour.bmp", 3, "blank"),
    ("bad/nowhere.png", 3, "no such file or folder"),
];

#[test]
fn each_is_refused_by_name_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    put_bad_pictures(folder.path());
    for (picture, code, phrase) in REFUSED {
        for values in [&STAIN[..], &BEST] {
            refuse(folder.path(), &run_of(picture, "out", values), code, &[picture, phrase]);
        }
    }
    let none = ["none of the 7 pictures can be used; the first", "bad/cut.tif"];
    refuse(folder.path(), &run_of("bad", "out", &STAIN), 3, &none);
}

#[test]
fn nothing_to_work_on_is_said() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "texts/notes.txt", "no picture");
    refuse(folder.path(), &run_of("texts", "out", &STAIN), 3, &["holds no pictures", "texts"]);
    refuse(folder.path(), &run_of("texts/*.png", "out", &STAIN), 3, &["no file matches", "texts/*.png"]);
    refuse(folder.path(), &run_of("a[.png", "out", &STAIN), 2, &["not a pattern", "a[.png"]);
    refuse(folder.path(), &["nuclei", "run", "--out", "out"], 2, &["<PICTURES>"]);
}

#[test]
fn a_picture_smaller_than_the_crop_is_refused_by_contrastive_only() {
    let folder = tempfile::tempdir().unwrap();
    put_part(folder.path(), "small.png", 119, 130);
    let phrases =
        ["small.png", "119×130", "smaller than the training crop of 120 px", "--contrastive-crop-px 119"];
    refuse(folder.path(), &run_of("small.png", "out", &CONTRASTIVE), 3, &phrases);
    succeed(folder.path(), &run_of("small.png", "stain", &STAIN));
    put_part(folder.path(), "smaller.png", 40, 30);
    succeed(folder.path(), &run_of("smaller.png", "best", &BEST));
}

#[test]
fn a_budget_of_memory_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let values = ["--method", "stain", "--memory-gib", "0.001"];
    put_plain(folder.path(), "large.bmp", 1000, [90, 20, 90]);
    refuse(folder.path(), &run_of("large.bmp", "out", &values), 4, &["large.bmp", "the budget is 2 MiB"]);
    let nonsense = ["--method", "stain", "--memory-gib", "nan"];
    refuse(folder.path(), &run_of("large.bmp", "out", &nonsense), 2, &["--memory-gib must be a number"]);
}

#[test]
fn in_a_batch_the_others_are_done() {
    for values in [&STAIN[..], &BEST, &CONTRASTIVE] {
        let folder = tempfile::tempdir().unwrap();
        put_bad_pictures(folder.path());
        put_picture(folder.path(), "bad/good.png", "0121d675");
        put_picture(folder.path(), "bad/well.png", "4d14a362");
        let ended = microtome(folder.path(), &run_of("bad", "out", values));
        assert_eq!(ended.code, 3, "that of the first that is skipped: {ended:?}");
        assert!(ended.stderr.contains("skipped: 7 pictures"), "{ended:?}");
        let record = record_of(&folder.path().join("out"));
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let inputs: Vec<String> =
            record["inputs"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
        assert_eq!(inputs, ["good", "well"]);
        for (picture, _, phrase) in &REFUSED[..7] {
            let skipped = record["skipped"].as_array().unwrap();
            let skipped = skipped.iter().find(|one| one["path"] == *picture).unwrap();
            assert!(text(&skipped["error"]).contains(phrase) && ended.stderr.contains(picture), "{skipped}");
        }
        let report = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
        assert!(report.contains("bad/white.png"), "the report says what is missing");
        assert!(folder.path().join("out/labels/well.png").is_file());
    }
}

#[test]
fn two_pictures_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    put_picture(folder.path(), "a/x.png", "0121d675");
    put_picture(folder.path(), "b/x.tif", "4d14a362");
    let arguments = ["nuclei", "run", "a", "b", "--method", "stain", "--out", "out"];
    refuse(folder.path(), &arguments, 2, &["two pictures are named x", "a/x.png", "b/x.tif"]);
    succeed(folder.path(), &["nuclei", "run", "a", "a/x.png", "--method", "stain", "--out", "out"]);
}

#[test]
fn a_picture_that_is_not_learned_from_still_counts_the_bundled_ones() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "text.png", "no picture");
    let arguments = [&["nuclei", "train", IMAGES, "text.png", "--model", "a.model"], &BEST[..]].concat();
    let ended = microtome(folder.path(), &arguments);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stdout.contains("learned from 6 pictures"), "{ended:?}");
    assert!(folder.path().join("a.model").is_file());
}

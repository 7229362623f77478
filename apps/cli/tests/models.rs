//! `nuclei train` and `nuclei segment`: a model is a file, and does what the run that trained it does.

mod common;

use common::{
    BEST, CONTRASTIVE, IMAGES, files_below, findings_of, put, put_part, record_of, refuse, run_of, succeed,
};
use std::path::Path;

fn train<'a>(pictures: &'a str, model: &'a str, values: &[&'a str]) -> Vec<&'a str> {
    [&["nuclei", "train", pictures, "--model", model], values].concat()
}

fn segment<'a>(pictures: &'a str, model: &'a str, out: &'a str) -> [&'a str; 7] {
    ["nuclei", "segment", pictures, "--model", model, "--out", out]
}

/// A model that is trained alone is the model of the run, and finds what the run finds.
fn check(values: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(path, &run_of(IMAGES, "run", values));
    succeed(path, &train(IMAGES, "deep/er/some.model", values));
    assert_eq!(files_below(&path.join("deep/er")).len(), 1, "nothing is left beside the model");
    succeed(path, &segment(IMAGES, "deep/er/some.model", "applied"));
    let mut run = findings_of(&path.join("run"));
    let model = run.remove(Path::new("model.safetensors")).unwrap();
    assert!(model == std::fs::read(path.join("deep/er/some.model")).unwrap());
    assert!(run == findings_of(&path.join("applied")));
    let record = record_of(&path.join("applied"));
    let file = Path::new(record["model"]["file"].as_str().unwrap());
    assert!(file.is_absolute() && file.is_file(), "{file:?}");
    assert_eq!(record["method"], values[1]);
}

#[test]
fn a_model_of_best_does_what_its_run_does() {
    check(&BEST);
}

#[test]
fn a_model_of_contrastive_does_what_its_run_does() {
    check(&CONTRASTIVE);
}

#[test]
fn pictures_smaller_than_the_crop_are_segmented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (values, side_px) in [(&BEST[..], 50), (&CONTRASTIVE[..], 100), (&CONTRASTIVE[..], 17)] {
        let (model, part, out) =
            (format!("{}.model", values[1]), format!("{side_px}.png"), format!("out{side_px}"));
        succeed(path, &train(IMAGES, &model, values));
        put_part(path, &part, side_px, side_px - 1);
        succeed(path, &segment(&part, &model, &out));
        let labels = image::open(path.join(format!("{out}/labels/{part}"))).unwrap();
        assert_eq!((labels.width(), labels.height()), (side_px, side_px - 1));
    }
}

#[test]
fn a_training_repeated_changes_nothing_and_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(path, &train(IMAGES, "a.model", &BEST));
    let model = std::fs::read(path.join("a.model")).unwrap();
    succeed(path, &train(IMAGES, "a.model", &BEST));
    assert!(model == std::fs::read(path.join("a.model")).unwrap());
    let one_picture = format!("{IMAGES}/0121d675.png");
    let another = ["there is another file or model already", "a.model"];
    refuse(path, &train(&one_picture, "a.model", &BEST), 2, &another);
    refuse(path, &train(IMAGES, "a.model", &CONTRASTIVE), 2, &another);
    refuse(path, &train(IMAGES, "a.model", &[&BEST[..], &["--seed", "2"]].concat()), 2, &another);
    refuse(path, &train(IMAGES, "b.model", &["--method", "stain"]), 2, &["learns nothing"]);
    put(path, "notes.txt", "mine");
    refuse(path, &train(IMAGES, "notes.txt", &BEST), 2, &["already", "notes.txt"]);
}

#[test]
fn what_is_no_model_of_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(path, &train(IMAGES, "good.model", &BEST));
    let good = std::fs::read(path.join("good.model")).unwrap();
    let header: &[u8] = br#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    put(path, "foreign.model", [&(header.len() as u64).to_le_bytes(), header, &[0; 4]].concat());
    put(path, "text.model", "no tensors, only words");
    put(path, "empty.model", "");
    put(path, "cut.model", &good[..good.len() / 2]);
    put(path, "renamed.model", replaced(&good, b".weight\":", b".weihgt\":"));
    put(path, "later.model", replaced(&good, br#"\"format_version\":1"#, br#"\"format_version\":2"#));
    // Cells of 900 µm: a tile of a slide would look as far around itself.
    put(path, "coarse.model", replaced(&good, br#"\"network_mpp\":0.5"#, br#"\"network_mpp\":9e2"#));
    put(path, "vast.model", [&u64::MAX.to_le_bytes(), header].concat());
    let refused = [
        ("foreign.model", "architecture"),
        ("text.model", "not a readable safetensors model"),
        ("empty.model", "not a readable safetensors model"),
        ("cut.model", "not a readable safetensors model"),
        ("renamed.model", "no tensor"),
        ("later.model", "version 2"),
        ("coarse.model", "best.network_mpp must be at most 4"),
        ("vast.model", "not a readable safetensors model"),
        ("nowhere.model", "no such file"),
    ];
    for (model, phrase) in refused {
        refuse(path, &segment(IMAGES, model, "out"), 3, &[model, phrase]);
    }
}

/// The bytes with the first occurrence of `old` made `new`, of the same length.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("in the model");
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

//! `nuclei run`: every method writes everything, and what it writes agrees.

mod common;

use common::{BEST, CONTRASTIVE, IMAGES, NAMES, STAIN, record_of, run_of, succeed};
use std::collections::BTreeSet;
use std::path::Path;

/// The ids in a label map, which has 16 bits.
fn ids_of(path: &Path) -> BTreeSet<u16> {
    let map = image::open(path).unwrap();
    assert_eq!((map.color(), map.width(), map.height()), (image::ColorType::L16, 320, 256), "{path:?}");
    map.into_luma16().into_raw().into_iter().filter(|id| *id > 0).collect()
}

fn features_of(path: &Path) -> Vec<serde_json::Value> {
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file["type"], "FeatureCollection");
    file["features"].as_array().unwrap().clone()
}

/// Holds what was found in one picture against itself; returns how many nuclei.
fn check_picture(out: &Path, name: &str, table: &str, recorded: &serde_json::Value) -> usize {
    let ids = ids_of(&out.join(format!("labels/{name}.png")));
    let features = features_of(&out.join(format!("geojson/{name}.geojson")));
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with(&format!("{name},"))).collect();
    assert_eq!((features.len(), rows.len()), (ids.len(), ids.len()), "{name}");
    let ids_in_table: BTreeSet<u16> =
        rows.iter().map(|row| row.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(ids_in_table, ids, "{name}");
    assert_eq!((&recorded["name"], &recorded["nuclei"]), (&name.into(), &ids.len().into()));
    for part in ["confidence", "overlays"] {
        let picture = image::open(out.join(format!("{part}/{name}.png"))).unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 256), "{part}/{name}");
    }
    ids.len()
}

/// Runs a method on the bundled pictures and holds all its files against each other.
fn check(values: &[&str], learns: bool) {
    let folder = tempfile::tempdir().unwrap();
    let ended = succeed(folder.path(), &run_of(IMAGES, "out", values));
    let out = folder.path().join("out");
    let record = record_of(&out);
    let table = std::fs::read_to_string(out.join("nuclei.csv")).unwrap();
    let mut nuclei = 0;
    for (name, recorded) in NAMES.iter().zip(record["inputs"].as_array().unwrap()) {
        nuclei += check_picture(&out, name, &table, recorded);
    }
    assert!(nuclei > 0 && table.lines().count() == nuclei + 1, "{nuclei}");
    assert!(ended.stdout.contains(&format!("{nuclei} nuclei in 6 pictures")), "{ended:?}");
    check_record(&record, values[1], learns);
    check_report(&out, learns);
}

fn check_record(record: &serde_json::Value, method: &str, learns: bool) {
    assert_eq!((&record["method"], &record["config"]["method"]), (&method.into(), &method.into()));
    assert_eq!((&record["format_version"], &record["seed"]), (&1.into(), &1.into()));
    for key in ["microtome_version", "command", "started", "finished", "threads", "vector_path", "stages"] {
        assert!(!record[key].is_null(), "{key}");
    }
    assert_eq!(record["skipped"].as_array().unwrap().len(), 0);
    assert_eq!(record["warnings"].as_array().unwrap().len(), 0);
    let model = if learns { "model.safetensors".into() } else { serde_json::Value::Null };
    assert_eq!(record["model"]["file"], model);
    assert_eq!(!record["choice"].is_null(), method == "contrastive");
}

fn check_report(out: &Path, learns: bool) {
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(NAMES.iter().all(|name| report.contains(name)) && report.contains("</html>"));
    assert!(!report.contains("http://") && !report.contains("src=\"https"), "the report stands alone");
    assert_eq!(out.join("model.safetensors").is_file(), learns);
    assert_eq!(report.contains("model.safetensors"), learns);
}

#[test]
fn stain_writes_everything() {
    check(&STAIN, false);
}

#[test]
fn best_writes_everything() {
    check(&BEST, true);
}

#[test]
fn contrastive_writes_everything() {
    check(&CONTRASTIVE, true);
}

#[test]
fn a_stated_resolution_fills_the_micron_columns() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &run_of(IMAGES, "out", &["--method", "stain", "--mpp", "0.5"]));
    let table = std::fs::read_to_string(folder.path().join("out/nuclei.csv")).unwrap();
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let heading = lines.next().unwrap();
    let column = |name| heading.iter().position(|column| *column == name).unwrap();
    let (area_px, area_um2) = (column("area_px"), column("area_um2"));
    for row in lines {
        let [px, um2] = [area_px, area_um2].map(|column| row[column].parse::<f64>().unwrap());
        assert!((um2 - px * 0.25).abs() < 1e-6, "{row:?}");
    }
    assert_eq!(record_of(&folder.path().join("out"))["inputs"][0]["mpp"], 0.5);
}

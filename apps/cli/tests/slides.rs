//! `slide info`, on sample files of the crate that opens them.

mod common;

use common::{IMAGES, refuse, succeed};

/// A TIFF file of 37×23 pixels whose description is one of Aperio.
const APERIO: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/slide/tests/samples/aperio_499nm.tif");
const OME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/slide/tests/samples/ome_250nm.tif");

#[test]
fn what_a_slide_holds_is_told_to_people_and_programs() {
    let folder = tempfile::tempdir().unwrap();
    let text = succeed(folder.path(), &["slide", "info", OME]).stdout;
    assert!(text.starts_with("OME-TIFF, 0.25 µm per pixel\nlevel 0: 37×23 px"), "{text}");
    let text = succeed(folder.path(), &["slide", "info", APERIO]).stdout;
    assert!(text.starts_with("Aperio SVS, 0.499 µm per pixel"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&succeed(folder.path(), &["slide", "info", OME, "--json"]).stdout).unwrap();
    assert_eq!((&json["format_version"], &json["mpp"]), (&1.into(), &0.25.into()));
    assert_eq!(json["levels"][0]["width_px"], 37);
    assert_eq!(json["levels"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_no_slide_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let picture = format!("{IMAGES}/0121d675.png");
    refuse(
        folder.path(),
        &["slide", "info", &picture],
        3,
        &["not a slide that is read", "0121d675.png", "SVS"],
    );
    refuse(folder.path(), &["slide", "info", "nowhere.svs"], 3, &["no such file", "nowhere.svs"]);
    refuse(folder.path(), &["slide", "info", "."], 3, &["folder"]);
}

//! `slide info`, `region` and `thumbnail`, on sample files of the crate that opens them.

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
    common::put(folder.path(), "notes.svs", "Monday: stained, Tuesday: scanned");
    refuse(
        folder.path(),
        &["slide", "info", "notes.svs"],
        3,
        &["not a slide that is read", "notes.svs", "SVS"],
    );
    let picture = format!("{IMAGES}/0121d675.png");
    let text = succeed(folder.path(), &["slide", "info", &picture]).stdout;
    assert!(text.starts_with("picture, resolution not stated\nlevel 0: 320×256 px"), "{text}");
    refuse(folder.path(), &["slide", "info", "nowhere.svs"], 3, &["no such file", "nowhere.svs"]);
    refuse(folder.path(), &["slide", "info", "."], 3, &["folder"]);
}

#[test]
fn parts_of_a_slide_become_png() {
    let folder = tempfile::tempdir().unwrap();
    let region = [
        "slide", "region", OME, "--x", "-3", "--y", "2", "--width", "20", "--height", "10", "--out", "r.png",
    ];
    assert!(succeed(folder.path(), &region).stdout.contains("20×10 px in r.png"));
    succeed(folder.path(), &["slide", "thumbnail", OME, "--longest", "16", "--out", "t.png"]);
    for (name, width, height) in [("r.png", 20, 10), ("t.png", 16, 10)] {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), (width, height), "{name}");
    }
    let level =
        ["slide", "region", OME, "--level", "7", "--x", "0", "--y", "0", "--width", "1", "--height", "1"];
    refuse(folder.path(), &[&level[..], &["--out", "no.png"]].concat(), 2, &["no level 7", "ome_250nm.tif"]);
    let nothing = ["slide", "thumbnail", OME, "--longest", "0", "--out", "no.png"];
    refuse(folder.path(), &nothing, 2, &["1 to 16384"]);
    assert!(!folder.path().join("no.png").exists());
}

/// The bundled slide.
const SLIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/openslide/CMU-1-Small-Region.svs");

#[test]
fn the_bundled_slide_is_read_with_what_lies_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = succeed(folder.path(), &["slide", "info", SLIDE]).stdout;
    assert!(text.contains("0.499 µm per pixel, objective 20×"), "{text}");
    assert!(text.contains("macro: 1280×431 px") && text.contains("label: 387×463 px"), "{text}");
    for (name, size) in [("macro", "1280×431 px"), ("label", "387×463 px"), ("thumbnail", "574×768 px")] {
        let said = succeed(folder.path(), &["slide", "associated", SLIDE, "--name", name, "--out", "a.png"]);
        assert!(said.stdout.contains(size) && said.stderr.is_empty(), "{said:?}");
        let picture = image::open(folder.path().join("a.png")).unwrap().to_rgb8();
        let mean = picture.as_raw().iter().map(|value| u64::from(*value)).sum::<u64>()
            / picture.as_raw().len() as u64;
        assert!((100..250).contains(&mean), "{name} is neither black nor white: {mean}");
    }
    let none = ["slide", "associated", SLIDE, "--name", "map", "--out", "b.png"];
    refuse(folder.path(), &none, 2, &["no picture “map”", "label, macro"]);
}

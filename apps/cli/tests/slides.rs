//! `slide info`, `region` and `thumbnail`, on sample files of the crate that opens them.

#![allow(clippy::disallowed_methods)] // No durable write is needed for a file that a test reads.

mod common;

#[path = "../../../crates/slide/tests/common/dicom.rs"]
#[allow(dead_code)] // What the crate that reads DICOM needs beside a level.
mod dicom;

use common::{IMAGES, put, refuse, succeed};
use dicom::{Dicom, Order, Syntax};

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
    refuse(folder.path(), &["slide", "info", "."], 3, &["not a slide that is read", "notes.svs"]);
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

#[test]
fn what_is_there_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "notes.md", "mine");
    put(folder.path(), "mine/thesis.tex", "years of work");
    std::fs::copy(OME, folder.path().join("own.ome.tif")).unwrap();
    let picture = "own.ome.tif";
    for (arguments, phrase) in [
        (["slide", "thumbnail", OME, "--out", "notes.md"], "something else than a PNG"),
        (["slide", "thumbnail", picture, "--out", picture], "written over what it is made of"),
        (["slide", "convert", picture, "--out", picture], "a file of that name already"),
        (["slide", "convert", OME, "--out", picture], "a file of that name already"),
        (["slide", "tiles", OME, "--out", "mine"], "the output folder holds something else"),
        (["slide", "tiles", OME, "--out", "notes.md"], "a file of that name already"),
    ] {
        refuse(folder.path(), &arguments, 2, &[phrase, arguments[4], "nothing was touched"]);
    }
    let size = ["--width", "100", "--height", "100", "--mpp", "0.25"];
    let synth = [&["slide", "synth", OME, "--out", picture], &size[..]].concat();
    refuse(folder.path(), &synth, 2, &["a file of that name already"]);
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

/// With the library (`MICROTOME_OPENSLIDE` says where, as `.ci/run` does) the pixels are those that are read without it;
/// without it, the message says what to install.
#[test]
fn what_only_openslide_reads_is_read_through_it() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.scn");
    std::fs::copy(SLIDE, &copy).unwrap();
    let nowhere = {
        let mut command = common::command(folder.path(), &["slide", "info", "copy.scn"]);
        let output = command.env("MICROTOME_OPENSLIDE", "/none").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(nowhere.0, Some(3));
    assert!(nowhere.1.contains("OpenSlide") && nowhere.1.contains("install"), "{}", nowhere.1);
    if std::env::var_os("MICROTOME_OPENSLIDE").is_none_or(|library| library.is_empty()) {
        println!("MICROTOME_OPENSLIDE names no library: reading through it was not tried");
        return;
    }
    let text = succeed(folder.path(), &["slide", "info", "copy.scn"]).stdout;
    assert!(
        text.starts_with("read by OpenSlide, 0.499 µm per pixel, objective 20×\nlevel 0: 2220×2967 px"),
        "{text}"
    );
    let [theirs, ours] = [("copy.scn", "theirs.png"), (SLIDE, "ours.png")].map(|(slide, out)| {
        let corner = ["--x", "1900", "--y", "2600", "--width", "400", "--height", "400", "--out", out];
        succeed(folder.path(), &[&["slide", "region", slide], &corner[..]].concat());
        image::open(folder.path().join(out)).unwrap().to_rgb8()
    });
    let largest = theirs.as_raw().iter().zip(ours.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(largest.is_some_and(|largest| largest <= 1), "{largest:?}");
    succeed(folder.path(), &["slide", "associated", "copy.scn", "--name", "label", "--out", "label.png"]);
}

/// A folder with a level in DICOM, of pixels of the bundled slide, goes the way of any slide.
#[test]
fn nuclei_are_cut_out_of_a_folder_of_dicom_files() {
    let folder = tempfile::tempdir().unwrap();
    let corner = ["--x", "1000", "--y", "1400", "--width", "480", "--height", "480", "--out", "part.png"];
    succeed(folder.path(), &[&["slide", "region", SLIDE], &corner[..]].concat());
    let pixels = image::open(folder.path().join("part.png")).unwrap().to_rgb8();
    let mut level = Dicom::level(Syntax::Explicit, Order::Full, [480, 480], [240, 240]);
    level.spacing = "0.000499\\0.000499";
    level.frames = [(0, 0), (240, 0), (0, 240), (240, 240)]
        .map(|(left, top)| image::imageops::crop_imm(&pixels, left, top, 240, 240).to_image().into_raw())
        .to_vec();
    std::fs::create_dir(folder.path().join("series")).unwrap();
    std::fs::write(folder.path().join("series/level.dcm"), level.bytes()).unwrap();
    let text = succeed(folder.path(), &["slide", "info", "series"]).stdout;
    assert!(text.starts_with("DICOM, 0.499 µm per pixel, objective 40×\nlevel 0: 480×480 px"), "{text}");
    succeed(
        folder.path(),
        &["nuclei", "run", "series", "--out", "out", "--method", "stain", "--maps", "none"],
    );
    let nuclei = std::fs::read_to_string(folder.path().join("out/geojson/level.geojson")).unwrap();
    let count = nuclei.matches("\"Feature\"").count();
    assert!((100..600).contains(&count), "{count} nuclei");
}

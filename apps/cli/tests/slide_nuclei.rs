//! Nuclei of whole slides, on slides that `slide synth` makes of the bundled pictures.

#![allow(clippy::disallowed_methods)] // Files are read, and lost on purpose.

mod common;

use common::{BEST, IMAGES, STAIN, Working, assert_same_findings, files_below, microtome, refuse, succeed};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A slide of the given extent at 0.5 µm per pixel.
fn synth(folder: &Path, name: &str, [width, height]: [&str; 2], more: &[&str]) {
    let size = ["--width", width, "--height", height, "--mpp", "0.5"];
    succeed(folder, &[&["slide", "synth", IMAGES, "--out", name], &size[..], more].concat());
}

fn run<'a>(slide: &'a str, out: &'a str, values: &[&'a str]) -> Vec<&'a str> {
    common::run_of(slide, out, values)
}

/// The rows of the table without the number of the nucleus, which follows the tiles, and without its confidence, which
/// neighbouring tiles hand on in parts of 65,535, so that the last digit may differ.
fn nuclei(out: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(out.join("nuclei.csv")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        [&cells[..1], &cells[2..cells.len() - 1]].concat().join(",")
    };
    let rows: BTreeSet<String> = text.lines().skip(1).map(row).collect();
    assert_eq!(rows.len(), text.lines().count() - 1, "no nucleus comes twice");
    rows
}

#[test]
fn tiles_of_any_size_give_the_nuclei_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), "slide.tif", ["2300", "1300"], &[]);
    // Cells of one, two and three pixels: of three, no tile begins at a multiple.
    let of_cells = |um| [&BEST[..], &["--best-network-mpp", um]].concat();
    for values in [STAIN.to_vec(), BEST.to_vec(), of_cells("1"), of_cells("1.5")] {
        let values = &values[..];
        let whole = run("slide.tif", "whole", &[values, &["--tile-px", "3072", "--maps", "none"]].concat());
        succeed(folder.path(), &whole);
        let tiles = run("slide.tif", "tiles", &[values, &["--tile-px", "1024", "--maps", "none"]].concat());
        succeed(folder.path(), &tiles);
        let (whole, tiles) = (nuclei(&folder.path().join("whole")), nuclei(&folder.path().join("tiles")));
        // What is wider than any nucleus is cut at the borders of tiles.
        let is_wide = |row: &&String| row.split(',').nth(11).unwrap().parse::<f64>().unwrap() > 2.0 * 24.0;
        let differ: Vec<&String> = whole.symmetric_difference(&tiles).filter(|row| !is_wide(row)).collect();
        let wide = whole.iter().filter(is_wide).count();
        assert!(differ.iter().all(|row| !whole.contains(*row)), "{differ:?}");
        assert!(whole.len() > 1500 && wide * 8 < whole.len(), "{wide} of {}", whole.len());
        for out in ["whole", "tiles"] {
            std::fs::remove_dir_all(folder.path().join(out)).unwrap();
        }
    }
}

#[test]
fn the_files_of_a_slide_agree_and_do_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), "slide.ome.tif", ["2300", "1300"], &["--filled", "0.7"]);
    let values = [&STAIN[..], &["--tile-px", "1024"]].concat();
    for threads in ["1", "2", "3", "8", "16"] {
        let out = format!("out{threads}");
        succeed(folder.path(), &[&run("slide.ome.tif", &out, &values)[..], &["--threads", threads]].concat());
        assert_same_findings(&folder.path().join("out1"), &folder.path().join(&out));
    }
    let out = folder.path().join("out1");
    let rows = nuclei(&out).len();
    let text = std::fs::read_to_string(out.join("geojson/slide.geojson")).unwrap();
    let features: serde_json::Value = serde_json::from_str(&text).unwrap();
    let features = features["features"].as_array().unwrap();
    assert_eq!(features.len(), rows);
    assert!(rows > 500, "{rows}");
    let ids: BTreeSet<&str> = features.iter().map(|feature| feature["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows, "each has a name of its own");
    // Every pixel of the map belongs to a nucleus of the table, and areas agree.
    let area: u64 = features
        .iter()
        .map(|feature| feature["properties"]["measurements"]["Area px^2"].as_u64().unwrap())
        .sum();
    assert_eq!(labelled_pixels(&out.join("labels/slide.ome.zarr/0")), area);
    for file in ["overlays/slide.png", "density/slide.png", "report.html", "run.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let left = files_below(&out);
    let is_left = |path: &&PathBuf| {
        let path = path.to_string_lossy();
        path.contains("tile-") || path.contains(".tmp-") || path.contains(".partial")
    };
    assert_eq!(left.keys().filter(is_left).count(), 0);
    succeed(folder.path(), &[&run("slide.ome.tif", "tiff", &values)[..], &["--maps", "tiff"]].concat());
    let info = succeed(folder.path(), &["slide", "info", "tiff/confidence/slide.ome.tif"]).stdout;
    assert!(info.starts_with("OME-TIFF, 0.5 µm per pixel\nlevel 0: 2300×1300 px"), "{info}");
}

/// Pixels that are not zero, over all chunks of an array.
fn labelled_pixels(array: &Path) -> u64 {
    let chunks = files_below(&array.join("c"));
    let chunks = chunks.values().filter(|bytes| !bytes.is_empty());
    let count = |packed: &Vec<u8>| {
        let pixels = zstd::bulk::decompress(packed, 4 << 20).unwrap();
        pixels.chunks_exact(4).filter(|id| **id != [0; 4]).count() as u64
    };
    chunks.map(count).sum()
}

#[test]
fn a_killed_run_goes_on_with_the_tiles_that_are_left() {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), "slide.tif", ["3500", "2300"], &[]);
    let values = [&STAIN[..], &["--tile-px", "1024"]].concat();
    let arguments = run("slide.tif", "out", &values);
    let tiles = folder.path().join("out/.microtome/slides/slide.tiles");
    let done = |tiles: &Path| {
        let names = std::fs::read_dir(tiles).into_iter().flatten().flatten();
        names.filter(|name| name.file_name().to_string_lossy().starts_with("tile-")).count()
    };
    let mut before = 0;
    for wanted in [2, 5, 8] {
        let working = Working::start(folder.path(), &arguments);
        let begun = Instant::now();
        while done(&tiles) < wanted {
            assert!(begun.elapsed() < Duration::from_secs(60), "{wanted} tiles");
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(working);
        assert!(done(&tiles) >= before.max(wanted), "no tile is lost");
        before = done(&tiles);
    }
    assert!(!folder.path().join("out/report.html").exists(), "it was killed too late");
    succeed(folder.path(), &arguments);
    succeed(folder.path(), &run("slide.tif", "unbroken", &values));
    assert_same_findings(&folder.path().join("out"), &folder.path().join("unbroken"));
    let left = files_below(&folder.path().join("out"));
    assert!(!left.keys().any(|path| path.to_string_lossy().contains(".tmp-")));
    assert!(!tiles.exists());
}

#[test]
fn a_slide_without_tissue_says_so() {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), "glass.tif", ["1500", "1000"], &["--filled", "0"]);
    let ended = succeed(folder.path(), &run("glass.tif", "out", &STAIN));
    assert!(ended.stderr.contains("warning: glass: no nucleus was found because no tissue was"), "{ended:?}");
    let report = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(report.contains("no nucleus was found because no tissue was"));
    let text = std::fs::read_to_string(folder.path().join("out/geojson/glass.geojson")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["features"], serde_json::json!([]));
    let ended = microtome(folder.path(), &run("glass.tif", "no", &BEST));
    assert!(ended.code == 3 && ended.stderr.contains("no tissue to learn from"), "{ended:?}");
}

#[test]
fn unreadable_tiles_are_white_counted_and_not_fatal() {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), "slide.tif", ["1500", "1000"], &[]);
    let path = folder.path().join("slide.tif");
    let mut bytes = std::fs::read(&path).unwrap();
    // The first bytes of a tile's JPEG stream, and of another.
    let streams: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, w)| *w == b"\xff\xd8\xff\xe0").map(|(at, _)| at).collect();
    assert!(streams.len() > 20);
    for stream in &streams[7..9] {
        bytes[*stream..*stream + 4].fill(0);
    }
    std::fs::write(&path, bytes).unwrap();
    succeed(folder.path(), &run("slide.tif", "out", &STAIN));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("out/run.json")).unwrap()).unwrap();
    let warnings = json["inputs"][0]["warnings"].to_string();
    assert!(warnings.contains("reads of tiles failed"), "{warnings}");
    assert!(json["inputs"][0]["nuclei"].as_u64().unwrap() > 100);
}

#[test]
fn a_large_picture_without_resolution_is_asked_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let size = ["--width", "9000", "--height", "8000"];
    succeed(folder.path(), &[&["slide", "synth", IMAGES, "--out", "s.tif"], &size[..]].concat());
    refuse(folder.path(), &run("s.tif", "out", &STAIN), 3, &["how many µm", "--mpp", "s.tif"]);
    let tiles = [&STAIN[..], &["--tile-px", "1000"]].concat();
    refuse(folder.path(), &run("s.tif", "out", &tiles), 2, &["1000 px", "1024"]);
}

#[test]
fn a_converted_slide_has_the_same_pixels() {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), "slide.tif", ["700", "600"], &["--lossless"]);
    succeed(folder.path(), &["slide", "convert", "slide.tif", "--out", "copy.ome.tif", "--lossless"]);
    for (slide, out) in [("slide.tif", "a.png"), ("copy.ome.tif", "b.png")] {
        let region = ["--x", "10", "--y", "20", "--width", "650", "--height", "500", "--out", out];
        succeed(folder.path(), &[&["slide", "region", slide], &region[..]].concat());
    }
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("a.png"), read("b.png"));
    let mosaic: serde_json::Value = serde_json::from_slice(&read("slide.mosaic.json")).unwrap();
    assert_eq!(mosaic["placed"].as_array().unwrap().len(), 3 * 3);
}

#[test]
fn tiles_have_the_resolution_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), "slide.tif", ["1500", "1000"], &[]);
    let tiles =
        ["slide", "tiles", "slide.tif", "--out", "tiles", "--side", "128", "--mpp", "1.2", "--tissue", "0.3"];
    let said = succeed(folder.path(), &tiles).stdout;
    let list = std::fs::read_to_string(folder.path().join("tiles/tiles.csv")).unwrap();
    let rows: Vec<&str> = list.lines().skip(1).collect();
    assert!(said.contains(&format!("{} tiles", rows.len())) && rows.len() >= 10, "{said}");
    for row in rows {
        let cells: Vec<&str> = row.split(',').collect();
        // 128 px of 1.2 µm are 307 px of 0.5 µm, of level 1 154.
        assert!((306..=308).contains(&cells[3].parse::<i32>().unwrap()), "{row}");
        let picture = image::open(folder.path().join("tiles").join(cells[0])).unwrap();
        assert_eq!((picture.width(), picture.height()), (128, 128));
    }
    let finer = ["slide", "tiles", "slide.tif", "--out", "no", "--mpp", "0.2"];
    refuse(folder.path(), &finer, 2, &["0.5 µm per pixel", "slide.tif"]);
    refuse(folder.path(), &["slide", "tiles", "slide.tif", "--out", "no", "--side", "0"], 2, &["a side"]);
}

/// A feature of GeoJSON: a rectangle, in pixels of level 0.
fn square(left: u32, top: u32, right: u32, bottom: u32) -> String {
    let corners =
        format!("[[{left},{top}],[{right},{top}],[{right},{bottom}],[{left},{bottom}],[{left},{top}]]");
    format!(r#"{{"type":"Feature","geometry":{{"type":"Polygon","coordinates":[{corners}]}}}}"#)
}

#[test]
fn a_persons_own_tissue_is_where_nuclei_are_sought() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    synth(dir, "slide.tif", ["1500", "1000"], &[]);
    common::put(dir, "own.geojson", square(200, 300, 900, 800));
    let values = [&STAIN[..], &["--maps", "none", "--gzip", "--tissue-mask"]].concat();
    succeed(dir, &run("slide.tif", "own", &[&values[..], &["own.geojson"]].concat()));
    succeed(dir, &run("slide.tif", "all", &[&STAIN[..], &["--maps", "none"]].concat()));
    let (own, all) = (nuclei(&dir.join("own")), nuclei(&dir.join("all")));
    assert!(own.len() > 100 && own.len() * 2 < all.len(), "{} of {}", own.len(), all.len());
    let centres: Vec<[f64; 2]> = own
        .iter()
        .map(|row| row.split(',').collect::<Vec<_>>())
        .map(|cells| [cells[1].parse().unwrap(), cells[2].parse().unwrap()])
        .collect();
    // To a cell of the mask, 8 µm.
    let is_inside = |[x, y]: &[f64; 2]| (184.0..916.0).contains(x) && (284.0..816.0).contains(y);
    assert!(centres.iter().all(is_inside));
    let packed = std::fs::read(dir.join("own/geojson/slide.geojson.gz")).unwrap();
    let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(&packed[..])).unwrap();
    let features: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(features["features"].as_array().unwrap().len(), own.len());

    // A mask that is none leaves the folder to the command that names the right one.
    common::put(dir, "none.geojson", "not a mask");
    let wrong =
        common::microtome(dir, &run("slide.tif", "right", &[&values[..], &["none.geojson"]].concat()));
    assert_eq!(wrong.code, 3, "{wrong:?}");
    succeed(dir, &run("slide.tif", "right", &[&values[..], &["own.geojson"]].concat()));
    assert_eq!(nuclei(&dir.join("right")), own);

    // Another border is another run; a folder has a file for each slide; a file is for one slide.
    common::put(dir, "own.geojson", square(200, 300, 901, 800));
    refuse(dir, &run("slide.tif", "own", &[&values[..], &["own.geojson"]].concat()), 2, &["another run"]);
    std::fs::create_dir(dir.join("masks")).unwrap();
    refuse(
        dir,
        &run("slide.tif", "no", &[&values[..], &["masks"]].concat()),
        3,
        &["no tissue for the slide"],
    );
    synth(dir, "other.tif", ["700", "600"], &[]);
    refuse(
        dir,
        &[&run("slide.tif", "no", &[&values[..], &["own.geojson"]].concat())[..], &["other.tif"]].concat(),
        2,
        &["one slide is stated for 2 slides", "a folder"],
    );
    let picture = format!("{IMAGES}/0121d675.png");
    refuse(dir, &run(&picture, "no", &[&values[..], &["own.geojson"]].concat()), 2, &["no slide is named"]);
    let tiles =
        ["slide", "tiles", "slide.tif", "--out", "tiles", "--side", "100", "--tissue-mask", "own.geojson"];
    assert!(succeed(dir, &tiles).stdout.starts_with("3"), "about 35 tiles of 35000 square pixels");
}

#[test]
fn tissue_out_of_focus_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::create_dir(dir.join("blurred")).unwrap();
    for name in ["0121d675", "65c8527c"] {
        let picture = image::open(format!("{IMAGES}/{name}.png")).unwrap().to_rgb8();
        image::imageops::blur(&picture, 4.0).save(dir.join(format!("blurred/{name}.png"))).unwrap();
    }
    for (pictures, out, is_blurred) in [("blurred", "b", true), (IMAGES, "s", false)] {
        let size = ["--width", "1500", "--height", "1000", "--mpp", "0.5"];
        let name = format!("{out}.tif");
        succeed(dir, &[&["slide", "synth", pictures, "--out", &name], &size[..]].concat());
        succeed(dir, &run(&name, out, &[&STAIN[..], &["--maps", "none"]].concat()));
        let report = std::fs::read_to_string(dir.join(out).join("report.html")).unwrap();
        assert_eq!(report.contains("look out of focus"), is_blurred, "{out}");
    }
}

//! Tissue prototypes end to end, through the program: from pictures of two textures to masks, by names alone.

#![allow(clippy::disallowed_methods)] // Test files need not survive a power cut.

mod common;

use common::textures::{self, PICTURES, project, put_pictures, scores};
use common::{Working, command, files_below, microtome, put, put_plain, refuse, succeed};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SMALL: [&str; 9] = ["tissue", "pretrain", "p", "--encoder", "small", "--epochs", "2", "--batch", "32"];

fn clustered(folder: &Path, pretrain: &[&str]) {
    succeed(folder, pretrain);
    succeed(folder, &["tissue", "embed", "p"]);
    succeed(folder, &["tissue", "cluster", "p", "--k", "6", "--restarts", "2"]);
}

/// All that a project and an answer hold but for what tells the time.
fn findings(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files_below(folder);
    files.retain(|path, _| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with("project.sqlite") && name != ".lock"
    });
    files
}

#[test]
fn two_textures_are_told_apart_by_names_with_every_query_and_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder);
    let texture = ["tissue", "pretrain", "p", "--encoder", "texture"];
    for encoder in [&texture[..], &SMALL[..]] {
        clustered(folder, encoder);
        succeed(folder, &["tissue", "name", "p", "--oracle", "masks"]);
        // Clusters of one picture's hand-made numbers follow its light and dark rather than its textures.
        for (method, least) in [("direct", 0.9), ("cluster", 0.7), ("fine", 0.9)] {
            let out = format!("{}-{method}", encoder[4]);
            succeed(folder, &["tissue", "query", "p", "--method", method, "--out", &out]);
            let scores = scores(folder, &out);
            let dice = scores["mean_dice"].as_f64().unwrap();
            assert!(dice >= least, "{out}: {dice}");
            assert_eq!(scores["pictures"].as_array().unwrap().len(), PICTURES);
            assert!(scores["notes"].to_string().contains("oracle"), "an experiment says so");
        }
    }
    // The dictionary alone says the same of the same pictures.
    succeed(folder, &["tissue", "apply", "p/models/dictionary.safetensors", "pictures", "--out", "applied"]);
    for picture in 0..PICTURES {
        let mask = |out: &str| std::fs::read(folder.join(format!("{out}/masks/p{picture}.png"))).unwrap();
        assert!(mask("applied") == mask("small-fine"), "p{picture}");
    }
    let page = std::fs::read_to_string(folder.join("applied/report.html")).unwrap();
    assert!(page.contains("Named by an oracle") && page.contains("fibres"));
    let table = std::fs::read_to_string(folder.join("applied/areas.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + PICTURES);
}

#[test]
fn a_person_names_by_file_and_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder);
    clustered(folder, &["tissue", "pretrain", "p", "--encoder", "texture"]);
    let advice = succeed(folder, &["tissue", "advise", "p", "--ks", "2,4,400"]);
    assert!(
        advice.stdout.contains("we would take") && folder.join("p/out/advice.svg").is_file(),
        "{advice:?}"
    );
    assert_eq!(std::fs::read_to_string(folder.join("p/out/advice.csv")).unwrap().lines().count(), 3);
    let sheets = folder.join("p/out/clusters");
    assert!(sheets.join("index.html").is_file() && sheets.join("cluster_05.png").is_file());
    let table = std::fs::read_to_string(sheets.join("names.csv")).unwrap();
    assert_eq!(table.lines().count(), 7, "{table}");
    refuse(folder, &["tissue", "query", "p", "--out", "early"], 2, &["no cluster has a name yet"]);
    put(folder, "names.csv", "cluster,class,share\n0,dots,0.9\n1,fibres,\n2,-,\n3,dots,1\n");
    let ended = succeed(folder, &["tissue", "name", "p", "--from", "names.csv"]);
    assert!(ended.stdout.contains("3 of 6"), "{ended:?}");
    let ended = succeed(folder, &["tissue", "name", "p", "--cluster", "4", "--class", "fibres"]);
    assert!(ended.stdout.contains("4 of 6"), "{ended:?}");
    succeed(folder, &["tissue", "name", "p", "--cluster", "3", "--reject"]);
    let status = succeed(folder, &["project", "status", "p"]);
    assert!(status.stdout.contains("3 of 6 clusters, 2 rejected"), "{status:?}");
    // The file that others are given has the names as they are now.
    let dictionary = folder.join("p/models/dictionary.safetensors");
    let bytes = std::fs::read(&dictionary).unwrap();
    succeed(folder, &["tissue", "name", "p", "--cluster", "1", "--class", "dots"]);
    assert!(std::fs::read(&dictionary).unwrap() != bytes);
    succeed(folder, &["tissue", "name", "p", "--cluster", "1", "--class", "fibres"]);
    assert!(std::fs::read(&dictionary).unwrap() == bytes);
    for cluster in ["0", "1", "4"] {
        succeed(folder, &["tissue", "name", "p", "--cluster", cluster, "--reject"]);
    }
    assert!(!dictionary.exists(), "no cluster has a class");
    succeed(folder, &["tissue", "name", "p", "--from", "names.csv"]);
    succeed(folder, &["tissue", "name", "p", "--cluster", "4", "--class", "fibres"]);
    succeed(folder, &["tissue", "name", "p", "--cluster", "3", "--reject"]);
    assert!(std::fs::read(&dictionary).unwrap() == bytes);
    for (arguments, phrase) in [
        (["--cluster", "9", "--class", "dots"], "there is no cluster 9"),
        (["--cluster", "1", "--class", "bone"], "there is no class “bone”"),
    ] {
        let ended = microtome(folder, &[&["tissue", "name", "p"], &arguments[..]].concat());
        assert!(ended.code == 2 && ended.stderr.contains(phrase), "{ended:?}");
    }
    succeed(folder, &["tissue", "query", "p", "--out", "out"]);
    assert!(!std::fs::read_to_string(folder.join("out/report.html")).unwrap().contains("oracle"));
    // A map of all tiles, with the names.
    let ended = succeed(folder, &["tissue", "map", "p", "--tiles", "100"]);
    assert!(ended.stdout.contains("100 tiles"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(folder.join("p/out/map.csv")).unwrap().lines().count(), 101);
    assert!(std::fs::read_to_string(folder.join("p/out/map.svg")).unwrap().contains(">1 fibres<"));
    assert!(image::open(folder.join("p/out/map.png")).unwrap().width() > 1000);
    // Other clusters have other names: those that were given stay with theirs.
    succeed(folder, &["tissue", "cluster", "p", "--k", "4"]);
    refuse_project(folder, &["tissue", "query", "p", "--out", "again"], 2, "these clusters have no names");
    succeed(folder, &["tissue", "cluster", "p", "--k", "6"]);
    succeed(folder, &["tissue", "query", "p", "--out", "again"]);
    assert!(findings(&folder.join("again")) == findings(&folder.join("out")));
}

#[test]
fn new_names_cost_no_encoding_and_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder);
    clustered(folder, &SMALL);
    for (method, kind) in [("fine", "fine3"), ("direct", "direct3")] {
        put(folder, "names.csv", "cluster,class\n0,dots\n1,fibres\n2,fibres\n");
        succeed(folder, &["tissue", "name", "p", "--from", "names.csv"]);
        succeed(folder, &["tissue", "query", "p", "--method", method, "--out", "first"]);
        let kept = folder.join("p/arrays/cosines").join(kind);
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), PICTURES);
        put(
            folder,
            "names.csv",
            "cluster,class,share\n0,fibres,0.9\n1,dots,1\n2,-,\n4,dots,0.8\n5,fibres,1\n",
        );
        succeed(folder, &["tissue", "name", "p", "--from", "names.csv"]);
        succeed(folder, &["tissue", "query", "p", "--method", method, "--out", "recalled"]);
        // Kept numbers are used: where they are others, so is the mask.
        let cosines = kept.join("p0.zarr/cosines_00000/c/0/0/0");
        let whole = std::fs::read(&cosines).unwrap();
        let turned: Vec<u8> = whole
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|own| (-f32::from_le_bytes(*own)).to_le_bytes())
            .collect();
        std::fs::write(&cosines, turned).unwrap();
        succeed(folder, &["tissue", "query", "p", "--method", method, "--out", "turned"]);
        // What is damaged is seen again.
        std::fs::write(&cosines, &whole[..7]).unwrap();
        succeed(folder, &["tissue", "query", "p", "--method", method, "--out", "damaged"]);
        std::fs::remove_dir_all(folder.join("p/arrays/cosines")).unwrap();
        succeed(folder, &["tissue", "query", "p", "--method", method, "--out", "anew"]);
        // A dictionary knows the named clusters alone.
        let dictionary = "p/models/dictionary.safetensors";
        let apply = ["tissue", "apply", dictionary, "pictures", "--method", method, "--out", "applied"];
        succeed(folder, &apply);
        let masks = |out: &str| findings(&folder.join(out).join("masks"));
        assert!(masks("recalled") == masks("anew") && masks("anew") == masks("applied"), "{method}");
        assert!(masks("recalled") != masks("first") && masks("turned") != masks("recalled"), "{method}");
        assert!(masks("damaged") == masks("recalled"), "{method}");
        for out in ["first", "recalled", "turned", "damaged", "anew", "applied"] {
            std::fs::remove_dir_all(folder.join(out)).unwrap();
        }
    }
}

#[test]
fn clusters_are_split_and_merged_and_the_others_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder);
    clustered(folder, &["tissue", "pretrain", "p", "--encoder", "texture"]);
    put(folder, "names.csv", "cluster,class,share\n0,dots,1\n1,fibres,0.9\n2,fibres,0.7\n3,dots,1\n4,-,\n");
    succeed(folder, &["tissue", "name", "p", "--from", "names.csv"]);
    succeed(folder, &["tissue", "query", "p", "--out", "before"]);
    let ended = succeed(folder, &["tissue", "split", "p", "--cluster", "0", "--into", "3"]);
    assert!(ended.stdout.contains("8 clusters"), "{ended:?}");
    let table = || -> BTreeMap<String, Vec<String>> {
        let text = std::fs::read_to_string(folder.join("p/out/clusters/names.csv")).unwrap();
        let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        text.lines().skip(1).map(cells).map(|cells| (cells[0].clone(), cells)).collect()
    };
    let (split, tiles) = (table(), |row: &[String]| row[3].parse::<usize>().unwrap());
    assert_eq!((split["0"][1].as_str(), split["6"][1].as_str(), split["3"][1].as_str()), ("", "", "dots"));
    let status = succeed(folder, &["project", "status", "p"]).stdout;
    assert!(status.contains("3 of 8 clusters, 1 rejected") && !status.contains("stale"), "{status}");
    // Two of one name keep it, with the share of both.
    succeed(folder, &["tissue", "merge", "p", "--clusters", "2,1"]);
    let merged = table();
    assert!(!merged.contains_key("2") && merged["1"][1] == "fibres", "{merged:?}");
    assert_eq!(tiles(&merged["1"]), tiles(&split["1"]) + tiles(&split["2"]));
    let share: f64 = merged["1"][2].parse().unwrap();
    assert!(share > 0.7 && share < 0.9, "{share}");
    let all = |of: &BTreeMap<String, Vec<String>>| of.values().map(|row| tiles(row)).sum::<usize>();
    assert_eq!(all(&merged), all(&split));
    // Two of different names have none.
    succeed(folder, &["tissue", "merge", "p", "--clusters", "1,3"]);
    assert_eq!(table()["1"][1], "");
    for (arguments, phrase) in [
        (["merge", "p", "--clusters", "1"], "cannot be merged"),
        (["merge", "p", "--clusters", "1,99"], "there is no cluster 99"),
        (["split", "p", "--cluster", "3"], "has no tiles"),
        (["split", "p", "--cluster=1", "--into=9999"], "cannot be split into 9999"),
    ] {
        refuse_project(folder, &[&["tissue"], &arguments[..]].concat(), 2, phrase);
    }
    refuse_project(folder, &["tissue", "name", "p", "--cluster", "2", "--class", "dots"], 2, "has no tiles");
    // Clusters without tiles are passed over by an oracle.
    succeed(folder, &["tissue", "name", "p", "--oracle", "masks"]);
    // The same command as before leaves all of it; the way back is said by name.
    let ended = succeed(folder, &["tissue", "cluster", "p", "--k", "6", "--restarts", "2"]);
    assert!(ended.stdout.contains("6 clusters"), "{ended:?}");
    succeed(folder, &["tissue", "name", "p", "--cluster", "1", "--class", "fibres"]);
    succeed(folder, &["tissue", "query", "p", "--out", "edited"]);
    succeed(folder, &["tissue", "cluster", "p", "--without-edits"]);
    assert_eq!(table()["0"][1], "dots", "their names are theirs again");
    succeed(folder, &["tissue", "query", "p", "--out", "after"]);
    assert!(findings(&folder.join("after")) == findings(&folder.join("before")));
    assert!(findings(&folder.join("edited")) != findings(&folder.join("before")));
}

/// As [`refuse`], of what may note in the project's database that it was opened.
fn refuse_project(folder: &Path, arguments: &[&str], code: i32, phrase: &str) {
    let before = findings(folder);
    let ended = microtome(folder, arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
    assert!(ended.stderr.contains(phrase), "“{phrase}” after {arguments:?}: {ended:?}");
    assert!(before == findings(folder), "{arguments:?} touched {folder:?}");
}

#[test]
fn a_second_project_and_a_killed_one_give_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    project(whole.path());
    clustered(whole.path(), &SMALL);
    succeed(whole.path(), &["tissue", "name", "p", "--oracle", "masks"]);
    succeed(whole.path(), &["tissue", "query", "p", "--out", "out"]);
    let curve = std::fs::read_to_string(whole.path().join("p/out/teaching.svg")).unwrap();
    assert!(curve.contains("epochs") && !curve.contains("NaN"));
    let broken = tempfile::tempdir().unwrap();
    project(broken.path());
    // The teaching is killed when an epoch is kept; then every stage at moments of its own.
    let working = Working::start(broken.path(), &SMALL);
    let begun = Instant::now();
    while !broken.path().join("p/models/encoder.checkpoint.safetensors").is_file() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no epoch was kept");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(working);
    assert!(!broken.path().join("p/models/encoder.json").exists(), "it was stopped too late");
    let mut killed = 0;
    for (index, stage) in [
        &SMALL[..],
        &["tissue", "embed", "p"],
        &["tissue", "cluster", "p", "--k", "6", "--restarts", "2"],
        &["tissue", "name", "p", "--oracle", "masks"],
        &["tissue", "query", "p", "--out", "out"],
    ]
    .into_iter()
    .enumerate()
    {
        for millis in [5, 40 + 60 * index as u64] {
            let mut working = Working::start(broken.path(), stage);
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(millis) && working.0.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            killed += usize::from(working.0.try_wait().unwrap().is_none());
            drop(working);
        }
        succeed(broken.path(), stage);
    }
    // All that were killed after five milliseconds, if the machine is not a very fast one.
    assert!(killed >= 3, "{killed} of 10 were killed at work");
    let (one, other) = (findings(whole.path()), findings(broken.path()));
    let only = |of: &BTreeMap<PathBuf, Vec<u8>>, not: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<PathBuf> {
        of.keys().filter(|path| !not.contains_key(*path)).cloned().collect()
    };
    assert_eq!((only(&one, &other), only(&other, &one)), (Vec::new(), Vec::new()));
    let differ: Vec<&PathBuf> = one.keys().filter(|path| one[*path] != other[*path]).collect();
    assert!(differ.is_empty(), "these differ: {differ:?}");
    assert!(one.len() > 60, "{} files were compared", one.len());
}

#[test]
fn windows_of_a_slide_that_are_encoded_are_not_encoded_again_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir_all(folder.join("pictures")).unwrap();
    // Windows are 1,536 px wide.
    let rgb = image::RgbImage::from_fn(6000, 700, |x, y| image::Rgb(textures::pixel(0, x % 256, y)));
    rgb.save(folder.join("pictures/wide.png")).unwrap();
    for project in ["p", "q"] {
        succeed(folder, &["project", "init", project, "--classes", "a,b"]);
        succeed(folder, &["project", "add", project, "pictures"]);
        succeed(folder, &["tissue", "tile", project, "--side", "64", "--step", "64"]);
        succeed(folder, &["tissue", "pretrain", project, "--encoder", "texture"]);
    }
    succeed(folder, &["tissue", "embed", "q"]);
    let parts = folder.join("p/arrays/embeddings/wide.parts");
    let kept = || {
        let files = std::fs::read_dir(&parts).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|extension| extension == "f32")).count()
    };
    let working = Working::start(folder, &["tissue", "embed", "p"]);
    let begun = Instant::now();
    while kept() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no window was kept");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(working);
    assert!((1..4).contains(&kept()), "{} of 4 windows were kept when it was killed", kept());
    succeed(folder, &["tissue", "embed", "p"]);
    assert!(!parts.exists());
    let vectors = |project: &str| findings(&folder.join(project).join("arrays/embeddings"));
    assert!(vectors("p") == vectors("q"));
}

#[test]
fn what_is_done_is_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder);
    clustered(folder, &SMALL);
    let settings = std::fs::read_to_string(folder.join("p/microtome.toml")).unwrap();
    let before = findings(&folder.join("p"));
    // A batch in parts is another teaching.
    let ended = succeed(folder, &[&SMALL[..], &["--tiles-at-once", "10"]].concat());
    assert!(!ended.stdout.contains("which was there") && ended.stdout.contains("loss"), "{ended:?}");
    put(folder, "p/microtome.toml", &settings);
    clustered(folder, &SMALL);
    let ended = succeed(folder, &SMALL);
    assert!(ended.stdout.contains("which was there"), "{ended:?}");
    clustered(folder, &SMALL);
    assert!(findings(&folder.join("p")) == before);
    // Another side makes what follows stale, and status says so.
    succeed(folder, &["tissue", "tile", "p", "--side", "48"]);
    let status = succeed(folder, &["project", "status", "p"]).stdout;
    assert!(status.contains("stale") && status.contains("next: microtome tissue pretrain p"), "{status}");
    refuse_project(folder, &["tissue", "cluster", "p"], 2, "embeddings are missing");
}

#[test]
fn what_cannot_be_is_refused_and_leaves_the_project_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put_pictures(folder);
    refuse(folder, &["project", "status", "nowhere"], 2, &["there is no project"]);
    refuse(folder, &["project", "init", "pictures"], 2, &["holds something else"]);
    refuse(folder, &["project", "init", "q", "--classes", "a,a"], 2, &["twice"]);
    succeed(folder, &["project", "init", "p", "--classes", "fibres,dots"]);
    refuse_project(folder, &["project", "init", "p"], 2, "there is a project already");
    refuse_project(folder, &["tissue", "tile", "p"], 2, "no slides yet");
    put(folder, "text.png", "no picture");
    refuse_project(folder, &["project", "add", "p", "text.png"], 3, "text.png");
    succeed(folder, &["project", "add", "p", "pictures/p0.png"]);
    refuse_project(folder, &["tissue", "embed", "p"], 2, "no encoder yet");
    refuse_project(folder, &["tissue", "pretrain", "p"], 2, "tiles are missing");
    refuse_project(folder, &["tissue", "tile", "p", "--mpp", "0.5"], 2, "does not state its resolution");
    succeed(folder, &["tissue", "tile", "p", "--side", "256", "--named", "32"]);
    let one_tile = microtome(folder, &["tissue", "pretrain", "p", "--encoder", "small"]);
    assert!(one_tile.code == 3 && one_tile.stderr.contains("only one"), "{one_tile:?}");
    succeed(folder, &["tissue", "tile", "p", "--side", "64", "--step", "64"]);
    refuse_project_kind(folder, "nothing", "there is no encoder “nothing”");
    put(folder, "bad.safetensors", "no weights");
    refuse_project_kind(folder, "bad.safetensors", "not a readable safetensors model");
    put(folder, "bad.pth", "no weights");
    refuse_project_kind(folder, "bad.pth", "these weights of PyTorch cannot be read");
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/nets/tests/golden/tiny.pth");
    refuse_project_kind(folder, tiny, "of no network that is known here");
    let one = microtome(folder, &["tissue", "pretrain", "p", "--encoder", "small", "--tiles-at-once", "1"]);
    assert!(one.code == 2 && one.stderr.contains("two tiles at a time"), "{one:?}");
    succeed(folder, &["tissue", "pretrain", "p", "--encoder", "texture"]);
    succeed(folder, &["tissue", "embed", "p"]);
    let ended = microtome(folder, &["tissue", "cluster", "p", "--k", "400"]);
    assert!(ended.code == 2 && ended.stderr.contains("400 clusters are wanted of 16 tiles"), "{ended:?}");
    succeed(folder, &["tissue", "cluster", "p", "--k", "3"]);
    put(folder, "names.csv", "cluster,class\n7,dots\n");
    refuse_project(folder, &["tissue", "name", "p", "--from", "names.csv"], 2, "there is no cluster 7");
    // A mask of another size than its picture.
    std::fs::create_dir_all(folder.join("small")).unwrap();
    image::GrayImage::new(9, 9).save(folder.join("small/p0.png")).unwrap();
    refuse_project(folder, &["tissue", "name", "p", "--oracle", "small"], 3, "9×9");
    for (arguments, phrase) in [
        (["--task", "tissue", "--errors", "e"], "of nuclei only"),
        (["--task", "nuclei", "--truth-kind", "bcss"], "masks of tissue"),
    ] {
        let ends = ["--predicted", "masks", "--truth", "masks"];
        refuse_project(folder, &[&["evaluate"], &arguments[..], &ends].concat(), 2, phrase);
    }
    // Other weights where the encoder was.
    std::fs::copy(folder.join("bad.safetensors"), folder.join("p/models/encoder.safetensors")).unwrap();
    refuse_project(folder, &["tissue", "embed", "p"], 3, "encoder.safetensors");
    // A project of a newer version.
    put(folder, "p/microtome.toml", "version = 2\n");
    refuse_project(folder, &["project", "status", "p"], 3, "newer");
}

fn refuse_project_kind(folder: &Path, kind: &str, phrase: &str) {
    let ended = microtome(folder, &["tissue", "pretrain", "p", "--encoder", kind]);
    assert!(matches!(ended.code, 2 | 3) && ended.stderr.contains(phrase), "{ended:?}");
}

#[test]
fn white_pictures_are_said_to_be_white() {
    let folder = tempfile::tempdir().unwrap();
    put_plain(folder.path(), "white.png", 200, [255; 3]);
    succeed(folder.path(), &["project", "init", "p", "--classes", "a,b"]);
    succeed(folder.path(), &["project", "add", "p", "white.png"]);
    let ended = microtome(folder.path(), &["tissue", "tile", "p"]);
    assert!(ended.code == 3 && ended.stderr.contains("no slide has a tile with tissue"), "{ended:?}");
}

#[test]
fn one_process_at_a_time_has_a_project() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder);
    let many = ["tissue", "pretrain", "p", "--encoder", "small", "--epochs", "500", "--batch", "32"];
    let mut working = command(folder, &many);
    working.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let working = Working(working.spawn().unwrap());
    let begun = Instant::now();
    let holder = || std::fs::read_to_string(folder.join("p/.lock")).unwrap_or_default();
    while !holder().contains("pretrain") {
        assert!(begun.elapsed() < Duration::from_secs(60), "the project was never taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = microtome(folder, &["project", "status", "p"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("in use by microtome tissue pretrain"),
        "{refused:?}"
    );
    drop(working);
    succeed(folder, &["project", "status", "p"]);
}

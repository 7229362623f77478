//! Vectors that come from elsewhere and go elsewhere: HDF5 files in the layout of TRIDENT and CLAM.

#![allow(clippy::disallowed_methods)] // Test files need not survive a power cut.

mod common;

use common::textures::{PICTURES, project, scores};
use common::{files_below, microtome, put, succeed};
use std::path::Path;

/// A project with vectors, written into the folder `vectors`.
fn exported(folder: &Path) {
    project(folder);
    succeed(folder, &["tissue", "pretrain", "p", "--encoder", "texture"]);
    succeed(folder, &["tissue", "embed", "p"]);
    let ended = succeed(folder, &["tissue", "export", "p", "vectors"]);
    assert!(ended.stdout.contains(&format!("{PICTURES} files")), "{ended:?}");
    succeed(folder, &["project", "init", "q", "--classes", "fibres,dots"]);
    succeed(folder, &["project", "add", "q", "pictures"]);
}

#[test]
fn vectors_go_out_and_into_another_project_and_name_its_tissue() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    exported(folder);
    let ended = succeed(folder, &["tissue", "import", "q", "vectors"]);
    let tiles = succeed(folder, &["project", "status", "p"]).stdout;
    let tiles = tiles.lines().find(|line| line.starts_with("tiles")).unwrap().to_owned();
    let status = succeed(folder, &["project", "status", "q"]).stdout;
    assert!(status.contains(&tiles) && status.contains("imported") && !status.contains("stale"), "{status}");
    assert!(ended.stdout.contains("of 36 numbers"), "{ended:?}");
    succeed(folder, &["tissue", "cluster", "q", "--k", "8", "--restarts", "2"]);
    assert!(folder.join("q/out/clusters/cluster_07.png").is_file());
    succeed(folder, &["tissue", "name", "q", "--oracle", "masks", "--purity", "0.5"]);
    for method in ["direct", "fine"] {
        succeed(folder, &["tissue", "query", "q", "--method", method, "--out", method]);
        // A tile of 64 px is named as a whole where the border of two tissues is a wave.
        let dice = scores(folder, method)["mean_dice"].as_f64().unwrap();
        assert!(dice >= 0.85, "{method}: {dice}");
    }
    // Wider tiles of the same vectors are another answer, not the one that is there.
    let mask = || std::fs::read(folder.join("fine/masks/p0.png")).unwrap();
    let narrow = mask();
    succeed(folder, &["tissue", "import", "q", "vectors", "--side", "96"]);
    succeed(folder, &["tissue", "cluster", "q", "--k", "8", "--restarts", "2"]);
    succeed(folder, &["tissue", "query", "q", "--out", "fine"]);
    assert!(mask() != narrow);
    for (arguments, phrase) in [
        (&["query", "q", "--method", "cluster", "--out", "o"][..], "--method direct or fine"),
        (&["apply", "q/models/dictionary.safetensors", "pictures", "--out", "o"], "no network that sees"),
        (&["pretrain", "q", "--encoder", "small"], "those of imported vectors"),
    ] {
        let ended = microtome(folder, &[&["tissue"], arguments].concat());
        assert!(ended.code == 2 && ended.stderr.contains(phrase), "{ended:?}");
    }
    // The way back to tiles of one's own.
    succeed(folder, &["tissue", "tile", "q"]);
    let status = succeed(folder, &["project", "status", "q"]).stdout;
    assert!(status.contains("next: microtome tissue pretrain q"), "{status}");
    let ended = microtome(folder, &["tissue", "embed", "q"]);
    assert!(ended.code == 2, "{ended:?}");
    succeed(folder, &["tissue", "pretrain", "q", "--encoder", "texture"]);
    succeed(folder, &["tissue", "embed", "q"]);
}

#[test]
fn vectors_that_do_not_belong_to_the_slides_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    exported(folder);
    succeed(folder, &["tissue", "tile", "q", "--side", "64", "--named", "32"]);
    succeed(folder, &["tissue", "pretrain", "q", "--encoder", "texture"]);
    succeed(folder, &["tissue", "embed", "q"]);
    succeed(folder, &["tissue", "cluster", "q", "--k", "4", "--restarts", "1"]);
    let whole_project = || {
        let mut files = files_below(&folder.join("q"));
        files
            .retain(|path, _| !path.to_string_lossy().contains("project.sqlite") && !path.ends_with(".lock"));
        files
    };
    let before = whole_project();
    let refused = |phrase: &str| {
        let ended = microtome(folder, &["tissue", "import", "q", "vectors"]);
        assert!(matches!(ended.code, 2 | 3) && ended.stderr.contains(phrase), "{phrase}: {ended:?}");
        assert!(whole_project() == before, "{phrase}: the project is not as it was");
    };
    let ended = microtome(folder, &["tissue", "export", "p", "vectors"]);
    assert!(ended.code == 2 && ended.stderr.contains("there is a file already"), "{ended:?}");
    let own = folder.join("vectors/p3.h5");
    std::fs::rename(&own, folder.join("vectors/other.h5")).unwrap();
    refused("there is no file p3.h5");
    put(folder, "vectors/p3.h5", "no HDF5");
    refused("p3.h5");
    let whole = std::fs::read(folder.join("vectors/other.h5")).unwrap();
    std::fs::write(&own, &whole[..whole.len() / 2]).unwrap();
    refused("cannot be read");
}

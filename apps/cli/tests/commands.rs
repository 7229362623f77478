//! Commands, configs and output folders that are wrong; `doctor` and `nuclei config`.

mod common;

use common::{BEST, IMAGES, STAIN, put, record_of, refuse, run_of, succeed};

#[test]
fn a_config_that_is_wrong_is_refused_with_key_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &[&str]); 7] = [
        ("unknown.toml", b"[best]\nstepz = 3\n", &["no key “best.stepz”", "best.steps"]),
        ("section.toml", b"[bset]\nsteps = 3\n", &["bset", "known here"]),
        ("kind.toml", b"[best]\nsteps = \"many\"\n", &["best.steps must be an integer"]),
        ("word.toml", b"[stain]\nvectors = \"vibes\"\n", &["vibes", "stain.vectors", "macenko"]),
        ("range.toml", b"[instances]\nthreshold = 7.0\n", &["instances.threshold must lie between 0 and 1"]),
        ("nonsense.toml", b"method = \"stain\"\n[[[ what?\n", &["not valid TOML", "line 2"]),
        ("binary.toml", b"\xff\xfe\x00", &["not text"]),
    ];
    for (name, text, phrases) in cases {
        put(folder.path(), name, text);
        let values = ["--method", "stain", "--config", name];
        refuse(folder.path(), &run_of(IMAGES, "out", &values), 2, &[phrases, &[name]].concat());
    }
    let values = ["--config", "nowhere.toml"];
    refuse(folder.path(), &run_of(IMAGES, "out", &values), 3, &["no such file", "nowhere.toml"]);
}

#[test]
fn a_flag_that_is_wrong_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "good.toml", "method = \"stain\"\n");
    let cases: [(&[&str], &[&str]); 14] = [
        (&["--method", "magic"], &["magic", "`method`", "contrastive"]),
        (&["--best-steps", "many"], &["best.steps must be an integer"]),
        (&["--best-steps", "-3"], &["-3", "best.steps"]),
        (&["--best-steps", "0"], &["best.steps must be at least 1"]),
        (&["--best-step", "3"], &["--best-step", "--best-steps"]),
        (&["--best-learning-rate", "inf"], &["best.learning_rate must be a number"]),
        (&["--instances-min-area-um2", "nan"], &["instances.min_area_um2 must be a number"]),
        (&["--contrastive-crop-px", "50"], &["contrastive.crop_px must be larger than contrastive.patch_px"]),
        (&["--contrastive-draws", "1000000000"], &["contrastive.draws must be at most"]),
        (&["--seed", "red"], &["--seed", "red"]),
        (&["--mpp", "0"], &["0 µm per pixel is out of range"]),
        (&["--mpp", "-1"], &["-1 µm per pixel is out of range"]),
        (&["--threads", "0"], &["--threads"]),
        (&["--config", "good.toml", "--stain-vectors", "vibes"], &["stain.vectors", "vibes"]),
    ];
    for (values, phrases) in cases {
        refuse(folder.path(), &run_of(IMAGES, "out", values), 2, phrases);
    }
    let ended = common::microtome(folder.path(), &run_of(IMAGES, "out", cases[13].0));
    assert!(!ended.stderr.contains("good.toml"), "the file is not to blame: {ended:?}");
    refuse(folder.path(), &["nuclei", "guess"], 2, &["guess"]);
}

#[test]
fn an_output_folder_that_holds_other_things_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "mine/thesis.tex", "years of work");
    put(folder.path(), "file", "a file");
    put(folder.path(), "broken/.microtome/run.json", "{");
    put(folder.path(), "broken/labels/a.png", "old");
    let cases = [
        ("mine", "not empty and not of a run (it holds thesis.tex)"),
        ("file", "the output is a file"),
        ("file/out", "below a file"),
        ("broken", "another run that cannot be read"),
    ];
    for (out, phrase) in cases {
        for values in [&STAIN[..], &BEST] {
            refuse(folder.path(), &run_of(IMAGES, out, values), 2, &[phrase, &format!(": {out}\n  help: ")]);
        }
    }
}

/// /proc takes no folders, not even from root.
#[cfg(target_os = "linux")]
#[test]
fn an_output_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let phrases = ["creating the folder failed", "/proc/"];
    refuse(folder.path(), &run_of(IMAGES, "/proc/microtome", &STAIN), 5, &phrases);
    let train = [&["nuclei", "train", IMAGES, "--model", "/proc/a.model"], &BEST[..]].concat();
    refuse(folder.path(), &train, 5, &phrases);
}

#[test]
fn the_config_that_is_printed_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let printed = succeed(folder.path(), &["nuclei", "config"]).stdout;
    assert!(printed.contains("[contrastive]") && printed.contains("# "), "{printed}");
    put(folder.path(), "all.toml", &printed);
    put(folder.path(), "some.toml", "method = \"best\"\n[instances]\nthreshold = 0.6\n");
    let picture = format!("{IMAGES}/0121d675.png");
    succeed(folder.path(), &run_of(&picture, "plain", &STAIN));
    succeed(folder.path(), &run_of(&picture, "printed", &["--config", "all.toml", "--method", "stain"]));
    let [plain, printed] = ["plain", "printed"].map(|out| record_of(&folder.path().join(out)));
    assert_eq!(plain["config"], printed["config"]);
    let values = ["--config", "some.toml", "--method", "stain", "--instances-min-area-um2", "9"];
    succeed(folder.path(), &run_of(&picture, "some", &values));
    let config = &record_of(&folder.path().join("some"))["config"];
    assert_eq!((&config["method"], &config["instances"]["min_area_um2"]), (&"stain".into(), &9.0.into()));
    assert!((config["instances"]["threshold"].as_f64().unwrap() - 0.6).abs() < 1e-6, "{config}");
}

#[test]
fn a_flag_of_another_method_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let picture = format!("{IMAGES}/0121d675.png");
    let values = ["--method", "stain", "--best-steps", "7", "--instances-threshold", "0.6"];
    let ended = succeed(folder.path(), &run_of(&picture, "out", &values));
    let warnings: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("warning")).collect();
    assert_eq!(warnings, ["warning: --best-steps is for --method best, and changes nothing here"]);
}

/// Who reads may have seen enough; what cannot be written is an error.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_nobody_reads_is_no_fault_and_a_full_disk_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&["nuclei", "config"][..], &["doctor"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = common::command(folder.path(), arguments).stdout(writer).output().unwrap();
        assert!(unread.status.success() && unread.stderr.is_empty(), "{unread:?}");
        let refused = common::command(folder.path(), arguments).stdout(full()).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(5), "{told}");
        assert!(told.starts_with("error: writing to standard output failed"), "{told}");
        let untold = common::command(folder.path(), &[arguments, &["--what"]].concat())
            .stderr(full())
            .output()
            .unwrap();
        assert_eq!(untold.status.code(), Some(2));
    }
    // Work goes on where nobody reads of it.
    let picture = format!("{IMAGES}/0121d675.png");
    let worked =
        common::command(folder.path(), &run_of(&picture, "out", &STAIN)).stderr(full()).output().unwrap();
    assert!(worked.status.success(), "{worked:?}");
}

#[test]
fn the_doctor_names_what_it_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let page = succeed(folder.path(), &["doctor"]).stdout;
    for word in ["microtome 0.", "cores", "memory", "vector instructions", "GPU", "OpenSlide", "ONNX"] {
        assert!(page.contains(word), "{word} in {page}");
    }
    let one = succeed(folder.path(), &["doctor", "--threads", "1"]).stdout;
    let cores = one.lines().find(|line| line.starts_with("cores")).unwrap();
    assert!(cores.split_whitespace().eq(["cores", "1"]), "{cores}");
}

#[test]
fn help_explains_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let page = succeed(folder.path(), &["--help"]).stdout;
    assert!(page.contains("Exit codes") && page.contains("130"), "{page}");
    let page = succeed(folder.path(), &["nuclei", "run", "--help"]).stdout;
    assert!(page.contains("--contrastive-crop-px") && page.contains("--instances-threshold"), "{page}");
}

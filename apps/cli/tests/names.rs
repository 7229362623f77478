//! File names of all kinds go in and come out as they are, and steer neither spreadsheet nor page.

mod common;

use common::{IMAGES, NAMES, STAIN, put_picture, record_of, run_of, succeed};

#[cfg(unix)]
const ODD: [&str; 6] = ["with two spaces", "🔬 é", "=1+1", "-out", "<b>x", "[a]*"];
#[cfg(not(unix))]
const ODD: [&str; 4] = ["with two spaces", "🔬 é", "=1+1", "-out"];

#[test]
fn odd_names_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (odd, bundled) in ODD.iter().zip(NAMES) {
        put_picture(folder.path(), format!("in/{odd}.png"), bundled);
    }
    succeed(folder.path(), &run_of("in", "out", &STAIN));
    let table = std::fs::read_to_string(out.join("nuclei.csv")).unwrap();
    let inputs = record_of(&out)["inputs"].as_array().unwrap().clone();
    for odd in ODD {
        for file in ["labels/*.png", "confidence/*.png", "overlays/*.png", "geojson/*.geojson"] {
            assert!(out.join(file.replace('*', odd)).is_file(), "{file} of {odd}");
        }
        let in_table = if odd.starts_with(['=', '-']) { format!("'{odd}") } else { odd.to_owned() };
        assert!(table.lines().any(|line| line.starts_with(&format!("{in_table},"))), "{odd}");
        assert!(inputs.iter().any(|input| input["name"] == odd), "{odd}");
    }
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(!report.contains("<b>x"), "a name is text in the page");
}

#[test]
fn names_that_look_like_patterns_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    put_picture(folder.path(), "a[1].png", "0121d675");
    put_picture(folder.path(), "a1.png", "4d14a362");
    succeed(folder.path(), &run_of("a[1].png", "exact", &STAIN));
    assert_eq!(record_of(&folder.path().join("exact"))["inputs"][0]["name"], "a[1]");
    let ended = succeed(folder.path(), &run_of("a?.png", "pattern", &STAIN));
    assert!(ended.stdout.contains("in 1 picture\n"), "{ended:?}");
    let all = format!("{IMAGES}/*.png");
    let ended = succeed(folder.path(), &run_of(&all, "all", &STAIN));
    assert!(ended.stdout.contains("in 6 pictures"), "{ended:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_are_worked_on_unless_outputs_would_collide() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let (one, other, out) = (OsStr::from_bytes(b"a\xff.png"), OsStr::from_bytes(b"a\xfe.png"), b"out\xff");
    put_picture(folder.path(), one, "0121d675");
    let arguments = ["nuclei", "run", "--method", "stain", "--out"].map(OsStr::new);
    let [out, other] = [OsStr::from_bytes(out), other];
    let ended = common::microtome(folder.path(), &[&arguments[..], &[out, one]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(folder.path().join(out).join("labels/a\u{fffd}.png").is_file());
    put_picture(folder.path(), other, "4d14a362");
    let ended =
        common::microtome(folder.path(), &[&arguments[..], &[OsStr::new("both"), one, other]].concat());
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("two pictures are named a\u{fffd}"), "{ended:?}");
}

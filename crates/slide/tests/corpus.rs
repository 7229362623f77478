//! Files from elsewhere, if they are at hand: malformed and exotic ones, and real pictures. The environment
//! variable `MICROTOME_DATA` says where they are; without it these tests are skipped with a notice.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{SETTINGS, within};
use microtome_slide::{find_pictures, read_picture};
use microtome_vault::Fault;

/// A folder of the corpus, or a notice that it is not at hand.
fn corpus(folder: &str) -> Option<PathBuf> {
    let path = std::env::var_os("MICROTOME_DATA").map(|data| PathBuf::from(data).join(folder));
    if path.as_ref().is_none_or(|path| !path.is_dir()) {
        println!("skipped: MICROTOME_DATA names no folder with {folder} in it");
        return None;
    }
    path
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.append(&mut files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[test]
fn hostile_files_are_read_or_refused_in_time() {
    let Some(folder) = corpus("hostile") else { return };
    let files = files_below(&folder);
    let mut read = 0;
    for path in &files {
        let name = path.display().to_string();
        match within(Duration::from_secs(2), &name, || read_picture(path, &SETTINGS)) {
            Ok(picture) => {
                assert_eq!(picture.rgb.len(), 3 * picture.size.area_px(), "{name}");
                read += 1;
            }
            Err(error) => {
                assert!(matches!(error.fault(), Fault::Input | Fault::Limit), "{error}");
                assert!(error.advice().is_some(), "{error}");
            }
        }
    }
    println!("{} hostile files, {read} of them read", files.len());
    assert!(files.len() >= 250 && read >= 90);
}

#[test]
fn real_pictures_are_read() {
    let Some(folder) = corpus("pictures") else { return };
    let files = find_pictures(&[folder.clone(), folder.join("tiles")]).unwrap();
    for path in &files {
        let picture = read_picture(path, &SETTINGS).unwrap();
        assert!(picture.size.area_px() > 0);
    }
    println!("{} pictures", files.len());
    assert!(files.len() >= 20);
}

#[test]
fn a_tissue_microarray_core_is_violet_on_grey_and_not_the_colours_of_ycbcr() {
    let Some(folder) = corpus("pictures") else { return };
    let picture = read_picture(folder.join("HE_example.tif"), &SETTINGS).unwrap();
    let mean = |channel: usize| {
        let values = picture.rgb.iter().skip(channel).step_by(3);
        values.map(|&value| u64::from(value)).sum::<u64>() / picture.size.area_px() as u64
    };
    let (red, green, blue) = (mean(0), mean(1), mean(2));
    assert!(blue > red && red > green && green > 100, "{red} {green} {blue}");
    let mpp = picture.mpp.unwrap().microns();
    assert!((mpp - 0.5).abs() < 0.001, "{mpp}");
}

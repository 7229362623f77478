//! Every kind of picture that is read, against what Pillow and tifffile decode from the same bytes.

mod common;

use common::{Reader, samples};
use microtome_slide::Size;
use microtome_vault::checksum::sha256_hex;

/// Streams that another decoder reads for us may be rounded differently; elsewhere every value is the same.
fn tolerance(name: &str) -> u8 {
    match name {
        "progressive.jpg" | "cmyk.jpg" => 4,
        // Pillow rounds down when it mixes inks.
        "cmyk.tif" => 1,
        _ => 0,
    }
}

#[test]
fn every_kind_of_picture_has_the_pixels_that_others_see() {
    let reader = Reader::new();
    for sample in samples() {
        let picture = reader.read(&sample.bytes).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(picture.size, Size::new(37, 23), "{}", sample.name);
        assert_eq!(picture.sha256, sha256_hex(&sample.bytes));
        let differences: Vec<u8> = picture.rgb.iter().zip(&sample.rgb).map(|(a, b)| a.abs_diff(*b)).collect();
        let highest = differences.iter().max().copied().unwrap();
        assert!(highest <= tolerance(&sample.name), "{} differs by {highest}", sample.name);
        let mean = differences.iter().map(|&difference| f64::from(difference)).sum::<f64>();
        assert!(mean / differences.len() as f64 <= 0.5, "{}", sample.name);
    }
}

#[test]
fn a_resolution_is_taken_from_where_each_format_keeps_it() {
    let reader = Reader::new();
    let mut stated = 0;
    for sample in samples() {
        let mpp = reader.read(&sample.bytes).unwrap().mpp.map(|mpp| (mpp.microns() * 1000.0).round() as u32);
        let expected = match sample.name.rsplit_once('.').and_then(|(stem, _)| stem.rsplit_once('_')) {
            Some((_, "250nm")) => Some(250),
            Some((_, "499nm")) => Some(499),
            Some((_, "500nm")) => Some(500),
            _ => None,
        };
        assert_eq!(mpp, expected, "{}", sample.name);
        stated += usize::from(expected.is_some());
    }
    assert_eq!(stated, 6);
}

#[test]
fn what_is_not_taken_as_it_is_is_said() {
    let reader = Reader::new();
    let mut warned = 0;
    for sample in samples() {
        let warnings = reader.read(&sample.bytes).unwrap().warnings;
        let expected: &[&str] = match sample.name.as_str() {
            "grey_16.png" | "sixteen_big_endian.tif" | "sixteen_bigtiff_big_endian.tif" => {
                &["16-bit samples were scaled to 8 bits"]
            }
            "rgba.png" | "grey_alpha.png" | "rgba_straight.tif" | "rgba_premultiplied.tif" => {
                &["transparent pixels were put on white"]
            }
            "cmyk.tif" => &["CMYK inks were turned into RGB without a colour profile"],
            "five_channels_predicted.tif" => &["of 5 channels the first 3 were read"],
            "three_greys.tif" => &["three grey channels were taken for red, green and blue"],
            "pages.tif" => &["the file has 2 other pages, which were not read"],
            _ => &[],
        };
        assert_eq!(warnings, expected, "{}", sample.name);
        warned += usize::from(!expected.is_empty());
    }
    assert_eq!(warned, 11);
}

#[test]
fn the_name_is_the_stem_and_the_format_is_not_the_extension() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a slide 😐.ome.png");
    let sample = samples().into_iter().find(|sample| sample.name == "tiles.tif").unwrap();
    microtome_vault::disk::write_atomic(&path, &sample.bytes).unwrap();
    let picture = microtome_slide::read_picture(&path, &common::SETTINGS).unwrap();
    assert_eq!((picture.name.as_str(), picture.path), ("a slide 😐.ome", path));
}

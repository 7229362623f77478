//! Slides in DICOM files that are made here: how their levels, frames and elements may be written, and broken.

#![allow(clippy::disallowed_methods)] // No durable write is needed for a file that a test reads.

mod common;

use common::dicom::{Dicom, Order, Syntax, Table, long, short, text};
use common::{Folder, within};
use microtome_slide::slide::{SlideFormat, SlideLikeness, TilePlace};
use microtome_slide::{PointInLevel0, Size, Slide, find_pictures, read_picture};
use microtome_vault::{Budget, Fault};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ORIGIN: PointInLevel0 = PointInLevel0::new(0, 0);
const SIZE: [u32; 2] = [70, 50];
const TILE: [u16; 2] = [32, 16];
/// The bundled slide, whose tiles are JPEG streams.
const SVS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/openslide/CMU-1-Small-Region.svs");

fn expected(x: usize, y: usize, order: Order) -> [u8; 3] {
    let is_left_out = order == Order::Sparse && x < 32 && y < 16;
    if is_left_out { [255; 3] } else { [x as u8, y as u8, 77] }
}

fn put(folder: &Path, name: &str, dicom: &Dicom) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, dicom.bytes()).unwrap();
    path
}

#[test]
fn raw_frames_are_found_however_they_are_ordered_and_written() {
    let folder = Folder::new();
    let mut looked_at = 0;
    for (syntax, order) in [
        (Syntax::Explicit, Order::Full),
        (Syntax::Explicit, Order::Sparse),
        (Syntax::Implicit, Order::Full),
        (Syntax::Implicit, Order::Sparse),
    ] {
        let slide = folder.open(&Dicom::level(syntax, order, SIZE, TILE).bytes()).unwrap();
        assert_eq!((slide.format, slide.levels.len()), (SlideFormat::Dicom, 1), "{syntax:?} {order:?}");
        assert_eq!(slide.levels[0].size, Size::new(70, 50));
        assert_eq!(slide.mpp.map(|mpp| mpp.microns()), Some(0.25), "{syntax:?} {order:?}");
        assert_eq!(slide.objective_power, Some(40.0));
        for (left, top, width, height) in [(0, 0, 70, 50), (-5, -5, 80, 60), (31, 15, 2, 2), (64, 48, 9, 9)] {
            let size = Size::new(width, height);
            let region = slide.region(0, PointInLevel0::new(left, top), size, Budget::DEFAULT).unwrap();
            for (i, pixel) in region.rgb.as_chunks::<3>().0.iter().enumerate() {
                let (x, y) = (left + (i % width) as i64, top + (i / width) as i64);
                let wanted = match (usize::try_from(x), usize::try_from(y)) {
                    (Ok(x), Ok(y)) if x < 70 && y < 50 => expected(x, y, order),
                    _ => [255; 3],
                };
                assert_eq!(*pixel, wanted, "{syntax:?} {order:?} {x} {y}");
                looked_at += 1;
            }
        }
    }
    assert_eq!(looked_at, 4 * (70 * 50 + 80 * 60 + 4 + 81));
}

#[test]
fn jpeg_frames_are_those_of_the_slide_they_were_taken_from() {
    let svs = Slide::open(SVS, Budget::DEFAULT).unwrap();
    let places = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)];
    let streams: Vec<Vec<u8>> =
        places.map(|(column, row)| svs.jpeg_tile(0, TilePlace { column, row }).unwrap().unwrap()).to_vec();
    let whole = svs.region(0, ORIGIN, Size::new(720, 480), Budget::DEFAULT).unwrap();
    let folder = Folder::new();
    for (table, order) in [
        (Table::Basic, Order::Full),
        (Table::Extended, Order::Full),
        (Table::None, Order::Full),
        (Table::None, Order::Sparse),
    ] {
        let mut dicom = Dicom::level(Syntax::Jpeg, order, [720, 480], [240, 240]);
        (dicom.table, dicom.frames) = (table, streams.clone());
        let slide = folder.open(&dicom.bytes()).unwrap();
        let region = slide.region(0, ORIGIN, Size::new(720, 480), Budget::DEFAULT).unwrap();
        let skip = if order == Order::Sparse { 3 * 720 * 240 } else { 0 };
        assert!(
            region.unreadable.is_none() && region.rgb[skip..] == whole.rgb[skip..],
            "{table:?} {order:?}"
        );
        let stored = slide.jpeg_tile(0, TilePlace { column: 1, row: 0 }).unwrap().unwrap();
        assert_eq!(stored, streams[1], "{table:?} {order:?}");
    }
    // A tile that is passed through is a picture that shows the same.
    std::fs::write(folder.0.path().join("tile.jpg"), &streams[0]).unwrap();
    let picture = read_picture(folder.0.path().join("tile.jpg"), &common::SETTINGS).unwrap();
    let tile = svs.region(0, ORIGIN, Size::new(240, 240), Budget::DEFAULT).unwrap();
    assert_eq!(picture.rgb, tile.rgb);
}

#[test]
fn a_series_is_one_slide_whichever_of_its_files_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let level = |size, series| Dicom { series, ..Dicom::level(Syntax::Explicit, Order::Full, size, TILE) };
    let beside = |image_type| Dicom { image_type, ..level([20, 10], "1.2.3") };
    let small = put(folder, "a.dcm", &level([35, 25], "1.2.3"));
    let large = put(folder, "b.dcm", &level([70, 50], "1.2.3"));
    let label = put(folder, "c.dcm", &beside("ORIGINAL\\PRIMARY\\LABEL\\NONE"));
    put(folder, "d.dcm", &beside("ORIGINAL\\PRIMARY\\OVERVIEW\\NONE"));
    let other = put(folder, "e.dcm", &level([64, 64], "1.2.4"));
    put(folder, "f.dcm", &level([71, 9], "1.2.3"));
    for path in [&small, &large, &label] {
        assert_eq!(Slide::is_slide_file(path), SlideLikeness::Certain);
        let slide = Slide::open(path, Budget::DEFAULT).unwrap();
        let widths: Vec<usize> = slide.levels.iter().map(|level| level.size.width_px).collect();
        assert_eq!((widths, slide.levels[1].downsample), (vec![70, 35], 2.0));
        let names: Vec<&str> = slide.associated.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["label", "macro"]);
        assert!(slide.warnings.len() == 1 && slide.warnings[0].contains("f.dcm"), "{:?}", slide.warnings);
        let label = slide.associated_image("label", Budget::DEFAULT).unwrap();
        assert_eq!((label.size, &label.rgb[..3]), (Size::new(20, 10), &[0, 0, 77][..]));
        let region = slide.region(1, PointInLevel0::new(40, 20), Size::new(1, 1), Budget::DEFAULT).unwrap();
        assert_eq!(region.rgb, [20, 10, 77]);
    }
    assert_eq!(find_pictures(&[folder.to_owned()]).unwrap(), [large.clone(), other]);
    assert_eq!(find_pictures(&[small, label]).unwrap().len(), 1);
    let two = Slide::open(folder, Budget::DEFAULT).unwrap_err();
    assert!(two.fault() == Fault::Usage && two.to_string().contains("2 slides"), "{two}");
    std::fs::remove_file(folder.join("e.dcm")).unwrap();
    assert_eq!(Slide::open(folder, Budget::DEFAULT).unwrap().path, large);
}

#[test]
fn elements_that_make_no_sense_are_refused_with_the_reason() {
    let folder = Folder::new();
    let cases: [(u32, &'static [u8; 2], Vec<u8>, &str); 16] = [
        (0x0008_0016, b"UI", text("1.2.840.10008.5.1.4.1.1.66.4"), "no whole-slide image"),
        (0x0008_0016, b"UI", Vec::new(), "no whole-slide image"),
        (0x0020_9161, b"UI", text("1.2"), "several files"),
        (0x0028_0002, b"US", short(4), "4 samples a pixel"),
        (0x0028_0002, b"US", short(0), "0 samples a pixel"),
        (0x0028_0004, b"CS", text("PALETTE COLOR"), "PALETTE COLOR"),
        (0x0028_0008, b"IS", text("11"), "its extent needs 12"),
        (0x0028_0008, b"IS", text("0"), "states no extent"),
        (0x0028_0008, b"IS", text("many"), "states no extent"),
        (0x0028_0008, b"IS", text("18446744073709551615"), "fewer than it states"),
        (0x0028_0010, b"US", short(0), "states no extent"),
        (0x0028_0011, b"US", short(65_535), "fewer than it states"),
        (0x0028_0100, b"US", short(16), "3 samples of 8 bits"),
        (0x0028_0101, b"US", short(12), "3 samples of 12 bits"),
        (0x0048_0006, b"UL", long(u32::MAX), "its extent needs"),
        (0x0048_0007, b"UL", long(u32::MAX), "its extent needs"),
    ];
    for (tag, kind, value, phrase) in cases {
        let mut dicom = Dicom::level(Syntax::Explicit, Order::Full, SIZE, TILE);
        dicom.changes = vec![(tag, kind, value)];
        let outcome = within(Duration::from_secs(1), phrase, || {
            folder.open(&dicom.bytes())?.region(0, ORIGIN, Size::new(70, 50), Budget::of_bytes(64 << 20))
        });
        let error = outcome.unwrap_err();
        assert!(error.fault() == Fault::Input && error.to_string().contains(phrase), "{phrase}: {error}");
        assert!(error.path().is_some() && error.advice().is_some());
    }
}

#[test]
fn positions_far_away_cost_no_time() {
    let mut dicom = Dicom::level(Syntax::Explicit, Order::Sparse, SIZE, TILE);
    dicom.changes = vec![(0x0048_0006, b"UL", long(u32::MAX)), (0x0048_0007, b"UL", long(u32::MAX))];
    let slide = Folder::new().open(&dicom.bytes()).unwrap();
    let read = || slide.region(0, ORIGIN, Size::new(1000, 1000), Budget::DEFAULT).unwrap_err();
    let error = within(Duration::from_secs(1), "a sparse slide without end", read);
    assert!(error.to_string().contains("far beyond its frames"), "{error}");
}

#[test]
fn damage_gives_a_slide_or_an_error_and_never_takes_long() {
    let folder = Folder::new();
    let (mut cases, mut read) = (0, 0);
    for (syntax, order) in
        [(Syntax::Explicit, Order::Sparse), (Syntax::Implicit, Order::Full), (Syntax::Jpeg, Order::Full)]
    {
        let mut dicom = Dicom::level(syntax, order, SIZE, TILE);
        if syntax == Syntax::Jpeg {
            dicom.frames.iter_mut().for_each(|frame| frame.truncate(20));
        } else {
            dicom.size = [70, 16];
            dicom.frames.truncate(3);
        }
        let whole = dicom.bytes();
        let head = whole.len().min(1100);
        let mut attempt = |bytes: &[u8]| {
            let open = || {
                let slide = folder.open(bytes)?;
                slide.region(0, ORIGIN, Size::new(64, 64), Budget::of_bytes(1 << 26))
            };
            cases += 1;
            match within(Duration::from_secs(1), "a damaged slide", open) {
                Ok(region) => read += usize::from(region.rgb.len() == 3 * 64 * 64),
                Err(error) => {
                    assert!(matches!(error.fault(), Fault::Input | Fault::Limit), "{syntax:?}: {error}");
                }
            }
        };
        (128..head).for_each(|length| attempt(&whole[..length]));
        for at in 128..head {
            for value in [0, 0xff, 0x7f, 0x80, whole[at].wrapping_add(1), whole[at].wrapping_sub(1)] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                attempt(&bytes);
            }
        }
    }
    println!("{cases} damaged files, {read} of them read");
    assert!(cases >= 12_000 && read >= 1000, "{cases} {read}");
}

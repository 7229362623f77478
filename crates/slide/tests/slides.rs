//! Opening slides: directories that are made here, sound and broken.

mod common;

use common::tiff::{Tags, Value, Writer, numbers, with};
use common::{Folder, within};
use microtome_slide::slide::SlideFormat;
use microtome_slide::{PointInLevel0, Size, Slide};
use microtome_vault::Budget;
use std::time::Duration;

/// A picture in tiles of 240 px, or in strips.
fn picture(width: u64, height: u64, is_tiled: bool) -> Tags {
    let mut tags = vec![numbers(256, width), numbers(257, height), (259, Value::Numbers(3, vec![7]))];
    tags.extend(if is_tiled { vec![numbers(322, 240), numbers(323, 240)] } else { vec![numbers(278, 16)] });
    tags
}

const ORIGIN: PointInLevel0 = PointInLevel0::new(0, 0);

const APERIO: &str = "Aperio Image Library v11\r\n2220x2967 JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990";

/// As scanners of Aperio write them.
fn aperio() -> Vec<Tags> {
    let text = |text| (270, Value::Text(text));
    vec![
        with(picture(2220, 2967, true), text(APERIO)),
        with(
            picture(574, 768, false),
            text("Aperio Image Library v11\r\n2220x2967 -> 574x768 - |AppMag = 20"),
        ),
        with(picture(555, 741, true), text(APERIO)),
        with(picture(387, 463, false), text("Aperio Image Library v11\r\nlabel 387x463")),
        with(picture(1280, 431, false), numbers(254, 9)),
    ]
}

#[test]
fn aperios_levels_are_in_tiles_and_the_others_have_names() {
    let folder = Folder::new();
    for (is_little_endian, is_big) in [(true, false), (true, true), (false, false), (false, true)] {
        let slide = folder.open(&Writer::new(is_little_endian, is_big).chain(&aperio())).unwrap();
        assert_eq!(slide.format, SlideFormat::Aperio);
        let levels: Vec<(Size, Size)> = slide.levels.iter().map(|level| (level.size, level.tile)).collect();
        let tile = Size::new(240, 240);
        assert_eq!(levels, [(Size::new(2220, 2967), tile), (Size::new(555, 741), tile)]);
        assert_eq!(slide.levels[0].downsample, 1.0);
        assert!((slide.levels[1].downsample - (4.0 + 2967.0 / 741.0) / 2.0).abs() < 1e-12);
        assert_eq!(slide.levels[1].compression, "JPEG");
        assert_eq!(slide.mpp.map(|mpp| mpp.microns()), Some(0.499));
        assert_eq!(slide.objective_power, Some(20.0));
        let associated: Vec<(&str, Size)> =
            slide.associated.iter().map(|image| (image.name.as_str(), image.size)).collect();
        assert_eq!(
            associated,
            [
                ("thumbnail", Size::new(574, 768)),
                ("label", Size::new(387, 463)),
                ("macro", Size::new(1280, 431))
            ]
        );
        assert!(slide.warnings.is_empty());
    }
}

#[test]
fn smaller_levels_of_ome_tiff_lie_below_their_directory() {
    let mut writer = Writer::new(true, true);
    let below: Vec<u64> = [(500, 400), (250, 200)]
        .map(|(width, height)| writer.directory(&picture(width, height, true)).0)
        .to_vec();
    let ome = r#"<OME><Pixels PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25"/></OME>"#;
    let first = with(picture(1000, 800, true), (270, Value::Text(ome)));
    let bytes = writer.chain(&[with(first, (330, Value::Numbers(16, below))), picture(300, 100, true)]);
    let slide = Folder::new().open(&bytes).unwrap();
    assert_eq!(slide.format, SlideFormat::Ome);
    assert_eq!(slide.levels.iter().map(|level| level.downsample).collect::<Vec<_>>(), [1.0, 2.0, 4.0]);
    assert_eq!(slide.mpp.map(|mpp| mpp.microns()), Some(0.25));
    assert_eq!(slide.associated.len(), 1);
}

#[test]
fn of_other_tiff_files_smaller_versions_are_levels_and_other_pictures_are_not() {
    let reduced = |width, height| with(picture(width, height, true), numbers(254, 1));
    let directories = [
        picture(1000, 800, true),
        reduced(250, 200),
        reduced(500, 400),
        reduced(400, 400),
        picture(90, 90, false),
    ];
    let slide = Folder::new().open(&Writer::new(true, false).chain(&directories)).unwrap();
    assert_eq!(slide.format, SlideFormat::Tiff);
    assert_eq!(slide.levels.iter().map(|level| level.size.width_px).collect::<Vec<_>>(), [1000, 500, 250]);
    let names: Vec<&str> = slide.associated.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["page 4", "page 5"]);
    assert_eq!(slide.mpp, None);
}

#[test]
fn what_is_no_slide_is_refused_with_its_path() {
    let folder = Folder::new();
    let without_pixels = Writer::new(true, false).chain(&[picture(0, 0, true)]);
    let without_directory = Writer::new(true, false).bytes;
    let outside = [b"II*\0".as_slice(), &u32::MAX.to_le_bytes()].concat();
    let cases: [(&[u8], &str); 7] = [
        (b"", "not a slide"),
        (b"II", "not a slide"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0\0\0\0\0", "PNG file cannot be decoded"),
        (b"II+\0\x10\0\0\0\0\0\0\0\0\0\0\0", "not a slide"),
        (&outside, "its first directory cannot be read"),
        (&without_directory, "its first directory cannot be read"),
        (&without_pixels, "has no picture"),
    ];
    for (bytes, phrase) in cases {
        let path = folder.put(bytes);
        let error = Slide::open(&path, Budget::DEFAULT).unwrap_err();
        assert!(error.to_string().contains(phrase), "{error}");
        assert_eq!(error.path(), Some(path.as_path()));
    }
    assert!(Slide::open(folder.0.path(), Budget::DEFAULT).unwrap_err().to_string().contains("folder"));
    assert!(Slide::open(folder.0.path().join("none"), Budget::DEFAULT).is_err());
}

#[test]
fn a_chain_that_bites_its_tail_is_warned_of() {
    let mut writer = Writer::new(true, false);
    let (start, next_at) = writer.directory(&picture(1000, 800, true));
    writer.overwrite(4, start);
    writer.overwrite(next_at, start);
    let slide = Folder::new().open(&writer.bytes).unwrap();
    assert_eq!((slide.levels.len(), slide.warnings.len()), (1, 1));
}

/// 500×300 pixels in uncompressed tiles of 64×32: red is the column, green the row, blue the tile.
fn mosaic(level: u64) -> (Vec<u8>, impl Fn(usize, usize) -> [u8; 3]) {
    let colour = |x: usize, y: usize| [x as u8, y as u8, (x / 64 * 10 + y / 32) as u8];
    let mut writer = Writer::new(true, false);
    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    for (row, column) in (0..10).flat_map(|row| (0..8).map(move |column| (row, column))) {
        offsets.push(writer.bytes.len() as u64);
        let pixels = (0..32 * 64).flat_map(|i| colour(column * 64 + i % 64, row * 32 + i / 64));
        writer.bytes.extend(pixels);
        lengths.push(64 * 32 * 3);
    }
    // One tile is left out, one lies beyond the end of the file.
    lengths[3] = 0;
    offsets[9] = u64::from(u32::MAX) - 7;
    let tags = vec![
        numbers(256, 500),
        numbers(257, 300),
        (258, Value::Numbers(3, vec![8, 8, 8])),
        numbers(259, 1),
        numbers(262, 2),
        numbers(277, 3),
        numbers(322, 64),
        numbers(323, 32),
        (324, Value::Numbers(4, offsets)),
        (325, Value::Numbers(4, lengths)),
    ];
    let mut directories = vec![tags];
    directories.extend((0..level).map(|_| with(picture(250, 150, true), numbers(254, 1))));
    (writer.chain(&directories), colour)
}

#[test]
fn regions_are_the_slides_pixels_inside_and_white_outside() {
    let (bytes, colour) = mosaic(0);
    let slide = Folder::new().open(&bytes).unwrap();
    let is_left_out = |x: usize, y: usize| [(3, 0), (1, 1)].contains(&(x / 64, y / 32));
    let expected = |x: i64, y: i64| match (usize::try_from(x), usize::try_from(y)) {
        (Ok(x), Ok(y)) if x < 500 && y < 300 && !is_left_out(x, y) => colour(x, y),
        _ => [255; 3],
    };
    let corners =
        [-600, -70, -64, -1, 0, 1, 63, 64, 65, 192, 447, 448, 499, 500, 501, i64::MAX - 2, i64::MIN + 2];
    let sizes = [(0, 5), (1, 1), (64, 32), (65, 33), (130, 70), (510, 310)];
    let mut looked_at = 0;
    for (left, top) in corners.iter().flat_map(|&left| corners.iter().map(move |&top| (left, top))) {
        for (width, height) in sizes {
            let size = Size::new(width, height);
            let Ok(region) = slide.region(0, PointInLevel0::new(left, top), size, Budget::DEFAULT) else {
                // Only where nothing but the tile beyond the end of the file is asked for.
                assert!((64..128).contains(&left) && (32..64).contains(&top), "{left} {top} {size}");
                continue;
            };
            for (i, pixel) in region.rgb.chunks_exact(3).enumerate() {
                let at = |start: i64, i: usize| start.saturating_add(i as i64);
                let (x, y) = (at(left, i % width), at(top, i / width));
                assert_eq!(pixel, expected(x, y), "{left} {top} {size}: {x} {y}");
            }
            looked_at += region.rgb.len();
        }
    }
    assert!(looked_at > 10_000_000, "{looked_at}");
    let whole = slide.region(0, ORIGIN, Size::new(500, 300), Budget::DEFAULT).unwrap();
    assert_eq!(whole.unreadable.map(|(count, _)| count), Some(1));
}

/// 32×32 raw pixels in tiles of 16, red, green and blue each in tiles of their own; `changes` replace tags.
fn planes(lengths_of_first_tile: [u64; 3], changes: &[(u16, u64)]) -> Vec<u8> {
    let mut writer = Writer::new(false, false);
    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    for (channel, tile) in (0..3u8).flat_map(|channel| (0..4u8).map(move |tile| (channel, tile))) {
        offsets.push(writer.bytes.len() as u64);
        lengths.push(if tile == 0 { lengths_of_first_tile[usize::from(channel)] } else { 256 });
        writer.bytes.extend([100 * channel + 10 * tile; 256]);
    }
    let mut tags = vec![
        numbers(256, 32),
        numbers(257, 32),
        (258, Value::Numbers(3, vec![8, 8, 8])),
        numbers(259, 1),
        numbers(262, 2),
        numbers(277, 3),
        numbers(284, 2),
        numbers(322, 16),
        numbers(323, 16),
        (324, Value::Numbers(4, offsets)),
        (325, Value::Numbers(4, lengths)),
    ];
    for (tag, value) in changes {
        tags.retain(|(other, _)| other != tag);
        tags.push(numbers(*tag, *value));
    }
    tags.sort_by_key(|(tag, _)| *tag);
    writer.chain(&[tags])
}

#[test]
fn planes_of_a_tile_are_put_together_or_missed() {
    let folder = Folder::new();
    let read = |lengths| {
        let slide = folder.open(&planes(lengths, &[])).unwrap();
        assert_eq!((slide.format, slide.warnings.len()), (SlideFormat::Tiff, 0));
        let region = slide.region(0, ORIGIN, Size::new(32, 32), Budget::DEFAULT).unwrap();
        let at = |x: usize, y: usize| region.rgb[3 * (32 * y + x)..][..3].to_vec();
        assert_eq!([at(16, 0), at(0, 31), at(31, 31)], [[10, 110, 210], [20, 120, 220], [30, 130, 230]]);
        (at(15, 15), region.unreadable.map(|(count, _)| count))
    };
    assert_eq!(read([256; 3]), (vec![0, 100, 200], None));
    assert_eq!(read([0; 3]), (vec![255; 3], None), "the file leaves the tile out");
    assert_eq!(read([256, 0, 256]), (vec![255; 3], Some(1)));
    assert_eq!(read([0, 256, 256]), (vec![255; 3], Some(1)));
    assert_eq!(read([256, 256, 255]), (vec![255; 3], Some(1)));
}

#[test]
fn planes_that_are_no_colours_are_said_or_refused() {
    let folder = Folder::new();
    let grey = folder.open(&planes([256; 3], &[(262, 1)])).unwrap();
    assert_eq!(grey.warnings, ["three grey channels were taken for red, green and blue"]);
    // Signed numbers, the lowest bit first, differences of an unknown kind, deeper samples than the tiles hold.
    for change in [(339, 2), (266, 2), (317, 9), (258, 16)] {
        let read = |bytes: Vec<u8>| {
            let slide = folder.open(&bytes)?;
            slide.region(0, ORIGIN, Size::new(32, 32), Budget::DEFAULT)
        };
        let error = read(planes([256; 3], &[change])).unwrap_err();
        assert_eq!(error.fault(), microtome_vault::Fault::Input, "{change:?}: {error}");
    }
}

#[test]
fn regions_that_cannot_be_are_refused() {
    let (bytes, _) = mosaic(1);
    let slide = Folder::new().open(&bytes).unwrap();
    let refusal = |level, corner, size, budget: u64| {
        slide.region(level, corner, size, Budget::of_bytes(budget)).unwrap_err()
    };
    let one = Size::new(1, 1);
    assert_eq!(refusal(2, ORIGIN, one, 1 << 30).fault(), microtome_vault::Fault::Usage);
    assert_eq!(
        refusal(0, ORIGIN, Size::new(1 << 20, 1 << 20), 1 << 30).fault(),
        microtome_vault::Fault::Limit
    );
    assert_eq!(refusal(0, ORIGIN, one, 1000).fault(), microtome_vault::Fault::Limit);
    assert_eq!(refusal(0, PointInLevel0::new(64, 32), one, 1 << 30).fault(), microtome_vault::Fault::Input);
    // A level that does not say where its tiles are.
    assert_eq!(refusal(1, ORIGIN, one, 1 << 30).fault(), microtome_vault::Fault::Input);
}

#[test]
fn a_list_that_is_too_short_for_its_extent_costs_no_time() {
    // 900 million tiles of one pixel, of which one is listed.
    let tags = vec![
        numbers(256, 30_000),
        numbers(257, 30_000),
        (258, Value::Numbers(3, vec![8])),
        numbers(322, 1),
        numbers(323, 1),
        numbers(324, 8),
        numbers(325, 1),
    ];
    let slide = Folder::new().open(&Writer::new(true, false).chain(&[tags])).unwrap();
    let read = || slide.region(0, ORIGIN, Size::new(30_000, 30_000), Budget::DEFAULT).unwrap_err();
    let error = within(Duration::from_secs(1), "a slide of a billion tiles", read);
    assert!(error.to_string().contains("list of tiles"), "{error}");
}

/// The sample files that pictures are read from, read as slides: the same pixels, tile by tile or as a whole picture.
#[test]
fn samples_have_the_pixels_that_others_see() {
    let folder = Folder::new();
    let mut formats = Vec::new();
    for sample in common::samples() {
        let slide = folder.open(&sample.bytes).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let size = slide.levels[0].size;
        let region = slide.region(0, ORIGIN, size, Budget::DEFAULT);
        let region = region.unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!((size, region.unreadable), (Size::new(37, 23), None), "{}", sample.name);
        let highest = region.rgb.iter().zip(&sample.rgb).map(|(a, b)| a.abs_diff(*b)).max();
        let tolerance = if sample.name.contains("jp") { 4 } else { 0 };
        assert!(
            highest.is_some_and(|highest| highest <= tolerance),
            "{} differs by {highest:?}",
            sample.name
        );
        formats.push(slide.format);
    }
    let tiled = formats.iter().filter(|format| **format != SlideFormat::Picture).count();
    assert_eq!((formats.len(), tiled), (43, 18), "samples, and those that are read tile by tile");
}

/// Every byte of a small slide in turn takes values that break things; every length is tried.
#[test]
fn damage_gives_a_slide_or_an_error_and_never_takes_long() {
    let folder = Folder::new();
    let mut opened = 0;
    for is_big in [false, true] {
        let whole = Writer::new(true, is_big).chain(&aperio());
        for length in 0..whole.len() {
            let _ = within(Duration::from_secs(1), "a cut slide", || folder.open(&whole[..length]));
        }
        for at in 0..whole.len() {
            for value in [0, 0xff, 0x7f, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let outcome = within(Duration::from_secs(1), "a damaged slide", || folder.open(&bytes));
                let Ok(slide) = outcome else { continue };
                opened += usize::from(!slide.levels.is_empty());
                let read = || slide.region(0, ORIGIN, Size::new(64, 64), Budget::of_bytes(1 << 26));
                let _ = within(Duration::from_secs(1), "a region of a damaged slide", read);
            }
        }
    }
    assert!(opened > 1000, "{opened} damaged slides were opened: the test reaches far enough");
}

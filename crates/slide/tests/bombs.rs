//! Small files that ask for much: refused at once, before any memory is taken.

mod common;

use std::io::Write;
use std::time::Duration;

use common::{Reader, within};
use microtome_vault::{Budget, Fault};

const AT_ONCE: Duration = Duration::from_secs(1);

/// A TIFF file of one directory; entries are tag, type and numbers. `data` begins at byte 8.
fn tiff(entries: &[(u16, u16, &[u32])], data: &[u8]) -> Vec<u8> {
    let mut file = b"II*\0\0\0\0\0".to_vec();
    file.extend(data);
    let mut places = Vec::new();
    for (_, kind, numbers) in entries {
        places.push(file.len() as u32);
        if numbers.len() > 1 {
            for number in *numbers {
                let width = if *kind == 3 { 2 } else { 4 };
                file.extend(&number.to_le_bytes()[..width]);
            }
        }
    }
    let directory = file.len() as u32;
    file[4..8].copy_from_slice(&directory.to_le_bytes());
    file.extend((entries.len() as u16).to_le_bytes());
    for ((tag, kind, numbers), place) in entries.iter().zip(places) {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend((numbers.len() as u32).to_le_bytes());
        file.extend(if numbers.len() > 1 { place } else { numbers[0] }.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// A grey picture in one strip, whose content begins at byte 8.
fn grey_strip(width: u32, height: u32, compression: u32, data: &[u8]) -> Vec<u8> {
    let entries: [(u16, u16, &[u32]); 8] = [
        (256, LONG, &[width]),
        (257, LONG, &[height]),
        (258, SHORT, &[8]),
        (259, SHORT, &[compression]),
        (262, SHORT, &[1]),
        (273, LONG, &[8]),
        (277, SHORT, &[1]),
        (279, LONG, &[data.len() as u32]),
    ];
    tiff(&entries, data)
}

fn grey_tiles(size: [u32; 2], tile: [u32; 2], compression: u32, data: &[u8]) -> Vec<u8> {
    let entries: [(u16, u16, &[u32]); 9] = [
        (256, LONG, &[size[0]]),
        (257, LONG, &[size[1]]),
        (258, SHORT, &[8]),
        (259, SHORT, &[compression]),
        (262, SHORT, &[1]),
        (322, LONG, &[tile[0]]),
        (323, LONG, &[tile[1]]),
        (324, LONG, &[8]),
        (325, LONG, &[data.len() as u32]),
    ];
    tiff(&entries, data)
}

fn png_of_size(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_chunk(png::chunk::IDAT, &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]).unwrap();
    file
}

fn bmp_of_size(width: i32, height: i32) -> Vec<u8> {
    let mut file = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.extend(b"\x01\0\x18\0");
    file.resize(1000, 0);
    file
}

/// The 4:2:0 sample with another size in its frame header.
fn jpeg_of_size(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = common::samples().into_iter().find(|sample| sample.name == "420.jpg").unwrap().bytes;
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

fn big_tiff(width: u64, height: u64) -> Vec<u8> {
    let mut file = b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec();
    file.extend(2u64.to_le_bytes());
    for (tag, value) in [(256u16, width), (257, height)] {
        file.extend(tag.to_le_bytes());
        file.extend(16u16.to_le_bytes());
        file.extend(1u64.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 8]);
    file
}

#[test]
fn a_small_file_that_declares_a_huge_picture_is_refused_at_once() {
    let reader = Reader::new();
    let bombs = [
        ("PNG", png_of_size(100_000, 100_000)),
        ("PNG, one row", png_of_size(1 << 30, 8)),
        ("JPEG", jpeg_of_size(65_500, 65_500)),
        ("BMP", bmp_of_size(60_000, 60_000)),
        ("BMP upside down", bmp_of_size(60_000, -60_000)),
        ("TIFF", grey_strip(100_000, 100_000, 1, &[0; 100])),
        ("TIFF of 2³² pixels squared", grey_strip(u32::MAX, u32::MAX, 5, &[0; 100])),
        ("BigTIFF", big_tiff(1 << 31, 1 << 31)),
        ("BigTIFF beyond numbers", big_tiff(u64::MAX, u64::MAX)),
        ("TIFF, one huge tile", grey_tiles([10, 10], [1 << 31, 1 << 31], 8, &[0; 100])),
        ("TIFF, one wide tile", grey_tiles([10, 10], [1 << 31, 16], 8, &[0; 100])),
    ];
    for (name, bomb) in bombs {
        let error = within(AT_ONCE, name, || reader.read(&bomb)).unwrap_err();
        assert_eq!(error.fault(), Fault::Limit, "{name}: {error}");
        assert!(error.to_string().contains("MiB"), "{name}: {error}");
    }
}

#[test]
fn a_small_file_that_cannot_hold_what_it_declares_is_damaged() {
    let reader = Reader::new();
    let [none, packed, deflated, lzw, jpeg] = [1, 32_773, 8, 5, 7];
    let bombs = [
        ("PNG", png_of_size(30_000, 30_000)),
        ("JPEG", jpeg_of_size(30_000, 30_000)),
        ("BMP", bmp_of_size(30_000, 30_000)),
        ("no compression", grey_strip(30_000, 30_000, none, &[0; 100])),
        ("run lengths", grey_strip(30_000, 30_000, packed, &[129, 0, 129, 0])),
        ("deflate", grey_strip(30_000, 30_000, deflated, &[0x78, 0x9c, 3, 0, 0, 0, 0, 1])),
        ("LZW", grey_strip(30_000, 30_000, lzw, &[0x80, 0x40, 0x40])),
        ("JPEG strip", grey_strip(30_000, 30_000, jpeg, &jpeg_of_size(30_000, 30_000))),
        (
            "JPEG tile larger than its place",
            grey_tiles([10, 10], [16, 16], jpeg, &jpeg_of_size(9_000, 9_000)),
        ),
        ("no width", grey_strip(0, 10, none, &[0; 100])),
        ("no height", grey_strip(10, 0, none, &[0; 100])),
        ("PNG without pixels", png_of_size_zero()),
        ("JPEG without pixels", jpeg_of_size(0, 10)),
        ("BMP without pixels", bmp_of_size(0, 10)),
        ("negative width", bmp_of_size(-10, 10)),
        ("tile of no width", grey_tiles([10, 10], [0, 16], none, &[0; 100])),
        ("fewer tiles than it takes", grey_tiles([100, 100], [16, 16], none, &[0; 1000])),
    ];
    for (name, bomb) in bombs {
        let error = within(AT_ONCE, name, || reader.read(&bomb)).unwrap_err();
        assert_eq!(error.fault(), Fault::Input, "{name}: {error}");
        assert!(error.advice().is_some(), "{name}: {error}");
    }
}

fn png_of_size_zero() -> Vec<u8> {
    let mut file = png_of_size(1, 1);
    file[16..20].fill(0);
    file
}

#[test]
fn numbers_of_values_that_no_file_holds_are_refused() {
    let reader = Reader::new();
    for tag in [258u16, 273, 279, 320, 338, 339, 347] {
        let mut file = grey_strip(10, 10, 1, &[0; 100]);
        // The entry of the tag, or another one that becomes it, with 2³² - 1 values.
        let wanted = tag.to_le_bytes();
        let at = file.windows(4).rposition(|four| four[..2] == wanted && matches!(four[2..], [3 | 4, 0]));
        let at = at.unwrap_or_else(|| file.windows(4).rposition(|four| four == [0x15, 1, 3, 0]).unwrap());
        file[at..at + 2].copy_from_slice(&wanted);
        file[at + 4..at + 8].fill(0xff);
        let outcome = within(AT_ONCE, "values", || reader.read(&file));
        assert!(outcome.is_ok() || outcome.is_err_and(|error| error.fault() == Fault::Input), "tag {tag}");
    }
}

#[test]
fn chains_of_directories_end() {
    let reader = Reader::new();
    let one = grey_strip(10, 10, 1, &[7; 100]);
    assert!(reader.read(&one).unwrap().warnings.is_empty());
    let mut looped = one.clone();
    let (length, first) = (looped.len(), looped[4..8].to_vec());
    looped[length - 4..].copy_from_slice(&first);
    assert_eq!(reader.read(&looped).unwrap().rgb, vec![7; 300]);

    let mut chain = one;
    for _ in 0..1_000_000 {
        let next = chain.len() as u32;
        let at = chain.len() - 4;
        chain[at..].copy_from_slice(&next.to_le_bytes());
        chain.extend([0; 6]);
    }
    let picture = within(AT_ONCE, "a million directories", || reader.read(&chain)).unwrap();
    assert_eq!(picture.rgb, vec![7; 300]);
}

#[test]
fn text_and_profiles_that_unfold_are_passed_over() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1, 1);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b'a'; 200 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    let text = [b"Comment\0\0".as_slice(), &packed].concat();
    writer.write_chunk(png::chunk::zTXt, &text).unwrap();
    writer.write_chunk(png::chunk::iCCP, &text).unwrap();
    writer.write_image_data(&[7]).unwrap();
    writer.finish().unwrap();
    let picture = within(AT_ONCE, "text", || Reader::new().read(&file)).unwrap();
    assert_eq!(picture.rgb, [7; 3]);
}

#[test]
fn a_budget_is_kept_to_the_pixel() {
    let reader = Reader::new();
    let read = |bytes| {
        let settings = microtome_slide::ReadSettings { budget: Budget::of_bytes(bytes) };
        reader
            .read_with(&grey_strip(40, 40, 1, &[0; 1600]), &settings)
            .map(|_| ())
            .map_err(|error| error.fault())
    };
    // Grey samples and RGB are alive at once.
    assert_eq!(read(4 * 1600), Ok(()));
    assert_eq!(read(4 * 1600 - 1), Err(Fault::Limit));
    // The file itself.
    assert_eq!(read(100), Err(Fault::Limit));
}

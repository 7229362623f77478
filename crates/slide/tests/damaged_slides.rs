//! Every byte of a slide's header, directories and values takes every value that breaks things: 50,000 cases a format and
//! more. Each gives a region or one error of the file's own, within two seconds.

#![allow(clippy::disallowed_methods)] // No durable write is needed for a file that a test reads.

mod common;

use common::dicom::{Dicom, Order, Syntax, Table};
use common::tiff::{Tags, Value, Writer, numbers, with};
use common::{Folder, within};
use microtome_slide::{PointInLevel0, Size, Slide};
use microtome_vault::{Budget, Fault};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::Duration;

/// Cases a format, at least.
const FLOOR: usize = 50_000;
/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Pixels of a tile's side.
const TILE: usize = 16;

/// What became of a format's cases.
#[derive(Default)]
struct Outcomes {
    cases: usize,
    read: usize,
}

impl Outcomes {
    /// Opens the file and reads its upper left corner, with each of the bytes in `places` changed in each way.
    fn of(&mut self, whole: &[u8], places: Range<usize>) {
        let folder = Folder::new();
        let path = folder.put(whole);
        let mut file = File::options().write(true).open(&path).unwrap();
        let mut put = |at: usize, value: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[value]).unwrap();
        };
        for at in places {
            let old = whole[at];
            let near = [0, 0xff, 0x7f, 0x80, old.wrapping_add(1), old.wrapping_sub(1)];
            let mut values: BTreeSet<u8> = near.into_iter().chain((0..8).map(|bit| old ^ 1 << bit)).collect();
            values.remove(&old);
            for value in values {
                put(at, value);
                let read = || {
                    let slide = Slide::open(&path, Budget::DEFAULT)?;
                    slide.region(0, PointInLevel0::new(0, 0), Size::new(48, 48), Budget::of_bytes(1 << 26))
                };
                self.cases += 1;
                match within(LIMIT, "a damaged slide", read) {
                    Ok(region) => {
                        assert_eq!(region.rgb.len(), 3 * 48 * 48, "byte {at} as {value}");
                        self.read += 1;
                    }
                    Err(error) => {
                        let is_the_files = matches!(error.fault(), Fault::Input | Fault::Limit);
                        assert!(is_the_files, "byte {at} as {value}: {error}");
                    }
                }
            }
            put(at, old);
        }
    }

    fn check(self, format: &str) {
        println!("{format}: {} cases, {} of them read", self.cases, self.read);
        assert!(self.cases >= FLOOR, "{format}: {} cases", self.cases);
        assert!(self.read * 3 >= self.cases && self.read < self.cases, "{format}: {} read", self.read);
    }
}

/// How a level's tiles are stored.
#[derive(Clone, Copy)]
enum Stored {
    /// Raw bytes, grey.
    Plain,
    /// Differences of 16 bits, a tile for each of three channels, deflate.
    Planes,
}

/// A level's tiles, which are put into the file, and then its tags.
fn level(writer: &mut Writer, [across, down]: [usize; 2], stored: Stored) -> Tags {
    let (channels, bits, compression, predictor) = match stored {
        Stored::Plain => (1, 8, 1, 1),
        Stored::Planes => (3, 16, 8, 2),
    };
    let tiles = channels * across.div_ceil(TILE) * down.div_ceil(TILE);
    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    for tile in 0..tiles {
        let samples = vec![tile as u8; TILE * TILE * bits / 8];
        let bytes = match stored {
            Stored::Plain => samples,
            Stored::Planes => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&samples).unwrap();
                encoder.finish().unwrap()
            }
        };
        offsets.push(writer.bytes.len() as u64);
        lengths.push(bytes.len() as u64);
        writer.bytes.extend(bytes);
    }
    vec![
        numbers(256, across as u64),
        numbers(257, down as u64),
        (258, Value::Numbers(3, vec![bits as u64; channels])),
        numbers(259, compression),
        numbers(262, if channels == 3 { 2 } else { 1 }),
        numbers(277, channels as u64),
        numbers(284, if channels == 3 { 2 } else { 1 }),
        numbers(317, predictor),
        numbers(322, TILE as u64),
        numbers(323, TILE as u64),
        (324, Value::Numbers(4, offsets)),
        (325, Value::Numbers(4, lengths)),
        numbers(339, 1),
    ]
}

const LEVELS: [[usize; 2]; 3] = [[96, 96], [48, 48], [24, 24]];

/// A slide in each byte order, as TIFF and BigTIFF: all levels' tiles, then what `finish` puts behind them.
fn in_each_order(stored: Stored, finish: impl Fn(Writer, [Tags; 3]) -> Vec<u8>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for (is_little_endian, is_big) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut writer = Writer::new(is_little_endian, is_big);
        let header = writer.bytes.len();
        let levels = LEVELS.map(|size| level(&mut writer, size, stored));
        let pixels_end = writer.bytes.len();
        let whole = finish(writer, levels);
        outcomes.of(&whole, 0..header);
        outcomes.of(&whole, pixels_end..whole.len());
    }
    outcomes
}

const APERIO: &str = "Aperio Image Library v11\r\n96x96 JPEG/RGB Q=30|AppMag = 20|StripeWidth = 2032|Left = 25.69|MPP = 0.4990";

#[test]
fn aperio() {
    let slide = |writer: Writer, levels: [Tags; 3]| {
        let described = |tags| with(tags, (270, Value::Text(APERIO)));
        writer.chain(&levels.map(described))
    };
    in_each_order(Stored::Plain, slide).check("Aperio");
}

#[test]
fn tiff() {
    let slide = |writer: Writer, [first, second, third]: [Tags; 3]| {
        let unit = (296, Value::Numbers(3, vec![3]));
        let first = with(with(first, (305, Value::Text("made for a test"))), unit);
        let first = with(first, (315, Value::Text("nobody in particular, and nowhere")));
        let reduced = |tags| with(tags, numbers(254, 1));
        writer.chain(&[first, reduced(second), reduced(third)])
    };
    in_each_order(Stored::Plain, slide).check("TIFF");
}

const OME: &str = r#"<OME><Image><Pixels PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25" SizeX="96" SizeY="96"/></Image></OME>"#;

#[test]
fn ome_tiff() {
    let slide = |mut writer: Writer, [first, second, third]: [Tags; 3]| {
        let below = [second, third].map(|tags| writer.directory(&tags).0);
        let first = with(first, (270, Value::Text(OME)));
        writer.chain(&[with(first, (330, Value::Numbers(4, below.to_vec())))])
    };
    in_each_order(Stored::Planes, slide).check("OME-TIFF in planes of 16 bits");
}

#[test]
fn dicom() {
    let mut outcomes = Outcomes::default();
    let syntaxes = [Syntax::Explicit, Syntax::Implicit, Syntax::Jpeg, Syntax::Jpeg];
    for (syntax, table) in syntaxes.into_iter().zip([Table::None, Table::None, Table::Basic, Table::Extended])
    {
        for order in [Order::Full, Order::Sparse] {
            let mut dicom = Dicom { table, ..Dicom::level(syntax, order, [70, 50], [32, 16]) };
            let frames = dicom.frames.len() - usize::from(order == Order::Sparse);
            // Raw frames are the end of the file; streams are no pixels here, but what lies around them counts.
            let pixels = if syntax == Syntax::Jpeg { 0 } else { frames * 32 * 16 * 3 };
            if syntax == Syntax::Jpeg {
                dicom.frames.iter_mut().for_each(|frame| frame.truncate(8));
            }
            let whole = dicom.bytes();
            // Before its mark nothing is read.
            outcomes.of(&whole, 128..whole.len() - pixels);
        }
    }
    outcomes.check("DICOM");
}

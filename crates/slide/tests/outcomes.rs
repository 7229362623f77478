//! What becomes of slides that are broken in one place: each recipe with its outcome, in `outcomes.txt`.
//!
//! A recipe is a sound file of a few kilobytes and one tag or element that is left out or states something else. Outcomes that
//! change are a change of behaviour: `MICROTOME_BLESS=1 cargo test -p microtome-slide --test outcomes` writes them anew, and the
//! difference is to be read.

mod common;

use common::dicom::{Dicom, Order, Syntax};
use common::tiff::{Tags, Value, Writer, numbers};
use common::{Folder, within};
use microtome_slide::PointInLevel0;
use microtome_vault::{Budget, Fault};
use std::fmt::Write;
use std::time::Duration;

const OUTCOMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outcomes.txt");

/// 100×60 pixels in raw tiles of 32.
fn tags(writer: &mut Writer) -> Tags {
    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    for tile in 0..8u64 {
        offsets.push(writer.bytes.len() as u64);
        writer.bytes.extend((0..32 * 32 * 3).map(|i| (i * 7 + tile * 31) as u8));
        lengths.push(32 * 32 * 3);
    }
    vec![
        numbers(256, 100),
        numbers(257, 60),
        (258, Value::Numbers(3, vec![8, 8, 8])),
        numbers(259, 1),
        numbers(262, 2),
        (270, Value::Text("Aperio Image Library|AppMag = 20|MPP = 0.5")),
        numbers(277, 3),
        numbers(284, 1),
        numbers(317, 1),
        numbers(322, 32),
        numbers(323, 32),
        (324, Value::Numbers(4, offsets)),
        (325, Value::Numbers(4, lengths)),
    ]
}

/// What a tag may state instead: nothing, numbers that are too small or too large, a text.
fn tiff_recipes(name: &str, is_little_endian: bool, is_big: bool, recipes: &mut Vec<(String, Vec<u8>)>) {
    let file = |change: &dyn Fn(&mut Tags)| {
        let mut writer = Writer::new(is_little_endian, is_big);
        let mut tags = tags(&mut writer);
        change(&mut tags);
        writer.chain(&[tags])
    };
    recipes.push((format!("{name}, sound"), file(&|_| {})));
    let tags: Vec<u16> = tags(&mut Writer::new(true, false)).iter().map(|(tag, _)| *tag).collect();
    for tag in tags {
        recipes.push((format!("{name}, tag {tag} left out"), file(&|tags| tags.retain(|(t, _)| *t != tag))));
        for number in [0, 1, 3, 7, 50_001, u64::from(u32::MAX)] {
            let change = |tags: &mut Tags| {
                if let Some(entry) = tags.iter_mut().find(|(t, _)| *t == tag) {
                    entry.1 = Value::Numbers(4, vec![number]);
                }
            };
            recipes.push((format!("{name}, tag {tag} = {number}"), file(&change)));
        }
        let change = |tags: &mut Tags| {
            if let Some(entry) = tags.iter_mut().find(|(t, _)| *t == tag) {
                entry.1 = Value::Text("a text instead of a number");
            }
        };
        recipes.push((format!("{name}, tag {tag} a text"), file(&change)));
    }
}

fn dicom_recipes(name: &str, syntax: Syntax, order: Order, recipes: &mut Vec<(String, Vec<u8>)>) {
    let sound = || Dicom::level(syntax, order, [70, 50], [32, 16]);
    recipes.push((format!("{name}, sound"), sound().bytes()));
    let elements: [(u32, &'static [u8; 2]); 15] = [
        (0x0008_0008, b"CS"),
        (0x0008_0016, b"UI"),
        (0x0020_000e, b"UI"),
        (0x0028_0002, b"US"),
        (0x0028_0004, b"CS"),
        (0x0028_0006, b"US"),
        (0x0028_0008, b"IS"),
        (0x0028_0010, b"US"),
        (0x0028_0011, b"US"),
        (0x0028_0100, b"US"),
        (0x0028_0101, b"US"),
        (0x0048_0006, b"UL"),
        (0x0048_0007, b"UL"),
        (0x0048_0105, b"SQ"),
        (0x5200_9229, b"SQ"),
    ];
    for (tag, kind) in elements {
        for (what, value) in [
            ("left out", Vec::new()),
            ("of zeros", vec![0; 4]),
            ("of ones", vec![1, 0, 0, 0]),
            ("of 255s", vec![255; 4]),
            ("a number in words", common::dicom::text("twelve")),
        ] {
            let mut dicom = sound();
            dicom.changes = vec![(tag, kind, value)];
            recipes.push((format!("{name}, element {tag:08x} {what}"), dicom.bytes()));
        }
    }
}

/// The outcome in a line.
fn outcome(folder: &Folder, bytes: &[u8]) -> (String, bool) {
    let shown = |error: microtome_vault::Error| {
        assert!(matches!(error.fault(), Fault::Input | Fault::Limit), "{error}");
        assert!(error.path().is_some() && error.advice().is_some(), "{error}");
        error.to_string()
    };
    let budget = Budget::of_bytes(64 << 20);
    let slide = match folder.open(bytes) {
        Ok(slide) => slide,
        Err(error) => return (format!("refused: {}", shown(error)), false),
    };
    let level = &slide.levels[0];
    let mpp = slide.mpp.map_or("no resolution".to_owned(), |mpp| mpp.to_string());
    let mut text = format!("{}, {} px, {mpp}", slide.format, level.size);
    let size = microtome_slide::Size::new(level.size.width_px.min(200), level.size.height_px.min(200));
    match slide.region(0, PointInLevel0::new(0, 0), size, budget) {
        Ok(region) => {
            let sum =
                region.rgb.iter().fold(0u64, |sum, value| sum.wrapping_mul(31).wrapping_add((*value).into()));
            let _ = write!(text, "; pixels {:04x}", sum & 0xffff);
            if let Some((count, reason)) = &region.unreadable {
                let _ = write!(text, ", {count} tiles unreadable: {reason}");
            }
            (text, region.unreadable.is_none())
        }
        Err(error) => (format!("{text}; unreadable: {}", shown(error)), false),
    }
}

#[test]
fn every_recipe_has_the_outcome_that_is_written_down() {
    let mut recipes = Vec::new();
    tiff_recipes("TIFF", true, false, &mut recipes);
    tiff_recipes("BigTIFF, highest byte first", false, true, &mut recipes);
    dicom_recipes("DICOM", Syntax::Explicit, Order::Full, &mut recipes);
    dicom_recipes("DICOM, kinds not stated, sparse", Syntax::Implicit, Order::Sparse, &mut recipes);
    let folder = Folder::new();
    let (mut lines, mut sound) = (String::new(), 0);
    for (name, bytes) in &recipes {
        let (outcome, is_sound) = within(Duration::from_secs(2), name, || outcome(&folder, bytes));
        let path = folder.0.path().join("slide").display().to_string();
        let outcome = outcome.replace(&path, "FILE").replace('\n', " / ");
        sound += usize::from(is_sound);
        let _ = writeln!(lines, "{name} -> {outcome}");
    }
    println!("{} recipes, {sound} of them read without a word", recipes.len());
    assert!(recipes.len() >= 350 && sound * 10 <= recipes.len() * 4, "{} {sound}", recipes.len());
    if std::env::var_os("MICROTOME_BLESS").is_some() {
        microtome_vault::disk::write_atomic(OUTCOMES, lines.as_bytes()).unwrap();
    }
    let expected = std::fs::read_to_string(OUTCOMES).unwrap_or_default();
    for (now, before) in lines.lines().zip(expected.lines()) {
        assert_eq!(now, before);
    }
    assert_eq!(lines.lines().count(), expected.lines().count());
}

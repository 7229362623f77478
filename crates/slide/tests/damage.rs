//! Damaged files: cut anywhere, with any byte changed. An error or a picture, never a panic, and never a
//! picture that lacks what was cut off.

mod common;

use common::{Reader, Sample, samples};
use microtome_vault::{Budget, Fault};

/// Beyond this many bytes from either end, every 7th cut stands for all.
const BORDER_BYTES: usize = 700;

fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).filter(move |&cut| cut < BORDER_BYTES || length - cut < BORDER_BYTES || cut % 7 == 0)
}

#[test]
fn a_file_cut_anywhere_is_refused_or_lacks_nothing() {
    let reader = Reader::new();
    let (mut cases, mut refused) = (0, 0);
    for Sample { name, bytes, .. } in samples() {
        let whole = reader.read(&bytes).unwrap();
        for cut in cuts(bytes.len()) {
            cases += 1;
            match reader.read(&bytes[..cut]) {
                Ok(picture) => {
                    let is_whole = (picture.size, &picture.rgb) == (whole.size, &whole.rgb);
                    let is_said = picture.warnings.iter().any(|warning| warning.contains("list of pages"));
                    assert!(is_whole || is_said, "{name} cut at {cut}");
                    assert!(!name.ends_with("png") && !name.ends_with("jpg"), "{name} cut at {cut}");
                }
                Err(error) => {
                    assert_eq!(error.fault(), Fault::Input, "{name} cut at {cut}: {error}");
                    refused += 1;
                }
            }
        }
    }
    println!("{cases} cuts, {refused} refused");
    assert!(cases >= 40_000 && refused * 10 >= cases * 9);
}

#[test]
fn a_file_with_any_byte_changed_is_read_or_refused() {
    let reader = Reader::new();
    let settings = microtome_slide::ReadSettings { budget: Budget::of_bytes(64 << 20) };
    let (mut cases, mut read) = (0, 0);
    for Sample { bytes, .. } in samples() {
        for at in 0..bytes.len().min(BORDER_BYTES) {
            // One change a byte, a different one for each: zero, all ones, each bit, one less, one more.
            let mut changed = bytes.clone();
            changed[at] = match at % 12 {
                0 => 0,
                1 => 255,
                2 => bytes[at].wrapping_sub(1),
                3 => bytes[at].wrapping_add(1),
                bit => bytes[at] ^ 1 << (bit - 4),
            };
            cases += 1;
            match reader.read_with(&changed, &settings) {
                Ok(_) => read += 1,
                Err(error) => assert!(matches!(error.fault(), Fault::Input | Fault::Limit), "{error}"),
            }
        }
    }
    println!("{cases} changed bytes, {read} read all the same");
    assert!(cases >= 20_000 && read < cases);
}

#[test]
fn a_damaged_jpeg_is_read_with_a_warning() {
    let reader = Reader::new();
    let sample = samples().into_iter().find(|sample| sample.name == "444.jpg").unwrap();
    let mut bytes = sample.bytes;
    let tables = bytes.windows(2).position(|pair| pair == [0xff, 0xc4]).unwrap();
    bytes.splice(tables..tables, [0; 20]);
    let picture = reader.read(&bytes).unwrap();
    assert!(
        picture.warnings[0].starts_with("the JPEG data are damaged, parts may be wrong"),
        "{:?}",
        picture.warnings
    );
}

/// Found by fuzzing: inks behind Adobe's mark, and anywhere after them a frame of three components.
#[test]
fn a_jpeg_that_states_two_frames_is_refused_or_has_all_its_pixels() {
    let reader = Reader::new();
    let inks = samples().into_iter().find(|sample| sample.name == "cmyk.jpg").unwrap().bytes;
    let adobe = inks.windows(5).position(|word| word == b"Adobe").unwrap();
    let mut refused = 0;
    for (at, marker) in (adobe + 12..inks.len()).flat_map(|at| [(at, 0xc0), (at, 0xc1), (at, 0xc2)]) {
        let frame = [0xff, marker, 0, 17, 8, 0, 23, 0, 37, 3, 1, 17, 0, 2, 17, 0, 3, 17, 0];
        let mut bytes = [&inks[..at], &frame, &inks[at..]].concat();
        bytes[adobe + 11] = 0;
        // The reader counts the pixels.
        let refusal = reader.read(&bytes).map_or_else(|error| error.to_string(), |_| String::new());
        refused += usize::from(refusal.contains("states its components twice"));
    }
    println!("{refused} refused for their components");
    assert!(refused > 0);
}

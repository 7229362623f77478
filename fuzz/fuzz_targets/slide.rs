//! Opening a slide, its levels, its pictures and its tiles: TIFF, DICOM, and whatever else begins like a slide.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microtome_slide::slide::TilePlace;
use microtome_slide::{PointInLevel0, Size, Slide};
use microtome_vault::Budget;

#[path = "file.rs"]
mod file;

// The fuzzer's own hook would end at panics of decoders that are caught; those that are not end it all the same.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    let budget = Budget::of_bytes(64 << 20);
    let path = file::holding(bytes);
    let Ok(slide) = Slide::open(&path, budget) else { return };
    for level in 0..slide.levels.len().min(3) {
        let corner = PointInLevel0::new(-3, 5);
        let _ = slide.region(level, corner, Size::new(40, 40), budget);
        let _ = slide.jpeg_tile(level, TilePlace { column: 0, row: 0 });
    }
    for image in slide.associated.iter().take(2) {
        let _ = slide.associated_image(&image.name, budget);
    }
});

//! Decoding a whole picture: PNG, JPEG, BMP, TIFF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microtome_slide::picture::ReadSettings;
use microtome_slide::read_picture;
use microtome_vault::Budget;

#[path = "file.rs"]
mod file;

fuzz_target!(|bytes: &[u8]| {
    let settings = ReadSettings { budget: Budget::of_bytes(64 << 20) };
    if let Ok(picture) = read_picture(file::holding(bytes), &settings) {
        assert_eq!(picture.rgb.len(), 3 * picture.size.area_px());
    }
});

//! Decoding a whole picture: PNG, JPEG, BMP, TIFF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microtome_slide::picture::ReadSettings;
use microtome_slide::read_picture;
use microtome_vault::Budget;

#[path = "file.rs"]
mod file;

// The fuzzer's own hook would end at panics of decoders that are caught; those that are not end it all the same.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    let settings = ReadSettings { budget: Budget::of_bytes(64 << 20) };
    if let Ok(picture) = read_picture(file::holding(bytes), &settings) {
        assert_eq!(picture.rgb.len(), 3 * picture.size.area_px());
    }
});

//! Outlines that a person drew, as GeoJSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microtome::slides::own_tissue::OwnTissue;
use microtome_slide::{Size, TissueMask};
use microtome_vault::Budget;

#[path = "file.rs"]
mod file;

fuzz_target!(|bytes: &[u8]| {
    let (path, size) = (file::holding(bytes), Size::new(5000, 3000));
    let outlines = path.with_extension("geojson");
    std::fs::rename(&path, &outlines).unwrap();
    let own = OwnTissue::find(&outlines, &path).unwrap();
    let _ = own.instead_of(TissueMask::everything(size), size, Budget::of_bytes(64 << 20));
});

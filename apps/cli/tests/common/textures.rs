//! Pictures of two textures, a project with them, and how well masks tell them apart.

use super::succeed;
use std::path::Path;

/// Pictures in the folder.
pub(crate) const PICTURES: usize = 5;
/// Their side.
const SIDE_PX: u32 = 256;

/// Whether a place lies in the right, dotted, part of a picture: the border is a wave of its own in each.
fn is_dotted(picture: usize, x: u32, y: u32) -> bool {
    let wave = (f64::from(y) / 20.0 + picture as f64).sin() * 18.0;
    f64::from(x) > 100.0 + 12.0 * picture as f64 + wave
}

/// A pixel: pink with fibres on the left, violet dots as of nuclei on the right, and noise.
pub(crate) fn pixel(picture: usize, x: u32, y: u32) -> [u8; 3] {
    let mixed =
        (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ (picture as u32).wrapping_mul(83_492_791))
            .wrapping_mul(2_654_435_761);
    let noise = (mixed >> 27) as i32 - 16;
    let colour = if is_dotted(picture, x, y) {
        let (u, v) = (x as i32 % 12 - 6, y as i32 % 12 - 6);
        if u * u + v * v < 16 { [90, 50, 150] } else { [190, 140, 200] }
    } else if (x + 2 * y) % 24 < 6 {
        [200, 110, 160]
    } else {
        [235, 180, 210]
    };
    colour.map(|value: i32| (value + noise).clamp(0, 255) as u8)
}

/// Puts pictures and their masks.
pub(crate) fn put_pictures(folder: &Path) {
    for name in ["pictures", "masks"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    for picture in 0..PICTURES {
        let rgb = image::RgbImage::from_fn(SIDE_PX, SIDE_PX, |x, y| image::Rgb(pixel(picture, x, y)));
        rgb.save(folder.join(format!("pictures/p{picture}.png"))).unwrap();
        let class = |x, y| image::Luma([u8::from(is_dotted(picture, x, y))]);
        image::GrayImage::from_fn(SIDE_PX, SIDE_PX, class)
            .save(folder.join(format!("masks/p{picture}.png")))
            .unwrap();
    }
}

/// A project with these pictures and tiles.
pub(crate) fn project(folder: &Path) {
    put_pictures(folder);
    succeed(folder, &["project", "init", "p", "--classes", "fibres,dots"]);
    succeed(folder, &["project", "add", "p", "pictures"]);
    succeed(folder, &["tissue", "tile", "p", "--side", "64", "--step", "32", "--named", "32"]);
}

/// What `evaluate` says of masks.
pub(crate) fn scores(folder: &Path, out: &str) -> serde_json::Value {
    let ended =
        succeed(folder, &["evaluate", "--task", "tissue", "--predicted", out, "--truth", "masks", "--json"]);
    serde_json::from_str(&ended.stdout).unwrap()
}

//! Slides that are large and sound: opened at once, in little memory, and read where they are asked for.

mod common;

use common::tiff::{Value, Writer, numbers};
use common::{Folder, within};
use microtome_slide::overview::Overview;
use microtome_slide::{PointInLevel0, Size};
use microtome_vault::Budget;
use std::time::Duration;

/// A BigTIFF of so many pixels in tiles, of which all but one are left out.
fn sparse(side: u64, tile: u64, levels: u32) -> Vec<u8> {
    let mut writer = Writer::new(true, true);
    let at = writer.bytes.len() as u64;
    writer.bytes.extend((0..tile * tile * 3).map(|i| (i % 251) as u8));
    let mut directories = Vec::new();
    for level in 0..levels {
        let side = side >> level;
        let count = side.div_ceil(tile).pow(2) as usize;
        let (mut offsets, mut lengths) = (vec![0; count], vec![0; count]);
        (offsets[count - 1], lengths[count - 1]) = (at, tile * tile * 3);
        directories.push(vec![
            numbers(254, u64::from(level > 0)),
            numbers(256, side),
            numbers(257, side),
            (258, Value::Numbers(3, vec![8, 8, 8])),
            numbers(259, 1),
            numbers(262, 2),
            numbers(277, 3),
            numbers(322, tile),
            numbers(323, tile),
            (324, Value::Numbers(16, offsets)),
            (325, Value::Numbers(4, lengths)),
        ]);
    }
    writer.chain(&directories)
}

#[test]
fn giants_open_at_once_and_give_their_last_tile() {
    let folder = Folder::new();
    // The lists of tiles alone pass a megabyte; memory is bounded far below what the slides hold.
    let budget = Budget::of_bytes(256 << 20);
    for (side, tile, levels) in [(200_000, 256, 3), (200_000, 512, 1), (60_000, 96, 2), (2_000_000, 4096, 1)]
    {
        let bytes = sparse(side, tile, levels);
        let slide = folder.open(&bytes).unwrap();
        let open = || microtome_slide::Slide::open(folder.0.path().join("slide"), budget).unwrap();
        let opened = within(Duration::from_secs(2), "opening", open);
        assert_eq!((opened.levels.len(), opened.levels[0].size.width_px), (levels as usize, side as usize));
        let last = (side.div_ceil(tile) - 1) * tile;
        let read = || {
            let corner = PointInLevel0::new(last as i64 - 4, last as i64 - 4);
            opened.region(0, corner, Size::new(8, 8), budget).unwrap()
        };
        let region = within(Duration::from_secs(2), "reading", read);
        // The corner of the only tile, and white around it.
        assert_eq!(&region.rgb[3 * (8 * 4 + 4)..][..6], [0, 1, 2, 3, 4, 5]);
        assert_eq!(&region.rgb[..3], [255; 3]);
        drop(slide);
    }
}

#[test]
fn a_small_overview_of_a_giant_takes_its_smallest_level() {
    let folder = Folder::new();
    let slide = folder.open(&sparse(65_536, 256, 8)).unwrap();
    let overview = || Overview::of(&slide, 128.0, Budget::of_bytes(64 << 20)).unwrap();
    let overview = within(Duration::from_secs(2), "an overview", overview);
    assert_eq!((overview.size, overview.downsample), (Size::new(512, 512), 128.0));
    assert!(overview.rgb.iter().any(|value| *value != 255));
}

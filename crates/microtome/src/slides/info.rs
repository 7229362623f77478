//! What a slide's file says of itself, for people and for programs.

use microtome_slide::Slide;
use microtome_vault::{Error, Result};
use serde::Serialize;
use std::fmt::Write;

/// Version of what [`to_json`] writes.
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize)]
struct File<'a> {
    format_version: u32,
    path: String,
    format: String,
    /// µm per pixel of level 0.
    mpp: Option<f64>,
    objective_power: Option<f64>,
    levels: Vec<Level<'a>>,
    associated: Vec<Associated<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Level<'a> {
    width_px: usize,
    height_px: usize,
    downsample: f64,
    tile_width_px: usize,
    tile_height_px: usize,
    compression: &'a str,
}

impl<'a> Level<'a> {
    fn of(level: &'a microtome_slide::slide::Level) -> Self {
        let microtome_slide::slide::Level { size, downsample, tile, compression } = level;
        Self {
            width_px: size.width_px,
            height_px: size.height_px,
            downsample: *downsample,
            tile_width_px: tile.width_px,
            tile_height_px: tile.height_px,
            compression,
        }
    }
}

#[derive(Serialize)]
struct Associated<'a> {
    name: &'a str,
    width_px: usize,
    height_px: usize,
}

/// JSON with everything that is known of a slide.
///
/// # Errors
/// `Bug` when it cannot be written as JSON.
pub fn to_json(slide: &Slide) -> Result<String> {
    let file = File {
        format_version: FORMAT_VERSION,
        path: slide.path.display().to_string(),
        format: slide.format.to_string(),
        mpp: slide.mpp.map(|mpp| mpp.microns()),
        objective_power: slide.objective_power,
        levels: slide.levels.iter().map(Level::of).collect(),
        associated: slide
            .associated
            .iter()
            .map(|image| Associated {
                name: &image.name,
                width_px: image.size.width_px,
                height_px: image.size.height_px,
            })
            .collect(),
        warnings: &slide.warnings,
    };
    serde_json::to_string_pretty(&file).map_err(|error| Error::bug(format!("a slide as JSON: {error}")))
}

/// A few lines for people.
pub fn to_text(slide: &Slide) -> String {
    let resolution = match slide.mpp {
        Some(mpp) => format!("{} µm per pixel", (mpp.microns() * 1e6).round() / 1e6),
        None => "resolution not stated".to_owned(),
    };
    let objective = slide.objective_power.map_or(String::new(), |power| format!(", objective {power}×"));
    let mut text = format!("{}, {resolution}{objective}\n", slide.format);
    for (index, level) in slide.levels.iter().enumerate() {
        let (size, tile, factor) = (level.size, level.tile, level.downsample);
        let _ = writeln!(
            text,
            "level {index}: {size} px, 1 : {factor:.4}, tiles {tile} px, {}",
            level.compression
        );
    }
    for image in &slide.associated {
        let _ = writeln!(text, "{}: {} px", image.name, image.size);
    }
    text
}

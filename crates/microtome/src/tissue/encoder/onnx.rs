//! Any network in an ONNX file as a backbone: this is how a pathology foundation model is used.
//!
//! Beside `NAME.onnx` lies `NAME.toml`, which says what the network takes and gives:
//!
//! ```toml
//! input_px = 224                        # side of what it is shown
//! mean = [0.485, 0.456, 0.406]          # taken off red, green, blue, which are 0 to 1
//! deviation = [0.229, 0.224, 0.225]     # what is left is divided by this
//! layout = "nchw"                       # or "nhwc"
//! output = "tokens"                     # "vector" [n, d], "tokens" [n, t, d], or "map" [n, d, h, w]
//! skip_tokens = 1                       # tokens before those of the patches: class token, registers
//! output_name = "last_hidden_state"     # the first output without it
//! ```
//!
//! A network that gives a vector is shown whole tiles, and for maps a tile around each place; one that gives tokens or a map is
//! shown squares of its own side, and its patches are the cells.

use super::{Backbone, Reading};
use crate::tissue::look::Look;
use microtome_kernels::Size;
use microtome_kernels::resample::downsample_area;
use microtome_kernels::views::photo::{Crop, PhotoScratch, PhotoView, photo_view};
use microtome_nets::onnx::{OnnxNetwork, Output};
use microtome_vault::{Budget, Error, Result, checksum::sha256_hex, disk};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Largest network that is read.
const LARGEST: Budget = Budget::of_bytes(8 << 30);
/// Tiles that are shown at a time.
const BATCH: usize = 16;
/// The level that its cells are called by.
pub const LEVEL: usize = 4;
/// Places to the side of a tile, for networks that give a vector.
const PLACES_A_TILE: usize = 4;

/// What a network takes and gives, as it is written beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxSettings {
    input_px: usize,
    mean: [f32; 3],
    deviation: [f32; 3],
    #[serde(default)]
    layout: Layout,
    output: OutputKind,
    #[serde(default)]
    skip_tokens: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layout {
    #[default]
    Nchw,
    Nhwc,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutputKind {
    Vector,
    Tokens,
    Map,
}

/// Where a network lies, and what is known of it: what an encoder's file holds instead of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnnxReference {
    path: PathBuf,
    sha256: String,
    settings: OnnxSettings,
    /// Side of the tiles that it is shown.
    tile_px: usize,
}

impl OnnxReference {
    /// The network in a file, with what the file beside it says.
    ///
    /// # Errors
    /// `Usage` when there is no file beside it, or it says what cannot be; `Input`; `Io`.
    pub fn of_file(path: &Path, tile_px: usize) -> Result<Self> {
        let beside = path.with_extension("toml");
        if !beside.is_file() {
            return Err(Error::usage(
                "an ONNX encoder needs a file beside it that says what it takes and gives",
            )
            .advise("docs/tissue.md shows one")
            .at(beside));
        }
        let text = String::from_utf8(disk::read_file_bounded(&beside, Budget::of_bytes(1 << 20))?);
        let text = text.map_err(|_| Error::usage("this is not text").at(&beside))?;
        let settings: OnnxSettings = toml::from_str(&text).map_err(|error| {
            Error::usage(format!("it cannot be read: {}", error.to_string().trim())).at(&beside)
        })?;
        if !(8..=4096).contains(&settings.input_px) || settings.deviation.iter().any(|value| *value <= 0.0) {
            return Err(Error::usage("input_px is 8 to 4096, and deviations are above 0").at(beside));
        }
        let absolute = std::path::absolute(path).map_err(|error| Error::io("finding", &error).at(path))?;
        let sha256 = sha256_hex(&disk::read_file_bounded(path, LARGEST)?);
        Ok(Self { path: absolute, sha256, settings, tile_px })
    }

    /// Which cells a tile's vector is the mean of.
    pub fn reading(&self) -> Reading {
        if self.settings.output == OutputKind::Vector { Reading::Tile } else { Reading::Middle }
    }

    /// Opens the network and looks at what it gives.
    ///
    /// # Errors
    /// `Usage` when ONNX Runtime is not there; `Input` when the file is another than it was, or gives what is not expected.
    pub fn open(&self) -> Result<Onnx> {
        let bytes = disk::read_file_bounded(&self.path, LARGEST)?;
        if sha256_hex(&bytes) != self.sha256 {
            return Err(Error::input("the ONNX network is not the one that the encoder was made of")
                .advise("put the old file back")
                .at(&self.path));
        }
        self.examined(OnnxNetwork::open(&bytes, self.settings.output_name.as_deref()))
            .map_err(|error| if error.path().is_some() { error } else { error.at(&self.path) })
    }

    fn examined(&self, network: Result<OnnxNetwork>) -> Result<Onnx> {
        let (network, side) = (network?, self.settings.input_px);
        let shape = self.settings.shape(1);
        let output = network.run(&vec![0.0; 3 * side * side], &shape)?;
        let unexpected = || {
            let (kind, shape) = (self.settings.output, &output.shape);
            Error::input(
                format!("the ONNX network gives {shape:?} for one picture, which is no {kind:?}")
                    .to_lowercase(),
            )
            .advise("state in the file beside it what it gives: output, output_name, skip_tokens")
        };
        let (dimensions, grid) = match (self.settings.output, output.shape.as_slice()) {
            (OutputKind::Vector, &[1, dimensions]) => (dimensions, 1),
            (OutputKind::Tokens, &[1, tokens, dimensions]) => {
                let patches = tokens.saturating_sub(self.settings.skip_tokens);
                let grid = patches.isqrt();
                (dimensions, if grid * grid == patches { grid } else { 0 })
            }
            (OutputKind::Map, &[1, dimensions, rows, columns]) => {
                (dimensions, if rows == columns { rows } else { 0 })
            }
            _ => (0, 0),
        };
        if dimensions == 0 || grid == 0 || !side.is_multiple_of(grid) {
            return Err(unexpected());
        }
        Ok(Onnx { network, settings: self.settings.clone(), dimensions, grid, tile_px: self.tile_px })
    }
}

impl OnnxSettings {
    /// The shape of so many pictures.
    fn shape(&self, pictures: usize) -> Vec<usize> {
        match self.layout {
            Layout::Nchw => vec![pictures, 3, self.input_px, self.input_px],
            Layout::Nhwc => vec![pictures, self.input_px, self.input_px, 3],
        }
    }

    /// A square of pixels at the network's side, as it takes it.
    fn prepared(&self, rgb: &[u8], side_px: usize, out: &mut Vec<f32>) {
        let (side, size) = (self.input_px, Size::new(side_px, side_px));
        let mut colours = vec![0.0; 3 * side * side];
        if side < side_px {
            let small = downsample_area(rgb, size, Size::new(side, side));
            colours.iter_mut().zip(small).for_each(|(to, value)| *to = f32::from(value) / 255.0);
        } else {
            let crop = Crop { left: 0, top: 0, size };
            let view =
                PhotoView { crop, is_flipped: false, jitter: None, is_grey: false, blur_sigma_px: None };
            photo_view(rgb, size, side, &view, &mut PhotoScratch::default(), &mut colours);
        }
        let value = |at: usize, colour: usize| {
            (colours[3 * at + colour] - self.mean[colour]) / self.deviation[colour]
        };
        match self.layout {
            Layout::Nchw => {
                (0..3).for_each(|colour| out.extend((0..side * side).map(|at| value(at, colour))))
            }
            Layout::Nhwc => out.extend(
                (0..side * side)
                    .flat_map(|at| (0..3).map(move |colour| (at, colour)))
                    .map(|(at, colour)| value(at, colour)),
            ),
        }
    }
}

/// An open network.
pub struct Onnx {
    network: OnnxNetwork,
    settings: OnnxSettings,
    dimensions: usize,
    /// Patches on a side of what it is shown; 1 for a vector.
    grid: usize,
    tile_px: usize,
}

impl Onnx {
    /// What the network gives for squares, `[squares][grid × grid][dimensions]`. What worked once on a picture of nothing can fail
    /// for lack of memory alone: then vectors are 0, which no prototype is near to.
    fn patches(&self, squares: &[(Vec<u8>, usize)]) -> Vec<f32> {
        let (cells, mut all) = (self.grid * self.grid, Vec::new());
        for batch in squares.chunks(BATCH) {
            let mut input = Vec::new();
            batch.iter().for_each(|(rgb, side)| self.settings.prepared(rgb, *side, &mut input));
            // A network made for one picture at a time is given one at a time.
            match self.network.run(&input, &self.settings.shape(batch.len())) {
                Ok(output) => all.extend(self.in_order(&output, batch.len())),
                Err(_) => {
                    for one in input.chunks_exact(input.len() / batch.len()) {
                        let output = self.network.run(one, &self.settings.shape(1));
                        let own = output.map(|output| self.in_order(&output, 1));
                        all.extend(own.unwrap_or_else(|_| vec![0.0; cells * self.dimensions]));
                    }
                }
            }
        }
        all
    }

    /// An output as `[pictures][patches][dimensions]`.
    fn in_order(&self, output: &Output, pictures: usize) -> Vec<f32> {
        let (cells, dimensions) = (self.grid * self.grid, self.dimensions);
        let wanted = pictures * cells * dimensions;
        match self.settings.output {
            OutputKind::Vector => {
                output.values.iter().copied().chain(std::iter::repeat(0.0)).take(wanted).collect()
            }
            OutputKind::Tokens => {
                let skipped = self.settings.skip_tokens * dimensions;
                let own = output.values.chunks_exact(skipped + cells * dimensions);
                own.take(pictures).flat_map(|tokens| tokens[skipped..].iter().copied()).collect()
            }
            OutputKind::Map => {
                let own = output.values.chunks_exact(dimensions * cells).take(pictures);
                let turned = |map: &[f32]| -> Vec<f32> {
                    (0..cells * dimensions).map(|at| map[at % dimensions * cells + at / dimensions]).collect()
                };
                own.flat_map(turned).collect()
            }
        }
    }
}

/// A square out of a picture, its edges repeated beyond the border.
fn square(rgb: &[u8], size: Size, [left, top]: [i64; 2], side_px: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * side_px * side_px);
    let within = |at: i64, length: usize| at.clamp(0, length as i64 - 1) as usize;
    for y in 0..side_px as i64 {
        let row = within(top + y, size.height_px);
        for x in 0..side_px as i64 {
            out.extend_from_slice(&rgb[3 * size.index(within(left + x, size.width_px), row)..][..3]);
        }
    }
    out
}

impl Backbone for Onnx {
    fn levels(&self) -> Vec<usize> {
        vec![LEVEL]
    }

    fn dimensions(&self, _: usize) -> usize {
        self.dimensions
    }

    fn stride_px(&self, _: usize) -> usize {
        match self.settings.output {
            OutputKind::Vector => (self.tile_px / PLACES_A_TILE).max(1),
            _ => self.settings.input_px / self.grid,
        }
    }

    fn halo_px(&self, level: usize) -> usize {
        match self.settings.output {
            OutputKind::Vector => (self.tile_px - self.stride_px(level)).div_ceil(2),
            _ => 0,
        }
    }

    fn cells(&self, rgb: &[u8], size: Size, _: &Look, level: usize) -> Vec<f32> {
        let stride = self.stride_px(level);
        let cells = Size::new(size.width_px / stride, size.height_px / stride);
        if self.settings.output == OutputKind::Vector {
            let margin = (self.tile_px as i64 - stride as i64) / 2;
            let around = |cell: usize| {
                let corner =
                    [cell % cells.width_px, cell / cells.width_px].map(|at| (at * stride) as i64 - margin);
                (square(rgb, size, corner, self.tile_px), self.tile_px)
            };
            return self.patches(&(0..cells.area_px()).map(around).collect::<Vec<_>>());
        }
        let (side, grid) = (self.settings.input_px, self.grid);
        let mut values = vec![0.0; cells.area_px() * self.dimensions];
        for top in (0..cells.height_px).step_by(grid) {
            for left in (0..cells.width_px).step_by(grid) {
                let corner = [left, top].map(|cell| (cell * stride) as i64);
                let patches = self.patches(&[(square(rgb, size, corner, side), side)]);
                for row in 0..grid.min(cells.height_px - top) {
                    let count = grid.min(cells.width_px - left) * self.dimensions;
                    let from = &patches[row * grid * self.dimensions..][..count];
                    values[cells.index(left, top + row) * self.dimensions..][..count].copy_from_slice(from);
                }
            }
        }
        values
    }

    fn tiles(&self, rgb: &[u8], side_px: usize, _: &Look, _: usize) -> Vec<f32> {
        let squares: Vec<(Vec<u8>, usize)> =
            rgb.chunks_exact(3 * side_px * side_px).map(|tile| (tile.to_vec(), side_px)).collect();
        let cells = self.grid * self.grid;
        let mean = |patches: &[f32]| -> Vec<f32> {
            let sum = |number: usize| patches.iter().skip(number).step_by(self.dimensions).sum::<f32>();
            (0..self.dimensions).map(|number| sum(number) / cells as f32).collect()
        };
        self.patches(&squares).chunks_exact(cells * self.dimensions).flat_map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(output: OutputKind, layout: Layout) -> OnnxSettings {
        OnnxSettings {
            input_px: 4,
            mean: [0.0; 3],
            deviation: [1.0, 0.5, 1.0],
            layout,
            output,
            skip_tokens: 1,
            output_name: None,
        }
    }

    #[test]
    fn pixels_are_laid_out_as_the_network_takes_them() {
        let rgb: Vec<u8> = (0..48).collect();
        let prepared = |layout| {
            let mut out = Vec::new();
            settings(OutputKind::Vector, layout).prepared(&rgb, 4, &mut out);
            out
        };
        let (planes, pixels) = (prepared(Layout::Nchw), prepared(Layout::Nhwc));
        for at in 0..16 {
            for colour in 0..3 {
                let value = f32::from(rgb[3 * at + colour]) / 255.0 / if colour == 1 { 0.5 } else { 1.0 };
                assert!((pixels[3 * at + colour] - value).abs() < 1e-6);
                assert!((planes[16 * colour + at] - value).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn squares_repeat_the_edge() {
        let size = Size::new(2, 1);
        let own = square(&[1, 2, 3, 4, 5, 6], size, [-1, 0], 3);
        assert_eq!(own[..9], [1, 2, 3, 1, 2, 3, 4, 5, 6]);
        assert_eq!(own[9..], own[..9].repeat(2));
    }
}

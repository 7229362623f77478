//! Where the operands of a convolution lie: which pixels are gathered for an output pixel, tap by tap.
//!
//! Forward and input gradient are the same gathering. Towards the input, pixels whose row and column leave the same
//! rest when divided by the stride are gathered through the same taps; each such phase is a convolution of stride 1.

use super::{Convolution, Maps};
use crate::Size;
use rayon::prelude::*;

/// One axis of a gathering: output place `i` reads `origin + offset` of the source for each tap.
struct Axis {
    /// `(origin, output place)`.
    places: Vec<(isize, usize)>,
    /// `(offset, index of the tap in the kernel)`, in rising order of offset.
    taps: Vec<(isize, usize)>,
}

impl Axis {
    fn forward(layer: Convolution, outputs: usize) -> Self {
        let places =
            (0..outputs).map(|i| ((i * layer.stride) as isize - layer.padding as isize, i)).collect();
        let taps = (0..layer.kernel).map(|tap| ((tap * layer.dilation) as isize, tap)).collect();
        Self { places, taps }
    }

    /// The places of an input of `length` that leave the rest `phase`, as gatherings of the output's gradient.
    fn backward(layer: Convolution, length: usize, phase: usize) -> Self {
        let places =
            (phase..length).step_by(layer.stride).enumerate().map(|(j, i)| (j as isize, i)).collect();
        let stride = layer.stride as isize;
        let taps = (0..layer.kernel).rev().filter_map(|tap| {
            let reach = (phase + layer.padding) as isize - (tap * layer.dilation) as isize;
            (reach % stride == 0).then_some((reach / stride, tap))
        });
        Self { places, taps: taps.collect() }
    }

    /// First and one past the last source place that is read; `(0, 0)` when none is.
    fn reach(&self) -> (isize, isize) {
        let (Some(&(first, _)), Some(&(last, _))) = (self.places.first(), self.places.last()) else {
            return (0, 0);
        };
        match (self.taps.first(), self.taps.last()) {
            (Some(&(low, _)), Some(&(high, _))) => (first + low, last + high + 1),
            _ => (0, 0),
        }
    }
}

/// A source map with the zeros around it that some gathering reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    source: Maps,
    above: usize,
    left: usize,
    size: Size,
}

impl Frame {
    fn new<'a>(source: Maps, axes: impl Iterator<Item = &'a (Axis, Axis)>) -> Self {
        let mut low = (0, 0);
        let mut high = (source.size.height_px as isize, source.size.width_px as isize);
        for (vertical, horizontal) in axes {
            let (top, bottom) = vertical.reach();
            let (left, right) = horizontal.reach();
            low = (low.0.min(top), low.1.min(left));
            high = (high.0.max(bottom), high.1.max(right));
        }
        let size = Size::new((high.1 - low.1) as usize, (high.0 - low.0) as usize);
        Self { source, above: -low.0 as usize, left: -low.1 as usize, size }
    }

    /// Whether there are no zeros around the source.
    pub(super) fn is_source(self) -> bool {
        self.size == self.source.size
    }

    /// Number of values of one image.
    pub(super) fn image(self) -> usize {
        self.size.area_px() * self.source.channels
    }

    /// Number of values of all images.
    pub(super) fn len(self) -> usize {
        self.source.images * self.image()
    }

    /// Copies the source into its frame.
    pub(super) fn fill(self, source: &[f32], framed: &mut [f32]) {
        let channels = self.source.channels;
        let (row, source_row) = (self.size.width_px * channels, self.source.size.width_px * channels);
        if row == 0 {
            return;
        }
        framed.par_chunks_mut(row).with_min_len(16).enumerate().for_each(|(index, framed)| {
            let (image, y) = (index / self.size.height_px, index % self.size.height_px);
            match y.checked_sub(self.above) {
                Some(y) if y < self.source.size.height_px => {
                    let start = (image * self.source.size.height_px + y) * source_row;
                    let left = self.left * channels;
                    framed[..left].fill(0.0);
                    framed[left..left + source_row].copy_from_slice(&source[start..start + source_row]);
                    framed[left + source_row..].fill(0.0);
                }
                _ => framed.fill(0.0),
            }
        });
    }
}

/// Which floats of a framed image are multiplied for each pixel of an output image.
pub(super) struct Gathering {
    /// Where the pixel's first tap lies in the framed image, for each output pixel.
    pub(super) from: Vec<usize>,
    /// Where the output pixel lies in its image.
    pub(super) to: Vec<usize>,
    /// Where each stretch of taps begins, from the first on.
    pub(super) runs: Vec<usize>,
    /// Length of each stretch: taps that lie side by side times channels.
    pub(super) run: usize,
    /// Index in the kernel of each tap, in the order of the stretches.
    pub(super) taps: Vec<usize>,
}

impl Gathering {
    fn new(
        frame: Frame,
        axes: &(Axis, Axis),
        layer: Convolution,
        target: Size,
        target_channels: usize,
    ) -> Self {
        let (vertical, horizontal) = axes;
        let channels = frame.source.channels;
        let (top, left) =
            (vertical.taps.first().map_or(0, |t| t.0), horizontal.taps.first().map_or(0, |t| t.0));
        let mut gathering =
            Self { from: Vec::new(), to: Vec::new(), runs: Vec::new(), run: 0, taps: Vec::new() };
        let has_taps = !vertical.taps.is_empty() && !horizontal.taps.is_empty();
        for &(origin_y, y) in &vertical.places {
            for &(origin_x, x) in &horizontal.places {
                // Without taps nothing is read.
                let row = (origin_y + top + frame.above as isize) as usize * usize::from(has_taps);
                let column = (origin_x + left + frame.left as isize) as usize * usize::from(has_taps);
                gathering.from.push((row * frame.size.width_px + column) * channels);
                gathering.to.push(target.index(x, y) * target_channels);
            }
        }
        let side_by_side = horizontal.taps.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1);
        let stretch = if side_by_side { horizontal.taps.len().max(1) } else { 1 };
        gathering.run = stretch * channels;
        for &(offset_y, ky) in &vertical.taps {
            let row = (offset_y - top) as usize * frame.size.width_px;
            for taps in horizontal.taps.chunks(stretch) {
                gathering.runs.push((row + (taps[0].0 - left) as usize) * channels);
                gathering.taps.extend(taps.iter().map(|(_, kx)| ky * layer.kernel + kx));
            }
        }
        gathering
    }
}

/// The gathering of the input for the output.
pub(super) fn forward(layer: Convolution, input: Maps) -> (Frame, Gathering) {
    let output = layer.output_size(input.size);
    let axes = (Axis::forward(layer, output.height_px), Axis::forward(layer, output.width_px));
    let frame = Frame::new(input, std::iter::once(&axes));
    let gathering = Gathering::new(frame, &axes, layer, output, layer.outputs);
    (frame, gathering)
}

/// The gatherings of the output's gradient for the input, one for each phase.
pub(super) fn backward(layer: Convolution, input: Maps) -> (Frame, Vec<Gathering>) {
    let phases: Vec<(Axis, Axis)> = (0..layer.stride * layer.stride)
        .map(|phase| {
            let vertical = Axis::backward(layer, input.size.height_px, phase / layer.stride);
            (vertical, Axis::backward(layer, input.size.width_px, phase % layer.stride))
        })
        .collect();
    let frame = Frame::new(layer.output(input), phases.iter());
    let gather = |axes| Gathering::new(frame, axes, layer, input.size, layer.inputs);
    let gatherings = phases.iter().map(gather).collect();
    (frame, gatherings)
}

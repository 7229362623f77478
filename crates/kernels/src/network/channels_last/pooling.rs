//! Pooling of tensors whose channels come last: the maximum of windows, the mean of whole images.
//!
//! The maximum keeps which place of its window won, one byte a value, so that the gradient goes to the first of
//! equals (after ReLU, windows of zeros are common) without reading the input again. Backward, each input pixel
//! gathers from the windows that it lies in and is written once: no order of additions to get wrong, nothing to clear.

use super::Maps;
use crate::Size;
use crate::network::lanes::{Lanes, Period, for_lanes, for_periodic_lanes};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
use rayon::prelude::*;
use std::ops::Range;

/// Square windows, in pixels. Outside the image there is nothing that could win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Side of a window, 1 to 16.
    pub kernel_px: usize,
    /// From window to window.
    pub stride_px: usize,
    /// How far the first window begins before the image; at most half a window.
    pub padding_px: usize,
}

impl Windows {
    /// The extent of what windows over `grid` give.
    ///
    /// # Panics
    /// When a side is not 1 to 16, the stride is zero, or the padding is more than half a window.
    pub fn output(self, grid: Maps) -> Maps {
        assert!(
            (1..=16).contains(&self.kernel_px) && self.stride_px > 0,
            "windows of 1 to 16 pixels, a stride"
        );
        assert!(self.padding_px * 2 <= self.kernel_px, "at most half a window of padding");
        let count = |length: usize| match (length + 2 * self.padding_px).checked_sub(self.kernel_px) {
            Some(room) if length > 0 => room / self.stride_px + 1,
            _ => 0,
        };
        Maps { size: Size::new(count(grid.size.width_px), count(grid.size.height_px)), ..grid }
    }

    /// The pixels of window `index` along an axis of `length` pixels.
    #[inline(always)]
    fn pixels(self, index: usize, length: usize) -> Range<usize> {
        let end = index * self.stride_px + self.kernel_px - self.padding_px;
        (index * self.stride_px).saturating_sub(self.padding_px)..end.min(length)
    }

    /// The windows of `count` that pixel `at` of an axis lies in.
    #[inline(always)]
    fn covering(self, at: usize, count: usize) -> Range<usize> {
        let at = at + self.padding_px;
        (at + self.stride_px).saturating_sub(self.kernel_px) / self.stride_px
            ..(at / self.stride_px + 1).min(count)
    }

    /// Which place of window `index` pixel `at` is, along an axis.
    #[inline(always)]
    fn place(self, at: usize, index: usize) -> usize {
        at + self.padding_px - index * self.stride_px
    }
}

/// The greatest value of each window and channel, and which place of the window it has (row · side + column), the
/// first of equals. NaN wins only from a window's first pixel.
///
/// # Shapes
/// - `input`: that of `grid`; `output`, `winners`: that of [`Windows::output`]
///
/// # Panics
/// When lengths and shapes disagree, or as [`Windows::output`].
pub fn max_pool(input: &[f32], grid: Maps, windows: Windows, output: &mut [f32], winners: &mut [u8]) {
    max_pool_on(Path::best(), input, grid, windows, output, winners);
}

/// [`max_pool`] on a given path.
pub fn max_pool_on(
    path: Path,
    input: &[f32],
    grid: Maps,
    windows: Windows,
    output: &mut [f32],
    winners: &mut [u8],
) {
    let pooled = windows.output(grid);
    assert!(input.len() == grid.len(), "the input has its shape's length");
    assert!(
        output.len() == pooled.len() && winners.len() == pooled.len(),
        "the output has its shape's length"
    );
    let row = pooled.row().max(1);
    output.par_chunks_mut(row).zip(winners.par_chunks_mut(row)).enumerate().for_each(
        |(row, (output, winners))| {
            let (image, y) = pooled.image_and_row(row);
            let rows = windows.pixels(y, grid.size.height_px);
            let input = &input[grid.row_start(image, 0)..grid.row_start(image + 1, 0)];
            max_row(path, input, grid, windows, y, rows, output, winners);
        },
    );
}

/// The gradient of [`max_pool`] towards its input, from `gradient` towards its output; writes every element.
///
/// # Shapes
/// - `gradient`, `winners`: that of [`Windows::output`]; `to_input`: that of `grid`
///
/// # Panics
/// When lengths and shapes disagree, or as [`Windows::output`].
pub fn max_pool_gradient(
    gradient: &[f32],
    winners: &[u8],
    grid: Maps,
    windows: Windows,
    to_input: &mut [f32],
) {
    max_pool_gradient_on(Path::best(), gradient, winners, grid, windows, to_input);
}

/// [`max_pool_gradient`] on a given path.
pub fn max_pool_gradient_on(
    path: Path,
    gradient: &[f32],
    winners: &[u8],
    grid: Maps,
    windows: Windows,
    to_input: &mut [f32],
) {
    let pooled = windows.output(grid);
    assert!(to_input.len() == grid.len(), "the input has its shape's length");
    assert!(
        gradient.len() == pooled.len() && winners.len() == pooled.len(),
        "the output has its shape's length"
    );
    to_input.par_chunks_mut(grid.row().max(1)).enumerate().for_each(|(row, to_input)| {
        let (image, y) = grid.image_and_row(row);
        let of_image = pooled.row_start(image, 0)..pooled.row_start(image + 1, 0);
        let rows = windows.covering(y, pooled.size.height_px);
        gather_row(path, &gradient[of_image.clone()], &winners[of_image], pooled, windows, y, rows, to_input);
    });
}

run_on!(fn max_row = max_row_kernel(
    input: &[f32], grid: Maps, windows: Windows, y: usize, rows: Range<usize>, output: &mut [f32], winners: &mut [u8],
));
run_on!(fn gather_row = gather_row_kernel(
    gradient: &[f32], winners: &[u8], pooled: Maps, windows: Windows, y: usize, rows: Range<usize>,
    to_input: &mut [f32],
));
run_on!(fn add_places = add_places_kernel(values: &[f32], sums: &mut [f32]));
run_on!(fn repeat_places = repeat_places_kernel(places: &[f32], values: &mut [f32]));

/// One output row: `input` is one image, `rows` the input rows of its windows.
///
/// # Safety
/// The instruction set of `V` must be there; the slices have the lengths of their shapes.
#[inline(always)]
unsafe fn max_row_kernel<V: Arithmetic, const O: usize, const N: usize>(
    input: &[f32],
    grid: Maps,
    windows: Windows,
    y: usize,
    rows: Range<usize>,
    output: &mut [f32],
    winners: &mut [u8],
) {
    let channels = grid.channels;
    for x in 0..output.len() / channels {
        let columns = windows.pixels(x, grid.size.width_px);
        for_lanes!(V, channels, |channel, lanes| unsafe {
            // The padding is at most half a window: each window has a pixel, and the first starts the comparison.
            let from = |row: usize, column: usize| (row * grid.size.width_px + column) * channels + channel;
            let mut best: V = lanes.load(input.as_ptr().add(from(rows.start, columns.start)));
            let first = windows.place(rows.start, y) * windows.kernel_px + windows.place(columns.start, x);
            let mut winner = V::splat(first as f32);
            for row in rows.clone() {
                for column in columns.clone() {
                    let value: V = lanes.load(input.as_ptr().add(from(row, column)));
                    let place = windows.place(row, y) * windows.kernel_px + windows.place(column, x);
                    winner = value.sub(best).where_positive(V::splat(place as f32), winner);
                    best = value.max(best);
                }
            }
            lanes.store(best, output.as_mut_ptr().add(x * channels + channel));
            lanes.store_bytes(winner, winners.as_mut_ptr().add(x * channels + channel));
        });
    }
}

/// One input row: `gradient` and `winners` are one image of the output, `rows` the windows' rows that cover it.
///
/// # Safety
/// The instruction set of `V` must be there; the slices have the lengths of their shapes.
#[inline(always)]
unsafe fn gather_row_kernel<V: Arithmetic, const O: usize, const N: usize>(
    gradient: &[f32],
    winners: &[u8],
    pooled: Maps,
    windows: Windows,
    y: usize,
    rows: Range<usize>,
    to_input: &mut [f32],
) {
    let channels = pooled.channels;
    for x in 0..to_input.len() / channels {
        let columns = windows.covering(x, pooled.size.width_px);
        for_lanes!(V, channels, |channel, lanes| unsafe {
            let mut sum = V::zero();
            for row in rows.clone() {
                for column in columns.clone() {
                    let at = (row * pooled.size.width_px + column) * channels + channel;
                    let place = windows.place(y, row) * windows.kernel_px + windows.place(x, column);
                    let winner: V = lanes.load_bytes(winners.as_ptr().add(at));
                    let here: V = lanes.load(gradient.as_ptr().add(at));
                    sum = sum.add(winner.where_equal(V::splat(place as f32), here, V::zero()));
                }
            }
            lanes.store(sum, to_input.as_mut_ptr().add(x * channels + channel));
        });
    }
}

/// The mean of each image and channel: from `[images, pixels, channels]` to `[images, channels]`. Images without
/// pixels have mean zero.
///
/// # Panics
/// When lengths and shapes disagree, or without channels.
pub fn average_pool(input: &[f32], images: usize, channels: usize, output: &mut [f32]) {
    average_pool_on(Path::best(), input, images, channels, output);
}

/// [`average_pool`] on a given path.
pub fn average_pool_on(path: Path, input: &[f32], images: usize, channels: usize, output: &mut [f32]) {
    let period = Period::new(channels);
    let image = length_of_image(input.len(), images, channels);
    assert_eq!(output.len(), images * channels, "the output has its shape's length");
    let scale = 1.0 / (image / channels).max(1) as f64;
    let scratch = || (vec![0.0; period.length], vec![0.0; channels]);
    output.par_chunks_mut(channels).enumerate().for_each_init(scratch, |(places, totals), (i, output)| {
        totals.fill(0.0);
        for block in input[i * image..][..image].chunks(period.block()) {
            places.fill(0.0);
            add_places(path, block, places);
            period.fold_into(places, totals);
        }
        for (mean, total) in output.iter_mut().zip(totals) {
            *mean = (*total * scale) as f32;
        }
    });
}

/// The gradient of [`average_pool`] towards its input, from `gradient` towards its output; writes every element.
///
/// # Panics
/// When lengths and shapes disagree, or without channels.
pub fn average_pool_gradient(gradient: &[f32], images: usize, channels: usize, to_input: &mut [f32]) {
    average_pool_gradient_on(Path::best(), gradient, images, channels, to_input);
}

/// [`average_pool_gradient`] on a given path.
pub fn average_pool_gradient_on(
    path: Path,
    gradient: &[f32],
    images: usize,
    channels: usize,
    to_input: &mut [f32],
) {
    let period = Period::new(channels);
    let image = length_of_image(to_input.len(), images, channels);
    assert_eq!(gradient.len(), images * channels, "the gradient has its shape's length");
    let scale = 1.0 / (image / channels).max(1) as f32;
    to_input.par_chunks_mut(image.max(1)).zip(gradient.par_chunks(channels)).for_each(
        |(to_input, gradient)| {
            repeat_places(path, &period.spread(|channel| gradient[channel] * scale), to_input);
        },
    );
}

/// Values of one image.
fn length_of_image(length: usize, images: usize, channels: usize) -> usize {
    assert_eq!(length % (images * channels).max(1), 0, "whole pixels in each image");
    assert!(images > 0 || length == 0, "values only where there are images");
    length / images.max(1)
}

/// Adds values to the places of the pattern.
///
/// # Safety
/// The instruction set of `V` must be there; `sums` is one period long, a multiple of 16.
#[inline(always)]
unsafe fn add_places_kernel<V: Arithmetic, const O: usize, const N: usize>(values: &[f32], sums: &mut [f32]) {
    for_periodic_lanes!(V, values.len(), sums.len(), |at, column, lanes| unsafe {
        let sum = sums.as_mut_ptr().add(column);
        V::load(sum).add(lanes.load(values.as_ptr().add(at))).store(sum);
    });
}

/// Repeats the pattern over `values`.
///
/// # Safety
/// The instruction set of `V` must be there; `places` is one period long, a multiple of 16.
#[inline(always)]
unsafe fn repeat_places_kernel<V: Arithmetic, const O: usize, const N: usize>(
    places: &[f32],
    values: &mut [f32],
) {
    for_periodic_lanes!(V, values.len(), places.len(), |at, column, lanes| unsafe {
        lanes.store(V::load(places.as_ptr().add(column)), values.as_mut_ptr().add(at));
    });
}

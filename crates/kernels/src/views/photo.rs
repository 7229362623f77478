//! SimCLR's views: crop, flip, colour jitter, grey, blur, in torchvision's definitions, on colours from 0 to 1.
//!
//! Planes of one colour each, so that every step is a plain loop over neighbouring floats, which the compiler turns into
//! vectors: the whole view is built once for each instruction set.

#![allow(unsafe_code)] // The view is built for each instruction set; it reads and writes slices only.
#![allow(clippy::needless_range_loop)] // Loops over registers: a closure would be compiled without their instructions.

use crate::Size;
use crate::network::vector::{Path, Vector, run_on};

/// Taps of the blur.
pub const BLUR_TAPS: usize = 23;
/// Luminance of red, green and blue, as in torchvision.
const LUMINANCE: [f32; 3] = [0.2989, 0.587, 0.114];

/// A rectangle of a tile, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Columns to its left.
    pub left: usize,
    /// Rows above it.
    pub top: usize,
    /// Its extent.
    pub size: Size,
}

/// A step of colour jitter with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Colours times a factor.
    Brightness(f32),
    /// Colours away from the mean luminance.
    Contrast(f32),
    /// Colours away from their luminance.
    Saturation(f32),
    /// Hues turned by a share of the circle.
    Hue(f32),
}

/// What becomes of a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhotoView {
    /// What is cut out and brought to the view's side.
    pub crop: Crop,
    /// Whether left and right are exchanged.
    pub is_flipped: bool,
    /// Steps of colour jitter in their order.
    pub jitter: Option<[Jitter; 4]>,
    /// Whether colours become their luminance.
    pub is_grey: bool,
    /// Standard deviation of the blur, in pixels.
    pub blur_sigma_px: Option<f32>,
}

/// Memory that views are made in, kept from one to the next.
#[derive(Clone, Debug, Default)]
pub struct PhotoScratch {
    planes: Vec<f32>,
    lines: Vec<f32>,
}

/// The view of a tile `[height_px][width_px][3]` as `[side_px][side_px][3]` floats from 0 to 1.
///
/// # Panics
/// When slices do not fill their extents, or the crop leaves the tile or is empty.
pub fn photo_view(
    rgb: &[u8],
    size: Size,
    side_px: usize,
    view: &PhotoView,
    scratch: &mut PhotoScratch,
    out: &mut [f32],
) {
    photo_view_on(Path::best(), rgb, size, side_px, view, scratch, out);
}

/// [`photo_view`] on a given path.
pub fn photo_view_on(
    path: Path,
    rgb: &[u8],
    size: Size,
    side_px: usize,
    view: &PhotoView,
    scratch: &mut PhotoScratch,
    out: &mut [f32],
) {
    let Crop { left, top, size: cut } = view.crop;
    assert_eq!(rgb.len(), 3 * size.area_px(), "the tile does not fill {size} pixels");
    assert_eq!(out.len(), 3 * side_px * side_px, "the view does not fill its side");
    assert!(
        cut.area_px() > 0 && left + cut.width_px <= size.width_px && top + cut.height_px <= size.height_px
    );
    make_view(path, rgb, size.width_px, side_px, view, scratch, out);
}

run_on!(fn make_view = view_kernel(
    rgb: &[u8], width: usize, side: usize, view: &PhotoView, scratch: &mut PhotoScratch, out: &mut [f32],
));

/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
unsafe fn view_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    rgb: &[u8],
    width: usize,
    side: usize,
    view: &PhotoView,
    scratch: &mut PhotoScratch,
    out: &mut [f32],
) {
    let area = side * side;
    scratch.planes.resize(3 * area, 0.0);
    let PhotoScratch { planes, lines } = scratch;
    resize(rgb, width, side, view, lines, planes);
    if let Some(steps) = view.jitter {
        let mut step = 0;
        while step < 4 {
            jitter(steps[step], planes, area);
            step += 1;
        }
    }
    if view.is_grey {
        let (red, green, blue) = thirds(planes, area);
        for at in 0..area {
            let grey = luminance(red[at], green[at], blue[at]);
            (red[at], green[at], blue[at]) = (grey, grey, grey);
        }
    }
    if let Some(sigma) = view.blur_sigma_px {
        blur(planes, side, sigma, lines);
    }
    let (red, green, blue) = thirds(planes, area);
    for at in 0..area {
        out[3 * at] = red[at];
        out[3 * at + 1] = green[at];
        out[3 * at + 2] = blue[at];
    }
}

#[inline(always)]
fn thirds(planes: &mut [f32], area: usize) -> (&mut [f32], &mut [f32], &mut [f32]) {
    let (red, rest) = planes.split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    (red, green, &mut blue[..area])
}

#[inline(always)]
fn luminance(red: f32, green: f32, blue: f32) -> f32 {
    LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue
}

/// Where a pixel of the view lies between two of the crop: the first, the second, and the part of the second; centres of
/// pixels are at halves (`align_corners=False`).
#[inline(always)]
fn between(at: usize, side: usize, length: usize) -> (usize, usize, f32) {
    let place = ((at as f32 + 0.5) * (length as f32 / side as f32) - 0.5).max(0.0);
    let first = (place as usize).min(length - 1);
    (first, (first + 1).min(length - 1), place - first as f32)
}

/// The crop at the view's side, bilinear, flipped if it is to be, as planes.
#[inline(always)]
fn resize(rgb: &[u8], width: usize, side: usize, view: &PhotoView, lines: &mut Vec<f32>, planes: &mut [f32]) {
    let Crop { left, top, size } = view.crop;
    let area = side * side;
    // The crop's rows at the view's width, three planes a row.
    lines.resize(3 * side * size.height_px, 0.0);
    for x in 0..side {
        let (first, second, part) = between(x, side, size.width_px);
        let to = if view.is_flipped { side - 1 - x } else { x };
        for y in 0..size.height_px {
            let row = &rgb[3 * ((top + y) * width + left)..][..3 * size.width_px];
            for colour in 0..3 {
                let (a, b) = (f32::from(row[3 * first + colour]), f32::from(row[3 * second + colour]));
                lines[(y * 3 + colour) * side + to] = (a + part * (b - a)) / 255.0;
            }
        }
    }
    for y in 0..side {
        let (first, second, part) = between(y, side, size.height_px);
        for colour in 0..3 {
            let above = &lines[(first * 3 + colour) * side..][..side];
            let below = &lines[(second * 3 + colour) * side..][..side];
            let to = &mut planes[colour * area + y * side..][..side];
            for x in 0..side {
                to[x] = above[x] + part * (below[x] - above[x]);
            }
        }
    }
}

#[inline(always)]
fn jitter(step: Jitter, planes: &mut [f32], area: usize) {
    match step {
        Jitter::Brightness(factor) => {
            for value in &mut planes[..3 * area] {
                *value = (*value * factor).clamp(0.0, 1.0);
            }
        }
        Jitter::Contrast(factor) => {
            let mean = mean_luminance(planes, area) * (1.0 - factor);
            for value in &mut planes[..3 * area] {
                *value = (*value * factor + mean).clamp(0.0, 1.0);
            }
        }
        Jitter::Saturation(factor) => {
            let (red, green, blue) = thirds(planes, area);
            for at in 0..area {
                let grey = (1.0 - factor) * luminance(red[at], green[at], blue[at]);
                red[at] = (red[at] * factor + grey).clamp(0.0, 1.0);
                green[at] = (green[at] * factor + grey).clamp(0.0, 1.0);
                blue[at] = (blue[at] * factor + grey).clamp(0.0, 1.0);
            }
        }
        Jitter::Hue(turn) => {
            let (red, green, blue) = thirds(planes, area);
            for at in 0..area {
                (red[at], green[at], blue[at]) = turned(red[at], green[at], blue[at], turn);
            }
        }
    }
}

/// The mean luminance, in the same order on every path.
#[inline(always)]
fn mean_luminance(planes: &mut [f32], area: usize) -> f32 {
    const LANES: usize = 16;
    let (red, green, blue) = thirds(planes, area);
    let mut sums = [0.0f32; LANES];
    let whole = area / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            let at = start + lane;
            sums[lane] += luminance(red[at], green[at], blue[at]);
        }
    }
    let mut sum = 0.0f32;
    for at in whole..area {
        sum += luminance(red[at], green[at], blue[at]);
    }
    for lane in sums {
        sum += lane;
    }
    sum / area as f32
}

/// A colour whose hue is turned, through the hexcone model (Smith 1978); no branch, so that it is done in vectors.
#[inline(always)]
fn turned(red: f32, green: f32, blue: f32, turn: f32) -> (f32, f32, f32) {
    let high = red.max(green).max(blue);
    let range = high - red.min(green).min(blue);
    let divisor = if range == 0.0 { 1.0 } else { range };
    let of_red = (green - blue) / divisor;
    let of_green = 2.0 + (blue - red) / divisor;
    let of_blue = 4.0 + (red - green) / divisor;
    let sixths = if high == red {
        of_red
    } else if high == green {
        of_green
    } else {
        of_blue
    };
    let sixths = sixths + 6.0 * turn;
    let part = |number: f32| {
        let k = number + sixths;
        let k = k - 6.0 * (k * (1.0 / 6.0)).floor();
        high - range * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    (part(5.0), part(3.0), part(1.0))
}

/// A Gaussian of [`BLUR_TAPS`] taps along columns, then rows, the picture reflected without its edge.
#[inline(always)]
fn blur(planes: &mut [f32], side: usize, sigma: f32, lines: &mut Vec<f32>) {
    const HALF: usize = BLUR_TAPS / 2;
    let mut taps = [0.0f32; BLUR_TAPS];
    let mut sum = 0.0;
    for tap in 0..BLUR_TAPS {
        let distance = (tap as f32 - HALF as f32) / sigma;
        taps[tap] = (-0.5 * distance * distance).exp();
        sum += taps[tap];
    }
    for tap in &mut taps {
        *tap /= sum;
    }
    // A plane that is smoothed along columns, and one row with its reflections.
    lines.resize(side * side + side + 2 * HALF, 0.0);
    let (smooth, row) = lines.split_at_mut(side * side);
    for plane in planes[..3 * side * side].chunks_exact_mut(side * side) {
        smooth.fill(0.0);
        for y in 0..side {
            let to = &mut smooth[y * side..][..side];
            for tap in 0..BLUR_TAPS {
                let from =
                    &plane[reflected(y as isize + tap as isize - HALF as isize, side) * side..][..side];
                let weight = taps[tap];
                for x in 0..side {
                    to[x] += weight * from[x];
                }
            }
        }
        for y in 0..side {
            let from = &smooth[y * side..][..side];
            row[HALF..HALF + side].copy_from_slice(from);
            for edge in 0..HALF {
                row[edge] = from[reflected(edge as isize - HALF as isize, side)];
                row[HALF + side + edge] = from[reflected((side + edge) as isize, side)];
            }
            let to = &mut plane[y * side..][..side];
            to.fill(0.0);
            for tap in 0..BLUR_TAPS {
                let (weight, from) = (taps[tap], &row[tap..][..side]);
                for x in 0..side {
                    to[x] += weight * from[x];
                }
            }
        }
    }
}

/// A place of a line, reflected at its ends, edge elements once.
#[inline(always)]
fn reflected(at: isize, length: usize) -> usize {
    let period = (2 * length as isize - 2).max(1);
    let at = at.rem_euclid(period);
    (if at < length as isize { at } else { period - at }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(size: Size) -> Vec<u8> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..3 * size.area_px()).map(|_| next()).collect()
    }

    fn plain(size: Size) -> PhotoView {
        let crop = Crop { left: 0, top: 0, size };
        PhotoView { crop, is_flipped: false, jitter: None, is_grey: false, blur_sigma_px: None }
    }

    fn view(rgb: &[u8], size: Size, side: usize, view: &PhotoView) -> Vec<f32> {
        let mut out = vec![0.0; 3 * side * side];
        photo_view(rgb, size, side, view, &mut PhotoScratch::default(), &mut out);
        out
    }

    /// A colour from hue, saturation and value by the textbook, sector by sector.
    fn naive_turned(rgb: [f32; 3], turn: f32) -> [f32; 3] {
        let [r, g, b] = rgb.map(f64::from);
        let (high, low) = (r.max(g).max(b), r.min(g).min(b));
        let range = high - low;
        if range == 0.0 {
            return rgb;
        }
        let hue = if high == r {
            (g - b) / range
        } else if high == g {
            2.0 + (b - r) / range
        } else {
            4.0 + (r - g) / range
        };
        let hue = (hue + 6.0 * f64::from(turn)).rem_euclid(6.0);
        let (sector, part) = (hue.floor(), hue.fract());
        let s = range / high;
        let (p, q, t) = (high * (1.0 - s), high * (1.0 - s * part), high * (1.0 - s * (1.0 - part)));
        let out = match sector as u32 {
            0 => [high, t, p],
            1 => [q, high, p],
            2 => [p, high, t],
            3 => [p, q, high],
            4 => [t, p, high],
            _ => [high, p, q],
        };
        out.map(|value| value as f32)
    }

    #[test]
    fn hues_turn_as_in_the_textbook() {
        for seed in 0..2000 {
            let rgb = [7, 31, 127].map(|factor| ((seed * factor) % 97) as f32 / 96.0);
            let turn = (seed % 41) as f32 / 100.0 - 0.2;
            let (r, g, b) = turned(rgb[0], rgb[1], rgb[2], turn);
            for (ours, naive) in [r, g, b].into_iter().zip(naive_turned(rgb, turn)) {
                assert!((ours - naive).abs() < 2e-6, "{rgb:?} by {turn}: {ours} and {naive}");
            }
        }
    }

    #[test]
    fn a_whole_tile_comes_through_as_it_is_and_mirrored() {
        let size = Size::new(9, 9);
        let rgb = tile(size);
        let same = view(&rgb, size, 9, &plain(size));
        assert!(same.iter().zip(&rgb).all(|(a, b)| (a - f32::from(*b) / 255.0).abs() < 1e-7));
        let mirrored = view(&rgb, size, 9, &PhotoView { is_flipped: true, ..plain(size) });
        assert_eq!(mirrored[3 * 2], same[3 * 6]);
    }

    #[test]
    fn paths_agree_and_steps_stay_in_range() {
        let size = Size::new(64, 48);
        let rgb = tile(size);
        let all = PhotoView {
            crop: Crop { left: 5, top: 3, size: Size::new(40, 37) },
            is_flipped: true,
            jitter: Some([
                Jitter::Hue(-0.15),
                Jitter::Contrast(1.7),
                Jitter::Saturation(0.3),
                Jitter::Brightness(1.5),
            ]),
            is_grey: false,
            blur_sigma_px: Some(1.3),
        };
        let best = view(&rgb, size, 50, &all);
        assert!(best.iter().all(|value| (0.0..=1.0 + 1e-5).contains(value)));
        for path in Path::available() {
            let mut out = vec![0.0; best.len()];
            photo_view_on(path, &rgb, size, 50, &all, &mut PhotoScratch::default(), &mut out);
            let error = out.iter().zip(&best).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // Fused multiply-adds round once where others round twice.
            assert!(error < 1e-5, "{}: {error:e}", path.name());
        }
    }

    #[test]
    fn blur_keeps_the_mean_of_a_flat_picture_and_reflects() {
        let size = Size::new(30, 30);
        let flat = vec![51u8; 3 * size.area_px()];
        let blurred = view(&flat, size, 30, &PhotoView { blur_sigma_px: Some(2.0), ..plain(size) });
        assert!(blurred.iter().all(|value| (value - 0.2).abs() < 1e-6));
        assert_eq!([-2, -1, 0, 3, 4, 5].map(|at| reflected(at, 4)), [2, 1, 0, 3, 2, 1]);
        assert_eq!(reflected(-5, 1), 0);
    }
}

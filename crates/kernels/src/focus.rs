//! How much fine structure a picture has beside its coarse structure: what is lost first out of focus.

use rayon::prelude::*;

use crate::Size;
use crate::gaussian::gaussian_blur;
use crate::stain::optical_density;

/// Standard deviations of the Gaussians between which structure is fine, and those between which it is coarse.
const BANDS: [[f32; 2]; 2] = [[1.0, 2.0], [4.0, 8.0]];
/// Variance of optical density that is added to the coarse one, so that an empty picture has an answer.
const LEAST: f64 = 1e-7;

/// The variance of the mean optical density of `rgb` (`[height_px][width_px][3]`) between Gaussians of one and two times
/// `unit_px`, divided by that between four and eight times: a ratio of powers in two octaves, which contrast and stain do not
/// change, and blur makes smaller.
///
/// # Panics
/// If `rgb` does not have `3 * size.area_px()` elements.
pub fn fineness(rgb: &[u8], size: Size, unit_px: f32) -> f64 {
    assert_eq!(rgb.len(), 3 * size.area_px(), "values do not fill {size} pixels");
    let mean = |pixel: &[u8; 3]| pixel.iter().map(|value| optical_density(*value)).sum::<f32>() / 3.0;
    let densities: Vec<f32> = rgb.as_chunks().0.par_iter().map(mean).collect();
    let [fine, coarse] = BANDS.map(|band| {
        let [narrow, wide] = band.map(|sigma| gaussian_blur(&densities, size, sigma * unit_px));
        let squares = narrow.iter().zip(&wide).map(|(narrow, wide)| f64::from(narrow - wide).powi(2));
        squares.sum::<f64>() / densities.len().max(1) as f64
    });
    fine / (coarse + LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speckles of every size.
    fn picture(size: Size) -> Vec<u8> {
        let mut state = 1u32;
        let values: Vec<f32> = (0..size.area_px())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32
            })
            .collect();
        let coarse = gaussian_blur(&values, size, 5.0);
        let mixed =
            values.iter().zip(&coarse).map(|(fine, coarse)| 40.0 * fine + 2000.0 * (coarse - 0.5) + 130.0);
        mixed.flat_map(|value| [value.clamp(1.0, 255.0) as u8; 3]).collect()
    }

    fn blurred(rgb: &[u8], size: Size, sigma_px: f32) -> Vec<u8> {
        let channel: Vec<f32> = rgb.iter().step_by(3).map(|value| f32::from(*value)).collect();
        gaussian_blur(&channel, size, sigma_px)
            .into_iter()
            .flat_map(|value| [value.round() as u8; 3])
            .collect()
    }

    /// The definition, by sums over the whole picture with reflected borders.
    fn by_definition(rgb: &[u8], size: Size, unit_px: f32) -> f64 {
        let density: Vec<f64> = rgb
            .as_chunks::<3>()
            .0
            .iter()
            .map(|pixel| pixel.iter().map(|value| f64::from(optical_density(*value))).sum::<f64>() / 3.0)
            .collect();
        let blur_line = |line: Vec<f64>, sigma: f64| -> Vec<f64> {
            let reach = (4.0 * sigma + 0.5) as i64;
            let weight = |offset: i64| (-0.5 * (offset as f64 / sigma).powi(2)).exp();
            let total: f64 = (-reach..=reach).map(weight).sum();
            let at = |index: i64| {
                let period = 2 * line.len() as i64;
                let index = index.rem_euclid(period);
                line[index.min(period - 1 - index) as usize]
            };
            let sum = |x: i64| (-reach..=reach).map(|offset| weight(offset) * at(x + offset)).sum::<f64>();
            (0..line.len() as i64).map(|x| sum(x) / total).collect()
        };
        let blur = |sigma: f64| {
            let rows: Vec<f64> =
                density.chunks(size.width_px).flat_map(|row| blur_line(row.to_vec(), sigma)).collect();
            let mut out = vec![0.0; rows.len()];
            for x in 0..size.width_px {
                let column = rows.iter().skip(x).step_by(size.width_px).copied().collect();
                blur_line(column, sigma).into_iter().enumerate().for_each(|(y, v)| out[size.index(x, y)] = v);
            }
            out
        };
        let unit = f64::from(unit_px);
        let power = |narrow: f64, wide: f64| {
            let (narrow, wide) = (blur(narrow * unit), blur(wide * unit));
            narrow.iter().zip(&wide).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / density.len() as f64
        };
        power(1.0, 2.0) / (power(4.0, 8.0) + LEAST)
    }

    #[test]
    fn it_is_the_ratio_that_the_definition_says() {
        for (width, height, unit_px) in [(61, 47, 1.4), (40, 40, 0.7), (33, 64, 1.0)] {
            let size = Size::new(width, height);
            let rgb = picture(size);
            let (fast, slow) = (fineness(&rgb, size, unit_px), by_definition(&rgb, size, unit_px));
            assert!((fast / slow - 1.0).abs() < 1e-4, "{fast} {slow}");
        }
    }

    #[test]
    fn blur_lowers_it_and_an_empty_picture_has_none() {
        let size = Size::new(160, 120);
        let sharp = picture(size);
        let ratios = [0.0, 1.0, 2.0, 4.0].map(|sigma| fineness(&blurred(&sharp, size, sigma), size, 1.4));
        assert!(ratios.is_sorted_by(|sharper, blurrier| sharper > blurrier), "{ratios:?}");
        assert!(fineness(&[200; 300], Size::new(10, 10), 1.4) < 1e-3);
        assert_eq!(fineness(&[], Size::new(0, 0), 1.4), 0.0);
    }
}

//! 36 numbers a place, made by hand and not learned: the yardstick that an encoder must beat, and what serves where there is
//! neither time nor a graphics card.
//!
//! Haematoxylin, eosin and the optical densities of the three colours, in units of their slide: mean and deviation in
//! three neighbourhoods; and in these the energy of the gradient and of the Laplacian of the mean density.

use super::Backbone;
use crate::tissue::look::Look;
use microtome_kernels::Size;
use microtome_kernels::gaussian::{gaussian_blur, gaussian_blur_wide};
use microtome_kernels::stain::{StainMatrix, optical_density};

/// Standard deviations of the neighbourhoods, in pixels.
const SIGMAS_PX: [f32; 3] = [4.0, 10.0, 24.0];
/// Pixels from one place to the next.
const STRIDE_PX: usize = 8;
/// Channels whose means and deviations are taken.
const CHANNELS: usize = 5;
/// What is added to an energy before its logarithm.
const LEAST_ENERGY: f32 = 1e-5;
/// Numbers a place.
pub const DIMENSIONS: usize = 2 * SIGMAS_PX.len() * (CHANNELS + 1);
/// The level that they are called by.
pub const LEVEL: usize = 2;

/// The hand-made numbers.
#[derive(Clone, Copy, Debug)]
pub struct Texture;

impl Backbone for Texture {
    fn levels(&self) -> Vec<usize> {
        vec![LEVEL]
    }

    fn dimensions(&self, _: usize) -> usize {
        DIMENSIONS
    }

    fn stride_px(&self, _: usize) -> usize {
        STRIDE_PX
    }

    fn halo_px(&self, _: usize) -> usize {
        (4.0 * SIGMAS_PX[SIGMAS_PX.len() - 1]) as usize
    }

    fn cells(&self, rgb: &[u8], size: Size, look: &Look, _: usize) -> Vec<f32> {
        let cells = Size::new(size.width_px / STRIDE_PX, size.height_px / STRIDE_PX);
        let mut values = vec![0.0; cells.area_px() * DIMENSIONS];
        let mut number = 0;
        let mut put = |map: &dyn Fn(usize) -> f32| {
            for row in 0..cells.height_px {
                for column in 0..cells.width_px {
                    let middle = |cell: usize| cell * STRIDE_PX + STRIDE_PX / 2;
                    let at = size.index(middle(column), middle(row));
                    values[cells.index(column, row) * DIMENSIONS + number] = map(at);
                }
            }
            number += 1;
        };
        for channel in channels(rgb, look) {
            let squares: Vec<f32> = channel.iter().map(|value| value * value).collect();
            for sigma in SIGMAS_PX {
                let mean = gaussian_blur_wide(&channel, size, sigma);
                let square = gaussian_blur_wide(&squares, size, sigma);
                put(&|at| mean[at]);
                put(&|at| (square[at] - mean[at] * mean[at]).max(0.0).sqrt());
            }
        }
        for energy in energies(rgb, size) {
            for sigma in SIGMAS_PX {
                let mean = gaussian_blur_wide(&energy, size, sigma);
                put(&|at| (mean[at] + LEAST_ENERGY).ln());
            }
        }
        values
    }

    fn tiles(&self, rgb: &[u8], side_px: usize, look: &Look, level: usize) -> Vec<f32> {
        let size = Size::new(side_px, side_px);
        let of_tile = |tile: &[u8]| -> Vec<f32> {
            let cells = self.cells(tile, size, look, level);
            let count = (cells.len() / DIMENSIONS).max(1) as f32;
            let sum = |number: usize| cells.iter().skip(number).step_by(DIMENSIONS).sum::<f32>();
            (0..DIMENSIONS).map(|number| sum(number) / count).collect()
        };
        rgb.chunks_exact(3 * size.area_px()).flat_map(of_tile).collect()
    }
}

/// Haematoxylin, eosin, and the densities of red, green and blue, in deviations from the slide's means.
fn channels(rgb: &[u8], look: &Look) -> Vec<Vec<f32>> {
    let unmixing = StainMatrix::ruifrok_johnston().inverse().unwrap_or_default();
    let pixels = rgb.as_chunks::<3>().0;
    let stain = |index: usize| -> Vec<f32> {
        let (mean, deviation) = (look.stain.mean[index], look.stain.deviation[index]);
        let value = |pixel: &[u8; 3]| {
            let [r, g, b] = pixel.map(optical_density);
            let value = r * unmixing[0][index] + g * unmixing[1][index] + b * unmixing[2][index];
            (value - mean) / deviation
        };
        pixels.iter().map(value).collect()
    };
    let density = |colour: usize| -> Vec<f32> {
        let (mean, deviation) = (look.density_mean[colour], look.density_deviation[colour]);
        pixels.iter().map(|pixel| (optical_density(pixel[colour]) - mean) / deviation).collect()
    };
    vec![stain(0), stain(1), density(0), density(1), density(2)]
}

/// Squared gradient and squared Laplacian (of the density smoothed a little) of the mean density.
fn energies(rgb: &[u8], size: Size) -> [Vec<f32>; 2] {
    let mean = |pixel: &[u8; 3]| pixel.iter().map(|value| optical_density(*value)).sum::<f32>() / 3.0;
    let density: Vec<f32> = rgb.as_chunks::<3>().0.iter().map(mean).collect();
    let smooth = gaussian_blur(&density, size, 1.0);
    let (mut gradient, mut laplacian) = (vec![0.0; density.len()], vec![0.0; density.len()]);
    let within = |at: usize, length: usize| (at.saturating_sub(1), (at + 1).min(length - 1));
    for y in 0..size.height_px {
        let (above, below) = within(y, size.height_px);
        for x in 0..size.width_px {
            let (left, right) = within(x, size.width_px);
            let at = size.index(x, y);
            let difference = |map: &[f32], a: usize, b: usize| map[b] - map[a];
            let across = difference(&density, size.index(left, y), size.index(right, y)) / 2.0;
            let down = difference(&density, size.index(x, above), size.index(x, below)) / 2.0;
            gradient[at] = across * across + down * down;
            let around = smooth[size.index(left, y)]
                + smooth[size.index(right, y)]
                + smooth[size.index(x, above)]
                + smooth[size.index(x, below)];
            laplacian[at] = (around - 4.0 * smooth[at]).powi(2);
        }
    }
    [gradient, laplacian]
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_kernels::views::stain::StainStatistics;

    fn look() -> Look {
        let stain = StainStatistics { mean: [0.0; 3], deviation: [1.0; 3] };
        Look { stain, density_mean: [0.0; 3], density_deviation: [1.0; 3] }
    }

    #[test]
    fn a_flat_picture_has_its_densities_as_means_and_no_texture() {
        let size = Size::new(32, 24);
        let rgb: Vec<u8> = [120u8, 60, 200].into_iter().cycle().take(3 * size.area_px()).collect();
        let cells = Texture.cells(&rgb, size, &look(), LEVEL);
        assert_eq!(cells.len(), 4 * 3 * DIMENSIONS);
        for cell in cells.chunks_exact(DIMENSIONS) {
            for (colour, value) in [120u8, 60, 200].into_iter().enumerate() {
                let mean = cell[6 * (2 + colour)];
                assert!((mean - optical_density(value)).abs() < 1e-5, "{mean}");
            }
            assert!(cell[1].abs() < 1e-2, "no deviation");
            assert!(cell[30..].iter().all(|energy| *energy < (2.0 * LEAST_ENERGY).ln()), "no energy");
        }
    }

    #[test]
    fn a_tile_alone_is_the_mean_of_its_cells() {
        let size = Size::new(32, 32);
        let rgb: Vec<u8> = (0..3 * size.area_px()).map(|index| (index * 13 % 255) as u8).collect();
        let cells = Texture.cells(&rgb, size, &look(), LEVEL);
        let tile = Texture.tiles(&[rgb.clone(), rgb].concat(), 32, &look(), LEVEL);
        let mean = |number: usize| cells.iter().skip(number).step_by(DIMENSIONS).sum::<f32>() / 16.0;
        assert!((0..DIMENSIONS).all(|number| (tile[number] - mean(number)).abs() < 1e-5));
        assert!(tile[..DIMENSIONS] == tile[DIMENSIONS..]);
    }
}

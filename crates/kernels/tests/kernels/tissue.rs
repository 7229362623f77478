//! k-means, nearest prototypes and SimCLR's views beside scikit-learn, PyTorch and torchvision (`../golden/make_tissue.py`).

// Printed numbers may come close to constants of mathematics by chance.
#[allow(clippy::approx_constant, clippy::excessive_precision)]
#[rustfmt::skip]
#[path = "../golden/tissue.rs"]
mod golden;

use golden::*;
use microtome_kernels::Size;
use microtome_kernels::kmeans::{Points, Settings, lloyd, nearest, products};
use microtome_kernels::views::photo::{Crop, Jitter, PhotoScratch, PhotoView, photo_view};

const DIMENSIONS: usize = 6;

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn lloyds_iterations_end_where_scikit_learns_do() {
    let settings = Settings { clusters: 4, most_iterations: 100, is_spherical: false };
    let found = lloyd(Points::new(&POINTS, DIMENSIONS), START.to_vec(), settings);
    assert_eq!(found.assignment, ASSIGNMENT);
    // Means of some twenty numbers around 1 in single precision.
    assert!(largest_difference(&found.centroids, &CENTROIDS) <= 1e-6);
    assert!((found.inertia - INERTIA).abs() <= 1e-5 * INERTIA, "{} {INERTIA}", found.inertia);
}

#[test]
fn nearest_prototypes_are_those_of_pytorch() {
    let unit = |values: &[f32]| -> Vec<f32> {
        let length = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.chunks_exact(DIMENSIONS).flat_map(|v| v.iter().map(move |value| value / length(v))).collect()
    };
    let (cells, prototypes) = (unit(&POINTS), unit(&CENTROIDS));
    let cells = Points::new(&cells, DIMENSIONS);
    assert!(largest_difference(&products(cells, &prototypes), &COSINES) <= 1e-6);
    // Of vectors of length 1 the nearest is that of the highest cosine.
    assert_eq!(nearest(cells, &prototypes), NEAREST);
}

#[test]
fn views_are_torchvisions() {
    let size = Size::new(24, 20);
    let jittered = PhotoView {
        crop: Crop { left: 5, top: 3, size: Size::new(17, 15) },
        is_flipped: true,
        jitter: Some([
            Jitter::Brightness(1.4),
            Jitter::Contrast(0.6),
            Jitter::Saturation(1.7),
            Jitter::Hue(-0.13),
        ]),
        is_grey: false,
        blur_sigma_px: None,
    };
    let view = |view: &PhotoView| {
        let mut out = vec![0.0; 3 * 24 * 24];
        photo_view(&TILE, size, 24, view, &mut PhotoScratch::default(), &mut out);
        out
    };
    // theirs in double precision; hues are quotients of small differences.
    let error = largest_difference(&view(&jittered), &JITTERED);
    assert!(error <= 2e-5, "{error:e}");
    let blurred = PhotoView { is_grey: true, blur_sigma_px: Some(1.3), ..jittered };
    let error = largest_difference(&view(&blurred), &GREY_BLURRED);
    assert!(error <= 2e-5, "{error:e}");
}

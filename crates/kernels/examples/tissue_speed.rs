//! How fast k-means runs and SimCLR's views are made here:
//!
//!     cargo run --release -p microtome-kernels --example tissue_speed -- kmeans POINTS.f32 DIMENSIONS CLUSTERS ITERATIONS
//!     cargo run --release -p microtome-kernels --example tissue_speed -- views SIDE COUNT
//!
//! Points are little-endian floats, one point after the other. Views are made by one thread. `bench/tissue_speed.py` runs both
//! beside scikit-learn and torchvision.

use microtome_kernels::Size;
use microtome_kernels::kmeans::{Points, Settings, k_means};
use microtome_kernels::views::photo::{Crop, Jitter, PhotoScratch, PhotoView, photo_view};
use std::time::Instant;

/// Numbers in 0..1, by a linear congruence.
fn source(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn kmeans(path: &str, [dimensions, clusters, most_iterations]: [usize; 3]) {
    let bytes = std::fs::read(path).expect("a file of points");
    let float = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(float).collect();
    let points = Points::new(&values, dimensions);
    let settings = Settings { clusters, most_iterations, is_spherical: false };
    for round in 0..3 {
        let begun = Instant::now();
        let found = k_means(points, settings, &mut source(round));
        println!("{:.4} {:.6e} {}", begun.elapsed().as_secs_f64(), found.inertia, found.iterations);
    }
}

/// Parameters of about the distributions that training draws from.
fn drawn(side: usize, draw: &mut dyn FnMut() -> f64) -> PhotoView {
    let mut between = |low: f64, high: f64| low + (high - low) * draw();
    let edge = |share: f64| ((side as f64 * share.sqrt()) as usize).clamp(1, side);
    let size = Size::new(edge(between(0.08, 1.0)), edge(between(0.08, 1.0)));
    let crop = Crop { left: (side - size.width_px) / 2, top: (side - size.height_px) / 3, size };
    let mut factor = || between(0.2, 1.8) as f32;
    let (brightness, contrast, saturation) = (factor(), factor(), factor());
    let steps = [
        Jitter::Hue(between(-0.2, 0.2) as f32),
        Jitter::Contrast(contrast),
        Jitter::Saturation(saturation),
        Jitter::Brightness(brightness),
    ];
    PhotoView {
        crop,
        is_flipped: between(0.0, 1.0) < 0.5,
        jitter: (between(0.0, 1.0) < 0.8).then_some(steps),
        is_grey: between(0.0, 1.0) < 0.2,
        blur_sigma_px: (between(0.0, 1.0) < 0.5).then(|| between(0.1, 2.0) as f32),
    }
}

fn views(side: usize, count: usize) {
    let mut draw = source(1);
    let tile: Vec<u8> = (0..3 * side * side).map(|_| (draw() * 256.0) as u8).collect();
    let views: Vec<PhotoView> = (0..count).map(|_| drawn(side, &mut draw)).collect();
    let (mut scratch, mut out) = (PhotoScratch::default(), vec![0.0; 3 * side * side]);
    for _ in 0..3 {
        let begun = Instant::now();
        for view in &views {
            photo_view(&tile, Size::new(side, side), side, view, &mut scratch, &mut out);
        }
        println!("{:.6}", begun.elapsed().as_secs_f64() / count as f64);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<usize>().expect("a number");
    match arguments.first().map(String::as_str) {
        Some("kmeans") => kmeans(&arguments[1], [number(2), number(3), number(4)]),
        Some("views") => views(number(1), number(2)),
        _ => println!("kmeans POINTS.f32 DIMENSIONS CLUSTERS ITERATIONS, or views SIDE COUNT"),
    }
}

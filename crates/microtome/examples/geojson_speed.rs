//! How fast nuclei are written as GeoJSON here, outlines made on the way:
//!
//!     cargo run --release -p microtome --example geojson_speed -- OUT.geojson COUNT
//!
//! The nuclei are rough ellipses of 64 shapes, some 300 pixels each, side by side in rows of a wide slide; a name that ends in
//! `.gz` is compressed.

use microtome::export::geojson::GeoJsonWriter;
use microtome::nuclei::measure::{Nucleus, measure};
use microtome_kernels::contours::{Polygon, outline};
use microtome_kernels::stain::StainMatrix;
use microtome_kernels::{Labels, Size};
use microtome_slide::MicronsPerPixel;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static MEMORY: microtome_kernels::memory::Recycling = microtome_kernels::memory::Recycling;

/// Side of the square that a nucleus has for itself, in pixels.
const SQUARE_PX: usize = 32;
/// How many shapes there are.
const SHAPES: usize = 64;
/// Nuclei in a row.
const ACROSS: usize = 2000;
/// Nuclei that are written at a time, as those of a slide.
const BLOCK: usize = 4096;

/// An ellipse whose edge is rough, in a square.
fn shape(number: usize) -> Labels {
    let (long, short) = (9.0 + (number % 8) as f64 * 0.6, 6.0 + (number / 8) as f64 * 0.5);
    let size = Size::new(SQUARE_PX, SQUARE_PX);
    let is_inside = |at: usize| {
        let [x, y] = [at % SQUARE_PX, at / SQUARE_PX].map(|place| place as f64 - 15.5);
        let rough = 1.0 + 0.08 * (5.0 * y.atan2(x) + number as f64).sin();
        (x / long).powi(2) + (y / short).powi(2) <= rough
    };
    Labels { size, ids: (0..size.area_px()).map(|at| u32::from(is_inside(at))).collect() }
}

/// A shape's outline, made anew, at a place of the slide.
fn placed(labels: &Labels, nucleus: &Nucleus, index: usize) -> (Nucleus, Vec<Polygon>) {
    let place = [index % ACROSS, index / ACROSS].map(|square| square * SQUARE_PX);
    let mut polygons = outline(labels, &nucleus.region);
    for vertex in polygons.iter_mut().flat_map(|polygon| polygon.outer.iter_mut()) {
        (vertex.x, vertex.y) = (vertex.x + place[0] as i32, vertex.y + place[1] as i32);
    }
    let mut nucleus = nucleus.clone();
    nucleus.id = index as u32 + 1;
    nucleus.region.centroid_x_px += place[0] as f64;
    nucleus.region.centroid_y_px += place[1] as f64;
    (nucleus, polygons)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, count] = &arguments[..] else { return Err("OUT.geojson COUNT, please".into()) };
    let count: usize = count.parse()?;
    let grey = vec![120; 3 * SQUARE_PX * SQUARE_PX];
    let measured = |labels: Labels| {
        let confidence = vec![0.9; labels.size.area_px()];
        let nucleus = measure(&labels, &grey, &confidence, &StainMatrix::ruifrok_johnston()).remove(0);
        (labels, nucleus)
    };
    let shapes: Vec<(Labels, Nucleus)> = (0..SHAPES).map(|number| measured(shape(number))).collect();
    let begun = Instant::now();
    let sha256 = "0".repeat(64);
    let mut writer = GeoJsonWriter::create(Path::new(path), &sha256, MicronsPerPixel::new(0.25).ok())?;
    let indices: Vec<usize> = (0..count).collect();
    for block in indices.chunks(BLOCK) {
        writer.push(block, |index| {
            let (labels, nucleus) = &shapes[index % SHAPES];
            placed(labels, nucleus, *index)
        })?;
    }
    let path = writer.finish()?;
    let (seconds, megabytes) = (begun.elapsed().as_secs_f64(), std::fs::metadata(&path)?.len() as f64 / 1e6);
    println!("{count} nuclei in {seconds:.1} s, {megabytes:.0} MB");
    Ok(())
}

//! How the places of a slide are read: each by the window, of those around it, whose colours it fits among.
//!
//! Windows of 96 µm lie half over one another, so that a border between two stains, or two tissues, never has only windows of
//! both: most places have one that lies on their side of it, which is what Kuwahara's filter does for edges in pictures.
//!
//! [`grid`] says where windows and places lie, [`colours`] what fits where, [`file`] keeps what was read.

pub mod colours;
pub mod file;
pub mod grid;

use crate::context::Context;
use crate::nuclei::best::{BestCalibration, Values};
use crate::nuclei::reading::{Field, Reading};
use crate::nuclei::segmenter::{Calibration, Segmenter};
use crate::nuclei::stain::StainConfig;
use colours::{Colours, Density, SQUARE_CELLS, densities_of_squares};
use file::Places;
use grid::{Block, Grid, Squares};
use microtome_slide::{MicronsPerPixel, Picture, RectangleInLevel, Size, Slide, TissueMask};
use microtome_vault::{Fault, Result};
use rayon::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Share of tissue in a window, at least: with less, glass and edges would be read, and places without any other window are
/// read as the whole slide is.
const LEAST_TISSUE: f64 = 0.85;

/// Blocks that are read at a time, for each thread.
const BLOCKS_A_THREAD: usize = 16;

/// What a method reads off a slide: off `samples` as a whole, and where it reads places, off the windows of its grid too.
/// Readings are kept in the file `kept` for the run `key`.
///
/// # Errors
/// `Io`, `Limit`, `Cancelled`.
pub fn calibrate(
    slide: &Slide,
    level: usize,
    mpp: Option<MicronsPerPixel>,
    (segmenter, samples, tissue): (&Segmenter, &[Picture], &TissueMask),
    (kept, key): (&Path, &str),
    context: &Context<'_>,
) -> Result<Calibration> {
    let Some(config) = segmenter.reads_places().filter(|_| !samples.is_empty()) else {
        return Ok(segmenter.calibrate(samples));
    };
    let values = Values::of(samples, config);
    let (stain, whole) = (values.stain(), values.reading());
    drop(values);
    let grid = Grid::of(slide.levels[level].size, mpp);
    let places = match file::read(kept, key, grid.places) {
        Some(places) => places,
        None => {
            let windows = Windows { slide, level, mpp, tissue, config, whole: &whole, grid, context };
            let places = windows.places()?;
            file::write(kept, key, grid.places, &places)?;
            places
        }
    };
    let field = Field::of_squares(grid.places, grid.place_px(), places.readings, places.places);
    Ok(Calibration::Best(BestCalibration::of_field(stain, field, config)))
}

/// What it takes to read windows.
struct Windows<'a> {
    slide: &'a Slide,
    level: usize,
    mpp: Option<MicronsPerPixel>,
    tissue: &'a TissueMask,
    config: &'a StainConfig,
    /// How the whole slide is read.
    whole: &'a Reading,
    grid: Grid,
    context: &'a Context<'a>,
}

/// A window: how it is read, and who is read by it.
#[derive(Clone, Copy)]
struct Window {
    reading: Reading,
    colours: Colours,
}

/// What a block has: densities of all its squares, and its windows with enough tissue, row by row.
struct Seen {
    densities: Vec<Density>,
    windows: Vec<Option<Window>>,
}

impl Windows<'_> {
    /// The readings of all places.
    fn places(&self) -> Result<Places> {
        let grid = self.grid;
        let done = AtomicUsize::new(0);
        self.context.progress().begin("reading the stain", grid.blocks());
        let of_block = |number: usize| {
            self.context.check_cancelled()?;
            let seen = self.block(&grid.block(number))?;
            self.context.progress().advance(1 + done.fetch_add(1, Ordering::Relaxed), "");
            Ok(seen)
        };
        let mut densities = vec![[0.0; 3]; grid.squares.area_px()];
        let mut windows: Vec<Option<Window>> = vec![None; grid.windows.area_px()];
        let numbers: Vec<usize> = (0..grid.blocks()).collect();
        // A few at a time: what is kept of a block while it waits for the others is more than what is kept of it in the end.
        for some in numbers.chunks(BLOCKS_A_THREAD * rayon::current_num_threads()) {
            let seen: Result<Vec<Option<Seen>>> = some.par_iter().map(|number| of_block(*number)).collect();
            for (number, seen) in some.iter().zip(seen?) {
                let (block, Some(seen)) = (grid.block(*number), seen) else { continue };
                let whole = block.seen.size();
                for (row, y) in block.own.rows.clone().enumerate() {
                    let own = &seen.densities[row * whole.width_px..][..block.own.columns.len()];
                    densities[grid.squares.index(block.own.columns.start, y)..][..own.len()]
                        .copy_from_slice(own);
                }
                for (y, row) in block.windows.rows.zip(seen.windows.chunks(block.windows.columns.len())) {
                    let start = grid.windows.index(block.windows.columns.start, y);
                    windows[start..][..row.len()].copy_from_slice(row);
                }
            }
        }
        self.context.progress().end();
        Ok(self.chosen(&densities, &windows))
    }

    /// The windows of a block; none without tissue, or where pixels cannot be read.
    fn block(&self, block: &Block) -> Result<Option<Seen>> {
        let downsample = self.slide.levels[self.level].downsample;
        let rectangle = self.grid.rectangle(&block.seen);
        if self.tissue.shares(rectangle, downsample).tissue == 0.0 {
            return Ok(None);
        }
        let Some(picture) = self.cells_of(rectangle)? else { return Ok(None) };
        let densities = densities_of_squares(&picture.rgb, picture.size);
        let of_window = |column: usize, row: usize| {
            let window = self.grid.window(column, row);
            let is_tissue =
                self.tissue.shares(self.grid.rectangle(&window), downsample).tissue >= LEAST_TISSUE;
            is_tissue.then(|| self.window(&within(&window, &block.seen), &picture, &densities))
        };
        let places = block
            .windows
            .rows
            .clone()
            .flat_map(|row| block.windows.columns.clone().map(move |column| (column, row)));
        let windows = places.map(|(column, row)| of_window(column, row)).collect();
        Ok(Some(Seen { densities, windows }))
    }

    /// The window of the given squares of a block.
    fn window(&self, squares: &Squares, block: &Picture, densities: &[Density]) -> Window {
        let colours = Colours::of(of_squares(densities, block.size.width_px.div_ceil(SQUARE_CELLS), squares));
        let (left, width) = (3 * SQUARE_CELLS * squares.columns.start, SQUARE_CELLS * squares.columns.len());
        let rows = SQUARE_CELLS * squares.rows.start..SQUARE_CELLS * squares.rows.end;
        let rgb = rows.flat_map(|y| &block.rgb[3 * y * block.size.width_px + left..][..3 * width]).copied();
        let picture = Picture {
            rgb: rgb.collect(),
            size: Size::new(width, SQUARE_CELLS * squares.rows.len()),
            name: String::new(),
            path: block.path.clone(),
            sha256: String::new(),
            warnings: Vec::new(),
            mpp: block.mpp,
        };
        // What is a pixel to the config is less of a cell.
        let smoothing_px = self.config.smoothing_px / self.grid.cells.side_px() as f32;
        let config = StainConfig { smoothing_px, ..*self.config };
        let reading = Values::of(&[picture], &config).reading_within(self.whole);
        Window { reading, colours }
    }

    /// The cells of a rectangle; none if some of its pixels cannot be read.
    fn cells_of(&self, rectangle: RectangleInLevel) -> Result<Option<Picture>> {
        let cells = self.grid.cells;
        let picture = match self.slide.region_in_level(self.level, rectangle, self.context.budget) {
            Ok(region) if region.unreadable.is_none() => region.into_picture(&self.slide.path, self.mpp),
            Ok(_) => return Ok(None),
            Err(error) if error.fault() == Fault::Input => return Ok(None),
            Err(error) => return Err(error),
        };
        let (size, mpp) = (cells.count(picture.size), cells.mpp(self.mpp));
        Ok(Some(Picture { rgb: cells.means(picture.rgb, picture.size, 3), size, mpp, ..picture }))
    }

    /// For each place the window, of those around it, whose colours it fits among best.
    fn chosen(&self, densities: &[Density], windows: &[Option<Window>]) -> Places {
        let grid = self.grid;
        let best_at = |place: usize| -> Option<usize> {
            let (column, row) = (place % grid.places.width_px, place / grid.places.width_px);
            let (squares, around) = (grid.place(column, row), grid.windows_around(column, row));
            let candidates =
                around.rows.flat_map(|y| around.columns.clone().map(move |x| grid.windows.index(x, y)));
            let misfits = candidates.filter_map(|number| {
                let colours = &windows[number].as_ref()?.colours;
                Some((colours.misfit(of_squares(densities, grid.squares.width_px, &squares)), number))
            });
            misfits.min_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, number)| number)
        };
        let best: Vec<Option<usize>> = (0..grid.places.area_px()).into_par_iter().map(best_at).collect();
        let (mut readings, mut number_of) = (vec![*self.whole], vec![None; windows.len()]);
        let mut places = Vec::with_capacity(best.len());
        for best in best {
            let reading = best.and_then(|number| Some((number, windows[number].as_ref()?)));
            places.push(reading.map_or(0, |(number, window)| {
                *number_of[number].get_or_insert_with(|| {
                    readings.push(window.reading);
                    readings.len() as u32 - 1
                })
            }));
        }
        Places { readings, places }
    }
}

/// The squares, counted from the first of others.
fn within(squares: &Squares, others: &Squares) -> Squares {
    let along = |one: &std::ops::Range<usize>, other: &std::ops::Range<usize>| {
        one.start - other.start..one.end - other.start
    };
    Squares { columns: along(&squares.columns, &others.columns), rows: along(&squares.rows, &others.rows) }
}

/// The densities of some squares of an area that is `width` squares wide.
fn of_squares<'a>(
    densities: &'a [Density],
    width: usize,
    squares: &Squares,
) -> impl Iterator<Item = Density> + Clone + use<'a> {
    let columns = squares.columns.clone();
    squares.rows.clone().flat_map(move |y| densities[y * width..][columns.clone()].iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Silent;
    use crate::export::png::{Samples, write_png};
    use crate::nuclei::stain::StainVectors;
    use microtome_slide::PointInLevel;
    use microtome_vault::Budget;
    use std::sync::atomic::AtomicBool;

    /// Disks as blue as haematoxylin on pink; from column `border_px` on, everything absorbs twice as much.
    fn two_stains(size: Size, border_px: usize) -> Vec<u8> {
        let pixel = |at: usize| {
            let (x, y) = (at % size.width_px, at / size.width_px);
            let from_middle = |at: usize| (at % 40) as f64 - 20.0;
            let is_nucleus = from_middle(x).hypot(from_middle(y)) < 12.0;
            let grain = 0.02 * ((x * 31 + y * 17) % 7) as f64;
            let densities = if is_nucleus { [0.35, 0.40, 0.17] } else { [0.04, 0.20, 0.05] };
            let strength = if x < border_px { 1.0 } else { 2.0 };
            densities.map(|density| (255.0 * 10f64.powf(-strength * (density + grain))) as u8)
        };
        (0..size.area_px()).flat_map(pixel).collect()
    }

    #[test]
    fn places_on_both_sides_of_a_border_are_read_by_windows_of_their_side() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.png");
        let (size, border_px) = (Size::new(1840, 640), 905);
        write_png(&path, size, Samples::Rgb8(&two_stains(size, border_px))).unwrap();
        let (flag, mpp) = (AtomicBool::new(false), MicronsPerPixel::new(0.25).ok());
        let context = Context::new(0, Budget::of_bytes(1 << 30), &Silent, &flag);
        let slide = Slide::open(&path, context.budget).unwrap();
        let config = StainConfig { vectors: StainVectors::RuifrokJohnston, smoothing_px: 1.0 };
        let sample = slide.region_in_level(
            0,
            RectangleInLevel { corner: PointInLevel::new(0, 0), size },
            context.budget,
        );
        let samples = [sample.unwrap().into_picture(&path, mpp)];
        let windows = Windows {
            slide: &slide,
            level: 0,
            mpp,
            tissue: &TissueMask::everything(size),
            config: &config,
            whole: &Values::of(&samples, &config).reading(),
            grid: Grid::of(size, mpp),
            context: &context,
        };
        let found = windows.places().unwrap();
        let (across, place_px) = (windows.grid.places.width_px, windows.grid.place_px());
        let mut sides = [0, 0];
        for (at, number) in found.places.iter().enumerate() {
            let (left_px, threshold) =
                (at % across * place_px, found.readings[*number as usize].slopes[0].threshold);
            // Of the place that the border cuts, either is right for a part.
            if left_px + place_px <= border_px {
                assert!((0.22..0.25).contains(&threshold), "{left_px}: {threshold}");
                sides[0] += 1;
            } else if left_px >= border_px {
                assert!((0.44..0.50).contains(&threshold), "{left_px}: {threshold}");
                sides[1] += 1;
            }
        }
        assert!(sides[0] > 50 && sides[1] > 50, "{sides:?}");
    }
}

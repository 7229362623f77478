//! What is written of a slide: put together from the records of its tiles, one after the other, so that memory does not grow
//! with the number of nuclei.

use super::maps::{MapFormat, Maps};
use super::order::Finished;
use super::record;
use super::tile::{Outlined, TileFound};
use crate::context::Context;
use crate::export::csv::rows_of_picture;
use crate::export::geojson::GeoJsonWriter;
use crate::export::overlay::{draw_outlines, draw_tissue};
use crate::export::png::{Samples, write_png};
use crate::export::{density, file_in};
use crate::nuclei::inputs::Input;
use crate::nuclei::measure::Nucleus;
use crate::report::thumbnail;
use microtome_kernels::contours::{Polygon, Vertex, outline};
use microtome_kernels::region::PixelBox;
use microtome_kernels::{Labels, Size};
use microtome_slide::overview::Overview;
use microtome_slide::slide::unreadable_of_both;
use microtome_slide::{MicronsPerPixel, PointInLevel, RectangleInLevel, Slide, TilePlan, TissueMask};
use microtome_vault::disk::AtomicWriter;
use microtome_vault::{Error, Result};
use rayon::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longer side of the overlay, in pixels, about.
const OVERLAY_PX: usize = 3000;
/// Side of the squares of it whose confidence is kept, in pixels, at most: the sum of so many fits into two bytes.
const LARGEST_CELL_PX: usize = 16;
/// Areas that are kept for the report's histogram, at most.
const MOST_AREAS: usize = 100_000;
/// Nuclei that are written at a time.
const BLOCK: usize = 4096;
/// Rows that a task makes.
const ROWS_A_TASK: usize = 256;

/// What is known of a slide once its files are written.
pub struct SlideSummary {
    /// Number of nuclei.
    pub nuclei: usize,
    /// Areas of nuclei in pixels of level 0, an even sample of them.
    pub areas_px: Vec<usize>,
    /// Mean over the nuclei of their mean confidence.
    pub mean_confidence: Option<f64>,
    /// Tiles of the file that could not be read, and why the first could not.
    pub unreadable: Option<(usize, String)>,
    /// Pieces of things too wide to be nuclei.
    pub cut: usize,
    /// Fields of tissue whose focus was judged, and those that are out of it.
    pub fields: [usize; 2],
    /// The overlay: picture, confidence and picture with outlines.
    pub overlay: Overlay,
}

/// The slide in small, with what was found.
pub struct Overlay {
    /// Extent.
    pub size: Size,
    /// The slide.
    pub rgb: Vec<u8>,
    /// Side of the squares whose confidence is kept, in pixels: about half a pixel of the report's picture.
    cell_px: usize,
    /// Sums of confidence, 0 to 255 each, of these squares.
    confidence: Vec<u16>,
    /// Nuclei, as far as they are seen at this scale, each as a number that differs from its neighbours'. The map is kept through
    /// all tiles, so two bytes have to do: of nuclei that touch where two rows of tiles do, one pair in 65,535 has no line between.
    marks: Vec<u16>,
    downsample: f64,
}

/// Where the files of a slide go.
pub struct SlideFiles {
    /// Outlines and measurements.
    pub geojson: PathBuf,
    /// Rows of the table, without a header.
    pub rows: PathBuf,
    /// Picture with outlines.
    pub overlay: PathBuf,
    /// Nuclei per mm².
    pub density: PathBuf,
}

impl SlideFiles {
    /// The files of the slide `name` in the run's folder `out`, rows in the folder of its state; outlines compressed if
    /// `gzip`.
    ///
    /// # Errors
    /// `Usage` when the name cannot be that of a file.
    pub fn of(out: &Path, state: &Path, name: &str, gzip: bool) -> Result<Self> {
        Ok(Self {
            geojson: file_in(&out.join("geojson"), name, geojson_extension(gzip))?,
            rows: file_in(state, name, "csv")?,
            overlay: file_in(&out.join("overlays"), name, "png")?,
            density: file_in(&out.join("density"), name, "png")?,
        })
    }
}

/// What the name of a slide's file of outlines ends in.
pub fn geojson_extension(gzip: bool) -> &'static str {
    if gzip { "geojson.gz" } else { "geojson" }
}

/// A slide whose tiles are done, or are being done while the first are written.
pub struct DoneTiles<'a> {
    /// The slide.
    pub slide: &'a Slide,
    /// Its input.
    pub input: &'a Input,
    /// Its tiles.
    pub plan: &'a TilePlan,
    /// Its tissue.
    pub tissue: &'a TissueMask,
    /// The record of each tile.
    pub records: &'a [PathBuf],
    /// Which records are there.
    pub finished: &'a Finished,
    /// How many tiles have been written.
    pub written: &'a AtomicUsize,
    /// Identifies the run.
    pub key: &'a str,
}

impl DoneTiles<'_> {
    /// Writes the slide's files, tile after tile as they are finished.
    ///
    /// # Errors
    /// `Io` when the disk refuses, or a record was removed; `Cancelled`, also when a tile will not be finished.
    pub fn write(
        &self,
        out: &Path,
        files: &SlideFiles,
        maps: MapFormat,
        context: &Context<'_>,
    ) -> Result<SlideSummary> {
        let longest = self.slide.levels[0].size.width_px.max(self.slide.levels[0].size.height_px);
        let overview =
            Overview::of(self.slide, (longest as f64 / OVERLAY_PX as f64).max(1.0), context.budget)?;
        let mut totals = Totals::new(Overlay::of(overview));
        let mut density = density::Density::new(self.slide.levels[0].size, self.input.mpp);
        let mut geojson = GeoJsonWriter::create(&files.geojson, &self.input.sha256, self.input.mpp)?;
        let mut rows = AtomicWriter::create(&files.rows)?;
        let mpp = mpp_of_level(self.input.mpp, self.plan);
        let mut maps = Maps::create(out, &self.input.name, maps, self.plan.size, mpp)?;
        let mut next: Option<Result<TileFound>> = None;
        let mut before: Option<(TileFound, RectangleInLevel)> = None;
        for (index, tile) in self.plan.tiles.iter().enumerate() {
            context.check_cancelled()?;
            self.finished.wait_for(index)?;
            let now = next.take().unwrap_or_else(|| self.read(&self.records[index]));
            let waiting = before.take();
            // While this tile is written, the one before is drawn into the maps and the next record is read, if it is there:
            // nothing that others compute on may wait for a tile.
            let ((written, drawn), read) = rayon::join(
                || {
                    rayon::join(
                        || {
                            let mut found = now?;
                            let into = (&mut totals, &mut density, &mut geojson, &mut rows);
                            self.write_tile(&mut found, tile.core, into).map(|()| found)
                        },
                        || draw(maps.as_mut(), waiting),
                    )
                },
                || {
                    let next = self.records.get(index + 1).filter(|_| self.finished.holds(index + 1));
                    next.map(|path| self.read(path))
                },
            );
            drawn.map_err(|error| error.at(&files.rows))?;
            let found = written.map_err(|error| error.at(&files.rows))?;
            before = maps.is_some().then_some((found, tile.core));
            next = read;
            self.written.store(index + 1, Ordering::Relaxed);
        }
        draw(maps.as_mut(), before)?;
        // The disk takes its time over the large files, and pictures are drawn meanwhile.
        let large = || {
            maps.map_or(Ok(()), |maps| maps.finish(out, &self.input.name))?;
            geojson.finish()?;
            rows.commit()
        };
        let (written, drawn) = rayon::join(large, || self.write_pictures(files, &totals.overlay, density));
        written.and(drawn)?;
        Ok(totals.summary())
    }

    /// The overlay, and the density over it.
    fn write_pictures(&self, files: &SlideFiles, overlay: &Overlay, density: density::Density) -> Result<()> {
        density.write(&files.density, &overlay.rgb, overlay.size, self.tissue)?;
        let drawn = draw_outlines(&overlay.rgb, &overlay.labels(), 1)?;
        let drawn = draw_tissue(drawn, overlay.size, |x, y| {
            let at = |cell: usize| (cell as f64 + 0.5) * overlay.downsample;
            self.tissue.holds(at(x), at(y))
        });
        write_png(&files.overlay, overlay.size, Samples::Rgb8(&drawn))
    }

    fn read(&self, path: &Path) -> Result<TileFound> {
        record::read(path, self.key).ok_or_else(|| {
            Error::new(microtome_vault::Fault::Io, "the record of a tile was removed or changed")
                .at(path)
                .advise("the same command does that tile again")
        })
    }

    fn write_tile(
        &self,
        found: &mut TileFound,
        core: RectangleInLevel,
        (totals, density, geojson, rows): (
            &mut Totals,
            &mut density::Density,
            &mut GeoJsonWriter<'_>,
            &mut AtomicWriter<'_>,
        ),
    ) -> Result<()> {
        // Numbers run over the slide.
        for one in &mut found.nuclei {
            totals.nuclei += 1;
            one.nucleus.id = u32::try_from(totals.nuclei)
                .map_err(|_| Error::limit("a slide of more than four thousand million nuclei"))?;
        }
        totals.overlay.draw(found, core, self.plan.downsample);
        for block in found.nuclei.chunks(BLOCK) {
            geojson.push(block, |one: &Outlined| in_level0(one, self.plan.downsample))?;
            let nuclei: Vec<Nucleus> =
                block.iter().map(|one| scaled_nucleus(&one.nucleus, self.plan.downsample)).collect();
            let text = |some: &[Nucleus]| rows_of_picture(&self.input.name, self.input.mpp, some);
            for text in nuclei.par_chunks(ROWS_A_TASK).map(text).collect::<Result<Vec<String>>>()? {
                rows.write_all(text.as_bytes()).map_err(|error| Error::io("writing", &error))?;
            }
            nuclei.iter().for_each(|nucleus| density.add(nucleus));
            totals.add(&nuclei);
        }
        totals.note(found);
        Ok(())
    }
}

/// Draws a tile into the maps, if there are any.
fn draw(maps: Option<&mut Maps>, tile: Option<(TileFound, RectangleInLevel)>) -> Result<()> {
    match (maps, tile) {
        (Some(maps), Some((found, core))) => maps.add(found, core),
        _ => Ok(()),
    }
}

/// What is added up over the tiles.
struct Totals {
    nuclei: usize,
    areas_px: Vec<usize>,
    /// Of how many nuclei the area of one is kept.
    every: usize,
    counted: usize,
    confidence: f64,
    unreadable: Option<(usize, String)>,
    cut: usize,
    fields: [usize; 2],
    overlay: Overlay,
}

impl Totals {
    fn new(overlay: Overlay) -> Self {
        Self {
            nuclei: 0,
            areas_px: Vec::new(),
            every: 1,
            counted: 0,
            confidence: 0.0,
            unreadable: None,
            cut: 0,
            fields: [0; 2],
            overlay,
        }
    }

    fn add(&mut self, nuclei: &[Nucleus]) {
        for nucleus in nuclei {
            self.confidence += nucleus.mean_confidence;
            if self.counted.is_multiple_of(self.every) {
                self.areas_px.push(nucleus.region.area_px);
            }
            self.counted += 1;
            if self.areas_px.len() > MOST_AREAS {
                // Every other one of an even sample is an even sample.
                self.areas_px = self.areas_px.iter().copied().step_by(2).collect();
                self.every *= 2;
            }
        }
    }

    fn note(&mut self, found: &mut TileFound) {
        self.cut += found.cut;
        (0..2).for_each(|i| self.fields[i] += found.fields[i]);
        self.unreadable = unreadable_of_both(self.unreadable.take(), found.unreadable.take());
    }

    fn summary(self) -> SlideSummary {
        SlideSummary {
            nuclei: self.nuclei,
            areas_px: self.areas_px,
            mean_confidence: (self.nuclei > 0).then(|| self.confidence / self.nuclei as f64),
            unreadable: self.unreadable,
            cut: self.cut,
            fields: self.fields,
            overlay: self.overlay,
        }
    }
}

impl Overlay {
    fn of(overview: Overview) -> Self {
        let Overview { size, rgb, downsample, .. } = overview;
        let cell_px = (size.width_px / (2 * thumbnail::WIDTH_PX)).clamp(1, LARGEST_CELL_PX);
        let mut overlay =
            Self { size, rgb, cell_px, confidence: Vec::new(), marks: vec![0; size.area_px()], downsample };
        overlay.confidence = vec![0; overlay.cells().area_px()];
        overlay
    }

    /// How many squares there are, across and down.
    fn cells(&self) -> Size {
        Size::new(self.size.width_px.div_ceil(self.cell_px), self.size.height_px.div_ceil(self.cell_px))
    }

    /// The mean confidence of each square, 0 to 255, and how many squares there are.
    pub fn confidence(&self) -> (Vec<u8>, Size) {
        let cells = self.cells();
        let length = |cell: usize, of: usize| self.cell_px.min(of - cell * self.cell_px);
        let mean = |(at, sum): (usize, &u16)| {
            let [x, y] = [at % cells.width_px, at / cells.width_px];
            let area_px = length(x, self.size.width_px) * length(y, self.size.height_px);
            ((usize::from(*sum) + area_px / 2) / area_px) as u8
        };
        (self.confidence.iter().enumerate().map(mean).collect(), cells)
    }

    /// The nuclei that are seen, not numbered as elsewhere.
    pub fn labels(&self) -> Labels {
        Labels { size: self.size, ids: self.marks.iter().map(|mark| u32::from(*mark)).collect() }
    }

    /// Draws what was found in a tile of a level.
    fn draw(&mut self, found: &TileFound, core: RectangleInLevel, downsample: f64) {
        let scale = downsample / self.downsample;
        let first = |start: i64| (start as f64 * scale).ceil() as usize;
        let columns = first(core.corner.x_px)
            ..first(core.corner.x_px + core.size.width_px as i64).min(self.size.width_px);
        let rows = first(core.corner.y_px)
            ..first(core.corner.y_px + core.size.height_px as i64).min(self.size.height_px);
        for y in rows {
            for x in columns.clone() {
                let at = |cell: usize, start: i64, length: usize| {
                    ((cell as f64 / scale) as usize).saturating_sub(start as usize).min(length - 1)
                };
                let from = core.size.index(
                    at(x, core.corner.x_px, core.size.width_px),
                    at(y, core.corner.y_px, core.size.height_px),
                );
                let cell = self.cells().index(x / self.cell_px, y / self.cell_px);
                self.confidence[cell] += found.confidence.get(from).copied().map_or(0, u16::from);
            }
        }
        found.nuclei.iter().for_each(|one| self.draw_nucleus(one, scale));
    }

    fn draw_nucleus(&mut self, one: &Outlined, scale: f64) {
        let bounds = one.nucleus.region.bounds;
        let width_px = bounds.max_x_px - bounds.min_x_px;
        let mark = (one.nucleus.id % u32::from(u16::MAX)) as u16 + 1;
        let cell = |position: usize| ((position as f64 + 0.5) * scale) as usize;
        let columns: Vec<usize> = (bounds.min_x_px..bounds.max_x_px).map(cell).collect();
        for (y, row) in (bounds.min_y_px..).zip(one.mask.chunks_exact(width_px.max(1))) {
            let y = cell(y);
            if y >= self.size.height_px {
                break;
            }
            let marks = &mut self.marks[self.size.index(0, y)..][..self.size.width_px];
            for (x, _) in columns.iter().zip(row).filter(|(_, is)| **is) {
                if let Some(at) = marks.get_mut(*x) {
                    *at = mark;
                }
            }
        }
    }
}

/// A nucleus and its outline in pixels of level 0, of which those of its level are `downsample` wide.
fn in_level0(one: &Outlined, downsample: f64) -> (Nucleus, Vec<Polygon>) {
    let bounds = one.nucleus.region.bounds;
    let corner = PointInLevel::new(bounds.min_x_px as i64, bounds.min_y_px as i64);
    let size = Size::new(bounds.max_x_px - bounds.min_x_px, bounds.max_y_px - bounds.min_y_px);
    let labels = Labels { size, ids: one.mask.iter().map(|is| u32::from(*is)).collect() };
    let mut region = one.nucleus.region.clone();
    region.id = 1;
    region.bounds = PixelBox { min_x_px: 0, min_y_px: 0, max_x_px: size.width_px, max_y_px: size.height_px };
    let scaled = |vertex: i32, start: i64| ((i64::from(vertex) + start) as f64 * downsample).round() as i32;
    let moved = |ring: Vec<Vertex>| -> Vec<Vertex> {
        let move_one = |v: Vertex| Vertex { x: scaled(v.x, corner.x_px), y: scaled(v.y, corner.y_px) };
        ring.into_iter().map(move_one).collect()
    };
    let polygons = outline(&labels, &region).into_iter();
    let polygons = polygons.map(|Polygon { outer, holes }| Polygon {
        outer: moved(outer),
        holes: holes.into_iter().map(moved).collect(),
    });
    (scaled_nucleus(&one.nucleus, downsample), polygons.collect())
}

/// Measurements in pixels of level 0.
fn scaled_nucleus(nucleus: &Nucleus, downsample: f64) -> Nucleus {
    let mut scaled = nucleus.clone();
    if downsample == 1.0 {
        return scaled;
    }
    let region = &mut scaled.region;
    let corner = |at: usize| (at as f64 * downsample).round() as usize;
    region.area_px = (region.area_px as f64 * downsample * downsample).round() as usize;
    // Regions count from the centre of the first pixel.
    region.centroid_x_px = (region.centroid_x_px + 0.5) * downsample - 0.5;
    region.centroid_y_px = (region.centroid_y_px + 0.5) * downsample - 0.5;
    region.perimeter_px *= downsample;
    region.major_axis_px *= downsample;
    region.minor_axis_px *= downsample;
    region.bounds = PixelBox {
        min_x_px: corner(region.bounds.min_x_px),
        min_y_px: corner(region.bounds.min_y_px),
        max_x_px: corner(region.bounds.max_x_px),
        max_y_px: corner(region.bounds.max_y_px),
    };
    scaled
}

/// The resolution of a level.
pub fn mpp_of_level(mpp: Option<MicronsPerPixel>, plan: &TilePlan) -> Option<MicronsPerPixel> {
    mpp.map(|mpp| mpp.of_level(plan.downsample))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_holds_the_mean_confidence_of_its_squares() {
        let size = Size::new(10, 7);
        let rgb = vec![255; 3 * size.area_px()];
        let mut overlay = Overlay::of(Overview { size, rgb, downsample: 2.0, unreadable: None });
        assert_eq!(overlay.cell_px, 1, "a small one is kept whole");
        overlay.cell_px = 4;
        overlay.confidence = vec![0; overlay.cells().area_px()];
        // Two tiles of the level that covers 20 x 14 px; its pixels of even place are those that are looked at.
        let value = |x: usize, y: usize| (x * 11 + y * 7) as u8;
        for (left, width) in [(0, 12), (12, 8)] {
            let core = RectangleInLevel { corner: PointInLevel::new(left, 0), size: Size::new(width, 14) };
            let at = |at: usize| value(left as usize + at % width, at / width);
            let confidence = (0..core.size.area_px()).map(at).collect();
            let found =
                TileFound { nuclei: Vec::new(), confidence, unreadable: None, cut: 0, fields: [0; 2] };
            overlay.draw(&found, core, 1.0);
        }
        let (means, cells) = overlay.confidence();
        assert_eq!(cells, Size::new(3, 2));
        let mean = |cell: usize| {
            let [left, top] = [cell % 3 * 4, cell / 3 * 4];
            let (columns, rows) = (left..10.min(left + 4), top..7.min(top + 4));
            let of_square = || rows.clone().flat_map(|y| columns.clone().map(move |x| value(2 * x, 2 * y)));
            let (sum, count) = (of_square().map(usize::from).sum::<usize>(), of_square().count());
            (sum as f64 / count as f64).round() as u8
        };
        assert_eq!(means, (0..6).map(mean).collect::<Vec<u8>>());
    }
}

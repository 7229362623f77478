//! All tiles of a slide, several at a time.

use super::bands::{self, Bands};
use super::export::{DoneTiles, SlideFiles, SlideSummary, geojson_extension, mpp_of_level};
use super::input::SlideWork;
use super::maps::MapFormat;
use super::order::{Finished, Front};
use super::tile::TileWork;
use super::windows::{tissue_of, windows};
use super::{field, record};
use crate::context::Context;
use crate::export::zarr::CHUNK_PX;
use crate::nuclei::folder::{PictureDone, RunFolder};
use crate::nuclei::inputs::Input;
use crate::nuclei::segmenter::Segmenter;
use crate::report::thumbnail;
use crate::slides::fingerprint::fingerprint;
use crate::system;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use microtome_slide::{Slide, TilePlan, TissueMask};
use microtome_vault::{Error, Fault, Result, disk};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Side of the cores of tiles, in pixels of the level, where nothing else is asked for. The larger, the less is looked at
/// twice; a tile of this takes about 400 MB.
pub const TILE_PX: usize = 3072;
/// Bytes that a pixel of a window takes while it is worked on, about.
const WINDOW_BYTES: u64 = 34;
/// How far around tissue nuclei are believed, in pixels of its mask.
const TISSUE_BORDER_PX: usize = 3;
/// Windows that a method is calibrated on.
const CALIBRATION_WINDOWS: usize = 16;

/// How often it is looked how far writing is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(20);

/// What a person asks for of slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlideRequest {
    /// As what label and confidence maps are written.
    pub maps: MapFormat,
    /// Side of the tiles, in pixels: whole chunks of the maps.
    pub tile_px: usize,
    /// Whether outlines are compressed.
    pub gzip: bool,
}

impl SlideRequest {
    /// Maps of a format, tiles of a side, and outlines compressed or not.
    ///
    /// # Errors
    /// `Usage` when tiles are no whole chunks, or too large.
    pub fn new(maps: MapFormat, tile_px: usize, gzip: bool) -> Result<Self> {
        match tile_px.is_multiple_of(CHUNK_PX) && (1..=8).contains(&(tile_px / CHUNK_PX)) {
            true => Ok(Self { maps, tile_px, gzip }),
            false => Err(Error::usage(format!("tiles of {tile_px} px cannot be worked on")).advise(
                "take 1024, 2048, 3072 (as without --tile-px) or up to 8192: the smaller, the less memory",
            )),
        }
    }
}

impl Default for SlideRequest {
    fn default() -> Self {
        Self { maps: MapFormat::Zarr, tile_px: TILE_PX, gzip: false }
    }
}

/// Segments a slide: tiles that are not done yet, then the files of all.
///
/// # Errors
/// Those of opening and reading it, `Limit`, `Io`, `Cancelled`.
pub fn segment_slide(
    folder: &RunFolder,
    input: &Input,
    work: SlideWork,
    segmenter: &Segmenter,
    asked: SlideRequest,
    context: &Context<'_>,
) -> Result<PictureDone> {
    if let Some(done) = folder.done(&input.name, &input.sha256) {
        return Ok(done);
    }
    if fingerprint(&input.path)? != input.sha256 {
        return Err(Error::input("the slide changed while the run was going on").at(&input.path));
    }
    let slide = Slide::open(&input.path, context.budget)?;
    let tissue = tissue_of(&slide, input, context)?;
    // A person's border is meant as it is drawn.
    let believed = tissue.widened(if input.tissue.is_some() { 0 } else { TISSUE_BORDER_PX });
    let plan = TilePlan::of(&slide, work.level, asked.tile_px, &believed);
    let state = folder.slide_state(&input.name);
    disk::create_folder_all(&state)?;
    disk::remove_leftovers(&state)?;
    let records: Vec<PathBuf> =
        (0..plan.tiles.len()).map(|index| state.join(format!("tile-{index:06}"))).collect();
    let bands: Vec<PathBuf> =
        (0..plan.tiles.len()).map(|index| state.join(format!("bands-{index:06}"))).collect();
    let is_done = |index: &usize| {
        bands::is_kept(&bands[*index]) && record::read(&records[*index], folder.key()).is_some()
    };
    let todo: Vec<usize> = (0..records.len()).filter(|index| !is_done(index)).collect();
    let files = SlideFiles::of(folder.path(), &folder.slides_state(), &input.name, asked.gzip)?;
    let (finished, written) = (Finished::but(records.len(), &todo), AtomicUsize::new(0));
    let done = DoneTiles {
        slide: &slide,
        input,
        plan: &plan,
        tissue: &tissue,
        records: &records,
        finished: &finished,
        written: &written,
        key: folder.key(),
    };
    let work = || {
        if todo.is_empty() {
            return Ok(());
        }
        let mpp = mpp_of_level(input.mpp, &plan);
        let samples = windows(&slide, work.level, input.mpp, &tissue, (CALIBRATION_WINDOWS, 0), context)?;
        let calibration = field::calibrate(
            &slide,
            work.level,
            mpp,
            (segmenter, &samples, &tissue),
            (&state.join("field.json"), folder.key()),
            context,
        )?;
        drop(samples);
        let tile = TileWork {
            slide: &slide,
            level: work.level,
            mpp,
            segmenter,
            calibration: &calibration,
            tissue: &believed,
            bands: &Bands::between(&plan, bands, folder.key(), system::threads()),
            budget: context.budget,
        };
        do_tiles(&tile, &plan, &records, &todo, &finished, (folder.key(), &input.name), context)
    };
    let summary = std::thread::scope(|scope| {
        // Files are written while tiles are done: the disk's time costs nothing then.
        let writer = scope.spawn(|| done.write(folder.path(), &files, asked.maps, context));
        let end = finished.until_dropped();
        work()?;
        drop(end);
        context.progress().begin(&format!("writing {}", input.name), records.len());
        while !writer.is_finished() {
            context.progress().advance(written.load(Ordering::Relaxed), "");
            std::thread::sleep(PROGRESS_INTERVAL);
        }
        context.progress().end();
        writer.join().unwrap_or_else(|_| Err(Error::bug("the thread that writes a slide's files panicked")))
    })?;
    let done = picture_done(input, &slide, &tissue, &plan, asked, summary)?;
    folder.note_done(&input.name, &done)?;
    disk::remove_folder_all(&state)?;
    Ok(done)
}

/// Does the tiles `todo` and writes their records.
fn do_tiles(
    tile: &TileWork<'_>,
    plan: &TilePlan,
    records: &[PathBuf],
    todo: &[usize],
    finished: &Finished,
    (key, name): (&str, &str),
    context: &Context<'_>,
) -> Result<()> {
    let done = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let pixels = AtomicUsize::new(0);
    let started = Instant::now();
    let threads = system::threads();
    let front = Front::of(plan, todo);
    let crews = Crews::of(threads, fit_in_memory(tile.window_px(plan.core_px), context), front.width());
    let front = front.for_workers(crews.count);
    let pools: Result<Vec<ThreadPool>> = (0..crews.count.min(todo.len())).map(|_| crews.pool()).collect();
    let pools = pools?;
    context.progress().begin(&format!("segmenting {name}"), todo.len());
    let one_after_the_other = || {
        while let Some(dealt) = front.next() {
            if context.is_cancelled() {
                return front.stop();
            }
            let index = dealt.index;
            let core = plan.tiles[index].core;
            match tile.find(core, dealt).and_then(|found| record::write(&records[index], key, &found)) {
                Ok(()) => {
                    finished.note(index);
                    let area = core.size.area_px();
                    let pixels = area + pixels.fetch_add(area, Ordering::Relaxed);
                    let speed = pixels as f64 / 1e6 / started.elapsed().as_secs_f64();
                    let done = 1 + done.fetch_add(1, Ordering::Relaxed);
                    context.progress().advance(done, &format!("{speed:.1} megapixels a second"));
                }
                Err(error) => {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return front.stop();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| pool.install(one_after_the_other));
        }
    });
    context.progress().end();
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => context.check_cancelled(),
    }
}

/// Who works on tiles. A tile is best done by one thread: none waits for another then, which took a tenth of the time of two.
/// Where fewer tiles can be worked on than there are threads, several do one together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Crews {
    count: usize,
    threads_each: usize,
}

impl Crews {
    /// Those of so many threads, where so many tiles fit in memory, and so many can be begun at a time.
    fn of(threads: usize, fit: usize, at_a_time: usize) -> Self {
        // One more than can be begun: a tile's nuclei are cut out while the next one's confidence is computed.
        let count = threads.min(fit).min(at_a_time + 1).max(1);
        Self { count, threads_each: threads.div_ceil(count.min(at_a_time).max(1)) }
    }

    fn pool(self) -> Result<ThreadPool> {
        let pool = ThreadPoolBuilder::new().num_threads(self.threads_each).build();
        pool.map_err(|error| Error::new(Fault::Limit, format!("threads cannot be made ({error})")))
    }
}

/// How many tiles can be worked on at a time, as far as memory goes.
fn fit_in_memory(window_px: usize, context: &Context<'_>) -> usize {
    let window_px = window_px as u64;
    (context.budget.bytes() / (window_px * window_px * WINDOW_BYTES)).max(1) as usize
}

fn picture_done(
    input: &Input,
    slide: &Slide,
    tissue: &TissueMask,
    plan: &TilePlan,
    SlideRequest { maps, gzip, .. }: SlideRequest,
    summary: SlideSummary,
) -> Result<PictureDone> {
    let name = &input.name;
    let overlay = &summary.overlay;
    let encode = |png: Vec<u8>| BASE64.encode(png);
    let width_px = thumbnail::WIDTH_PX;
    let (confidence, cells) = overlay.confidence();
    let thumbnails = [
        encode(thumbnail::thumbnail_png(&overlay.rgb, overlay.size, width_px)?),
        encode(thumbnail::grey_thumbnail_png(&confidence, cells, width_px)?),
        encode(thumbnail::overlay_thumbnail_png(&overlay.rgb, &overlay.labels(), width_px)?),
    ];
    let mut files = vec![
        format!("geojson/{name}.{}", geojson_extension(gzip)),
        format!("overlays/{name}.png"),
        format!("density/{name}.png"),
    ];
    let extension = maps.extension().into_iter();
    files.extend(extension.flat_map(|end| ["labels", "confidence"].map(|map| format!("{map}/{name}.{end}"))));
    let tissue_px = tissue.area_px() as f64 * tissue.downsample * tissue.downsample;
    Ok(PictureDone {
        sha256: input.sha256.clone(),
        rows: String::new(),
        rows_file: Some(format!("{name}.csv")),
        nuclei: summary.nuclei,
        examined_px: tissue_px.min(slide.levels[0].size.area_px() as f64),
        areas_px: summary.areas_px.clone(),
        mean_confidence: summary.mean_confidence,
        labels: None,
        files,
        warnings: warnings(tissue, plan, &summary),
        thumbnails: Some(thumbnails),
    })
}

/// What is odd about a slide, and why nothing was found where nothing was.
fn warnings(tissue: &TissueMask, plan: &TilePlan, summary: &SlideSummary) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some((count, reason)) = &summary.unreadable {
        warnings
            .push(format!("{count} reads of tiles failed; there the slide was taken for white ({reason})"));
    }
    if summary.cut > 0 {
        warnings.push(format!(
            "{} pieces of things wider than {} µm, which no nucleus is: look at folds, ink and clumps",
            summary.cut,
            super::tile::LARGEST_UM
        ));
    }
    let spoilt: f64 = plan.tiles.iter().map(|tile| tile.shares.pen + tile.shares.fold).sum();
    let share = spoilt / plan.tiles.len().max(1) as f64;
    if share > 0.02 {
        warnings.push(format!("{:.0} % of the tiles with tissue are pen or folded", 100.0 * share));
    }
    let [judged, out_of_focus] = summary.fields;
    if out_of_focus * 50 > judged {
        warnings.push(format!(
            "{out_of_focus} of {judged} fields of tissue look out of focus, where nuclei are found badly: scan it again?"
        ));
    }
    if summary.nuclei == 0 {
        warnings.push(match tissue.area_px() {
            0 => "no nucleus was found because no tissue was: nothing in the slide is stained as haematoxylin and eosin are"
                .to_owned(),
            _ => "no nucleus was found in the tissue: is it stained with haematoxylin, and is the resolution right?"
                .to_owned(),
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_work_also_where_few_tiles_fit_or_can_be_begun() {
        let crews = |threads, fit, at_a_time| {
            let Crews { count, threads_each } = Crews::of(threads, fit, at_a_time);
            (count, threads_each)
        };
        assert_eq!(crews(2, 9, 4), (2, 1));
        assert_eq!(crews(1, 9, 4), (1, 1));
        assert_eq!(crews(2, 9, 1), (2, 2), "a single row: one at a time begins");
        assert_eq!(crews(2, 1, 4), (1, 2));
        assert_eq!(crews(16, 9, 12), (9, 2));
        assert_eq!(crews(16, 99, 3), (4, 6));
        assert_eq!(crews(4, 9, 0), (1, 4), "nothing to do");
    }
}

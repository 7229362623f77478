//! How many tiles of a slide are read in a second: `tiles_speed SLIDE THREADS TILES`, as `bench/tiles.py` does with
//! OpenSlide.

use microtome_slide::{PointInLevel, RectangleInLevel, Size, Slide};
use microtome_vault::{Budget, Error, Result};
use std::time::Instant;

const TILE_PX: usize = 256;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, threads, count] = &arguments[..] else {
        return Err(Error::usage("tiles_speed SLIDE THREADS TILES"));
    };
    let number =
        |text: &String| text.parse::<usize>().map_err(|_| Error::usage("THREADS and TILES are numbers"));
    let (threads, count) = (number(threads)?.max(1), number(count)?);
    // Regions of one tile are decoded where they are asked for.
    let slide = Slide::open(path, Budget::DEFAULT)?;
    let size = slide.levels[0].size;
    let (across, down) = (size.width_px / TILE_PX, size.height_px / TILE_PX);
    let count = count.min(across * down);
    let read = |first: usize| -> Result<()> {
        for index in (first..count).step_by(threads) {
            let place = index * 7919 % (across * down);
            let corner =
                PointInLevel::new((place % across * TILE_PX) as i64, (place / across * TILE_PX) as i64);
            let tile = RectangleInLevel { corner, size: Size::new(TILE_PX, TILE_PX) };
            slide.region_in_level(0, tile, Budget::DEFAULT)?;
        }
        Ok(())
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let read = &read;
                scope.spawn(move || read(first))
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(Error::bug("a thread died"))))
    })?;
    println!(
        "Microtome, {threads} threads: {:.0} tiles a second",
        count as f64 / started.elapsed().as_secs_f64()
    );
    Ok(())
}

//! Clusters as pictures, for whom they are to be named by: a sheet of tiles for each, a page with all, and a table to fill in.

use super::clusters::Clusters;
use super::names::Shown;
use super::pictures;
use crate::context::Context;
use crate::export::png::{Samples, png_bytes};
use crate::project::Project;
use crate::project::database::Naming;
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use microtome_kernels::Size;
use microtome_vault::disk::AtomicFolder;
use microtome_vault::{Budget, Error, Result, disk};
use std::path::PathBuf;

/// Tiles in a row of a sheet.
const ACROSS: usize = 5;
/// White between tiles, in pixels.
const GAP_PX: usize = 6;
/// The line around what a name is about.
const LINE: [u8; 3] = [0, 0, 0];
/// Folders of the same clusters that are kept beside each other.
const MOST_ASIDE: usize = 1000;
/// Digits of the clusters' key that name an old folder.
const KEY_DIGITS: usize = 8;

#[derive(Template)]
#[template(path = "clusters.html")]
struct Page {
    clusters: Vec<Row>,
    named_px: usize,
    side_px: usize,
    shown: String,
}

struct Row {
    number: usize,
    picture: String,
    tiles: usize,
    slides: usize,
    compactness: String,
    stability: String,
    is_unstable: bool,
    name: String,
}

/// Writes the sheets of the project's clusters into `out/clusters`; those of other clusters that are there are kept beside it.
///
/// # Errors
/// Those of reading; `Io`; `Cancelled`.
pub fn write(project: &Project, clusters: &Clusters, shown: Shown, context: &Context<'_>) -> Result<PathBuf> {
    let parent = project.root.join("out");
    disk::create_folder_all(&parent)?;
    let path = parent.join("clusters");
    put_aside(&path, clusters)?;
    let pictures = tiles_of(project, clusters, shown, context)?;
    let namings = project.database.namings(&clusters.key)?;
    let folder = AtomicFolder::create(&path)?;
    let side_px = project.settings.tiles.side_px;
    let named_px = match project.settings.tiles.imported {
        Some(_) => side_px,
        None => project.settings.tiles.named_px,
    };
    let mut rows = Vec::new();
    let mut table = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Error::bug(format!("the table cannot be written ({error})"));
    let header = ["cluster", "class", "share", "tiles", "slides", "compactness", "stability"];
    table.write_record(header).map_err(failed)?;
    for (cluster, tiles) in pictures.iter().enumerate().filter(|(_, tiles)| !tiles.is_empty()) {
        let (size, rgb) = sheet(tiles, side_px, named_px);
        let png = png_bytes(size, Samples::Rgb8(&rgb))?;
        folder.write(&format!("cluster_{cluster:02}.png"), &png)?;
        let quality = &clusters.quality[cluster];
        let (class, share) = said(namings.iter().find(|naming| naming.cluster == cluster));
        let compactness = format!("{:.2}", quality.compactness);
        let stability = quality.stability.map_or(String::new(), |stability| format!("{stability:.2}"));
        table
            .write_record([
                cluster.to_string(),
                class.clone(),
                share,
                quality.tiles.to_string(),
                quality.slides.to_string(),
                compactness.clone(),
                stability.clone(),
            ])
            .map_err(failed)?;
        rows.push(Row {
            number: cluster,
            picture: format!("data:image/png;base64,{}", STANDARD.encode(png)),
            tiles: quality.tiles,
            slides: quality.slides,
            compactness,
            stability,
            is_unstable: quality.stability.is_some_and(|stability| stability < 0.5),
            name: class,
        });
    }
    folder.write("names.csv", &table.into_inner().map_err(|error| Error::bug(error.to_string()))?)?;
    let shown = match shown {
        Shown::Top(count) => format!("the {count} tiles nearest to its middle"),
        Shown::Sample(count) => {
            format!("{count} of its tiles, from the nearest to its middle to the farthest")
        }
    };
    let page = Page { clusters: rows, named_px, side_px, shown };
    let page =
        page.render().map_err(|error| Error::bug(format!("the page could not be rendered ({error})")))?;
    folder.write("index.html", page.as_bytes())?;
    folder.write("clusters.txt", clusters.key.as_bytes())?;
    folder.commit()?;
    Ok(path)
}

/// Sheets of other clusters, in which a person may have written names, get another name.
fn put_aside(path: &std::path::Path, clusters: &Clusters) -> Result<()> {
    let key = path.join("clusters.txt");
    if !key.is_file() {
        return Ok(());
    }
    let own = disk::read_file_bounded(&key, Budget::of_bytes(1 << 10))?;
    let own = String::from_utf8_lossy(&own).into_owned();
    if own == clusters.key {
        return Ok(());
    }
    let digits: String = own.chars().filter(char::is_ascii_hexdigit).take(KEY_DIGITS).collect();
    // One that is there may hold names that a person wrote.
    let names = std::iter::once(String::new()).chain((2..).map(|number| format!("-{number}")));
    let aside = names.map(|number| path.with_file_name(format!("clusters-{digits}{number}")));
    let free = aside.take(MOST_ASIDE).find(|aside| !aside.exists());
    let free =
        free.ok_or_else(|| Error::usage("too many old pictures of clusters lie beside each other").at(path))?;
    disk::rename(path, &free)
}

fn said(naming: Option<&Naming>) -> (String, String) {
    match naming {
        None => (String::new(), String::new()),
        Some(Naming { class: None, .. }) => ("-".to_owned(), String::new()),
        Some(Naming { class: Some(class), share, .. }) => (class.clone(), format!("{share:.2}")),
    }
}

/// The shown tiles of each cluster.
fn tiles_of(
    project: &Project,
    clusters: &Clusters,
    shown: Shown,
    context: &Context<'_>,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let chosen: Vec<Vec<usize>> =
        (0..clusters.count()).map(|cluster| shown.of(&clusters.tiles_by_nearness(cluster))).collect();
    let mut pictures: Vec<Vec<Vec<u8>>> = chosen.iter().map(|tiles| vec![Vec::new(); tiles.len()]).collect();
    let places = |(cluster, tiles): (usize, Vec<usize>)| {
        tiles.into_iter().enumerate().map(move |(place, tile)| (tile, (cluster, place)))
    };
    let wanted = chosen.into_iter().enumerate().flat_map(places);
    let side_px = project.settings.tiles.side_px;
    for ((cluster, place), rgb) in pictures::read(project, clusters, wanted, side_px, context)? {
        pictures[cluster][place] = rgb;
    }
    Ok(pictures)
}

/// Tiles side by side, with a line around what a name is about.
fn sheet(tiles: &[Vec<u8>], side_px: usize, named_px: usize) -> (Size, Vec<u8>) {
    let across = ACROSS.min(tiles.len().max(1));
    let down = tiles.len().div_ceil(across).max(1);
    let size = Size::new(across * (side_px + GAP_PX) + GAP_PX, down * (side_px + GAP_PX) + GAP_PX);
    let mut rgb = vec![255; 3 * size.area_px()];
    for (index, tile) in tiles.iter().enumerate().filter(|(_, tile)| tile.len() == 3 * side_px * side_px) {
        let left = GAP_PX + index % across * (side_px + GAP_PX);
        let top = GAP_PX + index / across * (side_px + GAP_PX);
        for (y, row) in tile.chunks_exact(3 * side_px).enumerate() {
            rgb[3 * size.index(left, top + y)..][..3 * side_px].copy_from_slice(row);
        }
        if named_px >= side_px {
            continue;
        }
        let inner = (side_px - named_px) / 2;
        for along in 0..named_px {
            for (x, y) in [
                (inner + along, inner),
                (inner + along, inner + named_px - 1),
                (inner, inner + along),
                (inner + named_px - 1, inner + along),
            ] {
                rgb[3 * size.index(left + x, top + y)..][..3].copy_from_slice(&LINE);
            }
        }
    }
    (size, rgb)
}

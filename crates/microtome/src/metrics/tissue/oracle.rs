//! Names of clusters out of what people drew: for experiments, and marked for what it is everywhere.
//!
//! As in the paper's code: of the tiles of a cluster that are shown, the class that most of them have is its name; a cluster
//! less than a given share of whose shown tiles has that class is left out.

use super::partition::{Agreement, agreement};
use crate::context::Context;
use crate::metrics::ScoringKey;
use crate::project::Project;
use crate::project::database::{Naming, Origin};
use crate::slides::view::View;
use crate::tissue::clusters::Clusters;
use crate::tissue::names::Shown;
use crate::tissue::tiles;
use crate::truth::class_mask::{ClassCodes, ClassTruth, IGNORED, codes_of, read_class_truth};
use crate::truth::layout::{TruthFile, find_truths};
use microtome_vault::{Error, Result};
use std::path::Path;

/// How an oracle names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OracleSettings {
    /// Which tiles it looks at.
    pub shown: Shown,
    /// Share of the shown tiles that must have the class; the paper's is 0.8.
    pub purity: f64,
    /// What masks hold; found out without it.
    pub codes: Option<ClassCodes>,
}

/// What an oracle found.
#[derive(Clone, Debug)]
pub struct OracleNames {
    /// A naming for each cluster.
    pub namings: Vec<Naming>,
    /// Clusters and classes of all tiles that have one.
    pub agreement: Agreement,
}

/// Names the project's clusters after masks.
///
/// # Errors
/// `Usage` without classes; `Input` when a slide has no mask, or one of another size; those of reading.
pub fn names(
    project: &Project,
    clusters: &Clusters,
    masks: &Path,
    settings: OracleSettings,
    context: &Context<'_>,
) -> Result<OracleNames> {
    let classes = project.settings.classes.len();
    if classes < 2 {
        return Err(Error::usage("the project has no classes to name clusters after")
            .advise("make it with --classes a,b or add them to microtome.toml"));
    }
    let of_tile = classes_of_tiles(project, masks, settings.codes, context)?;
    if of_tile.len() != clusters.assignment.len() {
        return Err(Error::usage("the clusters are of other tiles than the project's")
            .advise(format!("run `microtome tissue cluster {}` again", project.root.display())));
    }
    let mut namings = Vec::new();
    for cluster in (0..clusters.count()).filter(|cluster| clusters.quality[*cluster].tiles > 0) {
        let shown = settings.shown.of(&clusters.tiles_by_nearness(cluster));
        let mut counts = vec![0usize; classes];
        for class in shown.iter().map(|tile| of_tile[*tile]).filter(|class| *class != IGNORED) {
            counts[usize::from(class)] += 1;
        }
        let best = (0..classes).fold(0, |best, next| if counts[next] > counts[best] { next } else { best });
        let share = counts[best] as f64 / counts.iter().sum::<usize>().max(1) as f64;
        let class =
            (share >= settings.purity && share > 0.0).then(|| project.settings.classes[best].name.clone());
        namings.push(Naming { cluster, class, share, origin: Origin::Oracle });
    }
    let labelled = || of_tile.iter().zip(&clusters.assignment).filter(|(class, _)| **class != IGNORED);
    let own: Vec<u32> = labelled().map(|(_, cluster)| *cluster).collect();
    let true_classes: Vec<u32> = labelled().map(|(class, _)| u32::from(*class)).collect();
    Ok(OracleNames { namings, agreement: agreement(&own, &true_classes) })
}

/// The class that most of the named middle of each tile has, slide after slide.
fn classes_of_tiles(
    project: &Project,
    masks: &Path,
    codes: Option<ClassCodes>,
    context: &Context<'_>,
) -> Result<Vec<u8>> {
    let classes = project.settings.classes.len();
    let truths = find_truths(masks)?;
    let slides = project.slides()?;
    let of_slide = |name: &str| -> Result<&TruthFile> {
        let found = truths.binary_search_by(|truth| truth.name.as_str().cmp(name));
        let missing = || Error::input(format!("there is no mask for the slide {name}")).at(masks);
        found.ok().and_then(|at| truths.get(at)).ok_or_else(missing)
    };
    let files: Vec<&TruthFile> = slides.iter().map(|slide| of_slide(&slide.name)).collect::<Result<_>>()?;
    let codes = match codes {
        Some(codes) => codes,
        None => codes_of(&files.iter().map(|file| file.path.as_path()).collect::<Vec<_>>(), classes)?,
    };
    let mut all = Vec::new();
    for (slide, file) in slides.iter().zip(files) {
        context.check_cancelled()?;
        let Some(list) = tiles::read(project, slide, context)? else {
            return Err(Error::usage("tiles are missing").advise("run `microtome tissue tile` first"));
        };
        let truth = read_class_truth(&file.path, codes, classes)?;
        if truth.size() != slide.size {
            let what = format!("the mask has {} pixels, the slide {}", truth.size(), slide.size);
            return Err(Error::input(what).at(&file.path));
        }
        let open = slide.open(context)?;
        let view = tiles::view(&open, slide.mpp, &project.settings.tiles)?;
        let (side, named) = (list.side_px, list.named_px);
        all.extend(list.corners_px.iter().map(|corner| {
            let inner = corner.map(|px| px + ((side - named) / 2) as i64);
            majority(&truth, &view, inner, named, classes)
        }));
    }
    Ok(all)
}

/// The class that most pixels of a square of a view have.
fn majority(truth: &ClassTruth, view: &View<'_>, corner: [i64; 2], side_px: usize, classes: usize) -> u8 {
    let (size, drawn) = (truth.size(), truth.classes(&ScoringKey(())));
    let along = |corner: i64, length: usize| {
        let at = |px: i64| ((px as f64 * view.downsample).round().max(0.0) as usize).min(length);
        at(corner)..at(corner + side_px as i64)
    };
    let mut counts = vec![0usize; classes];
    for row in along(corner[1], size.height_px) {
        for class in &drawn[size.width_px * row..][along(corner[0], size.width_px)] {
            if let Some(count) = counts.get_mut(usize::from(*class)) {
                *count += 1;
            }
        }
    }
    let best = (0..classes).fold(0, |best, next| if counts[next] > counts[best] { next } else { best });
    if counts[best] == 0 { IGNORED } else { best as u8 }
}

//! Projects and tissue: arguments in, the library's answer out.

use super::{expand, with_context};
use crate::arguments::{ProjectCommands, QueryArguments, TissueCommands};
use crate::exit;
use crate::output::{say, say_line};
use microtome::context::Context;
use microtome::metrics::tissue::oracle::{self, OracleSettings};
use microtome::metrics::tissue::{evaluation, text};
use microtome::project::Project;
use microtome::project::database::{Naming, Origin};
use microtome::project::settings::{Encoder as EncoderSettings, Settings};
use microtome::tissue::masks::{Answered, answer};
use microtome::tissue::{
    advice, asked, clusters, embed, exchange, map, names, pretrain, query, sheets, status, tiles,
};
use microtome::truth::class_mask::ClassCodes;
use microtome::{Budget, MicronsPerPixel, Result, find};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn project(command: ProjectCommands, budget: Budget) -> Result<ExitCode> {
    match command {
        ProjectCommands::Init { project, classes, seed } => {
            let settings = Settings { seed, ..Settings::with_classes(&classes) };
            Project::init(&project, settings)?;
            say_line!("made {}", project.display());
            say_line!("next: microtome project add {} FILES", project.display());
            Ok(ExitCode::SUCCESS)
        }
        ProjectCommands::Add { project, files } => {
            let mut open = Project::open(&project, "microtome project add")?;
            let files = find::find_pictures(&expand(&files)?)?;
            let added = with_context(open.settings.seed, budget, |context| open.add(&files, context))?;
            say_line!("{} added, {} known already, {} skipped", added.new, added.known, added.skipped.len());
            Ok(added.skipped.first().map_or(ExitCode::SUCCESS, |(_, first)| exit::partial(first)))
        }
        ProjectCommands::Status { project } => {
            let open = Project::open(&project, "microtome project status")?;
            let found = with_context(open.settings.seed, budget, |context| status::status(&open, context))?;
            for (stage, how) in &found.lines {
                say_line!("{stage:<12} {how}");
            }
            say_line!("next: {}", found.next);
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) fn tissue(command: TissueCommands, budget: Budget) -> Result<ExitCode> {
    match command {
        TissueCommands::Tile { project, side, step, named, mpp, least_tissue } => {
            let (open, mut settings) = opened(&project, "microtome tissue tile")?;
            let tiles = &mut settings.tiles;
            set(&mut tiles.side_px, side);
            set(&mut tiles.step_px, step);
            set(&mut tiles.named_px, named);
            set(&mut tiles.least_tissue, least_tissue);
            tiles.mpp = mpp.or(tiles.mpp);
            if tiles.imported.take().is_some() {
                settings.encoder.kind = EncoderSettings::default().kind;
            }
            let open = open.with_settings(settings)?;
            let found = with_project(&open, budget, |context| tiles::tile(&open, context))?;
            open.keep_settings()?;
            say_line!("{} tiles of {}", found.tiles, slides_in_words(found.slides));
        }
        TissueCommands::Pretrain { project, encoder, paper, epochs, batch, tiles_at_once } => {
            let (open, mut settings) = opened(&project, "microtome tissue pretrain")?;
            let own = &mut settings.encoder;
            if encoder.as_ref().is_some_and(|kind| *kind != own.kind) {
                (own.epochs, own.batch, own.tiles_at_once) = (None, None, None);
            }
            set(&mut own.kind, encoder);
            set(&mut own.paper, paper);
            own.epochs = epochs.or(own.epochs);
            own.batch = batch.or(own.batch);
            own.tiles_at_once = tiles_at_once.or(own.tiles_at_once);
            let open = open.with_settings(settings)?;
            let taught = with_project(&open, budget, |context| pretrain::pretrain(&open, context))?;
            open.keep_settings()?;
            let was_there = if taught.was_there { ", which was there" } else { "" };
            say_line!("encoder {}{was_there} ({})", taught.kind, &taught.sha256[..12]);
            if let (Some(first), Some(last)) = (taught.losses.first(), taught.losses.last()) {
                say_line!(
                    "loss {first:.3} in the first epoch, {last:.3} in the last of {}",
                    taught.losses.len()
                );
            }
        }
        TissueCommands::Embed { project } => {
            let (open, _) = opened(&project, "microtome tissue embed")?;
            let encoder = pretrain::encoder(&open)?;
            let found = with_project(&open, budget, |context| embed::embed(&open, &encoder, context))?;
            say_line!(
                "{} vectors of {} numbers, of {}",
                found.tiles,
                found.dimensions,
                slides_in_words(found.slides)
            );
        }
        TissueCommands::Import { project, folder, side } => {
            let (open, _) = opened(&project, "microtome tissue import")?;
            let source = exchange::Source { folder, side_in_level0_px: side };
            let settings = exchange::settings(&open, &source)?;
            let open = open.with_settings(settings)?;
            let found = with_project(&open, budget, |context| exchange::import(&open, &source, context))?;
            open.keep_settings()?;
            say_line!(
                "{} vectors of {} numbers, of {}",
                found.tiles,
                found.dimensions,
                slides_in_words(found.slides)
            );
        }
        TissueCommands::Export { project, folder } => {
            let (open, _) = opened(&project, "microtome tissue export")?;
            let encoder = pretrain::encoder(&open)?;
            let written =
                with_project(&open, budget, |context| exchange::export(&open, &encoder, &folder, context))?;
            say_line!("{written} files in {}", folder.display());
        }
        TissueCommands::Advise { project, ks } => {
            let (open, _) = opened(&project, "microtome tissue advise")?;
            let encoder = pretrain::encoder(&open)?;
            let found = with_project(&open, budget, |context| advice::advise(&open, &encoder, &ks, context))?;
            say_line!("{:>8} {:>10} {:>10} {:>10}", "clusters", "explained", "stability", "silhouette");
            for own in &found.candidates {
                say_line!(
                    "{:>8} {:>10.2} {:>10.2} {:>10.2}",
                    own.clusters,
                    own.explained,
                    own.stability,
                    own.silhouette
                );
            }
            say_line!("we would take {}", found.reason());
            say_line!("look at {}", found.files[0].display());
        }
        TissueCommands::Cluster { project, k, restarts, without_edits, shown } => {
            let (open, mut settings) = opened(&project, "microtome tissue cluster")?;
            set(&mut settings.clusters.count, k);
            set(&mut settings.clusters.restarts, restarts);
            let open = open.with_settings(settings)?;
            let encoder = pretrain::encoder(&open)?;
            let (found, folder) = with_project(&open, budget, |context| {
                let found = clusters::cluster(&open, &encoder, !without_edits, context)?;
                let folder = sheets::write(&open, &found, shown, context)?;
                Ok((found, folder))
            })?;
            open.keep_settings()?;
            show(&found, &folder)?;
        }
        TissueCommands::Split { project, cluster, into, shown } => {
            let (mut open, _) = opened(&project, "microtome tissue split")?;
            let (encoder, seed) = (pretrain::encoder(&open)?, open.settings.seed);
            let (found, folder) = with_context(seed, budget, |context| {
                let found = clusters::split(&mut open, &encoder, cluster, into, &whoever(), context)?;
                let folder = sheets::write(&open, &found, shown, context)?;
                Ok((found, folder))
            })?;
            show(&found, &folder)?;
        }
        TissueCommands::Merge { project, clusters: merged, shown } => {
            let (mut open, _) = opened(&project, "microtome tissue merge")?;
            let (encoder, seed) = (pretrain::encoder(&open)?, open.settings.seed);
            let (found, folder) = with_context(seed, budget, |context| {
                let found = clusters::merge(&mut open, &encoder, &merged, &whoever(), context)?;
                let folder = sheets::write(&open, &found, shown, context)?;
                Ok((found, folder))
            })?;
            show(&found, &folder)?;
        }
        TissueCommands::Map { project, tiles } => {
            let (open, _) = opened(&project, "microtome tissue map")?;
            let encoder = pretrain::encoder(&open)?;
            let found = with_project(&open, budget, |context| {
                let clusters = clusters::of_project(&open, context)?;
                map::map(&open, &encoder, &clusters, tiles, context)
            })?;
            say_line!("{} tiles", found.places.len());
            say_line!("look at {} and {}", found.files[1].display(), found.files[2].display());
        }
        TissueCommands::Name { project, source, class, reject: _, share, oracle } => {
            let (mut open, _) = opened(&project, "microtome tissue name")?;
            let seed = open.settings.seed;
            return with_context(seed, budget, |context| {
                let found = clusters::of_project(&open, context)?;
                let namings = match (&source.from, &source.oracle, source.cluster) {
                    (Some(from), ..) => names::read_file(from)?,
                    (_, Some(masks), _) => {
                        let settings = OracleSettings {
                            shown: oracle.shown,
                            purity: oracle.purity,
                            codes: oracle.truth_kind,
                        };
                        let named = oracle::names(&open, &found, masks, settings, context)?;
                        say_line!("{}", text::agreement(&named.agreement));
                        named.namings
                    }
                    (_, _, cluster) => {
                        let cluster = cluster.unwrap_or_default();
                        vec![Naming { cluster, class, share, origin: Origin::Command }]
                    }
                };
                let named = names::name(&mut open, &found, &whoever(), &namings, context)?;
                say_line!("{named} of {} clusters have a name", found.filled());
                Ok(ExitCode::SUCCESS)
            });
        }
        TissueCommands::Query { project, out, query } => {
            let (open, _) = opened(&project, "microtome tissue query")?;
            let answered = with_project(&open, budget, |context| {
                let found = clusters::of_project(&open, context)?;
                let asked = asked::of_project(&open, &found, context)?;
                let settings = settings(&query, asked.dictionary.level(query.level)?, open.settings.seed);
                answer(&asked, &settings, &out, context)
            })?;
            return conclude(&answered);
        }
        TissueCommands::Apply { dictionary, files, out, mpp, query } => {
            let files = find::find_pictures(&expand(&files)?)?;
            let mpp = mpp.map(MicronsPerPixel::new).transpose()?;
            let answered = with_context(1, budget, |context| {
                let asked = asked::of_files(&dictionary, &files, mpp, context)?;
                let settings = settings(&query, asked.dictionary.level(query.level)?, 1);
                answer(&asked, &settings, &out, context)
            })?;
            return conclude(&answered);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn slides_in_words(count: usize) -> String {
    if count == 1 { "1 slide".to_owned() } else { format!("{count} slides") }
}

/// Says what clusters there are, and where to look at them.
fn show(found: &clusters::Clusters, sheets: &Path) -> Result<()> {
    let is_stable = |quality: &&clusters::Quality| quality.stability.is_some_and(|stable| stable >= 0.75);
    let stable = found.quality.iter().filter(|quality| quality.tiles > 0).filter(is_stable).count();
    say_line!("{} clusters, {stable} of them stable", found.filled());
    say_line!("look at {}", sheets.join("index.html").display());
    Ok(())
}

fn opened(project: &Path, holder: &str) -> Result<(Project, Settings)> {
    let open = Project::open(project, holder)?;
    let settings = open.settings.clone();
    Ok((open, settings))
}

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

fn with_project<T>(
    project: &Project,
    budget: Budget,
    work: impl FnOnce(&Context<'_>) -> Result<T>,
) -> Result<T> {
    with_context(project.settings.seed, budget, work)
}

/// Who names, for the history: the account's name.
fn whoever() -> String {
    ["USER", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

fn settings(query: &QueryArguments, level: usize, seed: u64) -> query::QuerySettings {
    let own = query::QuerySettings::new(query.method, level, seed);
    query::QuerySettings {
        temperature: query.temperature.unwrap_or(own.temperature),
        smoothing_px: query.smoothing.unwrap_or(own.smoothing_px),
        least_confidence: query.least_confidence,
        ..own
    }
}

fn conclude(answered: &Answered) -> Result<ExitCode> {
    say_line!("{}", slides_in_words(answered.slides.len()));
    say_line!("look at {}", answered.report.display());
    Ok(match answered.skipped.first() {
        None => ExitCode::SUCCESS,
        Some((_, first)) => exit::partial(first),
    })
}

pub(super) fn evaluate(
    predicted: &Path,
    truth: &Path,
    codes: Option<ClassCodes>,
    json: bool,
) -> Result<ExitCode> {
    let found = evaluation::evaluate(predicted, truth, codes)?;
    match json {
        true => say_line!("{}", text::to_json(&found)?),
        false => say!("{}", text::table(&found)),
    }
    Ok(ExitCode::SUCCESS)
}

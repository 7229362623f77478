//! `run`, `train` and `segment`: the doors to the methods.
//!
//! Each is idempotent: what is already done and whole is not done again, so that the same command after a stop or a kill
//! goes on where it stopped, to the same bytes.

use super::choice::Choice;
use super::config::{ConfigFile, Method};
use super::contrastive::{self, Taught};
use super::folder::{PictureDone, RunFolder};
use super::inputs::{Input, Inputs, Skipped, Stated};
use super::model::{Model, ModelRecord};
use super::segmenter::{Segmentation, Segmenter};
use super::slide::segment::{SlideRequest, segment_slide};
use super::summary::{self, Stages};
use super::teaching::{CheckpointFolder, beside};
use super::{best, summary::Curve};
use crate::context::Context;
use crate::export;
use crate::report::MOST_PICTURES_SHOWN;
use crate::report::thumbnail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use microtome_slide::{MicronsPerPixel, Picture, find_pictures};
use microtome_vault::{Error, Result, checksum, disk};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Name of the trained model in a run's folder.
pub(super) const MODEL_NAME: &str = "model.safetensors";

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Files and folders.
    pub pictures: Vec<PathBuf>,
    /// Resolution of all pictures, where the user states it.
    pub mpp: Option<MicronsPerPixel>,
    /// The file with the tissue of the slide, or a folder with one for each, where the user states it.
    pub tissue: Option<PathBuf>,
    /// All values.
    pub config: ConfigFile,
    /// How slides are worked on.
    pub slides: SlideRequest,
    /// The command line, for the record.
    pub command: String,
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// Pictures that are done.
    pub pictures: usize,
    /// Nuclei in them.
    pub nuclei: usize,
    /// Pictures that could not be worked on.
    pub skipped: Vec<Skipped>,
    /// What is to be known of those that are done.
    pub warnings: Vec<String>,
    /// The page that shows it all; none for a training.
    pub report: Option<PathBuf>,
}

/// Trains on the pictures (for methods that learn) and segments them, into `out`.
///
/// # Errors
/// `Usage` when `out` holds something else, `Input` when no picture can be used, `Cancelled`, `Io`.
pub fn run(request: &Request, out: &Path, context: &Context<'_>) -> Result<Outcome> {
    let mut stages = Stages::begin();
    let inputs = survey(request, context)?;
    stages.done("reading");
    let folder =
        RunFolder::take(out, &identity("run", request, &inputs, "", context), &describe(request, &inputs))?;
    let model_path = folder.path().join(MODEL_NAME);
    let taught = match request.config.method {
        Method::Stain => None,
        _ => Some(taught_in_folder(&folder, &model_path, request, &inputs, context)?),
    };
    stages.done("training");
    let (segmenter, curve) = match taught {
        None => (Segmenter::stain(&request.config), None),
        Some((model, curve)) => (Segmenter::of_model(&model)?, Some(curve)),
    };
    let model = curve.is_some().then_some(model_path.as_path());
    finish(&folder, request, inputs, &segmenter, model, curve, stages, context)
}

/// Trains on the pictures and writes a model.
///
/// # Errors
/// `Usage` for a method that learns nothing, or when the model's file is there already; else as [`run`].
pub fn train(request: &Request, model_path: &Path, context: &Context<'_>) -> Result<Outcome> {
    if request.config.method == Method::Stain {
        return Err(Error::usage("the stain method learns nothing, so there is no model to train")
            .advise("use `microtome nuclei run --method stain`, or another method"));
    }
    let inputs = survey(request, context)?;
    let identity = identity("train", request, &inputs, "", context);
    let key = checksum::sha256_hex(identity.as_bytes());
    if model_path.exists() && !trained_alike(model_path, request, &inputs, context) {
        return Err(Error::usage("there is another file or model already")
            .at(model_path)
            .advise("choose another --model, or delete it; nothing was touched"));
    }
    if !model_path.exists() {
        let training = beside(model_path);
        let checkpoints = CheckpointFolder::open(training.clone(), key)?;
        let (model, _) = teach(request, &inputs, &checkpoints, context)?;
        model.write(model_path)?;
        disk::remove_folder_all(&training)?;
    }
    let (pictures, skipped) = (inputs.usable.len(), inputs.skipped);
    Ok(Outcome { pictures, nuclei: 0, skipped, warnings: Vec::new(), report: None })
}

/// Applies a model to pictures, into `out`. Values of the method come from the model; `request.config` is not looked at.
///
/// # Errors
/// `Input` when the model is not readable or of another architecture; else as [`run`].
pub fn segment(request: &Request, model_path: &Path, out: &Path, context: &Context<'_>) -> Result<Outcome> {
    let mut stages = Stages::begin();
    let model = Model::read(model_path)?;
    let sha256 = checksum::sha256_file(model_path)?;
    // A picture need not be as large as the crops were to be segmented.
    let mut applied = request.clone();
    applied.config = model.record.config.clone();
    applied.config.method = Method::Best;
    let inputs = survey(&applied, context)?;
    applied.config.method = model.record.method;
    stages.done("reading");
    let identity = identity("segment", &applied, &inputs, &sha256, context);
    let folder = RunFolder::take(out, &identity, &describe(&applied, &inputs))?;
    let segmenter = Segmenter::of_model(&model)?;
    finish(&folder, &applied, inputs, &segmenter, Some(model_path), None, stages, context)
}

fn survey(request: &Request, context: &Context<'_>) -> Result<Inputs> {
    let stated = Stated { mpp: request.mpp, tissue: request.tissue.as_deref() };
    Inputs::survey(&find_pictures(&request.pictures)?, stated, &request.config, context)
}

/// Everything that decides a run's bytes.
fn identity(door: &str, request: &Request, inputs: &Inputs, model: &str, context: &Context<'_>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (config, seed, pictures) = (request.config.to_toml(), context.seed, inputs.identity());
    // Pictures are the same whatever is asked for slides.
    let SlideRequest { maps, tile_px, gzip } = request.slides;
    let packed = if gzip { " gzip" } else { "" };
    let slides =
        inputs.slides().next().map_or(String::new(), |_| format!("{} {tile_px}{packed}", maps.name()));
    format!("{door} {version}\nseed {seed}\nmodel {model}\nslides {slides}\n{config}\n{pictures}")
}

fn describe(request: &Request, inputs: &Inputs) -> String {
    let (method, count) = (request.config.method.name(), inputs.usable.len());
    format!("method {method}, {count} pictures, begun with `{}`", request.command)
}

/// The model in a run's folder: trained now, or before.
fn taught_in_folder(
    folder: &RunFolder,
    model_path: &Path,
    request: &Request,
    inputs: &Inputs,
    context: &Context<'_>,
) -> Result<(Model, Curve)> {
    let before = Model::read(model_path).ok().zip(folder.read_state("curve.json"));
    if let Some((model, curve)) = before {
        return Ok((model, curve));
    }
    let checkpoints = CheckpointFolder::open(folder.training(), folder.key().to_owned())?;
    let (model, taught) = teach(request, inputs, &checkpoints, context)?;
    let curve = Curve::of(&taught.curve, taught.choice.as_ref());
    folder.write_state("curve.json", &curve)?;
    model.write(model_path)?;
    disk::remove_folder_all(folder.training())?;
    Ok((model, curve))
}

fn teach(
    request: &Request,
    inputs: &Inputs,
    checkpoints: &CheckpointFolder,
    context: &Context<'_>,
) -> Result<(Model, Taught)> {
    let schooling = inputs.to_train_on(context)?;
    let taught = match request.config.method {
        Method::Contrastive => {
            contrastive::learn(&schooling.pictures, &request.config, checkpoints, context)?
        }
        _ => best::learn(&schooling, &request.config, checkpoints, context)?,
    };
    let (channel, inverted) = sense(taught.choice.as_ref());
    let record = ModelRecord {
        format_version: 1,
        microtome: env!("CARGO_PKG_VERSION").to_owned(),
        method: request.config.method,
        channel,
        inverted,
        seed: context.seed,
        config: request.config.clone(),
        trained_on: trained_on(inputs, context),
    };
    Ok((Model { weights: taught.weights.clone(), record }, taught))
}

fn sense(choice: Option<&Choice>) -> (usize, bool) {
    choice.map_or((0, false), |choice| (choice.chosen.channel, choice.chosen.inverted))
}

/// SHA-256 of each picture that is trained on, and of the ends of slides, by name.
fn trained_on(inputs: &Inputs, context: &Context<'_>) -> BTreeMap<String, String> {
    let chosen = inputs.chosen_to_train_on(context.seed).into_iter().chain(inputs.slides());
    chosen.map(|input| (input.name.clone(), input.sha256.clone())).collect()
}

/// Whether a model file is what this request would train.
fn trained_alike(path: &Path, request: &Request, inputs: &Inputs, context: &Context<'_>) -> bool {
    let Ok(Model { record, .. }) = Model::read(path) else { return false };
    let alike = record.config == request.config && record.seed == context.seed;
    alike && record.trained_on == trained_on(inputs, context)
}

/// Segments every picture that is not done yet, then writes what spans all of them.
#[allow(clippy::too_many_arguments)] // The last step of two doors: all that the record of a run consists of.
fn finish(
    folder: &RunFolder,
    request: &Request,
    mut inputs: Inputs,
    segmenter: &Segmenter,
    model: Option<&Path>,
    curve: Option<Curve>,
    mut stages: Stages,
    context: &Context<'_>,
) -> Result<Outcome> {
    let pictures = match finished_before(folder, &inputs) {
        Some(pictures) => pictures,
        None => {
            summary::begin(folder)?;
            let results = segment_all(folder, &inputs, segmenter, request.slides, context);
            context.check_cancelled()?;
            stages.done("segmenting");
            let pictures = put_failures_aside(&mut inputs, results, context)?;
            summary::write(folder, request, &inputs, &pictures, model, curve.as_ref(), stages, context)?;
            pictures
        }
    };
    let of_picture = |(input, done): (&Input, &PictureDone)| {
        let name = input.name.clone();
        done.warnings.clone().into_iter().map(move |warning| format!("{name}: {warning}"))
    };
    Ok(Outcome {
        warnings: inputs.usable.iter().zip(&pictures).flat_map(of_picture).collect(),
        pictures: pictures.len(),
        nuclei: pictures.iter().map(|picture| picture.nuclei).sum(),
        skipped: inputs.skipped,
        report: Some(folder.path().join("report.html")),
    })
}

/// What a run that is asked for again gave: its record of times and warnings stays that of the work.
fn finished_before(folder: &RunFolder, inputs: &Inputs) -> Option<Vec<PictureDone>> {
    let is_finished = inputs.skipped.is_empty() && summary::is_written(folder);
    let done = |input: &Input| folder.done(&input.name, &input.sha256);
    inputs.usable.iter().map(done).collect::<Option<Vec<PictureDone>>>().filter(|_| is_finished)
}

/// Pictures several at a time, then slides one after the other, in the order of the inputs.
fn segment_all(
    folder: &RunFolder,
    inputs: &Inputs,
    segmenter: &Segmenter,
    asked: SlideRequest,
    context: &Context<'_>,
) -> Vec<Result<PictureDone>> {
    let pictures = inputs.usable.iter().filter(|input| input.slide.is_none()).count();
    if pictures > 0 {
        context.progress().begin("segmenting", pictures);
    }
    let done = AtomicUsize::new(0);
    let segment_picture = |(index, input): (usize, &Input)| {
        let is_picture = input.slide.is_none();
        is_picture.then(|| {
            context.check_cancelled()?;
            let result = segment_one(folder, inputs, input, index, segmenter, context);
            let done = 1 + done.fetch_add(1, Ordering::Relaxed);
            context.progress().advance(done, &input.name);
            result
        })
    };
    let results: Vec<Option<Result<PictureDone>>> =
        inputs.usable.par_iter().enumerate().map(segment_picture).collect();
    if pictures > 0 {
        context.progress().end();
    }
    let slides = inputs.usable.iter().zip(results).map(|(input, result)| match (input.slide, result) {
        (Some(work), _) => {
            context.check_cancelled()?;
            segment_slide(folder, input, work, segmenter, asked, context)
        }
        (None, Some(result)) => result,
        (None, None) => Err(Error::bug("a picture was passed over")),
    });
    slides.collect()
}

/// A picture that became unreadable is skipped like one that always was; an output that cannot be written ends the run.
fn put_failures_aside(
    inputs: &mut Inputs,
    results: Vec<Result<PictureDone>>,
    context: &Context<'_>,
) -> Result<Vec<PictureDone>> {
    let mut pictures = Vec::new();
    let mut usable = Vec::new();
    for (input, result) in std::mem::take(&mut inputs.usable).into_iter().zip(results) {
        match result {
            Ok(done) => {
                pictures.push(done);
                usable.push(input);
            }
            Err(error) if error.path() == Some(&input.path) => {
                context.warn(format!("skipped, the others go on: {error}"));
                inputs.skipped.push(Skipped { path: input.path, error });
            }
            Err(error) => return Err(error),
        }
    }
    inputs.usable = usable;
    Ok(pictures)
}

fn segment_one(
    folder: &RunFolder,
    inputs: &Inputs,
    input: &Input,
    index: usize,
    segmenter: &Segmenter,
    context: &Context<'_>,
) -> Result<PictureDone> {
    if let Some(done) = folder.done(&input.name, &input.sha256) {
        return Ok(done);
    }
    let picture = inputs.read(input, context)?;
    let found = segmenter.segment(&picture, input.mpp);
    let (labels, files) = write_files(folder.path(), input, &picture, &found)?;
    let done = PictureDone {
        sha256: input.sha256.clone(),
        rows: export::csv::rows_of_picture(&input.name, input.mpp, &found.nuclei)?,
        rows_file: None,
        nuclei: found.nuclei.len(),
        examined_px: input.size.area_px() as f64,
        warnings: if found.nuclei.is_empty() { vec!["no nucleus was found".to_owned()] } else { Vec::new() },
        files,
        areas_px: found.nuclei.iter().map(|nucleus| nucleus.region.area_px).collect(),
        mean_confidence: mean(found.nuclei.iter().map(|nucleus| nucleus.mean_confidence)),
        labels: Some(labels),
        thumbnails: (index < MOST_PICTURES_SHOWN).then(|| thumbnails(&picture, &found)).transpose()?,
    };
    folder.note_done(&input.name, &done)?;
    Ok(done)
}

/// Writes the files of a picture; gives the label map's, and all, from the output folder.
fn write_files(
    out: &Path,
    input: &Input,
    picture: &Picture,
    found: &Segmentation,
) -> Result<(String, Vec<String>)> {
    let (name, size) = (&input.name, picture.size);
    let labels = export::labels::write_labels(&out.join("labels"), name, &found.labels)?;
    export::confidence::write_confidence(&out.join("confidence"), name, size, &found.confidence.values)?;
    export::overlay::write_overlay(&out.join("overlays"), name, &picture.rgb, &found.labels)?;
    let described =
        export::geojson::GeoJsonPicture { sha256: &input.sha256, mpp: input.mpp, labels: &found.labels };
    export::geojson::write_geojson(&out.join("geojson"), name, described, &found.nuclei)?;
    let labels = format!("labels/{}", labels.file_name().unwrap_or_default().to_string_lossy());
    let files = vec![
        labels.clone(),
        format!("confidence/{name}.png"),
        format!("overlays/{name}.png"),
        format!("geojson/{name}.geojson"),
    ];
    Ok((labels, files))
}

fn thumbnails(picture: &Picture, found: &Segmentation) -> Result<[String; 3]> {
    let width_px = thumbnail::WIDTH_PX;
    let encode = |png: Vec<u8>| BASE64.encode(png);
    Ok([
        encode(thumbnail::thumbnail_png(&picture.rgb, picture.size, width_px)?),
        encode(thumbnail::confidence_thumbnail_png(&found.confidence.values, picture.size, width_px)?),
        encode(thumbnail::overlay_thumbnail_png(&picture.rgb, &found.labels, width_px)?),
    ])
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

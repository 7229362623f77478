//! What spans all pictures of a run: `nuclei.csv`, `report.html`, `run.json`.

use super::choice;
use super::config::Method;
use super::folder::{PictureDone, RunFolder};
use super::inputs::{Input, Inputs};
use super::run::{MODEL_NAME, Request};
use crate::context::Context;
use crate::export::csv::write_csv;
use crate::export::run_json::{
    ChoiceJson, FORMAT_VERSION, InputJson, ModelJson, RunJson, SkippedJson, StageJson,
};
use crate::report::{
    Candidate, Choice, Criterion, LossCurve, LossSeries, PictureReport, ReportData, ResultFile,
    SkippedPicture, Thumbnails, write_report,
};
use crate::system;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use microtome_nets::training::Step;
use microtome_vault::clock::rfc3339_utc;
use microtome_vault::{Result, checksum, disk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime};

/// The record of a run.
const RECORD: &str = "run.json";

/// The clock of a run, stage by stage.
pub(super) struct Stages {
    started: SystemTime,
    last: Instant,
    seconds: Vec<StageJson>,
}

impl Stages {
    pub(super) fn begin() -> Self {
        Self { started: SystemTime::now(), last: Instant::now(), seconds: Vec::new() }
    }

    /// The stage that ran until now is over.
    pub(super) fn done(&mut self, name: &str) {
        let wall_seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        self.seconds.push(StageJson { name: name.to_owned(), wall_seconds });
    }

    fn total(&self) -> f64 {
        self.seconds.iter().map(|stage| stage.wall_seconds).sum()
    }
}

/// How a training went and what was chosen: kept in the run's folder, so that a run that goes on can still show it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Curve {
    losses: Vec<Option<f32>>,
    epochs: Vec<usize>,
    chosen: Option<CandidateRecord>,
    candidates: Vec<CandidateRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CandidateRecord {
    epoch: usize,
    channel: usize,
    inverted: bool,
    stain_agreement: f64,
    entropy_bits: f64,
    coverage: f64,
}

impl CandidateRecord {
    fn of(candidate: &choice::Candidate) -> Self {
        let choice::Candidate { epoch, channel, inverted, stain_agreement, entropy_bits, coverage } =
            *candidate;
        Self { epoch, channel, inverted, stain_agreement, entropy_bits, coverage }
    }

    fn values(&self) -> [f64; 3] {
        [self.stain_agreement, self.entropy_bits, self.coverage]
    }
}

/// Names and meanings of the criteria, in the order of [`CandidateRecord::values`].
const CRITERIA: [(&str, &str, &str); 3] = [
    (
        "stain_agreement",
        "agreement with stain",
        "Dice between the channel's mask and the mask of Otsu's threshold on haematoxylin, mean over windows of the \
         pictures; the highest decides",
    ),
    ("entropy_bits", "entropy (bits)", "how undecided the channel is, 0 to 1; the lower parts equals"),
    ("coverage", "coverage", "share of pixels in the mask; shown, not judged"),
];

impl Curve {
    pub(super) fn of(steps: &[Step], choice: Option<&choice::Choice>) -> Self {
        let candidates = choice.map_or(&[][..], |choice| &choice.candidates);
        Self {
            losses: steps.iter().map(|step| step.loss.is_finite().then_some(step.loss)).collect(),
            epochs: steps.iter().map(|step| step.epoch + 1).collect(),
            chosen: choice.map(|choice| CandidateRecord::of(&choice.chosen)),
            candidates: candidates.iter().map(CandidateRecord::of).collect(),
        }
    }

    /// The last step of the epoch whose weights were kept.
    fn chosen_step(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.epochs.iter().rposition(|epoch| *epoch == chosen.epoch).map(|index| index + 1)
    }

    fn loss_curve(&self) -> LossCurve {
        let values = self.losses.iter().map(|loss| loss.map_or(f64::NAN, f64::from)).collect();
        LossCurve {
            step_name: "training steps".to_owned(),
            series: vec![LossSeries { name: "loss".to_owned(), values }],
            chosen_step: self.chosen_step(),
        }
    }

    fn choice(&self) -> Option<Choice> {
        let chosen = self.chosen.as_ref()?;
        let mut candidates = self.candidates.clone();
        candidates.sort_by(|a, b| b.stain_agreement.total_cmp(&a.stain_agreement));
        let shown = |candidate: &CandidateRecord| Candidate {
            channel: candidate.channel,
            inverted: candidate.inverted,
            epoch: Some(candidate.epoch),
            values: candidate.values().map(Some).to_vec(),
            chosen: candidate == chosen,
        };
        let criterion = |(_, name, meaning): &(&str, &str, &str)| Criterion {
            name: (*name).to_owned(),
            meaning: (*meaning).to_owned(),
        };
        Some(Choice {
            rule: "Epoch, channel and sense are those whose mask agrees best with the haematoxylin of these \
                   pictures. No label was used."
                .to_owned(),
            criteria: CRITERIA.iter().map(criterion).collect(),
            candidates: candidates.iter().map(shown).collect(),
        })
    }

    fn choice_json(&self) -> Option<ChoiceJson> {
        let chosen = self.chosen.as_ref()?;
        let values = CRITERIA.iter().zip(chosen.values());
        let criteria: BTreeMap<String, Option<f64>> =
            values.map(|((key, ..), value)| ((*key).to_owned(), Some(value))).collect();
        Some(ChoiceJson {
            channel: chosen.channel,
            inverted: chosen.inverted,
            epoch: Some(chosen.epoch),
            criteria,
        })
    }
}

/// Takes away the record of an earlier start: a folder that has one is finished.
pub(super) fn begin(folder: &RunFolder) -> Result<()> {
    disk::remove_file(folder.path().join(RECORD))
}

/// Whether table, report and record are there.
pub(super) fn is_written(folder: &RunFolder) -> bool {
    ["nuclei.csv", "report.html", RECORD].iter().all(|name| folder.path().join(name).is_file())
}

/// Writes table, report and record, the record last.
#[allow(clippy::too_many_arguments)] // All that the record of a run consists of.
pub(super) fn write(
    folder: &RunFolder,
    request: &Request,
    inputs: &Inputs,
    pictures: &[PictureDone],
    model: Option<&Path>,
    curve: Option<&Curve>,
    mut stages: Stages,
    context: &Context<'_>,
) -> Result<()> {
    write_csv(folder.path(), pictures.iter().flat_map(|picture| folder.rows(picture)))?;
    stages.done("table");
    let model = model.map(|path| model_json(folder.path(), path)).transpose()?;
    write_report(folder.path(), &report(request, inputs, pictures, model.as_ref(), curve, &stages, context))?;
    stages.done("report");
    run_json(request, inputs, pictures, model, curve, stages, context)?.write(folder.path())?;
    Ok(())
}

fn report(
    request: &Request,
    inputs: &Inputs,
    pictures: &[PictureDone],
    model: Option<&ModelJson>,
    curve: Option<&Curve>,
    stages: &Stages,
    context: &Context<'_>,
) -> ReportData {
    let (method, method_in_short) = in_words(request.config.method);
    ReportData {
        microtome_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: request.command.clone(),
        method: method.to_owned(),
        method_in_short: method_in_short.to_owned(),
        seed: context.seed,
        finished: rfc3339_utc(SystemTime::now()),
        wall_seconds: stages.total(),
        pictures: inputs.usable.iter().zip(pictures).map(picture_report).collect(),
        loss_curve: curve.map(Curve::loss_curve),
        choice: curve.and_then(Curve::choice),
        settings: request.config.to_toml(),
        skipped: inputs
            .skipped
            .iter()
            .map(|skipped| SkippedPicture {
                path: skipped.path.display().to_string(),
                reason: skipped.error.to_string(),
            })
            .collect(),
        warnings: context.warnings(),
        files: files(request, inputs, model),
        example_labels: pictures.iter().find_map(|picture| picture.labels.clone()),
    }
}

fn picture_report((input, picture): (&Input, &PictureDone)) -> PictureReport {
    let warnings = input.warnings.iter().chain(&picture.warnings).cloned().collect();
    PictureReport {
        name: input.name.clone(),
        size: input.size,
        mpp: input.mpp,
        nuclei: picture.nuclei,
        examined_px: picture.examined_px,
        areas_px: picture.areas_px.clone(),
        mean_confidence: picture.mean_confidence,
        warnings,
        thumbnails: picture.thumbnails.as_ref().and_then(decode_thumbnails),
    }
}

fn decode_thumbnails(encoded: &[String; 3]) -> Option<Thumbnails> {
    let decode = |text: &String| BASE64.decode(text).ok();
    let [picture, confidence, overlay] = encoded;
    Some(Thumbnails { picture: decode(picture)?, confidence: decode(confidence)?, overlay: decode(overlay)? })
}

fn in_words(method: Method) -> (&'static str, &'static str) {
    match method {
        Method::Stain => (
            "Stain, without learning",
            "Colour deconvolution gives haematoxylin, Otsu's threshold parts nuclei from the rest, a watershed parts \
             nuclei from one another.",
        ),
        Method::Contrastive => (
            "Patch-based contrastive learning",
            "A small network learned from these pictures, without labels, maps in which patches are alike \
             (Boserup & Selvan, NLDL 2023).",
        ),
        Method::Best => (
            "Stain and network together",
            "The stain of all pictures taught a small network what nuclei look like; both together decide. \
             No label was used.",
        ),
    }
}

fn files(request: &Request, inputs: &Inputs, model: Option<&ModelJson>) -> Vec<ResultFile> {
    let file = |path: &str, what: &str| ResultFile { path: path.to_owned(), what: what.to_owned() };
    let has_slides = inputs.slides().next().is_some();
    let mut files = vec![file("overlays/", "Outlines on the pictures, to look at (PNG)")];
    if inputs.usable.iter().any(|input| input.slide.is_none()) {
        files.push(file(
            "labels/",
            "A number for each nucleus, 0 for background (16-bit PNG); Python, ImageJ, napari",
        ));
        files.push(file("confidence/", "How sure the method is, black 0 and white 1 (PNG)"));
    }
    if has_slides {
        files
            .push(file("density/", "Nuclei a square millimetre of slides, dark violet to pale yellow (PNG)"));
    }
    if let (true, Some(end)) = (has_slides, request.slides.maps.extension()) {
        files.push(file(
            &format!("labels/*.{end}"),
            "A number for each nucleus of a slide, at all resolutions",
        ));
        files.push(file(&format!("confidence/*.{end}"), "How sure the method is about a slide, 0 to 255"));
    }
    files.extend([
        file("geojson/", "Outlines and measurements; in QuPath, drag a file onto its open picture"),
        file("nuclei.csv", "A row a nucleus, all pictures; spreadsheets, R, Python"),
        file("run.json", "How all of this was made: settings, seed, versions, hashes, times"),
    ]);
    if model.is_some_and(|model| model.file == MODEL_NAME) {
        files.push(file(MODEL_NAME, "The trained network; “microtome nuclei segment” applies it"));
    }
    files
}

/// The model as the record names it: by its name where it lies in the run's folder, else from the root.
fn model_json(folder: &Path, path: &Path) -> Result<ModelJson> {
    let elsewhere = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let file = path.strip_prefix(folder).map_or_else(|_| elsewhere(), Path::to_owned);
    Ok(ModelJson { file: file.display().to_string(), sha256: checksum::sha256_file(path)? })
}

fn run_json(
    request: &Request,
    inputs: &Inputs,
    pictures: &[PictureDone],
    model: Option<ModelJson>,
    curve: Option<&Curve>,
    stages: Stages,
    context: &Context<'_>,
) -> Result<RunJson> {
    Ok(RunJson {
        format_version: FORMAT_VERSION,
        microtome_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: request.command.clone(),
        method: request.config.method.name().to_owned(),
        seed: context.seed,
        started: rfc3339_utc(stages.started),
        finished: rfc3339_utc(SystemTime::now()),
        stages: stages.seconds,
        threads: system::threads(),
        vector_path: system::vector_paths().0.to_owned(),
        peak_memory_bytes: system::peak_memory_bytes(),
        config: serde_json::to_value(&request.config).unwrap_or_default(),
        model,
        inputs: inputs.usable.iter().zip(pictures).map(input_json).collect(),
        skipped: inputs
            .skipped
            .iter()
            .map(|skipped| SkippedJson {
                path: skipped.path.display().to_string(),
                error: skipped.error.to_string(),
            })
            .collect(),
        choice: curve.and_then(Curve::choice_json),
        warnings: context.warnings(),
    })
}

fn input_json((input, picture): (&Input, &PictureDone)) -> InputJson {
    InputJson {
        name: input.name.clone(),
        path: input.path.display().to_string(),
        sha256: input.sha256.clone(),
        width_px: input.size.width_px,
        height_px: input.size.height_px,
        mpp: input.mpp.map(|mpp| mpp.microns()),
        nuclei: picture.nuclei,
        warnings: input.warnings.iter().chain(&picture.warnings).cloned().collect(),
    }
}

//! The project's encoder: taught on its tiles without labels, or taken from a file, and fitted to its tissue.

use super::embed::{Seeing, TileReading};
use super::encoder::file::EncoderParts;
use super::encoder::network::Input;
use super::encoder::projection::Projection;
use super::encoder::texture::LEVEL as TEXTURE_LEVEL;
use super::encoder::{Encoder, Reading, imported};
use super::look::Look;
use super::tiles::{self, TileList};
use crate::context::Context;
use crate::project::Project;
use crate::project::key::Key;
use crate::project::settings;
use crate::project::slides::ProjectSlide;
use crate::report::plot::loss_plot;
use crate::report::{LossCurve, LossSeries};
use microtome_kernels::Size;
use microtome_nets::pytorch;
use microtome_nets::resnet::Architecture;
use microtome_nets::simclr::{self, Recipe, TrainingTiles, encoder_weights};
use microtome_nets::training::{Checkpoint, Observer, Step};
use microtome_vault::checksum::{sha256_file, sha256_hex};
use microtome_vault::{Budget, Error, Result, disk};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of what is computed here.
const VERSION: u32 = 1;
/// The encoder, what is said of it, and where a training stands.
const FILE: &str = "encoder.safetensors";
const RECORD: &str = "encoder.json";
const CHECKPOINT: &str = "encoder.checkpoint.safetensors";
/// Tiles that are learned from, at most: in a gigabyte.
const MOST_TILES: usize = 16_384;
/// Slides that a projection is fitted to, at most, spread evenly.
const MOST_SLIDES: usize = 64;
/// Tiles of a slide that it is fitted to, at most.
const MOST_OF_SLIDE: usize = 512;
/// Largest encoder that is read: a ResNet-50 takes a tenth.
const LARGEST: Budget = Budget::of_bytes(1 << 30);

/// What was taught.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// What the encoder is called.
    pub kind: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// The mean loss of each epoch; none without a training.
    pub losses: Vec<f64>,
    /// Whether it was there already.
    pub was_there: bool,
}

/// Makes the encoder that the settings ask for, unless it is there.
///
/// # Errors
/// `Usage` when tiles are missing or there is no such encoder; those of reading; `Cancelled`.
pub fn pretrain(project: &Project, context: &Context<'_>) -> Result<Pretrained> {
    let slides = project.slides()?;
    let mut lists = Vec::new();
    for slide in &slides {
        let list = tiles::read(project, slide, context)?;
        lists.push(list.ok_or_else(|| {
            Error::usage("tiles are missing, or were made with other settings")
                .advise(format!("run `microtome tissue tile {}` first", project.root.display()))
        })?);
    }
    let key = key_of(project, &lists)?;
    if let Some(there) = there(project, &key)? {
        return Ok(there);
    }
    if project.settings.tiles.imported.is_some() {
        return Err(Error::usage("the project's tiles are those of imported vectors").advise(format!(
            "list tiles of your own first, with `microtome tissue tile {}`",
            project.root.display()
        )));
    }
    let school = School { project, slides: &slides, lists: &lists, context };
    let (mut parts, losses) = school.backbone(&key)?;
    parts.projections = school.projections(&parts)?;
    write_curve(project, &losses)?;
    let sha256 = put(project, &parts, &key, &losses)?;
    disk::remove_file(project.model(CHECKPOINT))?;
    Ok(Pretrained { kind: parts.kind, sha256, losses, was_there: false })
}

/// The project's encoder.
///
/// # Errors
/// `Usage` when there is none, or the settings ask for another; `Input` when it is damaged.
pub fn encoder(project: &Project) -> Result<Encoder> {
    let path = project.model(FILE);
    let advice = format!("run `microtome tissue pretrain {}` first", project.root.display());
    if !path.is_file() {
        return Err(Error::usage("the project has no encoder yet").advise(advice));
    }
    let bytes = disk::read_file_bounded(&path, LARGEST)?;
    let encoder = Encoder::from_bytes(&bytes).map_err(|error| error.at(&path))?;
    let record = record(project)?;
    let said = record.as_ref().and_then(|record| record.get("sha256")).and_then(Value::as_str);
    if said != Some(&encoder.sha256) {
        return Err(Error::input("the encoder is not the one that its record describes")
            .advise(advice)
            .at(path));
    }
    Ok(encoder)
}

/// The bytes of the project's encoder, as it is kept.
///
/// # Errors
/// As [`encoder`].
pub fn encoder_bytes(project: &Project) -> Result<Vec<u8>> {
    disk::read_file_bounded(project.model(FILE), LARGEST)
}

/// Whether the project's encoder is the one that the settings ask for.
///
/// # Errors
/// Those of reading.
pub fn is_current(project: &Project, lists: &[TileList]) -> Result<bool> {
    Ok(there(project, &key_of(project, lists)?)?.is_some())
}

fn record(project: &Project) -> Result<Option<Value>> {
    let path = project.model(RECORD);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = disk::read_file_bounded(&path, Budget::of_bytes(4 << 20))?;
    Ok(serde_json::from_slice(&bytes).ok())
}

fn there(project: &Project, key: &str) -> Result<Option<Pretrained>> {
    let Some(record) = record(project)? else { return Ok(None) };
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let path = project.model(FILE);
    if text("key") != key || !path.is_file() || sha256_file(&path)? != text("sha256") {
        return Ok(None);
    }
    let losses = record.get("losses").and_then(Value::as_array);
    let losses = losses.map(|all| all.iter().filter_map(Value::as_f64).collect()).unwrap_or_default();
    Ok(Some(Pretrained { kind: text("kind"), sha256: text("sha256"), losses, was_there: true }))
}

/// What an encoder is made from.
fn key_of(project: &Project, lists: &[TileList]) -> Result<String> {
    let settings::Encoder { kind, paper, epochs, batch, tiles_at_once } = &project.settings.encoder;
    match (&project.settings.tiles.imported, kind.as_str()) {
        (Some(imported), imported::KIND) => return Ok(imported_key(&imported.sha256)),
        (None, imported::KIND) => {
            return Err(Error::usage("the tiles are not those of the imported vectors any more")
                .advise("import again with `microtome tissue import`, or name an encoder with --encoder"));
        }
        _ => {}
    }
    let mut key = Key::of("encoder", VERSION).with("kind", kind).with("paper", paper);
    key = key.with("named", project.settings.tiles.named_px).with("seed", project.settings.seed);
    let number = |value: &Option<usize>| value.map_or(String::new(), |value| value.to_string());
    key = key.with("epochs", number(epochs)).with("batch", number(batch));
    key = key.with("at_once", number(tiles_at_once));
    if !is_built_in(kind) {
        if !Path::new(kind).is_file() {
            let names: Vec<&str> = Architecture::ALL.iter().map(|architecture| architecture.name).collect();
            return Err(Error::usage(format!("there is no encoder “{kind}”")).advise(format!(
                "it is texture, {}, or a file: safetensors, pth or ONNX",
                names.join(", ")
            )));
        }
        key = key.with("file", sha256_file(kind)?).with("side", project.settings.tiles.side_px);
        let beside = Path::new(kind).with_extension("toml");
        if beside.is_file() {
            key = key.with("beside", sha256_file(beside)?);
        }
    }
    Ok(lists.iter().fold(key, |key, list| key.with("tiles", &list.key)).finish())
}

/// What an encoder of imported vectors is made from.
fn imported_key(sha256: &str) -> String {
    Key::of("imported", VERSION).with("files", sha256).finish()
}

/// Puts the encoder of imported vectors in place; `centre` is the mean of all of them.
///
/// # Errors
/// `Io` when the disk refuses.
pub(super) fn import(project: &Project, sha256: &str, centre: Vec<f32>) -> Result<Encoder> {
    let parts = EncoderParts {
        kind: imported::KIND.to_owned(),
        input: Input::Colour,
        reading: Reading::Tile,
        weights: Vec::new(),
        onnx: None,
        projections: BTreeMap::from([(imported::LEVEL, Projection { mean: centre, matrix: None })]),
        record: json!({"origin": "vectors that were made elsewhere"}),
    };
    put(project, &parts, &imported_key(sha256), &[])?;
    encoder(project)
}

/// The losses as `out/teaching.svg`, where there are several.
fn write_curve(project: &Project, losses: &[f64]) -> Result<()> {
    let series = vec![LossSeries { name: "NT-Xent".to_owned(), values: losses.to_vec() }];
    let curve = LossCurve { step_name: "epochs".to_owned(), series, chosen_step: None };
    match loss_plot(&curve).filter(|_| losses.len() > 1) {
        None => Ok(()),
        Some(plot) => {
            let out = project.root.join("out");
            disk::create_folder_all(&out)?;
            disk::write_atomic(out.join("teaching.svg"), plot.alone().as_bytes())
        }
    }
}

/// Writes an encoder and its record.
fn put(project: &Project, parts: &EncoderParts, key: &str, losses: &[f64]) -> Result<String> {
    let bytes = parts.to_bytes()?;
    disk::write_atomic(project.model(FILE), &bytes)?;
    let sha256 = sha256_hex(&bytes);
    let record = json!({
        "key": key, "sha256": sha256, "kind": parts.kind, "losses": losses, "record": parts.record,
    });
    let text = serde_json::to_string_pretty(&record).map_err(|error| Error::bug(error.to_string()))?;
    // Last: an encoder with its record is whole.
    disk::write_atomic(project.model(RECORD), (text + "\n").as_bytes())?;
    Ok(sha256)
}

fn is_built_in(kind: &str) -> bool {
    kind == "texture" || Architecture::named(kind).is_some()
}

struct School<'a> {
    project: &'a Project,
    slides: &'a [ProjectSlide],
    lists: &'a [TileList],
    context: &'a Context<'a>,
}

impl School<'_> {
    /// What the settings ask for, without projections, and the losses of its training.
    fn backbone(&self, key: &str) -> Result<(EncoderParts, Vec<f64>)> {
        let settings = &self.project.settings.encoder;
        if settings.kind == "texture" {
            let parts = EncoderParts {
                kind: settings.kind.clone(),
                input: Input::Stain,
                reading: Reading::Middle,
                weights: Vec::new(),
                onnx: None,
                projections: BTreeMap::new(),
                record: json!({"origin": "36 numbers made by hand"}),
            };
            return Ok((parts, Vec::new()));
        }
        if let Some(architecture) = Architecture::named(&settings.kind) {
            return self.taught(architecture, key);
        }
        let path = Path::new(&settings.kind);
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
            return Ok((EncoderParts::of_onnx(path, self.project.settings.tiles.side_px)?, Vec::new()));
        }
        if pytorch::is_named_so(path) {
            let weights = pytorch::read(path, self.context.budget)?;
            let (parts, _) = EncoderParts::of_weights(weights).map_err(|error| error.at(path))?;
            return Ok((parts, Vec::new()));
        }
        let bytes = disk::read_file_bounded(path, LARGEST)?;
        let mut parts = EncoderParts::from_bytes(&bytes).map_err(|error| error.at(path))?;
        parts.projections.clear();
        Ok((parts, Vec::new()))
    }

    fn recipe(&self, architecture: Architecture) -> Recipe {
        let settings = &self.project.settings.encoder;
        let tiles: usize = self.lists.iter().map(|list| list.corners_px.len()).sum();
        let mut recipe = match settings.paper {
            true => Recipe::paper(architecture),
            false => Recipe::ours_for(architecture, tiles.min(MOST_TILES)),
        };
        recipe.epochs = settings.epochs.unwrap_or(recipe.epochs);
        recipe.batch = settings.batch.unwrap_or(recipe.batch);
        recipe.tiles_at_once = settings.tiles_at_once;
        if settings.paper {
            recipe.view_px = self.project.settings.tiles.side_px;
        }
        recipe
    }

    fn taught(&self, architecture: Architecture, key: &str) -> Result<(EncoderParts, Vec<f64>)> {
        let recipe = self.recipe(architecture);
        let checkpoint = if recipe.epochs == 0 { None } else { Some(self.train(&recipe, key)?) };
        let paper = self.project.settings.encoder.paper;
        let parts = EncoderParts {
            kind: architecture.name.to_owned(),
            input: if paper { Input::Colour } else { Input::Stain },
            reading: if paper { Reading::Tile } else { Reading::Middle },
            weights: match &checkpoint {
                Some(checkpoint) => encoder_weights(checkpoint),
                None => simclr::untrained(&recipe, self.project.settings.seed),
            },
            onnx: None,
            projections: BTreeMap::new(),
            record: json!({
                "origin": "SimCLR",
                "recipe": if paper { "paper" } else { "ours" },
                "epochs": checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.epochs_done),
                "batch": recipe.batch,
                "tiles_at_once": recipe.tiles_at_once,
                "temperature": recipe.temperature,
                "view_px": recipe.view_px,
                "seed": self.project.settings.seed,
            }),
        };
        Ok((parts, checkpoint.map(|checkpoint| losses(&checkpoint.curve)).unwrap_or_default()))
    }

    fn train(&self, recipe: &Recipe, key: &str) -> Result<Checkpoint> {
        let side = self.project.settings.tiles.side_px;
        let (rgb, looks, slide_of_tile) = self.tiles(side)?;
        let statistics: Vec<_> = looks.iter().map(|look| look.stain).collect();
        let tiles = TrainingTiles::new(side, &rgb, &statistics, slide_of_tile);
        let path = self.project.model(CHECKPOINT);
        let start = self.checkpoint(&path, key)?;
        if let Some(start) = &start {
            let (done, of) = (start.epochs_done, recipe.epochs);
            self.context.progress().advance(0, &format!("going on after epoch {done} of {of}"));
        }
        let mut watch = Watch { path, key, context: self.context, begun: false };
        let trained = simclr::train(&tiles, recipe, self.project.settings.seed, start, &mut watch);
        self.context.progress().end();
        trained
    }

    /// Where a training of the same stands.
    fn checkpoint(&self, path: &Path, key: &str) -> Result<Option<Checkpoint>> {
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = disk::read_file_bounded(path, LARGEST)?;
        match Checkpoint::from_bytes(&bytes) {
            Ok((checkpoint, texts)) if texts.get("key").is_some_and(|own| own == key) => Ok(Some(checkpoint)),
            _ => Ok(None),
        }
    }

    /// Tiles to learn from, spread evenly, with their slides and those slides' looks.
    fn tiles(&self, side: usize) -> Result<(Vec<u8>, Vec<Look>, Vec<usize>)> {
        let all: usize = self.lists.iter().map(|list| list.corners_px.len()).sum();
        let count = all.min(MOST_TILES);
        let bytes = self.context.budget.grant(
            "the tiles that are learned from",
            count as u64,
            3 * (side * side) as u64,
        )?;
        let (mut rgb, mut looks, mut slide_of_tile) = (Vec::with_capacity(bytes), Vec::new(), Vec::new());
        let mut first = 0;
        self.context.progress().begin("reading tiles", count);
        for (slide, list) in self.slides.iter().zip(self.lists) {
            self.context.check_cancelled()?;
            let end = first + list.corners_px.len();
            // Of all tiles those number i·all/count are taken.
            let from = (first * count).div_ceil(all.max(1));
            let to = (end * count).div_ceil(all.max(1));
            let own: Vec<[i64; 2]> = (from..to).map(|i| list.corners_px[i * all / count - first]).collect();
            first = end;
            if own.is_empty() {
                continue;
            }
            let open = slide.open(self.context)?;
            let view = tiles::view(&open, slide.mpp, &self.project.settings.tiles)?;
            looks.push(Look::of(&view, &list.corners_px, list.side_px, self.context)?);
            for corner in own {
                rgb.extend(view.region(corner, Size::new(side, side), self.context.budget)?.rgb);
                slide_of_tile.push(looks.len() - 1);
            }
            self.context.progress().advance(slide_of_tile.len(), &slide.name);
        }
        self.context.progress().end();
        Ok((rgb, looks, slide_of_tile))
    }

    /// Ours are fitted to the project's tissue; the paper's vectors are taken as they are.
    fn projections(&self, parts: &EncoderParts) -> Result<BTreeMap<usize, Projection>> {
        let mut projections = BTreeMap::new();
        // Opened in any case: what cannot be is said here.
        let encoder = parts.encoder(String::new())?;
        if parts.reading == Reading::Tile && parts.onnx.is_none() {
            return Ok(projections);
        }
        let with_tiles: Vec<usize> =
            (0..self.slides.len()).filter(|slide| !self.lists[*slide].corners_px.is_empty()).collect();
        let count = with_tiles.len().min(MOST_SLIDES);
        for level in encoder.levels() {
            let mut all = Vec::new();
            self.context.progress().begin("fitting to the tissue", count);
            for index in 0..count {
                self.context.check_cancelled()?;
                let slide = with_tiles[index * with_tiles.len() / count];
                all.extend(self.sample(&encoder, slide, level)?);
                self.context.progress().advance(index + 1, "");
            }
            self.context.progress().end();
            let dimensions = encoder.dimensions(level);
            let projection = match level == TEXTURE_LEVEL && parts.kind == "texture" {
                true => Projection::whitening(&all, dimensions),
                false => Projection::centring(&all, dimensions),
            };
            projections.insert(level, projection);
        }
        Ok(projections)
    }

    fn sample(&self, encoder: &Encoder, slide: usize, level: usize) -> Result<Vec<f32>> {
        let (slide, list) = (&self.slides[slide], &self.lists[slide]);
        let settings = &self.project.settings.tiles;
        let count = list.corners_px.len().min(MOST_OF_SLIDE);
        let corners: Vec<[i64; 2]> =
            (0..count).map(|index| list.corners_px[index * list.corners_px.len() / count]).collect();
        let open = slide.open(self.context)?;
        let view = tiles::view(&open, slide.mpp, settings)?;
        let look = Look::of(&view, &list.corners_px, list.side_px, self.context)?;
        let reading = TileReading { corners_px: &corners, side_px: list.side_px, named_px: list.named_px };
        Seeing { encoder, view: &view, look: &look, reading, level }.vectors(None, self.context)
    }
}

/// The mean loss of each epoch.
fn losses(curve: &[Step]) -> Vec<f64> {
    let mean =
        |epoch: &[Step]| epoch.iter().map(|step| f64::from(step.loss)).sum::<f64>() / epoch.len() as f64;
    curve.chunk_by(|a, b| a.epoch == b.epoch).map(mean).collect()
}

struct Watch<'a> {
    path: PathBuf,
    key: &'a str,
    context: &'a Context<'a>,
    begun: bool,
}

impl Observer for Watch<'_> {
    fn stepped(&mut self, step: Step, done: usize, of: usize) {
        if !self.begun {
            self.context.progress().begin("teaching the encoder", of);
            self.begun = true;
        }
        self.context.progress().advance(done, &format!("epoch {} loss {:.4}", step.epoch + 1, step.loss));
    }

    fn epoch_ended(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let texts = BTreeMap::from([("key".to_owned(), self.key.to_owned())]);
        disk::write_atomic(&self.path, &checkpoint.to_bytes(&texts)?)
    }

    fn cancelled(&self) -> bool {
        self.context.is_cancelled()
    }
}

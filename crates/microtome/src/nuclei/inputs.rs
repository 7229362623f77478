//! The pictures of a run: read once, checked, and those that cannot be used put aside with the reason.

use super::config::{ConfigFile, Method};
use super::slide::{self, input::SlideWork};
use super::teaching::training_sample;
use crate::context::Context;
use crate::slides::own_tissue::OwnTissue;
use microtome_kernels::stain::optical_density;
use microtome_slide::picture::ReadSettings;
use microtome_slide::{MicronsPerPixel, Picture, Size, read_picture};
use microtome_vault::{Error, Fault, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Smallest side of a picture that can hold nuclei, in pixels: 4 µm at 0.25 µm/px.
const SMALLEST_SIDE_PX: usize = 16;
/// A picture none of whose pixels is darker than this in any colour has no tissue.
const LEAST_OPTICAL_DENSITY: f32 = 0.1;

/// A picture that can be worked on, without its pixels.
#[derive(Clone, Debug)]
pub struct Input {
    /// Name of the file without folder and extension: what its results are named after.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Extent.
    pub size: Size,
    /// Resolution: what the user states, else what the file states.
    pub mpp: Option<MicronsPerPixel>,
    /// What was not taken as it is in the file.
    pub warnings: Vec<String>,
    /// A person's own tissue, of a slide for which there is one.
    pub tissue: Option<OwnTissue>,
    /// How it is worked on, if it is a slide; then `sha256` is that of its length and ends only.
    pub slide: Option<SlideWork>,
}

/// What a person states of all pictures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stated<'a> {
    /// Their resolution.
    pub mpp: Option<MicronsPerPixel>,
    /// The file with the tissue of the slide, or a folder with a file for each.
    pub tissue: Option<&'a Path>,
}

impl Stated<'_> {
    /// # Errors
    /// `Usage` when the tissue of one slide is given for none or several.
    fn check(self, slides: usize) -> Result<()> {
        let Some(tissue) = self.tissue else { return Ok(()) };
        match slides {
            0 => Err(Error::usage("tissue is stated, and no slide is named: pictures are worked on whole")
                .at(tissue)),
            1 => Ok(()),
            _ if tissue.is_dir() => Ok(()),
            _ => Err(Error::usage(format!("the tissue of one slide is stated for {slides} slides"))
                .advise("name a folder with a file for each slide, of the slide's name")
                .at(tissue)),
        }
    }
}

/// A picture that cannot be worked on.
#[derive(Debug)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: Error,
}

/// Windows of slides that are trained on, at most.
const MOST_WINDOWS: usize = 32;
/// Windows of one slide that are trained on, at least.
const FEWEST_WINDOWS: usize = 4;

/// What a method learns from.
pub struct Schooling {
    /// Pictures, and windows of slides.
    pub pictures: Vec<Picture>,
    /// What each belongs to: windows of one slide to the same, a picture to itself. In order.
    pub groups: Vec<usize>,
}

impl Schooling {
    /// Pictures, each its own group.
    pub fn of(pictures: Vec<Picture>) -> Self {
        let groups = (0..pictures.len()).collect();
        Self { pictures, groups }
    }

    fn add_slide(&mut self, windows: Vec<Picture>) {
        let group = self.groups.last().map_or(0, |last| last + 1);
        self.groups.extend(windows.iter().map(|_| group));
        self.pictures.extend(windows);
    }

    /// The pictures of each group.
    pub fn grouped(&self) -> impl Iterator<Item = &[Picture]> {
        let mut rest = self.pictures.as_slice();
        self.groups.chunk_by(|a, b| a == b).map(move |group| {
            let (now, later) = rest.split_at(group.len());
            rest = later;
            now
        })
    }
}

/// All pictures of a run.
pub struct Inputs {
    /// Those that can be worked on, in the order in which they were given.
    pub usable: Vec<Input>,
    /// The others.
    pub skipped: Vec<Skipped>,
    mpp: Option<MicronsPerPixel>,
}

impl Inputs {
    /// Reads and checks every picture, several at a time.
    ///
    /// # Errors
    /// When none can be used: the first one's error; `Cancelled`.
    pub fn survey(
        paths: &[PathBuf],
        stated: Stated<'_>,
        config: &ConfigFile,
        context: &Context<'_>,
    ) -> Result<Self> {
        context.progress().begin("reading", paths.len());
        let done = std::sync::atomic::AtomicUsize::new(0);
        let surveyed: Vec<Result<Input>> = paths
            .par_iter()
            .map(|path| {
                context.check_cancelled()?;
                let input = survey_one(path, stated, config, context);
                let done = 1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                context.progress().advance(done, "");
                input
            })
            .collect();
        context.progress().end();
        context.check_cancelled()?;
        let inputs = Self::sort(paths, surveyed, stated.mpp, context)?;
        stated.check(inputs.slides().count())?;
        Ok(inputs)
    }

    fn sort(
        paths: &[PathBuf],
        surveyed: Vec<Result<Input>>,
        mpp: Option<MicronsPerPixel>,
        context: &Context<'_>,
    ) -> Result<Self> {
        let mut inputs = Self { usable: Vec::new(), skipped: Vec::new(), mpp };
        for (path, input) in paths.iter().zip(surveyed) {
            match input {
                Ok(input) => inputs.usable.push(input),
                Err(error) => inputs.skipped.push(Skipped { path: path.clone(), error }),
            }
        }
        if inputs.usable.is_empty() {
            let count = inputs.skipped.len();
            let first = inputs.skipped.into_iter().next().map(|skipped| skipped.error);
            let first = first.unwrap_or_else(|| Error::usage("no picture is named"));
            return Err(if count > 1 { none_usable(count, &first) } else { first });
        }
        for skipped in &inputs.skipped {
            context.warn(format!("skipped, the others go on: {}", skipped.error));
        }
        Ok(inputs)
    }

    /// Reads one of the pictures again, as the first time.
    ///
    /// # Errors
    /// Those of reading; `Input` when the file has changed.
    pub fn read(&self, input: &Input, context: &Context<'_>) -> Result<Picture> {
        let mut picture = read_picture(&input.path, &ReadSettings { budget: context.budget })?;
        if picture.sha256 != input.sha256 {
            return Err(Error::input("the picture changed while the run was going on").at(&input.path));
        }
        picture.mpp = self.mpp.or(picture.mpp);
        Ok(picture)
    }

    /// The pictures that are trained on: all, or where they would not fit in memory a sample; and windows of slides.
    ///
    /// # Errors
    /// Those of reading.
    pub fn to_train_on(&self, context: &Context<'_>) -> Result<Schooling> {
        let chosen = self.chosen_to_train_on(context.seed);
        let all = self.usable.iter().filter(|input| input.slide.is_none()).count();
        if chosen.len() < all {
            let chosen = chosen.len();
            context
                .warn(format!("training takes a sample of {chosen} of {all} pictures, which fit in memory"));
        }
        let pictures: Vec<Picture> =
            chosen.par_iter().map(|input| self.read(input, context)).collect::<Result<_>>()?;
        let mut schooling = Schooling::of(pictures);
        let slides: Vec<(&Input, SlideWork)> =
            self.usable.iter().filter_map(|input| Some((input, input.slide?))).collect();
        let each = (MOST_WINDOWS / slides.len().max(1)).max(FEWEST_WINDOWS);
        // Of many slides a few are learned from.
        let every = (slides.len() * each).div_ceil(MOST_WINDOWS.max(each)).max(1);
        for (number, (input, work)) in slides.into_iter().step_by(every).enumerate() {
            let seed = context.seed.wrapping_add(number as u64);
            schooling.add_slide(slide::windows::of_input(input, work, (each, seed), context)?);
        }
        if schooling.pictures.is_empty() {
            return Err(Error::input("there is no tissue to learn from"));
        }
        Ok(schooling)
    }

    /// Which pictures are trained on, in their order.
    pub fn chosen_to_train_on(&self, seed: u64) -> Vec<&Input> {
        let pictures: Vec<&Input> = self.usable.iter().filter(|input| input.slide.is_none()).collect();
        let bytes: Vec<u64> = pictures.iter().map(|input| 3 * input.size.area_px() as u64).collect();
        training_sample(&bytes, seed).into_iter().map(|index| pictures[index]).collect()
    }

    /// Slides whose windows may be trained on.
    pub fn slides(&self) -> impl Iterator<Item = &Input> {
        self.usable.iter().filter(|input| input.slide.is_some())
    }

    /// Names, contents and resolutions of all pictures, as one text.
    pub fn identity(&self) -> String {
        let line = |input: &Input| {
            let mpp = input.mpp.map_or(String::new(), |mpp| mpp.microns().to_string());
            let tissue = input.tissue.as_ref().map_or(String::new(), |own| format!(" {}", own.sha256));
            format!("{} {} {mpp}{tissue}\n", input.name, input.sha256)
        };
        self.usable.iter().map(line).collect()
    }
}

fn none_usable(count: usize, first: &Error) -> Error {
    Error::new(first.fault(), format!("none of the {count} pictures can be used; the first: {first}"))
}

fn survey_one(path: &Path, stated: Stated<'_>, config: &ConfigFile, context: &Context<'_>) -> Result<Input> {
    if let Some(input) = slide::input::survey(path, stated, context)? {
        return Ok(input);
    }
    let picture = read_picture(path, &ReadSettings { budget: context.budget })?;
    check(&picture, config).map_err(|error| error.at(path))?;
    let Picture { name, path, size, sha256, warnings, .. } = picture;
    Ok(Input {
        name,
        path,
        sha256,
        size,
        mpp: stated.mpp.or(picture.mpp),
        warnings,
        tissue: None,
        slide: None,
    })
}

/// Whether nuclei can be sought in a picture at all.
fn check(picture: &Picture, config: &ConfigFile) -> Result<()> {
    let side = picture.size.width_px.min(picture.size.height_px);
    if side < SMALLEST_SIDE_PX {
        return Err(Error::input(format!("the picture is {} px, too small to hold a nucleus", picture.size))
            .advise(format!("pictures need at least {SMALLEST_SIDE_PX} px on each side")));
    }
    let crop_px = config.contrastive().crop_px;
    if config.method == Method::Contrastive && side < crop_px {
        return Err(Error::new(
            Fault::Input,
            format!("the picture is {} px, smaller than the training crop of {crop_px} px", picture.size),
        )
        .advise(format!("ask for smaller crops: --contrastive-crop-px {side} (or less)")));
    }
    if is_blank(picture) {
        return Err(Error::input("the picture is blank: no pixel is stained, or all are the same")
            .advise("give a picture of tissue stained with haematoxylin and eosin"));
    }
    Ok(())
}

fn is_blank(picture: &Picture) -> bool {
    let stained = |value: &u8| optical_density(*value) >= LEAST_OPTICAL_DENSITY;
    let all_equal = picture.rgb.chunks_exact(3).all(|pixel| pixel == &picture.rgb[..3]);
    all_equal || !picture.rgb.iter().any(stained)
}

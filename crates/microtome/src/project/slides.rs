//! The slides and pictures of a project.

use super::database::Database;
use crate::context::Context;
use crate::slides::fingerprint::fingerprint;
use microtome_slide::find::name_of;
use microtome_slide::{MicronsPerPixel, Size, Slide};
use microtome_vault::{Error, Result};
use std::path::{Path, PathBuf};

/// A slide, or a picture, of a project.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectSlide {
    /// What its artefacts are named after: the file's name without folder and extension.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file's length and both its ends.
    pub sha256: String,
    /// Extent of level 0.
    pub size: Size,
    /// Resolution of level 0, if it is known.
    pub mpp: Option<MicronsPerPixel>,
}

impl ProjectSlide {
    /// Opens the file.
    ///
    /// # Errors
    /// `Input` when it is missing, or another than the one that was added; those of opening.
    pub fn open(&self, context: &Context<'_>) -> Result<Slide> {
        if fingerprint(&self.path)? != self.sha256 {
            return Err(Error::input("the slide is not the one that was added to the project")
                .advise("put the old file back, or add this one under another name")
                .at(&self.path));
        }
        Slide::open(&self.path, context.budget)
    }
}

/// What became of files that were to be added.
#[derive(Debug)]
pub struct Added {
    /// Those that are new.
    pub new: usize,
    /// Those that were there.
    pub known: usize,
    /// Those that cannot be used, and why.
    pub skipped: Vec<(PathBuf, Error)>,
}

/// Adds files to the project's slides.
///
/// # Errors
/// `Usage` when another slide has the name; when no file can be used: the first one's error; `Cancelled`.
pub(super) fn add(database: &mut Database, paths: &[PathBuf], context: &Context<'_>) -> Result<Added> {
    let known = database.slides()?;
    let (mut slides, mut skipped) = (Vec::new(), Vec::new());
    context.progress().begin("reading", paths.len());
    for (done, path) in paths.iter().enumerate() {
        context.check_cancelled()?;
        match survey(path, context) {
            Ok(slide) => slides.push(slide),
            Err(error) => {
                context.warn(format!("skipped, the others go on: {error}"));
                skipped.push((path.clone(), error));
            }
        }
        context.progress().advance(done + 1, "");
    }
    context.progress().end();
    if slides.is_empty() {
        let first = skipped.into_iter().next().map(|(_, error)| error);
        return Err(first.unwrap_or_else(|| Error::usage("no slide is named")));
    }
    let (mut new, mut again): (Vec<ProjectSlide>, usize) = (Vec::new(), 0);
    for slide in slides {
        match known.iter().chain(&new).find(|other| other.name == slide.name) {
            None => new.push(slide),
            Some(other) if other.sha256 == slide.sha256 => again += 1,
            Some(other) => {
                let advice = format!("rename one: the other is {}", other.path.display());
                return Err(Error::usage(format!("two slides are named “{}”", slide.name))
                    .advise(advice)
                    .at(&slide.path));
            }
        }
    }
    database.add_slides(&new)?;
    Ok(Added { new: new.len(), known: again, skipped })
}

fn survey(path: &Path, context: &Context<'_>) -> Result<ProjectSlide> {
    let slide = Slide::open(path, context.budget)?;
    let absolute = std::path::absolute(path).map_err(|error| Error::io("finding", &error).at(path))?;
    Ok(ProjectSlide {
        name: name_of(path),
        sha256: fingerprint(path)?,
        size: slide.levels[0].size,
        mpp: slide.mpp,
        path: absolute,
    })
}

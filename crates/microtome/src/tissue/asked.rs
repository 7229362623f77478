//! What a query needs besides its settings: a dictionary and slides, of a project or from files.

use super::clusters::Clusters;
use super::dictionary::Dictionary;
use super::embed::OfSlide;
use super::look::Look;
use super::query::QuerySettings;
use super::query::kept::{Keeper, MOST_BYTES_OF_ALL};
use super::{embed, pretrain, tiles};
use crate::context::Context;
use crate::project::Project;
use crate::project::key::Key;
use crate::project::slides::ProjectSlide;
use crate::slides::fingerprint::fingerprint;
use microtome_slide::MicronsPerPixel;
use microtome_slide::find::name_of;
use microtome_vault::checksum::{sha256_file, sha256_hex};
use microtome_vault::{Error, Result, disk};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file of a project's dictionary.
const FILE: &str = "dictionary.safetensors";

/// A slide that is asked about.
pub struct Asked {
    /// What its files are called.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its length and ends.
    pub sha256: String,
    /// Resolution of level 0, over what the file says.
    pub mpp: Option<MicronsPerPixel>,
    /// How it looks, if that is known.
    pub look: Option<Look>,
    /// Its tiles, where their vectors were imported.
    pub imported: Option<OfSlide>,
}

/// A dictionary, and whom it is asked about.
pub struct Inquiry {
    /// The dictionary.
    pub dictionary: Dictionary,
    /// SHA-256 of its file.
    pub sha256: String,
    /// The slides.
    pub slides: Vec<Asked>,
    /// Where a project keeps what it sees.
    pub kept: Option<Kept>,
}

/// Where a project keeps what it sees of its slides.
pub struct Kept {
    folder: PathBuf,
    clusters_key: String,
    /// Of all clusters, by level.
    centroids: BTreeMap<usize, Vec<f32>>,
    /// Bytes that there is room for.
    room: Cell<u64>,
}

impl Kept {
    /// That of one slide.
    pub fn of<'a>(&'a self, slide: &Asked, settings: &QuerySettings) -> Keeper<'a> {
        let kind = format!("{}{}", settings.method.name(), settings.level);
        let key = Key::of("kept", 1)
            .with("clusters", &self.clusters_key)
            .with("slide", &slide.sha256)
            .with("mpp", slide.mpp.map_or(String::new(), |mpp| mpp.microns().to_string()))
            .finish();
        let path = self.folder.join(kind).join(format!("{}.zarr", slide.name));
        Keeper { path, key, centroids: &self.centroids, room: &self.room }
    }
}

/// Writes a project's dictionary, as it is named now, into its models; gives it with the SHA-256 of its file.
///
/// # Errors
/// As [`Dictionary::of_project`]; `Io`.
pub(super) fn keep_dictionary(
    project: &Project,
    clusters: &Clusters,
    context: &Context<'_>,
) -> Result<(Dictionary, String)> {
    let dictionary = Dictionary::of_project(project, clusters, context)?;
    let bytes = dictionary.to_bytes(&pretrain::encoder_bytes(project)?)?;
    let (path, sha256) = (project.model(FILE), sha256_hex(&bytes));
    if !path.is_file() || sha256_file(&path)? != sha256 {
        disk::write_atomic(&path, &bytes)?;
    }
    Ok((dictionary, sha256))
}

/// Takes away a project's dictionary: its clusters have no names any more.
///
/// # Errors
/// `Io`.
pub(super) fn forget_dictionary(project: &Project) -> Result<()> {
    disk::remove_file(project.model(FILE))
}

/// A project's dictionary, which is written into its models, and its slides.
///
/// # Errors
/// As [`Dictionary::of_project`].
pub fn of_project(project: &Project, clusters: &Clusters, context: &Context<'_>) -> Result<Inquiry> {
    let (dictionary, sha256) = keep_dictionary(project, clusters, context)?;
    let mut slides = Vec::new();
    for slide in project.slides()? {
        let list = tiles::read(project, &slide, context)?;
        let look = match list.filter(|list| !list.corners_px.is_empty()) {
            Some(list) => Some(embed::look(project, &slide, &list, &dictionary.encoder)?),
            None => None,
        };
        let imported = match dictionary.encoder.is_imported() {
            true => OfSlide::of(project, &slide, &dictionary.encoder, context)?,
            false => None,
        };
        let ProjectSlide { name, path, sha256, mpp, .. } = slide;
        slides.push(Asked { name, path, sha256, mpp, look, imported });
    }
    let folder = project.root.join("arrays").join("cosines");
    let kept = Kept {
        room: Cell::new(MOST_BYTES_OF_ALL.saturating_sub(disk::size_of_folder(&folder))),
        folder,
        clusters_key: clusters.key.clone(),
        centroids: clusters.centroids_by_level(&dictionary.encoder),
    };
    Ok(Inquiry { dictionary, sha256, slides, kept: Some(kept) })
}

/// A dictionary's file, and slides that need be in no project.
///
/// # Errors
/// Those of reading the dictionary; `Usage` when two slides have one name.
pub fn of_files(
    dictionary: &Path,
    files: &[PathBuf],
    mpp: Option<MicronsPerPixel>,
    context: &Context<'_>,
) -> Result<Inquiry> {
    let (own, sha256) = (Dictionary::read(dictionary)?, sha256_file(dictionary)?);
    own.encoder.check_sees().map_err(|error| error.at(dictionary))?;
    if own.is_oracle_named {
        context.warn(
            "the dictionary was named by an oracle, from masks that people drew: this is an experiment",
        );
    }
    let mut slides: Vec<Asked> = Vec::new();
    for path in files {
        let name = name_of(path);
        if slides.iter().any(|slide| slide.name == name) {
            return Err(Error::usage(format!("two slides are named “{name}”"))
                .advise("ask about one at a time")
                .at(path));
        }
        slides.push(Asked {
            name,
            path: path.clone(),
            sha256: fingerprint(path)?,
            mpp,
            look: None,
            imported: None,
        });
    }
    Ok(Inquiry { dictionary: own, sha256, slides, kept: None })
}

//! A project: a folder that a person can look into and copy, with slides, what was decided about them, and what was
//! computed from them.
//!
//! ```text
//! slides.microtome/
//!   microtome.toml      what a person decides: classes and colours, tiles, encoder, clusters
//!   project.sqlite      slides, and every naming of a cluster with who and when
//!   arrays/*.zarr       tiles, embeddings, clusters: what zarr-python opens
//!   models/             the encoder's weights and the dictionary, each with a record beside it
//! ```
//!
//! What is computed records the key of what it was made from ([`key`]): a stage that finds its artefact with the right key
//! does nothing, so that running again is resuming. One process at a time changes a project.
//!
//! Reading order: [`settings`], [`database`], [`slides`], [`key`].

pub mod database;
pub mod key;
pub mod settings;
pub mod slides;

use crate::context::Context;
use database::Database;
use microtome_vault::lock::FolderLock;
use microtome_vault::{Error, Result, disk};
use settings::Settings;
use std::path::{Path, PathBuf};

/// An open project, for this process alone.
#[derive(Debug)]
pub struct Project {
    /// Its folder.
    pub root: PathBuf,
    /// What a person decided.
    pub settings: Settings,
    /// What people did.
    pub database: Database,
    _lock: FolderLock,
}

impl Project {
    /// Makes a project in a folder that does not exist or is empty.
    ///
    /// # Errors
    /// `Usage` when something is there, or the classes cannot be; `Io`.
    pub fn init(root: &Path, settings: Settings) -> Result<Self> {
        settings.check()?;
        if settings::path_in(root).exists() {
            return Err(Error::usage("there is a project already").at(root));
        }
        if root.is_dir() && root.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::usage("the folder holds something else").advise("name a new folder").at(root));
        }
        disk::create_folder_all(root)?;
        let lock = FolderLock::acquire(root, "microtome project init")?;
        for folder in ["arrays", "models"] {
            disk::create_folder_all(root.join(folder))?;
        }
        let database = Database::create(root)?;
        // Last: a folder with this file is a project.
        settings.write(root)?;
        Ok(Self { root: root.to_owned(), settings, database, _lock: lock })
    }

    /// Opens a project. `holder` is the command that has it from now on.
    ///
    /// # Errors
    /// `Usage` when there is none, or another process has it; `Input` when it is damaged, or of a newer version.
    pub fn open(root: &Path, holder: &str) -> Result<Self> {
        if !settings::path_in(root).is_file() {
            let advice = format!("make one with `microtome project init {}`", root.display());
            return Err(Error::usage("there is no project in this folder").advise(advice).at(root));
        }
        let lock = FolderLock::acquire(root, holder)?;
        for folder in [root.to_owned(), root.join("models")] {
            disk::remove_leftovers(folder)?;
        }
        let settings = Settings::read(root)?;
        let database = Database::open(root)?;
        Ok(Self { root: root.to_owned(), settings, database, _lock: lock })
    }

    /// What a person decides from now on; kept by [`Self::keep_settings`], once it was seen to work.
    ///
    /// # Errors
    /// `Usage` when it cannot be.
    pub fn with_settings(self, settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, ..self })
    }

    /// Writes the settings into the project.
    ///
    /// # Errors
    /// `Io`.
    pub fn keep_settings(&self) -> Result<()> {
        match Settings::read(&self.root)? == self.settings {
            true => Ok(()),
            false => self.settings.write(&self.root),
        }
    }

    /// Where the arrays of a kind lie, one group a slide.
    pub fn array_of(&self, kind: &str, slide: &str) -> PathBuf {
        self.root.join("arrays").join(kind).join(format!("{slide}.zarr"))
    }

    /// Where an array that belongs to all slides lies.
    pub fn array(&self, name: &str) -> PathBuf {
        self.root.join("arrays").join(format!("{name}.zarr"))
    }

    /// Where a model lies.
    pub fn model(&self, name: &str) -> PathBuf {
        self.root.join("models").join(name)
    }

    /// The slides.
    ///
    /// # Errors
    /// `Usage` when there are none.
    pub fn slides(&self) -> Result<Vec<slides::ProjectSlide>> {
        let slides = self.database.slides()?;
        if slides.is_empty() {
            return Err(Error::usage("the project has no slides yet")
                .advise(format!("add some with `microtome project add {} FILES`", self.root.display())));
        }
        Ok(slides)
    }

    /// Adds slides and pictures; gives how many are new.
    ///
    /// # Errors
    /// When none can be used: the first one's error; `Cancelled`.
    pub fn add(&mut self, paths: &[PathBuf], context: &Context<'_>) -> Result<slides::Added> {
        slides::add(&mut self.database, paths, context)
    }
}

//! The output folder of a run: who may write there, and what is already done.
//!
//! `OUT/.microtome/run.json` says which run the folder belongs to: inputs, config, seed. The same run goes on where it
//! stopped; another is refused, and so is a folder with anything else in it. `OUT/.microtome/pictures/NAME.json` is
//! written last for each picture and says that its files are complete.

use microtome_vault::lock::{FolderLock, LOCK_NAME};
use microtome_vault::{Budget, Error, Result, checksum, disk};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Folder of what a run needs to go on.
const STATE: &str = ".microtome";
/// Largest state file that is read.
const LARGEST_STATE: Budget = Budget::of_bytes(512 << 20);
/// Version of the state's files; another version's runs are not continued.
const STATE_VERSION: u32 = 2;

/// The output folder, held by this process.
pub struct RunFolder {
    out: PathBuf,
    key: String,
    _lock: FolderLock,
}

#[derive(Serialize, Deserialize)]
struct Owner {
    state_version: u32,
    key: String,
    what: String,
}

/// What is kept of a picture that is done (on disk, version [`STATE_VERSION`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PictureDone {
    /// SHA-256 of the picture's file.
    pub sha256: String,
    /// Its rows of `nuclei.csv`, of a picture.
    pub rows: String,
    /// The file of these rows, of a slide: its name in [`RunFolder::slides_state`].
    pub rows_file: Option<String>,
    /// Number of nuclei.
    pub nuclei: usize,
    /// Pixels that were examined: all, or those of the tissue.
    pub examined_px: f64,
    /// Area of each nucleus, or of an even sample of them, in pixels.
    pub areas_px: Vec<usize>,
    /// Mean confidence of its nuclei.
    pub mean_confidence: Option<f64>,
    /// The label map's file, from the output folder, if there is one that Python's usual libraries open.
    pub labels: Option<String>,
    /// All its files, from the output folder.
    pub files: Vec<String>,
    /// What is odd about the result.
    pub warnings: Vec<String>,
    /// Picture, confidence and overlay in small, as base64 of PNG, for those that the report shows.
    pub thumbnails: Option<[String; 3]>,
}

impl RunFolder {
    /// Takes the folder for the run that `identity` (every input, value and seed) and `what` (for people) describe.
    ///
    /// # Errors
    /// `Usage` when the folder belongs to another run, holds anything else, or another process works there; `Io` when it
    /// cannot be written.
    pub fn take(out: &Path, identity: &str, what: &str) -> Result<Self> {
        let key = checksum::sha256_hex(identity.as_bytes());
        let owner_path = out.join(STATE).join("run.json");
        match disk::read_file_bounded(&owner_path, LARGEST_STATE).ok() {
            Some(_) if is_untouched(out) => (),
            Some(bytes) => check_owner(&bytes, &key, out)?,
            None => check_empty(out)?,
        }
        disk::create_folder_all(out.join(STATE).join("pictures"))?;
        let lock = FolderLock::acquire(out.join(STATE), what)?;
        let owner = Owner { state_version: STATE_VERSION, key: key.clone(), what: what.to_owned() };
        disk::write_atomic(&owner_path, &to_json(&owner)?)?;
        let parts = [STATE, ".microtome/pictures", ".microtome/slides"];
        for part in ["", "labels", "confidence", "overlays", "geojson", "density"].into_iter().chain(parts) {
            disk::create_folder_all(out.join(part))?;
            disk::remove_leftovers(out.join(part))?;
        }
        Ok(Self { out: out.to_owned(), key, _lock: lock })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.out
    }

    /// Identifies the run.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the checkpoints of its training lie.
    pub fn training(&self) -> PathBuf {
        self.out.join(STATE).join("training")
    }

    /// Where what is known of slides lies.
    pub fn slides_state(&self) -> PathBuf {
        self.out.join(STATE).join("slides")
    }

    /// Where the records of the tiles of a slide lie.
    pub fn slide_state(&self, name: &str) -> PathBuf {
        self.slides_state().join(format!("{name}.tiles"))
    }

    /// The rows of a picture or slide, in pieces.
    pub fn rows<'a>(&self, done: &'a PictureDone) -> Box<dyn Iterator<Item = Result<Cow<'a, [u8]>>> + 'a> {
        match &done.rows_file {
            None => Box::new(std::iter::once(Ok(Cow::Borrowed(done.rows.as_bytes())))),
            Some(file) => Box::new(pieces(self.slides_state().join(file))),
        }
    }

    fn done_path(&self, name: &str) -> PathBuf {
        self.out.join(STATE).join("pictures").join(format!("{name}.json"))
    }

    /// What is kept of a picture, if it is done and its files are still there.
    pub fn done(&self, name: &str, sha256: &str) -> Option<PictureDone> {
        let bytes = disk::read_file_bounded(self.done_path(name), LARGEST_STATE).ok()?;
        let done: PictureDone = serde_json::from_slice(&bytes).ok()?;
        let rows = done.rows_file.iter().map(|file| self.slides_state().join(file));
        let is_whole =
            done.files.iter().map(|file| self.out.join(file)).chain(rows).all(|file| file.exists());
        (done.sha256 == sha256 && is_whole).then_some(done)
    }

    /// Notes that a picture's files are complete.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub fn note_done(&self, name: &str, done: &PictureDone) -> Result<()> {
        disk::write_atomic(self.done_path(name), &to_json(done)?)
    }

    /// Writes a file of the state that is no picture's.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub fn write_state<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        disk::write_atomic(self.out.join(STATE).join(name), &to_json(value)?)
    }

    /// Reads what [`Self::write_state`] wrote, if it is there and whole.
    pub fn read_state<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Option<T> {
        let bytes = disk::read_file_bounded(self.out.join(STATE).join(name), LARGEST_STATE).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// The content of a file, a megabyte at a time.
fn pieces<'a>(path: PathBuf) -> impl Iterator<Item = Result<Cow<'a, [u8]>>> {
    let mut file = Some(disk::open_file(&path));
    std::iter::from_fn(move || {
        let mut opened = match file.take()? {
            Ok(opened) => opened,
            Err(error) => return Some(Err(error)),
        };
        let mut piece = Vec::new();
        match (&mut opened).take(1 << 20).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => {
                file = Some(Ok(opened));
                Some(Ok(Cow::Owned(piece)))
            }
            Err(error) => Some(Err(Error::io("reading", &error).at(&path))),
        }
    })
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::bug(format!("the run's state is not writable ({error})")))
}

fn check_owner(bytes: &[u8], key: &str, out: &Path) -> Result<()> {
    let owner: Option<Owner> = serde_json::from_slice(bytes).ok();
    match owner {
        Some(owner) if owner.state_version == STATE_VERSION && owner.key == key => Ok(()),
        owner => {
            let what =
                owner.map_or_else(|| "that cannot be read".to_owned(), |owner| format!("({})", owner.what));
            Err(Error::usage(format!("the output folder holds another run {what}")).at(out).advise(
                "other pictures, values, seed or version make another run: choose another --out, or delete this one",
            ))
        }
    }
}

/// Whether the run that took the folder has left nothing in it, as one that failed at once: another may have it.
fn is_untouched(out: &Path) -> bool {
    let state = out.join(STATE);
    let ours = [state.join("run.json"), state.join(LOCK_NAME), out.join(LOCK_NAME)];
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ if ours.contains(&entry.path()) => (),
                _ => return false,
            }
        }
    }
    true
}

fn check_empty(out: &Path) -> Result<()> {
    match std::fs::read_dir(out) {
        Ok(entries) => {
            let foreign = entries
                .flatten()
                .map(|entry| entry.file_name())
                .find(|name| name.as_os_str() != LOCK_NAME && name.as_os_str() != STATE);
            match foreign {
                None => Ok(()),
                Some(name) => Err(Error::usage(format!(
                    "the output folder is not empty and not of a run (it holds {})",
                    name.display()
                ))
                .at(out)
                .advise("choose a new folder; nothing in this one was touched")),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            let what =
                if out.exists() { "the output is a file" } else { "the output would lie below a file" };
            Err(Error::usage(format!("{what}, not a folder")).at(out).advise("choose another --out"))
        }
        Err(error) => Err(Error::io("listing the output folder", &error).at(out)),
    }
}

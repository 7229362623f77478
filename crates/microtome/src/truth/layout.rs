//! Which truth belongs to which prediction: files pair by name without extension.
//!
//! Truth lies in a plain folder of .png, .tif, .xml or .mat files, or as in TNBC (Naylor et al. 2018), where
//! `GT_01/01_3.png` is the truth of `Slide_01/01_3.png`. Where a name has annotations (.xml, .mat) beside a
//! picture, as in MoNuSeg, the annotations are the truth.

use std::path::{Path, PathBuf};

use microtome_vault::{Error, Result};

const PICTURES: [&str; 3] = ["png", "tif", "tiff"];
const ANNOTATIONS: [&str; 2] = ["xml", "mat"];
/// Folder of a run's output that holds its label maps.
const LABELS_FOLDER: &str = "labels";
/// Folder of a query's output that holds its masks.
const MASKS_FOLDER: &str = "masks";
/// How many missing partners an error names.
const NAMES_SHOWN: usize = 5;

/// The truth of one picture, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthFile {
    /// The picture's name, without folder and extension.
    pub name: String,
    /// Where the truth is.
    pub path: PathBuf,
}

/// A prediction and its truth, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The picture's name, without folder and extension.
    pub name: String,
    /// The predicted label map.
    pub predicted: PathBuf,
    /// The truth.
    pub truth: PathBuf,
}

/// Truth files of a folder, or the one file that is given, by ascending name. Hidden files are passed over.
///
/// # Errors
/// `Input` for a folder that does not exist, has no truth, or two truths of one name; `Io`.
pub fn find_truths(folder: impl AsRef<Path>) -> Result<Vec<TruthFile>> {
    let folder = folder.as_ref();
    let mut found = annotations_first(files_of(folder, &[&PICTURES[..], &ANNOTATIONS].concat())?);
    if found.is_empty() {
        for part in entries_of(folder)?.iter().filter(|part| is_tnbc_folder(part)) {
            found.extend(files_of(part, &["png"])?);
        }
    }
    if found.is_empty() {
        let help = "give a folder of .png, .tif, .xml or .mat files, or one with folders GT_01, GT_02 …";
        return Err(Error::input("no truth was found").at(folder).advise(help));
    }
    unique(found)
}

/// Pairs each prediction with the truth of its name, by ascending name. `predicted` is a folder of label
/// maps, or a run's folder that has them in `labels`; two single files pair whatever their names.
///
/// # Errors
/// `Input` when a folder is missing or empty, when two files have one name, or when a prediction or a truth
/// is without partner: the error names it.
pub fn pair(predicted: &Path, truth: &Path) -> Result<Vec<Pair>> {
    let predictions = find_predictions(predicted)?;
    let truths = find_truths(truth)?;
    if let ([prediction], [only_truth], true) =
        (&predictions[..], &truths[..], predicted.is_file() && truth.is_file())
    {
        return Ok(vec![joined(prediction, only_truth)]);
    }
    let without = |files: &[TruthFile], partners: &[TruthFile]| -> Vec<String> {
        let lonely = files.iter().filter(|file| partner_of(file, partners).is_none());
        lonely.map(|file| file.name.clone()).collect()
    };
    let (no_prediction, no_truth) = (without(&truths, &predictions), without(&predictions, &truths));
    if !no_prediction.is_empty() || !no_truth.is_empty() {
        return Err(lonely_error(&no_prediction, &no_truth).at(predicted));
    }
    let pairs =
        predictions.iter().filter_map(|file| partner_of(file, &truths).map(|truth| joined(file, truth)));
    Ok(pairs.collect())
}

/// Pairs each mask with the truth of its name, and says what was passed over: truth without a mask. `predicted` is a folder
/// of masks, or one that has them in `masks`; two single files pair whatever their names.
///
/// # Errors
/// `Input` when a folder is missing or empty, when two files have one name, or when a mask has no truth.
pub fn pair_masks(predicted: &Path, truth: &Path) -> Result<(Vec<Pair>, Vec<String>)> {
    let masks = predicted.join(MASKS_FOLDER);
    let folder = if masks.is_dir() { masks.as_path() } else { predicted };
    let predictions = files_of(folder, &PICTURES)?;
    if predictions.is_empty() {
        return Err(Error::input("no mask was found")
            .at(folder)
            .advise("give the folder of a query, or its masks"));
    }
    let (predictions, truths) = (unique(predictions)?, find_truths(truth)?);
    if let ([prediction], [only_truth], true) = (&predictions[..], &truths[..], predicted.is_file()) {
        return Ok((vec![joined(prediction, only_truth)], Vec::new()));
    }
    let lonely: Vec<String> = predictions
        .iter()
        .filter(|file| partner_of(file, &truths).is_none())
        .map(|file| file.name.clone())
        .collect();
    if !lonely.is_empty() {
        return Err(lonely_error(&[], &lonely).at(predicted));
    }
    let pairs: Vec<Pair> = predictions
        .iter()
        .filter_map(|file| partner_of(file, &truths).map(|truth| joined(file, truth)))
        .collect();
    let unused = truths.len() - pairs.len();
    let note = (unused > 0)
        .then(|| format!("{unused} of {} truths have no mask and were passed over", truths.len()));
    Ok((pairs, note.into_iter().collect()))
}

/// A file's name without folder and extension.
pub(crate) fn stem_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file's extension in lower case, without the dot.
pub(crate) fn extension_of(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

fn find_predictions(predicted: &Path) -> Result<Vec<TruthFile>> {
    let labels = predicted.join(LABELS_FOLDER);
    let folder = if labels.is_dir() { labels.as_path() } else { predicted };
    let found = files_of(folder, &PICTURES)?;
    if found.is_empty() {
        let help = "give the folder of a run, or one of .png or .tif label maps";
        return Err(Error::input("no predicted label map was found").at(folder).advise(help));
    }
    unique(found)
}

fn joined(prediction: &TruthFile, truth: &TruthFile) -> Pair {
    Pair { name: prediction.name.clone(), predicted: prediction.path.clone(), truth: truth.path.clone() }
}

/// `partners` are sorted by name.
fn partner_of<'a>(file: &TruthFile, partners: &'a [TruthFile]) -> Option<&'a TruthFile> {
    partners.binary_search_by(|partner| partner.name.cmp(&file.name)).ok().and_then(|at| partners.get(at))
}

fn lonely_error(no_prediction: &[String], no_truth: &[String]) -> Error {
    let clause = |names: &[String], lacks: &str| {
        let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(NAMES_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("without {lacks}: {shown}{more}")
    };
    let mut clauses = Vec::new();
    if !no_prediction.is_empty() {
        clauses.push(clause(no_prediction, "prediction"));
    }
    if !no_truth.is_empty() {
        clauses.push(clause(no_truth, "truth"));
    }
    Error::input(clauses.join("; "))
        .advise("names must be equal but for the extension, and both folders complete")
}

/// Files of a folder with one of the extensions; a path that is a file is taken as it is.
fn files_of(path: &Path, extensions: &[&str]) -> Result<Vec<TruthFile>> {
    let entries = if path.is_file() { vec![path.to_owned()] } else { entries_of(path)? };
    let wanted = |path: &PathBuf| extensions.contains(&extension_of(path).as_str()) && path.is_file();
    Ok(entries.into_iter().filter(wanted).map(|path| TruthFile { name: stem_of(&path), path }).collect())
}

/// What lies in a folder and is not hidden, by ascending path.
fn entries_of(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.is_file() {
        return Ok(Vec::new());
    }
    if !folder.is_dir() {
        return Err(Error::input("there is no such folder").at(folder));
    }
    let failed = |error: std::io::Error| Error::io("listing the folder", &error).at(folder);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(failed)?;
    let is_hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    Ok(paths)
}

fn is_tnbc_folder(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix("GT_").is_some_and(is_number) && path.is_dir()
}

/// Leaves out pictures whose name also has annotations.
fn annotations_first(files: Vec<TruthFile>) -> Vec<TruthFile> {
    let is_annotation = |file: &TruthFile| ANNOTATIONS.contains(&extension_of(&file.path).as_str());
    let mut annotated: Vec<String> =
        files.iter().filter(|&file| is_annotation(file)).map(|file| file.name.clone()).collect();
    annotated.sort();
    let stays = |file: &TruthFile| is_annotation(file) || annotated.binary_search(&file.name).is_err();
    files.into_iter().filter(stays).collect()
}

/// The files by ascending name, once no two have the same.
fn unique(mut files: Vec<TruthFile>) -> Result<Vec<TruthFile>> {
    files.sort_by(|one, other| (&one.name, &one.path).cmp(&(&other.name, &other.path)));
    let twins = files.windows(2).find(|pair| matches!(pair, [one, other] if one.name == other.name));
    if let Some([one, other]) = twins {
        let what = format!("two files of the name {:?}, the other is {}", one.name, other.path.display());
        return Err(Error::input(what).at(&one.path).advise("keep one of them"));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::disk;

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            disk::create_folder_all(path.parent().unwrap()).unwrap();
            disk::write_atomic(&path, b"").unwrap();
        }
        folder
    }

    fn names(truths: &[TruthFile]) -> Vec<String> {
        truths.iter().map(|truth| format!("{}:{}", truth.name, extension_of(&truth.path))).collect()
    }

    #[test]
    fn a_plain_folder_is_read_by_name_and_annotations_win() {
        let folder = folder_with(&["b.PNG", "a.tif", "a.xml", "c.mat", ".d.png", "e.txt", "f.png/x.txt"]);
        assert_eq!(names(&find_truths(folder.path()).unwrap()), ["a:xml", "b:png", "c:mat"]);
    }

    #[test]
    fn tnbc_keeps_truth_beside_slides() {
        let folder = folder_with(&["GT_02/02_1.png", "GT_01/01_2.png", "Slide_01/01_2.png", "GT_x/9.png"]);
        assert_eq!(names(&find_truths(folder.path()).unwrap()), ["01_2:png", "02_1:png"]);
    }

    #[test]
    fn predictions_pair_by_name_in_a_run_or_a_plain_folder() {
        let run = folder_with(&["labels/b.tif", "labels/a.png", "overlay/a.png"]);
        let truth = folder_with(&["a.mat", "b.png"]);
        let pairs = pair(run.path(), truth.path()).unwrap();
        assert_eq!(pairs.iter().map(|pair| pair.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(pairs, pair(&run.path().join("labels"), truth.path()).unwrap());
        let single = pair(&run.path().join("labels/b.tif"), &truth.path().join("a.mat")).unwrap();
        assert_eq!((single.len(), single[0].name.as_str()), (1, "b"));
    }

    #[test]
    fn a_missing_partner_is_named_on_both_sides() {
        let predicted = folder_with(&["a.png", "extra.png"]);
        let truth = folder_with(&["a.png", "t1.png", "t2.png", "t3.png", "t4.png", "t5.png", "t6.png"]);
        let error = pair(predicted.path(), truth.path()).unwrap_err();
        assert_eq!(error.fault(), microtome_vault::Fault::Input);
        let expected = "without prediction: t1, t2, t3, t4, t5 and 1 more; without truth: extra";
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn twins_and_empty_and_missing_folders_are_input_errors() {
        let twins = find_truths(folder_with(&["a.png", "a.tif"]).path()).unwrap_err().to_string();
        assert!(twins.contains("two files of the name \"a\"") && twins.contains("a.png"), "{twins}");
        assert!(
            find_truths(folder_with(&["e.txt"]).path())
                .unwrap_err()
                .to_string()
                .contains("no truth was found")
        );
        assert!(find_truths("no/such/folder").unwrap_err().to_string().contains("no such folder"));
        let nothing = folder_with(&["labels/readme.txt"]);
        assert!(
            pair(nothing.path(), nothing.path()).unwrap_err().to_string().contains("no predicted label map")
        );
    }
}

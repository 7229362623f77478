//! `report.html`: one page that a pathologist can read, send on and print, with everything in it.
//!
//! The page needs no script and loads nothing: styles, plots (SVG) and thumbnails are inside. What is shown
//! comes in as [`ReportData`], plain numbers and text that know nothing of HTML; every text is escaped on its
//! way in.
//!
//! Reading order: this file (what goes in), `page` (what the template shows), `plot` (SVG), [`thumbnail`],
//! `numbers`.

mod numbers;
mod page;
pub(crate) mod plot;
pub mod thumbnail;

use std::path::{Path, PathBuf};

use microtome_slide::{MicronsPerPixel, Size};
use microtome_vault::{Result, disk};

/// Pictures that are shown in full, at most; the others are in the table. With thumbnails of
/// [`thumbnail::WIDTH_PX`] the page then stays below 20 MB, which can be sent by mail.
pub const MOST_PICTURES_SHOWN: usize = 12;

/// Everything that the report says.
#[derive(Clone, Debug)]
pub struct ReportData {
    /// Version of the program.
    pub microtome_version: String,
    /// The command line as it was given.
    pub command: String,
    /// Name of the method, as a person says it: "Network trained on these pictures".
    pub method: String,
    /// One or two sentences on how the method finds nuclei; may be empty.
    pub method_in_short: String,
    /// Seed of all random numbers.
    pub seed: u64,
    /// When the run ended: RFC 3339, UTC.
    pub finished: String,
    /// How long it took by the clock.
    pub wall_seconds: f64,
    /// The pictures, in the order of the run.
    pub pictures: Vec<PictureReport>,
    /// How the loss fell, for methods that train.
    pub loss_curve: Option<LossCurve>,
    /// How channel, sense and epoch were chosen, for methods that choose.
    pub choice: Option<Choice>,
    /// All settings, as text (TOML).
    pub settings: String,
    /// Pictures that could not be worked on.
    pub skipped: Vec<SkippedPicture>,
    /// Warnings about the run as a whole: a sentence each, without a full stop.
    pub warnings: Vec<String>,
    /// The files beside the report.
    pub files: Vec<ResultFile>,
    /// A label map to open in the Python example, from the report's folder: "labels/a.png"; none for no
    /// example.
    pub example_labels: Option<String>,
}

/// A picture and what was found in it.
#[derive(Clone, Debug)]
pub struct PictureReport {
    /// Its name.
    pub name: String,
    /// Its extent.
    pub size: Size,
    /// Its resolution, if known.
    pub mpp: Option<MicronsPerPixel>,
    /// Number of nuclei.
    pub nuclei: usize,
    /// Pixels that were examined: all, or those of a slide's tissue.
    pub examined_px: f64,
    /// Number of pixels of each nucleus, or of an even sample of them, in any order.
    pub areas_px: Vec<usize>,
    /// Mean over the nuclei of their mean confidence, 0 to 1; none without nuclei.
    pub mean_confidence: Option<f64>,
    /// What was not taken as it is in the file, and what is odd about the result: a sentence each, no full
    /// stop.
    pub warnings: Vec<String>,
    /// Only those of the first [`MOST_PICTURES_SHOWN`] pictures that have some are looked at.
    pub thumbnails: Option<Thumbnails>,
}

/// Three small pictures of the same extent, each the bytes of a PNG or JPEG file.
#[derive(Clone, Debug)]
pub struct Thumbnails {
    /// The picture: [`thumbnail::thumbnail_png`].
    pub picture: Vec<u8>,
    /// The confidence map, black 0 and white 1: [`thumbnail::confidence_thumbnail_png`].
    pub confidence: Vec<u8>,
    /// The picture with outlines: [`thumbnail::overlay_thumbnail_png`].
    pub overlay: Vec<u8>,
}

/// Losses over training.
#[derive(Clone, Debug)]
pub struct LossCurve {
    /// What is counted along the axis: "training steps", "epochs".
    pub step_name: String,
    /// One line each: the sum first, then its parts. At most four are drawn.
    pub series: Vec<LossSeries>,
    /// The step whose weights were kept, if one was chosen.
    pub chosen_step: Option<usize>,
}

/// One line of the plot of losses.
#[derive(Clone, Debug)]
pub struct LossSeries {
    /// Its name in the legend.
    pub name: String,
    /// The loss at step 1, 2, 3 …; what is not finite is a gap in the line.
    pub values: Vec<f64>,
}

/// How one of several outputs was chosen, without labels.
#[derive(Clone, Debug)]
pub struct Choice {
    /// How it was decided, in a sentence or two.
    pub rule: String,
    /// The criteria, in the order of a candidate's values.
    pub criteria: Vec<Criterion>,
    /// What could have been chosen, the best first: the first few and the chosen one are in sight, the others
    /// folded.
    pub candidates: Vec<Candidate>,
}

/// What candidates were compared by.
#[derive(Clone, Debug)]
pub struct Criterion {
    /// Its name, the heading of a column.
    pub name: String,
    /// What it says, in a sentence: "how well the map agrees with the haematoxylin stain; higher is better".
    pub meaning: String,
}

/// An output that could have been chosen.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Channel of the network's output, from 0.
    pub channel: usize,
    /// Whether nuclei are where the channel is low.
    pub inverted: bool,
    /// Epoch of training, from 1, if epochs were compared.
    pub epoch: Option<usize>,
    /// One value a criterion; none if it could not be computed.
    pub values: Vec<Option<f64>>,
    /// Whether this is the one.
    pub chosen: bool,
}

/// A picture that was left out.
#[derive(Clone, Debug)]
pub struct SkippedPicture {
    /// Its path as it was given.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A file or folder of the result.
#[derive(Clone, Debug)]
pub struct ResultFile {
    /// Its path from the report's folder, with a slash at the end of a folder: "geojson/".
    pub path: String,
    /// What is in it and what opens it.
    pub what: String,
}

/// The page.
///
/// # Errors
/// `Bug` when the template fails, which it should not.
pub fn render_report(data: &ReportData) -> Result<String> {
    page::render(data)
}

/// Writes `FOLDER/report.html` and returns its path.
///
/// # Errors
/// `Io` when the disk refuses; `Bug` when the template fails, which it should not.
pub fn write_report(folder: &Path, data: &ReportData) -> Result<PathBuf> {
    let path = folder.join("report.html");
    disk::write_atomic(&path, render_report(data)?.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "<script>alert(\"a\")</script>&'";
    /// As askama writes it.
    const ESCAPED: &str = "&#60;script&#62;alert(&#34;a&#34;)&#60;/script&#62;&#38;&#39;";

    fn picture(name: &str, mpp: Option<f64>) -> PictureReport {
        let thumbnail = thumbnail::thumbnail_png(&[200; 12], Size::new(2, 2), 480).unwrap();
        let (picture, confidence, overlay) = (thumbnail.clone(), vec![0xff, 0xd8, 0xff, 0xe0], thumbnail);
        PictureReport {
            name: name.into(),
            size: Size::new(1000, 1000),
            mpp: mpp.map(|mpp| MicronsPerPixel::new(mpp).unwrap()),
            nuclei: 4,
            examined_px: 1e6,
            areas_px: vec![100, 200, 300, 400],
            mean_confidence: Some(0.875),
            warnings: vec![],
            thumbnails: Some(Thumbnails { picture, confidence, overlay }),
        }
    }

    fn data(pictures: Vec<PictureReport>) -> ReportData {
        ReportData {
            microtome_version: "0.1.0".into(),
            command: "microtome nuclei".into(),
            method: "Stain only".into(),
            method_in_short: String::new(),
            seed: 7,
            finished: "2026-03-01T12:00:00Z".into(),
            wall_seconds: 61.0,
            pictures,
            loss_curve: None,
            choice: None,
            settings: "threads = 2\n".into(),
            skipped: vec![],
            warnings: vec![],
            files: vec![],
            example_labels: None,
        }
    }

    /// Everything that can carry text from outside carries markup.
    fn hostile() -> ReportData {
        let mut first = picture(NAME, None);
        first.warnings = vec![NAME.into()];
        let candidate =
            |chosen| Candidate { channel: 1, inverted: true, epoch: Some(3), values: vec![None], chosen };
        ReportData {
            command: NAME.into(),
            method: NAME.into(),
            method_in_short: NAME.into(),
            finished: NAME.into(),
            settings: NAME.into(),
            loss_curve: Some(LossCurve {
                step_name: NAME.into(),
                series: ["a", NAME]
                    .map(|name| LossSeries { name: name.into(), values: vec![3.0, 1.0] })
                    .into(),
                chosen_step: Some(9),
            }),
            choice: Some(Choice {
                rule: NAME.into(),
                criteria: vec![Criterion { name: NAME.into(), meaning: NAME.into() }],
                candidates: (0..20).map(|at| candidate(at == 15)).collect(),
            }),
            skipped: vec![SkippedPicture { path: NAME.into(), reason: NAME.into() }],
            warnings: vec![NAME.into()],
            files: vec![ResultFile { path: NAME.into(), what: NAME.into() }],
            example_labels: Some(NAME.into()),
            ..data(vec![first])
        }
    }

    #[test]
    fn markup_from_outside_stays_text() {
        let page = render_report(&hostile()).unwrap();
        assert!(!page.contains("<script") && !page.contains("alert(\""));
        assert!(page.matches(ESCAPED).count() >= 18, "{}", page.matches(ESCAPED).count());
        assert_eq!(page.matches("&lt;script&gt;").count(), 2, "in the plot");
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = render_report(&hostile()).unwrap();
        for outside in ["http:", "https:", "url(", "@import", "<link", "src=\"/"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("src=\"data:image/").count(), 3);
        assert_eq!(page.matches("src=\"data:image/jpeg;base64,/9j/").count(), 1);
    }

    #[test]
    fn numbers_have_units_where_the_resolution_is_known() {
        let page = render_report(&data(vec![picture("a", Some(0.5))])).unwrap();
        // 4 nuclei in 0.25 mm²; a median of 250 pixels.
        assert!(page.contains("<dd>16.0</dd>") && page.contains("<dd>62.5 µm²</dd>"));
        let page = render_report(&data(vec![picture("a", Some(0.5)), picture("b", None)])).unwrap();
        assert!(page.contains("<dd>250 px²</dd>") && !page.contains("<dt>nuclei per mm²</dt>"));
        assert!(page.contains("62.5 µm²"));
    }

    #[test]
    fn many_pictures_are_listed_and_the_first_are_shown() {
        let pictures = (0..30).map(|at| picture(&format!("picture {at}"), None)).collect();
        let page = render_report(&data(pictures)).unwrap();
        assert_eq!(page.matches("<section class=\"picture\"").count(), MOST_PICTURES_SHOWN);
        assert!(page.contains("The first 12 pictures are shown, 18 more are in the"));
        assert_eq!(page.matches("<td class=\"name\">").count(), 30);
    }

    #[test]
    fn what_there_is_not_is_not_mentioned() {
        let page = render_report(&data(vec![])).unwrap();
        for absent in [
            "Training loss",
            "How the output was chosen",
            "Skipped pictures",
            "id=\"warnings\"",
            "imread",
            "NaN",
        ] {
            assert!(!page.contains(absent), "{absent}");
        }
        assert!(page.contains("There are none."));
    }

    #[test]
    fn the_chosen_candidate_is_in_sight() {
        let page = render_report(&hostile()).unwrap();
        let (in_sight, folded) = page.split_once("<details>").unwrap();
        assert!(in_sight.contains("<tr class=\"chosen\">") && !folded.contains("<tr class=\"chosen\">"));
        assert!(folded.contains("11 more"));
    }

    #[test]
    fn the_report_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_report(folder.path(), &data(vec![picture("a", None)])).unwrap();
        assert!(std::fs::read_to_string(path).unwrap().starts_with("<!DOCTYPE html>"));
    }
}

//! From what is to be said to what the template shows: numbers become text, pictures become `data:`
//! addresses.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use microtome_slide::MicronsPerPixel;
use microtome_vault::{Error, Result};

use super::numbers::{aligned, counted, duration, grouped, median, significant};
use super::plot::{Plot, area_histogram, loss_plot};
use super::{Candidate, Choice, MOST_PICTURES_SHOWN, PictureReport, ReportData, Thumbnails};

/// Candidates in sight; the others are folded away.
const CANDIDATES_IN_SIGHT: usize = 8;

pub(crate) fn render(data: &ReportData) -> Result<String> {
    let failed = |error| Error::bug(format!("the report could not be rendered ({error})"));
    Page::of(data).render().map_err(failed)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'data> {
    data: &'data ReportData,
    facts: Vec<Fact>,
    rows: Vec<Row<'data>>,
    figures: Vec<Figure<'data>>,
    not_shown: usize,
    some_without_mpp: bool,
    warned: Vec<&'data PictureReport>,
    warnings: usize,
    areas: Option<Plot>,
    loss: Option<Plot>,
    choice: Option<ChoiceTable<'data>>,
    finished: String,
    took: String,
    example: Option<String>,
}

/// A number that a reader looks for first.
struct Fact {
    value: String,
    name: &'static str,
}

/// A line of the table of pictures.
struct Row<'data> {
    picture: &'data PictureReport,
    number: usize,
    is_shown: bool,
    extent: String,
    mpp: String,
    nuclei: String,
    density: String,
    median_area: String,
    confidence: String,
}

/// A picture in full.
struct Figure<'data> {
    number: usize,
    name: &'data str,
    summary: String,
    panels: [Panel; 3],
}

struct Panel {
    source: String,
    title: &'static str,
}

struct ChoiceTable<'data> {
    choice: &'data Choice,
    in_sight: Vec<CandidateRow>,
    folded: Vec<CandidateRow>,
    has_epochs: bool,
}

struct CandidateRow {
    channel: usize,
    sense: &'static str,
    epoch: String,
    values: Vec<String>,
    chosen: bool,
}

impl<'data> Page<'data> {
    fn of(data: &'data ReportData) -> Self {
        let figures = figures(&data.pictures);
        let rows = data.pictures.iter().enumerate();
        let is_shown = |at: usize| figures.iter().any(|figure| figure.number == at + 1);
        let warned: Vec<_> = data.pictures.iter().filter(|picture| !picture.warnings.is_empty()).collect();
        Self {
            facts: facts(&data.pictures),
            rows: rows.map(|(at, picture)| Row::of(at + 1, is_shown(at), picture)).collect(),
            not_shown: data.pictures.len() - figures.len(),
            figures,
            some_without_mpp: data.pictures.iter().any(|picture| picture.mpp.is_none()),
            warnings: data.warnings.len()
                + warned.iter().map(|picture| picture.warnings.len()).sum::<usize>(),
            warned,
            areas: histogram_of(&data.pictures),
            loss: data.loss_curve.as_ref().and_then(loss_plot),
            choice: data.choice.as_ref().map(ChoiceTable::of),
            finished: readable_time(&data.finished),
            took: duration(data.wall_seconds),
            example: data.example_labels.as_deref().map(python_text),
            data,
        }
    }
}

impl<'data> Row<'data> {
    fn of(number: usize, is_shown: bool, picture: &'data PictureReport) -> Self {
        let dash = || "–".to_owned();
        Self {
            picture,
            number,
            is_shown,
            extent: extent(picture),
            mpp: picture.mpp.map_or_else(dash, |mpp| significant(mpp.microns())),
            nuclei: grouped(picture.nuclei),
            density: density_per_mm2(std::slice::from_ref(picture)).map_or_else(dash, significant),
            median_area: median_area(picture).unwrap_or_else(dash),
            confidence: picture.mean_confidence.map_or_else(dash, |mean| format!("{mean:.2}")),
        }
    }
}

impl<'data> ChoiceTable<'data> {
    fn of(choice: &'data Choice) -> Self {
        let mut in_sight: Vec<CandidateRow> = choice.candidates.iter().map(CandidateRow::of).collect();
        let mut folded = in_sight.split_off(in_sight.len().min(CANDIDATES_IN_SIGHT));
        // What was chosen is in sight, even if it is not among the first.
        if let Some(at) = folded.iter().position(|row| row.chosen) {
            in_sight.push(folded.remove(at));
        }
        let has_epochs = choice.candidates.iter().any(|candidate| candidate.epoch.is_some());
        Self { choice, in_sight, folded, has_epochs }
    }
}

impl CandidateRow {
    fn of(candidate: &Candidate) -> Self {
        let dash = || "–".to_owned();
        Self {
            channel: candidate.channel,
            sense: if candidate.inverted { "inverted" } else { "as it is" },
            epoch: candidate.epoch.map_or_else(dash, |epoch| epoch.to_string()),
            values: candidate.values.iter().map(|value| value.map_or_else(dash, aligned)).collect(),
            chosen: candidate.chosen,
        }
    }
}

fn facts(pictures: &[PictureReport]) -> Vec<Fact> {
    let nuclei = pictures.iter().map(|picture| picture.nuclei).sum();
    let (areas, unit) = all_areas(pictures);
    let mut facts = vec![
        Fact {
            value: grouped(pictures.len()),
            name: if pictures.len() == 1 { "picture" } else { "pictures" },
        },
        Fact { value: grouped(nuclei), name: if nuclei == 1 { "nucleus" } else { "nuclei" } },
    ];
    if let Some(density) = density_per_mm2(pictures) {
        facts.push(Fact { value: significant(density), name: "nuclei per mm²" });
    }
    if let Some(middle) = median(&areas) {
        facts.push(Fact {
            value: format!("{} {unit}", significant(middle)),
            name: "median area of a nucleus",
        });
    }
    facts
}

/// Nuclei per mm² (of tissue, for slides) over all pictures together; none unless the resolution of each is known.
fn density_per_mm2(pictures: &[PictureReport]) -> Option<f64> {
    let mm2 = |picture: &PictureReport| {
        let mm = picture.mpp?.microns() / 1000.0;
        Some(picture.examined_px * mm * mm)
    };
    let area_mm2 = pictures.iter().map(mm2).sum::<Option<f64>>()?;
    let nuclei: usize = pictures.iter().map(|picture| picture.nuclei).sum();
    (area_mm2 > 0.0).then(|| nuclei as f64 / area_mm2)
}

fn areas_um2(picture: &PictureReport, mpp: MicronsPerPixel) -> impl Iterator<Item = f64> {
    picture.areas_px.iter().map(move |&area| area as f64 * mpp.microns() * mpp.microns())
}

/// The areas of all nuclei, in µm² if the resolution of each picture is known, else in pixels.
fn all_areas(pictures: &[PictureReport]) -> (Vec<f64>, &'static str) {
    let um2: Option<Vec<_>> =
        pictures.iter().map(|picture| picture.mpp.map(|mpp| areas_um2(picture, mpp))).collect();
    match um2 {
        Some(um2) => (um2.into_iter().flatten().collect(), "µm²"),
        None => {
            (pictures.iter().flat_map(|picture| &picture.areas_px).map(|&area| area as f64).collect(), "px²")
        }
    }
}

fn histogram_of(pictures: &[PictureReport]) -> Option<Plot> {
    let (areas, unit) = all_areas(pictures);
    area_histogram(&areas, unit)
}

fn median_area(picture: &PictureReport) -> Option<String> {
    let (areas, unit) = all_areas(std::slice::from_ref(picture));
    median(&areas).map(|middle| format!("{} {unit}", significant(middle)))
}

fn extent(picture: &PictureReport) -> String {
    format!("{} × {}", grouped(picture.size.width_px), grouped(picture.size.height_px))
}

fn figures(pictures: &[PictureReport]) -> Vec<Figure<'_>> {
    pictures
        .iter()
        .enumerate()
        .filter_map(|(at, picture)| Some((at + 1, picture, picture.thumbnails.as_ref()?)))
        .take(MOST_PICTURES_SHOWN)
        .map(|(number, picture, thumbnails)| Figure {
            number,
            name: &picture.name,
            summary: summary(picture),
            panels: panels(thumbnails),
        })
        .collect()
}

fn summary(picture: &PictureReport) -> String {
    let nuclei = counted(picture.nuclei, "nucleus", "nuclei");
    let area = median_area(picture).map(|area| format!("median area {area}"));
    let confidence = picture.mean_confidence.map(|mean| format!("mean confidence {mean:.2}"));
    [Some(nuclei), area, confidence].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn panels(thumbnails: &Thumbnails) -> [Panel; 3] {
    let panel = |bytes: &[u8], title| Panel { source: data_address(bytes), title };
    [
        panel(&thumbnails.picture, "Picture"),
        panel(&thumbnails.confidence, "Confidence"),
        panel(&thumbnails.overlay, "Nuclei found"),
    ]
}

/// The picture inside its own address. A file that is not a JPEG is said to be PNG.
fn data_address(bytes: &[u8]) -> String {
    let kind = if bytes.starts_with(&[0xff, 0xd8, 0xff]) { "jpeg" } else { "png" };
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}

/// `2026-03-01T12:00:00Z` as `2026-03-01 12:00 UTC`; what looks otherwise stays as it is.
fn readable_time(rfc3339: &str) -> String {
    let parts =
        rfc3339.split_once('T').and_then(|(day, time)| Some((day, time.strip_suffix('Z')?.get(..5)?)));
    parts.map_or_else(|| rfc3339.to_owned(), |(day, time)| format!("{day} {time} UTC"))
}

/// What may stand between double quotes in Python.
fn python_text(text: &str) -> String {
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    text.replace('\\', "\\\\").replace('"', "\\\"").chars().map(plain).collect()
}

//! `report.html` of a query: what was found on each slide, to be looked at and sent on. No script, nothing is loaded.

use super::areas::Areas;
use super::dictionary::Dictionary;

use super::query::QuerySettings;
use crate::report::thumbnail::{WIDTH_PX, thumbnail_png};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use microtome_slide::picture::ReadSettings;
use microtome_slide::read_picture;
use microtome_vault::{Budget, Error, Result, disk};
use std::path::{Path, PathBuf};

/// Slides that are shown in full, at most.
const MOST_SHOWN: usize = 24;

#[derive(Template)]
#[template(path = "tissue.html")]
struct Page<'a> {
    version: &'static str,
    is_oracle_named: bool,
    method: &'static str,
    encoder: &'a str,
    prototypes: usize,
    classes: Vec<ClassRow>,
    slides: Vec<SlideRow<'a>>,
    shown: Vec<Figure<'a>>,
    skipped: Vec<(String, String)>,
    warned: Vec<(&'a str, &'a str)>,
    has_mpp: bool,
}

struct ClassRow {
    name: String,
    colour: String,
    prototypes: usize,
    share: String,
}

struct SlideRow<'a> {
    name: &'a str,
    cells: Vec<String>,
    confidence: String,
}

struct Figure<'a> {
    name: &'a str,
    picture: String,
    shares: String,
}

/// Writes the page and gives its path.
///
/// # Errors
/// `Io` when the disk refuses; `Bug` when the template fails, which it should not.
pub fn write(
    out: &Path,
    dictionary: &Dictionary,
    settings: &QuerySettings,
    slides: &[Areas],
    skipped: &[(PathBuf, Error)],
) -> Result<PathBuf> {
    let has_mpp = slides.iter().all(|slide| slide.mpp.is_some());
    let percent = |part: f64, whole: f64| format!("{:.1} %", 100.0 * part / whole.max(1.0));
    let all: f64 = slides.iter().flat_map(|slide| &slide.area_px).sum();
    let classes = dictionary.classes.iter().enumerate().map(|(index, class)| ClassRow {
        name: class.name.clone(),
        colour: class.colour.clone(),
        prototypes: dictionary.prototypes.iter().filter(|prototype| prototype.class == index).count(),
        share: percent(slides.iter().map(|slide| slide.area_px[index]).sum(), all),
    });
    let row = |slide: &'_ Areas| -> Vec<String> {
        let own: f64 = slide.area_px.iter().sum();
        let cell = |px: &f64| match slide.mpp {
            Some(mpp) => format!("{:.3} mm² ({})", px * mpp * mpp * 1e-6, percent(*px, own)),
            None => percent(*px, own),
        };
        slide.area_px.iter().map(cell).collect()
    };
    let page = Page {
        version: env!("CARGO_PKG_VERSION"),
        is_oracle_named: dictionary.is_oracle_named,
        method: settings.method.name(),
        encoder: &dictionary.encoder.kind,
        prototypes: dictionary.prototypes.len(),
        classes: classes.collect(),
        slides: slides
            .iter()
            .map(|slide| SlideRow {
                name: &slide.name,
                cells: row(slide),
                confidence: format!("{:.2}", slide.confidence),
            })
            .collect(),
        shown: slides
            .iter()
            .take(MOST_SHOWN)
            .map(|slide| figure(out, dictionary, slide))
            .collect::<Result<_>>()?,
        skipped: skipped
            .iter()
            .map(|(path, error)| (path.display().to_string(), error.to_string()))
            .collect(),
        warned: slides
            .iter()
            .flat_map(|slide| slide.warnings.iter().map(|warning| (slide.name.as_str(), warning.as_str())))
            .collect(),
        has_mpp,
    };
    let text =
        page.render().map_err(|error| Error::bug(format!("the report could not be rendered ({error})")))?;
    let path = out.join("report.html");
    disk::write_atomic(&path, text.as_bytes())?;
    Ok(path)
}

fn figure<'a>(out: &Path, dictionary: &Dictionary, slide: &'a Areas) -> Result<Figure<'a>> {
    let path = out.join("overlays").join(format!("{}.png", slide.name));
    let picture = read_picture(&path, &ReadSettings { budget: Budget::DEFAULT })?;
    let png = thumbnail_png(&picture.rgb, picture.size, WIDTH_PX)?;
    let all: f64 = slide.area_px.iter().sum();
    let share = |(class, px): (&crate::project::settings::Class, &f64)| {
        format!("{} {:.0} %", class.name, 100.0 * px / all.max(1.0))
    };
    let shares: Vec<String> = dictionary.classes.iter().zip(&slide.area_px).map(share).collect();
    let picture = format!("data:image/png;base64,{}", STANDARD.encode(png));
    Ok(Figure { name: &slide.name, picture, shares: shares.join(", ") })
}

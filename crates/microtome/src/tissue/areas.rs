//! Areas of the classes: of one slide, and the table of all.

use super::asked::Asked;
use super::dictionary::Dictionary;
use super::query::Places;
use crate::project::settings::{Class, IGNORED};
use crate::slides::view::View;
use microtome_slide::MicronsPerPixel;
use microtome_vault::{Error, Result, disk};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write;
use std::path::Path;

/// Areas of the classes of one slide; a line of the table and of the note that it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Areas {
    /// The slide.
    pub name: String,
    /// What it was made from.
    pub(super) key: String,
    /// Pixels of level 0 by class.
    pub area_px: Vec<f64>,
    /// Pixels of level 0 without a class.
    pub without_px: f64,
    /// Resolution of level 0, in µm per pixel.
    pub mpp: Option<f64>,
    /// Mean confidence of what has a class, 0 to 1.
    pub confidence: f64,
    /// Median cosine to the nearest prototype.
    pub nearness: f64,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

/// Adds up what a slide's places are.
pub(super) fn measure(
    asked: &Asked,
    key: String,
    dictionary: &Dictionary,
    places: &Places,
    view: &View<'_>,
    warnings: Vec<String>,
    mpp: Option<MicronsPerPixel>,
) -> Areas {
    let mut area_px = vec![0.0; dictionary.classes.len()];
    let (mut without_px, mut confidence, mut count) = (0.0, 0.0, 0usize);
    for row in 0..places.size.height_px {
        for column in 0..places.size.width_px {
            // Places at the right and lower edge are cut off there.
            let side = |cell: usize, extent_px: usize| places.side_px.min(extent_px - cell * places.side_px);
            let own = side(column, view.size.width_px) * side(row, view.size.height_px);
            let own = own as f64 * view.downsample * view.downsample;
            let at = places.size.index(column, row);
            match area_px.get_mut(usize::from(places.class[at])) {
                Some(area) => {
                    *area += own;
                    confidence += f64::from(places.confidence[at]) / 254.0;
                    count += 1;
                }
                None => without_px += own,
            }
        }
    }
    Areas {
        name: asked.name.clone(),
        key,
        area_px,
        without_px,
        mpp: mpp.map(MicronsPerPixel::microns),
        confidence: confidence / count.max(1) as f64,
        nearness: places.nearness,
        warnings,
    }
}

/// `areas.csv`, and `classes.json`, which says what the values of masks mean.
pub(super) fn write_table(out: &Path, dictionary: &Dictionary, slides: &[Areas]) -> Result<()> {
    let failed = |error: csv::Error| Error::bug(format!("the table cannot be written ({error})"));
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["name".to_owned(), "mpp".to_owned()];
    for class in &dictionary.classes {
        header.extend([
            format!("{}_px", class.name),
            format!("{}_mm2", class.name),
            format!("{}_share", class.name),
        ]);
    }
    header.extend(["without_class_px".to_owned(), "mean_confidence".to_owned(), "median_cosine".to_owned()]);
    table.write_record(&header).map_err(failed)?;
    for slide in slides {
        let mm2 = |px: f64| slide.mpp.map_or(String::new(), |mpp| format!("{:.6}", px * mpp * mpp * 1e-6));
        let all: f64 = slide.area_px.iter().sum();
        let mut row = vec![slide.name.clone(), slide.mpp.map_or(String::new(), |mpp| mpp.to_string())];
        for px in &slide.area_px {
            row.extend([format!("{px:.0}"), mm2(*px), format!("{:.4}", px / all.max(1.0))]);
        }
        let rest = [slide.without_px, slide.confidence, slide.nearness];
        row.extend([format!("{:.0}", rest[0]), format!("{:.4}", rest[1]), format!("{:.4}", rest[2])]);
        table.write_record(&row).map_err(failed)?;
    }
    let bytes = table.into_inner().map_err(|error| Error::bug(error.to_string()))?;
    disk::write_atomic(out.join("areas.csv"), &bytes)?;
    let class =
        |(value, class): (usize, &Class)| json!({"value": value, "name": class.name, "colour": class.colour});
    let text = json!({
        "classes": dictionary.classes.iter().enumerate().map(class).collect::<Vec<_>>(),
        "without_class": IGNORED,
        "named_by": if dictionary.is_oracle_named { "oracle" } else { "person" },
    });
    let mut file = disk::AtomicWriter::create(out.join("classes.json"))?;
    let text = serde_json::to_string_pretty(&text).map_err(|error| Error::bug(error.to_string()))?;
    writeln!(file, "{text}").map_err(|error| Error::io("writing", &error).at(out))?;
    file.commit()
}

//! `nuclei.csv`: a row a nucleus, over all pictures.
//!
//! The file is [`header`] followed by the rows of each picture, so that rows can be kept beside each picture
//! as it is done, and put together at the end. Coordinates are pixels with (0, 0) at the upper left corner of
//! the picture, as in the GeoJSON files: the whole part of a coordinate is the column or row of the pixel. µm
//! columns are empty where the resolution is not known. No text begins as a formula would in a spreadsheet.

use std::io::Write;
use std::path::{Path, PathBuf};

use microtome_slide::MicronsPerPixel;
use microtome_vault::disk::AtomicWriter;
use microtome_vault::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{file_in, rounded};
use crate::nuclei::measure::Nucleus;

/// A row of the table; on disk since format 1, columns in this order. Lengths have three decimals, others
/// four.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NucleusRow {
    /// Name of the picture; with a leading apostrophe if it could be taken for a formula.
    pub picture: String,
    /// Id in the label map.
    pub id: u32,
    /// Mean column of its pixels' centres, from the picture's left edge.
    pub centroid_x_px: f64,
    /// Mean row of its pixels' centres, from the picture's upper edge.
    pub centroid_y_px: f64,
    /// As `centroid_x_px`, in µm.
    pub centroid_x_um: Option<f64>,
    /// As `centroid_y_px`, in µm.
    pub centroid_y_um: Option<f64>,
    /// Number of pixels.
    pub area_px: usize,
    /// Area in µm².
    pub area_um2: Option<f64>,
    /// Length of the line through its border pixels.
    pub perimeter_px: f64,
    /// As `perimeter_px`, in µm.
    pub perimeter_um: Option<f64>,
    /// 0 for a circle, towards 1 for a line.
    pub eccentricity: f64,
    /// Pixels over pixels of the convex hull.
    pub solidity: f64,
    /// Longer axis of the ellipse with the same second moments.
    pub major_axis_px: f64,
    /// Shorter axis of that ellipse.
    pub minor_axis_px: f64,
    /// Angle between the downward direction and the longer axis, from −π/2 to π/2, positive towards the
    /// right.
    pub orientation_rad: f64,
    /// Mean concentration of haematoxylin, in optical density.
    pub mean_haematoxylin_od: f64,
    /// Mean concentration of eosin, in optical density.
    pub mean_eosin_od: f64,
    /// Mean optical density in red.
    pub mean_od_red: f64,
    /// Mean optical density in green.
    pub mean_od_green: f64,
    /// Mean optical density in blue.
    pub mean_od_blue: f64,
    /// Mean of the confidence map, from 0 to 1.
    pub confidence: f64,
}

impl NucleusRow {
    /// The row of a nucleus in the picture `name`.
    pub fn of(name: &str, mpp: Option<MicronsPerPixel>, nucleus: &Nucleus) -> Self {
        let region = &nucleus.region;
        // Regions count from the centre of the first pixel.
        let (x_px, y_px) = (region.centroid_x_px + 0.5, region.centroid_y_px + 0.5);
        let microns = mpp.map(MicronsPerPixel::microns);
        let um = |length_px: f64| microns.map(|mpp| rounded(length_px * mpp, 3));
        Self {
            picture: not_a_formula(name),
            id: nucleus.id,
            centroid_x_px: rounded(x_px, 3),
            centroid_y_px: rounded(y_px, 3),
            centroid_x_um: um(x_px),
            centroid_y_um: um(y_px),
            area_px: region.area_px,
            area_um2: microns.map(|mpp| rounded(region.area_px as f64 * mpp * mpp, 3)),
            perimeter_px: rounded(region.perimeter_px, 3),
            perimeter_um: um(region.perimeter_px),
            eccentricity: rounded(region.eccentricity, 4),
            solidity: rounded(region.solidity, 4),
            major_axis_px: rounded(region.major_axis_px, 3),
            minor_axis_px: rounded(region.minor_axis_px, 3),
            orientation_rad: rounded(region.orientation_rad, 4),
            mean_haematoxylin_od: rounded(nucleus.mean_haematoxylin, 4),
            mean_eosin_od: rounded(nucleus.mean_eosin, 4),
            mean_od_red: rounded(nucleus.mean_od_red, 4),
            mean_od_green: rounded(nucleus.mean_od_green, 4),
            mean_od_blue: rounded(nucleus.mean_od_blue, 4),
            confidence: rounded(nucleus.mean_confidence, 4),
        }
    }
}

/// The columns' names, in the order of [`NucleusRow`].
const COLUMNS: [&str; 21] = [
    "picture",
    "id",
    "centroid_x_px",
    "centroid_y_px",
    "centroid_x_um",
    "centroid_y_um",
    "area_px",
    "area_um2",
    "perimeter_px",
    "perimeter_um",
    "eccentricity",
    "solidity",
    "major_axis_px",
    "minor_axis_px",
    "orientation_rad",
    "mean_haematoxylin_od",
    "mean_eosin_od",
    "mean_od_red",
    "mean_od_green",
    "mean_od_blue",
    "confidence",
];

/// The first line of the table, with its line end.
pub fn header() -> String {
    COLUMNS.join(",") + "\n"
}

/// The rows of one picture, without a header, a line each.
///
/// # Errors
/// `Bug` when a row cannot be written as CSV, which none should.
pub fn rows_of_picture(name: &str, mpp: Option<MicronsPerPixel>, nuclei: &[Nucleus]) -> Result<String> {
    let failed = |error: String| Error::bug(format!("a row could not be written as CSV ({error})"));
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for nucleus in nuclei {
        writer.serialize(NucleusRow::of(name, mpp, nucleus)).map_err(|error| failed(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

/// The rows of [`rows_of_picture`], or of the rows of several pictures one after the other.
///
/// # Errors
/// `Input` when a line is not a row of this table.
pub fn parse_rows(rows: &str) -> Result<Vec<NucleusRow>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(rows.as_bytes());
    let rows: std::result::Result<Vec<NucleusRow>, csv::Error> = reader.deserialize().collect();
    rows.map_err(|error| Error::input(format!("not a row of the table of nuclei ({error})")))
}

/// Writes `FOLDER/nuclei.csv` and returns its path: the header, and the rows of each picture as
/// [`rows_of_picture`] gave them, whole or in pieces.
///
/// # Errors
/// `Io` when the disk refuses; or the error that comes instead of a picture's rows.
pub fn write_csv<Rows: AsRef<[u8]>>(
    folder: &Path,
    pictures: impl IntoIterator<Item = Result<Rows>>,
) -> Result<PathBuf> {
    let path = file_in(folder, "nuclei", "csv")?;
    let mut writer = AtomicWriter::create(&path)?;
    let mut write =
        |part: &[u8]| writer.write_all(part).map_err(|error| Error::io("writing", &error).at(&path));
    write(header().as_bytes())?;
    for rows in pictures {
        write(rows?.as_ref())?;
    }
    writer.commit()?;
    Ok(path)
}

/// A spreadsheet takes a cell for a formula by its first character; an apostrophe there makes it text.
fn not_a_formula(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nuclei::measure::measure;
    use microtome_kernels::stain::StainMatrix;
    use microtome_kernels::{Labels, Size};

    fn nuclei() -> Vec<Nucleus> {
        let labels = Labels { size: Size::new(4, 3), ids: vec![1, 1, 0, 2, 1, 1, 0, 2, 0, 0, 3, 2] };
        let rgb: Vec<u8> = (0..36).map(|value| value * 7).collect();
        measure(&labels, &rgb, &[0.123_456; 12], &StainMatrix::ruifrok_johnston())
    }

    fn mpp() -> Option<MicronsPerPixel> {
        Some(MicronsPerPixel::new(0.5).unwrap())
    }

    #[test]
    fn the_header_names_the_fields_of_a_row() {
        let row = serde_json::to_value(NucleusRow::of("a", None, &nuclei()[0])).unwrap();
        let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(fields, COLUMNS);
    }

    #[test]
    fn a_file_has_a_header_and_a_row_a_nucleus() {
        let folder = tempfile::tempdir().unwrap();
        let first = rows_of_picture("a, \"quoted\"\nname", mpp(), &nuclei());
        let path = write_csv(folder.path(), [first, rows_of_picture("b", None, &nuclei())]).unwrap();
        let mut reader = csv::Reader::from_path(path).unwrap();
        let rows: Vec<NucleusRow> = reader.deserialize().map(|row| row.unwrap()).collect();
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[0].picture, "a, \"quoted\"\nname");
        assert_eq!((rows[0].centroid_x_px, rows[0].centroid_x_um), (1.0, Some(0.5)));
        assert_eq!((rows[1].area_px, rows[1].area_um2), (3, Some(0.75)));
        assert_eq!((rows[3].centroid_x_um, rows[3].area_um2, rows[3].perimeter_um), (None, None, None));
        assert_eq!(rows[5].confidence, 0.1235);
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let rows = rows_of_picture("a", mpp(), &nuclei()).unwrap();
        let expected: Vec<NucleusRow> =
            nuclei().iter().map(|nucleus| NucleusRow::of("a", mpp(), nucleus)).collect();
        assert_eq!(parse_rows(&rows).unwrap(), expected);
        let json = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<Vec<NucleusRow>>(&json).unwrap(), expected);
        assert!(parse_rows("").unwrap().is_empty());
        assert!(parse_rows("a,1,2").is_err());
    }

    #[test]
    fn names_are_no_formulas() {
        for name in ["=1+1", "+a", "-a", "@a", "\ta", "\ra"] {
            let rows = parse_rows(&rows_of_picture(name, None, &nuclei()).unwrap()).unwrap();
            assert_eq!(rows[0].picture, format!("'{name}"));
        }
        assert_eq!(not_a_formula("TCGA-18"), "TCGA-18");
    }

    #[test]
    fn an_unreadable_part_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_csv(folder.path(), [Ok("a\n")]).unwrap();
        assert!(write_csv(folder.path(), [Ok("b\n"), Err(Error::input("lost"))]).is_err());
        assert_eq!(std::fs::read_to_string(path).unwrap(), header() + "a\n");
    }
}

//! A person's own tissue: which part of a slide is worked on, drawn as a mask or as outlines.
//!
//! Says where to look and nothing else: it is no truth about nuclei, and nothing is scored with it.

use std::path::{Path, PathBuf};

use microtome_kernels::polygon::{Point, fill_polygon};
use microtome_slide::find::name_of;
use microtome_slide::picture::ReadSettings;
use microtome_slide::{Size, TissueMask, read_picture};
use microtome_vault::{Budget, Error, Result, checksum, disk};
use serde_json::Value;

/// Extensions of the files that are looked for in a folder, the first that is there is taken.
const EXTENSIONS: [&str; 5] = ["geojson", "json", "png", "tif", "tiff"];
/// Largest file of outlines that is read: a million corners take some 20 MB.
const LARGEST_OUTLINES: Budget = Budget::of_bytes(128 << 20);
/// A mask is tissue where it is brighter than this.
const BRIGHT: u8 = 127;
/// How far the proportions of a mask may be from those of its slide, as a share.
const ASPECT_TOLERANCE: f64 = 0.02;

/// The file with the tissue of a slide.
#[derive(Clone, Debug)]
pub struct OwnTissue {
    path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl OwnTissue {
    /// The file for a slide: `path` itself, or if that is a folder the one with the slide's name, which is not the slide.
    ///
    /// # Errors
    /// `Input` when there is none; `Io` when it cannot be read.
    pub fn find(path: &Path, slide: &Path) -> Result<Self> {
        let name = name_of(slide);
        let missing = || {
            let all = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
            Error::input(format!("the folder has no tissue for the slide {name}"))
                .advise(format!("it is a file of that name that ends in one of {all}"))
                .at(path)
        };
        let path = if path.is_dir() {
            let named = EXTENSIONS.iter().map(|extension| path.join(format!("{name}.{extension}")));
            let is_slide = |file: &Path| file.canonicalize().ok() == slide.canonicalize().ok();
            named.into_iter().find(|file| file.is_file() && !is_slide(file)).ok_or_else(missing)?
        } else {
            path.to_owned()
        };
        let sha256 = checksum::sha256_file(&path)?;
        Ok(Self { path, sha256 })
    }

    /// `found` with this tissue instead of its own; `size_in_level0` is the slide's extent.
    ///
    /// # Errors
    /// `Input` when the file is no mask of the slide's proportions, or holds no outlines of areas.
    pub fn instead_of(&self, found: TissueMask, size_in_level0: Size, budget: Budget) -> Result<TissueMask> {
        let extension = self.path.extension().unwrap_or_default().to_ascii_lowercase();
        let mask = match extension == "geojson" || extension == "json" {
            true => self.outlined(&found),
            false => self.masked(&found, size_in_level0, budget),
        };
        mask.map(|mask| found.with_mask(mask)).map_err(|error| error.at(&self.path))
    }

    fn masked(&self, found: &TissueMask, whole: Size, budget: Budget) -> Result<Vec<bool>> {
        let picture = read_picture(&self.path, &ReadSettings { budget })?;
        let size = picture.size;
        let scale = |own: usize, whole: usize| own as f64 / whole as f64;
        let [across, down] = [scale(size.width_px, whole.width_px), scale(size.height_px, whole.height_px)];
        // A pixel more or less is rounding, however small the mask.
        let slack = ASPECT_TOLERANCE.max(1.0 / size.width_px.min(size.height_px) as f64);
        if (across / down - 1.0).abs() > slack {
            return Err(Error::input(format!("the mask has {size} pixels, the slide {whole}")).advise(
                "draw it on a picture of the whole slide, such as that of `microtome slide thumbnail`",
            ));
        }
        let at = |cell: usize, scale: f64, most: usize| {
            (((cell as f64 + 0.5) * found.downsample * scale) as usize).min(most - 1)
        };
        let cells = (0..found.size.height_px).flat_map(|y| (0..found.size.width_px).map(move |x| (x, y)));
        let is_bright = |(x, y)| {
            let place = size.index(at(x, across, size.width_px), at(y, down, size.height_px));
            picture.rgb[3 * place..3 * place + 3].iter().any(|value| *value > BRIGHT)
        };
        Ok(cells.map(is_bright).collect())
    }

    fn outlined(&self, found: &TissueMask) -> Result<Vec<bool>> {
        let text = disk::read_file_bounded(&self.path, LARGEST_OUTLINES)?;
        let value: Value = serde_json::from_slice(&text)
            .map_err(|error| Error::input(format!("this is no GeoJSON ({error})")))?;
        let mut areas = Vec::new();
        gather(&value, &mut areas)?;
        if areas.is_empty() {
            return Err(Error::input("there are no outlines of areas in this GeoJSON file")
                .advise("draw polygons in pixels of level 0, as QuPath exports its annotations"));
        }
        let mut mask = vec![false; found.size.area_px()];
        let mut filled = vec![false; mask.len()];
        for rings in areas {
            // Rings after the first are holes: a cell inside of two is outside.
            for ring in rings {
                let in_cells =
                    |[x, y]: [f64; 2]| Point { x: x / found.downsample - 0.5, y: y / found.downsample - 0.5 };
                let ring: Vec<Point> = ring.into_iter().map(in_cells).collect();
                fill_polygon(&ring, found.size, |cell| filled[cell] ^= true);
            }
            for (cell, filled) in mask.iter_mut().zip(&mut filled) {
                *cell |= std::mem::take(filled);
            }
        }
        Ok(mask)
    }
}

/// A polygon: its border and its holes, in pixels of level 0.
type Rings = Vec<Vec<[f64; 2]>>;

/// The polygons of whatever GeoJSON a file holds: a collection, a list of features as older versions of QuPath write, one
/// feature or one geometry. Points and lines have no area and are passed over.
fn gather(value: &Value, areas: &mut Vec<Rings>) -> Result<()> {
    if let Some(list) = value.as_array() {
        return list.iter().try_for_each(|value| gather(value, areas));
    }
    let damaged = || Error::input("a polygon in this GeoJSON file has no corners");
    let list = |key: &str| value.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match value.get("type").and_then(Value::as_str) {
        Some("FeatureCollection") => list("features").iter().try_for_each(|value| gather(value, areas)),
        Some("GeometryCollection") => list("geometries").iter().try_for_each(|value| gather(value, areas)),
        Some("Feature") => value.get("geometry").map_or(Ok(()), |geometry| gather(geometry, areas)),
        Some("Polygon") => {
            areas.push(rings(list("coordinates")).ok_or_else(damaged)?);
            Ok(())
        }
        Some("MultiPolygon") => list("coordinates").iter().try_for_each(|polygon| {
            let polygon = polygon.as_array().and_then(|polygon| rings(polygon));
            areas.push(polygon.ok_or_else(damaged)?);
            Ok(())
        }),
        _ => Ok(()),
    }
}

fn rings(coordinates: &[Value]) -> Option<Rings> {
    let corner = |corner: &Value| Some([corner.get(0)?.as_f64()?, corner.get(1)?.as_f64()?]);
    let ring = |ring: &Value| ring.as_array()?.iter().map(corner).collect::<Option<Vec<_>>>();
    let rings: Rings = coordinates.iter().map(ring).collect::<Option<_>>()?;
    (!rings.is_empty()).then_some(rings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::png::{Samples, write_png};

    /// Everything, of a slide of 1600 × 800 px, in cells of 32 px.
    fn found() -> TissueMask {
        TissueMask::everything(SIZE)
    }

    const SIZE: Size = Size::new(1600, 800);

    fn outlined(text: &str) -> Result<TissueMask> {
        let folder = tempfile::tempdir().unwrap();
        disk::write_atomic(folder.path().join("a.geojson"), text.as_bytes()).unwrap();
        OwnTissue::find(folder.path(), Path::new("a.svs"))?.instead_of(found(), SIZE, Budget::DEFAULT)
    }

    #[test]
    fn outlines_with_holes_and_several_parts_are_filled() {
        let square = |x: i32, y: i32, side: i32| {
            format!("[[{x},{y}],[{0},{y}],[{0},{1}],[{x},{1}],[{x},{y}]]", x + side, y + side)
        };
        let with_hole = format!("[{},{}]", square(0, 0, 640), square(160, 160, 320));
        let polygon = format!(r#"{{"type":"Polygon","coordinates":{with_hole}}}"#);
        let many =
            format!(r#"{{"type":"MultiPolygon","coordinates":[{with_hole},[{}]]}}"#, square(960, 0, 320));
        let feature = |geometry: &str| format!(r#"{{"type":"Feature","geometry":{geometry}}}"#);
        let cells = |side: usize| (side / 32) * (side / 32);
        let ring = cells(640) - cells(320);
        for (text, cells) in [
            (polygon.clone(), ring),
            (feature(&polygon), ring),
            (format!("[{}]", feature(&many)), ring + cells(320)),
            // Areas that overlap are tissue once.
            (
                format!(r#"{{"type":"FeatureCollection","features":[{0},{0}]}}"#, feature(&many)),
                ring + cells(320),
            ),
        ] {
            let tissue = outlined(&text).unwrap();
            assert_eq!(tissue.area_px(), cells, "{text}");
            assert!(tissue.holds(80.0, 80.0) && !tissue.holds(320.0, 320.0));
        }
    }

    #[test]
    fn a_mask_of_any_scale_is_laid_over_the_slide() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for scale in [1, 3, 20] {
            let size = Size::new(16 * scale, 8 * scale);
            let right_half = |at: usize| if at % size.width_px >= size.width_px / 2 { 255 } else { 0 };
            let grey: Vec<u8> = (0..size.area_px()).map(right_half).collect();
            write_png(&path, size, Samples::Grey8(&grey)).unwrap();
            let own = OwnTissue::find(&path, Path::new("whatever")).unwrap();
            let tissue = own.instead_of(found(), SIZE, Budget::DEFAULT).unwrap();
            assert_eq!(tissue.area_px(), tissue.size.area_px() / 2);
            assert!(tissue.holds(1000.0, 400.0) && !tissue.holds(700.0, 400.0));
        }
    }

    #[test]
    fn what_is_no_tissue_of_the_slide_is_refused_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("square.png");
        write_png(&path, Size::new(9, 9), Samples::Grey8(&[255; 81])).unwrap();
        let own = OwnTissue::find(&path, Path::new("")).unwrap();
        let error = own.instead_of(found(), SIZE, Budget::DEFAULT).unwrap_err();
        assert!(error.path() == Some(path.as_path()) && error.to_string().contains("9×9"), "{error}");
        for slide in ["b.svs", "square.png"] {
            let missing = OwnTissue::find(folder.path(), &folder.path().join(slide)).unwrap_err().to_string();
            assert!(missing.contains("no tissue for the slide"), "{missing}");
        }
        for (text, phrase) in [
            ("", "no GeoJSON"),
            ("{}", "no outlines"),
            (r#"{"type":"FeatureCollection","features":7}"#, "no outlines"),
            (r#"{"type":"Point","coordinates":[1,2]}"#, "no outlines"),
            (r#"{"type":"Polygon","coordinates":[]}"#, "no corners"),
            (r#"{"type":"Polygon","coordinates":[[[1]]]}"#, "no corners"),
            (&"[".repeat(100_000), "no GeoJSON"),
        ] {
            let error = outlined(text).unwrap_err();
            assert!(error.to_string().contains(phrase) && error.path().is_some(), "{phrase}: {error}");
        }
        let far = r#"{"type":"Polygon","coordinates":[[[-1e300,-1e300],[1e300,-1e300],[1e300,1e300]]]}"#;
        assert!(outlined(far).is_ok());
    }
}

//! Nuclei as detections for QuPath: a GeoJSON FeatureCollection, one feature a line.
//!
//! QuPath (0.4 and later) takes `properties.objectType`, `classification` with a name and a colour,
//! `measurements` as an object of numbers, and a UUID as `id`. Coordinates are whole pixels of the picture at
//! full resolution, on pixel edges: filled again, the rings give exactly the nucleus's pixels. The file is
//! written as it is made, some thousand nuclei at a time, so that memory does not grow with it. One whose name ends in `.gz`
//! is compressed, in pieces that follow each other as members of one gzip file (RFC 1952, section 2.2), so that all threads
//! compress.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use microtome_kernels::Labels;
use microtome_kernels::contours::{Polygon, Vertex, outline};
use microtome_slide::MicronsPerPixel;
use microtome_vault::disk::AtomicWriter;
use microtome_vault::{Error, Result, checksum};
use rayon::prelude::*;
use serde::Serialize;

use super::overlay::OUTLINE;
use super::{file_in, rounded};
use crate::nuclei::measure::Nucleus;

/// Nuclei in a compressed piece.
const PIECE: usize = 512;
/// Nuclei turned to text at a time.
const BLOCK: usize = 2048;

/// The picture that nuclei were found in.
#[derive(Clone, Copy, Debug)]
pub struct GeoJsonPicture<'a> {
    /// SHA-256 of its file, in hexadecimal: the ids of nuclei are derived from it.
    pub sha256: &'a str,
    /// Its resolution, if known.
    pub mpp: Option<MicronsPerPixel>,
    /// Its label map.
    pub labels: &'a Labels,
}

/// Writes `NAME.geojson` and returns its path. `nuclei` are those measured on `picture.labels`.
///
/// # Errors
/// `Io` when the disk refuses; `Bug` when the labels do not fill their size.
pub fn write_geojson(
    folder: &Path,
    name: &str,
    picture: GeoJsonPicture,
    nuclei: &[Nucleus],
) -> Result<PathBuf> {
    if picture.labels.ids.len() != picture.labels.size.area_px() {
        return Err(Error::bug(format!("the labels do not fill {} pixels", picture.labels.size)));
    }
    let path = file_in(folder, name, "geojson")?;
    let mut writer = GeoJsonWriter::create(&path, picture.sha256, picture.mpp)?;
    for block in nuclei.chunks(BLOCK) {
        writer.push(block, |nucleus| (nucleus.clone(), outline(picture.labels, &nucleus.region)))?;
    }
    writer.finish()
}

/// A file in the making, of nuclei as they come.
pub struct GeoJsonWriter<'a> {
    writer: AtomicWriter<'static>,
    path: PathBuf,
    sha256: &'a str,
    mpp: Option<MicronsPerPixel>,
    is_packed: bool,
    is_first: bool,
}

impl<'a> GeoJsonWriter<'a> {
    /// Begins a file that will replace `path`, compressed if that ends in `.gz`; `sha256` tells its picture from others, of which `mpp` is the resolution.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn create(path: &Path, sha256: &'a str, mpp: Option<MicronsPerPixel>) -> Result<Self> {
        let writer = AtomicWriter::create(path)?;
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        let mut file = Self { writer, path: path.to_owned(), sha256, mpp, is_packed, is_first: true };
        let begin = file.piece(b"{\"type\":\"FeatureCollection\",\"features\":[".to_vec());
        file.write(begin)?;
        Ok(file)
    }

    /// Adds nuclei; `outlined` gives what was measured of one, and its outline, in pixels of level 0. It is called by many
    /// threads at once.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn push<T: Sync>(
        &mut self,
        nuclei: &[T],
        outlined: impl Fn(&T) -> (Nucleus, Vec<Polygon>) + Sync,
    ) -> Result<()> {
        let (sha256, mpp) = (self.sha256, self.mpp);
        let text = |one: &T| {
            let (nucleus, polygons) = outlined(one);
            feature(sha256, mpp, &nucleus, polygons)
        };
        let is_first = self.is_first;
        self.is_first &= nuclei.is_empty();
        let piece = |(number, nuclei): (usize, &[T])| {
            let mut bytes = Vec::new();
            for (index, one) in nuclei.iter().enumerate() {
                let is_first = is_first && number == 0 && index == 0;
                bytes.extend_from_slice(if is_first { b"\n" } else { b",\n" });
                bytes.extend_from_slice(text(one)?.as_bytes());
            }
            self.piece(bytes)
        };
        let pieces: Vec<io::Result<Vec<u8>>> = nuclei.par_chunks(PIECE).enumerate().map(piece).collect();
        pieces.into_iter().try_for_each(|piece| self.write(piece))
    }

    /// Text as it is written.
    fn piece(&self, text: Vec<u8>) -> io::Result<Vec<u8>> {
        if !self.is_packed {
            return Ok(text);
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text)?;
        encoder.finish()
    }

    fn write(&mut self, piece: io::Result<Vec<u8>>) -> Result<()> {
        let written = piece.and_then(|bytes| self.writer.write_all(&bytes));
        written.map_err(|error| Error::io("writing", &error).at(&self.path))
    }

    /// Completes the file and puts it in place; gives its path.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn finish(mut self) -> Result<PathBuf> {
        let end = self.piece(b"\n]}\n".to_vec());
        self.write(end)?;
        self.writer.commit()?;
        Ok(self.path)
    }
}

/// The id of a nucleus in all exports: the same picture and label give the same one.
pub fn nucleus_uuid(picture_sha256: &str, id: u32) -> String {
    uuid(&format!("microtome nucleus {picture_sha256} {id}"))
}

/// A UUID of version 8 (RFC 9562), made of the first bits of the SHA-256 of what it is the id of.
pub(crate) fn uuid(of: &str) -> String {
    let digest = checksum::sha256_hex(of.as_bytes());
    // Digit 12 is the version, the upper half of digit 16 the variant.
    let digit = |(at, digit): (usize, char)| match at {
        12 => '8',
        16 => ['8', '9', 'a', 'b'][digit.to_digit(16).unwrap_or(0) as usize % 4],
        _ => digit,
    };
    let mut uuid: String = digest.chars().take(32).enumerate().map(digit).collect();
    [20, 16, 12, 8].into_iter().for_each(|at| uuid.insert(at, '-'));
    uuid
}

#[derive(Serialize)]
struct Feature {
    r#type: &'static str,
    id: String,
    geometry: Geometry,
    properties: Properties,
}

type Ring = Vec<[i32; 2]>;

#[derive(Serialize)]
#[serde(tag = "type", content = "coordinates")]
enum Geometry {
    Polygon(Vec<Ring>),
    MultiPolygon(Vec<Vec<Ring>>),
}

#[derive(Serialize)]
struct Properties {
    #[serde(rename = "objectType")]
    object_type: &'static str,
    classification: Classification,
    measurements: Measurements,
}

#[derive(Serialize)]
struct Classification {
    name: &'static str,
    color: [u8; 3],
}

/// In the order and with the names that QuPath shows.
#[derive(Serialize)]
struct Measurements {
    #[serde(rename = "Area px^2")]
    area_px: usize,
    #[serde(rename = "Area µm^2", skip_serializing_if = "Option::is_none")]
    area_um2: Option<f64>,
    #[serde(rename = "Perimeter px")]
    perimeter_px: f64,
    #[serde(rename = "Perimeter µm", skip_serializing_if = "Option::is_none")]
    perimeter_um: Option<f64>,
    #[serde(rename = "Major axis px")]
    major_axis_px: f64,
    #[serde(rename = "Minor axis px")]
    minor_axis_px: f64,
    #[serde(rename = "Eccentricity")]
    eccentricity: f64,
    #[serde(rename = "Solidity")]
    solidity: f64,
    #[serde(rename = "Haematoxylin mean OD")]
    mean_haematoxylin: f64,
    #[serde(rename = "Eosin mean OD")]
    mean_eosin: f64,
    #[serde(rename = "Confidence")]
    confidence: f64,
    #[serde(rename = "Label")]
    label: u32,
}

impl Measurements {
    fn of(nucleus: &Nucleus, mpp: Option<MicronsPerPixel>) -> Self {
        let region = &nucleus.region;
        let microns = mpp.map(MicronsPerPixel::microns);
        Self {
            area_px: region.area_px,
            area_um2: microns.map(|mpp| rounded(region.area_px as f64 * mpp * mpp, 3)),
            perimeter_px: rounded(region.perimeter_px, 3),
            perimeter_um: microns.map(|mpp| rounded(region.perimeter_px * mpp, 3)),
            major_axis_px: rounded(region.major_axis_px, 3),
            minor_axis_px: rounded(region.minor_axis_px, 3),
            eccentricity: rounded(region.eccentricity, 4),
            solidity: rounded(region.solidity, 4),
            mean_haematoxylin: rounded(nucleus.mean_haematoxylin, 4),
            mean_eosin: rounded(nucleus.mean_eosin, 4),
            confidence: rounded(nucleus.mean_confidence, 4),
            label: nucleus.id,
        }
    }
}

fn feature(
    sha256: &str,
    mpp: Option<MicronsPerPixel>,
    nucleus: &Nucleus,
    polygons: Vec<Polygon>,
) -> io::Result<String> {
    let feature = Feature {
        r#type: "Feature",
        id: nucleus_uuid(sha256, nucleus.id),
        geometry: geometry(polygons),
        properties: Properties {
            object_type: "detection",
            classification: Classification { name: "Nucleus", color: OUTLINE },
            measurements: Measurements::of(nucleus, mpp),
        },
    };
    Ok(serde_json::to_string(&feature)?)
}

fn geometry(polygons: Vec<Polygon>) -> Geometry {
    let mut polygons: Vec<Vec<Ring>> = polygons.into_iter().map(rings).collect();
    match polygons.pop() {
        Some(only) if polygons.is_empty() => Geometry::Polygon(only),
        last => Geometry::MultiPolygon(polygons.into_iter().chain(last).collect()),
    }
}

fn rings(Polygon { outer, holes }: Polygon) -> Vec<Ring> {
    let ring = |ring: Vec<Vertex>| ring.into_iter().map(|Vertex { x, y }| [x, y]).collect();
    std::iter::once(outer).chain(holes).map(ring).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nuclei::measure::measure;
    use microtome_kernels::Size;
    use microtome_kernels::polygon::{Point, fill_polygon};
    use microtome_kernels::stain::StainMatrix;
    use serde_json::Value;
    use std::collections::BTreeSet;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// Nuclei with a hole, of two parts, touching at a corner, at the border, and of one pixel.
    fn labels() -> Labels {
        let rows = [
            [1, 1, 1, 0, 2, 0, 0, 3],
            [1, 0, 1, 2, 0, 0, 0, 3],
            [1, 1, 1, 0, 0, 4, 0, 0],
            [0, 0, 0, 0, 5, 5, 5, 0],
            [6, 6, 0, 0, 5, 0, 5, 0],
            [6, 6, 0, 6, 5, 5, 0, 5],
        ];
        Labels { size: Size::new(8, 6), ids: rows.concat() }
    }

    fn nuclei_of(labels: &Labels) -> Vec<Nucleus> {
        let area_px = labels.size.area_px();
        measure(labels, &vec![120; 3 * area_px], &vec![0.75; area_px], &StainMatrix::ruifrok_johnston())
    }

    fn written(labels: &Labels, mpp: Option<f64>) -> (String, Value) {
        let folder = tempfile::tempdir().unwrap();
        let mpp = mpp.map(|mpp| MicronsPerPixel::new(mpp).unwrap());
        let picture = GeoJsonPicture { sha256: SHA256, mpp, labels };
        let path = write_geojson(folder.path(), "a", picture, &nuclei_of(labels)).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    fn rings_of(feature: &Value) -> Vec<Vec<[i64; 2]>> {
        let coordinates = feature["geometry"]["coordinates"].clone();
        if feature["geometry"]["type"] == "Polygon" {
            return serde_json::from_value(coordinates).unwrap();
        }
        let polygons: Vec<Vec<Vec<[i64; 2]>>> = serde_json::from_value(coordinates).unwrap();
        assert!(polygons.len() > 1);
        polygons.concat()
    }

    #[test]
    fn rings_are_closed_and_give_the_labels_back() {
        let labels = labels();
        let (text, collection) = written(&labels, None);
        let features = collection["features"].as_array().unwrap();
        assert_eq!(text.lines().count(), features.len() + 2);
        let mut filled = Labels::background(labels.size);
        for feature in features {
            let id = feature["properties"]["measurements"]["Label"].as_u64().unwrap() as u32;
            for ring in rings_of(feature) {
                assert!(ring.len() >= 5 && ring.first() == ring.last());
                let point = |[x, y]: [i64; 2]| Point { x: x as f64 - 0.5, y: y as f64 - 0.5 };
                let ring: Vec<Point> = ring.into_iter().map(point).collect();
                // Even-odd over all rings: holes take away what the outer ring gave.
                fill_polygon(&ring, labels.size, |at| filled.ids[at] ^= id);
            }
        }
        assert_eq!(filled, labels);
    }

    #[test]
    fn features_are_what_qupath_reads() {
        let (_, collection) = written(&labels(), Some(0.25));
        assert_eq!(collection["type"], "FeatureCollection");
        let feature = &collection["features"][0];
        assert_eq!(feature["type"], "Feature");
        assert_eq!(feature["properties"]["objectType"], "detection");
        assert_eq!(feature["properties"]["classification"]["name"], "Nucleus");
        let measurements = feature["properties"]["measurements"].as_object().unwrap();
        assert!(measurements.values().all(Value::is_number));
        assert_eq!(measurements["Area px^2"], 8);
        assert_eq!(measurements["Area µm^2"], 0.5);
        assert_eq!(measurements["Confidence"], 0.75);
        let (_, without_mpp) = written(&labels(), None);
        assert!(without_mpp["features"][0]["properties"]["measurements"].get("Area µm^2").is_none());
    }

    #[test]
    fn ids_are_uuids_unique_and_stable() {
        assert_eq!(nucleus_uuid(SHA256, 1), "9bb402c5-3562-8910-9c1c-13b37b0512e8");
        let uuids: BTreeSet<String> = (0..10_000).map(|id| nucleus_uuid(SHA256, id)).collect();
        assert_eq!(uuids.len(), 10_000);
        for uuid in uuids {
            assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert_eq!(&uuid[14..15], "8");
            assert!("89ab".contains(&uuid[19..20]));
        }
        assert_ne!(nucleus_uuid("other", 1), nucleus_uuid(SHA256, 1));
    }

    #[test]
    fn no_nuclei_make_a_whole_file_and_blocks_join() {
        let (_, nothing) = written(&Labels::background(Size::new(2, 2)), None);
        assert_eq!(nothing["features"].as_array().unwrap().len(), 0);
        let many = Labels { size: Size::new(100, 50), ids: (1..=5000).collect() };
        assert_eq!(written(&many, None).1["features"].as_array().unwrap().len(), 5000);
    }
}

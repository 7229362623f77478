//! Regions of a class as GeoJSON annotations for QuPath, in pixels of level 0.
//!
//! Outlines run along the edges of places, without points on straight lines: nothing crosses, neighbours share their borders,
//! and filled again they give the mask. Lines that were made smoother would be shorter and could cross.

use super::query::Places;
use crate::export::file_in;
use crate::export::geojson::uuid;
use crate::project::settings::Class;
use microtome_kernels::Labels;
use microtome_kernels::components::{Connectivity, label_components};
use microtome_kernels::contours::{Polygon, Vertex, outline};
use microtome_kernels::region::measure_regions;
use microtome_vault::disk::AtomicWriter;
use microtome_vault::{Error, Result};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Writes `NAME.geojson`, a feature for each connected region of each class.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn write(
    folder: &Path,
    name: &str,
    places: &Places,
    downsample: f64,
    classes: &[Class],
    mpp: Option<f64>,
) -> Result<()> {
    let path = file_in(folder, name, "geojson")?;
    let failed = |error: std::io::Error| Error::io("writing", &error).at(&path);
    let mut file = AtomicWriter::create(&path)?;
    file.write_all(b"{\"type\":\"FeatureCollection\",\"features\":[").map_err(failed)?;
    let side = places.side_px as f64 * downsample;
    let mut separator = "\n";
    for (index, class) in classes.iter().enumerate() {
        let mask: Vec<bool> = places.class.iter().map(|own| usize::from(*own) == index).collect();
        let labels: Labels = label_components(&mask, places.size, Connectivity::Four);
        for region in measure_regions(&labels) {
            let area_px = region.area_px as f64 * side * side;
            let id = uuid(&format!("microtome region {name} {index} {}", region.id));
            let feature = feature(&id, class, &outline(&labels, &region), side, (area_px, mpp));
            write!(file, "{separator}{feature}").map_err(failed)?;
            separator = ",\n";
        }
    }
    file.write_all(b"\n]}\n").map_err(failed)?;
    file.commit()
}

fn feature(
    id: &str,
    class: &Class,
    polygons: &[Polygon],
    side: f64,
    (area_px, mpp): (f64, Option<f64>),
) -> Value {
    let point = |vertex: &Vertex| json!([f64::from(vertex.x) * side, f64::from(vertex.y) * side]);
    let ring = |ring: &Vec<Vertex>| ring.iter().map(point).collect::<Vec<Value>>();
    let polygon = |polygon: &Polygon| -> Vec<Value> {
        std::iter::once(&polygon.outer).chain(&polygon.holes).map(|own| json!(ring(own))).collect()
    };
    let geometry = match polygons {
        [one] => json!({"type": "Polygon", "coordinates": polygon(one)}),
        all => json!({"type": "MultiPolygon", "coordinates": all.iter().map(polygon).collect::<Vec<_>>()}),
    };
    let measurements = match mpp {
        Some(mpp) => json!({"Area mm^2": area_px * mpp * mpp * 1e-6}),
        None => json!({"Area px^2": area_px}),
    };
    json!({
        "type": "Feature",
        "id": id,
        "geometry": geometry,
        "properties": {
            "objectType": "annotation",
            "classification": {"name": class.name, "color": class.rgb()},
            "measurements": measurements,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_kernels::Size;
    use microtome_vault::{Budget, disk};

    #[test]
    fn regions_are_outlined_in_level0_with_their_areas() {
        let folder = tempfile::tempdir().unwrap();
        let classes: Vec<Class> = ["a", "b"]
            .map(|name| Class { name: name.to_owned(), colour: "#010203".to_owned() })
            .into_iter()
            .collect();
        let places = Places {
            size: Size::new(3, 2),
            side_px: 8,
            class: vec![0, 1, 1, 0, 255, 1],
            confidence: vec![254; 6],
            nearness: 1.0,
        };
        write(folder.path(), "s", &places, 2.0, &classes, Some(0.5)).unwrap();
        let text = disk::read_file_bounded(folder.path().join("s.geojson"), Budget::DEFAULT).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        let features = value["features"].as_array().unwrap();
        assert_eq!(features.len(), 2);
        let ring = features[0]["geometry"]["coordinates"][0].as_array().unwrap();
        assert_eq!(ring.len(), 5);
        for corner in [[0.0, 0.0], [16.0, 0.0], [16.0, 32.0], [0.0, 32.0]] {
            assert!(ring.contains(&json!(corner)), "{ring:?}");
        }
        assert_eq!(features[1]["properties"]["classification"]["name"], "b");
        let area = features[1]["properties"]["measurements"]["Area mm^2"].as_f64().unwrap();
        assert!((area - 3.0 * 16.0 * 16.0 * 0.25 * 1e-6).abs() < 1e-12);
        assert_ne!(features[0]["id"], features[1]["id"]);
    }
}

//! Polygons that people drew in Aperio ImageScope (MoNuSeg): XML of Annotation, Region and Vertex.
//!
//! Events are read one after the other, so that depth costs no stack, and entities are never expanded. A
//! number, a region and the work of all regions together have limits: a small hostile file must not cost
//! hours.

use microtome_kernels::polygon::{Point, fill_polygon};
use microtome_kernels::{Labels, Size};
use microtome_vault::{Budget, Error, Result};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::label_map::{Interpretation, LabelMap, granted_size};

/// Coordinates beyond this are damage: the largest slides have about 300,000 pixels a side.
const FARTHEST_PX: f64 = 1e8;
/// Pixels and edge crossings of all polygons, for each pixel of the picture. In MoNuSeg the sum is below 2.
const WORK_A_PIXEL: f64 = 64.0;
/// Work that is granted to any picture, however small.
const LEAST_WORK: f64 = 1e8;

/// Fills the regions of all annotations, numbered 1, 2, 3 … in the order of the file; later ones cover
/// earlier ones.
///
/// A vertex (X, Y) is the centre of the pixel in column X, row Y. Regions marked `NegativeROA="1"` are holes.
/// Regions of fewer than three vertices (arrows, rulers) are left out and counted.
///
/// # Errors
/// `Input` for XML that is damaged, cut off or not of ImageScope, `Limit` for a picture or for polygons that
/// are too large.
pub(crate) fn read(bytes: &[u8], size: Size, budget: Budget) -> Result<LabelMap> {
    granted_size(size.width_px as u64, size.height_px as u64, 0, budget)?;
    let text = std::str::from_utf8(bytes).map_err(|_| not_utf8())?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut canvas = Canvas::new(size);
    let mut depth = 0_usize;
    let mut is_image_scope = false;
    loop {
        match reader.read_event().map_err(|error| damaged(&error))? {
            Event::Start(tag) => {
                is_image_scope |= tag.name().0 == "Annotations";
                depth += 1;
                canvas.open(&tag)?;
            }
            Event::Empty(tag) => {
                is_image_scope |= tag.name().0 == "Annotations";
                canvas.open(&tag)?;
                canvas.close(tag.name().0)?;
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                canvas.close(tag.name().0)?;
            }
            Event::Eof if !is_image_scope => {
                return Err(Error::input(
                    "not annotations of Aperio ImageScope, which begin with <Annotations>",
                ));
            }
            Event::Eof if depth > 0 => return Err(Error::input("the XML ends in the middle of an element")),
            Event::Eof => return Ok(canvas.finish()),
            _ => {}
        }
    }
}

/// The picture that is being filled, and the region that is being read.
struct Canvas {
    labels: Labels,
    region: Option<Region>,
    highest_id: u32,
    left_out: usize,
    work_left: f64,
}

struct Region {
    vertices: Vec<Point>,
    is_hole: bool,
}

impl Canvas {
    fn new(size: Size) -> Self {
        let work_left = (size.area_px() as f64 * WORK_A_PIXEL).max(LEAST_WORK);
        Self { labels: Labels::background(size), region: None, highest_id: 0, left_out: 0, work_left }
    }

    fn open(&mut self, tag: &BytesStart) -> Result<()> {
        match (tag.name().0, &mut self.region) {
            ("Region", None) => {
                let is_hole = attribute(tag, "NegativeROA")?.is_some_and(|value| value == "1");
                self.region = Some(Region { vertices: Vec::new(), is_hole });
            }
            ("Region", Some(_)) => return Err(Error::input("a Region inside a Region")),
            ("Vertex", Some(region)) => {
                region.vertices.push(Point { x: coordinate(tag, "X")?, y: coordinate(tag, "Y")? });
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, name: &str) -> Result<()> {
        let finished = if name == "Region" { self.region.take() } else { None };
        finished.map_or(Ok(()), |region| self.fill(&region))
    }

    fn fill(&mut self, region: &Region) -> Result<()> {
        if region.vertices.len() < 3 {
            self.left_out += 1;
            return Ok(());
        }
        self.work_left -= work_of(&region.vertices, self.labels.size);
        if self.work_left < 0.0 {
            let what = format!("the polygons of this {} picture overlap beyond reason", self.labels.size);
            return Err(
                Error::limit(what).advise("check that the annotations belong to a picture of this size")
            );
        }
        self.highest_id += u32::from(!region.is_hole);
        let id = if region.is_hole { 0 } else { self.highest_id };
        let Labels { size, ids } = &mut self.labels;
        fill_polygon(&region.vertices, *size, |index| {
            if let Some(pixel) = ids.get_mut(index) {
                *pixel = id;
            }
        });
        Ok(())
    }

    fn finish(self) -> LabelMap {
        let interpretation = Interpretation::Polygons { left_out: self.left_out };
        LabelMap { labels: self.labels, interpretation }
    }
}

/// Pixels of the bounding box and rows that the edges cross, inside the picture.
fn work_of(vertices: &[Point], size: Size) -> f64 {
    let (width, height) = (size.width_px as f64, size.height_px as f64);
    let inside = |point: &Point| (point.x.clamp(0.0, width), point.y.clamp(0.0, height));
    let (mut left, mut right, mut top, mut bottom) = (width, 0.0_f64, height, 0.0_f64);
    let (mut crossings, mut before) = (0.0, None);
    for (x, y) in vertices.iter().map(inside) {
        (left, right, top, bottom) = (left.min(x), right.max(x), top.min(y), bottom.max(y));
        crossings += 1.0 + before.map_or(0.0, |before: f64| (y - before).abs());
        before = Some(y);
    }
    (right - left) * (bottom - top) + crossings
}

fn coordinate(tag: &BytesStart, name: &str) -> Result<f64> {
    let text = attribute(tag, name)?.ok_or_else(|| Error::input(format!("a Vertex without {name}")))?;
    let number = text.trim().parse().ok().filter(|number: &f64| number.abs() <= FARTHEST_PX);
    number.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Error::input(format!("a Vertex with {name}={shown:?}, which is not a position in pixels"))
    })
}

fn attribute(tag: &BytesStart, name: &str) -> Result<Option<String>> {
    let found = tag.try_get_attribute(name).map_err(|error| damaged(&error))?;
    Ok(found.map(|attribute| attribute.value.into_owned()))
}

fn damaged(error: &dyn std::fmt::Display) -> Error {
    Error::input(format!("damaged XML ({error})"))
}

fn not_utf8() -> Error {
    Error::input("XML that is not in UTF-8").advise("save it as UTF-8 in a text editor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::Fault;

    fn region(attributes: &str, corners: &[(f64, f64)]) -> String {
        let vertices: String = corners.iter().map(|(x, y)| format!("<Vertex X=\"{x}\" Y='{y}'/>")).collect();
        format!("<Region {attributes}><Attributes/><Vertices>{vertices}</Vertices></Region>")
    }

    fn square(left: f64, top: f64, right: f64, bottom: f64) -> [(f64, f64); 4] {
        [(left, top), (right, top), (right, bottom), (left, bottom)]
    }

    fn annotations(regions: &str) -> String {
        format!(
            "<?xml version='1.0'?><Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"
        )
    }

    fn read_text(text: &str, size: Size) -> Result<LabelMap> {
        read(text.as_bytes(), size, Budget::DEFAULT)
    }

    #[test]
    fn later_regions_cover_earlier_ones_and_holes_are_background() {
        let regions = region("Id='7'", &square(-0.5, -0.5, 3.5, 0.5))
            + &region("Id='2'", &square(1.5, -0.5, 9.5, 0.5))
            + &region("NegativeROA=\"1\"", &square(3.5, -0.5, 4.5, 0.5))
            + &region("Type='3'", &[(0.0, 0.0), (5.0, 0.0)]);
        let map = read_text(&annotations(&regions), Size::new(6, 1)).unwrap();
        assert_eq!(map.labels.ids, [1, 1, 2, 2, 0, 2]);
        assert_eq!(map.interpretation, Interpretation::Polygons { left_out: 1 });
    }

    #[test]
    fn what_is_not_annotations_is_an_input_error_that_says_why() {
        let whole = annotations(&region("", &square(0.0, 0.0, 2.0, 2.0)));
        let cases = [
            ("", "<Annotations>"),
            ("<annotation/>", "<Annotations>"),
            ("\u{0}", "<Annotations>"),
            (whole.trim_end_matches("</Annotations>"), "middle of an element"),
            (&whole.replace("X=\"0\"", "X=\"zero\""), "X=\"zero\""),
            (&whole.replace("X=\"0\"", "X=\"NaN\""), "X=\"NaN\""),
            (&whole.replace("X=\"0\"", "X=\"1e300\""), "X=\"1e300\""),
            (&whole.replace("X=\"0\"", ""), "without X"),
            (&whole.replace("<Attributes/>", "<Region/>"), "a Region inside a Region"),
            (&whole.replace("</Vertices>", "</Vertex>"), "damaged XML"),
        ];
        for (text, says) in cases {
            let error = read_text(text, Size::new(4, 4)).unwrap_err();
            assert!(error.fault() == Fault::Input && error.to_string().contains(says), "{text}: {error}");
        }
        assert!(
            read(b"\xff\xfe<\0", Size::new(1, 1), Budget::DEFAULT).unwrap_err().to_string().contains("UTF-8")
        );
    }

    #[test]
    fn depth_and_entities_cost_nothing() {
        let deep = format!("<Annotations>{}", "<a>".repeat(300_000));
        assert!(read_text(&deep, Size::new(2, 2)).is_err());
        let bomb =
            "<!DOCTYPE a [<!ENTITY a \"&b;&b;\"><!ENTITY b \"&a;&a;\">]><Annotations>&a;</Annotations>";
        assert_eq!(read_text(bomb, Size::new(2, 2)).unwrap().labels.highest_id(), 0);
    }

    #[test]
    fn regions_that_cover_the_picture_again_and_again_are_refused() {
        let regions = region("", &square(-1.0, -1.0, 2000.0, 2000.0)).repeat(200);
        let error = read_text(&annotations(&regions), Size::new(1000, 1000)).unwrap_err();
        assert_eq!(error.fault(), Fault::Limit);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = annotations(&region("Id='1'", &square(0.0, 0.0, 2.0, 2.0)));
        assert!((0..whole.len()).all(|length| read_text(&whole[..length], Size::new(4, 4)).is_err()));
    }
}

//! Outlines of objects along pixel edges: drawn again, they give back exactly the pixels they came from.
//!
//! An object's pixels fall into parts that are connected by edges; each part becomes one polygon, and two
//! parts that only touch at a corner become two. Inside a part, background that touches at a corner becomes
//! two holes. Rings are therefore simple: none crosses itself or meets a corner twice, though two rings may
//! share a corner.

use crate::components::{Connectivity, label_components};
use crate::region::{PixelBox, Region};
use crate::{Labels, Size};

/// A pixel corner: pixel (0, 0) reaches from corner (0, 0) to corner (1, 1), y down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vertex {
    /// Column of the pixel to the right of the corner.
    pub x: i32,
    /// Row of the pixel below the corner.
    pub y: i32,
}

/// A part of an object and its holes. Rings are closed (the first vertex is repeated at the end) and have no
/// vertex on a straight line between its neighbours.
///
/// By GeoJSON's rule (RFC 7946) outer rings run counter-clockwise and holes clockwise. That is meant by the
/// numbers, as validators compute it: the shoelace sum is positive for outer rings and negative for holes. On
/// a screen, where y points down, outer rings are seen to run clockwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polygon {
    /// The boundary with the outside.
    pub outer: Vec<Vertex>,
    /// The boundaries with what is enclosed.
    pub holes: Vec<Vec<Vertex>>,
}

/// The polygons of one object, in the scan order of their first pixels.
///
/// `region` is the object as measured on the same `labels`; only its id and bounds are looked at, and bounds
/// beyond the map are cut off. The work is linear in the area of the bounds.
///
/// # Panics
/// If `labels.ids` does not fill `labels.size`.
pub fn outline(labels: &Labels, region: &Region) -> Vec<Polygon> {
    assert_eq!(labels.ids.len(), labels.size.area_px(), "the labels do not fill {} pixels", labels.size);
    let bounds = within(region.bounds, labels.size);
    let size = Size::new(bounds.max_x_px - bounds.min_x_px, bounds.max_y_px - bounds.min_y_px);
    let rows = bounds.min_y_px..bounds.max_y_px;
    let ids = rows.flat_map(|y| &labels.ids[labels.size.index(bounds.min_x_px, y)..][..size.width_px]);
    let mask: Vec<bool> = ids.map(|&id| id == region.id).collect();
    let parts = label_components(&mask, size, Connectivity::Four);
    Tracer { parts: &parts, bounds, top_edge_done: vec![false; mask.len()] }.trace_all()
}

fn within(bounds: PixelBox, size: Size) -> PixelBox {
    let (max_x_px, max_y_px) = (bounds.max_x_px.min(size.width_px), bounds.max_y_px.min(size.height_px));
    PixelBox {
        min_x_px: bounds.min_x_px.min(max_x_px),
        min_y_px: bounds.min_y_px.min(max_y_px),
        max_x_px,
        max_y_px,
    }
}

/// Walks along boundaries with the part on the right hand as seen on a screen.
struct Tracer<'a> {
    parts: &'a Labels,
    bounds: PixelBox,
    /// Which pixels' upper edge is on a ring already. Every ring has such an edge.
    top_edge_done: Vec<bool>,
}

/// A corner in the box, and the direction of the step that led there.
#[derive(Clone, Copy, PartialEq)]
struct Step {
    x: isize,
    y: isize,
    dx: isize,
    dy: isize,
}

impl Tracer<'_> {
    fn trace_all(mut self) -> Vec<Polygon> {
        let mut polygons: Vec<Polygon> = Vec::new();
        for index in 0..self.parts.ids.len() {
            let (x, y) =
                ((index % self.parts.size.width_px) as isize, (index / self.parts.size.width_px) as isize);
            let part = self.parts.ids[index];
            if part == 0 || self.top_edge_done[index] || self.part_at(x, y - 1) == part {
                continue;
            }
            let ring = self.trace(part, x, y);
            // Parts are numbered in scan order, and a scan meets a part's outer ring before its holes.
            match polygons.get_mut(part as usize - 1) {
                Some(polygon) => polygon.holes.push(ring),
                None => polygons.push(Polygon { outer: ring, holes: Vec::new() }),
            }
        }
        polygons
    }

    /// The ring that begins with the upper edge of the pixel (x, y).
    fn trace(&mut self, part: u32, x: isize, y: isize) -> Vec<Vertex> {
        let start = Step { x: x + 1, y, dx: 1, dy: 0 };
        let (mut step, mut ring) = (start, Vec::new());
        loop {
            if step.dx == 1 {
                self.top_edge_done[step.y as usize * self.parts.size.width_px + step.x as usize - 1] = true;
            }
            let next = self.next(part, step);
            if (next.dx, next.dy) != (step.dx, step.dy) {
                ring.push(self.vertex(step));
            }
            step = next;
            if step == start {
                break;
            }
        }
        ring.extend(ring.first().copied());
        ring
    }

    /// Around a corner where two pixels of the part touch the ring follows the background: it turns left, and
    /// so do the rings of holes, which keeps them apart.
    fn next(&self, part: u32, Step { x, y, dx, dy }: Step) -> Step {
        // Of the four pixels around a corner, those ahead: offset by half a step forward and half to the
        // side.
        let ahead = |side: isize| {
            let (double_x, double_y) = (dx - side * dy, dy + side * dx);
            self.part_at(x + (double_x - 1) / 2, y + (double_y - 1) / 2) == part
        };
        let (dx, dy) = match (ahead(-1), ahead(1)) {
            (true, _) => (dy, -dx),
            (false, true) => (dx, dy),
            (false, false) => (-dy, dx),
        };
        Step { x: x + dx, y: y + dy, dx, dy }
    }

    fn part_at(&self, x: isize, y: isize) -> u32 {
        let Size { width_px, height_px } = self.parts.size;
        let inside = (0..width_px as isize).contains(&x) && (0..height_px as isize).contains(&y);
        if inside { self.parts.ids[y as usize * width_px + x as usize] } else { 0 }
    }

    fn vertex(&self, step: Step) -> Vertex {
        let place =
            |offset_px: usize, at: isize| i32::try_from(offset_px as i64 + at as i64).unwrap_or(i32::MAX);
        Vertex { x: place(self.bounds.min_x_px, step.x), y: place(self.bounds.min_y_px, step.y) }
    }
}

//! Filling polygons: which pixels have their centre inside.
//!
//! A scan line meets the polygon's edges in an even number of places, and is inside between every other two.
//! Only rows of the picture are scanned, and each keeps the edges that it crosses: the work follows the
//! crossings inside the picture, and the memory the number of vertices, wherever the polygon lies.

use crate::Size;

/// A point in pixels; the centre of the first pixel is at (0, 0), y down. Where pixel corners are whole
/// numbers, as in GeoJSON and in [`contours`](crate::contours), subtract 0.5 from both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Column.
    pub x: f64,
    /// Row.
    pub y: f64,
}

/// Calls `visit` with the index of each pixel whose centre is inside the polygon, in scan order.
///
/// Inside is by the even-odd rule; the last vertex is joined to the first. Equal to `skimage.draw.polygon`
/// except for centres that lie on an edge: those on a left or upper edge are inside, those on a right or
/// lower edge are not, so that polygons with a common edge share no pixel. Vertices that are not finite are
/// left out.
pub fn fill_polygon(vertices: &[Point], size: Size, mut visit: impl FnMut(usize)) {
    let edges = edges_of(vertices, size.height_px);
    let mut waiting = edges.iter().peekable();
    let (mut active, mut crossings): (Vec<&Edge>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut y = edges.first().map_or(size.height_px, |edge| edge.first_row);
    while y < size.height_px && !(active.is_empty() && waiting.peek().is_none()) {
        active.retain(|edge| y < edge.end_row);
        while let Some(edge) = waiting.next_if(|edge| edge.first_row <= y) {
            active.push(edge);
        }
        crossings.clear();
        crossings.extend(active.iter().map(|edge| edge.x_at(y as f64)));
        crossings.sort_by(f64::total_cmp);
        for pair in crossings.chunks_exact(2) {
            let columns =
                first_at_or_after(pair[0], size.width_px)..first_at_or_after(pair[1], size.width_px);
            columns.for_each(|x| visit(size.index(x, y)));
        }
        y += 1;
    }
}

/// An edge that crosses rows of the picture: those with `from.y ≤ row < to.y`.
struct Edge {
    from: Point,
    to: Point,
    first_row: usize,
    end_row: usize,
}

impl Edge {
    /// None for an edge that crosses no row of the picture.
    fn between(one: Point, other: Point, height_px: usize) -> Option<Self> {
        let (from, to) = if one.y < other.y { (one, other) } else { (other, one) };
        let (first_row, end_row) = (first_at_or_after(from.y, height_px), first_at_or_after(to.y, height_px));
        (first_row < end_row).then_some(Self { from, to, first_row, end_row })
    }

    fn x_at(&self, y: f64) -> f64 {
        self.from.x + (y - self.from.y) / (self.to.y - self.from.y) * (self.to.x - self.from.x)
    }
}

/// Edges between neighbouring finite vertices and from the last to the first, sorted by first row.
fn edges_of(vertices: &[Point], height_px: usize) -> Vec<Edge> {
    let finite = |point: &&Point| point.x.is_finite() && point.y.is_finite();
    let points: Vec<Point> = vertices.iter().filter(finite).map(bounded).collect();
    let next = points.iter().skip(1).chain(points.first());
    let pairs = points.iter().zip(next);
    let mut edges: Vec<Edge> =
        pairs.filter_map(|(&one, &other)| Edge::between(one, other, height_px)).collect();
    edges.sort_by_key(|edge| edge.first_row);
    edges
}

/// Keeps differences of coordinates finite.
fn bounded(point: &Point) -> Point {
    const FAR: f64 = 1e150;
    Point { x: point.x.clamp(-FAR, FAR), y: point.y.clamp(-FAR, FAR) }
}

/// The smallest whole number that is not below `at`, within `0..=limit`.
fn first_at_or_after(at: f64, limit: usize) -> usize {
    // A cast of a negative number gives 0, of a large one the largest.
    (at.ceil() as usize).min(limit)
}

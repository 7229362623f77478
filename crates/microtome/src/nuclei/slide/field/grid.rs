//! Where the windows and places of a slide lie: in squares of cells, from its upper left corner on.

use super::colours::SQUARE_CELLS;
use crate::nuclei::cells::Cells;
use microtome_slide::{MicronsPerPixel, PointInLevel, RectangleInLevel, Size};
use std::ops::Range;

/// Side of cells, in µm: about. Nuclei are six of them wide.
const CELL_UM: f64 = 1.0;
/// Side of windows, in squares: 96 µm.
pub const WINDOW: usize = 12;
/// How far windows lie apart, in squares: half of their side.
pub const STEP: usize = 6;
/// Side of places, in squares.
const PLACE: usize = 3;
/// How far from a place the windows that it may be read by end, in squares.
const REACH: usize = 8;
/// Pixels that are read at a time, along a side; more where a window is larger.
const BLOCK_PX: usize = 2048;

/// A rectangle of squares, or of windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Squares {
    /// From left to right.
    pub columns: Range<usize>,
    /// From top to bottom.
    pub rows: Range<usize>,
}

impl Squares {
    /// Their number along both sides.
    pub fn size(&self) -> Size {
        Size::new(self.columns.len(), self.rows.len())
    }
}

/// Squares, windows and places of a level.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    level: Size,
    /// What windows see instead of pixels.
    pub cells: Cells,
    /// How many squares there are along both sides.
    pub squares: Size,
    /// How many windows.
    pub windows: Size,
    /// How many places.
    pub places: Size,
    blocks: Size,
    /// Windows along the side of a block.
    block: usize,
}

/// Windows that are read from the same pixels.
#[derive(Clone, Debug)]
pub struct Block {
    /// Those that no other block has, beside those of its windows.
    pub own: Squares,
    /// All that is looked at.
    pub seen: Squares,
    /// Of the windows.
    pub windows: Squares,
}

impl Grid {
    /// That of a level.
    pub fn of(level: Size, mpp: Option<MicronsPerPixel>) -> Self {
        let cells = Cells::about(CELL_UM, mpp);
        let square_px = SQUARE_CELLS * cells.side_px();
        let both = |of: fn(usize, usize) -> usize, by: usize| {
            Size::new(of(level.width_px, by), of(level.height_px, by))
        };
        let squares = both(usize::div_ceil, square_px);
        let whole = both(|length, by| length / by, square_px);
        let windows_of = |squares: usize| squares.checked_sub(WINDOW).map_or(0, |rest| rest / STEP + 1);
        let windows = match (windows_of(whole.width_px), windows_of(whole.height_px)) {
            (0, _) | (_, 0) => Size::new(0, 0),
            (across, down) => Size::new(across, down),
        };
        let block = (BLOCK_PX / (STEP * square_px)).saturating_sub(1).max(1);
        let blocks = Size::new(windows.width_px.div_ceil(block), windows.height_px.div_ceil(block));
        let places = Size::new(squares.width_px.div_ceil(PLACE), squares.height_px.div_ceil(PLACE));
        Self { level, cells, squares, windows, places, blocks, block }
    }

    /// Side of places, in pixels.
    pub fn place_px(&self) -> usize {
        PLACE * SQUARE_CELLS * self.cells.side_px()
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.area_px()
    }

    /// A block, by its number.
    pub fn block(&self, number: usize) -> Block {
        let along = |at: usize, blocks: usize, windows: usize, squares: usize| {
            let windows = at * self.block..((at + 1) * self.block).min(windows);
            let (start, is_last) = (STEP * windows.start, at + 1 == blocks);
            let end = |own: usize| if is_last { squares } else { own };
            let (own, seen) = (end(STEP * windows.end), end(STEP * (windows.end - 1) + WINDOW));
            (windows, start..own, start..seen)
        };
        let column = number % self.blocks.width_px;
        let row = number / self.blocks.width_px;
        let x = along(column, self.blocks.width_px, self.windows.width_px, self.squares.width_px);
        let y = along(row, self.blocks.height_px, self.windows.height_px, self.squares.height_px);
        Block {
            windows: Squares { columns: x.0, rows: y.0 },
            own: Squares { columns: x.1, rows: y.1 },
            seen: Squares { columns: x.2, rows: y.2 },
        }
    }

    /// The squares of a window.
    pub fn window(&self, column: usize, row: usize) -> Squares {
        let along = |at: usize| STEP * at..STEP * at + WINDOW;
        Squares { columns: along(column), rows: along(row) }
    }

    /// The squares of a place.
    pub fn place(&self, column: usize, row: usize) -> Squares {
        let along = |at: usize, squares: usize| PLACE * at..(PLACE * (at + 1)).min(squares);
        Squares { columns: along(column, self.squares.width_px), rows: along(row, self.squares.height_px) }
    }

    /// The windows that a place may be read by, as ranges of columns and of rows.
    pub fn windows_around(&self, column: usize, row: usize) -> Squares {
        let along = |at: usize, windows: usize| {
            let (start, end) = (PLACE * at, PLACE * (at + 1));
            let first = end.saturating_sub(WINDOW + REACH).div_ceil(STEP);
            first.min(windows)..((start + REACH) / STEP + 1).min(windows)
        };
        Squares { columns: along(column, self.windows.width_px), rows: along(row, self.windows.height_px) }
    }

    /// Where squares lie, in pixels of the level.
    pub fn rectangle(&self, squares: &Squares) -> RectangleInLevel {
        let square_px = SQUARE_CELLS * self.cells.side_px();
        let corner = PointInLevel::new(
            (squares.columns.start * square_px) as i64,
            (squares.rows.start * square_px) as i64,
        );
        let size = Size::new(squares.columns.len() * square_px, squares.rows.len() * square_px);
        RectangleInLevel { corner, size }.within(self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grids() -> [Grid; 5] {
        let of = |width, height, mpp| Grid::of(Size::new(width, height), MicronsPerPixel::new(mpp).ok());
        [
            of(32000, 31250, 0.25),
            of(2220, 2967, 0.499),
            of(385, 384, 0.25),
            of(5000, 700, 1.0),
            of(9000, 20000, 0.01),
        ]
    }

    #[test]
    fn blocks_have_every_window_once_and_every_square_is_one_blocks_own() {
        for grid in grids() {
            let (mut windows, mut squares) =
                (vec![0; grid.windows.area_px()], vec![0; grid.squares.area_px()]);
            for block in (0..grid.blocks()).map(|number| grid.block(number)) {
                for row in block.windows.rows.clone() {
                    for column in block.windows.columns.clone() {
                        windows[grid.windows.index(column, row)] += 1;
                        let window = grid.window(column, row);
                        assert!(window.columns.end <= block.seen.columns.end);
                        assert!(window.rows.end <= block.seen.rows.end);
                        let whole_px = WINDOW * SQUARE_CELLS * grid.cells.side_px();
                        assert_eq!(grid.rectangle(&window).size, Size::new(whole_px, whole_px));
                    }
                }
                for row in block.own.rows.clone() {
                    block.own.columns.clone().for_each(|x| squares[grid.squares.index(x, row)] += 1);
                }
            }
            assert!(windows.iter().all(|count| *count == 1) && squares.iter().all(|count| *count == 1));
            let side_px = grid.rectangle(&grid.block(0).seen).size.width_px;
            assert!(side_px <= 5 * BLOCK_PX, "{side_px}");
        }
    }

    #[test]
    fn places_are_read_by_windows_that_end_near_them() {
        for grid in grids() {
            let mut seen = 0;
            for (column, row) in [(0, 0), (5, 3), (grid.places.width_px - 1, grid.places.height_px - 1)] {
                let (place, around) = (grid.place(column, row), grid.windows_around(column, row));
                for at in 0..grid.windows.width_px {
                    let window = grid.window(at, 0).columns;
                    // A whole place, also where the slide's edge cuts it.
                    let (start, end) = (place.columns.start, place.columns.start + PLACE);
                    let far = window.start.saturating_sub(start).max(end.saturating_sub(window.end));
                    assert_eq!(around.columns.contains(&at), far <= REACH, "place {column}, window {at}");
                    seen += 1;
                }
                assert!(!around.rows.is_empty());
            }
            assert_eq!(seen, 3 * grid.windows.width_px);
        }
    }

    #[test]
    fn what_is_smaller_than_a_window_has_none() {
        let grid = Grid::of(Size::new(383, 4000), None);
        assert_eq!((grid.windows.area_px(), grid.blocks()), (0, 0));
        assert_eq!(grid.places, Size::new(4, 42));
    }
}

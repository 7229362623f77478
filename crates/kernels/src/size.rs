//! The extent of a raster, in pixels.

/// Width and height of a row-major raster, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// Number of columns.
    pub width_px: usize,
    /// Number of rows.
    pub height_px: usize,
}

impl Size {
    /// A raster of `width_px` columns and `height_px` rows.
    pub const fn new(width_px: usize, height_px: usize) -> Self {
        Self { width_px, height_px }
    }

    /// Number of pixels.
    pub const fn area_px(self) -> usize {
        self.width_px * self.height_px
    }

    /// Index of the pixel at column `x`, row `y`.
    #[inline]
    pub const fn index(self, x: usize, y: usize) -> usize {
        y * self.width_px + x
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}", self.width_px, self.height_px)
    }
}

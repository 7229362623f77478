//! What an encoder learns from: tiles, and how strongly each one's slide is stained. There is no place for truth.

use microtome_kernels::Size;
use microtome_kernels::views::stain::StainStatistics;

/// Square tiles of one side.
#[derive(Clone, Debug)]
pub struct TrainingTiles<'a> {
    side_px: usize,
    rgb: &'a [u8],
    statistics: &'a [StainStatistics],
    slide_of_tile: Vec<usize>,
}

impl<'a> TrainingTiles<'a> {
    /// Tiles `[tiles, side, side, 3]`, the statistics of their slides, and the slide of each tile.
    ///
    /// # Panics
    /// When the pixels do not fill the tiles, or a tile's slide has no statistics.
    pub fn new(
        side_px: usize,
        rgb: &'a [u8],
        statistics: &'a [StainStatistics],
        slide_of_tile: Vec<usize>,
    ) -> Self {
        assert_eq!(rgb.len(), slide_of_tile.len() * 3 * side_px * side_px, "pixels fill the tiles");
        assert!(slide_of_tile.iter().all(|slide| *slide < statistics.len()), "each slide has statistics");
        Self { side_px, rgb, statistics, slide_of_tile }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slide_of_tile.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slide_of_tile.is_empty()
    }

    /// Extent of a tile.
    pub(crate) fn size(&self) -> Size {
        Size::new(self.side_px, self.side_px)
    }

    /// Interleaved RGB of a tile.
    pub(crate) fn rgb(&self, tile: usize) -> &[u8] {
        let bytes = 3 * self.side_px * self.side_px;
        &self.rgb[tile * bytes..][..bytes]
    }

    /// The statistics of a tile's slide.
    pub(crate) fn statistics(&self, tile: usize) -> &StainStatistics {
        &self.statistics[self.slide_of_tile[tile]]
    }
}

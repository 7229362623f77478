//! What a window looks like to a set of centroids. No name is in it.

use super::Question;
use super::kept::Keeper;
use crate::tissue::clusters::cosines_to;
use crate::tissue::encoder::CellMap;
use microtome_kernels::Size;

/// Cosines of a window's cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Columns and rows of cells.
    pub size: Size,
    /// To each centroid: `[rows][columns][centroids]`.
    pub cosines: Vec<f32>,
    /// Cells of the same number are alike; none where nobody asked.
    pub alike: Vec<u32>,
}

impl Seen {
    /// Of vectors of length 1.
    pub(super) fn of(
        question: &Question<'_>,
        keeper: Option<&Keeper<'_>>,
        cells: &CellMap,
        alike: Vec<u32>,
    ) -> Self {
        let cosines = cosines_to(&cells.values, centroids(question, keeper), cells.dimensions);
        Self { size: cells.size, cosines, alike }
    }

    /// Cosines of each cell to the prototypes alone, `[cells][prototypes]`.
    pub(super) fn to_prototypes(&self, question: &Question<'_>, keeper: Option<&Keeper<'_>>) -> Vec<f32> {
        let count = self.cosines.len() / self.size.area_px().max(1);
        let columns: Vec<usize> = match keeper {
            None => (0..count).collect(),
            Some(_) => question.dictionary.prototypes.iter().map(|prototype| prototype.cluster).collect(),
        };
        let cells = self.cosines.chunks_exact(count);
        cells.flat_map(|cosines| columns.iter().map(|column| cosines[*column])).collect()
    }
}

/// How many centroids cells are compared with.
pub(super) fn compared_with(question: &Question<'_>, keeper: Option<&Keeper<'_>>) -> usize {
    let dimensions = question.dictionary.encoder.dimensions(question.settings.level);
    centroids(question, keeper).len() / dimensions.max(1)
}

/// What cells are compared with: all clusters of a project, or what a dictionary has of them.
fn centroids<'a>(question: &'a Question<'_>, keeper: Option<&'a Keeper<'_>>) -> &'a [f32] {
    let level = question.settings.level;
    match keeper {
        None => &question.dictionary.centroids[&level],
        Some(keeper) => &keeper.centroids[&level],
    }
}

//! What a dictionary says of every place of a slide: which class, and how surely.
//!
//! Three ways. *Direct* and *cluster* are the paper's: each cell takes the class of the nearest prototype; or cells are put
//! together within the picture first, and each local centroid takes the class of the nearest prototype. *Fine* is ours:
//! maps between the cells of a coarse encoder, vectors averaged over what a name was about, classes weighed by nearness
//! instead of the first taking all, and weights smoothed over the neighbourhood before one is taken.
//!
//! A window is *seen* first, as cosines to centroids ([`seen`]), and then *decided* with the names; a project keeps
//! what was seen ([`kept`]), so that new names cost no encoding.

pub mod cells;
pub mod fine;
pub mod imported;
pub mod kept;
pub mod paper;
pub mod seen;

use super::dictionary::Dictionary;
use super::encoder::CellPlace;
use super::look::Look;
use crate::context::Context;
use crate::project::settings::IGNORED;
use crate::slides::view::View;
use kept::{Expected, Keeper, Recollection};
use microtome_kernels::Size;
use microtome_slide::TissueMask;
use microtome_vault::{Error, Result};
use std::str::FromStr;

/// How a dictionary is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The paper's: each cell by itself.
    Direct,
    /// The paper's: cells that are alike in the picture together.
    Cluster,
    /// Ours.
    Fine,
}

impl Method {
    const ALL: [(Self, &str); 3] =
        [(Self::Direct, "direct"), (Self::Cluster, "cluster"), (Self::Fine, "fine")];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(method, _)| *method == self).map_or("", |(_, name)| name)
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(method, _)| *method);
        found.ok_or_else(|| {
            Error::usage(format!("there is no query “{text}”")).advise("it is direct, cluster or fine")
        })
    }
}

/// How a dictionary is asked, in full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuerySettings {
    /// Which way.
    pub method: Method,
    /// Level of the encoder.
    pub level: usize,
    /// Fine: a prototype whose cosine is lower by this, in units of how far prototypes are from their nearest neighbours, weighs
    /// less by a factor of e.
    pub temperature: f32,
    /// Fine: standard deviation of the neighbourhood, in pixels of the view.
    pub smoothing_px: f32,
    /// Places that are less sure than this are left without a class.
    pub least_confidence: f32,
    /// Fixes what chance decides.
    pub seed: u64,
}

impl QuerySettings {
    /// Ours, or what there is of it for the paper's ways.
    pub fn new(method: Method, level: usize, seed: u64) -> Self {
        Self { method, level, temperature: 0.3, smoothing_px: 16.0, least_confidence: 0.0, seed }
    }
}

/// Classes of places, which are squares of a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Places {
    /// Columns and rows.
    pub size: Size,
    /// Side of a place, in pixels of the view.
    pub side_px: usize,
    /// The class of each, [`IGNORED`] where nothing is said.
    pub class: Vec<u8>,
    /// How surely, 0 to 254.
    pub confidence: Vec<u8>,
    /// Median over the places of the cosine to the nearest prototype.
    pub nearness: f64,
}

/// Who is asked about what.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The named prototypes.
    pub dictionary: &'a Dictionary,
    /// The slide.
    pub view: &'a View<'a>,
    /// How it looks.
    pub look: &'a Look,
    /// Where its tissue is, if not everywhere.
    pub tissue: Option<&'a TissueMask>,
    /// How it is asked.
    pub settings: &'a QuerySettings,
}

impl Question<'_> {
    /// Side of a place, in pixels of the view.
    fn side_px(&self) -> usize {
        match self.settings.method {
            Method::Fine => fine::side_px(self.dictionary, self.settings.level),
            _ => self.stride_px(),
        }
    }

    fn stride_px(&self) -> usize {
        self.dictionary.encoder.stride_px(self.settings.level)
    }

    /// Which places of a window are in tissue.
    fn in_tissue(&self, corner: [usize; 2], size: Size, side_px: usize) -> Vec<bool> {
        let Some(tissue) = self.tissue else { return vec![true; size.area_px()] };
        let side = side_px as f64 * self.view.downsample;
        let middle = |cell: usize| (cell as f64 + 0.5) * side;
        let rows = corner[1]..corner[1] + size.height_px;
        let columns = corner[0]..corner[0] + size.width_px;
        rows.flat_map(|row| columns.clone().map(move |column| (column, row)))
            .map(|(column, row)| tissue.holds(middle(column), middle(row)))
            .collect()
    }
}

/// Asks a dictionary about every place of a view, window by window. Places that are not in tissue get no class, and windows without
/// tissue are not looked at. `keeper` has what was seen before, and keeps what is seen now.
///
/// # Errors
/// Those of reading; `Limit` when the answer does not fit the budget; `Cancelled`.
pub fn ask(question: &Question<'_>, keeper: Option<&Keeper<'_>>, context: &Context<'_>) -> Result<Places> {
    let (settings, view, side_px) = (question.settings, question.view, question.side_px());
    let size = Size::new(view.size.width_px.div_ceil(side_px), view.size.height_px.div_ceil(side_px));
    context.budget.grant("the classes of this slide", size.area_px() as u64, 2)?;
    let mut places = Places {
        size,
        side_px,
        class: vec![IGNORED; size.area_px()],
        confidence: vec![0; size.area_px()],
        nearness: 0.0,
    };
    let mut nearness = Nearness::default();
    let stride = question.stride_px();
    let windows = question.dictionary.encoder.windows(view, settings.level);
    let recollection = Recollection::of(question, keeper, &windows)?;
    for (number, (corner_px, cells)) in windows.into_iter().enumerate() {
        context.check_cancelled()?;
        let corner = corner_px.map(|px| px as usize / side_px);
        let own = Size::new(cells.width_px * stride / side_px, cells.height_px * stride / side_px);
        let in_tissue = question.in_tissue(corner, own, side_px);
        if !in_tissue.contains(&true) {
            continue;
        }
        let place = CellPlace { level: settings.level, corner_px, size: cells, border: 0, shift_px: [0; 2] };
        let centroids = seen::compared_with(question, keeper);
        let answer = match settings.method {
            Method::Cluster => paper::cluster(question, place, number, context)?,
            Method::Direct => {
                let expected = Expected { size: cells, centroids, alike: 0 };
                let seen = recollection
                    .see(number, expected, context, || paper::seen(question, keeper, place, context))?;
                paper::direct(question, keeper, &seen)
            }
            Method::Fine => {
                let size = fine::extent(question, cells);
                let expected = Expected { size, centroids, alike: size.area_px() };
                let look = || fine::seen(question, keeper, place, number, context);
                let seen = recollection.see(number, expected, context, look)?;
                fine::decided(question, keeper, place, &seen)
            }
        };
        for row in 0..own.height_px.min(size.height_px - corner[1]) {
            for column in 0..own.width_px.min(size.width_px - corner[0]) {
                let (from, to) = (own.index(column, row), size.index(corner[0] + column, corner[1] + row));
                if !in_tissue[from] {
                    continue;
                }
                nearness.add(answer.nearness[from]);
                let confidence = answer.confidence[from];
                if confidence >= settings.least_confidence {
                    places.class[to] = answer.class[from];
                }
                places.confidence[to] = (confidence * 254.0).round().clamp(0.0, 254.0) as u8;
            }
        }
    }
    recollection.finish(context);
    places.nearness = nearness.median();
    Ok(places)
}

/// What is said of the places of a window.
pub struct Answer {
    /// The class of each.
    pub class: Vec<u8>,
    /// How surely, 0 to 1.
    pub confidence: Vec<f32>,
    /// The cosine to the nearest prototype of each.
    pub nearness: Vec<f32>,
}

/// A histogram of cosines: the median of a whole slide in little memory.
#[derive(Default)]
struct Nearness {
    counts: Vec<u64>,
}

impl Nearness {
    const BINS: usize = 2000;

    fn add(&mut self, cosine: f32) {
        self.counts.resize(Self::BINS + 1, 0);
        let bin = ((cosine + 1.0) / 2.0 * Self::BINS as f32).clamp(0.0, Self::BINS as f32);
        self.counts[bin as usize] += 1;
    }

    fn median(&self) -> f64 {
        let half = self.counts.iter().sum::<u64>() / 2;
        let mut sum = 0;
        let bin = self.counts.iter().position(|count| {
            sum += count;
            sum > half
        });
        bin.map_or(0.0, |bin| 2.0 * bin as f64 / Self::BINS as f64 - 1.0)
    }
}

//! Rows of one channel that are made of what lies in memory, vector by vector, on their way to a convolution: what is read
//! is bent, added up and combined while it is in registers.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::groups::{FourRows, GROUP, POINTS};
use super::passes::Extent;
use super::rows::LINE;
use crate::network::normalisation::{Affine, GradientTerms};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::fetch;
use crate::network::winograd_line::{gradient_line, input_line};

/// What rows are made of.
pub(super) trait Make: Copy {
    /// Whether rows may be written down too.
    const KEPT: bool = false;

    /// Rows from the `first` of four on, from pixel `x` on. Beyond the width they are arbitrary.
    ///
    /// # Safety
    /// The instruction set of `V` must be there, and the rows must hold what pixels `x` to `x + LANES` ask for.
    unsafe fn rows<V: Arithmetic, const ROWS: usize>(self, first: usize, x: usize) -> [V; ROWS];

    /// Asks memory for what lies `at` floats from the rows' beginnings.
    fn fetch(self, at: usize);
}

#[inline(always)]
unsafe fn load<V: Arithmetic, const ROWS: usize>(rows: FourRows, first: usize, x: usize) -> [V; ROWS] {
    unsafe {
        let mut values = [V::zero(); ROWS];
        for r in 0..ROWS {
            values[r] = V::load(rows[first + r].add(x));
        }
        values
    }
}

/// scale·z + shift.
#[inline(always)]
unsafe fn normalised<V: Arithmetic, const ROWS: usize>(
    z: FourRows,
    affine: Affine,
    first: usize,
    x: usize,
) -> [V; ROWS] {
    unsafe {
        let (scale, shift) = (V::splat(affine.scale), V::splat(affine.shift));
        let mut values = load::<V, ROWS>(z, first, x);
        for r in 0..ROWS {
            values[r] = shift.plus_product(values[r], scale);
        }
        values
    }
}

#[inline(always)]
fn fetch_rows(rows: FourRows, at: usize) {
    for row in rows {
        fetch(row.wrapping_add(at));
    }
}

/// Rows of the picture, which end with their width.
#[derive(Clone, Copy)]
pub(super) struct Picture {
    pub(super) rows: FourRows,
    pub(super) width: usize,
}

impl Make for Picture {
    #[inline(always)]
    unsafe fn rows<V: Arithmetic, const ROWS: usize>(self, first: usize, x: usize) -> [V; ROWS] {
        unsafe {
            let mut rows = [V::zero(); ROWS];
            for r in 0..ROWS {
                let from = self.rows[first + r];
                if x + V::LANES <= self.width {
                    rows[r] = V::load(from.add(x));
                } else if x < self.width {
                    rows[r] = V::load_first(from.add(x), self.width - x);
                }
            }
            rows
        }
    }

    #[inline(always)]
    fn fetch(self, at: usize) {
        let _ = at; // Its rows are read once, and lie far apart.
    }
}

/// Rows as they are.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    pub(super) rows: FourRows,
}

impl Make for Plain {
    #[inline(always)]
    unsafe fn rows<V: Arithmetic, const ROWS: usize>(self, first: usize, x: usize) -> [V; ROWS] {
        unsafe { load(self.rows, first, x) }
    }

    #[inline(always)]
    fn fetch(self, at: usize) {
        fetch_rows(self.rows, at);
    }
}

/// ELU(normalised z).
#[derive(Clone, Copy)]
pub(super) struct Bent {
    pub(super) z: FourRows,
    pub(super) affine: Affine,
}

impl Make for Bent {
    #[inline(always)]
    unsafe fn rows<V: Arithmetic, const ROWS: usize>(self, first: usize, x: usize) -> [V; ROWS] {
        unsafe { V::elus(normalised::<V, ROWS>(self.z, self.affine, first, x)) }
    }

    #[inline(always)]
    fn fetch(self, at: usize) {
        fetch_rows(self.z, at);
    }
}

/// base + ELU(normalised z).
#[derive(Clone, Copy)]
pub(super) struct Joined {
    pub(super) base: FourRows,
    pub(super) bent: Bent,
}

impl Make for Joined {
    const KEPT: bool = true;

    #[inline(always)]
    unsafe fn rows<V: Arithmetic, const ROWS: usize>(self, first: usize, x: usize) -> [V; ROWS] {
        unsafe {
            let mut rows = self.bent.rows::<V, ROWS>(first, x);
            for r in 0..ROWS {
                rows[r] = V::load(self.base[first + r].add(x)).add(rows[r]);
            }
            rows
        }
    }

    #[inline(always)]
    fn fetch(self, at: usize) {
        fetch_rows(self.base, at);
        self.bent.fetch(at);
    }
}

/// dz = of_g·g·ELU′(scale·z + shift) + of_z·z + constant, from the gradient g towards the bent value.
#[derive(Clone, Copy)]
pub(super) struct GradientOfBent<'a> {
    pub(super) g: FourRows,
    pub(super) z: FourRows,
    pub(super) affine: Affine,
    pub(super) terms: &'a GradientTerms,
}

impl Make for GradientOfBent<'_> {
    #[inline(always)]
    unsafe fn rows<V: Arithmetic, const ROWS: usize>(self, first: usize, x: usize) -> [V; ROWS] {
        unsafe {
            let slopes = V::elu_slopes(normalised::<V, ROWS>(self.z, self.affine, first, x));
            let mut rows = [V::zero(); ROWS];
            for r in 0..ROWS {
                let g = V::load(self.g[first + r].add(x)).mul(slopes[r]);
                rows[r] = with_terms(g, V::load(self.z[first + r].add(x)), self.terms);
            }
            rows
        }
    }

    #[inline(always)]
    fn fetch(self, at: usize) {
        fetch_rows(self.g, at);
        fetch_rows(self.z, at);
    }
}

/// dz = of_g·g + of_z·z + constant, from the gradient g towards the normalised value.
#[derive(Clone, Copy)]
pub(super) struct GradientOfNormalised<'a> {
    pub(super) g: FourRows,
    pub(super) z: FourRows,
    pub(super) terms: &'a GradientTerms,
}

impl Make for GradientOfNormalised<'_> {
    #[inline(always)]
    unsafe fn rows<V: Arithmetic, const ROWS: usize>(self, first: usize, x: usize) -> [V; ROWS] {
        unsafe {
            let mut rows = [V::zero(); ROWS];
            for r in 0..ROWS {
                let z = V::load(self.z[first + r].add(x));
                rows[r] = with_terms(V::load(self.g[first + r].add(x)), z, self.terms);
            }
            rows
        }
    }

    #[inline(always)]
    fn fetch(self, at: usize) {
        fetch_rows(self.g, at);
        fetch_rows(self.z, at);
    }
}

#[inline(always)]
unsafe fn with_terms<V: Arithmetic>(g: V, z: V, terms: &GradientTerms) -> V {
    unsafe {
        let (of_g, of_z, constant) = (V::splat(terms.of_g), V::splat(terms.of_z), V::splat(terms.constant));
        constant.plus_product(z, of_z).plus_product(g, of_g)
    }
}

/// Asks for what is read after this channel, once a line: a channel takes as long as memory does.
#[inline(always)]
fn fetch_next<M: Make>(make: M, x: usize, to_next: usize) {
    if x.is_multiple_of(LINE) {
        make.fetch(to_next + x);
    }
}

/// A channel of a window of six rows, of which the first two were the last ones of the window before.
#[derive(Clone, Copy)]
pub(super) struct WindowChannel {
    /// The two rows that windows share.
    pub(super) shared: [*mut f32; 2],
    /// Whether the four others lie in the picture; they are zero where they do not.
    pub(super) inside: [bool; GROUP],
    /// Where the four others are written down too.
    pub(super) keep: [Option<*mut f32>; GROUP],
    /// As [`super::rows::Strand::distance_to_next`].
    pub(super) to_next: usize,
}

impl WindowChannel {
    /// [`Self::begin`] for the first window, [`Self::combine`] for all others.
    #[inline(always)]
    pub(super) unsafe fn make<V: Arithmetic, M: Make, const BEGIN: bool>(
        self,
        make: M,
        to: [*mut f32; POINTS],
        extent: &Extent,
    ) {
        unsafe {
            match BEGIN {
                true => self.begin::<V, _>(make, extent),
                false => self.combine::<V, _>(make, to, extent),
            }
        }
    }

    /// Makes the last two rows of the window before the first one.
    #[inline(always)]
    pub(super) unsafe fn begin<V: Arithmetic, M: Make>(self, make: M, extent: &Extent) {
        unsafe {
            for x in (0..extent.span).step_by(V::LANES) {
                let rows = self.finished(2, x, make.rows::<V, 2>(2, x), extent);
                for r in 0..2 {
                    rows[r].store(self.shared[r].add(x));
                }
            }
        }
    }

    /// Makes the four rows that are new, and combines all six for the convolution: Bᵀ d of [`super::groups`].
    #[inline(always)]
    pub(super) unsafe fn combine<V: Arithmetic, M: Make>(
        self,
        make: M,
        to: [*mut f32; POINTS],
        extent: &Extent,
    ) {
        let kept = self.keep.map(|keep| keep.is_some());
        let whole = self.inside == [true; GROUP] && kept == [M::KEPT; GROUP];
        let whole = if whole { extent.whole() } else { 0 };
        unsafe {
            for x in (0..whole).step_by(V::LANES) {
                fetch_next(make, x, self.to_next);
                self.combine_at::<V, M, true>(make, to, x, extent);
            }
            for x in (whole..extent.span).step_by(V::LANES) {
                self.combine_at::<V, M, false>(make, to, x, extent);
            }
        }
    }

    /// `WHOLE`: all rows lie in the picture, with all pixels.
    #[inline(always)]
    unsafe fn combine_at<V: Arithmetic, M: Make, const WHOLE: bool>(
        &self,
        make: M,
        to: [*mut f32; POINTS],
        x: usize,
        extent: &Extent,
    ) {
        unsafe {
            let mut new = make.rows::<V, GROUP>(0, x);
            if WHOLE {
                for r in 0..GROUP {
                    if let (true, Some(keep)) = (M::KEPT, self.keep[r]) {
                        new[r].store_past_caches(keep.add(x));
                    }
                }
            } else {
                new = self.finished(0, x, new, extent);
            }
            let [first, second] = self.shared.map(|row| row.add(x));
            let combined = input_line([V::load(first), V::load(second), new[0], new[1], new[2], new[3]]);
            for point in 0..POINTS {
                combined[point].store(to[point].add(x));
            }
            new[2].store(first);
            new[3].store(second);
        }
    }

    /// Rows from the `first` of four on: zero outside the picture, written down where they are kept.
    #[inline(always)]
    unsafe fn finished<V: Arithmetic, const ROWS: usize>(
        &self,
        first: usize,
        x: usize,
        mut rows: [V; ROWS],
        extent: &Extent,
    ) -> [V; ROWS] {
        unsafe {
            for r in 0..ROWS {
                rows[r] = if self.inside[first + r] { extent.within(x, rows[r]) } else { V::zero() };
                if let Some(keep) = self.keep[first + r] {
                    rows[r].store_past_caches(keep.add(x));
                }
            }
            rows
        }
    }
}

/// Makes four rows and combines them for the weights' gradient: A y of [`super::weight_gradient`]. `own` says which of them
/// count; the others are zero. Rows two and three, which no combination holds as they are, are left in `between`.
#[inline(always)]
pub(super) unsafe fn combine_own<V: Arithmetic, M: Make>(
    make: M,
    own: [bool; GROUP],
    to: [*mut f32; POINTS],
    between: [*mut f32; 2],
    to_next: usize,
    extent: &Extent,
) {
    let whole = if own == [true; GROUP] { extent.whole() } else { 0 };
    unsafe {
        for x in (0..whole).step_by(V::LANES) {
            fetch_next(make, x, to_next);
            store_combined(make.rows::<V, GROUP>(0, x), to, between, x);
        }
        for x in (whole..extent.span).step_by(V::LANES) {
            let mut rows = make.rows::<V, GROUP>(0, x);
            for r in 0..GROUP {
                rows[r] = if own[r] { extent.within(x, rows[r]) } else { V::zero() };
            }
            store_combined(rows, to, between, x);
        }
    }
}

#[inline(always)]
unsafe fn store_combined<V: Arithmetic>(
    rows: [V; GROUP],
    to: [*mut f32; POINTS],
    between: [*mut f32; 2],
    x: usize,
) {
    unsafe {
        let combined = gradient_line(rows);
        for point in 0..POINTS {
            combined[point].store(to[point].add(x));
        }
        for r in 0..2 {
            rows[1 + r].store(between[r].add(x));
        }
    }
}

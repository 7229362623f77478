//! The loops over one block of [`super`]. Each is built once for each kind of activation, so that no step asks.

use super::{Activation, Arithmetic, BendKind, BendOfBlock, Lanes, Pattern, TermPattern};
use super::{for_periodic_lanes, run_on, sum_periodic_lanes};

run_on!(pub(super) fn shifted_sums = shifted_sums_kernel(
    z: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32],
));
run_on!(pub(super) fn normalise_block = normalise_kernel(
    pattern: &Pattern, z: *const f32, residual: Option<&[f32]>, activation: Activation, y: *mut f32, length: usize,
));
run_on!(pub(super) fn bent_sums = bent_sums_kernel(
    gradient: &mut [f32], z: &[f32], bend: &BendOfBlock<'_>, sums: &mut [f32], products: &mut [f32],
));
run_on!(pub(super) fn combine_block = combine_kernel(
    pattern: &TermPattern, g: *const f32, z: *const f32, dz: *mut f32, length: usize,
));

/// Σ(z − origin) and Σ(z − origin)², place by place.
///
/// # Safety
/// The instruction set of `V` must be there; `origin`, `sums` and `squares` are one period long, a multiple of 16.
#[inline(always)]
unsafe fn shifted_sums_kernel<V: Arithmetic, const O: usize, const N: usize>(
    z: &[f32],
    origin: &[f32],
    sums: &mut [f32],
    squares: &mut [f32],
) {
    unsafe {
        sum_periodic_lanes!(V, z.len(), (sums, squares), |at, column, lanes, sum, square| {
            // Lanes past the end are zero in both, and so is what they add.
            let value: V = lanes.load(z.as_ptr().add(at));
            let distance = value.sub(lanes.load(origin.as_ptr().add(column)));
            sum = sum.add(distance);
            square = square.plus_product(distance, distance);
        });
    }
}

/// # Safety
/// The instruction set of `V` must be there; `z` and `y` are good for `length` floats and may be one place.
#[inline(always)]
unsafe fn normalise_kernel<V: Arithmetic, const O: usize, const N: usize>(
    pattern: &Pattern,
    z: *const f32,
    residual: Option<&[f32]>,
    activation: Activation,
    y: *mut f32,
    length: usize,
) {
    macro_rules! run {
        ($bent:expr) => {
            match residual {
                Some(residual) => {
                    for_periodic_lanes!(V, length, pattern.period.length, |at, column, lanes| {
                        let scaled: V = scaled(pattern, column, lanes.load(z.add(at)));
                        lanes.store($bent(scaled.add(lanes.load(residual.as_ptr().add(at)))), y.add(at))
                    })
                }
                None => for_periodic_lanes!(V, length, pattern.period.length, |at, column, lanes| {
                    lanes.store($bent(scaled(pattern, column, lanes.load(z.add(at)))), y.add(at))
                }),
            }
        };
    }
    unsafe {
        match activation {
            Activation::None => run!(same::<V>),
            Activation::Relu => run!(relu::<V>),
            Activation::Elu => run!(V::elu),
        }
    }
}

/// scale·z + shift at a place of the pattern.
#[inline(always)]
unsafe fn scaled<V: Arithmetic>(pattern: &Pattern, column: usize, z: V) -> V {
    unsafe {
        let shift = V::load(pattern.shift.as_ptr().add(column));
        shift.plus_product(z, V::load(pattern.scale.as_ptr().add(column)))
    }
}

#[inline(always)]
unsafe fn same<V: Arithmetic>(x: V) -> V {
    x
}

#[inline(always)]
unsafe fn relu<V: Arithmetic>(x: V) -> V {
    unsafe { V::zero().max(x) }
}

/// Σg and Σg·z, place by place, with g = gradient · slope stored in the gradient's place where the slope is read.
///
/// # Safety
/// The instruction set of `V` must be there; `gradient`, `z` and y are of one length, the sums and the pattern one
/// period long, a multiple of 16.
#[inline(always)]
unsafe fn bent_sums_kernel<V: Arithmetic, const O: usize, const N: usize>(
    gradient: &mut [f32],
    z: &[f32],
    bend: &BendOfBlock<'_>,
    sums: &mut [f32],
    products: &mut [f32],
) {
    macro_rules! run {
        (|$g:ident, $z:ident, $at:ident, $column:ident, $lanes:ident| $bent:expr) => {
            sum_periodic_lanes!(V, z.len(), (sums, products), |$at, $column, $lanes, sum, product| {
                let $z: V = $lanes.load(z.as_ptr().add($at));
                let $g: V = $lanes.load(gradient.as_ptr().add($at));
                let g: V = $bent;
                sum = sum.add(g);
                product = product.plus_product(g, $z);
            })
        };
    }
    unsafe {
        let (zero, one) = (V::zero(), V::splat(1.0));
        match bend.kind {
            BendKind::One => run!(|g, z, at, column, lanes| g),
            BendKind::ReluOfInput => run!(|g, z, at, column, lanes| {
                let shift = V::load(bend.shift.as_ptr().add(column));
                shift.plus_product(z, V::load(bend.scale.as_ptr().add(column))).where_positive(g, zero)
            }),
            BendKind::Relu => run!(|g, z, at, column, lanes| {
                let y: V = lanes.load(bend.y.as_ptr().add(at));
                let bent = y.where_positive(g, zero);
                lanes.store(bent, gradient.as_mut_ptr().add(at));
                bent
            }),
            BendKind::Elu => run!(|g, z, at, column, lanes| {
                let y: V = lanes.load(bend.y.as_ptr().add(at));
                let bent = g.mul(y.where_positive(one, y.add(one)));
                lanes.store(bent, gradient.as_mut_ptr().add(at));
                bent
            }),
        }
    }
}

/// dz = of_g·g + of_z·z + constant.
///
/// # Safety
/// The instruction set of `V` must be there; the pointers are good for `length` floats, and dz may be g or z.
#[inline(always)]
unsafe fn combine_kernel<V: Arithmetic, const O: usize, const N: usize>(
    pattern: &TermPattern,
    g: *const f32,
    z: *const f32,
    dz: *mut f32,
    length: usize,
) {
    macro_rules! run {
        (|$g:ident, $z:ident, $column:ident| $bent:expr) => {
            for_periodic_lanes!(V, length, pattern.period.length, |at, $column, lanes| {
                let ($g, $z): (V, V) = (lanes.load(g.add(at)), lanes.load(z.add(at)));
                let constant = V::load(pattern.constant.as_ptr().add($column));
                let of_z = V::load(pattern.of_z.as_ptr().add($column));
                let of_g = V::load(pattern.of_g.as_ptr().add($column));
                let bent: V = $bent;
                lanes.store(constant.plus_product(of_z, $z).plus_product(of_g, bent), dz.add(at))
            })
        };
    }
    unsafe {
        if pattern.bends {
            run!(|g, z, column| {
                let shift = V::load(pattern.shift.as_ptr().add(column));
                let scale = V::load(pattern.scale.as_ptr().add(column));
                shift.plus_product(z, scale).where_positive(g, V::zero())
            })
        } else {
            run!(|g, z, column| g)
        }
    }
}

//! Every kernel against a naive reference on random shapes, strange ones too, and against scikit-image and
//! SciPy on a picture whose results `../golden/make_golden.py` printed.

mod colours;
// Printed numbers may come close to constants of mathematics by chance.
#[allow(clippy::approx_constant)]
#[rustfmt::skip]
#[path = "../golden/golden.rs"]
mod golden;
mod golden_numbers;
mod markers;
mod masks;
mod pictures;
mod regions;
mod rings;
mod smooth;
mod tissue;

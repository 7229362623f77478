//! Temporary memory that each thread keeps: a fresh buffer would cost 0.1 ms a megabyte in page faults.

use std::cell::RefCell;

/// A cache line of floats; buffers begin at one, so that no load of a whole register crosses two.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; 16]); // Read through pointers.

thread_local! {
    // A stack: a thread that waits for its tasks may run another task, which takes the next buffer.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `length` floats of any values.
pub(super) fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut lines = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    let wanted = length.div_ceil(16);
    if lines.len() < wanted {
        lines.resize(wanted, Line([0.0; 16]));
    }
    // SAFETY: the lines hold at least `length` initialised floats, and a `Line` has no padding.
    let values = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f32>(), length) };
    let result = work(values);
    FREE.with_borrow_mut(|free| free.push(lines));
    result
}

/// A tensor that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: a pointer by itself does nothing; each write through it argues that no other task touches its floats.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The float `index` places on.
    ///
    /// # Safety
    /// The tensor must have more than `index` floats (or `index`, where nothing is read or written).
    #[inline(always)]
    pub(super) unsafe fn at(self, index: usize) -> *mut f32 {
        unsafe { self.0.add(index) }
    }

    /// `length` floats from `index` on.
    ///
    /// # Safety
    /// They must lie in the tensor, which outlives the slice, and no other task may touch them meanwhile.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // Disjointness is the caller's promise.
    pub(super) unsafe fn slice<'a>(self, index: usize, length: usize) -> &'a mut [f32] {
        unsafe { std::slice::from_raw_parts_mut(self.0.add(index), length) }
    }
}

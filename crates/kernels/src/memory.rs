//! Memory for large blocks: an allocator that keeps what is given back, and blocks that are written before they are
//! read.
//!
//! A training step takes hundreds of megabytes and gives them back, again and again. From the system each of these
//! pages costs a fault and a clearing, which together took longer than the arithmetic. [`Recycling`] hands the same
//! blocks out again, on large pages where Linux has them.

#![allow(unsafe_code)] // An allocator deals in raw memory; each use is argued where it stands.

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::MaybeUninit;
use std::sync::Mutex;

/// Blocks from this size on are kept, in bytes; smaller ones are the system allocator's.
const SMALLEST_KEPT: usize = 1 << 17;
/// What every block is aligned to at least, in bytes: a page.
const PAGE: usize = 4096;
/// Steps between two powers of two: a block is at most half as large again as what was asked for, and what is never touched
/// of it takes no memory, but for a large page. Finer steps keep more blocks that fit nothing: with twice as many, a slide mapped
/// and cleared nearly two thirds more memory.
const STEPS: usize = 2;
/// What is in use and what is kept together never exceed what was once in use at a time by more than this part of it. With
/// nothing, sizes that change from step to step would drive out those that do not; with an eighth, a slide of four gigapixels
/// came to take a sixth more than one of one.
const MOST_KEPT_BEYOND: usize = 32;
/// Sizes that blocks are kept in.
const CLASSES: usize = STEPS * usize::BITS as usize;

/// An allocator that keeps large blocks for the next time.
///
/// What is in use and what is kept together never exceed what was once in use at a time by more than a 32nd.
///
/// ```
/// # #[allow(dead_code)]
/// #[global_allocator]
/// static MEMORY: microtome_kernels::memory::Recycling = microtome_kernels::memory::Recycling;
/// ```
pub struct Recycling;

static KEPT: Mutex<Kept> = Mutex::new(Kept::new());

/// A block that is kept; its first bytes lead to the next one of its size.
struct Block {
    next: *mut Block,
}

struct Kept {
    first: [*mut Block; CLASSES],
    bytes_kept: usize,
    bytes_in_use: usize,
    most_bytes_in_use: usize,
}

// SAFETY: the pointers lead to blocks that nobody else owns, and are only followed under the mutex.
unsafe impl Send for Kept {}

impl Kept {
    const fn new() -> Self {
        let first = [std::ptr::null_mut(); CLASSES];
        Self { first, bytes_kept: 0, bytes_in_use: 0, most_bytes_in_use: 0 }
    }

    fn take(&mut self, class: Class) -> Option<*mut u8> {
        self.bytes_in_use += class.bytes;
        self.most_bytes_in_use = self.most_bytes_in_use.max(self.bytes_in_use);
        let block = self.pop(class);
        while self.bytes_in_use + self.bytes_kept > self.most_bytes() && self.release_one() {}
        block
    }

    fn most_bytes(&self) -> usize {
        self.most_bytes_in_use + self.most_bytes_in_use / MOST_KEPT_BEYOND
    }

    fn pop(&mut self, class: Class) -> Option<*mut u8> {
        let block = self.first[class.index];
        if block.is_null() {
            return None;
        }
        // SAFETY: a kept block begins with the pointer that `keep` wrote.
        self.first[class.index] = unsafe { (*block).next };
        self.bytes_kept -= class.bytes;
        Some(block.cast())
    }

    fn keep(&mut self, class: Class, block: *mut u8) {
        self.bytes_in_use = self.bytes_in_use.saturating_sub(class.bytes);
        self.bytes_kept += class.bytes;
        let block: *mut Block = block.cast();
        // SAFETY: the block is at least `SMALLEST_KEPT` long, aligned to pages, and its owner has given it back.
        unsafe { block.write(Block { next: self.first[class.index] }) };
        self.first[class.index] = block;
    }

    /// Gives the smallest kept block back to the system: sizes that change from step to step are small, and the large
    /// blocks are the ones that cost.
    fn release_one(&mut self) -> bool {
        let Some(index) = self.first.iter().position(|first| !first.is_null()) else { return false };
        let class = Class::at(index);
        let Some(block) = self.pop(class) else { return false };
        // SAFETY: every block of a class is one of `pages` of its size, and this one is in no list any more.
        unsafe { pages::give_back(block, class.bytes) };
        true
    }
}

/// A size of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    index: usize,
    bytes: usize,
}

impl Class {
    /// The class of a layout, if its blocks are kept.
    fn of(layout: Layout) -> Option<Self> {
        if layout.size() < SMALLEST_KEPT || layout.align() > PAGE || layout.size() > isize::MAX as usize / 4 {
            return None;
        }
        let power = (layout.size() - 1).ilog2() as usize;
        let step = (1 << power) / STEPS;
        let steps = (layout.size() - (1 << power)).div_ceil(step);
        Some(Self::at(power * STEPS + steps))
    }

    /// 2^p · (1 + steps/`STEPS`) bytes; `STEPS` steps are the next power of two.
    fn at(index: usize) -> Self {
        let (power, steps) = (index / STEPS, index % STEPS);
        Self { index, bytes: (1 << power) + steps * ((1 << power) / STEPS) }
    }
}

/// Pages of the system. On Linux they are asked for here and not from the C library: what that is given back it keeps in its
/// heap, up to 32 MiB a block, which cost half a gigabyte beside that which is kept here.
#[cfg(target_os = "linux")]
mod pages {
    /// Side of a large page, in bytes.
    const LARGE_PAGE: usize = 1 << 21;

    /// A block of zeros, on large pages if it is larger than one; null if there is no memory.
    pub(super) fn take(bytes: usize) -> *mut u8 {
        if bytes < LARGE_PAGE {
            return map(bytes);
        }
        let wide = map(bytes + LARGE_PAGE);
        if wide.is_null() {
            return wide;
        }
        let before = wide.align_offset(LARGE_PAGE);
        // SAFETY: the block lies within what was mapped, and what lies before and behind it is nobody's; the advice changes no
        // content, and its failure is harmless.
        unsafe {
            let block = wide.add(before);
            give_back(wide, before);
            give_back(block.add(bytes), LARGE_PAGE - before);
            libc::madvise(block.cast(), bytes, libc::MADV_HUGEPAGE);
            block
        }
    }

    fn map(bytes: usize) -> *mut u8 {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the system wants it touches no other.
        let block = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if block == libc::MAP_FAILED { std::ptr::null_mut() } else { block.cast() }
    }

    /// # Safety
    /// The pages are of [`take`], and nobody uses them again.
    pub(super) unsafe fn give_back(block: *mut u8, bytes: usize) {
        if bytes > 0 {
            // SAFETY: see above. It fails only where the system has no room for one more gap; the pages are lost then.
            unsafe { libc::munmap(block.cast(), bytes) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod pages {
    use super::{GlobalAlloc, Layout, System};

    fn layout(bytes: usize) -> Layout {
        // SAFETY: the alignment is a power of two, and `Class::of` keeps sizes far below the limit.
        unsafe { Layout::from_size_align_unchecked(bytes, super::PAGE) }
    }

    /// A block of zeros; null if there is no memory.
    pub(super) fn take(bytes: usize) -> *mut u8 {
        // SAFETY: the layout's size is not zero.
        unsafe { System.alloc_zeroed(layout(bytes)) }
    }

    /// # Safety
    /// The block is of [`take`], and nobody uses it again.
    pub(super) unsafe fn give_back(block: *mut u8, bytes: usize) {
        // SAFETY: see above.
        unsafe { System.dealloc(block, layout(bytes)) };
    }
}

// SAFETY: blocks are the system's, of at least the size and alignment asked for; a block is in a list or in use,
// never both, because lists change only under the mutex, in `alloc` and `dealloc`.
unsafe impl GlobalAlloc for Recycling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else { return unsafe { System.alloc(layout) } };
        kept(class).unwrap_or_else(|| new_block(class))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else { return unsafe { System.alloc_zeroed(layout) } };
        match kept(class) {
            // SAFETY: the block is at least as large as the layout.
            Some(block) => unsafe {
                block.write_bytes(0, layout.size());
                block
            },
            None => new_block(class),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (Class::of(layout), KEPT.lock()) {
            (Some(class), Ok(mut kept)) => kept.keep(class, block),
            (Some(class), Err(_)) => unsafe { pages::give_back(block, class.bytes) },
            (None, _) => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller keeps to `realloc`'s conditions, which are those of a valid layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            (None, None) => unsafe { System.realloc(block, layout, bytes) },
            (old, new) if old == new => block,
            _ => unsafe { self.moved(block, layout, wanted) },
        }
    }
}

/// A block of zeros from the system, which is given back all that is kept if it has no more; null if that is too little.
fn new_block(class: Class) -> *mut u8 {
    let block = pages::take(class.bytes);
    if !block.is_null() {
        return block;
    }
    let Ok(mut kept) = KEPT.lock() else { return block };
    while kept.release_one() {}
    let block = pages::take(class.bytes);
    if block.is_null() {
        kept.bytes_in_use = kept.bytes_in_use.saturating_sub(class.bytes);
        kept.most_bytes_in_use = kept.bytes_in_use.max(kept.most_bytes_in_use.saturating_sub(class.bytes));
    }
    block
}

/// A block of a class that was kept, if there is one.
fn kept(class: Class) -> Option<*mut u8> {
    KEPT.lock().map_or(None, |mut kept| kept.take(class))
}

impl Recycling {
    /// # Safety
    /// `block` is this allocator's, of layout `from`, and its owner does not use it again.
    unsafe fn moved(&self, block: *mut u8, from: Layout, to: Layout) -> *mut u8 {
        unsafe {
            let new = self.alloc(to);
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, from.size().min(to.size()));
                self.dealloc(block, from);
            }
            new
        }
    }
}

/// Floats that are written before they are read.
pub(crate) struct Unwritten(Vec<MaybeUninit<f32>>);

impl Unwritten {
    /// Room for so many floats.
    pub(crate) fn new(floats: usize) -> Self {
        let mut values = Vec::with_capacity(floats);
        // SAFETY: the capacity is there, and `MaybeUninit` needs no initialisation.
        unsafe { values.set_len(floats) };
        Self(values)
    }

    /// Where to write.
    pub(crate) fn start_mut(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }

    /// The floats.
    ///
    /// # Safety
    /// Every one has been written.
    pub(crate) unsafe fn written(self) -> Vec<f32> {
        let mut values = std::mem::ManuallyDrop::new(self.0);
        // SAFETY: the same block; `MaybeUninit<f32>` has the layout of `f32`, and all are initialised.
        unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_is_asked_for_and_at_most_half_as_much_again() {
        for bytes in (SMALLEST_KEPT..1 << 24).step_by(77_777) {
            let class = Class::of(Layout::from_size_align(bytes, 16).unwrap()).unwrap();
            assert!(class.bytes >= bytes && class.bytes <= bytes + bytes / 2, "{bytes}: {class:?}");
            assert_eq!(Class::at(class.index), class);
        }
        assert_eq!(Class::of(Layout::from_size_align(SMALLEST_KEPT - 1, 16).unwrap()), None);
        let wider = Layout::from_size_align(SMALLEST_KEPT, 2 * PAGE).unwrap();
        assert_eq!(Class::of(wider), None, "a page is all that blocks are aligned to");
    }

    #[test]
    fn a_block_comes_back_and_the_limit_is_never_passed() {
        let layout = Layout::from_size_align(5 << 20, 64).unwrap();
        let larger = Layout::from_size_align(7 << 20, 64).unwrap();
        assert_ne!(Class::of(layout), Class::of(larger), "growing must move the block");
        // SAFETY: blocks are written within their size and given back once, with their layout.
        unsafe {
            let block = Recycling.alloc(layout);
            block.write_bytes(7, layout.size());
            Recycling.dealloc(block, layout);
            assert_eq!(Recycling.alloc(layout), block, "the same block again");
            block.write_bytes(7, layout.size());
            let zeroed = Recycling.alloc_zeroed(larger);
            assert!((0..larger.size()).all(|i| *zeroed.add(i) == 0));
            let grown = Recycling.realloc(block, layout, larger.size());
            assert!((0..layout.size()).all(|i| *grown.add(i) == 7));
            Recycling.dealloc(grown, larger);
            Recycling.dealloc(zeroed, larger);
        }
        let kept = KEPT.lock().unwrap();
        assert_eq!(kept.bytes_in_use, 0);
        assert!(kept.bytes_kept <= kept.most_bytes());
    }
}

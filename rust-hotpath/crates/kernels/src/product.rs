//! Which rows and outputs are multiplied together, and by whom. Nothing of it changes a bit of any result.

use std::slice;

use crate::{
    Activations, Matrix, Path, TILE,
    activations::{GROUP, Group},
    layout::Blocks,
};

/// Most rows that a kernel takes at once.
pub const ROWS: usize = 2 * GROUP;
/// Tiles, or pairs of them, that are multiplied with one part of the rows after the other, while they are in a cache: few, so
/// that even a small layer's are shared evenly among 2, 3, 4 or 6 threads.
const PANEL: usize = 3;

/// Threads that share a product.
///
/// # Safety
/// [`Pool::run`] calls with no number twice, nor with one beyond: each part has memory of its own.
#[allow(unsafe_code)]
pub unsafe trait Pool {
    /// Calls `part` with each number below `parts`, by any threads in any order, and returns when all are done.
    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync));
}

/// The thread that calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller;

// SAFETY: a range has each number once.
#[allow(unsafe_code)]
unsafe impl Pool for Caller {
    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        (0..parts).for_each(part);
    }
}

/// Where results go, row after row: each part writes places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Results {
    start: *mut f32,
    pub stride: usize,
}
// SAFETY: whoever writes through it has its own places.
#[allow(unsafe_code)]
unsafe impl Sync for Results {}

impl Results {
    pub(crate) fn new(y: &mut [f32], stride: usize) -> Self {
        Self { start: y.as_mut_ptr(), stride }
    }

    /// Those of a row, from a column on.
    ///
    /// # Safety
    /// They are within the results, and nobody else has them while they are used.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn at(&self, row: usize, column: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.start.add(row * self.stride + column) }
    }
}

/// Multiplies rows `x` `[rows, inputs]` with weights `w` `[outputs, inputs]` into `y` `[rows, outputs]`.
///
/// # Panics
/// Where the lengths do not fit.
pub fn multiply(path: Path, x: &Activations, w: &Matrix<'_>, y: &mut [f32], pool: &dyn Pool) {
    assert_eq!(Some(y.len()), x.rows().checked_mul(w.outputs()), "there is room for each result");
    let results = Results::new(y, w.outputs());
    each_panel(x, w, w.outputs() / TILE, pool, &|x, row, tile| {
        // SAFETY: each tile is somebody's once, and there is room for it in each row.
        #[allow(unsafe_code)]
        unsafe {
            multiply_tile(path, x, w, tile, results.at(row, tile * TILE), results.stride);
        }
    });
}

/// Multiplies, and takes every other tile of the results for a gate of the one behind it: `y` `[rows, outputs / 2]` is
/// [`crate::rows::swiglu`] of both.
///
/// # Panics
/// Where the lengths do not fit, or the tiles are no pairs.
pub fn multiply_gated(path: Path, x: &Activations, w: &Matrix<'_>, y: &mut [f32], pool: &dyn Pool) {
    const BOTH: usize = 2 * TILE;
    assert!(w.outputs().is_multiple_of(BOTH), "{} outputs are no pairs of tiles", w.outputs());
    let outputs = w.outputs() / 2;
    assert_eq!(Some(y.len()), x.rows().checked_mul(outputs), "there is room for each pair's result");
    let results = Results::new(y, outputs);
    each_panel(x, w, outputs / TILE, pool, &|x, row, pair| {
        let mut both = [[0.0; BOTH]; ROWS];
        let start = both.as_mut_ptr().cast::<f32>();
        // SAFETY: there is room for both tiles of so many rows; each pair is somebody's once, and there is room for its results
        // in each row; and the path is there, so the processor has its instructions.
        #[allow(unsafe_code)]
        unsafe {
            multiply_tile(path, x, w, 2 * pair, start, BOTH);
            multiply_tile(path, x, w, 2 * pair + 1, start.add(TILE), BOTH);
            for (of_row, both) in both[..x.count].iter().enumerate() {
                let (gate, up) = both.split_at(TILE);
                let to = slice::from_raw_parts_mut(results.at(row + of_row, pair * TILE), TILE);
                (path.kernels().swiglu)(gate, up, to);
            }
        }
    });
}

/// As many rows as a kernel takes at once, or fewer.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    groups: &'a [Group],
    pub count: usize,
}

/// Calls `work` with some rows, the number of the first, and each of `count` tiles, or of pairs of them: once with each. What
/// falls to one thread are all rows and a panel of tiles, and of those few rows at a time.
pub(crate) fn each_panel(
    x: &Activations,
    w: &Matrix<'_>,
    count: usize,
    pool: &dyn Pool,
    work: &(dyn Fn(Rows<'_>, usize, usize) + Sync),
) {
    assert_eq!(x.inputs(), w.inputs(), "rows are as long as the weights' inputs");
    pool.run(count.div_ceil(PANEL), &|part| {
        let panel = part * PANEL..((part + 1) * PANEL).min(count);
        for (number, groups) in x.groups().chunks(ROWS / GROUP * w.blocks_per_tile()).enumerate() {
            let row = number * ROWS;
            let rows = Rows { groups, count: (x.rows() - row).min(ROWS) };
            panel.clone().for_each(|tile| work(rows, row, tile));
        }
    });
}

/// Multiplies some rows with a tile. The results of a row are `stride` numbers behind those of the row before.
///
/// # Safety
/// There is room for them, that nobody else uses.
#[allow(unsafe_code)]
pub(crate) unsafe fn multiply_tile(path: Path, x: Rows<'_>, w: &Matrix<'_>, tile: usize, y: *mut f32, stride: usize) {
    let blocks = w.blocks_per_tile();
    let of_tile = tile * blocks..(tile + 1) * blocks;
    // SAFETY: the caller's; and the path is there, so the processor has its instructions.
    unsafe {
        match w.blocks {
            Blocks::Four(w) => (path.kernels().product4)(x.groups, x.count, &w[of_tile], y, stride),
            Blocks::Eight(w) => (path.kernels().product8)(x.groups, x.count, &w[of_tile], y, stride),
        }
    }
}

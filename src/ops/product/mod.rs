//! Matrix products: our own split over rayon and the cache, around the `gemm` crate's register kernels.
//!
//! An element of the result is the same whatever the number of rows beside it, the thread count and the
//! split: it is a chain of fused multiply-adds over [`DEPTH`] steps, and these chains are added up in
//! order.
pub mod kernel;

use kernel::{Groups, KERNELS, Panels, Span, multiply};
use rayon::prelude::*;
use std::cell::RefCell;

/// Length of one chain of multiply-adds.
const DEPTH: usize = 512;
/// Columns of one task: as many as stay in the second-level cache over the depth of one chain.
const COLS: usize = 256;
/// Rows of one task, at least: what packing costs is shared by them.
const LEAST_ROWS: usize = 96;
/// Tasks for each thread, so that an interrupted one holds up little.
const TASKS: usize = 4;

/// A matrix in memory: element (r, c) is at `r * rs + c * cs`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub data: &'a [f32],
    pub rs: usize,
    pub cs: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major with `cols` columns.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Matrix {
            data,
            rs: cols,
            cs: 1,
        }
    }

    /// The transpose: no element moves.
    pub fn transposed(self) -> Self {
        Matrix {
            data: self.data,
            rs: self.cs,
            cs: self.rs,
        }
    }

    fn from(self, row: usize, col: usize) -> Self {
        Matrix {
            data: &self.data[row * self.rs + col * self.cs..],
            ..self
        }
    }

    fn reaches(self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.rs + (cols - 1) * self.cs < self.data.len()
    }
}

/// Sizes of a product: `rows × depth` times `depth × cols`.
#[derive(Clone, Copy)]
pub struct Dims {
    pub rows: usize,
    pub cols: usize,
    pub depth: usize,
}

/// A buffer that tasks on several threads write to, each to elements of its own.
pub struct Shared(*mut f32, usize);
// SAFETY: whoever writes through the pointer vouches that nobody else uses those elements.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    /// All of `buffer`, whose borrow must last as long as this is used.
    pub fn new(buffer: &mut [f32]) -> Self {
        Shared(buffer.as_mut_ptr(), buffer.len())
    }

    /// The place of element `offset`.
    pub fn at(&self, offset: usize) -> *mut f32 {
        assert!(offset <= self.1);
        // SAFETY: inside the buffer.
        unsafe { self.0.add(offset) }
    }

    /// Elements `from` up to `from + len`.
    ///
    /// # Safety
    /// Nobody else may use them while the slice lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "elements of one task, as the caller vouches"
    )]
    pub unsafe fn slice(&self, from: usize, len: usize) -> &mut [f32] {
        assert!(from + len <= self.1);
        // SAFETY: inside the buffer, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(from), len) }
    }
}

thread_local! {
    /// Where a task packs its part of the right matrix.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// How a product is cut into tasks.
struct Split {
    rows: usize,
    cols: usize,
}

impl Split {
    fn of(dims: Dims, threads: usize) -> Self {
        if threads == 1 {
            return Split {
                rows: dims.rows,
                cols: COLS,
            };
        }
        let wanted = TASKS * threads;
        let mut cols = COLS;
        let parts = |cols: usize| wanted.div_ceil(dims.cols.div_ceil(cols));
        let least = |rows: usize| rows.max(LEAST_ROWS).next_multiple_of(KERNELS.rows);
        let mut rows = least(dims.rows.div_ceil(parts(cols)));
        if dims.rows.div_ceil(rows) * dims.cols.div_ceil(cols) < wanted / 2 {
            cols = COLS / 2;
            rows = least(dims.rows.div_ceil(parts(cols)));
        }
        Split { rows, cols }
    }
}

/// `out = a · b`, or `out += a · b`; `out` is row-major `[rows, cols]`. Parallel.
pub fn product(out: &mut [f32], dims: Dims, a: Matrix, b: Matrix, accumulate: bool) {
    assert_eq!(out.len(), dims.rows * dims.cols);
    if out.is_empty() {
        return;
    }
    assert!(a.reaches(dims.rows, dims.depth) && b.reaches(dims.depth, dims.cols));
    let split = Split::of(dims, rayon::current_num_threads());
    let across = dims.cols.div_ceil(split.cols);
    let down = dims.rows.div_ceil(split.rows);
    let ptr = Shared::new(out);
    (0..down * across).into_par_iter().for_each(|task| {
        // Neighbours in time share the right matrix's columns.
        let (row, col) = (task % down * split.rows, task / down * split.cols);
        let part = Dims {
            rows: split.rows.min(dims.rows - row),
            cols: split.cols.min(dims.cols - col),
            depth: dims.depth,
        };
        // SAFETY: the tile lies inside `out` and belongs to this task alone.
        unsafe {
            tile(
                ptr.at(row * dims.cols + col),
                dims.cols,
                part,
                a.from(row, 0),
                b.from(0, col),
                accumulate,
            );
        }
    });
}

/// # Safety
/// `out` must be valid for `rows` rows of `cols` elements, `stride` apart.
unsafe fn tile(out: *mut f32, stride: usize, dims: Dims, a: Matrix, b: Matrix, accumulate: bool) {
    SCRATCH.with_borrow_mut(|right| {
        let mut from = 0;
        loop {
            let depth = DEPTH.min(dims.depth - from);
            let (a, b) = (a.from(0, from), b.from(from, 0));
            let panels = (b.cs == 1)
                .then(|| Panels::in_place(b.data, b.rs, depth, dims.cols))
                .flatten();
            let panels = panels.unwrap_or_else(|| {
                let len = Panels::packed_len(depth, dims.cols);
                if right.len() < len {
                    right.resize(len, 0.0);
                }
                Panels::pack(&mut right[..len], b.data, [b.rs, b.cs], depth, dims.cols)
            });
            let groups = Groups::in_place(a.data, [a.rs, a.cs], dims.rows);
            let add = accumulate || from > 0;
            // SAFETY: the caller's promise on `out`.
            unsafe { multiply(out, stride, groups, panels, Span::all(panels), add) };
            from += depth;
            if from >= dims.depth {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{norm_error, normal};

    fn plain(dims: Dims, a: Matrix, b: Matrix) -> Vec<f64> {
        let mut out = vec![0f64; dims.rows * dims.cols];
        for r in 0..dims.rows {
            for c in 0..dims.cols {
                for d in 0..dims.depth {
                    out[r * dims.cols + c] += f64::from(a.data[r * a.rs + d * a.cs])
                        * f64::from(b.data[d * b.rs + c * b.cs]);
                }
            }
        }
        out
    }

    #[test]
    fn equals_the_plain_product_on_odd_shapes() {
        for (rows, cols, depth) in [
            (1, 1, 1),
            (3, 5, 7),
            (300, 257, 513),
            (1, 700, 1030),
            (9, 16, 2),
        ] {
            let dims = Dims { rows, cols, depth };
            let a = normal(1, rows * depth);
            let b = normal(2, cols * depth);
            let (a, b) = (
                Matrix::rows(&a, depth),
                Matrix::rows(&b, depth).transposed(),
            );
            let want = plain(dims, a, b);
            let mut out = vec![0f32; rows * cols];
            product(&mut out, dims, a, b, false);
            assert!(norm_error(&out, &want) < 1e-6, "{rows} {cols} {depth}");
            product(&mut out, dims, a, b, true);
            let twice: Vec<f64> = want.iter().map(|x| 2.0 * x).collect();
            assert!(norm_error(&out, &twice) < 1e-6);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let (cols, depth) = (96, 1100);
        let a = normal(3, 600 * depth);
        let b = normal(4, cols * depth);
        let b = Matrix::rows(&b, depth).transposed();
        let run = |from: usize, rows: usize| {
            let mut out = vec![0f32; rows * cols];
            let dims = Dims { rows, cols, depth };
            product(
                &mut out,
                dims,
                Matrix::rows(&a[from * depth..], depth),
                b,
                false,
            );
            out
        };
        let whole = run(0, 600);
        for (from, rows) in [(0, 1), (5, 2), (17, 7), (250, 31), (511, 64), (599, 1)] {
            assert_eq!(
                run(from, rows),
                whole[from * cols..(from + rows) * cols],
                "rows {from}+{rows}"
            );
        }
    }
}

//! Matrix products: our own split over rayon and the cache, around the `gemm` crate's register kernels.
//!
//! An element of the result is the same whatever the number of rows beside it, the thread count and the
//! split: it is a chain of multiply-adds (fused where the machine can) over [`DEPTH`] steps, and these chains are added up in
//! order.
pub mod kernel;
mod transpose;

use super::host::written;
use kernel::{Groups, KERNELS, Panels, Span, multiply};
use rayon::prelude::*;
use std::{cell::RefCell, marker::PhantomData, mem::MaybeUninit};

/// Length of one chain of multiply-adds.
const DEPTH: usize = 512;
/// Columns of one task: as many as stay in the second-level cache over the depth of one chain.
const COLS: usize = 256;
/// Rows of one task, at least: what packing costs is shared by them.
const LEAST_ROWS: usize = 96;
/// And at most: the left matrix may be packed, too.
const MOST_ROWS: usize = 4096;
/// Up to so many rows the right matrix of a linear layer is read where it lies.
const FEW_ROWS: usize = 128;
/// Elements of a right matrix that is packed once for all tasks, at most.
const SHARED: usize = 1 << 24;
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
pub struct Shared<'a> {
    start: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}
// SAFETY: whoever writes through the pointer vouches that nobody else uses those elements.
unsafe impl Send for Shared<'_> {}
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// All of `buffer`.
    pub fn new(buffer: &'a mut [f32]) -> Self {
        Shared {
            start: buffer.as_mut_ptr(),
            len: buffer.len(),
            buffer: PhantomData,
        }
    }

    /// All of `buffer`, of which no element may be read before it is written.
    fn unwritten(buffer: &'a mut [MaybeUninit<f32>]) -> Self {
        Shared {
            start: buffer.as_mut_ptr().cast(),
            len: buffer.len(),
            buffer: PhantomData,
        }
    }

    /// The place of element `offset`.
    pub fn at(&self, offset: usize) -> *mut f32 {
        assert!(offset <= self.len);
        // SAFETY: inside the buffer.
        unsafe { self.start.add(offset) }
    }

    /// Elements `from` up to `from + len`.
    ///
    /// # Safety
    /// Nobody else may use them while the slice lives, and all must have been written.
    #[expect(
        clippy::mut_from_ref,
        reason = "elements of one task, as the caller vouches"
    )]
    pub unsafe fn slice(&self, from: usize, len: usize) -> &mut [f32] {
        assert!(from + len <= self.len);
        // SAFETY: inside the buffer, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

thread_local! {
    /// Where a task packs its part of the right and of the left matrix.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// How a product is cut into tasks.
struct Split {
    rows: usize,
    cols: usize,
}

impl Split {
    fn of(dims: Dims, threads: usize) -> Self {
        if threads == 1 {
            let rows = dims.rows.min(MOST_ROWS.next_multiple_of(KERNELS.rows));
            return Split { rows, cols: COLS };
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
    split_product(&Shared::new(out), dims, a, b, accumulate);
}

/// `a · b`, row-major. Parallel.
pub fn new_product(dims: Dims, a: Matrix, b: Matrix) -> Vec<f32> {
    let len = dims.rows * dims.cols;
    // SAFETY: the product writes every element.
    unsafe {
        written(len, |out| {
            split_product(&Shared::unwritten(out), dims, a, b, false);
        })
    }
}

fn split_product(out: &Shared, dims: Dims, a: Matrix, b: Matrix, accumulate: bool) {
    if dims.rows * dims.cols == 0 {
        return;
    }
    if dims.depth == 0 {
        for i in 0..if accumulate { 0 } else { dims.rows * dims.cols } {
            // SAFETY: inside the buffer, which no task uses yet.
            unsafe { out.at(i).write(0.0) };
        }
        return;
    }
    assert!(a.reaches(dims.rows, dims.depth) && b.reaches(dims.depth, dims.cols));
    assert!((a.rs == 1 || a.cs == 1) && (b.rs == 1 || b.cs == 1));
    if dims.rows <= FEW_ROWS && b.rs == 1 && !accumulate {
        turned_product(out, dims, a, b);
        return;
    }
    let split = Split::of(dims, rayon::current_num_threads());
    let across = dims.cols.div_ceil(split.cols);
    let down = dims.rows.div_ceil(split.rows);
    let shared = (down > 1 && b.rs == 1 && dims.depth * dims.cols <= SHARED)
        .then(|| PackedRight::new(dims, b));
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
                out.at(row * dims.cols + col),
                dims.cols,
                part,
                a.from(row, 0),
                Right {
                    matrix: b,
                    packed: shared.as_ref(),
                    col,
                },
                accumulate,
            );
        }
    });
}

/// `bᵀ · aᵀ`, written turned: with few rows, packing `b` would cost more than the product. It is read where
/// it lies, and `a` is packed.
fn turned_product(out: &Shared, dims: Dims, a: Matrix, b: Matrix) {
    let Dims { rows, cols, depth } = dims;
    let starts: Vec<usize> = (0..depth).step_by(DEPTH).collect();
    let mut packed: Vec<Vec<f32>> = Vec::with_capacity(starts.len());
    for &from in &starts {
        let steps = DEPTH.min(depth - from);
        let mut buffer = vec![0f32; Panels::packed_len(steps, rows)];
        let a = a.from(0, from);
        Panels::pack(&mut buffer, a.data, [a.cs, a.rs], steps, rows);
        packed.push(buffer);
    }
    let tasks = TASKS * rayon::current_num_threads();
    let width = cols.div_ceil(tasks).clamp(LEAST_ROWS, 4 * COLS);
    let width = width.next_multiple_of(KERNELS.rows);
    (0..cols.div_ceil(width)).into_par_iter().for_each(|task| {
        let col = task * width;
        let n = width.min(cols - col);
        SCRATCH.with_borrow_mut(|[turned, _]| {
            turned.resize((n * rows).max(turned.len()), 0.0);
            for (&from, buffer) in starts.iter().zip(&packed) {
                let panels = Panels::packed(buffer, DEPTH.min(depth - from), rows);
                let b = b.from(from, col);
                let groups = Groups::in_place(b.data, [b.cs, 1], n);
                let span = Span::all(panels);
                // SAFETY: `turned` has `rows` elements for each of the columns.
                unsafe { multiply(turned.as_mut_ptr(), rows, groups, panels, span, from > 0) };
            }
            for r in 0..rows {
                let to = out.at(r * cols + col);
                for (i, &from) in turned[r..].iter().step_by(rows).take(n).enumerate() {
                    // SAFETY: these columns of the row belong to this task alone.
                    unsafe { to.add(i).write(from) };
                }
            }
        });
    });
}

/// A right matrix packed once for all tasks, a block of the depth after the other.
struct PackedRight {
    data: Vec<f32>,
    dims: Dims,
}

impl PackedRight {
    fn new(dims: Dims, b: Matrix) -> Self {
        let Dims { cols, depth, .. } = dims;
        let wide = KERNELS.cols;
        let panels = cols.div_ceil(wide);
        let mut data = vec![0f32; Panels::packed_len(depth, cols)];
        let mut parts = Vec::new();
        let mut rest = &mut data[..];
        for from in (0..depth).step_by(DEPTH) {
            let steps = DEPTH.min(depth - from);
            for panel in 0..panels {
                let (part, others) = rest.split_at_mut(steps * wide);
                parts.push((from, panel * wide, part));
                rest = others;
            }
        }
        parts.into_par_iter().for_each(|(from, col, part)| {
            let steps = DEPTH.min(depth - from);
            let b = b.from(from, col);
            Panels::pack(part, b.data, [b.rs, b.cs], steps, wide.min(cols - col));
        });
        PackedRight { data, dims }
    }

    /// Columns `col` up to `col + cols` of the block of the depth that begins at `from`.
    fn panels(&self, from: usize, col: usize, cols: usize) -> Panels<'_> {
        let (wide, depth) = (KERNELS.cols, DEPTH.min(self.dims.depth - from));
        let width = self.dims.cols.next_multiple_of(wide);
        let at = from * width + col / wide * depth * wide;
        Panels::packed(&self.data[at..], depth, cols)
    }
}

/// A task's columns of the right matrix.
struct Right<'a> {
    matrix: Matrix<'a>,
    packed: Option<&'a PackedRight>,
    /// The first of them.
    col: usize,
}

impl<'a> Right<'a> {
    /// `depth` steps from `from` on of `cols` columns, as the kernels read them.
    fn panels<'b>(
        &'b self,
        from: usize,
        depth: usize,
        cols: usize,
        buffer: &'b mut Vec<f32>,
    ) -> Panels<'b>
    where
        'a: 'b,
    {
        if let Some(packed) = self.packed {
            return packed.panels(from, self.col, cols);
        }
        let b = self.matrix.from(from, self.col);
        let in_place = (b.cs == 1)
            .then(|| Panels::in_place(b.data, b.rs, depth, cols))
            .flatten();
        in_place.unwrap_or_else(|| {
            let len = Panels::packed_len(depth, cols);
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
            Panels::pack(&mut buffer[..len], b.data, [b.rs, b.cs], depth, cols)
        })
    }
}

/// # Safety
/// `out` must be valid for `rows` rows of `cols` elements, `stride` apart.
unsafe fn tile(
    out: *mut f32,
    stride: usize,
    dims: Dims,
    a: Matrix,
    right: Right,
    accumulate: bool,
) {
    SCRATCH.with_borrow_mut(|[right_buffer, left_buffer]| {
        for from in (0..dims.depth).step_by(DEPTH) {
            let depth = DEPTH.min(dims.depth - from);
            let a = a.from(0, from);
            let panels = right.panels(from, depth, dims.cols, right_buffer);
            let groups = if a.cs == 1 {
                Groups::in_place(a.data, [a.rs, a.cs], dims.rows)
            } else {
                // One step of the depth is far from the next: read so, they would share a few sets of
                // the cache.
                let len = Groups::packed_len(depth, dims.rows);
                if left_buffer.len() < len {
                    left_buffer.resize(len, 0.0);
                }
                Groups::pack(&mut left_buffer[..len], a.data, a.cs, depth, dims.rows)
            };
            let add = accumulate || from > 0;
            // SAFETY: the caller's promise on `out`.
            unsafe { multiply(out, stride, groups, panels, Span::all(panels), add) };
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
            (200, 300, 0),
            (3, 5, 0),
        ] {
            let dims = Dims { rows, cols, depth };
            let a = normal(1, rows * depth);
            let b = normal(2, cols * depth);
            let (a, b) = (
                Matrix::rows(&a, depth),
                Matrix::rows(&b, depth).transposed(),
            );
            let want = plain(dims, a, b);
            let mut out = vec![7f32; rows * cols];
            product(&mut out, dims, a, b, false);
            let new = new_product(dims, a, b);
            assert_eq!(new, out, "{rows} {cols} {depth}");
            if depth == 0 {
                assert!(out.iter().all(|&x| x == 0.0));
                continue;
            }
            assert!(norm_error(&out, &want) < 1e-6, "{rows} {cols} {depth}");
            product(&mut out, dims, a, b, true);
            let twice: Vec<f64> = want.iter().map(|x| 2.0 * x).collect();
            assert!(norm_error(&out, &twice) < 1e-6);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let (cols, depth) = (300, 1100);
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
        for rows in 1..300 {
            assert_eq!(
                run(37, rows),
                whole[37 * cols..(37 + rows) * cols],
                "{rows}"
            );
        }
        for (from, rows) in [(0, 1), (5, 2), (17, 7), (250, 31), (511, 64), (599, 1)] {
            assert_eq!(
                run(from, rows),
                whole[from * cols..(from + rows) * cols],
                "rows {from}+{rows}"
            );
        }
    }
}

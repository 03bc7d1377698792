//! Matrix products: single-threaded `gemm` calls split over rayon.
//!
//! An element of the result is the same whatever the number of rows beside it and whatever the thread
//! count: the depth is cut into blocks of [`DEPTH`], tiles are cut by shape alone, and a tile of few rows
//! is padded, because `gemm` sums in another order for very small results.
use rayon::prelude::*;

/// Depth of one call; `gemm` keeps one order of summation up to here.
const DEPTH: usize = 512;
/// Rows and columns of one task's tile.
const TILE_ROWS: usize = 256;
const TILE_COLS: usize = 256;
/// `gemm` has kernels of their own for results of at most this many elements.
const SMALL: usize = 256;

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

struct Out(*mut f32);
// SAFETY: tasks write to disjoint tiles of the one buffer that this points into.
unsafe impl Send for Out {}
unsafe impl Sync for Out {}

impl Out {
    fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: the callers' offsets are inside the buffer, by the assertion in `product`.
        unsafe { self.0.add(offset) }
    }
}

/// `out = a · b`, or `out += a · b`; `out` is row-major `[rows, cols]`. Parallel.
pub fn product(out: &mut [f32], dims: Dims, a: Matrix, b: Matrix, accumulate: bool) {
    assert_eq!(out.len(), dims.rows * dims.cols);
    let tiles_down = dims.rows.div_ceil(TILE_ROWS);
    let tiles_across = dims.cols.div_ceil(TILE_COLS);
    let ptr = Out(out.as_mut_ptr());
    (0..tiles_down * tiles_across)
        .into_par_iter()
        .for_each(|tile| {
            let row = tile / tiles_across * TILE_ROWS;
            let col = tile % tiles_across * TILE_COLS;
            let part = Dims {
                rows: TILE_ROWS.min(dims.rows - row),
                cols: TILE_COLS.min(dims.cols - col),
                depth: dims.depth,
            };
            // SAFETY: the tile lies inside `out` and belongs to this task alone.
            unsafe {
                tile_product(
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

/// `out (+)= a · b` on this thread; `out` is row-major with `stride` elements from row to row.
pub fn serial_product(
    out: &mut [f32],
    stride: usize,
    dims: Dims,
    a: Matrix,
    b: Matrix,
    accumulate: bool,
) {
    assert!(dims.rows == 0 || (dims.rows - 1) * stride + dims.cols <= out.len());
    // SAFETY: the assertion above.
    unsafe { tile_product(out.as_mut_ptr(), stride, dims, a, b, accumulate) }
}

/// # Safety
/// `out` must be valid for `rows` rows of `cols` elements, `stride` apart.
unsafe fn tile_product(
    out: *mut f32,
    stride: usize,
    dims: Dims,
    a: Matrix,
    b: Matrix,
    accumulate: bool,
) {
    let Dims { rows, cols, depth } = dims;
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(a.reaches(rows, depth) && b.reaches(depth, cols));
    let least_rows = (SMALL / cols + 1).max(8);
    if rows >= least_rows {
        // SAFETY: passed on.
        unsafe { blocks(out, stride, dims, a, b, accumulate) };
        return;
    }
    let mut padded_a = vec![0f32; least_rows * depth];
    for r in 0..rows {
        for d in 0..depth {
            padded_a[r * depth + d] = a.data[r * a.rs + d * a.cs];
        }
    }
    let mut padded_out = vec![0f32; least_rows * cols];
    // SAFETY: `out` is valid for these rows.
    let row_of = |r: usize| unsafe { std::slice::from_raw_parts_mut(out.add(r * stride), cols) };
    if accumulate {
        for r in 0..rows {
            padded_out[r * cols..(r + 1) * cols].copy_from_slice(row_of(r));
        }
    }
    let padded = Dims {
        rows: least_rows,
        ..dims
    };
    // SAFETY: the padded buffers have these sizes.
    unsafe {
        blocks(
            padded_out.as_mut_ptr(),
            cols,
            padded,
            Matrix::rows(&padded_a, depth),
            b,
            accumulate,
        );
    }
    for r in 0..rows {
        row_of(r).copy_from_slice(&padded_out[r * cols..(r + 1) * cols]);
    }
}

/// # Safety
/// As for [`tile_product`]; the sizes of `a` and `b` have been checked.
unsafe fn blocks(out: *mut f32, stride: usize, dims: Dims, a: Matrix, b: Matrix, accumulate: bool) {
    let mut from = 0;
    loop {
        let depth = DEPTH.min(dims.depth - from);
        let (a, b) = (a.from(0, from), b.from(from, 0));
        let add = accumulate || from > 0;
        // SAFETY: the caller's promise on `out`; `a` and `b` reach over the whole depth.
        unsafe {
            gemm::gemm(
                dims.rows,
                dims.cols,
                depth,
                out,
                1,
                stride as isize,
                add,
                a.data.as_ptr(),
                a.cs as isize,
                a.rs as isize,
                b.data.as_ptr(),
                b.cs as isize,
                b.rs as isize,
                if add { 1.0 } else { 0.0 },
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        from += depth;
        if from >= dims.depth {
            break;
        }
    }
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

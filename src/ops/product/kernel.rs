//! The inner loops of a product: the `gemm` crate's register kernels, called over panels that we lay out.
//!
//! Every element is one chain of multiply-adds along the depth (fused, but for the kernels without vectors), and is then added to what was
//! there. A kernel for fewer rows or columns keeps that order, so that an element does not depend on how
//! many others are made beside it.
use super::transpose::transpose;
use crate::ops::simd;
use std::sync::LazyLock;

/// `gemm`'s calling convention. Its left matrix is our right one and its columns are our rows: it writes
/// columns of contiguous elements, we write rows.
type Kernel = gemm_common::microkernel::MicroKernelFn<f32>;

/// The kernels of one instruction set.
pub struct Kernels {
    /// Elements of a vector.
    lanes: usize,
    /// Columns of a panel: the widest kernel's.
    pub cols: usize,
    /// Rows of the tallest kernel.
    pub rows: usize,
    /// By vectors across, then rows.
    table: Vec<Kernel>,
}

pub static KERNELS: LazyLock<Kernels> = LazyLock::new(Kernels::detect);

impl Kernels {
    fn new<const ROWS: usize, const VECTORS: usize>(
        lanes: usize,
        table: [[Kernel; ROWS]; VECTORS],
    ) -> Self {
        Kernels {
            lanes,
            cols: lanes * VECTORS,
            rows: ROWS,
            table: table.concat(),
        }
    }

    /// The best that this machine can run; all have 6 or 4 rows.
    fn detect() -> Self {
        use gemm_f32::microkernel;
        #[cfg(target_arch = "x86_64")]
        match simd::instruction_set() {
            "avx512" => return Self::new(16, microkernel::avx512f::f32::UKR),
            "avx2" => return Self::new(8, microkernel::fma::f32::UKR),
            _ => {}
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self::new(4, microkernel::neon::f32::UKR);
        }
        Self::new(1, microkernel::scalar::f32::UKR)
    }
}

/// The right matrix of a product, `depth × cols`, in panels of [`Kernels::cols`] columns.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub data: &'a [f32],
    pub depth: usize,
    pub cols: usize,
    /// Elements from one step of the depth to the next.
    pub stride: usize,
    /// Elements from one panel to the next.
    pub panel: usize,
}

/// The left matrix of a product, `rows × depth`, in groups of [`Kernels::rows`] rows.
#[derive(Clone, Copy)]
pub struct Groups<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    /// Elements from one step of the depth to the next.
    pub stride: usize,
    /// Elements from one row of a group to the next.
    pub row: usize,
    /// Elements from one group to the next.
    pub group: usize,
}

/// The part of a right matrix that a product uses: columns from a multiple of [`Kernels::cols`] on.
#[derive(Clone, Copy)]
pub struct Span {
    pub from: usize,
    pub to: usize,
    pub depth: usize,
}

impl Span {
    /// The whole of `b`.
    pub fn all(b: Panels) -> Self {
        Span {
            from: 0,
            to: b.cols,
            depth: b.depth,
        }
    }
}

/// `out = a · b`, or `out += a · b`, in the columns of `span` and over its depth alone.
///
/// # Safety
/// `out` must be valid for `a.rows` rows of `b.cols` elements, `out_stride` apart, that nobody else uses.
pub unsafe fn multiply(
    out: *mut f32,
    out_stride: usize,
    a: Groups,
    b: Panels,
    span: Span,
    add: bool,
) {
    let depth = span.depth;
    let kernels = &*KERNELS;
    let (tall, wide) = (kernels.rows, kernels.cols);
    assert!(span.to <= b.cols && depth <= b.depth && span.from.is_multiple_of(wide));
    if a.rows == 0 || depth == 0 || span.from >= span.to {
        return;
    }
    let last = (a.rows - 1) / tall * a.group + (a.rows - 1) % tall * a.row;
    assert!(last + (depth - 1) * a.stride < a.data.len());
    let panels = span.to.div_ceil(wide);
    let vectors = (span.to - (panels - 1) * wide).div_ceil(kernels.lanes);
    let read = (panels - 1) * b.panel + (depth - 1) * b.stride + vectors * kernels.lanes;
    assert!(read <= b.data.len());
    for (group, row) in (0..a.rows).step_by(tall).enumerate() {
        let rows = tall.min(a.rows - row);
        for panel in span.from / wide..panels {
            let col = panel * wide;
            let cols = wide.min(span.to - col);
            let kernel = kernels.table[(cols.div_ceil(kernels.lanes) - 1) * tall + rows - 1];
            // SAFETY: the kernel reads `depth` steps of whole vectors of the panel and of `rows` rows,
            // which the assertions above cover, and writes rows and columns that the caller vouches for.
            unsafe {
                kernel(
                    cols,
                    rows,
                    depth,
                    out.add(row * out_stride + col),
                    b.data.as_ptr().add(panel * b.panel),
                    a.data.as_ptr().add(group * a.group),
                    out_stride as isize,
                    1,
                    b.stride as isize,
                    a.stride as isize,
                    a.row as isize,
                    if add { 1.0 } else { 0.0 },
                    1.0,
                    u8::from(add),
                    false,
                    false,
                    false,
                    std::ptr::null(),
                );
            }
        }
    }
}

impl<'a> Panels<'a> {
    /// A row-major matrix as it is, rows `stride` apart, where the kernels can read it so: when its width is
    /// a whole number of vectors.
    pub fn in_place(data: &'a [f32], stride: usize, depth: usize, cols: usize) -> Option<Self> {
        cols.is_multiple_of(KERNELS.lanes).then_some(Panels {
            data,
            depth,
            cols,
            stride,
            panel: KERNELS.cols,
        })
    }

    /// Without the first steps of the depth.
    pub fn from(self, depth: usize) -> Self {
        Panels {
            data: &self.data[depth * self.stride..],
            depth: self.depth - depth,
            ..self
        }
    }

    /// What [`Panels::pack`] made of a matrix of these sizes.
    pub fn packed(data: &'a [f32], depth: usize, cols: usize) -> Self {
        Panels {
            data,
            depth,
            cols,
            stride: KERNELS.cols,
            panel: depth * KERNELS.cols,
        }
    }

    /// Elements that [`Panels::pack`] needs.
    pub fn packed_len(depth: usize, cols: usize) -> usize {
        depth * cols.next_multiple_of(KERNELS.cols)
    }

    /// The matrix with element (d, c) at `d * rs + c * cs` of `from`, one of them 1, copied into `buffer`.
    pub fn pack(
        buffer: &'a mut [f32],
        from: &[f32],
        [rs, cs]: [usize; 2],
        depth: usize,
        cols: usize,
    ) -> Self {
        debug_assert!(rs == 1 || cs == 1);
        let wide = KERNELS.cols;
        let panels = buffer.chunks_exact_mut((depth * wide).max(1));
        for (panel, col) in panels.zip((0..cols).step_by(wide)) {
            let width = wide.min(cols - col);
            let from = &from[col * cs..];
            if cs == 1 {
                for (d, to) in panel.chunks_exact_mut(wide).enumerate() {
                    to[..width].copy_from_slice(&from[d * rs..d * rs + width]);
                    to[width..].fill(0.0);
                }
            } else {
                if width < wide {
                    panel.fill(0.0);
                }
                transpose(panel, wide, from, cs, depth, width);
            }
        }
        Self::packed(buffer, depth, cols)
    }
}

impl<'a> Groups<'a> {
    /// A matrix as it is: element (r, d) at `r * rs + d * cs` of `data`.
    pub fn in_place(data: &'a [f32], [rs, cs]: [usize; 2], rows: usize) -> Self {
        Groups {
            data,
            rows,
            stride: cs,
            row: rs,
            group: rs * KERNELS.rows,
        }
    }

    /// Elements that [`Groups::pack`] needs.
    pub fn packed_len(depth: usize, rows: usize) -> usize {
        depth * rows.next_multiple_of(KERNELS.rows)
    }

    /// The matrix with element (r, d) at `r + d * cs` of `from`, copied into `buffer`.
    pub fn pack(buffer: &'a mut [f32], from: &[f32], cs: usize, depth: usize, rows: usize) -> Self {
        let tall = KERNELS.rows;
        let group = depth * tall;
        match tall {
            6 => pack_groups::<6>(buffer, from, cs, depth, rows),
            _ => pack_groups::<4>(buffer, from, cs, depth, rows),
        }
        Groups {
            data: buffer,
            rows,
            stride: tall,
            row: 1,
            group,
        }
    }
}

/// [`Groups::pack`] for groups of `TALL` rows.
fn pack_groups<const TALL: usize>(
    buffer: &mut [f32],
    from: &[f32],
    cs: usize,
    depth: usize,
    rows: usize,
) {
    let group = depth * TALL;
    for d in 0..depth {
        let (whole, rest) = from[d * cs..d * cs + rows].as_chunks::<TALL>();
        let groups = buffer[d * TALL..].chunks_mut(group);
        for (to, part) in groups.zip(whole) {
            to[..TALL].copy_from_slice(part);
        }
        if !rest.is_empty() {
            let at = d * TALL + whole.len() * group;
            buffer[at..at + rest.len()].copy_from_slice(rest);
        }
    }
}

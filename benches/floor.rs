//! How fast the products of a training step could be: each one's rate under the `gemm` crate and under BLAS
//! libraries, single-threaded calls split over rayon, with the best of a few tile sizes. One JSON line an engine;
//! `floor_tokens_per_s` counts attention at the rate of the other products, and nothing but products.
//!
//!     cargo bench --bench floor -- --shape S [--blas /path/to/libopenblas.so.0 ...]
mod shape;

use clap::Parser;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rayon::prelude::*;
use serde_json::json;
use shape::SHAPES;
use std::{path::PathBuf, time::Instant};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "S", value_parser = SHAPES.map(|s| s.name))]
    shape: String,
    /// A library with `cblas_sgemm` (OpenBLAS, MKL's libmkl_rt).
    #[arg(long)]
    blas: Vec<PathBuf>,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A product `rows × depth` times `depth × cols`, with either matrix transposed in memory.
#[derive(Clone, Copy)]
struct Product {
    rows: usize,
    cols: usize,
    depth: usize,
    turned: [bool; 2],
    /// How often a step makes it.
    times: usize,
}

impl Product {
    fn flops(self) -> f64 {
        2.0 * (self.rows * self.cols * self.depth) as f64
    }
}

type Sgemm = unsafe extern "C" fn(
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    f32,
    *const f32,
    i32,
    *const f32,
    i32,
    f32,
    *mut f32,
    i32,
);

/// What multiplies one tile on one thread.
enum Engine {
    Gemm,
    Blas {
        sgemm: Sgemm,
        /// Open as long as its function is called.
        _library: Library,
    },
}

impl Engine {
    fn blas(path: &PathBuf) -> Result<Self, libloading::Error> {
        // SAFETY: the library is the user's choice; these symbols have these signatures in every BLAS.
        unsafe {
            let library = Library::open(Some(path), RTLD_NOW | RTLD_LOCAL)?;
            // MKL takes its threading layer (1: none) before anything else is asked of it.
            if let Ok(set) =
                library.get::<unsafe extern "C" fn(i32) -> i32>(b"MKL_Set_Threading_Layer")
            {
                set(1);
            }
            for name in ["openblas_set_num_threads", "MKL_Set_Num_Threads"] {
                if let Ok(set) = library.get::<unsafe extern "C" fn(i32)>(name.as_bytes()) {
                    set(1);
                }
            }
            let sgemm = *library.get::<Sgemm>(b"cblas_sgemm")?;
            Ok(Engine::Blas {
                sgemm,
                _library: library,
            })
        }
    }

    /// # Safety
    /// The pointers must reach over the matrices: `a` and `b` `strides` apart, `out` `cols_out`.
    unsafe fn tile(
        &self,
        p: Product,
        [a, b]: [*const f32; 2],
        [lda, ldb]: [usize; 2],
        out: *mut f32,
        ld_out: usize,
    ) {
        match self {
            Engine::Blas { sgemm, .. } => {
                let turn = |turned: bool| if turned { 112 } else { 111 };
                let [ta, tb] = p.turned.map(turn);
                let [m, n, k, lda, ldb, ldo] =
                    [p.rows, p.cols, p.depth, lda, ldb, ld_out].map(|x| x as i32);
                // SAFETY: the caller's promise.
                unsafe { sgemm(101, ta, tb, m, n, k, 1.0, a, lda, b, ldb, 0.0, out, ldo) }
            }
            Engine::Gemm => {
                let strides = |turned: bool, ld: usize| if turned { (1, ld) } else { (ld, 1) };
                let (ars, acs) = strides(p.turned[0], lda);
                let (brs, bcs) = strides(p.turned[1], ldb);
                // SAFETY: the caller's promise.
                unsafe {
                    gemm::gemm(
                        p.rows,
                        p.cols,
                        p.depth,
                        out,
                        1,
                        ld_out as isize,
                        false,
                        a,
                        acs as isize,
                        ars as isize,
                        b,
                        bcs as isize,
                        brs as isize,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
            }
        }
    }
}

struct Out(*mut f32);
// SAFETY: tasks write to tiles of their own.
unsafe impl Sync for Out {}
unsafe impl Send for Out {}

impl Out {
    fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: offsets are inside the buffer.
        unsafe { self.0.add(offset) }
    }
}

// SAFETY: a BLAS may be called from several threads.
unsafe impl Sync for Engine {}

/// Median seconds of the product in tiles of this size.
fn seconds(engine: &Engine, p: Product, [tile_rows, tile_cols]: [usize; 2]) -> f64 {
    let a = vec![0.5f32; p.rows * p.depth];
    let b = vec![0.25f32; p.cols * p.depth];
    let mut out = vec![0f32; p.rows * p.cols];
    let lda = if p.turned[0] { p.rows } else { p.depth };
    let ldb = if p.turned[1] { p.depth } else { p.cols };
    let out = Out(out.as_mut_ptr());
    let across = p.cols.div_ceil(tile_cols);
    let run = || {
        (0..p.rows.div_ceil(tile_rows) * across)
            .into_par_iter()
            .for_each(|tile| {
                let (row, col) = (tile / across * tile_rows, tile % across * tile_cols);
                let part = Product {
                    rows: tile_rows.min(p.rows - row),
                    cols: tile_cols.min(p.cols - col),
                    ..p
                };
                let a_at = if p.turned[0] { row } else { row * lda };
                let b_at = if p.turned[1] { col * ldb } else { col };
                // SAFETY: the tile's rows and columns are inside the matrices.
                unsafe {
                    let ab = [a.as_ptr().add(a_at), b.as_ptr().add(b_at)];
                    engine.tile(part, ab, [lda, ldb], out.at(row * p.cols + col), p.cols);
                }
            });
    };
    run();
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[3]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let named = SHAPES.into_iter().find(|s| s.name == args.shape);
    let s = named.unwrap_or(SHAPES[0]);
    let (dim, layers, rows) = (s.dim, s.layers, s.batch * s.ctx);
    let kv = dim / s.heads * s.kv_heads;
    let mut products = Vec::new();
    let mut linear = |rows: usize, inner: usize, out: usize, times: usize| {
        let mut add = |rows, cols, depth, turned| {
            products.push(Product {
                rows,
                cols,
                depth,
                turned,
                times,
            });
        };
        add(rows, out, inner, [false, true]);
        add(rows, inner, out, [false, false]);
        add(out, inner, rows, [true, false]);
    };
    linear(rows, dim, dim, 2 * layers);
    linear(rows, dim, kv, 2 * layers);
    linear(rows, dim, s.ff, 2 * layers);
    linear(rows, s.ff, dim, layers);
    linear(rows.min(1024), dim, s.vocab, rows.div_ceil(1024));
    let flops: f64 = products.iter().map(|p| p.flops() * p.times as f64).sum();
    let per_token = flops / rows as f64 + (7 * layers * dim * s.ctx) as f64;
    let mut engines = vec![("gemm".to_string(), Engine::Gemm)];
    for path in &args.blas {
        engines.push((path.display().to_string(), Engine::blas(path)?));
    }
    for (name, engine) in &engines {
        let tiles = [[128, 128], [256, 256], [512, 256], [1024, 512]];
        let best = |p: &Product| {
            let times = tiles.map(|tile| seconds(engine, *p, tile));
            times.into_iter().fold(f64::INFINITY, f64::min)
        };
        let total: f64 = products.iter().map(|p| best(p) * p.times as f64).sum();
        let rate = flops / total;
        let line = json!({
            "engine": name,
            "threads": rayon::current_num_threads(),
            "gflops": (rate / 1e8).round() / 10.0,
            "floor_tokens_per_s": (rate / per_token * 10.0).round() / 10.0,
        });
        println!("{line}");
    }
    Ok(())
}

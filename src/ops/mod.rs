//! The dozen operations that carry training: each file has the operation's signature and meaning, a
//! plain version that is generic over `f32` and `f64`, and the fast version for the CPU.
//!
//! Ops know tensors, not models. All tensors are contiguous; token rows come as `[batch, tokens, ..]`,
//! heads as `[batch, tokens, heads, head_dim]`, which is what a linear layer makes and takes, so that
//! nothing is transposed on the way.
pub mod adamw;
pub mod attention;
pub mod bias;
pub mod clip;
pub mod cross_entropy;
pub mod embedding;
mod host;
pub mod linear;
mod product;
pub mod rms_norm;
pub mod rope;
pub(crate) mod simd;
pub mod swiglu;
#[cfg(test)]
pub(crate) mod testing;

use candle_core::Device;
pub use host::{from_vec, to_vec, update, view, zeros};
pub use simd::instruction_set;

/// What an op runs on.
#[derive(Debug, Clone)]
pub struct Env {
    pub device: Device,
}

impl Env {
    /// The CPU with rayon's global thread pool.
    pub fn cpu() -> Self {
        keep_freed_buffers();
        Env {
            device: Device::Cpu,
        }
    }

    /// Names what the bytes of a result depend on beside its inputs: the product engine and the
    /// instruction set. Part of a trial's identity.
    pub fn backend(&self) -> String {
        format!("gemm {}", instruction_set())
    }
}

/// What an op can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    #[error("{op}: {what}")]
    Shape { op: &'static str, what: String },
}

/// Result of an op.
pub type Result<T> = std::result::Result<T, Error>;

/// Keeps what a step frees for the next step instead of giving it back to the system: a training step
/// allocates the same buffers again and again, and a fresh page costs more than the work on it.
fn keep_freed_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: mallopt only sets thresholds of the allocator; both values are in its range.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 512 << 20);
        });
    }
}

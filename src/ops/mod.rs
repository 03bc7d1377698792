//! The dozen operations that carry training.
use candle_core::Device;

/// The surroundings of an op.
pub struct Env { pub device: Device }

/// What an op can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

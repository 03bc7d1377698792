//! One decoder for several families: its configuration, RoPE, blocks, and generation.
pub mod batch;
pub mod block;
pub mod cache;
#[cfg(test)]
mod candle_tests;
pub mod config;
pub mod decoder;
pub mod generate;
#[cfg(test)]
mod golden_tests;
pub mod init;
pub mod param;
pub mod rope;
pub mod sample;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use config::{Family, ModelConfig};
pub use decoder::Decoder;
pub use init::{Init, Method};
pub use param::Param;
pub use rope::{Rope, RopeSpec};

/// What the model can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Op(#[from] crate::ops::Error),
    #[error(transparent)]
    Parallel(#[from] crate::parallel::Error),
    #[error("config.json: {0}")]
    Config(String),
    #[error("rope: {0}")]
    Rope(String),
    #[error("tensor {name}: {what}")]
    Tensor { name: String, what: String },
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Op(error.into())
    }
}

/// Result of the model.
pub type Result<T> = std::result::Result<T, Error>;

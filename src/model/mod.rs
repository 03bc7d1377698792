//! One Llama-type decoder: its configuration, RoPE, blocks, and generation.
pub mod batch;
pub mod config;
pub mod decoder;
pub mod generate;
pub mod rope;

pub use batch::Batch;
pub use config::LlamaConfig;
pub use decoder::Decoder;
pub use rope::Rope;

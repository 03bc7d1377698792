//! The checkpoint that a command looks into, and the RoPE under which it does.
use crate::{
    checkpoint::{BaseSpec, Checkpoint},
    model::RopeSpec,
    ops::Env,
};
use anyhow::{Context, Result};

/// `--checkpoint C [--rope-override ROPE]`.
#[derive(Debug, clap::Args)]
pub struct CheckpointArguments {
    /// A folder in Hugging Face's layout, or a .gguf file.
    #[arg(long)]
    checkpoint: String,
    /// Run it under another RoPE than it was trained with, said as a stage says it, such as
    /// '{ scaling = "yarn", factor = 4, original_context = 2048 }'.
    #[arg(long, value_name = "ROPE", value_parser = rope)]
    rope_override: Option<RopeSpec>,
}

/// A checkpoint, and what every row that it gives says of it.
pub(super) struct Loaded {
    pub checkpoint: Checkpoint,
    /// Hash of its content.
    pub content: String,
    /// Identity of the RoPE under which it runs.
    pub rope: String,
    /// Whether that is another than it was trained with, as asked for.
    pub overridden: bool,
}

impl CheckpointArguments {
    /// Reads the checkpoint.
    pub(super) fn load(&self, env: &Env) -> Result<Loaded> {
        let spec = BaseSpec::of_path(&self.checkpoint);
        let checkpoint = match &self.rope_override {
            None => spec.load(env)?,
            Some(rope) => spec.load_with_rope(env, rope).context("--rope-override")?,
        };
        let config = &checkpoint.model.config;
        let rope = config
            .rope
            .identity(config.head_dim, config.max_position_embeddings)?;
        Ok(Loaded {
            content: spec.content_hash()?,
            rope,
            overridden: self.rope_override.is_some(),
            checkpoint,
        })
    }
}

fn rope(text: &str) -> Result<RopeSpec, String> {
    #[derive(serde::Deserialize)]
    struct Said {
        rope: RopeSpec,
    }
    let said: Result<Said, _> = toml::from_str(&format!("rope = {text}"));
    said.map(|said| said.rope)
        .map_err(|e| e.message().replace('\n', " "))
}

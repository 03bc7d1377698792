//! The checkpoint that a command looks into, and the RoPE under which it does.
use crate::{
    checkpoint::{BaseSpec, Checkpoint},
    model::RopeSpec,
    ops::Env,
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// `--checkpoint C [--rope-override ROPE]`.
#[derive(Debug, clap::Args)]
pub struct CheckpointArguments {
    /// A folder in Hugging Face's layout, a .gguf file, or hub:ORG/NAME[@REVISION], which `harness fetch` has fetched.
    #[arg(long)]
    checkpoint: String,
    /// Run it under another RoPE than it was trained with, said as a stage says it, such as
    /// '{ scaling = "yarn", factor = 4, original_context = 2048 }'.
    #[arg(long, value_name = "ROPE", value_parser = rope)]
    rope_override: Option<RopeSpec>,
}

/// What every row of an output says of the checkpoint that gave it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ran {
    /// Hash of the checkpoint's content.
    checkpoint: String,
    /// Identity of the RoPE under which it ran.
    rope: String,
    /// Whether that was another than it was trained with, as asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rope_override: bool,
}

impl Ran {
    /// Whether both are of one checkpoint under one RoPE.
    pub fn is(&self, other: &Ran) -> bool {
        self.checkpoint == other.checkpoint && self.rope == other.rope
    }
}

/// A checkpoint, and what rows say of it.
pub(super) struct Loaded {
    pub checkpoint: Checkpoint,
    pub ran: Ran,
}

impl CheckpointArguments {
    /// Reads the checkpoint.
    pub(super) fn load(&self, env: &Env) -> Result<Loaded> {
        let spec = BaseSpec::named(&self.checkpoint);
        let checkpoint = match &self.rope_override {
            None => spec.load(env)?,
            Some(rope) => spec.load_with_rope(env, rope).context("--rope-override")?,
        };
        let config = &checkpoint.model.config;
        let rope = config
            .rope
            .identity(config.head_dim, config.max_position_embeddings)?;
        Ok(Loaded {
            ran: Ran {
                checkpoint: spec.content_hash()?,
                rope,
                rope_override: self.rope_override.is_some(),
            },
            checkpoint,
        })
    }
}

fn rope(text: &str) -> Result<RopeSpec, String> {
    #[derive(Deserialize)]
    struct Said {
        rope: RopeSpec,
    }
    let said: Result<Said, _> = toml::from_str(&format!("rope = {text}"));
    said.map(|said| said.rope)
        .map_err(|e| e.message().replace('\n', " "))
}

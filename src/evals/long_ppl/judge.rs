//! The judge of which tokens need the long context.
use crate::checkpoint::{BaseSpec, Checkpoint};
use crate::evals::{Error, Tokens};
use crate::ops::Env;
use std::cell::OnceCell;

/// The model that says which tokens need the long context. Its weights are read when it is first asked.
pub(super) struct Judge {
    task: String,
    spec: BaseSpec,
    pub tokens: Tokens,
    /// Tokens that it was trained for.
    pub context: usize,
    /// The first 32 bits of its content's hash.
    pub hash: u32,
    checkpoint: OnceCell<Checkpoint>,
}

impl Judge {
    /// Reads all but the weights.
    ///
    /// # Errors
    /// When there is no whole checkpoint at the path.
    pub fn open(task: &str, path: &str) -> Result<Self, Error> {
        let wrong = |e| Error::judge(task, e);
        let spec = BaseSpec::of_path(path);
        spec.check().map_err(wrong)?;
        let hash = spec.content_hash().map_err(wrong)?;
        Ok(Judge {
            task: task.to_string(),
            tokens: Tokens::new(&spec.tokenizer().map_err(wrong)?)?,
            context: spec.config().map_err(wrong)?.max_position_embeddings,
            hash: u32::from_str_radix(&hash[..8], 16).unwrap_or_default(),
            checkpoint: OnceCell::new(),
            spec,
        })
    }

    /// Its model, read when it is first asked for.
    ///
    /// # Errors
    /// When the weights cannot be read.
    pub fn checkpoint(&self, env: &Env) -> Result<&Checkpoint, Error> {
        if let Some(checkpoint) = self.checkpoint.get() {
            return Ok(checkpoint);
        }
        let loaded = self.spec.load(env);
        let loaded = loaded.map_err(|e| Error::judge(&self.task, e))?;
        Ok(self.checkpoint.get_or_init(|| loaded))
    }
}

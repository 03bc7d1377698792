//! Reading GGUF, llama.cpp's one-file format: metadata, tokenizer, and tensors that are mostly quantised.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. candle reads the file and
//! dequantises; what its metadata mean is read here.
mod config;
mod metadata;
mod names;
mod tokenizer;

use super::{Result, folder::file_hash, of_model, weights::check_shape, wrong};
use crate::model::ModelConfig;
use candle_core::{
    Device, Tensor,
    quantized::gguf_file::{Content, TensorInfo},
};
use metadata::Metadata;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

/// A GGUF file whose header was read.
#[derive(Debug)]
pub(super) struct Gguf {
    path: PathBuf,
    metadata: Metadata,
    tensors: BTreeMap<String, TensorInfo>,
    /// Where the tensors' bytes begin.
    data: u64,
}

impl Gguf {
    /// Reads the header.
    ///
    /// # Errors
    /// When the file is missing, damaged, no GGUF, or has tensors beyond its end.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| wrong(path, e))?;
        let length = file.metadata().map_err(|e| wrong(path, e))?.len();
        let content = Content::read(&mut BufReader::new(file)).map_err(|e| {
            wrong(
                path,
                format!(
                    "no GGUF, damaged or cut off ({}); fetch it again",
                    first_line(&e)
                ),
            )
        })?;
        let file = Gguf {
            path: path.to_path_buf(),
            metadata: Metadata(content.metadata),
            tensors: content.tensor_infos.into_iter().collect(),
            data: content.tensor_data_offset,
        };
        for (name, info) in &file.tensors {
            let end = bytes(info)
                .and_then(|bytes| file.data.checked_add(info.offset)?.checked_add(bytes))
                .filter(|end| *end <= length);
            if end.is_none() {
                let what = format!(
                    "tensor {name} ends beyond the file's {length} bytes: damaged or cut off; fetch it again"
                );
                return Err(wrong(path, what));
            }
        }
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Hash of the file's content.
    pub(super) fn content_hash(path: &Path) -> Result<String> {
        Ok(file_hash(path)?.to_hex()[..16].to_string())
    }

    /// The configuration that the metadata say.
    pub(super) fn config(&self) -> Result<ModelConfig> {
        let json = config::json(self).map_err(|what| wrong(&self.path, what))?;
        ModelConfig::parse(&json.to_string()).map_err(of_model(&self.path))
    }

    /// The tokenizer, rebuilt from the metadata.
    pub(super) fn tokenizer(&self) -> Result<Tokenizer> {
        tokenizer::build(&self.metadata).map_err(|what| wrong(&self.path, what))
    }

    /// The template of a chat, where the file has one.
    pub(super) fn chat_template(&self) -> Result<Option<String>> {
        let template = self.metadata.text("tokenizer.chat_template");
        let template = template.map_err(|what| wrong(&self.path, what))?;
        Ok(template.map(str::to_string))
    }

    /// Checks that the tensors are those that `config` asks for, and no others.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<()> {
        let mut left: BTreeMap<&str, &TensorInfo> =
            self.tensors.iter().map(|(n, i)| (n.as_str(), i)).collect();
        left.remove(names::ROPE_FREQS);
        for (name, shape) in config.tensors() {
            let stored = names::to_gguf(&name);
            let Some(info) = stored.as_deref().and_then(|stored| left.remove(stored)) else {
                let what = format!(
                    "tensor {} is missing; the metadata ask for {shape:?}",
                    stored.unwrap_or(name)
                );
                return Err(wrong(&self.path, what));
            };
            check_shape(
                &self.path,
                &stored.unwrap_or_default(),
                info.shape.dims(),
                &shape,
                "the file's metadata",
            )?;
        }
        match left.keys().next() {
            None => Ok(()),
            Some(name) => Err(wrong(
                &self.path,
                format!(
                    "tensor {name} has no place in this architecture, and dropping it would give another model"
                ),
            )),
        }
    }

    /// All weights in f32, under Hugging Face's names, query and key rows in Hugging Face's order.
    pub(super) fn tensors(&self, config: &ModelConfig) -> Result<HashMap<String, Tensor>> {
        let file = File::open(&self.path).map_err(|e| wrong(&self.path, e))?;
        let mut reader = BufReader::new(file);
        let interleaved = config::interleaved(self).map_err(|what| wrong(&self.path, what))?;
        let mut all = HashMap::new();
        for (name, _) in config.tensors() {
            let stored = names::to_gguf(&name).unwrap_or_default();
            let failed = |e: candle_core::Error| {
                wrong(&self.path, format!("tensor {stored}: {}", first_line(&e)))
            };
            let Some(info) = self.tensors.get(&stored) else {
                return Err(wrong(&self.path, format!("tensor {stored} is missing")));
            };
            let mut tensor = info
                .read(&mut reader, self.data, &Device::Cpu)
                .and_then(|quantised| quantised.dequantize(&Device::Cpu))
                .map_err(failed)?;
            if interleaved && names::is_turned(&name) {
                tensor = half_split(&tensor, config.head_dim).map_err(failed)?;
            }
            all.insert(name, tensor);
        }
        Ok(all)
    }
}

/// Bytes of a tensor in the file; nothing where there is no such number.
fn bytes(info: &TensorInfo) -> Option<u64> {
    let elements = info
        .shape
        .dims()
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim as u64))?;
    let blocks = elements.div_ceil(info.ggml_dtype.block_size() as u64);
    blocks.checked_mul(info.ggml_dtype.type_size() as u64)
}

/// Puts the rows of each head from the order 0, 1, 2 ... of pairs that llama.cpp turns, which stand side by
/// side, back to Hugging Face's, where a pair's second half stands `head_dim / 2` rows later.
fn half_split(rows: &Tensor, head_dim: usize) -> candle_core::Result<Tensor> {
    let shape = rows.shape().clone();
    let columns = shape.elem_count() / shape.dims()[0];
    let heads = shape.dims()[0] / head_dim;
    rows.reshape((heads, head_dim / 2, 2, columns))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(shape)
}

/// candle's errors may carry a backtrace.
fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests;

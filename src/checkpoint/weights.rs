//! A folder's safetensors: one file, or shards by an index.
use super::{Result, wrong};
use crate::model::ModelConfig;
use candle_core::{DType, Device, Tensor, safetensors::MmapedSafetensors};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// What the index file says; its `metadata` is not needed.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Where a folder's weights are.
#[derive(Debug)]
pub(super) struct Weights {
    folder: PathBuf,
    /// The file of each tensor where there are shards.
    index: Option<BTreeMap<String, String>>,
}

impl Weights {
    /// Finds the weights of a folder: `model.safetensors`, or else what the index names.
    ///
    /// # Errors
    /// When there are none, or the index is damaged or names a file that is not there.
    pub(super) fn find(folder: &Path) -> Result<Self> {
        let weights = |index| Weights {
            folder: folder.to_path_buf(),
            index,
        };
        if folder.join(SINGLE).exists() {
            return Ok(weights(None));
        }
        let path = folder.join(INDEX);
        if !path.exists() {
            let what = match folder.join("pytorch_model.bin").exists() {
                true => {
                    "has pytorch_model.bin alone; load it with transformers and save it as safetensors"
                }
                false => "has neither model.safetensors nor model.safetensors.index.json",
            };
            return Err(wrong(folder, what));
        }
        let text = fs::read_to_string(&path).map_err(|e| wrong(&path, e))?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|e| wrong(&path, format!("is no index of safetensors: {e}")))?;
        let weights = weights(Some(index.weight_map));
        for file in weights.files() {
            // A name with a folder in it would lead out of the checkpoint.
            if Path::new(&file).file_name() != Some(file.as_ref()) {
                return Err(wrong(
                    &path,
                    format!("names {file:?}, which is no file of this folder"),
                ));
            }
            if !folder.join(&file).exists() {
                let what = format!("names the shard {file}, which is missing; fetch it");
                return Err(wrong(&path, what));
            }
        }
        Ok(weights)
    }

    /// Names of the weight files, in order.
    pub(super) fn files(&self) -> Vec<String> {
        match &self.index {
            None => vec![SINGLE.to_string()],
            Some(index) => {
                let files: BTreeSet<&String> = index.values().collect();
                files.into_iter().cloned().collect()
            }
        }
    }

    /// Names of all files that the weights' content depends on.
    pub(super) fn contents(&self) -> Vec<String> {
        let index = self.index.is_some().then(|| INDEX.to_string());
        index.into_iter().chain(self.files()).collect()
    }

    /// The file of a tensor.
    fn file(&self, tensor: &str) -> Option<&str> {
        match &self.index {
            None => Some(SINGLE),
            Some(index) => index.get(tensor).map(String::as_str),
        }
    }

    /// Checks by the headers the weights' names, shapes, types and the files' lengths.
    ///
    /// # Errors
    /// The first thing that is not as `config` asks for.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<()> {
        let mut maps = BTreeMap::new();
        for file in self.files() {
            maps.insert(file.clone(), map(&self.folder.join(file))?);
        }
        let mut shards = BTreeMap::new();
        for (file, bytes) in &maps {
            let tensors = SafeTensors::deserialize(bytes).map_err(|e| {
                let what = format!("damaged or cut off ({e}); fetch the checkpoint again");
                wrong(&self.folder.join(file), what)
            })?;
            shards.insert(file.as_str(), tensors);
        }
        for (name, shape) in config.tensors() {
            let Some(file) = self.file(&name) else {
                let what = format!("tensor {name} is missing; config.json asks for {shape:?}");
                return Err(wrong(&self.folder.join(INDEX), what));
            };
            let path = self.folder.join(file);
            let Some(Ok(tensor)) = shards.get(file).map(|shard| shard.tensor(&name)) else {
                let what = match &self.index {
                    None => format!("tensor {name} is missing; config.json asks for {shape:?}"),
                    Some(_) => {
                        format!("tensor {name} is missing, though {INDEX} says that it is here")
                    }
                };
                return Err(wrong(&path, what));
            };
            check_shape(&path, &name, tensor.shape(), &shape, "config.json")?;
            if !matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                let what = format!(
                    "tensor {name} is of type {:?}; F32, F16 and BF16 are read",
                    tensor.dtype()
                );
                return Err(wrong(&path, what));
            }
        }
        Ok(())
    }

    /// The types in which the tensors are stored, by their names.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub(super) fn dtypes(&self) -> Result<BTreeMap<String, DType>> {
        let mut all = BTreeMap::new();
        for file in self.files() {
            let path = self.folder.join(file);
            let bytes = map(&path)?;
            let damaged = |e| wrong(&path, format!("damaged or cut off ({e})"));
            let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
            for (name, tensor) in tensors.iter() {
                let dtype = match tensor.dtype() {
                    Dtype::BF16 => DType::BF16,
                    Dtype::F16 => DType::F16,
                    _ => DType::F32,
                };
                all.insert(name.to_string(), dtype);
            }
        }
        Ok(all)
    }

    /// The tensors that `config` asks for, in the type in which they are stored.
    ///
    /// # Errors
    /// When a file is damaged or a tensor is missing.
    pub(super) fn tensors(&self, config: &ModelConfig) -> Result<HashMap<String, Tensor>> {
        let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, _) in config.tensors() {
            let file = self.file(&name).unwrap_or(SINGLE);
            wanted.entry(file).or_default().push(name);
        }
        let mut all = HashMap::new();
        for (file, names) in wanted {
            let path = self.folder.join(file);
            let damaged = |e: candle_core::Error| wrong(&path, format!("damaged: {e}"));
            // SAFETY: the file is only read, and its header is checked against its length.
            let tensors = unsafe { MmapedSafetensors::new(&path) }.map_err(damaged)?;
            for name in names {
                let tensor = tensors.load(&name, &Device::Cpu).map_err(damaged)?;
                all.insert(name, tensor);
            }
        }
        Ok(all)
    }
}

fn map(path: &Path) -> Result<Mmap> {
    let file = fs::File::open(path).map_err(|e| wrong(path, e))?;
    // SAFETY: the file is only read, and its header is checked against its length.
    unsafe { Mmap::map(&file) }.map_err(|e| wrong(path, e))
}

/// An error unless a tensor has the shape that `asks` (the configuration's name) asks for.
pub(super) fn check_shape(
    path: &Path,
    name: &str,
    has: &[usize],
    wanted: &[usize],
    asks: &str,
) -> Result<()> {
    if has == wanted {
        return Ok(());
    }
    let what = format!("tensor {name} has shape {has:?}, {asks} asks for {wanted:?}");
    Err(wrong(path, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        let text = r#"{"model_type": "llama", "vocab_size": 20, "hidden_size": 8,
            "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "tie_word_embeddings": true}"#;
        ModelConfig::parse(text).unwrap()
    }

    /// All tensors of [`config`] with numbers that bf16 and f16 hold exactly.
    fn tensors(dtype: DType) -> BTreeMap<String, Tensor> {
        let named = config().tensors().into_iter().enumerate();
        let made = named.map(|(i, (name, shape))| {
            let count = shape.iter().product::<usize>() as u32;
            let numbers: Vec<f32> = (0..count).map(|j| (j % 7 + i as u32) as f32).collect();
            let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
            (name, tensor.to_dtype(dtype).unwrap())
        });
        made.collect()
    }

    /// A folder of two shards with their index, whose map `change` may spoil.
    fn sharded(dtype: DType, change: impl Fn(&mut BTreeMap<String, String>)) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (mut map, mut shards) = (BTreeMap::new(), [HashMap::new(), HashMap::new()]);
        for (i, (name, tensor)) in tensors(dtype).into_iter().enumerate() {
            map.insert(name.clone(), format!("part-{}.safetensors", i % 2));
            shards[i % 2].insert(name, tensor);
        }
        for (i, shard) in shards.iter().enumerate() {
            let path = folder.path().join(format!("part-{i}.safetensors"));
            candle_core::safetensors::save(shard, path).unwrap();
        }
        change(&mut map);
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
        folder
    }

    #[test]
    fn shards_give_every_tensor_in_the_type_in_which_it_is_stored() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let folder = sharded(dtype, |_| ());
            let weights = Weights::find(folder.path()).unwrap();
            weights.check(&config()).unwrap();
            let read = weights.tensors(&config()).unwrap();
            let wanted = tensors(dtype);
            assert_eq!(read.len(), wanted.len());
            for (name, tensor) in wanted {
                let numbers = |t: &Tensor| {
                    let flat = t.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                    flat.to_vec1::<f32>().unwrap()
                };
                assert_eq!(read[&name].dtype(), dtype);
                assert_eq!(numbers(&read[&name]), numbers(&tensor), "{name}");
            }
        }
    }

    #[test]
    fn a_wrong_index_is_one_clear_error() {
        let norm = "model.norm.weight";
        let error = |change: &dyn Fn(&mut BTreeMap<String, String>)| {
            let folder = sharded(DType::F32, change);
            let found = Weights::find(folder.path()).and_then(|w| w.check(&config()));
            found.unwrap_err().to_string()
        };
        let renamed = |to: &'static str| {
            move |map: &mut BTreeMap<String, String>| {
                map.insert(norm.into(), to.into());
            }
        };
        for (change, words) in [
            (
                &renamed("part-7.safetensors") as &dyn Fn(&mut _),
                "part-7.safetensors, which is missing",
            ),
            (&renamed("../part-0.safetensors"), "no file of this folder"),
            (
                &|map| {
                    let file = if map[norm] == "part-0.safetensors" {
                        "part-1"
                    } else {
                        "part-0"
                    };
                    map.insert(norm.into(), format!("{file}.safetensors"));
                },
                "tensor model.norm.weight is missing, though",
            ),
            (
                &|map| {
                    map.remove(norm);
                },
                "tensor model.norm.weight is missing",
            ),
        ] {
            let error = error(change);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_folder_without_weights_and_a_cut_shard_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Weights::find(folder.path()).unwrap_err().to_string();
        assert!(error.contains("neither model.safetensors nor"), "{error}");
        let folder = sharded(DType::F32, |_| ());
        let shard = folder.path().join("part-1.safetensors");
        let bytes = fs::read(&shard).unwrap();
        fs::write(&shard, &bytes[..bytes.len() - 8]).unwrap();
        let weights = Weights::find(folder.path()).unwrap();
        let error = weights.check(&config()).unwrap_err().to_string();
        assert!(
            error.contains("part-1.safetensors: damaged or cut off"),
            "{error}"
        );
    }

    #[test]
    fn another_type_than_floats_of_16_or_32_bits_is_refused() {
        let folder = sharded(DType::F64, |_| ());
        let error = Weights::find(folder.path())
            .unwrap()
            .check(&config())
            .unwrap_err();
        assert!(error.to_string().contains("is of type F64"), "{error}");
    }
}

//! Writing a folder in Hugging Face's layout, which transformers, vLLM and llama.cpp's converter load.
use super::{
    BaseSpec, Result,
    folder::{CONFIG, ROPE_IDENTITY, TOKENIZER},
    of_model,
    weights::{INDEX, SINGLE},
    wrong,
};
use crate::{model::Decoder, ops::view, whole_file};
use candle_core::{DType, Tensor};
use safetensors::{Dtype, tensor::View};
use serde_json::{Map, Value, json};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs,
    io::Write,
    path::Path,
};
use tokenizers::Tokenizer;

/// How weights are stored.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The type of each tensor by its name; f32 where it is not named.
    pub dtypes: BTreeMap<String, DType>,
    /// Bytes of a weight file, at most, but for a larger tensor.
    pub shard_bytes: u64,
}

impl Storage {
    /// f32 in one file.
    fn whole() -> Self {
        Storage {
            dtypes: BTreeMap::new(),
            shard_bytes: u64::MAX,
        }
    }
}

/// Writes `model` and `tokenizer` as a folder in Hugging Face's layout, in f32.
///
/// # Errors
/// When the folder cannot be written.
pub fn save(folder: &Path, model: &Decoder, tokenizer: &Tokenizer) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| wrong(folder, e))?;
    write_weights(folder, model, &Storage::whole())?;
    write_json(&folder.join(CONFIG), config(folder, model, DType::F32)?)?;
    write_tokenizer(&folder.join(TOKENIZER), tokenizer)
}

/// Writes what [`save`] writes of a model that was trained from `base`, and the small files of `base` with it: the two are
/// asked by one chat template.
///
/// # Errors
/// When the folder cannot be written, or a file of `base` is damaged.
pub fn save_trained(
    folder: &Path,
    base: &BaseSpec,
    model: &Decoder,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let others = base.companions(&model.config, tokenizer)?;
    fs::create_dir_all(folder).map_err(|e| wrong(folder, e))?;
    // First, so that whatever can be loaded has its template.
    write_others(folder, &others)?;
    save(folder, model, tokenizer)
}

/// Whether a checkpoint may be written to a folder: it is new, or empty.
///
/// # Errors
/// When it is not.
pub fn check_free(folder: &Path) -> Result<()> {
    let mut files = fs::read_dir(folder).into_iter().flatten();
    match folder.is_file() || files.next().is_some() {
        true => Err(wrong(
            folder,
            "is there already; name a folder that is new or empty",
        )),
        false => Ok(()),
    }
}

/// Writes a folder for others: what [`save`] writes, in the storage asked for, and `others`, files by their
/// names. The folder is there whole or not at all.
///
/// # Errors
/// When `folder` is there and not empty, or cannot be written.
pub fn export(
    folder: &Path,
    model: &Decoder,
    tokenizer: &Tokenizer,
    storage: &Storage,
    others: &BTreeMap<String, String>,
) -> Result<()> {
    check_free(folder)?;
    let parent = whole_file::folder(folder);
    fs::create_dir_all(parent).map_err(|e| wrong(parent, e))?;
    let (temporary, _lock) = whole_file::temporary_folder(folder).map_err(|e| wrong(parent, e))?;
    let inside = temporary.path();
    check_range(folder, model, storage)?;
    write_weights(inside, model, storage)?;
    let embedding = storage.dtypes.get(&model.embed_tokens.name);
    let dtype = embedding.copied().unwrap_or(DType::F32);
    write_json(&inside.join(CONFIG), config(inside, model, dtype)?)?;
    write_tokenizer(&inside.join(TOKENIZER), tokenizer)?;
    write_others(inside, others)?;
    // As readable as any other folder: temporary ones are their owner's alone.
    let permissions = fs::metadata(parent)
        .map_err(|e| wrong(parent, e))?
        .permissions();
    fs::set_permissions(inside, permissions).map_err(|e| wrong(inside, e))?;
    fs::rename(temporary.keep(), folder).map_err(|e| wrong(folder, e))
}

/// `config.json` with the type of the weights and the identity of the RoPE.
fn config(folder: &Path, model: &Decoder, dtype: DType) -> Result<Map<String, Value>> {
    let config = &model.config;
    let rope = config
        .rope
        .identity(config.head_dim, config.max_position_embeddings)
        .map_err(of_model(&folder.join(CONFIG)))?;
    let mut json = config.to_json().as_object().cloned().unwrap_or_default();
    // transformers 5 says dtype, older ones torch_dtype.
    for key in ["dtype", "torch_dtype"] {
        json.insert(key.into(), dtype_name(dtype).into());
    }
    json.insert(ROPE_IDENTITY.into(), rope.into());
    Ok(json)
}

/// PyTorch's name of a type.
pub fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    }
}

/// An error where f16 cannot hold a weight.
fn check_range(folder: &Path, model: &Decoder, storage: &Storage) -> Result<()> {
    const LARGEST: f32 = 65504.0;
    for param in model.params() {
        if storage.dtypes.get(&param.name) != Some(&DType::F16) {
            continue;
        }
        let numbers = view::<f32>(&param.value).map_err(|e| wrong(folder, e))?;
        if let Some(x) = numbers.iter().find(|x| x.abs() > LARGEST) {
            let what = format!(
                "tensor {} has {x}, which f16 cannot hold; export as bf16 or f32",
                param.name
            );
            return Err(wrong(folder, what));
        }
    }
    Ok(())
}

/// A tensor that becomes bytes of its stored type when it is written.
struct Stored<'a> {
    tensor: &'a Tensor,
    dtype: DType,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype.into()
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let converted = self.tensor.to_dtype(self.dtype);
        let tensor = converted.expect("a float on the CPU converts to another");
        Cow::Owned(View::data(&tensor).into_owned())
    }

    fn data_len(&self) -> usize {
        self.tensor.elem_count() * self.dtype.size_in_bytes()
    }
}

/// Writes the weights in one file, or in shards with their index.
fn write_weights(folder: &Path, model: &Decoder, storage: &Storage) -> Result<()> {
    let mut shards: Vec<Vec<(&str, Stored)>> = vec![Vec::new()];
    let (mut filled, mut total, mut parameters) = (0, 0, 0);
    for param in model.params() {
        let dtype = storage.dtypes.get(&param.name).copied();
        let stored = Stored {
            tensor: &param.value,
            dtype: dtype.unwrap_or(DType::F32),
        };
        let bytes = stored.data_len() as u64;
        if filled > 0 && filled + bytes > storage.shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        total += bytes;
        parameters += param.value.elem_count();
        if let Some(shard) = shards.last_mut() {
            shard.push((&param.name, stored));
        }
    }
    let count = shards.len();
    let mut index = Map::new();
    for (i, shard) in shards.into_iter().enumerate() {
        let file = match count {
            1 => SINGLE.to_string(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        for (name, _) in &shard {
            index.insert(name.to_string(), file.clone().into());
        }
        let path = folder.join(file);
        // transformers before 4.57 refuses a file that does not say whose layout it has.
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        whole_file::replace(&path, |file| {
            safetensors::serialize_to_file(shard, Some(metadata), file.path())
                .map_err(std::io::Error::other)
        })
        .map_err(|e| wrong(&path, e))?;
    }
    if count > 1 {
        let json = json!({
            "metadata": {"total_parameters": parameters, "total_size": total},
            "weight_map": index,
        });
        write_json(
            &folder.join(INDEX),
            json.as_object().cloned().unwrap_or_default(),
        )?;
    }
    Ok(())
}

fn write_json(path: &Path, json: Map<String, Value>) -> Result<()> {
    let sorted: BTreeMap<String, Value> = json.into_iter().collect();
    let text = serde_json::to_string_pretty(&sorted).map_err(|e| wrong(path, e))?;
    write(path, &format!("{text}\n"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    whole_file::replace(path, |file| file.write_all(text.as_bytes())).map_err(|e| wrong(path, e))
}

fn write_others(folder: &Path, others: &BTreeMap<String, String>) -> Result<()> {
    for (name, text) in others {
        write(&folder.join(name), text)?;
    }
    Ok(())
}

fn write_tokenizer(path: &Path, tokenizer: &Tokenizer) -> Result<()> {
    whole_file::replace(path, |file| {
        tokenizer
            .save(file.path(), false)
            .map_err(std::io::Error::other)
    })
    .map_err(|e| wrong(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Init, Method, ModelConfig};
    use crate::ops::Env;
    use candle_core::safetensors::load;

    fn model(tied: bool) -> Decoder {
        let text = format!(
            r#"{{"model_type": "llama", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 2, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64, "tie_word_embeddings": {tied}}}"#
        );
        let init = Init {
            method: Method::Random,
            seed: 4,
        };
        Decoder::init(&Env::cpu(), &ModelConfig::parse(&text).unwrap(), init).unwrap()
    }

    fn tokenizer() -> Tokenizer {
        let text =
            r#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
        text.parse().unwrap()
    }

    fn storage(model: &Decoder, dtype: DType, shard_bytes: u64) -> Storage {
        let names = model.params().into_iter().map(|p| (p.name.clone(), dtype));
        Storage {
            dtypes: names.collect(),
            shard_bytes,
        }
    }

    /// All tensors of a folder as their bytes.
    fn tensors(folder: &Path) -> BTreeMap<String, (DType, Vec<u8>)> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                for (name, tensor) in load(&path, &candle_core::Device::Cpu).unwrap() {
                    let bytes = View::data(&tensor).into_owned();
                    all.insert(name, (tensor.dtype(), bytes));
                }
            }
        }
        all
    }

    #[test]
    fn what_comes_in_goes_out_to_the_bit() {
        let work = tempfile::tempdir().unwrap();
        for (i, dtype) in [DType::F32, DType::F16, DType::BF16]
            .into_iter()
            .enumerate()
        {
            for tied in [true, false] {
                let folders = [0, 1].map(|n| work.path().join(format!("{i}-{tied}-{n}")));
                let model = model(tied);
                let shards = storage(&model, dtype, 20_000);
                export(&folders[0], &model, &tokenizer(), &shards, &BTreeMap::new()).unwrap();
                let spec = BaseSpec::of_path(folders[0].to_str().unwrap());
                let read = spec.load(&Env::cpu()).unwrap();
                assert_eq!(read.model.config, model.config);
                let stored = Storage {
                    dtypes: spec.stored_dtypes().unwrap(),
                    shard_bytes: u64::MAX,
                };
                export(
                    &folders[1],
                    &read.model,
                    &tokenizer(),
                    &stored,
                    &BTreeMap::new(),
                )
                .unwrap();
                let [first, second] = folders.map(|folder| tensors(&folder));
                assert_eq!(first.len(), model.params().len());
                assert!(first.values().all(|(stored, _)| *stored == dtype));
                assert_eq!(first, second);
            }
        }
    }

    #[test]
    fn a_trained_checkpoint_has_the_chat_template_of_its_base() {
        let work = tempfile::tempdir().unwrap();
        let spec = |name: &str| BaseSpec::of_path(work.path().join(name).to_str().unwrap());
        let (base, model) = (spec("base"), model(true));
        save(&work.path().join("base"), &model, &tokenizer()).unwrap();
        let plain = base.content_hash().unwrap();
        let trained = |name: &str| {
            let folder = work.path().join(name);
            save_trained(&folder, &base, &model, &tokenizer()).unwrap();
            let trained = spec(name);
            let template = trained.chat_template().unwrap();
            assert_eq!(template, base.chat_template().unwrap());
            (template, trained.content_hash().unwrap())
        };
        // Without a template it is what it was before there were other files.
        assert_eq!(trained("plain"), (None, plain.clone()));
        let said = r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}"}"#;
        fs::write(work.path().join("base/tokenizer_config.json"), said).unwrap();
        let (template, content) = trained("chat");
        let template = template.unwrap();
        assert_eq!(
            (template.source.as_str(), template.bos_token.as_deref()),
            ("{{ bos_token }}", Some("<s>"))
        );
        // Kept scores of one template are not taken for those of another.
        fs::write(work.path().join("base/chat_template.jinja"), "other").unwrap();
        let (_, other) = trained("other");
        assert!(content != plain && other != content);
        let damaged = work.path().join("base/generation_config.json");
        fs::write(damaged, "[]").unwrap();
        let error = base.check_to_train().unwrap_err().to_string();
        assert!(
            error.contains("generation_config.json: invalid type"),
            "{error}"
        );
    }

    #[test]
    fn shards_hold_what_the_index_says_and_no_more_than_asked_for() {
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("out");
        let model = model(false);
        let storage = storage(&model, DType::BF16, 20_000);
        export(&folder, &model, &tokenizer(), &storage, &BTreeMap::new()).unwrap();
        let index: Value =
            serde_json::from_str(&fs::read_to_string(folder.join(INDEX)).unwrap()).unwrap();
        let files: std::collections::BTreeSet<&str> = index["weight_map"]
            .as_object()
            .unwrap()
            .values()
            .map(|file| file.as_str().unwrap())
            .collect();
        assert_eq!(
            files.first(),
            Some(&format!("model-00001-of-{:05}.safetensors", files.len()).as_str())
        );
        assert!(files.len() > 2);
        for file in files {
            let bytes = fs::read(folder.join(file)).unwrap();
            let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
            assert!(metadata.metadata().as_ref().unwrap()["format"] == "pt");
            assert!(metadata.data_len() <= 20_000);
        }
        let total: usize = model.params().iter().map(|p| p.value.elem_count()).sum();
        assert_eq!(index["metadata"]["total_size"], 2 * total);
    }

    #[test]
    fn a_folder_that_is_there_and_weights_that_do_not_fit_are_refused() {
        let work = tempfile::tempdir().unwrap();
        let model = model(true);
        let all = |dtype| storage(&model, dtype, u64::MAX);
        let error = export(
            work.path(),
            &model,
            &tokenizer(),
            &all(DType::F32),
            &BTreeMap::new(),
        );
        assert!(error.is_ok());
        let error = export(
            work.path(),
            &model,
            &tokenizer(),
            &all(DType::F32),
            &BTreeMap::new(),
        );
        assert!(error.unwrap_err().to_string().contains("is there already"));
        crate::ops::update(&model.norm.value, |x: &mut [f32]| x[3] = 1e5).unwrap();
        let out = work.path().join("out");
        let error = export(
            &out,
            &model,
            &tokenizer(),
            &all(DType::F16),
            &BTreeMap::new(),
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("model.norm.weight has 100000")
        );
        assert!(!out.exists());
    }
}

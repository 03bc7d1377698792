//! The tokenizer that a GGUF file's metadata describe, as the `tokenizer.json` that it was made from.
//!
//! The metadata name a kind of split (`tokenizer.ggml.pre`) and give vocabulary, merges or scores, and the
//! kind of each token. What a kind of split stands for is read from the models that use it; llama.cpp's
//! `llama-vocab.cpp` has the same list.
use super::metadata::Metadata;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use tokenizers::Tokenizer;

/// Kinds of tokens, of `llama_token_type`.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// Llama 3's words: contractions in any case, a letterless character before letters, up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's words: Llama 3's with single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How byte-level BPE splits a text, and what follows from it.
struct Split {
    pre_tokenizer: Value,
    normalizer: Value,
    /// A word that is in the vocabulary is one token, whatever the merges.
    ignore_merges: bool,
    /// Whether a text begins with BOS where the metadata don't say.
    add_bos: bool,
}

impl Split {
    fn named(pre: &str) -> Result<Self, String> {
        let words = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let by = |pattern: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ]})
        };
        let mut split = Split {
            pre_tokenizer: words.clone(),
            normalizer: Value::Null,
            ignore_merges: false,
            add_bos: false,
        };
        match pre {
            "default" | "gpt-2" | "gpt2" => {}
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
                split.pre_tokenizer = json!({"type": "Sequence", "pretokenizers": [
                    {"type": "Digits", "individual_digits": true}, words]});
            }
            "llama-bpe" | "llama3" | "llama-v3" => {
                split.pre_tokenizer = by(LLAMA3);
                split.ignore_merges = true;
                split.add_bos = true;
            }
            "qwen2" | "deepseek-r1-qwen" => {
                split.pre_tokenizer = by(QWEN2);
                split.normalizer = json!({"type": "NFC"});
            }
            other => {
                return Err(format!(
                    "metadata tokenizer.ggml.pre = {other:?} is not known; default, gpt-2, smollm, starcoder, \
                     refact, command-r, codeshell, llama-bpe and qwen2 are"
                ));
            }
        }
        Ok(split)
    }
}

/// The tokenizer.
///
/// # Errors
/// What the metadata lack, or have that is not known.
pub(super) fn build(metadata: &Metadata) -> Result<Tokenizer, String> {
    let model = metadata
        .text("tokenizer.ggml.model")?
        .ok_or("metadata tokenizer.ggml.model is missing: the file has no tokenizer")?;
    let tokens = metadata
        .texts("tokenizer.ggml.tokens")?
        .ok_or("metadata tokenizer.ggml.tokens is missing")?;
    let kinds = metadata
        .kinds("tokenizer.ggml.token_type")?
        .unwrap_or_else(|| vec![1; tokens.len()]);
    if kinds.len() != tokens.len() {
        return Err(format!(
            "metadata tokenizer.ggml.token_type has {} kinds for {} tokens",
            kinds.len(),
            tokens.len()
        ));
    }
    let vocabulary = Vocabulary { tokens, kinds };
    let (mut json, add_bos) = match model {
        "gpt2" => byte_level(metadata, &vocabulary)?,
        "llama" => (sentencepiece(metadata, &vocabulary)?, true),
        other => {
            return Err(format!(
                "metadata tokenizer.ggml.model = {other:?} is not supported; gpt2 (byte-level BPE) and llama \
                 (SentencePiece) are"
            ));
        }
    };
    json["version"] = "1.0".into();
    json["added_tokens"] = vocabulary.added();
    json["post_processor"] = template(metadata, &vocabulary, add_bos)?;
    let text = json.to_string();
    text.parse()
        .map_err(|e: tokenizers::Error| format!("the metadata make no tokenizer: {e}"))
}

struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<i32>,
}

impl Vocabulary<'_> {
    /// Token to id.
    fn json(&self) -> Value {
        let ids = self.tokens.iter().enumerate();
        let ids: Map<String, Value> = ids.map(|(id, t)| (t.to_string(), id.into())).collect();
        Value::Object(ids)
    }

    /// Tokens that are found in a text before it is split.
    fn added(&self) -> Value {
        let all = self.tokens.iter().zip(&self.kinds).enumerate();
        let added = all.filter(|(_, (_, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED));
        added
            .map(|(id, (token, kind))| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": *kind != USER_DEFINED})
            })
            .collect()
    }

    fn token(&self, metadata: &Metadata, key: &str) -> Result<(&str, u64), String> {
        let key = format!("tokenizer.ggml.{key}");
        let id = metadata.need_size(&key)?;
        let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        let token = token.ok_or_else(|| {
            format!(
                "metadata {key} = {id} is not one of {} tokens",
                self.tokens.len()
            )
        })?;
        Ok((token, id))
    }
}

/// Byte-level BPE, and whether it adds BOS by default.
fn byte_level(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<(Value, bool), String> {
    let split = Split::named(metadata.text("tokenizer.ggml.pre")?.unwrap_or("default"))?;
    let merges = metadata
        .texts("tokenizer.ggml.merges")?
        .ok_or("metadata tokenizer.ggml.merges is missing")?
        .into_iter()
        .map(|merge| {
            let (left, right) = merge.split_once(' ').ok_or_else(|| {
                format!("metadata tokenizer.ggml.merges has {merge:?}, which is no pair")
            })?;
            Ok(json!([left, right]))
        })
        .collect::<Result<Vec<Value>, String>>()?;
    let json = json!({
        "normalizer": split.normalizer,
        "pre_tokenizer": split.pre_tokenizer,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "ignore_merges": split.ignore_merges, "vocab": vocabulary.json(),
            "merges": merges},
    });
    Ok((json, split.add_bos))
}

/// SentencePiece's BPE as Llama 2's `tokenizer.json` has it: spaces are `▁`, one more before the text, and
/// what the vocabulary lacks is bytes.
fn sentencepiece(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Value, String> {
    let prefix = metadata
        .flag("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let scores = metadata
        .numbers("tokenizer.ggml.scores")?
        .filter(|scores| scores.len() == vocabulary.tokens.len())
        .ok_or("metadata tokenizer.ggml.scores is missing or has another length than the tokens")?;
    let (unknown, _) = match metadata.size("tokenizer.ggml.unknown_token_id")? {
        Some(_) => vocabulary.token(metadata, "unknown_token_id")?,
        None => ("<unk>", 0),
    };
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let mut normalizers = vec![spaces];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "unk_token": unknown, "fuse_unk": true, "byte_fallback": true,
            "vocab": vocabulary.json(), "merges": merges_of(vocabulary, &scores)},
    }))
}

/// The merges that SentencePiece's scores stand for: every pair of tokens that makes a third, the best third
/// first, as transformers' `generate_merges` has it.
fn merges_of(vocabulary: &Vocabulary, scores: &[f32]) -> Vec<[String; 2]> {
    let pieces = |kind: &i32| !matches!(*kind, UNKNOWN | CONTROL | BYTE);
    let ids: HashMap<&str, usize> = (vocabulary.tokens.iter().enumerate())
        .filter(|(id, _)| pieces(&vocabulary.kinds[*id]))
        .map(|(id, token)| (*token, id))
        .collect();
    let mut merges = Vec::new();
    for (whole, token) in vocabulary.tokens.iter().enumerate() {
        if !ids.contains_key(token) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                let lengths = (left.chars().count(), right.chars().count());
                merges.push((scores[whole], lengths, whole, (*l, *r), [left, right]));
            }
        }
    }
    merges.sort_by(|a, b| {
        let best_first = b.0.total_cmp(&a.0).then(b.1.cmp(&a.1));
        best_first.then((a.2, a.3).cmp(&(b.2, b.3)))
    });
    let text = |(.., [left, right]): (_, _, _, _, [&str; 2])| [left.to_string(), right.to_string()];
    merges.into_iter().map(text).collect()
}

/// BOS before and EOS behind a text, where the metadata ask for them.
fn template(metadata: &Metadata, vocabulary: &Vocabulary, add_bos: bool) -> Result<Value, String> {
    let asked = |key: &str, default: bool| -> Result<bool, String> {
        Ok(metadata.flag(key)?.unwrap_or(default))
    };
    let mut specials = Map::new();
    let mut special = |key: &str| -> Result<[Value; 2], String> {
        let (token, id) = vocabulary.token(metadata, key)?;
        let entry = json!({"id": token, "ids": [id], "tokens": [token]});
        specials.insert(token.to_string(), entry);
        Ok([0, 1].map(|text| json!({"SpecialToken": {"id": token, "type_id": text}})))
    };
    let sequences = ["A", "B"];
    let mut texts =
        [0, 1].map(|text| vec![json!({"Sequence": {"id": sequences[text], "type_id": text}})]);
    if asked("tokenizer.ggml.add_bos_token", add_bos)? {
        for (text, bos) in texts.iter_mut().zip(special("bos_token_id")?) {
            text.insert(0, bos);
        }
    }
    if asked("tokenizer.ggml.add_eos_token", false)? {
        for (text, eos) in texts.iter_mut().zip(special("eos_token_id")?) {
            text.push(eos);
        }
    }
    if specials.is_empty() {
        return Ok(Value::Null);
    }
    let [single, second] = texts;
    let pair = [single.clone(), second].concat();
    Ok(
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials}),
    )
}

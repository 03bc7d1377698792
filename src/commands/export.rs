//! `harness export`: a trial or a checkpoint as a folder that others load.
use crate::{
    checkpoint::{self, BaseSpec, Storage},
    evals,
    ops::Env,
    report::{self, Card},
    say,
    sweep::{Manifest, TrialFolder},
};
use anyhow::{Context, Result, bail};
use candle_core::DType;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// `harness export TRIAL DIR`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A trial's folder (results/NAME/trials/KEY), or a checkpoint: a folder or a .gguf file.
    trial: PathBuf,
    /// The folder to write; new or empty.
    dir: PathBuf,
    /// Type of the weights; each as it is stored where it is not given, f32 for a trial.
    #[arg(long)]
    dtype: Option<Type>,
    /// Bytes of a weight file, at most, such as 500MB or 5GB.
    #[arg(long, default_value = "5GB", value_parser = bytes)]
    shard_size: u64,
}

/// The types of weights that others load.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Type {
    F32,
    Bf16,
    F16,
}

/// What is exported.
struct Subject {
    /// Where the weights are.
    weights: BaseSpec,
    /// The checkpoint whose small files go with them.
    base: BaseSpec,
    title: String,
    about: String,
    facts: Vec<(&'static str, String)>,
    recipe: Option<String>,
    contents: Vec<(String, String)>,
    scores: Vec<evals::ScoreRow>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    checkpoint::check_free(&arguments.dir)?;
    let subject = match arguments.trial.join("trial.toml").exists() {
        true => of_trial(&arguments.trial)?,
        false => of_checkpoint(&arguments.trial)?,
    };
    let env = Env::cpu();
    let loaded = subject.weights.load(&env)?;
    let config = &loaded.model.config;
    let mut dtypes = subject.weights.stored_dtypes()?;
    if let Some(asked) = arguments.dtype {
        let dtype = match asked {
            Type::F32 => DType::F32,
            Type::Bf16 => DType::BF16,
            Type::F16 => DType::F16,
        };
        dtypes = config
            .tensors()
            .into_iter()
            .map(|(name, _)| (name, dtype))
            .collect();
    }
    let storage = Storage {
        dtypes,
        shard_bytes: arguments.shard_size,
    };
    let rope = config
        .rope
        .identity(config.head_dim, config.max_position_embeddings)?;
    let mut facts = subject.facts;
    facts.extend([
        ("architecture", config.family.architecture().to_string()),
        ("parameters", config.num_parameters().to_string()),
        (
            "context",
            format!("{} tokens", config.max_position_embeddings),
        ),
        ("RoPE identity", format!("`{rope}`")),
        ("harness", env!("CARGO_PKG_VERSION").to_string()),
    ]);
    let card = report::card(&Card {
        title: subject.title,
        about: subject.about,
        facts,
        rope: config.to_json()["rope_parameters"].clone(),
        recipe: subject.recipe,
        contents: subject.contents,
        scores: subject.scores,
    });
    let mut others: BTreeMap<String, String> =
        subject.base.companions(config, &loaded.tokenizer)?;
    others.insert("README.md".into(), card);
    checkpoint::export(
        &arguments.dir,
        &loaded.model,
        &loaded.tokenizer,
        &storage,
        &others,
    )?;
    say::out(format_args!(
        "{}: {} parameters, RoPE {rope}",
        arguments.dir.display(),
        config.num_parameters()
    ))?;
    Ok(super::OK)
}

fn of_trial(path: &Path) -> Result<Subject> {
    #[derive(Deserialize)]
    struct Said {
        seed: Option<u64>,
        base: BaseSpec,
    }
    let path = fs::canonicalize(path).with_context(|| path.display().to_string())?;
    let place = || format!("{} is no trial of a results folder", path.display());
    let key = path
        .file_name()
        .and_then(|key| key.to_str())
        .with_context(place)?;
    let results = path.parent().and_then(Path::parent).with_context(place)?;
    let folder = TrialFolder::new(results, key);
    let Some(published) = folder.published()? else {
        bail!(
            "{}: the trial is not done; harness sweep runs it",
            path.display()
        );
    };
    let manifest = Manifest::read(results)?;
    let recipe = path.join("trial.toml");
    let recipe = fs::read_to_string(&recipe).with_context(|| recipe.display().to_string())?;
    let said: Said = toml::from_str(&recipe).context("trial.toml")?;
    let study = manifest.study.get("name").and_then(|name| name.as_str());
    let study = study.unwrap_or_default();
    let trained = folder.checkpoint().exists();
    let weights = match trained {
        true => BaseSpec::of_path(&folder.checkpoint().to_string_lossy()),
        false => said.base.clone(),
    };
    let about = match trained {
        true => format!(
            "Continued pretraining of the base below by harness: trial {} of the study {study}.",
            published.name
        ),
        false => format!("The base of the study {study}, without training."),
    };
    let base = match said.base.repository()? {
        Some((repo, _)) => repo.to_string(),
        None => said.base.path.clone(),
    };
    let mut facts = vec![
        ("study", study.to_string()),
        ("trial", format!("{} (`{}`)", published.name, published.key)),
        ("base", base),
        ("tokens", published.tokens.to_string()),
    ];
    facts.extend(said.seed.map(|seed| ("seed", seed.to_string())));
    facts.extend(
        published
            .final_loss
            .map(|loss| ("final loss", format!("{loss:.4}"))),
    );
    facts.push(("backend", manifest.backend));
    Ok(Subject {
        weights,
        base: said.base,
        title: format!("{study}: {}", published.name),
        about,
        facts,
        recipe: Some(recipe),
        contents: manifest.contents.into_iter().collect(),
        scores: evals::scores(&folder.published_records(&published)?),
    })
}

fn of_checkpoint(path: &Path) -> Result<Subject> {
    let spec = BaseSpec::of_path(&path.to_string_lossy());
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    Ok(Subject {
        weights: spec.clone(),
        about: format!("{name}, written anew by harness, without training."),
        title: name.into_owned(),
        facts: vec![("content", format!("`{}`", spec.content_hash()?))],
        base: spec,
        recipe: None,
        contents: Vec::new(),
        scores: Vec::new(),
    })
}

/// A size as Hugging Face writes it: powers of a thousand.
fn bytes(text: &str) -> Result<u64, String> {
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("{unit:?} is no unit; KB, MB and GB are")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no size"))?;
    number
        .checked_mul(factor)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| format!("{text:?} is no size"))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read() {
        assert_eq!(bytes("5GB"), Ok(5_000_000_000));
        assert_eq!(bytes("750 kb"), Ok(750_000));
        assert_eq!(bytes("12"), Ok(12));
        for wrong in ["", "0", "5 parsecs", "GB", "99999999999GB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}

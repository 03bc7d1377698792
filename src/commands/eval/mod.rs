//! `harness eval`: a checkpoint on a suite, from the estimate to the table.
mod meter;

use super::checkpoint;
use crate::{
    checkpoint::BaseSpec,
    evals::{Record, RecordLog, ScoreCache, Subject, Suite, SuiteSpec, identity},
    experiment::score_keys,
    model::RopeSpec,
    ops::Env,
    report, say,
    sweep::add_scores,
    verdict::{Tables, TrialRow},
    whole_file,
};
use anyhow::{Context, Result, bail, ensure};
use meter::Meter;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

/// `harness eval CHECKPOINT --suite SUITE`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A folder in Hugging Face's layout, a .gguf file, or hub:ORG/NAME[@REVISION], which `harness fetch` has fetched.
    checkpoint: String,
    /// The suite's file.
    #[arg(long)]
    suite: PathBuf,
    /// Run it under another RoPE than it was trained with, said as a stage says it, such as
    /// '{ scaling = "yarn", factor = 4, original_context = 2048 }'.
    #[arg(long, value_name = "ROPE", value_parser = checkpoint::rope)]
    rope_override: Option<RopeSpec>,
    /// The checkpoint that judges for LongPPL, where the suite names none.
    #[arg(long, value_name = "CHECKPOINT")]
    judge: Option<String>,
    /// Folder of the results; results/eval-SUITE-HASH where it is not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Items that run together, at most: fewer need less memory, and the scores are the same. A problem of `programs`
    /// is one item, whatever the number of its samples that run together.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,
}

/// What a results folder is of: `evaluation.toml`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Evaluation {
    checkpoint: String,
    /// Identity of the RoPE under which it ran.
    rope: String,
    /// Whether that was another than it was trained with.
    rope_override: bool,
    /// What computed.
    backend: String,
    /// What ran the programs of its tasks, where they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interpreter: Option<String>,
    /// The tasks by their names: hashes of all that their scores depend on.
    tasks: BTreeMap<String, String>,
}

/// How long an item took: a line of `times.jsonl`, which is beside the records because it is never the same.
#[derive(Debug, Serialize, Deserialize)]
struct Time {
    item: String,
    seconds: f64,
}

pub(super) fn run(arguments: &Arguments, quiet: bool) -> Result<u8> {
    let mut spec = SuiteSpec::read(&arguments.suite)?;
    if let Some(judge) = &arguments.judge {
        spec.set_judge(judge).context("--judge")?;
    }
    let env = Env::cpu();
    let override_ = arguments.rope_override.as_ref();
    let loaded = checkpoint::load(&arguments.checkpoint, override_, &env)?;
    let suite_name = arguments.suite.display();
    let of = BaseSpec::named(&arguments.checkpoint);
    let suite = Suite::load(&spec, &loaded.checkpoint.tokenizer, of.chat_template()?);
    let mut suite = suite.with_context(|| suite_name.to_string())?;
    if let Some(batch) = arguments.batch {
        suite = suite.in_batches_of(batch.into());
    }
    let keys = score_keys(&spec, &of, &loaded.ran.rope, &env.backend());
    let keys = keys.map_err(|what| anyhow::anyhow!("{suite_name}: {what}"))?;
    let runs_programs = spec.task.iter().any(identity::runs_programs);
    let evaluation = Evaluation {
        checkpoint: loaded.ran.checkpoint.clone(),
        rope: loaded.ran.rope.clone(),
        rope_override: arguments.rope_override.is_some(),
        backend: env.backend(),
        interpreter: runs_programs.then(identity::interpreter).transpose()?,
        tasks: suite
            .tasks()
            .iter()
            .map(|t| t.name().to_string())
            .zip(keys.iter().cloned())
            .collect(),
    };
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => default_folder(&arguments.suite, &evaluation),
    };
    let _lock = open_folder(&out, &evaluation)?;

    let cache = ScoreCache::of_environment();
    let cached: Vec<Record> = keys
        .iter()
        .filter_map(|key| cache.get(key))
        .flatten()
        .collect();
    let known: BTreeSet<String> = cached.iter().map(|record| record.item.clone()).collect();
    suite.know(cached.into_iter());
    let (mut log, finished) = RecordLog::<Record>::open(&out.join("records.jsonl"))?;
    let (mut times, _) = RecordLog::<Time>::open(&out.join("times.jsonl"))?;

    let model = &loaded.checkpoint.model;
    let mut meter = Meter::new(&env, model, &spec, &suite, &finished, &known, quiet)?;
    let mut began = Instant::now();
    let records = suite.run(
        &Subject { env: &env, model },
        finished,
        &mut |new, progress| {
            log.append(new)?;
            let seconds = began.elapsed().as_secs_f64() / new.len().max(1) as f64;
            let made = new.iter().filter(|record| !known.contains(&record.item));
            let time = |record: &Record| Time {
                item: record.item.clone(),
                seconds,
            };
            times.append(&made.map(time).collect::<Vec<_>>())?;
            meter.tell(new, progress);
            began = Instant::now();
            Ok(())
        },
    )?;
    meter.close();
    for (task, key) in suite.tasks().iter().zip(&keys) {
        let of_task: Vec<&Record> = records.iter().filter(|r| r.task == task.name()).collect();
        cache.put(key, &of_task)?;
    }
    let tables = tables(&arguments.checkpoint, &evaluation, &records);
    report::write_scores(&out, &tables)?;
    say::out(report::scores(&tables))?;
    Ok(super::OK)
}

/// Where results go when nobody says.
fn default_folder(suite: &Path, evaluation: &Evaluation) -> PathBuf {
    let name = suite.file_stem().unwrap_or_default().to_string_lossy();
    let said = serde_json::json!(evaluation).to_string();
    let hash = &blake3::hash(said.as_bytes()).to_hex()[..8];
    Path::new("results").join(format!("eval-{name}-{hash}"))
}

/// Makes or opens the folder, which belongs to one evaluation, and locks it.
fn open_folder(out: &Path, evaluation: &Evaluation) -> Result<File> {
    let at = |path: &Path| path.display().to_string();
    fs::create_dir_all(out).with_context(|| at(out))?;
    let path = out.join("lock");
    let lock = File::create(&path).with_context(|| at(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!(
                "{}: another evaluation is at work here; wait for it, or give another --out",
                at(out)
            )
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| at(&path)),
    }
    whole_file::remove_temporaries(out).with_context(|| at(out))?;
    let path = out.join("evaluation.toml");
    if !path.exists() {
        let text = toml::to_string(evaluation)?;
        whole_file::replace(&path, |file| file.write_all(text.as_bytes()))
            .with_context(|| at(&path))?;
        return Ok(lock);
    }
    let text = fs::read_to_string(&path).with_context(|| at(&path))?;
    let there: Evaluation = toml::from_str(&text).with_context(|| at(&path))?;
    let differs = there.difference(evaluation);
    ensure!(
        differs.is_empty(),
        "{}: holds another evaluation ({} differs); give another --out",
        at(out),
        differs.join(", ")
    );
    Ok(lock)
}

impl Evaluation {
    /// What is not the same.
    fn difference(&self, other: &Self) -> Vec<&'static str> {
        let all = [
            ("the checkpoint", self.checkpoint != other.checkpoint),
            ("the RoPE", self.rope != other.rope),
            ("the backend", self.backend != other.backend),
            (
                "python3 or what is installed for it",
                self.interpreter != other.interpreter,
            ),
            ("the suite", self.tasks != other.tasks),
        ];
        all.into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name)
            .collect()
    }
}

/// The records as the rows of a table, under the checkpoint's name.
fn tables(checkpoint: &str, evaluation: &Evaluation, records: &[Record]) -> Tables {
    let name = Path::new(checkpoint).file_name();
    let trial = TrialRow {
        trial: evaluation.checkpoint.clone(),
        arm: name.unwrap_or_default().to_string_lossy().into_owned(),
        axes: String::new(),
        seed: None,
        tokens: 0,
        final_loss: None,
        tokens_per_second: None,
        status: "done".into(),
        reason: String::new(),
        rope: evaluation.rope.clone(),
        reduced: false,
    };
    let mut tables = Tables::default();
    add_scores(&mut tables, &trial, records);
    tables.trials.push(trial);
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_python_is_said() {
        let of = |interpreter: Option<&str>| Evaluation {
            checkpoint: "c".into(),
            rope: "r".into(),
            rope_override: false,
            backend: "b".into(),
            interpreter: interpreter.map(String::from),
            tasks: BTreeMap::from([("p".into(), interpreter.unwrap_or_default().into())]),
        };
        assert!(of(None).difference(&of(None)).is_empty());
        assert_eq!(
            of(Some("1")).difference(&of(Some("2"))),
            ["python3 or what is installed for it", "the suite"]
        );
    }
}

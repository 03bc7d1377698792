//! Programs that the model writes, judged by running them (HumanEval, arXiv:2107.03374; MBPP, arXiv:2108.07732; EvalPlus,
//! arXiv:2305.01210): pass@k.
use super::pass_at_k::pass_at_k;
use super::programs_problem::Problem;
use super::record::{Protocol, Record, Sample};
use super::sandbox::{Ended, Limits, Sandbox};
use super::task::{BATCH_TOKENS, a_tenth, at_least_one, tokens_together};
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::Document;
use crate::model::sample::{self, Sampling};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Samples that are drawn together, at most.
const BATCH: usize = 32;

/// `kind = "programs"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramsSpec {
    pub name: String,
    /// Problems in HumanEval's or MBPP's form, JSONL or gzipped JSONL; `${VARIABLE}` is replaced by the environment's.
    #[serde(deserialize_with = "expanded")]
    pub path: PathBuf,
    /// Problems at the beginning that are left out: MBPP's first ten are for prompts.
    #[serde(default)]
    pub skip: usize,
    /// The next so many problems; all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems: Option<usize>,
    /// Programs for each problem.
    pub samples: usize,
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Of the likeliest tokens as many as have this probability together; all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Tokens of a program, at most.
    pub max_tokens: usize,
    /// For which k pass@k is estimated.
    pub k: Vec<usize>,
    /// Decides the draws.
    #[serde(default)]
    pub seed: u64,
}

/// A path with the environment's values in the place of its variables.
fn expanded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = String::deserialize(deserializer)?;
    let expanded = shellexpand::env(&path).map_err(|error| {
        let name = error.var_name;
        serde::de::Error::custom(format!(
            "`path` names the environment's {name}, which is not set; set {name} to the file of problems"
        ))
    })?;
    Ok(PathBuf::from(expanded.into_owned()))
}

impl Kind for ProgramsSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn problem(&self) -> Option<String> {
        if let Some(k) = self.k.iter().find(|&&k| k == 0 || k > self.samples) {
            return Some(format!(
                "`k` has {k}; it must be from 1 to `samples` ({})",
                self.samples
            ));
        }
        if self.k.is_empty() {
            return Some("`k` is empty; pass@k needs one at least, such as k = [1]".into());
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Some(format!(
                "`temperature` is {}; it must be 0 or more",
                self.temperature
            ));
        }
        if let Some(p) = self.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return Some(format!("`top_p` is {p}; it must be above 0 and at most 1"));
        }
        if self.temperature == 0.0 && self.samples > 1 {
            return Some("`temperature` is 0, at which all `samples` are the same; take 1".into());
        }
        at_least_one(&[
            ("samples", self.samples),
            ("max_tokens", self.max_tokens),
            ("problems", self.problems.unwrap_or(1)),
        ])
    }

    fn scores(&self) -> Vec<String> {
        self.k.iter().map(|k| format!("pass@{k}")).collect()
    }

    /// A prompt of these is some hundreds of tokens long.
    fn longest(&self) -> usize {
        self.max_tokens + 512
    }

    fn batch_tokens(&self) -> usize {
        tokens_together(BATCH.min(self.samples), self.longest())
    }

    fn reduce(&mut self) {
        self.problems = Some(a_tenth(self.problems.unwrap_or(160)));
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let harness = std::env::current_exe().map_err(|source| Error::Io {
            path: "the harness".into(),
            source,
        })?;
        let sandbox = Sandbox::start(&harness, Limits::default())?;
        Ok(Box::new(Programs::new(self, tokens, sandbox)?))
    }
}

/// Tests that cannot be run here, such as those that want a module that python3 has not, would fail every program of the
/// model. The data set's own solutions tell: some data sets have a wrong one, but not several at their beginning.
fn try_references(
    spec: &ProgramsSpec,
    sandbox: &Sandbox,
    problems: &[Problem],
) -> Result<(), Error> {
    const TRIED: usize = 3;
    let solved = |p: &Problem| Some((p.id.clone(), p.reference()?));
    let (ids, programs): (Vec<String>, Vec<String>) =
        problems.iter().filter_map(solved).take(TRIED).unzip();
    let runs = sandbox.run_all(&programs)?;
    if runs.iter().any(|run| run.ended == Ended::Finished) {
        return Ok(());
    }
    let Some((id, run)) = ids.first().zip(runs.first()) else {
        return Ok(());
    };
    let what = format!(
        "{}: {id}'s own solution fails its tests in the sandbox, so that no program could pass: {} {}",
        spec.path.display(),
        run.ended,
        run.errors.trim_end().lines().last().unwrap_or_default(),
    );
    Err(Error::task(&spec.name, what))
}

/// The prepared task.
pub struct Programs {
    spec: ProgramsSpec,
    tokens: Rc<Tokens>,
    sandbox: Sandbox,
    problems: Vec<Problem>,
    prompts: Vec<Vec<u32>>,
    items: Vec<String>,
}

impl Programs {
    /// Reads the problems.
    ///
    /// # Errors
    /// When there are none, fewer than were asked for, two have one name, or their tests cannot be run here.
    pub fn new(spec: &ProgramsSpec, tokens: Rc<Tokens>, sandbox: Sandbox) -> Result<Self, Error> {
        let mut problems = Problem::read(&spec.path)?;
        let all = problems.len();
        problems.drain(..spec.skip.min(all));
        let wanted = spec.problems.unwrap_or(problems.len().max(1));
        if problems.len() < wanted {
            let what = format!(
                "{wanted} problems after the first {} were asked for, but {} has {all} in all",
                spec.skip,
                spec.path.display(),
            );
            return Err(Error::task(&spec.name, what));
        }
        problems.truncate(wanted);
        let ids: std::collections::BTreeSet<&str> =
            problems.iter().map(|p| p.id.as_str()).collect();
        if ids.len() < problems.len() {
            let what = format!("two problems of {} have one task_id", spec.path.display());
            return Err(Error::task(&spec.name, what));
        }
        try_references(spec, &sandbox, &problems)?;
        let prompts: Result<Vec<Vec<u32>>, Error> = problems
            .iter()
            .map(|p| tokens.document(&p.prompt))
            .collect();
        Ok(Programs {
            items: problems
                .iter()
                .map(|p| format!("{}/{}", spec.name, p.id))
                .collect(),
            prompts: prompts?,
            spec: spec.clone(),
            tokens,
            sandbox,
            problems,
        })
    }

    /// Continues a problem's prompt by each of its samples' ids.
    fn draw(&self, subject: &Subject, index: usize) -> Result<Vec<Vec<u32>>, Error> {
        let (problem, spec) = (&self.problems[index], &self.spec);
        let sampling = Sampling {
            temperature: spec.temperature,
            top_p: spec.top_p,
            top_k: None,
        };
        let eos = &subject.model.config.eos_token_id;
        let row = self.prompts[index].len() + spec.max_tokens;
        let batch = (BATCH_TOKENS / row.max(1)).clamp(1, BATCH);
        let mut all = Vec::with_capacity(spec.samples);
        for from in (0..spec.samples).step_by(batch) {
            let numbers = from..(from + batch).min(spec.samples);
            let seeds: Vec<u64> = numbers
                .map(|number| sample::seed(spec.seed, &self.items[index], number))
                .collect();
            let prompts = vec![self.prompts[index].clone(); seeds.len()];
            // An id that is no text yet (a part of a character) does not end a program.
            let ended = &mut |_: usize, ids: &[u32]| {
                ids.last().is_some_and(|id| eos.contains(id))
                    || self
                        .tokens
                        .decode(ids)
                        .is_ok_and(|text| problem.ended(&text))
            };
            let (env, model) = (subject.env, subject.model);
            let drawn = sample::sample(
                env,
                model,
                &prompts,
                &seeds,
                sampling,
                spec.max_tokens,
                ended,
            )?;
            all.extend(drawn);
        }
        Ok(all)
    }

    /// Runs the programs that these ids, drawn for a problem, are with its tests: the problem's record.
    ///
    /// # Errors
    /// When the sandbox fails.
    pub fn judge(&self, index: usize, drawn: Vec<Vec<u32>>) -> Result<Record, Error> {
        let problem = &self.problems[index];
        let mut programs = Vec::with_capacity(drawn.len());
        for ids in &drawn {
            programs.push(problem.program(&self.tokens.decode(ids)?));
        }
        let tested: Vec<String> = programs.iter().map(|p| problem.tested(p)).collect();
        let runs = self.sandbox.run_all(&tested)?;
        let passed = runs
            .iter()
            .filter(|run| run.ended == Ended::Finished)
            .count();
        let metric = |&k: &usize| (format!("pass@{k}"), pass_at_k(runs.len(), passed, k));
        let metrics: BTreeMap<String, f64> = self.spec.k.iter().map(metric).collect();
        let samples = drawn.into_iter().zip(programs).zip(&runs);
        let samples = samples.map(|((output, program), run)| Sample {
            output,
            program,
            outcome: match &run.ended {
                Ended::Finished => "passed".into(),
                ended => ended.to_string(),
            },
        });
        Ok(Record {
            task: self.spec.name.clone(),
            protocol: Protocol::Programs,
            item: self.items[index].clone(),
            index,
            length: self.spec.max_tokens,
            place: None,
            cluster: self.items[index].clone(),
            prompt: self.prompts[index].clone(),
            output: Vec::new(),
            output_text: String::new(),
            expected: String::new(),
            metrics,
            weight: 1.0,
            choices: Vec::new(),
            samples: samples.collect(),
            threshold: None,
        })
    }
}

impl Task for Programs {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    /// Problem by problem: a problem's samples share its prompt.
    fn chunks(&self) -> Vec<usize> {
        vec![1; self.problems.len()]
    }

    /// The prompts and the data set's solutions.
    fn texts(&self) -> Result<Vec<Document>, Error> {
        let text = |(item, problem): (&String, &Problem)| Document {
            id: item.clone(),
            text: problem
                .reference()
                .unwrap_or_else(|| problem.tested(&problem.prompt)),
        };
        Ok(self.items.iter().zip(&self.problems).map(text).collect())
    }

    fn estimate(&self) -> Estimate {
        Estimate {
            prefill: self.prompts.iter().map(Vec::len).sum(),
            generated: self.problems.len() * self.spec.samples * self.spec.max_tokens,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let one = |&index: &usize| self.judge(index, self.draw(subject, index)?);
        items.iter().map(one).collect()
    }
}

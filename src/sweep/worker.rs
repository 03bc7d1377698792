//! The worker: one trial from the base's weights to its published result.
use super::{Phase, Published, Result, TrialFolder, Update, io, progress::Throttle};
use crate::{
    checkpoint::{self, BaseSpec},
    evals::{self, Record, RecordLog, ScoreCache, Subject, Suite},
    experiment::{Trial, plan, ropes, score_keys, suite_key},
    model::Decoder,
    ops::Env,
    train,
};
use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

/// How often training writes its snapshot.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(15);

/// Exit code of a worker whose trial another one is at (EX_TEMPFAIL).
pub const BUSY: i32 = 75;

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its result is published.
    Done,
    /// Its failure is published, with this reason.
    Failed(String),
    /// Another worker is at it.
    Busy,
}

impl Outcome {
    pub(super) const FAILED: i32 = 1;

    /// The worker's exit code.
    pub fn code(&self) -> i32 {
        match self {
            Outcome::Done => 0,
            Outcome::Failed(_) => Self::FAILED,
            Outcome::Busy => BUSY,
        }
    }
}

type Work<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs a trial in its folder, going on from what an earlier worker left, and publishes what comes of it.
/// `report` hears where it stands; where that fails nobody waits for the trial any more, and it ends.
///
/// # Errors
/// When the trial's folder cannot be written.
pub fn run(
    results: &Path,
    cache: &Path,
    trial: &Trial,
    mut report: impl FnMut(&Update) -> std::io::Result<()>,
) -> Result<Outcome> {
    let folder = TrialFolder::new(results, &trial.key);
    folder.create(trial)?;
    let Some(_lock) = folder.lock()? else {
        return Ok(Outcome::Busy);
    };
    folder.remove_temporaries()?;
    if folder.published()?.is_some() {
        folder.clean_up()?;
        return Ok(Outcome::Done);
    }
    let mut telling = Telling {
        folder: &folder,
        report: &mut report,
        often: Throttle::new(Duration::from_millis(200)),
        seldom: Throttle::new(Duration::from_secs(1)),
        gone: false,
    };
    telling.tell(&Update::new(Phase::Load, 0, 0));
    let worked = catch_unwind(AssertUnwindSafe(|| {
        work(&folder, cache, trial, &mut telling)
    }));
    let reason = match worked {
        Ok(Ok(published)) => {
            folder.publish(&published)?;
            return Ok(Outcome::Done);
        }
        Ok(Err(error)) => {
            if is_final(error.as_ref()) {
                folder.remove_work()?;
            }
            chain(error.as_ref())
        }
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or(panic.downcast_ref::<&str>().copied());
            format!("the worker panicked: {}", said.unwrap_or("without a word"))
        }
    };
    folder.publish_failure(&reason)?;
    Ok(Outcome::Failed(reason))
}

/// Whether going on from what was done would fail again: training diverged, or what it goes on from is no good. After
/// any other error (a full disk, a text that cannot be read) the work is kept for the next try.
fn is_final(error: &(dyn std::error::Error + 'static)) -> bool {
    let training = matches!(
        error.downcast_ref(),
        Some(train::Error::Diverged { .. } | train::Error::Snapshot { .. })
    );
    training || matches!(error.downcast_ref(), Some(evals::Error::Record { .. }))
}

/// An error and its causes in one line; a cause that the error already says is not said again.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !line.contains(&said) {
            line = format!("{line}: {said}");
        }
        cause = next.source();
    }
    line.replace('\n', "; ")
}

/// Tells the sweep often and `status` seldom where the trial stands.
struct Telling<'a> {
    folder: &'a TrialFolder,
    report: &'a mut dyn FnMut(&Update) -> std::io::Result<()>,
    often: Throttle,
    seldom: Throttle,
    gone: bool,
}

impl Telling<'_> {
    fn tell(&mut self, update: &Update) {
        let last = update.done == update.total;
        if self.seldom.ready() || last {
            // What `status` shows is no reason to lose the trial.
            if let Err(e) = self.folder.note(update) {
                log::warn!("status is not told: {e}");
            }
        }
        if self.often.ready() || last {
            self.gone |= (self.report)(update).is_err();
        }
    }
}

fn work(
    folder: &TrialFolder,
    cache: &Path,
    trial: &Trial,
    telling: &mut Telling,
) -> Work<Published> {
    let env = Env::cpu();
    let texts = suite_key(&trial.spec.evals)?;
    let base = trial.spec.base.load(&env)?;
    let tokenizer = base.tokenizer;
    let mut published = Published {
        key: trial.key.clone(),
        name: trial.name.clone(),
        hub: trial.spec.hub(),
        tokens: 0,
        final_loss: None,
        losses: Vec::new(),
        train_seconds: 0.0,
        score_seconds: 0.0,
        peak_memory_bytes: None,
        rope: String::new(),
        records: String::new(),
    };
    let mut model = base.model;
    if !trial.is_base() {
        let trained = train(&env, model, &tokenizer, folder, cache, trial, telling)?;
        published.tokens = trained.tokens;
        published.final_loss = Some(trained.final_loss());
        published.train_seconds = trained.seconds;
        published.losses = trained.losses;
        model = trained.model;
        let base = &trial.spec.base;
        checkpoint::save_trained(&folder.checkpoint(), base, &model, &tokenizer)?;
    }
    let config = &model.config;
    let context = config.max_position_embeddings;
    published.rope = config.rope.identity(config.head_dim, context)?;
    let began = Instant::now();
    let scored = match trial.is_base() {
        true => trial.spec.base.clone(),
        false => BaseSpec::of_path(&folder.checkpoint().display().to_string()),
    };
    let keys = score_keys(&trial.spec.evals, &scored, &published.rope, &env.backend())?;
    // By the template that is in the keys.
    let suite = Suite::load(&trial.spec.evals, &tokenizer, scored.chat_template()?)?;
    // Training takes long, and the trial's key was made before it.
    if suite_key(&trial.spec.evals)? != texts {
        return Err(
            "the texts of its evaluations changed while it trained; put them back and run it again with --retry-failed"
                .into(),
        );
    }
    let subject = Subject {
        env: &env,
        model: &model,
    };
    score(&subject, suite, folder, &keys, telling)?;
    published.score_seconds = began.elapsed().as_secs_f64();
    let records = folder.records();
    published.records = hash(&std::fs::read(&records).map_err(io(&records))?);
    published.peak_memory_bytes = peak_memory();
    Ok(published)
}

fn train(
    env: &Env,
    model: Decoder,
    tokenizer: &tokenizers::Tokenizer,
    folder: &TrialFolder,
    cache: &Path,
    trial: &Trial,
    telling: &mut Telling,
) -> Work<train::Outcome> {
    let spec = &trial.spec;
    let optimizer = spec
        .optimizer
        .as_ref()
        .ok_or("the trial has no optimizer")?;
    let plan = plan(spec, &model.config, tokenizer, cache)?;
    for (source, usage) in spec.data.iter().zip(plan.usage()) {
        log::info!(
            "{}: {} tokens, {:.2} epochs",
            usage.name,
            usage.tokens,
            usage.epochs
        );
        if let Some(warning) = source.repeated(usage.epochs) {
            log::warn!("{warning}");
        }
    }
    let ropes = ropes(&spec.stage, &model.config).map_err(|(_, e)| e)?;
    let snapshot = folder.snapshot();
    let run = train::Run {
        stages: &spec.stage,
        optimizer,
        ropes: &ropes,
        plan: &plan,
        snapshot: &snapshot,
        snapshot_every: SNAPSHOT_EVERY,
    };
    let outcome = train::run(env, model, &run, |progress| {
        let update = Update {
            phase: Phase::Train,
            done: progress.step,
            total: progress.steps,
            rate: Some(progress.tokens_per_second),
            loss: Some(progress.loss),
        };
        telling.tell(&update);
        end_alone(telling);
    })?;
    Ok(outcome)
}

fn score(
    subject: &Subject,
    mut suite: Suite,
    folder: &TrialFolder,
    keys: &[String],
    telling: &mut Telling,
) -> Work<()> {
    let cache = ScoreCache::of_environment();
    suite.know(keys.iter().filter_map(|key| cache.get(key)).flatten());
    let (mut log, finished) = RecordLog::open(&folder.records())?;
    let records = suite.run(subject, finished, &mut |new, progress| {
        log.append(new)?;
        let (done, total) = (progress.done as u64, progress.items as u64);
        telling.tell(&Update::new(Phase::Score, done, total));
        end_alone(telling);
        Ok(())
    })?;
    let path = folder.records();
    File::open(&path)
        .and_then(|file| file.sync_all())
        .map_err(io(&path))?;
    for (task, key) in suite.tasks().iter().zip(keys) {
        let of_task: Vec<&Record> = records.iter().filter(|r| r.task == task.name()).collect();
        // It spares others the work; the trial has its records.
        if let Err(e) = cache.put(key, &of_task) {
            log::warn!("scores are not kept for other runs: {e}");
        }
    }
    Ok(())
}

/// Ends the process when the sweep that started it is gone: as if it had been killed, so that the trial
/// goes on from its snapshot another time.
fn end_alone(telling: &Telling) {
    if telling.gone {
        std::process::exit(BUSY);
    }
}

/// The hash by which a trial publishes its records.
pub(super) fn hash(records: &[u8]) -> String {
    blake3::hash(records).to_hex().to_string()
}

/// This process's largest resident memory so far, in bytes.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

//! `harness fetch`: what a job needs of the hub, into the cache, ahead of it.
use crate::{
    checkpoint::hub::{self, Commits, Event, Kind, Repo, Wanted},
    experiment, say,
};
use anyhow::{Result, bail};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::{
    collections::BTreeSet,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// `harness fetch STUDY|ORG/NAME`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A study's file, of which everything is fetched that it names; or a repository of the hub.
    #[arg(value_name = "STUDY.toml|ORG/NAME")]
    what: String,
    /// Branch, tag or commit of the repository; main where it is not given.
    #[arg(long)]
    revision: Option<String>,
    /// The repository is a data set.
    #[arg(long)]
    dataset: bool,
    /// Files of the data set, such as 'data/*.parquet'; all Parquet and JSONL where it is not given.
    #[arg(long, value_name = "GLOB", requires = "dataset")]
    files: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, quiet: bool) -> Result<u8> {
    if hub::is_offline() {
        bail!("HF_HUB_OFFLINE is set, and fetching needs the network; unset it");
    }
    let is_study = Path::new(&arguments.what)
        .extension()
        .is_some_and(|e| e == "toml");
    let wanted = match (is_study, arguments.dataset) {
        (true, _) if arguments.dataset || arguments.revision.is_some() => {
            bail!("--revision and --dataset are for a repository; a study says its own")
        }
        (true, _) => experiment::repositories(Path::new(&arguments.what))?,
        (false, dataset) => {
            let (kind, wanted) = match dataset {
                false => (Kind::Model, Wanted::Model { weights: true }),
                true if arguments.files.is_empty() => {
                    let all = ["**/*.parquet", "**/*.jsonl"].map(String::from);
                    (Kind::Dataset, Wanted::Files(all.to_vec()))
                }
                true => (Kind::Dataset, Wanted::Files(arguments.files.clone())),
            };
            let repo = Repo::new(kind, &arguments.what, arguments.revision.as_deref())?;
            BTreeSet::from([(repo, wanted)])
        }
    };
    if wanted.is_empty() {
        say::out(format_args!("{} names nothing of the hub", arguments.what))?;
    }
    let mut fetched = all(&wanted, &mut Commits::default(), quiet)?;
    // A data set of which several patterns are wanted.
    fetched.dedup();
    for (repo, commit, folder) in fetched {
        say::out(format_args!(
            "{repo} is commit {commit}, in {}",
            folder.display()
        ))?;
    }
    Ok(super::OK)
}

/// Fetches everything that is wanted and not yet there. `commits` says what revisions stand for, and is told.
/// Returns each repository with its commit and the folder of its files.
pub(super) fn all<'a>(
    wanted: &'a BTreeSet<(Repo, Wanted)>,
    commits: &mut Commits,
    quiet: bool,
) -> Result<Vec<(&'a Repo, String, PathBuf)>> {
    let mut fetched = Vec::with_capacity(wanted.len());
    for (repo, wanted) in wanted {
        let mut display = Display::new(repo, quiet);
        let snapshot = repo.fetch(wanted, commits, &mut |event| display.hear(&event));
        display.close();
        let snapshot = snapshot?;
        commits.note(repo, &snapshot.commit);
        fetched.push((repo, snapshot.commit, snapshot.folder));
    }
    Ok(fetched)
}

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Where a download stands: a bar on a terminal, lines elsewhere.
struct Display {
    name: String,
    quiet: bool,
    bar: Option<ProgressBar>,
    file: String,
    came: i64,
    bytes: u64,
    said: Instant,
}

impl Display {
    fn new(repo: &Repo, quiet: bool) -> Self {
        Display {
            name: repo.to_string(),
            quiet,
            bar: None,
            file: String::new(),
            came: 0,
            bytes: 0,
            said: Instant::now(),
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Begin { files, bytes } => {
                (self.came, self.bytes) = (0, *bytes);
                self.say(&format!("{files} files to fetch, {}", HumanBytes(*bytes)));
                self.close();
                if !self.quiet && std::io::stderr().is_terminal() {
                    let bar = ProgressBar::new(*bytes);
                    let template =
                        "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}  {msg}";
                    if let Ok(style) = ProgressStyle::with_template(template) {
                        bar.set_style(style);
                    }
                    bar.set_prefix(self.name.clone());
                    self.bar = Some(bar);
                }
            }
            Event::File(file) => {
                self.file = (*file).to_string();
                if let Some(bar) = &self.bar {
                    bar.set_message(self.file.clone());
                }
            }
            Event::Bytes(more) => {
                self.came += more;
                let came = u64::try_from(self.came).unwrap_or_default();
                match &self.bar {
                    Some(bar) => bar.set_position(came),
                    None if self.said.elapsed() > LINE_EVERY => {
                        self.said = Instant::now();
                        let (file, bytes) = (&self.file, self.bytes);
                        self.say(&format!(
                            "{} of {}, {file}",
                            HumanBytes(came),
                            HumanBytes(bytes)
                        ));
                    }
                    None => {}
                }
            }
            Event::Waits(wait, why) => {
                let wait = match wait.as_secs_f64() {
                    0.0 => "waiting".to_string(),
                    seconds => format!("again in {seconds} s"),
                };
                self.say(&format!("{why}; {wait}"));
            }
        }
    }

    fn say(&self, line: &str) {
        let line = format!("{}: {line}", self.name);
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| say::aside(line)),
            None => say::aside(line),
        }
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

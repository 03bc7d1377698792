//! The repositories of the hub that a study names, and the commits that they stand for.
use super::{Result, grid::arms, study::Read};
use crate::{
    checkpoint::{
        self, BaseSpec,
        hub::{Commits, Repo, Wanted},
    },
    data::{self, SourceSpec},
    evals::SuiteSpec,
};
use std::{collections::BTreeSet, path::Path};

/// Every repository that a study's base, data and suites name, in any of its arms, with what is needed of it.
///
/// # Errors
/// What is wrong with the study's file, one of its suites, or a repository's name.
pub fn repositories(study: &Path) -> Result<BTreeSet<(Repo, Wanted)>> {
    let read = Read::file(study)?;
    let axes = &read.spec.axis;
    let mut found = BTreeSet::new();
    let mut suites = BTreeSet::new();
    for arm in arms(&read.table, axes, &read.places)? {
        let said = arm.said(axes, &read.places)?;
        let wrong = |what: String| arm.error(axes, &read.places, what);
        let base = said.base.repository();
        found.extend(base.map_err(|e| wrong(format!("{}: {e}", said.base.key())))?);
        for source in &said.data {
            let repo = source.repository();
            found.extend(repo.map_err(|e| wrong(super::study::data_error(&said.data, &e)))?);
        }
        if suites.insert(said.evals.suite.clone()) {
            let suite = SuiteSpec::read(Path::new(&said.evals.suite));
            let mut suite = suite.map_err(|e| wrong(format!("evals.suite: {e}")))?;
            for source in suite.sources_mut() {
                let repo = source.repository();
                found.extend(repo.map_err(|e| wrong(format!("evals.suite: {e}")))?);
            }
        }
    }
    Ok(found)
}

/// Puts the commit in the place of the base's revision.
pub(super) fn settle_base(
    base: &mut BaseSpec,
    commits: &mut Commits,
) -> std::result::Result<(), checkpoint::Error> {
    if let Some((repo, wanted)) = base.repository()? {
        base.revision = Some(settle(&repo, &wanted, commits)?);
    }
    Ok(())
}

/// Puts the commit in the place of the source's revision.
pub(super) fn settle_source(source: &mut SourceSpec, commits: &mut Commits) -> data::Result<()> {
    if let Some((repo, wanted)) = source.repository()? {
        let commit = settle(&repo, &wanted, commits);
        source.revision = Some(commit.map_err(|e| source.error(e.to_string()))?);
    }
    Ok(())
}

fn settle(
    repo: &Repo,
    wanted: &Wanted,
    commits: &mut Commits,
) -> std::result::Result<String, checkpoint::Error> {
    let commit = repo.cached(wanted, commits)?.commit;
    commits.note(repo, &commit);
    Ok(commit)
}

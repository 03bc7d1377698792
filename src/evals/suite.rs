//! A suite's tasks, ready to run, and the run itself, which goes on from the records that it has.
use super::spec::SuiteSpec;
use super::{Error, Estimate, Record, Subject, Task, Tokens};
use crate::data::Document;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokenizers::Tokenizer;

/// The tasks of a suite with their items prepared.
pub struct Suite {
    tasks: Vec<Box<dyn Task>>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The task at work.
    pub task: &'a str,
    /// Items of the whole suite that are scored, those of an earlier run among them.
    pub done: usize,
    /// Items of the whole suite.
    pub items: usize,
}

/// What is called with each chunk's new records.
pub type Keep<'a> = dyn FnMut(&[Record], Progress) -> Result<(), Error> + 'a;

impl Suite {
    /// Reads the texts and prepares the items for a tokenizer.
    ///
    /// # Errors
    /// When the suite is invalid, a source cannot be read, or a task finds no text that is long enough.
    pub fn load(spec: &SuiteSpec, tokenizer: &Tokenizer) -> Result<Self, Error> {
        spec.validate()?;
        let tokens = Rc::new(Tokens::new(tokenizer)?);
        let mut tasks: Vec<Box<dyn Task>> = Vec::new();
        for task in &spec.task {
            tasks.push(task.kind().prepare(Rc::clone(&tokens))?);
        }
        Ok(Suite { tasks })
    }

    /// The tasks in the order in which they run.
    pub fn tasks(&self) -> &[Box<dyn Task>] {
        &self.tasks
    }

    /// Tokens that the whole suite processes.
    pub fn estimate(&self) -> Estimate {
        let mut sum = Estimate::default();
        for task in &self.tasks {
            sum += task.estimate();
        }
        sum
    }

    /// The texts of all items, against which training data are decontaminated.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn texts(&self) -> Result<Vec<Document>, Error> {
        let texts: Result<Vec<_>, _> = self.tasks.iter().map(|task| task.texts()).collect();
        Ok(texts?.concat())
    }

    /// Scores what `finished` has no record of and returns all records, in the order of the items.
    /// `keep` is given each chunk's new records as soon as they are there.
    ///
    /// # Errors
    /// When the model fails, a loss is not finite, `keep` fails, or a finished record is of another suite.
    pub fn run(
        &self,
        subject: &Subject,
        finished: Vec<Record>,
        keep: &mut Keep,
    ) -> Result<Vec<Record>, Error> {
        run_tasks(&self.tasks, finished, keep, |task, items| {
            task.run(subject, items)
        })
    }
}

fn run_tasks(
    tasks: &[Box<dyn Task>],
    finished: Vec<Record>,
    keep: &mut Keep,
    mut run: impl FnMut(&dyn Task, &[usize]) -> Result<Vec<Record>, Error>,
) -> Result<Vec<Record>, Error> {
    let items = tasks.iter().map(|task| task.items().len()).sum();
    let mut finished: BTreeMap<String, Record> =
        finished.into_iter().map(|r| (r.item.clone(), r)).collect();
    let mut records = Vec::with_capacity(items);
    let mut done = finished.len();
    for task in tasks {
        let mut from = 0;
        for size in task.chunks() {
            let chunk = from..from + size;
            from += size;
            let missing: Vec<usize> = chunk
                .clone()
                .filter(|&i| !finished.contains_key(&task.items()[i]))
                .collect();
            let mut new = Vec::new();
            if !missing.is_empty() {
                new = run(task.as_ref(), &missing)?;
                if let Some(bad) = new
                    .iter()
                    .find(|r| !r.metrics.values().all(|x| x.is_finite()))
                {
                    return Err(Error::NotFinite {
                        item: bad.item.clone(),
                    });
                }
                done += new.len();
                let progress = Progress {
                    task: task.name(),
                    done,
                    items,
                };
                keep(&new, progress)?;
            }
            let mut new = new.into_iter();
            for i in chunk {
                records.extend(finished.remove(&task.items()[i]).or_else(|| new.next()));
            }
        }
    }
    match finished.into_keys().next() {
        Some(item) => Err(Error::Foreign { item }),
        None => Ok(records),
    }
}

#[cfg(test)]
#[path = "suite_tests.rs"]
mod whole_tests;

#[cfg(test)]
mod tests {
    use super::super::record::Protocol;
    use super::super::record::tests::record;
    use super::*;

    /// A task whose scores are made up from the item, so that the run is tested by itself.
    struct Counted {
        name: String,
        items: Vec<String>,
        chunk: usize,
    }

    impl Task for Counted {
        fn name(&self) -> &str {
            &self.name
        }
        fn items(&self) -> &[String] {
            &self.items
        }
        fn chunks(&self) -> Vec<usize> {
            let all = self.items.len();
            (0..all)
                .step_by(self.chunk)
                .map(|i| self.chunk.min(all - i))
                .collect()
        }
        fn estimate(&self) -> Estimate {
            Estimate::default()
        }
        fn texts(&self) -> Result<Vec<Document>, Error> {
            Ok(Vec::new())
        }
        fn run(&self, _: &Subject, _: &[usize]) -> Result<Vec<Record>, Error> {
            unreachable!("the tests give the scores themselves")
        }
    }

    fn tasks() -> Vec<Box<dyn Task>> {
        let task = |name: &str, n: usize, chunk| -> Box<dyn Task> {
            Box::new(Counted {
                name: name.into(),
                items: (0..n).map(|i| format!("{name}/{i}")).collect(),
                chunk,
            })
        };
        vec![task("a", 7, 3), task("b", 5, 8)]
    }

    fn score(task: &dyn Task, items: &[usize]) -> Result<Vec<Record>, Error> {
        let records = items.iter().map(|&i| {
            let mut record = record(task.name(), Protocol::Passkey, &task.items()[i]);
            record.index = i;
            record.metrics.insert("exact_match".into(), (i * i) as f64);
            record
        });
        Ok(records.collect())
    }

    #[test]
    fn a_run_goes_on_from_any_records_and_gives_the_same() {
        let tasks = tasks();
        let mut log = Vec::new();
        let whole = run_tasks(
            &tasks,
            Vec::new(),
            &mut |new, _| {
                log.push(new.to_vec());
                Ok(())
            },
            score,
        )
        .unwrap();
        assert_eq!(log.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1, 5]);
        assert_eq!(log.concat(), whole);
        for kept in 0..=12 {
            let mut log = whole[..kept].to_vec();
            let mut calls = 0;
            let again = run_tasks(
                &tasks,
                log.clone(),
                &mut |new, progress| {
                    log.extend_from_slice(new);
                    calls += new.len();
                    assert_eq!(progress.done, kept + calls);
                    assert_eq!(progress.items, 12);
                    Ok(())
                },
                score,
            )
            .unwrap();
            assert_eq!(again, whole);
            assert_eq!(log, whole);
            assert_eq!(calls, 12 - kept);
        }
    }

    #[test]
    fn records_of_another_suite_and_broken_losses_are_errors() {
        let tasks = tasks();
        let foreign = vec![record("c", Protocol::Passkey, "c/0")];
        let error = run_tasks(&tasks, foreign, &mut |_, _| Ok(()), score).unwrap_err();
        assert!(matches!(error, Error::Foreign { item } if item == "c/0"));

        let mut kept = 0;
        let nan = |task: &dyn Task, items: &[usize]| {
            let mut records = score(task, items)?;
            if items.contains(&4) {
                records[1].metrics.insert("nats_per_token".into(), f64::NAN);
            }
            Ok(records)
        };
        let error = run_tasks(
            &tasks,
            Vec::new(),
            &mut |new, _| {
                kept += new.len();
                Ok(())
            },
            nan,
        )
        .unwrap_err();
        assert!(matches!(error, Error::NotFinite { item } if item == "a/4"));
        assert_eq!(kept, 3);
    }
}

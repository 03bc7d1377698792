//! An evaluation-driven research harness for continued pretraining of language models.
//!
//! A study flows through the modules in one direction, and a module calls only those after it: commands, sweep,
//! experiment, report, verdict, evals, train, data, checkpoint, model, parallel, ops; `whole_file` and `say` serve them all.
pub mod checkpoint;
pub mod commands;
pub mod data;
pub mod evals;
pub mod experiment;
pub mod model;
pub mod ops;
pub mod parallel;
pub mod report;
pub mod say;
pub mod sweep;
pub mod train;
pub mod verdict;
mod whole_file;

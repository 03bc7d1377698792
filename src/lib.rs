//! An evaluation-driven research harness for continued pretraining of language models.
//!
//! A study flows through the modules from top to bottom; a module calls only modules below it.
pub mod checkpoint;
pub mod commands;
pub mod data;
pub mod evals;
pub mod experiment;
pub mod model;
pub mod ops;
pub mod parallel;
pub mod report;
pub mod sweep;
pub mod train;
pub mod verdict;

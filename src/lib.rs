//! An evaluation-driven research harness for continued pretraining of language models.
//!
//! A study flows through the modules from top to bottom; a module calls only modules below it.
pub mod commands;
pub mod sweep;
pub mod experiment;
pub mod report;
pub mod verdict;
pub mod evals;
pub mod train;
pub mod data;
pub mod checkpoint;
pub mod model;
pub mod parallel;
pub mod ops;

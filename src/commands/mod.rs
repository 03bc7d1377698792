//! The commands: one file a subcommand.
mod checkpoint;
mod compare;
mod data_tables;
mod eval;
mod export;
mod fetch;
mod generate;
mod inspect;
mod jailer;
mod lines;
mod prepare;
mod preparing;
mod score;
mod status;
mod sweep;
mod tokenizer;
mod trial;

use clap::{Parser, Subcommand};

/// Reproducible, seeded ablations of continued pretraining, from one study file each.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// Show no progress, and no log but errors.
    #[arg(long, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a study: every trial that is missing, then the tables.
    Sweep(sweep::Arguments),
    /// Prepare a study's data: read, clean, deduplicate, decontaminate, tokenise.
    Prepare(prepare::Arguments),
    /// Run one trial of a study, as sweep does, with a line of JSON for where it stands.
    Trial(trial::Arguments),
    /// Fetch what a study names of the Hugging Face Hub, or one repository, into the cache.
    Fetch(fetch::Arguments),
    /// Score a checkpoint on a suite.
    Eval(eval::Arguments),
    /// Compare arms on the items that they share: paired differences with intervals, p and power.
    Compare(compare::Arguments),
    /// Show where a study's trials stand.
    Status(status::Arguments),
    /// Write a trial or a checkpoint as a folder that transformers, vLLM and llama.cpp load.
    Export(export::Arguments),
    /// Continue prompts under a checkpoint.
    Generate(generate::Arguments),
    /// Show what a checkpoint is: family, shape, tokenizer, RoPE, memory to train it.
    Inspect(inspect::Arguments),
    /// Run programs for the sandbox.
    #[command(hide = true)]
    Jailer(jailer::Arguments),
    /// Log-probabilities of given continuations under a checkpoint.
    Score(score::Arguments),
    /// Train a tokenizer on a study's texts, for a base of one's own.
    Tokenizer(tokenizer::Arguments),
}

/// Exit code of success.
pub const OK: u8 = 0;
/// Exit code when a trial failed.
pub const TRIAL_FAILED: u8 = 1;
/// Exit code of bad input.
pub const BAD_INPUT: u8 = 2;
/// Exit code after SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Runs the command and returns its exit code.
///
/// # Errors
/// What was wrong with the input, for one line.
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Sweep(arguments) => sweep::run(&arguments, cli.quiet),
        Command::Prepare(arguments) => prepare::run(&arguments, cli.quiet),
        Command::Trial(arguments) => trial::run(&arguments),
        Command::Fetch(arguments) => fetch::run(&arguments, cli.quiet),
        Command::Eval(arguments) => eval::run(&arguments, cli.quiet),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments, cli.quiet),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Jailer(arguments) => jailer::run(&arguments),
        Command::Score(arguments) => score::run(&arguments, cli.quiet),
        Command::Tokenizer(arguments) => tokenizer::run(&arguments),
    }
}

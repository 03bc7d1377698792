//! `harness jailer`: for the sandbox's own use; see `evals::sandbox`.
use crate::evals::sandbox;
use anyhow::{Result, anyhow};

/// `harness jailer [--enter JAIL]`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Walls to put around this process, as JSON, before it becomes the interpreter.
    #[arg(long)]
    enter: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    match &arguments.enter {
        Some(jail) => match sandbox::enter_and_execute(jail) {
            Err(what) => Err(anyhow!("{what}")),
        },
        None => {
            sandbox::jailer::run()?;
            Ok(super::OK)
        }
    }
}

use clap::Parser;
use harness::commands::{self, Cli};
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// The tokenizer makes some ten small allocations a word, which is half of its time with glibc's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.quiet { "error" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            harness::say::aside(format_args!("error: {error:#}"));
            ExitCode::from(commands::BAD_INPUT)
        }
    }
}

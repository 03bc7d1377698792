//! The interpreter, and the files that it needs.
use crate::evals::Error;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a program may read beside the interpreter's own folders: shared libraries, and time zones.
const LIBRARIES: [&str; 9] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
];

const ASK: &str = "import json, sys\n\
    print(json.dumps([sys.executable, sys.prefix, sys.base_prefix, *sys.path]))";

/// A Python interpreter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Python {
    /// The program.
    pub program: PathBuf,
    /// Itself and what it reads: files and folders, none of them in another, with no links on the way to them.
    pub readable: Vec<PathBuf>,
}

impl Python {
    /// The `python3` on the `PATH`.
    ///
    /// # Errors
    /// When there is none, or it would have all of somebody's home folder in reach.
    pub fn find() -> Result<Self, Error> {
        let what = |what: String| Error::NoSandbox { what };
        let mut ask = Command::new("python3");
        ask.args(["-s", "-c", ASK]).stdin(Stdio::null());
        let output = ask
            .output()
            .map_err(|e| what(format!("python3 does not start ({e}); install python3")))?;
        let said: Vec<PathBuf> = serde_json::from_slice(&output.stdout).map_err(|_| {
            let error = String::from_utf8_lossy(&output.stderr);
            let error = error.trim().lines().last().unwrap_or("it said nothing");
            what(format!(
                "python3 does not run ({error}); repair or install it"
            ))
        })?;
        let Some((program, folders)) = said.split_first() else {
            return Err(what("python3 does not say where it is".into()));
        };
        let [prefix, base, path @ ..] = folders else {
            return Err(what("python3 does not say where its files are".into()));
        };
        let mut named: Vec<PathBuf> = LIBRARIES.iter().map(PathBuf::from).collect();
        for prefix in [prefix, base] {
            named.extend(["lib", "lib64", "pyvenv.cfg"].map(|name| prefix.join(name)));
        }
        // `sys.path` begins with the working folder (empty), which is the scratch folder's place.
        named.extend(path.iter().filter(|folder| folder.is_absolute()).cloned());
        let mut readable: Vec<PathBuf> = named
            .iter()
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        let program = without_links_above(program);
        readable.push(program.clone());
        readable.sort();
        readable.dedup_by(|path, before| path.starts_with(before));
        let homes = [PathBuf::from("/root"), PathBuf::from("/home")];
        let home = std::env::var_os("HOME").map(PathBuf::from);
        for home in homes.iter().chain(&home) {
            if let Some(wide) = readable.iter().find(|path| home.starts_with(path)) {
                return Err(what(format!(
                    "python3 is installed in {}, and a program that can read this reads {}, too; put one that is \
                     installed elsewhere first on the PATH",
                    wide.display(),
                    home.display()
                )));
            }
        }
        Ok(Python { program, readable })
    }
}

/// The path with its folder's links resolved, but not its own: a virtual environment's interpreter is a link.
fn without_links_above(program: &Path) -> PathBuf {
    match (
        program.parent().and_then(|p| p.canonicalize().ok()),
        program.file_name(),
    ) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => program.to_path_buf(),
    }
}

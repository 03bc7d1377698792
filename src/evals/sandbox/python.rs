//! The interpreter, and the files that it needs.
use crate::evals::Error;
use serde::de::DeserializeOwned;
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

/// The driver needs ctypes, which a Python that was built without libffi has not.
const ASK: &str = "import ctypes, json, sys\n\
    print(json.dumps([sys.executable, sys.prefix, sys.base_prefix, *sys.path]))";

const INSTALLED: &str = r#"
import json, sys
from importlib.metadata import distributions

def named(distribution):
    try:
        return f"{distribution.metadata['Name']} {distribution.version}"
    except Exception:
        return "damaged"

print(json.dumps([sys.version, sorted({named(one) for one in distributions()})]))
"#;

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
        let said: Vec<PathBuf> = answer(&mut asking())?;
        let Some((program, folders)) = said.split_first() else {
            return Err(what("python3 does not say where it is".into()));
        };
        let [prefix, base, path @ ..] = folders else {
            return Err(what("python3 does not say where its files are".into()));
        };
        let mut named: Vec<PathBuf> = LIBRARIES.iter().map(PathBuf::from).collect();
        for prefix in [prefix, base] {
            named.extend(installed(prefix, path));
        }
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

    /// The hash of its version, and of the names and versions of the distributions that programs find installed.
    ///
    /// # Errors
    /// When it does not run.
    pub fn identity(&self) -> Result<String, Error> {
        let mut ask = Command::new(&self.program);
        // As within the walls: nothing of the environment, the user's folder or the working folder.
        ask.env_clear().args(["-I", "-B", "-c", INSTALLED]);
        let (version, installed): (String, Vec<String>) = answer(&mut ask)?;
        let said = format!("{version}\n{}", installed.join("\n"));
        Ok(blake3::hash(said.as_bytes()).to_hex()[..16].to_string())
    }
}

/// Asks the `python3` on the `PATH`, which runs nothing of the working folder and of folders that the environment names.
fn asking() -> Command {
    let mut ask = Command::new("python3");
    ask.args(["-I", "-c", ASK]);
    ask
}

/// What is installed under a prefix. Of the folders on its `path` these are Debian's and Fedora's for packages of pip; a
/// package that somebody works on lies elsewhere (an editable one), and is not a program's to read.
fn installed(prefix: &Path, path: &[PathBuf]) -> Vec<PathBuf> {
    let own = ["lib", "lib64", "pyvenv.cfg"].map(|name| prefix.join(name));
    let local = ["local/lib", "local/lib64"].map(|name| prefix.join(name));
    let local = |folder: &&PathBuf| local.iter().any(|local| folder.starts_with(local));
    own.into_iter()
        .chain(path.iter().filter(local).cloned())
        .collect()
}

fn what(what: String) -> Error {
    Error::NoSandbox { what }
}

/// What the interpreter answers in JSON.
fn answer<T: DeserializeOwned>(ask: &mut Command) -> Result<T, Error> {
    let output = ask
        .stdin(Stdio::null())
        .output()
        .map_err(|e| what(format!("python3 does not start ({e}); install python3")))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let error = String::from_utf8_lossy(&output.stderr);
        let error = error.trim().lines().last().unwrap_or("it said nothing");
        what(format!(
            "python3 does not run ({error}); repair or install it"
        ))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_working_folder_and_the_environment_is_run_or_read() {
        let path = [
            "/work/project",
            "/usr/lib/python3.11",
            "/usr/local/lib/python3.11/dist-packages",
            "/usr/local/src/project",
        ];
        assert_eq!(
            installed(Path::new("/usr"), &path.map(PathBuf::from)),
            [
                "/usr/lib",
                "/usr/lib64",
                "/usr/pyvenv.cfg",
                "/usr/local/lib/python3.11/dist-packages"
            ]
            .map(PathBuf::from)
        );
        if Python::find().is_err() {
            println!("not tested: there is no python3");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("json.py"), "raise SystemExit(1)").unwrap();
        let mut ask = asking();
        ask.current_dir(folder.path())
            .env("PYTHONPATH", folder.path());
        let said: Vec<PathBuf> = answer(&mut ask).unwrap();
        assert!(!said.contains(&folder.path().to_path_buf()), "{said:?}");
    }

    #[test]
    fn what_is_installed_is_a_part_of_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let made = Python::find().is_ok_and(|python| {
            let mut venv = Command::new(python.program);
            venv.args(["-m", "venv", "--without-pip"]);
            venv.arg(folder.path());
            venv.output().is_ok_and(|output| output.status.success())
        });
        if !made {
            println!("not tested: there is no python3 that makes a virtual environment");
            return;
        }
        let python = Python {
            program: folder.path().join("bin/python3"),
            readable: Vec::new(),
        };
        let identity = || python.identity().unwrap();
        let without = identity();
        assert_eq!((without.len(), identity()), (16, without.clone()));
        let packages = folder.path().join("lib/python3*/site-packages");
        let mut packages = glob::glob(packages.to_str().unwrap()).unwrap();
        let packages = packages.next().unwrap().unwrap();
        let mut all = vec![without];
        for version in ["1.0", "1.1"] {
            let info = packages.join("ours-1.dist-info");
            std::fs::create_dir_all(&info).unwrap();
            let said = format!("Name: ours\nVersion: {version}\n");
            std::fs::write(info.join("METADATA"), said).unwrap();
            let with = identity();
            assert!(!all.contains(&with));
            all.push(with);
        }
        let none = Python {
            program: folder.path().join("bin/none"),
            readable: Vec::new(),
        };
        let error = none.identity().unwrap_err().to_string();
        assert!(error.contains("python3 does not start"), "{error}");
    }
}

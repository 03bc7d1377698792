//! Problems that a program solves: lines of HumanEval, MBPP, or EvalPlus's data sets in their form.
use super::Error;
use serde::{Deserialize, de::IgnoredAny};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// What ends a function body, as bigcode-evaluation-harness has it for HumanEval.
const AFTER_A_BODY: &[&str] = &[
    "\nclass",
    "\ndef",
    "\n#",
    "\n@",
    "\nprint",
    "\nif",
    "\n```",
    "<file_sep>",
];
/// What ends a program, as it has it for MBPP.
const AFTER_A_PROGRAM: &[&str] = &[
    "\nclass", "\nassert", "\n\"\"\"", "\nprint", "\nif", "\n<|/", "\n```",
];

/// One problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub id: String,
    /// What the model continues. HumanEval: `prompt` without the space around it, as in bigcode-evaluation-harness. MBPP:
    /// a docstring of the description and the first test (after InCoder, arXiv:2204.05999), as there.
    pub prompt: String,
    /// A continuation ends before the first of these.
    pub stop: &'static [&'static str],
    /// What comes after the program: it fails unless the program solves the problem.
    tests: String,
    /// The data set's own solution, as a continuation of its own prompt.
    reference: Option<String>,
}

/// A line of any of the files.
#[derive(Deserialize)]
struct Line {
    task_id: Id,
    prompt: Option<String>,
    text: Option<String>,
    entry_point: Option<String>,
    test: Option<String>,
    test_list: Option<Vec<String>>,
    test_setup_code: Option<String>,
    test_imports: Option<Vec<String>>,
    canonical_solution: Option<String>,
    code: Option<String>,
    base_input: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Name(String),
}

impl Problem {
    /// The problems of a JSONL file, gzipped where its name ends in `.gz`.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no problem: with its number and what it lacks.
    pub fn read(path: &Path) -> Result<Vec<Problem>, Error> {
        let io = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let reader: Box<dyn Read> = match path.extension() {
            Some(end) if end == "gz" => Box::new(flate2::read::MultiGzDecoder::new(file)),
            _ => Box::new(file),
        };
        let mut problems = Vec::new();
        for (i, line) in BufReader::new(reader).lines().enumerate() {
            let line = line.map_err(io)?;
            if line.trim().is_empty() {
                continue;
            }
            problems.push(Problem::parse(&line).map_err(|what| Error::Spec {
                place: format!("{}:{}", path.display(), i + 1),
                what,
            })?);
        }
        Ok(problems)
    }

    fn parse(line: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(line)
            .map_err(|e| format!("is no problem of HumanEval's or MBPP's form ({e})"))?;
        let id = match line.task_id {
            Id::Number(number) => number.to_string(),
            Id::Name(name) => name,
        };
        if let (Some(prompt), Some(test), Some(entry)) =
            (&line.prompt, &line.test, &line.entry_point)
        {
            return Ok(Problem {
                id,
                // A reference continues the prompt as it stands, a model the stripped one.
                reference: line.canonical_solution.map(|body| {
                    let stripped = prompt.trim_start();
                    format!("{}{body}", &stripped[prompt.trim().len()..])
                }),
                prompt: prompt.trim().to_string(),
                stop: AFTER_A_BODY,
                tests: format!("{test}\ncheck({entry})"),
            });
        }
        if line.base_input.is_some() {
            return Err(
                "has inputs in the place of tests, as the files of EvalPlus's releases do; its data sets on the hub, \
                 evalplus/humanevalplus and evalplus/mbppplus, have `test`: write one of these as JSONL"
                    .into(),
            );
        }
        let description = line.text.or(line.prompt);
        let (Some(description), Some(list)) = (description, line.test_list) else {
            return Err(
                "is no problem: it needs `prompt`, `test` and `entry_point` (HumanEval), or `text` or `prompt` with \
                 `test_list` (MBPP)"
                    .into(),
            );
        };
        let Some(first) = list.first() else {
            return Err("is no problem: its `test_list` is empty".into());
        };
        let imports = line.test_imports.unwrap_or_default().join("\n");
        let setup = line.test_setup_code.unwrap_or_default();
        Ok(Problem {
            id,
            prompt: format!("\"\"\"\n{description}\n{first}\n\"\"\"\n"),
            stop: AFTER_A_PROGRAM,
            // EvalPlus's MBPP+ has one text of more tests in the place of the list.
            tests: [imports, setup, line.test.unwrap_or_else(|| list.join("\n"))].join("\n"),
            reference: line.code,
        })
    }

    /// The program that a continuation makes, without tests: what stands before the first stop.
    pub fn program(&self, continuation: &str) -> String {
        let end = self
            .stop
            .iter()
            .filter_map(|stop| continuation.find(stop))
            .min();
        let kept = &continuation[..end.unwrap_or(continuation.len())];
        format!("{}{kept}", self.prompt)
    }

    /// Whether a continuation has come to a stop.
    pub fn ended(&self, continuation: &str) -> bool {
        self.stop.iter().any(|stop| continuation.contains(stop))
    }

    /// The program with its tests.
    pub fn tested(&self, program: &str) -> String {
        format!("{program}\n{}", self.tests)
    }

    /// The data set's own solution, whole, with its tests; nothing where it has none.
    pub fn reference(&self) -> Option<String> {
        let reference = self.reference.as_ref()?;
        Some(self.tested(&format!("{}{reference}", self.prompt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUMAN_EVAL: &str = r#"{"task_id": "HumanEval/0", "prompt": "\n\ndef one() -> int:\n    \"\"\" One. \"\"\"\n",
        "entry_point": "one", "canonical_solution": "    return 1\n",
        "test": "\n\ndef check(candidate):\n    assert candidate() == 1\n"}"#;
    const MBPP: &str = r#"{"task_id": 7, "text": "Write one.", "code": "def one():\r\n  return x", "test_setup_code": "x = 1",
        "test_list": ["assert one() == 1", "assert one() != 2"], "challenge_test_list": []}"#;
    const SANITIZED: &str = r#"{"source_file": "a", "task_id": 8, "prompt": "Write pi.", "code": "def pi(): return math.pi",
        "test_imports": ["import math"], "test_list": ["assert pi() > 3"]}"#;
    const PLUS: &str = r#"{"task_id": "Mbpp/8", "prompt": "Write pi.", "code": "def pi(): return 3", "test_imports": [],
        "test_list": ["assert pi() == 3"], "test": "for i in range(9):\n    assert pi() == 3"}"#;

    #[test]
    fn human_eval() {
        let problem = Problem::parse(&HUMAN_EVAL.replace('\n', " ")).unwrap();
        assert_eq!(problem.id, "HumanEval/0");
        assert_eq!(problem.prompt, "def one() -> int:\n    \"\"\" One. \"\"\"");
        let continuation = "\n    return 1\n\ndef two():\n    return 2\n";
        assert!(problem.ended(continuation));
        assert!(!problem.ended("\n    return 1\n\n    # def"));
        let program = problem.program(continuation);
        assert_eq!(
            program,
            "def one() -> int:\n    \"\"\" One. \"\"\"\n    return 1\n"
        );
        assert_eq!(
            problem.tested(&program),
            "def one() -> int:\n    \"\"\" One. \"\"\"\n    return 1\n\n\n\ndef check(candidate):\n    \
             assert candidate() == 1\n\ncheck(one)"
        );
        assert_eq!(problem.reference().unwrap(), problem.tested(&program));
    }

    #[test]
    fn mbpp() {
        let problem = Problem::parse(&MBPP.replace('\n', " ")).unwrap();
        assert_eq!(problem.id, "7");
        assert_eq!(
            problem.prompt,
            "\"\"\"\nWrite one.\nassert one() == 1\n\"\"\"\n"
        );
        let program = problem.program("def one():\n    return 1\nassert one() == 1");
        assert_eq!(
            program,
            format!("{}def one():\n    return 1", problem.prompt)
        );
        let tested = problem.tested("P");
        assert_eq!(tested, "P\n\nx = 1\nassert one() == 1\nassert one() != 2");
        let sanitized = Problem::parse(&SANITIZED.replace('\n', " ")).unwrap();
        assert_eq!(sanitized.tested("P"), "P\nimport math\n\nassert pi() > 3");
        assert!(sanitized.prompt.contains("Write pi.\nassert pi() > 3\n"));
        let plus = Problem::parse(&PLUS.replace('\n', " ")).unwrap();
        assert_eq!(
            plus.tested("P"),
            "P\n\n\nfor i in range(9):\n    assert pi() == 3"
        );
    }

    #[test]
    fn a_stop_ends_at_the_first_of_all() {
        let problem = Problem::parse(&HUMAN_EVAL.replace('\n', " ")).unwrap();
        let program = problem.program("\n  a\n#\n\nclass");
        assert!(program.ends_with("\n  a"), "{program}");
    }

    #[test]
    fn lines_that_are_no_problems_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("problems.jsonl");
        std::fs::write(
            &path,
            format!("{}\n\n{{\"task_id\": 1}}\n", MBPP.replace('\n', " ")),
        )
        .unwrap();
        let error = Problem::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("problems.jsonl:3: is no problem: it needs `prompt`"),
            "{error}"
        );
        let released = r#"{"task_id": "HumanEval/0", "prompt": "def f(x):", "entry_point": "f", "canonical_solution": "",
            "base_input": [[1]], "plus_input": [[2]], "atol": 0}"#;
        let error = Problem::parse(released).unwrap_err();
        assert!(error.contains("evalplus/humanevalplus"), "{error}");
    }
}

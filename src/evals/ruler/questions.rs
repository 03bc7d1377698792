//! Questions about paragraphs: SQuAD and HotpotQA as their authors publish them, one JSON file each.
use super::Prompt;
use super::subtask::{Subtask, question_template};
use crate::evals::draw::Draw;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A question with its answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub question: String,
    pub answers: Vec<String>,
    /// Documents that a prompt always has.
    needed: Vec<usize>,
    /// Documents that it has before any other.
    related: Vec<usize>,
}

impl Question {
    /// Documents that its prompt has at least.
    pub fn smallest(&self) -> usize {
        self.needed.len()
    }

    /// The number of the document that it is about; of several, the first.
    pub fn about(&self) -> usize {
        self.needed.first().copied().unwrap_or(0)
    }
}

/// The questions of a file and the documents that they are about, sorted and each once.
#[derive(Debug, PartialEq)]
pub(super) struct Questions {
    pub questions: Vec<Question>,
    documents: Vec<String>,
}

#[derive(Deserialize)]
struct Squad {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<SquadQuestion>,
}

#[derive(Deserialize)]
struct SquadQuestion {
    question: String,
    answers: Vec<Answer>,
    /// SQuAD 1.1 has no such questions.
    #[serde(default)]
    is_impossible: bool,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

#[derive(Deserialize)]
struct Hotpot {
    question: String,
    answer: String,
    /// Titles with their sentences.
    context: Vec<(String, Vec<String>)>,
}

impl Questions {
    /// Reads the file of a task.
    ///
    /// # Errors
    /// In words: what cannot be read, or is not of the form.
    pub fn read(subtask: Subtask, path: &Path) -> Result<Self, String> {
        let wrong = |what: String| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| {
            wrong(format!(
                "{e}; `{}` names the file of {}",
                key(subtask),
                said(subtask)
            ))
        })?;
        let form = |e: serde_json::Error| wrong(format!("is not {}: {e}", said(subtask)));
        let questions = match subtask {
            Subtask::Squad => Self::of_squad(&serde_json::from_str(&text).map_err(form)?),
            _ => Self::of_hotpot(&serde_json::from_str::<Vec<Hotpot>>(&text).map_err(form)?),
        };
        match questions.questions.is_empty() {
            true => Err(wrong("has no question with an answer".into())),
            false => Ok(questions),
        }
    }

    fn of_squad(squad: &Squad) -> Self {
        let paragraphs = squad.data.iter().flat_map(|article| &article.paragraphs);
        let documents = Documents::new(paragraphs.map(|p| p.context.clone()));
        let mut questions = Vec::new();
        for article in &squad.data {
            let of_article = article
                .paragraphs
                .iter()
                .map(|p| documents.number(&p.context));
            let of_article: Vec<usize> = of_article.collect();
            for (paragraph, &number) in article.paragraphs.iter().zip(&of_article) {
                let related = of_article.iter().copied().filter(|&other| other != number);
                let related: Vec<usize> = related.collect();
                let answerable = paragraph
                    .qas
                    .iter()
                    .filter(|q| !q.is_impossible && !q.answers.is_empty());
                questions.extend(answerable.map(|asked| {
                    Question {
                        question: asked.question.clone(),
                        answers: asked
                            .answers
                            .iter()
                            .map(|answer| answer.text.clone())
                            .collect(),
                        needed: vec![number],
                        related: related.clone(),
                    }
                }));
            }
        }
        Questions {
            questions,
            documents: documents.texts,
        }
    }

    fn of_hotpot(hotpot: &[Hotpot]) -> Self {
        let text =
            |(title, sentences): &(String, Vec<String>)| format!("{title}\n{}", sentences.concat());
        let documents = Documents::new(
            hotpot
                .iter()
                .flat_map(|asked| asked.context.iter().map(text)),
        );
        let question = |asked: &Hotpot| Question {
            question: asked.question.clone(),
            answers: vec![asked.answer.clone()],
            needed: asked
                .context
                .iter()
                .map(|c| documents.number(&text(c)))
                .collect(),
            related: Vec::new(),
        };
        Questions {
            questions: hotpot.iter().map(question).collect(),
            documents: documents.texts,
        }
    }

    /// Different documents.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// The prompt of a question with `size` documents: its own, then those that are related, then any, then all but its own
    /// again, in random order.
    pub fn prompt(&self, question: &Question, stream: &str, size: usize) -> Prompt {
        let mut draw = Draw::new(&format!("{stream}/documents"));
        let mut taken = question.needed.clone();
        let mut related = question.related.clone();
        draw.shuffle(&mut related);
        taken.extend(related);
        if size > taken.len() {
            let known: BTreeSet<usize> = taken.iter().copied().collect();
            let others: Vec<usize> = (0..self.documents.len())
                .filter(|i| !known.contains(i))
                .collect();
            let more = draw.sample(others.len(), size - taken.len());
            taken.extend(more.into_iter().map(|i| others[i]));
        }
        if size > taken.len() {
            let again: Vec<usize> = (0..self.documents.len())
                .filter(|i| !question.needed.contains(i))
                .collect();
            while size > taken.len() && !again.is_empty() {
                let more = draw.sample(again.len(), size - taken.len());
                taken.extend(more.into_iter().map(|i| again[i]));
            }
        }
        taken.truncate(size.max(question.needed.len()));
        draw.shuffle(&mut taken);
        let numbered = taken.iter().enumerate();
        let texts: Vec<String> = numbered
            .map(|(i, &document)| format!("Document {}:\n{}", i + 1, self.documents[document]))
            .collect();
        Prompt {
            text: question_template(&question.question).around(&texts.join("\n\n")),
            expected: question.answers.clone(),
        }
    }
}

/// The key of a suite that names a task's file.
pub(super) fn key(subtask: Subtask) -> &'static str {
    match subtask {
        Subtask::Squad => "squad",
        _ => "hotpotqa",
    }
}

fn said(subtask: Subtask) -> &'static str {
    match subtask {
        Subtask::Squad => "SQuAD (dev-v2.0.json of rajpurkar.github.io/SQuAD-explorer)",
        _ => "HotpotQA (hotpot_dev_distractor_v1.json of hotpotqa.github.io)",
    }
}

/// Different texts, sorted, with their numbers.
struct Documents {
    texts: Vec<String>,
    numbers: BTreeMap<String, usize>,
}

impl Documents {
    fn new(texts: impl Iterator<Item = String>) -> Self {
        let texts: Vec<String> = texts.collect::<BTreeSet<String>>().into_iter().collect();
        let numbers = texts
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, text)| (text, i))
            .collect();
        Documents { texts, numbers }
    }

    fn number(&self, text: &str) -> usize {
        self.numbers[text]
    }
}

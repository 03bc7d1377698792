//! Variable tracking: a chain of assignments through the noise; which variables have the value?
use super::Prompt;
use super::subtask::{Template, variables_template};
use crate::evals::draw::Draw;

const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";
/// Assignments after the first: the chain has one variable more.
const HOPS: usize = 4;
/// Letters of a variable, and of one in the example before the question.
const LETTERS: usize = 5;
const EXAMPLE_LETTERS: usize = 3;

/// A chain's variables and its first value.
struct Chain {
    variables: Vec<String>,
    value: usize,
}

impl Chain {
    fn new(draw: &mut Draw, letters: usize) -> Self {
        let mut variables: Vec<String> = Vec::new();
        while variables.len() <= HOPS {
            let variable = draw.letters('A', letters);
            if !variables.contains(&variable) {
                variables.push(variable);
            }
        }
        // Up to 99,998, as numpy's randint has it.
        let value = 10_000 + draw.below(89_999);
        Chain { variables, value }
    }

    fn assignments(&self) -> Vec<String> {
        let first = format!("VAR {} = {}", self.variables[0], self.value);
        let copies = self.variables.windows(2);
        let copies = copies.map(|pair| format!("VAR {} = VAR {} ", pair[1], pair[0]));
        std::iter::once(first).chain(copies).collect()
    }

    /// The assignments in their order at random places of so many lines of noise.
    fn context(&self, lines: usize, places: &mut Draw) -> String {
        let assignments = self.assignments();
        let mut sentences = vec![NOISE.to_string(); lines];
        if sentences.len() <= assignments.len() {
            // Too few lines to stand between: their sentences do.
            sentences = sentences.iter().flat_map(|noise| pieces(noise)).collect();
        }
        let mut at = places.sample(sentences.len(), assignments.len());
        at.sort_unstable();
        for (before, (at, assignment)) in at.into_iter().zip(assignments).enumerate() {
            sentences.insert(at + before, assignment);
        }
        sentences.join(" ").replace(". \n", ".\n")
    }

    fn template(&self) -> Template {
        variables_template(&self.value.to_string(), self.variables.len())
    }
}

/// The sentences of a line of noise, and its line break.
fn pieces(noise: &str) -> impl Iterator<Item = String> {
    let piece = |piece: &str| match piece.trim().is_empty() {
        true => piece.to_string(),
        false => format!("{piece}."),
    };
    noise.split('.').map(piece)
}

/// The solved example, with `lines` lines of noise. `stream` decides its text but for the variables' names, which are
/// those of `item`.
pub(super) fn example(stream: &str, item: &str, lines: usize) -> String {
    let value = Chain::new(
        &mut Draw::new(&format!("{stream}/example")),
        EXAMPLE_LETTERS,
    )
    .value;
    let named = Chain::new(&mut Draw::new(&format!("{item}/example")), EXAMPLE_LETTERS);
    let chain = Chain { value, ..named };
    let context = chain.context(lines, &mut Draw::new(&format!("{stream}/example places")));
    let solved = chain.template().around(&context);
    format!("{solved} {}\n\n", chain.variables.join(" "))
}

/// The prompt with `lines` lines of noise, behind its solved example.
pub(super) fn prompt(stream: &str, example: &str, lines: usize) -> Prompt {
    let chain = Chain::new(&mut Draw::new(&format!("{stream}/chain")), LETTERS);
    let context = chain.context(lines, &mut Draw::new(&format!("{stream}/places")));
    Prompt {
        text: format!(" {example}\n\n{}", chain.template().around(&context)),
        expected: chain.variables,
    }
}

//! The language of a text, by `whatlang`'s trigrams.
use super::{Breach, CleanSpec, words::boundary_before};
use crate::data::{Error, Result};
use whatlang::Lang;

/// How sure the language must be, where a study does not say.
const CONFIDENCE: f64 = 0.5;
/// Of fewer letters the trigrams say too little: one in ten English sentences of 80 characters was lost, of 200 one in
/// two hundred.
const LEAST_LETTERS: usize = 150;
/// A longer text is judged by so many samples of so many bytes, evenly spread.
const SAMPLES: usize = 8;
const SAMPLE: usize = 1024;

/// The languages that are kept.
#[derive(Debug)]
pub(super) struct Languages {
    kept: Vec<Lang>,
    confidence: f64,
}

impl Languages {
    /// None when a study asks for no language.
    pub fn new(spec: &CleanSpec) -> Result<Option<Self>> {
        let confidence = spec.min_language_confidence;
        if spec.languages.is_empty() {
            return match confidence {
                Some(_) => Err(Error::Clean(
                    "says `min_language_confidence` without `languages`, to which it belongs"
                        .into(),
                )),
                None => Ok(None),
            };
        }
        if let Some(wrong) = confidence.filter(|c| !(0.0..=1.0).contains(c)) {
            return Err(Error::Clean(format!(
                "`min_language_confidence` is {wrong}; give a number from 0 to 1"
            )));
        }
        let code = |code: &String| {
            Lang::from_code(code.as_str()).ok_or_else(|| {
                let known: Vec<&str> = Lang::all().iter().map(Lang::code).collect();
                let known = known.join(", ");
                Error::Clean(format!(
                    "`languages` has {code:?}; known ISO 639-3 codes are {known}"
                ))
            })
        };
        Ok(Some(Self {
            kept: spec.languages.iter().map(code).collect::<Result<_>>()?,
            confidence: confidence.unwrap_or(CONFIDENCE),
        }))
    }

    /// Why a text is dropped, if it is: another language, or none that is sure enough. What has fewer than 150 letters
    /// is kept.
    pub fn breach(&self, text: &str) -> Option<Breach> {
        let sample = sample(text);
        if sample
            .chars()
            .filter(|c| c.is_alphabetic())
            .take(LEAST_LETTERS)
            .count()
            < LEAST_LETTERS
        {
            return None;
        }
        let found = whatlang::detect(&sample)?;
        let kept = self.kept.contains(&found.lang()) && found.confidence() >= self.confidence;
        (!kept).then(|| Breach {
            rule: "languages",
            found: format!(
                "{} with confidence {:.2}",
                found.lang().code(),
                found.confidence()
            ),
        })
    }
}

/// The text, or samples of it.
fn sample(text: &str) -> String {
    if text.len() <= SAMPLES * SAMPLE {
        return text.to_string();
    }
    let mut samples = String::with_capacity(SAMPLES * (SAMPLE + 1));
    for i in 0..SAMPLES {
        let from = boundary_before(text, i * (text.len() - SAMPLE) / (SAMPLES - 1));
        let to = boundary_before(text, from + SAMPLE);
        samples.push_str(&text[from..to]);
        samples.push(' ');
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: &str = "It was a bright cold day in spring, and the clocks of the town were striking as we came in. \
        Nobody had lit the fires, and the old man at the door would not tell us where the others had gone. ";
    const GERMAN: &str = "Es war ein klarer, kalter Tag im Frühling, und die Uhren der Stadt schlugen, als wir kamen. \
        Niemand hatte die Feuer entfacht, und der alte Mann an der Tür sagte uns nicht, wohin die anderen waren. ";

    fn languages(toml: &str) -> Result<Option<Languages>> {
        Languages::new(
            &toml::from_str::<std::collections::BTreeMap<String, CleanSpec>>(toml).unwrap()["clean"],
        )
    }

    #[test]
    fn another_language_is_dropped() {
        let english = languages("clean = { rules = 'prose', languages = ['eng'] }")
            .unwrap()
            .unwrap();
        assert_eq!(english.breach(ENGLISH), None);
        assert!(
            english
                .breach(GERMAN)
                .unwrap()
                .found
                .starts_with("deu with confidence")
        );
        assert_eq!(
            english.breach("Ein kurzer Satz, der nichts beweist: 12345."),
            None
        );
        let both = languages("clean = { rules = 'prose', languages = ['eng', 'deu'] }")
            .unwrap()
            .unwrap();
        assert_eq!((both.breach(ENGLISH), both.breach(GERMAN)), (None, None));
    }

    #[test]
    fn a_long_text_is_judged_by_all_of_it() {
        let english = languages("clean = { rules = 'prose', languages = ['eng'] }")
            .unwrap()
            .unwrap();
        let long = format!("{} {}", ENGLISH.repeat(20), GERMAN.repeat(400));
        assert!(english.breach(&long).is_some());
        assert_eq!(english.breach(&ENGLISH.repeat(400)), None);
        assert_eq!(
            sample(&"ä💡".repeat(9000))
                .chars()
                .filter(|c| *c == ' ')
                .count(),
            SAMPLES
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (toml, word) in [
            (
                "clean = { rules = 'prose', languages = ['en'] }",
                "\"en\"; known ISO 639-3 codes are",
            ),
            (
                "clean = { rules = 'prose', min_language_confidence = 0.5 }",
                "without `languages`",
            ),
            (
                "clean = { rules = 'prose', languages = ['eng'], min_language_confidence = 2 }",
                "from 0 to 1",
            ),
        ] {
            let error = languages(toml).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}

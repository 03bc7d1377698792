//! A small byte-level tokenizer with single digits and a small decoder, for the tests of this module.
use super::tokens::Tokens;
use crate::model::{Decoder, Init, Method, ModelConfig};
use crate::ops::Env;
use tokenizers::Tokenizer;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

const TEXT: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and \
memorize them. The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. \
What is the pass key? The pass key is. Remember it.\nfn main() {\n    let mut total = 0;\n    for x in \
values {\n        total += x;\n    }\n    println!(\"{total}\");\n}\n";

/// Byte-level BPE of about 350 entries.
pub fn tokenizer() -> Tokenizer {
    let mut tokenizer = Tokenizer::new(BPE::default());
    let bytes = ByteLevel::new(false, true, true);
    let split = Sequence::new(vec![Digits::new(true).into(), bytes.into()]);
    tokenizer
        .with_pre_tokenizer(Some(split))
        .with_decoder(Some(bytes));
    let trainer = BpeTrainer::builder()
        .vocab_size(350)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let texts = (0..4).map(|_| TEXT);
    tokenizer
        .train(&mut TrainerWrapper::from(trainer), texts)
        .expect("training the test tokenizer");
    tokenizer
}

/// The same with what the tasks ask of it.
pub fn tokens() -> Tokens {
    Tokens::new(&tokenizer()).expect("a tokenizer")
}

/// A small decoder with random weights over this vocabulary.
pub fn decoder(env: &Env) -> Decoder {
    let config = ModelConfig::parse(
        r#"{"vocab_size": 350, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256, "initializer_range": 0.2, "rope_theta": 1000.0,
        "tie_word_embeddings": true}"#,
    );
    Decoder::init(
        env,
        &config.unwrap(),
        Init {
            seed: 3,
            method: Method::Random,
        },
    )
    .unwrap()
}

//! Weights and tokenizer in and out.

//! The decoder.
pub struct Decoder {}

//! Every RoPE method behind one type.
use serde::{Deserialize, Serialize};

/// Placeholder
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {}

//! A parameter: its master copy in f32 and, while it trains, its gradient.
use super::Result;
use crate::ops::{Env, update, zeros};
use candle_core::Tensor;

/// One weight of the model under its Hugging Face name.
#[derive(Debug)]
pub struct Param {
    pub name: String,
    /// Contiguous f32.
    pub value: Tensor,
    /// f32 of the same shape; `None` for a parameter that does not train.
    pub grad: Option<Tensor>,
}

impl Param {
    /// A parameter without a gradient, as inference needs it.
    pub fn frozen(name: &str, value: Tensor) -> Self {
        Param {
            name: name.to_string(),
            value,
            grad: None,
        }
    }

    /// Gives the parameter a gradient of zeros: it trains from here on.
    pub fn train(&mut self, env: &Env) -> Result<()> {
        self.grad = Some(zeros(self.value.dims(), env)?);
        Ok(())
    }

    /// Sets the gradient to zero.
    pub fn zero_grad(&self) -> Result<()> {
        if let Some(grad) = &self.grad {
            update(grad, |g| g.fill(0.0))?;
        }
        Ok(())
    }
}

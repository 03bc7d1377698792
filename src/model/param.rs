//! A parameter: its master copy in f32 and, while it trains, its gradient.
use super::Result;
use crate::ops::{self, Env, zeros};
use candle_core::Tensor;
use std::sync::{Mutex, PoisonError};

/// One weight of the model under its Hugging Face name.
#[derive(Debug)]
pub struct Param {
    pub name: String,
    /// Contiguous f32.
    pub value: Tensor,
    /// Whether it has a gradient.
    trains: bool,
    /// f32 of the value's shape, made when something is first added to it: before a step's backward comes
    /// to a block, its activations take the memory that its gradients take after it.
    grad: Mutex<Option<Tensor>>,
}

impl Param {
    /// A parameter without a gradient, as inference needs it.
    pub fn frozen(name: &str, value: Tensor) -> Self {
        Param {
            name: name.to_string(),
            value,
            trains: false,
            grad: Mutex::new(None),
        }
    }

    /// The parameter has a gradient from here on.
    pub fn train(&mut self) {
        self.trains = true;
    }

    /// The gradient so far, shared: what is added to it is added to the parameter's. `None` for a parameter
    /// that does not train.
    pub fn grad(&self, env: &Env) -> Result<Option<Tensor>> {
        if !self.trains {
            return Ok(None);
        }
        let mut grad = self.grad.lock().unwrap_or_else(PoisonError::into_inner);
        if grad.is_none() {
            *grad = Some(zeros(self.value.dims(), env)?);
        }
        Ok(grad.clone())
    }

    /// Lets `add` add to the gradient: it is given what there is, and makes a new one where there is none.
    /// Nothing is done for a parameter that does not train.
    pub fn accumulate(
        &self,
        add: impl FnOnce(Option<Tensor>) -> ops::Result<Tensor>,
    ) -> Result<()> {
        if self.trains {
            let mut grad = self.grad.lock().unwrap_or_else(PoisonError::into_inner);
            let so_far = grad.take();
            *grad = Some(add(so_far)?);
        }
        Ok(())
    }

    /// The gradient, which begins at zero again.
    pub fn take_grad(&self) -> Option<Tensor> {
        self.grad
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

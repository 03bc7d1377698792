//! The state from which training goes on to the same bytes.
use super::{Error, Result, Stepper};
use crate::ops::update;
use candle_core::{DType, Device, Tensor};
use std::{collections::HashMap, path::Path};

/// What a snapshot holds beside weights and moments.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Every step's loss so far, over all stages.
    pub losses: Vec<f64>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Identity of the RoPE of the last step.
    pub rope: String,
}

const LOSSES: &str = "harness.losses";
const SECONDS: &str = "harness.seconds";
const ROPE: &str = "harness.rope";

fn failed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Snapshot {
        path: path.display().to_string(),
        what: what.to_string(),
    }
}

impl Snapshot {
    /// Writes the state to `path`: a temporary file first, which then takes the name.
    pub fn save(&self, path: &Path, state: &Stepper) -> Result<()> {
        let mut tensors = HashMap::new();
        let params = state.model.params();
        for (param, [m, v]) in params.iter().zip(&state.optimizer.moments) {
            tensors.insert(param.name.clone(), param.value.clone());
            tensors.insert(format!("{}.m", param.name), m.clone());
            tensors.insert(format!("{}.v", param.name), v.clone());
        }
        tensors.insert(
            LOSSES.into(),
            Tensor::new(self.losses.as_slice(), &Device::Cpu)?,
        );
        tensors.insert(SECONDS.into(), Tensor::new(&[self.seconds], &Device::Cpu)?);
        tensors.insert(
            ROPE.into(),
            Tensor::new(self.rope.as_bytes(), &Device::Cpu)?,
        );
        crate::whole_file::replace(path, |file| {
            candle_core::safetensors::save(&tensors, file.path()).map_err(std::io::Error::other)
        })
        .map_err(|source: std::io::Error| Error::Unwritten {
            path: path.display().to_string(),
            source,
        })
    }

    /// # Errors
    /// When the snapshot's last step had another RoPE than the one of this identity.
    pub(super) fn check_rope(&self, path: &Path, identity: &str) -> Result<()> {
        if self.rope == identity {
            return Ok(());
        }
        let rope = &self.rope;
        let what = format!(
            "was trained with the RoPE {rope}, not {identity}; --retry-failed begins again"
        );
        Err(failed(path, what))
    }

    /// Puts the state at `path` into `state`; `None` where there is no snapshot.
    ///
    /// # Errors
    /// When the file is damaged or another model's.
    pub fn load(path: &Path, state: &mut Stepper) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| {
            failed(
                path,
                format!("is damaged: {e}; --retry-failed begins again"),
            )
        })?;
        let mut take = |name: &str, dtype: DType| {
            let tensor = tensors.remove(name).filter(|t| t.dtype() == dtype);
            tensor
                .ok_or_else(|| failed(path, format!("has no {name}; --retry-failed begins again")))
        };
        let params = state.model.params();
        for (param, [m, v]) in params.iter().zip(&state.optimizer.moments) {
            for (name, into) in [
                (param.name.clone(), &param.value),
                (format!("{}.m", param.name), m),
                (format!("{}.v", param.name), v),
            ] {
                let from = take(&name, DType::F32)?;
                if from.dims() != into.dims() {
                    return Err(failed(path, format!("{name} has another shape")));
                }
                let values = from.flatten_all()?.to_vec1::<f32>()?;
                update(into, |into| into.copy_from_slice(&values))?;
            }
        }
        let losses = take(LOSSES, DType::F64)?.to_vec1::<f64>()?;
        let seconds = take(SECONDS, DType::F64)?.to_vec1::<f64>()?;
        let rope = take(ROPE, DType::U8)?.to_vec1::<u8>()?;
        state.optimizer.steps = losses.len() as u64;
        Ok(Some(Snapshot {
            losses,
            seconds: seconds.iter().sum(),
            rope: String::from_utf8_lossy(&rope).into_owned(),
        }))
    }
}

//! The elements of a CPU tensor as slices.
use super::{Env, Error, Result};
use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Tensor, WithDType};
use std::{cell::Cell, mem::MaybeUninit, ops::Deref};

/// Read access to a contiguous CPU tensor's elements.
pub struct View<'a, T> {
    /// Elements of the storage, found once: loops index into a view.
    elements: *const [T],
    /// The lock under which the elements stay where they are.
    _storage: candle_core::StorageRef<'a>,
}

// SAFETY: a view is a shared borrow of plain numbers.
unsafe impl<T: Sync> Sync for View<'_, T> {}

impl<T> Deref for View<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the elements belong to the storage whose lock this view holds.
        unsafe { &*self.elements }
    }
}

/// Read access to `tensor`'s elements. It holds the tensor's lock: [`update`] on the same tensor waits
/// until the view is gone.
///
/// # Errors
/// When the tensor is not on the CPU, not contiguous, or of another dtype.
pub fn view<T: WithDType>(tensor: &Tensor) -> Result<View<'_, T>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::Shape {
            op: "view",
            what: format!("tensor of shape {:?} is not contiguous", tensor.shape()),
        });
    };
    let elements: *const [T] = match &*storage {
        Storage::Cpu(cpu) => &T::cpu_storage_as_slice(cpu)?[start..end],
        _ => {
            return Err(Error::Shape {
                op: "view",
                what: "tensor is not on the CPU".into(),
            });
        }
    };
    Ok(View {
        elements,
        _storage: storage,
    })
}

struct Update<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("update: tensor is not contiguous");
        };
        let CpuStorage::F32(all) = storage else {
            candle_core::bail!("update: tensor is not f32");
        };
        if let Some(f) = self.0.take() {
            f(&mut all[start..end]);
        }
        Ok(())
    }
}

/// Lets `f` change the elements of a contiguous `f32` tensor in place.
pub fn update(tensor: &Tensor, f: impl FnOnce(&mut [f32])) -> Result<()> {
    Ok(tensor.inplace_op1(&Update(Cell::new(Some(f))))?)
}

/// A vector of `len` elements that `fill` writes, every one of them: what is written whole is not set to
/// zero first.
///
/// # Safety
/// `fill` must write all elements of the slice.
pub unsafe fn written(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    fill(&mut values.spare_capacity_mut()[..len]);
    // SAFETY: the caller's promise.
    unsafe { values.set_len(len) };
    values
}

/// A tensor that takes over `values`.
pub fn from_vec<T: WithDType>(values: Vec<T>, shape: &[usize], env: &Env) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &env.device)?)
}

/// A copy of the tensor's elements.
pub fn to_vec<T: WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    Ok(view::<T>(tensor)?.to_vec())
}

/// A tensor of `f32` zeros.
pub fn zeros(shape: &[usize], env: &Env) -> Result<Tensor> {
    Ok(Tensor::zeros(shape, candle_core::DType::F32, &env.device)?)
}

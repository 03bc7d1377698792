//! One decoder block with an explicit forward and backward: the forward returns its output and what it
//! saved, the backward takes the output's gradient, gives back the input's and adds the weights'.
use super::{ModelConfig, Param, Result};
use crate::ops::{Env, attention, linear, rms_norm, rope, swiglu, update, view};
use crate::parallel::{Communicator, context};
use candle_core::Tensor;

/// The weights of a block.
#[derive(Debug)]
pub struct Block {
    pub input_layernorm: Param,
    pub q_proj: Param,
    pub k_proj: Param,
    pub v_proj: Param,
    pub o_proj: Param,
    pub post_attention_layernorm: Param,
    pub gate_proj: Param,
    pub up_proj: Param,
    pub down_proj: Param,
}

/// What a block needs to know about a pass beside its input.
#[derive(Debug)]
pub struct Pass<'a> {
    pub env: &'a Env,
    pub config: &'a ModelConfig,
    pub table: &'a rope::Table,
    /// `[batch, tokens]`
    pub positions: &'a [u32],
    pub attention: attention::Spec<'a>,
    /// The ranks that hold the other parts of these sequences.
    pub context: &'a Communicator,
}

/// What the forward keeps for the backward.
#[derive(Debug)]
pub struct Saved {
    x: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    middle: Tensor,
    gate: Tensor,
    up: Tensor,
}

/// `a += b`.
fn add(a: &Tensor, b: &Tensor) -> Result<()> {
    use rayon::prelude::*;
    let b = view::<f32>(b)?;
    Ok(update(a, |a| {
        a.par_chunks_mut(1 << 15)
            .zip(b.par_chunks(1 << 15))
            .for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a += b));
    })?)
}

impl Block {
    /// All weights, in the order of the checkpoint's names.
    pub fn params(&self) -> [&Param; 9] {
        [
            &self.input_layernorm,
            &self.q_proj,
            &self.k_proj,
            &self.v_proj,
            &self.o_proj,
            &self.post_attention_layernorm,
            &self.gate_proj,
            &self.up_proj,
            &self.down_proj,
        ]
    }

    /// The same, to be changed.
    pub fn params_mut(&mut self) -> [&mut Param; 9] {
        [
            &mut self.input_layernorm,
            &mut self.q_proj,
            &mut self.k_proj,
            &mut self.v_proj,
            &mut self.o_proj,
            &mut self.post_attention_layernorm,
            &mut self.gate_proj,
            &mut self.up_proj,
            &mut self.down_proj,
        ]
    }

    /// Queries, keys and values of the normalised input, as `[batch, tokens, heads, head_dim]`, not yet
    /// turned.
    pub fn qkv(&self, env: &Env, config: &ModelConfig, x: &Tensor) -> Result<[Tensor; 3]> {
        let (batch, tokens, _) = x.dims3()?;
        let h = rms_norm::forward(env, x, &self.input_layernorm.value, config.rms_norm_eps)?;
        let project = |p: &Param| -> Result<Tensor> {
            let y = linear::forward(env, &h, &p.value)?;
            Ok(y.reshape((batch, tokens, (), config.head_dim))?)
        };
        Ok([
            project(&self.q_proj)?,
            project(&self.k_proj)?,
            project(&self.v_proj)?,
        ])
    }

    /// The rest of the block after attention: (output, x + attention, gate, up). `x` is `[.., dim]`,
    /// `o` is `[batch, tokens, heads, head_dim]`.
    pub fn finish(
        &self,
        env: &Env,
        config: &ModelConfig,
        x: &Tensor,
        o: &Tensor,
    ) -> Result<(Tensor, [Tensor; 3])> {
        let flat = o.flatten_from(2)?;
        let middle = linear::forward(env, &flat, &self.o_proj.value)?;
        add(&middle, x)?;
        let norm = &self.post_attention_layernorm.value;
        let h = rms_norm::forward(env, &middle, norm, config.rms_norm_eps)?;
        let gate = linear::forward(env, &h, &self.gate_proj.value)?;
        let up = linear::forward(env, &h, &self.up_proj.value)?;
        drop(h);
        let act = swiglu::forward(env, &gate, &up)?;
        let y = linear::forward(env, &act, &self.down_proj.value)?;
        add(&y, &middle)?;
        Ok((y, [middle, gate, up]))
    }

    /// `x` is `[batch, tokens, dim]`, this rank's tokens; the output has its shape.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Result<(Tensor, Saved)> {
        let Pass { env, config, .. } = pass;
        let [q, k, v] = self.qkv(env, config, x)?;
        rope::rope(&q, pass.positions, pass.table)?;
        rope::rope(&k, pass.positions, pass.table)?;
        let k = context::gather_tokens(env, pass.context, &k)?;
        let v = context::gather_tokens(env, pass.context, &v)?;
        let (o, lse) = attention::forward(env, &q, &k, &v, &pass.attention)?;
        let (y, [middle, gate, up]) = self.finish(env, config, x, &o)?;
        let saved = Saved {
            x: x.clone(),
            q,
            k,
            v,
            o,
            lse,
            middle,
            gate,
            up,
        };
        Ok((y, saved))
    }

    /// Gradient by the block's input from the output's gradient `dy` (`[batch, tokens, dim]`).
    pub fn backward(&self, pass: &Pass, saved: Saved, dy: &Tensor) -> Result<Tensor> {
        let Pass { env, config, .. } = pass;
        let eps = config.rms_norm_eps;
        let norm = &self.post_attention_layernorm;
        let (d_gate, d_up) = {
            let act = swiglu::forward(env, &saved.gate, &saved.up)?;
            let d_act = back(env, dy, &act, &self.down_proj, None)?;
            swiglu::backward(env, &d_act, &saved.gate, &saved.up)?
        };
        let h = rms_norm::forward(env, &saved.middle, &norm.value, eps)?;
        let dh = back(env, &d_gate, &h, &self.gate_proj, None)?;
        let dh = back(env, &d_up, &h, &self.up_proj, Some(dh))?;
        drop((h, d_gate, d_up));
        let grad = norm.grad.as_ref();
        let d_middle = rms_norm::backward(env, &dh, &saved.middle, &norm.value, eps, grad)?;
        drop(dh);
        add(&d_middle, dy)?;

        let flat = saved.o.flatten_from(2)?;
        let d_out = back(env, &d_middle, &flat, &self.o_proj, None)?;
        let d_out = d_out.reshape(saved.o.dims())?;
        let qkv = [&saved.q, &saved.k, &saved.v];
        let output = (&saved.o, &saved.lse);
        let (dq, dk, dv) = attention::backward(env, &d_out, qkv, output, &pass.attention)?;
        drop(d_out);
        let dk = context::scatter_sum_tokens(env, pass.context, dk)?;
        let dv = context::scatter_sum_tokens(env, pass.context, dv)?;
        rope::rope_transposed(&dq, pass.positions, pass.table)?;
        rope::rope_transposed(&dk, pass.positions, pass.table)?;
        let norm = &self.input_layernorm;
        let h = rms_norm::forward(env, &saved.x, &norm.value, eps)?;
        let dh = back(env, &dq.flatten_from(2)?, &h, &self.q_proj, None)?;
        let dh = back(env, &dk.flatten_from(2)?, &h, &self.k_proj, Some(dh))?;
        let dh = back(env, &dv.flatten_from(2)?, &h, &self.v_proj, Some(dh))?;
        let dx = rms_norm::backward(env, &dh, &saved.x, &norm.value, eps, norm.grad.as_ref())?;
        add(&dx, &d_middle)?;
        Ok(dx)
    }
}

fn back(env: &Env, dy: &Tensor, x: &Tensor, p: &Param, dx: Option<Tensor>) -> Result<Tensor> {
    Ok(linear::backward(env, dy, x, &p.value, p.grad.as_ref(), dx)?)
}

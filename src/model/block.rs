//! One decoder block with an explicit forward and backward: the forward returns its output and what it
//! saved, the backward takes the output's gradient, gives back the input's and adds the weights'.
use super::{ModelConfig, Param, Result};
use crate::ops::{Env, attention, bias, linear, rms_norm, rope, swiglu, update, view};
use crate::parallel::{Communicator, context};
use candle_core::Tensor;

/// The weights of a block.
#[derive(Debug)]
pub struct Block {
    pub input_layernorm: Param,
    pub q_proj: Param,
    pub q_bias: Option<Param>,
    pub k_proj: Param,
    pub k_bias: Option<Param>,
    pub v_proj: Param,
    pub v_bias: Option<Param>,
    pub o_proj: Param,
    pub o_bias: Option<Param>,
    /// Normalises each head of q, before it is turned.
    pub q_norm: Option<Param>,
    /// The same of k.
    pub k_norm: Option<Param>,
    pub post_attention_layernorm: Param,
    pub gate_proj: Param,
    pub gate_bias: Option<Param>,
    pub up_proj: Param,
    pub up_bias: Option<Param>,
    pub down_proj: Param,
    pub down_bias: Option<Param>,
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
    /// q and k before their norms, where they have some.
    raw: Option<[Tensor; 2]>,
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
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        let all = [
            Some(&self.input_layernorm),
            Some(&self.q_proj),
            self.q_bias.as_ref(),
            Some(&self.k_proj),
            self.k_bias.as_ref(),
            Some(&self.v_proj),
            self.v_bias.as_ref(),
            Some(&self.o_proj),
            self.o_bias.as_ref(),
            self.q_norm.as_ref(),
            self.k_norm.as_ref(),
            Some(&self.post_attention_layernorm),
            Some(&self.gate_proj),
            self.gate_bias.as_ref(),
            Some(&self.up_proj),
            self.up_bias.as_ref(),
            Some(&self.down_proj),
            self.down_bias.as_ref(),
        ];
        all.into_iter().flatten()
    }

    /// The same, to be changed.
    pub fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        let all = [
            Some(&mut self.input_layernorm),
            Some(&mut self.q_proj),
            self.q_bias.as_mut(),
            Some(&mut self.k_proj),
            self.k_bias.as_mut(),
            Some(&mut self.v_proj),
            self.v_bias.as_mut(),
            Some(&mut self.o_proj),
            self.o_bias.as_mut(),
            self.q_norm.as_mut(),
            self.k_norm.as_mut(),
            Some(&mut self.post_attention_layernorm),
            Some(&mut self.gate_proj),
            self.gate_bias.as_mut(),
            Some(&mut self.up_proj),
            self.up_bias.as_mut(),
            Some(&mut self.down_proj),
            self.down_bias.as_mut(),
        ];
        all.into_iter().flatten()
    }

    /// Queries, keys and values of the normalised input, as `[batch, tokens, heads, head_dim]`, not yet
    /// turned; and q and k before their norms, where they have some.
    pub fn qkv(
        &self,
        env: &Env,
        config: &ModelConfig,
        x: &Tensor,
    ) -> Result<([Tensor; 3], Option<[Tensor; 2]>)> {
        let (batch, tokens, _) = x.dims3()?;
        let h = rms_norm::forward(env, x, &self.input_layernorm.value, config.rms_norm_eps)?;
        let heads = |p: &Param, bias: &Option<Param>| -> Result<Tensor> {
            let y = project(env, &h, p, bias)?;
            Ok(y.reshape((batch, tokens, (), config.head_dim))?)
        };
        let q = heads(&self.q_proj, &self.q_bias)?;
        let k = heads(&self.k_proj, &self.k_bias)?;
        let v = heads(&self.v_proj, &self.v_bias)?;
        let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) else {
            return Ok(([q, k, v], None));
        };
        let normed_q = rms_norm::forward(env, &q, &q_norm.value, config.rms_norm_eps)?;
        let normed_k = rms_norm::forward(env, &k, &k_norm.value, config.rms_norm_eps)?;
        Ok(([normed_q, normed_k, v], Some([q, k])))
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
        let middle = project(env, &flat, &self.o_proj, &self.o_bias)?;
        add(&middle, x)?;
        let norm = &self.post_attention_layernorm.value;
        let h = rms_norm::forward(env, &middle, norm, config.rms_norm_eps)?;
        let gate = project(env, &h, &self.gate_proj, &self.gate_bias)?;
        let up = project(env, &h, &self.up_proj, &self.up_bias)?;
        drop(h);
        let act = swiglu::forward(env, &gate, &up)?;
        let y = project(env, &act, &self.down_proj, &self.down_bias)?;
        add(&y, &middle)?;
        Ok((y, [middle, gate, up]))
    }

    /// `x` is `[batch, tokens, dim]`, this rank's tokens; the output has its shape.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Result<(Tensor, Saved)> {
        let Pass { env, config, .. } = pass;
        let ([q, k, v], raw) = self.qkv(env, config, x)?;
        rope::rope(&q, pass.positions, pass.table)?;
        rope::rope(&k, pass.positions, pass.table)?;
        let k = context::gather_tokens(env, pass.context, &k)?;
        let v = context::gather_tokens(env, pass.context, &v)?;
        let (o, lse) = attention::forward(env, &q, &k, &v, &pass.attention)?;
        let (y, [middle, gate, up]) = self.finish(env, config, x, &o)?;
        let saved = Saved {
            x: x.clone(),
            raw,
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
        let act = linear::backward_input(env, dy, &self.down_proj.value, None)?;
        swiglu::backward(&act, &saved.gate, &saved.up)?;
        weigh(env, dy, &act, &self.down_proj, &self.down_bias)?;
        drop(act);
        let (d_gate, d_up) = (saved.gate, saved.up);
        let h = rms_norm::forward(env, &saved.middle, &norm.value, eps)?;
        let dh = back(env, &d_gate, &h, &self.gate_proj, &self.gate_bias, None)?;
        let dh = back(env, &d_up, &h, &self.up_proj, &self.up_bias, Some(dh))?;
        drop((h, d_gate, d_up));
        let grad = norm.grad(env)?;
        let d_middle =
            rms_norm::backward(dh, &saved.middle, &norm.value, eps, grad.as_ref(), Some(dy))?;

        let flat = saved.o.flatten_from(2)?;
        let d_out = back(env, &d_middle, &flat, &self.o_proj, &self.o_bias, None)?;
        let d_out = d_out.reshape(saved.o.dims())?;
        let qkv = [&saved.q, &saved.k, &saved.v];
        let output = (&saved.o, &saved.lse);
        let (mut dq, dk, dv) = attention::backward(env, &d_out, qkv, output, &pass.attention)?;
        drop(d_out);
        let mut dk = context::scatter_sum_tokens(env, pass.context, dk)?;
        let dv = context::scatter_sum_tokens(env, pass.context, dv)?;
        rope::rope_transposed(&dq, pass.positions, pass.table)?;
        rope::rope_transposed(&dk, pass.positions, pass.table)?;
        if let Some([q, k]) = &saved.raw {
            dq = norm_back(env, dq, q, &self.q_norm, eps)?;
            dk = norm_back(env, dk, k, &self.k_norm, eps)?;
        }
        let norm = &self.input_layernorm;
        let h = rms_norm::forward(env, &saved.x, &norm.value, eps)?;
        let heads = |d: Tensor, weight: &Param, bias: &Option<Param>, dh: Option<Tensor>| {
            back(env, &d.flatten_from(2)?, &h, weight, bias, dh)
        };
        let dh = heads(dq, &self.q_proj, &self.q_bias, None)?;
        let dh = heads(dk, &self.k_proj, &self.k_bias, Some(dh))?;
        let dh = heads(dv, &self.v_proj, &self.v_bias, Some(dh))?;
        let grad = norm.grad(env)?;
        Ok(rms_norm::backward(
            dh,
            &saved.x,
            &norm.value,
            eps,
            grad.as_ref(),
            Some(&d_middle),
        )?)
    }
}

/// `x · weightᵀ + bias`.
fn project(env: &Env, x: &Tensor, weight: &Param, bias: &Option<Param>) -> Result<Tensor> {
    let y = linear::forward(env, x, &weight.value)?;
    if let Some(bias) = bias {
        bias::forward(&y, &bias.value)?;
    }
    Ok(y)
}

/// The backward of [`project`].
fn back(
    env: &Env,
    dy: &Tensor,
    x: &Tensor,
    weight: &Param,
    bias: &Option<Param>,
    dx: Option<Tensor>,
) -> Result<Tensor> {
    weigh(env, dy, x, weight, bias)?;
    Ok(linear::backward_input(env, dy, &weight.value, dx)?)
}

/// The part of [`project`]'s backward that adds to the gradients of weight and bias.
fn weigh(env: &Env, dy: &Tensor, x: &Tensor, weight: &Param, bias: &Option<Param>) -> Result<()> {
    if let Some(bias) = bias
        && let Some(grad) = bias.grad(env)?
    {
        bias::backward(dy, &grad)?;
    }
    weight.accumulate(|grad| linear::backward_weight(env, dy, x, grad))
}

/// The backward of a norm of heads, where there is one.
fn norm_back(env: &Env, dy: Tensor, x: &Tensor, norm: &Option<Param>, eps: f64) -> Result<Tensor> {
    let Some(norm) = norm else { return Ok(dy) };
    let grad = norm.grad(env)?;
    Ok(rms_norm::backward(
        dy,
        x,
        &norm.value,
        eps,
        grad.as_ref(),
        None,
    )?)
}

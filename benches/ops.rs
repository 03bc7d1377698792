//! Every op at the shapes of results/speed.md, forward and with its backward, beside the same written with
//! candle's own tensors and graph: `cargo bench --bench ops [-- "S/attention"]`.
#[expect(dead_code, reason = "an op knows no layers")]
mod shape;

use candle_core::{D, Device, Result as CandleResult, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss, ops::softmax};
use criterion::{Criterion, criterion_group, criterion_main};
use harness::ops::{
    Env, adamw, attention, cross_entropy, embedding, from_vec, linear, rms_norm, rope, swiglu,
    zeros,
};
use rand::{RngExt, SeedableRng};
use shape::{SHAPES, Shape};

fn random(env: &Env, seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| rng.random::<f32>() - 0.5).collect();
    from_vec(values, shape, env).expect("a tensor of this shape")
}

/// Ours and candle's, side by side.
fn pair<A, B>(
    c: &mut Criterion,
    shape: Shape,
    op: &str,
    mut ours: impl FnMut() -> A,
    mut candle: impl FnMut() -> B,
) {
    let mut group = c.benchmark_group(format!("{}/{op}", shape.name));
    group.sample_size(10);
    group.bench_function("harness", |b| b.iter(&mut ours));
    group.bench_function("candle", |b| b.iter(&mut candle));
    group.finish();
}

/// Candle's forward of `f` and the backward of its sum.
fn graph(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> CandleResult<Tensor>) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|t| Var::from_tensor(t).expect("a variable"))
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let sum = f(&tensors).and_then(|y| y.sum_all()).expect("a forward");
    sum.backward().expect("a backward");
}

fn layers(c: &mut Criterion) {
    let env = &Env::cpu();
    for s in SHAPES {
        let rows = s.batch * s.ctx;
        let x = random(env, 1, &[rows, s.dim]);
        let dy = random(env, 2, &[rows, s.ff]);
        let gate = random(env, 9, &[rows, s.ff]);
        let weight = random(env, 3, &[s.ff, s.dim]);
        let norm = random(env, 4, &[s.dim]);
        let grad = zeros(&[s.dim], env).expect("zeros");

        let plain = |t: &[Tensor]| t[0].matmul(&t[1].t()?);
        pair(
            c,
            s,
            "linear forward",
            || linear::forward(env, &x, &weight),
            || plain(&[x.clone(), weight.clone()]),
        );
        pair(
            c,
            s,
            "linear forward, backward",
            || {
                let y = linear::forward(env, &x, &weight);
                let dx = linear::backward_input(env, &dy, &weight, None);
                (y, dx, linear::backward_weight(env, &dy, &x, None))
            },
            || graph(&[&x, &weight], plain),
        );

        let plain = |t: &[Tensor]| {
            let mean = t[0].sqr()?.mean_keepdim(D::Minus1)?;
            t[0].broadcast_div(&(mean + 1e-5)?.sqrt()?)?
                .broadcast_mul(&t[1])
        };
        pair(
            c,
            s,
            "rms_norm forward",
            || rms_norm::forward(env, &x, &norm, 1e-5),
            || plain(&[x.clone(), norm.clone()]),
        );
        pair(
            c,
            s,
            "rms_norm forward, backward",
            || {
                let y = rms_norm::forward(env, &x, &norm, 1e-5).expect("a forward");
                rms_norm::backward(y, &x, &norm, 1e-5, Some(&grad), None)
            },
            || graph(&[&x, &norm], plain),
        );

        let plain = |t: &[Tensor]| t[0].silu()? * &t[1];
        pair(
            c,
            s,
            "swiglu forward",
            || swiglu::forward(env, &gate, &dy),
            || plain(&[gate.clone(), dy.clone()]),
        );
        pair(
            c,
            s,
            "swiglu forward, backward",
            || {
                let y = swiglu::forward(env, &gate, &dy).expect("a forward");
                // The backward works in place: copies keep the input the same.
                let (g, u) = (gate.copy().expect("a copy"), dy.copy().expect("a copy"));
                swiglu::backward(&y, &g, &u)
            },
            || graph(&[&gate, &dy], plain),
        );
    }
}

fn heads(c: &mut Criterion) {
    let env = &Env::cpu();
    for s in SHAPES {
        let head_dim = s.dim / s.heads;
        let q = random(env, 5, &[s.batch, s.ctx, s.heads, head_dim]);
        let [k, v] = [6, 7].map(|seed| random(env, seed, &[s.batch, s.ctx, s.kv_heads, head_dim]));
        let offsets = vec![0; s.batch];
        let spec = attention::Spec {
            scale: 0.125,
            offsets: &offsets,
            window: None,
            doc_starts: None,
            key_rows: None,
        };
        let mask: Vec<f32> = (0..s.ctx * s.ctx)
            .map(|i| {
                if i % s.ctx > i / s.ctx {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = from_vec(mask, &[1, 1, s.ctx, s.ctx], env).expect("a mask");
        let group = s.heads / s.kv_heads;
        let plain = |t: &[Tensor]| {
            let heads = |x: &Tensor| x.transpose(1, 2)?.contiguous();
            let repeat = |x: &Tensor| -> CandleResult<Tensor> {
                let (b, kv, n, d) = x.dims4()?;
                x.unsqueeze(2)?
                    .expand((b, kv, group, n, d))?
                    .reshape((b, kv * group, n, d))
            };
            let (q, k, v) = (
                heads(&t[0])?,
                repeat(&heads(&t[1])?)?,
                repeat(&heads(&t[2])?)?,
            );
            let scores = (q.matmul(&k.t()?)? * 0.125)?.broadcast_add(&mask)?;
            softmax(&scores, D::Minus1)?.matmul(&v)
        };
        pair(
            c,
            s,
            "attention forward",
            || attention::forward(env, &q, &k, &v, &spec),
            || plain(&[q.clone(), k.clone(), v.clone()]),
        );
        pair(
            c,
            s,
            "attention forward, backward",
            || {
                let (o, lse) = attention::forward(env, &q, &k, &v, &spec).expect("a forward");
                attention::backward(env, &q, [&q, &k, &v], (&o, &lse), &spec)
            },
            || graph(&[&q, &k, &v], plain),
        );

        let positions: Vec<u32> = (0..s.batch * s.ctx).map(|i| (i % s.ctx) as u32).collect();
        let table = rope::Table::new(env, &vec![0.1; head_dim / 2], 1.0, s.ctx).expect("a table");
        let angles = random(env, 8, &[1, s.ctx, 1, head_dim / 2]);
        let (cos, sin) = (angles.cos().expect("cos"), angles.sin().expect("sin"));
        let plain = |t: &[Tensor]| {
            let low = t[0].narrow(3, 0, head_dim / 2)?;
            let high = t[0].narrow(3, head_dim / 2, head_dim / 2)?;
            let a = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
            let b = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
            Tensor::cat(&[a, b], 3)
        };
        pair(
            c,
            s,
            "rope forward",
            || rope::rope(&q, &positions, &table),
            || plain(std::slice::from_ref(&q)),
        );
        pair(
            c,
            s,
            "rope forward, backward",
            || {
                rope::rope(&q, &positions, &table).expect("a forward");
                rope::rope_transposed(&q, &positions, &table)
            },
            || graph(&[&q], plain),
        );
    }
}

fn ends(c: &mut Criterion) {
    let env = &Env::cpu();
    for s in SHAPES {
        let rows = s.batch * s.ctx;
        let x = random(env, 1, &[rows, s.dim]);
        let table = random(env, 10, &[s.vocab, s.dim]);
        let grad = zeros(&[s.vocab, s.dim], env).expect("zeros");
        let ids: Vec<u32> = (0..rows as u32).map(|i| i * 7 % s.vocab as u32).collect();
        let index = Tensor::new(ids.as_slice(), &Device::Cpu).expect("ids");
        let plain = |t: &[Tensor]| t[0].index_select(&index, 0);
        pair(
            c,
            s,
            "embedding forward",
            || embedding::forward(env, &table, &ids, s.batch),
            || plain(std::slice::from_ref(&table)),
        );
        pair(
            c,
            s,
            "embedding forward, backward",
            || {
                embedding::forward(env, &table, &ids, s.batch).expect("a forward");
                embedding::backward(&x, &ids, &grad)
            },
            || graph(&[&table], plain),
        );

        let weights = vec![1f32; rows];
        let targets = cross_entropy::Targets {
            ids: &ids,
            weights: &weights,
            normaliser: rows as f64,
        };
        pair(
            c,
            s,
            "head and cross_entropy forward, backward",
            || cross_entropy::forward_backward(env, &x, &table, targets, Some(&grad)),
            || {
                graph(&[&x, &table], |t| {
                    loss::cross_entropy(&t[0].matmul(&t[1].t()?)?, &index)
                });
            },
        );

        let moments = [0, 1].map(|_| zeros(&[s.vocab, s.dim], env).expect("zeros"));
        let step = adamw::Step {
            lr: 1e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 1,
            grad_scale: 1.0,
        };
        let var = Var::from_tensor(&table).expect("a variable");
        let params = ParamsAdamW::default();
        let mut candle = AdamW::new(vec![var.clone()], params).expect("an optimizer");
        let sum = var.as_tensor().sum_all().expect("a sum");
        let grads = sum.backward().expect("gradients");
        pair(
            c,
            s,
            "adamw",
            || adamw::step(&table, &grad, [&moments[0], &moments[1]], &step),
            || candle.step(&grads),
        );
    }
}

criterion_group!(benches, layers, heads, ends);
criterion_main!(benches);

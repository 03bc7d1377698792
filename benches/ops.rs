//! Every op, forward and backward, at the shape of a small model (dim 256, 4 heads, ff 768, vocabulary
//! 4,096; 2,048 tokens): `cargo bench --bench ops`.
use candle_core::Tensor;
use criterion::{Criterion, criterion_group, criterion_main};
use harness::ops::{
    Env, adamw, attention, cross_entropy, embedding, from_vec, linear, rms_norm, rope, swiglu,
    zeros,
};
use rand::{RngExt, SeedableRng};

const TOKENS: usize = 2048;
const DIM: usize = 256;
const HEADS: usize = 4;
const FF: usize = 768;
const VOCAB: usize = 4096;

fn random(env: &Env, seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| rng.random::<f32>() - 0.5).collect();
    from_vec(values, shape, env).expect("a tensor of this shape")
}

fn all(c: &mut Criterion) {
    let env = &Env::cpu();
    let x = random(env, 1, &[1, TOKENS, DIM]);
    let wide = random(env, 2, &[1, TOKENS, FF]);
    let weight = random(env, 3, &[FF, DIM]);
    let grad = zeros(&[FF, DIM], env).expect("zeros");
    let norm = random(env, 4, &[DIM]);
    let norm_grad = zeros(&[DIM], env).expect("zeros");
    let heads = [1, TOKENS, HEADS, DIM / HEADS];
    let [q, k, v] = [5, 6, 7].map(|seed| random(env, seed, &heads));
    let spec = attention::Spec {
        scale: 0.125,
        offsets: &[0],
        window: None,
        doc_starts: None,
    };
    let output = attention::forward(env, &q, &k, &v, &spec).expect("attention");
    let ids: Vec<u32> = (0..TOKENS as u32).map(|i| i * 7 % VOCAB as u32).collect();
    let table = random(env, 8, &[VOCAB, DIM]);
    let table_grad = zeros(&[VOCAB, DIM], env).expect("zeros");
    let positions: Vec<u32> = (0..TOKENS as u32).collect();
    let angles = rope::Table::new(env, &[0.1; DIM / HEADS / 2], 1.0, TOKENS).expect("a table");
    let weights = vec![1f32; TOKENS];
    let targets = cross_entropy::Targets {
        ids: &ids,
        weights: &weights,
        normaliser: TOKENS as f64,
    };
    let moments = [zeros(&[VOCAB, DIM], env), zeros(&[VOCAB, DIM], env)].map(|m| m.expect("zeros"));
    let step = adamw::Step {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        grad_scale: 1.0,
    };
    c.bench_function("linear forward", |b| {
        b.iter(|| linear::forward(env, &x, &weight))
    });
    c.bench_function("linear backward", |b| {
        b.iter(|| {
            linear::backward_input(env, &wide, &weight, None)?;
            linear::backward_weight(env, &wide, &x, Some(grad.clone()))
        });
    });
    c.bench_function("rms_norm forward", |b| {
        b.iter(|| rms_norm::forward(env, &x, &norm, 1e-5))
    });
    c.bench_function("rms_norm backward", |b| {
        b.iter(|| rms_norm::backward(env, &x, &x, &norm, 1e-5, Some(&norm_grad)));
    });
    c.bench_function("rope", |b| b.iter(|| rope::rope(&q, &positions, &angles)));
    c.bench_function("attention forward", |b| {
        b.iter(|| attention::forward(env, &q, &k, &v, &spec));
    });
    c.bench_function("attention backward", |b| {
        b.iter(|| attention::backward(env, &q, [&q, &k, &v], (&output.0, &output.1), &spec));
    });
    c.bench_function("swiglu forward", |b| {
        b.iter(|| swiglu::forward(env, &wide, &wide))
    });
    c.bench_function("swiglu backward", |b| {
        b.iter(|| swiglu::backward(env, &wide, &wide, &wide))
    });
    c.bench_function("embedding forward", |b| {
        b.iter(|| embedding::forward(env, &table, &ids, 1))
    });
    c.bench_function("embedding backward", |b| {
        b.iter(|| embedding::backward(&x, &ids, &table_grad));
    });
    c.bench_function("cross_entropy forward and backward", |b| {
        b.iter(|| cross_entropy::forward_backward(env, &x, &table, targets, Some(&table_grad)));
    });
    c.bench_function("adamw", |b| {
        b.iter(|| adamw::step(&table, &table_grad, [&moments[0], &moments[1]], &step));
    });
}

criterion_group!(benches, all);
criterion_main!(benches);

use super::*;
use crate::ops::testing::{check_gradient, norm_error, normal, wide};
use crate::ops::{Env, Result, from_vec, to_vec};

/// Starts of documents of these lengths, for one row; the last takes what is left.
fn starts(lengths: &[usize], tokens: usize) -> Vec<u32> {
    let mut out = Vec::new();
    for &n in lengths {
        let start = out.len() as u32;
        out.extend(std::iter::repeat_n(start, n));
    }
    let start = out.len() as u32;
    out.resize(tokens, start);
    out
}

#[test]
fn plain_backward_agrees_with_finite_differences() {
    let shape = Shape {
        batch: 1,
        queries: 5,
        keys: 7,
        heads: 4,
        kv_heads: 2,
        head_dim: 3,
    };
    let docs = [0, 0, 1, 4, 5];
    let spec = Spec {
        scale: 0.5,
        offsets: &[2],
        window: Some(4),
        doc_starts: Some(&docs),
        key_rows: None,
    };
    let q = wide(&normal(1, 5 * 4 * 3));
    let (k, v) = (wide(&normal(2, 7 * 2 * 3)), wide(&normal(3, 7 * 2 * 3)));
    let d = wide(&normal(4, q.len()));
    let loss = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
        let (o, _) = plain::forward(q, k, v, shape, &spec);
        o.iter().zip(&d).map(|(o, d)| o * d).sum()
    };
    let (dq, dk, dv) = plain::backward(&d, [&q, &k, &v], shape, &spec);
    check_gradient(&q, &dq, |q| loss(q, &k, &v));
    check_gradient(&k, &dk, |k| loss(&q, k, &v));
    check_gradient(&v, &dv, |v| loss(&q, &k, v));
}

#[test]
fn tiles_agree_with_plain() -> Result<()> {
    let env = Env::cpu();
    let one_token = starts(&[1, 1, 130, 1, 64], 300);
    let two_rows: Vec<u32> = [starts(&[7, 1], 129), starts(&[100], 129)].concat();
    let cases = [
        (
            1,
            300,
            300,
            4,
            2,
            16,
            vec![0],
            None,
            Some(one_token.clone()),
        ),
        (2, 129, 129, 3, 3, 8, vec![0, 0], Some(50), Some(two_rows)),
        (2, 33, 290, 2, 1, 32, vec![257, 100], None, None),
        (1, 257, 257, 2, 2, 4, vec![0], Some(1), None),
        (1, 300, 300, 6, 2, 8, vec![0], Some(140), Some(one_token)),
    ];
    for (batch, queries, keys, heads, kv_heads, head_dim, offsets, window, docs) in cases {
        let shape = Shape {
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            head_dim,
        };
        let spec = Spec {
            scale: 1.0 / (head_dim as f32).sqrt(),
            offsets: &offsets,
            window,
            doc_starts: docs.as_deref(),
            key_rows: None,
        };
        let q = normal(1, batch * queries * heads * head_dim);
        let k = normal(2, batch * keys * kv_heads * head_dim);
        let v = normal(3, k.len());
        let d = normal(4, q.len());
        let q_shape = [batch, queries, heads, head_dim];
        let k_shape = [batch, keys, kv_heads, head_dim];
        let (qt, dt) = (
            from_vec(q.clone(), &q_shape, &env)?,
            from_vec(d.clone(), &q_shape, &env)?,
        );
        let (kt, vt) = (
            from_vec(k.clone(), &k_shape, &env)?,
            from_vec(v.clone(), &k_shape, &env)?,
        );
        let (o, lse) = forward(&env, &qt, &kt, &vt, &spec)?;
        let (wide_q, wide_k, wide_v) = (wide(&q), wide(&k), wide(&v));
        let (want_o, want_lse) = plain::forward(&wide_q, &wide_k, &wide_v, shape, &spec);
        assert!(norm_error(&to_vec(&o)?, &want_o) < 1e-5, "{shape:?}");
        assert!(norm_error(&to_vec(&lse)?, &want_lse) < 1e-5, "{shape:?}");
        let (dq, dk, dv) = backward(&env, &dt, [&qt, &kt, &vt], (&o, &lse), &spec)?;
        let (want_dq, want_dk, want_dv) =
            plain::backward(&wide(&d), [&wide_q, &wide_k, &wide_v], shape, &spec);
        for (name, got, want) in [
            ("dq", dq, want_dq),
            ("dk", dk, want_dk),
            ("dv", dv, want_dv),
        ] {
            let got = to_vec::<f32>(&got)?;
            let norm: f64 = want.iter().map(|x| x * x).sum();
            if norm < 1e-12 {
                // A window of one key: the logits have no gradient.
                assert!(got.iter().all(|g| g.abs() < 1e-5), "{name} {shape:?}");
            } else {
                let error = norm_error(&got, &want);
                assert!(error < 1e-5, "{name}: {error:e} for {shape:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_query_does_not_depend_on_chunks_or_capacity() -> Result<()> {
    let env = Env::cpu();
    let (tokens, heads, dim) = (300, 2, 16);
    let q = normal(1, tokens * heads * dim);
    let (k, v) = (normal(2, q.len()), normal(3, q.len()));
    let row = heads * dim;
    // Keys lie in a cache that is larger than what has been written.
    let run = |from: usize, to: usize, capacity: usize| -> Result<Vec<f32>> {
        let padded = |x: &[f32]| {
            let mut x = x[..to * row].to_vec();
            x.resize(capacity * row, 7.0);
            from_vec(x, &[1, capacity, heads, dim], &env)
        };
        let q = from_vec(
            q[from * row..to * row].to_vec(),
            &[1, to - from, heads, dim],
            &env,
        )?;
        let spec = Spec {
            scale: 0.25,
            offsets: &[from],
            window: None,
            doc_starts: None,
            key_rows: None,
        };
        to_vec(&forward(&env, &q, &padded(&k)?, &padded(&v)?, &spec)?.0)
    };
    let whole = run(0, tokens, tokens)?;
    for (from, to, capacity) in [
        (0, 1, 1),
        (0, 130, 130),
        (130, 131, 512),
        (131, 290, 300),
        (299, 300, 310),
    ] {
        assert_eq!(
            run(from, to, capacity)?,
            whole[from * row..to * row],
            "{from}..{to} in {capacity}"
        );
    }
    Ok(())
}

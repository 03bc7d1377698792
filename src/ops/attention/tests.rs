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
        // A last key tile of one key.
        (0, 129, 129),
        (128, 129, 129),
        (100, 257, 257),
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

/// A few queries of grouped heads over rows of a cache give what the same queries give among many, with a
/// window, documents and a head dimension that no vector divides.
#[test]
fn a_few_queries_over_rows_of_a_cache_are_as_among_many() -> Result<()> {
    let env = Env::cpu();
    let (tokens, heads, kv_heads, dim, rows) = (290, 6, 2, 20, 3);
    let q = normal(1, tokens * heads * dim);
    let k = normal(2, rows * tokens * kv_heads * dim);
    let v = normal(3, k.len());
    let cache_shape = [rows, tokens, kv_heads, dim];
    let (kt, vt) = (
        from_vec(k.clone(), &cache_shape, &env)?,
        from_vec(v, &cache_shape, &env)?,
    );
    let docs = starts(&[100, 33], tokens);
    let run = |from: usize, n: usize, key_row: usize| -> Result<(Vec<f32>, Vec<f32>)> {
        let part = q[from * heads * dim..(from + n) * heads * dim].to_vec();
        let q = from_vec(part, &[1, n, heads, dim], &env)?;
        let spec = Spec {
            scale: 0.3,
            offsets: &[from],
            window: Some(150),
            doc_starts: Some(&docs[from..from + n]),
            key_rows: Some(&[key_row]),
        };
        let (o, lse) = forward(&env, &q, &kt, &vt, &spec)?;
        Ok((to_vec(&o)?, to_vec(&lse)?))
    };
    for key_row in 0..rows {
        let (o, lse) = run(0, tokens, key_row)?;
        for (from, n) in [(0, 1), (5, 12), (99, 3), (127, 2), (250, 7), (289, 1)] {
            let (few_o, few_lse) = run(from, n, key_row)?;
            assert_eq!(few_o, o[from * heads * dim..(from + n) * heads * dim]);
            assert_eq!(few_lse, lse[from * heads..(from + n) * heads]);
        }
    }
    assert_ne!(run(200, 1, 0)?, run(200, 1, 2)?);
    Ok(())
}

/// Whole strips of queries that see no key of a tile, between others that do, and queries that see none at all.
#[test]
fn queries_that_see_nothing_have_no_output_and_no_gradient() -> Result<()> {
    let env = Env::cpu();
    let (tokens, dim) = (200, 8);
    let shape = Shape {
        batch: 1,
        queries: tokens,
        keys: tokens,
        heads: 1,
        kv_heads: 1,
        head_dim: dim,
    };
    // Documents that begin after their own tokens: nothing is left to see.
    let blind = |i: usize| (40..100).contains(&i);
    let docs: Vec<u32> = (0..tokens)
        .map(|i| if blind(i) { 199 } else { 0 })
        .collect();
    let spec = Spec {
        scale: 0.5,
        offsets: &[0],
        window: None,
        doc_starts: Some(&docs),
        key_rows: None,
    };
    let [q, k, v, d] = [1, 2, 3, 4].map(|seed| normal(seed, tokens * dim));
    let [qt, kt, vt, dt] =
        [&q, &k, &v, &d].map(|x| from_vec(x.clone(), &[1, tokens, 1, dim], &env).unwrap());
    let (o, lse) = forward(&env, &qt, &kt, &vt, &spec)?;
    let o_values = to_vec::<f32>(&o)?;
    for i in 40..100 {
        assert!(o_values[i * dim..(i + 1) * dim].iter().all(|&x| x == 0.0));
    }
    // Fill the scratch of this thread with another call's numbers first.
    backward(&env, &qt, [&kt, &vt, &qt], (&o, &lse), &spec)?;
    let (dq, dk, dv) = backward(&env, &dt, [&qt, &kt, &vt], (&o, &lse), &spec)?;
    let (wq, wk, wv) = (wide(&q), wide(&k), wide(&v));
    let (want_dq, want_dk, want_dv) = plain::backward(&wide(&d), [&wq, &wk, &wv], shape, &spec);
    for (got, want) in [(dq, want_dq), (dk, want_dk), (dv, want_dv)] {
        assert!(norm_error(&to_vec(&got)?, &want) < 1e-5);
    }
    Ok(())
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let env = Env::cpu();
    let shape = [1, 700, 2, 16];
    let [q, k, v, d] =
        [1, 2, 3, 4].map(|seed| from_vec(normal(seed, 700 * 32), &shape, &env).unwrap());
    let spec = Spec {
        scale: 0.25,
        offsets: &[0],
        window: None,
        doc_starts: None,
        key_rows: None,
    };
    let run = |threads: usize| -> Result<[Vec<f32>; 3]> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            let (o, lse) = forward(&env, &q, &k, &v, &spec)?;
            let (dq, dk, dv) = backward(&env, &d, [&q, &k, &v], (&o, &lse), &spec)?;
            Ok([to_vec(&dq)?, to_vec(&dk)?, to_vec(&dv)?])
        })
    };
    let one = run(1)?;
    for threads in [2, 3, 8] {
        assert_eq!(run(threads)?, one, "{threads} threads");
    }
    Ok(())
}

//! The linear layer `y = x · weightᵀ`, `weight` as `[out_features, in_features]`.
use super::{
    Env, Error, Result, from_vec,
    product::{Dims, Matrix, new_product, product},
    update, view,
};
use candle_core::{D, Tensor};
use num_traits::Float;

/// `x` (`[.., in]`) times the transpose of `weight` (`[out, in]`): `[.., out]`.
///
/// A row's result does not depend on the number of rows.
pub fn forward(env: &Env, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (out_features, in_features) = weight.dims2()?;
    let (rows, mut shape) = rows_of(x, in_features)?;
    let (xs, w) = (view::<f32>(x)?, view::<f32>(weight)?);
    let dims = Dims {
        rows,
        cols: out_features,
        depth: in_features,
    };
    let b = Matrix::rows(&w, in_features).transposed();
    let y = new_product(dims, Matrix::rows(&xs, in_features), b);
    if let Some(last) = shape.last_mut() {
        *last = out_features;
    }
    from_vec(y, &shape, env)
}

fn rows_of(x: &Tensor, features: usize) -> Result<(usize, Vec<usize>)> {
    let shape = x.dims().to_vec();
    if shape.last() != Some(&features) {
        return Err(Error::Shape {
            op: "linear",
            what: format!("input {shape:?} for a layer of {features} features"),
        });
    }
    Ok((x.elem_count() / features.max(1), shape))
}

/// Gradient of [`forward`] by `x`. Where `x_grad` is given it is added to it and nothing new is made.
pub fn backward_input(
    env: &Env,
    dy: &Tensor,
    weight: &Tensor,
    x_grad: Option<Tensor>,
) -> Result<Tensor> {
    let (out_features, in_features) = weight.dims2()?;
    let (rows, mut shape) = rows_of(dy, out_features)?;
    let (dys, w) = (view::<f32>(dy)?, view::<f32>(weight)?);
    let dims = Dims {
        rows,
        cols: in_features,
        depth: out_features,
    };
    let dy_matrix = Matrix::rows(&dys, out_features);
    let w_matrix = Matrix::rows(&w, in_features);
    match x_grad {
        Some(dx) => {
            update(&dx, |dx| product(dx, dims, dy_matrix, w_matrix, true))?;
            Ok(dx)
        }
        None => {
            if let Some(last) = shape.last_mut() {
                *last = in_features;
            }
            from_vec(new_product(dims, dy_matrix, w_matrix), &shape, env)
        }
    }
}

/// Gradient of [`forward`] by the weight, `[out, in]`. Where `weight_grad` is given it is added to it and
/// nothing new is made.
pub fn backward_weight(
    env: &Env,
    dy: &Tensor,
    x: &Tensor,
    weight_grad: Option<Tensor>,
) -> Result<Tensor> {
    let (out_features, in_features) = (dy.dim(D::Minus1)?, x.dim(D::Minus1)?);
    let (rows, _) = rows_of(x, in_features)?;
    let (dys, xs) = (view::<f32>(dy)?, view::<f32>(x)?);
    let dims = Dims {
        rows: out_features,
        cols: in_features,
        depth: rows,
    };
    let dy_matrix = Matrix::rows(&dys, out_features).transposed();
    let x_matrix = Matrix::rows(&xs, in_features);
    match weight_grad {
        Some(grad) => {
            update(&grad, |grad| {
                product(grad, dims, dy_matrix, x_matrix, true);
            })?;
            Ok(grad)
        }
        None => from_vec(
            new_product(dims, dy_matrix, x_matrix),
            &[out_features, in_features],
            env,
        ),
    }
}

/// Plain version of [`forward`].
pub fn plain_forward<T: Float>(x: &[T], weight: &[T], in_features: usize) -> Vec<T> {
    let mut y = Vec::new();
    for row in x.chunks_exact(in_features) {
        for w in weight.chunks_exact(in_features) {
            y.push(
                row.iter()
                    .zip(w)
                    .fold(T::zero(), |sum, (&x, &w)| sum + x * w),
            );
        }
    }
    y
}

/// Plain version of [`backward_input`] and [`backward_weight`]: (dx, dweight).
pub fn plain_backward<T: Float>(
    dy: &[T],
    x: &[T],
    weight: &[T],
    in_features: usize,
) -> (Vec<T>, Vec<T>) {
    let out_features = weight.len() / in_features;
    let mut dx = vec![T::zero(); x.len()];
    let mut dw = vec![T::zero(); weight.len()];
    for r in 0..x.len() / in_features {
        for o in 0..out_features {
            let d = dy[r * out_features + o];
            for i in 0..in_features {
                let (xi, wi) = (r * in_features + i, o * in_features + i);
                dx[xi] = dx[xi] + d * weight[wi];
                dw[wi] = dw[wi] + d * x[xi];
            }
        }
    }
    (dx, dw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradient, norm_error, normal, wide};
    use crate::ops::to_vec;

    #[test]
    fn plain_backward_agrees_with_finite_differences() {
        let (x, w, dy) = (
            wide(&normal(1, 15)),
            wide(&normal(2, 20)),
            wide(&normal(3, 12)),
        );
        let loss = |x: &[f64], w: &[f64]| -> f64 {
            plain_forward(x, w, 5)
                .iter()
                .zip(&dy)
                .map(|(y, d)| y * d)
                .sum()
        };
        let (dx, dw) = plain_backward(&dy, &x, &w, 5);
        check_gradient(&x, &dx, |x| loss(x, &w));
        check_gradient(&w, &dw, |w| loss(&x, w));
    }

    #[test]
    fn fast_agrees_with_plain() -> Result<()> {
        let env = Env::cpu();
        for (rows, inner, out) in [(1, 40, 24), (77, 65, 33), (300, 40, 96)] {
            let (x, w, dy) = (
                normal(1, rows * inner),
                normal(2, out * inner),
                normal(3, rows * out),
            );
            let xt = from_vec(x.clone(), &[rows, inner], &env)?;
            let wt = from_vec(w.clone(), &[out, inner], &env)?;
            let dyt = from_vec(dy.clone(), &[rows, out], &env)?;
            let y = forward(&env, &xt, &wt)?;
            let want = plain_forward(&wide(&x), &wide(&w), inner);
            assert!(norm_error(&to_vec(&y)?, &want) < 1e-6);
            let dx = backward_input(&env, &dyt, &wt, None)?;
            let grad = backward_weight(&env, &dyt, &xt, None)?;
            let (want_dx, want_dw) = plain_backward(&wide(&dy), &wide(&x), &wide(&w), inner);
            assert!(norm_error(&to_vec(&dx)?, &want_dx) < 1e-6);
            assert!(norm_error(&to_vec(&grad)?, &want_dw) < 1e-6);
            let dx = backward_input(&env, &dyt, &wt, Some(dx))?;
            let grad = backward_weight(&env, &dyt, &xt, Some(grad))?;
            let twice: Vec<f64> = want_dw.iter().map(|d| 2.0 * d).collect();
            assert!(norm_error(&to_vec(&grad)?, &twice) < 1e-6);
            let twice: Vec<f64> = want_dx.iter().map(|d| 2.0 * d).collect();
            assert!(norm_error(&to_vec(&dx)?, &twice) < 1e-6);
        }
        Ok(())
    }
}

//! Turning a matrix over, in blocks whose cache lines are used whole.

/// Rows and columns of a block.
const BLOCK: usize = 8;

/// `to[d * to_stride + c] = from[d + c * from_stride]` for `depth` values of d and `cols` of c.
pub fn transpose(
    to: &mut [f32],
    to_stride: usize,
    from: &[f32],
    from_stride: usize,
    depth: usize,
    cols: usize,
) {
    if depth == 0 || cols == 0 {
        return;
    }
    assert!((depth - 1) * to_stride + cols <= to.len());
    assert!((cols - 1) * from_stride + depth <= from.len());
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        // Rows of blocks along the depth: sixteen floats in a row of `from` are one cache line.
        for c in (0..cols / BLOCK * BLOCK).step_by(BLOCK) {
            for d in (0..depth / BLOCK * BLOCK).step_by(BLOCK) {
                // SAFETY: the machine has AVX, and the block lies inside both, by the assertions above.
                unsafe {
                    block_avx(
                        to.as_mut_ptr().add(d * to_stride + c),
                        to_stride,
                        from.as_ptr().add(d + c * from_stride),
                        from_stride,
                    );
                }
            }
        }
        // The edges that whole blocks leave.
        let (d0, c0) = (depth / BLOCK * BLOCK, cols / BLOCK * BLOCK);
        plain(to, to_stride, from, from_stride, [d0..depth, 0..c0]);
        plain(to, to_stride, from, from_stride, [0..depth, c0..cols]);
        return;
    }
    plain(to, to_stride, from, from_stride, [0..depth, 0..cols]);
}

fn plain(
    to: &mut [f32],
    to_stride: usize,
    from: &[f32],
    from_stride: usize,
    [depth, cols]: [std::ops::Range<usize>; 2],
) {
    for d in depth {
        for c in cols.clone() {
            to[d * to_stride + c] = from[d + c * from_stride];
        }
    }
}

/// One block of 8 × 8.
///
/// # Safety
/// `from` must be valid for 8 rows of 8 elements, `from_stride` apart, and `to` likewise.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn block_avx(to: *mut f32, to_stride: usize, from: *const f32, from_stride: usize) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    // SAFETY: the caller's promise.
    let r: [_; BLOCK] =
        std::array::from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * from_stride)) });
    let pairs: [_; BLOCK] = std::array::from_fn(|i| match i % 2 {
        0 => _mm256_unpacklo_ps(r[i], r[i + 1]),
        _ => _mm256_unpackhi_ps(r[i - 1], r[i]),
    });
    let fours: [_; BLOCK] = std::array::from_fn(|i| {
        let at = i / 4 * 4 + i % 4 / 2;
        let (a, b) = (pairs[at], pairs[at + 2]);
        match i % 2 {
            0 => _mm256_shuffle_ps::<0x44>(a, b),
            _ => _mm256_shuffle_ps::<0xee>(a, b),
        }
    });
    for i in 0..4 {
        let low = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
        let high = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_ps(to.add(i * to_stride), low);
            _mm256_storeu_ps(to.add((i + 4) * to_stride), high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_comes_to_its_place() {
        for (depth, cols) in [(1, 1), (8, 8), (7, 9), (16, 64), (37, 29), (3, 40)] {
            let (from_stride, to_stride) = (depth + 3, cols + 5);
            let from: Vec<f32> = (0..cols * from_stride).map(|i| i as f32).collect();
            let mut to = vec![-1f32; depth * to_stride];
            transpose(&mut to, to_stride, &from, from_stride, depth, cols);
            for d in 0..depth {
                for c in 0..to_stride {
                    let want = if c < cols {
                        from[d + c * from_stride]
                    } else {
                        -1.0
                    };
                    assert_eq!(to[d * to_stride + c], want, "{depth} x {cols}: {d}, {c}");
                }
            }
        }
    }
}

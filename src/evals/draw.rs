//! Seeded draws of an item.
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A random stream with a name of its own: the same draws wherever and whenever it is asked.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of a name, which says what is drawn and under which seed.
    pub fn new(name: &str) -> Self {
        Draw(ChaCha8Rng::from_seed(
            *blake3::hash(name.as_bytes()).as_bytes(),
        ))
    }

    /// A number below `n`, which is 1 or more. 2⁶⁴ is no multiple of `n`; the bias is below n/2⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// One of a list that is not empty.
    pub fn one<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// Puts a list into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }

    /// `k` different numbers below `n` in random order; all of them where `k` is more.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        let k = k.min(n);
        for i in 0..k {
            let other = i + self.below(n - i);
            all.swap(i, other);
        }
        all.truncate(k);
        all
    }

    /// A text of so many letters from `A` or `a` on.
    pub fn letters(&mut self, first: char, count: usize) -> String {
        let letter = |_| char::from(first as u8 + self.below(26) as u8);
        (0..count).map(letter).collect()
    }

    /// 16 random bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_distinct_and_uniform() {
        let mut draw = Draw::new("test");
        let mut counts = [0usize; 10];
        for _ in 0..5000 {
            let sample = draw.sample(10, 4);
            let distinct: std::collections::BTreeSet<usize> = sample.iter().copied().collect();
            assert_eq!(distinct.len(), 4);
            sample.iter().for_each(|&i| counts[i] += 1);
        }
        // 2,000 each, with a standard deviation of 35.
        assert!(counts.iter().all(|&n| n.abs_diff(2000) < 175), "{counts:?}");
        assert_eq!(draw.sample(3, 9).len(), 3);
    }

    #[test]
    fn a_shuffle_keeps_all_and_every_place_is_as_likely() {
        let mut counts = [[0usize; 4]; 4];
        for i in 0..4000 {
            let mut list = [0, 1, 2, 3];
            Draw::new(&format!("shuffle {i}")).shuffle(&mut list);
            list.iter()
                .enumerate()
                .for_each(|(at, &x)| counts[x][at] += 1);
        }
        // 1,000 each, with a standard deviation of 27.
        assert!(
            counts.iter().flatten().all(|&n| n.abs_diff(1000) < 137),
            "{counts:?}"
        );
    }

    #[test]
    fn a_name_gives_the_same_draws_again() {
        let draws = |name: &str| Draw::new(name).letters('a', 20);
        assert_eq!(draws("x"), draws("x"));
        assert_ne!(draws("x"), draws("y"));
        assert!(draws("x").bytes().all(|b| b.is_ascii_lowercase()));
    }
}

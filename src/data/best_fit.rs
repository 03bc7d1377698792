//! Packing without cuts (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv 2404.10830).
use std::collections::BTreeSet;

/// Best-fit decreasing: the longest first, each into the fullest bin that has room for it. `lengths` are at
/// least 1 and at most `capacity`. Bins hold indices in ascending order, and come in the order of their last: so, when
/// only some of the first are used, what is left begins late, and is whole where it can be.
pub(super) fn best_fit(lengths: &[u64], capacity: u64) -> Vec<Vec<u32>> {
    let mut longest_first: Vec<u32> = (0..lengths.len() as u32).collect();
    longest_first.sort_by_key(|&i| std::cmp::Reverse(lengths[i as usize]));
    let mut bins: Vec<Vec<u32>> = Vec::new();
    // Room, and the bin that has it.
    let mut rooms: BTreeSet<(u64, u32)> = BTreeSet::new();
    for i in longest_first {
        let length = lengths[i as usize];
        let fits = rooms.range((length, 0)..).next().copied();
        let (room, bin) = fits.unwrap_or((capacity, bins.len() as u32));
        match fits {
            Some(fits) => {
                rooms.remove(&fits);
                bins[bin as usize].push(i);
            }
            None => bins.push(vec![i]),
        }
        if room > length {
            rooms.insert((room - length, bin));
        }
    }
    bins.iter_mut().for_each(|bin| bin.sort_unstable());
    bins.sort_unstable_by_key(|bin| bin[bin.len() - 1]);
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goes_into_the_fullest_bin_that_has_room() {
        // 6 | 5 | 4 goes to 6 (room 4), 4 to 5 (room 5), 1 to that (room 1), 3 to a new one, 2 to that.
        let bins = best_fit(&[3, 6, 4, 1, 5, 4, 2], 10);
        assert_eq!(bins, [vec![1, 2], vec![3, 4, 5], vec![0, 6]]);
    }

    /// Against the definition, bin by bin.
    #[test]
    fn agrees_with_a_search_through_all_bins() {
        let lengths: Vec<u64> = (0u64..500).map(|i| i * i * 7919 % 97 + 1).collect();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by(|&a, &b| lengths[b].cmp(&lengths[a]).then(a.cmp(&b)));
        let mut plain: Vec<(u64, Vec<u32>)> = Vec::new();
        for i in order {
            let fits = (0..plain.len()).filter(|&b| plain[b].0 >= lengths[i]);
            match fits.min_by_key(|&b| (plain[b].0, b)) {
                Some(b) => {
                    plain[b].0 -= lengths[i];
                    plain[b].1.push(i as u32);
                }
                None => plain.push((100 - lengths[i], vec![i as u32])),
            }
        }
        let mut plain: Vec<Vec<u32>> = plain.into_iter().map(|(_, bin)| bin).collect();
        plain.iter_mut().for_each(|bin| bin.sort_unstable());
        plain.sort_unstable_by_key(|bin| bin[bin.len() - 1]);
        assert_eq!(best_fit(&lengths, 100), plain);
    }
}

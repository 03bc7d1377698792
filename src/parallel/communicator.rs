//! How ranks exchange numbers. Sums are over the ranks in their order, so that every rank has the same
//! bytes whatever the threads' timing.
use crate::ops::{self, update, view};
use candle_core::Tensor;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What an exchange can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Op(#[from] ops::Error),
    #[error("another rank stopped before this exchange")]
    RankLost,
}

/// Result of an exchange.
pub type Result<T> = std::result::Result<T, Error>;

/// A group of ranks as one of them sees it.
#[derive(Debug, Clone)]
pub enum Communicator {
    /// One rank alone.
    Solo,
    /// A rank that is a thread of this process.
    Threads(Arc<Seat>),
}

/// A thread's place in its group. When the last handle on it is dropped, the others' waiting ends with
/// [`Error::RankLost`].
#[derive(Debug)]
pub struct Seat {
    rank: usize,
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What the ranks have laid down in this round.
    parts: Vec<Option<Arc<Vec<f32>>>>,
    laid: usize,
    taken: usize,
    gone: usize,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent at every point where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, done: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while !done(&state) {
            if state.gone > 0 {
                return Err(Error::RankLost);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.group.lock().gone += 1;
        self.group.changed.notify_all();
    }
}

impl Communicator {
    /// A group of `size` ranks as threads of this process: one handle a rank.
    pub fn threads(size: usize) -> Vec<Self> {
        let group = Arc::new(Group {
            size,
            state: Mutex::new(State {
                parts: vec![None; size],
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let seat = |rank| Seat {
            rank,
            group: Arc::clone(&group),
        };
        (0..size)
            .map(|rank| Communicator::Threads(Arc::new(seat(rank))))
            .collect()
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        match self {
            Communicator::Solo => 0,
            Communicator::Threads(seat) => seat.rank,
        }
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        match self {
            Communicator::Solo => 1,
            Communicator::Threads(seat) => seat.group.size,
        }
    }

    /// Every rank's part, in the order of the ranks.
    ///
    /// # Errors
    /// When another rank has stopped.
    pub fn gather(&self, part: Vec<f32>) -> Result<Vec<Arc<Vec<f32>>>> {
        let Communicator::Threads(seat) = self else {
            return Ok(vec![Arc::new(part)]);
        };
        let group = &seat.group;
        // The round before has to be over before a new part is laid down.
        let mut state = group.wait_until(|s| s.parts[seat.rank].is_none())?;
        state.parts[seat.rank] = Some(Arc::new(part));
        state.laid += 1;
        group.changed.notify_all();
        drop(state);
        let mut state = group.wait_until(|s| s.laid == group.size)?;
        let parts = state.parts.iter().flatten().cloned().collect();
        state.taken += 1;
        if state.taken == group.size {
            state.parts.fill(None);
            (state.laid, state.taken) = (0, 0);
        } else {
            drop(state);
            state = group.wait_until(|s| s.parts[seat.rank].is_none() || s.taken == 0)?;
        }
        drop(state);
        group.changed.notify_all();
        Ok(parts)
    }

    /// Replaces a contiguous f32 tensor by its sum over the ranks.
    pub fn sum(&self, tensor: &Tensor) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        let parts = self.gather(view::<f32>(tensor)?.to_vec())?;
        update(tensor, |all| {
            all.fill(0.0);
            for part in &parts {
                for (a, p) in all.iter_mut().zip(part.iter()) {
                    *a += p;
                }
            }
        })?;
        Ok(())
    }

    /// The sum of a number over the ranks.
    pub fn sum_number(&self, number: f64) -> Result<f64> {
        // Two f32 carry the 48 leading bits of the number.
        let high = number as f32;
        let low = (number - f64::from(high)) as f32;
        let parts = self.gather(vec![high, low])?;
        Ok(parts
            .iter()
            .map(|p| f64::from(p[0]) + f64::from(p[1]))
            .sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Env, from_vec, to_vec};

    #[test]
    fn many_rounds_between_threads() {
        let ranks = Communicator::threads(4);
        std::thread::scope(|scope| {
            for rank in ranks {
                scope.spawn(move || {
                    for round in 0..200u32 {
                        let mine = rank.rank() as f32 + round as f32;
                        let t = from_vec(vec![mine; 3], &[3], &Env::cpu()).unwrap();
                        rank.sum(&t).unwrap();
                        assert_eq!(to_vec::<f32>(&t).unwrap(), [6.0 + 4.0 * round as f32; 3]);
                        let sum = rank.sum_number(0.1).unwrap();
                        assert!((sum - 0.4).abs() < 1e-9);
                    }
                });
            }
        });
    }

    #[test]
    fn a_lost_rank_is_an_error_and_no_hang() {
        let mut ranks = Communicator::threads(2);
        drop(ranks.pop());
        assert!(matches!(ranks[0].gather(vec![1.0]), Err(Error::RankLost)));
    }
}

//! Ranks that train one model together, and what they exchange.
mod communicator;
pub mod context;

pub use communicator::{Communicator, Error, Result};

/// One rank's place: ranks of one context group share the tokens of a sequence, all ranks of the world
/// share the batch.
#[derive(Debug, Clone)]
pub struct Ranks {
    /// The ranks that hold parts of the same sequences.
    pub context: Communicator,
    /// All ranks: over these, gradients and losses are summed.
    pub world: Communicator,
}

impl Ranks {
    /// One rank that holds everything.
    pub fn solo() -> Self {
        Ranks {
            context: Communicator::Solo,
            world: Communicator::Solo,
        }
    }

    /// `data · context` ranks as threads of this process: rank r holds part `r % context` of the
    /// sequences of data group `r / context`.
    pub fn threads(data: usize, context: usize) -> Vec<Self> {
        let world = Communicator::threads(data * context);
        let groups: Vec<Communicator> = (0..data)
            .flat_map(|_| Communicator::threads(context))
            .collect();
        let pair = |(world, context)| Ranks { context, world };
        world.into_iter().zip(groups).map(pair).collect()
    }

    /// This rank's data group and the number of them.
    pub fn data(&self) -> (usize, usize) {
        let context = self.context.size();
        (self.world.rank() / context, self.world.size() / context)
    }
}

//! Work in transactions, and how it ends.

use crate::error::StoreError;

/// How a job's handlers are set apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Not at all: the first failure takes back the whole transaction. The fast path.
    Whole,
    /// Each by a point of its own, so that a failure takes back one effect only.
    Each,
}

/// Why a job cannot commit as it ran.
#[derive(Debug)]
pub enum Abort {
    /// A handler failed under [`Isolation::Whole`]: roll back, and run the job again under [`Isolation::Each`].
    Redo,
    /// The store failed: roll back.
    Store(StoreError),
}

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Something to be done in one transaction. May run several times, each time in a new transaction, of which one
/// commits.
#[expect(async_fn_in_trait, reason = "futures need not be Send: a transaction stays on the thread of its store")]
pub trait Job<Tx>: Send + 'static {
    /// What it gives once it has committed.
    type Output: Send + 'static;

    /// How many events it is about, for a store that puts several jobs into one transaction.
    fn weight(&self) -> usize {
        1
    }

    /// Whether it writes nothing, so that a store need not keep writers out.
    fn only_reads(&self) -> bool {
        false
    }

    /// Whether to run it once more, after it failed alone: it will leave out what it failed over. Asked after each such
    /// failure, until it says no.
    fn again(&mut self) -> bool {
        false
    }

    /// Has its next run do less, after what it did was more than one transaction of the store takes. False if there is
    /// nothing that it could leave to later.
    fn less(&mut self) -> bool {
        false
    }

    /// Does it.
    ///
    /// # Errors
    /// [`Abort`] says what has to happen instead of the commit.
    async fn run(&mut self, tx: &mut Tx, isolation: Isolation) -> Result<Self::Output, Abort>;
}

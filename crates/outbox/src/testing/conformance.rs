//! One suite per trait, which every backend passes.
//!
//! Each suite is a list of checks, one rule each, that get a fresh backend. Run them all by `all`, in a test of its own
//! on tokio's multi-threaded runtime, without pausing its time. A check that fails names itself, what it saw, and the
//! sentence of the contract that is broken:
//!
//! ```text
//! conformance check `a_replay_is_taken` failed: a replay arrives: no dedup id may swallow it …
//!   the contract says: Duplicates: an event may come again, with the same id; a replay publishes it again.
//! ```
//!
//! | trait | suite | works on |
//! |---|---|---|
//! | a writer | [`writer`] | [`WriterUnderTest`](super::WriterUnderTest) |
//! | [`Source`](crate::Source) | [`source`] | [`StoreUnderTest`](super::StoreUnderTest) |
//! | [`BusinessStore`](crate::BusinessStore) | [`business_store`] | [`StoreUnderTest`](super::StoreUnderTest) |
//! | [`Bookkeeping`](crate::Bookkeeping) | [`bookkeeping`] | [`BookkeepingUnderTest`](super::BookkeepingUnderTest) |
//! | [`Operator`](crate::Operator) | [`operator`] | [`BookkeepingUnderTest`](super::BookkeepingUnderTest) |
//! | [`Sink`](crate::Sink) | [`sink`] | [`SinkUnderTest`](super::SinkUnderTest) |
//! | `InboxStore` (feature `inbox`) | `inbox` | `inbox::InboxUnderTest` |
//!
//! Some checks need what not every backend can do, or what a test has to arrange. Each that is passed over, as a whole or in
//! part, is told in a line on stderr, whether the test passes or not; [`passed_over_by`] gives them instead:
//!
//! ```text
//! conformance check `a_lost_answer_is_uncertain` was passed over: no answer can be lost: offer `SinkUnderTest::lose_an_answer` if the target answers
//! ```
//!
//! Each suite's page has an example to start from, and `docs/backends.md` says what each check is for.

use std::{future::Future, panic::AssertUnwindSafe, pin::pin, task::Poll, time::Duration};

use futures_util::FutureExt;
use tokio::time::timeout;

/// Runs checks one after the other, each under its name and the sentence of the contract that it holds a backend to.
macro_rules! checks {
    ($($rule:literal => { $($check:ident($fresh:expr);)* })*) => {
        $($(
            let check = Box::pin(async { $check($fresh).await });
            $crate::testing::conformance::named(stringify!($check), $rule, check).await;
        )*)*
    };
}

pub mod bookkeeping;
pub mod business_store;
#[cfg(feature = "inbox")]
pub mod inbox;
pub mod operator;
mod passed_over;
pub mod sink;
pub mod source;
pub mod writer;

pub use passed_over::{PassedOver, passed_over_by};

use passed_over::{passed_over, under_its_name};

/// How long a backend may take for what has to happen in bounded time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a check gives somebody the chance to come first who may have to wait: it goes on in either case.
const CHANCE: Duration = Duration::from_millis(100);

/// How long a check may take as a whole: one that takes longer waits for something that does not come.
const LONGEST: Duration = Duration::from_secs(600);

/// After so many pages a reader of a few hundred entries gives up: none of them got it any further.
const READS: usize = 100_000;

/// How often a race is run.
const RACES: usize = 50;

/// After how many polls a call is dropped, at most.
const CUTS: usize = 8;

/// Panics with `rule` if `future` takes longer than any backend may.
async fn in_time<T>(rule: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(late) => panic!("{rule}: nothing happened within {PATIENCE:?}: {late}"),
    }
}

/// Polls `future` so many times at most, as fast as it can, then drops it: a caller that is gone.
async fn cut<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Runs a check; a panic says its name and the rule besides what it saw, and so does one that comes to no end.
#[doc(hidden)]
pub async fn named<T>(check: &str, rule: &str, run: impl Future<Output = T>) -> T {
    let run = AssertUnwindSafe(under_its_name(check, run)).catch_unwind();
    let Ok(ended) = timeout(LONGEST, run).await else {
        panic!("conformance check `{check}` came to no end within {LONGEST:?}\n  the contract says: {rule}")
    };
    match ended {
        Ok(output) => output,
        Err(panic) => {
            let seen = panic.downcast_ref::<String>().map(String::as_str);
            let seen = seen.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            panic!("conformance check `{check}` failed: {seen}\n  the contract says: {rule}")
        }
    }
}

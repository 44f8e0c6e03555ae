//! What a suite did not look at.

use std::{
    fmt,
    future::Future,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

/// A check that was passed over, as a whole or in part: that much is not proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The check; empty if it was run alone, past its suite.
    pub check: String,
    /// Why, and what the backend or its test would have to be able to do.
    pub why: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { check, why } if check.is_empty() => write!(f, "a conformance check was passed over: {why}"),
            Self { check, why } => write!(f, "conformance check `{check}` was passed over: {why}"),
        }
    }
}

tokio::task_local! {
    /// The check that is run.
    static CHECK: String;
    /// Where those are gathered that asked for it.
    static GATHERED: Arc<Mutex<Vec<PassedOver>>>;
}

/// Runs a suite, and gives what it passed over, which is printed otherwise. A test that knows what its backend can do says
/// so, lest a check be lost unnoticed:
///
/// ```
/// # use std::sync::Arc;
/// # use async_trait::async_trait;
/// # use outbox::{Sink, memory::MemorySink, testing::{Delivery, SinkUnderTest, conformance}};
/// # struct Target(Arc<MemorySink>);
/// # #[async_trait]
/// # impl SinkUnderTest for Target {
/// #     fn sink(&self) -> Arc<dyn Sink> {
/// #         self.0.clone()
/// #     }
/// #     async fn delivered(&self) -> Vec<Delivery> {
/// #         self.0.accepted().into_iter().map(Delivery::from).collect()
/// #     }
/// # }
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # let fresh = async || Target(Arc::new(MemorySink::default()));
/// let passed_over = conformance::passed_over_by(conformance::sink::all(fresh)).await;
/// let checks: Vec<_> = passed_over.iter().map(|one| one.check.as_str()).collect();
/// assert!(checks.contains(&"a_lost_answer_is_uncertain")); // there are no answers to lose in memory
/// # });
/// ```
pub async fn passed_over_by(suite: impl Future<Output = ()>) -> Vec<PassedOver> {
    let gathered = Arc::new(Mutex::new(Vec::new()));
    GATHERED.scope(gathered.clone(), suite).await;
    let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut gathered)
}

/// Runs `check` under its name.
pub(super) async fn under_its_name<T>(name: &str, check: impl Future<Output = T>) -> T {
    CHECK.scope(name.to_owned(), check).await
}

/// Says that the check that is run did not look at everything, or at nothing.
pub(super) fn passed_over(why: impl Into<String>) {
    let check = CHECK.try_with(Clone::clone).unwrap_or_default();
    let passed_over = PassedOver { check, why: why.into() };
    let told = GATHERED.try_with(|gathered| {
        gathered.lock().unwrap_or_else(PoisonError::into_inner).push(passed_over.clone());
    });
    if told.is_err() {
        // Written rather than printed: a test that passes would swallow what is printed. If nobody can read it, the
        // check is no less passed over.
        let _ = writeln!(std::io::stderr(), "{passed_over}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_passed_over_is_told_with_its_check_and_what_it_needs() {
        let suite = async {
            under_its_name("a_lost_answer_is_uncertain", async { passed_over("no answer can be lost") }).await;
        };
        let told: Vec<_> = passed_over_by(suite).await.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["conformance check `a_lost_answer_is_uncertain` was passed over: no answer can be lost"]);
    }
}

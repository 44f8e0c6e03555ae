//! When the sweeper looks at what.

use super::*;

/// Which sweeps of so many rounds looked at all lanes; `fails` says which round fails, each once.
async fn rounds(count: usize, mut fails: Vec<usize>) -> Vec<bool> {
    let swept = std::cell::RefCell::new(Vec::new());
    let every = Duration::from_secs(1);
    let enough = tokio::time::sleep(every * u32::try_from(count - 1).unwrap() + every / 2);
    sweep_on_timer(every, &Notify::new(), enough, |all| {
        swept.borrow_mut().push(all);
        let round = swept.borrow().len() - 1;
        let failed = fails.iter().position(|at| *at == round).map(|index| fails.remove(index)).is_some();
        async move {
            let error = StoreError::new(crate::error::ErrorKind::Unavailable, "busy");
            if failed { Err(error) } else { Ok(Swept::default()) }
        }
    })
    .await;
    swept.into_inner()
}

#[tokio::test(start_paused = true)]
async fn all_lanes_are_looked_at_at_the_start_and_again_after_thirty_rounds_of_those_that_are_due() {
    let swept = rounds(62, Vec::new()).await;
    let all: Vec<_> = (0..swept.len()).filter(|round| swept[*round]).collect();
    assert_eq!((swept.len(), all), (62, vec![0, 30, 60]));
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_all_lanes_that_failed_is_made_again() {
    assert_eq!(rounds(4, vec![0, 1]).await, [true, true, true, false]);
}

//! Ctrl-C in the middle of a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::{Clock as _, System};

use super::no_runtime;
use crate::{
    commands::stop::Stop,
    exit::{Exit, Failure},
};

/// What follows the first so soon is the same wish: a terminal and a `timeout` each send one to the whole process group.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Whether somebody wants the run to end. The first Ctrl-C, or SIGTERM, has it show what it found until then; one that
/// comes a second later, or after that, ends the process.
#[derive(Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on.
    ///
    /// # Errors
    /// [`Failure`] if signals cannot be awaited.
    pub(super) fn awaited() -> Result<Self, Failure> {
        let came = Arc::new(AtomicBool::new(false));
        let set = came.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|error| no_runtime(&error))?;
        let within = runtime.enter();
        let mut stop = Stop::new().map_err(|error| Failure::new("signals cannot be awaited").because(&error))?;
        drop(within);
        std::thread::spawn(move || {
            runtime.block_on(async {
                stop.signal().await;
                set.store(true, Ordering::Relaxed);
                let first = System.moment();
                stop.signal().await;
                while System.moment().since(first) < SAME_WISH {
                    stop.signal().await;
                }
                eprintln!("ended at once; what was found is not told");
                std::process::exit(Exit::Interrupted.code().into());
            });
        });
        Ok(Self(came))
    }

    /// Whether somebody does.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

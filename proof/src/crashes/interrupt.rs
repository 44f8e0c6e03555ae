//! Ctrl-C in the middle of a run, or SIGTERM: no process of it is left, and no folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::process::state;

/// The exit code of a run that was interrupted.
const INTERRUPTED: i32 = 130;

/// Between two looks for processes that are left.
const LOOK: Duration = Duration::from_millis(50);
/// So many looks in a row find none before all of them are gone: who just lost one may be starting another.
const QUIET: usize = 4;

/// From now on, a signal to end kills every process that this one started, removes `folder`, and ends this one.
///
/// # Errors
/// If signals cannot be awaited.
pub fn awaited(folder: PathBuf) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let within = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(within);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("interrupted: its processes are killed, and what they wrote is removed");
        let mut quiet = 0;
        while quiet < QUIET {
            let left = children();
            quiet = if left.is_empty() { quiet + 1 } else { 0 };
            // One that ended by itself meanwhile is as good.
            let _ = Command::new("kill").arg("-KILL").args(left).output();
            thread::sleep(LOOK);
        }
        let _ = fs::remove_dir_all(&folder);
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

/// The processes that this one started and that have not ended, whichever thread did.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children = lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    children.filter(|child| state(&Path::new("/proc").join(child)).is_some_and(|state| state != 'Z')).collect()
}

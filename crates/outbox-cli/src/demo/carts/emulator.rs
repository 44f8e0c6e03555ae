//! The emulator of AWS: where it is, and how it runs.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Its program.
const PROGRAM: &str = "ministack";
/// The environment variable that names the Python environment it is in, as for the tests.
const ENVIRONMENT: &str = "OUTBOX_TEST_AWS_VENV";
/// Where it answers once it has started.
pub(crate) const HEALTH: &str = "/_ministack/health";
/// The Region that it takes itself for.
pub(crate) const REGION: &str = "eu-west-1";

/// Between two looks at whether it still runs, or has to end.
const LOOK: Duration = Duration::from_millis(20);

/// Where it is installed: on the path, or where `scripts/test-aws` puts it.
///
/// # Errors
/// That it is nowhere, and what to do.
pub(crate) fn find() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name);
    let own = std::env::current_exe().ok();
    look_in(&places(variable(ENVIRONMENT).map(PathBuf::from), variable("PATH").as_deref(), own.as_deref()))
}

/// The folders that it may be in: what is said first, then the path, then `target` of a checkout.
fn places(said: Option<PathBuf>, path: Option<&std::ffi::OsStr>, own: Option<&Path>) -> Vec<PathBuf> {
    let said = said.map(|environment| environment.join("bin"));
    let path = path.into_iter().flat_map(std::env::split_paths);
    // The program is in `target/release` or so, or for tests in a folder of it.
    let near = own.into_iter().flat_map(Path::ancestors).skip(2).take(2).map(|target| target.join("test-aws/bin"));
    said.into_iter().chain(path).chain(near).collect()
}

fn look_in(places: &[PathBuf]) -> Result<PathBuf, String> {
    let found = places.iter().map(|place| place.join(PROGRAM)).find(|program| program.is_file());
    // It is started in another folder.
    found.and_then(|program| std::path::absolute(program).ok()).ok_or_else(|| {
        "the emulator of AWS is not installed: `scripts/test-aws install` in a checkout does that, or \
         `pip install ministack==1.5.33`, with its program `ministack` on the path; or name one that runs with \
         `--endpoint http://127.0.0.1:4566`"
            .to_owned()
    })
}

/// Runs `program` in `folder` on `port` of this machine until standard input ends or it does.
///
/// It does not know when the demo is gone, so this process looks after it: however the demo ends, this one's standard input
/// ends with it.
pub(crate) fn guard(program: &Path, folder: &Path, port: u16) -> ExitCode {
    let over = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&over);
    std::thread::spawn(move || {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        cut.store(true, Ordering::Relaxed);
    });
    match start(program, folder, port).and_then(|child| watch(child, &over)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{} does not run: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

fn start(program: &Path, folder: &Path, port: u16) -> std::io::Result<Child> {
    Command::new(program)
        .current_dir(folder)
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("MINISTACK_REGION", REGION)
        .env("LOG_LEVEL", "WARNING")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

fn watch(mut child: Child, over: &AtomicBool) -> std::io::Result<ExitCode> {
    loop {
        if let Some(status) = child.try_wait()? {
            eprintln!("the emulator ended: {status}");
            return Ok(ExitCode::FAILURE);
        }
        if over.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_where_it_is_said_to_be_on_the_path_and_in_a_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let at = |place: &str| folder.path().join(place);
        let install = |place: &str| {
            std::fs::create_dir_all(at(place)).unwrap();
            std::fs::write(at(place).join(PROGRAM), "").unwrap();
        };
        let path = std::env::join_paths([at("usr/bin"), at("other")]).unwrap();
        let own = at("target/debug/outbox");
        let found = || look_in(&places(Some(at("said")), Some(&path), Some(&own)));
        let said = found().unwrap_err();
        assert!(said.contains("scripts/test-aws install") && said.contains("--endpoint"), "{said}");
        for place in ["target/test-aws/bin", "other", "said/bin"] {
            install(place);
            assert_eq!(found().unwrap(), at(place).join(PROGRAM));
        }
    }
}

//! The binary that is crashed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Builds the binary of the tree that this program was built from, with crash points, and gives where it is. What was built
/// before may be of another tree, and says nothing of it.
///
/// # Errors
/// If it does not compile.
pub fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "outbox-cli", "--bin", "outbox", "--features", "crash-points"]);
    cargo.arg("--message-format=json-render-diagnostics");
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("cargo cannot be run: {error}; name a binary by --binary"))?;
    let built = executable(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success());
    built.ok_or_else(|| "the binary does not compile: mend that, or name another by --binary".to_owned())
}

/// What cargo says in JSON, a line each, that it has built.
fn executable(said: &str) -> Option<PathBuf> {
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.rev().find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Checks that `binary` has crash points.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check_binary(binary: &Path) -> Result<(), String> {
    let build = "build it with `cargo build -p outbox-cli --features crash-points`, or name none";
    let output = Command::new(binary).arg("--version").output();
    let output = output.map_err(|error| format!("{} does not run ({error}): {build}", binary.display()))?;
    if String::from_utf8_lossy(&output.stdout).contains("crash points") {
        return Ok(());
    }
    Err(format!("{} has no crash points: {build}", binary.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_where_cargo_says_that_it_was_built() {
        let said = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                    {\"reason\":\"compiler-artifact\",\"executable\":\"/a/target/debug/outbox\"}\n\
                    {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(said), Some(PathBuf::from("/a/target/debug/outbox")));
        assert_eq!(executable("no json"), None);
    }
}

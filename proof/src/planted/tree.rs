//! The copy of the tree that bugs are planted in: the crates `outbox` and `outbox-sql`, and what plays schedules.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use super::bug::Bug;

/// What is compiled.
const COMPILED: [&str; 6] =
    ["Cargo.lock", "Cargo.toml", "clippy.toml", "crates/outbox", "crates/outbox-sql", "proof/campaign"];
/// The patches: copied too, so that a run is not disturbed by who works on them meanwhile.
const PATCHES: &str = "proof/planted";
/// What the copy is, in numbers that change with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// With what plays schedules.
    pub played: u64,
    /// With what the tests alone are made of.
    pub tested: u64,
}

/// A copy of the tree, under the repository's `target/planted/tree`.
pub struct Tree {
    /// The repository.
    root: PathBuf,
}

impl Tree {
    /// The copy of the repository at `root`. Nothing is copied before [`renew`](Self::renew).
    pub fn of(root: PathBuf) -> Self {
        Self { root }
    }

    /// The repository's root.
    pub fn repository(&self) -> &Path {
        &self.root
    }

    /// Where the copy's patches are.
    pub fn patches(&self) -> PathBuf {
        self.folder().join(PATCHES)
    }

    /// Where the copy is built.
    pub fn target(&self) -> PathBuf {
        self.root.join("target/planted")
    }

    /// Where it is kept what was found in the copy.
    pub fn findings(&self) -> PathBuf {
        self.target().join("findings.json")
    }

    /// The copy's root.
    pub fn folder(&self) -> PathBuf {
        self.target().join("tree")
    }

    /// Keeps others out for as long as what is given back lives: two runs in one copy would each build what the other
    /// planted.
    ///
    /// # Errors
    /// If another run has the copy.
    pub fn lock(&self) -> Result<File, String> {
        let path = self.target().join("lock");
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(self.target()).map_err(wrong)?;
        let lock = File::create(&path).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                Err(format!("another run has {}: wait until it is over", self.folder().display()))
            }
            Err(TryLockError::Error(error)) => Err(wrong(error)),
        }
    }

    /// Makes the copy what the repository is now, and tells it apart from what it was. What is the same already is not touched,
    /// so that it is not compiled again.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn renew(&self) -> Result<Compiled, String> {
        let mut wanted = BTreeSet::new();
        let (mut played, mut tested) = (DefaultHasher::new(), DefaultHasher::new());
        for name in self.listed()? {
            let contents = match fs::read(self.root.join(&name)) {
                Ok(contents) => contents,
                // Deleted, and not committed yet.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("{}: {error}", name.display())),
            };
            let contents = if name == Path::new("Cargo.toml") { workspace(&contents) } else { contents };
            if !name.starts_with(PATCHES) {
                let compiled = if is_played(&name) { &mut played } else { &mut tested };
                (&name, &contents).hash(compiled);
            }
            // Cargo takes out what the copy does not need.
            if name != Path::new("Cargo.lock") || !self.folder().join(&name).exists() {
                self.write(&name, &contents)?;
            }
            wanted.insert(self.folder().join(name));
        }
        remove_others(&self.folder().join("crates"), &wanted)?;
        remove_others(&self.folder().join("proof"), &wanted)?;
        Ok(Compiled { played: played.finish(), tested: tested.finish() })
    }

    /// What of the repository belongs in the copy, as git lists it: nothing that was built.
    fn listed(&self) -> Result<Vec<PathBuf>, String> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]).args(COMPILED).arg(PATCHES);
        let output = git.current_dir(&self.root).output().map_err(|error| format!("git cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(format!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let listed = String::from_utf8_lossy(&output.stdout);
        Ok(listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
    }

    fn write(&self, name: &Path, contents: &[u8]) -> Result<(), String> {
        let path = self.folder().join(name);
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        if fs::read(&path).is_ok_and(|there| there == contents) {
            return Ok(());
        }
        fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).map_err(wrong)?;
        fs::write(&path, contents).map_err(wrong)
    }

    /// Whether the patch still fits the copy.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, bug: &Bug) -> Result<(), String> {
        self.git_apply(bug, &["--check"])
    }

    /// Plants the bug, until what is given back is dropped.
    ///
    /// # Errors
    /// If the patch does not fit any more: the code that it breaks has changed.
    pub fn plant(&self, bug: &Bug) -> Result<Planted<'_>, String> {
        let mut sound = Vec::new();
        for name in &bug.files {
            let contents =
                fs::read(self.folder().join(name)).map_err(|error| format!("{}: {error}", name.display()))?;
            sound.push((name.clone(), contents));
        }
        let planted = Planted { tree: self, sound };
        self.git_apply(bug, &[]).map(|()| planted)
    }

    fn git_apply(&self, bug: &Bug, more: &[&str]) -> Result<(), String> {
        let mut git = Command::new("git");
        // The copy lies in a folder that the repository ignores: with the repository in sight, git would skip it.
        git.env("GIT_CEILING_DIRECTORIES", self.target()).current_dir(self.folder());
        let output = git.arg("apply").args(more).arg(&bug.path).output();
        let output = output.map_err(|error| format!("git cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{} does not apply any more: {}; plant the same bug in the code as it is now",
            bug.path.display(),
            said.trim().replace('\n', "; ")
        ))
    }
}

/// A bug in the copy.
pub struct Planted<'t> {
    tree: &'t Tree,
    sound: Vec<(PathBuf, Vec<u8>)>,
}

impl Drop for Planted<'_> {
    fn drop(&mut self) {
        for (name, contents) in &self.sound {
            if let Err(error) = self.tree.write(name, contents) {
                eprintln!("the bug is still planted in the copy: {error}");
            }
        }
    }
}

/// The workspace of the copy: its packages.
fn workspace(manifest: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(manifest);
    let lines = text.lines().filter(|line| !line.starts_with("exclude = ") && !line.starts_with("default-members = "));
    let members = r#"members = ["crates/outbox", "crates/outbox-sql", "proof/campaign"]"#;
    let lines = lines.map(|line| if line.starts_with("members = ") { members } else { line });
    lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

/// Whether what plays schedules is made of the file too, and not the tests alone.
fn is_played(name: &Path) -> bool {
    let is_test = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
    !name.starts_with("crates/outbox-sql") && !name.iter().any(is_test)
}

/// Removes what the repository does not have any more: it would be compiled.
fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).map_err(wrong)?;
        }
    }
    Ok(())
}

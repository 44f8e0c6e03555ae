//! What earlier runs found, kept so that a run that was ended goes on where it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    bug::Bug,
    run::{Caught, Finding},
    tree::Compiled,
};

/// The findings of one tree and one number of schedules, in a file that is written after each.
pub struct Found {
    path: PathBuf,
    kept: Kept,
}

#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The number that changes with what plays schedules.
    played: u64,
    /// The number that changes with the tests.
    tested: u64,
    schedules: u64,
    /// The packages in which nothing fails with no bug planted.
    #[serde(default)]
    sound: BTreeSet<String>,
    by_name: BTreeMap<String, KeptFinding>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptFinding {
    /// A number that changes with the patch.
    patch: u64,
    caught: Caught,
    took: Duration,
}

impl Found {
    /// What the file at `path` holds, if that is of the same tree and of as many schedules; else nothing yet. Where only tests
    /// are others, what the simulator noticed stands.
    pub fn read(path: &Path, compiled: Compiled, schedules: u64) -> Self {
        let Compiled { played, tested } = compiled;
        let stored = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let kept = stored.filter(|kept| kept.played == played && kept.schedules == schedules);
        let mut kept = kept.unwrap_or(Kept { played, tested, schedules, ..Kept::default() });
        if kept.tested != tested {
            kept.tested = tested;
            kept.sound.clear();
            kept.by_name.retain(|_, found| matches!(found.caught, Caught::Simulator { .. }));
        }
        Self { path: path.to_path_buf(), kept }
    }

    /// What was found of `bug`, if its patch is the same still.
    ///
    /// # Errors
    /// If the patch cannot be read.
    pub fn of(&self, bug: &Bug) -> Result<Option<Finding>, String> {
        let patch = number_of(bug)?;
        let kept = self.kept.by_name.get(&bug.name).filter(|kept| kept.patch == patch).cloned();
        Ok(kept.map(|kept| Finding { bug: bug.clone(), caught: kept.caught, took: kept.took }))
    }

    /// Keeps a finding.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep(&mut self, finding: &Finding) -> Result<(), String> {
        let kept = KeptFinding { patch: number_of(&finding.bug)?, caught: finding.caught.clone(), took: finding.took };
        self.kept.by_name.insert(finding.bug.name.clone(), kept);
        self.write()
    }

    /// Whether nothing fails in `package` with no bug planted, as far as that is known.
    pub fn is_sound(&self, package: &str) -> bool {
        self.kept.sound.contains(package)
    }

    /// Keeps that nothing fails in `packages` with no bug planted.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep_sound(&mut self, packages: &BTreeSet<&str>) -> Result<(), String> {
        self.kept.sound.extend(packages.iter().map(|package| (*package).to_owned()));
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let text = serde_json::to_vec_pretty(&self.kept).map_err(|error| wrong(&error))?;
        // A run that is ended in the middle of it leaves the findings before.
        let beside = self.path.with_extension("new");
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &self.path)).map_err(|error| wrong(&error))
    }
}

fn number_of(bug: &Bug) -> Result<u64, String> {
    let text = fs::read(&bug.path).map_err(|error| format!("{}: {error}", bug.path.display()))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Ok(hasher.finish())
}

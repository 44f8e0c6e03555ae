//! A planted bug: its patch, and what the patch says of itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is in memory in place of a backend that ships: a defect in it says that the run would notice one like it.
const STAND_INS: [&str; 3] =
    ["crates/outbox/src/memory", "crates/outbox/src/inbox/memory.rs", "crates/outbox/src/testing/simulator/late.rs"];

/// A patch that breaks something.
#[derive(Clone, Debug)]
pub struct Bug {
    /// Its file's name without the ending, as `07-page-of-another-position`.
    pub name: String,
    /// What is wrong, in a sentence.
    pub what: String,
    /// Where such a bug was seen, or which sentence it breaks.
    pub from: String,
    /// The patch.
    pub path: PathBuf,
    /// The files that it changes, from the repository's root.
    pub files: Vec<PathBuf>,
}

/// The bugs in `folder`, in the order of their numbers.
///
/// # Errors
/// What cannot be read, or does not say what it is about.
pub fn all(folder: &Path) -> Result<Vec<Bug>, String> {
    let listed = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "patch"));
    let mut bugs = paths.into_iter().map(Bug::read).collect::<Result<Vec<_>, _>>()?;
    bugs.sort_by_key(|bug| (bug.number(), bug.name.clone()));
    Ok(bugs)
}

impl Bug {
    fn read(path: PathBuf) -> Result<Self, String> {
        let wrong = |what: &str| format!("{}: {what}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| wrong(&error.to_string()))?;
        let head: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix('#'))
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let [what, from @ ..] = head.as_slice() else {
            return Err(wrong(
                "begins with no comment: say in a line what is wrong, and in another where it comes from",
            ));
        };
        if from.is_empty() {
            return Err(wrong("does not say where the bug comes from: name it in a second line of comment"));
        }
        let files: Vec<PathBuf> =
            text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(PathBuf::from).collect();
        if files.is_empty() {
            return Err(wrong("holds no diff whose paths begin with a/ and b/"));
        }
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, what: (*what).to_owned(), from: from.join(" "), path, files })
    }

    /// What its name begins with.
    pub fn number(&self) -> Option<u32> {
        self.name.split('-').next()?.parse().ok()
    }

    /// The package that it is planted in.
    pub fn package(&self) -> &str {
        self.files[0].iter().nth(1).and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Whether it changes only what stands in for a backend.
    pub fn is_in_stand_in(&self) -> bool {
        self.files.iter().all(|file| STAND_INS.iter().any(|stand_in| file.starts_with(stand_in)))
    }

    /// Whether somebody means it by `name`: its whole name, that without its number, or its number, with zeros before it or not.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name
            || self.name.split_once('-').is_some_and(|(_, rest)| rest == name)
            || name.parse().is_ok_and(|number: u32| self.number() == Some(number))
    }
}

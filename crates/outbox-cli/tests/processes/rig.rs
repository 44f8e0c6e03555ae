//! A temporary folder with a database and a configuration, and what is done in it.

use std::{ops::Deref, path::Path};

pub(crate) use proof::crashes::rig::{Books, PATIENCE, Ran, eventually, now};

/// A folder of its own with a database `orders.db` and a configuration.
pub(crate) struct Rig {
    rig: proof::crashes::rig::Rig,
    // Removed with the rig.
    _folder: tempfile::TempDir,
}

impl Rig {
    /// A rig with these routes and, before them, whatever else the configuration has; initialised.
    pub(crate) fn new(config: &str) -> Self {
        Self::with_folder("logs", config)
    }

    /// The same, with a folder in it.
    pub(crate) fn with_folder(inner: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(inner)).unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_outbox"));
        Self { rig: proof::crashes::rig::Rig::new(binary, folder.path(), config), _folder: folder }
    }
}

impl Deref for Rig {
    type Target = proof::crashes::rig::Rig;

    fn deref(&self) -> &Self::Target {
        &self.rig
    }
}

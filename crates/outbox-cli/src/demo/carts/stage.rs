//! Where the demo plays: its folder, its ports, the relay's configuration.

use std::{
    fs,
    path::{Path, PathBuf},
};

use carts::PRODUCER;
use outbox::Entropy;

use super::plan::Role;
use crate::demo::stage::{Folder, free_ports};

/// The demo's place in the file system and on the network.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: Folder,
    ports: [u16; 4],
    /// What the names of tables, bus and queues begin with.
    prefix: String,
    /// Where AWS is, if it is not started here.
    endpoint: Option<String>,
}

impl Stage {
    /// Makes the folder and finds ports.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(crate) fn set_up(keep: Option<&Path>, endpoint: Option<&str>, entropy: &dyn Entropy) -> Result<Self, String> {
        let folder = Folder::make(keep, entropy)?;
        // Somebody else's emulator may have tables of others.
        let prefix = format!("demo-{:08x}", entropy.seed() & 0xffff_ffff);
        let stage = Self { folder, ports: free_ports(entropy)?, prefix, endpoint: endpoint.map(str::to_owned) };
        let written = fs::write(stage.config(), stage.config_text());
        written.map_err(|error| format!("cannot write {}: {error}", stage.config().display()))?;
        Ok(stage)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// What the names of tables, bus and queues begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where AWS is.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| self.url(Role::Emulator, ""))
    }

    /// Whether the emulator is this demo's own.
    pub(crate) fn has_emulator(&self) -> bool {
        self.endpoint.is_none()
    }

    /// The relay's configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path.join("outbox.toml")
    }

    /// Where a process writes its errors and logs.
    pub(crate) fn log(&self, role: Role) -> PathBuf {
        self.folder.path.join(format!("{}.log", role.name()))
    }

    /// What came over the bus, as the demo itself saw it.
    pub(crate) fn arrivals(&self) -> PathBuf {
        self.folder.path.join("bus.arrivals")
    }

    /// Where a process listens.
    pub(crate) fn port(&self, role: Role) -> u16 {
        match role {
            Role::Emulator => self.ports[0],
            Role::Carts => self.ports[1],
            Role::Relay => self.ports[2],
            Role::Totals => self.ports[3],
        }
    }

    /// The address of a process's `path`.
    pub(crate) fn url(&self, role: Role, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port(role))
    }

    fn config_text(&self) -> String {
        let (prefix, endpoint, relay) = (&self.prefix, self.endpoint(), self.port(Role::Relay));
        let region = super::cloud::REGION;
        format!(
            "# Written by `outbox demo --system carts`: an ordinary relay, but that it takes over fast and retries soon.\n\
             [store]\ndynamodb = \"{prefix}\"\nproducer = \"{PRODUCER}\"\nregion = \"{region}\"\nendpoint = \"{endpoint}\"\n\n\
             [relay]\nbookkeeping = \"dynamodb:{prefix}-bookkeeping\"\nfailover = \"1s\"\nlisten = \"127.0.0.1:{relay}\"\n\n\
             [[route]]\nname = \"bus\"\nretry = {{ base_delay = \"50ms\", max_delay = \"500ms\" }}\n\n\
             [route.eventbridge]\nbus = \"{prefix}\"\nregion = \"{region}\"\nendpoint = \"{endpoint}\"\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use outbox::System;

    use super::*;

    #[test]
    fn the_configuration_is_valid() {
        let stage = Stage::set_up(None, None, &System).unwrap();
        let config = crate::config::Config::parse(&stage.config(), &stage.config_text(), &|_| None).unwrap();
        assert_eq!(config.routes.len(), 1);
    }
}

//! Where the demo plays: its folder, its ports, its secret, and the relay's configuration.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::{Path, PathBuf},
};

use outbox::Entropy;

use super::{
    chaos::Role,
    server::{STORE_VARIABLE, Server},
};

/// The environment variable that holds the webhooks' signing secret, for the relay and the consumers.
pub(crate) const SECRET_VARIABLE: &str = "OUTBOX_DEMO_SECRET";

/// The `source` of the demo's events.
pub(crate) const PRODUCER: &str = "/demo/orders";

/// Servers listen below the range from which systems take the ports of outgoing connections: so a killed server finds
/// its port free when it comes back.
const PORTS: std::ops::Range<u16> = 12_000..30_000;

/// The demo's place in the file system and on the network. Removed when dropped, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: Folder,
    ports: [u16; 4],
    secret: Secret,
    /// Where the orders are, unless in a file of the folder.
    server: Option<Server>,
}

/// A signing secret, which `Debug` does not show.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Stage {
    /// Makes the folder, finds ports, writes the relay's configuration.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(crate) fn set_up(keep: Option<&Path>, server: Option<Server>, entropy: &dyn Entropy) -> Result<Self, String> {
        // From here on the folder goes away with the stage, whatever fails.
        let folder = Folder::make(keep, entropy)?;
        let stage = Self { folder, ports: free_ports(entropy)?, secret: Secret(new_secret(entropy)), server };
        fs::write(stage.config(), stage.config_text())
            .map_err(|error| format!("cannot write {}: {error}", stage.config().display()))?;
        Ok(stage)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Where the orders are, unless in a file of the folder.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The environment of the demo's processes and commands.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let store = self.server.as_ref().map(|server| (STORE_VARIABLE, server.url()));
        [(SECRET_VARIABLE, self.secret.0.as_str())].into_iter().chain(store)
    }

    /// The relay's configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path.join("outbox.toml")
    }

    /// Where a process writes its errors and logs.
    pub(crate) fn log(&self, role: Role) -> PathBuf {
        self.folder.path.join(format!("{role}.log"))
    }

    /// Where a process listens.
    pub(crate) fn port(&self, role: Role) -> u16 {
        match role {
            Role::Orders => self.ports[0],
            Role::Relay => self.ports[1],
            Role::Ledger => self.ports[2],
            Role::Notifications => self.ports[3],
        }
    }

    /// The address of a process's `path`.
    pub(crate) fn url(&self, role: Role, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port(role))
    }

    fn config_text(&self) -> String {
        let database = match self.server {
            Some(_) => format!("postgres = \"${{{STORE_VARIABLE}}}\""),
            None => "sqlite = \"orders.db\"".to_owned(),
        };
        let mut text = format!(
            "# Written by `outbox demo`: an ordinary relay, but that it takes over fast and retries soon.\n\
             [store]\n{database}\nproducer = \"{PRODUCER}\"\n\n\
             [relay]\nfailover = \"1s\"\nlisten = \"127.0.0.1:{}\"\n",
            self.port(Role::Relay)
        );
        text.extend(Role::CONSUMERS.map(|role| self.route_text(role)));
        text
    }

    fn route_text(&self, role: Role) -> String {
        let url = self.url(role, "/events");
        format!(
            "\n[[route]]\nname = \"{role}\"\nretry = {{ base_delay = \"50ms\", max_delay = \"500ms\" }}\n\n\
             [route.webhook]\nurl = \"{url}\"\nsecrets = [\"${{{SECRET_VARIABLE}}}\"]\nencoding = \"batch\"\nmax_events = 100\nconcurrency = 4\ntimeout = \"10s\"\n"
        )
    }
}

/// A folder of the demo's own. Removed when dropped, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Folder {
    pub path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes it: the one that is to be kept, which has to be new or empty, or one among the temporary ones.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(crate) fn make(keep: Option<&Path>, entropy: &dyn Entropy) -> Result<Self, String> {
        let path = match keep {
            Some(folder) => folder.to_owned(),
            None => std::env::temp_dir().join(format!("outbox-demo-{:016x}", entropy.seed())),
        };
        make_empty_folder(&path)?;
        Ok(Self { path, keep: keep.is_some() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // A process that is only just being killed may still make a file.
        let removed = (0..10).any(|_| {
            let removed = fs::remove_dir_all(&self.path).is_ok() || !self.path.exists();
            if !removed {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            removed
        });
        if !removed {
            eprintln!("could not remove {}: remove it by hand", self.path.display());
        }
    }
}

/// The database of a process that has one.
pub(crate) fn database(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.db"))
}

/// The arrival log of a consumer.
pub(crate) fn arrivals(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.arrivals"))
}

fn make_empty_folder(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    fs::create_dir_all(folder).map_err(|error| format!("cannot make the folder {shown}: {error}"))?;
    let mut entries = fs::read_dir(folder).map_err(|error| format!("cannot read the folder {shown}: {error}"))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(format!("{shown} is not empty: name a folder that is new or empty with --keep")),
    }
}

/// A Standard Webhooks secret of 24 random bytes.
fn new_secret(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 24];
    entropy.fill(&mut bytes);
    format!("whsec_{}", base64(&bytes))
}

/// Base64 of bytes whose number is a multiple of three, so that nothing has to be padded.
fn base64(bytes: &[u8; 24]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 63) as usize]))
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// So many ports that nobody listens on now.
pub(crate) fn free_ports<const N: usize>(entropy: &dyn Entropy) -> Result<[u16; N], String> {
    let mut random = fastrand::Rng::with_seed(entropy.seed());
    // All are held until all are found, so that none is found twice.
    let mut held = Vec::with_capacity(N);
    for _ in 0..1_000 {
        if let Ok(held) = <[(TcpListener, u16); N]>::try_from(std::mem::take(&mut held)).map_err(|few| held = few) {
            return Ok(held.map(|(_, port)| port));
        }
        let port = random.u16(PORTS);
        match TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => held.push((listener, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(format!("cannot listen on 127.0.0.1: {error}")),
        }
    }
    Err(format!("no {N} free ports from {} to {} on 127.0.0.1", PORTS.start, PORTS.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outbox::System;

    #[test]
    fn the_stage_is_removed_when_it_is_dropped() {
        let stage = Stage::set_up(None, None, &System).unwrap();
        let folder = stage.folder().to_owned();
        assert!(stage.config().is_file());
        drop(stage);
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_that_is_to_be_kept_stays_and_has_to_be_empty() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("kept");
        drop(Stage::set_up(Some(&folder), None, &System).unwrap());
        assert!(folder.join("outbox.toml").is_file());
        let error = Stage::set_up(Some(&folder), None, &System).unwrap_err();
        assert!(error.contains("--keep"), "{error}");
    }

    #[test]
    fn the_configuration_is_valid() {
        let stage = Stage::set_up(None, None, &System).unwrap();
        let secret = |name: &str| (name == SECRET_VARIABLE).then(|| stage.secret.0.clone());
        let config = crate::config::Config::parse(&stage.config(), &stage.config_text(), &secret).unwrap();
        assert_eq!(config.routes.len(), 2);
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        assert_eq!(base64(b"Many hands make light wo"), "TWFueSBoYW5kcyBtYWtlIGxpZ2h0IHdv");
    }
}

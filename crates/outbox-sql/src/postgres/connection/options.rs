//! How to reach a database: from a URL, and what the URL leaves open.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use outbox::{ErrorKind, StoreError};
use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How to reach a database. Neither `Debug` nor any error shows the password.
#[derive(Clone)]
pub struct ConnectOptions {
    config: tokio_postgres::Config,
    verified: bool,
    root_certificates: Option<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
    connect_timeout: Duration,
    statement_timeout: Duration,
    passwords: Option<Arc<dyn PasswordSource>>,
}

/// Where passwords come from that do not last, as tokens of a cloud's identity service. Asked before each connection.
#[async_trait]
pub trait PasswordSource: Send + Sync {
    /// The password of `user` at `host` and `port`, good for a connection made now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it cannot be had now, [`ErrorKind::NotPermitted`] if it is refused. The message
    /// holds no secret.
    async fn password(&self, host: &str, port: u16, user: &str) -> Result<String, StoreError>;
}

/// What the URL says that the driver does not know.
#[derive(Default)]
struct Ours {
    mode: Option<String>,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    statement_timeout: Option<Duration>,
}

impl ConnectOptions {
    /// Reads `postgres://user:password@host:port/database?…`, with the parameters of `libpq`.
    ///
    /// Unless the URL says otherwise, a server on another machine has to prove by its certificate who it is
    /// (`sslmode=verify-full`), and one on this machine is talked to without TLS. Of `sslmode` there are `disable` and
    /// `verify-full`; `require` and `verify-ca` are taken as `verify-full`, and what may go without TLS or not is
    /// refused. `sslrootcert` names a file with the certificates to trust, in place of the machine's own;
    /// `sslcert` and `sslkey` the client's. `connect_timeout` is in seconds, and so is `statement_timeout`, which is not
    /// `libpq`'s: see [`statement_timeout`](Self::statement_timeout).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with what to write instead. The message holds nothing of the URL but names of parameters.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(invalid("the database's URL has to begin with `postgres://`"));
        }
        let (url, ours) = take_ours(url)?;
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| {
            invalid(
                "the database's URL cannot be read: write postgres://user:password@host:port/database?name=value, special characters percent-encoded",
            )
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("the database's URL names no host"));
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(invalid("the database's URL names no user: write postgres://user@host/database"));
        }
        if config.get_application_name().is_none() {
            config.application_name("outbox");
        }
        let verified = is_verified(ours.mode.as_deref(), &config)?;
        config.ssl_mode(if verified { SslMode::Require } else { SslMode::Disable });
        let client_certificate = match (ours.certificate, ours.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(invalid("a client certificate needs both `sslcert` and `sslkey` in the database's URL"));
            }
        };
        if !verified && (client_certificate.is_some() || ours.root.is_some()) {
            return Err(invalid(
                "the database's URL has certificates, but TLS is off: add `sslmode=verify-full`, or leave them out",
            ));
        }
        let connect_timeout = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        Ok(Self {
            config,
            verified,
            root_certificates: ours.root,
            client_certificate,
            connect_timeout,
            statement_timeout: ours.statement_timeout.unwrap_or(STATEMENT_TIMEOUT),
            passwords: None,
        })
    }

    /// Whether the URL has a password.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The password, in place of the URL's.
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.config.password(password);
        self
    }

    /// The name that the server shows for these connections; `outbox` unless the URL has one.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.config.application_name(name);
        self
    }

    /// How long connecting may take; 10 seconds unless the URL says otherwise.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a statement may take before its connection is given up; 60 seconds unless the URL says otherwise. Emptying a
    /// leaf and raising the incarnation go through many rows, and may take an hour in any case.
    pub fn statement_timeout(mut self, limit: Duration) -> Self {
        self.statement_timeout = limit;
        self
    }

    /// Asks `passwords` before each connection, rather than taking the URL's password. The URL has to name one host: a
    /// password that is made for one is of no use at another, and which one is reached is not known before.
    pub fn passwords(mut self, passwords: Arc<dyn PasswordSource>) -> Self {
        self.passwords = Some(passwords);
        self
    }

    /// The configuration of the next connection.
    pub(crate) async fn config(&self) -> Result<tokio_postgres::Config, StoreError> {
        let mut config = self.config.clone();
        if let Some(passwords) = &self.passwords {
            if !self.names_one_host() {
                return Err(invalid(
                    "the database's URL names several hosts, and a token lets in at one: name one that leads to the primary, as a cluster's endpoint does",
                ));
            }
            let (host, port) = self.host_and_port();
            let user = self.config.get_user().unwrap_or_default();
            let password = passwords.password(&host, port, user).await;
            config.password(password.map_err(|error| error.context(&format!("asking for the password of {self}")))?);
        }
        Ok(config)
    }

    /// Whether there is one host to connect to.
    pub fn names_one_host(&self) -> bool {
        self.config.get_hosts().len().max(self.config.get_hostaddrs().len()) == 1
    }

    pub(crate) fn connect_limit(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn statement_limit(&self) -> Duration {
        self.statement_timeout
    }

    /// Whether the server has to prove who it is.
    pub(super) fn is_verified(&self) -> bool {
        self.verified
    }

    pub(super) fn root_certificates(&self) -> Option<&Path> {
        self.root_certificates.as_deref()
    }

    pub(super) fn client_certificate(&self) -> Option<(&Path, &Path)> {
        self.client_certificate.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()))
    }

    fn host_and_port(&self) -> (String, u16) {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self.config.get_hostaddrs().first().map(IpAddr::to_string).unwrap_or_default(),
        };
        (host, self.config.get_ports().first().copied().unwrap_or(5432))
    }
}

/// Where it leads, fit for a message: user, host, port and database.
impl fmt::Display for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.host_and_port();
        let user = self.config.get_user().unwrap_or_default();
        let database = self.config.get_dbname().unwrap_or(user);
        write!(f, "postgres://{user}@{host}:{port}/{database}")
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("to", &self.to_string())
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorKind::Invalid, message)
}

/// Takes what the driver does not know out of the URL's parameters.
fn take_ours(url: &str) -> Result<(String, Ours), StoreError> {
    let mut ours = Ours::default();
    // A question mark before the host is the password's.
    let host = url.find('@').unwrap_or(0);
    let Some(mark) = url[host..].find('?').map(|mark| host + mark) else { return Ok((url.to_owned(), ours)) };
    let (front, query) = (&url[..mark], &url[mark + 1..]);
    let mut others = Vec::new();
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !["sslmode", "sslrootcert", "sslcert", "sslkey", "statement_timeout"].contains(&name) {
            others.push(parameter);
            continue;
        }
        let decoded = percent_decode_str(value).decode_utf8();
        let value = decoded.map_err(|_| invalid(format!("`{name}` in the database's URL is not UTF-8")))?.into_owned();
        if value.is_empty() {
            return Err(invalid(format!("`{name}` in the database's URL is empty: give it a value, or leave it out")));
        }
        match name {
            "sslmode" => ours.mode = Some(value),
            "sslrootcert" => ours.root = Some(value.into()),
            "sslcert" => ours.certificate = Some(value.into()),
            "sslkey" => ours.key = Some(value.into()),
            _ => ours.statement_timeout = Some(seconds(&value)?),
        }
    }
    let url = if others.is_empty() { front.to_owned() } else { format!("{front}?{}", others.join("&")) };
    Ok((url, ours))
}

fn seconds(value: &str) -> Result<Duration, StoreError> {
    let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        invalid("`statement_timeout` in the database's URL has to be a whole number of seconds, 1 or more")
    })
}

fn is_verified(mode: Option<&str>, config: &tokio_postgres::Config) -> Result<bool, StoreError> {
    match mode {
        None => Ok(!is_this_machine(config)),
        Some("disable") => Ok(false),
        Some("require" | "verify-ca" | "verify-full") => Ok(true),
        Some("allow" | "prefer") => Err(invalid(
            "`sslmode` in the database's URL leaves open whether there is TLS: write `verify-full`, or `disable`",
        )),
        Some(_) => {
            Err(invalid("`sslmode` in the database's URL is none that is known: write `verify-full`, or `disable`"))
        }
    }
}

/// Whether all hosts are on this machine.
fn is_this_machine(config: &tokio_postgres::Config) -> bool {
    let here = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    // An address decides before a name does.
    if config.get_hostaddrs().is_empty() {
        config.get_hosts().iter().all(here)
    } else {
        config.get_hostaddrs().iter().all(IpAddr::is_loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> ConnectOptions {
        ConnectOptions::parse(url).unwrap()
    }

    fn refused(url: &str) -> String {
        let error = ConnectOptions::parse(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        error.to_string()
    }

    #[test]
    fn a_server_on_another_machine_has_to_prove_who_it_is() {
        for url in ["postgres://u@db.example/x", "postgres://u@10.0.0.7/x", "postgres://u@localhost,db.example/x"] {
            assert!(parsed(url).is_verified(), "{url}");
        }
        for url in ["postgres://u@localhost/x", "postgres://u@127.0.0.1:9/x", "postgresql://u@%2Frun%2Fpg/x"] {
            assert!(!parsed(url).is_verified(), "{url}");
        }
        assert!(parsed("postgres://u@localhost/x?sslmode=require").is_verified());
        assert!(!parsed("postgres://u@db.example/x?sslmode=disable").is_verified());
    }

    #[test]
    fn what_would_go_without_tls_unnoticed_is_refused() {
        assert!(refused("postgres://u@db.example/x?sslmode=prefer").contains("verify-full"));
        assert!(refused("postgres://u@db.example/x?sslmode=Disable").contains("verify-full"));
        assert!(refused("postgres://u@localhost/x?sslrootcert=/ca.pem").contains("sslmode=verify-full"));
        assert!(refused("postgres://u@db.example/x?sslcert=/c.pem").contains("sslkey"));
        assert!(refused("postgres://u@db.example/x?sslrootcert=").contains("sslrootcert"));
    }

    #[test]
    fn neither_debug_nor_display_nor_an_error_shows_the_password() {
        let options = parsed("postgres://u:s3cret@db.example/x?application_name=relay");
        let shown = format!("{options} {options:?}");
        assert!(shown.contains("postgres://u@db.example:5432/x") && !shown.contains("s3cret"), "{shown}");
        let shown = format!("{:?}", parsed("postgres://u:p?s3cret=1&sslmode=no@db.example/x?sslmode=disable"));
        assert!(shown.contains("postgres://u@db.example:5432/x") && !shown.contains("s3cret"), "{shown}");
        for url in ["postgres://u:s3cret@/x", "postgres://:s3cret@db/x", "postgres://u@db/x?s3cret=1", "s3cret://"] {
            assert!(!refused(url).contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn parameters_of_tls_are_read_and_the_others_are_left_to_the_driver() {
        let options = parsed("postgres://u@db/x?sslrootcert=%2Fa%20b.pem&connect_timeout=3&sslcert=c&sslkey=k");
        assert_eq!(options.root_certificates(), Some(Path::new("/a b.pem")));
        assert_eq!(options.client_certificate(), Some((Path::new("c"), Path::new("k"))));
        assert_eq!(options.connect_limit(), Duration::from_secs(3));
        assert_eq!(options.statement_limit(), Duration::from_secs(60));
    }

    #[test]
    fn how_long_a_statement_may_take_can_be_said_in_the_url() {
        let options = parsed("postgres://u@db/x?statement_timeout=900&application_name=relay");
        assert_eq!(options.statement_limit(), Duration::from_secs(900));
        for value in ["0", "-1", "1.5", "1min", ""] {
            let message = refused(&format!("postgres://u@db/x?statement_timeout={value}"));
            assert!(message.contains("statement_timeout"), "{message}");
        }
    }

    #[tokio::test]
    async fn a_password_made_for_one_host_is_not_sent_to_others() {
        struct Named;
        #[async_trait]
        impl PasswordSource for Named {
            async fn password(&self, host: &str, port: u16, user: &str) -> Result<String, StoreError> {
                Ok(format!("{user}@{host}:{port}"))
            }
        }
        let of = |url| parsed(url).passwords(Arc::new(Named));
        let config = of("postgres://u@a:7/x").config().await.unwrap();
        assert_eq!(config.get_password(), Some(&b"u@a:7"[..]));
        let refused = of("postgres://u@a:7,b:8/x?target_session_attrs=read-write").config().await.unwrap_err();
        assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains("several hosts"), "{refused}");
    }
}

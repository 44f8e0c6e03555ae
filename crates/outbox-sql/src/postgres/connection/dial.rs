//! A byte stream to the server, within TLS where the options want it, for a protocol that the driver does not speak.

use std::io;

use bytes::BytesMut;
use outbox::{ErrorKind, StoreError};
use postgres_protocol::message::frontend;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::{
    Config,
    config::Host,
    tls::{MakeTlsConnect, TlsConnect},
};

use super::{ConnectOptions, tls::Connector};

/// Bytes to and from a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One of the servers that the options name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: Host,
    /// What is connected to; the host if there is none.
    address: Option<std::net::IpAddr>,
    port: u16,
}

/// The servers that `config` names, in their order.
pub(crate) fn targets(config: &Config) -> Vec<Target> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    (0..hosts.len().max(addresses.len()))
        .filter_map(|index| {
            let address = addresses.get(index).copied();
            let host = match (hosts.get(index), address) {
                (Some(host), _) => host.clone(),
                (None, Some(address)) => Host::Tcp(address.to_string()),
                (None, None) => return None,
            };
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            Some(Target { host, address, port })
        })
        .collect()
}

/// Connects to one server, and begins TLS if the options want it. The caller limits how long that takes.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if it cannot be reached; [`ErrorKind::Invalid`] if it offers no TLS, or cannot prove who it
/// is.
pub(crate) async fn dial(options: &ConnectOptions, target: &Target) -> Result<Box<dyn Stream>, StoreError> {
    let tls = Connector::new(options)?;
    match (&target.host, target.address) {
        #[cfg(unix)]
        (Host::Unix(folder), None) => {
            let path = folder.join(format!(".s.PGSQL.{}", target.port));
            let stream = tokio::net::UnixStream::connect(path).await.map_err(|error| unreachable(options, &error))?;
            within_tls(options, tls, "", stream).await
        }
        (host, address) => {
            let name = match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            };
            let to = (address.map_or_else(|| name.clone(), |address| address.to_string()), target.port);
            let stream = TcpStream::connect(to).await.map_err(|error| unreachable(options, &error))?;
            // What is sent are short messages that somebody waits for.
            stream.set_nodelay(true).map_err(|error| unreachable(options, &error))?;
            within_tls(options, tls, &name, stream).await
        }
    }
}

async fn within_tls<S>(
    options: &ConnectOptions,
    mut tls: Connector,
    host: &str,
    mut stream: S,
) -> Result<Box<dyn Stream>, StoreError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if !options.is_verified() {
        return Ok(Box::new(stream));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let asked = async {
        stream.write_all(&request).await?;
        // One byte and no more: what follows in the clear could have been put there by somebody in between.
        stream.read_u8().await
    };
    let answer = asked.await.map_err(|error| unreachable(options, &error))?;
    if answer != b'S' {
        let message = format!(
            "connecting to {options}: the server offers no TLS: set it up, or write `sslmode=disable` if nobody can listen in"
        );
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    let begun = MakeTlsConnect::<S>::make_tls_connect(&mut tls, host).map_err(|error| unreachable(options, &error))?;
    let stream = begun.connect(stream).await.map_err(|error| unproven(options, &error))?;
    Ok(Box::new(stream))
}

fn unreachable(options: &ConnectOptions, error: &io::Error) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, format!("connecting to {options}: {error}"))
}

fn unproven(options: &ConnectOptions, error: &io::Error) -> StoreError {
    let is_tls = matches!(error.get_ref(), Some(inner) if inner.is::<tokio_rustls::rustls::Error>());
    if !is_tls {
        return unreachable(options, error);
    }
    let message = format!(
        "connecting to {options}: {error}: the server has to prove who it is: name the file with its authority's certificate as `sslrootcert` in the database's URL, and the host as the certificate does"
    );
    StoreError::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str) -> Vec<(String, Option<String>, u16)> {
        targets(&url.parse().unwrap())
            .into_iter()
            .map(|target| {
                let host = match target.host {
                    Host::Tcp(name) => name,
                    #[cfg(unix)]
                    Host::Unix(path) => path.display().to_string(),
                };
                (host, target.address.map(|address| address.to_string()), target.port)
            })
            .collect()
    }

    #[test]
    fn every_server_of_the_url_is_a_target_with_its_own_port() {
        assert_eq!(named("postgres://u@a:1,b:2/x"), [("a".into(), None, 1), ("b".into(), None, 2)]);
        assert_eq!(named("postgres://u@a/x"), [("a".into(), None, 5432)]);
        assert_eq!(named("postgres://u@%2Frun%2Fpg/x"), [("/run/pg".into(), None, 5432)]);
        assert_eq!(named("host=db hostaddr=127.0.0.1 user=u"), [("db".into(), Some("127.0.0.1".into()), 5432)]);
        assert_eq!(named("hostaddr=127.0.0.1 user=u"), [("127.0.0.1".into(), Some("127.0.0.1".into()), 5432)]);
    }
}

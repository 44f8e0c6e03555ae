//! TLS by rustls: the server proves by its certificate that it is the host that was asked for.

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use outbox::{ErrorKind, StoreError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::ConnectOptions;

/// Begins TLS, where the options want it; the driver asks for it only then.
#[derive(Clone)]
pub(super) struct Connector {
    config: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// Reads the certificates anew, so that renewed ones are in effect from the next connection on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] names the file and what is wrong with it.
    pub(super) fn new(options: &ConnectOptions) -> Result<Self, StoreError> {
        if !options.is_verified() {
            return Ok(Self { config: None });
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(roots(options.root_certificates())?);
        let config = match options.client_certificate() {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("sslcert", certificate)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("sslkey", key, &error))?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    invalid(format!("the client certificate `{}` cannot be used: {error}", certificate.display()))
                })?
            }
        };
        Ok(Self { config: Some(Arc::new(config)) })
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let mut store = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates("sslrootcert", file)? {
            store.add(certificate).map_err(|error| unreadable("sslrootcert", file, &error))?;
        }
        return Ok(store);
    }
    // Machines hold certificates that nothing can use any more; as long as there are others, they do not matter.
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        return Err(invalid(
            "this machine has no certificates to trust: install them (ca-certificates), or name a file as `sslrootcert` in the database's URL",
        ));
    }
    Ok(store)
}

fn certificates(name: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(name, file, &error))?;
    if certificates.is_empty() {
        return Err(invalid(format!("`{name}`: there is no certificate in `{}`: it has to be PEM", file.display())));
    }
    Ok(certificates)
}

fn unreadable(name: &str, file: &Path, error: &dyn std::fmt::Display) -> StoreError {
    invalid(format!("`{name}`: the file `{}` cannot be used: {error}", file.display()))
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorKind::Invalid, message)
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = ForHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<ForHost, io::Error> {
        Ok(ForHost { config: self.config.clone(), host: host.to_owned() })
    }
}

/// Begins TLS with one host.
pub(super) struct ForHost {
    config: Option<Arc<ClientConfig>>,
    host: String,
}

impl<S> TlsConnect<S> for ForHost
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or_else(|| io::Error::other("TLS was not asked for"))?;
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            TlsConnector::from(config).connect(name, stream).await.map(|stream| Stream(Box::new(stream)))
        })
    }
}

/// A stream within TLS.
pub(super) struct Stream<S>(Box<TlsStream<S>>);

/// No channel binding: who the server is, its certificate says.
impl<S> tokio_postgres::tls::TlsStream for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S> AsyncRead for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }
}

impl<S> AsyncWrite for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

//! Where and how a webhook posts: settings that were checked, and the client they ask for.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, Proxy, Url, header::HeaderMap, redirect};

use super::{Encoding, SettingsError, WebhookSink, failure::root_cause};
use crate::{clock::Clock, signature::Secret, sink::SinkLimits};

/// Settings that were checked.
pub struct Target {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) limits: SinkLimits,
    pub(super) certificates: Vec<Certificate>,
    pub(super) proxy: Option<Proxy>,
    pub(super) encoding: Encoding,
    pub(super) secrets: Vec<Secret>,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&origin(&self.url)).finish()
    }
}

impl Target {
    /// Makes the sink: loads the machine's certificate authorities, and connects nowhere yet.
    ///
    /// # Errors
    /// [`SettingsError`] if the certificate authorities cannot be loaded.
    pub fn build(self, clock: Arc<dyn Clock>) -> Result<WebhookSink, SettingsError> {
        let client = self.client().map_err(|error| {
            let cause = root_cause(&error);
            let remedy = "install the machine's CA certificates, or give the target's authority";
            SettingsError::of(
                "root_certificates",
                format!("cannot be loaded together with the machine's: {cause}; {remedy}"),
            )
        })?;
        Ok(WebhookSink {
            client,
            origin: origin(&self.url),
            url: self.url,
            headers: self.headers,
            encoding: self.encoding,
            secrets: self.secrets,
            limits: self.limits,
            clock,
        })
    }

    fn client(&self) -> Result<Client, reqwest::Error> {
        // Just below the shortest time that servers in use keep an idle connection (Node.js: 5 s): a request that meets
        // the server's closing has an unknown outcome, a new connection costs a moment.
        const IDLE: Duration = Duration::from_secs(4);
        let mut builder = Client::builder()
            .http1_only()
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(self.limits.max_calls)
            .pool_idle_timeout(IDLE)
            .connect_timeout(self.connect_timeout)
            .timeout(self.timeout);
        let plain = self.url.scheme() == "http" && self.proxy.is_none();
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder = if plain {
            // Without TLS a machine without certificate authorities will do.
            builder.tls_certs_only([])
        } else {
            builder.tls_certs_merge(self.certificates.iter().cloned())
        };
        builder.build()
    }
}

pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

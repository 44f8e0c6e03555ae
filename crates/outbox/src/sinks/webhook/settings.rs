//! What a webhook is configured with.

use std::{fmt, time::Duration};

use reqwest::{
    Certificate, Proxy, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use serde::{Deserialize, Serialize};

use super::{
    sensitive,
    target::{Target, origin},
};
use crate::{
    cloudevents::{batch, json},
    signature::Secret,
    sink::SinkLimits,
};

/// How events become an HTTP request. Rule: CloudEvents 1.0, HTTP protocol binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// One event a call: the attributes are headers, the payload is the body.
    Binary,
    /// One event a call, as one JSON object.
    #[default]
    Structured,
    /// Several events a call, as an array of JSON objects.
    Batch,
}

impl Encoding {
    /// The content type of a request; in binary encoding it is the payload's.
    pub(super) const fn content_type(self) -> Option<&'static str> {
        match self {
            Self::Binary => None,
            Self::Structured => Some(json::MEDIA_TYPE),
            Self::Batch => Some(batch::MEDIA_TYPE),
        }
    }
}

/// What a webhook is configured with. `Debug` hides header values, secrets, and what of an URL may be secret.
#[derive(Clone)]
pub struct WebhookSettings {
    /// Where to post: `http://` or `https://`, without user or password.
    pub url: String,
    /// How events become requests.
    pub encoding: Encoding,
    /// Headers of every request, as `authorization`: names and values.
    pub headers: Vec<(String, String)>,
    /// What requests are signed with; each one signs, so that secrets can be changed without a refused request. None:
    /// requests are not signed.
    pub secrets: Vec<Secret>,
    /// How long a connection may take, name look-up and TLS included.
    pub connect_timeout: Duration,
    /// How long a call may take in all.
    pub timeout: Duration,
    /// Calls at the same time, 1 to 1024: also how many connections are kept open.
    pub max_calls: usize,
    /// Events in a call in batch encoding, 1 to 10,000.
    pub max_events: usize,
    /// Bytes of a call's body; in binary encoding of its attributes too.
    pub max_bytes: usize,
    /// Bytes of one event, at most `max_bytes`.
    pub max_event_bytes: usize,
    /// Certificates, as PEM, of authorities to trust besides the machine's.
    pub root_certificates: Option<Vec<u8>>,
    /// A proxy to go through: `http://` or `https://`. The environment's proxy variables are ignored.
    pub proxy: Option<String>,
}

impl WebhookSettings {
    /// Settings for `url` that suit most targets.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            encoding: Encoding::default(),
            headers: Vec::new(),
            secrets: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(20),
            max_calls: 16,
            max_events: 100,
            // The body that common web servers take unless told otherwise.
            max_bytes: 1024 * 1024,
            max_event_bytes: 1024 * 1024,
            root_certificates: None,
            proxy: None,
        }
    }

    /// What a sink with these settings takes, if they are valid.
    pub fn limits(&self) -> SinkLimits {
        let batches = self.encoding == Encoding::Batch;
        // The array's brackets.
        let framing = if batches { 2 } else { 0 };
        let max_bytes = self.max_bytes.saturating_sub(framing);
        SinkLimits {
            ordered_calls: batches,
            max_events: if batches { self.max_events } else { 1 },
            max_bytes,
            max_event_bytes: self.max_event_bytes.min(max_bytes),
            max_calls: self.max_calls,
        }
    }

    /// Checks every setting, without any effect.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that cannot be used, and the remedy.
    pub fn validate(self) -> Result<Target, SettingsError> {
        check_times(&self)?;
        Ok(Target {
            url: check_url(&self.url)?,
            headers: check_headers(&self.headers, self.encoding)?,
            limits: check_limits(&self)?,
            certificates: self.root_certificates.as_deref().map(check_certificates).transpose()?.unwrap_or_default(),
            proxy: self.proxy.as_deref().map(check_proxy).transpose()?,
            encoding: self.encoding,
            secrets: self.secrets,
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
        })
    }
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = |url: &str| Url::parse(url).map_or_else(|_| "invalid".into(), |url| origin(&url));
        f.debug_struct("WebhookSettings")
            .field("target", &origin(&self.url))
            .field("encoding", &self.encoding)
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("secrets", &self.secrets.len())
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("max_calls", &self.max_calls)
            .field("max_events", &self.max_events)
            .field("max_bytes", &self.max_bytes)
            .field("max_event_bytes", &self.max_event_bytes)
            .field("root_certificates", &self.root_certificates.is_some())
            .field("proxy", &self.proxy.as_deref().map(origin))
            .finish()
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct SettingsError {
    /// The setting, by its name in [`WebhookSettings`].
    pub field: &'static str,
    /// What is wrong with it, and the remedy; no secret values.
    pub problem: String,
}

impl SettingsError {
    pub(super) fn of(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

fn check_url(text: &str) -> Result<Url, SettingsError> {
    let refused = |problem: &str| SettingsError::of("url", problem);
    let example = "write it as `https://example.com/events`";
    let mut url = Url::parse(text).map_err(|error| refused(&format!("is not a URL ({error}): {example}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(&format!("is neither http nor https: {example}")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("holds a user or password: put them into `headers`, as `authorization`"));
    }
    url.set_fragment(None);
    Ok(url)
}

fn check_proxy(text: &str) -> Result<Proxy, SettingsError> {
    let refused = || SettingsError::of("proxy", "is not a proxy's URL: write it as `http://proxy.example.com:3128`");
    let url = Url::parse(text).map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused());
    }
    Proxy::all(url).map_err(|_| refused())
}

fn check_times(settings: &WebhookSettings) -> Result<(), SettingsError> {
    const LONGEST: Duration = Duration::from_secs(600);
    if settings.connect_timeout.is_zero() {
        return Err(SettingsError::of("connect_timeout", "is zero: nothing could connect; 5 s is usual"));
    }
    if settings.timeout < settings.connect_timeout {
        return Err(SettingsError::of("timeout", "is shorter than `connect_timeout`: make it longer; 20 s is usual"));
    }
    if settings.timeout > LONGEST {
        return Err(SettingsError::of(
            "timeout",
            "is longer than 10 min: a target that hangs would hold its keys so long",
        ));
    }
    Ok(())
}

fn check_limits(settings: &WebhookSettings) -> Result<SinkLimits, SettingsError> {
    let refused = |field, problem: &str| Err(SettingsError::of(field, problem));
    if !(1..=1024).contains(&settings.max_calls) {
        return refused("max_calls", "has to be 1 to 1024");
    }
    if !(1..=batch::MAX_EVENTS).contains(&settings.max_events) {
        return refused("max_events", "has to be 1 to 10000");
    }
    if settings.max_bytes < 1024 {
        return refused("max_bytes", "has to be at least 1 KiB: the attributes alone may take that much");
    }
    if settings.max_event_bytes == 0 {
        return refused("max_event_bytes", "is zero: no event could go out");
    }
    if settings.max_event_bytes > settings.max_bytes {
        return refused("max_event_bytes", "is more than `max_bytes`: an event has to fit into a call");
    }
    Ok(settings.limits())
}

/// Headers that the sink or HTTP itself sets.
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name) || name.starts_with("ce-") || name.starts_with("webhook-")
}

fn check_headers(headers: &[(String, String)], encoding: Encoding) -> Result<HeaderMap, SettingsError> {
    let refused = |problem: String| SettingsError::of("headers", problem);
    let mut checked = HeaderMap::with_capacity(headers.len() + 2);
    checked.insert(USER_AGENT, HeaderValue::from_static(concat!("outbox/", env!("CARGO_PKG_VERSION"))));
    if let Some(content_type) = encoding.content_type() {
        checked.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in headers {
        let shown: String = name.escape_debug().take(64).collect();
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(refused(format!("names `{shown}`, which cannot be a header: use letters, digits and hyphens")));
        };
        if is_reserved(header.as_str()) {
            return Err(refused(format!("names `{shown}`, which the sink sets itself: leave it out")));
        }
        let Ok(value) = HeaderValue::from_str(value) else {
            return Err(refused(format!("gives `{shown}` a value that is not plain ASCII: encode it")));
        };
        checked.insert(header, sensitive(value));
    }
    Ok(checked)
}

fn check_certificates(pem: &[u8]) -> Result<Vec<Certificate>, SettingsError> {
    let refused = |problem: &str| SettingsError::of("root_certificates", problem);
    let remedy = "give the authority's certificate as PEM, beginning with `-----BEGIN CERTIFICATE-----`";
    let certificates =
        Certificate::from_pem_bundle(pem).map_err(|_| refused(&format!("cannot be read as PEM: {remedy}")))?;
    if certificates.is_empty() {
        return Err(refused(&format!("holds no certificate: {remedy}")));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut WebhookSettings)) -> SettingsError {
        let mut settings = WebhookSettings::new("https://example.com/events");
        change(&mut settings);
        settings.validate().unwrap_err()
    }

    #[test]
    fn each_bad_setting_is_named() {
        let field = |change: fn(&mut WebhookSettings)| refused(change).field;
        assert_eq!(field(|s| s.url = "example.com".into()), "url");
        assert_eq!(field(|s| s.url = "ftp://example.com".into()), "url");
        assert_eq!(field(|s| s.url = "https://me:secret@example.com".into()), "url");
        assert_eq!(field(|s| s.connect_timeout = Duration::ZERO), "connect_timeout");
        assert_eq!(field(|s| s.timeout = Duration::from_secs(1)), "timeout");
        assert_eq!(field(|s| s.timeout = Duration::from_secs(3600)), "timeout");
        assert_eq!(field(|s| s.max_calls = 0), "max_calls");
        assert_eq!(field(|s| s.max_events = 0), "max_events");
        assert_eq!(field(|s| s.max_bytes = 10), "max_bytes");
        assert_eq!(field(|s| s.max_event_bytes = 0), "max_event_bytes");
        assert_eq!(field(|s| s.max_event_bytes = 2 * 1024 * 1024), "max_event_bytes");
        assert_eq!(field(|s| s.root_certificates = Some(b"none".to_vec())), "root_certificates");
        assert_eq!(field(|s| s.proxy = Some("socks5://proxy".into())), "proxy");
    }

    #[test]
    fn headers_that_cannot_be_sent_or_are_taken_are_refused_without_their_values() {
        for (name, value) in
            [("bad name", "hidden"), ("content-type", "hidden"), ("ce-id", "hidden"), ("X-Key", "hidden\n")]
        {
            let error = refused(|settings| settings.headers.push((name.into(), value.into())));
            assert_eq!(error.field, "headers", "{name}");
            assert!(error.problem.contains(name) && !error.problem.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn only_batches_hold_several_events() {
        let limits = |encoding| {
            let settings = WebhookSettings { encoding, ..WebhookSettings::new("http://localhost") };
            settings.validate().unwrap().limits
        };
        assert_eq!((limits(Encoding::Binary).max_events, limits(Encoding::Binary).ordered_calls), (1, false));
        assert_eq!((limits(Encoding::Structured).max_events, limits(Encoding::Structured).ordered_calls), (1, false));
        assert_eq!((limits(Encoding::Batch).max_events, limits(Encoding::Batch).ordered_calls), (100, true));
    }

    #[test]
    fn debug_output_shows_neither_header_values_nor_secrets_nor_the_url_behind_its_host() {
        let settings = WebhookSettings {
            headers: vec![("authorization".into(), "hidden".into())],
            secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()],
            proxy: Some("http://user:hidden@proxy:3128".into()),
            ..WebhookSettings::new("https://example.com/hidden?token=hidden")
        };
        let shown = format!("{settings:?} {:?}", settings.clone().validate().unwrap());
        assert!(shown.contains("https://example.com"), "{shown}");
        assert!(!shown.contains("hidden") && !shown.contains("MfKQ"), "{shown}");
    }
}

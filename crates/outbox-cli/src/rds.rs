//! Passwords of PostgreSQL on RDS: tokens made of AWS credentials.

use outbox_sql::postgres::ConnectOptions;

/// Why no tokens can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is a password already.
    #[cfg(feature = "aws")]
    HasPassword,
    /// A token lets in at one host, and there are several.
    #[cfg(feature = "aws")]
    SeveralHosts,
    /// What was given is no Region.
    #[cfg(feature = "aws")]
    NoRegion,
    /// This build has nothing that makes them.
    #[cfg(not(feature = "aws"))]
    NotBuilt,
}

impl Refused {
    /// What is wrong with the Region that is `written`, and what to do.
    pub(crate) fn told(self, written: &str) -> (String, &'static str) {
        match self {
            #[cfg(feature = "aws")]
            Self::HasPassword => ("there is a password in the URL already".to_owned(), "leave it out of the URL"),
            #[cfg(feature = "aws")]
            Self::SeveralHosts => (
                "the URL names several hosts, and a token lets in at one".to_owned(),
                "name one that leads to the primary, as a cluster's endpoint does",
            ),
            #[cfg(feature = "aws")]
            Self::NoRegion => (format!("`{written}` is no Region"), "write the database's Region, as \"eu-west-1\""),
            #[cfg(not(feature = "aws"))]
            Self::NotBuilt => {
                (format!("`{written}` cannot be used by this build"), "build the command with the feature `aws`")
            }
        }
    }
}

/// `options` with a token of `region` in place of each connection's password.
///
/// # Errors
/// [`Refused`], if that is not possible.
#[cfg(feature = "aws")]
pub(crate) fn with_tokens(options: ConnectOptions, region: &str) -> Result<ConnectOptions, Refused> {
    if options.has_password() {
        return Err(Refused::HasPassword);
    }
    if !options.names_one_host() {
        return Err(Refused::SeveralHosts);
    }
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.is_empty() || !region.bytes().all(is_plain) {
        return Err(Refused::NoRegion);
    }
    let settings = outbox_aws::Settings { region: Some(region.to_owned()), ..outbox_aws::Settings::default() };
    Ok(options.passwords(std::sync::Arc::new(outbox_aws::rds::RdsTokens::new(settings))))
}

/// None can be made.
///
/// # Errors
/// Always.
#[cfg(not(feature = "aws"))]
pub(crate) fn with_tokens(_: ConnectOptions, _: &str) -> Result<ConnectOptions, Refused> {
    Err(Refused::NotBuilt)
}

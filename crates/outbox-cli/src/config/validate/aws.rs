//! Where AWS is and who asks: the same keys wherever something on AWS is configured.

use outbox_aws::Settings;

use crate::config::section::Section;

/// The keys `region`, `endpoint` and `role` of `section`. What is left out comes from the SDK's default chain.
pub(super) fn settings(section: &Section<'_>) -> Settings {
    let region = section.parsed("region", "eu-west-1", |text| {
        let is_region = text.len() <= 64 && text.split('-').count() >= 2;
        let is_region = is_region && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_region { Ok(text.to_owned()) } else { Err("is not a region: write it as `eu-west-1`".to_owned()) }
    });
    let endpoint = section.parsed("endpoint", "https://vpce-1.events.eu-west-1.vpce.amazonaws.com", |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_endpoint = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#', ' ']));
        if is_endpoint {
            Ok(text.to_owned())
        } else {
            Err("is not an endpoint: write `https://` and a host, without user or query".to_owned())
        }
    });
    let role = section.parsed("role", "arn:aws:iam::111122223333:role/outbox", |text| {
        let parts: Vec<_> = text.split(':').collect();
        let is_role = matches!(parts[..], ["arn", partition, "iam", "", account, role]
            if partition.starts_with("aws") && account.len() == 12 && role.starts_with("role/"));
        if is_role {
            Ok(text.to_owned())
        } else {
            Err("is not a role's ARN: write it as `arn:aws:iam::111122223333:role/outbox`".to_owned())
        }
    });
    Settings { region, endpoint, role }
}

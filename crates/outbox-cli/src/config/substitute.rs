//! `${NAME}` in the texts of a configuration, so that secrets stay out of the file.

/// Puts environment variables into `text`: `${NAME}`, or `${NAME:-default}` where it may be missing. `$$` stands for a
/// dollar sign. `lookup` gives a variable's value.
///
/// # Errors
/// What is wrong and the remedy. The text itself is not in it, nor any value.
pub(crate) fn substitute(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let behind = &rest[dollar + 1..];
        if let Some(after) = behind.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(body) = behind.strip_prefix('{') {
            let Some(end) = body.find('}') else {
                return Err((
                    "a `${` without its `}`".to_owned(),
                    "write `${NAME}`, or `$$` for a dollar sign".to_owned(),
                ));
            };
            out.push_str(&value_of(&body[..end], &lookup)?);
            rest = &body[end + 1..];
        } else {
            out.push('$');
            rest = behind;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(body: &str, lookup: &impl Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let (name, default) = body.split_once(":-").map_or((body, None), |(name, default)| (name, Some(default)));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err((
            // What stands there may be a secret: a default behind another sign than `:-`, or a `$` of a password.
            "what stands between `${` and `}` does not name an environment variable".to_owned(),
            "use letters, digits and `_`, as `${LEDGER_SECRET}` or `${LEDGER_HOST:-localhost}`; `$$` is a dollar sign"
                .to_owned(),
        ));
    }
    match (lookup(name).filter(|value| !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it for this process, or give a default: `${{{name}:-…}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, (String, String)> {
        substitute(text, |name| match name {
            "HOST" => Some("ledger.example.com".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${HOST}".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_put_in_and_defaults_where_they_are_missing_or_empty() {
        assert_eq!(with("https://${HOST}/events").unwrap(), "https://ledger.example.com/events");
        assert_eq!(with("${NOT_SET:-a}${EMPTY:-b}").unwrap(), "ab");
        assert_eq!(with("${NOT_SET:-}").unwrap(), "");
    }

    #[test]
    fn a_value_is_not_substituted_again() {
        assert_eq!(with("${DOLLAR}").unwrap(), "${HOST}");
    }

    #[test]
    fn two_dollars_are_one_and_a_lone_one_stays() {
        assert_eq!(with("$${HOST} $5 $").unwrap(), "${HOST} $5 $");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for text in ["${SECRET-hush}", "pass${hush-word}", "${NOT_SET?hush}", "a${hush"] {
            let (message, help) = with(text).unwrap_err();
            assert!(!message.contains("hush") && !help.contains("hush"), "{message}: {help}");
        }
    }

    #[test]
    fn what_is_not_set_or_malformed_is_refused() {
        for text in ["${NOT_SET}", "${EMPTY}", "${HOST", "${}", "${a b}", "${1A}"] {
            assert!(with(text).is_err(), "{text}");
        }
    }
}

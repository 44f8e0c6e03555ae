//! What CloudEvents 1.0 allows as an attribute's name and value.

use std::{borrow::Cow, fmt, sync::Arc};

/// Attributes of CloudEvents 1.0 itself, and the payload's member names in its JSON format: never extensions.
pub(crate) const CORE_NAMES: [&str; 10] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"];

/// An extension attribute's value, in the CloudEvents types that survive every encoding. URIs, time stamps and binary
/// values are carried as their canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A 32-bit signed integer.
    Integer(i32),
    /// Text without control characters.
    Text(Arc<str>),
}

impl AttributeValue {
    /// The canonical text of the value, as HTTP headers carry it.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(true) => Cow::Borrowed("true"),
            Self::Boolean(false) => Cow::Borrowed("false"),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Boolean(_) | Self::Integer(_) => 0,
            Self::Text(text) => text.len(),
        }
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl From<bool> for AttributeValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for AttributeValue {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for AttributeValue {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for AttributeValue {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

/// An attribute that CloudEvents 1.0, or a limit of Outbox, does not allow. Names the attribute and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// A required attribute is missing or empty.
    #[error("`{0}` is empty: give it at least one character")]
    Empty(String),
    /// Longer than allowed.
    #[error("`{name}` has {bytes} bytes, more than the {limit} allowed: shorten it")]
    TooLong {
        /// The attribute.
        name: String,
        /// Its length in bytes of UTF-8.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character that CloudEvents does not allow in text.
    #[error("`{name}` holds the character U+{character:04X}, which CloudEvents does not allow: remove it")]
    Character {
        /// The attribute.
        name: String,
        /// The character's code point.
        character: u32,
    },
    /// Not a URI reference.
    #[error("`{0}` is not a URI reference: write it without spaces, as `/orders` or `https://example.com/orders`")]
    NotUriReference(String),
    /// A name that cannot be an extension's.
    #[error("`{0}` cannot name an extension: use 1 to 20 lower-case letters and digits")]
    BadName(String),
    /// A name that has a meaning already.
    #[error("`{0}` is set by Outbox or by CloudEvents itself: choose another name for the extension")]
    ReservedName(String),
    /// A required attribute that is not there.
    #[error("`{0}` is missing: add it")]
    Missing(&'static str),
    /// A value that cannot be read as its attribute's type.
    #[error("`{name}` is not {expected}")]
    BadValue {
        /// The attribute.
        name: String,
        /// What it has to be.
        expected: &'static str,
    },
}

/// Checks non-empty text of at most `limit` bytes.
///
/// Rule: CloudEvents 1.0, type system, String: no control characters (U+0000-001F, U+007F-009F) and no noncharacters.
///
/// # Errors
/// [`AttributeError`] names what is wrong with `name`.
pub fn check_text(name: &str, text: &str, limit: usize) -> Result<(), AttributeError> {
    if text.is_empty() {
        return Err(AttributeError::Empty(name.to_owned()));
    }
    if text.len() > limit {
        return Err(AttributeError::TooLong { name: name.to_owned(), bytes: text.len(), limit });
    }
    // Nearly all text is plain; looking at bytes is many times faster than at characters.
    if text.bytes().all(|byte| (0x20..0x7F).contains(&byte)) {
        return Ok(());
    }
    match text.chars().find(|&character| is_forbidden(character)) {
        Some(character) => Err(AttributeError::Character { name: name.to_owned(), character: character.into() }),
        None => Ok(()),
    }
}

fn is_forbidden(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || (code & 0xFFFE) == 0xFFFE
}

/// Checks a URI reference (RFC 3986) as far as a producer's name needs it: text without spaces or the characters that
/// no URI may hold.
///
/// # Errors
/// [`AttributeError`] names what is wrong with `name`.
pub fn check_uri_reference(name: &str, text: &str) -> Result<(), AttributeError> {
    check_text(name, text, super::MAX_ATTRIBUTE_BYTES)?;
    let forbidden = |byte| matches!(byte, b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
    if text.bytes().any(forbidden) {
        return Err(AttributeError::NotUriReference(name.to_owned()));
    }
    Ok(())
}

/// What a stranger sent, fit for a message: short, and on one line.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(64).collect()
}

/// Checks that `name` may name an extension.
///
/// Rule: CloudEvents 1.0, naming conventions: lower-case letters and digits, and should not exceed 20 characters.
///
/// # Errors
/// [`AttributeError::BadName`], or [`AttributeError::ReservedName`] for an attribute of CloudEvents itself.
pub fn check_extension_name(name: &str) -> Result<(), AttributeError> {
    if CORE_NAMES.contains(&name) {
        return Err(AttributeError::ReservedName(name.to_owned()));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || name.len() > 20 || !name.bytes().all(allowed) {
        return Err(AttributeError::BadName(shown(name)));
    }
    Ok(())
}

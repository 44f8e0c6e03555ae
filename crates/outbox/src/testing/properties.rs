//! What has to hold of everything that reads what others wrote: each property once, as a function of bytes that panics
//! where it does not hold. The fuzz targets in `fuzz/` call these with what the fuzzer makes up, the tests beside them
//! with what proptest does.
//!
//! Of every reader: it never panics; what it takes keeps the rules of its type, and comes back the same after it was
//! written and read again; what it refuses it names in one short line that shows nothing of a payload or secret.

mod encodings;
mod message;
mod payload;
mod records;
mod texts;

#[cfg(all(feature = "webhook", feature = "receiver"))]
mod answers;
#[cfg(feature = "receiver")]
mod receiver;
#[cfg(any(feature = "webhook", feature = "receiver"))]
mod signatures;

#[cfg(all(feature = "webhook", feature = "receiver"))]
pub use answers::webhook_answer;
pub use encodings::{batch_json, event, http_message, structured_json};
pub use payload::{hides, hides_payload};
#[cfg(feature = "receiver")]
pub use receiver::receiver;
pub use records::record;
#[cfg(any(feature = "webhook", feature = "receiver"))]
pub use signatures::signature;
pub use texts::text;

#[cfg(test)]
mod tests;

/// What may be said of something that is refused: one line that is fit for a log and an answer.
///
/// # Panics
/// If it is empty, long, or holds a control character.
pub fn told(error: &str) {
    const LONGEST: usize = 1024;
    assert!(!error.is_empty(), "an error that says nothing");
    assert!(error.len() <= LONGEST, "an error of {} bytes: {error:.200}", error.len());
    assert!(!error.contains(char::is_control), "an error with a control character: {error:?}");
}

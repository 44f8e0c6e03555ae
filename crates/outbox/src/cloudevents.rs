//! CloudEvents 1.0 encodings.

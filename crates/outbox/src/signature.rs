//! Standard Webhooks signatures: an HMAC-SHA256 over id, time stamp and body, so that a receiver knows who sent a
//! request, that nobody changed it, and that it is not an old one played again.
//!
//! Three headers carry it: `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature` (one or more
//! of `v1,<base64>`, separated by spaces). A sender signs with several secrets while one replaces another, and a
//! receiver accepts any secret it knows: add the new secret to the receiver, then to the sender, then take the old one
//! from both, and no request is ever refused.
//!
//! Rule: Standard Webhooks 1.0, <https://www.standardwebhooks.com>, symmetric scheme.

use std::{fmt, str::FromStr, time::Duration};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{
    Hmac, KeyInit, Mac,
    digest::{CtOutput, Output},
};
use jiff::Timestamp;
use sha2::Sha256;

/// Header with what is signed together with the body: the same for every attempt, so that a receiver can tell a
/// repetition by it.
pub const ID_HEADER: &str = "webhook-id";
/// Header with the time of this attempt, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

const SECRET_PREFIX: &str = "whsec_";
const SIGNATURE_PREFIX: &str = "v1,";
/// Rule: Standard Webhooks 1.0, signature scheme.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Senders differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

type HmacSha256 = Hmac<Sha256>;

/// A secret that sender and receiver share: `whsec_` and 24 to 64 random bytes in Base64. `Debug` hides it.
#[derive(Clone)]
pub struct Secret {
    /// Keyed once, because every signature would otherwise hash the key again.
    keyed: HmacSha256,
}

/// A text that is not a secret. Does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Another kind of secret, or none.
    #[error("a signing secret starts with `whsec_`: make one as `whsec_` and the Base64 of 32 random bytes")]
    Prefix,
    /// Not Base64.
    #[error("what follows `whsec_` is not Base64: copy the secret whole, without quotes or line breaks")]
    Base64,
    /// Too few bytes to be secret, or more than the specification allows.
    #[error("the secret has {0} bytes; it needs 24 to 64: make one as `whsec_` and the Base64 of 32 random bytes")]
    Length(usize),
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = BASE64.decode(encoded).map_err(|_| SecretError::Base64)?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(SecretError::Length(bytes.len()));
        }
        let keyed = HmacSha256::new_from_slice(&bytes).map_err(|_| SecretError::Length(bytes.len()))?;
        Ok(Self { keyed })
    }
}

impl Secret {
    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> CtOutput<HmacSha256> {
        let timestamp = timestamp.to_string();
        self.keyed
            .clone()
            .chain_update(id)
            .chain_update(".")
            .chain_update(timestamp)
            .chain_update(".")
            .chain_update(body)
            .finalize()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// One signature, as `v1,<base64>`. `id` and `timestamp` have to be sent exactly so; `id` must hold no full stop, for
/// full stops separate what is signed, and [`Verifier::verify`] refuses it.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut signature = String::with_capacity(SIGNATURE_PREFIX.len() + 44);
    signature.push_str(SIGNATURE_PREFIX);
    BASE64.encode_string(secret.mac(id, timestamp, body).into_bytes(), &mut signature);
    signature
}

/// The `webhook-signature` header: a signature by each secret, in their order.
pub fn sign_with_all(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    secrets.iter().map(|secret| sign(secret, id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

/// Why a request is not believed. Says nothing that helps a forger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The id holds a full stop: with one, the same signature would fit another body and time stamp.
    #[error("`webhook-id` holds a full stop, which separates what is signed: the sender has to leave it out")]
    Id,
    /// The time stamp is not a number of seconds.
    #[error("`webhook-timestamp` is not a number of seconds since 1970")]
    Timestamp,
    /// The request is too old: played again, or the clocks differ.
    #[error(
        "`webhook-timestamp` is too far in the past: if the request is not an old one, set the clocks of both sides"
    )]
    TooOld,
    /// The request comes from the future: the clocks differ.
    #[error("`webhook-timestamp` is too far in the future: set the clocks of both sides")]
    TooNew,
    /// No signature that this scheme knows.
    #[error("`webhook-signature` holds no `v1` signature: the sender has to sign with a `whsec_` secret")]
    NoSignature,
    /// None of the signatures is by a secret that is known here.
    #[error(
        "no signature is by a secret known here: compare the secrets of both sides, and that nothing changes the body"
    )]
    Mismatch,
}

/// Checks requests against the secrets of a receiver.
#[derive(Clone, Debug)]
pub struct Verifier {
    secrets: Vec<Secret>,
    tolerance: Duration,
}

impl Verifier {
    /// Accepts a signature by any of `secrets` whose time stamp is at most `tolerance` from now, either way; five
    /// minutes are usual. Without a secret nothing is accepted.
    pub fn new(secrets: Vec<Secret>, tolerance: Duration) -> Self {
        Self { secrets, tolerance }
    }

    /// Checks the three headers of a request against its body, exactly as it was received.
    ///
    /// Takes the same time however much of a signature is right.
    ///
    /// # Errors
    /// [`SignatureError`] says what to compare on both sides; the request must not be acted on.
    pub fn verify(
        &self,
        id: &str,
        timestamp_header: &str,
        signature_header: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        // Rule: Standard Webhooks 1.0, signature scheme: the id holds no full stop. Else `a` at 1 with the body `2.b` would
        // be signed as `a.1` at 2 with the body `b` is.
        if id.contains('.') {
            return Err(SignatureError::Id);
        }
        let timestamp = read_timestamp(timestamp_header)?;
        let now = now.as_second();
        if now.abs_diff(timestamp) > self.tolerance.as_secs() {
            return Err(if timestamp < now { SignatureError::TooOld } else { SignatureError::TooNew });
        }
        let offered = read_signatures(signature_header);
        if offered.is_empty() {
            return Err(SignatureError::NoSignature);
        }
        let mut known = false;
        for secret in &self.secrets {
            let expected = secret.mac(id, timestamp, body);
            for signature in &offered {
                known |= expected == *signature;
            }
        }
        if known { Ok(()) } else { Err(SignatureError::Mismatch) }
    }
}

/// Digits only: `+1` would read as the same number as `1`, but is another signed text.
fn read_timestamp(header: &str) -> Result<i64, SignatureError> {
    if header.is_empty() || header.starts_with('0') || !header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SignatureError::Timestamp);
    }
    header.parse().map_err(|_| SignatureError::Timestamp)
}

/// The `v1` signatures of the header; other schemes, as `v1a`, are passed over.
fn read_signatures(header: &str) -> Vec<CtOutput<HmacSha256>> {
    header
        .split_ascii_whitespace()
        .filter_map(|signature| BASE64.decode(signature.strip_prefix(SIGNATURE_PREFIX)?).ok())
        .filter_map(|bytes| Output::<HmacSha256>::try_from(bytes.as_slice()).ok())
        .map(CtOutput::new)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The example of the specification's reference implementations.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    fn other() -> Secret {
        secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn verify(secrets: &[Secret], signatures: &str, body: &[u8]) -> Result<(), SignatureError> {
        Verifier::new(secrets.to_vec(), FIVE_MINUTES).verify(
            ID,
            &TIMESTAMP.to_string(),
            signatures,
            body,
            at(TIMESTAMP + 10),
        )
    }

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        assert_eq!(sign(&secret(SECRET), ID, TIMESTAMP, BODY), SIGNATURE);
    }

    #[test]
    fn the_example_of_the_specification_is_believed() {
        assert_eq!(verify(&[secret(SECRET)], SIGNATURE, BODY), Ok(()));
    }

    #[test]
    fn during_a_rotation_a_receiver_that_knows_either_secret_believes() {
        let both = sign_with_all(&[secret(SECRET), other()], ID, TIMESTAMP, BODY);
        assert_eq!(both.split(' ').count(), 2);
        assert_eq!(verify(&[secret(SECRET)], &both, BODY), Ok(()));
        assert_eq!(verify(&[other()], &both, BODY), Ok(()));
        assert_eq!(verify(&[other(), secret(SECRET)], SIGNATURE, BODY), Ok(()));
    }

    #[test]
    fn a_changed_body_id_or_time_stamp_is_not_believed() {
        let verifier = Verifier::new(vec![secret(SECRET)], FIVE_MINUTES);
        let try_with =
            |id: &str, timestamp: &str, body: &[u8]| verifier.verify(id, timestamp, SIGNATURE, body, at(TIMESTAMP));
        assert_eq!(try_with(ID, "1614265330", BODY), Ok(()));
        assert_eq!(try_with(ID, "1614265330", br#"{"test": 2432232315}"#), Err(SignatureError::Mismatch));
        assert_eq!(try_with("msg_other", "1614265330", BODY), Err(SignatureError::Mismatch));
        assert_eq!(try_with(ID, "1614265331", BODY), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_signature_does_not_fit_the_same_text_cut_into_other_parts() {
        let known = secret(SECRET);
        let signature = sign(&known, ID, TIMESTAMP, b"1614265333.25");
        let verifier = Verifier::new(vec![known], FIVE_MINUTES);
        let id = format!("{ID}.{TIMESTAMP}");
        assert_eq!(verifier.verify(&id, "1614265333", &signature, b"25", at(TIMESTAMP)), Err(SignatureError::Id));
    }

    #[test]
    fn a_signature_by_an_unknown_secret_is_not_believed() {
        assert_eq!(verify(&[other()], SIGNATURE, BODY), Err(SignatureError::Mismatch));
        assert_eq!(verify(&[], SIGNATURE, BODY), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_shortened_signature_is_not_believed() {
        assert_eq!(verify(&[secret(SECRET)], "v1,g0hM9Q==", BODY), Err(SignatureError::NoSignature));
        assert_eq!(verify(&[secret(SECRET)], "v1,", BODY), Err(SignatureError::NoSignature));
    }

    #[test]
    fn signatures_of_other_schemes_are_passed_over() {
        let asymmetric = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        assert_eq!(verify(&[secret(SECRET)], &format!("{asymmetric} {SIGNATURE}"), BODY), Ok(()));
        assert_eq!(verify(&[secret(SECRET)], asymmetric, BODY), Err(SignatureError::NoSignature));
    }

    #[test]
    fn the_tolerance_holds_in_both_directions_to_the_second() {
        let verifier = Verifier::new(vec![secret(SECRET)], FIVE_MINUTES);
        let on = |now| verifier.verify(ID, "1614265330", SIGNATURE, BODY, at(now));
        assert_eq!(on(TIMESTAMP + 300), Ok(()));
        assert_eq!(on(TIMESTAMP - 300), Ok(()));
        assert_eq!(on(TIMESTAMP + 301), Err(SignatureError::TooOld));
        assert_eq!(on(TIMESTAMP - 301), Err(SignatureError::TooNew));
    }

    #[test]
    fn a_time_stamp_that_is_no_plain_number_is_refused() {
        let verifier = Verifier::new(vec![secret(SECRET)], FIVE_MINUTES);
        for header in ["", "+1614265330", "01614265330", "1614265330.0", "now", "-1", "99999999999999999999"] {
            let answer = verifier.verify(ID, header, SIGNATURE, BODY, at(TIMESTAMP));
            assert_eq!(answer, Err(SignatureError::Timestamp), "{header}");
        }
    }

    #[test]
    fn each_bad_secret_is_refused_with_what_to_do() {
        let refused = |text: &str| text.parse::<Secret>().unwrap_err();
        assert_eq!(refused("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), SecretError::Prefix);
        assert_eq!(refused("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), SecretError::Prefix);
        assert_eq!(refused("whsec_not base64"), SecretError::Base64);
        assert_eq!(refused("whsec_c2hvcnQ="), SecretError::Length(5));
        assert_eq!(refused(&format!("whsec_{}", "A".repeat(88))), SecretError::Length(66));
    }

    #[test]
    fn a_secret_is_read_with_and_without_padding() {
        let sign_with = |text: &str| sign(&secret(text), ID, TIMESTAMP, BODY);
        assert_eq!(sign_with(&format!("whsec_{}", "A".repeat(43))), sign_with(&format!("whsec_{}=", "A".repeat(43))));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let shown = format!("{:?}", Verifier::new(vec![secret(SECRET)], FIVE_MINUTES));
        assert!(shown.contains("hidden") && !shown.contains("MfKQ"), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_signed_is_believed(id in "[a-zA-Z0-9_/@-]{1,40}", body: Vec<u8>, timestamp in 1_i64..4_000_000_000) {
            let signature = sign(&other(), &id, timestamp, &body);
            let verifier = Verifier::new(vec![other()], FIVE_MINUTES);
            prop_assert_eq!(verifier.verify(&id, &timestamp.to_string(), &signature, &body, at(timestamp)), Ok(()));
        }

        #[test]
        fn no_header_makes_a_receiver_panic(timestamp: String, signatures: String) {
            let verifier = Verifier::new(vec![other()], FIVE_MINUTES);
            prop_assert!(verifier.verify(ID, &timestamp, &signatures, BODY, at(TIMESTAMP)).is_err());
        }
    }
}

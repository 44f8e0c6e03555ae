//! Webhook signatures.

use std::time::Duration;

use jiff::Timestamp;

use super::told;
use crate::signature::{Secret, SignatureError, Verifier, sign, sign_with_all};

/// Secrets that no input knows.
const SECRETS: [&str; 2] =
    ["whsec_b3V0Ym94J3MgcHJvcGVydGllcywgZmlyc3Qgc2VjcmV0", "whsec_b3V0Ym94J3MgcHJvcGVydGllcywgc2Vjb25kIG9uZSE="];
const TOLERANCE: u64 = 300;

/// What a receiver is sent: id, time stamp and signatures a line each, and behind them the body. The first line is
/// read as a secret too.
///
/// # Panics
/// If a property does not hold.
pub fn signature(bytes: &[u8]) {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut part = || lines.next().unwrap_or_default();
    let mut text = || String::from_utf8_lossy(part()).into_owned();
    let (id, timestamp, offered) = (text(), text(), text());
    let body = part();
    secret(&id);
    let [known, other] = SECRETS.map(str::parse::<Secret>);
    let (Ok(known), Ok(other)) = (known, other) else { panic!("a secret of this test is none") };
    forged(&known, [&id, &timestamp, &offered], body);
    if let Ok(time) = timestamp.parse::<i64>() {
        genuine(&[known, other], &id, time, body);
    }
}

/// Nobody signs without the secret.
fn forged(known: &Secret, [id, timestamp, offered]: [&str; 3], body: &[u8]) {
    let verifier = Verifier::new(vec![known.clone()], Duration::from_secs(TOLERANCE));
    let now = timestamp.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
    match verifier.verify(id, timestamp, offered, body, now.unwrap_or_default()) {
        Ok(()) => panic!("a forged signature was believed"),
        Err(error) => told(&error.to_string()),
    }
}

/// What was signed is believed, and nothing else is: not under another id, at another time, nor with another body or
/// secret; and however the signed text may be cut into parts in another way.
fn genuine([known, other]: &[Secret; 2], id: &str, time: i64, body: &[u8]) {
    let Ok(now) = Timestamp::from_second(time) else { return };
    let believes = |secret: &Secret, id: &str, time: &str, signature: &str, body: &[u8]| {
        let verifier = Verifier::new(vec![secret.clone()], Duration::from_secs(TOLERANCE));
        let now = time.parse().ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(now);
        verifier.verify(id, time, signature, body, now)
    };
    let (signature, at) = (sign(known, id, time, body), time.to_string());
    // A full stop separates what is signed, and the time of a request is not before 1970.
    let may_be_believed = time > 0 && !id.contains('.');
    assert_eq!(believes(known, id, &at, &signature, body).is_ok(), may_be_believed, "{id:?} at {at}");
    if !may_be_believed {
        return;
    }
    let rotated = sign_with_all(&[other.clone(), known.clone()], id, time, body);
    assert_eq!(believes(known, id, &at, &rotated, body), Ok(()));
    let longer = [body, b"x"].concat();
    for (secret, id, at, body) in [
        (known, id, &*at, &*longer),
        (known, id, &*at, body.split_last().map_or(&b"x"[..], |(_, shorter)| shorter)),
        (known, &*format!("{id}x"), &*at, body),
        (known, id, &*format!("{at}0"), body),
        (other, id, &*at, body),
    ] {
        let answer = believes(secret, id, at, &signature, body);
        assert!(answer.is_err(), "a signature was believed of something else: {id:?} at {at}");
    }
    if let Some((second, rest)) = cut(body) {
        let answer = believes(known, &format!("{id}.{at}"), second, &signature, rest);
        assert!(answer.is_err(), "the signed text was cut in another place: {second}");
    }
    for late in [time.saturating_add_unsigned(TOLERANCE + 1), time.saturating_sub_unsigned(TOLERANCE + 1)] {
        let verifier = Verifier::new(vec![known.clone()], Duration::from_secs(TOLERANCE));
        let Ok(late) = Timestamp::from_second(late) else { continue };
        let answer = verifier.verify(id, &at, &signature, body, late);
        assert!(matches!(answer, Err(SignatureError::TooOld | SignatureError::TooNew)), "{answer:?}");
    }
}

/// A body that itself looks like a time stamp and a body.
fn cut(body: &[u8]) -> Option<(&str, &[u8])> {
    let stop = body.iter().position(|byte| *byte == b'.')?;
    Some((std::str::from_utf8(&body[..stop]).ok()?, &body[stop + 1..]))
}

fn secret(text: &str) {
    match text.parse::<Secret>() {
        Ok(secret) => {
            let shown = format!("{secret:?}");
            assert!(!shown.contains(text.trim_start_matches("whsec_")), "a secret shows itself");
        }
        Err(error) => told(&error.to_string()),
    }
}

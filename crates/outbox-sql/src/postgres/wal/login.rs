//! Beginning a session of the replication protocol: who we are, and the proof.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use outbox::{ErrorKind, StoreError};
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::frontend,
};
use tokio_postgres::Config;

use super::{frame::Frames, refused};

pub(super) const LOGGING_IN: &str = "logging in for replication";

/// What the server asks for.
enum Asked {
    Nothing,
    Password,
    Md5([u8; 4]),
    Sasl,
}

/// Logs in, for replication in the database of `config`, and waits until the server takes commands.
///
/// # Errors
/// [`ErrorKind::NotPermitted`] if the server lets us not in; [`ErrorKind::Incompatible`] if it wants a proof that is not
/// known here; otherwise as the connection failed.
pub(super) async fn log_in(frames: &mut Frames, config: &Config) -> Result<(), StoreError> {
    let user = config.get_user().unwrap_or_default();
    let mut message = BytesMut::new();
    let mut parameters = vec![
        ("user", user),
        ("database", config.get_dbname().unwrap_or(user)),
        ("replication", "database"),
        ("client_encoding", "UTF8"),
    ];
    parameters.extend(config.get_application_name().map(|name| ("application_name", name)));
    parameters.extend(config.get_options().map(|options| ("options", options)));
    frontend::startup_message(parameters, &mut message).map_err(broken)?;
    frames.send(&message).await.map_err(broken)?;
    let password = || {
        config.get_password().ok_or_else(|| {
            let message = format!(
                "{LOGGING_IN}: the server wants a password, and there is none: write it into the database's URL"
            );
            StoreError::new(ErrorKind::NotPermitted, message)
        })
    };
    match asked(&expect(frames, b'R').await?)? {
        Asked::Nothing => return until_ready(frames).await,
        Asked::Password => send_password(frames, password()?).await?,
        Asked::Md5(salt) => {
            send_password(frames, md5_hash(user.as_bytes(), password()?, salt).as_bytes()).await?;
        }
        Asked::Sasl => prove(frames, password()?).await?,
    }
    match asked(&expect(frames, b'R').await?)? {
        Asked::Nothing => until_ready(frames).await,
        Asked::Password | Asked::Md5(_) | Asked::Sasl => Err(strange("a second question for the password")),
    }
}

/// The body of the next message, which has to be of this kind.
async fn expect(frames: &mut Frames, tag: u8) -> Result<Bytes, StoreError> {
    loop {
        let frame = frames.next().await.map_err(broken)?;
        match frame.tag {
            b'E' => return Err(refused(LOGGING_IN, &frame.body)),
            b'N' => {}
            found if found == tag => return Ok(frame.body),
            found => return Err(strange(&format!("a message `{}`", char::from(found)))),
        }
    }
}

fn asked(body: &Bytes) -> Result<Asked, StoreError> {
    let Some((kind, rest)) = body.split_first_chunk::<4>() else { return Err(strange("a short question")) };
    match u32::from_be_bytes(*kind) {
        0 => Ok(Asked::Nothing),
        3 => Ok(Asked::Password),
        5 => rest.try_into().map(Asked::Md5).map_err(|_| strange("a salt of another length")),
        10 if rest.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) => Ok(Asked::Sasl),
        other => {
            let message = format!(
                "{LOGGING_IN}: the server wants a proof of kind {other}, which is not known here: have its pg_hba.conf ask for scram-sha-256"
            );
            Err(StoreError::new(ErrorKind::Incompatible, message))
        }
    }
}

async fn send_password(frames: &mut Frames, password: &[u8]) -> Result<(), StoreError> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message).map_err(broken)?;
    frames.send(&message).await.map_err(broken)
}

/// Proves by SCRAM that the password is known, and lets the server prove the same.
async fn prove(frames: &mut Frames, password: &[u8]) -> Result<(), StoreError> {
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message).map_err(broken)?;
    frames.send(&message).await.map_err(broken)?;
    let first = sasl(expect(frames, b'R').await?, 11)?;
    scram.update(&first).map_err(broken)?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(broken)?;
    frames.send(&message).await.map_err(broken)?;
    let last = sasl(expect(frames, b'R').await?, 12)?;
    scram.finish(&last).map_err(|_| {
        let message =
            format!("{LOGGING_IN}: the server could not prove that it knows the password: is it the right one?");
        StoreError::new(ErrorKind::NotPermitted, message)
    })
}

fn sasl(mut body: Bytes, kind: u32) -> Result<Bytes, StoreError> {
    match body.try_get_u32() {
        Ok(found) if found == kind => Ok(body),
        Ok(_) | Err(_) => Err(strange("an answer out of turn")),
    }
}

/// Reads what the server tells of itself, until it waits for a command.
async fn until_ready(frames: &mut Frames) -> Result<(), StoreError> {
    loop {
        let frame = frames.next().await.map_err(broken)?;
        match frame.tag {
            b'E' => return Err(refused(LOGGING_IN, &frame.body)),
            b'Z' => return Ok(()),
            // Parameters, the key to cancel by, notices.
            _ => {}
        }
    }
}

fn strange(found: &str) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, format!("{LOGGING_IN}: {found} was not expected: is this PostgreSQL?"))
}

fn broken(error: io::Error) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, format!("{LOGGING_IN}: {error}")).because(error)
}

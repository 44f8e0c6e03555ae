//! The kinds of I/O that a relay does, and their names.

use std::{fmt, str::FromStr};

/// The enumeration, the list of all of it, and the names, from one list: none can be left out.
macro_rules! ios {
    ($($io:ident: $doer:ident,)*) => {
        /// One kind of I/O that a relay does: a method of a source, a store, a bookkeeping or a sink.
        ///
        /// Shown and parsed by its name as it stands here, which stays: schedules of crashes are written with it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is named like the method that it stands for")]
        pub enum Io {
            $($io,)*
        }

        impl Io {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$io,)*];

            /// Who does it.
            pub const fn doer(self) -> Doer {
                match self {
                    $(Self::$io => Doer::$doer,)*
                }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$io => stringify!($io),)*
                }
            }
        }
    };
}

/// Who does an [`Io`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doer {
    /// Every relay.
    Relays,
    /// A relay whose source's partitions come and go, or that does not promise the order of a key.
    Streams,
    /// People: by a command, or when a store was put back.
    Operators,
}

ios! {
    // Source
    Partitions: Relays,
    Start: Relays,
    Read: Relays,
    Fetch: Streams,
    Backlog: Relays,
    Beginning: Streams,
    Recovery: Streams,
    AfterRecovery: Streams,
    // Sink
    Check: Relays,
    Publish: Relays,
    // BusinessStore
    Identity: Relays,
    Claim: Relays,
    Disown: Operators,
    Routes: Relays,
    Register: Relays,
    RenameRegistered: Operators,
    RetireRoute: Operators,
    Purge: Relays,
    Agreement: Relays,
    RaiseIncarnation: Operators,
    // Bookkeeping
    Id: Relays,
    Lease: Relays,
    Take: Relays,
    Renew: Relays,
    Release: Relays,
    Claims: Relays,
    NoteClaims: Relays,
    Checkpoints: Relays,
    Checkpoint: Relays,
    Witnesses: Relays,
    ForgetCheckpoints: Streams,
    Keep: Relays,
    Troubles: Relays,
    Trouble: Relays,
    Kept: Relays,
    Settle: Relays,
    Tombstones: Relays,
    ForgetTombstones: Relays,
    NoteReplayed: Relays,
    NoteHealth: Relays,
    OperatorChanges: Relays,
    KeptCounts: Relays,
    // Operator
    DeadLetters: Operators,
    Redrive: Operators,
    Discard: Operators,
    Erase: Operators,
    Health: Relays,
    Paused: Relays,
    Pause: Operators,
    Replays: Relays,
    PutReplay: Operators,
    RenameRoute: Operators,
    ForgetRoute: Operators,
    KnownRoutes: Operators,
    RenewId: Operators,
    ResetCheckpoint: Operators,
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no [`Io`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIo(String);

impl fmt::Display for UnknownIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Io::ALL.iter().map(|io| io.name()).collect();
        write!(f, "`{}` is no I/O: use one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownIo {}

impl FromStr for Io {
    type Err = UnknownIo;

    fn from_str(name: &str) -> Result<Self, UnknownIo> {
        Self::ALL.iter().find(|io| io.name() == name).copied().ok_or_else(|| UnknownIo(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_io_is_parsed_from_its_name() {
        for io in Io::ALL {
            assert_eq!(io.to_string().parse(), Ok(*io));
        }
        assert_eq!(Io::NoteReplayed.name(), "NoteReplayed");
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_there_are() {
        let error = "Chekpoint".parse::<Io>().unwrap_err().to_string();
        assert!(error.contains("`Chekpoint`") && error.contains("Checkpoint, Witnesses"), "{error}");
    }
}

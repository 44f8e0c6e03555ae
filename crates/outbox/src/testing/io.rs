//! The kinds of I/O that a relay does, and their names.

use std::{fmt, str::FromStr};

/// The enumeration, the list of all of it, and the names, from one list: none can be left out.
macro_rules! ios {
    ($($io:ident,)*) => {
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

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$io => stringify!($io),)*
                }
            }
        }
    };
}

ios! {
    // Source
    Partitions,
    Start,
    Read,
    Fetch,
    Backlog,
    Beginning,
    Recovery,
    AfterRecovery,
    // Sink
    Check,
    Publish,
    // BusinessStore
    Identity,
    Claim,
    Disown,
    Routes,
    Register,
    RenameRegistered,
    RetireRoute,
    Purge,
    Agreement,
    RaiseIncarnation,
    // Bookkeeping
    Id,
    Lease,
    Take,
    Renew,
    Release,
    Claims,
    NoteClaims,
    Checkpoints,
    Checkpoint,
    Witnesses,
    ForgetCheckpoints,
    Keep,
    Troubles,
    Trouble,
    Kept,
    Settle,
    Tombstones,
    ForgetTombstones,
    NoteReplayed,
    NoteHealth,
    OperatorChanges,
    KeptCounts,
    // Operator
    DeadLetters,
    Redrive,
    Discard,
    Erase,
    Health,
    Paused,
    Pause,
    Replays,
    PutReplay,
    RenameRoute,
    ForgetRoute,
    KnownRoutes,
    RenewId,
    ResetCheckpoint,
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

//! The secure session: what crosses the cable is sealed for the paired peer, or does nothing.
//!
//! | room | duty |
//! |---|---|
//! | `secure/key.rs` | static keys, their texts and fingerprints, pairings, randomness |
//! | `secure/noise.rs` | Noise, with libcrypto underneath |
//! | `secure/channel.rs` | a connection's handshake, its records, and the change of its keys |
//! | `secure/record.rs` | records cut into segments and put together again |
//! | `secure/sealed.rs` | the same protection for a file |
//!
//! Between link and lanes: the link carries segments and never looks into them, the lanes make
//! and take rows of chunks and never learn that they travel sealed. Nothing here does I/O, reads a
//! clock or asks the system for randomness.

mod channel;
mod key;
mod noise;
mod record;
mod sealed;
#[cfg(test)]
mod tests;

pub use channel::{
    Channel, ChannelConfig, HANDSHAKE_BYTES, HANDSHAKE_PATIENCE, HANDSHAKE_PAUSE, KEY_BYTES,
    KEY_BYTES_MAX, KEY_TIME, KEY_TIME_MAX, RECORD_PATIENCE, RECORD_PATIENCE_RECORDS, RECORD_SLACK,
    RECORD_SLACK_BYTE,
};
pub use key::{Entropy, Fingerprint, KEY_LEN, NotAKey, NotASecret, Pairing, PublicKey, SecretKey};
pub use record::{
    HEAD_LEN, RECORD_LEAST, RECORD_MAX, RECORD_MAX_PACED, RECORD_OVERHEAD, RECORD_TIME, Stream,
    record_max,
};
pub use sealed::{
    NotSealed, Opener, SEALED_HANDSHAKE_LEN, SEALED_OVERHEAD, SEALED_RECORD_MAX, Sealer,
};

/// Why a connection is not, or no longer, secure. Whatever it is, it ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The peer's handshake message does not open: it was made with another key, or for another
    /// connection.
    #[error(
        "the other side's key is not the paired one: compare fingerprints with `signer pair \
         --show` and `frontend pair --show`"
    )]
    Stranger,
    /// The peer says that ours does not open.
    #[error(
        "the other side does not know our key: compare fingerprints with `signer pair --show` and \
         `frontend pair --show`"
    )]
    Refused,
    /// The link is up, and the handshake does not end.
    #[error(
        "the other side did not go on with the handshake for {seconds} s: look at its log, and \
         compare fingerprints with `signer pair --show` and `frontend pair --show`"
    )]
    Mute {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A record does not open.
    #[error(
        "a record did not open: somebody or something on the cable changed it; if it happens \
         again, look at the cable from end to end"
    )]
    Tampered,
    /// A record began and did not end.
    #[error(
        "what the other side sent stopped in the middle for {seconds} s: the cable is very bad, or \
         somebody or something on it added or took away bytes; if it happens again, look at the \
         cable from end to end"
    )]
    Unfinished {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A key reached its bounds before it was changed.
    #[error("a session key was used up before the other side changed it; a new connection follows")]
    WornOut,
    /// This machine cannot do it.
    #[error(
        "libcrypto does not do X25519, ChaCha20-Poly1305 and BLAKE2s; install OpenSSL 3.0 or later"
    )]
    Unable,
}

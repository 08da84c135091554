//! Why a connection ends.

use crate::patch::PatchError;

/// Why a connection ended. The endpoint is already on its way to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// Nothing good came from the peer for too long: cable out, peer off, or noise.
    #[error("no good frame from the peer for {seconds} s")]
    Silence {
        /// How long the endpoint waited.
        seconds: u64,
    },
    /// The peer started anew, or another one is on the line.
    #[error("the peer started anew")]
    PeerRestarted,
    /// The peer sent segments that no correct program sends.
    #[error("the peer broke the protocol: {what}")]
    PeerMisbehaved {
        /// Which rule.
        what: &'static str,
    },
    /// A patch could not be undone here; the next connection does without references.
    #[error("a message of the peer could not be unpacked, so the next connection is plain: {0}")]
    PatchFailed(PatchError),
    /// The connection is not secure, or no longer.
    #[error("{0}")]
    Insecure(crate::secure::Failure),
}

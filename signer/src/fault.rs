//! A fault: we could not do our work. It stops the signer and calls the operator.
//!
//! What a peer asks wrongly is a [`crate::refusal::Refusal`], never a fault.

use std::{io, path::PathBuf};

/// What failed, where, and what to do. Restarting helps only where the text says so: the next
/// start finishes what was open.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The disk refused an operation.
    #[error("cannot {action} {path}: {source}; see to that, then start again")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The ledger refused a transaction.
    #[error("the ledger failed: {0}; check the disk, then start again")]
    Ledger(#[from] rusqlite::Error),
    /// The cryptographic library refused an operation.
    #[error("cryptographic operation failed: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
    /// A value of our own could not be encoded or decoded.
    #[error("internal encoding failed: {0}")]
    Codec(#[from] protocol::codec::CodecError),
    /// A file or row does not hold what it must.
    #[error("{what} is damaged: {why}; restore it from the backup or run `signer store check`")]
    Damaged {
        /// Which file or row.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operator's configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The system clock stands before the last signature (invariant I13).
    #[error(
        "the clock says {now}, before the last signature at {floor}; set the clock as in \
         hsm-docs/time-visit.md, then try again"
    )]
    Clock {
        /// What the clock says.
        now: String,
        /// The time of the last signature.
        floor: String,
    },
    /// Something that was believed impossible.
    #[error("internal error: {0}; nothing was released, please report it")]
    Internal(String),
}

impl Fault {
    /// Wraps an I/O error with what was tried on which file.
    pub fn disk(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }

    /// Whether the operator's configuration is to blame, not the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Configuration(_))
    }
}

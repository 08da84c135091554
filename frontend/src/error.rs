//! How a command ends when it does not end well, sorted by whose turn it is.
//!
//! Each room has its own error type; here they become one sentence and one exit code. Nothing
//! here decides whether something went wrong.

use crate::{
    carrier::CarrierError, crl::mirror::MirrorError, home::HomeError, link_key::LinkKeyError,
    refusal::Refusal, store::StoreError,
};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A rule says no; asking again without a change gives the same answer.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A request ended in a stored refusal or quarantine.
    #[error("{0}")]
    RefusedBySigner(String),
    /// A file that was handed over is refused.
    #[error("{0}")]
    BadFile(String),
    /// The store or the link is not there; the same command may work later.
    #[error("{0}")]
    Away(String),
    /// The command or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not there yet.
    #[error("{0}")]
    Waiting(String),
}

impl Failure {
    /// The exit code that scripts rely on.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::RefusedBySigner(_) | Self::BadFile(_) => 2,
            Self::Away(_) => 3,
            Self::Usage(_) => 4,
            Self::Waiting(_) => 5,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists { .. } | StoreError::Foreign { .. } => Self::Usage(sentence(&error)),
            StoreError::Missing { .. } | StoreError::Sqlite(_) | StoreError::Damaged { .. } => {
                Self::Away(sentence(&error))
            }
        }
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Store(error) => error.into(),
            HomeError::Io { .. } | HomeError::Running { .. } => Self::Away(sentence(&error)),
        }
    }
}

impl From<LinkKeyError> for Failure {
    fn from(error: LinkKeyError) -> Self {
        match error {
            LinkKeyError::NotPaired => Self::Usage(sentence(&error)),
            LinkKeyError::Io { .. } | LinkKeyError::Secret { .. } | LinkKeyError::Peer { .. } => {
                Self::Away(sentence(&error))
            }
        }
    }
}

impl From<CarrierError> for Failure {
    fn from(error: CarrierError) -> Self {
        match error {
            CarrierError::Store(error) => error.into(),
            CarrierError::Mirror(error) => error.into(),
        }
    }
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Self {
        Self::Away(sentence(&error))
    }
}

/// `error` with its sources, in one sentence.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use protocol::message::RefusalCode;

    use super::*;

    #[test]
    fn every_failure_has_the_exit_code_that_scripts_rely_on() {
        let refusal = Refusal::new(RefusalCode::CsrMalformed, "`x.pem` is empty");
        assert_eq!(
            refusal.to_string(),
            "refused (csr-malformed): `x.pem` is empty; make the CSR anew, PKCS #10 in PEM or DER"
        );
        assert_eq!(Failure::from(refusal).exit_code(), 2);
        assert_eq!(Failure::RefusedBySigner(String::new()).exit_code(), 2);
        assert_eq!(Failure::Away(String::new()).exit_code(), 3);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 4);
        assert_eq!(Failure::Waiting(String::new()).exit_code(), 5);
    }
}

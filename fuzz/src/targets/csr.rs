//! The intake's reader of CSRs (PKCS #10).

use protocol::message::NAMES_MAX;
use signer::{intake::csr, refusal::Refusal};

/// What is vetted holds what the vault relies on; what is not is refused with words.
pub fn run(bytes: &[u8]) {
    judge(csr::vet(bytes));
}

/// What both forms of CSR come to.
pub(super) fn judge(verdict: Result<csr::VettedCsr, Refusal>) {
    match verdict {
        Ok(vetted) => {
            assert!(!vetted.public_key().is_empty());
            assert!(vetted.names().len() <= NAMES_MAX);
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

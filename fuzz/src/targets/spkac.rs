//! The intake's reader of SPKACs.

use signer::intake::spkac;

/// The same facts as of a CSR; an SPKAC names nobody.
pub fn run(bytes: &[u8]) {
    super::csr::judge(spkac::vet(bytes));
}

//! `signer store check` and `signer store rebuild`.
//!
//! Checking changes nothing; rebuilding needs the store for itself.

use std::path::Path;

use super::Failure;
use crate::{
    durable::Lock,
    fault::Fault,
    keys::Secret,
    vault::{self, Random},
};

/// Compares the files with the ledger and says every difference.
pub(super) fn check(store: &Path, passphrase: Option<&Secret>, json: bool) -> Result<(), Failure> {
    let authorities = vault::load_all(store, passphrase)?;
    let report = vault::check(store, &authorities)?;
    if json {
        let text = serde_json::to_string(&report)
            .map_err(|error| Fault::Internal(format!("the report: {error}")))?;
        say!("{text}");
    } else {
        say!(
            "{} certificates of {} authorities and {} audit entries looked at",
            report.certificates,
            authorities.len(),
            report.audit_entries
        );
        for finding in &report.findings {
            say!("- {finding}");
        }
    }
    let running = Lock::try_take(&store.join("lock"))?.is_none();
    match report.findings.len() {
        0 => Ok(()),
        _ if running => Err(Failure::Away(
            "the store has findings, see above; a signer is at work on it, so what it is writing \
             just now may be among them: stop it and check again"
                .into(),
        )),
        1 => Err(Failure::Away("the store has 1 finding; see above".into())),
        count => Err(Failure::Away(format!("the store has {count} findings; see above"))),
    }
}

/// Writes the openssl-style files again from the ledger.
pub(super) fn rebuild(
    store: &Path,
    passphrase: Option<&Secret>,
    random: &mut Random,
) -> Result<(), Failure> {
    let _lock = Lock::try_take(&store.join("lock"))?.ok_or_else(|| {
        Fault::Configuration(format!(
            "a signer works on {}; stop it before rebuilding",
            store.display()
        ))
    })?;
    for authority in vault::load_all(store, passphrase)? {
        let restored = vault::rebuild(store, &authority, vault::random_octets(random)?)?;
        say!(
            "{}: index, serial and CRL number written, {restored} certificate copies restored",
            authority.name()
        );
    }
    Ok(())
}

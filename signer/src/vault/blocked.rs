//! Refuses keys that are known to somebody else, or that the operator does not want.
//!
//! The gate has no store, so this is decided here, for a key that the profile already permitted.
//! Controls: `blocklist-published`, `blocklist-operator`, `blocklist-demanded`.

use protocol::message::RefusalCode;

use crate::{
    blocklist::{self, Blocklist, Marks},
    fault::Fault,
    ledger::Transaction,
    profile::Profile,
    refusal::Refusal,
};

/// Why the key in `spki` may not be certified by `profile`; nothing if it may.
pub(super) fn refusal(
    tx: &Transaction<'_>,
    blocklist: &Blocklist,
    profile: &Profile,
    spki: &[u8],
) -> Result<Option<Refusal>, Fault> {
    // `blocklist-demanded`
    if profile.demands_blocklist() && !blocklist.is_loaded() {
        let text = format!(
            "profile {} demands a list of weak keys, and none is loaded; the signer's operator \
             loads one with `signer blocklist import`",
            profile.name()
        );
        return Ok(Some(Refusal::new(RefusalCode::BlocklistMissing, text)));
    }
    // `blocklist-operator`: the operator's reason may name people, so it stays in the audit log.
    let fingerprint = blocklist::fingerprint(spki);
    if let Some(reason) = tx.blocked_key(fingerprint)? {
        tracing::info!(%fingerprint, reason, "a blocked key was asked for");
        let text = format!("the signer's operator has blocked the key with SHA-256 {fingerprint}");
        return Ok(Some(Refusal::new(RefusalCode::KeyBlocked, text)));
    }
    // `blocklist-published`: CA/B TLS BR 6.1.1.3 (4)
    let hit = match Marks::of_spki(spki) {
        Some(marks) => blocklist.find(&marks)?,
        None => None,
    };
    Ok(hit.map(|hit| {
        let text = format!("the key is {hit}: others hold its private half");
        Refusal::new(RefusalCode::KeyBlocked, text)
    }))
}

//! Decides about one revocation inside the batch's transaction.
//!
//! Only what this authority issued can be revoked: anything else would put lines of a stranger's
//! choice into a CRL (lesson 4).

use protocol::message::{Answer, Digest, Name, RefusalCode, Revoke};

use super::issue::Desk;
use crate::{
    audit::Event,
    fault::Fault,
    ledger::{Outcome, Status, Transaction},
    refusal::Refusal,
};

impl Desk<'_> {
    /// Records a revocation; of a certificate that is revoked already, the date it has.
    pub(super) fn revoke(
        &self,
        tx: &mut Transaction<'_>,
        digest: Digest,
        revoke: &Revoke,
        revoked: &mut Vec<Name>,
    ) -> Result<Answer, Fault> {
        let Revoke { id, authority: name, serial, reason } = revoke;
        let authority = match self.authority(name) {
            Ok(authority) => authority,
            Err(refusal) => return self.refuse(tx, *id, digest, &refusal),
        };
        if !authority.signs_unattended() {
            let text = format!("{name} is a root: only a person at the console revokes there");
            let refusal = Refusal::new(RefusalCode::AuthorityManual, text);
            return self.refuse(tx, *id, digest, &refusal);
        }
        let Some(row) = tx.certificate(authority.id(), serial)? else {
            let text = format!("{name} never issued a certificate with serial {serial}");
            let refusal = Refusal::new(RefusalCode::SerialUnknown, text);
            return self.refuse(tx, *id, digest, &refusal);
        };
        let at = match row.status {
            Status::Revoked { at, .. } => at,
            Status::Valid | Status::Expired => {
                tx.revoke(authority.id(), serial, *reason)?;
                if !revoked.contains(name) {
                    revoked.push(name.clone());
                }
                self.time
            }
        };
        tx.answer_request(*id, digest, &Outcome::Revoked { at })?;
        tx.audit(&Event::Revoked {
            request: id.to_string(),
            authority: name.to_string(),
            serial: serial.to_string(),
            reason: reason.name().to_owned(),
        })?;
        tracing::info!(request = %id, authority = %name, %serial, "certificate revoked");
        Ok(Answer::Revoked { id: *id, revoked_at: at.0 })
    }
}

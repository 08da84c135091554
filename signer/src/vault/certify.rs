//! Decides about one OpenPGP certification, and makes it.
//!
//! Only the user IDs that the intake found valid and that were named are certified; nothing else
//! of the key is looked at here.

use std::time::Duration;

use protocol::message::{Answer, RefusalCode};

use super::{Vault, issue::Desk};
use crate::{
    calendar::DAY_S,
    call::Certify,
    clock::Moment,
    fault::Fault,
    ledger::{OpenPgpIntent, Transaction},
    openpgp,
    refusal::Refusal,
};

/// The validity without a wish: a year, so that verified addresses are verified again.
const DAYS_DEFAULT: u32 = 365;
/// The longest validity: two years.
const DAYS_MAX: u32 = 731;

impl Desk<'_> {
    /// Records an intent, whose answer comes when it is certified; or refuses.
    pub(super) fn certify(
        &mut self,
        tx: &mut Transaction<'_>,
        certify: Certify,
        intents: &mut Vec<OpenPgpIntent>,
    ) -> Result<Option<Answer>, Fault> {
        let Certify { id, digest, days, key } = certify;
        let permitted = openpgp::permit(&key, self.time).and_then(|()| self.permit_days(days));
        let days = match permitted {
            Ok(days) => days,
            Err(refusal) => return self.refuse(tx, id, digest, &refusal).map(Some),
        };
        tx.open_request(id, digest)?;
        let intent = OpenPgpIntent { request: id, at: self.time, days, vetted: key };
        tx.store_openpgp_intent(&intent)?;
        intents.push(intent);
        Ok(None)
    }

    fn permit_days(&self, days: Option<u32>) -> Result<u32, Refusal> {
        if self.openpgp.is_none() {
            let text = "this signer has no OpenPGP key; an administrator makes one with \
                        `signer openpgp create`";
            return Err(Refusal::new(RefusalCode::OpenPgpUnavailable, text));
        }
        match days.unwrap_or(DAYS_DEFAULT) {
            0 => Err(Refusal::new(
                RefusalCode::Validity,
                "0 days are asked for, at least 1 is needed",
            )),
            days if days > DAYS_MAX => {
                let text = format!("{days} days are asked for, at most {DAYS_MAX} are allowed");
                Err(Refusal::new(RefusalCode::Validity, text))
            }
            days => Ok(days),
        }
    }
}

impl Vault {
    /// Makes the certifications of an intent that is on disk, and records the result.
    pub(super) fn finish_certification(
        &mut self,
        intent: &OpenPgpIntent,
        now: Moment,
    ) -> Result<Vec<u8>, Fault> {
        let key = self.openpgp.as_ref().ok_or_else(|| {
            Fault::Configuration(format!(
                "request {} waits for the OpenPGP key, which is gone; restore it",
                intent.request
            ))
        })?;
        let valid = Duration::from_secs(u64::from(intent.days) * DAY_S.unsigned_abs());
        let certifications = key.certify(&intent.vetted, intent.at, valid)?;
        let certificate = intent.vetted.minimal().with_certifications(&certifications);
        let time = self.signing_time(now)?;
        let mut tx = self.ledger.begin(time)?;
        tx.store_certification(intent, &certificate)?;
        tx.commit()?;
        Ok(certificate)
    }
}

//! Decides about one request inside the batch's transaction.
//!
//! `VettedCsr → Permit → LintedTbs → Intent → Certificate`: each step consumes the one before.
//! Nothing here commits or signs.

use std::{collections::BTreeMap, sync::Arc};

use protocol::message::{Answer, Digest, Name, RefusalCode, RequestId};

use super::{Random, blocked, is_in_work, refused, reply_for};
use crate::{
    audit::Event,
    authority::{Authority, serial::serial},
    blocklist::Blocklist,
    calendar::UnixTime,
    call::{Issue, Reply},
    fault::Fault,
    ledger::{Outcome, Transaction},
    lint,
    openpgp::OpenPgpAuthority,
    profile::{Profile, Wish},
    refusal::Refusal,
    tbs,
};

/// What decisions are made with.
pub(super) struct Desk<'a> {
    pub(super) authorities: &'a BTreeMap<Name, Arc<Authority>>,
    pub(super) openpgp: &'a BTreeMap<Name, Arc<OpenPgpAuthority>>,
    pub(super) blocklist: &'a Blocklist,
    pub(super) random: &'a mut Random,
    pub(super) shapes: &'a mut lint::Shapes,
    pub(super) time: UnixTime,
}

impl<'a> Desk<'a> {
    /// What is known of a request, this batch included.
    pub(super) fn seen(
        &self,
        tx: &Transaction<'_>,
        id: RequestId,
        digest: Digest,
    ) -> Result<Seen, Fault> {
        match tx.known(id)? {
            // A session broke while the first was on its way.
            Some(known) if is_in_work(&known, digest) => Ok(Seen::InWork),
            known => match reply_for(id, digest, known)? {
                Reply::Answer(answer) => Ok(Seen::Answered(answer)),
                Reply::Unknown | Reply::NotNow => Ok(Seen::New),
            },
        }
    }

    /// Records an intent, whose answer comes when it is signed; or refuses.
    pub(super) fn issue(
        &mut self,
        tx: &mut Transaction<'_>,
        issue: Issue,
    ) -> Result<Option<Answer>, Fault> {
        let (id, digest) = (issue.id, issue.digest);
        match self.permit_and_write(tx, issue)? {
            Ok(Prepared { authority, profile, tbs }) => {
                tx.open_request(id, digest)?;
                tx.store_intent(Some(id), authority.id(), profile.name(), tbs)?;
                Ok(None)
            }
            Err(refusal) => self.refuse(tx, id, digest, &refusal).map(Some),
        }
    }

    fn permit_and_write(
        &mut self,
        tx: &mut Transaction<'_>,
        issue: Issue,
    ) -> Result<Result<Prepared<'a>, Refusal>, Fault> {
        let (authority, profile) = match self.chosen(&issue) {
            Ok(chosen) => chosen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let wish = Wish {
            subject: issue.subject.unwrap_or_else(|| issue.csr.subject().clone()),
            names: match issue.subject_alt_names {
                Some(names) => names.into_vec(),
                None => issue.csr.names().to_vec(),
            },
            days: issue.days,
            public_key: issue.csr.public_key().to_vec(),
        };
        let permit = match profile.permit(wish, self.time, authority.not_after()) {
            Ok(permit) => permit,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let public_key = &permit.wish().public_key;
        if let Some(refusal) = blocked::refusal(tx, self.blocklist, profile, public_key)? {
            return Ok(Err(refusal));
        }
        let mut random = [0; 8];
        (self.random)(&mut random)?;
        let serial = serial(tx.next_serial_counter(authority.id())?, random)?;
        let tbs = tbs::certificate(authority.issuer(), &serial, &permit, profile)?;
        let linted =
            lint::lint_next(tbs, authority.issuer(), serial, &permit, profile, self.shapes);
        Ok(linted.map(|tbs| Prepared { authority, profile, tbs }))
    }

    /// The authority and profile that a request from the link may use.
    fn chosen(&self, issue: &Issue) -> Result<(&'a Authority, &'a Profile), Refusal> {
        let authority = self.authority(&issue.authority)?;
        let profile = authority.profile(&issue.profile).ok_or_else(|| {
            let text = format!("{} has no profile {}", issue.authority, issue.profile);
            Refusal::new(RefusalCode::ProfileUnknown, text)
        })?;
        if profile.console_only() {
            let text = format!("profile {} is for the signer's console only", issue.profile);
            return Err(Refusal::new(RefusalCode::ProfileConsoleOnly, text));
        }
        if !authority.signs_unattended() {
            let text = format!(
                "{} is a root: it signs only on a person's direct command; ask an issuing \
                 authority",
                issue.authority
            );
            return Err(Refusal::new(RefusalCode::AuthorityManual, text));
        }
        Ok((authority, profile))
    }

    pub(super) fn authority(&self, name: &Name) -> Result<&'a Authority, Refusal> {
        self.authorities.get(name).map(Arc::as_ref).ok_or_else(|| {
            Refusal::new(RefusalCode::AuthorityUnknown, format!("there is no authority {name}"))
        })
    }

    /// Records a refusal, and says it.
    pub(super) fn refuse(
        &self,
        tx: &mut Transaction<'_>,
        id: RequestId,
        digest: Digest,
        refusal: &Refusal,
    ) -> Result<Answer, Fault> {
        tracing::info!(request = %id, code = %refusal.code, "refused: {}", refusal.text);
        tx.refuse(id, digest, refusal.code, &refusal.text)?;
        Ok(refused(id, refusal.code, &refusal.text))
    }

    /// Records that a request was set aside, and says it.
    pub(super) fn quarantine(
        &self,
        tx: &mut Transaction<'_>,
        id: RequestId,
        digest: Digest,
        text: &str,
    ) -> Result<Answer, Fault> {
        tracing::warn!(request = %id, "quarantined: {text}");
        tx.answer_request(id, digest, &Outcome::Quarantined { text: text.to_owned() })?;
        tx.audit(&Event::Quarantined { request: id.to_string(), text: text.to_owned() })?;
        Ok(super::quarantined(id, text))
    }
}

/// Whether a request was seen before.
pub(super) enum Seen {
    New,
    /// It is decided and not answered yet: its answer serves both.
    InWork,
    Answered(Answer),
}

/// A TBS certificate that may become an intent.
struct Prepared<'a> {
    authority: &'a Authority,
    profile: &'a Profile,
    tbs: lint::LintedTbs,
}

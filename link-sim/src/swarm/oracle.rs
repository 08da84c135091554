//! What must hold whatever happens: the invariants of design, seen from outside.
//!
//! The oracle knows what people asked for and what it should come to. It is shown every call and
//! reply of the vault, every CRL that is signed, every row that the frontend finishes, and says
//! at once when something breaks a rule. It never looks at how the programs work.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use frontend::{
    inventory::Inventory,
    openpgp::register::Register,
    queue::{Queue, State},
    store::Store,
};
use protocol::message::{
    Answer, CrlScope, Digest, Message, RefusalCode, Request, RequestId, Serial,
};
use signer::vault;

use super::{
    Held, Violation,
    certificate::Certificate,
    crls::{Certificates, Crl, CrlMemory, Issued},
    failed,
    openpgp::{Certifications, Serials},
    sabotage::Saboteur,
};

/// What a request should come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A certificate.
    Issued,
    /// A refusal by this rule.
    Refused(RefusalCode),
    /// A refusal by whatever rule finds it first.
    RefusedSomehow,
    /// It is set aside.
    Quarantined,
    /// A revocation.
    Revoked,
    /// Certifications of an OpenPGP key.
    Certified,
    /// They are taken back, if there are any.
    TakenBack,
}

/// A request of a person.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    expected: Expected,
}

/// What the signer should remember: goes back with a restored backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignerMemory {
    /// The first answer to each request, with the digest of the body that it answers.
    answered: BTreeMap<RequestId, (Digest, Vec<u8>)>,
    crls: CrlMemory,
    openpgp: Certifications,
    /// The counters of all serials, and when each certificate begins.
    begins: Begins,
}

/// Invariants I1 and I13 of one signer: no counter comes twice, and whoever has a higher one does
/// not begin earlier. A certificate that was begun before a stop may be asked for again after
/// younger ones, so they come in any order.
#[derive(Clone, Debug, Default)]
struct Begins(BTreeMap<u64, i64>);

impl Begins {
    fn add(&mut self, counter: u64, not_before: i64) -> Held {
        let before = self.0.range(..counter).next_back();
        let after = self.0.range(counter..).next();
        if after.is_some_and(|(other, _)| *other == counter) {
            return Err(Violation::new("I1: a serial's counter was used twice"));
        }
        let fits = before.is_none_or(|(_, begins)| *begins <= not_before)
            && after.is_none_or(|(_, begins)| not_before <= *begins);
        self.0.insert(counter, not_before);
        if fits { Ok(()) } else { Err(Violation::new("I13: a certificate begins too early")) }
    }
}

/// What the frontend should remember: goes back with a restored backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrontendMemory {
    asked: BTreeMap<RequestId, Asked>,
    finished: BTreeMap<RequestId, Finished>,
    /// What may be revoked, oldest first.
    issued: Vec<Serial>,
    published: BTreeMap<CrlScope, (u64, Digest)>,
}

/// A row of the queue that has its outcome.
#[derive(Clone, Debug, PartialEq)]
struct Finished {
    state: State,
    serial: Option<Serial>,
    refusal: Option<(String, String)>,
    certificate: Option<Vec<u8>>,
}

/// Counts of one run, to show that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came to their outcome at the frontend.
    pub finished: u64,
    /// Certificates that the signer released.
    pub issued: u64,
    /// Revocations that it acknowledged.
    pub revoked: u64,
    /// OpenPGP certificates that it released, and revocations of certifications.
    pub certified: u64,
    /// Requests that it refused or set aside.
    pub refused: u64,
    /// CRLs that it signed.
    pub crls: u64,
    /// Answers that it gave once more.
    pub repeated: u64,
}

/// Judges a run.
pub(crate) struct Oracle {
    pub(crate) sabotage: Saboteur,
    pub(crate) signer: SignerMemory,
    pub(crate) frontend: FrontendMemory,
    /// Every serial that was ever released, also by a signer that forgot it.
    serials: Certificates,
    /// The same of OpenPGP certifications.
    openpgp_serials: Serials,
    /// Every certificate that was ever released, also by a signer that forgot it: one may be under
    /// way while its signer is restored.
    certificates: BTreeMap<RequestId, Vec<Vec<u8>>>,
    /// Every CRL that was ever signed.
    crls: BTreeMap<Digest, Crl>,
    /// Revocations were acknowledged that a restored signer does not know.
    pub(crate) lost_revocations: bool,
    /// Somebody owned the wire: greetings may have said anything.
    pub(crate) meddled: bool,
    /// The signer was restored: it may not know what the frontend wants revoked.
    pub(crate) restored: bool,
    /// Requests whose id was sent with another body too, when they had their outcome. If both ends
    /// forget that, whichever comes first has the id.
    pub(crate) disputed: BTreeSet<RequestId>,
    pub(crate) counts: Counts,
}

impl Oracle {
    pub(crate) fn new(sabotage: Saboteur) -> Self {
        Self {
            sabotage,
            signer: SignerMemory::default(),
            frontend: FrontendMemory::default(),
            serials: Certificates::new(),
            openpgp_serials: Serials::new(),
            certificates: BTreeMap::new(),
            crls: BTreeMap::new(),
            lost_revocations: false,
            meddled: false,
            restored: false,
            disputed: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn check(&self, holds: bool, rule: &str) -> Held {
        if holds { Ok(()) } else { Err(Violation::new(rule)) }
    }

    //--- What people ask

    pub(crate) fn asked(&mut self, request: &Request, expected: Expected) {
        if let Some(id) = request.request_id() {
            self.frontend.asked.insert(id, Asked { request: request.clone(), expected });
        }
    }

    /// A request that was asked before.
    pub(crate) fn nth_asked(&self, nth: u64) -> Option<&Asked> {
        let count = self.frontend.asked.len() as u64;
        let nth = nth.checked_rem(count)?;
        self.frontend.asked.values().nth(nth as usize)
    }

    /// A certificate that the frontend has.
    pub(crate) fn nth_issued(&self, nth: u64) -> Option<&Serial> {
        let count = self.frontend.issued.len() as u64;
        self.frontend.issued.get(nth.checked_rem(count)? as usize)
    }

    pub(crate) fn is_finished(&self, id: RequestId) -> bool {
        self.frontend.finished.contains_key(&id)
    }

    pub(crate) fn all_finished(&self) -> bool {
        self.frontend.asked.keys().all(|id| self.is_finished(*id))
    }

    /// Requests that have no outcome yet, for a person.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let open = self.frontend.asked.iter().filter(|(id, _)| !self.is_finished(**id));
        open.map(|(id, asked)| format!("{id} ({:?})", asked.expected)).collect()
    }

    //--- What the signer does

    /// The vault is handed a request.
    pub(crate) fn heard(&mut self, id: RequestId) {
        self.signer.openpgp.heard(id);
    }

    /// The vault answers the request `about`.
    pub(crate) fn answered(&mut self, about: Option<(RequestId, Digest)>, answer: &Answer) -> Held {
        let Some((id, digest)) = about else {
            return self.check(answer.request_id().is_none(), "I11: an answer without a question");
        };
        self.check(answer.request_id() == Some(id), "I11: an answer to another request")?;
        let reused = matches!(answer, Answer::Refused { code: RefusalCode::RequestReused, .. });
        let bytes = answer.to_bytes().map_err(|error| Violation::new(error.to_string()))?;
        match self.signer.answered.get(&id) {
            Some((first, _)) if *first != digest => {
                self.check(reused, "I3: an id was answered for two bodies")
            }
            Some((_, first)) => {
                self.counts.repeated += 1;
                self.check(*first == bytes, "I3: the same request got two different answers")
            }
            None if reused => Ok(()), // its first body is being worked on
            None => {
                self.signer.answered.insert(id, (digest, bytes));
                self.first_answer(id, answer)
            }
        }
    }

    fn first_answer(&mut self, id: RequestId, answer: &Answer) -> Held {
        // Requests that a restored frontend forgot are still under way.
        let expected = self.frontend.asked.get(&id).map(|asked| asked.expected);
        match answer {
            Answer::Issued { certificate, .. } => {
                self.counts.issued += 1;
                let fits = expected.is_none_or(|expected| expected == Expected::Issued);
                self.check(fits, "I6, I14: a certificate for what must be refused")?;
                self.certificates.entry(id).or_default().push(certificate.to_vec());
                self.released(certificate)
            }
            Answer::Revoked { .. } => {
                self.counts.revoked += 1;
                let fits = expected.is_none_or(|expected| expected == Expected::Revoked);
                self.check(fits, "I11: a revocation that nobody may have")?;
                if let Some(Asked { request: Request::Revoke(revoke), .. }) =
                    self.frontend.asked.get(&id)
                {
                    self.signer.crls.acknowledge(revoke.serial.as_octets());
                }
                Ok(())
            }
            Answer::Certified { certificate, .. } => {
                self.counts.certified += 1;
                let fits = expected.is_none_or(|expected| expected == Expected::Certified);
                self.check(fits, "I6: a certification of what must be refused")?;
                match self.frontend.asked.get(&id) {
                    Some(Asked { request: Request::Certify(certify), .. }) => self
                        .signer
                        .openpgp
                        .certified(certify, certificate, &mut self.openpgp_serials),
                    _ => Ok(()),
                }
            }
            Answer::CertificationRevoked { revoked_at, .. } => {
                self.counts.certified += 1;
                let fits = expected.is_none_or(|expected| expected == Expected::TakenBack);
                self.check(fits, "I11: a certification is taken back that nobody named")?;
                if let Some(Asked { request: Request::RevokeOpenPgp(revoke), .. }) =
                    self.frontend.asked.get(&id)
                {
                    let is_known = !self.frontend.finished.contains_key(&id);
                    self.signer.openpgp.take_back(revoke, *revoked_at, is_known);
                }
                Ok(())
            }
            Answer::Refused { code, text, .. } => {
                self.counts.refused += 1;
                let fits = match expected {
                    Some(Expected::Refused(rule)) => rule == *code,
                    Some(Expected::Revoked) => self.restored && *code == RefusalCode::SerialUnknown,
                    Some(Expected::TakenBack) => *code == RefusalCode::OpenPgpNothingCertified,
                    Some(Expected::RefusedSomehow) | None => true,
                    Some(Expected::Issued | Expected::Quarantined | Expected::Certified) => false,
                };
                self.check(fits, &format!("I6: {expected:?} was refused as {code}: {}", &**text))
            }
            Answer::Quarantined { .. } => {
                self.counts.refused += 1;
                let fits = expected.is_none_or(|expected| expected == Expected::Quarantined);
                self.check(fits, "I2: a good request was set aside")
            }
            other => Err(Violation::new(format!("I11: request {id} got {other:?}"))),
        }
    }

    /// Invariants I1 and I13 of a certificate.
    fn released(&mut self, der: &[u8]) -> Held {
        let broken = |_| Violation::new("I5: what was released is no certificate");
        let Certificate { serial, not_before, not_after, shard, tbs } =
            Certificate::read(der).map_err(broken)?;
        self.check(serial.len() == 16, "I1: a serial of another length than 16 octets")?;
        let counter = serial.iter().take(8).fold(0, |sum, octet| (sum << 8) | u64::from(*octet));
        let before = self.serials.insert(serial, Issued { not_after, shard, tbs });
        // A restored signer finishes what was under way in the copy: the same bytes, signed again.
        let fits = before.is_none_or(|before| self.restored && before.tbs == tbs);
        self.check(fits, "I1: a serial was used twice")?;
        self.signer.begins.add(counter, not_before)
    }

    /// Whether a full CRL of this number was not shown yet.
    pub(crate) fn is_new_crl(&self, number: u64) -> bool {
        number != self.crl_number(CrlScope::Full)
    }

    /// The number of the signer's newest CRL of a scope.
    pub(crate) fn crl_number(&self, scope: CrlScope) -> u64 {
        self.signer.crls.number(scope)
    }

    /// The signer signed these CRLs together.
    pub(crate) fn signed_crls(&mut self, mut round: Vec<Crl>) -> Held {
        self.sabotage.crls(&mut round, &self.serials);
        self.counts.crls += 1;
        self.signer.crls.signed(&round, &self.serials)?;
        self.crls.extend(round.into_iter().map(|crl| (crl.digest, crl)));
        Ok(())
    }

    /// Whether the newest CRLs have all that was acknowledged.
    pub(crate) fn check_newest_crls(&self) -> Held {
        self.signer.crls.check_newest(&self.serials)
    }

    /// The signer was restored from a backup that was made when it remembered this.
    pub(crate) fn signer_restored(&mut self, memory: SignerMemory) {
        self.lost_revocations |= self.signer.crls.count() > memory.crls.count();
        self.signer = SignerMemory {
            // The frontend tells the highest serial that it has seen, which may be an older one.
            begins: Begins::default(),
            ..memory
        };
        self.restored = true;
    }

    //--- What the frontend does

    /// An answer for this request came to the frontend.
    pub(crate) fn look_at(&mut self, store: &Store, id: RequestId) -> Held {
        if self.is_finished(id) || !self.frontend.asked.contains_key(&id) {
            return Ok(());
        }
        let finished = finished(store, id)?;
        let Some(finished) = finished else { return Ok(()) };
        self.counts.finished += 1;
        if finished.state == State::Done
            && let (Some(serial), Some(der)) = (&finished.serial, &finished.certificate)
        {
            self.check_stored(id, der)?;
            self.frontend.issued.push(serial.clone());
        }
        self.check_outcome(id, &finished)?;
        self.frontend.finished.insert(id, finished);
        Ok(())
    }

    fn check_stored(&self, id: RequestId, der: &[u8]) -> Held {
        let given = self.certificates.get(&id).into_iter().flatten();
        let same = given.into_iter().any(|given| given == der);
        self.check(same, "I11: another certificate was stored than was issued for the request")
    }

    fn check_outcome(&self, id: RequestId, finished: &Finished) -> Held {
        let expected = self.frontend.asked.get(&id).map(|asked| asked.expected);
        let code = finished.refusal.as_ref().map(|(code, _)| code.as_str());
        let reused = self.restored
            && self.disputed.contains(&id)
            && code == Some(RefusalCode::RequestReused.name());
        let fits = match expected {
            None => true,
            _ if reused => true,
            Some(Expected::Issued) => {
                finished.state == State::Done && finished.certificate.is_some()
            }
            Some(Expected::Certified) => finished.state == State::Done,
            Some(Expected::TakenBack) => {
                finished.state == State::Done
                    || code == Some(RefusalCode::OpenPgpNothingCertified.name())
            }
            Some(Expected::Refused(rule)) => code == Some(rule.name()),
            Some(Expected::RefusedSomehow) => finished.state == State::Refused,
            Some(Expected::Quarantined) => finished.state == State::Quarantined,
            Some(Expected::Revoked) => {
                finished.state == State::Done
                    || self.restored && code == Some(RefusalCode::SerialUnknown.name())
            }
        };
        self.check(fits, &format!("I2: {id} should be {expected:?} and is {finished:?}"))
    }

    /// The frontend published a CRL.
    pub(crate) fn published(&mut self, scope: CrlScope, number: u64, digest: Digest) -> Held {
        let before = self.frontend.published.get(&scope).copied();
        if before.is_some_and(|(_, before)| before == digest) {
            return Ok(());
        }
        let signed = self.crls.get(&digest);
        let signed = signed.is_some_and(|crl| (crl.scope, crl.number) == (scope, number));
        self.check(signed, "I10: the frontend published a CRL that the signer did not sign")?;
        let rises = before.is_none_or(|(before, _)| number > before);
        self.check(rises, "I7: the published CRL number does not rise")?;
        self.frontend.published.insert(scope, (number, digest));
        Ok(())
    }

    /// The highest number of a CRL that the frontend publishes.
    pub(crate) fn published_number(&self) -> u64 {
        self.frontend.published.values().map(|(number, _)| *number).max().unwrap_or(0)
    }

    /// Whether the frontend publishes all that it can of this scope.
    pub(crate) fn is_newest_published(&self, scope: CrlScope) -> bool {
        let Some((number, digest)) = self.frontend.published.get(&scope) else { return false };
        let newest = self.crl_number(scope);
        match (scope, self.crls.get(digest)) {
            // A restored signer's own CRLs are older, until it signs the next.
            _ if *number > newest => self.restored,
            // A shard's CRL is signed anew by the clock together with the others, and fetched
            // within the hour: until then the one before it will do, if it lists all it has to.
            (CrlScope::Shard(_), Some(crl)) => {
                !self.signer.crls.lacks(scope, &crl.listed, &self.serials)
            }
            _ => *number == newest,
        }
    }

    /// Whether what the frontend publishes of this scope must be what the signer has as newest.
    pub(crate) fn is_published_newest(&self, scope: CrlScope) -> bool {
        let number = self.frontend.published.get(&scope).map_or(0, |(number, _)| *number);
        number == self.crl_number(scope)
    }

    //--- The end

    /// What must hold when everything was answered.
    pub(crate) fn final_checks(&self, store: &Store) -> Held {
        for (id, before) in &self.frontend.finished {
            let now = finished(store, *id)?;
            let same = now.as_ref().is_some_and(|now| now == before);
            self.check(same, &format!("I2: the outcome of {id} changed: {before:?}, {now:?}"))?;
        }
        let is_done = |id: RequestId| {
            self.frontend.finished.get(&id).is_some_and(|finished| finished.state == State::Done)
        };
        for entry in Register(store.connection()).all().map_err(failed)? {
            let serial = entry.serial.as_deref().unwrap_or_default();
            let taken_back = self.signer.openpgp.taken_back_by(serial).is_some_and(is_done);
            let holds = !taken_back || entry.revoked_at.is_some();
            self.check(holds, "I7: the frontend holds for valid what was taken back")?;
        }
        let unacknowledged = Queue(store.connection()).unacknowledged(1).map_err(failed)?;
        self.check(unacknowledged.is_empty(), "I18: an outcome was never acknowledged")
    }

    /// Invariants I5 and I12: the files are those of the ledger and the audit chain is whole.
    pub(crate) fn check_files(store: &Path) -> Held {
        let authorities = vault::load_all(store, None).map_err(super::stopped)?;
        let report = vault::check(store, &authorities, &mut |_| {}).map_err(super::stopped)?;
        match report.findings.first() {
            None => Ok(()),
            Some(finding) => Err(Violation::new(format!("I5, I12: the store check: {finding}"))),
        }
    }
}

/// The row of a request, if it has its outcome.
fn finished(store: &Store, id: RequestId) -> Result<Option<Finished>, Violation> {
    let entry = Queue(store.connection()).find(id).map_err(failed)?;
    let Some(entry) = entry.filter(|entry| entry.state.is_final()) else { return Ok(None) };
    let certificate = Inventory(store.connection()).of_request(id).map_err(failed)?;
    Ok(Some(Finished {
        state: entry.state,
        serial: entry.serial,
        refusal: entry.refusal,
        certificate: certificate.map(|stored| stored.der),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Found by seed 0x230: the signer stopped before it answered, and was asked again after a
    // younger request.
    #[test]
    fn a_certificate_given_again_after_younger_ones_may_begin_before_them() {
        let mut begins = Begins::default();
        for (counter, not_before) in [(1, 100), (3, 160), (2, 130), (4, 160)] {
            begins.add(counter, not_before).unwrap();
        }
        let rule =
            |counter, not_before| begins.clone().add(counter, not_before).unwrap_err().to_string();
        assert_eq!(rule(5, 159), "I13: a certificate begins too early");
        assert_eq!(rule(0, 101), "I13: a certificate begins too early");
        assert_eq!(rule(3, 160), "I1: a serial's counter was used twice");
    }
}

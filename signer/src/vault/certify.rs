//! Decides about one OpenPGP certification, or about taking some back, and signs it.
//!
//! Only the user IDs that the intake found valid and that were named are certified; nothing else
//! of the key is looked at here. What was certified before, is still valid and says no more than
//! what would be certified now is answered again without a signature, unless a renewal is asked
//! for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use protocol::{
    bounded::Bytes,
    message::{
        Answer, CERTIFICATE_MAX, Digest, Name, OPENPGP_KEY_MAX, OpenPgpReason, RefusalCode,
        RequestId, RevokeOpenPgp, Serial,
    },
    user_id::UserId,
};

use super::{Vault, issue::Desk, sign::Task, too_long};
use crate::{
    authority::serial::serial,
    calendar::UnixTime,
    call::{Call, Certify, Tagged},
    fault::Fault,
    intake::openpgp::{Minimal, VettedOpenPgp, one_packet, packets},
    ledger::{
        Certified, CertifiedUserId, Earlier, Intended, OpenPgpAuthorityId, OpenPgpDraft,
        OpenPgpIntent, OpenPgpJob, Ours, Standing, TakenBack, Transaction,
    },
    openpgp::{self, OpenPgpAuthority, Policy, Statement, Wanted},
    refusal::Refusal,
};

/// What a request may have certified, and until when.
struct Permitted<'a> {
    authority: &'a OpenPgpAuthority,
    policy: &'a Policy,
    expires: UnixTime,
    /// What an earlier certification must say to be used again.
    wanted: Wanted<'a>,
}

/// How many seconds ahead of the clock a certification may be dated. Each that is taken back pushes
/// the next by two; without a bound whoever may ask could push a key's years away.
const AHEAD_MAX_S: i64 = 60;

impl<'a> Desk<'a> {
    /// Records an intent, whose answer comes when it is certified; or answers at once with what
    /// was certified before; or refuses.
    pub(super) fn certify(
        &mut self,
        tx: &mut Transaction<'_>,
        certify: Certify,
    ) -> Result<Option<Answer>, Fault> {
        let (id, digest, renew) = (certify.id, certify.digest, certify.renew);
        let permitted = match self.permit_openpgp(&certify) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(tx, id, digest, &refusal).map(Some),
        };
        let authority = permitted.authority;
        let what = what(authority.id(), permitted.policy.name(), &certify.key)?;
        if !renew {
            let earlier = tx.certified_before(what)?;
            if let Some(earlier) = earlier
                && is_the_same(&earlier, &certify.key, &permitted.wanted)
            {
                tracing::info!(request = %id, "answered with what was certified before");
                tx.answer_as_before(id, digest, &earlier)?;
                let certificate = earlier.certificate.try_into().map_err(too_long)?;
                return Ok(Some(Answer::Certified { id, certificate }));
            }
            let leader = tx.certified_now(what)?;
            if let Some(leader) = leader
                && will_be_the_same(&leader, &certify.key, &permitted.wanted)
            {
                tx.open_request(id, digest)?;
                tx.follow_openpgp(id, leader.request)?;
                return Ok(None);
            }
        }
        let taken_back = tx.last_taken_back(authority.id(), certify.key.fingerprint())?;
        let at = after(self.time, taken_back);
        if permitted.expires <= at {
            let text = format!("it would be certified at {at}, and ends at {}", permitted.expires);
            let refusal = Refusal::new(RefusalCode::OpenPgpExpired, text);
            return self.refuse(tx, id, digest, &refusal).map(Some);
        }
        if at.0 > self.time.0 + AHEAD_MAX_S {
            let text = format!(
                "certifications of this key were taken back so often that the next one would be \
                 dated {at}; ask again after that"
            );
            let refusal = Refusal::new(RefusalCode::OpenPgpUnavailable, text);
            return self.refuse(tx, id, digest, &refusal).map(Some);
        }
        let draft = self.prepare(tx, certify, &permitted, at)?;
        let OpenPgpJob::Certify { user_ids, minimal, .. } = &draft.job else {
            return Err(Fault::Internal("a certification is prepared as another job".into()));
        };
        // `openpgp-size`: what is intended now fits an answer later.
        let ours = user_ids.iter().map(|one| match &one.ours {
            Ours::New(statement) => statement.length_max(authority.key()),
            Ours::Kept(packet) => packet.len(),
        });
        let length = minimal.length() + ours.sum::<usize>();
        if length > CERTIFICATE_MAX {
            let text = format!(
                "the answer would have {length} bytes, at most {CERTIFICATE_MAX} fit; name fewer \
                 user IDs"
            );
            let refusal = Refusal::new(RefusalCode::OpenPgpUserIdForm, text);
            return self.refuse(tx, id, digest, &refusal).map(Some);
        }
        tx.open_request(id, digest)?;
        tx.store_openpgp_intent(draft, Some(what))?;
        Ok(None)
    }

    /// `openpgp-permit`: everything that the policy and the vault itself demand.
    fn permit_openpgp(&self, certify: &Certify) -> Result<Permitted<'a>, Refusal> {
        let authority = self.openpgp_authority(&certify.authority)?;
        let policy = authority.policy(certify.policy.as_ref())?;
        if certify.key.fingerprint() == authority.key().fingerprint() {
            // A reader would take the certification for the key's own newest word about itself.
            return Err(is_the_authoritys_own());
        }
        if self.time < authority.key().created() {
            let text = format!(
                "the key of the OpenPGP authority {} was made at {}, after the signer's clock; an \
                 administrator must see to it",
                authority.name(),
                authority.key().created()
            );
            return Err(Refusal::new(RefusalCode::OpenPgpUnavailable, text));
        }
        let checked = openpgp::check(&certify.key, self.time)?;
        let own_end = authority.key().expires(self.time);
        if own_end.is_some_and(|end| end <= self.time) {
            let text = format!(
                "the key of the OpenPGP authority {} has expired; an administrator must see to it",
                authority.name()
            );
            return Err(Refusal::new(RefusalCode::OpenPgpUnavailable, text));
        }
        let expires = policy.permit(
            &certify.key,
            checked.kind,
            &checked.user_ids,
            certify.days,
            self.time,
        )?;
        let expires = own_end.map_or(expires, |end| end.min(expires));
        let end = own_end.into_iter().chain(certify.key.key_expires().map(UnixTime)).min();
        let wanted = Wanted { policy, days: certify.days, end };
        Ok(Permitted { authority, policy, expires, wanted })
    }

    fn openpgp_authority(&self, name: &Name) -> Result<&'a OpenPgpAuthority, Refusal> {
        if self.openpgp.is_empty() {
            let text = "this signer has no OpenPGP key; an administrator makes one with \
                        `signer openpgp create`";
            return Err(Refusal::new(RefusalCode::OpenPgpUnavailable, text));
        }
        self.openpgp.get(name).map(Arc::as_ref).ok_or_else(|| {
            let text = format!("there is no OpenPGP authority {name}");
            Refusal::new(RefusalCode::OpenPgpAuthorityUnknown, text)
        })
    }

    /// Everything that will be signed, but for the signatures.
    fn prepare(
        &mut self,
        tx: &mut Transaction<'_>,
        certify: Certify,
        permitted: &Permitted<'_>,
        at: UnixTime,
    ) -> Result<OpenPgpDraft, Fault> {
        let Permitted { authority, policy, expires, wanted } = permitted;
        let key = certify.key;
        let mut kept = BTreeMap::new();
        if !certify.renew {
            let standing = tx.standing(authority.id(), key.fingerprint(), |row| {
                row.policy == policy.name().as_str() && row.expires > self.time
            })?;
            let asked: BTreeSet<&str> = key.user_ids().iter().map(|text| &**text).collect();
            for one in standing.iter().filter(|one| asked.contains(&*one.user_id)) {
                let valid = tx.certification(one)?;
                if wanted.takes(&valid.ours) {
                    kept.insert(valid.user_id.clone(), valid);
                }
            }
        }
        let mut user_ids = Vec::new();
        for user_id in key.user_ids() {
            let one = match kept.get(&**user_id) {
                Some(valid) => Intended {
                    user_id: user_id.clone(),
                    serial: valid.serial.clone(),
                    expires: valid.expires,
                    ours: Ours::Kept(valid.ours.clone().try_into().map_err(too_long)?),
                },
                None => {
                    let serial = next_serial(tx, authority.id(), self.random)?;
                    let mut salt = [0; 16];
                    (self.random)(&mut salt)?;
                    let key = authority.key();
                    let statement =
                        Statement::certification(key, policy, &serial, at, *expires, salt)?;
                    let (user_id, serial) = (user_id.clone(), Some(serial));
                    Intended { user_id, serial, expires: *expires, ours: Ours::New(statement) }
                }
            };
            user_ids.push(one);
        }
        Ok(OpenPgpDraft {
            request: certify.id,
            authority: authority.id(),
            at,
            fingerprint: key.fingerprint().try_into().map_err(too_long)?,
            primary: key.primary().to_vec().try_into().map_err(too_long)?,
            job: OpenPgpJob::Certify {
                policy: policy.name().clone(),
                user_ids,
                minimal: Box::new(key.minimal().clone()),
            },
        })
    }

    /// Records the intent to take certifications back; or refuses where there is none.
    pub(super) fn revoke_openpgp(
        &mut self,
        tx: &mut Transaction<'_>,
        digest: Digest,
        revoke: &RevokeOpenPgp,
    ) -> Result<Option<Answer>, Fault> {
        let id = revoke.id;
        let authority = match self.openpgp_authority(&revoke.authority) {
            Ok(authority) => authority,
            Err(refusal) => return self.refuse(tx, id, digest, &refusal).map(Some),
        };
        let fingerprint = &revoke.fingerprint;
        if **fingerprint == *authority.key().fingerprint() {
            // A reader would take it for the key's own word, and its user ID for revoked.
            let refusal = is_the_authoritys_own();
            return self.refuse(tx, id, digest, &refusal).map(Some);
        }
        let wanted = revoke.user_id.as_ref().map(|text| (text, UserId::parse(text).ok()));
        let is_meant = |text: &str| match &wanted {
            None => true,
            Some((asked, form)) => {
                *text == ***asked || form.is_some() && UserId::parse(text).ok() == *form
            }
        };
        // Of a user ID that was certified more than once, one signature takes all back.
        let mut found = tx.standing(authority.id(), fingerprint, |_| true)?;
        found.retain(|one| is_meant(&one.user_id));
        let Some(last) = found.last() else {
            let text = format!(
                "{} has no certification of {} that could be taken back",
                revoke.authority,
                match &revoke.user_id {
                    Some(user_id) => format!("`{}` of key {fingerprint}", user_id.escape_debug()),
                    None => format!("key {fingerprint}"),
                }
            );
            let refusal = Refusal::new(RefusalCode::OpenPgpNothingCertified, text);
            return self.refuse(tx, id, digest, &refusal).map(Some);
        };
        let head = tx.certification(last)?.head;
        let at = after(self.time, found.iter().map(|one| one.at).max());
        let mut user_ids = self.taking_back(tx, authority, revoke.reason, at, &head, &found)?;
        if user_ids.is_none()
            && let Some(asked) = &revoke.user_id
        {
            // A key's owner may make the forms of one user ID too long for one answer: each alone
            // can be taken back all the same.
            found.retain(|one| *one.user_id == **asked);
            user_ids = self.taking_back(tx, authority, revoke.reason, at, &head, &found)?;
        }
        let Some(user_ids) = user_ids.filter(|user_ids| !user_ids.is_empty()) else {
            let text = format!(
                "the answer would have more than {CERTIFICATE_MAX} bytes; take the user IDs back \
                 one by one, each as `openpgp list` writes it"
            );
            let refusal = Refusal::new(RefusalCode::OpenPgpUserIdForm, text);
            return self.refuse(tx, id, digest, &refusal).map(Some);
        };
        let draft = OpenPgpDraft {
            request: id,
            authority: authority.id(),
            at,
            fingerprint: fingerprint.clone(),
            primary: primary_of(&head)?,
            job: OpenPgpJob::Revoke {
                reason: revoke.reason,
                user_ids,
                head: head.try_into().map_err(too_long)?,
            },
        };
        tx.open_request(id, digest)?;
        tx.store_openpgp_intent(draft, None)?;
        Ok(None)
    }

    /// What is said of each of these user IDs; nothing if no answer can hold it.
    fn taking_back(
        &mut self,
        tx: &mut Transaction<'_>,
        authority: &OpenPgpAuthority,
        reason: OpenPgpReason,
        at: UnixTime,
        head: &[u8],
        found: &[Standing],
    ) -> Result<Option<Vec<TakenBack>>, Fault> {
        let (mut user_ids, mut length) = (Vec::new(), head.len());
        for one in found {
            let valid = tx.certification(one)?;
            let mut salt = [0; 16];
            (self.random)(&mut salt)?;
            let statement = Statement::revocation(authority.key(), reason, at, salt)?;
            // `openpgp-size`, as above: several requests may have certified more than one answer
            // can hold.
            length += valid.own.len() + statement.length_max(authority.key());
            if length > CERTIFICATE_MAX {
                return Ok(None);
            }
            user_ids.push(TakenBack {
                user_id: valid.user_id.try_into().map_err(too_long)?,
                own: valid.own.try_into().map_err(too_long)?,
                statement,
            });
        }
        Ok(Some(user_ids))
    }
}

fn is_the_authoritys_own() -> Refusal {
    let text = "it is the authority's own key, which does not certify itself";
    Refusal::new(RefusalCode::OpenPgpKey, text)
}

/// A second later than the newest of what it must come after: signatures have whole seconds, and
/// of two in the same one readers differ about which is the newer.
fn after(time: UnixTime, newest: Option<UnixTime>) -> UnixTime {
    newest.map_or(time, |newest| UnixTime(time.0.max(newest.0 + 1)))
}

/// The 16-octet serial of design §4.
fn next_serial(
    tx: &mut Transaction<'_>,
    authority: OpenPgpAuthorityId,
    random: &mut super::Random,
) -> Result<Serial, Fault> {
    let mut octets = [0; 8];
    random(&mut octets)?;
    serial(tx.next_openpgp_serial(authority)?, octets)
}

/// The name of what is certified: the same authority, policy, key and set of user IDs.
fn what(
    authority: OpenPgpAuthorityId,
    policy: &Name,
    key: &VettedOpenPgp,
) -> Result<Digest, Fault> {
    let mut user_ids: Vec<&str> = key.user_ids().iter().map(|user_id| &**user_id).collect();
    user_ids.sort_unstable();
    let fingerprint = key.fingerprint();
    Ok(Digest::of(&protocol::codec::encode(&(authority, policy, fingerprint, user_ids))?))
}

/// Whether the earlier answer is what this request would be answered with, but for new signatures:
/// the key's other packets are those of this upload, and each certification may stand for one made
/// now. Whoever reads the answer knows this request alone.
fn is_the_same(earlier: &Earlier, key: &VettedOpenPgp, wanted: &Wanted<'_>) -> bool {
    let mut bytes = key.minimal().head().to_vec();
    for one in &earlier.user_ids {
        let from = one.offset.saturating_add(one.own);
        let ours = earlier.certificate.get(from..from.saturating_add(one.ours));
        let Some((own, ours)) = own_part(key, &one.user_id).zip(ours) else { return false };
        if !wanted.takes(ours) {
            return false;
        }
        bytes.extend_from_slice(own);
        bytes.extend_from_slice(ours);
    }
    bytes.extend_from_slice(key.minimal().tail());
    bytes == earlier.certificate
}

/// The same of what is being signed. The policy is the one of today: what was open at the start
/// was finished then.
fn will_be_the_same(leader: &OpenPgpDraft, key: &VettedOpenPgp, wanted: &Wanted<'_>) -> bool {
    let OpenPgpJob::Certify { user_ids, minimal, .. } = &leader.job else { return false };
    let is_same = |(own, one): (&Bytes<OPENPGP_KEY_MAX>, &Intended)| {
        own_part(key, &one.user_id) == Some(&**own)
            && match &one.ours {
                Ours::New(_) => wanted.takes_time(leader.at, one.expires),
                Ours::Kept(packet) => wanted.takes(packet),
            }
    };
    minimal.head() == key.minimal().head()
        && minimal.tail() == key.minimal().tail()
        && minimal.user_ids().iter().zip(user_ids).all(is_same)
}

/// A user ID's packet in this upload, with its self-signature.
fn own_part<'k>(key: &'k VettedOpenPgp, user_id: &str) -> Option<&'k [u8]> {
    let at = key.user_ids().iter().position(|one| **one == *user_id)?;
    key.minimal().user_ids().get(at).map(|part| &**part)
}

/// The primary key at the front of a stored certificate. What follows it is the word of the process
/// that vetted it, and nothing here relies on that.
fn primary_of<const N: usize>(head: &[u8]) -> Result<Bytes<N>, Fault> {
    let damaged = |why: String| Fault::Damaged { what: "a stored OpenPGP key".into(), why };
    let (primary, _) =
        packets::first(head).map_err(|what| damaged(format!("its first packet {what}")))?;
    primary.whole.to_vec().try_into().map_err(|error| damaged(format!("{error}")))
}

//------------ Order ---------------------------------------------------------

/// Which keys are being certified. Whoever takes back what a key has waits for that: else readers
/// would hold for revoked what was begun before, and the ledger for valid.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    certifying: HashMap<RequestId, (OpenPgpAuthorityId, String)>,
    /// The calls that wait, in their order.
    pub(super) behind: Vec<Tagged<Call>>,
}

impl UnderWay {
    pub(super) fn begin(&mut self, intents: &[OpenPgpIntent]) {
        for intent in intents {
            if let OpenPgpJob::Certify { .. } = intent.job() {
                let key = (intent.authority(), intent.fingerprint().to_owned());
                self.certifying.insert(intent.request(), key);
            }
        }
    }

    pub(super) fn end(&mut self, intent: &OpenPgpIntent) {
        self.certifying.remove(&intent.request());
    }

    /// Whether calls wait for nothing.
    pub(super) fn is_over(&self) -> bool {
        self.certifying.is_empty() && !self.behind.is_empty()
    }

    /// Whether this call must not be decided yet: what takes back waits for what certifies, and
    /// what certifies overtakes no call that waits.
    pub(super) fn holds_back(
        &self,
        call: &Call,
        authorities: &BTreeMap<Name, Arc<OpenPgpAuthority>>,
        tx: &Transaction<'_>,
    ) -> bool {
        match call {
            Call::RevokeOpenPgp { revoke, .. } => {
                let fingerprint: &str = &revoke.fingerprint;
                authorities.get(&revoke.authority).is_some_and(|authority| {
                    let id = authority.id();
                    let is_it =
                        |key: &(OpenPgpAuthorityId, String)| *key == (id, fingerprint.into());
                    tx.begins_to_certify(id, fingerprint) || self.certifying.values().any(is_it)
                })
            }
            Call::Certify(certify) => self.behind.iter().any(|other| match &other.body {
                Call::RevokeOpenPgp { revoke, .. } => {
                    revoke.authority == certify.authority
                        && *revoke.fingerprint == *certify.key.fingerprint()
                }
                _ => false,
            }),
            _ => false,
        }
    }
}

//------------ Signing -------------------------------------------------------

/// What a signing thread made of an intent; it is not recorded yet.
#[derive(Debug)]
pub(super) struct SignedOpenPgp {
    pub(super) intent: OpenPgpIntent,
    pub(super) made: Certified,
}

/// Signs all that an intent says, and puts it where it belongs.
pub(super) fn sign(
    authority: &OpenPgpAuthority,
    intent: OpenPgpIntent,
) -> Result<SignedOpenPgp, Fault> {
    let Some(sequoia_openpgp::Packet::PublicKey(key)) = one_packet(intent.primary()) else {
        let request = intent.request();
        return Err(Fault::Internal(format!("the key of request {request} cannot be read")));
    };
    let ours = authority.key();
    let made = match intent.job() {
        OpenPgpJob::Certify { user_ids, minimal, .. } => {
            let mut packets = Vec::new();
            for one in user_ids {
                packets.push(match &one.ours {
                    Ours::New(statement) => statement.sign(ours, &key, &one.user_id)?,
                    Ours::Kept(packet) => packet.to_vec(),
                });
            }
            with_certifications(minimal, user_ids, &packets)
        }
        OpenPgpJob::Revoke { user_ids, head, .. } => {
            let mut bytes = head.to_vec();
            for taken in user_ids {
                bytes.extend_from_slice(&taken.own);
                bytes.extend(taken.statement.sign(ours, &key, &taken.user_id)?);
            }
            Certified { bytes, head: head.len(), user_ids: Vec::new() }
        }
    };
    Ok(SignedOpenPgp { intent, made })
}

/// The certificate with `packets[n]` after the `n`th user ID and its self-signature. This is
/// concatenation; it looks into nothing.
fn with_certifications(minimal: &Minimal, user_ids: &[Intended], packets: &[Vec<u8>]) -> Certified {
    let mut bytes = minimal.head().to_vec();
    let mut parts = Vec::new();
    for ((own, one), ours) in minimal.user_ids().iter().zip(user_ids).zip(packets) {
        parts.push(CertifiedUserId {
            user_id: one.user_id.to_string(),
            serial: one.serial.clone(),
            expires: one.expires,
            offset: bytes.len(),
            own: own.len(),
            ours: ours.len(),
        });
        bytes.extend_from_slice(own);
        bytes.extend_from_slice(ours);
    }
    bytes.extend_from_slice(minimal.tail());
    Certified { bytes, head: minimal.head().len(), user_ids: parts }
}

//------------ Recording -----------------------------------------------------

impl Vault {
    /// Tasks for the signing threads.
    pub(super) fn openpgp_tasks(&self, intents: Vec<OpenPgpIntent>) -> Result<Vec<Task>, Fault> {
        let task = |intent: OpenPgpIntent| {
            let authority = self.openpgp.values().find(|one| one.id() == intent.authority());
            let authority = authority.ok_or_else(|| {
                Fault::Configuration(format!(
                    "request {} waits for an OpenPGP key, which is gone; restore it",
                    intent.request()
                ))
            })?;
            Ok(Task::OpenPgp { authority: Arc::clone(authority), intent: Box::new(intent) })
        };
        intents.into_iter().map(task).collect()
    }

    /// What an older program left: requests that it did not finish are set aside, and the parts
    /// of what it certified are noted.
    pub(super) fn settle_old_openpgp(&mut self, time: UnixTime) -> Result<(), Fault> {
        let outdated = self.ledger.outdated_openpgp_intents()?;
        let without_parts = self.ledger.openpgp_without_parts()?;
        let known: Vec<_> = without_parts
            .iter()
            .filter_map(|(seq, certificate)| Some((*seq, openpgp::parts(certificate)?)))
            .collect();
        if outdated.is_empty() && known.is_empty() {
            return Ok(());
        }
        let mut tx = self.ledger.begin(time)?;
        for id in outdated {
            let text = "the signer's program was replaced while this was being certified; ask \
                        again with a new id";
            tracing::warn!(request = %id, "{text}");
            tx.set_aside_openpgp_intent(id, text)?;
        }
        for (seq, (head, user_ids)) in known {
            tx.set_openpgp_parts(seq, head, &user_ids)?;
        }
        tx.commit()?;
        Ok(())
    }
}

/// Records what was signed; says which requests it answers, and how.
pub(super) fn record(
    tx: &mut Transaction<'_>,
    signed: &SignedOpenPgp,
) -> Result<Vec<(RequestId, Answer)>, Fault> {
    let SignedOpenPgp { intent, made } = signed;
    let certificate: Bytes<CERTIFICATE_MAX> = made.bytes.clone().try_into().map_err(too_long)?;
    match intent.job() {
        OpenPgpJob::Certify { policy, .. } => {
            let ids = tx.store_certification(intent, policy, made)?;
            let answer = |id| (id, Answer::Certified { id, certificate: certificate.clone() });
            Ok(ids.into_iter().map(answer).collect())
        }
        OpenPgpJob::Revoke { reason, user_ids, .. } => {
            tx.store_openpgp_revocation(intent, *reason, user_ids, &made.bytes)?;
            let (id, revoked_at) = (intent.request(), intent.at().0);
            Ok(vec![(id, Answer::CertificationRevoked { id, revoked_at, certificate })])
        }
    }
}

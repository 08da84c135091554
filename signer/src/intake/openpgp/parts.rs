//! The parts of a key, and which of their signatures are the owner's and count.
//!
//! A signature that says another issuer is never parsed further nor verified. Of the others the
//! newest comes first, and the first that is valid is enough; what is verified is counted, and a
//! key that needs more than it may is refused.

use std::time::{Duration, SystemTime};

use protocol::message::RefusalCode;
use sequoia_openpgp::{
    KeyHandle, Packet,
    packet::{
        Key, Signature, UserID,
        key::{PrimaryRole, PublicParts, SubordinateRole},
    },
    types::SignatureType,
};

use super::{
    OLD_DIGESTS, one_packet,
    packets::{Raw, tag},
    refuse,
};
use crate::refusal::Refusal;

/// Subkeys of one key; those of people have fewer than 20.
const SUBKEYS_MAX: usize = 64;
/// User IDs beside those that were asked for: they may say when the key expires.
const OTHERS_MAX: usize = 32;

/// A user ID or subkey with the signatures that follow it.
pub(super) struct Part<'a> {
    pub(super) raw: Raw<'a>,
    signatures: Vec<Raw<'a>>,
}

/// A key, taken apart.
pub(super) struct Parts<'a> {
    primary: Vec<Raw<'a>>,
    pub(super) user_ids: Vec<Part<'a>>,
    subkeys: Vec<Part<'a>>,
}

/// Sorts the packets of one certificate, the primary key first.
pub(super) fn group<'a>(packets: &[Raw<'a>]) -> Parts<'a> {
    enum At {
        Primary,
        UserId,
        Subkey,
        Elsewhere,
    }
    let mut parts = Parts { primary: Vec::new(), user_ids: Vec::new(), subkeys: Vec::new() };
    let mut at = At::Primary;
    for raw in packets.iter().skip(1) {
        let part = Part { raw: *raw, signatures: Vec::new() };
        match raw.tag {
            tag::USER_ID => {
                parts.user_ids.push(part);
                at = At::UserId;
            }
            tag::PUBLIC_SUBKEY => {
                parts.subkeys.push(part);
                at = At::Subkey;
            }
            tag::USER_ATTRIBUTE => at = At::Elsewhere,
            tag::SIGNATURE => {
                let signatures = match at {
                    At::Primary => Some(&mut parts.primary),
                    At::UserId => parts.user_ids.last_mut().map(|part| &mut part.signatures),
                    At::Subkey => parts.subkeys.last_mut().map(|part| &mut part.signatures),
                    At::Elsewhere => None,
                };
                if let Some(signatures) = signatures {
                    signatures.push(*raw);
                }
            }
            _ => {} // trust, markers and padding mean nothing here
        }
    }
    parts
}

/// Verifies, and counts: `openpgp-checks`.
pub(super) struct Checks<'a> {
    primary: &'a Key<PublicParts, PrimaryRole>,
    own: KeyHandle,
    now: SystemTime,
    left: usize,
}

impl<'a> Checks<'a> {
    pub(super) fn new(
        primary: &'a Key<PublicParts, PrimaryRole>,
        now: SystemTime,
        limit: usize,
    ) -> Self {
        Self { primary, own: primary.fingerprint().into(), now, left: limit }
    }

    /// The signatures of `raw` that may be the owner's, newest first.
    fn candidates(&self, raw: &[Raw<'_>]) -> Vec<Signature> {
        let parsed = raw.iter().filter_map(|raw| match one_packet(raw.whole) {
            Some(Packet::Signature(signature)) => Some(signature),
            _ => None,
        });
        let mut own: Vec<Signature> = parsed
            .filter(|signature| {
                let issuers = signature.get_issuers();
                issuers.is_empty() || issuers.iter().any(|issuer| issuer.aliases(&self.own))
            })
            .collect();
        own.sort_by_key(|signature| std::cmp::Reverse(signature.signature_creation_time()));
        own
    }

    /// The first of `candidates` that is of a kind in `types` and verifies.
    fn first(
        &mut self,
        candidates: &[Signature],
        types: &[SignatureType],
        mut verify: impl FnMut(&Signature, &Key<PublicParts, PrimaryRole>) -> bool,
    ) -> Result<Option<Signature>, Refusal> {
        for signature in candidates.iter().filter(|one| types.contains(&one.typ())) {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                let text = "it has too many self-signatures to check; send a minimal export";
                refuse(RefusalCode::OpenPgpMalformed, text)
            })?;
            if verify(signature, self.primary) {
                return Ok(Some(signature.clone()));
            }
        }
        Ok(None)
    }

    /// Whether a signature counts at this time, if it verifies.
    fn counts(&self, signature: &Signature) -> bool {
        !is_old(signature) && signature.signature_alive(self.now, Duration::ZERO).is_ok()
    }
}

fn is_old(signature: &Signature) -> bool {
    OLD_DIGESTS.contains(&signature.hash_algo())
}

/// A user ID with what its owner says of it.
pub(super) struct Bound {
    pub(super) user_id: UserID,
    pub(super) self_signature: Signature,
}

/// What of a key counts.
pub(super) struct Kept {
    pub(super) direct: Option<Signature>,
    /// Those that were asked for, in the order of the request.
    pub(super) asked: Vec<Bound>,
    others: Vec<Bound>,
    subkeys: Vec<Vec<Packet>>,
    /// A self-signature would count but for its digest.
    pub(super) old_digest: bool,
}

const CERTIFICATIONS: [SignatureType; 4] = [
    SignatureType::GenericCertification,
    SignatureType::PersonaCertification,
    SignatureType::CasualCertification,
    SignatureType::PositiveCertification,
];

impl Kept {
    /// Finds it; refuses a key that is revoked, and user IDs at the places `chosen` that are not
    /// their owner's or not any more.
    pub(super) fn of(
        parts: &Parts<'_>,
        chosen: &[usize],
        checks: &mut Checks<'_>,
    ) -> Result<Self, Refusal> {
        let mut kept = Self {
            direct: None,
            asked: Vec::new(),
            others: Vec::new(),
            subkeys: Vec::new(),
            old_digest: false,
        };
        kept.take_primary(parts, checks)?;
        for at in chosen {
            let bound = kept.asked_user_id(&parts.user_ids[*at], checks)?;
            kept.asked.push(bound);
        }
        let others = parts.user_ids.iter().enumerate().filter(|(at, _)| !chosen.contains(at));
        for (_, part) in others.take(OTHERS_MAX) {
            let found = kept.self_signature(part, checks)?;
            kept.others.extend(found.bound);
        }
        kept.take_subkeys(parts, checks)?;
        Ok(kept)
    }

    /// Whether a user ID counts that was not asked for.
    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// The packets that are left of the key, with the user IDs that were not asked for or without.
    pub(super) fn packets(
        &self,
        primary: &Key<PublicParts, PrimaryRole>,
        with_others: bool,
    ) -> Vec<Packet> {
        let others = self.others.iter().filter(|_| with_others);
        let mut packets = vec![Packet::from(primary.clone())];
        packets.extend(self.direct.iter().cloned().map(Packet::from));
        for Bound { user_id, self_signature } in self.asked.iter().chain(others) {
            packets.push(user_id.clone().into());
            packets.push(self_signature.clone().into());
        }
        packets.extend(self.subkeys.iter().flatten().cloned());
        packets
    }

    /// `openpgp-revoked`: whatever its reason, date and digest, as long as it is the owner's.
    fn take_primary(&mut self, parts: &Parts<'_>, checks: &mut Checks<'_>) -> Result<(), Refusal> {
        let candidates = checks.candidates(&parts.primary);
        let revocation =
            checks.first(&candidates, &[SignatureType::KeyRevocation], |one, key| {
                one.verify_primary_key_revocation(key, key).is_ok()
            })?;
        if revocation.is_some() {
            return Err(refuse(RefusalCode::OpenPgpRevoked, "it is revoked"));
        }
        let counted: Vec<_> = candidates.iter().filter(|one| checks.counts(one)).cloned().collect();
        self.direct = checks.first(&counted, &[SignatureType::DirectKey], |one, key| {
            one.verify_direct_key(key, key).is_ok()
        })?;
        Ok(())
    }

    /// `openpgp-self-signature`, `openpgp-digest`, `openpgp-user-id-revoked`.
    fn asked_user_id(
        &mut self,
        part: &Part<'_>,
        checks: &mut Checks<'_>,
    ) -> Result<Bound, Refusal> {
        let text = String::from_utf8_lossy(part.raw.body).into_owned();
        let refuse =
            |code, what: &str| Err(Refusal::new(code, format!("the user ID `{text}` {what}")));
        let Found { bound, revoked, old } = self.self_signature(part, checks)?;
        match bound {
            _ if revoked => {
                refuse(RefusalCode::OpenPgpUserIdRevoked, "is revoked by the key's owner")
            }
            Some(bound) => Ok(bound),
            None if old => refuse(
                RefusalCode::OpenPgpDigest,
                "has no self-signature but with SHA-1 or older, which count for nothing",
            ),
            None => refuse(
                RefusalCode::OpenPgpSelfSignature,
                "has no valid self-signature by the key's owner",
            ),
        }
    }

    fn self_signature(
        &mut self,
        part: &Part<'_>,
        checks: &mut Checks<'_>,
    ) -> Result<Found, Refusal> {
        let user_id = UserID::from(part.raw.body);
        let candidates = checks.candidates(&part.signatures);
        let (counted, rest): (Vec<_>, Vec<_>) =
            candidates.iter().cloned().partition(|one| checks.counts(one));
        let verify = |one: &Signature, key: &Key<PublicParts, PrimaryRole>| {
            one.verify_userid_binding(key, key, &user_id).is_ok()
        };
        let newest = checks.first(&counted, &CERTIFICATIONS, verify)?;
        let mut found = Found { bound: None, revoked: false, old: false };
        if newest.is_none() {
            let old: Vec<_> = rest.into_iter().filter(is_old).collect();
            found.old = checks.first(&old, &CERTIFICATIONS, verify)?.is_some();
            self.old_digest |= found.old;
        }
        // A later self-signature takes a revocation back; a revocation dated after our own clock
        // counts, because it is our clock that may be wrong.
        let signed = newest.as_ref().and_then(|one| one.signature_creation_time());
        let later: Vec<_> =
            candidates.into_iter().filter(|one| one.signature_creation_time() >= signed).collect();
        let revocation =
            checks.first(&later, &[SignatureType::CertificationRevocation], |one, key| {
                one.verify_userid_revocation(key, key, &user_id).is_ok()
            })?;
        found.revoked = revocation.is_some();
        found.bound = newest
            .filter(|_| !found.revoked)
            .map(|self_signature| Bound { user_id, self_signature });
        Ok(found)
    }

    fn take_subkeys(&mut self, parts: &Parts<'_>, checks: &mut Checks<'_>) -> Result<(), Refusal> {
        if parts.subkeys.len() > SUBKEYS_MAX {
            let text = format!("it has {} subkeys, at most {SUBKEYS_MAX}", parts.subkeys.len());
            return Err(refuse(RefusalCode::OpenPgpMalformed, text));
        }
        for part in &parts.subkeys {
            let Some(Packet::PublicSubkey(subkey)) = one_packet(part.raw.whole) else { continue };
            let candidates = checks.candidates(&part.signatures);
            let counted: Vec<_> =
                candidates.iter().filter(|one| checks.counts(one)).cloned().collect();
            let bound = checks.first(&counted, &[SignatureType::SubkeyBinding], |one, key| {
                one.verify_subkey_binding(key, key, &subkey).is_ok()
            })?;
            let Some(bound) = bound else { continue };
            let revocation =
                checks.first(&candidates, &[SignatureType::SubkeyRevocation], |one, key| {
                    one.verify_subkey_revocation(key, key, &subkey).is_ok()
                })?;
            let mut packets = vec![Packet::from(subkey as Key<PublicParts, SubordinateRole>)];
            packets.push(bound.into());
            packets.extend(revocation.map(Packet::from));
            self.subkeys.push(packets);
        }
        Ok(())
    }
}

/// What the signatures on a user ID say.
struct Found {
    bound: Option<Bound>,
    revoked: bool,
    /// It is bound only by digests that count for nothing.
    old: bool,
}

//! Checks what the signer sent for an OpenPGP request, before anything of it is stored.
//!
//! Every packet of an answer must be one that was asked about, byte for byte, or a signature by
//! the pinned authority that says exactly what was asked for. An answer is judged by its request
//! alone, also where the signer gives what it certified before: a webdb that was restored knows
//! nothing of that. Only [`certified`] and [`revoked`] make what the inventory takes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::{
    message::{CertifyOpenPgp, OpenPgpPolicyEntry, RevokeOpenPgp},
    user_id::{self, UserId},
};
use sequoia_openpgp::{
    Packet,
    packet::{
        Key, Signature, Tag, UserID,
        key::{PrimaryRole, PublicParts},
        signature::subpacket::{Subpacket, SubpacketValue},
    },
    parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse},
    serialize::SerializeInto,
    types::{HashAlgorithm, SignatureType},
};

use crate::{catalogue::OpenPgpAuthority, verify::BadAnswer};

/// A certified key that passed every check; only [`certified`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedCertification {
    bytes: Vec<u8>,
    fingerprint: String,
    certified: Vec<Certified>,
}

/// One user ID and our certification of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The user ID, as in the key.
    pub user_id: String,
    /// The certification, a signature packet.
    pub packet: Vec<u8>,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub created: i64,
    /// When it ends.
    pub expires: i64,
    /// The signer's number for it, if the policy has it said.
    pub serial: Option<String>,
}

impl VerifiedCertification {
    /// The transferable public key with the certifications, binary.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The primary key's fingerprint in upper-case hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The user IDs that are certified.
    pub fn certified(&self) -> &[Certified] {
        &self.certified
    }
}

/// Certifications taken back, checked; only [`revoked`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedRevocation {
    bytes: Vec<u8>,
    fingerprint: String,
    at: i64,
    revoked: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
}

impl VerifiedRevocation {
    /// The primary key, the user IDs and the revocations, binary.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The primary key's fingerprint in upper-case hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// When, in seconds since 1970-01-01 UTC.
    pub fn at(&self) -> i64 {
        self.at
    }

    /// Each user ID with the revocation signature packet.
    pub fn revoked(&self) -> &[(String, Vec<u8>)] {
        &self.revoked
    }

    /// User IDs that should have been taken back too, and were not: a signer that was restored from
    /// a backup does not know of them.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

//------------ Certified -----------------------------------------------------

/// Checks the key `bytes`, which `authority` is said to have certified for `request`.
pub fn certified(
    authority: &OpenPgpAuthority,
    request: &CertifyOpenPgp,
    bytes: &[u8],
) -> Result<VerifiedCertification, BadAnswer> {
    let mut answer = Parts::read(bytes)?;
    let asked = Parts::read(&request.key)?;
    if answer.primary.fingerprint() != asked.primary.fingerprint() {
        return Err(bad(format!(
            "has fingerprint {} where {} was asked for",
            answer.primary.fingerprint(),
            asked.primary.fingerprint()
        )));
    }
    answer.sort_out(&asked)?;
    let user_ids: Vec<&[u8]> = answer.user_ids.iter().map(|one| one.user_id.value()).collect();
    let chosen = user_id::select(&request.user_ids, &user_ids)
        .map_err(|fault| bad(format!("lacks what was asked for: user ID {fault}")))?;
    if let Some(stranger) = (0..user_ids.len()).find(|place| !chosen.contains(place)) {
        let text = String::from_utf8_lossy(user_ids[stranger]);
        return Err(bad(format!("has user ID `{text}`, which was not asked for")));
    }
    let policy = authority.policy(request.policy.as_ref()).ok_or_else(|| {
        bad(format!("comes by a policy that OpenPGP authority `{}` does not show", authority.name))
    })?;
    let mut certified = Vec::new();
    for place in chosen {
        let part = &answer.user_ids[place];
        let text = part.text()?;
        let [packet] = &part.added[..] else {
            let count = part.added.len();
            return Err(bad(format!("has {count} new signatures of user ID `{text}`, not one")));
        };
        let judge = Judge { authority, policy, primary: &answer.primary, part };
        certified.push(judge.certification(packet, request)?);
    }
    let fingerprint = answer.primary.fingerprint().to_hex();
    Ok(VerifiedCertification { bytes: bytes.to_vec(), fingerprint, certified })
}

/// What one new signature is judged by.
struct Judge<'j> {
    authority: &'j OpenPgpAuthority,
    policy: &'j OpenPgpPolicyEntry,
    primary: &'j Key<PublicParts, PrimaryRole>,
    part: &'j UserIdPart,
}

impl Judge<'_> {
    fn certification(
        &self,
        packet: &Signature,
        request: &CertifyOpenPgp,
    ) -> Result<Certified, BadAnswer> {
        let text = self.part.text()?;
        let says = |what: String| bad(format!("certifies `{text}` {what}"));
        let user_id = &self.part.user_id;
        let signer = self.authority.cert().primary_key();
        check_signature(packet, self.authority)?;
        let valid = packet.verify_userid_binding(signer.key(), self.primary, user_id).is_ok()
            && has_its_prefix(packet);
        if !valid {
            return Err(bad(format!("has no valid certification of user ID `{text}`")));
        }

        let created = time_of(packet)?;
        let period = packet
            .signature_validity_period()
            .filter(|period| !period.is_zero())
            .ok_or_else(|| says("for ever".to_owned()))?;
        let created_s = unix_seconds(created);
        let expires = created_s.saturating_add(i64::try_from(period.as_secs()).unwrap_or(i64::MAX));
        let serial = self.notation_of_serial(packet, &text)?;
        if u8::from(packet.typ()) != self.policy.level.signature_type() {
            return Err(says(format!("as {}", packet.typ())));
        }
        let longest = request.days.unwrap_or(self.policy.days_max);
        if period > Duration::from_secs(u64::from(longest) * DAY_S) {
            return Err(says("for longer than was asked for".to_owned()));
        }
        let uri = packet.policy_uri().map(String::from_utf8_lossy);
        if uri.as_deref() != self.policy.policy_uri.as_deref() {
            let shown = uri.as_deref().unwrap_or("none");
            return Err(says(format!("with policy URI `{}`", shown.escape_debug())));
        }
        // Never past the key's own life, as the owner's signature on this user ID states it.
        let ends = self.part.own.iter().filter_map(|own| own.key_expiration_time(self.primary));
        if ends.max().is_some_and(|end| unix_seconds(end) < expires) {
            return Err(says("for longer than the key lives".to_owned()));
        }
        let packet = to_bytes(packet)?;
        Ok(Certified { user_id: text, packet, created: created_s, expires, serial })
    }

    /// The value of the policy's notation. A policy may have others, for people to read.
    fn notation_of_serial(
        &self,
        packet: &Signature,
        text: &str,
    ) -> Result<Option<String>, BadAnswer> {
        let mut serial = None;
        for notation in packet.notation_data().filter(|notation| notation.name() != SALT) {
            let name = notation.name().escape_debug();
            if self.policy.serial_notation.as_deref() == Some(notation.name()) {
                if serial.is_some() {
                    return Err(bad(format!("certifies `{text}` with two serial numbers")));
                }
                serial = Some(String::from_utf8_lossy(notation.value()).into_owned());
            } else if !notation.flags().human_readable() {
                return Err(bad(format!("certifies `{text}` with a notation `{name}`")));
            }
        }
        if self.policy.serial_notation.is_some() && serial.is_none() {
            return Err(bad(format!("certifies `{text}` without a serial number")));
        }
        Ok(serial)
    }
}

/// Random octets that sequoia puts into version 4 signatures.
const SALT: &str = "salt@notations.sequoia-pgp.org";
const DAY_S: u64 = 86_400;

//------------ Revoked -------------------------------------------------------

/// Checks the revocations `bytes`, which `authority` is said to have made at `revoked_at` for
/// `request`. `certified` are the user IDs of the key that the inventory knows as certified.
pub fn revoked(
    authority: &OpenPgpAuthority,
    request: &RevokeOpenPgp,
    revoked_at: i64,
    bytes: &[u8],
    certified: &[String],
) -> Result<VerifiedRevocation, BadAnswer> {
    let answer = Parts::read(bytes)?;
    let fingerprint = answer.primary.fingerprint().to_hex();
    if fingerprint != *request.fingerprint {
        let asked = &request.fingerprint;
        return Err(bad(format!("has fingerprint {fingerprint} where {asked} was asked for")));
    }
    if !answer.subkeys.is_empty() {
        return Err(bad("has subkeys, where user IDs are taken back".to_owned()));
    }
    for signature in &answer.direct {
        let own = signature.typ() == SignatureType::DirectKey
            && signature.verify_direct_key(&answer.primary, &answer.primary).is_ok();
        if !own {
            return Err(bad(format!("has a bad signature of the key: {}", signature.typ())));
        }
    }
    let mut found = Vec::new();
    for part in &answer.user_ids {
        let text = part.text()?;
        let mut ours = Vec::new();
        for signature in &part.signatures {
            if is_the_owners(signature, &answer.primary) {
                // The owner's word that it is a user ID of this key.
                let valid = signature
                    .verify_userid_binding(&answer.primary, &answer.primary, &part.user_id)
                    .is_ok()
                    && has_its_prefix(signature);
                if !valid {
                    return Err(bad(format!("has a bad self-signature of user ID `{text}`")));
                }
                continue;
            }
            check_signature(signature, authority)?;
            let signer = authority.cert().primary_key();
            let valid = signature.typ() == SignatureType::CertificationRevocation
                && signature
                    .verify_userid_revocation(signer.key(), &answer.primary, &part.user_id)
                    .is_ok()
                && has_its_prefix(signature);
            if !valid {
                return Err(bad(format!("has no valid revocation of user ID `{text}`")));
            }
            let code = signature.reason_for_revocation().map(|(code, _)| u8::from(code));
            if code.unwrap_or(0) != request.reason.code() {
                return Err(bad(format!("revokes user ID `{text}` for another reason")));
            }
            if unix_seconds(time_of(signature)?) != revoked_at {
                return Err(bad(format!("revokes user ID `{text}` at another time than it says")));
            }
            ours.push(to_bytes(signature)?);
        }
        let [packet] = &ours[..] else {
            return Err(bad(format!(
                "has {} revocations of user ID `{text}`, not one",
                ours.len()
            )));
        };
        found.push((text, packet.clone()));
    }
    let has = |wanted: &str| found.iter().any(|(text, _)| is_same(text, wanted));
    let missing = match &request.user_id {
        // Several, if the key has it in several forms.
        Some(asked) if !has(asked) || !found.iter().all(|(text, _)| is_same(text, asked)) => {
            return Err(bad(format!("does not revoke exactly user ID `{}`", &**asked)));
        }
        None if found.is_empty() => return Err(bad("revokes nothing".to_owned())),
        None => certified.iter().filter(|certified| !has(certified)).cloned().collect(),
        Some(_) => Vec::new(),
    };
    let bytes = bytes.to_vec();
    Ok(VerifiedRevocation { bytes, fingerprint, at: revoked_at, revoked: found, missing })
}

fn is_same(one: &str, other: &str) -> bool {
    one == other || UserId::parse(one).is_ok_and(|one| UserId::parse(other).is_ok_and(|o| one == o))
}

//------------ Signatures ----------------------------------------------------

/// What holds for everything that an authority signs: its issuer, a digest that counts, and no
/// word that gives the signed key more than a name.
fn check_signature(signature: &Signature, authority: &OpenPgpAuthority) -> Result<(), BadAnswer> {
    let key = authority.cert().primary_key();
    let named = signature.issuer_fingerprints().next() == Some(&key.key().fingerprint());
    if !named {
        let name = &authority.name;
        return Err(bad(format!("has a signature by another than OpenPGP authority `{name}`")));
    }
    let strong = [HashAlgorithm::SHA256, HashAlgorithm::SHA384, HashAlgorithm::SHA512];
    if !strong.contains(&signature.hash_algo()) {
        return Err(bad(format!("has a signature with digest {}", signature.hash_algo())));
    }
    if let Some(other) = signature.hashed_area().iter().find(|one| !is_plain(one)) {
        let tag = other.tag();
        return Err(bad(format!("has a signature that says more than was asked for: {tag}")));
    }
    let issuers_only = signature.unhashed_area().iter().all(|one| {
        matches!(one.value(), SubpacketValue::Issuer(_) | SubpacketValue::IssuerFingerprint(_))
    });
    if !issuers_only {
        return Err(bad("has a signature with words that are not signed".to_owned()));
    }
    Ok(())
}

/// Subpackets that name who, when, how long, why and by which policy. A trust signature or a
/// regular expression would make an introducer of the key.
fn is_plain(subpacket: &Subpacket) -> bool {
    match subpacket.value() {
        SubpacketValue::SignatureCreationTime(_)
        | SubpacketValue::SignatureExpirationTime(_)
        | SubpacketValue::Issuer(_)
        | SubpacketValue::IssuerFingerprint(_)
        | SubpacketValue::NotationData(_)
        | SubpacketValue::PolicyURI(_)
        | SubpacketValue::ReasonForRevocation { .. } => true,
        SubpacketValue::ExportableCertification(exportable) => *exportable,
        SubpacketValue::Revocable(revocable) => *revocable,
        _ => false,
    }
}

/// Whether the two octets for quick readers are those of the digest that was verified. They are not
/// signed, and GnuPG refuses a signature where they differ.
fn has_its_prefix(signature: &Signature) -> bool {
    let digest = signature.computed_digest();
    digest.is_some_and(|digest| digest.starts_with(signature.digest_prefix()))
}

/// Whether a signature says to be the owner's, or not whose it is: the name need not be signed, so
/// whoever uploads a key can leave it out. An authority's own signatures always say.
fn is_the_owners(signature: &Signature, key: &Key<PublicParts, PrimaryRole>) -> bool {
    let handle = key.key_handle();
    let issuers = signature.get_issuers();
    issuers.is_empty() || issuers.iter().any(|issuer| issuer.aliases(&handle))
}

fn time_of(signature: &Signature) -> Result<SystemTime, BadAnswer> {
    let time = signature.signature_creation_time();
    time.ok_or_else(|| bad("has a signature without a time".to_owned()))
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn to_bytes(signature: &Signature) -> Result<Vec<u8>, BadAnswer> {
    let bytes = Packet::from(signature.clone()).to_vec();
    bytes.map_err(|error| bad(format!("cannot be written again: {error}")))
}

//------------ Packets -------------------------------------------------------

/// The packets of one key, by what they belong to.
struct Parts {
    primary: Key<PublicParts, PrimaryRole>,
    direct: Vec<Signature>,
    user_ids: Vec<UserIdPart>,
    subkeys: Vec<(Packet, Vec<Signature>)>,
}

/// A user ID with what stands behind it.
struct UserIdPart {
    user_id: UserID,
    signatures: Vec<Signature>,
    /// Those that were in the request; filled by [`Parts::sort_out`].
    own: Vec<Signature>,
    /// Those that were not.
    added: Vec<Signature>,
}

impl UserIdPart {
    fn text(&self) -> Result<String, BadAnswer> {
        let text = String::from_utf8(self.user_id.value().to_vec());
        text.map_err(|_| bad("has a user ID that is not UTF-8".to_owned()))
    }
}

/// More packets than any answer has: its bytes are bounded by the cable.
const PACKETS_MAX: usize = 4096;

impl Parts {
    fn read(bytes: &[u8]) -> Result<Self, BadAnswer> {
        let unreadable = |error| bad(format!("cannot be parsed: {error}"));
        let builder = PacketParserBuilder::from_bytes(bytes).map_err(unreadable)?;
        let mut next = builder.dearmor(Dearmor::Disabled).build().map_err(unreadable)?;
        let mut parts: Option<Self> = None;
        let mut count = 0;
        while let PacketParserResult::Some(parser) = next {
            let (packet, rest) = parser.next().map_err(unreadable)?;
            next = rest;
            count += 1;
            let stranger = packet.tag();
            match (&mut parts, packet) {
                (None, Packet::PublicKey(primary)) => {
                    let (direct, user_ids, subkeys) = (Vec::new(), Vec::new(), Vec::new());
                    parts = Some(Self { primary, direct, user_ids, subkeys });
                }
                (Some(parts), packet) if count <= PACKETS_MAX => parts.push(packet)?,
                _ => return Err(bad(format!("has a packet of type {stranger}"))),
            }
        }
        parts.ok_or_else(|| bad("is empty".to_owned()))
    }

    fn push(&mut self, packet: Packet) -> Result<(), BadAnswer> {
        match packet {
            Packet::UserID(user_id) if self.subkeys.is_empty() => {
                let (signatures, own, added) = (Vec::new(), Vec::new(), Vec::new());
                self.user_ids.push(UserIdPart { user_id, signatures, own, added });
            }
            Packet::Signature(signature) => {
                let of_subkey = self.subkeys.last_mut().map(|subkey| &mut subkey.1);
                let of_user_id = self.user_ids.last_mut().map(|part| &mut part.signatures);
                of_subkey.or(of_user_id).unwrap_or(&mut self.direct).push(signature);
            }
            packet if packet.tag() == Tag::PublicSubkey => self.subkeys.push((packet, Vec::new())),
            other => return Err(bad(format!("has a packet of type {}", other.tag()))),
        }
        Ok(())
    }

    /// Whatever is neither in `asked` nor behind a user ID is refused; what is new behind a user ID is
    /// set apart, to be judged.
    fn sort_out(&mut self, asked: &Self) -> Result<(), BadAnswer> {
        for new in &self.direct {
            if !holds(&asked.direct, new) {
                return Err(bad(format!("has a new signature of the key: {}", new.typ())));
            }
        }
        for (subkey, signatures) in &self.subkeys {
            let known = || asked.subkeys.iter().filter(|one| one.0 == *subkey);
            if known().next().is_none() {
                return Err(bad("has a subkey that was not asked about".to_owned()));
            }
            if !signatures.iter().all(|new| known().any(|one| holds(&one.1, new))) {
                return Err(bad("has a new signature of a subkey".to_owned()));
            }
        }
        for part in &mut self.user_ids {
            let user_id = &part.user_id;
            let known = || asked.user_ids.iter().filter(|one| one.user_id == *user_id);
            if known().next().is_none() {
                let text = part.text()?;
                return Err(bad(format!("has user ID `{text}`, which is not in the key")));
            }
            let (own, added) = part
                .signatures
                .iter()
                .cloned()
                .partition(|new| known().any(|one| holds(&one.signatures, new)));
            (part.own, part.added) = (own, added);
        }
        Ok(())
    }
}

/// Whether `signature` is among `known`. A library may note the issuer of an old one in the part
/// that is not signed; nothing else may differ there.
fn holds(known: &[Signature], signature: &Signature) -> bool {
    known.iter().any(|one| {
        one == signature
            || one.normalized_eq(signature)
                && signature.unhashed_area().iter().all(|added| {
                    matches!(
                        added.value(),
                        SubpacketValue::Issuer(_) | SubpacketValue::IssuerFingerprint(_)
                    ) || one.unhashed_area().iter().any(|old| old == added)
                })
    })
}

fn bad(text: String) -> BadAnswer {
    BadAnswer::OpenPgp(text)
}

//! One OpenPGP certificate (RFC 9580 10.1, a "transferable public key") becomes a
//! [`VettedOpenPgp`].
//!
//! What leaves is plain: the primary key's own packet, the approved user IDs, and the pieces of a
//! minimal certificate that can be joined by concatenation. Nothing here reads the clock: the
//! caller says what time it is. No certification is made here. Whatever the bytes are, no more is
//! parsed, kept or verified than [`Limits`] says. Every control has its id in a comment, an accept
//! test and a reject test.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::{
    bounded::{Bytes, List, Text},
    message::{ApprovedUserId, CERTIFICATE_MAX, OPENPGP_KEY_MAX, RefusalCode, USER_IDS_MAX},
    user_id::{self, SelectFault},
};
use sequoia_openpgp::{
    Cert, Packet,
    packet::{
        Key,
        key::{PrimaryRole, PublicParts},
    },
    parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse},
    policy::StandardPolicy,
    serialize::SerializeInto,
    types::HashAlgorithm,
};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

pub mod kind;
pub(crate) mod packets;
mod parts;

use kind::KeyKind;
use packets::{Raw, tag};
use parts::{Checks, Kept};

/// The packet of a primary key; of RSA-16384 it has 2,066 bytes.
pub const PRIMARY_MAX: usize = 4096;

const _: () = assert!(PRIMARY_MAX < OPENPGP_KEY_MAX);

/// What one vetting may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the key.
    pub bytes: usize,
    /// Packets of the key. Those with tens of thousands exist only to hurt their readers.
    pub packets: usize,
    /// Signatures of the owner that are verified. Each part needs one, and one for each
    /// revocation; on the slowest curve, 192 take half a second.
    pub checks: usize,
}

impl Limits {
    /// For what comes over the cable.
    pub const WIRE: Self = Self { bytes: OPENPGP_KEY_MAX, packets: 4096, checks: 192 };
}

/// A key whose owner certified each of these user IDs. Only [`vet`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VettedOpenPgp {
    fingerprint: Text<64>,
    primary: Bytes<PRIMARY_MAX>,
    user_ids: List<Text<256>, USER_IDS_MAX>,
    key_expires: Option<i64>,
    can_encrypt: bool,
    minimal: Minimal,
}

impl VettedOpenPgp {
    /// The primary key's fingerprint, upper-case hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The Public-Key packet of the primary key, with its header, in the form that this program
    /// writes itself.
    pub fn primary(&self) -> &[u8] {
        &self.primary
    }

    /// The user IDs that were approved and are valid, in the order of the request and the bytes
    /// of the key.
    pub fn user_ids(&self) -> &[Text<256>] {
        &self.user_ids
    }

    /// When the key expires, in seconds since 1970-01-01 UTC.
    pub fn key_expires(&self) -> Option<i64> {
        self.key_expires
    }

    /// Whether it has a valid part that can be encrypted to.
    pub fn can_encrypt(&self) -> bool {
        self.can_encrypt
    }

    /// The certificate without anything that nobody asked for.
    pub fn minimal(&self) -> &Minimal {
        &self.minimal
    }
}

/// A certificate in pieces, so that signatures can be put in without parsing it again. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minimal {
    head: Bytes<OPENPGP_KEY_MAX>,
    user_ids: List<Bytes<OPENPGP_KEY_MAX>, USER_IDS_MAX>,
    tail: Bytes<OPENPGP_KEY_MAX>,
}

impl Minimal {
    /// The primary key with its direct-key signature.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Each user ID with its self-signature.
    pub fn user_ids(&self) -> &[Bytes<OPENPGP_KEY_MAX>] {
        &self.user_ids
    }

    /// The subkeys with their bindings and revocations.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// How long it is.
    pub fn length(&self) -> usize {
        let user_ids: usize = self.user_ids.iter().map(|user_id| user_id.len()).sum();
        self.head.len() + user_ids + self.tail.len()
    }
}

/// Vets `key` and chooses the user IDs that were `asked` for, as of `now`.
pub fn vet(
    key: &[u8],
    asked: &[ApprovedUserId],
    now: SystemTime,
    limits: &Limits,
) -> Result<VettedOpenPgp, Refusal> {
    let packets = read(key, limits)?;
    let primary = primary(packets[0], now)?;
    let parts = parts::group(&packets);
    let chosen = choose(&parts, asked)?;

    let mut checks = Checks::new(&primary, now, limits.checks);
    let kept = Kept::of(&parts, &chosen, &mut checks)?;
    let parsed = |packets: Vec<Packet>| {
        Cert::from_packets(packets.into_iter())
            .map_err(|error| malformed(format!("it cannot be parsed: {error}")))
    };
    let policy = policy(now);
    let mut cert = parsed(kept.packets(&primary, true))?;
    let mut facts = check_certificate(&cert, &kept, &policy, now)?;
    if kept.has_others() {
        // What leaves is a key of its own: its readers see no other user ID.
        cert = parsed(kept.packets(&primary, false))?;
        facts = facts.and(check_certificate(&cert, &kept, &policy, now)?);
    }

    let user_ids = kept.asked.iter().map(|part| {
        let text = std::str::from_utf8(part.user_id.value()).map_err(|_| no_text())?;
        Text::try_from(text).map_err(too_long)
    });
    let user_ids: Vec<_> = user_ids.collect::<Result<_, _>>()?;
    let primary = packet_bytes(primary.into())?;
    let vetted = VettedOpenPgp {
        fingerprint: Text::truncated(&cert.fingerprint().to_hex()),
        minimal: minimal(&primary, &kept, &cert, &policy, now)?,
        primary: primary.try_into().map_err(too_long)?,
        user_ids: user_ids.try_into().map_err(too_long)?,
        key_expires: facts.expires,
        can_encrypt: facts.can_encrypt,
    };
    // `openpgp-size`
    match vetted.minimal.length() {
        0..=CERTIFICATE_MAX => Ok(vetted),
        length => Err(malformed(format!(
            "what is needed of it has {length} bytes, at most {CERTIFICATE_MAX} fit an answer; \
             name fewer user IDs"
        ))),
    }
}

//------------ Structure -----------------------------------------------------

/// `openpgp-binary`, `openpgp-public`, `openpgp-one`: the packets of one certificate, none of
/// them secret, the primary key first.
fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Vec<Raw<'a>>, Refusal> {
    if bytes.len() > limits.bytes {
        return Err(malformed(format!("{} bytes, at most {}", bytes.len(), limits.bytes)));
    }
    if bytes.starts_with(b"-----BEGIN PGP PRIVATE") {
        return Err(secret());
    }
    // RFC 9580 4.2: the first bit of every packet is 1.
    if bytes.first().is_none_or(|first| first & 0x80 == 0) {
        return Err(malformed("it is not binary OpenPGP; if it is armoured, send what is inside"));
    }
    let packets = packets::split(bytes, limits.packets)?;
    if packets.iter().any(|raw| matches!(raw.tag, tag::SECRET_KEY | tag::SECRET_SUBKEY)) {
        return Err(secret());
    }
    for (at, raw) in packets.iter().enumerate() {
        match raw.tag {
            tag::PUBLIC_KEY if at == 0 => {}
            tag::PUBLIC_KEY => {
                let text = "there is more than one key; export exactly one";
                return Err(refuse(RefusalCode::OpenPgpSeveral, text));
            }
            _ if at == 0 => return Err(malformed("it does not begin with a public key")),
            tag::SIGNATURE
            | tag::USER_ID
            | tag::USER_ATTRIBUTE
            | tag::PUBLIC_SUBKEY
            | tag::TRUST
            | tag::MARKER
            | tag::PADDING => {}
            other => {
                return Err(malformed(format!("a packet of type {other} does not belong there")));
            }
        }
    }
    Ok(packets)
}

/// The only packet in `bytes`.
pub(crate) fn one_packet(bytes: &[u8]) -> Option<Packet> {
    let builder = PacketParserBuilder::from_bytes(bytes).ok()?.dearmor(Dearmor::Disabled);
    let PacketParserResult::Some(parser) = builder.build().ok()? else { return None };
    let (packet, rest) = parser.next().ok()?;
    matches!(rest, PacketParserResult::EOF(_)).then_some(packet)
}

/// `openpgp-version`, `openpgp-not-yet`, and what [`KeyKind::of`] refuses.
fn primary(raw: Raw<'_>, now: SystemTime) -> Result<Key<PublicParts, PrimaryRole>, Refusal> {
    match raw.body.first() {
        Some(4 | 6) => {}
        Some(version) => {
            let text = format!("its version is {version}; 4 and 6 are accepted; make a new key");
            return Err(refuse(RefusalCode::OpenPgpVersion, text));
        }
        None => return Err(malformed("its primary key is empty")),
    }
    if raw.whole.len() > PRIMARY_MAX {
        return Err(malformed(format!("its primary key has {} bytes", raw.whole.len())));
    }
    let Some(Packet::PublicKey(key)) = one_packet(raw.whole) else {
        return Err(malformed("its primary key cannot be parsed"));
    };
    KeyKind::of(&key)?;
    if key.creation_time() > now {
        let text = format!(
            "it was made at {} and the signer's clock says {} (seconds since 1970); compare the \
             clocks",
            unix_seconds(key.creation_time()),
            unix_seconds(now)
        );
        return Err(refuse(RefusalCode::OpenPgpKey, text));
    }
    Ok(key)
}

//------------ User IDs ------------------------------------------------------

/// `openpgp-user-id-form`, `openpgp-user-id`: which of the parts were asked for, in their order.
fn choose(parts: &parts::Parts<'_>, asked: &[ApprovedUserId]) -> Result<Vec<usize>, Refusal> {
    let held: Vec<&[u8]> = parts.user_ids.iter().map(|part| part.raw.body).collect();
    user_id::select(asked, &held).map_err(|fault| select_refusal(&fault))
}

/// The refusal of user IDs that cannot be chosen.
pub(crate) fn select_refusal(fault: &SelectFault) -> Refusal {
    let code = match fault.is_form() {
        true => RefusalCode::OpenPgpUserIdForm,
        false => RefusalCode::OpenPgpUserId,
    };
    Refusal::new(code, format!("the user IDs: {fault}"))
}

//------------ The certificate as a whole ------------------------------------

/// `openpgp-digest`: sequoia's standard policy as of `now`; old digests count for nothing, also
/// where it would still take them.
pub(crate) fn policy(now: SystemTime) -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::at(now);
    for old in OLD_DIGESTS {
        policy.reject_hash(old);
    }
    policy
}

const OLD_DIGESTS: [HashAlgorithm; 3] =
    [HashAlgorithm::MD5, HashAlgorithm::SHA1, HashAlgorithm::RipeMD];

/// What the self-signatures say.
struct Facts {
    expires: Option<i64>,
    can_encrypt: bool,
}

impl Facts {
    /// What both say.
    fn and(self, other: Self) -> Self {
        Self {
            expires: [self.expires, other.expires].into_iter().flatten().min(),
            can_encrypt: self.can_encrypt && other.can_encrypt,
        }
    }
}

fn check_certificate(
    cert: &Cert,
    kept: &Kept,
    policy: &StandardPolicy<'_>,
    now: SystemTime,
) -> Result<Facts, Refusal> {
    let valid = cert.with_policy(policy, now).map_err(|error| match kept.old_digest {
        true => {
            let text = "its self-signatures use SHA-1 or older, which count for nothing";
            refuse(RefusalCode::OpenPgpDigest, text)
        }
        false => {
            let text = format!("it has no valid self-signature: {error}");
            refuse(RefusalCode::OpenPgpSelfSignature, text)
        }
    })?;
    // `openpgp-expired`
    if let Err(error) = valid.alive() {
        return Err(expired_or_not_yet(&error));
    }
    // `openpgp-cannot-certify`: without key flags a primary key can do everything (RFC 9580
    // 5.2.3.29).
    if valid.primary_key().key_flags().is_some_and(|flags| !flags.for_certification()) {
        let text = "its primary key may not certify, so it cannot hold user IDs";
        return Err(refuse(RefusalCode::OpenPgpCannotCertify, text));
    }
    // The first end that anything says: readers differ in which self-signature they believe.
    let primary = cert.primary_key().key().clone();
    let own =
        kept.asked.iter().filter_map(|part| part.self_signature.key_expiration_time(&primary));
    let expires = own.chain(valid.primary_key().key_expiration_time()).min();
    if expires.is_some_and(|expires| expires <= now) {
        return Err(refuse(RefusalCode::OpenPgpExpired, "it has expired"));
    }
    let can_encrypt = valid.keys().alive().revoked(false).any(|key| match key.key_flags() {
        Some(flags) => flags.for_transport_encryption() || flags.for_storage_encryption(),
        None => key.key().pk_algo().for_encryption(),
    });
    Ok(Facts { expires: expires.map(unix_seconds), can_encrypt })
}

fn expired_or_not_yet(error: &anyhow::Error) -> Refusal {
    use sequoia_openpgp::Error;

    match error.downcast_ref::<Error>() {
        Some(Error::Expired(at)) => refuse(
            RefusalCode::OpenPgpExpired,
            format!("it expired at {} (seconds since 1970)", unix_seconds(*at)),
        ),
        _ => refuse(RefusalCode::OpenPgpKey, format!("it is not valid now: {error}")),
    }
}

//------------ What leaves ---------------------------------------------------

/// The newest valid self-signature of each part that was asked for, and every subkey with its
/// binding; third-party signatures, photos and other user IDs stay behind.
fn minimal(
    primary: &[u8],
    kept: &Kept,
    cert: &Cert,
    policy: &StandardPolicy<'_>,
    now: SystemTime,
) -> Result<Minimal, Refusal> {
    let mut head = primary.to_vec();
    if let Some(direct) = &kept.direct {
        head.extend(packet_bytes(direct.clone().into())?);
    }
    let mut user_ids: Vec<Bytes<OPENPGP_KEY_MAX>> = Vec::new();
    for part in &kept.asked {
        let mut bytes = packet_bytes(part.user_id.clone().into())?;
        bytes.extend(packet_bytes(part.self_signature.clone().into())?);
        user_ids.push(bytes.try_into().map_err(too_long)?);
    }
    let mut tail = Vec::new();
    for subkey in cert.keys().subkeys() {
        let Ok(binding) = subkey.binding_signature(policy, now) else { continue };
        tail.extend(packet_bytes(subkey.key().clone().into())?);
        // A revocation goes along: those who have the subkey must learn of it.
        if let Some(revocation) = subkey.self_revocations().next() {
            tail.extend(packet_bytes(revocation.clone().into())?);
        }
        tail.extend(packet_bytes(binding.clone().into())?);
    }
    Ok(Minimal {
        head: head.try_into().map_err(too_long)?,
        user_ids: user_ids.try_into().map_err(too_long)?,
        tail: tail.try_into().map_err(too_long)?,
    })
}

fn packet_bytes(packet: Packet) -> Result<Vec<u8>, Refusal> {
    packet.to_vec().map_err(|error| malformed(format!("a packet cannot be written again: {error}")))
}

/// Seconds since 1970-01-01 UTC; OpenPGP's own times are 32 bits, unsigned.
fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

//------------ Refusals ------------------------------------------------------

/// A refusal of the key by `code`.
pub(crate) fn refuse(code: RefusalCode, text: impl AsRef<str>) -> Refusal {
    Refusal::new(code, format!("the OpenPGP key: {}", text.as_ref()))
}

fn malformed(text: impl AsRef<str>) -> Refusal {
    refuse(RefusalCode::OpenPgpMalformed, text)
}

fn too_long(error: impl std::fmt::Display) -> Refusal {
    malformed(error.to_string())
}

fn no_text() -> Refusal {
    malformed("a user ID is not UTF-8")
}

fn secret() -> Refusal {
    Refusal::new(
        RefusalCode::OpenPgpSecret,
        "the upload holds secret key material; it was thrown away, but it travelled: revoke this \
         key, make a new one, and export the public key only",
    )
}

#[cfg(test)]
mod tests;

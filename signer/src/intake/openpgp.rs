//! One OpenPGP certificate (RFC 9580 10.1, a "transferable public key") becomes a
//! [`VettedOpenPgp`].
//!
//! What leaves is plain: the primary key's own packet, the approved user IDs, and the pieces of a
//! minimal certificate that can be joined by concatenation. Nothing here reads the clock: the
//! caller says what time it is. No certification is made here. Every control has its id in a
//! comment, an accept test and a reject test.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use openssl::bn::BigNum;
use protocol::{
    bounded::{Bytes, List, Text},
    message::{CERTIFICATE_MAX, NAMES_MAX, OPENPGP_KEY_MAX, RefusalCode},
};
use sequoia_openpgp::{
    Cert, Packet,
    cert::ValidCert,
    crypto::mpi,
    packet::{
        Key, Signature, Tag, UserID,
        key::{PrimaryRole, PublicParts},
    },
    parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse},
    policy::StandardPolicy,
    serialize::SerializeInto,
    types::{Curve, HashAlgorithm},
};
use serde::{Deserialize, Serialize};

use crate::{
    intake::{key, text},
    refusal::Refusal,
};

/// The packet of a primary key; of RSA-16384 it has 2,066 bytes.
pub const PRIMARY_MAX: usize = 4096;
/// One certification by our own key; by RSA-4096 with the longest terms it has 978 bytes, by
/// Ed25519 without any 190.
pub const CERTIFICATION_MAX: usize = 1024;
/// Packets of one certificate. Those with tens of thousands exist only to hurt their readers.
const PACKETS_MAX: usize = 2048;

const _: () = assert!(PRIMARY_MAX < OPENPGP_KEY_MAX);

/// A key whose owner certified each of these user IDs. Only [`vet`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VettedOpenPgp {
    fingerprint: Text<64>,
    primary: Bytes<PRIMARY_MAX>,
    user_ids: List<Text<256>, NAMES_MAX>,
    key_expires: Option<i64>,
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

    /// The user IDs that were asked for and are valid, in the order of the request.
    pub fn user_ids(&self) -> &[Text<256>] {
        &self.user_ids
    }

    /// When the key expires, in seconds since 1970-01-01 UTC.
    pub fn key_expires(&self) -> Option<i64> {
        self.key_expires
    }

    /// The certificate without anything that nobody asked for.
    pub fn minimal(&self) -> &Minimal {
        &self.minimal
    }
}

/// A certificate in pieces, so that certifications can be put in without parsing it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minimal {
    head: Bytes<OPENPGP_KEY_MAX>,
    user_ids: List<Bytes<OPENPGP_KEY_MAX>, NAMES_MAX>,
    tail: Bytes<OPENPGP_KEY_MAX>,
}

impl Minimal {
    /// The certificate with `certifications[n]`, whole signature packets, after the `n`th user
    /// ID and its self-signature. This is concatenation; it looks into nothing.
    pub fn with_certifications(&self, certifications: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let mut bytes = self.head.to_vec();
        for (index, user_id) in self.user_ids.iter().enumerate() {
            bytes.extend_from_slice(user_id);
            bytes
                .extend_from_slice(certifications.get(index).map_or(&[], |packet| packet.as_ref()));
        }
        bytes.extend_from_slice(&self.tail);
        bytes
    }

    /// `openpgp-size`: the answer, with our certifications of so many user IDs, fits the cable.
    pub(crate) fn fits(&self, user_ids: usize) -> bool {
        let certified = self.user_ids.iter().map(|user_id| user_id.len() + CERTIFICATION_MAX);
        self.user_ids.len() == user_ids
            && self.head.len() + certified.sum::<usize>() + self.tail.len() <= CERTIFICATE_MAX
    }
}

/// Vets `key` and the user IDs that were asked for, as of `now`.
pub fn vet(
    key: &[u8],
    user_ids: &[impl AsRef<str>],
    now: SystemTime,
) -> Result<VettedOpenPgp, Refusal> {
    let cert = read(key)?;
    check_primary(cert.primary_key().key(), now)?;
    let policy = policy(now);
    let valid = check_certificate(&cert, &policy, now)?;
    let asked = check_asked(user_ids)?;

    let mut kept = Vec::new();
    for user_id in asked.iter() {
        kept.push(user_id_with_self_signature(&cert, &policy, now, user_id)?);
    }
    let primary = packet_bytes(cert.primary_key().key().clone().into())?;
    let minimal = minimal(&primary, kept, &valid)?;
    if !minimal.fits(asked.len()) {
        return Err(bad_user_id("too many in one request for a key of this size; name fewer"));
    }
    Ok(VettedOpenPgp {
        fingerprint: Text::truncated(&cert.fingerprint().to_hex()),
        primary: primary.try_into().map_err(too_long)?,
        user_ids: asked,
        key_expires: valid.primary_key().key_expiration_time().map(unix_seconds),
        minimal,
    })
}

//------------ Structure -----------------------------------------------------

/// `openpgp-binary`, `openpgp-one`, `openpgp-public`: the packets of one certificate, none of
/// them secret.
fn read(bytes: &[u8]) -> Result<Cert, Refusal> {
    if bytes.len() > OPENPGP_KEY_MAX {
        return Err(malformed(format!("{} bytes, at most {OPENPGP_KEY_MAX}", bytes.len())));
    }
    if bytes.starts_with(b"-----BEGIN PGP PRIVATE") {
        return Err(secret());
    }
    // RFC 9580 4.2: the first bit of every packet is 1.
    if bytes.first().is_none_or(|first| first & 0x80 == 0) {
        return Err(malformed("it is not binary OpenPGP; if it is armoured, send what is inside"));
    }
    let mut packets = Vec::new();
    let unreadable = |error| malformed(format!("it cannot be parsed: {error}"));
    let builder = PacketParserBuilder::from_bytes(bytes).map_err(unreadable)?;
    let mut next = builder.dearmor(Dearmor::Disabled).build().map_err(unreadable)?;
    while let PacketParserResult::Some(parser) = next {
        let (packet, rest) = parser.next().map_err(unreadable)?;
        match packet.tag() {
            Tag::SecretKey | Tag::SecretSubkey => return Err(secret()),
            Tag::PublicKey if packets.is_empty() => {}
            Tag::PublicKey => return Err(malformed("it holds more than one key")),
            Tag::Signature | Tag::UserID | Tag::UserAttribute | Tag::PublicSubkey | Tag::Trust
                if !packets.is_empty() => {}
            Tag::Marker | Tag::Padding => {
                next = rest;
                continue;
            }
            other => {
                return Err(malformed(format!("a packet of type {other} does not belong there")));
            }
        }
        if packets.len() == PACKETS_MAX {
            return Err(malformed(format!(
                "more than {PACKETS_MAX} packets; send a minimal export"
            )));
        }
        packets.push(packet);
        next = rest;
    }
    // `openpgp-version`: older keys are not understood, so they come as unknown packets.
    if let Some(Packet::Unknown(_)) = packets.first() {
        return Err(bad_key("its version is none of 4 and 6; make a new key"));
    }
    Cert::from_packets(packets.into_iter()).map_err(unreadable)
}

//------------ The primary key -----------------------------------------------

/// `openpgp-algorithm`: RSA of 2048 bits or more, Ed25519, or ECDSA on NIST's and Brainpool's
/// curves.
pub(crate) fn check_algorithm(key: &Key<PublicParts, PrimaryRole>) -> Result<(), Refusal> {
    use Curve::{BrainpoolP256, BrainpoolP384, BrainpoolP512, NistP256, NistP384, NistP521};

    if !matches!(key.version(), 4 | 6) {
        return Err(bad_key(format!("its version is {}; 4 and 6 are accepted", key.version())));
    }
    match key.mpis() {
        mpi::PublicKey::RSA { n, .. } => {
            let bits = u32::try_from(n.bits()).unwrap_or(u32::MAX);
            if !(key::RSA_BITS_MIN..=key::RSA_BITS_MAX).contains(&bits) {
                return Err(bad_key(format!(
                    "RSA of {bits} bits; {} to {} are accepted",
                    key::RSA_BITS_MIN,
                    key::RSA_BITS_MAX
                )));
            }
            let flaw = BigNum::from_slice(n.value()).and_then(|n| key::modulus_flaw(&n));
            match flaw.map_err(|error| bad_key(format!("it could not be checked: {error}")))? {
                Some(flaw) => Err(bad_key(flaw)),
                None => Ok(()),
            }
        }
        mpi::PublicKey::EdDSA { curve: Curve::Ed25519, .. } | mpi::PublicKey::Ed25519 { .. } => {
            Ok(())
        }
        mpi::PublicKey::ECDSA {
            curve: NistP256 | NistP384 | NistP521 | BrainpoolP256 | BrainpoolP384 | BrainpoolP512,
            ..
        } => Ok(()),
        _ => Err(bad_key(format!(
            "its algorithm is {}; RSA, Ed25519, and ECDSA on NIST's or Brainpool's curves are \
             accepted",
            key.pk_algo()
        ))),
    }
}

fn check_primary(key: &Key<PublicParts, PrimaryRole>, now: SystemTime) -> Result<(), Refusal> {
    check_algorithm(key)?;
    // `openpgp-not-yet`
    if key.creation_time() > now {
        return Err(bad_key(format!(
            "it was made at {} and the signer's clock says {} (seconds since 1970); compare the \
             clocks",
            unix_seconds(key.creation_time()),
            unix_seconds(now)
        )));
    }
    Ok(())
}

/// `openpgp-sha1`: sequoia's standard policy as of `now`; old digests count for nothing, also
/// where it would still take them.
pub(crate) fn policy(now: SystemTime) -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::at(now);
    for old in [HashAlgorithm::MD5, HashAlgorithm::SHA1, HashAlgorithm::RipeMD] {
        policy.reject_hash(old);
    }
    policy
}

fn check_certificate<'a>(
    cert: &'a Cert,
    policy: &'a StandardPolicy<'a>,
    now: SystemTime,
) -> Result<ValidCert<'a>, Refusal> {
    // `openpgp-revoked`: whatever its reason, date and digest, as long as it is the owner's.
    if cert.primary_key().self_revocations().next().is_some() {
        return Err(bad_key("it is revoked"));
    }
    let valid = cert.with_policy(policy, now).map_err(|error| {
        bad_key(format!("it has no valid self-signature (SHA-1 does not count): {error}"))
    })?;
    // `openpgp-expired`
    if let Err(error) = valid.alive() {
        return Err(bad_key(format!("it is not valid now: {error}")));
    }
    // `openpgp-certifies`: without key flags a primary key can do everything (RFC 9580 5.2.3.29).
    if valid.primary_key().key_flags().is_some_and(|flags| !flags.for_certification()) {
        return Err(bad_key("its primary key may not certify, so it cannot hold user IDs"));
    }
    Ok(valid)
}

//------------ User IDs ------------------------------------------------------

/// `openpgp-asked`: at least one, each once, in characters that a person can see.
pub(crate) fn check_asked(
    user_ids: &[impl AsRef<str>],
) -> Result<List<Text<256>, NAMES_MAX>, Refusal> {
    if user_ids.is_empty() {
        return Err(bad_user_id("none was asked for"));
    }
    let mut seen = HashSet::new();
    let mut asked = Vec::new();
    for user_id in user_ids {
        let user_id = user_id.as_ref();
        text::check_printable(user_id)
            .map_err(|error| bad_user_id(format!("`{}` {error}", user_id.escape_debug())))?;
        if !seen.insert(user_id) {
            return Err(bad_user_id(format!("`{user_id}` is asked for twice")));
        }
        asked.push(Text::try_from(user_id).map_err(|error| bad_user_id(error.to_string()))?);
    }
    asked.try_into().map_err(|_| bad_user_id(format!("more than {NAMES_MAX} are asked for")))
}

/// `openpgp-user-id`: it is in the key, byte for byte, certified by the owner and not revoked.
fn user_id_with_self_signature(
    cert: &Cert,
    policy: &StandardPolicy<'_>,
    now: SystemTime,
    asked: &str,
) -> Result<Vec<u8>, Refusal> {
    let user_id = cert
        .userids()
        .find(|user_id| user_id.userid().value() == asked.as_bytes())
        .ok_or_else(|| bad_user_id(format!("`{asked}` is not in the key, byte for byte")))?;
    let self_signature = user_id.binding_signature(policy, now).map_err(|error| {
        bad_user_id(format!(
            "`{asked}` has no valid self-signature (SHA-1 does not count): {error}"
        ))
    })?;
    // A later self-signature takes a revocation back; a revocation dated after our own clock
    // counts, because it is our clock that may be wrong.
    let signed = self_signature.signature_creation_time();
    if user_id.self_revocations().any(|revoked| revoked.signature_creation_time() >= signed) {
        return Err(bad_user_id(format!("`{asked}` is revoked")));
    }
    let mut bytes = packet_bytes(UserID::from(asked).into())?;
    bytes.extend(packet_bytes(self_signature.clone().into())?);
    Ok(bytes)
}

//------------ What leaves ---------------------------------------------------

/// The newest valid self-signature of each part, and the subkeys that can be used now.
fn minimal(
    primary: &[u8],
    user_ids: Vec<Vec<u8>>,
    valid: &ValidCert<'_>,
) -> Result<Minimal, Refusal> {
    let mut head = primary.to_vec();
    if let Ok(direct) = valid.direct_key_signature() {
        head.extend(packet_bytes(direct.clone().into())?);
    }
    let mut tail = Vec::new();
    for subkey in valid.keys().subkeys() {
        let revoked = subkey.self_revocations().next().is_some();
        if revoked || subkey.alive().is_err() {
            continue;
        }
        let binding: Signature = subkey.binding_signature().clone();
        tail.extend(packet_bytes(subkey.key().clone().into())?);
        tail.extend(packet_bytes(binding.into())?);
    }
    let user_ids: Result<Vec<_>, _> = user_ids.into_iter().map(Bytes::try_from).collect();
    Ok(Minimal {
        head: head.try_into().map_err(too_long)?,
        user_ids: user_ids.and_then(List::try_from).map_err(too_long)?,
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

fn malformed(text: impl AsRef<str>) -> Refusal {
    Refusal::new(
        RefusalCode::OpenPgpMalformed,
        format!("not one OpenPGP public key: {}", text.as_ref()),
    )
}

fn too_long(error: impl std::fmt::Display) -> Refusal {
    malformed(error.to_string())
}

fn secret() -> Refusal {
    Refusal::new(
        RefusalCode::OpenPgpSecret,
        "the upload holds secret key material; it was thrown away, but it travelled: revoke this \
         key, make a new one, and export the public key only",
    )
}

fn bad_key(text: impl AsRef<str>) -> Refusal {
    Refusal::new(RefusalCode::OpenPgpKey, format!("the OpenPGP key: {}", text.as_ref()))
}

fn bad_user_id(text: impl AsRef<str>) -> Refusal {
    Refusal::new(RefusalCode::OpenPgpUserId, format!("the user IDs: {}", text.as_ref()))
}

#[cfg(test)]
mod tests;

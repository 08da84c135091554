//! Refuses early what the signer's rules for keys would refuse, with the same codes, and trims an
//! upload to what is certified.
//!
//! A convenience: whoever goes around it is judged by the signer anyway. The key is a
//! [`Stripped`] one, so the work is bounded.

use protocol::{
    message::{ApprovedUserId, OPENPGP_KEY_MAX, OpenPgpPolicyEntry, RefusalCode},
    user_id,
};
use sequoia_openpgp::{
    Cert, Packet,
    cert::ValidCert,
    crypto::mpi,
    packet::{
        Key, Signature,
        key::{PrimaryRole, PublicParts},
    },
    policy::StandardPolicy,
    serialize::Serialize,
    types::{Curve, HashAlgorithm, PublicKeyAlgorithm},
};

use super::{strip::Stripped, system_time};
use crate::refusal::Refusal;

/// A key with nothing in it but what the signer needs.
#[derive(Clone, Debug)]
pub struct TrimmedKey {
    bytes: Vec<u8>,
}

impl TrimmedKey {
    /// The transferable public key, binary.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Checks `key` as of `unix_us` by `policy`, if one is known, and keeps its primary key, the
/// `asked` user IDs and the subkeys, each with its own signatures.
pub fn trim(
    key: &Stripped,
    asked: &[ApprovedUserId],
    policy: Option<&OpenPgpPolicyEntry>,
    from: &str,
    unix_us: i64,
) -> Result<TrimmedKey, Refusal> {
    let cert = key.cert();
    check_primary(cert.primary_key().key(), policy, from)?;
    let standard = strict_policy(unix_us);
    let valid = check_certificate(cert, &standard, policy, from, unix_us)?;
    let chosen = chosen(cert, &valid, asked, from)?;
    let is_kept = |value: &[u8]| chosen.iter().any(|one| one[..] == *value);
    let bytes = serialize(cert, is_kept)
        .map_err(|error| refuse(RefusalCode::OpenPgpMalformed, from, error.to_string()))?;
    if bytes.len() > OPENPGP_KEY_MAX {
        let fact = format!(
            "it has {} bytes without foreign signatures, at most {OPENPGP_KEY_MAX} fit",
            bytes.len()
        );
        return Err(refuse(RefusalCode::OpenPgpMalformed, from, fact));
    }
    Ok(TrimmedKey { bytes })
}

//------------ The primary key -----------------------------------------------

/// The policy's word for this kind of key; nothing for kinds that nobody takes.
fn kind(key: &Key<PublicParts, PrimaryRole>) -> Option<&'static str> {
    let of_curve = |curve: &Curve| match curve {
        Curve::NistP256 => Some("nistp256"),
        Curve::NistP384 => Some("nistp384"),
        Curve::NistP521 => Some("nistp521"),
        Curve::BrainpoolP256 => Some("brainpoolp256"),
        Curve::BrainpoolP384 => Some("brainpoolp384"),
        Curve::BrainpoolP512 => Some("brainpoolp512"),
        _ => None,
    };
    match key.mpis() {
        mpi::PublicKey::RSA { .. } => Some("rsa"),
        mpi::PublicKey::EdDSA { curve: Curve::Ed25519, .. } | mpi::PublicKey::Ed25519 { .. } => {
            Some("ed25519")
        }
        mpi::PublicKey::Ed448 { .. } => Some("ed448"),
        mpi::PublicKey::ECDSA { curve, .. } => of_curve(curve),
        _ => None,
    }
}

fn check_primary(
    key: &Key<PublicParts, PrimaryRole>,
    policy: Option<&OpenPgpPolicyEntry>,
    from: &str,
) -> Result<(), Refusal> {
    if !matches!(key.version(), 4 | 6) {
        let fact = format!("its version is {}", key.version());
        return Err(refuse(RefusalCode::OpenPgpVersion, from, fact));
    }
    #[expect(deprecated, reason = "they are named to be refused")]
    let old = matches!(
        key.pk_algo(),
        PublicKeyAlgorithm::DSA
            | PublicKeyAlgorithm::ElGamalEncrypt
            | PublicKeyAlgorithm::ElGamalEncryptSign
    );
    if old {
        let fact = format!("its algorithm is {}", key.pk_algo());
        return Err(refuse(RefusalCode::OpenPgpAlgorithm, from, fact));
    }
    if let mpi::PublicKey::RSA { n, .. } = key.mpis() {
        let least = policy.map_or(RSA_BITS_MIN, |policy| usize::from(policy.rsa_bits_min));
        if n.bits() < least {
            let fact = format!("RSA of {} bits, at least {least} are needed", n.bits());
            return Err(refuse(RefusalCode::OpenPgpKeySize, from, fact));
        }
    }
    let Some(kind) = kind(key) else {
        let fact = format!("it is a key of a kind that nobody takes: {}", key.pk_algo());
        return Err(refuse(RefusalCode::OpenPgpKeyKind, from, fact));
    };
    match policy {
        Some(policy) if !policy.key_kinds.iter().any(|taken| **taken == *kind) => {
            let taken: Vec<&str> = policy.key_kinds.iter().map(|kind| &**kind).collect();
            let (name, taken) = (&policy.name, taken.join(" "));
            let fact = format!("it is a key of kind {kind}, policy `{name}` takes {taken}");
            Err(refuse(RefusalCode::OpenPgpKeyKind, from, fact))
        }
        _ => Ok(()),
    }
}

/// What no signer takes less of.
const RSA_BITS_MIN: usize = 2048;

/// Sequoia's standard policy as of then; old digests count for nothing, also where it would still
/// take them.
fn strict_policy(unix_us: i64) -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::at(system_time(unix_us));
    OLD_DIGESTS.into_iter().for_each(|old| policy.reject_hash(old));
    policy
}

const OLD_DIGESTS: [HashAlgorithm; 3] =
    [HashAlgorithm::MD5, HashAlgorithm::SHA1, HashAlgorithm::RipeMD];

//------------ The whole key -------------------------------------------------

fn check_certificate<'c>(
    cert: &'c Cert,
    standard: &'c StandardPolicy<'_>,
    policy: Option<&OpenPgpPolicyEntry>,
    from: &str,
    unix_us: i64,
) -> Result<ValidCert<'c>, Refusal> {
    let now = system_time(unix_us);
    if cert.primary_key().self_revocations().next().is_some() {
        return Err(refuse(RefusalCode::OpenPgpRevoked, from, "it is revoked"));
    }
    if cert.primary_key().key().creation_time() > now {
        let fact = "it was made after the time of this machine; compare the clocks";
        return Err(refuse(RefusalCode::OpenPgpKey, from, fact));
    }
    let valid =
        cert.with_policy(standard, now).map_err(|error| match has_old_digests_only(cert) {
            true => {
                let fact = "its self-signatures are made with SHA-1 or older";
                refuse(RefusalCode::OpenPgpDigest, from, fact)
            }
            false => {
                let fact = format!("it has no valid self-signature: {error}");
                refuse(RefusalCode::OpenPgpSelfSignature, from, fact)
            }
        })?;
    if valid.primary_key().key_expiration_time().is_some_and(|expires| expires <= now) {
        return Err(refuse(RefusalCode::OpenPgpExpired, from, "it has expired"));
    }
    valid.alive().map_err(|error| {
        refuse(RefusalCode::OpenPgpKey, from, format!("it is not valid now: {error}"))
    })?;
    // Without key flags a primary key can do everything (RFC 9580 5.2.3.29).
    if valid.primary_key().key_flags().is_some_and(|flags| !flags.for_certification()) {
        let fact = "its primary key may not certify";
        return Err(refuse(RefusalCode::OpenPgpCannotCertify, from, fact));
    }
    if policy.is_some_and(|policy| policy.needs_encryption) {
        let keys = valid.keys().alive().revoked(false);
        if keys.for_transport_encryption().for_storage_encryption().next().is_none() {
            let fact = "nothing in it can be encrypted to";
            return Err(refuse(RefusalCode::OpenPgpNoEncryption, from, fact));
        }
    }
    Ok(valid)
}

/// Whether the owner signed something, and all of it with digests that count for nothing.
fn has_old_digests_only(cert: &Cert) -> bool {
    let primary = cert.primary_key();
    let of_user_ids = cert.userids().flat_map(|user_id| user_id.self_signatures());
    let mut signatures = primary.self_signatures().chain(of_user_ids).peekable();
    signatures.peek().is_some() && signatures.all(|one| OLD_DIGESTS.contains(&one.hash_algo()))
}

//------------ User IDs ------------------------------------------------------

/// The user IDs of the key that were asked for, byte for byte.
fn chosen(
    cert: &Cert,
    valid: &ValidCert<'_>,
    asked: &[ApprovedUserId],
    from: &str,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let held: Vec<&[u8]> = cert.userids().map(|user_id| user_id.userid().value()).collect();
    let listed = || {
        let shown = held.iter().take(LISTED_MAX).map(|value| String::from_utf8_lossy(value));
        let shown: Vec<String> = shown.map(|text| format!("`{}`", text.escape_debug())).collect();
        match (shown.is_empty(), held.len().saturating_sub(LISTED_MAX)) {
            (true, _) => "it has none".to_owned(),
            (false, 0) => format!("it has {}", shown.join(", ")),
            (false, more) => format!("it has {} and {more} more", shown.join(", ")),
        }
    };
    let places = user_id::select(asked, &held).map_err(|fault| {
        let code = match fault.is_form() {
            true => RefusalCode::OpenPgpUserIdForm,
            false => RefusalCode::OpenPgpUserId,
        };
        refuse(code, from, format!("the user IDs: {fault}; {}", listed()))
    })?;
    for place in &places {
        let value = held[*place];
        let shown = String::from_utf8_lossy(value).into_owned();
        let find = |user_id: &&sequoia_openpgp::packet::UserID| user_id.value() == value;
        let bound = valid.userids().find(|one| find(&one.userid()));
        let revoked = cert.userids().find(|one| find(&one.userid())).is_some_and(|one| {
            let signed = bound
                .as_ref()
                .and_then(|bound| bound.binding_signature().signature_creation_time());
            // A later self-signature takes a revocation back.
            one.self_revocations().any(|revoked| revoked.signature_creation_time() >= signed)
        });
        if revoked {
            let fact = format!("user ID `{shown}` is revoked by its owner");
            return Err(refuse(RefusalCode::OpenPgpUserIdRevoked, from, fact));
        }
        if bound.is_none() {
            let user_id = cert.userids().find(|one| find(&one.userid()));
            let mut signed = user_id.into_iter().flat_map(|one| one.self_signatures()).peekable();
            let old =
                signed.peek().is_some() && signed.all(|one| OLD_DIGESTS.contains(&one.hash_algo()));
            let (code, fact) = match old {
                true => (RefusalCode::OpenPgpDigest, "is self-signed with SHA-1 or older only"),
                false => (RefusalCode::OpenPgpSelfSignature, "has no valid self-signature"),
            };
            return Err(refuse(code, from, format!("user ID `{shown}` {fact}")));
        }
    }
    Ok(places.into_iter().map(|place| held[place].to_vec()).collect())
}

/// So many user IDs of a key are named in a sentence.
const LISTED_MAX: usize = 8;

//------------ What travels --------------------------------------------------

fn serialize(cert: &Cert, is_kept: impl Fn(&[u8]) -> bool) -> sequoia_openpgp::Result<Vec<u8>> {
    fn all<'s>(
        bytes: &mut Vec<u8>,
        signatures: impl Iterator<Item = &'s Signature>,
    ) -> sequoia_openpgp::Result<()> {
        for signature in signatures {
            Packet::from(signature.clone()).serialize(bytes)?;
        }
        Ok(())
    }

    let mut bytes = Vec::new();
    let primary = cert.primary_key();
    Packet::from(primary.key().clone()).serialize(&mut bytes)?;
    all(&mut bytes, primary.self_revocations().chain(primary.self_signatures()))?;
    for user_id in cert.userids().filter(|user_id| is_kept(user_id.userid().value())) {
        Packet::from(user_id.userid().clone()).serialize(&mut bytes)?;
        all(&mut bytes, user_id.self_revocations().chain(user_id.self_signatures()))?;
    }
    for subkey in cert.keys().subkeys() {
        Packet::from(subkey.key().clone()).serialize(&mut bytes)?;
        all(&mut bytes, subkey.self_revocations().chain(subkey.self_signatures()))?;
    }
    Ok(bytes)
}

fn refuse(code: RefusalCode, from: &str, fact: impl AsRef<str>) -> Refusal {
    Refusal::new(code, format!("the key in {from}: {}", fact.as_ref()))
}

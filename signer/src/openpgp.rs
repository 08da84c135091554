//! The signer's OpenPGP key: made, stored, loaded, and used to certify user IDs (RFC 9580).
//!
//! This is the vault's side. It reads one Public-Key packet that the intake has written anew, and
//! UTF-8 user IDs; it never reads a certificate from the link. It never reads the clock, and never
//! certifies a user ID that it was not given, nor past the life of the key it certifies.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use protocol::{bounded::Text, message::RefusalCode};
use sequoia_openpgp::{
    Cert, Packet, Profile,
    armor::{Kind, Writer},
    cert::{CertBuilder, CipherSuite},
    crypto::{KeyPair, Password},
    packet::{
        Key, UserID,
        key::{PrimaryRole, PublicParts},
        signature::{SignatureBuilder, subpacket::NotationDataFlags},
    },
    parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse},
    serialize::SerializeInto,
    types::{HashAlgorithm, KeyFlags, SignatureType},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    intake::{
        openpgp::{CERTIFICATION_MAX, VettedOpenPgp, check_algorithm, check_asked},
        text,
    },
    keys::Secret,
    refusal::Refusal,
};

/// The secret key under the signer's directory: binary, mode 0600, encrypted if a passphrase was
/// given.
pub const SECRET_FILE: &str = "openpgp/secret.pgp";
const TERMS_FILE: &str = "openpgp/certification.toml";

/// The kinds of key that the signer can have. All are version 4, so that GnuPG 2.2 reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaAlgorithm {
    /// Ed25519 (EdDSALegacy): small certifications, 120 bytes instead of 570.
    #[default]
    Ed25519,
    /// RSA with 4096 bits, for correspondents with very old software.
    Rsa4096,
}

/// What every certification says beside who, whom and how long: `openpgp/certification.toml`, if
/// the operator wrote one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Whether user IDs are checked with care (0x13, positive), or nothing is said about it
    /// (0x10, generic).
    pub positive: bool,
    /// Where the policy can be read, at most 160 bytes.
    pub policy_uri: Option<String>,
    /// A notation for people to read: `name@domain`, value; together at most 160 bytes.
    pub notation: Option<(String, String)>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { positive: true, policy_uri: None, notation: None }
    }
}

impl Terms {
    fn load(path: &Path) -> Result<Self, Fault> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let refuse =
            |why: String| Fault::Configuration(format!("{} is wrong: {why}", path.display()));
        let terms: Self = toml::from_str(&durable::read_text(path)?)
            .map_err(|error| refuse(error.to_string()))?;
        let notation = terms.notation.as_ref();
        if terms.policy_uri.as_ref().is_some_and(|uri| uri.len() > TERMS_TEXT_MAX)
            || notation.is_some_and(|(name, value)| name.len() + value.len() > TERMS_TEXT_MAX)
        {
            return Err(refuse(format!("a text is longer than {TERMS_TEXT_MAX} bytes")));
        }
        Ok(terms)
    }
}

/// Leaves a certification by RSA-4096 well below [`CERTIFICATION_MAX`].
const TERMS_TEXT_MAX: usize = 160;

/// The signer's key, ready to certify. It cannot be printed.
pub struct CaKey {
    cert: Cert,
    pair: KeyPair,
    terms: Terms,
}

impl std::fmt::Debug for CaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaKey({})", self.cert.fingerprint())
    }
}

/// Makes a certify-only key for `user_id` and stores it under the signer's `directory`, where
/// there must be none. Returns it with its revocation certificate, armoured, to be kept elsewhere.
pub fn create(
    directory: &Path,
    user_id: &str,
    now: UnixTime,
    algorithm: CaAlgorithm,
    passphrase: Option<&Secret>,
) -> Result<(CaKey, String), Fault> {
    let path = directory.join(SECRET_FILE);
    if path.exists() {
        return Err(Fault::Configuration(format!(
            "{} is there already; a signer has one OpenPGP key",
            path.display()
        )));
    }
    text::check_printable(user_id)
        .map_err(|error| Fault::Configuration(format!("the user ID {error}")))?;
    let suite = match algorithm {
        CaAlgorithm::Ed25519 => CipherSuite::Cv25519,
        CaAlgorithm::Rsa4096 => CipherSuite::RSA4k,
    };
    let builder = CertBuilder::new().set_profile(Profile::RFC4880).map_err(internal)?;
    let (cert, revocation) = builder
        .set_cipher_suite(suite)
        .set_creation_time(system_time(now))
        .set_primary_key_flags(KeyFlags::empty().set_certification())
        .add_userid(user_id)
        .set_password(passphrase.map(password))
        .generate()
        .map_err(internal)?;

    let secret = Zeroizing::new(cert.as_tsk().to_vec().map_err(internal)?);
    durable::directory(&directory.join("openpgp"), 0o700)?;
    durable::replace(&path, &secret, 0o600)?;
    let revocation = armour(&Packet::from(revocation).to_vec().map_err(internal)?)?;
    let key = load(directory, passphrase)?;
    let key = key.ok_or_else(|| internal("the key that was stored is not there"))?;
    Ok((key, revocation))
}

/// Loads the key under the signer's `directory`, if there is one.
pub fn load(directory: &Path, passphrase: Option<&Secret>) -> Result<Option<CaKey>, Fault> {
    let path = directory.join(SECRET_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = Zeroizing::new(durable::read(&path)?);
    let cert = Cert::from_bytes(&**bytes).map_err(|error| damaged(&path, &error))?;
    let terms = Terms::load(&directory.join(TERMS_FILE))?;
    CaKey::unlock(cert, terms, passphrase, &path).map(Some)
}

impl CaKey {
    fn unlock(
        cert: Cert,
        terms: Terms,
        passphrase: Option<&Secret>,
        path: &Path,
    ) -> Result<Self, Fault> {
        let key = cert.primary_key().key().clone();
        let mut key = key.parts_into_secret().map_err(|error| damaged(path, &error))?;
        if !key.has_unencrypted_secret() {
            let Some(passphrase) = passphrase else {
                return Err(Fault::Configuration(format!(
                    "{} is encrypted; give its passphrase with --passphrase-file",
                    path.display()
                )));
            };
            key = key.decrypt_secret(&password(passphrase)).map_err(|_| {
                Fault::Configuration(format!("the passphrase does not open {}", path.display()))
            })?;
        }
        let pair = key.into_keypair().map_err(|error| damaged(path, &error))?;
        // The secret half lives in `pair` only from here on.
        Ok(Self { cert: cert.strip_secret_key_material(), pair, terms })
    }

    /// The fingerprint, upper-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.cert.fingerprint().to_hex()
    }

    /// The public certificate, binary.
    pub fn public(&self) -> Result<Vec<u8>, Fault> {
        self.cert.to_vec().map_err(internal)
    }

    /// The public certificate, armoured.
    pub fn public_armoured(&self) -> Result<String, Fault> {
        armour(&self.public()?)
    }

    /// Certifies each user ID of `vetted`, which passed [`permit`] for `at`, in their order, for
    /// `valid` or as long as the key lives. [`Minimal`](crate::intake::openpgp::Minimal) puts the
    /// packets where they belong. v4 signatures hold a random salt: two calls give other bytes.
    pub fn certify(
        &self,
        vetted: &VettedOpenPgp,
        at: UnixTime,
        valid: Duration,
    ) -> Result<Vec<Vec<u8>>, Fault> {
        let key = read_primary(vetted).map_err(internal)?;
        let lifetime = lifetime(vetted, at, valid).map_err(internal)?;
        let certify = |user_id: &Text<256>| self.certify_one(&key, user_id, at, lifetime);
        vetted.user_ids().iter().map(certify).collect()
    }

    fn certify_one(
        &self,
        key: &Key<PublicParts, PrimaryRole>,
        user_id: &str,
        at: UnixTime,
        lifetime: Duration,
    ) -> Result<Vec<u8>, Fault> {
        let mut signer = self.pair.clone();
        let mut build = || -> sequoia_openpgp::Result<Packet> {
            let kind = match self.terms.positive {
                true => SignatureType::PositiveCertification,
                false => SignatureType::GenericCertification,
            };
            let mut builder = SignatureBuilder::new(kind)
                .set_hash_algo(HashAlgorithm::SHA512)
                .set_signature_creation_time(system_time(at))?
                .set_signature_validity_period(lifetime)?;
            if let Some(uri) = &self.terms.policy_uri {
                builder = builder.set_policy_uri(uri)?;
            }
            if let Some((name, value)) = &self.terms.notation {
                let readable = NotationDataFlags::empty().set_human_readable();
                builder = builder.add_notation(name, value, readable, false)?;
            }
            let user_id = UserID::from(user_id);
            let signature = builder.sign_userid_binding(&mut signer, key, &user_id)?;
            // `pair-assertion`: what we release is what a reader will accept.
            signature.verify_userid_binding(signer.public(), key, &user_id)?;
            Ok(signature.into())
        };
        let packet = build().and_then(|packet| packet.to_vec()).map_err(internal)?;
        match packet.len() {
            0..=CERTIFICATION_MAX => Ok(packet),
            length => Err(internal(format!("a certification of {length} bytes"))),
        }
    }
}

/// Checks again, before anything is recorded, all that [`CaKey::certify`] relies on: whatever a
/// captured gate sends becomes a refusal here, never a fault later.
pub fn permit(vetted: &VettedOpenPgp, at: UnixTime) -> Result<(), Refusal> {
    let key = read_primary(vetted)?;
    check_algorithm(&key)?;
    if key.creation_time() > system_time(at) {
        return Err(refuse(RefusalCode::OpenPgpKey, "it was made after the signer's time"));
    }
    lifetime(vetted, at, Duration::MAX)?;
    let user_ids: Vec<&str> = vetted.user_ids().iter().map(|user_id| &**user_id).collect();
    check_asked(&user_ids)?;
    if !vetted.minimal().fits(user_ids.len()) {
        return Err(refuse(RefusalCode::OpenPgpUserId, "too many user IDs for one answer"));
    }
    Ok(())
}

/// Exactly one Public-Key packet, with the fingerprint that the intake said.
fn read_primary(vetted: &VettedOpenPgp) -> Result<Key<PublicParts, PrimaryRole>, Refusal> {
    let malformed = |what: &str| refuse(RefusalCode::OpenPgpMalformed, what);
    let unreadable = |_| malformed("its primary key cannot be parsed");
    let builder = PacketParserBuilder::from_bytes(vetted.primary()).map_err(unreadable)?;
    let parsed = builder.dearmor(Dearmor::Disabled).build().map_err(unreadable)?;
    let PacketParserResult::Some(parser) = parsed else {
        return Err(malformed("its primary key is empty"));
    };
    let (packet, rest) = parser.next().map_err(unreadable)?;
    let Packet::PublicKey(key) = packet else {
        return Err(malformed("its primary key is no public key packet"));
    };
    if rest.is_some() {
        return Err(malformed("its primary key is more than one packet"));
    }
    if key.fingerprint().to_hex() != vetted.fingerprint() {
        return Err(malformed("its primary key has another fingerprint"));
    }
    Ok(key)
}

/// How long the certification lasts: as asked, and never past the key's own life.
fn lifetime(vetted: &VettedOpenPgp, at: UnixTime, asked: Duration) -> Result<Duration, Refusal> {
    // A u32 of seconds in the packet: 136 years.
    const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);
    let left = match vetted.key_expires() {
        None => LONGEST,
        Some(expires) => u64::try_from(expires.saturating_sub(at.0))
            .ok()
            .filter(|left| *left > 0)
            .map(Duration::from_secs)
            .ok_or_else(|| refuse(RefusalCode::OpenPgpKey, "it has expired"))?,
    };
    Ok(asked.min(left).min(LONGEST))
}

fn refuse(code: RefusalCode, text: &str) -> Refusal {
    Refusal::new(code, format!("the OpenPGP key: {text}"))
}

/// Times before 1970 become 1970, at which no key is valid.
fn system_time(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.0).unwrap_or(0).min(TIME_MAX))
}

/// OpenPGP times are 32 bits, unsigned: until 2106.
const TIME_MAX: u64 = u32::MAX as u64;

/// GnuPG takes a lone revocation, too, only under the header of a public key.
fn armour(bytes: &[u8]) -> Result<String, Fault> {
    use std::io::Write;
    let write = || -> std::io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), Kind::PublicKey)?;
        writer.write_all(bytes)?;
        writer.finalize()
    };
    String::from_utf8(write().map_err(internal)?).map_err(internal)
}

fn password(secret: &Secret) -> Password {
    Password::from(secret.expose())
}

fn internal(error: impl std::fmt::Display) -> Fault {
    Fault::Internal(format!("OpenPGP: {error}"))
}

fn damaged(path: &Path, error: &impl std::fmt::Display) -> Fault {
    Fault::Damaged { what: path.display().to_string(), why: error.to_string() }
}

#[cfg(test)]
mod tests;

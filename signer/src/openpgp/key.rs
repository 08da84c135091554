//! An OpenPGP authority's own key: made, stored, opened, and used to sign.
//!
//! Version 4, so that GnuPG 2.2 reads it. The secret half leaves this file only inside a mode 0600
//! file, encrypted where a passphrase is given; nothing here can be printed.

use std::{fmt, path::Path, time::Duration};

use openssl::{
    bn::BigNum,
    ec::{EcGroup, EcKey, EcPoint},
    ecdsa::EcdsaSig,
    md::{Md, MdRef},
    nid::Nid,
    pkey::{Id, PKey, Private, Public},
    pkey_ctx::PkeyCtx,
    rsa::{Padding, Rsa, RsaPrivateKeyBuilder},
    sign::{Signer, Verifier},
};
use sequoia_openpgp::{
    Cert, Packet, Profile,
    armor::{Kind, Writer},
    cert::{CertBuilder, CipherSuite},
    crypto::{
        Password,
        mpi::{self, MPI, SecretKeyMaterial},
    },
    packet::{
        Key, UserID,
        key::{Key4, PrimaryRole, PublicParts, SecretParts},
        signature::SignatureBuilder,
    },
    parse::Parse,
    serialize::SerializeInto,
    types::{Curve, Features, HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType},
};
use zeroize::Zeroizing;

use super::{damaged, internal, system_time};
use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    intake::openpgp::kind::KeyKind,
    keys::{Secret, SignatureDigest},
};

/// The kinds of key that an OpenPGP authority can be made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// `ed25519` (EdDSALegacy): small certifications.
    #[default]
    Ed25519,
    /// `rsa2048`, `rsa3072`, `rsa4096`: for correspondents with very old software.
    Rsa(u16),
    /// ECDSA on a curve of NIST's or Brainpool's.
    Curve(KeyKind),
}

/// A text names no kind of OpenPGP authority's key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "an OpenPGP authority's key is ed25519, rsa3072, rsa4096, p256, p384, p521, brainpoolp256, \
     brainpoolp384 or brainpoolp512"
)]
pub struct NotAnAlgorithm;

impl std::str::FromStr for Algorithm {
    type Err = NotAnAlgorithm;

    fn from_str(text: &str) -> Result<Self, NotAnAlgorithm> {
        Ok(match text {
            "ed25519" => Self::Ed25519,
            "rsa3072" => Self::Rsa(3072),
            "rsa4096" => Self::Rsa(4096),
            "p256" | "nistp256" => Self::Curve(KeyKind::NistP256),
            "p384" | "nistp384" => Self::Curve(KeyKind::NistP384),
            "p521" | "nistp521" => Self::Curve(KeyKind::NistP521),
            "brainpoolp256" => Self::Curve(KeyKind::BrainpoolP256),
            "brainpoolp384" => Self::Curve(KeyKind::BrainpoolP384),
            "brainpoolp512" => Self::Curve(KeyKind::BrainpoolP512),
            _ => return Err(NotAnAlgorithm),
        })
    }
}

/// An OpenPGP key, ready to certify.
pub struct CaKey {
    cert: Cert,
    fingerprint: String,
    secret: PKey<Private>,
    public: PKey<Public>,
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaKey({})", self.fingerprint)
    }
}

/// Makes a certify-only key for `user_id`. Returns it as it is stored, with its revocation
/// certificate, armoured, to be kept elsewhere.
pub fn generate(
    user_id: &str,
    now: UnixTime,
    algorithm: Algorithm,
) -> Result<(Cert, String), Fault> {
    let suite = match algorithm {
        Algorithm::Ed25519 => CipherSuite::Cv25519,
        Algorithm::Rsa(bits) => {
            let key = Key4::generate_rsa(usize::from(bits)).map_err(internal)?;
            return self_signed(key, user_id, now);
        }
        Algorithm::Curve(KeyKind::NistP256) => CipherSuite::P256,
        Algorithm::Curve(KeyKind::NistP384) => CipherSuite::P384,
        Algorithm::Curve(KeyKind::NistP521) => CipherSuite::P521,
        Algorithm::Curve(kind) => {
            let curve = match kind {
                KeyKind::BrainpoolP256 => Curve::BrainpoolP256,
                KeyKind::BrainpoolP384 => Curve::BrainpoolP384,
                _ => Curve::BrainpoolP512,
            };
            let key = Key4::generate_ecc(true, curve).map_err(internal)?;
            return self_signed(key, user_id, now);
        }
    };
    let builder = CertBuilder::new().set_profile(Profile::RFC4880).map_err(internal)?;
    let (cert, revocation) = builder
        .set_cipher_suite(suite)
        .set_creation_time(system_time(now))
        .set_primary_key_flags(KeyFlags::empty().set_certification())
        .add_userid(user_id)
        .generate()
        .map_err(internal)?;
    Ok((cert, armour(&Packet::from(revocation).to_vec().map_err(internal)?)?))
}

/// A certificate with a key of a kind that the builder does not make.
fn self_signed(
    mut key: Key4<SecretParts, PrimaryRole>,
    user_id: &str,
    now: UnixTime,
) -> Result<(Cert, String), Fault> {
    key.set_creation_time(system_time(now)).map_err(internal)?;
    let key = Key::V4(key);
    let cert = Cert::from_packets([Packet::SecretKey(key)].into_iter()).map_err(internal)?;
    let cert = sign_anew(cert, &[UserID::from(user_id)], now)?;
    let revocation = revocation_certificate(&cert, now)?;
    Ok((cert, revocation))
}

/// Gives each user ID of a certificate with an open secret key a new self-signature, as a key that
/// only certifies has it.
pub(super) fn sign_anew(cert: Cert, user_ids: &[UserID], now: UnixTime) -> Result<Cert, Fault> {
    let sign = || -> sequoia_openpgp::Result<Cert> {
        let key = cert.primary_key().key().clone().parts_into_secret()?;
        let mut pair = key.into_keypair()?;
        let mut packets = Vec::new();
        for (at, user_id) in user_ids.iter().enumerate() {
            let builder = SignatureBuilder::new(SignatureType::PositiveCertification)
                .set_hash_algo(HashAlgorithm::SHA512)
                .set_signature_creation_time(system_time(now))?
                .set_key_flags(KeyFlags::empty().set_certification())?
                .set_features(Features::empty().set_seipdv1())?
                .set_primary_userid(at == 0)?;
            let signature = user_id.bind(&mut pair, &cert, builder)?;
            packets.push(Packet::from(user_id.clone()));
            packets.push(signature.into());
        }
        Ok(cert.clone().insert_packets(packets)?.0)
    };
    sign().map_err(internal)
}

/// The revocation certificate of a certificate with an open secret key, armoured.
pub(super) fn revocation_certificate(cert: &Cert, now: UnixTime) -> Result<String, Fault> {
    let make = || -> sequoia_openpgp::Result<Vec<u8>> {
        let key = cert.primary_key().key().clone().parts_into_secret()?;
        let signature = sequoia_openpgp::cert::CertRevocationBuilder::new()
            .set_reason_for_revocation(
                ReasonForRevocation::Unspecified,
                b"made when the key was taken into the signer",
            )?
            .set_signature_creation_time(system_time(now))?
            .build(&mut key.into_keypair()?, cert, None)?;
        Packet::from(signature).to_vec()
    };
    armour(&make().map_err(internal)?)
}

/// Stores a certificate with its open secret key, encrypted where a passphrase is given.
pub fn store(path: &Path, cert: &Cert, passphrase: Option<&Secret>) -> Result<(), Fault> {
    let mut cert = cert.clone();
    if let Some(passphrase) = passphrase {
        let key = cert.primary_key().key().clone().parts_into_secret().map_err(internal)?;
        let key = key.encrypt_secret(&password(passphrase)).map_err(internal)?;
        cert = cert.insert_packets(key).map_err(internal)?.0;
    }
    let secret = Zeroizing::new(cert.as_tsk().to_vec().map_err(internal)?);
    durable::replace(path, &secret, 0o600)
}

impl CaKey {
    /// Loads the key in the file at `path`.
    pub fn load(path: &Path, passphrase: Option<&Secret>) -> Result<Self, Fault> {
        let bytes = Zeroizing::new(durable::read(path)?);
        let cert = Cert::from_bytes(&**bytes).map_err(|error| damaged(path, &error))?;
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
        let secret = open(&key).map_err(|error| damaged(path, &error))?;
        let public =
            open_public(cert.primary_key().key()).map_err(|error| damaged(path, &error))?;
        let fingerprint = cert.fingerprint().to_hex();
        // The secret half lives in `secret` only from here on.
        Ok(Self { cert: cert.strip_secret_key_material(), fingerprint, secret, public })
    }

    /// The fingerprint, upper-case hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The public certificate.
    pub fn cert(&self) -> &Cert {
        &self.cert
    }

    /// The public certificate, binary.
    pub fn public(&self) -> Result<Vec<u8>, Fault> {
        self.cert.to_vec().map_err(internal)
    }

    /// The public certificate, armoured.
    pub fn public_armoured(&self) -> Result<String, Fault> {
        armour(&self.public()?)
    }

    /// When the key was made: nothing that it signs may be older.
    pub fn created(&self) -> UnixTime {
        let since =
            self.cert.primary_key().key().creation_time().duration_since(std::time::UNIX_EPOCH);
        UnixTime(since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
    }

    /// When the key itself ends, if it does.
    pub fn expires(&self, now: UnixTime) -> Option<UnixTime> {
        let policy = crate::intake::openpgp::policy(system_time(now));
        let valid = self.cert.with_policy(&policy, system_time(now)).ok()?;
        let end = valid.primary_key().key_expiration_time()?;
        let since = end.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_secs()).ok().map(UnixTime)
    }

    /// The longest signature that it makes, as multi-precision integers.
    pub(super) fn signature_max(&self) -> usize {
        self.secret.size() + 4
    }

    /// Signs a digest; the signature as multi-precision integers. It is not checked here.
    pub(super) fn sign(&self, digest: SignatureDigest, value: &[u8]) -> Result<Vec<u8>, Fault> {
        let signature = match self.secret.id() {
            Id::RSA => {
                let mut context = PkeyCtx::new(&self.secret)?;
                context.sign_init()?;
                context.set_rsa_padding(Padding::PKCS1)?;
                context.set_signature_md(md(digest))?;
                let mut s = Vec::new();
                context.sign_to_vec(value, &mut s)?;
                mpi::Signature::RSA { s: MPI::new(&s) }
            }
            Id::ED25519 => {
                let both = Signer::new_without_digest(&self.secret)?.sign_oneshot_to_vec(value)?;
                let (r, s) = both.split_at(both.len() / 2);
                mpi::Signature::EdDSA { r: MPI::new(r), s: MPI::new(s) }
            }
            _ => {
                let signature = EcdsaSig::sign(value, &*self.secret.ec_key()?)?;
                let number = |number: &openssl::bn::BigNumRef| MPI::new(&number.to_vec());
                mpi::Signature::ECDSA { r: number(signature.r()), s: number(signature.s()) }
            }
        };
        sequoia_openpgp::serialize::MarshalInto::to_vec(&signature).map_err(internal)
    }

    /// Whether a reader of the public key will take this for its signature of a digest.
    pub(super) fn verifies(
        &self,
        digest: SignatureDigest,
        value: &[u8],
        signature: &mpi::Signature,
    ) -> Result<bool, Fault> {
        Ok(match signature {
            mpi::Signature::RSA { s } => {
                let s = s.value_padded(self.public.size()).map_err(internal)?;
                let mut context = PkeyCtx::new(&self.public)?;
                context.verify_init()?;
                context.set_rsa_padding(Padding::PKCS1)?;
                context.set_signature_md(md(digest))?;
                context.verify(value, &s)?
            }
            mpi::Signature::EdDSA { r, s } => {
                let half = self.public.size() / 2;
                let r = r.value_padded(half).map_err(internal)?;
                let s = s.value_padded(half).map_err(internal)?;
                let both = [r, s].concat();
                Verifier::new_without_digest(&self.public)?.verify_oneshot(&both, value)?
            }
            mpi::Signature::ECDSA { r, s } => {
                let number = |number: &MPI| BigNum::from_slice(number.value());
                let signature = EcdsaSig::from_private_components(number(r)?, number(s)?)?;
                signature.verify(value, &*self.public.ec_key()?)?
            }
            _ => false,
        })
    }
}

fn md(digest: SignatureDigest) -> &'static MdRef {
    match digest {
        SignatureDigest::Sha256 => Md::sha256(),
        SignatureDigest::Sha384 => Md::sha384(),
        SignatureDigest::Sha512 => Md::sha512(),
    }
}

/// The secret half as libcrypto's own, so that it is not read anew for each signature.
fn open(key: &Key<SecretParts, PrimaryRole>) -> sequoia_openpgp::Result<PKey<Private>> {
    let sequoia_openpgp::packet::key::SecretKeyMaterial::Unencrypted(secret) = key.secret() else {
        anyhow::bail!("its secret key is still encrypted");
    };
    secret.map(|secret| match (key.mpis(), secret) {
        (mpi::PublicKey::RSA { e, n }, SecretKeyMaterial::RSA { d, p, q, u }) => {
            open_rsa(e.value(), n.value(), d.value(), p.value(), q.value(), u.value())
        }
        (
            mpi::PublicKey::EdDSA { curve: Curve::Ed25519, .. },
            SecretKeyMaterial::EdDSA { scalar },
        ) => Ok(PKey::private_key_from_raw_bytes(&scalar.value_padded(32), Id::ED25519)?),
        (mpi::PublicKey::ECDSA { curve, q }, SecretKeyMaterial::ECDSA { scalar }) => {
            let group = group(curve)?;
            let mut context = openssl::bn::BigNumContext::new()?;
            let point = EcPoint::from_bytes(&group, q.value(), &mut context)?;
            let scalar = BigNum::from_slice(scalar.value())?;
            let key = EcKey::from_private_components(&group, &scalar, &point)?;
            key.check_key()?;
            Ok(PKey::from_ec_key(key)?)
        }
        _ => anyhow::bail!("its algorithm is {}, which does not certify here", key.pk_algo()),
    })
}

/// The public half as libcrypto's own, for the same reason.
fn open_public(key: &Key<PublicParts, PrimaryRole>) -> sequoia_openpgp::Result<PKey<Public>> {
    Ok(match key.mpis() {
        mpi::PublicKey::RSA { e, n } => {
            let number = |number: &MPI| BigNum::from_slice(number.value());
            PKey::from_rsa(Rsa::from_public_components(number(n)?, number(e)?)?)?
        }
        mpi::PublicKey::EdDSA { curve: Curve::Ed25519, q } => {
            let (point, _) = q.decode_point(&Curve::Ed25519)?;
            PKey::public_key_from_raw_bytes(point, Id::ED25519)?
        }
        mpi::PublicKey::ECDSA { curve, q } => {
            let group = group(curve)?;
            let mut context = openssl::bn::BigNumContext::new()?;
            let point = EcPoint::from_bytes(&group, q.value(), &mut context)?;
            PKey::from_ec_key(EcKey::from_public_key(&group, &point)?)?
        }
        _ => anyhow::bail!("its algorithm is {}, which does not certify here", key.pk_algo()),
    })
}

fn group(curve: &Curve) -> sequoia_openpgp::Result<EcGroup> {
    Ok(EcGroup::from_curve_name(match curve {
        Curve::NistP256 => Nid::X9_62_PRIME256V1,
        Curve::NistP384 => Nid::SECP384R1,
        Curve::NistP521 => Nid::SECP521R1,
        Curve::BrainpoolP256 => Nid::BRAINPOOL_P256R1,
        Curve::BrainpoolP384 => Nid::BRAINPOOL_P384R1,
        Curve::BrainpoolP512 => Nid::BRAINPOOL_P512R1,
        other => anyhow::bail!("its curve {other} does not certify here"),
    })?)
}

/// OpenPGP's `u` is the inverse of p modulo q, libcrypto's coefficient that of q modulo p: so the
/// primes change places.
fn open_rsa(
    e: &[u8],
    n: &[u8],
    d: &[u8],
    p: &[u8],
    q: &[u8],
    u: &[u8],
) -> sequoia_openpgp::Result<PKey<Private>> {
    let number = BigNum::from_slice;
    let mut context = openssl::bn::BigNumContext::new_secure()?;
    let mut reduced = |prime: &[u8]| -> sequoia_openpgp::Result<BigNum> {
        let (mut less, mut rest) = (number(prime)?, BigNum::new_secure()?);
        less.sub_word(1)?;
        rest.checked_rem(&*number(d)?, &less, &mut context)?;
        Ok(rest)
    };
    let (of_q, of_p) = (reduced(q)?, reduced(p)?);
    let key = RsaPrivateKeyBuilder::new(number(n)?, number(e)?, number(d)?)?
        .set_factors(number(q)?, number(p)?)?
        .set_crt_params(of_q, of_p, number(u)?)?
        .build();
    anyhow::ensure!(key.check_key()?, "its numbers do not belong together");
    Ok(PKey::from_rsa(key)?)
}

/// GnuPG takes a lone revocation, too, only under the header of a public key.
pub(super) fn armour(bytes: &[u8]) -> Result<String, Fault> {
    use std::io::Write;
    let write = || -> std::io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), Kind::PublicKey)?;
        writer.write_all(bytes)?;
        writer.finalize()
    };
    String::from_utf8(write().map_err(internal)?).map_err(internal)
}

pub(super) fn password(secret: &Secret) -> Password {
    Password::from(secret.expose())
}

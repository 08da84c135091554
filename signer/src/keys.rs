//! Signing keys in software: made, stored as PKCS#8, loaded, used.
//!
//! No key leaves this module but inside an encrypted or mode 0600 file; nothing here can be
//! printed. Only [`CaKey::sign`] uses the private half.

use std::{fmt, path::Path};

use openssl::{
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{HasPublic, Id, PKey, PKeyRef, Private, Public},
    rsa::Rsa,
    sign::{Signer, Verifier},
    symm::Cipher,
};
use zeroize::Zeroizing;

use crate::{der, durable, fault::Fault, tbs};

/// Something that must not be printed, logged or copied. It is wiped when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes in.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The first line of a passphrase file, without its line end.
    pub fn from_file(path: &Path) -> Result<Self, Fault> {
        let content = Zeroizing::new(durable::read(path)?);
        let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(Fault::Configuration(format!(
                "the first line of {} is empty; write the passphrase there",
                path.display()
            )));
        }
        Ok(Self::new(line.to_vec()))
    }

    /// The bytes, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The kinds of key that an authority can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaKeyKind {
    /// RSA with this modulus size; signs with PKCS #1 v1.5 and SHA-256 (SHA-512 above 4096).
    Rsa(u32),
    /// ECDSA with SHA-256.
    P256,
    /// ECDSA with SHA-384.
    P384,
}

/// A text names no kind of CA key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a CA key is rsa:2048 to rsa:8192 (in steps of 1024), ec:P-256 or ec:P-384")]
pub struct NotACaKeyKind;

impl std::str::FromStr for CaKeyKind {
    type Err = NotACaKeyKind;

    fn from_str(text: &str) -> Result<Self, NotACaKeyKind> {
        match text.split_once(':') {
            Some(("rsa", bits)) => match bits.parse() {
                Ok(bits) if (2048..=8192).contains(&bits) && bits % 1024 == 0 => {
                    Ok(Self::Rsa(bits))
                }
                _ => Err(NotACaKeyKind),
            },
            Some(("ec", "P-256")) => Ok(Self::P256),
            Some(("ec", "P-384")) => Ok(Self::P384),
            _ => Err(NotACaKeyKind),
        }
    }
}

impl fmt::Display for CaKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "rsa:{bits}"),
            Self::P256 => f.write_str("ec:P-256"),
            Self::P384 => f.write_str("ec:P-384"),
        }
    }
}

/// An authority's private key.
pub struct CaKey {
    key: PKey<Private>,
    kind: CaKeyKind,
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaKey({})", self.kind)
    }
}

impl CaKey {
    /// Makes a new key.
    pub fn generate(kind: CaKeyKind) -> Result<Self, Fault> {
        let key = match kind {
            CaKeyKind::Rsa(bits) => PKey::from_rsa(Rsa::generate(bits)?)?,
            CaKeyKind::P256 => generate_ec(Nid::X9_62_PRIME256V1)?,
            CaKeyKind::P384 => generate_ec(Nid::SECP384R1)?,
        };
        Ok(Self { key, kind })
    }

    /// Loads a PKCS#8 PEM file, encrypted or not.
    pub fn load(path: &Path, passphrase: Option<&Secret>) -> Result<Self, Fault> {
        let pem = Zeroizing::new(durable::read(path)?);
        let encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
        let key = match (encrypted, passphrase) {
            (false, _) => PKey::private_key_from_pem(&pem),
            (true, Some(secret)) => PKey::private_key_from_pem_passphrase(&pem, secret.expose()),
            (true, None) => {
                return Err(Fault::Configuration(format!(
                    "{} is encrypted; give its passphrase with --passphrase-file FILE",
                    path.display()
                )));
            }
        };
        let key = key.map_err(|_| {
            Fault::Configuration(format!(
                "{} cannot be read as a private key; check the file and the passphrase",
                path.display()
            ))
        })?;
        let kind = CaKeyKind::of(&key).ok_or_else(|| {
            Fault::Configuration(format!(
                "{} is no RSA, P-256 or P-384 key; only these sign here",
                path.display()
            ))
        })?;
        Ok(Self { key, kind })
    }

    /// Stores the key as PKCS#8 with mode 0600, encrypted where a passphrase is given.
    pub fn store(&self, path: &Path, passphrase: Option<&Secret>) -> Result<(), Fault> {
        let pem = Zeroizing::new(match passphrase {
            Some(secret) => self
                .key
                .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), secret.expose())?,
            None => self.key.private_key_to_pem_pkcs8()?,
        });
        durable::replace(path, &pem, 0o600)
    }

    /// Which kind of key this is.
    pub fn kind(&self) -> CaKeyKind {
        self.kind
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> Result<Vec<u8>, Fault> {
        Ok(self.key.public_key_to_der()?)
    }

    /// The AlgorithmIdentifier of this key's signatures where no profile says another, DER.
    pub fn signature_algorithm(&self) -> Vec<u8> {
        self.kind.signature_algorithm(None)
    }

    /// Signs `tbs`, a TBSCertificate or TBSCertList, with the digest that its own
    /// AlgorithmIdentifier names, and checks the signature, so that a computing error releases
    /// neither a wrong signature nor, with RSA, the key (Boneh, DeMillo, Lipton 1997).
    pub fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(self.sign_as_named(tbs)?.0)
    }

    /// The certificate or CRL: what was signed, how, and the signature.
    pub fn signed(&self, tbs: &[u8]) -> Result<Vec<u8>, Fault> {
        let (signature, algorithm) = self.sign_as_named(tbs)?;
        Ok(tbs::signed(tbs, algorithm, &signature))
    }

    fn sign_as_named<'a>(&self, tbs: &'a [u8]) -> Result<(Vec<u8>, &'a [u8]), Fault> {
        let named = tbs::signature_algorithm(tbs)
            .map_err(|error| Fault::Internal(format!("what is to be signed: {error}")))?;
        let digests = SignatureDigest::ALL.into_iter();
        let digest = digests
            .filter(|digest| self.kind.signature_algorithm(Some(*digest)) == named)
            .map(SignatureDigest::message_digest)
            .next()
            .ok_or_else(|| {
                let kind = self.kind;
                Fault::Internal(format!("a key of kind {kind} cannot sign as the TBS says"))
            })?;
        let signature = Signer::new(digest, &self.key)?.sign_oneshot_to_vec(tbs)?;
        if !Verifier::new(digest, &self.key)?.verify_oneshot(&signature, tbs)? {
            return Err(Fault::Internal("a signature that was just made does not verify".into()));
        }
        Ok((signature, named))
    }

    /// Whether this key belongs to that public key.
    pub fn matches(&self, public: &PKeyRef<Public>) -> bool {
        self.key.public_eq(public)
    }
}

/// The digest of a signature: the SHA-2 family, nothing else signs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureDigest {
    /// `sha256`
    Sha256,
    /// `sha384`
    Sha384,
    /// `sha512`
    Sha512,
}

impl SignatureDigest {
    /// Every digest.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The digest with this name, as profiles and openssl write it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|digest| digest.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn message_digest(self) -> MessageDigest {
        match self {
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }
}

impl CaKeyKind {
    /// The kind of a key, or nothing if no authority can have it.
    pub fn of<T: HasPublic>(key: &PKeyRef<T>) -> Option<Self> {
        match key.id() {
            Id::RSA => Some(Self::Rsa(key.bits())),
            Id::EC => match key.ec_key().ok()?.group().curve_name()? {
                Nid::X9_62_PRIME256V1 => Some(Self::P256),
                Nid::SECP384R1 => Some(Self::P384),
                _ => None,
            },
            _ => None,
        }
    }

    /// The digest where no profile says another.
    pub fn digest(self) -> SignatureDigest {
        match self {
            Self::Rsa(bits) if bits > 4096 => SignatureDigest::Sha512,
            Self::P384 => SignatureDigest::Sha384,
            Self::Rsa(_) | Self::P256 => SignatureDigest::Sha256,
        }
    }

    /// The AlgorithmIdentifier of signatures with `digest`, or with the key's own, DER.
    pub fn signature_algorithm(self, digest: Option<SignatureDigest>) -> Vec<u8> {
        let digest = digest.unwrap_or(self.digest());
        match self {
            // RFC 4055 5: the parameters are NULL.
            Self::Rsa(_) => {
                let oid = match digest {
                    SignatureDigest::Sha256 => "1.2.840.113549.1.1.11",
                    SignatureDigest::Sha384 => "1.2.840.113549.1.1.12",
                    SignatureDigest::Sha512 => "1.2.840.113549.1.1.13",
                };
                der::sequence(&[&der::known_oid(oid), &der::element(der::tag::NULL, &[])])
            }
            // RFC 5758 3.2: there are none.
            Self::P256 | Self::P384 => der::sequence(&[&der::known_oid(match digest {
                SignatureDigest::Sha256 => "1.2.840.10045.4.3.2",
                SignatureDigest::Sha384 => "1.2.840.10045.4.3.3",
                SignatureDigest::Sha512 => "1.2.840.10045.4.3.4",
            })]),
        }
    }
}

fn generate_ec(curve: Nid) -> Result<PKey<Private>, Fault> {
    let group = EcGroup::from_curve_name(curve)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn stored_key_comes_back_only_with_its_passphrase() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("ca.key");
        let key = CaKey::generate(CaKeyKind::P256).unwrap();
        let secret = Secret::new(b"correct horse".to_vec());
        key.store(&path, Some(&secret)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);

        let loaded = CaKey::load(&path, Some(&secret)).unwrap();
        assert_eq!(loaded.public_key().unwrap(), key.public_key().unwrap());
        let without = CaKey::load(&path, None).unwrap_err();
        assert!(without.is_configuration() && without.to_string().contains("--passphrase-file"));
        assert!(CaKey::load(&path, Some(&Secret::new(b"wrong".to_vec()))).is_err());
    }

    #[test]
    fn secrets_and_keys_cannot_be_printed() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert!(!format!("{secret:?}").contains("hunter2"));
        let key = CaKey::generate(CaKeyKind::P384).unwrap();
        assert_eq!(format!("{key:?}"), "CaKey(ec:P-384)");
    }

    #[test]
    fn each_digest_signs_as_the_tbs_names_it_and_openssl_verifies_it() {
        let rsa = CaKey::generate(CaKeyKind::Rsa(2048)).unwrap();
        let ec = CaKey::generate(CaKeyKind::P256).unwrap();
        // As much of a TBS as signing looks at.
        let tbs = |algorithm: &[u8]| {
            let serial = der::unsigned(7);
            der::sequence(&[&der::explicit(0, &der::unsigned(2)), &serial, algorithm, &serial])
        };
        for key in [&rsa, &ec] {
            for (digest, oracle) in [
                (SignatureDigest::Sha256, MessageDigest::sha256()),
                (SignatureDigest::Sha384, MessageDigest::sha384()),
                (SignatureDigest::Sha512, MessageDigest::sha512()),
            ] {
                assert_eq!(SignatureDigest::from_name(digest.name()), Some(digest));
                let tbs = tbs(&key.kind().signature_algorithm(Some(digest)));
                let signature = key.sign(&tbs).unwrap();
                let mut verifier = Verifier::new(oracle, &key.key).unwrap();
                assert!(verifier.verify_oneshot(&signature, &tbs).unwrap(), "{digest:?}");
                let whole = key.signed(&tbs).unwrap();
                let algorithm = key.kind().signature_algorithm(Some(digest));
                assert!(whole.windows(algorithm.len()).filter(|w| *w == algorithm).count() == 2);
            }
        }
        // A digest that is not ours, another family of keys, and no TBS at all.
        let sha1 = der::sequence(&[&der::known_oid("1.2.840.10045.4.1")]);
        for bad in [tbs(&sha1), tbs(&rsa.signature_algorithm()), b"nonsense".to_vec()] {
            assert!(ec.sign(&bad).is_err());
        }
        assert_eq!(SignatureDigest::from_name("sha1"), None);
    }

    #[test]
    fn own_digests_grow_with_the_key() {
        for (kind, digest) in [
            ("rsa:4096", "sha256"),
            ("rsa:5120", "sha512"),
            ("ec:P-256", "sha256"),
            ("ec:P-384", "sha384"),
        ] {
            assert_eq!(kind.parse::<CaKeyKind>().unwrap().digest().name(), digest, "{kind}");
        }
    }

    #[test]
    fn key_kinds_are_named_as_in_the_manual() {
        for text in ["rsa:2048", "rsa:4096", "ec:P-256", "ec:P-384"] {
            assert_eq!(text.parse::<CaKeyKind>().unwrap().to_string(), text);
        }
        for bad in ["rsa:1024", "rsa:4095", "ec:P-521", "dsa:2048", "rsa", "rsa:16384"] {
            assert!(bad.parse::<CaKeyKind>().is_err(), "{bad}");
        }
    }
}

//! Signing keys in software: made, stored as PKCS#8, loaded, used.
//!
//! No key leaves this module but inside an encrypted or mode 0600 file; nothing here can be
//! printed. Only [`CaKey::sign`] uses the private half.

use std::{fmt, path::Path};

use openssl::{
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{Id, PKey, PKeyRef, Private, Public},
    rsa::Rsa,
    sign::{Signer, Verifier},
    symm::Cipher,
};
use zeroize::Zeroizing;

use crate::{der, durable, fault::Fault};

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
        let kind = kind_of(&key).ok_or_else(|| {
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

    /// The AlgorithmIdentifier of this key's signatures, DER.
    pub fn signature_algorithm(&self) -> Vec<u8> {
        let null = der::element(der::tag::NULL, &[]);
        match self.kind {
            // RFC 4055 5: the parameters are NULL. RFC 5758 3.2: ECDSA has none.
            CaKeyKind::Rsa(bits) if bits > 4096 => {
                der::sequence(&[&der::known_oid("1.2.840.113549.1.1.13"), &null])
            }
            CaKeyKind::Rsa(_) => der::sequence(&[&der::known_oid("1.2.840.113549.1.1.11"), &null]),
            CaKeyKind::P256 => der::sequence(&[&der::known_oid("1.2.840.10045.4.3.2")]),
            CaKeyKind::P384 => der::sequence(&[&der::known_oid("1.2.840.10045.4.3.3")]),
        }
    }

    /// Signs `tbs` and checks the signature, so that a computing error releases neither a wrong
    /// signature nor, with RSA, the key (Boneh, DeMillo, Lipton 1997).
    pub fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, Fault> {
        let digest = self.digest();
        let signature = Signer::new(digest, &self.key)?.sign_oneshot_to_vec(tbs)?;
        if !Verifier::new(digest, &self.key)?.verify_oneshot(&signature, tbs)? {
            return Err(Fault::Internal("a signature that was just made does not verify".into()));
        }
        Ok(signature)
    }

    /// Whether this key belongs to that public key.
    pub fn matches(&self, public: &PKeyRef<Public>) -> bool {
        self.key.public_eq(public)
    }

    fn digest(&self) -> MessageDigest {
        match self.kind {
            CaKeyKind::Rsa(bits) if bits > 4096 => MessageDigest::sha512(),
            CaKeyKind::P384 => MessageDigest::sha384(),
            CaKeyKind::Rsa(_) | CaKeyKind::P256 => MessageDigest::sha256(),
        }
    }
}

fn generate_ec(curve: Nid) -> Result<PKey<Private>, Fault> {
    let group = EcGroup::from_curve_name(curve)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

fn kind_of(key: &PKey<Private>) -> Option<CaKeyKind> {
    match key.id() {
        Id::RSA => Some(CaKeyKind::Rsa(key.bits())),
        Id::EC => match key.ec_key().ok()?.group().curve_name()? {
            Nid::X9_62_PRIME256V1 => Some(CaKeyKind::P256),
            Nid::SECP384R1 => Some(CaKeyKind::P384),
            _ => None,
        },
        _ => None,
    }
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
    fn key_kinds_are_named_as_in_the_manual() {
        for text in ["rsa:2048", "rsa:4096", "ec:P-256", "ec:P-384"] {
            assert_eq!(text.parse::<CaKeyKind>().unwrap().to_string(), text);
        }
        for bad in ["rsa:1024", "rsa:4095", "ec:P-521", "dsa:2048", "rsa", "rsa:16384"] {
            assert!(bad.parse::<CaKeyKind>().is_err(), "{bad}");
        }
    }
}

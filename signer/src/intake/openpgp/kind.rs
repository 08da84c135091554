//! Which kinds of OpenPGP key there are for us, and which are refused whatever a policy says.
//!
//! Only the numbers of a public key are looked at; no signature is.

use openssl::bn::BigNum;
use protocol::message::RefusalCode;
use sequoia_openpgp::{
    crypto::mpi::PublicKey,
    packet::{
        Key,
        key::{KeyRole, PublicParts},
    },
    types::Curve,
};

use super::refuse;
use crate::{
    intake::{key, modulus},
    refusal::Refusal,
};

/// A kind of primary key that a policy can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// `rsa`, with any size that is not refused.
    Rsa,
    /// `ed25519`, as EdDSALegacy or in RFC 9580's own form.
    Ed25519,
    /// `ed448`
    Ed448,
    /// `nistp256`
    NistP256,
    /// `nistp384`
    NistP384,
    /// `nistp521`
    NistP521,
    /// `brainpoolp256`
    BrainpoolP256,
    /// `brainpoolp384`
    BrainpoolP384,
    /// `brainpoolp512`
    BrainpoolP512,
}

impl KeyKind {
    /// Every kind with its name in policies.
    pub const TABLE: [(Self, &'static str); 9] = [
        (Self::Rsa, "rsa"),
        (Self::Ed25519, "ed25519"),
        (Self::Ed448, "ed448"),
        (Self::NistP256, "nistp256"),
        (Self::NistP384, "nistp384"),
        (Self::NistP521, "nistp521"),
        (Self::BrainpoolP256, "brainpoolp256"),
        (Self::BrainpoolP384, "brainpoolp384"),
        (Self::BrainpoolP512, "brainpoolp512"),
    ];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).expect("every variant has a row").1
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The kind of a key, and an RSA key's bits. `openpgp-version`, `openpgp-algorithm`,
    /// `openpgp-key-kind`, `openpgp-key-size`, `openpgp-key-weak`.
    pub fn of<R: KeyRole>(public: &Key<PublicParts, R>) -> Result<(Self, u32), Refusal> {
        if !matches!(public.version(), 4 | 6) {
            let text = format!("its version is {}; 4 and 6 are accepted", public.version());
            return Err(refuse(RefusalCode::OpenPgpVersion, text));
        }
        match public.mpis() {
            PublicKey::RSA { e, n } => {
                check_rsa(e.value(), n.value()).map(|bits| (Self::Rsa, bits))
            }
            PublicKey::EdDSA { curve: Curve::Ed25519, .. } | PublicKey::Ed25519 { .. } => {
                Ok((Self::Ed25519, 0))
            }
            PublicKey::Ed448 { .. } => Ok((Self::Ed448, 0)),
            PublicKey::ECDSA { curve, .. } => match of_curve(curve) {
                Some(kind) => Ok((kind, 0)),
                None => Err(unknown_kind(&format!("ECDSA on the curve {curve}"))),
            },
            PublicKey::DSA { .. } | PublicKey::ElGamal { .. } => {
                let text = format!("its algorithm is {}, which is too old", public.pk_algo());
                Err(refuse(RefusalCode::OpenPgpAlgorithm, text))
            }
            _ => Err(unknown_kind(&public.pk_algo().to_string())),
        }
    }
}

fn of_curve(curve: &Curve) -> Option<KeyKind> {
    Some(match curve {
        Curve::NistP256 => KeyKind::NistP256,
        Curve::NistP384 => KeyKind::NistP384,
        Curve::NistP521 => KeyKind::NistP521,
        Curve::BrainpoolP256 => KeyKind::BrainpoolP256,
        Curve::BrainpoolP384 => KeyKind::BrainpoolP384,
        Curve::BrainpoolP512 => KeyKind::BrainpoolP512,
        _ => return None,
    })
}

fn unknown_kind(what: &str) -> Refusal {
    let text = format!(
        "its algorithm is {what}; RSA, Ed25519, Ed448, and ECDSA on NIST's or Brainpool's curves \
         are known"
    );
    refuse(RefusalCode::OpenPgpKeyKind, text)
}

/// A longer exponent only costs its reader time; 65537 is in use.
const EXPONENT_MAX: usize = 8;

fn check_rsa(e: &[u8], n: &[u8]) -> Result<u32, Refusal> {
    let size = |text: String| Err(refuse(RefusalCode::OpenPgpKeySize, text));
    let weak = |text: String| refuse(RefusalCode::OpenPgpKey, text);
    let number = BigNum::from_slice(n).map_err(|error| weak(error.to_string()))?;
    let bits = u32::try_from(number.num_bits()).unwrap_or(0);
    if !(key::RSA_BITS_MIN..=key::RSA_BITS_MAX).contains(&bits) {
        return size(format!(
            "it is RSA of {bits} bits; {} to {} are accepted",
            key::RSA_BITS_MIN,
            key::RSA_BITS_MAX
        ));
    }
    if e.len() > EXPONENT_MAX || e.last().is_none_or(|last| last & 1 == 0) || e == [1] {
        return Err(weak("its RSA exponent is even, 1, or longer than 64 bits".into()));
    }
    match modulus::flaw(&number) {
        Ok(None) => Ok(bits),
        Ok(Some(flaw)) => Err(weak(flaw.to_string())),
        Err(error) => Err(weak(format!("it could not be checked: {error}"))),
    }
}

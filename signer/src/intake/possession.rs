//! Proof that whoever sends a request holds the key in it: the same for a CSR and an SPKAC.
//!
//! The signature is checked by OpenSSL; which algorithms count is decided here, strictly, before
//! it sees anything. SHA-1 and older digests are nowhere accepted.

use openssl::{
    ecdsa::EcdsaSig,
    error::ErrorStack,
    hash::{MessageDigest, hash},
    rsa::Padding,
    sign::{RsaPssSaltlen, Verifier},
};
use protocol::message::RefusalCode;

use crate::{
    intake::{
        der::{Reader, tag},
        key::{KeyKind, PublicKey},
    },
    refusal::Refusal,
};

/// The salt of RSA-PSS is no longer than the largest modulus.
const SALT_MAX: u16 = 2048;

/// How the request was signed.
struct SignatureScheme {
    rsa: bool,
    edwards: bool,
    digest: Option<MessageDigest>,
    /// The salt's length, when the padding is PSS.
    pss_salt: Option<u16>,
}

/// Controls `csr-digest` and `csr-possession`: the key in the request signed exactly these bytes,
/// with a digest of the SHA-2 family.
pub(super) fn check(
    key: &PublicKey,
    algorithm: &[u8],
    signature: &[u8],
    signed: &[u8],
) -> Result<(), Refusal> {
    let scheme = read_scheme(algorithm)?;
    let is_rsa = matches!(key.kind, KeyKind::Rsa { .. });
    let is_edwards = key.kind == KeyKind::Ed25519;
    if scheme.rsa != is_rsa || scheme.edwards != is_edwards {
        return Err(Refusal::new(
            RefusalCode::CsrSignature,
            format!("the signature algorithm does not belong to the request's key ({})", key.kind),
        ));
    }
    match verify(key, &scheme, signature, signed) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Refusal::new(
            RefusalCode::CsrSignature,
            "the signature was not made by the request's own key over these bytes",
        )),
    }
}

fn verify(
    key: &PublicKey,
    scheme: &SignatureScheme,
    signature: &[u8],
    signed: &[u8],
) -> Result<bool, ErrorStack> {
    let is_ec = matches!(key.kind, KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521);
    if let Some(digest) = scheme.digest.filter(|_| is_ec) {
        return verify_ecdsa(key, digest, signature, signed);
    }
    let mut verifier = match scheme.digest {
        Some(digest) => Verifier::new(digest, &key.key)?,
        None => Verifier::new_without_digest(&key.key)?,
    };
    if let (Some(salt), Some(digest)) = (scheme.pss_salt, scheme.digest) {
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        verifier.set_rsa_mgf1_md(digest)?;
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt.into()))?;
    }
    verifier.verify_oneshot(signature, signed)
}

/// OpenSSL's general way copies the key into a provider first, which takes half as long again.
fn verify_ecdsa(
    key: &PublicKey,
    digest: MessageDigest,
    signature: &[u8],
    signed: &[u8],
) -> Result<bool, ErrorStack> {
    let parsed = EcdsaSig::from_der(signature)?;
    // Exactly one encoding of each signature, and nothing behind it.
    let is_canonical = parsed.to_der()? == signature;
    Ok(is_canonical && parsed.verify(&hash(digest, signed)?, &*key.key.ec_key()?)?)
}

/// Reads an AlgorithmIdentifier; RFC 4055, RFC 5758, RFC 8410 say which parameters belong to it.
fn read_scheme(content: &[u8]) -> Result<SignatureScheme, Refusal> {
    let mut algorithm = Reader::new("the signature algorithm", content);
    let oid = algorithm.oid("the signature algorithm")?;
    let ecdsa = |digest| SignatureScheme {
        rsa: false,
        edwards: false,
        digest: Some(digest),
        pss_salt: None,
    };
    let scheme = match oid.as_str() {
        "1.2.840.113549.1.1.11" => rsa_pkcs1(&mut algorithm, MessageDigest::sha256())?,
        "1.2.840.113549.1.1.12" => rsa_pkcs1(&mut algorithm, MessageDigest::sha384())?,
        "1.2.840.113549.1.1.13" => rsa_pkcs1(&mut algorithm, MessageDigest::sha512())?,
        "1.2.840.113549.1.1.10" => rsa_pss(&mut algorithm)?,
        "1.2.840.10045.4.3.2" => ecdsa(MessageDigest::sha256()),
        "1.2.840.10045.4.3.3" => ecdsa(MessageDigest::sha384()),
        "1.2.840.10045.4.3.4" => ecdsa(MessageDigest::sha512()),
        "1.3.101.112" => {
            SignatureScheme { rsa: false, edwards: true, digest: None, pss_salt: None }
        }
        other => return Err(bad_digest(&format!("the request is signed with {}", spoken(other)))),
    };
    algorithm.finish()?;
    Ok(scheme)
}

fn rsa_pkcs1(
    parameters: &mut Reader<'_>,
    digest: MessageDigest,
) -> Result<SignatureScheme, Refusal> {
    read_null(parameters)?;
    Ok(SignatureScheme { rsa: true, edwards: false, digest: Some(digest), pss_salt: None })
}

/// RSASSA-PSS-params (RFC 4055 3.1). Its defaults are all SHA-1, so every field must be there.
fn rsa_pss(algorithm: &mut Reader<'_>) -> Result<SignatureScheme, Refusal> {
    const SHA1: &str = "RSA-PSS with SHA-1, which absent parameters mean";
    let mut parameters = algorithm.inner("the PSS parameters", tag::SEQUENCE)?;
    if !parameters.next_is(tag::constructed(0)) {
        return Err(bad_digest(SHA1));
    }
    let digest = read_digest(parameters.inner("the PSS digest", tag::constructed(0))?)?;
    if !parameters.next_is(tag::constructed(1)) {
        return Err(bad_digest(SHA1));
    }
    let mut mask = parameters.inner("the PSS mask", tag::constructed(1))?;
    let mut function = mask.inner("the PSS mask", tag::SEQUENCE)?;
    mask.finish()?;
    let is_mgf1 = function.oid("the PSS mask")? == "1.2.840.113549.1.1.8";
    if !is_mgf1 || read_digest(function)?.type_() != digest.type_() {
        return Err(bad_digest("RSA-PSS whose mask is not MGF1 with the signature's own digest"));
    }
    let mut salt = parameters.inner("the PSS salt length", tag::constructed(2))?;
    let pss_salt = salt.small_integer("the PSS salt length")?;
    salt.finish()?;
    parameters.finish()?; // the trailer field has one value, its default
    if pss_salt > SALT_MAX {
        return Err(malformed(format!(
            "the signature algorithm has a PSS salt of {pss_salt} bytes"
        )));
    }
    Ok(SignatureScheme {
        rsa: true,
        edwards: false,
        digest: Some(digest),
        pss_salt: Some(pss_salt),
    })
}

fn read_digest(mut outer: Reader<'_>) -> Result<MessageDigest, Refusal> {
    let mut algorithm = outer.inner("the digest", tag::SEQUENCE)?;
    outer.finish()?;
    let digest = match algorithm.oid("the digest")?.as_str() {
        "2.16.840.1.101.3.4.2.1" => MessageDigest::sha256(),
        "2.16.840.1.101.3.4.2.2" => MessageDigest::sha384(),
        "2.16.840.1.101.3.4.2.3" => MessageDigest::sha512(),
        other => return Err(bad_digest(&format!("RSA-PSS with {}", spoken(other)))),
    };
    read_null(&mut algorithm)?;
    algorithm.finish()?;
    Ok(digest)
}

/// RFC 4055 2.1: NULL is written, absence is accepted.
fn read_null(parameters: &mut Reader<'_>) -> Result<(), Refusal> {
    if parameters.is_empty() {
        return Ok(());
    }
    match parameters.element("the algorithm's parameters", tag::NULL)?.content {
        [] => Ok(()),
        _ => Err(malformed("the signature algorithm's NULL has content")),
    }
}

/// The names of the algorithms that old programs still use, so that the sentence helps.
fn spoken(oid: &str) -> String {
    let name = match oid {
        "1.2.840.113549.1.1.2" => "MD2",
        "1.2.840.113549.1.1.3" => "MD4",
        "1.2.840.113549.1.1.4" => "MD5",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10045.4.1" | "1.3.14.3.2.26" => "SHA-1",
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.2.4" => "SHA-224",
        other => return format!("algorithm {other}"),
    };
    name.to_owned()
}

fn bad_digest(text: &str) -> Refusal {
    Refusal::new(RefusalCode::CsrDigest, format!("{text}; SHA-256, SHA-384 or SHA-512 is accepted"))
}

fn malformed(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::CsrMalformed, text)
}

//! Reads the CSR that a user gave, and refuses at once what is none.
//!
//! These checks save a trip over the cable; the signer makes its own and believes none of them.

use openssl::{nid::Nid, pkey::Id, x509::X509Req};
use protocol::message::{CSR_MAX, RefusalCode};

use crate::{
    names::{CsrNames, signature_algorithm},
    pem,
    refusal::Refusal,
};

/// A CSR that is well-formed and proves possession of its key.
#[derive(Clone, Debug)]
pub struct VerifiedCsr {
    der: Vec<u8>,
    names: CsrNames,
}

impl VerifiedCsr {
    /// Its DER.
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }

    /// What it asks for.
    pub fn names(&self) -> &CsrNames {
        &self.names
    }
}

/// The CSR in `bytes`, PEM or DER; `from` says where they came from.
pub fn read(bytes: &[u8], from: &str) -> Result<VerifiedCsr, Refusal> {
    let malformed = |fact: String| Refusal::new(RefusalCode::CsrMalformed, fact);
    if bytes.is_empty() {
        return Err(malformed(format!("{from} is empty")));
    }
    if bytes.len() > CSR_MAX {
        let length = bytes.len();
        return Err(malformed(format!("{from} has {length} bytes, a CSR has at most {CSR_MAX}")));
    }
    let der = if pem::looks_like_pem(bytes) {
        pem::only_block(bytes, &PEM_LABELS)
            .map_err(|why| malformed(format!("{from} is no CSR in PEM: {why}")))?
    } else {
        bytes.to_vec()
    };
    let csr = X509Req::from_der(&der)
        .map_err(|_| malformed(format!("{from} cannot be parsed as a CSR")))?;
    // The parser ignores what follows the structure; the signer does not.
    if csr.to_der().ok().as_deref() != Some(&der[..]) {
        return Err(malformed(format!("{from} is not exactly one CSR in DER")));
    }
    let names = CsrNames::of(&csr, &der)
        .map_err(|error| malformed(format!("{from} cannot be parsed as a CSR: {error}")))?;
    check_key(&csr, from)?;
    check_digest(&der, from)?;
    let key = csr.public_key().map_err(|_| malformed(format!("{from} holds no usable key")))?;
    if !csr.verify(&key).unwrap_or(false) {
        let fact = format!("the signature of {from} does not fit its key");
        return Err(Refusal::new(RefusalCode::CsrSignature, fact));
    }
    if names.asks_ca {
        return Err(Refusal::new(RefusalCode::CsrAsksCa, format!("{from} asks to be a CA")));
    }
    Ok(VerifiedCsr { der, names })
}

/// What goes over the wire without any check: the DER if the bytes are one PEM block, else the
/// bytes themselves. The signer's refusal is then the answer.
pub fn read_unchecked(bytes: &[u8]) -> Vec<u8> {
    pem::only_block(bytes, &PEM_LABELS).unwrap_or_else(|_| bytes.to_vec())
}

fn check_key(csr: &X509Req, from: &str) -> Result<(), Refusal> {
    let key = csr.public_key().map_err(|_| {
        Refusal::new(RefusalCode::CsrMalformed, format!("{from} holds no usable key"))
    })?;
    if key.id() == Id::RSA && key.bits() < RSA_BITS_MIN {
        let fact = format!("the RSA key of {from} has {} bits", key.bits());
        return Err(Refusal::new(RefusalCode::KeyWeak, fact));
    }
    Ok(())
}

/// Which digests are not accepted: MD2, MD4, MD5 and SHA-1 with any key.
pub(crate) fn check_digest(der: &[u8], from: &str) -> Result<(), Refusal> {
    let algorithm = signature_algorithm(der).map_err(|error| {
        Refusal::new(RefusalCode::CsrMalformed, format!("{from} has no algorithm: {error}"))
    })?;
    match WEAK_ALGORITHMS.iter().find(|row| row.0 == algorithm) {
        None => Ok(()),
        Some((_, nid)) => {
            let name = nid.short_name().unwrap_or("a broken digest");
            let fact = format!("{from} is signed with {name}");
            Err(Refusal::new(RefusalCode::CsrDigest, fact))
        }
    }
}

const PEM_LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
/// CA/B BR 6.1.5: RSA has at least 2048 bits.
pub(crate) const RSA_BITS_MIN: u32 = 2048;
/// Object identifiers in DER content octets.
const WEAK_ALGORITHMS: [(&[u8], Nid); 5] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x02], Nid::from_raw(7)),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], Nid::MD5WITHRSAENCRYPTION),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], Nid::SHA1WITHRSAENCRYPTION),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], Nid::ECDSA_WITH_SHA1),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x03], Nid::DSAWITHSHA1),
];

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;

    use super::*;
    use crate::test_ca::{CsrRecipe, ec_key, rsa_key};

    fn code(bytes: &[u8]) -> RefusalCode {
        read(bytes, "`x.csr`").unwrap_err().code
    }

    #[test]
    fn pem_and_der_of_one_csr_are_the_same_request() {
        let csr = CsrRecipe::new(&ec_key(), "host.example").dns("host.example").build();
        let (der, pem) = (csr.to_der().unwrap(), csr.to_pem().unwrap());
        assert_eq!(read(&der, "f").unwrap().into_der(), der);
        let verified = read(&pem, "f").unwrap();
        assert_eq!(
            verified.names().subject_alt_names,
            Some(vec!["dns:host.example".parse().unwrap()])
        );
        assert_eq!(verified.names().subject, [("CN".to_owned(), "host.example".to_owned())]);
        assert_eq!(verified.into_der(), der);
        assert_eq!(read_unchecked(&pem), der);
    }

    #[test]
    fn what_is_no_csr_is_refused_with_its_code() {
        let csr = CsrRecipe::new(&ec_key(), "host.example").build();
        let (der, pem) = (csr.to_der().unwrap(), csr.to_pem().unwrap());
        assert_eq!(code(b""), RefusalCode::CsrMalformed);
        assert_eq!(code(b"hello"), RefusalCode::CsrMalformed);
        assert_eq!(code(&pem.repeat(2)), RefusalCode::CsrMalformed);
        assert_eq!(code(&[&der[..], b"x"].concat()), RefusalCode::CsrMalformed);
        assert_eq!(code(&vec![b' '; CSR_MAX + 1]), RefusalCode::CsrMalformed);
        let junk = b"-----BEGIN CERTIFICATE REQUEST-----\n!!!\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(code(junk), RefusalCode::CsrMalformed);
        assert_eq!(code(&ec_key().private_key_to_pem_pkcs8().unwrap()), RefusalCode::CsrMalformed);
        for cut in 0..der.len() {
            assert_eq!(code(&der[..cut]), RefusalCode::CsrMalformed, "cut at {cut}");
        }
    }

    #[test]
    fn broken_signature_weak_key_weak_digest_and_ca_are_told_apart() {
        let key = rsa_key(2048);
        let mut der = CsrRecipe::new(&key, "h").build().to_der().unwrap();
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(code(&der), RefusalCode::CsrSignature);
        let small = CsrRecipe::new(&rsa_key(1024), "h").build().to_der().unwrap();
        assert_eq!(code(&small), RefusalCode::KeyWeak);
        for digest in [MessageDigest::sha1(), MessageDigest::md5()] {
            let weak = CsrRecipe::new(&key, "h").digest(digest).build().to_der().unwrap();
            assert_eq!(code(&weak), RefusalCode::CsrDigest);
        }
        let ca = CsrRecipe::new(&key, "h").ca().build().to_der().unwrap();
        assert_eq!(code(&ca), RefusalCode::CsrAsksCa);
    }
}

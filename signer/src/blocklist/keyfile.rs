//! The public keys in a file that an operator names: a key, a certificate or a CSR, PEM or DER.
//!
//! The file is the operator's own, so OpenSSL's general decoders read it. What comes out is the
//! encoding that a request would have: two forms of one key are one key here.

use std::path::Path;

use openssl::{
    bn::BigNumContext,
    ec::{EcKey, PointConversionForm},
    error::ErrorStack,
    pkey::{HasPublic, Id, PKey, Public},
    x509::{X509, X509Req},
};

use crate::{durable, fault::Fault};

/// The SubjectPublicKeyInfos in `path`, DER: one, or one for each certificate of a PEM file.
pub fn public_keys(path: &Path) -> Result<Vec<Vec<u8>>, Fault> {
    let bytes = durable::read(path)?;
    let keys = match bytes.windows(PEM.len()).any(|window| window == PEM) {
        true => in_pem(&bytes),
        false => in_der(&bytes).map(|key| vec![key]),
    };
    let keys = keys.ok_or_else(|| {
        Fault::Configuration(format!(
            "{}: it is no public key, private key without passphrase, certificate or CSR in PEM \
             or DER; give the right file",
            path.display()
        ))
    })?;
    keys.iter().map(|key| Ok(canonical(key)?)).collect()
}

const PEM: &[u8] = b"-----BEGIN ";

fn in_pem(bytes: &[u8]) -> Option<Vec<PKey<Public>>> {
    let certificates = X509::stack_from_pem(bytes).unwrap_or_default();
    if !certificates.is_empty() {
        return certificates.iter().map(|certificate| certificate.public_key().ok()).collect();
    }
    // Without a callback OpenSSL would ask the terminal for a passphrase.
    let private = || PKey::private_key_from_pem_callback(bytes, |_| Ok(0)).ok();
    let key = PKey::public_key_from_pem(bytes).ok();
    let key = key.or_else(|| X509Req::from_pem(bytes).ok()?.public_key().ok());
    let key = key.or_else(|| public_half(&private()?).ok())?;
    Some(vec![key])
}

fn in_der(bytes: &[u8]) -> Option<PKey<Public>> {
    let key = X509::from_der(bytes).ok().and_then(|certificate| certificate.public_key().ok());
    let key = key.or_else(|| X509Req::from_der(bytes).ok()?.public_key().ok());
    let key = key.or_else(|| PKey::public_key_from_der(bytes).ok());
    key.or_else(|| public_half(&PKey::private_key_from_der(bytes).ok()?).ok())
}

fn public_half<T: HasPublic>(key: &PKey<T>) -> Result<PKey<Public>, ErrorStack> {
    PKey::public_key_from_der(&key.public_key_to_der()?)
}

/// The encoding that the intake takes: points of curves are not compressed.
fn canonical(key: &PKey<Public>) -> Result<Vec<u8>, ErrorStack> {
    if key.id() != Id::EC {
        return key.public_key_to_der();
    }
    let ec = key.ec_key()?;
    let mut context = BigNumContext::new()?;
    let form = PointConversionForm::UNCOMPRESSED;
    let octets = ec.public_key().to_bytes(ec.group(), form, &mut context)?;
    let point = openssl::ec::EcPoint::from_bytes(ec.group(), &octets, &mut context)?;
    let group = match ec.group().curve_name() {
        Some(name) => openssl::ec::EcGroup::from_curve_name(name)?,
        None => return key.public_key_to_der(),
    };
    PKey::from_ec_key(EcKey::from_public_key(&group, &point)?)?.public_key_to_der()
}

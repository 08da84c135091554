//! What the tests of this room build requests with: keys, and DER byte by byte.

use std::sync::LazyLock;

use openssl::{
    bn::{BigNum, BigNumContext, BigNumRef},
    ec::{EcGroup, EcKey},
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
};

use crate::intake::der::tag;

pub(super) static RSA: LazyLock<PKey<Private>> =
    LazyLock::new(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());
pub(super) static P256: LazyLock<PKey<Private>> = LazyLock::new(|| ec(Nid::X9_62_PRIME256V1));

pub(super) fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

pub(super) fn number(decimal: &str) -> BigNum {
    BigNum::from_dec_str(decimal).unwrap()
}

pub(super) fn prime(bits: i32) -> BigNum {
    let mut prime = BigNum::new().unwrap();
    prime.generate_prime(bits, false, None, None).unwrap();
    prime
}

pub(super) fn product(a: &BigNumRef, b: &BigNumRef) -> BigNum {
    let mut product = BigNum::new().unwrap();
    product.checked_mul(a, b, &mut BigNumContext::new().unwrap()).unwrap();
    product
}

pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match content.len() {
        length @ 0..0x80 => bytes.push(u8::try_from(length).unwrap()),
        length => {
            let octets: Vec<u8> =
                length.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
            bytes.push(0x80 | u8::try_from(octets.len()).unwrap());
            bytes.extend(octets);
        }
    }
    bytes.extend(content);
    bytes
}

pub(super) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u32> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut content = vec![u8::try_from(arcs[0] * 40 + arcs[1]).unwrap()];
    for arc in &arcs[2..] {
        let septets = (0..5).rev().map(|shift| (arc >> (7 * shift)) & 0x7f);
        let mut septets: Vec<u32> = septets.skip_while(|septet| *septet == 0).collect();
        if septets.is_empty() {
            septets.push(0);
        }
        let last = septets.pop().unwrap();
        content.extend(septets.iter().map(|septet| u8::try_from(septet | 0x80).unwrap()));
        content.push(u8::try_from(last).unwrap());
    }
    tlv(tag::OID, &[&content])
}

/// The Python of the judges that `cargo xtask setup` installs below the build products.
pub(crate) fn judges_python() -> std::path::PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().find(|folder| folder.join("judges/venv/bin/python").is_file());
    let target = target.expect("the judges are not installed; run `cargo xtask setup`");
    target.join("judges/venv/bin/python")
}

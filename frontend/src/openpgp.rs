//! OpenPGP keys (RFC 9580): trimming an upload to what is certified, and checking what came back.
//!
//! Third-party certifications, attributes and user IDs that were not asked for stay here. Secret
//! key material is refused before anything else happens to it and never gets into the queue.

use std::time::{Duration, SystemTime};

use protocol::message::{CertifyOpenPgp, OPENPGP_KEY_MAX, RefusalCode};
use sequoia_openpgp::{
    Cert, Packet,
    cert::{CertParser, amalgamation::ValidAmalgamation},
    packet::{Signature, UserID},
    parse::Parse,
    policy::StandardPolicy,
    serialize::Serialize,
    types::RevocationStatus,
};

use crate::{error::Refusal, verify::BadAnswer};

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

/// Reads the only key in `bytes` and keeps its primary key, the `asked` user IDs and the subkeys,
/// each with its own self-signatures.
pub fn trim(
    bytes: &[u8],
    asked: &[String],
    from: &str,
    unix_us: i64,
) -> Result<TrimmedKey, Refusal> {
    let cert = only_cert(bytes, from)?;
    let valid = usable(&cert, from, unix_us)?;
    let held: Vec<String> = valid
        .userids()
        .filter(|user_id| !matches!(user_id.revocation_status(), RevocationStatus::Revoked(_)))
        .map(|user_id| String::from_utf8_lossy(user_id.userid().value()).into_owned())
        .collect();
    let listed = || match held.is_empty() {
        true => "it has no valid one".to_owned(),
        false => format!("it has `{}`", held.join("`, `")),
    };
    let refuse = |fact| Err(Refusal::new(RefusalCode::OpenPgpUserId, fact));
    if asked.is_empty() {
        return refuse(format!("no --uid names a user ID of {from}, {}", listed()));
    }
    if let Some(missing) = asked.iter().find(|asked| !held.contains(asked)) {
        return refuse(format!("{from} has no valid user ID `{missing}`, {}", listed()));
    }
    let trimmed = serialize(&cert, asked).map_err(|error| {
        Refusal::new(RefusalCode::OpenPgpMalformed, format!("{from} cannot be written: {error}"))
    })?;
    if trimmed.len() > OPENPGP_KEY_MAX {
        let fact = format!(
            "{from} has {} bytes without foreign signatures, at most {OPENPGP_KEY_MAX} fit",
            trimmed.len()
        );
        return Err(Refusal::new(RefusalCode::OpenPgpMalformed, fact));
    }
    Ok(TrimmedKey { bytes: trimmed })
}

/// What goes over the wire without a check: the key without armour if it can be read, else the
/// bytes themselves. Only secret key material is refused here as well (invariant I15).
pub fn read_unchecked(bytes: &[u8], from: &str) -> Result<Vec<u8>, Refusal> {
    match only_cert(bytes, from) {
        Err(refusal) if refusal.code == RefusalCode::OpenPgpSecret => Err(refusal),
        Err(_) => Ok(bytes.to_vec()),
        Ok(cert) => {
            let mut binary = Vec::new();
            // Writing into memory cannot fail; if it did, the bytes as given go instead.
            Ok(cert.serialize(&mut binary).map_or_else(|_| bytes.to_vec(), |()| binary))
        }
    }
}

/// The key in `bytes`, armoured or binary.
fn only_cert(bytes: &[u8], from: &str) -> Result<Cert, Refusal> {
    let malformed = |fact: String| Refusal::new(RefusalCode::OpenPgpMalformed, fact);
    let text = String::from_utf8_lossy(bytes);
    if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
        return Err(secret(from));
    }
    if text.matches("-----BEGIN PGP ").count() > 1 {
        return Err(malformed(format!("{from} holds more than one armoured block")));
    }
    let parser = CertParser::from_bytes(bytes)
        .map_err(|error| malformed(format!("{from} is no OpenPGP key: {error}")))?;
    let mut certs = Vec::new();
    for cert in parser.take(2) {
        let cert = cert.map_err(|error| malformed(format!("{from} is no OpenPGP key: {error}")))?;
        if cert.is_tsk() {
            return Err(secret(from));
        }
        certs.push(cert);
    }
    match (certs.pop(), certs.pop()) {
        (Some(cert), None) => Ok(cert),
        (None, _) => Err(malformed(format!("{from} holds no OpenPGP key"))),
        (Some(_), Some(_)) => Err(malformed(format!("{from} holds more than one key"))),
    }
}

fn secret(from: &str) -> Refusal {
    Refusal::new(RefusalCode::OpenPgpSecret, format!("{from} holds secret key material"))
}

fn usable<'c>(
    cert: &'c Cert,
    from: &str,
    unix_us: i64,
) -> Result<sequoia_openpgp::cert::ValidCert<'c>, Refusal> {
    let refuse = |fact: String| Refusal::new(RefusalCode::OpenPgpKey, fact);
    let valid = cert
        .with_policy(POLICY, system_time(unix_us))
        .map_err(|error| refuse(format!("{from} is not acceptable: {error}")))?;
    if matches!(valid.revocation_status(), RevocationStatus::Revoked(_)) {
        return Err(refuse(format!("{from} is revoked")));
    }
    valid.alive().map_err(|error| refuse(format!("{from} is not valid now: {error}")))?;
    Ok(valid)
}

fn serialize(cert: &Cert, asked: &[String]) -> sequoia_openpgp::Result<Vec<u8>> {
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
    for user_id in cert.userids() {
        if is_asked(user_id.userid(), asked) {
            Packet::from(user_id.userid().clone()).serialize(&mut bytes)?;
            all(&mut bytes, user_id.self_revocations().chain(user_id.self_signatures()))?;
        }
    }
    for subkey in cert.keys().subkeys() {
        Packet::from(subkey.key().clone()).serialize(&mut bytes)?;
        all(&mut bytes, subkey.self_revocations().chain(subkey.self_signatures()))?;
    }
    Ok(bytes)
}

fn is_asked(user_id: &UserID, asked: &[String]) -> bool {
    asked.iter().any(|asked| asked.as_bytes() == user_id.value())
}

fn system_time(unix_us: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(unix_us).unwrap_or(0))
}

const POLICY: &StandardPolicy<'static> = &StandardPolicy::new();

//------------ What came back ------------------------------------------------

/// A certified key that passed every check; only [`certified`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedCertification {
    bytes: Vec<u8>,
    fingerprint: String,
}

impl VerifiedCertification {
    /// The transferable public key with the certifications, binary.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The primary key's fingerprint in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Checks the key `bytes`, which `signer` is said to have certified for `request`.
pub fn certified(
    signer: &Cert,
    request: &CertifyOpenPgp,
    bytes: &[u8],
) -> Result<VerifiedCertification, BadAnswer> {
    let bad = |text: String| BadAnswer::OpenPgp(text);
    let cert = only_cert(bytes, "the answer").map_err(|refusal| bad(refusal.text))?;
    let asked_cert = only_cert(&request.key, "the request").map_err(|refusal| bad(refusal.text))?;
    if cert.fingerprint() != asked_cert.fingerprint() {
        return Err(bad(format!(
            "has fingerprint {} where {} was asked for",
            cert.fingerprint(),
            asked_cert.fingerprint()
        )));
    }
    let asked: Vec<String> = request.user_ids.iter().map(|text| text.to_string()).collect();
    for text in &asked {
        let user_id = cert.userids().find(|user_id| user_id.userid().value() == text.as_bytes());
        let certification = user_id.and_then(|user_id| {
            user_id.certifications().find(|s| verifies(s, signer, &cert, user_id.userid()))
        });
        let Some(certification) = certification else {
            return Err(bad(format!("has no valid certification of user ID `{text}`")));
        };
        let longest = request.days.map(|days| Duration::from_secs(u64::from(days) * 86_400));
        let period = certification.signature_validity_period();
        if longest.is_some_and(|longest| period.is_none_or(|period| period > longest)) {
            return Err(bad(format!("certifies `{text}` for longer than was asked for")));
        }
    }
    for user_id in cert.userids().filter(|user_id| !is_asked(user_id.userid(), &asked)) {
        if user_id.certifications().any(|s| verifies(s, signer, &cert, user_id.userid())) {
            let text = String::from_utf8_lossy(user_id.userid().value());
            return Err(bad(format!("certifies user ID `{text}`, which was not asked for")));
        }
    }
    Ok(VerifiedCertification { bytes: bytes.to_vec(), fingerprint: cert.fingerprint().to_hex() })
}

fn verifies(signature: &Signature, signer: &Cert, cert: &Cert, user_id: &UserID) -> bool {
    let key = signer.primary_key();
    signature.verify_userid_binding(key.key(), cert.primary_key().key(), user_id).is_ok()
}

/// `bytes` with ASCII armour, for `frontend get`.
pub fn armour(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;

    use sequoia_openpgp::armor::{Kind, Writer};

    let mut writer = Writer::new(Vec::new(), Kind::PublicKey)?;
    writer.write_all(bytes)?;
    writer.finalize()
}

#[cfg(test)]
mod tests {
    use protocol::message::RequestId;
    use sequoia_openpgp::{
        cert::CertBuilder,
        packet::signature::SignatureBuilder,
        types::{KeyFlags, SignatureType},
    };

    use super::*;

    const CREATED_US: i64 = 1_790_000_000_000_000;
    const NOW_US: i64 = CREATED_US + 1_000_000;

    fn key(user_ids: &[&str]) -> Cert {
        let builder = user_ids.iter().fold(CertBuilder::new(), |b, id| b.add_userid(*id));
        builder
            .set_creation_time(system_time(CREATED_US))
            .set_primary_key_flags(KeyFlags::empty().set_certification())
            .add_transport_encryption_subkey()
            .generate()
            .unwrap()
            .0
    }

    fn public(cert: &Cert) -> Vec<u8> {
        let mut bytes = Vec::new();
        cert.clone().strip_secret_key_material().serialize(&mut bytes).unwrap();
        bytes
    }

    fn certify(signer: &Cert, cert: &Cert, user_id: &str, days: u64) -> Cert {
        let mut keypair =
            signer.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
        let user_id = cert
            .userids()
            .find(|amalgamation| amalgamation.userid().value() == user_id.as_bytes())
            .unwrap()
            .userid()
            .clone();
        let signature = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_signature_creation_time(system_time(NOW_US))
            .unwrap()
            .set_signature_validity_period(Duration::from_secs(days * 86_400))
            .unwrap();
        let signature = user_id.bind(&mut keypair, cert, signature).unwrap();
        cert.clone().insert_packets(vec![Packet::from(user_id), signature.into()]).unwrap().0
    }

    fn request(cert: &Cert, user_ids: &[&str], days: Option<u32>) -> CertifyOpenPgp {
        let texts = user_ids.iter().map(|text| (*text).try_into().unwrap()).collect::<Vec<_>>();
        CertifyOpenPgp {
            id: RequestId::from_bytes([1; 16]),
            user_ids: texts.try_into().unwrap(),
            days,
            key: public(cert).try_into().unwrap(),
        }
    }

    #[test]
    fn an_upload_is_trimmed_to_what_is_certified() {
        let stranger = key(&["stranger"]);
        let cert = certify(&stranger, &key(&["Zoë <z@a.example>", "other"]), "other", 5);
        let asked = ["Zoë <z@a.example>".to_owned()];
        let trimmed = trim(&public(&cert), &asked, "`k`", NOW_US).unwrap().into_bytes();
        let back = Cert::from_bytes(&trimmed).unwrap();
        assert_eq!(back.fingerprint(), cert.fingerprint());
        assert_eq!(back.userids().count(), 1);
        assert_eq!(back.keys().subkeys().count(), 1);
        assert_eq!(back.userids().next().unwrap().certifications().count(), 0);
        back.with_policy(POLICY, system_time(NOW_US)).unwrap().primary_userid().unwrap();
        let armoured = armour(&public(&cert)).unwrap();
        assert_eq!(trim(&armoured, &asked, "`k`", NOW_US).unwrap().into_bytes(), trimmed);
    }

    #[test]
    fn uploads_are_refused_with_their_codes() {
        let cert = key(&["a"]);
        let asked = ["a".to_owned()];
        let code =
            |bytes: &[u8], asked: &[String], now| trim(bytes, asked, "`k`", now).unwrap_err().code;
        let mut secret = Vec::new();
        cert.as_tsk().serialize(&mut secret).unwrap();
        assert_eq!(code(&secret, &asked, NOW_US), RefusalCode::OpenPgpSecret);
        assert!(read_unchecked(&secret, "`k`").is_err(), "not even unchecked");
        let bytes = public(&cert);
        assert_eq!(code(b"junk", &asked, NOW_US), RefusalCode::OpenPgpMalformed);
        assert_eq!(code(b"", &asked, NOW_US), RefusalCode::OpenPgpMalformed);
        assert_eq!(code(&bytes.repeat(2), &asked, NOW_US), RefusalCode::OpenPgpMalformed);
        assert_eq!(code(&bytes, &["b".to_owned()], NOW_US), RefusalCode::OpenPgpUserId);
        let refusal = trim(&bytes, &[], "`k`", NOW_US).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OpenPgpUserId);
        assert!(refusal.text.contains("it has `a`"), "{}", refusal.text);
        assert_eq!(code(&bytes, &asked, CREATED_US - 86_400_000_000), RefusalCode::OpenPgpKey);
    }

    #[test]
    fn exactly_the_asked_user_ids_must_be_certified_by_the_signer() {
        let signer = key(&["CA"]);
        let cert = key(&["a", "b"]);
        let both = certify(&signer, &certify(&signer, &cert, "a", 30), "b", 30);
        let one = certify(&signer, &cert, "a", 30);
        let judge =
            |request: &CertifyOpenPgp, answer: &Cert| certified(&signer, request, &public(answer));
        let verified = judge(&request(&cert, &["a"], Some(30)), &one).unwrap();
        assert_eq!(verified.fingerprint(), cert.fingerprint().to_hex());
        judge(&request(&cert, &["a", "b"], None), &both).unwrap();

        let too_long = judge(&request(&cert, &["a"], Some(29)), &one).unwrap_err();
        assert!(too_long.to_string().contains("longer"), "{too_long}");
        assert!(judge(&request(&cert, &["a", "b"], None), &one).is_err(), "b is missing");
        assert!(judge(&request(&cert, &["a"], None), &both).is_err(), "b was not asked for");
        assert!(judge(&request(&cert, &["a"], None), &cert).is_err(), "nothing is certified");
        let stranger = certify(&key(&["X"]), &cert, "a", 30);
        assert!(judge(&request(&cert, &["a"], None), &stranger).is_err(), "by somebody else");
        let other = certify(&signer, &key(&["a"]), "a", 30);
        assert!(judge(&request(&cert, &["a"], None), &other).is_err(), "another key");
    }
}

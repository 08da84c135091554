//! Checks a certificate that the signer sent, before anything of it is stored.
//!
//! An answer must be signed by the pinned authority, for the CSR's key, with the names that were
//! asked for, and within the issuer's validity. Only [`issued`] makes a [`VerifiedCertificate`].

use openssl::pkey::PKey;
use protocol::message::{CsrForm, GeneralName, IssueCertificate, Serial};

use crate::{
    catalogue::Authority,
    names::{self, CsrNames, FlatName},
    spkac,
};

mod parts;

use parts::Certificate;

/// Why an answer is not believed. A retry helps only if the signer or the pins change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// The bytes are no certificate.
    #[error("the answer cannot be parsed: {0}")]
    Unparsable(String),
    /// The authority is not in any catalogue that was accepted.
    #[error("authority `{0}` is not pinned")]
    AuthorityUnknown(String),
    /// The issuer's name is not the authority's subject, byte for byte.
    #[error("the certificate names another issuer than authority `{0}`")]
    Issuer(String),
    /// The signature was not made by the authority's key, or with a digest nobody believes.
    #[error("the certificate is not signed by authority `{0}`")]
    Signature(String),
    /// The public key is not the CSR's.
    #[error("the certificate is for another key than the CSR's")]
    Key,
    /// The subject is not what was asked for.
    #[error("the certificate's subject is `{got}` where `{asked}` was asked for")]
    Subject {
        /// What was asked for.
        asked: String,
        /// What is in the certificate.
        got: String,
    },
    /// The subject alternative names are not what was asked for.
    #[error("the certificate's names are `{got}` where `{asked}` were asked for")]
    Names {
        /// What was asked for.
        asked: String,
        /// What is in the certificate.
        got: String,
    },
    /// It ends before it begins, after its issuer, or later than was asked for.
    #[error("the certificate's validity {0}")]
    Validity(&'static str),
    /// It is a CA certificate, which nobody gets over the cable.
    #[error("the certificate is a CA's")]
    IsCa,
    /// The authority used this serial before.
    #[error("authority `{authority}` used serial {serial} before")]
    SerialSeen {
        /// Whose serial.
        authority: String,
        /// Which.
        serial: String,
    },
    /// The answer is one for another kind of request.
    #[error("the answer is of another kind than the request")]
    OtherKind,
    /// The OpenPGP answer is not what was asked for.
    #[error("the certified key {0}")]
    OpenPgp(String),
}

/// A certificate that passed every check here; whether its serial is new, the inventory knows.
#[derive(Clone, Debug)]
pub struct VerifiedCertificate {
    der: Vec<u8>,
    serial: Serial,
    subject: FlatName,
    not_before: i64,
    not_after: i64,
}

impl VerifiedCertificate {
    /// Its DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Its subject.
    pub fn subject(&self) -> &FlatName {
        &self.subject
    }

    /// The first and the last second of its validity.
    pub fn validity(&self) -> (i64, i64) {
        (self.not_before, self.not_after)
    }
}

/// Checks the certificate `der`, which `authority` is said to have issued for `request`.
pub fn issued(
    authority: &Authority,
    request: &IssueCertificate,
    der: &[u8],
) -> Result<VerifiedCertificate, BadAnswer> {
    let name = || authority.name.to_string();
    let certificate = Certificate::read(der).map_err(unparsable)?;

    if certificate.issuer != authority.subject() {
        return Err(BadAnswer::Issuer(name()));
    }
    let (tbs, signature) = (certificate.tbs, certificate.signature);
    if !certificate.algorithm.is_some_and(|one| one.verify(authority.key(), tbs, signature)) {
        return Err(BadAnswer::Signature(name()));
    }

    let (key, csr_names) = asked_by_csr(request)?;
    if !is_same_key(certificate.key, key) {
        return Err(BadAnswer::Key);
    }

    let subject = certificate.subject;
    let asked = match &request.subject {
        Some(subject) => {
            subject.iter().map(|a| (a.kind.short_name().to_owned(), a.value.to_string())).collect()
        }
        None => csr_names.subject,
    };
    let profile = authority.profile(&request.profile);
    let as_asked = match profile.is_none_or(|profile| profile.subject_as_asked) {
        true => subject == asked,
        false => is_part_of(&subject, &asked),
    };
    if !as_asked {
        let (asked, got) = (names::show(&asked), names::show(&subject));
        return Err(BadAnswer::Subject { asked, got });
    }

    let asked_subject = asked;
    let asked = match &request.subject_alt_names {
        Some(names) => names.to_vec(),
        None => csr_names.subject_alt_names.unwrap_or_default(),
    };
    let extensions = &certificate.extensions;
    let got = names::subject_alt_names(extensions).map_err(unparsable)?.unwrap_or_default();
    let as_asked = match asked.is_empty() {
        // Of the subject that was asked for: a profile may move an address out of it.
        true => got.iter().all(|name| is_of_subject(name, &asked_subject)),
        false => sorted(&asked) == sorted(&got),
    };
    if !as_asked {
        let (asked, got) = (sorted(&asked).join(", "), sorted(&got).join(", "));
        return Err(BadAnswer::Names { asked, got });
    }
    if names::is_ca(extensions).map_err(unparsable)? {
        return Err(BadAnswer::IsCa);
    }

    let (not_before, not_after) = validity(certificate.validity, authority, request.days)?;
    let serial = certificate.serial;
    Ok(VerifiedCertificate { der: der.to_vec(), serial, subject, not_before, not_after })
}

/// The key of the request's CSR, and the names that it asks for by itself. An SPKAC has none.
fn asked_by_csr(request: &IssueCertificate) -> Result<(&[u8], CsrNames), BadAnswer> {
    match request.form {
        CsrForm::Pkcs10 => parts::csr(&request.csr).map_err(|_| BadAnswer::Key),
        CsrForm::Spkac => {
            let key = spkac::public_key(&request.csr).ok_or(BadAnswer::Key)?;
            Ok((key, CsrNames::default()))
        }
    }
}

/// Whether two SubjectPublicKeyInfos are of one key. The signer repeats a CSR's byte for byte; only
/// one that spells it otherwise must be decoded.
fn is_same_key(certified: &[u8], asked: &[u8]) -> bool {
    let key = |spki| PKey::public_key_from_der(spki).ok();
    certified == asked
        || key(certified).zip(key(asked)).is_some_and(|(ours, theirs)| ours.public_eq(&theirs))
}

fn validity(
    times: Option<(i64, i64)>,
    authority: &Authority,
    days: Option<u32>,
) -> Result<(i64, i64), BadAnswer> {
    let Some((not_before, not_after)) = times else {
        return Err(BadAnswer::Validity("cannot be read"));
    };
    if not_after < not_before {
        return Err(BadAnswer::Validity("ends before it begins"));
    }
    // Invariant I13.
    if not_after > authority.not_after() {
        return Err(BadAnswer::Validity("ends after its issuer's"));
    }
    // RFC 5280 4.1.2.5: both ends count, so n days are n × 86,400 seconds inclusively.
    let seconds = not_after - not_before + 1;
    if days.is_some_and(|days| seconds > i64::from(days) * 86_400) {
        return Err(BadAnswer::Validity("is longer than was asked for"));
    }
    Ok((not_before, not_after))
}

/// Whether every attribute of `subject` was asked for, each as often as it stands there. One that
/// was asked for may be missing, but not all of them.
fn is_part_of(subject: &FlatName, asked: &FlatName) -> bool {
    let mut left = asked.clone();
    let taken = subject.iter().all(|attribute| match left.iter().position(|a| a == attribute) {
        Some(position) => {
            left.swap_remove(position);
            true
        }
        None => false,
    });
    taken && subject.is_empty() == asked.is_empty()
}

/// Whether a name that nobody asked for repeats what the subject says: where no name at all is
/// asked for, a profile may take those of the subject (BR 7.1.4.3 wants them as names).
fn is_of_subject(name: &GeneralName, subject: &FlatName) -> bool {
    let text = name.to_string();
    let value = text.split_once(':').map_or("", |(_, value)| value);
    let fits = |kind: &str| match name {
        GeneralName::Email(_) => kind == "emailAddress",
        GeneralName::Dns(_) | GeneralName::Ip4(_) | GeneralName::Ip6(_) => kind == "CN",
        GeneralName::Uri(_) | GeneralName::Xmpp(_) => false,
    };
    subject.iter().any(|(kind, said)| fits(kind) && said.eq_ignore_ascii_case(value))
}

/// Names as texts in one order; host names compare without case (RFC 4343), also those in
/// addresses (RFC 5280 7.5, RFC 7622 3.2).
fn sorted(names: &[GeneralName]) -> Vec<String> {
    let mut texts: Vec<String> = names
        .iter()
        .map(|name| match name {
            GeneralName::Dns(dns) => format!("dns:{}", dns.to_ascii_lowercase()),
            GeneralName::Email(address) => format!("email:{}", with_plain_host(address, "")),
            GeneralName::Xmpp(address) => {
                let (bare, resource) = match address.find('/') {
                    Some(slash) => address.split_at(slash),
                    None => (&**address, ""),
                };
                format!("xmpp:{}", with_plain_host(bare, resource))
            }
            other => other.to_string(),
        })
        .collect();
    texts.sort();
    texts
}

/// `address` with its host in small letters, and `rest` as it is.
fn with_plain_host(address: &str, rest: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, host)) => format!("{local}@{}{rest}", host.to_ascii_lowercase()),
        None => format!("{}{rest}", address.to_ascii_lowercase()),
    }
}

fn unparsable(error: impl std::fmt::Display) -> BadAnswer {
    BadAnswer::Unparsable(error.to_string())
}

#[cfg(test)]
mod tests {
    use openssl::{hash::MessageDigest, pkey::Private};
    use protocol::message::RequestId;

    use super::*;
    use crate::{
        catalogue::Catalogues,
        spkac::tests::ECDSA_SHA256,
        store::Store,
        subject,
        test_ca::{CertificateRecipe, CsrRecipe, TestCa, ec_key},
    };

    struct Case {
        ca: TestCa,
        authority: Authority,
        key: PKey<Private>,
        request: IssueCertificate,
    }

    /// An authority, and a request for `/C=DE/CN=Jürgen` with two names.
    fn case() -> Case {
        let ca = TestCa::new("Root").issuing("Issuing");
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("s")).unwrap();
        let catalogues = Catalogues(store.connection());
        catalogues.receive(&ca.catalogue("issuing"), 1).unwrap();
        let authority = catalogues.trusted().unwrap().authorities.into_values().next().unwrap();
        let key = ec_key();
        let csr = CsrRecipe::new(&key, "from the csr").dns("csr.example").build();
        let names = ["dns:Host.Example", "ip:2001:db8::1"].map(|name| name.parse().unwrap());
        let request = IssueCertificate {
            form: protocol::message::CsrForm::Pkcs10,
            id: RequestId::from_bytes([1; 16]),
            authority: "issuing".parse().unwrap(),
            profile: "server".parse().unwrap(),
            days: Some(90),
            subject: Some(subject::parse("/C=DE/CN=Jürgen").unwrap()),
            subject_alt_names: Some(names.to_vec().try_into().unwrap()),
            csr: csr.to_der().unwrap().try_into().unwrap(),
        };
        Case { ca, authority, key, request }
    }

    impl Case {
        fn recipe(&self) -> CertificateRecipe<'_> {
            CertificateRecipe::new(&self.ca, &self.key)
                .subject(&[("C", "DE"), ("CN", "Jürgen")])
                .names(&["IP:2001:db8::1", "DNS:host.example"])
        }

        fn judge(&self, recipe: CertificateRecipe<'_>) -> Result<VerifiedCertificate, BadAnswer> {
            issued(&self.authority, &self.request, &recipe.build())
        }
    }

    #[test]
    fn the_certificate_that_was_asked_for_is_believed_and_utf_8_stays_utf_8() {
        let case = case();
        let verified = case.judge(case.recipe().serial(0x1234)).unwrap();
        assert_eq!(verified.serial().to_string(), "1234");
        assert_eq!(verified.subject()[1], ("CN".to_owned(), "Jürgen".to_owned()));
    }

    #[test]
    fn without_any_asked_name_only_those_of_the_subject_are_taken() {
        let subject = [("CN", "Host.example"), ("emailAddress", "a@b.example")]
            .map(|(k, v)| (k.into(), v.into()));
        let takes = |name: &str| is_of_subject(&name.parse().unwrap(), &subject.to_vec());
        assert!(takes("dns:host.example") && takes("email:a@b.example"));
        assert!(!takes("dns:other.example") && !takes("dns:a@b.example"));
        assert!(!takes("uri:host.example") && !takes("email:host.example"));
    }

    #[test]
    fn a_profile_that_arranges_subjects_may_leave_out_and_reorder_but_not_add() {
        let mut case = case();
        case.request.subject = Some(subject::parse("/C=DE/OU=a/OU=b/CN=x").unwrap());
        let judge = |case: &Case, attributes: &[(&str, &str)]| {
            case.judge(case.recipe().subject(attributes)).map(drop)
        };
        let reordered = [("CN", "x"), ("OU", "b"), ("C", "DE")];
        let asked = [("C", "DE"), ("OU", "a"), ("OU", "b"), ("CN", "x")];
        judge(&case, &asked).unwrap();
        assert!(matches!(judge(&case, &reordered), Err(BadAnswer::Subject { .. })));
        case.request.profile = "arranged".parse().unwrap();
        judge(&case, &asked).unwrap();
        judge(&case, &reordered).unwrap();
        let bad: [&[(&str, &str)]; 4] =
            [&[("CN", "y")], &[("CN", "x"), ("O", "added")], &[("OU", "a"), ("OU", "a")], &[]];
        for attributes in bad {
            assert!(matches!(judge(&case, attributes), Err(BadAnswer::Subject { .. })));
        }
        case.request.profile = "unknown".parse().unwrap();
        assert!(matches!(judge(&case, &reordered), Err(BadAnswer::Subject { .. })));
    }

    #[test]
    fn names_compare_without_the_case_of_their_hosts_only() {
        let same =
            |a: &str, b: &str| sorted(&[a.parse().unwrap()]) == sorted(&[b.parse().unwrap()]);
        assert!(same("email:Me@Host.Example", "email:Me@host.example"));
        assert!(same("xmpp:me@IM.example/Desk", "xmpp:me@im.example/Desk"));
        assert!(same("xmpp:IM.example", "xmpp:im.example"));
        assert!(!same("email:Me@host.example", "email:me@host.example"));
        assert!(!same("xmpp:me@im.example/Desk", "xmpp:me@im.example/desk"));
        assert!(!same("xmpp:me@im.example", "email:me@im.example"));
    }

    #[test]
    fn an_answer_to_an_spkac_is_for_its_key_and_for_the_names_of_the_request_only() {
        let mut case = case();
        let spkac =
            |key: &PKey<Private>| spkac::tests::spkac(key, MessageDigest::sha256(), &ECDSA_SHA256);
        case.request.form = CsrForm::Spkac;
        case.request.csr = spkac(&case.key).try_into().unwrap();
        case.judge(case.recipe()).unwrap();
        case.request.csr = spkac(&ec_key()).try_into().unwrap();
        assert_eq!(case.judge(case.recipe()).unwrap_err(), BadAnswer::Key);
        case.request.csr = vec![0x30, 0x00].try_into().unwrap();
        assert_eq!(case.judge(case.recipe()).unwrap_err(), BadAnswer::Key);
        case.request.csr = spkac(&case.key).try_into().unwrap();
        case.request.subject = None;
        assert!(matches!(case.judge(case.recipe()), Err(BadAnswer::Subject { .. })));
    }

    #[test]
    fn names_from_the_csr_are_expected_when_none_are_asked_for() {
        let mut case = case();
        case.request.subject = None;
        case.request.subject_alt_names = None;
        assert!(matches!(case.judge(case.recipe()), Err(BadAnswer::Subject { .. })));
        let recipe = case.recipe().subject(&[("CN", "from the csr")]);
        assert!(matches!(case.judge(recipe), Err(BadAnswer::Names { .. })));
        let recipe = case.recipe().subject(&[("CN", "from the csr")]).names(&["DNS:csr.example"]);
        case.judge(recipe).unwrap();
    }

    #[test]
    fn wrong_key_name_issuer_signature_and_validity_are_each_noticed() {
        let case = case();
        let other_key = ec_key();
        let recipe = CertificateRecipe::new(&case.ca, &other_key)
            .subject(&[("C", "DE"), ("CN", "Jürgen")])
            .names(&["IP:2001:db8::1", "DNS:host.example"]);
        assert_eq!(case.judge(recipe).unwrap_err(), BadAnswer::Key);

        let recipe = case.recipe().subject(&[("C", "DE"), ("CN", "Juergen")]);
        assert!(matches!(case.judge(recipe), Err(BadAnswer::Subject { .. })));
        let recipe = case.recipe().names(&["DNS:host.example"]);
        assert!(matches!(case.judge(recipe), Err(BadAnswer::Names { .. })));
        let more = ["IP:2001:db8::1", "DNS:host.example", "DNS:bank.example"];
        assert!(matches!(case.judge(case.recipe().names(&more)), Err(BadAnswer::Names { .. })));

        let stranger = TestCa::new("Stranger");
        let recipe = case.recipe().signed_by(&stranger);
        assert!(matches!(case.judge(recipe), Err(BadAnswer::Issuer(_))));
        let namesake = TestCa::new("Root").issuing("Issuing");
        let recipe = case.recipe().signed_by(&namesake);
        assert!(matches!(case.judge(recipe), Err(BadAnswer::Signature(_))));

        let recipe = case.recipe().days(91);
        assert!(matches!(case.judge(recipe), Err(BadAnswer::Validity(_))));
        let recipe = case.recipe().ca();
        assert_eq!(case.judge(recipe).unwrap_err(), BadAnswer::IsCa);
    }

    #[test]
    fn validity_past_the_issuers_end_is_noticed() {
        let mut case = case();
        case.request.days = None;
        let recipe = case.recipe().days(100_000);
        let expected = BadAnswer::Validity("ends after its issuer's");
        assert_eq!(case.judge(recipe).unwrap_err(), expected);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let case = case();
        let good = case.recipe().build();
        assert!(issued(&case.authority, &case.request, &good).is_ok());
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x01;
            assert!(issued(&case.authority, &case.request, &bad).is_err(), "byte {index}");
            assert!(issued(&case.authority, &case.request, &good[..index]).is_err());
        }
    }
}

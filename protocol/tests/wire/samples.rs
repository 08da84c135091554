//! One message of every kind, with every kind of field.

use std::fmt::Debug;

use protocol::{
    bounded::List,
    message::{
        Answer, ApprovedUserId, Attribute, AttributeType, AuthorityEntry, Catalogue,
        CatalogueQuery, CertificationLevel, CertifyOpenPgp, CrlPiece, CrlScope, CsrForm, Digest,
        FetchCrl, FetchLog, IssueCertificate, LogPiece, Name, OpenPgpEntry, OpenPgpPolicyEntry,
        OpenPgpReason, ProfileEntry, RefusalCode, Request, RequestId, RevocationReason, Revoke,
        RevokeOpenPgp, Serial, SerialHigh, SignerStatus, TimeHint,
    },
};
pub(crate) fn id(first: u8) -> RequestId {
    RequestId::from_bytes(octets(first))
}

pub(crate) fn digest(first: u8) -> Digest {
    Digest::from_bytes(octets(first))
}

/// `first`, `first + 1`, ...
pub(crate) fn octets<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}

pub(crate) fn issuing() -> Name {
    "issuing".parse().unwrap()
}

pub(crate) fn list<T: Debug, const N: usize>(items: Vec<T>) -> List<T, N> {
    items.try_into().unwrap()
}

pub(crate) const SERIAL: [u8; 17] = [0, 0x80, 0, 0, 0, 0, 0, 0, 0x12, 0x67, 1, 2, 3, 4, 5, 6, 7];

pub(crate) fn csr() -> Vec<u8> {
    [&[0x30, 0x82][..], &octets::<254>(0)].concat()
}

pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    vec![
        (
            "time-hint",
            Request::TimeHint(TimeHint {
                unix_us: 1_795_305_600_000_000,
                round_trip_us: Some(81_234),
                synchronised: true,
            }),
        ),
        ("status", Request::Status),
        (
            "catalogue",
            Request::Catalogue(CatalogueQuery {
                have: Some(digest(0)),
                serial_high: list(vec![SerialHigh {
                    authority: issuing(),
                    counter: 1 << 63 | 4711,
                }]),
            }),
        ),
        ("issue", Request::Issue(issue())),
        (
            "certify",
            Request::Certify(CertifyOpenPgp {
                id: id(0x10),
                authority: "people".parse().unwrap(),
                policy: Some("checked".parse().unwrap()),
                user_ids: list(vec![
                    ApprovedUserId::Exact("Ana <ana@example.org>".try_into().unwrap()),
                    ApprovedUserId::Address {
                        name: "Ana".try_into().unwrap(),
                        address: "a@example.net".try_into().unwrap(),
                    },
                ]),
                days: None,
                renew: true,
                key: vec![0x99, 0x01, 0x0d, 0x04].try_into().unwrap(),
            }),
        ),
        (
            "revoke",
            Request::Revoke(Revoke {
                id: id(0x10),
                authority: issuing(),
                serial: Serial::from_magnitude(&SERIAL).unwrap(),
                reason: RevocationReason::KeyCompromise,
            }),
        ),
        (
            "fetch-crl",
            Request::FetchCrl(FetchCrl {
                authority: issuing(),
                scope: CrlScope::Shard(7),
                have: Some(digest(0)),
                resume: Some((digest(0x80), 32_768)),
            }),
        ),
        ("acknowledge", Request::Acknowledge(list(vec![id(0x10), id(0x20)]))),
        (
            "fetch-log",
            Request::FetchLog(FetchLog { after: 4711, head: Some(digest(0)), offset: 250 }),
        ),
        (
            "revoke-openpgp",
            Request::RevokeOpenPgp(RevokeOpenPgp {
                id: id(0x10),
                authority: "people".parse().unwrap(),
                fingerprint: "0123456789ABCDEF0123456789ABCDEF01234567".try_into().unwrap(),
                user_id: Some("Ana <ana@example.org>".try_into().unwrap()),
                reason: OpenPgpReason::UserIdInvalid,
            }),
        ),
    ]
}

pub(crate) fn issue() -> IssueCertificate {
    let attribute = |kind, value: &str| Attribute { kind, value: value.try_into().unwrap() };
    let names = [
        "dns:host.example.org",
        "ip:192.0.2.1",
        "ip:2001:db8::1",
        "email:ana@example.org",
        "uri:https://example.org/",
        "xmpp:ana@example.org",
    ];
    IssueCertificate {
        id: id(0x10),
        authority: issuing(),
        profile: "server".parse().unwrap(),
        days: Some(90),
        subject: Some(list(vec![
            attribute(AttributeType::OrganizationName, "CAcert Inc."),
            attribute(AttributeType::CommonName, "höst.example.org"),
        ])),
        subject_alt_names: Some(list(names.map(|name| name.parse().unwrap()).into())),
        form: CsrForm::Spkac,
        csr: csr().try_into().unwrap(),
    }
}

pub(crate) fn answers() -> Vec<(&'static str, Answer)> {
    let id = id(0x10);
    let authority = issuing();
    vec![
        ("time-hint-taken", Answer::TimeHintTaken { unix_us: -86_400_000_000 }),
        (
            "status",
            Answer::Status(SignerStatus {
                version: "0.1.0".try_into().unwrap(),
                uptime_s: 86_400,
                issued: 350_000,
                held: 2,
                warnings: list(vec!["the clock differs by 41 s".try_into().unwrap()]),
            }),
        ),
        ("catalogue-unchanged", Answer::CatalogueUnchanged),
        ("catalogue", Answer::Catalogue(catalogue())),
        (
            "issued",
            Answer::Issued { id, certificate: vec![0x30, 0x82, 4, 0xf3].try_into().unwrap() },
        ),
        ("certified", Answer::Certified { id, certificate: vec![0x99, 2].try_into().unwrap() }),
        ("revoked", Answer::Revoked { id, revoked_at: 1_795_305_600 }),
        (
            "refused",
            Answer::Refused {
                id,
                code: RefusalCode::Validity,
                text: "the profile allows 199 days".try_into().unwrap(),
            },
        ),
        (
            "quarantined",
            Answer::Quarantined { id, text: "the intake stopped after 5 s".try_into().unwrap() },
        ),
        ("held", Answer::Held { id, ticket: 251 }),
        (
            "crl-unchanged",
            Answer::CrlUnchanged { authority: authority.clone(), scope: CrlScope::Full },
        ),
        (
            "crl-piece",
            Answer::CrlPiece(CrlPiece {
                authority: authority.clone(),
                scope: CrlScope::Delta,
                crl_number: 65_536,
                crl_digest: digest(0),
                crl_length: 5_093_855,
                packed_digest: digest(0x80),
                packed_length: 16_167,
                offset: 250,
                bytes: vec![1, 2, 3].try_into().unwrap(),
            }),
        ),
        ("crl-unknown", Answer::CrlUnknown { authority, scope: CrlScope::Full }),
        (
            "log-piece",
            Answer::LogPiece(LogPiece {
                first: 4712,
                offset: 250,
                bytes: b"\"n\":4712}\n".to_vec().try_into().unwrap(),
                last: 65_536,
                head: digest(0x80),
            }),
        ),
        ("log-differs", Answer::LogDiffers { last: 251, head: digest(0) }),
        (
            "certification-revoked",
            Answer::CertificationRevoked {
                id,
                revoked_at: 1_795_305_600,
                certificate: vec![0x99, 2].try_into().unwrap(),
            },
        ),
    ]
}

pub(crate) fn catalogue() -> Catalogue {
    Catalogue {
        authorities: list(vec![AuthorityEntry {
            name: issuing(),
            certificate: vec![0x30, 3, 1, 2, 3].try_into().unwrap(),
            chain: list(vec![vec![0x30, 1, 9].try_into().unwrap()]),
            profiles: list(vec![ProfileEntry {
                name: "server".parse().unwrap(),
                console_only: false,
                days_default: 90,
                days_max: 199,
                name_types: list(vec!["dns".try_into().unwrap(), "ip".try_into().unwrap()]),
                subject_as_asked: true,
            }]),
            delta_crl: true,
            crl_shards: 16,
        }]),
        openpgp: list(vec![OpenPgpEntry {
            name: "people".parse().unwrap(),
            certificate: vec![0xc6, 0x33].try_into().unwrap(),
            policies: list(vec![OpenPgpPolicyEntry {
                name: "checked".parse().unwrap(),
                level: CertificationLevel::Positive,
                days_default: 365,
                days_max: 731,
                key_kinds: list(vec!["rsa".try_into().unwrap(), "ed25519".try_into().unwrap()]),
                rsa_bits_min: 2048,
                needs_encryption: true,
                user_ids_max: 50,
                policy_uri: Some("https://ca.example/p".try_into().unwrap()),
                serial_notation: Some("serial@ca.example".try_into().unwrap()),
            }]),
        }]),
    }
}

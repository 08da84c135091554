//! One message of every kind, with every kind of field.

use std::fmt::Debug;

use protocol::{
    bounded::List,
    message::{
        Answer, Attribute, AttributeType, AuthorityEntry, Catalogue, CatalogueQuery,
        CertifyOpenPgp, CrlPiece, CrlScope, CsrForm, Digest, FetchCrl, IssueCertificate, Name,
        ProfileEntry, RefusalCode, Request, RequestId, RevocationReason, Revoke, Serial,
        SerialHigh, SignerStatus, TimeHint,
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
                user_ids: list(vec!["Ana <ana@example.org>".try_into().unwrap()]),
                days: None,
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
        openpgp: Some(vec![0xc6, 0x33].try_into().unwrap()),
    }
}

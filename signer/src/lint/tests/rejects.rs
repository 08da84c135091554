//! For each lint a certificate that it refuses, and that no lint before it does.

use super::*;
use crate::der::tag;

/// The elements of a TBSCertificate: version, serial, algorithm, issuer, validity, subject, key,
/// extensions.
fn with_part(tbs: &[u8], index: usize, part: Vec<u8>) -> Vec<u8> {
    let mut outer = Reader::new("TBSCertificate", tbs);
    let mut fields = outer.inner("TBSCertificate", tag::SEQUENCE).unwrap();
    let mut parts = Vec::new();
    while !fields.is_empty() {
        parts.push(fields.any().unwrap().whole.to_vec());
    }
    parts[index] = part;
    der::element(tag::SEQUENCE, &parts.concat())
}

type Row = (String, bool, Vec<u8>);

/// The same with other extensions.
fn with_extensions(tbs: &[u8], change: impl FnOnce(&mut Vec<Row>)) -> Vec<u8> {
    let fields = Fields::read(tbs).unwrap();
    let row = |one: &fields::Extension<'_>| (one.oid.clone(), one.critical, one.value.to_vec());
    let mut rows: Vec<Row> = fields.extensions.iter().map(row).collect();
    change(&mut rows);
    let encode = |(oid, critical, value): Row| {
        let critical = if critical { der::boolean_true() } else { Vec::new() };
        let value = der::element(tag::OCTET_STRING, &value);
        der::sequence(&[&der::oid(&oid).unwrap(), &critical, &value])
    };
    let list: Vec<Vec<u8>> = rows.into_iter().map(encode).collect();
    with_part(tbs, 7, der::explicit(3, &der::element(tag::SEQUENCE, &list.concat())))
}

fn set(rows: &mut [Row], oid: &str, critical: Option<bool>, value: Option<Vec<u8>>) {
    let row = rows.iter_mut().find(|row| row.0 == oid).unwrap();
    row.1 = critical.unwrap_or(row.1);
    row.2 = value.unwrap_or(row.2.clone());
}

fn utc(text: &str) -> Vec<u8> {
    der::element(tag::UTC_TIME, text.as_bytes())
}

fn general(text: &str) -> Vec<u8> {
    der::element(tag::GENERALIZED_TIME, text.as_bytes())
}

/// Mangled certificates with the id of the lint that must find them.
fn rejected() -> Vec<(&'static str, Case, Vec<u8>)> {
    let server = || case("server", "/CN=a.example", &["dns:a.example"]);
    let nameless = || case("server", "", &["dns:a.example"]);
    let sub = || case("subca", "/CN=Sub", &[]);
    let mut all: Vec<(&'static str, Case, Vec<u8>)> = Vec::new();
    let mut add = |id, case: Case, mangle: &dyn Fn(&Case) -> Vec<u8>| {
        let tbs = mangle(&case);
        all.push((id, case, tbs));
    };

    // What RFC 5280 asks.
    add("size", server(), &|_| vec![0x30; TBS_MAX + 1]);
    add("structure", server(), &|case| {
        let mut parts = Reader::new("tbs", &case.tbs()).any().unwrap().content.to_vec();
        parts.extend(der::implicit(1, &[0, 1])); // issuerUniqueID in the wrong place
        der::element(tag::SEQUENCE, &parts)
    });
    for version in [der::unsigned(1), der::unsigned(3)] {
        add("version", server(), &move |case| {
            with_part(&case.tbs(), 0, der::explicit(0, &version))
        });
    }
    let long: &[u8] = &[0x40; 21];
    for content in [&[0xc0_u8, 1][..], &[0], &[0, 0x7f], &[], long] {
        add("serial-form", server(), &|case| {
            with_part(&case.tbs(), 1, der::element(tag::INTEGER, content))
        });
    }
    for (not_before, not_after) in [
        (general("20261122000000Z"), utc("271122000000Z")),
        (utc("261122000000Z"), general("20271122000000Z")),
        (utc("2611220000Z"), utc("271122000000Z")),
        (utc("261122000000+0100"), utc("271122000000Z")),
        (utc("20261122000000Z"), utc("271122000000Z")),
        (general("261122000000Z"), utc("271122000000Z")),
    ] {
        add("time-form", server(), &|case| {
            with_part(&case.tbs(), 4, der::sequence(&[&not_before, &not_after]))
        });
    }
    for not_after in ["251122000000Z", "261122000000Z"] {
        add("time-order", server(), &|case| {
            with_part(&case.tbs(), 4, der::sequence(&[&utc("261122000000Z"), &utc(not_after)]))
        });
    }
    add("extension-once", server(), &|case| {
        with_extensions(&case.tbs(), |rows| rows.push(rows[0].clone()))
    });
    add("critical", sub(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            set(rows, extension::BASIC_CONSTRAINTS, Some(false), None);
        })
    });
    add("critical", constrained_ca(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            set(rows, extension::NAME_CONSTRAINTS, Some(false), None);
        })
    });
    for oid in [
        extension::SUBJECT_KEY_IDENTIFIER,
        extension::AUTHORITY_KEY_IDENTIFIER,
        extension::CRL_DISTRIBUTION_POINTS,
        extension::FRESHEST_CRL,
        extension::AUTHORITY_INFORMATION_ACCESS,
    ] {
        add("not-critical", full_server(), &|case| {
            with_extensions(&case.tbs(), |rows| set(rows, oid, Some(true), None))
        });
    }
    add("any-purpose-plain", server(), &|case| {
        let any = der::sequence(&[&der::known_oid("2.5.29.37.0")]);
        with_extensions(&case.tbs(), |rows| {
            set(rows, extension::EXTENDED_KEY_USAGE, Some(true), Some(any));
        })
    });
    add("ca-signs", sub(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            set(rows, extension::KEY_USAGE, None, Some(der::named_bits(&[0, 6])));
        })
    });
    add("ca-signs", sub(), &|case| {
        with_extensions(&case.tbs(), |rows| rows.retain(|row| row.0 != extension::KEY_USAGE))
    });
    add("ca-only", server(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            set(rows, extension::KEY_USAGE, None, Some(der::named_bits(&[0, 5])));
        })
    });
    add("ca-only", server(), &|case| {
        let constraints = der::sequence(&[&der::unsigned(0)]);
        with_extensions(&case.tbs(), |rows| {
            set(rows, extension::BASIC_CONSTRAINTS, None, Some(constraints));
        })
    });
    add("ca-only", server(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            rows.push((extension::NAME_CONSTRAINTS.into(), true, der::sequence(&[])));
        })
    });
    add("ca-subject", sub(), &|case| with_part(&case.tbs(), 5, der::sequence(&[])));
    add("named", nameless(), &|case| {
        with_extensions(&case.tbs(), |rows| rows.retain(|row| row.0 != extension::SUBJECT_ALT_NAME))
    });
    add("names-critical", nameless(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            set(rows, extension::SUBJECT_ALT_NAME, Some(false), None);
        })
    });

    // What was permitted.
    add("serial", server(), &|case| {
        let serial = "4000000000000001AB".parse().unwrap();
        tbs::certificate(&case.issuer, &serial, &case.permit, &case.profile).unwrap()
    });
    add("signature-algorithm", server(), &|case| {
        case.by_other_profile(|config| config.extensions.digest = Some("sha512".into()))
    });
    add("issuer", server(), &|case| {
        let name = name::to_der(&name::parse("/CN=Other").unwrap());
        let issuer = Issuer { name, ..case.issuer.clone() };
        tbs::certificate(&issuer, &case.serial, &case.permit, &case.profile).unwrap()
    });
    let at = |case: &Case, now, days| {
        let key = case.permit.wish().public_key.clone();
        let permit = permit(&case.profile, "/CN=a.example", &["dns:a.example"], key, now, days);
        tbs::certificate(&case.issuer, &case.serial, &permit, &case.profile).unwrap()
    };
    add("not-before", server(), &|case| at(case, UnixTime(NOW.0 + 1), None));
    add("not-after", server(), &|case| at(case, NOW, Some(91)));
    add("subject", server(), &|case| {
        case.by_other_profile(|config| config.subject.encoding = Encoding::Printable)
    });
    add("key", server(), &|case| {
        let other = CaKey::generate(CaKeyKind::P256).unwrap().public_key().unwrap();
        with_part(&case.tbs(), 6, other)
    });
    add("extension-list", server(), &|case| {
        with_extensions(&case.tbs(), |rows| set(rows, extension::KEY_USAGE, Some(false), None))
    });
    add("extension-list", server(), &|case| with_extensions(&case.tbs(), |rows| rows.swap(0, 1)));
    add("extension-list", server(), &|case| {
        with_extensions(&case.tbs(), |rows| rows.push(("1.2.3.4".into(), false, vec![5, 0])))
    });

    // What the profile says.
    add("ca", case("ocsp", "/CN=Responder", &[]), &|case| {
        with_extensions(&case.tbs(), |rows| {
            let ca = der::sequence(&[&der::boolean_true()]);
            set(rows, extension::BASIC_CONSTRAINTS, None, Some(ca));
            set(rows, extension::KEY_USAGE, None, Some(der::named_bits(&[0, 5])));
        })
    });
    add("path-length", sub(), &|case| {
        case.by_other_profile(|config| config.extensions.path_length = Some(1))
    });
    add("path-length", sub(), &|case| {
        case.by_other_profile(|config| config.extensions.path_length = None)
    });
    add("key-usage", server(), &|case| {
        case.by_other_profile(|config| config.extensions.key_usage.push("keyAgreement".into()))
    });
    add("extended-key-usage", server(), &|case| {
        case.by_other_profile(|config| {
            config.extensions.extended_key_usage.push("clientAuth".into());
        })
    });
    add("subject-key-identifier", server(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            let other = der::element(tag::OCTET_STRING, &[7; 20]);
            set(rows, extension::SUBJECT_KEY_IDENTIFIER, None, Some(other));
        })
    });
    add("authority-key-identifier", server(), &|case| {
        let issuer = Issuer { key_identifier: vec![8; 20], ..case.issuer.clone() };
        tbs::certificate(&issuer, &case.serial, &case.permit, &case.profile).unwrap()
    });
    add("authority-key-identifier", server(), &|case| {
        with_extensions(&case.tbs(), |rows| {
            let parts = [der::implicit(0, &[7; 20]), der::implicit(2, &[1])];
            let more = der::sequence(&[&parts[0], &parts[1]]);
            set(rows, extension::AUTHORITY_KEY_IDENTIFIER, None, Some(more));
        })
    });
    for names in [
        vec![der::implicit(2, b"b.example")],
        vec![der::implicit(2, b"a.example"), der::implicit(2, b"b.example")],
        vec![der::implicit(1, b"a.example")],
        vec![der::implicit(6, b"a.example")],
        vec![der::implicit(7, &[192, 0, 2, 1])],
        vec![der::implicit(7, &[192, 0, 2])],
        vec![der::implicit(8, &[0x55, 4, 3])],
        vec![der::element(0xa0, &[der::known_oid("1.2.3"), der::explicit(0, &[0x0c, 0])].concat())],
    ] {
        add("subject-alt-name", server(), &|case| {
            with_extensions(&case.tbs(), |rows| {
                let list = der::element(tag::SEQUENCE, &names.concat());
                set(rows, extension::SUBJECT_ALT_NAME, None, Some(list));
            })
        });
    }
    for (permitted, excluded) in [("dns:b.example", "ip:::/0"), ("dns:a.example", "ip:::/1")] {
        add("name-constraints", constrained_ca(), &|case| {
            case.by_other_profile(|config| {
                config.extensions.name_constraints = Some(NameConstraintsConfig {
                    permitted: ["email:.a.example", "uri:a.example", "ip:192.0.2.0/24", permitted]
                        .map(str::to_owned)
                        .to_vec(),
                    excluded: vec![excluded.into(), "dns:".into()],
                });
            })
        });
    }
    for constraints in [
        der::sequence(&[&der::explicit(0, &[])]),
        der::sequence(&[&der::explicit(0, &der::sequence(&[&der::implicit(8, &[0x55])]))]),
    ] {
        add("name-constraints", constrained_ca(), &|case| {
            with_extensions(&case.tbs(), |rows| {
                set(rows, extension::NAME_CONSTRAINTS, None, Some(constraints.clone()));
            })
        });
    }
    add("crl-distribution-points", full_server(), &|case| {
        let issuer = Issuer { crl_shards: 15, ..case.issuer.clone() };
        tbs::certificate(&issuer, &case.serial, &case.permit, &case.profile).unwrap()
    });
    let points = |url: &str| tbs::distribution_points(&[url.to_owned()]);
    let policy = |oid: &'static str| der::sequence(&[&der::sequence(&[&der::known_oid(oid)])]);
    let not_cps = {
        let oid = der::known_oid("1.3.6.1.5.5.7.2.2");
        let text = der::element(tag::IA5_STRING, b"http://a.example/cps");
        let qualifiers = der::sequence(&[&der::sequence(&[&oid, &text])]);
        der::sequence(&[&der::sequence(&[&der::known_oid("1.2.3.4"), &qualifiers])])
    };
    let access = der::sequence(&[&der::sequence(&[
        &der::known_oid("1.3.6.1.5.5.7.48.2"),
        &der::implicit(6, b"http://ocsp.example/"),
    ])]);
    let features = |numbers: &[u64]| {
        let all: Vec<Vec<u8>> = numbers.iter().map(|number| der::unsigned(*number)).collect();
        der::element(tag::SEQUENCE, &all.concat())
    };
    for (id, oid, value) in [
        (
            "crl-distribution-points",
            extension::CRL_DISTRIBUTION_POINTS,
            points("http://a.example/x.crl"),
        ),
        ("freshest-crl", extension::FRESHEST_CRL, points("http://a.example/10.crl")),
        ("authority-information-access", extension::AUTHORITY_INFORMATION_ACCESS, access),
        ("certificate-policies", extension::CERTIFICATE_POLICIES, policy("2.23.140.1.2.1")),
        ("certificate-policies", extension::CERTIFICATE_POLICIES, not_cps),
        ("tls-feature", extension::TLS_FEATURE, features(&[17])),
        ("tls-feature", extension::TLS_FEATURE, features(&[5, 17])),
    ] {
        add(id, full_server(), &|case| {
            with_extensions(&case.tbs(), |rows| set(rows, oid, None, Some(value.clone())))
        });
    }
    for value in [vec![4, 0], vec![5, 1, 0]] {
        add("ocsp-no-check", case("ocsp", "/CN=Responder", &[]), &|case| {
            with_extensions(&case.tbs(), |rows| {
                set(rows, extension::OCSP_NO_CHECK, None, Some(value.clone()));
            })
        });
    }
    all
}

#[test]
fn each_lint_finds_its_own_and_passes_the_unchanged() {
    let rejected = rejected();
    for (number, (id, case, tbs)) in rejected.iter().enumerate() {
        assert_eq!(case.finding(case.tbs()), None, "{id}, case {number}");
        let finding = case.finding(tbs.clone()).unwrap_or_default();
        assert!(finding.contains(&format!(" {id}: not true that ")), "{id}, {number}: {finding}");
    }
    let lists = standard::LINTS.iter().chain(&fidelity::LINTS).chain(&extensions::LINTS);
    for lint in lists.chain(&[&SIZE, &SIGHT]) {
        let covered = rejected.iter().any(|row| row.0 == lint.id);
        assert!(covered || lint.id == "openssl", "{} is without a reject test", lint.id);
    }
}

/// Lint `openssl`: each thing that the other reader could read differently.
#[test]
fn openssl_must_read_the_same_in_every_field() {
    let case = full_server();
    let tbs = case.tbs();
    let fields = Fields::read(&tbs).unwrap();
    fidelity::check_with_openssl(&tbs, &fields, &case.permit).unwrap();
    let finding = |tbs: &[u8], fields: &Fields<'_>, permit: &Permit| {
        fidelity::check_with_openssl(tbs, fields, permit).unwrap_err().0
    };
    let names = ["dns:a.example", "ip:192.0.2.1", "ip:2001:db8::1", "email:a@a.example"];
    let key = || case.permit.wish().public_key.clone();
    for (expected, permit) in [
        ("the list of names", permit(&case.profile, "/CN=a.example", &names, key(), NOW, None)),
        (
            "notBefore",
            permit(&case.profile, "/CN=a.example", &names, key(), UnixTime(NOW.0 + 1), None),
        ),
        ("notAfter", permit(&case.profile, "/CN=a.example", &names, key(), NOW, Some(91))),
    ] {
        assert!(finding(&tbs, &fields, &permit).contains(expected), "{expected}");
    }
    let same_but = |change: &dyn Fn(&mut Vec<Row>)| with_extensions(&tbs, change);
    let url = |rows: &mut Vec<Row>, oid| {
        let other = tbs::distribution_points(&["http://c.example/".to_owned()]);
        set(rows, oid, None, Some(other));
    };
    let other_key = CaKey::generate(CaKeyKind::P256).unwrap().public_key().unwrap();
    let others: [(&str, Vec<u8>); 9] = [
        ("the key", with_part(&tbs, 6, other_key)),
        ("the serial number", with_part(&tbs, 1, der::unsigned(7))),
        ("the issuer", with_part(&tbs, 3, name::to_der(&name::parse("/CN=Other").unwrap()))),
        ("the subject", with_part(&tbs, 5, name::to_der(&name::parse("/CN=Other").unwrap()))),
        (
            "the key identifier",
            same_but(&|rows| {
                let other = der::element(tag::OCTET_STRING, &[7; 20]);
                set(rows, extension::SUBJECT_KEY_IDENTIFIER, None, Some(other));
            }),
        ),
        (
            "the authority key identifier",
            same_but(&|rows| {
                let other = der::sequence(&[&der::implicit(0, &[8; 20])]);
                set(rows, extension::AUTHORITY_KEY_IDENTIFIER, None, Some(other));
            }),
        ),
        (
            "the path length",
            same_but(&|rows| {
                let ca = der::sequence(&[&der::boolean_true(), &der::unsigned(3)]);
                set(rows, extension::BASIC_CONSTRAINTS, None, Some(ca));
            }),
        ),
        (
            "the distribution points",
            same_but(&|rows| {
                url(rows, extension::CRL_DISTRIBUTION_POINTS);
            }),
        ),
        (
            "the access information",
            same_but(&|rows| {
                rows.retain(|row| row.0 != extension::AUTHORITY_INFORMATION_ACCESS);
            }),
        ),
    ];
    for (expected, other) in &others {
        // The strict reader's view of one certificate, OpenSSL's of another.
        let found = finding(other, &fields, &case.permit);
        assert!(found.contains(expected), "{expected}: {found}");
    }
    let version = with_part(&tbs, 0, der::explicit(0, &der::unsigned(1)));
    assert!(finding(&version, &fields, &case.permit).contains("openssl: not true"));
    assert!(finding(b"\x30\x00", &fields, &case.permit).contains("openssl: not true"));
}

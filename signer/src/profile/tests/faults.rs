//! What is wrong with a written profile: every fault, its key, its line, and every deviation.

use super::*;

type Change = fn(&mut ProfileConfig);

fn faults(name: &str, change: impl FnOnce(&mut ProfileConfig)) -> Vec<(String, String)> {
    match changed(name, change) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(|fault| (fault.key.clone(), fault.text.clone())).collect(),
    }
}

/// The default itself has no fault, so each change is the accept test of the others.
#[test]
fn each_fault_is_found_alone_under_its_key() {
    let cases: [(&str, &str, &str, Change); 59] = [
        ("server", "validity.max[0].from", "no date", |c| {
            c.validity.max[0].from = "2026-02-30".into();
        }),
        ("server", "validity.max[1].from", "not after", |c| {
            c.validity.max[1].from = "2020-01-01".into();
        }),
        ("server", "validity.max[0].days", "within 1 to", |c| c.validity.max[0].days = 0),
        ("subca", "validity.max[0].days", "within 1 to", |c| c.validity.max[0].days = 14_611),
        ("server", "validity.max", "no cap", |c| c.validity.max.clear()),
        ("server", "validity.days_default", "is 0", |c| c.validity.days_default = 0),
        ("server", "keys.rsa_bits_min", "below 2048", |c| c.keys.rsa_bits_min = Some(2047)),
        ("server", "keys.rsa_bits_max", "below keys", |c| c.keys.rsa_bits_max = Some(2047)),
        ("server", "keys.curves[3]", "is not P-256", |c| c.keys.curves.push("P-192".into())),
        ("server", "keys", "no key at all", |c| {
            c.keys.rsa_bits_min = None;
            c.keys.curves.clear();
        }),
        ("server", "subject.allowed[1]", "is not known", |c| c.subject.allowed.push("X".into())),
        ("server", "subject.allowed[1]", "twice", |c| c.subject.allowed.push("CN".into())),
        ("server", "subject.required[0]", "is not known", |c| {
            c.subject.required.push("X".into());
        }),
        ("server", "subject.required[0]", "not in `allowed`", |c| {
            c.subject.required.push("O".into());
        }),
        ("server", "subject.fixed.X", "is not known", |c| {
            c.subject.fixed.insert("X".into(), "y".into());
        }),
        ("server", "subject.fixed.O", "not in `allowed`", |c| {
            c.subject.fixed.insert("O".into(), "y".into());
        }),
        ("server-org", "subject.fixed.C", "two capital letters", |c| {
            c.subject.fixed.insert("C".into(), "de".into());
        }),
        ("server-org", "subject.fixed.O", "own pattern", |c| {
            c.subject.fixed.insert("O".into(), "y".into());
            c.subject.patterns.insert("O".into(), "x".into());
        }),
        ("server", "subject.patterns.X", "is not known", |c| {
            c.subject.patterns.insert("X".into(), "y".into());
        }),
        ("server", "subject.patterns.O", "not in `allowed`", |c| {
            c.subject.patterns.insert("O".into(), "y".into());
        }),
        ("server", "subject.patterns.CN", "is no pattern", |c| {
            c.subject.patterns.insert("CN".into(), "(".into());
        }),
        ("server", "subject.patterns.CN", "is no pattern", |c| {
            c.subject.patterns.insert("CN".into(), "a)|(?:b".into());
        }),
        ("server", "subject.patterns.CN", "takes more than", |c| {
            c.subject.patterns.insert("CN".into(), r"\w{1000}{100}".into());
        }),
        ("server", "subject.patterns.CN", "over 1024", |c| {
            c.subject.patterns.insert("CN".into(), "a".repeat(1025));
        }),
        ("server", "names.types[2]", "is not dns", |c| c.names.types.push("other".into())),
        ("server", "names.types[2]", "twice", |c| c.names.types.push("ip".into())),
        ("server", "names.max", "over 128", |c| c.names.max = 129),
        ("ocsp", "names.max", "there are types", |c| {
            c.names.types.push("dns".into());
        }),
        ("ocsp", "names.required", "none is allowed", |c| c.names.required = true),
        ("client", "names.wildcard", "without the type dns", |c| c.names.wildcard = true),
        ("ocsp", "names.from_subject", "without a type", |c| c.names.from_subject = true),
        ("server", "extensions.path_length", "ca = true", |c| {
            c.extensions.path_length = Some(0);
        }),
        ("subca", "extensions.ca", "needs console_only", |c| c.console_only = false),
        ("subca", "extensions.basic_constraints", "must be there", |c| {
            c.extensions.basic_constraints = Presence::Plain;
        }),
        ("subca", "extensions.basic_constraints", "must be there", |c| {
            c.extensions.basic_constraints = Presence::Absent;
        }),
        ("subca", "extensions.key_usage", "needs keyCertSign", |c| {
            c.extensions.key_usage.remove(1);
        }),
        ("server", "extensions.key_usage[2]", "not known", |c| {
            c.extensions.key_usage.push("signing".into());
        }),
        ("server", "extensions.key_usage[2]", "twice", |c| {
            c.extensions.key_usage.push("digitalSignature".into());
        }),
        ("server", "extensions.key_usage[2]", "belongs to a CA", |c| {
            c.extensions.key_usage.push("keyCertSign".into());
        }),
        ("server", "extensions.key_usage", "without keyAgreement", |c| {
            c.extensions.key_usage.push("decipherOnly".into());
        }),
        ("ocsp", "extensions.key_usage", "no usage that OCSPSigning", |c| {
            c.extensions.key_usage = vec!["keyEncipherment".into()];
        }),
        ("server", "extensions.extended_key_usage[1]", "neither", |c| {
            c.extensions.extended_key_usage.push("server".into());
        }),
        ("server", "extensions.extended_key_usage[1]", "neither", |c| {
            c.extensions.extended_key_usage.push("1.2.03".into());
        }),
        ("server", "extensions.extended_key_usage[1]", "twice", |c| {
            c.extensions.extended_key_usage.push("1.3.6.1.5.5.7.3.1".into());
        }),
        ("subca", "extensions.extended_key_usage_critical", "no use", |c| {
            c.extensions.extended_key_usage_critical = true;
        }),
        ("subca", "extensions.extended_key_usage_critical", "beside any", |c| {
            c.extensions.extended_key_usage.push("anyExtendedKeyUsage".into());
            c.extensions.key_usage.push("nonRepudiation".into());
            c.extensions.extended_key_usage_critical = true;
        }),
        ("server", "extensions.digest", "sha256, sha384", |c| {
            c.extensions.digest = Some("sha1".into());
        }),
        ("server", "extensions.ocsp_no_check", "belongs to OCSP", |c| {
            c.extensions.ocsp_no_check = true;
        }),
        ("timestamp", "extensions.must_staple", "belongs to TLS", |c| {
            c.extensions.must_staple = true;
        }),
        ("server", "extensions.must_staple", "ocsp_urls", |c| c.extensions.must_staple = true),
        ("server", "extensions.name_constraints", "belongs to a CA", |c| {
            c.extensions.name_constraints = Some(NameConstraintsConfig {
                permitted: vec!["dns:a.example".into()],
                ..NameConstraintsConfig::default()
            });
        }),
        ("subca", "extensions.name_constraints.permitted", "nothing", |c| {
            c.extensions.name_constraints = Some(NameConstraintsConfig::default());
        }),
        ("server", "extensions.crl_urls[0]", "no http://", |c| {
            c.extensions.crl_urls.push("https://a.example/".into());
        }),
        ("server", "extensions.ocsp_urls[0]", "`{shard}` belongs", |c| {
            c.extensions.ocsp_urls.push("http://a.example/{shard}".into());
        }),
        ("server", "extensions.issuer_urls[1]", "twice", |c| {
            c.extensions.issuer_urls = vec!["http://a.example/".into(); 2];
        }),
        ("server", "extensions.crl_urls", "at most 8", |c| {
            c.extensions.crl_urls = (0..9).map(|n| format!("http://a{n}.example/")).collect();
        }),
        ("server", "extensions.delta_crl_urls", "needs crl_urls", |c| {
            c.extensions.delta_crl_urls.push("http://a.example/".into());
        }),
        ("server", "extensions.policies[0].oid", "no object identifier", |c| {
            c.extensions.policies.push(PolicyConfig { oid: "x".into(), cps: None });
        }),
        ("server", "crl.keep_days", "over 36525", |c| c.crl.keep_days = Some(36_526)),
    ];
    for (profile, key, expected, change) in cases {
        let found = faults(profile, change);
        let [(found_key, text)] = found.as_slice() else { panic!("{key}: {found:?}") };
        assert_eq!(found_key, key, "{text}");
        assert!(text.contains(expected), "{key}: {text} should say {expected}");
    }
}

#[test]
fn what_lies_on_the_edge_is_no_fault() {
    let cases: [(&str, Change); 14] = [
        ("subca", |c| c.validity.max[0].days = 14_610),
        ("server", |c| c.validity.max[0].days = 200),
        ("server", |c| c.validity.max[1].days = 100),
        ("server", |c| c.validity.max[2].days = 47),
        ("client", |c| c.validity.max[0].days = 825),
        ("client-codesign", |c| c.validity.max[0].days = 460),
        ("timestamp", |c| c.validity.max[0].days = 4_106),
        ("server", |c| c.keys.rsa_bits_min = Some(2048)),
        ("server", |c| c.keys.rsa_bits_max = Some(2048)),
        ("server", |c| c.names.max = 128),
        ("server", |c| c.crl.keep_days = Some(36_525)),
        ("server", |c| {
            c.extensions.crl_urls = (0..8).map(|n| format!("http://a{n}.example/")).collect();
        }),
        ("server", |c| {
            c.subject.patterns.insert("CN".into(), format!("[{}]", "a".repeat(1022)));
        }),
        ("server", |c| {
            c.extensions.key_usage.push("keyAgreement".into());
            c.extensions.key_usage.push("decipherOnly".into());
        }),
    ];
    for (number, (profile, change)) in cases.into_iter().enumerate() {
        assert_eq!(faults(profile, change), [], "case {number} of {profile}");
    }
    for digest in ["sha256", "sha384", "sha512"] {
        let found = faults("server", |c| c.extensions.digest = Some(digest.into()));
        assert_eq!(found, [], "{digest}");
    }
}

/// Control: `name-constraints`.
#[test]
fn name_constraints_are_read_exactly() {
    let read = |text: &str| {
        changed("subca", |config| {
            config.extensions.name_constraints = Some(NameConstraintsConfig {
                permitted: vec!["dns:b.example".into()],
                excluded: vec![text.into()],
            });
        })
        .map(|profile| profile.name_constraints().unwrap().excluded[0].clone())
    };
    for (text, expected) in [
        ("dns:example.org", Subtree::Dns("example.org".into())),
        ("dns:", Subtree::Dns(String::new())),
        ("email:example.org", Subtree::Email("example.org".into())),
        ("email:.example.org", Subtree::Email(".example.org".into())),
        ("email:a@example.org", Subtree::Email("a@example.org".into())),
        ("uri:.example.org", Subtree::Uri(".example.org".into())),
        ("ip:192.0.2.0/24", Subtree::Ip(vec![192, 0, 2, 0, 255, 255, 255, 0])),
        ("ip:192.0.2.128/25", Subtree::Ip(vec![192, 0, 2, 128, 255, 255, 255, 128])),
        ("ip:0.0.0.0/0", Subtree::Ip(vec![0; 8])),
        ("ip:192.0.2.1/32", Subtree::Ip(vec![192, 0, 2, 1, 255, 255, 255, 255])),
        ("ip:::/0", Subtree::Ip(vec![0; 32])),
    ] {
        assert_eq!(read(text), Ok(expected.clone()), "{text}");
        assert_eq!(expected.written(), text);
    }
    for bad in [
        "example.org",
        "dns:.example.org",
        "dns:*.example.org",
        "dns:Example.org",
        "email:",
        "uri:",
        "uri:http://example.org/",
        "ip:192.0.2.1/24",
        "ip:192.0.2.0/33",
        "ip:192.0.2.0",
        "ip:2001:db8::/129",
        "dirName:/C=DE",
    ] {
        let found = read(bad).unwrap_err();
        let keys: Vec<_> = found.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["extensions.name_constraints.excluded[0]"], "{bad}");
    }
    let twice = changed("subca", |config| {
        config.extensions.name_constraints = Some(NameConstraintsConfig {
            permitted: vec!["dns:".into(), "dns:a.example".into(), "dns:a.example".into()],
            excluded: (0..65).map(|n| format!("dns:a{n}.example")).collect(),
        });
    });
    assert_eq!(twice.unwrap_err().len(), 3, "permits all, twice, too many");
}

/// What each deviation permits: a change that is a fault without it.
const DEVIANT: [(&str, &str, Change); 22] = [
    ("key-usage-absent", "server", |c| c.extensions.key_usage.clear()),
    ("key-usage-not-critical", "server", |c| c.extensions.key_usage_critical = false),
    ("key-usage-not-critical", "subca", |c| c.extensions.key_usage_critical = false),
    ("basic-constraints-absent", "server", |c| {
        c.extensions.basic_constraints = Presence::Absent;
    }),
    ("basic-constraints-not-critical", "server", |c| {
        c.extensions.basic_constraints = Presence::Plain;
    }),
    ("any-purpose", "client", |c| c.extensions.extended_key_usage.clear()),
    ("any-purpose", "client", |c| {
        c.extensions.extended_key_usage.push("anyExtendedKeyUsage".into());
    }),
    ("validity-tls", "server", |c| c.validity.max[0].days = 201),
    ("validity-tls", "server", |c| c.validity.max[1].days = 101),
    ("validity-tls", "server", |c| c.validity.max[2].days = 48),
    ("validity-tls", "server", |c| c.validity.max[1].from = "2027-03-16".into()),
    ("validity-tls", "server", |c| c.validity.max.truncate(2)),
    ("validity-smime", "client", |c| c.validity.max[0].days = 826),
    ("validity-code-signing", "client-codesign", |c| c.validity.max[0].days = 461),
    ("validity-time-stamping", "timestamp", |c| c.validity.max[0].days = 4_107),
    ("time-stamping-purpose", "timestamp", |c| c.extensions.extended_key_usage_critical = false),
    ("time-stamping-purpose", "timestamp", |c| {
        c.extensions.extended_key_usage.push("clientAuth".into());
    }),
    ("ocsp-checked", "ocsp", |c| c.extensions.ocsp_no_check = false),
    ("tls-names-unchecked", "server", |c| c.names.required = false),
    ("tls-names-unchecked", "server", |c| c.subject.common_name_is_a_name = false),
    ("tls-other-names", "server", |c| c.names.types.push("xmpp".into())),
    ("crl-keep-short", "client-codesign", |c| c.crl.keep_days = Some(3_652)),
];

#[test]
fn each_deviation_is_a_fault_until_it_is_named() {
    let named: Change = |c| c.deviations = vec!["ed25519-keys".into()];
    assert_eq!(
        changed("server", |c| {
            c.keys.ed25519 = true;
            named(c);
        })
        .unwrap()
        .deviations(),
        [&DEVIATIONS[15]]
    );
    let ed25519 = faults("server", |c| c.keys.ed25519 = true);
    assert!(ed25519.len() == 1 && ed25519[0].1.contains("`ed25519-keys`"), "{ed25519:?}");

    for (name, profile, change) in DEVIANT {
        let without = faults(profile, change);
        assert!(!without.is_empty(), "{name} at {profile}");
        assert!(without.iter().all(|fault| fault.1.contains(&format!("`{name}`"))), "{without:?}");
        let with = changed(profile, |config| {
            change(config);
            config.deviations = vec![name.into()];
        });
        let in_force = with.unwrap_or_else(|faults| panic!("{name}: {faults}"));
        assert_eq!(in_force.deviations().len(), 1);
        assert_eq!(in_force.deviations()[0].name, name);
        // Named where nothing needs it.
        let unneeded = faults(profile, |config| config.deviations = vec![name.into()]);
        assert!(
            matches!(unneeded.as_slice(), [(key, text)]
                if key == "deviations[0]" && text.contains("not needed")),
            "{unneeded:?}"
        );
    }
    for deviation in DEVIATIONS {
        let covered = DEVIANT.iter().any(|row| row.0 == deviation.name);
        let elsewhere = ["ed25519-keys", "key-usage-unfit"].contains(&deviation.name);
        assert!(covered || elsewhere, "{}", deviation.name);
    }
}

#[test]
fn encipherment_for_any_key_is_named_only_where_it_changes_something() {
    let named = |c: &mut ProfileConfig| c.deviations = vec!["key-usage-unfit".into()];
    assert_eq!(changed("server", named).unwrap().deviations().len(), 1);
    for (why, change) in [
        ("nothing enciphers", (|c| c.extensions.key_usage.truncate(1)) as Change),
        ("only RSA is taken", |c| c.keys.curves.clear()),
    ] {
        let unneeded = faults("server", |c| {
            change(c);
            named(c);
        });
        assert!(unneeded.len() == 1 && unneeded[0].1.contains("not needed"), "{why}: {unneeded:?}");
    }
}

#[test]
fn unknown_and_repeated_deviations_are_faults() {
    let unknown = faults("server", |c| c.deviations = vec!["sha1".into()]);
    assert!(unknown[0].1.contains("is not known"), "{unknown:?}");
    let twice = faults("server", |c| {
        c.names.required = false;
        c.deviations = vec!["tls-names-unchecked".into(); 2];
    });
    assert_eq!(twice.len(), 1);
    assert!(twice[0].0 == "deviations[1]" && twice[0].1.contains("twice"), "{twice:?}");
}

#[test]
fn a_ca_obeys_the_rules_of_no_single_purpose() {
    let constrained = changed("subca", |config| {
        config.extensions.extended_key_usage = vec!["serverAuth".into(), "emailProtection".into()];
    });
    assert!(constrained.unwrap().deviations().is_empty());
}

//------------ Text ----------------------------------------------------------

fn parse(text: &str) -> Result<Profile, Faults> {
    Profile::parse("test".parse().unwrap(), text)
}

fn default_text(name: &str) -> &'static str {
    DEFAULTS.iter().find(|(known, _)| *known == name).unwrap().1
}

fn lines(faults: &Faults) -> Vec<(Option<usize>, &str)> {
    faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect()
}

#[test]
fn every_default_passes_also_with_all_its_examples_and_without_deviations() {
    for (name, text) in DEFAULTS {
        let plain = parse(text).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        assert!(plain.deviations().is_empty());
        assert!(text.contains("\n#: "), "{name} has examples");
        let full = parse(&text.replace("\n#: ", "\n"));
        let full = full.unwrap_or_else(|faults| panic!("{name}: {faults}"));
        assert!(full.deviations().is_empty());
        assert!(!full.extensions().issuer_urls.is_empty(), "{name}");
    }
}

#[test]
fn all_faults_are_named_at_once_with_their_lines() {
    let text = "nonsense = 1\n\
                [validity]\n\
                days_default = \"ten\"\n\
                max = [\n\
                  { from = \"2026-03-15\", days = 199 },\n\
                  { from = \"2027-03-15\", day = 99 },\n\
                ]\n\
                [keys]\n\
                rsa_bits_min = 1024\n\
                curves = [\"P-192\"]\n\
                [subject]\n\
                allowed = [\"CN\"]\n\
                common_name_is_a_name = true\n\
                [names]\n\
                types = [\"dns\",\n\
                  \"dos\"]\n\
                max = 10\n\
                required = true\n\
                [extensions]\n\
                key_usage = [\"digitalSignature\"]\n\
                extended_key_usage = [\"serverAuth\"]\n\
                crl_urls = [\"ftp://a.example/\"]\n";
    let faults = parse(text).unwrap_err();
    assert_eq!(
        lines(&faults),
        [
            (Some(1), "nonsense"),
            (Some(3), "validity.days_default"),
            (Some(6), "validity.max[1].day"),
            (Some(6), "validity.max[1].days"),
            (Some(9), "keys.rsa_bits_min"),
            (Some(10), "keys.curves[0]"),
            (Some(16), "names.types[1]"),
            (Some(22), "extensions.crl_urls[0]"),
        ],
        "{faults}"
    );
    assert!(faults.to_string().contains("line 9: keys.rsa_bits_min: 1024 is below 2048 (TLS BR"));
}

#[test]
fn missing_parts_are_named() {
    let faults = parse("").unwrap_err();
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    for key in ["validity", "keys", "subject", "names", "extensions"] {
        assert_eq!(keys.iter().filter(|found| **found == key).count(), 1, "{key}: {keys:?}");
    }
    let text = default_text("server").replace("allowed = [\"CN\"]\n", "");
    let faults = parse(&text).unwrap_err();
    let section = text.lines().position(|line| line == "[subject]").unwrap() + 1;
    assert_eq!(lines(&faults), [(Some(section), "subject.allowed")]);
}

#[test]
fn what_is_no_toml_is_a_fault_with_its_line() {
    let faults = parse("[validity]\ndays_default = = 3\n").unwrap_err();
    assert!(faults.iter().any(|fault| fault.line == Some(2) && fault.text.contains("no TOML")));
    assert!(parse(&"#".repeat(64 * 1024)).unwrap_err().iter().all(|f| !f.key.is_empty()));
    let long = parse(&"#".repeat(64 * 1024 + 1)).unwrap_err();
    assert_eq!(lines(&long), [(None, "")]);
}

#[test]
fn no_cut_or_changed_byte_of_a_profile_breaks_its_reader() {
    let text = default_text("server");
    for cut in 0..text.len() {
        let _ = parse(&text[..cut]); // the defaults are ASCII
    }
    for at in (0..text.len()).step_by(3) {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = b"\"[]{}=\n0"[at % 8];
        let _ = parse(std::str::from_utf8(&bytes).unwrap());
    }
    // More mistakes than anybody reads are cut off.
    let many: String = (0..300).map(|n| format!("key{n} = 1\n")).collect();
    assert!(parse(&many).unwrap_err().len() <= 100);
}

#[test]
fn an_authority_without_shards_takes_no_profile_that_names_one() {
    let sharded = changed("server", |config| {
        config.extensions.crl_urls = vec!["http://a.example/{shard}.crl".into()];
        config.extensions.digest = Some("sha384".into());
    })
    .unwrap();
    let issuer = |crl_shards, signature_algorithm| Issuer {
        name: Vec::new(),
        key_identifier: Vec::new(),
        signature_algorithm,
        crl_shards,
    };
    let ecdsa = crate::keys::CaKeyKind::P256.signature_algorithm(None);
    assert_eq!(sharded.check_issuer(&issuer(4, ecdsa.clone())), Ok(()));
    let faults = sharded.check_issuer(&issuer(0, ecdsa)).unwrap_err();
    assert_eq!(lines(&faults), [(None, "extensions.crl_urls[0]")]);
    let ed25519 = crate::der::sequence(&[&crate::der::known_oid("1.3.101.112")]);
    let faults = sharded.check_issuer(&issuer(4, ed25519)).unwrap_err();
    assert_eq!(lines(&faults), [(None, "extensions.digest")]);
    assert_eq!(sharded.crl_urls(3), ["http://a.example/3.crl"]);
    assert!(sharded.names_shard() && !profile("server").names_shard());
}

#[test]
fn a_file_is_named_after_its_profile() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("server.toml");
    std::fs::write(&path, default_text("server")).unwrap();
    assert_eq!(Profile::load(&path).unwrap().name().as_str(), "server");
    std::fs::write(&path, "nonsense = 1").unwrap();
    let fault = Profile::load(&path).unwrap_err();
    assert!(fault.is_configuration());
    assert!(fault.to_string().contains("server.toml: line 1: nonsense"), "{fault}");
    let odd = scratch.path().join("Odd Name.toml");
    std::fs::write(&odd, default_text("server")).unwrap();
    assert!(Profile::load(&odd).unwrap_err().to_string().contains("rename the file"));
}

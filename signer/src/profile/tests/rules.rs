//! Each rule about subjects, names and extensions by its control id: what it takes, what not.

use super::*;

fn org(change: impl FnOnce(&mut ProfileConfig)) -> Profile {
    changed("server-org", change).unwrap()
}

fn subject_of(profile: &Profile, subject: &str) -> Result<String, RefusalCode> {
    let permit = decide(profile, wish(subject, &["dns:a.example"]))?;
    Ok(name::one_line(&permit.wish().subject))
}

fn text(profile: &Profile, wish: Wish) -> String {
    profile.permit(wish, NOW, ISSUER_END).unwrap_err().text
}

/// Control: `subject-unlisted`.
#[test]
fn subject_unlisted_is_refused_or_left_out_as_the_profile_says() {
    let asked = "/C=DE/OU=Unit/O=A/CN=a.example";
    assert_eq!(subject_of(&profile("server-org"), asked), Err(RefusalCode::SubjectRule));
    let drop = org(|config| config.subject.unlisted = Unlisted::Drop);
    assert_eq!(subject_of(&drop, asked).unwrap(), "/C=DE/O=A/CN=a.example");
    // What is left must still have all that is required.
    assert_eq!(subject_of(&drop, "/C=DE/OU=Unit/CN=a.example"), Err(RefusalCode::SubjectRule));
}

/// Control: `subject-order`.
#[test]
fn subject_order_is_kept_changed_or_demanded_as_the_profile_says() {
    let asked = "/CN=a.example/O=A/C=DE";
    assert_eq!(subject_of(&profile("server-org"), asked).unwrap(), asked);
    let arranged = org(|config| config.subject.order = Order::AsAllowed);
    assert_eq!(subject_of(&arranged, asked).unwrap(), "/C=DE/O=A/CN=a.example");
    let strict = org(|config| config.subject.order = Order::Strict);
    assert_eq!(subject_of(&strict, asked), Err(RefusalCode::SubjectRule));
    assert!(subject_of(&strict, "/C=DE/O=A/CN=a.example").is_ok());
    // Several of one kind keep the order in which they were asked for.
    let units = org(|config| {
        config.subject.allowed = ["OU", "C", "O"].map(str::to_owned).to_vec();
        config.subject.order = Order::AsAllowed;
        config.subject.required.clear();
    });
    assert_eq!(subject_of(&units, "/C=DE/OU=2/O=A/OU=1").unwrap(), "/OU=2/OU=1/C=DE/O=A");
}

/// Control: `subject-fixed`.
#[test]
fn subject_fixed_value_is_the_only_one() {
    let fixed = org(|config| {
        config.subject.fixed.insert("O".into(), "Example e.V.".into());
    });
    assert!(subject_of(&fixed, "/C=DE/O=Example e.V.").is_ok());
    for bad in ["/C=DE/O=Example", "/C=DE/O=example e.V.", "/C=DE/O=Example e.V./O=Other"] {
        assert_eq!(subject_of(&fixed, bad), Err(RefusalCode::SubjectRule), "{bad}");
    }
}

/// Control: `subject-pattern`.
#[test]
fn subject_pattern_matches_the_whole_value() {
    let pattern = org(|config| {
        config.subject.patterns.insert("O".into(), "Chapter [0-9]+|Head office".into());
    });
    assert!(subject_of(&pattern, "/C=DE/O=Chapter 12").is_ok());
    assert!(subject_of(&pattern, "/C=DE/O=Head office").is_ok());
    for bad in ["A Chapter 12", "Chapter 12a", "Chapter", "Head office 1", "The Head office"] {
        let asked = format!("/C=DE/O={bad}");
        assert_eq!(subject_of(&pattern, &asked), Err(RefusalCode::SubjectRule), "{bad}");
    }
}

/// Control: `subject-encoding`.
#[test]
fn subject_encoding_is_printable_only_where_the_characters_allow_it() {
    let subject = name::parse("/C=DE/O=Plain/CN=Größe/emailAddress=a@b.example").unwrap();
    let tags = |encoding| -> Vec<u8> {
        let der = name::encode(&subject, encoding);
        let name = openssl::x509::X509Name::from_der(&der).unwrap();
        assert_eq!(name.to_der().unwrap(), der);
        let mut outer = crate::intake::der::Reader::new("name", &der);
        let mut rdns = outer.inner("name", 0x30).unwrap();
        let mut tags = Vec::new();
        while !rdns.is_empty() {
            let mut pair = rdns.inner("rdn", 0x31).unwrap().inner("attribute", 0x30).unwrap();
            pair.oid("type").unwrap();
            tags.push(pair.any().unwrap().tag);
        }
        tags
    };
    // PrintableString 19, UTF8String 12, IA5String 22.
    assert_eq!(tags(Encoding::Utf8), [19, 12, 12, 22]);
    assert_eq!(tags(Encoding::Printable), [19, 19, 12, 22]);
}

/// Control: `subject-length`.
#[test]
fn subject_length_is_bounded_for_each_kind() {
    let all = changed("ocsp", |config| {
        config.subject.allowed =
            ["CN", "L", "ST", "DC", "postalCode", "emailAddress", "C"].map(str::to_owned).to_vec();
        config.subject.required.clear();
    })
    .unwrap();
    for (kind, most) in
        [("CN", 64), ("L", 128), ("ST", 128), ("DC", 63), ("postalCode", 40), ("emailAddress", 255)]
    {
        let asked = |length: usize| wish(&format!("/{kind}={}", "a".repeat(length)), &[]);
        assert!(decide(&all, asked(most)).is_ok(), "{kind}");
        assert_eq!(decide(&all, asked(most + 1)).err(), Some(RefusalCode::SubjectRule), "{kind}");
    }
    // Control: `subject-country`.
    assert!(decide(&all, wish("/C=DE", &[])).is_ok());
    for bad in ["/C=D", "/C=DEU", "/C=de", "/C=D1"] {
        assert_eq!(decide(&all, wish(bad, &[])).err(), Some(RefusalCode::SubjectRule), "{bad}");
    }
}

/// Control: `subject-characters`.
#[test]
fn subject_characters_are_seen_and_read_in_their_order() {
    let org = profile("server-org");
    for good in ["Größe", "東京", "Łódź & Co.", "e\u{301}", "🔑"] {
        assert!(subject_of(&org, &format!("/C=DE/O={good}")).is_ok(), "{good}");
    }
    for bad in [
        "\u{7f}",
        "\u{85}",
        "\u{200b}",
        "\u{200f}",
        "\u{2028}",
        "\u{202a}",
        "\u{202e}",
        "\u{2060}",
        "\u{2066}",
        "\u{206f}",
        "\u{feff}",
        "\u{fff9}",
        "\u{fdd0}",
        "\u{ffff}",
        "\u{1fffe}",
        "\u{e0041}",
    ] {
        let value = format!("a{bad}b");
        let attribute = |kind, value: &str| protocol::message::Attribute {
            kind,
            value: value.try_into().unwrap(),
        };
        use protocol::message::AttributeType::{CountryName, OrganizationName};
        let attributes = vec![attribute(CountryName, "DE"), attribute(OrganizationName, &value)];
        let subject = List::try_from(attributes).unwrap();
        let asked = Wish { subject, ..wish("", &["dns:a.example"]) };
        assert_eq!(decide(&org, asked).err(), Some(RefusalCode::SubjectRule), "{bad:?}");
    }
}

/// Control: `common-name`.
#[test]
fn common_name_with_other_letters_is_told_its_a_labels() {
    let server = profile("server");
    let asked = wish("/CN=bücher.example", &["dns:xn--bcher-kva.example"]);
    assert!(text(&server, asked).contains("`xn--bcher-kva.example`"));
    let good = wish("/CN=xn--bcher-kva.example", &["dns:xn--bcher-kva.example"]);
    assert!(decide(&server, good).is_ok());
}

/// Control: `name-idn`.
#[test]
fn name_idn_takes_valid_a_labels_only() {
    let server = profile("server");
    for good in [
        "xn--bcher-kva.example",
        "*.xn--bcher-kva.example",
        "a.xn--p1ai",
        "xn--fsqu00a.xn--0zwm56d",
        "xn--mgbh0fb.xn--kgbechtv",
        "xn--strae-oqa.example", // straße: a letter of its own since IDNA 2008
    ] {
        assert!(decide(&server, wish("", &[&format!("dns:{good}")])).is_ok(), "{good}");
    }
    for bad in [
        "xn--.example",
        "xn---.example",
        "xn--a.example",        // decodes to a control character
        "xn--abc.example",      // decodes to what is not allowed
        "xn--example-.example", // plain ASCII in disguise
        "xn--bcher-kvb9.example",
        "xn--zzzzzzzz.example",
        "xn--i-7iq.example", // a heart: a symbol, no letter
        "ab--c.example",     // announces an encoding that does not exist
        "xn--Bcher-kva.example ",
    ] {
        let asked =
            Wish { names: vec![GeneralName::Dns(bad.try_into().unwrap())], ..wish("", &[]) };
        assert_eq!(decide(&server, asked).err(), Some(RefusalCode::NameRule), "{bad}");
    }
}

/// Control: `name-idn`.
#[test]
fn name_idn_in_other_letters_is_told_its_a_labels() {
    let server = profile("server");
    for (asked, a_labels) in [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
    ] {
        let names = vec![GeneralName::Dns(asked.try_into().unwrap())];
        let refusal = text(&server, Wish { names, ..wish("", &[]) });
        assert!(refusal.contains(&format!("`{a_labels}`")), "{refusal}");
    }
}

/// Control: `names-twice`.
#[test]
fn names_that_mean_the_same_are_the_same() {
    let every = changed("server-org", |config| {
        config.names.types = ["dns", "ip", "email", "uri", "xmpp"].map(str::to_owned).to_vec();
        config.deviations = vec!["tls-other-names".into()];
    })
    .unwrap();
    let decide_names = |names: Vec<GeneralName>| {
        decide(&every, Wish { names, ..wish("/C=DE/O=A", &[]) }).map(|permit| permit.wish().clone())
    };
    let dns = |text: &str| GeneralName::Dns(text.try_into().unwrap());
    let parsed = |text: &str| text.parse::<GeneralName>().unwrap();
    for (one, other) in [
        (dns("a.example"), dns("A.Example")),
        (dns("a.example"), dns("a.example.")),
        (parsed("email:a@example.org"), parsed("email:a@EXAMPLE.org")),
        (parsed("xmpp:a@example.org"), parsed("xmpp:A@example.org")),
        (parsed("uri:http://a.example/x"), parsed("uri:HTTP://A.example/x")),
        (parsed("ip:2001:db8::1"), parsed("ip:2001:db8:0:0::1")),
    ] {
        assert!(decide_names(vec![one.clone()]).is_ok(), "{one}");
        let twice = decide_names(vec![one, other.clone()]);
        assert_eq!(twice.err(), Some(RefusalCode::NameRule), "{other}");
    }
    for (one, other) in [
        (parsed("email:a@example.org"), parsed("email:A@example.org")),
        (parsed("uri:http://a.example/x"), parsed("uri:http://a.example/X")),
    ] {
        assert!(decide_names(vec![one, other]).is_ok());
    }
    // What is permitted is written in lower case.
    let permitted = decide_names(vec![dns("A.Example")]).unwrap();
    assert_eq!(permitted.names, [dns("a.example")]);
}

/// Control: `name-wildcard`.
#[test]
fn name_wildcard_is_the_whole_leftmost_label_and_only_where_allowed() {
    let server = profile("server");
    let none = changed("server", |config| config.names.wildcard = false).unwrap();
    assert!(decide(&server, wish("", &["dns:*.a.example"])).is_ok());
    assert_eq!(decide(&none, wish("", &["dns:*.a.example"])).err(), Some(RefusalCode::NameRule));
    for bad in ["*", "*.example", "a.*.example", "*.*.example", "a*.b.example", "*a.b.example"] {
        let asked = wish("", &[&format!("dns:{bad}")]);
        assert_eq!(decide(&server, asked).err(), Some(RefusalCode::NameRule), "{bad}");
    }
}

/// Control: `name-ip`.
#[test]
fn name_ip_is_an_address_of_a_host_in_its_own_family() {
    let server = profile("server");
    for good in ["ip:192.0.2.1", "ip:2001:db8::1", "ip:::1", "ip:127.0.0.1"] {
        assert!(decide(&server, wish("", &[good])).is_ok(), "{good}");
    }
    for bad in ["ip:0.0.0.0", "ip:::", "ip:::ffff:192.0.2.1"] {
        assert_eq!(decide(&server, wish("", &[bad])).err(), Some(RefusalCode::NameRule), "{bad}");
    }
}

fn with_type(kind: &str) -> Profile {
    changed("client", |config| {
        config.names.types = vec![kind.to_owned()];
        config.names.from_subject = false;
    })
    .unwrap()
}

/// Control: `name-uri`.
#[test]
fn name_uri_is_absolute_and_its_host_is_whole() {
    let uri = with_type("uri");
    for good in [
        "uri:https://a.example/path?x#y",
        "uri:https://a.example:8443/",
        "uri:http://192.0.2.1/",
        "uri:http://[2001:db8::1]:80/",
        "uri:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "uri:sip:alice@a.example",
    ] {
        assert!(decide(&uri, wish("/CN=A", &[good])).is_ok(), "{good}");
    }
    for bad in [
        "uri:a.example/path",
        "uri:/path",
        "uri:1http://a.example/",
        "uri:http:",
        "uri:http://",
        "uri:http://localhost/",
        "uri:http://user@a.example/",
        "uri:http://a.example:/",
        "uri:http://a.example:99999/",
        "uri:http://a.example:+80/",
        "uri:http://[2001:db8::1/",
        "uri:http://a..example/",
        "uri:http://a.example/<b>",
        "email:a@example.org",
    ] {
        let refused = decide(&uri, wish("/CN=A", &[bad])).err();
        assert_eq!(refused, Some(RefusalCode::NameRule), "{bad}");
    }
}

/// Control: `name-xmpp`.
#[test]
fn name_xmpp_is_a_bare_address() {
    let xmpp = with_type("xmpp");
    for good in ["xmpp:a@example.org", "xmpp:example.org", "xmpp:a.b+c@chat.example.org"] {
        assert!(decide(&xmpp, wish("/CN=A", &[good])).is_ok(), "{good}");
    }
    for bad in [
        "xmpp:@example.org",
        "xmpp:a@",
        "xmpp:a@b@example.org",
        "xmpp:a@example.org/resource",
        "xmpp:a/b@example.org",
        "xmpp:a@localhost",
        "xmpp:a@xn--a.example",
    ] {
        let refused = decide(&xmpp, wish("/CN=A", &[bad])).err();
        assert_eq!(refused, Some(RefusalCode::NameRule), "{bad}");
    }
}

/// Control: `name-email`.
#[test]
fn name_email_has_a_valid_host() {
    let client = profile("client");
    assert!(decide(&client, wish("/CN=A", &["email:a@xn--bcher-kva.example"])).is_ok());
    for bad in ["email:a@xn--a.example", "email:a@*.example.org", "email:a@example.org."] {
        let refused = decide(&client, wish("/CN=A", &[bad])).err();
        assert_eq!(refused, Some(RefusalCode::NameRule), "{bad}");
    }
    let long = format!("email:{}@example.org", "a".repeat(64));
    assert!(decide(&client, wish("/CN=A", &[&long])).is_ok());
    let long = format!("email:{}@example.org", "a".repeat(65));
    assert_eq!(decide(&client, wish("/CN=A", &[&long])).err(), Some(RefusalCode::NameRule));
}

/// Control: `names-email`.
#[test]
fn names_of_who_protects_mail_have_a_mail_address() {
    let client = profile("client");
    let both = ["xmpp:a@example.org", "email:a@example.org"];
    assert!(decide(&client, wish("/CN=A", &both)).is_ok());
    assert_eq!(decide(&client, wish("/CN=A", &both[..1])).err(), Some(RefusalCode::NameRule));
}

/// Control: `ca-subject`.
#[test]
fn ca_subject_is_never_empty() {
    let nameless = changed("subca", |config| {
        config.subject.required.clear();
        config.names.types = vec!["dns".into()];
        config.names.max = 1;
    })
    .unwrap();
    assert!(decide(&nameless, wish("/CN=Sub", &["dns:a.example"])).is_ok());
    let empty = wish("", &["dns:a.example"]);
    assert_eq!(decide(&nameless, empty).err(), Some(RefusalCode::SubjectRule));
}

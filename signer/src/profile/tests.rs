//! Each rule of a profile with something it takes and something it refuses.

use openssl::{
    ec::{EcGroup, EcKey},
    nid::Nid,
    pkey::PKey,
    rsa::Rsa,
};

use protocol::message::{GeneralName, RefusalCode};

use super::*;
use crate::{calendar::DAY_S, name};

mod faults;
mod rules;

fn profile(name: &str) -> Profile {
    let (name, text) = DEFAULTS.iter().find(|(known, _)| *known == name).unwrap();
    Profile::check(name.parse().unwrap(), toml::from_str(text).unwrap()).unwrap()
}

fn changed(name: &str, change: impl FnOnce(&mut ProfileConfig)) -> Result<Profile, Faults> {
    let (name, text) = DEFAULTS.iter().find(|(known, _)| *known == name).unwrap();
    let mut config = toml::from_str(text).unwrap();
    change(&mut config);
    Profile::check(name.parse().unwrap(), config)
}

fn p256() -> Vec<u8> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    key.public_key_to_der().unwrap()
}

fn rsa(bits: u32) -> Vec<u8> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap().public_key_to_der().unwrap()
}

fn wish(subject: &str, names: &[&str]) -> Wish {
    let subject = match subject {
        "" => List::empty(),
        subject => name::parse(subject).unwrap(),
    };
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    Wish { subject, names, days: None, public_key: p256() }
}

const NOW: UnixTime = UnixTime(1_795_312_800); // 2026-11-22
const ISSUER_END: UnixTime = UnixTime(NOW.0 + 3_650 * DAY_S);

fn decide(profile: &Profile, wish: Wish) -> Result<Permit, RefusalCode> {
    profile.permit(wish, NOW, ISSUER_END).map_err(|refusal| refusal.code)
}

#[test]
fn every_default_profile_is_without_fault_and_only_subca_makes_a_ca() {
    for (name, _) in DEFAULTS {
        let profile = profile(name);
        assert_eq!(profile.extensions().ca, name == "subca", "{name}");
        assert_eq!(profile.console_only(), name == "subca", "{name}");
        assert!(profile.entry(NOW).days_default <= profile.days_max(NOW), "{name}");
    }
}

#[test]
fn server_names_follow_dns_rules() {
    let server = profile("server");
    for good in [
        "dns:a.example.org",
        "dns:*.example.org",
        "dns:xn--gre-6ka8i.example",
        "ip:192.0.2.1",
        "ip:2001:db8::1",
    ] {
        assert!(decide(&server, wish("", &[good])).is_ok(), "{good}");
    }
    for bad in [
        "dns:localhost",
        "dns:a..example",
        "dns:-a.example",
        "dns:a-.example",
        "dns:a_b.example",
        "dns:a.*.example",
        "dns:*.*.example",
        "dns:*a.example",
        "dns:192.0.2.1",
        "dns:a.example.",
        "ip:0.0.0.0",
        "ip:::",
        "email:a@example.org",
        "uri:https://a.example/",
    ] {
        assert_eq!(decide(&server, wish("", &[bad])).err(), Some(RefusalCode::NameRule), "{bad}");
    }
    let label = format!("dns:{}.example", "a".repeat(64));
    assert_eq!(decide(&server, wish("", &[&label])).err(), Some(RefusalCode::NameRule));
    let twice = wish("", &["dns:a.example", "dns:a.example"]);
    assert_eq!(decide(&server, twice).err(), Some(RefusalCode::NameRule));
    let no_wildcard = changed("server", |config| config.names.wildcard = false).unwrap();
    let refused = decide(&no_wildcard, wish("", &["dns:*.example.org"])).err();
    assert_eq!(refused, Some(RefusalCode::NameRule));
}

#[test]
fn no_more_names_than_the_profile_says() {
    let server = profile("server");
    let names: Vec<String> = (0..101).map(|n| format!("dns:{n}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(decide(&server, wish("", &names[..100])).is_ok());
    assert_eq!(decide(&server, wish("", &names)).err(), Some(RefusalCode::NameRule));
}

#[test]
fn where_no_name_is_asked_for_the_subject_gives_them() {
    let names = |profile: &Profile, subject: &str| {
        let permit = decide(profile, wish(subject, &[]))?;
        Ok(permit.wish().names.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    };
    let server = profile("server");
    assert_eq!(names(&server, "/CN=A.example"), Ok(vec!["dns:a.example".into()]));
    assert_eq!(names(&server, "/CN=192.0.2.1"), Ok(vec!["ip:192.0.2.1".into()]));
    assert_eq!(names(&server, "/CN=Alice"), Err(RefusalCode::SubjectRule));
    let client = profile("client");
    let alice = "/CN=Alice/emailAddress=a@example.org";
    assert_eq!(names(&client, alice), Ok(vec!["email:a@example.org".into()]));
    assert_eq!(names(&client, "/CN=a.example"), Err(RefusalCode::NameRule));
    // A name that was asked for is never added to.
    let permit = decide(&server, wish("/CN=a.example", &["dns:a.example", "dns:b.example"]));
    assert_eq!(permit.unwrap().wish().names.len(), 2);
    let strict = changed("server", |config| config.names.from_subject = false).unwrap();
    assert_eq!(names(&strict, "/CN=a.example"), Err(RefusalCode::SubjectRule));
}

#[test]
fn common_name_of_a_server_must_be_one_of_its_names() {
    let server = profile("server");
    assert!(decide(&server, wish("/CN=a.example", &["dns:a.example"])).is_ok());
    assert!(decide(&server, wish("/CN=192.0.2.1", &["ip:192.0.2.1"])).is_ok());
    let other = wish("/CN=bank.example", &["dns:a.example"]);
    assert_eq!(decide(&server, other).err(), Some(RefusalCode::SubjectRule));
}

#[test]
fn mail_addresses_have_one_plain_form() {
    let client = profile("client");
    for good in ["email:a.b+c@example.org", "email:A@EXAMPLE.org"] {
        assert!(decide(&client, wish("/CN=A", &[good])).is_ok(), "{good}");
    }
    for bad in [
        "email:a",
        "email:@example.org",
        "email:a@",
        "email:.a@example.org",
        "email:a..b@example.org",
        "email:a,b@example.org",
        "email:a@localhost",
        "dns:a.example",
    ] {
        let refused = decide(&client, wish("/CN=A", &[bad])).err();
        assert_eq!(refused, Some(RefusalCode::NameRule), "{bad}");
    }
}

#[test]
fn subjects_have_only_what_the_profile_allows_and_all_it_needs() {
    let org = profile("server-org");
    let names = ["dns:a.example"];
    assert!(decide(&org, wish("/C=DE/O=Größe GmbH/CN=a.example", &names)).is_ok());
    for bad in [
        "/O=No country",
        "/C=DE",
        "/C=de/O=Lower case",
        "/C=DEU/O=Three letters",
        "/C=DE/O=A/OU=Not allowed",
        "/C=DE/O= leading space",
        "/C=DE/O=trailing space ",
        "/C=DE/O=right\u{202e}to left",
        "/C=DE/O=zero\u{200b}width",
    ] {
        assert_eq!(decide(&org, wish(bad, &names)).err(), Some(RefusalCode::SubjectRule), "{bad}");
    }
    let long = format!("/C=DE/O={}", "ä".repeat(64));
    assert!(decide(&org, wish(&long, &names)).is_ok(), "64 characters, 128 bytes");
    let long = format!("/C=DE/O={}", "a".repeat(65));
    assert_eq!(decide(&org, wish(&long, &names)).err(), Some(RefusalCode::SubjectRule));
    assert_eq!(decide(&profile("ocsp"), wish("", &[])).err(), Some(RefusalCode::SubjectRule));
}

#[test]
fn values_must_fit_their_string_type() {
    let all = changed("ocsp", |config| {
        config.subject.allowed = vec!["serialNumber".into(), "emailAddress".into()];
        config.subject.required.clear();
    })
    .unwrap();
    assert!(decide(&all, wish("/serialNumber=A-1", &[])).is_ok());
    for bad in ["/serialNumber=a_b", "/emailAddress=ä@example.org"] {
        assert_eq!(decide(&all, wish(bad, &[])).err(), Some(RefusalCode::SubjectRule), "{bad}");
    }
}

#[test]
fn keys_are_of_the_kinds_and_sizes_that_the_profile_takes() {
    let server = profile("server");
    let with_key = |public_key| Wish { public_key, ..wish("", &["dns:a.example"]) };
    assert!(decide(&server, with_key(rsa(2048))).is_ok());
    assert!(decide(&server, with_key(p256())).is_ok());
    let ed25519 = PKey::generate_ed25519().unwrap().public_key_to_der().unwrap();
    assert_eq!(decide(&server, with_key(ed25519)).err(), Some(RefusalCode::KeyKind));
    // The vault looks again, whatever the intake said.
    assert_eq!(decide(&server, with_key(rsa(1024))).err(), Some(RefusalCode::KeyWeak));
    assert!(decide(&server, with_key(b"no key".to_vec())).is_err());
    let only_ec = changed("server", |config| config.keys.rsa_bits_min = None).unwrap();
    assert_eq!(decide(&only_ec, with_key(rsa(2048))).err(), Some(RefusalCode::KeyKind));
    let large = changed("server", |config| config.keys.rsa_bits_min = Some(3072)).unwrap();
    assert_eq!(decide(&large, with_key(rsa(2048))).err(), Some(RefusalCode::KeyKind));
}

#[test]
fn encipherment_is_left_out_for_keys_that_cannot_do_it() {
    let with_key = |profile: &Profile, public_key| {
        let wish = Wish { public_key, ..wish("", &["dns:a.example"]) };
        decide(profile, wish).map(|permit| permit.key_usage().to_vec())
    };
    let server = profile("server");
    assert_eq!(with_key(&server, rsa(2048)), Ok(vec![0, 2]));
    assert_eq!(with_key(&server, p256()), Ok(vec![0]), "RFC 8813 3");
    let kept = changed("server", |c| c.deviations = vec!["key-usage-unfit".into()]).unwrap();
    assert_eq!(with_key(&kept, p256()), Ok(vec![0, 2]));
    // Without any usage a key could be used for everything.
    let only = changed("server", |c| c.extensions.key_usage = vec!["keyEncipherment".into()]);
    let only = only.unwrap();
    assert_eq!(with_key(&only, rsa(2048)), Ok(vec![2]));
    assert_eq!(with_key(&only, p256()), Err(RefusalCode::KeyKind));
}

#[test]
fn validity_follows_the_date_table() {
    let server = profile("server");
    let day = |text| UnixTime::from_date(text).unwrap();
    for (date, days) in
        [("2026-11-22", 199), ("2027-03-14", 199), ("2027-03-15", 99), ("2029-03-15", 46)]
    {
        let now = day(date);
        assert_eq!(server.days_max(now), days, "{date}");
        let end = UnixTime(now.0 + 3_650 * DAY_S);
        let ask = |days| {
            let wish = Wish { days: Some(days), ..wish("", &["dns:a.example"]) };
            server.permit(wish, now, end)
        };
        let permit = ask(days).unwrap();
        // BR 6.3.2: both ends count.
        assert_eq!(permit.not_after().0 - permit.not_before().0 + 1, i64::from(days) * DAY_S);
        assert_eq!(ask(days + 1).unwrap_err().code, RefusalCode::Validity);
        assert_eq!(ask(0).unwrap_err().code, RefusalCode::Validity);
        let default = server.permit(wish("", &["dns:a.example"]), now, end).unwrap();
        let default = (default.not_after().0 - now.0 + 1) / DAY_S;
        assert_eq!(default, i64::from(days.min(90)), "the default obeys the cap too");
    }
}

#[test]
fn no_certificate_outlives_its_issuer() {
    let server = profile("server");
    let end = UnixTime(NOW.0 + 10 * DAY_S);
    let ask = |days| server.permit(Wish { days, ..wish("", &["dns:a.example"]) }, NOW, end);
    assert_eq!(ask(None).unwrap().not_after(), end, "the default is shortened");
    assert!(ask(Some(10)).is_ok());
    assert_eq!(ask(Some(11)).unwrap_err().code, RefusalCode::Validity, "a wish is not");
    let expired = server.permit(wish("", &["dns:a.example"]), NOW, UnixTime(NOW.0 - 1));
    assert_eq!(expired.unwrap_err().code, RefusalCode::Validity);
}

//! Every lint by its id with a certificate that it takes and one that it does not.

use protocol::bounded::List;

use super::*;
use crate::{
    calendar::DAY_S,
    der,
    intake::der::Reader,
    keys::{CaKey, CaKeyKind},
    profile::{
        DEFAULTS, Encoding, NameConstraintsConfig, PolicyConfig, Presence, ProfileConfig, Wish,
    },
    tbs::extension,
};
use openssl::x509::X509;

mod rejects;

const NOW: UnixTime = UnixTime(1_795_312_800);

struct Case {
    issuer: Issuer,
    serial: Serial,
    permit: Permit,
    profile: Profile,
}

fn profile(name: &str, change: impl FnOnce(&mut ProfileConfig)) -> Profile {
    let (name, text) = DEFAULTS.iter().find(|(known, _)| *known == name).unwrap();
    let mut config = toml::from_str(text).unwrap();
    change(&mut config);
    Profile::check(name.parse().unwrap(), config).unwrap()
}

fn case(profile_name: &str, subject: &str, names: &[&str]) -> Case {
    case_of(profile(profile_name, |_| {}), subject, names)
}

/// A server with every extension that one can have.
fn full_server() -> Case {
    let profile = profile("server", |config| {
        config.names.types = ["dns", "ip", "email", "uri", "xmpp"].map(str::to_owned).to_vec();
        config.deviations = vec!["tls-other-names".into()];
        let extensions = &mut config.extensions;
        extensions.crl_urls =
            vec!["http://a.example/{shard}.crl".into(), "http://b.example/1.crl".into()];
        extensions.delta_crl_urls = vec!["http://a.example/delta.crl".into()];
        extensions.ocsp_urls = vec!["http://ocsp.example/".into()];
        extensions.issuer_urls = vec!["http://a.example/ca.crt".into()];
        extensions.must_staple = true;
        extensions.digest = Some("sha384".into());
        let policy = |oid: &str, cps: Option<&str>| PolicyConfig {
            oid: oid.into(),
            cps: cps.map(str::to_owned),
        };
        extensions.policies =
            vec![policy("2.23.140.1.2.1", None), policy("1.2.3.4", Some("http://a.example/cps"))];
    });
    let names = [
        "dns:a.example",
        "ip:192.0.2.1",
        "ip:2001:db8::1",
        "email:a@a.example",
        "uri:http://a.example/",
        "xmpp:a@a.example",
    ];
    let mut case = case_of(profile, "/CN=a.example", &names);
    case.issuer.crl_shards = 16;
    case
}

/// An authority with name constraints of every type.
fn constrained_ca() -> Case {
    let profile = profile("subca", |config| {
        config.extensions.name_constraints = Some(NameConstraintsConfig {
            permitted: ["dns:a.example", "email:.a.example", "uri:a.example", "ip:192.0.2.0/24"]
                .map(str::to_owned)
                .to_vec(),
            excluded: vec!["ip:::/0".into(), "dns:".into()],
        });
    });
    case_of(profile, "/CN=Sub", &[])
}

fn case_of(profile: Profile, subject: &str, names: &[&str]) -> Case {
    let key = CaKey::generate(CaKeyKind::P256).unwrap();
    let issuer = Issuer {
        name: name::to_der(&name::parse("/O=Test/CN=Issuing").unwrap()),
        key_identifier: vec![7; 20],
        signature_algorithm: key.signature_algorithm(),
        crl_shards: 0,
    };
    let permit = permit(&profile, subject, names, key.public_key().unwrap(), NOW, None);
    Case { issuer, serial: "4000000000000001AA".parse().unwrap(), permit, profile }
}

fn permit(
    profile: &Profile,
    subject: &str,
    names: &[&str],
    public_key: Vec<u8>,
    now: UnixTime,
    days: Option<u32>,
) -> Permit {
    let subject = if subject.is_empty() { List::empty() } else { name::parse(subject).unwrap() };
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    let wish = Wish { subject, names, days, public_key };
    profile.permit(wish, now, UnixTime(NOW.0 + 5_000 * DAY_S)).unwrap()
}

impl Case {
    fn tbs(&self) -> Vec<u8> {
        tbs::certificate(&self.issuer, &self.serial, &self.permit, &self.profile).unwrap()
    }

    fn finding(&self, tbs: Vec<u8>) -> Option<String> {
        lint(tbs, &self.issuer, self.serial.clone(), &self.permit, &self.profile)
            .err()
            .map(|refusal| refusal.text)
    }

    /// The same wish by a profile that writes something else.
    fn by_other_profile(&self, change: impl FnOnce(&mut ProfileConfig)) -> Vec<u8> {
        let name = self.profile.name().as_str();
        let profile = profile(name, change);
        let wish = self.permit.wish().clone();
        let permit = profile.permit(wish, NOW, UnixTime(NOW.0 + 5_000 * DAY_S)).unwrap();
        tbs::certificate(&self.issuer, &self.serial, &permit, &profile).unwrap()
    }
}

#[test]
fn what_every_profile_writes_passes() {
    for (name, subject, names) in [
        ("server", "/CN=a.example", &["dns:a.example", "ip:2001:db8::1", "ip:192.0.2.1"][..]),
        ("server", "", &["dns:a.example"]),
        ("server-org", "/C=DE/O=Größe/CN=a.example", &["dns:a.example"]),
        ("client", "/CN=A", &["email:a@example.org", "xmpp:a@example.org"]),
        ("client-codesign", "/CN=A", &["email:a@example.org"]),
        ("client-org", "/C=DE/O=A/CN=A", &["email:a@example.org"]),
        ("ocsp", "/CN=Responder", &[]),
        ("timestamp", "/CN=Time", &[]),
        ("subca", "/CN=Sub", &[]),
    ] {
        let case = case(name, subject, names);
        assert_eq!(case.finding(case.tbs()), None, "{name}");
    }
    for case in [full_server(), constrained_ca()] {
        assert_eq!(case.finding(case.tbs()), None, "{}", case.profile.name());
    }
}

#[test]
fn what_is_shown_of_a_profile_is_what_it_writes() {
    for (name, subject, names) in [
        ("server", "/CN=a.example", &["dns:a.example"][..]),
        ("client", "/CN=A", &["email:a@example.org"]),
        ("ocsp", "/CN=Responder", &[]),
        ("timestamp", "/CN=Time", &[]),
        ("subca", "/CN=Sub", &[]),
    ] {
        let text = DEFAULTS.iter().find(|(known, _)| *known == name).unwrap().1;
        let text = text.replace("\n#: ", "\n").replace("issuing.crl", "issuing-{shard}.crl");
        let profile = Profile::parse(name.parse().unwrap(), &text).unwrap();
        let mut case = case_of(profile, subject, names);
        case.issuer.crl_shards = 8;
        let signing = crate::profile::show::Signing {
            subject: "/O=Test/CN=Issuing",
            not_after: NOW,
            issuer: &case.issuer,
        };
        let tbs = case.tbs();
        assert_eq!(case.finding(tbs.clone()), None, "{name}");
        let fields = Fields::read(&tbs).unwrap();
        let written = fields.extensions.iter().map(|one| (one.oid.as_str(), one.critical));
        let shown = case.profile.show(NOW, Some(signing));
        let of_extension = shown.iter().filter_map(|one| Some((one.oid?, one.critical)));
        assert_eq!(of_extension.collect::<Vec<_>>(), written.collect::<Vec<_>>(), "{name}");
        assert!(shown.iter().all(|one| !one.values.is_empty()));
        let value = |name: &str| &shown.iter().find(|one| one.name == name).unwrap().values;
        assert_eq!(value("signature")[0], "ECDSA with sha256");
        assert_eq!(value("issuer")[0], "/O=Test/CN=Issuing");
        if name == "server" {
            assert!(value("cRLDistributionPoints")[1].contains("modulo 8 shards"));
            assert!(value("subject")[0].starts_with("CN"));
            assert!(
                value("validity")[1].contains("90 days later without a wish, today at most 199")
            );
        }
        if name == "subca" {
            assert_eq!(value("nameConstraints")[4], "excluded ip:::/0");
            assert_eq!(value("basicConstraints")[0], "CA:TRUE, pathlen:0");
        }
    }
}

#[test]
fn the_date_table_marks_the_cap_of_the_day() {
    let server = profile("server", |_| {});
    let marked = |date: &str| {
        let table = server.date_table(UnixTime::from_date(date).unwrap());
        let in_force: Vec<u32> =
            table.iter().filter(|cap| cap.in_force).map(|cap| cap.days).collect();
        in_force
    };
    assert_eq!(marked("2020-01-01"), [199]);
    assert_eq!(marked("2027-03-14"), [199]);
    assert_eq!(marked("2027-03-15"), [99]);
    assert_eq!(marked("2050-01-01"), [46]);
}

#[test]
fn what_deviant_profiles_write_passes() {
    let deviant = profile("server", |config| {
        config.extensions.basic_constraints = Presence::Absent;
        config.extensions.key_usage.clear();
        config.extensions.extended_key_usage.clear();
        config.subject.encoding = Encoding::Printable;
        config.deviations = ["basic-constraints-absent", "key-usage-absent", "any-purpose"]
            .map(str::to_owned)
            .to_vec();
    });
    let case = case_of(deviant, "/CN=a.example", &["dns:a.example"]);
    assert_eq!(case.finding(case.tbs()), None);
}

#[test]
fn openssl_reads_what_a_profile_writes() {
    let text = |case: &Case| {
        let whole =
            tbs::signed(&case.tbs(), &case.issuer.algorithm(case.profile.digest()), &[0; 64]);
        String::from_utf8(X509::from_der(&whole).unwrap().to_text().unwrap()).unwrap()
    };
    let server = text(&full_server());
    for expected in [
        "Signature Algorithm: ecdsa-with-SHA384",
        // 0x01AA modulo 16
        "Full Name:\n                  URI:http://a.example/10.crl",
        "URI:http://b.example/1.crl",
        "X509v3 Freshest CRL: \n                Full Name:\n                  URI:http://a.example/delta.crl",
        "OCSP - URI:http://ocsp.example/",
        "CA Issuers - URI:http://a.example/ca.crt",
        "Policy: 2.23.140.1.2.1",
        "Policy: 1.2.3.4",
        "CPS: http://a.example/cps",
        "TLS Feature: \n                status_request",
        "othername: XmppAddr",
    ] {
        assert!(server.contains(expected), "{expected} in {server}");
    }
    let ca = text(&constrained_ca());
    for expected in [
        "X509v3 Name Constraints: critical\n                Permitted:\n",
        "DNS:a.example",
        "email:.a.example",
        "URI:a.example",
        "IP:192.0.2.0/255.255.255.0",
        "Excluded:",
        "IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0",
    ] {
        assert!(ca.contains(expected), "{expected} in {ca}");
    }
    assert!(text(&case("ocsp", "/CN=Responder", &[])).contains("OCSP No Check"));
}

#[test]
fn the_shard_is_known_exactly_where_the_certificate_names_it() {
    let lint = |case: &Case| {
        let serial = case.serial.clone();
        lint(case.tbs(), &case.issuer, serial, &case.permit, &case.profile).unwrap().shard()
    };
    assert_eq!(lint(&full_server()), Some(10));
    let mut unnamed = case("server", "/CN=a.example", &["dns:a.example"]);
    unnamed.issuer.crl_shards = 16;
    assert_eq!(lint(&unnamed), None);
}

#[test]
fn shards_are_a_fixed_function_of_the_serial() {
    let shard = |serial: &str, shards| tbs::shard_of(&serial.parse().unwrap(), shards);
    assert_eq!(shard("4000000000000001AA", 16), 0x01aa % 16);
    assert_eq!(shard("4000000000000001AA", 1000), 0x01aa);
    assert_eq!(shard("40000000000000FFFE", u16::MAX), 0xfffe);
    assert_eq!(shard("7F", 10), 0x7f % 10);
    assert_eq!(shard("4000000000000001AA", 1), 0);
    assert_eq!(shard("4000000000000001AA", 0), 0);
}

#[test]
fn every_changed_byte_is_found() {
    for case in [full_server(), constrained_ca(), case("ocsp", "/CN=Responder", &[])] {
        let good = case.tbs();
        assert_eq!(case.finding(good.clone()), None);
        let mut passed = Vec::new();
        for at in 0..good.len() {
            for flip in [0x01, 0x80] {
                let mut changed = good.clone();
                changed[at] ^= flip;
                if case.finding(changed).is_none() {
                    passed.push(at);
                }
            }
        }
        assert_eq!(passed, [0_usize; 0], "of {}: {:02x?}", good.len(), good);
    }
}

#[test]
fn certificate_of_another_permit_or_issuer_is_found() {
    let case_a = case("server", "/CN=a.example", &["dns:a.example"]);
    let case_b = case("server", "/CN=a.example", &["dns:a.example", "dns:b.example"]);
    assert!(case_a.finding(case_b.tbs()).is_some());
}

#[test]
fn ca_certificate_under_a_subscriber_profile_is_found() {
    let subca = case("subca", "/CN=Sub", &[]);
    let mut case = case("ocsp", "/CN=Sub", &[]);
    case.issuer = subca.issuer.clone();
    assert!(case.finding(subca.tbs()).is_some());
}

#[test]
fn truncated_tbs_is_found_at_every_length() {
    let case = case("server", "", &["dns:a.example"]);
    let good = case.tbs();
    for cut in 0..good.len() {
        assert!(case.finding(good[..cut].to_vec()).is_some(), "cut at {cut}");
    }
    let mut longer = good.clone();
    longer.extend(der::sequence(&[]));
    assert!(case.finding(longer).unwrap().contains("structure"));
}

//! Each key of an old configuration: carried over, lifted, listed or refused, with its line.

use super::*;
use crate::{
    name,
    profile::{Order, Presence},
};

/// A server's configuration as it stands in many places.
const SERVER: &str = "\
[ca]
default_ca = CA_default

[CA_default]
dir = ./demoCA
database = $dir/index.txt
serial = $dir/serial
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
new_certs_dir = $dir/newcerts
default_md = sha256
default_days = 90
policy = policy_anything
unique_subject = no
copy_extensions = copy
x509_extensions = server_cert

[policy_anything]
countryName = optional
organizationName = optional
commonName = supplied

[server_cert]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth
";

fn imported(text: &str) -> Imported {
    from_openssl(text, None, None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The configuration of [`SERVER`] with lines of one section in the place of others.
fn with(old: &str, new: &str) -> String {
    assert!(SERVER.contains(old), "{old}");
    SERVER.replace(old, new)
}

fn extensions(lines: &str) -> Imported {
    let (head, _) = SERVER.split_once("basicConstraints").unwrap();
    imported(&format!("{head}{lines}"))
}

fn fault(text: &str) -> String {
    from_openssl(text, None, None).expect_err(text).to_string()
}

fn left(imported: &Imported, key: &str) -> Option<LeftOut> {
    imported.left_out.iter().find(|left| left.key == key).cloned()
}

#[test]
fn a_server_comes_over_with_everything_it_says() {
    let Imported { config, left_out, .. } = imported(SERVER);
    assert_eq!(config.validity.days_default, 90);
    assert_eq!(config.subject.allowed, ["C", "O", "CN"]);
    assert_eq!(config.subject.required, ["CN"]);
    assert_eq!(config.names.types, ["dns", "ip", "email", "uri", "xmpp"]);
    assert_eq!(config.extensions.key_usage, ["digitalSignature", "keyEncipherment"]);
    assert_eq!(config.extensions.extended_key_usage, ["serverAuth"]);
    assert_eq!(config.extensions.digest.as_deref(), Some("sha256"));
    assert_eq!(config.deviations, ["key-usage-unfit", "tls-names-unchecked", "tls-other-names"]);
    let keys: Vec<_> = left_out.iter().map(|left| (left.line, left.key.as_str())).collect();
    // 90 days are over the rule from 2029 on.
    assert_eq!(keys, [(12, "default_days"), (15, "copy_extensions")]);
}

#[test]
fn what_a_person_reviews_says_what_is_weaker_and_what_is_left_out() {
    let Imported { toml, .. } = imported(&with("default_md = sha256", "default_md = md5"));
    assert!(toml.starts_with("# Imported from an openssl configuration: [CA_default]"), "{toml}");
    assert!(toml.contains("#   line 11: default_md = md5: lifted to sha256"), "{toml}");
    assert!(toml.contains("\"tls-names-unchecked\", # TLS BR"), "{toml}");
}

#[test]
fn old_digests_are_lifted_and_listed() {
    for (written, digest, listed) in [
        ("sha256", "sha256", false),
        ("SHA384", "sha384", false),
        ("sha512", "sha512", false),
        ("default", "sha256", false),
        ("md5", "sha256", true),
        ("sha1", "sha256", true),
        ("sha3-256", "sha256", true),
    ] {
        let imported = imported(&with("default_md = sha256", &format!("default_md = {written}")));
        assert_eq!(imported.config.extensions.digest.as_deref(), Some(digest), "{written}");
        assert_eq!(left(&imported, "default_md").is_some(), listed, "{written}");
    }
}

#[test]
fn days_past_the_rule_of_today_are_capped_by_date_and_listed() {
    let caps = |days: &str, purposes: &str| {
        let text = with("default_days = 90", &format!("default_days = {days}"));
        let imported = imported(&text.replace("= serverAuth", &format!("= {purposes}")));
        let caps: Vec<u32> = imported.config.validity.max.iter().map(|cap| cap.days).collect();
        let default = imported.config.validity.days_default;
        (default, caps, left(&imported, "default_days").is_some())
    };
    assert_eq!(caps("30", "serverAuth"), (30, vec![30], false));
    assert_eq!(caps("90", "serverAuth"), (90, vec![90, 46], true));
    assert_eq!(caps("730", "serverAuth"), (199, vec![199, 99, 46], true));
    assert_eq!(caps("730", "clientAuth,emailProtection"), (730, vec![730], false));
    assert_eq!(caps("900", "clientAuth,emailProtection"), (824, vec![824], true));
    assert_eq!(caps("900", "emailProtection,codeSigning"), (459, vec![459], true));
    assert_eq!(caps("900", "codeSigning,serverAuth"), (199, vec![199, 99, 46], true));
    assert_eq!(caps("3650", "clientAuth"), (3650, vec![3650], false));
    assert_eq!(caps("36500", "clientAuth"), (14610, vec![14610], true));
}

#[test]
fn match_takes_the_authoritys_own_value_and_never_goes_without() {
    let text = with("countryName = optional", "countryName = match");
    assert_eq!(
        fault(&text),
        "line 19: countryName = match compares with the CA's own subject; add --authority NAME"
    );
    let subject = name::parse("/C=AU/O=One/O=Two/CN=CA").unwrap();
    let imported = from_openssl(&text, None, Some(&subject)).unwrap();
    assert_eq!(imported.config.subject.fixed["C"], "AU");
    assert_eq!(imported.config.subject.required, ["C", "CN"]);
    let nobody = name::parse("/CN=CA").unwrap();
    let error = from_openssl(&text, None, Some(&nobody)).unwrap_err();
    assert_eq!(error.fault, ImportFault::MatchNotInCa("countryName".into()));
    let several = with("organizationName = optional", "organizationName = match");
    let imported = from_openssl(&several, None, Some(&subject)).unwrap();
    assert_eq!(imported.config.subject.fixed["O"], "One");
    assert!(left(&imported, "organizationName").is_some());
}

#[test]
fn policy_words_and_names_are_those_of_openssl() {
    assert!(fault(&with("countryName = optional", "countryName = maybe")).contains("line 19"));
    assert!(
        fault(&with("countryName = optional", "0.OU = optional")).contains("no such attribute")
    );
    assert!(fault(&with("countryName = optional", "CN = optional")).contains("twice"));
    let imported =
        imported(&with("countryName = optional", "2.5.4.11 = optional\ninitials = supplied"));
    assert_eq!(imported.config.subject.allowed, ["OU", "O", "CN"]);
    assert_eq!(left(&imported, "initials").map(|left| left.line), Some(20));
}

#[test]
fn preserve_holds_only_where_openssl_looks_for_it() {
    let own = imported(&with("unique_subject = no", "unique_subject = no\npreserve = yes"));
    assert_eq!(own.config.subject.order, Order::AsAllowed);
    assert!(left(&own, "preserve").unwrap().why.contains("no effect"));
    let base = imported(&with("[ca]\n", "[ca]\npreserve = yes\n"));
    assert_eq!(base.config.subject.order, Order::AsAsked);
    assert!(left(&base, "preserve").unwrap().why.contains("subject.allowed"));
    let no = imported(&with("[ca]\n", "[ca]\npreserve = no\n"));
    assert_eq!((no.config.subject.order, left(&no, "preserve")), (Order::AsAllowed, None));
}

#[test]
fn email_in_dn_no_keeps_addresses_out_of_the_subject() {
    let text = with("commonName = supplied", "commonName = supplied\nemailAddress = supplied");
    assert_eq!(imported(&text).config.subject.required, ["CN", "emailAddress"]);
    let text = text.replace("unique_subject = no", "email_in_dn = no\nunique_subject = no");
    let imported = imported(&text);
    assert_eq!(imported.config.subject.allowed, ["C", "O", "CN"]);
    assert!(left(&imported, "email_in_dn").unwrap().wider);
}

#[test]
fn what_is_wider_than_before_is_said_so() {
    let imported = imported(&with("unique_subject = no", "unique_subject = yes"));
    let unique = left(&imported, "unique_subject").unwrap();
    assert!(unique.wider);
    assert!(unique.to_string().starts_with("line 14: WIDER than before: unique_subject = yes: "));
    // yes is openssl's default.
    let absent = self::imported(&with("unique_subject = no\n", ""));
    let absent = left(&absent, "unique_subject").unwrap();
    assert_eq!(absent.line, 4);
    assert!(absent.to_string().contains("WIDER than before: unique_subject is not set: "));
}

#[test]
fn names_come_from_where_they_came_from() {
    let names = |copy: &str, line: &str| {
        let text = with("copy_extensions = copy", &format!("copy_extensions = {copy}"));
        let text = text.replace("= serverAuth", "= clientAuth");
        imported(&format!("{text}{line}")).config.names
    };
    assert!(names("none", "").types.is_empty());
    assert_eq!(names("copy", "").types, ["dns", "ip", "email", "uri", "xmpp"]);
    assert!(!names("copy", "").from_subject);
    // What the configuration sets is not copied.
    assert!(names("copy", "subjectAltName = DNS:a.example\n").types.is_empty());
    // The policy keeps addresses out of the subject, so there are none to copy.
    assert!(names("copy", "subjectAltName = email:copy\n").types.is_empty());
    let email = "subjectAltName = email:copy\n[policy_anything]\nemailAddress = optional\n";
    let emails = names("copy", email);
    assert_eq!((emails.types, emails.from_subject), (vec!["email".to_owned()], true));
    let all = names("copyall", email);
    assert!(all.from_subject && all.types.contains(&"dns".to_owned()));
}

#[test]
fn a_name_for_every_certificate_is_listed_with_its_line() {
    let section = "subjectAltName = @alt\n[alt]\nDNS.1 = a.example\nemail = copy\n\
                   [policy_anything]\nemailAddress = optional\n";
    let text = with("= serverAuth\n", &format!("= clientAuth\n{section}"));
    let imported = imported(&text);
    assert_eq!(imported.config.names.types, ["email"]);
    let left: Vec<_> =
        imported.left_out.iter().filter(|left| left.key == "subjectAltName").collect();
    assert_eq!((left[1].line, left[1].value.as_str()), (29, "DNS.1:a.example"));
}

#[test]
fn basic_constraints_keep_their_form() {
    let form = |line: &str| {
        let imported = extensions(&format!(
            "{line}extendedKeyUsage = clientAuth\nkeyUsage=critical,keyAgreement\n"
        ));
        (imported.config.extensions.basic_constraints, imported.config.deviations)
    };
    assert_eq!(form("basicConstraints = critical, CA:FALSE\n").0, Presence::Critical);
    let (plain, deviations) = form("basicConstraints = CA:no\n");
    assert_eq!(plain, Presence::Plain);
    assert_eq!(deviations, ["basic-constraints-not-critical"]);
    let (absent, deviations) = form("");
    assert_eq!(absent, Presence::Absent);
    assert_eq!(deviations, ["basic-constraints-absent"]);
}

#[test]
fn a_ca_is_for_the_console_alone() {
    let imported = extensions(
        "basicConstraints = CA:TRUE, pathlen:0\nkeyUsage = critical, keyCertSign, CRL Sign\n\
         nameConstraints = critical, permitted;DNS:example.org, excluded;IP:192.0.2.0/255.255.255.0\n",
    );
    assert!(imported.config.console_only);
    assert_eq!(imported.config.extensions.path_length, Some(0));
    assert_eq!(imported.config.extensions.key_usage, ["keyCertSign", "cRLSign"]);
    let constraints = imported.config.extensions.name_constraints.clone().unwrap();
    assert_eq!(constraints.permitted, ["dns:example.org"]);
    assert_eq!(constraints.excluded, ["ip:192.0.2.0/24"]);
    assert!(left(&imported, "basicConstraints").unwrap().why.contains("critical"));
}

#[test]
fn a_restriction_is_never_left_out_in_part() {
    let (head, _) = SERVER.split_once("basicConstraints").unwrap();
    let ca = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n";
    for (line, part) in [
        ("permitted;dirName:dir", "permitted;dirName:dir"),
        ("permitted;DNS:a.example, excluded;RID:1.2.3", "excluded;RID:1.2.3"),
        ("permitted;IP:192.0.2.0/255.0.255.0", "permitted;IP:192.0.2.0/255.0.255.0"),
    ] {
        let error = fault(&format!("{head}{ca}nameConstraints = critical,{line}\n"));
        assert!(error.contains(part) && error.starts_with("line 26: "), "{error}");
    }
    let imported = imported(&format!("{head}{ca}policyConstraints = requireExplicitPolicy:3\n"));
    assert!(left(&imported, "policyConstraints").unwrap().wider);
}

#[test]
fn purposes_of_old_software_come_over_by_their_identifiers() {
    let imported =
        extensions("extendedKeyUsage = serverAuth, nsSGC, msSGC, 1.2.3.4, OCSP Signing\n");
    assert_eq!(
        imported.config.extensions.extended_key_usage,
        ["serverAuth", "2.16.840.1.113730.4.1", "1.3.6.1.4.1.311.10.3.3", "1.2.3.4", "OCSPSigning"]
    );
    assert_eq!(
        imported.config.deviations,
        [
            "key-usage-absent",
            "basic-constraints-absent",
            "ocsp-checked",
            "tls-names-unchecked",
            "tls-other-names"
        ]
    );
    let (head, _) = SERVER.split_once("extendedKeyUsage").unwrap();
    assert!(fault(&format!("{head}extendedKeyUsage = noSuchThing")).contains("noSuchThing"));
}

#[test]
fn pointers_come_over_in_both_written_forms() {
    let section = "extendedKeyUsage = clientAuth\n\
        crlDistributionPoints = @points\nauthorityInfoAccess = @access\n\
        certificatePolicies = 1.2.3.4, @policy\nfreshestCRL = point\n\
        [points]\nURI.1 = http://a.example/1.crl\nURI.2 = http://b.example/1.crl\n\
        URI.3 = ldap://a.example/x\n\
        [access]\ncaIssuers;URI.0 = http://a.example/ca.crt\nOCSP;URI.0 = http://ocsp.example/\n\
        [policy]\npolicyIdentifier = 1.2.3.5\nCPS.1 = http://a.example/cps\nuserNotice.1 = @notice\n\
        [point]\nfullname = URI:http://a.example/delta.crl\nreasons = keyCompromise\n";
    let imported = extensions(section);
    let found = &imported.config.extensions;
    assert_eq!(found.crl_urls, ["http://a.example/1.crl", "http://b.example/1.crl"]);
    assert_eq!(found.delta_crl_urls, ["http://a.example/delta.crl"]);
    assert_eq!(found.issuer_urls, ["http://a.example/ca.crt"]);
    assert_eq!(found.ocsp_urls, ["http://ocsp.example/"]);
    let policies: Vec<_> =
        found.policies.iter().map(|policy| (policy.oid.as_str(), policy.cps.as_deref())).collect();
    assert_eq!(policies, [("1.2.3.4", None), ("1.2.3.5", Some("http://a.example/cps"))]);
    let listed: Vec<&str> = imported.left_out.iter().map(|left| left.key.as_str()).collect();
    for key in ["crlDistributionPoints", "authorityInfoAccess", "userNotice.1", "reasons"] {
        assert!(listed.contains(&key), "{key} in {listed:?}");
    }
}

#[test]
fn what_nothing_reads_any_more_is_left_out_by_line() {
    let imported = extensions(
        "nsComment = \"OpenSSL, Generated\"\nnsCertType = server\nissuerAltName = issuer:copy\n\
         extendedKeyUsage = clientAuth\n1.2.3.4 = DER:05:00\nsubjectKeyIdentifier = none\n\
         authorityKeyIdentifier = keyid,issuer:always\n",
    );
    let listed: Vec<_> =
        imported.left_out.iter().map(|left| (left.line, left.key.as_str())).collect();
    assert_eq!(
        listed[1..],
        [
            (24, "nsComment"),
            (25, "nsCertType"),
            (26, "issuerAltName"),
            (28, "1.2.3.4"),
            (29, "subjectKeyIdentifier"),
            (30, "authorityKeyIdentifier")
        ]
    );
}

#[test]
fn must_staple_is_known_by_both_of_its_names() {
    let ocsp = "extendedKeyUsage = clientAuth\nauthorityInfoAccess = OCSP;URI:http://o.example/\n";
    for line in ["tlsfeature = status_request", "1.3.6.1.5.5.7.1.24 = DER:30:03:02:01:05"] {
        assert!(extensions(&format!("{ocsp}{line}\n")).config.extensions.must_staple, "{line}");
    }
    // Nothing to staple.
    let bare = extensions("extendedKeyUsage = clientAuth\ntlsfeature = status_request\n");
    assert!(!bare.config.extensions.must_staple);
    assert!(left(&bare, "tlsfeature").is_some());
}

#[test]
fn other_sections_are_chosen_as_openssl_chooses_them() {
    let environment = BTreeMap::new();
    let text = format!(
        "{SERVER}[other]\npolicy = policy_anything\ndefault_days = 7\n[v3]\nextendedKeyUsage=clientAuth\n"
    );
    let source = Source {
        section: Some("other"),
        extensions: Some("v3"),
        ca_subject: None,
        environment: &environment,
    };
    let imported = import(text.as_bytes(), &source).unwrap();
    assert_eq!(imported.config.extensions.extended_key_usage, ["clientAuth"]);
    assert_eq!(imported.config.validity.days_default, 7);
    let nowhere = Source { section: Some("nowhere"), ..source };
    assert!(import(text.as_bytes(), &nowhere).unwrap_err().to_string().contains("[nowhere]"));
    let nowhere = Source { extensions: Some("nowhere"), ..source };
    assert!(import(text.as_bytes(), &nowhere).unwrap_err().to_string().contains("--extensions"));
}

#[test]
fn faults_name_their_line_and_what_to_do() {
    for (old, new, expected) in [
        ("default_ca = CA_default", "", "line 1: the file has no default_ca in [ca]; name"),
        ("default_ca = CA_default", "default_ca = x", "line 2: default_ca names the section [x]"),
        ("policy = policy_anything\n", "", "line 4: [CA_default] has no policy, without which"),
        ("policy = policy_anything", "policy = x", "line 13: policy names the section [x]"),
        ("= server_cert", "= x", "line 16: x509_extensions names the section [x]"),
        ("default_days = 90", "default_days = soon", "line 12: default_days = soon: it is no"),
        ("= copy\n", "= some\n", "line 15: copy_extensions = some: it is not none, copy"),
        ("CA:FALSE", "CA:MAYBE", "line 24: basicConstraints = CA:MAYBE: it is not CA:TRUE"),
        ("digitalSignature", "sign", "line 25: keyUsage = sign,keyEncipherment: openssl knows"),
        ("= sha256", "= $ENV::MD", "line 11: the value depends on the environment variable MD"),
        ("[server_cert]", "[server_cert", "line 23: the section's name has no `]`"),
    ] {
        let error = fault(&with(old, new));
        assert!(error.starts_with(expected), "{error}\n{expected}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_configuration_without_extensions_serves_any_purpose_by_name() {
    let imported = imported(&with("x509_extensions = server_cert\n", ""));
    assert_eq!(
        imported.config.deviations,
        ["key-usage-absent", "basic-constraints-absent", "any-purpose"]
    );
    assert!(left(&imported, "x509_extensions").is_some());
}

#[test]
fn a_value_with_line_breaks_cannot_leave_its_comment() {
    let imported =
        extensions("nsComment = a\\nconsole_only = true\nextendedKeyUsage = clientAuth\n");
    assert!(!imported.config.console_only);
    assert!(imported.toml.contains("nsComment = a\\nconsole_only"), "{}", imported.toml);
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// One line of a good file in the place of another, or nonsense in it: a profile without
        /// faults, or a sentence.
        #[test]
        fn a_changed_file_gives_a_profile_or_a_sentence(
            lines in proptest::collection::vec((0_usize..26, 0_usize..26, ".{0,12}"), 1..4),
        ) {
            let mut text: Vec<String> = SERVER.lines().map(str::to_owned).collect();
            for (from, to, nonsense) in lines {
                text[to] = text[from].clone() + &nonsense;
            }
            match from_openssl(&text.join("\n"), None, None) {
                Ok(imported) => prop_assert!(!imported.toml.is_empty()),
                Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
            }
        }
    }
}

//! Certificates of every default profile, and CRLs, before four judges who know nothing of us:
//! OpenSSL, GnuTLS, NSS and pkilint.
//!
//! What pkilint is expected to find stands here, one by one, with the reason; anything else that it
//! finds fails, and so does an expected finding that is no longer there.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use tests::{
    Cable, World,
    judges::{Finding, Linter, Nss, pkilint},
    story,
    world::COMMAND_MAX,
};

/// A certificate to be issued and judged.
struct Leaf {
    profile: &'static str,
    subject: &'static str,
    names: &'static [&'static str],
    /// `openssl verify -purpose`.
    openssl: &'static [&'static str],
    /// `certtool --verify-purpose`.
    gnutls: &'static [&'static str],
    /// `certutil -V -u` and `vfychain -u`.
    nss: &'static [(&'static str, &'static str)],
    /// Beside the linter for RFC 5280.
    linters: &'static [(Linter, &'static [Expected])],
}

/// A finding that is right, and why it stays.
struct Expected {
    code: &'static str,
    /// Part of the message.
    says: &'static str,
    /// Only for keys of this kind: `rsa` or `ec`; empty for both.
    key: &'static str,
    /// For who reads this list.
    #[expect(dead_code, reason = "read by people")]
    why: &'static str,
}

const fn expected(code: &'static str, why: &'static str) -> Expected {
    Expected { code, says: "", key: "", why }
}

impl Expected {
    const fn only(mut self, key: &'static str) -> Self {
        self.key = key;
        self
    }

    const fn saying(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }
}

//------------ The linters ---------------------------------------------------

const PKIX: Linter = &["lint_pkix_cert"];
const TLS_DOMAIN: Linter = &["lint_cabf_serverauth_cert", "--type", "DV-FINAL-CERTIFICATE"];
const TLS_ORGANISATION: Linter = &["lint_cabf_serverauth_cert", "--type", "OV-FINAL-CERTIFICATE"];
const TLS_OCSP: Linter = &["lint_cabf_serverauth_cert", "--type", "OCSP-RESPONDER"];
const TLS_ROOT: Linter = &["lint_cabf_serverauth_cert", "--type", "ROOT-CA"];
const TLS_ISSUER: Linter =
    &["lint_cabf_serverauth_cert", "--type", "INTERNAL-UNCONSTRAINED-TLS-CA"];
const MAIL_MAILBOX: Linter = &["lint_cabf_smime_cert", "--type", "MAILBOX-MULTIPURPOSE"];
const MAIL_SPONSORED: Linter = &["lint_cabf_smime_cert", "--type", "SPONSORED-MULTIPURPOSE"];
const CRL_PKIX: Linter = &["lint_crl", "--type", "CRL", "--profile", "PKIX"];
const CRL_TLS: Linter = &["lint_crl", "--type", "CRL", "--profile", "BR"];
const ARL_PKIX: Linter = &["lint_crl", "--type", "ARL", "--profile", "PKIX"];
const ARL_TLS: Linter = &["lint_crl", "--type", "ARL", "--profile", "BR"];
const CRL_LINTERS: [Linter; 2] = [CRL_PKIX, CRL_TLS];
const ARL_LINTERS: [Linter; 2] = [ARL_PKIX, ARL_TLS];

//------------ What is expected, with the reasons ----------------------------

const NO_URLS: &str =
    "a new authority has no addresses to write down until its operator gives some";
const NO_POLICY: &str = "a policy is the operator's promise, so no default profile makes one";
const KEY_ID: &str = "RFC 5280 4.2.1.2 wants the subject key identifier that the BR discourage";
const NAMED: &str = "a common name that repeats a name is allowed, and asked for by old software";
const BOTH_USES: &str = "TLS 1.2 without ECDHE needs keyEncipherment; the BR discourage it";
const CPS: &str = "the practice statement was asked for by the profile";

const SERVER_DEFAULT: [Expected; 7] = [
    expected("cabf.serverauth.dv.common_name_attribute_present", NAMED),
    expected("cabf.serverauth.subscriber.revocation_information_absent", NO_URLS),
    expected("msft.end_entity.revocation_information_absent", NO_URLS),
    expected("cabf.serverauth.subscriber.authority_info_access_extension_absent", NO_URLS),
    expected("cabf.serverauth.subscriber.certificate_policies_extension_absent", NO_POLICY),
    expected("cabf.serverauth.subscriber.subject_key_identifier_extension_present", KEY_ID),
    expected(
        "cabf.serverauth.subscriber_rsa_digitalsignature_and_keyencipherment_present",
        BOTH_USES,
    )
    .only("rsa"),
];

const SERVER_ORG_DEFAULT: [Expected; 8] = [
    expected("cabf.serverauth.ov.common_name_attribute_present", NAMED),
    expected("cabf.serverauth.subscriber.revocation_information_absent", NO_URLS),
    expected("msft.end_entity.revocation_information_absent", NO_URLS),
    expected("cabf.serverauth.subscriber.authority_info_access_extension_absent", NO_URLS),
    expected("cabf.serverauth.subscriber.certificate_policies_extension_absent", NO_POLICY),
    expected("cabf.serverauth.subscriber.subject_key_identifier_extension_present", KEY_ID),
    expected(
        "cabf.serverauth.subscriber_rsa_digitalsignature_and_keyencipherment_present",
        BOTH_USES,
    )
    .only("rsa"),
    expected("cabf.internal_ip_address", "RFC 5737: the address is one for documentation")
        .saying("192.0.2.7"),
];

const CLIENT_DEFAULT: [Expected; 3] = [
    expected("cabf.smime.certificate_policies_extension_missing", NO_POLICY),
    expected("cabf.aia_extension_missing", NO_URLS),
    expected("cabf.smime.crldp_extension_missing", NO_URLS),
];

const CLIENT_ORG_DEFAULT: [Expected; 4] = [
    expected("cabf.smime.certificate_policies_extension_missing", NO_POLICY),
    expected("cabf.aia_extension_missing", NO_URLS),
    expected("cabf.smime.crldp_extension_missing", NO_URLS),
    expected(
        "cabf.smime.missing_required_attribute",
        "organizationIdentifier is no attribute that can be asked for over the cable",
    )
    .saying("2.5.4.97"),
];

const ISSUER_DEFAULT: [Expected; 4] = [
    expected("cabf.serverauth.ca.certificate_policies_extension_absent", NO_POLICY),
    expected("cabf.serverauth.ca.crl_distribution_points_extension_absent", NO_URLS),
    expected("cabf.serverauth.ca.authority_info_access_extension_absent", NO_URLS),
    expected("cabf.serverauth.ca.extended_key_usage_extension_absent", ALL_TYPES),
];
const ALL_TYPES: &str = "one issuing authority serves all eight types, not TLS alone";

const RICH_SERVER: [Expected; 6] = [
    expected("cabf.serverauth.dv.common_name_attribute_present", NAMED),
    expected("cabf.serverauth.certificate_policy_qualifier_present", CPS),
    expected("cabf.serverauth.subscriber.subject_key_identifier_extension_present", KEY_ID),
    expected("cabf.serverauth.subscriber.unknown_extension_present", "the profile has must-staple")
        .saying("1.3.6.1.5.5.7.1.24"),
    expected("cabf.serverauth.subscriber.unknown_extension_present", "the profile has a delta CRL")
        .saying("2.5.29.46"),
    expected(
        "cabf.serverauth.subscriber_rsa_digitalsignature_and_keyencipherment_present",
        BOTH_USES,
    )
    .only("rsa"),
];

const QUALIFIED: [Expected; 1] = [expected("pkix.certificate_policies_policy_has_qualifier", CPS)];

//------------ What is issued ------------------------------------------------

const MAIL: &str = "1.3.6.1.5.5.7.3.4";

const LEAVES: [Leaf; 9] = [
    Leaf {
        profile: "server",
        subject: "/CN=www.example.org",
        names: &["dns:www.example.org", "dns:*.example.org"],
        openssl: &["sslserver"],
        gnutls: &["1.3.6.1.5.5.7.3.1"],
        nss: &[("V", "1")],
        linters: &[(PKIX, &WILDCARD), (TLS_DOMAIN, &SERVER_DEFAULT)],
    },
    Leaf {
        profile: "server-org",
        subject: "/C=DE/L=Köln/O=Beispiel e.V./CN=www.example.org",
        names: &["dns:www.example.org", "ip:192.0.2.7"],
        openssl: &["sslserver"],
        gnutls: &["1.3.6.1.5.5.7.3.1"],
        nss: &[("V", "1")],
        linters: &[(PKIX, &[]), (TLS_ORGANISATION, &SERVER_ORG_DEFAULT)],
    },
    Leaf {
        profile: "client",
        subject: "/CN=jane@example.org/emailAddress=jane@example.org",
        names: &["email:jane@example.org"],
        openssl: &["sslclient", "smimesign"],
        gnutls: &["1.3.6.1.5.5.7.3.2", MAIL],
        nss: &[("C", "0"), ("S", "4"), ("R", "5")],
        linters: &[(PKIX, &[]), (MAIL_MAILBOX, &CLIENT_DEFAULT)],
    },
    Leaf {
        profile: "client-org",
        subject: "/C=DE/O=Beispiel e.V./GN=Zoë/SN=Łukasiewicz/CN=Zoë Łukasiewicz",
        names: &["email:zoe@example.org"],
        openssl: &["sslclient", "smimesign"],
        gnutls: &["1.3.6.1.5.5.7.3.2", MAIL],
        nss: &[("C", "0"), ("S", "4"), ("R", "5")],
        linters: &[(PKIX, &[]), (MAIL_SPONSORED, &CLIENT_ORG_DEFAULT)],
    },
    Leaf {
        profile: "client-codesign",
        subject: "/CN=Jane Doe",
        names: &["email:jane@example.org"],
        openssl: &["sslclient", "smimesign"],
        gnutls: &["1.3.6.1.5.5.7.3.3", MAIL],
        nss: &[("C", "0"), ("S", "4"), ("J", "6")],
        linters: &[(PKIX, &[])],
    },
    Leaf {
        profile: "ocsp",
        subject: "/C=DE/O=Beispiel e.V./CN=OCSP responder",
        names: &[],
        openssl: &["ocsphelper"],
        gnutls: &["1.3.6.1.5.5.7.3.9"],
        nss: &[("O", "10")],
        linters: &[(PKIX, &[]), (TLS_OCSP, &[])],
    },
    Leaf {
        profile: "timestamp",
        subject: "/C=DE/O=Beispiel e.V./CN=Time stamping",
        names: &[],
        openssl: &["timestampsign"],
        gnutls: &["1.3.6.1.5.5.7.3.8"],
        // NSS has no usage for it; that it can be read is judged for all.
        nss: &[],
        linters: &[(PKIX, &[])],
    },
    Leaf {
        profile: "rich-server",
        subject: "/CN=www.example.org",
        names: &["dns:www.example.org"],
        openssl: &["sslserver"],
        gnutls: &["1.3.6.1.5.5.7.3.1"],
        nss: &[("V", "1")],
        linters: &[(PKIX, &QUALIFIED), (TLS_DOMAIN, &RICH_SERVER)],
    },
    Leaf {
        profile: "rich-client",
        subject: "/CN=jane@example.org",
        names: &["email:jane@example.org", "xmpp:jane@im.example.org"],
        openssl: &["sslclient", "smimesign"],
        gnutls: &["1.3.6.1.5.5.7.3.2", MAIL],
        nss: &[("C", "0"), ("S", "4"), ("R", "5")],
        linters: &[(PKIX, &QUALIFIED), (MAIL_MAILBOX, &QUALIFIED)],
    },
];

const WILDCARD: [Expected; 1] =
    [expected("pkix.invalid_domain_name_syntax", "RFC 5280 leaves wildcards to others: the BR")
        .saying("*.example.org")];

/// Everything that an end entity's profile can write beside what the defaults do.
const ADDRESSES: &str = r#"[extensions]
crl_urls = ["http://crl.example.org/issuing.crl"]
ocsp_urls = ["http://ocsp.example.org/"]
issuer_urls = ["http://crl.example.org/issuing.crt"]
"#;

/// Everything that a CA's profile can write.
const CONSTRAINTS: &str = r#"
[[extensions.policies]]
oid = "2.5.29.32.0"

[extensions.name_constraints]
permitted = ["dns:example.org", "email:example.org", "ip:192.0.2.0/24"]
excluded = ["dns:secret.example.org"]
"#;

#[test]
fn what_an_rsa_authority_signs_passes_every_judge() {
    story(Cable::Unix, |world| judge_authority(world, "rsa:4096", "rsa:2048"));
}

#[test]
fn what_an_elliptic_authority_signs_passes_every_judge() {
    story(Cable::Unix, |world| judge_authority(world, "ec:P-256", "ec:P-256"));
}

fn judge_authority(world: &mut World, issuer_key: &str, key: &str) -> Result<()> {
    found(world, issuer_key)?;
    world.start()?;
    let mut court = Court::new(world, key)?;
    let mut files = Vec::new();
    for leaf in &LEAVES {
        files.push((leaf.profile, court.judge_leaf(leaf)?));
    }
    court.judge_authorities()?;
    court.judge_constrained()?;
    let revoked = [("server", "keyCompromise"), ("client", "superseded"), ("ocsp", "unspecified")];
    for (profile, reason) in revoked {
        let file = files.iter().find(|row| row.0 == profile).context("it was issued")?;
        let words = ["revoke", "--authority", "issuing", "--reason", reason, "--wait", "--cert"];
        world.frontend(&[&words[..], &[&file.1]].concat())?.done()?;
    }
    court.judge_crls(&files[0].1, &files[1].1)?;
    court.close()
}

#[test]
fn delta_and_sharded_crls_pass_every_judge() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let urls = "[extensions]\ncrl_urls = [\"http://crl.example.org/issuing-{shard}.crl\"]\n";
        world.profile("server", "server", &[("[extensions]\n", urls)])?;
        let config = world.authority("issuing", "authority.toml");
        let lines = "delta = true\ndelta_urls = [\"http://crl.example.org/d.crl\"]\nshards = 2\n";
        fs::write(&config, fs::read_to_string(&config)? + lines)?;
        world.start()?;
        for name in ["one", "two", "three"] {
            let csr = world.csr(name, "ec:P-256", "/CN=ignored")?;
            let san = format!("dns:{name}.example.org");
            let words = ["request", "--authority", "issuing", "--profile", "server", "--csr", &csr];
            let subject = ["--subject", &format!("/CN={name}.example.org"), "--san", &san];
            let (_, file) = world.complete(&[&words[..], &subject].concat())?;
            let words = ["revoke", "--authority", "issuing", "--wait", "--cert", &file];
            world.frontend(&words)?.done()?;
        }
        world.run_until_idle(COMMAND_MAX)?;
        let mut court = Court::new(world, "ec:P-256")?;
        let scopes: [&[&str]; 4] = [&[], &["--delta"], &["--shard", "0"], &["--shard", "1"]];
        for scope in scopes {
            court.judge_crl("issuing", scope, CRL_LINTERS)?;
        }
        court.close()
    });
}

/// A root, an issuing authority below it, and one whose names are constrained; all of them with a
/// country, as the BR want it.
fn found(world: &World, key: &str) -> Result<()> {
    world.signer(&["init"])?.done()?;
    let create = |name: &str, subject: &str, more: &[&str]| {
        let words = ["authority", "create", name, "--subject", subject, "--key", key];
        world.signer(&[&words[..], more].concat())?.done().map(drop)
    };
    create("root", "/C=DE/O=Beispiel e.V./CN=Root", &[])?;
    create("issuing", "/C=DE/O=Beispiel e.V./CN=Issuing", &["--issued-by", "root"])?;

    let subca = world.authority("root", "profiles/subca.toml");
    let plain = fs::read_to_string(&subca)?;
    let addresses = ADDRESSES.replace("issuing.", "root.");
    fs::write(&subca, plain.replace("[extensions]\n", &addresses) + CONSTRAINTS)?;
    create("constrained", "/C=DE/O=Beispiel e.V./CN=Constrained", &["--issued-by", "root"])?;

    let more = "must_staple = true\ndelta_crl_urls = [\"http://crl.example.org/delta.crl\"]\n";
    let rich = format!("{ADDRESSES}{more}");
    world.profile("rich-server", "server", &[("[extensions]\n", &rich)])?;
    world.profile("rich-client", "client", &[("[extensions]\n", ADDRESSES)])?;
    // Reserved by the CA/Browser Forum for these two kinds of certificate.
    for (name, oid) in [("rich-server", "2.23.140.1.2.1"), ("rich-client", "2.23.140.1.5.1.2")] {
        let file = world.authority("issuing", &format!("profiles/{name}.toml"));
        let cps = "http://www.example.org/cps";
        let policy = format!("\n[[extensions.policies]]\noid = \"{oid}\"\ncps = \"{cps}\"\n");
        fs::write(&file, fs::read_to_string(&file)? + &policy)?;
    }
    world.frontend(&["init"])?.done()?;
    world.pair()
}

//------------ The court -----------------------------------------------------

struct Court<'w> {
    world: &'w World,
    nss: Nss<'w>,
    /// The subjects' keys: `rsa:2048`, ...
    key: &'w str,
    root: String,
    issuing: String,
    /// Judged together at the end: pkilint takes its time to start.
    lints: Vec<(Linter, String, &'static [Expected])>,
}

impl<'w> Court<'w> {
    fn new(world: &'w World, key: &'w str) -> Result<Self> {
        let (root, issuing) =
            (world.authority("root", "ca.crt"), world.authority("issuing", "ca.crt"));
        let nss = Nss::new(world, "nss", &root, &issuing)?;
        Ok(Self { world, nss, key, root, issuing, lints: Vec::new() })
    }

    /// Issues and judges one certificate; its file.
    fn judge_leaf(&mut self, leaf: &Leaf) -> Result<String> {
        let file = self.issue("issuing", leaf.profile, leaf.subject, leaf.names)?;
        let told = |who: &str| format!("{who} about profile {}", leaf.profile);
        for purpose in leaf.openssl {
            self.openssl(&file, &self.issuing, purpose).with_context(|| told("OpenSSL"))?;
        }
        for purpose in leaf.gnutls {
            self.gnutls(&file, &self.issuing, purpose).with_context(|| told("GnuTLS"))?;
        }
        self.nss.add(leaf.profile, &file, ",,")?;
        let shown = self.nss.certutil(&["-L", "-n", leaf.profile])?.done()?.text();
        ensure!(shown.contains("Certificate Basic Constraints"), "NSS reads {shown}");
        for (usage, number) in leaf.nss {
            let words = ["-V", "-e", "-n", leaf.profile, "-u", usage];
            let judged = self.nss.certutil(&words)?.done().with_context(|| told("NSS"))?;
            ensure!(judged.text().contains("certificate is valid"), "{}", judged.text());
            let judged = self.nss.vfychain(number, &file, &self.issuing)?;
            let judged = judged.done().with_context(|| told("NSS"))?;
            ensure!(judged.stderr.contains("Chain is good!"), "{}", judged.stderr);
        }
        for (linter, expected) in leaf.linters {
            self.lints.push((linter, file.clone(), expected));
        }
        Ok(file)
    }

    /// The authorities' own certificates: the eighth profile, and roots.
    fn judge_authorities(&mut self) -> Result<()> {
        let strict = ["verify", "-x509_strict", "-check_ss_sig", "-CAfile", &self.root];
        for file in [&self.root, &self.issuing] {
            self.world.openssl(&[&strict[..], &[file]].concat())?;
        }
        for (nickname, usage) in [("issuing", "L"), ("issuing", "A"), ("root", "A")] {
            let judged = self.nss.certutil(&["-V", "-e", "-n", nickname, "-u", usage])?.done()?;
            ensure!(judged.text().contains("certificate is valid"), "{}", judged.text());
        }
        let (root, issuing) = (self.root.clone(), self.issuing.clone());
        self.lints.push((PKIX, root.clone(), &[]));
        self.lints.push((TLS_ROOT, root, &[]));
        self.lints.push((PKIX, issuing.clone(), &[]));
        self.lints.push((TLS_ISSUER, issuing, &ISSUER_DEFAULT));
        Ok(())
    }

    /// An authority whose names are constrained, and a certificate below it within them.
    fn judge_constrained(&mut self) -> Result<()> {
        let authority = self.world.authority("constrained", "ca.crt");
        let shown = self.world.openssl(&["x509", "-in", &authority, "-noout", "-text"])?.text();
        ensure!(shown.contains("Name Constraints: critical"), "{shown}");
        self.world.openssl(&["verify", "-x509_strict", "-CAfile", &self.root, &authority])?;
        self.lints.push((PKIX, authority.clone(), &[]));
        let name = ["dns:www.example.org"];
        let file = self.issue("constrained", "server", "/CN=www.example.org", &name)?;
        self.openssl(&file, &authority, "sslserver")?;
        self.gnutls(&file, &authority, "1.3.6.1.5.5.7.3.1")?;
        let judged = self.nss.vfychain("1", &file, &authority)?.done()?;
        ensure!(judged.stderr.contains("Chain is good!"), "{}", judged.stderr);
        self.lints.push((PKIX, file, &[]));
        Ok(())
    }

    /// The CRLs of an authority with revocations and of the root without; one certificate in it
    /// and one not.
    fn judge_crls(&mut self, revoked: &str, good: &str) -> Result<()> {
        for (authority, linters) in [("issuing", CRL_LINTERS), ("root", ARL_LINTERS)] {
            let der = self.judge_crl(authority, &[], linters)?;
            // It checks the signature against the issuer in the database.
            self.nss.crlutil(&["-I", "-i", &der])?.done()?;
        }
        let listed = self.nss.crlutil(&["-L"])?.done()?.text();
        ensure!(listed.contains("issuing") && listed.contains("root"), "{listed}");
        let judged = self.nss.vfychain_with_crl(good, &self.issuing)?.done()?;
        ensure!(judged.stderr.contains("Chain is good!"), "{}", judged.stderr);
        let judged = self.nss.vfychain_with_crl(revoked, &self.issuing)?;
        ensure!(judged.stderr.contains("has been revoked"), "{}", judged.stderr);
        Ok(())
    }

    /// One mirrored CRL; the file of its DER.
    fn judge_crl(
        &mut self,
        authority: &str,
        scope: &[&str],
        linters: [Linter; 2],
    ) -> Result<String> {
        let world = self.world;
        let name = format!("{authority}{}", scope.concat());
        let (file, der) = (world.file(&format!("{name}.pem")), world.file(&format!("{name}.der")));
        world.frontend(&[&["crl", authority, "--out", &file], scope].concat())?.done()?;
        let certificate = world.authority(authority, "ca.crt");
        let chain = fs::read_to_string(&certificate)? + &fs::read_to_string(&self.root)?;
        let chain = world.write("chain.pem", chain)?;
        let words = ["crl", "-in", &file, "-verify", "-CAfile", &chain];
        let judged = world.openssl(&[&words[..], &["-outform", "DER", "-out", &der]].concat())?;
        ensure!(judged.stderr.contains("verify OK"), "{name}: {}", judged.stderr);
        let words = ["--verify-crl", "--load-ca-certificate", &certificate, "--infile", &file];
        let judged = world.tool("certtool", &words)?.done()?;
        ensure!(judged.text().contains("Verified."), "{name}: {}", judged.text());
        for linter in linters {
            self.lints.push((linter, file.clone(), &[]));
        }
        Ok(der)
    }

    /// pkilint's judgement of everything.
    fn close(self) -> Result<()> {
        let lints: Vec<(Linter, String)> =
            self.lints.iter().map(|(linter, file, _)| (*linter, file.clone())).collect();
        let kind = self.key.split(':').next().unwrap_or_default();
        let mut wrong = Vec::new();
        for ((linter, file, expected), found) in self.lints.iter().zip(pkilint(&lints)?) {
            let expected = expected.iter().filter(|row| row.key.is_empty() || row.key == kind);
            let differences = compare(expected, &found);
            if !differences.is_empty() {
                let subject = ["x509", "-in", file, "-noout", "-subject"];
                let subject = self.world.tool("openssl", &subject)?.text();
                let (linter, subject) = (linter.join(" "), subject.trim().to_owned());
                wrong.push(format!("{linter} {file} {subject}\n  {}", differences.join("\n  ")));
            }
        }
        ensure!(wrong.is_empty(), "pkilint's judgements:\n{}", wrong.join("\n"));
        Ok(())
    }

    fn issue(
        &self,
        authority: &str,
        profile: &str,
        subject: &str,
        names: &[&str],
    ) -> Result<String> {
        let csr = self.world.csr(profile, self.key, "/CN=ignored")?;
        let words = ["request", "--authority", authority, "--profile", profile, "--csr", &csr];
        let names = names.iter().flat_map(|name| ["--san", name]);
        let words: Vec<&str> =
            words.into_iter().chain(["--subject", subject]).chain(names).collect();
        let (_, file) =
            self.world.complete(&words).with_context(|| format!("profile {profile}"))?;
        Ok(file)
    }

    fn openssl(&self, file: &str, issuing: &str, purpose: &str) -> Result<()> {
        let words = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &self.root];
        self.world.openssl(&[&words[..], &["-untrusted", issuing, file]].concat()).map(drop)
    }

    fn gnutls(&self, file: &str, issuing: &str, purpose: &str) -> Result<()> {
        let chain = fs::read_to_string(file)? + &fs::read_to_string(issuing)?;
        let chain = self.world.write("chain.pem", chain)?;
        let words = ["--verify", "--verify-purpose", purpose, "--infile", &chain];
        let judged = self
            .world
            .tool("certtool", &[&words[..], &["--load-ca-certificate", &self.root]].concat())?;
        let judged = judged.done()?;
        ensure!(
            judged.text().contains("Verified. The certificate is trusted"),
            "{}",
            judged.text()
        );
        let read = self.world.tool("certtool", &["-i", "--infile", file])?.done()?.text();
        for line in read.lines().filter(|line| line.contains("Unknown extension")) {
            let known = UNKNOWN_TO_GNUTLS.iter().any(|oid| line.contains(oid));
            ensure!(known && line.contains("not critical"), "GnuTLS reads {line}");
        }
        Ok(())
    }
}

/// OCSP no check (RFC 6960) and freshest CRL (RFC 5280): GnuTLS has no name for them.
const UNKNOWN_TO_GNUTLS: [&str; 2] = ["1.3.6.1.5.5.7.48.1.5", "2.5.29.46"];

/// What was found and not expected, and what was expected and not found.
fn compare<'e>(
    expected: impl Iterator<Item = &'e Expected>,
    found: &BTreeSet<Finding>,
) -> Vec<String> {
    let mut left: Vec<&Finding> = found.iter().collect();
    let mut differences = Vec::new();
    for row in expected {
        let before = left.len();
        left.retain(|finding| finding.code != row.code || !finding.message.contains(row.says));
        if left.len() == before {
            differences.push(format!("no longer found: {} {}", row.code, row.says));
        }
    }
    differences.extend(left.iter().map(|finding| format!("found: {finding:?}")));
    differences
}

// The list of expected findings is only worth something if what is not on it fails.
#[test]
fn a_finding_that_nobody_expects_and_one_that_is_gone_are_told() {
    let finding = |code: &str, message: &str| Finding {
        severity: "ERROR".to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
    };
    let rows = [expected("a", ""), expected("b", "").saying("one")];
    let all = BTreeSet::from([finding("a", "x"), finding("b", "says one")]);
    assert_eq!(compare(rows.iter(), &all), [""; 0]);
    let other = BTreeSet::from([finding("a", "x"), finding("b", "says two")]);
    let differences = compare(rows.iter(), &other);
    assert!(differences[0].starts_with("no longer found: b"), "{differences:?}");
    assert!(differences[1].starts_with("found: ") && differences.len() == 2, "{differences:?}");
}

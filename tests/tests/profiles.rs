//! Profiles at the console: checked with line and clause, shown field by field, and kept out of a
//! start where they do not fit.

use std::fs;

use anyhow::ensure;
use serde_json::Value;
use tests::{Cable, story};

/// Every fault of a file comes in one run, each with its line and its clause.
#[test]
fn check_names_every_fault_with_line_and_clause() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        let good = fs::read_to_string(world.authority("issuing", "profiles/server.toml"))?;
        let file = world.write("server.toml", &good)?;
        let ended = world.signer(&["profile", "check", &file])?.done()?;
        ensure!(ended.text().contains("profile server is without fault"), "{}", ended.text());
        ensure!(ended.text().contains("no list of weak keys is loaded"), "{}", ended.text());

        let bad = good
            .replace("days = 199", "days = 398")
            .replace("rsa_bits_min = 2048", "rsa_bits_min = 1024")
            .replace("wildcard = true", "wildcards = true");
        world.write("server.toml", &bad)?;
        let ended = world.signer(&["profile", "check", &file])?.with_code(4)?;
        for (text, fault) in [
            ("days = 398", "398 is over 200, the most for serverAuth from 2026-03-15; change it"),
            ("rsa_bits_min", "keys.rsa_bits_min: 1024 is below 2048 (TLS BR 6.1.5)"),
            ("wildcards", "unknown field `wildcards`"),
        ] {
            let line = bad.lines().position(|line| line.contains(text)).unwrap_or_default() + 1;
            let found = ended.text().lines().any(|said| {
                said.contains(&format!("server.toml: line {line}: ")) && said.contains(fault)
            });
            ensure!(found, "line {line}, {fault} in {}", ended.text());
        }
        ensure!(ended.stderr.contains("has 3 faults, see above; correct the profile"));
        let json = world.signer(&["--json", "profile", "check", &file])?.with_code(4)?;
        let json: Value = serde_json::from_str(&json.text())?;
        ensure!(json["faults"].as_array().is_some_and(|faults| faults.len() == 3), "{json}");
        Ok(())
    });
}

/// What is shown is what is signed: the extensions of a certificate are those that were shown.
#[test]
fn show_says_what_will_be_signed() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        let more = "[extensions]\ncrl_urls = [\"http://crl.example.org/issuing.crl\"]\n\
                    ocsp_urls = [\"http://ocsp.example.org/\"]\nmust_staple = true\n\
                    digest = \"sha512\"\n";
        let changes = [
            ("[validity]", "deviations = [\"validity-tls\"]\n\n[validity]"),
            ("days = 199", "days = 398"),
            ("[extensions]\n", more),
        ];
        world.profile("stapled", "server", &changes)?;
        let words = ["profile", "show", "stapled", "--authority", "issuing"];
        let text = world.signer(&words)?.done()?.text();
        for expected in [
            "signature\n    ECDSA with sha512\n",
            "keyUsage (critical)\n    digitalSignature\n",
            "cRLDistributionPoints\n    http://crl.example.org/issuing.crl\n",
            "tlsfeature\n    status_request\n",
            "from 2026-03-15: at most 398 days  <- today\n",
            "deviation validity-tls: ",
        ] {
            ensure!(text.contains(expected), "{expected} in {text}");
        }
        let shown = world.signer_json(&words)?;

        world.start()?;
        let csr = world.csr("a", "ec:P-256", "/CN=a.example.org")?;
        let words = ["request", "--authority", "issuing", "--profile", "stapled", "--csr", &csr];
        let (_, file) = world.complete(&words)?;
        let written = world.openssl(&["x509", "-in", &file, "-noout", "-text"])?.text();
        ensure!(written.contains("ecdsa-with-SHA512"), "{written}");
        ensure!(written.contains("status_request"), "{written}");
        let shown = shown["fields"].as_array().into_iter().flatten();
        let shown = shown.filter(|field| field["oid"].is_string()).count();
        let section = written.split("X509v3 extensions:").nth(1).unwrap_or_default();
        // A name of an extension is indented by 12, its value by 16, the signature by 4.
        let is_name =
            |line: &&str| line.starts_with(&" ".repeat(12)) && !line[12..].starts_with(' ');
        let found = section.lines().filter(is_name).count();
        ensure!(found == shown, "{shown} extensions were shown, {found} are in {section}");
        Ok(())
    });
}

/// A profile that does not fit its authority stops the start with one sentence; a deviation does
/// not, but it is said.
#[test]
fn start_says_deviations_and_refuses_what_does_not_fit() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        world.profile(
            "loose",
            "client",
            &[
                ("[validity]", "deviations = [\"validity-smime\"]\n\n[validity]"),
                ("days = 824", "days = 1000"),
            ],
        )?;
        let listed = world.signer(&["store", "check"])?.done()?;
        ensure!(
            listed.stderr.contains("the profile deviates from S/MIME BR 6.3.2"),
            "{}",
            listed.stderr
        );
        let urls = "[extensions]\ncrl_urls = [\"http://crl.example.org/{shard}.crl\"]\n";
        world.profile("sharded", "client", &[("[extensions]\n", urls)])?;
        let ended = world.signer(&["store", "check"])?.with_code(4)?;
        let sentence = "names a shard, but the authority has none";
        ensure!(ended.stderr.contains(sentence), "{}", ended.stderr);
        Ok(())
    });
}

//! What `openssl ca` made of its configuration file, the signer makes of the imported profile.
//!
//! The table at the end names every field that was compared; run with `--nocapture` to see it.

use anyhow::{Result, ensure};
use tests::{
    Cable,
    differential::{self, Differential, SECOND},
    story,
};

/// The seed of the committed run; `DIFFERENTIAL_CASE` replaces it.
const SEED: u64 = 0x0d1f_f5ee;
/// Every kind but `subca`, which the link never gets, takes its turn.
const CASES: u64 = 240;

#[test]
fn a_certificate_by_an_imported_profile_equals_that_of_openssl_ca_field_by_field() {
    story(Cable::Unix, |world| {
        let (seed, numbers) = differential::chosen(SEED, CASES)?;
        let numbers: Vec<u64> =
            numbers.into_iter().filter(|number| differential::from_the_link(*number)).collect();
        let all = numbers.len() > 1;
        let mut differential = Differential::new(world, seed, &numbers)?;
        let table = differential.compare()?;
        println!("{table}");
        if all {
            judge(&table)?;
        }
        Ok(())
    });
}

/// That the comparison compared: each field often, each expected difference in each of its cases.
fn judge(table: &differential::fields::Table) -> Result<()> {
    ensure!(table.cases() >= 200, "only {} cases", table.cases());
    for field in ["issuer", "subject", "subjectPublicKeyInfo"] {
        ensure!(table.equal(field) == table.cases(), "{field} is not in every case");
    }
    for oid in EXTENSIONS {
        let field = format!("extension {oid}");
        ensure!(table.equal(&field) >= 10, "{field} was compared {} times", table.equal(&field));
    }
    for kind in differential::kinds::KINDS {
        for (field, _, listed) in kind.differs {
            ensure!(table.differs(field, kind.profile) >= 10, "{}: {listed}", kind.profile);
        }
    }
    Ok(())
}

/// Every extension of the configuration files that the signer writes for subscribers.
const EXTENSIONS: [&str; 11] = [
    "2.5.29.14",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.35",
    "2.5.29.37",
    "1.3.6.1.5.5.7.1.1",
    "1.3.6.1.5.5.7.1.24",
    "1.3.6.1.5.5.7.48.1.5",
];

#[test]
fn an_issuing_authority_by_an_imported_profile_equals_that_of_openssl_ca() {
    story(Cable::Unix, |world| {
        let differential = Differential::new(world, SEED, &[])?;
        for (name, key, subject) in [
            ("below-1", "rsa:2048", "/O=Test/CN=Below One/C=DE"),
            ("below-2", "ec:P-384", "/CN=Gr\u{f6}\u{df}e/O=\u{41e}\u{440}\u{433}/ST=dropped"),
            ("below-3", "ec:P-256", "/O=A\\/B/CN=Below, Three"),
        ] {
            let table = differential::compare_issuing_authority(&differential, name, key, subject)?;
            for oid in ["2.5.29.19", "2.5.29.15", "2.5.29.30", "2.5.29.31", "2.5.29.35"] {
                ensure!(table.equal(&format!("extension {oid}")) == 1, "{name} lacks {oid}");
            }
            println!("{name}: {table}");
        }
        Ok(())
    });
}

#[test]
fn what_an_import_cannot_carry_over_is_said_with_its_line_and_faults_write_nothing() {
    story(Cable::Unix, |world| {
        let differential = Differential::new(world, SEED, &[])?;
        let listed = differential.left_out("cacert-server");
        for line in [
            "line 20: default_days = 730: at most 199 from 2026-03-15, 99 from 2027-03-15",
            "line 22: default_md = sha1: lifted to sha256",
            "line 41: nsComment = To get your own certificate, go to http://www.ca.example",
        ] {
            ensure!(listed.contains(line), "{line} is not in\n{listed}");
        }
        drop(differential);

        // `match` needs the authority's own name; the sentence says how to give it.
        let member = world.file("old-member/openssl.cnf");
        let alone = world.signer(&["profile", "import", &member])?.with_code(4)?;
        ensure!(alone.stderr.contains("line 18: organizationName = match"), "{}", alone.stderr);
        ensure!(alone.stderr.contains("--authority NAME"), "{}", alone.stderr);
        ensure!(alone.stdout.is_empty(), "a fault prints no profile");

        // On standard output it is a profile that can be checked, and nothing else.
        let words = ["profile", "import", &member, "--authority", SECOND];
        let printed = world.signer(&words)?.done()?.stdout;
        let file = world.write("printed.toml", printed)?;
        world.signer(&["profile", "check", &file])?.done()?;

        // What is there is not overwritten.
        let again = world.signer(&[&words[..], &["--out", &file]].concat())?.with_code(4)?;
        ensure!(again.stderr.contains("is there already; nothing was written"), "{}", again.stderr);

        // The environment is never looked up.
        let text = std::fs::read_to_string(&member)?.replace("= sha256", "= $ENV::HOME");
        let file = world.write("environment.cnf", text)?;
        let words = ["profile", "import", &file, "--authority", SECOND];
        let refused = world.signer(&words)?.with_code(4)?;
        ensure!(refused.stderr.contains("environment variable HOME"), "{}", refused.stderr);
        let told = [&words[..], &["--env", "HOME=sha384"]].concat();
        ensure!(world.signer(&told)?.done()?.text().contains("digest = \"sha384\""), "told");
        Ok(())
    });
}

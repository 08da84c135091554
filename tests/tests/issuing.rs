//! Certificates: a request travels the cable once, comes back signed, and everybody agrees.

use std::fs;

use anyhow::{Result, ensure};
use tests::{Cable, World, story};

#[test]
fn an_rsa_request_comes_back_signed_and_other_peoples_tools_agree() {
    story(Cable::line(), |world| one_request_comes_back_signed(world, "rsa:4096", "rsa:2048"));
}

#[test]
fn an_elliptic_request_comes_back_signed_and_other_peoples_tools_agree() {
    story(Cable::line(), |world| one_request_comes_back_signed(world, "ec:P-384", "ec:P-256"));
}

fn one_request_comes_back_signed(world: &mut World, issuer: &str, key: &str) -> Result<()> {
    world.found(issuer)?;
    world.start()?;
    let csr = world.csr("www", key, "/CN=www.example.org")?;
    let (id, certificate) = world.complete(&[
        "request",
        "--authority",
        "issuing",
        "--profile",
        "server",
        "--csr",
        &csr,
        "--san",
        "dns:www.example.org",
        "--days",
        "30",
    ])?;

    let root = world.authority("root", "ca.crt");
    let issuing = world.authority("issuing", "ca.crt");
    world.openssl(&[
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "www.example.org",
        "-CAfile",
        &root,
        "-untrusted",
        &issuing,
        &certificate,
    ])?;
    let chain = fs::read_to_string(&certificate)? + &fs::read_to_string(&issuing)?;
    let chain = world.write("chain.pem", chain)?;
    world
        .tool("certtool", &["--verify", "--load-ca-certificate", &root, "--infile", &chain])?
        .done()?;

    let serial = world.serial_of(&certificate)?;
    let status = world.frontend_json(&["status", &id])?;
    ensure!(status["state"] == "done" && status["serial"] == serial.as_str(), "{status}");
    let stored = world.authority("issuing", &format!("newcerts/{serial}.pem"));
    ensure!(der(world, &stored)? == der(world, &certificate)?, "newcerts has another certificate");
    let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
    let lines: Vec<&str> = index.lines().filter(|line| line.contains(&serial)).collect();
    ensure!(lines.len() == 1 && lines[0].starts_with("V\t"), "index.txt says {lines:?}");

    // While nothing runs, an auditor reads the authority's files with openssl's own tool.
    world.stop()?;
    let folder = world.authority("issuing", "");
    let status = ["-C", &folder, "openssl", "ca", "-config", "openssl.cnf", "-status", &serial];
    let verdict = world.tool("env", &status)?;
    ensure!(verdict.stderr.contains(&format!("{serial}=Valid (V)")), "{}", verdict.stderr);
    world.signer(&["store", "check"])?.done()?;
    Ok(())
}

fn der(world: &World, certificate: &str) -> Result<Vec<u8>> {
    Ok(world.openssl(&["x509", "-in", certificate, "-outform", "DER"])?.stdout)
}

// Lesson: UTF-8 names arrive as UTF-8.
#[test]
fn a_name_in_utf8_arrives_as_utf8() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let name = "Zoë Ångström-Łukasiewicz 東京";
        let csr = world.csr("zoe", "ec:P-256", "/CN=ignored")?;
        let subject = format!("/CN={name}");
        let (_, certificate) = world.complete(&[
            "request",
            "--authority",
            "issuing",
            "--profile",
            "client",
            "--csr",
            &csr,
            "--subject",
            &subject,
            "--san",
            "email:zoe@example.org",
        ])?;
        let shown = world.openssl(&[
            "x509",
            "-in",
            &certificate,
            "-noout",
            "-subject",
            "-nameopt",
            "utf8,-esc_msb,sep_multiline",
        ])?;
        ensure!(shown.text().contains(&format!("CN={name}")), "{}", shown.text());
        let parsed = world.openssl(&["asn1parse", "-in", &certificate])?.text();
        ensure!(
            parsed.lines().any(|line| line.contains("UTF8STRING") && line.contains("Zo")),
            "{parsed}"
        );
        Ok(())
    });
}

#[test]
fn the_same_certificate_is_given_out_as_pem_and_as_der() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let csr = world.csr("www", "ec:P-256", "/CN=www.example.org")?;
        let (id, pem) = world.complete(&[
            "request",
            "--authority",
            "issuing",
            "--profile",
            "server",
            "--csr",
            &csr,
            "--san",
            "dns:www.example.org",
        ])?;
        let binary = world.file("www.der");
        world.frontend(&["get", &id, "--der", "--out", &binary])?.done()?;
        ensure!(fs::read(&binary)? == der(world, &pem)?, "PEM and DER differ");
        let printed = world.frontend(&["get", &id])?.done()?;
        ensure!(printed.stdout == fs::read(&pem)?, "standard output and the file differ");
        Ok(())
    });
}

// A browser's key: no CSR, the names come from the web application.
#[test]
fn an_spkac_comes_back_signed_for_its_key_with_the_names_of_the_request() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let lines = "CN=Jane Doe\nemailAddress=jane@example.org\n";
        let words = ["request", "--authority", "issuing", "--profile", "client"];
        let names = ["--san", "email:jane@example.org"];
        for (name, key) in [("rsa", "rsa:2048"), ("elliptic", "ec:P-256")] {
            let spkac = world.spkac(name, key, "sha256", lines)?;
            let asked = [&words[..], &names, &["--spkac", &spkac]].concat();
            let (_, certificate) = world.complete(&asked)?;
            let shown = ["x509", "-in", &certificate, "-noout", "-subject", "-pubkey"];
            let shown = world.openssl(&shown)?.text();
            let subject = "subject=CN = Jane Doe, emailAddress = jane@example.org";
            ensure!(shown.contains(subject), "{shown}");
            let public = world.openssl(&["spkac", "-in", &spkac, "-noout", "-pubkey"])?.text();
            ensure!(public.contains("PUBLIC KEY") && shown.contains(&public), "{shown}{public}");
        }
        // The base64 alone, as a form's field holds it, with the subject on the command line.
        let file = fs::read_to_string(world.spkac("bare", "rsa:2048", "sha256", "")?)?;
        let digits = file.trim().trim_start_matches("SPKAC=");
        let subject = ["--subject", "/CN=Joe", "--spkac", "-", "--wait", "60"];
        let asked = [&words[..], &names, &subject].concat();
        world.frontend_fed(&asked, digits.as_bytes())?.done().map(drop)
    });
}

#[test]
fn an_xmpp_address_travels_from_the_request_and_from_the_csr_into_the_certificate() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let words = ["request", "--authority", "issuing", "--profile", "client"];
        let other = "otherName:1.3.6.1.5.5.7.8.5;UTF8:jane@im.example.org";
        let other = format!("subjectAltName=email:jane@example.org,{other}");
        let plain = world.csr("plain", "ec:P-256", "/CN=Jane")?;
        let named = world.csr_with("named", "ec:P-256", "/CN=Jane", &["-addext", &other])?;
        let names = ["--san", "email:jane@example.org", "--san", "xmpp:jane@im.example.org"];
        let asked = [
            [&words[..], &["--csr", &plain], &names].concat(),
            [&words[..], &["--csr", &named]].concat(),
        ];
        let mut shown = Vec::new();
        for asked in &asked {
            let (_, certificate) = world.complete(asked)?;
            let words = ["x509", "-in", &certificate, "-noout", "-ext", "subjectAltName"];
            shown.push(world.openssl(&words)?.text());
        }
        ensure!(shown[0].contains("jane@im.example.org"), "{shown:?}");
        ensure!(shown[0].to_lowercase().contains("othername") && shown[0] == shown[1], "{shown:?}");
        // The catalogue says who takes such names, and the others refuse them at the door.
        let catalogue = world.frontend(&["catalogue"])?.done()?.text();
        let line = catalogue.lines().find(|line| line.contains(" client:"));
        ensure!(line.is_some_and(|line| line.ends_with("names: email xmpp")), "{catalogue}");
        let asked = ["request", "--authority", "issuing", "--profile", "server", "--csr", &named];
        let code = world.refusal(&asked)?;
        ensure!(code == "name-rule", "{code}");
        Ok(())
    });
}

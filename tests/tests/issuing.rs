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

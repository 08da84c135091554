//! Revocations: what is revoked is in the next CRL, at both ends, byte for byte.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::{Cable, World, story};

#[test]
fn a_revoked_certificate_appears_in_the_mirrored_crl() {
    story(Cable::line(), |world| {
        world.found("rsa:4096")?;
        world.start()?;
        let bad = world.issued("bad")?;
        let good = world.issued("good")?;
        let crl = revoke(world, &bad, "keyCompromise")?;

        let chain = chain(world)?;
        let verify = ["crl", "-in", &crl, "-noout", "-verify", "-CAfile", &chain];
        let judged = world.openssl(&verify)?;
        ensure!(judged.stderr.contains("verify OK"), "{}", judged.stderr);
        let shown = world.tool("certtool", &["--crl-info", "--infile", &crl])?.done()?.text();
        let serial = world.serial_of(&bad)?.to_lowercase();
        ensure!(shown.to_lowercase().contains(&serial), "certtool does not see it:\n{shown}");
        let text = text_of(world, &crl)?;
        let version = "Version 2 (0x1)";
        let key = "X509v3 Authority Key Identifier";
        for words in [version, key, "X509v3 CRL Number", "Key Compromise"] {
            ensure!(text.contains(words), "the CRL has no {words}:\n{text}");
        }
        let check = ["verify", "-crl_check", "-CAfile", &chain, "-CRLfile", &crl];
        let judged = world.tool("openssl", &[&check[..], &[&bad]].concat())?;
        ensure!(judged.stderr.contains("certificate revoked"), "{}", judged.stderr);
        world.openssl(&[&check[..], &[&good]].concat())?;
        let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
        let revoked = index.lines().filter(|line| line.starts_with("R\t")).count();
        ensure!(revoked == 1 && index.contains(",keyCompromise\t"), "index.txt:\n{index}");
        Ok(())
    });
}

// Lesson: revoking what was never issued is a refusal, and the queue does not call it revoked.
#[test]
fn revoking_what_was_never_issued_is_refused_and_nothing_is_called_revoked() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let good = world.issued("good")?;
        let never = "0123456789ABCDEF0123456789ABCDEF";
        let code = world.refusal(&["revoke", "--authority", "issuing", "--serial", never])?;
        ensure!(code == "serial-unknown", "the code is {code}");
        // The next one is served.
        let crl = revoke(world, &good, "superseded")?;
        let text = text_of(world, &crl)?;
        ensure!(!text.contains(never), "{text}");
        Ok(())
    });
}

#[test]
fn crl_numbers_rise_and_every_earlier_revocation_stays() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let mut number_before = 0;
        let mut serials = Vec::new();
        for name in ["one", "two", "three"] {
            let certificate = world.issued(name)?;
            serials.push(world.serial_of(&certificate)?);
            let crl = revoke(world, &certificate, "superseded")?;
            let shown = world.openssl(&["crl", "-in", &crl, "-noout", "-crlnumber"])?.text();
            let number = u64::from_str_radix(shown.trim().trim_start_matches("crlNumber=0x"), 16)?;
            ensure!(number > number_before, "{number} after {number_before}");
            number_before = number;
            let text = text_of(world, &crl)?;
            for serial in &serials {
                ensure!(text.contains(serial.as_str()), "{serial} left the CRL:\n{text}");
            }
        }
        Ok(())
    });
}

// Lesson: a base that the signer no longer has leads to a full CRL, by itself.
#[test]
fn a_crl_whose_base_the_signer_no_longer_has_comes_whole_by_itself() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let first = world.issued("first")?;
        revoke(world, &first, "superseded")?;
        world.running_signer()?.kill()?;
        for file in fs::read_dir(world.authority("issuing", "crl"))? {
            fs::remove_file(file?.path())?;
        }
        world.start_signer()?;
        let second = world.issued("second")?;
        let crl = revoke(world, &second, "superseded")?;
        let text = text_of(world, &crl)?;
        ensure!(text.contains(&world.serial_of(&first)?), "the first one left the CRL:\n{text}");
        Ok(())
    });
}

/// Revokes a certificate and returns the mirrored CRL that lists it. The CRL is the signer's
/// newest, byte for byte.
fn revoke(world: &World, certificate: &str, reason: &str) -> Result<String> {
    let words = ["revoke", "--authority", "issuing", "--cert", certificate];
    let options = ["--reason", reason, "--wait", "60"];
    world.frontend(&[&words[..], &options].concat())?.done()?;
    let crl = world.crl_with("issuing", &world.serial_of(certificate)?)?;
    let ours = world.openssl(&["crl", "-in", &crl, "-outform", "DER"])?.stdout;
    let signers = fs::read_dir(world.authority("issuing", "crl"))?
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<_>>>()?;
    let newest = signers
        .iter()
        .max_by_key(|path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
    let newest = newest.context("the signer keeps its CRLs")?;
    ensure!(fs::read(newest)? == ours, "the mirrored CRL is not {}", newest.display());
    Ok(crl)
}

fn text_of(world: &World, crl: &str) -> Result<String> {
    Ok(world.openssl(&["crl", "-in", crl, "-noout", "-text"])?.text())
}

fn chain(world: &World) -> Result<String> {
    let issuing = fs::read_to_string(world.authority("issuing", "ca.crt"))?;
    let root = fs::read_to_string(world.authority("root", "ca.crt"))?;
    world.write("chain.pem", issuing + &root)
}

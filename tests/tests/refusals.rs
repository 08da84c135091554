//! What is refused, by which code, at which end, and that the queue moves on behind it.

use std::fs;

use anyhow::{Context, Result, ensure};
use protocol::{
    bounded::List,
    message::{Answer, GeneralName, IssueCertificate, Name, Request, RequestId},
};
use tests::{Bare, Cable, World, story};

/// One bad request.
struct Bad {
    what: &'static str,
    code: &'static str,
    authority: &'static str,
    profile: &'static str,
    days: u32,
    san: &'static str,
    /// The bytes given as CSR.
    csr: fn(&World) -> Result<Vec<u8>>,
}

/// What is good in all but the part that a case replaces.
const GOOD: Bad = Bad {
    what: "nothing",
    code: "",
    authority: "issuing",
    profile: "server",
    days: 30,
    san: "dns:www.example.org",
    csr: |world| pem(world, "ec:P-256", &[]),
};

const CASES: [Bad; 17] = [
    Bad { what: "no CSR at all", code: "csr-malformed", csr: |_| Ok(b"hello\n".to_vec()), ..GOOD },
    Bad { what: "junk in PEM", code: "csr-malformed", csr: |_| Ok(JUNK.to_vec()), ..GOOD },
    Bad {
        what: "two PEMs",
        code: "csr-malformed",
        csr: |world| Ok(pem(world, "ec:P-256", &[])?.repeat(2)),
        ..GOOD
    },
    Bad { what: "a broken signature", code: "csr-signature", csr: altered, ..GOOD },
    Bad {
        what: "an RSA key of 1,024 bits",
        code: "key-weak",
        csr: |world| pem(world, "rsa:1024", &[]),
        ..GOOD
    },
    // Lesson: MD5, SHA-1 or 65,535 days asked are refused.
    Bad {
        what: "SHA-1",
        code: "csr-digest",
        csr: |world| pem(world, "rsa:2048", &["-sha1"]),
        ..GOOD
    },
    Bad { what: "MD5", code: "csr-digest", csr: |world| pem(world, "rsa:2048", &["-md5"]), ..GOOD },
    Bad { what: "65,535 days", code: "validity", days: 65_535, ..GOOD },
    Bad { what: "no day at all", code: "validity", days: 0, ..GOOD },
    Bad {
        what: "CA:TRUE",
        code: "csr-asks-ca",
        csr: |world| pem(world, "ec:P-256", &["-addext", "basicConstraints=critical,CA:TRUE"]),
        ..GOOD
    },
    Bad { what: "more than 64 KiB", code: "csr-malformed", csr: huge, ..GOOD },
    Bad { what: "an unknown authority", code: "authority-unknown", authority: "nowhere", ..GOOD },
    Bad { what: "a root", code: "authority-manual", authority: "root", ..GOOD },
    Bad { what: "an unknown profile", code: "profile-unknown", profile: "nothing", ..GOOD },
    // Lesson: the frontend asks for a console-only profile.
    Bad { what: "a sub-CA", code: "profile-console-only", profile: "subca", ..GOOD },
    Bad { what: "a host name for a person", code: "name-rule", profile: "client", ..GOOD },
    Bad { what: "a name not in the SAN", code: "subject-rule", san: "dns:example.net", ..GOOD },
];

#[test]
fn every_bad_request_is_refused_by_its_code_at_the_frontends_door() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        serve_one(world)?;
        let all_as_expected = judge(|bad| ask(world, bad, &[]));
        all_as_expected?;
        serve_one(world)
    });
}

// The same, queued without the early checks: the signer's refusals are stored.
#[test]
fn every_bad_request_that_is_queued_all_the_same_is_refused_by_its_code_by_the_signer() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let all_as_expected = judge(|bad| ask(world, bad, &["--no-precheck"]));
        all_as_expected?;
        serve_one(world)
    });
}

// The networked host may be stolen: the signer makes every check itself.
#[test]
fn every_bad_request_is_refused_by_its_code_at_the_signer_whatever_the_frontend_is() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start_signer()?;
        let mut bare = Bare::connect_to(world, 0xbad)?;
        let all_as_expected = judge(|bad| {
            let bytes = (bad.csr)(world)?;
            if bytes.len() > protocol::message::CSR_MAX {
                // The type that carries a CSR over the cable cannot hold it.
                return Ok("csr-malformed".to_owned());
            }
            let request = on_the_wire(bare.fresh_id(), bad, der_of(world, &bytes)?)?;
            match bare.ask(&request)? {
                Answer::Refused { code, .. } => Ok(code.name().to_owned()),
                other => anyhow::bail!("the answer is {other:?}"),
            }
        });
        all_as_expected?;
        let good = (GOOD.csr)(world)?;
        let request = on_the_wire(bare.fresh_id(), &GOOD, der_of(world, &good)?)?;
        let answer = bare.ask(&request)?;
        ensure!(matches!(answer, Answer::Issued { .. }), "the good one behind them: {answer:?}");
        let again = bare.ask(&request)?;
        ensure!(again == answer, "the same request was answered differently");
        Ok(())
    });
}

// Without a catalogue the frontend cannot know better, so the signer's refusal is what is stored.
#[test]
fn refusals_are_stored_and_the_queue_moves_on() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        let csr = world.write("www.csr", (GOOD.csr)(world)?)?;
        let queue = |profile: &str, days: &str| {
            let words = ["request", "--authority", "issuing", "--csr", &csr];
            let wishes = ["--san", "dns:www.example.org", "--profile", profile, "--days", days];
            world.queue(&[&words[..], &wishes].concat())
        };
        let asked = [
            (queue("server", "30")?, None),
            (queue("nothing", "30")?, Some("profile-unknown")),
            (queue("subca", "30")?, Some("profile-console-only")),
            (queue("server", "65535")?, Some("validity")),
            (queue("server", "31")?, None),
        ];
        world.start_wire()?;
        world.start_signer()?;
        world.run_until_idle(tests::world::COMMAND_MAX)?;
        for (id, code) in &asked {
            let status = world.frontend_json(&["status", id])?;
            let state = if code.is_some() { "refused" } else { "done" };
            ensure!(status["state"] == state, "expected {state}: {status}");
            if let Some(code) = code {
                ensure!(status["refusal"]["code"] == *code, "expected {code}: {status}");
                let text = status["refusal"]["text"].as_str().context("a refusal has a text")?;
                ensure!(text.len() > 10, "says nothing: {text}");
                // What a person sees later is the same refusal.
                let ended = world.frontend(&["get", id])?.with_code(2)?;
                ensure!(ended.stderr.contains(code), "{}", ended.stderr);
            }
        }
        Ok(())
    });
}

#[test]
fn an_id_that_comes_again_with_another_body_is_refused() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start_signer()?;
        let mut bare = Bare::connect_to(world, 0x1d)?;
        let csr = der_of(world, &(GOOD.csr)(world)?)?;
        let id = bare.fresh_id();
        let first = bare.ask(&on_the_wire(id, &GOOD, csr.clone())?)?;
        ensure!(matches!(first, Answer::Issued { .. }), "{first:?}");
        let other = Bad { days: 31, ..GOOD };
        match bare.ask(&on_the_wire(id, &other, csr.clone())?)? {
            Answer::Refused { code, .. } => ensure!(code.name() == "request-reused", "{code}"),
            answer => anyhow::bail!("the answer is {answer:?}"),
        }
        let again = bare.ask(&on_the_wire(id, &GOOD, csr)?)?;
        ensure!(again == first, "the first body is answered as before");
        Ok(())
    });
}

// An SPKAC has no names of its own, and browsers signed with MD5.
#[test]
fn every_bad_spkac_is_refused_by_its_code_at_both_ends() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let name = "CN=Jane\n";
        let altered = |file: &str| -> Result<String> {
            let text = fs::read_to_string(file)?;
            let digits = text.lines().next().unwrap_or_default().trim_start_matches("SPKAC=");
            let digits = world.write("digits", format!("{digits}\n"))?;
            let mut der = world.openssl(&["base64", "-d", "-A", "-in", &digits])?.stdout;
            let at = der.windows(5).position(|bytes| bytes == b"hello").context("the challenge")?;
            der[at] ^= 0x02;
            let der = world.write("altered.der", der)?;
            let digits = world.openssl(&["base64", "-A", "-in", &der])?.text();
            world.write("altered.spkac", format!("SPKAC={}\n{name}", digits.trim()))
        };
        let good = world.spkac("good", "rsa:2048", "sha256", name)?;
        let csr = world.csr("csr", "ec:P-256", "/CN=Jane")?;
        let csr = world
            .openssl(&["req", "-in", &csr, "-outform", "DER", "-out", &world.file("d")])
            .and_then(|_| world.openssl(&["base64", "-A", "-in", &world.file("d")]))?;
        let csr = format!("SPKAC={}\n{name}", csr.text().trim());
        let cases = [
            ("csr-digest", world.spkac("md5", "rsa:2048", "md5", name)?),
            ("csr-digest", world.spkac("sha1", "rsa:2048", "sha1", name)?),
            ("key-weak", world.spkac("weak", "rsa:1024", "sha256", name)?),
            ("csr-signature", altered(&good)?),
            ("csr-malformed", world.write("csr.spkac", csr)?),
            ("subject-rule", world.spkac("nobody", "rsa:2048", "sha256", "")?),
        ];
        let mut wrong = Vec::new();
        for (code, file) in &cases {
            for options in [&[][..], &["--no-precheck"]] {
                // To the signer no subject is as good as an empty one, which the profile judges.
                if *code == "subject-rule" && !options.is_empty() {
                    continue;
                }
                let words = ["request", "--authority", "issuing", "--profile", "client"];
                let wishes = ["--san", "email:jane@example.org", "--spkac", file];
                match world.refusal(&[&words[..], &wishes, options].concat()) {
                    Ok(actual) if actual == *code => {}
                    other => wrong.push(format!("{file} {options:?}: {other:?}, expected {code}")),
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        serve_one(world)
    });
}

/// Runs every case; all that went otherwise than expected is told at once.
fn judge(mut refused: impl FnMut(&Bad) -> Result<String>) -> Result<()> {
    let mut wrong = Vec::new();
    for bad in &CASES {
        match refused(bad) {
            Ok(code) if code == bad.code => {}
            Ok(code) => wrong.push(format!("{}: {code}, expected {}", bad.what, bad.code)),
            Err(error) => wrong.push(format!("{}: {error:#}", bad.what)),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn ask(world: &World, bad: &Bad, options: &[&str]) -> Result<String> {
    let csr = world.write("bad.csr", (bad.csr)(world)?)?;
    let days = bad.days.to_string();
    let words = ["request", "--authority", bad.authority, "--profile", bad.profile];
    let wishes = ["--csr", &csr, "--days", &days, "--san", bad.san];
    world.refusal(&[&words[..], &wishes, options].concat())
}

fn serve_one(world: &World) -> Result<()> {
    let csr = world.write("good.csr", (GOOD.csr)(world)?)?;
    let words = ["request", "--authority", GOOD.authority, "--profile", GOOD.profile];
    world.complete(&[&words[..], &["--csr", &csr, "--san", GOOD.san]].concat()).map(drop)
}

fn on_the_wire(id: RequestId, bad: &Bad, csr: Vec<u8>) -> Result<Request> {
    let names: Vec<GeneralName> = vec![bad.san.parse()?];
    Ok(Request::Issue(IssueCertificate {
        form: protocol::message::CsrForm::Pkcs10,
        id,
        authority: bad.authority.parse::<Name>()?,
        profile: bad.profile.parse::<Name>()?,
        days: Some(bad.days),
        subject: None,
        subject_alt_names: Some(List::try_from(names)?),
        csr: csr.try_into()?,
    }))
}

/// What a careless frontend would send: the DER if openssl can read it, else the bytes.
fn der_of(world: &World, csr: &[u8]) -> Result<Vec<u8>> {
    let text = String::from_utf8_lossy(csr);
    if text.matches("-----BEGIN").count() != 1 {
        return Ok(csr.to_vec());
    }
    let file = world.write("convert.csr", csr)?;
    let converted = world.tool("openssl", &["req", "-in", &file, "-outform", "DER"])?;
    Ok(if converted.code == Some(0) { converted.stdout } else { csr.to_vec() })
}

fn pem(world: &World, key: &str, options: &[&str]) -> Result<Vec<u8>> {
    Ok(fs::read(world.csr_with("case", key, "/CN=www.example.org", options)?)?)
}

/// A CSR in DER with one letter of its subject changed: whole, but its signature does not fit.
fn altered(world: &World) -> Result<Vec<u8>> {
    let mut der = der_of(world, &pem(world, "ec:P-256", &[])?)?;
    let at = der.windows(7).position(|bytes| bytes == b"example").context("the name is there")?;
    der[at] ^= 0x02;
    Ok(der)
}

fn huge(world: &World) -> Result<Vec<u8>> {
    let comment = format!("nsComment={}", "x".repeat(66_000));
    pem(world, "ec:P-256", &["-addext", &comment])
}

const JUNK: &[u8] =
    b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";

//! The demonstration: requests travel a simulated cable and come back signed, in one minute.
//!
//! It types what a person would type. A tick stands only where another program has judged.
#![expect(clippy::disallowed_methods, reason = "driver: says how long each step took")]

use std::{
    fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal};
use tests::{Cable, World};

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("signer-demo-").tempdir()?.keep();
    let mut world = World::kept(&scratch, Cable::line())?;
    end_with_a_signal(world.file("gnupg"))?;
    let mut demo = Demo { world: &mut world, rows: Vec::new(), step: 0 };
    let result = demo.tell();
    let rows = std::mem::take(&mut demo.rows);
    if let Err(error) = result {
        eprintln!("\n{}", world.log_tails());
        return Err(error.context(format!("the files are in {}", scratch.display())));
    }
    print_table(&rows);
    println!("\nEverything that was made lies in {}", scratch.display());
    println!("  signer/    what stands in the locked rack: ledger, authorities, keys");
    println!("  frontend/  the networked side: queue, certificates, the mirrored CRL");
    println!("  *.log      what each process said");
    Ok(())
}

/// The story with what is known of it so far.
struct Demo<'a> {
    world: &'a mut World,
    rows: Vec<Row>,
    step: usize,
}

/// One line of the closing table.
struct Row {
    what: String,
    took: Duration,
    judge: &'static str,
    file: String,
}

impl Demo<'_> {
    fn tell(&mut self) -> Result<()> {
        println!("The isolated signer: a request travels the cable once and comes back signed.\n");
        self.create_authorities()?;
        self.start_programs()?;
        let server = self.issue_server()?;
        let client = self.issue_client()?;
        self.revoke(&server, &client)?;
        self.certify()?;
        self.tell_the_time()?;
        self.stop_programs()
    }

    fn create_authorities(&mut self) -> Result<()> {
        self.say(
            "At the signer's console, a root and an issuing authority are created (RSA-4096).",
        );
        let start = Instant::now();
        let world = &self.world;
        world.signer(&["init"])?.done()?;
        let root = ["authority", "create", "root", "--key", "rsa:4096", "--days", "7300"];
        world.signer(&[&root[..], &["--subject", "/O=Demo/CN=Demo Root"]].concat())?.done()?;
        let issuing = ["authority", "create", "issuing", "--key", "rsa:4096", "--days", "3650"];
        let below = ["--subject", "/O=Demo/CN=Demo Issuing", "--issued-by", "root"];
        world.signer(&[&issuing[..], &below].concat())?.done()?;
        world.signer(&["openpgp", "create", "--uid", SIGNER_UID])?.done()?;
        world.frontend(&["init"])?.done()?;
        world.pair()?;
        let took = start.elapsed();
        let (root, issuing) = (self.root(), self.world.authority("issuing", "ca.crt"));
        self.world.openssl(&["verify", "-x509_strict", "-CAfile", &root, &issuing])?;
        self.tick("openssl verify", "the issuing certificate stands under the root");
        self.row("root and issuing authority", took, "openssl", &issuing);
        Ok(())
    }

    fn start_programs(&mut self) -> Result<()> {
        self.say("Three processes start: the cable (115,200 baud), the signer, the frontend.");
        let start = Instant::now();
        self.world.start()?;
        self.world.running_frontend()?.wait_for(LINK_UP, Duration::from_secs(30))?;
        self.row("link up", start.elapsed(), "", "");
        Ok(())
    }

    fn issue_server(&mut self) -> Result<String> {
        self.say("A server's CSR (openssl req, RSA-2048) is queued at the frontend.");
        let names = "subjectAltName=DNS:www.example.org,DNS:example.org";
        let csr = self.world.csr_with(
            "server",
            "rsa:2048",
            "/CN=www.example.org",
            &["-addext", names],
        )?;
        let (certificate, took) = self.issue("server", &csr)?;
        self.row("server certificate, RSA-2048", took, "openssl", &certificate);
        Ok(certificate)
    }

    fn issue_client(&mut self) -> Result<String> {
        self.say("A person's CSR (openssl req, P-256) is queued; the name is not ASCII.");
        let csr = self.world.csr_with(
            "client",
            "ec:P-256",
            "/CN=Åsa Öberg",
            &["-addext", "subjectAltName=email:asa@example.org"],
        )?;
        let (certificate, took) = self.issue("client", &csr)?;
        self.row("client certificate, P-256", took, "openssl", &certificate);
        Ok(certificate)
    }

    fn issue(&mut self, profile: &str, csr: &str) -> Result<(String, Duration)> {
        let words = ["request", "--authority", "issuing", "--profile", profile, "--csr", csr];
        let start = Instant::now();
        let (_, answer) = self.world.complete(&words)?;
        let took = start.elapsed();
        let file = self.world.file(&format!("{profile}.pem"));
        fs::rename(answer, &file)?;
        self.verify(&file)?;
        let key = |kind: &str, file: &str| {
            self.world.openssl(&[kind, "-in", file, "-noout", "-pubkey"]).map(|ended| ended.text())
        };
        ensure!(key("req", csr)? == key("x509", &file)?, "{file} has another key than {csr}");
        let subject =
            ["x509", "-in", &file, "-noout", "-subject", "-nameopt", "utf8,sep_comma_plus"];
        let subject = self.world.openssl(&subject)?.text();
        self.tick("openssl verify -x509_strict", &format!("chain and key; {}", subject.trim()));
        Ok((file, took))
    }

    fn verify(&self, certificate: &str) -> Result<()> {
        let (root, issuing) = (self.root(), self.world.authority("issuing", "ca.crt"));
        let words = ["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &issuing];
        self.world.openssl(&[&words[..], &[certificate]].concat())?;
        Ok(())
    }

    fn revoke(&mut self, revoked: &str, good: &str) -> Result<()> {
        self.say("The server's key is lost: its certificate is revoked, and a new CRL comes back.");
        let words = ["revoke", "--authority", "issuing", "--cert", revoked];
        let reason = ["--reason", "keyCompromise", "--wait", "60"];
        let start = Instant::now();
        self.world.frontend(&[&words[..], &reason].concat())?.done()?;
        let crl = self.world.crl_with("issuing", &self.world.serial_of(revoked)?)?;
        let took = start.elapsed();

        let chain = self.world.file("chain.pem");
        let (root, issuing) = (self.root(), self.world.authority("issuing", "ca.crt"));
        fs::write(&chain, fs::read_to_string(&issuing)? + &fs::read_to_string(&root)?)?;
        let judged =
            self.world.openssl(&["crl", "-in", &crl, "-noout", "-verify", "-CAfile", &chain])?;
        ensure!(judged.stderr.contains("verify OK"), "openssl crl: {}", judged.stderr);
        self.tick("openssl crl -verify", "the CRL's signature is the issuing authority's");
        let check = ["verify", "-crl_check", "-CAfile", &chain, "-CRLfile", &crl];
        let judged = self.world.tool("openssl", &[&check[..], &[revoked]].concat())?;
        ensure!(judged.stderr.contains("certificate revoked"), "not revoked: {}", judged.stderr);
        self.world.openssl(&[&check[..], &[good]].concat())?;
        self.tick("openssl verify -crl_check", "the server is revoked, the person is not");
        self.row("revocation and CRL", took, "openssl", &crl);
        Ok(())
    }

    fn certify(&mut self) -> Result<()> {
        self.say("An OpenPGP key made by gpg, with two user IDs, asks for a certification of one.");
        let key = self.world.openpgp_key("person", &[PERSON, PERSON_UNCHECKED])?;
        let certified = self.world.file("person-certified.asc");
        let words = ["certify", "--key", &key, "--uid", PERSON, "--wait", "60", "--json"];
        let start = Instant::now();
        let ended = self.world.frontend(&words)?.done()?;
        let took = start.elapsed();
        let id = tests::world::id_in(&ended)?;
        self.world.frontend(&["get", &id, "--out", &certified])?.done()?;
        self.world.import_signers_openpgp_key()?;
        self.world.gpg(&["--import", &certified])?;
        let listing = self.world.gpg(&["--with-colons", "--check-sigs", &format!("={PERSON}")])?;
        let sigs = tests::material::good_certifications(&listing, SIGNER_UID);
        ensure!(sigs == [PERSON], "certified are {sigs:?}\n{listing}");
        self.world.end_gpg();
        self.tick("gpg --check-sigs", "the named user ID is certified, the other is not");
        self.row("OpenPGP certification", took, "gpg", &certified);
        Ok(())
    }

    fn tell_the_time(&mut self) -> Result<()> {
        self.say("Every exchange carried the frontend's time. The signer notes it, no more:");
        let text = self.world.signer(&["time"])?.done()?.text();
        for line in text.lines().take_while(|line| !line.is_empty()) {
            println!("      {line}");
        }
        Ok(())
    }

    fn stop_programs(&mut self) -> Result<()> {
        self.say("The three processes are stopped.");
        let counts = self.world.stop()?.wire;
        let bytes = |direction: &str| {
            let line = counts.lines().find_map(|line| line.split_once(direction));
            line.and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?").to_owned()
        };
        let (to_signer, back) = (bytes("A to B: "), bytes("B to A: "));
        println!("      On the cable: {to_signer} bytes to the signer, {back} bytes back.");
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.step += 1;
        println!("{:>2}  {text}", self.step);
    }

    fn tick(&self, judge: &str, fact: &str) {
        println!("    ✓ {judge}: {fact}");
    }

    fn row(&mut self, what: &str, took: Duration, judge: &'static str, file: &str) {
        let below = self.world.path("").display().to_string();
        let file = file.strip_prefix(&below).unwrap_or(file).to_owned();
        self.rows.push(Row { what: what.to_owned(), took, judge, file });
    }

    fn root(&self) -> String {
        self.world.authority("root", "ca.crt")
    }
}

fn print_table(rows: &[Row]) {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    println!("\n{:<width$}  {:>8}  {:<9}  file", "what", "took", "judged by");
    println!("{}", "─".repeat(width + 60));
    for Row { what, took, judge, file } in rows {
        println!("{what:<width$}  {:>6.2} s  {judge:<9}  {file}", took.as_secs_f64());
    }
}

/// Ends everything when a person presses ctrl-C: the programs die with this process, and gpg's
/// daemon is told to.
fn end_with_a_signal(gnupg: String) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    // Children start with no signal blocked: std::process sees to that.
    signals.thread_block().context("signals cannot be blocked")?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            let mut end = std::process::Command::new("gpgconf");
            let _ = end.args(["--homedir", &gnupg, "--kill", "all"]).status();
            std::process::exit(130);
        }
    });
    Ok(())
}

const SIGNER_UID: &str = "Demo Signer <signer@example.org>";
const PERSON: &str = "Åsa Öberg <asa@example.org>";
const PERSON_UNCHECKED: &str = "Unchecked <other@example.org>";
const LINK_UP: &str = "link up";

//! Stories of the vault: a real store on disk, a clock and randomness from the test.

use std::{fs, path::PathBuf, process::Command};

use clap::Parser as _;
use openssl::{
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{X509, X509NameBuilder, X509ReqBuilder},
};
use protocol::{
    bounded::List,
    message::{
        CatalogueQuery, Digest, FetchCrl, GeneralName, RevocationReason, Revoke, SerialHigh,
        TimeHint,
    },
    patch,
};
use tempfile::TempDir;

use super::*;
use crate::{
    authority::serial::serial_counter,
    call::Issue,
    console::{self, Arguments},
    intake,
};

mod blocked;
mod crashes;
mod crls;
mod floods;
mod log;
mod openpgp;
mod openpgp_records;
mod packing;
mod turns;

/// A store with a root and an issuing authority of P-256, and the vault on it.
struct Story {
    scratch: TempDir,
    vault: Option<Vault>,
    now: Moment,
    next_id: u32,
    key: PKey<Private>,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Story {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path().join("signer");
        let store_text = store.to_str().unwrap();
        let console = |arguments: &[&str]| {
            let all = ["signer", "--dir", store_text].into_iter().chain(arguments.iter().copied());
            console::dispatch(Arguments::parse_from(all)).unwrap();
        };
        console(&["init"]);
        let root = ["authority", "create", "root", "--subject", "/O=Test/CN=Root"];
        console(&[&root[..], &["--key", "ec:P-256"]].concat());
        let issuing = ["authority", "create", "issuing", "--subject", "/O=Test/CN=Issuing"];
        console(&[&issuing[..], &["--key", "ec:P-256", "--issued-by", "root"]].concat());
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let now = console::now().unwrap();
        let mut story = Self { scratch, vault: None, now, next_id: 0, key };
        story.start();
        story
    }

    fn store(&self) -> PathBuf {
        self.scratch.path().join("signer")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store().join("authorities/issuing").join(name)
    }

    fn open(&self) -> Result<Vault, Fault> {
        let settings =
            Settings { directory: self.store(), passphrase: None, boot_id: "boot".into() };
        // A counter: what is random in a serial must not matter to any story.
        let mut next = 0_u8;
        let random: Random = Box::new(move |bytes| {
            bytes.fill_with(|| {
                next = next.wrapping_add(1);
                next
            });
            Ok(())
        });
        Vault::open(settings, random, self.now)
    }

    fn start(&mut self) {
        self.vault = None; // gives the lock back
        self.vault = Some(self.open().unwrap());
    }

    fn vault(&mut self) -> &mut Vault {
        self.vault.as_mut().unwrap()
    }

    fn later(&mut self, seconds: i64) {
        self.now.unix_us += seconds * 1_000_000;
        self.now.boot_us += seconds * 1_000_000;
    }

    fn id(&self) -> RequestId {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&self.next_id.to_be_bytes());
        RequestId::from_bytes(octets)
    }

    fn console(&self, arguments: &[&str]) -> Result<(), String> {
        let store = self.store();
        let all = ["signer", "--dir", store.to_str().unwrap()];
        let all = all.into_iter().chain(arguments.iter().copied());
        let done = console::dispatch(Arguments::parse_from(all));
        done.map(|_| ()).map_err(|failure| failure.to_string())
    }

    /// A request for a certificate for `dns`, with an id of its own.
    fn request(&mut self, dns: &str) -> Issue {
        self.next_id += 1;
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_text("CN", dns).unwrap();
        let mut csr = X509ReqBuilder::new().unwrap();
        csr.set_subject_name(&subject.build()).unwrap();
        csr.set_pubkey(&self.key).unwrap();
        csr.sign(&self.key, MessageDigest::sha256()).unwrap();
        let id = self.id();
        Issue {
            id,
            digest: Digest::of(dns.as_bytes()),
            authority: name("issuing"),
            profile: name("server"),
            days: None,
            subject: None,
            subject_alt_names: Some(
                List::try_from(vec![format!("dns:{dns}").parse::<GeneralName>().unwrap()]).unwrap(),
            ),
            csr: intake::csr::vet(&csr.build().to_der().unwrap()).unwrap(),
        }
    }

    fn call(&mut self, body: Call) -> Answer {
        let now = self.now;
        let replies = self.vault().handle(now, vec![Tagged { tag: 7, body }]).unwrap();
        match <[_; 1]>::try_from(replies) {
            Ok([Tagged { tag: 7, body: Reply::Answer(answer) }]) => answer,
            other => panic!("one answer was expected: {other:?}"),
        }
    }

    fn issue(&mut self, issue: Issue) -> Answer {
        self.call(Call::Issue(Box::new(issue)))
    }

    /// Issues for `dns` and returns the certificate.
    fn issued(&mut self, dns: &str) -> X509 {
        let request = self.request(dns);
        certificate(&self.issue(request))
    }

    fn revoke(&mut self, serial: Serial) -> Answer {
        self.next_id += 1;
        let id = self.id();
        let authority = name("issuing");
        let revoke = Revoke { id, authority, serial, reason: RevocationReason::KeyCompromise };
        self.call(Call::Revoke { digest: Digest::of(id.as_bytes()), revoke })
    }

    fn fetch_crl(&mut self, have: Option<Digest>) -> Answer {
        let authority = name("issuing");
        self.call(Call::FetchCrl(FetchCrl {
            authority,
            scope: protocol::message::CrlScope::Full,
            have,
            resume: None,
        }))
    }

    fn findings(&self) -> Vec<String> {
        let authorities = load_all(&self.store(), None).unwrap();
        check(&self.store(), &authorities, &mut |_| {}).unwrap().findings
    }

    fn index(&self) -> String {
        fs::read_to_string(self.file("index.txt")).unwrap()
    }
}

fn certificate(answer: &Answer) -> X509 {
    match answer {
        Answer::Issued { certificate, .. } => X509::from_der(certificate).unwrap(),
        other => panic!("a certificate was expected: {other:?}"),
    }
}

fn code(answer: &Answer) -> RefusalCode {
    match answer {
        Answer::Refused { code, .. } => *code,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

fn serial_of(certificate: &X509) -> Serial {
    let serial = certificate.serial_number().to_bn().unwrap();
    Serial::from_magnitude(&serial.to_vec()).unwrap()
}

#[test]
fn resend_after_a_lost_answer_returns_the_same_certificate() {
    let mut story = Story::new();
    let request = story.request("a.example.org");
    let first = story.issue(request.clone());
    let again = story.issue(request.clone());
    story.start();
    let after_restart = story.issue(request);
    assert_eq!(first, again);
    assert_eq!(first, after_restart);
    assert_eq!(story.index().lines().count(), 1, "one signature, one line");
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn request_that_comes_twice_at_once_is_signed_once() {
    let mut story = Story::new();
    let request = story.request("a.example.org");
    let call = |tag| Tagged { tag, body: Call::Issue(Box::new(request.clone())) };
    let (now, calls) = (story.now, vec![call(1), call(2)]);
    let replies = story.vault().handle(now, calls).unwrap();
    let answers: Vec<_> = replies
        .iter()
        .map(|reply| match &reply.body {
            Reply::Answer(answer) => certificate(answer).to_der().unwrap(),
            other => panic!("both are answered: {other:?}"),
        })
        .collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(story.index().lines().count(), 1);
}

#[test]
fn id_with_another_body_is_refused_and_the_first_answer_stands() {
    let mut story = Story::new();
    let first = story.request("a.example.org");
    let answer = story.issue(first.clone());
    let mut other = story.request("b.example.org");
    other.id = first.id;
    assert_eq!(code(&story.issue(other)), RefusalCode::RequestReused);
    assert_eq!(story.issue(first), answer);
}

#[test]
fn crash_between_intent_and_signature_is_finished_with_the_same_serial() {
    let mut story = Story::new();
    let request = story.request("a.example.org");
    let call = Tagged { tag: 1, body: Call::Issue(Box::new(request.clone())) };
    let (now, mut work) = (story.now, Work::default());
    story.vault().decide(now, vec![call], &mut work).unwrap();
    let serial = work.intents[0].serial().clone();
    let tbs = work.intents[0].tbs().to_vec();
    drop(work);

    story.start(); // the power came back

    let issued = certificate(&story.issue(request));
    assert_eq!(serial_of(&issued), serial);
    let der = issued.to_der().unwrap();
    assert!(der.windows(tbs.len()).any(|window| window == tbs), "the same TBS was signed");
    assert!(story.file(&format!("newcerts/{serial}.pem")).exists());
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn index_cut_at_every_byte_is_whole_again_after_the_next_start() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let now = story.now;
    story.vault().tick(now).unwrap(); // synced: this line was on disk
    let synced = story.index().len();
    let last = serial_of(&story.issued("b.example.org"));
    let whole = story.index();
    for cut in synced..whole.len() {
        fs::write(story.file("index.txt"), &whole[..cut]).unwrap();
        let _ = fs::remove_file(story.file(&format!("newcerts/{last}.pem")));
        story.start();
        assert_eq!(story.index(), whole, "cut at {cut}");
        assert_eq!(story.findings(), Vec::<String>::new(), "cut at {cut}");
    }
}

#[test]
fn damaged_line_in_the_middle_stops_the_start_and_rebuild_mends_it() {
    let mut story = Story::new();
    story.issued("a.example.org");
    story.issued("b.example.org");
    let whole = story.index();
    fs::write(story.file("index.txt"), whole.replacen('V', "?", 1)).unwrap();
    story.vault = None;
    let fault = story.open().unwrap_err().to_string();
    assert!(fault.contains("index.txt line 1") && fault.contains("signer store check"), "{fault}");

    let authorities = load_all(&story.store(), None).unwrap();
    let issuing = authorities.iter().find(|a| a.name().as_str() == "issuing").unwrap();
    rebuild(&story.store(), issuing, [0; 8]).unwrap();
    assert_eq!(story.index(), whole);
    assert!(story.file("index.txt.damaged").exists(), "what could not be read is kept");
}

#[test]
fn openssl_reads_what_we_write_and_its_lines_are_adopted() {
    let mut story = Story::new();
    let issued = story.issued("a.example.org");
    let serial = serial_of(&issued);
    let openssl = |arguments: &[&str]| {
        let directory = story.file("");
        let output = Command::new("openssl")
            .args(["ca", "-batch", "-config", "openssl.cnf"])
            .args(arguments)
            .current_dir(directory)
            .output()
            .unwrap();
        // `ca -status` exits with 1 whatever it finds.
        let good = output.status.success() || arguments[0] == "-status";
        assert!(good, "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(openssl(&["-status", &serial.to_string()]).contains("(V)"));

    // A person issues one certificate and revokes ours, while the vault runs.
    let key = story.scratch.path().join("key.pem");
    let csr = story.scratch.path().join("csr.pem");
    fs::write(&key, story.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let request = ["req", "-new", "-subj", "/CN=by.hand", "-key"];
    let made =
        Command::new("openssl").args(request).arg(&key).arg("-out").arg(&csr).status().unwrap();
    assert!(made.success());
    openssl(&["-notext", "-in", csr.to_str().unwrap(), "-out", "/dev/null"]);
    openssl(&["-revoke", &format!("newcerts/{serial}.pem"), "-crl_reason", "superseded"]);

    let next = story.issued("b.example.org");
    let index = story.index();
    assert_eq!(index.lines().count(), 3, "{index}");
    assert!(index.contains("by.hand") && index.contains(",superseded\t"), "{index}");
    let by_hand = index.lines().find(|line| line.contains("by.hand")).unwrap();
    let by_hand: Serial = by_hand.split('\t').nth(3).unwrap().parse().unwrap();
    assert!(serial_of(&next) > by_hand, "its serial is never taken again");
    assert_eq!(story.findings(), Vec::<String>::new());

    // The next CRL has the revocation that a person made.
    let Answer::CrlPiece(piece) = story.fetch_crl(None) else { panic!("a piece was expected") };
    let crl = unpack(&piece.bytes, None);
    assert!(is_listed(&crl, &serial));
}

#[test]
fn revoking_what_was_never_issued_is_refused() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let before = story.index();
    assert_eq!(code(&story.revoke("4DEADBEEF0".parse().unwrap())), RefusalCode::SerialUnknown);
    assert_eq!(story.index(), before);
}

#[test]
fn console_only_profile_root_and_unknown_names_are_refused_from_the_link() {
    let mut story = Story::new();
    for (authority, profile, expected) in [
        ("issuing", "subca", RefusalCode::ProfileConsoleOnly),
        ("root", "subca", RefusalCode::ProfileConsoleOnly),
        ("root", "server", RefusalCode::AuthorityManual),
        ("issuing", "nonsense", RefusalCode::ProfileUnknown),
        ("nobody", "server", RefusalCode::AuthorityUnknown),
    ] {
        let request = story.request("a.example.org");
        let request = Issue { authority: name(authority), profile: name(profile), ..request };
        assert_eq!(code(&story.issue(request.clone())), expected, "{authority} {profile}");
        // A refusal is an answer like others: kept, and the same when asked again.
        assert_eq!(code(&story.issue(request)), expected);
    }
    let ledger = Ledger::open(&Ledger::path(&story.store())).unwrap();
    assert_eq!(ledger.outcomes().unwrap(), [("refused".to_owned(), 5)]);
    let audit = fs::read_to_string(story.store().join("audit/0000000001.log")).unwrap();
    assert_eq!(audit.matches("\"event\":\"refused\"").count(), 5);
}

#[test]
fn days_past_the_cap_are_refused() {
    let mut story = Story::new();
    for days in [0, 200, 65_535, u32::MAX] {
        let request = Issue { days: Some(days), ..story.request("a.example.org") };
        assert_eq!(code(&story.issue(request)), RefusalCode::Validity, "{days}");
    }
    let request = Issue { days: Some(1), ..story.request("a.example.org") };
    certificate(&story.issue(request));
}

#[test]
fn root_revokes_an_issuing_authority_at_the_console_beside_a_running_vault() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let store = story.store();
    let console = |arguments: &[&str]| {
        let all = ["signer", "--dir", store.to_str().unwrap()].into_iter();
        console::dispatch(Arguments::parse_from(all.chain(arguments.iter().copied())))
    };
    let root = store.join("authorities/root");
    let newest = || {
        let crl = fs::read(root.join("crl/current.crl")).unwrap();
        openssl::x509::X509Crl::from_der(&crl).unwrap()
    };
    let issuing = story.file("ca.crt");
    let issuing = ["--cert", issuing.to_str().unwrap(), "--reason", "CACompromise"];
    console(&[&["revoke", "--authority", "root"][..], &issuing].concat()).unwrap();
    let certificate = X509::from_pem(&fs::read(story.file("ca.crt")).unwrap()).unwrap();
    assert!(is_listed(&newest(), &serial_of(&certificate)));
    let index = fs::read_to_string(root.join("index.txt")).unwrap();
    assert!(index.starts_with("R\t") && index.contains(",CACompromise\t"), "{index}");

    // A new list without revocations has the next number, and unknown serials are refused.
    console(&["crl", "sign", "root"]).unwrap();
    assert!(is_listed(&newest(), &serial_of(&certificate)));
    let number = fs::read_to_string(root.join("crlnumber")).unwrap();
    assert_eq!(number.trim(), "04", "1 at the making, 2 for the revocation, 3 now");
    assert!(console(&["revoke", "--authority", "root", "--serial", "4D"]).is_err());
    story.issued("b.example.org");
    assert_eq!(story.findings(), Vec::<String>::new());
}

fn unpack(packed: &[u8], reference: Option<&[u8]>) -> openssl::x509::X509Crl {
    let der = patch::unpack(packed, |_| reference, 1 << 20).unwrap();
    openssl::x509::X509Crl::from_der(&der).unwrap()
}

fn is_listed(crl: &openssl::x509::X509Crl, serial: &Serial) -> bool {
    let listed = |entry: &openssl::x509::X509RevokedRef| {
        entry.serial_number().to_bn().unwrap().to_vec() == serial.as_octets()
    };
    crl.get_revoked().is_some_and(|stack| stack.iter().any(listed))
}

#[test]
fn many_revocations_make_one_crl_that_verifies() {
    let mut story = Story::new();
    let serials: Vec<Serial> =
        (0..20).map(|n| serial_of(&story.issued(&format!("{n}.example.org")))).collect();
    for serial in &serials {
        assert!(matches!(story.revoke(serial.clone()), Answer::Revoked { .. }));
    }
    let Answer::CrlPiece(piece) = story.fetch_crl(None) else { panic!("a piece was expected") };
    assert_eq!(piece.crl_number, 2, "the one of its making, and one for all twenty");
    let crl = unpack(&piece.bytes, None);
    let authority = &story.vault().authorities[&name("issuing")];
    assert!(crl.verify(&authority.certificate().public_key().unwrap()).unwrap());
    assert!(serials.iter().all(|serial| is_listed(&crl, serial)));
    story.later(1);
    let now = story.now;
    story.vault().tick(now).unwrap();
    assert_eq!(story.index().matches("R\t").count(), 20);

    // The frontend has it now: nothing new, then a patch.
    let have = Some(piece.crl_digest);
    assert!(matches!(story.fetch_crl(have), Answer::CrlUnchanged { .. }));
    let another = serial_of(&story.issued("last.example.org"));
    story.revoke(another.clone());
    let Answer::CrlPiece(next) = story.fetch_crl(have) else { panic!("a piece was expected") };
    assert_eq!(next.crl_number, 3);
    assert!(next.packed_length < next.crl_length / 2, "a patch is small");
    let base = crl.to_der().unwrap();
    assert_eq!(Digest::of(&base), piece.crl_digest);
    assert!(is_listed(&unpack(&next.bytes, Some(&base)), &another));
}

#[test]
fn patch_against_a_crl_that_is_gone_becomes_the_full_crl() {
    let mut story = Story::new();
    let serial = serial_of(&story.issued("a.example.org"));
    let Answer::CrlPiece(first) = story.fetch_crl(None) else { panic!("a piece was expected") };
    story.revoke(serial.clone());
    fs::remove_file(story.file("crl/000001.crl")).unwrap();
    for have in [first.crl_digest, Digest::of(b"never made here")] {
        let Answer::CrlPiece(piece) = story.fetch_crl(Some(have)) else {
            panic!("a piece was expected")
        };
        assert!(is_listed(&unpack(&piece.bytes, None), &serial), "no reference is needed");
    }
}

#[test]
fn waiting_revocation_gets_its_crl_even_if_no_frontend_asks() {
    let mut story = Story::new();
    let serial = serial_of(&story.issued("a.example.org"));
    story.revoke(serial);
    let number = |story: &mut Story| {
        let id = story.vault().authorities[&name("issuing")].id();
        story.vault().ledger.newest_crl(id).unwrap().unwrap().number
    };
    let now = story.now;
    story.vault().tick(now).unwrap();
    assert_eq!(number(&mut story), 1);
    story.later(61);
    let now = story.now;
    story.vault().tick(now).unwrap();
    assert_eq!(number(&mut story), 2);
    story.later(86_400);
    let now = story.now;
    story.vault().tick(now).unwrap();
    assert_eq!(number(&mut story), 3, "refreshed without revocations");
}

#[test]
fn clock_before_the_last_signature_stops_signing_but_takes_time_hints() {
    let mut story = Story::new();
    story.later(1_000);
    story.issued("a.example.org");
    story.later(-3);
    story.issued("b.example.org"); // a small correction is tolerated, with the floor as date
    let lines = story.index().lines().count();

    // The battery died: it is 1970, and an intent is open.
    let request = story.request("c.example.org");
    let call = |request: &Issue| Tagged { tag: 1, body: Call::Issue(Box::new(request.clone())) };
    let (now, mut work) = (story.now, Work::default());
    story.vault().decide(now, vec![call(&request)], &mut work).unwrap();
    let right = story.now.unix_us;
    story.now.unix_us = 5_000_000;
    story.start();
    let now = story.now;
    let replies = story.vault().handle(now, vec![call(&request)]).unwrap();
    assert!(matches!(replies[..], [Tagged { body: Reply::NotNow, .. }]), "{replies:?}");
    story.vault().tick(now).unwrap();
    assert_eq!(story.index().lines().count(), lines, "nothing was signed");
    let hint = TimeHint { unix_us: right, round_trip_us: None, synchronised: true };
    let answer = story.call(Call::TimeHint { hint, round_trip_us: None });
    assert!(matches!(answer, Answer::TimeHintTaken { .. }));
    assert!(story.store().join("timesync.sh").exists(), "the operator can set the clock");
    let status = story.vault().status(now).unwrap();
    assert!(status.warnings.iter().any(|warning| warning.starts_with(ready::CLOCK_WARNING)));

    // The operator sets it: what was open is finished, and the warning goes.
    story.now.unix_us = right + 60_000_000;
    certificate(&story.issue(request));
    assert_eq!(story.index().lines().count(), lines + 1);
    let now = story.now;
    assert!(story.vault().status(now).unwrap().warnings.is_empty());
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn serials_go_on_above_what_the_frontend_has_seen() {
    let mut story = Story::new();
    let first = serial_counter(&serial_of(&story.issued("a.example.org"))).unwrap();
    let say = |story: &mut Story, counter| {
        let high = SerialHigh { authority: name("issuing"), counter };
        let serial_high = List::try_from(vec![high]).unwrap();
        story.call(Call::Catalogue(CatalogueQuery { have: None, serial_high }))
    };
    say(&mut story, first + 500);
    let next = serial_counter(&serial_of(&story.issued("b.example.org"))).unwrap();
    assert_eq!(next, first + 501);
    say(&mut story, u64::MAX); // a jump that far is a lie or a matter for a person
    let after = serial_counter(&serial_of(&story.issued("c.example.org"))).unwrap();
    assert_eq!(after, next + 1);
    let now = story.now;
    let status = story.vault().status(now).unwrap();
    assert_eq!(status.warnings.len(), 2, "both are told to the operator");
}

#[test]
fn second_signer_on_one_store_is_refused() {
    let story = Story::new();
    let fault = story.open().unwrap_err();
    assert!(fault.is_configuration() && fault.to_string().contains("another signer"), "{fault}");
}

#[test]
fn signing_stops_when_the_audit_log_cannot_be_written() {
    let mut story = Story::new();
    let vandal = rusqlite::Connection::open(Ledger::path(&story.store())).unwrap();
    vandal.execute_batch("ALTER TABLE audit RENAME TO gone").unwrap();
    let request = story.request("a.example.org");
    let (now, call) = (story.now, Tagged { tag: 1, body: Call::Issue(Box::new(request)) });
    let fault = story.vault().handle(now, vec![call]).unwrap_err();
    assert!(matches!(fault, Fault::Ledger(_)), "{fault}");
    assert_eq!(story.index(), "", "nothing was released");
}

#[test]
fn check_finds_a_rotten_bit_in_every_kind_of_file() {
    let mut story = Story::new();
    let serial = serial_of(&story.issued("a.example.org"));
    story.fetch_crl(None);
    let now = story.now;
    story.vault().tick(now).unwrap();
    assert_eq!(story.findings(), Vec::<String>::new());
    for (path, at) in [
        (story.file(&format!("newcerts/{serial}.pem")), 200),
        (story.file("crl/000001.crl"), 50),
        (story.file("index.txt"), 0),
        (story.store().join("audit/0000000001.log"), 30),
    ] {
        let good = fs::read(&path).unwrap();
        let mut rotten = good.clone();
        rotten[at] ^= 1;
        fs::write(&path, &rotten).unwrap();
        assert_eq!(story.findings().len(), 1, "{}: {:?}", path.display(), story.findings());
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn audit_file_with_a_torn_end_is_mended() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let path = story.store().join("audit/0000000001.log");
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"n\":999,\"at\":\"20");
    fs::write(&path, torn).unwrap();
    story.issued("b.example.org");
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn crl_past_16_mib_arrives_whole_in_pieces_and_resumes_after_a_cut() {
    let mut story = Story::new();
    story.vault = None;
    // As many revoked certificates as make more than 16 MiB: 20-octet serials, with a reason.
    let filler = rusqlite::Connection::open(Ledger::path(&story.store())).unwrap();
    filler
        .execute_batch(
            "BEGIN;
             CREATE TEMP TABLE a AS SELECT id FROM authority WHERE name = 'issuing';
             INSERT INTO certificate
               (authority, serial, profile, not_after, subject, der, status, revoked_at, reason)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 340000)
             SELECT a.id, CAST('A' || hex(randomblob(6)) || printf('%07d', i) AS BLOB), '',
                    2000000000, '/CN=x', x'', 'R', 1790000000, 'superseded' FROM n, a;
             INSERT INTO revocation (authority, serial, at) SELECT id, x'01', 1790000000 FROM a;
             COMMIT;",
        )
        .unwrap();
    drop(filler);
    // The index must show them too, or the start would look for lines that are missing.
    story.start();

    let mut packed = Vec::new();
    let mut last = None;
    loop {
        let resume = last.map(|digest| (digest, packed.len() as u64));
        let fetch = FetchCrl {
            authority: name("issuing"),
            scope: protocol::message::CrlScope::Full,
            have: None,
            resume,
        };
        let Answer::CrlPiece(piece) = story.call(Call::FetchCrl(fetch)) else {
            panic!("a piece was expected")
        };
        assert_eq!(piece.offset, packed.len() as u64);
        packed.extend_from_slice(&piece.bytes);
        last = Some(piece.packed_digest);
        if packed.len() as u64 == piece.packed_length {
            assert_eq!(Digest::of(&packed), piece.packed_digest);
            assert!(piece.crl_length > 16 << 20, "{}", piece.crl_length);
            let der = patch::unpack(&packed, |_| None, 64 << 20).unwrap();
            assert_eq!(Digest::of(&der), piece.crl_digest);
            let crl = openssl::x509::X509Crl::from_der(&der).unwrap();
            let authority = &story.vault().authorities[&name("issuing")];
            assert!(crl.verify(&authority.certificate().public_key().unwrap()).unwrap());
            assert_eq!(crl.get_revoked().unwrap().len(), 340_000);
            break;
        }
        if packed.len() == 100 * protocol::message::PIECE_MAX {
            story.vault().crls.transfers = Default::default(); // as after a restart
        }
    }
}

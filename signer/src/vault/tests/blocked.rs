//! Stories of keys that must not be certified: listed ones, blocked ones, and no list at all.

use super::*;
use crate::blocklist;

impl Story {
    /// A file in the scratch folder, and its path for a command line.
    fn scratch_file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Holds the published key with the Debian fault from now on.
    fn take_debian_key(&mut self) {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/weak-keys/debian-prng-2048.pem");
        self.key = PKey::private_key_from_pem(&fs::read(path).unwrap()).unwrap();
    }

    fn import_debian_list(&self) {
        let list = self.scratch_file("blacklist.RSA-2048", "# Debian\n042dcb33f1f6f3ce9eee\n");
        self.console(&["blocklist", "import", &list]).unwrap();
    }

    fn refusal(&mut self, dns: &str) -> (RefusalCode, String) {
        let request = self.request(dns);
        match self.issue(request) {
            Answer::Refused { code, text, .. } => (code, text.to_string()),
            other => panic!("a refusal was expected: {other:?}"),
        }
    }

    fn audit(&self) -> String {
        let folder = fs::read_dir(self.store().join("audit")).unwrap();
        let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }
}

// `blocklist-published`
#[test]
fn blocklist_published_key_is_refused_from_the_import_on_though_the_vault_runs() {
    let mut story = Story::new();
    story.take_debian_key();
    story.issued("before.example.org"); // nobody can know without a list
    story.import_debian_list();
    let (code, text) = story.refusal("after.example.org");
    assert_eq!(code, RefusalCode::KeyBlocked);
    assert!(text.contains("openssl-blacklist"), "{text}");
    assert!(story.audit().contains("blocklist-imported"));
    // Another key is not, and the refusal is recorded like any other.
    story.key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    story.issued("other.example.org");
    assert!(story.audit().contains("\"code\":\"key-blocked\""));
    assert_eq!(story.findings(), Vec::<String>::new());
}

// `blocklist-operator`
#[test]
fn blocklist_operator_key_is_refused_until_it_is_taken_from_the_table() {
    let mut story = Story::new();
    let key = story.scratch_file("key.pem", story.key.public_key_to_pem().unwrap());
    story.console(&["blocklist", "add", &key, "--reason", "found on a paste site"]).unwrap();
    let (code, text) = story.refusal("a.example.org");
    assert_eq!(code, RefusalCode::KeyBlocked);
    let fingerprint = blocklist::fingerprint(&story.key.public_key_to_der().unwrap());
    assert!(text.contains(&fingerprint.to_string()), "{text}");
    assert!(!text.contains("paste"), "the reason is the operator's own: {text}");
    assert!(story.audit().contains("found on a paste site"));

    story.console(&["blocklist", "remove", "--fingerprint", &fingerprint.to_string()]).unwrap();
    story.issued("b.example.org");
    assert!(story.audit().contains("key-unblocked"));
}

#[test]
fn blocklist_operator_key_by_its_fingerprint_alone_is_refused_after_a_restart_too() {
    let mut story = Story::new();
    let fingerprint = blocklist::fingerprint(&story.key.public_key_to_der().unwrap()).to_string();
    let colons: Vec<String> = fingerprint
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).into())
        .collect();
    let words = ["blocklist", "add", "--fingerprint", &colons.join(":"), "--reason", "x"];
    story.console(&words).unwrap();
    story.console(&words).unwrap(); // twice is no fault
    story.start();
    assert_eq!(story.refusal("a.example.org").0, RefusalCode::KeyBlocked);
    let entries = story.audit().matches("\"event\":\"key-blocked\"").count();
    assert_eq!(entries, 1, "what changes nothing has no entry");
    let ledger = Ledger::open(&Ledger::path(&story.store())).unwrap();
    let blocked = ledger.blocked_keys().unwrap();
    assert_eq!(blocked.len(), 1);
    assert_eq!((blocked[0].fingerprint.to_string(), &*blocked[0].reason), (fingerprint, "x"));
}

// `blocklist-demanded`
#[test]
fn blocklist_demanded_by_the_profile_is_missed_until_one_is_loaded() {
    let mut story = Story::new();
    let path = story.file("profiles/server.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[keys]\n", "[keys]\nblocklist = true\n")).unwrap();
    story.start();
    let (code, text) = story.refusal("a.example.org");
    assert_eq!(code, RefusalCode::BlocklistMissing);
    assert!(text.contains("signer blocklist import"), "{text}");
    story.import_debian_list();
    story.issued("b.example.org");
    fs::remove_file(blocklist::path(&story.store())).unwrap();
    assert_eq!(story.refusal("c.example.org").0, RefusalCode::BlocklistMissing);
}

#[test]
fn damaged_list_stops_the_vault_and_is_never_passed_over() {
    let mut story = Story::new();
    story.import_debian_list();
    let path = blocklist::path(&story.store());
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(100);
    fs::write(&path, bytes).unwrap();
    let request = story.request("a.example.org");
    let call = Tagged { tag: 1, body: Call::Issue(Box::new(request)) };
    let now = story.now;
    let fault = story.vault().handle(now, vec![call]).unwrap_err();
    assert!(fault.to_string().contains("weak-keys.list is damaged"), "{fault}");
    assert!(story.open().is_err());
    // Removed and imported anew, as the sentence says.
    fs::remove_file(&path).unwrap();
    story.import_debian_list();
    story.start();
    story.issued("a.example.org");
}

//------------ Revoking what is weak -----------------------------------------

#[test]
fn weak_certificates_are_shown_then_revoked_with_one_crl() {
    let mut story = Story::new();
    let good = story.issued("good.example.org");
    let good_key = story.key.clone();
    story.take_debian_key();
    let weak: Vec<_> = (0..3).map(|n| story.issued(&format!("weak{n}.example.org"))).collect();
    story.key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let blocked = story.issued("blocked.example.org");
    let key = story.scratch_file("key.pem", story.key.public_key_to_pem().unwrap());
    story.console(&["blocklist", "add", &key, "--reason", "stolen"]).unwrap();
    story.import_debian_list();
    let number = newest(&story);

    story.console(&["revoke", "--weak-keys", "--dry-run"]).unwrap();
    assert!(story.index().lines().all(|line| line.starts_with('V')), "nothing is changed");
    assert_eq!(newest(&story), number);

    story.console(&["revoke", "--weak-keys", "--authority", "issuing"]).unwrap();
    assert_eq!(newest(&story), number + 1, "one CRL for all");
    for certificate in weak.iter().chain([&blocked]) {
        let serial = serial_of(certificate).to_string();
        let line = story.index().lines().find(|line| line.contains(&serial)).unwrap().to_owned();
        assert!(line.starts_with('R') && line.contains("keyCompromise"), "{line}");
    }
    let serial = serial_of(&good).to_string();
    let line = story.index().lines().find(|line| line.contains(&serial)).unwrap().to_owned();
    assert!(line.starts_with('V'), "{line}");
    assert_eq!(story.audit().matches("\"event\":\"revoked\"").count(), 4);

    // Again: nothing is left to do, and no CRL comes of it. The vault goes on beside it.
    story.console(&["revoke", "--weak-keys"]).unwrap();
    assert_eq!(newest(&story), number + 1);
    story.key = good_key;
    story.now = console::now().unwrap(); // the console signed by the real clock
    story.issued("later.example.org");
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn weak_keys_can_be_named_by_list_key_certificate_or_csr() {
    let mut story = Story::new();
    let mine = story.issued("mine.example.org");
    story.take_debian_key();
    let debian = story.issued("debian.example.org");
    let list = story.scratch_file("list", "042dcb33f1f6f3ce9eee\n");
    let certificate = story.scratch_file("mine.pem", mine.to_pem().unwrap());
    story.console(&["revoke", "--weak-keys", &certificate]).unwrap();
    let revoked = |story: &Story, certificate: &X509| {
        let serial = serial_of(certificate).to_string();
        story.index().lines().any(|line| line.starts_with('R') && line.contains(&serial))
    };
    assert!(revoked(&story, &mine) && !revoked(&story, &debian));
    story.console(&["revoke", "--weak-keys", &list, &certificate]).unwrap();
    assert!(revoked(&story, &debian));

    let junk = story.scratch_file("junk", "hello\n");
    let error = story.console(&["revoke", "--weak-keys", &junk]).unwrap_err();
    assert!(error.contains("junk: line 1"), "{error}");
    let error = story.console(&["revoke", "--weak-keys", "--authority", "nobody"]).unwrap_err();
    assert!(error.contains("no authority nobody"), "{error}");
}

#[test]
fn expired_and_revoked_certificates_are_not_looked_at_and_a_cut_run_gets_its_crl() {
    let mut story = Story::new();
    story.take_debian_key();
    let first = story.issued("first.example.org");
    story.import_debian_list();
    // As after a run that was cut off behind its last transaction.
    let mut ledger = Ledger::open(&Ledger::path(&story.store())).unwrap();
    let id = ledger.authority(&name("issuing")).unwrap().unwrap();
    let tx = ledger.begin(story.now.unix()).unwrap();
    tx.revoke(id, &serial_of(&first), RevocationReason::KeyCompromise).unwrap();
    tx.commit().unwrap();
    let number = newest(&story);
    story.console(&["revoke", "--weak-keys"]).unwrap();
    assert_eq!(newest(&story), number + 1);
    assert!(story.index().starts_with('R'));
}

/// The number of the issuing authority's newest CRL.
fn newest(story: &Story) -> u64 {
    let ledger = Ledger::open(&Ledger::path(&story.store())).unwrap();
    let id = ledger.authority(&name("issuing")).unwrap().unwrap();
    ledger.newest_crl(id).unwrap().unwrap().number
}

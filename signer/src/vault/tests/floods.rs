//! What a hostile frontend or a captured gate can make the vault do, and what it cannot.

use std::collections::BTreeSet;

use super::*;

#[test]
fn references_without_end_pack_a_crl_twice_at_most() {
    let mut story = Story::new();
    let serial = serial_of(&story.issued("a.example.org"));
    let Answer::CrlPiece(first) = story.fetch_crl(None) else { panic!("a piece was expected") };
    story.revoke(serial.clone());
    for number in 0..50_u8 {
        let have = match number % 2 {
            0 => first.crl_digest,
            _ => Digest::of(&[number]),
        };
        assert!(matches!(story.fetch_crl(Some(have)), Answer::CrlPiece(_)));
    }
    assert_eq!(story.vault().crls.transfers.count(), 2, "one patch, one whole");
    // Once the frontend has it, nothing of it is held.
    let Answer::CrlPiece(piece) = story.fetch_crl(None) else { panic!("a piece was expected") };
    assert!(matches!(story.fetch_crl(Some(piece.crl_digest)), Answer::CrlUnchanged { .. }));
    assert_eq!(story.vault().crls.transfers.count(), 0);
}

#[test]
fn lost_or_rotten_crl_file_is_replaced_by_the_next_crl() {
    let mut story = Story::new();
    fs::remove_file(story.file("crl/000001.crl")).unwrap();
    let Answer::CrlPiece(piece) = story.fetch_crl(None) else { panic!("a piece was expected") };
    assert_eq!(piece.crl_number, 2);
    fs::write(story.file("crl/000002.crl"), b"rot").unwrap();
    story.vault().crls.transfers = Default::default();
    let Answer::CrlPiece(piece) = story.fetch_crl(None) else { panic!("a piece was expected") };
    assert_eq!(piece.crl_number, 3);
    unpack(&piece.bytes, None);
}

#[test]
fn large_crl_is_not_signed_for_each_revocation() {
    let mut story = Story::new();
    let first = serial_of(&story.issued("a.example.org"));
    let second = serial_of(&story.issued("b.example.org"));
    let filler = rusqlite::Connection::open(Ledger::path(&story.store())).unwrap();
    filler
        .execute_batch(
            "INSERT INTO certificate
               (authority, serial, profile, not_after, subject, der, status, revoked_at)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
             SELECT a.id, CAST('A' || printf('%07d', i) AS BLOB), '', 2000000000, '/CN=x', x'',
                    'R', 1790000000 FROM n, authority a WHERE a.name = 'issuing'",
        )
        .unwrap();
    story.revoke(first);
    let number = |answer| match answer {
        Answer::CrlPiece(piece) => piece.crl_number,
        other => panic!("a piece was expected: {other:?}"),
    };
    assert_eq!(number(story.fetch_crl(None)), 2, "the one before was small");
    story.revoke(second);
    assert_eq!(number(story.fetch_crl(None)), 2, "30,000 entries rest for 3 s");
    story.later(3);
    assert_eq!(number(story.fetch_crl(None)), 3);
}

#[test]
fn authority_with_another_passphrase_made_beside_the_vault_does_not_stop_it() {
    let mut story = Story::new();
    let passphrase = story.scratch.path().join("passphrase");
    fs::write(&passphrase, "other\n").unwrap();
    let other = ["authority", "create", "other", "--subject", "/CN=O", "--key", "ec:P-256"];
    let file = ["--passphrase-file", passphrase.to_str().unwrap()];
    story.console(&[&other[..], &file].concat()).unwrap();
    let third = ["authority", "create", "third", "--subject", "/CN=T", "--key", "ec:P-256"];
    story.console(&third).unwrap();

    let query = || Call::Catalogue(CatalogueQuery { have: None, serial_high: List::empty() });
    let Answer::Catalogue(catalogue) = story.call(query()) else { panic!("the catalogue") };
    assert_eq!(catalogue.authorities.len(), 3, "the third is there, the other is not");
    story.call(query());
    let now = story.now;
    let warnings = story.vault().status(now).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("other/private/ca.key"), "{}", warnings[0]);
    // At a start it is a fault, in one sentence that names the file.
    story.vault = None;
    let fault = story.open().unwrap_err().to_string();
    assert!(fault.contains("other/private/ca.key is encrypted"), "{fault}");
}

#[test]
fn foreign_serial_far_above_ours_does_not_use_up_the_counter() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let far = "7FFFFFFFFFFFFFFF0000000000000000";
    let line = format!("{}V\t301122010203Z\t\t{far}\tunknown\t/CN=far\n", story.index());
    fs::write(story.file("index.txt"), line).unwrap();
    let next = serial_of(&story.issued("b.example.org"));
    assert!(next < far.parse().unwrap());
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn self_issued_authority_is_a_root_whatever_its_chain_file_says() {
    let mut story = Story::new();
    let root = story.store().join("authorities/root");
    let certificate = fs::read_to_string(root.join("ca.crt")).unwrap();
    fs::write(root.join("chain.pem"), certificate.repeat(2)).unwrap();
    story.start();
    assert!(!story.vault().authorities[&name("root")].signs_unattended());
    fs::write(root.join("chain.pem"), "").unwrap();
    story.vault = None;
    let fault = story.open().unwrap_err().to_string();
    assert!(fault.contains("root/chain.pem is damaged"), "{fault}");
}

#[test]
fn no_authority_is_made_below_one_that_may_certify_none() {
    let story = Story::new();
    let below = ["authority", "create", "below", "--subject", "/CN=B", "--key", "ec:P-256"];
    let why = story.console(&[&below[..], &["--issued-by", "issuing"]].concat()).unwrap_err();
    assert!(why.contains("path length 0"), "{why}");
    assert!(!story.store().join("authorities/below").exists());
}

#[test]
fn a_hundred_thousand_requests_leave_no_work_file() {
    const REQUESTS: u32 = 100_000;
    let mut story = Story::new();
    story.issued("first.example.org"); // so that every file that belongs to a store is there
    let now = story.now;
    story.vault().tick(now).unwrap();
    let before = files_of(&story.store());

    let template = story.request("host.example.org");
    let mut issued = BTreeSet::new();
    let (mut refused, mut repeated) = (0, 0);
    let mut number = 0;
    while number < REQUESTS {
        let batch = (0..BATCH_MAX as u32).map(|_| {
            number += 1;
            story.next_id += 1;
            let mut issue = template.clone();
            // One in 25 is good, one in five comes again, the others are against the rules.
            match number % 25 {
                0 => {}
                1..=5 => story.next_id -= 1,
                _ => issue.days = Some(65_535),
            }
            let id = story.id();
            issue.id = id;
            issue.digest = Digest::of(id.as_bytes());
            Tagged { tag: number.into(), body: Call::Issue(Box::new(issue)) }
        });
        let batch: Vec<_> = batch.collect();
        let now = story.now;
        let asked = batch.len();
        let replies = story.vault.as_mut().unwrap().handle(now, batch).unwrap();
        assert_eq!(replies.len(), asked);
        for reply in replies {
            match reply.body {
                Reply::Answer(Answer::Issued { certificate, .. }) => {
                    let der = X509::from_der(&certificate).unwrap();
                    repeated += u32::from(!issued.insert(serial_of(&der)));
                }
                Reply::Answer(Answer::Refused { code: RefusalCode::Validity, .. }) => refused += 1,
                other => panic!("an answer was expected: {other:?}"),
            }
        }
    }
    let now = story.now;
    story.vault().tick(now).unwrap();
    assert!(issued.len() >= 4_000 && repeated >= 4_000, "{} and {repeated}", issued.len());
    assert!(refused >= 76_000, "{refused}");

    let copies: BTreeSet<PathBuf> =
        issued.iter().map(|serial| story.file(&format!("newcerts/{serial}.pem"))).collect();
    let added: BTreeSet<PathBuf> = files_of(&story.store()).difference(&before).cloned().collect();
    let is_segment = |path: &&PathBuf| path.parent().is_some_and(|at| at.ends_with("audit"));
    let others: Vec<_> = added.difference(&copies).filter(|path| !is_segment(path)).collect();
    assert_eq!(others, Vec::<&PathBuf>::new());
    assert!(copies.is_subset(&added));
}

/// Every file below a directory.
fn files_of(directory: &std::path::Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_of(&path)),
            false => drop(files.insert(path)),
        }
    }
    files
}

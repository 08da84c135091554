//! Stories of CRLs: what each lists and for how long, delta CRLs, shards, long transfers.

use std::{collections::BTreeMap, process::Output};

use protocol::message::{CrlPiece, CrlScope};

use super::*;
use crate::{
    authority::{asn1_time, crl},
    calendar::UnixTime,
    ledger::{CertificateRow, Status},
};

fn listed(der: &[u8]) -> Vec<Serial> {
    crl::listed(der).map(|octets| Serial::from_magnitude(octets).unwrap()).collect()
}

fn number_of(story: &mut Story, scope: CrlScope) -> u64 {
    let vault = story.vault();
    let id = vault.authorities[&name("issuing")].id();
    vault.ledger.newest_crl_of(id, scope).unwrap().unwrap().number
}

fn fetch(story: &mut Story, scope: CrlScope, have: Option<Digest>) -> Answer {
    let authority = name("issuing");
    story.call(Call::FetchCrl(FetchCrl { authority, scope, have, resume: None }))
}

/// The newest full CRL as it travels: its first piece, and all of its packed bytes.
fn fetch_packed(story: &mut Story, have: Option<Digest>) -> (CrlPiece, Vec<u8>) {
    let Answer::CrlPiece(first) = story.fetch_crl(have) else { panic!("a piece was expected") };
    let mut packed = first.bytes.to_vec();
    while (packed.len() as u64) < first.packed_length {
        let resume = Some((first.packed_digest, packed.len() as u64));
        let authority = name("issuing");
        let question = FetchCrl { authority, scope: CrlScope::Full, have, resume };
        let Answer::CrlPiece(next) = story.call(Call::FetchCrl(question)) else { panic!() };
        packed.extend_from_slice(&next.bytes);
    }
    (first, packed)
}

fn tick(story: &mut Story) {
    let now = story.now;
    story.vault().tick(now).unwrap();
}

/// Adds lines to the `[crl]` table, the last one of `authority.toml`, and starts again.
fn configure(story: &mut Story, lines: &str) {
    story.vault = None;
    let path = story.file("authority.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{lines}\n")).unwrap();
    story.start();
    tick(story);
}

/// A person revokes in the index, as `openssl ca -revoke` does.
fn revoke_by_hand(story: &Story, serial: &Serial) {
    let at = story.now.unix().index_form();
    let lines: Vec<String> = story
        .index()
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split('\t').collect();
            let date = format!("{at},superseded");
            if fields[3] == serial.to_string() {
                (fields[0], fields[2]) = ("R", &date);
            }
            fields.join("\t")
        })
        .collect();
    fs::write(story.file("index.txt"), lines.join("\n") + "\n").unwrap();
}

/// The ledger says that a certificate is valid again.
fn take_back(story: &Story, serial: &Serial) {
    let mut ledger = Ledger::open(&Ledger::path(&story.store())).unwrap();
    let id = ledger.authority(&name("issuing")).unwrap().unwrap();
    let row = ledger.certificate(id, serial).unwrap().unwrap();
    let mut tx = ledger.begin(story.now.unix()).unwrap();
    tx.adopt(id, &CertificateRow { status: Status::Valid, ..row }).unwrap();
    tx.commit().unwrap();
}

struct Certificate {
    not_after: UnixTime,
    revoked: bool,
    /// A CRL that was signed past its expiry has listed it.
    passed: bool,
}

// Invariant I8 and the rule of leaving, against a model: revocations, changes by hand, expiry and
// restarts in any order. A restart makes the entries anew, so what is kept between CRLs is
// compared with that, too.
#[test]
fn every_crl_lists_what_was_revoked_until_one_past_expiry_had_it() {
    let mut story = Story::new();
    let mut state = 0x5eed_u64;
    let mut next = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % bound
    };
    let mut model: BTreeMap<Serial, Certificate> = BTreeMap::new();
    let (mut seen, mut left, mut crls) = (number_of(&mut story, CrlScope::Full), 0, 0);
    for step in 0..250_u32 {
        let pick = |which: u64, revoked: bool, model: &BTreeMap<Serial, Certificate>| {
            let fitting: Vec<_> = model.iter().filter(|(_, one)| one.revoked == revoked).collect();
            let index = usize::try_from(which).unwrap() % fitting.len().max(1);
            fitting.get(index).map(|(serial, _)| (*serial).clone())
        };
        match next(12) {
            0..=2 => {
                let days = Some(1 + next(4) as u32);
                let request = story.request(&format!("{step}.example.org"));
                let issued = certificate(&story.issue(Issue { days, ..request }));
                let not_after = asn1_time(issued.not_after()).unwrap();
                let known = Certificate { not_after, revoked: false, passed: false };
                model.insert(serial_of(&issued), known);
            }
            3..=5 => {
                if let Some(serial) = pick(next(1 << 20), false, &model) {
                    assert!(matches!(story.revoke(serial.clone()), Answer::Revoked { .. }));
                    let one = model.get_mut(&serial).unwrap();
                    (one.revoked, one.passed) = (true, false);
                }
            }
            6 => {
                if let Some(serial) = pick(next(1 << 20), false, &model) {
                    revoke_by_hand(&story, &serial);
                    story.start();
                    let one = model.get_mut(&serial).unwrap();
                    (one.revoked, one.passed) = (true, false);
                }
            }
            7..=9 => {
                story.later(3_600 * (1 + next(20) as i64));
                tick(&mut story);
            }
            10 => story.start(),
            _ => drop(story.fetch_crl(None)),
        }
        let number = number_of(&mut story, CrlScope::Full);
        if number == seen {
            continue;
        }
        (seen, crls) = (number, crls + 1);
        let current = fs::read(story.file("crl/current.crl")).unwrap();
        let stays = model.iter().filter(|(_, one)| one.revoked && !one.passed);
        let expected: Vec<Serial> = stays.map(|(serial, _)| serial.clone()).collect();
        assert_eq!(listed(&current), expected, "CRL {number} at step {step}");
        let this_update =
            asn1_time(openssl::x509::X509Crl::from_der(&current).unwrap().last_update()).unwrap();
        for serial in expected {
            let one = model.get_mut(&serial).unwrap();
            one.passed = this_update > one.not_after;
            left += usize::from(one.passed);
        }
    }
    assert!(crls > 30 && left > 10, "{crls} CRLs, {left} left: the story tells too little");
}

#[test]
fn a_profile_can_keep_expired_certificates_for_years_and_authority_toml_adopted_ones() {
    let mut story = Story::new();
    story.vault = None;
    let path = story.file("profiles/server.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + "\n[crl]\nkeep_days = 3653\n").unwrap();
    configure(&mut story, "keep_days = 30");
    let request = story.request("a.example.org");
    let kept = serial_of(&certificate(&story.issue(Issue { days: Some(1), ..request })));
    story.revoke(kept.clone());
    // One that a person's program left, without a profile; it expires in 2033.
    let line = "R\t330518033320Z\t260101000000Z\t7777\tunknown\t/CN=adopted\n";
    fs::write(story.file("index.txt"), story.index() + line).unwrap();
    let adopted: Serial = "7777".parse().unwrap();
    let expires = UnixTime::from_index("330518033320Z").unwrap();
    story.issued("b.example.org");
    let mut at = |seconds_after_expiry: i64, twice: bool| {
        story.later(expires.0 + seconds_after_expiry - story.now.unix().0);
        tick(&mut story);
        if twice {
            story.later(86_400);
            tick(&mut story);
        }
        listed(&fs::read(story.file("crl/current.crl")).unwrap())
    };
    let month = 30 * 86_400;
    assert_eq!(at(-10, false), [kept.clone(), adopted], "in the order of their octets");
    assert_eq!(at(month - 10, true).len(), 2, "listed once past its month");
    assert_eq!(at(month + 2 * 86_400, false), [kept]);
}

/// Certificates without bytes, as adopted index lines are, beside a running vault.
fn fill(story: &Story, count: u32, status: &str) -> Vec<Serial> {
    let filler = rusqlite::Connection::open(Ledger::path(&story.store())).unwrap();
    let sql = "INSERT INTO certificate
                 (authority, serial, profile, not_after, subject, der, status, revoked_at, reason)
               SELECT id, ?1, '', 2000000000, '/CN=x', x'', ?2, ?3, ?4 FROM authority
               WHERE name = 'issuing'";
    filler.execute_batch("BEGIN").unwrap();
    let mut serials = Vec::new();
    {
        let mut statement = filler.prepare(sql).unwrap();
        for number in 0..count {
            let noise = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let octets = [
                &(0x4100_0000_0000_0000 + u64::from(number)).to_be_bytes()[..],
                &noise.to_be_bytes(),
            ];
            let octets = octets.concat();
            let (at, reason) = match status {
                "R" => (Some(1_790_000_000), Some("superseded")),
                _ => (None, None),
            };
            statement.execute(rusqlite::params![octets, status, at, reason]).unwrap();
            serials.push(Serial::from_magnitude(&octets).unwrap());
        }
    }
    filler.execute_batch("COMMIT").unwrap();
    serials
}

// Lesson: a mass revocation in one day is one CRL, not one for each.
#[test]
fn eleven_hundred_revocations_make_one_crl_of_a_few_bytes_each() {
    let mut story = Story::new();
    let serials = fill(&story, 1_128, "V");
    let Answer::CrlPiece(first) = story.fetch_crl(None) else { panic!("a piece was expected") };
    let base = patch::unpack(&first.bytes, |_| None, 1 << 20).unwrap();
    for batch in serials.chunks(BATCH_MAX) {
        let mut calls = Vec::new();
        for serial in batch {
            story.next_id += 1;
            let (id, authority) = (story.id(), name("issuing"));
            let reason = RevocationReason::KeyCompromise;
            let revoke = Revoke { id, authority, serial: serial.clone(), reason };
            let body = Call::Revoke { digest: Digest::of(id.as_bytes()), revoke };
            calls.push(Tagged { tag: 1, body });
        }
        let now = story.now;
        let replies = story.vault().handle(now, calls).unwrap();
        let revoked =
            |reply: &Tagged<Reply>| matches!(reply.body, Reply::Answer(Answer::Revoked { .. }));
        assert!(replies.iter().all(revoked) && replies.len() == batch.len());
        tick(&mut story);
    }
    let (piece, packed) = fetch_packed(&mut story, Some(first.crl_digest));
    assert_eq!(piece.crl_number, first.crl_number + 1, "one CRL for all");
    let crl = patch::unpack(&packed, |_| Some(&base), 1 << 20).unwrap();
    assert_eq!(listed(&crl), serials);
    // 11,520 bytes a second: the CRL takes less than four of the ten seconds.
    assert!(piece.packed_length < 40 * 1_128, "{} bytes", piece.packed_length);
}

#[test]
fn one_more_revocation_costs_less_than_a_kilobyte_on_the_wire_however_long_the_list() {
    let mut story = Story::new();
    fill(&story, 30_000, "R");
    let first = serial_of(&story.issued("a.example.org"));
    let second = serial_of(&story.issued("b.example.org"));
    story.revoke(first);
    let mut base = Vec::new();
    let mut have = None;
    for serial in [None, Some(second)] {
        if let Some(serial) = serial {
            story.revoke(serial);
            story.later(60);
        }
        let (piece, packed) = fetch_packed(&mut story, have);
        let reference = base.clone();
        base = patch::unpack(&packed, |_| Some(&reference), 1 << 26).unwrap();
        assert_eq!(Digest::of(&base), piece.crl_digest);
        if have.replace(piece.crl_digest).is_some() {
            assert!(
                packed.len() < 300,
                "{} bytes for one entry and an ECDSA signature",
                packed.len()
            );
        }
    }
    assert_eq!(listed(&base).len(), 30_002);
}

// A line that is slow for the list: were each new CRL begun at its start, none would ever arrive.
#[test]
fn a_long_transfer_is_finished_though_newer_crls_are_signed() {
    let mut story = Story::new();
    fill(&story, 16_000, "R");
    let serials: Vec<Serial> =
        (0..3).map(|n| serial_of(&story.issued(&format!("{n}.example.org")))).collect();
    story.revoke(serials[0].clone());
    let ask = |story: &mut Story, have, resume| -> CrlPiece {
        let authority = name("issuing");
        let question = FetchCrl { authority, scope: CrlScope::Full, have, resume };
        match story.call(Call::FetchCrl(question)) {
            Answer::CrlPiece(piece) => piece,
            other => panic!("a piece was expected: {other:?}"),
        }
    };
    let first = ask(&mut story, None, None);
    let mut packed = first.bytes.to_vec();
    let mut rounds = 0;
    while (packed.len() as u64) < first.packed_length {
        story.revoke(serials[1 + rounds % 2].clone());
        story.later(61);
        tick(&mut story);
        let resume = Some((first.packed_digest, packed.len() as u64));
        let piece = ask(&mut story, None, resume);
        assert_eq!((piece.crl_number, piece.offset), (first.crl_number, packed.len() as u64));
        packed.extend_from_slice(&piece.bytes);
        rounds += 1;
    }
    assert!(rounds >= 3, "{rounds} rounds");
    let crl = patch::unpack(&packed, |_| None, 1 << 24).unwrap();
    assert_eq!(Digest::of(&crl), first.crl_digest);
    // Then the newest comes as a patch against it.
    let newest = ask(&mut story, Some(first.crl_digest), None);
    assert!(newest.crl_number > first.crl_number);
    assert!(newest.packed_length < 400, "{} bytes", newest.packed_length);
    // Nobody asks any more: nothing is held.
    story.later(16 * 60);
    tick(&mut story);
    assert_eq!(story.vault().crls.transfers.count(), 0);
}

#[test]
fn the_newest_crl_has_two_names_and_old_ones_go() {
    use std::os::unix::fs::MetadataExt as _;
    let mut story = Story::new();
    let mine = story.file("crl/revoke-by-hand.crl");
    fs::write(&mine, "a person's").unwrap();
    for round in 0..12 {
        let serial = serial_of(&story.issued(&format!("{round}.example.org")));
        story.revoke(serial);
        story.fetch_crl(None);
    }
    let number = number_of(&mut story, CrlScope::Full);
    let file = fs::metadata(story.file(&format!("crl/{number:06}.crl"))).unwrap();
    let current = fs::metadata(story.file("crl/current.crl")).unwrap();
    assert_eq!(file.ino(), current.ino(), "no second copy");
    let files = fs::read_dir(story.file("crl")).unwrap().count();
    assert_eq!(files, 8 + 1 + 1, "eight references, the other name, and what a person put there");
    assert!(mine.exists());
}

//------------ Delta CRLs ----------------------------------------------------

fn openssl(arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).output().unwrap()
}

fn text_of(path: &std::path::Path) -> String {
    let path = path.to_str().unwrap();
    let shown = openssl(&["crl", "-inform", "DER", "-in", path, "-noout", "-text"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    String::from_utf8(shown.stdout).unwrap()
}

#[test]
fn a_delta_crl_has_what_changed_since_the_last_scheduled_one() {
    let mut story = Story::new();
    let serials: Vec<Serial> =
        (0..3).map(|n| serial_of(&story.issued(&format!("{n}.example.org")))).collect();
    story.revoke(serials[0].clone());
    story.later(61);
    tick(&mut story);
    let base = number_of(&mut story, CrlScope::Full);
    configure(&mut story, "delta = true\ndelta_urls = [\"http://crl.example.org/delta.crl\"]");
    let held = number_of(&mut story, CrlScope::Full);
    assert_eq!(number_of(&mut story, CrlScope::Delta), held);

    story.revoke(serials[1].clone());
    let Answer::CrlPiece(piece) = fetch(&mut story, CrlScope::Delta, None) else { panic!() };
    let delta = patch::unpack(&piece.bytes, |_| None, 1 << 20).unwrap();
    assert_eq!(delta, fs::read(story.file("crl/delta.crl")).unwrap());
    assert_eq!(listed(&delta), [serials[1].clone()], "the change only");
    let (full, delta) =
        (text_of(&story.file("crl/current.crl")), text_of(&story.file("crl/delta.crl")));
    assert!(
        full.contains("X509v3 Freshest CRL") && !full.contains("Delta CRL Indicator"),
        "{full}"
    );
    assert!(delta.contains("X509v3 Delta CRL Indicator: critical"), "{delta}");
    assert!(!delta.contains("Freshest"), "{delta}");
    let field = |text: &str, key: &str| {
        let line = text.lines().position(|line| line.contains(key)).unwrap();
        text.lines().skip(line).take(2).collect::<String>()
    };
    for key in ["Last Update", "Next Update", "X509v3 CRL Number", "X509v3 Authority Key"] {
        assert_eq!(field(&full, key), field(&delta, key));
    }
    let indicated: u64 = delta
        .lines()
        .skip_while(|line| !line.contains("Delta CRL Indicator"))
        .nth(1)
        .map(|line| line.trim().parse().unwrap())
        .unwrap();
    assert_eq!(indicated, base, "the one before deltas were asked for");

    // OpenSSL puts it together with any full one since the base that names a delta CRL.
    let pem = |name: &str, from: &str| {
        let (file, out) = (story.file(from), story.scratch.path().join(name));
        let (file, out) = (file.to_str().unwrap().to_owned(), out.to_str().unwrap().to_owned());
        assert!(openssl(&["crl", "-inform", "DER", "-in", &file, "-out", &out]).status.success());
        out
    };
    let base_file = pem("held.pem", &format!("crl/{held:06}.crl"));
    let delta_file = pem("delta.pem", "crl/delta.crl");
    let chain = story.scratch.path().join("chain.pem");
    let root = fs::read_to_string(story.store().join("authorities/root/ca.crt")).unwrap();
    fs::write(&chain, fs::read_to_string(story.file("ca.crt")).unwrap() + &root).unwrap();
    let at = (story.now.unix().0 + 1).to_string(); // the story's clock, not the machine's
    let judge = |serial: &Serial, delta: bool| {
        let certificate = story.file(&format!("newcerts/{serial}.pem"));
        let mut words = vec!["verify", "-crl_check", "-CAfile", chain.to_str().unwrap()];
        words.extend(["-attime", &at, "-CRLfile", &base_file]);
        if delta {
            words.extend(["-extended_crl", "-use_deltas", "-CRLfile", &delta_file]);
        }
        words.push(certificate.to_str().unwrap());
        openssl(&words).status.success()
    };
    assert!(!judge(&serials[0], false) && !judge(&serials[0], true));
    assert!(judge(&serials[1], false) && !judge(&serials[1], true), "in the delta only");
    assert!(judge(&serials[2], false) && judge(&serials[2], true));

    // Taken back: the delta says so, the full one lists it no more.
    take_back(&story, &serials[0]);
    story.later(61);
    tick(&mut story);
    let delta = text_of(&story.file("crl/delta.crl"));
    assert!(delta.contains("Remove From CRL"), "{delta}");
    assert_eq!(listed(&fs::read(story.file("crl/current.crl")).unwrap()), [serials[1].clone()]);

    // A day later the base is a newer one, whose file is kept.
    for _ in 0..20 {
        story.later(7 * 3_600);
        let serial = serial_of(&story.issued("more.example.org"));
        story.revoke(serial);
        fetch(&mut story, CrlScope::Full, None);
        let vault = story.vault();
        let id = vault.authorities[&name("issuing")].id();
        let row = vault.ledger.newest_crl_of(id, CrlScope::Delta).unwrap().unwrap();
        let base = vault.ledger.full_crl(id, row.base.unwrap()).unwrap().unwrap();
        let age = row.this_update.0 - base.this_update.0;
        assert!(age <= 24 * 3_600 + 7 * 3_600, "{age} s");
        assert!(story.file(&format!("crl/{:06}.crl", base.number)).exists());
        let delta = listed(&fs::read(story.file("crl/delta.crl")).unwrap());
        assert!(delta.len() <= 6, "{} entries", delta.len());
    }
}

//------------ Shards --------------------------------------------------------

fn shard_story() -> Story {
    let mut story = Story::new();
    story.vault = None;
    let path = story.file("profiles/server.toml");
    let text = fs::read_to_string(&path).unwrap();
    let urls = "[extensions]\ncrl_urls = [\"http://crl.example.org/issuing-{shard}.crl\"]";
    fs::write(&path, text.replace("[extensions]", urls)).unwrap();
    configure(&mut story, "shards = 4");
    story
}

/// The URI after a heading in what openssl shows.
fn uri_after(text: &str, heading: &str) -> String {
    let after = text.split(heading).nth(1).unwrap();
    after.split("URI:").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

// Invariant I9, and I7 in every scope.
#[test]
fn shards_partition_the_revoked_certificates_by_the_uri_in_them() {
    let mut story = shard_story();
    let before: Vec<u64> =
        (0..4).map(|shard| number_of(&mut story, CrlScope::Shard(shard))).collect();
    let mut revoked: BTreeMap<String, Vec<Serial>> = BTreeMap::new();
    let mut all = Vec::new();
    for round in 0..12 {
        let issued = story.issued(&format!("{round}.example.org"));
        let text = String::from_utf8(issued.to_text().unwrap()).unwrap();
        if round % 2 == 0 {
            let uri = uri_after(&text, "X509v3 CRL Distribution Points");
            revoked.entry(uri).or_default().push(serial_of(&issued));
            all.push(serial_of(&issued));
            story.revoke(serial_of(&issued));
        }
    }
    all.sort();
    story.later(61);
    tick(&mut story);
    let full = number_of(&mut story, CrlScope::Full);
    let mut union = Vec::new();
    for shard in 0..4_u16 {
        let path = story.file(&format!("crl/shard-{shard:02}.crl"));
        let text = text_of(&path);
        assert!(text.contains("X509v3 Issuing Distribution Point: critical"), "{text}");
        let uri = uri_after(&text, "X509v3 Issuing Distribution Point");
        let mut expected = revoked.get(&uri).cloned().unwrap_or_default();
        expected.sort();
        let here = listed(&fs::read(&path).unwrap());
        assert_eq!(here, expected, "{uri}");
        let number = number_of(&mut story, CrlScope::Shard(shard));
        let unchanged = here.is_empty();
        let right = if unchanged { before[usize::from(shard)] } else { full };
        assert_eq!(number, right, "signed only where something changed");
        union.extend(here);
        let Answer::CrlPiece(piece) = fetch(&mut story, CrlScope::Shard(shard), None) else {
            panic!("a piece was expected")
        };
        assert_eq!((piece.scope, piece.crl_number), (CrlScope::Shard(shard), number));
    }
    union.sort();
    assert_eq!(union, all, "none twice, none missing");
    assert_eq!(listed(&fs::read(story.file("crl/current.crl")).unwrap()), all);
    assert!(matches!(fetch(&mut story, CrlScope::Shard(4), None), Answer::CrlUnknown { .. }));
    assert!(matches!(fetch(&mut story, CrlScope::Delta, None), Answer::CrlUnknown { .. }));

    // A day without revocations: all are refreshed, and every number rises.
    story.later(86_400);
    tick(&mut story);
    for shard in 0..4 {
        assert!(number_of(&mut story, CrlScope::Shard(shard)) > full);
    }
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn the_number_of_shards_cannot_change_once_certificates_name_them() {
    let mut story = shard_story();
    story.vault = None;
    let path = story.file("authority.toml");
    let text = fs::read_to_string(&path).unwrap();
    for wrong in ["shards = 8", "shards = 3", ""] {
        fs::write(&path, text.replace("shards = 4", wrong)).unwrap();
        let told = load_all(&story.store(), None).unwrap_err().to_string();
        // Without any, the profile's place for the number is told first.
        let way = if wrong.is_empty() { "names a shard" } else { "set it back to 4" };
        assert!(told.contains(way), "{wrong}: {told}");
    }
    fs::write(&path, &text).unwrap();
    story.start();
    story.issued("a.example.org");
}

#[test]
fn shards_without_their_place_in_a_profile_and_delta_urls_without_delta_are_faults() {
    let mut story = Story::new();
    story.vault = None;
    let path = story.file("authority.toml");
    let text = fs::read_to_string(&path).unwrap();
    for (line, told) in [
        ("shards = 4", "no profile's crl_urls has {shard}"),
        ("shards = 2000", "crl.shards 2000 is over 1024"),
        ("delta_urls = [\"http://crl.example.org/d.crl\"]", "without crl.delta"),
        ("delta = true\ndelta_urls = [\"https://crl.example.org/d.crl\"]", "is no http:// URL"),
        ("keep_days = 40000", "crl.keep_days 40000 is over"),
    ] {
        fs::write(&path, format!("{text}\n{line}\n")).unwrap();
        let fault = load_all(&story.store(), None).unwrap_err();
        assert!(fault.is_configuration() && fault.to_string().contains(told), "{fault}");
    }
}

// A run of `signer revoke --weak-keys` that was cut off is typed again: what it revoked is signed
// then, also where the ledger has no CRL at all.
#[test]
fn crl_is_signed_for_what_waits_also_where_there_was_none() {
    let mut story = Story::new();
    let serial = serial_of(&story.issued("a.example.org"));
    let id = story.vault().authorities[&name("issuing")].id();
    let lacks = |story: &mut Story| story.vault().ledger.lacks_changes(id).unwrap();
    let again = ["revoke", "--weak-keys", "--authority", "issuing"];
    assert!(!lacks(&mut story), "the authority's first CRL lacks nothing");
    story.console(&again).unwrap();
    assert!(!story.file("crl/000002.crl").exists(), "nothing waits, so nothing is signed");
    story.revoke(serial);
    assert!(lacks(&mut story));
    story.console(&again).unwrap();
    assert!(!lacks(&mut story));
    assert!(story.file("crl/000002.crl").exists());
    let vandal = rusqlite::Connection::open(Ledger::path(&story.store())).unwrap();
    vandal.execute_batch("DELETE FROM crl").unwrap();
    assert!(lacks(&mut story));
    story.console(&again).unwrap();
    assert!(!lacks(&mut story));
    assert!(story.file("crl/000003.crl").exists());
}

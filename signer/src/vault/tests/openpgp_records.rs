//! OpenPGP certifications asked for again, with less time or a changed key, and what is written
//! down before, while and after they are made.

use std::time::Duration;

use protocol::bounded::Text;
use rusqlite::{Connection, params};
use sequoia_openpgp::{
    Cert, Packet,
    packet::{UserID, signature::SignatureBuilder},
    parse::Parse,
};

use super::{
    openpgp::{ALICE, OTHER, Pgp, bytes, code},
    *,
};
use crate::{
    calendar::DAY_S,
    call::Certify,
    ledger::OpenPgpJob,
    openpgp::{read_stored, system_time},
};

/// How long the newest certification of Alice's name lasts, in days.
fn days(pgp: &Pgp, certificate: &[u8]) -> u64 {
    let counting = pgp.counting(certificate, ALICE);
    assert_eq!(counting.len(), 1, "one certification in the answer");
    counting[0].signature_validity_period().unwrap().as_secs() / 86_400
}

impl Pgp {
    fn certified_for(&mut self, days: u32) -> Vec<u8> {
        let request = Certify { days: Some(days), ..self.request(&[ALICE]) };
        bytes(&self.certify(request))
    }

    /// The owner signs the first user ID anew, with an end of the key or without, and the upload
    /// holds the new self-signature alone.
    fn sign_anew(&mut self, ends: Option<Duration>) {
        let mut owner =
            self.cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair();
        let old = self.cert.userids().find(|one| one.userid().value() == ALICE.as_bytes());
        let old = old.unwrap().self_signatures().next().unwrap().clone();
        let anew = SignatureBuilder::from(old.clone())
            .set_signature_creation_time(system_time(self.story.now.unix()))
            .unwrap()
            .set_key_validity_period(ends)
            .unwrap()
            .sign_userid_binding(
                owner.as_mut().unwrap(),
                self.cert.primary_key().key(),
                &UserID::from(ALICE),
            )
            .unwrap();
        let packets = self.cert.clone().into_packets().map(|packet| match packet {
            Packet::Signature(one) if one == old => anew.clone().into(),
            other => other,
        });
        self.cert = Cert::from_packets(packets).unwrap();
    }

    fn sql(&self) -> Connection {
        let connection = Connection::open(Ledger::path(&self.story.store())).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection
    }
}

//------------ Asked again ---------------------------------------------------

#[test]
fn repetition_for_fewer_days_is_a_new_certification_and_for_more_it_is_not() {
    let mut pgp = Pgp::new();
    let long = pgp.certified_for(300);
    pgp.story.later(60);
    assert_eq!(pgp.certified_for(365), long, "it is no longer than that");
    let short = pgp.certified_for(30);
    assert_eq!(days(&pgp, &short), 30);
    assert_eq!(pgp.records(), 2);
    // Without a wish, and with a longer one, the newest is meant.
    assert_eq!(pgp.certified(&[ALICE]), short);
    assert_eq!(pgp.certified_for(30), short);
    assert_eq!(pgp.certified_for(300), short);
    assert_eq!(pgp.records(), 2);
    // Also where the name is certified beside another.
    let both = Certify { days: Some(10), ..pgp.request(&[ALICE, OTHER]) };
    let both = bytes(&pgp.certify(both));
    assert_eq!(days(&pgp, &both), 10);
    assert_eq!(pgp.records(), 4);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn repetition_at_the_same_time_for_fewer_days_shares_nothing() {
    let mut pgp = Pgp::new();
    let mut asked = Vec::new();
    for days in [300, 30, 30] {
        let request = Certify { days: Some(days), ..pgp.request(&[ALICE]) };
        asked.push(Call::Certify(Box::new(request)));
    }
    let answers = pgp.ask(asked);
    let lasting: Vec<u64> = answers.iter().map(|answer| days(&pgp, &bytes(answer))).collect();
    assert_eq!(lasting, [300, 30, 30]);
    assert_eq!(bytes(&answers[1]), bytes(&answers[2]), "these two want the same");
    assert_eq!(pgp.records(), 2);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn key_that_its_owner_signed_anew_is_answered_as_it_is_now_with_the_same_certification() {
    let mut pgp = Pgp::new();
    let before = pgp.certified_for(300);
    pgp.story.later(60);
    pgp.sign_anew(None);
    let after = pgp.certified_for(300);
    assert_ne!(after, before);
    assert_eq!(pgp.counting(&after, ALICE), pgp.counting(&before, ALICE), "the same signature");
    assert_eq!(pgp.records(), 1);
    // Nothing is in the answer that is not in the upload, but for our signature.
    let upload: Vec<Packet> = pgp.cert.clone().strip_secret_key_material().into_packets().collect();
    let ours = Packet::from(pgp.counting(&after, ALICE)[0].clone());
    let answer = Cert::from_bytes(&after).unwrap();
    for packet in answer.into_packets().filter(|packet| *packet != ours) {
        assert!(upload.contains(&packet), "{packet:?}");
    }
    assert_eq!(pgp.certified_for(300), after, "and that again");
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn key_whose_end_its_owner_brought_forward_is_certified_anew_until_then() {
    let mut pgp = Pgp::new();
    pgp.certified_for(300);
    pgp.story.later(60);
    // It was made a day ago.
    pgp.sign_anew(Some(Duration::from_secs(86_400 * 100)));
    let end = pgp.story.now.unix().0 - 60 + 99 * DAY_S;
    for request in [pgp.request(&[ALICE]), Certify { days: Some(300), ..pgp.request(&[ALICE]) }] {
        let answer = bytes(&pgp.certify(request));
        let ours = pgp.counting(&answer, ALICE).remove(0);
        let ends = ours.signature_expiration_time().unwrap();
        assert!(ends <= system_time(UnixTime(end)), "it does not outlive the key");
    }
    assert_eq!(pgp.records(), 2);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn repetition_by_a_policy_that_was_changed_says_what_the_policy_says_now() {
    let mut pgp = Pgp::new();
    let before = pgp.certified(&[ALICE]);
    let policy = pgp.story.store().join("openpgp/people/policies/default.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let mut records = 1;
    for (old, new) in [
        ("level = \"positive\"", "level = \"generic\""),
        ("notation_domain = \"ca.example\"", "notation_domain = \"other.example\""),
        ("level = ", "policy_uri = \"https://ca.example/p\"\nlevel = "),
    ] {
        assert!(text.contains(old), "{text}");
        fs::write(&policy, text.replacen(old, new, 1)).unwrap();
        pgp.story.later(5);
        pgp.story.start();
        assert_ne!(pgp.certified(&[ALICE]), before, "{new}");
        records += 1;
        assert_eq!(pgp.records(), records, "{new}");
    }
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

//------------ Written down before -------------------------------------------

#[test]
fn what_is_signed_is_in_the_ledger_with_every_byte_before_it_is_signed() {
    let mut pgp = Pgp::new();
    let certify = Call::Certify(Box::new(pgp.request(&[ALICE])));
    let taking_back = pgp.taking_back(None);
    pgp.story.vault = None;
    let settings =
        Settings { directory: pgp.story.store(), passphrase: None, boot_id: "boot".into() };
    let random: Random = Box::new(|bytes| {
        bytes.fill(7);
        Ok(())
    });
    let now = pgp.story.now;
    let mut vault = Vault::open_without_threads(settings, random, now).unwrap();
    let key = Arc::clone(&vault.openpgp[&name("people")]);
    for call in [certify, taking_back] {
        let (id, _) = call.request().unwrap();
        let replies = vault.turn(now, vec![Tagged { tag: 1, body: call }]).unwrap();
        assert!(replies.is_empty() && vault.in_hand() == 1, "it waits for its signature");

        // Nobody has signed it yet, and whoever opens the ledger now sees what will be.
        let second = Ledger::open(&Ledger::path(&pgp.story.store())).unwrap();
        let [intent] = <[_; 1]>::try_from(second.open_openpgp_intents().unwrap()).unwrap();
        assert_eq!(intent.request(), id);
        match intent.job() {
            OpenPgpJob::Certify { user_ids, .. } => assert_eq!(user_ids.len(), 1),
            OpenPgpJob::Revoke { user_ids, .. } => assert_eq!(user_ids.len(), 1),
        }
        let count = "SELECT count(*) FROM openpgp_certification WHERE request = ?1";
        let made: i64 =
            pgp.sql().query_row(count, params![id.as_bytes()], |row| row.get(0)).unwrap();
        assert_eq!(made, 0);

        vault.sign_next();
        let mut replies = vault.turn(now, Vec::new()).unwrap();
        let Reply::Answer(answer) = replies.pop().unwrap().body else { panic!("an answer") };
        // An Ed25519 key gives the same signature of the same bytes.
        let expected = certify::sign(&key, intent).unwrap().made.bytes;
        assert_eq!(bytes(&answer), expected, "what was signed is what was written down");
        assert_eq!(second.open_openpgp_intents().unwrap().len(), 0);
    }
}

//------------ Checked after -------------------------------------------------

#[test]
fn check_finds_a_rotten_bit_in_a_certificate_and_in_a_revocation() {
    let mut pgp = Pgp::new();
    pgp.certified(&[ALICE, OTHER]);
    let back = pgp.taking_back(Some(OTHER));
    bytes(&pgp.ask(vec![back]).pop().unwrap());
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
    let sql = pgp.sql();
    for (table, at_end) in
        [("openpgp_certification", 20), ("openpgp_certification", 400), ("openpgp_revocation", 20)]
    {
        let read = format!("SELECT certificate FROM {table}");
        let good: Vec<u8> = sql.query_row(&read, [], |row| row.get(0)).unwrap();
        let mut rotten = good.clone();
        let at = rotten.len() - at_end;
        rotten[at] ^= 1;
        let write = format!("UPDATE {table} SET certificate = ?1");
        sql.execute(&write, [&rotten]).unwrap();
        let findings = pgp.story.findings();
        assert_eq!(findings.len(), 1, "{table}, {at_end} from the end: {findings:?}");
        assert!(findings[0].starts_with("request "), "{findings:?}");
        sql.execute(&write, [&good]).unwrap();
    }
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn check_finds_a_certification_that_our_key_did_not_make_and_rows_that_say_something_else() {
    let mut pgp = Pgp::new();
    pgp.certified(&[ALICE]);
    let sql = pgp.sql();
    let good: Vec<u8> = sql
        .query_row("SELECT certificate FROM openpgp_certification", [], |row| row.get(0))
        .unwrap();
    let (offset, own, ours): (usize, usize, usize) = sql
        .query_row("SELECT offset, own, ours FROM openpgp_user_id", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let key = Arc::clone(&pgp.story.vault().openpgp[&name("people")]);
    let (_, found) = read_stored(key.key().cert(), &good).unwrap();
    assert!(found.len() == 1 && found[0].user_id == ALICE && !found[0].takes_back, "{found:?}");
    // In the owner's signature, and in ours.
    for at in [offset + own - 3, offset + own + ours - 3] {
        let mut forged = good.clone();
        forged[at] ^= 1;
        let why = read_stored(key.key().cert(), &forged).unwrap_err();
        assert!(why.contains("is bad"), "{why}");
    }

    for (change, back) in [
        ("SET expires = expires + 1", "SET expires = expires - 1"),
        ("SET user_id = 'Mallory'", "SET user_id = 'Alice Łódzka <alice@example.net>'"),
        ("SET ours = ours - 1", "SET ours = ours + 1"),
    ] {
        sql.execute(&format!("UPDATE openpgp_user_id {change}"), []).unwrap();
        let findings = pgp.story.findings();
        assert_eq!(findings.len(), 1, "{change}: {findings:?}");
        assert!(findings[0].contains("other certifications than its rows"), "{findings:?}");
        sql.execute(&format!("UPDATE openpgp_user_id {back}"), []).unwrap();
    }
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn check_finds_each_row_of_openpgp_that_is_missing() {
    let mut pgp = Pgp::new();
    let request = pgp.request(&[ALICE, OTHER]);
    pgp.certify(request);
    let again = pgp.request(&[ALICE, OTHER]);
    pgp.certify(again);
    let back = pgp.taking_back(Some(OTHER));
    bytes(&pgp.ask(vec![back]).pop().unwrap());
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
    pgp.story.vault = None;
    let path = Ledger::path(&pgp.story.store());
    let kept = path.with_extension("kept");
    pgp.sql().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    fs::copy(&path, &kept).unwrap();
    for (what, rows) in [
        ("openpgp_user_id WHERE position = 1", 1),
        ("openpgp_answer", 1),
        ("openpgp_revocation", 1),
        ("request WHERE outcome = 'certification-revoked'", 1),
        ("openpgp_certification", 2),
    ] {
        pgp.sql().execute(&format!("DELETE FROM {what}"), []).unwrap();
        let findings = pgp.story.findings();
        // The one that was answered from the same certificate has none left either.
        assert_eq!(findings.len(), rows, "{what}: {findings:?}");
        fs::copy(&kept, &path).unwrap();
        assert_eq!(pgp.story.findings(), Vec::<String>::new());
    }
}

#[test]
fn check_finds_a_public_key_that_is_gone_or_another() {
    let mut pgp = Pgp::new();
    pgp.certified(&[ALICE]);
    pgp.story.console(&["openpgp", "create", "elders", "--user-id", "E <e@ca.example>"]).unwrap();
    let public = pgp.story.store().join("openpgp/people/public.asc");
    let good = fs::read(&public).unwrap();
    let other = fs::read(pgp.story.store().join("openpgp/elders/public.asc")).unwrap();
    for (bytes, said) in [(&b"junk"[..], "cannot be read"), (&other[..], "is another key")] {
        fs::write(&public, bytes).unwrap();
        let findings = pgp.story.findings();
        assert!(findings.len() == 1 && findings[0].contains(said), "{findings:?}");
    }
    fs::write(&public, good).unwrap();
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

//------------ Set aside -----------------------------------------------------

#[test]
fn key_that_crashed_the_intake_stays_set_aside_and_a_new_id_is_certified() {
    let mut pgp = Pgp::new();
    let request = pgp.request(&[ALICE]);
    let (id, digest) = (request.id, request.digest);
    let aside = || Call::Quarantine { id, digest, text: Text::truncated("it crashed") };
    let first = pgp.ask(vec![aside()]).pop().unwrap();
    assert!(matches!(&first, Answer::Quarantined { .. }), "{first:?}");
    assert_eq!(pgp.certify(request.clone()), first, "vetted later, it is the same request");
    pgp.story.start();
    assert_eq!(pgp.ask(vec![aside()]).pop().unwrap(), first);
    assert_eq!(pgp.certify(request.clone()), first);
    assert_eq!(pgp.records(), 0);
    let other = Certify { digest: Digest::of(b"another body"), ..request };
    assert_eq!(code(&pgp.certify(other)), RefusalCode::RequestReused);
    let certified = pgp.certified(&[ALICE]);
    assert_eq!(pgp.counting(&certified, ALICE).len(), 1);
    assert_eq!(pgp.records(), 1);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

//! The plug pulled at every point where something is written.
//!
//! [`durable::crash::after`] ends all work at the nth write, rename or commit; what is then on
//! disk is what a killed process leaves.

use super::*;
use crate::durable::crash;

fn revocation(story: &mut Story, serial: Serial) -> Call {
    story.next_id += 1;
    let id = story.id();
    let (authority, reason) = (name("issuing"), RevocationReason::KeyCompromise);
    let revoke = Revoke { id, authority, serial, reason };
    Call::Revoke { digest: Digest::of(id.as_bytes()), revoke }
}

fn fetch() -> Call {
    Call::FetchCrl(FetchCrl {
        authority: name("issuing"),
        scope: protocol::message::CrlScope::Full,
        have: None,
        resume: None,
    })
}

/// One round of work; what was answered before the plug was pulled, by place in the script.
fn work(story: &mut Story, script: &[Vec<Call>]) -> (Vec<(u64, Answer)>, Result<(), Fault>) {
    let mut answers = Vec::new();
    let mut tag = 0;
    for calls in script {
        let tagged = calls.iter().map(|body| {
            tag += 1;
            Tagged { tag, body: body.clone() }
        });
        let (now, tagged) = (story.now, tagged.collect());
        match story.vault().handle(now, tagged) {
            Ok(replies) => {
                answers.extend(replies.into_iter().filter_map(|reply| match reply.body {
                    Reply::Answer(answer) => Some((reply.tag, answer)),
                    Reply::Unknown | Reply::NotNow => None,
                }))
            }
            Err(fault) => return (answers, Err(fault)),
        }
        story.later(31); // every second tick makes a CRL for what was revoked
        let now = story.now;
        if let Err(fault) = story.vault().tick(now) {
            return (answers, Err(fault));
        }
    }
    (answers, Ok(()))
}

fn crl_number(answers: &[(u64, Answer)]) -> u64 {
    let numbers = answers.iter().filter_map(|(_, answer)| match answer {
        Answer::CrlPiece(piece) => Some(piece.crl_number),
        _ => None,
    });
    numbers.max().unwrap_or(0)
}

#[test]
fn power_cut_at_every_point_of_the_vaults_work_loses_and_doubles_nothing() {
    let mut story = Story::new();
    let mut to_revoke = serial_of(&story.issued("first.example.org"));
    let mut crl_seen = 0;
    for point in 0.. {
        assert!(point < 1_000, "the script ends");
        let two = [story.request("a.example.org"), story.request("b.example.org")];
        let no = Issue { days: Some(0), ..story.request("c.example.org") };
        let revoked = to_revoke.clone();
        let script = vec![
            two.map(|issue| Call::Issue(Box::new(issue))).to_vec(),
            vec![revocation(&mut story, revoked.clone()), Call::Issue(Box::new(no))],
            vec![fetch()],
        ];
        crash::after(Some(point));
        let (before, ended) = work(&mut story, &script);
        story.vault = None;
        // The plug is pulled again while the next start mends what the first left.
        crash::after(ended.is_err().then_some(point % 13));
        drop(story.open());
        crash::after(None);
        story.start();
        assert_eq!(story.findings(), Vec::<String>::new(), "at point {point}");

        let (after, again) = work(&mut story, &script);
        again.unwrap();
        let of_requests = |answers: &[(u64, Answer)]| {
            answers.iter().filter(|(tag, _)| *tag <= 4).cloned().collect::<Vec<_>>()
        };
        for answer in of_requests(&before) {
            assert!(after.contains(&answer), "another answer after point {point}: {answer:?}");
        }
        assert_eq!(of_requests(&after).len(), 4, "each request has one outcome at {point}");
        let number = crl_number(&after);
        assert!(number > crl_seen && number >= crl_number(&before), "at point {point}");
        crl_seen = number;
        let Answer::CrlPiece(piece) = &after.last().unwrap().1 else { panic!("the CRL is last") };
        assert!(is_listed(&unpack(&piece.bytes, None), &revoked), "at point {point}");
        assert_eq!(story.findings(), Vec::<String>::new(), "after point {point}");
        to_revoke = serial_of(&certificate(&after[0].1));
        if ended.is_ok() {
            let lines: Vec<String> =
                story.index().lines().map(|line| line.split('\t').nth(3).unwrap().into()).collect();
            let unique: std::collections::BTreeSet<&String> = lines.iter().collect();
            assert_eq!(unique.len(), lines.len());
            return;
        }
    }
}

#[test]
fn power_cut_at_every_point_of_making_an_authority_can_be_finished_by_asking_again() {
    let mut story = Story::new();
    for point in 0.. {
        assert!(point < 1_000, "the making ends");
        if point % 40 == 39 {
            story = Story::new(); // a store takes 64
        }
        story.vault = None;
        let (name, subject) = (format!("sub{point}"), format!("/CN=Sub {point}"));
        let arguments = ["authority", "create", &name, "--subject", &subject, "--key", "ec:P-256"];
        let arguments = [&arguments[..], &["--issued-by", "root"]].concat();
        crash::after(Some(point));
        let made = story.console(&arguments);
        crash::after(None);
        story.now = console::now().unwrap(); // the console reads the clock itself
        story.start(); // whichever starts first finishes an open intent
        if made.is_ok() {
            assert!(point > 20, "the points were passed");
            assert_eq!(story.findings(), Vec::<String>::new());
            return;
        }
        if let Err(why) = story.console(&arguments) {
            // All of it was there but the last log line or so.
            assert!(why.contains("is there already"), "at point {point}: {why}");
        }
        story.now = console::now().unwrap();
        story.start();
        assert!(story.vault().authorities.contains_key(&name.parse::<Name>().unwrap()));
        assert_eq!(story.findings(), Vec::<String>::new(), "at point {point}");
    }
}

#[test]
fn power_cut_while_a_store_is_made_can_be_finished_by_asking_again() {
    for point in 0.. {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path().join("signer");
        let init = || {
            let all = ["signer", "--dir", store.to_str().unwrap(), "init"];
            console::dispatch(Arguments::parse_from(all)).map_err(|failure| failure.to_string())
        };
        crash::after(Some(point));
        let made = init();
        crash::after(None);
        if made.is_ok() {
            return;
        }
        let again = init();
        assert!(again.is_ok() || again.unwrap_err().contains("holds a store already"), "{point}");
        assert_eq!(
            check(&store, &[], &mut |_| {}).unwrap().findings,
            Vec::<String>::new(),
            "at point {point}"
        );
    }
    // A ledger whose tables were never committed is no store yet.
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("ledger.sqlite"), b"").unwrap();
    assert!(!Ledger::is_made(&scratch.path().join("ledger.sqlite")).unwrap());
}

#[test]
fn open_intent_behind_a_cut_index_line_is_finished() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let request = story.request("b.example.org");
    let call = Tagged { tag: 1, body: Call::Issue(Box::new(request)) };
    let (now, mut work) = (story.now, Work::default());
    story.vault().decide(now, vec![call], &mut work).unwrap();
    drop(work);
    let whole = story.index();
    fs::write(story.file("index.txt"), &whole[..whole.len() - 9]).unwrap();
    story.start();
    assert!(story.index().starts_with(&whole));
    assert_eq!(story.index().lines().count(), 2);
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn revocation_that_the_index_did_not_show_at_the_stop_is_shown_after_the_next_start() {
    let mut story = Story::new();
    let first = serial_of(&story.issued("a.example.org"));
    let second = serial_of(&story.issued("b.example.org"));
    story.revoke(first);
    story.vault().files.pause_rewrites(&name("issuing"));
    story.revoke(second);
    let now = story.now;
    story.vault().tick(now).unwrap(); // as at SIGTERM: too early for another rewrite
    assert_eq!(story.index().matches("R\t").count(), 1);
    story.start();
    assert_eq!(story.index().matches("R\t").count(), 2);
    assert_eq!(story.findings(), Vec::<String>::new());
}

/// A command at the console that brings the files to the ledger's state.
fn settle_beside(story: &mut Story) {
    let mut beside = Ledger::open(&Ledger::path(&story.store())).unwrap();
    let issuing = &story.vault().authorities[&name("issuing")];
    let lock = lock(issuing).unwrap();
    settle(issuing, &mut beside, [0; 8], &lock).unwrap();
}

#[test]
fn console_that_writes_the_index_between_our_commit_and_our_lines_doubles_none() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let request = story.request("b.example.org");
    let call = Tagged { tag: 1, body: Call::Issue(Box::new(request)) };
    let (now, mut work) = (story.now, Work::default());
    story.vault().decide(now, vec![call], &mut work).unwrap();
    let intent = work.intents.pop().unwrap();
    let der = story.vault().authorities[&name("issuing")].sign(&intent).unwrap();
    let signed = [Signed { intent, der }];
    let time = now.unix();
    let mut tx = story.vault().ledger.begin(time).unwrap();
    tx.store_certificate(&signed[0].intent, &signed[0].der).unwrap();
    tx.commit().unwrap();

    settle_beside(&mut story);
    story.vault().follow_issued(&signed).unwrap();
    assert_eq!(story.index().lines().count(), 2, "{}", story.index());
    assert_eq!(story.findings(), Vec::<String>::new());
    // A line that is there twice is found.
    let doubled = story.index().repeat(2);
    fs::write(story.file("index.txt"), doubled).unwrap();
    assert_eq!(story.findings().len(), 1);
    story.issued("c.example.org");
    assert_eq!(story.index().lines().count(), 3, "{}", story.index());
}

#[test]
fn line_of_a_person_without_a_line_end_is_adopted_and_never_joined_to_ours() {
    let mut story = Story::new();
    story.issued("a.example.org");
    let by_hand = format!("{}V\t301122010203Z\t\t0A1B\tunknown\t/CN=by.hand", story.index());
    fs::write(story.file("index.txt"), by_hand).unwrap();
    story.issued("b.example.org");
    let index = story.index();
    assert_eq!(index.lines().count(), 3, "{index}");
    assert!(index.contains("\t0A1B\tunknown\t/CN=by.hand\n"), "{index}");
    story.start();
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn index_serial_and_crlnumber_that_are_gone_are_written_at_the_next_start() {
    let mut story = Story::new();
    let issued = serial_of(&story.issued("a.example.org"));
    let index = story.index();
    for file in ["index.txt", "serial", "crlnumber", "crl/current.crl"] {
        fs::remove_file(story.file(file)).unwrap();
    }
    fs::remove_dir_all(story.file("newcerts")).unwrap();
    story.start();
    assert_eq!(story.index(), index);
    assert!(story.file(&format!("newcerts/{issued}.pem")).exists());
    let read = |file| fs::read_to_string(story.file(file)).unwrap().trim().to_owned();
    assert!(read("serial").parse::<Serial>().unwrap() > issued);
    assert_eq!(read("crlnumber"), "02");
    let current = fs::read(story.file("crl/current.crl")).unwrap();
    assert_eq!(current, fs::read(story.file("crl/000001.crl")).unwrap());
}

#[test]
fn crl_that_a_person_made_with_openssl_keeps_its_number_to_itself() {
    let mut story = Story::new();
    let serial = serial_of(&story.issued("a.example.org"));
    let by_hand = ["ca", "-config", "openssl.cnf", "-gencrl", "-crldays", "7", "-out", "/dev/null"];
    let made = Command::new("openssl").args(by_hand).current_dir(story.file("")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let number = |story: &Story| fs::read_to_string(story.file("crlnumber")).unwrap();
    assert_eq!(number(&story), "03\n");
    settle_beside(&mut story);
    assert_eq!(number(&story), "03\n", "no command takes the person's number back");
    story.revoke(serial);
    let Answer::CrlPiece(piece) = story.fetch_crl(None) else { panic!("a piece was expected") };
    assert_eq!(piece.crl_number, 3, "1 was ours, 2 the person's");
    // A number from nowhere does not use ours up.
    fs::write(story.file("crlnumber"), "7FFFFFFFFFFFFFFF\n").unwrap();
    settle_beside(&mut story);
    assert_eq!(number(&story), "04\n");
    fs::write(story.file("crlnumber"), "7FFFFFFFFFFFFFFF\n").unwrap();
    story.later(86_400);
    let now = story.now;
    story.vault().tick(now).unwrap();
    assert_eq!(number(&story), "05\n");
}

#[test]
fn audit_file_that_lost_touch_by_more_than_a_batch_is_mended() {
    let mut story = Story::new();
    for _ in 0..8 {
        let calls = (0..64).map(|tag| {
            story.next_id += 1;
            let (id, code) = (story.id(), RefusalCode::CsrMalformed);
            let text = protocol::bounded::Text::truncated(&"no CSR ".repeat(100));
            let body = Call::Refuse { id, digest: Digest::of(b"x"), code, text };
            Tagged { tag, body }
        });
        let calls = calls.collect();
        let now = story.now;
        story.vault().handle(now, calls).unwrap();
    }
    // The files were written but the note that they are was lost.
    let vandal = rusqlite::Connection::open(Ledger::path(&story.store())).unwrap();
    vandal.execute_batch("UPDATE meta SET value = 3 WHERE key = 'audit_files_at'").unwrap();
    story.start();
    assert_eq!(story.findings(), Vec::<String>::new());
}

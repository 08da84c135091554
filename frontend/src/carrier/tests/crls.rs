//! Stories of CRLs: what fails its checks stays out, what is promised stays, delta CRLs and shards,
//! transfers that break off.

use super::*;
use crate::crl::CrlName;

fn issuing() -> Name {
    "issuing".parse().unwrap()
}

fn of(scope: CrlScope) -> CrlName {
    CrlName::new(&issuing(), scope)
}

/// The scopes that are asked about now.
fn scopes(rig: &mut Rig) -> Vec<CrlScope> {
    let asked = rig.drain().into_iter().filter_map(|request| match request {
        Request::FetchCrl(question) => Some(question.scope),
        _ => None,
    });
    asked.collect()
}

fn whole(crl: &[u8], scope: CrlScope, number: u64) -> Answer {
    match piece(crl, number, &patch::pack_object(crl, None), 0) {
        Answer::CrlPiece(piece) => Answer::CrlPiece(CrlPiece { scope, ..piece }),
        _ => unreachable!("piece() makes a piece"),
    }
}

impl Rig {
    /// A frontend of a signer with a delta CRL and two shards, whose first CRLs are here.
    fn with_shards() -> Self {
        let mut rig = Self::new();
        let mut catalogue = rig.ca.catalogue("issuing");
        let mut entries = catalogue.authorities.into_vec();
        (entries[0].delta_crl, entries[0].crl_shards) = (true, 2);
        catalogue.authorities = List::try_from(entries).unwrap();
        rig.up_with(catalogue);
        let first = [
            (CrlScope::Full, rig.ca.crl(1, &[])),
            (CrlScope::Delta, rig.ca.delta_crl(1, 0, &[])),
            (CrlScope::Shard(0), rig.ca.shard_crl(1, &["http://c.example/0.crl"], &[])),
            (CrlScope::Shard(1), rig.ca.shard_crl(1, &["http://c.example/1.crl"], &[])),
        ];
        for (scope, crl) in first {
            assert_eq!(scopes(&mut rig), [scope]);
            rig.answer([whole(&crl, scope, 1)]);
            assert_eq!(rig.mirrored(scope).unwrap(), crl);
        }
        rig
    }

    fn mirrored(&self, scope: CrlScope) -> Option<Vec<u8>> {
        self.carrier.mirror.read(of(scope)).unwrap()
    }

    /// A certificate with this serial is issued and revoked; says what is asked for then.
    fn issue_and_revoke(&mut self, serial: u64, revoked_at: i64) -> Vec<CrlScope> {
        let issue = self.insert_issue();
        self.drain();
        self.answer([self.issued(issue, serial)]);
        let revoke = self.insert_revocation(serial);
        self.drain();
        self.answer([Answer::Revoked { id: revoke, revoked_at }]);
        scopes(self)
    }
}

#[test]
fn a_revocation_fetches_the_full_the_delta_and_its_shard() {
    let mut rig = Rig::with_shards();
    // 2026-01-01, as the CRLs of the test CA are dated.
    assert_eq!(rig.issue_and_revoke(5, 1_767_225_599), [CrlScope::Full]);
    let crl = rig.ca.crl(2, &[5]);
    rig.answer([whole(&crl, CrlScope::Full, 2)]);
    assert_eq!(rig.mirrored(CrlScope::Full).unwrap(), crl);
    assert_eq!(scopes(&mut rig), [CrlScope::Delta]);
    let delta = rig.ca.delta_crl(2, 1, &[5]);
    rig.answer([whole(&delta, CrlScope::Delta, 2)]);
    assert_eq!(rig.mirrored(CrlScope::Delta).unwrap(), delta);
    // Serial 5 belongs to shard 1 of two.
    assert_eq!(scopes(&mut rig), [CrlScope::Shard(1)]);
    let shard = rig.ca.shard_crl(2, &["http://c.example/1.crl"], &[5]);
    rig.answer([whole(&shard, CrlScope::Shard(1), 2)]);
    assert_eq!(rig.mirrored(CrlScope::Shard(1)).unwrap(), shard);
    assert_eq!(rig.drain(), []);
    assert_eq!(rig.carrier.work(rig.now()), Work::Idle);
    let mut files: Vec<_> = std::fs::read_dir(rig.home.crl_dir())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".crl"))
        .collect();
    files.sort();
    let expected =
        ["issuing.crl", "issuing.delta.crl", "issuing.shard-00.crl", "issuing.shard-01.crl"];
    assert_eq!(files, expected);
}

#[test]
fn a_crl_of_another_scope_or_with_another_shards_uri_stays_out() {
    let mut rig = Rig::with_shards();
    let (zero, one) = ("http://c.example/0.crl", "http://c.example/1.crl");
    let wrong = [
        (CrlScope::Full, rig.ca.delta_crl(2, 1, &[]), "is a delta CRL"),
        (CrlScope::Full, rig.ca.shard_crl(2, &[zero], &[]), "is a shard's"),
        (CrlScope::Delta, rig.ca.crl(2, &[]), "is a full one"),
        (CrlScope::Shard(0), rig.ca.crl(2, &[]), "is a full one"),
        (CrlScope::Shard(0), rig.ca.shard_crl(2, &[one], &[]), "other distribution points"),
        (CrlScope::Shard(0), rig.ca.shard_crl(2, &[zero, one], &[]), one),
        (CrlScope::Shard(0), rig.ca.shard_crl(2, &["http://c.example/2.crl"], &[]), zero),
        (CrlScope::Shard(0), rig.ca.shard_crl(2, &[], &[]), "critical extension"),
        (CrlScope::Shard(1), rig.ca.shard_crl(1, &[one], &[]), "the one in place has 1"),
    ];
    for (scope, crl, reason) in wrong {
        let before = rig.mirrored(scope);
        rig.carrier.fetches.want(&of(scope), rig.now().instant);
        assert_eq!(scopes(&mut rig), [scope], "{reason}");
        let number = crate::crl::list::inspect(&crl).map_or(2, |facts| facts.number);
        rig.answer([whole(&crl, scope, number)]);
        assert_eq!(rig.mirrored(scope), before, "{reason}");
        let alarm = rig.alarm(&format!("crl/{}", of(scope))).unwrap();
        assert!(alarm.contains(reason), "{alarm}");
    }
    // Another URI more is right: a profile may get one.
    let more = rig.ca.shard_crl(3, &[zero, "http://d.example/0.crl"], &[]);
    rig.carrier.fetches.want(&of(CrlScope::Shard(0)), rig.now().instant);
    scopes(&mut rig);
    rig.answer([whole(&more, CrlScope::Shard(0), 3)]);
    assert_eq!(rig.mirrored(CrlScope::Shard(0)).unwrap(), more);
    assert_eq!(rig.alarm("crl/issuing.shard-00"), None);
}

// Invariant I8 at this end: whatever happened to the signer.
#[test]
fn a_crl_that_forgot_an_acknowledged_revocation_stays_out_until_it_is_back() {
    let mut rig = Rig::connected();
    rig.publish(&rig.ca.crl_at(1, &[], "260101000000Z"), 1);
    // Acknowledged an hour after that; its certificate lives for 90 days.
    rig.issue_and_revoke(5, 1_767_229_200);
    rig.answer([whole(&rig.ca.crl_at(2, &[], "260102000000Z"), CrlScope::Full, 2)]);
    let alarm = rig.alarm("crl/issuing").unwrap();
    assert!(alarm.contains("lacks serial 05") && alarm.contains("revoke it again"), "{alarm}");
    let good = rig.ca.crl_at(3, &[5, 9], "260102000000Z");
    rig.publish(&good, 3);
    assert_eq!(rig.published().unwrap(), good);

    // Listed before: it may not go while its certificate lives. What was never acknowledged
    // here may, and what has expired may.
    rig.publish(&rig.ca.crl_at(4, &[], "260301000000Z"), 4);
    assert!(rig.alarm("crl/issuing").unwrap().contains("lacks serial 05"));
    assert_eq!(rig.published().unwrap(), good);
    let without_the_stranger = rig.ca.crl_at(5, &[5], "260301000000Z");
    rig.publish(&without_the_stranger, 5);
    assert_eq!(rig.published().unwrap(), without_the_stranger);
    let after_expiry = rig.ca.crl_at(6, &[], "260501000000Z");
    rig.publish(&after_expiry, 6);
    assert_eq!(rig.published().unwrap(), after_expiry);
    assert_eq!(rig.alarm("crl/issuing"), None);
}

#[test]
fn a_revocation_in_the_second_of_a_crl_may_be_in_the_next_one() {
    let mut rig = Rig::connected();
    rig.publish(&rig.ca.crl_at(1, &[], "260101000000Z"), 1);
    rig.issue_and_revoke(5, 1_767_225_660);
    // Signed in that very second, a moment before.
    let a_moment_before = rig.ca.crl_at(2, &[], "260101000100Z");
    rig.answer([whole(&a_moment_before, CrlScope::Full, 2)]);
    assert_eq!(rig.published().unwrap(), a_moment_before);
    // The one after it must have it.
    rig.publish(&rig.ca.crl_at(3, &[], "260101000200Z"), 3);
    assert!(rig.alarm("crl/issuing").unwrap().contains("lacks serial 05"));
}

#[test]
fn a_number_that_does_not_rise_says_how_to_raise_it() {
    let mut rig = Rig::connected();
    rig.publish(&rig.ca.crl(5, &[]), 5);
    rig.publish(&rig.ca.crl(3, &[]), 3);
    let alarm = rig.alarm("crl/issuing").unwrap();
    assert!(alarm.contains("number 3") && alarm.contains("raise its crlnumber"), "{alarm}");
    assert!(alarm.contains("hsm-docs/daily.md"), "{alarm}");
}

// A signer with a large CRL rests before the next one: the question comes again by itself.
#[test]
fn a_signer_that_has_not_signed_yet_is_asked_again_in_seconds() {
    let mut rig = Rig::connected();
    let old = rig.ca.crl_at(1, &[], "260101000000Z");
    rig.publish(&old, 1);
    assert_eq!(rig.issue_and_revoke(5, 1_767_229_200), [CrlScope::Full]);
    for _ in 0..3 {
        rig.answer([Answer::CrlUnchanged { authority: issuing(), scope: CrlScope::Full }]);
        assert_eq!(scopes(&mut rig), []);
        rig.wait(Duration::from_secs(5));
        assert_eq!(scopes(&mut rig), [CrlScope::Full]);
    }
    rig.answer([whole(&rig.ca.crl_at(2, &[5], "260101030000Z"), CrlScope::Full, 2)]);
    rig.wait(Duration::from_secs(5));
    assert_eq!(scopes(&mut rig), [], "it is there now");
}

// 280,000 entries, as the largest community CA had: nine minutes on the line, and it breaks three
// times. What is sent again after a cut is what was under way, no more.
#[test]
fn six_and_a_half_megabytes_survive_three_cuts_and_are_sent_once() {
    let mut rig = Rig::new();
    let serials: Vec<u64> =
        (1..=280_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1).collect();
    let crl = rig.ca.crl(1, &serials);
    assert!(crl.len() > 6_500_000, "{} bytes", crl.len());
    let packed = patch::store(&crl); // the worst case: nothing of it can be compressed
    let mut sent = 0;
    for cut_at in [1_000_000, 3_333_333, 6_000_000, usize::MAX] {
        // The second time the program is killed, too.
        if cut_at == 3_333_333 {
            rig.restart();
        } else {
            rig.carrier.handle_down();
        }
        rig.up_with(rig.ca.catalogue("issuing"));
        let before = sent;
        'connection: loop {
            let questions = rig.questions();
            assert!(!questions.is_empty() || rig.published().is_some(), "nothing is asked");
            if questions.is_empty() {
                break;
            }
            for (_, resume) in questions {
                let offset = resume.map_or(0, |(_, offset)| offset);
                let answer = piece(&crl, 1, &packed, offset);
                let Answer::CrlPiece(piece) = &answer else { unreachable!() };
                sent += piece.bytes.len();
                if sent >= cut_at {
                    break 'connection; // this piece is lost on the way
                }
                rig.answer([answer]);
            }
        }
        assert!(sent > before);
    }
    assert!(rig.published().unwrap() == crl);
    assert!(sent <= packed.len() + 3 * PIECE_MAX, "{sent} bytes for {}", packed.len());
}

#[test]
fn a_crl_that_fails_its_checks_stays_out_and_the_old_one_stays() {
    let mut rig = Rig::connected();
    let good = rig.ca.crl(5, &[1]);
    rig.publish(&good, 5);
    assert_eq!(rig.published().unwrap(), good);
    let other = TestCa::new("Other");
    let namesake = TestCa::new("Root").issuing("Issuing");
    let wrong = [
        (namesake.crl(6, &[1]), 6, "not signed"),
        (rig.ca.crl_named(6, &[1], &other.subject()), 6, "another issuer"),
        (rig.ca.crl(4, &[1]), 4, "the one in place has 5"),
        (rig.ca.crl(6, &[1]), 7, "7 was announced"),
        (b"junk".to_vec(), 6, "cannot be parsed"),
    ];
    for (crl, number, reason) in wrong {
        rig.publish(&crl, number);
        assert_eq!(rig.published().unwrap(), good);
        let alarm = rig.alarm("crl/issuing").unwrap();
        assert!(alarm.contains(reason), "{alarm}");
        assert_eq!(rig.carrier.work(rig.now()), Work::Doubtful);
    }
    let next = rig.ca.crl(6, &[1, 2]);
    rig.publish(&next, 6);
    assert_eq!(rig.published().unwrap(), next);
    assert_eq!(rig.alarm("crl/issuing"), None);
    assert_eq!(rig.carrier.work(rig.now()), Work::Idle);
}

#[test]
fn a_patch_against_another_crl_leads_to_the_full_crl_by_itself() {
    let mut rig = Rig::connected();
    let old = rig.ca.crl(1, &[1]);
    rig.publish(&old, 1);
    rig.wait(Duration::from_secs(4000));
    assert_eq!(rig.questions(), [(Some(Digest::of(&old)), None)]);
    let new = rig.ca.crl(2, &[1, 2]);
    let forgotten = rig.ca.crl(1, &[9]);
    rig.answer([piece(&new, 2, &patch::pack_object(&new, Some(&forgotten)), 0)]);
    assert_eq!(rig.published().unwrap(), old);
    assert_eq!(rig.questions(), [(None, None)]);
    rig.answer([piece(&new, 2, &patch::pack_object(&new, None), 0)]);
    assert_eq!(rig.published().unwrap(), new);
    assert_eq!(rig.alarm("crl/issuing"), None);
}

#[test]
fn a_transfer_goes_on_where_a_cut_or_a_kill_stopped_it() {
    let mut rig = Rig::connected();
    // Signatures and spread serials do not compress: several pieces.
    let serials: Vec<u64> =
        (1..20_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1).collect();
    let crl = rig.ca.crl(1, &serials);
    let packed = patch::pack_object(&crl, None);
    let digest = Digest::of(&packed);
    assert!(packed.len() > 3 * PIECE_MAX);
    let stride = PIECE_MAX as u64;
    rig.wait(Duration::from_secs(4000));
    assert_eq!(rig.questions(), [(None, None)]);
    rig.answer([piece(&crl, 1, &packed, 0)]);
    let ahead = [(None, Some((digest, stride))), (None, Some((digest, 2 * stride)))];
    assert_eq!(rig.questions(), ahead);
    rig.answer([piece(&crl, 1, &packed, stride)]);
    rig.restart();
    rig.up_with(rig.ca.catalogue("issuing"));
    // One question only: how long the pieces are is not known yet in this connection.
    assert_eq!(rig.questions(), [(None, Some((digest, 2 * stride)))]);
    let mut offset = 2 * stride;
    while offset < packed.len() as u64 {
        rig.answer([piece(&crl, 1, &packed, offset)]);
        rig.drain();
        offset += stride;
    }
    assert_eq!(rig.published().unwrap(), crl);
}

#[test]
fn a_newer_crl_in_mid_transfer_replaces_the_old_transfer() {
    let mut rig = Rig::connected();
    let serials: Vec<u64> =
        (1..20_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1).collect();
    let (first, second) = (rig.ca.crl(1, &serials), rig.ca.crl(2, &serials[1..]));
    let packed = patch::pack_object(&first, None);
    rig.wait(Duration::from_secs(4000));
    rig.drain();
    rig.answer([piece(&first, 1, &packed, 0)]);
    rig.serve(&second, 2, &patch::pack_object(&second, None));
    assert_eq!(rig.published().unwrap(), second);
}

#[test]
fn a_crl_past_16_mib_is_mirrored_byte_for_byte() {
    let mut rig = Rig::connected();
    let serials: Vec<u64> = (0..720_000u64).map(|n| 0x0100_0000_0000 + n).collect();
    let crl = rig.ca.crl(1, &serials);
    assert!(crl.len() > 16 * 1024 * 1024);
    rig.publish(&crl, 1);
    assert!(rig.published().unwrap() == crl);
    let name: Name = "issuing".parse().unwrap();
    assert_eq!(rig.carrier.mirror.held(&name).unwrap().unwrap().entries, 720_000);
    let next = rig.ca.crl(2, &serials[1..]);
    let packed = patch::pack_object(&next, Some(&crl));
    rig.wait(Duration::from_secs(4000));
    rig.serve(&next, 2, &packed);
    assert!(rig.published().unwrap() == next);
}

#[test]
fn absurd_pieces_cost_nothing_but_an_alarm() {
    let mut rig = Rig::connected();
    rig.wait(Duration::from_secs(4000));
    assert_eq!(rig.questions().len(), 1);
    let Answer::CrlPiece(mut absurd) = piece(b"x", 1, b"x", 0) else { unreachable!() };
    (absurd.packed_length, absurd.crl_length) = (u64::MAX, u64::MAX);
    rig.answer([Answer::CrlPiece(absurd)]);
    assert!(rig.alarm("crl/issuing").unwrap().contains("announces"));
    assert_eq!(rig.questions(), [], "not at once");
    assert_eq!(rig.carrier.work(rig.now()), Work::Doubtful);
}

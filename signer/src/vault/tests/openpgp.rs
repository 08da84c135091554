//! OpenPGP certifications: one signature for one request, the same answer again, taken back, and
//! the plug pulled at every point.

use protocol::message::{ApprovedUserId, OpenPgpReason, RevokeOpenPgp};
use sequoia_openpgp::{
    Cert, Packet,
    cert::{CertBuilder, CipherSuite},
    packet::{Signature, UserID, signature::SignatureBuilder},
    parse::Parse,
    serialize::SerializeInto,
    types::{KeyFlags, SignatureType},
};

use super::*;
use crate::{
    calendar::DAY_S, call::Certify, durable::crash, intake::openpgp::Limits, openpgp::system_time,
};

pub(super) const ALICE: &str = "Alice Łódzka <alice@example.net>";
pub(super) const OTHER: &str = "Alice <alice@example.com>";

/// A story with an OpenPGP authority and a person's key.
pub(super) struct Pgp {
    pub(super) story: Story,
    pub(super) cert: Cert,
}

impl Pgp {
    pub(super) fn new() -> Self {
        let mut story = Story::new();
        story.vault = None;
        story.console(&["openpgp", "create", "people", "--user-id", "CA <ca@ca.example>"]).unwrap();
        story.now = console::now().unwrap();
        story.start();
        let cert = CertBuilder::new()
            .set_cipher_suite(CipherSuite::Cv25519)
            .set_creation_time(system_time(UnixTime(story.now.unix().0 - DAY_S)))
            .add_userid(ALICE)
            .add_userid(OTHER)
            .add_transport_encryption_subkey()
            .generate()
            .unwrap()
            .0;
        Self { story, cert }
    }

    /// A request with an id of its own, as it comes from the gate.
    pub(super) fn request(&mut self, user_ids: &[&str]) -> Certify {
        self.story.next_id += 1;
        let asked = |text: &&str| ApprovedUserId::Exact((*text).try_into().unwrap());
        let asked: Vec<_> = user_ids.iter().map(asked).collect();
        let time = system_time(self.story.now.unix());
        let key = intake::openpgp::vet(&self.cert.to_vec().unwrap(), &asked, time, &Limits::WIRE);
        let id = self.story.id();
        Certify {
            id,
            digest: Digest::of(id.as_bytes()),
            authority: name("people"),
            policy: None,
            days: None,
            renew: false,
            key: key.unwrap(),
        }
    }

    pub(super) fn taking_back(&mut self, user_id: Option<&str>) -> Call {
        self.story.next_id += 1;
        let id = self.story.id();
        let revoke = RevokeOpenPgp {
            id,
            authority: name("people"),
            fingerprint: self.cert.fingerprint().to_hex().as_str().try_into().unwrap(),
            user_id: user_id.map(|text| text.try_into().unwrap()),
            reason: OpenPgpReason::UserIdInvalid,
        };
        Call::RevokeOpenPgp { digest: Digest::of(id.as_bytes()), revoke }
    }

    pub(super) fn ask(&mut self, calls: Vec<Call>) -> Vec<Answer> {
        let tagged = (0..).zip(calls).map(|(tag, body)| Tagged { tag, body }).collect();
        let now = self.story.now;
        let mut replies = self.story.vault().handle(now, tagged).unwrap();
        replies.sort_by_key(|reply| reply.tag);
        let answers = replies.into_iter().map(|reply| match reply.body {
            Reply::Answer(answer) => answer,
            other => panic!("an answer was expected: {other:?}"),
        });
        answers.collect()
    }

    pub(super) fn certify(&mut self, certify: Certify) -> Answer {
        self.ask(vec![Call::Certify(Box::new(certify))]).pop().unwrap()
    }

    pub(super) fn certified(&mut self, user_ids: &[&str]) -> Vec<u8> {
        let request = self.request(user_ids);
        bytes(&self.certify(request))
    }

    /// How many certifications of a user ID by our key count in `certificate`.
    pub(super) fn counting(&self, certificate: &[u8], user_id: &str) -> Vec<Signature> {
        let cert = Cert::from_bytes(certificate).unwrap();
        let vault = self.story.vault.as_ref().unwrap();
        let by = vault.openpgp[&name("people")].key().cert().primary_key().key();
        let time = system_time(UnixTime(self.story.now.unix().0 + 60));
        let policy = intake::openpgp::policy(time);
        let found = cert.userids().find(|one| one.userid().value() == user_id.as_bytes()).unwrap();
        let taken_back = found
            .valid_third_party_revocations_by_key(&policy, time, by)
            .filter_map(|one| one.signature_creation_time())
            .max();
        let active = found.active_certifications_by_key(&policy, time, by);
        active.filter(|one| one.signature_creation_time() > taken_back).cloned().collect()
    }

    /// The numbers of signatures in the records.
    pub(super) fn records(&self) -> usize {
        let ledger = Ledger::open(&Ledger::path(&self.story.store())).unwrap();
        let mut count = 0;
        ledger
            .for_each_certification(None, |_| {
                count += 1;
                Ok(())
            })
            .unwrap();
        count
    }
}

pub(super) fn bytes(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Certified { certificate, .. } => certificate.to_vec(),
        Answer::CertificationRevoked { certificate, .. } => certificate.to_vec(),
        other => panic!("a certificate was expected: {other:?}"),
    }
}

pub(super) fn code(answer: &Answer) -> RefusalCode {
    match answer {
        Answer::Refused { code, .. } => *code,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

#[test]
fn certification_is_recorded_and_the_same_request_has_the_same_answer() {
    let mut pgp = Pgp::new();
    let request = pgp.request(&[ALICE]);
    let first = pgp.certify(request.clone());
    assert_eq!(pgp.counting(&bytes(&first), ALICE).len(), 1);
    assert_eq!(pgp.certify(request.clone()), first, "I3");
    pgp.story.start();
    assert_eq!(pgp.certify(request.clone()), first, "I3 across a restart");
    let other = Certify { digest: Digest::of(b"another body"), ..request };
    assert_eq!(code(&pgp.certify(other)), RefusalCode::RequestReused);
    assert_eq!(pgp.records(), 1);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn what_is_certified_and_valid_is_answered_again_byte_for_byte_without_a_signature() {
    let mut pgp = Pgp::new();
    let first = pgp.certified(&[ALICE, OTHER]);
    pgp.story.later(60);
    assert_eq!(pgp.certified(&[ALICE, OTHER]), first);
    assert_eq!(pgp.certified(&[OTHER, ALICE]), first, "the same user IDs in another order");
    assert_eq!(pgp.records(), 2);
    pgp.story.start();
    assert_eq!(pgp.certified(&[ALICE, OTHER]), first, "after a restart");

    let renewal = Certify { renew: true, ..pgp.request(&[ALICE, OTHER]) };
    let renewed = bytes(&pgp.certify(renewal.clone()));
    assert_ne!(renewed, first);
    assert_eq!(bytes(&pgp.certify(renewal)), renewed, "also a renewal is made once");
    assert_eq!(pgp.records(), 4);
    assert_eq!(pgp.certified(&[ALICE, OTHER]), renewed, "the newest one is meant");

    // When it has ended, it is certified anew.
    pgp.story.later(366 * DAY_S);
    assert_ne!(pgp.certified(&[ALICE, OTHER]), renewed);
    assert_eq!(pgp.records(), 6);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn user_id_that_is_certified_already_keeps_its_certification_beside_a_new_one() {
    let mut pgp = Pgp::new();
    let alice = pgp.certified(&[ALICE]);
    pgp.story.later(60);
    let both = pgp.certified(&[OTHER, ALICE]);
    assert_eq!(pgp.counting(&both, ALICE), pgp.counting(&alice, ALICE), "the same signature");
    assert_eq!(pgp.counting(&both, OTHER).len(), 1);
    assert_eq!(pgp.records(), 2, "one for each user ID");
    // And one of two alone needs none.
    let other = pgp.certified(&[OTHER]);
    assert_eq!(pgp.counting(&other, OTHER), pgp.counting(&both, OTHER));
    assert_eq!(pgp.records(), 2);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn two_requests_for_the_same_at_once_share_one_signature() {
    let mut pgp = Pgp::new();
    let calls: Vec<Call> = (0..3).map(|_| Call::Certify(Box::new(pgp.request(&[ALICE])))).collect();
    let answers = pgp.ask(calls.clone());
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| bytes(answer) == bytes(&answers[0])));
    assert_eq!(pgp.records(), 1);
    pgp.story.start();
    assert_eq!(pgp.ask(calls), answers, "each id has its answer for good");
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn certifications_are_taken_back_for_one_user_id_or_all() {
    let mut pgp = Pgp::new();
    let certified = pgp.certified(&[ALICE, OTHER]);
    let merged = |back: &Answer| {
        let both = Cert::from_bytes(&certified).unwrap();
        let back = Cert::from_bytes(&bytes(back)).unwrap();
        both.merge_public(back).unwrap().to_vec().unwrap()
    };
    let call = pgp.taking_back(Some("Alice <alice@EXAMPLE.com>"));
    let back = pgp.ask(vec![call.clone()]).pop().unwrap();
    assert!(pgp.counting(&merged(&back), OTHER).is_empty());
    assert_eq!(pgp.counting(&merged(&back), ALICE).len(), 1);
    assert_eq!(pgp.ask(vec![call]).pop().unwrap(), back, "I3");
    let again = pgp.taking_back(Some(OTHER));
    assert_eq!(code(&pgp.ask(vec![again])[0]), RefusalCode::OpenPgpNothingCertified);

    // What is taken back is certified anew, and the new one counts.
    let anew = pgp.certified(&[ALICE, OTHER]);
    assert_ne!(anew, certified);
    let whole = Cert::from_bytes(&merged(&back)).unwrap();
    let whole = whole.merge_public(Cert::from_bytes(&anew).unwrap()).unwrap().to_vec().unwrap();
    assert_eq!(pgp.counting(&whole, OTHER).len(), 1);

    let all = pgp.taking_back(None);
    let all = pgp.ask(vec![all]).pop().unwrap();
    let taken = Cert::from_bytes(&bytes(&all)).unwrap();
    assert_eq!(taken.userids().count(), 2);
    assert!(pgp.counting(&merged(&all), ALICE).is_empty());
    let stranger = Pgp { cert: CertBuilder::new().add_userid("X").generate().unwrap().0, ..pgp };
    let mut stranger = stranger;
    let call = stranger.taking_back(None);
    assert_eq!(code(&stranger.ask(vec![call])[0]), RefusalCode::OpenPgpNothingCertified);
    assert_eq!(stranger.story.findings(), Vec::<String>::new());
}

// Else readers would hold for revoked what the ledger calls valid, and would be given again.
#[test]
fn what_is_being_certified_when_its_key_is_taken_back_is_taken_back_with_it() {
    // A new certification of Alice's name is made, or the one that she has is kept beside another.
    let cases: [(bool, &[&str]); 2] = [(true, &[ALICE]), (false, &[ALICE, OTHER])];
    for (renew, user_ids) in cases {
        let mut pgp = Pgp::new();
        pgp.certified(&[ALICE]);
        let certify = Certify { renew, ..pgp.request(user_ids) };
        let overtaking = pgp.request(&[ALICE]);
        let calls = vec![
            Call::Certify(Box::new(certify)),
            pgp.taking_back(Some(ALICE)),
            Call::Certify(Box::new(overtaking)),
        ];
        let answers = pgp.ask(calls.clone());
        let merged = |parts: &[&Answer]| {
            let certs = parts.iter().map(|answer| Cert::from_bytes(&bytes(answer)).unwrap());
            let whole = certs.reduce(|one, other| one.merge_public(other).unwrap()).unwrap();
            whole.to_vec().unwrap()
        };
        let taken_back = merged(&[&answers[0], &answers[1]]);
        assert!(pgp.counting(&taken_back, ALICE).is_empty(), "renew: {renew}");
        let anew = merged(&[&answers[0], &answers[1], &answers[2]]);
        assert_eq!(pgp.counting(&anew, ALICE).len(), 1, "what was asked for after that counts");
        pgp.story.start();
        assert_eq!(pgp.ask(calls), answers, "I3");
        assert_eq!(pgp.certified(&[ALICE]), bytes(&answers[2]));
        assert_eq!(pgp.story.findings(), Vec::<String>::new());
    }
}

// Else it could never be signed, and no start would get past it.
#[test]
fn taking_back_more_at_once_than_an_answer_holds_is_refused_and_each_alone_is_not() {
    let mut pgp = Pgp::new();
    let user_ids: Vec<String> = (0..270).map(|n| format!("N{n} <n{n}@example.net>")).collect();
    let since = system_time(UnixTime(pgp.story.now.unix().0 - DAY_S));
    let builder = CertBuilder::new().set_cipher_suite(CipherSuite::Cv25519);
    let builder = builder.set_creation_time(since).add_transport_encryption_subkey();
    let builder = user_ids.iter().fold(builder, |builder, text| builder.add_userid(text.as_str()));
    pgp.cert = builder.generate().unwrap().0;
    let texts: Vec<&str> = user_ids.iter().map(String::as_str).collect();
    texts.chunks(50).for_each(|some| drop(pgp.certified(some)));
    let all = pgp.taking_back(None);
    let refused = pgp.ask(vec![all.clone()]);
    assert_eq!(code(&refused[0]), RefusalCode::OpenPgpUserIdForm, "{refused:?}");
    pgp.story.start();
    assert_eq!(pgp.ask(vec![all]), refused, "I3");
    let one = pgp.taking_back(Some(texts[77]));
    let one = pgp.ask(vec![one]);
    assert_eq!(Cert::from_bytes(&bytes(&one[0])).unwrap().userids().count(), 1);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

// Else whoever has the key keeps from us what we say of it.
#[test]
fn forms_of_a_user_id_that_no_answer_can_hold_together_are_taken_back_one_by_one() {
    let mut pgp = Pgp::new();
    let forms = ["Alice <alice@Example.net>", "Alice <alice@example.net>"];
    let bare = CertBuilder::new()
        .set_creation_time(pgp.cert.primary_key().key().creation_time())
        .add_transport_encryption_subkey()
        .generate()
        .unwrap()
        .0;
    let secret = bare.primary_key().key().clone().parts_into_secret().unwrap();
    let mut signer = secret.into_keypair().unwrap();
    for form in forms {
        let user_id = UserID::from(form);
        let long = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_signature_creation_time(bare.primary_key().key().creation_time())
            .unwrap()
            .set_key_flags(KeyFlags::empty().set_certification())
            .unwrap()
            .set_notation("long@example.net", [b'x'; 50_000], None, false)
            .unwrap();
        let own = user_id.bind(&mut signer, &bare, long).unwrap();
        let packets = [Packet::from(user_id), own.into()];
        pgp.cert = bare.clone().insert_packets(packets).unwrap().0.strip_secret_key_material();
        pgp.certified(&[form]);
    }
    let all = pgp.taking_back(None);
    assert_eq!(code(&pgp.ask(vec![all])[0]), RefusalCode::OpenPgpUserIdForm);
    for form in forms {
        let one = pgp.taking_back(Some(form));
        let one = Cert::from_bytes(&bytes(&pgp.ask(vec![one])[0])).unwrap();
        let user_ids: Vec<_> = one.userids().map(|one| one.userid().to_string()).collect();
        assert_eq!(user_ids, [form]);
    }
    let all = pgp.taking_back(None);
    assert_eq!(code(&pgp.ask(vec![all])[0]), RefusalCode::OpenPgpNothingCertified);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

// Else whoever may ask makes every later certification of somebody's key one of the far future.
#[test]
fn certifying_and_taking_back_in_turn_dates_nothing_more_than_a_minute_ahead() {
    let mut pgp = Pgp::new();
    let refused = loop {
        let next = pgp.request(&[ALICE]);
        let answer = pgp.certify(next);
        let Answer::Certified { .. } = answer else { break answer };
        let cert = Cert::from_bytes(&bytes(&answer)).unwrap();
        let ahead = system_time(UnixTime(pgp.story.now.unix().0 + 60));
        let ours = cert.userids().next().unwrap();
        let latest = ours.certifications().filter_map(|one| one.signature_creation_time()).max();
        assert!(latest <= Some(ahead), "{latest:?}");
        let back = pgp.taking_back(None);
        bytes(&pgp.ask(vec![back])[0]);
    };
    assert_eq!(code(&refused), RefusalCode::OpenPgpUnavailable, "{refused:?}");
    assert!(format!("{refused:?}").contains("taken back so often"), "{refused:?}");
    assert!(pgp.records() > 20, "a person's zeal is let pass");
    pgp.story.later(61);
    let later = pgp.certified(&[ALICE]);
    assert_eq!(pgp.counting(&later, ALICE).len(), 1);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

// A key that was made while the clock was fast; signed earlier than its key, nothing can be read.
#[test]
fn authority_whose_key_is_not_born_yet_certifies_nothing_until_it_is() {
    let mut pgp = Pgp::new();
    let born = pgp.story.now.unix();
    pgp.story.vault = None;
    let ledger = rusqlite::Connection::open(Ledger::path(&pgp.story.store())).unwrap();
    ledger.execute("UPDATE meta SET value = 0 WHERE key = 'time_floor'", []).unwrap();
    drop(ledger);
    pgp.story.later(-3600);
    pgp.story.start();
    let early = pgp.request(&[ALICE]);
    let answer = pgp.certify(early);
    assert_eq!(code(&answer), RefusalCode::OpenPgpUnavailable);
    assert!(format!("{answer:?}").contains("after the signer's clock"), "{answer:?}");
    assert_eq!(pgp.records(), 0);
    while pgp.story.now.unix() < born {
        pgp.story.later(600);
    }
    let certified = pgp.certified(&[ALICE]);
    assert_eq!(pgp.counting(&certified, ALICE).len(), 1);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn certification_that_could_only_begin_when_its_key_has_ended_is_refused() {
    let mut pgp = Pgp::new();
    let since = UnixTime(pgp.story.now.unix().0 - DAY_S);
    let lives = std::time::Duration::from_secs(DAY_S.unsigned_abs() + 2);
    let builder = CertBuilder::new().set_creation_time(system_time(since));
    let builder = builder.set_validity_period(lives).add_transport_encryption_subkey();
    pgp.cert = builder.add_userid(ALICE).generate().unwrap().0;
    pgp.certified(&[ALICE]);
    // A second later than the certification; what certifies anew is another second later.
    let back = pgp.taking_back(None);
    bytes(&pgp.ask(vec![back])[0]);
    let late = pgp.request(&[ALICE]);
    assert_eq!(code(&pgp.certify(late)), RefusalCode::OpenPgpExpired);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

// Whoever may ask can ask for renewals without end; what each costs later must not grow with them.
#[test]
fn key_that_was_certified_often_counts_once_for_each_user_id() {
    let mut pgp = Pgp::new();
    for _ in 0..4 {
        let renewed = Certify { renew: true, ..pgp.request(&[ALICE, OTHER]) };
        bytes(&pgp.certify(renewed));
        pgp.story.later(10);
    }
    let mut ledger = Ledger::open(&Ledger::path(&pgp.story.store())).unwrap();
    let tx = ledger.begin(pgp.story.now.unix()).unwrap();
    let authority = pgp.story.vault().openpgp[&name("people")].id();
    let fingerprint = pgp.cert.fingerprint().to_hex();
    let standing = tx.standing(authority, &fingerprint, |_| true).unwrap();
    assert_eq!(standing.len(), 2);
    for one in &standing {
        assert_eq!(one.at.0, pgp.story.now.unix().0 - 10, "the newest");
    }
    assert!(tx.standing(authority, &fingerprint, |row| row.policy == "x").unwrap().is_empty());
    drop(tx);
    assert_eq!(pgp.records(), 8);
    let back = pgp.taking_back(None);
    bytes(&pgp.ask(vec![back])[0]);
    let again = pgp.taking_back(None);
    assert_eq!(code(&pgp.ask(vec![again])[0]), RefusalCode::OpenPgpNothingCertified);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn authority_policy_and_validity_are_the_vaults_to_judge() {
    let mut pgp = Pgp::new();
    type Change<'a> = &'a dyn Fn(&mut Certify);
    let base = pgp.request(&[ALICE]);
    let fresh = |change: Change<'_>, number: u8| {
        let mut certify = base.clone();
        certify.id = RequestId::from_bytes([number; 16]);
        change(&mut certify);
        certify
    };
    let cases: [(Change<'_>, RefusalCode); 4] = [
        (&|c| c.authority = name("nobody"), RefusalCode::OpenPgpAuthorityUnknown),
        (&|c| c.policy = Some(name("nothing")), RefusalCode::OpenPgpPolicyUnknown),
        (&|c| c.days = Some(0), RefusalCode::Validity),
        (&|c| c.days = Some(5000), RefusalCode::Validity),
    ];
    for (number, (change, expected)) in (200..).zip(cases) {
        assert_eq!(code(&pgp.certify(fresh(change, number))), expected);
    }
    assert_eq!(pgp.records(), 0);
    let mut none = Story::new();
    let call = Call::Certify(Box::new(base));
    let now = none.now;
    let mut replies = none.vault().handle(now, vec![Tagged { tag: 1, body: call }]).unwrap();
    let Reply::Answer(answer) = replies.pop().unwrap().body else { panic!("an answer") };
    assert_eq!(code(&answer), RefusalCode::OpenPgpUnavailable);
}

#[test]
fn authority_does_not_certify_its_own_key() {
    let mut pgp = Pgp::new();
    let public = pgp.story.store().join("openpgp/people/public.asc");
    pgp.cert = Cert::from_file(public).unwrap();
    let request = pgp.request(&["CA <ca@ca.example>"]);
    assert_eq!(code(&pgp.certify(request)), RefusalCode::OpenPgpKey);
    let create = ["openpgp", "create", "elders", "--user-id", "E <e@ca.example>", "--key", "p256"];
    pgp.story.console(&create).unwrap();
    let by_another = Certify { authority: name("elders"), ..pgp.request(&["CA <ca@ca.example>"]) };
    bytes(&pgp.certify(by_another));
    // Nor does it revoke its own user IDs.
    let taking_back = pgp.taking_back(None);
    assert_eq!(code(&pgp.ask(vec![taking_back])[0]), RefusalCode::OpenPgpKey);
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn second_authority_made_while_the_vault_runs_is_found_and_is_its_own() {
    let mut pgp = Pgp::new();
    let first = pgp.certified(&[ALICE]);
    let create = ["openpgp", "create", "elders", "--user-id", "E <e@ca.example>", "--key", "p256"];
    pgp.story.console(&create).unwrap();
    let twice = pgp.story.console(&create).unwrap_err();
    assert!(twice.contains("is there already"), "{twice}");
    let request = Certify { authority: name("elders"), ..pgp.request(&[ALICE]) };
    let second = bytes(&pgp.certify(request));
    assert_ne!(first, second, "what one certified the other did not");
    let now = pgp.story.now;
    let query = CatalogueQuery { have: None, serial_high: List::empty() };
    let calls = vec![Tagged { tag: 1, body: Call::Catalogue(query) }];
    let replies = pgp.story.vault().handle(now, calls).unwrap();
    let Reply::Answer(Answer::Catalogue(catalogue)) = &replies[0].body else { panic!("it") };
    let names: Vec<&str> = catalogue.openpgp.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["elders", "people"]);
    assert_eq!(catalogue.openpgp[0].policies[0].name.as_str(), "default");
    let notation = catalogue.openpgp[0].policies[0].serial_notation.as_deref();
    assert_eq!(notation, Some("serial@ca.example"));
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

#[test]
fn power_cut_at_every_point_of_certifying_and_taking_back_leaves_one_outcome() {
    let mut pgp = Pgp::new();
    pgp.certified(&[OTHER]);
    for point in 0.. {
        assert!(point < 500, "the script ends");
        let renewal = Certify { renew: true, ..pgp.request(&[ALICE]) };
        let calls = [
            Call::Certify(Box::new(renewal)),
            Call::Certify(Box::new(pgp.request(&[ALICE, OTHER]))),
            Call::Certify(Box::new(pgp.request(&[ALICE, OTHER]))),
            Call::Certify(Box::new(Certify { days: Some(0), ..pgp.request(&[ALICE]) })),
            pgp.taking_back(Some(OTHER)),
        ];
        let tagged = |calls: &[Call]| -> Vec<Tagged<Call>> {
            (0..).zip(calls.iter().cloned()).map(|(tag, body)| Tagged { tag, body }).collect()
        };
        crash::after(Some(point));
        let now = pgp.story.now;
        let mut before = Vec::new();
        let mut ended = Ok(());
        for half in [&calls[..4], &calls[4..]] {
            match pgp.story.vault().handle(now, tagged(half)) {
                Ok(replies) => before.extend(replies),
                Err(fault) => {
                    ended = Err(fault);
                    break;
                }
            }
        }
        pgp.story.vault = None;
        // The plug is pulled again while the next start mends what the first left.
        crash::after(ended.is_err().then_some(point % 7));
        drop(pgp.story.open());
        crash::after(None);
        pgp.story.start();
        assert_eq!(pgp.story.findings(), Vec::<String>::new(), "at point {point}");

        let mut after = pgp.ask(calls[..4].to_vec());
        after.extend(pgp.ask(calls[4..].to_vec()));
        for reply in before {
            let Reply::Answer(answer) = reply.body else { continue };
            assert!(after.contains(&answer), "another answer after point {point}: {answer:?}");
        }
        assert_eq!(after.len(), 5, "each request has one outcome at {point}");
        assert_eq!(pgp.counting(&bytes(&after[0]), ALICE).len(), 1);
        assert_eq!(bytes(&after[1]), bytes(&after[2]), "they share a signature at {point}");
        assert_eq!(code(&after[3]), RefusalCode::Validity);
        assert!(matches!(after[4], Answer::CertificationRevoked { .. }), "at {point}");
        assert_eq!(pgp.story.findings(), Vec::<String>::new(), "after point {point}");
        pgp.story.later(5);
        if ended.is_ok() {
            return;
        }
    }
}

#[test]
fn power_cut_at_every_point_of_making_an_openpgp_authority_can_be_finished_by_asking_again() {
    let mut story = Story::new();
    story.vault = None;
    for point in 0.. {
        assert!(point < 300, "the making ends");
        if point % 7 == 6 {
            story = Story::new(); // a store takes 8
            story.vault = None;
        }
        let name = format!("pgp{point}");
        let create = ["openpgp", "create", &name, "--user-id", "CA <ca@ca.example>"];
        crash::after(Some(point));
        let made = story.console(&create);
        crash::after(None);
        if made.is_ok() {
            assert!(point > 5, "the points were passed");
            return;
        }
        if let Err(why) = story.console(&create) {
            assert!(why.contains("is there already"), "at point {point}: {why}");
        }
        story.now = console::now().unwrap();
        story.start();
        assert!(story.vault().openpgp.contains_key(&name.parse::<Name>().unwrap()), "{point}");
        story.vault = None;
        assert_eq!(story.findings(), Vec::<String>::new(), "at point {point}");
    }
}

#[test]
fn store_whose_key_was_exchanged_is_told_and_the_others_go_on() {
    let mut pgp = Pgp::new();
    pgp.certified(&[ALICE]);
    pgp.story.vault = None;
    let secret = pgp.story.store().join("openpgp/people/secret.pgp");
    fs::rename(&secret, secret.with_extension("kept")).unwrap();
    pgp.story.console(&["openpgp", "create", "elders", "--user-id", "E <e@ca.example>"]).unwrap();
    fs::copy(pgp.story.store().join("openpgp/elders/secret.pgp"), &secret).unwrap();
    pgp.story.now = console::now().unwrap();
    let fault = pgp.story.open().map(drop).unwrap_err();
    assert!(fault.is_configuration() && fault.to_string().contains("people"), "{fault}");
    fs::rename(secret.with_extension("kept"), &secret).unwrap();
    pgp.story.start();
    assert_eq!(pgp.story.findings(), Vec::<String>::new());
}

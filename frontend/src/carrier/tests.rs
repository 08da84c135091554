//! Stories of the carrier with a scripted signer: what is sent, what comes back, what is stored.

use openssl::pkey::{PKey, Private};
use protocol::{
    bounded::List,
    message::{
        Catalogue, CrlPiece, CrlScope, Digest, FetchCrl, FetchLog, IssueCertificate, Name,
        PIECE_MAX, RefusalCode, RequestId, RevocationReason, Revoke, Serial,
    },
    patch,
};

use super::*;
use crate::{
    home::Home,
    queue::{Entry, State},
    subject,
    test_ca::{CertificateRecipe, CsrRecipe, TestCa, ec_key},
};

mod audit;
mod crls;
mod openpgp;

/// Which CRL is held, and which transfer at which offset goes on.
type Question = (Option<Digest>, Option<(Digest, u64)>);

/// A frontend, and all that its signer needs to answer it.
struct Rig {
    _dir: tempfile::TempDir,
    home: Home,
    carrier: Carrier,
    ca: TestCa,
    key: PKey<Private>,
    micros: u64,
    made: u8,
    hints: Vec<u64>,
    /// The catalogue that the signer calls unchanged.
    known: Digest,
    /// Sent, but not looked at by the story yet.
    kept: Vec<Request>,
    log: audit::SignerLog,
    log_questions: Vec<FetchLog>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(dir.path()).unwrap();
        let carrier = carrier(&home);
        let ca = TestCa::new("Root").issuing("Issuing");
        let known = ca.catalogue("issuing").digest().unwrap();
        Self {
            _dir: dir,
            home,
            carrier,
            ca,
            key: ec_key(),
            micros: 0,
            made: 0,
            hints: Vec::new(),
            known,
            kept: Vec::new(),
            log: audit::SignerLog::default(),
            log_questions: Vec::new(),
        }
    }

    /// A frontend whose session is up and who knows that the signer has no CRL yet.
    fn connected() -> Self {
        let mut rig = Self::new();
        rig.up();
        rig
    }

    fn now(&self) -> Now {
        let unix_us = 1_790_000_000_000_000 + i64::try_from(self.micros).unwrap();
        Now { instant: Instant::from_micros(self.micros), unix_us, synchronised: true }
    }

    fn wait(&mut self, duration: Duration) {
        self.micros += u64::try_from(duration.as_micros()).unwrap();
        self.carrier.handle_timeout(self.now()).unwrap();
    }

    /// The program is killed and started again.
    fn restart(&mut self) {
        self.carrier = carrier(&self.home);
    }

    fn up(&mut self) {
        self.up_with(self.ca.catalogue("issuing"));
        let authority: Name = "issuing".parse().unwrap();
        let question = FetchCrl {
            authority: authority.clone(),
            scope: CrlScope::Full,
            have: None,
            resume: None,
        };
        let question = Request::FetchCrl(question);
        let (questions, others) = self.drain().into_iter().partition(|sent| *sent == question);
        self.kept = others;
        assert_eq!(questions, [question]);
        self.answer([Answer::CrlUnknown { authority, scope: CrlScope::Full }]);
    }

    fn up_with(&mut self, catalogue: Catalogue) {
        self.carrier.handle_up(self.now()).unwrap();
        let first = self.carrier.poll_send(self.now()).unwrap();
        let Some(Request::Catalogue(query)) = first else { panic!("{first:?}") };
        let known = query.have == Some(catalogue.digest().unwrap());
        self.answer([match known {
            true => Answer::CatalogueUnchanged,
            false => Answer::Catalogue(catalogue),
        }]);
    }

    fn answer<const N: usize>(&mut self, answers: [Answer; N]) {
        self.carrier.handle_answers(self.now(), answers.into()).unwrap();
    }

    /// Everything that is to be sent now; hints, status and the log are answered at once.
    fn drain(&mut self) -> Vec<Request> {
        let mut sent = std::mem::take(&mut self.kept);
        while let Some(request) = self.carrier.poll_send(self.now()).unwrap() {
            match request {
                Request::TimeHint(hint) => {
                    self.hints.push(self.micros);
                    self.answer([Answer::TimeHintTaken { unix_us: hint.unix_us }]);
                }
                Request::Status => {}
                Request::FetchLog(question) => {
                    self.log_questions.push(question);
                    let answers = self.log.answer(&question);
                    answers.into_iter().for_each(|answer| self.answer([answer]));
                }
                Request::Catalogue(query) if query.have == Some(self.known) => {
                    self.answer([Answer::CatalogueUnchanged]);
                }
                other => sent.push(other),
            }
        }
        // Whoever asks when to come back must never be told "now": that would be a busy loop.
        let next = self.carrier.poll_timeout();
        assert!(next.is_none_or(|at| at > self.now().instant), "{next:?} at {}", self.micros);
        sent
    }

    /// The same for requests with an id only.
    fn requests(&mut self) -> Vec<Request> {
        self.drain().into_iter().filter(|request| request.request_id().is_some()).collect()
    }

    fn ids(&mut self) -> Vec<RequestId> {
        self.requests().iter().filter_map(Message::request_id).collect()
    }

    /// What is asked about CRLs: what is held and what goes on.
    fn questions(&mut self) -> Vec<Question> {
        let questions = self.drain().into_iter().filter_map(|request| match request {
            Request::FetchCrl(FetchCrl { have, resume, .. }) => Some((have, resume)),
            _ => None,
        });
        questions.collect()
    }

    fn next_id(&mut self) -> RequestId {
        self.made += 1;
        RequestId::from_bytes([self.made; 16])
    }

    /// Another process puts a request into the queue.
    fn insert(&mut self, request: &Request) -> RequestId {
        let mut store = self.home.store().unwrap();
        let transaction = store.transaction().unwrap();
        let id = Queue(&transaction).insert(request, self.now().unix_us).unwrap();
        transaction.commit().unwrap();
        self.carrier.handle_queue_changed(self.now()).unwrap();
        id
    }

    fn insert_issue(&mut self) -> RequestId {
        let issue = self.issue();
        self.insert(&Request::Issue(issue))
    }

    fn issue(&mut self) -> IssueCertificate {
        let csr = CsrRecipe::new(&self.key, "h.example").dns("h.example").build();
        IssueCertificate {
            form: protocol::message::CsrForm::Pkcs10,
            id: self.next_id(),
            authority: "issuing".parse().unwrap(),
            profile: "server".parse().unwrap(),
            days: None,
            subject: Some(subject::parse("/CN=h.example").unwrap()),
            subject_alt_names: None,
            csr: csr.to_der().unwrap().try_into().unwrap(),
        }
    }

    fn insert_revocation(&mut self, serial: u64) -> RequestId {
        let id = self.next_id();
        self.insert(&Request::Revoke(Revoke {
            id,
            authority: "issuing".parse().unwrap(),
            serial: Serial::from_magnitude(&serial.to_be_bytes()).unwrap(),
            reason: RevocationReason::Superseded,
        }))
    }

    fn recipe(&self) -> CertificateRecipe<'_> {
        CertificateRecipe::new(&self.ca, &self.key)
            .subject(&[("CN", "h.example")])
            .names(&["DNS:h.example"])
    }

    fn issued(&self, id: RequestId, serial: u64) -> Answer {
        issued(id, self.recipe().serial(serial).build())
    }

    fn entry(&self, id: RequestId) -> Entry {
        Queue(self.carrier.store().connection()).find(id).unwrap().unwrap()
    }

    fn state(&self, id: RequestId) -> State {
        self.entry(id).state
    }

    fn alarm(&self, scope: &str) -> Option<String> {
        Alarms(self.carrier.store().connection()).text(scope).unwrap()
    }

    fn published(&self) -> Option<Vec<u8>> {
        self.carrier.mirror.read(&"issuing".parse::<Name>().unwrap()).unwrap()
    }

    /// Answers CRL questions from `packed` until none is asked.
    fn serve(&mut self, crl: &[u8], number: u64, packed: &[u8]) {
        let digest = Digest::of(packed);
        loop {
            let questions = self.questions();
            if questions.is_empty() {
                break;
            }
            for (_, resume) in questions {
                let offset = match resume {
                    Some((resumed, offset)) if resumed == digest => offset,
                    _ => 0,
                };
                self.answer([piece(crl, number, packed, offset)]);
            }
        }
    }

    /// Revokes something so that the carrier asks for a CRL, and serves this one in full.
    fn publish(&mut self, crl: &[u8], number: u64) {
        self.wait(Duration::from_secs(4000));
        self.serve(crl, number, &patch::pack_object(crl, None));
    }
}

fn carrier(home: &Home) -> Carrier {
    Carrier::new(home.store().unwrap(), Mirror::new(home), LogCopy::new(home)).unwrap()
}

fn issued(id: RequestId, der: Vec<u8>) -> Answer {
    Answer::Issued { id, certificate: der.try_into().unwrap() }
}

fn piece(crl: &[u8], number: u64, packed: &[u8], offset: u64) -> Answer {
    let start = usize::try_from(offset).unwrap();
    let end = packed.len().min(start + PIECE_MAX);
    Answer::CrlPiece(CrlPiece {
        scope: CrlScope::Full,
        authority: "issuing".parse().unwrap(),
        crl_number: number,
        crl_digest: Digest::of(crl),
        crl_length: crl.len() as u64,
        packed_digest: Digest::of(packed),
        packed_length: packed.len() as u64,
        offset,
        bytes: packed[start..end].to_vec().try_into().unwrap(),
    })
}

//------------ Requests and outcomes -----------------------------------------

#[test]
fn a_request_comes_back_as_a_certificate_in_the_inventory() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    assert_eq!(rig.ids(), [id]);
    assert_eq!(rig.state(id), State::Sent);
    assert_eq!(rig.carrier.work(rig.now()), Work::Busy);
    let der = rig.recipe().serial(0x1234).build();
    rig.answer([issued(id, der.clone())]);
    assert_eq!(rig.state(id), State::Done);
    assert_eq!(rig.entry(id).serial.unwrap().to_string(), "1234");
    let store = rig.carrier.store();
    assert_eq!(Inventory(store.connection()).of_request(id).unwrap().unwrap().der, der);
    assert_eq!(rig.drain(), [Request::Acknowledge(vec![id].try_into().unwrap())]);
    assert_eq!(rig.carrier.work(rig.now()), Work::Idle);
}

#[test]
fn after_a_lost_answer_the_same_bytes_are_sent_again() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    let first = rig.requests();
    rig.carrier.handle_down();
    assert_eq!(rig.drain(), []);
    rig.up();
    assert_eq!(rig.requests(), first);
    rig.carrier.handle_down();
    rig.restart();
    rig.up();
    let third = rig.requests();
    assert_eq!(third[0].to_bytes().unwrap(), first[0].to_bytes().unwrap());
    rig.answer([rig.issued(id, 5)]);
    assert_eq!(rig.state(id), State::Done);
}

#[test]
fn an_answer_that_never_comes_is_asked_for_again_within_the_connection() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    assert_eq!(rig.ids(), [id]);
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.ids(), []);
    rig.wait(Duration::from_secs(61));
    assert_eq!(rig.ids(), [id]);
    assert_eq!(rig.carrier.counters().asked_again, 1);
}

#[test]
fn a_kill_between_insert_and_send_loses_nothing() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    rig.restart();
    assert_eq!(rig.state(id), State::Queued);
    rig.up();
    assert_eq!(rig.ids(), [id]);
}

#[test]
fn a_kill_after_the_commit_of_an_answer_acknowledges_it_in_the_next_run() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    rig.drain();
    rig.answer([rig.issued(id, 5)]);
    rig.restart();
    rig.carrier.handle_up(rig.now()).unwrap();
    rig.carrier.poll_send(rig.now()).unwrap();
    rig.answer([Answer::CatalogueUnchanged]);
    let acknowledged = Request::Acknowledge(vec![id].try_into().unwrap());
    assert!(rig.drain().contains(&acknowledged));
}

#[test]
fn wrong_answers_are_not_stored_and_the_right_one_still_counts() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    rig.drain();
    let (stranger, other_key) = (TestCa::new("Stranger"), ec_key());
    let namesake = TestCa::new("Root").issuing("Issuing");
    let wrong = [
        rig.recipe().subject(&[("CN", "bank.example")]).build(),
        rig.recipe().names(&["DNS:bank.example"]).build(),
        rig.recipe().signed_by(&stranger).build(),
        rig.recipe().signed_by(&namesake).build(),
        CertificateRecipe::new(&rig.ca, &other_key)
            .subject(&[("CN", "h.example")])
            .names(&["DNS:h.example"])
            .build(),
        b"junk".to_vec(),
    ];
    for (index, der) in wrong.into_iter().enumerate() {
        rig.answer([issued(id, der)]);
        assert_eq!(rig.state(id), State::Sent, "wrong answer {index}");
        assert!(rig.alarm(&format!("request/{id}")).is_some());
        assert_eq!(rig.ids(), [], "not at once");
        assert_eq!(rig.carrier.work(rig.now()), Work::Doubtful);
        rig.wait(Duration::from_secs(61));
        assert_eq!(rig.ids(), [id]);
    }
    let store = rig.carrier.store();
    assert_eq!(Inventory(store.connection()).of_request(id).unwrap(), None);
    assert_eq!(rig.carrier.counters().disbelieved, 6);
    rig.answer([rig.issued(id, 5)]);
    assert_eq!(rig.state(id), State::Done);
    assert_eq!(rig.alarm(&format!("request/{id}")), None);
}

#[test]
fn a_serial_that_was_used_before_is_not_stored_again() {
    let mut rig = Rig::connected();
    let (first, second) = (rig.insert_issue(), rig.insert_issue());
    rig.drain();
    rig.answer([rig.issued(first, 5), rig.issued(second, 5)]);
    assert_eq!((rig.state(first), rig.state(second)), (State::Done, State::Sent));
    assert!(rig.alarm(&format!("request/{second}")).unwrap().contains("used serial 05 before"));
}

#[test]
fn a_refusal_is_stored_with_code_and_text_and_the_queue_moves_on() {
    let mut rig = Rig::connected();
    let (first, second) = (rig.insert_issue(), rig.insert_issue());
    assert_eq!(rig.ids(), [first, second]);
    let refused = Answer::Refused {
        id: first,
        code: RefusalCode::ProfileConsoleOnly,
        text: "ask at the console".try_into().unwrap(),
    };
    rig.answer([refused, rig.issued(second, 5)]);
    let refusal = ("profile-console-only".to_owned(), "ask at the console".to_owned());
    assert_eq!((rig.state(first), rig.entry(first).refusal), (State::Refused, Some(refusal)));
    assert_eq!(rig.state(second), State::Done);
    assert_eq!(rig.drain(), [Request::Acknowledge(vec![first, second].try_into().unwrap())]);
    rig.carrier.handle_down();
    rig.up();
    assert_eq!(rig.ids(), [], "a refusal is final");
}

#[test]
fn revoking_what_was_never_issued_is_a_stored_refusal_and_revokes_nothing() {
    let mut rig = Rig::connected();
    let issue = rig.insert_issue();
    rig.drain();
    rig.answer([rig.issued(issue, 5)]);
    let revoke = rig.insert_revocation(6);
    assert_eq!(rig.ids(), [revoke]);
    let text = "serial 06 was never issued".try_into().unwrap();
    rig.answer([Answer::Refused { id: revoke, code: RefusalCode::SerialUnknown, text }]);
    assert_eq!(rig.state(revoke), State::Refused);
    let store = rig.carrier.store();
    let stored = Inventory(store.connection()).of_request(issue).unwrap().unwrap();
    assert_eq!(stored.revoked_at, None);
    assert_eq!(rig.questions(), [], "no CRL is asked for");
}

#[test]
fn answers_reach_only_their_request() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    let unknown = RequestId::from_bytes([0xee; 16]);
    rig.answer([rig.issued(id, 5)]);
    assert_eq!(rig.state(id), State::Queued, "not asked in this connection");
    assert_eq!(rig.ids(), [id]);
    rig.answer([
        Answer::Revoked { id, revoked_at: 1 },
        rig.issued(unknown, 5),
        Answer::Held { id: unknown, ticket: 1 },
        Answer::TimeHintTaken { unix_us: 0 },
        Answer::CatalogueUnchanged,
        Answer::CrlUnknown { authority: "issuing".parse().unwrap(), scope: CrlScope::Full },
        piece(b"x", 1, b"x", 0),
    ]);
    assert_eq!(rig.state(id), State::Sent);
    assert_eq!(rig.carrier.counters().strays, 8);
    rig.answer([rig.issued(id, 5), rig.issued(id, 6)]);
    assert_eq!(rig.entry(id).serial.unwrap().to_string(), "05");
    assert_eq!(rig.carrier.counters().strays, 9, "the second answer");
}

#[test]
fn revocations_go_first_and_the_window_is_bounded() {
    let mut rig = Rig::new();
    let issues: Vec<_> = (0..WINDOW + 10).map(|_| rig.insert_issue()).collect();
    let revocations = [rig.insert_revocation(1), rig.insert_revocation(2)];
    rig.up_with(rig.ca.catalogue("issuing"));
    let ids = rig.ids();
    assert_eq!(ids.len(), WINDOW);
    assert_eq!(ids[..2], revocations);
    assert_eq!(ids[2..], issues[..WINDOW - 2]);
    rig.answer([rig.issued(issues[0], 1), rig.issued(issues[1], 2)]);
    let late = rig.insert_revocation(3);
    assert_eq!(rig.ids(), [late, issues[WINDOW - 2]]);
}

#[test]
fn a_full_lane_delays_and_loses_nothing() {
    let mut rig = Rig::connected();
    let ids: Vec<_> = (0..3).map(|_| rig.insert_issue()).collect();
    let first = rig.carrier.poll_send(rig.now()).unwrap().unwrap();
    let first = match first {
        Request::TimeHint(_) => rig.carrier.poll_send(rig.now()).unwrap().unwrap(),
        other => other,
    };
    assert_eq!(first.request_id(), Some(ids[0]));
    rig.carrier.handle_unsent(rig.now(), first);
    assert_eq!(rig.ids(), [], "the lane is left alone");
    let wakeup = rig.carrier.poll_timeout().unwrap();
    rig.wait(wakeup.saturating_since(rig.now().instant));
    assert_eq!(rig.ids(), ids);
}

#[test]
fn a_held_request_is_asked_about_every_minute_until_a_person_decided() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    rig.drain();
    rig.answer([Answer::Held { id, ticket: 7 }]);
    assert_eq!((rig.state(id), rig.entry(id).ticket), (State::Held, Some(7)));
    assert_eq!(rig.ids(), []);
    assert_eq!(rig.carrier.work(rig.now()), Work::Idle, "a person is waited for");
    for _ in 0..3 {
        rig.wait(Duration::from_secs(59));
        assert_eq!(rig.ids(), []);
        rig.wait(Duration::from_secs(2));
        assert_eq!(rig.ids(), [id]);
        rig.answer([Answer::Held { id, ticket: 7 }]);
    }
    rig.restart();
    rig.up();
    assert_eq!(rig.ids(), [id]);
    rig.answer([rig.issued(id, 5)]);
    assert_eq!(rig.state(id), State::Done);
}

//------------ Time ----------------------------------------------------------

#[test]
fn hints_stay_fresh_while_the_queue_is_never_empty() {
    let mut rig = Rig::connected();
    let mut waiting: Vec<_> = (0..10).map(|_| rig.insert_issue()).collect();
    for serial in 1..=200 {
        rig.wait(Duration::from_millis(500));
        rig.drain();
        let id = waiting.remove(0);
        rig.answer([rig.issued(id, serial)]);
        waiting.push(rig.insert_issue());
        assert_eq!(rig.carrier.work(rig.now()), Work::Busy);
    }
    let gaps = rig.hints.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.max().unwrap() <= 10_000_000);
    assert!(rig.hints.len() <= 110, "{} hints in 100 s", rig.hints.len());
    let exchange: Exchange = Notes(rig.carrier.store().connection()).read(TIME).unwrap().unwrap();
    assert!(rig.now().unix_us - exchange.frontend_us <= 10_000_000);
}

#[test]
fn hints_go_on_when_there_is_nothing_to_do() {
    let mut rig = Rig::connected();
    for _ in 0..100 {
        rig.wait(Duration::from_secs(1));
        rig.drain();
    }
    assert!((10..=12).contains(&rig.hints.len()), "{:?}", rig.hints);
}

//------------ Catalogue -----------------------------------------------------

#[test]
fn nothing_is_asked_before_the_catalogue_is_known() {
    let mut rig = Rig::new();
    let id = rig.insert_issue();
    rig.carrier.handle_up(rig.now()).unwrap();
    let requests = rig.drain();
    assert!(matches!(requests[..], [Request::Catalogue(_)]), "{requests:?}");
    rig.answer([Answer::Catalogue(rig.ca.catalogue("issuing"))]);
    assert_eq!(rig.ids(), [id]);
}

#[test]
fn new_authority_is_known_within_a_minute_without_a_new_connection() {
    let mut rig = Rig::connected();
    rig.drain();
    let renewed = rig.ca.catalogue("later");
    let mut asked = false;
    for _ in 0..61 {
        rig.wait(Duration::from_secs(1));
        while let Some(request) = rig.carrier.poll_send(rig.now()).unwrap() {
            if matches!(request, Request::Catalogue(_)) {
                asked = true;
                rig.answer([Answer::Catalogue(renewed.clone())]);
            }
        }
    }
    assert!(asked);
    let store = rig.home.store().unwrap();
    let trusted = Catalogues(store.connection()).trusted().unwrap();
    assert!(trusted.authorities.contains_key(&"later".parse::<Name>().unwrap()));
}

#[test]
fn an_answer_of_an_authority_made_since_leads_to_the_catalogue_and_is_believed_at_once() {
    let mut rig = Rig::new();
    rig.up_with(rig.ca.catalogue("earlier"));
    let id = rig.insert_issue();
    assert_eq!(rig.ids(), [id]);
    rig.answer([rig.issued(id, 5)]);
    assert!(rig.alarm(&format!("request/{id}")).unwrap().contains("is not pinned"));
    let asked = rig.carrier.poll_send(rig.now()).unwrap();
    assert!(matches!(asked, Some(Request::Catalogue(_))), "{asked:?}");
    rig.answer([Answer::Catalogue(rig.ca.catalogue("issuing"))]);
    assert_eq!(rig.ids(), [id], "asked again at once");
    rig.answer([rig.issued(id, 5)]);
    assert_eq!((rig.state(id), rig.alarm(&format!("request/{id}"))), (State::Done, None));

    // A catalogue that knows no more is asked for once, and the request waits its minute.
    let authority = "never".parse().unwrap();
    let other = Request::Issue(IssueCertificate { authority, ..rig.issue() });
    let id = rig.insert(&other);
    assert_eq!(rig.ids(), [id]);
    rig.answer([rig.issued(id, 6)]);
    assert_eq!(rig.ids(), []);
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.ids(), [id]);
}

#[test]
fn an_authority_with_a_new_key_is_believed_only_after_a_person_accepted_it() {
    let mut rig = Rig::connected();
    rig.carrier.handle_down();
    rig.ca = TestCa::new("Root").issuing("Issuing");
    let id = rig.insert_issue();
    rig.up_with(rig.ca.catalogue("issuing"));
    assert!(rig.alarm("catalogue").is_some());
    assert_eq!(rig.ids(), [id]);
    rig.answer([rig.issued(id, 5)]);
    assert_eq!(rig.state(id), State::Sent);
    let store = rig.home.store().unwrap();
    Catalogues(store.connection()).accept(rig.now().unix_us).unwrap();
    rig.carrier.handle_queue_changed(rig.now()).unwrap();
    assert_eq!(rig.ids(), [id], "asked again at once");
    rig.answer([rig.issued(id, 5)]);
    assert_eq!(rig.state(id), State::Done);
}

#[test]
fn the_signer_is_told_the_highest_serial_that_was_seen() {
    let mut rig = Rig::connected();
    let id = rig.insert_issue();
    rig.drain();
    let serial = 0x7000_0000_0000_0001;
    rig.answer([rig.issued(id, serial)]);
    let high = |rig: &mut Rig| {
        rig.carrier.handle_up(rig.now()).unwrap();
        match rig.carrier.poll_send(rig.now()).unwrap() {
            Some(Request::Catalogue(query)) => query.serial_high,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(high(&mut rig), List::empty(), "eight octets hold no counter");
}

//------------ CRLs ----------------------------------------------------------

#[test]
fn many_revocations_make_one_crl() {
    let mut rig = Rig::connected();
    let ids: Vec<_> = (1..=200).map(|serial| rig.insert_revocation(serial)).collect();
    let mut answered = 0;
    let mut questions = 0;
    while answered < ids.len() {
        for request in rig.drain() {
            match request {
                Request::Revoke(revoke) => {
                    rig.answer([Answer::Revoked { id: revoke.id, revoked_at: 1 }]);
                    answered += 1;
                }
                Request::FetchCrl(_) => questions += 1,
                _ => {}
            }
        }
    }
    assert_eq!(questions, 0);
    assert!(ids.iter().all(|id| rig.state(*id) == State::Done));
    assert_eq!(rig.questions().len(), 1);
    let crl = rig.ca.crl(1, &(1..=200).collect::<Vec<_>>());
    rig.answer([piece(&crl, 1, &patch::pack_object(&crl, None), 0)]);
    assert_eq!(rig.published().unwrap(), crl);
    assert_eq!(rig.questions(), []);
}

#[test]
fn a_revocation_marks_the_certificate_and_fetches_a_patch() {
    let mut rig = Rig::connected();
    let old = rig.ca.crl(1, &[]);
    rig.publish(&old, 1);
    let issue = rig.insert_issue();
    rig.drain();
    rig.answer([rig.issued(issue, 5)]);
    let revoke = rig.insert_revocation(5);
    rig.drain();
    rig.answer([Answer::Revoked { id: revoke, revoked_at: 77 }]);
    let stored = Inventory(rig.carrier.store().connection()).of_request(issue).unwrap().unwrap();
    assert_eq!((stored.revoked_at, stored.reason.as_deref()), (Some(77), Some("superseded")));
    assert_eq!(rig.questions(), [(Some(Digest::of(&old)), None)]);
    let new = rig.ca.crl(2, &[5]);
    rig.answer([piece(&new, 2, &patch::pack_object(&new, Some(&old)), 0)]);
    assert_eq!(rig.published().unwrap(), new);
}

// Its answer was lost, and revocations go first: else it would be held for valid for ever.
#[test]
fn a_certificate_that_comes_after_its_revocation_is_revoked() {
    let mut rig = Rig::connected();
    let issue = rig.insert_issue();
    rig.drain();
    let revoke = rig.insert_revocation(5);
    rig.drain();
    rig.answer([Answer::Revoked { id: revoke, revoked_at: 77 }]);
    rig.answer([rig.issued(issue, 5)]);
    assert_eq!((rig.state(revoke), rig.state(issue)), (State::Done, State::Done));
    let inventory = Inventory(rig.carrier.store().connection());
    let stored = inventory.of_request(issue).unwrap().unwrap();
    assert_eq!((stored.revoked_at, stored.reason.as_deref()), (Some(77), Some("superseded")));
    let tallies = inventory.tallies().unwrap();
    assert_eq!((tallies[0].valid, tallies[0].revoked), (0, 1));
    assert!(inventory.was_revoked_since(&"issuing".parse().unwrap(), 77).unwrap());
}

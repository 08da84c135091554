//! The layer that asks again: what a frontend with a queue and a signer with a ledger do with a
//! session, reduced to what the cable can see.
//!
//! The frontend repeats every unanswered question on every new connection; the signer answers
//! each question it hears. Nothing is decided or signed here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::{
    message::{
        Answer, CrlPiece, CrlScope, CsrForm, Digest, FetchCrl, IssueCertificate, Name, Request,
        RequestId, RevocationReason, Revoke, Serial, TimeHint,
    },
    session::{SendError, Side},
    time::Duration,
};

use crate::{pair::Pair, random::Random};

/// Questions, and what became of them.
pub struct Workload {
    random: Random,
    open: BTreeMap<u64, Kind>,
    /// Asked on the present connection.
    asked: BTreeSet<u64>,
    connections: u64,
    asked_in_all: u64,
    answers: VecDeque<Answer>,
    answered_in_all: u64,
    next: u64,
}

/// The questions, one for each lane of requests or of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both ways on the control lane.
    Time,
    /// Both ways on the revocation lane.
    Revoke,
    /// Both ways on the signing lane, with a CSR of so many bytes and a certificate of a few more.
    Issue(u16),
    /// The answer comes on the bulk lane, with so many bytes.
    Crl(u16),
}

impl Workload {
    /// Nothing asked yet; the contents follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            open: BTreeMap::new(),
            asked: BTreeSet::new(),
            connections: 0,
            asked_in_all: 0,
            answers: VecDeque::new(),
            answered_in_all: 0,
            next: 0,
        }
    }

    /// Takes a question into the queue.
    pub fn ask(&mut self, kind: Kind) {
        self.open.insert(self.next, kind);
        self.next += 1;
    }

    /// Takes `count` questions of all kinds into the queue.
    pub fn ask_mixture(&mut self, count: u64) {
        for _ in 0..count {
            let kind = match self.random.below(8) {
                0 | 1 => Kind::Time,
                2 | 3 => Kind::Revoke,
                4 => Kind::Crl(self.random.below(6_000) as u16),
                _ => Kind::Issue(self.random.below(1_500) as u16),
            };
            self.ask(kind);
        }
    }

    /// Gives up what is not answered: whoever asked does not wait for it any more.
    pub fn forget_open(&mut self) {
        self.open.clear();
    }

    /// Whether nothing is left to answer.
    pub fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// The signer's program died, and with it the answers it had not sent.
    pub fn signer_restarted(&mut self) {
        self.answers.clear();
    }

    /// The frontend's program died; its queue survives.
    pub fn frontend_restarted(&mut self) {
        self.asked.clear();
    }

    /// Asks, answers and takes answers, as far as the sessions allow it now.
    pub fn turn(&mut self, pair: &mut Pair) {
        self.take_answers(pair);
        self.ask_what_is_open(pair);
        self.answer_what_arrived(pair);
    }

    /// Goes on until everything is answered.
    pub fn finish(&mut self, pair: &mut Pair, limit: Duration) {
        let what = format!("{} questions are answered", self.open.len());
        pair.drive_until(limit, &what, |pair| {
            self.turn(pair);
            self.is_done()
        });
    }

    /// Lets `duration` pass.
    pub fn run_for(&mut self, pair: &mut Pair, duration: Duration) {
        let end = pair.now() + duration;
        while pair.now() < end {
            self.turn(pair);
            pair.step(end);
        }
    }

    fn take_answers(&mut self, pair: &mut Pair) {
        while let Some(answer) = pair.poll_answer() {
            let number = number_of(&answer);
            match self.open.get(&number) {
                Some(kind) => {
                    pair.check(fits(*kind, &answer), "an answer belongs to another question");
                    self.open.remove(&number);
                }
                // Asked on two connections and answered twice.
                None => pair.check(number < self.next, "an answer to no question"),
            }
        }
    }

    fn ask_what_is_open(&mut self, pair: &mut Pair) {
        let connections = pair.counts(Side::Frontend).connections;
        if std::mem::replace(&mut self.connections, connections) != connections {
            self.asked.clear();
        }
        if !pair.is_up(Side::Frontend) {
            return;
        }
        let unasked: Vec<_> = self.open.iter().filter(|(n, _)| !self.asked.contains(n)).collect();
        for (number, kind) in unasked {
            let request = question(*number, *kind, self.asked_in_all, &mut self.random);
            match pair.request(&request) {
                Ok(()) => {
                    self.asked.insert(*number);
                    self.asked_in_all += 1;
                }
                // Another lane may still have room.
                Err(SendError::LaneFull { .. }) => {}
                Err(error) => pair.fail(&format!("the frontend cannot send: {error}")),
            }
        }
    }

    fn answer_what_arrived(&mut self, pair: &mut Pair) {
        while let Some(request) = pair.poll_request() {
            self.answers.push_back(answer_to(&request, self.answered_in_all, &mut self.random));
            self.answered_in_all += 1;
        }
        if !pair.is_up(Side::Signer) {
            // Whoever asked will ask again.
            self.answers.clear();
        }
        let waiting = std::mem::take(&mut self.answers);
        for answer in waiting {
            match pair.answer(&answer) {
                Ok(()) => {}
                Err(SendError::LaneFull { .. }) => self.answers.push_back(answer),
                Err(error) => pair.fail(&format!("the signer cannot send: {error}")),
            }
        }
    }
}

/// Each sending of a question differs from all others, so that the checker can tell them apart.
fn question(number: u64, kind: Kind, sending: u64, random: &mut Random) -> Request {
    let id = id(number, sending);
    match kind {
        Kind::Time => Request::TimeHint(TimeHint {
            unix_us: number as i64,
            round_trip_us: Some(sending as u32),
            synchronised: true,
        }),
        Kind::Revoke => Request::Revoke(Revoke {
            id,
            authority: name("issuing"),
            serial: Serial::from_magnitude(&[1, 2, 3]).expect("three octets"),
            reason: RevocationReason::Superseded,
        }),
        Kind::Issue(length) => Request::Issue(IssueCertificate {
            id,
            authority: name("issuing"),
            profile: name("server"),
            days: None,
            subject: None,
            subject_alt_names: None,
            form: CsrForm::Pkcs10,
            csr: bytes(length, random).try_into().expect("shorter than CSR_MAX"),
        }),
        Kind::Crl(length) => Request::FetchCrl(FetchCrl {
            authority: name("issuing"),
            scope: CrlScope::Full,
            have: Some(digest(number, sending)),
            resume: Some((digest(length.into(), 0), 0)),
        }),
    }
}

fn answer_to(request: &Request, sending: u64, random: &mut Random) -> Answer {
    match request {
        Request::TimeHint(hint) => Answer::TimeHintTaken {
            // The high half tells the sendings apart.
            unix_us: hint.unix_us | (sending as i64) << 32,
        },
        Request::Revoke(revoke) => Answer::Revoked { id: revoke.id, revoked_at: sending as i64 },
        Request::Issue(issue) => {
            let length = issue.csr.len() as u16 + random.below(300) as u16;
            let certificate = bytes(length, random).try_into().expect("shorter than the bound");
            Answer::Issued { id: issue.id, certificate }
        }
        Request::FetchCrl(fetch) => {
            let have = fetch.have.expect("asked so above");
            let (length, _) = fetch.resume.expect("asked so above");
            let length = numbers(length.as_bytes()).0 as u16;
            Answer::CrlPiece(CrlPiece {
                authority: fetch.authority.clone(),
                scope: fetch.scope,
                crl_number: numbers(have.as_bytes()).0,
                crl_digest: have,
                crl_length: 1 << 20,
                packed_digest: digest(sending, 0),
                packed_length: 1 << 20,
                offset: 0,
                bytes: bytes(length, random).try_into().expect("shorter than PIECE_MAX"),
            })
        }
        other => unreachable!("the workload asks nothing like {other:?}"),
    }
}

fn fits(kind: Kind, answer: &Answer) -> bool {
    matches!(
        (kind, answer),
        (Kind::Time, Answer::TimeHintTaken { .. })
            | (Kind::Revoke, Answer::Revoked { .. })
            | (Kind::Issue(_), Answer::Issued { .. })
            | (Kind::Crl(_), Answer::CrlPiece(_))
    )
}

fn number_of(answer: &Answer) -> u64 {
    match answer {
        Answer::TimeHintTaken { unix_us } => *unix_us as u64 & 0xffff_ffff,
        Answer::Revoked { id, .. } | Answer::Issued { id, .. } => numbers(id.as_bytes()).0,
        Answer::CrlPiece(piece) => piece.crl_number,
        other => unreachable!("the workload answers nothing like {other:?}"),
    }
}

fn id(number: u64, sending: u64) -> RequestId {
    let both = u128::from(number) << 64 | u128::from(sending);
    RequestId::from_bytes(both.to_be_bytes())
}

fn digest(number: u64, sending: u64) -> Digest {
    let mut octets = [0; 32];
    octets[..16].copy_from_slice(id(number, sending).as_bytes());
    Digest::from_bytes(octets)
}

fn numbers(octets: &[u8]) -> (u64, u64) {
    let half = |range| octets.get(range).and_then(|half: &[u8]| half.try_into().ok());
    let number = |range| half(range).map_or(0, u64::from_be_bytes);
    (number(0..8), number(8..16))
}

fn name(text: &str) -> Name {
    text.parse().expect("a literal name")
}

fn bytes(length: u16, random: &mut Random) -> Vec<u8> {
    (0..length).map(|_| random.byte()).collect()
}

//! The process that sees the wire: untrusted bytes in, small typed calls out.
//!
//! [`Gate`] decides nothing but the order of steps: ask the vault whether it knows the request,
//! have the intake vet it, call the vault, carry the answer. It holds no key, opens no store, and
//! keeps nothing that the vault would need after a crash. [`driver`] moves the bytes.

use std::collections::HashMap;

use protocol::{
    bounded::{Bytes, Text},
    message::{Answer, CsrForm, Digest, Message as _, Request},
};

use crate::{
    call::{Call, Certify, Issue, Reply, Tagged},
    intake::{Outcome, worker::Job},
};

pub mod bundle;
pub mod driver;
mod pump;

/// Requests in work at once; a frontend that obeys the protocol has 128. More are dropped, and
/// asked again by the frontend when the line is up anew.
pub const PENDING_MAX: usize = 256;

/// Bytes of requests in work beyond which no more are taken from the cable: the gate stays within
/// 16 MiB whatever comes. One request may pass it.
pub const PENDING_BYTES_MAX: usize = 1024 * 1024;

/// What a request in work costs beside its bytes.
const PENDING_EACH: usize = 512;

/// What is to be done next.
#[derive(Debug)]
pub enum Action {
    /// Send this to the vault.
    Call(Tagged<Call>),
    /// Have this vetted.
    Vet(u64, Job),
    /// Send this to the frontend.
    Answer(Answer),
}

/// Where a request stands.
#[derive(Debug)]
enum Pending {
    /// The vault is asked whether it knows the request.
    Known(Request, Digest),
    /// The intake vets it.
    Vetting(Request, Digest),
    /// The vault decides.
    Deciding,
}

/// The gate's state: which request stands where.
#[derive(Debug, Default)]
pub struct Gate {
    /// With what each costs.
    pending: HashMap<u64, (Pending, usize)>,
    bytes: usize,
    next_tag: u64,
    dropped: u64,
}

impl Gate {
    /// A request arrived.
    pub fn on_request(&mut self, request: Request, round_trip_us: Option<u32>) -> Option<Action> {
        if self.pending.len() >= PENDING_MAX {
            self.dropped += 1;
            tracing::warn!(dropped = self.dropped, "too many requests at once; one is dropped");
            return None;
        }
        let cost = PENDING_EACH + cost_of(&request);
        let (call, pending) = match request {
            Request::Issue(_) | Request::Certify(_) => {
                let digest = digest_of(&request)?;
                let id = protocol::message::Message::request_id(&request)?;
                (Call::Known { id, digest }, Pending::Known(request, digest))
            }
            Request::Revoke(ref revoke) => {
                let digest = digest_of(&request)?;
                (Call::Revoke { digest, revoke: revoke.clone() }, Pending::Deciding)
            }
            Request::RevokeOpenPgp(ref revoke) => {
                let digest = digest_of(&request)?;
                (Call::RevokeOpenPgp { digest, revoke: revoke.clone() }, Pending::Deciding)
            }
            Request::TimeHint(hint) => (Call::TimeHint { hint, round_trip_us }, Pending::Deciding),
            Request::Status => (Call::Status, Pending::Deciding),
            Request::Catalogue(query) => (Call::Catalogue(query), Pending::Deciding),
            Request::FetchCrl(fetch) => (Call::FetchCrl(fetch), Pending::Deciding),
            Request::FetchLog(fetch) => (Call::FetchLog(fetch), Pending::Deciding),
            Request::Acknowledge(ids) => {
                let tag = self.take_tag();
                return Some(Action::Call(Tagged { tag, body: Call::Acknowledge(ids) }));
            }
        };
        let tag = self.take_tag();
        self.put(tag, pending, cost);
        Some(Action::Call(Tagged { tag, body: call }))
    }

    /// The vault replied. `unix_s` is the time that OpenPGP keys are judged by.
    pub fn on_reply(&mut self, reply: Tagged<Reply>, unix_s: u64) -> Option<Action> {
        let Tagged { tag, body } = reply;
        let (pending, cost) = self.take(tag)?;
        match (pending, body) {
            (_, Reply::Answer(answer)) => Some(Action::Answer(answer)),
            (Pending::Known(mut request, digest), Reply::Unknown) => {
                // The job takes the bytes along: what is vetted is held once.
                let job = match &mut request {
                    Request::Issue(issue) => match issue.form {
                        CsrForm::Pkcs10 => {
                            Job::Csr(std::mem::replace(&mut issue.csr, Bytes::empty()))
                        }
                        CsrForm::Spkac => {
                            Job::Spkac(std::mem::replace(&mut issue.csr, Bytes::empty()))
                        }
                    },
                    Request::Certify(certify) => Job::OpenPgp {
                        key: std::mem::replace(&mut certify.key, Bytes::empty()),
                        user_ids: certify.user_ids.clone(),
                        unix_s,
                    },
                    _ => return None,
                };
                self.put(tag, Pending::Vetting(request, digest), cost);
                Some(Action::Vet(tag, job))
            }
            (_, Reply::Unknown | Reply::NotNow) => None,
        }
    }

    /// The intake is done with a request.
    pub fn on_verdict(&mut self, tag: u64, outcome: Outcome) -> Option<Action> {
        let Some((Pending::Vetting(request, digest), cost)) = self.take(tag) else {
            return None; // the line broke meanwhile; the request comes again
        };
        let id = protocol::message::Message::request_id(&request)?;
        let call = match (request, outcome) {
            (Request::Issue(request), Outcome::Csr(csr)) => Call::Issue(Box::new(Issue {
                id,
                digest,
                authority: request.authority,
                profile: request.profile,
                days: request.days,
                subject: request.subject,
                subject_alt_names: request.subject_alt_names,
                csr: *csr,
            })),
            (Request::Certify(request), Outcome::OpenPgp(key)) => {
                Call::Certify(Box::new(Certify {
                    id,
                    digest,
                    authority: request.authority,
                    policy: request.policy,
                    days: request.days,
                    renew: request.renew,
                    key: *key,
                }))
            }
            (_, Outcome::Refused(refusal)) => {
                let text = Text::truncated(&refusal.text);
                Call::Refuse { id, digest, code: refusal.code, text }
            }
            (_, Outcome::Broke { text }) => {
                Call::Quarantine { id, digest, text: Text::truncated(&text) }
            }
            (_, Outcome::Csr(_) | Outcome::OpenPgp(_)) => {
                let text = "the intake answered for another kind of request";
                Call::Quarantine { id, digest, text: Text::truncated(text) }
            }
        };
        self.put(tag, Pending::Deciding, cost);
        Some(Action::Call(Tagged { tag, body: call }))
    }

    /// The connection ended: what was under way is asked again by the frontend.
    pub fn on_down(&mut self) {
        self.pending.clear();
        self.bytes = 0;
    }

    /// Whether another request is to be taken from the cable. While none is, the session keeps
    /// what comes, within its own bounds, and the frontend waits.
    pub fn has_room(&self) -> bool {
        self.pending.len() < PENDING_MAX && self.bytes < PENDING_BYTES_MAX
    }

    /// How many requests are in work.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn put(&mut self, tag: u64, pending: Pending, cost: usize) {
        self.bytes += cost;
        self.pending.insert(tag, (pending, cost));
    }

    fn take(&mut self, tag: u64) -> Option<(Pending, usize)> {
        let (pending, cost) = self.pending.remove(&tag)?;
        self.bytes -= cost;
        Some((pending, cost))
    }

    fn take_tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }
}

/// How many bytes a request has.
fn cost_of(request: &Request) -> usize {
    request.to_bytes().map_or(0, |bytes| bytes.len())
}

fn digest_of(request: &Request) -> Option<Digest> {
    // What was just decoded can be encoded.
    request.digest().inspect_err(|error| tracing::error!(%error, "request without digest")).ok()
}

#[cfg(test)]
mod tests {
    use protocol::{
        bounded::{Bytes, List},
        message::{IssueCertificate, RefusalCode, RequestId, TimeHint},
    };

    use super::*;
    use crate::refusal::Refusal;

    fn issue(id: u8) -> Request {
        Request::Issue(IssueCertificate {
            id: RequestId::from_bytes([id; 16]),
            authority: "issuing".parse().unwrap(),
            profile: "server".parse().unwrap(),
            days: None,
            subject: None,
            subject_alt_names: None,
            form: protocol::message::CsrForm::Pkcs10,
            csr: Bytes::try_from(vec![id]).unwrap(),
        })
    }

    fn call(action: Option<Action>) -> Tagged<Call> {
        match action {
            Some(Action::Call(call)) => call,
            other => panic!("a call was expected: {other:?}"),
        }
    }

    fn refused(id: u8) -> Answer {
        Answer::Refused {
            id: RequestId::from_bytes([id; 16]),
            code: RefusalCode::CsrMalformed,
            text: protocol::bounded::Text::truncated("no CSR"),
        }
    }

    #[test]
    fn known_request_is_answered_without_vetting_it_again() {
        let mut gate = Gate::default();
        let asked = call(gate.on_request(issue(1), None));
        assert!(matches!(asked.body, Call::Known { .. }));
        let reply = Tagged { tag: asked.tag, body: Reply::Answer(refused(1)) };
        assert!(
            matches!(gate.on_reply(reply, 0), Some(Action::Answer(answer)) if answer == refused(1))
        );
        assert_eq!(gate.pending(), 0);
    }

    #[test]
    fn unknown_request_is_vetted_then_decided() {
        let mut gate = Gate::default();
        let asked = call(gate.on_request(issue(1), None));
        let Some(Action::Vet(tag, job)) =
            gate.on_reply(Tagged { tag: asked.tag, body: Reply::Unknown }, 0)
        else {
            panic!("the intake is asked")
        };
        assert_eq!(job, Job::Csr(Bytes::try_from(vec![1]).unwrap()));
        let no = Refusal::new(RefusalCode::CsrMalformed, "no CSR");
        let told = call(gate.on_verdict(tag, Outcome::Refused(no)));
        assert!(matches!(told.body, Call::Refuse { code: RefusalCode::CsrMalformed, .. }));
        // The refusal is the vault's to record before the frontend hears of it.
        let reply = Tagged { tag: told.tag, body: Reply::Answer(refused(1)) };
        assert!(matches!(gate.on_reply(reply, 0), Some(Action::Answer(_))));
    }

    #[test]
    fn form_of_the_request_is_what_was_declared_and_never_guessed() {
        let mut gate = Gate::default();
        let Request::Issue(mut request) = issue(1) else { unreachable!("made as one") };
        request.form = CsrForm::Spkac;
        let asked = call(gate.on_request(Request::Issue(request), None));
        let vet = gate.on_reply(Tagged { tag: asked.tag, body: Reply::Unknown }, 0);
        let Some(Action::Vet(_, job)) = vet else { panic!("the intake is asked") };
        assert_eq!(job, Job::Spkac(Bytes::try_from(vec![1]).unwrap()));
    }

    #[test]
    fn request_that_broke_the_intake_is_quarantined() {
        let mut gate = Gate::default();
        let asked = call(gate.on_request(issue(1), None));
        gate.on_reply(Tagged { tag: asked.tag, body: Reply::Unknown }, 0);
        let broke = Outcome::Broke { text: "the worker died".into() };
        let told = call(gate.on_verdict(asked.tag, broke));
        assert!(matches!(told.body, Call::Quarantine { .. }));
    }

    #[test]
    fn replies_and_verdicts_of_a_broken_connection_are_dropped() {
        let mut gate = Gate::default();
        let first = call(gate.on_request(issue(1), None));
        let second = call(gate.on_request(issue(2), None));
        gate.on_reply(Tagged { tag: second.tag, body: Reply::Unknown }, 0);
        gate.on_down();
        let late = Tagged { tag: first.tag, body: Reply::Answer(refused(1)) };
        assert!(gate.on_reply(late, 0).is_none());
        let broke = Outcome::Broke { text: "late".into() };
        assert!(gate.on_verdict(second.tag, broke).is_none());
    }

    #[test]
    fn flood_is_dropped_and_never_queued() {
        let mut gate = Gate::default();
        for id in 0..PENDING_MAX {
            assert!(gate.on_request(issue(id as u8), None).is_some());
        }
        assert!(gate.on_request(issue(0), None).is_none());
        assert_eq!(gate.pending(), PENDING_MAX);
    }

    /// Invariant I18: long requests fill the gate sooner than many do, and what is over gives its
    /// room back.
    #[test]
    fn no_more_is_taken_while_a_mebibyte_of_requests_is_in_work() {
        let mut gate = Gate::default();
        let long = |id: u8| {
            let Request::Issue(mut request) = issue(id) else { unreachable!("made above") };
            request.csr = Bytes::try_from(vec![id; 60_000]).unwrap();
            Request::Issue(request)
        };
        let mut tags = Vec::new();
        while gate.has_room() {
            tags.push(call(gate.on_request(long(tags.len() as u8), None)).tag);
        }
        assert!((17..=18).contains(&tags.len()), "{} requests", tags.len());
        // Vetting changes nothing: the job has the bytes now, and the request has its place.
        let asked = gate.on_reply(Tagged { tag: tags[0], body: Reply::Unknown }, 0);
        assert!(matches!(asked, Some(Action::Vet(_, Job::Csr(csr))) if csr.len() == 60_000));
        assert!(!gate.has_room());
        let refusal = Outcome::Refused(Refusal::new(RefusalCode::KeyWeak, "weak"));
        assert!(gate.on_verdict(tags[0], refusal).is_some() && !gate.has_room());
        for (index, tag) in tags.iter().enumerate() {
            let body = Reply::Answer(refused(index as u8));
            assert!(gate.on_reply(Tagged { tag: *tag, body }, 0).is_some() && gate.has_room());
        }
        assert_eq!((gate.pending(), gate.bytes), (0, 0));
        // A line that broke gives everything back at once.
        gate.on_request(long(1), None);
        gate.on_down();
        assert_eq!(gate.bytes, 0);
    }

    #[test]
    fn housekeeping_and_acknowledgements_need_no_vetting() {
        let mut gate = Gate::default();
        let hint = TimeHint { unix_us: 1, round_trip_us: None, synchronised: true };
        let told = call(gate.on_request(Request::TimeHint(hint), Some(5)));
        assert!(matches!(told.body, Call::TimeHint { round_trip_us: Some(5), .. }));
        let told = call(gate.on_request(Request::Acknowledge(List::empty()), None));
        assert!(matches!(told.body, Call::Acknowledge(_)));
        assert_eq!(gate.pending(), 1, "an acknowledgement has no reply to wait for");
    }
}

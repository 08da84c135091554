//! Stories of two sessions, their keys, and who else is on the cable: whole programs' bytes on
//! virtual time. What a change of single records does is told beside the code, in
//! `src/secure/tests.rs`.
#![expect(clippy::unwrap_used, reason = "tests and what they are made of")]

use protocol::{
    link::EndpointConfig,
    message::{Answer, CsrForm, IssueCertificate, Request, RequestId},
    secure::{Entropy, Failure, KEY_BYTES, Pairing},
    session::{Event, FrontendSession, SessionConfig, Side, SignerSession},
    time::{Duration, Instant},
};

const PACED: Option<u32> = Some(11_520);
const SECRET_NAME: &str = "Somebody Who Would Rather Not Be Known";

/// Two programs on a line without faults, and what crossed it.
struct Pair {
    now: Instant,
    frontend: FrontendSession,
    signer: SignerSession,
    /// What the frontend and the signer wrote.
    tapes: [Vec<u8>; 2],
    requests: Vec<Request>,
    answers: Vec<Answer>,
    news: Vec<String>,
}

fn config(side: Side, boot_id: u64, line_rate: Option<u32>, pairing: &Pairing) -> SessionConfig {
    let link = EndpointConfig { side, boot_id, line_rate };
    SessionConfig { link, pairing: pairing.clone(), entropy: Entropy::seeded(boot_id) }
}

impl Pair {
    fn of(pairings: (&Pairing, &Pairing), boot_ids: (u64, u64), rate: Option<u32>) -> Self {
        let now = Instant::ZERO;
        let frontend = config(Side::Frontend, boot_ids.0, rate, pairings.0);
        let signer = config(Side::Signer, boot_ids.1, rate, pairings.1);
        Self {
            now,
            frontend: FrontendSession::new(frontend, now),
            signer: SignerSession::new(signer, now),
            tapes: Default::default(),
            requests: Vec::new(),
            answers: Vec::new(),
            news: Vec::new(),
        }
    }

    fn paired(boot_ids: (u64, u64), rate: Option<u32>) -> Self {
        let (frontend, signer) = Pairing::both(1);
        Self::of((&frontend, &signer), boot_ids, rate)
    }

    /// Moves what is there, at this moment.
    fn settle(&mut self) {
        loop {
            let up = self.frontend.poll_transmit(self.now);
            let down = self.signer.poll_transmit(self.now);
            if up.is_none() && down.is_none() {
                break;
            }
            if let Some(bytes) = up {
                self.tapes[0].extend(&bytes);
                self.signer.handle_bytes(self.now, &bytes);
            }
            if let Some(bytes) = down {
                self.tapes[1].extend(&bytes);
                self.frontend.handle_bytes(self.now, &bytes);
            }
            self.hear();
        }
        self.hear();
    }

    fn hear(&mut self) {
        while let Some(event) = self.frontend.poll_event() {
            match event {
                Event::Message(answer) => self.answers.push(answer),
                event => self.news.push(format!("frontend {event:?}")),
            }
        }
        while let Some(event) = self.signer.poll_event() {
            match event {
                Event::Message(request) => self.requests.push(request),
                event => self.news.push(format!("signer {event:?}")),
            }
        }
    }

    fn drive(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while self.now < end {
            let timeouts = [self.frontend.poll_timeout(), self.signer.poll_timeout()];
            self.now = timeouts.into_iter().flatten().min().unwrap_or(end).clamp(self.now, end);
            self.frontend.handle_timeout(self.now);
            self.signer.handle_timeout(self.now);
            self.settle();
        }
    }

    fn ask(&mut self, number: u8, csr_len: usize) -> Request {
        let mut csr = SECRET_NAME.repeat(2).into_bytes();
        csr.resize(csr_len, number);
        let request = Request::Issue(IssueCertificate {
            id: RequestId::from_bytes([number; 16]),
            authority: "issuing".parse().unwrap(),
            profile: "server".parse().unwrap(),
            days: None,
            subject: None,
            subject_alt_names: None,
            form: CsrForm::Pkcs10,
            csr: csr.try_into().unwrap(),
        });
        self.frontend.send(self.now, &request).unwrap();
        request
    }

    fn talk(&mut self, number: u8) {
        let request = self.ask(number, 600);
        self.drive(Duration::from_secs(1));
        assert_eq!(self.requests.last(), Some(&request));
        let id = RequestId::from_bytes([number; 16]);
        let answer = Answer::Held { id, ticket: number.into() };
        self.signer.send(self.now, &answer).unwrap();
        self.drive(Duration::from_secs(1));
        assert_eq!(self.answers.last(), Some(&answer));
    }
}

#[test]
fn up_comes_at_both_ends_after_the_handshake_and_within_a_second() {
    for rate in [PACED, None] {
        let mut pair = Pair::paired((1, 2), rate);
        pair.drive(Duration::from_secs(1));
        pair.news.sort();
        assert_eq!(pair.news, ["frontend Up", "signer Up"]);
        pair.talk(1);
    }
}

#[test]
fn a_tap_reads_nothing() {
    for rate in [PACED, None] {
        let mut pair = Pair::paired((1, 2), rate);
        pair.drive(Duration::from_secs(1));
        pair.talk(0xa7);
        let secrets = [SECRET_NAME.as_bytes(), b"issuing", b"server", &[0xa7; 16]];
        for (tape, secret) in pair.tapes.iter().flat_map(|tape| secrets.map(|s| (tape, s))) {
            let part = &secret[..6];
            let found = tape.windows(part.len()).any(|window| window == part);
            assert!(!found, "{part:?} is on the line");
        }
    }
}

#[test]
fn a_recorded_session_played_back_at_either_side_does_nothing() {
    let mut first = Pair::paired((1, 2), PACED);
    first.drive(Duration::from_secs(1));
    for number in 1..20 {
        first.talk(number);
    }
    let [up, down] = first.tapes.clone();
    // At programs that were started anew, in pieces, with time for their timers.
    let mut later = Pair::paired((3, 4), PACED);
    for (up, down) in up.chunks(97).zip(down.chunks(97).cycle()) {
        later.signer.handle_bytes(later.now, up);
        later.frontend.handle_bytes(later.now, down);
        later.hear();
        later.now += Duration::from_millis(40);
        later.signer.handle_timeout(later.now);
        later.frontend.handle_timeout(later.now);
        while let Some(bytes) = later.signer.poll_transmit(later.now) {
            assert!(bytes.len() < 4096);
        }
        while later.frontend.poll_transmit(later.now).is_some() {}
        assert!(!later.signer.is_up() && !later.frontend.is_up());
    }
    assert!(later.requests.is_empty() && later.answers.is_empty(), "{:?}", later.news);
    // And when the player is gone, the real ones find each other.
    later.drive(Duration::from_secs(5));
    assert!(later.signer.is_up() && later.frontend.is_up(), "{:?}", later.news);
    later.talk(30);
    assert_eq!((later.requests.len(), later.answers.len()), (1, 1));

    // At the same programs, in the middle of their session.
    let (heard, told) = (first.requests.len(), first.answers.len());
    first.signer.handle_bytes(first.now, &up);
    first.frontend.handle_bytes(first.now, &down);
    // And each end's own words.
    first.signer.handle_bytes(first.now, &down);
    first.frontend.handle_bytes(first.now, &up);
    first.drive(Duration::from_secs(5));
    assert_eq!((first.requests.len(), first.answers.len()), (heard, told));
    first.talk(40);
}

#[test]
fn a_stranger_s_key_talks_to_nobody_and_both_ends_say_so_without_filling_log_or_line() {
    let (frontend, signer) = Pairing::both(1);
    let (stranger, _) = Pairing::both(2);
    let impostor = Pairing { peer: frontend.peer, ..stranger };
    let mut pair = Pair::of((&impostor, &signer), (1, 2), PACED);
    pair.drive(Duration::from_secs(600));
    assert!(!pair.frontend.is_up() && !pair.signer.is_up());
    assert!(pair.requests.is_empty() && pair.answers.is_empty());
    for (who, failure) in [("frontend", Failure::Refused), ("signer", Failure::Stranger)] {
        let told = format!("{who} Refused {{ failure: {failure:?} }}");
        let count = pair.news.iter().filter(|news| **news == told).count();
        assert!((9..=11).contains(&count), "{count} times: {:?}", pair.news);
        assert!(failure.to_string().contains("signer pair --show"), "{failure}");
    }
    assert_eq!(pair.news.iter().filter(|news| !news.contains("Refused")).count(), 0);
    let counters = pair.signer.counters();
    assert!((100..=320).contains(&counters.handshakes_failed), "{counters:?}");
    // A hundredth of the line.
    assert!(pair.tapes.iter().all(|tape| tape.len() < 600 * 115), "{:?}", counters.link);
    // Nobody may send, and the right key is let in at once.
    pair.frontend = FrontendSession::new(config(Side::Frontend, 9, PACED, &frontend), pair.now);
    pair.drive(Duration::from_secs(5));
    assert!(pair.frontend.is_up() && pair.signer.is_up());
    pair.talk(1);
}

#[test]
fn keys_change_in_the_middle_of_a_session_and_nobody_notices() {
    let mut pair = Pair::paired((1, 2), None);
    pair.drive(Duration::from_secs(1));
    let mut sent = 0;
    let mut number = 0u8;
    while sent < 3 * KEY_BYTES as usize {
        number = number.wrapping_add(1);
        pair.ask(number, 60_000);
        sent += 60_000;
        pair.drive(Duration::from_millis(10));
    }
    // An idle hour or two changes them as well.
    pair.drive(Duration::from_secs(3 * 3600));
    assert_eq!(pair.requests.len(), sent / 60_000);
    pair.talk(1);
    assert_eq!(pair.news.len(), 2, "{:?}", pair.news);
    assert_eq!(pair.signer.counters().link.connections, 1);
    assert_eq!(pair.signer.counters().keys_worn_out, 0);
}

#[test]
fn the_same_seeds_put_the_same_bytes_on_the_line() {
    let run = || {
        let mut pair = Pair::paired((1, 2), PACED);
        pair.drive(Duration::from_secs(1));
        pair.talk(1);
        pair.tapes
    };
    assert_eq!(run(), run());
}

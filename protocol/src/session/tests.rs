//! What only a look inside can provoke: peers whose memories differ, and peers that lie.

use super::*;
use crate::message::{CsrForm, IssueCertificate, RequestId};

struct Pair {
    now: Instant,
    frontend: FrontendSession,
    signer: SignerSession,
    heard: Vec<Request>,
    news: Vec<String>,
}

impl Pair {
    fn connected() -> Self {
        let now = Instant::ZERO;
        let (frontend, signer) = Pairing::both(1);
        let config = |side, boot_id, pairing| SessionConfig {
            link: EndpointConfig { side, boot_id, line_rate: Some(11_520) },
            pairing,
            entropy: Entropy::seeded(boot_id),
        };
        let mut pair = Self {
            now,
            frontend: Session::new(config(Side::Frontend, 1, frontend), now),
            signer: Session::new(config(Side::Signer, 2, signer), now),
            heard: Vec::new(),
            news: Vec::new(),
        };
        pair.drive(Duration::from_secs(1));
        assert!(pair.frontend.is_up() && pair.signer.is_up());
        pair.news.clear();
        pair
    }

    fn drive(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while let Some(bytes) = self.frontend.poll_transmit(self.now) {
                self.signer.handle_bytes(self.now, &bytes);
            }
            while let Some(bytes) = self.signer.poll_transmit(self.now) {
                self.frontend.handle_bytes(self.now, &bytes);
            }
            while let Some(event) = self.frontend.poll_event() {
                self.news.push(format!("frontend {event:?}"));
            }
            while let Some(event) = self.signer.poll_event() {
                match event {
                    Event::Message(request) => self.heard.push(request),
                    event => self.news.push(format!("signer {event:?}")),
                }
            }
            let timeouts = [self.frontend.poll_timeout(), self.signer.poll_timeout()];
            self.now = timeouts.into_iter().flatten().min().unwrap_or(end).clamp(self.now, end);
            self.frontend.handle_timeout(self.now);
            self.signer.handle_timeout(self.now);
        }
    }
}

fn issue(number: u8) -> Request {
    Request::Issue(IssueCertificate {
        id: RequestId::from_bytes([number; 16]),
        authority: "issuing".parse().unwrap(),
        profile: "server".parse().unwrap(),
        days: None,
        subject: None,
        subject_alt_names: None,
        form: CsrForm::Pkcs10,
        csr: (0..600u32)
            .map(|i| ((i * i) >> 3) as u8 ^ 0x5a)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
    })
}

#[test]
fn a_patch_whose_reference_is_gone_heals_by_one_plain_connection() {
    let mut pair = Pair::connected();
    pair.frontend.send(pair.now, &issue(1)).unwrap();
    pair.drive(Duration::from_secs(1));
    assert_eq!(pair.heard, [issue(1)]);
    // The signer forgets what it has seen.
    pair.signer.histories = Histories::default();
    pair.frontend.send(pair.now, &issue(2)).unwrap();
    pair.drive(Duration::from_secs(2));
    assert_eq!(pair.heard.len(), 1);
    assert_eq!(pair.signer.counters().patches_failed, 1);
    let down = "signer Down { reason: PatchFailed(MissingReference { name: ";
    assert!(pair.news[0].starts_with(down), "{:?}", pair.news);
    let seen = "frontend Down { reason: PeerRestarted }";
    assert_eq!(pair.news[1..], [seen, "frontend Up", "signer Up"]);
    // The next connection is plain, so the same message arrives now.
    assert!(!pair.frontend.references && pair.signer.references);
    for number in [2, 3, 4] {
        pair.frontend.send(pair.now, &issue(number)).unwrap();
    }
    pair.drive(Duration::from_secs(1));
    assert_eq!(pair.heard[1..], [issue(2), issue(3), issue(4)]);
    // And the one after that is as before.
    pair.signer.endpoint.disconnect(DownReason::Silence { seconds: 0 });
    pair.drive(Duration::from_secs(1));
    assert!(pair.frontend.is_up() && pair.frontend.references);
}

#[test]
fn a_peer_whose_patches_all_fail_costs_one_connection_a_second() {
    let mut pair = Pair::connected();
    // One reference that nobody has, a check, a length, and no more.
    let container = [&[2][..], &[0xee; 12], &[1]].concat();
    for _ in 0..300 {
        if pair.frontend.is_up() && pair.frontend.outgoing.is_empty() {
            pair.frontend.outgoing.push(Lane::Signing, container.clone());
        }
        pair.drive(Duration::from_millis(100));
    }
    let counters = pair.signer.counters();
    assert!((20..=31).contains(&counters.patches_failed), "{counters:?}");
    assert!(counters.link.bytes_sent < 30 * 300, "{counters:?}");
    // The next good message arrives all the same.
    pair.drive(Duration::from_secs(2));
    pair.frontend.send(pair.now, &issue(1)).unwrap();
    pair.drive(Duration::from_secs(1));
    assert_eq!(pair.heard, [issue(1)]);
}

#[test]
fn bytes_that_are_no_message_are_dropped_and_the_session_goes_on() {
    let mut pair = Pair::connected();
    pair.frontend.outgoing.push(Lane::Control, patch::store(&[99, 1, 2]));
    pair.frontend.send(pair.now, &issue(1)).unwrap();
    pair.drive(Duration::from_secs(1));
    assert_eq!(pair.heard, [issue(1)]);
    assert_eq!(pair.signer.counters().messages_undecodable, 1);
    assert_eq!(pair.news.len(), 1);
    assert!(pair.news[0].starts_with("signer Undecodable { lane: Control"), "{:?}", pair.news);
}

#[test]
fn segments_that_no_program_sends_end_the_connection_with_the_reason() {
    let mut pair = Pair::connected();
    // A chunk that continues nothing: the sender of it forgot that it had begun a message.
    pair.frontend.outgoing.push(Lane::Bulk, patch::store(&[7; 3000]));
    pair.drive(Duration::from_millis(200));
    pair.signer.incoming = lanes::Incoming::default();
    pair.drive(Duration::from_secs(1));
    let what = "a chunk continues no message";
    let down = format!("signer Down {{ reason: PeerMisbehaved {{ what: {what:?} }} }}");
    assert!(pair.news.contains(&down), "{:?}", pair.news);
    assert_eq!(pair.signer.counters().segments_misbehaved, 1);
    assert!(pair.frontend.is_up() && pair.signer.is_up());
}

#[test]
fn what_is_not_read_waits_in_the_link_and_memory_stays_bounded() {
    let mut pair = Pair::connected();
    let bulky = patch::store(&[1; 100_000]);
    // The signer's program reads nothing for three minutes.
    for _ in 0..4000 {
        if pair.frontend.is_up() && pair.frontend.outgoing.has_room(Lane::Bulk) {
            pair.frontend.outgoing.push(Lane::Bulk, bulky.clone());
        }
        while let Some(bytes) = pair.frontend.poll_transmit(pair.now) {
            pair.signer.handle_bytes(pair.now, &bytes);
        }
        while let Some(bytes) = pair.signer.poll_transmit(pair.now) {
            pair.frontend.handle_bytes(pair.now, &bytes);
        }
        pair.now += Duration::from_millis(90);
        pair.frontend.handle_timeout(pair.now);
        pair.signer.handle_timeout(pair.now);
    }
    assert!(pair.signer.unread.cost < UNREAD_MAX + bulky.len() + UNREAD_EACH);
    let counters = pair.signer.counters();
    // The line could have carried four times as much.
    let received = counters.link.bytes_received as usize;
    assert!(received < UNREAD_MAX + 2 * bulky.len() + link::WINDOW * 800, "{counters:?}");
    // It reads again, and nothing was lost on the way.
    pair.drive(Duration::from_secs(120));
    assert!(pair.frontend.outgoing.is_empty());
    assert_eq!(pair.signer.counters().segments_misbehaved, 0);
    assert_eq!(pair.signer.counters().link.connections, 1);
}

#[test]
fn references_are_those_that_the_other_end_still_has() {
    // Far more messages than are kept, of lengths that make the byte bound matter too, and some
    // too long to be kept at all.
    let mut pair = Pair::connected();
    for number in 0..300u32 {
        let Request::Issue(mut request) = issue(number as u8) else { unreachable!() };
        let length = [500, 3000, 9000, 40][number as usize % 4];
        let csr: Vec<u8> = (0..length).map(|i: u32| ((i * (number % 7 + 1)) >> 2) as u8).collect();
        request.csr = csr.try_into().unwrap();
        pair.frontend.send(pair.now, &Request::Issue(request)).unwrap();
        if number % 50 == 0 {
            pair.drive(Duration::from_secs(10));
        }
    }
    pair.drive(Duration::from_secs(120));
    assert_eq!(pair.heard.len(), 300);
    assert_eq!(pair.signer.counters().patches_failed, 0);
}

#[test]
fn very_many_tiny_messages_are_bounded_too() {
    let mut pair = Pair::connected();
    let mut incoming = lanes::Incoming::default();
    // One byte each: head, length, content.
    let segment = [Lane::Control as u8 | 4, 1, 0].repeat(1000);
    let mut segments = 0;
    while pair.signer.unread.cost < UNREAD_MAX {
        pair.signer.unread.extend(&mut incoming, &segment).unwrap();
        segments += 1;
    }
    assert!(segments < 10, "{segments} segments of {} bytes", segment.len());
    // Reading gives all of it back.
    while pair.signer.unread.pop().is_some() {}
    assert_eq!(pair.signer.unread.cost, 0);
}

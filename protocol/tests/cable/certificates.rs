//! What a certificate costs on a virtual line of 115,200 baud: RSA-2048 CSRs of a real mix, an
//! RSA-4096 issuer. The signer of these tests answers after a fixed time, so that the figures are
//! the cable's alone; the programs with their real signatures are measured by `cargo xtask bench`.

use std::collections::VecDeque;

use protocol::{
    bounded::List,
    message::{
        ACKNOWLEDGE_MAX, Answer, CsrForm, GeneralName, IssueCertificate, Request, RequestId,
        TimeHint,
    },
    time::{Duration, Instant},
};

use crate::support::{LINE_RATE, Pair, Random};

/// What two cores with an RSA-4096 key need for one certificate, the disk included.
const SIGNING: Duration = Duration::from_millis(8);
/// As many requests as the frontend has under way.
const WINDOW: usize = 128;
/// As many acknowledgements as it sends at once.
const ACKNOWLEDGED: usize = 32;

//------------ DER ------------------------------------------------------------

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match content.len() {
        length @ ..=0x7f => der.push(length as u8),
        length @ ..=0xff => der.extend([0x81, length as u8]),
        length => der.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    der.extend_from_slice(content);
    der
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

fn bits(content: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], content].concat())
}

const SHA256_RSA: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
const RSA: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

fn name(attributes: &[(u8, &str)]) -> Vec<u8> {
    let rdn = |(kind, text): &(u8, &str)| {
        let tag = if *kind == 6 { 0x13 } else { 0x0c };
        set(&[&sequence(&[&[6, 3, 0x55, 4, *kind], &tlv(tag, text.as_bytes())])])
    };
    tlv(0x30, &attributes.iter().flat_map(rdn).collect::<Vec<_>>())
}

/// A public key, as far as a packer can tell: its modulus is noise.
fn spki(random: &mut Random) -> Vec<u8> {
    let mut modulus = random.bytes(256);
    modulus[0] |= 0x80;
    modulus[255] |= 1;
    let modulus = tlv(2, &[&[0], &modulus[..]].concat());
    sequence(&[RSA, &bits(&sequence(&[&modulus, &[2, 3, 1, 0, 1]]))])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&tlv(6, oid), critical, &tlv(4, value)])
}

fn dns_names(hosts: &[String]) -> Vec<u8> {
    tlv(0x30, &hosts.iter().flat_map(|host| tlv(0x82, host.as_bytes())).collect::<Vec<_>>())
}

//------------ A day's mix -----------------------------------------------------

/// One request, and what its certificate says.
struct Wish {
    request: Request,
    id: RequestId,
    subject: Vec<u8>,
    spki: Vec<u8>,
    hosts: Vec<String>,
    profile: &'static str,
}

const HOSTS: [&str; 6] = ["www", "mail", "imap", "login", "git", "shop"];
const DOMAINS: [&str; 8] = [
    "example.org",
    "alpine-hut.example",
    "kleingarten-nord.example",
    "uni.example.edu",
    "bakery.example.net",
    "velo.example.com",
    "choir.example",
    "radio.example.info",
];

/// Three of five are servers with one to three names, one of five is a person, one an organisation.
fn wish(number: u64, random: &mut Random) -> Wish {
    let mut id = [0; 16];
    // A UUID version 7: the time, then noise.
    id[..6].copy_from_slice(&(1_795_305_600_000 + number * 57).to_be_bytes()[2..]);
    id[6..].copy_from_slice(&random.bytes(10));
    (id[6], id[8]) = (0x70 | id[6] & 0xf, 0x80 | id[8] & 0x3f);
    let id = RequestId::from_bytes(id);
    let domain = DOMAINS[random.below(8) as usize];
    let label = format!("{}{}", HOSTS[random.below(6) as usize], random.below(1000));
    let mut hosts = vec![format!("{label}.{domain}")];
    let (profile, subject) = match random.below(5) {
        0 => {
            let given = ["Anna", "Jonas", "Mirela", "Tomasz", "Chiara"][random.below(5) as usize];
            let person = format!("{given} Example-{}", random.below(10_000));
            hosts = Vec::new();
            ("client", name(&[(3, &person)]))
        }
        1 => {
            let organisation = format!("Verein {} e.V.", random.below(10_000));
            let subject = [
                (6, "DE"),
                (8, "Bayern"),
                (7, "Augsburg"),
                (10, &organisation[..]),
                (3, &hosts[0]),
            ];
            ("server-org", name(&subject))
        }
        _ => {
            hosts.extend((0..random.below(3)).map(|alias| format!("{label}-{alias}.{domain}")));
            ("server", name(&[(3, &hosts[0])]))
        }
    };
    let spki = spki(random);
    let info = sequence(&[&[2, 1, 0], &subject, &spki, &[0xa0, 0]]);
    let csr = sequence(&[&info, SHA256_RSA, &bits(&random.bytes(256))]);
    let names: Vec<GeneralName> =
        hosts.iter().map(|host| format!("dns:{host}").parse().unwrap()).collect();
    let request = Request::Issue(IssueCertificate {
        id,
        authority: "issuing".parse().unwrap(),
        profile: profile.parse().unwrap(),
        days: None,
        subject: None,
        subject_alt_names: Some(names.try_into().unwrap()),
        form: CsrForm::Pkcs10,
        csr: csr.try_into().unwrap(),
    });
    Wish { request, id, subject, spki, hosts, profile }
}

/// A certificate as the signer's profiles make them.
fn certificate(wish: &Wish, number: u64, seconds: u64, random: &mut Random) -> Answer {
    let serial = [&(1u64 << 62 | number).to_be_bytes()[..], &random.bytes(8)].concat();
    let time = |days: u64| {
        let text = format!(
            "26{:02}22{:02}{:02}{:02}Z",
            11 - days / 30 % 10,
            8,
            seconds / 60,
            seconds % 60
        );
        tlv(0x17, text.as_bytes())
    };
    let issuer = name(&[(6, "AT"), (10, "Example CA"), (3, "Example CA Issuing 1")]);
    let key = openssl::sha::sha1(&wish.spki[24..]);
    let crl = b"http://crl.example.org/issuing-1.crl";
    let crl = tlv(0x30, &tlv(0x30, &tlv(0xa0, &tlv(0xa0, &tlv(0x86, crl)))));
    let usage: &[u8] = if wish.profile == "client" { &[3, 2, 4, 0xf0] } else { &[3, 2, 5, 0xa0] };
    let purpose = if wish.profile == "client" { 2 } else { 1 };
    let extensions = [
        extension(&[0x55, 0x1d, 19], true, &[0x30, 0]),
        extension(&[0x55, 0x1d, 15], true, usage),
        extension(
            &[0x55, 0x1d, 37],
            false,
            &sequence(&[&tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, purpose])]),
        ),
        extension(&[0x55, 0x1d, 14], false, &tlv(4, &key)),
        extension(&[0x55, 0x1d, 35], false, &tlv(0x30, &tlv(0x80, &[0x5a; 20]))),
        extension(&[0x55, 0x1d, 17], false, &dns_names(&wish.hosts)),
        extension(&[0x55, 0x1d, 31], false, &crl),
    ];
    let extensions = tlv(0xa3, &tlv(0x30, &extensions.concat()));
    let validity = sequence(&[&time(0), &time(90)]);
    let tbs = sequence(&[
        &[0xa0, 3, 2, 1, 2],
        &tlv(2, &serial),
        SHA256_RSA,
        &issuer,
        &validity,
        &wish.subject,
        &wish.spki,
        &extensions,
    ]);
    let der = sequence(&[&tbs, SHA256_RSA, &bits(&random.bytes(512))]);
    Answer::Issued { id: wish.id, certificate: der.try_into().unwrap() }
}

//------------ The two programs, as far as the cable sees them ------------------

/// A queue, a signer that answers [`SIGNING`] after a request came, and what was counted.
struct Day {
    pair: Pair,
    wishes: Vec<Wish>,
    random: Random,
    sent: usize,
    signed: VecDeque<(Instant, Answer)>,
    busy_until: Instant,
    asked: usize,
    answered: usize,
    acknowledge: Vec<RequestId>,
    hint_at: Instant,
    hints: usize,
}

impl Day {
    fn new(count: u64) -> Self {
        let mut random = Random(0x5eed);
        let wishes = (0..count).map(|number| wish(number, &mut random)).collect();
        let pair = Pair::connected(Some(LINE_RATE), 7);
        Self {
            busy_until: pair.now,
            hint_at: pair.now,
            pair,
            wishes,
            random,
            sent: 0,
            signed: VecDeque::new(),
            asked: 0,
            answered: 0,
            acknowledge: Vec::new(),
            hints: 0,
        }
    }

    /// What the programs do at this moment.
    fn act(&mut self, ahead: usize) {
        let now = self.pair.now;
        if now >= self.hint_at {
            let hint = TimeHint {
                unix_us: 1_795_305_600_000_000,
                round_trip_us: None,
                synchronised: true,
            };
            self.pair.frontend.session.send(now, &Request::TimeHint(hint)).unwrap();
            self.hint_at = now + Duration::from_secs(10);
        }
        while self.sent < self.wishes.len() && self.sent < self.answered + ahead {
            let sent = self.pair.frontend.session.send(now, &self.wishes[self.sent].request);
            if sent.is_err() {
                break;
            }
            self.sent += 1;
        }
        for request in self.pair.signer.heard.split_off(0) {
            match request {
                Request::Issue(issue) => {
                    let wish = self.wishes.iter().find(|wish| wish.id == issue.id).unwrap();
                    assert_eq!(Request::Issue(issue), wish.request);
                    let seconds = now.as_micros() / 1_000_000;
                    let number = 1_000_000 + self.asked as u64;
                    let answer = certificate(wish, number, seconds, &mut self.random);
                    self.busy_until = self.busy_until.max(now) + SIGNING;
                    self.signed.push_back((self.busy_until, answer));
                    self.asked += 1;
                }
                Request::TimeHint(_) => {
                    let answer = Answer::TimeHintTaken { unix_us: 1_795_305_600_000_001 };
                    self.pair.signer.session.send(now, &answer).unwrap();
                }
                _ => {}
            }
        }
        while self.signed.front().is_some_and(|(at, _)| *at <= now) {
            let answer = &self.signed.front().unwrap().1;
            if self.pair.signer.session.send(now, answer).is_err() {
                break;
            }
            self.signed.pop_front();
        }
        for answer in self.pair.frontend.heard.split_off(0) {
            match answer {
                Answer::Issued { id, .. } => {
                    self.answered += 1;
                    self.acknowledge.push(id);
                }
                Answer::TimeHintTaken { .. } => self.hints += 1,
                other => panic!("{other:?}"),
            }
        }
        let last = self.answered == self.wishes.len();
        while self.acknowledge.len() >= ACKNOWLEDGED || last && !self.acknowledge.is_empty() {
            let count = self.acknowledge.len().min(ACKNOWLEDGE_MAX);
            let ids: Vec<_> = self.acknowledge.drain(..count).collect();
            let ids: List<_, ACKNOWLEDGE_MAX> = ids.try_into().unwrap();
            self.pair.frontend.session.send(now, &Request::Acknowledge(ids)).unwrap();
        }
        self.pair.drain();
    }

    /// Until everything is answered; how long it took.
    fn work_off(&mut self, ahead: usize) -> Duration {
        let start = self.pair.now;
        while self.answered < self.wishes.len() {
            self.act(ahead);
            let soon = self.signed.front().map(|(at, _)| *at).filter(|at| *at > self.pair.now);
            let limit = self.pair.now + Duration::from_secs(1);
            self.pair.step(soon.map_or(limit, |at| at.min(limit)));
            assert!(self.pair.now.saturating_since(start) < Duration::from_secs(3600));
        }
        self.pair.now.saturating_since(start)
    }
}

#[test]
fn a_certificate_costs_little_more_than_what_cannot_be_compressed() {
    let count = 300;
    let mut day = Day::new(count);
    let (up, down) = (day.pair.up.carried, day.pair.down.carried);
    let took = day.work_off(WINDOW).as_secs_f64();
    let each = |bytes: u64| bytes as f64 / count as f64;
    let (up, down) = (each(day.pair.up.carried - up), each(day.pair.down.carried - down));
    let rate = count as f64 / took;
    let (to_signer, to_frontend) =
        (day.pair.frontend.session.counters(), day.pair.signer.session.counters());
    let whole = |bytes: u64| bytes as f64 / count as f64;
    println!(
        "{rate:.2} certificates/s; up {up:.1} B each ({:.1} packed of {:.1}), down {down:.1} B \
         ({:.1} packed of {:.1})",
        whole(to_signer.packed_bytes_sent),
        whole(to_signer.message_bytes_sent),
        whole(to_frontend.packed_bytes_sent),
        whole(to_frontend.message_bytes_sent),
    );
    assert!(up <= 640.0 && down <= 640.0, "{up} up, {down} down");
    assert!(rate >= 17.0, "{rate} certificates/s");
    assert_eq!(day.pair.signer.session.counters().patches_failed, 0);
    assert_eq!(day.pair.frontend.session.counters().patches_failed, 0);
}

#[test]
fn three_thousand_queued_requests_take_less_than_three_minutes() {
    let mut day = Day::new(3000);
    let took = day.work_off(WINDOW);
    println!("3,000 queued requests: {:.1} s", took.as_secs_f64());
    assert!(took <= Duration::from_secs(180), "{took:?}");
    // Lesson 11: time hints stay fresh while the queue is never empty.
    let due = took.as_secs() / 10;
    assert!(day.hints as u64 >= due, "{} hints answered in {took:?}", day.hints);
}

#[test]
fn one_certificate_on_an_idle_line_takes_a_fifth_of_a_second() {
    let mut day = Day::new(20);
    let mut worst = Duration::ZERO;
    for wish in 0..day.wishes.len() {
        // The line has been idle for a while, and the last acknowledgement has gone.
        day.pair.drive(Duration::from_secs(3));
        let start = day.pair.now;
        let wanted = day.answered + 1;
        while day.answered < wanted {
            day.act(1);
            let soon = day.signed.front().map(|(at, _)| *at).filter(|at| *at > day.pair.now);
            let limit = day.pair.now + Duration::from_secs(1);
            day.pair.step(soon.map_or(limit, |at| at.min(limit)));
            if day.sent > wish + 1 {
                break;
            }
        }
        let took = day.pair.now.saturating_since(start);
        println!("certificate {wish}: {took:?}");
        worst = worst.max(took);
    }
    assert!(worst <= Duration::from_millis(200), "{worst:?}");
}

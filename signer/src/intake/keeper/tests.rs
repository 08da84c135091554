//! Workers that are real processes and break for real: by their limits, by signals, by hanging.

use std::sync::LazyLock;

use nix::{
    poll::{PollFd, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use openssl::{
    hash::MessageDigest,
    pkey::PKey,
    rsa::Rsa,
    x509::{X509NameBuilder, X509ReqBuilder},
};
use protocol::message::{ApprovedUserId, RefusalCode};

use super::*;
use crate::intake::worker::stand_in;

static CSR: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "www.example.org").unwrap();
    let mut builder = X509ReqBuilder::new().unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    builder.build().to_der().unwrap()
});

fn csr_job() -> Job {
    job(&CSR)
}

fn job(csr: &[u8]) -> Job {
    Job::Csr(csr.to_vec().try_into().unwrap())
}

/// An intake whose time goes on only as far as the test lets it.
struct Bench {
    intake: Intake<u32>,
    now: Instant,
    outcomes: Vec<(u32, Outcome)>,
}

impl Bench {
    fn new(manner: &'static str) -> Self {
        let intake = Intake::with_command(move || stand_in::command(manner));
        Self { intake, now: Instant::ZERO, outcomes: Vec::new() }
    }

    fn pid(&self) -> Pid {
        let worker = self.intake.worker.as_ref().expect("a worker runs");
        Pid::from_raw(i32::try_from(worker.child.id()).unwrap())
    }

    fn step(&mut self) {
        self.intake.turn(self.now).unwrap();
        let before = self.outcomes.len();
        while let Some(outcome) = self.intake.poll_verdict() {
            self.outcomes.push(outcome);
        }
        if self.outcomes.len() == before {
            self.wait();
        }
    }

    /// Until the worker says something, or the clock comes to the next start.
    fn wait(&mut self) {
        match self.intake.fd() {
            Some((fd, flags)) => {
                // A test whose worker neither speaks nor ends fails here instead of hanging.
                let patience = PollTimeout::from(20_000u16);
                let ready = poll(&mut [PollFd::new(fd, flags)], patience);
                assert_ne!(ready, Ok(0), "the worker is silent");
            }
            None => self.now = self.intake.poll_timeout().unwrap(),
        }
    }

    fn run_until(&mut self, count: usize) {
        while self.outcomes.len() < count {
            self.step();
        }
    }

    fn submit_all(&mut self, jobs: impl IntoIterator<Item = Job>) -> usize {
        let mut count = 0;
        for job in jobs {
            while !self.intake.has_room() {
                self.step();
            }
            self.intake.submit(count, job).unwrap();
            count += 1;
        }
        usize::try_from(count).unwrap()
    }
}

fn is_vetted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Csr(vetted) if vetted.subject().len() == 1)
}

fn broke(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Broke { text } => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_that_eats_its_workers_memory_ahead_of_3000_good_ones_costs_only_itself() {
    let mut bench = Bench::new("fragile");
    let count =
        bench.submit_all(std::iter::once(job(b"eat memory")).chain((0..3000).map(|_| csr_job())));
    bench.run_until(count);
    assert!(broke(&bench.outcomes[0].1).contains("signal"), "{:?}", bench.outcomes[0]);
    assert_eq!(bench.outcomes.iter().filter(|(_, outcome)| is_vetted(outcome)).count(), 3000);
    // Each tag once, in the order of submission.
    assert!(bench.outcomes.iter().map(|(tag, _)| *tag).eq(0..3001));
}

#[test]
fn every_way_to_break_a_worker_leaves_the_next_request_unharmed() {
    let mut bench = Bench::new("fragile");
    let ways = [&b"eat memory"[..], b"panic", b"open files", b"spin"];
    let count = bench.submit_all(ways.iter().flat_map(|way| [job(way), csr_job()]));
    bench.run_until(count);
    for (index, pair) in bench.outcomes.chunks(2).enumerate() {
        broke(&pair[0].1);
        assert!(is_vetted(&pair[1].1), "after {:?}: {pair:?}", ways[index].escape_ascii());
    }
}

/// A key of `length` bytes that strangers certified without end, with one user ID of its owner.
fn famous_key(length: usize) -> Vec<u8> {
    use sequoia_openpgp::{
        Packet,
        cert::CertBuilder,
        packet::{UserID, signature::SignatureBuilder},
        serialize::SerializeInto,
        types::SignatureType,
    };
    let made = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let make = || {
        let builder = CertBuilder::new().set_creation_time(made).add_userid("a");
        builder.add_transport_encryption_subkey().generate().unwrap().0
    };
    let (cert, stranger) = (make(), make());
    let key = stranger.primary_key().key().clone().parts_into_secret().unwrap();
    let theirs = SignatureBuilder::new(SignatureType::GenericCertification)
        .set_signature_creation_time(made)
        .unwrap()
        .sign_userid_binding(
            &mut key.into_keypair().unwrap(),
            cert.primary_key().key(),
            &UserID::from("a"),
        )
        .unwrap();
    let theirs = Packet::from(theirs).to_vec().unwrap();
    let bare = cert.to_vec().unwrap();
    let foreign = theirs.repeat((length - bare.len()) / theirs.len());
    let packets = cert.strip_secret_key_material().into_packets();
    packets.fold(Vec::new(), |mut bytes, packet| {
        bytes.extend(packet.to_vec().unwrap());
        if matches!(packet, Packet::UserID(_)) {
            bytes.extend(&foreign);
        }
        bytes
    })
}

fn openpgp(key: &[u8]) -> Job {
    Job::OpenPgp {
        key: key.to_vec().try_into().unwrap(),
        user_ids: vec![ApprovedUserId::Exact("a".try_into().unwrap())].try_into().unwrap(),
        unix_s: 1_700_000_100,
    }
}

#[test]
fn openpgp_key_that_breaks_its_worker_is_set_aside_and_the_next_is_served() {
    let mut bench = Bench::new("fragile");
    let good = famous_key(4000);
    let ways = [&b"eat memory"[..], b"panic", b"open files"];
    let count = bench.submit_all(ways.iter().flat_map(|way| [openpgp(way), openpgp(&good)]));
    bench.run_until(count);
    // One that hangs, too.
    bench.submit_all([openpgp(b"hang"), openpgp(&good)]);
    loop {
        bench.intake.turn(bench.now).unwrap();
        if bench.intake.waiting.is_empty() {
            break; // both are at the worker
        }
        bench.wait();
    }
    bench.now += JOB_LIMIT;
    bench.run_until(count + 2);
    for pair in bench.outcomes.chunks(2) {
        broke(&pair[0].1);
        assert!(matches!(pair[1].1, Outcome::OpenPgp(_)), "{pair:?}");
    }
}

#[test]
fn largest_openpgp_key_is_vetted_in_less_than_32_mib() {
    let mut bench = Bench::new("honest");
    let largest = famous_key(protocol::message::OPENPGP_KEY_MAX);
    assert!(largest.len() > protocol::message::OPENPGP_KEY_MAX - 1000);
    let count = bench.submit_all((0..3).map(|_| openpgp(&largest)));
    bench.run_until(count);
    assert!(bench.outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::OpenPgp(_))));
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib <= 32 * 1024, "{kib} KiB at most at one time");
}

#[test]
fn a_worker_that_hangs_is_cut_at_the_limit_and_not_before() {
    let mut bench = Bench::new("fragile");
    bench.submit_all([job(b"hang"), csr_job()]);
    loop {
        bench.intake.turn(bench.now).unwrap();
        if bench.intake.waiting.is_empty() {
            break; // both are at the worker
        }
        bench.wait();
    }
    let hung = bench.pid();
    assert_eq!(bench.intake.poll_timeout(), Some(bench.now + JOB_LIMIT));
    bench.now += JOB_LIMIT - Duration::from_micros(1);
    bench.intake.turn(bench.now).unwrap();
    assert!(bench.intake.poll_verdict().is_none());
    assert_eq!(kill(hung, None), Ok(()), "it still lives");

    bench.now += Duration::from_micros(1);
    bench.run_until(2);
    assert!(broke(&bench.outcomes[0].1).contains("longer than 2s"));
    assert!(is_vetted(&bench.outcomes[1].1));
    assert!(kill(hung, None).is_err(), "it was killed and reaped");
}

#[test]
fn a_worker_killed_from_outside_loses_at_most_the_job_it_held() {
    let mut bench = Bench::new("honest");
    bench.submit_all([csr_job()]);
    bench.run_until(1);
    kill(bench.pid(), Signal::SIGKILL).unwrap();
    bench.submit_all((0..50).map(|_| csr_job()));
    bench.run_until(51);
    let broken = bench.outcomes.iter().filter(|(_, outcome)| !is_vetted(outcome)).count();
    assert!(broken <= 1, "{:?}", bench.outcomes);
}

#[test]
fn oversize_and_nonsense_answers_break_the_job_and_the_worker() {
    for (manner, sign) in [("oversize", "4294967295 bytes"), ("nonsense", "no valid value")] {
        let mut bench = Bench::new(manner);
        bench.submit_all([csr_job()]);
        bench.run_until(1);
        assert!(broke(&bench.outcomes[0].1).contains(sign), "{:?}", bench.outcomes);
    }
}

#[test]
fn a_worker_that_cannot_start_harms_no_job_and_is_reported_after_eight_tries() {
    let mut bench = Bench::new("stillborn");
    bench.submit_all([csr_job()]);
    let error = loop {
        match bench.intake.turn(bench.now) {
            Ok(()) => bench.wait(),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("8 times"), "{error}");
    assert!(error.to_string().contains("exit status: 7"), "{error}");
    assert!(bench.intake.poll_verdict().is_none());
    assert_eq!(bench.intake.waiting.len(), 1);
    assert!(bench.now >= Instant::ZERO + START_AGAIN * (STARTS_MAX - 1));
}

#[test]
fn a_worker_that_never_comes_up_is_replaced_at_its_limit() {
    let mut bench = Bench::new("mute");
    bench.intake.turn(bench.now).unwrap();
    let first = bench.pid();
    bench.now += START_LIMIT;
    bench.intake.turn(bench.now).unwrap();
    bench.now = bench.intake.poll_timeout().unwrap();
    bench.intake.turn(bench.now).unwrap();
    assert_ne!(bench.pid(), first);
}

#[test]
fn more_jobs_than_the_bound_are_handed_back() {
    let mut bench = Bench::new("honest");
    for tag in 0..u32::try_from(JOBS_MAX).unwrap() {
        bench.intake.submit(tag, csr_job()).unwrap();
    }
    let refused = bench.intake.submit(64, csr_job()).unwrap_err();
    assert_eq!((refused.tag, refused.job), (64, csr_job()));
    bench.run_until(JOBS_MAX);
    assert!(bench.intake.is_idle() && bench.intake.has_room());

    let large = || job(&[0x30; 60_000]);
    let taken = (0..100).take_while(|tag| bench.intake.submit(*tag, large()).is_ok()).count();
    assert!(taken * 60_000 < JOB_BYTES_MAX + 60_000, "{taken}");
}

#[test]
fn refusals_come_through_with_their_code_and_sentence() {
    let mut bench = Bench::new("honest");
    let key = job(b"not a csr");
    let openpgp = Job::OpenPgp {
        key: b"no key".to_vec().try_into().unwrap(),
        user_ids: vec![ApprovedUserId::Exact("a".try_into().unwrap())].try_into().unwrap(),
        unix_s: u64::MAX,
    };
    bench.submit_all([key, openpgp]);
    bench.run_until(2);
    let codes: Vec<_> = bench
        .outcomes
        .iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Refused(refusal) if !refusal.text.is_empty() => refusal.code,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [RefusalCode::CsrMalformed, RefusalCode::OpenPgpMalformed]);
}

#[test]
fn a_worker_is_replaced_after_its_share_of_jobs_without_losing_one() {
    let mut bench = Bench::new("honest");
    bench.submit_all([csr_job()]);
    bench.run_until(1);
    let first = bench.pid();
    bench.intake.worker.as_mut().unwrap().jobs_done = WORKER_JOBS_MAX;
    bench.submit_all([csr_job()]);
    bench.run_until(2);
    assert!(is_vetted(&bench.outcomes[1].1));
    assert_ne!(bench.pid(), first);
}

#[test]
fn spkac_is_vetted_by_its_declared_form_and_a_csr_in_its_place_is_none() {
    use crate::intake::crafting::{P256, oid, tlv};

    let spki = P256.public_key_to_der().unwrap();
    let signed = tlv(0x30, &[&spki, &tlv(0x16, &[b"a challenge"])]);
    let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &P256).unwrap();
    let signature = tlv(0x03, &[&[0], &signer.sign_oneshot_to_vec(&signed).unwrap()]);
    let spkac = tlv(0x30, &[&signed, &tlv(0x30, &[&oid("1.2.840.10045.4.3.2")]), &signature]);
    let as_spkac = |bytes: &[u8]| Job::Spkac(bytes.to_vec().try_into().unwrap());
    assert_eq!(as_spkac(&spkac).size(), spkac.len());

    let mut bench = Bench::new("honest");
    bench.submit_all([as_spkac(&spkac), job(&spkac), as_spkac(&CSR)]);
    bench.run_until(3);
    bench.outcomes.sort_by_key(|(tag, _)| *tag);
    assert!(
        matches!(&bench.outcomes[0].1, Outcome::Csr(vetted)
            if vetted.public_key() == spki && vetted.subject().is_empty()),
        "{:?}",
        bench.outcomes
    );
    for (_, outcome) in &bench.outcomes[1..] {
        let refused = matches!(outcome, Outcome::Refused(refusal)
            if refusal.code == RefusalCode::CsrMalformed);
        assert!(refused, "{outcome:?}");
    }
}

//! How close to the line's own limit the session comes, on a virtual line of 115,200 baud.

use crate::support::{Faults, LINE_RATE, Pair, Random};
use protocol::{
    message::{
        Answer, CrlPiece, Digest, FetchCrl, IssueCertificate, Name, PIECE_MAX, Request, RequestId,
        RevocationReason, Revoke, Serial,
    },
    time::{Duration, Instant},
};

fn piece(random: &mut Random) -> Answer {
    let digest = Digest::of(b"crl");
    Answer::CrlPiece(CrlPiece {
        scope: protocol::message::CrlScope::Full,
        authority: "issuing".parse::<Name>().unwrap(),
        crl_number: 7,
        crl_digest: digest,
        crl_length: 10_000_000,
        packed_digest: digest,
        packed_length: 5_000_000,
        offset: 0,
        bytes: random.bytes(PIECE_MAX).try_into().unwrap(),
    })
}

/// 115,200 baud, and what a pair of USB adapters or a long way adds in each direction.
const LATENCIES: [Duration; 3] =
    [Duration::from_micros(100), Duration::from_millis(16), Duration::from_millis(100)];

/// What of the line's rate must be left for the messages' own bytes, by bit error rate: below it
/// are frames, acknowledgements, the secure layer's records, lanes, and everything sent twice.
const LEAST: [(f64, f64); 4] = [(0.0, 0.97), (1e-6, 0.96), (1e-5, 0.89), (1e-4, 0.70)];

fn pair(bit_error: f64, latency: Duration, seed: u64) -> Pair {
    let mut pair = Pair::new(Some(LINE_RATE), seed);
    (pair.up.latency, pair.down.latency) = (latency, latency);
    pair.drive_until(Duration::from_secs(5), Pair::is_up).unwrap();
    pair.set_faults(Faults { bit_error, ..Faults::default() });
    pair
}

/// Goodput of incompressible bulk from the signer as a share of the line's rate.
fn goodput(bit_error: f64, latency: Duration, seed: u64) -> f64 {
    let mut random = Random(seed);
    let mut pair = pair(bit_error, latency, seed);
    let (mut sent, mut heard) = (0, 0);
    // From the first piece to the last: what the line does, not how it starts.
    let mut start = pair.now;
    while heard < PIECES {
        while sent < PIECES && sent < heard + 3 {
            pair.signer.session.send(pair.now, &piece(&mut random)).unwrap();
            sent += 1;
        }
        pair.drive_until(Duration::from_secs(60), |pair| pair.frontend.heard.len() > heard)
            .unwrap();
        start = if heard == 0 { pair.now } else { start };
        heard = pair.frontend.heard.len();
    }
    let seconds = pair.now.saturating_since(start).as_secs_f64();
    ((PIECES - 1) * PIECE_MAX) as f64 / seconds / f64::from(LINE_RATE)
}

const PIECES: usize = 20;

#[test]
fn bulk_fills_the_line_at_any_error_rate_and_latency() {
    for latency in LATENCIES {
        for (bit_error, least) in LEAST {
            let shares: Vec<f64> = (1..4).map(|seed| goodput(bit_error, latency, seed)).collect();
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            println!("one way, {latency:?}, bit error rate {bit_error:e}: {mean:.4} of the line");
            assert!(mean >= least, "{latency:?}, bit error rate {bit_error:e}: {mean}");
        }
    }
}

/// Goodput of both directions at once, as shares of the line's rate.
fn both_ways(bit_error: f64, latency: Duration, seed: u64) -> (f64, f64) {
    let mut random = Random(seed);
    let mut pair = pair(bit_error, latency, seed);
    let end = pair.now + Duration::from_secs(80);
    // When messages were there: what is still on its way counts as nothing, nor does its time.
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while pair.now < end {
        let (heard_up, heard_down) = (pair.signer.heard.len(), pair.frontend.heard.len());
        let csrs = pair.frontend.session.counters().messages_sent as usize - heard_up;
        for _ in csrs..4 {
            pair.frontend.session.send(pair.now, &issue(random.bytes(CSR_LENGTH))).unwrap();
        }
        let pieces = pair.signer.session.counters().messages_sent as usize - heard_down;
        for _ in pieces..3 {
            pair.signer.session.send(pair.now, &piece(&mut random)).unwrap();
        }
        let limit = end.saturating_since(pair.now);
        pair.drive_until(limit, |pair| {
            (pair.signer.heard.len(), pair.frontend.heard.len()) != (heard_up, heard_down)
        });
        up.resize(pair.signer.heard.len(), pair.now);
        down.resize(pair.frontend.heard.len(), pair.now);
    }
    let share = |arrivals: Vec<Instant>, length: usize| {
        let (first, last) = (arrivals[0], arrivals[arrivals.len() - 1]);
        let seconds = last.saturating_since(first).as_secs_f64();
        ((arrivals.len() - 1) * length) as f64 / seconds / f64::from(LINE_RATE)
    };
    (share(up, CSR_LENGTH), share(down, PIECE_MAX))
}

const CSR_LENGTH: usize = 20_000;

#[test]
fn both_directions_are_filled_at_once_at_any_error_rate_and_latency() {
    for latency in LATENCIES {
        for (bit_error, least) in LEAST {
            let shares: Vec<_> = (1..4).map(|seed| both_ways(bit_error, latency, seed)).collect();
            let mean = |shares: Vec<f64>| shares.iter().sum::<f64>() / shares.len() as f64;
            let up = mean(shares.iter().map(|(up, _)| *up).collect());
            let down = mean(shares.iter().map(|(_, down)| *down).collect());
            println!(
                "both ways, {latency:?}, bit error rate {bit_error:e}: {up:.4} up, {down:.4} down"
            );
            assert!(up >= least && down >= least, "{latency:?}, {bit_error:e}: {up}, {down}");
        }
    }
}

#[test]
fn noise_that_comes_and_goes_neither_stalls_the_line_nor_ends_the_connection() {
    for (bit_error, least) in [(1e-3, 0.20), (3e-3, 0.05)] {
        let mut random = Random(1);
        let mut pair = pair(0.0, LATENCIES[1], 1);
        let shares = [0.0, bit_error, 0.0].map(|bit_error| {
            pair.set_faults(Faults { bit_error, ..Faults::default() });
            let (start, before) = (pair.now, pair.frontend.session.counters().link);
            while pair.now < start + Duration::from_secs(100) {
                while pair.signer.session.send(pair.now, &piece(&mut random)).is_ok() {}
                pair.drive(Duration::from_secs(1));
            }
            let link = pair.frontend.session.counters().link;
            let heard = link.payload_received - before.payload_received;
            heard as f64 / 100.0 / f64::from(LINE_RATE)
        });
        println!("bit error rate 0, {bit_error:e}, 0: {shares:.4?} of the line");
        assert!(shares[1] >= least && shares[2] > 0.9, "{bit_error:e}: {shares:?}");
        // Segments that were made for a clean line went through in parts.
        assert!(pair.signer.session.counters().link.parts_sent > 0);
        assert_eq!((pair.frontend.ups, pair.signer.ups), (1, 1), "{:?}", pair.signer.downs);
    }
}

fn issue(csr: Vec<u8>) -> Request {
    Request::Issue(IssueCertificate {
        form: protocol::message::CsrForm::Pkcs10,
        id: RequestId::from_bytes([1; 16]),
        authority: "issuing".parse().unwrap(),
        profile: "server".parse().unwrap(),
        days: None,
        subject: None,
        subject_alt_names: None,
        csr: csr.try_into().unwrap(),
    })
}

#[test]
fn an_urgent_message_overtakes_bulk() {
    let mut random = Random(5);
    let mut pair = Pair::connected(Some(LINE_RATE), 5);
    let mut latencies = Vec::new();
    for round in 0..40u8 {
        for _ in 0..2 {
            pair.frontend.session.send(pair.now, &fetch_like_bulk(&mut random)).ok();
            while pair.signer.session.send(pair.now, &piece(&mut random)).is_ok() {}
        }
        pair.drive(Duration::from_micros(100_000 + 7_777 * u64::from(round)));
        let revoke = Request::Revoke(Revoke {
            id: RequestId::from_bytes([round; 16]),
            authority: "issuing".parse().unwrap(),
            serial: Serial::from_magnitude(&[1, round]).unwrap(),
            reason: RevocationReason::KeyCompromise,
        });
        let before = pair.signer.heard.len();
        pair.frontend.session.send(pair.now, &revoke).unwrap();
        let there = pair
            .drive_until(Duration::from_secs(5), |pair| {
                pair.signer.heard[before..].iter().any(|m| matches!(m, Request::Revoke(_)))
            })
            .unwrap();
        let held = Answer::Revoked { id: RequestId::from_bytes([round; 16]), revoked_at: 1 };
        pair.signer.session.send(pair.now, &held).unwrap();
        let back = pair
            .drive_until(Duration::from_secs(5), |pair| {
                let revoked = |m: &&Answer| matches!(m, Answer::Revoked { .. });
                pair.frontend.heard.iter().filter(revoked).count() > usize::from(round)
            })
            .unwrap();
        latencies.push((there, back));
    }
    let worst = latencies.iter().map(|(_, back)| *back).max().unwrap();
    let mean = latencies.iter().map(|(_, back)| *back).sum::<Duration>() / latencies.len() as u32;
    println!("urgent message against bulk: mean {mean:?}, worst {worst:?}");
    // At most one segment on the line, the lead, and its own time.
    assert!(worst <= Duration::from_millis(90), "{worst:?}");
}

/// The frontend has no bulk of its own; something small so that both directions are busy.
fn fetch_like_bulk(random: &mut Random) -> Request {
    Request::FetchCrl(FetchCrl {
        scope: protocol::message::CrlScope::Full,
        authority: "issuing".parse().unwrap(),
        have: Some(Digest::of(&random.bytes(8))),
        resume: None,
    })
}

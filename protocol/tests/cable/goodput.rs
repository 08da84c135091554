//! How close to the line's own limit the session comes, on a virtual line of 115,200 baud.

use crate::support::{Faults, LINE_RATE, Pair, Random};
use protocol::{
    message::{
        Answer, CrlPiece, Digest, FetchCrl, IssueCertificate, Name, PIECE_MAX, Request, RequestId,
        RevocationReason, Revoke, Serial,
    },
    time::Duration,
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

/// Goodput of incompressible bulk from the signer as a share of the line's rate.
fn goodput(bit_error: f64, seed: u64) -> f64 {
    let mut random = Random(seed);
    let mut pair = Pair::connected(Some(LINE_RATE), seed);
    pair.set_faults(Faults { bit_error, ..Faults::default() });
    let start = pair.now;
    let pieces = 12;
    let (mut sent, mut heard) = (0, 0);
    while heard < pieces {
        while sent < pieces && sent < heard + 2 {
            pair.signer.session.send(pair.now, &piece(&mut random)).unwrap();
            sent += 1;
        }
        pair.drive_until(Duration::from_secs(60), |pair| pair.frontend.heard.len() > heard)
            .unwrap();
        heard = pair.frontend.heard.len();
    }
    let seconds = pair.now.saturating_since(start).as_secs_f64();
    (pieces * PIECE_MAX) as f64 / seconds / f64::from(LINE_RATE)
}

#[test]
fn bulk_fills_the_line() {
    for (bit_error, least) in [(0.0, 0.95), (1e-6, 0.94), (1e-5, 0.89), (1e-4, 0.50)] {
        let shares: Vec<f64> = (1..4).map(|seed| goodput(bit_error, seed)).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        println!("bit error rate {bit_error:e}: goodput {mean:.4} of the line");
        assert!(mean >= least, "bit error rate {bit_error:e}: {mean}");
    }
}

#[test]
fn both_directions_are_filled_at_once() {
    let mut random = Random(3);
    let mut pair = Pair::connected(Some(LINE_RATE), 3);
    let csr_length = 8_000;
    let time = Duration::from_secs(60);
    let end = pair.now + time;
    while pair.now < end {
        while pair.frontend.session.send(pair.now, &issue(random.bytes(csr_length))).is_ok() {}
        while pair.signer.session.send(pair.now, &piece(&mut random)).is_ok() {}
        pair.drive(Duration::from_secs(5));
    }
    let share = |bytes: usize| bytes as f64 / time.as_secs_f64() / f64::from(LINE_RATE);
    let up = share(pair.signer.heard.len() * csr_length);
    let down = share(pair.frontend.heard.len() * PIECE_MAX);
    println!("both directions: goodput {up:.4} up, {down:.4} down");
    // A message that is still on its way counts as nothing.
    assert!(up > 0.94 && down > 0.91, "{up} up, {down} down");
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
    assert!(worst <= Duration::from_millis(75), "{worst:?}");
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

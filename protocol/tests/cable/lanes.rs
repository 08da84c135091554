//! Bulk yields: a full CRL or an export of the audit log delays a certificate by one segment at
//! most, in both directions, with the records of the secure session underneath.
//!
//! A segment is handed to the driver shortly before the line has carried the one before it, so that
//! no adapter runs dry; whoever comes just then waits for both: a segment and that lead.

use protocol::{
    link,
    message::{Answer, CrlPiece, CrlScope, Digest, FetchLog, LogPiece, Request, RequestId},
    time::Duration,
};

use crate::{
    support::{LINE_RATE, Pair, Random},
    work::issue,
};

/// A frame is handed out so long before the line is free.
const LEAD: Duration = Duration::from_millis(20);
/// The frame around a segment, and the steps of the simulated clock.
const FRAME: Duration = Duration::from_millis(4);

fn issued(random: &mut Random) -> Answer {
    let id = RequestId::from_bytes(random.bytes(16).try_into().unwrap());
    Answer::Issued { id, certificate: random.bytes(550).try_into().unwrap() }
}

/// A piece of a full CRL, nothing of which can be compressed.
fn crl_piece(random: &mut Random, length: usize) -> Answer {
    Answer::CrlPiece(CrlPiece {
        authority: "issuing".parse().unwrap(),
        scope: CrlScope::Full,
        crl_number: 1,
        crl_digest: Digest::of(b"crl"),
        crl_length: 6_500_000,
        packed_digest: Digest::of(b"packed"),
        packed_length: 6_000_000,
        offset: 4096,
        bytes: random.bytes(length).try_into().unwrap(),
    })
}

fn log_piece(random: &mut Random, length: usize) -> Answer {
    let (head, bytes) = (Digest::of(b"head"), random.bytes(length).try_into().unwrap());
    Answer::LogPiece(LogPiece { first: 7, offset: 0, bytes, last: 100_000, head })
}

fn log_question(random: &mut Random) -> Request {
    let head = Digest::from_bytes(random.bytes(32).try_into().unwrap());
    Request::FetchLog(FetchLog { after: random.next() >> 1, head: Some(head), offset: 0 })
}

/// How long a request and its answer take, one way each.
fn exchange(pair: &mut Pair, random: &mut Random) -> (Duration, Duration) {
    let (request, answer) = (issue(random.next(), 550), issued(random));
    pair.frontend.session.send(pair.now, &request).unwrap();
    let up = pair.drive_until(Duration::from_secs(5), |pair| pair.signer.heard.contains(&request));
    pair.signer.session.send(pair.now, &answer).unwrap();
    let down =
        pair.drive_until(Duration::from_secs(5), |pair| pair.frontend.heard.contains(&answer));
    pair.signer.heard.clear();
    pair.frontend.heard.clear();
    (up.unwrap(), down.unwrap())
}

/// The worst delay that bulk adds, at many moments of a segment.
fn worst_delay(bulk: impl Fn(&mut Random) -> Answer) -> (Duration, Duration) {
    let mut random = Random(11);
    let mut pair = Pair::connected(Some(LINE_RATE), 11);
    let (mut idle_up, mut idle_down) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..8 {
        pair.drive(Duration::from_secs(3));
        let (up, down) = exchange(&mut pair, &mut random);
        (idle_up, idle_down) = (idle_up.max(up), idle_down.max(down));
    }
    let (mut worst_up, mut worst_down) = (Duration::ZERO, Duration::ZERO);
    for round in 0..120 {
        while pair.signer.session.send(pair.now, &bulk(&mut random)).is_ok() {}
        while pair.frontend.session.send(pair.now, &log_question(&mut random)).is_ok() {}
        pair.drive(Duration::from_micros(40_000 + 1_777 * round));
        let (up, down) = exchange(&mut pair, &mut random);
        (worst_up, worst_down) = (worst_up.max(up), worst_down.max(down));
    }
    assert_eq!(pair.frontend.session.counters().link.connections, 1);
    let (up, down) = (worst_up.saturating_sub(idle_up), worst_down.saturating_sub(idle_down));
    println!("idle {idle_up:?} up, {idle_down:?} down; bulk adds at most {up:?} up, {down:?} down");
    (up, down)
}

#[test]
fn a_full_crl_delays_a_certificate_by_one_segment_at_most() {
    for length in [4096, 32 * 1024] {
        let (up, down) = worst_delay(|random| crl_piece(random, length));
        let most = link::SEGMENT_TIME + LEAD + FRAME;
        assert!(up <= most && down <= most, "{up:?} up, {down:?} down of {most:?}");
    }
}

#[test]
fn an_export_of_the_log_delays_a_certificate_by_one_segment_at_most() {
    let (up, down) = worst_delay(|random| log_piece(random, 6 * 1024));
    let most = link::SEGMENT_TIME + LEAD + FRAME;
    assert!(up <= most && down <= most, "{up:?} up, {down:?} down of {most:?}");
}

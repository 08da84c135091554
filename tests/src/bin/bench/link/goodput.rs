//! Bulk from the signer over a virtual line of 115,200 baud: its bytes as a share of the line's.

use link_sim::{
    faults::Faults,
    pair::{Pair, PairConfig},
};
use protocol::{
    message::{Answer, CrlPiece, CrlScope, Digest, PIECE_MAX},
    time::{Duration, Instant},
};
use tests::Seed;

use super::{NOISES, Noise, SEED};
use crate::{figures::Figures, report::Target};

/// 115,200 baud, 8N1.
const LINE_RATE: u32 = 11_520;
/// Pieces of 32 KiB: two minutes of the line.
const PIECES: usize = 40;
/// Runs whose mean counts.
const RUNS: u64 = 5;
/// How long drivers collect bytes: the same as in `link-sim pty`.
const BATCH: Duration = Duration::from_millis(2);
/// The longest wait for one piece.
const PIECE_WITHIN: Duration = Duration::from_secs(120);

pub(super) fn measure(figures: &mut Figures) {
    eprintln!("bench: goodput on a virtual line, {RUNS} runs of {PIECES} pieces each");
    for noise in NOISES {
        let shares: f64 = (0..RUNS).map(|run| goodput(&noise, SEED + run)).sum();
        let what = format!("share of the line at a bit error rate of {}", noise.word);
        let target = Target::AtLeast(noise.promised);
        figures.promised(noise.goodput_key, shares / RUNS as f64, "", &what, target);
    }
}

fn goodput(noise: &Noise, seed: u64) -> f64 {
    let mut contents = Seed::new(seed);
    let mut pair = Pair::new(PairConfig {
        seed,
        bytes_per_second: Some(LINE_RATE),
        batch: BATCH,
        faults: Faults::none().bit_errors(noise.rate),
        test: "bench link --only goodput",
        ..PairConfig::default()
    });
    pair.drive_until_up(Duration::from_secs(60));
    let start = pair.now();
    let (mut sent, mut heard) = (0, 0);
    while heard < PIECES {
        // As the programs do: the next piece is asked for while one is under way.
        while sent < PIECES && sent < heard + 2 {
            let answer = piece(&mut contents, sent);
            let taken = pair.answer(&answer);
            pair.check(taken.is_ok(), "two pieces find room");
            sent += 1;
        }
        pair.drive_until(PIECE_WITHIN, "the next piece", |pair| match pair.poll_answer() {
            Some(_) => {
                heard += 1;
                true
            }
            None => false,
        });
    }
    (PIECES * PIECE_MAX) as f64 / seconds(start, pair.now()) / f64::from(LINE_RATE)
}

fn seconds(start: Instant, end: Instant) -> f64 {
    end.saturating_since(start).as_secs_f64()
}

/// A piece that no packer makes shorter.
fn piece(contents: &mut Seed, number: usize) -> Answer {
    let bytes: Vec<u8> = (0..PIECE_MAX).map(|_| contents.below(256) as u8).collect();
    let digest = Digest::of(b"crl");
    Answer::CrlPiece(CrlPiece {
        authority: "issuing".parse().expect("lower-case letters are a name"),
        scope: CrlScope::Full,
        crl_number: 7,
        crl_digest: digest,
        crl_length: (2 * PIECES * PIECE_MAX) as u64,
        packed_digest: digest,
        packed_length: (PIECES * PIECE_MAX) as u64,
        offset: (number * PIECE_MAX) as u64,
        bytes: bytes.try_into().expect("a piece has PIECE_MAX bytes"),
    })
}

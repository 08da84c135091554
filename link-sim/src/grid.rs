//! How much of a line is left for messages, by error rate and latency, as a table.
//!
//! Virtual time, so the figures are exact: a change of the link shows as a changed table.

use std::fmt::Write;

use protocol::{
    message::{Answer, Message, RequestId},
    session::Side,
    time::{Duration, Instant},
};

use crate::{
    faults::Faults,
    pair::{Pair, PairConfig},
    random::Random,
};

/// One line at one error rate and latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The probability that a bit is inverted.
    pub bit_error: f64,
    /// What adapters and drivers add each way.
    pub latency: Duration,
    /// Message bytes that arrived, as a part of what the line could have carried.
    pub goodput: f64,
    /// Segments sent again, as a part of all.
    pub repeated: f64,
}

/// Every cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid(Vec<Cell>);

/// Error rates, and the words for them.
const BIT_ERRORS: [(f64, &str); 6] =
    [(0.0, "0"), (1e-6, "1e-6"), (1e-5, "1e-5"), (1e-4, "1e-4"), (3e-4, "3e-4"), (1e-3, "1e-3")];
/// A wire, a USB adapter, two of them, and a line that somebody tunnels.
const LATENCIES_MS: [u64; 4] = [1, 16, 50, 200];
/// The line: 115,200 baud.
const BYTES_PER_SECOND: u32 = 11_520;
/// How long each cell is measured, after the first seconds.
const MEASURED: Duration = Duration::from_secs(60);
/// What the first seconds are for: the greeting, and learning what the line is like.
const FIRST: Duration = Duration::from_secs(20);

impl Grid {
    /// Measures every cell.
    pub fn measure() -> Self {
        let cells = BIT_ERRORS.iter().flat_map(|(bit_error, _)| {
            LATENCIES_MS.map(|ms| Cell::measure(*bit_error, Duration::from_millis(ms)))
        });
        Self(cells.collect())
    }

    /// The cells.
    pub fn cells(&self) -> &[Cell] {
        &self.0
    }

    /// For people, and for a file that shows what changed.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "goodput of a line of 115,200 baud (segments sent again), by bit error rate and \
             latency each way\n\n",
        );
        let _ = write!(text, "{:>6}", "");
        for ms in LATENCIES_MS {
            let _ = write!(text, "{:>18}", format!("{ms} ms"));
        }
        for (row, (_, name)) in self.0.chunks(LATENCIES_MS.len()).zip(BIT_ERRORS) {
            let _ = write!(text, "\n{name:>6}");
            for cell in row {
                let _ = write!(text, "{:>9.3} ({:>5.1}%)", cell.goodput, cell.repeated * 100.0);
            }
        }
        text.push('\n');
        text
    }

    /// For programs: one object in each line.
    pub fn json(&self) -> String {
        let line = |cell: &Cell| {
            let Cell { bit_error, latency, goodput, repeated } = cell;
            let ms = latency.as_millis();
            format!(
                "{{\"bit_error\": {bit_error:e}, \"latency_ms\": {ms}, \"goodput\": {goodput:.4}, \
                 \"repeated\": {repeated:.4}}}\n"
            )
        };
        self.0.iter().map(line).collect()
    }
}

impl Cell {
    /// The signer sends incompressible answers as fast as its session takes them.
    fn measure(bit_error: f64, latency: Duration) -> Self {
        let mut pair = Pair::new(PairConfig {
            seed: SEED,
            bytes_per_second: Some(BYTES_PER_SECOND),
            latency,
            batch: Duration::from_millis(1),
            faults: Faults::none().bit_errors(bit_error),
            test: "--test grid",
        });
        let mut random = Random::new(SEED);
        let mut sent = 0;
        let mut received = 0;
        let mut flow = |pair: &mut Pair, end: Instant| {
            while pair.now() < end {
                while pair.is_up(Side::Signer) {
                    let answer = certificate(sent, &mut random);
                    if pair.answer(&answer).is_err() {
                        break;
                    }
                    sent += 1;
                }
                pair.step(end);
                while let Some(answer) = pair.poll_answer() {
                    received += answer.to_bytes().map_or(0, |bytes| bytes.len());
                }
            }
            received
        };
        let before = flow(&mut pair, Instant::ZERO + FIRST);
        let bytes = flow(&mut pair, Instant::ZERO + FIRST + MEASURED) - before;
        let carried = f64::from(BYTES_PER_SECOND) * MEASURED.as_secs_f64();
        let link = pair.counters(Side::Signer).link;
        let repeated = link.segments_repeated as f64
            / (link.segments_sent + link.segments_repeated).max(1) as f64;
        Self { bit_error, latency, goodput: bytes as f64 / carried, repeated }
    }
}

/// What an RSA-4096 authority sends: most of it is random.
fn certificate(number: u64, random: &mut Random) -> Answer {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let bytes: Vec<u8> = (0..CERTIFICATE_BYTES).map(|_| random.byte()).collect();
    let certificate = bytes.try_into().expect("shorter than any bound");
    Answer::Issued { id: RequestId::from_bytes(id), certificate }
}

const CERTIFICATE_BYTES: usize = 1_000;
const SEED: u64 = 0x9d1d;

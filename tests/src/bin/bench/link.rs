//! The cable: how near to the line's own limit it comes, beside zmodem on the same simulated line,
//! and what a certificate costs on it.
//!
//! Goodput of ours runs on virtual time, everything else on real time with the real programs.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{csrs::Csrs, figures::Figures};

mod certificates;
mod gate;
mod goodput;
mod unix;
mod zmodem;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Goodput,
    Zmodem,
    Certificates,
    Unix,
    Gate,
}

/// The same accidents on both lines.
const SEED: u64 = 0x115_200;

/// A bit error rate and what it is called in the keys.
#[derive(Clone, Copy, Debug)]
struct Noise {
    /// The probability that a bit is inverted.
    rate: f64,
    /// The same as an option of `link-sim`.
    word: &'static str,
    goodput_key: &'static str,
    zmodem_key: &'static str,
    /// What was promised of ours.
    promised: f64,
}

const NOISES: [Noise; 4] = [
    Noise {
        rate: 0.0,
        word: "0",
        goodput_key: "goodput_ber_0",
        zmodem_key: "zmodem_ber_0",
        promised: 0.97,
    },
    Noise {
        rate: 1e-6,
        word: "1e-6",
        goodput_key: "goodput_ber_1e6",
        zmodem_key: "zmodem_ber_1e6",
        promised: 0.96,
    },
    Noise {
        rate: 1e-5,
        word: "1e-5",
        goodput_key: "goodput_ber_1e5",
        zmodem_key: "zmodem_ber_1e5",
        promised: 0.89,
    },
    Noise {
        rate: 1e-4,
        word: "1e-4",
        goodput_key: "goodput_ber_1e4",
        zmodem_key: "zmodem_ber_1e4",
        promised: 0.70,
    },
];

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// Requests queued at 115,200 baud; with fewer, the time is scaled to 3000
    #[arg(long, value_name = "N", default_value_t = certificates::BACKLOG)]
    requests: usize,
    /// CSRs with an RSA-2048 key of their own, taken in turn
    #[arg(long, value_name = "N", default_value_t = 1000)]
    keys: usize,
    /// The parts to measure; all of them unless said
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
}

/// Measures and judges.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut figures = Figures::default();
    let has = |part| options.only.is_empty() || options.only.contains(&part);
    if has(Part::Goodput) {
        goodput::measure(&mut figures);
    }
    if has(Part::Zmodem) {
        zmodem::measure(&mut figures)?;
    }
    if has(Part::Certificates) {
        eprintln!("bench: {} CSRs, each with an RSA-2048 key of its own", options.keys);
        let csrs = Csrs::make(options.keys.max(2))?;
        certificates::measure(&csrs, options.requests, &mut figures)?;
    }
    if has(Part::Unix) {
        unix::measure(&mut figures)?;
    }
    if has(Part::Gate) {
        gate::measure(&mut figures)?;
    }
    figures.show(options.json)
}

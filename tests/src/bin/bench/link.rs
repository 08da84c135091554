//! The cable: how near to the line's own limit it comes, beside zmodem on the same simulated line,
//! and what a certificate costs on it.
//!
//! Goodput of ours runs on virtual time, everything else on real time with the real programs.

use anyhow::{Context, Result, bail};

use crate::{csrs::Csrs, figures::Figures};

mod certificates;
mod gate;
mod goodput;
mod unix;
mod zmodem;

/// The parts that can be measured alone.
const PARTS: [&str; 5] = ["goodput", "zmodem", "certificates", "unix", "gate"];

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

/// What to measure.
pub(crate) struct Options {
    json: bool,
    /// Requests in the queue.
    requests: usize,
    /// CSRs with a key of their own; requests take them in turn.
    keys: usize,
    parts: Vec<String>,
}

impl Options {
    /// What the words ask for; nothing when they ask what there is.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            json: false,
            requests: certificates::BACKLOG,
            keys: 1000,
            parts: PARTS.map(str::to_owned).to_vec(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--json" => options.json = true,
                "--requests" => options.requests = value()?.parse()?,
                "--keys" => options.keys = value()?.parse()?,
                "--only" => options.parts = value()?.split(',').map(str::to_owned).collect(),
                "--help" => return Ok(None),
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        if let Some(unknown) = options.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
            bail!("there is no part {unknown}\n{USAGE}");
        }
        Ok(Some(options))
    }
}

/// Measures and judges.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut figures = Figures::default();
    let has = |part: &str| options.parts.iter().any(|asked| asked == part);
    if has("goodput") {
        goodput::measure(&mut figures);
    }
    if has("zmodem") {
        zmodem::measure(&mut figures)?;
    }
    if has("certificates") {
        eprintln!("bench: {} CSRs, each with an RSA-2048 key of its own", options.keys);
        let csrs = Csrs::make(options.keys.max(2))?;
        certificates::measure(&csrs, options.requests, &mut figures)?;
    }
    if has("unix") {
        unix::measure(&mut figures)?;
    }
    if has("gate") {
        gate::measure(&mut figures)?;
    }
    if options.json {
        figures.print_json();
    } else {
        figures.print_table();
    }
    figures.judge()
}

pub(crate) const USAGE: &str = "\
bench link [--json] [--requests N] [--keys N] [--only PART,PART,...]

  --requests N   requests queued at 115,200 baud (3000); with fewer, the time is scaled to 3000
  --keys N       CSRs with an RSA-2048 key of their own, taken in turn (1000)
  --only PARTS   of goodput, zmodem, certificates, unix, gate; all of them unless said";

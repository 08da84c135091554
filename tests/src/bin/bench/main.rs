//! What a certificate costs, beside openssl on the same machine in the same run.
//!
//! It measures the programs from outside, as their users see them, and changes nothing to look
//! good: the requests have keys of their own, the stores are durable, the line has its real speed.
#![expect(clippy::disallowed_methods, reason = "driver: measures")]

use std::{env, process::ExitCode};

use anyhow::{Context, Result, bail};

mod csrs;
mod figures;
mod line;
mod link;
mod openpgp;
mod peers;
mod report;
mod sizes;
mod store;
mod unlimited;

use report::Report;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What to measure.
struct Options {
    json: bool,
    /// Requests in the queue at 115,200 baud.
    requests: usize,
    /// How many certificates the store holds when one more is measured.
    sizes: Vec<usize>,
    line: bool,
    unlimited: bool,
}

fn bench() -> Result<()> {
    if env::args().nth(1).as_deref() == Some("link") {
        return match link::Options::read(env::args().skip(2))? {
            Some(options) => link::bench(&options),
            None => {
                println!("{}", link::USAGE);
                Ok(())
            }
        };
    }
    if env::args().nth(1).as_deref() == Some("openpgp") {
        return match openpgp::Options::read(env::args().skip(2))? {
            Some(options) => openpgp::bench(&options),
            None => {
                println!("{}", openpgp::USAGE);
                Ok(())
            }
        };
    }
    if env::args().nth(1).as_deref() == Some("store") {
        return match store::Options::read(env::args().skip(2))? {
            Some(options) => store::bench(&options),
            None => {
                println!("{}", store::USAGE);
                Ok(())
            }
        };
    }
    let Some(options) = Options::read(env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };
    let mut report = Report::default();
    eprintln!("bench: {} CSRs, each with an RSA-2048 key of its own", options.requests);
    let csrs = csrs::Csrs::make(options.requests)?;
    if options.line {
        line::measure(&csrs, &mut report)?;
    }
    if options.unlimited {
        unlimited::measure(&csrs, &mut report)?;
    }
    if !options.sizes.is_empty() {
        sizes::measure(&options.sizes, &mut report)?;
    }
    if options.json {
        report.print_json()
    } else {
        report.print_table()
    }
    report.judge()
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            json: false,
            requests: 200,
            sizes: vec![0, 10_000, 100_000],
            line: true,
            unlimited: true,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--json" => options.json = true,
                "--requests" => options.requests = value()?.parse()?,
                "--sizes" => {
                    let sizes = value()?;
                    let sizes = sizes.split(',').filter(|size| !size.is_empty());
                    options.sizes = sizes.map(str::parse).collect::<Result<_, _>>()?;
                }
                "--no-line" => options.line = false,
                "--no-unlimited" => options.unlimited = false,
                "--help" => return Ok(None),
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        Ok(Some(options))
    }
}

const USAGE: &str = "\
bench link ...                      the cable beside zmodem (bench link --help)
bench openpgp ...                   OpenPGP certifications (bench openpgp --help)
bench store ...                     the store at a million certificates (bench store --help)
bench [--json] [--requests N] [--sizes N,N,...] [--no-line] [--no-unlimited]

  --requests N       requests queued at 115,200 baud (200)
  --sizes N,N,...    certificates in the store when one more is measured (0,10000,100000)
  --no-line          leave out the line at 115,200 baud
  --no-unlimited     leave out the comparison without a line limit";

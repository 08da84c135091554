//! What a certificate costs, beside openssl on the same machine in the same run.
//!
//! It measures the programs from outside, as their users see them, and changes nothing to look
//! good: the requests have keys of their own, the stores are durable, the line has its real speed.
#![expect(clippy::disallowed_methods, reason = "driver: measures")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

mod csrs;
mod figures;
mod line;
mod link;
mod openpgp;
mod peers;
mod process;
mod report;
mod sizes;
mod store;
mod unlimited;

use report::Report;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.bench {
        None => bench(&cli.options),
        Some(Bench::Link(options)) => link::bench(options),
        Some(Bench::OpenPgp(options)) => openpgp::bench(options),
        Some(Bench::Store(options)) => store::bench(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a certificate costs, beside openssl on the same machine in the same run.
#[derive(Debug, Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    bench: Option<Bench>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The cable beside zmodem
    Link(link::Options),
    /// OpenPGP certifications
    #[command(name = "openpgp")]
    OpenPgp(openpgp::Options),
    /// The store at a million certificates
    Store(store::Options),
}

#[derive(Args, Debug)]
struct Options {
    /// One JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// Requests queued at 115,200 baud
    #[arg(long, value_name = "N", default_value_t = 200)]
    requests: usize,
    /// Certificates in the store when one more is measured
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [0, 10_000, 100_000])]
    sizes: Vec<usize>,
    /// Leave out the measurement of large stores
    #[arg(long)]
    no_sizes: bool,
    /// Leave out the line at 115,200 baud
    #[arg(long)]
    no_line: bool,
    /// Leave out the comparison without a line limit
    #[arg(long)]
    no_unlimited: bool,
}

fn bench(options: &Options) -> Result<()> {
    let mut report = Report::default();
    eprintln!("bench: {} CSRs, each with an RSA-2048 key of its own", options.requests);
    let csrs = csrs::Csrs::make(options.requests)?;
    if !options.no_line {
        line::measure(&csrs, &mut report)?;
    }
    if !options.no_unlimited {
        unlimited::measure(&csrs, &mut report)?;
    }
    if !options.no_sizes {
        sizes::measure(&options.sizes, &mut report)?;
    }
    if options.json {
        report.print_json()
    } else {
        report.print_table()
    }
    report.judge()
}

//! The command line of the bad cable. It only reads options and prints names and counts.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use link_sim::{
    faults::{PRESETS, Preset},
    grid::Grid,
    pty::{DirectionCounters, PtyPair, Signals},
    scenarios,
    wire::WireConfig,
};
use protocol::time::{Duration, Instant};

mod swarm_command;

use swarm_command as swarm;

/// The bad cable: a serial line that behaves as badly as you ask, and the same way each time.
#[derive(Parser)]
#[command(name = "link-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes two pty devices joined by a line, prints their names and `ready`, and carries bytes
    /// until SIGTERM or SIGINT.
    ///
    /// SIGUSR1 takes the cable out, SIGUSR2 puts it in again. Counts go to stderr at the end.
    Pty(PtyArgs),
    /// Lets random operations happen to both whole programs on virtual time, seed after seed, and
    /// ends with the first that breaks a rule, cut down to the few operations that it takes.
    ///
    /// The same seed always gives the same run.
    Swarm(SwarmArgs),
    /// Lets one named fault happen to two sessions on virtual time and waits until everything is
    /// answered; without a name, one fault after the other.
    #[command(long_about = run_help())]
    Run(RunArgs),
    /// Measures how much of a line is left for messages, by bit errors and latency.
    Grid(GridArgs),
}

#[derive(Args)]
struct RunArgs {
    /// The fault; all of them without it
    #[arg(value_name = "NAME", value_parser = fault)]
    name: Option<&'static str>,
    /// The number that all accidents follow from, decimal or 0x…
    #[arg(long, default_value = "7", value_name = "N", value_parser = seed)]
    seed: u64,
}

#[derive(Args)]
struct GridArgs {
    /// One JSON object for each cell instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SwarmArgs {
    /// How many seeds; 1,000 without it, and one where --seed names it
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// How many operations each
    #[arg(long, default_value_t = swarm::OPERATIONS_DEFAULT, value_name = "N")]
    operations: usize,
    /// One seed alone, decimal or 0x…; or, with --seeds, the first of them
    #[arg(long, value_name = "N", value_parser = seed)]
    seed: Option<u64>,
    /// Threads; without it, one for each core
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

#[derive(Args)]
struct PtyArgs {
    /// The line's speed each way, 8N1; 0 is no limit
    #[arg(long, default_value_t = 115_200, value_name = "N")]
    baud: u32,
    /// The probability that a data bit arrives inverted
    #[arg(long, value_name = "X", value_parser = probability)]
    ber: Option<f64>,
    /// The probability that a byte is lost
    #[arg(long, value_name = "X", value_parser = probability)]
    drop: Option<f64>,
    /// What adapters and drivers add to the line time, each way
    #[arg(long, default_value_t = 0, value_name = "N")]
    latency_ms: u32,
    /// The number that all accidents follow from, decimal or 0x…
    #[arg(long, default_value = "0", value_name = "N", value_parser = seed)]
    seed: u64,
    /// Two stable names for the devices, replaced at start and removed at the end
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    links: Option<Vec<PathBuf>>,
    /// A mixture of faults by name; --ber and --drop change it
    #[arg(long, value_name = "NAME", value_parser = preset, long_help = preset_help())]
    preset: Option<&'static Preset>,
    /// Takes the cable out AT_S seconds after the start for FOR_S seconds; may be repeated
    #[arg(long, value_name = "AT_S:FOR_S", value_parser = cut)]
    cut: Vec<(Duration, Duration)>,
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => {
            let result = match cli.command {
                Command::Pty(args) => run_pty(args).map(|()| ExitCode::SUCCESS),
                Command::Swarm(args) => swarm::run(&args),
                Command::Run(args) => run_faults(&args),
                Command::Grid(args) => print_grid(&args),
            };
            result.unwrap_or_else(|error| {
                eprintln!("link-sim: {error:#}");
                ExitCode::from(EXIT_AWAY)
            })
        }
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn run_pty(args: PtyArgs) -> anyhow::Result<()> {
    let signals = Signals::take_over()?;
    let seed = args.seed;
    let links = args.links.clone().and_then(|links| <[PathBuf; 2]>::try_from(links).ok());
    let mut pair = PtyPair::open(&args.wire_config(), seed, links)?;

    let [a, b] = pair.paths();
    let mut lines = OsString::from(a);
    lines.push("\n");
    lines.push(b);
    lines.push("\nready\n");
    io::stdout().write_all(lines.as_encoded_bytes())?;
    io::stdout().flush()?;

    let result = pair.run(&signals);
    let [a_to_b, b_to_a] = pair.counters();
    eprintln!("link-sim: seed {seed:#x}");
    eprintln!("link-sim: A to B: {}", in_words(&a_to_b));
    eprintln!("link-sim: B to A: {}", in_words(&b_to_a));
    Ok(result?)
}

fn run_faults(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let named = |name: &str| args.name.is_none_or(|wanted| wanted == name);
    for (name, _) in scenarios::all().filter(|(name, _)| named(name)) {
        let lasted = scenarios::run(name, args.seed);
        writeln!(io::stdout(), "{name:<22} {lasted:?} of virtual time")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_grid(args: &GridArgs) -> anyhow::Result<ExitCode> {
    let grid = Grid::measure();
    let text = if args.json { grid.json() } else { grid.table() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

impl PtyArgs {
    fn wire_config(&self) -> WireConfig {
        let mut faults = self.preset.map(Preset::faults).unwrap_or_default();
        if let Some(probability) = self.ber {
            faults = faults.bit_errors(probability);
        }
        if let Some(probability) = self.drop {
            faults = faults.drops(probability, 1);
        }
        for (at, length) in &self.cut {
            faults = faults.cut(Instant::ZERO + *at, *length);
        }
        WireConfig {
            // 8N1: a start bit, eight data bits, a stop bit.
            bytes_per_second: self
                .preset
                .and_then(|preset| preset.bytes_per_second)
                .or((self.baud > 0).then(|| (self.baud / 10).max(1))),
            latency: Duration::from_millis(self.latency_ms.into()),
            faults,
        }
    }
}

fn in_words(counters: &DirectionCounters) -> String {
    let DirectionCounters { wire, overrun } = counters;
    format!(
        "{} bytes in, {} delivered, {} bits inverted, {} dropped, {} added, {} lost while cut, \
         {} overrun",
        wire.pushed,
        wire.delivered - overrun,
        wire.flipped,
        wire.dropped,
        wire.inserted,
        wire.cut,
        overrun
    )
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a probability is a number from 0 to 1, such as 1e-5".to_owned()),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    value.map_err(|_| "a seed is a whole number, decimal or 0x and hexadecimal digits".to_owned())
}

fn preset(text: &str) -> Result<&'static Preset, String> {
    let found = PRESETS.iter().find(|preset| preset.name == text);
    found.ok_or_else(|| format!("there is none with this name; {}", preset_names()))
}

fn fault(text: &str) -> Result<&'static str, String> {
    let found = scenarios::all().find(|(name, _)| *name == text);
    found.map(|row| row.0).ok_or_else(|| {
        let names: Vec<&str> = scenarios::all().map(|row| row.0).collect();
        format!("there is none with this name; choose one of {}", names.join(", "))
    })
}

fn run_help() -> String {
    let lines = scenarios::all().map(|(name, about)| format!("\n  {name:<22} {about}"));
    format!(
        "Lets one named fault happen to two sessions on virtual time and waits until everything \
         is answered; without a name, one fault after the other:\n{}",
        lines.collect::<String>()
    )
}

fn preset_names() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    format!("choose one of {}", names.join(", "))
}

fn preset_help() -> String {
    let lines = PRESETS.iter().map(|preset| format!("\n  {:<18} {}", preset.name, preset.about));
    format!(
        "A mixture of faults by name; --ber and --drop change it:\n{}",
        lines.collect::<String>()
    )
}

fn cut(text: &str) -> Result<(Duration, Duration), String> {
    let seconds = |text: &str| text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    text.split_once(':')
        .and_then(|(at, length)| Some((seconds(at)?, seconds(length)?)))
        .ok_or_else(|| "a cut is AT:FOR in seconds, such as 10:60".to_owned())
}

/// A device or a name that the line needs is away.
const EXIT_AWAY: u8 = 3;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 4;

//! The operator's side: commands typed at the crash cart, local only.
//!
//! No byte from the link reaches this room (invariant I14). It reads the clock and asks the
//! system for randomness on behalf of the rooms that must not.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: the clocks and the randomness of the vault"
)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use openssl::x509::X509;
use protocol::{
    message::{Name, RefusalCode, RevocationReason, Serial},
    port::PortSpec,
    secure::{Entropy, PublicKey},
};

use crate::{
    calendar::UnixTime,
    clock::Moment,
    durable,
    fault::Fault,
    intake,
    keys::{CaKeyKind, Secret},
    ledger::Ledger,
    refusal::Refusal,
    vault::Random,
};

/// Prints a line for a person or script; if the reader is gone there is nobody to tell.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod adopt;
mod blocklist;
mod bundle;
mod create;
mod crl;
mod gate;
mod import;
mod logging;
mod openpgp;
mod pair;
mod profile;
mod report;
mod revoke;
mod run;
mod store;
mod weak;

/// The isolated signer: holds the CA's keys and signs what its own policy permits.
#[derive(Debug, Parser)]
#[command(name = "signer", version, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 2 refused by rule, 3 link or store away, \
                        4 usage or configuration, 5 still waiting.")]
pub struct Arguments {
    /// The store
    #[arg(long, global = true, env = "SIGNER_DIR", default_value = "/var/lib/signer")]
    dir: PathBuf,
    /// Print JSON instead of text, where something is read
    #[arg(long, global = true)]
    json: bool,
    /// The form of log lines on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
    #[command(subcommand)]
    command: Command,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogForm {
    /// For people
    Text,
    /// One object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an empty store
    Init,
    /// Roots and issuing authorities
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// OpenPGP authorities: keys that certify user IDs, by their policies
    #[command(subcommand)]
    Openpgp(openpgp::OpenPgpCommand),
    /// Revoke a certificate by a person's direct command, also of a root, and sign its CRL
    Revoke(RevokeArguments),
    /// Weak and blocked keys, for which no certificate is made
    #[command(subcommand)]
    Blocklist(blocklist::BlocklistCommand),
    /// What authorities sign: check a profile, show what it signs, import one of openssl's
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// CRLs: show them, what the next one will be, sign one by a person's direct command
    #[command(subcommand)]
    Crl(CrlCommand),
    /// Show this signer's key for the cable, or take the frontend's
    Pair(pair::PairArguments),
    /// Serve the cable until stopped: the vault, with the gate as its child
    Run(RunArguments),
    /// Answer requests that came on a medium, for a signer without a cable
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Show the last time hint and how to apply it by hand
    Time,
    /// Show what the signer holds and how it is
    Status,
    /// Compare the files with the ledger, write them again, pack, find and export copies
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Take over the authorities that `openssl ca` kept in an old tree
    Adopt(adopt::AdoptArguments),
    /// The process that sees the wire; started by `run`
    #[command(hide = true)]
    Gate {
        #[arg(long)]
        link: PortSpec,
        /// The frontend's key
        #[arg(long)]
        peer: PublicKey,
    },
    /// The process that opens a bundle; started by `bundle answer`
    #[command(hide = true)]
    BundleGate { input: PathBuf },
    /// The process that parses untrusted bytes; started by the gate
    #[command(hide = true)]
    Intake,
}

#[derive(Debug, Subcommand)]
enum AuthorityCommand {
    /// Make a root, or with --issued-by an issuing authority
    Create(CreateArguments),
    /// List the authorities
    List,
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// Its name in requests and on disk
    name: Name,
    /// Its subject, as /C=DE/O=Example/CN=Example Root or C=DE,O=Example,CN=Example Root
    #[arg(long)]
    subject: String,
    /// rsa:2048 to rsa:8192, ec:P-256 or ec:P-384
    #[arg(long)]
    key: CaKeyKind,
    /// Its validity; 7305 for a root, by the subca profile for an issuing authority
    #[arg(long)]
    days: Option<u32>,
    /// The authority that certifies it, by that authority's subca profile
    #[arg(long)]
    issued_by: Option<Name>,
    /// Let this root sign subscriber certificates on the link's word alone (against CA/B BR
    /// 4.3.1.1; for those who migrate from such a practice)
    #[arg(long, conflicts_with = "issued_by")]
    unattended_root: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, Args)]
struct Passphrase {
    /// A file whose first line is the passphrase of the private keys
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    fn read(&self) -> Result<Option<Secret>, Fault> {
        self.passphrase_file.as_deref().map(Secret::from_file).transpose()
    }
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
struct RevokeArguments {
    /// Who issued the certificate; with --weak-keys absent means every authority
    #[arg(long, required_unless_present = "weak_keys")]
    authority: Option<Name>,
    /// The certificate's serial number, hexadecimal
    #[arg(long, group = "which")]
    serial: Option<Serial>,
    /// The certificate itself, PEM or DER
    #[arg(long, group = "which")]
    cert: Option<PathBuf>,
    /// Every valid certificate whose key is in one of these files (published lists, keys,
    /// certificates, CSRs); without a file, whose key would be refused today: on the loaded list,
    /// blocked, or easily factored. The reason is keyCompromise
    #[arg(long, group = "which", num_args = 0.., value_name = "FILE", conflicts_with = "reason")]
    weak_keys: Option<Vec<PathBuf>>,
    /// Only show what --weak-keys would revoke
    #[arg(long, requires = "weak_keys")]
    dry_run: bool,
    /// keyCompromise, CACompromise, affiliationChanged, superseded, cessationOfOperation,
    /// privilegeWithdrawn; without it, unspecified
    #[arg(long, value_parser = reason, default_value = "unspecified", hide_default_value = true)]
    reason: RevocationReason,
    #[command(flatten)]
    passphrase: Passphrase,
}

fn reason(text: &str) -> Result<RevocationReason, String> {
    RevocationReason::from_name(text).ok_or_else(|| {
        let names = RevocationReason::TABLE.map(|row| row.1).join(", ");
        format!("a reason is one of {names}")
    })
}

#[derive(Debug, Subcommand)]
enum CrlCommand {
    /// Show the newest CRL of each scope: number, times, runway, entries, digest, file
    Show {
        /// Whose; all without it
        authority: Option<Name>,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Show what the next CRL will take in and leave out, and when it is due
    Next {
        /// Whose
        authority: Name,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Sign a new CRL now; a root's is signed only so
    Sign {
        /// Whose CRL
        authority: Name,
        #[command(flatten)]
        passphrase: Passphrase,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// serial:/dev/ttyS0?baud=115200, usbnet:usb0, pty:/path, or unix:/path (the signer listens)
    #[arg(long)]
    link: PortSpec,
    /// Run the gate as this user, who must be allowed to open the port
    #[arg(long)]
    gate_user: Option<String>,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The rules say no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// We could not do it.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A child process or the port failed.
    #[error("{0:#}")]
    Process(#[from] anyhow::Error),
    /// A file that was handed over is refused.
    #[error("{0}")]
    BadFile(String),
    /// The store is not there, or a check found something in it.
    #[error("{0}")]
    Away(String),
    /// What was asked for has not come yet.
    #[error("{0}")]
    Waiting(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) | Self::BadFile(_) => 2,
            Self::Fault(fault) if fault.is_configuration() => USAGE,
            Self::Fault(_) | Self::Process(_) | Self::Away(_) => 3,
            Self::Waiting(_) => 5,
        })
    }
}

impl Arguments {
    /// Reads the command line; help and mistakes are printed here, with the exit code to end
    /// with.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print(); // if the terminal is gone there is nobody to tell
                ExitCode::SUCCESS
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = error.print();
                ExitCode::from(USAGE)
            }
            _ => {
                // clap's first paragraph is what, where and what to do; the rest is in --help.
                let text = error.render().to_string();
                let words = text.split("\n\n").next().unwrap_or(&text).split_whitespace();
                let sentence = words.collect::<Vec<_>>().join(" ");
                let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
                eprintln!("signer: {sentence}; see `signer --help`");
                ExitCode::from(USAGE)
            }
        })
    }
}

/// The exit code of wrong usage or configuration.
const USAGE: u8 = 4;

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> ExitCode {
    if matches!(arguments.command, Command::Intake) {
        return intake::worker::run_on_stdin(); // before anything else runs in that process
    }
    logging::start(arguments.log);
    match harden().and_then(|()| dispatch(arguments)) {
        Ok(code) => code,
        Err(failure) => {
            // The one sentence for the person or script that called.
            eprintln!("signer: {failure}");
            failure.exit_code()
        }
    }
}

/// Keys live in this process, or the wire does: no core dumps, no debugger, no new privileges.
fn harden() -> Result<(), Failure> {
    use nix::sys::{prctl, resource};

    prctl::set_dumpable(false).context("cannot forbid core dumps")?;
    prctl::set_no_new_privs().context("cannot give up new privileges")?;
    resource::setrlimit(resource::Resource::RLIMIT_CORE, 0, 0)
        .context("cannot forbid core dumps")?;
    Ok(())
}

pub(crate) fn dispatch(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { dir, json, log, command } = arguments;
    let needs_store = match &command {
        Command::Init | Command::Gate { .. } | Command::BundleGate { .. } | Command::Intake => {
            false
        }
        Command::Profile(command) => command.needs_store(),
        Command::Openpgp(command) => command.needs_store(),
        _ => true,
    };
    if needs_store && !Ledger::path(&dir).exists() {
        return Err(Failure::Away(format!(
            "there is no signer store in {}; name another with --dir, or make one with \
             `signer init`",
            dir.display()
        )));
    }
    match command {
        Command::Init => create::init(&dir, &system_entropy(), now()?)?,
        Command::Authority(AuthorityCommand::Create(arguments)) => {
            let passphrase = arguments.passphrase.read()?;
            create::authority(
                &dir,
                &arguments,
                passphrase.as_ref(),
                system_random(),
                now()?,
                json,
            )?;
        }
        Command::Authority(AuthorityCommand::List) => report::authorities(&dir, now()?, json)?,
        Command::Openpgp(command) => openpgp::run(&dir, &command, now()?, json)?,
        Command::Revoke(arguments) => {
            let passphrase = arguments.passphrase.read()?;
            let passphrase = passphrase.as_ref();
            let (random, now) = (&mut system_random(), now()?);
            match &arguments.weak_keys {
                Some(files) => {
                    weak::revoke(&dir, &arguments, files, passphrase, random, now, json)?;
                }
                None => revoke::revoke(&dir, &arguments, passphrase, random, now)?,
            }
        }
        Command::Crl(CrlCommand::Show { authority, passphrase }) => {
            let passphrase = passphrase.read()?;
            crl::show(&dir, authority.as_ref(), passphrase.as_ref(), now()?, json)?;
        }
        Command::Crl(CrlCommand::Next { authority, passphrase }) => {
            crl::next(&dir, &authority, passphrase.read()?.as_ref(), json)?;
        }
        Command::Crl(CrlCommand::Sign { authority, passphrase }) => {
            crl::sign(&dir, &authority, passphrase.read()?.as_ref(), now()?)?;
        }
        Command::Blocklist(command) => blocklist::run(&dir, &command, now()?, json)?,
        Command::Profile(command) => profile::run(&dir, &command, json)?,
        Command::Pair(arguments) => pair::pair(&dir, &arguments, &system_entropy(), json)?,
        Command::Run(arguments) => return run::vault(&dir, &arguments, log),
        Command::Bundle(bundle::BundleCommand::Answer(arguments)) => {
            bundle::answer(&dir, &arguments, log, json)?;
        }
        Command::BundleGate { input } => {
            return Ok(crate::gate::bundle::run(&input, &system_entropy())?);
        }
        Command::Time => report::time(&dir, now()?, json)?,
        Command::Status => report::status(&dir, now()?, json)?,
        Command::Store(command) => {
            store::run(&dir, command, &mut system_random(), now()?, json)?;
        }
        Command::Adopt(arguments) => {
            adopt::adopt(&dir, &arguments, &mut system_random(), now()?, json)?;
        }
        Command::Gate { link, peer } => {
            return Ok(crate::gate::driver::run(link, peer, system_entropy())?);
        }
        Command::Intake => unreachable!("handled in `run` before logging starts"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The moment by the system's clocks.
pub(crate) fn now() -> Result<Moment, Fault> {
    use nix::time::{ClockId, clock_gettime};
    let read = |clock| {
        let time = clock_gettime(clock)
            .map_err(|errno| Fault::Internal(format!("the clock cannot be read: {errno}")))?;
        Ok::<_, Fault>(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000)
    };
    Ok(Moment { unix_us: read(ClockId::CLOCK_REALTIME)?, boot_us: read(ClockId::CLOCK_BOOTTIME)? })
}

/// The operating system's randomness, through libcrypto's generator.
fn system_random() -> Random {
    Box::new(|bytes| Ok(openssl::rand::rand_bytes(bytes)?))
}

/// The same for the keys of the cable.
fn system_entropy() -> Entropy {
    Entropy::new(|bytes| {
        // Its generator was seeded at its first use. If it fails later, no key may be made.
        openssl::rand::rand_bytes(bytes).expect("libcrypto gives random bytes");
    })
}

/// The kernel's id of this boot.
fn boot_id() -> Result<String, Fault> {
    let text = crate::durable::read_text(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(text.trim().to_owned())
}

/// A certificate that was named as a file, in PEM or DER, and its serial.
fn read_certificate(path: &Path) -> Result<(X509, Serial), Failure> {
    let bytes = durable::read(path)?;
    let certificate = X509::from_pem(&bytes).or_else(|_| X509::from_der(&bytes));
    let certificate = certificate.map_err(|_| unusable(path, "it holds no certificate"))?;
    let serial = certificate.serial_number().to_bn().map_err(Fault::from)?;
    let serial = Serial::from_magnitude(&serial.to_vec())
        .map_err(|_| unusable(path, "it has no valid serial"))?;
    Ok((certificate, serial))
}

fn unusable(path: &Path, why: &str) -> Fault {
    Fault::Configuration(format!("{}: {why}; give the right certificate", path.display()))
}

/// The time to sign with, which is not before what was signed last.
fn check_clock(ledger: &Ledger, now: Moment) -> Result<UnixTime, Fault> {
    let floor = ledger.time_floor()?;
    if now.unix() < floor {
        return Err(Fault::Clock { now: now.unix().to_string(), floor: floor.to_string() });
    }
    Ok(now.unix())
}

/// The refusal where an authority is named that is not here.
fn no_authority(name: &Name) -> Failure {
    let text = format!("there is no authority {name}; `signer authority list` shows them");
    Refusal::new(RefusalCode::AuthorityUnknown, text).into()
}

/// Refuses what a rule of this program forbids an operator.
fn refuse<T>(code: RefusalCode, text: impl Into<String>) -> Result<T, Failure> {
    Err(Refusal::new(code, text).into())
}

//! The command line: what can be typed, and how a failure is told.
//!
//! Names, options and exit codes are relied on by scripts: they are added to, never renamed.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use protocol::{
    message::{GeneralName, Name, OpenPgpReason, RequestId, RevocationReason, Serial, Subject},
    port::PortSpec,
    secure::PublicKey,
};
use serde_json::json;

use crate::{error::Failure, queue, subject};

/// The networked side of the isolated signer: queues requests, carries them over the cable,
/// checks and keeps what comes back.
#[derive(Debug, Parser)]
#[command(name = "frontend", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// The frontend's directory: queue, inventory and CRLs
    #[arg(long, global = true, env = "FRONTEND_DIR", value_name = "DIR", help_heading = GLOBAL)]
    pub dir: Option<PathBuf>,
    /// Print JSON for scripts
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Log to standard error in this form; default: text, or the journal where there is one
    #[arg(long, global = true, value_name = "FORMAT", help_heading = GLOBAL)]
    pub log: Option<LogFormat>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

const GLOBAL: &str = "Options of every command";

const EXIT_CODES: &str = "\
Exit codes: 0 done, 2 refused by rule, 3 link or store away, 4 usage or configuration, 5 still \
waiting.
FRONTEND_LOG sets the log level: error, warn, info, debug.";

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the directory and an empty store in it
    Init,
    /// Show this frontend's key for the cable, or take the signer's
    Pair(Pair),
    /// Carry requests and answers over the cable until stopped
    Run(Run),
    /// Ask for a certificate for a CSR; prints the request's id
    Request(Request),
    /// Ask for a revocation; prints the request's id
    Revoke(Revoke),
    /// Ask for certifications of an OpenPGP key's user IDs; prints the request's id
    Certify(Certify),
    /// Show the certified OpenPGP keys, or write them out for others
    #[command(name = "openpgp")]
    OpenPgp {
        /// What to do with them
        #[command(subcommand)]
        command: OpenPgpCommand,
    },
    /// Show one request, or how everything is
    Status {
        /// A request's id
        #[arg(value_parser = queue::parse_id)]
        id: Option<RequestId>,
    },
    /// Write what came back for a request: a certificate in PEM, an OpenPGP key with armour,
    /// certified or with what was taken back
    Get(Get),
    /// Write an authority's newest CRL in PEM, or show how long the CRLs last
    Crl(Crl),
    /// Carry requests and answers on a medium, for a signer without a cable
    Bundle {
        /// In which direction
        #[command(subcommand)]
        command: BundleCommand,
    },
    /// Show the last exchange of time hints
    Time,
    /// Show, check or write out the copy of the signer's audit log
    Audit {
        /// What to do with it
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Show the authorities and profiles, or accept what the signer shows now
    Catalogue {
        /// What to do with it
        #[command(subcommand)]
        command: Option<CatalogueCommand>,
    },
}

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Write everything that has no answer yet to a file, sealed for the signer: requests,
    /// revocations, acknowledgements, and which CRLs are wished. Not while `frontend run` runs
    Export {
        /// The file, which must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Give it a number above this one; for a frontend that was restored from a backup, when
        /// the signer calls its bundles old
        #[arg(long, value_name = "N")]
        after: Option<u64>,
    },
    /// Take in the answers that `signer bundle answer` wrote: check, store and publish them
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// What can be done with the catalogue.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum CatalogueCommand {
    /// Pin what the signer shows now in place of what was pinned; compare fingerprints first
    Accept,
}

/// What can be done with the certified OpenPGP keys.
#[derive(Debug, Subcommand)]
pub enum OpenPgpCommand {
    /// Show each certified user ID: by whom, until when, and whether it was taken back
    List(OpenPgpList),
    /// Write a Web Key Directory or a keyring of what is certified
    Export(OpenPgpExport),
}

/// `frontend openpgp list`
#[derive(Debug, Args)]
pub struct OpenPgpList {
    /// Only what this OpenPGP authority certified
    #[arg(long, value_name = "NAME")]
    pub authority: Option<Name>,
    /// Only the key with this fingerprint
    #[arg(long, value_name = "FPR", value_parser = fingerprint)]
    pub fingerprint: Option<String>,
}

/// `frontend openpgp export`
#[derive(Debug, Args)]
pub struct OpenPgpExport {
    /// Make this folder a web server's root with a Web Key Directory: what is certified now, and
    /// no longer what an earlier export put there
    #[arg(long, value_name = "DIR", required_unless_present = "keyring")]
    pub wkd: Option<PathBuf>,
    /// Write all keys into this file, for gpg --import and others; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "wkd")]
    pub keyring: Option<PathBuf>,
    /// Only what this OpenPGP authority certified
    #[arg(long, value_name = "NAME")]
    pub authority: Option<Name>,
    /// With --wkd: only addresses of this domain; repeat for more
    #[arg(long, value_name = "DOMAIN", conflicts_with = "keyring")]
    pub domain: Vec<String>,
    /// With --wkd: the direct layout, for the web server of the domain itself; needs one --domain.
    /// Default: the advanced layout, for the hosts openpgpkey.DOMAIN
    #[arg(long, requires = "domain", conflicts_with = "keyring")]
    pub direct: bool,
    /// With --keyring: with ASCII armour
    #[arg(long, visible_alias = "armor", conflicts_with = "wkd")]
    pub armour: bool,
}

/// What can be done with the copy of the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show how far it goes, what the signer said last, and the alarms about it
    Status,
    /// Read every entry and check the chain; exit code 3 if it is broken
    Verify,
    /// Write the entries out, one JSON object a line
    Export(AuditExport),
    /// Take the alarm about a log that differs down, after a person has looked; nothing is removed
    Accept,
}

/// `frontend audit export`
#[derive(Debug, Args)]
pub struct AuditExport {
    /// From this entry on
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub from: u64,
    /// The log that ends with this book; default: the one that goes on
    #[arg(long, value_name = "N")]
    pub book: Option<usize>,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `frontend pair`
#[derive(Debug, Args)]
pub struct Pair {
    /// Show this frontend's key, and with whom it is paired; the same without any option
    #[arg(long)]
    pub show: bool,
    /// The key that `signer pair --show` prints at the other machine
    #[arg(long, value_name = "KEY")]
    pub peer: Option<PublicKey>,
    /// Give up the signer that this frontend is paired with now
    #[arg(long, requires = "peer")]
    pub replace: bool,
}

/// `frontend run`
#[derive(Debug, Args)]
pub struct Run {
    /// The cable: serial:/dev/ttyS0?baud=115200, usbnet:usb0, pty:/path or unix:/path
    #[arg(long, value_name = "SPEC")]
    pub link: PortSpec,
    /// Stop when every request has its answer or waits for a person, and the CRLs are here
    #[arg(long)]
    pub until_idle: bool,
    /// With --until-idle: give up when nobody answers for this long; a link that was up and broke
    /// is waited for five minutes
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    pub link_wait: u64,
}

/// `frontend request`
#[derive(Debug, Args)]
pub struct Request {
    /// Who shall sign
    #[arg(long, value_name = "NAME")]
    pub authority: Name,
    /// By which profile
    #[arg(long, value_name = "NAME")]
    pub profile: Name,
    /// The CSR, PEM or DER; - is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "spkac")]
    pub csr: Option<PathBuf>,
    /// A browser's SPKAC instead of a CSR: base64, or the lines that `openssl ca -spkac` reads;
    /// - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "csr")]
    pub spkac: Option<PathBuf>,
    /// The subject, /C=DE/O=Example/CN=name or C=DE,O=Example,CN=name, kept in the order written;
    /// default: the CSR's, or the lines of the SPKAC's file
    #[arg(long, value_name = "DN", value_parser = subject::parse)]
    pub subject: Option<Subject>,
    /// A subject alternative name, dns:NAME, ip:ADDR, email:ADDR, uri:URI or xmpp:ADDR; repeat for
    /// more; default: the CSR's
    #[arg(long, value_name = "NAME")]
    pub san: Vec<GeneralName>,
    /// How long it shall be valid; default: the profile's
    #[arg(long, value_name = "N")]
    pub days: Option<u32>,
    /// How to queue it
    #[command(flatten)]
    pub queueing: Queueing,
}

/// `frontend revoke`
#[derive(Debug, Args)]
pub struct Revoke {
    /// Who issued the certificate; with --list, for the lines that name nobody
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "openpgp"])]
    pub authority: Option<Name>,
    /// Which certificate, by serial number in hexadecimal
    #[arg(long, value_name = "HEX", required_unless_present_any = ["cert", "list", "openpgp"])]
    pub serial: Option<Serial>,
    /// Which certificate, PEM or DER; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "serial")]
    pub cert: Option<PathBuf>,
    /// Many certificates, one a line: AUTHORITY SERIAL-or-FILE REASON, the first and last as
    /// needed; # begins a comment, - is standard input. Every line is checked before anything is
    /// queued
    #[arg(long, value_name = "FILE", conflicts_with_all = ["serial", "cert"])]
    pub list: Option<PathBuf>,
    /// Take certifications of an OpenPGP key back: the key's fingerprint
    #[arg(
        long,
        value_name = "FPR",
        value_parser = fingerprint,
        conflicts_with_all = ["serial", "cert", "list"]
    )]
    pub openpgp: Option<String>,
    /// With --openpgp: only the certification of this user ID, as it was certified; default: all
    /// of the key
    #[arg(
        long,
        value_name = "UID",
        requires = "openpgp",
        conflicts_with_all = ["serial", "cert", "list"]
    )]
    pub uid: Option<String>,
    /// Why: unspecified, keyCompromise, CACompromise, affiliationChanged, superseded,
    /// cessationOfOperation or privilegeWithdrawn; with --openpgp: unspecified or userIdInvalid
    #[arg(long, value_name = "NAME", value_parser = reason, default_value = "unspecified")]
    pub reason: Reason,
    /// With --list: say what would be queued, and queue nothing
    #[arg(long, conflicts_with_all = ["serial", "cert", "openpgp", "wait"])]
    pub dry_run: bool,
    /// How to queue it
    #[command(flatten)]
    pub queueing: Queueing,
}

/// `frontend certify`
#[derive(Debug, Args)]
pub struct Certify {
    /// The public key, armoured or binary; - is standard input
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Which of the signer's OpenPGP keys shall certify; default: the only one
    #[arg(long, value_name = "NAME")]
    pub authority: Option<Name>,
    /// By which of its policies; default: the one named default
    #[arg(long, value_name = "NAME")]
    pub policy: Option<Name>,
    /// A user ID that was verified, as in the key; repeat for more
    #[arg(long, value_name = "UID")]
    pub uid: Vec<String>,
    /// An address that was verified: the user ID with this address and the --name beside it;
    /// repeat both for more
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<String>,
    /// The name that was verified for the --address, one for each; without any, the user IDs are
    /// the addresses alone
    #[arg(long, value_name = "NAME", requires = "address")]
    pub name: Vec<String>,
    /// How long the certification shall be valid; default: the policy's
    #[arg(long, value_name = "N")]
    pub days: Option<u32>,
    /// Certify anew what is certified and still valid; without it the answer is the same as before
    #[arg(long)]
    pub renew: bool,
    /// How to queue it
    #[command(flatten)]
    pub queueing: Queueing,
}

/// What `request`, `revoke` and `certify` have in common.
#[derive(Clone, Copy, Debug, Args)]
pub struct Queueing {
    /// Wait for the outcome, up to this long where a number is given
    #[arg(long, value_name = "SECS", num_args = 0..=1)]
    pub wait: Option<Option<u64>>,
    /// Queue it as it is, without the early checks; the signer makes its own
    #[arg(long)]
    pub no_precheck: bool,
}

/// `frontend get`
#[derive(Debug, Args)]
pub struct Get {
    /// The request's id
    #[arg(value_parser = queue::parse_id)]
    pub id: RequestId,
    /// Where to
    #[command(flatten)]
    pub output: Output,
    /// Add the certificates above it, up to the root
    #[arg(long, conflicts_with = "der")]
    pub chain: bool,
}

/// `frontend crl`
#[derive(Debug, Args)]
pub struct Crl {
    /// Whose CRL
    #[arg(required_unless_present = "runway")]
    pub authority: Option<Name>,
    /// The delta CRL instead of the full one
    #[arg(long, conflicts_with = "runway")]
    pub delta: bool,
    /// The CRL of this shard instead of the full one
    #[arg(long, value_name = "N", conflicts_with_all = ["delta", "runway"])]
    pub shard: Option<u16>,
    /// Show the hours until each published CRL expires; exit code 3 if one has too few, or if a
    /// CRL is not there
    #[arg(long, conflicts_with_all = ["out", "der"])]
    pub runway: bool,
    /// With --runway: so many hours are enough
    #[arg(long, value_name = "N", default_value_t = 24, requires = "runway")]
    pub min_hours: u32,
    /// Where to
    #[command(flatten)]
    pub output: Output,
}

/// Where something is written, and how.
#[derive(Debug, Args)]
pub struct Output {
    /// Write to this file, everybody's to read if it is new, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write DER (OpenPGP: binary) instead of text
    #[arg(long, visible_alias = "binary")]
    pub der: bool,
}

/// A reason for a revocation, in the words of X.509, of OpenPGP, or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    x509: Option<RevocationReason>,
    openpgp: Option<OpenPgpReason>,
}

impl Reason {
    /// The reason for a certificate (RFC 5280 5.3.1).
    pub fn of_certificate(self) -> Result<RevocationReason, Failure> {
        self.x509.ok_or_else(|| {
            Failure::Usage("userIdInvalid is a reason for OpenPGP only; give --openpgp".to_owned())
        })
    }

    /// The reason for a certification (RFC 9580 5.2.3.31).
    pub fn of_certification(self) -> Result<OpenPgpReason, Failure> {
        self.openpgp.ok_or_else(|| {
            let names = OpenPgpReason::TABLE.map(|row| row.1).join(" or ");
            Failure::Usage(format!("with --openpgp the reason is {names}"))
        })
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    let (x509, openpgp) = (RevocationReason::from_name(text), OpenPgpReason::from_name(text));
    if x509.is_none() && openpgp.is_none() {
        let names = RevocationReason::TABLE.map(|row| row.1).join(", ");
        return Err(format!("a reason is one of {names}, userIdInvalid"));
    }
    Ok(Reason { x509, openpgp })
}

/// A fingerprint as people write it, in the one form that is on the wire: capitals, no spaces.
fn fingerprint(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let digits = digits.strip_prefix("0x").unwrap_or(&digits).to_ascii_uppercase();
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    // RFC 9580 5.5.4: 20 octets for version 4, 32 for version 6.
    match (hex, digits.len()) {
        (true, 40 | 64) => Ok(digits),
        _ => Err("a fingerprint has 40 or 64 hexadecimal digits".to_owned()),
    }
}

impl Cli {
    /// Reads the command line; help and mistakes are printed here, with the exit code to end
    /// with.
    pub fn read() -> Result<Self, ExitCode> {
        // Nobody can be told when the output is gone as well.
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print();
                ExitCode::SUCCESS
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = error.print();
                ExitCode::from(USAGE)
            }
            _ => {
                let _ = writeln!(std::io::stderr(), "frontend: {}", usage_sentence(&error));
                ExitCode::from(USAGE)
            }
        })
    }
}

/// Tells `failure`: one sentence on standard error; a refusal also as JSON on standard output
/// where JSON was asked for.
pub fn report(cli: &Cli, failure: &Failure) -> ExitCode {
    if let (true, Failure::Refused(refusal)) = (cli.json, failure) {
        let refusal = json!({ "code": refusal.code.name(), "text": refusal.text });
        let _ = writeln!(std::io::stdout(), "{}", json!({ "refusal": refusal }));
    }
    let _ = writeln!(std::io::stderr(), "frontend: {failure}");
    ExitCode::from(failure.exit_code())
}

/// What is wrong with the command line, in one sentence: clap's first paragraph, with its lists
/// in line.
fn usage_sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<&str> = first.split_whitespace().collect();
    let sentence = words.join(" ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    format!("{sentence}; see `frontend --help`")
}

/// The exit code of a wrong command line.
const USAGE: u8 = 4;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_told_in_one_sentence() {
        let told =
            |line: &str| usage_sentence(&Cli::try_parse_from(line.split_whitespace()).unwrap_err());
        assert_eq!(
            told("frontend request --profile p"),
            "the following required arguments were not provided: --authority <NAME> --csr <FILE>; \
             see `frontend --help`"
        );
        let told = told("frontend request --authority a --profile p --csr f --san host");
        assert!(told.contains("dns:NAME, ip:ADDR") && !told.contains('\n'), "{told}");
    }

    #[test]
    fn what_scripts_type_is_understood() {
        for line in [
            "frontend init --dir d",
            "frontend run --link serial:/dev/ttyS0?baud=115200 --until-idle --log json",
            "frontend pair",
            "frontend pair --show --json",
            "frontend request --authority a --profile server --csr - --subject /CN=x \
             --san dns:a.example --san ip:::1 --days 90 --wait 5 --json",
            "frontend revoke --authority a --serial 0A:0B --reason keyCompromise",
            "frontend revoke --authority a --cert c.pem",
            "frontend revoke --authority a --cert c.pem --wait --json",
            "frontend revoke --list - --wait=9",
            "frontend revoke --list f --authority a --reason superseded --wait",
            "frontend revoke --list f --dry-run --json",
            "frontend request --authority a --profile client --spkac - --subject /CN=x \
             --san xmpp:a@im.example",
            "frontend certify --key k.asc --uid a --uid b --days 30 --wait 5",
            "frontend certify --key - --authority ca --policy p --address a@b.c --name A --renew",
            "frontend certify --key k --address a@b.c --address d@e.f",
            "frontend revoke --openpgp 0x00112233445566778899aabbccddeeff00112233 --uid a \
             --reason userIdInvalid --wait",
            "frontend revoke --openpgp 00112233445566778899aabbccddeeff00112233 --authority ca",
            "frontend get 01890a5d-ac96-774b-bcce-b302099a8057 --binary",
            "frontend openpgp list --json",
            "frontend openpgp list --fingerprint 00112233445566778899aabbccddeeff00112233",
            "frontend openpgp export --wkd d --domain a.example --direct",
            "frontend openpgp export --wkd d --domain a.example --domain b.example --authority ca",
            "frontend openpgp export --keyring - --armour",
            "frontend --json status",
            "frontend status 01890a5d-ac96-774b-bcce-b302099a8057 --json",
            "frontend get 01890a5d-ac96-774b-bcce-b302099a8057 --out f --der",
            "frontend crl a --out f --der",
            "frontend bundle export /media/stick/requests --after 7",
            "frontend bundle import /media/stick/answers --json",
            "frontend time --json",
            "frontend catalogue accept",
            "frontend audit status --json",
            "frontend audit verify",
            "frontend audit export --from 7 --book 1 --out f",
            "frontend audit accept",
        ] {
            Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anything_happens() {
        for line in [
            "frontend",
            "frontend run --link tcp:host",
            "frontend pair --peer abcd-efgh",
            "frontend pair --replace",
            "frontend request --authority A_B --profile p --csr f",
            "frontend request --authority a --profile p --csr f --san host",
            "frontend request --authority a --profile p --csr f --subject x",
            "frontend revoke --authority a",
            "frontend revoke --authority a --serial 1 --cert f",
            "frontend revoke --authority a --serial xyz",
            "frontend revoke --serial 1",
            "frontend revoke --list f --serial 1",
            "frontend revoke --list f --dry-run --wait",
            "frontend revoke --authority a --serial 1 --dry-run",
            "frontend revoke --openpgp 00112233445566778899aabbccddeeff00112233 --dry-run",
            "frontend request --authority a --profile p",
            "frontend request --authority a --profile p --csr f --spkac f",
            "frontend revoke --authority a --serial 1 --reason certificateHold",
            "frontend status 12",
            "frontend certify --uid a",
            "frontend certify --key k --name a",
            "frontend revoke --openpgp 0011 --uid a",
            "frontend revoke --openpgp 00112233445566778899aabbccddeeff00112233 --serial 1",
            "frontend revoke --authority a --serial 1 --uid a",
            "frontend openpgp export",
            "frontend openpgp export --wkd d --keyring f",
            "frontend openpgp export --wkd d --direct",
            "frontend openpgp export --wkd d --armour",
        ] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}

//! What each command does. One function a command, in the order of its steps.
//!
//! Results go to standard output, everything else to standard error.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use protocol::time::Duration;
use serde_json::{Value, json};

use crate::{
    catalogue::Catalogues,
    cli::{CatalogueCommand, Cli, Command, Run},
    clock,
    driver::{self, Until},
    error::Failure,
    home::Home,
    logging, progress,
    store::Alarms,
};

mod ask;
mod audit;
mod bundle;
mod crl;
mod openpgp;
mod pair;
mod read;
mod revoke;
mod status;

/// Does what the command line says.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    let level = match &cli.command {
        // Log lines would tear the bar of `--until-idle` apart.
        Command::Run(run) if !(run.until_idle && progress::on_terminal()) => "info",
        _ => "warn",
    };
    logging::start(cli.log, level)?;
    harden()?;
    let root = cli.dir.as_deref().ok_or_else(|| {
        let text = "no directory is given; use --dir DIR or set FRONTEND_DIR";
        Failure::Usage(text.to_owned())
    })?;
    if let Command::Init = cli.command {
        return init(cli, root);
    }
    let home = Home::open(root)?;
    match &cli.command {
        Command::Init => unreachable!("done above"),
        Command::Pair(wish) => pair::pair(cli, &home, wish, &clock::entropy()),
        Command::Run(run) => carry(&home, run),
        Command::Request(request) => ask::request(cli, &home, request),
        Command::Revoke(revoke) => revoke::revoke(cli, &home, revoke),
        Command::Certify(certify) => openpgp::certify(cli, &home, certify),
        Command::OpenPgp { command } => openpgp::openpgp(cli, &home, command),
        Command::Status { id: Some(id) } => status::one(cli, &home, *id),
        Command::Status { id: None } => status::all(cli, &home),
        Command::Get(get) => read::get(cli, &home, get),
        Command::Crl(wish) => crl::crl(cli, &home, wish),
        Command::Bundle { command } => bundle::bundle(cli, &home, command, &clock::entropy()),
        Command::Time => read::time(cli, &home),
        Command::Audit { command } => audit::audit(cli, &home, command),
        Command::Catalogue { command: None } => read::catalogue(cli, &home),
        Command::Catalogue { command: Some(CatalogueCommand::Accept) } => accept(cli, &home),
    }
}

/// The link's secret may lie in this process: no core dumps, no debugger.
fn harden() -> Result<(), Failure> {
    use nix::sys::{prctl, resource};

    let failed = |errno| Failure::Away(format!("cannot forbid core dumps: {errno}; try again"));
    prctl::set_dumpable(false).map_err(failed)?;
    resource::setrlimit(resource::Resource::RLIMIT_CORE, 0, 0).map_err(failed)
}

fn init(cli: &Cli, root: &Path) -> Result<(), Failure> {
    let home = Home::init(root)?;
    home.link_keys().own(&clock::entropy())?;
    let text = format!("frontend store made in {}", root.display());
    show(cli, &text, &json!({ "dir": root.display().to_string() }))
}

fn carry(home: &Home, run: &Run) -> Result<(), Failure> {
    let until = match run.until_idle {
        true => Until::Idle { link_wait: Duration::from_secs(run.link_wait) },
        false => Until::Stopped,
    };
    driver::run(home, run.link.clone(), until)
}

fn accept(cli: &Cli, home: &Home) -> Result<(), Failure> {
    let mut store = home.store()?;
    let transaction = store.transaction()?;
    let changes = Catalogues(&transaction).accept(clock::unix_us())?;
    transaction.commit().map_err(crate::store::StoreError::from)?;
    home.wake();
    let alarm = Alarms(store.connection()).text(crate::catalogue::CATALOGUE)?;
    let mut lines: Vec<String> = changes.iter().map(|change| format!("pinned {change}")).collect();
    if lines.is_empty() {
        lines.push("nothing to accept: what the signer shows is what is pinned".to_owned());
    }
    lines.extend(alarm.iter().map(|text| format!("still: {text}")));
    show(cli, &lines.join("\n"), &json!({ "accepted": changes, "alarm": alarm }))
}

//------------ Input and output ----------------------------------------------

/// Prints `value` where JSON was asked for, else `text`.
fn show(cli: &Cli, text: &str, value: &Value) -> Result<(), Failure> {
    match cli.json {
        true => print(format!("{value}\n").as_bytes()),
        false => print(format!("{text}\n").as_bytes()),
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        // Who closed the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(Failure::Away(format!("cannot write to standard output: {error}; try again")))
        }
        Ok(()) => Ok(()),
    }
}

/// The bytes of a file, or of standard input for `-`; and how to call it in a sentence.
fn read_input(path: &Path) -> Result<(Vec<u8>, String), Failure> {
    let standard_input = path.as_os_str() == "-";
    let name = match standard_input {
        true => "standard input".to_owned(),
        false => format!("`{}`", path.display()),
    };
    let failed = |error: io::Error| {
        Failure::Usage(format!("cannot read {name}: {error}; name a file that is there"))
    };
    let source: Box<dyn Read> = match standard_input {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    source.take(INPUT_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > INPUT_MAX {
        return Err(Failure::Usage(format!(
            "{name} has more than {INPUT_MAX} bytes; no CSR, certificate or key has"
        )));
    }
    Ok((bytes, name))
}

/// OpenPGP keys with many foreign signatures reach a few megabytes before they are trimmed.
const INPUT_MAX: u64 = 16 * 1024 * 1024;

//! `signer profile import`: a profile from the configuration of `openssl ca`.
//!
//! It reads one file and writes at most one; it never puts a profile into an authority by itself:
//! a person reviews it first.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use openssl::x509::X509;
use protocol::message::{Name, Subject};

use super::{Failure, no_authority};
use crate::{
    authority::Layout,
    durable,
    fault::Fault,
    profile::import::{self, Source},
};

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The configuration file of `openssl ca`
    file: PathBuf,
    /// The authority's section, as `openssl ca -name`; without it default_ca of the section ca
    #[arg(long)]
    section: Option<String>,
    /// The extensions' section, as `openssl ca -extensions`; without it x509_extensions
    #[arg(long)]
    extensions: Option<String>,
    /// The authority that will use it: `match` in the policy compares with its subject
    #[arg(long)]
    pub(crate) authority: Option<Name>,
    /// What $ENV::NAME is in the file, as NAME=VALUE; the environment itself is never read
    #[arg(long, value_parser = variable)]
    env: Vec<(String, String)>,
    /// Write the profile to this new file instead of standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Prints the profile, and what it leaves out beside it.
pub(super) fn import(store: &Path, arguments: &ImportArguments, json: bool) -> Result<(), Failure> {
    let file = arguments.file.display();
    let subject = match &arguments.authority {
        Some(name) => Some(subject_of(store, name)?),
        None => None,
    };
    let environment: BTreeMap<String, String> = arguments.env.iter().cloned().collect();
    let source = Source {
        section: arguments.section.as_deref(),
        extensions: arguments.extensions.as_deref(),
        ca_subject: subject.as_ref(),
        environment: &environment,
    };
    let imported = import::import(&read(&arguments.file)?, &source)
        .map_err(|error| Fault::Configuration(format!("{file}: {error}")))?;
    match &arguments.out {
        Some(out) => write(out, &imported.toml)?,
        None if json => {}
        None => print(&imported.toml),
    }
    if json {
        let left_out: Vec<_> = imported.left_out.iter().map(as_json).collect();
        let toml = arguments.out.is_none().then_some(&imported.toml);
        say!("{}", serde_json::json!({ "toml": toml, "left_out": left_out }));
    }
    for left in &imported.left_out {
        eprintln!("{file}: {left}");
    }
    Ok(())
}

fn as_json(left: &import::LeftOut) -> serde_json::Value {
    serde_json::json!({
        "line": left.line,
        "key": left.key,
        "value": left.value,
        "why": left.why,
        "wider": left.wider,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    // One byte more than a configuration may have, so that the reader sees that it is too long.
    let most = import::conf::FILE_MAX as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| {
        let path = path.display();
        Fault::Configuration(format!("cannot read {path}: {error}; name a file that is there"))
    })?;
    Ok(bytes)
}

fn write(path: &Path, toml: &str) -> Result<(), Fault> {
    if path.exists() {
        return Err(Fault::Configuration(format!(
            "{} is there already; nothing was written, name another file",
            path.display()
        )));
    }
    durable::replace(path, toml.as_bytes(), 0o644)
}

/// If the reader is gone there is nobody to tell.
fn print(toml: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(toml.as_bytes());
}

/// The subject in an authority's certificate; attributes that subjects here cannot have are left
/// out, and no policy can compare with them.
fn subject_of(store: &Path, name: &Name) -> Result<Subject, Failure> {
    let path = Layout::new(store, name).file("ca.crt");
    if !path.exists() {
        return Err(no_authority(name));
    }
    let certificate = X509::from_pem(&durable::read(&path)?).map_err(Fault::from)?;
    Ok(import::subject_of(&certificate))
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.contains(char::is_control) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE, without control characters".into()),
    }
}

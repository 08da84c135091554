//! `signer profile check` and `signer profile show`: what a profile says, before it signs.
//!
//! Nothing here signs or changes a file; keys are never opened.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use openssl::x509::X509;
use protocol::message::Name;

use super::{
    Failure,
    import::{self, ImportArguments},
    no_authority, now,
};
use crate::{
    authority::{AuthorityConfig, Layout, asn1_time},
    blocklist::Blocklist,
    calendar::UnixTime,
    durable,
    fault::Fault,
    keys::CaKeyKind,
    ledger::Ledger,
    name,
    profile::{
        self, Deviation, Profile,
        show::{Shown, ShownCap, Signing},
    },
    tbs::{self, Issuer},
};

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Check a profile file: every fault with its line and clause
    Check(CheckArguments),
    /// Show what a profile signs: every field, criticality and value, and the date table
    Show(ShowArguments),
    /// Write a profile out of the configuration of `openssl ca`, and list what it leaves out
    Import(ImportArguments),
}

/// `signer profile check FILE`
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The profile, TOML; its name without .toml is the profile's
    file: PathBuf,
    /// Check it for use by this authority too
    #[arg(long)]
    authority: Option<Name>,
}

/// `signer profile show PROFILE`
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// With --authority the profile's name, without it a file
    profile: String,
    /// Whose profile, and by whom it would be signed
    #[arg(long)]
    authority: Option<Name>,
}

impl ProfileCommand {
    /// Whether it reads the store: a file alone can be looked at anywhere.
    pub(super) fn needs_store(&self) -> bool {
        match self {
            Self::Check(CheckArguments { authority, .. })
            | Self::Show(ShowArguments { authority, .. })
            | Self::Import(ImportArguments { authority, .. }) => authority.is_some(),
        }
    }
}

/// Does what the command says.
pub(super) fn run(store: &Path, command: &ProfileCommand, json: bool) -> Result<(), Failure> {
    match command {
        ProfileCommand::Check(arguments) => check(store, arguments, json),
        ProfileCommand::Show(arguments) => show(store, arguments, json),
        ProfileCommand::Import(arguments) => import::import(store, arguments, json),
    }
}

fn check(store: &Path, arguments: &CheckArguments, json: bool) -> Result<(), Failure> {
    let path = &arguments.file;
    let text = durable::read_text(path)?;
    let above = arguments.authority.as_ref().map(|name| Above::read(store, name)).transpose()?;
    let issuer = above.as_ref().map(|above| &above.issuer);
    let parsed = Profile::parse_for(profile::name_of(path)?, &text, issuer);
    let notes = notes(store, parsed.as_ref().ok())?;
    if json {
        let faults = parsed.as_ref().err().into_iter().flat_map(|faults| faults.iter());
        let faults: Vec<_> = faults
            .map(|fault| {
                serde_json::json!({
                    "line": fault.line,
                    "key": fault.key,
                    "text": fault.text,
                    "clause": fault.clause,
                })
            })
            .collect();
        let deviations = parsed.as_ref().map(deviations).unwrap_or_default();
        say!(
            "{}",
            serde_json::json!({ "faults": faults, "deviations": deviations, "notes": notes })
        );
    } else {
        for fault in parsed.as_ref().err().into_iter().flat_map(|faults| faults.iter()) {
            say!("{}: {fault}", path.display());
        }
        for deviation in parsed.as_ref().map_or(&[][..], |profile| profile.deviations()) {
            say!("{}: {}", path.display(), deviation_line(deviation));
        }
        for note in &notes {
            say!("{}: {note}", path.display());
        }
    }
    match parsed {
        Ok(profile) => {
            if !json {
                say!("{}: profile {} is without fault", path.display(), profile.name());
            }
            Ok(())
        }
        Err(faults) => {
            let count = match faults.len() {
                1 => "1 fault".to_owned(),
                count => format!("{count} faults"),
            };
            let text = format!("{} has {count}, see above; correct the profile", path.display());
            Err(Fault::Configuration(text).into())
        }
    }
}

fn show(store: &Path, arguments: &ShowArguments, json: bool) -> Result<(), Failure> {
    let above = arguments.authority.as_ref().map(|name| Above::read(store, name)).transpose()?;
    let path = match &above {
        Some(above) => above.profile(&arguments.profile)?,
        None => PathBuf::from(&arguments.profile),
    };
    let text = durable::read_text(&path)?;
    let issuer = above.as_ref().map(|above| &above.issuer);
    let profile =
        Profile::parse_for(profile::name_of(&path)?, &text, issuer).map_err(|faults| {
            Fault::Configuration(format!(
                "{path}: {}; `signer profile check {path}` names every fault",
                faults.first(),
                path = path.display()
            ))
        })?;
    let now = now()?.unix();
    let signing = above.as_ref().map(Above::signing);
    let (fields, table) = (profile.show(now, signing), profile.date_table(now));
    let notes = notes(store, Some(&profile))?;
    if json {
        say!("{}", as_json(&profile, &fields, &table, &notes));
        return Ok(());
    }
    let console = if profile.console_only() { ", for the console only" } else { "" };
    say!("profile {}{console}", profile.name());
    for field in &fields {
        let critical = if field.critical { " (critical)" } else { "" };
        say!("{}{critical}", field.name);
        for value in &field.values {
            say!("    {value}");
        }
    }
    say!("validity by date of issue");
    for cap in &table {
        let mark = if cap.in_force { "  <- today" } else { "" };
        say!("    from {}: at most {} days{mark}", date(cap.from), cap.days);
    }
    match profile.crl_keep_days() {
        Some(days) => say!("revoked: in CRLs until {days} days past expiry"),
        None => say!("revoked: in CRLs until one past expiry has listed it"),
    }
    for deviation in profile.deviations() {
        say!("{}", deviation_line(deviation));
    }
    for note in &notes {
        say!("{note}");
    }
    Ok(())
}

fn as_json(
    profile: &Profile,
    fields: &[Shown],
    table: &[ShownCap],
    notes: &[String],
) -> serde_json::Value {
    let fields: Vec<_> = fields
        .iter()
        .map(|field| {
            serde_json::json!({
                "name": field.name,
                "oid": field.oid,
                "critical": field.critical,
                "values": field.values,
            })
        })
        .collect();
    let table: Vec<_> = table
        .iter()
        .map(|cap| {
            serde_json::json!({
                "from": date(cap.from),
                "days": cap.days,
                "in_force": cap.in_force,
            })
        })
        .collect();
    serde_json::json!({
        "profile": profile.name().as_str(),
        "console_only": profile.console_only(),
        "fields": fields,
        "validity": table,
        "crl_keep_days": profile.crl_keep_days(),
        "deviations": deviations(profile),
        "notes": notes,
    })
}

fn date(time: UnixTime) -> String {
    let civil = time.civil();
    format!("{:04}-{:02}-{:02}", civil.year, civil.month, civil.day)
}

fn deviations(profile: &Profile) -> Vec<&'static str> {
    profile.deviations().iter().map(|deviation| deviation.name).collect()
}

fn deviation_line(deviation: &Deviation) -> String {
    let Deviation { name, clause, says } = deviation;
    format!("deviation {name}: {says} (against {clause})")
}

/// What else a person should know before certificates are made.
fn notes(store: &Path, profile: Option<&Profile>) -> Result<Vec<String>, Fault> {
    let made = Ledger::path(store).exists();
    if made && Blocklist::open(store)?.is_loaded() {
        return Ok(Vec::new());
    }
    let demanded = profile.is_some_and(Profile::demands_blocklist);
    let consequence = match demanded {
        true => "so this profile refuses every request",
        false => "so keys that others hold too are not found",
    };
    let place = store.display();
    Ok(vec![format!(
        "no list of weak keys is loaded in {place}, {consequence}; load one with `signer blocklist \
         import FILE`"
    )])
}

/// The authority that would sign, read without its key.
struct Above {
    layout: Layout,
    issuer: Issuer,
    subject: String,
    not_after: UnixTime,
}

impl Above {
    fn read(store: &Path, authority: &Name) -> Result<Self, Failure> {
        let layout = Layout::new(store, authority);
        let path = layout.file("ca.crt");
        if !path.exists() {
            return Err(no_authority(authority));
        }
        let unreadable =
            |why: &str| Fault::Damaged { what: path.display().to_string(), why: why.to_owned() };
        let certificate = X509::from_pem(&durable::read(&path)?)
            .map_err(|_| unreadable("it holds no certificate in PEM"))?;
        let public_key = certificate.public_key().map_err(Fault::from)?;
        let kind = CaKeyKind::of(&public_key)
            .ok_or_else(|| unreadable("its key is no RSA, P-256 or P-384 key"))?;
        let key_identifier = match certificate.subject_key_id() {
            Some(identifier) => identifier.as_slice().to_vec(),
            None => tbs::key_identifier(&public_key.public_key_to_der().map_err(Fault::from)?)?,
        };
        let config = AuthorityConfig::load(&layout.file("authority.toml"))?;
        let issuer = Issuer {
            name: certificate.subject_name().to_der().map_err(Fault::from)?,
            key_identifier,
            signature_algorithm: kind.signature_algorithm(None),
            crl_shards: config.crl.shards,
        };
        Ok(Self {
            layout,
            issuer,
            subject: name::from_x509(certificate.subject_name()),
            not_after: asn1_time(certificate.not_after())?,
        })
    }

    /// The file of one of its profiles.
    fn profile(&self, name: &str) -> Result<PathBuf, Failure> {
        let directory = self.layout.file("profiles");
        let known = name.parse::<Name>().ok().map(|name| directory.join(format!("{name}.toml")));
        known.filter(|path| path.exists()).ok_or_else(|| {
            let text = format!("there is no profile {name} in {}", directory.display());
            Fault::Configuration(text).into()
        })
    }

    fn signing(&self) -> Signing<'_> {
        Signing { subject: &self.subject, not_after: self.not_after, issuer: &self.issuer }
    }
}

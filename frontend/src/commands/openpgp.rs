//! `certify`, `revoke --openpgp`, `openpgp list` and `openpgp export`.
//!
//! Asking is as for certificates: refuse nonsense, commit, tell the id. Handing out reads the
//! store and writes files of its own; it asks the signer nothing.

use std::{collections::BTreeMap, path::Path};

use protocol::message::{
    ApprovedUserId, CertifyOpenPgp, Name, RefusalCode, Request, RevokeOpenPgp,
};
use serde_json::{Value, json};

use super::{ask, print, read_input, show};
use crate::{
    catalogue::{Catalogues, Trusted},
    cli::{self, Cli, OpenPgpCommand},
    clock::{self, Utc},
    error::Failure,
    handed_out,
    home::{ExportLock, Home},
    openpgp::{
        self, check,
        export::{self, Exported},
        publish::{self, Plan},
        register::{Entry, Register},
        strip::Stripped,
        wkd::{self, Layout},
    },
    precheck,
    refusal::Refusal,
};

/// `frontend certify`
pub(super) fn certify(cli: &Cli, home: &Home, wish: &cli::Certify) -> Result<(), Failure> {
    let (bytes, from) = read_input(&wish.key)?;
    let store = home.store()?;
    let user_ids = asked_user_ids(wish)?;
    let trusted = Catalogues(store.connection()).trusted()?;
    let authority = match &wish.authority {
        Some(name) => name.clone(),
        None => only_authority(&trusted)?,
    };
    let key = if wish.queueing.no_precheck {
        openpgp::read_unchecked(&bytes, &from)?
    } else {
        let (policy, count) = (wish.policy.as_ref(), user_ids.len());
        let policy = precheck::certify(&trusted, &authority, policy, wish.days, count)?;
        let stripped = Stripped::read(&bytes, &from)?;
        check::trim(&stripped, &user_ids, policy, &from, clock::unix_us())?.into_bytes()
    };
    let too_many = |error| {
        let fact = format!("too many user IDs are asked for: {error}");
        Refusal::new(RefusalCode::OpenPgpUserIdForm, fact)
    };
    let request = Request::Certify(CertifyOpenPgp {
        id: clock::new_request_id(),
        authority,
        policy: wish.policy.clone(),
        user_ids: user_ids.try_into().map_err(too_many)?,
        days: wish.days,
        renew: wish.renew,
        key: ask::bounded(key, RefusalCode::OpenPgpMalformed, &from)?,
    });
    ask::queue(cli, home, store, &request, wish.queueing)
}

/// The user IDs of the command line: each `--uid`, then each `--address` with its `--name`.
fn asked_user_ids(wish: &cli::Certify) -> Result<Vec<ApprovedUserId>, Failure> {
    if !wish.name.is_empty() && wish.name.len() != wish.address.len() {
        return Err(Failure::Usage(format!(
            "{} --name are given for {} --address; give one for each, or none at all",
            wish.name.len(),
            wish.address.len()
        )));
    }
    let too_long = |text: &str| {
        let shown: String = text.chars().take(SHOWN_MAX).collect();
        let fact = format!("`{}...` is longer than any user ID", shown.escape_debug());
        Refusal::new(RefusalCode::OpenPgpUserIdForm, fact)
    };
    let mut asked = Vec::new();
    for uid in &wish.uid {
        asked.push(ApprovedUserId::Exact(uid.as_str().try_into().map_err(|_| too_long(uid))?));
    }
    for (index, address) in wish.address.iter().enumerate() {
        let name = wish.name.get(index).map_or("", String::as_str);
        asked.push(ApprovedUserId::Address {
            name: name.try_into().map_err(|_| too_long(name))?,
            address: address.as_str().try_into().map_err(|_| too_long(address))?,
        });
    }
    Ok(asked)
}

/// So many characters of a text that is too long stand in a sentence.
const SHOWN_MAX: usize = 40;

/// The OpenPGP authority where none is named: there must be exactly one. Before a catalogue has
/// come, the one that an administrator made without naming it.
fn only_authority(trusted: &Trusted) -> Result<Name, Failure> {
    if trusted.catalogue.is_none() {
        return UNNAMED.parse().map_err(|error| Failure::Usage(format!("{UNNAMED}: {error}")));
    }
    let mut offered = trusted.openpgp.values().filter(|authority| authority.offered);
    match (offered.next(), offered.next()) {
        (Some(only), None) => Ok(only.name.clone()),
        (None, _) => {
            let fact = "the signer has no OpenPGP key";
            Err(Refusal::new(RefusalCode::OpenPgpUnavailable, fact).into())
        }
        (Some(_), Some(_)) => {
            let names: Vec<&str> = trusted.openpgp.keys().map(Name::as_str).collect();
            Err(Failure::Usage(format!(
                "the signer has several OpenPGP authorities: {}; name one with --authority",
                names.join(", ")
            )))
        }
    }
}

/// What `signer openpgp create` calls an authority where no name is given.
const UNNAMED: &str = "openpgp";

/// `frontend revoke --openpgp`
pub(super) fn revoke(
    cli: &Cli,
    home: &Home,
    wish: &cli::Revoke,
    fingerprint: &str,
) -> Result<(), Failure> {
    let store = home.store()?;
    let trusted = Catalogues(store.connection()).trusted()?;
    let authority = match &wish.authority {
        Some(name) => name.clone(),
        None => {
            let entries = Register(store.connection()).of_key(fingerprint)?;
            certifier(&entries, fingerprint)?.map_or_else(|| only_authority(&trusted), Ok)?
        }
    };
    if !wish.queueing.no_precheck {
        precheck::revoke_openpgp(&trusted, &authority)?;
    }
    let too_long =
        |_| Refusal::new(RefusalCode::OpenPgpNothingCertified, "--uid is longer than any user ID");
    let user_id = wish.uid.as_deref().map(TryInto::try_into).transpose().map_err(too_long)?;
    let request = Request::RevokeOpenPgp(RevokeOpenPgp {
        id: clock::new_request_id(),
        authority,
        fingerprint: fingerprint.try_into().map_err(too_long)?,
        user_id,
        reason: wish.reason.of_certification()?,
    });
    ask::queue(cli, home, store, &request, wish.queueing)
}

/// Who certified the key, as far as it is known here; several must be told apart by the caller.
fn certifier(entries: &[Entry], fingerprint: &str) -> Result<Option<Name>, Failure> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.authority.as_str()).collect();
    names.dedup();
    match names[..] {
        [] => Ok(None),
        [only] => Ok(only.parse().ok()),
        _ => Err(Failure::Usage(format!(
            "key {fingerprint} was certified by {}; name one with --authority",
            names.join(", ")
        ))),
    }
}

/// `frontend openpgp ...`
pub(super) fn openpgp(cli: &Cli, home: &Home, command: &OpenPgpCommand) -> Result<(), Failure> {
    match command {
        OpenPgpCommand::List(wish) => list(cli, home, wish),
        OpenPgpCommand::Export(wish) => export(cli, home, wish),
    }
}

//------------ Showing -------------------------------------------------------

fn list(cli: &Cli, home: &Home, wish: &cli::OpenPgpList) -> Result<(), Failure> {
    let store = home.store()?;
    let register = Register(store.connection());
    let mut entries = match &wish.fingerprint {
        Some(fingerprint) => register.of_key(fingerprint)?,
        None => register.all()?,
    };
    if let Some(name) = &wish.authority {
        entries.retain(|entry| entry.authority == name.as_str());
    }
    let now_s = clock::unix_us() / 1_000_000;
    let mut lines = Vec::new();
    let mut last = "";
    for entry in &entries {
        if entry.fingerprint != last {
            lines.push(entry.fingerprint.clone());
            last = &entry.fingerprint;
        }
        lines.push(format!("  {}", line(entry, now_s)));
    }
    if lines.is_empty() {
        lines.push("no OpenPGP key was certified".to_owned());
    }
    let value: Vec<Value> = entries.iter().map(|entry| value(entry, now_s)).collect();
    show(cli, &lines.join("\n"), &json!({ "certifications": value }))
}

/// A certified user ID in one line.
pub(super) fn line(entry: &Entry, now_s: i64) -> String {
    let until = match entry.revoked_at {
        Some(at) => format!("revoked {}", utc(at)),
        None if now_s < entry.expires_at => format!("valid until {}", utc(entry.expires_at)),
        None => format!("expired {}", utc(entry.expires_at)),
    };
    // A verified user ID has nothing in it that a terminal could take for a command.
    format!("{}  by {}, {until}", entry.user_id, entry.authority)
}

/// A certified user ID for scripts.
pub(super) fn value(entry: &Entry, now_s: i64) -> Value {
    json!({
        "authority": entry.authority,
        "fingerprint": entry.fingerprint,
        "user_id": entry.user_id,
        "state": entry.state(now_s),
        "serial": entry.serial,
        "certified_at": utc(entry.created_at),
        "expires_at": utc(entry.expires_at),
        "revoked_at": entry.revoked_at.map(utc),
        "reason": entry.reason,
        "request": entry.request.to_string(),
    })
}

fn utc(unix_s: i64) -> String {
    Utc(unix_s.saturating_mul(1_000_000)).to_string()
}

//------------ Handing out ---------------------------------------------------

fn export(cli: &Cli, home: &Home, wish: &cli::OpenPgpExport) -> Result<(), Failure> {
    let store = home.store()?;
    if let Some(name) = &wish.authority {
        let trusted = Catalogues(store.connection()).trusted()?;
        if trusted.catalogue.is_some() && !trusted.openpgp.contains_key(name) {
            let text = format!("there is no OpenPGP authority `{name}`; see `frontend catalogue`");
            return Err(Failure::Usage(text));
        }
    }
    // What another export writes meanwhile may be newer than what is read here.
    let lock = home.lock_exports()?;
    let now_s = clock::unix_us() / 1_000_000;
    let authority = wish.authority.as_ref().map(Name::as_str);
    let keys = export::keys(&Register(store.connection()), authority, now_s)?;
    match (&wish.wkd, &wish.keyring) {
        (Some(root), _) => directory(cli, wish, root, &keys),
        (None, Some(file)) => keyring(cli, wish, lock, file, &keys),
        (None, None) => unreachable!("the command line requires one of the two"),
    }
}

fn keyring(
    cli: &Cli,
    wish: &cli::OpenPgpExport,
    lock: ExportLock,
    path: &Path,
    keys: &[Exported],
) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for key in keys {
        bytes.extend(key.for_keyring()?);
    }
    if wish.armour {
        bytes = openpgp::armour(&bytes)
            .map_err(|error| Failure::Away(format!("cannot write armour: {error}")))?;
    }
    if path.as_os_str() == "-" {
        // Who reads it may take all day.
        drop(lock);
        return print(&bytes);
    }
    publish::make_folder_of(path)?;
    handed_out::write(lock, path, &bytes)?;
    let certified = keys.iter().filter(|key| key.is_certified()).count();
    let text = format!(
        "{certified} certified keys, and {} of which a certification was taken back, written to {}",
        keys.len() - certified,
        path.display()
    );
    let value = json!({
        "keyring": path.display().to_string(),
        "keys": certified,
        "revoked_only": keys.len() - certified,
    });
    show(cli, &text, &value)
}

fn directory(
    cli: &Cli,
    wish: &cli::OpenPgpExport,
    root: &Path,
    keys: &[Exported],
) -> Result<(), Failure> {
    let domains: Vec<String> = wish.domain.iter().map(|name| name.to_ascii_lowercase()).collect();
    if let Some(bad) = domains.iter().find(|name| !wkd::is_host(name)) {
        return Err(Failure::Usage(format!("`{bad}` is no domain name in ASCII")));
    }
    let layout = match (wish.direct, &domains[..]) {
        (false, _) => Layout::Advanced,
        (true, [_]) => Layout::Direct,
        (true, _) => {
            let text = "the direct layout serves one domain; give one --domain and a folder for \
                        each";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    let is_wanted = |domain: &str| domains.is_empty() || domains.iter().any(|one| one == domain);

    let mut plan = Plan::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for domain in &domains {
        counts.insert(domain.clone(), 0);
    }
    // The key that was certified last comes first: some readers take no other.
    let mut newest: Vec<&Exported> = keys.iter().collect();
    newest.sort_by_key(|key| std::cmp::Reverse(key.certified_at()));
    for key in newest {
        for mailbox in key.mailboxes() {
            let domain = mailbox.domain();
            if is_wanted(domain) {
                let bytes = key.for_domain(domain)?;
                plan.entry(layout.keys(&mailbox)).or_default().extend(bytes);
                *counts.entry(domain.to_owned()).or_default() += 1;
            }
        }
    }
    for domain in counts.keys() {
        plan.insert(layout.policy(domain), Vec::new());
    }
    let is_ours = |path: &Path| match (layout, domains.is_empty()) {
        (Layout::Direct, _) | (_, true) => true,
        (Layout::Advanced, false) => {
            domains.iter().any(|domain| path.starts_with(layout.folder(domain)))
        }
    };
    let done = publish::directory(root, &plan, is_ours)?;

    let left_out: usize = keys.iter().map(Exported::without_address).sum();
    let mut lines: Vec<String> =
        counts.iter().map(|(domain, count)| format!("{domain}  {count} addresses")).collect();
    lines.push(format!(
        "{} files written, {} as they were, {} removed in {}",
        done.written,
        done.kept,
        done.removed,
        root.display()
    ));
    if left_out > 0 {
        lines.push(format!("{left_out} certified user IDs have no address and are left out"));
    }
    let value = json!({
        "wkd": root.display().to_string(),
        "layout": match layout { Layout::Advanced => "advanced", Layout::Direct => "direct" },
        "domains": counts,
        "written": done.written,
        "kept": done.kept,
        "removed": done.removed,
        "without_address": left_out,
    });
    show(cli, &lines.join("\n"), &value)
}

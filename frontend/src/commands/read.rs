//! `get`, `time` and `catalogue`: show what is here. Nothing is changed.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, process};

use protocol::message::{Digest, Name, RequestId};
use serde_json::{Value, json};

use super::{print, show, status};
use crate::{
    carrier::{Exchange, TIME},
    catalogue::Catalogues,
    cli::{self, Cli, Output},
    clock::{self, Utc},
    durable::{self, Unfinished},
    error::{Failure, sentence},
    home::Home,
    inventory::Inventory,
    names, openpgp, pem,
    queue::{Entry, Kind, State},
    store::{Notes, Store},
};

/// `frontend get`
pub(super) fn get(cli: &Cli, home: &Home, wish: &cli::Get) -> Result<(), Failure> {
    let store = home.store()?;
    let entry = status::find(&store, wish.id)?;
    let id = wish.id;
    match (entry.state, &entry.refusal) {
        (State::Done, _) => {}
        (_, Some((code, text))) => {
            let text = format!("request {id} was refused ({code}): {text}");
            return Err(Failure::RefusedBySigner(text));
        }
        (state, None) => {
            let text = format!("request {id} is {state}; ask again later");
            return Err(Failure::Waiting(text));
        }
    }
    let (text, der) = match entry.kind {
        Kind::Issue => certificate(&store, &entry, wish.chain)?,
        Kind::Certify => certified_key(&store, id)?,
        Kind::Revoke if entry.serial.is_none() => certified_key(&store, id)?,
        Kind::Revoke => {
            return Err(Failure::Usage(format!(
                "request {id} is a revocation, which gives no file; see `frontend crl {}`",
                entry.authority.unwrap_or_default()
            )));
        }
    };
    let mut value = json!({ "id": id.to_string(), "kind": entry.kind.to_string() });
    value["serial"] = json!(entry.serial.map(|serial| serial.to_string()));
    value["text"] = json!(text);
    write(cli, &wish.output, text.as_bytes(), &der, &value)
}

/// The certificate of a finished request as PEM and DER.
fn certificate(store: &Store, entry: &Entry, chain: bool) -> Result<(String, Vec<u8>), Failure> {
    let stored = Inventory(store.connection()).of_request(entry.id)?;
    let stored = stored.ok_or_else(|| missing(entry.id))?;
    let mut text = pem::write("CERTIFICATE", &stored.der);
    if chain {
        let trusted = Catalogues(store.connection()).trusted()?;
        let issuer = trusted
            .authorities
            .values()
            .find(|authority| Some(authority.name.as_str()) == entry.authority.as_deref());
        for der in issuer.iter().flat_map(|authority| authority.certificates()) {
            text.push_str(&pem::write("CERTIFICATE", der));
        }
    }
    Ok((text, stored.der))
}

/// The key of a finished OpenPGP request with armour and binary.
fn certified_key(store: &Store, id: RequestId) -> Result<(String, Vec<u8>), Failure> {
    let stored = Inventory(store.connection()).certification(id)?;
    let (_, binary) = stored.ok_or_else(|| missing(id))?;
    let armoured = openpgp::armour(&binary)
        .map_err(|error| Failure::Away(format!("cannot write armour: {error}; use --der")))?;
    Ok((String::from_utf8_lossy(&armoured).into_owned(), binary))
}

fn missing(id: RequestId) -> Failure {
    Failure::Away(format!("the store has no answer for request {id}; restore DIR from a backup"))
}

/// Writes to the file or to standard output, as text or as DER; with `--json` standard output
/// gets `value` instead.
pub(super) fn write(
    cli: &Cli,
    output: &Output,
    text: &[u8],
    der: &[u8],
    value: &Value,
) -> Result<(), Failure> {
    let bytes = if output.der { der } else { text };
    if let Some(path) = &output.out {
        write_file(path, bytes)?;
    }
    match (cli.json, &output.out) {
        (true, _) => print(format!("{value}\n").as_bytes()),
        (false, None) => print(bytes),
        (false, Some(_)) => Ok(()),
    }
}

/// A file is replaced, so that a web server never serves a part of it. What is asked for here is
/// public: everybody may read a new one; the mode of one that is there is its owner's choice.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = match fs::metadata(path) {
        Ok(there) if there.is_file() => fs::canonicalize(path)
            .and_then(|file| replace(&file, bytes, there.permissions().mode() & 0o777)),
        Ok(_) => fs::write(path, bytes), // a pipe or a device
        Err(_) => replace(path, bytes, durable::PUBLIC),
    };
    written.map_err(|error| {
        let text = sentence(&error);
        Failure::Usage(format!(
            "cannot write `{}`: {text}; name another file, in a folder that can be written",
            path.display()
        ))
    })
}

/// What lies beside it in this folder is not ours, and another command may be at the same file: the
/// name for the meantime is this process's own.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let meantime = format!("{}.new", process::id());
    let replaced = Unfinished::create(path, &meantime, mode).and_then(|new| {
        new.fill(bytes)?;
        new.put_in_place()?;
        durable::sync_directory(path)
    });
    replaced.map_err(|error| error.source)
}

/// `frontend time`
pub(super) fn time(cli: &Cli, home: &Home) -> Result<(), Failure> {
    let store = home.store()?;
    let Some(exchange) = Notes(store.connection()).read::<Exchange>(TIME)? else {
        let text = "no time hint was answered yet; `frontend run` sends them";
        return Err(Failure::Waiting(text.to_owned()));
    };
    let age_s = clock::unix_us().saturating_sub(exchange.frontend_us) / 1_000_000;
    let seconds = |us: i64| us as f64 / 1e6;
    let synchronised = if exchange.synchronised { "synchronised" } else { "not synchronised" };
    let text = format!(
        "frontend    {} ({synchronised})\nsigner      {}\noffset      {:+.3} s (signer minus \
         frontend)\nround trip  {:.3} s\nheard       {age_s} s ago",
        Utc(exchange.frontend_us),
        Utc(exchange.signer_us),
        seconds(exchange.offset_us),
        exchange.round_trip_us as f64 / 1e6,
    );
    let value = json!({
        "frontend_us": exchange.frontend_us,
        "frontend": Utc(exchange.frontend_us).to_string(),
        "signer_us": exchange.signer_us,
        "signer": Utc(exchange.signer_us).to_string(),
        "offset_us": exchange.offset_us,
        "round_trip_us": exchange.round_trip_us,
        "synchronised": exchange.synchronised,
        "age_s": age_s,
    });
    show(cli, &text, &value)
}

/// `frontend catalogue`
pub(super) fn catalogue(cli: &Cli, home: &Home) -> Result<(), Failure> {
    let store = home.store()?;
    let trusted = Catalogues(store.connection()).trusted()?;
    if trusted.catalogue.is_none() {
        let text = "no catalogue has come yet; `frontend run` asks the signer for it";
        return Err(Failure::Waiting(text.to_owned()));
    }
    let mut lines = Vec::new();
    let mut authorities = Vec::new();
    for authority in trusted.authorities.values() {
        let subject = names::show(&authority.flat_name());
        let digest = authority.certificates().next().map(Digest::of);
        let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
        let gone = if authority.offered { "" } else { " (no longer shown by the signer)" };
        lines.push(format!("{}  {subject}{gone}\n  SHA-256 {digest}", authority.name));
        let (delta, shards) = (authority.delta_crl, authority.crl_shards);
        let crls = [
            delta.then(|| "delta CRL".to_owned()),
            (shards > 0).then(|| format!("{shards} shards")),
        ];
        let crls: Vec<String> = crls.into_iter().flatten().collect();
        if !crls.is_empty() {
            lines.push(format!("  CRLs    full, {}", crls.join(", ")));
        }
        let mut profiles = Vec::new();
        for profile in &authority.profiles {
            let types: Vec<&str> = profile.name_types.iter().map(|text| &**text).collect();
            let console = if profile.console_only { ", console only" } else { "" };
            let arranged = if profile.subject_as_asked { "" } else { ", arranges subjects" };
            lines.push(format!(
                "  {}: {} days, at most {}, names: {}{arranged}{console}",
                profile.name,
                profile.days_default,
                profile.days_max,
                if types.is_empty() { "none".to_owned() } else { types.join(" ") },
            ));
            profiles.push(json!({
                "name": profile.name.as_str(),
                "console_only": profile.console_only,
                "days_default": profile.days_default,
                "days_max": profile.days_max,
                "name_types": types,
                "subject_as_asked": profile.subject_as_asked,
            }));
        }
        authorities.push(json!({
            "name": Name::as_str(&authority.name),
            "subject": subject,
            "sha256": digest,
            "offered": authority.offered,
            "delta_crl": delta,
            "crl_shards": shards,
            "profiles": profiles,
        }));
    }
    let mut openpgp = Vec::new();
    for authority in trusted.openpgp.values() {
        let fingerprint = authority.cert().fingerprint().to_hex();
        let gone = if authority.offered { "" } else { " (no longer shown by the signer)" };
        lines.push(format!("{}  OpenPGP{gone}\n  {fingerprint}", authority.name));
        let mut policies = Vec::new();
        for policy in &authority.policies {
            let kinds: Vec<&str> = policy.key_kinds.iter().map(|text| &**text).collect();
            lines.push(format!(
                "  {}: {} days, at most {}, {} certifications, keys: {}",
                policy.name,
                policy.days_default,
                policy.days_max,
                policy.level.name(),
                kinds.join(" "),
            ));
            policies.push(json!({
                "name": policy.name.as_str(),
                "level": policy.level.name(),
                "days_default": policy.days_default,
                "days_max": policy.days_max,
                "key_kinds": kinds,
                "rsa_bits_min": policy.rsa_bits_min,
                "needs_encryption": policy.needs_encryption,
                "user_ids_max": policy.user_ids_max,
                "policy_uri": policy.policy_uri.as_deref(),
                "serial_notation": policy.serial_notation.as_deref(),
            }));
        }
        openpgp.push(json!({
            "name": authority.name.as_str(),
            "fingerprint": fingerprint,
            "offered": authority.offered,
            "policies": policies,
        }));
    }
    let value = json!({ "authorities": authorities, "openpgp": openpgp });
    show(cli, &lines.join("\n"), &value)
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn everybody_may_read_a_new_file_and_one_that_is_there_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        // As in a frontend's process, whose files are its owner's.
        Home::init(&dir.path().join("frontend")).unwrap();
        let file = dir.path().join("issuing.crl");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        write_file(&file, b"the first, and longer").unwrap();
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        write_file(&file, b"the second").unwrap();
        assert_eq!((mode(), fs::read(&file).unwrap().as_slice()), (0o640, &b"the second"[..]));
        // Whoever reads the one before goes on reading it; a link leads to the new one.
        let before = fs::File::open(&file).unwrap();
        let link = dir.path().join("link.crl");
        symlink(&file, &link).unwrap();
        write_file(&link, b"the third").unwrap();
        assert_eq!(std::io::read_to_string(before).unwrap(), "the second");
        assert_eq!(fs::read_to_string(&file).unwrap(), "the third");
        assert!(link.is_symlink());
        // What is no file has no mode of ours.
        write_file(Path::new("/dev/null"), b"nowhere").unwrap();
    }
}

//! `get`, `time` and `catalogue`: show what is here. Nothing is changed.

use protocol::message::{Digest, Name, RequestId};
use serde_json::{Value, json};

use super::{print, show, status};
use crate::{
    carrier::{Exchange, TIME},
    catalogue::Catalogues,
    cli::{self, Cli, Output},
    clock::{self, Utc},
    error::Failure,
    handed_out,
    home::{ExportLock, Home},
    inventory::Inventory,
    names, openpgp, pem,
    queue::{Entry, Kind, State},
    store::{Notes, Store},
};

/// `frontend get`
pub(super) fn get(cli: &Cli, home: &Home, wish: &cli::Get) -> Result<(), Failure> {
    let lock = lock(home, &wish.output)?;
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
    write(cli, &wish.output, lock, text.as_bytes(), &der, &value)
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

/// To be taken before that is read which shall be in the file.
pub(super) fn lock(home: &Home, output: &Output) -> Result<Option<ExportLock>, Failure> {
    Ok(output.out.as_ref().map(|_| home.lock_exports()).transpose()?)
}

/// Writes to the file or to standard output, as text or as DER; with `--json` standard output
/// gets `value` instead.
pub(super) fn write(
    cli: &Cli,
    output: &Output,
    lock: Option<ExportLock>,
    text: &[u8],
    der: &[u8],
    value: &Value,
) -> Result<(), Failure> {
    let bytes = if output.der { der } else { text };
    if let Some((path, lock)) = output.out.as_ref().zip(lock) {
        handed_out::write(lock, path, bytes)?;
    }
    match (cli.json, &output.out) {
        (true, _) => print(format!("{value}\n").as_bytes()),
        (false, None) => print(bytes),
        (false, Some(_)) => Ok(()),
    }
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

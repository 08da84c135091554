//! `signer status`, `signer time`, `signer authority list`: reading, for people and scripts.
//!
//! Nothing here takes the store's lock, so it works beside a running signer.

use std::{io::ErrorKind, path::Path};

use openssl::x509::X509;
use serde_json::{Value, json};

use super::{Failure, boot_id};
use crate::{
    authority::{self, Layout, asn1_time},
    blocklist::{self, Blocklist},
    calendar::UnixTime,
    clock::{Moment, Report},
    durable::{self, Lock},
    fault::Fault,
    ledger::Ledger,
    link_key, name,
};

/// Lists the authorities with their CRLs' runway.
pub(super) fn authorities(store: &Path, now: Moment, as_json: bool) -> Result<(), Failure> {
    let rows = authority_rows(store, now.unix())?;
    if as_json {
        say!("{}", json!({ "authorities": rows }));
        return Ok(());
    }
    if rows.is_empty() {
        say!("no authority yet; make one with `signer authority create`");
    }
    for row in rows {
        say!("{}", row["name"].as_str().unwrap_or_default());
        say!("  subject      {}", text(&row["subject"]));
        say!("  valid until  {}", text(&row["not_after"]));
        say!("  issued by    {}", text(&row["issuer"]));
        say!("  CRL          number {}, {} entries", row["crl_number"], row["crl_entries"]);
        say!("  next CRL by  {}", text(&row["crl_next_update"]));
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn authority_rows(store: &Path, now: UnixTime) -> Result<Vec<Value>, Fault> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let mut rows = Vec::new();
    for name in authority::names(store)? {
        let Some(id) = ledger.authority(&name)? else { continue };
        let layout = Layout::new(store, &name);
        let certificate = X509::from_pem(&durable::read(&layout.file("ca.crt"))?)?;
        let self_signed =
            certificate.subject_name().to_der()? == certificate.issuer_name().to_der()?;
        let crl = ledger.newest_crl(id)?;
        let (serial_counter, _) = ledger.counters(id)?;
        rows.push(json!({
            "name": name.as_str(),
            "subject": name::from_x509(certificate.subject_name()),
            "issuer": name::from_x509(certificate.issuer_name()),
            "root": self_signed,
            "not_after": asn1_time(certificate.not_after())?.to_string(),
            "serial_counter": serial_counter,
            "crl_number": crl.as_ref().map(|crl| crl.number),
            "crl_entries": crl.as_ref().map(|crl| crl.entries),
            "crl_next_update": crl.as_ref().map(|crl| crl.next_update.to_string()),
            "crl_runway_hours": crl.as_ref().map(|crl| (crl.next_update.0 - now.0) / 3_600),
        }));
    }
    Ok(rows)
}

/// Shows what the signer holds and how it is.
pub(super) fn status(store: &Path, now: Moment, as_json: bool) -> Result<(), Failure> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    // The running signer holds this lock; its state file alone could be left over.
    let running = Lock::is_taken(&store.join("lock"))?;
    let state = read_json(&store.join("run/state.json"))?.filter(|_| running);
    let outcomes = ledger.outcomes()?;
    let count: u64 = outcomes.iter().map(|(_, count)| count).sum();
    let authorities = authority_rows(store, now.unix())?;
    let floor = ledger.time_floor()?;
    let link = state.as_ref().map_or(Value::Null, |state| state["link"].clone());
    let warnings = state.as_ref().map_or(json!([]), |state| state["warnings"].clone());
    let warnings = with_own_warnings(store, warnings)?;
    let paired = link_key::peer(store)?.map(|key| key.fingerprint().to_string());
    if as_json {
        let by_outcome: serde_json::Map<String, Value> =
            outcomes.into_iter().map(|(outcome, count)| (outcome, json!(count))).collect();
        let value = json!({
            "running": running,
            "link": link,
            "paired_with": paired,
            "requests": by_outcome,
            "unacknowledged": ledger.unacknowledged()?,
            "certificates": ledger.issued()?,
            "authorities": authorities,
            "last_signature": floor.to_string(),
            "warnings": warnings,
        });
        say!("{value}");
        return Ok(());
    }
    let link_text = link["text"].as_str().unwrap_or("nothing heard yet");
    say!("signer       {}", if running { "running" } else { "not running" });
    if running {
        say!("link         {link_text}");
    }
    match &paired {
        Some(fingerprint) => say!("paired with  the frontend of fingerprint {fingerprint}"),
        None => say!("paired with  nobody: see `signer pair --show`"),
    }
    let parts: Vec<String> =
        outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    say!(
        "requests     {count} ({})",
        if parts.is_empty() { "none".into() } else { parts.join(", ") }
    );
    say!("waiting      {} answers not yet acknowledged by the frontend", ledger.unacknowledged()?);
    for row in &authorities {
        say!(
            "authority    {}: CRL {} with {} entries, {} hours left",
            text(&row["name"]),
            row["crl_number"],
            row["crl_entries"],
            row["crl_runway_hours"]
        );
    }
    if floor.0 > 0 {
        say!("last signed  {floor}");
    }
    for warning in warnings.as_array().into_iter().flatten() {
        say!("WARNING      {}", text(warning));
    }
    Ok(())
}

/// What no running signer is needed to notice.
fn with_own_warnings(store: &Path, warnings: Value) -> Result<Value, Fault> {
    let Value::Array(mut warnings) = warnings else { return Ok(warnings) };
    if !Blocklist::open(store)?.is_loaded() {
        warnings.push(json!(blocklist::NOT_LOADED));
    }
    Ok(Value::Array(warnings))
}

fn read_json(path: &Path) -> Result<Option<Value>, Fault> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| Fault::Damaged {
            what: path.display().to_string(),
            why: error.to_string(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::disk("read", path)(error)),
    }
}

/// Shows the last time hint and what the operator can do with it.
pub(super) fn time(store: &Path, now: Moment, as_json: bool) -> Result<(), Failure> {
    let path = store.join("timesync.json");
    let Some(value) = read_json(&path)? else {
        return Err(Failure::Waiting(
            "no time hint has arrived yet; start `signer run` and let the frontend connect".into(),
        ));
    };
    let report: Report = serde_json::from_value(value).map_err(|error| Fault::Damaged {
        what: path.display().to_string(),
        why: error.to_string(),
    })?;
    let same_boot = report.boot_id == boot_id()?;
    let age_s = same_boot.then_some((now.boot_us - report.newest.boot_us) / 1_000_000);
    let script = store.join("timesync.sh").display().to_string();
    if as_json {
        let value = json!({
            "signer_unix_us": now.unix_us,
            "hint_unix_us": report.newest.hint_unix_us,
            "offset_us": report.offset_us,
            "round_trip_us": report.newest.round_trip_us,
            "synchronised": report.newest.synchronised,
            "drift_ppm": report.drift_ppm,
            "age_s": age_s,
            "usable": age_s.is_some(),
            "script": script,
        });
        say!("{value}");
        return Ok(());
    }
    say!("this machine    {}", now.unix());
    match age_s {
        Some(age) => {
            let frontend = report.newest.hint_unix_us / 1_000_000 + age;
            say!("the frontend    {} (hint {age} s old)", UnixTime(frontend));
        }
        None => say!("the frontend    unknown: the machine was restarted since the last hint"),
    }
    say!("offset          {:+.3} s at the hint", report.offset_us as f64 / 1e6);
    match report.newest.round_trip_us {
        0 => say!("round trip      not measured yet"),
        micros => say!("round trip      {:.1} ms", f64::from(micros) / 1e3),
    }
    match report.drift_ppm {
        Some(drift) => say!("drift           {drift:+.1} ppm"),
        None => say!("drift           not known before ten minutes of hints"),
    }
    let synchronised = if report.newest.synchronised { "yes" } else { "no: compare with a watch" };
    say!("synchronised    {synchronised}");
    say!("");
    say!("Nothing was changed. To set this machine's clock, compare with your watch, then run");
    say!("  sh {script}");
    Ok(())
}

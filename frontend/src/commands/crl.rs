//! `crl`: one of the published CRLs, or how long all of them last. Nothing is changed.

use protocol::message::CrlScope;
use serde_json::json;

use super::{read, show, status};
use crate::{
    catalogue::{Catalogues, Trusted},
    cli::{self, Cli},
    clock::{self, Utc},
    crl::{CrlName, all_of, list, mirror::Mirror},
    error::Failure,
    home::Home,
    pem,
};

/// `frontend crl`
pub(super) fn crl(cli: &Cli, home: &Home, wish: &cli::Crl) -> Result<(), Failure> {
    let store = home.store()?;
    let trusted = Catalogues(store.connection()).trusted()?;
    if let Some(authority) = &wish.authority
        && trusted.catalogue.is_some()
        && !trusted.authorities.contains_key(authority)
    {
        return Err(Failure::Usage(format!(
            "there is no authority `{authority}`; `frontend catalogue` lists them"
        )));
    }
    match &wish.authority {
        Some(authority) if !wish.runway => {
            let scope = match (wish.delta, wish.shard) {
                (true, _) => CrlScope::Delta,
                (false, Some(shard)) => CrlScope::Shard(shard),
                (false, None) => CrlScope::Full,
            };
            one(cli, home, wish, &trusted, &CrlName::new(authority, scope))
        }
        _ => runway(cli, home, wish, &trusted),
    }
}

fn one(
    cli: &Cli,
    home: &Home,
    wish: &cli::Crl,
    trusted: &Trusted,
    name: &CrlName,
) -> Result<(), Failure> {
    let authority = trusted.authorities.get(&name.authority);
    if let Some(authority) = authority
        && all_of(authority).all(|known| known != *name)
    {
        return Err(Failure::Usage(format!(
            "the signer makes no CRL `{name}`; `frontend catalogue` shows which it makes"
        )));
    }
    let lock = read::lock(home, &wish.output)?;
    let mirror = Mirror::new(home);
    let Some(der) = mirror.read(name)? else {
        let text = format!("no CRL `{name}` has come yet; `frontend run` fetches it");
        return Err(Failure::Waiting(text));
    };
    let facts = list::inspect(&der)
        .map_err(|error| Failure::Away(format!("the CRL `{name}` is damaged: {error}")))?;
    let value = json!({
        "authority": name.authority.as_str(),
        "name": name.to_string(),
        "number": facts.number,
        "base": facts.base,
        "entries": facts.entries,
        "this_update": Utc(facts.this_update * 1_000_000).to_string(),
        "next_update": facts.next_update.map(|at| Utc(at * 1_000_000).to_string()),
        "runway_hours": status::runway_hours(&facts, clock::unix_us()),
        "sha256": facts.digest.to_string(),
        "file": mirror.crl_path(name).display().to_string(),
    });
    let text = if wish.output.der { String::new() } else { pem::write("X509 CRL", &der) };
    read::write(cli, &wish.output, lock, text.as_bytes(), &der, &value)
}

/// `frontend crl --runway`
fn runway(cli: &Cli, home: &Home, wish: &cli::Crl, trusted: &Trusted) -> Result<(), Failure> {
    if trusted.catalogue.is_none() {
        let text = "no catalogue has come yet; `frontend run` asks the signer for it";
        return Err(Failure::Waiting(text.to_owned()));
    }
    let mut mirror = Mirror::new(home);
    let now_us = clock::unix_us();
    let (mut lines, mut values, mut short) = (Vec::new(), Vec::new(), Vec::new());
    let chosen = |authority: &&crate::catalogue::Authority| {
        wish.authority.as_ref().is_none_or(|name| *name == authority.name)
    };
    for name in trusted.authorities.values().filter(chosen).flat_map(all_of) {
        let facts = mirror.held(&name)?;
        let hours = facts.as_ref().and_then(|facts| status::runway_hours(facts, now_us));
        let enough = hours.is_some_and(|hours| hours >= f64::from(wish.min_hours));
        let told = match (&facts, hours) {
            (None, _) => "none yet".to_owned(),
            (Some(facts), None) => format!("number {}, no nextUpdate", facts.number),
            (Some(facts), Some(hours)) if hours < 0.0 => {
                format!("number {}, EXPIRED {:.1} h ago", facts.number, -hours)
            }
            (Some(facts), Some(hours)) => format!("number {}, runway {hours:.1} h", facts.number),
        };
        lines.push(format!("{name}: {told}{}", if enough { "" } else { "  TOO SHORT" }));
        let next_update = facts.as_ref().and_then(|facts| facts.next_update);
        values.push(json!({
            "authority": name.authority.as_str(),
            "name": name.to_string(),
            "number": facts.as_ref().map(|facts| facts.number),
            "entries": facts.as_ref().map(|facts| facts.entries),
            "next_update": next_update.map(|at| Utc(at * 1_000_000).to_string()),
            "runway_hours": hours,
            "ok": enough,
            "file": mirror.crl_path(&name).display().to_string(),
        }));
        if !enough {
            short.push(name.to_string());
        }
    }
    let ok = short.is_empty();
    let value = json!({ "ok": ok, "min_hours": wish.min_hours, "crls": values });
    show(cli, &lines.join("\n"), &value)?;
    match short.as_slice() {
        [] => Ok(()),
        short => Err(Failure::Away(format!(
            "CRLs with less than {} hours: {}; do as hsm-docs/crls.md says under \"A CRL runs out\"",
            wish.min_hours,
            short.join(", ")
        ))),
    }
}

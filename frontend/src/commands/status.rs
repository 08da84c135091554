//! `status`: one request, or how everything is. Nothing is changed.

use protocol::message::{Request, RequestId};
use serde_json::{Map, Value, json};

use super::{openpgp, show};
use crate::{
    carrier::{COUNTERS, Counters, HEALTH, Health},
    catalogue::Catalogues,
    cli::Cli,
    clock::{self, Utc},
    crl::{list::Facts, mirror::Mirror},
    driver::{LINK, LinkState},
    error::Failure,
    home::Home,
    inventory::Inventory,
    openpgp::register::Register,
    queue::{Entry, Kind, Queue},
    store::{Alarms, Notes, Store},
};

/// The request called `id`.
pub(super) fn find(store: &Store, id: RequestId) -> Result<Entry, Failure> {
    Queue(store.connection()).find(id)?.ok_or_else(|| {
        Failure::Usage(format!("there is no request {id} here; check the id and --dir"))
    })
}

/// `frontend status ID`
pub(super) fn one(cli: &Cli, home: &Home, id: RequestId) -> Result<(), Failure> {
    let store = home.store()?;
    let entry = find(&store, id)?;
    let mut lines = vec![format!("{id}  {}  {}", entry.kind, entry.state)];
    let mut line = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {name:10} {value}")));
    };
    line("authority", entry.authority.clone());
    line("profile", entry.profile.clone());
    line("serial", entry.serial.as_ref().map(ToString::to_string));
    line("ticket", entry.ticket.map(|ticket| ticket.to_string()));
    line("queued", Some(Utc(entry.queued_us).to_string()));
    line("sent", entry.sent_us.map(|at| Utc(at).to_string()));
    line("finished", entry.finished_us.map(|at| Utc(at).to_string()));
    line("refusal", entry.refusal.as_ref().map(|(code, text)| format!("{code}: {text}")));
    line("alarm", Alarms(store.connection()).text(&format!("request/{id}"))?);
    if let Some(asked) = asked_openpgp(&store, &entry)? {
        line("key", asked["fingerprint"].as_str().map(str::to_owned));
    }
    let now_s = clock::unix_us() / 1_000_000;
    for certified in Register(store.connection()).of_request(id)? {
        line("certified", Some(openpgp::line(&certified, now_s)));
    }
    show(cli, &lines.join("\n"), &value(&store, &entry)?)
}

/// A request for scripts.
pub(super) fn value(store: &Store, entry: &Entry) -> Result<Value, Failure> {
    let at = |us: Option<i64>| us.map(|us| Utc(us).to_string());
    let mut value = json!({
        "id": entry.id.to_string(),
        "kind": entry.kind.to_string(),
        "state": entry.state.to_string(),
        "authority": entry.authority,
        "profile": entry.profile,
        "serial": entry.serial.as_ref().map(ToString::to_string),
        "refusal": entry.refusal.as_ref().map(|(code, text)| json!({ "code": code, "text": text })),
        "ticket": entry.ticket,
        "alarm": Alarms(store.connection()).text(&format!("request/{}", entry.id))?,
        "queued_us": entry.queued_us,
        "queued_at": at(Some(entry.queued_us)),
        "sent_us": entry.sent_us,
        "sent_at": at(entry.sent_us),
        "finished_us": entry.finished_us,
        "finished_at": at(entry.finished_us),
    });
    if entry.kind == Kind::Issue
        && let Some(stored) = Inventory(store.connection()).of_request(entry.id)?
    {
        let revoked = stored.revoked_at.is_some();
        value["certificate"] = json!({
            "subject": stored.subject,
            "state": if revoked { "revoked" } else { "valid" },
            "not_before": Utc(stored.not_before * 1_000_000).to_string(),
            "not_after": Utc(stored.not_after * 1_000_000).to_string(),
            "revoked_at": at(stored.revoked_at.map(|at| at * 1_000_000)),
            "reason": stored.reason,
        });
    }
    if let Some(asked) = asked_openpgp(store, entry)? {
        let now_s = clock::unix_us() / 1_000_000;
        let certified = Register(store.connection()).of_request(entry.id)?;
        let certified: Vec<Value> =
            certified.iter().map(|one| openpgp::value(one, now_s)).collect();
        value["openpgp"] = asked;
        value["openpgp"]["certifications"] = json!(certified);
    }
    Ok(value)
}

/// The key of an OpenPGP request that has its answer, and what was asked to be taken back of it.
fn asked_openpgp(store: &Store, entry: &Entry) -> Result<Option<Value>, Failure> {
    if entry.kind == Kind::Issue || entry.kind == Kind::Revoke && entry.serial.is_some() {
        return Ok(None);
    }
    let stored = Inventory(store.connection()).certification(entry.id)?;
    let fingerprint = stored.map(|(fingerprint, _)| fingerprint);
    Ok(Some(match Queue(store.connection()).body(entry.id)? {
        Some(Request::RevokeOpenPgp(revoke)) => json!({
            "fingerprint": &*revoke.fingerprint,
            "user_id": revoke.user_id.as_deref(),
            "reason": revoke.reason.name(),
        }),
        _ => json!({ "fingerprint": fingerprint }),
    }))
}

/// `frontend status`
pub(super) fn all(cli: &Cli, home: &Home) -> Result<(), Failure> {
    let store = home.store()?;
    let now_us = clock::unix_us();
    let connection = store.connection();
    let counts = Queue(connection).counts()?;
    let oldest_s = Queue(connection)
        .oldest_waiting_us()?
        .map(|queued_us| now_us.saturating_sub(queued_us) / 1_000_000);
    let link = link(&store, home)?;
    let health = Notes(connection).read::<Health>(HEALTH)?;
    let counters = Notes(connection).read::<Counters>(COUNTERS)?.unwrap_or_default();
    let runways = runways(&store, home, now_us)?;
    let tallies = Inventory(connection).tallies()?;
    let openpgp = Register(connection).tallies(now_us / 1_000_000)?;
    let alarms = Alarms(connection).list()?;

    let mut lines = Vec::new();
    let shown: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    lines.push(format!("requests      {}", shown.join(", ")));
    lines.extend(oldest_s.map(|age| format!("oldest        waits for {age} s")));
    lines.push(format!("link          {}", link.text));
    let paired = home.link_keys().peer()?.map(|key| key.fingerprint().to_string());
    lines.push(match &paired {
        Some(fingerprint) => format!("paired with   the signer of fingerprint {fingerprint}"),
        None => "paired with   nobody: see `frontend pair --show`".to_owned(),
    });
    if let Some(health) = &health {
        let age_s = now_us.saturating_sub(health.heard_us) / 1_000_000;
        lines.push(format!(
            "signer        {}, up {} s, {} issued, {} held, heard {age_s} s ago",
            health.version, health.uptime_s, health.issued, health.held
        ));
        lines.extend(health.warnings.iter().map(|text| format!("  warning     {text}")));
    }
    for tally in &tallies {
        let (name, valid, revoked) = (&tally.authority, tally.valid, tally.revoked);
        lines.push(format!("certificates  {name}: {valid} valid, {revoked} revoked"));
    }
    for tally in &openpgp {
        lines.push(format!(
            "OpenPGP       {}: {} keys, {} user IDs valid, {} expired, {} revoked",
            tally.authority, tally.keys, tally.valid, tally.expired, tally.revoked
        ));
    }
    lines.extend(runways.iter().map(|runway| format!("CRL           {}", runway.text)));
    for alarm in &alarms {
        lines.push(format!("ALARM         {}: {}", alarm.scope, alarm.text));
    }

    let requests: Map<String, Value> =
        counts.iter().map(|(state, count)| (state.to_string(), json!(count))).collect();
    let value = json!({
        "requests": requests,
        "oldest_queued_s": oldest_s,
        "link": link.value,
        "paired_with": paired,
        "signer": health,
        "certificates": tallies,
        "openpgp": openpgp,
        "crls": runways.into_iter().map(|runway| runway.value).collect::<Vec<_>>(),
        "alarms": alarms,
        "counters": counters,
    });
    show(cli, &lines.join("\n"), &value)
}

/// The same thing in words and for scripts.
struct Told {
    text: String,
    value: Value,
}

fn link(store: &Store, home: &Home) -> Result<Told, Failure> {
    let running = home.is_running();
    let state = Notes(store.connection()).read::<LinkState>(LINK)?;
    // A carrier that was killed could not note that the link is down.
    let up = running && state.as_ref().is_some_and(|state| state.up);
    let text = match &state {
        Some(state) if running => {
            let word = if up { "up" } else { "down" };
            format!("{word} since {} on {}", Utc(state.since_us), state.spec)
        }
        _ => "down, no `frontend run` works on this directory".to_owned(),
    };
    let value = json!({
        "state": if up { "up" } else { "down" },
        "carrier_running": running,
        "spec": state.as_ref().map(|state| &state.spec),
        "since": state.as_ref().filter(|_| running).map(|state| Utc(state.since_us).to_string()),
        "round_trip_us": state.as_ref().and_then(|state| state.round_trip_us),
    });
    Ok(Told { text, value })
}

/// How long each authority's CRL still lasts.
fn runways(store: &Store, home: &Home, now_us: i64) -> Result<Vec<Told>, Failure> {
    let mut mirror = Mirror::new(home);
    let mut told = Vec::new();
    for name in Catalogues(store.connection()).trusted()?.authorities.keys() {
        let facts = mirror.held(name)?;
        let hours = facts.as_ref().and_then(|facts| runway_hours(facts, now_us));
        let text = match (&facts, hours) {
            (None, _) => format!("{name}: none yet"),
            (Some(facts), None) => format!("{name}: number {}, no nextUpdate", facts.number),
            (Some(facts), Some(hours)) if hours < 0.0 => {
                format!("{name}: number {}, EXPIRED {:.1} h ago", facts.number, -hours)
            }
            (Some(facts), Some(hours)) => {
                format!(
                    "{name}: number {}, {} revoked, runway {hours:.1} h",
                    facts.number, facts.entries
                )
            }
        };
        let value = json!({
            "authority": name.as_str(),
            "number": facts.as_ref().map(|facts| facts.number),
            "entries": facts.as_ref().map(|facts| facts.entries),
            "next_update": facts
                .as_ref()
                .and_then(|facts| facts.next_update)
                .map(|at| Utc(at * 1_000_000).to_string()),
            "runway_hours": hours,
        });
        told.push(Told { text, value });
    }
    Ok(told)
}

/// Hours until nextUpdate, to a hundredth; negative when it is over.
pub(super) fn runway_hours(facts: &Facts, now_us: i64) -> Option<f64> {
    let seconds = facts.next_update? - now_us / 1_000_000;
    Some((seconds as f64 / 36.0).round() / 100.0)
}

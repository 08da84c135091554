//! `revoke`: one certificate, or a list of them as one piece of work.
//!
//! Every line of a list is checked before anything is queued, and all are queued in one
//! transaction. What waits or is revoked already is not queued again, so the same list can be
//! given until everything in it is done.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt, path::Path};

use openssl::{
    bn::BigNum,
    x509::{CrlStatus, X509, X509Crl},
};
use protocol::{
    message::{Name, RefusalCode, Request, RequestId, Revoke, Serial},
    time::{Duration, Instant},
};
use serde_json::{Value, json};

use super::{ask, openpgp, print, read_input};
use crate::{
    catalogue::{Catalogues, Trusted},
    cli::{self, Cli},
    clock::{self, Clock},
    crl::mirror::Mirror,
    driver,
    error::Failure,
    home::Home,
    inventory::Inventory,
    names, pem, precheck,
    progress::Progress,
    queue::{Queue, State},
    refusal::Refusal,
    revoke_list::{self, Defaults, Item, Registry, Standing},
    store::{Store, StoreError},
};

/// `frontend revoke`
pub(super) fn revoke(cli: &Cli, home: &Home, wish: &cli::Revoke) -> Result<(), Failure> {
    match (&wish.list, &wish.openpgp) {
        (Some(list), _) => many(cli, home, wish, list),
        (None, Some(fingerprint)) => openpgp::revoke(cli, home, wish, fingerprint),
        (None, None) => one(cli, home, wish),
    }
}

fn one(cli: &Cli, home: &Home, wish: &cli::Revoke) -> Result<(), Failure> {
    let store = home.store()?;
    let trusted = Catalogues(store.connection()).trusted()?;
    let registry = Signers { trusted: &trusted, believe: wish.queueing.no_precheck };
    let Some(authority) = &wish.authority else {
        unreachable!("the command line requires it without a list");
    };
    registry.check(authority)?;
    let serial = match (&wish.serial, &wish.cert) {
        (Some(serial), _) => serial.clone(),
        (None, Some(path)) => registry.certificate(path, Some(authority))?.1,
        (None, None) => unreachable!("the command line requires one of the two"),
    };
    let request = Request::Revoke(Revoke {
        id: clock::new_request_id(),
        authority: authority.clone(),
        serial,
        reason: wish.reason.of_certificate()?,
    });
    ask::queue(cli, home, store, &request, wish.queueing)
}

/// What is known here of authorities and their certificates.
struct Signers<'t> {
    trusted: &'t Trusted,
    /// Without the early checks: whatever is named is taken.
    believe: bool,
}

impl Registry for Signers<'_> {
    fn check(&self, authority: &Name) -> Result<(), Failure> {
        match self.believe {
            true => Ok(()),
            false => Ok(precheck::revoke(self.trusted, authority)?),
        }
    }

    fn certificate(
        &self,
        path: &Path,
        authority: Option<&Name>,
    ) -> Result<(Name, Serial), Failure> {
        let (bytes, from) = read_input(path)?;
        let unusable = |why: String| {
            Failure::Usage(format!("{from} is no certificate: {why}; give PEM or DER"))
        };
        let der = match pem::looks_like_pem(&bytes) {
            true => {
                pem::only_block(&bytes, &["CERTIFICATE", "X509 CERTIFICATE"]).map_err(unusable)?
            }
            false => bytes,
        };
        let certificate =
            X509::from_der(&der).map_err(|_| unusable("it cannot be parsed".to_owned()))?;
        let issuer = certificate.issuer_name();
        let named = issuer.to_der().unwrap_or_default();
        let shown = || names::show(&names::flat_name(issuer).unwrap_or_default());
        let pinned = &self.trusted.authorities;
        let authority = match authority {
            Some(authority) => {
                let known = pinned.get(authority).filter(|_| !self.believe);
                if known.is_some_and(|known| known.subject() != named) {
                    let fact = format!(
                        "{from} was issued by `{}`, not by authority `{authority}`",
                        shown()
                    );
                    return Err(Refusal::new(RefusalCode::SerialUnknown, fact).into());
                }
                authority.clone()
            }
            None => {
                let issuers = pinned.values().filter(|known| known.subject() == named);
                let mut names = issuers.map(|known| known.name.clone());
                match (names.next(), names.next()) {
                    (Some(name), None) => name,
                    (Some(_), Some(_)) => {
                        let text = "is the subject of several authorities; name one of them";
                        return Err(Failure::Usage(format!("{from}: `{}` {text}", shown())));
                    }
                    (None, _) => {
                        let fact = format!("{from} was issued by `{}`, no authority here", shown());
                        return Err(Refusal::new(RefusalCode::SerialUnknown, fact).into());
                    }
                }
            }
        };
        let number = certificate.serial_number().to_bn();
        let magnitude = number.map(|number| number.to_vec()).unwrap_or_default();
        let serial =
            Serial::from_magnitude(&magnitude).map_err(|error| unusable(error.to_string()))?;
        Ok((authority, serial))
    }
}

//------------ A list --------------------------------------------------------

fn many(cli: &Cli, home: &Home, wish: &cli::Revoke, list: &Path) -> Result<(), Failure> {
    let (bytes, from) = read_input(list)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::Usage(format!("{from} is not text; write one serial a line")))?;
    let mut store = home.store()?;
    let trusted = Catalogues(store.connection()).trusted()?;
    let registry = Signers { trusted: &trusted, believe: wish.queueing.no_precheck };
    let defaults =
        Defaults { authority: wish.authority.as_ref(), reason: wish.reason.of_certificate()? };
    let items = revoke_list::read(&text, &from, &defaults, &registry)?;

    let mut work = Work::queue(&mut store, items, wish.dry_run)?;
    let report = match (wish.dry_run, wish.queueing.wait) {
        (true, _) | (_, None) => {
            if !wish.dry_run {
                home.wake();
            }
            work.report(&store, wish.dry_run)?
        }
        (false, Some(longest)) => {
            home.wake();
            let longest = longest.map(Duration::from_secs);
            work.wait(home, &mut store, longest)?;
            work.report(&store, false)?
        }
    };
    match cli.json {
        true => print(format!("{}\n", report.value).as_bytes())?,
        false => print(format!("{}\n", report.lines.join("\n")).as_bytes())?,
    }
    let waited = !wish.dry_run && wish.queueing.wait.is_some();
    match waited {
        true => report.verdict(&from),
        false => Ok(()),
    }
}

/// A list under way.
struct Work {
    parts: Vec<Part>,
    /// What each authority's published CRL was when it was last read.
    crls: BTreeMap<Name, Published>,
}

/// One certificate of the list.
struct Part {
    item: Item,
    standing: Standing,
    /// The request for it, where there is one that has or will have an outcome.
    id: Option<RequestId>,
    /// Where that request stands.
    state: Option<State>,
    listed: bool,
}

#[derive(Default)]
struct Published {
    /// Inode, length and time of the file: a new CRL comes by renaming.
    seen: Option<(u64, u64, i64, i64)>,
    /// How many were looked for in it in vain.
    asked: usize,
}

impl Part {
    /// Whether it is revoked as far as is known here.
    fn is_revoked(&self) -> bool {
        matches!(self.standing, Standing::Revoked { .. }) || self.state == Some(State::Done)
    }

    /// Whether the published CRL must show it and does not yet.
    fn is_awaited(&self) -> bool {
        let due = match self.standing {
            Standing::Revoked { listed } => listed,
            Standing::Fresh | Standing::Pending(_) => self.state == Some(State::Done),
        };
        due && !self.listed
    }

    fn is_missing_of(&self, authority: &Name) -> bool {
        self.is_awaited() && self.item.authority == *authority
    }

    fn is_open(&self) -> bool {
        self.state.is_some_and(|state| !state.is_final())
    }
}

impl Work {
    /// Queues what nobody asked for yet, all in one transaction that also finds out what that is.
    fn queue(store: &mut Store, items: Vec<Item>, dry_run: bool) -> Result<Self, Failure> {
        let now_us = clock::unix_us();
        let transaction = store.transaction()?;
        let queue = Queue(&transaction);
        let inventory = Inventory(&transaction);
        let mut parts = Vec::with_capacity(items.len());
        for item in items {
            let standing = revoke_list::standing(&item, &queue, &inventory, now_us / 1_000_000)?;
            let id = match standing {
                Standing::Pending(id) => Some(id),
                Standing::Revoked { .. } => None,
                Standing::Fresh if dry_run => None,
                Standing::Fresh => {
                    let request = Request::Revoke(Revoke {
                        id: clock::new_request_id(),
                        authority: item.authority.clone(),
                        serial: item.serial.clone(),
                        reason: item.reason,
                    });
                    Some(queue.insert(&request, now_us)?)
                }
            };
            let state = id.map(|_| State::Queued);
            parts.push(Part { item, standing, id, state, listed: false });
        }
        transaction.commit().map_err(StoreError::from)?;
        Ok(Self { parts, crls: BTreeMap::new() })
    }

    /// Shows progress until every revocation has its outcome and the published CRLs list them, or
    /// until `longest` is over.
    fn wait(
        &mut self,
        home: &Home,
        store: &mut Store,
        longest: Option<Duration>,
    ) -> Result<(), Failure> {
        let clock = Clock::start();
        let mut progress = Progress::start(clock.instant());
        let mirror = Mirror::new(home);
        let mut seen = None;
        loop {
            let begun = clock.instant();
            let version = store.data_version()?;
            if seen.replace(version) != Some(version) {
                self.look(store)?;
            }
            self.look_at_crls(&mirror)?;
            let all = self.parts.len() as u64;
            let open = self.parts.iter().filter(|part| part.is_open()).count() as u64;
            let awaited = self.parts.iter().filter(|part| part.is_awaited()).count() as u64;
            progress.show(begun, all - open - awaited, all, &self.told(home));
            let over = longest
                .is_some_and(|longest| clock.instant().saturating_since(Instant::ZERO) >= longest);
            if over || open + awaited == 0 {
                break;
            }
            // Looking at a long list must not take the time of who works on it.
            let took = clock.instant().saturating_since(begun);
            driver::pause((took * 4).max(LOOK_PERIOD));
        }
        progress.finish();
        Ok(())
    }

    /// Asks the store where the open ones stand.
    fn look(&mut self, store: &mut Store) -> Result<(), StoreError> {
        // One read transaction: the count is of one moment, and locks once.
        let connection = store.connection();
        let snapshot = connection.unchecked_transaction()?;
        let queue = Queue(&snapshot);
        for part in self.parts.iter_mut().filter(|part| part.is_open()) {
            let Some(id) = part.id else { continue };
            part.state = queue.find(id)?.map(|entry| entry.state);
        }
        Ok(())
    }

    /// Looks for the revoked ones in each CRL that was published since the last look.
    fn look_at_crls(&mut self, mirror: &Mirror) -> Result<(), Failure> {
        let awaited = self.parts.iter().filter(|part| part.is_awaited());
        let names: std::collections::BTreeSet<Name> =
            awaited.map(|part| part.item.authority.clone()).collect();
        for name in names {
            let path = mirror.crl_path(&name);
            let now = match fs::metadata(&path) {
                Ok(file) => Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    let text = format!("cannot read `{}`: {error}; check the disk", path.display());
                    return Err(Failure::Away(text));
                }
            };
            // A file that was there when a certificate was not yet known as revoked is read again
            // for it.
            let asked = self.parts.iter().filter(|part| part.is_missing_of(&name)).count();
            let published = self.crls.entry(name.clone()).or_default();
            if now.is_none() || (published.seen, published.asked) == (now, asked) {
                continue;
            }
            let Some(crl) = mirror.read(&name)?.and_then(|der| X509Crl::from_der(&der).ok()) else {
                continue;
            };
            for part in self.parts.iter_mut().filter(|part| part.is_missing_of(&name)) {
                part.listed = lists(&crl, &part.item.serial);
            }
            let asked = self.parts.iter().filter(|part| part.is_missing_of(&name)).count();
            self.crls.insert(name, Published { seen: now, asked });
        }
        Ok(())
    }

    /// How far it is, for people who wait.
    fn told(&self, home: &Home) -> String {
        let count = |state| self.parts.iter().filter(|part| part.state == Some(state)).count();
        let mut words = Vec::new();
        for (state, word) in
            [(State::Queued, "queued"), (State::Sent, "sent"), (State::Held, "held")]
        {
            match count(state) {
                0 => {}
                number => words.push(format!("{number} {word}")),
            }
        }
        let revoked = self.parts.iter().filter(|part| part.is_revoked()).count();
        let listed = self.parts.iter().filter(|part| part.listed).count();
        words.push(format!("{revoked} revoked"));
        words.push(format!("{listed} in the published CRL"));
        if count(State::Queued) > 0 && !home.is_running() {
            words.push("no `frontend run` works on this directory".to_owned());
        }
        words.join(", ")
    }
}

/// Whether `crl` revokes `serial`.
fn lists(crl: &X509Crl, serial: &Serial) -> bool {
    let serial = BigNum::from_slice(serial.as_octets()).and_then(|number| number.to_asn1_integer());
    serial.is_ok_and(|serial| matches!(crl.get_by_serial(&serial), CrlStatus::Revoked(_)))
}

//------------ The report ----------------------------------------------------

/// What became of the list, in words and for scripts.
struct Report {
    lines: Vec<String>,
    value: Value,
    all: usize,
    refused: usize,
    /// Without an outcome, or not in the published CRL.
    waiting: usize,
}

impl Work {
    fn report(&self, store: &Store, dry_run: bool) -> Result<Report, Failure> {
        let queue = Queue(store.connection());
        let (mut entries, mut refusals) = (Vec::new(), Vec::new());
        let mut counts = Counts::default();
        for part in &self.parts {
            let Item { line, authority, serial, reason } = &part.item;
            let mut refusal = None;
            let state = match (part.standing, part.state) {
                (Standing::Revoked { .. }, _) => {
                    counts.already_revoked += 1;
                    "already revoked".to_owned()
                }
                (Standing::Fresh, None) => {
                    counts.queued += 1;
                    "to be queued".to_owned()
                }
                (standing, state) => {
                    match standing {
                        Standing::Pending(_) => counts.pending += 1,
                        _ => counts.queued += 1,
                    }
                    match state {
                        Some(State::Done) => counts.revoked += 1,
                        Some(State::Refused | State::Quarantined) => {
                            counts.refused += 1;
                            let id = part.id.map(|id| queue.find(id)).transpose()?.flatten();
                            refusal = id.and_then(|entry| entry.refusal);
                        }
                        _ => counts.open += 1,
                    }
                    state.map(|state| state.to_string()).unwrap_or_default()
                }
            };
            counts.published += usize::from(part.listed);
            counts.unpublished += usize::from(part.is_awaited());
            if let Some((code, text)) = &refusal {
                refusals.push(format!("line {line}: {authority} {serial}: {code}: {text}"));
            }
            entries.push(json!({
                "line": line,
                "authority": authority.as_str(),
                "serial": serial.to_string(),
                "reason": reason.name(),
                "state": state,
                "published": part.listed,
                "id": part.id.map(|id| id.to_string()),
                "refusal": refusal.map(|(code, text)| json!({ "code": code, "text": text })),
            }));
        }
        let all = self.parts.len();
        let value = json!({
            "dry_run": dry_run,
            "certificates": all,
            "queued": counts.queued,
            "pending": counts.pending,
            "already_revoked": counts.already_revoked,
            "revoked": counts.revoked,
            "refused": counts.refused,
            "open": counts.open,
            "published": counts.published,
            "entries": entries,
        });
        let (Counts { refused, .. }, waiting) = (counts, counts.open + counts.unpublished);
        let lines = counts.lines(all, dry_run, refusals);
        Ok(Report { lines, value, all, refused, waiting })
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    queued: usize,
    pending: usize,
    already_revoked: usize,
    revoked: usize,
    refused: usize,
    open: usize,
    published: usize,
    unpublished: usize,
}

impl Counts {
    fn lines(&self, all: usize, dry_run: bool, refusals: Vec<String>) -> Vec<String> {
        let rows = [
            (if dry_run { "to be queued" } else { "queued now" }, self.queued, true),
            ("waiting since before", self.pending, false),
            ("revoked before", self.already_revoked, false),
            ("revoked", self.revoked, false),
            ("in the published CRL", self.published, false),
            ("refused", self.refused, false),
            ("without an outcome yet", if dry_run { 0 } else { self.open }, false),
        ];
        let mut lines = vec![format!("{all:>8}  certificates in the list")];
        let shown = rows.into_iter().filter(|row| row.2 || row.1 > 0);
        lines.extend(shown.map(|(what, count, _)| format!("{count:>8}  {what}")));
        lines.extend(refusals);
        lines
    }
}

impl Report {
    /// How a command that waited ends.
    fn verdict(&self, from: &str) -> Result<(), Failure> {
        let (all, refused, waiting) = (self.all, self.refused, self.waiting);
        match (refused, waiting) {
            (0, 0) => Ok(()),
            (0, _) => Err(Failure::Waiting(format!(
                "{waiting} of {all} certificates in {from} are not in the published CRL yet; they \
                 stay in the queue, give the same list again to go on waiting"
            ))),
            _ => Err(Failure::RefusedBySigner(format!(
                "{refused} of {all} revocations in {from} were refused; the report names their \
                 lines, the others are done or stay in the queue"
            ))),
        }
    }
}

/// How soon a waiting command notices an outcome.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

//! The OpenPGP half of `signer store check`: every certificate is the one that its audit entry
//! names, every signature of a user ID in it verifies, ours with the authority's public key, and
//! the rows say what is in it. Changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use protocol::message::{Digest, Name, RequestId};
use sequoia_openpgp::{Cert, parse::Parse};
use serde::Deserialize;

use crate::{
    durable,
    fault::Fault,
    ledger::{
        CERTIFICATE_IS_GONE, CertifiedUserId, Ledger, REVOCATION_IS_GONE, StoredCertification,
        StoredRevocation,
    },
    openpgp::{Layout, earlier},
};

/// What was found so far.
pub(super) struct OpenPgpCheck<'l> {
    ledger: &'l Ledger,
    /// The authorities' public keys, where they can be used.
    keys: BTreeMap<String, Cert>,
    /// The certificates that the audit log tells of.
    audited: BTreeSet<i64>,
    /// The requests that took something back, by the audit log.
    took_back: BTreeSet<RequestId>,
    /// A sentence that two checks come to is said once.
    findings: BTreeSet<String>,
}

/// What an audit entry says, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    event: String,
    request: Option<String>,
    /// Entries of old programs have none.
    certificate: Option<String>,
}

impl<'l> OpenPgpCheck<'l> {
    /// Reads the public keys of the authorities that have certified.
    pub(super) fn new(store: &Path, ledger: &'l Ledger) -> Result<Self, Fault> {
        let mut this = Self {
            ledger,
            keys: BTreeMap::new(),
            audited: BTreeSet::new(),
            took_back: BTreeSet::new(),
            findings: ledger.check_openpgp()?.into_iter().collect(),
        };
        for (text, fingerprint) in ledger.openpgp_authorities()? {
            let Ok(name) = text.parse::<Name>() else {
                this.findings.insert(format!("`{text}` is no name of an OpenPGP authority"));
                continue;
            };
            // One that certified nothing may be half made. The first start notes the key of an old
            // store's, and moves it to its place.
            let id = ledger.openpgp_authority(&name)?.map(|(id, _)| id);
            let has_certified = id.map(|id| ledger.openpgp_has_certified(id)).transpose()?;
            if fingerprint.is_empty() || has_certified != Some(true) {
                continue;
            }
            let path = Layout::new(store, &name).public();
            let shown = path.display();
            let read = durable::read(&path).map_err(|fault| fault.to_string());
            let cert =
                read.and_then(|bytes| Cert::from_bytes(&bytes).map_err(|error| error.to_string()));
            match cert {
                Ok(cert) if cert.fingerprint().to_hex() == fingerprint => {
                    this.keys.insert(text, cert);
                }
                Ok(_) => {
                    this.findings.insert(format!(
                        "{shown} is another key than {fingerprint}, which the ledger notes; \
                         restore it"
                    ));
                }
                Err(why) => {
                    this.findings.insert(format!("{shown} cannot be read: {why}; restore it"));
                }
            }
        }
        Ok(this)
    }

    /// Compares what an audit entry tells with the ledger.
    pub(super) fn audited(&mut self, number: u64, line: &str) -> Result<(), Fault> {
        // Most entries tell of something else, and need not be parsed again.
        if !line.contains("\"certified\"") && !line.contains("\"certification-revoked\"") {
            return Ok(());
        }
        let Ok(entry) = serde_json::from_str::<Entry>(line) else { return Ok(()) };
        let request = entry.request.and_then(|text| text.parse::<RequestId>().ok());
        let Some(request) = request else { return Ok(()) };
        match entry.event.as_str() {
            "certified" => {
                let Some(stored) = self.ledger.stored_certification(request)? else {
                    self.findings.insert(format!("request {request} {CERTIFICATE_IS_GONE}"));
                    return Ok(());
                };
                self.audited.insert(stored.seq);
                let hash = Digest::of(&stored.certificate).to_string();
                if entry.certificate.is_some_and(|noted| noted != hash) {
                    self.findings.insert(format!(
                        "request {request}: its OpenPGP certificate is not the one of audit entry \
                         {number}"
                    ));
                } else if let Err(why) = self.check_certification(&stored) {
                    self.findings.insert(format!("request {request}: {why}"));
                }
            }
            "certification-revoked" => {
                self.took_back.insert(request);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_certification(&self, stored: &StoredCertification) -> Result<(), String> {
        let Some(key) = self.keys.get(&stored.authority) else { return Ok(()) };
        let what = |why: String| format!("its OpenPGP certificate is damaged: {why}");
        let (fingerprint, ours) = earlier::read_stored(key, &stored.certificate).map_err(what)?;
        let differs = |what: &str| Err(format!("its OpenPGP certificate {what}"));
        if fingerprint != stored.fingerprint {
            return differs("is of another key than its row says");
        }
        // What an old program stored has its parts noted at the first start.
        if stored.head == 0 {
            return Ok(());
        }
        let is_noted = |(one, noted): (&earlier::Ours, &CertifiedUserId)| {
            let from = noted.offset.saturating_add(noted.own);
            !one.takes_back
                && one.user_id == noted.user_id
                && one.expires == Some(noted.expires)
                && one.place == (from..from.saturating_add(noted.ours))
        };
        let noted = &stored.user_ids;
        match ours.len() == noted.len() && ours.iter().zip(noted).all(is_noted) {
            true => Ok(()),
            false => differs("holds other certifications than its rows say"),
        }
    }

    fn check_revocation(&self, stored: &StoredRevocation) -> Result<(), String> {
        let Some(key) = self.keys.get(&stored.authority) else { return Ok(()) };
        let what = |why: String| format!("its OpenPGP revocation is damaged: {why}");
        let (fingerprint, ours) = earlier::read_stored(key, &stored.certificate).map_err(what)?;
        let is_right = |one: &earlier::Ours| one.takes_back && one.at == stored.at;
        match fingerprint == stored.fingerprint && !ours.is_empty() && ours.iter().all(is_right) {
            true => Ok(()),
            false => Err("its OpenPGP revocation is another than its row says".into()),
        }
    }

    /// What the audit log does not tell of, and everything that was found.
    pub(super) fn finish(mut self) -> Result<BTreeSet<String>, Fault> {
        let mut findings = std::mem::take(&mut self.findings);
        self.ledger.for_each_openpgp_request(|seq, request| {
            if !self.audited.contains(&seq) {
                findings.insert(format!(
                    "request {request}: no audit entry tells of its OpenPGP certificate"
                ));
            }
        })?;
        let mut took_back = std::mem::take(&mut self.took_back);
        self.ledger.for_each_openpgp_revocation(|stored| {
            let request = stored.request;
            if !took_back.remove(&request) {
                findings.insert(format!(
                    "request {request}: no audit entry tells of its OpenPGP revocation"
                ));
            } else if let Err(why) = self.check_revocation(&stored) {
                findings.insert(format!("request {request}: {why}"));
            }
        })?;
        findings.extend(
            took_back.into_iter().map(|request| format!("request {request} {REVOCATION_IS_GONE}")),
        );
        Ok(findings)
    }
}

//! A change of the ledger: every statement that writes.
//!
//! All of it is on disk or nothing. [`Intent`]s and [`OpenPgpIntent`]s come out of
//! [`Transaction::commit`] alone.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use protocol::message::{Digest, Name, RefusalCode, RequestId, RevocationReason, Serial};
use rusqlite::params;

use super::{
    AuthorityId, CertificateRow, FilesAt, Intent, Known, OpenPgpAuthorityId, OpenPgpIntent,
    Outcome, Status, adoption::INSERT, log, rows,
};
use crate::{
    audit::{self, Event},
    calendar::UnixTime,
    durable,
    fault::Fault,
    lint::LintedTbs,
};

/// A change of the ledger, all of it or nothing.
pub struct Transaction<'a> {
    pub(super) inner: rusqlite::Transaction<'a>,
    pub(super) now: UnixTime,
    pending: Vec<Intent>,
    pub(super) pending_openpgp: Vec<OpenPgpIntent>,
    chain: Option<(u64, Digest)>,
    /// Serial counters that were taken here and are written with the commit: a row that changes
    /// with each certificate need not be written for each.
    serial_counters: BTreeMap<AuthorityId, u64>,
    pub(super) openpgp_counters: BTreeMap<OpenPgpAuthorityId, u64>,
    authority_names: RefCell<BTreeMap<AuthorityId, String>>,
    /// The time floor that was written here.
    floor: Cell<Option<UnixTime>>,
}

/// What may be signed, since it is on disk.
#[derive(Debug)]
pub struct Committed {
    /// Certificates.
    pub certificates: Vec<Intent>,
    /// OpenPGP certifications, and what takes them back.
    pub openpgp: Vec<OpenPgpIntent>,
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction({} intents pending)", self.pending.len())
    }
}

impl Transaction<'_> {
    pub(super) fn new(inner: rusqlite::Transaction<'_>, now: UnixTime) -> Transaction<'_> {
        Transaction {
            inner,
            now,
            pending: Vec::new(),
            pending_openpgp: Vec::new(),
            chain: None,
            serial_counters: BTreeMap::new(),
            openpgp_counters: BTreeMap::new(),
            authority_names: RefCell::default(),
            floor: Cell::new(None),
        }
    }

    /// Makes the change durable; what may now be signed comes out.
    pub fn commit(self) -> Result<Committed, Fault> {
        self.write_serial_counters()?;
        self.write_openpgp_counters()?;
        durable::crash_point("commit to", "the ledger")?;
        self.inner.commit()?;
        durable::crash_point("go on after", "the ledger's commit")?;
        Ok(Committed { certificates: self.pending, openpgp: self.pending_openpgp })
    }

    /// What is known of a request, this change included.
    pub fn known(&self, id: RequestId) -> Result<Option<Known>, Fault> {
        rows::known(&self.inner, id)
    }

    /// The certificate with this serial, this change included.
    pub fn certificate(
        &self,
        authority: AuthorityId,
        serial: &Serial,
    ) -> Result<Option<CertificateRow>, Fault> {
        rows::certificate(&self.inner, authority, serial)
    }

    /// Adds an authority.
    pub fn add_authority(&self, name: &Name) -> Result<AuthorityId, Fault> {
        self.inner.execute("INSERT INTO authority (name) VALUES (?1)", [name.as_str()])?;
        Ok(AuthorityId(self.inner.last_insert_rowid()))
    }

    /// Takes the next serial counter of an authority.
    pub fn next_serial_counter(&mut self, authority: AuthorityId) -> Result<u64, Fault> {
        let last = match self.serial_counters.get(&authority) {
            Some(last) => *last,
            None => self.serial_counter(authority)?,
        };
        // Past 63 bits it is no serial, and past 64 no number.
        let next = last
            .checked_add(1)
            .ok_or_else(|| Fault::Internal("the serial counter is exhausted".into()))?;
        self.serial_counters.insert(authority, next);
        Ok(next)
    }

    fn serial_counter(&self, authority: AuthorityId) -> Result<u64, Fault> {
        let sql = "SELECT serial_counter FROM authority WHERE id = ?1";
        Ok(self.inner.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    fn write_serial_counters(&self) -> Result<(), Fault> {
        let sql = "UPDATE authority SET serial_counter = ?2 WHERE id = ?1";
        for (authority, counter) in &self.serial_counters {
            self.inner.prepare_cached(sql)?.execute(params![authority.0, counter])?;
        }
        Ok(())
    }

    /// Takes the next CRL number of an authority; a number is spent even if no CRL comes of it.
    pub fn next_crl_number(&self, authority: AuthorityId) -> Result<u64, Fault> {
        let sql = "UPDATE authority SET crl_number = crl_number + 1 WHERE id = ?1
                   RETURNING crl_number";
        Ok(self.inner.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// Raises the CRL number of an authority to at least `number`.
    pub fn raise_crl_number(&self, authority: AuthorityId, number: u64) -> Result<(), Fault> {
        let sql = "UPDATE authority SET crl_number = MAX(crl_number, ?2) WHERE id = ?1";
        self.inner.prepare_cached(sql)?.execute(params![authority.0, number])?;
        Ok(())
    }

    /// Raises the serial counter to at least `counter`; answers the one before, if lower.
    pub fn raise_serial_counter(
        &mut self,
        authority: AuthorityId,
        counter: u64,
    ) -> Result<Option<u64>, Fault> {
        let before = match self.serial_counters.get(&authority) {
            Some(last) => *last,
            None => self.serial_counter(authority)?,
        };
        if before >= counter {
            return Ok(None);
        }
        self.serial_counters.insert(authority, counter);
        Ok(Some(before))
    }

    /// Records a request that is being worked on.
    pub fn open_request(&self, id: RequestId, digest: Digest) -> Result<(), Fault> {
        self.insert_request(id, digest, &Outcome::Open)
    }

    /// Records a request together with its outcome.
    pub fn answer_request(
        &self,
        id: RequestId,
        digest: Digest,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        self.insert_request(id, digest, outcome)
    }

    fn insert_request(
        &self,
        id: RequestId,
        digest: Digest,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        let (code, text, at) = match outcome {
            Outcome::Refused { code, text } => (Some(code.name()), Some(text.as_str()), None),
            Outcome::Quarantined { text } => (None, Some(text.as_str()), None),
            Outcome::Revoked { at } | Outcome::CertificationRevoked { at } => {
                (None, None, Some(at.0))
            }
            Outcome::Open | Outcome::Issued | Outcome::Certified => (None, None, None),
        };
        let sql = "INSERT INTO request (id, digest, received_at, outcome, code, text, at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.inner.prepare_cached(sql)?.execute(params![
            id.as_bytes(),
            digest.as_bytes(),
            self.now.0,
            outcome.name(),
            code,
            text,
            at
        ])?;
        Ok(())
    }

    /// Stores what is about to be signed; it may be signed once the change is committed.
    pub fn store_intent(
        &mut self,
        request: Option<RequestId>,
        authority: AuthorityId,
        profile: &Name,
        tbs: LintedTbs,
    ) -> Result<(), Fault> {
        let sql = "INSERT INTO intent
                   (request, authority, profile, serial, not_after, subject, tbs, shard)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.inner.prepare_cached(sql)?.execute(params![
            request.map(|id| *id.as_bytes()),
            authority.0,
            profile.as_str(),
            tbs.serial().as_octets(),
            tbs.not_after().0,
            tbs.subject(),
            tbs.der(),
            tbs.shard()
        ])?;
        self.raise_time_floor(self.now)?;
        let seq = self.inner.last_insert_rowid();
        self.pending.push(Intent::stored(seq, request, authority, profile.clone(), tbs));
        Ok(())
    }

    /// Turns an intent into a certificate.
    pub fn store_certificate(&mut self, intent: &Intent, der: &[u8]) -> Result<(), Fault> {
        let deleted = self
            .inner
            .prepare_cached("DELETE FROM intent WHERE seq = ?1")?
            .execute([intent.seq()])?;
        if deleted != 1 {
            return Err(Fault::Internal(format!("intent {} was signed twice", intent.seq())));
        }
        let sql = "INSERT INTO certificate
                   (request, authority, profile, serial, not_after, subject, der, shard)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.inner.prepare_cached(sql)?.execute(params![
            intent.request().map(|id| *id.as_bytes()),
            intent.authority().0,
            intent.profile().as_str(),
            intent.serial().as_octets(),
            intent.not_after().0,
            intent.subject(),
            der,
            intent.shard()
        ])?;
        if let Some(id) = intent.request() {
            self.set_outcome(id, &Outcome::Issued)?;
        }
        let authority = self.authority_name(intent.authority())?;
        self.audit(&Event::Issued {
            request: intent.request().map(|id| id.to_string()),
            authority,
            profile: intent.profile().to_string(),
            serial: intent.serial().to_string(),
            subject: intent.subject().to_owned(),
            certificate: Digest::of(der).to_string(),
        })
    }

    pub(super) fn set_outcome(&self, id: RequestId, outcome: &Outcome) -> Result<(), Fault> {
        let (text, at) = match outcome {
            Outcome::Quarantined { text } => (Some(text.as_str()), None),
            Outcome::CertificationRevoked { at } => (None, Some(at.0)),
            _ => (None, None),
        };
        let sql = "UPDATE request SET outcome = ?2, text = ?3, at = ?4 WHERE id = ?1";
        let name = outcome.name();
        self.inner.prepare_cached(sql)?.execute(params![id.as_bytes(), name, text, at])?;
        Ok(())
    }

    pub(super) fn authority_name(&self, authority: AuthorityId) -> Result<String, Fault> {
        if let Some(name) = self.authority_names.borrow().get(&authority) {
            return Ok(name.clone());
        }
        let sql = "SELECT name FROM authority WHERE id = ?1";
        let name: String =
            self.inner.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?;
        self.authority_names.borrow_mut().insert(authority, name.clone());
        Ok(name)
    }

    /// Marks a certificate as revoked, from now on.
    pub fn revoke(
        &self,
        authority: AuthorityId,
        serial: &Serial,
        reason: RevocationReason,
    ) -> Result<(), Fault> {
        let reason = Some(reason.name()).filter(|_| reason != RevocationReason::Unspecified);
        let sql = "UPDATE certificate SET status = 'R', revoked_at = ?3, reason = ?4
                   WHERE authority = ?1 AND serial = ?2";
        let octets = serial.as_octets();
        self.inner.prepare_cached(sql)?.execute(params![
            authority.0,
            octets,
            self.now.0,
            reason
        ])?;
        self.note_change(authority, serial, self.now)
    }

    /// Gives a change of what CRLs say its number.
    pub(super) fn note_change(
        &self,
        authority: AuthorityId,
        serial: &Serial,
        at: UnixTime,
    ) -> Result<(), Fault> {
        let sql = "INSERT INTO revocation (authority, serial, at) VALUES (?1, ?2, ?3)";
        let values = params![authority.0, serial.as_octets(), at.0];
        self.inner.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Takes over a line that a person added to the index, with the certificate where there is one.
    pub fn adopt(&mut self, authority: AuthorityId, row: &CertificateRow) -> Result<(), Fault> {
        let sql = format!(
            "{INSERT}
             ON CONFLICT (authority, serial) DO UPDATE SET
               status = excluded.status, revoked_at = excluded.revoked_at,
               reason = excluded.reason, line = excluded.line"
        );
        let before = self.certificate(authority, &row.serial)?.map(|before| before.status);
        let revoked_at = self.write_adopted(&sql, authority, row)?;
        // `revocation` numbers every change of what CRLs say, also that one was taken back.
        let taken_back = matches!(before, Some(Status::Revoked { .. })).then_some(self.now);
        if let Some(at) = revoked_at.or(taken_back) {
            self.note_change(authority, &row.serial, at)?;
        }
        let authority = self.authority_name(authority)?;
        self.audit(&Event::Adopted { authority, serial: row.serial.to_string() })
    }

    /// Notes that the frontend has stored the answers.
    pub fn acknowledge(&self, ids: &[RequestId]) -> Result<(), Fault> {
        let sql = "UPDATE request SET acknowledged = 1 WHERE id = ?1 AND outcome <> 'open'";
        let mut statement = self.inner.prepare_cached(sql)?;
        for id in ids {
            statement.execute([id.as_bytes()])?;
        }
        Ok(())
    }

    /// Notes how far an authority's files are on disk.
    pub fn set_files_at(&self, authority: AuthorityId, at: &FilesAt) -> Result<(), Fault> {
        let sql = "UPDATE authority SET files_at = ?2, revocations_at = ?3, index_stamp = ?4
                   WHERE id = ?1";
        self.inner.prepare_cached(sql)?.execute(params![
            authority.0,
            at.certificate,
            at.revocation,
            at.index_stamp
        ])?;
        Ok(())
    }

    /// Notes up to which entry the audit files are on disk.
    pub fn set_audit_files_at(&self, number: u64) -> Result<(), Fault> {
        let sql = "UPDATE meta SET value = ?1 WHERE key = 'audit_files_at'";
        self.inner.prepare_cached(sql)?.execute([number])?;
        Ok(())
    }

    pub(super) fn raise_time_floor(&self, time: UnixTime) -> Result<(), Fault> {
        if self.floor.get().is_some_and(|floor| floor >= time) {
            return Ok(());
        }
        let sql = "UPDATE meta SET value = MAX(value, ?1) WHERE key = 'time_floor'";
        self.inner.prepare_cached(sql)?.execute([time.0])?;
        self.floor.set(Some(time));
        Ok(())
    }

    /// Chains an audit entry; it becomes durable with the change it speaks about.
    pub fn audit(&mut self, event: &Event) -> Result<(), Fault> {
        let (number, previous) = match self.chain {
            Some(chain) => chain,
            None => log::head(&self.inner)?,
        };
        let link = audit::Link::new(number + 1, previous, self.now, event);
        let sql = "INSERT INTO audit (number, line, hash) VALUES (?1, ?2, ?3)";
        self.inner.prepare_cached(sql)?.execute(params![
            link.number,
            link.line,
            link.hash.as_bytes()
        ])?;
        self.chain = Some((link.number, link.hash));
        Ok(())
    }

    /// Records a refusal and its audit entry.
    pub fn refuse(
        &mut self,
        id: RequestId,
        digest: Digest,
        code: RefusalCode,
        text: &str,
    ) -> Result<(), Fault> {
        self.answer_request(id, digest, &Outcome::Refused { code, text: text.to_owned() })?;
        self.audit(&Event::Refused {
            request: id.to_string(),
            code: code.name().to_owned(),
            text: text.to_owned(),
        })
    }
}

//! CRLs and what goes into them: the rows of `crl`, and `revocation` as the numbered list of
//! every change of what CRLs say.
//!
//! A serial that stands there is to be looked up: it may have been revoked, have got another
//! reason, or be valid again by a person's hand. Nothing here encodes or decides.

use protocol::message::{CrlScope, Digest};
use rusqlite::{OptionalExtension, Row, params};

use super::{AuthorityId, Ledger, Revocation, Transaction};
use crate::{audit::Event, calendar::UnixTime, fault::Fault};

/// A CRL in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlRow {
    /// For which certificates it speaks.
    pub scope: CrlScope,
    /// The CRL number.
    pub number: u64,
    /// When it was signed.
    pub this_update: UnixTime,
    /// When the next one must be there.
    pub next_update: UnixTime,
    /// How many entries it has.
    pub entries: u64,
    /// The newest change in it.
    pub last_revocation: i64,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// Of a delta CRL: the number of the full CRL that it changes.
    pub base: Option<u64>,
}

/// A change of what CRLs say about a serial.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number.
    pub seq: i64,
    /// The content octets of the serial number.
    pub serial: Vec<u8>,
    /// The revocation that holds now; none if the certificate is valid again.
    pub revocation: Option<Revocation>,
    /// The shard of the CRL that the certificate names.
    pub shard: Option<u16>,
}

impl Ledger {
    /// The revoked serials of an authority in the order of their octets, for a CRL.
    pub fn for_each_revoked(
        &self,
        authority: AuthorityId,
        mut visit: impl FnMut(Revocation) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        // All of it from one index: the certificates themselves are not read.
        let sql = "SELECT serial, revoked_at, reason, not_after, profile, shard
                   FROM certificate INDEXED BY revoked
                   WHERE authority = ?1 AND status = 'R' ORDER BY serial";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([authority.0])?;
        while let Some(row) = rows.next()? {
            visit(revocation(row, 0)?)?;
        }
        Ok(())
    }

    /// The changes with a number above `after` and up to `upto`, by serial; of one serial the
    /// newest only.
    pub fn changes(
        &self,
        authority: AuthorityId,
        after: i64,
        upto: i64,
    ) -> Result<Vec<Change>, Fault> {
        let sql = "SELECT c.serial, c.revoked_at, c.reason, c.not_after, c.profile, c.shard,
                     c.status, MAX(r.seq)
                   FROM revocation r
                   JOIN certificate c ON c.authority = r.authority AND c.serial = r.serial
                   WHERE r.authority = ?1 AND r.seq > ?2 AND r.seq <= ?3
                   GROUP BY c.serial ORDER BY c.serial";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![authority.0, after, upto])?;
        let mut changes = Vec::new();
        while let Some(row) = rows.next()? {
            let status: String = row.get(6)?;
            let revocation = if status == "R" { Some(revocation(row, 0)?) } else { None };
            let (serial, shard) = (row.get(0)?, row.get(5)?);
            changes.push(Change { seq: row.get(7)?, serial, revocation, shard });
        }
        Ok(changes)
    }

    /// How many changes have a number above `after`.
    pub fn changes_after(&self, authority: AuthorityId, after: i64) -> Result<u64, Fault> {
        let sql = "SELECT COUNT(*) FROM revocation WHERE authority = ?1 AND seq > ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params![authority.0, after], |row| row.get(0))?)
    }

    /// The number of the newest change at an authority; 0 where there is none.
    pub fn last_revocation(&self, authority: AuthorityId) -> Result<i64, Fault> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM revocation WHERE authority = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// When the oldest change after number `after` was recorded.
    pub fn first_revocation_after(
        &self,
        authority: AuthorityId,
        after: i64,
    ) -> Result<Option<UnixTime>, Fault> {
        let sql =
            "SELECT at FROM revocation WHERE authority = ?1 AND seq > ?2 ORDER BY seq LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let at = statement.query_row(params![authority.0, after], |row| row.get(0)).optional()?;
        Ok(at.map(UnixTime))
    }

    /// The newest full CRL of an authority.
    pub fn newest_crl(&self, authority: AuthorityId) -> Result<Option<CrlRow>, Fault> {
        self.newest_crl_of(authority, CrlScope::Full)
    }

    /// Whether changes wait that the newest full CRL does not have, or there is none at all.
    pub fn lacks_changes(&self, authority: AuthorityId) -> Result<bool, Fault> {
        let last = self.last_revocation(authority)?;
        Ok(self.newest_crl(authority)?.is_none_or(|crl| crl.last_revocation < last))
    }

    /// The newest CRL of one scope.
    pub fn newest_crl_of(
        &self,
        authority: AuthorityId,
        scope: CrlScope,
    ) -> Result<Option<CrlRow>, Fault> {
        let sql = format!(
            "SELECT {COLUMNS} FROM crl WHERE authority = ?1 AND scope = ?2
             ORDER BY number DESC LIMIT 1"
        );
        self.one_crl(&sql, params![authority.0, scope_number(scope)])
    }

    /// The full CRL with this number.
    pub fn full_crl(&self, authority: AuthorityId, number: u64) -> Result<Option<CrlRow>, Fault> {
        let sql =
            format!("SELECT {COLUMNS} FROM crl WHERE authority = ?1 AND scope = 0 AND number = ?2");
        self.one_crl(&sql, params![authority.0, number])
    }

    fn one_crl(&self, sql: &str, values: impl rusqlite::Params) -> Result<Option<CrlRow>, Fault> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement
            .query_row(values, |row| {
                Ok(CrlRow {
                    scope: scope_of(row.get(0)?),
                    number: row.get(1)?,
                    this_update: UnixTime(row.get(2)?),
                    next_update: UnixTime(row.get(3)?),
                    entries: row.get(4)?,
                    last_revocation: row.get(5)?,
                    digest: Digest::from_bytes(row.get(6)?),
                    length: row.get(7)?,
                    base: row.get(8)?,
                })
            })
            .optional()?;
        Ok(row)
    }

    /// The newest `count` numbers of one scope.
    pub fn newest_crl_numbers(
        &self,
        authority: AuthorityId,
        scope: CrlScope,
        count: usize,
    ) -> Result<Vec<u64>, Fault> {
        let sql = "SELECT number FROM crl WHERE authority = ?1 AND scope = ?2
                   ORDER BY number DESC LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = params![authority.0, scope_number(scope), count];
        let numbers = statement.query_map(values, |row| row.get(0))?;
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    /// The number of the CRL with this digest, among the newest `count` of its scope.
    pub fn crl_number_of(
        &self,
        authority: AuthorityId,
        scope: CrlScope,
        digest: Digest,
        count: usize,
    ) -> Result<Option<u64>, Fault> {
        let sql = "SELECT number, digest FROM crl WHERE authority = ?1 AND scope = ?2
                   ORDER BY number DESC LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![authority.0, scope_number(scope), count])?;
        while let Some(row) = rows.next()? {
            if Digest::from_bytes(row.get(1)?) == digest {
                return Ok(Some(row.get(0)?));
            }
        }
        Ok(None)
    }

    /// Among how many shards the authority's certificates were divided when their first CRLs were
    /// signed; 0 if there were none.
    pub fn crl_shards(&self, authority: AuthorityId) -> Result<u16, Fault> {
        let sql = "SELECT MAX(scope) FROM crl WHERE authority = ?1 AND scope >= ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = params![authority.0, SHARD_0];
        let highest: Option<i64> = statement.query_row(values, |row| row.get(0))?;
        let shards = highest.map_or(0, |scope| scope - SHARD_0 + 1);
        Ok(u16::try_from(shards).unwrap_or(u16::MAX))
    }
}

impl Transaction<'_> {
    /// Records a CRL that was signed.
    pub fn store_crl(&mut self, authority: AuthorityId, crl: &CrlRow) -> Result<(), Fault> {
        let sql = "INSERT INTO crl (authority, scope, number, this_update, next_update, entries,
                   last_revocation, digest, length, base)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.inner.prepare_cached(sql)?.execute(params![
            authority.0,
            scope_number(crl.scope),
            crl.number,
            crl.this_update.0,
            crl.next_update.0,
            crl.entries,
            crl.last_revocation,
            crl.digest.as_bytes(),
            crl.length,
            crl.base
        ])?;
        self.raise_time_floor(crl.this_update)?;
        let name = self.authority_name(authority)?;
        self.audit(&Event::CrlSigned {
            authority: name,
            scope: scope_name(crl.scope),
            crl_number: crl.number,
            entries: crl.entries,
            crl: crl.digest.to_string(),
        })
    }
}

/// The name of a scope in files, logs and answers: `full`, `delta`, `shard-07`.
pub fn scope_name(scope: CrlScope) -> String {
    match scope {
        CrlScope::Full => "full".into(),
        CrlScope::Delta => "delta".into(),
        CrlScope::Shard(shard) => format!("shard-{shard:02}"),
    }
}

/// The number of shard 0's scope.
const SHARD_0: i64 = 2;

// stored
fn scope_number(scope: CrlScope) -> i64 {
    match scope {
        CrlScope::Full => 0,
        CrlScope::Delta => 1,
        CrlScope::Shard(shard) => SHARD_0 + i64::from(shard),
    }
}

fn scope_of(number: i64) -> CrlScope {
    match number {
        0 => CrlScope::Full,
        1 => CrlScope::Delta,
        shard => CrlScope::Shard(u16::try_from(shard - SHARD_0).unwrap_or(u16::MAX)),
    }
}

const COLUMNS: &str =
    "scope, number, this_update, next_update, entries, last_revocation, digest, length, base";

fn revocation(row: &Row<'_>, first: usize) -> Result<Revocation, Fault> {
    Ok(Revocation {
        serial: row.get(first)?,
        at: UnixTime(row.get(first + 1)?),
        reason: row.get(first + 2)?,
        not_after: UnixTime(row.get(first + 3)?),
        profile: row.get(first + 4)?,
        shard: row.get(first + 5)?,
    })
}

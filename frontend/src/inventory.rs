//! What came back: certificates by authority and serial, certified OpenPGP keys by request.
//!
//! Only what passed every check gets in, in the same transaction that finishes its request.

use protocol::message::{Name, RequestId, Serial, SerialHigh};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    names,
    store::StoreError,
    verify::{BadAnswer, VerifiedCertificate},
};

/// A certificate in the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its DER.
    pub der: Vec<u8>,
    /// Its subject in openssl's form.
    pub subject: String,
    /// The first second of its validity.
    pub not_before: i64,
    /// The last second of its validity.
    pub not_after: i64,
    /// When it was revoked, in seconds since 1970-01-01 UTC, if it was.
    pub revoked_at: Option<i64>,
    /// Why it was revoked, by RFC 5280's name.
    pub reason: Option<String>,
}

/// How many certificates of an authority there are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// The authority.
    pub authority: String,
    /// Not revoked.
    pub valid: u64,
    /// Revoked.
    pub revoked: u64,
}

/// The inventory, in a connection or a transaction.
pub struct Inventory<'c>(pub &'c Connection);

impl Inventory<'_> {
    /// Adds what was issued for `request`. A serial that the authority used before is a bad
    /// answer (invariant I1), and nothing is added.
    pub fn add(
        &self,
        authority: &Name,
        request: RequestId,
        certificate: &VerifiedCertificate,
    ) -> Result<Result<(), BadAnswer>, StoreError> {
        let serial = certificate.serial();
        if self.find(authority.as_str(), serial)?.is_some() {
            let authority = authority.to_string();
            return Ok(Err(BadAnswer::SerialSeen { authority, serial: serial.to_string() }));
        }
        let (not_before, not_after) = certificate.validity();
        self.0
            .prepare_cached(
                "INSERT INTO certificate
                 (authority, serial, request, der, subject, not_before, not_after)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                authority.as_str(),
                serial.as_octets(),
                request.as_bytes(),
                certificate.der(),
                names::show(certificate.subject()),
                not_before,
                not_after,
            ])?;
        self.0
            .prepare_cached(
                "UPDATE certificate AS one
                 SET state = 'revoked', revoked_at = first.revoked_at, reason = first.reason
                 FROM revoked_first AS first
                 WHERE one.authority = ?1 AND one.serial = ?2
                   AND first.authority = ?1 AND first.serial = ?2",
            )?
            .execute(params![authority.as_str(), serial.as_octets()])?;
        if let Some(counter) = counter_of(serial) {
            self.0
                .prepare_cached(
                    "INSERT INTO serial_high (authority, counter) VALUES (?1, ?2)
                     ON CONFLICT (authority) DO UPDATE SET counter = max(counter, ?2)",
                )?
                .execute(params![authority.as_str(), counter])?;
        }
        Ok(Ok(()))
    }

    /// The certificate with this serial.
    pub fn find(&self, authority: &str, serial: &Serial) -> Result<Option<Stored>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT der, subject, not_before, not_after, revoked_at, reason
             FROM certificate WHERE authority = ?1 AND serial = ?2",
        )?;
        Ok(statement.query_row(params![authority, serial.as_octets()], stored).optional()?)
    }

    /// The certificate that was issued for this request.
    pub fn of_request(&self, id: RequestId) -> Result<Option<Stored>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT der, subject, not_before, not_after, revoked_at, reason
             FROM certificate WHERE request = ?1",
        )?;
        Ok(statement.query_row(params![id.as_bytes()], stored).optional()?)
    }

    /// Notes a revocation that the signer confirmed. A certificate that is not in the inventory
    /// is no error: it was issued before this frontend was there; or it comes later, since its
    /// answer was lost and revocations go first on the cable. Says whether it was there.
    pub fn revoke(
        &self,
        authority: &Name,
        serial: &Serial,
        revoked_at: i64,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let changed = self
            .0
            .prepare_cached(
                "UPDATE certificate SET state = 'revoked', revoked_at = ?3, reason = ?4
                 WHERE authority = ?1 AND serial = ?2 AND state = 'valid'",
            )?
            .execute(params![authority.as_str(), serial.as_octets(), revoked_at, reason])?;
        if changed == 0 && self.find(authority.as_str(), serial)?.is_none() {
            self.0
                .prepare_cached(
                    "INSERT OR IGNORE INTO revoked_first (authority, serial, revoked_at, reason)
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![authority.as_str(), serial.as_octets(), revoked_at, reason])?;
        }
        Ok(changed == 1)
    }

    /// Lets `visit` see the serial and the certificate of everything that the signer said it
    /// revoked from `since` on and before `until`, and that expires at `alive_at` or later.
    /// Ends early when `visit` gives something.
    pub fn find_revoked<T>(
        &self,
        authority: &Name,
        (since, until): (i64, i64),
        alive_at: i64,
        mut visit: impl FnMut(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT serial, der FROM certificate
             WHERE authority = ?1 AND state = 'revoked' AND revoked_at >= ?2 AND revoked_at < ?3
               AND not_after >= ?4",
        )?;
        let mut rows = statement.query(params![authority.as_str(), since, until, alive_at])?;
        while let Some(row) = rows.next()? {
            let octets = |column| {
                let value = row.get_ref(column)?.as_blob();
                value.map_err(|_| StoreError::Damaged { what: "certificate" })
            };
            if let Some(found) = visit(octets(0)?, octets(1)?) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether the signer said of anything that it was revoked at `since` or later.
    pub fn was_revoked_since(&self, authority: &Name, since: i64) -> Result<bool, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM certificate
             WHERE authority = ?1 AND state = 'revoked' AND revoked_at >= ?2)
             OR EXISTS (SELECT 1 FROM revoked_first WHERE authority = ?1 AND revoked_at >= ?2)",
        )?;
        Ok(statement.query_row(params![authority.as_str(), since], |row| row.get(0))?)
    }

    /// Adds the verified key that came back for `request`: certified, or with what was taken back.
    pub fn add_certification(
        &self,
        request: RequestId,
        fingerprint: &str,
        certificate: &[u8],
    ) -> Result<(), StoreError> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO certification (request, fingerprint, certificate)
                 VALUES (?1, ?2, ?3)",
            )?
            .execute(params![request.as_bytes(), fingerprint, certificate])?;
        Ok(())
    }

    /// The key that came back for `request`, binary, and its fingerprint.
    pub fn certification(&self, id: RequestId) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT fingerprint, certificate FROM certification WHERE request = ?1",
        )?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(statement.query_row(params![id.as_bytes()], row).optional()?)
    }

    /// The highest serial counter seen from each authority.
    pub fn serial_high(&self) -> Result<Vec<SerialHigh>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT authority, counter FROM serial_high ORDER BY authority")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (authority, counter): (String, i64) = (row.get(0)?, row.get(1)?);
            let damaged = StoreError::Damaged { what: "serial mark" };
            let authority = Name::try_from(authority).map_err(|_| damaged)?;
            found.push(SerialHigh { authority, counter: u64::try_from(counter).unwrap_or(0) });
        }
        Ok(found)
    }

    /// How many certificates there are, by authority.
    pub fn tallies(&self) -> Result<Vec<Tally>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT authority, count(*), total(state = 'revoked') FROM certificate
             GROUP BY authority ORDER BY authority",
        )?;
        let rows = statement.query_map([], |row| {
            let (all, revoked): (i64, f64) = (row.get(1)?, row.get(2)?);
            let (all, revoked) = (all.unsigned_abs(), revoked as u64);
            Ok(Tally { authority: row.get(0)?, valid: all.saturating_sub(revoked), revoked })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        der: row.get(0)?,
        subject: row.get(1)?,
        not_before: row.get(2)?,
        not_after: row.get(3)?,
        revoked_at: row.get(4)?,
        reason: row.get(5)?,
    })
}

/// The counter in a serial of `8-byte counter ‖ 8 random bytes`; a shorter or longer one was
/// not made that way.
fn counter_of(serial: &Serial) -> Option<i64> {
    let octets = serial.as_octets();
    let octets = octets.strip_prefix(&[0]).unwrap_or(octets);
    if !(9..=16).contains(&octets.len()) {
        return None;
    }
    let counter = &octets[..octets.len() - 8];
    let value = counter.iter().fold(0u64, |sum, octet| sum << 8 | u64::from(*octet));
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_what_stands_above_the_eight_random_bytes() {
        let serial = |hex: &str| hex.parse::<Serial>().unwrap();
        assert_eq!(counter_of(&serial("0000000000000005A1A2A3A4A5A6A7A8")), Some(5));
        assert_eq!(counter_of(&serial("00000000000000F5A1A2A3A4A5A6A7A8")), Some(0xf5));
        assert_eq!(counter_of(&serial("7FFFFFFFFFFFFFFFA1A2A3A4A5A6A7A8")), Some(i64::MAX),);
        assert_eq!(counter_of(&serial("8FFFFFFFFFFFFFFFA1A2A3A4A5A6A7A8")), None);
        assert_eq!(counter_of(&serial("01")), None);
        assert_eq!(counter_of(&serial("01000000000000000000000000000000000000")), None);
    }
}

//! Reads the audit log for the frontend, which keeps a copy: where it ends, and its bytes from a
//! given place on. Nothing is changed here.

use protocol::message::Digest;
use rusqlite::{Connection, OptionalExtension};

use super::Ledger;
use crate::{audit, fault::Fault};

impl Ledger {
    /// The number and the hash of the last audit entry; 0 and the origin where there is none.
    pub fn audit_head(&self) -> Result<(u64, Digest), Fault> {
        head(&self.connection)
    }

    /// The hash of audit entry `number`, which is not above the last one's.
    pub fn audit_hash(&self, number: u64) -> Result<Option<Digest>, Fault> {
        if number == 0 {
            return Ok(Some(audit::ORIGIN));
        }
        let sql = "SELECT hash FROM audit WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let hash = statement.query_row([number], |row| row.get(0)).optional()?;
        Ok(hash.map(Digest::from_bytes))
    }

    /// The audit entries behind entry `after`, from `offset` in the first one on, a line feed
    /// behind each: whole ones up to `length_max` bytes, or as much of the first. Also the offset,
    /// which is 0 if it was past the entry's end.
    pub fn audit_bytes(
        &self,
        after: u64,
        offset: u64,
        length_max: usize,
    ) -> Result<(u64, Vec<u8>), Fault> {
        let sql = "SELECT line FROM audit WHERE number > ?1 ORDER BY number";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([after])?;
        let (mut bytes, mut start) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let mut line: String = row.get(0)?;
            line.push('\n');
            if bytes.is_empty() {
                start = usize::try_from(offset).ok().filter(|at| *at < line.len()).unwrap_or(0);
                let end = line.len().min(start + length_max);
                bytes.extend_from_slice(&line.as_bytes()[start..end]);
            } else if bytes.len() + line.len() <= length_max {
                bytes.extend_from_slice(line.as_bytes());
            } else {
                break;
            }
            if bytes.len() >= length_max {
                break;
            }
        }
        Ok((start as u64, bytes))
    }
}

pub(super) fn head(connection: &Connection) -> Result<(u64, Digest), Fault> {
    let sql = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let head = statement
        .query_row([], |row| Ok((row.get(0)?, Digest::from_bytes(row.get(1)?))))
        .optional()?;
    Ok(head.unwrap_or((0, audit::ORIGIN)))
}

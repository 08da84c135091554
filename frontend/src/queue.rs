//! The durable queue: every request from the moment it was accepted until its one outcome.
//!
//! A request is here, committed, before its id is told to anybody. Its body never changes, so
//! that asking again is asking the same. Nothing here decides what is sent when.
//!
//! | state | event | next |
//! |---|---|---|
//! | queued | handed to the session | sent |
//! | queued, sent | `Held` | held |
//! | sent, held | verified certificate, `Revoked` | done |
//! | sent, held | `Refused` | refused |
//! | sent, held | `Quarantined` | quarantined |

use std::{fmt, str::FromStr};

use protocol::{
    codec::CodecError,
    message::{Digest, Message, Name, Request, RequestId, Serial},
};
use rusqlite::{
    Connection, OptionalExtension, Row, ToSql, params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::store::StoreError;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A certificate for a CSR.
    Issue,
    /// A certification of an OpenPGP key.
    Certify,
    /// A revocation.
    Revoke,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Committed, not yet handed to the session.
    Queued,
    /// Handed to the session at least once.
    Sent,
    /// Waits for a person at the signer's console.
    Held,
    /// The answer is stored.
    Done,
    /// The signer's rules said no.
    Refused,
    /// The request broke the signer's intake and was set aside.
    Quarantined,
}

impl Kind {
    const TABLE: [(Self, &'static str); 3] =
        [(Self::Issue, "issue"), (Self::Certify, "certify"), (Self::Revoke, "revoke")];
}

impl State {
    /// Every state with its public name.
    pub const TABLE: [(Self, &'static str); 6] = [
        (Self::Queued, "queued"),
        (Self::Sent, "sent"),
        (Self::Held, "held"),
        (Self::Done, "done"),
        (Self::Refused, "refused"),
        (Self::Quarantined, "quarantined"),
    ];

    /// Whether the request has its outcome.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Refused | Self::Quarantined)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::TABLE, *self))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::TABLE, *self))
    }
}

fn name_of<T: PartialEq>(table: &'static [(T, &'static str)], value: T) -> &'static str {
    table.iter().find(|row| row.0 == value).map(|row| row.1).expect("every variant has a row")
}

impl FromSql for Kind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str()?;
        let row = Self::TABLE.into_iter().find(|row| row.1 == name);
        row.map(|row| row.0).ok_or(FromSqlError::InvalidType)
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str()?;
        let row = Self::TABLE.into_iter().find(|row| row.1 == name);
        row.map(|row| row.0).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(name_of(&Self::TABLE, *self).into())
    }
}

/// A request as the queue knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place in the order of arrival.
    pub seq: i64,
    /// Its name.
    pub id: RequestId,
    /// What it asks for.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// Of which authority.
    pub authority: Option<String>,
    /// By which profile.
    pub profile: Option<String>,
    /// The certificate's serial: issued for it, or to be revoked by it.
    pub serial: Option<Serial>,
    /// Why it was refused or quarantined: public code and text.
    pub refusal: Option<(String, String)>,
    /// The number to tell the person at the console.
    pub ticket: Option<u64>,
    /// When it was committed, microseconds since 1970-01-01 UTC.
    pub queued_us: i64,
    /// When it was first handed to the session.
    pub sent_us: Option<i64>,
    /// When its outcome was stored.
    pub finished_us: Option<i64>,
}

/// What a stored request's outcome is; a certificate goes to the inventory first.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// The answer is stored; with the serial of an X.509 certificate.
    Done(Option<&'a Serial>),
    /// The rules said no.
    Refused {
        /// The public name of the rule.
        code: &'a str,
        /// For a person.
        text: &'a str,
    },
    /// Set aside by the signer.
    Quarantined {
        /// For a person.
        text: &'a str,
    },
}

/// The queue, in a connection or a transaction.
pub struct Queue<'c>(pub &'c Connection);

impl Queue<'_> {
    /// Adds `request` in state queued. The caller commits before it tells the id to anybody.
    pub fn insert(&self, request: &Request, unix_us: i64) -> Result<RequestId, StoreError> {
        let (kind, authority, profile, serial) = match request {
            Request::Issue(issue) => ("issue", Some(&issue.authority), Some(&issue.profile), None),
            Request::Revoke(revoke) => {
                ("revoke", Some(&revoke.authority), None, Some(revoke.serial.as_octets()))
            }
            // Its profile is the policy that was named.
            Request::Certify(certify) => {
                ("certify", Some(&certify.authority), certify.policy.as_ref(), None)
            }
            Request::RevokeOpenPgp(revoke) => ("revoke", Some(&revoke.authority), None, None),
            Request::TimeHint(_)
            | Request::Status
            | Request::Catalogue(_)
            | Request::FetchCrl(_)
            | Request::Acknowledge(_)
            | Request::FetchLog(_) => unreachable!("only requests with an id are queued"),
        };
        let id = request.request_id().expect("the four above have an id");
        let body = request.to_bytes().map_err(|_| StoreError::Damaged { what: "request" })?;
        self.0
            .prepare_cached(
                "INSERT INTO request
                 (id, kind, state, authority, profile, body, digest, serial, queued_us)
                 VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                id.as_bytes(),
                kind,
                authority.map(Name::as_str),
                profile.map(Name::as_str),
                body,
                Digest::of(&body).as_bytes(),
                serial,
                unix_us,
            ])?;
        Ok(id)
    }

    /// The request called `id`.
    pub fn find(&self, id: RequestId) -> Result<Option<Entry>, StoreError> {
        let sql = format!("SELECT {ENTRY} FROM request WHERE id = ?1");
        let mut statement = self.0.prepare_cached(&sql)?;
        Ok(statement.query_row(params![id.as_bytes()], entry).optional()?)
    }

    /// The last request to revoke this certificate and where it stands; a refused one only if
    /// there is no other.
    pub fn revocation(
        &self,
        authority: &Name,
        serial: &Serial,
    ) -> Result<Option<(RequestId, State)>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, state FROM request
             WHERE kind = 'revoke' AND authority = ?1 AND serial = ?2
             ORDER BY state IN ('refused', 'quarantined'), seq DESC LIMIT 1",
        )?;
        let row = |row: &Row<'_>| Ok((RequestId::from_bytes(row.get(0)?), row.get(1)?));
        Ok(statement.query_row(params![authority.as_str(), serial.as_octets()], row).optional()?)
    }

    /// Whether an older request that is open takes back what this authority certified of this key.
    pub fn takes_back_before(
        &self,
        id: RequestId,
        authority: &Name,
        fingerprint: &str,
    ) -> Result<bool, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT body, digest FROM request
             WHERE (kind = 'revoke') = 1 AND state IN ('queued', 'sent')
             AND seq < (SELECT seq FROM request WHERE id = ?1)
             AND serial IS NULL AND authority = ?2",
        )?;
        let mut rows = statement.query(params![id.as_bytes(), authority.as_str()])?;
        while let Some(row) = rows.next()? {
            let (body, digest): (Vec<u8>, [u8; 32]) = (row.get(0)?, row.get(1)?);
            if let Request::RevokeOpenPgp(revoke) = decode(&body, digest)?
                && *revoke.fingerprint == *fingerprint
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The body of the request called `id`, exactly as it was accepted.
    pub fn body(&self, id: RequestId) -> Result<Option<Request>, StoreError> {
        let mut statement =
            self.0.prepare_cached("SELECT body, digest FROM request WHERE id = ?1")?;
        let row: Option<(Vec<u8>, [u8; 32])> = statement
            .query_row(params![id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        row.map(|(body, digest)| decode(&body, digest)).transpose()
    }

    /// Up to `limit` requests without an outcome that come after `after`, oldest first:
    /// revocations or all others. Held ones are not among them.
    pub fn open_after(
        &self,
        revocations: bool,
        after: i64,
        limit: usize,
    ) -> Result<Vec<OpenRequest>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT seq, state, body, digest FROM request
             WHERE (kind = 'revoke') = ?1 AND seq > ?2 AND state IN ('queued', 'sent')
             ORDER BY seq LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![revocations, after, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (body, digest): (Vec<u8>, [u8; 32]) = (row.get(2)?, row.get(3)?);
            let request = decode(&body, digest)?;
            found.push(OpenRequest { seq: row.get(0)?, state: row.get(1)?, request });
        }
        Ok(found)
    }

    /// The ids of up to `limit` requests that wait for a person, oldest first.
    pub fn held(&self, limit: usize) -> Result<Vec<RequestId>, StoreError> {
        self.ids("SELECT id FROM request WHERE state = 'held' ORDER BY seq LIMIT ?1", limit)
    }

    /// The ids of up to `limit` finished requests that were never acknowledged to the signer.
    pub fn unacknowledged(&self, limit: usize) -> Result<Vec<RequestId>, StoreError> {
        self.ids(
            "SELECT id FROM request
             WHERE acknowledged = 0 AND finished_us IS NOT NULL
             ORDER BY seq LIMIT ?1",
            limit,
        )
    }

    fn ids(&self, sql: &str, limit: usize) -> Result<Vec<RequestId>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![limit], |row| row.get(0))?;
        Ok(rows.map(|id| id.map(RequestId::from_bytes)).collect::<Result<_, _>>()?)
    }

    /// Notes that the requests were handed to the session for the first time.
    pub fn mark_sent(&self, ids: &[RequestId], unix_us: i64) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(
            "UPDATE request SET state = 'sent', sent_us = ?2 WHERE id = ?1 AND state = 'queued'",
        )?;
        for id in ids {
            statement.execute(params![id.as_bytes(), unix_us])?;
        }
        Ok(())
    }

    /// Notes that the answers were acknowledged.
    pub fn mark_acknowledged(&self, ids: &[RequestId]) -> Result<(), StoreError> {
        let mut statement =
            self.0.prepare_cached("UPDATE request SET acknowledged = 1 WHERE id = ?1")?;
        for id in ids {
            statement.execute(params![id.as_bytes()])?;
        }
        Ok(())
    }

    /// Notes that the oldest outcomes, up to `limit` of those that were stored by this time, were
    /// acknowledged.
    pub fn mark_acknowledged_until(&self, unix_us: i64, limit: usize) -> Result<(), StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .prepare_cached(
                "UPDATE request SET acknowledged = 1 WHERE seq IN (
                     SELECT seq FROM request
                     WHERE acknowledged = 0 AND finished_us IS NOT NULL AND finished_us <= ?1
                     ORDER BY seq LIMIT ?2)",
            )?
            .execute(params![unix_us, limit])?;
        Ok(())
    }

    /// Notes that the request waits for a person.
    pub fn hold(&self, id: RequestId, ticket: u64) -> Result<(), StoreError> {
        let ticket = i64::try_from(ticket).unwrap_or(i64::MAX);
        self.0
            .prepare_cached(
                "UPDATE request SET state = 'held', ticket = ?2
                 WHERE id = ?1 AND (state = 'queued' OR state = 'sent' OR state = 'held')",
            )?
            .execute(params![id.as_bytes(), ticket])?;
        Ok(())
    }

    /// Gives the request its one outcome; says whether it had none before.
    pub fn finish(
        &self,
        id: RequestId,
        outcome: &Outcome<'_>,
        unix_us: i64,
    ) -> Result<bool, StoreError> {
        let (state, serial, code, text) = match outcome {
            Outcome::Done(serial) => (State::Done, serial.map(Serial::as_octets), None, None),
            Outcome::Refused { code, text } => (State::Refused, None, Some(*code), Some(*text)),
            Outcome::Quarantined { text } => {
                (State::Quarantined, None, Some(QUARANTINED), Some(*text))
            }
        };
        let changed = self
            .0
            .prepare_cached(
                "UPDATE request SET state = ?2, serial = coalesce(?3, serial),
                 refusal_code = ?4, refusal_text = ?5, finished_us = ?6
                 WHERE id = ?1 AND (state = 'queued' OR state = 'sent' OR state = 'held')",
            )?
            .execute(params![id.as_bytes(), state, serial, code, text, unix_us])?;
        Ok(changed == 1)
    }

    /// How many requests there are in each state.
    pub fn counts(&self) -> Result<Vec<(State, u64)>, StoreError> {
        let mut counts: Vec<_> = State::TABLE.iter().map(|row| (row.0, 0)).collect();
        let mut statement =
            self.0.prepare_cached("SELECT state, count(*) FROM request GROUP BY state")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let state: State = row.get(0)?;
            let count: i64 = row.get(1)?;
            for slot in counts.iter_mut().filter(|slot| slot.0 == state) {
                slot.1 = u64::try_from(count).unwrap_or(0);
            }
        }
        Ok(counts)
    }

    /// How many requests wait for the signer: queued or sent.
    pub fn waiting(&self) -> Result<u64, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT count(*) FROM request WHERE state IN ('queued', 'sent')")?;
        let count: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// When the oldest request without an outcome was committed; held ones do not count.
    pub fn oldest_waiting_us(&self) -> Result<Option<i64>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT queued_us FROM request WHERE state IN ('queued', 'sent')
             ORDER BY queued_us LIMIT 1",
        )?;
        Ok(statement.query_row([], |row| row.get(0)).optional()?)
    }
}

/// A request that has no outcome yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRequest {
    /// Its place in the order of arrival.
    pub seq: i64,
    /// Queued or sent.
    pub state: State,
    /// Its body.
    pub request: Request,
}

/// The code under which a quarantine is stored and shown.
pub const QUARANTINED: &str = "quarantined";

const ENTRY: &str = "seq, id, kind, state, authority, profile, serial, refusal_code, \
                     refusal_text, ticket, queued_us, sent_us, finished_us";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let serial: Option<Vec<u8>> = row.get(6)?;
    let (code, text): (Option<String>, Option<String>) = (row.get(7)?, row.get(8)?);
    Ok(Entry {
        seq: row.get(0)?,
        id: RequestId::from_bytes(row.get(1)?),
        kind: row.get(2)?,
        state: row.get(3)?,
        authority: row.get(4)?,
        profile: row.get(5)?,
        serial: serial.and_then(|octets| Serial::from_magnitude(&octets).ok()),
        refusal: code.zip(text),
        ticket: row.get::<_, Option<i64>>(9)?.and_then(|ticket| u64::try_from(ticket).ok()),
        queued_us: row.get(10)?,
        sent_us: row.get(11)?,
        finished_us: row.get(12)?,
    })
}

/// The stored body must still be what its digest says: a rotten bit must not become a request.
fn decode(body: &[u8], digest: [u8; 32]) -> Result<Request, StoreError> {
    let damaged = |_: CodecError| StoreError::Damaged { what: "request" };
    if Digest::of(body) != Digest::from_bytes(digest) {
        return Err(StoreError::Damaged { what: "request" });
    }
    Request::from_bytes(body).map_err(damaged)
}

/// The id in `text`, as a command line gives it.
pub fn parse_id(text: &str) -> Result<RequestId, String> {
    RequestId::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use protocol::message::{RevocationReason, Revoke};

    use super::*;
    use crate::store::Store;

    fn revocation(number: u8) -> Request {
        Request::Revoke(Revoke {
            id: RequestId::from_bytes([number; 16]),
            authority: "issuing".parse().unwrap(),
            serial: Serial::from_magnitude(&[number]).unwrap(),
            reason: RevocationReason::KeyCompromise,
        })
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("s")).unwrap();
        (dir, store)
    }

    #[test]
    fn a_committed_request_is_there_after_a_kill_and_an_uncommitted_one_is_not() {
        let (dir, mut store) = store();
        let path = dir.path().join("s");
        let transaction = store.transaction().unwrap();
        Queue(&transaction).insert(&revocation(1), 10).unwrap();
        transaction.commit().unwrap();
        let transaction = store.transaction().unwrap();
        Queue(&transaction).insert(&revocation(2), 11).unwrap();
        // As kill -9 leaves it: neither commit nor rollback is called.
        std::mem::forget(transaction);
        std::mem::forget(store);

        let copy = dir.path().join("copy");
        for suffix in ["", "-wal"] {
            std::fs::copy(
                format!("{}{suffix}", path.display()),
                format!("{}{suffix}", copy.display()),
            )
            .unwrap();
        }
        let store = Store::open(&copy).unwrap();
        let queue = Queue(store.connection());
        let open = queue.open_after(true, 0, 10).unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].request, revocation(1));
        assert_eq!(queue.body(RequestId::from_bytes([1; 16])).unwrap(), Some(revocation(1)));
    }

    #[test]
    fn a_request_has_exactly_one_outcome() {
        let (_dir, store) = store();
        let queue = Queue(store.connection());
        let id = queue.insert(&revocation(1), 10).unwrap();
        queue.mark_sent(&[id], 20).unwrap();
        queue.mark_sent(&[id], 30).unwrap();
        let refused = Outcome::Refused { code: "serial-unknown", text: "never issued" };
        assert!(queue.finish(id, &refused, 40).unwrap());
        assert!(!queue.finish(id, &Outcome::Done(None), 50).unwrap());
        queue.hold(id, 7).unwrap();

        let entry = queue.find(id).unwrap().unwrap();
        assert_eq!(entry.state, State::Refused);
        assert_eq!(entry.refusal, Some(("serial-unknown".to_owned(), "never issued".to_owned())));
        assert_eq!((entry.sent_us, entry.finished_us, entry.ticket), (Some(20), Some(40), None));
        assert_eq!(queue.open_after(true, 0, 10).unwrap(), []);
        assert_eq!(queue.unacknowledged(10).unwrap(), [id]);
        queue.mark_acknowledged(&[id]).unwrap();
        assert_eq!(queue.unacknowledged(10).unwrap(), []);
    }

    #[test]
    fn a_rotten_bit_in_a_stored_body_is_noticed() {
        let (_dir, store) = store();
        let id = Queue(store.connection()).insert(&revocation(1), 10).unwrap();
        let sql =
            "UPDATE request SET body = CAST(substr(body, 1, length(body) - 1) || x'04' AS BLOB)";
        store.connection().execute(sql, []).unwrap();
        let result = Queue(store.connection()).body(id);
        assert!(matches!(result, Err(StoreError::Damaged { what: "request" })), "{result:?}");
    }

    #[test]
    fn states_are_counted_under_their_public_names() {
        let (_dir, store) = store();
        let queue = Queue(store.connection());
        for number in 1..=4 {
            queue.insert(&revocation(number), i64::from(number)).unwrap();
        }
        queue.hold(RequestId::from_bytes([2; 16]), 5).unwrap();
        queue.finish(RequestId::from_bytes([3; 16]), &Outcome::Done(None), 9).unwrap();
        let counts: Vec<_> = queue
            .counts()
            .unwrap()
            .into_iter()
            .map(|(state, count)| (state.to_string(), count))
            .filter(|row| row.1 > 0)
            .collect();
        let expected =
            [("queued", 2), ("held", 1), ("done", 1)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(counts, expected);
        assert_eq!(queue.held(10).unwrap(), [RequestId::from_bytes([2; 16])]);
        assert_eq!(queue.oldest_waiting_us().unwrap(), Some(1));
        assert_eq!(queue.waiting().unwrap(), 2);
    }
}

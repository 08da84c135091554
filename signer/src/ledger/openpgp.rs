//! OpenPGP authorities, what they are about to sign, what they certified and what they took back.
//!
//! A certificate is stored once, with the places of its parts, so that a certification is found
//! again without parsing it. [`OpenPgpIntent`]s come out of [`Transaction::commit`] and off the disk
//! alone, so nothing can be signed that is not recorded (invariant I4).

use std::collections::BTreeMap;

use protocol::{
    bounded::{Bytes, Text},
    message::{Digest, Name, OPENPGP_KEY_MAX, OpenPgpReason, RequestId, Serial},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{
    Ledger, Outcome, Transaction,
    rows::{damaged, one_blob},
};
use crate::{
    audit::Event,
    calendar::UnixTime,
    fault::Fault,
    intake::openpgp::{Minimal, PRIMARY_MAX},
    openpgp::{CERTIFICATION_MAX, Statement},
};

mod check;

pub(crate) use check::{CERTIFICATE_IS_GONE, REVOCATION_IS_GONE};
pub use check::{StoredCertification, StoredRevocation};

/// An OpenPGP authority's row in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpenPgpAuthorityId(i64);

/// The format of an intent's body, a [`OpenPgpDraft`]; bodies of another are set aside.
const FORMAT: i64 = 3;

/// What is about to be recorded as an intent, with every byte that will be signed. // stored
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenPgpDraft {
    /// For which request.
    pub request: RequestId,
    /// Who signs.
    pub authority: OpenPgpAuthorityId,
    /// The time in the signatures.
    pub at: UnixTime,
    /// The fingerprint of the key.
    pub fingerprint: Text<64>,
    /// The Public-Key packet of its primary key.
    pub primary: Bytes<PRIMARY_MAX>,
    /// What is to be done.
    pub job: OpenPgpJob,
}

/// What may be signed: it is in the ledger.
#[derive(Debug)]
pub struct OpenPgpIntent(OpenPgpDraft);

impl OpenPgpIntent {
    /// Whether this serial is for one of its certifications.
    pub fn holds(&self, serial: &Serial) -> bool {
        match self.job() {
            OpenPgpJob::Certify { user_ids, .. } => {
                user_ids.iter().any(|one| one.serial.as_ref() == Some(serial))
            }
            OpenPgpJob::Revoke { .. } => false,
        }
    }

    /// For which request.
    pub fn request(&self) -> RequestId {
        self.0.request
    }

    /// Who signs.
    pub fn authority(&self) -> OpenPgpAuthorityId {
        self.0.authority
    }

    /// The time in the signatures.
    pub fn at(&self) -> UnixTime {
        self.0.at
    }

    /// The fingerprint of the key.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// The Public-Key packet of its primary key.
    pub fn primary(&self) -> &[u8] {
        &self.0.primary
    }

    /// What is to be done.
    pub fn job(&self) -> &OpenPgpJob {
        &self.0.job
    }
}

/// What is to be done with a key. // stored
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OpenPgpJob {
    /// Certify user IDs.
    Certify {
        /// By which policy.
        policy: Name,
        /// The user IDs, in the order of the request.
        user_ids: Vec<Intended>,
        /// The certificate that the certifications are put into.
        minimal: Box<Minimal>,
    },
    /// Take certifications back.
    Revoke {
        /// Why.
        reason: OpenPgpReason,
        /// Which, in the order of their making.
        user_ids: Vec<TakenBack>,
        /// The primary key's part of the answer.
        head: Bytes<OPENPGP_KEY_MAX>,
    },
}

/// One user ID that is to be certified. // stored
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intended {
    /// As in the key.
    pub user_id: Text<256>,
    /// The certification's serial number; none of one that an old program made.
    pub serial: Option<Serial>,
    /// When it ends.
    pub expires: UnixTime,
    /// The certification.
    pub ours: Ours,
}

/// A certification that is to be in an answer. // stored
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ours {
    /// It is made.
    New(Statement),
    /// It was made before and is still valid.
    Kept(Bytes<CERTIFICATION_MAX>),
}

/// One user ID whose certification is taken back. // stored
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TakenBack {
    /// As in the key.
    pub user_id: Text<256>,
    /// The user ID's packet and its self-signature.
    pub own: Bytes<OPENPGP_KEY_MAX>,
    /// What takes it back.
    pub statement: Statement,
}

/// A user ID in a stored certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedUserId {
    /// As in the key.
    pub user_id: String,
    /// The certification's serial number; none of one that an old program made.
    pub serial: Option<Serial>,
    /// When it ends.
    pub expires: UnixTime,
    /// Where in the certificate it begins.
    pub offset: usize,
    /// The bytes of the user ID and its self-signature.
    pub own: usize,
    /// The bytes of our certification behind it.
    pub ours: usize,
}

/// A certificate with our certifications in it, and where.
#[derive(Debug)]
pub struct Certified {
    /// The certificate.
    pub bytes: Vec<u8>,
    /// The bytes before the first user ID.
    pub head: usize,
    /// Its user IDs.
    pub user_ids: Vec<CertifiedUserId>,
}

/// What was certified before, and is still valid.
#[derive(Debug)]
pub struct Earlier {
    seq: i64,
    request: RequestId,
    /// The certificate that was answered.
    pub certificate: Vec<u8>,
    /// Its user IDs.
    pub user_ids: Vec<CertifiedUserId>,
}

/// A row about a certification that was not taken back, of which its bytes are no part.
#[derive(Clone, Copy, Debug)]
pub struct StandingRow<'r> {
    /// By which policy.
    pub policy: &'r str,
    /// When it ends.
    pub expires: UnixTime,
}

/// A user ID with certifications that were not taken back.
#[derive(Clone, Debug)]
pub struct Standing {
    /// As in the key.
    pub user_id: String,
    /// When the latest of them was made.
    pub at: UnixTime,
    /// Which was recorded last: its number, and its place there.
    newest: (i64, i64),
}

/// A valid certification of a user ID.
#[derive(Clone, Debug)]
pub struct Valid {
    /// As in the key.
    pub user_id: String,
    /// Its serial number.
    pub serial: Option<Serial>,
    /// When it ends.
    pub expires: UnixTime,
    /// The primary key's part of its certificate.
    pub head: Vec<u8>,
    /// The user ID's packet and its self-signature.
    pub own: Vec<u8>,
    /// The certification.
    pub ours: Vec<u8>,
}

/// One certified user ID, for lists.
#[derive(Clone, Debug, Serialize)]
pub struct CertificationRow {
    /// By whom.
    pub authority: String,
    /// By which policy; empty of an old program's.
    pub policy: String,
    /// The key's fingerprint.
    pub fingerprint: String,
    /// The user ID.
    pub user_id: String,
    /// The serial number.
    pub serial: Option<String>,
    /// When it was made.
    pub at: String,
    /// When it ends.
    pub expires: String,
    /// When it was taken back.
    pub revoked_at: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The request that it was made for.
    pub request: String,
}

//------------ Reading -------------------------------------------------------

impl Ledger {
    /// The row of an OpenPGP authority, with the fingerprint of its key: empty where an old
    /// store's key was never loaded.
    pub fn openpgp_authority(
        &self,
        name: &Name,
    ) -> Result<Option<(OpenPgpAuthorityId, String)>, Fault> {
        let sql = "SELECT id, fingerprint FROM openpgp_authority WHERE name = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement
            .query_row([name.as_str()], |row| Ok((OpenPgpAuthorityId(row.get(0)?), row.get(1)?)));
        Ok(found.optional()?)
    }

    /// Whether an authority ever certified anything, or is about to.
    pub fn openpgp_has_certified(&self, authority: OpenPgpAuthorityId) -> Result<bool, Fault> {
        let sql = "SELECT EXISTS (SELECT 1 FROM openpgp_certification WHERE authority = ?1)
                       OR serial_counter > 4611686018427387904
                   FROM openpgp_authority WHERE id = ?1";
        Ok(self.connection.query_row(sql, [authority.0], |row| row.get(0))?)
    }

    /// Every OpenPGP intent that has no outcome yet, oldest request first.
    pub fn open_openpgp_intents(&self) -> Result<Vec<OpenPgpIntent>, Fault> {
        let sql = "SELECT body FROM openpgp_intent WHERE format = ?1 AND follows IS NULL
                   ORDER BY request";
        let mut statement = self.connection.prepare_cached(sql)?;
        let bodies = statement.query_map([FORMAT], |row| row.get::<_, Vec<u8>>(0))?;
        bodies.map(|body| Ok(OpenPgpIntent(decode(&body?)?))).collect()
    }

    /// Requests that a program of an older schema version left open: what it meant to sign is
    /// nothing that this one may.
    pub fn outdated_openpgp_intents(&self) -> Result<Vec<RequestId>, Fault> {
        let sql = "SELECT request FROM openpgp_intent WHERE format <> ?1 ORDER BY request";
        let mut statement = self.connection.prepare(sql)?;
        let ids = statement.query_map([FORMAT], |row| row.get::<_, [u8; 16]>(0))?;
        ids.map(|id| Ok(RequestId::from_bytes(id?))).collect()
    }

    /// The certificates whose parts are not known: an old program stored them.
    pub fn openpgp_without_parts(&self) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
        let sql = "SELECT seq, certificate FROM openpgp_certification WHERE head = 0 ORDER BY seq";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Every certified user ID, oldest first; of one authority, where it is named.
    pub fn for_each_certification(
        &self,
        authority: Option<OpenPgpAuthorityId>,
        mut visit: impl FnMut(CertificationRow) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        // One that was kept in a later certificate is the same certification.
        let sql = "SELECT a.name, c.policy, c.fingerprint, u.user_id, u.serial, c.at, u.expires,
                          u.revoked_at, u.reason, c.request
                   FROM openpgp_certification c
                   JOIN openpgp_authority a ON a.id = c.authority
                   LEFT JOIN openpgp_user_id u ON u.certification = c.seq
                   WHERE (?1 IS NULL OR c.authority = ?1)
                     AND NOT EXISTS (
                       SELECT 1 FROM openpgp_user_id e JOIN openpgp_certification o
                         ON o.seq = e.certification
                       WHERE o.authority = c.authority AND o.fingerprint = c.fingerprint
                         AND e.serial = u.serial AND o.seq < c.seq)
                   ORDER BY c.seq, u.position";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([authority.map(|id| id.0)])?;
        while let Some(row) = rows.next()? {
            let time = |at: i64| UnixTime(at).to_string();
            let serial: Option<Vec<u8>> = row.get(4)?;
            visit(CertificationRow {
                authority: row.get(0)?,
                policy: row.get(1)?,
                fingerprint: row.get(2)?,
                user_id: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                serial: serial.map(|octets| serial_of(&octets)).transpose()?.map(|s| s.to_string()),
                at: time(row.get(5)?),
                expires: row.get::<_, Option<i64>>(6)?.map(time).unwrap_or_default(),
                revoked_at: row.get::<_, Option<i64>>(7)?.map(time),
                reason: row.get(8)?,
                request: RequestId::from_bytes(row.get(9)?).to_string(),
            })?;
        }
        Ok(())
    }
}

/// The certificate that a request was answered with.
pub(super) fn answered(connection: &Connection, id: RequestId) -> Result<Option<Vec<u8>>, Fault> {
    let own = "SELECT certificate FROM openpgp_certification WHERE request = ?1";
    if let Some(certificate) = one_blob(connection, own, id)? {
        return Ok(Some(certificate));
    }
    let other = "SELECT c.certificate FROM openpgp_answer n
                 JOIN openpgp_certification c ON c.seq = n.certification WHERE n.request = ?1";
    one_blob(connection, other, id)
}

fn decode(body: &[u8]) -> Result<OpenPgpDraft, Fault> {
    // What was vetted is never longer than the request it came in.
    Ok(protocol::codec::decode::<_, { 8 * protocol::message::MESSAGE_MAX }>(body)?)
}

fn serial_of(octets: &[u8]) -> Result<Serial, Fault> {
    Serial::from_magnitude(octets).map_err(|error| damaged("openpgp_user_id", error))
}

fn valid_row(row: &Row<'_>) -> Result<Valid, Fault> {
    let serial: Option<Vec<u8>> = row.get(1)?;
    let certificate: Vec<u8> = row.get(3)?;
    let (head, offset): (usize, usize) = (row.get(4)?, row.get(5)?);
    let (own, ours): (usize, usize) = (row.get(6)?, row.get(7)?);
    let part = |from: usize, length: usize| {
        let part = from.checked_add(length).and_then(|end| certificate.get(from..end));
        let part = part.ok_or_else(|| damaged("openpgp_user_id", "its place is outside"))?;
        Ok::<_, Fault>(part.to_vec())
    };
    Ok(Valid {
        user_id: row.get(0)?,
        serial: serial.map(|octets| serial_of(&octets)).transpose()?,
        expires: UnixTime(row.get(2)?),
        head: part(0, head)?,
        own: part(offset, own)?,
        ours: part(offset.saturating_add(own), ours)?,
    })
}

//------------ Changing ------------------------------------------------------

impl Transaction<'_> {
    /// Adds an OpenPGP authority.
    pub fn add_openpgp_authority(
        &self,
        name: &Name,
        fingerprint: &str,
    ) -> Result<OpenPgpAuthorityId, Fault> {
        let sql = "INSERT INTO openpgp_authority (name, fingerprint) VALUES (?1, ?2)";
        self.inner.execute(sql, params![name.as_str(), fingerprint])?;
        Ok(OpenPgpAuthorityId(self.inner.last_insert_rowid()))
    }

    /// Notes the key of an authority whose row is there already.
    pub fn set_openpgp_fingerprint(
        &self,
        authority: OpenPgpAuthorityId,
        fingerprint: &str,
    ) -> Result<(), Fault> {
        let sql = "UPDATE openpgp_authority SET fingerprint = ?2 WHERE id = ?1";
        self.inner.execute(sql, params![authority.0, fingerprint])?;
        Ok(())
    }

    /// Takes the next serial counter of an OpenPGP authority; it is written with the commit.
    pub fn next_openpgp_serial(&mut self, authority: OpenPgpAuthorityId) -> Result<u64, Fault> {
        let last = match self.openpgp_counters.get(&authority) {
            Some(last) => *last,
            None => {
                let sql = "SELECT serial_counter FROM openpgp_authority WHERE id = ?1";
                self.inner.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?
            }
        };
        // Past 63 bits it is no serial, and past 64 no number.
        let next = last
            .checked_add(1)
            .ok_or_else(|| Fault::Internal("the serial counter is exhausted".into()))?;
        self.openpgp_counters.insert(authority, next);
        Ok(next)
    }

    pub(super) fn write_openpgp_counters(&self) -> Result<(), Fault> {
        let sql = "UPDATE openpgp_authority SET serial_counter = ?2 WHERE id = ?1";
        for (authority, counter) in &self.openpgp_counters {
            self.inner.prepare_cached(sql)?.execute(params![authority.0, counter])?;
        }
        Ok(())
    }

    /// The newest certificate for the same authority, policy, key and user IDs, if all of it is
    /// still valid. The key may have changed since, and the request may want less.
    pub fn certified_before(&self, what: Digest) -> Result<Option<Earlier>, Fault> {
        let sql = "SELECT seq, request, certificate FROM openpgp_certification
                   WHERE what = ?1 AND revoked_at IS NULL AND expires > ?2
                   ORDER BY seq DESC LIMIT 1";
        let mut statement = self.inner.prepare_cached(sql)?;
        let found = statement.query_row(params![what.as_bytes(), self.now.0], |row| {
            let request = RequestId::from_bytes(row.get(1)?);
            let (certificate, user_ids) = (row.get(2)?, Vec::new());
            Ok(Earlier { seq: row.get(0)?, request, certificate, user_ids })
        });
        let Some(mut earlier) = found.optional()? else { return Ok(None) };
        earlier.user_ids = check::parts(&self.inner, earlier.seq)?;
        Ok(Some(earlier))
    }

    /// Answers a request with what was certified for another one.
    pub fn answer_as_before(
        &mut self,
        id: RequestId,
        digest: Digest,
        earlier: &Earlier,
    ) -> Result<(), Fault> {
        self.answer_request(id, digest, &Outcome::Certified)?;
        self.share(id, earlier.seq, earlier.request)
    }

    fn share(&mut self, id: RequestId, seq: i64, earlier: RequestId) -> Result<(), Fault> {
        let sql = "INSERT INTO openpgp_answer (request, certification) VALUES (?1, ?2)";
        self.inner.prepare_cached(sql)?.execute(params![id.as_bytes(), seq])?;
        self.audit(&Event::CertifiedBefore {
            request: id.to_string(),
            earlier: earlier.to_string(),
        })
    }

    /// What is certified at present for the same authority, policy, key and user IDs. It is to be
    /// compared, never signed: this change may be what records it.
    pub fn certified_now(&self, what: Digest) -> Result<Option<OpenPgpDraft>, Fault> {
        let sql = "SELECT body FROM openpgp_intent
                   WHERE what = ?1 AND follows IS NULL AND format = ?2
                   ORDER BY request DESC LIMIT 1";
        let mut statement = self.inner.prepare_cached(sql)?;
        let found = statement
            .query_row(params![what.as_bytes(), FORMAT], |row| row.get::<_, Vec<u8>>(0))
            .optional()?;
        found.map(|body| decode(&body)).transpose()
    }

    /// Lets a request that is open share the outcome of another one.
    pub fn follow_openpgp(&self, id: RequestId, leader: RequestId) -> Result<(), Fault> {
        let sql = "INSERT INTO openpgp_intent (request, body, format, follows)
                   VALUES (?1, x'', ?2, ?3)";
        self.inner.prepare_cached(sql)?.execute(params![
            id.as_bytes(),
            FORMAT,
            leader.as_bytes()
        ])?;
        Ok(())
    }

    /// The user IDs of a key that have certifications which were not taken back and count, the
    /// expired ones too, in the order of the newest. However often a key was certified, there is one
    /// for each user ID, and no certificate is read.
    pub fn standing(
        &self,
        authority: OpenPgpAuthorityId,
        fingerprint: &str,
        counts: impl Fn(StandingRow<'_>) -> bool,
    ) -> Result<Vec<Standing>, Fault> {
        let sql = "SELECT u.user_id, c.policy, u.expires, c.at, c.seq, u.position
                   FROM openpgp_certification c JOIN openpgp_user_id u ON u.certification = c.seq
                   WHERE c.authority = ?1 AND c.fingerprint = ?2 AND u.revoked_at IS NULL
                   ORDER BY c.seq, u.position";
        let mut statement = self.inner.prepare_cached(sql)?;
        let mut rows = statement.query(params![authority.0, fingerprint])?;
        let mut by_user_id: BTreeMap<String, Standing> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
            let expires = UnixTime(row.get(2)?);
            if !counts(StandingRow { policy: text(1)?, expires }) {
                continue;
            }
            let (at, newest) = (UnixTime(row.get(3)?), (row.get(4)?, row.get(5)?));
            let user_id = text(0)?;
            match by_user_id.get_mut(user_id) {
                Some(one) => (one.at, one.newest) = (one.at.max(at), newest),
                None => {
                    let one = Standing { user_id: user_id.to_owned(), at, newest };
                    by_user_id.insert(user_id.to_owned(), one);
                }
            }
        }
        let mut found: Vec<Standing> = by_user_id.into_values().collect();
        found.sort_unstable_by_key(|one| one.newest);
        Ok(found)
    }

    /// The newest certification of a user ID.
    pub fn certification(&self, of: &Standing) -> Result<Valid, Fault> {
        let sql = "SELECT u.user_id, u.serial, u.expires, c.certificate, c.head, u.offset, u.own,
                          u.ours
                   FROM openpgp_certification c JOIN openpgp_user_id u ON u.certification = c.seq
                   WHERE c.seq = ?1 AND u.position = ?2";
        let mut statement = self.inner.prepare_cached(sql)?;
        let mut rows = statement.query(params![of.newest.0, of.newest.1])?;
        let row = rows.next()?.ok_or_else(|| damaged("openpgp_user_id", "a row is gone"))?;
        valid_row(row)
    }

    /// When something of a key was last taken back.
    pub fn last_taken_back(
        &self,
        authority: OpenPgpAuthorityId,
        fingerprint: &str,
    ) -> Result<Option<UnixTime>, Fault> {
        let sql = "SELECT MAX(u.revoked_at) FROM openpgp_certification c
                   JOIN openpgp_user_id u ON u.certification = c.seq
                   WHERE c.authority = ?1 AND c.fingerprint = ?2";
        let mut statement = self.inner.prepare_cached(sql)?;
        let at: Option<i64> =
            statement.query_row(params![authority.0, fingerprint], |row| row.get(0))?;
        Ok(at.map(UnixTime))
    }

    /// Stores what is about to be signed, and at a revocation that it is taken back from now on. It
    /// may be signed once the change is committed.
    pub fn store_openpgp_intent(
        &mut self,
        draft: OpenPgpDraft,
        what: Option<Digest>,
    ) -> Result<(), Fault> {
        let body = protocol::codec::encode(&draft)?;
        let sql = "INSERT INTO openpgp_intent (request, body, format, what)
                   VALUES (?1, ?2, ?3, ?4)";
        self.inner.prepare_cached(sql)?.execute(params![
            draft.request.as_bytes(),
            body,
            FORMAT,
            what.map(|what| *what.as_bytes())
        ])?;
        if let OpenPgpJob::Revoke { reason, user_ids, .. } = &draft.job {
            let user_ids: Vec<&str> = user_ids.iter().map(|taken| &*taken.user_id).collect();
            self.mark_taken_back(&draft, &user_ids, *reason)?;
        }
        self.raise_time_floor(self.now)?;
        self.pending_openpgp.push(OpenPgpIntent(draft));
        Ok(())
    }

    /// Whether this change begins to certify user IDs of this key.
    pub fn begins_to_certify(&self, authority: OpenPgpAuthorityId, fingerprint: &str) -> bool {
        self.pending_openpgp.iter().any(|intent| {
            matches!(intent.job(), OpenPgpJob::Certify { .. })
                && intent.authority() == authority
                && intent.fingerprint() == fingerprint
        })
    }

    /// However often the key was certified, that is SQLite's to walk through: nothing is held here.
    fn mark_taken_back(
        &self,
        draft: &OpenPgpDraft,
        user_ids: &[&str],
        reason: OpenPgpReason,
    ) -> Result<(), Fault> {
        let user_ids = serde_json::to_string(user_ids)
            .map_err(|error| Fault::Internal(format!("user IDs as JSON: {error}")))?;
        let of_whole = "UPDATE openpgp_certification AS c SET revoked_at = ?4
                        WHERE authority = ?1 AND fingerprint = ?2 AND revoked_at IS NULL
                          AND EXISTS (SELECT 1 FROM openpgp_user_id AS u
                                      WHERE u.certification = c.seq AND u.revoked_at IS NULL
                                        AND u.user_id IN (SELECT value FROM json_each(?3)))";
        let values = params![draft.authority.0, &*draft.fingerprint, user_ids, draft.at.0];
        self.inner.prepare_cached(of_whole)?.execute(values)?;
        let of_user_id = "UPDATE openpgp_user_id SET revoked_at = ?4, reason = ?5
                          WHERE revoked_at IS NULL
                            AND certification IN (SELECT seq FROM openpgp_certification
                                                  WHERE authority = ?1 AND fingerprint = ?2)
                            AND user_id IN (SELECT value FROM json_each(?3))";
        let (at, reason) = (draft.at.0, reason.name());
        let values = params![draft.authority.0, &*draft.fingerprint, user_ids, at, reason];
        self.inner.prepare_cached(of_user_id)?.execute(values)?;
        Ok(())
    }

    /// Turns an intent into a certification; says which requests it answers.
    pub fn store_certification(
        &mut self,
        intent: &OpenPgpIntent,
        policy: &Name,
        certified: &Certified,
    ) -> Result<Vec<RequestId>, Fault> {
        let id = intent.request();
        let what = self.close_intent(id)?;
        let expires = certified.user_ids.iter().map(|user_id| user_id.expires.0).min();
        let sql = "INSERT INTO openpgp_certification
                   (request, authority, policy, fingerprint, what, at, expires, head, certificate)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.inner.prepare_cached(sql)?.execute(params![
            id.as_bytes(),
            intent.authority().0,
            policy.as_str(),
            intent.fingerprint(),
            what,
            intent.at().0,
            expires.unwrap_or(0),
            certified.head,
            certified.bytes
        ])?;
        let seq = self.inner.last_insert_rowid();
        self.store_parts(seq, &certified.user_ids)?;
        self.set_outcome(id, &Outcome::Certified)?;
        let serials = certified
            .user_ids
            .iter()
            .map(|user_id| user_id.serial.as_ref().map(ToString::to_string).unwrap_or_default());
        let event = Event::Certified {
            request: id.to_string(),
            authority: self.openpgp_name(intent.authority())?,
            policy: policy.to_string(),
            fingerprint: intent.fingerprint().to_owned(),
            user_ids: certified.user_ids.iter().map(|one| one.user_id.clone()).collect(),
            serials: serials.collect(),
            certificate: Digest::of(&certified.bytes).to_string(),
        };
        self.audit(&event)?;
        let mut answered = vec![id];
        for follower in self.followers(id)? {
            self.close_intent(follower)?;
            self.set_outcome(follower, &Outcome::Certified)?;
            self.share(follower, seq, id)?;
            answered.push(follower);
        }
        Ok(answered)
    }

    fn store_parts(&self, seq: i64, user_ids: &[CertifiedUserId]) -> Result<(), Fault> {
        let sql = "INSERT INTO openpgp_user_id
                   (certification, position, user_id, serial, expires, offset, own, ours)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let mut statement = self.inner.prepare_cached(sql)?;
        for (position, one) in user_ids.iter().enumerate() {
            let serial = one.serial.as_ref().map(Serial::as_octets);
            statement.execute(params![
                seq,
                position,
                one.user_id,
                serial,
                one.expires.0,
                one.offset,
                one.own,
                one.ours
            ])?;
        }
        Ok(())
    }

    /// Notes the parts of a certificate that an old program stored.
    pub fn set_openpgp_parts(
        &self,
        seq: i64,
        head: usize,
        user_ids: &[CertifiedUserId],
    ) -> Result<(), Fault> {
        let expires = user_ids.iter().map(|user_id| user_id.expires.0).min().unwrap_or(0);
        let sql = "UPDATE openpgp_certification SET head = ?2, expires = ?3 WHERE seq = ?1";
        self.inner.execute(sql, params![seq, head, expires])?;
        self.store_parts(seq, user_ids)
    }

    /// Turns an intent into a revocation.
    pub fn store_openpgp_revocation(
        &mut self,
        intent: &OpenPgpIntent,
        reason: OpenPgpReason,
        user_ids: &[TakenBack],
        certificate: &[u8],
    ) -> Result<(), Fault> {
        let id = intent.request();
        self.close_intent(id)?;
        let sql =
            "INSERT INTO openpgp_revocation (request, authority, fingerprint, at, certificate)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.inner.prepare_cached(sql)?.execute(params![
            id.as_bytes(),
            intent.authority().0,
            intent.fingerprint(),
            intent.at().0,
            certificate
        ])?;
        self.set_outcome(id, &Outcome::CertificationRevoked { at: intent.at() })?;
        let event = Event::CertificationRevoked {
            request: id.to_string(),
            authority: self.openpgp_name(intent.authority())?,
            fingerprint: intent.fingerprint().to_owned(),
            user_ids: user_ids.iter().map(|taken| taken.user_id.to_string()).collect(),
            reason: reason.name().to_owned(),
        };
        self.audit(&event)
    }

    /// Gives a request that an older program left open its outcome.
    pub fn set_aside_openpgp_intent(&mut self, id: RequestId, text: &str) -> Result<(), Fault> {
        self.close_intent(id)?;
        self.set_outcome(id, &Outcome::Quarantined { text: text.to_owned() })?;
        self.audit(&Event::Quarantined { request: id.to_string(), text: text.to_owned() })
    }

    fn close_intent(&self, id: RequestId) -> Result<Option<Vec<u8>>, Fault> {
        let sql = "DELETE FROM openpgp_intent WHERE request = ?1 RETURNING what";
        let mut statement = self.inner.prepare_cached(sql)?;
        let what = statement.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        what.ok_or_else(|| Fault::Internal(format!("request {id} was signed twice")))
    }

    fn followers(&self, leader: RequestId) -> Result<Vec<RequestId>, Fault> {
        let sql = "SELECT request FROM openpgp_intent WHERE follows = ?1 ORDER BY request";
        let mut statement = self.inner.prepare_cached(sql)?;
        let ids = statement.query_map([leader.as_bytes()], |row| row.get::<_, [u8; 16]>(0))?;
        ids.map(|id| Ok(RequestId::from_bytes(id?))).collect()
    }

    fn openpgp_name(&self, authority: OpenPgpAuthorityId) -> Result<String, Fault> {
        let sql = "SELECT name FROM openpgp_authority WHERE id = ?1";
        Ok(self.inner.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }
}
